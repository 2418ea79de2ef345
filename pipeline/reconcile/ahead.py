"""The first few requests for a model that has never delivered here: what may be sent of it now, and what waits."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pipeline.plan import firsts, may_retry

if TYPE_CHECKING:
    from pipeline.journal import Record
    from pipeline.reconcile.run import Run, Work


def has_delivered(run: Run, work: Work, model_id: str) -> bool:
    """Whether a model has brought an image here, or a person wants it asked all the same; the journal is asked once."""
    if work.insists or model_id in run.delivered:
        return True
    if model_id not in run.undelivered:
        is_known = work.journal.firsts.has_delivered(run.service, model_id)
        (run.delivered if is_known else run.undelivered).add(model_id)
    return model_id in run.delivered


def must_wait(run: Run, work: Work, model_id: str) -> bool:
    """Whether another batch for a model has to come home first; says so once. In a transaction it stays true."""
    if has_delivered(run, work, model_id):
        return False
    ahead = firsts.under_way(work.journal, work.job, run.service, model_id, run.clock.time())
    if ahead is None:
        return False
    told = f"{work.job.name} {model_id} {ahead.name}"
    if told not in run.told:
        run.told.add(told)
        whose = "" if ahead.job == work.job.name else f" of the job '{ahead.job}'"
        run.tell("ahead", job=work.job.name, model=model_id, remote=ahead.remote or ahead.name, whose=whose)
    return True


def to_send(run: Run, work: Work, model_id: str) -> list[Record]:
    """The next requests of a model that may be in one batch now.

    Of one that has never delivered: a few, and once some have come home without an image, first what is asked again
    of these.
    """
    job, records = work.job, work.journal.records
    expired = not job.batch.asks_singly
    if has_delivered(run, work, model_id):
        return records.to_send(job.name, model_id, job.batch.max_requests, expired=expired)
    again: list[Record] = []
    for row in work.journal.firsts.tried(job.name, run.service, model_id):
        if row.waits_for is not None:  # a turn that is sent when the one before it is back
            continue
        if row.status == "pending" and (expired or not row.expiries):
            again.append(row)
        elif row.status == "pending" or (
            may_retry(job, row.status, row) and not work.journal.wanted.is_left_alone(row.key)
        ):
            return []  # it is asked for one by one first, or did not fit the budget: the next run asks again
    return again[: firsts.count(job)] or records.to_send(job.name, model_id, firsts.count(job), expired=expired)


def is_over_budget(run: Run, work: Work, model_id: str) -> bool:
    """Whether what must come first of a model did not fit the budget of this call: nothing more of it is sent then."""
    if has_delivered(run, work, model_id) or must_wait(run, work, model_id):
        return False
    statuses = {row.status for row in work.journal.firsts.tried(work.job.name, run.service, model_id)}
    return "skipped" in statuses and "pending" not in statuses  # what is asked for one by one may still bring an image


def hold_back(run: Run, work: Work) -> None:
    """Hold what waited behind first requests that this run has seen come home without an image."""
    if work.insists or not work.came_home:
        return
    # What was in a batch that was only found at the service may have been for any model.
    models = None if "" in work.came_home else work.came_home
    now = run.clock.time()
    left_alone = work.journal.wanted.is_left_alone
    for model_id, count in firsts.hold_back(work.journal, work.job, run.service, now, models, left_alone).items():
        run.tell("held_back", job=work.job.name, model=model_id, count=count)
    work.came_home.clear()
