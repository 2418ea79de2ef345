"""The only package that opens a file for writing: a file is whole at its final name, or it is not there.

A `Folder` is resolved once and may itself be reached through a link; below it no link is followed, and no
name from data leads out of it. Every change is followed by the fsyncs that make it outlive a power cut.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import os
import re
import secrets
import stat
from pathlib import Path
from typing import IO, TYPE_CHECKING, Self

from pipeline import crash
from pipeline.errors import LocalError, LockedError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from io import BufferedReader
    from types import TracebackType

    from pipeline.durable.staging import Staging
    from pipeline.durable.together import Together

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_CREATE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_NO_LOCKS = "this file system has no locks that hold: put the state on a local disk with `--state DIR`"
PIECE = 1 << 20


_HINTS = {
    errno.ENOSPC: "the disk is full: make room, then run the same command again; nothing is lost",
    errno.EDQUOT: "the disk quota is used up: make room, then run the same command again; nothing is lost",
    errno.EACCES: "check the owner and the permissions of that folder",
    errno.EPERM: "check the owner and the permissions of that folder",
    errno.EROFS: "the file system is read-only",
    errno.ELOOP: "a symbolic link lies where the pipeline keeps its own files: remove it",
    errno.ENOTDIR: "something that is no folder lies where a folder is needed: move it away",
    errno.ENOLCK: _NO_LOCKS,
    errno.EOPNOTSUPP: _NO_LOCKS,
}


class _Telling:
    """Turns what a disk can do to us into a `LocalError` that names the file; for any number of blocks."""

    def __init__(self, what: str) -> None:
        self._what = what

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        if isinstance(error, OSError):
            reason = error.strerror or str(error)
            raise LocalError(f"{self._what}: {reason}", hint=_HINTS.get(error.errno or 0, "")) from error


def _parts(relative: str) -> list[str]:
    parts = relative.split("/")
    if any(part in {"", ".", ".."} or "\0" in part for part in parts):
        raise LocalError(f"{relative!r} is no path below a folder of ours")
    return parts


class Folder:
    """A folder that is ours, and all that may happen below it. Paths are relative, with `/`."""

    def __init__(self, path: Path) -> None:
        self._top = Path(os.path.realpath(path))
        self._way: tuple[str, ...] = ()

    @property
    def path(self) -> Path:
        """Where it is, for people and for reading."""
        return self._top.joinpath(*self._way)

    def below(self, relative: str) -> Folder:
        """A folder of ours below this one: no link leads there, whenever it is looked for."""
        folder = Folder(self._top)
        folder._way = (*self._way, *_parts(relative))
        return folder

    def make(self) -> Self:
        """Create the folder, durably, where it is not there yet."""
        with _Telling(f"cannot create {self.path}"):
            self._make_top()
            os.close(self._open(self._way, create=True))
        return self

    @contextlib.contextmanager
    def made(self) -> Iterator[Self]:
        """Create the folder for the block; where that fails, no folder that was made for it is left, if it is empty."""
        missing = [path for path in (self.path, *self.path.parents) if not os.path.lexists(path)]
        try:
            yield self.make()
        except BaseException:
            for path in missing:
                with contextlib.suppress(OSError), crash.around("rmdir"):
                    path.rmdir()
            raise

    def _make_top(self) -> None:
        missing = []
        here = self._top
        while not here.is_dir():
            missing.append(here)
            here = here.parent
        _settle(here.parent)
        for folder in reversed(missing):
            with crash.around("mkdir"):
                folder.mkdir(exist_ok=True)
            sync(folder.parent)

    def _open(self, way: Sequence[str], *, create: bool = False) -> int:
        """The descriptor of a folder below the top, step by step, through no link."""
        here = os.open(self._top, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            for folder in way:
                left, here = here, _step(folder, here, create=create)
                os.close(left)  # named `here` no longer: a signal that strikes now must not have it closed twice
        except BaseException:
            os.close(here)
            raise
        return here

    @contextlib.contextmanager
    def parent_of(self, relative: str, *, create: bool = False) -> Iterator[tuple[int, str]]:
        """Yield the descriptor of the folder that holds `relative`, and its last name; for this module."""
        *folders, name = _parts(relative)
        if create:
            self._make_top()
        here = self._open([*self._way, *folders], create=create)
        try:
            yield here, name
        finally:
            os.close(here)

    def status(self, relative: str) -> os.stat_result | None:
        """What lies at `relative`, no link followed; `None` when nothing does."""
        with self.looking() as looking:
            return looking.status(relative)

    @contextlib.contextmanager
    def looking(self) -> Iterator[Looking]:
        """Yield what tells the status of files, one after the other, and keeps the folder of the last one open."""
        looking = Looking(self)
        try:
            yield looking
        finally:
            looking.close()

    def opened(self, relative: str) -> BufferedReader:
        """Open a regular file for reading; raises `FileNotFoundError` when there is none."""
        with self.parent_of(relative) as (parent, name):
            descriptor = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=parent)
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            os.close(descriptor)
            raise FileNotFoundError(errno.ENOENT, "no regular file", str(self.path / relative))
        return os.fdopen(descriptor, "rb")

    def sha256(self, relative: str) -> str | None:
        """The sha256 of a regular file in hex; `None` when there is none."""
        try:
            with self.opened(relative) as stream:
                return hashlib.file_digest(stream, "sha256").hexdigest()
        except OSError:
            return None

    @contextlib.contextmanager
    def replacing(self, relative: str, *, mtime_ns: int | None = None) -> Iterator[IO[bytes]]:
        """Yield a stream whose bytes become `relative` when the block ends without an error.

        Until then, and for ever if it fails, `relative` is what it was before. With `mtime_ns` it is as old as that;
        nanoseconds since 1970. Raises `LocalError`.
        """
        with _Telling(f"cannot write {self.path / relative}"), self.parent_of(relative, create=True) as (parent, name):
            part, stream = _claimed(name, parent)
            try:
                with stream:
                    yield stream
                    stream.flush()
                    if mtime_ns is not None:
                        os.utime(stream.fileno(), ns=(mtime_ns, mtime_ns))
                    _fsync(stream.fileno())
                    with crash.around("replace"):
                        os.replace(part, name, src_dir_fd=parent, dst_dir_fd=parent)
            except BaseException:
                with contextlib.suppress(OSError):
                    _unlink(part, parent)
                raise
            _fsync(parent)

    @contextlib.contextmanager
    def replacing_together(self) -> Iterator[Together]:
        """Yield a group of files of this folder, which get their names when the block ends without an error.

        Until then, and for ever if it fails, each name is what it was before. Raises `LocalError`.
        """
        from pipeline.durable.together import Together  # noqa: PLC0415 - it is made of what is here

        with _Telling(f"cannot write below {self.path}"), self.parent_of("together", create=True) as (parent, name):
            part, here = _claimed_folder(name, parent)
            group = Together(here)
            try:
                yield group
                group.publish(parent)
            finally:
                group.close()
                with contextlib.suppress(OSError):
                    _remove_part_folder(part, here, parent)
                os.close(here)
            _fsync(parent)

    def move(self, relative: str, to: Folder, target: str) -> None:
        """Rename a file, durably, to another of our folders; an old `target` is replaced."""
        with (
            _Telling(f"cannot move {self.path / relative} to {to.path / target}"),
            self.parent_of(relative) as (parent, name),
            to.parent_of(target, create=True) as (new_parent, new_name),
        ):
            try:
                with crash.around("move"):
                    os.replace(name, new_name, src_dir_fd=parent, dst_dir_fd=new_parent)
            except OSError as error:
                if error.errno != errno.EXDEV:
                    raise
                with self.opened(relative) as stream, to.replacing(target) as copy:
                    while piece := stream.read(PIECE):
                        copy.write(piece)
                _unlink(name, parent)
            _fsync(new_parent)
            _fsync(parent)

    def remove(self, relative: str) -> None:
        """Remove a file, durably; one that is not there is removed already."""
        with (
            _Telling(f"cannot remove {self.path / relative}"),
            contextlib.suppress(FileNotFoundError),
            self.parent_of(relative) as (parent, name),
        ):
            with crash.around("remove"):
                os.unlink(name, dir_fd=parent)
            _fsync(parent)

    def prune(self) -> None:
        """Remove the folders below that are empty: call it only under the lock that guards this folder."""
        for folders, _parts, here in self._walk():
            for name in folders:
                with contextlib.suppress(OSError), crash.around("rmdir"):  # it is not empty, or is a link
                    os.rmdir(name, dir_fd=here)

    def sweep(self) -> None:
        """Remove what killed writers left below: call it only under the lock that guards this folder."""
        for _folders, parts, here in self._walk():
            for name in parts:
                with contextlib.suppress(OSError), crash.around("sweep"):
                    os.unlink(name, dir_fd=here)

    def sweep_beside(self, relative: str) -> None:
        """Remove what killed writers left beside a file, where no lock guards it: who is alive keeps what is his."""
        with contextlib.suppress(OSError), self.parent_of(relative) as (parent, _name):
            for name in filter(is_part, os.listdir(parent)):  # noqa: PTH208 - as above
                with contextlib.suppress(OSError):
                    _remove_dead(name, parent)

    def _walk(self) -> Iterator[tuple[list[str], list[str], int]]:
        """Of every folder below the names of its folders and of what `is_part`, and its descriptor; the deepest first.

        Through no link, and nothing where there is none. What goes away meanwhile is left out.
        """
        with _Telling(f"cannot look into {self.path}"):
            try:
                here = self._open(self._way)
            except FileNotFoundError:
                return
        try:
            yield from _below(here)
        finally:
            os.close(here)

    def descriptor(self, *, create: bool = False) -> int:
        """The folder, open for who closes it; for this package."""
        if create:
            self._make_top()
        return self._open(self._way, create=create)

    def staging(self) -> Staging:
        """Collect files that become visible together."""
        from pipeline.durable.staging import Staging  # noqa: PLC0415 - it is made of what is here

        return Staging(self)


@contextlib.contextmanager
def locked(folder: Folder, relative: str, *, what: str, waits: bool = False) -> Iterator[None]:
    """Hold an exclusive lock on a file for the block; raises `LockedError` at once when another process has it.

    With `waits` it is waited for instead. The kernel lets go of it when the process dies, however it dies, so there is
    no stale lock to judge; no child of ours inherits it. Raises `LocalError` where the file system has no locks.
    """
    name_it = f"cannot lock {folder.path / relative}"
    with _Telling(name_it), folder.parent_of(relative, create=True) as (parent, name), crash.around("lock"):
        descriptor = os.open(name, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o644, dir_fd=parent)
    try:
        try:
            with _Telling(name_it):
                fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if waits else fcntl.LOCK_NB))
        except LocalError as error:
            if not isinstance(error.__cause__, BlockingIOError):
                raise
            holder = os.pread(descriptor, 200, 0).decode(errors="replace").partition("\n")[0].strip()
            raise LockedError(
                f"another run works on {what}{f' ({holder})' if holder else ''}",
                hint="wait for it to end, or watch it with `pipeline status`",
            ) from None
        with contextlib.suppress(OSError):  # for people: a full disk is no reason not to hold it
            with crash.around("empty"):
                os.ftruncate(descriptor, 0)
            with crash.around("sign"):
                os.pwrite(descriptor, f"process {os.getpid()}\non {os.uname().nodename}\n".encode(), 0)
        yield
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def in_memory(data: bytes) -> Iterator[Path | None]:
    """A file that is on no disk, and its path for this process; `None` where the system has no such files."""
    if not hasattr(os, "memfd_create"):
        yield None
        return
    with os.fdopen(os.memfd_create("rows", os.MFD_CLOEXEC), "wb") as stream:
        stream.write(data)
        stream.flush()
        yield Path(f"/proc/self/fd/{stream.fileno()}")


def is_held(folder: Folder, relative: str) -> bool:
    """Whether somebody holds the lock `locked` takes on this file; looks, and changes nothing."""
    try:
        with folder.parent_of(relative) as (parent, name):
            descriptor = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=parent)
    except OSError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False


def sync(folder: Path) -> None:
    """Make the names in a folder outlive a power cut."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        _fsync(descriptor)
    finally:
        os.close(descriptor)


