"""Rehearsed trouble: what befalls batches, their lines and files."""

from __future__ import annotations

import base64
import json
import urllib.error
import urllib.request
from collections import Counter
from io import BytesIO

import pydantic
import pytest
from google.genai import types
from local_wire import HOUR, KEY, MODEL, Wire, ask, picture_of, sdk
from PIL import Image
from test_local_faults import code, rehearsed

from pipeline.local import serving


def raw(wire, name):
    """The lines of the answer of a batch, as they come."""
    path = f"/v1beta/{wire.ended(name)['metadata']['output']['responsesFile']}:download?alt=media"
    request = urllib.request.Request(wire.url + path, headers={"x-goog-api-key": KEY})
    with urllib.request.urlopen(request, timeout=20) as reply:
        return reply.read().splitlines(keepends=True)


def by_key(wire, requests):
    return {answer["key"]: answer for answer in map(json.loads, raw(wire, wire.batch(requests)))}


def asks(number):
    return {f"k{n}": ask(f"owl {n}") for n in range(1, number + 1)}


# Batches


@pytest.mark.parametrize(
    ("do", "state"),
    [("pending", "BATCH_STATE_PENDING"), ("running", "BATCH_STATE_RUNNING")],
)
def test_a_batch_may_never_end_until_it_expires(tmp_path, do, state):
    with rehearsed(tmp_path, f"on: batch, do: {do}") as wire:
        name = wire.batch({"a": ask()})
        wire.advance(47 * HOUR)
        operation = wire.ok("GET", f"/v1beta/{name}")
        assert (operation["metadata"]["state"], operation.get("done")) == (state, None)
        assert "endTime" not in operation["metadata"]
        wire.advance(2 * HOUR)
        assert wire.ended(name)["metadata"]["state"] == "BATCH_STATE_EXPIRED"


def test_a_batch_that_never_starts_can_be_cancelled(tmp_path):
    with rehearsed(tmp_path, "on: batch, do: pending, times: 1", "on: batch, do: running") as wire:
        pending = wire.batch({"a": ask()})
        wire.ok("POST", f"/v1beta/{pending}:cancel", b"")
        assert wire.ended(pending)["metadata"]["state"] == "BATCH_STATE_CANCELLED"
        running = wire.batch({"a": ask()})
        while wire.ok("GET", f"/v1beta/{running}")["metadata"]["state"] != "BATCH_STATE_RUNNING":
            pass
        wire.ok("POST", f"/v1beta/{running}:cancel", b"")
        assert wire.answers(running) == [{"key": "a", "error": {"code": 1}}]


@pytest.mark.parametrize(
    ("do", "state", "error"),
    [
        ("expire", "EXPIRED", 4),
        ("fail", "FAILED", 13),
        ("fail, code: 8, message: Out of quota.", "FAILED", 8),
        ("cancel", "CANCELLED", 13),
    ],
)
@pytest.mark.parametrize("output", [False, True], ids=["without output", "with output"])
def test_a_batch_may_end_badly(tmp_path, do, state, error, output):
    with rehearsed(tmp_path, f"on: batch, do: {do}{', output: true' if output else ''}") as wire:
        name = wire.batch({"a": ask()})
        operation = wire.ended(name)
        assert operation["metadata"]["state"] == f"BATCH_STATE_{state}"
        assert operation["error"]["code"] == error
        assert "quota" not in do or operation["error"]["message"] == "Out of quota."
        assert "response" not in operation
        assert operation["metadata"]["endTime"] >= operation["metadata"]["createTime"]
        file = f"files/batch-{name.removeprefix('batches/')}"
        assert operation["metadata"].get("output") == ({"responsesFile": file} if output else None)
        assert code(wire, path=f"/v1beta/{file}") == 400
        if output:
            assert [json.loads(line)["key"] for line in raw(wire, name)] == ["a"]
        else:
            assert code(wire, path=f"/v1beta/{file}:download?alt=media") == 403


def test_a_batch_may_end_in_a_state_nobody_knows(tmp_path):
    rules = (
        "on: batch, do: unknown_state, times: 1",
        "on: batch, do: unknown_state, state: DREAMING, done: false, output: false",
    )
    with rehearsed(tmp_path, *rules) as wire, sdk(wire.url) as client:
        name = wire.batch({"a": ask()})
        assert wire.ended(name)["metadata"]["state"] == "BATCH_STATE_PARTIALLY_SUCCEEDED"
        assert len(raw(wire, name)) == 1
        name = wire.batch({"a": ask()})
        while (operation := wire.ok("GET", f"/v1beta/{name}"))["metadata"]["state"] != "BATCH_STATE_DREAMING":
            pass
        assert "done" not in operation
        assert "output" not in operation["metadata"]
        with pytest.warns(UserWarning, match="DREAMING"):
            assert not client.batches.get(name=name).done


