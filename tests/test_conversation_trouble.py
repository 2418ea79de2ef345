"""Conversations in trouble: a job that changes between two waves, answers that are odd, files that are lost."""

from __future__ import annotations

import json
import shutil

import pytest
from proxy import proxying
from test_conversations import JOB, RUN, answered, batches, planned, sent

from pipeline.gemini import answers, wire

PROOF = ("proof", "jobs/talk.yaml", "-n", "1")
KEPT = ", keep: true"
RENAMED = JOB.replace("[fox, owl]", "[{id: vixen, was: fox}, {id: owl, was: owl}]").replace("[item]", "[was]")


@pytest.fixture
def talk(shop):
    """Two conversations of three turns, of which two are kept."""
    shop.write("jobs/talk.yaml", JOB)
    return shop


def between(project):
    """Send the first wave, and bring it home."""
    assert project("submit", "jobs/talk.yaml").code == 0
    assert project("collect", "jobs/talk.yaml").code == 0


def forget(project, *names):
    for name in names:
        shutil.rmtree(project.outputs / ".pipeline" / name)


def statuses(project):
    return {key: told["status"] for key, told in project.records("talk").items()}


def whys(plan):
    return {item["key"]: item["why"] for item in plan["items"]}


# ------------------------------------------------------------------------- what is on its way, or waits


def test_an_item_that_is_renamed_while_a_turn_is_on_its_way_buys_that_turn_once(slow_shop, slow_service):
    slow_shop.write("jobs/talk.yaml", JOB)
    assert slow_shop("submit", "jobs/talk.yaml").code == 0
    slow_shop.write("jobs/talk.yaml", RENAMED)
    plan = planned(slow_shop)
    assert (plan["requests"], plan["counts"]["pending"]) == (4, 2)
    assert whys(plan)["vixen/t1"] == "on its way, as fox/t1"
    assert slow_shop("submit", "jobs/talk.yaml").code == 0
    assert batches(slow_service) == [2]
    slow_service.advance(21 * 3600)
    assert slow_shop("submit", "jobs/talk.yaml").code == 0
    assert batches(slow_service) == [2, 2]
    assert sent(slow_shop)[0]["vixen-t2"]["contents"][1] == answered(slow_shop)["fox-t1"]


def test_a_turn_that_waited_is_taken_from_the_key_it_was_had_under_meanwhile(talk, service):
    between(talk)
    talk.write("jobs/talk.yaml", RENAMED)
    assert talk(*RUN).code == 0
    talk.write("jobs/talk.yaml", JOB)
    plan = planned(talk)
    assert (plan["requests"], plan["counts"]["moved"]) == (0, 3)
    assert talk(*RUN).code == 0
    assert batches(service) == [2, 2, 2]


def test_a_turn_waits_for_every_answer_before_it(talk, service):
    between(talk)
    assert talk("submit", "jobs/talk.yaml").code == 0
    forget(talk, "turns", "answers")  # turn 2 is on its way, and what it went on from is lost
    assert planned(talk)["requests"] == 4
    assert talk(*RUN).code == 0
    assert batches(service) == [2, 2, 2, 2]
    requests, answer = sent(talk)[0], answered(talk)
    assert requests["fox-t3"]["contents"][1] == answer["fox-t1"]
    assert requests["fox-t3"]["contents"][3] == answer["fox-t2"]


def test_a_turn_that_cannot_be_asked_for_has_a_record_that_says_why(talk, troubled):
    service = troubled("- {on: line, do: block, key: 'fox-t1*', times: 1}\n")
    assert talk(*RUN).code == 3
    talk.write("jobs/talk.yaml", JOB + "  - Now in spring\n")
    assert talk(*RUN).code == 3
    told = talk.records("talk")["fox/t4"]
    assert told["status"] == "missing"
    assert told["reason"].startswith("not asked for: it goes on from turn 1, blocked: IMAGE_SAFETY")
    assert talk("retry", "jobs/talk.yaml", "--only", "blocked", "--poll", "0.1s").code == 0
    assert {*statuses(talk).values()} == {"done"}
    assert sum(batches(service)) == 9