_settled: set[tuple[int, int]] = set()
"""Folders, by device and inode, whose names this process has brought to the disk."""


class Looking:
    """What lies below a folder, file by file; those of one folder are found quickly, one after the other."""

    def __init__(self, folder: Folder) -> None:
        self._folder = folder
        self._way = ""
        self._here = -1

    def status(self, relative: str) -> os.stat_result | None:
        """What lies at `relative`, no link followed; `None` when nothing does. Raises `LocalError`."""
        way, _, name = relative.rpartition("/")
        _parts(relative)
        try:
            if self._here < 0 or way != self._way:
                self.close()
                folder = self._folder.below(way) if way else self._folder
                self._way, self._here = way, folder.descriptor()
            return os.stat(name, dir_fd=self._here, follow_symlinks=False)
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            if error.errno == errno.ELOOP:  # a link where a folder of ours should be
                return None
            raise LocalError(f"cannot look at {self._folder.path / relative}: {error.strerror}") from error

    def close(self) -> None:
        """Let go of the folder that is open."""
        if self._here >= 0:
            here, self._here = self._here, -1
            os.close(here)


def _settle(folder: int | Path) -> None:
    """Make the names in a folder of before outlive a power cut: who made them may have been killed before its sync."""
    status = os.stat(folder)  # noqa: PTH116 - a descriptor has no `Path`
    if (status.st_dev, status.st_ino) in _settled:
        return
    if isinstance(folder, int):
        _fsync(folder)
    else:
        with contextlib.suppress(PermissionError):  # not ours to read, and so not ours to have made a folder in
            sync(folder)
    _settled.add((status.st_dev, status.st_ino))


