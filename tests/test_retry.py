"""Retries, by themselves and by a person: what is asked again, how, how often, and never once more than that."""

from __future__ import annotations

import contextlib
import json
import shutil
import sqlite3

import pytest
from conftest import KEY, PRODUCTS, Service
from jobs import TODAY, FakeModels, expanded

from pipeline import local
from pipeline.errors import JobError, UsageError
from pipeline.job.change import Change, Changing, as_recorded
from pipeline.record import draft, dumps

RUN = ("run", "jobs/shop.yaml", "--poll", "0.02s")
RETRY = ("retry", "jobs/shop.yaml", "--poll", "0.02s")
SHOP = """\
prompt: Studio photo of a [product] on white marble.
items: products.csv
size: 2K
"""
BLOCKED_MUG = "- {on: line, do: block, key: 'mug*'}\n"
BLOCKED_ONCE = "- {on: line, do: block, key: 'mug*', times: 1}\n"


@pytest.fixture
def troubled(project, tmp_path_factory, monkeypatch):
    """Call it with a faults file, and with more of the manifest: the shop before a service with that trouble."""
    with contextlib.ExitStack() as stack:

        def opened(faults, more="", products=PRODUCTS, folder=None):
            path = project.write("faults.yaml", faults)
            state = folder or tmp_path_factory.mktemp("service")
            url = stack.enter_context(local.serving(state, latency_s=0.0, pictures="plain", faults=path))
            project.write("jobs/shop.yaml", SHOP + more)
            project.write("jobs/products.csv", products)
            monkeypatch.setenv("GEMINI_API_KEY", KEY)
            monkeypatch.setenv("GOOGLE_GEMINI_BASE_URL", url)
            return project, Service(url)

        yield opened


def bought(service):
    """How many requests each batch had that the service accepted."""
    return [entry["requests"] for entry in service.ledger()]


def of(project, key="mug"):
    """The record of a key, as far as it says what was asked and what came of it."""
    record = project.records()[key]
    sizes = [(file["width"], file["height"]) for file in record["files"]]
    return record["status"], record["settings"]["size"], record["attempt"], sizes


# ------------------------------------------------------------------------------------------- retry --set


def test_what_is_opened_again_is_asked_with_the_setting_of_the_call_and_never_bought_again(troubled):
    shop, service = troubled(BLOCKED_ONCE, products=PRODUCTS.replace("vase,glass vase\n", ""))
    assert shop(*RUN).code == 3
    fingerprint = shop.records()["mug"]["fingerprint"]
    shop.write("jobs/products.csv", PRODUCTS)
    assert shop(*RETRY, "--only", "blocked", "--set", "size=1K").code == 0
    assert of(shop) == ("done", "1K", 2, [(1024, 1024)])
    assert of(shop, "vase") == ("done", "2K", 1, [(2048, 2048)]), "a new row is asked as the manifest says"
    assert shop.records()["mug"]["fingerprint"] == fingerprint
    assert shop("plan", "jobs", "--detailed-exitcode").code == 0
    assert shop("verify", "jobs/shop.yaml").code == 0
    assert shop(*RUN).code == 0
    shutil.rmtree(shop.outputs / ".pipeline")  # a fresh clone
    before = shop.tree()
    assert shop(*RUN).code == 0
    assert shop.tree() == before
    assert bought(service) == [2, 2]
    shop.write("jobs/shop.yaml", SHOP.replace("white", "black"))
    assert shop(*RUN).code == 0
    assert of(shop) == ("done", "2K", 1, [(2048, 2048)]), "another ask of the manifest is another ask"


def test_show_and_plan_say_what_was_asked_in_place_of_what_the_job_says(troubled):
    shop, _service = troubled(BLOCKED_ONCE)
    shop(*RUN)
    assert shop(*RETRY, "--only", "blocked", "--set", "size=1K", "--set", "model=pro").code == 0
    text = shop("show", "mug").out
    assert "size  1K   ← retry --set; the job says 2K\n" in text
    assert "model  pro → gemini-3-pro-image   ← retry --set; the job says flash\n" in text
    assert shop("show", "mug", "--json").json["provenance"] == {
        "size": "retry --set", "model": "retry --set", "prompt": "jobs/shop.yaml:1",
    }  # fmt: skip
    why = "asked by retry --set: model flash → pro, size 2K → 1K"
    assert f"done  mug → mug: {why}\n" in shop("plan", "jobs", "--show", "mug").out
    items = shop("plan", "jobs", "--show", "mug", "--json").json["jobs"][0]["items"]
    assert {item["key"]: item["why"] for item in items} == {"mug": why, "bowl": None, "vase": None}
    assert "retry --set" not in shop("show", "bowl").out


