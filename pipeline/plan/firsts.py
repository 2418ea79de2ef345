"""The first few requests for a model that has never delivered here: they go ahead alone, and the rest follows them.

A wrong setting, a model that refuses what a job is about, an account without access to it: all of that shows in a few
images as well as in thousands, for a hundredth of the money.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from pipeline.plan.states import BROUGHT_NONE, may_retry

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping

    from pipeline.job.language import Job
    from pipeline.journal import Batch, Journal

MOST = 20
"""Requests in the first batch for a model that has never delivered an image in this journal, at this service.

Few enough to lose without regret; enough to tell a model that draws nothing from a request that it will not draw.
"""
_ABANDONED_S = 3600.0
"""A batch of another job that was planned, and not sent for so long, is that of a killed run."""
_OVER_S = 72 * 3600.0
"""A batch of another job that was sent so long ago is over at the service, whether or not anybody asks for it."""


def count(job: Job) -> int:
    """How many requests of a job go ahead."""
    return min(MOST, job.batch.max_requests)


def under_way(journal: Journal, job: Job, service: str, model_id: str, now: float) -> Batch | None:
    """The batch for a model that is waited for, whichever job it is of; `None` when the next one may be made."""
    return journal.firsts.under_way(
        service, model_id, job=job.name, planned_after=now - _ABANDONED_S, sent_after=now - _OVER_S
    )


def hold_back(
    journal: Journal,
    job: Job,
    service: str,
    now: float,
    models: Collection[str] | None = None,
    left_alone: Callable[[str], bool] = lambda _key: False,
) -> Mapping[str, int]:
    """Hold what waits behind first requests that came home without an image and are not asked again by themselves.

    Of all models, or of these alone; returns how many requests that were, by model. A person has to decide about them.
    What is `left_alone`, by its key, is not asked again either.
    """
    held: dict[str, int] = {}
    for model_id in journal.firsts.untried(job.name):
        if models is None or model_id in models:
            reason = _why_not(journal, job, service, model_id, now, left_alone)
            if reason:
                with journal.transaction():
                    held[model_id] = journal.firsts.hold(job.name, model_id, reason)
                    journal.note(job.name, "held back", model=model_id, requests=held[model_id], why=reason)
    return held


def has_to_hold(journal: Journal, job: Job, service: str, now: float) -> bool:
    """Whether `hold_back` would hold anything."""
    nobody = frozenset[str]().__contains__
    return any(_why_not(journal, job, service, one, now, nobody) for one in journal.firsts.untried(job.name))


def _why_not(
    journal: Journal, job: Job, service: str, model_id: str, now: float, left_alone: Callable[[str], bool]
) -> str:
    """Why nothing more is asked of a model by itself; empty while there is hope."""
    if journal.firsts.has_delivered(service, model_id) or under_way(journal, job, service, model_id, now):
        return ""
    brought: Counter[str] = Counter()
    for row in journal.firsts.tried(job.name, service, model_id):
        if row.status == "pending" or (may_retry(job, row.status, row) and not left_alone(row.key)):
            return ""
        brought[row.status] += 1
    if not brought:
        return ""
    words = ", ".join(f"{number:,} {word}" for word, number in brought.most_common())
    return (
        f"the first {brought.total():,} images for {model_id}{BROUGHT_NONE}{words}): look at them with"
        f" `pipeline ls items --job {job.name} --status {','.join(brought)}`;"
        " `pipeline retry --only held` sends the rest all the same"
    )