def test_a_selected_turn_that_cannot_be_asked_for_is_no_success(talk, service):
    ended = talk(*RUN, "--select", "key:fox/t3")
    assert ended.code == 3
    assert statuses(talk) == {"fox/t3": "missing"}
    assert talk(*RUN).code == 0
    assert batches(service) == [2, 2, 2]


# -------------------------------------------------------------------------------- once more, in vain


def test_a_run_ends_when_a_conversation_that_is_begun_again_fails(talk, troubled):
    service = troubled("- {on: line, do: block, key: 'fox-t1*', after: 1}\n")
    assert talk(*RUN).code == 0
    forget(talk, "turns", "answers")
    talk.write("jobs/talk.yaml", JOB.replace("a lamp", "a candle"))
    assert talk(*RUN, "--wait", "5s").code == 3, "turns that were not asked for are not waited for"
    assert batches(service) == [2, 2, 2, 2, 1, 1]
    assert statuses(talk)["fox/t2"] == "missing"
    before = talk.tree("talk")
    assert talk(*RUN, "--wait", "5s").code == 3
    assert (batches(service), talk.tree("talk")) == ([2, 2, 2, 2, 1, 1], before)


def test_what_stops_a_conversation_is_told_for_each_turn_after_it_in_the_same_words(talk, troubled):
    troubled("- {on: line, do: block, key: 'fox-t1*'}\n")
    assert talk(*RUN).code == 3
    records = talk.records("talk")
    assert records["fox/t3"]["reason"] == records["fox/t2"]["reason"]


# ------------------------------------------------------------------------------- what is not kept any more


def test_an_image_that_is_not_kept_any_more_is_not_missed(talk, service):
    assert talk(*RUN).code == 0
    talk.write("jobs/talk.yaml", JOB.replace(KEPT, ""))
    assert talk(*RUN).code == 0
    talk.outputs.joinpath("talk/fox-night.jpg").unlink()
    forget(talk, "turns", "answers")
    plan = planned(talk)
    assert (plan["requests"], whys(plan)) == (0, {"fox/t2": "its image is not kept any more"})
    assert talk(*RUN).code == 0
    assert not talk.outputs.joinpath("talk/fox-night.jpg").exists()
    assert batches(service) == [2, 2, 2]
    assert planned(talk)["counts"]["done"] == 6
    assert talk("verify").code == 0


def test_an_image_of_an_earlier_ask_leaves_when_its_turn_is_not_kept_any_more(talk, service):
    assert talk(*RUN).code == 0
    talk.write("jobs/talk.yaml", JOB.replace(KEPT, "").replace("Make it night", "Make it dawn"))
    assert talk(*RUN).code == 0
    assert {path.name for path in talk.outputs.joinpath("talk").glob("*.jpg")} == {"fox.jpg", "owl.jpg"}
    # Back to the first ask, which lies there; and back again to the second, which was answered and is not kept.
    for text in (JOB, JOB.replace(KEPT, "").replace("Make it night", "Make it dawn")):
        talk.write("jobs/talk.yaml", text)
        assert talk(*RUN).code == 0
    assert {path.name for path in talk.outputs.joinpath("talk").glob("*.jpg")} == {"fox.jpg", "owl.jpg"}
    assert talk("verify").code == 0
    assert batches(service) == [2, 2, 2, 2, 2]


# -------------------------------------------------------------------------------------------- odd answers


