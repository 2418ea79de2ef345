"""A job at rest: what it was compared with when there was nothing to do, and what came out of that.

Some of its rows may be under way since then: all others are as they were, and these are compared again.

As long as all of it is unchanged, so is the answer: nothing is rendered, and no record is read. It is a text in the
journal, which loses it with the first change of what it knows of the job. Whatever is in doubt is compared anew.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pipeline import seen
from pipeline.errors import Problem
from pipeline.seen import Extent, Seen

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

    from pipeline.job.dependencies import Dependencies
    from pipeline.plan import Plan
    from pipeline.plan.changed import Row

MOST_SOURCES = 20_000
"""Files that a job is made from; one with more of them is always compared."""
_MOST_READ = 256 << 20
"""Bytes of reference images of which the content is kept in mind; others must not even be touched."""
_TEXTS = (".yaml", ".yml", ".csv", ".tsv", ".jsonl", ".md", ".txt")


@dataclass(frozen=True, slots=True)
class Sources:
    """What a job was read from."""

    files: Mapping[str, Seen]
    """Files and folders, by path."""
    absent: tuple[str, ...] = ()
    """Files that would be read if they came."""

    @classmethod
    def of(cls, dependencies: Dependencies, before_ns: int) -> Sources | None:
        """What a job was read from, as it is; `None` when anything of it was changed at `before_ns` or later.

        It was read after that moment, so nothing else was read than what is seen now.
        """
        found: dict[str, Seen] = {}
        for path in dependencies if dependencies.is_kept else ():
            one = seen.look(path)
            if one is None or one.ctime_ns >= before_ns:
                return None
            found[os.path.abspath(path)] = one  # noqa: PTH100 - a text for each of many files
        return cls(found, tuple(map(os.path.abspath, dependencies.absent))) if found else None

    def read(self) -> Sources | None:
        """The same with the content of each file; `None` when one has changed meanwhile."""
        found: dict[str, Seen] = {}
        left = _MOST_READ
        for path, one in self.files.items():
            left -= 0 if path.endswith(_TEXTS) else one.size
            now = seen.read(path, one) if left >= 0 or path.endswith(_TEXTS) else seen.look(path)
            if now is None or now._replace(sha256="") != one:
                return None
            found[path] = now
        return Sources(found, self.absent)

    def are_unchanged(self, but: str = "") -> bool:
        """Whether all of it is as it was, but for one file that is not looked at."""
        are_same = (seen.is_as(path, one) for path, one in self.files.items() if path != but)
        return all(are_same) and not any(map(os.path.lexists, self.absent))


@dataclass(frozen=True, slots=True)
class Rest:
    """A job that has nothing to do. Money in millionths of a USD."""

    around: Mapping[str, str]
    """What else the answer depends on: versions, folders, the service."""
    until: str
    """The first day on which the registry of models says something else; empty for none."""
    sources: Sources
    extent: Extent | None
    """The job's folder; `None` where there is none."""
    answers: Seen | None
    """The folder of kept answers."""
    published: str | None
    """The sha256 of the output manifest."""
    tidy_from: float | None
    """When the first of the batches that the service still has was unpacked; seconds since 1970."""
    manifest: str
    """The path of the job manifest."""
    job: str
    counts: Mapping[str, int]
    """How many requests a plan found in which state."""
    asked_before: int
    wanted: int
    """How many requests the job makes."""
    stuck: Mapping[str, Any]
    """The fields of `plan.Stuck`."""
    statuses: Mapping[str, int]
    """How many requests have which status."""
    spent: int
    prices_as_of: str
    catalog: str
    """The path of a catalog of which each row stands for itself; empty for any other."""
    said: tuple[tuple[Problem, ...], tuple[Problem, ...]]
    """The warnings of the manifest, and of its rows."""
    not_done: tuple[Row, ...]
    gone: tuple[Row, ...]
    under_way: tuple[str, ...] = ()
    """The ids of rows that are not done, or were not done last. All that is counted here is without them, and without
    all that was there in their place; and the catalog in blocks is the one that was before them."""

    @property
    def plan(self) -> Plan:
        """The plan that was made of it: nothing is left to do."""
        from pipeline.plan import Plan, Stuck  # noqa: PLC0415 - who finds nothing to do, and tells of it, needs none

        return Plan(
            self.job, dict(self.counts), totals=(), batches=0, by_wave=(), gone_now=0, gone_value=0,
            asked_before=self.asked_before, wanted=self.wanted, stuck=Stuck(**self.stuck),
        )  # fmt: skip

    def dumps(self) -> str:
        told = {name: getattr(self, name) for name in _PLAIN}
        said = [[problem._asdict() for problem in problems] for problems in self.said]
        sources = {"files": self.sources.files, "absent": self.sources.absent}
        return json.dumps({**told, "sources": sources, "said": said}, separators=(",", ":"))

    @classmethod
    def loads(cls, text: str) -> Rest:
        """Raises `ValueError`, `LookupError` or `TypeError` for what is none."""
        told = json.loads(text)
        files = {path: Seen(*one) for path, one in told["sources"]["files"].items()}
        return cls(
            **{
                **told,
                "sources": Sources(files, tuple(told["sources"]["absent"])),
                "extent": _maybe(Extent, told["extent"]),
                "answers": _maybe(Seen, told["answers"]),
                "said": tuple(tuple(Problem(**one) for one in problems) for problems in told["said"]),
                "not_done": _rows(told["not_done"]),
                "gone": _rows(told["gone"]),
                "under_way": tuple(told["under_way"]),
            }
        )

    def is_for(self, around: Mapping[str, str], day: str) -> bool:
        """Whether the answer is one to what is asked now, and here."""
        return self.around == around and (not self.until or day < self.until)

    def is_unchanged(self, folder: Path, answers: Path, *, but: str = "") -> bool:
        """Whether all is as it was that this was compared with: what it is made from, and what it left behind.

        But for one file it is made from, which is not looked at.
        """
        return (
            self.sources.are_unchanged(but)
            and _is_as(str(answers), self.answers)
            and (self.extent is not None or not os.path.lexists(folder))
            and seen.extent(str(folder), is_large=self.wanted > seen.LARGE) == self.extent
        )


_PLAIN = (
    "around", "until", "extent", "answers", "published", "tidy_from", "statuses", "spent", "prices_as_of", "not_done",
    "gone", "manifest", "catalog", "job", "counts", "asked_before", "wanted", "stuck", "under_way",
)  # fmt: skip


def _is_as(path: str, before: Seen | None) -> bool:
    return not os.path.lexists(path) if before is None else seen.is_as(path, before)


def _maybe(kind: Any, told: Any) -> Any:
    return None if told is None else kind(*told)


def _rows(told: Iterable[Any]) -> tuple[Row, ...]:
    return tuple(tuple(row) for row in told)
