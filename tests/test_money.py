"""Money: taken out of the budget before anything is sent, and what was spent is what the service delivered."""

from __future__ import annotations

import datetime as dt
import json
import random
from decimal import Decimal
from typing import NamedTuple

import pytest
from conftest import SHOP
from proxy import DropError, proxying

from pipeline import batchfile, journal
from pipeline.gemini import models
from pipeline.reconcile import room, send

SLOWER = {"error": {"code": 429, "message": "slow down", "status": "RESOURCE_EXHAUSTED"}}
RUN = ("run", "jobs/shop.yaml", "--poll", "0.1s")


# --------------------------------------------------------------------------------- creates of unknown fate


def at_work(looks):
    """Have the service still work on a batch for so many looks at it."""
    left = iter(range(looks))

    def rule(call):
        if call.is_get() and next(left, None) is not None:
            call.say({"name": call.json["name"], "metadata": {**call.json["metadata"], "state": "BATCH_STATE_RUNNING"}})

    return rule


def test_a_create_that_was_believed_lost_and_turns_up_is_taken_back_before_anything_is_sent_again(shop, service, proxy):
    shop.delivers()
    creates = []

    def one_create(call):
        if call.is_create():
            creates.append(call)
            if len(creates) > 1:
                call.say(SLOWER, 429)

    def hidden(call):
        if call.is_create():
            raise DropError
        if call.is_list():
            call.say({})

    proxy.before, proxy.after = one_create, hidden
    for _look in range(3):  # it is not seen, still not seen, and believed lost
        shop("submit", "jobs/shop.yaml")
    assert len(creates) == 2
    proxy.before, proxy.after = lambda call: None, at_work(looks=2)
    assert shop(*RUN).code == 0
    assert [entry["requests"] for entry in service.ledger()] == [6]
    assert {record["status"] for record in shop.records().values()} == {"done"}


# --------------------------------------------------------------------------------------- room on our disk


class Usage(NamedTuple):
    """As `shutil.disk_usage` tells it."""

    total: int
    used: int
    free: int


class Disk:
    """A disk with so much free, whichever folder one asks about; or, by folder, several."""

    def __init__(self, monkeypatch) -> None:
        self.free = 10**12
        self.of_state: int | None = None
        self.looks: int | None = None
        """After so many looks nothing is free."""
        monkeypatch.setattr(room.shutil, "disk_usage", self.usage)

    def usage(self, path):
        if self.looks is not None:
            self.looks -= 1
            return Usage(10**12, 0, 10**12 if self.looks >= 0 else 0)
        in_state = self.of_state is not None and ".pipeline" in str(path)
        return Usage(10**12, 0, self.of_state if in_state else self.free)


@pytest.fixture
def disk(monkeypatch):
    return Disk(monkeypatch)


def answer_bytes(project, job="shop"):
    with journal.opened(project.outputs / ".pipeline", outputs=project.outputs) as opened:
        return sum(batch.answer_bytes for batch in opened.batches.all_of(job))


def test_without_room_for_the_answers_and_their_images_nothing_is_sent_and_it_says_what_to_do(shop, service, disk):
    disk.free = 5_000_000
    ended = shop(*RUN)
    assert ended.code == 7
    assert "has 5.0 MB free, and the next answers with their images need about " in ended.err
    assert "nothing was sent for them" in ended.err
    assert "hint: make room" in ended.err
    assert (service.ledger(), service.ledger("files.upload")) == ([], [])
    assert not list((shop.outputs / ".pipeline/requests").rglob("*.jsonl")), "it takes of what there is too little of"
    disk.free = 10**12
    assert shop(*RUN).code == 0
    assert len(service.ledger()) == 1


def test_answers_on_their_way_to_any_job_have_their_room_first(slow_shop, slow_service, disk):
    shop = slow_shop
    shop.delivers()
    shop.write("jobs/other.yaml", SHOP.replace("white", "black"))
    assert shop("submit", "jobs/shop.yaml").code == 0
    each = answer_bytes(shop)
    disk.free = int(each * 2.4 * 1.5)  # room for one of them, and not for both
    ended = shop("submit", "jobs/other.yaml")
    assert ended.code == 7
    assert "for what is on its way already" in ended.err
    assert len(slow_service.ledger()) == 1
    slow_service.advance(21 * 3600)
    assert shop("collect", "jobs/shop.yaml").code == 0
    assert shop("submit", "jobs/other.yaml").code == 0
    assert len(slow_service.ledger()) == 2


