"""Nothing but a changed ask buys an image again: what each change of a project costs, counted at the service."""

from __future__ import annotations

import json
import shutil

import pytest
from conforming import conform
from conftest import PRODUCTS, SHOP
from PIL import Image

from pipeline.record import differences

RUN = ("run", "jobs/shop.yaml", "--poll", "0.1s")


@pytest.fixture
def done(shop):
    """The shop, rendered."""
    assert shop(*RUN).code == 0
    return shop


def states(project):
    plan = project("plan", "jobs/shop.yaml", "--json").json["jobs"][0]
    return {item["key"]: (item["state"], item["why"]) for item in plan["items"]}, plan


def bought(service):
    return [entry["requests"] for entry in service.ledger()]


def test_one_changed_row_renders_its_own_images_and_plan_says_why(done, service):
    done.write("jobs/products.csv", PRODUCTS.replace("sand bowl", "green bowl"))
    before = done.tree()
    assert states(done)[0] == {"bowl/1:1": ("changed", "prompt"), "bowl/4:5": ("changed", "prompt")}
    assert done(*RUN).code == 0
    assert bought(service) == [6, 2]
    after = done.tree()
    changed = {path for path in after if after[path] != before.get(path)}
    assert changed == {"bowl-1x1.jpg", "bowl-4x5.jpg", "manifest.jsonl", "manifest.csv"}
    retired = list((done.outputs / ".pipeline/retired/shop").rglob("*.jpg"))
    assert {path.read_bytes() for path in retired} == {before["bowl-1x1.jpg"][0], before["bowl-4x5.jpg"][0]}


def test_going_back_to_an_earlier_ask_brings_its_image_back_for_nothing(done, service):
    first = {path: entry[0] for path, entry in done.tree().items() if path.endswith(".jpg")}
    done.write("jobs/products.csv", PRODUCTS.replace("sand bowl", "green bowl"))
    done(*RUN)
    done.write("jobs/products.csv", PRODUCTS)
    told, plan = states(done)
    assert {state for state, _why in told.values()} == {"moved"}
    assert plan["requests"] == 0
    assert done(*RUN).code == 0
    assert {path: entry[0] for path, entry in done.tree().items() if path.endswith(".jpg")} == first
    assert bought(service) == [6, 2]


def test_a_changed_prompt_renders_everything_and_a_changed_setting_says_which(done, service):
    done.write("jobs/shop.yaml", SHOP + "size: 2K\n")
    told, _plan = states(done)
    assert set(told.values()) == {("changed", "size 1K → 2K")}
    assert len(told) == 6


def test_a_written_default_changes_nothing(done, service):
    done.write("jobs/shop.yaml", "model: flash\nsize: 1K\nretry: 1\ndescription: the same\n" + SHOP)
    assert states(done)[0] == {}
    done(*RUN)
    assert bought(service) == [6]


def test_a_renamed_item_moves_its_files(done, service):
    bowl = done.tree()["bowl-1x1.jpg"][0]
    done.write("jobs/products.csv", PRODUCTS.replace("bowl,", "dish,"))
    assert states(done)[0]["dish/1:1"] == ("moved", "from bowl/1:1")
    assert done(*RUN).code == 0
    tree = done.tree()
    assert tree["dish-1x1.jpg"][0] == bowl
    assert "bowl-1x1.jpg" not in tree
    assert set(done.records()) == {f"{name}/{shape}" for name in ("mug", "dish", "vase") for shape in ("1:1", "4:5")}
    assert bought(service) == [6]


def test_two_items_that_swap_their_names_swap_their_files(done, service):
    tree = done.tree()
    done.write("jobs/products.csv", "id,product\nmug,sand bowl\nbowl,blue mug\nvase,glass vase\n")
    assert done(*RUN).code == 0
    swapped = done.tree()
    assert swapped["mug-1x1.jpg"][0] == tree["bowl-1x1.jpg"][0]
    assert swapped["bowl-1x1.jpg"][0] == tree["mug-1x1.jpg"][0]
    assert bought(service) == [6]
    assert done("verify").code == 0


