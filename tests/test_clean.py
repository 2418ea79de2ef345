"""Clearing away: what nobody asks for leaves the tree, what is old is deleted, and nothing that costs money is lost."""

from __future__ import annotations

import hashlib
import os

import pytest
from conftest import KEY, PRODUCTS
from PIL import Image
from proxy import proxying

from pipeline import journal
from pipeline.durable import Folder, locked
from pipeline.gemini.api import Api, Secret

RUN = ("run", "jobs/shop.yaml", "--poll", "0.1s")
FEWER = "id,product\nmug,blue mug\nbowl,sand bowl\n"
NOW = ("--older-than", "0")


def listed(ended):
    """What a clean listed: verb, last part of the path, by path."""
    rows = [line.split("\t") for line in ended.out.splitlines()]
    return {row[1]: row[0] for row in rows}


def state_files(shop):
    top = shop.outputs / ".pipeline"
    names = {path.relative_to(top).as_posix() for path in top.rglob("*") if path.is_file()}
    return {name for name in names if not name.startswith(("journal.db", "locks/", "workspace.json"))}


@pytest.fixture
def shrunk(shop):
    """A shop that was rendered, and then lost its vase."""
    assert shop(*RUN).code == 0
    shop.write("jobs/products.csv", FEWER)
    return shop


def test_without_yes_it_lists_and_changes_nothing(shrunk, service):
    before, state = shrunk.tree(), state_files(shrunk)
    ended = shrunk("clean", *NOW)
    assert ended.code == 0, ended.err
    assert {path: verb for path, verb in listed(ended).items() if "/shop/vase" in path} == {
        "outputs/shop/vase-1x1.jpg": "retire",
        "outputs/shop/vase-4x5.jpg": "retire",
    }
    assert any(path.startswith("batches/") for path in listed(ended))
    assert "--yes" in ended.err
    assert (shrunk.tree(), state_files(shrunk)) == (before, state)
    assert service.ledger("batches.delete") == []


def test_what_nobody_asks_for_leaves_tree_and_manifest_and_comes_back_for_nothing(shrunk, service):
    vase = shrunk.records()["vase/1:1"]
    assert shrunk("clean", "--yes").code == 0
    assert set(shrunk.records()) == {"mug/1:1", "mug/4:5", "bowl/1:1", "bowl/4:5"}
    assert not any("vase" in name for name in shrunk.tree())
    assert shrunk("verify").code == 0
    again = shrunk("clean")
    assert (again.out, again.code) == ("", 0)
    assert "nothing to clean" in again.err
    shrunk.write("jobs/products.csv", PRODUCTS)
    assert shrunk(*RUN).code == 0
    assert shrunk.records()["vase/1:1"] == vase
    assert len(service.ledger()) == 1, "nothing was bought again"


def test_what_somebody_edited_is_left_and_named(shrunk):
    (shrunk.outputs / "shop/vase-1x1.jpg").write_bytes(b"retouched")
    ended = shrunk("clean", "--yes")
    assert listed(ended)["outputs/shop/vase-1x1.jpg"] == "leave"
    assert "edited by somebody" in ended.out
    assert shrunk.tree()["vase-1x1.jpg"][0] == b"retouched"
    assert "vase/1:1" in shrunk.records()
    assert "vase/4:5" not in shrunk.records()


def test_a_catalog_that_is_broken_is_2_before_anything_is_touched(shrunk, service):
    shrunk.write("jobs/products.csv", 'id,product\nmug,"blue\n')
    before, state = shrunk.tree(), state_files(shrunk)
    ended = shrunk("clean", "--yes", *NOW)
    assert ended.code == 2
    assert (shrunk.tree(), state_files(shrunk)) == (before, state)
    assert service.ledger("batches.delete") == []


def test_an_image_that_was_drawn_long_ago_is_not_deleted_on_the_day_it_is_retired(shrunk):
    """A rename keeps the time of the last change, and that is when it was drawn."""
    path = shrunk.outputs / "shop/vase-1x1.jpg"
    os.utime(path, (0, 0))
    assert shrunk("clean", "--yes").code == 0
    assert not path.exists()
    assert shrunk("clean", "--yes").code == 0
    assert sum(name.startswith("retired/") for name in state_files(shrunk)) == 2


def test_what_is_old_is_deleted_and_an_image_that_is_missing_then_is_bought_again_and_not_waited_for(shrunk, service):
    shrunk("clean", "--yes")
    assert any(name.startswith("retired/") for name in state_files(shrunk))
    assert shrunk("clean", "--yes", *NOW).code == 0
    assert state_files(shrunk) == {".gitignore", "runs/shop/last.json"}
    assert shrunk(*RUN).code == 0
    assert len(service.ledger()) == 1
    (shrunk.outputs / "shop/mug-1x1.jpg").unlink()
    assert shrunk("plan", "--json").json["jobs"][0]["counts"]["new"] == 1
    assert shrunk(*RUN).code == 0
    assert len(service.ledger()) == 2


