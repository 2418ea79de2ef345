"""The rows of a job at rest that a command has nothing to do with: told by their records, none of which is copied.

What such a job asks for is a view then: the rows at hand, as they were compared, and beside them all that is recorded
as done. What is counted, opened or published of the job is what is at hand, and what was known of the others. Should a
record of another row be written all the same, that is noticed, and from then on all of the job is looked at.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from pipeline.journal.temporary import filling

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterable, Iterator, Mapping

SCHEMA = """
CREATE TEMP TABLE at_hand (name TEXT PRIMARY KEY) STRICT, WITHOUT ROWID;
CREATE TEMP TABLE at_work (batch INTEGER PRIMARY KEY) STRICT;
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
_RECORDED = frozenset(name for name, told in _DONE.items() if told == f"r.{name}")
_IS_DONE = "r.wanted AND r.place = 'tree' AND r.status IN ('done', 'check') AND r.key NOT IN (SELECT name FROM at_hand)"
_STRAYS = " INSERT OR IGNORE INTO strayed SELECT {side}.key WHERE {side}.job = {job} AND {is_of_others};"
_OF_OTHERS = {
    "record": "{side}.key NOT IN (SELECT name FROM at_hand)",
    "asked": "{side}.batch <= {last} AND {side}.batch NOT IN (SELECT batch FROM at_work)",
}
_EVENTS = {"INSERT": ("NEW",), "DELETE": ("OLD",), "UPDATE": ("OLD", "NEW")}


class Known(NamedTuple):
    """What is known of a job of which only some rows are at hand."""

    statuses: Mapping[str, int]
    """How many of the others have which status."""
    service: str = ""
    spent: int = 0
    """What all answers of that service came to, these rows' included, in millionths of a USD."""


class Others:
    """The temporary tables `at_hand`, `at_work` and `strayed`; they are empty as long as all of a job is at hand."""

    def __init__(self, db: sqlite3.Connection) -> None:
        self._db = db
        self._job: str | None = None
        self._known = Known({})
        self._last = 0

    def leave(self, job: str, keys: Iterable[str], known: Known) -> None:
        """Have only these keys, and those wanted now, at hand: all else that a job asks for is done, as recorded."""
        self.take_back()
        with filling(self._db):
            self._db.execute("INSERT INTO at_hand SELECT key FROM wanted")
            self._db.executemany("INSERT OR IGNORE INTO at_hand VALUES (?)", ((key,) for key in keys))
        self._db.execute("CREATE INDEX temp.wanted_open ON wanted (n) WHERE open")
        self._db.execute("ALTER TABLE temp.wanted RENAME TO compared")
        # Both sides have the same types, or SQLite would make all of it before it looks for anything in there.
        columns = [(row["name"], row["type"]) for row in self._db.execute("PRAGMA temp.table_info(compared)")]
        recorded = ", ".join(
            _DONE[name] if name in _RECORDED else f"CAST({_DONE.get(name, 'NULL')} AS {kind}) AS {name}"
            for name, kind in columns
        )
        self._db.execute(
            f"CREATE TEMP VIEW wanted AS SELECT {', '.join(name for name, _kind in columns)} FROM compared UNION ALL"
            f" SELECT {recorded} FROM main.record r WHERE r.job = {_quoted(job)} AND {_IS_DONE}"
        )
        self._settle(job, known)
        for table, event, sides in _watched():
            conditions = (_OF_OTHERS[table].format(side=side, last=self._last) for side in sides)
            notes = "".join(
                _STRAYS.format(side=side, job=_quoted(job), is_of_others=condition)
                for side, condition in zip(sides, conditions, strict=True)
            )
            self._db.execute(
                f"CREATE TEMP TRIGGER strays_{table}_{event} AFTER {event} ON main.{table} BEGIN{notes} END"
            )
        self._job = job

    def _settle(self, job: str, known: Known) -> None:
        """Take what the batches that are over came to as known; only the others, and those to come, are added up."""
        with filling(self._db):
            self._db.execute(
                "INSERT INTO at_work SELECT id FROM batch WHERE job = ?"
                " AND state NOT IN ('unpacked', 'rejected', 'lost')",
                (job,),
            )
        self._last = self._db.execute("SELECT coalesce(max(id), 0) FROM batch").fetchone()[0]
        self._known = known._replace(spent=known.spent - self._added_up(job, known.service))

    def _added_up(self, job: str, service: str) -> int:
        row = self._db.execute(
            "SELECT coalesce(sum(cost), 0) FROM asked WHERE batch IN (SELECT id FROM batch WHERE job = ?1"
            " AND service = ?2 AND (id > ?3 OR id IN (SELECT batch FROM at_work)))",
            (job, service, self._last),
        ).fetchone()
        return int(row[0])

    def take_back(self) -> None:
        """Have all of a job at hand again, of which `wanted` holds what was compared, and nothing else."""
        if self._job is not None:
            for table, event, _sides in _watched():
                self._db.execute(f"DROP TRIGGER temp.strays_{table}_{event}")
            self._db.execute("DROP VIEW temp.wanted")
            self._db.execute("ALTER TABLE temp.compared RENAME TO wanted")
            self._db.execute("DROP INDEX temp.wanted_open")
        for table in ("at_hand", "at_work", "strayed"):
            self._db.execute(f"DELETE FROM {table}")
        self._job, self._known = None, Known({})

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
        return self._known.statuses if self.are_apart else {}

    def spent(self, service: str) -> int | None:
        """What the answers of a service came to, in millionths of a USD; `None` where all of them must be added up."""
        if self._job is None or service != self._known.service or not self.are_apart:
            return None
        return self._known.spent + self._added_up(self._job, service)

    @property
    def but_these(self) -> str:
        """The condition for what is at hand among the records of a job, to be put behind another one."""
        return _AT_HAND if self.are_apart else ""

    def keys(self) -> list[str]:
        """The keys at hand, sorted as the output manifest is."""
        return [row["name"] for row in self._db.execute("SELECT name FROM at_hand ORDER BY name")]


def _watched() -> Iterator[tuple[str, str, tuple[str, ...]]]:
    """Tables, what is done to their rows, and the row before or after it."""
    for table in _OF_OTHERS:
        for event, sides in _EVENTS.items():
            yield table, event, sides


def _quoted(text: str) -> str:
    """A text as SQL has it: what makes a view or a trigger takes no parameters."""
    return "'" + text.replace("'", "''") + "'"
