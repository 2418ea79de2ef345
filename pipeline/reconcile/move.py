"""What the plan found for free: renames, images that come back, and the opening of what is bought."""

from __future__ import annotations

import functools
import json
from typing import TYPE_CHECKING, Any

from pipeline import record
from pipeline.gemini.answers import UnreadableLineError, answer
from pipeline.outputs import base_of
from pipeline.unpack.pieces import pieces

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from pipeline.reconcile.run import Work


def apply(work: Work, service: str) -> None:
    """Make the journal want what the plan found: move what moved, bring back what is free, open what is bought."""
    _move(work)
    with work.journal.transaction():
        work.journal.records.want(work.job.name, service)


def _move(work: Work) -> None:
    journal, tree, job = work.journal, work.tree, work.job.name
    # All that changes its name leaves first, so that two can swap; both halves can be repeated after a crash.
    for key, fingerprint, old_key in journal.wanted.moves():
        known = journal.records.get(job, old_key, fingerprint)
        if known is None:
            continue
        told = json.loads(known.line)
        wanted_path = journal.wanted.path_of(key, fingerprint)
        with journal.transaction():
            if known.place == "tree" and known.status in record.HAS_IMAGE and known.path != wanted_path:
                tree.retire(told)
                journal.records.change(known, place="retired")
            if key != old_key:
                new = json.loads(journal.wanted.line_of(key, fingerprint))
                line = record.dumps(record.renamed(told, new))
                wire_key = record.wire_key(key, fingerprint)
                journal.records.rekey(known, key=key, wire_key=wire_key, path=known.path, line=line)
    for key, fingerprint, _old_key in journal.wanted.moves():
        _bring(work, key, fingerprint)


def _bring(work: Work, key: str, fingerprint: str) -> None:
    journal, job = work.journal, work.job.name
    known = journal.records.get(job, key, fingerprint)
    if known is None or known.status not in record.HAS_IMAGE:
        return
    base = journal.wanted.path_of(key, fingerprint) or known.path
    told = json.loads(known.line)

    @functools.cache
    def kept() -> dict[str, bytes]:
        found = journal.batches.answer_of(job, fingerprint)
        if found is None:
            return {}
        batch, _wire_key, offset, size = found
        return _contents(work.state / str(batch.answers_path), (offset, size), told)

    with journal.transaction():
        for other in journal.records.displaced(job, key, fingerprint, base):
            work.tree.retire(json.loads(other.line))
            journal.records.change(other, place="retired", wanted=0)
        files = work.tree.destined(told, base, kept)
        if files is None:
            return  # something lies in its way: it stays where it is, held, and comes with a later run
        told = {**told, "files": files}
        journal.records.change(known, path=base, line=record.dumps(told))
    work.tree.arrive(told)
    with journal.transaction():
        for file in files:
            work.tree.publish(file["path"], file["sha256"])
        journal.records.change(known, place="tree")


def _contents(answers: Path, place: tuple[int, int], told: Mapping[str, Any]) -> dict[str, bytes]:
    """What the kept answer of a record becomes, by sha256; nothing when it is not there any more."""
    offset, size = place
    try:
        with answers.open("rb") as stream:
            stream.seek(offset)
            _key, came = answer(stream.read(size))
    except (OSError, UnreadableLineError):
        return {}
    # Not redacted, and so only ever used where it is, byte for byte, what was published.
    found = pieces(came, told["settings"], base_of(told), str)
    return {piece.sha256: piece.data for piece in found.files}
