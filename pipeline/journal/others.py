"""The rows of a job at rest that a command has nothing to do with: told by their records, none of which is copied.

What such a job asks for is a view then: the rows at hand, as they were compared, and beside them all that is recorded
as done. What is counted, opened or published of the job is what is at hand, and what was known of the others. Should a
record of another row be written all the same, that is noticed, and from then on all of the job is looked at.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pipeline.journal.temporary import filling

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterable, Mapping

SCHEMA = """
CREATE TEMP TABLE at_hand (name TEXT PRIMARY KEY) STRICT, WITHOUT ROWID;
CREATE TEMP TABLE strayed (name TEXT PRIMARY KEY) STRICT, WITHOUT ROWID;
"""
_AT_HAND = " AND key IN (SELECT name FROM at_hand)"
_OTHER_PLACES = 1 << 40
"""Where the places of the others begin in the job's order: behind all that is at hand."""
_DONE = {
    "n": f"{_OTHER_PLACES} + r.rowid", "key": "r.key", "turn": "1", "follows": "''", "fingerprint": "r.fingerprint",
    "wire_key": "r.wire_key", "model_id": "r.model_id", "aspect": "''", "size": "''", "extras": "''", "path": "r.path",
    "cost": "r.cost", "answer_bytes": "r.answer_bytes", "input_bytes": "0", "images": "''", "line": "r.line",
    "singly": "0", "state": "'done'", "why": "''", "open": "0", "anew": "0", "wave": "1",
}  # fmt: skip
"""What a request is of which all is recorded; every other column of `wanted` is NULL."""
_IS_DONE = "r.wanted AND r.place = 'tree' AND r.status IN ('done', 'check') AND r.key NOT IN (SELECT name FROM at_hand)"
_STRAYS = (
    " INSERT OR IGNORE INTO strayed SELECT {0}.key WHERE {0}.job = {1} AND {0}.key NOT IN (SELECT name FROM at_hand);"
)
_WATCHED = {"INSERT": ("NEW",), "DELETE": ("OLD",), "UPDATE": ("OLD", "NEW")}


class Others:
    """The temporary tables `at_hand` and `strayed`; the first is empty as long as all of a job is at hand."""

    def __init__(self, db: sqlite3.Connection) -> None:
        self._db = db
        self._job: str | None = None
        self._statuses: Mapping[str, int] = {}

    def leave(self, job: str, keys: Iterable[str], statuses: Mapping[str, int]) -> None:
        """Have only these keys, and those wanted now, at hand: all else that a job asks for is done, as recorded.

        `statuses` says how many of the others have which status.
        """
        self.take_back()
        with filling(self._db):
            self._db.execute("INSERT INTO at_hand SELECT key FROM wanted")
            self._db.executemany("INSERT OR IGNORE INTO at_hand VALUES (?)", ((key,) for key in keys))
        self._db.execute("CREATE INDEX temp.wanted_open ON wanted (n) WHERE open")
        self._db.execute("ALTER TABLE temp.wanted RENAME TO compared")
        names = [row["name"] for row in self._db.execute("PRAGMA temp.table_info(compared)")]
        recorded = ", ".join(f"{_DONE.get(name, 'NULL')} AS {name}" for name in names)
        self._db.execute(
            f"CREATE TEMP VIEW wanted AS SELECT {', '.join(names)} FROM compared UNION ALL"
            f" SELECT {recorded} FROM main.record r WHERE r.job = {_quoted(job)} AND {_IS_DONE}"
        )
        for event, sides in _WATCHED.items():
            notes = "".join(_STRAYS.format(side, _quoted(job)) for side in sides)
            self._db.execute(f"CREATE TEMP TRIGGER strays_{event} AFTER {event} ON main.record BEGIN{notes} END")
        self._job, self._statuses = job, statuses

    def take_back(self) -> None:
        """Have all of a job at hand again, of which `wanted` holds what was compared, and nothing else."""
        if self._job is not None:
            for event in _WATCHED:
                self._db.execute(f"DROP TRIGGER temp.strays_{event}")
            self._db.execute("DROP VIEW temp.wanted")
            self._db.execute("ALTER TABLE temp.compared RENAME TO wanted")
            self._db.execute("DROP INDEX temp.wanted_open")
        self._db.execute("DELETE FROM at_hand")
        self._db.execute("DELETE FROM strayed")
        self._job, self._statuses = None, {}

    def take_in(self) -> None:
        """Have all of a job at hand again, and in `wanted` all that it asks for: what was left is copied."""
        if self._job is not None:
            with filling(self._db):
                self._db.execute("INSERT INTO compared SELECT * FROM wanted WHERE n >= ?", (_OTHER_PLACES,))
        self.take_back()

    @property
    def are_apart(self) -> bool:
        """Whether some rows are at hand, and nothing was written of the others."""
        strayed = "SELECT EXISTS (SELECT 1 FROM strayed)"
        return self._job is not None and not self._db.execute(strayed).fetchone()[0]

    @property
    def statuses(self) -> Mapping[str, int]:
        """How many of the others have which status; none where all is at hand."""
        return self._statuses if self.are_apart else {}

    @property
    def but_these(self) -> str:
        """The condition for what is at hand among the records of a job, to be put behind another one."""
        return _AT_HAND if self.are_apart else ""

    def keys(self) -> list[str]:
        """The keys at hand, sorted as the output manifest is."""
        return [row["name"] for row in self._db.execute("SELECT name FROM at_hand ORDER BY name")]


def _quoted(text: str) -> str:
    """A text as SQL has it: what makes a view or a trigger takes no parameters."""
    return "'" + text.replace("'", "''") + "'"
