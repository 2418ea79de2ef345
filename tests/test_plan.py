"""What a plan says of a job: old results, dear images, conversations, and what each takes."""

from __future__ import annotations

import contextlib
import datetime as dt
import json
import shutil
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path

import pytest
from conftest import KEY, SHOP
from PIL import Image
from proxy import proxying

from pipeline import journal as journals
from pipeline import plan, reconcile
from pipeline.gemini import models
from pipeline.gemini.api import Api, Secret
from pipeline.job import ask as asks
from pipeline.job import expand, language
from pipeline.job.ask import Ask
from pipeline.outputs import Tree
from pipeline.plan import Look

RUN = ("run", "jobs/shop.yaml", "--poll", "0.1s")
HOUR = 3600.0
EVENING = dt.datetime(2026, 11, 22, 20, tzinfo=dt.UTC).timestamp()
TODAY = dt.date(2026, 11, 22)
ONE = "prompt: the news of today\nretry: 1\nmax_age: 20h\n"


# Results that grow old


@dataclass
class Clock:
    """The time of a run, which a test sets."""

    now: float = EVENING

    def time(self):
        return self.now

    def sleep(self, seconds):
        self.now += seconds


class Nightly:
    """A job that is run now and then, each time by a process of its own, on a clock of the test."""

    def __init__(self, project, url) -> None:
        self.project, self.url, self.clock = project, url, Clock()
        self.write(ONE)
        self.told: list[str] = []

    def write(self, job):
        self.project.write("jobs/shop.yaml", job)

    @contextlib.contextmanager
    def opened(self, **how):
        state, outputs = self.project.outputs / ".pipeline", self.project.outputs
        job = language.load(self.project.folder / "jobs/shop.yaml", root=self.project.folder)
        with journals.opened(state, outputs=outputs) as journal:
            tree = Tree(outputs, state, job.name, journal)
            requests = expand.expand(job, models=models.load(), today=TODAY, warn=lambda _problem: None)
            wanted = plan.wanted(requests, models.load(), service="gemini", today=TODAY)
            look = Look("gemini", self.clock.now, **how)
            yield job, journal, tree, plan.compare(journal, tree, job, wanted, look)

    def plan(self, **how):
        """State and reason of each request that is not done."""
        with self.opened(**how) as (_job, journal, _tree, _plan):
            return {key: (state, why) for key, state, why, *_rest in journal.wanted.not_done()}

    def run(self, *, hours=0.0, wait_s=60.0):
        """Let some hours pass, then run; returns the status of each request."""
        self.clock.now += hours * HOUR
        with self.opened() as (job, journal, tree, _plan):
            work = reconcile.Work(job, journal, tree, self.project.outputs / ".pipeline", "gemini", None)
            reconcile.apply(work, "gemini")
            api = Api(Secret(KEY), self.url)
            run = reconcile.Run(
                api=api, models=models.load(), service="gemini", state=work.state, clock=self.clock, today=TODAY,
                concurrent=50, settle_s=0.0, tell=lambda kind, **_: self.told.append(kind),
                shielded=contextlib.nullcontext,
            )  # fmt: skip
            for _progress in reconcile.passes(run, [work], wait_s=wait_s, poll_s=0.005):
                pass
            reconcile.finish(work)
            api.close()
        return {key: record["status"] for key, record in self.project.records().items()}


@pytest.fixture
def nightly(project, service):
    return Nightly(project, service.url)


@pytest.fixture
def slow_nightly(project, slow_service):
    return Nightly(project, slow_service.url)


def bought(service):
    return [entry["requests"] for entry in service.ledger()]


def test_a_result_is_renewed_when_it_is_older_and_not_before(nightly, service):
    assert nightly.run() == {"shop": "done"}
    nightly.clock.now += 19.9 * HOUR
    assert nightly.plan() == {}
    nightly.clock.now += HOUR
    assert nightly.plan() == {"shop": ("changed", "older than 20h")}
    assert nightly.run() == {"shop": "done"}
    record = nightly.project.records()["shop"]
    assert (record["at"][:13], record["attempt"]) == ("2026-11-23T16", 2)
    assert nightly.plan() == {}
    assert nightly.run() == {"shop": "done"}
    assert bought(service) == [1, 1]