def _step(folder: str, here: int, *, create: bool) -> int:
    """The descriptor of a folder in the one that is open `here`, no link followed; with `create`, durably there."""
    try:
        below = os.open(folder, _DIRECTORY, dir_fd=here)
    except NotADirectoryError:
        if stat.S_ISLNK(os.stat(folder, dir_fd=here, follow_symlinks=False).st_mode):
            raise OSError(errno.ELOOP, f"{folder} is a symbolic link") from None
        raise
    except FileNotFoundError:
        if not create:
            raise
        with contextlib.suppress(FileExistsError), crash.around("mkdir"):
            os.mkdir(folder, dir_fd=here)
        _fsync(here)
        return os.open(folder, _DIRECTORY, dir_fd=here)
    if create:
        _settle(here)
    return below


def _below(here: int) -> Iterator[tuple[list[str], list[str], int]]:
    """What `Folder._walk` yields of a folder that is open; holds no other names, of which there may be a million."""
    folders, parts = [], []
    with contextlib.suppress(OSError), os.scandir(here) as there:
        for entry in there:
            if entry.is_dir(follow_symlinks=False):
                folders.append(entry.name)
            elif is_part(entry.name):
                parts.append(entry.name)
    for name in folders:
        try:
            below = os.open(name, _DIRECTORY, dir_fd=here)
        except OSError:
            continue
        try:
            yield from _below(below)
        finally:
            os.close(below)
    yield folders, parts, here


