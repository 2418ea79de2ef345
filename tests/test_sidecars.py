"""Sidecars: the record of each result beside it, right after every run, and gone with its image."""

from __future__ import annotations

import json
import shutil

import pytest
from conftest import PRODUCTS, SHOP

RUN = ("run", "jobs/shop.yaml", "--poll", "0.1s")
WITH = SHOP + "output: {sidecar: true}\n"


@pytest.fixture
def done(shop):
    """The shop, rendered, with sidecars."""
    shop.write("jobs/shop.yaml", WITH)
    assert shop(*RUN).code == 0
    return shop


def sidecars(project):
    return {path: entry[0].decode() for path, entry in project.tree().items() if path.endswith(".json")}


def expected(project):
    """Each line of the output manifest that has a file, under the name of its first file."""
    lines = (project.outputs / "shop/manifest.jsonl").read_text().splitlines(keepends=True)
    told = [(json.loads(line)["files"], line) for line in lines]
    return {f"{files[0]['path'].partition('.')[0]}.json": line for files, line in told if files}


def test_each_result_has_its_record_beside_it(done):
    assert len(sidecars(done)) == 6
    assert sidecars(done) == expected(done)
    assert done("verify").code == 0


def test_an_idle_run_changes_no_byte_of_them(done):
    before = done.tree()
    assert done(*RUN).code == 0
    assert done.tree() == before


def test_without_the_setting_there_are_none_and_old_ones_go(done):
    done.write("jobs/shop.yaml", SHOP)
    assert done(*RUN).code == 0
    assert sidecars(done) == {}
    assert done("verify").code == 0
    done.write("jobs/shop.yaml", WITH)
    assert done(*RUN).code == 0
    assert sidecars(done) == expected(done)


def test_only_what_changed_is_written_again(done):
    before = done.tree()
    done.write("jobs/products.csv", PRODUCTS.replace("sand bowl", "green bowl"))
    assert done(*RUN).code == 0
    assert sidecars(done) == expected(done)
    changed = {path for path, entry in done.tree().items() if entry != before.get(path) and path.endswith(".json")}
    assert changed == {"bowl-1x1.json", "bowl-4x5.json"}


def test_they_follow_their_images(done):
    done.write("jobs/products.csv", PRODUCTS.replace("bowl,", "dish,"))
    assert done(*RUN).code == 0
    assert sidecars(done) == expected(done)
    assert "dish-1x1.json" in sidecars(done)
    done.write("jobs/shop.yaml", SHOP + 'output: {sidecar: true, path: "[aspect]/[id]"}\n')
    assert done(*RUN).code == 0
    assert sidecars(done) == expected(done)
    assert "1x1/dish.json" in sidecars(done)


def test_none_stays_where_its_image_left(done, service):
    (done.outputs / "shop/mug-1x1.jpg").unlink()
    shutil.rmtree(done.outputs / ".pipeline/answers")
    done.write("jobs/products.csv", PRODUCTS.replace("blue mug", "LOCAL:ERROR mug"))
    done.write("jobs/shop.yaml", WITH + "retry: 0\n")
    assert done(*RUN).code == 3
    assert sidecars(done) == expected(done)
    assert done("verify", "--json").json["jobs"][0]["stray"] == []


def test_one_that_is_missing_is_no_fault_and_is_written_again(done):
    before = done.tree()
    (done.outputs / "shop/mug-1x1.json").unlink()
    assert done("verify").code == 0
    assert done(*RUN).code == 0
    assert {path: entry[0] for path, entry in done.tree().items()} == {path: entry[0] for path, entry in before.items()}


@pytest.mark.some(1)
@pytest.mark.parametrize("journal", ["kept", "lost"])
def test_one_that_was_edited_is_said_and_kept_apart_and_written_anew(done, journal):
    path = done.outputs / "shop/mug-1x1.json"
    mine = json.dumps({**json.loads(path.read_bytes()), "text": "mine"}, indent=1).encode()
    path.write_bytes(mine)
    if journal == "lost":
        shutil.rmtree(done.outputs / ".pipeline")
    assert done("verify", "--json").json["jobs"][0]["edited"] == ["mug-1x1.json"]
    assert done(*RUN).code == 0
    assert sidecars(done) == expected(done)
    assert [kept.read_bytes() for kept in (done.outputs / ".pipeline/quarantine/shop").iterdir()] == [mine]


@pytest.mark.parametrize(
    "content",
    [b'{"settings": "of another tool"}', b'{"key": "other", "fingerprint": ""}', b"not JSON", b"", b"[" * 100_000],
    ids=["JSON", "another record", "text", "empty", "deep"],
)
@pytest.mark.some(1)
def test_a_file_of_another_is_never_touched(shop, content):
    mine = shop.write("outputs/shop/mug-1x1.json", content)
    shop.write("jobs/shop.yaml", WITH)
    assert shop(*RUN).code == 0
    assert mine.read_bytes() == content
    assert len(sidecars(shop)) == 6
    assert shop("verify", "--json").json["jobs"][0]["stray"] == ["mug-1x1.json"]
    shop.write("jobs/shop.yaml", SHOP)
    assert shop(*RUN).code == 0
    assert sidecars(shop) == {"mug-1x1.json": content.decode()}


@pytest.mark.some(1)
@pytest.mark.parametrize("kind", ["link", "folder"])
def test_a_link_or_a_folder_in_its_place_is_left_alone(shop, kind):
    path = shop.write("outputs/shop/kept.txt", b"mine").with_name("mug-1x1.json")
    path.symlink_to("kept.txt") if kind == "link" else path.mkdir()
    shop.write("jobs/shop.yaml", WITH)
    assert shop(*RUN).code == 0
    assert (path.is_symlink(), path.is_dir()) == (kind == "link", kind == "folder")
    assert (shop.outputs / "shop/kept.txt").read_bytes() == b"mine"


def test_a_fresh_clone_knows_them_for_its_own(done):
    before = done.tree()
    shutil.rmtree(done.outputs / ".pipeline")
    assert done(*RUN).code == 0
    assert done.tree() == before
    shutil.rmtree(done.outputs / ".pipeline")
    done.write("jobs/shop.yaml", SHOP)
    assert done(*RUN).code == 0
    assert sidecars(done) == {}


def test_a_row_that_left_keeps_its_own(done):
    done.write("jobs/products.csv", "id,product\nmug,blue mug\nvase,glass vase\n")
    before = done.tree()
    assert done(*RUN).code == 0
    assert done.tree() == before


def test_one_of_several_files_lies_beside_the_result(shop):
    shop.write(
        "jobs/shop.yaml", "prompt: A mug in steps\nresponse: [text, image]\nthoughts: true\noutput: {sidecar: true}\n"
    )
    assert shop(*RUN).code == 0
    assert list(sidecars(shop)) == ["shop.json"]
    assert sidecars(shop) == expected(shop)
