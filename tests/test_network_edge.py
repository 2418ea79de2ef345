"""The edge to the service: nowhere but there, no longer than so long, no more than so much, whatever is answered."""

from __future__ import annotations

import email.utils
import gzip
import json
import resource
import ssl
import subprocess
import sys
import time
import zlib
from concurrent.futures import ThreadPoolExecutor
from itertools import chain, product

import pytest
from conftest import KEY, ROOT
from hostile import answer, hostile

from pipeline.errors import PipelineError, ServiceError, UnfinishedError, UsageError
from pipeline.gemini import api as apis
from pipeline.gemini import connection, edge, verdicts, wire
from pipeline.gemini.api import Api, Secret

MODEL = "gemini-nano-banana-2.1"


@pytest.fixture
def server():
    with hostile() as one:
        yield one


@pytest.fixture
def elsewhere():
    with hostile() as one:
        yield one


@pytest.fixture
def api(server, monkeypatch):
    """The API before that server, with no patience to speak of."""
    monkeypatch.setattr(connection, "_wait", lambda _state: 0)
    monkeypatch.setattr(connection, "_TIMEOUT_S", 0.5)
    monkeypatch.setattr(apis, "_READ_S", 0.5)
    monkeypatch.setattr(apis, "_DRAWING_S", 0.5)
    monkeypatch.setattr(edge, "_CONNECT_S", 0.3)
    monkeypatch.setattr(edge, "_SOME_AIR_S", 0.2)
    one = Api(Secret(KEY), server.url)
    yield one
    one.close()


def _calls(tmp_path):
    """Every call there is, by name."""
    picture = tmp_path / "picture.png"
    picture.write_bytes(b"not looked at")
    line = json.dumps(
        {"key": "k", "request": {"contents": [{"parts": [{"text": "a"}], "role": "user"}], "generationConfig": {}}}
    ).encode()
    return {
        "model": lambda api: api.model(MODEL),
        "upload": lambda api: api.upload(picture, "a-picture", "image/png"),
        "file": lambda api: api.file("files/a"),
        "files": lambda api: [*api.files()],
        "delete_file": lambda api: api.delete_file("files/a"),
        "download": lambda api: api.download("files/a", lambda _piece: None),
        "create": lambda api: api.create(MODEL, "files/a", "a batch"),
        "generate": lambda api: api.generate(MODEL, line),
        "batch": lambda api: api.batch("batches/a"),
        "batches": lambda api: [*api.batches()],
        "cancel": lambda api: api.cancel("batches/a"),
        "delete_batch": lambda api: api.delete_batch("batches/a"),
    }


CALLS = (
    "model", "upload", "file", "files", "delete_file", "download", "create", "generate", "batch", "batches", "cancel",
    "delete_batch",
)  # fmt: skip


def test_every_call_of_the_api_is_tried_here(tmp_path):
    public = {name for name in vars(Api) if not name.startswith("_")} - {"close", "prepare", "ahead_s"}
    assert public == set(CALLS) == _calls(tmp_path).keys()


def test_the_sdk_is_loaded_for_who_needs_it_or_beside_when_told():
    code = """
import sys
from pipeline.gemini.api import Api, Secret
api = Api(Secret("a-key-of-twenty-letters"), "http://127.0.0.1:1")
assert "google.genai" not in sys.modules
api.prepare()
api.prepare()
api.close()
assert "google.genai.types" in sys.modules, "no process ends while it is being loaded"
"""
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT, timeout=60)


def outcome(name, tmp_path, api):
    """What a call comes to: a verdict, or one of our errors."""
    try:
        return _calls(tmp_path)[name](api)
    except PipelineError as error:
        return error


def is_undecided(found) -> bool:
    """Whether a call that may have been heard is told as such: not as done, and not as never sent."""
    return isinstance(found, verdicts.Unknown | UnfinishedError)


# ------------------------------------------------------------------------------------------- elsewhere


