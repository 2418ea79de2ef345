"""One idempotent pass, and the loop around it: adopt → poll → collect → ask again → send.

Whatever state a killed run left, the same pass goes on from there. The order inside a create is the promise never
to pay twice: the batch is in the journal, durably, before its one POST; what has an unknown fate is looked for at
the service before its requests may be sent again.
"""

from __future__ import annotations

import contextlib
import datetime
import json
import shutil
import uuid
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from pipeline import batchfile, plan, record, unpack
from pipeline.durable import Folder
from pipeline.errors import LocalError, PipelineError, ServiceError, UnfinishedError
from pipeline.gemini import api as gemini
from pipeline.journal.batches import LIVE
from pipeline.outputs import write_manifest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager
    from datetime import date
    from pathlib import Path

    from pipeline.gemini.models import Models
    from pipeline.gemini.wire import Operation
    from pipeline.job.language import Job
    from pipeline.journal import Batch, Journal, Record
    from pipeline.outputs import Tree
    from pipeline.pixels import PixelChecks

_PREFIX = "pipeline"
_ROOM = 2.4  # an answer, its images, and some air, in multiples of the expected answer
_YOUNG_S = 72 * 3600.0
_FAILING_PASSES = 5
_RATE_PAUSE_S = 5.0
_LONGEST_RATE_PAUSE_S = 3600.0
_STATUS_OF = {"FAILED": "failed", "CANCELLED": "cancelled", "EXPIRED": "expired"}


class Clock(Protocol):
    """The part of the `time` module a run uses, so that a test can live a day in a millisecond."""

    def time(self) -> float: ...
    def sleep(self, seconds: float, /) -> None: ...


@dataclass(slots=True)
class Run:
    """What a run works with."""

    api: gemini.Api
    models: Models
    service: str
    state: Path
    clock: Clock
    today: date
    concurrent: int
    settle_s: float
    tell: Callable[..., None]
    """Called with a word and details whenever something happened."""
    shielded: Callable[[], AbstractContextManager[object]]
    """A block that a signal must not cut; the signal is heard at its end."""
    pixels: PixelChecks | None = None
    not_before: float = 0.0
    """No create before this time: the service wants fewer of them."""
    creates_stopped: str = ""
    rate_pause_s: float = 0.0

    @property
    def patience_s(self) -> float:
        """How long an answer that makes no sense is asked for again before a person must look: an hour by default."""
        return self.settle_s * 4


@dataclass(slots=True)
class Work:
    """One job in a run."""

    job: Job
    journal: Journal
    """Each job has a connection of its own, and with it what it wants."""
    tree: Tree
    state: Path
    budget: int | None
    """Millionths of a USD that this call may still commit for the job; `None` for no limit."""
    sends: bool = True
    skipped: int = 0
    problems: list[PipelineError] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Progress:
    """Where a job stands after a pass."""

    counts: dict[str, int]
    to_send: int
    live: int
    held: int

    @property
    def is_finished(self) -> bool:
        return not (self.to_send or self.live)


def reconcile(run: Run, work: Work) -> Progress:
    """Make one pass over a job. Raises what stops the whole run: `ServiceError`, `LocalError`, `UnfinishedError`."""
    run.creates_stopped = ""
    _census(run, work)
    _settle_uncertain(run, work)
    for batch in work.journal.batches.of(work.job.name, "live"):
        _poll(run, work, batch)
    for batch in work.journal.batches.of(work.job.name, "ended"):
        _fetch(run, work, batch)
    for batch in work.journal.batches.of(work.job.name, "fetched"):
        _unpack(run, work, batch)
    if work.sends:
        _ask_again(run, work)
        _send_open(run, work)
    return progress(work.journal, work.job.name)


def progress(journal: Journal, job: str) -> Progress:
    """Where a job stands, by the journal alone."""
    return Progress(
        counts=journal.records.counts(job),
        to_send=journal.records.waiting(job),
        live=len(journal.batches.of(job, *LIVE, "ended", "fetched")),
        held=len(journal.batches.of(job, "held")),
    )


def finish(work: Work) -> bool:
    """Publish the output manifest; returns whether it changed. Call it once a command is done with a job."""
    return write_manifest(work.journal, work.tree)


# ------------------------------------------------------------------- adopt: what the service has of ours