def test_an_output_may_come_later_than_its_batch(tmp_path):
    with rehearsed(tmp_path, "on: batch, do: late_output, downloads: 2") as wire:
        path = f"/v1beta/{wire.ended(wire.batch({'a': ask()}))['response']['responsesFile']}:download"
        for _ in range(2):
            assert wire.refused("GET", path)[:2] == (403, "PERMISSION_DENIED")
        request = urllib.request.Request(wire.url + path, headers={"x-goog-api-key": KEY})
        with urllib.request.urlopen(request, timeout=20) as reply:
            assert reply.status == 200


def test_a_new_batch_may_be_in_no_list_yet(tmp_path):
    with rehearsed(tmp_path, "on: batch, do: late_listing, seconds: 60, times: 1") as wire:
        late, other = wire.batch({"a": ask()}), wire.batch({"a": ask()})
        assert [one["name"] for one in wire.ok("GET", "/v1beta/batches")["operations"]] == [other]
        assert wire.ok("GET", f"/v1beta/{late}")["name"] == late
        wire.advance(61)
        assert [one["name"] for one in wire.ok("GET", "/v1beta/batches")["operations"]] == [other, late]


def test_a_cancelled_batch_may_take_a_while_to_end(tmp_path):
    with rehearsed(tmp_path, "on: batch, do: slow_cancel, seconds: 5", latency_s=100) as wire:
        name = wire.batch({"a": ask()})
        wire.advance(60)
        wire.ok("POST", f"/v1beta/{name}:cancel", b"")
        assert wire.ok("GET", f"/v1beta/{name}")["metadata"]["state"] == "BATCH_STATE_RUNNING"
        wire.advance(6)
        assert wire.ended(name)["metadata"]["state"] == "BATCH_STATE_SUCCEEDED"


def test_batches_are_chosen_by_name_number_and_share(tmp_path):
    rules = ("on: batch, do: fail, key: 'owl*', every: 2", "on: batch, do: expire, share: 0.5, seed: 1")

    def states(folder):
        folder.mkdir()
        with rehearsed(folder, *rules) as wire:
            names = [wire.batch({"a": ask("LOCAL:ERROR")}) for _ in range(12)]
            return [wire.ended(name)["metadata"]["state"].removeprefix("BATCH_STATE_")[0] for name in names]

    first = states(tmp_path / "first")
    assert states(tmp_path / "again") == first
    assert first[1::2] == ["F"] * 6, "they are called owls"
    assert 0 < first.count("E") < 6


def test_what_befalls_a_batch_is_settled_when_it_is_made(tmp_path):
    with rehearsed(tmp_path, "on: batch, do: fail", latency_s=50) as wire:
        name = wire.batch({"a": ask()})
    with serving(tmp_path / "state", pictures="plain") as url:
        Wire(url).advance(60)
        assert Wire(url).ended(name)["metadata"]["state"] == "BATCH_STATE_FAILED"


# Lines


def test_lines_may_be_missing_twice_torn_or_of_others(tmp_path):
    rules = (
        "on: line, do: missing, key: k1",
        "on: line, do: duplicate, key: k2",
        "on: line, do: malformed, key: k3",
        "on: line, do: other_key, key: k4",
    )
    with rehearsed(tmp_path, *rules) as wire:
        found = raw(wire, wire.batch(asks(5)))
        whole = [json.loads(line)["key"] for line in found if line.endswith(b"}\n")]
        assert Counter(whole) == {"k2": 2, "k4-of-another": 1, "k5": 1}
        [torn] = [line for line in found if not line.endswith(b"}\n")]
        assert torn.endswith(b"\n")
        with pytest.raises(json.JSONDecodeError):
            json.loads(torn)


def test_lines_may_hold_no_picture_or_an_error(tmp_path):
    rules = (
        "on: line, do: block, key: k1",
        "on: line, do: block, reason: PROHIBITED_CONTENT, key: k2",
        "on: line, do: no_image, key: k3",
        "on: line, do: error, key: k4",
        "on: line, do: error, code: 8, message: Full., under: status, key: k5",
    )
    with rehearsed(tmp_path, *rules) as wire:
        name = wire.batch({**asks(6), "k7": ask("LOCAL:ERROR")})
        found = {answer["key"]: answer for answer in map(json.loads, raw(wire, name))}
        reasons = {
            key: [one["finishReason"] for one in answer["response"]["candidates"]]
            for key, answer in found.items()
            if "response" in answer
        }
        assert reasons == {"k1": ["IMAGE_SAFETY"], "k2": ["PROHIBITED_CONTENT"], "k3": ["NO_IMAGE"], "k6": ["STOP"]}
        usage = found["k1"]["response"]["usageMetadata"]
        assert usage["totalTokenCount"] == usage["promptTokenCount"] + usage["thoughtsTokenCount"]
        assert found["k4"] == {"key": "k4", "error": {"code": 13, "message": "Rehearsed trouble."}}
        assert found["k5"] == {"key": "k5", "status": {"code": 8, "message": "Full."}}
        counts = wire.ended(name)["metadata"]["batchStats"]
        assert counts == {"requestCount": "7", "successfulRequestCount": "4", "failedRequestCount": "3"}


