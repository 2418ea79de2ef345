"""What the service has of ours: batches of unknown fate, and batches that the journal does not know."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from pipeline.errors import ServiceError, UnfinishedError
from pipeline.journal.batches import LIVE, OPEN, PREFIX
from pipeline.reconcile.run import commit, give_up, moment

if TYPE_CHECKING:
    from pipeline.gemini.wire import Operation
    from pipeline.journal import Batch, Journal
    from pipeline.reconcile.run import Run, Work

_NAME = re.compile(rf"{PREFIX}/([0-9a-f]{{8}})/([^/]+)/([0-9a-f]{{24}})-([0-9]{{1,6}})-[0-9a-f]{{8}}")
_OUR_INPUT = "files/pl-"


def claim(run: Run, work: Work) -> None:
    """Take over the batches that an output manifest names and this journal does not know: they hold our requests."""
    for remote in work.journal.records.claims(work.job.name):
        known = work.journal.batches.remote(remote)
        op = run.api.batch(remote) if known is None else None
        with work.journal.transaction():
            if known is None:
                name = op.display_name if op else ""
                _adopt_stranger(run, work, name or f"named by the output manifest: {remote}", remote, op)
            elif known.state not in OPEN:
                work.journal.records.unclaim(work.job.name, remote)


def is_census_due(work: Work) -> bool:
    """Once for a new journal; and once in a run that has something to send, or that is to find what was lost."""
    if work.is_counted:
        return False
    with work.journal.transaction():
        _published, census_at = work.journal.job(work.job.name, str(work.job.path))
    return census_at is None or work.recovers or (work.sends and work.journal.records.waiting(work.job.name) > 0)


def census(run: Run, work: Work) -> None:
    """Take over the batches of this job at the service that the journal does not know, however old they are.

    Before anything is sent: so a deleted journal, or one that was restored from a backup, pays for nothing again.
    Batches of a job of this name that were sent from another folder or machine are taken in only when a person says so:
    they may be somebody else's.
    """
    journal, job = work.journal, work.job.name
    listing = list(run.api.batches())
    unknown = [op for op in listing if journal.batches.remote(op.name) is None and _may_concern(work, op)]
    settled = _settled(journal, job) if unknown else set()
    with journal.transaction():
        is_first = journal.job(job, str(work.job.path))[1] is None
        strangers = [op for op in reversed(unknown) if op.name not in settled and not _is_known(run, work, op)]
        doubled = [op for op in listing if _is_doubled(work, op)]
        here = [op for op in strangers if _is_from_here(work, op)]
        elsewhere = [op for op in strangers if op not in here and _may_be_ours(op, job)]
        for op in here + (elsewhere if work.recovers else []):
            _adopt_stranger(run, work, op.display_name or op.name.replace("batches/", "nameless/"), op.name, op)
        journal.set_census(job, run.clock.time())
    if elsewhere and is_first and not work.recovers:
        run.tell("elsewhere", job=job, count=len(elsewhere), remote=elsewhere[0].name, path=work.shown)
    work.is_counted = True
    _cancel_doubled(run, work, doubled)
    _expect_doubled(run, work, doubled)


def _may_concern(work: Work, op: Operation) -> bool:
    """Whether a batch may be one of this job, wherever it was sent from; a project may have any number of others."""
    is_named = work.journal.batches.named(op.display_name) is not None
    return is_named or _is_from_here(work, op) or _may_be_ours(op, work.job.name)


def _is_from_here(work: Work, op: Operation) -> bool:
    return op.display_name.startswith(f"{PREFIX}/{work.journal.workspace}/{work.job.name}/")


def _is_known(run: Run, work: Work, op: Operation) -> bool:
    """Whether the journal knows a batch; one that it believed lost, and that had only been late, lives again."""
    known = work.journal.batches.named(op.display_name)
    if (
        known is not None
        and known.state in {"lost", "rejected"}
        and known.remote is None
        and known.job == work.job.name
    ):
        _take_back(run, work, known, op.name)
    return known is not None or work.journal.batches.remote(op.name) is not None


def _is_doubled(work: Work, op: Operation) -> bool:
    """Whether a batch of the journal has another one beside it at the service: one POST can make two."""
    known = work.journal.batches.named(op.display_name)
    return (
        known is not None
        and known.job == work.job.name
        and known.remote not in {None, op.name}
        and work.journal.batches.remote(op.name) is None
    )


def _may_be_ours(op: Operation, job: str) -> bool:
    """Whether a batch that is not of this folder may hold what a job asks for: it has its name, or nobody's."""
    named = _NAME.fullmatch(op.display_name)
    return named[2] == job if named else op.input_file is not None and op.input_file.startswith(_OUR_INPUT)


def _settled(journal: Journal, job: str) -> set[str]:
    """Names of batches that records mention, and no pending one does: what they had to say is known."""
    return {name for name, has_pending in journal.records.batches(job) if name and not has_pending}


def _adopt_stranger(run: Run, work: Work, name: str, remote: str, op: Operation | None) -> None:
    """Expect the answer of a batch of which nothing is known but its name; the caller knows nobody has it."""
    batches, job = work.journal.batches, work.job.name
    named = _NAME.fullmatch(name)
    chunk, attempt = (named[3], int(named[4])) if named else (remote.rpartition("/")[2][:24], 1)
    if batches.tried(job, chunk, attempt) is not None:
        attempt = batches.attempts(job, chunk) + 1
    if batches.named(name) is not None:  # one create made two, or somebody else gives names like ours
        name = f"{name} ({remote})"
    made_at = moment(run, op.created_at if op else "")
    batches.add(
        job=job, service=run.service, model_id="", name=name, chunk=chunk, attempt=attempt, requests=0, answer_bytes=0,
        cost=0, state="live", remote=remote, planned_at=run.clock.time(), created_at=made_at,
    )  # fmt: skip
    work.journal.note(job, "adopted", batch=name, remote=remote)
    run.tell("adopted", job=job, remote=remote)


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
        elif batch.absent_at is None:
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
    _expect_doubled(run, work, others)


def _expect_doubled(run: Run, work: Work, doubled: list[Operation]) -> None:
    """Wait for what they have drawn all the same: it is paid, and kept apart."""
    if doubled:
        with work.journal.transaction():
            for op in doubled:
                _adopt_stranger(run, work, op.display_name, op.name, op)


def look_for_doubled(run: Run, work: Work) -> None:
    """Ask once, when all batches of a job are home, whether one POST has made two; without an answer, the next time."""
    if not work.may_be_doubled or work.batches(*LIVE):
        return
    try:
        doubled = [op for op in run.api.batches() if _is_doubled(work, op)]
        _cancel_doubled(run, work, doubled)
    except UnfinishedError as trouble:
        run.tell("trouble", job=work.job.name, why=str(trouble))
        return
    work.may_be_doubled = False
    _expect_doubled(run, work, doubled)


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


def is_anothers(batch: Batch, op: Operation) -> bool:
    """Whether the service has another batch than ours under a name: the answer to a create may have been mixed up."""
    is_renamed = bool(op.display_name) and op.display_name != batch.name
    return bool(is_renamed and batch.input_file and op.input_file and op.input_file != batch.input_file)


def look_anew(run: Run, work: Work, batch: Batch) -> None:
    """Take it that the fate of a create is not known after all: the batch is looked for under its own name."""
    with work.journal.transaction():
        work.journal.note(batch.job, "mixed up", batch=batch.name, remote=batch.remote)
        work.journal.batches.change(batch, state="intent", remote=None, absent_at=None)
    run.tell("unknown", job=batch.job, why=f"what the service calls {batch.remote} is another batch")


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