def _census(run: Run, work: Work) -> None:
    """With a journal that never asked: take over the batches at the service that it does not know.

    This is how a deleted journal, or a second machine on the same folder, pays for nothing again.
    """
    journal, job = work.journal, work.job.name
    with journal.transaction():
        _published, census_at = journal.job(job, str(work.job.path))
    if census_at is not None:
        return
    prefix = f"{_PREFIX}/{journal.workspace}/{job}/"
    found = [op for op in run.api.batches() if op.display_name.startswith(prefix)]
    settled, pending = _mentioned(journal, job)
    with journal.transaction():
        for op in reversed(found):
            if journal.batches.named(op.display_name) or journal.batches.remote(op.name):
                continue
            if op.name not in pending and (op.name in settled or not _is_young(run, op)):
                continue
            _adopt_stranger(run, work, op)
        journal.set_census(job, run.clock.time())


def _mentioned(journal: Journal, job: str) -> tuple[set[str], set[str]]:
    """Names of batches in records: those that only settled ones mention, and those that pending ones do."""
    settled, pending = set(), set()
    for page in journal.records.pages(job):
        for row in page:
            if name := json.loads(row.line).get("batch"):
                (pending if row.status == "pending" else settled).add(name)
    return settled - pending, pending


def _is_young(run: Run, op: Operation) -> bool:
    try:
        made = datetime.datetime.fromisoformat(op.created_at[:19] + "+00:00").timestamp()
    except ValueError:
        return True
    return run.clock.time() - made < _YOUNG_S


def _adopt_stranger(run: Run, work: Work, op: Operation) -> None:
    chunk, _, attempt = op.display_name.split("/")[3].partition("-")
    work.journal.batches.add(
        job=work.job.name,
        service=run.service,
        model_id="",
        name=op.display_name,
        chunk=chunk,
        attempt=work.journal.batches.attempts(work.job.name, chunk) + 1 if attempt else 1,
        requests=0,
        answer_bytes=0,
        cost=0,
        state="live",
        remote=op.name,
        planned_at=run.clock.time(),
        created_at=run.clock.time(),
    )
    work.journal.note(work.job.name, "adopted", batch=op.display_name, remote=op.name)
    run.tell("adopted", job=work.job.name, remote=op.name)


def _settle_uncertain(run: Run, work: Work) -> None:
    """Find out what became of creates of unknown fate: adopt, or believe after a while that there was none."""
    uncertain = work.journal.batches.of(work.job.name, "intent")
    if not uncertain:
        return
    listing = list(run.api.batches())
    for batch in uncertain:
        matches = _matches(listing, batch)
        if matches:
            _adopt(run, work, batch, matches)
        elif batch.absent_at is None:
            with work.journal.transaction():
                work.journal.batches.change(batch, absent_at=run.clock.time())
            run.tell("uncertain", job=work.job.name, batch=batch.name, wait_s=run.settle_s)
        elif run.clock.time() - batch.absent_at >= run.settle_s:
            _believe_lost(run, work, batch)


def _matches(listing: list[Operation], batch: Batch) -> list[Operation]:
    return [
        op
        for op in listing
        if op.display_name == batch.name or (batch.input_file and op.input_file == batch.input_file)
    ]


def _adopt(run: Run, work: Work, batch: Batch, matches: list[Operation]) -> None:
    first, *others = sorted(matches, key=lambda op: (op.created_at, op.name))
    with work.journal.transaction():
        _now_live(run, work, batch, first.name)
        work.journal.note(work.job.name, "adopted", batch=batch.name, remote=first.name, also=[op.name for op in others])
    run.tell("adopted", job=work.job.name, remote=first.name)
    for other in others:  # one POST can make two jobs; the journal knows it by now
        if not other.ended:
            run.api.cancel(other.name)
        run.tell("doubled", job=work.job.name, remote=other.name)


def _now_live(run: Run, work: Work, batch: Batch, remote: str) -> None:
    batch = work.journal.batches.change(batch, state="live", remote=remote, created_at=run.clock.time(), absent_at=None)
    work.journal.records.sent(batch)


def _believe_lost(run: Run, work: Work, batch: Batch) -> None:
    # The fence: without its input file, a create that is still on its way somewhere cannot run.
    if batch.input_file:
        run.api.delete_file(batch.input_file)
    matches = _matches(list(run.api.batches()), batch)
    if matches:
        _adopt(run, work, batch, matches)
        return
    with work.journal.transaction():
        work.journal.batches.release(batch, "lost", note="the service never had it")
        work.journal.note(work.job.name, "lost", batch=batch.name)
    run.tell("lost", job=work.job.name, batch=batch.name)


# --------------------------------------------------------------------------------------- poll and collect


