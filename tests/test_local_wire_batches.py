"""What wire.md's checklist asks of an emulator, by its numbers: batches (lines 16 to 22) and generateContent.

A test is named `test_08_<line>_<law>`. The unmodified SDK drives what it can say; the rest is sent by hand.
"""

from __future__ import annotations

import base64
import json
import re
import sqlite3
import time
from pathlib import Path

import pytest
from google.genai import errors, types
from local_wire import HOUR, MODEL, PRO, Wire, ask, inline, lines, photo, sdk
from test_local_faults import rehearsed

from pipeline.local import serving

CREATE = f"/v1beta/models/{MODEL}:batchGenerateContent"
TYPES = "type.googleapis.com/google.ai.generativelanguage.v1main."


def inlined(*prompts):
    """Requests sent in place, each with its prompt as its key."""
    return [types.InlinedRequest(contents=prompt, metadata={"key": prompt}) for prompt in prompts]


def test_every_line_of_the_checklist_has_a_test():
    texts = [Path(__file__).with_name(f"test_local_wire{part}.py").read_text() for part in ("", "_batches")]
    numbers = {int(found) for text in texts for found in re.findall(r"^def test_08_(\d\d)_", text, re.MULTILINE)}
    assert numbers == set(range(1, 23))


# Created


def test_08_16_create_takes_what_the_sdk_and_the_documentation_send(wire):
    file = wire.upload(lines({"a": ask()}))
    for batch in (
        {"display_name": "x", "input_config": {"file_name": file["name"]}, "priority": "-5"},
        {"inputConfig": {"fileName": file["name"]}, "priority": 5, "webhookConfig": {"uris": [], "user_metadata": {}}},
    ):
        made = wire.ok("POST", f"/v1beta/models/{MODEL}:batchGenerateContent", {"batch": batch})
        assert made["metadata"]["state"] == "BATCH_STATE_PENDING"
        assert "done" not in made


def test_08_16_create_answers_with_an_operation_that_is_pending_and_not_done(slow):
    with sdk(slow.url) as client:
        file = slow.upload(lines({"a": ask()}))
        for src in (file["name"], inlined("an owl")):
            job = client.batches.create(model=MODEL, src=src)
            assert re.fullmatch(r"batches/[a-z0-9]{36}", job.name)
            assert (job.state, job.model, job.display_name) == ("JOB_STATE_PENDING", f"models/{MODEL}", None)
            assert (job.create_time, job.end_time, job.dest) == (job.update_time, None, None)
            operation = slow.ok("GET", f"/v1beta/{job.name}")
            assert set(operation) == {"name", "metadata"}, "no done, no response, no error"
        with pytest.raises(errors.ClientError) as refused:
            client.batches.create(model=MODEL, src="files/none")
    assert (refused.value.code, refused.value.status) == (403, "PERMISSION_DENIED")


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
def test_08_16_create_refuses_an_input_it_cannot_use(wire, config, code):
    body = {"batch": {"displayName": "x", "inputConfig": config}}
    assert wire.refused("POST", f"/v1beta/models/{MODEL}:batchGenerateContent", body)[0] == code
    assert wire.ok("GET", "/_local/ledger") == []


def test_08_16_create_refuses_a_file_that_is_no_text(wire):
    file = wire.upload(photo(), mime="image/png")
    body = {"batch": {"inputConfig": {"fileName": file["name"]}}}
    assert "image/png" in wire.refused("POST", f"/v1beta/models/{MODEL}:batchGenerateContent", body)[2]


def test_08_16_the_same_create_twice_is_two_batches_and_a_hundred_are_enough(slow):
    file = slow.upload(lines({"a": ask("LOCAL:ERROR")}))
    body = {"batch": {"inputConfig": {"fileName": file["name"]}}}
    path = f"/v1beta/models/{MODEL}:batchGenerateContent"
    names = [slow.ok("POST", path, body)["name"] for _ in range(100)]
    assert len(set(names)) == 100, "the same call twice is two batches"
    assert slow.refused("POST", path, body)[:2] == (429, "RESOURCE_EXHAUSTED")
    slow.ok("POST", f"/v1beta/{names[0]}:cancel", b"")
    slow.ok("POST", path, body)


# Looked at


def test_08_17_inlined_requests_are_answered_in_place(tmp_path):
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


