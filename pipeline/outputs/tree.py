"""The files of a job: its pictures, what was retired from it, and what must not be lost.

Pictures lie at `outputs/<job>/<path>`; a picture that is replaced or no longer asked for moves to
`retired/<job>/`, named by its content, and can come back from there.
"""

from __future__ import annotations

import contextlib
import os
import re
from typing import TYPE_CHECKING, Any

from pipeline.durable import PIECE, Folder
from pipeline.outputs import page
from pipeline.outputs.turns import Turns

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
    from pathlib import Path

    from pipeline.durable import Looking
    from pipeline.journal import Journal

_POINTER = b"version https://git-lfs.github.com/spec/v1\n"
_LONGEST_POINTER = 1024
_NEVER = 0
"""When a file was changed that is not there yet: no file is as old."""

File = dict[str, Any]
"""An entry of a record's `files`."""
RESULTS = frozenset({"image", "part"})
"""Kinds of files that are what was asked for; where there are none, a text is."""
_BY_THE_WAY = frozenset({"draft", "thought"})


class Tree:
    """A job's files. Changes of the journal's `file` table belong into a transaction."""

    def __init__(self, outputs: Path, state: Path, job: str, journal: Journal) -> None:
        self.job = job
        self.folder = Folder(outputs).below(job)
        self.retired, self.quarantine, self.conflicts = (
            Folder(state).below(f"{name}/{job}") for name in ("retired", "quarantine", "conflicts")
        )
        self._state, self._journal = state, journal
        self._records = journal.records
        self._learned: dict[str, tuple[str, int, int]] = {}
        self._looking: Looking | None = None
        self._known: dict[str, tuple[str, int, int]] | None = None
        self.standing: tuple[object, ...] = ()
        """What the output manifest was published from last, and as what."""

    def turns(self, service: str, *, proofs: bool = False) -> Turns:
        """What a service answered to the turns of the job's conversations."""
        return Turns(self._journal, self._state, self.job, service, proofs=proofs)

    # ------------------------------------------------------------------------------ what is there

    def is_untouched(self) -> bool:
        """Whether nothing is recorded of the job and its folder is not there: nothing was ever made, or lies there."""
        return self._records.are_none(self.job) and not os.path.lexists(self.folder.path)

    def condition(self, files: Iterable[File]) -> str:
        """Whether a record's files are as they were published: `ok`, `missing`, or `edited` by somebody."""
        found = {self._one(file["path"], file["sha256"]) for file in files}
        return next((word for word in ("edited", "missing") if word in found), "ok")

    @contextlib.contextmanager
    def looking_at(self, paths: Sequence[str]) -> Iterator[None]:
        """For a block that asks for the condition of many files, these among them: each is found quickly."""
        self._known = self._records.known_files(self.job, paths)
        try:
            with self.folder.looking() as self._looking:
                yield
        finally:
            self._known = self._looking = None

    def _one(self, path: str, sha256: str) -> str:
        status = (self._looking or self.folder).status(path)
        if status is None:
            return "missing"
        known = self._learned.get(path) or (self._known or {}).get(path) or self._records.known_file(self.job, path)
        if known == (sha256, status.st_size, status.st_mtime_ns):
            return "ok"
        if self.folder.sha256(path) != sha256 and pointer(self.folder, path) != sha256:
            return "edited"
        self._learned[path] = (sha256, status.st_size, status.st_mtime_ns)
        return "ok"

    def learn(self) -> None:
        """Keep what `condition` found out, so that it need not read those files again; inside a transaction."""
        for path, known in self._learned.items():
            self._records.know_file(self.job, path, *known)
        self._learned.clear()

    def foreign(self, path: str, *, texts: bool = False) -> str | None:
        """A file that no record claims, at the place where a picture would go, or, with `texts`, a text; or `None`."""
        for extension in (".jpg", ".png", ".webp", ".md") if texts else (".jpg", ".png", ".webp"):
            file = path + extension
            is_known = file in self._learned or self._records.known_file(self.job, file)
            if not is_known and self.folder.status(file):
                return file
        return None

    def keep(self, path: str, digest: str) -> None:
        """Copy a file of the tree to `quarantine/`, under a name made of its sha256."""
        name = f"{digest[:16]}-{path.rpartition('/')[2]}"
        with self.folder.opened(path) as stream, self.quarantine.replacing(name) as copy:
            while piece := stream.read(PIECE):
                copy.write(piece)

    # --------------------------------------------------------------------------------- what moves

    def publish(self, path: str, sha256: str) -> None:
        """Note that a file was published; inside a transaction."""
        status = self.folder.status(path)
        if status is not None:
            self._records.know_file(self.job, path, sha256, status.st_size, status.st_mtime_ns)

    def retire(self, record: Mapping[str, Any]) -> None:
        """Move a record's own files out of the tree; what somebody edited stays where it is."""
        for file in record["files"]:
            if self._one(file["path"], file["sha256"]) == "ok":
                self.folder.move(file["path"], self.retired, _content_name(record, file))
            self._learned.pop(file["path"], None)
            self._records.forget_file(self.job, file["path"])

    def retire_bytes(self, record: Mapping[str, Any], file: File, pieces: Iterable[bytes]) -> None:
        """Keep an image that nobody asks for any more."""
        with self.retired.replacing(_content_name(record, file)) as stream:
            stream.writelines(pieces)

    def retire_file(self, record: Mapping[str, Any], file: File) -> None:
        """Move one file out of the tree that is ours and that no row knows."""
        self.folder.move(file["path"], self.retired, _content_name(record, file))

    def is_retired(self, record: Mapping[str, Any]) -> bool:
        """Whether a record's files can be had for nothing: they are in `retired/`, or lie in their place already.

        Only what was asked for counts: a draft or a thought is no reason to buy anything, and a text is in the record.
        """
        results = [file for file in record["files"] if file["kind"] in RESULTS]
        return bool(results or (record["files"] and record["text"])) and all(
            self.retired.status(_content_name(record, file)) or self._one(file["path"], file["sha256"]) == "ok"
            for file in results
        )

    def destined(self, record: Mapping[str, Any], base: str, kept: Callable[[], dict[str, bytes]]) -> list[File] | None:
        """A record's files as they are to lie at `base`; `None` when one is nowhere, or its place is taken.

        What does not lie there yet is in `retired/` then, out of `kept` answers (bytes by sha256) if need be. A text
        has the new names of the images it links; a draft or thought that is nowhere is let go. Inside a transaction, in
        which the record must be given these files before `arrive` moves them: a killed run goes on from there.
        """
        targets = []
        names = {page.name(file["path"]): page.name(_rebased(file["path"], base)) for file in record["files"]}
        for file in record["files"]:
            target = {**file, "path": _rebased(file["path"], base)}
            there = self._one(target["path"], file["sha256"])
            if there == "missing" and file["kind"] == "text":
                data = self._page(record, file, kept, names)
                target |= {"sha256": page.sha256(data), "bytes": len(data)}
                self.retire_bytes(record, target, (data,))
            elif there == "missing" and not self._is_kept(record, file, kept):
                if file["kind"] in _BY_THE_WAY:
                    continue
                return None
            elif there == "edited":
                return None
            if there == "missing":
                self._records.know_file(self.job, target["path"], target["sha256"], target["bytes"], _NEVER)
            targets.append(target)
        return targets

    def arrive(self, record: Mapping[str, Any]) -> None:
        """Move the files of a record that `destined` has seen from `retired/` to where they belong."""
        for file in record["files"]:
            if self.folder.status(file["path"]) is None:
                self.retired.move(_content_name(record, file), self.folder, file["path"])

    def _page(
        self, record: Mapping[str, Any], file: File, kept: Callable[[], dict[str, bytes]], names: Mapping[str, str]
    ) -> bytes:
        """The text of an answer, linking its images by the names they will have."""
        name = _content_name(record, file)
        if self.retired.sha256(name) == file["sha256"]:
            with self.retired.opened(name) as stream:
                return page.renamed(stream.read(), names)
        if file["sha256"] in kept():
            return page.renamed(kept()[file["sha256"]], names)
        images = [names[page.name(each["path"])] for each in record["files"] if each["kind"] in RESULTS]
        return page.composed([record["text"] or "", *map(page.link, range(1, len(images) + 1), images)])

    def _is_kept(self, record: Mapping[str, Any], file: File, kept: Callable[[], dict[str, bytes]]) -> bool:
        """Whether a file is in `retired/`, where it is put if only an answer has it."""
        name = _content_name(record, file)
        if self.retired.status(name):
            return file["sha256"] in {self.retired.sha256(name), pointer(self.retired, name)}
        data = kept().get(file["sha256"])
        if data is not None:
            self.retire_bytes(record, file, (data,))
        return data is not None


def pointer(folder: Folder, path: str) -> str | None:
    """The sha256 that a Git LFS pointer stands for; `None` for any other file."""
    try:
        with folder.opened(path) as stream:
            text = stream.read(_LONGEST_POINTER)
    except OSError:  # a link or a folder lies there
        return None
    found = re.search(rb"^oid sha256:([0-9a-f]{64})$", text, re.MULTILINE)
    return found[1].decode() if text.startswith(_POINTER) and found else None


def _content_name(record: Mapping[str, Any], file: File) -> str:
    extension = file["path"].rpartition("/")[2].rpartition(".")[2]
    return f"{record['fingerprint'][:16]}/{file['sha256'][:32]}.{extension}"


def _rebased(path: str, base: str) -> str:
    """`path` with another base: what follows the base is the extension, with `.draft1` and the like before it."""
    _before, dot, rest = page.name(path).partition(".")
    return base + dot + rest


def base_of(record: Mapping[str, Any]) -> str:
    """The path of a record's files without extension; empty when it has none."""
    if not record["files"]:
        return ""
    folder, slash, name = str(record["files"][0]["path"]).rpartition("/")
    return folder + slash + name.partition(".")[0]