def _poll(run: Run, work: Work, batch: Batch) -> None:
    assert batch.remote is not None, "a live batch has a name at the service"
    op = run.api.batch(batch.remote)
    now = run.clock.time()
    if op is None or (op.ended and op.state == "SUCCEEDED" and op.result_file is None):
        _doubt(run, work, batch, "the service does not know it" if op is None else "it succeeded without an answer")
        return
    changes: dict[str, Any] = {}
    if op.state != batch.remote_state:
        changes["remote_state"] = op.state
    if batch.trouble_at is not None:
        changes["trouble_at"] = None
    if op.ended:
        changes |= {"state": "ended", "result_file": op.result_file, "ended_at": now}
        if op.error_code is not None or op.error:
            changes["note"] = f"code {op.error_code}: {op.error}"
    if changes:
        with work.journal.transaction():
            work.journal.batches.change(batch, **changes)
    if op.ended:
        run.not_before = 0.0  # a slot is free: the next create may go through, whatever the last one was told
        run.tell("ended", job=work.job.name, remote=batch.remote, state=op.state, age_s=_age(run, batch))
    elif _age(run, batch) > work.job.batch.deadline_s:
        run.tell("stuck", job=work.job.name, remote=batch.remote, state=op.state, age_s=_age(run, batch))


def _age(run: Run, batch: Batch) -> float:
    return max(0.0, run.clock.time() - (batch.created_at or batch.planned_at))


def _doubt(run: Run, work: Work, batch: Batch, why: str) -> None:
    """An answer that makes no sense is asked for again for a while; then a person must look, and nothing is sent."""
    now = run.clock.time()
    if batch.trouble_at is None:
        with work.journal.transaction():
            work.journal.batches.change(batch, trouble_at=now)
    elif now - batch.trouble_at >= run.patience_s:
        with work.journal.transaction():
            work.journal.batches.change(batch, state="held", note=why)
            _hold(work, batch, why)
        run.tell("held", job=work.job.name, remote=batch.remote, why=why)


def _hold(work: Work, batch: Batch, why: str) -> None:
    reason = f"{batch.remote}: {why}; look at it in AI Studio, then `pipeline retry --only held` buys it again"
    for key, fingerprint, _attempt, status in work.journal.batches.asked(batch).values():
        known = work.journal.records.get(batch.job, key, fingerprint)
        if status is None and known is not None and known.status == "pending":
            told = {**json.loads(known.line), "status": "held", "reason": reason}
            work.journal.records.change(known, status="held", line=record.dumps(told))


def _fetch(run: Run, work: Work, batch: Batch) -> None:
    """Bring a batch's answer onto our disk, whole."""
    if batch.result_file is None:
        with work.journal.transaction():
            work.journal.batches.change(batch, state="fetched", answers_path=None)
        return
    folder = Folder(run.state)
    name = f"answers/{work.job.name}/{batch.chunk}-{batch.attempt}.jsonl"
    try:
        with folder.replacing(name) as stream:
            announced = run.api.download(batch.result_file, stream.write)
            if announced is not None and stream.tell() != announced:
                raise UnfinishedError(
                    f"the answer of {batch.remote} was cut: {stream.tell()} of {announced} bytes",
                    hint="run again: it is fetched once more; nothing is lost",
                )
    except gemini.GoneError as error:
        _late_answer(run, work, batch, str(error))
        return
    with work.journal.transaction():
        batch = work.journal.batches.change(
            batch, state="fetched", answers_path=name, fetches=batch.fetches + 1, trouble_at=None
        )
    run.tell("fetched", job=work.job.name, remote=batch.remote)


def _late_answer(run: Run, work: Work, batch: Batch, why: str) -> None:
    """The answer can be a little late; after a while it is gone."""
    now = run.clock.time()
    if batch.trouble_at is None or now - batch.trouble_at < run.patience_s:
        with work.journal.transaction():
            work.journal.batches.change(batch, trouble_at=batch.trouble_at or now)
        run.tell("late", job=work.job.name, remote=batch.remote, why=why)
        return
    with work.journal.transaction():
        work.journal.batches.change(batch, state="fetched", answers_path=None, note=f"answer gone: {why}")


