"""Conversations: each turn is sent with all before it, word for word; none is bought twice, and none without them."""

from __future__ import annotations

import json
import shutil
from collections import Counter

import pytest
from pictures import PNG

RUN = ("run", "jobs/talk.yaml", "--poll", "0.1s")
TURNS = """\
turns:
  - A [item] in the snow
  - {prompt: Make it night, name: night, keep: true, aspect: 4:5}
  - Add a lamp
"""
JOB = f"items: [fox, owl]\n{TURNS}"


@pytest.fixture
def talk(shop):
    """Two conversations of three turns, of which two are kept."""
    shop.write("jobs/talk.yaml", JOB)
    return shop


def sent(project, job="talk"):
    """Every request that was sent, by key and turn, with how often."""
    lines = [
        json.loads(line)
        for file in sorted((project.outputs / f".pipeline/requests/{job}").glob("*.jsonl"))
        for line in file.read_bytes().splitlines()
    ]
    return {line["key"].rpartition("~")[0]: line["request"] for line in lines}, Counter(
        line["key"].rpartition("~")[0] for line in lines
    )


def answered(project, job="talk"):
    """The model's turns as they came, by key and turn."""
    lines = [
        json.loads(line)
        for file in (project.outputs / f".pipeline/answers/{job}").glob("*.jsonl")
        for line in file.read_bytes().splitlines()
    ]
    return {
        line["key"].rpartition("~")[0]: line["response"]["candidates"][0]["content"]
        for line in lines
        if "response" in line
    }


def batches(service):
    return [entry["requests"] for entry in service.ledger()]


def planned(project, *args):
    return project("plan", "jobs/talk.yaml", "--json", *args).json["jobs"][0]


# ----------------------------------------------------------------------------------------- what is sent


def test_each_turn_is_sent_with_all_before_it_as_they_came(talk, service):
    assert talk(*RUN).code == 0
    assert batches(service) == [2, 2, 2]
    requests, answers = sent(talk)[0], answered(talk)
    for item in ("fox", "owl"):
        first, second, third = (requests[f"{item}-t{turn}"]["contents"] for turn in (1, 2, 3))
        assert first == [{"role": "user", "parts": [{"text": f"A {item} in the snow"}]}]
        assert second == [*first, answers[f"{item}-t1"], {"role": "user", "parts": [{"text": "Make it night"}]}]
        assert third == [*second, answers[f"{item}-t2"], {"role": "user", "parts": [{"text": "Add a lamp"}]}]
        assert "thoughtSignature" in answers[f"{item}-t1"]["parts"][-1]
    assert requests["fox-t2"]["generationConfig"]["imageConfig"]["aspectRatio"] == "4:5"
    assert requests["fox-t3"]["generationConfig"]["imageConfig"]["aspectRatio"] == "1:1"


def test_thoughts_and_words_go_back_in_their_places(talk, service):
    talk.write("jobs/talk.yaml", "thoughts: true\nresponse: [text, image]\nturns: [A fox, Make it night]\n")
    assert talk(*RUN).code == 0
    requests, answers = sent(talk)[0], answered(talk)
    back = requests["talk-t2"]["contents"][1]
    assert back == answers["talk-t1"]
    assert [("thought" in part, "text" in part) for part in back["parts"]] == [
        (True, True), (True, False), (False, True), (False, False),
    ]  # fmt: skip


def test_a_text_may_come_first_and_references_are_shown_again(talk, service):
    talk.write("jobs/ref.png", PNG)
    talk.write(
        "jobs/talk.yaml",
        "images: []\nturns:\n  - {prompt: Write a headline, response: [text], images: [ref.png], keep: true}\n"
        "  - Draw the poster with it\n",
    )
    assert talk(*RUN).code == 0
    requests, answers = sent(talk)[0], answered(talk)
    second = requests["talk-t2"]["contents"]
    assert second[0] == requests["talk-t1"]["contents"][0]
    assert [*second[0]["parts"][1]] == ["fileData"], "two requests show it: it goes to the service once"
    assert second[1] == answers["talk-t1"]
    assert [part["text"] for part in answers["talk-t1"]["parts"]]
    records = talk.records("talk")
    assert [file["path"] for file in records["talk/t1"]["files"]] == ["talk-1.md"]
    assert [file["path"] for file in records["talk/t2"]["files"]] == ["talk-2.jpg"]


def test_only_kept_turns_leave_files_and_every_turn_a_record(talk, service):
    assert talk(*RUN).code == 0
    records = talk.records("talk")
    assert {key: [file["path"] for file in told["files"]] for key, told in records.items()} == {
        "fox/t1": [], "fox/t2": ["fox-night.jpg"], "fox/t3": ["fox-3.jpg"],
        "owl/t1": [], "owl/t2": ["owl-night.jpg"], "owl/t3": ["owl-3.jpg"],
    }  # fmt: skip
    assert {told["status"] for told in records.values()} == {"done"}
    before = talk.tree("talk")
    assert talk(*RUN).code == 0
    assert talk.tree("talk") == before
    assert batches(service) == [2, 2, 2]
    assert talk("verify").code == 0


