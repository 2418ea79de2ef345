"""Which record stands for a key in the output manifest, whatever was asked for under it before."""

from __future__ import annotations

import itertools
import json

import pytest

from pipeline import journal

STATES = [
    (status, place, wanted, files)
    for status in ("done", "failed")
    for place in ("tree", "retired")
    for wanted in (0, 1)
    for files in (False, True)
]


@pytest.fixture
def records(tmp_path):
    with journal.opened(tmp_path / ".pipeline", outputs=tmp_path) as one, one.transaction():
        yield one.records


def put(records, key, fingerprint, state):
    status, place, wanted, files = state
    told = {"key": key, "fingerprint": fingerprint, "status": status, "reason": None}
    told["files"] = [f"{key}.{fingerprint}.jpg"] if files else []
    records.put(
        job="shop", key=key, fingerprint=fingerprint, wire_key=f"{key}~{fingerprint}", model_id="m", path=key,
        status=status, place=place, wanted=wanted, service="local", attempts=1, answer_bytes=0, line=json.dumps(told),
    )  # fmt: skip
    return told | {"place": place, "wanted": wanted}


def stands(asks):
    """The law: what is asked for now, else what lies there; of several what names files, and the first of them."""
    lying = [ask for ask in asks if ask["place"] == "tree" and ask["status"] == "done"]
    found = [ask for ask in asks if ask["wanted"] or ask in lying]
    found.sort(key=lambda ask: (-ask["wanted"], not ask["files"]))
    if not found:
        return None
    one = found[0]
    others = sorted((ask for ask in lying if ask is not one), key=lambda ask: not ask["files"])
    if one["place"] == "retired":
        return one["fingerprint"], "held", []
    files = others[0]["files"] if others and one["status"] != "done" else one["files"]
    return one["fingerprint"], one["status"], files


def test_of_all_that_was_asked_under_a_key_one_record_is_published(records):
    """One, two and three asks in every state, each under a key of its own."""
    expected, number = [], itertools.count()
    combinations = itertools.chain.from_iterable(itertools.product(STATES, repeat=count) for count in (1, 2, 3))
    for states in combinations:
        key = f"k-{next(number):05}"
        told = stands([put(records, key, f"f{place}", state) for place, state in enumerate(states)])
        if told:
            expected.append((key, *told))
    published = [json.loads(line) for line in records.published("shop")]
    assert [(one["key"], one["fingerprint"], one["status"], one["files"]) for one in published] == expected


def test_to_ask_what_a_few_displace_does_not_grow_with_the_job(records):
    """Every group of answers asks: a look at all that is known would make a job of ten times the size a hundredfold."""
    keys = [f"k-{number:05}" for number in range(4_000)]

    def steps():
        counted = itertools.count()
        records._db.set_progress_handler(lambda: next(counted) * 0, 10)
        assert not records.may_displace("shop", keys[:20], keys[:20])
        records._db.set_progress_handler(None, 0)
        return next(counted)

    taken = []
    for some in (keys[:40], keys[40:]):
        for key in some:
            put(records, key, "f", ("pending", "tree", 1, False))
        taken.append(steps())
    assert taken[1] < 2 * taken[0]
    put(records, keys[3], "g", ("done", "tree", 0, True))
    assert records.may_displace("shop", keys[:20], keys[:20])