def _unpack(run: Run, work: Work, batch: Batch) -> None:
    unpacking = unpack.Unpacking(
        work.journal,
        work.tree,
        batch,
        models=run.models,
        checks=work.job.checks,
        today=run.today,
        now=run.clock.time,
        pixels=run.pixels if work.job.checks.decode else None,
    )
    tally = unpack.Tally()
    if batch.answers_path is not None:
        with Folder(run.state).opened(batch.answers_path) as stream:
            tally = unpacking.read(stream)
        if tally.without_answer and batch.fetches < 2:
            # A body that was cut on a line's end looks whole: it is fetched from the start once more.
            with work.journal.transaction():
                batch = work.journal.batches.change(batch, state="ended")
            _fetch(run, work, batch)
            return
    _pixels(run, work, wait=True)
    status, reason, transient = _fate(batch)
    unpacking.close(status=status, reason=reason, transient=transient)
    run.tell("unpacked", job=work.job.name, remote=batch.remote, tally=unpacking.tally)


def _fate(batch: Batch) -> tuple[str, str, bool]:
    """Status, reason and transience for requests of a batch that got no answer of their own."""
    state = batch.remote_state or ""
    status = _STATUS_OF.get(state, "missing")
    if batch.answers_path is None and status == "missing":
        return "missing", batch.note or "the service has no answer for this batch any more", False
    code = (batch.note or "").removeprefix("code ").partition(":")[0]
    transient = status == "failed" and code in {"4", "8", "10", "13", "14"}
    return status, batch.note or f"the batch ended as {state or 'nothing known'} without an answer for it", transient


def _pixels(run: Run, work: Work, *, wait: bool) -> None:
    if run.pixels is None:
        return
    for token, problem in run.pixels.drain() if wait else run.pixels.finished():
        unpack.mark_checked(work.journal, work.job.name, token, problem)


# ------------------------------------------------------------------------------------------ ask again, send


def _ask_again(run: Run, work: Work) -> None:
    """Open what failed and may be asked again by itself."""
    job = work.job
    words = ", ".join(f"'{word}'" for word in sorted(job.retry.on) if word.isidentifier())
    condition = f"wanted AND place = 'tree' AND status IN ({words or 'NULL'})"
    for page in work.journal.records.pages(job.name, condition):
        with work.journal.transaction():
            for row in page:
                if plan.may_retry(job, row.status, row):
                    told = {**json.loads(row.line), "status": "pending", "reason": None}
                    work.journal.records.change(row, status="pending", batch=None, line=record.dumps(told))
                elif row.status == "expired" and row.expiries > 1:
                    told = {**json.loads(row.line), "status": "held", "reason": _EXPIRED_TWICE}
                    work.journal.records.change(row, status="held", line=record.dumps(told))


_EXPIRED_TWICE = "its batch expired twice: `pipeline retry --only held` asks once more"


def _send_open(run: Run, work: Work) -> None:
    """Send what is open, batch by batch, while there are slots, money and room."""
    if any(batch.requests_path is None for batch in work.journal.batches.of(work.job.name, *LIVE, "ended", "fetched")):
        return  # a batch was adopted whose requests are not known: they might be the very ones that are open
    for batch in work.journal.batches.of(work.job.name, "planned"):
        if run.creates_stopped:
            return
        if _is_still_wanted(run, work, batch):
            _send(run, work, batch)
    while not run.creates_stopped:
        if run.clock.time() < run.not_before:
            run.creates_stopped = "the service asked for fewer batches"
        elif work.journal.batches.live(run.service) >= run.concurrent:
            run.creates_stopped = "all batch slots are taken"
        else:
            batch = _next(run, work)
            if batch is None:
                return
            _send(run, work, batch)


def _is_still_wanted(run: Run, work: Work, batch: Batch) -> bool:
    """Whether a batch that was never sent is still what the job wants; if not, it is given up."""
    asked = work.journal.batches.asked(batch).values()
    there = batch.requests_path and Folder(run.state).status(batch.requests_path)
    if there and all(work.journal.wanted.has(key, fingerprint) for key, fingerprint, _attempt, _status in asked):
        return True
    with work.journal.transaction():
        work.journal.batches.release(batch, "lost", note="no longer wanted before it was sent")
    return False