# -------------------------------------------------------------------------------------------- the plan


def test_the_plan_shows_its_waves_with_the_price_of_the_history(talk, service):
    plan = planned(talk)
    assert (plan["waves"], plan["batches"], plan["requests"]) == (3, 3, 6)
    assert [(wave["turns"], wave["requests"]) for wave in plan["by_wave"]] == [([1, 1], 2), ([2, 2], 2), ([3, 3], 2)]
    costs = [float(wave["cost"]) for wave in plan["by_wave"]]
    assert costs[0] < costs[1] < costs[2]
    assert plan["longest_s"] == 3 * 86_400
    out = talk("plan", "jobs/talk.yaml").out
    assert "wave 3: turn 3, 2 requests" in out
    assert talk(*RUN).code == 0
    actual = sum(float(told["cost"]["amount"]) for told in talk.records("talk").values())
    assert actual <= float(plan["cost"]["upper_bound"])


def test_a_changed_last_turn_buys_only_itself_while_the_others_are_kept(talk, service):
    assert talk(*RUN).code == 0
    answers = answered(talk)
    talk.write("jobs/talk.yaml", JOB.replace("a lamp", "a candle"))
    plan = planned(talk)
    assert (plan["requests"], plan["waves"], plan["counts"]["changed"]) == (2, 1, 2)
    shutil.rmtree(talk.outputs / ".pipeline/answers")  # what clean may do: the turns are kept by themselves
    assert planned(talk)["requests"] == 2
    assert talk(*RUN).code == 0
    assert batches(service) == [2, 2, 2, 2]
    assert sent(talk)[0]["fox-t3"]["contents"][1] == answers["fox-t1"]


def test_a_turn_that_is_added_goes_on_from_the_kept_answer(talk, service):
    assert talk(*RUN).code == 0
    talk.write("jobs/talk.yaml", JOB + "  - Now in spring\n")
    plan = planned(talk)
    assert (plan["requests"], plan["counts"]["moved"]) == (2, 0)
    assert talk(*RUN).code == 0
    assert batches(service) == [2, 2, 2, 2]
    assert sent(talk)[0]["owl-t4"]["contents"][5] == answered(talk)["owl-t3"]


def test_without_the_kept_turns_it_starts_at_the_first_and_the_plan_says_so(talk, service):
    assert talk(*RUN).code == 0
    for name in ("turns", "answers"):
        shutil.rmtree(talk.outputs / ".pipeline" / name)
    assert planned(talk)["requests"] == 0, "nothing is bought for a history that nobody needs"
    talk.write("jobs/talk.yaml", JOB.replace("a lamp", "a candle"))
    plan = planned(talk)
    assert (plan["requests"], plan["waves"]) == (6, 3)
    whys = {item["key"]: item["why"] for item in plan["items"]}
    assert whys["fox/t1"] == "turn 3 is asked for, and the answer to turn 1 is not kept any more"
    assert float(plan["cost"]["amount"]) == pytest.approx(sum(float(item["cost"]) for item in plan["items"]))
    assert talk(*RUN).code == 0
    assert batches(service) == [2, 2, 2, 2, 2, 2]
    assert planned(talk)["requests"] == 0


def test_a_fresh_clone_buys_nothing_again(talk, service):
    assert talk(*RUN).code == 0
    shutil.rmtree(talk.outputs / ".pipeline")
    before = talk.tree("talk")
    assert talk(*RUN).code == 0
    assert talk.tree("talk") == before
    assert batches(service) == [2, 2, 2]


def test_a_turn_that_is_kept_from_now_on_is_written_from_its_answer(talk, service):
    assert talk(*RUN).code == 0
    talk.write(
        "jobs/talk.yaml", JOB.replace("  - A [item] in the snow", "  - {prompt: 'A [item] in the snow', keep: true}")
    )
    plan = planned(talk)
    assert (plan["requests"], plan["counts"]["moved"]) == (0, 2)
    assert talk(*RUN).code == 0
    assert (talk.outputs / "talk/fox-1.jpg").is_file()
    assert batches(service) == [2, 2, 2]
    assert planned(talk)["counts"]["done"] == 6
    assert talk("verify").code == 0


def test_a_selected_turn_needs_the_answers_before_it(talk, service):
    later = ("--select", "key:*/t2")
    assert planned(talk, *later)["requests"] == 0
    assert "turn 1, which is not selected" in talk("plan", "jobs/talk.yaml", *later).out
    first = ("--select", "key:*/t1")
    assert talk(*RUN, *first).code == 0
    assert planned(talk, *later)["requests"] == 2
    assert talk(*RUN, *later).code == 0
    assert batches(service) == [2, 2]
    assert talk(*RUN).code == 0
    assert batches(service) == [2, 2, 2]


# -------------------------------------------------------------------------------------------- trouble


