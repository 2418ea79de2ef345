"""What each wanted request is beside its records: new, changed, done, edited, moved, pending or failed; and why."""

from __future__ import annotations

import datetime as dt
import json
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from pipeline import jsontext, outputs, record
from pipeline.journal import Classified
from pipeline.journal.batches import FILE_MISSING
from pipeline.record import HAS_IMAGE
from pipeline.selection import EVERYTHING, Selection

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pipeline.gemini.prices import Lane
    from pipeline.job.language import Job
    from pipeline.journal import Comparison, Journal, Record
    from pipeline.outputs import Tree

_SOME = 200
"""Records that are taken apart at a time."""
_EDITED = "its file was edited: it stays as it is"
BROUGHT_NONE = " brought none ("
"""In the reason of a request that is held behind the first ones for its model, also in an output manifest."""
_NOT_KEPT = "its image is not kept any more"


@dataclass(frozen=True, slots=True)
class Look:
    """How a job is looked at."""

    service: str
    now: float
    """The time by which results are old; seconds since 1970."""
    selection: Selection = EVERYTHING
    reopened: frozenset[str] = frozenset()
    """Requests with these statuses are asked again, whatever their attempts."""
    force: bool = False
    """So is all that has an outcome, what somebody edited included."""
    lane: Lane = "batch"
    """How what is missing would be asked for, and so what it costs."""


class _Found:
    """A record that a request may have its result from; its line is taken apart where more than its files matters."""

    def __init__(self, status: str, line: str) -> None:
        self.status, self._line = status, line
        self.files = record.files(line)

    @cached_property
    def told(self) -> dict[str, Any]:
        told: dict[str, Any] = jsontext.loads(self._line)
        return told


