"""Retries, by themselves and by a person: what is asked again, how, how often, and never once more than that."""

from __future__ import annotations

import contextlib
import json
import shutil
import sqlite3

import pytest
from conftest import KEY, PRODUCTS, Service

from pipeline import local

RUN = ("run", "jobs/shop.yaml", "--poll", "0.1s")
RETRY = ("retry", "jobs/shop.yaml", "--poll", "0.1s")
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


@pytest.fixture
def rendered(troubled):
    """The shop, all of it rendered."""
    shop, service = troubled("[]\n")
    assert shop(*RUN).code == 0
    return shop, service


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


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (["size=8K"], "error: --set size: 'size' is 512, 1K, 2K or 4K, not '8K'"),
        (["size=1k"], "did you mean '1K'?"),
        (["siez=1K"], "error: --set siez=1K: 'siez' is no setting; did you mean 'size'?"),
        (["resolution=1K"], "'resolution' is no setting; here it is called 'size'"),
        (["size"], "error: --set 'size' says no value"),
        (["size= "], "error: --set size: the value is empty"),
        (["size=1K", "size=2K"], "error: --set: 'size' is there twice"),
        (["size=1K,aspect=4:5"], "hint: say --set once for each setting"),
        (["prompt=a fox"], "error: --set prompt=a fox: 'prompt' is not how an image is asked for"),
        (["samples=2"], "hint: change it in the manifest"),
        (["skip=true"], "hint: to leave images out say --exclude"),
        (["safety=off"], "hint: name one filter: --set safety.dangerous_content=block_only_high"),
        (["safety.danger=off"], "'safety.danger' is no filter of the service"),
        (["size.large=1K"], "'size' has one value"),
        (["system=in [light] light"], "hint: write [[word]] for the brackets"),
        (["seed=many"], "'seed' is a whole number, not a text: 'many'"),
        (["response=[text, video]"], "'response[2]' is text or image, not 'video'"),
        (["aspect=9:9"], "--set aspect=9:9: error: gemini-nano-banana-2.1 has no aspect '9:9'; write '1:1'"),
        (["model=pro", "size=512"], "--set size=512: error: gemini-3-pro-image has no size '512', and 'mug' is to"),
        (["model=lite"], "--set model=lite: error: "),
        (["thinking=low"], "has no level of thinking 'low', and 'mug' is to be asked so"),
    ],
)
def test_a_setting_that_is_none_or_that_the_model_lacks_is_refused(rendered, words, complaint):
    shop, service = rendered
    ended = shop(*RETRY, "--only", "done", *(word for text in words for word in ("--set", text)))
    assert ended.code == 2, ended.err
    assert complaint in ended.err
    assert bought(service) == [3]


@pytest.mark.parametrize("verb", ["run", "submit", "collect", "cancel"])
def test_other_verbs_ask_for_what_the_manifest_says(rendered, verb):
    shop, _service = rendered
    ended = shop(verb, "jobs/shop.yaml", "--set", "size=1K")
    assert (ended.code, "takes no --set" in ended.err) == (2, True)
