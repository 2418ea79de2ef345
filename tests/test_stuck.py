"""Batches that do not come home in time: waited for, or cancelled and asked for once more. The ledger counts."""

from __future__ import annotations

import sqlite3
from decimal import Decimal

import pytest
from conftest import SHOP, Service, _opened
from proxy import proxying

from pipeline import local
from pipeline.cli import spending
from pipeline.reconcile import pace, singly

HOUR = 3600.0
JOB = SHOP + "checks: {decode: false}\n"
CANCEL = JOB + "batch: {on_stuck: cancel}\n"
SINGLY = JOB + "batch: {on_stuck: interactive}\n"
SUBMIT = ("submit", "jobs/shop.yaml")
RUN = ("run", "jobs/shop.yaml", "--poll", "0.1s", "--wait", "20s")


class Night:
    """A shop whose first batch is at work, and the clocks of both sides."""

    def __init__(self, shop, service, clock) -> None:
        self.shop, self.service, self._clock = shop, service, clock

    def __call__(self, *words):
        return self.shop(*words)

    def pass_(self, hours):
        self._clock.ahead_s += hours * HOUR
        self.service.advance(hours * HOUR)

    def is_too_old(self):
        """The batch is older than a day by the pipeline's clock; at the service it has 6 of its 20 hours behind it."""
        self._clock.ahead_s += 25 * HOUR

    @property
    def batches(self):
        return [entry["requests"] for entry in self.service.ledger()]

    @property
    def cancels(self):
        return len(self.service.ledger("batches.cancel"))

    @property
    def calls(self):
        """How many images were asked for one by one."""
        return len(self.service.ledger("generateContent"))

    @property
    def statuses(self):
        return sorted(record["status"] for record in self.shop.records().values())

    @property
    def spent(self):
        return Decimal(self.shop("status", "--json").json["jobs"][0]["cost"]["amount"])


@pytest.fixture
def night(slow_shop, slow_service, clock):
    """A service whose batches take 20 hours: cancelled after ten, one has four of its six images."""
    return Night(slow_shop, slow_service, clock)


@pytest.fixture
def rehearsed(project, clock, monkeypatch, tmp_path_factory):
    """Has a service rehearse some trouble in front of the shop."""
    stack = []

    def start(job, *rules):
        faults = project.write("faults.yaml", "".join(f"- {{{rule}}}\n" for rule in rules))
        served = local.serving(tmp_path_factory.mktemp("service"), latency_s=0.0, pictures="plain", faults=faults)
        stack.append(served)
        service = Service(served.__enter__())
        shop = _opened(project, service, monkeypatch)
        shop.write("jobs/shop.yaml", job)
        return Night(shop, service, clock)

    yield start
    for served in stack:
        served.__exit__(None, None, None)


def half_done(night, job):
    """Submit, and let the batch be too old while it is still at work."""
    night.shop.write("jobs/shop.yaml", job)
    assert night(*SUBMIT).code == 0
    night.service.advance(15 * HOUR)
    night.is_too_old()


# ------------------------------------------------------------------------------------------------ wait


def test_by_default_it_is_waited_for_and_told_of_once_in_a_run(rehearsed):
    night = rehearsed(JOB, "on: batch, do: running")
    assert night(*SUBMIT).code == 0
    night.is_too_old()
    done = night("run", "jobs/shop.yaml", "--poll", "0.1s", "--wait", "1s")
    assert done.code == 4
    assert done.err.count("longer than `batch.deadline`; it is waited for") == 1
    assert (night.cancels, night.batches) == (0, [6])


def test_one_that_is_younger_is_left_alone(night):
    night.shop.write("jobs/shop.yaml", JOB + "batch: {on_stuck: cancel, deadline: 2d}\n")
    assert night(*SUBMIT).code == 0
    night.is_too_old()
    assert "longer than" not in night(*SUBMIT).err
    assert night.cancels == 0


# ---------------------------------------------------------------------------------------------- cancel


