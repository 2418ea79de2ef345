"""One answer comes down while another is unpacked: a thread beside, which knows nothing of the journal."""

from __future__ import annotations

import threading
from collections import deque
from typing import TYPE_CHECKING, Any, Self

from pipeline.errors import UnfinishedError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from types import TracebackType

    from pipeline.journal import Batch

    Brought = dict[str, Any]
    Bring = Callable[[Batch, Callable[[], None]], Brought]

_PATIENCE_S = 5.0


class Downloads:
    """The answers of some batches, fetched in this order and one at a time; `begin` fetches the next one ahead.

    `bring` fetches one, calling what it is given from time to time: that raises once nobody waits for it any more.
    """

    def __init__(self, bring: Bring, batches: Iterable[Batch]) -> None:
        self._bring, self._coming = bring, deque(batches)
        self._ahead: _Download | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, tb: TracebackType | None) -> None:
        if self._ahead is not None:
            self._ahead.give_up()

    def begin(self) -> None:
        """Begin to fetch the next one, beside."""
        if self._ahead is None and self._coming:
            self._ahead = _Download(self._bring, self._coming.popleft())

    def take(self, batch: Batch) -> Brought:
        """What was brought for a batch, which is the next one; raises what kept it from coming."""
        ahead, self._ahead = self._ahead, None
        if ahead is None:
            self._coming.popleft()
            return self._bring(batch, lambda: None)
        try:
            return ahead.result()
        except BaseException:
            ahead.give_up()
            raise


class _Download:
    """One that is under way. No process waits for its thread to end: what it leaves behind has no name yet."""

    def __init__(self, bring: Bring, batch: Batch) -> None:
        self._stop = threading.Event()
        self._brought: Brought | None = None
        self._trouble: BaseException | None = None
        self._thread = threading.Thread(target=self._run, args=(bring, batch), name="download", daemon=True)
        self._thread.start()

    def _run(self, bring: Bring, batch: Batch) -> None:
        try:
            self._brought = bring(batch, self._heed)
        except BaseException as trouble:  # noqa: BLE001 - it belongs to the other thread
            self._trouble = trouble

    def _heed(self) -> None:
        if self._stop.is_set():
            raise UnfinishedError("nobody waits for this answer any more")

    def result(self) -> Brought:
        self._thread.join()
        if self._trouble is not None:
            raise self._trouble
        assert self._brought is not None, "it has ended one way or the other"
        return self._brought

    def give_up(self) -> None:
        self._stop.set()
        self._thread.join(_PATIENCE_S)
