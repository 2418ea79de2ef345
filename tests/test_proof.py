"""A few images now: what is chosen, what it costs, where it goes; and nothing is paid for twice. The ledger counts."""

from __future__ import annotations

import json
import os
import signal
import threading
from decimal import Decimal
from pathlib import Path

import pytest
from conforming import conform
from conftest import KEY, PRODUCTS
from conftest import SHOP as CHECKED
from jobs import PNG
from proxy import DropError, proxying

from pipeline.job.schema import schema
from pipeline.journal import Candidate, opened
from pipeline.outputs import Proofs, Tree
from pipeline.plan.choice import chosen
from pipeline.reconcile import pace

SHOP = f"{CHECKED}checks: {{decode: false}}\n"
PROOF = ("proof", "jobs/shop.yaml")
RUN = ("run", "jobs/shop.yaml", "--poll", "0.1s", "--wait", "30s")
TEMPLATES = """\
items: products.csv
matrix:
  template: [packshot, lifestyle, macro, flatlay]
"""


def calls(service):
    """How many images were asked for one by one."""
    return len(service.ledger("generateContent"))


def batched(service):
    """How many requests each batch had."""
    return [entry["requests"] for entry in service.ledger()]


def proofs(project, job="shop"):
    """The records of what lies below proof/."""
    lines = (project.outputs / job / "proof/manifest.jsonl").read_text().splitlines()
    return {told["key"]: told for told in map(json.loads, lines)}


def spent(project):
    [job] = project("status", "--json").json["jobs"]
    return Decimal(job["cost"]["amount"])


@pytest.fixture
def shop(shop):
    """The shop, which does not look at every pixel: that is not what these tests are about."""
    shop.write("jobs/shop.yaml", SHOP)
    return shop


@pytest.fixture
def proxy(shop, service, monkeypatch):
    """A proxy between the shop and its service; pauses are short."""
    monkeypatch.setattr(pace, "FIRST_PAUSE_S", 0.01)
    with proxying(service.url) as (url, proxy):
        monkeypatch.setenv("GOOGLE_GEMINI_BASE_URL", url)
        yield proxy


def generated(proxy):
    return [call for call in proxy.calls if call.path.endswith(":generateContent")]


def each_call(action):
    """A rule that does `action` with each call for an image and its number, from 1."""
    lock, count = threading.Lock(), [0]

    def rule(call):
        if call.path.endswith(":generateContent"):
            with lock:
                count[0] += 1
                number = count[0]
            action(call, number)

    return rule


def refused(call, code, status, message="No.", retry_after="0"):
    call.say({"error": {"code": code, "status": status, "message": message}}, code)
    call.headers["Retry-After"] = retry_after


# ------------------------------------------------------------------------------------------- without --keep


def test_a_proof_is_there_at_once_and_the_job_is_as_it_was(shop, service):
    done = shop(*PROOF)
    assert done.code == 0, done.err
    assert calls(service) == 3
    assert batched(service) == []
    shown = [told["files"][0]["path"] for told in proofs(shop).values()]
    assert sorted(shop.tree()) == sorted(["proof/manifest.jsonl", *shown])
    assert sorted(done.out.splitlines()) == sorted(f"outputs/shop/{path}" for path in shown)
    assert shop("verify").code == 0
    assert shop(*RUN).code == 0
    assert batched(service) == [6], "a proof that is not kept is no result"
    assert calls(service) == 3


def test_a_proof_costs_the_standard_price_and_is_counted(shop):
    assert "$0.03" in shop(*PROOF).err
    for told in proofs(shop).values():
        usage = told["usage"]
        assert (told["lane"], told["batch"], usage["output_image"]) == ("interactive", None, 1120)
        extra = usage["input"] * Decimal("1.5") + (usage["thinking"] + usage["output_text"]) * Decimal("7.5")
        assert abs(Decimal(told["cost"]["amount"]) - Decimal("0.0336") - extra / 1_000_000) < Decimal("0.000001")
        assert told["cost"]["prices"]
        conform(told, schema("record"))
    total = sum(Decimal(told["cost"]["amount"]) for told in proofs(shop).values())
    assert spent(shop) == total > Decimal("0.1")


