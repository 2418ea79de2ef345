"""A week of a shop as a state machine: what can be done, and a model of what may come of it. See `test_model.py`."""

from __future__ import annotations

import contextlib
import csv
import fcntl
import hashlib
import io
import json
import multiprocessing
import os
import re
import shutil
import signal
import tempfile
import time
from collections import Counter
from multiprocessing import forkserver
from pathlib import Path

from conftest import KEY, ROOT, Service
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from witness import HOUR, Ask, Clock, images_of, is_whole, serving

from pipeline import cli, crash, record
from pipeline.cli import clearing, opening, recorded, spending
from pipeline.gemini import connection, wire
from pipeline.leftovers import remote

JOB = "jobs/shop.yaml"
IDS = ("a", "b", "c", "d", "e")
TEXTS = ("blue mug", "sand bowl", "glass vase", "tin jug", "LOCAL:BLOCK", "LOCAL:NOIMAGE", "LOCAL:ERROR")
TURNS = ("at night", "in snow")
CLOCKED = (spending, opening, clearing, recorded, connection, wire, remote)
"""The modules that ask what time it is."""
SETTINGS = (
    *(("aspects", value) for value in (("1:1",), ("4:5",), ("1:1", "4:5"))),
    *(("samples", value) for value in (1, 2)),
    *(("turns", value) for value in (0, 1, 2)),
    *(("keeps", value) for value in (True, False)),
    *(("temperature", value) for value in (None, 0.5)),
)
SEED = 7
MOST = 16
"""Requests of a job: more of them take longer, and tell nothing new."""
FAULTS = {
    "lost create": "{on: batches.create, do: drop_after, times: 1}",
    "lost creates": "{on: batches.create, do: drop_after, every: 2}",
    "no create": "{on: batches.create, do: refuse, code: 503}",
    "create and 503": "{on: batches.create, do: refuse, code: 503, done: true, times: 1}",
    "create and a page": "{on: batches.create, do: html, done: true, times: 1}",
    "create and nothing": "{on: batches.create, do: empty, times: 1}",
    "create cut": "{on: batches.create, do: truncate, part: 0.5, length: short, times: 1}",
    "rate": "{on: batches.create, do: refuse, code: 429, retry_after: 30, times: 2}",
    "bad request": "{on: batches.create, do: refuse, code: 400, times: 1}",
    "away": '{on: "*", do: refuse, code: 503}',
    "now and then": '{on: "*", do: refuse, code: 503, probability: 0.2}',
    "dropped now and then": '{on: "*", do: drop_after, probability: 0.2}',
    "lists": "{on: batches.list, do: refuse, code: 503}",
    "polls": "{on: batches.get, do: html, code: 200}",
    "cut downloads": "{on: files.download, do: truncate, part: 0.6, length: short}",
    "cut at times": "{on: files.download, do: truncate, part: 0.4, length: none, times: 2}",
    "no downloads": "{on: files.download, do: refuse, code: 503}",
    "late answer": "{on: batch, do: late_output, downloads: 1}",
    "late listing": "{on: batch, do: late_listing, seconds: 300}",
    "late and lost": "{on: batch, do: late_listing, seconds: 300}\n- {on: batches.create, do: drop_after}",
    "never starts": "{on: batch, do: pending, times: 1}",
    "never ends": "{on: batch, do: running, times: 1}",
    "expires": "{on: batch, do: expire, times: 1}",
    "expire": "{on: batch, do: expire}",
    "expires with answers": "{on: batch, do: expire, output: true, times: 1}",
    "fails": "{on: batch, do: fail, times: 1}",
    "fail": "{on: batch, do: fail}",
    "fails for good": "{on: batch, do: fail, code: 3, times: 1}",
    "cancelled": "{on: batch, do: cancel, times: 1}",
    "cancelled with answers": "{on: batch, do: cancel, output: true, times: 1}",
    "unknown end": "{on: batch, do: unknown_state, times: 1}",
    "unknown and not done": "{on: batch, do: unknown_state, done: false, times: 1}",
    "missing": "{on: line, do: missing, every: 2, times: 1}",
    "all missing": "{on: line, do: missing, times: 1}",
    "duplicate": "{on: line, do: duplicate, times: 2}",
    "malformed": "{on: line, do: malformed, every: 2, times: 1}",
    "errors": "{on: line, do: error, every: 2, times: 2}",
    "errors for good": "{on: line, do: error, code: 3, every: 2, times: 1}",
    "no image": "{on: line, do: no_image, share: 0.5}",
    "corrupt": "{on: line, do: corrupt, every: 2, times: 1}",
    "small": "{on: line, do: wrong_size, every: 2, times: 1}",
    "foreign keys": "{on: line, do: other_key, every: 2, times: 1}",
    "words": "{on: line, do: text, every: 2, times: 1}",
    "no uploads": "{on: files.upload, do: refuse, code: 503}",
    "lost chunks": "{on: files.chunk, do: drop_after, times: 2}",
    "files gone": "{on: file, do: gone, times: 1}",
    "no deletes": "{on: files.delete, do: refuse, code: 503}",
    "lost deletes": "{on: batches.delete, do: drop_after, times: 2}",
    "lost calls": "{on: generateContent, do: drop_after, times: 1}",
    "no calls": "{on: generateContent, do: refuse, code: 429}",
    "two for one": "{on: batches.create, do: twice, times: 1}",
}
SENDING = ("run", "submit", "retry")
RUN = ("run", JOB, "--yes", "--poll", "10m", "--wait", "3h")
COMMANDS = {
    "run": RUN,
    "submit": ("submit", JOB, "--yes"),
    "collect": ("collect", JOB),
    "retry": ("retry", JOB, "--yes", "--poll", "10m", "--wait", "2h"),
    "retry held": ("retry", JOB, "--only", "held", "--yes", "--wait", "0"),
    "cancel": ("cancel", JOB, "--yes"),
    "clean": ("clean", JOB, "--yes", "--older-than", "10000d"),
    "clean all": ("clean", JOB, "--yes", "--older-than", "0s"),
    "proof": ("proof", JOB, "-n", "1", "--yes"),
    "proof kept": ("proof", JOB, "-n", "1", "--yes", "--keep"),
}
ALLOWED = {
    "run": {0, 3, 4, 5, 6},
    "submit": {0, 3, 4, 5, 6},
    "retry": {0, 3, 4, 5, 6},
    "collect": {0, 3, 4, 5, 6},
    "cancel": {0, 3, 4, 5, 6},
    "clean": {0, 4, 6},
    "proof": {0, 3, 4, 5, 6},
}