def test_a_kept_answer_stays_while_an_image_is_missing_that_can_be_written_from_it(shrunk, service):
    (shrunk.outputs / "shop/mug-1x1.jpg").unlink()
    ended = shrunk("clean", "--yes", *NOW)
    (answers,) = (path for path in listed(ended) if "/answers/" in path)
    assert listed(ended)[answers] == "leave"
    assert shrunk(*RUN).code == 0
    assert "mug-1x1.jpg" in shrunk.tree()
    assert len(service.ledger()) == 1


def test_what_a_row_that_came_back_will_want_stays_in_retired(shrunk, service):
    shrunk("clean", "--yes")
    shrunk.write("jobs/products.csv", PRODUCTS)
    ended = shrunk("clean", "--yes", *NOW)
    assert [verb for path, verb in listed(ended).items() if "/retired/" in path] == ["leave", "leave"]
    assert shrunk(*RUN).code == 0
    assert len(service.ledger()) == 1


def test_at_the_service_goes_what_is_unpacked_and_nothing_of_anybody_else(shop, service, tmp_path, monkeypatch):
    assert shop(*RUN).code == 0
    foreign = tmp_path / "foreign.txt"
    foreign.write_text("somebody's")
    api = Api(Secret(KEY), service.url)
    try:
        for name in ("holiday", "pl-of-another-machine", "ref-of-another-machine"):
            api.upload(foreign, name, "text/plain")
        assert shop("clean", "jobs/shop.yaml", "--yes").code == 0
        assert len([*api.files()]) == 3, "another machine may be about to use what is young"
        assert list(api.batches()) == []
        with proxying(service.url) as (url, proxy), monkeypatch.context() as patch:
            patch.setenv("GOOGLE_GEMINI_BASE_URL", url)
            proxy.ahead_s = 30 * 3600.0  # what is young or old is told by the service's clock
            assert shop("clean", "jobs/shop.yaml", "--yes").code == 0
        assert [file.name for file in api.files()] == ["files/holiday"]
    finally:
        api.close()
    assert shop(*RUN).code == 0
    assert len(service.ledger()) == 1


REFERENCES = """\
prompt: The [product] in this room
items: products.csv
images: [room.png]
"""


@pytest.fixture
def furnished(slow_shop):
    """Products in one room, which goes to the service once, and a batch that takes a day."""
    slow_shop.folder.joinpath("jobs").mkdir(exist_ok=True)
    Image.new("RGB", (64, 64), "teal").save(slow_shop.folder / "jobs/room.png")
    slow_shop.write("jobs/shop.yaml", REFERENCES)
    assert slow_shop("submit", "jobs/shop.yaml").code == 0
    return slow_shop


def remote_files(service):
    return {file["name"] for file in service._call("/v1beta/files?pageSize=100").get("files", ())}


def test_what_a_batch_at_work_needs_stays_at_the_service_until_it_is_home(furnished, slow_service):
    before = remote_files(slow_service)
    assert sorted(name[:9] for name in before) == ["files/pl-", "files/ref"]
    ended = furnished("clean", "--yes")
    assert ended.code == 0, ended.err
    assert remote_files(slow_service) == before
    assert "a batch needs it" in ended.out
    slow_service.advance(21 * 3600)
    assert furnished("run", "jobs/shop.yaml", "--poll", "0.1s").code == 0
    assert furnished("clean", "--yes").code == 0
    assert remote_files(slow_service) == set()
    assert furnished("status", "--json").json["remote_bytes"] == 0
    furnished.write("jobs/products.csv", PRODUCTS + "jug,tin jug\npot,tea pot\n")
    assert furnished("submit", "jobs/shop.yaml").code == 0
    assert len(remote_files(slow_service)) == 2, "and is sent once more when it is needed again"


def test_what_a_batch_of_another_outputs_folder_may_need_stays(furnished, slow_service):
    assert furnished("--outputs", "other", "submit", "jobs/shop.yaml").code == 0
    names = remote_files(slow_service)
    furnished.write("jobs/shop.yaml", "prompt: Something else\n")
    ended = furnished("--outputs", "third", "clean", "--yes")
    assert ended.code == 0, ended.err
    assert remote_files(slow_service) == names
    assert set(listed(ended).values()) == {"leave"}


def test_what_a_batch_of_another_outputs_folder_shares_with_ours_stays(furnished, slow_service):
    assert furnished("--outputs", "other", "submit", "jobs/shop.yaml").code == 0
    assert furnished("cancel", "jobs/shop.yaml", "--yes").code in {0, 3}
    assert furnished("clean", "--yes").code == 0
    assert sorted(name[:9] for name in remote_files(slow_service)) == ["files/pl-", "files/ref"]


