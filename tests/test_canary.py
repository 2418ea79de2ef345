"""The first batch for a model that has never delivered here: few requests, alone, and the rest when it came home."""

from __future__ import annotations

import pytest
from conftest import Service
from crowd import crowd

from pipeline import local
from pipeline.plan import firsts
from pipeline.reconcile import ahead

RUN = ("run", "jobs/shop.yaml", "--poll", "0.1s", "--wait", "60s")
MANY = "prompt: '[what]'\nitems: rows.csv\nchecks: {decode: false}\n"


def rows(project, count, words="a barn", name="rows"):
    """A catalog whose first 20 rows say something of their own."""
    lines = [f"{number:03},{words if number < firsts.MOST else 'a barn'} {number}\n" for number in range(count)]
    project.write(f"jobs/{name}.csv", "id,what\n" + "".join(lines))


def sent(service):
    """How many requests each batch had."""
    return [entry["requests"] for entry in service.ledger()]


def statuses(project, job="shop"):
    told = [record["status"] for record in project.records(job).values()]
    return {word: told.count(word) for word in sorted(set(told))}


def planned(project, *more):
    return project("plan", "jobs/shop.yaml", "--json", *more).json["jobs"][0]


@pytest.fixture
def many(shop):
    """Thirty images of a model that has never delivered here."""
    shop.write("jobs/shop.yaml", MANY)
    rows(shop, 30)
    return shop


@pytest.fixture
def slow_many(slow_shop):
    slow_shop.write("jobs/shop.yaml", MANY)
    rows(slow_shop, 30)
    return slow_shop


# ------------------------------------------------------------------------------------------- it delivers


def test_the_first_twenty_go_ahead_and_the_rest_follows_in_the_same_run(many, service):
    assert planned(many)["batches"] == 2
    assert "the first 20 go ahead alone: gemini-nano-banana-2.1 has not delivered here yet" in many("plan").out
    done = many(*RUN)
    assert (done.code, sent(service)) == (0, [20, 10])
    assert "its other images wait for its first batch" in done.err
    assert statuses(many) == {"done": 30}


def test_what_a_plan_counts_is_what_is_sent(many, service):
    many.write("jobs/shop.yaml", MANY + "batch: {max_requests: 25}\n")
    rows(many, 50)
    assert planned(many)["batches"] == 3
    assert many(*RUN).code == 0
    assert sent(service) == [20, 25, 5]


def test_a_model_that_has_delivered_needs_nobody_to_go_ahead(many, service):
    assert many(*RUN).code == 0
    many.write("jobs/shop.yaml", MANY.replace("'[what]'", "'[what] at night'"))
    assert planned(many)["batches"] == 1
    assert "go ahead alone" not in many("plan").out
    assert many(*RUN).code == 0
    assert sent(service) == [20, 10, 30]


def test_one_image_among_twenty_is_enough(many, service):
    rows(many, 30, "LOCAL:BLOCK")
    many.write("jobs/rows.csv", (many.folder / "jobs/rows.csv").read_text().replace("LOCAL:BLOCK 7", "a barn"))
    assert many(*RUN).code == 3
    assert sent(service) == [20, 10]
    assert statuses(many) == {"blocked": 19, "done": 11}


def test_a_proof_is_a_delivery(many, service):
    assert many("proof", "jobs/shop.yaml", "-n", "1").code == 0
    assert planned(many)["batches"] == 1
    assert many(*RUN).code == 0
    assert sent(service) == [30]


def test_a_fresh_clone_knows_from_the_records_what_has_delivered(many, service):
    assert many(*RUN).code == 0
    many("clean", "--yes")
    for path in (many.outputs / ".pipeline").glob("journal.db*"):
        path.unlink()
    many.write("jobs/shop.yaml", MANY.replace("'[what]'", "'[what] at night'"))
    assert many(*RUN).code == 0
    assert sent(service) == [20, 10, 30]


def test_the_other_service_has_delivered_nothing_here(many, service):
    assert many(*RUN).code == 0
    rehearsal = ("--service", "local", "--outputs", "outputs/rehearsal")
    assert many(*rehearsal, "plan", "--json").json["jobs"][0]["batches"] == 2


