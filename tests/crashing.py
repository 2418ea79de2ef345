"""Runs of the product in processes that may be killed, and what must be true when all is said and done.

A `Nursery` has everything loaded and forks each run: the start of a process would cost more than the run. A `Story` is
what a person does, one command after the other; one of them is killed at a point, and the same command is run again
until it ends. `Case.judge` then holds the outputs folder, the journal and the service's own books against each other.
"""

from __future__ import annotations

import atexit
import base64
import ctypes
import gc
import hashlib
import importlib
import io
import json
import os
import pkgutil
import re
import resource
import signal
import sqlite3
import subprocess
import sys
import time
from collections import Counter
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from collections.abc import Sequence

ROOT = Path(__file__).resolve().parent.parent
KEY = "test-key-of-the-suite-0123456789"
KILLED = -9
ALL = os.environ.get("TORTURE") == "all"
"""Try everything, which takes hours."""
T = TypeVar("T")
_LONGEST_S = 100

# ------------------------------------------------------------------------------------------- processes


class _Hurried:
    """The clock of a run that is in no hurry, and has no patience: its waits are short."""

    def __init__(self, ahead_s: float) -> None:
        self._ahead_s = ahead_s

    def time(self) -> float:
        return time.time() + self._ahead_s

    def sleep(self, seconds: float) -> None:
        time.sleep(min(seconds, 0.005))


def _live(order: dict[str, Any]) -> None:
    """Be a command of the product, in a process that was forked for it."""
    from pipeline import cli, crash
    from pipeline.cli import spending, streams

    signal.alarm(order.get("longest_s", _LONGEST_S))
    os.chdir(order["folder"])
    for number, name in ((1, "out"), (2, "err")):
        os.dup2(os.open(order[name], os.O_WRONLY | os.O_CREAT | os.O_TRUNC), number)
    os.environ.update(order["environment"])
    streams.steady()  # as for a process of its own
    if order.get("is_hurried", True):
        spending.time = _Hurried(order["ahead_s"])
    crash.arm(at=order["at"], log=order["log"])
    for limit, most in order["limits"].items():
        resource.setrlimit(getattr(resource, limit), (most, most))
    if order["strace"]:
        _be_traced(order["strace"])
    code = cli.run(order["args"])
    sys.stdout.flush()
    os._exit(code)


def _be_traced(words: list[str]) -> None:
    """Go on when strace looks at us: it is started for a process that has everything loaded."""
    us, status = os.getpid(), os.open("/proc/self/status", os.O_RDONLY)  # once: what is opened from now on may fail
    ctypes.CDLL(None).prctl(_PR_SET_PTRACER, _ANYBODY, 0, 0, 0)
    if not os.fork():
        os.execvp("strace", ["strace", "-f", "-qq", "-p", str(us), *words])
    while b"\nTracerPid:\t0\n" in os.pread(status, 4000, 0):
        time.sleep(0.002)


_PR_SET_PTRACER, _ANYBODY = 0x59616D61, ctypes.c_ulong(-1)
_PR_SET_CHILD_SUBREAPER = 36


def _nurse() -> None:
    """Read orders, some in a line, and fork a process for each. No thread and no connection is open here."""
    import warm  # noqa: F401 - so that no child has to
    from PIL import Image

    import pipeline
    from pipeline.gemini import models

    for module in pkgutil.walk_packages(pipeline.__path__, "pipeline."):
        if not module.name.startswith(("pipeline.local", "pipeline.__main__", "pipeline.decoder")):
            importlib.import_module(module.name)
    Image.init()
    models.load()
    gc.freeze()
    gc.disable()
    ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    for line in sys.stdin:
        ended = [os.waitpid(pid, 0) for pid in _born(json.loads(line))]
        with suppress(ChildProcessError):  # strace has its last words, and decoders hear that nobody asks any more
            while True:
                os.wait()
        sys.stdout.write(json.dumps([os.waitstatus_to_exitcode(status) for _pid, status in ended]) + "\n")
        sys.stdout.flush()


def _born(orders: list[dict[str, Any]]) -> list[int]:
    """A process for each order; they begin at one moment."""
    start, gate = os.pipe()
    pids = []
    for order in orders:
        pid = os.fork()
        if not pid:
            os.close(gate)
            os.read(start, 1)  # until nobody holds the gate any more
            os.close(start)
            _live(order)
        pids.append(pid)
    os.close(gate)
    os.close(start)
    return pids


class Nursery:
    """A process from which the runs are forked."""

    def __init__(self) -> None:
        names = [name for name in os.environ if name.startswith(("GEMINI_", "GOOGLE_", "PIPELINE_"))]
        environment = {name: value for name, value in os.environ.items() if name not in names}
        environment |= {"PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'tests'}", "NO_COLOR": "1"}
        self._process = subprocess.Popen(
            [sys.executable, "-c", "import crashing; crashing._nurse()"],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment, cwd=ROOT,
        )  # fmt: skip

    def run(self, **order: Any) -> int:
        """The exit code of a command; negative for the signal that killed it."""
        return self.runs([order])[0]

    def runs(self, orders: Sequence[dict[str, Any]]) -> list[int]:
        """The exit codes of commands that are started at one moment."""
        assert self._process.stdin
        assert self._process.stdout
        self._process.stdin.write(json.dumps(orders) + "\n")
        self._process.stdin.flush()
        return json.loads(self._process.stdout.readline())

    def close(self) -> None:
        assert self._process.stdin
        assert self._process.stdout
        self._process.stdin.close()
        self._process.wait(10)
        self._process.stdout.close()


