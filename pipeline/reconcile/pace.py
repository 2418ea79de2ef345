"""When the next call may be made at a service that wants fewer of them."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pipeline.reconcile.run import Clock

FIRST_PAUSE_S = 2.0
_LONGEST_PAUSE_S = 60.0
_JITTER = 0.5


class Pace:
    """Makes all calls wait together: as long as the service says, and each time longer where it does not."""

    def __init__(self, clock: Clock, patience_s: float) -> None:
        self._clock, self._patience_s = clock, patience_s
        self._pause_s = 0.0
        self._not_before = self._asked_at = 0.0
        self._since: float | None = None

    @property
    def left_s(self) -> float:
        """How long no call may be made from now, in seconds."""
        now = self._clock.time()
        if now < self._asked_at:  # the clock was set back: what is left counts from now
            self._not_before -= self._asked_at - now
            self._asked_at = now
        return max(0.0, self._not_before - now)

    @property
    def is_over(self) -> bool:
        """Whether the wait would be longer than anybody has patience for, since an answer came last."""
        return self._since is not None and self._not_before - self._since > self._patience_s

    def slow_down(self, retry_after_s: float | None) -> None:
        """The service wants fewer calls. Those that were on their way together count once."""
        now = self._asked_at = self._clock.time()
        if self._since is None:
            self._since = now
        if now >= self._not_before:
            self._pause_s = min(max(self._pause_s * 2, FIRST_PAUSE_S), _LONGEST_PAUSE_S)
        pause_s = self._pause_s * random.uniform(1, 1 + _JITTER)  # noqa: S311 - no secret
        self._not_before = max(self._not_before, now + max(retry_after_s or 0.0, pause_s))

    def go_on(self) -> None:
        """An answer came."""
        self._pause_s, self._since = 0.0, None
