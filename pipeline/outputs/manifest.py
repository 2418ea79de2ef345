"""The output manifest: written last, and only when it differs; read where the journal knows less.

`manifest.jsonl` is the contract, `manifest.csv` the same for spreadsheets.
"""

from __future__ import annotations

import hashlib
import json
import re
from typing import TYPE_CHECKING, Any

from pipeline import batchfile
from pipeline.outputs import page, splice
from pipeline.outputs.layout import Laying, Layout, is_of_pieces, seen
from pipeline.outputs.sidecars import learn_sidecar
from pipeline.outputs.tree import base_of
from pipeline.record import HAS_IMAGE, dumps, wire_key

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pipeline.durable import Folder
    from pipeline.journal import Journal, Record
    from pipeline.outputs.tree import Tree

MANIFEST = "manifest.jsonl"
TABLE = "manifest.csv"
_LONGEST_LINE = 256 << 20


def write_manifest(journal: Journal, tree: Tree) -> bool:
    """Publish `manifest.jsonl` and `manifest.csv`; returns whether anything differed from what was there."""
    if tree.standing == _standing(journal, tree):
        return False
    is_new = _spliced(journal, tree)
    if is_new is None:
        is_new = _publish(journal, tree)
    tree.standing = _standing(journal, tree)
    return is_new


def _standing(journal: Journal, tree: Tree) -> tuple[object, ...]:
    """What is another one once something was written to the journal, or somebody has changed what is published."""
    return (journal.writes, *_files(tree))


def _files(tree: Tree) -> tuple[tuple[int, ...], ...]:
    """What tells the two files from all others."""
    return tuple(seen(tree.folder.status(name)) for name in (MANIFEST, TABLE))


def stands(journal: Journal, tree: Tree) -> bool:
    """Whether the two files are the very ones that were published last."""
    layout = _layout(journal, tree.job)
    return layout is not None and layout.files == _files(tree)


def _spliced(journal: Journal, tree: Tree) -> bool | None:
    """Publish what has changed of what is at hand, the rest as it was; `None` where all must be written anew."""
    layout = _layout(journal, tree.job) if journal.others.are_apart else None
    if layout is None:
        return None
    try:
        with tree.folder.opened(MANIFEST) as lines, tree.folder.opened(TABLE) as rows:
            if not splice.is_as_it_was(layout, (lines, rows)):
                return None
            change = splice.changes(layout, lines, journal, tree.job)
            if not change:
                return None if change is None else False
            with tree.folder.replacing(MANIFEST) as stream, tree.folder.replacing(TABLE) as table:
                written = splice.write(layout, change, (lines, rows), stream, table).of(stream, table)
    except (splice.OtherColumnsError, OSError):
        return None
    _note(journal, tree, written.digest, written)
    return True


def _layout(journal: Journal, job: str) -> Layout | None:
    """How the manifest lies on the disk that was written last, where that was noted."""
    try:
        return Layout.loads(journal.layouts.of(job) or "")
    except (ValueError, LookupError, TypeError):
        return None


def _publish(journal: Journal, tree: Tree) -> bool:
    job = tree.job
    digest, count = _digest(journal, job)
    if tree.folder.sha256(MANIFEST) == digest and tree.folder.status(TABLE):
        with journal.transaction():
            journal.set_published(job, digest)
        return False
    if not count and not tree.folder.status(MANIFEST):
        return False
    # The table goes to its place first: what is the newest of the two is the manifest, which says that both are there.
    with tree.folder.replacing(MANIFEST) as stream, tree.folder.replacing(TABLE) as table:
        laying = Laying(stream, table)
        for line in journal.records.published(job):
            laying.take(line.encode() + b"\n")
        laying.end(journal.records.published(job))
        layout = Layout((), laying.header_bytes, tuple(laying.blocks)).of(stream, table)
    _note(journal, tree, digest, layout)
    return True


def _note(journal: Journal, tree: Tree, digest: str, layout: Layout) -> None:
    """Note what was published, and how it lies on the disk."""
    files = _files(tree)
    are_ours = [file[:-1] for file in files] == [file[:-1] for file in layout.files]  # a new name is a change
    layout = layout._replace(files=files if are_ours else ())
    with journal.transaction():
        journal.set_published(tree.job, digest)
        journal.layouts.put(tree.job, layout.dumps())


def _digest(journal: Journal, job: str) -> tuple[str, int]:
    digest, count = hashlib.sha256(), 0
    for line in journal.records.published(job):
        digest.update(line.encode() + b"\n")
        count += 1
    return digest.hexdigest(), count


def is_published(journal: Journal, folder: Folder, job: str, published: str | None) -> bool:
    """Whether the manifest that is there is the one that was written or read last."""
    if not is_of_pieces(published):
        return published is not None and folder.sha256(MANIFEST) == published
    layout = _layout(journal, job)
    try:
        with folder.opened(MANIFEST) as stream:
            return layout is not None and layout.digest == published and layout.is_of(stream)
    except OSError:
        return False


