"""Which files a pattern names, and which one a name that is not there was meant to be.

`*`, `?` and `[…]` stand within one segment, and `**` for folders at any depth. Hidden names are found only by a segment
that begins with a dot itself. `**` goes through no links to folders, so that a link to a folder above ends nowhere;
whoever means one names it, or says `*`.
"""

from __future__ import annotations

import os
import re
from bisect import bisect_left
from fnmatch import translate
from functools import lru_cache
from itertools import islice
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, NamedTuple

from pipeline.job.dependencies import Dependencies
from pipeline.job.problems import file_name, meant, quoted

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

MAX_LOOKED_AT = 200_000
"""Names of files and folders that one pattern may look at."""
_NAMES = 2_000
"""Names of a folder among which a near one is looked for."""
_OVERFLOWS = 3
_LONGEST = 4096
"""Characters of a pattern."""
_MAGIC = re.compile(r"[*?[]")
_ITSELF = re.compile(r"\[([^!^\]])\]")
"""A class of one character, which stands for itself."""
_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+:/|data:")


class GlobError(ValueError):
    """A pattern that cannot be followed, and what to do about it."""

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.hint = hint


def is_glob(text: str) -> bool:
    """Whether a path has wildcards."""
    return bool(_MAGIC.search(text))


def is_url(text: str) -> bool:
    """Whether a path is none, but a URL."""
    return bool(_URL.match(text))


def escaped(text: str) -> str:
    """A value for use inside a pattern, where it means itself."""
    return _MAGIC.sub(r"[\g<0>]", text)


def fixed_part(pattern: str) -> tuple[PurePosixPath, str]:
    """A pattern's folders before the first wildcard, and the pattern that is left below them."""
    parts = PurePosixPath(pattern).parts
    first = next((number for number, part in enumerate(parts) if is_glob(part)), len(parts))
    return PurePosixPath(*parts[:first]), "/".join(parts[first:])


class Folders:
    """What folders hold, read once each: a glob for every row of a catalog does not read a folder for every row.

    For a single pass over a job: what comes or goes meanwhile is not noticed.
    """

    def __init__(self, dependencies: Dependencies | None = None) -> None:
        self.dependencies = dependencies or Dependencies()
        """Where each folder that is looked through is noted."""
        self._known: dict[str, _Names | None] = {}
        self._count = 0
        self.overflows = 0
        """Patterns that looked at too much: after some, others are refused unseen, or each row would take its time."""

    def names(self, folder: str) -> _Names | None:
        """The names in a folder; None for one that cannot be read, or is not there any more."""
        self.dependencies.add(folder)
        if folder not in self._known:
            if self._count > MAX_LOOKED_AT:
                self._known.clear()
                self._count = 0
            self._known[folder] = names = _read(folder)
            self._count += 1 + len(names.names if names else ())
        return self._known[folder]


class _Names(NamedTuple):
    """What a folder holds."""

    names: list[str]
    """In code-point order."""
    folders: dict[str, bool]
    """Those that are folders, and whether they are reached by a link."""

    def starting(self, start: str) -> Iterator[str]:
        """The names that start with a text."""
        at = bisect_left(self.names, start)
        while at < len(self.names) and self.names[at].startswith(start):
            yield self.names[at]
            at += 1


def _read(folder: str) -> _Names | None:
    names, folders = [], {}
    try:
        with os.scandir(folder or ".") as entries:
            for entry in islice(entries, MAX_LOOKED_AT + 1):
                names.append(entry.name)
                if _is_folder(entry):
                    folders[entry.name] = entry.is_symlink()
    except OSError:
        return None
    return _Names(sorted(names), folders)


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link that leads in a circle
        return False


def matching(pattern: str, folder: Path, *, below: Sequence[Path] = (), folders: Folders | None = None) -> list[str]:
    """The files a pattern names, relative to `folder`, in code-point order; one without wildcards names itself.

    With `below`, what comes before its first wildcard must lie in one of those folders: a pattern made from data looks
    nowhere else. Raises `GlobError` for one that leads elsewhere, looks at too much, or starts at a folder that cannot
    be read; one that is not there holds nothing.
    """
    if len(pattern) > _LONGEST:
        raise GlobError(f"{quoted(pattern)} is longer than any path")
    top, rest = fixed_part(pattern)
    base = folder / top
    try:
        if below and not any(base.resolve().is_relative_to(one) for one in below):
            hint = "a path with a placeholder stays below the project folder"
            raise GlobError(f"{quoted(pattern)} leads out of the project", hint)
        folders = Folders() if folders is None else folders
        if not os.path.lexists(base):
            folders.dependencies.add_missing(base)
        if not rest:
            return [] if base.is_dir() or not os.path.lexists(base) else [top.as_posix()]
        if folders.overflows >= _OVERFLOWS:
            message = f"{quoted(pattern)} was not looked for: others look through more than {MAX_LOOKED_AT:,} files"
            raise GlobError(message, "name nearer folders")
        found = _Search(_segments(pattern, rest), folders, pattern).files(base)
    except (OSError, ValueError, RuntimeError) as error:  # a circle of links is a RuntimeError before Python 3.13
        if isinstance(error, GlobError):
            raise
        why = error.strerror if isinstance(error, OSError) else error
        raise GlobError(f"{quoted(pattern)} cannot be looked for: {why}") from None
    return [(top / name).as_posix() for name in sorted(found)]


