"""Rehearsed trouble: the language of faults files, when rules strike, and what happens to calls."""

from __future__ import annotations

import http.client
import json
import os
import re
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from contextlib import contextmanager

import pytest
from conftest import ROOT
from google.genai import errors
from local_wire import KEY, MODEL, Wire, ask, chunk, lines, sdk

from pipeline.local import FaultsError, faults, server, serving
from pipeline.local.faultsfile import read

CREATE = f"/v1beta/models/{MODEL}:batchGenerateContent"
CREATES = [{"batch": {"displayName": "owls", "inputConfig": {"requests": {"requests": [{"request": ask()}]}}}}]


@contextmanager
def rehearsed(folder, *rules, **options):
    """A service with these rules, each a line of YAML."""
    path = folder / "faults.yaml"
    path.write_text("".join(f"- {{{rule}}}\n" for rule in rules))
    options = {"latency_s": 0, "pictures": "plain", **options}
    with serving(folder / "state", faults=path, **options) as url:
        yield Wire(url)


def code(wire, method="GET", path="/v1beta/batches", body=None):
    """What a call comes to: its HTTP code, or `dropped`."""
    try:
        return wire(method, path, body)[0]
    except (OSError, http.client.HTTPException):
        return "dropped"


def created(wire):
    return [entry["name"] for entry in wire.ok("GET", "/_local/ledger") if entry["op"] == "batches.create"]


# The language


@pytest.mark.parametrize(
    ("text", "line", "complaint"),
    [
        ("on: batches.create", 1, "rules are a list"),
        ("- on: batches.create\n  do: drop_aftr", 2, "'drop_aftr' is not known; did you mean drop_after?"),
        ("- {on: batches.crate, do: drop_after}", 1, "'batches.crate' is not known; did you mean batches.create?"),
        ("\n- do: drop_after", 2, "a rule needs on: batches.create"),
        ("- on: batch", 1, "a rule needs do: pending"),
        ("- {on: batch, do: drop_after}", 1, "'drop_after' is not known"),
        ("- {on: batch, do: fail, tims: 1}", 1, "'tims' is not known here; did you mean times?"),
        ("- {on: batch, do: fail, probability: 1}", 1, "'probability' is not known here; a rule on batch"),
        ("- {on: batch, do: fail, times: 0}", 1, "times: 0 does not fit: it is a whole number, 1 or more"),
        ("- {on: batch, do: fail, times: yes}", 1, "times: True does not fit"),
        ("- {on: line, do: error, share: 1.5}", 1, "share: 1.5 does not fit: it is a number from 0 to 1"),
        ("- {on: line, do: error, code: 17}", 1, "code: 17 does not fit"),
        ("- {on: batches.get, do: refuse, code: 418}", 1, "code: 418 does not fit: it is one of 400, 401"),
        ("- {on: batches.get, do: twice}", 1, "twice happens to batches.create only"),
        ("- {on: batch, do: fail}\n- {on: batch, do: fail, do: fail}", 2, "do is said twice"),
        ("- {on: files.download, do: truncate, part: 0.5, bytes: 5}", 1, "either bytes or part"),
        ("- pending", 1, "a rule is a mapping"),
        ("- {? [a] : b}", 1, "a rule has words before its colons"),
        ("- {on: *, do: refuse}", 1, 'a * needs quotes: on: "*"'),
        ("- {on: batch, do: !!python/none x}", 1, "None is not known"),
    ],
)
def test_what_is_wrong_with_a_faults_file_is_told_with_its_place(tmp_path, text, line, complaint):
    path = tmp_path / "faults.yaml"
    path.write_text(text)
    with pytest.raises(FaultsError) as caught, serving(tmp_path / "state", faults=path):
        pass
    assert not (tmp_path / "state").exists(), "before anything is served"
    problem = caught.value.problems[0]
    assert problem.line == line
    assert complaint in problem.message
    assert problem.source == text.splitlines()[line - 1]


def test_all_that_is_wrong_is_told_at_once_and_the_command_ends_with_2(project):
    project.write("bad.yaml", "- {on: batch, do: fial}\n- {on: lines, do: error}\n")
    ended = project("serve", "--faults", "bad.yaml")
    assert ended.code == 2
    assert ended.err == (
        "bad.yaml:1:15: error: do: 'fial' is not known; did you mean fail?\n"
        "     1 | - {on: batch, do: fial}\n"
        "       |               ^\n"
        "bad.yaml:2:4: error: on: 'lines' is not known; did you mean line?\n"
        "     2 | - {on: lines, do: error}\n"
        "       |    ^\n"
    )
    assert "nowhere.yaml: error: No such file" in project("serve", "--faults", "nowhere.yaml").err