_PART = re.compile(r"\..*\.[0-9a-f]{16}\.part", re.DOTALL)


def is_part(name: str) -> bool:
    """Whether a file of this name is one of ours that is being written, or that a killed writer has left."""
    return _PART.fullmatch(name) is not None


def _part(name: str) -> str:
    # The hidden name stays short: a final name may already be as long as the file system allows.
    return f".{os.fsdecode(os.fsencode(name)[:60])}.{secrets.token_hex(8)}.part"


def _claimed(name: str, parent: int) -> tuple[str, IO[bytes]]:
    """A temporary file for `name`, and what it is called. It is locked as long as its writer is alive."""
    while True:
        part = _part(name)
        stream = _create(part, parent)
        with contextlib.suppress(OSError):  # a file system without locks
            fcntl.flock(stream, fcntl.LOCK_EX)
        if os.fstat(stream.fileno()).st_nlink:
            return part, stream
        stream.close()  # somebody swept it before it was locked


def _claimed_folder(name: str, parent: int) -> tuple[str, int]:
    """A temporary folder, what it is called, and its descriptor: locked, as a file of `_claimed` is."""
    part = _part(name)
    with crash.around("part"):
        os.mkdir(part, dir_fd=parent)
    here = os.open(part, _DIRECTORY, dir_fd=parent)
    with contextlib.suppress(OSError):  # a file system without locks
        fcntl.flock(here, fcntl.LOCK_EX)
    return part, here


def _remove_part_folder(part: str, here: int, parent: int) -> None:
    for name in os.listdir(here):
        _unlink(name, here)
    with crash.around("rmdir"):
        os.rmdir(part, dir_fd=parent)


def _remove_dead(part: str, parent: int) -> None:
    descriptor = os.open(part, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=parent)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        with crash.around("sweep"):
            if stat.S_ISDIR(os.fstat(descriptor).st_mode):
                _remove_part_folder(part, descriptor, parent)
            else:
                os.unlink(part, dir_fd=parent)
    finally:
        os.close(descriptor)


def _create(name: str, parent: int, *, buffering: int = PIECE) -> IO[bytes]:
    with crash.around("part"):
        descriptor = os.open(name, _CREATE, 0o666, dir_fd=parent)
    return os.fdopen(descriptor, "wb", buffering=buffering)


def _unlink(name: str, parent: int) -> None:
    with crash.around("unlink"):
        os.unlink(name, dir_fd=parent)


def _fsync(descriptor: int) -> None:
    """Bring a file or the names of a folder to the disk. An error is final: a second try could claim success."""
    with crash.around("sync"):
        os.fsync(descriptor)