def test_a_failed_turn_stops_only_its_own_item(talk, troubled):
    service = troubled("- {on: line, do: block, key: 'fox-t1*', times: 1}\n")
    ended = talk(*RUN)
    assert ended.code == 3
    assert batches(service) == [2, 1, 1]
    records = talk.records("talk")
    assert {key: told["status"] for key, told in records.items()} == {
        "fox/t1": "blocked", "fox/t2": "missing", "fox/t3": "missing", "owl/t1": "done", "owl/t2": "done",
        "owl/t3": "done",
    }  # fmt: skip
    assert "turn 1, which is blocked: IMAGE_SAFETY" in records["fox/t2"]["reason"]
    assert "see `pipeline show fox/t1`" in talk("show", "fox/t2").out
    assert "file  not kept" in talk("show", "owl/t1").out
    before = talk.tree("talk")
    assert talk(*RUN).code == 3
    assert planned(talk)["requests"] == 0
    assert (batches(service), talk.tree("talk")) == ([2, 1, 1], before)
    # Opened again, it goes on to its end, and the other is not asked for again.
    assert talk("retry", "jobs/talk.yaml", "--only", "blocked", "--poll", "0.1s").code == 0
    assert batches(service) == [2, 1, 1, 1, 1, 1]
    assert {told["status"] for told in talk.records("talk").values()} == {"done"}


def test_a_turn_that_is_asked_again_repeats_none_before_it(talk, troubled):
    service = troubled("- {on: line, do: error, code: 13, key: 'fox-t2*', after: 1, times: 1}\n")
    assert talk(*RUN).code == 0
    assert sum(batches(service)) == 7
    assert sent(talk)[1] == {
        "fox-t1": 1, "fox-t2": 2, "fox-t3": 1, "owl-t1": 1, "owl-t2": 1, "owl-t3": 1,
    }  # fmt: skip


def test_a_turn_that_fails_for_good_leaves_what_was_bought(talk, troubled):
    service = troubled("- {on: line, do: block, key: 'fox-t3*'}\n")
    assert talk(*RUN).code == 3
    assert talk("retry", "jobs/talk.yaml", "--poll", "0.1s").code == 3
    assert sent(talk)[1]["fox-t1"] == sent(talk)[1]["fox-t2"] == 1
    assert sent(talk)[1]["fox-t3"] == 2
    assert sum(batches(service)) == 7


def test_a_run_that_ends_between_two_waves_is_gone_on_with(talk, service):
    for wave in (1, 2, 3):
        assert talk("submit", "jobs/talk.yaml").code == 0
        assert batches(service) == [2] * wave
        assert talk("status", "--json").json["jobs"][0]["later_turns"] == 2 * (3 - wave)
        told = talk("collect", "jobs/talk.yaml")
        assert told.code == 0
        if wave < 3:
            assert f"turn {wave + 1} of 2 conversations can be sent" in told.err
    assert talk(*RUN).code == 0
    assert batches(service) == [2, 2, 2]
    assert {told["status"] for told in talk.records("talk").values()} == {"done"}


def test_a_journal_that_is_lost_between_two_waves_costs_nothing(talk, service):
    assert talk("submit", "jobs/talk.yaml").code == 0
    assert talk("collect", "jobs/talk.yaml").code == 0
    for file in (talk.outputs / ".pipeline").glob("journal.db*"):
        file.unlink()
    shutil.rmtree(talk.outputs / ".pipeline/answers")
    assert talk(*RUN).code == 0
    assert batches(service) == [2, 2, 2]
    assert {told["status"] for told in talk.records("talk").values()} == {"done"}


def test_a_later_wave_that_does_not_fit_the_money_is_skipped(talk, service):
    talk.write("jobs/talk.yaml", "retry: 0\n" + JOB)
    first = planned(talk)["by_wave"][0]["cost"]
    ended = talk(*RUN, "--max-cost", first)
    assert ended.code == 5, "all waves must fit before the first is sent"
    assert batches(service) == []


def test_compile_leaves_later_turns_out(talk):
    assert talk("compile", "jobs/talk.yaml", "-o", "out").code == 0
    lines = [json.loads(line) for line in (talk.folder / "out/requests-00000.jsonl").read_bytes().splitlines()]
    assert [line["key"].rpartition("~")[0] for line in lines] == ["fox-t1", "owl-t1"]


def test_clean_leaves_the_turns_that_others_go_on_from(talk, service):
    assert talk(*RUN).code == 0
    talk.write("jobs/talk.yaml", JOB.replace("a lamp", "a candle").replace("[fox, owl]", "[fox]"))
    turns = talk.outputs / ".pipeline/turns/talk"
    assert len([*turns.iterdir()]) == 4
    assert talk("clean", "--yes", "--older-than", "0").code == 0
    assert len([*turns.iterdir()]) == 2
    assert not [*(talk.outputs / ".pipeline").glob("answers/talk/*")]
    assert talk(*RUN).code == 0
    assert batches(service) == [2, 2, 2, 1]