def test_the_same_proof_again_shows_the_same_and_buys_nothing(shop, service):
    first = shop(*PROOF)
    before = shop.tree()
    again = shop(*PROOF)
    assert (again.code, again.out) == (0, first.out)
    assert calls(service) == 3
    assert {path: entry for path, entry in shop.tree().items() if path.endswith(".jpg")} == {
        path: entry for path, entry in before.items() if path.endswith(".jpg")
    }
    assert "from an earlier proof" in again.err
    total = spent(shop)
    assert shop(*PROOF, "-n", "5").code == 0
    assert calls(service) == 5
    assert len(proofs(shop)) == 5
    assert spent(shop) > total


def test_what_is_shown_anew_takes_the_place_of_the_proof_before_and_of_nothing_else(shop, service):
    shop(*PROOF, "-n", "1")
    [told] = proofs(shop).values()
    picture = told["files"][0]["path"]
    old = shop.tree()[picture][0]
    mine = shop.write("outputs/shop/proof/notes.txt", "mine")
    shop.write("jobs/shop.yaml", SHOP.replace("marble", "slate"))
    assert shop(*PROOF, "-n", "1").code == 0
    assert calls(service) == 2
    assert mine.read_text() == "mine"
    assert shop.tree()[picture][0] != old
    assert proofs(shop).keys() == {told["key"]}
    (shop.outputs / "shop" / picture).write_bytes(b"painted over by somebody")
    assert shop(*PROOF, "-n", "1").code == 0
    kept = [path.read_bytes() for path in (shop.outputs / ".pipeline/quarantine/shop").iterdir()]
    assert b"painted over by somebody" in kept


def test_texts_and_parts_are_shown_as_well(shop, service):
    job = "prompt: A [product] in two steps\nitems: [{id: mug, product: blue mug}]\nresponse: [text, image]\n"
    shop.write("jobs/shop.yaml", job)
    assert shop(*PROOF).code == 0
    assert sorted(shop.tree()) == ["proof/manifest.jsonl", "proof/mug.jpg", "proof/mug.md", "proof/mug.part2.jpg"]
    assert "(mug.part2.jpg)" in (shop.outputs / "shop/proof/mug.md").read_text()
    assert shop(*PROOF, "--keep").code == 0
    assert {"mug.jpg", "mug.md", "mug.part2.jpg"} <= shop.tree().keys()
    assert calls(service) == 1


def test_a_request_is_the_same_in_both_lanes(shop, service, proxy):
    job = SHOP + (
        "system: Be brief.\nthinking: high\nthoughts: true\ntemperature: 0.5\nseed: 7\nsearch: [web, image]\n"
        "safety: {dangerous_content: block_only_high}\nimages: [../ref.png]\nmax_output_tokens: 9000\n"
    )
    shop.write("ref.png", PNG)
    shop.write("jobs/shop.yaml", job)
    assert shop(*PROOF, "-n", "1").code == 0
    [call] = generated(proxy)
    [file] = (shop.outputs / ".pipeline/requests/shop").iterdir()
    assert _plain(json.loads(call.body)) == _plain(json.loads(file.read_bytes())["request"])


def _plain(value):
    """A request in one spelling: names in camelCase, no role for the system, numbers as numbers."""
    if isinstance(value, dict):
        plain = {
            "".join([name.split("_")[0], *map(str.title, name.split("_")[1:])]): _plain(v) for name, v in value.items()
        }
        if "data" in plain:
            plain["data"] = plain["data"].translate(str.maketrans("-_", "+/"))
        if "systemInstruction" in plain:
            plain["systemInstruction"].pop("role", None)
        return plain
    return [_plain(inner) for inner in value] if isinstance(value, list) else value


# ---------------------------------------------------------------------------------------------- with --keep


