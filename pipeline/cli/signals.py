"""Ctrl-C, SIGTERM and SIGHUP: they end a wait at once, and never cut a create in two."""

from __future__ import annotations

import contextlib
import signal
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import FrameType

_NAMES = {signal.SIGINT: "interrupted", signal.SIGTERM: "terminated", signal.SIGHUP: "hung up"}
_shields = 0
_heard: int | None = None


class Interrupted(BaseException):
    """A signal asked us to stop; `number` is which. Like KeyboardInterrupt, which click would take for its own."""

    def __init__(self, number: int) -> None:
        super().__init__(_NAMES[signal.Signals(number)])
        self.number = number


def _hear(number: int, _frame: FrameType | None) -> None:
    global _heard  # noqa: PLW0603 - a signal handler has nobody else to tell
    if _shields:
        _heard = number
        return
    raise Interrupted(number)


@contextlib.contextmanager
def listening() -> Iterator[None]:
    """Turn the three signals into `Interrupted` for the block."""
    before = {number: signal.signal(number, _hear) for number in _NAMES}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextlib.contextmanager
def shielded() -> Iterator[None]:
    """Hold a signal back until the block is through."""
    global _shields, _heard  # noqa: PLW0603 - as above
    _shields += 1
    try:
        yield
    finally:
        _shields -= 1
    if _heard is not None and not _shields:
        number, _heard = _heard, None
        raise Interrupted(number)