def test_a_run_reads_its_faults_file_from_the_environment(project, monkeypatch):
    project.write("jobs/one.yaml", "prompt: an owl\n")
    project.write("bad.yaml", "- {on: batch, do: fial}\n")
    monkeypatch.setenv("PIPELINE_LOCAL_FAULTS", "bad.yaml")
    ended = project("--service", "local", "run", "jobs/one.yaml", "--yes")
    assert (ended.code, "did you mean fail?" in ended.err) == (2, True)
    assert not (project.outputs / ".local-service").exists()


def test_an_empty_file_of_rules_is_no_trouble(tmp_path):
    with rehearsed(tmp_path) as wire:
        assert code(wire) == 200
    assert read(tmp_path / "faults.yaml") == ()


def test_every_call_of_the_service_can_be_named():
    assert set(server._NAMES.values()) == set(faults.CALLS)
    assert set(server._NAMES) == {route for _, pattern, route in server._ROUTES if "_local" not in pattern.pattern} | {
        server.files.transfer
    }


# When a rule strikes


@pytest.mark.parametrize(
    ("when", "expected"),
    [
        ("", "xxxxxxxx"),
        ("times: 2", "xx------"),
        ("after: 3", "---xxxxx"),
        ("after: 1, times: 1", "-x------"),
        ("every: 3", "--x--x--"),
        ("after: 1, every: 2, times: 2", "--x-x---"),
        ("probability: 0", "--------"),
        ("probability: 1", "xxxxxxxx"),
    ],
)
def test_a_rule_strikes_when_it_says(tmp_path, when, expected):
    with rehearsed(tmp_path, f"on: batches.list, do: refuse, {when}") as wire:
        assert code(wire, path="/v1beta/files") == 200, "another call is another matter"
        assert "".join("-x"[code(wire) == 503] for _ in range(8)) == expected
        [shown] = wire.ok("GET", "/_local/faults")
    assert shown == {"rule": 1, "on": "batches.list", "do": "refuse", "seen": 8, "struck": expected.count("x")}


def test_chance_is_the_same_for_the_same_seed(tmp_path):
    def struck(name, seed):
        (tmp_path / name).mkdir()
        with rehearsed(tmp_path / name, f"on: '*', do: refuse, probability: 0.5, seed: {seed}") as wire:
            return [code(wire) for _ in range(24)]

    first = struck("a", 1)
    assert struck("b", 1) == first
    assert struck("c", 2) != first
    assert 4 < first.count(503) < 20


def test_of_two_rules_the_first_strikes_and_both_count(tmp_path):
    rules = ("on: batches.list, do: refuse, code: 429, times: 1", "on: '*', do: refuse, code: 500, times: 1")
    with rehearsed(tmp_path, *rules) as wire:
        assert [code(wire) for _ in range(3)] == [429, 500, 200]
        assert [rule["seen"] for rule in wire.ok("GET", "/_local/faults")] == [3, 3]


def test_a_service_that_was_stopped_goes_on_counting_where_it_was(tmp_path):
    rule = "on: batches.list, do: refuse, after: 1, times: 2"
    seen = []
    for _ in range(4):
        with rehearsed(tmp_path, rule) as wire:
            seen.append(code(wire))
    assert seen == [200, 503, 503, 200]
    with rehearsed(tmp_path, rule.replace("times: 2", "times: 3")) as wire:
        assert code(wire) == 200, "another rule begins at nought"
        assert code(wire) == 503


def test_killed_and_served_again_it_goes_on_counting(project):
    project.write("faults.yaml", "- {on: batches.list, do: refuse, after: 1, times: 2}\n")
    command = [sys.executable, "-m", "pipeline", "serve", "--port", "0", "--faults", "faults.yaml"]
    seen = []
    for _ in range(4):
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        with subprocess.Popen(
            command, cwd=project.folder, env=environment, stdout=subprocess.PIPE, text=True
        ) as served:
            seen.append(code(Wire(served.stdout.readline().strip())))
            served.kill()
    assert seen == [200, 503, 503, 200]


# What happens to calls


