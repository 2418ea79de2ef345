"""The output tree of a job: its pictures, what was retired from it, and the output manifest.

Pictures lie at `outputs/<job>/<path>`; a picture that is replaced or no longer asked for moves to
`retired/<job>/`, named by its content, and can come back from there. `manifest.jsonl` and `manifest.csv` are
written last, and only when they differ.
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
import re
from typing import TYPE_CHECKING, Any

from pipeline import batchfile
from pipeline.durable import PIECE, Folder
from pipeline.record import HAS_IMAGE, dumps, wire_key

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from pathlib import Path

    from pipeline.journal import Journal, Record

MANIFEST = "manifest.jsonl"
TABLE = "manifest.csv"
_POINTER = b"version https://git-lfs.github.com/spec/v1\n"
_LONGEST_LINE = 256 << 20
_LONGEST_POINTER = 1024
_FORMULA = re.compile(r"[=+\-@\t\r\n\uff1d\uff0b\uff0d\uff20]")

File = dict[str, Any]
"""An entry of a record's `files`."""


class Tree:
    """A job's files. Changes of the journal's `file` table belong into a transaction."""

    def __init__(self, outputs: Path, state: Path, job: str, journal: Journal) -> None:
        self.job = job
        self.folder = Folder(outputs / job)
        self.retired = Folder(state / "retired" / job)
        self.quarantine = Folder(state / "quarantine" / job)
        self.conflicts = Folder(state / "conflicts" / job)
        self._records = journal.records
        self._learned: dict[str, tuple[str, int, int]] = {}

    # ------------------------------------------------------------------------------ what is there

    def condition(self, files: Iterable[File]) -> str:
        """Whether a record's files are as they were published: `ok`, `missing`, or `edited` by somebody."""
        found = {self._one(file["path"], file["sha256"]) for file in files}
        return next((word for word in ("edited", "missing") if word in found), "ok")

    def _one(self, path: str, sha256: str) -> str:
        status = self.folder.status(path)
        if status is None:
            return "missing"
        known = self._learned.get(path) or self._records.known_file(self.job, path)
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

    def foreign(self, path: str) -> str | None:
        """A file that no record claims, at the place where a picture would go; its path, or `None`."""
        for extension in (".jpg", ".png", ".webp"):
            if self.folder.status(path + extension) and not self._records.known_file(self.job, path + extension):
                return path + extension
        return None

    def keep(self, path: str, digest: str) -> None:
        """Copy a file of the tree to `quarantine/`, under a name made of its sha256."""
        name = f"{digest[:16]}-{path.rpartition('/')[2]}"
        with self.folder.opened(path) as stream, self.quarantine.replacing(name) as copy:
            while piece := stream.read(PIECE):
                copy.write(piece)

    # --------------------------------------------------------------------------------- what moves

    def publish(self, path: str, sha256: str, size: int) -> None:
        """Note that a file was published; inside a transaction."""
        status = self.folder.status(path)
        if status is not None:
            self._records.know_file(self.job, path, sha256, size, status.st_mtime_ns)

    def retire(self, record: Mapping[str, Any]) -> None:
        """Move a record's own files out of the tree; what somebody edited stays where it is."""
        for file in record["files"]:
            if self._one(file["path"], file["sha256"]) == "ok":
                self.folder.move(file["path"], self.retired, _content_name(record, file))
            self._learned.pop(file["path"], None)
            self._records.forget_file(self.job, file["path"])

    def retire_bytes(self, record: Mapping[str, Any], file: File, data: bytes) -> None:
        """Keep an image that nobody asks for any more."""
        with self.retired.replacing(_content_name(record, file)) as stream:
            stream.write(data)

    def retire_file(self, record: Mapping[str, Any], file: File) -> None:
        """Move one file out of the tree that is ours and that no row knows."""
        self.folder.move(file["path"], self.retired, _content_name(record, file))

    def is_retired(self, record: Mapping[str, Any]) -> bool:
        """Whether every file of a record is in `retired/`."""
        return bool(record["files"]) and all(
            self.retired.status(_content_name(record, file)) for file in record["files"]
        )

    def bring(self, record: Mapping[str, Any], base: str, kept: Callable[[], dict[str, bytes]]) -> list[File] | None:
        """Put a record's missing files at `base`, from `retired/` or from `kept` answers (bytes by sha256).

        Returns the files as they lie then, or `None` when one of them is nowhere; inside a transaction.
        """
        placed = []
        for file in record["files"]:
            target = {**file, "path": _rebased(file["path"], base)}
            if not self._place(record, file, target["path"], kept):
                return None
            status = self.folder.status(target["path"])
            if status is None:
                return None
            self._records.know_file(self.job, target["path"], file["sha256"], status.st_size, status.st_mtime_ns)
            placed.append(target)
        return placed

    def _place(self, record: Mapping[str, Any], file: File, path: str, kept: Callable[[], dict[str, bytes]]) -> bool:
        there = self._one(path, file["sha256"])
        if there != "missing":
            return there == "ok"
        name = _content_name(record, file)
        if self.retired.status(name) and self.retired.sha256(name) == file["sha256"]:
            self.retired.move(name, self.folder, path)
            return True
        data = kept().get(file["sha256"])
        if data is None:
            return False
        with self.folder.replacing(path) as stream:
            stream.write(data)
        return True


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
    folder, slash, name = path.rpartition("/")
    del folder, slash
    return base + name[name.index(".") :]