@cache
def nursery() -> Nursery:
    """The one of this process; it ends with it."""
    one = Nursery()
    atexit.register(one.close)
    return one


# --------------------------------------------------------------------------------------------- a case


@dataclass
class Case:
    """An outputs folder, and a service of its own in front of it."""

    folder: Path
    url: str
    state: Path
    """Where the service keeps what it knows."""
    environment: dict[str, str] = field(default_factory=dict)
    ahead_s: float = 0.0
    """How far the clock of the pipeline is ahead."""
    job: str = "shop"
    screen: str = ""
    """Where what is said goes, if not to files in the folder."""
    delivers: bool = True
    """Whether the service gives away what it has drawn; of a batch that is rehearsed to expire it does not."""

    @property
    def outputs(self) -> Path:
        return self.folder / "outputs"

    @property
    def err(self) -> str:
        return (self.folder / "err.txt").read_text()

    def write(self, name: str, text: str | bytes) -> None:
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(text if isinstance(text, bytes) else text.encode())

    def run(
        self, *args: str, at: str = "", log: str = "", strace: Sequence[str] = (), **limits: int
    ) -> int:  # fmt: skip
        """Run `pipeline ARGS` in a process of its own, to be killed at the point `at`, traced or with limits."""
        names = {
            "GEMINI_API_KEY": KEY,
            "GOOGLE_GEMINI_BASE_URL": self.url,
            "PIPELINE_SETTLE": "0",
            "PIPELINE_PATIENCE": "0",
        }
        return nursery().run(
            folder=str(self.folder), environment={**names, **self.environment}, args=list(args), at=at, log=log,
            strace=list(strace), limits=limits, ahead_s=self.ahead_s,
            out=self.screen or str(self.folder / "out.txt"), err=self.screen or str(self.folder / "err.txt"),
        )  # fmt: skip

    def again(self, *args: str, most: int = 6) -> int:
        """Run a command until it does not say any more that running it again helps; its last exit code."""
        code = 4
        for _ in range(most):
            code = self.run(*args)
            if code != 4:
                break
        return code

    # ------------------------------------------------------------------------------- what is there

    @property
    def ledger(self) -> list[dict[str, Any]]:
        """What the service accepted, in order."""
        return [json.loads(line) for line in (self.state / "ledger.jsonl").read_bytes().splitlines()]

    def records(self) -> list[dict[str, Any]]:
        path = self.outputs / self.job / "manifest.jsonl"
        return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []

    def tree(self) -> dict[str, tuple[bytes, int]]:
        """Every file of the job, and when it was changed."""
        top = self.outputs / self.job
        found = (path for path in sorted(top.rglob("*")) if path.is_file())
        return {path.relative_to(top).as_posix(): (path.read_bytes(), path.stat().st_mtime_ns) for path in found}

    def outcome(self) -> Any:
        """What is left behind, apart from times, names that chance has given, and what was only shown."""
        pictures = {name: data for name, (data, _at) in self.tree().items() if not name.startswith("manifest.")}
        pictures = {name: data for name, data in pictures.items() if not re.match(r"proof/|.*\.json$", name)}
        statuses = {told["key"]: (told["status"], told["fingerprint"]) for told in self.records()}
        return pictures, statuses

    def paid(self) -> list[tuple[str, set[str]]]:
        """Every answer with images that the service has made: its key on the wire, and the sha256 of each image."""
        drawn = []
        for path in (self.state / "batches").glob("*.out") if self.delivers else ():
            lines = path.read_bytes().splitlines()
            drawn += [(json.loads(line)["key"], set(map(_sha256, _inline(line)))) for line in lines]
        return [(key, images) for key, images in drawn if images]

    # ---------------------------------------------------------------------------------- the verdict

    def judge(self, *, calls: int | None = None) -> None:
        """G1 to G3 and G5, and that nothing half done is left. `calls` is the most that may be asked one by one."""
        creates = [entry["displayName"] for entry in self.ledger if entry["op"] == "batches.create"]
        attempts = Counter(re.sub(r"-[0-9a-f]{8}$", "", name) for name in creates)
        assert max(attempts.values(), default=1) == 1, f"G1: created twice: {attempts}"
        paid = self.paid()
        keys = Counter(key for key, _images in paid)
        assert max(keys.values(), default=1) == 1, f"G1b: paid twice: {keys}"
        if calls is not None:
            singly = [entry for entry in self.ledger if entry["op"] == "generateContent"]
            assert len(singly) <= calls, "G1b: asked twice"
        self._files(paid)
        self._states()
        litter = [path for path in self.folder.rglob("*") if re.search(r"\.(part|tmp)$", path.name)]
        assert not litter, litter

    def _files(self, paid: list[tuple[str, set[str]]]) -> None:
        places = [self.outputs / self.job, *(self.outputs / f".pipeline/{name}" for name in _PLACES)]
        files = [path for place in places for path in place.rglob("*") if path.is_file()]
        there = {_sha256(path.read_bytes()) for path in files}
        lost = {sha256 for _key, images in paid for sha256 in images} - there
        if lost:  # an image of a turn that is not kept is in the answer that the next turn goes on from
            kept = b"".join(path.read_bytes() for path in (self.outputs / ".pipeline/turns").rglob("*.jsonl"))
            lost -= {_sha256(data) for data in _inline(kept)}
        assert not lost, f"G2: paid for, and not here: {lost}"
        tree = self.tree()
        told = [file for record in self.records() for file in record["files"]]
        for file in told:
            data, _at = tree[file["path"]]
            assert _sha256(data) == file["sha256"], f"G3: {file['path']}"
            assert not file["mime"].startswith("image/") or _decodes(data), f"G3: {file['path']}"
        named = {file["path"] for file in told}
        stray = {name for name in tree if name not in named and re.search(r"\.(jpg|png|md)$", name)}
        assert not {name for name in stray if not name.startswith("proof/")}, f"G2: in no record: {stray}"

    def _states(self) -> None:
        keys = [record["key"] for record in self.records()]
        assert keys == sorted(set(keys)), "G5: a key is there twice"
        path = self.outputs / ".pipeline/journal.db"
        if not path.exists():
            return
        with sqlite3.connect(path) as db:
            assert db.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
            wanted = db.execute("SELECT key, count(*) FROM record WHERE job = ? AND wanted GROUP BY key", (self.job,))
            states = dict(wanted.fetchall())
        db.close()
        assert set(states.values()) <= {1}, f"G5: in two states: {states}"
        assert states.keys() <= set(keys), "G5: what is asked for is not in the output manifest"

    def rests(self, *args: str, code: int = 0) -> None:
        """G4: one more run changes nothing, neither here nor there."""
        ledger, tree = self.ledger, self.tree()
        assert self.run(*args) == code, self.err
        assert self.ledger == ledger, f"G4: {self.ledger[len(ledger) :]}"
        assert self.tree() == tree, "G4: a file was written"