def _next(run: Run, work: Work) -> Batch | None:
    """Take the next open requests into a batch: write its file, then its row; `None` when nothing can be sent."""
    job, journal = work.job, work.journal
    for model_id in journal.records.models_to_send(job.name):
        records = _affordable(work, journal.records.to_send(job.name, model_id, job.batch.max_requests))
        if not records:
            continue
        folder = Folder(run.state)
        draft = f"requests/{job.name}/{uuid.uuid4().hex}.jsonl"
        made, taken = batchfile.write(folder, draft, job, records, run.models)
        _check_room(run, taken)
        attempt = journal.batches.attempts(job.name, made.chunk) + 1
        name = f"requests/{job.name}/{made.chunk}-{attempt}.jsonl"
        folder.move(draft, folder, name)
        cost = sum(row.cost or 0 for row in taken)
        with journal.transaction():
            if journal.batches.live(run.service) >= run.concurrent:  # another job was faster
                run.creates_stopped = "all batch slots are taken"
                return None
            batch = journal.batches.add(
                job=job.name, service=run.service, model_id=model_id, requests=made.requests, requests_path=name,
                name=f"{_PREFIX}/{journal.workspace}/{job.name}/{made.chunk}-{attempt}-{uuid.uuid4().hex[:8]}",
                chunk=made.chunk, attempt=attempt, cost=cost, state="planned", planned_at=run.clock.time(),
                answer_bytes=sum(row.answer_bytes for row in taken),
            )  # fmt: skip
            journal.batches.ask(batch, ((r.wire_key, r.key, r.fingerprint, r.attempts + 1) for r in taken))
            journal.records.send(batch, taken)
        if work.budget is not None:
            work.budget -= cost
        return batch
    return None


def _affordable(work: Work, records: list[Record]) -> list[Record]:
    """As many of these as the budget of this call still covers; the rest is skipped."""
    if work.budget is None:
        return records
    left, fits = work.budget, []
    for row in records:
        left -= row.cost or 0
        if left < 0 or row.cost is None:
            break
        fits.append(row)
    beyond = records[len(fits) :]
    if beyond and not fits:
        reason = "over the budget of this call: raise `budget` or --max-cost, then run again"
        with work.journal.transaction():
            for row in beyond:
                told = {**json.loads(row.line), "status": "skipped", "reason": reason}
                work.journal.records.change(row, status="skipped", line=record.dumps(told))
        work.skipped += len(beyond)
    return fits


def _check_room(run: Run, taken: list[Record]) -> None:
    needed = int(sum(row.answer_bytes for row in taken) * _ROOM)
    free = shutil.disk_usage(run.state).free
    if free < needed:
        raise LocalError(
            f"the disk has {free >> 20} MiB free, and the answer of the next batch needs about {needed >> 20} MiB",
            hint="make room, then run again; nothing was sent for it",
        )


def _send(run: Run, work: Work, batch: Batch) -> None:
    """Upload a planned batch's file and create the batch: intent first, one POST, then the verdict."""
    journal = work.journal
    name = f"pl-{batch.chunk}-a{batch.attempt}"
    run.api.upload(Folder(run.state).path / str(batch.requests_path), name)
    with run.shielded():
        with journal.transaction():
            batch = journal.batches.change(
                batch, state="intent", input_file=f"files/{name}", intent_at=run.clock.time(), absent_at=None
            )
        verdict = run.api.create(batch.model_id, f"files/{name}", batch.name)
        _judge(run, work, batch, verdict)


def _judge(run: Run, work: Work, batch: Batch, verdict: gemini.Verdict) -> None:
    journal, job = work.journal, work.job.name
    with journal.transaction():
        journal.note(job, "create", batch=batch.name, verdict=repr(verdict))
        match verdict:
            case gemini.Accepted(op):
                _now_live(run, work, batch, op.name)
            case gemini.NotSent(reason):
                journal.batches.change(batch, state="planned", note=reason)
            case gemini.Rejected(kind="bad", reason=reason):
                _refuse(work, batch, reason)
            case gemini.Rejected(reason=reason):
                journal.batches.change(batch, state="planned", note=reason)
            case gemini.Unknown(reason):
                journal.batches.change(batch, note=reason)
    match verdict:
        case gemini.Accepted(op):
            run.rate_pause_s = 0.0
            run.tell("sent", job=job, remote=op.name, requests=batch.requests, model=batch.model_id)
        case gemini.NotSent(reason):
            raise UnfinishedError(f"cannot reach {run.api.base_url}: {reason}", hint="run again; nothing was sent")
        case gemini.Rejected(kind="rate", reason=reason, retry_after_s=wait):
            run.rate_pause_s = min(max(run.rate_pause_s * 2, _RATE_PAUSE_S), _LONGEST_RATE_PAUSE_S)
            run.not_before = run.clock.time() + max(wait or 0.0, run.rate_pause_s)
            run.creates_stopped = f"rate limit: {reason}"
            run.tell("rate", job=job, why=reason)
        case gemini.Rejected(kind="key", reason=reason):
            raise ServiceError(reason, hint="check the API key, its project and billing; then run again: nothing is lost")
        case gemini.Rejected(kind="file"):
            run.creates_stopped = "the service lost an uploaded file"
        case gemini.Rejected(reason=reason):
            raise ServiceError(f"the service refused a batch: {reason}", hint="nothing was bought; mend it, then run again")
        case gemini.Unknown(reason):
            run.creates_stopped = f"a create has an unknown fate: {reason}"
            run.tell("unknown", job=job, why=reason)


