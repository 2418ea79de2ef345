"""The embedded service over HTTP: by the unmodified SDK, and by hand where the exact shape matters."""

from __future__ import annotations

import fcntl
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from google.genai import errors, types
from local_wire import HOUR, MODEL, PRO, Wire, ask, lines, photo, picture_of, sdk

from pipeline.local import serving

ROOT = Path(__file__).parent.parent


@pytest.fixture
def wire(tmp_path):
    with serving(tmp_path / "state", latency_s=0, pictures="plain") as url:
        yield Wire(url)


@pytest.fixture
def slow(tmp_path):
    """A service whose batches take a hundred seconds."""
    with serving(tmp_path / "state", latency_s=100, pictures="plain") as url:
        yield Wire(url)


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


def test_a_batch_somebody_else_works_on_is_left_alone(wire, tmp_path):
    name = wire.batch({str(n): ask(f"owl {n}") for n in range(150)})
    while not (found := list(tmp_path.glob("state/batches/*.out"))):
        time.sleep(0.005)
    with found[0].open("rb") as taken:
        fcntl.flock(taken, fcntl.LOCK_EX)
        size = found[0].stat().st_size
        assert len(wire.answers(wire.batch({"b": ask("barn")}))) == 1, "the others go on meanwhile"
        assert found[0].stat().st_size == size
    assert len(wire.answers(name)) == 150


def test_killed_while_it_draws_it_ends_the_same(tmp_path):
    script = (
        "import sys, pathlib, time\nfrom pipeline.local import serving\n"
        "with serving(pathlib.Path(sys.argv[1]), latency_s=0, pictures='drawn') as url:\n"
        "    print(url, flush=True)\n    time.sleep(60)\n"
    )
    command = [sys.executable, "-c", script, str(tmp_path / "killed")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT) as process:
        wire = Wire(process.stdout.readline().strip())
        name = wire.batch({f"k{n}": ask(f"owl {n}") for n in range(24)})
        while not any(path.stat().st_size > 150_000 for path in tmp_path.glob("killed/batches/*.out")):
            time.sleep(0.005)
        os.kill(process.pid, signal.SIGKILL)
    with serving(tmp_path / "killed", latency_s=0) as url:
        answers = Wire(url).answers(name)
    assert sorted(answer["key"] for answer in answers) == sorted(f"k{n}" for n in range(24))
    with serving(tmp_path / "again", latency_s=0) as url:
        again = Wire(url).answers(Wire(url).batch({f"k{n}": ask(f"owl {n}") for n in range(24)}))
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
    slow.advance(200)
    assert slow.ok("GET", f"/v1beta/{name}")["metadata"]["state"] == "BATCH_STATE_CANCELLED"
    assert slow.refused("GET", f"/v1beta/files/batch-{name.removeprefix('batches/')}:download")[0] == 403


def test_cancelled_while_it_runs_a_batch_keeps_what_it_has(slow):
    name = slow.batch({str(n): ask(f"owl {n}") for n in range(40)})
    slow.advance(62.5)
    for _ in range(2000):  # until all is drawn, though half of the time is still to go
        if slow.ok("GET", f"/v1beta/{name}")["metadata"]["batchStats"].get("successfulRequestCount") == "20":
            break
        time.sleep(0.005)
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
        pytest.param(b"\n \n", id="blank"),
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
        made = wire.ok("POST", f"/v1beta/models/{MODEL}:batchGenerateContent", {"batch": batch})
        assert made["metadata"]["state"] == "BATCH_STATE_PENDING"
        assert "done" not in made


def test_blank_lines_ask_for_nothing(wire):
    name = wire.batch(b"\n" + lines({"a": ask()}) + b"\n" + lines({"b": ask()}).rstrip())
    assert sorted(answer["key"] for answer in wire.answers(name)) == ["a", "b"]
    assert wire.ended(name)["metadata"]["batchStats"] == {"requestCount": "2", "successfulRequestCount": "2"}


def test_a_batch_needs_its_input_file_no_longer(slow, tmp_path):
    name = slow.batch({"a": ask()})
    slow.ok("DELETE", f"/v1beta/{slow.ok('GET', '/v1beta/files')['files'][0]['name']}")
    (kept,) = tmp_path.glob("state/batches/*.in")
    assert kept.read_bytes() == lines({"a": ask()})
    slow.advance(200)
    assert len(slow.answers(name)) == 1
