"""The embedded service, driven over HTTP: by the unmodified SDK, and by hand where the exact shape matters."""

from __future__ import annotations

import ast
import base64
import hashlib
import http.client
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path

import pytest
from google import genai
from google.genai import errors, types
from PIL import Image

import pipeline.local
from pipeline.local import catalog, serving
from pipeline.local.pictures import Picture, draw

KEY = "a-key-of-enough-letters"
MODEL = "gemini-nano-banana-2.1"
PRO = "gemini-3-pro-image"
HOUR = 3600
ROOT = Path(__file__).parent.parent


class Wire:
    """Calls by hand: what goes over the wire, and what comes back."""

    def __init__(self, url):
        self.url = url

    def __call__(self, method, path, body=None, *, key=KEY, headers=None):
        data = body if isinstance(body, bytes) else None if body is None else json.dumps(body).encode()
        target = path if path.startswith("http") else self.url + path
        request = urllib.request.Request(target, data=data, method=method, headers=headers or {})
        if key:
            request.add_header("x-goog-api-key", key)
        try:
            with urllib.request.urlopen(request, timeout=20) as reply:
                return reply.status, json.load(reply), reply.headers
        except urllib.error.HTTPError as error:
            with error:
                return error.code, json.load(error), error.headers

    def ok(self, method, path, body=None):
        code, answer, _ = self(method, path, body)
        assert code == 200, answer
        return answer

    def refused(self, method, path, body=None, **options):
        """The code, the name and the message of the error."""
        code, answer, _ = self(method, path, body, **options)
        assert set(answer) == {"error"}
        assert answer["error"]["code"] == code
        return code, answer["error"]["status"], answer["error"]["message"]

    def advance(self, seconds):
        self.ok("POST", "/_local/clock", {"advance_s": seconds})

    def upload(self, content, name="", mime="application/jsonl"):
        start = {"file": {"mime_type": mime, "size_bytes": len(content), **({"name": name} if name else {})}}
        headers = {"X-Goog-Upload-Protocol": "resumable", "X-Goog-Upload-Command": "start"}
        code, answer, told = self("POST", "/upload/v1beta/files", start, headers=headers)
        assert code == 200, answer
        code, answer, told = chunk(self, told["X-Goog-Upload-URL"], content, 0, "upload, finalize")
        assert (code, told["X-Goog-Upload-Status"]) == (200, "final"), answer
        return answer["file"]

    def batch(self, requests, model=MODEL):
        """A batch over these lines: dictionaries by key, or the bytes of the whole file."""
        content = requests if isinstance(requests, bytes) else lines(requests)
        file = self.upload(content)
        body = {"batch": {"displayName": "owls", "inputConfig": {"fileName": file["name"]}}}
        return self.ok("POST", f"/v1beta/models/{model}:batchGenerateContent", body)["name"]

    def ended(self, name):
        """The operation, once it is done."""
        for _ in range(2000):
            operation = self.ok("GET", f"/v1beta/{name}")
            if operation.get("done"):
                return operation
            time.sleep(0.01)
        raise AssertionError(f"{name} does not end: {operation}")

    def answers(self, name):
        """The answers of a batch that succeeds, in the order they came."""
        operation = self.ended(name)
        assert operation["metadata"]["state"] == "BATCH_STATE_SUCCEEDED", operation
        path = f"/download/v1beta/{operation['response']['responsesFile']}:download?alt=media"
        request = urllib.request.Request(self.url + path, headers={"x-goog-api-key": KEY})
        with urllib.request.urlopen(request, timeout=20) as reply:
            content = reply.read()
            assert int(reply.headers["Content-Length"]) == len(content)
        assert content.endswith(b"\n")
        return [json.loads(line) for line in content.splitlines()]


def ask(prompt="a barn owl", *parts, **settings):
    request = {"contents": [{"role": "user", "parts": [{"text": prompt}, *parts]}]}
    return {**request, "generationConfig": settings} if settings else request


def lines(requests):
    return b"".join(json.dumps({"key": key, "request": request}).encode() + b"\n" for key, request in requests.items())


def chunk(wire, url, content, offset, command="upload"):
    headers = {"X-Goog-Upload-Command": command, "X-Goog-Upload-Offset": str(offset)}
    return wire("POST", url, content, key=None, headers={**headers, "Content-Type": "application/json"})


def photo(width=64, height=64, kind="PNG", colour="teal"):
    stream = BytesIO()
    Image.new("RGB", (width, height), colour).save(stream, kind)
    return stream.getvalue()


def inline(data, mime="image/png"):
    return {"inlineData": {"mimeType": mime, "data": base64.b64encode(data).decode()}}


def picture_of(response):
    """The decoded picture of a response, and its bytes."""
    part = response["candidates"][0]["content"]["parts"][-1]
    data = base64.b64decode(part["inlineData"]["data"])
    image = Image.open(BytesIO(data))
    image.load()
    assert part["inlineData"]["mimeType"] == Image.MIME[image.format]
    return image, data


@pytest.fixture
def wire(tmp_path):
    with serving(tmp_path / "state", latency_s=0, pictures="plain") as url:
        yield Wire(url)


@pytest.fixture
def slow(tmp_path):
    """A service whose batches take a hundred seconds."""
    with serving(tmp_path / "state", latency_s=100, pictures="plain") as url:
        yield Wire(url)


@contextmanager
def sdk(url):
    with genai.Client(api_key=KEY, http_options=types.HttpOptions(base_url=url, api_version="v1beta")) as client:
        yield client


# Whole journeys


