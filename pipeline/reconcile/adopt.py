"""What the service has of ours: batches of unknown fate, and batches that the journal does not know."""

from __future__ import annotations

import datetime as dt
import json
from typing import TYPE_CHECKING

from pipeline.errors import ServiceError
from pipeline.journal.batches import OPEN
from pipeline.reconcile.run import commit, give_up

if TYPE_CHECKING:
    from pipeline.gemini.wire import Operation
    from pipeline.journal import Batch, Journal
    from pipeline.reconcile.run import Run, Work

PREFIX = "pipeline"
_YOUNG_S = 72 * 3600.0


def claim(run: Run, work: Work) -> None:
    """Take over the batches that an output manifest names and this journal does not know: they hold our requests."""
    for remote in work.journal.records.claims(work.job.name):
        known = work.journal.batches.remote(remote)
        with work.journal.transaction():
            if known is None:
                _adopt_stranger(run, work, f"named by the output manifest: {remote}", remote)
            elif known.state not in OPEN:
                work.journal.records.unclaim(work.job.name, remote)


def is_census_due(work: Work) -> bool:
    """Once for a new journal; and once in a run that has something to send."""
    if work.is_counted:
        return False
    with work.journal.transaction():
        _published, census_at = work.journal.job(work.job.name, str(work.job.path))
    return census_at is None or (work.sends and work.journal.records.waiting(work.job.name) > 0)


def census(run: Run, work: Work) -> None:
    """Take over the batches of this job at the service that the journal does not know.

    Before anything is sent: so a deleted journal, or one that was restored from a backup, pays for nothing again.
    """
    journal, job = work.journal, work.job.name
    prefix = f"{PREFIX}/{journal.workspace}/{job}/"
    found = [op for op in run.api.batches() if op.display_name.startswith(prefix)]
    settled, pending = _mentioned(journal, job)
    doubled: list[Operation] = []
    with journal.transaction():
        for op in reversed(found):
            known = journal.batches.named(op.display_name)
            if known is not None and known.state in {"lost", "rejected"} and known.remote is None:
                _take_back(run, work, known, op.name)
                continue
            if known and known.remote not in {None, op.name}:
                doubled.append(op)  # one POST can make two
            if known or journal.batches.remote(op.name):
                continue
            if op.name not in pending and (op.name in settled or not _is_young(run, op)):
                continue
            _adopt_stranger(run, work, op.display_name, op.name)
        journal.set_census(job, run.clock.time())
    work.is_counted = True
    _cancel_doubled(run, work, doubled)


def _mentioned(journal: Journal, job: str) -> tuple[set[str], set[str]]:
    """Names of batches in records: those that only settled ones mention, and those that pending ones do."""
    settled: set[str] = set()
    pending: set[str] = set()
    for page in journal.records.pages(job):
        for row in page:
            if name := json.loads(row.line).get("batch"):
                (pending if row.status == "pending" else settled).add(name)
    return settled - pending, pending


def _is_young(run: Run, op: Operation) -> bool:
    try:
        made = dt.datetime.fromisoformat(op.created_at[:19] + "+00:00").timestamp()
    except ValueError:
        return True
    return run.clock.time() - made < _YOUNG_S


def _adopt_stranger(run: Run, work: Work, name: str, remote: str) -> None:
    now = run.clock.time()
    chunk = remote.rpartition("/")[2][:24]
    work.journal.batches.add(
        job=work.job.name, service=run.service, model_id="", name=name, chunk=chunk,
        attempt=work.journal.batches.attempts(work.job.name, chunk) + 1, requests=0, answer_bytes=0, cost=0,
        state="live", remote=remote, planned_at=now, created_at=now,
    )  # fmt: skip
    work.journal.note(work.job.name, "adopted", batch=name, remote=remote)
    run.tell("adopted", job=work.job.name, remote=remote)


def settle_uncertain(run: Run, work: Work) -> None:
    """Find out what became of creates of unknown fate: adopt, or believe after a while that there was none."""
    uncertain = work.batches("intent")
    if not uncertain:
        return
    listing = list(run.api.batches())
    for batch in uncertain:
        matches = _matches(work, listing, batch)
        if matches:
            _adopt(run, work, batch, matches)
        elif batch.absent_at is None or batch.absent_at > run.clock.time():  # set back, the clock counts from now
            with work.journal.transaction():
                work.journal.batches.change(batch, absent_at=run.api.now())
            run.tell("uncertain", job=work.job.name, batch=batch.name, wait_s=run.settle_s)
        elif _has_settled(run, work, batch, batch.absent_at):
            _believe_lost(run, work, batch)


