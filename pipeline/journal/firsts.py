"""Which models have brought an image here, and what waits behind the first requests for one that has not."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pipeline.journal.batches import UNFINISHED, Batch
from pipeline.journal.outside import IS_INSIDE
from pipeline.journal.records import WAITS, Record

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterator

_UNFINISHED = ", ".join(f"'{word}'" for word in UNFINISHED)
# It was in a batch that came home, or will not, and has no image: what is on its way once more is among them. A proof
# is none of the job's own doing.
_TRIED = (
    "r.job = ? AND r.service = ? AND r.model_id = ? AND wanted AND attempts > 0 AND r.status NOT IN ('done', 'check')"
    " AND EXISTS (SELECT 1 FROM asked a JOIN batch b ON b.id = a.batch WHERE a.job = r.job"
    " AND a.fingerprint = r.fingerprint AND a.key = r.key AND a.status IS NOT 'unsent' AND b.lane = 'batch'"
    f" AND b.state NOT IN ({_UNFINISHED}))"
    f" AND {IS_INSIDE.format('r')}"
)


class Firsts:
    """Reads the `record`, `batch` and `asked` tables. Its one write belongs into a transaction of the journal."""

    def __init__(self, db: sqlite3.Connection) -> None:
        self._db = db

    def has_delivered(self, service: str, model_id: str) -> bool:
        """Whether any job here has an image that a model drew at this service, a proof included."""
        row = self._db.execute(
            "SELECT EXISTS (SELECT 1 FROM record WHERE service = ?1 AND model_id = ?2 AND status IN ('done', 'check'))"
            " OR EXISTS (SELECT 1 FROM batch b JOIN asked a ON a.batch = b.id WHERE b.service = ?1 AND b.model_id = ?2"
            " AND a.status IN ('done', 'check', 'proof'))",
            (service, model_id),
        ).fetchone()
        return bool(row[0])

    def under_way(
        self, service: str, model_id: str, *, job: str, planned_after: float, sent_after: float
    ) -> Batch | None:
        """A batch for a model that has not come home yet, of whichever job.

        One that another job has planned, and not sent since then, may be that of a killed run; one that it has sent
        before `sent_after` may be of a job that nobody runs any more: these are not waited for. One that was found at
        the service may be for any model.
        """
        row = self._db.execute(
            "SELECT * FROM batch WHERE service = ? AND lane = 'batch' AND model_id IN (?, '')"
            f" AND state IN ({_UNFINISHED}) AND (job = ? OR planned_at > iif(state = 'planned', ?, ?))"
            " ORDER BY id LIMIT 1",
            (service, model_id, job, planned_after, sent_after),
        ).fetchone()
        return Batch(**row) if row else None

    def tried(self, job: str, service: str, model_id: str) -> Iterator[Record]:
        """What a job has asked of a model by batch, still wants, and has no image of; in the job's order."""
        for row in self._db.execute(f"SELECT r.* FROM record r WHERE {_TRIED} ORDER BY n", (job, service, model_id)):
            yield Record(**row)

    def again(self, job: str, service: str, model_id: str) -> int:
        """How much of that would be bought once more by batch."""
        row = self._db.execute(
            f"SELECT count(*) FROM record r WHERE {_TRIED} AND EXISTS (SELECT 1 FROM temp.wanted w WHERE w.key = r.key"
            " AND w.fingerprint = r.fingerprint AND w.open AND NOT w.singly AND w.wave = 1)",
            (job, service, model_id),
        ).fetchone()
        return int(row[0])

    def untried(self, job: str) -> list[str]:
        """The models of which a job waits to ask something for the first time."""
        rows = self._db.execute(
            f"SELECT DISTINCT model_id FROM record WHERE job = ? AND {WAITS} AND attempts = 0", (job,)
        )
        return [row["model_id"] for row in rows.fetchall()]

    def hold(self, job: str, model_id: str, reason: str) -> int:
        """Hold what a job waits to ask of a model for the first time; returns how many requests those are."""
        return self._db.execute(
            "UPDATE record SET status = 'held', line = json_set(line, '$.status', 'held', '$.reason', ?)"
            f" WHERE job = ? AND model_id = ? AND {WAITS} AND attempts = 0",
            (reason, job, model_id),
        ).rowcount