def test_the_plan_and_the_money_are_those_of_what_is_asked(troubled):
    shop, service = troubled(BLOCKED_MUG, "budget: {max: 9, per_image: 0.03}\n")
    assert shop(*RUN).code == 3
    ended = shop(*RETRY, "--only", "blocked", "--set", "size=4K")
    assert ended.code == 5
    assert "budget.per_image" in ended.err
    assert bought(service) == [3]
    assert shop(*RETRY, "--only", "blocked", "--set", "size=1K", "--max-cost", "0.02").code == 3


def test_the_journal_notes_who_opened_what_and_how(troubled):
    shop, _service = troubled(BLOCKED_ONCE)
    shop(*RUN)
    shop(*RETRY, "--only", "blocked", "--set", "safety.harassment=off", "--set", "search=true")
    with contextlib.closing(sqlite3.connect(shop.outputs / ".pipeline/journal.db")) as db:
        [[detail]] = db.execute("SELECT detail FROM event WHERE kind = 'retry'").fetchall()
    said = {"safety": {"harassment": "off"}, "search": ["web"]}
    assert json.loads(detail) == {"only": ["blocked"], "set": said}
    settings = shop.records()["mug"]["settings"]
    assert settings["safety"] == said["safety"]
    assert settings["response"] == ["text", "image"]
    assert shop("show", "mug").code == 0


def test_a_transient_failure_of_it_is_asked_again_by_itself_with_the_same_setting(troubled):
    shop, service = troubled(BLOCKED_ONCE + "- {on: line, do: error, code: 13, key: 'mug*', after: 1, times: 1}\n")
    assert shop(*RUN).code == 3
    assert shop(*RETRY, "--only", "blocked", "--set", "size=1K").code == 0
    assert of(shop) == ("done", "1K", 3, [(1024, 1024)])
    assert bought(service) == [3, 1, 1]


def test_a_later_call_that_opens_it_again_asks_as_the_manifest_says(troubled):
    shop, _service = troubled("- {on: line, do: block, key: 'mug*', times: 2}\n")
    shop(*RUN)
    assert shop(*RETRY, "--only", "blocked", "--set", "size=1K").code == 3
    assert of(shop)[:2] == ("blocked", "1K")
    assert shop(*RETRY).code == 0
    assert of(shop) == ("done", "2K", 3, [(2048, 2048)])


def test_what_it_had_opened_and_never_sent_goes_on_with_its_setting(troubled):
    refused = "- {on: batches.create, do: refuse, code: 429, retry_after: 900, after: 1, times: 1}\n"
    shop, service = troubled(BLOCKED_ONCE + refused)
    shop(*RUN)
    assert shop(*RETRY, "--only", "blocked", "--set", "size=1K", "--set", "seed=7", "--wait", "0").code == 4
    assert of(shop)[:2] == ("pending", "1K")
    assert shop(*RUN, "--max-cost", "0.02").code == 0, "that is the price of 1K"
    assert of(shop) == ("done", "1K", 2, [(1024, 1024)])
    assert shop.records()["mug"]["settings"]["seed"] == 7
    assert bought(service) == [3, 1]


def test_done_images_can_be_asked_for_otherwise_too_and_make_room(troubled):
    shop, service = troubled("[]\n")
    shop(*RUN)
    before = shop.tree()["mug.jpg"][0]
    only = ("--select", "key:mug")
    assert shop(*RETRY, *only, "--only", "done", "--set", "aspect=16:9").code == 0
    assert shop.records()["mug"]["settings"] == {"aspect": "16:9", "size": "2K"}
    assert shop.tree()["mug.jpg"][0] != before
    assert [path.read_bytes() for path in (shop.outputs / ".pipeline/retired/shop").rglob("*.jpg")] == [before]
    assert shop(*RUN).code == 0
    assert bought(service) == [3, 1]


