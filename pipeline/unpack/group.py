"""A group of outcomes that becomes visible together: bytes on disk, then names, then rows."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

from pipeline import record
from pipeline.durable.staging import Temporary
from pipeline.outputs import base_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from pipeline.durable.staging import Staging
    from pipeline.job.language import Checks
    from pipeline.journal import Batch, Journal, Record
    from pipeline.outputs import File, Tree
    from pipeline.pixels import PixelChecks
    from pipeline.unpack.arrivals import Excerpt
    from pipeline.unpack.pieces import Piece

_MOST = 256
_MOST_BYTES = 128 << 20


@dataclass(slots=True)
class Tally:
    """What came out of one answer file."""

    counts: dict[str, int] = field(default_factory=dict)
    superseded: int = 0
    extra: int = 0
    foreign: int = 0
    """Answers to requests of somebody else, in a batch that was sent from elsewhere."""
    unreadable: int = 0
    conflicts: int = 0
    without_answer: int = 0
    answers: int = 0
    """Requests of ours that have a line in this file."""
    is_torn: bool = False
    """The file ends in the middle of a line."""

    def count(self, status: str) -> None:
        self.counts[status] = self.counts.get(status, 0) + 1


class Asked(NamedTuple):
    """A request of the batch, as it is known while its answer is read."""

    wire_key: str
    known: Record
    before: dict[str, Any]
    """Its record until now, with the files that lie there for it."""
    wanted: str | None
    """Where its files are wanted, without extension; `None` where they are not any more."""
    below: str = ""
    """Where else than at its place in the job's folder its files go, with a slash at the end."""


@dataclass(slots=True)
class Outcome:
    """What became of one request, ready to be written down."""

    asked: Asked
    told: dict[str, Any]
    answer_at: int
    answer_bytes: int
    transient: bool
    cost: int | None
    files: list[Piece]
    """What is published; empty when nothing is."""
    turn: Excerpt | None = None
    """The line of the answer, where another turn of the conversation goes on from it."""
    written: list[Temporary] = field(default_factory=list)
    """What becomes of `files`, in their order."""
    place: str = "tree"

    @property
    def is_wanted(self) -> bool:
        """Whether anybody asks for it still."""
        return self.asked.wanted is not None

    @property
    def is_not_kept(self) -> bool:
        """It is a turn that only leads to the next one: it has no files of its own, and none of before either."""
        return self.turn is not None and self.is_wanted and self.place == "tree"

    @property
    def base(self) -> str:
        """The path of its files without extension; empty when it has none."""
        return base_of(self.told) if self.files else ""

    def settled(self) -> tuple[str, str | None, int | None, int, int, str]:
        """What it is among the answers of its batch."""
        told = self.told
        return told["status"], told["reason"], self.cost, self.answer_at, self.answer_bytes, self.asked.wire_key

    def change(self) -> dict[str, Any]:
        """What becomes of its record."""
        known, told = self.asked.known, self.told
        return {
            "job": known.job, "key": known.key, "fingerprint": known.fingerprint, "status": told["status"],
            "transient": int(self.transient), "place": self.place, "wanted": int(self.is_wanted),
            "expiries": known.expiries + (told["status"] == "expired"), "path": base_of(told) or known.path,
            "line": record.dumps(told),
        }  # fmt: skip


@dataclass(slots=True)
class _Outcomes:
    """Outcomes that are written down together, and what their files are."""

    by_key: dict[str, Outcome] = field(default_factory=dict)
    files: set[Temporary] = field(default_factory=set)
    bytes: int = 0

    def __iter__(self) -> Iterator[Outcome]:
        return iter(self.by_key.values())

    def add(self, outcome: Outcome) -> None:
        self.by_key[outcome.asked.wire_key] = outcome
        self.files |= {piece.content for piece in outcome.files if isinstance(piece.content, Temporary)}
        self.bytes += sum(piece.bytes for piece in outcome.files) + (outcome.turn.bytes if outcome.turn else 0)

    @property
    def are_many(self) -> bool:
        """Whether they are many, or large."""
        return len(self.by_key) >= _MOST or self.bytes >= _MOST_BYTES


