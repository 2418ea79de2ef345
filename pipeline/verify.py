"""The tree against its output manifest: every file hashed, every image decoded. Needs no journal, changes nothing.

Where there is a journal it is asked about what looks wrong: a run that is at work publishes files before it publishes
the manifest that names them, and these are no finding.
"""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import json
import os
from array import array
from typing import TYPE_CHECKING, Any

from pipeline import images
from pipeline.durable import Folder, is_part
from pipeline.errors import PipelineError
from pipeline.outputs import MANIFEST, TABLE, is_published, is_sidecar, pointer, recorded, sidecar_of
from pipeline.pixels import PixelChecks
from pipeline.record import dumps

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from pipeline.journal import Journal
    from pipeline.outputs import File

WORDS = ("missing", "edited", "broken", "stray", "stale")
"""What can be wrong, as the keys of what `verify` returns."""
_DOUBTED = ("missing", "edited", "stray")
_OURS = frozenset({MANIFEST, TABLE, "picks.jsonl", ".gitignore", ".gitattributes"})
_SETTLED_EACH = 100
"""After so many records, what was found out beside is taken in, so that it does not pile up."""
_NOT_LOOKED_AT = ("gallery/", "proof/")
"""What a run is just writing, or a killed one left: the next one sweeps it."""


def verify(outputs: Path, job: str, *, state: Path | None = None, journal: Journal | None = None) -> dict[str, Any]:
    """What is `ok` (a count), `missing`, `edited`, `broken`, `stray` and `stale` (paths below the job folder).

    A sidecar that is not the record it stands for is edited; one that is missing is only not there yet. An output
    manifest with lines that are no records is broken, and one that is not what the journal says by now is stale.
    """
    folder = Folder(outputs).below(job)
    found: dict[str, Any] = {"job": job, "ok": 0, **{word: [] for word in WORDS}}
    known = _Paths()
    at_work = state is not None and journal is not None and _is_at_work(Folder(state), job)
    asks_journal = _look_at_manifest(folder, found, journal, at_work=at_work)
    with PixelChecks() as checks:
        for number, record in recorded(folder):
            if record is not None:
                _look_at(folder, record, found, checks, known)
            elif MANIFEST not in found["broken"]:
                found["broken"].append(MANIFEST)
            if number % _SETTLED_EACH == 0:
                _settle(checks.finished(), found)
        _settle(checks.drain(), found)
    found["stray"] = _strays(folder.path, known)
    if journal is not None and asks_journal:
        _ask_journal(folder, found, journal)
    for word in WORDS:
        found[word].sort()
    return found


def _is_beside(path: str) -> bool:
    return path.startswith(_NOT_LOOKED_AT) or is_part(path.rpartition("/")[2])


def _look_at(folder: Folder, record: dict[str, Any], found: dict[str, Any], checks: PixelChecks, known: _Paths) -> None:
    """Compare the files of a record with it, and know their paths."""
    for file in record["files"]:
        _look(folder, file, found, checks)
        known.add(file["path"])
    sidecar = sidecar_of(record)
    # Most jobs have none: what is asked for every image must not take the careful way for nothing.
    if (
        sidecar is not None
        and os.path.lexists(f"{folder.path}/{sidecar}")
        and is_sidecar(folder, sidecar, record["key"])
    ):
        known.add(sidecar)
        _count(found, sidecar, _text(folder, sidecar) == dumps(record) + "\n")


def _look(folder: Folder, file: File, found: dict[str, Any], checks: PixelChecks) -> None:
    """Compare one file with its record, read once; an image that is the one recorded is decoded as well."""
    path, is_whole = file["path"], True
    try:
        with folder.opened(path) as stream:
            if os.fstat(stream.fileno()).st_size == file["bytes"]:
                data = stream.read()
                digest = hashlib.sha256(data).hexdigest()
                is_whole = not file["mime"].startswith("image/") or _is_whole(data)
            else:  # hardly the one recorded, and of any size
                digest = hashlib.file_digest(stream, "sha256").hexdigest()
    except OSError:
        digest = ""
    if digest == file["sha256"]:
        if not is_whole:
            found["broken"].append(path)
        elif file["mime"].startswith("image/"):
            checks.submit(path, folder.path / path, blank=False)
        else:
            found["ok"] += 1
    elif not digest and folder.status(path) is None:
        found["missing"].append(path)
    else:
        _count(found, path, pointer(folder, path) == file["sha256"])


def _settle(looked_at: Iterable[tuple[str, str | None]], found: dict[str, Any]) -> None:
    """Count the images whose pixels were looked at."""
    for path, problem in looked_at:
        if problem is None:
            found["ok"] += 1
        else:
            found["broken"].append(path)


