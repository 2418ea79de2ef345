"""What the job asks for now, beside what is recorded. It lives in a temporary database and dies with the run."""

from __future__ import annotations

from importlib import resources
from itertools import groupby
from operator import attrgetter, itemgetter
from typing import TYPE_CHECKING

from pipeline.journal.asks import Candidate, Classified, Comparison, Link, Load, Total, WantedRequest
from pipeline.journal.batches import FILE_MISSING
from pipeline.journal.outside import IS_INSIDE
from pipeline.journal.records import Record
from pipeline.journal.temporary import filling

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterable, Iterator

    from pipeline.journal.others import Others

_PAGE = 2000


_COLUMNS = WantedRequest._fields
_KEPT = frozenset({"key", "turn", "fingerprint", "wire_key", "path", "max_age_s"})
"""What a request keeps that is asked with other settings."""


def _sql(name: str) -> str:
    return resources.files("pipeline.journal").joinpath(name).read_text(encoding="utf-8")


class Wanted:
    """The temporary table `wanted`, or, with other rows of the job left as they are, a view of both."""

    def __init__(self, db: sqlite3.Connection, others: Others) -> None:
        self._db, self._others = db, others

    def replace(self, requests: Iterable[WantedRequest]) -> None:
        """Forget what was wanted before and take these, in their order."""
        self._others.take_back()
        self._db.execute("DROP TABLE IF EXISTS temp.wanted")
        self._db.executescript(_sql("wanted.sql"))
        with filling(self._db):
            self._db.executemany(
                f"INSERT INTO wanted ({', '.join(_COLUMNS)}) VALUES ({', '.join('?' * len(_COLUMNS))})",
                requests,
            )  # fmt: skip
        self._db.executescript(_sql("wanted_indexes.sql"))

    def ids(self) -> set[str]:
        """The ids of the rows that these requests are for."""
        return {row[0] for row in self._db.execute("SELECT DISTINCT line ->> '$.id' FROM wanted")}

    def paths(self) -> list[str]:
        """Where the images of these requests are to lie, without extension."""
        return [row[0] for row in self._db.execute("SELECT path FROM wanted WHERE path <> ''")]

    def comparisons(self, job: str) -> Iterator[list[Comparison]]:
        """Pages of wanted requests that are not outside, beside their records, in the job's order."""
        last = 0
        while True:
            rows = self._db.execute(
                "SELECT w.n, w.key, w.fingerprint, w.path, w.max_age_s, w.line, r.status, r.place,"
                " r.path AS record_path, r.line AS record_line, r.service, r.batch, r.attempts, r.reopened,"
                " r.transient, r.expiries, r.claim"
                " FROM wanted w LEFT JOIN record r ON r.job = ? AND r.key = w.key AND r.fingerprint = w.fingerprint"
                f" WHERE w.n > ? AND {IS_INSIDE.format('w')} ORDER BY w.n LIMIT ?",
                (job, last, _PAGE),
            ).fetchall()
            if not rows:
                return
            yield [Comparison._make(row) for row in rows]
            last = rows[-1]["n"]

    def classify(self, rows: Iterable[Classified]) -> None:
        """Write down what requests are, in their order; for many in a row that are the same, at once."""
        with filling(self._db):
            for (state, why, is_open, moved_from, anew), same in groupby(rows, itemgetter(slice(1, None))):
                for first, last in _runs(row.n for row in same):
                    self._db.execute(
                        "UPDATE wanted SET state = ?, why = ?, open = ?, moved_from = ?, anew = ?"
                        " WHERE n BETWEEN ? AND ?",
                        (state, why, int(is_open), moved_from, int(anew), first, last),
                    )

    def conversations(self) -> Iterator[list[Link]]:
        """The turns of each conversation in their order, as they were classified; one conversation after the other."""
        last, chain = 0, list[Link]()
        while rows := self._db.execute(
            "SELECT n, key, follows, turn, fingerprint, state, coalesce(why, '') AS why, coalesce(open, 0) AS open,"
            " coalesce(anew, 0) AS anew FROM wanted w WHERE n > ? AND (follows <> ''"
            " OR EXISTS (SELECT 1 FROM wanted f WHERE f.follows = w.key AND f.follows <> '')) ORDER BY n LIMIT ?",
            (last, _PAGE),
        ).fetchall():
            for row in rows:
                if chain and row["follows"] != chain[-1].key:
                    yield chain
                    chain = []
                chain.append(Link(*row))
            last = rows[-1]["n"]
        if chain:
            yield chain

    def connect(self, links: Iterable[Link]) -> None:
        """Write down what these turns are beside the others of their conversation."""
        with filling(self._db):
            self._db.executemany(
                "UPDATE wanted SET state = ?, why = ?, open = ?, anew = ?, waits_for = ?, wave = ? WHERE n = ?",
                ((one.state, one.why, one.open, one.anew, one.waits_for, one.wave, one.n) for one in links),
            )

    def leads_on(self, key: str) -> bool:
        """Whether another turn goes on from this one."""
        found = self._db.execute("SELECT 1 FROM wanted WHERE follows = ? AND follows <> ''", (key,))
        return found.fetchone() is not None

    def has_conversations(self) -> bool:
        """Whether any request goes on from another."""
        return self._db.execute("SELECT 1 FROM wanted WHERE follows <> '' LIMIT 1").fetchone() is not None

    def before(self, key: str) -> list[tuple[str, str, str]]:
        """Key, fingerprint and line of the turns before one, as the job asks for them now; the first of them first."""
        found: list[tuple[str, str, str]] = []
        while row := self._db.execute(
            "SELECT b.key, b.fingerprint, b.line FROM wanted w JOIN wanted b ON b.key = w.follows WHERE w.key = ?",
            (key,),
        ).fetchone():
            found.insert(0, tuple(row))
            key = row["key"]
        return found

    def facts(self, job: str) -> Iterator[tuple[str, str, str, str | None]]:
        """What a selection asks of each request: key, draft, state, and the status of what is recorded for it."""
        status = "SELECT iif(r.wanted AND r.place = 'retired', 'held', r.status) FROM record r WHERE r.job = ?"
        for row in self._db.execute(
            f"SELECT w.key, w.line, w.state, coalesce(({status} AND r.key = w.key AND r.fingerprint = w.fingerprint),"
            f" ({status} AND r.key = w.key ORDER BY r.wanted DESC, r.place = 'retired', r.fingerprint LIMIT 1))"
            " FROM wanted w",
            (job, job),
        ):
            yield tuple(row)

    def leave_outside(self) -> None:
        """Leave the requests whose keys are `outside` as they are: not bought, not moved, not counted.

        What would take over the image of such a request stays where it is, too: that image must not leave its place.
        """
        self._db.execute(
            "UPDATE wanted SET state = 'outside', why = '', open = 0, anew = 0, moved_from = NULL"
            " WHERE key IN (SELECT key FROM outside)"
        )
        while stuck := self._db.execute(
            "UPDATE wanted SET state = 'moved', open = 0, anew = 0, moved_from = NULL,"
            " why = 'its image lies at ' || moved_from || ', which is not selected'"
            " WHERE moved_from <> key AND moved_from IN (SELECT key FROM outside)"
            " AND moved_from IN (SELECT key FROM wanted) RETURNING key"
        ).fetchall():
            self._db.executemany("INSERT INTO outside VALUES (?)", stuck)

    def unclaimed(self, job: str, fingerprint: str) -> list[str]:
        """Keys of records with this ask that the job does not ask for under that key.

        What has an image comes first, what never came last: its attempts count all the same.
        """
        rows = self._db.execute(
            "SELECT key FROM record r WHERE job = ? AND fingerprint = ?"
            " AND (status IN ('done', 'check') OR attempts > 0 OR batch IS NOT NULL OR claim IS NOT NULL)"
            " AND NOT EXISTS (SELECT 1 FROM wanted w WHERE w.key = r.key AND w.fingerprint = r.fingerprint)"
            " ORDER BY status IN ('done', 'check') DESC, status = 'pending' DESC, place = 'retired', key",
            (job, fingerprint),
        )
        return [row["key"] for row in rows]

    def goes_on_otherwise(self, job: str, service: str) -> bool:
        """Whether something would be bought that is to be asked with other settings than the job's, and unsent."""
        is_other = "r.line -> '$.settings' <> w.line -> '$.settings' OR r.line ->> '$.model' <> w.line ->> '$.model'"
        row = self._db.execute(
            "SELECT 1 FROM record r JOIN wanted w ON w.key = r.key AND w.fingerprint = r.fingerprint AND w.open"
            " WHERE r.job = ? AND r.service = ? AND r.status = 'pending' AND r.batch IS NULL AND r.claim IS NULL"
            f" AND ({is_other}) AND EXISTS (SELECT 1 FROM wanted WHERE open) LIMIT 1",
            (job, service),
        ).fetchone()
        return row is not None

    def reopened(self, job: str, key: str) -> Record | None:
        """The record that a request goes on from if it is bought; `None` where it is not, or is new."""
        row = self._db.execute(
            "SELECT r.* FROM wanted w JOIN record r ON r.job = ? AND r.key = coalesce(w.moved_from, w.key)"
            " AND r.fingerprint = w.fingerprint WHERE w.key = ? AND w.open",
            (job, key),
        ).fetchone()
        return Record(**row) if row else None

    def ask_instead(self, requests: Iterable[WantedRequest]) -> None:
        """Ask for these in place of those with the same keys."""
        names = [name for name in _COLUMNS if name not in _KEPT]
        change = f"UPDATE wanted SET {', '.join(f'{name} = ?' for name in names)} WHERE key = ?"
        values = attrgetter(*names, "key")
        with filling(self._db):
            for request in requests:
                self._db.execute(change, values(request))

    def asked_otherwise(self, job: str) -> Iterator[tuple[str, str, str]]:
        """Key, record and draft of what is done and was perhaps not asked as the job asks for it."""
        for row in self._db.execute(
            "SELECT w.key, r.line, w.line FROM wanted w JOIN record r ON r.job = ? AND r.key = w.key"
            " AND r.fingerprint = w.fingerprint WHERE w.state = 'done' AND (r.line -> '$.settings'"
            " <> w.line -> '$.settings' OR r.line ->> '$.model' <> w.line ->> '$.model')",
            (job,),
        ):
            yield tuple(row)

    def has(self, key: str, fingerprint: str) -> bool:
        """Whether the job asks for exactly this."""
        row = self._db.execute("SELECT 1 FROM wanted WHERE key = ? AND fingerprint = ?", (key, fingerprint)).fetchone()
        return row is not None

    def is_wanted(self, key: str) -> bool:
        """Whether the job asks for anything under a key."""
        return self._db.execute("SELECT 1 FROM wanted WHERE key = ?", (key,)).fetchone() is not None

    def counts(self) -> dict[str, int]:
        """How many requests are in which state."""
        rows = self._db.execute("SELECT state, count(*) FROM wanted WHERE state <> 'outside' GROUP BY state")
        return dict(rows.fetchall())

    def not_done(self, *, everything: bool = False) -> Iterator[tuple[str, str, str, str, str, int | None]]:
        """Key, state, why, path, model and cost of what is not done, or of everything, in the job's order."""
        for row in self._db.execute(
            "SELECT key, state, why, path, line ->> '$.model' AS model, iif(open, cost, 0) AS cost FROM wanted"
            " WHERE state <> 'outside' AND (? OR state <> 'done') ORDER BY n",
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
            "SELECT model_id, aspect, size, extras, count(*), coalesce(sum(cost), 0), coalesce(sum(upper_bound), 0),"
            " sum(cost IS NULL), sum(input_bytes), sum(answer_bytes)"
            " FROM wanted WHERE open GROUP BY model_id, aspect, size, extras ORDER BY min(n)"
        )
        return [Total(*row) for row in rows]

    def loads(self) -> list[Load]:
        """What would be bought, by model and wave, as batches are filled."""
        rows = self._db.execute(
            "SELECT model_id, wave, singly, count(*), coalesce(sum(cost), 0), coalesce(sum(upper_bound), 0),"
            " sum(answer_bytes), sum(input_bytes), min(turn), max(turn) FROM wanted WHERE open"
            " GROUP BY model_id, wave, singly ORDER BY wave"
        )
        return [Load(*row) for row in rows]

    def share(self, most_inline: int) -> int:
        """Find the reference images that go to the service once, as files; returns how many bytes that are.

        They are those larger than `most_inline` bytes, and those that several of the open requests show. What such a
        request itself sends is so much less.
        """
        with filling(self._db):
            self._db.execute("DELETE FROM shared")
            self._db.execute(
                "INSERT INTO shared SELECT one.value ->> 0 AS image, max(one.value ->> 1) AS size FROM wanted,"
                " json_each(wanted.images) one WHERE open AND images <> '' GROUP BY image"
                " HAVING count(DISTINCT n) > 1 OR size > ?",
                (most_inline,),
            )
            self._db.execute(
                "UPDATE wanted SET input_bytes = input_bytes - coalesce((SELECT sum((one.value ->> 1) * 4 / 3)"
                " FROM json_each(wanted.images) one WHERE one.value ->> 0 IN (SELECT sha256 FROM shared)), 0)"
                " WHERE open AND images <> ''"
            )
        return int(self._db.execute("SELECT coalesce(sum(bytes), 0) FROM shared").fetchone()[0])

    def is_shared(self, sha256: str) -> bool:
        """Whether a reference image goes to the service once, as a file."""
        return self._db.execute("SELECT 1 FROM shared WHERE sha256 = ?", (sha256,)).fetchone() is not None

    def candidates(self) -> Iterator[Candidate]:
        """What would be bought by itself, in the job's order: nothing that takes over an image, or waits for a turn."""
        for row in self._db.execute(
            "SELECT n, line ->> '$.id', coalesce(line ->> '$.template', ''),"
            " substr(line ->> '$.item', length(line ->> '$.id') + 1), line ->> '$.sample',"
            " model_id || ' ' || aspect || ' ' || size FROM wanted"
            " WHERE open AND waits_for IS NULL AND moved_from IS NULL ORDER BY n"
        ):
            yield Candidate(*row)

    def draft(self, job: str, service: str, key: str, fingerprint: str) -> Record | None:
        """The record of a wanted request as if it had just been sent for the first time; it is written nowhere."""
        row = self._db.execute(
            "SELECT key, fingerprint, wire_key, model_id, path, n, cost, answer_bytes, line FROM wanted"
            " WHERE key = ? AND fingerprint = ?",
            (key, fingerprint),
        ).fetchone()
        if row is None:
            return None
        return Record(
            **row, job=job, service=service, status="pending", transient=0, place="tree", wanted=1, batch=None,
            claim=None, attempts=1, reopened=0, expiries=0, waits_for=None,
        )  # fmt: skip

    def after(self, key: str) -> list[int]:
        """The places of the turns that would be bought after this one, in their order."""
        found: list[int] = []
        while row := self._db.execute("SELECT n, key FROM wanted WHERE open AND waits_for = ?", (key,)).fetchone():
            found.append(row["n"])
            key = row["key"]
        return found

    def at(self, n: int) -> tuple[str, str, float | None]:
        """Key, fingerprint and longest age in seconds of the request at a place of the job's order."""
        row = self._db.execute("SELECT key, fingerprint, max_age_s FROM wanted WHERE n = ?", (n,)).fetchone()
        return tuple(row)

    def have(self, keys: Iterable[str], *, said: str) -> None:
        """Note that these requests have been bought already: they cost nothing more, and a plan says so."""
        self._db.executemany(
            "UPDATE wanted SET cost = 0, upper_bound = 0, extras = iif(extras = '', '', extras || ', ') || ?"
            " WHERE key = ?",
            [(said, key) for key in keys],
        )

    def opened(self) -> list[str]:
        """The keys of what would be bought."""
        return [row["key"] for row in self._db.execute("SELECT key FROM wanted WHERE open ORDER BY n")]

    def dearer(self, limit: int) -> tuple[str, int] | None:
        """Key and cost of the first request that would be bought for more than `limit` millionths of a USD."""
        row = self._db.execute(
            "SELECT key, cost FROM wanted WHERE open AND cost > ? ORDER BY n LIMIT 1", (limit,)
        ).fetchone()
        return tuple(row) if row else None

    def gone(self, job: str) -> Iterator[tuple[str, str, str, int, int | None]]:
        """Records with files that the job no longer asks for: key, path, model, whether the last run asked, cost."""
        for row in self._db.execute(
            "SELECT key, path, line ->> '$.model' AS model, wanted, cost FROM record r"
            " WHERE job = ? AND place = 'tree' AND status IN ('done', 'check')"
            f" AND {IS_INSIDE.format('r')}"
            " AND NOT EXISTS (SELECT 1 FROM wanted w WHERE w.key = r.key)"
            " AND NOT EXISTS (SELECT 1 FROM wanted w WHERE w.moved_from = r.key AND w.fingerprint = r.fingerprint)"
            " ORDER BY key",
            (job,),
        ):
            yield tuple(row)

    def asked_before(self, job: str) -> int:
        """How many requests the job had when it was run last."""
        row = self._db.execute(
            f"SELECT count(*) FROM record WHERE job = ? AND wanted AND {IS_INSIDE.format('record')}", (job,)
        ).fetchone()
        return int(row[0])

    def is_left_alone(self, key: str) -> bool:
        """Whether nothing must be asked for under a key: what lies there was edited, or it is outside the selection."""
        row = self._db.execute(
            "SELECT 1 FROM wanted WHERE key = ? AND state = 'edited' UNION ALL SELECT 1 FROM outside WHERE key = ?",
            (key, key),
        ).fetchone()
        return row is not None

    def of_wire_key(self, job: str, service: str, wire_key: str) -> Record | None:
        """The record of the wanted request with a wire key, as `draft` has it."""
        row = self._db.execute("SELECT key, fingerprint FROM wanted WHERE wire_key = ?", (wire_key,)).fetchone()
        return self.draft(job, service, row["key"], row["fingerprint"]) if row else None

    def leading(self, job: str, service: str) -> list[Record]:
        """The turns that others go on from, and of which nothing is recorded, as `draft` has them."""
        rows = self._db.execute(
            "SELECT key, fingerprint FROM wanted w WHERE open"
            " AND key IN (SELECT follows FROM wanted WHERE follows <> '')"
            " AND NOT EXISTS (SELECT 1 FROM record r WHERE r.job = ? AND r.fingerprint = w.fingerprint"
            " AND (r.status <> 'pending' OR r.batch IS NOT NULL OR r.claim IS NOT NULL OR r.attempts > 0)) ORDER BY n",
            (job,),
        ).fetchall()
        found = (self.draft(job, service, row["key"], row["fingerprint"]) for row in rows)
        return [one for one in found if one is not None]

    def max_age_s(self, key: str, fingerprint: str) -> float | None:
        """How old an answer may be to count for a request, in seconds; `None` for any age."""
        row = self._db.execute(
            "SELECT max_age_s FROM wanted WHERE key = ? AND fingerprint = ?", (key, fingerprint)
        ).fetchone()
        return row["max_age_s"] if row else None

    def missing(self, job: str, service: str) -> list[Record]:
        """What a batch delivered, and would be bought once more because its file is not here."""
        rows = self._db.execute(  # from what is open to its record: the other way round is all that is recorded
            "SELECT r.* FROM wanted w CROSS JOIN record r ON r.job = ? AND r.key = w.key"
            " AND r.fingerprint = w.fingerprint WHERE w.open AND w.why = ? AND r.service = ?"
            " AND r.line ->> '$.batch' IS NOT NULL AND r.claim IS NULL AND (r.status IN ('done', 'check')"
            " OR (r.status = 'pending' AND r.batch IS NULL)) ORDER BY w.n",
            (job, FILE_MISSING, service),
        )
        return [Record(**row) for row in rows]

    def path_of(self, key: str, fingerprint: str) -> str | None:
        row = self._db.execute(
            "SELECT path FROM wanted WHERE key = ? AND fingerprint = ?", (key, fingerprint)
        ).fetchone()
        return row["path"] if row else None

    def line_of(self, key: str, fingerprint: str) -> str | None:
        """What the job asks for under a key; `None` where that is another ask, or none."""
        row = self._db.execute(
            "SELECT line FROM wanted WHERE key = ? AND fingerprint = ?", (key, fingerprint)
        ).fetchone()
        return str(row["line"]) if row else None


def _runs(numbers: Iterable[int]) -> Iterator[tuple[int, int]]:
    """Numbers that rise, as the first and the last of each that follow one another without a gap."""
    for _, run in groupby(enumerate(numbers), lambda one: one[1] - one[0]):
        same = [number for _, number in run]
        yield same[0], same[-1]
