"""What was sent: batches, and the requests that went into them."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, Literal

from pipeline.journal.outside import IS_INSIDE

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterable, Iterator

    from pipeline.journal.others import Others

PREFIX = "pipeline"
"""How every display name at the service begins: PREFIX/workspace/job/chunk-attempt-chance."""
# The service still works on these, or may do so: they take a slot, and their requests are bought.
LIVE = ("planned", "intent", "live")
# These will still bring something.
UNFINISHED = (*LIVE, "ended", "fetched")
# These still want something of us.
OPEN = (*UNFINISHED, "held")
FILE_MISSING = "its file is missing"
"""Why an image is bought again that was delivered; the service may still have it."""
_MISSED = (
    "SELECT 1 FROM asked a JOIN temp.wanted w ON w.fingerprint = a.fingerprint WHERE a.batch = batch.id AND w.open"
    " AND w.why = ?"
)
ANSWER_KEPT_S = 48 * 3600.0
"""How long after its end the answer of a batch can be counted on: newer pages say six weeks, users saw two days."""


@dataclass(frozen=True, slots=True)
class Batch:
    """One row of the journal's `batch` table; see journal.sql for each field."""

    id: int
    job: str
    service: str
    model_id: str
    name: str
    chunk: str
    attempt: int
    requests: int
    requests_path: str | None
    answer_bytes: int
    cost: int
    state: str
    input_file: str | None
    remote: str | None
    remote_state: str | None
    result_file: str | None
    answers_path: str | None
    answers_sha256: str | None
    fetches: int
    confirmed: int
    succeeded: int
    note: str | None
    planned_at: float
    intent_at: float | None
    absent_at: float | None
    created_at: float | None
    ended_at: float | None
    trouble_at: float | None
    lane: Literal["batch", "interactive"]
    input_bytes: int
    result_bytes: int
    unpacked_at: float | None
    whole: int
    input_deleted_at: float | None
    remote_deleted_at: float | None
    stuck_at: float | None

    @property
    def vanishes_at(self) -> float | None:
        """When its answer, which is not here, may be gone at the service; `None` where there is nothing to fetch."""
        is_there = self.state in {"ended", "held"} and self.result_file is not None and self.ended_at is not None
        return float(self.ended_at or 0.0) + ANSWER_KEPT_S if is_there else None

    @property
    def is_double(self) -> bool:
        """Whether one POST made it beside another: nothing that is open is in it, and what it brings is kept apart."""
        return self.name.endswith(")")

    @property
    def answers_name(self) -> str:
        """Where its answer is kept, below the state folder: a name that still says whose it is without a journal."""
        lane = "" if self.lane == "batch" else f"-{self.lane}"
        chunk = self.chunk.rpartition("/")[2][:24]  # where only an output manifest knows of it, its name at the service
        return f"answers/{self.job}/{chunk}-{self.attempt}-{self.service}{lane}.jsonl"


_COLUMNS = tuple(field.name for field in fields(Batch))


def _list(words: Iterable[str]) -> str:
    return ", ".join(f"'{word}'" for word in words)


