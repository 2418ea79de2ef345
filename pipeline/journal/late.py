"""What a batch does not bring in time, and is asked for one by one: what that costs, by the wanted requests."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pipeline.journal.temporary import filling

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterable

    from pipeline.journal.asks import WantedRequest


# A record of what is on its way, beside the request that it settles.
_ON_ITS_WAY = (
    "FROM wanted w CROSS JOIN record r ON r.job = ? AND r.key = coalesce(w.moved_from, w.key)"
    " AND r.fingerprint = w.fingerprint AND r.status = 'pending' WHERE w.state = 'pending'"
    " AND (r.line -> '$.settings' <> w.line -> '$.settings' OR r.line ->> '$.model' <> w.line ->> '$.model')"
)


class Late:
    """The part of the temporary table `wanted` that is about another price. Money in millionths of a USD."""

    def __init__(self, db: sqlite3.Connection) -> None:
        self._db = db

    def ask_singly(self, job: str) -> None:
        """Price what a batch expired around, and is asked for one by one now, as that: it is in no batch any more."""
        self._db.execute(
            "UPDATE wanted SET singly = 1, cost = late_cost, upper_bound = late_bound,"
            " extras = iif(extras = '', '', extras || ', ') || 'one by one' WHERE open AND NOT anew AND NOT singly"
            " AND EXISTS (SELECT 1 FROM record r WHERE r.job = ? AND r.key = wanted.key"
            " AND r.fingerprint = wanted.fingerprint AND r.expiries > 0)",
            (job,),
        )

    def is_otherwise(self, job: str) -> bool:
        """Whether anything is on its way that was perhaps not asked as the job asks for it."""
        return self._db.execute(f"SELECT 1 {_ON_ITS_WAY} LIMIT 1", (job,)).fetchone() is not None

    def on_its_way(self, job: str, key: str) -> str | None:
        """The line of the record of such a request; `None` for every other."""
        row = self._db.execute(f"SELECT r.line {_ON_ITS_WAY} AND w.key = ?", (job, key)).fetchone()
        return row["line"] if row else None

    def price(self, requests: Iterable[WantedRequest]) -> None:
        """Take what these would cost one by one for the requests with the same keys."""
        change = "UPDATE wanted SET late_cost = ?, late_bound = ? WHERE key = ?"
        with filling(self._db):
            for request in requests:
                self._db.execute(change, (request.late_cost, request.late_bound, request.key))

    def total(self) -> tuple[int, int, int]:
        """What all that would be bought by batch, or is in one, costs one by one, should none of it come home.

        Cost and upper bound, and how many requests have no known price.
        """
        row = self._db.execute(
            "SELECT coalesce(sum(late_cost), 0), coalesce(sum(late_bound), 0), coalesce(sum(late_cost IS NULL), 0)"
            " FROM wanted WHERE (open AND NOT singly) OR state = 'pending'"
        ).fetchone()
        return tuple(row)

    def cost(self, key: str, fingerprint: str) -> int | None:
        """What one request costs one by one; `None` where that is not known."""
        row = self._db.execute(
            "SELECT late_cost FROM wanted WHERE key = ? AND fingerprint = ?", (key, fingerprint)
        ).fetchone()
        return row["late_cost"] if row else None