def test_the_sdk_takes_a_batch_all_the_way(tmp_path):
    source = tmp_path / "in.jsonl"
    source.write_bytes(lines({f"owl-{n}": ask(f"owl {n}") for n in range(12)}))
    with serving(tmp_path / "state", latency_s=0, pictures="plain") as url, sdk(url) as client:
        settings = types.UploadFileConfig(mime_type="application/jsonl", display_name="owls", name="owls-1")
        file = client.files.upload(file=source, config=settings)
        assert (file.name, file.size_bytes, file.state) == ("files/owls-1", source.stat().st_size, "ACTIVE")
        job = client.batches.create(model=MODEL, src=file.name, config={"display_name": "owls"})
        Wire(url).ended(job.name)
        job = client.batches.get(name=job.name)
        assert (job.state, job.display_name, job.model) == ("JOB_STATE_SUCCEEDED", "owls", f"models/{MODEL}")
        assert [each.name for each in client.batches.list()] == [job.name]
        answers = [json.loads(line) for line in client.files.download(file=job.dest.file_name).splitlines()]
        assert {answer["key"] for answer in answers} == {f"owl-{n}" for n in range(12)}
        assert picture_of(answers[0]["response"])[0].size == (1024, 1024)
        assert [each.name for each in client.files.list()] == [file.name]
        client.batches.delete(name=job.name)
        client.files.delete(name=file.name)
        assert list(client.batches.list()) == list(client.files.list()) == []
        with pytest.raises(errors.ClientError) as gone:
            client.batches.get(name=job.name)
        assert (gone.value.code, gone.value.status) == (404, "NOT_FOUND")


def test_the_sdk_asks_for_one_picture_and_goes_on_with_it(tmp_path):
    with serving(tmp_path / "state", pictures="plain") as url, sdk(url) as client:
        chat = client.chats.create(model=MODEL, config={"response_modalities": ["TEXT", "IMAGE"]})
        first = chat.send_message("a barn owl")
        assert [bool(part.text) for part in first.candidates[0].content.parts] == [True, False]
        second = chat.send_message("now at night")
        assert second.candidates[0].finish_reason == "STOP"
        usage = second.usage_metadata
        assert usage.total_token_count == (
            usage.prompt_token_count + usage.candidates_token_count + usage.thoughts_token_count
        )
        assert client.models.get(model=PRO).name == f"models/{PRO}"
        assert {model.name for model in client.models.list()} == {
            f"models/{name}" for name in (MODEL, PRO, "gemini-3.1-flash-lite-image")
        }


def test_inlined_requests_are_answered_in_place(tmp_path):
    with serving(tmp_path / "state", latency_s=0, pictures="plain") as url, sdk(url) as client:
        requests = [
            types.InlinedRequest(contents=prompt, metadata={"key": key})
            for key, prompt in (("good", "an owl"), ("bad", "LOCAL:ERROR"))
        ]
        job = client.batches.create(model=PRO, src=requests)
        Wire(url).ended(job.name)
        answers = {each.metadata["key"]: each for each in client.batches.get(name=job.name).dest.inlined_responses}
        assert answers["bad"].error.code == 13
        assert answers["good"].response.candidates[0].finish_reason == "STOP"
        assert next(iter(client.batches.list())).dest is None


@pytest.mark.parametrize("version", ["v1", "v1beta", "v1alpha"])
def test_each_version_is_the_same_service(wire, version):
    file = wire.upload(b"x", name=f"a-{version}")
    assert wire.ok("GET", f"/{version}/{file['name']}") == file
    assert wire.ok("GET", f"/{version}/batches") == {}


# The life of a batch


def test_a_batch_goes_through_its_states_by_the_clock(slow):
    name = slow.batch({"a": ask(), "b": ask("an owl", imageConfig={"imageSize": "9K"})})
    operation = slow.ok("GET", f"/v1beta/{name}")
    assert "done" not in operation
    metadata = operation["metadata"]
    assert re.fullmatch(r"batches/[a-z0-9]{36}", name)
    assert metadata.pop("inputConfig")["fileName"].startswith("files/")
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{9}Z", metadata["createTime"])
    assert metadata.pop("createTime") == metadata.pop("updateTime")
    assert metadata == {
        "@type": "type.googleapis.com/google.ai.generativelanguage.v1main.GenerateContentBatch",
        "name": name,
        "model": f"models/{MODEL}",
        "displayName": "owls",
        "batchStats": {"requestCount": "2", "pendingRequestCount": "2"},
        "state": "BATCH_STATE_PENDING",
    }
    slow.advance(50)
    operation = slow.ok("GET", f"/v1beta/{name}")
    assert (operation.get("done"), operation["metadata"]["state"]) == (None, "BATCH_STATE_RUNNING")
    slow.advance(51)
    operation = slow.ended(name)
    metadata = operation["metadata"]
    output = {"responsesFile": f"files/batch-{name.removeprefix('batches/')}"}
    assert metadata["output"] == output
    kind = "type.googleapis.com/google.ai.generativelanguage.v1main.GenerateContentBatchOutput"
    assert operation["response"] == {"@type": kind, **output}
    assert metadata["batchStats"] == {
        "requestCount": "2",
        "successfulRequestCount": "1",
        "failedRequestCount": "1",
    }
    assert metadata["endTime"] > metadata["createTime"]


def test_a_batch_outlives_the_service(tmp_path):
    with serving(tmp_path, latency_s=5000, pictures="plain") as url:
        name = Wire(url).batch({"a": ask()})
    with serving(tmp_path, latency_s=0, pictures="plain") as url:
        wire = Wire(url)
        assert wire.ok("GET", f"/v1beta/{name}")["metadata"]["state"] == "BATCH_STATE_PENDING"
        wire.advance(70 * HOUR)
    with serving(tmp_path, latency_s=0) as url:
        assert [answer["key"] for answer in Wire(url).answers(name)] == ["a"]