def test_a_refusal_says_what_the_rule_says(tmp_path):
    rules = (
        "on: batches.create, do: refuse, code: 429, retry_after: 7.5, message: Slow down., times: 1",
        "on: batches.list, do: refuse, code: 403, status: ODD",
    )
    with rehearsed(tmp_path, *rules) as wire:
        got, answer, headers = wire("POST", CREATE, CREATES[0])
        info = {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "7.5s"}
        error = {"code": 429, "message": "Slow down.", "status": "RESOURCE_EXHAUSTED", "details": [info]}
        assert (got, answer, headers["Retry-After"]) == (429, {"error": error}, "8")
        assert created(wire) == []
        assert wire.refused("GET", "/v1beta/batches") == (403, "ODD", "Rehearsed trouble.")
        with sdk(wire.url) as client, pytest.raises(errors.ClientError) as refused:
            client.batches.list()
        assert (refused.value.code, refused.value.status) == (403, "ODD")


@pytest.mark.parametrize(
    ("do", "comes_to", "batches"),
    [
        pytest.param("drop_before", "dropped", 0, id="never arrived"),
        pytest.param("drop_after", "dropped", 1, id="accepted, and the answer lost"),
        pytest.param("refuse", 503, 0, id="refused"),
        pytest.param("refuse, done: true", 503, 1, id="accepted, and said to be refused"),
        pytest.param("twice", 200, 2, id="one call, two batches"),
        pytest.param("delay, seconds: 0.01", 200, 1, id="late"),
        pytest.param("slow, rate: 100000", 200, 1, id="slow"),
    ],
)
def test_a_create_may_be_lost_on_either_way_and_the_ledger_knows(tmp_path, do, comes_to, batches):
    with rehearsed(tmp_path, f"on: batches.create, do: {do}") as wire:
        assert code(wire, "POST", CREATE, CREATES[0]) == comes_to
        assert len(created(wire)) == batches
        assert len(wire.ok("GET", "/v1beta/batches").get("operations", ())) == batches


@pytest.mark.parametrize(
    ("do", "kind"),
    [
        pytest.param("html", errors.ServerError, id="a page of a gateway"),
        pytest.param("html, code: 200", json.JSONDecodeError, id="a page that says it is fine"),
        pytest.param("truncate", json.JSONDecodeError, id="cut in the middle"),
        pytest.param("truncate, length: short", json.JSONDecodeError, id="cut, and the length says so"),
        pytest.param("refuse, code: 401", errors.ClientError, id="key refused"),
    ],
)
def test_an_answer_may_be_no_json(tmp_path, do, kind):
    length = "" if "truncate" not in do or "length" in do else ", length: none"
    with rehearsed(tmp_path, f"on: batches.list, do: {do}{length}") as wire, sdk(wire.url) as client:
        with pytest.raises(kind):
            client.batches.list()
        assert list(client.files.list()) == []


def test_an_answer_may_be_empty(tmp_path):
    with rehearsed(tmp_path, "on: batches.create, do: empty") as wire, sdk(wire.url) as client:
        job = client.batches.create(model=MODEL, src=[{"contents": [{"parts": [{"text": "an owl"}]}]}])
        assert (job.name, job.state) == (None, None), "as the client makes of nothing"
        assert len(created(wire)) == 1


def test_a_page_of_a_gateway_may_hide_what_was_done(tmp_path):
    with rehearsed(tmp_path, "on: batches.create, do: html, done: true") as wire:
        request = urllib.request.Request(wire.url + CREATE, json.dumps(CREATES[0]).encode(), {"x-goog-api-key": KEY})
        with pytest.raises(urllib.error.HTTPError) as page:
            urllib.request.urlopen(request, timeout=20)
        with page.value as reply:
            assert (reply.code, reply.headers["Content-Type"]) == (502, "text/html; charset=UTF-8")
            assert reply.read().startswith(b"<!DOCTYPE html>")
        assert len(created(wire)) == 1