def test_what_is_kept_is_a_result_and_no_run_asks_for_it(shop, service):
    shop.write("jobs/shop.yaml", CHECKED)
    done = shop(*PROOF, "--keep")
    assert done.code == 0, done.err
    assert calls(service) == 3
    kept = shop.records()
    assert len(kept) == 3
    for told in kept.values():
        assert (told["status"], told["lane"], told["batch"], told["attempt"]) == ("done", "interactive", None, 1)
        assert Decimal(told["cost"]["amount"]) > Decimal("0.0336")
        conform(told, schema("record"))
        [file] = told["files"]
        assert shop.tree()[f"proof/{file['path']}"][0] == shop.tree()[file["path"]][0]
    assert sorted(done.out.splitlines()) == sorted(f"outputs/shop/{told['files'][0]['path']}" for told in kept.values())
    before = shop.tree()
    assert shop(*RUN).code == 0
    assert batched(service) == [3]
    assert calls(service) == 3
    records = shop.records()
    assert {told["status"] for told in records.values()} == {"done"}
    assert [told["lane"] for told in records.values()].count("batch") == 3
    for key, told in kept.items():
        assert records[key] == told
        assert shop.tree()[told["files"][0]["path"]] == before[told["files"][0]["path"]]
    assert shop("verify").code == 0


def test_keeping_what_was_shown_buys_nothing(shop, service):
    shop(*PROOF)
    seen, total = proofs(shop), spent(shop)
    done = shop(*PROOF, "--keep")
    assert done.code == 0, done.err
    assert calls(service) == 3
    assert spent(shop) == total
    for key, told in shop.records().items():
        assert told["files"][0]["sha256"] == seen[key]["files"][0]["sha256"]
        assert (told["lane"], told["cost"]) == ("interactive", seen[key]["cost"])
    assert shop(*RUN).code == 0
    assert batched(service) == [3]


def test_an_answer_is_found_again_under_another_key(shop, service):
    shop(*PROOF, "-n", "6")
    shop.write("jobs/products.csv", PRODUCTS.replace("mug,", "cup,"))
    assert shop(*PROOF, "-n", "6", "--keep").code == 0
    assert calls(service) == 6
    assert {"cup/1:1", "cup/4:5"} < shop.records().keys()


