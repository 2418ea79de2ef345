"""Whole runs through the real SDK: from a manifest and a catalog to verified images, records and nothing twice."""

from __future__ import annotations

import csv
import hashlib
import io
import json
from datetime import date

import pytest
from conftest import KEY, PRODUCTS, SHOP
from PIL import Image

from pipeline import batchfile, plan
from pipeline.durable import Folder
from pipeline.errors import UnfinishedError
from pipeline.gemini import models
from pipeline.job import expand, language

RUN = ("run", "jobs/shop.yaml", "--poll", "0.1s")


def test_every_record_describes_its_file(shop):
    assert shop(*RUN).code == 0
    records = shop.records()
    assert list(records) == sorted(["mug/1:1", "mug/4:5", "bowl/1:1", "bowl/4:5", "vase/1:1", "vase/4:5"])
    for record in records.values():
        (file,) = record["files"]
        data = (shop.outputs / "shop" / file["path"]).read_bytes()
        assert (record["status"], file["kind"], file["mime"]) == ("done", "image", "image/jpeg")
        assert file["sha256"] == hashlib.sha256(data).hexdigest()
        assert file["bytes"] == len(data)
        pixels = {"1:1": (1024, 1024), "4:5": (928, 1152)}[record["settings"]["aspect"]]
        assert (file["width"], file["height"]) == Image.open(io.BytesIO(data)).size == pixels


def test_each_picture_lies_where_its_own_request_asked_for_it(shop, service):
    """The service shuffles its answers; a picture is drawn from its ask, so drawing each ask alone must agree."""
    assert shop(*RUN).code == 0
    together = {key: record["files"][0]["sha256"] for key, record in shop.records().items()}
    for name in ("mug", "bowl", "vase"):
        shop.write(
            "jobs/products.csv", "\n".join(line for line in PRODUCTS.splitlines() if line[:2] in {"id", name[:2]})
        )
        alone = shop("--outputs", f"alone-{name}", *RUN)
        assert alone.code == 0, alone.err
        for line in (shop.folder / f"alone-{name}/shop/manifest.jsonl").read_text().splitlines():
            record = json.loads(line)
            assert record["files"][0]["sha256"] == together[record["key"]]
    assert len(set(together.values())) == 6


def test_a_second_run_changes_no_byte_and_no_mtime_and_sends_nothing(shop, service):
    shop(*RUN)
    before = shop.tree()
    again = shop(*RUN)
    assert again.code == 0
    assert shop.tree() == before
    assert len(service.ledger()) == 1


def test_submit_and_collect_are_separate_processes_hours_apart(slow_shop, slow_service):
    assert slow_shop("submit", "jobs/shop.yaml").code == 0
    status = slow_shop("status", "--json").json["jobs"][0]
    assert status["counts"] == {"pending": 6}
    assert [batch["requests"] for batch in status["batches"]] == [6]
    assert slow_shop("collect", "jobs/shop.yaml").code == 0
    assert slow_shop("collect", "jobs/shop.yaml", "--fail-if-pending").code == 4
    assert slow_shop("submit", "jobs/shop.yaml").code == 0, "nothing is sent twice"
    slow_service.advance(21 * 3600)
    assert slow_shop.forked("collect", "jobs/shop.yaml", "--fail-if-pending") == 0
    assert {record["status"] for record in slow_shop.records().values()} == {"done"}
    assert len(slow_service.ledger()) == 1


def test_the_wait_ends_with_4_and_nothing_is_lost(slow_shop, slow_service):
    assert slow_shop("run", "jobs/shop.yaml", "--wait", "0").code == 4
    slow_service.advance(21 * 3600)
    assert slow_shop("run", "jobs/shop.yaml", "--poll", "0.1s").code == 0
    assert len(slow_service.ledger()) == 1


def test_batches_are_split_by_count_and_several_run_at_once(shop, service):
    shop.write("jobs/shop.yaml", SHOP + "batch: {max_requests: 2}\n")
    shop.delivers()
    assert shop(*RUN).code == 0
    assert [entry["requests"] for entry in service.ledger()] == [2, 2, 2]
    assert len(shop.records()) == 6


def test_more_batches_than_slots_all_come_home_in_one_run(shop, service, monkeypatch):
    monkeypatch.setenv("PIPELINE_CONCURRENT", "1")
    shop.write("jobs/shop.yaml", SHOP + "batch: {max_requests: 2}\n")
    assert shop(*RUN).code == 0
    assert len(service.ledger()) == 3


