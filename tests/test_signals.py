"""Signals, streams and clocks: whenever a run is told to stop, and whoever stops listening, it ends as it says."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from conftest import KEY, PRODUCTS, ROOT, SHOP, Service
from crashing import nursery
from hostile import hostile
from proxy import proxying

from pipeline import cli, local
from pipeline.cli import signals
from pipeline.durable import Folder, locked
from pipeline.errors import LocalError

RUN = ("run", "jobs/shop.yaml", "--poll", "0.1s", "--wait", "60s")
WORDS = {signal.SIGINT: "interrupted", signal.SIGTERM: "terminated", signal.SIGHUP: "hung up"}
NOISE = ("Traceback", "Exception ignored", "Error", "sqlite", "Warning")
each_signal = pytest.mark.parametrize("number", WORDS, ids=lambda number: number.name)


class Held:
    """A project in front of a service that can be made to keep a call waiting."""

    def __init__(self, folder: Path, service: Service, proxy, url: str) -> None:
        self.folder, self.service, self._url = folder, service, url
        (folder / "jobs").mkdir(parents=True)
        (folder / "jobs/shop.yaml").write_text(SHOP)
        (folder / "jobs/products.csv").write_text(PRODUCTS)
        self.arrived, self.released = threading.Event(), threading.Event()
        self._call, self._forwards = "", True
        proxy.before, proxy.after = self._before, self._after

    def hold(self, call: str, *, forwards: bool = True) -> None:
        """Have the first call of this kind wait, after the service has heard it, or before."""
        self.arrived.clear()
        self.released.clear()
        self._call, self._forwards = call, forwards

    def _before(self, call) -> None:
        if not self._forwards:
            self._wait(call)

    def _after(self, call) -> None:
        if self._forwards:
            self._wait(call)

    def _wait(self, call) -> None:
        if self._call and CALLS[self._call](call):
            self._call = ""
            self.arrived.set()
            self.released.wait(60)

    def start(self, *words: str, **more) -> subprocess.Popen[str]:
        environment = {**os.environ, "GEMINI_API_KEY": KEY, "GOOGLE_GEMINI_BASE_URL": self._url, "PIPELINE_SETTLE": "0",
                       "PIPELINE_PATIENCE": "0", "PYTHONPATH": str(ROOT)}  # fmt: skip
        return subprocess.Popen(
            [sys.executable, "-m", "pipeline", *(words or RUN)], cwd=self.folder, env=environment, text=True,
            **{"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **more},
        )  # fmt: skip

    def again(self) -> int:
        """Run it once more, and nobody stops it; its exit code."""
        environment = {
            "GEMINI_API_KEY": KEY,
            "GOOGLE_GEMINI_BASE_URL": self._url,
            "PIPELINE_SETTLE": "0",
            "PIPELINE_PATIENCE": "0",
        }
        said = {"out": str(self.folder / "out.txt"), "err": str(self.folder / "err.txt")}
        more = {"at": "", "log": "", "strace": (), "limits": {}, "ahead_s": 0.0}
        return nursery().run(folder=str(self.folder), args=RUN, environment=environment, **said, **more)

    def converges(self) -> None:
        """Run it again, and have it end well, everything bought once."""
        codes = []
        while not codes or (codes[-1] == 4 and len(codes) < 4):
            codes.append(self.again())
        assert codes[-1] == 0, (self.folder / "err.txt").read_text()
        assert sum(entry["requests"] for entry in self.service.ledger()) == 6
        assert len([*(self.folder / "outputs/shop").glob("*.jpg")]) == 6
        assert [*(self.folder / "outputs/shop").rglob("*.part")] == []


CALLS = {
    "looking for what is there": lambda call: call.is_list(),
    "upload": lambda call: "/upload/" in call.path,
    "create": lambda call: call.is_create(),
    "poll": lambda call: call.is_get(),
    "download": lambda call: call.is_download(),
}


@pytest.fixture
def held(tmp_path):
    with local.serving(tmp_path / "service", latency_s=0.0, pictures="plain") as url, proxying(url) as (proxied, proxy):
        one = Held(tmp_path / "project", Service(url), proxy, proxied)
        yield one
        one.released.set()


def is_calm(err: str, number: int) -> None:
    """It said in one line that it was stopped, and in one how to go on."""
    lines = err.splitlines()
    assert not [word for word in NOISE if word in err], err
    assert lines.count(f"error: {WORDS[number]}") == 1
    assert [line for line in lines if line.startswith("hint: remote batches keep running: run the same command again")]


def is_over(process: subprocess.Popen[str], number: int, folder: Path) -> str:
    """It ended by the signal, left no child and no lock behind; returns what it said."""
    children = _children(process.pid)
    _out, err = process.communicate(timeout=60)
    assert process.returncode == 128 + number, err
    with locked(Folder(folder / "outputs/.pipeline"), "locks/shop.lock", what="the job"):
        pass
    until = time.monotonic() + 10
    while any(Path(f"/proc/{child}").exists() for child in children):
        assert time.monotonic() < until, "a decoder outlives its run"
    return err


def _children(pid: int) -> list[str]:
    try:
        return Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except OSError:
        return []


PHASES = [
    pytest.param(call, number, marks=() if (call, number) == ("poll", signal.SIGHUP) else pytest.mark.torture)
    for call in CALLS
    if call != "create"
    for number in WORDS
]


@pytest.mark.parametrize(("call", "number"), PHASES)
def test_told_to_stop_while_it_waits_for_an_answer_it_stops_and_goes_on_later(held, call, number):
    held.hold(call)
    process = held.start()
    assert held.arrived.wait(60)
    process.send_signal(number)
    is_calm(is_over(process, number, held.folder), number)
    held.released.set()
    held.converges()


@pytest.mark.parametrize(
    ("number", "forwards"),
    [
        pytest.param(signal.SIGTERM, True),
        pytest.param(signal.SIGINT, True, marks=pytest.mark.torture),
        pytest.param(signal.SIGHUP, False, marks=pytest.mark.torture),
    ],
)
def test_told_to_stop_while_it_creates_it_hears_the_answer_first(held, number, forwards):
    held.hold("create", forwards=forwards)
    process = held.start()
    assert held.arrived.wait(60)
    for _ in range(3):  # however impatient
        process.send_signal(number)
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(0.3)
    held.released.set()
    err = is_over(process, number, held.folder)
    assert "a batch is being created: its answer is waited for" in err
    is_calm(err, number)
    assert len(held.service.ledger()) == 1
    held.converges()


@each_signal
def test_told_to_stop_before_it_has_begun_it_says_nothing_and_ends_as_it_should(held, number):
    script = (
        "import os, signal, sys, threading, pipeline.__main__ as main\n"
        "sys.meta_path.insert(0, type('F', (), {'find_spec': staticmethod(lambda name, *_: "
        f"os.kill(os.getpid(), {int(number)}) if name == 'pipeline.cli' else None)}})())\n"
        "sys.argv = ['pipeline', 'status']; main.main()"
    )
    ended = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, timeout=60, check=False
    )
    assert (ended.returncode, ended.stdout, ended.stderr) == (128 + number, "", "")


@pytest.mark.torture
@pytest.mark.parametrize("seed", range(24))
def test_told_to_stop_at_any_moment_once_or_twice_it_ends_calmly_and_goes_on_later(held, seed):
    chance = random.Random(seed)
    number = chance.choice([*WORDS])
    process = held.start()
    times = [chance.uniform(0.1, 3), *([chance.uniform(0, 0.1)] if seed % 2 else [])]
    for seconds in times:
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(seconds)
        process.send_signal(number)
    _out, err = process.communicate(timeout=60)
    assert process.returncode in {0, 128 + number, -number}, err
    assert not [word for word in NOISE if word in err], err
    held.converges()


@pytest.mark.torture
def test_what_nohup_ignores_stays_ignored_by_a_run(held):
    held.hold("poll")
    process = held.start(preexec_fn=_as_in_the_background)
    assert held.arrived.wait(60)
    for number in (signal.SIGHUP, signal.SIGINT):
        process.send_signal(number)
    with pytest.raises(subprocess.TimeoutExpired):
        process.wait(0.3)
    held.released.set()
    _out, err = process.communicate(timeout=60)
    assert process.returncode == 0, err


def _as_in_the_background() -> None:
    """What nohup, and a shell for its background jobs, have a program ignore."""
    for number in (signal.SIGHUP, signal.SIGINT):
        signal.signal(number, signal.SIG_IGN)


@pytest.mark.torture
def test_stopped_and_continued_it_goes_on(held):
    held.hold("poll")
    process = held.start()
    assert held.arrived.wait(60)
    process.send_signal(signal.SIGSTOP)
    held.released.set()
    process.send_signal(signal.SIGCONT)
    _out, err = process.communicate(timeout=60)
    assert process.returncode == 0, err


@pytest.mark.torture
def test_serving_is_ended_like_a_run(held):
    process = held.start("serve", "--port", "0", "--state", "state")
    assert process.stdout.readline().startswith("http://127.0.0.1:")
    process.send_signal(signal.SIGTERM)
    _out, err = process.communicate(timeout=60)
    assert process.returncode == 143
    assert err.splitlines()[-2] == "error: terminated"


# -------------------------------------------------------------------------------- in this process


def test_what_is_ignored_stays_ignored():
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with signals.listening():
            signal.raise_signal(signal.SIGHUP)
            assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
        assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)


def test_a_signal_on_the_way_out_changes_nothing():
    with pytest.raises(signals.Interrupted) as caught, signals.listening():
        try:
            signal.raise_signal(signal.SIGTERM)
        except signals.Interrupted:
            signals.leaving()
            for number in WORDS:
                signal.raise_signal(number)
            raise
    assert caught.value.number == signal.SIGTERM


def test_a_signal_that_was_swallowed_is_heard_all_the_same():
    with signals.listening():
        with contextlib.suppress(BaseException):
            signal.raise_signal(signal.SIGHUP)
        with pytest.raises(signals.Interrupted) as caught:
            signals.heed()
        assert caught.value.number == signal.SIGHUP
        signals.leaving()
        signals.heed()
    with signals.listening():
        signals.heed()


def test_a_signal_while_an_object_is_cleared_away_is_given_once_more():
    class Clearing:
        def __del__(self):
            signal.raise_signal(signal.SIGINT)

    began = time.monotonic()
    with pytest.raises(signals.Interrupted), signals.listening():
        one = Clearing()
        del one
        threading.Event().wait(60)
    assert time.monotonic() - began < 50


def test_the_first_of_several_signals_during_a_create_is_the_one_that_counts(capfd):
    with pytest.raises(signals.Interrupted) as caught, signals.listening(), signals.shielded():
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.raise_signal(number)
    assert caught.value.number == signal.SIGTERM
    assert "its answer is waited for" in capfd.readouterr().err


@pytest.mark.parametrize("number", range(1, 8))
def test_a_signal_as_a_folder_is_closed_closes_nothing_twice(tmp_path, monkeypatch, number):
    closing, closed = os.close, []

    def close(descriptor):
        closing(descriptor)
        closed.append(descriptor)
        if len(closed) == number:
            signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(os, "close", close)
    with pytest.raises(signals.Interrupted), signals.listening(), Folder(tmp_path).staging() as staging:
        for place in ("a/b/c", "a/d"):
            staging.name(staging.create(), f"{place}/e.png")
        staging.publish()
        Folder(tmp_path).below("f/g").make()


def test_who_is_told_to_stop_and_fails_at_leaving_was_told_to_stop(capfd, monkeypatch):
    def interrupted(*_args, **_more):
        try:
            signal.raise_signal(signal.SIGTERM)
        finally:
            raise LocalError("cannot write it: Bad file descriptor")

    monkeypatch.setattr(cli.group, "main", interrupted)
    assert cli.run(["status"]) == 128 + signal.SIGTERM
    assert capfd.readouterr().err.splitlines()[0] == "error: terminated"


# ------------------------------------------------------------------------------------------- streams

ENDS = {
    "head": "| head -1",
    "nobody": "| true",
    "closed": ">&-",
    "full": ">/dev/full",
    "closed stderr": "2>&-",
    "full stderr": "2>/dev/full",
    "a reader of both": "2>&1 | head -1",
    "closed stdin": "<&-",
    "all closed": ">&- 2>&- <&-",
}
PRINTING = {
    "help": ("--help", 0),
    "ls": ("ls models", 0),
    "plan": ("plan jobs --json --detailed-exitcode", 10),
    "validate": ("validate jobs --format json", 0),
    "schema": ("schema record", 0),
    "status": ("status", 0),
    "init": ("init there", 0),
    "show": ("show mug/1:1", 0),
    "cost": ("cost jobs", 0),
    "verify": ("verify", 0),
    "doctor": ("--service local doctor", 0),
    "compile": ("compile jobs/shop.yaml -o lines", 0),
    "mistake": ("validate jobs/none.yaml", 2),
}
BRIEFLY = {("ls", "head"), ("plan", "full"), ("mistake", "closed stderr"), ("status", "all closed")}


def shell(folder: Path, words: str, end: str, **variables: str) -> tuple[int, str]:
    """The command before a pipe or a redirection: its own exit code, and what was said."""
    redirected, pipe, after = end.partition("|")
    line = f"{{ {sys.executable} -X dev -m pipeline {words} {redirected}; echo $? >&9; }} {pipe} {after}"
    ours, theirs = os.pipe()
    ended = subprocess.run(
        ["bash", "-c", f"exec 9>&{theirs}; {line}"], cwd=folder, pass_fds=[theirs], capture_output=True, text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT), **variables}, timeout=100, check=False,
    )  # fmt: skip
    os.close(theirs)
    with os.fdopen(ours) as stream:
        return int(stream.read()), ended.stdout + ended.stderr


@pytest.mark.parametrize(
    ("verb", "end"),
    [
        pytest.param(verb, end, marks=() if (verb, end) in BRIEFLY else pytest.mark.torture)
        for verb in PRINTING
        for end in ENDS
    ],
)
def test_whoever_stops_listening_gets_no_traceback_and_the_exit_code_stays(project, verb, end):
    project.write("jobs/shop.yaml", SHOP)
    project.write("jobs/products.csv", PRODUCTS)
    words, expected = PRINTING[verb]
    code, said = shell(project.folder, words, ENDS[end])
    assert code == expected or (end == "full" and code == 7)
    assert not [word for word in NOISE if word in said], said


def test_a_run_whose_reader_leaves_goes_on_to_its_end(held):
    variables = {"GEMINI_API_KEY": KEY, "GOOGLE_GEMINI_BASE_URL": held._url}
    code, said = shell(held.folder, " ".join(RUN), "2>&1 | head -1", **variables)
    assert (code, said) == (0, f"service: {held._url} (GOOGLE_GEMINI_BASE_URL)\n")
    assert len([*(held.folder / "outputs/shop").glob("*.jpg")]) == 6


@pytest.mark.torture
@pytest.mark.parametrize("end", ["2>&-", "2>/dev/full", ">&- 2>&- <&-", ">/dev/full"])
def test_a_run_without_streams_does_its_work(held, end):
    variables = {"GEMINI_API_KEY": KEY, "GOOGLE_GEMINI_BASE_URL": held._url}
    assert shell(held.folder, " ".join(RUN), end, **variables)[0] == 0
    assert len([*(held.folder / "outputs/shop").glob("*.jpg")]) == 6


# ------------------------------------------------------------------------------------------- clocks


class Jumping:
    """A clock that is set to another time while somebody sleeps."""

    def __init__(self, *jumps: float) -> None:
        self.jumps, self.at, self.slept = [*jumps], 1_800_000_000.0, 0.0

    def time(self) -> float:
        return self.at

    def sleep(self, seconds: float) -> None:
        self.slept += seconds
        self.at += seconds + (self.jumps.pop(0) if self.jumps else 0.0)


@pytest.mark.some(2)
@pytest.mark.parametrize(
    ("jumps", "slept"),
    [
        pytest.param((), 3600, id="no jump"),
        pytest.param((-86_400.0,), 3600, id="set back a day"),
        pytest.param((3 * 86_400.0,), 60, id="suspended for three days"),
        pytest.param((-50.0,) * 200, 3600, id="set back again and again"),
    ],
)
def test_a_wait_is_over_when_its_time_is_whatever_the_clock_does(slow_shop, monkeypatch, jumps, slept):
    from pipeline.cli import spending

    assert slow_shop("submit", "jobs/shop.yaml").code == 0
    clock = Jumping(*jumps)
    clock.at = time.time()
    monkeypatch.setattr(spending, "time", clock)
    ended = slow_shop("run", "jobs/shop.yaml", "--poll", "60s", "--wait", "1h")
    assert ended.code == 4
    assert clock.slept == pytest.approx(slept, abs=1)


def test_a_pause_that_the_service_asked_for_is_no_longer_when_the_clock_is_set_back():
    from pipeline.reconcile.pace import Pace

    clock = Jumping()
    pace = Pace(clock, 3600)
    pace.slow_down(30)
    assert 30 <= pace.left_s <= 40
    clock.at -= 86_400
    assert 20 <= pace.left_s <= 40
    clock.at += 41
    assert pace.left_s == 0


def test_a_create_of_unknown_fate_waits_the_whole_settling_time_again_when_the_clock_is_set_back(
    shop, proxy, service, clock, monkeypatch
):
    from test_faults import once

    monkeypatch.setenv("PIPELINE_SETTLE", "15m")
    monkeypatch.setenv("PIPELINE_PATIENCE", "1h")
    shop.delivers()
    proxy.before = once(lambda call: call.is_create(), lambda call: call.say(b"<html>", 502))
    submit = ("submit", "jobs/shop.yaml")
    shop(*submit)
    shop(*submit)  # it is not there: from now on the time counts
    before = len(service.ledger())
    clock.ahead_s = -86_400.0
    shop(*submit)  # set back: from now on again
    clock.ahead_s, proxy.ahead_s = clock.ahead_s + 14 * 60, 14 * 60
    shop(*submit)
    assert len(service.ledger()) == before
    clock.ahead_s, proxy.ahead_s = clock.ahead_s + 2 * 60, 16 * 60
    shop(*submit)
    assert len(service.ledger()) == before + 1


@pytest.mark.parametrize(("ahead_s", "words"), [(400.0, "behind"), (-400.0, "ahead of"), (200.0, "")])
def test_a_clock_that_is_wrong_by_more_than_five_minutes_is_said(shop, proxy, ahead_s, words):
    proxy.ahead_s = ahead_s
    ended = shop("submit", "jobs/shop.yaml")
    assert ended.code == 0
    assert ("warning: this machine's clock is" in ended.err) == bool(words)
    assert f"{words} the service's" in ended.err or not words


# ------------------------------------------------------------------------------------------- breaking off


def test_a_service_that_answers_nothing_good_ends_the_run_after_five_failing_passes(shop, monkeypatch):
    from hostile import answer

    monkeypatch.setattr("pipeline.gemini.connection._wait", lambda _state: 0)
    with hostile() as server:
        server.says = lambda _asked: [answer(b'{"error": {"code": 503, "status": "UNAVAILABLE"}}', 503)]
        monkeypatch.setenv("GOOGLE_GEMINI_BASE_URL", server.url)
        ended = shop("run", "jobs/shop.yaml", "--poll", "0.01s", "--wait", "1h")
        assert ended.code == 4
        assert "run the same command again" in ended.err
        assert len(server.asked) <= 25
