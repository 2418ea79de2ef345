"""Which items a command is about: the words of `--select` and `--exclude`, and what they match.

`model:pro,aspect:16:9 id:mug-01` holds two terms, and a space between terms means *or*; a comma between the tests of a
term means *and*. A test names a fact of an item and a pattern for the whole of it, in which `*` is any run of
characters and `?` any single one; nothing else is special.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, NamedTuple

from pipeline.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

STATES = ("new", "changed", "done", "gone", "edited", "frozen", "moved", "pending", "failed")
STATUSES = (
    "done", "pending", "failed", "blocked", "no_image", "expired", "cancelled", "check", "invalid", "missing",
    "skipped", "held",
)  # fmt: skip
FACTS = ("key", "id", "tag", "template", "model", "aspect", "state", "status")
_AS_WRITTEN = frozenset({"key", "id"})
"""Facts whose capital letters count."""
_KNOWN = {"state": STATES, "status": STATUSES}


class Facts:
    """What a selection asks of an item: a request of a job, or a record.

    Its line is its record, or the draft of it, as JSON; the tags are those of its job; the state is what the plan says
    of it, where it was compared.
    """

    __slots__ = ("_told", "key", "line", "state", "status", "tags")

    def __init__(
        self, key: str, line: str, tags: Sequence[str] = (), state: str | None = None, status: str | None = None
    ) -> None:
        self.key, self.line, self.tags, self.state, self.status = key, line, tags, state, status
        self._told: dict[str, Any] | None = None

    def of(self, fact: str) -> Iterable[str]:
        """The texts a fact has: none where it is not known, both words of a model that was named by an alias."""
        match fact:
            case "key":
                found: Iterable[str | None] = (self.key,)
            case "state":
                found = (self.state,)
            case "status":
                found = (self.status,)
            case "tag":
                found = self.tags
            case _:
                found = self._recorded(fact)
        return (text for text in found if text is not None)

    def _recorded(self, fact: str) -> Iterable[str | None]:
        if self._told is None:
            import json  # noqa: PLC0415 - nothing asks for it in most commands

            self._told = json.loads(self.line)
        if fact == "aspect":
            return (self._told["settings"].get("aspect"),)
        return (self._told[fact], self._told["model_id"] if fact == "model" else None)


class _Test(NamedTuple):
    """One fact, and the pattern for it."""

    fact: str
    pattern: re.Pattern[str]

    def holds(self, facts: Facts) -> bool:
        found = facts.of(self.fact)
        if self.fact not in _AS_WRITTEN:
            found = (text.casefold() for text in found)
        return any(self.pattern.match(text) for text in found)


_Term = tuple[_Test, ...]


class Selection(NamedTuple):
    """What `--select` takes and `--exclude` takes away again; without either it takes everything, and is false."""

    taken: tuple[_Term, ...] = ()
    left: tuple[_Term, ...] = ()
    written: str = ""
    """As somebody typed it, for messages."""

    @classmethod
    def of(cls, select: Sequence[str], exclude: Sequence[str] = ()) -> Selection:
        """Read the values of the two options; raises `UsageError` that names the term and what it should be."""
        written = [f"--{flag} {text!r}" for flag, texts in (("select", select), ("exclude", exclude)) for text in texts]
        return cls(
            tuple(term for text in select for term in _terms("--select", text)),
            tuple(term for text in exclude for term in _terms("--exclude", text)),
            " ".join(written),
        )

    def __bool__(self) -> bool:
        return bool(self.taken or self.left)

    def asks_for(self, *facts: str) -> bool:
        """Whether any of these facts decides."""
        return any(test.fact in facts for term in (*self.taken, *self.left) for test in term)

    def takes(self, facts: Facts) -> bool:
        """Whether an item is inside."""
        return (not self.taken or _any_holds(self.taken, facts)) and not _any_holds(self.left, facts)


EVERYTHING = Selection()


def _any_holds(terms: Iterable[_Term], facts: Facts) -> bool:
    return any(all(test.holds(facts) for test in term) for term in terms)


def _terms(flag: str, text: str) -> Iterable[_Term]:
    terms = text.split()
    if not terms:
        raise UsageError(f"{flag} {text!r} is empty", hint=f"such as {flag} 'key:mug/*', or leave it out")
    return [tuple(_test(flag, test, term) for test in term.split(",")) for term in terms]


def _test(flag: str, text: str, term: str) -> _Test:
    fact, colon, value = text.partition(":")
    if not text:
        raise UsageError(f"{flag}: {term!r} has an empty part", hint="a comma means and: key:mug/*,aspect:16:9")
    if not colon:
        raise UsageError(f"{flag}: {text!r} does not say what it is", hint=_hint_for_bare(text, term))
    if fact not in FACTS:
        from pipeline.job.problems import meant  # noqa: PLC0415 - difflib, for a slip only

        raise UsageError(f"{flag}: unknown word {fact!r} in {text!r}{meant(fact, FACTS)}", hint=f"one of {_or(FACTS)}")
    if not value:
        raise UsageError(f"{flag}: {text!r} says nothing behind the colon", hint=f"such as {fact}:*")
    import unicodedata  # noqa: PLC0415 - as json

    value = unicodedata.normalize("NFC", value)
    pattern = _pattern(value if fact in _AS_WRITTEN else value.casefold())
    if fact in _KNOWN and not any(map(pattern.match, _KNOWN[fact])):
        from pipeline.job.problems import meant  # noqa: PLC0415 - as above

        near = meant(value, _KNOWN[fact])
        raise UsageError(f"{flag}: there is no {fact} {value!r}{near}", hint=f"one of {_or(_KNOWN[fact])}")
    return _Test(fact, pattern)


def _hint_for_bare(text: str, term: str) -> str:
    if text in STATES:
        return f"write state:{text}"
    if text in STATUSES:
        return f"write status:{text}"
    if text != term:
        return "a comma means and, a space or; where either is part of a value write ? for it"
    return f"write key:{text} or id:{text}"


def _or(words: Sequence[str]) -> str:
    return f"{', '.join(words[:-1])} or {words[-1]}"


def _pattern(text: str) -> re.Pattern[str]:
    """A glob for a whole text; linear however many stars it has."""
    import fnmatch  # noqa: PLC0415 - as json

    return re.compile(fnmatch.translate(text.replace("[", "[[]")))