class Comparing:
    """Decides what each wanted request is; keeps which records were claimed by a moved request."""

    def __init__(self, journal: Journal, tree: Tree, job: Job, look: Look) -> None:
        self._journal, self._tree, self._job, self._look = journal, tree, job, look
        self._turns = tree.turns(look.service)
        self._claimed: set[tuple[str, str]] = set()
        self._delivers: dict[str, bool] = {}
        """Whether a model has brought an image here, by its id."""

    def classified(self, page: Sequence[Comparison]) -> list[Classified]:
        """What each of these is; it is cheaper to ask for many at a time."""
        return [one for at in range(0, len(page), _SOME) for one in self._some(page[at : at + _SOME])]

    def _some(self, page: Sequence[Comparison]) -> list[Classified]:
        found = [None if row.status is None else _Found(row.status, row.record_line or "{}") for row in page]
        with self._tree.looking_at([file["path"] for one in found if one for file in one.files]):
            return [self._classified(row, one) for row, one in zip(page, found, strict=True)]

    def _classified(self, row: Comparison, found: _Found | None) -> Classified:
        if found is None:
            return self._elsewhere(row) or self._bought(row, "")
        if row.status == "held" and not row.attempts and not self._is_held_back(row, found):
            return self._elsewhere(row) or self._bought(row, "")
        if row.status in HAS_IMAGE:
            return self._delivered(row, found)
        if row.status == "pending" and self._is_on_its_way(row):
            return Classified(row.n, "pending", "on its way")
        return self._undelivered(row, found)

    def _is_held_back(self, row: Comparison, found: _Found) -> bool:
        """Whether the first images for its model brought none, and none has come since."""
        if BROUGHT_NONE not in (found.told.get("reason") or ""):
            return False
        model_id = json.loads(row.line)["model_id"]
        if model_id not in self._delivers:
            self._delivers[model_id] = self._journal.firsts.has_delivered(self._look.service, model_id)
        return not self._delivers[model_id]

    def _is_on_its_way(self, row: Comparison | Record) -> bool:
        return row.service == self._look.service and (row.batch is not None or row.claim is not None)

    # ------------------------------------------------------------------------- it was delivered before

    def _delivered(self, row: Comparison, found: _Found) -> Classified:
        if self._is_rehearsed(row):
            return Classified(row.n, "changed", "made by the local service", open=True, anew=True)
        condition = self._condition(row, found)
        foreign = self._foreign(row) if condition == "missing" else None
        if (condition == "edited" and not self._look.force) or foreign:
            return Classified(row.n, "edited", _foreign(foreign) if foreign else _EDITED)
        moves = condition == "ok" and row.record_path != row.path
        why, again = self._why_again(row, found), self._retried(row, found)
        if (why or again) and not (moves and self._foreign(row)):
            place = row.key if moves else None
            return Classified(row.n, "changed", why or again, open=True, moved_from=place, anew=bool(why))
        if condition == "missing" or (row.path and not found.files):  # it was not kept, and is to be by now
            return self._missing(row, found)
        if moves and row.path:
            return Classified(row.n, "moved", f"from {row.record_path}", moved_from=row.key)
        return self._not_kept(row) if not row.path else Classified(row.n, "done", "")

    def _not_kept(self, row: Comparison) -> Classified:
        """A turn that was answered and whose image is not kept: one of an earlier ask makes room all the same."""
        older = self._journal.records.older(self._job.name, row.key, row.fingerprint)
        if older is None or not (files := json.loads(older.line)["files"]):
            return Classified(row.n, "done", "")
        if self._tree.condition(files) == "edited":
            return Classified(row.n, "edited", _EDITED)
        return Classified(row.n, "moved", _NOT_KEPT, moved_from=row.key)

    def _condition(self, row: Comparison, found: _Found) -> str:
        if row.place == "retired":
            return "edited" if self._is_covered(row) else "missing"
        return self._tree.condition(found.files)

    def _missing(self, row: Comparison, found: _Found) -> Classified:
        if not row.path:
            return Classified(row.n, "moved", _NOT_KEPT, moved_from=row.key)
        if self._tree.is_retired(found.told):
            return Classified(row.n, "moved", "back from retired/", moved_from=row.key)
        if self._turns.has(row.key, row.fingerprint):
            why = f"its file is {'missing' if found.files else 'kept now'}: written from the kept answer"
            return Classified(row.n, "moved", why, moved_from=row.key)
        return Classified(row.n, "new", FILE_MISSING, open=True, anew=True)

    def _why_again(self, row: Comparison, found: _Found) -> str:
        """Why a result, or a failure, does not settle it; empty when it does."""
        if found.status in self._look.reopened:
            return f"was {found.status}: asked again"
        if found.status == "held":
            return ""  # a person decides
        if self._look.force:
            return "asked again by force"
        if row.max_age_s is not None and self._age_s(found) > row.max_age_s:
            age = duration(row.max_age_s)
            return f"older than {age}" if found.status in HAS_IMAGE else f"was {found.status}, more than {age} ago"
        return ""

    def _age_s(self, found: _Found) -> float:
        """How long ago an outcome came; 0 where nobody knows, so that nothing is bought for it."""
        try:
            return self._look.now - dt.datetime.fromisoformat(found.told["at"]).timestamp()
        except (TypeError, ValueError, OverflowError):
            return 0.0

    # ------------------------------------------------------------------------------------- it was not

    def _undelivered(self, row: Comparison, found: _Found) -> Classified:
        """What failed, or waits to be sent; an image of an earlier time may lie there all the same."""
        own = found.files
        if not (own or row.attempts) and (taken := self._elsewhere(row)):  # it waited, and was had under another key
            return taken
        is_astray = bool(own) and row.status != "pending" and self._is_astray(row, found)
        if own and not is_astray and not self._look.force and self._tree.condition(own) == "edited":
            return Classified(row.n, "edited", _EDITED)
        if self._is_rehearsed(row) and row.status != "pending":
            return self._bought(row, f"was {row.status} at the local service", anew=True, has_own=bool(own))
        again = self._asked_again(row, row, found, has_own=bool(own))
        return again._replace(moved_from=row.key) if is_astray and again.state != "edited" else again

    def _is_astray(self, row: Comparison, found: _Found) -> bool:
        """Whether an image of an earlier time is to lie elsewhere, and can."""
        is_elsewhere = outputs.base_of(found.told) != row.path or self._tree.condition(found.files) == "missing"
        return is_elsewhere and self._tree.is_retired(found.told)

    def _asked_again(
        self, row: Comparison, known: Comparison | Record, found: _Found, *, has_own: bool = False
    ) -> Classified:
        """What brought no image is asked for again if a person wants it, or if the job's retries are not used up."""
        if found.status == "pending" or (found.status == "missing" and not known.attempts):  # it was never sent
            return self._bought(row, "asked again" if has_own else "", has_own=has_own)
        if why := self._why_again(row, found):
            return self._bought(row, why, anew=True, has_own=has_own)
        if why := self._retried(known, found):
            return self._bought(row, why, has_own=has_own)
        return Classified(row.n, "failed", f"{found.status}: {found.told.get('reason') or ''}")

    def _retried(self, known: Comparison | Record, found: _Found) -> str:
        """Why it is asked again by itself; empty when it is not."""
        return f"was {found.status}: asked again" if may_retry(self._job, found.status, known) else ""

    def _elsewhere(self, row: Comparison) -> Classified | None:
        """A request whose ask is recorded under a key that nobody asks for any more; `None` where there is none."""
        for key in self._journal.wanted.unclaimed(self._job.name, row.fingerprint):
            known = self._journal.records.get(self._job.name, key, row.fingerprint)
            if known and (key, row.fingerprint) not in self._claimed and (found := self._usable(known)):
                self._claimed.add((key, row.fingerprint))
                return self._taken_over(row, known, found)
        return None

    def _taken_over(self, row: Comparison, known: Record, found: _Found) -> Classified:
        """A request whose ask was recorded under another key: the image moves, and so does the count of attempts."""
        key = known.key
        if found.status not in HAS_IMAGE and not (found.status == "pending" and self._is_on_its_way(known)):
            again = self._asked_again(row, known, found)
            if again.state == "failed":
                return again._replace(why=f"{again.why} (as {key})", moved_from=key)
            return again._replace(moved_from=key) if again.open else again
        if foreign := self._foreign(row):
            return Classified(row.n, "edited", _foreign(foreign))
        if found.status in HAS_IMAGE and (why := self._why_again(row, found)):
            return Classified(row.n, "changed", why, open=True, moved_from=key, anew=True)
        if found.status == "pending":
            return Classified(row.n, "pending", f"on its way, as {key}", moved_from=key)
        return Classified(row.n, "moved", f"from {key}", moved_from=key)

    def _is_rehearsed(self, row: Comparison | Record) -> bool:
        """Whether what is recorded is the local service's, and this look is about the paid one."""
        return row.service != self._look.service and self._look.service == "gemini"

    def _usable(self, row: Record) -> _Found | None:
        """A record that nobody claims, if it can be taken over: its picture is there, or on its way, or never came."""
        if self._is_rehearsed(row):
            return None
        found = _Found(row.status, row.line)
        if row.status not in HAS_IMAGE:
            return found
        if row.place == "tree" and self._tree.condition(found.files) == "ok":
            return found
        # What somebody edited stays where it is: the image that came can be had once more all the same.
        is_kept = self._turns.has(row.key, row.fingerprint) or self._tree.is_retired(found.told)
        return found if is_kept else None

    def _is_covered(self, row: Comparison) -> bool:
        """Whether what lies under a key for another ask was edited: it must not make room."""
        older = self._journal.records.older(self._job.name, row.key, row.fingerprint)
        return older is not None and self._tree.condition(json.loads(older.line)["files"]) == "edited"

    def _bought(self, row: Comparison, why: str, *, anew: bool = False, has_own: bool = False) -> Classified:
        if not self._look.force and self._is_covered(row):
            return Classified(row.n, "edited", _EDITED)
        older = self._journal.records.older(self._job.name, row.key, row.fingerprint)
        told = json.loads(older.line) if older else None
        foreign = None if told else self._foreign(row)
        if foreign:
            return Classified(row.n, "edited", _foreign(foreign))
        if told:
            why = why or record.differences(told, json.loads(row.line))
        return Classified(row.n, "changed" if told or has_own else "new", why, open=True, anew=anew)

    def _foreign(self, row: Comparison) -> str | None:
        texts = "text" in (json.loads(row.line)["settings"].get("response") or ())
        return self._tree.foreign(row.path, texts=texts) if row.path else None


def _foreign(path: str) -> str:
    return f"{path} is there already and no record knows it: move it away, then run again"


def duration(seconds: float) -> str:
    """Seconds as somebody would write them: 90m, 20h, 7d."""
    for unit, word, least in ((86_400, "d", 3), (3600, "h", 1), (60, "m", 1)):
        if seconds >= unit * least and seconds % unit == 0:
            return f"{int(seconds // unit)}{word}"
    return f"{seconds:.10g}s"


def give_way(journal: Journal, tree: Tree) -> None:
    """Let what somebody edited be replaced, once what is bought by force is there; inside a transaction.

    Until then such a file stays where it is, and it is kept in `retired/` afterwards.
    """
    for key in journal.wanted.opened():
        for row in journal.records.of_key(tree.job, key):
            files = json.loads(row.line)["files"] if row.place == "tree" else []
            if tree.condition(files) == "edited":
                _take_for_ours(journal, tree, [file["path"] for file in files])


def _take_for_ours(journal: Journal, tree: Tree, paths: list[str]) -> None:
    for path in paths:
        status, digest = tree.folder.status(path), tree.folder.sha256(path)
        if status is not None and digest is not None:
            journal.records.know_file(tree.job, path, digest, status.st_size, status.st_mtime_ns)


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
