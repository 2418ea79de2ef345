"""Whether files are as they were seen: one by its status, and by its content where that differs; a tree by its times.

The time of change (ctime) of a file is the file system's own: whoever writes, renames, or gives it another date moves
it on. So a file that was looked at after a moment, and that was changed before it, is still what it was as long as
that time is the same.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import os
import stat
import struct
import time
from itertools import count
from operator import attrgetter
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

_COARSE_NS = 10_000_000
_PAGE = 4096
LARGE = 20_000
"""Files of a tree from which on a second process pays for its start."""
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_SUM = 1 << 64
_LINE = struct.Struct("<QQQ")
_changed_at = attrgetter("st_ctime_ns")


def now_ns() -> int:
    """The time as a file gets it that is changed now, or an earlier one: the clock of files ticks every few ms.

    What was changed before it has an earlier time of change; what is changed from now on has this one, or a later one.
    """
    clock = getattr(time, "CLOCK_REALTIME_COARSE", None)
    return time.time_ns() - _COARSE_NS if clock is None else time.clock_gettime_ns(clock)


class Seen(NamedTuple):
    """A file or folder as it was seen."""

    kind: int
    """By the file system: a file, a folder, or another thing."""
    size: int
    inode: int
    mtime_ns: int
    ctime_ns: int
    sha256: str = ""
    """Of the content, or of the names in a folder; empty where nobody has read it."""


def look(path: str) -> Seen | None:
    """A file or folder as it is now, links followed; its content is not read. `None` for what cannot be seen."""
    try:
        status = os.stat(path)  # noqa: PTH116 - a text for each of many files
    except (OSError, ValueError):
        return None
    return Seen(
        stat.S_IFMT(status.st_mode), status.st_size, status.st_ino, status.st_mtime_ns, status.st_ctime_ns
    )  # fmt: skip


def read(path: str, seen: Seen) -> Seen | None:
    """The same with what is in it; `None` when it has changed since it was seen, or cannot be read."""
    digest = _digest(path, seen.kind)
    return seen._replace(sha256=digest) if digest and look(path) == seen._replace(sha256="") else None


def is_as(path: str, seen: Seen) -> bool:
    """Whether a file or folder is what was seen. One that was only touched is read."""
    now = look(path)
    if now is None or now == seen._replace(sha256=""):
        return now is not None
    may_be = bool(seen.sha256) and now.kind == seen.kind and (now.size == seen.size or not stat.S_ISREG(now.kind))
    return may_be and _digest(path, seen.kind) == seen.sha256


def _digest(path: str, kind: int) -> str:
    """The sha256 of a file, or of the names in a folder with what they name; empty where it cannot be read."""
    try:
        if stat.S_ISREG(kind):
            with open(path, "rb") as stream:  # noqa: PTH123 - as above
                return hashlib.file_digest(stream, "sha256").hexdigest()
        if stat.S_ISDIR(kind):
            with os.scandir(path) as entries:
                names = sorted((os.fsencode(entry.name), entry.is_dir(), entry.is_symlink()) for entry in entries)
            return hashlib.sha256(repr(names).encode()).hexdigest()
    except OSError:
        pass
    return ""


class Extent(NamedTuple):
    """A tree, by the times of change of all that is in it: whatever happens to it makes another one of it."""

    entries: int
    """Files and folders, the tree's own folder included."""
    times: int
    """Their times of change, added up."""
    newest_ns: int


NOTHING = Extent(0, 0, 0)


def extent(top: str, *, is_large: bool = False) -> Extent | None:
    """A tree as it is now, no link followed; `None` where there is none, or something of it cannot be seen.

    Takes a look at every file, as what is edited in its place leaves no trace in its folder; a large tree is looked at
    by two processes, half of it each. Holds few names.
    """
    try:
        here = os.open(top, _FOLDER)
    except (OSError, ValueError):
        return None
    try:
        halves = _in_two(here) if is_large and hasattr(os, "fork") else [_part(here, 0, 1)]
    except OSError:
        return None
    finally:
        os.close(here)
    entries, times, newest = zip(*halves, strict=True)
    return Extent(sum(entries), sum(times) % _SUM, max(newest))


