"""Sidecars: the record of each result beside it, as `<path>.json`, for who sees the picture and not the manifest.

They are derived from the output manifest as the table is: one that is missing is written again, one that no image lies
beside any more is taken away, and one that somebody edited is put into `quarantine/` before it is written anew. A file
of that name that is no sidecar is somebody else's, and stays.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from pipeline.outputs import page
from pipeline.outputs.tree import base_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pipeline.durable import Folder
    from pipeline.journal import Journal
    from pipeline.outputs.tree import Tree

_EXTENSION = ".json"
_GROUP = 256
_LONGEST = 64 << 20


def write_sidecars(journal: Journal, tree: Tree, *, wanted: bool) -> None:
    """Make the sidecars of a job what its output manifest says, or, where they are not wanted, take them away."""
    if not wanted and journal.others.are_apart:
        return  # the job was at rest: none was there, and none has come
    surplus = {path for path in journal.records.files(tree.job) if path.endswith(_EXTENSION)}
    group: dict[str, bytes] = {}
    for line in journal.records.published(tree.job) if wanted else ():
        record = json.loads(line)
        path, data = sidecar_of(record), line.encode() + b"\n"
        if path is None:
            continue
        surplus.discard(path)
        if _is_due(journal, tree, path, data, record["key"]):
            group[path] = data
        if len(group) >= _GROUP:
            _publish(journal, tree, group)
    _publish(journal, tree, group)
    for path in sorted(surplus):
        _withdraw(journal, tree, path)


def sidecar_of(record: Mapping[str, Any]) -> str | None:
    """Where a record's sidecar lies; `None` when it has no file to lie beside."""
    base = base_of(record)
    return base + _EXTENSION if base else None


def is_sidecar(folder: Folder, path: str, key: str) -> bool:
    """Whether the file at `path` is a sidecar of that key, of whatever age and whoever edited it."""
    status = folder.status(path)
    if status is None or status.st_size > _LONGEST:
        return False
    try:
        with folder.opened(path) as stream:
            told = json.loads(stream.read())
    except (OSError, ValueError, RecursionError):
        return False
    return isinstance(told, dict) and told.get("key") == key and "fingerprint" in told


def learn_sidecar(tree: Tree, record: Mapping[str, Any], line: str) -> None:
    """Know the sidecar of a record that came from a manifest, so that it leaves with its image; in a transaction."""
    path = sidecar_of(record)
    if path is not None and tree.folder.sha256(path) == (sha256 := page.sha256(line.encode() + b"\n")):
        tree.publish(path, sha256)


def _is_due(journal: Journal, tree: Tree, path: str, data: bytes, key: str) -> bool:
    """Whether a sidecar must be written; what lies there and is not ours any more is kept apart first."""
    status = tree.folder.status(path)
    if status is None:
        return True
    sha256, known = page.sha256(data), journal.records.known_file(tree.job, path)
    if known == (sha256, status.st_size, status.st_mtime_ns):
        return False
    found = tree.folder.sha256(path)
    if found == sha256:
        with journal.transaction():
            tree.publish(path, sha256)
        return False
    if found is None or not (known or is_sidecar(tree.folder, path, key)):
        return False
    if known is None or known[0] != found:
        tree.keep(path, found)
    return True


def _publish(journal: Journal, tree: Tree, group: dict[str, bytes]) -> None:
    if not group:
        return
    with tree.folder.staging() as staging:
        for path, data in group.items():
            staging.write(path, data)
        staging.sync()
        staging.publish()
    with journal.transaction():
        for path, data in group.items():
            tree.publish(path, page.sha256(data))
    group.clear()


def _withdraw(journal: Journal, tree: Tree, path: str) -> None:
    """Remove a sidecar whose image has left; one that somebody edited stays, and is nobody's business any more."""
    known = journal.records.known_file(tree.job, path)
    if known is not None and tree.folder.sha256(path) == known[0]:
        tree.folder.remove(path)
    with journal.transaction():
        journal.records.forget_file(tree.job, path)
