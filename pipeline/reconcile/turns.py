"""Conversations under way: what a later turn is sent with, and what becomes of it when the one before fails."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from pipeline import record
from pipeline.batchfile import Turn
from pipeline.errors import UnfinishedError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pipeline.journal import Record
    from pipeline.reconcile.run import Work

_FIRST = '"turn":1,'


def is_later(row: Record) -> bool:
    """Whether a request goes on from another."""
    return _FIRST not in row.line


def earlier(work: Work, row: Record, *, proofs: bool = False) -> Iterator[Turn]:
    """The turns before a request, the first of them first; none for what is no later turn of a conversation.

    With `proofs` it may go on from what was only shown. Raises `UnfinishedError` where an answer is not here any more.
    """
    if not is_later(row):
        return
    turns = work.tree.turns(work.service, proofs=proofs)
    for key, fingerprint, line in work.journal.wanted.before(row.key):
        answer = turns.line(key, fingerprint)
        if answer is None:
            with work.journal.transaction():
                turns.let_go(fingerprint)
            raise UnfinishedError(
                f"{row.key} goes on from {key}, and the kept answer to that is gone, or cannot be read",
                hint="run the same command again: it is planned anew",
            )
        yield Turn(json.loads(line), answer)


def shown(work: Work, row: Record) -> Iterator[dict[str, Any]]:
    """The records whose reference images a request is sent with: those of earlier turns, then its own."""
    if is_later(row):
        for _key, _fingerprint, line in work.journal.wanted.before(row.key):
            yield json.loads(line)
    yield json.loads(row.line)


def ready(work: Work, rows: list[Record]) -> list[Record]:
    """Those of these requests that can be sent; the others wait for an earlier turn that is asked for once more.

    A turn waits for the one before it. Where that one was on its way, and an answer before it got lost meanwhile, it
    waits for both.
    """
    held = {row.key: missing for row in rows if is_later(row) and (missing := _missing(work, row))}
    if held:
        with work.journal.transaction():
            for row in rows:
                if row.key in held:
                    work.journal.records.change(row, waits_for=held[row.key])
    return [row for row in rows if row.key not in held]


def _missing(work: Work, row: Record) -> str | None:
    """The key of the first turn before a request that will have its answer, and has none yet."""
    turns, records = work.tree.turns(work.service), work.journal.records
    for key, fingerprint, _line in work.journal.wanted.before(row.key):
        if not turns.has(key, fingerprint):
            before = records.get(work.job.name, key, fingerprint)
            return key if before is not None and before.status == "pending" else None
    return None


def go_on(work: Work) -> None:
    """Decide about turns that wait for one which has its outcome: they can be sent, or will not be.

    Call it once what failed and may be asked again has been opened: what is left then failed for good.
    """
    while _decide(work):
        pass  # what becomes of one decides about the next


def _decide(work: Work) -> bool:
    """Decide about the turns right after those that have their outcome; returns whether any was decided about."""
    turns, has_decided = work.tree.turns(work.service), False
    for page in work.journal.records.waiting_turns(work.job.name):
        with work.journal.transaction():
            for row, before in page:
                if turns.has(before.key, before.fingerprint):
                    work.journal.records.lead_on(before)
                elif before.status not in record.HAS_IMAGE:
                    _give_up(work, row, before)
                else:
                    continue
                has_decided = True
    return has_decided


def _give_up(work: Work, row: Record, before: Record) -> None:
    told, failed = json.loads(row.line), json.loads(before.line)
    status = "skipped" if before.status == "skipped" else "missing"
    reason = f"not asked for: it goes on from turn {failed['turn']}, which is {before.status}: {failed['reason'] or ''}"
    if before.waits_for is not None:  # that one was not asked for either, for the same reason
        reason = str(failed["reason"])
    told |= {"status": status, "reason": reason[:500]}
    work.journal.records.change(row, status=status, line=record.dumps(told))
    work.skipped += status == "skipped"
