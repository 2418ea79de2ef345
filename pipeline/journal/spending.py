"""What was spent, by model or day, and what all that a job asks for would come to."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterator

_NAMES = {
    "job": "a.job",
    # A batch that was found at the service has no model of its own; its requests have.
    "model": "coalesce(nullif(b.model_id, ''), r.model_id, '?') || iif(b.lane = 'batch', '', ' (' || b.lane || ')')",
    "day": "date(coalesce(b.unpacked_at, b.ended_at, b.created_at, b.planned_at), 'unixepoch')",
}


@dataclass(frozen=True, slots=True)
class Spent:
    """Some answers added up; money in millionths of a USD, `unpriced` images without a known price left out."""

    name: str
    images: int
    cost: int
    unpriced: int


class Spending:
    """What the journal knows about money. Reads, and nothing else."""

    def __init__(self, db: sqlite3.Connection) -> None:
        self._db = db

    def answered(self, job: str, service: str, by: str) -> list[Spent]:
        """What a job's answers came to, over all lanes and attempts: `by` job, model, or the day they came, in UTC."""
        rows = self._db.execute(
            f"SELECT {_NAMES[by]} AS name, sum(a.status IN ('done', 'check')), coalesce(sum(a.cost), 0),"
            " sum(a.cost IS NULL AND a.status IN ('done', 'check'))"
            " FROM asked a JOIN batch b ON b.id = a.batch"
            " LEFT JOIN record r ON r.job = a.job AND r.key = a.key AND r.fingerprint = a.fingerprint"
            " WHERE a.job = ? AND b.service = ? AND a.status IS NOT NULL AND (a.cost IS NOT NULL OR a.status IN"
            " ('done', 'check')) GROUP BY name ORDER BY name",
            (job, service),
        )
        return [Spent(*row) for row in rows]

    def told_by_manifests(self, job: str) -> Iterator[str]:
        """Records that came from an output manifest, as lines: how often they were asked for is not in this journal."""
        for row in self._db.execute(
            "SELECT line FROM record r WHERE job = ? AND NOT EXISTS (SELECT 1 FROM asked a WHERE a.job = r.job"
            " AND a.fingerprint = r.fingerprint AND a.key = r.key) ORDER BY key, fingerprint",
            (job,),
        ):
            yield row["line"]

    def all_wanted(self) -> Spent:
        """What all that the job at hand asks for would cost, bought from nothing."""
        row = self._db.execute("SELECT count(*), coalesce(sum(cost), 0), sum(cost IS NULL) FROM wanted").fetchone()
        return Spent("", row[0], row[1], row[2] or 0)
