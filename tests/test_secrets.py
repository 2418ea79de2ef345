"""The key is in no file, no message, no argument and no child's environment, whatever comes back or breaks."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from canary import has_key, leaks, spellings
from conftest import KEY, ROOT, SHOP, Service
from hostile import answer, hostile

from pipeline.cli import credentials
from pipeline.errors import UsageError
from pipeline.gemini.secret import Mask, Secret

RUN = ("run", "jobs/shop.yaml", "--poll", "0.1s", "--wait", "20s")
SAID = " | ".join(text.decode() for text in spellings(KEY))
"""What a service says that gives the key back in every way it can think of."""


def shown(folder: Path, *texts: str) -> list[str]:
    """Where the key is to be seen, in any spelling."""
    files = [path for path in folder.rglob("*") if path.is_file()]
    found = [
        path.relative_to(folder).as_posix() for path in files if has_key(path.read_bytes() + path.name.encode(), KEY)
    ]
    return found + [text for text in texts if has_key(text.encode(), KEY)]


def test_knows_a_key_when_it_sees_one():
    for text in spellings(KEY):
        assert has_key(b"<" + text + b">", KEY)
    assert not has_key(b"an innocent text of some length 0123456789abcdef", KEY)


# -------------------------------------------------------------------------------------------- masking


@pytest.mark.parametrize(
    "key",
    [KEY, "AIzaSyA-1b2C3d4E5f6G7h8I9j0K1l2M3n4O5p6", "a+b/c=d&e%f?g#h(i)j,k;l:m@n!o~p^q*r_s-t", "0123456789" * 20],
)
def test_a_text_keeps_all_but_the_key(key):
    mask = Mask(Secret(key))
    for text in spellings(key):
        said = mask.text(f"before <{text.decode()}> after é \ud83d")
        assert said.startswith("before <")
        assert said.endswith("> after é \ud83d")
        assert "***" in said
        assert not has_key(said.encode(errors="replace"), key)
    for innocent in ("", key[:7], "a text of no interest " * 50, "AIza", "=" * 100):
        assert mask.text(innocent) == innocent


def test_json_stays_json_without_the_key_however_it_is_escaped():
    mask = Mask(Secret(KEY))
    escaped = "".join(f"\\u{ord(letter):04x}" for letter in KEY)
    mixed = "".join(f"\\u{ord(letter):04X}" if at % 2 else letter for at, letter in enumerate(KEY))
    for text in (KEY, escaped, mixed):
        body = f'{{"a": "say {text} \\u0022\\\\u0041", "b": "\\u00e9"}}'.encode()
        told = json.loads(mask.body(body))
        assert told == {"a": f'say {"*" * len(KEY)} "\\u0041', "b": "é"}
    innocent = b'{"a": "\\u003d \\u00e9"}'
    assert mask.body(innocent) is innocent


@pytest.mark.parametrize("size", [1, 7, 31, 64, 1000])
def test_a_stream_loses_the_key_and_no_byte_wherever_it_is_cut(size):
    stream = Mask(Secret(KEY)).stream()
    data = b"".join(b"%d <%s> " % (number, KEY.encode()) for number in range(30)) + b"the end" * 100
    pieces = [stream.through(data[at : at + size]) for at in range(0, len(data), size)]
    assert b"".join([*pieces, stream.rest()]) == data.replace(KEY.encode(), b"*" * len(KEY))


def test_a_key_is_never_shown_and_never_written_down():
    import copy
    import pickle

    secret = Secret(KEY)
    for text in (repr(secret), str(secret), f"{secret}", f"{secret!r:>5}", str([secret]), str({"a": secret})):
        assert KEY not in text
    for write in (pickle.dumps, copy.copy, json.dumps):
        with pytest.raises(TypeError) as caught:
            write(secret)
        assert KEY not in str(caught.value)


# ------------------------------------------------------------------------------------- what comes back


def _error(call):
    call.say({"error": {"code": 400, "status": f"INVALID {SAID}", "message": f"API key not valid: {SAID}",
                        "details": [{"reason": "API_KEY_INVALID", "metadata": {"key": SAID}}]}}, 400)  # fmt: skip


def _page(call):
    call.say(f"<html>{SAID}</html>".encode(), 502)


def _lines(call):
    """Errors for some requests; for the others an image with words around it."""
    if not call.is_download():
        return
    found = [json.loads(line) for line in call.answer.splitlines()]
    for number, line in enumerate(found):
        if number % 2:
            line.pop("response")
            line["error"] = {"code": 3, "message": SAID}
        else:
            candidate = line["response"]["candidates"][0]
            candidate |= {"finishMessage": SAID, "groundingMetadata": {"webSearchQueries": [SAID]}}
            candidate["content"]["parts"] += [{"text": SAID}, {"text": SAID, "thought": True}]
            line["response"]["modelVersion"] = line["response"]["responseId"] = KEY
    stray = [{"key": KEY, "response": found[0].get("response")}, {"key": found[1]["key"], "error": SAID}]
    torn = b'{"key": "' + KEY.encode()
    call.say(b"\n".join([*(json.dumps(line).encode() for line in [*found, *stray]), torn]))


def _batches(call):
    """A batch that failed, and tells why."""
    if call.is_get():
        call.say({"name": call.path.split("?")[0].partition("/v1beta/")[2], "done": True, "displayName": KEY,
                  "metadata": {"state": "BATCH_STATE_FAILED", "displayName": KEY},
                  "error": {"code": 13, "message": SAID}})  # fmt: skip


def _names(call):
    """Names and states that are made from the key."""
    if call.is_create() or call.is_get():
        told = call.json
        told["metadata"] |= {"state": f"BATCH_STATE_{KEY}", "inputConfig": {"fileName": f"files/{KEY}"}}
        told["name"] = f"batches/{KEY}"
        call.say(told)
    elif "/files" in call.path and call.method == "GET":
        call.say({"name": f"files/{KEY}", "uri": f"https://x/?key={KEY}", "state": KEY, "displayName": KEY})


@pytest.mark.parametrize(
    ("after", "code"),
    [
        pytest.param(_error, 6, id="an error"),
        pytest.param(_page, 4, id="a page of a gateway", marks=pytest.mark.torture),
        pytest.param(_lines, 3, id="lines of an answer"),
        pytest.param(_batches, 3, id="a batch that failed", marks=pytest.mark.torture),
        pytest.param(_names, 4, id="names", marks=pytest.mark.torture),
    ],
)
def test_a_key_that_comes_back_reaches_no_file_and_nobody(shop, proxy, monkeypatch, after, code):
    monkeypatch.setattr("pipeline.gemini.connection._wait", lambda _state: 0)
    shop.write("jobs/shop.yaml", SHOP + "retry: 0\nresponse: [text, image]\nthoughts: true\n")
    proxy.after = after
    words = ("-v", *RUN[:-1], "1s") if code == 4 else ("-v", *RUN)
    ended = shop(*words)
    assert ended.code == code
    said = [ended.out + ended.err]
    for more in (
        ("--log-format", "json", *words),
        ("status", "--json"),
        ("ls", "items", "--json"),
        ("cost", "--actual"),
    ):
        ended = shop(*more)
        said.append(ended.out + ended.err)
    assert "Traceback" not in "".join(said)
    assert shown(shop.folder, *said) == []


@pytest.mark.torture
@pytest.mark.parametrize("verb", ["collect", "doctor", "clean", "cancel", "proof"])
def test_every_verb_that_asks_the_service_keeps_the_key_to_itself(shop, proxy, monkeypatch, verb):
    monkeypatch.setattr("pipeline.gemini.connection._wait", lambda _state: 0)
    proxy.after = _error
    words = {"doctor": (), "cancel": ("jobs/shop.yaml", "--yes"), "proof": ("jobs/shop.yaml", "-n", "1")}
    ended = shop("-v", verb, *words.get(verb, ("jobs/shop.yaml",)))
    assert shown(shop.folder, ended.out + ended.err) == []


def test_a_key_in_the_head_of_an_answer_is_shown_to_nobody(shop, monkeypatch):
    monkeypatch.setattr("pipeline.gemini.connection._wait", lambda _state: 0)
    heads = [
        answer(b"", 400, reason=KEY, x_error=KEY),
        answer(b"", 302, reason=KEY, location=f"http://127.0.0.1:9/?key={KEY}"),
        answer(b"", 302, location=f"http://{KEY}@:{KEY}/"),
        answer(b"{}", 200, content_encoding=KEY, set_cookie=f"{KEY}={KEY}", retry_after=KEY, date=KEY),
        answer(b"{}", 200, content_type=f"application/json; charset={KEY}"),
        f"HTTP/{KEY} 200 {KEY}\r\n\r\n".encode(),
        f"HTTP/1.1 200 OK\r\n{KEY}\r\n\r\n".encode(),
        f"HTTP/1.1 200 OK\r\ncontent-length: {KEY}\r\n\r\n".encode(),
        KEY.encode(),
    ]
    with hostile() as server:
        monkeypatch.setenv("GOOGLE_GEMINI_BASE_URL", server.url)
        for head in heads:
            server.says = lambda _asked, head=head: [head]
            ended = shop("-v", "submit", "jobs/shop.yaml")
            assert ended.code in {4, 6}
            assert "Traceback" not in ended.err
            assert shown(shop.folder, ended.out, ended.err) == []
        assert all(KEY not in asked.target for asked in server.asked)


# ------------------------------------------------------------------------------------------- processes

TALKATIVE = {
    "PYTHONDEVMODE": "1",
    "PYTHONASYNCIODEBUG": "1",
    "PYTHONFAULTHANDLER": "1",
    "GOOGLE_SDK_PYTHON_LOGGING_SCOPE": "google",
    "GOOGLE_GENAI_CLIENT_MODE": "record",
    "HTTPX_LOG_LEVEL": "trace",
    "SSL_CERT_FILE": "",
}


@pytest.mark.torture
def test_a_process_with_everything_talkative_turned_on_says_nothing_of_the_key(shop, service, tmp_path):
    """Its arguments, its children and what they are told included; loggers are turned up as people do to find a bug."""
    (tmp_path / "site").mkdir()
    (tmp_path / "site/sitecustomize.py").write_text("import logging; logging.basicConfig(level=logging.DEBUG)\n")
    (tmp_path / "jobs/shop.yaml").write_text(SHOP + "batch: {max_requests: 3}\n")
    environment = {
        **os.environ,
        **TALKATIVE,
        "PYTHONPATH": f"{ROOT}:{tmp_path}/site",
        "SSLKEYLOGFILE": f"{tmp_path}/tls",
    }
    seen: dict[str, bytes] = {}
    over = threading.Event()
    with subprocess.Popen(
        [sys.executable, "-m", "pipeline", "-v", *RUN], cwd=tmp_path, env=environment,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    ) as process:  # fmt: skip

        def look():
            while not over.wait(0.002):
                for child in _children(process.pid):
                    for what in ("environ", "cmdline"):
                        if told := _read(f"/proc/{child}/{what}"):
                            seen[f"{child} {what}"] = told
                seen["cmdline"] = _read(f"/proc/{process.pid}/cmdline") or seen.get("cmdline", b"")

        looking = threading.Thread(target=look)
        looking.start()
        said = process.stdout.read()
        over.set()
        looking.join()
    assert process.returncode == 0, said
    assert b"DEBUG" in said
    assert not has_key(said, KEY)
    assert [name for name, told in seen.items() if has_key(told, KEY)] == []
    assert any("environ" in name and told for name, told in seen.items()), "a decoder was seen"
    assert shown(tmp_path) == []
    assert not (tmp_path / "tls").exists()


def _children(pid: int) -> list[str]:
    return _read(f"/proc/{pid}/task/{pid}/children").decode().split()


def _read(path: str) -> bytes:
    try:
        return Path(path).read_bytes()
    except OSError:
        return b""


def test_a_bug_shows_its_traceback_and_not_the_key(shop, monkeypatch):
    with pytest.raises(RuntimeError) as caught:
        monkeypatch.setattr("pipeline.reconcile.passes", _broken)
        shop(*RUN)
    import traceback

    assert KEY not in "".join(traceback.format_exception(caught.value))


def _broken(*_given, **_named):
    raise RuntimeError("a bug")


def test_a_process_that_holds_a_key_leaves_no_core():
    script = (
        "import ctypes, resource; from pipeline.cli.credentials import stay_out_of_dumps\n"
        "stay_out_of_dumps(debuggers=False)\n"
        "print(ctypes.CDLL(None).prctl(3, 0, 0, 0, 0), resource.getrlimit(resource.RLIMIT_CORE)[0])"
    )
    told = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True)
    assert told.stdout.split() == ["0" if sys.platform == "linux" else "-1", "0"]


def test_whoever_asks_the_real_service_is_no_debuggers_business(shop, monkeypatch):
    asked = []
    monkeypatch.setattr(credentials, "stay_out_of_dumps", lambda *, debuggers: asked.append(debuggers))
    monkeypatch.setattr("pipeline.gemini.connection._wait", lambda _state: 0)
    assert shop("submit", "jobs/shop.yaml").code == 0
    monkeypatch.setenv("GOOGLE_GEMINI_BASE_URL", "http://gemini.invalid")
    assert shop("submit", "jobs/shop.yaml").code == 4
    assert asked == [True, False]


# ------------------------------------------------------------------------------------------- keys

GOOD = "AIzaSyA-1b2C3d4E5f6G7h8I9j0K1l2M3n4O5p6"
BAD_KEYS = [
    pytest.param(f"{GOOD}\n", "line break", id="a line break at its end"),
    pytest.param(f"{GOOD[:20]}\n{GOOD[20:]}", "line break", id="a line break in it"),
    pytest.param(f"{GOOD}\r", "line break", id="a carriage return"),
    pytest.param(f"{GOOD}\x1b[31m", "control character", id="an escape"),
    pytest.param(f" {GOOD}", "space", id="a space before it"),
    pytest.param(f"{GOOD} {GOOD}", "space", id="two of them"),
    pytest.param(f'"{GOOD}"', "quote", id="quotes"),
    pytest.param(f"'{GOOD}'", "quote", id="single quotes"),
    pytest.param(f"{GOOD}\\n", "backslash", id="a backslash"),
    pytest.param("short", "5 characters", id="short"),
    pytest.param(GOOD * 300, "11,700 characters", id="10 kB"),
    pytest.param(f"{GOOD}é", "not ASCII", id="an accent"),
    pytest.param(f"\ufeff{GOOD}", "not ASCII", id="a byte order mark"),
    pytest.param(f"{GOOD}\udcff", "not ASCII", id="no UTF-8"),
    pytest.param(f"{GOOD}\u00a0", "not ASCII", id="a space of another kind"),
]


@pytest.mark.parametrize("verb", ["submit", pytest.param("doctor", marks=pytest.mark.torture)])
@pytest.mark.parametrize(("key", "why"), BAD_KEYS)
def test_what_is_no_key_is_refused_before_a_client_is_built(shop, service, monkeypatch, key, why, verb):
    monkeypatch.setenv("GEMINI_API_KEY", key)
    monkeypatch.setattr("pipeline.gemini.api.Api", None)
    ended = shop(verb, "jobs/shop.yaml") if verb == "submit" else shop(verb)
    assert ended.code == 2
    assert "GEMINI_API_KEY is no API key" in ended.out + ended.err
    assert why in ended.out + ended.err
    assert GOOD[:8] not in ended.out + ended.err
    assert "short" not in ended.out + ended.err or key != "short"
    assert service.ledger() == []


def _file(path: Path, mode: int, data: bytes = GOOD.encode()) -> Path:
    path.write_bytes(data)
    path.chmod(mode)
    return path


def _linked(folder: Path, mode: int) -> Path:
    (folder / "link").symlink_to(_file(folder / "key", mode))
    return folder / "link"


def _fifo(folder: Path) -> Path:
    os.mkfifo(folder / "fifo", 0o600)
    return folder / "fifo"


BAD_FILES = [
    pytest.param(lambda folder: _file(folder / "key", 0o640), "others may read", id="read by a group"),
    pytest.param(lambda folder: _file(folder / "key", 0o602), "others may read", id="written by others"),
    pytest.param(lambda folder: _linked(folder, 0o644), "others may read", id="a link to what others may read"),
    pytest.param(lambda folder: folder, "no regular file", id="a folder"),
    pytest.param(_fifo, "no regular file", id="a pipe that nobody writes to"),
    pytest.param(lambda _folder: Path("/dev/zero"), "no regular file", id="a device"),
    pytest.param(lambda folder: folder / "none", "No such file", id="nothing"),
    pytest.param(lambda folder: folder / ("n" * 300), "too long", id="a name that is too long"),
    pytest.param(lambda folder: _file(folder / "key", 0o600, b""), "is empty", id="empty"),
    pytest.param(lambda folder: _file(folder / "key", 0o600, b"\n\n"), "is empty", id="line breaks only"),
    pytest.param(
        lambda folder: _file(folder / "key", 0o600, b"KEY=" + GOOD.encode() * 40), "more than a key", id="large"
    ),
    pytest.param(
        lambda folder: _file(folder / "key", 0o600, f"{GOOD}\n{GOOD}".encode()), "line break", id="two of them"
    ),
    pytest.param(lambda folder: _file(folder / "key", 0o600, GOOD.encode("utf-16")), "not ASCII", id="UTF-16"),
    pytest.param(lambda folder: _file(folder / "key", 0o600, b"\xff" + GOOD.encode()), "not ASCII", id="no UTF-8"),
]


@pytest.mark.parametrize(("made", "why"), BAD_FILES)
def test_a_key_file_that_is_none_is_named_with_what_is_wrong(tmp_path, made, why):
    path = made(tmp_path)
    with pytest.raises(UsageError) as caught:
        credentials.key({"PIPELINE_KEY_FILE": str(path)})
    assert why in str(caught.value)
    assert str(path) in str(caught.value)
    assert GOOD[:8] not in f"{caught.value} {caught.value.hint}"


@pytest.mark.parametrize("data", [GOOD, f"{GOOD}\n", f"{GOOD}\r\n", f"\ufeff{GOOD}\r\n"])
def test_a_key_file_is_read_as_editors_and_shells_write_it(tmp_path, data):
    path = _file(tmp_path / "key", 0o600, data.encode())
    assert credentials.key({"PIPELINE_KEY_FILE": str(path)}) == GOOD
    (tmp_path / "link").symlink_to(path)
    assert credentials.key({"PIPELINE_KEY_FILE": str(tmp_path / "link")}) == GOOD


def test_of_several_keys_the_first_that_is_named_counts_and_two_different_ones_are_refused(tmp_path):
    file = str(_file(tmp_path / "key", 0o600))
    assert credentials.key({"GEMINI_API_KEY": KEY, "GOOGLE_API_KEY": KEY}) == KEY
    assert credentials.key({"GEMINI_API_KEY": "", "GOOGLE_API_KEY": KEY, "PIPELINE_KEY_FILE": file}) == KEY
    with pytest.raises(UsageError, match="both set, and different"):
        credentials.key({"GEMINI_API_KEY": KEY, "GOOGLE_API_KEY": GOOD})


# ------------------------------------------------------------------------------------------- where to

BAD_ADDRESSES = [
    pytest.param(f"https://user:{GOOD}@host", id="a password"),
    pytest.param(f"https://{GOOD}@host", id="a user"),
    pytest.param(f"https://host/?key={GOOD}", id="a query"),
    pytest.param(f"https://host/#{GOOD}", id="a fragment"),
    pytest.param(f"ftp://host/{GOOD}", id="another scheme"),
    pytest.param(f"//host/{GOOD}", id="no scheme"),
    pytest.param(f"file:///{GOOD}", id="a file"),
    pytest.param(f"https:///{GOOD}", id="no host"),
    pytest.param(f"{GOOD}", id="a key in its place"),
    pytest.param(f"https://host:99999/{GOOD}", id="a port too far"),
    pytest.param(f"https://host:0/{GOOD}", id="no port"),
    pytest.param(f"https://[::1/{GOOD}", id="half an address"),
    pytest.param(f"https://bücher.example/{GOOD}", id="a host that is not ASCII"),
    pytest.param(f"https://host/a b{GOOD}", id="a space"),
    pytest.param(f"https://host\\@evil/{GOOD}", id="a backslash"),
    pytest.param(f"https://host/{GOOD}\nX-Header: 1", id="a line break"),
]


@pytest.mark.some(6)
@pytest.mark.parametrize("url", BAD_ADDRESSES)
def test_an_address_that_is_none_or_holds_a_secret_is_refused_and_not_shown(shop, monkeypatch, url):
    monkeypatch.setenv("GOOGLE_GEMINI_BASE_URL", url)
    for words in (("submit", "jobs/shop.yaml"), ("doctor",), ("clean",)):
        ended = shop(*words)
        assert ended.code == 2, words
        assert GOOD not in ended.out + ended.err
        assert "GOOGLE_GEMINI_BASE_URL: " in ended.out + ended.err


@pytest.mark.parametrize(
    "url",
    [
        "https://host",
        "https://host:8443/a/path/",
        "http://10.0.0.1:80",
        "https://xn--bcher-kva.example",
        "https://[::1]:1",
    ],
)
def test_an_address_that_is_one_is_taken_as_it_is(url):
    assert credentials.base_url({"GOOGLE_GEMINI_BASE_URL": url}, "https://default") == url
    assert credentials.base_url({"GOOGLE_GEMINI_BASE_URL": ""}, "https://default") == "https://default"


@pytest.mark.some(2)
@pytest.mark.parametrize(
    "words", [("run", "--poll", "0.1s"), ("submit",), ("collect",), ("retry", "--poll", "0.1s"), ("proof", "-n", "1")]
)
def test_where_the_key_goes_is_the_first_line_of_every_run(shop, service, monkeypatch, words):
    monkeypatch.setenv("GOOGLE_GENAI_USE_VERTEXAI", "true")
    shop.write("jobs/shop.yaml", SHOP + "tags: [a]\nbudget: 5\n")
    first, second, *_rest = shop(words[0], "jobs/shop.yaml", *words[1:]).err.splitlines()
    assert first == f"service: {service.url} (GOOGLE_GEMINI_BASE_URL)"
    assert second == "warning: GOOGLE_GENAI_USE_VERTEXAI is ignored: only the Gemini API with a key is spoken here"


def test_without_tls_it_is_said_that_the_key_can_be_read(shop, monkeypatch):
    monkeypatch.setattr("pipeline.gemini.connection._wait", lambda _state: 0)
    monkeypatch.setenv("GOOGLE_GEMINI_BASE_URL", "http://gemini.invalid")
    first = shop("submit", "jobs/shop.yaml").err.splitlines()[0]
    assert "without TLS: whoever carries it can read the key" in first


@pytest.mark.parametrize(
    "variables",
    [
        {"GOOGLE_GENAI_USE_VERTEXAI": "true", "GOOGLE_CLOUD_PROJECT": "p", "GOOGLE_CLOUD_LOCATION": "l"},
        pytest.param({"GOOGLE_GENAI_USE_ENTERPRISE": "true"}, marks=pytest.mark.torture),
        {"GOOGLE_GENAI_HTTP_CLIENT": "httpx"},
        pytest.param({"GOOGLE_GENAI_HTTP_CLIENT": "none"}, marks=pytest.mark.torture),
        pytest.param({"GOOGLE_GENAI_API_VERSION": "v0"}, marks=pytest.mark.torture),
        pytest.param(
            {"GOOGLE_GENAI_CLIENT_MODE": "replay", "GOOGLE_GENAI_REPLAYS_DIRECTORY": "/nowhere"},
            marks=pytest.mark.torture,
        ),
        pytest.param({"GOOGLE_APPLICATION_CREDENTIALS": "/nowhere.json"}, marks=pytest.mark.torture),
        {"HTTP_PROXY": "http://127.0.0.1:9", "HTTPS_PROXY": "http://127.0.0.1:9", "ALL_PROXY": "socks5://127.0.0.1:9"},
        pytest.param({"NETRC": "/dev/zero"}, marks=pytest.mark.torture),
        pytest.param({"SSL_CERT_FILE": "/nowhere.pem", "SSL_CERT_DIR": "/nowhere"}, marks=pytest.mark.torture),
    ],
    ids=",".join,
)
def test_no_variable_of_somebody_elses_changes_what_is_asked_and_where(shop, service, monkeypatch, variables):
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    ended = shop("submit", "jobs/shop.yaml")
    assert ended.code == 0, ended.err
    assert sum(entry["requests"] for entry in Service(service.url).ledger()) == 6
    assert leaks(shop.folder, KEY) == []