def _has_settled(run: Run, work: Work, batch: Batch, absent_at: float) -> bool:
    """Whether it has been long enough, by the service's clock and by ours: one of them may have been put forward.

    `absent_at` is by the service's, when it was asked for the first time. One that was put back counts anew from there.
    """
    now, service_now = run.clock.time(), run.api.now()
    ours = min(now, batch.intent_at or batch.planned_at)
    theirs = min(service_now, absent_at)
    if (ours, theirs) != (batch.intent_at or batch.planned_at, absent_at):
        with work.journal.transaction():
            work.journal.batches.change(batch, intent_at=ours, absent_at=theirs)
    return min(now - ours, service_now - theirs) >= run.settle_s


def _matches(work: Work, listing: list[Operation], batch: Batch) -> list[Operation]:
    """What the service has under a batch's display name, or with its input file: both are never used twice."""
    return [
        op
        for op in listing
        if (op.display_name == batch.name or (batch.input_file and op.input_file == batch.input_file))
        and work.journal.batches.remote(op.name) is None
    ]


def _adopt(run: Run, work: Work, batch: Batch, matches: list[Operation]) -> None:
    first, *others = sorted(matches, key=lambda op: (op.created_at, op.name))
    _cancel_doubled(run, work, others)  # before the journal knows the first, as nobody looks for them after
    with work.journal.transaction():
        now_live(run, work, batch, first.name)
        work.journal.note(
            work.job.name, "adopted", batch=batch.name, remote=first.name, also=[op.name for op in others]
        )
    run.tell("adopted", job=work.job.name, remote=first.name)


def _cancel_doubled(run: Run, work: Work, doubled: list[Operation]) -> None:
    """Cancel what one POST has made a second time, where the service lets us; without an answer, it is tried again."""
    for other in doubled:
        try:
            if not other.ended:
                run.api.cancel(other.name)
        except ServiceError as trouble:
            run.tell("trouble", job=work.job.name, why=str(trouble))
        run.tell("doubled", job=work.job.name, remote=other.name)


def sought(run: Run, work: Work, batch: Batch) -> Operation | None:
    """What a whole listing has of a batch that is not found by its name; one under another name is taken for it.

    Raises `UnfinishedError` when the listing cannot be completed: half a listing proves nothing.
    """
    listing = list(run.api.batches())
    for op in listing:
        if op.name == batch.remote:
            return op
    matches = sorted(_matches(work, listing, batch), key=lambda op: (op.created_at, op.name))
    if not matches:
        return None
    _adopt(run, work, batch, matches)
    return matches[0]


def now_live(run: Run, work: Work, batch: Batch, remote: str) -> None:
    """The service has this batch, under this name."""
    batch = work.journal.batches.change(
        batch, state="live", remote=remote, created_at=run.clock.time(), absent_at=None, note=None
    )
    work.journal.records.sent(batch)


def _take_back(run: Run, work: Work, batch: Batch, remote: str) -> None:
    """A batch that was believed lost had only been late: it brings what still waits to be sent again, and is paid."""
    work.journal.batches.take_back(batch)
    commit(run, work, batch.cost)
    work.committed.add(batch.id)
    now_live(run, work, batch, remote)
    work.journal.note(work.job.name, "adopted", batch=batch.name, remote=remote)
    run.tell("adopted", job=work.job.name, remote=remote)


def _believe_lost(run: Run, work: Work, batch: Batch) -> None:
    # The fence: without its input file, a create that is still on its way somewhere cannot run.
    if batch.input_file:
        run.api.delete_file(batch.input_file)
        with work.journal.transaction():
            batch = work.journal.batches.change(batch, input_deleted_at=run.clock.time())
    matches = _matches(work, list(run.api.batches()), batch)
    if matches:
        _adopt(run, work, batch, matches)
        return
    with work.journal.transaction():
        give_up(run, work, batch, "lost", "the service never had it")
        work.journal.note(work.job.name, "lost", batch=batch.name)
    run.tell("lost", job=work.job.name, batch=batch.name)
