"""What a command leaves as it is: the keys of a job outside of `--select` and `--exclude`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pipeline.journal.temporary import filling

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterable

SCHEMA = "CREATE TEMP TABLE outside (key TEXT PRIMARY KEY) STRICT, WITHOUT ROWID"
IS_INSIDE = "NOT EXISTS (SELECT 1 FROM outside WHERE outside.key = {0}.key)"
"""The condition for a row of the table {0}; it holds for every row where nothing was selected."""


class Outside:
    """The temporary table `outside`: always there, and empty for a command that is about everything."""

    def __init__(self, db: sqlite3.Connection) -> None:
        self._db = db

    def replace(self, keys: Iterable[str]) -> None:
        """Leave these keys of the job at hand as they are, and no others."""
        with filling(self._db):
            self._db.execute("DELETE FROM outside")
            self._db.executemany("INSERT OR IGNORE INTO outside VALUES (?)", ((key,) for key in keys))

    def all_but(self, job: str, keys: Iterable[str]) -> None:
        """Leave everything of a job as it is, what it asks for and what is recorded, but for these keys."""
        self.replace(())
        self._db.execute(
            "INSERT INTO outside SELECT key FROM wanted UNION SELECT key FROM record WHERE job = ?", (job,)
        )
        self._db.executemany("DELETE FROM outside WHERE key = ?", [(key,) for key in keys])

    def has(self, key: str) -> bool:
        return self._db.execute("SELECT 1 FROM outside WHERE key = ?", (key,)).fetchone() is not None
