"""What the plan found for free: renames, images that come back, and the opening of what is bought."""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING

from pipeline import record
from pipeline.gemini import wire

if TYPE_CHECKING:
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

    def kept() -> dict[str, bytes]:
        found = journal.batches.answer_of(job, fingerprint)
        if found is None:
            return {}
        batch, _wire_key, offset, size = found
        return _images(work.state / str(batch.answers_path), offset, size)

    with journal.transaction():
        for other in journal.records.displaced(job, key, fingerprint, base):
            work.tree.retire(json.loads(other.line))
            journal.records.change(other, place="retired", wanted=0)
        placed = work.tree.bring(told, base, kept)
        if placed is None:
            return  # something lies in its way: it stays where it is, held, and comes with a later run
        line = record.dumps({**told, "files": placed})
        journal.records.change(known, place="tree", path=base, line=line)


def _images(answers: Path, offset: int, size: int) -> dict[str, bytes]:
    """The images of one kept answer line, by sha256; empty when the file is not there any more."""
    try:
        with answers.open("rb") as stream:
            stream.seek(offset)
            _key, answer = wire.answer(stream.read(size))
    except (OSError, wire.UnreadableLineError):
        return {}
    images_there = answer.images if isinstance(answer, wire.Delivered) else ()
    return {hashlib.sha256(data).hexdigest(): data for data in images_there}
