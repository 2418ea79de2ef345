"""Old files below the state folder that no image may have to come from."""

from __future__ import annotations

import os
import re
import stat
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.durable import Folder
from pipeline.leftovers.leftover import Leftover

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pipeline.journal import Batch, Journal

_PREFIX = 16


@dataclass(frozen=True, slots=True)
class _Old:
    """A file, and the batch that must let go of it first."""

    name: str
    bytes: int
    batch: Batch | None = None
    why: str = ""
    """Why it has to stay."""


_GOES_ON = "a turn of a conversation may go on from it"
_AWAITED = "a wanted image may have to come from it"


def old(journal: Journal, state: Path, job: str, *, before: float) -> Iterator[Leftover]:
    """What of a compared job has lain in the state folder since `before` (seconds since 1970) and is of no more use.

    In `retired/` stays whatever a wanted image may come back from, and so does a kept answer until all its images are
    in their places: both write a missing file for nothing. So does the answer to a turn that the job asks for.
    """
    for one in _old(journal, state, job, before):
        yield Leftover("leave" if one.why else "delete", one.name, one.bytes, one.why)


def forget(journal: Journal, state: Path, job: str, *, before: float) -> int:
    """Delete what `old` found, under the job's lock; returns how many files that were."""
    folder, count = Folder(state), 0
    for one in _old(journal, state, job, before):
        if one.why:
            continue
        if one.batch is not None:
            # Written down first: a file that is there and unknown does no harm, one that is known and gone does.
            column = "answers_path" if one.name.startswith("answers/") else "requests_path"
            with journal.transaction():
                journal.batches.change(one.batch, **{column: None})
        folder.remove(one.name)
        count += 1
    for name in _KINDS:
        folder.below(f"{name}/{job}").prune()
    return count


_KINDS = ("retired", "quarantine", "conflicts", "runs", "answers", "requests", "turns")


_MADE = {
    "retired": re.compile(r"([0-9a-f]{16}|replaced)/[0-9a-f]{32}\.[a-z0-9]+"),
    "turns": re.compile(r"[0-9a-f]{64}-(gemini|local)\.jsonl"),
    "quarantine": re.compile(r"[a-z0-9-]*-\d+-\d+\.bin|[0-9a-z]+-\d+\.line|[0-9a-f]{16}-[^/]+|[0-9a-f]{64}-\w+\.jsonl"),
    "conflicts": re.compile(r"[0-9a-f]{32}\.bin"),
    "runs": re.compile(r"[0-9TZ-]+\.json"),
}
"""The names we give below each folder: whatever is called otherwise was put there by somebody."""
_NOT_OURS = "nothing of ours"
_EDITED = "edited by somebody"


def _old(journal: Journal, state: Path, job: str, before: float) -> Iterator[_Old]:
    known = journal.leftovers
    yield from _retired(journal, state, job, before)
    for one in _made(state, "turns", job, before):
        fingerprint = one.name.rpartition("/")[2].partition("-")[0]
        yield replace(one, why=_GOES_ON) if not one.why and known.is_asked_for(fingerprint) else one
    for kind in ("quarantine", "conflicts"):
        yield from _made(state, kind, job, before)
    yield from (one for one in _made(state, "runs", job, before) if not one.name.endswith("/last.json"))
    for is_needed, batch in known.answers(job):
        yield from _kept(state, batch.answers_path, before, batch, _AWAITED if is_needed else "")
    for batch in known.requests(job):
        yield from _kept(state, batch.requests_path, before, batch)
    for one in _files(state, f"answers/{job}", before):  # a killed clean had let go of it, and no more
        if known.is_settled(job, one.name.rpartition("/")[2]):
            yield one


def _retired(journal: Journal, state: Path, job: str, before: float) -> Iterator[_Old]:
    for one in _made(state, "retired", job, before):
        place = one.name.split("/")[2]
        if not one.why and len(place) == _PREFIX and journal.leftovers.is_awaited(job, place):
            yield replace(one, why=_AWAITED)
        else:
            yield one if one.why or _is_unedited(state, one.name) else replace(one, why=_EDITED)


def _made(state: Path, kind: str, job: str, before: float) -> Iterator[_Old]:
    """The old files of a kind; what has no name that we would give it stays."""
    for one in _files(state, f"{kind}/{job}", before):
        name = one.name.removeprefix(f"{kind}/{job}/")
        yield one if _MADE[kind].fullmatch(name) or name == "last.json" else replace(one, why=_NOT_OURS)


def _is_unedited(state: Path, name: str) -> bool:
    """Whether a retired file still has the content that it is named by."""
    digest = Folder(state).sha256(name)
    return digest is not None and name.rpartition("/")[2].startswith(digest[:32])


def _kept(state: Path, name: str | None, before: float, batch: Batch, why: str = "") -> Iterator[_Old]:
    """A file that a batch knows, if it has been there long enough."""
    status = Folder(state).status(name) if name else None
    if name and status is not None and _since(status) <= before:
        yield _Old(name, status.st_size, batch, why)


def _files(state: Path, below: str, before: float) -> Iterator[_Old]:
    """The files below a folder of the state that have lain there since `before`, by name."""
    for folder, folders, names in os.walk(state / below):
        folders.sort()
        for name in sorted(names):
            path = Path(folder) / name
            try:
                status = path.lstat()
            except FileNotFoundError:  # a run is at work, and this is only a list
                continue
            if stat.S_ISREG(status.st_mode) and _since(status) <= before:
                yield _Old(path.relative_to(state).as_posix(), status.st_size)


def _since(status: os.stat_result) -> float:
    """When a file came to where it is: a rename keeps its mtime, which tells when it was drawn, and sets its ctime."""
    return max(status.st_mtime, status.st_ctime)