def test_a_refusal_may_have_any_words_and_be_of_the_prompt_or_beside_a_picture(tmp_path):
    rules = (
        "on: line, do: block, reason: SPII, message: Not him., key: k1",
        "on: line, do: block, reason: JAILBREAK, under: prompt, key: k2",
        "on: line, do: block, reason: TIRED, picture: true, key: k3",
        "on: line, do: error, code: 499, key: k4",
    )
    with rehearsed(tmp_path, *rules) as wire:
        found = by_key(wire, asks(4))
        [told] = found["k1"]["response"]["candidates"]
        assert (told["finishReason"], told["finishMessage"], told["content"]) == ("SPII", "Not him.", {})
        refused = found["k2"]["response"]
        assert "candidates" not in refused
        assert refused["promptFeedback"]["blockReason"] == "JAILBREAK"
        assert refused["usageMetadata"].keys() == {"promptTokenCount", "totalTokenCount"}
        assert found["k3"]["response"]["candidates"][0]["finishReason"] == "TIRED"
        assert picture_of(found["k3"]["response"])[0].size == (1024, 1024)
        assert found["k4"]["error"]["code"] == 499


def test_answers_may_be_odd_and_no_error(tmp_path):
    rules = (
        "on: line, do: text, message: Rather not., key: k1",
        "on: line, do: signature, key: k2",
        "on: line, do: thoughts, key: k3",
        "on: line, do: several, pictures: 3, key: k4",
        "on: line, do: urlsafe, key: k5",
    )
    with rehearsed(tmp_path, *rules, pictures="drawn") as wire:
        found = {key: answer["response"] for key, answer in by_key(wire, asks(6)).items()}
    parts = {key: response["candidates"][0]["content"]["parts"] for key, response in found.items()}
    used = {key: response["usageMetadata"] for key, response in found.items()}
    assert parts["k1"] == [{"text": "Rather not."}]
    assert [list(part) for part in parts["k2"]] == [["thoughtSignature"]]
    assert [sorted(part.keys() - {"thoughtSignature"}) for part in parts["k3"]] == [
        *(["text", "thought"], ["inlineData", "thought"], ["text"], ["inlineData"]),
    ]
    drawn = [part["inlineData"]["data"] for part in parts["k4"] if "inlineData" in part]
    assert len(set(drawn)) == len({part["thoughtSignature"] for part in parts["k4"] if "inlineData" in part}) == 3
    counted = {key: usage.get("candidatesTokensDetails", [{"tokenCount": 0}])[0] for key, usage in used.items()}
    assert {key: told["tokenCount"] for key, told in counted.items()} == {
        "k1": 0,
        "k2": 0,
        "k3": 1120,
        "k4": 3360,
        "k5": 1120,
        "k6": 1120,
    }
    for usage in used.values():
        told = ("promptTokenCount", "candidatesTokenCount", "thoughtsTokenCount")
        assert usage["totalTokenCount"] == sum(usage.get(name, 0) for name in told)
    data = next(part["inlineData"]["data"] for part in parts["k5"] if "inlineData" in part)
    assert not set(data) & set("+/=")
    assert {"-", "_"} & set(data)


def test_pictures_may_be_damaged_or_of_another_size(tmp_path):
    with rehearsed(tmp_path, "on: line, do: wrong_size, key: k1", "on: line, do: corrupt, key: k2") as wire:
        found = by_key(wire, asks(3))
        small, _ = picture_of(found["k1"]["response"])
        assert (small.format, small.size) == ("JPEG", (512, 512))
        [data] = [
            base64.b64decode(part["inlineData"]["data"])
            for part in found["k2"]["response"]["candidates"][0]["content"]["parts"]
            if "inlineData" in part
        ]
        with pytest.raises(OSError, match="truncated"), Image.open(BytesIO(data)) as image:
            image.load()
        turns = [{"role": "user", "parts": [{"text": "an owl"}]}, found["k1"]["response"]["candidates"][0]["content"]]
        again = {"contents": [*turns, {"role": "user", "parts": [{"text": "at night"}]}]}
        assert wire.ok("POST", f"/v1beta/models/{MODEL}:generateContent", again)["candidates"]


