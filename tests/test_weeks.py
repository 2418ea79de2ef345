"""What weeks of `test_model.py` have brought to light, each as short as it can be told."""

from __future__ import annotations

import json
import shutil

import pytest

from pipeline import reconcile
from pipeline.reconcile import calls, move

HOUR = 3600.0
SUBMIT = ("submit", "jobs/shop.yaml")
JOB = "prompt: '[what]'\nitems: rows.csv\nchecks: {decode: false}\n"


def rows(project, text, job=JOB):
    project.write("jobs/shop.yaml", job)
    project.write("jobs/rows.csv", "id,what\n" + text)


def statuses(project):
    return {key: record["status"] for key, record in project.records().items()}


def lose_the_state(project):
    shutil.rmtree(project.outputs / ".pipeline")


def bought(service):
    return [entry["requests"] for entry in service.ledger()]


# --------------------------------------------------------------------------- renamed on its way, and known no more


def test_what_was_renamed_on_its_way_is_found_again_by_the_output_manifest_alone(slow_shop, slow_service):
    rows(slow_shop, "a,a barn\nb,a mill\n")
    assert slow_shop(*SUBMIT).code == 0
    lose_the_state(slow_shop)
    rows(slow_shop, "barn,a barn\nmill,a mill\n")
    assert slow_shop(*SUBMIT).code == 0
    slow_service.advance(21 * HOUR)
    assert slow_shop(*SUBMIT).code == 0
    assert statuses(slow_shop) == {"barn": "done", "mill": "done"}
    assert bought(slow_service) == [2]
    assert slow_shop(*SUBMIT).code == 0


def test_what_was_renamed_on_its_way_and_then_forgotten_is_not_bought_again_by_itself(slow_shop, slow_service):
    rows(slow_shop, "a,a barn\nb,a mill\n")
    assert slow_shop(*SUBMIT).code == 0
    rows(slow_shop, "barn,a barn\nb,a mill\n")
    assert slow_shop(*SUBMIT).code == 0
    lose_the_state(slow_shop)
    slow_service.advance(21 * HOUR)
    assert slow_shop(*SUBMIT).code == 0  # its answer lacks one, and is fetched once more
    assert slow_shop(*SUBMIT).code == 6
    assert bought(slow_service) == [2]
    assert statuses(slow_shop) == {"b": "done", "barn": "held"}
    assert "conflicts/shop" in slow_shop.records()["barn"]["reason"]
    assert [*(slow_shop.outputs / ".pipeline/conflicts/shop").iterdir()]
    assert slow_shop(*SUBMIT).code == 6
    assert slow_shop("retry", "jobs/shop.yaml", "--only", "held", "--wait", "0").code == 4
    assert bought(slow_service) == [2, 1]


# ------------------------------------------------------------------------------------------- a file that went away


def test_an_image_of_before_that_somebody_deleted_is_not_told_of_any_more(shop, service):
    rows(shop, "a,a barn\n")
    assert shop("run", "jobs/shop.yaml", "--poll", "0.1s").code == 0
    rows(shop, "a,LOCAL:BLOCK\n")
    assert shop("run", "jobs/shop.yaml", "--poll", "0.1s").code == 3
    [old] = shop.records()["a"]["files"]
    (shop.outputs / "shop" / old["path"]).unlink()
    assert shop(*SUBMIT).code == 3
    assert shop.records()["a"]["files"] == []
    assert shop("verify").code == 0
    rows(shop, "a,a barn\n")
    assert shop(*SUBMIT).code == 0
    assert (shop.outputs / "shop" / old["path"]).is_file(), "it is written from the kept answer"
    assert bought(service) == [1, 1]


# ------------------------------------------------------------------------------------ answers that somebody deleted


