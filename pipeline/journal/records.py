"""What became of every request: the newest record of each ask, and the files that were published for it."""

from __future__ import annotations

import json
from collections import Counter
from typing import TYPE_CHECKING, Any, NamedTuple

from pipeline.journal.batches import FILE_MISSING
from pipeline.journal.outside import IS_INSIDE
from pipeline.record import HAS_IMAGE, dumps
from pipeline.record import wire_key as wire_key_of

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from pipeline.journal.batches import Batch
    from pipeline.journal.others import Others

_PAGE = 2000

_INSERT = (
    "INSERT INTO record (job, service, key, fingerprint, wire_key, model_id, path, place, wanted, n, attempts, cost,"
    " answer_bytes, waits_for, status, line)"
    " SELECT ?, ?, key, fingerprint, wire_key, model_id, path, 'tree', 1, n, 0, cost, answer_bytes, waits_for,"
)
_IS_ANEW = "record.status IN ('done', 'held') OR (SELECT anew FROM wanted WHERE wanted.key = excluded.key) IS 1"
_OPEN_AGAIN = (
    "ON CONFLICT (job, key, fingerprint) DO UPDATE SET status = 'pending', batch = NULL, claim = NULL, transient = 0,"
    " place = 'tree',"
    " wanted = 1, n = excluded.n, service = excluded.service, wire_key = excluded.wire_key, path = excluded.path,"
    " model_id = excluded.model_id,"
    " cost = excluded.cost, answer_bytes = excluded.answer_bytes, waits_for = excluded.waits_for,"
    # What lies there from before stays named until something takes its place.
    " line = json_set(excluded.line, '$.files', json(iif(record.place = 'tree', record.line -> '$.files', '[]')),"
    # And so does the batch that delivered what is only missing here: it is asked before anything is bought.
    f" '$.batch', iif((SELECT why FROM wanted WHERE wanted.key = excluded.key) IS '{FILE_MISSING}',"
    " record.line ->> '$.batch', NULL)),"
    # What was delivered, or decided, starts counting anew; what failed goes on where it was, unless it is asked anew.
    f" reopened = iif({_IS_ANEW}, record.attempts, record.reopened), expiries = iif({_IS_ANEW}, 0, record.expiries)"
)
# What is asked again must not be answered by the batch that settled it before: a journal that knows that one from an
# output manifest alone would take it for a stranger, and its old answer for the new one.
_SETTLED_BATCHES = (
    "INSERT OR IGNORE INTO batch (job, service, model_id, name, chunk, attempt, requests, answer_bytes, cost, state,"
    " remote, planned_at)"
    " SELECT DISTINCT r.job, r.service, '', r.line ->> '$.batch', r.line ->> '$.batch', 1, 0, 0, 0, 'unpacked',"
    " r.line ->> '$.batch', unixepoch() FROM wanted w CROSS JOIN record r ON r.job = ? AND r.key = w.key"
    " AND r.fingerprint = w.fingerprint WHERE w.open AND r.status <> 'pending' AND r.line ->> '$.batch' IS NOT NULL"
    " AND NOT EXISTS (SELECT 1 FROM batch b WHERE b.remote = r.line ->> '$.batch')"
    " AND NOT EXISTS (SELECT 1 FROM record c WHERE c.job = r.job AND c.claim = r.line ->> '$.batch')"
)
WAITS = (
    "wanted AND status = 'pending' AND batch IS NULL AND claim IS NULL AND waits_for IS NULL"
    f" AND {IS_INSIDE.format('record')}"
)
_IS_WANTED = (
    "EXISTS (SELECT 1 FROM wanted w WHERE w.key = record.key AND CASE"
    " WHEN w.state = 'edited' AND EXISTS (SELECT 1 FROM record o WHERE o.job = record.job AND o.key = w.key"
    " AND o.place = 'tree' AND o.status IN ('done', 'check'))"
    # Its earlier image was edited: that one stays, and nothing is bought for the new ask.
    " THEN record.place = 'tree' AND record.status IN ('done', 'check')"
    " ELSE w.fingerprint = record.fingerprint END)"
)
_HAS_PLACE = "o.place = 'tree' AND o.status IN ('done', 'check')"
OVERTAKEN = (
    "place = 'tree' AND status IN ('done', 'check') AND CASE WHEN EXISTS (SELECT 1 FROM wanted w"
    " WHERE w.key = record.key AND w.fingerprint <> record.fingerprint)"
    # Only of the few that are left is the line taken apart.
    f" THEN line ->> '$.files' <> '[]' ELSE 0 END AND {IS_INSIDE.format('record')}"
)
"""The condition for images in the tree under a key that asks for something else by now."""
UNANSWERED = (
    "wanted AND place = 'tree' AND status NOT IN ('done', 'check') AND line ->> '$.files' <> '[]'"
    f" AND {IS_INSIDE.format('record')}"
)
"""The condition for what has no image yet, or none again, and tells of one of an earlier time."""