def test_08_17_the_output_is_named_in_the_metadata_and_in_the_response(wire):
    file = wire.batch({"a": ask()})
    body = {"requests": {"requests": [{"request": ask(), "metadata": {"key": "a"}}, {"request": ask("LOCAL:ERROR")}]}}
    inline = wire.ok("POST", CREATE, {"batch": {"inputConfig": body}})["name"]
    for name in (file, inline):
        operation = wire.ended(name)
        output = operation["metadata"]["output"]
        assert operation["response"] == {"@type": f"{TYPES}GenerateContentBatchOutput", **output}
    answers = output["inlinedResponses"]["inlinedResponses"]
    assert {frozenset(answer) for answer in answers} == {
        *(frozenset({"response", "metadata"}), frozenset({"error", "metadata"})),
    }
    [error] = [answer["error"] for answer in answers if "error" in answer]
    assert set(error) == {"code", "message"}, "details would break the client"


def test_08_18_a_batch_goes_through_its_states_by_the_clock(slow):
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


def test_08_18_counts_are_text_and_none_is_zero(wire):
    good, bad = wire.batch({"a": ask()}), wire.batch({"a": ask("LOCAL:ERROR"), "b": ask("LOCAL:BLOCK")})
    assert wire.ended(good)["metadata"]["batchStats"] == {"requestCount": "1", "successfulRequestCount": "1"}
    counts = {"requestCount": "2", "successfulRequestCount": "1", "failedRequestCount": "1"}
    assert wire.ended(bad)["metadata"]["batchStats"] == counts, "a picture withheld is a success"


def test_08_18_a_batch_expires_after_two_days(tmp_path):
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
def test_08_18_an_input_that_is_no_jsonl_fails_the_batch(wire, content):
    operation = wire.ended(wire.batch(content))
    assert operation["metadata"]["state"] == "BATCH_STATE_FAILED"
    assert operation["error"]["code"] == 3


# Listed


def test_08_19_lists_show_the_newest_first_and_no_token_on_the_last_page(wire):
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


def test_08_19_the_client_pages_through_all_of_them_and_sees_no_inlined_answers(wire, client):
    names = [client.batches.create(model=MODEL, src=inlined("LOCAL:NOIMAGE")).name for _ in range(4)]
    wire.ended(names[-1])
    for size in (1, 2, 4, 9):
        listed = list(client.batches.list(config={"page_size": size}))
        assert [job.name for job in listed] == names[::-1]
        assert {job.dest for job in listed} == {None}
    assert client.batches.get(name=names[-1]).dest.inlined_responses


# Cancelled, deleted, changed


def test_08_20_cancelled_before_it_starts_a_batch_is_as_if_it_never_was(slow):
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


def test_08_20_cancelled_while_it_runs_a_batch_keeps_what_it_has(slow):
    name = slow.batch({str(n): ask(f"owl {n}") for n in range(40)})
    slow.advance(62.5)
    for _ in range(2000):  # until all is drawn, though half of the time is still to go
        if int(slow.ok("GET", f"/v1beta/{name}")["metadata"]["batchStats"].get("successfulRequestCount", 0)) >= 20:
            break
        time.sleep(0.005)
    slow.ok("POST", f"/v1beta/{name}:cancel", b"")
    answers = slow.answers(name)
    assert sorted(int(answer["key"]) for answer in answers) == list(range(40))
    stopped = [answer["error"] for answer in answers if "error" in answer]
    assert stopped == [{"code": 1}] * len(stopped)
    assert 10 <= len(stopped) <= 20, "half of them, and some fewer where drawing takes its time"
    assert slow.ended(name)["metadata"]["batchStats"]["failedRequestCount"] == str(len(stopped))
    slow.ok("POST", f"/v1beta/{name}:cancel", b"")  # too late, and no harm
    assert slow.answers(name) == answers


def test_08_20_the_client_cancels_and_a_while_later_what_was_unfinished_is_cancelled(tmp_path):
    with rehearsed(tmp_path, "on: batch, do: slow_cancel, seconds: 5", latency_s=100) as wire, sdk(wire.url) as client:
        job = client.batches.create(model=MODEL, src=inlined("an owl", "a barn"))
        wire.advance(30)
        assert client.batches.cancel(name=job.name) is None
        assert client.batches.get(name=job.name).state == "JOB_STATE_RUNNING"
        wire.advance(6)
        wire.ended(job.name)
        job = client.batches.get(name=job.name)
        assert job.state == "JOB_STATE_SUCCEEDED"
        assert {answer.error.code for answer in job.dest.inlined_responses if answer.error} == {1}


def test_08_21_deleted_a_batch_takes_its_results_along(wire):
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


