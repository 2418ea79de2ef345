"""From batches at the service to outcomes: poll, fetch, unpack."""

from __future__ import annotations

import datetime as dt
import hashlib
import json
from typing import TYPE_CHECKING, Any

from pipeline import record, unpack
from pipeline.durable import Folder
from pipeline.errors import UnfinishedError
from pipeline.gemini.api import GoneError
from pipeline.reconcile import adopt, stuck
from pipeline.reconcile.downloads import Downloads
from pipeline.reconcile.run import age_s, moment

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from pipeline.gemini.wire import Operation
    from pipeline.journal import Batch, Journal, Record
    from pipeline.reconcile.run import Run, Work

_ABSENCES = 3
_FETCHES = 2
_MOST_FETCHES = 5
_LACKING_S = 3.0
"""So long at least, an answer that lacks what the service counts is fetched again before that is bought once more."""
_MOST_UNSETTLED = 50_000
"""Requests whose answers are unpacked, and whose pixels are waited for."""
_STATUS_OF = {"FAILED": "failed", "CANCELLED": "cancelled", "EXPIRED": "expired"}


def poll(run: Run, work: Work, batch: Batch) -> None:
    """Ask for a batch by name and write down what is new; a terminal state is final."""
    assert batch.remote is not None, "a live batch has a name at the service"
    if batch.id in run.quiet:
        return
    op = run.api.batch(batch.remote) or _absent(run, work, batch)
    if op is None:
        return
    if adopt.is_anothers(batch, op):
        adopt.look_anew(run, work, batch)
        return
    if is_odd(op):
        doubt(run, work, batch, f"it ended as {op.state} without an answer")
    else:
        _note(run, work, batch, op)


def _absent(run: Run, work: Work, batch: Batch) -> Operation | None:
    """The service does not know a batch: believed when it says so three times in an hour, and lists none like it.

    Returns what the list knows of it, where that is all there is.
    """
    now, why = run.clock.time(), "the service does not know it"
    since = now if batch.trouble_at is None else min(now, batch.trouble_at)
    if _is_settled(work, batch):
        hold(run, work, batch, why)
        return None
    with work.journal.transaction():
        work.journal.note(batch.job, "absent", batch=batch.name, at=now)
        batch = work.journal.batches.change(batch, trouble_at=since)
    if now - since < run.patience_s or work.journal.batches.absences(batch, since) < _ABSENCES:
        return None
    op = adopt.sought(run, work, batch)
    if op is None:
        hold(run, work, batch, why)
    return op if op is not None and op.name == batch.remote else None


def is_odd(op: Operation) -> bool:
    """An end without an answer, in a state that should have one or that is not known: it may still come."""
    return op.ended and op.result_file is None and op.state not in _STATUS_OF


def revive(run: Run, work: Work, batch: Batch) -> None:
    """Ask once more for a batch that is held: where the service has come to its senses, it is waited for again.

    What was held because its answer would not come gets one more try in this call, not one more hour.
    """
    op = run.api.batch(str(batch.remote)) if batch.remote and batch.id not in work.revived else None
    if op is None or is_odd(op):
        return
    work.revived.add(batch.id)
    with work.journal.transaction():
        work.journal.batches.change(batch, state="live", note=None)
        for known in work.journal.records.held_in(batch):
            told = {**json.loads(known.line), "status": "pending", "reason": None}
            work.journal.records.change(known, status="pending", line=record.dumps(told))