def _count(found: dict[str, Any], path: str, is_right: bool) -> None:  # noqa: FBT001 - what it is about comes first
    if is_right:
        found["ok"] += 1
    else:
        found["edited"].append(path)


def _text(folder: Folder, path: str) -> str:
    try:
        with folder.opened(path) as stream:
            return stream.read().decode("utf-8", "replace")
    except OSError:  # it has just left
        return ""


def _is_whole(data: bytes) -> bool:
    try:
        images.structure(data)
    except images.BrokenImage:
        return False
    return True


class _Paths:
    """A set of paths of which only their hashes are kept, 8 bytes each: a job can have a million files.

    Python's own hash of a text has 64 bits and a secret of this process in it: that two of a million are equal happens
    once in many millions of looks.
    """

    def __init__(self) -> None:
        self._parts = [array("q") for _ in range(_PARTS)]

    def add(self, path: str) -> None:
        value = hash(path)
        self._parts[value % _PARTS].append(value)

    def without(self, other: _Paths) -> set[int]:
        """The hashes of the paths that are here and not there."""
        return {
            value for mine, known in zip(self._parts, other._parts, strict=True) for value in set(mine) - set(known)
        }


_PARTS = 256
"""So many sets are compared one after the other, and none of them is large."""


def _strays(top: Path, known: _Paths) -> list[str]:
    """The files below a folder that are not known; a second look finds what the first has counted."""
    there = _Paths()
    for path in _files(top):
        there.add(path)
    odd = there.without(known)
    return [path for path in _files(top) if hash(path) in odd and path not in _OURS and not _is_beside(path)]


def _files(top: Path) -> Iterator[str]:
    """Every file below a folder, and every link to a folder: nothing behind one is ours."""
    for folder, folders, names in os.walk(top):
        below = folder[len(str(top)) + 1 :]
        prefix = f"{below}/" if below else ""
        links = [name for name in folders if os.path.islink(f"{folder}/{name}")]  # noqa: PTH114 - one for each folder
        for name in itertools.chain(names, links):
            yield prefix + name


# ---------------------------------------------------------------------------------------- the journal


def _look_at_manifest(folder: Folder, found: dict[str, Any], journal: Journal | None, *, at_work: bool) -> bool:
    """Whether the manifest that was written last is there, and what the journal says; while nobody is at work.

    One that came from elsewhere, as with a pull, is no finding: the next command reads it. Returns whether the journal
    knows all that this manifest says.
    """
    digest = folder.sha256(MANIFEST)
    if digest is not None and folder.status(TABLE) is None:
        found["missing"].append(TABLE)
    published = None if journal is None else journal.published(found["job"])
    if journal is None or published is None:
        return at_work
    is_ours = is_published(journal, folder, found["job"], published)
    if digest is None and not at_work:
        found["missing"].append(MANIFEST)
    elif is_ours and not at_work and digest != _digest(journal, found["job"]):
        found["stale"].append(MANIFEST)
    return at_work or is_ours


def _digest(journal: Journal, job: str) -> str:
    digest = hashlib.sha256()
    for line in journal.records.published(job):
        digest.update(line.encode() + b"\n")
    return digest.hexdigest()


def _is_at_work(state: Folder, job: str) -> bool:
    """Whether the process that held a job's lock last is still there; the lock itself is left alone."""
    try:
        with state.opened(f"locks/{job}.lock") as stream:
            os.kill(int(stream.read(100).split()[1]), 0)
    except PermissionError:
        return True
    except (OSError, ValueError, IndexError, OverflowError, PipelineError):
        return False
    return True


def _ask_journal(folder: Folder, found: dict[str, Any], journal: Journal) -> None:
    """Look at what seems wrong once more, by what the journal knows by now, while no run can write anything down."""
    doubtful = {path for word in _DOUBTED for path in found[word]} - _OURS
    if not doubtful:
        return
    with contextlib.suppress(PipelineError), journal.transaction():
        told = _told(journal, found["job"], doubtful)
        right = {path for path, sha256 in told.items() if sha256 in {folder.sha256(path), pointer(folder, path)}}
        gone = {path for path in found["missing"] if path not in told} - _OURS  # it has left its place meanwhile
        for word in _DOUBTED:
            found[word] = [path for path in found[word] if path not in right | gone]
        found["ok"] += len(right)


def _told(journal: Journal, job: str, paths: set[str]) -> dict[str, str]:
    """The sha256 that the journal's own records have for these paths."""
    told: dict[str, str] = {}
    for line in journal.records.published(job):
        record = json.loads(line)
        told |= {file["path"]: file["sha256"] for file in record["files"] if file["path"] in paths}
        sidecar = sidecar_of(record)
        if sidecar in paths:
            told[str(sidecar)] = hashlib.sha256(line.encode() + b"\n").hexdigest()
    return told
