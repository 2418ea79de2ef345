"""What a run would do: the wanted requests compared with what is recorded; why, and for how much money.

Nothing is sent and no file of the job is touched here; what was compared stays in `Journal.wanted` for the run.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from pipeline import outputs
from pipeline.plan import firsts
from pipeline.plan.choice import chosen
from pipeline.plan.conversations import connect
from pipeline.plan.estimates import MICRO, wanted
from pipeline.plan.otherwise import Again, ask_otherwise, price_otherwise
from pipeline.plan.states import Comparing, Look, duration, give_way, may_retry
from pipeline.selection import Facts

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from pipeline.job.language import Job
    from pipeline.journal import Journal, WantedRequest
    from pipeline.journal.asks import Load, Total
    from pipeline.outputs import Tree
    from pipeline.selection import Selection

__all__ = [
    "MICRO", "MOST_INLINE", "Again", "Look", "Plan", "Stuck", "alone", "chosen", "compare", "compare_again", "duration",
    "give_way", "may_retry", "narrowed", "wanted",
]  # fmt: skip

_MANY_GONE = 20
MOST_INLINE = 4_000_000
"""Bytes of a reference image that goes along with the one request that shows it; a larger one is uploaded."""


@dataclass(frozen=True, slots=True)
class Stuck:
    """What becomes of a batch that does not come home in time. Money in millionths of a USD."""

    deadline_s: float
    on_stuck: str
    asks_again: bool
    """Whether the job's `retry` has what is missing then asked for once more."""
    cost: int | None = None
    """Of asking one by one for all that may be in such a batch; `None` where nobody does, or the price is unknown."""
    upper_bound: int | None = None

    @property
    def asks_singly(self) -> bool:
        """Whether anything may be asked for one by one, at whatever price."""
        return self.on_stuck == "interactive" and self.cost != 0


@dataclass(frozen=True, slots=True)
class Wave:
    """What can be sent together, once the wave before it has come home; money in millionths of a USD."""

    number: int
    first_turn: int
    last_turn: int
    requests: int
    cost: int
    upper_bound: int
    input_bytes: int


@dataclass(frozen=True, slots=True)
class Plan:
    """A job, or what is selected of it, compared with its records. Money in millionths of a USD, as it is looked at."""

    job: str
    counts: dict[str, int]
    """new, changed, done, gone, edited, frozen, moved, pending, failed"""
    totals: tuple[Total, ...]
    """What would be bought, by model, aspect, size and what else has a price."""
    batches: int
    by_wave: tuple[Wave, ...]
    """What would be bought, by the wave it is sent in: a turn can be sent when the one before is back."""
    gone_now: int
    """Done images that the last run still wanted and this one does not."""
    gone_value: int
    asked_before: int
    wanted: int
    stuck: Stuck
    alone: Mapping[str, int] = field(default_factory=dict)
    """The models whose first requests go ahead alone, and how many these are: they have not delivered here yet."""
    upload_bytes: int = 0
    """Of reference images that are sent once, as files."""
    problems: list[str] = field(default_factory=list)

    @property
    def requests(self) -> int:
        return sum(total.requests for total in self.totals)

    @property
    def cost(self) -> int:
        return sum(total.cost for total in self.totals)

    @property
    def upper_bound(self) -> int:
        return sum(total.upper_bound for total in self.totals)

    @property
    def unpriced(self) -> int:
        return sum(total.unpriced for total in self.totals)

    @property
    def input_bytes(self) -> int:
        """What is sent: request files, and reference images that are files of their own."""
        return sum(total.input_bytes for total in self.totals) + self.upload_bytes

    @property
    def waves(self) -> int:
        """How often batches must come home until all of it is there."""
        return self.by_wave[-1].number if self.by_wave else 0

    @property
    def is_empty(self) -> bool:
        """Whether nothing is asked for and nothing is gone."""
        return not (self.wanted or self.counts["gone"])

    @property
    def is_drastic(self) -> bool:
        """So much is gone at once that it looks like a broken catalog."""
        shrunk = self.asked_before > 1 and self.wanted * 2 < self.asked_before
        return self.gone_now > _MANY_GONE or shrunk