def test_what_is_open_for_another_reason_is_asked_as_the_manifest_says(troubled):
    shop, service = troubled(BLOCKED_ONCE + "- {on: line, do: error, code: 13, key: 'bowl*', times: 1}\n", "retry: 0\n")
    shop(*RUN)
    shop.write("jobs/shop.yaml", SHOP + "retry: 1\n")
    assert shop(*RETRY, "--only", "blocked", "--set", "size=1K").code == 0
    assert (of(shop)[:2], of(shop, "bowl")[:2]) == (("done", "1K"), ("done", "2K"))
    assert bought(service) == [3, 2]


@pytest.mark.parametrize(
    ("texts", "message", "hint"),
    [
        (["size=8K"], "--set size: 'size' is 512, 1K, 2K or 4K, not '8K'", ""),
        (["size=1k"], "--set size: 'size' is 512, 1K, 2K or 4K, not '1k'; did you mean '1K'?", ""),
        (["siez=1K"], "--set siez=1K: 'siez' is no setting; did you mean 'size'?", "one of system, model, aspect,"),
        (["resolution=1K"], "--set resolution=1K: 'resolution' is no setting; here it is called 'size'", "one of "),
        (["size"], "--set 'size' says no value", "such as --set size=1K"),
        (["size= "], "--set size: the value is empty", "such as --set size=1K"),
        (["size=1K", "size=2K"], "--set: 'size' is there twice", "one value for each"),
        (["safety.jailbreak=off"] * 2, "--set: 'safety.jailbreak' is there twice", "one value for each"),
        (["size=1K,aspect=4:5"], "--set size: 'size' is 512, 1K, 2K or 4K, not '1K,asp", "say --set once for each"),
        (["prompt=a fox"], "--set prompt=a fox: 'prompt' is not how an image is asked for", "change it in the man"),
        (["samples=2"], "--set samples=2: 'samples' is not how an image is asked for", "change it in the manifest: "),
        (["max_age=1d"], "--set max_age=1d: 'max_age' is not how an image is asked for", "write it into the manife"),
        (["skip=true"], "--set skip=true: 'skip' is not how an image is asked for", "to leave images out say --exc"),
        (["safety=off"], "--set safety=off: 'safety' has several filters", "name one filter: --set safety.dangerous_"),
        (["safety.danger=off"], "--set safety.danger: 'safety.danger' is no filter of the service", "such as --set "),
        (["size.large=1K"], "--set size.large=1K: 'size' has one value", "write size="),
        (["system=in [light]"], "--set system: 'system' is one text for all, without placeholders", "write [[word]]"),
        (["seed=many"], "--set seed: 'seed' is a whole number, not a text: 'many'", ""),
        (["response=[text, video]"], "--set response: 'response[2]' is text or image, not 'video'", ""),
        (["system=\udcff"], "--set 'system=\\udcff' is no text", "write it in UTF-8"),
        (["system=AIza" + "0" * 35], "--set system: holds an API key", "revoke it, and set GEMINI_API_KEY"),
    ],
)
def test_a_setting_that_is_none_is_refused_with_what_to_type(texts, message, hint):
    with pytest.raises(UsageError) as caught:
        Change.of(texts)
    assert str(caught.value).startswith(message)
    assert caught.value.hint.startswith(hint)
    assert bool(caught.value.hint) == bool(hint)
    assert caught.value.exit_code == 2


@pytest.fixture
def rendered(troubled):
    """The shop, all of it rendered."""
    shop, service = troubled("[]\n")
    assert shop(*RUN).code == 0
    return shop, service