def test_two_services_on_one_folder_are_one(tmp_path):
    with (
        serving(tmp_path, latency_s=0, pictures="plain") as one,
        serving(tmp_path, latency_s=0, pictures="plain") as other,
    ):
        names = [Wire(url).batch({str(n): ask(f"owl {n}") for n in range(30)}) for url in (one, other) * 3]
        for name in names:
            assert len(Wire(other).answers(name)) == 30
            assert Wire(one).ended(name) == Wire(other).ended(name)
        assert Wire(one).ok("GET", "/_local/ledger") == Wire(other).ok("GET", "/_local/ledger")
        assert len(Wire(one).ok("GET", "/_local/ledger")) == 12


def test_killed_while_it_draws_it_ends_the_same(tmp_path):
    script = (
        "import sys, pathlib, time\nfrom pipeline.local import serving\n"
        "with serving(pathlib.Path(sys.argv[1]), latency_s=0, pictures='drawn') as url:\n"
        "    print(url, flush=True)\n    time.sleep(60)\n"
    )
    command = [sys.executable, "-c", script, str(tmp_path / "killed")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT) as process:
        wire = Wire(process.stdout.readline().strip())
        name = wire.batch({f"k{n}": ask(f"owl {n}") for n in range(60)})
        while not any(path.stat().st_size > 200_000 for path in tmp_path.glob("killed/batches/*.out")):
            time.sleep(0.005)
        os.kill(process.pid, signal.SIGKILL)
    with serving(tmp_path / "killed", latency_s=0) as url:
        answers = Wire(url).answers(name)
    assert sorted(answer["key"] for answer in answers) == sorted(f"k{n}" for n in range(60))
    with serving(tmp_path / "again", latency_s=0) as url:
        again = Wire(url).answers(Wire(url).batch({f"k{n}": ask(f"owl {n}") for n in range(60)}))
    assert {answer["key"]: answer for answer in answers} == {answer["key"]: answer for answer in again}


def test_answers_come_shuffled_and_the_key_anywhere(wire):
    keys = [f"k{n}" for n in range(40)]
    answers = wire.answers(wire.batch({key: ask(key) for key in keys}))
    assert [answer["key"] for answer in answers] != keys
    assert sorted(answer["key"] for answer in answers) == sorted(keys)
    assert {next(iter(answer)) for answer in answers} == {"key", "response"}


def test_cancelled_before_it_starts_a_batch_is_as_if_it_never_was(slow):
    name = slow.batch({"a": ask()})
    assert slow.ok("POST", f"/v1beta/{name}:cancel", b"") == {}
    operation = slow.ended(name)
    assert operation["metadata"]["state"] == "BATCH_STATE_CANCELLED"
    assert operation["error"]["code"] == 13
    assert "response" not in operation
    assert "output" not in operation["metadata"]


def test_cancelled_while_it_runs_a_batch_keeps_what_it_has(slow):
    name = slow.batch({str(n): ask(f"owl {n}") for n in range(40)})
    slow.advance(62.5)
    slow.ok("POST", f"/v1beta/{name}:cancel", b"")
    answers = slow.answers(name)
    assert sorted(int(answer["key"]) for answer in answers) == list(range(40))
    stopped = [answer["error"] for answer in answers if "error" in answer]
    assert stopped == [{"code": 1}] * len(stopped)
    assert len(stopped) in (19, 20)
    assert slow.ended(name)["metadata"]["batchStats"]["failedRequestCount"] == str(len(stopped))
    slow.ok("POST", f"/v1beta/{name}:cancel", b"")  # too late, and no harm
    assert slow.answers(name) == answers


def test_deleted_a_batch_takes_its_results_along(wire):
    name = wire.batch({"a": ask()})
    file = wire.ended(name)["response"]["responsesFile"]
    assert wire.ok("DELETE", f"/v1beta/{name}") == {}
    assert wire.refused("GET", f"/v1beta/{name}")[:2] == (404, "NOT_FOUND")
    assert wire.refused("DELETE", f"/v1beta/{name}")[:2] == (404, "NOT_FOUND")
    assert wire.refused("GET", f"/v1beta/{file}:download")[0] != 200
    assert wire.refused("GET", f"/v1beta/{file}") == (
        400,
        "INVALID_ARGUMENT",
        f"File ID {file.removeprefix('files/')} cannot be more than 40 characters.",
    )


def test_a_batch_expires_after_two_days(tmp_path):
    with serving(tmp_path, latency_s=80 * HOUR, pictures="plain") as url:
        wire = Wire(url)
        name = wire.batch({"a": ask()})
        wire.advance(47 * HOUR)
        assert wire.ok("GET", f"/v1beta/{name}")["metadata"]["state"] == "BATCH_STATE_RUNNING"
        wire.advance(2 * HOUR)
        operation = wire.ended(name)
    assert operation["metadata"]["state"] == "BATCH_STATE_EXPIRED"
    assert "error" in operation


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(b"", id="empty"),
        pytest.param(b'{"key": "a", "request": {}}\n{"key": "b"', id="torn"),
        pytest.param(b'{"key": "a"}\n', id="no request"),
        pytest.param(b'{"request": {"contents": []}}\n', id="no key"),
        pytest.param(b'{"key": 7, "request": {}}\n', id="key is a number"),
        pytest.param(b"[]\n", id="a list"),
        pytest.param(b'{"key": "\xff", "request": {}}\n', id="not UTF-8"),
    ],
)
def test_an_input_that_is_no_jsonl_fails_the_batch(wire, content):
    operation = wire.ended(wire.batch(content))
    assert operation["metadata"]["state"] == "BATCH_STATE_FAILED"
    assert operation["error"]["code"] == 3


def test_a_request_that_is_wrong_costs_only_its_line(wire):
    answers = wire.answers(wire.batch({"good": ask(), "bad": {"contents": [], "contens": 1}}))
    by_key = {answer["key"]: answer for answer in answers}
    assert by_key["bad"]["error"] == {
        "code": 3,
        "message": 'Invalid JSON payload received. Unknown name "contens": Cannot find field.',
    }
    assert "candidates" in by_key["good"]["response"]