def test_one_that_never_started_is_cancelled_once_and_asked_for_once_more(rehearsed):
    night = rehearsed(CANCEL, "on: batch, do: pending, times: 1")
    assert night(*SUBMIT).code == 0
    assert night(*RUN[:-1], "1s").code == 4, "it is young"
    night.is_too_old()
    done = night(*RUN)
    assert done.code == 0, done.err
    assert "it is cancelled, and what it does not bring is asked for again" in done.err
    assert (night.cancels, night.batches, night.calls) == (1, [6, 6], 0)
    assert {record["attempt"] for record in night.shop.records().values()} == {2}
    attempts = night("show", "mug/1:1", "--json").json["attempts"]
    assert [attempt["status"] for attempt in attempts] == ["expired", "done"]
    assert "longer than `batch.deadline`" in attempts[0]["reason"]


def test_what_it_has_drawn_by_then_counts_and_only_the_rest_is_asked_again(night):
    half_done(night, CANCEL)
    assert night(*SUBMIT).code == 0
    night.service.advance(HOUR)
    assert night(*SUBMIT).code == 0
    done = night.statuses.count("done")
    assert 0 < done < 6
    assert (night.cancels, night.batches) == (1, [6, 6 - done])
    night.service.advance(21 * HOUR)
    assert night(*SUBMIT).code == 0
    assert night.statuses == ["done"] * 6


def test_one_that_ends_with_everything_after_all_is_a_success(night):
    half_done(night, CANCEL)
    night.service.advance(5 * HOUR)  # it is through before the cancel arrives
    assert night(*SUBMIT).code == 0
    assert (night.statuses, night.batches) == (["done"] * 6, [6])


def test_nothing_is_sent_again_before_it_is_over(rehearsed):
    night = rehearsed(CANCEL, "on: batch, do: running, times: 1", "on: batch, do: slow_cancel, seconds: 3600, times: 1")
    assert night(*SUBMIT).code == 0
    night.is_too_old()
    assert night(*RUN[:-1], "1s").code == 4
    late = night(*RUN[:-1], "0s")
    assert "it was cancelled, and the service still works on it" in late.err
    assert (night.cancels, night.batches) == (1, [6]), "cancelled once, by whichever run"
    night.service.advance(2 * HOUR)
    assert night(*RUN).code == 0
    assert (night.cancels, night.batches) == (1, [6, 6])


def test_a_command_that_sends_nothing_cancels_nothing(rehearsed):
    night = rehearsed(CANCEL, "on: batch, do: pending")
    assert night(*SUBMIT).code == 0
    night.is_too_old()
    assert "it is waited for" in night("collect", "jobs/shop.yaml").err
    assert night.cancels == 0


def test_killed_before_the_cancel_arrived_the_next_run_cancels(rehearsed, monkeypatch):
    night = rehearsed(CANCEL, "on: batch, do: pending, times: 1")
    assert night(*SUBMIT).code == 0
    night.is_too_old()

    class Killed(BaseException):
        """Stands for SIGKILL."""

    def killed(_api, _name):
        raise Killed

    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr("pipeline.gemini.api.Api.cancel", killed)
        night(*SUBMIT)
    assert night(*RUN).code == 0
    assert (night.cancels, night.batches) == (1, [6, 6])


@pytest.mark.some(1)
@pytest.mark.parametrize("job", [CANCEL, SINGLY])
def test_what_a_person_cancels_is_never_asked_for_by_itself(rehearsed, monkeypatch, job):
    monkeypatch.setattr(spending, "_CANCEL_WAIT_S", 0.0)
    night = rehearsed(job, "on: batch, do: running, times: 1", "on: batch, do: slow_cancel, seconds: 3600, times: 1")
    assert night(*SUBMIT).code == 0
    assert night("cancel", "jobs/shop.yaml", "--yes").code == 4
    night.is_too_old()
    night(*SUBMIT)
    night.service.advance(2 * HOUR)
    assert night(*RUN).code == 3
    assert night.statuses == ["cancelled"] * 6
    assert (night.cancels, night.batches, night.calls) == (1, [6], 0)