_STATES = ("new", "changed", "done", "gone", "edited", "frozen", "moved", "pending", "failed")


@dataclass(slots=True)
class Counted:
    """How many requests are in which state, and what is gone of them; money in millionths of a USD."""

    counts: dict[str, int]
    gone_now: int = 0
    gone_value: int = 0
    asked_before: int = 0

    def note_gone(self, cost: int | None, *, is_now: bool) -> None:
        """Count an image that is no longer asked for, and was in the last run if `is_now`."""
        self.counts["gone"] += 1
        if is_now:
            self.gone_now += 1
            self.gone_value += cost or 0


def compare(
    journal: Journal, tree: Tree, job: Job, requests: Iterable[WantedRequest], look: Look, again: Again | None = None
) -> Plan:
    """Compare what a job wants with what is recorded. Reads and hashes files that changed since they were published.

    `requests` come from `wanted`. What the selection leaves out is compared, too, and then left as it is.
    `again` is for what is asked with other settings than the job's. Raises whatever reading the job raises, a
    `JobError` above all.
    """
    published, _census = _known(journal, job)
    problems = outputs.read_manifest(journal, tree, published=published)
    journal.wanted.replace(requests)
    return _compared(journal, tree, job, look, again, problems)


def compare_again(journal: Journal, tree: Tree, job: Job, look: Look) -> Plan:
    """Compare what a job wanted when it was last compared with what is recorded by now."""
    published, _census = _known(journal, job)
    problems = outputs.read_manifest(journal, tree, published=published)
    journal.others.take_in()
    return _compared(journal, tree, job, look, None, problems)


def _compared(
    journal: Journal, tree: Tree, job: Job, look: Look, again: Again | None, problems: list[str]
) -> Plan:  # fmt: skip
    journal.outside.replace(())
    if look.selection:
        # It goes by what things are now, not by what is to be done about them.
        _classify(journal, tree, job, replace(look, reopened=frozenset(), force=False))
        journal.outside.replace(_left_out(journal, job, look.selection))
    if not look.selection or look.reopened or look.force:
        _classify(journal, tree, job, look)
    journal.wanted.leave_outside()
    connect(journal, tree.turns(look.service))
    if again is not None:
        ask_otherwise(journal, job, look, again)
        price_otherwise(journal, job, look, again)
    if job.batch.asks_singly and look.lane == "batch":
        journal.late.ask_singly(job.name)
    return _summed(journal, job, problems, lambda loads: alone(journal, job, look, loads))


def narrowed(journal: Journal, job: Job, plan: Plan, keys: Iterable[str], bought: Iterable[str]) -> Plan:
    """The plan for some of what would be bought, and for nothing else: the rest is left as it is.

    What is named in `bought` as well has its answer here already, from an earlier proof, and costs nothing more.
    """
    journal.outside.all_but(job.name, keys)
    journal.wanted.leave_outside()
    journal.wanted.have(bought, said="from an earlier proof")
    return _summed(journal, job, plan.problems, lambda _loads: plan.alone)


def _classify(journal: Journal, tree: Tree, job: Job, look: Look) -> None:
    """Say what each request inside is; where nothing is there, it is new, and the table says so already."""
    if tree.is_untouched():
        return
    comparing = Comparing(journal, tree, job, look)
    for page in journal.wanted.comparisons(job.name):
        journal.wanted.classify(comparing.classified(page))
        with journal.transaction():
            tree.learn()


def _known(journal: Journal, job: Job) -> tuple[str | None, float | None]:
    with journal.transaction():
        return journal.job(job.name, str(job.path))


def _left_out(journal: Journal, job: Job, selection: Selection) -> Iterator[str]:
    """The keys outside a selection: of requests, and of records that nobody asks for any more."""
    for key, line, state, status in journal.wanted.facts(job.name):
        if not selection.takes(Facts(key, line, job.tags, state, status)):
            yield key
    is_gone = "NOT EXISTS (SELECT 1 FROM wanted w WHERE w.key = r.key)"
    for key, line, status in journal.records.newest(job.name, is_gone):
        if not selection.takes(Facts(key, line, job.tags, "gone", status)):
            yield key


