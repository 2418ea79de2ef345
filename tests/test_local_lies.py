"""Rehearsed trouble: replies that lie, files of answers that come otherwise, and pictures that are none."""

from __future__ import annotations

import base64
import gzip
import http.client
import json
import socket
import threading
import time
from contextlib import contextmanager
from datetime import datetime
from email.utils import parsedate_to_datetime
from io import BytesIO

import pytest
from local_wire import KEY, ask
from PIL import Image
from test_local_fates import asks, raw
from test_local_faults import CREATE, CREATES, code, created, rehearsed, start

from pipeline import images


@contextmanager
def replied(wire, path="/v1beta/batches", method="GET", body=None, timeout=20):
    """The reply as it comes over the wire, before anybody has made sense of it."""
    connection = http.client.HTTPConnection(wire.url.removeprefix("http://"), timeout=timeout)
    try:
        connection.request(method, path, body, {"x-goog-api-key": KEY})
        yield connection.getresponse()
    finally:
        connection.close()


# Calls


@pytest.mark.parametrize(
    ("told", "header", "details"),
    [
        ("both", "7", ["7s"]),
        ("header", "7", []),
        ("details", None, ["7s"]),
        ("date", "date", []),
    ],
)
def test_how_long_to_wait_is_told_in_one_of_four_ways(tmp_path, told, header, details):
    rule = f"on: batches.list, do: refuse, code: 429, retry_after: 7, retry_in: {told}"
    with rehearsed(tmp_path, rule) as wire:
        _code, answer, headers = wire("GET", "/v1beta/batches")
    after = headers["Retry-After"]
    assert header in {"date", after}
    if header == "date":
        assert 0 < parsedate_to_datetime(after).timestamp() - time.time() <= 8
    assert [one["retryDelay"] for one in answer["error"].get("details", ())] == details


def test_a_refusal_may_name_its_reason_for_programs(tmp_path):
    with rehearsed(tmp_path, "on: batches.list, do: refuse, code: 400, reason: API_KEY_INVALID") as wire:
        [detail] = wire("GET", "/v1beta/batches")[1]["error"]["details"]
    assert (detail["reason"], detail["domain"]) == ("API_KEY_INVALID", "googleapis.com")


def test_only_so_many_batches_may_be_at_work(tmp_path):
    with rehearsed(tmp_path, "on: batches.create, do: limit, running: 2", latency_s=100) as wire:
        assert [code(wire, "POST", CREATE, CREATES[0]) for _ in range(3)] == [200, 200, 429]
        wire.advance(200)
        for name in created(wire):
            wire.ended(name)
        assert code(wire, "POST", CREATE, CREATES[0]) == 200


@pytest.mark.parametrize("done", [False, True])
def test_a_redirect_leads_elsewhere_and_may_hide_what_was_done(tmp_path, done):
    rule = f"on: batches.create, do: redirect, code: 302, to: 'http://127.0.0.1:9/x', done: {str(done).lower()}"
    body = json.dumps(CREATES[0])
    with rehearsed(tmp_path, rule) as wire, replied(wire, CREATE, "POST", body) as reply:
        assert (reply.status, reply.headers["Location"]) == (302, "http://127.0.0.1:9/x")
        assert len(created(wire)) == done


def test_an_upload_may_be_sent_elsewhere(tmp_path):
    with rehearsed(tmp_path, "on: files.upload, do: elsewhere, to: 'http://127.0.0.1:9/theirs'") as wire:
        assert start(wire, 10) == "http://127.0.0.1:9/theirs"


def served():
    """The connections that are being seen to."""
    return [thread for thread in threading.enumerate() if "process_request" in thread.name]


@pytest.mark.parametrize("done", [False, True])
def test_a_call_may_hang_until_the_client_has_gone(tmp_path, done):
    rule = f"on: batches.create, do: hang, done: {str(done).lower()}"
    with rehearsed(tmp_path, rule) as wire:
        with pytest.raises(socket.timeout), replied(wire, CREATE, "POST", json.dumps(CREATES[0]), timeout=0.3):
            pass
        until = time.monotonic() + 10
        while served() and time.monotonic() < until:
            pass
        assert not served(), "nobody waits for who has gone"
        assert len(created(wire)) == done


def test_a_call_that_hangs_ends_after_its_time(tmp_path):
    with rehearsed(tmp_path, "on: batches.list, do: hang, seconds: 0.1") as wire:
        assert code(wire) == "dropped"