def test_what_the_model_lacks_is_refused_before_anything_is_sent(rendered):
    shop, service = rendered
    for words, complaint in (
        (["size=8K"], "error: --set size: 'size' is 512, 1K, 2K or 4K, not '8K'"),
        (["aspect=9:9"], "--set aspect=9:9: error: gemini-nano-banana-2.1 has no aspect '9:9'; write '1:1'"),
        (["model=pro", "size=512"], "--set size=512: error: gemini-3-pro-image has no size '512', and 'mug' is to"),
        (["model=lite"], "--set model=lite: error: gemini-3.1-flash-lite-image has no size '2K', and 'mug' is"),
        (["thinking=low"], "has no level of thinking 'low', and 'mug' is to be asked so\n  hint: its levels: "),
    ):
        ended = shop(*RETRY, "--only", "done", *(word for text in words for word in ("--set", text)))
        assert ended.code == 2, ended.err
        assert complaint in ended.err
        assert ended.err.count("error: ") == 1, "once for all images"
    assert "warning: --set changes nothing: no image is opened again\n" in shop(*RETRY, "--set", "size=1K").err
    for verb in ("run", "submit", "collect", "cancel"):
        ended = shop(verb, "jobs/shop.yaml", "--set", "size=1K")
        assert (ended.code, f"`pipeline {verb}` takes no --set" in ended.err) == (2, True)
    assert bought(service) == [3]


JOB = """\
prompt: a fox
seed: 2147483646
safety: {harassment: off, jailbreak: block_none}
samples: 2
"""
TURNS = "turns: [a fox, now blue]\n"


def asked_otherwise(requests, *texts):
    """The requests with other settings, and what is wrong with them."""
    changing = Changing(Change.of(texts), FakeModels(), TODAY, lambda _problem: None)
    changed = [changing.changed(request) for request in requests]
    try:
        changing.check()
    except JobError as error:
        return changed, [f"{problem.file}: {problem.message}" for problem in error.problems]
    return changed, []


def test_an_ask_with_other_settings_keeps_its_identity_and_is_read_back_from_its_record(tmp_path):
    requests = expanded(tmp_path, JOB)
    texts = ("seed=5", "size=2K", "safety.harassment=block_none", "search=true", "response=image", "top_p=0.5")
    changed, wrong = asked_otherwise(requests, *texts, "model=other", "system=in [[brackets]]")
    assert wrong == []
    assert [request.ask.settings()["seed"] for request in changed] == [5, 6]
    assert changed[1].ask.settings()["safety"] == {"harassment": "block_none", "jailbreak": "block_none"}
    assert changed[1].ask.settings()["system"] == "in [brackets]"
    assert [r.fingerprint for r in changed] == [r.fingerprint for r in requests]
    for request, other in zip(requests, changed, strict=True):
        told = json.loads(dumps(draft(other, model_id="m", service="local")))
        again = as_recorded(request, told)
        assert (again.ask.model, again.ask.settings()) == ("other", other.ask.settings())
        assert again.ask.prompt == request.ask.prompt


@pytest.mark.parametrize(
    "settings", [{"seed": "x"}, {"safety": {"evil": 1}}, {"size": 7}, {"prompt": "a"}, {"search": {}}]
)
def test_a_record_that_no_setting_can_be_read_from_changes_nothing(tmp_path, settings):
    [request] = expanded(tmp_path, "prompt: a fox\n")
    told = {"model": "flash", "settings": {"aspect": "1:1", "size": "2K", **settings}}
    assert as_recorded(request, told) is request


def test_samples_count_up_from_a_seed_that_leaves_room(tmp_path):
    _changed, wrong = asked_otherwise(expanded(tmp_path, JOB), "seed=2147483647")
    too_large = "seed 2147483648 is too large: the samples count up from it, and 'job/s2' is to be asked so"
    assert wrong == [f"--set seed=2147483647: {too_large}"]


def test_a_conversation_keeps_its_model(tmp_path):
    requests = expanded(tmp_path, TURNS)
    assert asked_otherwise(requests, "size=2K", "model=flash")[1] == []
    _changed, [wrong] = asked_otherwise(requests, "model=picture-2")
    assert wrong.startswith("--set model=picture-2: a conversation keeps its model")
    assert "'job/t1'" in wrong


def test_a_model_that_is_gone_is_told_of_once(tmp_path):
    _changed, wrong = asked_otherwise(expanded(tmp_path, JOB), "model=old")
    assert wrong == ["--set model=old: model 'old' was shut down on 2026-01-01"]


# -------------------------------------------------------------------------------------------- by themselves

MUG = "- {{on: line, do: {}, key: 'mug*'}}\n".format


