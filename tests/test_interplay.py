"""First batches, stuck batches, other settings, conversations and money at the same time. The ledger counts."""

from __future__ import annotations

import shlex
from decimal import Decimal

import pytest
from proxy import proxying

HOUR = 3600.0
RUN = ("run", "jobs/shop.yaml", "--poll", "0.1s", "--wait", "20s")
SUBMIT = ("submit", "jobs/shop.yaml")
MANY = "prompt: '[what]'\nitems: rows.csv\nchecks: {decode: false}\n"
REFUSED = {"error": {"code": 400, "status": "FAILED_PRECONDITION", "message": "not in this state"}}
AWAY = {"error": {"code": 503, "status": "UNAVAILABLE", "message": "later"}}


BUSY = {"error": {"code": 429, "status": "RESOURCE_EXHAUSTED", "message": "fewer of these"}}


def rows(project, count, words="a barn"):
    lines = [f"{number:03},{words} {number}\n" for number in range(count)]
    project.write("jobs/rows.csv", "id,what\n" + "".join(lines))
    project.write("jobs/shop.yaml", MANY)


def sent(service):
    """How many requests each batch had."""
    return [entry["requests"] for entry in service.ledger()]


def statuses(project, job="shop"):
    told = [record["status"] for record in project.records(job).values()]
    return {word: told.count(word) for word in sorted(set(told))}


def lose_the_journal(project):
    for path in (project.outputs / ".pipeline").glob("journal.db*"):
        path.unlink()


# ------------------------------------------------------------------------------------- first batches in trouble


def test_a_first_batch_that_is_only_found_again_holds_the_rest_as_well(slow_shop, slow_service):
    rows(slow_shop, 30, "LOCAL:BLOCK")
    assert slow_shop(*SUBMIT).code == 0
    lose_the_journal(slow_shop)
    slow_service.advance(21 * HOUR)
    assert slow_shop(*SUBMIT).code == 6
    assert sent(slow_service) == [20]
    assert statuses(slow_shop) == {"blocked": 20, "held": 10}


def test_behind_a_first_batch_that_is_held_itself_nothing_is_sent(slow_shop, slow_service, monkeypatch):
    monkeypatch.setenv("PIPELINE_SETTLE", "0")
    monkeypatch.setenv("PIPELINE_PATIENCE", "0")
    rows(slow_shop, 30)
    assert slow_shop(*SUBMIT).code == 0
    [batch] = slow_shop("status", "--json").json["jobs"][0]["batches"]
    slow_service.delete(batch["name"])
    assert slow_shop(*RUN).code == 6
    assert sent(slow_service) == [20]
    assert statuses(slow_shop) == {"held": 30}
    assert "brought none (20 held)" in slow_shop.records()["029"]["reason"]


def test_a_plan_counts_what_is_asked_again_first(slow_shop, slow_service):
    rows(slow_shop, 28, "LOCAL:BLOCK")
    text = (slow_shop.folder / "jobs/rows.csv").read_text()
    slow_shop.write("jobs/rows.csv", text.replace("LOCAL:BLOCK 3\n", "LOCAL:NOIMAGE\n"))
    assert slow_shop(*SUBMIT).code == 0
    slow_service.advance(21 * HOUR)
    assert slow_shop("collect", "jobs/shop.yaml").code == 0
    plan = slow_shop("plan", "--json").json["jobs"][0]
    assert (plan["requests"], plan["batches"]) == (9, 2)
    assert "the first one goes ahead alone" in slow_shop("plan").out
    assert slow_shop(*SUBMIT).code == 0
    assert sent(slow_service) == [20, 1]


NO_IMAGE = MANY + "retry: 1\nbudget: 0.45\n"
"""22 images come to $0.39, and so do not fit twice."""


