"""What jobs at rest were compared with, and what came out; it goes away with the first change of what is recorded."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    import sqlite3

    from pipeline.journal.others import Others


class Resting(NamedTuple):
    """A job at rest, as it is written down; and what else the journal knows that is not guarded by it."""

    job: str
    told: str
    published: str | None
    """The sha256 of the output manifest that was written or read last."""
    manifest: str
    """The job manifest that was run last."""


class Rests:
    """The table `rest`. Triggers of the tables `record`, `file`, `batch` and `asked` take rows out of it."""

    def __init__(self, db: sqlite3.Connection, others: Others) -> None:
        self._db, self._others = db, others

    def put(self, job: str, manifest: str, told: str, rows: bytes | None) -> None:
        """Write down that a job is at rest; inside a transaction that changes nothing else of it."""
        self._db.execute("INSERT OR REPLACE INTO rest VALUES (?, ?, ?, ?)", (job, manifest, told, rows))

    def rows(self, job: str, told: str) -> bytes | None:
        """The blocks of the catalog of a job that is still at that rest."""
        row = self._db.execute("SELECT rows FROM rest WHERE job = ? AND told = ?", (job, told)).fetchone()
        return row[0] if row else None

    def of(self, manifest: str) -> Resting | None:
        """The job that was at rest when this job manifest was looked at last; `None` when it is not, or two are."""
        rows = self._db.execute(
            "SELECT name, told, published, job.manifest FROM rest JOIN job ON job.name = rest.job"
            " WHERE rest.manifest = ? LIMIT 2",
            (manifest,),
        ).fetchall()
        return Resting(*rows[0]) if len(rows) == 1 else None

    def is_settled(self, job: str, has_moved: str) -> bool:
        """Whether nothing that is wanted gets old, nothing takes over a record, and no record fits a condition."""
        row = self._db.execute(
            "SELECT EXISTS (SELECT 1 FROM wanted WHERE max_age_s IS NOT NULL OR moved_from IS NOT NULL OR open)"
            f" OR EXISTS (SELECT 1 FROM record WHERE job = ? AND ({has_moved}){self._others.but_these})",
            (job,),
        ).fetchone()
        return not row[0]