def test_every_way_a_picture_can_fail_is_one_status_with_the_services_word(shop, service):
    shop.write("jobs/shop.yaml", "prompt: '[what]'\nretry: 0\nitems: words.csv\n")
    words = ["fine", "LOCAL:BLOCK", "LOCAL:NOIMAGE", "LOCAL:ERROR", "LOCAL:PROMPTBLOCK"]
    shop.write("jobs/words.csv", "id,what\n" + "".join(f"{number},a {word}\n" for number, word in enumerate(words)))
    ended = shop(*RUN)
    assert ended.code == 3
    told = {key: (record["status"], (record["reason"] or "").split(":")[0]) for key, record in shop.records().items()}
    assert told == {
        "0": ("done", ""),
        "1": ("blocked", "IMAGE_SAFETY"),
        "2": ("no_image", "NO_IMAGE"),
        "3": ("failed", "code 13"),
        "4": ("blocked", "PROHIBITED_CONTENT"),
    }
    assert "retry" in ended.err


def test_retries_are_counted_for_ever_and_a_person_can_open_them_again(shop, service):
    shop.write("jobs/shop.yaml", "prompt: '[what]'\nretry: 1\nitems: words.csv\n")
    shop.write("jobs/words.csv", "id,what\nbad,LOCAL:ERROR now\ngood,a barn\n")
    assert shop(*RUN).code == 3
    assert [entry["requests"] for entry in service.ledger()] == [2, 1]
    assert shop(*RUN).code == 3, "cron does not multiply retries"
    assert len(service.ledger()) == 2
    assert shop("retry", "jobs/shop.yaml", "--only", "blocked", "--poll", "0.1s").code == 3
    assert len(service.ledger()) == 2
    assert shop("retry", "jobs/shop.yaml", "--only", "failed", "--poll", "0.1s").code == 3
    assert [entry["requests"] for entry in service.ledger()] == [2, 1, 1, 1]
    attempts = shop("show", "bad", "--json").json["attempts"]
    assert [attempt["status"] for attempt in attempts] == ["failed"] * 4


def test_the_flat_manifest_is_safe_to_open_in_a_spreadsheet(shop):
    shop.write("jobs/products.csv", 'id,product\nmug,"=HYPERLINK(""http://x"",""blue mug"")"\n')
    assert shop(*RUN).code == 0
    text = (shop.outputs / "shop/manifest.csv").read_bytes()
    assert text.startswith(b"\xef\xbb\xbf")
    header, first, _second = csv.reader(io.StringIO(text.decode("utf-8-sig")))
    columns = "key id item status reason path width height bytes sha256 model aspect size prompt alt cost at"
    assert " ".join(header[:17]) == columns
    assert dict(zip(header, first, strict=True))["product"] == '\'=HYPERLINK("http://x","blue mug")'


def test_a_bad_key_is_6_and_nothing_was_sent(shop, service, monkeypatch):
    monkeypatch.setenv("GEMINI_API_KEY", "short but long enough".replace(" ", "!"))
    ended = shop(*RUN)
    assert ended.code == 6
    assert "key" in ended.err
    assert "short!but!long!enough" not in ended.err
    assert service.ledger() == []


def test_without_a_key_the_error_names_both_ways_out(project):
    project.write("jobs/shop.yaml", "prompt: a barn\n")
    ended = project("run", "jobs/shop.yaml")
    assert ended.code == 2
    assert "GEMINI_API_KEY" in ended.err
    assert "--service local" in ended.err


def test_two_keys_that_differ_are_refused(shop, monkeypatch):
    monkeypatch.setenv("GOOGLE_API_KEY", KEY + "x")
    ended = shop(*RUN)
    assert ended.code == 2
    assert "GEMINI_API_KEY" in ended.err
    assert "GOOGLE_API_KEY" in ended.err


@pytest.mark.some(2)
@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        pytest.param((), 5, id="nobody to ask"),
        pytest.param(("--yes",), 0, id="confirmed"),
        pytest.param(("--max-cost", "5"), 0, id="bounded"),
        pytest.param(("--max-cost", "1"), 5, id="bounded too low"),
    ],
)
def test_more_than_a_dollar_needs_a_word(shop, service, arguments, code):
    shop.write("jobs/products.csv", "id,product\n" + "".join(f"p{n},cup {n}\n" for n in range(30)))
    ended = shop(*RUN, *arguments)
    assert ended.code == code, ended.err
    assert bool(service.ledger()) is (code == 0)


def test_a_budget_that_does_not_cover_everything_sends_nothing(shop, service):
    shop.write("jobs/shop.yaml", SHOP + "budget: 0.05\n")
    ended = shop(*RUN)
    assert ended.code == 5
    assert "budget" in ended.err
    assert service.ledger() == []


def test_a_model_without_a_price_is_refused_under_a_budget(shop, service):
    shop.write("jobs/shop.yaml", SHOP + "model: gemini-9-image\nbudget: 5\n")
    assert shop(*RUN).code == 5
    assert service.ledger() == []