@pytest.mark.parametrize(
    ("faults", "more", "batches", "status", "code"),
    [
        pytest.param(MUG("error, code: 13"), "", [3, 1, 1], "failed", 3, id="a passing error, twice more"),
        pytest.param(MUG("error, code: 13"), "retry: 0\n", [3], "failed", 3, id="retry: 0"),
        pytest.param(MUG("error, code: 3"), "", [3], "failed", 3, id="an error that stays"),
        pytest.param(MUG("no_image"), "retry: 1\n", [3, 1], "no_image", 3, id="no image"),
        pytest.param(MUG("missing"), "retry: 1\n", [3, 1], "missing", 3, id="no answer"),
        pytest.param(MUG("corrupt"), "retry: 1\n", [3, 1], "invalid", 3, id="no whole image"),
        pytest.param(MUG("block"), "", [3], "blocked", 3, id="blocked"),
        pytest.param(MUG("block"), "retry: {again: 1, on: [blocked]}\n", [3, 1], "blocked", 3, id="blocked, listed"),
        pytest.param(MUG("error, code: 13"), "retry: {on: [blocked]}\n", [3], "failed", 3, id="failed, not listed"),
        pytest.param(MUG("wrong_size"), "", [3], "check", 3, id="check"),
        pytest.param(MUG("wrong_size"), "retry: {again: 1, on: [check]}\n", [3, 1], "check", 3, id="check, listed"),
        pytest.param("- {on: batch, do: cancel}\n", "", [3], "cancelled", 3, id="cancelled"),
        pytest.param(
            "- {on: batch, do: cancel}\n", "retry: {again: 1, on: [cancelled]}\n", [3, 3], "cancelled", 3,
            id="cancelled, listed",
        ),
        pytest.param("- {on: batch, do: expire}\n", "retry: 5\n", [3, 3], "held", 6, id="a batch expires once more"),
    ],
)  # fmt: skip
@pytest.mark.some("a passing error, twice more", "blocked, listed", "a batch expires once more")
def test_no_cron_line_multiplies_the_retries(troubled, faults, more, batches, status, code):
    shop, service = troubled(faults, more)
    for night in range(3):
        assert shop(*RUN).code == code
        assert bought(service) == batches
        assert shop.records()["mug"]["status"] == status
        if night == 1:  # what the output manifest says is enough
            shutil.rmtree(shop.outputs / ".pipeline")
    assert shop.records()["mug"]["attempt"] == len(batches)
    assert shop("plan", "jobs", "--detailed-exitcode").code == 0


@pytest.mark.parametrize("what", ["journal", "output manifest", "neither"])
@pytest.mark.some("neither")
def test_a_batch_that_expired_is_asked_again_once_whichever_memory_is_left(troubled, what):
    shop, service = troubled("- {on: batch, do: expire, times: 2}\n", "retry: 5\n")
    shop("submit", "jobs/shop.yaml")
    service.advance(1)  # its answers are drawn
    shop("collect", "jobs/shop.yaml")
    assert shop.records()["mug"]["status"] == "expired"
    if what == "journal":
        (shop.outputs / "shop/manifest.jsonl").unlink()
    elif what == "output manifest":
        shutil.rmtree(shop.outputs / ".pipeline")
    assert shop(*RUN).code == 6
    assert bought(service) == [3, 3]


def test_the_journal_knows_the_count_without_the_output_manifest(troubled):
    shop, service = troubled(MUG("error, code: 13"), "retry: 1\n")
    shop(*RUN)
    (shop.outputs / "shop/manifest.jsonl").unlink()
    assert shop(*RUN).code == 3
    assert bought(service) == [3, 1]
    assert shop.records()["mug"]["attempt"] == 2


def test_the_count_goes_on_when_a_job_lists_more_or_less(troubled):
    shop, service = troubled(MUG("error, code: 13"), "retry: 1\n")
    shop(*RUN)
    assert bought(service) == [3, 1]
    shop.write("jobs/shop.yaml", SHOP + "retry: 3\n")
    shop(*RUN)
    assert bought(service) == [3, 1, 1, 1]
    shop.write("jobs/shop.yaml", SHOP.replace("white", "black") + "retry: 3\n")
    shop(*RUN)
    assert bought(service) == [3, 1, 1, 1, 3, 1, 1, 1], "a changed ask has retries of its own"


