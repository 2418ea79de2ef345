"""The press: draws the answers of batches in the background, a second of each in turn.

Which process works on a batch is settled by a lock on its result file, which ends with the process. How far the
file counts is committed after every turn, so whoever comes next, after a kill too, goes on from there.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import sqlite3
import threading
import time
from array import array
from collections import OrderedDict
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from itertools import islice
from random import Random
from typing import TYPE_CHECKING, Any, BinaryIO

from . import catalog, fates, files
from .answers import answered
from .asks import understood
from .refusals import RefusalError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .state import State

_TURN_S = 1.0
_IDLE_S = 0.5
_DRAWERS = 2
_INDEXES_KEPT = 4
_UNDRAWN = "SELECT * FROM batch WHERE rendered_at IS NULL AND broken IS NULL AND cancelled_at IS NULL ORDER BY seq"
_UNFINISHED = {"code": 1}


class Press:
    """The worker of one process."""

    def __init__(self, state: State) -> None:
        self._state = state
        self._wake = threading.Event()
        self._stop = threading.Event()
        self._orders: OrderedDict[str, _Order] = OrderedDict()
        self._drawers = ThreadPoolExecutor(_DRAWERS, "drawer")
        self._thread = threading.Thread(target=self._work, name="press", daemon=True)
        self._thread.start()

    def wake(self) -> None:
        self._wake.set()

    def stop(self) -> None:
        """End the work after the pictures in hand."""
        self._stop.set()
        self._wake.set()
        self._thread.join()
        self._drawers.shutdown(cancel_futures=True)

    def _work(self) -> None:
        while not self._stop.is_set():
            self._wake.clear()
            worked = False
            for row in self._state.rows(_UNDRAWN):
                with suppress(OSError, sqlite3.OperationalError):  # a full disk, a locked file: try again
                    worked |= not self._stop.is_set() and self._turn(row)
            if not worked:
                self._wake.wait(_IDLE_S)

    def _turn(self, row: sqlite3.Row) -> bool:
        """Draw of one batch for a while; False when another process has it."""
        batch_id = row["id"]
        out = self._state.batches / f"{batch_id}.out"
        with os.fdopen(os.open(out, os.O_RDWR | os.O_CREAT, 0o666), "r+b") as stream:
            try:
                fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return False
            current = self._state.row("SELECT * FROM batch WHERE id = ?", batch_id)  # as the last turn left it
            if current is None:
                out.unlink(missing_ok=True)
                return True
            try:
                self._draw(current, stream)
            except _BrokenInputError as error:
                self._give_up(batch_id, str(error))
            except FileNotFoundError:
                self._give_up(batch_id, "The input of the batch is gone.")  # with the batch, if it was deleted
        return True

    def _draw(self, row: sqlite3.Row, stream: BinaryIO) -> None:
        order = self._order(row)
        if self._stop.is_set():
            return  # perhaps before all of the order was known
        done, failed, kept = _rewound(row, stream)
        stream.truncate(kept)
        stream.seek(kept)
        for line, bad in self._lines(row, order, done):
            stream.write(line)
            done, failed = done + 1, failed + bad
            if self._stop.is_set():
                break
        stream.flush()
        os.fsync(stream.fileno())
        with self._state.writing() as db:
            db.execute(
                "UPDATE batch SET total = ?, done = ?, failed = ?, bytes = ?, "
                "stopped = stop_after IS ? AND ? IS NOT NULL, "
                "rendered_at = CASE WHEN ? = ? AND stop_after IS ? THEN ? END WHERE id = ?",
                (
                    *(len(order), done, failed, stream.tell(), row["stop_after"], row["stop_after"]),
                    *(done, len(order), row["stop_after"], self._state.now(), row["id"]),
                ),
            )

    def _lines(self, row: sqlite3.Row, order: _Order, done: int) -> Iterator[tuple[bytes, bool]]:
        """The next answers in order, drawn by several hands; each with whether it is an error."""
        until = time.monotonic() + _TURN_S
        with (self._state.batches / f"{row['id']}.in").open("rb") as source:

            def read(position: int) -> tuple[int, int, bytes]:
                number = order.shuffled[position]
                source.seek(order.starts[number])
                return position, number + 1, source.readline()

            waiting = map(read, range(done, len(order)))
            drawn = [self._drawers.submit(self._line, row, *each) for each in islice(waiting, 2 * _DRAWERS)]
            while drawn:
                yield drawn.pop(0).result()
                if time.monotonic() < until:
                    drawn += [self._drawers.submit(self._line, row, *each) for each in islice(waiting, 1)]

    def _line(self, row: sqlite3.Row, position: int, number: int, source: bytes) -> tuple[bytes, bool]:
        asked = json.loads(source)
        stop_after = row["stop_after"]
        if stop_after is not None and position >= stop_after:
            said: dict[str, Any] = {"error": _UNFINISHED}
        else:
            said = self._answer(row, asked)
        handle = {"key": asked["key"]} if row["file"] else {"metadata": asked.get("metadata", {})}
        first = hashlib.sha256(f"{row['id']}/{position}/side".encode()).digest()[0] % 2
        answer = {**handle, **said} if first else {**said, **handle}
        written, is_bad = fates.line(row, number, answer)
        return written, is_bad or not written  # what has no answer is not counted as answered

    def _answer(self, row: sqlite3.Row, asked: dict[str, Any]) -> dict[str, Any]:
        try:
            model = catalog.found(row["model"], row["created_at"])
            ask = understood(asked["request"], model, lambda uri: files.content(self._state, uri, row["created_at"]))
            return {"response": answered(ask, salt=_key(row, asked), mode=row["pictures"])}
        except RefusalError as refusal:
            return {"error": refusal.as_item()}
        except Exception:  # noqa: BLE001 - one request must not hold up the others
            return {"error": RefusalError("INTERNAL", "Internal error encountered.").as_item()}

    def _order(self, row: sqlite3.Row) -> _Order:
        """Where each request begins, and the order they are answered in: the same whenever it is asked for."""
        batch_id = row["id"]
        if batch_id not in self._orders:
            starts = array("Q", _starts(self._state, row, self._stop))
            shuffled = array("L", range(len(starts)))
            Random(batch_id).shuffle(shuffled)  # noqa: S311 - nothing here is a secret
            self._orders[batch_id] = _Order(starts, shuffled)
            while len(self._orders) > _INDEXES_KEPT:
                self._orders.popitem(last=False)
        return self._orders[batch_id]

    def _give_up(self, batch_id: str, reason: str) -> None:
        with self._state.writing() as db:
            db.execute("UPDATE batch SET broken = ?, broken_at = ? WHERE id = ?", (reason, self._state.now(), batch_id))


@dataclass(frozen=True, slots=True)
class _Order:
    """The requests of a batch: some bytes for each, however large they are."""

    starts: array[int]
    """Where each begins in the input."""
    shuffled: array[int]
    """Which one is answered first, second, …"""

    def __len__(self) -> int:
        return len(self.starts)


class _BrokenInputError(Exception):
    """The input is not what a batch can be made of."""


def _starts(state: State, row: sqlite3.Row, stop: threading.Event) -> Iterator[int]:
    """Where each request of a sound input begins."""
    name = row["file"] or "the inlined requests"
    start = count = 0
    with (state.batches / f"{row['id']}.in").open("rb") as stream:
        for number, line in enumerate(stream, 1):
            if line.strip():
                _check_line(line, f"{name}, line {number}", keyed=bool(row["file"]))
                yield start
                count += 1
            start += len(line)
            if stop.is_set():
                break
    if not count:
        raise _BrokenInputError(f"{name}: there are no requests in it.")


def _check_line(line: bytes, place: str, *, keyed: bool) -> None:
    with suppress(ValueError, RecursionError):
        value = json.loads(line)
        if isinstance(value, dict) and isinstance(value.get("request"), dict) and _has_key(value, keyed=keyed):
            return
    raise _BrokenInputError(f'{place}: not a JSON object of the form {{"key": "...", "request": {{...}}}}.')


def _has_key(value: dict[str, Any], *, keyed: bool) -> bool:
    return not keyed or isinstance(value.get("key"), str)


def _key(row: sqlite3.Row, asked: dict[str, Any]) -> str:
    """What tells a request from the others of its batch."""
    key = asked["key"] if row["file"] else json.dumps(asked.get("metadata", {}), sort_keys=True)
    assert isinstance(key, str)
    return key


def _rewound(row: sqlite3.Row, stream: BinaryIO) -> tuple[int, int, int]:
    """How many answers count, how many of them are errors and how many bytes they take; fewer after a cancel."""
    if row["stop_after"] is None or row["stopped"] or row["done"] <= row["stop_after"]:
        return row["done"], row["failed"], row["bytes"]
    if row["faults"] is not None:
        return 0, 0, 0  # lines may be missing or there twice
    failed = size = 0
    stream.seek(0)
    for line in islice(stream, row["stop_after"]):
        failed += "error" in json.loads(line)
        size += len(line)
    return row["stop_after"], failed, size
