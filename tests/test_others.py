"""What is left as it is recorded answers every question as what was compared, and is noticed when it is written."""

from __future__ import annotations

import json

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pipeline import journal as journals
from pipeline.journal import Known, WantedRequest
from pipeline.journal.records import OVERTAKEN, UNANSWERED

JOB = "o'shop"
KEYS = [f"{row}/{axis}" for row in "abcdef" for axis in ("1:1", "4:5")]
RECORD = st.tuples(
    st.sampled_from(KEYS), st.sampled_from("xyz"), st.sampled_from(["done", "check", "pending"]),
    st.sampled_from(["tree", "retired"]), st.integers(0, 1),
)  # fmt: skip


@pytest.fixture
def journal(tmp_path):
    with journals.opened(tmp_path / ".pipeline", outputs=tmp_path) as one:
        yield one


def told(key, ask, status):
    files = [{"path": f"{key}.jpg"}] if status == "done" else []
    return json.dumps({"key": key, "id": key[0], "fingerprint": ask, "status": status, "files": files, "settings": {}})


def put(journal, key, ask, status, place="tree", wanted=1):
    journal.records.put(
        job=JOB, key=key, fingerprint=ask, wire_key=f"{key}~{ask}", model_id="m", path=key, status=status, place=place,
        wanted=wanted, service="gemini", attempts=1, answer_bytes=7, cost=5, line=told(key, ask, status),
    )  # fmt: skip


def request(key, ask):
    return WantedRequest(
        key, 1, "", ask, f"{key}~{ask}", "m", "1:1", "1K", "", key, 5, 6, 7, 8, "", None, told(key, ask, "pending")
    )


def take_all(journal, asks, hand):
    """Have all in the table that the job asks for: what is compared, and what is recorded as done."""
    journal.others.take_back()
    for row in journal._db.execute("SELECT * FROM record WHERE wanted AND place = 'tree'").fetchall():
        if row["status"] in {"done", "check"} and row["key"] not in {*asks, *hand}:
            journal._db.execute(
                "INSERT INTO wanted (key, turn, follows, fingerprint, wire_key, model_id, aspect, size, extras, path,"
                " cost, answer_bytes, input_bytes, images, line, state, open)"
                " VALUES (?, 1, '', ?, ?, ?, '', '', '', ?, ?, ?, 0, '', ?, 'done', 0)",
                [
                    row[name]
                    for name in ("key", "fingerprint", "wire_key", "model_id", "path", "cost", "answer_bytes", "line")
                ],
            )


def placeless(record):
    return record and record._replace(n=0)


def questions(journal):
    """Whatever a run asks about what is wanted."""
    wanted, found = journal.wanted, {}
    for key in KEYS:
        for ask in "xyz":
            found[key, ask] = (
                wanted.has(key, ask), wanted.path_of(key, ask), wanted.line_of(key, ask), wanted.max_age_s(key, ask),
                placeless(wanted.draft(JOB, "gemini", key, ask)),
                placeless(wanted.of_wire_key(JOB, "gemini", f"{key}~{ask}")),
                journal.late.cost(key, ask),
            )  # fmt: skip
        found[key] = wanted.is_wanted(key), wanted.leads_on(key), wanted.before(key), wanted.is_left_alone(key)
        found[key] += (wanted.reopened(JOB, key), journal.late.on_its_way(JOB, key), wanted.after(key))
    for name in ("opened", "totals", "loads", "counts", "has_conversations"):
        found[name] = getattr(wanted, name)()
    for name in ("not_done", "candidates", "moves", "paths", "ids"):
        found[name] = sorted(getattr(wanted, name)(), key=repr)
    found["of job"] = (
        sorted(wanted.gone(JOB)), wanted.missing(JOB, "gemini"), wanted.leading(JOB, "gemini"), journal.late.total(),
        wanted.goes_on_otherwise(JOB, "gemini"), journal.late.is_otherwise(JOB), wanted.dearer(4),
        sorted(wanted.asked_otherwise(JOB)), [*wanted.unclaimed(JOB, "x")],
    )  # fmt: skip
    return json.loads(json.dumps([[str(name), repr(one)] for name, one in found.items()]))