def test_a_person_who_cancels_what_was_cancelled_already_has_the_last_word(rehearsed, monkeypatch):
    monkeypatch.setattr(spending, "_CANCEL_WAIT_S", 0.0)
    night = rehearsed(CANCEL, "on: batch, do: running, times: 1", "on: batch, do: slow_cancel, seconds: 3600, times: 1")
    assert night(*SUBMIT).code == 0
    night.is_too_old()
    night(*SUBMIT)
    assert night.cancels == 1
    assert night("cancel", "jobs/shop.yaml", "--yes").code == 4
    night.service.advance(2 * HOUR)
    assert night(*RUN).code == 3
    assert (night.statuses, night.batches) == (["cancelled"] * 6, [6])


def test_a_second_time_a_person_decides(rehearsed):
    night = rehearsed(CANCEL, "on: batch, do: pending, times: 2")
    assert night(*SUBMIT).code == 0
    night.is_too_old()
    assert night(*RUN[:-1], "1s").code == 4
    assert night.batches == [6, 6]
    night.is_too_old()
    assert night(*RUN).code == 6
    assert (night.statuses, night.batches, night.cancels) == (["held"] * 6, [6, 6], 2)
    assert "`pipeline retry --only held` asks once more" in night.shop.records()["mug/1:1"]["reason"]
    assert night(*RUN).code == 6
    assert night.batches == [6, 6]
    assert night("retry", "jobs/shop.yaml", "--only", "held", "--poll", "0.1s").code == 0
    assert night.batches == [6, 6, 6]


def test_a_lost_journal_does_not_forget_that_it_expired(rehearsed):
    night = rehearsed(CANCEL + "retry: {again: 0}\n", "on: batch, do: pending, times: 2")
    assert night(*SUBMIT).code == 0
    night.is_too_old()
    assert night(*RUN).code == 3
    assert night.statuses == ["expired"] * 6, "`retry` says that nothing is asked again by itself"
    for path in (night.shop.outputs / ".pipeline").glob("journal.db*"):
        path.unlink()
    night.shop.write("jobs/shop.yaml", CANCEL)
    assert night(*SUBMIT).code == 0
    assert night.batches == [6, 6]
    night.is_too_old()
    assert night(*RUN).code == 6
    assert (night.statuses, night.batches) == (["held"] * 6, [6, 6])


# ----------------------------------------------------------------------------------------- interactive


def test_what_is_missing_is_asked_one_by_one_and_counted_at_its_price(night):
    half_done(night, SINGLY)
    assert night(*SUBMIT).code == 0
    night.service.advance(HOUR)
    done = night(*RUN, "--yes")
    assert done.code == 0, done.err
    lanes = [record["lane"] for record in night.shop.records().values()]
    missing = lanes.count("interactive")
    assert 0 < missing < 6
    assert (night.cancels, night.batches, night.calls) == (1, [6], missing)
    assert f"asked for one by one: {missing} done" in done.err
    by = {one["name"]: one for one in night("cost", "--actual", "--by", "model", "--json").json["jobs"][0]["by"]}
    single = by["gemini-nano-banana-2.1 (interactive)"]
    assert single["images"] == missing
    assert Decimal(single["amount"]) / missing > Decimal(by["gemini-nano-banana-2.1"]["amount"]) / (6 - missing)
    assert night.spent == sum(Decimal(record["cost"]["amount"]) for record in night.shop.records().values())
    assert night(*RUN).code == 0
    assert night.calls == missing


def test_one_that_expires_by_itself_is_asked_for_one_by_one_as_well(rehearsed):
    night = rehearsed(SINGLY, "on: batch, do: expire")
    assert night(*RUN, "--max-cost", "2").code == 0
    assert (night.batches, night.calls, night.cancels) == ([6], 6, 0)


