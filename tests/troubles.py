"""A small shop before a service with trouble, on clocks that run while it sleeps; and what must hold afterwards."""

from __future__ import annotations

import base64
import hashlib
import json
import sqlite3
import time
from collections import Counter
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from conftest import KEY, Service
from google.genai import _api_client as sdk_client
from local_wire import photo

from pipeline import local
from pipeline.cli import spending
from pipeline.gemini import api, connection
from pipeline.reconcile import send, uploads

if TYPE_CHECKING:
    from pathlib import Path

SHOP = """\
prompt: Photo of a [product].
images: [light.png]
items: products.csv
"""
PRODUCTS = "id,product\nmug,blue mug\nbowl,sand bowl\nvase,glass vase\n"
RUN = ("run", "jobs/shop.yaml", "--poll", "1m", "--wait", "6h", "--yes")
MUTATING = ("POST", "PATCH", "DELETE")
_DRAWN_S = 10.0
_UNDRAWN = "SELECT count(*) FROM batch WHERE rendered_at IS NULL AND broken IS NULL AND cancelled_at IS NULL"


@dataclass
class Night:
    """One shop, one service, and the clocks of both, which go on by what the pipeline sleeps."""

    project: object
    state: Path
    environment: object
    ahead_s: float = 0.0
    service: Service | None = None
    said: list[str] = field(default_factory=list)

    # The clock of the pipeline

    def time(self):
        return time.time() + self.ahead_s

    def sleep(self, seconds):
        self.ahead_s += seconds
        self.service._call("/_local/clock", {"advance_s": seconds})
        until = time.monotonic() + _DRAWN_S
        while self._asked_service(_UNDRAWN) and time.monotonic() < until:
            time.sleep(0.005)

    def _asked_service(self, sql):
        db = sqlite3.connect(self.state / "service.sqlite3", timeout=60)
        try:
            return db.execute(sql).fetchone()[0]
        finally:
            db.close()

    @contextmanager
    def serving(self, *rules):
        """A service with these rules; what befell its batches goes on befalling them."""
        path = self.state.parent / "faults.yaml"
        path.write_text("".join(f"- {{{rule}}}\n" for rule in rules))
        with local.serving(self.state, latency_s=0.0, pictures="plain", faults=path) as url:
            self.service = Service(url)
            self.environment.setenv("GOOGLE_GEMINI_BASE_URL", url)
            yield self.service

    def run(self, *words):
        """A command; it says what happened, and shows no traceback and no key."""
        began = time.monotonic()
        ended = self.project(*(words or RUN))
        text = ended.out + ended.err
        self.said.append(text)
        assert time.monotonic() - began < 60, text
        assert "Traceback" not in text
        assert KEY not in text
        assert text.strip(), "it says what happened"
        return ended

    def forget_fates(self):
        """Let go of what befell batches and files: the service is itself again."""
        db = sqlite3.connect(self.state / "service.sqlite3", timeout=60)
        with db:
            db.execute(
                "UPDATE batch SET faults = NULL, withheld = 0, listed_at = NULL,"
                " starts_at = created_at, ends_at = created_at"
            )
            db.execute("UPDATE file SET faults = NULL, withheld = 0")
        db.close()

    # What the service knows

    def bought(self):
        """How often each request was sent in a batch that was taken."""
        sent = Counter()
        for entry in self.service.ledger():
            path = self.state / "batches" / f"{entry['name'].removeprefix('batches/')}.in"
            if path.exists():
                sent.update(json.loads(line)["key"] for line in path.read_bytes().splitlines())
            else:
                sent["deleted"] += entry["requests"]
        return sent

    def most_bought(self):
        """How often the request was sent that was sent most often; those in deleted batches are not known."""
        return max((times for key, times in self.bought().items() if key != "deleted"), default=0)

    def images_there(self):
        """The sha256 of every image that an answer at the service holds, thoughts left out."""
        found = set()
        for path in (self.state / "batches").glob("*.out"):
            for line in path.read_bytes().split(b"\n"):
                found.update(hashlib.sha256(data).hexdigest() for data in _images(line))
        return found

    def images_here(self):
        outputs = self.project.outputs
        files = [path for path in outputs.rglob("*") if path.is_file() and "answers" not in path.parts]
        return {hashlib.sha256(path.read_bytes()).hexdigest() for path in files}

    def changes(self):
        """Every accepted call that changed something."""
        return self.service._call("/_local/ledger")

    def tree(self):
        outputs = self.project.outputs
        return {
            path.relative_to(outputs).as_posix(): (path.read_bytes(), path.stat().st_mtime_ns)
            for path in outputs.rglob("*")
            if path.is_file() and not {"runs", "locks"} & set(path.parts) and "journal.db" not in path.name
        }

    def is_at_rest(self):
        """One run more changes nothing, here or there."""
        ledger, before = self.changes(), self.tree()
        ended = self.run()
        assert ended.code == 0, ended.err
        assert self.changes() == ledger
        assert self.tree() == before
        return True


def _images(line):
    """The bytes of the images in a line of answers that a strict reader can make out."""
    try:
        parts = json.loads(line)["response"]["candidates"]
        parts = [part for one in parts for part in one["content"].get("parts", ())]
    except (ValueError, KeyError, TypeError, RecursionError, AttributeError):
        return
    for part in parts:
        if "inlineData" in part and not part.get("thought"):
            text = part["inlineData"]["data"].translate(str.maketrans("-_", "+/"))
            try:
                data = base64.b64decode(text + "=" * (-len(text) % 4), validate=True)
            except ValueError:
                continue
            if data:
                yield data


def opened(project, folder, monkeypatch):
    """A shop of three products with one reference image, which goes as a file; nothing in it waits in earnest."""
    project.write("jobs/shop.yaml", SHOP)
    project.write("jobs/products.csv", PRODUCTS)
    project.write("jobs/light.png", photo(32, 32))
    night = Night(project, folder / "state", monkeypatch)
    monkeypatch.setenv("GEMINI_API_KEY", KEY)
    monkeypatch.setattr(spending, "time", night)
    monkeypatch.setattr(connection, "_wait", lambda _state: 0.0)
    monkeypatch.setattr(sdk_client, "INITIAL_RETRY_DELAY", 0.0)
    monkeypatch.setattr(send, "_RATE_PAUSE_S", 60.0)
    monkeypatch.setattr(uploads, "_LOOK_AGAIN_S", 60.0)
    return night


def impatient(monkeypatch, seconds=1.5):
    """Wait for an answer so long and no longer."""
    monkeypatch.setattr(connection, "_TIMEOUT_S", seconds)
    monkeypatch.setattr(api, "_READ_S", seconds)