_children = multiprocessing.get_context("forkserver")
_children.set_forkserver_preload(["tests.warm"])  # seen from the top of the repository


def breed():
    """Start what children are forked from where it finds this very product, before anything else is the folder."""
    with contextlib.chdir(ROOT):
        forkserver.ensure_running()


def put_on(clock, set_):
    """Give every module of the pipeline this clock, and let it wait for nothing else."""
    for module in CLOCKED:
        set_(module, "time", clock)
    set_(connection, "_wait", lambda _state: 0.0)


def _child(folder, url, args, nth, ahead_s, log):
    """A command in a process of its own, which is told to die."""
    os.chdir(folder)
    for name in [*os.environ]:
        if name.startswith(("GEMINI_", "GOOGLE_", "PIPELINE_")):
            del os.environ[name]
    os.environ.update(GEMINI_API_KEY=KEY, GOOGLE_GEMINI_BASE_URL=url, NO_COLOR="1")
    said = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(said, 1)
    os.dup2(said, 2)
    assert Path(cli.__file__).is_relative_to(ROOT), "a child must be of the same product"
    clock, ahead = Clock(), [ahead_s]

    def advance(seconds):
        ahead[0] += seconds
        Service(url)._call("/_local/clock", {"advance_s": seconds})

    clock.now, clock.advance = lambda: time.time() + ahead[0], advance
    put_on(clock, setattr)
    left = iter(range(nth - 1))

    def point(name):
        if next(left, None) is None:
            os.write(1, f"\n{name}\n".encode())
            os.kill(os.getpid(), signal.SIGKILL)

    crash.point = point
    os._exit(cli.run(list(args)))


CLOCK = Clock()
HAPPENED: Counter[str] = Counter()
"""How often what was done, and how it ended."""


def happened(what, times=1):
    HAPPENED[what] += times


