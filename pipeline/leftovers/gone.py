"""Images in the tree that the job does not ask for any more: they leave it, and can come back for nothing."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from pipeline.journal.leftovers import GONE
from pipeline.leftovers.leftover import Leftover
from pipeline.outputs import sidecar_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pipeline.journal import Journal
    from pipeline.outputs import Tree

_EDITED = "edited by somebody"


def gone(journal: Journal, tree: Tree) -> Iterator[Leftover]:
    """The files of a compared job that nobody asks for; what somebody edited is only named."""
    for page in journal.records.pages(tree.job, GONE):
        for record in page:
            told = json.loads(record.line)
            if tree.condition(told["files"]) == "edited":
                yield from (_leftover(tree, file["path"], "leave", _EDITED) for file in told["files"])
            else:
                yield from _files(journal, tree, told)


def _files(journal: Journal, tree: Tree, told: dict[str, Any]) -> Iterator[Leftover]:
    for file in told["files"]:
        if tree.folder.status(file["path"]) is not None:
            yield _leftover(tree, file["path"], "retire")
    sidecar = sidecar_of(told)
    if sidecar is not None and journal.records.known_file(tree.job, sidecar):
        yield _leftover(tree, sidecar, "retire")


def _leftover(tree: Tree, path: str, verb: Any, why: str = "") -> Leftover:
    status = tree.folder.status(path)
    return Leftover(verb, path, status.st_size if status else 0, why)


def retire(journal: Journal, tree: Tree) -> int:
    """Move what `gone` found to `retired/`; returns how many requests that were. The caller publishes what is left."""
    count = 0
    for page in journal.records.pages(tree.job, GONE):
        for record in page:
            told = json.loads(record.line)
            if tree.condition(told["files"]) == "edited":
                continue
            # A kill between the two leaves a record whose files are missing: they are found in retired/ all the same.
            with journal.transaction():
                tree.retire(told)
                journal.records.change(record, place="retired", wanted=0)
                journal.note(tree.job, "retired", key=record.key, fingerprint=record.fingerprint)
            count += 1
    tree.folder.prune()
    return count