@settings(suppress_health_check=list(HealthCheck), derandomize=True, deadline=None)
@given(
    records=st.lists(RECORD, max_size=14, unique_by=lambda one: one[0]),
    asks=st.dictionaries(st.sampled_from(KEYS[:6]), st.sampled_from("xyz"), max_size=4),
    hand=st.sets(st.sampled_from(KEYS[:6]), max_size=3),
)
def test_what_is_left_answers_as_what_was_compared(journal, records, asks, hand):
    with journal.transaction():
        journal._db.execute("DELETE FROM record")
        for one in records:
            put(journal, *one)
    journal.wanted.replace(request(key, ask) for key, ask in asks.items())
    journal.others.leave(JOB, hand, Known({}))
    apart = questions(journal)
    journal.others.take_in()
    assert apart == questions(journal)
    journal.wanted.replace(request(key, ask) for key, ask in asks.items())
    take_all(journal, asks, hand)
    assert apart == questions(journal)


def test_what_is_at_hand_is_counted_and_opened_and_the_rest_is_as_it_was_known(journal):
    with journal.transaction():
        for key in KEYS:
            put(journal, key, "x", "done")
    journal.wanted.replace([request("a/1:1", "y"), request("g/1:1", "y")])
    journal.others.leave(JOB, ["a/1:1"], Known({"done": 10, "check": 1}))
    with journal.transaction():
        journal.records.want(JOB, "gemini")
    assert journal.records.counts(JOB) == {"check": 1, "done": 10, "pending": 2}
    assert [json.loads(line)["key"] for line in journal.records.published_at_hand(JOB)] == ["a/1:1", "g/1:1"]
    assert len([*journal.records.published(JOB)]) == len(KEYS) + 1
    assert not [*journal.records.pages(JOB, UNANSWERED)]
    [[found]] = journal.records.pages(JOB, OVERTAKEN)
    assert (found.key, found.fingerprint, found.wanted) == ("a/1:1", "x", 0)
    journal.others.take_in()
    assert journal.records.counts(JOB) == {"done": 11, "pending": 2}


@pytest.mark.parametrize("what", ["record", "no record", "another record", "answer"])
def test_what_is_written_of_another_row_has_all_of_the_job_looked_at(journal, what):
    with journal.transaction():
        for key in KEYS:
            put(journal, key, "x", "done")
        batch = journal.batches.add(
            job=JOB, service="gemini", model_id="m", name="b", chunk="c", attempt=1, requests=1, answer_bytes=0,
            cost=0, state="unpacked", planned_at=0.0,
        )  # fmt: skip
        journal.batches.ask(batch, [("a~x", "a/1:1", "x", 1)])
        journal.batches.settle(batch, "a~x", status="done", cost=5)
    journal.wanted.replace([request("a/1:1", "y")])
    journal.others.leave(JOB, (), Known({"done": 99}, "gemini", 70))
    assert journal.batches.spent(JOB, "gemini") == 70
    with journal.transaction():
        new = journal.batches.add(
            job=JOB, service="gemini", model_id="m", name="n", chunk="d", attempt=1, requests=1, answer_bytes=0,
            cost=0, state="live", planned_at=0.0,
        )  # fmt: skip
        journal.batches.ask(new, [("a~y", "a/1:1", "y", 1)])
        journal.batches.settle(new, "a~y", status="done", cost=8)
        put(journal, "a/1:1", "y", "pending")
    assert journal.others.are_apart
    assert journal.batches.spent(JOB, "gemini") == 78
    assert journal.records.counts(JOB)["done"] == 100
    with journal.transaction():
        match what:
            case "record":
                journal.records.change(journal.records.get(JOB, "b/1:1", "x"), status="failed")
            case "no record":
                journal._db.execute("DELETE FROM record WHERE key = 'b/1:1'")
            case "another record":
                put(journal, "b/1:1", "y", "failed", wanted=0)
            case _:
                journal.batches.settle(batch, "a~x", status="done", cost=6)
    assert not journal.others.are_apart
    assert sum(journal.records.counts(JOB).values()) == len(KEYS) + (what != "no record")
    assert journal.batches.spent(JOB, "gemini") == (14 if what == "answer" else 13)