def test_what_is_on_its_way_comes_home_before_a_run_ends_for_want_of_room(shop, service, disk):
    shop.delivers()
    shop.write("jobs/shop.yaml", SHOP + "batch: {max_requests: 1}\n")
    disk.looks = 2  # two batches find room; then the disk is as good as full
    ended = shop(*RUN)
    assert ended.code == 7
    assert "what is on its way is waited for" in ended.err
    assert len(service.ledger()) == 2
    statuses = sorted(record["status"] for record in shop.records().values())
    assert statuses == ["done"] * 2 + ["pending"] * 4


@pytest.mark.parametrize(
    ("of_state", "of_images", "code"),
    [
        pytest.param(1.5, 1.1, 0, id="both have room for their part"),
        pytest.param(1.3, 9.0, 7, id="the state has not"),
        pytest.param(9.0, 0.9, 7, id="the images have not"),
    ],
)
def test_on_two_disks_each_needs_room_for_its_part(shop, disk, monkeypatch, of_state, of_images, code):
    monkeypatch.setattr(room, "_disk", lambda place: int(".pipeline" in str(place)))
    flash = models.load().find("flash")
    answers = 6 * (flash.answer_bytes("1K") * 4 // 3 + 2_000)
    disk.free, disk.of_state = int(of_images * answers), int(of_state * answers)
    ended = shop(*RUN)
    assert ended.code == code, ended.err
    assert ("sent batches/" in ended.err) is (code == 0)


def test_a_proof_needs_room_as_well(shop, service, disk):
    disk.free = 1_000_000
    assert shop("proof", "jobs/shop.yaml").code == 7
    assert service.ledger("generateContent") == []


def test_another_run_that_was_faster_has_taken_the_room(shop, service, disk, monkeypatch):
    """Between the look at a job and the row of its batch another process has sent a batch of its own."""
    shop.delivers()
    another_sends(shop, monkeypatch, answer_bytes=10**9)
    disk.free = 10**9
    ended = shop(*RUN)
    assert ended.code == 7
    assert "for what is on its way already" in ended.err
    assert service.ledger() == []


# ---------------------------------------------------------------------------------- room at the service


def another_sends(project, monkeypatch, **values):
    """Have a batch of another job in the journal as soon as the next request file is written."""
    write = batchfile.write

    def late(*args, **given):
        made = write(*args, **given)
        with journal.opened(project.outputs / ".pipeline", outputs=project.outputs) as other, other.transaction():
            row = {"job": "other", "service": "gemini", "model_id": "m", "name": "n", "chunk": "c", "attempt": 1}
            row |= {"requests": 1, "cost": 0, "state": "live", "planned_at": 0.0, "answer_bytes": 0, **values}
            other.batches.add(**row)
        monkeypatch.setattr(batchfile, "write", write)
        return made

    monkeypatch.setattr(batchfile, "write", late)


def test_another_run_that_was_faster_has_taken_the_space_at_the_service(shop, service, monkeypatch):
    shop.delivers()
    another_sends(shop, monkeypatch, answer_bytes=20 * 10**9)
    ended = shop(*RUN, "--wait", "0")
    assert ended.code == 4
    assert "it waits for space" in ended.err
    assert service.ledger() == []


def test_an_answer_that_is_not_fetched_yet_takes_its_space(slow_shop, slow_service, monkeypatch):
    shop = slow_shop
    shop.delivers()
    assert shop("submit", "jobs/shop.yaml").code == 0
    with journal.opened(shop.outputs / ".pipeline", outputs=shop.outputs) as opened:
        (batch,) = opened.batches.of("shop", "gemini", "live")
        for state in ("live", "ended", "held"):
            with opened.transaction():
                opened.batches.change(batch, state=state, result_file="files/x", ended_at=1.0)
            assert opened.batches.expected_bytes("gemini") == batch.answer_bytes, state
        with opened.transaction():
            opened.batches.change(batch, state="ended", result_file=None)
        assert opened.batches.expected_bytes("gemini") == 0, "it has none"


# ---------------------------------------------------------------------------- budgets, and what was delivered


class Bill:
    """What the service has delivered, by the usage in its own answers, seen on the wire."""

    def __init__(self, proxy) -> None:
        self._answers: dict[str, Decimal] = {}
        self.troubles = lambda call: None
        proxy.after, proxy.before = self._after, self._before
        self._price = {
            model.id: price for model in models.load() if (price := model.price(dt.datetime.now(dt.UTC).date()))
        }
        self.late = lambda call: None

    def _before(self, call):
        self.troubles(call)

    def _after(self, call):
        path = call.path.split("?")[0]
        if call.is_download() and call.status == 200:
            for line in call.answer.splitlines():
                told = json.loads(line)
                self._add(f"{path} {told['key']}", told.get("response"), "batch")
        elif path.endswith(":generateContent") and call.status == 200:
            self._add(f"{path} {len(self._answers)}", call.json, "interactive")
        self.late(call)

    def _add(self, name, answer, lane):
        usage = (answer or {}).get("usageMetadata")
        if usage is None:
            return
        price = self._price[answer["modelVersion"]]
        rates = (
            (price.batch_input, price.batch_text, price.batch_image)
            if lane == "batch"
            else (price.input, price.text, price.image)
        )
        drawn = sum(one["tokenCount"] for one in usage.get("candidatesTokensDetails", ()) if one["modality"] == "IMAGE")
        said = usage.get("candidatesTokenCount", 0) - drawn + usage.get("thoughtsTokenCount", 0)
        tokens = (usage["promptTokenCount"], said, drawn)
        cost = sum(rate * count for rate, count in zip(rates, tokens, strict=True)) / 1_000_000
        self._answers[name] = cost.quantize(Decimal("0.000001"))

    @property
    def total(self) -> Decimal:
        return sum(self._answers.values(), Decimal(0))


def actual(project) -> Decimal:
    return Decimal(project("cost", "--actual", "--json").json["total"]["amount"])


@pytest.fixture
def bill(proxy):
    return Bill(proxy)


def test_what_was_spent_is_what_the_service_delivered_refused_and_superseded_answers_included(shop, service, bill):
    words = ["a mug", "LOCAL:BLOCK", "LOCAL:NOIMAGE", "LOCAL:ERROR", "LOCAL:PROMPTBLOCK"]
    shop.write("jobs/shop.yaml", "prompt: '[what]'\nretry: 1\nitems: words.csv\n")
    shop.write("jobs/words.csv", "id,what\n" + "".join(f"{number},a {word}\n" for number, word in enumerate(words)))
    assert shop(*RUN).code == 3
    assert actual(shop) == bill.total > 0
    assert shop("retry", "jobs/shop.yaml", "--poll", "0.1s").code == 3
    assert actual(shop) == bill.total
    before = bill.total
    assert shop("proof", "jobs/shop.yaml", "-n", "2").code in {0, 3}
    assert shop(*RUN, "--force", "--select", "key:0").code == 0
    assert actual(shop) == bill.total > before


@pytest.mark.some(2)
@pytest.mark.parametrize("lost", [False, True], ids=["with its journal", "with its journal lost meanwhile"])
@pytest.mark.parametrize("changed", [False, True], ids=["as it was", "nobody asks for it any more"])
def test_what_comes_home_is_counted(slow_shop, slow_service, monkeypatch, lost, changed):
    shop = slow_shop
    with proxying(slow_service.url) as (url, proxy):
        monkeypatch.setenv("GOOGLE_GEMINI_BASE_URL", url)
        bill = Bill(proxy)
        assert shop("submit", "jobs/shop.yaml").code == 0
        if lost:
            for path in (shop.outputs / ".pipeline").glob("journal.db*"):
                path.unlink()
            (shop.outputs / "shop/manifest.jsonl").unlink()
        if changed:
            shop.write("jobs/shop.yaml", SHOP.replace("white", "black"))
        slow_service.advance(21 * 3600)
        assert shop("collect", "jobs/shop.yaml").code == 0
        assert shop("collect", "jobs/shop.yaml").code == 0
        assert bill.total > 0
        assert actual(shop) == bill.total


def estimates(project, jobs):
    """What everything open would cost, together, in USD."""
    told = project("plan", *jobs, "--json").json["jobs"]
    return {one["job"]: Decimal(one["cost"]["amount"]) for one in told}


WORDS = ("a barn", "a mug", "LOCAL:ERROR", "LOCAL:NOIMAGE", "LOCAL:BLOCK", "a fox", "an owl")
TROUBLE = ("none", "none", "lost", "refused", "late", "busy")


class Trouble:
    """Something that befalls creates and calls, by a sequence that only a seed decides."""

    def __init__(self, bill, chance) -> None:
        self._chance = chance
        bill.troubles, bill.late = self._before, self._after
        self._fate = "none"

    def _is_paid(self, call):
        return call.is_create() or call.path.split("?")[0].endswith(":generateContent")

    def _before(self, call):
        if not self._is_paid(call):
            return
        self._fate = self._chance.choice(TROUBLE)
        if self._fate == "lost":
            raise DropError  # it never arrived, which nobody knows
        if self._fate == "refused":
            call.say(SLOWER, 429)
        elif self._fate == "busy":
            call.say({"error": {"code": 503, "message": "overloaded", "status": "UNAVAILABLE"}}, 503)

    def _after(self, call):
        if self._is_paid(call) and self._fate == "late":
            raise DropError  # it arrived, and the answer was lost


def committed(project, accepted):
    """What the batches and calls of one run were estimated to cost that the service has taken, in USD, by job."""
    found = {}
    for batch in batches(project):
        if batch.name in accepted or (batch.lane == "interactive" and batch.state != "rejected"):
            found[batch.id] = (batch.job, Decimal(batch.cost) / 1_000_000)
    return found


def batches(project):
    with journal.opened(project.outputs / ".pipeline", outputs=project.outputs) as opened:
        return [batch for job in opened.jobs() for batch in opened.batches.all_of(job)]


@pytest.mark.parametrize("seed", [1, 2, *(pytest.param(n, marks=pytest.mark.torture) for n in range(3, 15))])
def test_no_call_commits_more_than_its_budget_whatever_befalls_it(shop, service, bill, monkeypatch, seed):
    chance = random.Random(seed)
    monkeypatch.setattr(send, "_RATE_PAUSE_S", 0.05)
    monkeypatch.setenv("PIPELINE_CONCURRENT", str(chance.randint(1, 3)))
    jobs = [f"jobs/job{number}.yaml" for number in range(chance.randint(1, 2))]
    for path in jobs:
        rows = ", ".join(
            f"{{id: r{n}, what: '{chance.choice(WORDS)} {n} {path}'}}" for n in range(chance.randint(2, 5))
        )
        limits = f"retry: {chance.randint(0, 2)}\nbatch: {{max_requests: {chance.randint(1, 3)}}}\n"
        shop.write(path, f"prompt: '[what]'\nchecks: {{decode: false}}\nitems: [{rows}]\n{limits}")
    plain = {path: (shop.folder / path).read_text() for path in jobs}
    if chance.random() < 0.5:
        Trouble(bill, chance)
    seen: set[int] = set()
    for _call in range(3):
        for path in jobs:
            shop.write(path, plain[path])
        cost = estimates(shop, jobs)
        if not sum(cost.values()):
            break
        budgets = {
            name: (amount * Decimal(chance.uniform(1, 2))).quantize(Decimal("0.0001")) for name, amount in cost.items()
        }
        budgets = {name: max(amount, cost[name]) for name, amount in budgets.items()}
        for path in jobs:
            shop.write(path, plain[path] + f"budget: {budgets[path[5:-5]]}\n")
        most = (sum(cost.values()) * Decimal(chance.uniform(1, 2))).quantize(Decimal("0.0001")) + Decimal("0.0001")
        flags = ("--max-cost", str(most)) if chance.random() < 0.7 else ()
        ended = shop("run", *jobs, *flags, "--poll", "0.05s", "--wait", "4s")
        assert ended.code in {0, 3, 4, 5, 6}, ended.err
        accepted = {entry["displayName"] for entry in service.ledger()}
        new = {number: one for number, one in committed(shop, accepted).items() if number not in seen}
        seen |= new.keys()
        by_job = {name: sum(amount for job, amount in new.values() if job == name) for name in budgets}
        assert all(by_job[name] <= budgets[name] for name in budgets), (by_job, budgets)
        assert not flags or sum(by_job.values()) <= most
        # What is in no settled batch was not refunded: a create of unknown fate keeps its reservation.
    bill.troubles = bill.late = lambda call: None
    for path in jobs:
        shop.write(path, plain[path])
    assert shop("run", *jobs, "--poll", "0.05s", "--wait", "60s", "--yes").code in {0, 3, 6}
    assert actual(shop) == bill.total