@pytest.mark.some(2)
@pytest.mark.parametrize("place", ["another port", "another scheme", "the same place"])
def test_no_redirect_is_followed(api, server, elsewhere, tmp_path, place):
    location = {
        "another port": f"{elsewhere.url}/v1beta/files",
        "another scheme": f"{elsewhere.url.replace('http:', 'https:')}/v1beta/files?key={KEY}",
        "the same place": f"{server.url}/again",
    }[place]
    for code, name in product((301, 302, 303, 307, 308), CALLS):
        server.asked.clear()
        server.says = lambda _asked, code=code: [answer(b"", code, location=location)]
        found = outcome(name, tmp_path, api)
        assert isinstance(found, verdicts.Unknown | ServiceError), (code, name)
        assert isinstance(found, verdicts.Unknown) or "not followed" in str(found)
        assert KEY not in str(found)
        assert all("again" not in asked.target for asked in server.asked)
    assert elsewhere.asked == []


@pytest.mark.parametrize("place", ["http://{}/take?key=x", "https://{}/take", "http://me@{}/take", "//{}/take"])
def test_no_upload_goes_to_another_server(api, server, elsewhere, tmp_path, place):
    url = place.format(elsewhere.url.partition("//")[2])
    start = answer(b"{}", x_goog_upload_url=url, x_goog_upload_status="active")
    none = json.dumps({"error": {"code": 404, "status": "NOT_FOUND", "message": "none"}}).encode()
    missing = answer(none, 404, x_goog_upload_status="final")
    server.says = lambda asked: [start if asked.method == "POST" and "upload" in asked.target else missing]
    found = outcome("upload", tmp_path, api)
    assert isinstance(found, PipelineError)
    assert elsewhere.asked == []


def test_what_an_answer_names_is_not_fetched(api, server, elsewhere):
    told = {"name": "files/a", "uri": f"{elsewhere.url}/x", "downloadUri": f"{elsewhere.url}/y", "state": "ACTIVE"}
    server.says = lambda _asked: [answer(json.dumps(told).encode())]
    assert api.file("files/a").uri == f"{elsewhere.url}/x"
    assert elsewhere.asked == []


def test_a_call_elsewhere_never_leaves(api, elsewhere):
    for url in (f"{elsewhere.url}/x", f"{api.base_url}@{elsewhere.url[7:]}/x", "https://127.0.0.1/"):
        with pytest.raises(ServiceError, match="names another server"):
            api._line.http.get(url)
    assert elsewhere.asked == []


def test_a_server_that_speaks_no_tls_is_told_nothing(api, server):
    one = Api(Secret(KEY), server.url.replace("http:", "https:"))
    context = one._line.http._transport._pool._ssl_context
    assert (context.verify_mode, context.check_hostname) == (ssl.CERT_REQUIRED, True)
    began = time.monotonic()
    assert isinstance(one.create(MODEL, "files/a", "a batch"), verdicts.NotSent)
    assert time.monotonic() - began < 20
    assert server.asked == []
    one.close()


def test_a_server_that_takes_nobody_in_is_given_up_before_the_time_for_an_answer_is_over(api, server, monkeypatch):
    """The SDK has one time for connecting and for an answer."""
    monkeypatch.setattr(connection, "_TIMEOUT_S", 100.0)
    one = Api(Secret(KEY), server.url.replace("http:", "https:"))
    server.hears = False
    began = time.monotonic()
    assert isinstance(one.create(MODEL, "files/a", "a batch"), verdicts.NotSent)
    assert time.monotonic() - began < 20
    one.close()


# ------------------------------------------------------------------------------------------- time


LONG = answer(b"", length=10_000_000)
"""The begin of an answer that says it will be long."""
SILENCES = {
    "nothing": lambda server: server.dripping(b"", 0.05),
    "a head that drips": lambda server: chain([b"HTTP/1.1 200 OK\r\nx: "], server.dripping(b"a", 0.05)),
    "a body that stops": lambda server: chain([LONG], server.dripping(b"", 0.05)),
    "a body that drips": lambda server: chain([LONG], server.dripping(b" ", 0.05)),
}


