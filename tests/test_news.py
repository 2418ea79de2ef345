"""Many batches are looked after with few calls, and none of them is forgotten."""

from __future__ import annotations

import pytest
from proxy import proxying

JOB = """\
prompt: A [thing] on a table
items: things.csv
batch: {max_requests: 1}
"""
DAY_S = 21 * 3600


@pytest.fixture
def night(slow_shop, slow_service, clock, monkeypatch, request):
    """So many batches at work, none of which has ended: `looked` at them once, as a cron job does."""
    slow_shop.write("jobs/shop.yaml", JOB)
    slow_shop.write("jobs/things.csv", "id,thing\n" + "".join(f"t-{n},thing {n}\n" for n in range(request.param)))
    slow_shop.delivers()
    with proxying(slow_service.url) as (url, proxy):
        monkeypatch.setenv("GOOGLE_GEMINI_BASE_URL", url)
        assert slow_shop("-q", "submit", "jobs/shop.yaml", "--yes").code == 0
        night = Night(slow_shop, proxy, clock)
        night.looked()  # their states are known by now
        yield night


class Night:
    def __init__(self, shop, proxy, clock):
        self.shop, self.proxy, self.clock = shop, proxy, clock

    def looked(self):
        """Collect once: how many lists were asked for, and how many batches by name."""
        self.clock.ahead_s += 61
        self.proxy.calls.clear()
        assert self.shop("-q", "collect", "jobs/shop.yaml").code == 0
        return sum(call.is_list() for call in self.proxy.calls), len({c.path for c in self.proxy.calls if c.is_get()})

    @property
    def statuses(self):
        return {record["status"] for record in self.shop.records().values()}


@pytest.mark.torture
@pytest.mark.parametrize("night", [50], indirect=True)
def test_fifty_batches_at_work_are_looked_at_with_few_calls_and_come_home_by_name(night, slow_service):
    lists, named = night.looked()
    assert lists == 1
    assert named < 20  # about one in ten has its turn
    slow_service.advance(DAY_S)
    assert night.looked()[1] == 50
    assert night.statuses == {"done"}


@pytest.mark.parametrize("night", [6], indirect=True)
def test_what_a_list_does_not_say_is_asked_by_name(night, slow_service):
    def fail(call):
        if call.is_list():
            call.say({"error": {"code": 400, "status": "INVALID_ARGUMENT", "message": "no lists today"}}, 400)

    def lack(call):
        if call.is_list():
            call.say({"operations": call.json["operations"][:2]})

    night.proxy.after = fail
    assert night.looked()[1] == 6
    night.proxy.after = lack
    assert night.looked()[1] >= 4


@pytest.mark.parametrize("night", [6], indirect=True)
def test_one_that_takes_too_long_is_asked_by_name_each_time(night, clock):
    assert night.looked()[1] < 6
    clock.ahead_s += 49 * 3600
    assert night.looked()[1] == night.looked()[1] == 6


@pytest.mark.parametrize("night", [6], indirect=True)
def test_what_a_list_calls_by_another_name_is_asked_by_its_own(night):
    def rename(call):
        if call.is_list():
            told = call.json
            for operation in told["operations"][:4]:
                operation["metadata"]["displayName"] = "of somebody else"
            call.say(told)

    night.proxy.after = rename
    assert night.looked()[1] >= 4


@pytest.mark.parametrize("night", [6], indirect=True)
def test_a_list_that_stays_old_for_ever_keeps_no_batch_from_coming_home(night, slow_service):
    first = []

    def repeat(call):
        if call.is_list():
            first.append(call.answer)
            call.say(first[0])

    night.proxy.after = repeat
    night.looked()
    slow_service.advance(DAY_S)
    for _look in range(100):
        night.looked()
        if night.statuses == {"done"}:
            return
    pytest.fail("a batch was forgotten")