def test_another_output_path_moves_every_file(done, service):
    done.write("jobs/shop.yaml", SHOP + 'output: {path: "[aspect]/[id]"}\n')
    assert done(*RUN).code == 0
    assert {path for path in done.tree() if path.endswith(".jpg")} == {
        f"{shape}/{name}.jpg" for shape in ("1x1", "4x5") for name in ("mug", "bowl", "vase")
    }
    assert bought(service) == [6]


def test_more_samples_buy_only_the_new_ones(done, service):
    done.write("jobs/shop.yaml", SHOP + "samples: 2\n")
    assert done(*RUN).code == 0
    assert bought(service) == [6, 6]
    assert len(done.records()) == 12
    assert len({record["files"][0]["sha256"] for record in done.records().values()}) == 12


def test_a_retouched_file_is_reported_never_overwritten_never_bought(done, service):
    path = done.outputs / "shop/mug-1x1.jpg"
    Image.new("RGB", (1024, 1024), "red").save(path)
    retouched = path.read_bytes()
    assert states(done)[0] == {"mug/1:1": ("edited", "its file was edited: it stays as it is")}
    assert done(*RUN).code == 0
    done.write("jobs/shop.yaml", SHOP.replace("white", "black"))
    assert done(*RUN).code == 0
    assert path.read_bytes() == retouched
    assert bought(service) == [6, 5]
    verified = done("verify", "--json")
    assert verified.code == 3
    assert verified.json["jobs"][0]["edited"] == ["mug-1x1.jpg"]


def test_a_missing_file_is_written_again_from_the_kept_answer(done, service):
    before = done.tree()
    (done.outputs / "shop/mug-1x1.jpg").unlink()
    assert done(*RUN).code == 0
    assert done.tree()["mug-1x1.jpg"][0] == before["mug-1x1.jpg"][0]
    assert bought(service) == [6]


def test_a_missing_file_without_a_kept_answer_comes_from_the_service_for_nothing(done, service):
    before = done.tree()
    (done.outputs / "shop/mug-1x1.jpg").unlink()
    shutil.rmtree(done.outputs / ".pipeline/answers")
    ended = done(*RUN)
    assert ended.code == 0
    assert "fetched once more, for 1 whose files are missing here" in ended.err
    assert done.tree()["mug-1x1.jpg"][0] == before["mug-1x1.jpg"][0]
    assert bought(service) == [6]


def test_a_missing_file_that_nobody_has_any_more_is_new(done, service):
    (done.outputs / "shop/mug-1x1.jpg").unlink()
    service.delete(service.ledger()[0]["name"])
    shutil.rmtree(done.outputs / ".pipeline")
    assert states(done)[0] == {"mug/1:1": ("new", "its file is missing")}
    assert done(*RUN).code == 0
    assert bought(service) == [6, 1]


def test_a_fresh_clone_with_committed_outputs_renders_nothing(done, service, tmp_path):
    before = {path: entry[0] for path, entry in done.tree().items()}
    shutil.rmtree(done.outputs / ".pipeline")
    assert done(*RUN).code == 0
    assert {path: entry[0] for path, entry in done.tree().items()} == before
    assert bought(service) == [6]


def test_git_lfs_pointers_count_as_their_files(done, service):
    for key, record in done.records().items():
        (file,) = record["files"]
        pointer = f"version https://git-lfs.github.com/spec/v1\noid sha256:{file['sha256']}\nsize {file['bytes']}\n"
        (done.outputs / "shop" / file["path"]).write_text(pointer)
        assert key
    shutil.rmtree(done.outputs / ".pipeline")
    assert states(done)[0] == {}
    assert done(*RUN).code == 0
    assert bought(service) == [6]