def _note(run: Run, work: Work, batch: Batch, op: Operation) -> None:
    changes: dict[str, Any] = {"remote_state": op.state}
    if not (op.ended and batch.id in work.revived):
        changes["trouble_at"] = None
    if op.ended:
        changes |= {
            "state": "ended", "result_file": op.result_file, "ended_at": batch.ended_at or moment(run, op.ended_at),
        }  # fmt: skip
        changes["succeeded"] = op.succeeded
        if op.error_code is not None or op.error:
            changes["note"] = f"code {op.error_code}: {run.api.redacted(op.error)[:500]}"
    if any(getattr(batch, name) != value for name, value in changes.items()):
        with work.journal.transaction():
            work.journal.batches.change(batch, **changes)
    age = age_s(run, batch)
    if op.ended:
        work.may_be_doubled = work.sends
        run.not_before = 0.0  # a slot is free: the next create may go through, whatever the last one was told
        run.tell("ended", job=work.job.name, remote=batch.remote, state=op.state, age_s=age)
    elif age > work.job.batch.deadline_s:
        stuck.see_to(run, work, batch, op.state)


def doubt(run: Run, work: Work, batch: Batch, why: str) -> None:
    """An answer that makes no sense is asked for again for a while; then a person must look, and nothing is sent."""
    now = run.clock.time()
    if batch.trouble_at is None or batch.trouble_at > now:  # set back, the clock counts from now
        with work.journal.transaction():
            work.journal.batches.change(batch, trouble_at=now)
    elif _has_been_tried(run, batch, run.patience_s):
        hold(run, work, batch, why)


def hold(run: Run, work: Work, batch: Batch, why: str) -> None:
    """Leave a batch to a person: what it has not brought is not bought again by itself.

    Every later call asks the service for it once more, see `revive`: what is paid and still there comes home. One that
    nothing is waited for of is over.
    """
    inside = list(_waiting(work, batch))
    with work.journal.transaction():
        if _is_settled(work, batch):
            work.journal.batches.change(batch, state="unpacked", note=why)
            return
        work.journal.batches.change(batch, state="held", note=why)
        work.came_home.add(batch.model_id)
        again = f"`pipeline retry {work.shown or work.job.name} --only held` buys it again"
        for known in inside:
            reason = f"{batch.remote}: {why}; look at it in AI Studio, then {again}"
            told = {**json.loads(known.line), "status": "held", "reason": reason}
            work.journal.records.change(known, status="held", line=record.dumps(told))
    run.tell("held", job=work.job.name, remote=batch.remote, why=why)


def _is_settled(work: Work, batch: Batch) -> bool:
    """Whether all that a batch holds has its outcome: an output manifest that is newer than this journal had it."""
    return batch.requests_path is not None and not any(_waiting(work, batch))


def _waiting(work: Work, batch: Batch) -> Iterator[Record]:
    """The requests that wait for the answer of a batch."""
    records = work.journal.records
    inside = [
        records.get(batch.job, key, fingerprint)
        for key, fingerprint, _attempt, status in work.journal.batches.asked(batch).values()
        if status is None
    ]
    for known in [*inside, *records.claimed(batch.job, str(batch.remote))]:
        if known is not None and known.status == "pending":
            yield known


def downloads(run: Run, batches: Iterable[Batch]) -> Downloads:
    """The answers of batches, to be fetched one ahead of what is unpacked."""

    def brought(batch: Batch, heed: Callable[[], None]) -> dict[str, Any]:
        return bring(run, batch, str(batch.result_file), heed)

    return Downloads(brought, (batch for batch in batches if batch.result_file is not None))


def fetch(run: Run, work: Work, batch: Batch, ahead: Downloads | None = None) -> None:
    """Bring a batch's answer onto our disk, whole, if it is not the next one to come from those that come `ahead`."""
    if batch.result_file is None:
        with work.journal.transaction():
            work.journal.batches.change(batch, state="fetched", answers_path=None)
        return
    try:
        brought = bring(run, batch, batch.result_file) if ahead is None else ahead.take(batch)
    except GoneError as error:
        _late_answer(run, work, batch, str(error))
        return
    with work.journal.transaction():
        work.journal.batches.change(batch, state="fetched", fetches=batch.fetches + 1, **brought)
    run.tell("fetched", job=work.job.name, remote=batch.remote)