def test_an_answer_that_was_deleted_before_it_was_unpacked_is_fetched_once_more(slow_shop, slow_service, monkeypatch):
    rows(slow_shop, "a,a barn\n")
    assert slow_shop(*SUBMIT).code == 0
    slow_service.advance(21 * HOUR)
    with monkeypatch.context() as killed:  # between two steps
        killed.setattr(reconcile.collect, "unpack_answer", lambda *_: None)
        assert slow_shop(*SUBMIT).code == 0
    shutil.rmtree(slow_shop.outputs / ".pipeline/answers")
    done = slow_shop(*SUBMIT)
    assert done.code == 0, done.err
    assert statuses(slow_shop) == {"a": "done"}
    assert bought(slow_service) == [1]


def test_the_answer_to_a_call_that_was_deleted_before_it_was_taken_in_is_missing(shop, service, monkeypatch):
    rows(shop, "a,a barn\n", JOB + "retry: 0\n")
    with monkeypatch.context() as killed:
        killed.setattr(calls, "_taken", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            shop("proof", "jobs/shop.yaml", "-n", "1", "--keep")
    shutil.rmtree(shop.outputs / ".pipeline/answers")
    done = shop(*SUBMIT)
    assert done.code == 3, done.err
    assert statuses(shop) == {"a": "missing"}
    assert len(service.ledger("generateContent")) == 1
    assert bought(service) == []


# ------------------------------------------------------------------------------------------------- half a rename


@pytest.mark.some(1)
@pytest.mark.parametrize("publish", [("clean", "jobs/shop.yaml", "--yes"), ("collect", "jobs/shop.yaml")])
def test_a_rename_that_was_cut_in_two_leaves_no_key_twice_in_the_output_manifest(shop, service, monkeypatch, publish):
    rows(shop, "a,a barn\nb,a mill\n")
    assert shop("run", "jobs/shop.yaml", "--poll", "0.1s").code == 0
    rows(shop, "b,a barn\n")
    with monkeypatch.context() as killed:
        killed.setattr(move, "_bring", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            shop(*SUBMIT)
    shop(*publish)
    keys = [json.loads(line)["key"] for line in (shop.outputs / "shop/manifest.jsonl").read_text().splitlines()]
    assert keys == sorted(set(keys))
    assert shop(*SUBMIT).code == 0
    assert statuses(shop) == {"b": "done"}
    assert bought(service) == [2]
    assert shop("verify").code == 0


# ---------------------------------------------------------------------------------------------- edited, and renamed


def test_behind_an_edited_image_the_one_that_came_goes_to_the_new_name_for_nothing(shop, service):
    rows(shop, "a,a barn\n")
    assert shop("run", "jobs/shop.yaml", "--poll", "0.1s").code == 0
    image = shop.outputs / "shop" / shop.records()["a"]["files"][0]["path"]
    before = image.read_bytes()
    image.write_bytes(before + b"retouched")
    rows(shop, "b,a barn\n")
    assert shop(*SUBMIT).code == 0
    assert image.read_bytes() == before + b"retouched"
    assert image.with_stem("b").read_bytes() == before
    assert bought(service) == [1]
    assert shop(*SUBMIT).code == 0
    assert statuses(shop) == {"b": "done"}


def test_an_edited_image_still_keeps_its_place_when_what_was_there_is_asked_for_elsewhere(shop, service):
    rows(shop, "a,a barn\nb,a mill\n")
    assert shop("run", "jobs/shop.yaml", "--poll", "0.1s").code == 0
    image = shop.outputs / "shop" / shop.records()["a"]["files"][0]["path"]
    barn, mill = image.read_bytes(), image.with_stem("b").read_bytes()
    image.write_bytes(b"retouched")
    rows(shop, "a,a mill\nb,a barn\n")
    for _ in range(2):
        assert shop(*SUBMIT).code == 6
        assert image.read_bytes() == b"retouched"
        assert image.with_stem("b").read_bytes() == barn
        assert statuses(shop) == {"a": "held", "b": "done"}
    image.unlink()
    assert shop(*SUBMIT).code == 0
    assert image.read_bytes() == mill
    assert bought(service) == [2]


# ------------------------------------------------------------------------------------------ found again, and cut


@pytest.mark.some(1)
@pytest.mark.parametrize("told", [True, False])
def test_the_answer_of_a_batch_that_was_found_again_is_fetched_until_it_is_whole(shop, troubled, told):
    service = troubled("- {on: files.download, do: truncate, part: 0.4, length: none, times: 2}\n")
    rows(shop, "a,a barn\n")
    assert shop(*SUBMIT).code == 0
    lose_the_state(shop)
    if not told:
        shutil.rmtree(shop.outputs / "shop")
    assert shop("run", "jobs/shop.yaml", "--poll", "0.1s", "--wait", "20s").code == 0
    assert statuses(shop) == {"a": "done"}
    assert bought(service) == [1]


# ---------------------------------------------------------------------------------- two answers, and nobody asks


def manifest_keys(project):
    return [json.loads(line)["key"] for line in (project.outputs / "shop/manifest.jsonl").read_text().splitlines()]


def test_a_conversation_that_was_changed_and_then_left_out_has_each_turn_once_in_the_output_manifest(shop, service):
    turns = "turns: ['[what]', at night]\nitems: rows.csv\nchecks: {decode: false}\n"
    run = ("run", "jobs/shop.yaml", "--poll", "0.1s", "--yes")
    for text in ("a,a barn\nb,a mill\n", "a,a shed\nb,a mill\n", "b,a mill\n"):
        rows(shop, text, turns)
        assert shop(*run).code == 0
        assert manifest_keys(shop) == ["a/t1", "a/t2", "b/t1", "b/t2"]
    assert shop("verify").code == 0


def test_what_was_overtaken_on_its_way_to_another_working_copy_is_retired_and_comes_back(slow_shop, slow_service):
    rows(slow_shop, "a,a barn\n")
    assert slow_shop(*SUBMIT).code == 0
    lose_the_state(slow_shop)
    rows(slow_shop, "a,a mill\n")
    for _ in range(2):
        slow_service.advance(21 * HOUR)
        assert slow_shop(*SUBMIT).code == 0
    assert bought(slow_service) == [1, 1]
    assert [*(slow_shop.outputs / ".pipeline/retired/shop").rglob("*.jpg")]
    shutil.rmtree(slow_shop.outputs / ".pipeline/answers")
    rows(slow_shop, "a,a barn\n")
    slow_service.advance(21 * HOUR)
    assert slow_shop(*SUBMIT).code == 0
    assert statuses(slow_shop) == {"a": "done"}
    assert bought(slow_service) == [1, 1]
    rows(slow_shop, "b,a mill\n")
    assert slow_shop(*SUBMIT).code == 0
    assert manifest_keys(slow_shop) == ["a", "b"]
    assert bought(slow_service) == [1, 1]


def test_an_image_that_somebody_deleted_is_not_told_of_when_no_other_comes_for_it(shop, service):
    rows(shop, "a,a barn\n")
    assert shop("run", "jobs/shop.yaml", "--poll", "0.1s").code == 0
    [old] = shop.records()["a"]["files"]
    (shop.outputs / "shop" / old["path"]).unlink()
    shutil.rmtree(shop.outputs / ".pipeline/answers")
    service.delete(shop.records()["a"]["batch"])
    assert shop(*SUBMIT).code == 0
    assert bought(service) == [1, 1]
    assert (statuses(shop), shop.records()["a"]["files"]) == ({"a": "pending"}, [])
    assert shop("verify").code == 0
    assert shop(*SUBMIT).code == 0
    assert (statuses(shop), shop.records()["a"]["files"]) == ({"a": "done"}, [old])


def test_a_missing_image_is_made_of_whichever_kept_answer_to_its_ask_there_is(shop, service):
    rows(shop, "a,a barn\nb,a barn\n")
    run = ("run", "jobs/shop.yaml", "--poll", "0.1s", "--yes")
    assert shop(*run).code == 0
    lose_the_state(shop)
    assert shop(*run, "--force", "--select", "id:b").code == 0
    (shop.outputs / "shop/a.jpg").unlink()
    assert shop(*run).code == 0
    assert shop("verify").code == 0, "what plan says is written from a kept answer is written"
    assert (shop.outputs / "shop/a.jpg").is_file()
    assert bought(service) == [2, 1]
    assert "2 done" in shop("plan").out
