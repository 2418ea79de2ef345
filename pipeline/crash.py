"""Named points at which a test may kill the process, to prove that the next run makes up for it.

Before and after everything that outlives us there is one: a call that changes something at the service, a name that
comes, goes or changes, a commit, a sync. `PIPELINE_CRASH_AT=name:n` sends SIGKILL to ourselves when the point `name`
is passed for the n-th time; `PIPELINE_CRASH_LOG=file` writes each name that is passed to `file`. With neither, a point
costs one test of a constant.
"""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from collections import Counter
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from contextlib import AbstractContextManager

_at, _log = os.environ.get("PIPELINE_CRASH_AT", ""), os.environ.get("PIPELINE_CRASH_LOG", "")
_armed = bool(_at or _log)
_passed: Counter[str] = Counter()
_lock = threading.Lock()
_UNARMED = contextlib.nullcontext()


def arm(*, at: str = "", log: str = "") -> None:
    """Do as the two variables say, from now on."""
    global _at, _log, _armed
    _at, _log, _armed = at, log, bool(at or log)
    _passed.clear()


def point(name: str) -> None:
    """Pass the point `name`; does not come back when a test asked to be killed here."""
    if not _armed:
        return
    with _lock:
        _passed[name] += 1
        passed = f"{name}:{_passed[name]}"
        if _log:
            log = os.open(_log, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
            os.write(log, f"{passed}\n".encode())
            os.close(log)
        if passed == _at:
            os.kill(os.getpid(), signal.SIGKILL)


def around(name: str) -> AbstractContextManager[None]:
    """Pass `NAME:before` and, however the block ends, `NAME:after`. The block is one step that others can see."""
    return _around(name) if _armed else _UNARMED


@contextlib.contextmanager
def _around(name: str) -> Iterator[None]:
    point(f"{name}:before")
    try:
        yield
    finally:
        point(f"{name}:after")
