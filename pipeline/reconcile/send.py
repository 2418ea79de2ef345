"""From open requests to batches: request files, uploads, and the one POST that costs money."""

from __future__ import annotations

import hashlib
import json
import uuid
from typing import TYPE_CHECKING

from pipeline import batchfile, plan, record
from pipeline.durable import Folder
from pipeline.errors import LocalError, ServiceError, UnfinishedError
from pipeline.gemini import verdicts, wire
from pipeline.journal.batches import OPEN, PREFIX
from pipeline.journal.outside import IS_INSIDE
from pipeline.reconcile import adopt, ahead, attach, room, turns, uploads
from pipeline.reconcile.run import commit, give_up

if TYPE_CHECKING:
    from pipeline.journal import Batch, Record
    from pipeline.reconcile.run import Run, Work

_LEAST_INPUT_LIFE_S = 24 * 3600.0
_OVER_BUDGET = "over the budget of this call: raise `budget` or --max-cost, then run again"
_BEHIND = "the first images for its model come before it, and are over the budget: raise that, then run again"
_PAGE = 2000
_RATE_PAUSE_S = 5.0
_LONGEST_RATE_PAUSE_S = 3600.0


def ask_again(work: Work) -> None:
    """Open what failed and may be asked again by itself."""
    job = work.job
    words = ", ".join(f"'{word}'" for word in sorted(job.retry.on) if word.isidentifier())
    condition = (  # a turn that still waits for one which failed was not asked for this time
        f"wanted AND place = 'tree' AND attempts > 0 AND status IN ({words or 'NULL'}) AND waits_for IS NULL"
        f" AND {IS_INSIDE.format('record')}"
    )
    for page in work.journal.records.pages(job.name, condition):
        with work.journal.transaction():
            for row in page:
                if plan.may_retry(job, row.status, row) and not work.journal.wanted.is_left_alone(row.key):
                    _open_again(work, row)
                elif row.status == "expired" and row.expiries > 1:
                    told = {**json.loads(row.line), "status": "held", "reason": _EXPIRED_TWICE}
                    work.journal.records.change(row, status="held", line=record.dumps(told))


def _open_again(work: Work, row: Record) -> None:
    told = {**json.loads(row.line), "status": "pending", "reason": None, "batch": None}
    cost = row.cost
    if row.expiries and work.job.batch.asks_singly:
        cost = work.journal.late.cost(row.key, row.fingerprint)
    wire_key = record.wire_key(row.key, row.fingerprint)
    work.journal.records.change(
        row, status="pending", batch=None, cost=cost, wire_key=wire_key, line=record.dumps(told)
    )  # fmt: skip


_EXPIRED_TWICE = "its batch expired twice: `pipeline retry --only held` asks once more"


def send_open(run: Run, work: Work) -> None:
    """Send what is open, batch by batch, while there are slots, money and room."""
    if any(batch.requests_path is None and not batch.is_double for batch in work.batches(*OPEN)):
        return  # a batch was adopted whose requests are not known: they might be the very ones that are open
    for batch in work.batches("planned"):
        if _may_send(run) and _is_still_wanted(run, work, batch):
            _send(run, work, batch)
    while _may_send(run) and _has_slot(run, work):
        made = _next(run, work)
        if made is None:
            return
        _send(run, work, made)


def _may_send(run: Run) -> bool:
    if run.clock.time() < run.not_before <= run.clock.time() + _LONGEST_RATE_PAUSE_S:  # further off, the clock was set
        run.creates_stopped = "the service asked for fewer batches"
    return not run.creates_stopped


def _has_slot(run: Run, work: Work) -> bool:
    if work.journal.batches.live(run.service) >= run.concurrent:
        run.creates_stopped = "all batch slots are taken"
    return not run.creates_stopped


def _is_still_wanted(run: Run, work: Work, batch: Batch) -> bool:
    """Whether a batch that was never sent is still what the job wants; if not, it is given up."""
    asked = work.journal.batches.asked(batch).values()
    there = batch.requests_path and Folder(run.state).status(batch.requests_path)
    note = "no longer wanted before it was sent"
    if there and all(work.journal.wanted.has(key, fingerprint) for key, fingerprint, _attempt, _status in asked):
        rows = (work.journal.records.get(batch.job, key, fingerprint) for key, fingerprint, _attempt, _status in asked)
        if attach.lives_long_enough(run, work, (row for row in rows if row is not None)):
            return True
        note = "its reference images would not have outlived it"
    with work.journal.transaction():
        give_up(run, work, batch, "lost", note)
    return False


