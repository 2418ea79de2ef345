"""What the service says is data: believed where it can be checked, bounded, and shown without taking effect."""

from __future__ import annotations

import json

import pytest
from test_uploads import SHARED, photo

from pipeline.gemini import connection

RUN = ("run", "jobs/shop.yaml", "--poll", "0.1s", "--wait", "30s")
ONE = (
    "prompt: Studio photo of a [product] on white marble.\nitems: [{id: mug, product: mug}]\nchecks: {decode: false}\n"
)


def answers(proxy, change):
    """Have each line of an answer file changed."""

    def rule(call):
        if call.is_download() and call.status == 200:
            lines = map(json.loads, call.answer.splitlines())
            call.say(b"".join(json.dumps(change(line)).encode() + b"\n" for line in lines))

    proxy.after = rule


# ------------------------------------------------------------------------------------------------ files


def test_an_upload_is_believed_under_the_name_it_was_given_only(shop, proxy, service):
    shop.write("jobs/photo.png", photo())
    shop.write("jobs/shop.yaml", SHARED)

    def rule(call):
        if call.method == "POST" and b'"file"' in call.answer:
            call.say({"file": {"name": "files/foreign", "state": "ACTIVE"}})

    proxy.after = rule
    assert shop(*RUN).code == 0
    assert len(service.ledger()) == 1


@pytest.mark.some(1)
@pytest.mark.parametrize("days", [1, 400])
def test_a_new_file_lives_as_long_as_its_own_times_say_whatever_the_date_of_an_answer(shop, proxy, service, days):
    shop.write("jobs/photo.png", photo())
    shop.write("jobs/shop.yaml", SHARED)
    proxy.ahead_s = days * 86_400.0
    ended = shop(*RUN)
    assert ended.code == 0, ended.err
    assert "clock" in ended.err


# ------------------------------------------------------------------------------------------------ times


@pytest.mark.parametrize("date", ["Sat, 28 Nov 99999999999999999999 23:00:00 GMT", "soon", "", "Sat, 28 Nov 2026"])
def test_a_date_that_is_none_tells_nothing(date):
    assert connection._ahead_s(date, 3.0) == 3.0


def test_the_service_is_left_alone_for_as_long_as_it_asks(shop, proxy, clock):
    slept = []

    def sleep(seconds):
        slept.append(seconds)
        clock.ahead_s += seconds

    clock.sleep = sleep
    refused = []

    def rule(call):
        if call.is_get() and len(refused) < 2:
            refused.append(call)
            call.headers["Retry-After"] = "600"
            call.say({"error": {"code": 429, "status": "RESOURCE_EXHAUSTED", "message": "slower"}}, 429)

    proxy.after = rule
    assert shop("run", "jobs/shop.yaml", "--poll", "0.1s", "--wait", "3h").code == 0
    assert [seconds for seconds in slept if seconds > 1] == [600.0, 600.0]


# ------------------------------------------------------------------------------------------------ words


@pytest.fixture
def one(shop):
    shop.write("jobs/shop.yaml", ONE)
    return shop


def test_no_word_of_the_service_moves_a_cursor_or_ends_a_line(one, proxy):
    words = "\x1b]0;title\x07 \u202e \u2028 \x9b2J end"

    def blocked(line):
        return {"key": line["key"], "response": {"candidates": [{"finishReason": "SAFETY", "finishMessage": words}]}}

    answers(proxy, blocked)
    assert one(*RUN).code == 3
    assert "end" in one.records()["mug"]["reason"]
    for verb in (("plan",), ("status",), ("ls", "items"), ("show", "mug")):
        ended = one(*verb)
        assert not {*"\x1b\x07\u202e\u2028\x9b"} & {*(ended.out + ended.err)}, verb
    top = one.outputs / "shop"
    assert len((top / "manifest.jsonl").read_text().splitlines()) == 1
    assert not {*"\x1b\x07\x9b"} & {*(top / "manifest.csv").read_text("utf-8-sig")}


def test_words_beside_an_image_are_bounded_in_its_record(one, proxy):
    def talking(line):
        line["response"]["candidates"][0]["content"]["parts"].insert(0, {"text": "x" * 300_000})
        return line

    answers(proxy, talking)
    assert one(*RUN).code == 0
    text = one.records()["mug"]["text"]
    assert len(text) < 201_000
    assert text.endswith("(300,000 characters in all)")


def test_the_image_of_another_candidate_is_kept_as_a_draft(one, proxy):
    def twice(line):
        candidates = line["response"]["candidates"]
        candidates.append(json.loads(json.dumps(candidates[0])))
        candidates[1]["content"]["parts"] = [part for part in candidates[1]["content"]["parts"] if "inlineData" in part]
        return line

    answers(proxy, twice)
    assert one(*RUN).code == 0
    assert [file["kind"] for file in one.records()["mug"]["files"]] == ["image", "draft"]


# ------------------------------------------------------------------------------------------------ what to do next


def test_what_was_never_taken_is_not_said_to_be_at_work(shop, proxy):
    def rule(call):
        if call.is_create():
            call.say({"error": {"code": 429, "status": "RESOURCE_EXHAUSTED", "message": "slower"}}, 429)

    proxy.before = rule
    ended = shop("submit", "jobs/shop.yaml")
    assert "at work" not in ended.err
    assert "wait to be sent" in ended.err