def _refuse(work: Work, batch: Batch, reason: str) -> None:
    """The service did not take a batch and never will: its requests stay open for when the cause is mended."""
    work.journal.batches.release(batch, "rejected", note=reason)


# ------------------------------------------------------------------------------------------------ the loop


def passes(run: Run, works: list[Work], *, wait_s: float, poll_s: float) -> Iterator[list[Progress]]:
    """Reconcile jobs until nothing of them is open or the wait is over; yields where they stand after each pass.

    Trouble with the network costs time only; after five failing passes in a row it is raised.
    """
    end, pause, failing = run.clock.time() + wait_s, poll_s, 0
    before: list[Progress] = []
    while True:
        try:
            now = [reconcile(run, work) for work in works]
            failing = 0
        except UnfinishedError as error:
            failing += 1
            if failing >= _FAILING_PASSES or run.clock.time() >= end:
                raise
            run.tell("trouble", why=str(error))
            now = [progress(work.journal, work.job.name) for work in works]
        yield now
        if all(step.is_finished for step in now) and not failing:
            return
        if run.clock.time() >= end:
            return
        # News make the next look come soon; silence makes it come later, up to ten times the first pause.
        pause = poll_s if now != before else min(pause * 1.5, poll_s * 10)
        before = now
        run.clock.sleep(max(0.0, min(pause, end - run.clock.time())))


def apply(work: Work, service: str) -> None:
    """Make the journal want what the plan found: move what moved, bring back what is free, open what is bought."""
    _move(work)
    with work.journal.transaction():
        work.journal.records.want(work.job.name, service)


def _move(work: Work) -> None:
    journal, tree, job = work.journal, work.tree, work.job.name
    moves = journal.wanted.moves()
    # All that changes its name leaves first, so that two can swap; both halves can be repeated after a crash.
    for key, fingerprint, old_key in moves:
        known = journal.records.get(job, old_key, fingerprint)
        if known is None:
            continue
        told = json.loads(known.line)
        wanted_path = journal.wanted.path_of(key, fingerprint)
        with journal.transaction():
            if known.place == "tree" and known.status in record.HAS_IMAGE and known.path != wanted_path:
                tree.retire(told)
                journal.records.change(known, place="retired")
            if key != old_key:
                new = json.loads(journal.wanted.line_of(key, fingerprint))
                line = record.dumps(record.renamed(told, new))
                wire_key = record.wire_key(key, fingerprint)
                journal.records.rekey(known, key=key, wire_key=wire_key, path=known.path, line=line)
    for key, fingerprint, _old_key in moves:
        _bring(work, key, fingerprint)


def _bring(work: Work, key: str, fingerprint: str) -> None:
    journal, job = work.journal, work.job.name
    known = journal.records.get(job, key, fingerprint)
    if known is None or known.status not in record.HAS_IMAGE:
        return
    base = journal.wanted.path_of(key, fingerprint) or known.path
    told = json.loads(known.line)

    def kept() -> dict[str, bytes]:
        found = journal.batches.answer_of(job, fingerprint)
        if found is None:
            return {}
        batch, _wire_key, offset, size = found
        return unpack.kept(work.state / str(batch.answers_path), offset, size)

    with journal.transaction():
        for other in journal.records.displaced(job, key, fingerprint, base):
            work.tree.retire(json.loads(other.line))
            journal.records.change(other, place="retired", wanted=0)
        placed = work.tree.bring(told, base, kept)
        if placed is None:
            # It was there when the plan was made: nothing is bought that the plan did not show.
            reason = f"its image could not be put at {base}: `pipeline retry --only held` buys it again"
            line = record.dumps({**told, "status": "held", "reason": reason, "files": []})
            journal.records.change(known, status="held", place="tree", line=line)
            return
        line = record.dumps({**told, "files": placed})
        journal.records.change(known, place="tree", path=base, line=line)


@contextlib.contextmanager
def unshielded() -> Iterator[None]:
    """A shield for callers that handle no signals."""
    yield
