"""Reference images of which only the Git LFS pointer is here: as good as the image, until it must be sent."""

from __future__ import annotations

import hashlib

import pytest
from conftest import SHOP
from PIL import Image

RUN = ("run", "jobs/shop.yaml", "--poll", "0.1s")
JOB = "items: ../photos/*.jpg\nprompt: The same in winter.\n"


def pointer(path):
    """Put the pointer in the place of a file, as a clone without the files has it."""
    data = path.read_bytes()
    sha256 = hashlib.sha256(data).hexdigest()
    path.write_text(f"version https://git-lfs.github.com/spec/v1\noid sha256:{sha256}\nsize {len(data)}\n")
    return data


@pytest.fixture
def clone(shop):
    """Two photos, rendered; then a clone without the files that Git LFS has. The photos are in `photos`."""
    shop.photos = {}
    for name in ("barn.jpg", "mill.jpg"):
        path = shop.write(f"photos/{name}", b"")
        Image.new("RGB", (64, 48), (len(name), 90, ord(name[0]))).save(path)
    shop.write("jobs/shop.yaml", JOB)
    assert shop(*RUN).code == 0
    for path in (*(shop.folder / "photos").iterdir(), *(shop.outputs / "shop").glob("*.jpg")):
        shop.photos[path] = pointer(path)
    return shop


def test_everything_is_done_and_nothing_is_sent(clone, service):
    before = service._call("/_local/ledger"), clone.tree()
    counts = clone("plan", "--json").json["jobs"][0]["counts"]
    assert counts["done"] == 2
    assert not any(count for state, count in counts.items() if state != "done")
    assert clone(*RUN).code == 0
    assert clone("verify").code == 0
    assert (service._call("/_local/ledger"), clone.tree()) == before


def test_validate_warns_once(clone):
    ended = clone("validate")
    assert ended.code == 0
    assert ended.err.count("warning:") == 1
    said = "warning: '../photos/barn.jpg' is a Git LFS pointer, not the image, and so is another one"
    assert said in ended.err
    assert "run git lfs pull" in ended.err
    assert clone("validate", "--strict").code == 2


@pytest.mark.parametrize("words", [RUN, ("submit", "jobs/shop.yaml"), ("compile", "jobs/shop.yaml")])
@pytest.mark.some(1)
def test_one_that_must_be_sent_is_asked_for_before_anything_is(clone, service, words):
    clone.write("jobs/shop.yaml", JOB.replace("winter", "spring"))
    before = service._call("/_local/ledger")
    ended = clone(*words)
    assert ended.code == 2
    for name in ("barn", "mill"):
        assert f"error: '../photos/{name}.jpg' is a Git LFS pointer, not the image, and '{name}' is to be" in ended.err
    assert "git lfs pull" in ended.err
    assert service._call("/_local/ledger") == before
    assert not list((clone.outputs / ".pipeline").rglob("requests-*.jsonl"))
    quiet = clone("-q", *words)
    assert quiet.err.count("\n") == 1
    assert "git lfs pull" in quiet.err
    for path, data in clone.photos.items():  # git lfs pull
        path.write_bytes(data)
    assert clone(*words).code == 0


def test_only_those_that_are_to_be_sent_are_asked_for(clone):
    clone.write("jobs/shop.yaml", f"{JOB}overrides: [{{when: {{id: mill}}, set: {{size: 2K}}}}]\n")
    ended = clone("submit", "jobs/shop.yaml")
    assert ended.code == 2
    assert "'mill' is to be sent with it" in ended.err
    assert "'barn' is to be sent with it" not in ended.err
    path = clone.folder / "photos/mill.jpg"
    path.write_bytes(clone.photos[path])
    assert clone("submit", "jobs/shop.yaml").code == 0


def test_a_reference_of_all_rows_is_told_of_where_it_is_written(clone):
    clone.write("jobs/shop.yaml", f"{SHOP}images: [../photos/barn.jpg]\n")
    ended = clone("validate")
    assert ended.code == 0
    assert "jobs/shop.yaml:5:10: warning: '../photos/barn.jpg' is a Git LFS pointer" in ended.err