def _next(run: Run, work: Work) -> Batch | None:
    """Take the next open requests into a batch; `None` when there are none, or no slot any more."""
    waiting: list[str] = []
    expired = not work.job.batch.asks_singly
    while (model_id := work.journal.records.next_model(work.job.name, but=waiting, expired=expired)) is not None:
        found = [] if ahead.must_wait(run, work, model_id) else ahead.to_send(run, work, model_id)
        fits = affordable(run, work, turns.ready(work, found))
        if fits:
            return _planned(run, work, model_id, fits) if (fits := _storable(run, work, fits)) else None
        if not found:
            waiting.append(model_id)
            _skip_behind(run, work, model_id)
    return None


def _skip_behind(run: Run, work: Work, model_id: str) -> None:
    """Leave out what waits behind first requests that were left out: this call does not ask for them any more."""
    if ahead.is_over_budget(run, work, model_id):
        while rows := work.journal.records.to_send(work.job.name, model_id, _PAGE):
            skip(work, rows, _BEHIND)


def _storable(run: Run, work: Work, records: list[Record]) -> list[Record]:
    """As many of these as the service has room for: their reference images, their lines and their answers."""
    fits: list[Record] = []
    space, answers, needed = room.space_left(run, work), 0, 0
    images: dict[str, int] = {}
    for row in records:
        answers += row.answer_bytes
        images.update(attach.to_upload(run, work, row))
        needed = answers + sum(images.values())
        if needed > space:
            break
        fits.append(row)
    if not fits:
        room.is_full(run, work, needed, space)
    return fits


def _planned(run: Run, work: Work, model_id: str, records: list[Record]) -> Batch | None:
    """Write a request file with as many of these as fit, then the batch's row; from then on they are taken."""
    job, journal, folder = work.job, work.journal, Folder(run.state)
    draft = f"requests/{job.name}/{uuid.uuid4().hex}.jsonl"
    made, taken = batchfile.write(
        folder, draft, job, records, models=run.models, uploads=attach.attached(run, work, records),
        earlier=lambda row: turns.earlier(work, row),
    )  # fmt: skip
    attempt = journal.batches.attempts(job.name, made.chunk) + 1
    name = f"requests/{job.name}/{made.chunk}-{attempt}.jsonl"
    folder.move(draft, folder, name)
    cost, answers = sum(row.cost or 0 for row in taken), sum(row.answer_bytes for row in taken)
    try:
        with journal.transaction():
            if not _has_slot(run, work) or ahead.must_wait(run, work, model_id):  # another job was faster
                return None
            if room.is_full(run, work, answers + made.bytes, room.space_left(run, work)):
                return None
            room.check_disk(run, work, answers)
            batch = journal.batches.add(
                job=job.name, service=run.service, model_id=model_id, requests=made.requests, requests_path=name,
                name=f"{PREFIX}/{journal.workspace}/{job.name}/{made.chunk}-{attempt}-{uuid.uuid4().hex[:8]}",
                chunk=made.chunk, attempt=attempt, cost=cost, state="planned", planned_at=run.clock.time(),
                input_bytes=made.bytes, answer_bytes=answers,
            )  # fmt: skip
            journal.batches.ask(batch, ((r.wire_key, r.key, r.fingerprint, r.attempts + 1) for r in taken))
            journal.records.send(batch, taken)
    except LocalError:
        folder.remove(name)  # it takes of what there is too little of
        raise
    commit(run, work, cost)
    work.committed.add(batch.id)
    return batch


def affordable(run: Run, work: Work, records: list[Record], reason: str = _OVER_BUDGET) -> list[Record]:
    """As many of these as the budget of this call still covers; where that are none, they are skipped."""
    limits = [limit for limit in (work.budget, run.max_cost) if limit is not None]
    if not limits:
        return records
    left, fits = min(limits), []
    for row in records:
        left -= row.cost or 0
        if left < 0 or row.cost is None:
            break
        fits.append(row)
    if not fits:
        skip(work, records, reason)
    return fits