def test_08_21_the_client_deletes_the_batch_as_it_cannot_delete_the_file(wire, client):
    name = wire.batch({"a": ask()})
    wire.ended(name)
    output = client.batches.get(name=name).dest.file_name
    assert len(output.removeprefix("files/")) == 42
    for call in (client.files.get, client.files.delete):
        with pytest.raises(errors.ClientError, match="cannot be more than 40 characters") as refused:
            call(name=output)
        assert refused.value.code == 400
    client.batches.delete(name=name)
    with pytest.raises(errors.ClientError) as gone:
        client.files.download(file=output)
    assert gone.value.code == 403


def test_08_21_results_count_against_the_storage_of_the_project_until_their_batch_is_deleted(wire, tmp_path):
    name = wire.batch({"a": ask()})
    wire.ended(name)
    room = 20 * 1024**3 - sum(int(file["sizeBytes"]) for file in wire.ok("GET", "/v1beta/files")["files"])
    with sqlite3.connect(tmp_path / "state" / "service.sqlite3") as db:  # nobody draws 20 GB in a test
        db.execute("UPDATE batch SET bytes = ?", (room - 100,))
    db.close()
    headers = {"X-Goog-Upload-Protocol": "resumable", "X-Goog-Upload-Command": "start"}
    start = {"file": {"mimeType": "text/plain", "sizeBytes": "101"}}
    assert wire.refused("POST", "/upload/v1beta/files", start, headers=headers)[:2] == (429, "RESOURCE_EXHAUSTED")
    wire.ok("DELETE", f"/v1beta/{name}")
    assert wire("POST", "/upload/v1beta/files", start, headers=headers)[0] == 200


def test_08_a_batch_gets_another_name_and_priority(wire):
    name = wire.batch({"a": ask("LOCAL:ERROR")})
    path = f"/v1beta/{name}:updateGenerateContentBatch?updateMask="
    changed = wire.ok("PATCH", f"{path}displayName,priority", {"displayName": "barns", "priority": "-3"})
    assert (changed["name"], changed["displayName"], changed["priority"]) == (name, "barns", "-3")
    assert wire.ok("PATCH", f"{path}priority", {"displayName": "x"}).get("priority") is None
    assert wire.ok("GET", f"/v1beta/{name}")["metadata"]["displayName"] == "barns"
    assert wire.refused("PATCH", f"{path}state", {"state": "x"})[:2] == (400, "INVALID_ARGUMENT")
    assert wire.ok("PATCH", path, {"display_name": "owls"})["displayName"] == "owls", "no mask: all that is said"
    assert wire.refused("PATCH", path.replace(name, "batches/none"), {})[:2] == (404, "NOT_FOUND")


# The answers


def test_08_22_answers_come_shuffled_and_the_key_anywhere(wire):
    keys = [f"k{n}" for n in range(40)]
    answers = wire.answers(wire.batch({key: ask(key) for key in keys}))
    assert [answer["key"] for answer in answers] != keys
    assert sorted(answer["key"] for answer in answers) == sorted(keys)
    assert {next(iter(answer)) for answer in answers} == {"key", "response"}


def test_08_22_a_request_that_is_wrong_costs_only_its_line(wire):
    answers = wire.answers(wire.batch({"good": ask(), "bad": {"contents": [], "contens": 1}}))
    by_key = {answer["key"]: answer for answer in answers}
    assert by_key["bad"]["error"] == {
        "code": 3,
        "message": 'Invalid JSON payload received. Unknown name "contens": Cannot find field.',
    }
    assert "candidates" in by_key["good"]["response"]


def test_08_22_the_output_is_named_after_its_batch_and_ends_with_a_line_end(wire, client):
    requests = {
        "good": ask(),
        "no": ask("LOCAL:BLOCK"),
        "bad": ask("LOCAL:ERROR"),
        "ratio": ask(imageConfig={"aspectRatio": "5:7"}),
    }
    name = wire.batch(requests)
    wire.ended(name)
    output = client.batches.get(name=name).dest.file_name
    assert output == f"files/batch-{name.removeprefix('batches/')}"
    content = client.files.download(file=output)
    assert content.endswith(b"}\n")
    found = {answer["key"]: answer for answer in map(json.loads, content.splitlines())}
    assert {key: answer["error"]["code"] for key, answer in found.items() if "error" in answer} == {
        "bad": 13,
        "ratio": 3,
    }
    assert found["no"]["response"]["candidates"][0]["finishReason"] == "IMAGE_SAFETY"
    assert set(found["good"]["response"]) == {"candidates", "usageMetadata", "modelVersion", "responseId"}


