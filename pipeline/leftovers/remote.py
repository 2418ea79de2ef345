"""What is at the service: what we made there, who may need it, and what can go.

Names tell what is ours: `pl-` begins the request file of a batch, `ref-` a reference image, and batches carry names of
ours. Other outputs folders and other machines of the same project use the same names: whatever one of them may be about
to use, or is using, stays.
"""

from __future__ import annotations

import re
import time
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

from pipeline.durable import PIECE, Folder
from pipeline.journal.batches import OPEN, PREFIX
from pipeline.leftovers.leftover import Leftover
from pipeline.reconcile import Run, Work, tidy
from pipeline.reconcile.attach import LEAST_LIFE_S

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from datetime import date
    from pathlib import Path

    from pipeline.gemini.api import Api
    from pipeline.gemini.models import Models
    from pipeline.gemini.wire import Operation, RemoteFile
    from pipeline.journal import Journal

_REQUESTS, _REFERENCE = "files/pl-", "files/ref-"
_NAMED = re.compile(rb"files/ref-[a-z0-9-]{1,40}")
_LONGEST_NAME = 64
_TIDIED = frozenset({"unpacked", "rejected"})
_SENT_WITHIN_S = 24 * 3600.0
"""A request file that lives no longer than this is not what somebody is about to make a batch of."""


class Stranger(NamedTuple):
    """A batch at the service with a name of ours that this journal does not know."""

    operation: Operation
    is_of_here: bool
    """It was made for this very outputs folder."""


@dataclass(frozen=True, slots=True)
class Holdings:
    """What the service holds for the project."""

    files: list[RemoteFile] = field(default_factory=list)
    batches: list[Operation] = field(default_factory=list)
    strangers: list[Stranger] = field(default_factory=list)

    @property
    def bytes(self) -> int:
        """Of the files it lists; answers of batches are not among them."""
        return sum(one.bytes or 0 for one in self.files)


def holdings(api: Api, journal: Journal | None) -> Holdings:
    """Ask the service for all it holds. Raises `UnfinishedError` where a listing cannot be completed."""
    batches = list(api.batches())
    return Holdings(list(api.files()), batches, [*_strangers(batches, journal)])


def _strangers(batches: Sequence[Operation], journal: Journal | None) -> Iterator[Stranger]:
    for operation in batches:
        workspace = operation.display_name.split("/")[1:2]
        if not operation.display_name.startswith(f"{PREFIX}/"):
            continue
        is_of_here = journal is not None and workspace == [journal.workspace]
        is_known = journal is not None and (
            journal.batches.remote(operation.name) or journal.batches.named(operation.display_name)
        )
        if not is_known:
            yield Stranger(operation, is_of_here)


@dataclass(frozen=True, slots=True)
class Service:
    """The service, and from where it is looked at."""

    api: Api
    name: str
    models: Models
    state: Path
    today: date
    others_run: bool
    """Another job of the outputs folder is at work, and may be about to use a reference image."""


def left(service: Service, works: Sequence[Work], held: Holdings) -> Iterator[Leftover]:
    """What of these jobs can go at the service, and what of ours has to stay."""
    for work in works:
        yield from _of_batches(service, work)
    yield from _strays(service, works, held)


def clear(service: Service, works: Sequence[Work], held: Holdings) -> str:
    """Delete what `left` found, and note it; returns what kept the service from it, empty when nothing did.

    Raises what a person must act on, and network trouble with a file that no batch knows.
    """
    troubles: list[str] = []
    for work in works:
        tidy(_tidying(service, troubles), work)
    if troubles:
        return troubles[0]
    journal = works[0].journal
    uploads = {one.name: one for one in journal.uploads.alive(service.name, 0.0)}
    for one in [*_strays(service, works, held)]:
        if one.verb != "delete":
            continue
        if one.name in uploads:
            with journal.transaction():  # first: nothing may be sent with a name that is about to vanish
                journal.uploads.forget(uploads[one.name])
        service.api.delete_file(one.name)
    return ""