def test_lines_are_chosen_by_number_and_by_share_and_never_by_luck(tmp_path):
    rules = ("on: line, do: error, every: 3", "on: line, do: missing, share: 0.3, seed: 2")

    def found(folder):
        folder.mkdir()
        with rehearsed(folder, *rules) as wire:
            answers = by_key(wire, {f"k{n}": ask("LOCAL:NOIMAGE") for n in range(1, 41)})
            return {key: "error" in answer for key, answer in answers.items()}

    first = found(tmp_path / "first")
    assert found(tmp_path / "again") == first
    assert all(first[f"k{n}"] for n in range(3, 41, 3))
    assert 3 < 40 - len(first) < 20


def test_a_rule_on_lines_counts_batches(tmp_path):
    with rehearsed(tmp_path, "on: line, do: error, after: 1, times: 1") as wire:
        assert ["error" in by_key(wire, asks(1))["k1"] for _ in range(3)] == [False, True, False]


def test_inlined_answers_have_their_troubles_too(tmp_path):
    rules = (
        "on: line, do: error, details: true, key: detailed",
        "on: line, do: other_key, key: moved",
        "on: line, do: malformed, key: torn",
    )
    with rehearsed(tmp_path, *rules) as wire, sdk(wire.url) as client:
        keys = ("good", "detailed", "moved", "torn")
        requests = [types.InlinedRequest(contents="an owl", metadata={"key": key}) for key in keys]
        job = client.batches.create(model=MODEL, src=requests)
        output = wire.ended(job.name)["metadata"]["output"]["inlinedResponses"]["inlinedResponses"]
        assert sorted(answer["metadata"]["key"] for answer in output) == ["detailed", "good", "moved-of-another"]
        with pytest.raises(pydantic.ValidationError):  # which is what makes this worth a rehearsal
            client.batches.get(name=job.name)


def test_a_cancel_between_rehearsed_lines_accounts_for_all_others(tmp_path):
    rules = ("on: line, do: missing, key: k1", "on: line, do: duplicate, key: k2")
    with rehearsed(tmp_path, *rules, latency_s=100) as wire:
        name = wire.batch(asks(30))
        wire.advance(60)
        while wire.ok("GET", f"/v1beta/{name}")["metadata"]["batchStats"].get("successfulRequestCount") is None:
            pass
        wire.ok("POST", f"/v1beta/{name}:cancel", b"")
        keys = Counter(json.loads(line)["key"] for line in raw(wire, name))
        assert keys == {"k2": 2, **{f"k{n}": 1 for n in range(3, 31)}}


# Files


def test_a_file_may_be_processed_for_a_while(tmp_path):
    with rehearsed(tmp_path, "on: file, do: processing, gets: 2") as wire:
        file = wire.upload(b"x", name="slow")
        assert file["state"] == "PROCESSING"
        body = {"batch": {"inputConfig": {"fileName": "files/slow"}}}
        assert wire.refused("POST", f"/v1beta/models/{MODEL}:batchGenerateContent", body)[:2] == (
            400,
            "FAILED_PRECONDITION",
        )
        assert wire.ok("GET", "/v1beta/files")["files"][0]["state"] == "PROCESSING"
        states = [wire.ok("GET", "/v1beta/files/slow")["state"] for _ in range(3)]
        assert states == ["PROCESSING", "PROCESSING", "ACTIVE"]


def test_a_file_may_fail_or_be_gone_or_be_told_another_hash(tmp_path):
    rules = (
        "on: file, do: failed, key: failed",
        "on: file, do: gone, key: gone",
        "on: file, do: wrong_hash, key: 'odd*'",
    )
    with rehearsed(tmp_path, *rules) as wire:
        good, odd = wire.upload(b"x", name="good"), wire.upload(b"x", name="odd-one")
        assert good["sha256Hash"] != odd["sha256Hash"]
        assert len(base64.b64decode(odd["sha256Hash"])) == 64
        assert wire.upload(b"x", name="failed")["state"] == "FAILED"
        assert wire.ok("GET", "/v1beta/files/failed")["error"]["code"] == 13
        wire.upload(b"x", name="gone")
        assert wire.refused("GET", "/v1beta/files/gone")[:2] == (403, "PERMISSION_DENIED")
        assert sorted(file["name"] for file in wire.ok("GET", "/v1beta/files")["files"]) == [
            *("files/failed", "files/good", "files/odd-one"),
        ]
