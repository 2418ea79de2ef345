"""Requests that are asked one by one, now, through the interactive API; a few at a time.

Each call is a batch of one request in the journal, in the lane `interactive`, written down before its one POST: what a
killed process had asked for is known to the next one, and is not asked for again by itself. What came is on our disk,
whole, before anything follows from it.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import uuid
from collections import deque
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from pipeline import batchfile
from pipeline.durable import Folder
from pipeline.errors import PipelineError, ServiceError, UnfinishedError
from pipeline.gemini import verdicts, wire
from pipeline.journal.batches import PREFIX
from pipeline.reconcile import attach, collect, room, turns
from pipeline.reconcile.pace import Pace

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from pipeline.journal import Batch, Record, Upload
    from pipeline.reconcile.run import Run, Work
    from pipeline.unpack import Unpacking

_AT_ONCE = 4
_GRACE_S = 30.0
"""How long what is being drawn is waited for when the call ends early: it is paid for."""
_MOST_INLINE = 1_000_000
"""Bytes of a reference image that goes along: 14 of them fit into the 20 MB that one call may have."""
_CUT = "the call was cut before its answer was here, and may have been billed"
_ASK_ONCE_MORE = "`pipeline retry --only held` asks once more"


@dataclass(frozen=True, slots=True)
class Arrived:
    """A request that has its outcome."""

    told: dict[str, Any]
    """Its record; one that is kept nowhere else names files below `proof/`."""
    contents: dict[str, bytes] | None
    """Of these files, by path; `None` where the job has them among its results."""
    seconds: float | None = None
    """How long it took; `None` for an answer that was here."""


def settle(run: Run, work: Work) -> int:
    """Take in what a killed process had asked for one by one; returns how many requests that were.

    What had arrived gets its outcome. The rest is `missing`: it may have been drawn, and billed.
    """
    left = work.journal.batches.of(work.job.name, work.service, "intent", "fetched", lane="interactive")
    for batch in left:
        is_here = batch.state == "fetched" or Folder(run.state).status(batch.answers_name) is not None
        _taken(run, work, _fetched(run, work, batch) if batch.state == "intent" and is_here else batch, _CUT)
    return len(left)


def shown(run: Run, work: Work, fingerprint: str) -> Batch | None:
    """The call of an earlier proof whose answer for an ask is here, and which nobody has kept."""
    batch = work.journal.batches.shown(work.job.name, work.service, fingerprint)
    status = Folder(run.state).status(str(batch.answers_path)) if batch is not None else None
    return batch if batch is not None and status is not None and status.st_size == batch.result_bytes else None


def look(run: Run, work: Work, record: Record, batch: Batch) -> Arrived:
    """What an earlier proof brought for a request, out of its answer, which is here."""
    with work.journal.transaction():
        work.journal.batches.rekey(batch, record.key)
    unpacking = collect.unpacking_of(run, work, batch)
    with Folder(run.state).opened(str(batch.answers_path)) as stream:
        unpacking.read(stream)
    return _seen(work, batch, unpacking, "its answer, which was here, cannot be read any more")


def keep(run: Run, work: Work, record: Record, batch: Batch) -> Arrived:
    """Make the answer of an earlier proof the result of a request that waits to be sent."""
    with work.journal.transaction():
        batch = work.journal.batches.keep(batch, record.key)
        work.journal.records.send(batch, [record])
        work.journal.records.sent(batch)
        work.journal.note(work.job.name, "kept", key=record.key, batch=batch.name)
    return _taken(run, work, batch, _CUT)


def ask(
    run: Run,
    work: Work,
    records: Iterable[Record],
    arrived: Callable[[Arrived], None],
    *,
    keeps: bool,
    patience_s: float,
) -> None:
    """Ask for these requests now; `arrived` is called with each as soon as it has its outcome.

    With `keeps` their records wait to be sent, and get the outcomes. Raises `UnfinishedError` when the service cannot
    be reached, or wants fewer calls for longer than `patience_s`; `ServiceError` when a person must act. What is on
    its way then is waited for, for a while, and kept.
    """
    waiting = list(records)
    room.check_disk(run, work, sum(row.answer_bytes for row in waiting))
    uploads = attach.attached(run, work, waiting, most_inline=_MOST_INLINE)
    _Calls(run, work, uploads, arrived, keeps=keeps, pace=Pace(run.clock, patience_s)).make(waiting)


@dataclass(slots=True)
class _Call:
    """A request, and the batch that it is in the journal once it was sent."""

    record: Record
    batch: Batch | None = None
    line: bytes = b""
    started: float = 0.0


class _Calls:
    """The calls of one proof: those on their way, and those that wait."""

    def __init__(
        self, run: Run, work: Work, uploads: Mapping[str, Upload], arrived: Callable[[Arrived], None], *, keeps: bool,
        pace: Pace,
    ) -> None:  # fmt: skip
        self._run, self._work, self._uploads, self._arrived = run, work, uploads, arrived
        self._keeps, self._pace = keeps, pace
        self._waiting: deque[_Call] = deque()
        self._working: dict[Future[verdicts.Reply], _Call] = {}
        self._pool = ThreadPoolExecutor(_AT_ONCE, "proof")

    def make(self, records: Iterable[Record]) -> None:
        self._waiting.extend(map(_Call, records))
        try:
            while self._waiting or self._working:
                self._start()
                for future in self._ended():
                    if trouble := self._judged(future):
                        raise trouble
        finally:
            self._pool.shutdown(wait=False)
            self._drain()

    def _start(self) -> None:
        while self._waiting and len(self._working) < _AT_ONCE and not self._pace.left_s:
            with self._run.shielded():
                call = self._waiting.popleft()
                call.batch = self._intended(call)
                call.started = self._run.clock.time()
                self._working[self._pool.submit(self._run.api.generate, call.record.model_id, call.line)] = call

    def _ended(self) -> set[Future[verdicts.Reply]]:
        """The calls that came back, once there are any; none when it is time to start another."""
        left_s = self._pace.left_s
        if not self._working:
            self._run.clock.sleep(left_s)
            return set()
        is_held_back = self._waiting and left_s and len(self._working) < _AT_ONCE
        return wait(self._working, left_s if is_held_back else None, FIRST_COMPLETED).done

    def _drain(self) -> None:
        """Take in what is still on its way, as far as it comes soon, and let go of what was never answered for."""
        if self._working:
            self._run.tell("drawing", job=self._work.job.name, count=len(self._working))
        for future in wait(self._working, _GRACE_S).done:
            with contextlib.suppress(PipelineError):
                self._judged(future)
        for call in self._waiting:
            if call.batch is not None:
                self._release(call.batch, "the service wanted fewer calls")

    # ------------------------------------------------------------------------------------- one call

    def _intended(self, call: _Call) -> Batch:
        """Write down, durably, that a request is about to be sent."""
        if call.batch is not None:  # the service has refused it so far
            with self._work.journal.transaction():
                return self._work.journal.batches.change(call.batch, state="intent", note=None)
        run, work, record, job = self._run, self._work, call.record, self._work.job
        model = run.models.find(record.model_id)
        told, before = json.loads(record.line), turns.earlier(work, record, proofs=not self._keeps)
        call.line = batchfile.line(job, told, record.wire_key, model, self._uploads, before)
        chunk = hashlib.sha256(call.line).hexdigest()[:24]
        attempt = work.journal.batches.attempts(job.name, chunk) + 1
        name = f"requests/{job.name}/{chunk}-{attempt}.jsonl"
        with Folder(run.state).replacing(name) as stream:
            stream.write(call.line)
        now = run.clock.time()
        with work.journal.transaction():
            batch = work.journal.batches.add(
                job=job.name, service=run.service, model_id=record.model_id, requests=1, requests_path=name,
                name=f"{PREFIX}/{work.journal.workspace}/{job.name}/{chunk}-{attempt}-{uuid.uuid4().hex[:8]}",
                chunk=chunk, attempt=attempt, answer_bytes=record.answer_bytes, cost=record.cost or 0, state="intent",
                lane="interactive", planned_at=now, intent_at=now, created_at=now, input_bytes=len(call.line),
            )  # fmt: skip
            number = record.attempts + 1 if self._keeps else record.attempts
            work.journal.batches.ask(batch, [(record.wire_key, record.key, record.fingerprint, number)])
            if self._keeps:
                work.journal.records.send(batch, [record])
                work.journal.records.sent(batch)
        return batch

    def _judged(self, future: Future[verdicts.Reply]) -> PipelineError | None:
        """Write down what became of a call; returns what keeps the others from being made."""
        call = self._working.pop(future)
        batch, reply = call.batch, future.result()
        assert batch is not None, "it was sent"
        with self._run.shielded():
            match reply:
                case verdicts.Answered(body):
                    self._came(call, batch, wire.answer_line(call.record.wire_key, body))
                case verdicts.Failed(code, reason):
                    self._came(call, batch, wire.error_line(call.record.wire_key, code, reason))
                case verdicts.Unknown(reason):
                    self._took(call, batch, f"{reason}: the answer never came, and it may have been billed")
                case verdicts.Rejected(kind="rate", reason=reason, retry_after_s=after_s):
                    return self._put_back(call, batch, reason, after_s)
                case verdicts.Rejected(reason=reason):
                    self._release(batch, reason)
                    hint = "check the API key, its project and billing; then run again: nothing is lost"
                    return ServiceError(reason, hint=hint)
                case verdicts.NotSent(reason):
                    self._release(batch, reason)
                    hint = "check the network, then run again; nothing was sent"
                    return UnfinishedError(f"cannot reach {self._run.api.base_url}: {reason}", hint=hint)
        return None

    def _came(self, call: _Call, batch: Batch, line: bytes) -> None:
        self._pace.go_on()
        with Folder(self._run.state).replacing(batch.answers_name) as stream:
            stream.write(line)
        self._took(call, _fetched(self._run, self._work, batch), _CUT)

    def _took(self, call: _Call, batch: Batch, reason: str) -> None:
        seconds = self._run.clock.time() - call.started
        self._arrived(replace(_taken(self._run, self._work, batch, reason), seconds=seconds))

    def _put_back(self, call: _Call, batch: Batch, reason: str, after_s: float | None) -> UnfinishedError | None:
        with self._work.journal.transaction():
            call.batch = self._work.journal.batches.change(batch, state="planned", note=reason)
        self._waiting.appendleft(call)
        self._pace.slow_down(after_s)
        if self._pace.is_over:
            return UnfinishedError(
                f"the service wants fewer calls: {reason}",
                hint="run the same command again later: what has arrived is kept, and not asked for again",
            )
        self._run.tell("slower", job=batch.job, why=reason, wait_s=self._pace.left_s)
        return None

    def _release(self, batch: Batch, reason: str) -> None:
        """The service has definitely not answered it: nothing was bought, and it can be sent again."""
        with self._work.journal.transaction():
            self._work.journal.batches.release(batch, "rejected", note=reason)


def _fetched(run: Run, work: Work, batch: Batch) -> Batch:
    """Note that the answer of a call is on our disk."""
    name = batch.answers_name
    status = Folder(run.state).status(name)
    size = status.st_size if status else 0
    with work.journal.transaction():
        return work.journal.batches.change(
            batch, state="fetched", answers_path=name, ended_at=run.clock.time(), result_bytes=size
        )


def _taken(run: Run, work: Work, batch: Batch, reason: str) -> Arrived:
    """Give the request of a call its outcome: out of its answer, or, where there is none, `missing` for this reason."""
    unpacking = collect.unpacking_of(run, work, batch)
    if batch.answers_path is not None and Folder(run.state).status(batch.answers_path) is not None:
        with Folder(run.state).opened(batch.answers_path) as stream:
            unpacking.read(stream)
    # After a batch that expired nothing may be bought twice by itself: a person decides.
    [(key, fingerprint, _attempt, _status)] = work.journal.batches.asked(batch).values()
    known = work.journal.records.get(batch.job, key, fingerprint)
    if known is not None and known.batch == batch.id and known.expiries:
        unpacking.close(status="held", reason=f"{reason}: {_ASK_ONCE_MORE}", transient=False)
    else:
        unpacking.close(status="missing", reason=reason, transient=False)
    collect.check_pixels(run, work)
    return _seen(work, batch, unpacking, reason)


def _seen(work: Work, batch: Batch, unpacking: Unpacking, reason: str) -> Arrived:
    """What there is to be seen of a call that was unpacked."""
    if unpacking.proofs:
        [*_others, proof] = unpacking.proofs
        return Arrived(proof.told, {piece.path: piece.content.read() for piece in proof.files})
    [(key, fingerprint, _attempt, status)] = work.journal.batches.asked(batch).values()
    known = work.journal.records.get(batch.job, key, fingerprint)
    if known is not None and known.batch == batch.id:
        return Arrived(json.loads(known.line), None)
    draft = work.journal.wanted.draft(batch.job, batch.service, key, fingerprint)
    told = json.loads(draft.line) if draft else {"key": key, "files": []}
    return Arrived({**told, "lane": batch.lane, "status": status, "reason": reason}, {})
