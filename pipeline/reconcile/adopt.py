"""What the service has of ours: batches of unknown fate, and batches that the journal does not know."""

from __future__ import annotations

import datetime as dt
import json
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pipeline.gemini.wire import Operation
    from pipeline.journal import Batch, Journal
    from pipeline.reconcile.run import Run, Work

PREFIX = "pipeline"
_YOUNG_S = 72 * 3600.0


def census(run: Run, work: Work) -> None:
    """With a journal that never asked: take over the batches at the service that it does not know.

    This is how a deleted journal, or a second machine on the same folder, pays for nothing again.
    """
    journal, job = work.journal, work.job.name
    with journal.transaction():
        _published, census_at = journal.job(job, str(work.job.path))
    if census_at is not None:
        return
    prefix = f"{PREFIX}/{journal.workspace}/{job}/"
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


def settle_uncertain(run: Run, work: Work) -> None:
    """Find out what became of creates of unknown fate: adopt, or believe after a while that there was none."""
    uncertain = work.batches("intent")
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
        now_live(run, work, batch, first.name)
        work.journal.note(
            work.job.name, "adopted", batch=batch.name, remote=first.name, also=[op.name for op in others]
        )
    run.tell("adopted", job=work.job.name, remote=first.name)
    for other in others:  # one POST can make two jobs; the journal knows it by now
        if not other.ended:
            run.api.cancel(other.name)
        run.tell("doubled", job=work.job.name, remote=other.name)


def now_live(run: Run, work: Work, batch: Batch, remote: str) -> None:
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