@pytest.mark.parametrize(
    ("how", "low", "high"),
    [
        ("ahead: 86400", 86390, 86410),
        ("ahead: -3600", -3610, -3590),
        ("as: nothing", None, None),
        ("as: words", "words", "words"),
    ],
)
def test_the_clock_of_a_reply_may_be_off(tmp_path, how, low, high):
    with rehearsed(tmp_path, f"on: batches.list, do: date, {how}") as wire, replied(wire) as reply:
        date = reply.headers["Date"]
    if isinstance(low, int):
        assert low < parsedate_to_datetime(date).timestamp() - time.time() < high
    else:
        assert date == {None: None, "words": "the day after tomorrow"}[low]


@pytest.mark.parametrize(
    ("shape", "said"),
    [("object", {}), ("list", []), ("nothing", None), ("number", 42), ("words", "Rehearsed trouble.")],
)
def test_a_reply_may_be_json_of_another_shape_though_it_is_done(tmp_path, shape, said):
    with rehearsed(tmp_path, f"on: batches.create, do: json, as: {shape}") as wire:
        assert wire.ok("POST", CREATE, CREATES[0]) == said
        assert len(created(wire)) == 1


@pytest.mark.parametrize("shape", ["deep", "nan"])
def test_a_reply_may_be_json_that_is_hardly_any(tmp_path, shape):
    with rehearsed(tmp_path, f"on: batches.list, do: json, as: {shape}") as wire, replied(wire) as reply:
        content = reply.read()
    assert content == b'{"name": NaN, "done": Infinity}' if shape == "nan" else len(content) == 200_000


@pytest.mark.parametrize(
    ("how", "name"),
    [("other", "batches/another"), ("missing", None), ("number", 7), ("path", "../../../etc/passwd")],
)
def test_what_was_made_may_be_told_under_another_name(tmp_path, how, name):
    with rehearsed(tmp_path, f"on: batches.create, do: mislabel, as: {how}") as wire:
        told = wire.ok("POST", CREATE, CREATES[0])
        assert (told.get("name"), told["metadata"].get("name")) == (name, name)
        assert told["metadata"]["displayName"] == "owls"
        assert created(wire) not in ([], [name])


def test_what_was_made_may_be_told_under_another_display_name(tmp_path):
    with rehearsed(tmp_path, "on: batches.create, do: mislabel, field: display_name") as wire:
        assert wire.ok("POST", CREATE, CREATES[0])["metadata"]["displayName"] == "another"


def test_headers_may_be_longer_than_anybody_reads(tmp_path):
    with rehearsed(tmp_path, "on: batches.list, do: header, bytes: 130000") as wire, replied(wire) as reply:
        assert sum(len(value) for name, value in reply.getheaders() if name.startswith("X-Rehearsed")) == 130_000


def listed(wire, *names):
    wire.ok("POST", CREATE, CREATES[0])
    return wire.ok("GET", "/v1beta/batches")


def test_a_list_may_go_round_in_circles(tmp_path):
    with rehearsed(tmp_path, "on: batches.list, do: repeat_page") as wire:
        token = listed(wire)["nextPageToken"]
        again = wire.ok("GET", f"/v1beta/batches?pageToken={token}")
        assert again["nextPageToken"] == token
        assert len(again["operations"]) == 1


def test_a_list_may_stop_early_and_say_that_it_is_whole(tmp_path):
    with rehearsed(tmp_path, "on: batches.list, do: stop_early, items: 1") as wire:
        for _ in range(3):
            told = listed(wire)
        assert (len(told["operations"]), "nextPageToken" in told) == (1, False)
    (tmp_path / "b").mkdir()
    with rehearsed(tmp_path / "b", "on: batches.list, do: stop_early") as wire:
        assert listed(wire) == {}


@pytest.mark.parametrize("same", [False, True])
def test_a_list_may_hold_a_batch_that_is_not_there(tmp_path, same):
    with rehearsed(tmp_path, f"on: batches.list, do: stranger, same_name: {str(same).lower()}") as wire:
        stranger, ours = listed(wire)["operations"]
        assert (stranger["metadata"]["displayName"] == ours["metadata"]["displayName"]) == same
        assert code(wire, path=f"/v1beta/{stranger['name']}") == 404
        assert code(wire, path=f"/v1beta/{ours['name']}") == 200


