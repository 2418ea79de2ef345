"""A project folder, the local service in front of it, and the command line, as a user has them."""

from __future__ import annotations

import datetime as dt
import json
import os
import shutil
import signal
import subprocess
import sys
import time
import urllib.request
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import ClassVar

import pytest
from canary import leaks
from cases import pytest_collection_modifyitems  # noqa: F401 - a hook
from crashing import nursery
from hypothesis import settings
from local_wire import Wire, sdk
from proxy import proxying

from pipeline import cli, local, pixels
from pipeline.cli import resting, spending
from pipeline.local import answers, pictures

# `make torture` asks for the thorough profile. A test that needs more or fewer examples takes a multiple of them.
settings.register_profile("quick", settings.default, max_examples=15, deadline=None)
settings.register_profile("thorough", settings.default, max_examples=250, deadline=None)
settings.load_profile("quick")

KEY = "test-key-of-the-suite-0123456789"
ROOT = Path(__file__).resolve().parent.parent
MEMORY = Path("/dev/shm")


def pytest_configure(config):
    """Processes that are started here hear every signal, also where the tests run as a job in the background."""
    if config.getoption("hypothesis_profile") != "thorough":
        _stay_in_memory()
    for number in (signal.SIGINT, signal.SIGHUP, signal.SIGTERM):
        if signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)


def _stay_in_memory():
    """Have the folders of tests in memory, where there is a lot: a tenth of their time was one of the disk.

    A kill of a process is none of the machine: what a test sees of a file is the same. What is synced, and in which
    order, is for test_power.py to hold, and `make torture` writes all of its files to the disk.
    """
    if MEMORY.is_dir() and os.access(MEMORY, os.W_OK) and shutil.disk_usage(MEMORY).free > 4 << 30:
        os.environ.setdefault("PYTEST_DEBUG_TEMPROOT", str(MEMORY))


