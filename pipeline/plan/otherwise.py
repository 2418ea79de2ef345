"""What is asked with other settings than its job's: what `retry --set` opens again, until it has an outcome."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pipeline.job.change import as_recorded
from pipeline.record import otherwise

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from pipeline.job.change import Changing
    from pipeline.job.expand import Request
    from pipeline.job.language import Job
    from pipeline.journal import Journal, WantedRequest
    from pipeline.plan.states import Look


@dataclass(frozen=True, slots=True)
class Again:
    """How the requests of a job are gone through once more."""

    requests: Callable[[], Iterable[Request]]
    priced: Callable[[Iterable[Request]], Iterable[WantedRequest]]
    changing: Changing | None
    """The settings of this call, for what it opens again."""


def ask_otherwise(journal: Journal, job: Job, look: Look, again: Again) -> None:
    """Give what is not asked as the manifest says the line, the price and the sizes of what is asked instead.

    That is what this call opens again, where it has settings of its own; and what an earlier one had opened with its
    own, and that was never sent. Raises a `JobError` where a model cannot do what the settings of this call say.
    """
    if again.changing is None and not journal.wanted.goes_on_otherwise(job.name, look.service):
        return
    journal.wanted.ask_instead(again.priced(_changed(journal, job, look, again)))
    if again.changing is not None:
        again.changing.check()


def price_otherwise(journal: Journal, job: Job, look: Look, again: Again) -> None:
    """Price what is on its way with other settings than the job's as that, should it be asked for one by one."""
    if job.batch.asks_singly and look.lane == "batch" and journal.late.is_otherwise(job.name):
        journal.late.price(again.priced(_on_its_way(journal, job, again)))


def _on_its_way(journal: Journal, job: Job, again: Again) -> Iterator[Request]:
    for request in again.requests():
        line = journal.late.on_its_way(job.name, request.key)
        if line is not None:
            yield as_recorded(request, json.loads(line))


def _changed(journal: Journal, job: Job, look: Look, again: Again) -> Iterator[Request]:
    for request in again.requests():
        known = journal.wanted.reopened(job.name, request.key)
        if known is None:
            continue
        if known.status in look.reopened:
            if again.changing is not None:
                yield again.changing.changed(request)
        elif (
            known.status == "pending" and known.batch is None and known.claim is None and known.service == look.service
        ):
            told = json.loads(known.line)
            if otherwise(told, model=request.ask.model, settings=request.ask.settings()):
                yield as_recorded(request, told)