def test_what_waits_behind_first_images_that_fit_the_budget_no_more_is_skipped_with_them(shop, service):
    rows(shop, 22, "LOCAL:NOIMAGE")
    shop.write("jobs/shop.yaml", NO_IMAGE)
    done = shop(*RUN)
    assert done.code == 5
    assert "raise it and run again" in done.err
    assert statuses(shop) == {"no_image": 5, "skipped": 17}
    assert sent(service) == [20, 5]
    assert shop(*RUN).code == 6
    assert sent(service) == [20, 5, 15]
    assert statuses(shop) == {"held": 2, "no_image": 20}


def test_a_file_in_the_way_of_one_first_image_stops_none_of_the_others(slow_shop, slow_service):
    rows(slow_shop, 24, "LOCAL:NOIMAGE")
    slow_shop.write("jobs/shop.yaml", MANY + "retry: 1\n")
    assert slow_shop(*SUBMIT).code == 0
    slow_service.advance(21 * HOUR)
    assert slow_shop("collect", "jobs/shop.yaml").code == 0
    slow_shop.write("outputs/shop/003.png", b"somebody's own")
    assert slow_shop(*SUBMIT).code == 0
    assert sent(slow_service) == [20, 19]
    slow_service.advance(21 * HOUR)
    assert slow_shop(*SUBMIT).code == 6
    assert sent(slow_service) == [20, 19]
    assert statuses(slow_shop) == {"held": 4, "no_image": 20}


def test_no_job_waits_for_ever_for_one_that_nobody_runs_any_more(slow_shop, slow_service, clock):
    rows(slow_shop, 30)
    slow_shop.write("jobs/other.yaml", MANY.replace("'[what]'", "'[what] in fog'"))
    assert slow_shop(*SUBMIT).code == 0
    slow_shop("clean", "--yes")
    (slow_shop.folder / "jobs/shop.yaml").unlink()
    for hours, batches in ((71, [20]), (2, [20, 20])):
        clock.ahead_s += hours * HOUR
        assert slow_shop("submit", "jobs/other.yaml").code == 0
        assert sent(slow_service) == batches


def test_what_the_last_line_says_to_type_can_be_typed(shop, service):
    rows(shop, 21, "LOCAL:BLOCK")
    said = shop(*RUN)
    assert said.code == 6
    words = said.err.split("`")
    for typed, more, code in ((words[-4], (), 0), (words[-2], ("--poll", "0.1s"), 3)):
        assert shop(*shlex.split(typed)[1:], *more).code == code, typed
    assert sent(service) == [20, 1]


# ------------------------------------------------------------------------------------------------- stuck, and money


def test_a_cancel_that_the_service_cannot_hear_keeps_nothing_else_from_being_sent(
    slow_shop, slow_service, clock, monkeypatch
):
    rows(slow_shop, 3)
    slow_shop.write("jobs/shop.yaml", MANY + "batch: {on_stuck: cancel}\n")
    assert slow_shop("proof", "jobs/shop.yaml", "-n", "1").code == 0
    assert slow_shop(*SUBMIT).code == 0
    clock.ahead_s += 25 * HOUR
    slow_shop.write("jobs/rows.csv", (slow_shop.folder / "jobs/rows.csv").read_text() + "new,a mill\n")

    def busy(call):
        if ":cancel" in call.path:
            call.headers = {"Retry-After": "60"}
            call.say(BUSY, 429)

    with proxying(slow_service.url) as (url, proxy):
        monkeypatch.setenv("GOOGLE_GEMINI_BASE_URL", url)
        proxy.before = busy
        done = slow_shop(*SUBMIT)
    assert done.code == 0
    assert "cancelling" in done.err
    assert sent(slow_service) == [3, 1]