class Group:
    """Outcomes of one batch, written down when there are enough of them. Their files are in `staging`.

    While the disk takes the files of some, the next ones are gathered already.
    """

    staging: Staging

    def __init__(
        self, journal: Journal, tree: Tree, batch: Batch, tally: Tally, *, checks: Checks, pixels: PixelChecks | None
    ) -> None:  # fmt: skip
        self._journal, self._tree, self._batch, self._tally = journal, tree, batch, tally
        self._checks, self._pixels = checks, pixels
        self._gathered, self._going = _Outcomes(), _Outcomes()
        """Those that come in, and those whose files are on their way to the disk."""
        self._synced: Callable[[], None]

    def add(self, outcome: Outcome) -> None:
        """Take an outcome in, and begin to write all of them down when they are many or large."""
        self._gathered.add(outcome)
        if self._gathered.are_many:
            self._begin()

    def told(self, wire_key: str) -> dict[str, Any] | None:
        """The record that waits to be written down for a request."""
        outcome = self._waiting(wire_key)
        return outcome.told if outcome else None

    def claims(self, file: Temporary) -> bool:
        """Whether a file belongs to an outcome that waits to be written down."""
        return file in self._gathered.files or file in self._going.files

    def turn(self, wire_key: str) -> Excerpt | None:
        """The line of an answer that waits to be kept for the turns after it."""
        outcome = self._waiting(wire_key)
        return outcome.turn if outcome else None

    def _waiting(self, wire_key: str) -> Outcome | None:
        return self._gathered.by_key.get(wire_key) or self._going.by_key.get(wire_key)

    def commit(self) -> None:
        """Publish the pictures of all that came, and write their outcomes down, in this order."""
        self._begin()
        self._end()

    def _begin(self) -> None:
        """Bring the files of what was gathered on their way to the disk, once those before are through."""
        self._end()
        self._keep_turns()
        for outcome in self._gathered:
            self._stage(outcome)
        self._gathered, self._going = _Outcomes(), self._gathered
        self._synced = self.staging.syncing()

    def _end(self) -> None:
        """Wait for the disk, publish what is there by then, and write it down."""
        if not self._going.by_key:
            return
        self._synced()
        with self._journal.transaction():
            self._make_room()
            self.staging.publish()
            self._write_down()
        for file in self._going.files:
            self.staging.drop(file)
        for outcome in self._going:
            self._check_pixels(outcome)
        self._going = _Outcomes()

    def _keep_turns(self) -> None:
        """Keep the answers that conversations go on from, before anybody can know that they are here."""
        kept = [(one.asked.known.fingerprint, one.turn) for one in self._gathered if one.turn is not None]
        if not kept:
            return
        turns = self._tree.turns(self._batch.service)
        with turns.staging() as staging:
            for fingerprint, line in kept:
                staging.copy(turns.name(fingerprint), line.pieces())
            staging.sync()
            staging.publish()

    def _stage(self, outcome: Outcome) -> None:
        """Decide where an outcome's files go: into the tree, or aside when they are not wanted there."""
        known = outcome.asked.known
        if not outcome.files:
            return
        if outcome.is_wanted and all(self._may_take(piece) for piece in outcome.files):
            outcome.written = [self._staged(piece) for piece in outcome.files]
            return
        # Nobody asks for it any more, or something that is not ours lies there: it is kept, and can come back.
        for piece in outcome.files:
            published = self._journal.records.known_file(known.job, piece.path)
            is_there = self._tree.folder.sha256(piece.path) == piece.sha256
            if is_there and (published is None or published[0] != piece.sha256):
                self._tree.retire_file(outcome.told, piece.entry())  # a killed run had put it there already
            else:
                self._tree.retire_bytes(outcome.told, piece.entry(), piece.content.pieces())
        outcome.files = []
        before = outcome.asked.before["files"]
        if known.reopened and before and not outcome.is_wanted and self._tree.condition(before) == "ok":
            outcome.told["files"] = before  # its image of before lies there still, until something takes its place
        else:
            outcome.place = "retired"

    def _staged(self, piece: Piece) -> Temporary:
        if isinstance(piece.content, Temporary):
            return self.staging.name(piece.content, piece.path)
        return self.staging.copy(piece.path, piece.content.pieces())

    def _may_take(self, piece: Piece) -> bool:
        """Whether a file may have this name: nothing lies there, or what we published, unedited."""
        folder = self._tree.folder
        if self.staging.status(piece.path) is None:
            return True
        found = folder.sha256(piece.path)
        known = self._journal.records.known_file(self._batch.job, piece.path)
        return found == piece.sha256 or (known is not None and found == known[0])

    def _make_room(self) -> None:
        """Retire what the files of the group replace."""
        coming = [one for one in self._going if one.files or one.is_not_kept]
        keys, bases = [one.asked.known.key for one in coming], [one.base for one in coming]
        displaces = self._journal.records.may_displace(self._batch.job, keys, bases)
        for outcome in coming:
            if displaces:
                self._displace(outcome)
            if outcome.files:
                self._make_room_for(outcome)

    def _displace(self, outcome: Outcome) -> None:
        """Retire the files of older asks, and of former owners of the place."""
        known = outcome.asked.known
        for other in self._journal.records.displaced(known.job, known.key, known.fingerprint, outcome.base):
            self._tree.retire(json.loads(other.line))
            self._journal.records.change(other, place="retired", wanted=0)

    def _make_room_for(self, outcome: Outcome) -> None:
        """Retire what lies there for this very ask, and move away what is nobody's."""
        folder = self._tree.folder
        self._tree.retire(outcome.asked.before)
        for piece in outcome.files:
            if self.staging.status(piece.path) is None:
                continue
            found = folder.sha256(piece.path)
            if found not in {None, piece.sha256}:
                extension = piece.path.rpartition(".")[2]
                folder.move(piece.path, self._tree.retired, f"replaced/{found[:32]}.{extension}")

    def _write_down(self) -> None:
        known_files, settled, changes = [], [], []
        for outcome in self._going:
            known, told = outcome.asked.known, outcome.told
            if not outcome.is_wanted:
                self._tally.superseded += 1
                self._journal.note(known.job, "superseded", key=known.key, fingerprint=known.fingerprint)
            self._tally.count(told["status"])
            for piece, file in zip(outcome.files, outcome.written, strict=True):
                known_files.append((known.job, piece.path, piece.sha256, file.size, file.mtime_ns))
            settled.append(outcome.settled())
            if outcome.turn is not None and outcome.is_wanted:
                self._journal.records.lead_on(known)
            changes.append(outcome.change())
        self._journal.records.know_files(known_files)
        self._journal.batches.settle_all(self._batch, settled)
        self._journal.records.change_all(changes)

    def _check_pixels(self, outcome: Outcome) -> None:
        if self._pixels is None or not outcome.files or outcome.told["status"] != "done":
            return
        self.look(outcome.asked.known.key, outcome.asked.known.fingerprint, outcome.told)

    def look(self, key: str, fingerprint: str, told: Mapping[str, Any]) -> None:
        """Have the pixels of a record's results looked at, beside."""
        if self._pixels is None:
            return
        for image in results(told):
            token = json.dumps([key, fingerprint, image["path"]])
            self._pixels.submit(token, self._tree.folder.path / image["path"], blank=self._checks.not_blank)


def response_of(told: Mapping[str, Any]) -> list[str]:
    """What the ask of a record wants in its answer: `text`, `image` or both."""
    return (told.get("settings") or {}).get("response") or ["image"]


def results(told: Mapping[str, Any]) -> list[File]:
    """The images of a record that are what was asked for."""
    wants_images = "image" in response_of(told)
    return [file for file in told["files"] if file["kind"] in {"image", "part"} and wants_images]
