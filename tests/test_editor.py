"""In an editor: what is wrong is underlined where `pipeline validate` reports it, and every key explains itself."""

from __future__ import annotations

import pytest
from conftest import ROOT
from language_server import program, running

from pipeline.job.schema import schema

MODELINE = "# yaml-language-server: $schema=../schemas/job.schema.json\n"
EXAMPLES = sorted((ROOT / "jobs").glob("*.yaml"))

pytestmark = pytest.mark.skipif(program() is None, reason="yaml-language-server is not installed: see CONTRIBUTING.md")


@pytest.fixture(scope="module")
def editor():
    """One editor for all texts of this module."""
    with running(program()) as opened:
        yield opened


@pytest.fixture(scope="module")
def underlined(editor):
    """What the editor underlines in each text of the tests below."""
    texts = [*(MODELINE + text for text in FINE.values()), *(_marked(fault)[0] for fault in FAULTS.values())]
    return editor.underlined([*(path.read_text(encoding="utf-8") for path in EXAMPLES), *texts])


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.stem)
def test_has_nothing_against_an_example(underlined, example):
    text = example.read_text(encoding="utf-8")
    assert text.startswith(MODELINE)
    assert underlined[text] == []


# Valid, and easily taken for something else; `pipeline validate` agrees.
FINE = {
    "16:9 is a text": "prompt: x\naspect: 16:9\n",
    "512 is a size": "prompt: x\nmodel: sketch-1\nsize: 512\n",
    "and in quotes": "prompt: x\nmodel: sketch-1\nsize: '512'\n",
    "1K is a size": "prompt: x\nmodel: sketch-1\nmatrix: {size: [512, 1K, 2K]}\n",
    "no is a text": "description: no\ntags: [no, yes, on]\nprompt: '[answer]'\nvars: {answer: no}\n",
    "numbers are placeholders": "prompt: '[a] [b] [c]'\nitems: [{a: 007, b: 1.50, c: 12_000}]\n",
    "a text of several lines": "prompt: >-\n  A [thing],\n  plain\nitems:\n  - {thing: cup}\n",
    "anchors and merge keys": "x-wide: &wide {max: 2}\nprompt: x\nbudget: {<<: *wide}\nx-note: [anything, {at: all}]\n",
    "a list of texts": "prompt: '[item]'\nitems: [red, green]\n",
    "axes of one's own": "prompt: '[pose]'\nmatrix: {pose: [left, 2], exclude: [{pose: 2}]}\n",
    "short forms": "prompt: x\nretry: 0\nbudget: 1.5\nchecks: {aspect_tolerance: 3%}\nbatch: {max_bytes: 500 MB}\n",
    "settings for one": "prompt: '[a]'\nitems: [{a: b, set: {aspect: 4:5}}]\n",
    "settings for some": "prompt: '[a]'\nitems: [{a: b}]\noverrides: [{when: {a: {not: [c, 1]}}, set: {seed: 1}}]\n",
    "a conversation": "turns: [A red fox, {prompt: In snow, name: snow, keep: true, aspect: 16:9}]\n",
    "every kind of setting": (
        "prompt: x\nsystem: y\nresponse: [text, image]\nsearch: [web]\nthinking: high\nthoughts: true\ntemperature: 1\n"
        "top_p: 0.5\nseed: 1\nmax_output_tokens: 4096\nsafety: {harassment: off}\nmax_age: 20h\n"
    ),
}


@pytest.mark.parametrize("text", FINE.values(), ids=FINE)
def test_has_nothing_against_what_is_valid(underlined, project, text):
    project.write("jobs/shop.yaml", MODELINE + text)
    done = project("validate", "jobs/shop.yaml")
    assert done.code == 0, done.err
    assert underlined[MODELINE + text] == []


