"""Answer JSONL → verified files and outcomes, one line at a time.

Every request of a batch ends with exactly one outcome. Answers are joined by key, never by position; a second one
for the same key never replaces the first. Pictures become visible in groups: bytes on disk, then names, then rows.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from pipeline import batchfile, images, record
from pipeline.gemini import prices, wire
from pipeline.outputs import Tree, base_of
from pipeline.plan import MICRO
from pipeline.record import HAS_IMAGE

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import date
    from typing import IO

    from pipeline.gemini.models import Models
    from pipeline.images import Picture
    from pipeline.job.language import Checks
    from pipeline.journal import Batch, Journal, Record
    from pipeline.pixels import PixelChecks

_LONGEST = 256 << 20
_GROUP = 64
_GROUP_BYTES = 64 << 20


@dataclass(slots=True)
class Tally:
    """What came out of one answer file."""

    counts: dict[str, int] = field(default_factory=dict)
    superseded: int = 0
    extra: int = 0
    unreadable: int = 0
    conflicts: int = 0
    without_answer: int = 0
    answers: int = 0
    """Requests of ours that have a line in this file."""
    is_torn: bool = False
    """The file ends in the middle of a line."""


@dataclass(slots=True)
class _Outcome:
    """What became of one request, ready to be written down."""

    asked_key: str
    known: Record
    told: dict[str, Any]
    answer_at: int
    answer_bytes: int
    transient: bool
    cost: int | None
    files: list[tuple[str, bytes]]
    """Path below the job folder and bytes; empty when nothing is published."""
    place: str = "tree"
    is_wanted: bool = True


class Unpacking:
    """Unpacks the answer of one batch. Holds one answer and one group of pictures at a time."""

    def __init__(  # noqa: PLR0913 - each by its own name
        self, journal: Journal, tree: Tree, batch: Batch, *, models: Models, checks: Checks, today: date,
        now: Callable[[], float], pixels: PixelChecks | None, redacted: Callable[[str], str],
    ) -> None:  # fmt: skip
        self._journal, self._tree, self._batch = journal, tree, batch
        self._models, self._checks, self._today, self._now, self._pixels = models, checks, today, now, pixels
        self._redacted = redacted
        self._asked = journal.batches.asked(batch)
        self._settled: dict[str, str] = {key: row[3] for key, row in self._asked.items() if row[3] is not None}
        self._group: list[_Outcome] = []
        self._group_bytes = 0
        self.tally = Tally()

    def read(self, stream: IO[bytes]) -> Tally:
        """Take every line of an answer file; may be called again for the same batch, and then changes nothing."""
        answered: set[str] = set()
        for offset, text in batchfile.lines(stream, longest=_LONGEST):
            if text is not None and not text.strip():
                continue
            try:
                if text is None:
                    raise wire.UnreadableLineError("longer than 256 MiB")  # noqa: TRY301 - one way for all such lines
                wire_key, answer = wire.answer(text)
            except wire.UnreadableLineError as error:
                self.tally.is_torn = text is not None and not text.endswith(b"\n")
                self._unreadable(offset, text, str(error))
                continue
            answered.add(wire_key)
            self._take(wire_key, answer, offset, len(text))
        self._commit()
        self.tally.answers = len(answered & self._asked.keys())
        self.tally.without_answer = len(self._asked) - len(self._settled)
        return self.tally

    def close(self, *, status: str, reason: str, transient: bool) -> None:
        """Give every request that got no answer the outcome of its batch, and call the batch unpacked."""
        with self._journal.transaction():
            for wire_key, (key, fingerprint, _attempt, _status) in self._asked.items():
                if wire_key not in self._settled:
                    self._journal.batches.settle(self._batch, wire_key, status=status, reason=reason)
                    known = self._journal.records.get(self._batch.job, key, fingerprint)
                    if known is not None and known.batch == self._batch.id:
                        self._without_answer(known, status, reason, transient=transient)
            for known in self._journal.records.claimed(self._batch.job, str(self._batch.remote)):
                self._without_answer(known, status, reason, transient=transient)
            self._batch = self._journal.batches.change(self._batch, state="unpacked")
            self._journal.note(self._batch.job, "unpacked", batch=self._batch.name, counts=self.tally.counts)

    def _without_answer(self, known: Record, status: str, reason: str, *, transient: bool) -> None:
        self._count(status)
        if known.status != "pending":
            return
        told = {**json.loads(known.line), "status": status, "reason": reason, "at": record.timestamp(self._now())}
        self._journal.records.change(
            known,
            status=status,
            transient=int(transient),
            claim=None,
            expiries=known.expiries + (status == "expired"),
            line=record.dumps(told),
        )

    # ------------------------------------------------------------------------------------ one answer

    def _unreadable(self, offset: int, text: bytes | None, why: str) -> None:
        self.tally.unreadable += 1
        name = f"{self._batch.chunk}-{offset}.line"
        with self._tree.quarantine.replacing(name) as stream:
            stream.write(text or why.encode())

    def _take(self, wire_key: str, answer: wire.Answer, offset: int, size: int) -> None:
        asked = self._asked.get(wire_key) or self._adopted(wire_key)
        if asked is None:
            self._extra(answer)
            return
        if wire_key in self._settled and not self._is_better(wire_key, answer):
            self._again(wire_key, answer)
            return
        known = self._journal.records.get(self._batch.job, asked[0], asked[1])
        if known is None or known.service != self._batch.service:  # another service has taken this request over
            self._extra(answer)
            return
        if known.status in HAS_IMAGE and known.batch != self._batch.id:
            self._late(wire_key, known, answer)
            return
        outcome = self._outcome(wire_key, known, answer, offset, size)
        self._settled[wire_key] = outcome.told["status"]
        self._group.append(outcome)
        self._group_bytes += sum(len(data) for _path, data in outcome.files)
        if len(self._group) >= _GROUP or self._group_bytes >= _GROUP_BYTES:
            self._commit()

    def _is_better(self, wire_key: str, answer: wire.Answer) -> bool:
        """Whether an image comes after an error for the same key: it is paid for, and the error is forgotten."""
        if self._settled[wire_key] in HAS_IMAGE or not isinstance(answer, wire.Delivered):
            return False
        self._commit()  # the first outcome is written down before the second takes its place
        return True

    def _adopted(self, wire_key: str) -> tuple[str, str, int, str | None] | None:
        """A request of a batch that was found at the service without knowing what is in it."""
        if self._batch.requests_path is not None:
            return None
        job, records = self._batch.job, self._journal.records
        with self._journal.transaction():
            records.want_one(job, self._batch.service, wire_key)
            known = records.of_wire_key(job, wire_key)
            if known is None or known.status not in {"pending", "held"} or known.batch is not None:
                return None
            records.change(known, status="pending", claim=None)
            self._journal.batches.ask(self._batch, [(wire_key, known.key, known.fingerprint, known.attempts + 1)])
            records.send(self._batch, [known])
        self._asked[wire_key] = (known.key, known.fingerprint, known.attempts + 1, None)
        return self._asked[wire_key]

    def _extra(self, answer: wire.Answer) -> None:
        """An answer nobody asked for here: its images are kept, its key is never part of a path."""
        self.tally.extra += 1
        self._keep_aside(answer)

    def _again(self, wire_key: str, answer: wire.Answer) -> None:
        """A second answer for a key: the same bytes are nothing new, others are kept apart."""
        if not isinstance(answer, wire.Delivered):
            return
        key, fingerprint, _attempt, _status = self._asked[wire_key]
        pending = {outcome.asked_key: outcome.told for outcome in self._group}
        known = self._journal.records.get(self._batch.job, key, fingerprint)
        told = pending.get(wire_key) or (json.loads(known.line) if known else {})
        ours = {file["sha256"] for file in told.get("files") or []}
        if known is not None and known.status == "done" and known.batch == self._batch.id and wire_key not in pending:
            self._submit(known.key, known.fingerprint, told)  # a killed run may not have looked at its pixels
        if any(hashlib.sha256(data).hexdigest() not in ours for data in answer.images):
            self.tally.conflicts += 1
            self._keep_aside(answer)

    def _late(self, wire_key: str, known: Record, answer: wire.Answer) -> None:
        """An answer for an ask that another batch has delivered: it is paid and kept, but replaces nothing."""
        status = "done" if isinstance(answer, wire.Delivered) else answer.status
        cost = self._cost(known, answer)
        with self._journal.transaction():
            self._journal.batches.settle(
                self._batch, wire_key, status=status, reason="another answer came first",
                cost=None if cost is None else int(cost * MICRO),
            )  # fmt: skip
        self._settled[wire_key] = status
        self.tally.conflicts += 1
        self._keep_aside(answer)

    def _keep_aside(self, answer: wire.Answer) -> None:
        if not isinstance(answer, wire.Delivered):
            return
        for data in answer.images:
            with self._tree.conflicts.replacing(f"{hashlib.sha256(data).hexdigest()[:32]}.bin") as stream:
                stream.write(data)

    def _outcome(self, wire_key: str, known: Record, answer: wire.Answer, offset: int, size: int) -> _Outcome:
        told = json.loads(known.line)
        cost = self._cost(known, answer)
        price = self._price_day(known)
        told |= {
            "status": "done",
            "reason": None,
            "at": record.timestamp(self._now()),
            "service": self._batch.service,
            "batch": self._batch.remote,
            "attempt": known.attempts,
            "finish_reason": answer.finish_reason,
            "usage": None if answer.usage is None else {
                "input": answer.usage.input, "output_image": answer.usage.output_image,
                "output_text": answer.usage.output_text, "thinking": answer.usage.thinking,
            },
            "cost": None if cost is None else {"amount": str(cost), "currency": "USD", "prices": price},
            "text": self._redacted(answer.text) or None,
        }  # fmt: skip
        files: list[tuple[str, bytes]] = []
        transient = False
        if isinstance(answer, wire.Refused):
            told |= {"status": answer.status, "reason": self._redacted(answer.reason)[:500]}
            transient = answer.transient
        else:
            told["files"] = []
            files = self._verified(known, told, answer)
        micro = None if cost is None else int(cost * MICRO)
        return _Outcome(wire_key, known, told, offset, size, transient, micro, files)

    def _verified(self, known: Record, told: dict[str, Any], answer: wire.Delivered) -> list[tuple[str, bytes]]:
        """Check every image of an answer; write what is right into `told`; return paths and bytes to publish."""
        base = self._journal.wanted.path_of(known.key, known.fingerprint) or known.path
        files = []
        for number, data in enumerate(answer.images, 1):
            is_result = number == len(answer.images)
            try:
                picture = images.structure(data)
            except images.BrokenImage as error:
                self._quarantine(known, number, data)
                if is_result:
                    told |= {"status": "invalid", "reason": f"the image is damaged: {error}", "files": []}
                    return []
                continue
            path = f"{base}{'' if is_result else f'.draft{number}'}{picture.extension}"
            files.append((path, data))
            told["files"].append(_file(path, "image" if is_result else "draft", data, picture))
        told["files"].sort(key=lambda file: file["kind"] != "image")
        reason = self._size_problem(known, told)
        if reason:
            told |= {"status": "check", "reason": reason}
        return files

    def _size_problem(self, known: Record, told: dict[str, Any]) -> str | None:
        settings = told["settings"]
        model = self._models.find(known.model_id)
        image = told["files"][0]
        picture = images.Picture(image["mime"], "", image["width"], image["height"])
        aspect = None if settings["aspect"] == "auto" else settings["aspect"]
        pixels = model.pixels(aspect, settings["size"]) if model and aspect else None
        return images.size_problem(picture, pixels, aspect, self._checks.aspect_tolerance)

    def _quarantine(self, known: Record, number: int, data: bytes) -> None:
        with self._tree.quarantine.replacing(
            f"{known.wire_key.replace('~', '-')}-{known.attempts}-{number}.bin"
        ) as stream:
            stream.write(data)

    def _cost(self, known: Record, answer: wire.Answer) -> Decimal | None:
        model = self._models.find(known.model_id)
        delivered = isinstance(answer, wire.Delivered)
        if answer.usage is None or model is None:
            return Decimal(known.cost) / MICRO if delivered and known.cost is not None else None
        usage = answer.usage
        if delivered and not usage.output_image:  # some answers come without the split by modality
            size = json.loads(known.line)["settings"]["size"]
            image = min(usage.output_text, model.tokens(size) if size in model.sizes else usage.output_text)
            usage = prices.Usage(usage.input, image, usage.output_text - image, usage.thinking)
        return prices.actual(model, self._today, usage, "batch")

    def _price_day(self, known: Record) -> str | None:
        model = self._models.find(known.model_id)
        price = model.price(self._today) if model else None
        return price.since.isoformat() if price else None

    # -------------------------------------------------------------------------------------- a group

    def _commit(self) -> None:
        """Publish the group's pictures and write its outcomes down, in this order."""
        if not self._group:
            return
        with self._tree.folder.staging() as staging:
            for outcome in self._group:
                self._stage(outcome, staging)
            staging.sync()
            with self._journal.transaction():
                for outcome in self._group:
                    self._make_room(outcome)
                staging.publish()
                for outcome in self._group:
                    self._write_down(outcome)
        for outcome in self._group:
            self._check_pixels(outcome)
        self._group.clear()
        self._group_bytes = 0

    def _stage(self, outcome: _Outcome, staging: Any) -> None:
        """Decide where an outcome's files go: into the tree, or aside when they are not wanted there."""
        outcome.is_wanted = self._journal.wanted.has(outcome.known.key, outcome.known.fingerprint)
        if not outcome.files:
            return
        if outcome.is_wanted and all(self._may_take(outcome, path, data) for path, data in outcome.files):
            for path, data in outcome.files:
                staging.write(path, data)
            return
        # Nobody asks for it any more, or something that is not ours lies there: it is kept, and can come back.
        for file, (path, data) in zip(_in_order(outcome), outcome.files, strict=True):
            known = self._journal.records.known_file(outcome.known.job, path)
            if self._tree.folder.sha256(path) == file["sha256"] and (known is None or known[0] != file["sha256"]):
                self._tree.retire_file(outcome.told, file)  # a killed run had put it there already
            else:
                self._tree.retire_bytes(outcome.told, file, data)
        outcome.files = []
        outcome.place = "retired"

    def _may_take(self, outcome: _Outcome, path: str, data: bytes) -> bool:
        """Whether a file may have this name: nothing lies there, or what we published, unedited."""
        folder = self._tree.folder
        if folder.status(path) is None:
            return True
        found = folder.sha256(path)
        known = self._journal.records.known_file(outcome.known.job, path)
        return found == hashlib.sha256(data).hexdigest() or (known is not None and found == known[0])

    def _make_room(self, outcome: _Outcome) -> None:
        """Retire what an outcome's files replace."""
        if not outcome.files:
            return
        known, folder = outcome.known, self._tree.folder
        base = base_of(outcome.told)
        for other in self._journal.records.displaced(known.job, known.key, known.fingerprint, base):
            self._tree.retire(json.loads(other.line))
            self._journal.records.change(other, place="retired", wanted=0)
        for file, (path, _data) in zip(_in_order(outcome), outcome.files, strict=True):
            found = folder.sha256(path)
            if found not in {None, file["sha256"]}:
                folder.move(path, self._tree.retired, f"replaced/{found[:32]}.{path.rpartition('.')[2]}")

    def _write_down(self, outcome: _Outcome) -> None:
        known, told, journal = outcome.known, outcome.told, self._journal
        if not outcome.is_wanted:
            self.tally.superseded += 1
            journal.note(known.job, "superseded", key=known.key, fingerprint=known.fingerprint)
        self._count(told["status"])
        for path, data in outcome.files:
            self._tree.publish(path, hashlib.sha256(data).hexdigest(), len(data))
        journal.batches.settle(
            self._batch,
            outcome.asked_key,
            status=told["status"],
            reason=told["reason"],
            cost=outcome.cost,
            answer_at=outcome.answer_at,
            answer_bytes=outcome.answer_bytes,
        )
        journal.records.change(
            known,
            status=told["status"],
            transient=int(outcome.transient),
            place=outcome.place,
            wanted=int(outcome.is_wanted),
            path=base_of(told) or known.path,
            line=record.dumps(told),
        )

    def _count(self, status: str) -> None:
        self.tally.counts[status] = self.tally.counts.get(status, 0) + 1

    def _check_pixels(self, outcome: _Outcome) -> None:
        if self._pixels is None or not outcome.files or outcome.told["status"] != "done":
            return
        self._submit(outcome.known.key, outcome.known.fingerprint, outcome.told)

    def _submit(self, key: str, fingerprint: str, told: dict[str, Any]) -> None:
        if self._pixels is not None:
            path = self._tree.folder.path / told["files"][0]["path"]
            self._pixels.submit(json.dumps([key, fingerprint]), path, blank=self._checks.not_blank)


def _in_order(outcome: _Outcome) -> list[dict[str, Any]]:
    by_path = {file["path"]: file for file in outcome.told["files"]}
    return [by_path[path] for path, _data in outcome.files]


def _file(path: str, kind: str, data: bytes, picture: Picture) -> dict[str, Any]:
    return {
        "path": path,
        "kind": kind,
        "sha256": hashlib.sha256(data).hexdigest(),
        "bytes": len(data),
        "mime": picture.mime,
        "width": picture.width,
        "height": picture.height,
    }