def test_lists_show_the_newest_first_and_no_token_on_the_last_page(wire):
    names = [wire.batch({"a": ask("LOCAL:ERROR")}) for _ in range(5)]
    seen, token = [], ""
    while True:
        page = wire.ok("GET", f"/v1beta/batches?pageSize=2&pageToken={token}")
        seen += [operation["name"] for operation in page["operations"]]
        token = page.get("nextPageToken")
        if not token:
            break
    assert seen == names[::-1]
    assert len(wire.ok("GET", "/v1beta/files?pageSize=5")["files"]) == 5
    assert "nextPageToken" not in wire.ok("GET", "/v1beta/files?pageSize=5")
    assert "nextPageToken" in wire.ok("GET", "/v1beta/files?pageSize=4")
    assert wire.refused("GET", "/v1beta/files?pageToken=nonsense")[0] == 400


def test_a_hundred_batches_at_once_are_enough(slow):
    file = slow.upload(lines({"a": ask("LOCAL:ERROR")}))
    body = {"batch": {"inputConfig": {"fileName": file["name"]}}}
    path = f"/v1beta/models/{MODEL}:batchGenerateContent"
    names = [slow.ok("POST", path, body)["name"] for _ in range(100)]
    assert len(set(names)) == 100, "the same call twice is two batches"
    assert slow.refused("POST", path, body)[:2] == (429, "RESOURCE_EXHAUSTED")
    slow.ok("POST", f"/v1beta/{names[0]}:cancel", b"")
    slow.ok("POST", path, body)


@pytest.mark.parametrize(
    ("config", "code"),
    [
        pytest.param({}, 400, id="no input"),
        pytest.param({"fileName": "files/nowhere"}, 403, id="no such file"),
        pytest.param({"fileName": "nowhere"}, 400, id="no file name"),
        pytest.param({"fileNam": "files/x"}, 400, id="typo"),
        pytest.param({"requests": {"requests": [{"request": {"contens": []}}]}}, 400, id="typo in a request"),
    ],
)
def test_create_refuses_an_input_it_cannot_use(wire, config, code):
    body = {"batch": {"displayName": "x", "inputConfig": config}}
    assert wire.refused("POST", f"/v1beta/models/{MODEL}:batchGenerateContent", body)[0] == code
    assert wire.ok("GET", "/_local/ledger") == []


def test_create_refuses_a_file_that_is_no_text(wire):
    file = wire.upload(photo(), mime="image/png")
    body = {"batch": {"inputConfig": {"fileName": file["name"]}}}
    assert "image/png" in wire.refused("POST", f"/v1beta/models/{MODEL}:batchGenerateContent", body)[2]


def test_create_takes_what_the_sdk_and_the_documentation_send(wire):
    file = wire.upload(lines({"a": ask()}))
    for batch in (
        {"display_name": "x", "input_config": {"file_name": file["name"]}, "priority": "-5"},
        {"inputConfig": {"fileName": file["name"]}, "priority": 5, "webhookConfig": {"uris": [], "user_metadata": {}}},
    ):
        wire.ok("POST", f"/v1beta/models/{MODEL}:batchGenerateContent", {"batch": batch})


# Files


def test_an_upload_goes_in_chunks_and_forgives_one_sent_twice(wire):
    headers = {
        "X-Goog-Upload-Protocol": "resumable",
        "X-Goog-Upload-Command": "start",
        "X-Goog-Upload-Header-Content-Length": "10",
        "X-Goog-Upload-Header-Content-Type": "text/plain",
    }
    code, _, told = wire("POST", "/upload/v1beta/files", {"file": {"display_name": "ten"}}, headers=headers)
    url = told["X-Goog-Upload-URL"]
    assert (code, told["X-Goog-Upload-Status"]) == (200, "active")
    assert url.startswith(f"{wire.url}/upload/v1beta/files?")
    assert chunk(wire, url, b"0123", 0)[2]["X-Goog-Upload-Status"] == "active"
    assert chunk(wire, url, b"0123", 0)[2]["X-Goog-Upload-Status"] == "active"
    code, answer, told = chunk(wire, url, b"89", 8)
    assert (code, told["X-Goog-Upload-Status"]) == (400, "final")
    assert "offset 8" in answer["error"]["message"]
    code, answer, told = chunk(wire, url, b"4567890", 4, "upload, finalize")
    assert (code, told["X-Goog-Upload-Status"]) == (400, "final"), "more than announced"
    code, answer, told = chunk(wire, url, b"456789", 4, "upload, finalize")
    assert (code, told["X-Goog-Upload-Status"]) == (200, "final")
    assert chunk(wire, url, b"456789", 4, "upload, finalize")[1] == answer
    file = answer["file"]
    digest = hashlib.sha256(b"0123456789").hexdigest()
    assert re.fullmatch(r"files/[a-z0-9]{12}", file["name"])
    assert base64.b64decode(file["sha256Hash"]).decode() == digest
    assert file["uri"] == f"https://generativelanguage.googleapis.com/v1beta/{file['name']}"
    assert {key: file[key] for key in ("displayName", "mimeType", "sizeBytes", "state", "source")} == {
        "displayName": "ten",
        "mimeType": "text/plain",
        "sizeBytes": "10",
        "state": "ACTIVE",
        "source": "UPLOADED",
    }
    assert chunk(wire, f"{wire.url}/upload/v1beta/files?upload_id=none", b"", 0)[0] == 404