def skip(work: Work, records: list[Record], reason: str) -> None:
    """Leave these out for want of money; the next call asks again."""
    if not records:
        return
    with work.journal.transaction():
        for row in records:
            told = {**json.loads(row.line), "status": "skipped", "reason": reason}
            work.journal.records.change(row, status="skipped", line=record.dumps(told))
    work.skipped += len(records)


def _send(run: Run, work: Work, batch: Batch) -> None:
    """Upload a planned batch's file and create the batch: intent first, one POST, then the verdict."""
    journal = work.journal
    if room.is_full(run, work, 0 if batch.input_file else batch.input_bytes, room.space_left(run, work)):
        return  # its answer is expected already
    # One name for one batch: no other job or machine can have a batch with this input file. A run that was killed
    # before it created one may have uploaded these very bytes.
    first = journal.batches.first_unsent(batch)
    name = f"pl-{hashlib.sha256(first.name.encode()).hexdigest()[:32]}"
    path = Folder(run.state).path / str(batch.requests_path)
    digest = str(Folder(run.state).sha256(str(batch.requests_path)))
    names = (name, f"{name}-2")
    wish = uploads.Wish(path, path.name, wire.JSONL, path.stat().st_size, digest, names, _LEAST_INPUT_LIFE_S)
    name = uploads.published(run.api, wish, run.clock).name
    with run.shielded():
        with journal.transaction():
            batch = journal.batches.change(
                batch, state="intent", input_file=name, intent_at=run.clock.time(), absent_at=None
            )
        verdict = run.api.create(batch.model_id, name, batch.name)
        _judge(run, work, batch, verdict)


def _judge(run: Run, work: Work, batch: Batch, verdict: verdicts.Verdict) -> None:
    """Write a verdict down, durably, before anything follows from it."""
    journal = work.journal
    with journal.transaction():
        journal.note(batch.job, "create", batch=batch.name, verdict=repr(verdict))
        match verdict:
            case verdicts.Accepted(op):
                adopt.now_live(run, work, batch, op.name)
            case verdicts.Rejected(kind="bad", reason=reason):
                # Its requests stay open for when a person has mended the cause.
                give_up(run, work, batch, "rejected", reason)
            case verdicts.Rejected(reason=reason) | verdicts.NotSent(reason):
                journal.batches.change(batch, state="planned", note=reason)
            case verdicts.Unknown(reason):
                journal.batches.change(batch, note=reason)
    if isinstance(verdict, verdicts.Accepted):
        run.rate_pause_s = 0.0
        run.tell("sent", job=batch.job, remote=verdict.batch.name, requests=batch.requests, model=batch.model_id)
    elif isinstance(verdict, verdicts.Rejected):
        _heed(run, batch, verdict)
    elif isinstance(verdict, verdicts.NotSent):
        raise UnfinishedError(f"cannot reach {run.api.base_url}: {verdict.reason}", hint="run again; nothing was sent")
    else:
        run.creates_stopped = f"a create has an unknown fate: {verdict.reason}"
        run.tell("unknown", job=batch.job, why=verdict.reason)


def _heed(run: Run, batch: Batch, verdict: verdicts.Rejected) -> None:
    """What a refused create means for the creates that would follow."""
    match verdict.kind:
        case "rate":
            run.rate_pause_s = min(max(run.rate_pause_s * 2, _RATE_PAUSE_S), _LONGEST_RATE_PAUSE_S)
            run.not_before = run.clock.time() + max(verdict.retry_after_s or 0.0, run.rate_pause_s)
            run.creates_stopped = f"rate limit: {verdict.reason}"
            run.tell("rate", job=batch.job, why=verdict.reason)
        case "file":
            run.creates_stopped = "the service lost an uploaded file"
        case "key":
            hint = "check the API key, its project and billing; then run again: nothing is lost"
            raise ServiceError(verdict.reason, hint=hint)
        case _:
            hint = "nothing was bought; mend it, then run again"
            raise ServiceError(f"the service refused a batch: {verdict.reason}", hint=hint)
