"""Reference images on their way to the service: along with the one request that shows them, or once, as a file.

A small image that one request shows goes along with it. What is larger than that, or shown by several requests, is
uploaded under a name made of its hash, for all jobs of the outputs folder, and used while it lives long enough for a
batch; so a killed run, and the next night, find it there.
"""

from __future__ import annotations

import contextlib
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any

from pipeline import plan
from pipeline.durable import Folder, locked
from pipeline.errors import LocalError, LockedError, PipelineError
from pipeline.job import references
from pipeline.journal import Upload
from pipeline.reconcile import turns
from pipeline.reconcile.uploads import Wish, published

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from pathlib import Path

    from pipeline.gemini.wire import RemoteFile
    from pipeline.journal import Record
    from pipeline.reconcile.run import Run, Work

LEAST_LIFE_S = 36 * 3600.0
"""A batch may take a day and more; a file of the service lives for two."""
_LIFE_S = 48 * 3600.0
_AT_ONCE = 8
_LOCK = "locks/.uploads.lock"
_NAMES = 9
_HEAD = 64
_NONE = '"inputs":[]'


@dataclass(frozen=True, slots=True)
class _Reference:
    """A reference image of some requests."""

    path: Path
    shown: str
    sha256: str
    bytes: int


def attached(
    run: Run, work: Work, records: Iterable[Record], *, most_inline: int = plan.MOST_INLINE
) -> Mapping[str, Upload]:
    """See to it that the reference images of these requests that go as files are at the service; by sha256.

    Those are the ones of more than `most_inline` bytes, and those that several requests show.

    Raises `UnfinishedError` when one was changed meanwhile, `LocalError` when one cannot be read.
    """
    there: dict[str, Upload] = {}
    unseen: list[Wish] = []
    missing: list[Wish] = []
    for reference in _references(work, records):
        known = _alive(run, work, reference.sha256)
        if known is not None and known.name in run.seen:
            there[reference.sha256] = known
        elif known is not None:
            unseen.append(_wish(reference))
        elif _goes_as_file(work, reference, most_inline):
            missing.append(_wish(reference))
    for upload in _published(run, work, unseen):  # most likely as they were
        there[upload.sha256] = upload
    if missing:
        there |= _uploaded(run, work, missing)
    return there


def lives_long_enough(run: Run, work: Work, records: Iterable[Record]) -> bool:
    """Whether the files that these requests name outlive the batch they are in."""
    known = (work.journal.uploads.get(run.service, sha256) for sha256 in _inputs(work, records))
    return all(one is None or one.expires_at >= run.api.now() + LEAST_LIFE_S for one in known)


def to_upload(run: Run, work: Work, record: Record) -> Mapping[str, int]:
    """The images that must be uploaded before this request can be sent: the bytes of each, by sha256."""
    return {
        reference.sha256: reference.bytes
        for reference in _references(work, [record])
        if _goes_as_file(work, reference, plan.MOST_INLINE) and _alive(run, work, reference.sha256) is None
    }


def _alive(run: Run, work: Work, sha256: str) -> Upload | None:
    """Where an image is at the service, if it lives long enough for another batch."""
    known = work.journal.uploads.get(run.service, sha256)
    return known if known is not None and known.expires_at >= run.api.now() + LEAST_LIFE_S else None


def _goes_as_file(work: Work, reference: _Reference, most_inline: int) -> bool:
    return reference.bytes > most_inline or work.journal.wanted.is_shared(reference.sha256)


def _inputs(work: Work, records: Iterable[Record]) -> Mapping[str, str]:
    """The path of each reference image that goes along, by its hash."""
    found: dict[str, str] = {}
    for record in records:
        if _NONE not in record.line or turns.is_later(record):
            for told in turns.shown(work, record):
                for entry in told["inputs"]:
                    found.setdefault(entry["sha256"], entry["path"])
    return found


def _references(work: Work, records: Iterable[Record]) -> Iterator[_Reference]:
    for sha256, shown in _inputs(work, records).items():
        path = work.job.folder / shown
        try:
            size = path.stat().st_size
        except OSError as error:
            raise LocalError(
                f"{shown}: the reference image cannot be read any more: {error.strerror}",
                hint="put it back, or run again to plan without it",
            ) from None
        yield _Reference(path, shown, sha256, size)


def _wish(reference: _Reference) -> Wish:
    with reference.path.open("rb") as stream:
        mime = references.mime_of(stream.read(_HEAD)) or "application/octet-stream"
    names = tuple(f"ref-{reference.sha256[:28]}-{number}" for number in range(1, _NAMES + 1))
    return Wish(reference.path, reference.shown, mime, reference.bytes, reference.sha256, names, LEAST_LIFE_S)


# --------------------------------------------------------------------------------------------- uploading


def _uploaded(run: Run, work: Work, missing: Sequence[Wish]) -> Mapping[str, Upload]:
    """Upload several at a time, and say how far that is. What another run has uploaded meanwhile is found there."""
    made: dict[str, Upload] = {}
    told: dict[str, Any] = {"job": work.job.name, "of": len(missing), "bytes": sum(one.bytes for one in missing)}
    with _by_turns(run, work):
        run.tell("uploading", count=0, **told)
        for upload in _published(run, work, missing):
            made[upload.sha256] = upload
            run.tell("uploading", count=len(made), **told)
    run.tell("uploaded", count=len(made), **told)
    return made


@contextlib.contextmanager
def _by_turns(run: Run, work: Work) -> Iterator[None]:
    """Let one run of the outputs folder upload at a time: several may want the same images, and share one line."""
    state, what = Folder(run.state), "uploads"
    with contextlib.ExitStack() as stack:
        try:
            stack.enter_context(locked(state, _LOCK, what=what))
        except LockedError:
            run.tell("uploads", job=work.job.name)
            stack.enter_context(locked(state, _LOCK, what=what, waits=True))
        yield


def _published(run: Run, work: Work, wishes: Sequence[Wish]) -> Iterator[Upload]:
    """Each image that is there, as soon as it is, and written down."""
    for page in _in_parallel(run, wishes):
        uploads = [_upload(run, wish, there) for wish, there in page]
        with work.journal.transaction():
            work.journal.uploads.put(uploads)
        run.seen.update(one.name for one in uploads)
        yield from uploads


def _in_parallel(run: Run, wishes: Sequence[Wish]) -> Iterator[list[tuple[Wish, RemoteFile]]]:
    """Those that have arrived, as they do. An error is raised once what arrived beside it was told."""
    waiting = iter(wishes)
    pool = ThreadPoolExecutor(_AT_ONCE, "upload")
    trouble: PipelineError | None = None
    working: dict[Future[RemoteFile], Wish] = {}
    try:
        while True:
            for wish in islice(waiting, 0 if trouble else _AT_ONCE - len(working)):
                working[pool.submit(published, run.api, wish, run.clock)] = wish
            if not working:
                break
            arrived = []
            for future in wait(working, return_when=FIRST_COMPLETED).done:
                wish = working.pop(future)
                try:
                    arrived.append((wish, future.result()))
                except PipelineError as error:
                    trouble = trouble or error
            yield arrived
    finally:
        pool.shutdown(wait=False, cancel_futures=True)
    if trouble:
        raise trouble


def _upload(run: Run, wish: Wish, there: RemoteFile) -> Upload:
    expires_at = run.api.now() + _LIFE_S if there.expires_at is None else there.expires_at
    return Upload(run.service, wish.sha256, there.name, there.uri, wish.mime, wish.bytes, expires_at)
