"""The tree against its output manifest: every file hashed, every image decoded. Needs no journal, changes nothing."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline import images
from pipeline.durable import Folder
from pipeline.outputs import MANIFEST, TABLE, is_sidecar, pointer, recorded, sidecar_of
from pipeline.pixels import PixelChecks
from pipeline.record import dumps

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pipeline.outputs import File

_OURS = frozenset({MANIFEST, TABLE, "picks.jsonl", ".gitignore", ".gitattributes"})


def verify(outputs: Path, job: str) -> dict[str, Any]:
    """What is `ok` (a count), `missing`, `edited`, `broken` and `stray` (paths below the job folder).

    A sidecar that is not the record it stands for is edited; one that is missing is only not there yet. An output
    manifest with lines that are no records is broken.
    """
    folder = Folder(outputs).below(job)
    found: dict[str, Any] = {"job": job, "ok": 0, "missing": [], "edited": [], "broken": [], "stray": []}
    known = set(_OURS)
    with PixelChecks() as checks:
        for _number, record in recorded(folder):
            if record is None:
                found["broken"] = [MANIFEST]
                continue
            for file in record["files"]:
                known.add(file["path"])
                _look(folder, file, found, checks)
            sidecar = sidecar_of(record)
            if sidecar is not None and is_sidecar(folder, sidecar, record["key"]):
                known.add(sidecar)
                _count(found, sidecar, _text(folder, sidecar) == dumps(record) + "\n")
        for path, problem in checks.drain():
            if problem is None and _is_whole(folder, path):
                found["ok"] += 1
            else:
                found["broken"].append(path)
    found["stray"] = [
        path for path in _files(folder.path) if path not in known and not path.startswith(("gallery/", "proof/"))
    ]
    for word in ("missing", "edited", "broken", "stray"):
        found[word].sort()
    return found


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
    with folder.opened(path) as stream:
        return stream.read().decode("utf-8", "replace")


def _is_whole(folder: Folder, path: str) -> bool:
    with folder.opened(path) as stream:
        try:
            images.structure(stream.read())
        except images.BrokenImage:
            return False
    return True


def _files(top: Path) -> Iterator[str]:
    for folder, _folders, names in os.walk(top):
        for name in names:
            yield (Path(folder) / name).relative_to(top).as_posix()