def test_a_cancel_that_is_refused_is_not_called_one(slow_shop, slow_service, clock, monkeypatch):
    rows(slow_shop, 3)
    slow_shop.write("jobs/shop.yaml", MANY + "batch: {on_stuck: cancel}\n")
    assert slow_shop(*SUBMIT).code == 0
    clock.ahead_s += 25 * HOUR
    with proxying(slow_service.url) as (url, proxy):
        monkeypatch.setenv("GOOGLE_GEMINI_BASE_URL", url)
        proxy.before = lambda call: call.say(REFUSED, 400) if ":cancel" in call.path else None
        assert slow_shop(*SUBMIT).code == 0
    [batch] = slow_shop("status", "--json").json["jobs"][0]["batches"]
    assert (batch["stuck"], batch["cancelled"]) == (True, False)
    monkeypatch.setenv("GOOGLE_GEMINI_BASE_URL", slow_service.url)
    slow_service.advance(21 * HOUR)
    assert slow_shop(*SUBMIT).code == 0
    assert "cancelled" not in slow_shop("status").out


def test_a_job_that_was_never_run_has_a_status(shop):
    rows(shop, 3)
    for _ in range(2):
        status = shop("status", "jobs/shop.yaml")
        assert (status.code, status.out) == (0, "shop: nothing recorded · 0 to send · $0\n")
        assert shop("plan").code == 0  # makes a journal, and records nothing


@pytest.mark.some(1)
@pytest.mark.parametrize("bound", ["budget", "max_cost"])
def test_what_the_service_never_had_is_no_money_spent(proxy, shop, service, bound):
    """A create of unknown fate that turns out to be none gives its estimate back to the call."""
    rows(shop, 6)
    limit = "0.11"  # six images come to $0.1065
    if bound == "budget":
        shop.write("jobs/shop.yaml", MANY + f"budget: {limit}\n")
    lost = iter((True, True))
    proxy.before = lambda call: call.say(AWAY, 503) if call.is_create() and next(lost, False) else None
    assert shop(*RUN, *(["--max-cost", limit] if bound == "max_cost" else [])).code == 0
    assert sent(service) == [6]


def test_what_was_asked_with_other_settings_has_their_price_when_it_is_asked_one_by_one(slow_shop, slow_service, clock):
    rows(slow_shop, 4, "LOCAL:BLOCK")
    job = MANY + "batch: {on_stuck: interactive}\n"
    slow_shop.write("jobs/shop.yaml", job)
    as_it_says = slow_shop("plan", "--json").json["jobs"][0]["stuck"]
    assert slow_shop(*SUBMIT).code == 0
    slow_service.advance(21 * HOUR)
    again = ("retry", "jobs/shop.yaml", "--set", "size=4K", "--wait", "0", "--yes")
    assert slow_shop(*SUBMIT).code == 3
    assert slow_shop(*again).code == 4
    stuck = slow_shop("plan", "--json").json["jobs"][0]["stuck"]
    assert Decimal(stuck["amount"]) > 3 * Decimal(as_it_says["amount"])
    assert Decimal(stuck["upper_bound"]) > 3 * Decimal(as_it_says["amount"])
    clock.ahead_s += 25 * HOUR
    slow_shop.write("jobs/shop.yaml", job + f"budget: {Decimal(as_it_says['upper_bound'])}\n")
    assert slow_shop(*SUBMIT).code == 0
    assert slow_shop(*RUN).code == 5, "four in 4K do not fit where four in 1K would"
    assert len(slow_service.ledger("generateContent")) == 1
    assert statuses(slow_shop) == {"blocked": 1, "skipped": 3}


# ------------------------------------------------------------------------------------------------- conversations


def test_when_first_turns_fail_the_same_run_decides_about_all_that_follow(shop, service):
    shop.write("jobs/rows.csv", "id,what\na,LOCAL:BLOCK\nb,LOCAL:BLOCK\n")
    turns = "turns: ['[what]', at night, with a lamp, in snow]\n"
    shop.write("jobs/shop.yaml", turns + "items: rows.csv\nchecks: {decode: false}\n")
    assert shop(*RUN).code == 3
    assert statuses(shop) == {"blocked": 2, "missing": 6}
    before = shop.tree()
    assert shop(*RUN).code == 3
    assert shop.tree() == before
    assert sent(service) == [2]
