"""Each thing that a service can do wrong, alone: how the run ends, that nothing is paid twice, and that all comes home.

The steps and columns are those of the fault matrix that the product is held to; `on` and `do` are docs/faults.md's.
"""

from __future__ import annotations

from dataclasses import dataclass

import pytest
from troubles import impatient, opened

from pipeline.local.faults import DOES, ONLY_ON

STEPS = {
    "files.upload": "upload", "files.chunk": "upload", "files.get": "upload", "batches.create": "create",
    "batches.list": "reconcile", "batches.get": "poll", "files.download": "download", "files.delete": "delete",
    "batches.delete": "delete",
}  # fmt: skip
CELLS = {
    "upload": {"lost", "busy", "refused", "lies"},
    "create": {"lost", "busy", "refused", "lies"},
    "reconcile": {"lost", "busy", "refused", "lies", "data"},
    "poll": {"lost", "busy", "refused", "lies"},
    "download": {"lost", "busy", "refused", "lies", "data"},
    "unpack": {"lies", "data"},
    "delete": {"lost", "busy", "refused"},
    "clock": {"lies"},
}
"""The cells of the matrix in which a service can do something wrong."""
ENDED, SOME_FAILED, UNFINISHED, PERSON = 0, 3, 4, 6


@dataclass(frozen=True)
class Case:
    """A fault, and what may come of it."""

    rules: tuple[str, ...]
    codes: frozenset[int]
    """How the run ends that meets it."""
    step: str
    column: str
    buys: int = 1
    """How often a request may be bought, before a person decides anything."""
    is_quick: bool = False

    @property
    def name(self):
        return " + ".join(rule.replace("on: ", "").replace("do: ", "") for rule in self.rules)


def case(rules, codes, cell, **more):
    rules = (rules,) if isinstance(rules, str) else rules
    step, column = cell.split()
    return Case(tuple(rules), frozenset({codes} if isinstance(codes, int) else codes), step, column, **more)


# ------------------------------------------------------------------------------------------------ of calls

LOST = (
    "drop_before",
    "drop_after",
    "hang, done: true",
    "truncate",
    "truncate, length: chunked",
    "delay, seconds: 0.01",
)
BUSY = (
    *("refuse, code: 503", "refuse, code: 500, done: true", "refuse, code: 408", "html"),
    "refuse, code: 429, retry_after: 3, retry_in: date",
)
KEY = (
    *("refuse, code: 400, reason: API_KEY_INVALID", "refuse, code: 401", "refuse, code: 403, reason: SERVICE_DISABLED"),
    *(
        "refuse, code: 403, reason: CONSUMER_SUSPENDED",
        "refuse, code: 403, message: Your API key was reported as leaked.",
    ),
)
REFUSED = (*KEY, "refuse, code: 400", "refuse, code: 413", "refuse, code: 409")
LIES = (
    *("html, code: 200", "html, code: 200, done: true", "empty", "truncate, length: short", "gzip", "header"),
    *("bomb, bytes: 1000000", "redirect, done: true", "json", "json, as: list", "json, as: nothing"),
    *("json, as: number", "json, as: words", "json, as: deep", "json, as: nan", "partial", "flip, at: 0.02"),
    *("mislabel", "mislabel, as: missing", "mislabel, as: number", "mislabel, as: path"),
)
MAIN = ("files.upload", "batches.create", "batches.list", "batches.get", "files.download")
SOME_LIES = LIES[:7]
APART = {("files.download", "flip, at: 0.02")}
"""What has a case of its own below."""
_QUICK = {
    "on: batches.create, do: drop_after, times: 1",
    "on: batches.create, do: html, code: 200, done: true, times: 1",
    "on: batches.create, do: mislabel, times: 1",
    "on: files.download, do: html, code: 200",
    "on: batches.get, do: refuse, code: 404",
    "on: files.download, do: truncate, length: short, times: 1",
    "on: batches.list, do: gzip, times: 1",
    "on: batches.get, do: refuse, code: 401, times: 1",
}


def of_calls():
    for call in MAIN:
        step = STEPS[call]
        lies = SOME_LIES if call in {"files.upload", "batches.list"} else LIES
        for column, words in (("lost", LOST), ("busy", BUSY), ("lies", lies), ("refused", REFUSED)):
            for word in words:
                if call in ONLY_ON.get(word.partition(",")[0], (call,)) and (call, word) not in APART:
                    yield once(call, word, step, column)


