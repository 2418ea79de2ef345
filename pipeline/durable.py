"""The only module that opens a file for writing: a file is whole at its final name, or it is not there.

A `Folder` is resolved once and may itself be reached through a link; below it no link is followed, and no
name from data leads out of it. Every change is followed by the fsyncs that make it outlive a power cut.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import os
import secrets
import stat
from pathlib import Path
from typing import IO, TYPE_CHECKING, BinaryIO, Self, cast

from pipeline import crash
from pipeline.errors import LocalError, LockedError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from io import BufferedReader
    from types import TracebackType

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_CREATE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
PIECE = 1 << 20


@contextlib.contextmanager
def _telling(what: str) -> Iterator[None]:
    """Turn what a disk can do to us into a `LocalError` that names the file."""
    try:
        yield
    except OSError as error:
        hints = {
            errno.ENOSPC: "the disk is full: make room, then run the same command again; nothing is lost",
            errno.EDQUOT: "the disk quota is used up: make room, then run the same command again; nothing is lost",
            errno.EACCES: "check the owner and the permissions of that folder",
            errno.EPERM: "check the owner and the permissions of that folder",
            errno.EROFS: "the file system is read-only",
            errno.ELOOP: "a symbolic link lies where the pipeline keeps its own files: remove it",
            errno.ENOTDIR: "something that is no folder lies where a folder is needed: move it away",
        }
        reason = os.strerror(error.errno) if error.errno else str(error)
        raise LocalError(f"{what}: {reason}", hint=hints.get(error.errno or 0, "")) from error


def _parts(relative: str) -> list[str]:
    parts = relative.split("/")
    if any(part in {"", ".", ".."} or "\0" in part for part in parts):
        raise LocalError(f"{relative!r} is no path below a folder of ours")
    return parts


class Folder:
    """A folder that is ours, and all that may happen below it. Paths are relative, with `/`."""

    def __init__(self, path: Path) -> None:
        self.path = Path(os.path.realpath(path))

    def make(self) -> Self:
        """Create the folder, durably, where it is not there yet."""
        with _telling(f"cannot create {self.path}"):
            missing = []
            here = self.path
            while not here.is_dir():
                missing.append(here)
                here = here.parent
            for folder in reversed(missing):
                folder.mkdir(exist_ok=True)
                sync(folder.parent)
        return self

    def below(self, relative: str) -> Folder:
        """A folder of ours below this one; raises `LocalError` where a link lies in its way."""
        here = self.path
        for part in _parts(relative):
            here /= part
            if here.is_symlink():
                raise LocalError(
                    f"{here} is a symbolic link, where the pipeline keeps its own files",
                    hint="remove it; to keep files elsewhere, say so with --outputs or --state",
                )
        return Folder(here)

    @contextlib.contextmanager
    def parent_of(self, relative: str, *, create: bool = False) -> Iterator[tuple[int, str]]:
        """Yield the descriptor of the folder that holds `relative`, and its last name; for this module."""
        *folders, name = _parts(relative)
        if create:
            self.make()
        here = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            for folder in folders:
                try:
                    below = os.open(folder, _DIRECTORY, dir_fd=here)
                except FileNotFoundError:
                    if not create:
                        raise
                    with contextlib.suppress(FileExistsError):
                        os.mkdir(folder, dir_fd=here)
                    os.fsync(here)
                    below = os.open(folder, _DIRECTORY, dir_fd=here)
                os.close(here)
                here = below
            yield here, name
        finally:
            os.close(here)

    def status(self, relative: str) -> os.stat_result | None:
        """What lies at `relative`, no link followed; `None` when nothing does."""
        try:
            with self.parent_of(relative) as (parent, name):
                return os.stat(name, dir_fd=parent, follow_symlinks=False)
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            if error.errno == errno.ELOOP:  # a link where a folder of ours should be
                return None
            raise LocalError(f"cannot look at {self.path / relative}: {error.strerror}") from error

    def opened(self, relative: str) -> BinaryIO:
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
                return hashlib.file_digest(cast("BufferedReader", stream), "sha256").hexdigest()
        except OSError:
            return None

    @contextlib.contextmanager
    def replacing(self, relative: str, *, mtime_ns: int | None = None) -> Iterator[IO[bytes]]:
        """Yield a stream whose bytes become `relative` when the block ends without an error.

        Until then, and for ever if it fails, `relative` is what it was before. With `mtime_ns` it is as old as that;
        nanoseconds since 1970. Raises `LocalError`.
        """
        with _telling(f"cannot write {self.path / relative}"), self.parent_of(relative, create=True) as (parent, name):
            part = _part(name)
            try:
                with _create(part, parent) as stream:
                    yield stream
                    stream.flush()
                    os.fsync(stream.fileno())
                if mtime_ns is not None:
                    os.utime(part, ns=(mtime_ns, mtime_ns), dir_fd=parent, follow_symlinks=False)
                crash.point("replace:before")
                os.replace(part, name, src_dir_fd=parent, dst_dir_fd=parent)
            except BaseException:
                with contextlib.suppress(OSError):
                    os.unlink(part, dir_fd=parent)
                raise
            os.fsync(parent)
            crash.point("replace:after")

    def move(self, relative: str, to: Folder, target: str) -> None:
        """Rename a file, durably, to another of our folders; an old `target` is replaced."""
        with (
            _telling(f"cannot move {self.path / relative} to {to.path / target}"),
            self.parent_of(relative) as (parent, name),
            to.parent_of(target, create=True) as (new_parent, new_name),
        ):
            crash.point("move:before")
            try:
                os.replace(name, new_name, src_dir_fd=parent, dst_dir_fd=new_parent)
            except OSError as error:
                if error.errno != errno.EXDEV:
                    raise
                with self.opened(relative) as stream, to.replacing(target) as copy:
                    while piece := stream.read(PIECE):
                        copy.write(piece)
                os.unlink(name, dir_fd=parent)
            os.fsync(new_parent)
            os.fsync(parent)
            crash.point("move:after")

    def remove(self, relative: str) -> None:
        """Remove a file; one that is not there is removed already."""
        with _telling(f"cannot remove {self.path / relative}"), contextlib.suppress(FileNotFoundError):
            crash.point("remove:before")
            with self.parent_of(relative) as (parent, name):
                os.unlink(name, dir_fd=parent)
            crash.point("remove:after")

    def prune(self) -> None:
        """Remove the folders below that are empty: call it only under the lock that guards this folder."""
        for folder, _folders, _files in os.walk(self.path, topdown=False):
            if Path(folder) != self.path:
                with contextlib.suppress(OSError):  # it is not empty
                    Path(folder).rmdir()

    def sweep(self) -> None:
        """Remove what killed writers left below: call it only under the lock that guards this folder."""
        for folder, _folders, files in os.walk(self.path):
            for name in files:
                if name.startswith(".") and name.endswith(".part"):
                    with contextlib.suppress(OSError):
                        (Path(folder) / name).unlink()

    def staging(self) -> Staging:
        """Collect files that become visible together."""
        return Staging(self)


class Staging:
    """A group of files, written under temporary names and published at once: few fsyncs, many files."""

    def __init__(self, folder: Folder) -> None:
        self._folder = folder
        self._waiting: list[tuple[str, str]] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, tb: TracebackType | None) -> None:
        for relative, part in self._waiting:
            with contextlib.suppress(OSError), self._folder.parent_of(relative) as (parent, _name):
                os.unlink(part, dir_fd=parent)

    def write(self, relative: str, data: bytes) -> None:
        """Write `data` beside its final name; nothing is visible yet. Raises `LocalError`."""
        what = f"cannot write {self._folder.path / relative}"
        with _telling(what), self._folder.parent_of(relative, create=True) as (parent, name):
            part = _part(name)
            self._waiting.append((relative, part))
            with _create(part, parent) as stream:
                view = memoryview(data)
                for start in range(0, len(view), PIECE):
                    stream.write(view[start : start + PIECE])

    def sync(self) -> None:
        """Bring every byte to the disk; nothing is visible yet. An error here is final for the whole group."""
        with _telling(f"cannot write below {self._folder.path}"):
            for relative, part in self._waiting:
                with self._folder.parent_of(relative) as (parent, _name):
                    descriptor = os.open(part, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=parent)
                    try:
                        os.fsync(descriptor)
                    finally:
                        os.close(descriptor)
        crash.point("stage:synced")

    def publish(self) -> None:
        """Give every file its final name, after `sync`: first the names, then the folders."""
        with _telling(f"cannot write below {self._folder.path}"):
            folders = {}
            for relative, part in self._waiting:
                with self._folder.parent_of(relative) as (parent, name):
                    os.replace(part, name, src_dir_fd=parent, dst_dir_fd=parent)
                folders[relative.rpartition("/")[0]] = relative
                crash.point("publish:renamed")
            for relative in folders.values():
                with self._folder.parent_of(relative) as (parent, _name):
                    os.fsync(parent)
        self._waiting.clear()
        crash.point("publish:after")


@contextlib.contextmanager
def locked(folder: Folder, relative: str, *, what: str) -> Iterator[None]:
    """Hold an exclusive lock on a file for the block; raises `LockedError` at once when another process has it.

    The kernel lets go of it when the process dies, however it dies, so there is no stale lock to judge.
    """
    with _telling(f"cannot lock {folder.path / relative}"), folder.parent_of(relative, create=True) as (parent, name):
        descriptor = os.open(name, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o644, dir_fd=parent)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.pread(descriptor, 200, 0).decode(errors="replace").strip()
            raise LockedError(
                f"another run works on {what}{f' ({holder})' if holder else ''}",
                hint="wait for it to end, or watch it with `pipeline status`",
            ) from None
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"process {os.getpid()}\n".encode(), 0)
        yield
    finally:
        os.close(descriptor)


def sync(folder: Path) -> None:
    """Make the names in a folder outlive a power cut."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _part(name: str) -> str:
    # The hidden name stays short: a final name may already be as long as the file system allows.
    return f".{name[:60]}.{secrets.token_hex(8)}.part"


def _create(name: str, parent: int) -> IO[bytes]:
    return os.fdopen(os.open(name, _CREATE, 0o666, dir_fd=parent), "wb", buffering=PIECE)