def test_a_deleted_output_manifest_is_rebuilt(done, service):
    manifest = done.outputs / "shop/manifest.jsonl"
    before = manifest.read_bytes()
    manifest.unlink()
    (done.outputs / "shop/manifest.csv").unlink()
    assert done(*RUN).code == 0
    assert manifest.read_bytes() == before
    assert bought(service) == [6]


def test_a_journal_deleted_while_batches_are_at_work_pays_for_nothing_again(slow_shop, slow_service):
    slow_shop.write("jobs/shop.yaml", SHOP + "batch: {max_requests: 4}\n")
    slow_shop.delivers()
    assert slow_shop("submit", "jobs/shop.yaml").code == 0
    shutil.rmtree(slow_shop.outputs / ".pipeline")
    shutil.rmtree(slow_shop.outputs / "shop")
    assert slow_shop("submit", "jobs/shop.yaml").code == 0
    slow_service.advance(21 * 3600)
    assert slow_shop(*RUN).code == 0
    assert {record["status"] for record in slow_shop.records().values()} == {"done"}
    assert [entry["requests"] for entry in slow_service.ledger()] == [4, 2]


def test_a_row_that_left_keeps_its_files_and_its_records(done, service):
    done.write("jobs/products.csv", "id,product\nmug,blue mug\nvase,glass vase\n")
    assert states(done)[1]["counts"]["gone"] == 2
    before = done.tree()
    assert done(*RUN).code == 0
    assert done.tree() == before


def test_a_catalog_that_lost_more_than_half_its_rows_is_asked_about(done, service):
    done.write("jobs/products.csv", "id,product\nmug,blue mug\n")
    refused = done(*RUN)
    assert refused.code == 5
    assert "4 done images" in refused.err
    assert done(*RUN, "--yes").code == 0
    assert done(*RUN).code == 0


def test_a_changed_reference_image_renders_what_shows_it(shop, service):
    for name, colour in (("oak", "brown"), ("pine", "yellow")):
        Image.new("RGB", (64, 64), colour).save(shop.folder / f"{name}.png")
    shop.write(
        "jobs/shop.yaml",
        'prompt: A [wood] table\nimages: ["../[wood].png"]\nitems: [{id: a, wood: oak}, {id: b, wood: pine}]\n',
    )
    assert shop(*RUN).code == 0
    Image.new("RGB", (64, 64), "black").save(shop.folder / "oak.png")
    assert states(shop)[0] == {"a": ("changed", "reference image ../oak.png")}
    assert shop(*RUN).code == 0
    assert bought(service) == [2, 1]


def test_an_answer_that_is_no_longer_wanted_is_kept_aside(slow_shop, slow_service):
    assert slow_shop("submit", "jobs/shop.yaml").code == 0
    slow_shop.write("jobs/products.csv", PRODUCTS.replace("sand bowl", "green bowl"))
    slow_service.advance(21 * 3600)
    collected = slow_shop("collect", "jobs/shop.yaml")
    assert collected.code == 0
    assert "2 no longer wanted" in collected.err
    assert "bowl-1x1.jpg" not in slow_shop.tree()
    assert len([*(slow_shop.outputs / ".pipeline/retired/shop").rglob("*.jpg")]) == 2
    assert slow_shop("submit", "jobs/shop.yaml").code == 0
    slow_service.advance(21 * 3600)
    assert slow_shop(*RUN).code == 0
    assert [entry["requests"] for entry in slow_service.ledger()] == [6, 2]
    assert slow_shop(*RUN).code == 0
    assert [entry["requests"] for entry in slow_service.ledger()] == [6, 2], "it was paid for: it comes back"


def test_records_name_what_the_job_language_wrote_and_what_it_meant(done):
    record = done.records()["mug/4:5"]
    assert (record["model"], record["model_id"]) == ("flash", "gemini-nano-banana-2.1")
    assert record["settings"] == {"aspect": "4:5", "size": "1K"}
    assert record["vars"] == {"product": "blue mug"}
    schema = json.loads(done("schema", "record").out)
    for entry in done.records().values():
        conform(entry, schema)
    assert list(record) == list(schema["properties"])


