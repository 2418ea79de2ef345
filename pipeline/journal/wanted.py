"""What the job asks for now, beside what is recorded. It lives in a temporary database and dies with the run."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import resources
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterable, Iterator

_PAGE = 2000


@dataclass(frozen=True, slots=True)
class WantedRequest:
    """A request of the job as it is now."""

    key: str
    fingerprint: str
    wire_key: str
    model_id: str
    path: str
    cost: int | None
    upper_bound: int | None
    answer_bytes: int
    input_bytes: int
    line: str


@dataclass(frozen=True, slots=True)
class Comparison:
    """A wanted request beside the record of the same key and fingerprint, where there is one."""

    n: int
    key: str
    fingerprint: str
    path: str
    line: str
    status: str | None
    place: str | None
    record_path: str | None
    record_line: str | None
    service: str | None
    batch: int | None
    attempts: int | None
    reopened: int | None
    transient: int | None
    expiries: int | None
    claim: str | None


@dataclass(frozen=True, slots=True)
class Classified:
    """What a wanted request is, why, and whether it would be bought."""

    n: int
    state: str
    why: str
    open: bool
    moved_from: str | None = None


@dataclass(frozen=True, slots=True)
class Total:
    """Some requests added up; money in millionths of a USD, `unpriced` of them without a known price."""

    model_id: str
    settings: str
    requests: int
    cost: int
    upper_bound: int
    unpriced: int
    input_bytes: int
    answer_bytes: int


class Wanted:
    """The temporary table `wanted`."""

    def __init__(self, db: sqlite3.Connection) -> None:
        self._db = db

    def replace(self, requests: Iterable[WantedRequest]) -> int:
        """Forget what was wanted before and take these, in their order; return how many there are."""
        self._db.execute("DROP TABLE IF EXISTS temp.wanted")
        self._db.executescript(resources.files("pipeline.journal").joinpath("wanted.sql").read_text())
        self._db.execute("BEGIN")
        try:
            self._db.executemany(
                "INSERT INTO wanted (key, fingerprint, wire_key, model_id, path, cost, upper_bound, answer_bytes,"
                " input_bytes, line) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                (
                    (r.key, r.fingerprint, r.wire_key, r.model_id, r.path, r.cost, r.upper_bound, r.answer_bytes,
                     r.input_bytes, r.line)
                    for r in requests
                ),
            )  # fmt: skip
        except BaseException:
            self._db.execute("ROLLBACK")
            raise
        self._db.execute("COMMIT")
        return int(self._db.execute("SELECT count(*) FROM wanted").fetchone()[0])

    def comparisons(self, job: str) -> Iterator[list[Comparison]]:
        """Pages of wanted requests beside their records, in the job's order."""
        last = 0
        while True:
            rows = self._db.execute(
                "SELECT w.n, w.key, w.fingerprint, w.path, w.line, r.status, r.place, r.path AS record_path,"
                " r.line AS record_line, r.service, r.batch, r.attempts, r.reopened, r.transient, r.expiries,"
                " r.claim"
                " FROM wanted w LEFT JOIN record r ON r.job = ? AND r.key = w.key AND r.fingerprint = w.fingerprint"
                " WHERE w.n > ? ORDER BY w.n LIMIT ?",
                (job, last, _PAGE),
            ).fetchall()
            if not rows:
                return
            yield [Comparison(*row) for row in rows]
            last = rows[-1]["n"]

    def classify(self, rows: Iterable[Classified]) -> None:
        self._db.execute("BEGIN")
        self._db.executemany(
            "UPDATE wanted SET state = ?, why = ?, open = ?, moved_from = ? WHERE n = ?",
            ((row.state, row.why, int(row.open), row.moved_from, row.n) for row in rows),
        )
        self._db.execute("COMMIT")

    def unclaimed(self, job: str, fingerprint: str) -> list[str]:
        """Keys of records with this ask that the job does not ask for under that key."""
        rows = self._db.execute(
            "SELECT key FROM record r WHERE job = ? AND fingerprint = ? AND status IN ('done', 'check', 'pending')"
            " AND (status <> 'pending' OR batch IS NOT NULL OR claim IS NOT NULL)"
            " AND NOT EXISTS (SELECT 1 FROM wanted w WHERE w.key = r.key AND w.fingerprint = r.fingerprint)"
            " ORDER BY place = 'retired', key",
            (job, fingerprint),
        )
        return [row["key"] for row in rows]

    def has(self, key: str, fingerprint: str) -> bool:
        """Whether the job asks for exactly this."""
        row = self._db.execute("SELECT 1 FROM wanted WHERE key = ? AND fingerprint = ?", (key, fingerprint)).fetchone()
        return row is not None

    def counts(self) -> dict[str, int]:
        """How many requests are in which state."""
        return dict(self._db.execute("SELECT state, count(*) FROM wanted GROUP BY state").fetchall())

    def not_done(self, *, everything: bool = False) -> Iterator[tuple[str, str, str, str, str, int | None]]:
        """Key, state, why, path, model and cost of what is not done, or of everything, in the job's order."""
        for row in self._db.execute(
            "SELECT key, state, why, path, line ->> '$.model' AS model, iif(open, cost, 0) AS cost FROM wanted"
            " WHERE ? OR state <> 'done' ORDER BY n",
            (everything,),
        ):
            yield tuple(row)

    def moves(self) -> Iterator[tuple[str, str, str]]:
        """Key, fingerprint and the key of the record that each moved request takes over."""
        last = 0
        while True:
            rows = self._db.execute(
                "SELECT n, key, fingerprint, moved_from FROM wanted WHERE moved_from IS NOT NULL AND n > ?"
                " ORDER BY n LIMIT ?",
                (last, _PAGE),
            ).fetchall()
            if not rows:
                return
            yield from ((row["key"], row["fingerprint"], row["moved_from"]) for row in rows)
            last = rows[-1]["n"]

    def totals(self) -> list[Total]:
        """What would be bought, by model and settings, as they first occur in the job."""
        rows = self._db.execute(
            "SELECT model_id, line -> '$.settings' AS settings, count(*), coalesce(sum(cost), 0),"
            " coalesce(sum(upper_bound), 0), sum(cost IS NULL), sum(input_bytes), sum(answer_bytes)"
            " FROM wanted WHERE open GROUP BY model_id, settings ORDER BY min(n)"
        )
        return [Total(*row) for row in rows]

    def gone(self, job: str) -> Iterator[tuple[str, int, int | None]]:
        """Records with files that the job no longer asks for: key, whether it asked in the last run, cost."""
        for row in self._db.execute(
            "SELECT key, wanted, cost FROM record r WHERE job = ? AND place = 'tree' AND status IN ('done', 'check')"
            " AND NOT EXISTS (SELECT 1 FROM wanted w WHERE w.key = r.key)"
            " AND NOT EXISTS (SELECT 1 FROM wanted w WHERE w.moved_from = r.key AND w.fingerprint = r.fingerprint)"
            " ORDER BY key",
            (job,),
        ):
            yield tuple(row)

    def asked_before(self, job: str) -> int:
        """How many requests the job had when it was run last."""
        row = self._db.execute("SELECT count(*) FROM record WHERE job = ? AND wanted", (job,)).fetchone()
        return int(row[0])

    def is_edited(self, key: str) -> bool:
        """Whether something that a person made lies where this request's image goes."""
        row = self._db.execute("SELECT 1 FROM wanted WHERE key = ? AND state = 'edited'", (key,)).fetchone()
        return row is not None

    def path_of(self, key: str, fingerprint: str) -> str | None:
        row = self._db.execute(
            "SELECT path FROM wanted WHERE key = ? AND fingerprint = ?", (key, fingerprint)
        ).fetchone()
        return row["path"] if row else None

    def line_of(self, key: str, fingerprint: str) -> str:
        row = self._db.execute(
            "SELECT line FROM wanted WHERE key = ? AND fingerprint = ?", (key, fingerprint)
        ).fetchone()
        return str(row["line"])
