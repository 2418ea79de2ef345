"""Images as they arrive: each is looked at, hashed and written while its bytes pass, and never held.

The structure is looked at in the thread that reads; hash and file are left to another one, where there is enough of an
image to share. What the bytes were is known once both are through, and the file is thrown away unless a group of
outcomes publishes it.
"""

from __future__ import annotations

import hashlib
import threading
from queue import SimpleQueue
from typing import TYPE_CHECKING, Protocol, Self

from pipeline import images
from pipeline.durable import PIECE
from pipeline.outputs import page

if TYPE_CHECKING:
    from collections.abc import Iterator
    from io import BufferedIOBase
    from types import TracebackType

    from pipeline.durable.staging import Staging, Temporary
    from pipeline.images import Picture

_AHEAD = 6
"""So many pieces may wait to be written."""
_SMALL = 1 << 18
"""So much of an image is written where it is read: to wake the other thread takes longer than a small image does."""
_PATIENCE_S = 60.0


class Content(Protocol):
    """Bytes that are to become a file."""

    def pieces(self) -> Iterator[bytes]: ...
    def read(self) -> bytes: ...


class Held:
    """Such bytes in memory."""

    def __init__(self, data: bytes) -> None:
        self._data = data

    def pieces(self) -> Iterator[bytes]:
        yield self._data

    def read(self) -> bytes:
        return self._data


class Excerpt:
    """Such bytes in a stream that is read on afterwards."""

    def __init__(self, stream: BufferedIOBase, offset: int, size: int) -> None:
        self._stream, self.offset, self.bytes = stream, offset, size

    def pieces(self) -> Iterator[bytes]:
        here, left = self._stream.tell(), self.bytes
        self._stream.seek(self.offset)
        while left and (piece := self._stream.read(min(left, PIECE))):
            left -= len(piece)
            yield piece
        self._stream.seek(here)

    def read(self) -> bytes:
        return b"".join(self.pieces())


class Image:
    """An image of an answer: what it is, and where its bytes lie."""

    def __init__(self, content: Content, sha256: str, size: int, told: Picture | str) -> None:
        self.content, self.sha256, self.bytes = content, sha256, size
        self.picture: Picture | None = None if isinstance(told, str) else told
        """What it shows itself to be; `None` for one that is broken."""
        self.why = told if isinstance(told, str) else ""


def held(data: bytes) -> Image:
    """An image in memory."""
    walk = images.Walk()
    walk.feed(data)
    return Image(Held(data), page.sha256(data), len(data), _verdict(walk))


def _verdict(walk: images.Walk) -> Picture | str:
    try:
        return walk.end()
    except images.BrokenImage as error:
        return error.reason


class Arrivals:
    """The images of an answer file on their way into a group of files. Calling it makes room for another one."""

    def __init__(self, staging: Staging) -> None:
        self._staging = staging
        self._tasks: SimpleQueue[tuple[Arrival, bytes | None] | None] = SimpleQueue()
        self._room = threading.Semaphore(_AHEAD)
        self._thread: threading.Thread | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, tb: TracebackType | None) -> None:
        """End the other thread, before anybody takes its files away."""
        if self._thread is not None:
            self._tasks.put(None)
            self._thread.join(_PATIENCE_S)

    def __call__(self) -> Arrival:
        return Arrival(self._staging, self)

    def hand_over(self, image: Arrival, piece: bytes | None) -> None:
        """Have a piece of an image written by the other thread; `None` is its end. Waits while too many wait."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._work, name="images", daemon=True)
            self._thread.start()
        self._room.acquire()
        self._tasks.put((image, piece))

    def _work(self) -> None:
        while (task := self._tasks.get()) is not None:
            image, piece = task
            image.take(piece)
            self._room.release()


class Arrival:
    """An image that arrives; then it is one that has."""

    def __init__(self, staging: Staging, arrivals: Arrivals) -> None:
        self._staging, self._arrivals = staging, arrivals
        self._file: Temporary = staging.create()
        self.bytes = 0
        self.picture: Picture | None = None
        self.why = ""
        self._walk = images.Walk()
        self._digest, self._sha256 = hashlib.sha256(), ""
        self._through: threading.Event | None = None
        self._trouble: BaseException | None = None

    def write(self, piece: bytes, /) -> None:
        self._walk.feed(piece)
        self.bytes += len(piece)
        if self._through is None and self.bytes <= _SMALL:
            self.take(piece)
            return
        if self._through is None:
            self._through = threading.Event()
        self._arrivals.hand_over(self, piece)

    def end(self) -> Arrival:
        told = _verdict(self._walk)
        self.picture, self.why = (None, told) if isinstance(told, str) else (told, "")
        if self._through is not None:
            self._arrivals.hand_over(self, None)
        else:
            self.take(None)
        return self

    def take(self, piece: bytes | None) -> None:
        """Hash and write a piece; `None` is the end. What goes wrong is raised where the image is asked for."""
        try:
            if piece is None:
                self._file.close()
            elif self._trouble is None:
                self._digest.update(piece)
                self._file.write(piece)
        except Exception as error:  # noqa: BLE001 - it belongs to the other thread
            self._trouble = self._trouble or error
        if piece is None and self._through is not None:
            self._through.set()

    @property
    def content(self) -> Temporary:
        """Its file, once all of it is written; raises what kept it from that."""
        if self._through is not None:
            self._through.wait()
        if self._trouble is not None:
            raise self._trouble
        return self._file

    @property
    def sha256(self) -> str:
        """In hex; waits and raises as `content` does."""
        if not self._sha256 and self.content:
            self._sha256 = self._digest.hexdigest()
        return self._sha256

    def drop(self) -> None:
        """Throw it away, unless it was published; what is still on its way is written to its end before."""
        if self._through is None:
            self.take(None)
        elif not self._through.is_set():
            self._arrivals.hand_over(self, None)
            self._through.wait()
        self._staging.drop(self._file)