def base_of(record: Mapping[str, Any]) -> str:
    """The path of a record's files without extension; empty when it has none."""
    for file in record["files"]:
        if file["kind"] == "image":
            return str(file["path"]).rpartition(".")[0]
    return ""


# ------------------------------------------------------------------------------------- the output manifest


def write_manifest(journal: Journal, tree: Tree) -> bool:
    """Publish `manifest.jsonl` and `manifest.csv`; returns whether anything differed from what was there."""
    job = tree.job
    digest, count = _digest(journal, job)
    if tree.folder.sha256(MANIFEST) == digest and tree.folder.status(TABLE):
        with journal.transaction():
            journal.set_published(job, digest)
        return False
    if not count and not tree.folder.status(MANIFEST):
        return False
    with tree.folder.replacing(TABLE) as stream:
        _write_table(journal, job, stream)
    with tree.folder.replacing(MANIFEST) as stream:
        for line in journal.records.published(job):
            stream.write(line.encode() + b"\n")
    with journal.transaction():
        journal.set_published(job, digest)
    return True


def _digest(journal: Journal, job: str) -> tuple[str, int]:
    digest, count = hashlib.sha256(), 0
    for line in journal.records.published(job):
        digest.update(line.encode() + b"\n")
        count += 1
    return digest.hexdigest(), count


_COLUMNS = (
    "key", "id", "item", "status", "reason", "path", "width", "height", "bytes", "sha256", "model", "aspect", "size",
    "prompt", "alt", "cost", "at",
)  # fmt: skip


def _write_table(journal: Journal, job: str, stream: Any) -> None:
    names: dict[str, None] = {}
    for line in journal.records.published(job):
        names.update(dict.fromkeys(json.loads(line)["vars"] or {}))
    text = io.TextIOWrapper(stream, encoding="utf-8-sig", errors="backslashreplace", newline="", write_through=False)
    table = csv.writer(text, quoting=csv.QUOTE_ALL, lineterminator="\r\n")
    table.writerow([*_COLUMNS, *(_defused(name) for name in names)])
    for line in journal.records.published(job):
        table.writerow(_row(json.loads(line), names))
    text.flush()
    text.detach()


def _row(record: Mapping[str, Any], names: Iterable[str]) -> list[str]:
    image: Mapping[str, Any] = next((file for file in record["files"] if file["kind"] == "image"), {})
    settings, variables = record["settings"] or {}, record["vars"] or {}
    cells = {
        **{name: record.get(name) for name in _COLUMNS},
        **{name: image.get(name) for name in ("path", "width", "height", "bytes", "sha256")},
        **{name: settings.get(name) for name in ("aspect", "size")},
        "alt": (record["metadata"] or {}).get("alt"),
        "cost": (record["cost"] or {}).get("amount"),
    }
    return [_defused(cells[name]) for name in _COLUMNS] + [_defused(variables.get(name)) for name in names]


def _defused(cell: object) -> str:
    """A cell that no spreadsheet takes for a formula."""
    text = "" if cell is None else str(cell)
    return f"'{text}" if _FORMULA.match(text) else text


