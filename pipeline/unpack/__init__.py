"""Answer JSONL → verified files and outcomes, one line at a time.

Every request of a batch ends with exactly one outcome. Answers are joined by key, never by position; a second one
for the same key never replaces the first. Pictures become visible in groups: bytes on disk, then names, then rows.
"""

from __future__ import annotations

import json
from dataclasses import replace
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from pipeline import images, jsontext, record
from pipeline.gemini import prices, spans
from pipeline.gemini.answers import answer
from pipeline.outputs import PROOF, page
from pipeline.plan import MICRO
from pipeline.record import HAS_IMAGE
from pipeline.unpack.arrivals import Arrivals, Excerpt, Held
from pipeline.unpack.group import Asked, Group, Outcome, Tally, response_of, results
from pipeline.unpack.pieces import pieces

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from datetime import date
    from io import BufferedIOBase

    from pipeline.gemini.answers import Answer
    from pipeline.gemini.models import Model, Models
    from pipeline.gemini.refusals import Refusal
    from pipeline.job.language import Checks
    from pipeline.journal import Batch, Expected, Journal, Record
    from pipeline.outputs import Tree
    from pipeline.pixels import PixelChecks
    from pipeline.unpack.arrivals import Arrival, Content
    from pipeline.unpack.pieces import Piece

    Came = Answer[Arrival]
    Lines = Iterator[spans.Line[Arrival]]

__all__ = ["Outcome", "Tally", "Unpacking"]

TOOK_TOO_LONG = "its batch took longer than `batch.deadline` and was cancelled"
_UNDER_ANOTHER_KEY = (
    "no answer of {0.remote} has its key: it may have had another one when it was sent; what came is in"
    " conflicts/{0.job}, and `pipeline retry --only held` asks once more"
)