def test_what_came_is_sent_back_in_words_that_json_and_the_service_know():
    part = {"inlineData": {"data": "AA_-"}, "thoughtSignature": "ab-_cd", "new": [1.5, float("nan"), float("inf")]}
    said = {"role": None, "parts": [part, None, "text", {"text": "\ud800\u2028"}]}
    line = json.dumps({"key": "a~1", "response": {"candidates": [{"content": said}]}}).replace("=", "\\u003d").encode()
    found = answers.content(line, "a~1")
    assert found == {"role": "model", "parts": [{**part, "new": [1.5, None, None]}, {"text": "\ud800\u2028"}]}
    assert answers.content(line, "b~2") is None
    earlier = [(wire.Said("first", ()), found)]
    text = wire.request_line("a~2", wire.Said("then", ()), earlier=earlier, settings={"aspect": "1:1", "size": "1K"})
    assert text.count(b"\n") == 1
    assert json.loads(text, parse_constant=pytest.fail)["request"]["contents"][1] == found


def test_a_proof_sends_back_what_the_sdk_has_no_word_for(talk, service, monkeypatch):
    talk.write("jobs/talk.yaml", JOB.replace(", aspect: 4:5", ""))
    came, said = [], []

    def before(call):
        if call.path.endswith(":generateContent") and came:
            said.append(json.loads(call.body)["contents"])
            call.say(came[0], 200)

    def after(call):
        if call.path.endswith(":generateContent") and not came:
            told = json.loads(call.answer)
            part = told["candidates"][0]["content"]["parts"][-1]
            part |= {"mood": "new", "thoughtSignature": "ab+/cd=="}
            call.say(told)
            came.append(told)

    with proxying(service.url) as (url, proxy):
        proxy.before, proxy.after = before, after
        monkeypatch.setenv("GOOGLE_GEMINI_BASE_URL", url)
        assert talk(*PROOF).code == 0
    assert [len(contents) for contents in said] == [3, 5]
    assert said[0][1] == came[0]["candidates"][0]["content"]


def test_a_proof_is_not_said_to_take_days(talk, service):
    ended = talk(*PROOF)
    assert "wave 3: turn 3, 1 request" in ended.err
    assert "day" not in ended.err


def test_an_answer_that_was_fetched_in_another_order_goes_to_its_own_conversation(talk, service):
    between(talk)
    [file] = (talk.outputs / ".pipeline/answers/talk").glob("*.jsonl")
    file.write_bytes(b"".join(reversed(file.read_bytes().splitlines(keepends=True))))
    assert talk(*RUN).code == 0
    requests, answer = sent(talk)[0], answered(talk)
    for item in ("fox", "owl"):
        assert requests[f"{item}-t2"]["contents"][1] == answer[f"{item}-t1"]


def test_an_answer_that_is_fetched_again_is_no_second_answer(talk, troubled):
    talk.write("jobs/talk.yaml", "retry: 0\n" + JOB)
    troubled("- {on: line, do: missing, key: 'fox-t1*', times: 1}\n")
    assert talk(*RUN).code == 3
    assert not (talk.outputs / ".pipeline/conflicts").exists()


@pytest.mark.some(1)
@pytest.mark.parametrize("place", ["answers", "turns"])
def test_of_two_kept_answers_one_that_can_be_read_is_enough(talk, service, place):
    between(talk)
    for file in (talk.outputs / f".pipeline/{place}/talk").iterdir():
        file.write_bytes(b"x" * file.stat().st_size)
    assert talk(*RUN).code == 0
    assert batches(service) == [2, 2, 2]


def test_a_kept_answer_that_cannot_be_read_starts_its_conversation_again_and_no_other(talk, service):
    between(talk)
    forget(talk, "answers")
    [first, _second] = sorted((talk.outputs / ".pipeline/turns/talk").iterdir())
    first.write_bytes(b"{")
    ended = talk(*RUN)
    assert ended.code == 4
    assert "cannot be read" in ended.err
    assert "planned anew" in ended.err
    assert planned(talk)["requests"] == 5
    assert talk(*RUN).code == 0
    assert sum(batches(service)) == 7
    assert (talk.outputs / ".pipeline/quarantine/talk" / first.name).read_bytes() == b"{"
