"""What a run works with, what it works on, and where that stands."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from pipeline.gemini.wire import instant
from pipeline.journal.batches import UNFINISHED

if TYPE_CHECKING:
    import datetime as dt
    from collections.abc import Callable
    from contextlib import AbstractContextManager
    from pathlib import Path

    from pipeline.errors import ServiceError
    from pipeline.gemini.api import Api
    from pipeline.gemini.models import Models
    from pipeline.job.language import Job
    from pipeline.journal import Batch, Journal
    from pipeline.outputs import Tree
    from pipeline.pixels import PixelChecks
    from pipeline.reconcile.room import NoRoomError
    from pipeline.unpack import Unpacking

_SOON_S = 24 * 3600.0
_LONGEST_PAUSE_S = 3600.0


class Clock(Protocol):
    """The part of the `time` module a run uses, so that a test can live a day in a millisecond."""

    def time(self) -> float: ...
    def sleep(self, seconds: float, /) -> None: ...


@dataclass(slots=True)
class Run:
    """What a run works with."""

    api: Api
    models: Models
    service: str
    state: Path
    clock: Clock
    today: dt.date
    concurrent: int
    settle_s: float
    """How long the absence of a batch is not believed."""
    tell: Callable[..., None]
    """Called with a word and details whenever something happened."""
    shielded: Callable[[], AbstractContextManager[object]]
    """A block that a signal must not cut; the signal is heard at its end."""
    pixels: PixelChecks | None = None
    patience_s: float = 3600.0
    """How long an answer that makes no sense is asked for again before a person must look."""
    keep_remote_s: float = 86_400.0
    """How long a batch that is unpacked is left at the service."""
    seen: set[str] = field(default_factory=set)
    """Files at the service that this pass has looked at."""
    quiet: set[int] = field(default_factory=set)
    """Batches that this pass knows to be at work as they were."""
    is_full: bool = False
    """The service has no room for the next batch."""
    not_before: float = 0.0
    """No create before this time: the service wants fewer of them."""
    asked_pause_s: float = 0.0
    """How long the service wants to be left alone after this pass, at most an hour."""
    creates_stopped: str = ""
    rate_pause_s: float = 0.0
    told: set[str] = field(default_factory=set)
    """What is said once in a run, and was."""
    delivered: set[str] = field(default_factory=set)
    """Models that are known to have brought an image to this journal."""
    undelivered: set[str] = field(default_factory=set)
    """Models that this pass knows to have brought none."""
    max_cost: int | None = None
    """Millionths of a USD that all jobs of this call together may still commit; `None` for no limit."""

    def heed(self, trouble: Exception) -> None:
        """Remember how long the service wants to be left alone, where it says so."""
        asked_s = getattr(trouble, "retry_after_s", None) or 0.0
        self.asked_pause_s = max(self.asked_pause_s, min(asked_s, _LONGEST_PAUSE_S))


@dataclass(slots=True)
class Work:
    """One job in a run."""

    job: Job
    journal: Journal
    """Each job has a connection of its own, and with it what it wants."""
    tree: Tree
    state: Path
    service: str
    budget: int | None
    """Millionths of a USD that this call may still commit for the job; `None` for no limit."""
    each: int | None = None
    """Millionths of a USD that one image may cost; `None` for no limit."""
    sends: bool = True
    skipped: int = 0
    stopped: ServiceError | None = None
    """What a person must look at before this job goes on."""
    no_room: NoRoomError | None = None
    """Why nothing more of it is sent in this pass: its answers would not fit on the disk."""
    waits_for_space: bool = False
    """The service has no room for its next batch, which was told."""
    came_home: set[str] = field(default_factory=set)
    """Models of which something has its outcome since it was last looked at whether the rest may follow."""
    insists: bool = False
    """A person wants what is held sent all the same: nothing goes ahead alone."""
    committed: set[int] = field(default_factory=set)
    """The batches whose estimates this call has taken out of its budgets."""
    troubled: set[int] = field(default_factory=set)
    """Batches that something went wrong with in this call: the others come before them."""
    revived: set[int] = field(default_factory=set)
    """Batches that were held, and that the service was asked for once more in this call."""
    may_be_doubled: bool = False
    """A batch has ended, and since then the service was not asked whether there are two of one."""
    is_counted: bool = False
    """The service was asked for batches that the journal does not know."""
    is_searched: bool = False
    """Kept answers that the journal does not know were looked for."""
    has_looked_again: bool = False
    """The service was asked for the answers of images that are missing here."""
    unpacked: list[tuple[Batch, Unpacking]] = field(default_factory=list)
    """Batches whose answers are taken in, and that have not settled what these did not bring."""
    recovers: bool = False
    """A person wants everything looked for that a lost journal knew."""
    shown: str = ""
    """The job as a person types it, for words that say what to type next."""

    def batches(self, *states: str) -> list[Batch]:
        """The job's batches at this run's service in one of these states, oldest first."""
        return self.journal.batches.of(self.job.name, self.service, *states)


@dataclass(frozen=True, slots=True)
class Progress:
    """Where a job stands after a pass."""

    counts: dict[str, int]
    to_send: int
    """Requests that wait to be sent, those included that failed and will be asked again."""
    live: int
    """Batches that will still bring something, those included that are only planned."""
    held: int
    at_service: int
    """Of these, the ones that the service has, or may have."""

    @property
    def is_finished(self) -> bool:
        return not (self.to_send or self.live)


def progress(work: Work) -> Progress:
    """Where a job stands, by the journal alone."""
    return Progress(
        counts=work.journal.records.counts(work.job.name),
        to_send=work.journal.records.waiting(work.job.name)
        + work.journal.records.to_ask_again(work.job.name, work.job.retry.on, work.job.retry.again),
        live=len(work.batches(*UNFINISHED)),
        held=len(work.batches("held")),
        at_service=len(work.batches("intent", "live", "ended", "fetched")),
    )


def commit(run: Run, work: Work, cost: int) -> None:
    """Take what something is estimated to cost, in millionths of a USD, out of the budgets of this call."""
    if work.budget is not None:
        work.budget -= cost
    if run.max_cost is not None:
        run.max_cost -= cost


def give_up(run: Run, work: Work, batch: Batch, state: str, note: str) -> None:
    """Give a batch up that never existed at the service, and have its money back; inside a transaction."""
    work.journal.batches.release(batch, state, note=note)
    if batch.id in work.committed:
        work.committed.remove(batch.id)
        commit(run, work, -batch.cost)


def age_s(run: Run, batch: Batch) -> float:
    """How long the service has had a batch, in seconds."""
    return max(0.0, run.clock.time() - (batch.created_at or batch.planned_at))


def moment(run: Run, text: str) -> float:
    """A time of the service as our clock has it, never later than now; now for what is none."""
    now, at = run.clock.time(), instant(text)
    return now if at is None else min(now, at - (run.api.ahead_s or 0.0))


def vanishing(work: Work, now: float) -> list[Batch]:
    """The batches whose answers are not here, and may be gone at the service within a day."""
    found = work.batches("ended", "held")
    return [one for one in found if one.vanishes_at is not None and one.vanishes_at - now < _SOON_S]