class Week(RuleBasedStateMachine):
    """A shop, its service, and what may be expected of both."""

    def __init__(self):
        super().__init__()
        self.opened = contextlib.ExitStack()
        base = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None  # it is asked to sync all the time
        self.top = Path(self.opened.enter_context(tempfile.TemporaryDirectory(prefix="week-", dir=base)))
        self.opened.enter_context(contextlib.chdir(self.top))
        self.shop = self.opened.enter_context(serving(self.top / "service"))
        self.witness = self.shop.witness
        self.witness.safe = self.safe
        CLOCK.now, CLOCK.advance = self.shop.state.now, self.shop.advance
        os.environ["GOOGLE_GEMINI_BASE_URL"] = self.shop.url
        self.copies = 0
        self.seen = 0
        self.forgiven, self.tries_forgiven = Counter(), Counter()
        self.explicit, self.tries_explicit = Counter(), Counter()
        self.most = Counter()
        self.destroyed: set[str] = set()
        self.endangered: set[str] = set()
        """What is destroyed, if it is, by what a person is just doing."""
        self.edits: dict[str, bytes] = {}
        self.asks_of: dict[str, Ask] = {}
        self.unknown_answers: set[Path] = set()
        """Kept by a journal that is lost: nothing is written from them any more."""
        self.hashed: dict[tuple, frozenset[str]] = {}
        self.fault = None
        self.doubled = False
        self.history: list[tuple] = []

    # ------------------------------------------------------------------------------------------- the shop

    @initialize(
        rows=st.lists(st.sampled_from(TEXTS[:4] + TEXTS), min_size=1, max_size=3),
        most=st.sampled_from([2000, 2]),
        again=st.sampled_from([2, 1, 0]),
        stuck=st.sampled_from(["wait", "cancel", "interactive"]),
    )
    def open(self, rows, most, again, stuck):
        self.folder = self.top / "project-0"
        (self.folder / "jobs").mkdir(parents=True)
        self.folder.joinpath("sentinel.txt").write_bytes(b"leave me")
        self.rows = dict(zip(IDS, rows, strict=False))
        self.aspects, self.samples, self.turns, self.keeps, self.temperature = ("1:1",), 1, 0, False, None
        self.limits, self.again, self.stuck = most, again, stuck
        self.write()

    def write(self):
        """Write the job down as it is now."""
        prompt = "prompt: '[what]'"
        if self.turns:
            said = [f"{{prompt: '[what]', keep: {str(self.keeps).lower()}}}", *TURNS[: self.turns]]
            prompt = f"turns: [{', '.join(said)}]"
        lines = [
            prompt,
            "items: rows.csv",
            "checks: {decode: false}",
            f"samples: {self.samples}",
            f"seed: {SEED}",
            f"matrix: {{aspect: {json.dumps(self.aspects)}}}" if self.aspects[1:] else f"aspect: '{self.aspects[0]}'",
            f"retry: {self.again}",
            f"batch: {{max_requests: {self.limits}, on_stuck: {self.stuck}}}",
            *([] if self.temperature is None else [f"temperature: {self.temperature}"]),
        ]
        jobs = self.folder / "jobs"
        jobs.joinpath("shop.yaml").write_text("\n".join(lines) + "\n")
        jobs.joinpath("rows.csv").write_text(
            "id,what\n" + "".join(f"{id_},{text}\n" for id_, text in self.rows.items())
        )
        self.sources = {path.name: path.read_bytes() for path in jobs.iterdir()}
        now = Counter(self.wanted().values())
        for ask, count in now.items():
            self.most[ask] = max(self.most[ask], count)
        for one in self.witness.sent:
            if one.is_orphaned and one.ask not in now:
                self.forgive(one)

    def wanted(self):
        """What the job asks for now: the ask of each key."""
        found = {}
        for id_, text in self.rows.items():
            for aspect in self.aspects:
                item = f"{id_}/{aspect}" if len(self.aspects) > 1 else id_
                for sample in range(1, self.samples + 1):
                    base = f"{item}/s{sample}" if self.samples > 1 else item
                    texts = (text, *TURNS[: self.turns])
                    for turn in range(1, len(texts) + 1):
                        key = f"{base}/t{turn}" if self.turns else base
                        found[key] = Ask(texts[:turn], aspect, self.temperature, SEED + sample - 1, self.turns > 0)
        return found

    def snapshot(self):
        return (dict(self.rows), self.aspects, self.samples, self.turns, self.keeps, self.temperature)

    # ------------------------------------------------------------------------------------------- what there is

    @property
    def outputs(self):
        return self.folder / "outputs/shop"

    @property
    def state(self):
        return self.folder / "outputs/.pipeline"

    def files(self):
        """Everything in the job's folder, but what a killed writer left."""
        found = sorted(path for path in self.outputs.rglob("*") if path.is_file()) if self.outputs.is_dir() else []
        return [path for path in found if not (path.name.startswith(".") and path.name.endswith(".part"))]

    def tree(self):
        return {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in self.files()}

    def records(self):
        path = self.outputs / "manifest.jsonl"
        if not path.is_file():
            return {}
        found = [json.loads(line) for line in path.read_text().splitlines()]
        told = {one["key"]: one for one in found}
        assert len(told) == len(found), "G5: a key is there twice"
        return told

    def shas_in(self, path):
        """The sha256 of the images in a file: it may be one, or a file of answers."""
        status = path.stat()
        known = (path, status.st_size, status.st_mtime_ns, status.st_ino)
        if known not in self.hashed:
            data = path.read_bytes()
            found = {hashlib.sha256(data).hexdigest()}
            if path.suffix == ".jsonl" and path.name != "manifest.jsonl":
                for line in data.splitlines():
                    with contextlib.suppress(ValueError):
                        told = json.loads(line)
                        found |= images_of(told.get("response") or {})
            self.hashed[known] = frozenset(found)
        return self.hashed[known]

    def safe(self, *parts):
        """The sha256 of every image that is anywhere in the outputs folder, or in these parts of the state."""
        places = [self.state / part for part in parts] if parts else [self.folder / "outputs"]
        if parts:
            places.append(self.outputs)
        return {
            image
            for place in places
            if place.is_dir()
            for path in place.rglob("*")
            if not (parts and path in self.unknown_answers)
            and path.is_file()
            and path.suffix in {".jpg", ".png", ".webp", ".jsonl", ".bin", ".part", ".line"}
            for image in self.shas_in(path)
        }

    # ------------------------------------------------------------------------------------------- the bill

    def forgive(self, one):
        """What was asked for so is not known any more to anybody, or lost by a person's own hand."""
        one.is_orphaned = False
        self.tries_forgiven[one.ask] += 1
        if one.outcome != "none":
            self.forgiven[one.ask] += 1

    def allow(self, keys, *, times=1):
        """A person asks for these again."""
        asks = self.wanted()
        for key in keys:
            if key in asks:
                ask = asks[key]
                self.explicit[ask] += times
                self.tries_explicit[ask] += times * (1 + self.again)

    def judge(self):
        """Hold what was sent since the last time against what may be."""
        self.shop.state.settle()
        for one in self.witness.sent[self.seen :]:
            if one.is_double:
                self.explicit[one.ask] += 1
                self.tries_explicit[one.ask] += 1
        while self.seen < len(self.witness.sent):
            one = self.witness.sent[self.seen]
            self.seen += 1
            ask = one.ask
            if one.is_proof:
                continue
            paid = one.paid_before - self.forgiven[ask] + 1
            tried = one.tried_before - self.tries_forgiven[ask] + 1
            assert paid <= self.most[ask] + self.explicit[ask], f"G1b: bought again: {one}"
            tries = self.most[ask] * (1 + self.again) + self.tries_explicit[ask]
            assert tried <= tries + self.explicit[ask], f"G1b: asked again too often: {one}"
        names = Counter(name for name, _batch in self.witness.creates)
        if not self.doubled:
            assert set(names.values()) <= {1}, "G1: two batches for one create"
        for batch, lost in self.witness.unsafe:
            assert lost <= self.destroyed | self.endangered, f"G10: {batch} was deleted before its images were safe"

    def learn(self):
        """Learn which ask a fingerprint is from the records and what was sent."""
        by_wire = {one.wire_key: one.ask for one in self.witness.sent if one.wire_key}
        for told in self.records().values():
            ask = by_wire.get(record.wire_key(told["key"], told["fingerprint"]))
            if ask is not None:
                self.asks_of[told["fingerprint"]] = ask

    # ------------------------------------------------------------------------------------------- commands

    def command(self, name, *args, allowed=None):
        """Run a command here; returns its code and its output."""
        self.witness.proves, self.witness.talks = name == "proof", self.turns > 0
        self.witness.loses = self.fault in {"lost calls", "now and then", "dropped now and then"}
        out, err = io.StringIO(), io.StringIO()
        with contextlib.chdir(self.folder), contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            code = cli.run(list(args))
        self.said = out.getvalue() + err.getvalue()
        happened(f"{name} ends with {code}")
        word = args[0]
        takes_all = "--select" not in args
        assert code in (allowed or ALLOWED[word]), f"{args} ended with {code}:\n{self.said}"
        self.after(word if takes_all else "some", code)
        return code, out.getvalue()

    def after(self, word, code):
        self.learn()
        self.judge()
        if word in SENDING and code in {0, 3, 4, 6} and "error:" not in self.said:
            wanted, there = self.wanted(), self.records()
            assert wanted.keys() <= there.keys(), f"G5: {wanted.keys() - there.keys()} have no record\n{self.said}"
            self.count()

    def count(self):
        """The statuses sum up to what is wanted."""
        code, out, _err = self.quietly("status", "--json")
        assert code == 0
        counts = json.loads(out)["jobs"][0]["counts"]
        assert sum(counts.values()) == len(self.wanted()), f"G5: {counts} of {len(self.wanted())}"

    def quietly(self, *args):
        out, err = io.StringIO(), io.StringIO()
        with contextlib.chdir(self.folder), contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            code = cli.run(list(args))
        return code, out.getvalue(), err.getvalue()

    def statuses(self):
        return {key: told["status"] for key, told in self.records().items()}

    def before(self, name):
        """What a person asks for again by a command."""
        statuses = self.statuses()
        if name == "retry":  # what has no record yet may take over that of another key
            self.allow(key for key in self.wanted() if statuses.get(key) not in {"done", "held"})
        if name == "retry held":
            self.allow(key for key in self.wanted() if statuses.get(key) != "done")

    @rule(name=st.sampled_from([*("run", "submit") * 2, "collect", "retry", "retry held", "proof", "proof kept"]))
    def call(self, name):
        self.before(name)
        self.command(name, *COMMANDS[name])
        if name == "proof kept":
            self.keep()

    def keep(self):
        for told in self.records().values():
            shas = {file["sha256"] for file in told["files"]}
            for one in self.witness.sent:
                one.is_kept |= one.is_proof and bool(one.images & shas)

    @rule()
    def cancel(self):
        self.command("cancel", *COMMANDS["cancel"])

    @rule(name=st.sampled_from(["clean", "clean all"]))
    def clean(self, name):
        wanted, before = {*self.wanted().values()}, self.useful()
        with self.destroying():
            self.command(name, *COMMANDS[name])
        lost = wanted & before.keys() - self.useful().keys()
        assert not lost, f"G2: what is wanted was cleared away: {lost}"

    @rule(id_=st.sampled_from(IDS))
    def force(self, id_):
        keys = [key for key in self.wanted() if key == id_ or key.startswith(f"{id_}/")]
        if not keys:
            return
        self.allow(self.wanted(), times=1)
        self.command("force", *RUN, "--force", "--select", f"id:{id_}")
        for path, data in [*self.edits.items()]:  # it may take the place of what was edited, and of nothing else
            there = self.outputs / path
            if path.startswith(id_) and not (there.is_file() and there.read_bytes() == data):
                del self.edits[path]

    @rule()
    def look(self):
        """Nothing that only looks changes anything."""
        tree, mutations = self.tree(), self.witness.mutations
        for args, codes in (
            (("plan", JOB), {0}),
            (("plan", JOB, "--detailed-exitcode"), {0, 10}),
            (("status", JOB), {0}),
            (("ls", "items", "--job", "shop"), {0, 2}),
            (("verify", JOB), {0, 3}),
            (("cost", JOB), {0}),
            (("clean", JOB), {0, 4, 6}),
        ):
            code, out, err = self.quietly(*args)
            assert code in codes, f"{args} ended with {code}:\n{out}{err}"
        assert self.tree() == tree, "what only looks has written"
        assert self.witness.mutations == mutations, "what only looks has changed something at the service"

    @rule(name=st.sampled_from(["run", "submit", "collect", "retry", "clean", "cancel", "proof"]))
    def second(self, name):
        """While another run has the job, nothing happens."""
        lock = self.state / "locks/shop.lock"
        if not lock.is_file():
            return
        tree, mutations = self.tree(), self.witness.mutations
        with lock.open("rb+") as stream:
            fcntl.flock(stream, fcntl.LOCK_EX)
            code, out, err = self.quietly(*COMMANDS[name])
        assert code == 75, f"{name} beside another run: {code}\n{out}{err}"
        assert (self.tree(), self.witness.mutations) == (tree, mutations), "G6: the second one has changed something"

    @rule(
        name=st.sampled_from([*("run", "submit") * 2, "collect", "retry", "proof", "proof kept", "cancel", "clean"]),
        nth=st.integers(1, 40),
    )
    def killed(self, name, nth):
        """Whatever is done there: the n-th point of those at which a command may be killed."""
        self.before(name)
        self.witness.proves, self.witness.talks = name.startswith("proof"), self.turns > 0
        self.witness.loses = True
        self.learn()
        log = self.top / "child.log"
        with self.destroying() if name == "clean" else contextlib.nullcontext():
            process = _children.Process(
                target=_child,
                args=(
                    str(self.folder), self.shop.url, COMMANDS[name], nth,
                    self.shop.state.now() - time.time(), str(log),
                ),
            )  # fmt: skip
            process.start()
            process.join(600)
        code = process.exitcode
        happened(f"killed {name}: {'died' if code == -9 else 'lived'}")
        if code == -9:
            happened(f"killed at {log.read_text().splitlines()[-1]}")
        word = COMMANDS[name][0]
        assert code == -9 or code in ALLOWED[word], f"{name} killed at {nth}: {code}\n{log.read_text()}"
        self.learn()
        self.judge()
        if name == "proof kept":
            self.keep()

    # ------------------------------------------------------------------------------------------- changes

    @rule(id_=st.sampled_from(IDS), text=st.sampled_from(TEXTS[:4] + TEXTS))
    def put_row(self, id_, text):
        self.remember()
        self.rows[id_] = text
        self.write()

    @precondition(lambda self: len(self.rows) > 1)
    @rule(number=st.integers(0, 4))
    def remove_row(self, number):
        self.remember()
        self.rows.pop([*self.rows][number % len(self.rows)])
        self.write()

    @rule(number=st.integers(0, 4), id_=st.sampled_from(IDS))
    def rename_row(self, number, id_):
        if id_ in self.rows:
            return
        self.remember()
        old = [*self.rows][number % len(self.rows)]
        self.forgive_edited(old)
        self.rows = {id_ if key == old else key: text for key, text in self.rows.items()}
        self.write()

    def forgive_edited(self, *ids):
        """An image that somebody edited stays behind when its request has another name; it is bought again if no answer
        is kept from which it could be written."""
        kept = self.useful() if self.edits else {}
        for path in self.edits:
            id_ = re.split("[-.]", path)[0]
            if id_ in ids:
                asks = self.wanted()
                self.allow(key for key in asks if key.split("/")[0] == id_ and asks[key] not in kept)

    @rule()
    def swap_rows(self):
        if len(self.rows) > 1:
            self.remember()
            (first, one), (second, two) = [*self.rows.items()][:2]
            self.forgive_edited(first, second)
            self.rows |= {first: two, second: one}
            self.write()

    @rule(setting=st.sampled_from(SETTINGS))
    def change_setting(self, setting):
        name, value = setting
        before = getattr(self, name)
        if before == value:
            return
        setattr(self, name, value)
        is_too_much = len(self.wanted()) > MOST
        setattr(self, name, before)
        if is_too_much:
            return
        self.remember()
        self.forgive_edited(*self.rows)
        setattr(self, name, value)
        self.write()

    def remember(self):
        self.history.append(self.snapshot())

    @precondition(lambda self: self.history)
    @rule(back=st.integers(1, 3))
    def revert(self, back):
        now = self.snapshot()
        then = self.history[-min(back, len(self.history))]
        self.forgive_edited(*self.rows)
        self.rows, self.aspects, self.samples, self.turns, self.keeps, self.temperature = dict(then[0]), *then[1:]
        self.history.append(now)
        self.write()

    # ------------------------------------------------------------------------------------------- time and trouble

    @rule(hours=st.sampled_from([1, 1, 1, 25, 49]))
    def pass_time(self, hours):
        self.shop.advance(hours * HOUR)

    @precondition(lambda self: self.fault is None)
    @rule(name=st.sampled_from(sorted(FAULTS)))
    def trouble(self, name):
        self.fault = name
        self.doubled |= name == "two for one"
        self.shop.rehearse(f"- {FAULTS[name]}\n")
        happened(f"trouble: {name}")

    @precondition(lambda self: self.fault is not None)
    @rule()
    def no_trouble(self):
        self.fault = None
        self.shop.rehearse("")

    @rule(number=st.integers(0, 3))
    def cancelled_elsewhere(self, number):
        live = self.shop.live()
        if live:
            self.shop.cancel(live[number % len(live)])

    # ------------------------------------------------------------------------------------------- a person's hand

    @contextlib.contextmanager
    def destroying(self):
        """Note what a person's own hand destroys: it may be bought again."""
        self.shop.state.settle()
        self.learn()
        before, useful = self.safe(), self.useful()
        self.endangered = before
        yield
        self.endangered = set()
        self.destroyed |= before - self.safe()
        left = self.useful()
        for ask in useful.keys() - left.keys():
            for one in self.witness.sent:
                if one.ask == ask and one.outcome == "image":
                    self.forgive(one)
        self.lost_turns()

    def useful(self):
        """The asks of which there is an image, or an answer, in a place that a run looks at."""
        there = self.safe("retired", "answers", "turns")
        found = {}
        for one in self.witness.sent:
            if one.images & there:
                found[one.ask] = True
        return found

    def lost_turns(self):
        """Turns without a kept answer may be asked for once more, by those that go on from them."""
        lines = [path for part in ("answers", "turns") for path in (self.state / part).glob("**/*.jsonl")]
        answers = {image for path in lines if path not in self.unknown_answers for image in self.shas_in(path)}
        for one in self.witness.sent:
            if one.outcome == "image" and not one.images & answers:
                self.explicit[one.ask] += 1
                self.tries_explicit[one.ask] += 1 + self.again

    @precondition(lambda self: self.images())
    @rule(number=st.integers(0, 9))
    def delete_image(self, number):
        found = self.images()
        with self.destroying():
            self.drop(found[number % len(found)])

    @precondition(lambda self: self.images())
    @rule()
    def delete_images(self):
        with self.destroying():
            for path in self.images():
                self.drop(path)

    def drop(self, path):
        path.unlink()
        self.edits.pop(path.relative_to(self.outputs).as_posix(), None)

    def images(self):
        return [path for path in self.files() if path.suffix == ".jpg" and "proof" not in path.parts]

    @precondition(lambda self: self.images())
    @rule(number=st.integers(0, 9))
    def edit(self, number):
        found = self.images()
        path = found[number % len(found)]
        before = path.read_bytes()
        self.destroyed.add(hashlib.sha256(before).hexdigest())
        data = before + b"retouched"
        path.write_bytes(data)
        self.edits[path.relative_to(self.outputs).as_posix()] = data

    @rule(part=st.sampled_from(["answers", "turns", "retired", "requests"]))
    def delete_part(self, part):
        with self.destroying():
            shutil.rmtree(self.state / part, ignore_errors=True)

    @rule()
    def delete_manifest(self):
        if not (self.state / "journal.db").is_file():  # nobody knows anything any more
            for one in self.witness.sent:
                self.forgive(one)
        for name in ("manifest.jsonl", "manifest.csv"):
            (self.outputs / name).unlink(missing_ok=True)

    @rule(everything=st.booleans())
    def delete_journal(self, everything):
        """What neither the output manifest nor the service can tell is not known any more."""
        with self.destroying():
            self.lose_journal()
            if everything:
                shutil.rmtree(self.state, ignore_errors=True)
            else:
                for path in self.state.glob("journal.db*"):
                    path.unlink()

    def lose_journal(self, *, is_copied=False):
        told, unlisted = self.told(), self.shop.unlisted()
        self.unknown_answers |= {*(self.state / "answers").glob("**/*.jsonl")}
        for one in self.witness.sent:
            if one.ask in told or one.is_proof:
                continue
            is_found = one.outcome == "live" and not is_copied and one.batch not in unlisted
            if is_found and one.ask in self.wanted().values():
                one.is_orphaned = True
            else:
                self.forgive(one)
        for ask in {one.ask for one in self.witness.sent}:
            # What a record tells of is known once; what else was asked for so is not.
            extra = sum(one.ask == ask and one.outcome != "none" for one in self.witness.sent) - told.get(ask, 0)
            if ask in told and extra > 0:
                self.forgiven[ask] += extra
            self.tries_explicit[ask] += 1 + self.again

    def told(self):
        """How often the output manifest tells of an ask, with an image that is there or on its way."""
        found = Counter()
        for key, one in self.records().items():
            ask = self.asks_of.get(one["fingerprint"])
            is_there = all(
                (self.outputs / file["path"]).is_file()
                and hashlib.sha256((self.outputs / file["path"]).read_bytes()).hexdigest() == file["sha256"]
                for file in one["files"]
            )
            is_coming = one["status"] != "pending" or one["batch"]
            if ask is not None and ask == self.wanted().get(key) and is_there and is_coming:
                found[ask] += 1
        return found

    @rule()
    def clone(self):
        """Go on in another working copy: only what is in git is there."""
        self.copies += 1
        there = self.top / f"project-{self.copies}"
        with self.destroying():
            self.lose_journal(is_copied=True)
            (there / "outputs").mkdir(parents=True)
            shutil.copytree(self.folder / "jobs", there / "jobs")
            shutil.copyfile(self.folder / "sentinel.txt", there / "sentinel.txt")
            if self.outputs.is_dir():
                ignored = shutil.ignore_patterns(".*", "proof")
                shutil.copytree(self.outputs, there / "outputs/shop", ignore=ignored)
            self.folder = there

    # ------------------------------------------------------------------------------------------- always

    @invariant()
    def holds(self):
        if not hasattr(self, "folder"):
            return
        assert sorted(path.name for path in self.folder.iterdir() if path.name != "outputs") == ["jobs", "sentinel.txt"]
        assert self.folder.joinpath("sentinel.txt").read_bytes() == b"leave me"
        sources = {path.name: path.read_bytes() for path in (self.folder / "jobs").iterdir()}
        assert sources == self.sources, "G7: the job's own files were changed"
        there = set()
        for path in self.files():
            name = path.relative_to(self.outputs).as_posix()
            there.add(name)
            data = path.read_bytes()
            if name in self.edits:
                assert data == self.edits[name], f"G11: {name} was edited, and is another file now"
            elif path.suffix == ".jpg":
                assert hashlib.sha256(data).hexdigest() in self.witness.images, f"G3: {name} is no image of the service"
                assert is_whole(data), f"G3: {name} is not whole"
            elif name == "manifest.jsonl":
                self.records()
            elif name == "manifest.csv":
                rows = [*csv.reader(io.StringIO(data.decode("utf-8-sig")))]
                assert len({len(row) for row in rows}) == 1, "G3: the table is not whole"
            else:
                assert name.startswith("proof/"), f"G7: what is {name}?"
        assert self.edits.keys() <= there, f"G11: {self.edits.keys() - there} were edited, and are gone"

    def teardown(self):
        try:
            if hasattr(self, "folder"):
                self.come_to_rest()
        finally:
            self.opened.close()

    def come_to_rest(self):
        """With no more trouble, a few runs settle everything, and one more does nothing."""
        self.shop.rehearse("")
        self.fault = None
        patient = ("run", JOB, "--yes", "--poll", "1h", "--wait", "60h")
        for _number in range(7):
            self.shop.advance(25 * HOUR)
            before, mutations = self.tree(), self.witness.mutations
            code, _out = self.command("run", *patient)
            if self.tree() == before and self.witness.mutations == mutations:
                break
        else:
            raise AssertionError("G4: it never comes to rest")
        assert code in {0, 3, 6}, f"at rest with {code}: {self.said}"
        told = self.records()
        for key in self.wanted():
            earlier = {told[other]["status"] for other in told if other.startswith(key.rpartition("/t")[0])}
            waits = self.turns and "held" in earlier  # for a person to decide about the turn before
            assert waits or told[key]["status"] != "pending", f"G4: {key} has no outcome: {told[key]}"
        self.has_all(told, code)

    def has_all(self, told, code):
        safe = self.safe()
        for one in self.witness.sent:
            if one.outcome == "image" and not (self.forgiven[one.ask] or one.is_proof or self.doubled):
                assert one.images <= safe | self.destroyed, f"G2: an image is lost: {one}"
        statuses = Counter(told[key]["status"] for key in self.wanted())
        if code == 0:
            assert statuses == {"done": len(self.wanted())}, f"G14: {statuses}"
        for key in self.wanted():
            for file in told[key]["files"]:
                data = (self.outputs / file["path"]).read_bytes()
                is_edited = file["path"] in self.edits
                assert is_edited or hashlib.sha256(data).hexdigest() == file["sha256"], f"G3: {key}"
        code, out, err = self.quietly("verify", JOB, "--json")
        assert code in {0, 3}, err
        found = json.loads(out)["jobs"][0]
        asked_for = {file["path"] for key in self.wanted() for file in told[key]["files"]}
        assert not asked_for & {*found["missing"]}, f"verify: {found}"
        assert set(found["edited"]) <= self.edits.keys(), f"verify: {found}"
        for word, count in statuses.items():
            happened(f"at rest: {word}", count)