_PLACES = ("retired", "quarantine", "conflicts")


def _parts(response: dict[str, Any]) -> list[dict[str, Any]]:
    parts = [part for one in response.get("candidates", ()) for part in one.get("content", {}).get("parts", ())]
    return [part for part in parts if "inlineData" in part]


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _inline(lines: bytes) -> list[bytes]:
    told = [json.loads(line) for line in lines.splitlines()]
    return [base64.b64decode(part["inlineData"]["data"]) for one in told for part in _parts(one.get("response") or {})]


_decoded: set[bytes] = set()


def _decodes(data: bytes) -> bool:
    from PIL import Image

    if data not in _decoded:
        with Image.open(io.BytesIO(data)) as image:
            image.load()
        _decoded.add(data)
    return True


@contextmanager
def serving(top: Path, *, latency_s: float = 0.0, faults: str = "", **environment: str):
    """A case in the folder `top`."""
    from pipeline import local

    (top / "project").mkdir(parents=True)
    path = None
    if faults:
        path = top / "faults.yaml"
        path.write_text(faults)
    with local.serving(top / "service", latency_s=latency_s, pictures="plain", faults=path) as url:
        yield Case(top / "project", url, top / "service", dict(environment))


# ------------------------------------------------------------------------------------------- the points

_SILENT = ("sync", "fill")
"""Steps that nobody sees after a kill: a sync without a power cut, and what dies with the connection."""


def steps(log: Path) -> list[str]:
    """The points of a run at which a kill finds the world different: before each step, and at the very end."""
    passed = log.read_text().split()
    before = [point for point in passed if ":before:" in point and not point.startswith(_SILENT)]
    return [*before, passed[-1]]


def telling(points: list[str]) -> list[str]:
    """Of these, the first and the last between each two kinds of steps: between alike ones a kill teaches nothing."""
    kinds = ["", *(point.rpartition(":")[0] for point in points)]
    first: dict[tuple[str, str], str] = {}
    last: dict[tuple[str, str], str] = {}
    for number, point in enumerate(points):
        first.setdefault((kinds[number], kinds[number + 1]), point)
        last[kinds[number], kinds[number + 1]] = point
    chosen = {*first.values(), *last.values()}
    return [point for point in points if point in chosen]


def spread(things: Sequence[T], most: int) -> list[T]:
    """At most so many of these, from the first to the last."""
    if ALL or len(things) <= most:
        return list(things)
    return [things[(len(things) - 1) * number // max(1, most - 1)] for number in range(most)]
