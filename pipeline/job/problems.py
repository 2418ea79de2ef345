"""Places in files people write, the problems found there, and how both are shown."""

from __future__ import annotations

import os
import unicodedata
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from pipeline.errors import JobError, Problem

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterable, Sequence

MOST = 50
"""Problems reported of one job; the rest is counted."""
_VALUE = 80
_LINE = 140
_PATH = 400
_MESSAGE = 1000
_CONTROL = {"Cc", "Cs", "Zl", "Zp"}
_INVISIBLE = frozenset("\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069\ufeff")
"""Marks that change the direction of the text around them, and the byte order mark."""


@dataclass(frozen=True, slots=True, eq=False)
class Source:
    """A file as read: what it is called, its lines for excerpts, and what paths in it are relative to."""

    file: str
    lines: Sequence[str] = ()
    folder: Path | None = None
    """Where relative paths in it start; None: at the job manifest."""


class Place(NamedTuple):
    """Where something was written; line and column count from 1, 0 means the whole file."""

    source: Source
    line: int = 0
    column: int = 0

    def __str__(self) -> str:
        return f"{self.source.file}:{self.line}" if self.line else self.source.file

    def problem(self, message: str, hint: str = "") -> Problem:
        """What is wrong here, with the line for the excerpt."""
        lines = self.source.lines
        line = lines[self.line - 1] if 0 < self.line <= len(lines) else ""
        return Problem(self.source.file, self.line, self.column, message, hint, line)


class Problems:
    """The problems of one job as they are found: each once, the first fifty whole, the others counted."""

    def __init__(self) -> None:
        self._found: list[Problem] = []
        self._seen: set[Hashable] = set()
        self._more = 0

    def __bool__(self) -> bool:
        return bool(self._found)

    @property
    def is_full(self) -> bool:
        """Whether further problems are only counted; what makes them readable is not worth its time then."""
        return len(self._found) >= MOST

    def add(self, problem: Problem, *, once: Hashable = None) -> None:
        """Note a problem, unless it (or another one of the same `once`) has been noted before."""
        mark = problem if once is None else once
        if mark in self._seen:
            return
        if len(self._found) >= MOST:
            self._more += 1
            return
        self._seen.add(mark)
        self._found.append(problem)

    def extend(self, problems: Iterable[Problem]) -> None:
        for problem in problems:
            self.add(problem)

    def found(self) -> list[Problem]:
        """Everything found so far, by file and line; the last entry counts what is not told."""
        found = sorted(self._found)
        if self._more:
            rest = f"{self._more} more problem{'s' if self._more > 1 else ''} like these; these are the first {MOST}"
            found.append(Problem(found[-1].file, 0, 0, rest))
        return found

    def check(self) -> None:
        """Raise one `JobError` that names everything found so far, if anything was."""
        if self._found:
            raise JobError(self.found())


def excerpt(problem: Problem, *, kind: str = "error") -> str:
    """A problem as a compiler shows it: the message, the line, and a caret below the column."""
    place = str(problem._replace(message="")).removesuffix(" ")
    shown = [escaped(f"{place} {kind}: {problem.message}")]
    if problem.line and problem.source:
        before, after = _window(problem.source, max(problem.column - 1, 0))
        shown.append(f"{problem.line:6} | {before}{after}")
        if problem.column:
            shown.append(f"{'':6} | {' ' * len(before)}^")
    if problem.hint:
        shown.append(f"  hint: {escaped(problem.hint)}")
    return "\n".join(shown)


def _window(line: str, column: int) -> tuple[str, str]:
    """The part of a line around a column, before and from it, safe to print."""
    line = line.replace("\t", " ")
    start = 0 if len(line) <= _LINE or column < _LINE // 2 else column - _LINE // 2
    end = start + _LINE
    before = ("…" if start else "") + escaped(line[start:column])
    return before, escaped(line[column:end]).rstrip() + ("…" if len(line) > end else "")


def located(place: Place, word: str) -> Place:
    """Where a word stands at or below a place; the place itself when it is not found."""
    lines = place.source.lines
    for number in range(max(place.line, 1), min(place.line + 500, len(lines) + 1)):
        start = place.column - 1 if number == place.line else 0
        at = lines[number - 1].find(word, max(start, 0))
        if at >= 0:
            return Place(place.source, number, at + 1)
    return place


def escaped(text: str) -> str:
    """Text that cannot move the cursor, change a colour or turn the writing direction."""
    if text.isprintable():
        return text
    return "".join(_escape(char) if is_control(char) else char for char in text)


def shortened(text: str) -> str:
    """A message of any origin, as it may be printed: escaped, and cut where nobody reads on."""
    return escaped(text if len(text) <= _MESSAGE else f"{text[:_MESSAGE]}…")


def _escape(char: str) -> str:
    code = ord(char)
    return {"\n": "\\n", "\r": "\\r", "\t": "\\t"}.get(char) or (f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}")  # noqa: PLR2004


def is_control(char: str) -> bool:
    """Whether a character acts on the text around it rather than showing itself."""
    return unicodedata.category(char) in _CONTROL or char in _INVISIBLE


def quoted(value: object) -> str:
    """A value for a message: in quotes, escaped, and cut at 80 characters."""
    text = str(value)
    return f"'{escaped(text[:_VALUE])}{'…' if len(text) > _VALUE else ''}'"


def file_name(path: Path) -> str:
    """A path for a message, whole: its end is what tells files apart. Of one that no file has, the end alone."""
    text = shown(path)
    return f"'{escaped(text if len(text) <= _PATH else f'…{text[-_VALUE:]}')}'"


def meant(word: str, words: Iterable[str]) -> str:
    """`; did you mean 'x'?` when one of the words is near, else nothing."""
    known = list(words)
    folded = {known_word.casefold(): known_word for known_word in reversed(known)}
    from difflib import get_close_matches  # noqa: PLC0415 - only for a slip

    near = folded.get(word.casefold()) or next(iter(get_close_matches(word, known, n=1, cutoff=0.6)), "")
    return f"; did you mean {quoted(near)}?" if near else ""


def listed(words: Iterable[object], *, last: str = "or") -> str:
    """`a, b or c`."""
    *first, end = [str(word) for word in words]
    return f"{', '.join(first)} {last} {end}" if first else end


def shown(path: Path) -> str:
    """A path as the user would type it: relative to the current folder where it lies below."""
    here = Path.cwd()
    absolute = Path(os.path.normpath(path if path.is_absolute() else here / path))
    return absolute.relative_to(here).as_posix() if absolute.is_relative_to(here) else absolute.as_posix()