# Bytes


def downloaded(wire, requests):
    file = wire.ended(wire.batch(requests))["response"]["responsesFile"]
    return f"/v1beta/{file}:download?alt=media"


def test_one_bit_of_a_reply_may_be_another(tmp_path):
    with rehearsed(tmp_path, "on: files.download, do: flip, at: 0.5, times: 1") as wire:
        path = downloaded(wire, {"a": ask()})
        with replied(wire, path) as first:
            cut = first.read()
        with replied(wire, path) as second:
            whole = second.read()
    [(one, other)] = [pair for pair in zip(cut, whole, strict=True) if pair[0] != pair[1]]
    assert one ^ other == 1


def test_a_reply_may_swell(tmp_path):
    rules = (
        "on: models.list, do: gzip",
        "on: files.list, do: bomb, bytes: 5000000",
        "on: batches.list, do: bomb, bytes: 5000, compressed: false",
    )
    with rehearsed(tmp_path, *rules) as wire:
        with replied(wire, "/v1beta/models") as reply:
            assert reply.headers["Content-Encoding"] == "gzip"
            assert "models" in json.loads(gzip.decompress(reply.read()))
        with replied(wire, "/v1beta/files") as reply:
            content = reply.read()
            assert len(content) < 10_000
            assert len(gzip.decompress(content)) > 5_000_000
        with replied(wire) as reply:
            content = reply.read()
            assert (reply.headers["Content-Encoding"], len(content), json.loads(content)) == (None, 5002, {})


def test_a_download_may_be_a_part_that_nobody_asked_for_or_end_in_the_middle_of_its_chunks(tmp_path):
    rules = (
        "on: files.download, do: partial, times: 1",
        "on: files.download, do: truncate, length: chunked, times: 1",
    )
    with rehearsed(tmp_path, *rules) as wire:
        path = downloaded(wire, {"a": ask()})
        with replied(wire, path) as reply:
            size = len(reply.read())
            assert (reply.status, reply.headers["Content-Range"]) == (206, f"bytes 0-{size - 1}/{2 * size + 1}") or (
                reply.headers["Content-Range"] == f"bytes 0-{size - 1}/{2 * size}"
            )
        with replied(wire, path) as reply, pytest.raises(http.client.IncompleteRead):
            assert reply.headers["Transfer-Encoding"] == "chunked"
            reply.read()


def test_a_download_may_hold_the_answer_of_another_batch(tmp_path):
    with rehearsed(tmp_path, "on: files.download, do: other_answer") as wire:
        first, second = downloaded(wire, {"a": ask()}), downloaded(wire, {"b": ask()})
        keys = []
        for path in (first, second):
            with replied(wire, path) as reply:
                keys.append(json.loads(reply.read())["key"])
    assert keys == ["b", "a"]


# Batches


@pytest.mark.parametrize(
    ("how", "seen"),
    [
        ("job_state", lambda told: told["metadata"]["state"] == "JOB_STATE_SUCCEEDED"),
        ("top_level", lambda told: told["state"] == "BATCH_STATE_SUCCEEDED" and "metadata" not in told),
        ("snake_case", lambda told: "display_name" in told["metadata"] and "responses_file" in told["response"]),
        ("response_only", lambda told: "output" not in told["metadata"] and "responsesFile" in told["response"]),
        ("stateless", lambda told: "state" not in told["metadata"] and told["done"]),
    ],
)
def test_a_batch_may_be_told_in_another_shape(tmp_path, how, seen):
    with rehearsed(tmp_path, f"on: batch, do: shape, as: {how}") as wire:
        assert seen(wire.ended(wire.batch({"a": ask()})))


def looks(wire, name, number):
    """What so many looks at a batch that has ended find: its state, whether it has an answer, or an error's code."""
    found = []
    for _ in range(number):
        got, told, _headers = wire("GET", f"/v1beta/{name}")
        state = told.get("metadata", {}).get("state", "").removeprefix("BATCH_STATE_")
        found.append(f"{state}{'+' if 'output' in told.get('metadata', {}) else ''}" if got == 200 else got)
    return found


