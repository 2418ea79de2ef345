"""Rehearsed trouble: its words, and the rules made of them."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, field
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

CALLS = (
    *("batches.create", "batches.get", "batches.list", "batches.cancel", "batches.delete", "batches.update"),
    *("files.upload", "files.chunk", "files.get", "files.list", "files.delete", "files.download", "files.register"),
    *("generateContent", "countTokens", "models.get", "models.list"),
)
ANY_CALL = "*"
THINGS = ("batch", "answers", "line", "file")
STATUSES = {
    400: "INVALID_ARGUMENT",
    401: "UNAUTHENTICATED",
    403: "PERMISSION_DENIED",
    404: "NOT_FOUND",
    408: "DEADLINE_EXCEEDED",
    409: "ALREADY_EXISTS",
    412: "FAILED_PRECONDITION",
    413: "INVALID_ARGUMENT",
    416: "OUT_OF_RANGE",
    429: "RESOURCE_EXHAUSTED",
    499: "CANCELLED",
    500: "INTERNAL",
    501: "UNIMPLEMENTED",
    502: "UNAVAILABLE",
    503: "UNAVAILABLE",
    504: "DEADLINE_EXCEEDED",
}
"""What google.rpc calls the codes of HTTP that a rule may refuse with."""
_LARGEST = 1 << 53


@dataclass(frozen=True, slots=True)
class Value:
    """What may follow a word of a rule."""

    expected: str
    fits: Callable[[Any], bool]
    default: Any = None


def _whole(expected: str, least: int, default: int | None = None, most: int = _LARGEST) -> Value:
    def fits(value: Any) -> bool:
        return isinstance(value, int) and not isinstance(value, bool) and least <= value <= most

    return Value(expected, fits, default)


def _number(expected: str, most: float, default: float | None = None) -> Value:
    def fits(value: Any) -> bool:
        return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= most

    return Value(expected, fits, default)


def _code(expected: str, default: int) -> Value:
    rpc = _whole("", 1, most=16)
    http = _whole("", 400, most=599)
    return Value(expected, lambda value: rpc.fits(value) or http.fits(value), default)


def _one_of(*choices: Any, default: Any = None) -> Value:
    return Value(f"one of {', '.join(map(str, choices))}", lambda value: value in choices, default)


def _text(default: str | None = None) -> Value:
    return Value("text", lambda value: isinstance(value, str) and bool(value), default)


def _flag(*, default: bool) -> Value:
    return Value("true or false", lambda value: isinstance(value, bool), default)


_HOUR_S = 3600
_PART = _number("a number from 0 to 1", 1)
_SECONDS = _number("a number of seconds, an hour at most", _HOUR_S, 1.0)
_DONE = _flag(default=False)
_WITH_OUTPUT = _flag(default=False)
_TIMES = _whole("a whole number, 1 or more", 1, 1)
_COUNT = _whole("a whole number, 0 or more", 0)
_NOWHERE = "http://127.0.0.1:9/"
"""Where nobody listens."""


def _signed(expected: str, default: float) -> Value:
    return Value(expected, lambda value: isinstance(value, int | float) and not isinstance(value, bool), default)


def _bytes(default: int) -> Value:
    return _whole("a number of bytes, a thousand millions at most", 1, default, 1_000_000_000)


_ALWAYS: Mapping[str, Value] = {
    "after": _whole("a whole number, 0 or more", 0, 0),
    "times": _whole("a whole number, 1 or more", 1),
    "every": _whole("a whole number, 1 or more", 1, 1),
    "seed": _whole("a whole number, 0 or more", 0, 0),
}
WHEN: Mapping[str, Mapping[str, Value]] = {
    "call": {**_ALWAYS, "probability": _PART},
    **{thing: {**_ALWAYS, "share": _PART, "key": _text()} for thing in THINGS},
}
"""When a rule strikes, by what it is about."""

DOES: Mapping[str, Mapping[str, Mapping[str, Value]]] = {
    "call": {
        "refuse": {
            "code": _one_of(*STATUSES, default=503),
            "status": _text(),
            "message": _text("Rehearsed trouble."),
            "reason": _text(),
            "retry_after": _number("a number of seconds, a day at most", 24 * _HOUR_S),
            "retry_in": _one_of("both", "header", "details", "date", default="both"),
            "done": _DONE,
        },
        "limit": {"running": _TIMES},
        "drop_before": {},
        "drop_after": {},
        "hang": {"seconds": _number("a number of seconds, an hour at most", _HOUR_S, _HOUR_S), "done": _DONE},
        "delay": {"seconds": _SECONDS},
        "slow": {"rate": _whole("bytes in a second, 1 or more", 1, 1000)},
        "truncate": {
            "bytes": _whole("a whole number, 0 or more", 0),
            "part": _PART,
            "length": _one_of("full", "short", "none", "chunked", default="full"),
        },
        "empty": {},
        "flip": {"at": _number("a number from 0 to 1", 1, 0.5)},
        "gzip": {},
        "bomb": {"bytes": _bytes(100_000_000), "compressed": _flag(default=True)},
        "header": {"bytes": _bytes(200_000)},
        "date": {
            "ahead": _signed("a number of seconds, less than 0 for the past", 86400.0),
            "as": _one_of("date", "nothing", "words", default="date"),
        },
        "redirect": {
            "code": _one_of(301, 302, 303, 307, 308, default=307),
            "to": _text(_NOWHERE),
            "done": _DONE,
        },
        "elsewhere": {"to": _text(_NOWHERE)},
        "json": {"as": _one_of("object", "list", "nothing", "number", "words", "deep", "nan", default="object")},
        "mislabel": {
            "field": _one_of("name", "display_name", default="name"),
            "as": _one_of("other", "missing", "number", "path", default="other"),
        },
        "html": {"code": _one_of(200, 500, 502, 503, 504, default=502), "done": _DONE},
        "twice": {},
        "empty_page": {},
        "repeat_page": {},
        "stop_early": {"items": _whole("a whole number, 0 or more", 0, 0)},
        "stranger": {"same_name": _flag(default=False)},
        "other_answer": {},
        "partial": {"part": _number("a number from 0 to 1", 1, 0.5)},
    },
    "batch": {
        "pending": {},
        "running": {},
        "expire": {"output": _WITH_OUTPUT},
        "fail": {
            "code": _whole("a number of google.rpc, 1 to 16", 1, 13, 16),
            "message": _text("Rehearsed trouble."),
            "output": _WITH_OUTPUT,
        },
        "cancel": {"output": _WITH_OUTPUT},
        "unknown_state": {
            "state": _text("PARTIALLY_SUCCEEDED"),
            "done": _flag(default=True),
            "output": _flag(default=True),
        },
        "shape": {
            "as": _one_of("job_state", "top_level", "snake_case", "response_only", "stateless", default="job_state")
        },
        "backward": {"gets": _TIMES},
        "no_output": {"gets": _whole("a whole number, 1 or more", 1)},
        "vanish": {"gets": _whole("a whole number, 0 or more", 0, 0)},
        "counts": {"successful": _COUNT, "failed": _COUNT},
        "late_output": {"downloads": _TIMES},
        "late_listing": {"seconds": _SECONDS},
        "slow_cancel": {"seconds": _SECONDS},
    },
    "answers": {
        "in_order": {},
        "backwards": {},
        "repeated": {},
        "extra": {},
        "unended": {},
        "crlf": {},
        "bom": {},
        "array": {},
        "none": {},
    },
    "line": {
        "missing": {},
        "duplicate": {"as": _one_of("same", "picture", "error", "error_first", default="same")},
        "malformed": {},
        "junk": {
            "as": _one_of("binary", "word", "number", "nothing", "list", "object", "deep", "digits", default="binary"),
            "alone": _flag(default=False),
        },
        "spelling": {
            "as": _one_of("escaped", "newlines", "separators", "surrogate", "nan", default="escaped"),
        },
        "long": {"bytes": _bytes(1_000_000)},
        "both": {},
        "neither": {},
        "block": {
            "reason": _text("IMAGE_SAFETY"),
            "message": _text("Rehearsed: the picture is withheld."),
            "under": _one_of("answer", "prompt", default="answer"),
            "picture": _flag(default=False),
        },
        "no_image": {},
        "error": {
            "code": _code("a number of google.rpc, 1 to 16, or of HTTP, 400 to 599", 13),
            "message": _text("Rehearsed trouble."),
            "under": _one_of("error", "status", default="error"),
            "details": _flag(default=False),
        },
        "wrong_size": {},
        "corrupt": {},
        "damage": {
            "as": _one_of(
                *("letters", "nothing", "html", "svg", "zip", "gif", "cut", "checksum", "no_end", "size", "tail"),
                *("bomb", "no_pixels"),
                default="letters",
            )
        },
        "wrong_mime": {"mime": _text("image/webp")},
        "same_picture": {},
        "candidates": {"number": _whole("a whole number, 2 to 8", 2, 2, 8)},
        "other_key": {"as": _one_of("text", "nothing", "number", "list", "missing", "path", default="text")},
        "text": {"message": _text("Rehearsed: words, and no picture.")},
        "signature": {},
        "thoughts": {},
        "several": {"pictures": _whole("a whole number, 2 to 4", 2, 2, 4)},
        "urlsafe": {},
    },
    "file": {
        "processing": {"gets": _TIMES},
        "failed": {},
        "gone": {},
        "wrong_hash": {},
        "wrong_bytes": {},
        "expires": {"seconds": _number("a number of seconds, two days at most", 48 * _HOUR_S, _HOUR_S)},
    },
}
"""What happens, by what the rule is about, with the words that say more about it."""

ONLY_ON: Mapping[str, tuple[str, ...]] = {
    "twice": ("batches.create",),
    **dict.fromkeys(("empty_page", "repeat_page", "stop_early"), ("batches.list", "files.list", "models.list")),
    "limit": ("batches.create",),
    "elsewhere": ("files.upload",),
    "stranger": ("batches.list",),
    "other_answer": ("files.download",),
    "mislabel": (
        *("batches.create", "batches.get", "batches.update"),
        *("files.chunk", "files.get", "models.get"),
    ),
}
"""What makes sense for some calls only."""


def kind_of(on: str) -> str:
    """What a rule is about: a `call`, or one of the things."""
    return on if on in THINGS else "call"


@dataclass(frozen=True, slots=True)
class Rule:
    """One rule of a faults file, with what it leaves open filled in."""

    number: int
    """Its place in the file, from 1."""
    on: str
    do: str
    said: Mapping[str, Any] = field(default_factory=dict)
    """What the words of `do` say."""
    after: int = 0
    times: int | None = None
    every: int = 1
    seed: int = 0
    chance: float | None = None
    """`probability` of a call, `share` of things."""
    key: str | None = None

    @property
    def identity(self) -> str:
        """What its counts are kept under: another rule, or another place in the file, begins at nought."""
        return json.dumps(asdict(self), sort_keys=True)

    def is_about(self, *names: str) -> bool:
        """Whether it is about what has one of these names."""
        return self.key is None or any(fnmatchcase(name, self.key) for name in names)

    def draws(self, *about: object) -> bool:
        """Whether chance strikes: always the same for the same seed, rule and thing."""
        if self.chance is None:
            return True
        told = "/".join(map(str, (self.seed, self.number, *about)))
        drawn = int.from_bytes(hashlib.sha256(told.encode()).digest()[:8], "big")
        return drawn < self.chance * (1 << 64)


def stored(rules: list[Rule]) -> str:
    """Rules as text, for what they have struck."""
    return json.dumps([asdict(rule) for rule in rules])


def restored(text: str) -> list[Rule]:
    return [Rule(**said) for said in json.loads(text)]