# Each has one fault, where « stands.
FAULTS = {
    "typo in a key": "prompt: x\n«aspekt: 1:1\n",
    "typo in items": "prompt: x\nitems: {csv: a.csv, «wher: {a: b}}\n",
    "typo in items, alone": "prompt: x\nitems: {«cvs: a.csv}\n",
    "typo in the set of an item": "prompt: x\nitems:\n  - id: a\n    set:\n      aspect: 4:5\n      «siz: 1K\n",
    "typo in an override": "prompt: x\noverrides:\n  - when: {a: b}\n    set: {aspect: 4:5}\n    «wen: {a: b}\n",
    "typo in set": "prompt: x\noverrides:\n  - when: {a: b}\n    set: {«sise: 1K}\n",
    "typo in a condition": "prompt: x\noverrides:\n  - when: {a: {«nto: b, not: c}}\n    set: {size: 1K}\n",
    "typo in budget": "prompt: x\nbudget: {«mx: 3}\n",
    "typo in retry": "prompt: x\nretry: {again: 1, «onn: [failed]}\n",
    "typo in retry, alone": "prompt: x\nretry: {«agin: 1}\n",
    "typo in batch": "prompt: x\nbatch:\n  deadline: 24h\n  «max_request: 3\n",
    "typo in checks": "prompt: x\nchecks: {«notblank: true}\n",
    "typo in output": "prompt: x\noutput: {path: '[id]', «side_car: true}\n",
    "typo in an image": "prompt: x\nimages:\n  - {file: a.png, «rolle: style}\n",
    "typo in an image, alone": "prompt: x\nimages:\n  - {«fil: a.png}\n",
    "typo in a turn": "turns:\n  - A red fox\n  - prompt: In snow\n    «kep: true\n",
    "typo in a turn, alone": "turns: [A red fox, {«promt: In snow}]\n",
    "typo in a table": "prompt: x\ntables:\n  copy: {file: copy.csv, «onn: [sku]}\n",
    "typo in safety": "prompt: x\nsafety: {«harasment: off}\n",
    "typo in safety of an axis": "prompt: x\nmatrix:\n  safety:\n    - {harassment: off}\n    - {«hate: off}\n",
    "misplaced at the top": "prompt: x\nitems: a.csv\n«where: {a: b}\n",
    "misplaced in items": "prompt: x\nitems: {csv: a.csv, «size: 1K}\n",
    "misplaced in set": "prompt: x\noverrides:\n  - {when: {a: b}, set: {«budget: 3}}\n",
    "skip of an item": "prompt: x\nitems: [{id: a, set: {«skip: true}}]\n",
    "model of a turn": "turns: [A red fox, {prompt: In snow, «model: pro}]\n",
    "wrong size": "prompt: x\nsize: «4k\n",
    "wrong size on an axis": "prompt: x\nmatrix:\n  size:\n    - 1K\n    - «3K\n",
    "wrong level in set": "prompt: x\noverrides:\n  - {when: {a: b}, set: {thinking: «lots}}\n",
    "wrong outcome": "prompt: x\nretry: {on: [failed, «done]}\n",
    "wrong role": "prompt: x\nimages: [{file: a.png, role: «hero}]\n",
    "wrong answer of a turn": "turns: [A red fox, {prompt: In snow, response: [«video]}]\n",
    "wrong threshold": "prompt: x\nsafety: {harassment: «never}\n",
    "wrong search": "prompt: x\nsearch: [web, «maps]\n",
    "wrong unique": "prompt: x\nitems: {csv: a.csv, unique: «last}\n",
    "wrong on_stuck": "prompt: x\nbatch: {on_stuck: «panic}\n",
    "a list for a text": "prompt: «[title]\n",
    "nothing for a text": "prompt: x\nsystem:«\n",
    "a text for a number": "prompt: x\nsamples: «'3'\n",
    "a text for a number in set": "prompt: x\nitems: [{id: a, set: {samples: «three}}]\n",
    "a fraction": "prompt: x\nseed: «1.5\n",
    "a text for a switch": "prompt: x\noutput: {sidecar: «sometimes}\n",
    "a text for a budget": "prompt: x\nbudget: «abc\n",
    "a text for an axis": "prompt: x\nmatrix: {aspect: «1:1}\n",
    "a text for a map": "prompt: x\nvars: «abc\n",
    "a list among vars": "prompt: x\nvars: {a: «[b]}\n",
    "a list in an item": "prompt: x\nitems:\n  - {a: «[b]}\n",
    "a map in a matrix": "prompt: x\nmatrix: {pose: [left, «{a: b}]}\n",
    "a text for images": "prompt: x\nimages: «a.png\n",
    "too few": "prompt: x\nsamples: «0\n",
    "too hot": "prompt: x\noverrides: [{when: {a: b}, set: {temperature: «3}}]\n",
    "too dear": "prompt: x\nbudget: {max: «-1}\n",
    "an aspect of another form": "prompt: x\naspect: «4x5\n",
    "an aspect in a turn": "turns: [A red fox, {prompt: In snow, aspect: «4x5}]\n",
    "an age": "prompt: x\nmax_age: «20 hours\n",
    "a deadline": "prompt: x\nbatch: {deadline: «tomorrow}\n",
}