class Batches:
    """The `batch` and `asked` tables. Writes belong into a transaction of the journal."""

    def __init__(self, db: sqlite3.Connection, others: Others) -> None:
        self._db, self._others = db, others

    def add(self, **values: Any) -> Batch:
        """Insert a batch; what is not given is NULL or its default."""
        names = ", ".join(values)
        marks = ", ".join("?" * len(values))
        row = self._db.execute(
            f"INSERT INTO batch ({names}) VALUES ({marks}) RETURNING *", tuple(values.values())
        ).fetchone()
        return Batch(**row)

    def change(self, batch: Batch, **values: Any) -> Batch:
        """Set columns of a batch; return it as it is then."""
        assert values.keys() <= set(_COLUMNS)
        names = ", ".join(f"{name} = ?" for name in values)
        row = self._db.execute(
            f"UPDATE batch SET {names} WHERE id = ? RETURNING *", (*values.values(), batch.id)
        ).fetchone()
        return Batch(**row)

    def of(self, job: str, service: str, *states: str, lane: str = "batch") -> list[Batch]:
        """A job's batches at a service in one of these states, oldest first; or what was asked in another lane."""
        rows = self._db.execute(
            "SELECT * FROM batch WHERE job = ? AND service = ? AND lane = ?"
            f" AND state IN ({_list(states)}) ORDER BY id",
            (job, service, lane),
        )
        return [Batch(**row) for row in rows]

    def all_of(self, job: str) -> Iterator[Batch]:
        for row in self._db.execute("SELECT * FROM batch WHERE job = ? ORDER BY id", (job,)):
            yield Batch(**row)

    def named(self, name: str) -> Batch | None:
        """The batch with this display name."""
        row = self._db.execute("SELECT * FROM batch WHERE name = ?", (name,)).fetchone()
        return Batch(**row) if row else None

    def remote(self, remote: str) -> Batch | None:
        """The batch with this name at the service."""
        row = self._db.execute("SELECT * FROM batch WHERE remote = ?", (remote,)).fetchone()
        return Batch(**row) if row else None

    def tried(self, job: str, chunk: str, attempt: int) -> Batch | None:
        """The n-th try with a request file."""
        row = self._db.execute(
            "SELECT * FROM batch WHERE job = ? AND chunk = ? AND attempt = ?", (job, chunk, attempt)
        ).fetchone()
        return Batch(**row) if row else None

    def knows_answers(self, job: str, name: str) -> bool:
        """Whether a file below the state folder is the kept answer of a batch."""
        row = self._db.execute("SELECT 1 FROM batch WHERE job = ? AND answers_path = ?", (job, name)).fetchone()
        return row is not None

    def by_id(self, number: int) -> Batch:
        return Batch(**self._db.execute("SELECT * FROM batch WHERE id = ?", (number,)).fetchone())

    def live(self, service: str) -> int:
        """How many batches of all jobs take a slot at the service."""
        row = self._db.execute(
            f"SELECT count(*) FROM batch WHERE service = ? AND lane = 'batch' AND state IN ({_list(LIVE)})", (service,)
        ).fetchone()
        return int(row[0])

    def attempts(self, job: str, chunk: str) -> int:
        """How often this request file was tried."""
        row = self._db.execute("SELECT max(attempt) FROM batch WHERE job = ? AND chunk = ?", (job, chunk)).fetchone()
        return int(row[0] or 0)

    def first_unsent(self, batch: Batch) -> Batch:
        """The first of the tries with this request file since one was sent: what that one uploaded is nobody else's."""
        row = self._db.execute(
            "SELECT * FROM batch WHERE job = ?1 AND chunk = ?2 AND intent_at IS NULL AND id > coalesce((SELECT max(id)"
            " FROM batch WHERE job = ?1 AND chunk = ?2 AND intent_at IS NOT NULL), 0) ORDER BY id LIMIT 1",
            (batch.job, batch.chunk),
        ).fetchone()
        return Batch(**row) if row else batch

    def ask(self, batch: Batch, asked: Iterable[tuple[str, str, str, int]]) -> None:
        """Put requests into a batch: wire key, key, fingerprint, attempt of each."""
        self._db.executemany(
            "INSERT INTO asked (batch, wire_key, job, key, fingerprint, attempt) VALUES (?, ?, ?, ?, ?, ?)",
            ((batch.id, wire_key, batch.job, key, ask, attempt) for wire_key, key, ask, attempt in asked),
        )

    def asked(self, batch: Batch) -> dict[str, tuple[str, str, int, str | None]]:
        """A batch's requests by wire key: key, fingerprint, attempt, outcome so far."""
        rows = self._db.execute(
            "SELECT wire_key, key, fingerprint, attempt, nullif(status, 'unsent') FROM asked WHERE batch = ?",
            (batch.id,),
        )
        return {row[0]: (row[1], row[2], row[3], row[4]) for row in rows}

    def ask_again(self, batch: Batch, wire_key: str, key: str, fingerprint: str, attempt: int) -> None:
        """Expect an answer in a batch once more, where one was before, or an output manifest says so."""
        row = self._db.execute(
            "UPDATE asked SET key = ?, status = NULL, answer_at = NULL, answer_bytes = NULL"
            " WHERE batch = ? AND fingerprint = ? RETURNING 1",
            (key, batch.id, fingerprint),
        ).fetchone()
        if row is None:
            self.ask(batch, [(wire_key, key, fingerprint, attempt)])

    def settle(self, batch: Batch, wire_key: str, **outcome: Any) -> None:
        """Set status, reason, cost, answer_at or answer_bytes of a request in a batch."""
        names = ", ".join(f"{name} = ?" for name in outcome)
        self._db.execute(
            f"UPDATE asked SET {names} WHERE batch = ? AND wire_key = ?", (*outcome.values(), batch.id, wire_key)
        )

    def settle_all(self, batch: Batch, outcomes: Iterable[tuple[str, str | None, int | None, int, int, str]]) -> None:
        """The same for many: status, reason, cost, answer_at and answer_bytes of each, and its wire key."""
        self._db.executemany(
            "UPDATE asked SET status = ?, reason = ?, cost = ?, answer_at = ?, answer_bytes = ?"
            f" WHERE batch = {batch.id:d} AND wire_key = ?",
            outcomes,
        )

    def settle_extra(self, batch: Batch, wire_key: str, *, status: str, cost: int | None) -> None:
        """Note what an answer in a batch came to that stands for no ask of the job: such a row has no fingerprint."""
        self._db.execute(
            "INSERT INTO asked (batch, wire_key, job, key, fingerprint, attempt, status, reason, cost)"
            " VALUES (?1, ?2, ?3, ?2, '', 0, ?4, 'nobody asks for it', ?5) ON CONFLICT (batch, wire_key)"
            " DO UPDATE SET status = excluded.status, reason = excluded.reason, cost = excluded.cost",
            (batch.id, wire_key, batch.job, status, cost),
        )

    def release(self, batch: Batch, state: str, *, note: str | None = None) -> None:
        """Give a batch up that never existed at the service: its requests can be sent again, nothing was bought."""
        assert state in {"rejected", "lost"}
        self._db.execute(
            "UPDATE record SET batch = NULL, attempts = attempts - 1 "
            "WHERE job = ? AND batch = ? AND status = 'pending'",
            (batch.job, batch.id),
        )
        self._db.execute("UPDATE asked SET status = 'unsent' WHERE batch = ?", (batch.id,))
        self.change(batch, state=state, note=note)

    def take_back(self, batch: Batch) -> None:
        """Undo `release` as far as the requests of a batch have not gone another way since: it exists after all."""
        self._db.execute(
            "UPDATE record SET batch = ?1, attempts = attempts + 1, waits_for = NULL WHERE job = ?2 AND batch IS NULL"
            " AND claim IS NULL AND status = 'pending' AND (key, fingerprint) IN"
            " (SELECT key, fingerprint FROM asked WHERE batch = ?1)",
            (batch.id, batch.job),
        )
        self._db.execute("UPDATE asked SET status = NULL WHERE batch = ? AND status = 'unsent'", (batch.id,))

    def release_unsent(self, job: str) -> None:
        """Give up what an earlier run had planned and not sent: this run's plan, and its money, decide anew."""
        rows = self._db.execute("SELECT * FROM batch WHERE job = ? AND state = 'planned'", (job,)).fetchall()
        for row in rows:
            self.release(Batch(**row), "lost", note="planned by a run that ended before it was sent")

    def give_up_held(self, job: str) -> None:
        """A person has decided: what is held is not waited for any more.

        Where the decision was about some requests of a batch only, the others still wait for it to come to its senses.
        """
        self._db.execute(
            "UPDATE batch SET state = 'unpacked' WHERE job = ? AND state = 'held' AND (requests_path IS NULL"
            " OR NOT EXISTS (SELECT 1 FROM record r WHERE r.job = batch.job AND r.batch = batch.id"
            " AND r.status = 'held' AND r.key IN (SELECT key FROM outside)))",
            (job,),
        )

    def request_paths(self, job: str) -> set[str]:
        """The request files that some batch of a job needs."""
        rows = self._db.execute("SELECT requests_path FROM batch WHERE job = ?", (job,))
        return {row[0] for row in rows if row[0]}

    def answers_of(
        self, job: str, fingerprint: str, key: str, *, proofs: bool = False
    ) -> Iterator[tuple[Batch, str, int, int]]:
        """Where the kept answers with an image for an ask are: batch, wire key, offset and length in bytes.

        The newest comes first, and those to a request with this key before others. With `proofs` those that were only
        shown count, too.
        """
        for row in self._db.execute(
            "SELECT asked.batch, wire_key, asked.answer_at, asked.answer_bytes"
            " FROM asked JOIN batch ON batch.id = asked.batch"
            " WHERE asked.job = ? AND fingerprint = ? AND (asked.status IN ('done', 'check') OR (? AND asked.status ="
            " 'proof')) AND answer_at IS NOT NULL AND answers_path IS NOT NULL"
            " ORDER BY asked.key = ? DESC, asked.batch DESC",
            (job, fingerprint, proofs, key),
        ).fetchall():
            yield self.by_id(row[0]), row[1], row[2], row[3]

    def forget_answers(self, job: str, service: str, fingerprint: str) -> None:
        """Forget where the kept answers to an ask are: they cannot be read."""
        self._db.execute(
            "UPDATE asked SET answer_at = NULL, answer_bytes = NULL WHERE job = ? AND fingerprint = ?"
            " AND batch IN (SELECT id FROM batch WHERE service = ?)",
            (job, fingerprint, service),
        )

    def shown(self, job: str, service: str, fingerprint: str) -> Batch | None:
        """The newest call that brought an image for an ask, which was shown below `proof/` and not kept."""
        row = self._db.execute(
            "SELECT batch.* FROM asked JOIN batch ON batch.id = asked.batch WHERE asked.job = ? AND fingerprint = ?"
            " AND asked.status = 'proof' AND service = ? AND answers_path IS NOT NULL ORDER BY batch.id DESC LIMIT 1",
            (job, fingerprint, service),
        ).fetchone()
        return Batch(**row) if row else None

    def rekey(self, batch: Batch, key: str) -> None:
        """Give what was asked for in a call the key that this ask has now."""
        self._db.execute("UPDATE asked SET key = ? WHERE batch = ?", (key, batch.id))

    def keep(self, batch: Batch, key: str) -> Batch:
        """Have the answer of a call unpacked once more, for this key; the caller puts the key's record into it."""
        self._db.execute("UPDATE asked SET key = ?, status = NULL WHERE batch = ?", (key, batch.id))
        return self.change(batch, state="fetched")

    def attempts_of(self, job: str, key: str) -> list[dict[str, Any]]:
        """Every time a request with this key was sent, oldest first, for people."""
        rows = self._db.execute(
            "SELECT asked.attempt, asked.fingerprint, lane, remote AS batch, batch.state AS batch_state, "
            "asked.status, asked.reason, asked.cost, batch.created_at FROM asked JOIN batch ON batch.id = asked.batch "
            "WHERE asked.job = ? AND key = ? ORDER BY batch.id",
            (job, key),
        )
        return [dict(row) for row in rows]

    def is_noted(self, batch: Batch, kind: str) -> bool:
        """Whether the history has this about a batch: `cancel` by a person, `stuck` for one cancelled by itself."""
        row = self._db.execute(
            "SELECT 1 FROM event WHERE job = ? AND kind = ? AND detail ->> '$.batch' = ?", (batch.job, kind, batch.name)
        ).fetchone()
        return row is not None

    def absences(self, batch: Batch, since: float) -> int:
        """How often the service has said since then that it does not know a batch."""
        row = self._db.execute(
            "SELECT count(*) FROM event WHERE job = ? AND kind = 'absent' AND detail ->> '$.batch' = ?"
            " AND detail ->> '$.at' >= ?",
            (batch.job, batch.name, since),
        ).fetchone()
        return int(row[0])

    def timed_out(self, batch: Batch) -> bool:
        """Whether a batch took too long and was cancelled for that, and not by a person as well."""
        return batch.stuck_at is not None and not self.is_noted(batch, "cancel")

    def was_let_go(self, batch: Batch) -> bool:
        """Whether a batch took too long, and the service has taken note that it is cancelled for that."""
        has_heard = batch.remote_state == "CANCELLED" or self.is_noted(batch, "stuck")
        return batch.stuck_at is not None and has_heard

    def weight(self, batch: Batch) -> tuple[int, int]:
        """What a batch's requests send, as far as their records tell: characters of text, and reference images."""
        row = self._db.execute(
            "SELECT sum(length(line ->> '$.prompt') + coalesce(length(line ->> '$.settings.system'), 0)),"
            " sum(json_array_length(line, '$.inputs')) FROM asked a JOIN record r ON r.job = a.job AND r.key = a.key"
            " AND r.fingerprint = a.fingerprint WHERE a.batch = ?",
            (batch.id,),
        ).fetchone()
        return int(row[0] or 0), int(row[1] or 0)

    def is_inside(self, batch: Batch) -> bool:
        """Whether a batch holds something that is not outside the selection, or may do so."""
        row = self._db.execute(
            f"SELECT count(*), sum({IS_INSIDE.format('asked')}) FROM asked WHERE batch = ?", (batch.id,)
        ).fetchone()
        return not row[0] or bool(row[1])

    def spent(self, job: str, service: str) -> int:
        """What a job's answers came to so far, over all attempts."""
        if (spent := self._others.spent(service)) is not None:
            return spent
        row = self._db.execute(
            "SELECT sum(asked.cost) FROM asked JOIN batch ON batch.id = asked.batch"
            f" WHERE asked.job = ? AND service = ? AND {IS_INSIDE.format('asked')}",
            (job, service),
        ).fetchone()
        return int(row[0] or 0)

    # ------------------------------------------------------------------------- what the service holds

    def held_bytes(self, service: str, now: float) -> int:
        """What request files and answers of ours take up at the service, as far as we know, in bytes.

        Request files are kept for two days, answers for six weeks at most, unless we delete them.
        """
        row = self._db.execute(
            "SELECT sum(iif(input_file IS NOT NULL AND input_deleted_at IS NULL AND intent_at > ?1 - 172800,"
            " input_bytes, 0)) + sum(iif(remote IS NOT NULL AND remote_deleted_at IS NULL AND ended_at > ?1 - 3628800,"
            " result_bytes, 0)) FROM batch WHERE service = ?2 AND (input_file IS NOT NULL OR remote IS NOT NULL)",
            (now, service),
        ).fetchone()
        return int(row[0] or 0)

    def expected_bytes(self, service: str) -> int:
        """How large the answers will be that the service is still working on, or has, and that are not here yet."""
        row = self._db.execute(
            "SELECT sum(answer_bytes) FROM batch WHERE service = ? AND lane = 'batch' AND remote_deleted_at IS NULL"
            f" AND (state IN ({_list(LIVE)}) OR (state = 'ended' AND result_file IS NOT NULL AND NOT result_bytes)"
            " OR (state = 'held' AND remote IS NOT NULL AND NOT result_bytes))",
            (service,),
        ).fetchone()
        return int(row[0] or 0)

    # --------------------------------------------------------------------------- what comes onto our disk

    def to_come(self) -> tuple[int, int]:
        """What is on its way to any job here, from whichever service, in bytes.

        That is how large the answers will be that are still to come, and how large those are whose images are still to
        be written.
        """
        row = self._db.execute(
            "SELECT sum(iif(state = 'fetched', 0, answer_bytes)), sum(iif(state = 'fetched', result_bytes, 0))"
            f" FROM batch WHERE state IN ({_list(UNFINISHED)})"
        ).fetchone()
        return int(row[0] or 0), int(row[1] or 0)

    def to_tidy(self, job: str, service: str, unpacked_before: float) -> list[Batch]:
        """Batches that left something at the service which is ours to delete, oldest first.

        That is the input file of one that has its outcome, and the batch itself once it was `unpacked_before` then, its
        answer was whole, and none of its images is missing here by now.
        """
        rows = self._db.execute(
            "SELECT * FROM batch WHERE job = ? AND service = ? AND ("
            "(input_file IS NOT NULL AND input_deleted_at IS NULL AND state IN ('unpacked', 'rejected'))"
            " OR (state = 'unpacked' AND whole AND remote IS NOT NULL AND remote_deleted_at IS NULL"
            f" AND unpacked_at <= ? AND NOT EXISTS ({_MISSED}))) ORDER BY id",
            (job, service, unpacked_before, FILE_MISSING),
        )
        return [Batch(**row) for row in rows]