class Record(NamedTuple):
    """One row of the journal's `record` table; see journal.sql for each field."""

    job: str
    key: str
    fingerprint: str
    wire_key: str
    model_id: str
    path: str
    status: str
    transient: int
    place: str
    wanted: int
    n: int
    service: str
    batch: int | None
    claim: str | None
    attempts: int
    reopened: int
    expiries: int
    cost: int | None
    answer_bytes: int
    line: str
    waits_for: str | None


_GET = f"SELECT {', '.join(Record._fields)} FROM record WHERE job = ? AND key = ? AND fingerprint = ?"


class Records:
    """The `record` and `file` tables. Writes belong into a transaction of the journal."""

    def __init__(self, db: sqlite3.Connection, others: Others) -> None:
        self._db, self._others = db, others

    @property
    def _of_job(self) -> str:
        """The records of a job, or what is at hand of them: tables and a condition that takes the job's name."""
        if self._others.are_apart:  # crossed, as each of these few is to be looked for, and not the job among them
            return "at_hand CROSS JOIN record WHERE record.job = ? AND record.key = at_hand.name"
        return "record WHERE record.job = ?"

    @property
    def _key(self) -> str:
        """The key of a record in there, to be compared with others: not to find it in the index of all of them."""
        return "+at_hand.name" if self._others.are_apart else "key"

    def get(self, job: str, key: str, fingerprint: str) -> Record | None:
        row = self._db.execute(_GET, (job, key, fingerprint)).fetchone()
        return Record._make(row) if row else None

    def of_key(self, job: str, key: str) -> list[Record]:
        """All asks that were ever recorded under a key: the wanted one first, then those in the tree."""
        rows = self._db.execute(
            "SELECT * FROM record WHERE job = ? AND key = ? ORDER BY wanted DESC, place = 'retired', fingerprint",
            (job, key),
        )
        return [Record(**row) for row in rows]

    def of_id(self, job: str, id_: str) -> list[Record]:
        """All that was ever recorded of a row: its own key, and what has an axis, a sample or a turn behind it."""
        rows = self._db.execute(  # each of the two finds its rows in the index; an `OR` would go through all of them
            "SELECT * FROM record WHERE job = ?1 AND key = ?2 AND line ->> '$.id' = ?2 UNION ALL SELECT * FROM record"
            " WHERE job = ?1 AND key >= ?2 || '/' AND key < ?2 || '0' AND line ->> '$.id' = ?2",
            (job, id_),
        )
        return [Record(**row) for row in rows]

    def is_strange(self, job: str, key: str, fingerprint: str, path: str) -> bool:
        """Whether an ask is recorded under another key already, or its place is that of one."""
        row = self._db.execute(  # the index is named, as one that has all three columns seems to be better to SQLite
            "SELECT 1 FROM record INDEXED BY record_ask WHERE job = ?1 AND fingerprint = ?3 AND key <> ?2 UNION ALL"
            " SELECT 1 FROM record WHERE job = ?1 AND path = ?4 AND key <> ?2 LIMIT 1",
            (job, key, fingerprint, path),
        ).fetchone()
        return row is not None

    def of_wire_key(self, job: str, wire_key: str) -> Record | None:
        row = self._db.execute("SELECT * FROM record WHERE job = ? AND wire_key = ?", (job, wire_key)).fetchone()
        return Record(**row) if row else None

    def at_path(self, job: str, base: str) -> Record | None:
        """The record whose files lie at a path, given without extension."""
        row = self._db.execute(
            "SELECT * FROM record WHERE job = ? AND path = ? AND place = 'tree' ORDER BY wanted DESC LIMIT 1",
            (job, base),
        ).fetchone()
        return Record(**row) if row else None

    def are_none(self, job: str) -> bool:
        """Whether nothing is recorded of a job: no request, and no file."""
        known = "SELECT 1 FROM record WHERE job = ?1 UNION ALL SELECT 1 FROM file WHERE job = ?1 LIMIT 1"
        return self._db.execute(known, (job,)).fetchone() is None

    def older(self, job: str, key: str, fingerprint: str) -> Record | None:
        """The record whose files lie in the tree under this key, for another ask."""
        row = self._db.execute(
            "SELECT * FROM record WHERE job = ? AND key = ? AND fingerprint <> ? AND place = 'tree'"
            " ORDER BY status IN ('done', 'check') DESC, line ->> '$.files' <> '[]' DESC, wanted DESC LIMIT 1",
            (job, key, fingerprint),
        ).fetchone()
        return Record(**row) if row else None

    def displaced(self, job: str, key: str, fingerprint: str, base: str) -> list[Record]:
        """Records whose files make room when this ask's files go to `base`: older asks of its key, former owners.

        `base` is empty for a turn whose image is not kept: an older image of it leaves all the same.
        """
        rows = self._db.execute(
            "SELECT * FROM record WHERE job = ? AND key = ? AND fingerprint <> ? AND place = 'tree'"
            " AND status IN ('done', 'check') AND line ->> '$.files' <> '[]' UNION"
            " SELECT * FROM record WHERE job = ? AND path = ? AND path <> '' AND NOT (key = ? AND fingerprint = ?)"
            " AND place = 'tree' AND status IN ('done', 'check')",
            (job, key, fingerprint, job, base, key, fingerprint),
        )
        return [Record(**row) for row in rows]

    def may_displace(self, job: str, keys: Iterable[str], bases: Iterable[str]) -> bool:
        """Whether `displaced` finds anything for one of these keys and bases, or may do so."""
        row = self._db.execute(  # crossed, as each of these few is to be looked for, and not the whole job among them
            "SELECT 1 FROM json_each(?2) k CROSS JOIN record r ON r.job = ?1 AND r.key = k.value"
            " WHERE r.place = 'tree' AND r.status IN ('done', 'check') UNION ALL"
            " SELECT 1 FROM json_each(?3) b CROSS JOIN record r ON r.job = ?1 AND r.path = b.value"
            " WHERE b.value <> '' AND r.place = 'tree' AND r.status IN ('done', 'check') LIMIT 1",
            (job, json.dumps([*keys]), json.dumps([*bases])),
        ).fetchone()
        return row is not None

    def put(self, **values: Any) -> None:
        """Insert a record, or take the place of the one with the same job, key and fingerprint."""
        names, marks = ", ".join(values), ", ".join("?" * len(values))
        self._db.execute(f"INSERT OR REPLACE INTO record ({names}) VALUES ({marks})", tuple(values.values()))

    def change(self, record: Record, **values: Any) -> None:
        """Set columns of a record."""
        names = ", ".join(f"{name} = ?" for name in values)
        self._db.execute(
            f"UPDATE record SET {names} WHERE job = ? AND key = ? AND fingerprint = ?",
            (*values.values(), record.job, record.key, record.fingerprint),
        )

    def change_all(self, changes: Iterable[Mapping[str, Any]]) -> None:
        """Set the same columns of many records; each change names its record by job, key and fingerprint, too."""
        rows = [*changes]
        which = ("job", "key", "fingerprint")
        names = ", ".join(f"{name} = :{name}" for name in (rows[0] if rows else ()) if name not in which)
        if names:
            self._db.executemany(
                f"UPDATE record SET {names} WHERE job = :job AND key = :key AND fingerprint = :fingerprint", rows
            )

    def pages(self, job: str, condition: str = "1") -> Iterator[list[Record]]:
        """A job's records by key, in pages, so that they can be changed while they are read."""
        last: tuple[str, str] = ("", "")
        while True:
            rows = self._db.execute(
                f"SELECT record.* FROM {self._of_job} AND ({self._key}, fingerprint) > (?, ?) AND ({condition})"
                " ORDER BY key, fingerprint LIMIT ?",
                (job, *last, _PAGE),
            ).fetchall()
            if not rows:
                return
            yield [Record(**row) for row in rows]
            last = (rows[-1]["key"], rows[-1]["fingerprint"])

    def want(self, job: str, service: str) -> None:
        """Take over what the job wants: mark its records, and open what is to be bought.

        Where a file that nobody knows lies in the way, a person must decide: that request is held. A turn that goes on
        from one without an answer is missing.
        """
        self._db.execute(  # what stays as it is is not written: it may be a million rows
            f"UPDATE record SET wanted = NOT wanted WHERE job = ? AND wanted <> {_IS_WANTED}"
            f" AND {IS_INSIDE.format('record')}{self._others.but_these}",
            (job,),
        )
        # An image of its own that was edited before the next one was sent for is what counts: that was its delivery.
        own = "json_array_length(line, '$.files')"
        self._db.execute(
            f"UPDATE record SET status = iif({own}, 'done', 'held'), line = json_set(line, '$.status',"
            f" iif({own}, 'done', 'held'), '$.reason', iif({own}, NULL, (SELECT why FROM wanted w"
            f" WHERE w.key = record.key))) WHERE job = ? AND {WAITS} AND EXISTS"
            " (SELECT 1 FROM wanted w WHERE w.key = record.key AND w.state = 'edited')",
            (job,),
        )
        self._db.execute(_SETTLED_BATCHES, (job,))
        self._db.execute(f"{_INSERT} 'pending', line FROM wanted WHERE open {_OPEN_AGAIN}", (job, service))
        self._db.execute(
            f"{_INSERT} 'held', json_set(line, '$.status', 'held', '$.reason', why) FROM wanted WHERE state = 'edited'"
            " AND NOT EXISTS (SELECT 1 FROM record r WHERE r.job = ? AND r.key = wanted.key AND r.place = 'tree')"
            " ON CONFLICT DO NOTHING",
            (job, service, job),
        )
        self._db.execute(
            f"{_INSERT} 'missing', json_set(line, '$.status', 'missing', '$.reason', 'not asked for: it ' || why)"
            " FROM wanted WHERE state = 'failed' AND follows <> '' ON CONFLICT DO NOTHING",
            (job, service),
        )

    def want_one(self, job: str, service: str, wire_key: str) -> None:
        """Take over one wanted request, by its wire key: its answer is here, and no record of it was."""
        self._db.execute(
            f"{_INSERT} 'pending', line FROM wanted WHERE wire_key = ? ON CONFLICT DO NOTHING", (job, service, wire_key)
        )

    def newest(self, job: str, condition: str = "1") -> Iterator[tuple[str, str, str]]:
        """Key, line and status of what stands for each key: the wanted ask, else what lies in the tree."""
        last = None
        for row in self._db.execute(
            "SELECT key, line, iif(wanted AND place = 'retired', 'held', status) FROM record r"
            f" WHERE job = ? AND ({condition})"
            " ORDER BY key, wanted DESC, place = 'retired', status NOT IN ('done', 'check'), fingerprint",
            (job,),
        ):
            if row[0] != last:
                yield tuple(row)
            last = row[0]

    def next_model(self, job: str, *, but: Sequence[str] = (), expired: bool = True) -> str | None:
        """The model of the next request that waits to be sent, in the job's order; not one of `but`.

        With `expired` left out, what a batch expired around does not count.
        """
        marks = ", ".join("?" * len(but))
        row = self._db.execute(
            f"SELECT model_id FROM record WHERE job = ? AND {WAITS} AND model_id NOT IN ({marks})"
            " AND (? OR NOT expiries) ORDER BY n LIMIT 1",
            (job, *but, expired),
        ).fetchone()
        return row["model_id"] if row else None

    def to_send(self, job: str, model_id: str, limit: int, *, expired: bool = True) -> list[Record]:
        """The next requests for a model that wait to be sent, in the job's order."""
        rows = self._db.execute(
            f"SELECT * FROM record WHERE job = ? AND model_id = ? AND {WAITS} AND (? OR NOT expiries)"
            " ORDER BY n LIMIT ?",
            (job, model_id, expired, limit),
        )
        return [Record(**row) for row in rows]

    def to_ask_singly(self, job: str, limit: int) -> list[Record]:
        """The next requests that wait to be sent and that a batch expired around, in the job's order."""
        rows = self._db.execute(
            f"SELECT * FROM record WHERE job = ? AND {WAITS} AND expiries ORDER BY n LIMIT ?", (job, limit)
        )
        return [Record(**row) for row in rows]

    def sent(self, batch: Batch) -> None:
        """Write into the records of a batch which one it is."""
        self._db.execute(
            "UPDATE record SET line = json_set(line, '$.lane', ?, '$.batch', ?, '$.attempt', attempts)"
            f" WHERE job = ? AND batch = ?{self._others.but_these}",
            (batch.lane, batch.remote, batch.job, batch.id),
        )

    def waiting(self, job: str) -> int:
        """How many wanted requests wait to be sent."""
        row = self._db.execute(f"SELECT count(*) FROM record WHERE job = ? AND {WAITS}", (job,)).fetchone()
        return int(row[0])

    def next_turns(self, job: str) -> list[tuple[int, int]]:
        """The later turns of conversations that wait to be sent, and can be: number of the turn, how many."""
        rows = self._db.execute(
            f"SELECT line ->> '$.turn' AS turn, count(*) FROM record WHERE job = ? AND {WAITS} AND turn > 1"
            " GROUP BY turn ORDER BY turn",
            (job,),
        )
        return [tuple(row) for row in rows]

    def waiting_for_turns(self, job: str) -> int:
        """How many later turns of conversations wait for the one before."""
        row = self._db.execute(
            "SELECT count(*) FROM record WHERE job = ? AND waits_for IS NOT NULL AND wanted AND status = 'pending'"
            f" AND batch IS NULL AND {IS_INSIDE.format('record')}",
            (job,),
        ).fetchone()
        return int(row[0])

    def send(self, batch: Batch, records: Iterable[Record]) -> None:
        """Note that these requests are in a batch."""
        self._db.executemany(
            "UPDATE record SET batch = ?, attempts = attempts + 1, waits_for = NULL"
            " WHERE job = ? AND key = ? AND fingerprint = ?",
            ((batch.id, r.job, r.key, r.fingerprint) for r in records),
        )

    def rekey(self, record: Record, *, key: str, wire_key: str, path: str, line: str) -> None:
        """Give a record, and what is on its way for it, another key, which from then on asks for nothing else."""
        self._db.execute(
            "DELETE FROM record WHERE job = ? AND key = ? AND fingerprint = ? AND attempts = 0",
            (record.job, key, record.fingerprint),
        )
        self._db.execute("UPDATE record SET wanted = 0 WHERE job = ? AND key = ?", (record.job, key))
        self._db.execute(
            "UPDATE record SET key = ?, wire_key = ?, path = ?, line = ?, wanted = 1"
            " WHERE job = ? AND key = ? AND fingerprint = ?",
            (key, wire_key, path, line, record.job, record.key, record.fingerprint),
        )
        self._db.execute(
            "UPDATE asked SET key = ? WHERE job = ? AND key = ? AND fingerprint = ?",
            (key, record.job, record.key, record.fingerprint),
        )

    def published(self, job: str) -> Iterator[str]:
        """The lines of the output manifest: one for each key, sorted by key.

        A request without an image of its own names the files that still lie there for an earlier ask of its key. An
        image that could not go to its place is held, until that is free.
        """
        return self._published("record WHERE record.job = ?", job)

    def published_at_hand(self, job: str) -> Iterator[str]:
        """The same of what is at hand: all of it, but where other rows are left as they are."""
        return self._published(self._of_job, job)

    def _published(self, of_job: str, job: str) -> Iterator[str]:
        asks: list[sqlite3.Row] = []
        for row in self._db.execute(
            f"SELECT key, fingerprint, line, place, status, path, wanted FROM {of_job} ORDER BY key, fingerprint",
            (job,),
        ):
            if asks and row[0] != asks[0][0]:
                if (line := _published(asks)) is not None:
                    yield line
                asks = []
            asks.append(row)
        if asks and (line := _published(asks)) is not None:
            yield line

    def counts(self, job: str) -> dict[str, int]:
        """How many wanted requests have which status."""
        rows = self._db.execute(
            "SELECT iif(place = 'retired', 'held', status) AS word, count(*) FROM record WHERE job = ? AND wanted"
            f" AND {IS_INSIDE.format('record')}{self._others.but_these} GROUP BY word",
            (job,),
        )
        return dict(sorted((Counter(dict(rows.fetchall())) + Counter(self._others.statuses)).items()))

    def reasons(self, job: str, most: int) -> list[tuple[str, str, int]]:
        """Why wanted requests are not done: status, reason and how many, those first that stop the most."""
        rows = self._db.execute(
            "SELECT status, line ->> '$.reason' AS why, count(*) AS number FROM record WHERE job = ? AND wanted"
            " AND place <> 'retired' AND status NOT IN ('done', 'pending') AND why IS NOT NULL"
            f" AND {IS_INSIDE.format('record')} GROUP BY status, why ORDER BY number DESC, status, why LIMIT ?",
            (job, most),
        )
        return [tuple(row) for row in rows]

    def to_ask_again(self, job: str, statuses: Iterable[str], again: int) -> int:
        """How many requests failed and may be asked again by themselves."""
        marks = ", ".join("?" * len(words := tuple(statuses)))
        row = self._db.execute(
            f"SELECT count(*) FROM record WHERE job = ? AND wanted AND place = 'tree' AND status IN ({marks})"
            " AND waits_for IS NULL AND attempts > 0 AND attempts - reopened <= ? AND (status <> 'failed' OR transient)"
            " AND (status <> 'expired' OR expiries < 2) AND NOT EXISTS (SELECT 1 FROM wanted w"
            f" WHERE w.key = record.key AND w.state = 'edited') AND {IS_INSIDE.format('record')}"
            f"{self._others.but_these}",
            (job, *words, again),
        ).fetchone()
        return int(row[0])

    def lead_on(self, record: Record) -> None:
        """The answer to a turn is here: the turn that waits for it can be sent."""
        self._db.execute("UPDATE record SET waits_for = NULL WHERE job = ? AND waits_for = ?", (record.job, record.key))

    def waiting_turns(self, job: str) -> Iterator[list[tuple[Record, Record]]]:
        """Turns that wait for one which has its outcome by now, and that one; in pages, so that they can be changed."""
        last = -1
        while rows := self._db.execute(
            "SELECT w.n, w.key, w.fingerprint, p.key, p.fingerprint FROM record w JOIN record p ON p.job = w.job"
            " AND p.key = w.waits_for AND p.wanted WHERE w.job = ? AND w.n > ? AND w.waits_for IS NOT NULL AND w.wanted"
            " AND w.status = 'pending' AND w.batch IS NULL AND p.status NOT IN ('pending', 'held')"
            " ORDER BY w.n LIMIT ?",
            (job, last, _PAGE),
        ).fetchall():
            found = ((self.get(job, *row[1:3]), self.get(job, *row[3:5])) for row in rows)
            yield [(waiting, before) for waiting, before in found if waiting is not None and before is not None]
            last = rows[-1]["n"]

    def claims(self, job: str) -> list[str]:
        """Batches at the service that hold requests of ours, by an output manifest's word."""
        rows = self._db.execute("SELECT DISTINCT claim FROM record WHERE job = ? AND claim IS NOT NULL", (job,))
        return [row["claim"] for row in rows]

    def batches(self, job: str) -> list[tuple[str | None, int]]:
        """The batches at the service that records name, and whether one of them is pending."""
        rows = self._db.execute(
            "SELECT line ->> '$.batch' AS name, max(status = 'pending') FROM record WHERE job = ? GROUP BY name", (job,)
        )
        return [tuple(row) for row in rows]

    def unclaim(self, job: str, claim: str) -> None:
        """Forget that a batch is said to hold requests: it does not."""
        self._db.executemany(
            "UPDATE record SET claim = NULL, wire_key = ? WHERE job = ? AND key = ? AND fingerprint = ?",
            [
                (wire_key_of(row["key"], row["fingerprint"]), job, row["key"], row["fingerprint"])
                for row in self._db.execute(
                    "SELECT key, fingerprint FROM record WHERE job = ? AND claim = ?", (job, claim)
                )
            ],
        )

    def held_in(self, batch: Batch) -> list[Record]:
        """The requests that are held because their batch is."""
        rows = self._db.execute(
            "SELECT * FROM record WHERE job = ? AND status = 'held' AND (batch = ? OR claim = ?)",
            (batch.job, batch.id, batch.remote),
        )
        return [Record(**row) for row in rows]

    def claimed(self, job: str, claim: str) -> list[Record]:
        """The pending requests that such a batch is said to hold."""
        rows = self._db.execute(
            "SELECT * FROM record WHERE job = ? AND claim = ? AND status = 'pending' AND batch IS NULL", (job, claim)
        )
        return [Record(**row) for row in rows]

    def images(self, job: str) -> int:
        """How many records of a job have pictures that were paid for."""
        row = self._db.execute(
            "SELECT count(*) FROM record WHERE job = ? AND place = 'tree' AND service = 'gemini'"
            " AND status IN ('done', 'check')",
            (job,),
        ).fetchone()
        return int(row[0])

    def known_file(self, job: str, path: str) -> tuple[str, int, int] | None:
        """A published file as it was then: sha256, bytes, mtime in nanoseconds."""
        row = self._db.execute(
            "SELECT sha256, bytes, mtime_ns FROM file WHERE job = ? AND path = ?", (job, path)
        ).fetchone()
        return tuple(row) if row else None

    def known_files(self, job: str, paths: Sequence[str]) -> dict[str, tuple[str, int, int]]:
        """The same for those of many that are known, by their paths."""
        rows = self._db.execute(  # crossed, as each of these few is to be looked for, and not the whole job among them
            "SELECT f.path, f.sha256, f.bytes, f.mtime_ns FROM json_each(?) p CROSS JOIN file f"
            " ON f.job = ? AND f.path = p.value",
            (json.dumps(paths), job),
        )
        return {path: (sha256, size, mtime_ns) for path, sha256, size, mtime_ns in rows}

    def know_files(self, files: Iterable[tuple[str, str, str, int, int]]) -> None:
        """The same for many: job, path, sha256, bytes and mtime of each."""
        self._db.executemany("INSERT OR REPLACE INTO file VALUES (?, ?, ?, ?, ?)", files)

    def know_file(self, job: str, path: str, sha256: str, size: int, mtime_ns: int) -> None:
        self._db.execute("INSERT OR REPLACE INTO file VALUES (?, ?, ?, ?, ?)", (job, path, sha256, size, mtime_ns))

    def forget_file(self, job: str, path: str) -> None:
        self._db.execute("DELETE FROM file WHERE job = ? AND path = ?", (job, path))

    def files(self, job: str) -> Iterator[str]:
        """The path of every file that was published for a job."""
        for row in self._db.execute("SELECT path FROM file WHERE job = ? ORDER BY path", (job,)):
            yield row["path"]