def test_of_a_first_batch_that_expires_the_calls_show_whether_the_rest_may_follow(rehearsed):
    night = rehearsed(SINGLY + "retry: 1\n", "on: batch, do: expire, times: 1")
    night.shop.write("jobs/products.csv", "id,product\n" + "".join(f"c{n},cup {n}\n" for n in range(12)))
    assert night(*RUN, "--yes").code == 0
    assert (night.batches, night.calls) == ([20, 4], 20)


def test_nothing_is_asked_one_by_one_while_the_batch_may_still_deliver(rehearsed):
    night = rehearsed(SINGLY, "on: batch, do: running, times: 1", "on: batch, do: slow_cancel, seconds: 3600")
    assert night(*SUBMIT).code == 0
    night.is_too_old()
    assert night(*RUN[:-1], "1s").code == 4
    assert (night.cancels, night.calls) == (1, 0)
    night.service.advance(2 * HOUR)
    assert night(*RUN).code == 0
    assert (night.batches, night.calls) == ([6], 6)


def test_a_budget_holds_for_what_is_asked_one_by_one(rehearsed):
    """Six cost $0.105 by batch, and $0.035 each one by one: two of these fit."""
    night = rehearsed(SINGLY + "budget: 0.18\n", "on: batch, do: expire")
    assert night(*RUN).code == 5
    assert night.calls == 2
    assert night.statuses == ["done"] * 2 + ["skipped"] * 4
    skipped = [record for record in night.shop.records().values() if record["status"] == "skipped"]
    assert "asked for one by one it is over the budget of this call" in skipped[0]["reason"]
    plan = night("plan", "--json").json["jobs"][0]
    assert (plan["requests"], plan["batches"]) == (4, 0)
    assert Decimal(plan["cost"]["amount"]) > 4 * Decimal("0.03")
    assert night(*RUN).code == 0, "another call has a budget of its own"
    assert (night.batches, night.calls) == ([6], 6)


def test_so_does_max_cost_and_what_one_image_may_cost(rehearsed):
    night = rehearsed(SINGLY, "on: batch, do: expire")
    assert night(*RUN, "--max-cost", "0.15").code == 5
    assert night.calls == 1
    night.shop.write("jobs/shop.yaml", SINGLY + "budget: {per_image: 0.03}\n")
    refused = night(*RUN)
    assert refused.code == 5
    assert "nothing was sent" in refused.err
    assert night.calls == 1


def test_an_image_that_is_too_dear_one_by_one_is_skipped(rehearsed):
    night = rehearsed(SINGLY + "budget: {per_image: 0.03}\n", "on: batch, do: expire")
    assert night(*RUN).code == 5
    assert (night.calls, night.statuses) == (0, ["skipped"] * 6)
    assert "budget.per_image" in night.shop.records()["mug/1:1"]["reason"]


def test_it_is_announced_and_priced_before_anything_is_sent(night):
    night.shop.write("jobs/shop.yaml", SINGLY)
    plan = night("plan", "--json").json["jobs"][0]
    stuck = plan["stuck"]
    assert (stuck["deadline_s"], stuck["on_stuck"]) == (86_400, "interactive")
    assert Decimal(stuck["amount"]) > Decimal(plan["cost"]["amount"])
    assert Decimal(stuck["upper_bound"]) >= Decimal(stuck["amount"])
    said = (
        "batches that are not back after 24h are cancelled, and what is missing is asked one by one at the standard"
        " price, up to $"
    )
    assert said in night("plan").out
    assert "may stay counted against the project's limit" in night("plan").out
    assert said in night(*SUBMIT).err
    assert Decimal(night("plan", "--json").json["jobs"][0]["stuck"]["amount"]) == Decimal(stuck["amount"])
    assert said in night("plan").out, "it may still come to that"


def test_what_it_may_come_to_later_needs_a_word_before(night):
    night.shop.write("jobs/shop.yaml", SINGLY.replace("4:5]", "4:5, 3:4]") + "samples: 3\n")
    assert Decimal(night("plan", "--json").json["jobs"][0]["cost"]["amount"]) < 1
    refused = night(*SUBMIT)
    assert refused.code == 5
    assert "more for what does not come home in time, and nobody is there to be asked" in refused.err
    assert night.batches == []
    assert night(*SUBMIT, "--yes").code == 0