def test_without_a_limit_nothing_grows_old(nightly, service):
    nightly.write("prompt: the news of today\n")
    nightly.run()
    assert nightly.run(hours=99_999) == {"shop": "done"}
    assert bought(service) == [1]


def test_every_night_is_bought_once(nightly, service):
    for _night in range(4):
        assert nightly.run(hours=24) == {"shop": "done"}
        assert nightly.run(hours=0.1) == {"shop": "done"}
    assert bought(service) == [1, 1, 1, 1]


def test_what_was_looked_up_is_looked_up_anew_each_night_and_each_query_is_paid(nightly, service):
    nightly.write(ONE + "search: [web, image]\n")
    for night in range(1, 4):
        assert nightly.run(hours=21) == {"shop": "done"}
        assert nightly.run(hours=0.5) == {"shop": "done"}
        record = nightly.project.records()["shop"]
        assert (record["grounding"]["queries"], record["attempt"]) == (["the news of today"], night)
    assert bought(service) == [1, 1, 1]
    one = float(record["cost"]["amount"])
    assert one > 2 * 0.014
    [spent] = nightly.project("cost", "--actual", "--json").json["jobs"]
    assert float(spent["amount"]) == pytest.approx(3 * one, rel=0.01)


def test_what_is_being_renewed_is_not_renewed_again(slow_nightly, slow_service):
    nightly = slow_nightly
    assert nightly.run(wait_s=0) == {"shop": "pending"}
    slow_service.advance(21 * HOUR)
    assert nightly.run(hours=1) == {"shop": "done"}
    assert nightly.run(hours=30, wait_s=0) == {"shop": "pending"}
    path = nightly.project.outputs / "shop/shop.jpg"
    assert path.exists(), "the old one stays until the new one is there"
    assert nightly.project.records()["shop"]["files"][0]["path"] == "shop.jpg"
    assert nightly.plan() == {"shop": ("pending", "on its way")}
    assert nightly.run(hours=48, wait_s=0) == {"shop": "pending"}
    slow_service.advance(21 * HOUR)
    assert nightly.run(hours=1) == {"shop": "done"}
    assert bought(slow_service) == [1, 1]


def refused(call):
    """Each answer is an error that may pass."""
    if call.is_download() and call.status == 200:
        replies = [json.loads(line) for line in call.answer.splitlines()]
        lines = [{"key": one["key"], "error": {"code": 13, "message": "internal"}} for one in replies]
        call.say("\n".join(json.dumps(line) for line in lines).encode() + b"\n")


def test_a_renewal_that_fails_is_retried_and_then_waits_for_its_next_turn(nightly, service):
    """Retries are counted anew for each renewal, and a failure counts as the result of its night."""
    assert nightly.run() == {"shop": "done"}
    first = nightly.project.tree()["shop.jpg"]
    with proxying(service.url) as (nightly.url, proxy):
        proxy.after = refused
        assert nightly.run(hours=24) == {"shop": "failed"}
        assert bought(service) == [1, 1, 1], "asked, and asked again once: retry 1"
        assert nightly.project.tree()["shop.jpg"] == first
        record = nightly.project.records()["shop"]
        assert [file["path"] for file in record["files"]] == ["shop.jpg"], "the old image is still told of"
        assert nightly.plan()["shop"][0] == "failed"
        for _hour in range(19):
            assert nightly.run(hours=1) == {"shop": "failed"}
        assert bought(service) == [1, 1, 1], "no cron line multiplies it"
        nightly.clock.now += 2 * HOUR
        assert nightly.plan() == {"shop": ("changed", "was failed, more than 20h ago")}
        assert nightly.run() == {"shop": "failed"}
        assert bought(service) == [1, 1, 1, 1, 1]
        proxy.after = lambda _call: None
        assert nightly.run(hours=24) == {"shop": "done"}
    assert bought(service) == [1, 1, 1, 1, 1, 1]


def test_a_renewal_that_was_opened_and_not_sent_is_the_same_one(nightly, service):
    nightly.run()
    nightly.clock.now += 24 * HOUR
    with nightly.opened() as (job, journal, tree, _plan):
        reconcile.apply(reconcile.Work(job, journal, tree, tree.folder.path, "gemini", None), "gemini")
    assert nightly.plan() == {"shop": ("changed", "asked again")}
    assert nightly.run() == {"shop": "done"}
    assert nightly.run() == {"shop": "done"}
    assert bought(service) == [1, 1]