def read_manifest(journal: Journal, tree: Tree, *, published: str | None) -> list[str]:
    """Take over what `manifest.jsonl` knows and the journal does not; returns what was wrong with it.

    Nothing happens when it is the one that was written last. A line that is in both is decided by the files: the
    record whose files are there wins. A manifest with lines that cannot be read is kept in `quarantine/`, because
    the next one is written without them.
    """
    digest = None if is_published(journal, tree.folder, tree.job, published) else tree.folder.sha256(MANIFEST)
    if digest is None:
        return []
    problems = []
    with journal.transaction():
        for number, record in recorded(tree.folder):
            if record is None:
                problems.append(f"{tree.folder.path / MANIFEST}:{number}: no record; the line is left out")
            else:
                _take(journal, tree, record)
        tree.learn()
        journal.set_published(tree.job, digest)
    if problems:
        tree.keep(MANIFEST, digest)
    return problems


def recorded(folder: Folder, name: str = MANIFEST) -> Iterator[tuple[int, dict[str, Any] | None]]:
    """The records of an output manifest in a job's folder, by the numbers of their lines; `None` for what is none."""
    if folder.status(name) is None:
        return
    with folder.opened(name) as stream:
        for number, (_offset, line) in enumerate(batchfile.lines(stream, longest=_LONGEST_LINE), 1):
            if line is None or line.strip():
                yield number, _record(line)


def _record(line: bytes | None) -> dict[str, Any] | None:
    """A line of an output manifest, if it can be trusted to be one."""
    try:
        record = json.loads(line or b"")
        record["key"].encode()
    except (ValueError, RecursionError, LookupError, TypeError, AttributeError):
        return None
    return record if isinstance(record, dict) and _is_record(record) else None


_TEXTS = ("key", "item", "id", "fingerprint", "status", "model", "model_id", "prompt", "service")
_MAPS = ("settings", "vars", "metadata", "usage", "cost", "grounding")


def _is_record(record: dict[str, Any]) -> bool:
    return (
        all(isinstance(record.get(name), str) for name in _TEXTS)
        and all(isinstance(record.get(name), dict | None) for name in _MAPS)
        and isinstance(record["settings"], dict)
        and _is_settings(record["settings"])
        and all(isinstance(record.get(name), str | None) for name in ("reason", "at", "template", "batch", "text"))
        and all(_is_count(record.get(name), 1_000_000) for name in ("attempt", "sample", "turn"))
        and all(isinstance(record.get(name), list) for name in ("files", "inputs"))
        and all(_is_file(file) for file in record["files"])
        and all(_is_input(image) for image in record["inputs"])
        and re.fullmatch(r"[0-9a-f]{64}", record["fingerprint"]) is not None
        and record["service"] in {"gemini", "local"}
    )


_FILE_TEXTS = ("path", "kind", "sha256", "mime")


def _is_settings(settings: dict[str, Any]) -> bool:
    """Whether what decides where an answer goes can be read; the rest is only shown."""
    response = settings.get("response", ["image"])
    return (
        all(isinstance(settings.get(name), str) for name in ("aspect", "size"))
        and isinstance(response, list)
        and bool(response)
        and all(word in ("text", "image") for word in response)
    )


def _is_input(image: Any) -> bool:
    return isinstance(image, dict) and all(isinstance(image.get(name), str) for name in ("path", "sha256"))


def _is_file(file: Any) -> bool:
    """Whether this is an entry of `files`; a text has neither width nor height."""
    if not isinstance(file, dict) or not all(isinstance(file.get(name), str) for name in _FILE_TEXTS):
        return False
    sides = (file.get("width"), file.get("height"))
    return (
        _is_count(file.get("bytes"), 1 << 40)
        and (sides == (None, None) if file["mime"] == page.MIME else all(_is_count(side, 1 << 40) for side in sides))
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
    if known is not None and not _is_better(journal, tree, told, known):
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
        expiries=int(told["status"] == "expired"),
        answer_bytes=0,
        line=dumps(told),
    )
    learn_sidecar(tree, told, dumps(told))
    if told["status"] not in HAS_IMAGE:
        tree.condition(told["files"])  # what lies there for an earlier ask is known, too


def _is_settled(journal: Journal, told: dict[str, Any], known: Record) -> bool:
    """Whether a journal that still waits for an outcome is older than the manifest that has it: it was put back."""
    if known.batch is None:
        return True
    batch = journal.batches.by_id(known.batch)
    return batch.state in {"planned", "intent"} if batch.remote is None else batch.remote == told["batch"]


def _is_better(journal: Journal, tree: Tree, told: dict[str, Any], known: Record) -> bool:
    """Whether the manifest's record of an ask describes the files better than the journal's does."""
    is_unsent = known.status == "pending" and known.batch is None and known.claim is None
    if told["status"] == "pending":
        return is_unsent
    if told["status"] not in HAS_IMAGE:
        return False
    if known.status not in HAS_IMAGE:
        return _is_settled(journal, told, known) and tree.condition(told["files"]) == "ok"
    ours = json.loads(known.line)["files"]
    same = [(f["path"], f["sha256"]) for f in ours] == [(f["path"], f["sha256"]) for f in told["files"]]
    return not same and tree.condition(ours) != "ok" and tree.condition(told["files"]) == "ok"