# ---------------------------------------------------------------------------------------- while it is away


def test_while_it_is_away_nothing_else_of_its_model_is_sent_by_anybody(slow_many, slow_service):
    assert slow_many("submit", "jobs/shop.yaml").code == 0
    slow_many.write("jobs/other.yaml", MANY.replace("'[what]'", "'[what] in fog'"))
    other = slow_many("submit", "jobs/other.yaml")
    assert other.code == 0
    assert "of the job 'shop'" in other.err
    assert slow_many("submit", "jobs").code == 0
    assert slow_many("run", "jobs/other.yaml", "--wait", "0").code == 4
    assert sent(slow_service) == [20]
    assert {one["job"]: one["open"] for one in slow_many("status", "--json").json["jobs"]} == {"other": 30, "shop": 10}
    slow_service.advance(21 * 3600)
    assert slow_many("submit", "jobs/other.yaml").code == 0
    assert sent(slow_service) == [20], "only the one that asked for it can bring it home"
    assert slow_many("submit", "jobs/shop.yaml", "jobs/other.yaml").code == 0
    assert sent(slow_service) == [20, 10, 30]


def test_another_model_does_not_wait(slow_many, slow_service):
    assert slow_many("submit", "jobs/shop.yaml").code == 0
    more = "".join(f"p{number},a barn {number},pro\n" for number in range(25))
    head, *known = (slow_many.folder / "jobs/rows.csv").read_text().splitlines()
    text = f"{head},set.model\n" + "".join(f"{line},flash\n" for line in known)
    slow_many.write("jobs/rows.csv", text + more)
    assert planned(slow_many)["batches"] == 3
    assert slow_many("submit", "jobs/shop.yaml", "--yes").code == 0
    assert sent(slow_service) == [20, 20], "what waits comes first in the catalog, and keeps nothing else from going"
    assert len({entry["model"] for entry in slow_service.ledger()}) == 2


def test_the_last_look_is_taken_in_the_transaction_that_makes_the_batch(many, service, monkeypatch):
    """Another process has sent a first batch between the look before and the row: nothing is made."""
    looks = []

    def late(run, work, model_id):
        looks.append(work.journal._db.in_transaction)
        return looks[-1]

    monkeypatch.setattr(ahead, "must_wait", late)
    assert many("submit", "jobs/shop.yaml").code == 0
    assert sent(service) == []
    assert looks == [False, True]


def test_of_two_processes_at_once_one_sends_the_first_batch(slow_many, slow_service, tmp_path):
    slow_many.write("jobs/other.yaml", MANY.replace("'[what]'", "'[what] in fog'"))
    words = [("-q", "submit", f"jobs/{job}.yaml") for job in ("shop", "other")]
    assert [one.code for one in crowd(slow_many, words, tmp_path / "said")] == [0, 0]
    assert sent(slow_service) == [20]


# ------------------------------------------------------------------------------------------ it brings none


def test_when_it_brings_nothing_the_rest_is_held_and_a_rerun_sends_nothing(many, service):
    rows(many, 30, "LOCAL:BLOCK")
    done = many(*RUN)
    assert (done.code, sent(service)) == (6, [20])
    assert statuses(many) == {"blocked": 20, "held": 10}
    reason = many.records()["025"]["reason"]
    assert reason.startswith("the first 20 images for gemini-nano-banana-2.1 brought none (20 blocked): look at them")
    assert "`pipeline ls items --job shop --status blocked`" in reason
    assert "`pipeline retry --only held` sends the rest all the same" in reason
    assert planned(many)["requests"] == 0
    before = many.tree()
    assert many(*RUN).code == 6
    assert many("submit", "jobs/shop.yaml").code == 6
    assert sent(service) == [20]
    assert many.tree() == before


def test_its_own_retries_may_still_bring_one(many, service):
    """Twenty errors, thrice: by then `retry` is used up, and the rest was never sent."""
    rows(many, 30, "LOCAL:ERROR")
    assert many(*RUN).code == 6
    assert sent(service) == [20, 20, 20]
    assert statuses(many) == {"failed": 20, "held": 10}
    assert "brought none (20 failed)" in many.records()["029"]["reason"]