def test_an_edited_image_is_not_renewed(nightly, service):
    nightly.run()
    path = nightly.project.outputs / "shop/shop.jpg"
    Image.new("RGB", (1024, 1024), "red").save(path)
    retouched = path.read_bytes()
    nightly.clock.now += 24 * HOUR
    assert nightly.plan() == {"shop": ("edited", "its file was edited: it stays as it is")}
    nightly.run()
    assert (path.read_bytes(), bought(service)) == (retouched, [1])


def test_an_image_edited_between_opening_and_sending_is_left_alone(nightly, service):
    nightly.run()
    nightly.clock.now += 24 * HOUR
    with nightly.opened() as (job, journal, tree, _plan):
        reconcile.apply(reconcile.Work(job, journal, tree, tree.folder.path, "gemini", None), "gemini")
    path = nightly.project.outputs / "shop/shop.jpg"
    Image.new("RGB", (1024, 1024), "red").save(path)
    retouched = path.read_bytes()
    assert nightly.run() == {"shop": "done"}
    assert (path.read_bytes(), bought(service)) == (retouched, [1])
    assert nightly.plan()["shop"][0] == "edited"


def test_an_image_that_was_renamed_and_is_old_moves_and_is_renewed_at_once(slow_nightly, slow_service):
    nightly = slow_nightly
    nightly.run(wait_s=0)
    slow_service.advance(21 * HOUR)
    nightly.run()
    nightly.write(ONE + 'output: {path: "new/[id]"}\n')
    nightly.clock.now += 24 * HOUR
    assert nightly.plan() == {"shop": ("changed", "older than 20h")}
    assert nightly.run(wait_s=0) == {"shop": "pending"}
    assert [path for path in nightly.project.tree() if path.endswith(".jpg")] == ["new/shop.jpg"]
    slow_service.advance(21 * HOUR)
    assert nightly.run() == {"shop": "done"}
    assert [path for path in nightly.project.tree() if path.endswith(".jpg")] == ["new/shop.jpg"]
    assert bought(slow_service) == [1, 1]
    assert nightly.project("verify").code == 0


def test_an_item_that_was_renamed_and_is_old_takes_its_image_along(nightly, service):
    nightly.write(ONE + "items: [{id: a}]\n")
    nightly.run()
    nightly.write(ONE + "items: [{id: b}]\n")
    assert nightly.run(hours=24) == {"b": "done"}
    assert [path for path in nightly.project.tree() if path.endswith(".jpg")] == ["b.jpg"]
    assert bought(service) == [1, 1]


def test_a_time_that_cannot_be_read_buys_nothing(nightly, service):
    nightly.run()
    manifest = nightly.project.outputs / "shop/manifest.jsonl"
    for at in (None, "yesterday", "9" * 50):
        record = {**json.loads(manifest.read_text()), "at": at}
        manifest.write_text(json.dumps(record) + "\n")
        for path in (nightly.project.outputs / ".pipeline").glob("journal.db*"):
            path.unlink()
        nightly.clock.now += 99 * HOUR
        assert nightly.plan() == {}
    assert bought(service) == [1]


def test_an_old_result_of_a_committed_output_manifest_is_old_in_a_fresh_clone(nightly, service):
    nightly.run()
    service.delete(nightly.project.records()["shop"]["batch"])
    shutil.rmtree(nightly.project.outputs / ".pipeline")
    nightly.clock.now += 24 * HOUR
    assert nightly.plan() == {"shop": ("changed", "older than 20h")}
    assert nightly.run() == {"shop": "done"}
    assert bought(service) == [1, 1]


@pytest.mark.parametrize(
    ("written", "said"),
    [("1s", "1s"), ("5400s", "90m"), ("1.5h", "90m"), ("20h", "20h"), ("1d", "24h"), ("1w", "7d"), ("1.5s", "1.5s")],
)
@pytest.mark.some(3)
def test_an_age_is_said_as_one_would_write_it(nightly, written, said):
    nightly.write(f"prompt: the news of today\nmax_age: {written}\n")
    nightly.run()
    nightly.clock.now += 7 * 24 * HOUR + 1
    assert nightly.plan() == {"shop": ("changed", f"older than {said}")}