def _published(asks: list[sqlite3.Row]) -> str | None:
    """The line of a key, by all asks of it: that of the wanted one, else of the one whose image lies in the tree."""
    if len(asks) == 1 and asks[0]["wanted"] and asks[0]["place"] == "tree":  # nearly always
        return str(asks[0]["line"])
    placed = [row for row in asks if row["place"] == "tree" and row["status"] in HAS_IMAGE]
    if len(asks) == 1:
        row = asks[0] if asks[0]["wanted"] or placed else None
    else:
        placed.sort(key=_names_nothing)  # in the order of their fingerprints else
        wanted = sorted((row for row in asks if row["wanted"]), key=_names_nothing)
        row = next(iter(wanted or placed), None)
    if row is None:
        return None
    line: str = row["line"]
    if row["place"] == "retired":
        reason = f"something that is not ours lies at {row['path']}: move it away, then run again; the image is kept"
        return dumps({**json.loads(line), "status": "held", "reason": reason, "files": []})
    older = next((other for other in placed if other is not row), None)
    if older is None or row["status"] in HAS_IMAGE:
        return line
    return dumps({**json.loads(line), "files": json.loads(older["line"])["files"]})


def _names_nothing(row: sqlite3.Row) -> bool:
    """Whether a record names no files."""
    return not json.loads(row["line"])["files"]