def test_only_what_may_be_asked_again_is_and_nothing_beside_it(many, service):
    rows(many, 30, "LOCAL:BLOCK")
    text = (many.folder / "jobs/rows.csv").read_text()
    for number in (3, 12):
        text = text.replace(f"LOCAL:BLOCK {number}\n", "LOCAL:NOIMAGE\n")
    many.write("jobs/rows.csv", text)
    many.write("jobs/shop.yaml", MANY + "retry: 1\n")
    assert many(*RUN).code == 6
    assert sent(service) == [20, 2]
    assert "brought none (18 blocked, 2 no_image)" in many.records()["029"]["reason"]


def test_a_retry_that_delivers_lets_the_rest_follow(many, tmp_path_factory, monkeypatch):
    faults = many.write("night.yaml", "- {on: line, do: no_image, times: 1}\n")
    with local.serving(tmp_path_factory.mktemp("service"), latency_s=0, pictures="plain", faults=faults) as url:
        monkeypatch.setenv("GOOGLE_GEMINI_BASE_URL", url)
        assert many(*RUN).code == 0
        assert sent(Service(url)) == [20, 20, 10]


def test_a_person_may_send_the_rest_all_the_same(many, service):
    rows(many, 60, "LOCAL:BLOCK")
    many.write("jobs/shop.yaml", MANY + "batch: {max_requests: 25}\n")
    assert many(*RUN, "--yes").code == 6
    done = many("retry", "jobs/shop.yaml", "--only", "held", "--poll", "0.1s", "--yes")
    assert done.code == 3
    assert sent(service) == [20, 25, 15]
    assert statuses(many) == {"blocked": 20, "done": 40}


def test_a_person_who_asks_for_what_was_blocked_asks_for_no_more_than_that(many, service):
    rows(many, 30, "LOCAL:BLOCK")
    assert many(*RUN).code == 6
    assert many("retry", "jobs/shop.yaml", "--poll", "0.1s").code == 6
    assert sent(service) == [20, 20]
    assert statuses(many) == {"blocked": 20, "held": 10}


def test_another_ask_goes_ahead_anew(many, service):
    rows(many, 30, "LOCAL:BLOCK")
    assert many(*RUN).code == 6
    rows(many, 30, "a LOCAL:NOIMAGE")
    many.write("jobs/shop.yaml", MANY.replace("'[what]'", "'[what] at dusk'") + "retry: 0\n")
    assert planned(many)["batches"] == 2
    assert many(*RUN).code == 6
    assert sent(service) == [20, 20]
    rows(many, 30)
    assert many(*RUN).code == 6
    assert sent(service) == [20, 20, 20], "what was mended goes ahead; the rest is held, and a person decides"


@pytest.mark.some(1)
@pytest.mark.parametrize("between", ["collect", "lost"])
def test_it_is_held_whoever_brings_it_home(slow_many, slow_service, between):
    rows(slow_many, 30, "LOCAL:BLOCK")
    assert slow_many("submit", "jobs/shop.yaml").code == 0
    slow_service.advance(21 * 3600)
    assert slow_many("collect", "jobs/shop.yaml").code == 6
    if between == "lost":
        for path in (slow_many.outputs / ".pipeline").glob("journal.db*"):
            path.unlink()
    assert slow_many("submit", "jobs/shop.yaml").code == 6
    assert sent(slow_service) == [20]
    assert statuses(slow_many) == {"blocked": 20, "held": 10}


class Killed(BaseException):
    """Stands for SIGKILL."""


def test_killed_before_the_rest_was_held_it_is_not_sent(many, service, monkeypatch):
    def killed(_run, work):
        if work.came_home:
            raise Killed

    rows(many, 30, "LOCAL:BLOCK")
    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(ahead, "hold_back", killed)
        many(*RUN)
    assert statuses(many) == {"blocked": 20, "pending": 10}
    assert many("plan", "--json").json["jobs"][0]["requests"] == 0
    assert many(*RUN).code == 6
    assert sent(service) == [20]
    assert statuses(many) == {"blocked": 20, "held": 10}