def once(call, word, step, column):
    """A fault that comes a single time: mostly, nothing of it is left in the end."""
    codes = {ENDED}
    if column == "refused" or (word.startswith("redirect") and call != "batches.create"):
        may_pass = call == "files.download" or (call, word) == ("files.upload", "refuse, code: 409")
        codes = {PERSON, ENDED} if may_pass else {PERSON}
    rule = f"on: {call}, do: {word}, times: 1"
    return case(rule, codes, f"{step} {column}", is_quick=rule in _QUICK)


def for_ever():
    """A fault that does not go away: the run says so, and has bought nothing twice."""
    for word, create, others in (
        ("refuse, code: 503", UNFINISHED, UNFINISHED),
        ("refuse, code: 429", UNFINISHED, UNFINISHED),
        ("drop_after", ENDED, UNFINISHED),
        ("html, code: 200", UNFINISHED, UNFINISHED),
        ("refuse, code: 401", PERSON, PERSON),
        ("refuse, code: 403", PERSON, PERSON),
    ):
        column = {"refuse, code: 503": "busy", "refuse, code: 429": "busy", "drop_after": "lost"}.get(word, "refused")
        for call in ("batches.create", "batches.list", "batches.get", "files.download"):
            codes = create if call == "batches.create" else others
            if call == "files.download" and word.startswith(("html", "refuse, code: 40")):
                codes = PERSON
            rule = f"on: {call}, do: {word}"
            cell = f"{STEPS[call]} {'lies' if word.startswith('html') else column}"
            yield case(rule, codes, cell, is_quick=rule in _QUICK)
    yield case("on: batches.get, do: refuse, code: 404", {ENDED, PERSON}, "poll refused", is_quick=True)
    for call in ("files.delete", "batches.delete"):
        for word, column in (
            ("refuse, code: 503", "busy"), ("drop_after", "lost"), ("refuse, code: 403", "refused"),
            ("refuse, code: 404", "refused"), ("refuse, code: 401", "refused"),
        ):  # fmt: skip
            yield case(f"on: {call}, do: {word}", ENDED, f"delete {column}")


LOST_CREATE = "on: batches.create, do: drop_after, times: 1"
SPECIAL = (
    case("on: batches.create, do: twice, times: 1", ENDED, "create lies", buys=2),  # the service's own doing
    case("on: batches.create, do: limit", ENDED, "create busy"),
    case("on: batches.create, do: mislabel, field: display_name, times: 1", ENDED, "create lies"),
    case("on: batches.create, do: slow, rate: 20000", ENDED, "create lost"),
    case("on: batches.list, do: stranger", ENDED, "reconcile lies"),
    case((LOST_CREATE, "on: batches.list, do: stranger"), ENDED, "reconcile data", is_quick=True),
    case((LOST_CREATE, "on: batches.list, do: stranger, same_name: true"), {ENDED, PERSON}, "reconcile lies"),
    case((LOST_CREATE, "on: batches.list, do: empty_page"), ENDED, "reconcile lies", is_quick=True),
    case((LOST_CREATE, "on: batches.list, do: repeat_page"), UNFINISHED, "reconcile lies", is_quick=True),
    case((LOST_CREATE, "on: batch, do: late_listing, seconds: 600"), ENDED, "reconcile lies"),
    # A list that is never whole, and says it is, is the one that nothing can be done about but wait.
    case((LOST_CREATE, "on: batches.list, do: stop_early"), ENDED, "reconcile lies", buys=2),
    case((LOST_CREATE, "on: batches.list, do: stop_early, times: 2"), ENDED, "reconcile lies"),
    case("on: files.upload, do: elsewhere", PERSON, "upload lies", is_quick=True),
    case("on: files.chunk, do: drop_before, times: 1", ENDED, "upload lost"),
    case("on: files.chunk, do: refuse, code: 503, times: 1", ENDED, "upload busy"),
    case("on: files.chunk, do: mislabel, times: 1", {ENDED, UNFINISHED}, "upload lies"),
    case("on: files.get, do: mislabel, times: 1", {ENDED, UNFINISHED}, "upload lies"),
    case("on: files.download, do: other_answer", {ENDED, PERSON}, "download lies"),
    case("on: files.download, do: flip, times: 1", ENDED, "download data", buys=2),
    case("on: files.download, do: empty", PERSON, "download lies", is_quick=True),
    case("on: files.download, do: truncate, length: short", PERSON, "download lies"),
    case("on: '*', do: date, ahead: -86400", ENDED, "clock lies"),
    case("on: '*', do: date, ahead: 86400", PERSON, "clock lies"),
    case("on: '*', do: date, as: nothing", ENDED, "clock lies"),
    case("on: '*', do: date, as: words", ENDED, "clock lies"),
    case("on: '*', do: gzip", UNFINISHED, "reconcile lies"),
    case("on: file, do: processing", ENDED, "upload lies"),
    case("on: file, do: processing, gets: 100000", UNFINISHED, "upload lies"),
    case("on: file, do: failed, times: 1", ENDED, "upload lies"),
    case("on: file, do: failed", PERSON, "upload lies"),
    case("on: file, do: wrong_hash, times: 1", ENDED, "upload lies", is_quick=True),
    case("on: file, do: wrong_hash", PERSON, "upload lies"),
    case("on: file, do: wrong_bytes", PERSON, "upload lies"),
    case("on: file, do: gone, times: 1", ENDED, "upload refused"),
    case("on: file, do: gone", PERSON, "upload refused"),
    case("on: file, do: expires, seconds: 600", {ENDED, UNFINISHED, PERSON}, "upload refused"),
)

