"""What was paid for and got lost here: kept answers that no journal knows, images that the service can give once more.

All of it happens by itself in every command that asks the service, before anything is bought, and costs nothing.
"""

from __future__ import annotations

import hashlib
import json
import re
from typing import TYPE_CHECKING

from pipeline import record
from pipeline.durable import Folder
from pipeline.gemini import answers
from pipeline.gemini.api import GoneError
from pipeline.reconcile import collect
from pipeline.reconcile.run import moment
from pipeline.record import HAS_IMAGE

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from pipeline.gemini.wire import Operation
    from pipeline.journal import Batch, Record
    from pipeline.reconcile.run import Run, Work

_KEPT = re.compile(r"([0-9a-z]{1,24})-([0-9]{1,6})-(gemini|local)(-interactive)?\.jsonl")
_NAMELESS = re.compile(r"[0-9a-z]{1,24}-[0-9]{1,6}\.jsonl")


def search(run: Run, work: Work) -> None:
    """Take in the answers that are here and that the journal does not know; once in a call, after the census."""
    if work.is_searched:
        return
    work.is_searched = True
    _keep_turns(run, work)
    for name in unknown_answers(run.state, work):
        _take_in(run, work, name)


# ----------------------------------------------------------------------------------- answers that are here


def unknown_answers(state: Path, work: Work) -> Iterator[str]:
    """The answer files of a job that no batch knows, and that no `clean` has let go of."""
    journal, job = work.journal, work.job.name
    folder = Folder(state).path / "answers" / job
    for path in sorted(folder.iterdir()) if folder.is_dir() else ():
        is_known = journal.batches.knows_answers(job, f"answers/{job}/{path.name}")
        if not is_known and not journal.leftovers.is_settled(job, path.name):
            yield path.name


def _take_in(run: Run, work: Work, name: str) -> None:
    """Take an answer file for that of a batch: the one that is about to be fetched, or one that nobody knows."""
    batches, job = work.journal.batches, work.job.name
    found = _KEPT.fullmatch(name)
    if found is None or found[3] != run.service:
        if _NAMELESS.fullmatch(name):
            run.tell("unclear", job=job, name=f"answers/{job}/{name}")
        return
    path = f"answers/{job}/{name}"
    status = Folder(run.state).status(path)
    batch = batches.tried(job, found[1], int(found[2]))
    if found[4]:
        if batch is None:
            _take_proof(run, work, path, found[1], int(found[2]))
        return
    if status is None or (batch is not None and batch.state not in {"live", "ended"}):
        return
    with work.journal.transaction():
        if batch is None:
            batch = batches.add(
                job=job, service=run.service, model_id="", name=f"kept/{job}/{name}", chunk=found[1],
                attempt=int(found[2]), requests=0, answer_bytes=0, cost=0, state="fetched",
                planned_at=run.clock.time(), created_at=status.st_mtime,
            )  # fmt: skip
        batches.change(
            batch, state="fetched", answers_path=path, answers_sha256=Folder(run.state).sha256(path), fetches=1,
            result_bytes=status.st_size, trouble_at=None,
        )  # fmt: skip
        work.journal.note(job, "kept", answers=path)
    run.tell("kept", job=job, name=path)


def _take_proof(run: Run, work: Work, path: str, chunk: str, attempt: int) -> None:
    """Know the answer to a proof again: `proof --keep` makes it the result, and nothing is asked for."""
    batches, job = work.journal.batches, work.job.name
    with Folder(run.state).opened(path) as stream:
        line = stream.read()
    try:
        wire_key, came = answers.answer(line)
    except answers.UnreadableLineError:
        return
    draft = work.journal.wanted.of_wire_key(job, run.service, wire_key)
    if draft is None or not came.images:
        return
    known = work.journal.records.get(job, draft.key, draft.fingerprint)
    status = known.status if known is not None and known.status in HAS_IMAGE else "proof"
    now = run.clock.time()
    with work.journal.transaction():
        batch = batches.add(
            job=job, service=run.service, model_id=draft.model_id, name=f"kept/{path}", chunk=chunk, attempt=attempt,
            requests=1, answer_bytes=0, cost=0, state="unpacked", lane="interactive", planned_at=now, unpacked_at=now,
            answers_path=path, result_bytes=len(line),
        )  # fmt: skip
        batches.ask(batch, [(wire_key, draft.key, draft.fingerprint, 1)])
        batches.settle(batch, wire_key, status=status, answer_at=0, answer_bytes=len(line))


