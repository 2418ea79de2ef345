"""The local service with a witness in it, and a clock that is put forward: what was asked of it, request by request.

The ledger of the service counts requests. The witness knows each of them by what it asks for, whatever key it had, and
what became of it: that is what a bill would say.
"""

from __future__ import annotations

import base64
import hashlib
import io
import json
import re
import threading
import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import NamedTuple

from PIL import Image

from pipeline import local
from pipeline.local import batches, faultsfile, server
from pipeline.local.calls import Service
from pipeline.local.press import _UNDRAWN, Press
from pipeline.local.rehearsal import Rehearsal
from pipeline.local.state import State

HOUR = 3600.0
LATENCY_S = HOUR
"""How long a batch takes, by the clock that is put forward."""


class Ask(NamedTuple):
    """What a request asks for, apart from the answers that it goes on from."""

    texts: tuple[str, ...]
    aspect: str
    temperature: float | None
    seed: int
    """Another one for each sample."""
    is_turn: bool = False
    """It is part of a conversation: alone, the same words are another ask."""

    @classmethod
    def of(cls, request, *, is_turn):
        texts = [
            part["text"]
            for content in request["contents"]
            if content.get("role") != "model"
            for part in content["parts"]
            if "text" in part and "thoughtSignature" not in part
        ]
        chosen = request.get("generationConfig", {})
        aspect = chosen.get("imageConfig", {}).get("aspectRatio", "1:1")
        return cls(tuple(texts), aspect, chosen.get("temperature"), chosen.get("seed"), is_turn)


@dataclass(eq=False)
class Sent:
    """A request that the service has accepted, in a batch or by itself."""

    ask: Ask
    wire_key: str
    batch: str | None
    at: float
    paid_before: int
    """How many of the same kind were on their way, or had brought an image, when it came."""
    tried_before: int
    is_proof: bool = False
    is_double: bool = False
    """The service has made two batches of one call."""
    is_orphaned: bool = False
    """The journal that had sent it is lost."""
    is_kept: bool = False
    """Only shown at first, its image is a result by now."""
    outcome: str = "live"
    """`live`, `image` or `none`."""
    images: frozenset[str] = frozenset()


@dataclass
class Witness:
    """What a bill would say."""

    sent: list[Sent] = field(default_factory=list)
    creates: list[tuple[str, str]] = field(default_factory=list)
    """Display name and name of every batch that was accepted."""
    mutations: int = 0
    unsafe: list[tuple[str, frozenset[str]]] = field(default_factory=list)
    """Batches that were deleted while images of theirs were in no safe place, and these."""
    images: set[str] = field(default_factory=set)
    """The sha256 of every image that the service has drawn."""
    proves: bool = False
    """What is asked for one by one is for looking at."""
    talks: bool = False
    """What is asked for is a conversation."""
    loses: bool = False
    """Answers to what is asked for one by one are lost."""
    safe: object = frozenset


class Remembering(State):
    """A state of the service that tells a witness."""

    def __init__(self, folder, witness):
        self.witness = witness
        self.asked = threading.local()
        super().__init__(folder)

    def record(self, db, op, **told):
        super().record(db, op, **told)
        self.witness.mutations += 1
        if op == "batches.create":
            self._created(told)
        elif op == "generateContent":
            self._generated()
        elif op == "batches.delete":
            self._deleted(told["name"].partition("/")[2])

    def _created(self, told):
        batch = told["name"].partition("/")[2]
        is_double = told["displayName"] in {name for name, _batch in self.witness.creates}
        self.witness.creates.append((told["displayName"], batch))
        self.settle()
        with (self.batches / f"{batch}.in").open("rb") as stream:
            for line in stream:
                asked = json.loads(line)
                is_turn = re.search(r"t\d+~", asked["key"]) is not None
                sent = self._add(Ask.of(asked["request"], is_turn=is_turn), asked["key"], batch)
                sent.is_double = is_double

    def _generated(self):
        self.settle()
        request, answer = self.asked.request, self.asked.answer
        sent = self._add(Ask.of(request, is_turn=self.witness.talks), "", None)
        sent.is_proof = self.witness.proves
        sent.images = images_of(answer)
        self.witness.images |= sent.images
        sent.outcome = "image" if sent.images and not self.witness.loses else "none"

    def _add(self, ask, wire_key, batch):
        same = [one for one in self.witness.sent if one.ask == ask and (not one.is_proof or one.is_kept)]
        paid = [one for one in same if one.outcome != "none"]
        sent = Sent(ask, wire_key, batch, self.now(), len(paid), len(same))
        self.witness.sent.append(sent)
        return sent

    def _deleted(self, batch):
        self.settle()
        images = {image for one in self.witness.sent if one.batch == batch for image in one.images}
        if lost := images - self.witness.safe():
            self.witness.unsafe.append((batch, frozenset(lost)))

    def settle(self):
        """Find out what became of what is on its way."""
        live = {one.batch for one in self.witness.sent if one.outcome == "live"}
        for batch in live:
            row = self.row("SELECT * FROM batch WHERE id = ?", batch)
            if row is None:
                continue  # somebody has deleted it: what it would have brought is not known
            stage = batches._stage(row, self.now())
            if stage in batches._UNDONE:
                continue
            brought = self._brought(batch) if batches._has_output(row, stage) else {}
            for one in self.witness.sent:
                if one.batch == batch:
                    one.images = brought.get(one.wire_key, frozenset())
                    one.outcome = "image" if one.images else "none"
                    self.witness.images |= one.images

    def _brought(self, batch):
        found = {}
        for line in (self.batches / f"{batch}.out").read_bytes().splitlines():
            try:
                told = json.loads(line)
            except ValueError:
                continue
            if images := images_of(told.get("response") or {}):
                found.setdefault(told.get("key"), images)
        return found