def test_a_person_opens_again_what_is_used_up_and_its_retries_with_it(troubled):
    shop, service = troubled(MUG("error, code: 13"), "retry: 1\n")
    shop(*RUN)
    assert shop(*RETRY).code == 3
    assert bought(service) == [3, 1, 1, 1]
    assert shop(*RUN).code == 3
    assert bought(service) == [3, 1, 1, 1]


def renamed(shop):
    shop.write("jobs/products.csv", PRODUCTS.replace("mug,", "cup,"))
    return "cup"


def with_an_axis(shop):
    shop.write("jobs/shop.yaml", (shop.folder / "jobs/shop.yaml").read_text() + "matrix: {aspect: [1:1]}\n")
    return "mug/1:1"


def with_samples(shop):
    shop.write("jobs/shop.yaml", (shop.folder / "jobs/shop.yaml").read_text() + "samples: 2\n")
    return "mug/s1"


@pytest.mark.parametrize(
    ("change", "fault", "more", "attempts"),
    [
        pytest.param(renamed, "block", "", 1, id="renamed"),
        pytest.param(renamed, "error, code: 13", "retry: 1\n", 2, id="renamed after retries"),
        pytest.param(with_an_axis, "block", "", 1, id="with an axis"),
        pytest.param(with_samples, "block", "", 1, id="with samples"),
    ],
)
@pytest.mark.some(1)
def test_a_failure_keeps_its_count_under_another_key(troubled, change, fault, more, attempts):
    shop, service = troubled(MUG(fault), more)
    assert shop(*RUN).code == 3
    before, sent = shop.records()["mug"], sum(bought(service))
    key = change(shop)
    listed = {item["key"]: item for item in shop("plan", "jobs", "--json").json["jobs"][0]["items"]}[key]
    assert (listed["state"], listed["cost"]) == ("failed", "0")
    assert listed["why"] == f"{before['status']}: {before['reason']} (as mug)"
    assert shop(*RUN).code == 3
    shop(*RUN)
    record = shop.records()[key]
    assert (record["status"], record["attempt"], record["reason"]) == (before["status"], attempts, before["reason"])
    assert "mug" not in shop.records()
    expected = {"mug/s1": 3 + attempts - 1}.get(key, 0)  # the second samples, of which the mug's fails as before
    assert sum(bought(service)) - sent == expected
    [*tries] = shop("show", key, "--json").json["attempts"]
    assert len(tries) == attempts


def test_a_renamed_failure_with_retries_left_uses_them_up(troubled):
    shop, service = troubled("- {on: line, do: error, code: 13, key: '*'}\n", "retry: 0\n")
    shop(*RUN)
    renamed(shop)
    shop.write("jobs/shop.yaml", SHOP + "retry: 1\n")
    plan = shop("plan", "jobs", "--json").json["jobs"][0]
    assert plan["requests"] == 3
    assert shop(*RUN).code == 3
    assert shop.records()["cup"]["attempt"] == 2
    assert bought(service) == [3, 3]


def test_a_renamed_failure_is_opened_again_by_a_person_with_a_setting_too(troubled):
    shop, service = troubled(BLOCKED_ONCE)
    shop(*RUN)
    renamed(shop)
    assert shop(*RETRY, "--only", "blocked", "--set", "size=1K").code == 0
    assert of(shop, "cup") == ("done", "1K", 2, [(1024, 1024)])
    assert bought(service) == [3, 1]


def test_what_failed_in_a_rehearsal_is_asked_for_at_the_service(troubled, monkeypatch):
    shop, service = troubled("[]\n")
    monkeypatch.setenv("PIPELINE_LOCAL_FAULTS", str(shop.write("rehearsed.yaml", BLOCKED_MUG)))
    monkeypatch.setenv("PIPELINE_LOCAL_LATENCY", "0s")
    monkeypatch.setenv("PIPELINE_LOCAL_PICTURES", "plain")
    assert shop("--service", "local", *RUN).code == 3
    assert shop(*RUN).code == 0
    assert bought(service) == [3]


