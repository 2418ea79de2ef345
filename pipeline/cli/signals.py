"""Ctrl-C, SIGTERM and SIGHUP: they end a wait at once, and never cut a create in two."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import FrameType

_NAMES = {signal.SIGINT: "interrupted", signal.SIGTERM: "terminated", signal.SIGHUP: "hung up"}
_PATIENCE = (
    b"a batch is being created: its answer is waited for, two or three minutes at most, because it may be paid for\n"
)
_SOON_S = 0.05
_shields = 0
_heard: int | None = None
_raised: int | None = None
_is_leaving = False


class Interrupted(BaseException):
    """A signal asked us to stop; `number` is which. Like KeyboardInterrupt, which click would take for its own."""

    def __init__(self, number: int) -> None:
        super().__init__(_NAMES[signal.Signals(number)])
        self.number = number


def _hear(number: int, _frame: FrameType | None) -> None:
    global _heard, _raised  # noqa: PLW0603 - a signal handler has nobody else to tell
    if _is_leaving:
        return
    if _shields:
        if _heard is not None:
            with contextlib.suppress(OSError):
                os.write(2, _PATIENCE)  # past the streams, which may be at work themselves
        _heard = _heard or number
        return
    _raised = number
    raise Interrupted(number)


def heed() -> None:
    """Raise once more what a library has swallowed: to be called from time to time. What is shielded is finished."""
    if _raised is not None and not (_is_leaving or _shields):
        raise Interrupted(_raised)


@contextlib.contextmanager
def listening() -> Iterator[None]:
    """Turn the three signals into `Interrupted` for the block, but for those that we were started to ignore (nohup)."""
    global _is_leaving, _raised  # noqa: PLW0603 - as above
    before, hook = {}, sys.unraisablehook
    for number in _NAMES:
        if signal.getsignal(number) is not signal.SIG_IGN:
            before[number] = signal.signal(number, _hear)
    sys.unraisablehook = _again
    try:
        yield
    finally:
        _is_leaving = True
        sys.unraisablehook = hook
        for number, handler in before.items():
            signal.signal(number, handler)
        _is_leaving, _raised = False, None


def leaving() -> None:
    """From now on and to the end of the block of `listening`, a signal changes nothing: we are on our way out."""
    global _is_leaving  # noqa: PLW0603 - as above
    _is_leaving = True


def _again(unraisable: sys.UnraisableHookArgs) -> None:
    """A signal that was heard where nothing can be raised, while an object was cleared away, is given once more."""
    if isinstance(unraisable.exc_value, Interrupted):
        main = threading.main_thread().ident
        timer = threading.Timer(_SOON_S, signal.pthread_kill, [main, unraisable.exc_value.number])
        timer.daemon = True
        timer.start()
    else:
        sys.__unraisablehook__(unraisable)


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