class Unpacking:
    """Unpacks the answer of one batch. Holds no image, and the rest of one group of answers at a time."""

    def __init__(  # noqa: PLR0913 - each by its own name
        self, journal: Journal, tree: Tree, batch: Batch, *, models: Models, checks: Checks, today: date,
        now: Callable[[], float], pixels: PixelChecks | None, redacted: Callable[[str], str],
    ) -> None:  # fmt: skip
        self._journal, self._tree, self._batch = journal, tree, batch
        self._models, self._checks, self._today = models, checks, today
        self._now, self._redacted = now, redacted
        self._has_timed_out = journal.batches.timed_out(batch)
        self._has_turns = journal.wanted.has_conversations()
        self._places: dict[str, tuple[int, int]] = {}
        """Where an answer is that was known before: offset and bytes."""
        self._costs: dict[tuple[str, prices.Usage], Decimal | None] = {}
        """What tokens cost of a model; answers of one batch are much alike."""
        self._strangers = 0
        """Answers to keys that are known to nobody here."""
        self.tally = Tally()
        self.proofs: list[Outcome] = []
        """What was asked for to be looked at, and is not kept: the job knows nothing of it."""
        self._pixels = pixels
        self._group = Group(journal, tree, batch, self.tally, checks=checks, pixels=pixels)

    def read(self, stream: BufferedIOBase) -> Tally:
        """Take every line of an answer file; may be called again for the same batch, and then changes nothing."""
        answered: set[int] = set()  # no keys, of which there may be many
        ours = 0
        with self._tree.folder.staging() as staging, Arrivals(staging) as arrivals:
            self._group.staging = staging
            for line in _one_behind(spans.read(stream, arrivals)):
                if line.answer is None:
                    self._unreadable(line)
                else:
                    is_ours = self._take(line.key, line.answer, Excerpt(stream, line.offset, line.size))
                    ours += is_ours and hash(line.key) not in answered
                    answered.add(hash(line.key))
                self._let_go(line)
            self._group.commit()
        if self._places:
            with self._journal.transaction():
                for wire_key, (offset, size) in self._places.items():
                    self._journal.batches.settle(self._batch, wire_key, answer_at=offset, answer_bytes=size)
        self.tally.answers = ours
        self.tally.without_answer = self._journal.expected.unanswered(self._batch)
        if self._batch.requests_path is None:
            self._count_found(len(answered))
        return self.tally

    def _count_found(self, answers: int) -> None:
        """What a batch was asked for that was only found at the service is not known: what of it is missing is a guess.

        It is what an output manifest says to be in there; and where the answer seems to be cut, one more.
        """
        self.tally.answers = answers
        self.tally.without_answer += len(self._journal.records.claimed(self._batch.job, str(self._batch.remote)))
        self.tally.without_answer += self.tally.is_torn or answers < self._batch.succeeded

    def close(self, *, status: str, reason: str, transient: bool) -> None:
        """Give every request that got no answer the outcome of its batch, and call the batch unpacked."""
        is_whole = self._is_whole()
        with self._journal.transaction():
            for wire_key, key, fingerprint in self._journal.expected.each_unanswered(self._batch):
                self._journal.batches.settle(self._batch, wire_key, status=status, reason=reason)
                known = self._journal.records.get(self._batch.job, key, fingerprint)
                if known is not None and known.batch == self._batch.id:
                    self._without_answer(known, status, reason, transient=transient)
            if self._strangers and status == "missing":
                status, reason, transient = "held", _UNDER_ANOTHER_KEY.format(self._batch), False
            for known in self._journal.records.claimed(self._batch.job, str(self._batch.remote)):
                self._without_answer(known, status, reason, transient=transient)
            self._batch = self._journal.batches.change(
                self._batch, state="unpacked", unpacked_at=self._now(), whole=int(is_whole)
            )
            self._journal.note(self._batch.job, "unpacked", batch=self._batch.name, counts=self.tally.counts)

    def _is_whole(self) -> bool:
        """Whether nothing of this answer is left to be wished for, so that the service need not keep it."""
        odd = self.tally.unreadable or self.tally.extra or self.tally.conflicts or self.tally.foreign
        is_ours, expected = self._journal.is_from_here(self._batch), self._journal.expected
        return is_ours and not odd and not expected.unanswered(self._batch) and not expected.has_invalid(self._batch)

    def _without_answer(self, known: Record, status: str, reason: str, *, transient: bool) -> None:
        self.tally.count(status)
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

    def _unreadable(self, line: spans.Line[Arrival]) -> None:
        self.tally.unreadable += 1
        self.tally.is_torn = line.text is not None and not line.is_whole
        name = f"{self._batch.chunk}-{line.offset}.line"
        with self._tree.quarantine.replacing(name) as stream:
            stream.write(line.text or line.why.encode())

    def _let_go(self, line: spans.Line[Arrival]) -> None:
        """Throw away the images of a line that become nothing, and see to those that are looked at beside."""
        for image in line.made:
            if not self._group.claims(image.content):
                image.drop()
        if self._pixels is not None:
            self._pixels.go_on()

    def _take(self, wire_key: str, came: Came, line: Excerpt) -> bool:
        """Take in an answer; returns whether its batch was asked for it."""
        asked = self._journal.expected.of(self._batch, wire_key) or self._adopted(wire_key)
        if asked is None:
            self._strangers += 1
            self._extra(wire_key, came, is_ours=False)
            return False
        settled = self._told_before(wire_key, asked)
        if settled is not None and settled not in HAS_IMAGE:
            self._group.commit()  # an image may come after an error: that is written down before its place is taken
            asked = asked._replace(known=self._journal.records.get(self._batch.job, asked.key, asked.fingerprint))
        self._join(wire_key, asked, settled, came, line)
        return True

    def _join(self, wire_key: str, asked: Expected, settled: str | None, came: Came, line: Excerpt) -> None:
        known = asked.known
        before = jsontext.loads(known.line) if known else {}
        if self._batch.lane == "interactive" and (known is None or known.batch != self._batch.id):
            self._prove(wire_key, asked, came, line)
            return
        shortfall = self._in_time(came.shortfall(response_of(before)))
        if settled is not None and (settled in HAS_IMAGE or shortfall):
            self._again(wire_key, came, known, shortfall, line)
        elif known is None or known.service != self._batch.service:  # another service has taken this request over
            self._extra(wire_key, came, is_ours=True)
        elif known.status in HAS_IMAGE and known.batch != self._batch.id:
            self._late(wire_key, known, came, shortfall)
        else:
            outcome = self._outcome(Asked(wire_key, known, before, asked.path), came, shortfall, line)
            if outcome.told["status"] in HAS_IMAGE and self._leads_on(known.key):
                outcome.turn = line
            self._group.add(outcome)

    def _leads_on(self, key: str) -> bool:
        """Whether another turn of a conversation goes on from this one."""
        return self._has_turns and self._journal.wanted.leads_on(key)

    def _in_time(self, shortfall: Refusal | None) -> Refusal | None:
        """What was cut off because the batch took too long has expired: nobody has cancelled it for good."""
        if shortfall is None or shortfall.status != "cancelled":
            return shortfall
        if self._has_timed_out:
            return replace(shortfall, status="expired", reason=f"{TOOK_TOO_LONG} ({shortfall.reason})")
        return replace(shortfall, status="expired") if self._batch.remote_state == "EXPIRED" else shortfall

    def _prove(self, wire_key: str, expected: Expected, came: Came, line: Excerpt) -> None:
        """Take in what a proof brought: it is paid for, and its files are for whoever asked, not for the job."""
        key, fingerprint = expected.key, expected.fingerprint
        draft = self._journal.wanted.draft(self._batch.job, self._batch.service, key, fingerprint)
        if draft is None:
            self._settle_unseen(wire_key, came, line)
            return
        wanted = self._journal.wanted.path_of(draft.key, draft.fingerprint)
        asked = Asked(wire_key, draft, json.loads(draft.line), wanted, PROOF)
        outcome = self._outcome(asked, came, came.shortfall(response_of(asked.before)), line)
        status = outcome.told["status"]
        with self._journal.transaction():
            self._journal.batches.settle(
                self._batch, asked.wire_key, status="proof" if status in HAS_IMAGE else status,
                reason=outcome.told["reason"], cost=outcome.cost, answer_at=line.offset, answer_bytes=line.bytes,
            )  # fmt: skip
        outcome.files = [piece._replace(content=Held(piece.content.read())) for piece in outcome.files]
        self.proofs.append(outcome)

    def _settle_unseen(self, wire_key: str, came: Came, line: Excerpt) -> None:
        """Note what a proof came to that a killed process had asked for, and that the job no longer asks for."""
        batch, model = self._batch, self._models.find(self._batch.model_id)
        status = came.refusal.status if came.refusal else "proof"
        cost: Decimal | None = None if came.refusal else Decimal(batch.cost) / MICRO
        if came.usage is not None and model is not None:
            cost = prices.actual(model, self._today, came.usage, batch.lane)
        with self._journal.transaction():
            self._journal.batches.settle(
                batch, wire_key, status=status, reason=came.refusal.reason if came.refusal else None,
                cost=None if cost is None else int(cost * MICRO), answer_at=line.offset, answer_bytes=line.bytes,
            )  # fmt: skip

    def _adopted(self, wire_key: str) -> Expected | None:
        """A request of a batch that was found at the service, or here, without knowing what is in it."""
        batch, job, records = self._batch, self._batch.job, self._journal.records
        if batch.requests_path is not None or batch.name == batch.remote:
            return None  # what is in it is known, or what it had to say was taken in before this journal began
        with self._journal.transaction():
            records.want_one(job, batch.service, wire_key)
            known = records.of_wire_key(job, wire_key)
            if known is None or known.batch is not None or known.service != batch.service:
                return None
            is_open = known.status in {"pending", "held"}
            if is_open and self._is_too_old(known):
                return None
            attempt = known.attempts + 1 if is_open else max(1, known.attempts)
            self._journal.batches.ask(batch, [(wire_key, known.key, known.fingerprint, attempt)])
            if is_open:
                records.change(known, status="pending", claim=None)
                records.send(batch, [known])
            else:
                self._recognise(wire_key, known)
        return self._journal.expected.of(batch, wire_key)

    def _is_too_old(self, known: Record) -> bool:
        """Whether a batch that was only found now is older than an answer to a request may be."""
        most = self._journal.wanted.max_age_s(known.key, known.fingerprint)
        return most is not None and self._now() - (self._batch.created_at or self._batch.planned_at) > most

    def _told_before(self, wire_key: str, asked: Expected) -> str | None:
        """The outcome of a request, as far as it is known; a manifest that is newer than this journal may have it."""
        waiting, known = self._group.told(wire_key), asked.known
        settled = waiting["status"] if waiting else asked.status
        if settled is not None or known is None or known.status not in HAS_IMAGE or known.batch is not None:
            return settled
        if self._batch.remote is None or json.loads(known.line).get("batch") != self._batch.remote:
            return None
        with self._journal.transaction():
            return self._recognise(wire_key, known)

    def _recognise(self, wire_key: str, known: Record) -> str:
        """Note the outcome that an output manifest tells of, and return it; inside a transaction."""
        told = json.loads(known.line)
        cost = _micro((told.get("cost") or {}).get("amount"))
        self._journal.batches.settle(self._batch, wire_key, status=known.status, reason=told["reason"], cost=cost)
        return known.status

    def _extra(self, wire_key: str, came: Came, *, is_ours: bool) -> None:
        """An answer nobody asked for here: its images are kept, its key is never part of a path.

        In a batch whose requests are not known here it was paid for all the same; so was what another service has
        taken over since. Where a batch was not sent from here, it is somebody else's, and stays where it is.
        """
        if not self._journal.is_from_here(self._batch):
            self.tally.foreign += 1
            return
        self.tally.extra += 1
        self._keep_images_aside(came)
        is_paid = self._batch.requests_path is None or is_ours
        if not is_paid or not (came.usage or came.images):
            return
        model = self._models.find(came.model or self._batch.model_id)
        cost = prices.actual(model, self._today, came.usage, self._batch.lane) if model and came.usage else None
        with self._journal.transaction():
            self._journal.batches.settle_extra(
                self._batch, wire_key, status="done" if came.images else "missing",
                cost=None if cost is None else int(cost * MICRO),
            )  # fmt: skip

    def _again(self, wire_key: str, came: Came, known: Record | None, shortfall: Refusal | None, line: Excerpt) -> None:
        """A second answer for a key: the same bytes are nothing new, others are kept apart."""
        if shortfall is not None:
            return
        pending = self._group.told(wire_key)
        told = pending or (json.loads(known.line) if known else {})
        if known is not None and known.status == "done" and known.batch == self._batch.id and pending is None:
            self._group.look(known.key, known.fingerprint, told)  # a killed run may not have looked at its pixels
        ours = {file["sha256"] for file in told.get("files") or []} | self._shown_before(wire_key, known)
        text = self._redacted(came.text)
        is_other_text = not came.images and _bounded(text) != told.get("text")
        if is_other_text or any(image.sha256 not in ours for image in came.images):
            self.tally.conflicts += 1
            self._keep_answer_aside(came)
        elif pending is None:
            self._places[wire_key] = (line.offset, line.bytes)  # this may be another file than it was found in

    def _shown_before(self, wire_key: str, known: Record | None) -> set[str]:
        """The sha256 of the images that came for a turn, where these are no files of the job."""
        if known is None or not self._leads_on(known.key):
            return set()
        turn = self._group.turn(wire_key)
        kept = turn.read() if turn else self._tree.turns(known.service).line(known.key, known.fingerprint)
        return set(map(page.sha256, answer(kept)[1].images)) if kept else set()

    def _late(self, wire_key: str, known: Record, came: Came, shortfall: Refusal | None) -> None:
        """An answer for an ask that another batch has delivered: it is paid and kept, but replaces nothing."""
        status = shortfall.status if shortfall else "done"
        size = json.loads(known.line)["settings"]["size"]
        cost = self._cost(known, came, size, delivered=shortfall is None)
        with self._journal.transaction():
            self._journal.batches.settle(
                self._batch, wire_key, status=status, reason="another answer came first",
                cost=None if cost is None else int(cost * MICRO),
            )  # fmt: skip
        self.tally.conflicts += 1
        if shortfall is None:
            self._keep_answer_aside(came)

    def _keep_answer_aside(self, came: Came) -> None:
        """Keep an answer that replaces nothing: its images, or else its text."""
        text = self._redacted(came.text).encode()
        if came.images:
            self._keep_images_aside(came)
        else:
            self._keep_aside(page.sha256(text), Held(text))

    def _keep_images_aside(self, came: Came) -> None:
        for image in came.images:
            self._keep_aside(image.sha256, image.content)

    def _keep_aside(self, sha256: str, content: Content) -> None:
        with self._tree.conflicts.replacing(f"{sha256[:32]}.bin") as stream:
            stream.writelines(content.pieces())

    def _outcome(self, asked: Asked, came: Came, shortfall: Refusal | None, line: Excerpt) -> Outcome:
        known, told = asked.known, dict(asked.before)
        cost = self._cost(known, came, told["settings"]["size"], delivered=shortfall is None)
        price = self._price_day(known)
        told |= {
            "status": "done",
            "reason": None,
            "at": record.timestamp(self._now()),
            "service": self._batch.service,
            "lane": self._batch.lane,
            "batch": self._batch.remote,
            "attempt": known.attempts,
            "finish_reason": self._told(came.finish_reason),
            "usage": None if came.usage is None else {
                "input": came.usage.input, "output_image": came.usage.output_image,
                "output_text": came.usage.output_text, "thinking": came.usage.thinking,
            },
            "cost": None if cost is None else {"amount": str(cost), "currency": "USD", "prices": price},
            "grounding": self._told(came.grounding),
            "text": _bounded(self._redacted(came.text)) or None,
        }  # fmt: skip
        files: list[Piece] = []
        if shortfall is None:
            files = self._verified(asked, told, came)
        else:
            told |= {"status": shortfall.status, "reason": self._redacted(shortfall.reason)[:500]}
        micro = None if cost is None else int(cost * MICRO)
        is_transient = shortfall is not None and shortfall.transient
        return Outcome(asked, told, line.offset, line.bytes, is_transient, micro, files)

    def _told(self, value: Any) -> Any:
        """What the service said, in whatever shape, without the key."""
        if isinstance(value, dict):
            return {name: self._told(inner) for name, inner in value.items()}
        if isinstance(value, list):
            return [self._told(inner) for inner in value]
        return self._redacted(value) if isinstance(value, str) else value

    def _verified(self, asked: Asked, told: dict[str, Any], came: Came) -> list[Piece]:
        """Check what came, write what is right into `told`, and return the files to publish.

        Where nothing is right, the files of before stay named: they lie there still.
        """
        known = asked.known
        # Nobody asks for it any more, and an output manifest did not tell where it was to lie: any name will do.
        path = (known.path or known.wire_key.partition("~")[0]) if asked.wanted is None else asked.wanted
        base = asked.below + path
        found = pieces(came, told["settings"], base, self._redacted)
        for damaged in found.damaged:
            self._quarantine(known, damaged.number, damaged.image.content)
        told |= {"status": found.status, "reason": found.reason}
        if not found.files or not path:  # a turn that only leads to the next has no place of its own
            return []
        told["files"] = [piece.entry() for piece in found.files]
        reason = self._size_problem(known, told) if found.status == "done" else None
        if reason:
            told |= {"status": "check", "reason": reason}
        return found.files

    def _size_problem(self, known: Record, told: dict[str, Any]) -> str | None:
        settings = told["settings"]
        model = self._models.find(known.model_id)
        aspect = None if settings["aspect"] == "auto" else settings["aspect"]
        pixels = model.pixels(aspect, settings["size"]) if model and aspect else None
        for image in results(told):
            picture = images.Picture(image["mime"], "", image["width"], image["height"])
            problem = images.size_problem(picture, pixels, aspect, self._checks.aspect_tolerance)
            if problem:
                return problem if image["kind"] == "image" else f"{image['path']} {problem}"
        return None

    def _quarantine(self, known: Record, number: int, content: Content) -> None:
        with self._tree.quarantine.replacing(
            f"{known.wire_key.replace('~', '-')}-{known.attempts}-{number}.bin"
        ) as stream:
            stream.writelines(content.pieces())

    def _cost(self, known: Record, came: Came, size: str, *, delivered: bool) -> Decimal | None:
        model = self._models.find(known.model_id)
        if came.usage is None or model is None:
            # Of what is asked at once, each request has the price of a batch of its own; a record may have another.
            estimate = known.cost if self._batch.lane == "batch" or known.cost is None else self._batch.cost
            return Decimal(estimate) / MICRO if delivered and estimate is not None else None
        usage = prices.charged(model, size, came.usage, images=len(came.images), sketches=came.sketches)
        if (known.model_id, usage) not in self._costs:
            if len(self._costs) >= _MANY:
                self._costs.clear()
            self._costs[known.model_id, usage] = prices.actual(model, self._today, usage, self._batch.lane)
        tokens = self._costs[known.model_id, usage]
        return None if tokens is None else tokens + _searched(model, came)

    def _price_day(self, known: Record) -> str | None:
        model = self._models.find(known.model_id)
        price = model.price(self._today) if model else None
        return price.since.isoformat() if price else None


def _one_behind(lines: Lines) -> Lines:
    """The same lines, each while the next one is read already: so long its last images have to be written."""
    before = next(lines, None)
    while before is not None:
        line = next(lines, None)
        yield before
        before = line


def _micro(amount: object) -> int | None:
    """What a record says that it came to, in millionths of a USD; `None` for what is no amount."""
    try:
        return int(Decimal(str(amount)) * MICRO)
    except (ArithmeticError, ValueError):
        return None


def _searched(model: Model, came: Came) -> Decimal:
    """What the searches of an answer cost; whether a batch pays less for them than the list says is not known."""
    found = came.grounding or {}
    queries = len(found.get("queries", ())) + len(found.get("image_queries", ()))
    return queries * (model.search_price or Decimal(0))


_MANY = 1000
_LONGEST_TEXT = 200_000


def _bounded(text: str) -> str:
    """Text as a record holds it: more than a model writes at a time is in the kept answer, and on the page if any."""
    return text if len(text) <= _LONGEST_TEXT else f"{text[:_LONGEST_TEXT]} … ({len(text):,} characters in all)"