def test_some_items_may_grow_old_and_others_not(nightly, service):
    nightly.write(
        "prompt: the news of [town]\nitems: [{town: Bern}, {town: Oslo, set: {max_age: 2d}}, {town: Rome}]\n"
        "overrides: [{when: {town: Bern}, set: {max_age: 1h}}]\n"
    )
    nightly.run()
    assert nightly.run(hours=30) == {"Bern": "done", "Oslo": "done", "Rome": "done"}
    assert bought(service) == [3, 1]
    nightly.clock.now += 30 * HOUR
    assert set(nightly.plan()) == {"Bern", "Oslo"}


@pytest.mark.some(1)
@pytest.mark.parametrize("service_word", ["gemini", "local"])
def test_an_old_result_is_made_anew_by_a_run_without_a_journal(shop, service, service_word):
    """As in a fresh clone: the records alone say how old it is, and the batch that made it must not answer again."""
    words = ("--service", service_word)
    shop.write("jobs/shop.yaml", SHOP + "max_age: 20h\n")
    assert shop(*words, *RUN).code == 0
    manifest = shop.outputs / "shop/manifest.jsonl"
    old = (dt.datetime.now(dt.UTC) - dt.timedelta(hours=21)).strftime("%Y-%m-%dT%H:%M:%SZ")
    records = [{**json.loads(line), "at": old} for line in manifest.read_text().splitlines()[:2]]
    manifest.write_text(
        "".join(json.dumps(record) + "\n" for record in records)
        + "".join(f"{line}\n" for line in manifest.read_text().splitlines()[2:])
    )
    shutil.rmtree(shop.outputs / ".pipeline")
    plan_ = shop(*words, "plan", "--json").json["jobs"][0]
    assert plan_["counts"]["changed"] == plan_["requests"] == 2
    assert {item["why"] for item in plan_["items"]} == {"older than 20h"}
    assert shop(*words, *RUN).code == 0
    assert sorted(record["attempt"] for record in shop.records().values()) == [1, 1, 1, 1, 2, 2]
    assert all(record["at"] > old for record in shop.records().values())
    assert shop(*words, "plan", "--json").json["jobs"][0]["requests"] == 0
    if service_word == "gemini":
        assert bought(service) == [6, 2]


def test_what_is_done_is_made_anew_when_a_person_asks_for_it(shop, service):
    assert shop(*RUN).code == 0
    before = shop.tree()
    again = ("retry", "jobs/shop.yaml", "--only", "done", "--poll", "0.1s", "--select", "id:mug")
    assert shop(*again).code == 0
    assert bought(service) == [6, 2]
    assert shop.tree().keys() == before.keys()
    assert shop("verify").code == 0
    assert shop(*RUN).code == 0
    assert bought(service) == [6, 2]


# Dear images


def test_an_image_over_its_limit_sends_nothing_and_is_named(shop, service):
    shop.write("jobs/shop.yaml", SHOP + "size: 4K\nbudget: {per_image: 0.02}\n")
    ended = shop(*RUN)
    assert ended.code == 5
    assert "'mug/1:1' of the job 'shop' would cost $0.0576, and its `budget.per_image` is $0.0200" in ended.err
    assert "--exclude 'key:mug/1:1'" in ended.err
    assert service.ledger() == []
    assert shop("submit", "jobs/shop.yaml").code == 5
    assert shop("plan", "jobs/shop.yaml").code == 0
    words = ("--service", "local", "run", "jobs/shop.yaml", "--select", "key:mug/1:1")
    assert shop(*words).code == 0, "there it costs nothing"


def test_only_what_is_bought_counts_against_the_limit_of_an_image(shop, service):
    shop.write("jobs/shop.yaml", SHOP + "  size: [1K, 4K]\nbudget: {per_image: 0.02}\n")
    assert shop(*RUN).code == 5
    assert shop(*RUN, "--exclude", "key:*/4K").code == 0
    assert bought(service) == [6]
    shop.write("jobs/shop.yaml", SHOP + "  size: [1K]\nbudget: {per_image: 0.001}\n")
    assert shop(*RUN).code == 0, "what is there is not bought"


