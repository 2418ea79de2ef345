"""Standard input, output and error as they are found: closed, full, without a reader, unable to write what is said."""

from __future__ import annotations

import contextlib
import io
import os
import sys
from typing import TextIO, cast


def steady() -> None:
    """Have all three there, and none of them end a run: for a process of our own, before anything is said or opened.

    A reader who has left (`| head -1`) is told nothing more, and the command goes on to its own exit code. What cannot
    be written to stderr is lost: it is conversation. What cannot be written to stdout for any other reason is an
    `OSError`, as it is the answer.
    """
    _reserve()
    if sys.stdin is None:
        sys.stdin = io.StringIO()
    sys.stdout = _steadied(sys.stdout, 1, BrokenPipeError)
    sys.stderr = _steadied(sys.stderr, 2, OSError)


def _reserve() -> None:
    """Take the numbers of those that are closed, or a file that is opened later gets one, and what is said with it."""
    for number in (0, 1, 2):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)


class _Raw(io.FileIO):
    """The bytes of a stream; an error of this kind means that nobody listens any more."""

    def __init__(self, number: int, passed_over: type[OSError]) -> None:
        super().__init__(number, "wb", closefd=False)
        self._passed_over, self._is_told = passed_over, False

    def write(self, data: bytes, /) -> int:  # type: ignore[override]
        try:
            return super().write(data)
        except BlockingIOError:
            raise
        except OSError as error:
            if not self._is_told and not isinstance(error, self._passed_over):
                self._is_told = True  # once: what waits in a buffer is tried again when the process ends
                raise
            return len(data)


def _steadied(stream: TextIO | None, number: int, passed_over: type[OSError]) -> TextIO:
    encoding, errors = getattr(stream, "encoding", "utf-8"), getattr(stream, "errors", "strict")
    if errors == "strict":
        errors = "backslashreplace"
    is_live = stream is None or stream.isatty() or number == 2  # noqa: PLR2004 - stderr
    raw = io.BufferedWriter(cast("io.FileIO", _Raw(number, passed_over)))
    return io.TextIOWrapper(raw, encoding, errors, line_buffering=is_live, write_through=number == 2)  # noqa: PLR2004


def flush() -> None:
    """Bring out what was said, as far as it can be."""
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):
            stream.flush()