# ------------------------------------------------------------------------------- of batches, answers, lines

BATCHES = (
    ("pending", UNFINISHED), ("running", UNFINISHED), ("expire", ENDED, 2), ("expire, output: true", ENDED),
    ("fail", ENDED, 2), ("fail, code: 3", SOME_FAILED), ("fail, output: true", ENDED), ("cancel", SOME_FAILED),
    ("cancel, output: true", ENDED), ("unknown_state", ENDED), ("unknown_state, state: DREAMING", ENDED),
    ("unknown_state, state: DREAMING, output: false", PERSON),
    ("unknown_state, done: false, state: DREAMING", UNFINISHED),
    ("shape", ENDED), ("shape, as: top_level", ENDED), ("shape, as: snake_case", ENDED),
    ("shape, as: stateless", ENDED),
    ("shape, as: response_only", ENDED), ("backward", PERSON), ("no_output", PERSON), ("no_output, gets: 3", ENDED),
    ("vanish", PERSON), ("vanish, gets: 1", PERSON), ("counts, successful: 7", ENDED),
    ("counts, successful: 0, failed: 3", ENDED), ("late_output", ENDED), ("late_output, downloads: 1000000", PERSON),
    ("late_listing, seconds: 60", ENDED), ("slow_cancel", ENDED),
)  # fmt: skip
_QUICK_BATCHES = {"backward", "vanish, gets: 1", "late_output, downloads: 1000000", "no_output, gets: 3"}
ANSWERS = (
    *((word, ENDED) for word in ("in_order", "backwards", "repeated", "extra", "unended", "crlf", "bom")),
    *(("array", PERSON), ("none", PERSON)),
)
REASONS = (
    *("SAFETY", "IMAGE_SAFETY", "PROHIBITED_CONTENT", "IMAGE_PROHIBITED_CONTENT", "BLOCKLIST", "RECITATION"),
    *("IMAGE_RECITATION", "SPII", "MODEL_ARMOR"),
)
EMPTY_REASONS = ("STOP", "OTHER", "NO_IMAGE", "MAX_TOKENS", "IMAGE_OTHER", "LANGUAGE", "SOMETHING_NEW")
HARMLESS = (
    *("duplicate", "duplicate, as: picture", "duplicate, as: error", "duplicate, as: error_first", "urlsafe"),
    *(f"junk, as: {word}" for word in ("binary", "word", "number", "nothing", "list", "object", "deep", "digits")),
    *(f"spelling, as: {word}" for word in ("escaped", "newlines", "separators", "surrogate", "nan")),
    *("long", "both", "thoughts", "several", "candidates", "wrong_mime", "block, picture: true"),
)
ASKED_AGAIN = (
    *("no_image", "error", "error, details: true", "error, under: status", "neither", "text", "signature", "corrupt"),
    *(f"damage, as: {word}" for word in ("letters", "nothing", "html", "svg", "zip", "gif")),
    *(f"damage, as: {word}" for word in ("cut", "checksum", "no_end", "tail", "bomb")),
    *(f"block, reason: {reason}" for reason in EMPTY_REASONS),
)
LACKING = (
    *("missing", "malformed", "junk, alone: true"),
    *(f"other_key, as: {word}" for word in ("text", "nothing", "number", "list", "path", "missing")),
)
"""The service may count more answers than there are: they are fetched a few times more, and asked for again then."""
LEFT_TO_A_PERSON = (
    *("error, code: 3", "wrong_size", "same_picture", "damage, as: size", "damage, as: no_pixels"),
    *("block, under: prompt", *(f"block, reason: {reason}" for reason in REASONS)),
)
_QUICK_LINES = {"duplicate, as: error", "junk, as: deep", "damage, as: tail", "other_key, as: path"}


