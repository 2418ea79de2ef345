"""Groups of files that become visible together: few syncs, many files."""

from __future__ import annotations

import contextlib
import os
import re
import sys
import threading
from dataclasses import dataclass
from functools import cache, partial
from typing import TYPE_CHECKING, Any, Self

from pipeline import crash
from pipeline.durable import _CREATE, PIECE, Folder, _fsync, _part, _parts, _Telling, _unlink

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from types import TracebackType

_FEW = 8
"""So many files or folders are brought to the disk one by one; for more, all that waits in the file system is."""
_LARGE = 1 << 18
"""A file of so many bytes begins to be written to the disk as soon as it is closed."""
_MOST_OPEN = 64
_PATIENCE_S = 60.0
_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC


@dataclass(slots=True, eq=False)
class Temporary:
    """A file without a name of its own yet. One thread writes it, and closes it; then it does not change any more."""

    group: Staging
    folder: str
    """The folder that it is in, below that of its group."""
    part: str
    descriptor: int
    size: int = 0
    """In bytes."""
    mtime_ns: int = 0
    relative: str | None = None
    """What it becomes when its group is published; nothing, as long as that is not said."""

    def write(self, data: bytes | memoryview) -> None:
        """Append to it. Raises `LocalError`."""
        view = memoryview(data)
        with self.group.telling:
            for start in range(0, len(view), PIECE):
                piece = view[start : start + PIECE]
                while piece:
                    piece = piece[os.write(self.descriptor, piece) :]
        self.size += len(view)

    def close(self) -> None:
        """End it; raises `LocalError`."""
        if self.descriptor < 0:
            return
        with self.group.telling:
            self.mtime_ns = os.fstat(self.descriptor).st_mtime_ns
            if self.size >= _LARGE:
                _begin_writing(self.descriptor)
            descriptor, self.descriptor = self.descriptor, -1
            os.close(descriptor)

    def pieces(self) -> Iterator[bytes]:
        """Its bytes, from the first on; raises `LocalError`."""
        with self.group.telling:
            descriptor = self.group.opened(self)
            try:
                while piece := os.read(descriptor, PIECE):
                    yield piece
            finally:
                os.close(descriptor)

    def read(self) -> bytes:
        """All its bytes."""
        return b"".join(self.pieces())


