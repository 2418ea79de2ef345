"""One idempotent pass, and the loop around it: adopt → poll → collect → ask again → send.

Whatever state a killed run left, the same pass goes on from there. The order inside a create is the promise never
to pay twice: the batch is in the journal, durably, before its one POST; what has an unknown fate is looked for at
the service before its requests may be sent again.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pipeline.errors import ServiceError, UnfinishedError
from pipeline.outputs import write_manifest
from pipeline.reconcile import adopt, collect, send
from pipeline.reconcile.move import apply
from pipeline.reconcile.run import Progress, Run, Work, progress

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from pipeline.journal import Batch

__all__ = ["Progress", "Run", "Work", "apply", "finish", "passes", "progress", "reconcile"]

_FAILING_PASSES = 5


def reconcile(run: Run, work: Work) -> Progress:
    """Make one pass over a job. Raises what stops the whole run: `ServiceError`, `LocalError`, `UnfinishedError`."""
    run.creates_stopped = ""
    adopt.claim(run, work)
    if adopt.is_census_due(work):
        adopt.census(run, work)
    adopt.settle_uncertain(run, work)
    _each(run, work, "live", collect.poll)
    _each(run, work, "ended", collect.fetch)
    _each(run, work, "fetched", collect.unpack_answer)
    if work.sends:
        send.ask_again(work)
        send.send_open(run, work)
    return progress(work)


def _each(run: Run, work: Work, state: str, step: Callable[[Run, Work, Batch], None]) -> None:
    """Take a step with every batch in a state; one that goes wrong keeps no other from coming home.

    When all of them fail, or five in a row, it is not the batch: that is raised.
    """
    batches, troubles, in_a_row = work.batches(state), [], 0
    for batch in batches:
        try:
            step(run, work, batch)
            in_a_row = 0
        except (ServiceError, UnfinishedError) as trouble:
            troubles.append((batch, trouble))
            in_a_row += 1
            if in_a_row >= _FAILING_PASSES or len(troubles) == len(batches):
                raise
    for batch, error in troubles:
        if isinstance(error, ServiceError):
            collect.doubt(run, work, batch, str(error))
        run.tell("trouble", job=work.job.name, why=str(error))


def finish(work: Work) -> bool:
    """Publish the output manifest; returns whether it changed. Call it once a command is done with a job."""
    return write_manifest(work.journal, work.tree)


def passes(run: Run, works: list[Work], *, wait_s: float, poll_s: float) -> Iterator[list[Progress]]:
    """Reconcile jobs until nothing of them is open or the wait is over; yields where they stand after each pass.

    Trouble with the network costs time only; after five failing passes in a row it is raised.
    """
    end, pause, failing = run.clock.time() + wait_s, poll_s, 0
    before: list[Progress] = []
    while True:
        try:
            now = [reconcile(run, work) for work in works]
            failing = 0
        except UnfinishedError as error:
            failing += 1
            if failing >= _FAILING_PASSES or run.clock.time() >= end:
                raise
            run.tell("trouble", why=str(error))
            now = [progress(work) for work in works]
        yield now
        if all(_is_over(work, step) for work, step in zip(works, now, strict=True)) and not failing:
            return
        if run.clock.time() >= end:
            return
        # News make the next look come soon; silence makes it come later, up to ten times the first pause.
        pause = poll_s if now != before else min(pause * 1.5, poll_s * 10)
        before = now
        run.clock.sleep(max(0.0, min(pause, end - run.clock.time())))


def _is_over(work: Work, step: Progress) -> bool:
    """Whether another pass has nothing to wait for; one that sends nothing does not wait for what is unsent."""
    return step.is_finished if work.sends else not step.live
