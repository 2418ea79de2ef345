"""A file without a name, for what one command notes and does not hold in memory."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from pipeline.durable import _Telling

if TYPE_CHECKING:
    from array import array


class Unnamed:
    """Bytes on the disk that nobody else sees; they are gone when this is closed, or its process, however it ends."""

    def __init__(self) -> None:
        import tempfile  # noqa: PLC0415 - only for large jobs

        self._telling = _Telling("cannot write a temporary file")
        with self._telling:
            self._stream = tempfile.TemporaryFile(buffering=0)  # noqa: SIM115 - whoever makes this closes it
        self.size = 0
        """In bytes."""

    def append(self, data: bytes | array[int]) -> None:
        """Add bytes at the end. Raises `LocalError`."""
        rest = memoryview(data).cast("B")
        with self._telling:
            while rest:
                written = os.write(self._stream.fileno(), rest)
                self.size += written
                rest = rest[written:]

    def read(self, start: int, size: int) -> bytes:
        """So many of the bytes that were added, from a place on. Raises `LocalError`."""
        with self._telling:
            return os.pread(self._stream.fileno(), size, start)

    def close(self) -> None:
        """Let go of all of it."""
        self._stream.close()
