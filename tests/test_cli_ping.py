"""`--ping`: a watchman hears once how a call ended, and nobody else hears where he lives."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from pipeline import ping
from pipeline.durable import Folder, locked

SECRET = "0a1b2c3d-a-secret"
RUN = ("run", "jobs/shop.yaml", "--poll", "0.1s")
SUBMIT = ("submit", "jobs/shop.yaml")


class Watchman:
    """A server on this machine that writes down what it is asked for."""

    def __init__(self, status=200):
        self.asked = []
        watchman = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                watchman.asked.append(f"{self.command} {self.path}")
                self.send_response(status)
                self.send_header("Location", f"http://127.0.0.1:{self.server.server_address[1]}/elsewhere")
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_args):
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}/{SECRET}"


@contextlib.contextmanager
def watching(status=200):
    watchman = Watchman(status)
    thread = threading.Thread(target=watchman.server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield watchman
    finally:
        watchman.server.shutdown()
        thread.join()
        watchman.server.server_close()


@pytest.fixture
def watchman():
    with watching() as one:
        yield one


def test_success_is_one_get_of_the_address_for_all_jobs_of_a_call(shop, watchman):
    shop.write("jobs/barn.yaml", "prompt: a barn\n")
    assert shop("submit", "jobs", "--ping", watchman.url).code == 0
    assert watchman.asked == [f"GET /{SECRET}"]


@pytest.mark.some(2)
@pytest.mark.parametrize("verb", ["run", "submit", "collect", "retry"])
def test_every_verb_that_works_pings_and_says_so_in_its_help(shop, watchman, verb):
    assert "--ping URL" in shop(verb, "--help").out
    poll = ("--poll", "0.1s") if verb in {"run", "retry"} else ()
    assert shop(verb, "jobs/shop.yaml", *poll, "--ping", watchman.url).code == 0
    assert watchman.asked == [f"GET /{SECRET}"]


FAILURES = [
    pytest.param("promt: x\n", {}, 2, id="manifest"),
    pytest.param("prompt: x\n", {"GEMINI_API_KEY": ""}, 2, id="no key"),
    pytest.param("prompt: 'LOCAL:BLOCK'\n", {}, 3, id="blocked"),
    pytest.param("prompt: x\n", {"GOOGLE_GEMINI_BASE_URL": "http://127.0.0.1:9"}, 4, id="no service"),
    pytest.param("prompt: x\nbudget: 0.001\n", {}, 5, id="over budget"),
]


@pytest.mark.some(2)
@pytest.mark.parametrize(("manifest", "environment", "code"), FAILURES)
def test_failure_is_the_address_with_the_exit_code(shop, watchman, monkeypatch, manifest, environment, code):
    monkeypatch.setattr("pipeline.gemini.connection._wait", lambda _state: 0)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    shop.write("jobs/shop.yaml", manifest)
    wait = "0" if code == 4 else "30s"
    ended = shop(*RUN, "--wait", wait, "--ping", watchman.url)
    assert ended.code == code, ended.err
    assert watchman.asked == [f"GET /{SECRET}/{code}"]
    assert SECRET not in ended.err + ended.out


def test_a_job_that_another_run_holds_is_no_failure_of_the_night(shop, watchman):
    with locked(Folder(shop.outputs / ".pipeline"), "locks/shop.lock", what="the job"):
        ended = shop("-q", *RUN, "--ping", watchman.url)
    assert ended.code == 75
    assert len(ended.err.splitlines()) == 1
    assert watchman.asked == []


def test_an_interrupted_run_pings_nothing(shop, proxy, watchman):
    looks = []

    def stop(call):
        if call.is_get() and not looks:
            looks.append(call)
            os.kill(os.getpid(), signal.SIGINT)

    proxy.before = stop
    ended = shop("run", "jobs/shop.yaml", "--poll", "0.1s", "--ping", watchman.url)
    assert ended.code == 130, ended.err
    assert watchman.asked == []


@pytest.mark.parametrize("status", [302, 404])
def test_a_ping_that_is_not_taken_is_one_warning_and_changes_nothing(shop, status):
    with watching(status) as watchman:
        ended = shop(*SUBMIT, "--ping", watchman.url)
        assert ended.code == 0
        assert watchman.asked == [f"GET /{SECRET}"]
    warnings = [line for line in ended.err.splitlines() if line.startswith("warning:")]
    assert warnings == [f"warning: the ping was not heard: the answer was HTTP {status}"]
    assert SECRET not in ended.err


def test_a_watchman_who_is_not_there_is_one_warning_and_none_under_q(shop):
    url = f"http://127.0.0.1:9/{SECRET}"
    ended = shop(*SUBMIT, "--ping", url)
    assert ended.code == 0
    assert ended.err.count("the ping was not heard") == 1
    assert SECRET not in ended.err
    ended = shop("-q", *SUBMIT, "--ping", url)
    assert (ended.code, ended.out, ended.err) == (0, "", "")


@pytest.mark.parametrize("url", ["ftp://host/x", "file:///etc/passwd", f"/{SECRET}", "http://", "https://h\n/x", "h/x"])
def test_an_address_that_is_none_is_refused_and_not_repeated(shop, url):
    ended = shop(*SUBMIT, "--ping", url)
    assert ended.code == 2
    assert "--ping" in ended.err
    assert url not in ended.err
    assert not shop.outputs.exists()


def test_the_address_may_come_from_the_environment(shop, watchman, monkeypatch):
    monkeypatch.setenv("PIPELINE_PING", watchman.url)
    assert shop("submit", "jobs/shop.yaml").code == 0
    assert watchman.asked == [f"GET /{SECRET}"]


def test_the_address_is_in_no_file(shop, watchman):
    assert shop("-v", "--log-format", "json", *SUBMIT, "--ping", watchman.url).code == 0
    assert not [path for path in shop.folder.rglob("*") if path.is_file() and SECRET.encode() in path.read_bytes()]


def test_the_code_stands_before_a_query():
    assert ping.address("https://h/x/?rid=1", 3) == "https://h/x/3?rid=1"
    assert ping.address("https://h/x/?rid=1", 0) == "https://h/x/?rid=1"
