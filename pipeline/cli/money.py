"""The questions about money: what must not be sent without a word is refused, or asked about."""

from __future__ import annotations

import os
import shlex
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING

import click

from pipeline.cli.screen import MICRO, Screen, plural, usd
from pipeline.cli.tables import plan_table, when_stuck
from pipeline.errors import JobError, RefusedError
from pipeline.journal.batches import UNFINISHED

if TYPE_CHECKING:
    from pipeline.cli.opening import OpenJob
    from pipeline.cli.options import Options
    from pipeline.errors import Problem
    from pipeline.gemini.models import Models
    from pipeline.gemini.prices import Lane
    from pipeline.job.change import Change

_FREE_HAND = MICRO  # $1: below this nobody is asked


@dataclass(frozen=True, slots=True)
class Call:
    """What one call of run, submit, collect, retry or proof may do."""

    sends: bool
    wait_s: float
    poll_s: float | None
    max_cost: int | None = None
    yes: bool = False
    fail_if_pending: bool = False
    reopened: frozenset[str] = frozenset()
    waits: bool = True
    force: bool = False
    recovers: bool = False
    lane: Lane = "batch"
    change: Change | None = None
    """The settings with which it asks for what it opens again."""


def gate(options: Options, jobs: list[OpenJob], call: Call, service: str, models: Models) -> None:
    """Refuse what must not be sent; ask where there is somebody to ask. Nothing is written before this is passed."""
    _refuse_pointers(jobs)
    for opened in jobs:
        _refuse_drastic(opened, yes=call.yes)
        if service == "local" and is_paid(opened):
            raise RefusedError(
                f"the job '{opened.job.name}' has images that were paid for; the local service would mix in its own",
                hint="rehearse elsewhere: --outputs outputs/rehearsal",
            )
    if service == "local":
        return
    for opened in jobs:
        _refuse_over_budget(opened, call)
    total = sum(opened.plan.cost for opened in jobs)
    unpriced = sum(opened.plan.unpriced for opened in jobs)
    _refuse_over_max_cost(total, call)
    if _is_small(jobs, call, total, unpriced) or not _ask(options, jobs, call, total, unpriced, models):
        for opened in _late(jobs, call):
            Screen(options).say(f"{opened.job.name}: {when_stuck(opened.plan)}")


def _is_small(jobs: list[OpenJob], call: Call, total: int, unpriced: int) -> bool:
    """Whether nobody is asked about this, what may be bought later included."""
    late = [opened.plan.stuck.cost for opened in _late(jobs, call)]
    return not unpriced and None not in late and total + sum(cost or 0 for cost in late) <= _FREE_HAND


def _late(jobs: list[OpenJob], call: Call) -> list[OpenJob]:
    """The jobs that may ask for something once more, at another price, when a batch does not come home."""
    return [opened for opened in jobs if opened.plan.stuck.asks_singly and call.lane == "batch"]


def is_paid(opened: OpenJob) -> bool:
    """Whether the job has images, or batches on their way, that cost money."""
    journal, job = opened.journal, opened.job.name
    lanes = ("batch", "interactive")
    under_way = any(journal.batches.of(job, "gemini", *UNFINISHED, lane=lane) for lane in lanes)
    return under_way or bool(journal.records.images(job))


def _ask(options: Options, jobs: list[OpenJob], call: Call, total: int, unpriced: int, models: Models) -> bool:
    """Ask whether all this may be sent; returns whether somebody was there, and has seen what it is."""
    bounded = call.max_cost is not None or all(opened.job.budget is not None for opened in jobs)
    if call.yes:
        return False
    late = sum(opened.plan.stuck.upper_bound or 0 for opened in _late(jobs, call))
    more = f", and up to {usd(late)} more for what does not come home in time" if late else ""
    if sys.stdin.isatty() and sys.stderr.isatty():
        for opened in jobs if call.lane == "batch" else ():  # a proof shows what it costs in any case
            click.echo(plan_table(opened.plan, models, options.today, "gemini"), err=True)
        _agreed(f"Send this for about {usd(total)}{more}?")
        return True
    if not bounded:
        price = f"at least {usd(total)}, {unpriced} images without a known price" if unpriced else usd(total)
        raise RefusedError(
            f"this would cost {price}{more}, and nobody is there to be asked; nothing was sent",
            hint=f"say --yes, or bound it with `budget` in the job or --max-cost USD{_beforehand(jobs)}",
        )
    return False


def _beforehand(jobs: list[OpenJob]) -> str:
    """What to type first where there are images of a job, and a journal that never knew of any purchase."""
    new = [one for one in jobs if one.tree.folder.path.is_dir() and not one.journal.was_counted(one.job.name)]
    return f"; first `pipeline collect --recover {_typed(new[0])}` takes in what was bought before" if new else ""


def _typed(opened: OpenJob) -> str:
    return shlex.quote(os.path.relpath(opened.job.path))


def _refuse_pointers(jobs: list[OpenJob]) -> None:
    """Images of which only the Git LFS pointer is here compare well, and cannot be sent."""
    problems: list[Problem] = []
    for opened in jobs:
        try:
            opened.pointers.refuse(opened.journal.wanted.opened())
        except JobError as error:
            problems.extend(error.problems)
    if problems:
        raise JobError(problems)


def _refuse_drastic(opened: OpenJob, *, yes: bool) -> None:
    plan = opened.plan
    if plan.is_drastic and not yes:
        raise RefusedError(
            f"{plan.job} no longer asks for {plural(plan.gone_now, 'done image')} worth {usd(plan.gone_value)}: "
            f"{plan.wanted:,} requests now, {plan.asked_before:,} in the last run; nothing was sent",
            hint="is the catalog whole? if it is meant so, say --yes",
        )


def _refuse_over_budget(opened: OpenJob, call: Call) -> None:
    plan, job = opened.plan, opened.job
    limit, each = (None if usd_ is None else int(usd_ * MICRO) for usd_ in (job.budget, job.per_image))
    if plan.unpriced and any(bound is not None for bound in (limit, each, call.max_cost)):
        raise RefusedError(
            f"{plan.unpriced} images of the job '{plan.job}' have no known price, and an unknown price fits no budget",
            hint="name a model of `pipeline ls models`, or add its price with --models FILE",
        )
    if limit is not None and plan.cost > limit:
        raise RefusedError(
            f"the job '{plan.job}' would cost {usd(plan.cost)}, and its budget is {usd(limit)}; nothing was sent",
            hint="raise `budget`, or render less",
        )
    dearest = None if each is None else opened.journal.wanted.dearer(each)
    if dearest is not None and each is not None:
        key, cost = dearest
        raise RefusedError(
            f"{key!r} of the job '{plan.job}' would cost {usd(cost)}, and its `budget.per_image` is {usd(each)};"
            " nothing was sent",
            hint=f"a smaller `size`, another `model`, a higher limit, or without it: --exclude 'key:{key}'",
        )


def _refuse_over_max_cost(total: int, call: Call) -> None:
    if call.max_cost is not None and total > call.max_cost:
        raise RefusedError(
            f"this would cost {usd(total)}, and --max-cost is {usd(call.max_cost)}; nothing was sent",
            hint="raise --max-cost, or render less",
        )


def confirm(question: str, *, yes: bool) -> None:
    if yes:
        return
    if not sys.stdin.isatty():
        raise RefusedError("this needs a confirmation, and there is no terminal to ask at", hint="say --yes")
    _agreed(question)


def _agreed(question: str) -> None:
    if not click.confirm(question, err=True):
        raise RefusedError("not confirmed; nothing was sent")