def _segments(pattern: str, rest: str, *, folding: bool = False) -> tuple[_Segment | None, ...]:
    parts = rest.split("/")
    if ".." in parts:
        raise GlobError(f"{quoted(pattern)} has '..' behind a wildcard", "write it before the first wildcard")
    if parts[-1] == "**":
        parts.append("*")
    parts = [part for number, part in enumerate(parts) if part != "**" or parts[number - 1 : number] != ["**"]]
    return tuple(None if part == "**" else _segment(part, folding) for part in parts)


class _Segment(NamedTuple):
    """One segment of a pattern; the other kind, `**`, is None."""

    start: str
    """What every name begins with: the text before the first wildcard."""
    rule: re.Pattern[str] | None
    """None: the name is `start`."""
    finds_hidden: bool

    def found(self, names: _Names) -> Iterator[str]:
        for name in names.starting(self.start):
            if self.rule is None:
                if name == self.start:
                    yield name
                return
            if self.rule.match(name) and (self.finds_hidden or not name.startswith(".")):
                yield name


@lru_cache(maxsize=1024)
def _segment(part: str, folding: bool) -> _Segment:  # noqa: FBT001 - lru_cache keeps arguments by position
    text = _ITSELF.sub("", part)
    if not is_glob(text) and not folding:
        return _Segment(_ITSELF.sub(r"\1", part), None, finds_hidden=True)
    start = _MAGIC.split(part, maxsplit=1)[0]
    rule = re.compile(translate(part), re.IGNORECASE if folding else 0)
    return _Segment("" if folding else start, rule, finds_hidden=part.startswith("."))


class _Search:
    """Goes through folders once each, whatever number of ways the segments lead there."""

    def __init__(self, segments: Sequence[_Segment | None], folders: Folders, pattern: str) -> None:
        self._segments = segments
        self._folders = folders
        self._pattern = pattern
        self._left = MAX_LOOKED_AT

    def files(self, base: Path) -> list[str]:
        """The files below `base`, by their path from there; raises `OSError` when it cannot be read."""
        try:
            os.scandir(base).close()
        except (FileNotFoundError, NotADirectoryError):
            return []
        found: list[str] = []
        waiting = [("", self._with_deeper({0}))]
        while waiting:
            path, states = waiting.pop()
            folder = os.path.join(base, path)  # noqa: PTH118 - a Path for each folder takes three times as long
            names = self._folders.names(folder)
            if names is None:
                continue
            self._count(len(names.names))
            for name, (is_found, inner) in self._steps(names, states).items():
                if name not in names.folders:
                    found += [path + name] if is_found else []
                elif inner:
                    waiting.append((f"{path}{name}/", inner))
        return found

    def _count(self, names: int) -> None:
        self._left -= names
        if self._left < 0:
            self._folders.overflows += 1
            message = f"{quoted(self._pattern)} looks through more than {MAX_LOOKED_AT:,} files"
            raise GlobError(message, "name a nearer folder")

    def _steps(self, names: _Names, states: set[int]) -> dict[str, tuple[bool, set[int]]]:
        """Each name that the pattern leads to here: whether it ends there, and which segments come next."""
        steps: dict[str, tuple[bool, set[int]]] = {}
        for at in sorted(states):
            segment = self._segments[at]
            if segment is None:
                for name in (name for name, is_link in names.folders.items() if not is_link and name[0] != "."):
                    steps.setdefault(name, (False, set()))[1].update(self._with_deeper({at}))
                continue
            for name in segment.found(names):
                is_found, inner = steps.get(name, (False, set[int]()))
                is_last = at + 1 == len(self._segments)
                steps[name] = is_found or is_last, inner if is_last else inner | self._with_deeper({at + 1})
        return steps

    def _with_deeper(self, states: set[int]) -> set[int]:
        """The segments that may come next; `**` may stand for no folder at all."""
        states = set(states)
        while more := {at + 1 for at in states if self._segments[at] is None} - states:
            states |= more
        return states


def why_none(pattern: str, folder: Path) -> tuple[str, str]:
    """What to say of a pattern that no file matches, and what to type instead where that can be told."""
    message = f"no file matches {quoted(pattern)}"
    top, rest = fixed_part(pattern)
    base = folder / top
    if re.search(r"\{[^{}]*,[^{}]*\}", pattern):
        return message, "braces are no pattern here; list both globs, or use *"
    if not rest and base.is_dir():
        return message, f"it is a folder; for what it holds write {top}/*"
    if not rest or not base.is_dir():
        return message + near(base / "*" if rest else base), ""
    try:
        found = _Search(_segments(pattern, rest, folding=True), Folders(), pattern).files(base)
    except (OSError, ValueError):
        return message, ""
    hint = f"there is {quoted((top / min(found)).as_posix())}: names are compared with their case" if found else ""
    return message, hint


def near(path: Path) -> str:
    """What follows `there is no file x`: a name that is near, or the folder that is not there."""
    try:
        if path.is_symlink():
            return ": it is a link that leads nowhere"
        gone = path
        while not gone.parent.is_dir() and gone != gone.parent:
            gone = gone.parent
        names = _some(gone.parent)
    except (OSError, ValueError):
        return ""
    if gone == path:
        return meant(path.name, names)
    if gone.exists():
        return f": {file_name(gone)} is no folder"
    return f": the folder {file_name(gone)} is not there{meant(gone.name, names)}"


def _some(folder: Path) -> list[str]:
    with os.scandir(folder) as entries:
        return sorted(entry.name for entry in islice(entries, _NAMES))