def alone(journal: Journal, job: Job, look: Look, loads: Iterable[Load]) -> Mapping[str, int]:
    """The models of which a first batch would be made, and the rest of what is asked of them after it.

    By model, how many requests are in the first one: where some were tried already, these and no others.
    """
    found: dict[str, int] = {}
    for load in sorted(loads, key=lambda load: load.model_id):
        model_id, most = load.model_id, firsts.count(job)
        if "held" in look.reopened or load.singly or load.wave > 1:
            continue
        if load.requests < 2 or journal.firsts.has_delivered(look.service, model_id):  # noqa: PLR2004 - none would wait
            continue
        first = min(journal.firsts.again(job.name, look.service, model_id), most) or most
        if load.requests > first and not firsts.under_way(journal, job, look.service, model_id, look.now):
            found[model_id] = first
    return found


def _stuck(journal: Journal, job: Job) -> Stuck:
    limits, asks_again = job.batch, bool(job.retry.again and "expired" in job.retry.on)
    if not limits.asks_singly:
        return Stuck(limits.deadline_s, limits.on_stuck, asks_again)
    cost, upper_bound, unpriced = journal.late.total() if asks_again else (0, 0, 0)
    if unpriced:
        return Stuck(limits.deadline_s, limits.on_stuck, asks_again)
    return Stuck(limits.deadline_s, limits.on_stuck, asks_again, cost, upper_bound)


def _summed(
    journal: Journal, job: Job, problems: list[str], alone_of: Callable[[Iterable[Load]], Mapping[str, int]]
) -> Plan:
    counted = Counted(dict.fromkeys(_STATES, 0) | journal.wanted.counts())
    for _key, _path, _model, wanted_before, cost in journal.wanted.gone(job.name):
        counted.note_gone(cost, is_now=bool(wanted_before))
    counted.asked_before = journal.wanted.asked_before(job.name)
    return priced(journal, job, problems, counted, alone_of)


def priced(
    journal: Journal, job: Job, problems: list[str], counted: Counted,
    alone_of: Callable[[Iterable[Load]], Mapping[str, int]],
) -> Plan:  # fmt: skip
    """The plan for what is open of what is wanted, whose states were counted."""
    counts = counted.counts
    upload_bytes = journal.wanted.share(MOST_INLINE)
    totals, loads = tuple(journal.wanted.totals()), journal.wanted.loads()
    alone = alone_of(loads)
    return Plan(
        job=job.name,
        counts=counts,
        totals=totals,
        batches=_batches((load for load in loads if not load.singly), job, alone),
        by_wave=tuple(_waves(loads)),
        gone_now=counted.gone_now,
        gone_value=counted.gone_value,
        asked_before=counted.asked_before,
        wanted=sum(counts.values()) - counts["gone"],
        stuck=_stuck(journal, job),
        alone=alone,
        upload_bytes=upload_bytes,
        problems=problems,
    )


def _waves(loads: Iterable[Load]) -> Iterator[Wave]:
    for number, group in itertools.groupby(loads, lambda load: load.wave):
        same = list(group)
        yield Wave(
            number,
            min(load.first_turn for load in same),
            max(load.last_turn for load in same),
            sum(load.requests for load in same),
            sum(load.cost for load in same),
            sum(load.upper_bound for load in same),
            sum(load.input_bytes for load in same),
        )


def _batches(loads: Iterable[Load], job: Job, alone: Mapping[str, int]) -> int:
    """How many batches these make, a batch holding one model's requests of one wave within the job's limits."""
    limits, batches = job.batch, 0
    for load in loads:
        requests, part = load.requests, 1.0
        first = alone.get(load.model_id, 0) if load.wave == 1 else 0
        if 0 < first < requests:
            batches, requests, part = batches + 1, requests - first, 1 - first / requests
        batches += max(
            -(-requests // limits.max_requests),
            -int(-load.answer_bytes * part // limits.max_answer_bytes),
            -int(-load.input_bytes * part // limits.max_input_bytes),
        )
    return batches