def test_a_lost_journal_is_made_up_for_by_collect_alone(slow_shop, slow_service):
    assert slow_shop("submit", "jobs/shop.yaml").code == 0
    shutil.rmtree(slow_shop.outputs / ".pipeline")
    shutil.rmtree(slow_shop.outputs / "shop")
    slow_service.advance(21 * 3600)
    assert slow_shop("collect", "jobs/shop.yaml").code == 0
    assert {record["status"] for record in slow_shop.records().values()} == {"done"}
    assert slow_shop(*RUN).code == 0
    assert [entry["requests"] for entry in slow_service.ledger()] == [6]


def test_a_file_that_nobody_knows_is_never_overwritten_and_nothing_is_bought_for_its_place(shop, service):
    mine = shop.write("outputs/shop/mug-1x1.jpg", b"drawn by hand")
    assert shop(*RUN).code == 6
    assert mine.read_bytes() == b"drawn by hand"
    assert bought(service) == [5]
    assert shop.records()["mug/1:1"]["status"] == "held"
    assert len(shop.records()) == 6
    mine.unlink()
    assert shop(*RUN).code == 0
    assert bought(service) == [5, 1]


def test_batches_of_the_local_service_are_not_asked_for_at_the_other(shop, service, monkeypatch):
    monkeypatch.setenv("PIPELINE_LOCAL_LATENCY", "9h")
    assert shop("--service", "local", "submit", "jobs/shop.yaml").code == 0
    assert shop(*RUN).code == 0
    assert {record["service"] for record in shop.records().values()} == {"gemini"}
    assert bought(service) == [6]


def test_what_lies_in_the_way_of_a_paid_image_costs_nothing_but_a_word(slow_shop, slow_service):
    slow_shop.write("jobs/products.csv", "id,product\nmug,blue mug\n")
    assert slow_shop("submit", "jobs/shop.yaml").code == 0
    mine = slow_shop.write("outputs/shop/mug-1x1.jpg", b"put here meanwhile")
    slow_service.advance(21 * 3600)
    assert slow_shop(*RUN).code == 6
    assert mine.read_bytes() == b"put here meanwhile"
    assert slow_shop.records()["mug/1:1"]["status"] == "held"
    mine.unlink()
    assert slow_shop(*RUN).code == 0
    assert slow_shop.records()["mug/1:1"]["status"] == "done"
    assert [entry["requests"] for entry in slow_service.ledger()] == [2]


def test_a_renamed_item_whose_place_is_taken_waits_for_it(done, service):
    mine = done.write("outputs/shop/dish-1x1.jpg", b"mine")
    done.write("jobs/products.csv", PRODUCTS.replace("bowl,", "dish,"))
    assert done(*RUN).code == 6
    assert mine.read_bytes() == b"mine"
    mine.unlink()
    assert done(*RUN).code == 0
    assert bought(service) == [6]
    assert "bowl-1x1.jpg" not in done.tree()


def test_a_journal_lost_while_a_changed_image_is_pending_replaces_the_old_one_all_the_same(slow_shop, slow_service):
    slow_shop.write("jobs/products.csv", "id,product\nmug,blue mug\n")
    slow_shop("submit", "jobs/shop.yaml")
    slow_service.advance(21 * 3600)
    assert slow_shop(*RUN).code == 0
    first = slow_shop.tree()["mug-1x1.jpg"]
    slow_shop.write("jobs/products.csv", "id,product\nmug,red mug\n")
    assert slow_shop("submit", "jobs/shop.yaml").code == 0
    assert slow_shop("verify").code == 0, "the old image lies there, known, until the new one comes"
    shutil.rmtree(slow_shop.outputs / ".pipeline")
    slow_service.advance(21 * 3600)
    assert slow_shop(*RUN).code == 0
    assert slow_shop.tree()["mug-1x1.jpg"] != first
    assert {record["status"] for record in slow_shop.records().values()} == {"done"}
    assert [entry["requests"] for entry in slow_service.ledger()] == [2, 2]