@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS)
def test_underlines_where_validate_reports(underlined, project, fault):
    text, *place = _marked(fault)
    project.write("jobs/shop.yaml", text)
    done = project("validate", "--format", "json", "jobs/shop.yaml")
    assert done.code == 2
    assert place in [[error["line"], error["column"]] for error in done.json["errors"]], done.out
    assert [[found.line, found.column] for found in underlined[text]] == [place]


def _marked(text):
    """A manifest without the mark «, and the line and column where it stood."""
    before, _, after = (MODELINE + text).partition("«")
    return before + after, before.count("\n") + 1, len(before.rpartition("\n")[2]) + 1


def test_says_what_a_form_is(underlined):
    [said] = underlined[_marked(FAULTS["an aspect of another form"])[0]]
    assert said.message == DEFINED["aspect"]["patternErrorMessage"]


TOP = schema("job")["properties"]
DEFINED = schema("job")["definitions"]


@pytest.mark.parametrize(
    ("text", "meaning"),
    [
        pytest.param("«aspect: 4:5\nprompt: x\n", DEFINED["aspect"], id="setting"),
        pytest.param("prompt: x\n«budget: 1\n", TOP["budget"], id="job key"),
        pytest.param("prompt: x\nbudget: {«per_image: 1}\n", TOP["budget"]["anyOf"], id="budget"),
        pytest.param("prompt: x\nimages: [{file: a.png, «role: style}]\n", DEFINED["images"]["items"], id="image"),
        pytest.param("prompt: x\noverrides: [{when: {a: b}, set: {«seed: 1}}]\n", DEFINED["seed"], id="set"),
        pytest.param("turns: [x, {prompt: y, «keep: true}]\n", DEFINED["turn"], id="turn"),
        pytest.param("prompt: x\nitems: {csv: a.csv, «where: {a: b}}\n", TOP["items"]["anyOf"], id="items"),
    ],
)
def test_tells_what_a_key_means(editor, text, meaning):
    key = text.partition("«")[2].partition(":")[0]
    shown = editor.hover(*_marked(text))
    assert _plain(_described(meaning, key)) in _plain(shown)


def _described(rule, key):
    """The description of a key: of the rule itself, or of the branch that has it."""
    ways = rule if isinstance(rule, list) else [rule, *rule.get("anyOf", [])]
    inner = [way["properties"][key] for way in ways if key in way.get("properties", {})]
    return (inner or ways)[0]["description"]


def _plain(text):
    """Words without what marks them up, and without the line breaks."""
    return " ".join(text.replace("\\", "").split())


def test_offers_every_key_in_the_order_of_the_schema(editor):
    assert editor.offered(MODELINE, 2, 1) == list(TOP)


def test_offers_settings_and_words_where_they_belong(editor):
    text = MODELINE + "prompt: x\noverrides:\n  - when: {a: b}\n    set:\n      "
    assert editor.offered(text, 6, 7) == list(DEFINED["set_or_skip"]["properties"])
    assert editor.offered(MODELINE + "prompt: x\nthinking: ", 3, 11) == DEFINED["thinking"]["enum"]