class Staging:
    """A group of files, written under temporary names and published at once.

    What an error of `sync` or `publish` has met is never tried again: whoever catches it gives the group up. When the
    block ends, whatever was not published is gone.
    """

    def __init__(self, folder: Folder) -> None:
        self._folder = folder
        self.telling = _Telling(f"cannot write below {folder.path}")
        """A block around what a disk can do to the group."""
        self._files: dict[Temporary, None] = {}
        self._open: dict[str, int] = {}
        """Descriptors of folders by their path below ours."""
        self._disks: dict[str, int] = {}
        self._top = -1
        self._beside: _Beside | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, tb: TracebackType | None) -> None:
        if self._beside is not None:
            with contextlib.suppress(OSError):
                self._beside.wait(_PATIENCE_S)
        for file in [*self._files]:
            with contextlib.suppress(OSError):
                self.drop(file)
        self._let_go()
        if self._top >= 0:
            os.close(self._top)
            self._top = -1

    def create(self, name: str = "image") -> Temporary:
        """A new file in the folder itself, which has no name yet. Raises `LocalError`."""
        return self._created(name, "")

    def write(self, relative: str, data: bytes) -> Temporary:
        """Write `data` beside its final name; nothing is visible yet. Raises `LocalError`."""
        return self.copy(relative, (data,))

    def copy(self, relative: str, pieces: Iterable[bytes]) -> Temporary:
        """The same, from pieces."""
        folder, _, name = relative.rpartition("/")
        _parts(relative)
        file = self._created(name, folder)
        file.relative = relative
        for piece in pieces:
            file.write(piece)
        file.close()
        return file

    def name(self, file: Temporary, relative: str) -> Temporary:
        """Have a file of this group become `relative`; returns the one that does. Raises `LocalError`."""
        folder = relative.rpartition("/")[0]
        _parts(relative)
        with self.telling:
            if self._disk(folder) == self._disk(file.folder):
                file.relative = relative
                return file
        return self.copy(relative, file.pieces())  # another disk is mounted there

    def drop(self, file: Temporary) -> None:
        """Take a file away that is not to be published; to close it is left to whoever writes it."""
        if file not in self._files:
            return
        del self._files[file]
        with contextlib.suppress(FileNotFoundError):
            _unlink(file.part, self._parent(file.folder))

    def status(self, relative: str) -> os.stat_result | None:
        """What lies at `relative`, as `Folder.status` says it."""
        folder, _, name = relative.rpartition("/")
        if folder and folder not in self._open:
            return self._folder.status(relative)
        with self.telling:
            try:
                return os.stat(name, dir_fd=self._parent(folder), follow_symlinks=False)
            except FileNotFoundError:
                return None

    def sync(self) -> None:
        """Bring every byte to the disk; nothing is visible yet. An error here is final for the whole group."""
        self.syncing()()

    def syncing(self) -> Callable[[], None]:
        """Begin with that, for the files that have their names by now; what is returned waits for its end.

        Others may be created meanwhile, and named once it has ended.
        """
        named = [file for file in self._files if file.relative is not None]
        if len(named) > _FEW and _syncfs():
            self._beside = _Beside(self._sync_file_system)
        else:
            with self.telling:
                self._beside = _Beside(partial(_sync_each, [self.opened(file) for file in named]))
        return self._synced

    def _synced(self) -> None:
        beside, self._beside = self._beside, None
        assert beside is not None, "it was begun"
        with self.telling:
            beside.wait()
        crash.point("stage:synced")

    def publish(self) -> list[Temporary]:
        """Give every file its final name, after `sync`: first the names, then the folders. Returns these files."""
        named = [(file, file.relative) for file in self._files if file.relative is not None]
        with self.telling:
            folders: dict[str, None] = {}
            for file, relative in named:
                folder, _, name = relative.rpartition("/")
                here, there = self._parent(file.folder), self._parent(folder)
                with crash.around("rename"):
                    os.replace(file.part, name, src_dir_fd=here, dst_dir_fd=there)
                del self._files[file]
                folders |= {folder: None, file.folder: None}
                crash.point("publish:renamed")
            if len(folders) > _FEW and _syncfs():
                self._sync_file_system()
            else:
                for folder in folders:
                    _fsync(self._parent(folder))
        self._let_go()
        crash.point("publish:after")
        return [file for file, _relative in named]

    # ------------------------------------------------------------------------------------------ descriptors

    def _created(self, name: str, folder: str) -> Temporary:
        with self.telling:
            parent, part = self._parent(folder), _part(name)
            with crash.around("part"):
                descriptor = os.open(part, _CREATE, 0o666, dir_fd=parent)
        file = Temporary(self, folder, part, descriptor)
        self._files[file] = None
        return file

    def opened(self, file: Temporary) -> int:
        """A descriptor to read a file of the group with."""
        return os.open(file.part, _FILE, dir_fd=self._parent(file.folder))

    def _parent(self, folder: str) -> int:
        """The descriptor of a folder below ours, which is made where it is not there; the empty one is ours.

        It is good until the next one is asked for, but for one more.
        """
        if self._top < 0:
            self._folder.make()
            self._top = self._folder.descriptor()
        if not folder:
            return self._top
        descriptor = self._open.pop(folder, -1)
        if descriptor < 0:
            if len(self._open) >= _MOST_OPEN:
                os.close(self._open.pop(next(iter(self._open))))
            descriptor = self._folder.below(folder).descriptor(create=True)
        self._open[folder] = descriptor  # at the end: what was not asked for the longest is let go of first
        return descriptor

    def _disk(self, folder: str) -> int:
        if folder not in self._disks:
            self._disks[folder] = os.fstat(self._parent(folder)).st_dev
        return self._disks[folder]

    def _let_go(self) -> None:
        while self._open:
            os.close(self._open.popitem()[1])  # out of it first: a signal may strike now, and have us come again
        self._disks.clear()

    def _sync_file_system(self) -> None:
        """Bring all to the disk that waits in the file system, where that is one call for many files.

        The folder was opened before any of them was written: what has gone wrong since then is told here, once.
        """
        with crash.around("sync"):
            code = _libc().syncfs(self._top)
        if code:
            error = _errno()
            raise OSError(error, os.strerror(error))


def _sync_each(descriptors: list[int]) -> None:
    """Bring files to the disk one by one, and close them."""
    try:
        for descriptor in descriptors:
            _fsync(descriptor)
    finally:
        for descriptor in descriptors:
            os.close(descriptor)


class _Beside:
    """Something that waits for the disk, in a thread of its own."""

    def __init__(self, work: Callable[[], None]) -> None:
        self._trouble: BaseException | None = None
        self._thread = threading.Thread(target=self._run, args=(work,), name="sync", daemon=True)
        self._thread.start()

    def _run(self, work: Callable[[], None]) -> None:
        try:
            work()
        except BaseException as trouble:  # noqa: BLE001 - it belongs to the other thread
            self._trouble = trouble

    def wait(self, seconds: float | None = None) -> None:
        """Wait for its end; raises what kept it from that."""
        self._thread.join(seconds)
        if self._trouble is not None:
            raise self._trouble


# ---------------------------------------------------------------------------------------------- system calls


@cache
def _libc() -> Any:
    import ctypes  # noqa: PLC0415 - for many files, and large ones

    return ctypes.CDLL(None, use_errno=True)


def _errno() -> int:
    import ctypes  # noqa: PLC0415 - as above

    return ctypes.get_errno()


@cache
def _syncfs() -> bool:
    """Whether the system has a `syncfs` that tells of what went wrong: Linux has since 5.8."""
    version = re.match(r"(\d+)\.(\d+)", os.uname().release)
    if sys.platform != "linux" or version is None or (int(version[1]), int(version[2])) < (5, 8):
        return False
    return hasattr(_libc(), "syncfs")


_WRITE = 2  # SYNC_FILE_RANGE_WRITE: begin, and wait for nothing


def _begin_writing(descriptor: int) -> None:
    """Have the disk begin with a file that is complete; what brings it there for sure comes later."""
    if _syncfs() and hasattr(_libc(), "sync_file_range"):
        import ctypes  # noqa: PLC0415 - as above

        _libc().sync_file_range(descriptor, ctypes.c_int64(0), ctypes.c_int64(0), _WRITE)
