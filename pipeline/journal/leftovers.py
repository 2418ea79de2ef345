"""What is of no more use: images that nobody asks for, and files that only a settled batch knows."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pipeline.journal.batches import OPEN, Batch

if TYPE_CHECKING:
    import sqlite3

GONE = (
    "place = 'tree' AND status IN ('done', 'check') AND NOT EXISTS (SELECT 1 FROM wanted w WHERE w.key = record.key)"
    " AND NOT EXISTS (SELECT 1 FROM wanted w WHERE w.moved_from = record.key AND w.fingerprint = record.fingerprint)"
)
"""The condition for records whose images lie in the tree, and which the job at hand does not ask for."""
_OPEN = ", ".join(f"'{state}'" for state in OPEN)


class Leftovers:
    """What `clean` asks of the journal; `wanted` must hold what the job asks for now, compared."""

    def __init__(self, db: sqlite3.Connection) -> None:
        self._db = db

    def is_awaited(self, job: str, prefix: str) -> bool:
        """Whether an ask, by the first hex digits of its fingerprint, is wanted and has no image in its place."""
        row = self._db.execute(
            "SELECT 1 FROM wanted WHERE fingerprint >= ?1 AND fingerprint < ?1 || 'g' AND state IS NOT 'done'"
            " UNION ALL SELECT 1 FROM record WHERE job = ?2 AND fingerprint >= ?1 AND fingerprint < ?1 || 'g'"
            " AND wanted AND (place = 'retired' OR status NOT IN ('done', 'check'))",
            (prefix, job),
        ).fetchone()
        return row is not None

    def is_asked_for(self, fingerprint: str) -> bool:
        """Whether the job at hand has an ask; a turn of a conversation may go on from its answer."""
        row = self._db.execute("SELECT 1 FROM wanted WHERE fingerprint = ?", (fingerprint,)).fetchone()
        return row is not None

    def answers(self, job: str) -> list[tuple[bool, Batch]]:
        """Whether an image of the job at hand may have to be written from a kept answer, and the batch of each."""
        rows = self._db.execute(
            "SELECT *, EXISTS"
            " (SELECT 1 FROM asked a JOIN wanted w ON w.fingerprint = a.fingerprint WHERE a.batch = batch.id"
            " AND a.status IN ('done', 'check') AND w.state IS NOT 'done') AS is_needed FROM batch"
            " WHERE job = ? AND state = 'unpacked' AND answers_path IS NOT NULL ORDER BY id",
            (job,),
        )
        found = [dict(row) for row in rows]
        return [(is_needed, Batch(**row)) for row in found for is_needed in [bool(row.pop("is_needed"))]]

    def requests(self, job: str) -> list[Batch]:
        """Batches with a kept request file that will not be sent any more."""
        rows = self._db.execute(
            "SELECT * FROM batch WHERE job = ? AND state IN ('unpacked', 'rejected', 'lost')"
            " AND requests_path IS NOT NULL ORDER BY id",
            (job,),
        )
        return [Batch(**row) for row in rows]

    def is_settled(self, job: str, answers: str) -> bool:
        """Whether a file of answers, by its name, is one that its batch has let go of."""
        row = self._db.execute(
            "SELECT 1 FROM batch WHERE job = ? AND state = 'unpacked' AND answers_path IS NULL AND answers_sha256"
            " IS NOT NULL AND ? LIKE chunk || '-' || attempt || '-%.jsonl'",
            (job, answers),
        ).fetchone()
        return row is not None

    def unsettled(self, service: str) -> list[Batch]:
        """The batches of all jobs that may still need what is at the service, or are not settled."""
        rows = self._db.execute(f"SELECT * FROM batch WHERE service = ? AND state IN ({_OPEN})", (service,))
        return [Batch(**row) for row in rows]

    def of_input(self, service: str, name: str) -> Batch | None:
        """The newest batch that was made of an input file."""
        row = self._db.execute(
            "SELECT * FROM batch WHERE service = ? AND input_file = ? ORDER BY id DESC LIMIT 1", (service, name)
        ).fetchone()
        return Batch(**row) if row else None