@pytest.mark.parametrize("silence", SILENCES)
def test_every_call_ends_in_time(api, server, tmp_path, monkeypatch, silence):
    monkeypatch.setattr(apis, "_LOOK_S", 0.3)
    monkeypatch.setattr(connection, "_is_worth_another", lambda _error: False)
    server.says = lambda _asked: SILENCES[silence](server)
    started = time.monotonic()
    with ThreadPoolExecutor(len(CALLS)) as threads:
        found = dict(zip(CALLS, threads.map(lambda name: outcome(name, tmp_path, api), CALLS), strict=True))
    assert {name: told for name, told in found.items() if not is_undecided(told)} == {}
    assert time.monotonic() - started < 40


def test_a_stream_that_is_fast_enough_is_read_to_its_end(api, server):
    server.says = lambda _asked: [answer(b"a" * 3_000_000)]
    came = []
    assert api.download("files/a", came.append) == 3_000_000
    assert sum(map(len, came)) == 3_000_000


# ------------------------------------------------------------------------------------------- size


def _bomb() -> bytes:
    """200 MB of zeros in 200 kB."""
    packer = zlib.compressobj(9, zlib.DEFLATED, 31)
    return b"".join([packer.compress(b"\0" * 1_000_000) for _ in range(200)] + [packer.flush()])


def _endless(server, head):
    yield head
    while not server.over.is_set():
        yield b"a" * 65536


FLOODS = {
    "gzip": lambda server: [answer(_bomb(), content_encoding="gzip")],
    "gzip in gzip": lambda server: [answer(gzip.compress(_bomb()), content_encoding="gzip, gzip")],
    "without an end": lambda server: _endless(server, answer(b"", length=-1)),
    "a head without an end": lambda server: _endless(server, b"HTTP/1.1 200 OK\r\nx: "),
    "chunks without an end": lambda server: chain(
        [answer(b"", length=-1, transfer_encoding="chunked")],
        (b"10000\r\n" + piece + b"\r\n" for piece in _endless(server, b"") if piece),
    ),
}


@pytest.mark.parametrize("name", ["batch", "create", "files"])
@pytest.mark.parametrize("flood", FLOODS)
@pytest.mark.some(
    "gzip in gzip-create",
    "gzip-batch",
    "without an end-files",
    "a head without an end-batch",
    "chunks without an end-create",
)
def test_an_answer_that_is_too_long_is_cut_off_and_fills_no_memory(api, server, tmp_path, monkeypatch, name, flood):
    monkeypatch.setattr(connection, "_is_worth_another", lambda _error: False)
    monkeypatch.setattr(edge, "_LONGEST_ANSWER", 4 << 20)
    server.says = lambda _asked: FLOODS[flood](server)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert is_undecided(outcome(name, tmp_path, api))
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 64_000
    assert server.sent < 64 << 20


@pytest.mark.parametrize("length", [1, 10_000, 10**30])
def test_an_answer_whose_length_is_a_lie_is_no_answer(api, server, monkeypatch, length):
    monkeypatch.setattr(connection, "_is_worth_another", lambda _error: False)
    batch = json.dumps({"name": "batches/a", "metadata": {"state": "BATCH_STATE_RUNNING"}}).encode()
    server.says = lambda _asked: [answer(batch, length=length)]
    with pytest.raises(UnfinishedError):
        api.batch("batches/a")


# ------------------------------------------------------------------------------------------- pauses


@pytest.mark.parametrize(
    ("header", "info", "seconds"),
    [
        pytest.param("12", None, 12, id="seconds"),
        pytest.param("0", None, 0, id="none"),
        pytest.param("99999999999999999999", None, 3600, id="for ever"),
        pytest.param("1" * 5000, None, 3600, id="a number without end"),
        pytest.param("-5", None, None, id="less than none"),
        pytest.param("soon", None, None, id="a word"),
        pytest.param("Fri, 31 Dec 9999 23:59:59 GMT", None, 3600, id="a day far away"),
        pytest.param("Fri, 31 Dec 1999 23:59:59 GMT", None, 0, id="a day that is over"),
        pytest.param("5", "30s", 30, id="the longer of two"),
        pytest.param("40", "1.5s", 40, id="the longer of two, the other way round"),
        pytest.param(None, "1e9s", None, id="no duration"),
    ],
)
def test_a_pause_is_what_the_service_asks_for_and_an_hour_at_most(header, info, seconds):
    details = [{"retryDelay": info}] if info else []
    body = json.dumps({"error": {"code": 429, "status": "RESOURCE_EXHAUSTED", "details": details}}).encode()
    assert wire.fault(429, body, header).retry_after_s == seconds


