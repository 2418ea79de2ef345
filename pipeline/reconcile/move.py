"""What the plan found for free: renames, images that come back, and the opening of what is bought."""

from __future__ import annotations

import functools
import json
from typing import TYPE_CHECKING, Any

from pipeline import record
from pipeline.gemini.answers import UnreadableLineError, decoded, reading
from pipeline.journal.records import OVERTAKEN, UNANSWERED
from pipeline.outputs import base_of
from pipeline.unpack.arrivals import held
from pipeline.unpack.pieces import pieces

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from pipeline.journal import Record
    from pipeline.outputs import File
    from pipeline.reconcile.run import Work
    from pipeline.unpack.pieces import Piece


def apply(work: Work, service: str) -> None:
    """Make the journal want what the plan found: move what moved, bring back what is free, open what is bought."""
    _move(work)
    _let_go(work)
    with work.journal.transaction():
        work.journal.records.want(work.job.name, service)
    _forget(work)


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
            # What failed may have an image of an earlier time; on its way that one is told of by what it replaces.
            if known.place == "tree" and told["files"] and known.status != "pending" and known.path != wanted_path:
                tree.retire(told)
                if known.status in record.HAS_IMAGE:
                    journal.records.change(known, place="retired")
            if key != old_key:
                new = journal.wanted.line_of(key, fingerprint)
                assert new is not None, "what moves is wanted"
                line = record.dumps(record.renamed(told, json.loads(new)))
                # In a batch that only an output manifest tells of, it is looked for by the name it was sent with.
                wire_key = known.wire_key if known.claim is not None else record.wire_key(key, fingerprint)
                path = known.path if told["files"] else wanted_path or known.path
                journal.records.rekey(known, key=key, wire_key=wire_key, path=path, line=line)
    for key, fingerprint, _old_key in journal.wanted.moves():
        _bring(work, key, fingerprint)


def _let_go(work: Work) -> None:
    """Tell no more of images of earlier asks that somebody has deleted: what a key asks for now has none yet."""
    for page in work.journal.records.pages(work.job.name, OVERTAKEN):
        with work.journal.transaction():
            for row in page:
                if work.tree.condition(json.loads(row.line)["files"]) == "missing":
                    work.tree.retire(json.loads(row.line))
                    work.journal.records.change(row, place="retired", wanted=0)


def _forget(work: Work) -> None:
    """Tell no more of an image of an earlier time that somebody has deleted, where another one is asked for."""
    for page in work.journal.records.pages(work.job.name, UNANSWERED):
        with work.journal.transaction():
            for row in page:
                told = json.loads(row.line)
                if work.tree.condition(told["files"]) == "missing" and not work.tree.is_retired(told):
                    work.journal.records.change(row, line=record.dumps({**told, "files": []}))


def _bring(work: Work, key: str, fingerprint: str) -> None:
    journal, job = work.journal, work.job.name
    known = journal.records.get(job, key, fingerprint)
    if known is None or known.status == "pending":
        return
    wanted_path = journal.wanted.path_of(key, fingerprint)
    if wanted_path == "":
        _let_be(work, known)
        return
    base = wanted_path or known.path
    told, kept = _restored(work, known, base)
    if not told["files"]:
        return
    with journal.transaction():
        for other in journal.records.displaced(job, key, fingerprint, base):
            work.tree.retire(json.loads(other.line))
            journal.records.change(other, place="retired", wanted=0)
        files = work.tree.destined(told, base, kept)
        files = _made_anew(work, known, base) if files is None else files
        if files is None:
            _stays(work, known, told)
            return
        told = {**told, "files": files}
        journal.records.change(known, path=base, line=record.dumps(told))
    work.tree.arrive(told)
    with journal.transaction():
        for file in files:
            work.tree.publish(file["path"], file["sha256"])
        journal.records.change(known, place="tree")


def _stays(work: Work, known: Record, told: dict[str, Any]) -> None:
    """Something lies in the way of an image: it stays where it is, held, and comes with a later run."""
    if known.status not in record.HAS_IMAGE:
        work.journal.records.change(known, line=record.dumps({**told, "files": []}))


def _let_be(work: Work, known: Record) -> None:
    """A turn whose image is not kept has no files; those it had, or an earlier ask of it has, leave."""
    told, records = json.loads(known.line), work.journal.records
    with work.journal.transaction():
        for other in records.displaced(known.job, known.key, known.fingerprint, ""):
            work.tree.retire(json.loads(other.line))
            records.change(other, place="retired", wanted=0)
        work.tree.retire(told)
        records.change(known, place="tree", path="", line=record.dumps({**told, "files": []}))


def _restored(work: Work, known: Record, base: str) -> tuple[dict[str, Any], Callable[[], dict[str, bytes]]]:
    """A record with the files that it has at `base`, and what gets their bytes out of its kept answer, by sha256.

    They are those it had before, or, for a turn whose image is kept from now on, those its answer makes there.
    """
    told = json.loads(known.line)

    @functools.cache
    def pieces_there() -> list[Piece]:
        had = {file["sha256"] for file in told["files"]}
        lines = work.tree.turns(known.service).lines(known.key, known.fingerprint)
        kept = (_pieces(line, told, base) for line in lines)
        return next((found for found in kept if not had or had & {piece.sha256 for piece in found}), [])

    if base and not told["files"] and known.status in record.HAS_IMAGE:
        told["files"] = [piece.entry() for piece in pieces_there()]
    return told, lambda: {piece.sha256: piece.content.read() for piece in pieces_there()}


def _made_anew(work: Work, known: Record, base: str) -> list[File] | None:
    """Files that another kept answer to the same ask makes at `base`, where those a record had are nowhere any more."""
    told = json.loads(known.line)
    is_gone = work.tree.condition(told["files"]) == "missing" and not work.tree.is_retired(told)
    if not base or not is_gone or known.status not in record.HAS_IMAGE:
        return None
    made, kept = _restored(work, known._replace(line=record.dumps({**told, "files": []})), base)
    return work.tree.destined(made, base, kept) or None


def _pieces(line: bytes, told: Mapping[str, Any], base: str) -> list[Piece]:
    """What a kept answer of a record becomes; nothing when it cannot be read."""
    try:
        _key, came = reading(line, lambda text: held(decoded(text)))
    except UnreadableLineError:
        return []
    # Not redacted, and so only used where it is, byte for byte, what was published; or where nothing had to be hidden.
    if not told["files"] and (came.text or None) != told["text"]:
        return []
    return pieces(came, told["settings"], base_of(told) or base, str).files
