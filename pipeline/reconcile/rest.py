"""When a job has nothing to do, and will have nothing to do until something changes."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from pipeline.journal.records import OVERTAKEN, UNANSWERED
from pipeline.reconcile.recover import unknown_answers
from pipeline.reconcile.run import progress, vanishing

if TYPE_CHECKING:
    from pipeline.plan import Plan
    from pipeline.reconcile.run import Work

_AT_ODDS = ("held", "skipped", "pending")


def may_rest(work: Work) -> bool:
    """Whether nothing of a job is open, and nothing is left for a person to decide; told without comparing it."""
    step = progress(work)
    return step.is_finished and not step.held and not any(step.counts.get(word) for word in _AT_ODDS)


def is_at_rest(work: Work, plan: Plan, now: float) -> bool:
    """Whether another pass would find nothing to ask the service for, and nothing to write, until something changes.

    For a job that `may_rest`; `plan` is that job compared with what is recorded by now.
    """
    return (
        not plan.requests
        and not plan.problems
        and not plan.gone_now
        and not plan.is_drastic
        and not plan.stuck.asks_singly
        and not plan.counts["moved"]
        and not plan.counts["pending"]
        and not vanishing(work, now)
        and is_known(work)
        and work.journal.rests.is_settled(work.job.name, f"({OVERTAKEN}) OR ({UNANSWERED})")
    )


def is_known(work: Work) -> bool:
    """Whether the service was asked for what the journal does not know, and all that is here is known."""
    journal, job = work.journal, work.job.name
    is_told = work.stopped is None and work.no_room is None and not work.skipped
    return (
        is_told
        and journal.was_counted(job)
        and not journal.records.claims(job)
        and next(unknown_answers(work.state, work), None) is None
    )


def tidy_from(work: Work) -> float | None:
    """When the first of the batches was unpacked that the service still has; -inf where something is due already.

    `None` where it has none of them.
    """
    left = work.journal.batches.to_tidy(work.job.name, work.service, math.inf)
    since = [
        -math.inf if batch.unpacked_at is None or (batch.input_file and batch.input_deleted_at is None)
        else batch.unpacked_at for batch in left
    ]  # fmt: skip
    return min(since, default=None)