def test_local_images_count_for_the_local_service_only(shop, service):
    assert shop("--service", "local", "run", "jobs/shop.yaml").code == 0
    plan = shop("plan", "jobs/shop.yaml", "--json").json["jobs"][0]
    assert plan["counts"]["changed"] == 6
    assert {item["why"] for item in plan["items"]} == {"made by the local service"}
    assert shop(*RUN).code == 0
    assert {record["service"] for record in shop.records().values()} == {"gemini"}
    refused = shop("--service", "local", "run", "jobs/shop.yaml")
    assert refused.code == 5
    assert "--outputs" in refused.err


def test_another_run_of_the_job_leaves_at_once_with_75(shop):
    from pipeline.durable import Folder, locked

    with locked(Folder(shop.outputs / ".pipeline"), "locks/shop.lock", what="the job"):
        ended = shop(*RUN)
    assert ended.code == 75
    assert not (shop.outputs / "shop").exists()


def test_cancel_collects_what_comes_and_says_what_did_not(slow_shop, slow_service):
    assert slow_shop("submit", "jobs/shop.yaml").code == 0
    assert slow_shop("cancel", "jobs/shop.yaml").code == 5, "a confirmation is needed where nobody can be asked"
    assert slow_shop("cancel", "jobs/shop.yaml", "--yes").code == 3
    assert {record["status"] for record in slow_shop.records().values()} == {"cancelled"}
    assert slow_shop("submit", "jobs/shop.yaml").code == 3
    assert len(slow_service.ledger()) == 1, "what a person cancelled is not asked again by itself"


def test_plan_validate_and_status_work_without_a_key_and_send_nothing(project):
    project.write("jobs/shop.yaml", SHOP)
    project.write("jobs/products.csv", PRODUCTS)
    assert project("validate").code == 0
    assert sorted(path.name for path in project.folder.iterdir()) == ["jobs"], "validate writes nothing"
    plan = project("plan", "--json").json["jobs"][0]
    assert plan["counts"]["new"] == plan["requests"] == 6
    assert project("plan", "--detailed-exitcode").code == 10
    assert project("status", "--json").code == 0


def test_compile_writes_what_the_batch_api_takes(shop):
    from api_names import problems

    ended = shop("compile", "jobs/shop.yaml", "-o", "out")
    assert ended.code == 0
    lines = (shop.folder / "out/requests-00000.jsonl").read_bytes().splitlines()
    assert [problems(json.loads(line)) for line in lines] == [[]] * 6
    request = json.loads(lines[1])
    assert request["request"]["generationConfig"]["imageConfig"] == {"aspectRatio": "4:5", "imageSize": "1K"}


def test_compile_splits_and_keeps_models_apart(shop):
    shop.write("jobs/shop.yaml", SHOP + "  model: [flash, gemini-2.5-flash-image, pro]\nbatch: {max_requests: 4}\n")
    ended = shop("compile", "jobs/shop.yaml", "-o", "out")
    if ended.code == 2:  # a model that was shut down is refused by name
        shop.write("jobs/shop.yaml", SHOP + "  model: [flash, pro]\nbatch: {max_requests: 4}\n")
        ended = shop("compile", "jobs/shop.yaml", "-o", "out")
    rows = [line.split("\t") for line in ended.out.splitlines()]
    assert [(row[1], row[2]) for row in rows] == [
        ("gemini-nano-banana-2.1", "4"),
        ("gemini-3-pro-image", "4"),
        ("gemini-nano-banana-2.1", "2"),
        ("gemini-3-pro-image", "2"),
    ]
    for path, _model, count, size in rows:
        data = (shop.folder / path).read_bytes()
        assert (data.count(b"\n"), len(data)) == (int(count), int(size))


def test_a_mistake_is_shown_as_a_compiler_does_and_nothing_is_sent(shop, service):
    shop.write("jobs/shop.yaml", "promt: Studio photo\n")
    ended = shop(*RUN)
    assert ended.code == 2
    assert "jobs/shop.yaml:1:1: error: unknown key 'promt' in a job; did you mean 'prompt'?" in ended.err
    assert service.ledger() == []


def test_compile_leaves_out_the_turns_that_are_made_of_answers(shop):
    text = 'turns: ["A [product]", {prompt: at night, keep: true}]\nitems: products.csv\n'
    path, today = shop.write("jobs/shop.yaml", text), date(2026, 11, 22)
    job, registry = language.load(path, root=shop.folder), models.load()
    requests = [*expand.expand(job, models=registry, today=today, warn=print)]
    wanted = [*plan.wanted(requests, registry, service="gemini", today=today)]
    left_out = []
    (made,) = batchfile.compile_all(Folder(shop.folder / "out"), job, [requests], registry, left_out=left_out.append)
    assert made.requests == 3
    assert left_out == ["mug/t2", "bowl/t2", "vase/t2"]
    assert shop("compile", "jobs/shop.yaml", "-o", "out").out.split("\t")[2] == "3"
    with pytest.raises(UnfinishedError, match="mug/t2: turn 2"):
        batchfile.line(job, json.loads(wanted[1].line), "mug", None, {})