@pytest.mark.parametrize(
    "harm",
    [
        pytest.param({"attempt": "x"}, id="attempt"),
        pytest.param({"attempt": 10**30}, id="large attempt"),
        pytest.param({"reason": 5}, id="reason"),
        pytest.param({"files": [{"path": "a.jpg"}]}, id="file"),
        pytest.param({"files": [{"path": "../../a.jpg"}]}, id="path"),
        pytest.param({"metadata": 3}, id="metadata"),
        pytest.param({"key": "\ud800"}, id="key"),
        pytest.param({"fingerprint": "zz"}, id="fingerprint"),
    ],
)
@pytest.mark.some(1)
def test_a_damaged_output_manifest_is_said_and_kept_and_gives_no_traceback(done, service, harm):
    manifest = done.outputs / "shop/manifest.jsonl"
    first, *rest = manifest.read_text().splitlines()
    manifest.write_text("\n".join([json.dumps({**json.loads(first), **harm}), "<<<<<<< HEAD", *rest]) + "\n")
    damaged = manifest.read_bytes()
    shutil.rmtree(done.outputs / ".pipeline")
    ended = done("plan", "jobs/shop.yaml")
    assert ended.code == 0
    assert "manifest.jsonl:1" in ended.err
    assert "manifest.jsonl:2" in ended.err
    assert [path.read_bytes() for path in (done.outputs / ".pipeline/quarantine/shop").iterdir()] == [damaged]


def test_two_manifests_of_one_name_are_refused(done):
    done.write("jobs/b.yaml", "job: shop\nprompt: another\n")
    ended = done("run", "jobs/b.yaml")
    assert ended.code == 2
    assert "shop" in ended.err
    assert "shop.yaml" in ended.err


OLD = {
    "model": "flash", "settings": {"aspect": "1:1", "size": "1K"}, "prompt": "a mug", "template": None, "inputs": [],
    "sample": 1, "turn": 1,
}  # fmt: skip


@pytest.mark.parametrize(
    ("before", "after", "why"),
    [
        pytest.param({}, {"size": "2K"}, "size 1K → 2K", id="size"),
        pytest.param({}, {"system": "x" * 999}, "system", id="system"),
        pytest.param({"system": "be calm"}, {"system": "be wild"}, "system", id="another system"),
        pytest.param({}, {"response": ["text", "image"]}, "response image → text+image", id="response"),
        pytest.param({"response": ["text"]}, {}, "response text → image", id="response again"),
        pytest.param({}, {"search": ["web", "image"]}, "search none → web+image", id="search"),
        pytest.param({"thoughts": True}, {}, "thoughts true → false", id="thoughts"),
        pytest.param({}, {"seed": 7, "temperature": 0.5}, "seed default → 7, temperature default → 0.5", id="two"),
        pytest.param(
            {"safety": {"harassment": "off", "hate_speech": "off"}},
            {"safety": {"harassment": "block_none", "hate_speech": "off"}},
            "safety harassment off → block_none",
            id="safety",
        ),
        pytest.param({"thinking": "low"}, {"thinking": "high"}, "thinking low → high", id="thinking"),
        pytest.param({"x": {"y": [["z" * 999]]}}, {}, "x y " + "z" * 60 + " → default", id="what a stranger wrote"),
    ],
)
def test_why_an_ask_changed_is_told_in_the_words_of_the_language(before, after, why):
    old, new = ({**OLD, "settings": OLD["settings"] | settings} for settings in (before, after))
    assert differences(old, new) == why


def test_a_turn_that_did_not_change_itself_names_the_ones_before_it():
    assert differences(OLD, OLD) == "the ask"
    assert differences(OLD, {**OLD, "turn": 2}) == "an earlier turn"