def test_what_a_batch_needs_that_was_believed_lost_stays(furnished, slow_service):
    names = remote_files(slow_service)
    with journal.opened(furnished.outputs / ".pipeline", outputs=furnished.outputs) as opened, opened.transaction():
        (batch,) = opened.batches.all_of("shop")
        opened.batches.change(batch, state="lost", remote=None)
    assert furnished("clean", "--yes").code == 0
    assert remote_files(slow_service) == names


def test_a_job_at_work_is_left_alone_with_75(shrunk):
    state = Folder(shrunk.outputs / ".pipeline")
    before = shrunk.tree()
    with locked(state, "locks/shop.lock", what="the job"):
        assert shrunk("clean").code == 0, "looking is always possible"
        assert shrunk("clean", "--yes").code == 75
    assert shrunk.tree() == before


def test_without_a_key_what_is_here_is_cleared_and_the_service_is_not_asked(shrunk, service, monkeypatch):
    monkeypatch.delenv("GEMINI_API_KEY")
    ended = shrunk("clean", "--yes")
    assert ended.code == 0
    assert "there is no key" in ended.err
    assert "vase/1:1" not in shrunk.records()
    assert service.ledger("batches.delete") == []


def test_a_service_that_is_not_there_keeps_nothing_here_from_being_cleared(shrunk, monkeypatch):
    monkeypatch.setenv("GOOGLE_GEMINI_BASE_URL", "http://127.0.0.1:1")
    ended = shrunk("clean", "--yes")
    assert ended.code == 4
    assert "vase/1:1" not in shrunk.records()


def test_what_somebody_put_beside_our_own_files_stays(shrunk, tmp_path):
    shrunk("clean", "--yes")
    top = shrunk.outputs / ".pipeline"
    edited = next(path for path in (top / "retired/shop").rglob("*.jpg"))
    edited.write_bytes(b"retouched")
    notes = [
        shrunk.write(f"outputs/.pipeline/{kind}/shop/notes.txt", "mine") for kind in ("retired", "runs", "conflicts")
    ]
    outside = tmp_path / "outside"
    (outside / "empty").mkdir(parents=True)
    (top / "retired/shop/elsewhere").symlink_to(outside)
    ended = shrunk("clean", "--yes", *NOW)
    assert ended.code == 0, ended.err
    assert edited.read_bytes() == b"retouched"
    assert all(path.exists() for path in notes)
    assert (outside / "empty").is_dir()
    assert ended.out.count("nothing of ours") == 3
    assert ended.out.count("edited by somebody") == 1


@pytest.mark.parametrize("place", [".pipeline/retired/shop", "shop"])
def test_a_link_in_the_place_of_a_folder_of_ours_is_7_and_nothing_behind_it_is_touched(shop, tmp_path, place):
    assert shop(*RUN).code == 0
    outside = tmp_path / "outside"
    (outside / "empty").mkdir(parents=True)
    (outside / ".mine.0123456789abcdef.part").write_bytes(b"mine")
    folder = shop.outputs / place
    if folder.exists():
        folder.rename(tmp_path / "before")
    folder.parent.mkdir(exist_ok=True)
    folder.symlink_to(outside)
    for words in (("clean", "--yes", *NOW), RUN, ("collect", "jobs/shop.yaml")):
        ended = shop(*words)
        assert (ended.code, "symbolic link" in ended.err) == (7, True), ended.err
    assert sorted(path.name for path in outside.iterdir()) == [".mine.0123456789abcdef.part", "empty"]


def test_a_batch_stays_at_the_service_while_one_of_its_images_is_missing_here(shrunk, service):
    (shrunk.outputs / "shop/mug-1x1.jpg").unlink()
    for path in (shrunk.outputs / ".pipeline/answers").rglob("*.jsonl"):
        path.unlink()
    assert shrunk("clean", "--yes", *NOW).code == 0
    assert service.ledger("batches.delete") == []
    assert shrunk(*RUN).code == 0
    assert len(service.ledger()) == 1
    assert shrunk("clean", "--yes", *NOW).code == 0
    assert len(service.ledger("batches.delete")) == 1


@pytest.mark.parametrize("point", ["move:after:1", "commit:before:2", "remove:after:2", "replace:after:1"])
@pytest.mark.some(1)
def test_a_clean_that_was_killed_is_made_up_for_by_the_next(shrunk, service, point):
    assert shrunk.forked("clean", "--yes", *NOW, at=point) == -9
    assert shrunk("clean", "--yes", *NOW).code == 0
    shrunk.write("jobs/products.csv", PRODUCTS)
    digests = {record["files"][0]["sha256"] for record in shrunk.records().values()}
    assert digests == {hashlib.sha256(data).hexdigest() for name, (data, _) in shrunk.tree().items() if "jpg" in name}
    assert shrunk("verify").code == 0
