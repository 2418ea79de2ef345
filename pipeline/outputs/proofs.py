"""Pictures to look at before the rest is bought, below `proof/` in a job's folder, with an output manifest of theirs.

They are nobody's results: no record of the job names them, and whoever likes may delete them. What a later proof shows
under the same key takes their place; a file that is not ours, or was edited since, is put into `quarantine/` first.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pipeline.outputs.manifest import MANIFEST, recorded
from pipeline.record import HAS_IMAGE, dumps

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pipeline.outputs.tree import File, Tree

PROOF = "proof/"


class Proofs:
    """The proofs of a job. `show` puts pictures there at once; `write` says what there is, once all have come."""

    def __init__(self, tree: Tree) -> None:
        self._tree, self._folder = tree, tree.folder
        self._told: dict[str, dict[str, Any]] = {
            told["key"]: told for _number, told in recorded(tree.folder, PROOF + MANIFEST) if told is not None
        }

    def show(self, told: Mapping[str, Any], contents: Mapping[str, bytes]) -> list[str]:
        """Put the files of a record below `proof/`, by their paths there; returns these, the result first."""
        self._make_room(told)
        for file in told["files"]:
            if file["path"] in contents and self._folder.sha256(file["path"]) != file["sha256"]:
                with self._folder.replacing(file["path"]) as stream:
                    stream.write(contents[file["path"]])
        self._told[told["key"]] = dict(told)
        return list(contents)

    def copy(self, told: Mapping[str, Any]) -> list[str]:
        """Show what the job has among its results by now; returns the paths below `proof/`.

        Of what brought no image nothing is shown, whatever lies there from before.
        """
        if told["status"] not in HAS_IMAGE:
            return self.show({**told, "files": []}, {})
        files = [{**file, "path": PROOF + file["path"]} for file in told["files"]]
        contents = {}
        for file in told["files"]:
            if self._folder.status(file["path"]) is None:  # something else lies there, and it waits elsewhere
                continue
            with self._folder.opened(file["path"]) as stream:
                contents[PROOF + file["path"]] = stream.read()
        return self.show({**told, "files": files}, contents)

    def write(self) -> None:
        """Write the output manifest of what is there: what was shown now, and what is left from before."""
        there = [told for told in self._told.values() if all(map(self._is_there, told["files"]))]
        if not there and self._folder.status(PROOF + MANIFEST) is None:
            return
        with self._folder.replacing(PROOF + MANIFEST) as stream:
            for told in sorted(there, key=lambda told: str(told["key"])):
                stream.write(dumps(told).encode() + b"\n")

    def _is_there(self, file: File) -> bool:
        return self._folder.status(file["path"]) is not None

    def _make_room(self, told: Mapping[str, Any]) -> None:
        """Take away what was shown under this key, or lies in the way of it."""
        wished = {file["path"]: file["sha256"] for file in told["files"]}
        for key, old in list(self._told.items()):
            ours = {file["path"]: file["sha256"] for file in old["files"] if file["path"].startswith(PROOF)}
            if key != told["key"] and not ours.keys() & wished.keys():
                continue
            for path, sha256 in ours.items():
                if wished.get(path) != sha256 and self._folder.sha256(path) == sha256:
                    self._folder.remove(path)
            del self._told[key]
        for path, sha256 in wished.items():
            found = self._folder.sha256(path)
            if found not in {None, sha256}:
                self._tree.keep(path, str(found))