def _of_batches(service: Service, work: Work) -> Iterator[Leftover]:
    """What `tidy` would delete, were every answer that is safe here old enough."""
    for batch in work.journal.batches.to_tidy(work.job.name, service.name, time.time()):
        if batch.input_file is not None and batch.input_deleted_at is None:
            yield Leftover("delete", batch.input_file, batch.input_bytes)
        if batch.state == "unpacked" and batch.whole and batch.remote and batch.remote_deleted_at is None:
            yield Leftover("delete", batch.remote, batch.result_bytes)


def _tidying(service: Service, troubles: list[str]) -> Run:
    def tell(kind: str, **details: Any) -> None:
        if kind == "untidy":
            troubles.append(str(details["why"]))

    return Run(
        api=service.api, models=service.models, service=service.name, state=service.state, clock=time,
        today=service.today, concurrent=0, settle_s=0.0, tell=tell, shielded=nullcontext, keep_remote_s=0.0,
    )  # fmt: skip


# ------------------------------------------------------------------------- files beside those of batches


def _strays(service: Service, works: Sequence[Work], held: Holdings) -> Iterator[Leftover]:
    """Files of ours that a listing shows, but for those that `tidy` deletes."""
    journal, jobs = works[0].journal, {work.job.name for work in works}
    at_work = {one.input_file for one in held.batches if not one.ended}
    references = _References.of(service, journal, held)
    for file in held.files:
        why = None
        if file.name.startswith(_REFERENCE):
            why = references.why_stays(file, _life_s(service, file))
        elif file.name.startswith(_REQUESTS):
            batch = journal.leftovers.of_input(service.name, file.name)
            if batch is None:
                may_be_sent = _life_s(service, file) > _SENT_WITHIN_S
                why = "somebody may be about to make a batch of it" if may_be_sent else ""
            elif batch.job in jobs and batch.state not in _TIDIED:
                why = "" if batch.state == "lost" else "its batch is not settled"
            why = "a batch works on it" if why == "" and file.name in at_work else why
        if why is not None:
            yield Leftover("leave" if why else "delete", file.name, file.bytes or 0, why)


def _life_s(service: Service, file: RemoteFile) -> float:
    """How long a file will still be there, in seconds; where the service does not say, for ever."""
    return float("inf") if file.expires_at is None else file.expires_at - service.api.now()


@dataclass(frozen=True, slots=True)
class _References:
    """What decides about reference images, which all jobs share."""

    why_all_stay: str
    needed: frozenset[str]
    ours: frozenset[str]

    @classmethod
    def of(cls, service: Service, journal: Journal, held: Holdings) -> _References:
        why, needed = "", set[str]()
        if service.others_run:
            why = "another job is at work"
        if any(_is_at_work_elsewhere(journal, one) for one in held.batches):
            why = "a batch of another outputs folder or machine may need it"
        for batch in journal.leftovers.unsettled(service.name):
            named = _named_in(Folder(service.state), batch.requests_path)
            if named is None:
                why = "a batch whose requests are not here may need it"
            else:
                needed |= named
        ours = frozenset(one.name for one in journal.uploads.alive(service.name, 0.0))
        return cls(why, frozenset(needed), ours)

    def why_stays(self, file: RemoteFile, life_s: float) -> str:
        """Why a reference image has to stay; empty when it can go."""
        if self.why_all_stay or file.name in self.needed:
            return self.why_all_stay or "a batch needs it"
        if file.name not in self.ours and life_s >= LEAST_LIFE_S:
            return "another outputs folder or machine may be about to use it"
        return ""


def _is_at_work_elsewhere(journal: Journal, operation: Operation) -> bool:
    """Whether a batch with a name of ours is worked on that this journal does not know, or has given up."""
    if operation.ended or not operation.display_name.startswith(f"{PREFIX}/"):
        return False
    known = journal.batches.named(operation.display_name)
    return known is None or known.state not in OPEN


def _named_in(folder: Folder, requests: str | None) -> set[str] | None:
    """The reference images that a request file names; `None` when it is not there."""
    if requests is None:
        return None
    found, before = set[str](), b""
    try:
        with folder.opened(requests) as stream:
            while piece := stream.read(PIECE):
                found.update(name.decode() for name in _NAMED.findall(before + piece))
                before = piece[-_LONGEST_NAME:]
    except OSError:
        return None
    return found
