"""Files that are written one after the other, in a folder of their own, and get their names together."""

from __future__ import annotations

import contextlib
import os
from queue import Queue
from threading import Thread
from typing import IO

from pipeline import crash
from pipeline.durable import _create, _fsync


class Together:
    """Files that are written one after the other in a folder of their own, and get their names together."""

    def __init__(self, here: int) -> None:
        self._here = here
        self._names: list[str] = []
        self._open: dict[str, IO[bytes]] = {}
        self._waiting: Queue[IO[bytes] | None] = Queue(_MOST_WAITING)
        self._error: OSError | None = None
        self._syncing = Thread(target=self._sync, daemon=True)
        self._syncing.start()

    def create(self, name: str) -> IO[bytes]:
        """A new file, without any name that counts; it is to be `name`."""
        self._open[name] = stream = _create(name, self._here, buffering=_BUFFER)
        return stream

    def finish(self, name: str, stream: IO[bytes]) -> None:
        """End a file; its bytes go to the disk while others are written."""
        stream.flush()
        self._waiting.put(self._open.pop(name))
        self._names.append(name)

    def publish(self, parent: int) -> None:
        """Give the finished files their names, once all of their bytes are on the disk; for this module."""
        self.close()
        if self._error is not None:
            raise self._error
        for name in self._names:
            with crash.around("replace"):
                os.replace(name, name, src_dir_fd=self._here, dst_dir_fd=parent)

    def close(self) -> None:
        """Wait for what is under way, and let go of what was not finished; for this module."""
        for stream in self._open.values():
            with contextlib.suppress(OSError):
                stream.close()
        self._open.clear()
        if self._syncing.is_alive():
            self._waiting.put(None)
            self._syncing.join()

    def _sync(self) -> None:
        while (stream := self._waiting.get()) is not None:
            try:
                with stream:
                    _fsync(stream.fileno())
            except OSError as error:
                self._error = self._error or error


_MOST_WAITING = 32
"""Files that wait for the disk at a time."""
_BUFFER = 1 << 16
"""Bytes; each file that waits has as many."""
