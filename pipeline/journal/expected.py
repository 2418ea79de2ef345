"""What is expected of a batch: each of its requests, beside what is known of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from pipeline.journal.records import Record

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterator

    from pipeline.journal.batches import Batch

_PAGE = 1000
# A row without a fingerprint is an answer that nobody had asked for.
_IS_OURS = "batch = ? AND fingerprint <> ''"
_IS_OPEN = f"{_IS_OURS} AND (status IS NULL OR status = 'unsent')"
_COLUMNS = ", ".join(f"r.{name}" for name in Record._fields)


class Expected(NamedTuple):
    """A request of a batch."""

    key: str
    fingerprint: str
    status: str | None
    """What it came to in this batch, so far."""
    path: str | None
    """Where its files are wanted, below the job folder and without extension; `None` where the job wants none."""
    known: Record | None


class Expectations:
    """Reads what `Batches.ask` and `Batches.settle` write, beside records and what is wanted."""

    def __init__(self, db: sqlite3.Connection) -> None:
        self._db = db

    def of(self, batch: Batch, wire_key: str) -> Expected | None:
        """The request with this key on the wire; `None` where the batch was asked for no such."""
        row = self._db.execute(
            "SELECT a.key, a.fingerprint, nullif(a.status, 'unsent'),"
            f" (SELECT path FROM wanted w WHERE w.key = a.key AND w.fingerprint = a.fingerprint), {_COLUMNS}"
            " FROM asked a LEFT JOIN record r ON r.job = ?3 AND r.key = a.key AND r.fingerprint = a.fingerprint"
            " WHERE a.batch = ?1 AND a.wire_key = ?2 AND a.fingerprint <> ''",
            (batch.id, wire_key, batch.job),
        ).fetchone()
        if row is None:
            return None
        key, fingerprint, status, path, *record = row
        return Expected(key, fingerprint, status, path, None if record[0] is None else Record._make(record))

    def unanswered(self, batch: Batch) -> int:
        """How many requests of a batch have no outcome."""
        row = self._db.execute(f"SELECT count(*) FROM asked WHERE {_IS_OPEN}", (batch.id,)).fetchone()
        return int(row[0])

    def each_unanswered(self, batch: Batch) -> Iterator[tuple[str, str, str]]:
        """Wire key, key and fingerprint of each of them; they may be settled one by one meanwhile."""
        last = ""
        while rows := self._db.execute(
            f"SELECT wire_key, key, fingerprint FROM asked WHERE {_IS_OPEN} AND wire_key > ? ORDER BY wire_key LIMIT ?",
            (batch.id, last, _PAGE),
        ).fetchall():
            yield from map(tuple, rows)
            last = rows[-1]["wire_key"]

    def has_invalid(self, batch: Batch) -> bool:
        """Whether one of a batch's requests came to an image that is not whole."""
        row = self._db.execute(f"SELECT 1 FROM asked WHERE {_IS_OURS} AND status = 'invalid' LIMIT 1", (batch.id,))
        return row.fetchone() is not None