@pytest.fixture(autouse=True)
def _quiet_environment(monkeypatch):
    """No key, service or home of the person who runs the tests reaches a test."""
    for name in [*os.environ]:
        if name.startswith(("GEMINI_", "GOOGLE_", "PIPELINE_", "MAKE")) or name.lower().endswith("_proxy"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("NO_COLOR", "1")


class Decoder(pixels._Worker):
    """A process that decodes images, kept from test to test: starting one takes longer than most of what they do."""

    idle: ClassVar[list[Decoder]] = []

    @classmethod
    def one(cls, seconds, memory_bytes):
        return cls.idle.pop() if cls.idle else cls(seconds, memory_bytes)

    def kill(self):
        if self.asked or self.process.poll() is not None:
            super().kill()
        else:
            self.idle.append(self)


_drawn: dict[tuple[object, ...], tuple[bytes, str, int, int]] = {}


def drawn(picture, mode):
    """What the local service draws for a shop: the same mugs, in hundreds of tests, which took a third of their time.

    That an ask is the same bytes whenever it is drawn is for test_local_pictures.py to hold, which draws without this.
    """
    told = [getattr(picture, name) for name in pictures.Picture.__slots__ if name != "model"]
    asked = (mode, picture.model.id, picture.model.mime, picture.pixels, *told)
    if asked not in _drawn:
        if len(_drawn) == 500:
            _drawn.clear()
        _drawn[asked] = pictures.draw(picture, mode)
    return _drawn[asked]


program = cache(resting._code)
"""The number of the program: nobody works on it while its tests run, in processes that look for themselves as well."""


@dataclass
class Ended:
    """A command that has ended."""

    code: int
    out: str
    err: str

    @property
    def json(self):
        return json.loads(self.out)


class Service:
    """A running service, seen from outside."""

    def __init__(self, url: str, *, latency_s: float = 0.0) -> None:
        self.url, self._latency_s = url, latency_s

    def _call(self, path, body=None):
        data = None if body is None else json.dumps(body).encode()
        headers = {"content-type": "application/json", "x-goog-api-key": KEY}
        request = urllib.request.Request(self.url + path, data, headers)
        with urllib.request.urlopen(request, timeout=30) as answer:
            return json.loads(answer.read())

    def ledger(self, operation="batches.create"):
        """What the service accepted, in order."""
        told = self._call("/_local/ledger")
        entries = told if isinstance(told, list) else told["ledger"]
        return [entry for entry in entries if entry["op"] == operation]

    def delete(self, name):
        """Delete a file or a batch, as somebody else might."""
        request = urllib.request.Request(f"{self.url}/v1beta/{name}", headers={"x-goog-api-key": KEY}, method="DELETE")
        urllib.request.urlopen(request, timeout=30).close()

    def advance(self, seconds):
        """Put its clock forward, and return when every batch that is due by then has its answers drawn.

        Drawing takes real time: on a busy machine a batch that is due is still RUNNING for a moment.
        """
        now = self._call("/_local/clock", {"advance_s": seconds})["now"]
        until = time.monotonic() + 30
        while self._is_drawing(now):
            assert time.monotonic() < until, "a batch that is due is not drawn"

    def _is_drawing(self, now):
        batches = self._call("/v1beta/batches?pageSize=100").get("operations", ())
        running = [one["metadata"] for one in batches if one["metadata"]["state"] == "BATCH_STATE_RUNNING"]
        made = (dt.datetime.fromisoformat(one["createTime"]).timestamp() for one in running)
        return any(at + self._latency_s <= now for at in made)


class Project:
    """A folder with a job, and the command line in it."""

    def __init__(self, folder: Path, capsys, monkeypatch) -> None:
        self.folder, self._capsys, self._monkeypatch = folder, capsys, monkeypatch
        self.outputs = folder / "outputs"

    def write(self, name: str, text: str | bytes) -> Path:
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return path

    def __call__(self, *args: str) -> Ended:
        """Run `pipeline ARGS` in this process."""
        self._monkeypatch.chdir(self.folder)
        self._capsys.readouterr()
        code = cli.run(list(args))
        said = self._capsys.readouterr()
        assert KEY not in said.out + said.err, "the key was shown"
        return Ended(code, said.out, said.err)

    def process(self, *args: str, **environment: str) -> subprocess.CompletedProcess[str]:
        """Run `pipeline ARGS` in a process of its own."""
        return subprocess.run(
            [sys.executable, "-m", "pipeline", *args],
            cwd=self.folder,
            env={**os.environ, "PYTHONPATH": str(ROOT), **environment},
            capture_output=True,
            text=True,
            timeout=100,
            check=False,
        )

    def forked(self, *args: str, at: str = "", log: str = "", **environment: str) -> int:
        """Run `pipeline ARGS` in a process that has all loaded, and is killed at the point `at`; its exit code."""
        told = {
            name: value for name, value in os.environ.items() if name.startswith(("GEMINI_", "GOOGLE_", "PIPELINE_"))
        }
        said = {"out": str(self.folder / "out.txt"), "err": str(self.folder / "err.txt")}
        more = {"environment": {**told, **environment}, "strace": (), "limits": {}, "ahead_s": 0.0}
        return nursery().run(folder=str(self.folder), args=args, at=at, log=log, **said, **more)

    def tree(self, job: str = "shop") -> dict[str, tuple[bytes, int]]:
        """Every file of a job: its bytes and its mtime."""
        top = self.outputs / job
        return {
            path.relative_to(top).as_posix(): (path.read_bytes(), path.stat().st_mtime_ns)
            for path in sorted(top.rglob("*"))
            if path.is_file()
        }

    def delivers(self) -> None:
        """Have the job's model deliver an image here, by a proof: none of its batches goes ahead alone then."""
        assert self("proof", "jobs/shop.yaml", "-n", "1").code == 0

    def records(self, job: str = "shop") -> dict[str, dict]:
        lines = (self.outputs / job / "manifest.jsonl").read_text().splitlines()
        return {record["key"]: record for record in map(json.loads, lines)}


SHOP = """\
prompt: Studio photo of a [product] on white marble.
items: products.csv
matrix:
  aspect: [1:1, 4:5]
"""
PRODUCTS = "id,product\nmug,blue mug\nbowl,sand bowl\nvase,glass vase\n"


@pytest.fixture
def project(tmp_path, capsys, monkeypatch):
    """An empty project."""
    monkeypatch.setattr(pixels, "_Worker", Decoder.one)
    monkeypatch.setattr(answers, "draw", drawn)
    monkeypatch.setattr(resting, "_code", program)
    project = Project(tmp_path, capsys, monkeypatch)
    yield project
    assert leaks(project.outputs, KEY) == [], "the key was written down"


def _opened(project, service, monkeypatch):
    """Three products in two shapes, and a key for a service."""
    project.write("jobs/shop.yaml", SHOP)
    project.write("jobs/products.csv", PRODUCTS)
    monkeypatch.setenv("GEMINI_API_KEY", KEY)
    monkeypatch.setenv("GOOGLE_GEMINI_BASE_URL", service.url)
    return project


@pytest.fixture
def shop(project, service, monkeypatch):
    """A shop before a service that answers at once."""
    return _opened(project, service, monkeypatch)


@pytest.fixture
def service(tmp_path_factory):
    """The local service, at once with its answers, and with plain pictures."""
    folder = tmp_path_factory.mktemp("service")
    with local.serving(folder, latency_s=0.0, pictures="plain") as url:
        yield Service(url)
    assert leaks(folder, KEY) == [], "the service wrote a key down"


class Clock:
    """The pipeline's own clock, which a test puts forward."""

    ahead_s = 0.0

    def time(self):
        return time.time() + self.ahead_s

    def sleep(self, seconds):
        time.sleep(seconds)


@pytest.fixture
def clock(monkeypatch):
    """The clock of everything that sends."""
    clock = Clock()
    monkeypatch.setattr(spending, "time", clock)
    return clock


@pytest.fixture
def proxy(shop, service, monkeypatch):
    """A proxy between the shop and its service."""
    with proxying(service.url) as (url, proxy):
        monkeypatch.setenv("GOOGLE_GEMINI_BASE_URL", url)
        monkeypatch.setenv("PIPELINE_SETTLE", "0")
        monkeypatch.setenv("PIPELINE_PATIENCE", "0")
        yield proxy


@pytest.fixture
def troubled(tmp_path_factory, shop, monkeypatch):
    """Put the shop before a service with such rules of trouble."""
    services = []

    def serve(rules: str) -> Service:
        folder = tmp_path_factory.mktemp("troubled")
        folder.joinpath("faults.yaml").write_text(rules)
        serving = local.serving(folder, latency_s=0.0, pictures="plain", faults=folder / "faults.yaml")
        services.append(serving)
        service = Service(serving.__enter__())
        monkeypatch.setenv("GOOGLE_GEMINI_BASE_URL", service.url)
        return service

    yield serve
    for serving in services:
        serving.__exit__(None, None, None)


@pytest.fixture
def slow_service(tmp_path_factory):
    """The same, whose batches take a day of its own clock."""
    latency_s = 20 * 3600.0
    with local.serving(tmp_path_factory.mktemp("service"), latency_s=latency_s, pictures="plain") as url:
        yield Service(url, latency_s=latency_s)


@pytest.fixture
def slow_shop(project, slow_service, monkeypatch):
    """The shop before a service whose batches take most of a day."""
    return _opened(project, slow_service, monkeypatch)


@pytest.fixture
def wire(tmp_path):
    """Calls by hand to a service that answers at once."""
    with local.serving(tmp_path / "state", latency_s=0, pictures="plain") as url:
        yield Wire(url)


@pytest.fixture
def slow(tmp_path):
    """The same to one whose batches take a hundred seconds."""
    with local.serving(tmp_path / "state", latency_s=100, pictures="plain") as url:
        yield Wire(url)


@pytest.fixture
def client(wire):
    """The SDK, before the service of `wire`."""
    with sdk(wire.url) as client:
        yield client