def bring(run: Run, batch: Batch, result_file: str, heed: Callable[[], None] = lambda: None) -> dict[str, Any]:
    """Download an answer file, whole; returns what its batch knows of it then. `heed` is called with every piece.

    Raises `GoneError` when it is not there, `UnfinishedError` when it was cut. Any thread may do this.
    """
    digest = hashlib.sha256()

    def write(piece: bytes) -> None:
        heed()
        stream.write(piece)
        digest.update(piece)

    with Folder(run.state).replacing(batch.answers_name) as stream:
        announced = run.api.download(result_file, write)
        size = stream.tell()
        if announced is not None and size != announced:
            raise UnfinishedError(
                f"the answer of {batch.remote} was cut: {size} of {announced} bytes",
                hint="run again: it is fetched once more; nothing is lost",
            )
    return {
        "answers_path": batch.answers_name,
        "answers_sha256": digest.hexdigest(),
        "confirmed": int(batch.answers_sha256 == digest.hexdigest()),
        "result_bytes": size,
    }


def _late_answer(run: Run, work: Work, batch: Batch, why: str) -> None:
    """The answer can be a little late. After an hour a person must look, or, when its time is up, it is gone."""
    now = run.clock.time()
    if batch.trouble_at is None or now - batch.trouble_at < run.patience_s:
        with work.journal.transaction():
            work.journal.batches.change(batch, trouble_at=min(batch.trouble_at or now, now))
        run.tell("late", job=work.job.name, remote=batch.remote, why=why)
        return
    if now < (batch.vanishes_at or 0.0):
        until = record.timestamp(batch.vanishes_at or now)
        hold(
            run,
            work,
            batch,
            f"it has an answer, which the service does not give out ({why}); it is asked until {until}",
        )
        return
    with work.journal.transaction():
        work.journal.batches.change(batch, state="fetched", note=f"answer gone: {why}")


def unpacking_of(run: Run, work: Work, batch: Batch) -> unpack.Unpacking:
    """What takes the answers to a batch of this job in. A call of its own costs what it did on the day it was made."""
    day = run.today if batch.lane == "batch" else dt.datetime.fromtimestamp(batch.planned_at, dt.UTC).date()
    return unpack.Unpacking(
        work.journal,
        work.tree,
        batch,
        models=run.models,
        checks=work.job.checks,
        today=day,
        now=run.clock.time,
        pixels=run.pixels if work.job.checks.decode else None,
        redacted=run.api.redacted,
    )


def unpack_answer(run: Run, work: Work, batch: Batch) -> None:
    """Take in an answer that is here; one that went away is fetched once more.

    Its pixels are looked at meanwhile. What it does not bring is left to `settle`, which waits for them.
    """
    if batch.answers_path is not None and Folder(run.state).status(batch.answers_path) is None:
        with work.journal.transaction():
            batch = work.journal.batches.change(batch, state="ended", answers_path=None)
        fetch(run, work, batch)
        batch = work.journal.batches.by_id(batch.id)
        if batch.state != "fetched":
            return
    unpacking = unpacking_of(run, work, batch)
    tally = unpack.Tally()
    if batch.answers_path is not None:
        with Folder(run.state).opened(batch.answers_path) as stream:
            tally = unpacking.read(stream)
        if tally.without_answer and not _is_complete(run, tally, batch):
            _fetch_again(run, work, batch, tally)
            return
    work.unpacked.append((batch, unpacking))
    if sum(one.requests for one, _unpacking in work.unpacked) > _MOST_UNSETTLED:
        settle(run, work)


def settle(run: Run, work: Work) -> None:
    """Wait for the pixels of what was unpacked, and give every request that got no answer the outcome of its batch.

    Before that, no batch is called unpacked: a process that is killed meanwhile has the next one look at them again.
    """
    check_pixels(run, work)
    while work.unpacked:
        batch, unpacking = work.unpacked.pop(0)
        status, reason, transient = _fate(work, batch)
        unpacking.close(status=status, reason=run.api.redacted(reason), transient=transient)
        work.came_home.add(batch.model_id)
        run.tell("unpacked", job=work.job.name, remote=batch.remote or batch.answers_path, tally=unpacking.tally)