def test_a_limit_of_an_image_is_no_budget(shop, service):
    shop.write("jobs/products.csv", "id,product\n" + "".join(f"p{n},cup {n}\n" for n in range(30)))
    shop.write("jobs/shop.yaml", SHOP + "budget: {per_image: 1}\n")
    assert shop(*RUN).code == 5
    shop.write("jobs/shop.yaml", SHOP + "model: gemini-9-image\nbudget: {per_image: 1}\n")
    ended = shop(*RUN, "--yes")
    assert ended.code == 5
    assert "no known price" in ended.err
    assert service.ledger() == []


# What a request takes


FLASH = models.load().find("flash")


def taken(ask, known=None):
    """What one ask takes, as the plan keeps it; money in millionths of a USD."""
    request = expand.Request(
        key="a", item="a", id="a", sample=1, turn=max(ask.turn, 1), path="a", ask=ask, fingerprint=ask.fingerprint(),
        template=None, template_sha256="", vars={}, where="job.yaml",
    )  # fmt: skip
    [one] = plan.wanted([request], known or models.load(), service="gemini", today=TODAY)
    return one


def usd(*tokens_and_prices):
    return round(sum(tokens * Decimal(price) for tokens, price in tokens_and_prices))


IN, TEXT, IMAGE = "0.75", "3.75", "15"
"""Millionths of a USD for a token of flash, in a batch."""
PROMPT = "x" * 400


def test_words_alone_cost_no_image():
    one = taken(Ask(PROMPT, written={"response": ["text"]}))
    assert one.cost == usd((100, IN), (600 + 250, TEXT))
    assert one.upper_bound == usd((400, IN), (8192 + 1000, TEXT))
    assert (one.aspect, one.size, one.extras) == ("", "", "text")
    assert one.answer_bytes < 10_000


def test_the_length_somebody_allows_bounds_the_words():
    one = taken(Ask(PROMPT, written={"response": ["text"], "max_output_tokens": 2000}))
    assert one.cost == usd((100, IN), (600 + 250, TEXT))
    assert one.upper_bound == usd((400, IN), (2000 + 1000, TEXT))
    short = taken(Ask(PROMPT, written={"response": ["text"], "max_output_tokens": 50}))
    assert short.cost == usd((100, IN), (50 + 250, TEXT))


def test_words_beside_an_image_come_on_top():
    one = taken(Ask(PROMPT, written={"response": ["text", "image"]}))
    assert one.cost == usd((100, IN), (600 + 250, TEXT), (1120, IMAGE))
    assert (one.aspect, one.size, one.extras) == ("1:1", "1K", "text")


def test_a_search_is_one_query_and_at_most_three():
    plain = taken(Ask(PROMPT, written={"response": ["text", "image"]}))
    one = taken(Ask(PROMPT, written={"search": ["web"]}))
    assert (one.cost - plain.cost, one.upper_bound - plain.upper_bound) == (14_000, 42_000)
    assert one.extras == "text, search"
    assert taken(Ask(PROMPT, written={"search": ["web"], "response": ["image"]})).extras == "search"


def test_a_plan_counts_a_query_and_bounds_several(shop):
    def cost(job):
        shop.write("jobs/shop.yaml", job)
        told = shop("plan", "--json").json["jobs"][0]["cost"]
        return float(told["amount"]), float(told["upper_bound"])

    ask = "prompt: the news of today\nresponse: [text, image]\n"
    plain, found = cost(ask), cost(ask + "search: [web]\n")
    assert [found[0] - plain[0], found[1] - plain[1]] == pytest.approx([0.014, 3 * 0.014])
    assert found[1] >= found[0] + 2 * 0.014


def test_a_search_without_a_known_price_has_no_known_cost(tmp_path):
    mine = tmp_path / "mine.yaml"
    mine.write_text("models: {gemini-nano-banana-2.1: {search_price: null}}")
    known = models.load(mine)
    for written, is_known in (({"search": ["web"]}, False), ({}, True)):
        one = taken(Ask(PROMPT, written=written), known)
        assert (one.cost is not None) is is_known


def test_system_words_are_sent_and_thoughts_cost_nothing_more():
    plain = taken(Ask(PROMPT))
    one = taken(Ask(PROMPT, written={"system": "y" * 480, "thoughts": True}))
    assert one.cost - plain.cost == usd((120, IN))
    assert one.input_bytes - plain.input_bytes == 480
    assert one.answer_bytes - plain.answer_bytes == FLASH.answer_bytes("1K") * 4 // 3, "a draft comes with them"