def _part(top: int, which: int, of: int, *, may_move: bool = False) -> Extent:
    """What one of several processes sees of the tree below a descriptor: one page of names in so many.

    One that `may_move` does so, from folder to folder: names are found faster from where they are.
    """
    entries, times, newest, pages = 0, 0, 0, count()
    waiting = ["."]
    while waiting:
        relative = waiting.pop()
        here = os.open(relative, _FOLDER, dir_fd=top)
        try:
            if may_move:
                os.fchdir(here)
            look_at = os.lstat if may_move else functools.partial(os.stat, dir_fd=here, follow_symlinks=False)
            for names in _pages(here, relative, waiting):
                if next(pages) % of == which:
                    seen = [*map(_changed_at, map(look_at, names))]
                    entries, times, newest = entries + len(seen), times + sum(seen), max(newest, *seen)
        finally:
            os.close(here)
    return Extent(entries, times % _SUM, newest)


def _pages(here: int, relative: str, waiting: list[str]) -> Iterator[list[str]]:
    """The names in a folder but for those of folders, which go to `waiting`, in pages; the last has itself."""
    names: list[str] = []
    with os.scandir(here) as there:
        for entry in there:
            if entry.is_dir(follow_symlinks=False):
                waiting.append(f"{relative}/{entry.name}")
            else:
                names.append(entry.name)
                if len(names) == _PAGE:
                    yield names
                    names = []
    yield [*names, "."]


class Touched:
    """Some files of a tree that may be about to change, and the folders they lie in: as they were.

    Where nothing else of the tree changes, it is known afterwards by a look at these alone.
    """

    def __init__(self, top: str, paths: Iterable[str]) -> None:
        """`paths` are relative to the tree's folder; a file that is not there may come."""
        self._top = top
        self._before = {path: self._changed_ns(path) for path in _with_folders(paths)}

    def extent(self, before: Extent, paths: Iterable[str] = ()) -> Extent:
        """The tree as it is by now, which was `before`; `paths` are files that have come since. No link is followed."""
        now = {path: self._changed_ns(path) for path in {*self._before, *_with_folders(paths)}}
        here, there = ([ns for ns in side.values() if ns is not None] for side in (now, self._before))
        entries = before.entries + len(here) - len(there)
        return Extent(entries, (before.times + sum(here) - sum(there)) % _SUM, max(before.newest_ns, *here, 0))

    def _changed_ns(self, path: str) -> int | None:
        try:
            return os.lstat(os.path.join(self._top, path)).st_ctime_ns  # noqa: PTH118 - as above
        except (OSError, ValueError):
            return None


def _with_folders(paths: Iterable[str]) -> set[str]:
    """These files, and all folders they lie in, up to the one that they are relative to."""
    found = {"."}
    for path in paths:
        here = path
        while here and here not in found:
            found.add(here)
            here = here.rpartition("/")[0]
    return found


def _in_two(top: int) -> list[Extent]:
    """A tree as two processes see it that share the work; raises `OSError` where one of them cannot."""
    readers = [_beside(functools.partial(_part, top, which, 2, may_move=True)) for which in range(2)]
    return [reader() for reader in readers]


def _beside(work: Callable[[], Extent]) -> Callable[[], Extent]:
    """Do work in a child process; what is returned waits for it."""
    ours, theirs = os.pipe()
    child = os.fork()
    if not child:
        with contextlib.suppress(BaseException):
            os.write(theirs, _LINE.pack(*work()))
        os._exit(0)
    os.close(theirs)

    def result() -> Extent:
        with open(ours, "rb") as stream:  # noqa: PTH123 - a descriptor
            told = stream.read()
        os.waitpid(child, 0)
        if len(told) != _LINE.size:
            raise OSError(0, "a part of the tree could not be looked at")
        return Extent(*_LINE.unpack(told))

    return result
