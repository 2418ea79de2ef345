"""The tree against its output manifest: every file hashed and decoded. Needs no journal, changes nothing."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline import images
from pipeline.durable import Folder
from pipeline.outputs import MANIFEST, TABLE, pointer
from pipeline.pixels import PixelChecks

if TYPE_CHECKING:
    from collections.abc import Iterator

_OURS = frozenset({MANIFEST, TABLE, "picks.jsonl", ".gitignore", ".gitattributes"})


def verify(outputs: Path, job: str) -> dict[str, Any]:
    """What is `ok` (a count), `missing`, `edited`, `broken` and `stray` (paths below the job folder)."""
    folder = Folder(outputs / job)
    found: dict[str, Any] = {"job": job, "ok": 0, "missing": [], "edited": [], "broken": [], "stray": []}
    known = set(_OURS)
    with PixelChecks() as checks:
        for file in _recorded(folder):
            known.add(file["path"])
            if folder.status(file["path"]) is None:
                found["missing"].append(file["path"])
            elif pointer(folder, file["path"]) == file["sha256"]:
                found["ok"] += 1
            elif folder.sha256(file["path"]) != file["sha256"]:
                found["edited"].append(file["path"])
            else:
                checks.submit(file["path"], folder.path / file["path"], blank=False)
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


def _recorded(folder: Folder) -> Iterator[dict[str, Any]]:
    if folder.status(MANIFEST) is None:
        return
    with folder.opened(MANIFEST) as stream:
        for line in stream:
            yield from json.loads(line)["files"]


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
