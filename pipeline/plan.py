"""What a run would do: the wanted requests compared with what is recorded; why, and for how much money.

Nothing is sent and no file of the job is touched here; what was compared stays in `Journal.wanted` for the run.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from pipeline import outputs, record
from pipeline.gemini import prices
from pipeline.journal import Classified, WantedRequest
from pipeline.record import HAS_IMAGE

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from datetime import date

    from pipeline.gemini.models import Models
    from pipeline.job.expand import Request
    from pipeline.job.language import Job
    from pipeline.journal import Comparison, Journal
    from pipeline.journal.wanted import Total
    from pipeline.outputs import Tree

MICRO = 1_000_000
_TYPICAL_ANSWER = 1_500_000
_MANY_GONE = 20
_EDITED = "its file was edited: it stays as it is"


@dataclass(frozen=True, slots=True)
class Plan:
    """A job compared with its records. Money in millionths of a USD, at batch price."""

    job: str
    counts: dict[str, int]
    """new, changed, done, gone, edited, frozen, moved, pending, failed"""
    totals: tuple[Total, ...]
    """What would be bought, by model and settings."""
    batches: int
    gone_now: int
    """Done images that the last run still wanted and this one does not."""
    gone_value: int
    asked_before: int
    wanted: int
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
        return sum(total.input_bytes for total in self.totals)

    @property
    def is_drastic(self) -> bool:
        """So much is gone at once that it looks like a broken catalog."""
        shrunk = self.asked_before > 1 and self.wanted * 2 < self.asked_before
        return self.gone_now > _MANY_GONE or shrunk


def compare(
    journal: Journal,
    tree: Tree,
    job: Job,
    requests: Iterable[WantedRequest],
    *,
    service: str,
    reopened: frozenset[str] = frozenset(),
) -> Plan:
    """Compare what a job wants with what is recorded. Reads and hashes files that changed since they were published.

    `requests` come from `wanted`; requests whose status is in `reopened` are asked again whatever their attempts.
    Raises whatever reading the job raises, a `JobError` above all.
    """
    published, _census = _known(journal, job)
    problems = outputs.read_manifest(journal, tree, published=published)
    asked_before = journal.wanted.asked_before(job.name)
    wanted = journal.wanted.replace(requests)
    comparing = _Comparing(journal, tree, job, service, reopened)
    for page in journal.wanted.comparisons(job.name):
        journal.wanted.classify([comparing.classified(row) for row in page])
        with journal.transaction():
            tree.learn()
    return _summed(journal, job, wanted, asked_before, problems)


def _known(journal: Journal, job: Job) -> tuple[str | None, float | None]:
    with journal.transaction():
        return journal.job(job.name, str(job.path))


def _summed(journal: Journal, job: Job, wanted: int, asked_before: int, problems: list[str]) -> Plan:
    counts = dict.fromkeys(("new", "changed", "done", "gone", "edited", "frozen", "moved", "pending", "failed"), 0)
    counts.update(journal.wanted.counts())
    gone_now = gone_value = 0
    for _key, wanted_before, cost in journal.wanted.gone(job.name):
        counts["gone"] += 1
        if wanted_before:
            gone_now += 1
            gone_value += cost or 0
    totals = tuple(journal.wanted.totals())
    return Plan(
        job=job.name,
        counts=counts,
        totals=totals,
        batches=_batches(totals, job),
        gone_now=gone_now,
        gone_value=gone_value,
        asked_before=asked_before,
        wanted=wanted,
        problems=problems,
    )


def _batches(totals: Iterable[Total], job: Job) -> int:
    """How many batches these make, a batch holding one model's requests within the job's limits."""
    limits = job.batch
    models: dict[str, list[int]] = {}
    for total in totals:
        sums = models.setdefault(total.model_id, [0, 0, 0])
        for place, value in enumerate((total.requests, total.answer_bytes, total.input_bytes)):
            sums[place] += value
    return sum(
        max(
            -(-requests // limits.max_requests),
            -(-answer // limits.max_answer_bytes),
            -(-sent // limits.max_input_bytes),
        )
        for requests, answer, sent in models.values()
    )


def wanted(requests: Iterable[Request], models: Models, *, service: str, today: date) -> Iterator[WantedRequest]:
    """Each request as the journal keeps it: with its wire key, its price, its sizes and the draft of its record."""
    for request in requests:
        ask = request.ask
        model = models.find(ask.model)
        images = sum(image.bytes for image in ask.images)
        estimate = model and prices.estimate(
            model, today, size=ask.size, prompt_chars=prices.weight(ask.prompt), references=len(ask.images)
        )
        yield WantedRequest(
            key=request.key,
            fingerprint=request.fingerprint,
            wire_key=record.wire_key(request.key, request.fingerprint),
            model_id=model.id if model else ask.model,
            path=request.path,
            cost=int(estimate.amount * MICRO) if estimate else None,
            upper_bound=int(estimate.upper_bound * MICRO) if estimate else None,
            answer_bytes=_answer_bytes(model, ask.size),
            input_bytes=len(ask.prompt) + images * 4 // 3 + 300,
            line=record.dumps(record.draft(request, model_id=model.id if model else ask.model, service=service)),
        )


def _answer_bytes(model: Any, size: str) -> int:
    image = model.answer_bytes(size) if model and size in model.sizes else _TYPICAL_ANSWER
    return int(image) * 4 // 3 + 2000


class _Comparing:
    """Decides what each wanted request is; keeps which records were claimed by a moved request."""

    def __init__(self, journal: Journal, tree: Tree, job: Job, service: str, reopened: frozenset[str]) -> None:
        self._journal, self._tree, self._job, self._service = journal, tree, job, service
        self._reopened = reopened
        self._claimed: set[tuple[str, str]] = set()

    def classified(self, row: Comparison) -> Classified:
        state, why, buys, moved_from = self._state(row)
        return Classified(row.n, state, why, buys, moved_from)

    def _state(self, row: Comparison) -> tuple[str, str, bool, str | None]:
        if row.status is None or (row.status == "held" and not row.attempts):
            return self._unrecorded(row)
        if row.status in self._reopened and not self._is_edited(row):
            return *self._bought(row, f"was {row.status}: asked again"), None
        if row.status in HAS_IMAGE:
            return self._delivered(row)
        if row.status == "pending":
            return self._pending(row)
        if may_retry(self._job, row.status, row):
            return *self._bought(row, f"was {row.status}: asked again"), None
        return "failed", f"{row.status}: {json.loads(row.record_line or '{}').get('reason') or ''}", False, None

    def _pending(self, row: Comparison) -> tuple[str, str, bool, str | None]:
        if row.service == self._service and (row.batch is not None or row.claim is not None):
            return "pending", "on its way", False, None
        return *self._bought(row, ""), None

    def _delivered(self, row: Comparison) -> tuple[str, str, bool, str | None]:
        told = json.loads(row.record_line or "{}")
        if row.service != self._service and self._service == "gemini":
            return "changed", "made by the local service", True, None
        if row.place == "retired":
            condition = "edited" if self._is_covered(row) else "missing"
        else:
            condition = self._tree.condition(told["files"])
        if condition == "edited":
            return "edited", _EDITED, False, None
        if condition == "missing":
            return self._missing(row, told)
        if row.record_path != row.path:
            return "moved", f"from {row.record_path}", False, row.key
        return "done", "", False, None

    def _is_edited(self, row: Comparison) -> bool:
        """Whether a person has changed what was delivered for this very ask."""
        told = json.loads(row.record_line or "{}")
        return row.status in HAS_IMAGE and self._tree.condition(told["files"]) == "edited"

    def _missing(self, row: Comparison, told: dict[str, Any]) -> tuple[str, str, bool, str | None]:
        if foreign := self._tree.foreign(row.path):
            return "edited", _foreign(foreign), False, None
        if self._tree.is_retired(told):
            return "moved", "back from retired/", False, row.key
        if self._journal.batches.answer_of(self._job.name, row.fingerprint):
            return "moved", "its file is missing: written again from the kept answer", False, row.key
        return "new", "its file is missing", True, None

    def _unrecorded(self, row: Comparison) -> tuple[str, str, bool, str | None]:
        for key in self._journal.wanted.unclaimed(self._job.name, row.fingerprint):
            if (key, row.fingerprint) not in self._claimed and self._is_usable(key, row.fingerprint):
                self._claimed.add((key, row.fingerprint))
                if foreign := self._tree.foreign(row.path):
                    return "edited", _foreign(foreign), False, None
                return "moved", f"from {key}", False, key
        return *self._bought(row, ""), None

    def _is_usable(self, key: str, fingerprint: str) -> bool:
        """Whether a record that nobody claims can be taken over: its picture is there, or on its way."""
        found = self._journal.records.get(self._job.name, key, fingerprint)
        if found is None or (found.service != self._service and self._service == "gemini"):
            return False
        if found.status == "pending":
            return True
        told = json.loads(found.line)
        condition = self._tree.condition(told["files"]) if found.place == "tree" else "missing"
        if condition != "missing":
            return condition == "ok"
        kept = self._journal.batches.answer_of(self._job.name, fingerprint)
        return kept is not None or self._tree.is_retired(told)

    def _is_covered(self, row: Comparison) -> bool:
        """Whether what lies under a key for another ask was edited: it must not make room."""
        older = self._journal.records.older(self._job.name, row.key, row.fingerprint)
        return older is not None and self._tree.condition(json.loads(older.line)["files"]) == "edited"

    def _bought(self, row: Comparison, why: str) -> tuple[str, str, bool]:
        if self._is_covered(row):
            return "edited", _EDITED, False
        older = self._journal.records.older(self._job.name, row.key, row.fingerprint)
        told = json.loads(older.line) if older else None
        foreign = self._tree.foreign(row.path) if not told else None
        if foreign:
            return "edited", _foreign(foreign), False
        if told:
            return "changed", why or record.differences(told, json.loads(row.line)), True
        return "new", why, True


def _foreign(path: str) -> str:
    return f"{path} is there already and no record knows it: move it away, then run again"


def may_retry(job: Job, status: str, row: Any) -> bool:
    """Whether a failed request is asked again by itself; `row` has attempts, reopened, transient and expiries.

    Attempts are counted for ever, so that no cron line multiplies them.
    """
    if status == "skipped":
        return True
    if status not in job.retry.on or (status == "failed" and not row.transient):
        return False
    if status == "expired" and row.expiries > 1:
        return False
    return bool(row.attempts - row.reopened <= job.retry.again)