# generateContent


def test_08_generate_a_chat_goes_on_with_the_picture_it_was_given(tmp_path):
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


@pytest.mark.parametrize("alphabet", [base64.b64encode, base64.urlsafe_b64encode], ids=["standard", "url-safe"])
def test_08_generate_a_signature_is_compared_by_its_bytes(wire, alphabet):
    path = f"/v1beta/models/{MODEL}:generateContent"
    content = wire.ok("POST", path, ask(thinkingConfig={"includeThoughts": True}))["candidates"][0]["content"]
    assert [bool(part.get("thought")) for part in content["parts"]] == [True, True, False, False]
    for part in content["parts"]:  # thoughts may come back as well
        if "thoughtSignature" in part:
            part["thoughtSignature"] = alphabet(base64.b64decode(part["thoughtSignature"])).decode()
        if "inlineData" in part:
            part["inlineData"]["data"] = alphabet(base64.b64decode(part["inlineData"]["data"])).decode()
    turns = [ask()["contents"][0], content, {"role": "user", "parts": [{"text": "at night"}]}]
    wire.ok("POST", path, {"contents": turns})
    [answer] = wire.answers(wire.batch({"a": {"contents": turns}}))
    assert "response" in answer, "a conversation goes on in a batch as well"
    turns[1] = {"role": "model", "parts": [{**content["parts"][-1], "thoughtSignature": "AAAA"}]}
    assert "Corrupted thought signature" in wire.refused("POST", path, {"contents": turns})[2]


def test_08_generate_the_client_sees_thoughts_pictures_usage_and_sources(wire, client):
    config = types.GenerateContentConfig(
        thinking_config=types.ThinkingConfig(include_thoughts=True),
        tools=[types.Tool(google_search=types.GoogleSearch())],
        response_modalities=["TEXT", "IMAGE"],
    )
    response = client.models.generate_content(model=MODEL, contents="several owls", config=config)
    [candidate] = response.candidates
    kinds = [
        ("thought " if part.thought else "") + ("text" if part.text else "image") for part in candidate.content.parts
    ]
    assert kinds == ["thought text", "thought image", "text", "image", "text", "image"], "words and pictures in turn"
    assert [bool(part.thought_signature) for part in candidate.content.parts] == [False] * 3 + [True, False, True]
    usage = response.usage_metadata
    assert usage.candidates_tokens_details[0].modality == "IMAGE"
    assert usage.candidates_tokens_details[0].token_count == 2 * 1120 < usage.candidates_token_count
    assert (
        usage.total_token_count == usage.prompt_token_count + usage.candidates_token_count + usage.thoughts_token_count
    )
    assert candidate.grounding_metadata.web_search_queries == ["several owls"]
    assert candidate.grounding_metadata.grounding_chunks[0].web.uri.startswith("https://")


def test_08_generate_tokens_are_counted_as_they_would_be_used(wire, client):
    parts = [types.Part.from_text(text="an owl like this"), types.Part.from_bytes(data=photo(), mime_type="image/png")]
    counted = client.models.count_tokens(model=MODEL, contents=types.Content(role="user", parts=parts))
    used = client.models.generate_content(model=MODEL, contents=types.Content(role="user", parts=parts)).usage_metadata
    assert counted.total_tokens == used.prompt_token_count == 4 + 1120
    path = f"/v1beta/models/{MODEL}:countTokens"
    whole = {
        **ask("an owl like this", inline(photo())),
        "model": f"models/{MODEL}",
        "systemInstruction": {"parts": [{"text": "x" * 11}]},
    }
    told = wire.ok("POST", path, {"generateContentRequest": whole})
    assert told == {
        "totalTokens": 7 + 1120,
        "promptTokensDetails": [
            {"modality": "TEXT", "tokenCount": 7},
            {"modality": "IMAGE", "tokenCount": 1120},
        ],
    }
    assert wire.ok("POST", path, {"contents": ask("x" * 600_000)["contents"]})["totalTokens"] == 150_000, (
        "more than it takes"
    )
    for body in ({}, {"contents": []}, {"contents": whole["contents"], "generateContentRequest": whole}):
        assert wire.refused("POST", path, body)[:2] == (400, "INVALID_ARGUMENT")
    assert wire.refused("POST", "/v1beta/models/gemini-dream:countTokens", {"contents": []})[0] == 404
    assert [entry["op"] for entry in wire.ok("GET", "/_local/ledger")] == ["generateContent"], "counting is no work"