def _keep_turns(run: Run, work: Work) -> None:
    """Make an answer file of the kept turns that have no record: what they answered is not asked for again."""
    folder, lines = Folder(run.state), []
    turns = work.tree.turns(run.service)
    for wanted in work.journal.wanted.leading(work.job.name, run.service):
        line = turns.line(wanted.key, wanted.fingerprint)
        if line is not None and answers.content(line, wanted.wire_key) is not None:
            lines.append(line.rstrip(b"\n") + b"\n")
    if lines:
        chunk = hashlib.sha256(b"".join(lines)).hexdigest()[:24]
        with folder.replacing(f"answers/{work.job.name}/{chunk}-1-{run.service}.jsonl") as stream:
            stream.writelines(lines)


# ------------------------------------------------------------------------- answers that the service still has


def look_again(run: Run, work: Work) -> bool:
    """Fetch the answers of images that are missing here once more, where the service still has them; once in a call.

    Returns whether any came. Call it before anything is sent, and when all is unpacked that was here.
    """
    if work.has_looked_again:
        return False
    work.has_looked_again = True
    missing: dict[str, list[Record]] = {}
    for row in work.journal.wanted.missing(work.job.name, run.service):
        if not _is_here(run, work, row):
            missing.setdefault(json.loads(row.line)["batch"], []).append(row)
    has_come = False
    for remote, rows in missing.items():
        op = run.api.batch(remote)
        is_here = op is not None and op.result_file is not None and _fetched_again(run, work, op, rows)
        has_come |= is_here
        if not is_here:
            _let_go(work, rows)
    return has_come


def _is_here(run: Run, work: Work, row: Record) -> bool:
    """Whether an image has been written since it was planned, or can be from a kept answer."""
    if work.journal.wanted.path_of(row.key, row.fingerprint) is None or row.status not in HAS_IMAGE:
        return False
    is_there = work.tree.condition(json.loads(row.line)["files"]) != "missing"
    return is_there or work.tree.turns(run.service).has(row.key, row.fingerprint)


def _fetched_again(run: Run, work: Work, op: Operation, rows: list[Record]) -> bool:
    """Bring an answer home once more, and expect these requests in it; returns whether the service still had it."""
    batch = work.journal.batches.remote(op.name) or _settled_before(run, work, op)
    if batch.state != "unpacked" or op.result_file is None:
        return False
    try:
        brought = collect.bring(run, batch, op.result_file)
    except GoneError:
        return False
    with work.journal.transaction():
        batch = work.journal.batches.change(batch, state="fetched", fetches=1, trouble_at=None, **brought)
        for row in rows:
            work.journal.batches.ask_again(batch, row.wire_key, row.key, row.fingerprint, row.attempts)
            told = {**json.loads(row.line), "status": "pending", "reason": None}
            work.journal.records.change(row, status="pending", batch=batch.id, line=record.dumps(told))
        work.journal.note(batch.job, "again", batch=batch.name, remote=op.name, requests=len(rows))
    run.tell("again", job=batch.job, remote=op.name, count=len(rows))
    return True


def _settled_before(run: Run, work: Work, op: Operation) -> Batch:
    """A batch of which an output manifest tells what it has delivered; for nothing else is it the answer."""
    with work.journal.transaction():
        return work.journal.batches.add(
            job=work.job.name, service=run.service, model_id="", name=op.name, chunk=op.name, attempt=1, requests=0,
            answer_bytes=0, cost=0, state="unpacked", remote=op.name, planned_at=run.clock.time(),
            created_at=moment(run, op.created_at),
        )  # fmt: skip


def _let_go(work: Work, rows: list[Record]) -> None:
    """Nobody has these answers any more: what waits to be bought is in no batch."""
    with work.journal.transaction():
        for row in rows:
            if row.status == "pending":
                told = {**json.loads(row.line), "batch": None}
                work.journal.records.change(row, line=record.dumps(told))
