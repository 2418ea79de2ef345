"""How the output manifests that were written last lie on the disk."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import sqlite3


class Layouts:
    """The table `layout`. Writes belong into a transaction of the journal."""

    def __init__(self, db: sqlite3.Connection) -> None:
        self._db = db

    def of(self, job: str) -> str | None:
        row = self._db.execute("SELECT told FROM layout WHERE job = ?", (job,)).fetchone()
        return row["told"] if row else None

    def put(self, job: str, told: str) -> None:
        self._db.execute("INSERT OR REPLACE INTO layout VALUES (?, ?)", (job, told))