@pytest.mark.parametrize(
    ("do", "found"),
    [
        ("backward, gets: 2", ["RUNNING", "RUNNING", "SUCCEEDED+"]),
        ("no_output, gets: 2", ["SUCCEEDED", "SUCCEEDED+", "SUCCEEDED+"]),
        ("no_output", ["SUCCEEDED", "SUCCEEDED", "SUCCEEDED"]),
        ("vanish, gets: 2", ["SUCCEEDED+", 404, 404]),
    ],
)
def test_a_batch_may_end_and_be_something_else_at_the_next_look(tmp_path, do, found):
    with rehearsed(tmp_path, f"on: batch, do: {do}") as wire:
        name = wire.batch({"a": ask()})
        wire.ended(name)
        assert looks(wire, name, 3) == found
        if "vanish" in do:
            assert wire.ok("GET", "/v1beta/batches") == {}
            assert code(wire, path=f"/v1beta/files/batch-{name.removeprefix('batches/')}:download?alt=media") == 403


def test_counts_may_lie(tmp_path):
    with rehearsed(tmp_path, "on: batch, do: counts, successful: 7, failed: 2") as wire:
        stats = wire.ended(wire.batch({"a": ask()}))["metadata"]["batchStats"]
    assert stats == {"requestCount": "1", "successfulRequestCount": "7", "failedRequestCount": "2"}


# Answers


@pytest.mark.parametrize(
    ("do", "holds"),
    [
        ("in_order", lambda lines: [json.loads(line)["key"] for line in lines] == sorted(asks(9))),
        ("backwards", lambda lines: [json.loads(line)["key"] for line in lines] == sorted(asks(9), reverse=True)),
        ("repeated", lambda lines: lines[:9] == lines[9:] and len(lines) == 18),
        ("extra", lambda lines: len(lines) == 14 and b"../../.." in lines[0] and lines[4] == b"\n"),
        ("unended", lambda lines: lines[-1].endswith(b"}") and lines[0].endswith(b"\n")),
        ("crlf", lambda lines: all(line.endswith(b"}\r\n") for line in lines) and len(lines) == 9),
        ("bom", lambda lines: lines[0].startswith(b"\xef\xbb\xbf{")),
        ("array", lambda lines: len(lines) == 1 and len(json.loads(lines[0])) == 9),
        ("none", lambda lines: lines == []),
    ],
)
@pytest.mark.some(4)
def test_a_file_of_answers_may_come_otherwise(tmp_path, do, holds):
    with rehearsed(tmp_path, f"on: answers, do: {do}, key: 'ow*'", "on: answers, do: none, key: other") as wire:
        assert holds(raw(wire, wire.batch(asks(9))))


# Lines


def line_of(tmp_path, do):
    """The lines that come of one request."""
    with rehearsed(tmp_path, f"on: line, do: {do}") as wire:
        return raw(wire, wire.batch({"a": ask()}))


@pytest.mark.parametrize(
    ("how", "kinds"),
    [
        ("same", ["response", "response"]),
        ("picture", ["response", "response"]),
        ("error", ["response", "error"]),
        ("error_first", ["error", "response"]),
    ],
)
def test_there_may_be_two_answers_to_a_request(tmp_path, how, kinds):
    first, second = line_of(tmp_path, f"duplicate, as: {how}")
    assert [kind for line in (first, second) for kind in json.loads(line) if kind != "key"] == kinds
    assert (first == second) == (how == "same")


@pytest.mark.some(3)
@pytest.mark.parametrize(
    ("how", "start"),
    [
        ("binary", b"\x00\xff"), ("word", b'"'), ("number", b"42"), ("nothing", b"null"), ("list", b"["),
        ("object", b"{}"), ("deep", b'{"key": [[['), ("digits", b'{"key": "a"'),
    ],
)  # fmt: skip
def test_a_line_may_be_no_answer(tmp_path, how, start):
    [junk, answer] = line_of(tmp_path, f"junk, as: {how}")
    assert junk.startswith(start)
    assert json.loads(answer)["key"] == "a"
    (tmp_path / "b").mkdir()
    assert line_of(tmp_path / "b", f"junk, as: {how}, alone: true") == [junk]


@pytest.mark.parametrize(
    ("how", "key"),
    [("text", "a-of-another"), ("nothing", None), ("number", 7), ("list", ["a"]), ("path", "../../a")],
)
def test_an_answer_may_be_to_another_key(tmp_path, how, key):
    [line] = line_of(tmp_path, f"other_key, as: {how}")
    assert json.loads(line)["key"] == key