def images_of(response):
    """The sha256 of the images of an answer that can be looked at."""
    found = set()
    for candidate in response.get("candidates", ()):
        for part in candidate.get("content", {}).get("parts", ()):
            if "inlineData" in part and not part.get("thought"):
                data = base64.b64decode(part["inlineData"]["data"].replace("-", "+").replace("_", "/") + "==")
                if is_whole(data):
                    found.add(hashlib.sha256(data).hexdigest())
    return frozenset(found)


_whole: dict[str, bool] = {}


def is_whole(data):
    """Whether an image can be decoded to its last pixel."""
    digest = hashlib.sha256(data).hexdigest()
    if digest not in _whole:
        try:
            with Image.open(io.BytesIO(data)) as image:
                image.load()
            _whole[digest] = True
        except (OSError, SyntaxError, ValueError):
            _whole[digest] = False
    return _whole[digest]


class Shop:
    """A service whose trouble can be changed while it runs, and whose batches are drawn at once, if not over."""

    def __init__(self, folder, url, service):
        self.folder, self.url, self._service = folder, url, service
        self.state, self.witness = service.state, service.state.witness

    def rehearse(self, rules):
        path = self.folder / "faults.yaml"
        path.write_text(rules)
        self._service.rehearsal._rules = faultsfile.read(path)
        with self.state.writing() as db:
            db.execute("DELETE FROM fault")

    def advance(self, seconds):
        self.state.advance(seconds)
        self._service.wake()

    def live(self):
        """The names of the batches that are not over."""
        now, rows = self.state.now(), self.state.rows("SELECT * FROM batch ORDER BY seq")
        return [row["id"] for row in rows if batches._stage(row, now) in batches._UNDONE]

    def unlisted(self):
        """The names of the batches that no list shows yet."""
        return {row["id"] for row in self.state.rows("SELECT id FROM batch WHERE listed_at > ?", self.state.now())}

    def cancel(self, batch):
        """Cancel a batch, as somebody else might."""
        batches.cancel(self._service, None, batch)

    def delete(self, batch):
        """Delete a batch, as somebody else might."""
        batches.delete(self._service, None, batch)


@contextmanager
def serving(folder):
    """Serve from a folder, with a witness. Ids are counted, so that the same calls have the same answers."""
    witness, rehearsal = Witness(), Rehearsal()
    state = Remembering(folder, witness)
    press = Press(state)
    numbers = iter(range(1 << 60))

    def fresh_id(length):
        return hashlib.sha256(f"id {next(numbers)}".encode()).hexdigest()[:length]

    def drawn():
        """Wait until all is drawn that was asked for, so that what is over is the clock's matter alone."""
        press.wake()
        until = time.monotonic() + 30
        while state.rows(_UNDRAWN):
            assert time.monotonic() < until, "a batch is not drawn"
            time.sleep(0.0005)
            press.wake()
        state.settle()

    def understood(*given):
        state.asked.request = given[0]
        return _understood(*given)

    def answered(*given, **more):
        state.asked.answer = _answered(*given, **more)
        return state.asked.answer

    _understood, _answered, _fresh_id = server.understood, server.answered, batches.fresh_id
    server.understood, server.answered, batches.fresh_id = understood, answered, fresh_id
    try:
        service = Service(state, LATENCY_S, "plain", drawn, rehearsal)
        with local._listening(0, service, ()) as url:
            yield Shop(folder, url, service)
    finally:
        server.understood, server.answered, batches.fresh_id = _understood, _answered, _fresh_id
        press.stop()
        state.close()


class Clock:
    """The clock of the pipeline: that of the service, which sleeping puts forward. Else it is the `time` module."""

    def __init__(self):
        self.now, self.advance = time.time, lambda _seconds: None

    def time(self):
        return self.now()

    def sleep(self, seconds):
        self.advance(seconds)

    def __getattr__(self, name):
        return getattr(time, name)