def read_manifest(journal: Journal, tree: Tree, *, published: str | None) -> list[str]:
    """Take over what `manifest.jsonl` knows and the journal does not; returns what was wrong with it.

    Nothing happens when it is the one that was written last. A line that is in both is decided by the files: the
    record whose files are there wins. A manifest with lines that cannot be read is kept in `quarantine/`, because
    the next one is written without them.
    """
    digest = tree.folder.sha256(MANIFEST)
    if digest is None or digest == published:
        return []
    problems = []
    with tree.folder.opened(MANIFEST) as stream, journal.transaction():
        for number, (_offset, line) in enumerate(batchfile.lines(stream, longest=_LONGEST_LINE), 1):
            if line is not None and not line.strip():
                continue
            record = _record(line)
            if record is None:
                problems.append(f"{tree.folder.path / MANIFEST}:{number}: no record; the line is left out")
            else:
                _take(journal, tree, record)
        tree.learn()
        journal.set_published(tree.job, digest)
    if problems:
        tree.keep(MANIFEST, digest)
    return problems


def _record(line: bytes | None) -> dict[str, Any] | None:
    """A line of an output manifest, if it can be trusted to be one."""
    try:
        record = json.loads(line or b"")
        record["key"].encode()
    except (ValueError, RecursionError, LookupError, TypeError, AttributeError):
        return None
    return record if isinstance(record, dict) and _is_record(record) else None


_TEXTS = ("key", "item", "id", "fingerprint", "status", "model", "model_id", "prompt", "service")
_MAPS = ("settings", "vars", "metadata", "usage", "cost")


def _is_record(record: dict[str, Any]) -> bool:
    return (
        all(isinstance(record.get(name), str) for name in _TEXTS)
        and all(isinstance(record.get(name), dict | None) for name in _MAPS)
        and isinstance(record["settings"], dict)
        and all(isinstance(record.get(name), str | None) for name in ("reason", "at", "template", "batch", "text"))
        and _is_count(record.get("attempt"), 1_000_000)
        and all(isinstance(record.get(name), list) for name in ("files", "inputs"))
        and all(_is_file(file) for file in record["files"])
        and all(isinstance(image, dict) and isinstance(image.get("sha256"), str) for image in record["inputs"])
        and re.fullmatch(r"[0-9a-f]{64}", record["fingerprint"]) is not None
        and record["service"] in {"gemini", "local"}
    )


def _is_file(file: Any) -> bool:
    return (
        isinstance(file, dict)
        and all(isinstance(file.get(name), str) for name in ("path", "kind", "sha256", "mime"))
        and all(_is_count(file.get(name), 1 << 40) for name in ("bytes", "width", "height"))
        and re.fullmatch(r"[0-9a-f]{64}", file["sha256"]) is not None
        and _is_below(file["path"])
    )


def _is_count(value: Any, most: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= most


def _is_below(path: str) -> bool:
    """Whether a path from a manifest stays in the job folder, and can be a path at all."""
    return path.isprintable() and path.isascii() and not {"", ".", ".."} & set(path.split("/"))


def _take(journal: Journal, tree: Tree, told: dict[str, Any]) -> None:
    known = journal.records.get(tree.job, told["key"], told["fingerprint"])
    is_pending = told["status"] == "pending"
    if is_pending and not told.get("batch"):
        return
    if known is not None and not _is_better(tree, told, known):
        return
    transient = re.match(r"code (4|8|10|13|14|408|429|5\d\d)\b", told.get("reason") or "")
    journal.records.put(
        job=tree.job,
        key=told["key"],
        fingerprint=told["fingerprint"],
        wire_key=wire_key(told["key"], told["fingerprint"]),
        model_id=told["model_id"],
        path=base_of(told),
        status=told["status"],
        transient=int(bool(transient) and told["status"] == "failed"),
        place="tree",
        wanted=0,
        service=told["service"],
        batch=None,
        claim=told["batch"] if is_pending else None,
        attempts=told["attempt"],
        answer_bytes=0,
        line=dumps(told),
    )
    if told["status"] not in HAS_IMAGE:
        tree.condition(told["files"])  # what lies there for an earlier ask is known, too


def _is_better(tree: Tree, told: dict[str, Any], known: Record) -> bool:
    """Whether the manifest's record of an ask describes the files better than the journal's does."""
    is_unsent = known.status == "pending" and known.batch is None and known.claim is None
    if told["status"] == "pending":
        return is_unsent
    if told["status"] not in HAS_IMAGE:
        return False
    if known.status not in HAS_IMAGE:
        return known.batch is None and tree.condition(told["files"]) == "ok"
    ours = json.loads(known.line)["files"]
    same = [(f["path"], f["sha256"]) for f in ours] == [(f["path"], f["sha256"]) for f in told["files"]]
    return not same and tree.condition(ours) != "ok" and tree.condition(told["files"]) == "ok"