def test_an_answer_may_have_no_key(tmp_path):
    [line] = line_of(tmp_path, "other_key, as: missing")
    assert list(json.loads(line)) == ["response"]


@pytest.mark.parametrize(
    ("how", "mark"),
    [
        ("escaped", rb"\/"), ("newlines", rb"\n"), ("separators", "\u2028".encode()), ("surrogate", rb"\ud83d "),
        ("nan", b"NaN"),
    ],
)  # fmt: skip
def test_the_same_answer_may_be_spelled_otherwise(tmp_path, how, mark):
    [line] = line_of(tmp_path, f"spelling, as: {how}")
    assert mark in line
    assert len(picture(line)[1]) > 100


def test_an_answer_may_be_long_and_have_an_error_beside_it_or_nothing(tmp_path):
    for number, (do, kinds, least) in enumerate(
        (("long, bytes: 100000", {"response"}, 100_000), ("both", {"response", "error"}, 0), ("neither", set(), 0))
    ):
        (tmp_path / str(number)).mkdir()
        [line] = line_of(tmp_path / str(number), do)
        assert json.loads(line).keys() - {"key"} == kinds
        assert len(line) > least


def picture(line):
    """The picture of an answer: what it is called, and its bytes."""
    told = json.loads(line)["response"]["candidates"][-1]["content"]["parts"][-1]["inlineData"]
    return told["mimeType"], base64.b64decode(told["data"])


@pytest.mark.some(4)
@pytest.mark.parametrize(
    ("how", "why"),
    [
        ("html", "is an HTML page"), ("svg", "is an SVG"), ("zip", "is a ZIP archive"), ("gif", "is a GIF"),
        ("cut", "is cut off"), ("checksum", "the checksum of chunk"), ("no_end", "is cut off"),
        ("tail", "bytes behind its end"), ("bomb", "60000x60000 pixels"), ("nothing", "is empty"),
    ],
)  # fmt: skip
def test_what_comes_in_place_of_a_picture_is_none(tmp_path, how, why):
    [line] = line_of(tmp_path, f"damage, as: {how}")
    with pytest.raises(images.BrokenImage, match=why):
        images.structure(picture(line)[1])


def test_a_picture_may_be_no_base64(tmp_path):
    [line] = line_of(tmp_path, "damage")
    with pytest.raises(ValueError, match="base64"):
        base64.b64decode(
            json.loads(line)["response"]["candidates"][0]["content"]["parts"][-1]["inlineData"]["data"], validate=True
        )


def test_a_picture_may_be_whole_by_its_frame_and_not_what_it_says(tmp_path):
    (tmp_path / "b").mkdir()
    wide = images.structure(picture(*line_of(tmp_path, "damage, as: size"))[1])
    assert wide.width == 2 * wide.height
    empty = picture(*line_of(tmp_path / "b", "damage, as: no_pixels"))[1]
    assert images.structure(empty).mime == "image/png"
    with pytest.raises(OSError, match=r"decod|unrecognized|broken|truncated"):
        Image.open(BytesIO(empty)).load()


def test_a_picture_may_be_called_what_it_is_not_or_be_the_same_for_all(tmp_path):
    for name in "bc":
        (tmp_path / name).mkdir()
    assert picture(*line_of(tmp_path, "wrong_mime"))[0] == "image/webp"
    with rehearsed(tmp_path / "b", "on: line, do: same_picture") as wire:
        assert len({picture(line)[1] for line in raw(wire, wire.batch(asks(3)))}) == 1
    [line] = line_of(tmp_path / "c", "candidates, number: 3")
    told = json.loads(line)["response"]["candidates"]
    assert [("parts" in one["content"], one["index"]) for one in told] == [(False, 0), (False, 1), (True, 2)]


# Files


def test_a_file_may_say_another_size_and_be_gone_soon(tmp_path):
    with rehearsed(tmp_path, "on: file, do: wrong_bytes, key: big", "on: file, do: expires, seconds: 60") as wire:
        assert wire.upload(b"12345", "big")["sizeBytes"] == "6"
        file = wire.upload(b"12345", "brief")
        made, ends = (datetime.fromisoformat(file[word][:19]) for word in ("createTime", "expirationTime"))
        assert (ends - made).total_seconds() == 60
        wire.advance(61)
        assert code(wire, path="/v1beta/files/brief") == 403