def of_things():
    for word, code, *buys in BATCHES:
        rule = f"on: batch, do: {word}, times: 1"
        yield case(rule, code, "poll lies", buys=(*buys, 1)[0], is_quick=word in _QUICK_BATCHES)
    for word, code in ANSWERS:
        yield case(f"on: answers, do: {word}, times: 1", code, "unpack lies")
    for words, code, buys in (
        (HARMLESS, ENDED, 1),
        (ASKED_AGAIN, ENDED, 2),
        (LEFT_TO_A_PERSON, SOME_FAILED, 1),
        (LACKING, ENDED, 2),
    ):
        for word in words:
            # Of the lines of a batch of three, the second; those of a batch of one are left alone.
            yield case(f"on: line, do: {word}, every: 2", code, "unpack data", buys=buys, is_quick=word in _QUICK_LINES)


CASES = [*of_calls(), *for_ever(), *SPECIAL, *of_things()]


# ------------------------------------------------------------------------------------------------- the laws


def params():
    return [pytest.param(one, id=one.name, marks=() if one.is_quick else pytest.mark.torture(most=30)) for one in CASES]


@pytest.fixture
def night(project, tmp_path_factory, monkeypatch):
    return opened(project, tmp_path_factory.mktemp("service"), monkeypatch)


@pytest.mark.parametrize("one", params())
def test_a_fault_costs_nothing_twice_and_when_it_is_over_all_comes_home(night, monkeypatch, one):
    if "do: hang" in one.rules[0]:
        impatient(monkeypatch)
    if "on: batches.delete" in one.rules[0]:
        monkeypatch.setenv("PIPELINE_KEEP_REMOTE", "0")
    with night.serving(*one.rules):
        ended = night.run()
        assert ended.code in one.codes, ended.err
        assert night.most_bought() <= one.buys
    comes_home(night, one.buys)


def comes_home(night, buys):
    """With the fault over, runs bring all of it home; what a person must decide about is bought once more at most."""
    night.forget_fates()
    with night.serving():
        night.sleep(3600)
        for _ in range(3):
            ended = night.run()
            if ended.code != UNFINISHED:
                break
        assert night.most_bought() <= buys
        if ended.code in {SOME_FAILED, PERSON}:
            words = ("--only", "held") if ended.code == PERSON else ()
            ended = night.run("retry", "jobs/shop.yaml", *words, "--poll", "1m", "--wait", "6h", "--yes")
        assert ended.code == ENDED, ended.err
        assert {record["status"] for record in night.project.records().values()} == {"done"}
        assert not night.images_there() - night.images_here(), "what was paid for and is there still is here"
        night.is_at_rest()


def test_every_word_of_the_language_has_a_case():
    tried = {(kind(rule), word(rule)) for one in CASES for rule in one.rules}
    known = {(thing, does) for thing, words in DOES.items() for does in words}
    assert known - tried == set()


def kind(rule):
    on = rule.split(",")[0].removeprefix("on: ")
    return on if on in DOES else "call"


def word(rule):
    return rule.split("do: ")[1].split(",")[0]


def test_every_cell_of_the_matrix_that_a_service_can_reach_has_a_case():
    tried = {(one.step, one.column) for one in CASES}
    assert {(step, column) for step, columns in CELLS.items() for column in columns} - tried == set()


def test_a_case_stands_there_once():
    names = [one.name for one in CASES]
    assert sorted(names) == sorted(set(names))