def test_what_waits_to_be_asked_again_keeps_its_count_under_another_key(troubled):
    refused = "- {on: batches.create, do: refuse, code: 429, retry_after: 900, after: 1, times: 1}\n"
    shop, service = troubled("- {on: line, do: error, code: 13, key: '*'}\n" + refused, "retry: 1\n")
    shop("submit", "jobs/shop.yaml")
    service.advance(1)
    shop("submit", "jobs/shop.yaml")
    assert bought(service) == [3]
    assert shop.records()["mug"]["status"] == "pending"
    renamed(shop)
    assert shop(*RUN).code == 3
    assert bought(service) == [3, 3]
    assert shop.records()["cup"]["attempt"] == 2


def test_what_a_person_must_decide_waits_for_that_under_another_key(troubled):
    shop, service = troubled("- {on: batch, do: expire}\n", "retry: 5\n")
    assert shop(*RUN).code == 6
    renamed(shop)
    assert shop(*RUN).code == 6
    assert shop.records()["cup"]["status"] == "held"
    assert bought(service) == [3, 3]


@pytest.fixture
def blocked(troubled):
    """The shop, rendered, and the image of the mug asked for once more, which was refused: the first one is there."""
    shop, service = troubled("- {on: line, do: block, key: 'mug*', after: 1}\n")
    shop(*RUN)
    assert shop(*RETRY, "--only", "done", "--select", "key:mug").code == 3
    assert (of(shop)[0], shop.tree().keys() >= {"mug.jpg"}) == ("blocked", True)
    return shop, service


@pytest.mark.some(1)
@pytest.mark.parametrize("at", ["", "commit:after:5"], ids=["", "killed"])
def test_the_image_from_before_a_failure_moves_along(blocked, at):
    shop, service = blocked
    before = shop.tree()["mug.jpg"][0]
    shop.write("jobs/products.csv", PRODUCTS.replace("mug,", "cup,") + "mug,green mug\n")
    if at:
        assert shop.forked(*RUN, at=at) == -9
    assert shop(*RUN).code == 3
    assert of(shop, "cup")[0] == "blocked"
    assert [file["path"] for file in shop.records()["cup"]["files"]] == ["cup.jpg"]
    assert shop.tree()["cup.jpg"][0] == before
    assert shop.records()["mug"]["prompt"] == "Studio photo of a green mug on white marble."
    assert bought(service) == [3, 1, 1]
    assert shop("verify", "jobs/shop.yaml").code == 0


def test_it_follows_another_path_too(blocked):
    shop, service = blocked
    before = shop.tree()["mug.jpg"][0]
    shop.write("jobs/shop.yaml", SHOP + "output: {path: 'all/[id]'}\n")
    assert shop(*RUN).code == 3
    assert shop.tree()["all/mug.jpg"][0] == before
    assert "mug.jpg" not in shop.tree()
    assert shop("verify", "jobs/shop.yaml").code == 0
    tree = shop.tree()
    assert shop(*RUN).code == 3
    assert shop.tree() == tree
    assert bought(service) == [3, 1]


# ------------------------------------------------------------------------------------------------- check


def test_an_image_to_be_looked_at_that_is_asked_again_by_itself_is_in_the_plan_and_counted(troubled):
    shop, service = troubled("- {on: line, do: wrong_size, key: 'mug*'}\n", "retry: 0\n")
    shop(*RUN)
    shop.write("jobs/shop.yaml", SHOP + "retry: {again: 1, on: [check]}\n")
    plan = shop("plan", "jobs", "--json").json["jobs"][0]
    assert [(item["key"], item["why"]) for item in plan["items"]] == [("mug", "was check: asked again")]
    for _night in range(3):
        assert shop(*RUN).code == 3
        assert bought(service) == [3, 1]


def test_an_image_of_the_wrong_size_is_kept_to_be_looked_at_and_asked_again_only_by_a_person(troubled):
    shop, service = troubled("- {on: line, do: wrong_size, key: 'mug*', times: 1}\n")
    assert shop(*RUN).code == 3
    record = shop.records()["mug"]
    assert (record["status"], record["reason"]) == ("check", "is 1024x1024, not 2048x2048 as asked")
    assert shop(*RUN).code == 3
    assert bought(service) == [3]
    assert shop(*RETRY, "--only", "blocked").code == 3
    assert bought(service) == [3]
    assert shop(*RETRY, "--only", "check").code == 0
    assert of(shop) == ("done", "2K", 2, [(2048, 2048)])
    assert bought(service) == [3, 1]