def _fetch_again(run: Run, work: Work, batch: Batch, tally: unpack.Tally) -> None:
    """What lacks answers may have been cut on its way, even at the end of a line: it is fetched again, for a while."""
    is_of_use = tally.answers and not tally.is_torn
    if not is_of_use and _has_been_tried(run, batch, run.patience_s) and batch.fetches >= _MOST_FETCHES:
        hold(run, work, batch, "its answer never came whole")
        return
    with work.journal.transaction():
        since = batch.trouble_at or run.clock.time()
        batch = work.journal.batches.change(batch, state="ended", trouble_at=since)
    if batch.fetches % _FETCHES:
        fetch(run, work, batch)
    elif is_of_use:
        run.tell("lacking", job=work.job.name, remote=batch.remote, count=tally.without_answer)
    else:
        raise UnfinishedError(
            f"the answer of {batch.remote} is not whole, or is none",
            hint="run again: it is fetched once more; nothing is lost",
        )


def _is_complete(run: Run, tally: unpack.Tally, batch: Batch) -> bool:
    """Whether an answer that lacks some of the requests is believed to be all there is.

    It came twice the same, to its end, and is about this batch at all: a page of somebody between is not, and is held
    in the end rather than bought again. Where the service counts more answers than came, it is asked more often, for a
    while: its counts are known to be wrong at times.
    """
    if not batch.confirmed or tally.is_torn:
        return False
    if not tally.answers:
        return not (tally.unreadable or tally.extra or batch.succeeded)
    is_asked_enough = batch.fetches >= _MOST_FETCHES and _has_been_tried(run, batch, _LACKING_S)
    return tally.answers >= batch.succeeded or is_asked_enough


def _has_been_tried(run: Run, batch: Batch, patience_s: float) -> bool:
    """Whether something has been wrong with a batch for as long as that is put up with."""
    return batch.trouble_at is not None and run.clock.time() - batch.trouble_at >= patience_s


def _fate(work: Work, batch: Batch) -> tuple[str, str, bool]:
    """Status, reason and transience for requests of a batch that got no answer of their own."""
    state = batch.remote_state or ""
    status = _STATUS_OF.get(state, "missing")
    if batch.answers_path is None and status == "missing":
        return "missing", batch.note or "the service has no answer for this batch any more", False
    if status in {"missing", "cancelled"} and work.journal.batches.timed_out(batch):
        return "expired", unpack.TOOK_TOO_LONG, False
    code = (batch.note or "").removeprefix("code ").partition(":")[0]
    transient = status == "failed" and code in {"4", "8", "10", "13", "14"}
    return status, batch.note or f"the batch ended as {state or 'nothing known'} without an answer for it", transient


def check_pixels(run: Run, work: Work) -> None:
    """Wait for what is being looked at beside, and write down what is not right."""
    if run.pixels is None:
        return
    if run.pixels.are_waiting and work.unpacked:  # the service is told of what came home, right after
        run.api.prepare()
    for token, problem in run.pixels.drain():
        _mark_checked(work.journal, work.job.name, token, problem)


def _mark_checked(journal: Journal, job: str, token: str, problem: str | None) -> bool:
    """Write down that a picture's pixels are not right; returns whether they are."""
    if problem is None:
        return True
    key, fingerprint, path = json.loads(token)
    with journal.transaction():
        known = journal.records.get(job, key, fingerprint)
        if known is not None and known.status == "done":
            told = json.loads(known.line)
            reason = problem if path == told["files"][0]["path"] else f"{path} {problem}"
            journal.records.change(
                known, status="check", line=record.dumps({**told, "status": "check", "reason": reason})
            )
    return False
