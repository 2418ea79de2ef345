"""What a batch did not bring in time, asked for one by one: by itself, at the standard price, within the budget."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pipeline import unpack
from pipeline.errors import UnfinishedError
from pipeline.journal.batches import OPEN
from pipeline.reconcile import calls, send
from pipeline.reconcile.run import commit

if TYPE_CHECKING:
    from pipeline.journal import Record
    from pipeline.reconcile.calls import Arrived
    from pipeline.reconcile.run import Run, Work

_SLICE = 20
_LONGEST_S = 300.0
"""After this, batches are looked at again before the next are asked for."""
_PATIENCE_S = 120.0
_TOO_DEAR = "asked for one by one it costs more than `budget.per_image`: raise that, then run again"
_OVER_BUDGET = "asked for one by one it is over the budget of this call: raise `budget` or --max-cost, then run again"


def ask_singly(run: Run, work: Work) -> None:
    """Ask for what waits and was in a batch that expired, as the job says; what does not fit the budget is skipped.

    The batch is over, and all it brought is here. Where the service wants fewer calls for long, or is away, what is
    left waits for the next pass. Raises `ServiceError` when a person must act.
    """
    if not work.job.batch.asks_singly or any(
        batch.requests_path is None and not batch.is_double for batch in work.batches(*OPEN)
    ):
        return  # what an adopted batch holds is not known: it might be the very ones
    until = run.clock.time() + _LONGEST_S
    while run.clock.time() < until and (waiting := work.journal.records.to_ask_singly(work.job.name, _SLICE)):
        send.skip(work, [row for row in waiting if _is_too_dear(work, row)], _TOO_DEAR)
        fits = [row for row in waiting if not _is_too_dear(work, row)]
        fits = send.affordable(run, work, fits, _OVER_BUDGET)
        if fits and not _asked(run, work, fits):
            return


def _is_too_dear(work: Work, record: Record) -> bool:
    return work.each is not None and (record.cost is None or record.cost > work.each)


def _asked(run: Run, work: Work, records: list[Record]) -> bool:
    """Ask for these; returns whether the service has had the patience for all of them."""
    tally = unpack.Tally()
    run.tell("singly", job=work.job.name, count=len(records))
    work.came_home.update(row.model_id for row in records)

    def arrived(one: Arrived) -> None:
        tally.count(one.told["status"])

    commit(run, work, sum(row.cost or 0 for row in records))
    try:
        calls.ask(run, work, records, arrived, keeps=True, patience_s=_PATIENCE_S)
    except UnfinishedError as trouble:
        run.tell("trouble", job=work.job.name, why=str(trouble))
        return False
    finally:
        unsent = (work.journal.records.get(row.job, row.key, row.fingerprint) for row in records)
        commit(run, work, -sum(row.cost or 0 for row in unsent if row and row.status == "pending" and not row.batch))
        if tally.counts:
            run.tell("asked_singly", job=work.job.name, tally=tally)
    return True