def test_the_output_manifest_alone_knows_what_was_kept(shop, service):
    shop(*PROOF, "--keep")
    for path in sorted((shop.outputs / ".pipeline").rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() else path.unlink()
    assert shop(*RUN).code == 0
    assert batched(service) == [3]


def test_a_picture_that_was_deleted_comes_back_from_the_answer(shop, service):
    shop(*PROOF, "--keep")
    told = next(iter(shop.records().values()))
    (shop.outputs / "shop" / told["files"][0]["path"]).unlink()
    assert shop(*RUN).code == 0
    assert batched(service) == [3]
    assert shop("verify").code == 0


def test_a_refusal_is_told_and_kept_as_one(shop, service):
    shop.write("jobs/products.csv", "id,product\nmug,LOCAL:BLOCK mug\n")
    shown = shop(*PROOF)
    assert (shown.code, calls(service)) == (3, 2)
    assert {told["status"] for told in proofs(shop).values()} == {"blocked"}
    assert "IMAGE_SAFETY: Unable to show the generated image" in shown.err
    assert shop(*PROOF, "--keep", "-n", "1").code == 3
    [told] = shop.records().values()
    assert (told["status"], told["lane"]) == ("blocked", "interactive")
    assert told["reason"].startswith("IMAGE_SAFETY: Unable")


def test_what_failed_shows_nothing_that_lies_there_from_before(shop):
    shop(*PROOF, "--keep", "-n", "1")
    [told] = shop.records().values()
    with opened(shop.outputs / ".pipeline", outputs=shop.outputs) as journal:
        there = Proofs(Tree(shop.outputs, shop.outputs / ".pipeline", "shop", journal))
        assert there.copy(told) == [f"proof/{told['files'][0]['path']}"]
        assert there.copy({**told, "status": "failed"}) == []
        there.write()
    assert proofs(shop)[told["key"]]["files"] == []
    assert [path for path in shop.tree() if path.endswith(".jpg")] == [told["files"][0]["path"]]


# -------------------------------------------------------------------------------------------- what is chosen


def some(rows, *cells, samples=1):
    """Candidates as a matrix makes them: each cell is a template and the rest."""
    places = iter(range(1, 10_000))
    return [
        Candidate(next(places), f"row{row}", template, cell, sample, "model")
        for row in range(rows)
        for template, cell in cells
        for sample in range(1, samples + 1)
    ]


def test_every_template_comes_before_any_comes_twice_and_rows_are_spread():
    candidates = some(100, *((template, f"{template}{aspect}") for template in "abc" for aspect in "xy"))
    found = {one.n: one for one in candidates}
    first = [found[n] for n in chosen(candidates, 3, every_template=False)]
    assert [one.template for one in first] == ["a", "b", "c"]
    assert [one.id for one in first] == ["row0", "row50", "row25"]
    more = [found[n] for n in chosen(candidates, 6, every_template=False)]
    assert more[:3] == first
    assert len({one.cell for one in more}) == len({one.id for one in more}) == 6


def test_no_row_comes_twice_while_there_are_others():
    candidates = some(3, ("a", "x"), ("a", "y"))
    found = {one.n: one.id for one in candidates}
    assert sorted(found[n] for n in chosen(candidates, 3, every_template=False)) == ["row0", "row1", "row2"]


def test_another_row_says_more_than_another_sample():
    candidates = some(4, ("a", "x"), samples=3)
    found = {one.n: one for one in candidates}
    assert {found[n].sample for n in chosen(candidates, 4, every_template=False)} == {1}
    assert sorted(chosen(candidates, 99, every_template=False)) == sorted(found)


def test_there_may_be_nothing_to_choose_from():
    assert chosen([], 3, every_template=True) == []


def test_every_template_is_shown_where_that_is_asked_for(shop, service):
    shop.write("jobs/shop.yaml", TEMPLATES)
    for name in ("packshot", "lifestyle", "macro", "flatlay"):
        shop.write(f"templates/{name}.md", f"A {name} of a [product].\n")
    assert shop(*PROOF, "-n", "2", "--every-template").code == 0
    assert sorted(told["template"] for told in proofs(shop).values()) == ["flatlay", "lifestyle", "macro", "packshot"]
    assert len({told["id"] for told in proofs(shop).values()}) == 3
    assert calls(service) == 4


def test_a_selection_bounds_the_choice(shop, service):
    assert shop(*PROOF, "-n", "9", "--select", "id:vase").code == 0
    assert proofs(shop).keys() == {"vase/1:1", "vase/4:5"}
    assert shop(*PROOF, "--keep", "--select", "id:bowl").code == 0
    assert shop.records().keys() == {"bowl/1:1", "bowl/4:5"}
    assert calls(service) == 4


def test_what_is_done_or_on_its_way_is_not_asked_for(slow_shop, slow_service):
    assert slow_shop("submit", "jobs/shop.yaml", "--select", "aspect:1:1").code == 0
    assert slow_shop(*PROOF, "-n", "9", "--keep").code == 0
    assert calls(slow_service) == 3
    nothing = slow_shop(*PROOF)
    assert (nothing.code, nothing.out) == (0, "")
    assert "nothing is left" in nothing.err
    assert calls(slow_service) == 3
    slow_service.advance(21 * 3600)
    assert slow_shop(*RUN).code == 0
    assert batched(slow_service) == [3]


TALK = """\
items: products.csv
turns:
  - {prompt: "A [product]", keep: true}
  - Make it night
  - Add a lamp
"""


def test_a_conversation_is_shown_to_its_last_turn(shop, service):
    shop.write("jobs/shop.yaml", TALK)
    ended = shop(*PROOF, "-n", "2")
    assert ended.code == 0, ended.err
    assert calls(service) == 6
    top = shop.outputs / "shop/proof"
    assert sorted(path.name for path in top.glob("*.jpg")) == ["bowl-1.jpg", "bowl-3.jpg", "mug-1.jpg", "mug-3.jpg"]
    files = (shop.outputs / ".pipeline/requests/shop").glob("*.jsonl")
    sent = [json.loads(line) for file in files for line in file.read_bytes().splitlines()]
    histories = sorted([turn["role"] for turn in line["request"]["contents"]] for line in sent)
    assert histories == [["user"], ["user"], *[["user", "model", "user"]] * 2, *[["user", "model"] * 2 + ["user"]] * 2]
    # It is nobody's history but a proof's: a run begins at the first turn.
    plan = shop("plan", "jobs/shop.yaml", "--json").json["jobs"][0]
    assert (plan["requests"], plan["waves"]) == (9, 3)
    assert shop(*PROOF, "-n", "2").code == 0
    assert calls(service) == 6, "what is here is shown again for nothing"
    assert shop(*PROOF, "-n", "2", "--keep").code == 0
    assert calls(service) == 6
    assert shop(*RUN).code == 0
    assert batched(service) == [1, 1, 1]
    assert {told["status"] for told in shop.records().values()} == {"done"}


def test_a_conversation_that_fails_in_a_proof_asks_for_no_more_of_it(shop, troubled):
    service = troubled("- {on: generateContent, do: refuse, code: 400, after: 1, times: 1}\n")
    shop.write("jobs/shop.yaml", TALK)
    ended = shop(*PROOF, "-n", "1", "--keep")
    assert ended.code == 3
    assert "1 not asked for yet" in ended.err
    assert [shop.records()[f"mug/t{turn}"]["status"] for turn in (1, 2, 3)] == ["done", "failed", "missing"]
    assert calls(service) == 1


# ------------------------------------------------------------------------------------------------- the money


@pytest.mark.some(2)
@pytest.mark.parametrize(
    ("flags", "job", "words"),
    [
        pytest.param(("--max-cost", "0.10"), "", "--max-cost is", id="max-cost"),
        pytest.param((), "budget: 0.10\n", "its budget is", id="budget"),
        pytest.param((), "budget: {per_image: 0.03}\n", "`budget.per_image` is", id="per image"),
        pytest.param(("-n", "6"), "size: 4K\nsamples: 4\n", "", id="nothing to refuse"),
        pytest.param(("-n", "24"), "size: 4K\nsamples: 4\n", "nobody is there to be asked", id="over a dollar"),
    ],
)
def test_money_is_asked_about_at_the_standard_price(shop, service, flags, job, words):
    shop.write("jobs/shop.yaml", SHOP + job)
    done = shop(*PROOF, *flags, "--keep")
    assert words in done.err
    if words:
        assert (done.code, calls(service)) == (5, 0)
        assert not (shop.outputs / "shop").exists()
        assert "standard prices" in done.err
        assert shop("status", "--json").json["jobs"][0]["counts"] == {}
    else:
        assert (done.code, calls(service)) == (0, 6)


def test_what_a_batch_would_cost_fits_where_a_proof_does_not(shop):
    assert shop(*PROOF, "--max-cost", "0.07").code == 5
    assert shop(*PROOF, "-n", "1", "--max-cost", "0.07").code == 0


def test_a_proof_by_the_local_service_does_not_mix_with_what_was_paid_for(shop):
    assert shop(*PROOF, "--keep", "-n", "1").code == 0
    assert shop("--service", "local", *PROOF).code == 5


def test_one_by_one_is_no_batch(shop, service):
    shop(*PROOF, "--keep")
    assert shop("ls", "batches").out == ""
    assert shop("status", "--json").json["jobs"][0]["batches"] == []
    key = next(iter(shop.records()))
    [attempt] = shop("show", key, "--json").json["attempts"]
    assert (attempt["lane"], attempt["batch"], attempt["status"]) == ("interactive", None, "done")
    assert "interactive" in shop("show", key).out
    assert b'"contents"' in shop("show", key, "--request").out.encode()
    assert calls(service) == 3


# --------------------------------------------------------------------------------------------- other weather


def test_several_are_asked_for_at_once(shop, service, proxy):
    together = threading.Barrier(4, timeout=20)
    proxy.before = each_call(lambda _call, number: together.wait() if number <= 4 else None)
    assert shop(*PROOF, "-n", "6").code == 0
    assert calls(service) == 6


@pytest.mark.parametrize(("code", "status"), [(429, "RESOURCE_EXHAUSTED"), (503, "UNAVAILABLE")])
def test_a_service_that_wants_fewer_calls_is_waited_for(shop, service, proxy, code, status):
    proxy.before = each_call(lambda call, number: refused(call, code, status) if number <= 5 else None)
    done = shop(*PROOF, "--keep")
    assert done.code == 0, done.err
    assert "wants fewer calls" in done.err
    assert calls(service) == 3
    assert {told["attempt"] for told in shop.records().values()} == {1}


def test_patience_ends_and_what_has_arrived_is_kept(shop, service, proxy):
    def rule(call, number):
        if number > 2:
            refused(call, 429, "RESOURCE_EXHAUSTED", "Quota exceeded.", retry_after="3600")

    proxy.before = each_call(rule)
    done = shop(*PROOF, "--keep", "-n", "6")
    assert done.code == 4
    assert "wants fewer calls: Quota exceeded" in done.err
    assert "run the same command again later" in done.err
    assert [told["status"] for told in shop.records().values()].count("done") == calls(service) == 2
    proxy.before = lambda _call: None
    assert shop(*RUN).code == 0
    assert batched(service) == [4]
    assert {told["attempt"] for told in shop.records().values()} == {1}, "what was refused was no attempt"


def drop(_call):
    raise DropError


def test_a_call_without_a_clear_end_is_not_made_again(shop, service, proxy):
    """The answer may have been drawn, and billed: it counts as an attempt, and the job's `retry` decides."""
    shop.write("jobs/shop.yaml", SHOP + "retry: 0\n")
    proxy.after = each_call(lambda call, number: drop(call) if number == 1 else None)
    done = shop(*PROOF, "--keep")
    assert done.code == 3
    assert calls(service) == 3
    [lost] = [told for told in shop.records().values() if told["status"] != "done"]
    assert lost["status"] == "missing"
    assert "may have been billed" in lost["reason"]
    assert "may have been billed" in done.err
    assert shop(*RUN).code == 3
    assert batched(service) == [3]
    assert shop("retry", *RUN[1:]).code == 0
    assert batched(service) == [3, 1]


@pytest.mark.parametrize(
    ("code", "body"), [(502, b"<html>Bad gateway</html>"), (200, b"<html>Hello</html>"), (200, b'{"candidates": [')]
)
def test_an_answer_that_is_none_is_no_answer(shop, service, proxy, code, body):
    proxy.after = each_call(lambda call, _number: call.say(body, code))
    assert shop(*PROOF, "--keep", "-n", "1").code == 3
    [told] = shop.records().values()
    assert told["status"] == "missing"
    assert "without the API's own words" in told["reason"]
    assert calls(service) == 1


def test_what_the_service_says_it_could_not_do_failed(shop, service, proxy):
    proxy.before = each_call(lambda call, _number: refused(call, 500, "INTERNAL", "An internal error."))
    assert shop(*PROOF, "--keep", "-n", "1").code == 3
    [told] = shop.records().values()
    assert (told["status"], told["reason"]) == ("failed", "code 500: An internal error.")
    assert calls(service) == 0
    assert shop(*RUN).code == 0, "it may pass by itself, so the job's `retry` has it asked again"


def test_an_answer_in_another_shape_is_read(shop, service, proxy):
    proxy.after = each_call(lambda call, _number: call.say(json.dumps(call.json, indent=2).encode()))
    assert shop(*PROOF).code == 0
    assert {told["status"] for told in proofs(shop).values()} == {"done"}
    assert calls(service) == 3


def test_a_wrong_key_stops_at_once_and_nothing_is_taken(shop, service, proxy):
    message = f"API key not valid: {KEY}."
    proxy.before = each_call(lambda call, _number: refused(call, 400, "INVALID_ARGUMENT", message))
    done = shop(*PROOF, "--keep", "-n", "6")
    assert done.code == 6
    assert len(generated(proxy)) <= 4
    assert KEY not in done.err
    assert all(KEY.encode() not in path.read_bytes() for path in shop.outputs.rglob("*") if path.is_file())
    proxy.before = lambda _call: None
    assert shop(*RUN).code == 0
    assert batched(service) == [6]
    assert {told["attempt"] for told in shop.records().values()} == {1}


def test_a_service_that_cannot_be_reached_costs_no_attempt(shop, service, monkeypatch):
    with proxying(service.url) as (url, _proxy):
        pass
    monkeypatch.setenv("GOOGLE_GEMINI_BASE_URL", url)
    done = shop(*PROOF, "--keep")
    assert done.code == 4
    assert "nothing was sent" in done.err
    monkeypatch.setenv("GOOGLE_GEMINI_BASE_URL", service.url)
    assert shop(*RUN).code == 0
    assert {told["attempt"] for told in shop.records().values()} == {1}


@pytest.mark.parametrize("is_waiting", [False, True])
def test_interrupted_it_keeps_what_is_being_drawn(shop, service, proxy, is_waiting):
    together = threading.Barrier(4)

    def rule(_call, number):
        if is_waiting and number <= 4:  # for the first answer: none is let go of before all are asked for
            together.wait()
        if number == 4:
            os.kill(os.getpid(), signal.SIGINT)

    proxy.before = each_call(rule)
    done = shop(*PROOF, "-n", "6")
    assert done.code == 130
    paid = calls(service)
    assert 4 <= paid < 6
    assert len(done.out.splitlines()) == paid
    proxy.before = lambda _call: None
    assert shop(*PROOF, "-n", "6").code == 0
    assert calls(service) == 6


# ------------------------------------------------------------------------------------------------ killed


def killed(shop, *words, at="", log=""):
    """The exit code of a command; -9 when it was killed."""
    return shop.forked(*words, at=at, log=str(log), PIPELINE_SETTLE="0", PIPELINE_PATIENCE="0")


def test_killed_with_the_answer_on_disk_the_next_run_has_it(shop, service):
    assert killed(shop, *PROOF, "--keep", "-n", "1", at="replace:after:3") == -9
    assert calls(service) == 1
    assert len(list((shop.outputs / ".pipeline/answers/shop").iterdir())) == 1
    assert not list((shop.outputs / "shop").rglob("*.jpg")), "it was killed before the record"
    assert shop(*RUN).code == 0
    assert (calls(service), batched(service)) == (1, [5])
    assert [told["lane"] for told in shop.records().values()].count("interactive") == 1
    assert spent(shop) == sum(Decimal(told["cost"]["amount"]) for told in shop.records().values())


def test_killed_before_the_answer_was_here_it_counts_as_an_attempt(shop, service):
    shop.write("jobs/shop.yaml", SHOP + "retry: 0\n")
    assert killed(shop, *PROOF, "--keep", "-n", "1", at="generate:after:1") == -9
    assert calls(service) == 1
    assert shop("--service", "local", *RUN).code == 5, "it was paid for"
    assert shop("collect", "jobs/shop.yaml").code == 3
    [told] = [told for told in shop.records().values() if told["status"] == "missing"]
    assert (told["attempt"], told["lane"]) == (1, "interactive")
    assert "may have been billed" in told["reason"]
    assert shop(*RUN).code == 3
    assert (calls(service), batched(service)) == (1, [5])


@pytest.mark.parametrize("each", [15, pytest.param(2, marks=pytest.mark.torture)])
def test_killed_at_any_point_the_next_proof_pays_for_nothing_twice(shop, service, tmp_path, each):
    log = tmp_path / "points.log"
    assert killed(shop, "--outputs", str(tmp_path / "clean"), *PROOF, "-n", "1", log=log) == 0
    points = log.read_text().split()
    after = points[points.index("generate:before:1") - 2 :]
    for number, point in enumerate(after[::each]):
        outputs, before = str(tmp_path / f"outputs-{number}"), calls(service)
        assert killed(shop, "--outputs", outputs, *PROOF, "-n", "1", at=point) == -9, point
        paid = calls(service) - before
        is_here = any((Path(outputs) / ".pipeline/answers/shop").glob("*.jsonl"))
        done = shop("--outputs", outputs, *PROOF, "-n", "1")
        assert (done.code, len(done.out.splitlines())) == (0, 1), (point, done.err)
        assert calls(service) - before == paid + (not is_here), point