def test_other_ways_cost_nothing_more(night):
    for job, words in ((JOB, ""), (CANCEL, "what is missing is asked for once more by batch")):
        night.shop.write("jobs/shop.yaml", job)
        stuck = night("plan", "--json").json["jobs"][0]["stuck"]
        assert (stuck["amount"], stuck["upper_bound"]) == (None, None)
        assert words in night("plan").out
    night.shop.write("jobs/shop.yaml", SINGLY + "retry: 0\n")
    assert "one by one" not in night("plan").out, "`retry` says that nothing is asked again by itself"


def test_where_the_service_wants_fewer_calls_for_long_the_next_run_goes_on(rehearsed, monkeypatch):
    monkeypatch.setattr(singly, "_PATIENCE_S", 0.0)
    monkeypatch.setattr(pace, "FIRST_PAUSE_S", 0.01)
    night = rehearsed(SINGLY, "on: batch, do: expire")
    limit = {"error": {"code": 429, "status": "RESOURCE_EXHAUSTED", "message": "slow down"}}
    with proxying(night.service.url) as (url, proxy):
        monkeypatch.setenv("GOOGLE_GEMINI_BASE_URL", url)
        proxy.before = lambda call: call.say(limit, 429) if ":generateContent" in call.path else None
        done = night(*RUN[:-1], "1s")
        assert done.code == 4
        assert "the service wants fewer calls" in done.err
        assert "error:" not in done.err, "it keeps nothing else from coming home"
        assert (night.calls, night.statuses) == (0, ["pending"] * 6)
        proxy.before = lambda _call: None
        assert night(*RUN).code == 0
    assert (night.batches, night.calls) == ([6], 6)
    assert {record["attempt"] for record in night.shop.records().values()} == {2}


@pytest.mark.some(1)
@pytest.mark.parametrize("point", ["generate:before:3", "generate:after:3", "publish:renamed:2"])
def test_killed_in_the_middle_the_next_run_pays_for_nothing_twice(rehearsed, point):
    night = rehearsed(SINGLY, "on: batch, do: expire")
    assert night.shop.forked(*RUN, at=point) == -9
    done = night(*RUN)
    assert done.code in {0, 6}, done.err
    assert night.calls <= 6
    held = [record for record in night.shop.records().values() if record["status"] == "held"]
    assert night.statuses.count("done") + len(held) == 6
    assert all("may have been billed" in record["reason"] for record in held)
    assert night.batches == [6]


# ---------------------------------------------------------------------------------------------- status


def test_status_names_what_is_stuck_and_what_it_still_takes(rehearsed, clock, monkeypatch):
    night = rehearsed(CANCEL, "on: batch, do: running", "on: batch, do: slow_cancel, seconds: 3600")
    assert night(*SUBMIT).code == 0
    [young] = night("status", "--json").json["jobs"][0]["batches"]
    assert (young["stuck"], young["deadline_s"]) == (False, 86_400)
    assert 6 * 8 < young["enqueued_tokens"] < 6 * 20
    assert "enqueued tokens" not in night("status").out
    with sqlite3.connect(night.shop.outputs / ".pipeline/journal.db") as db:
        db.execute("UPDATE batch SET created_at = created_at - 100000")
    assert night("status", "--json").json["jobs"][0]["batches"][0]["stuck"]
    assert "takes longer than `batch.deadline`; it has about" in night("status").out
    assert night(*SUBMIT).code == 0
    assert night.cancels == 1
    assert "was cancelled, because it took too long; about" in night("status").out
    night.service.advance(2 * HOUR)
    night("collect", "jobs/shop.yaml")
    told = night("status")
    assert "1 batch cancelled, because of taking too long" in told.out
    assert "may stay counted against the project's limit" in told.out
    gone = night("status", "--json").json["jobs"][0]["timed_out"]
    assert gone == {"batches": 1, "enqueued_tokens": young["enqueued_tokens"]}