def test_an_empty_file_and_one_of_several_chunks_arrive_whole(tmp_path):
    with serving(tmp_path / "state") as url, sdk(url) as client:
        for size in (0, 1, 8 << 20, (8 << 20) + 1, 20 << 20):
            content = os.urandom(1024) * (size // 1024) + b"x" * (size % 1024)
            file = client.files.upload(file=BytesIO(content), config={"mime_type": "text/plain"})
            assert file.size_bytes == size
            assert base64.b64decode(file.sha256_hash).decode() == hashlib.sha256(content).hexdigest()


@pytest.mark.parametrize("name", ["-a", "a-", "A", "a_b", "a/b", "a" * 41])
def test_a_file_name_has_rules(wire, name):
    headers = {"X-Goog-Upload-Protocol": "resumable", "X-Goog-Upload-Command": "start"}
    start = {"file": {"name": f"files/{name}", "mimeType": "text/plain"}}
    assert wire.refused("POST", "/upload/v1beta/files", start, headers=headers)[:2] == (400, "INVALID_ARGUMENT")


def test_a_file_name_is_taken_once_and_free_again_when_the_file_is_gone(wire):
    headers = {"X-Goog-Upload-Protocol": "resumable", "X-Goog-Upload-Command": "start"}
    start = {"file": {"name": "files/" + "a" * 40, "mimeType": "text/plain"}}
    wire.upload(b"x", name="files/" + "a" * 40)
    assert wire.refused("POST", "/upload/v1beta/files", start, headers=headers)[:2] == (409, "ALREADY_EXISTS")
    wire.ok("DELETE", "/v1beta/files/" + "a" * 40)
    wire.upload(b"x", name="files/" + "a" * 40)
    wire.advance(49 * HOUR)
    wire.upload(b"x", name="files/" + "a" * 40)


def test_a_file_is_kept_for_two_days(wire):
    file = wire.upload(b"x", name="here")
    wire.advance(47 * HOUR)
    assert wire.ok("GET", "/v1beta/files/here") == file
    wire.advance(2 * HOUR)
    words = "You do not have permission to access the File here or it may not exist."
    assert wire.refused("GET", "/v1beta/files/here") == (403, "PERMISSION_DENIED", words)
    assert wire.refused("DELETE", "/v1beta/files/here") == (403, "PERMISSION_DENIED", words)
    assert wire.ok("GET", "/v1beta/files") == {}


def test_a_file_too_large_is_refused_before_it_is_sent(wire):
    headers = {"X-Goog-Upload-Protocol": "resumable", "X-Goog-Upload-Command": "start"}
    start = {"file": {"mimeType": "text/plain", "sizeBytes": str(2 * 1024**3 + 1)}}
    assert wire.refused("POST", "/upload/v1beta/files", start, headers=headers)[0] == 400


def test_what_was_uploaded_is_not_for_download(wire):
    wire.upload(b"x", name="mine")
    assert wire.refused("GET", "/v1beta/files/mine:download?alt=media")[:2] == (400, "INVALID_ARGUMENT")
    assert wire.refused("GET", "/v1beta/files/other:download?alt=media")[0] == 403


# What a request may say


@pytest.mark.parametrize(
    ("request_", "complaint"),
    [
        pytest.param({}, "contents is not specified", id="no contents"),
        pytest.param({"contents": []}, "contents is not specified", id="empty contents"),
        pytest.param({"contents": [{"parts": []}]}, "parts must not be empty", id="no parts"),
        pytest.param({"contents": [{"parts": [{}]}]}, "must have one initialized field", id="empty part"),
        pytest.param({"contents": [{"parts": [{"text": " "}]}]}, "no text", id="no text"),
        pytest.param({"contents": [{"role": "me", "parts": [{"text": "x"}]}]}, "valid role", id="role"),
        pytest.param({"contents": "x"}, "Invalid value at 'contents'", id="contents is text"),
        pytest.param(ask(7), "Invalid value at 'contents[0].parts[0].text' (TYPE_STRING), 7", id="prompt is a number"),
        pytest.param({**ask(), "labels": {}}, 'Unknown name "labels": Cannot find field.', id="labels"),
        pytest.param(
            ask(imageConfig={"aspect": "1:1"}),
            "Unknown name \"aspect\" at 'generation_config.image_config': Cannot find field.",
            id="typo inside",
        ),
        pytest.param(ask(seed="x"), "Invalid value at 'generation_config.seed' (TYPE_INT32), \"x\"", id="seed"),
        pytest.param(ask(seed=1.5), "'generation_config.seed'", id="half a seed"),
        pytest.param(ask(seed=1 << 31), "'generation_config.seed'", id="seed too large"),
        pytest.param(ask(temperature=3), "temperature must be in the range", id="temperature"),
        pytest.param(ask(candidateCount=2), "Multiple candidates", id="candidates"),
        pytest.param(ask(responseModalities=["SOUND"]), "'generation_config.response_modalities[0]'", id="bad enum"),
        pytest.param(ask(responseModalities=["AUDIO"]), "combination of response modalities (AUDIO)", id="audio"),
        pytest.param(ask(responseModalities=["TEXT"]), "combination of response modalities", id="text only"),
        pytest.param(ask(responseMimeType="application/json"), "JSON mode", id="json mode"),
        pytest.param(ask(thinkingConfig={"thinkingLevel": "high"}), "'generation_config.thinking_config", id="level"),
        pytest.param(ask(thinkingConfig={"thinkingLevel": "LOW"}), "LOW is not supported", id="level not offered"),
        pytest.param(ask(imageConfig={"aspectRatio": "5:7"}), "Invalid aspect ratio '5:7'", id="ratio"),
        pytest.param(ask(imageConfig={"imageSize": "2k"}), "Invalid image size '2k'", id="small k"),
        pytest.param(ask(imageConfig={"imageSize": "512"}), "Invalid image size '512'", id="512"),
        pytest.param(
            ask(imageConfig={"imageSize": "1K"}, responseFormat={"image": {"imageSize": "1K"}}), "Only one", id="both"
        ),
        pytest.param(ask("x", {"text": "a", "inlineData": {}}), "oneof field 'data' is already set", id="two kinds"),
        pytest.param(ask("x", inline(b"%PDF-1.7", "application/pdf")), "Unsupported MIME type", id="pdf"),
        pytest.param(ask("x", inline(photo(kind="JPEG"))), "its bytes are something else", id="mime and bytes"),
        pytest.param(ask("x", inline(photo()[:40])), "Unable to process input image", id="torn image"),
        pytest.param(ask("x", {"inlineData": {"mimeType": "image/png", "data": "!!"}}), "(TYPE_BYTES)", id="base64"),
        pytest.param(ask("x", *[inline(photo())] * 15), "at most 14 images", id="too many images"),
        pytest.param({**ask(), "tools": [{"codeExecution": {}}]}, "codeExecution is not enabled", id="tool"),
        pytest.param({**ask(), "model": f"models/{PRO}"}, "was sent to", id="another model"),
        pytest.param(ask("x" * 600_000), "exceeds the maximum number of tokens", id="long prompt"),
        pytest.param(
            {**ask(), "safetySettings": [{"category": "HARM_CATEGORY_NOISE", "threshold": "OFF"}]},
            "'safety_settings[0].category'",
            id="category",
        ),
    ],
)
def test_a_request_that_is_wrong_is_told_why(wire, request_, complaint):
    code, status, message = wire.refused("POST", f"/v1beta/models/{MODEL}:generateContent", request_)
    assert (code, status) == (400, "INVALID_ARGUMENT")
    assert complaint in message
    assert wire.ok("GET", "/_local/ledger") == []


def test_all_that_is_wrong_is_told_at_once(wire):
    request = {**ask(seed=[], imageConfig={"size": "1K"}), "lables": 1}
    _, answer, _ = wire("POST", f"/v1beta/models/{MODEL}:generateContent", request)
    (details,) = answer["error"]["details"]
    assert [violation.get("field") for violation in details["fieldViolations"]] == [
        "generation_config.seed",
        "generation_config.image_config",
        None,
    ]
    assert len(answer["error"]["message"].splitlines()) == 3


def test_both_spellings_and_both_alphabets_are_taken(wire):
    data = next(
        data for data in (photo(64, n) for n in range(60, 200)) if set(base64.b64encode(data)) & set(b"+/")
    )  # so that the alphabets differ
    path = f"/v1beta/models/{MODEL}:generateContent"
    camel = ask("an owl", inline(data), imageConfig={"aspectRatio": "4:5", "imageSize": "1K"}, topK=3.0, seed=7)
    snake = {
        "contents": [
            {
                "parts": [
                    {"text": "an owl"},
                    {"inline_data": {"mime_type": "image/png", "data": base64.urlsafe_b64encode(data).decode()}},
                ]
            }
        ],
        "generation_config": {"image_config": {"aspect_ratio": "4:5", "imageSize": "1K"}, "top_k": 3, "seed": "7"},
    }
    newer = ask("an owl", inline(data), seed=7)
    newer["generationConfig"]["responseFormat"] = {
        "image": {"aspectRatio": "ASPECT_RATIO_FOUR_BY_FIVE", "imageSize": "IMAGE_SIZE_ONE_K"}
    }
    assert wire.ok("POST", path, camel) == wire.ok("POST", path, snake) == wire.ok("POST", path, newer)


def test_settings_the_models_offer_are_taken(wire):
    wire.ok(
        "POST",
        f"/v1beta/models/{MODEL}:generateContent",
        {
            **ask(thinkingConfig={"thinkingLevel": "HIGH"}, responseModalities=["IMAGE"], temperature=0.4),
            "systemInstruction": {"parts": [{"text": "Be brief."}]},
            "safetySettings": [{"category": "HARM_CATEGORY_HARASSMENT", "threshold": "OFF"}],
            "tools": [{"googleSearch": {"searchTypes": {"webSearch": {}, "imageSearch": {}}}}],
        },
    )
    lite = "/v1beta/models/gemini-3.1-flash-lite-image:generateContent"
    wire.ok("POST", lite, ask(imageConfig={"imageSize": "1K"}))
    assert wire.refused("POST", lite, ask(imageConfig={"imageSize": "2K"}))[0] == 400
    assert wire.refused("POST", lite, {**ask(), "tools": [{"googleSearch": {}}]})[0] == 400
    assert wire.refused("POST", f"/v1beta/models/{PRO}:generateContent", ask(imageConfig={"aspectRatio": "8:1"}))


def test_a_reference_may_be_an_uploaded_file(wire):
    file = wire.upload(photo(300, 100, "WEBP"), mime="image/webp")
    part = {"fileData": {"fileUri": file["uri"], "mimeType": "image/webp"}}
    missing = {"file_data": {"file_uri": file["uri"] + "x"}}
    answers = {a["key"]: a for a in wire.answers(wire.batch({"a": ask("wider", part), "b": ask("wider", missing)}))}
    assert picture_of(answers["a"]["response"])[0].size == (1584, 672), "21:9 is nearest to 3:1 among the usual"
    usage = answers["a"]["response"]["usageMetadata"]
    assert usage["promptTokensDetails"][1] == {"modality": "IMAGE", "tokenCount": 1120}
    assert answers["b"]["error"]["code"] == 7


def test_an_image_of_ours_comes_back_with_its_signature(wire):
    path = f"/v1beta/models/{MODEL}:generateContent"
    content = wire.ok("POST", path, ask())["candidates"][0]["content"]
    image = content["parts"][-1]

    def again(image):
        turns = [{"role": "user", "parts": [{"text": "an owl"}]}, {"role": "model", "parts": [image]}]
        return {"contents": [*turns, {"role": "user", "parts": [{"text": "bigger"}]}]}

    signature = base64.urlsafe_b64encode(base64.b64decode(image["thoughtSignature"])).decode()
    wire.ok("POST", path, again({**image, "thoughtSignature": signature}))
    unsigned = {"inlineData": image["inlineData"]}
    assert "missing a thought_signature" in wire.refused("POST", path, again(unsigned))[2]
    forged = {**image, "thoughtSignature": base64.b64encode(b"forged").decode()}
    assert "Corrupted thought signature" in wire.refused("POST", path, again(forged))[2]


# Answers


def test_words_in_the_prompt_rehearse_what_can_go_wrong(wire):
    words = ("BLOCK", "NOIMAGE", "ERROR", "PROMPTBLOCK")
    answers = wire.answers(wire.batch({word: ask(f"an owl, LOCAL:{word}") for word in words}))
    by_key = {answer["key"]: answer.get("response") for answer in answers}
    for word, reason in (("BLOCK", "IMAGE_SAFETY"), ("NOIMAGE", "NO_IMAGE")):
        (candidate,) = by_key[word]["candidates"]
        assert (candidate["finishReason"], candidate["content"]) == (reason, {})
        assert candidate["finishMessage"]
    assert by_key["PROMPTBLOCK"]["promptFeedback"] == {"blockReason": "PROHIBITED_CONTENT"}
    assert "candidates" not in by_key["PROMPTBLOCK"]
    assert [answer["error"]["code"] for answer in answers if "error" in answer] == [13]
    code, status, _ = wire.refused("POST", f"/v1/models/{MODEL}:generateContent", ask("LOCAL:ERROR"))
    assert (code, status) == (500, "INTERNAL")


def test_the_same_ask_is_another_picture_for_another_key_and_the_same_for_the_same(wire):
    first = {a["key"]: a["response"] for a in wire.answers(wire.batch({"a": ask(), "b": ask()}))}
    again = {a["key"]: a["response"] for a in wire.answers(wire.batch({"b": ask(), "a": ask()}))}
    assert picture_of(first["a"])[1] != picture_of(first["b"])[1]
    assert first == again


def test_an_answer_tells_what_it_used(wire):
    request = ask(
        imageConfig={"imageSize": "4K"}, responseModalities=["IMAGE"], thinkingConfig={"includeThoughts": True}
    )
    response = wire.ok("POST", f"/v1beta/models/{PRO}:generateContent", request)
    thought, image = response["candidates"][0]["content"]["parts"]
    assert thought["thought"] is True
    assert set(image) == {"inlineData", "thoughtSignature"}
    usage = response["usageMetadata"]
    assert usage["candidatesTokensDetails"] == [{"modality": "IMAGE", "tokenCount": 2000}]
    assert usage["candidatesTokenCount"] == 2000
    assert usage["thoughtsTokenCount"] > 0
    assert picture_of(response)[0].size == (4096, 4096)
    assert response["modelVersion"] == PRO
    assert response["responseId"]


# Models and keys


def test_models_unknown_or_shut_down_are_named(wire):
    for model in ("gemini-3.1-flash-image", "gemini-2.5-flash-image", "gemini-3-pro-image-preview", "gemini-dream"):
        for method, body in (("generateContent", ask()), ("batchGenerateContent", {"batch": {}})):
            code, status, message = wire.refused("POST", f"/v1beta/models/{model}:{method}", body)
            assert (code, status) == (404, "NOT_FOUND")
            assert f"models/{model} " in message


def test_a_clock_put_back_brings_a_model_back(wire):
    now = wire.ok("POST", "/_local/clock", {"advance_s": 0})["now"]
    wire.advance(catalog._MODELS["gemini-2.5-flash-image"].shut_down_at - now - HOUR)
    response = wire.ok(
        "POST", "/v1/models/gemini-2.5-flash-image:generateContent", ask(imageConfig={"aspectRatio": "2:3"})
    )
    image, _ = picture_of(response)
    assert (image.format, image.size) == ("PNG", (832, 1248))
    assert "thoughtsTokenCount" not in response["usageMetadata"]


def test_a_key_is_needed(tmp_path):
    with serving(tmp_path, keys=["the-only-key"]) as url:
        wire = Wire(url)
        assert wire.refused("GET", "/v1beta/files", key=None)[:2] == (403, "PERMISSION_DENIED")
        code, answer, _ = wire("GET", "/v1beta/files")
        assert (code, answer["error"]["status"]) == (400, "INVALID_ARGUMENT")
        assert answer["error"]["message"] == "API key not valid. Please pass a valid API key."
        assert answer["error"]["details"][0]["reason"] == "API_KEY_INVALID"
        assert wire("GET", "/v1beta/files", key="the-only-key")[0] == 200
    with serving(tmp_path) as url:
        assert Wire(url)("GET", "/v1beta/files", key="too-short")[0] == 400


# The ledger, HTTP and the end


def test_the_ledger_holds_every_accepted_call_in_order(wire, tmp_path):
    name = wire.batch({"a": ask(), "b": ask()})
    wire.ended(name)
    wire.refused("GET", "/v1beta/files/none")
    wire.ok("POST", f"/v1beta/models/{MODEL}:generateContent", ask())
    wire.ok("POST", f"/v1beta/{name}:cancel", b"")
    wire.ok("DELETE", f"/v1beta/{name}")
    ledger = wire.ok("GET", "/_local/ledger")
    ops = ["files.upload", "batches.create", "generateContent", "batches.cancel", "batches.delete"]
    assert [entry["op"] for entry in ledger] == ops
    created = ledger[1]
    assert created.pop("at")
    assert created == {
        "op": "batches.create",
        "name": name,
        "displayName": "owls",
        "fileName": ledger[0]["name"],
        "model": MODEL,
        "requests": 2,
    }
    written = (tmp_path / "state" / "ledger.jsonl").read_text().splitlines()
    assert [json.loads(line)["op"] for line in written] == ops


def test_a_ledger_line_without_its_call_is_cut_off(tmp_path):
    with serving(tmp_path) as url:
        Wire(url).upload(b"x")
    with (tmp_path / "ledger.jsonl").open("a") as stream:
        stream.write('{"op": "killed before it was done"}\n{"op":')
    with serving(tmp_path) as url:
        Wire(url).upload(b"x")
        ledger = Wire(url).ok("GET", "/_local/ledger")
    assert [entry["op"] for entry in ledger] == ["files.upload"] * 2
    assert len((tmp_path / "ledger.jsonl").read_text().splitlines()) == 2


def test_what_is_no_proper_call_gets_a_proper_error(wire):
    assert wire.refused("GET", "/v1beta/nowhere")[:2] == (404, "NOT_FOUND")
    assert wire.refused("PATCH", "/v1beta/batches/x", {})[0] == 404
    assert wire.refused("POST", f"/v1beta/models/{MODEL}:generateContent", b"{")[0] == 400
    assert wire.refused("POST", f"/v1beta/models/{MODEL}:generateContent", b"[]")[0] == 400
    assert wire.refused("POST", f"/v1beta/models/{MODEL}:generateContent", b"[" * 100_000)[0] == 400
    assert wire.refused("BREW", "/v1beta/files")[0] == 501
    assert "20971520" in wire.refused("POST", f"/v1beta/models/{MODEL}:generateContent", b" " * 20_971_521)[2]
    assert wire.refused("POST", "/_local/clock", {"advance_s": "x"})[0] == 400


def test_one_connection_carries_many_calls(wire):
    connection = http.client.HTTPConnection("127.0.0.1", int(wire.url.rsplit(":", 1)[1]), timeout=10)
    for path, code in (("/v1/files", 200), ("/v1/nowhere", 404), ("/v1/models/x:generateContent", 404)):
        connection.request("POST" if ":" in path else "GET", path, b"{}", headers={"x-goog-api-key": KEY})
        reply = connection.getresponse()
        assert (reply.status, bool(reply.read())) == (code, True)
        local = connection.sock
    assert local is not None, "still the first connection"
    connection.close()


def test_a_client_that_hangs_up_disturbs_nobody(wire, capfd):
    port = int(wire.url.rsplit(":", 1)[1])
    head = b"POST /v1/models/x:generateContent HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n"
    for sent in (b"", b"GET /v1/files HTTP/1.1\r\n", head + b"\r\n{", b"nonsense\r\n\r\n"):
        with socket.create_connection(("127.0.0.1", port)) as connection:
            connection.sendall(sent)
    wire.ok("GET", "/v1/files")
    assert capfd.readouterr() == ("", "")


def test_it_stops_at_once_in_the_middle_of_its_work(tmp_path):
    with serving(tmp_path, latency_s=0) as url:
        name = Wire(url).batch({str(n): ask(f"owl {n}") for n in range(3000)})
        while not any(path.stat().st_size for path in (tmp_path / "batches").glob("*.out")):
            time.sleep(0.005)
        assert Wire(url).ok("GET", f"/v1beta/{name}")["metadata"]["state"] == "BATCH_STATE_RUNNING"
        asked = time.monotonic()
    assert time.monotonic() - asked < 1


# Pictures


@pytest.mark.parametrize("mode", ["drawn", "plain"])
@pytest.mark.parametrize("model", ["gemini-3.1-flash-image", "gemini-2.5-flash-image"])
def test_a_picture_is_exact_and_not_one_colour(model, mode):
    offered = catalog._MODELS[model]
    for number, aspect in enumerate(offered.ratios):
        for size in ("512", "1K") if "512" in offered.tokens else ("1K",):
            data, mime, width, height = draw(Picture(offered, aspect, size, "an owl", bytes([number] * 32)), mode)
            with Image.open(BytesIO(data)) as image:
                assert image.size == (width, height) == offered.pixels(aspect, size)
                assert Image.MIME[image.format] == mime == offered.mime
                assert len(image.resize((16, 16), Image.Resampling.NEAREST).getcolors()) > 1


def test_pictures_show_the_references_they_were_given():
    model = catalog._MODELS[MODEL]
    shown = (photo(80, 80, colour="red"), photo(80, 40, "JPEG", "red"), b"\0\0\0\x18ftypheic" + bytes(20))
    for references in (shown[:1], shown[:2], shown, shown[:1] * 14):
        data = draw(Picture(model, "1:1", "1K", "an owl", bytes(32), references), "drawn")[0]
        with Image.open(BytesIO(data)) as image:
            pixels = batched(image.resize((64, 64)).tobytes())
        assert sum(red > 150 and green < 110 and blue < 110 for red, green, blue in pixels) > 400


def batched(data):
    return zip(data[::3], data[1::3], data[2::3], strict=True)


@pytest.mark.parametrize("prompt", ["", "x", "w" * 900, "an owl\n\n\tat dusk " * 90, "梟 на закате \x00\u202e"])
def test_any_prompt_can_be_a_caption(prompt):
    for aspect in ("1:1", "1:8", "8:1"):
        for mode in ("drawn", "plain"):
            draw(Picture(catalog._MODELS["gemini-3.1-flash-image"], aspect, "512", prompt, bytes(32)), mode)


def test_it_shares_nothing_with_the_other_side_of_the_wire():
    for path in Path(pipeline.local.__file__).parent.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom):
                assert node.level == 1 or not (node.module or "").startswith("pipeline"), path
                assert node.level < 2, path
            elif isinstance(node, ast.Import):
                assert not any(name.name.startswith(("pipeline", "google")) for name in node.names), path