def test_what_changes_no_price_changes_no_estimate():
    plain = taken(Ask(PROMPT))
    one = taken(
        Ask(PROMPT, written={"temperature": 0.4, "seed": 7, "thinking": "high", "safety": {"harassment": "off"}})
    )
    assert (one.cost, one.upper_bound, one.extras) == (plain.cost, plain.upper_bound, "")


def conversation():
    photo = asks.Image(Path("room.png"), "room.png", "0" * 64, "image/png", 30_000)
    first = Ask("a" * 400, turn=1, images=(photo,))
    second = Ask("b" * 400, turn=2, earlier=(first,), written={"response": ["text", "image"]})
    return first, second, Ask("c" * 400, turn=3, earlier=(first, second), images=(photo,))


def test_a_turn_sends_all_that_came_before_it_again():
    first, second, third = map(taken, conversation())
    assert first.cost == usd((100 + 1120, IN), (250, TEXT), (1120, IMAGE))
    assert second.cost == usd((200 + 2 * 1120, IN), (600 + 250, TEXT), (1120, IMAGE))
    # Three prompts, two references, two images that were drawn, and the words of the second answer.
    assert third.cost == usd((300 + 4 * 1120 + 600, IN), (250, TEXT), (1120, IMAGE))
    assert first.input_bytes < second.input_bytes - 1_000_000 < third.input_bytes - 2_000_000
    assert [one.turn for one in (first, second, third)] == [1, 2, 3]


# Conversations


TURNS = """\
turns:
  - A sketch of a [product].
  - {prompt: Colour it, keep: true, response: [text, image]}
  - Put it on a table.
items: products.csv
"""


@pytest.fixture
def talk(shop):
    """A conversation of three turns about each of three products."""
    shop.write("jobs/shop.yaml", TURNS)
    return shop


def test_a_conversation_is_planned_turn_by_turn(talk):
    job = talk("plan", "--json").json["jobs"][0]
    assert (job["requests"], job["waves"], job["counts"]["new"]) == (9, 3, 9)
    mug = [(item["key"], item["path"]) for item in job["items"] if item["key"].startswith("mug")]
    assert mug == [("mug/t1", None), ("mug/t2", "mug-2"), ("mug/t3", "mug-3")]
    costs = [Decimal(item["cost"]) for item in job["items"]]
    assert costs[0] < costs[1]
    assert Decimal(job["cost"]["amount"]) == sum(costs)
    one = talk("plan", "--json", "--select", "key:*/t1").json["jobs"][0]
    assert (one["requests"], one["waves"]) == (3, 1)


def test_a_job_without_turns_has_one_wave_and_nothing_to_do_has_none(shop):
    assert shop("plan", "--json").json["jobs"][0]["waves"] == 1
    assert shop(*RUN).code == 0
    assert shop("plan", "--json").json["jobs"][0]["waves"] == 0


def test_a_plan_shows_what_else_is_asked_for(shop):
    shop.write("jobs/shop.yaml", SHOP + "  response: [[image], [text, image], [text]]\n  search: [false, true]\n")
    out = shop("plan").out
    header, *rows = [line for line in out.splitlines() if "model" in line or "gemini" in line]
    assert header.split() == ["images", "model", "aspect", "size", "with", "each", "total"]
    assert rows[3].split()[2:6] == ["1:1", "1K", "text,", "search"]
    assert rows[4].split()[1:3] == ["gemini-nano-banana-2.1", "text"], "words have no shape"
    plain = shop("plan", "--select", "aspect:4:5", "--exclude", "key:*text* key:*web*").out.splitlines()[1]
    assert plain.split() == ["images", "model", "aspect", "size", "each", "total"]
    assert shop("plan", "--select", "key:nothing").out == "shop: nothing asked for\n  nothing to buy\n"


def test_compile_leaves_later_turns_out_and_says_so(talk):
    ended = talk("compile", "jobs/shop.yaml", "-o", "out")
    assert ended.code == 0
    assert ended.err.splitlines() == [
        "3 requests in 1 file; nothing was sent",
        "6 later turns of conversations left out: what is sent for them is made of answers",
    ]
