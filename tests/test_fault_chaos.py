"""Many faults at once, by chance: whatever a night was like, the next ones bring all of it home; order is no matter."""

from __future__ import annotations

import json

import pytest
from test_fault_matrix import comes_home
from troubles import RUN, opened

SEEDS = 60
QUICK = (3, 17)
CALLS = (
    *("refuse, code: 503", "refuse, code: 500, done: true", "refuse, code: 429, retry_after: 2", "drop_before"),
    *("drop_after", "html, code: 200", "html, done: true", "empty", "truncate", "truncate, length: short"),
    *("json, as: list", "json, as: deep", "gzip", "header", "partial", "date, ahead: 3000"),
)
THINGS = (
    *("on: batch, do: expire", "on: batch, do: late_output, downloads: 2", "on: batch, do: no_output, gets: 2"),
    *("on: batch, do: late_listing, seconds: 300", "on: batch, do: shape, as: top_level", "on: batch, do: backward"),
    *("on: answers, do: repeated", "on: answers, do: extra", "on: answers, do: crlf", "on: answers, do: none"),
    *("on: line, do: missing", "on: line, do: malformed", "on: line, do: duplicate, as: picture"),
    *(
        "on: line, do: error",
        "on: line, do: damage, as: tail",
        "on: line, do: junk, as: deep",
        "on: line, do: other_key",
    ),
    *("on: file, do: wrong_hash", "on: file, do: processing, gets: 2"),
)
BUYS = 3
"""A request may be asked again twice, by the defaults of a job."""


def rules(seed):
    """One call in twenty goes wrong, and one thing in twenty of each kind."""
    chance = 0.05 / len(CALLS)
    calls = (f"on: '*', do: {does}, probability: {chance:.5f}, seed: {seed}" for does in CALLS)
    return [*calls, *(f"{thing}, share: 0.05, seed: {seed}" for thing in THINGS)]


@pytest.fixture
def night(project, tmp_path_factory, monkeypatch):
    return opened(project, tmp_path_factory.mktemp("service"), monkeypatch)


@pytest.mark.parametrize(
    "seed", [pytest.param(seed, marks=() if seed in QUICK else pytest.mark.torture) for seed in range(SEEDS)]
)
def test_after_any_night_all_comes_home_and_nothing_is_paid_twice(night, seed):
    with night.serving(*rules(seed)):
        for _ in range(2):
            ended = night.run()
            assert ended.code in {0, 3, 4, 6}, ended.err
        assert night.most_bought() <= BUYS
    comes_home(night, BUYS)


# --------------------------------------------------------------------------------------- order is no matter

MAY_DIFFER = {"batch", "at", "attempt"}
"""Of a record: where and when it was bought, and which time it was asked for."""


def delivered(night):
    """Every file of the job but its manifests, and the records as they must be."""
    top = night.project.outputs / "shop"
    files = {path.name: path.read_bytes() for path in top.iterdir() if not path.name.startswith("manifest")}
    lines = [json.loads(line) for line in (top / "manifest.jsonl").read_text().splitlines()]
    return files, [{name: value for name, value in line.items() if name not in MAY_DIFFER} for line in lines]


def test_the_same_answers_in_another_order_or_at_other_times_are_the_same_tree(project, tmp_path_factory, monkeypatch):
    found = {}
    for name, *trouble in (
        ("as they come", ),
        ("sorted", "on: answers, do: in_order"),
        ("backwards", "on: answers, do: backwards"),
        ("each twice", "on: line, do: duplicate"),
        ("all twice", "on: answers, do: repeated"),
        ("with strangers", "on: answers, do: extra", "on: answers, do: crlf"),
        ("in two attempts", "on: line, do: error, every: 2, times: 1"),
        ("in two batches", "on: batch, do: expire, times: 1"),
        ("cut at first", "on: files.download, do: truncate, length: short, times: 1"),
        ("in another base64", "on: line, do: urlsafe"),
    ):  # fmt: skip
        night = opened(project, tmp_path_factory.mktemp("service"), monkeypatch)
        project.outputs = project.folder / name
        with night.serving(*trouble):
            assert night.run("--outputs", name, *RUN).code == 0
        found[name] = delivered(night)
    files, records = found["as they come"]
    assert len(files) == len(records) == 3
    for name, (others, told) in found.items():
        assert others == files, name
        assert told == records, name
