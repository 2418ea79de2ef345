"""The quick yes of a schema: never where `jsonschema` says no, and nearly always where it says yes."""

from __future__ import annotations

import copy

import pytest
from conftest import ROOT
from hypothesis import given
from hypothesis import strategies as st

from pipeline.job import schema
from pipeline.job.fits import fits

JOBS = sorted((ROOT / "jobs").glob("*.yaml"))
KEYS = sorted(schema.schema("job")["properties"])
NAMES = sorted(schema.schema("job")["definitions"])
TEXTS = (
    "",
    "x",
    "1:1",
    "4:5\n",
    "1K",
    "24h",
    "500 MB",
    "web",
    "image",
    "text",
    "object",
    "high",
    "a.csv",
    "auto",
    "wait",
)
INNER = (*KEYS, "file", "glob", "as", "role", "csv", "when", "not", "x-a", "")
SCALARS = st.one_of(
    st.none(), st.booleans(), st.integers(-2, 200), st.floats(allow_nan=False, width=16), st.sampled_from(TEXTS)
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(INNER), inner, max_size=3),
    max_leaves=8,
)


def rule(name):
    return schema._rule(name)


def says(name, value):
    """What the two of them say."""
    return fits(value, rule(name), rule(name)["definitions"]), schema._validator(name).is_valid(value)


@given(name=st.sampled_from(["", *NAMES]), value=VALUES)
def test_a_yes_is_a_yes_of_the_schema(name, value):
    quick, slow = says(name, value)
    assert slow or not quick, (name, value)


@given(data=st.data())
def test_a_yes_to_what_is_nearly_right_is_a_yes_of_the_schema(data):
    """An example with one thing in it changed, taken away or added."""
    whole = copy.deepcopy(data.draw(st.sampled_from(EXAMPLES)))
    inside, path = whole, []
    while isinstance(inside, dict | list) and inside and data.draw(st.booleans()):
        key = data.draw(st.sampled_from(sorted(inside) if isinstance(inside, dict) else range(len(inside))))
        path.append((inside, key))
        inside = inside[key]
    if path:
        parent, key = path[-1]
        parent[key] = data.draw(VALUES)
    else:
        whole[data.draw(st.sampled_from([*KEYS, "promt", "x-mine"]))] = data.draw(VALUES)
    quick, slow = says("", whole)
    assert slow or not quick, whole


EXAMPLES = [
    {"prompt": "a fox", "aspect": "4:5", "items": [{"id": "a", "product": "mug"}], "budget": 5},
    {"prompt": {"file": "p.md"}, "matrix": {"aspect": ["1:1", "4:5"], "exclude": [{"aspect": "1:1"}]}, "size": "2K"},
    {"template": "t", "items": {"csv": "a.csv", "where": {"status": "on"}, "limit": 3}, "retry": {"again": 1}},
    {"turns": ["a", {"prompt": "b", "keep": True}], "safety": {"dangerous_content": "block_none"}, "samples": 2},
    {"prompt": "x", "images": ["a.png", {"file": "b.png", "as": "b", "role": "style"}], "response": ["text", "image"]},
    {
        "prompt": "x",
        "batch": {"max_bytes": "500 MB", "deadline": "24h", "on_stuck": "wait"},
        "checks": {"decode": False},
    },
    {"prompt": "x", "overrides": [{"when": {"a": {"not": "b"}}, "set": {"skip": True}}], "search": ["web"]},
]


@pytest.mark.parametrize("example", EXAMPLES, ids=range(len(EXAMPLES)))
def test_what_is_right_gets_the_quick_yes(example):
    assert says("", example) == (True, True)


def test_no_example_of_ours_needs_the_long_look(monkeypatch):
    """Each of these loads `jsonschema` only to be told that nothing is wrong."""
    from pipeline.errors import JobError
    from pipeline.job import language

    monkeypatch.setattr(schema, "_validator", lambda _name="": pytest.fail("jsonschema was asked"))
    monkeypatch.chdir(ROOT)
    for path in JOBS:
        if not path.name.startswith("_"):
            try:
                language.load(path, root=ROOT)
            except JobError as error:
                pytest.fail(str(error))


@pytest.mark.parametrize("name", NAMES)
def test_a_yes_to_what_is_near_a_limit_is_a_yes_of_the_schema(name):
    for value in NEAR:
        quick, slow = says(name, value)
        assert slow or not quick, value


NEAR = [
    None, True, False, -1, 0, 1, 2, 3, 20, 21, 100, 101, 1000, 1001, 2**31, 2**40, -0.1, 0.0, 0.5, 1.0, 1.1, 2.0, 2.1,
    *TEXTS, "x" * 64, "x" * 65, "x" * 100_001, [], ["web"], ["web", "web"], ["text", "image", "text"], [1, 1], [[]], {},
    {"": 1}, {"a": None}, {"a": {"not": []}}, {"max": 0}, {"max": -1, "per_image": 1}, {"again": 11}, {"file": ""},
]  # fmt: skip


def test_a_keyword_it_does_not_know_is_no_yes():
    assert not fits(3, {"type": "integer", "multipleOf": 3}, {})
    assert fits(3, {"type": "integer", "description": "three"}, {})


@pytest.mark.parametrize("text", ["4:5\n", "4:5"], ids=["a line break at the end", "none"])
def test_a_pattern_ends_where_the_text_ends(text):
    assert fits(text, {"type": "string", "pattern": "^[0-9]+:[0-9]+$"}, {}) is (text == "4:5")