def test_a_day_of_http_is_a_pause_until_then():
    date = email.utils.formatdate(time.time() + 100, usegmt=True)
    body = json.dumps({"error": {"code": 503, "status": "UNAVAILABLE"}}).encode()
    assert 90 < wire.fault(503, body, date).retry_after_s <= 100


@pytest.mark.parametrize("code", [429, 503])
@pytest.mark.parametrize(("after", "asked"), [("1", 4), ("600", 1)])
def test_a_short_pause_is_waited_for_and_a_long_one_ends_the_call(api, server, monkeypatch, code, after, asked):
    pauses = []
    monkeypatch.undo()
    monkeypatch.setattr(connection.tenacity, "wait_random_exponential", lambda **_: lambda _state: 0.0)
    monkeypatch.setattr(connection.tenacity, "sleep_using_event", lambda _event: pauses.append)
    body = json.dumps({"error": {"code": code, "status": "X", "message": "not now"}}).encode()
    server.says = lambda _asked: [answer(body, code, retry_after=after)]
    with pytest.raises(UnfinishedError):
        api.batch("batches/a")
    assert (len(server.asked), pauses) == (asked, [float(after)] * (asked - 1))


# ------------------------------------------------------------------------------------------- proxies


def test_a_proxy_carries_what_goes_out_and_nothing_on_this_machine(server, elsewhere, monkeypatch):
    monkeypatch.setenv("HTTP_PROXY", elsewhere.url)
    monkeypatch.setenv("NO_PROXY", "direct.invalid, :::, [, */*")
    elsewhere.says = server.says = lambda _asked: [answer(json.dumps({"name": f"models/{MODEL}"}).encode())]
    for url in (server.url, server.url.replace("127.0.0.1", "localhost"), "http://gemini.invalid"):
        one = Api(Secret(KEY), url)
        assert one.model(MODEL)
        one.close()
    assert [asked.target for asked in elsewhere.asked] == [f"http://gemini.invalid/v1beta/models/{MODEL}"]
    assert len(server.asked) == 2


def test_a_proxy_that_drips_is_waited_for_no_longer_than_a_server(elsewhere, monkeypatch):
    monkeypatch.setenv("HTTP_PROXY", elsewhere.url)
    monkeypatch.setattr(connection, "_TIMEOUT_S", 0.5)
    monkeypatch.setattr(edge, "_CONNECT_S", 0.3)
    monkeypatch.setattr(edge, "_SOME_AIR_S", 0.2)
    elsewhere.says = lambda _asked: elsewhere.dripping(b"H", 0.05)
    one = Api(Secret(KEY), "http://gemini.invalid")
    assert isinstance(one.create(MODEL, "files/a", "a batch"), verdicts.Unknown)
    one.close()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        pytest.param("HTTPS_PROXY", "ftp://user:hush@proxy:1", id="scheme"),
        pytest.param("ALL_PROXY", "socks5://user:hush@proxy:1", id="a library that is not there"),
        pytest.param("HTTPS_PROXY", "http://user:hush@proxy:port", id="no port"),
        pytest.param("SSL_CERT_FILE", "/nowhere/hush.pem", id="no certificates"),
    ],
)
def test_an_environment_without_a_way_out_is_named_without_its_secrets(monkeypatch, name, value):
    monkeypatch.setenv(name, value)
    with pytest.raises(UsageError) as caught:
        Api(Secret(KEY)).close()
    assert "hush" not in f"{caught.value} {caught.value.hint}"
    assert name in caught.value.hint