@pytest.mark.parametrize(
    ("how", "told", "sent"),
    [
        ("bytes: 100, length: full", "all", 100),
        ("bytes: 100, length: short", 100, 100),
        ("bytes: 100, length: none", None, 100),
        ("part: 0.5", "all", "half"),
        ("bytes: 0", "all", 0),
    ],
)
def test_a_download_may_be_cut_with_and_without_a_true_length(tmp_path, how, told, sent):
    with rehearsed(tmp_path, f"on: files.download, do: truncate, times: 1, {how}") as wire:
        name = wire.batch({"a": ask()})
        path = f"/v1beta/{wire.ended(name)['response']['responsesFile']}:download?alt=media"
        connection = http.client.HTTPConnection(wire.url.removeprefix("http://"), timeout=20)
        connection.request("GET", path, headers={"x-goog-api-key": KEY})
        reply = connection.getresponse()
        length = reply.headers["Content-Length"]
        try:
            content = reply.read()
        except http.client.IncompleteRead as cut:
            content = cut.partial
        connection.close()
        whole = json.dumps(wire.answers(name)[0], separators=(",", ":"))
        size = len(whole) + 1
        assert length == {None: None, "all": str(size)}.get(told, str(told))
        assert len(content) == (size // 2 if sent == "half" else sent)


def test_a_slow_answer_drips(tmp_path):
    with rehearsed(tmp_path, "on: models.list, do: slow, rate: 20000") as wire, sdk(wire.url) as client:
        before = time.monotonic()
        size = len(json.dumps({"models": [model.model_dump() for model in client.models.list()]}))
        assert time.monotonic() - before > size / 20000 / 4


def test_the_last_page_may_be_followed_by_an_empty_one(tmp_path):
    rules = [f"on: {what}.list, do: empty_page" for what in ("batches", "files", "models")]
    with rehearsed(tmp_path, *rules) as wire, sdk(wire.url) as client:
        wire.batch({"a": ask()})
        for what in ("batches", "files", "models"):
            token = wire.ok("GET", f"/v1beta/{what}")["nextPageToken"]
            assert wire.ok("GET", f"/v1beta/{what}?pageToken={token}") == {}
        with pytest.raises(IndexError):
            list(client.batches.list())


def start(wire, size):
    headers = {"X-Goog-Upload-Protocol": "resumable", "X-Goog-Upload-Command": "start"}
    body = {"file": {"mimeType": "text/plain", "sizeBytes": size}}
    return wire("POST", "/upload/v1beta/files", body, headers=headers)[2]["X-Goog-Upload-URL"]


def test_a_chunk_refused_without_a_status_is_sent_again_and_taken_once(tmp_path):
    rules = (
        "on: files.chunk, do: refuse, times: 1",
        "on: files.chunk, do: 'refuse', done: true, times: 1",
    )
    with rehearsed(tmp_path, *rules) as wire:
        url = start(wire, 10)
        got, _, told = chunk(wire, url, b"01234", 0)
        assert (got, told["X-Goog-Upload-Status"]) == (503, None), "not done"
        got, _, told = chunk(wire, url, b"01234", 0)
        assert (got, told["X-Goog-Upload-Status"]) == (503, None), "done, and not said"
        assert chunk(wire, url, b"01234", 0)[2]["X-Goog-Upload-Status"] == "active"
        assert chunk(wire, url, b"56789", 5, "upload, finalize")[1]["file"]["sizeBytes"] == "10"


def test_a_connection_may_break_in_the_middle_of_a_chunk(tmp_path):
    with rehearsed(tmp_path, "on: files.chunk, do: drop_before, times: 1") as wire:
        url = start(wire, 1 << 20)
        with pytest.raises(OSError, match=r"reset|[Bb]roken|closed|aborted|Remote"):
            chunk(wire, url, bytes(1 << 20), 0, "upload, finalize")
        assert chunk(wire, url, bytes(1 << 20), 0, "upload, finalize")[1]["file"]["sizeBytes"] == str(1 << 20)


def test_trouble_at_one_call_leaves_the_next_one_on_the_connection_alone(tmp_path):
    with rehearsed(tmp_path, "on: batches.list, do: refuse, times: 1") as wire:
        connection = http.client.HTTPConnection(wire.url.removeprefix("http://"), timeout=20)
        for expected in (503, 200):
            connection.request("GET", "/v1beta/batches", headers={"x-goog-api-key": KEY})
            reply = connection.getresponse()
            assert (reply.status, bool(reply.read())) == (expected, True)
        assert isinstance(connection.sock, socket.socket)
        connection.close()


def test_two_calls_are_told_apart_and_a_star_means_all(tmp_path):
    with rehearsed(tmp_path, "on: '*', do: refuse, code: 500") as wire:
        file = lines({"a": ask()})
        for method, path, body in (
            ("GET", "/v1beta/models", None),
            ("GET", f"/v1beta/models/{MODEL}", None),
            ("POST", f"/v1beta/models/{MODEL}:generateContent", ask()),
            ("POST", f"/v1beta/models/{MODEL}:countTokens", ask()),
            ("POST", "/upload/v1beta/files", {"file": {}}),
            ("POST", "/upload/v1beta/files?upload_id=x", file),
            ("DELETE", "/v1beta/files/x", None),
            ("GET", "/v1beta/files/x:download", None),
        ):
            assert code(wire, method, path, body) == 500
        assert re.match(r"\[\{", json.dumps(wire.ok("GET", "/_local/faults"))), "its own calls are left alone"
