"""The tree against its output manifest: every file hashed, every image decoded. Needs no journal, changes nothing.

Where there is a journal it is asked about what looks wrong: a run that is at work publishes files before it publishes
the manifest that names them, and these are no finding.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline import images
from pipeline.durable import Folder
from pipeline.errors import PipelineError
from pipeline.outputs import MANIFEST, TABLE, is_sidecar, pointer, recorded, sidecar_of
from pipeline.pixels import PixelChecks
from pipeline.record import dumps

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pipeline.journal import Journal
    from pipeline.outputs import File

WORDS = ("missing", "edited", "broken", "stray", "stale")
"""What can be wrong, as the keys of what `verify` returns."""
_DOUBTED = ("missing", "edited", "stray")
_OURS = frozenset({MANIFEST, TABLE, "picks.jsonl", ".gitignore", ".gitattributes"})
_NOT_LOOKED_AT = ("gallery/", "proof/")
_PART = re.compile(r"\..*\.[0-9a-f]{16}\.part")
"""What a run is just writing, or a killed one left: the next one sweeps it."""


def verify(outputs: Path, job: str, *, state: Path | None = None, journal: Journal | None = None) -> dict[str, Any]:
    """What is `ok` (a count), `missing`, `edited`, `broken`, `stray` and `stale` (paths below the job folder).

    A sidecar that is not the record it stands for is edited; one that is missing is only not there yet. An output
    manifest with lines that are no records is broken, and one that is not what the journal says by now is stale.
    """
    folder = Folder(outputs).below(job)
    found: dict[str, Any] = {"job": job, "ok": 0, **{word: [] for word in WORDS}}
    known = set(_OURS)
    at_work = state is not None and journal is not None and _is_at_work(Folder(state), job)
    asks_journal = _look_at_manifest(folder, found, journal, at_work=at_work)
    with PixelChecks() as checks:
        for _number, record in recorded(folder):
            if record is None:
                found["broken"] = [MANIFEST]
            else:
                known |= _look_at(folder, record, found, checks)
        for path, problem in checks.drain():
            if problem is None and _is_whole(folder, path):
                found["ok"] += 1
            else:
                found["broken"].append(path)
    found["stray"] = [path for path in _files(folder.path) if path not in known and not _is_beside(path)]
    if journal is not None and asks_journal:
        _ask_journal(folder, found, journal)
    for word in WORDS:
        found[word].sort()
    return found


def _is_beside(path: str) -> bool:
    return path.startswith(_NOT_LOOKED_AT) or _PART.fullmatch(path.rpartition("/")[2]) is not None


def _look_at(folder: Folder, record: dict[str, Any], found: dict[str, Any], checks: PixelChecks) -> set[str]:
    """Compare the files of a record with it; returns their paths."""
    for file in record["files"]:
        _look(folder, file, found, checks)
    paths = {file["path"] for file in record["files"]}
    sidecar = sidecar_of(record)
    if sidecar is not None and is_sidecar(folder, sidecar, record["key"]):
        paths.add(sidecar)
        _count(found, sidecar, _text(folder, sidecar) == dumps(record) + "\n")
    return paths


def _look(folder: Folder, file: File, found: dict[str, Any], checks: PixelChecks) -> None:
    """Compare one file with its record; an image that is the one recorded is decoded as well."""
    path, sha256 = file["path"], file["sha256"]
    if folder.status(path) is None:
        found["missing"].append(path)
    elif pointer(folder, path) == sha256:
        found["ok"] += 1
    elif folder.sha256(path) == sha256 and file["mime"].startswith("image/"):
        checks.submit(path, folder.path / path, blank=False)
    else:
        _count(found, path, folder.sha256(path) == sha256)


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


def _is_whole(folder: Folder, path: str) -> bool:
    try:
        with folder.opened(path) as stream:
            images.structure(stream.read())
    except (OSError, images.BrokenImage):
        return False
    return True


def _files(top: Path) -> Iterator[str]:
    """Every file below a folder, and every link to a folder: nothing behind one is ours."""
    for folder, folders, names in os.walk(top):
        links = [name for name in folders if (Path(folder) / name).is_symlink()]
        for name in [*names, *links]:
            yield (Path(folder) / name).relative_to(top).as_posix()


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
    if digest is None and not at_work:
        found["missing"].append(MANIFEST)
    elif digest == published and not at_work and digest != _digest(journal, found["job"]):
        found["stale"].append(MANIFEST)
    return at_work or digest == published


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
