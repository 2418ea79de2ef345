"""One idempotent pass, and the loop around it: adopt → poll → collect → ask again → send. `calls` asks one by one.

Whatever state a killed run left, the same pass goes on from there. The order inside a create is the promise never
to pay twice: the batch is in the journal, durably, before its one POST; what has an unknown fate is looked for at
the service before its requests may be sent again.

What may be sent is `turns`' to say (a turn waits for the one before) and `ahead`'s (a few requests before the rest, for
a model that has never delivered). `stuck` cancels what takes too long, `singly` asks for what is left of it one by one.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from pipeline.errors import PipelineError, ServiceError, UnfinishedError
from pipeline.gemini.api import UnheardError
from pipeline.journal.batches import UNFINISHED
from pipeline.outputs import write_manifest, write_sidecars
from pipeline.reconcile import adopt, ahead, calls, collect, news, recover, room, send, singly, turns
from pipeline.reconcile.move import apply
from pipeline.reconcile.rest import is_at_rest, is_known, may_rest, tidy_from
from pipeline.reconcile.run import Progress, Run, Work, progress, vanishing
from pipeline.reconcile.tidy import tidy

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from pipeline.journal import Batch

__all__ = [
    "Progress", "Run", "Work", "apply", "finish", "is_at_rest", "is_known", "may_rest", "passes", "progress",
    "reconcile", "tidy", "tidy_from", "vanishing",
]  # fmt: skip

_FAILING_PASSES = 5


def reconcile(run: Run, work: Work) -> Progress:
    """Make one pass over a job.

    Raises what stops the job: `LocalError`; `UnfinishedError` or `ServiceError` when nothing of the pass went well.
    """
    run.creates_stopped, run.is_full = "", False
    run.seen.clear()
    run.undelivered.clear()
    calls.settle(run, work)
    adopt.claim(run, work)
    if adopt.is_census_due(work):
        adopt.census(run, work)
    adopt.settle_uncertain(run, work)
    recover.search(run, work)
    steps = _Steps(run, work)
    steps.take(collect.revive, "held")
    news.look(run, work)
    steps.take(collect.poll, "live")
    _bring_home(run, work, steps)
    went_well = steps.went_well
    if recover.look_again(run, work):
        _bring_home(run, work, steps, fetches=False)
    adopt.look_for_doubled(run, work)
    troubles = steps.troubles
    stops = troubles[0] if troubles and not went_well else None
    if isinstance(stops, UnfinishedError):
        raise stops
    _send(run, work)
    if run.is_full:
        finish(work)
        tidy(run, work)
    if stops is not None:
        raise stops
    for trouble in troubles:
        run.tell("trouble", job=work.job.name, why=str(trouble))
    return progress(work)


def _send(run: Run, work: Work) -> None:
    """Open what is asked again and send what is open, as far as the call may; hold what nobody should pay for."""
    if work.sends:
        send.ask_again(work)
        turns.go_on(work)
    ahead.hold_back(run, work)
    if not work.sends:
        return
    told, work.no_room = work.no_room, None
    try:
        send.send_open(run, work)
        singly.ask_singly(run, work)
    except room.NoRoomError as error:  # what is on its way has its room, and comes home first
        work.no_room = error
        if told is None and work.batches(*UNFINISHED):
            run.tell("no_room", job=work.job.name, why=str(error))


class _Steps:
    """Steps with one batch each, of a pass over a job; one that goes wrong keeps no other batch from coming home."""

    def __init__(self, run: Run, work: Work) -> None:
        self._run, self._work = run, work
        self._in_a_row: Counter[str] = Counter()
        self.went_well = 0
        self.troubles: list[ServiceError | UnfinishedError] = []

    def take(self, step: Callable[[Run, Work, Batch], None], state: str) -> None:
        """Take a step with every batch in a state."""
        for batch in _in_turn(self._work, state):
            if not self.went_on(step, batch):
                break

    def went_on(self, step: Callable[[Run, Work, Batch], None], batch: Batch) -> bool:
        """Take a step, and say whether it is worth while with others: after five in a row it is not the batch.

        The next pass begins with the others.
        """
        name = step.__name__
        try:
            step(self._run, self._work, batch)
            self.went_well += 1
            self._in_a_row[name] = 0
        except (ServiceError, UnfinishedError) as trouble:
            self.troubles.append(trouble)
            self._run.heed(trouble)
            self._in_a_row[name] += 1
            self._work.troubled.add(batch.id)
            if batch.state == "live" and isinstance(trouble, ServiceError) and not isinstance(trouble, UnheardError):
                collect.doubt(self._run, self._work, batch, str(trouble))
        return self._in_a_row[name] < _FAILING_PASSES


def _in_turn(work: Work, *states: str) -> list[Batch]:
    """The batches in these states, those last that something is wrong with."""
    return sorted(work.batches(*states), key=lambda one: one.trouble_at is not None or one.id in work.troubled)


def _bring_home(run: Run, work: Work, steps: _Steps, *, fetches: bool = True) -> None:
    """Fetch and unpack the answers that there are, in their order: each is unpacked while the next one comes down."""
    batches = _in_turn(work, "ended", "fetched") if fetches else _in_turn(work, "fetched")
    try:
        with collect.downloads(run, [one for one in batches if one.state == "ended"]) as ahead:

            def fetch(run: Run, work: Work, batch: Batch) -> None:
                collect.fetch(run, work, batch, ahead)

            unpacks = True
            for one in batches:
                if one.state == "ended" and fetches:
                    fetches = steps.went_on(fetch, one)
                batch = work.journal.batches.by_id(one.id)
                if batch.state == "fetched" and unpacks:
                    if fetches:
                        ahead.begin()
                    unpacks = steps.went_on(collect.unpack_answer, batch)
    except PipelineError:
        collect.settle(run, work)  # whatever it is, what is here is here
        raise
    collect.settle(run, work)


def finish(work: Work) -> bool:
    """Publish the sidecars, where the job has them, and the output manifest; returns whether that one changed.

    Call it once a command is done with a job.
    """
    write_sidecars(work.journal, work.tree, wanted=work.job.sidecar)
    return write_manifest(work.journal, work.tree)


def passes(run: Run, works: list[Work], *, wait_s: float, poll_s: float) -> Iterator[list[Progress]]:
    """Reconcile jobs until nothing of them is open or the wait is over; yields where they stand after each pass.

    The wait is over by the clock, which goes on while the machine sleeps, or by what was slept, should it be set back.
    Trouble with the network costs time only; after five failing passes in a row it is raised. A job that a person
    must look at is left alone, the others go on, and its error is raised in the end. So it is where the disk has no
    room for more: what is on its way comes home before that.
    """
    end, pause, failing = _End(run, wait_s), poll_s, 0
    before: list[Progress] = []
    while True:
        trouble = _pass(run, [work for work in works if work.stopped is None])
        failing = failing + 1 if trouble is not None else 0
        if trouble is not None and (failing >= _FAILING_PASSES or not end.left_s):
            raise trouble
        now = [progress(work) for work in works]
        yield now
        over = all(work.stopped or _is_over(work, step) for work, step in zip(works, now, strict=True))
        if (over and not failing) or not end.left_s:
            break
        # News make the next look come soon; silence makes it come later, up to ten times the first pause.
        pause = poll_s if now != before else min(pause * 1.5, poll_s * 10)
        before = now
        end.sleep(max(pause, run.asked_pause_s))
    for work in works:
        if error := work.no_room or work.stopped:
            raise error


class _End:
    """The end of a wait."""

    def __init__(self, run: Run, wait_s: float) -> None:
        self._clock, self._at, self._unslept_s = run.clock, run.clock.time() + wait_s, wait_s

    @property
    def left_s(self) -> float:
        """How long it is until then."""
        return max(0.0, min(self._unslept_s, self._at - self._clock.time()))

    def sleep(self, seconds: float) -> None:
        """Sleep so long, or until then."""
        seconds = min(seconds, self.left_s)
        self._unslept_s -= seconds
        self._clock.sleep(seconds)


def _pass(run: Run, works: list[Work]) -> UnfinishedError | None:
    """One pass over each job; returns the trouble when every one of them had some."""
    troubles: list[UnfinishedError] = []
    run.asked_pause_s = 0.0
    for work in works:
        try:
            reconcile(run, work)
        except ServiceError as error:
            work.stopped = error
            if len(works) > 1:
                run.tell("stopped", job=work.job.name, why=str(error))
        except UnfinishedError as error:
            troubles.append(error)
            run.heed(error)
            run.tell("trouble", job=work.job.name, why=str(error))
    running = [work for work in works if work.stopped is None]
    return troubles[0] if troubles and len(troubles) == len(running) else None


def _is_over(work: Work, step: Progress) -> bool:
    """Whether another pass has nothing to wait for; one that sends nothing does not wait for what is unsent."""
    return step.is_finished if work.sends and work.no_room is None else not step.live
