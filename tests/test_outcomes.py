"""Outcomes: every word and code the service has for an answer, and what somebody is told about it."""

from __future__ import annotations

import base64
import io
import json
import re
import shlex
from contextlib import contextmanager

import pytest
from conftest import KEY
from PIL import Image

from pipeline import local
from pipeline.cli.findings import words_of
from pipeline.cli.signposts import next_step
from pipeline.gemini import models
from pipeline.gemini.answers import answer
from pipeline.gemini.prices import Usage, charged
from pipeline.selection import STATUSES, Facts, Selection

RUN = ("run", "jobs/shop.yaml", "--poll", "0.1s", "--wait", "30s")
BLOCKED = (
    *("SAFETY", "RECITATION", "BLOCKLIST", "PROHIBITED_CONTENT", "SPII", "IMAGE_SAFETY", "IMAGE_PROHIBITED_CONTENT"),
    *("IMAGE_RECITATION", "MODEL_ARMOR", "JAILBREAK", "ESCALATION", "PUP_LIMITED_DISABLED"),
)
NO_IMAGE = (
    *(
        "FINISH_REASON_UNSPECIFIED",
        "STOP",
        "MAX_TOKENS",
        "LANGUAGE",
        "OTHER",
        "IMAGE_OTHER",
        "NO_IMAGE",
        "CONTINUATION",
    ),
    *("MALFORMED_FUNCTION_CALL", "MALFORMED_RESPONSE", "UNEXPECTED_TOOL_CALL", "TOO_MANY_TOOL_CALLS"),
)
FINISHED = {
    **dict.fromkeys(BLOCKED, "blocked"),
    **dict.fromkeys(NO_IMAGE, "no_image"),
    "MISSING_THOUGHT_SIGNATURE": "failed",
    # Words nobody knows yet: what is made like a refusal is one, and is not asked again by itself.
    "AUDIO_SAFETY": "blocked",
    "CONTENT_POLICY": "blocked",
    "TIRED": "no_image",
    "SAFETYNET": "no_image",
}
"""What the finishReason of an answer without an image comes to: all words of the API and of the SDK, and some more."""
PROMPT_BLOCKS = (
    *("BLOCK_REASON_UNSPECIFIED", "SAFETY", "OTHER", "BLOCKLIST", "PROHIBITED_CONTENT", "IMAGE_SAFETY", "MODEL_ARMOR"),
    *("JAILBREAK", "TIRED"),
)
CODES = {
    **dict.fromkeys((1, 499, "1", "CANCELLED"), ("cancelled", False)),
    **dict.fromkeys((4, 8, 10, 13, 14, 408, 429, 500, 503, "13", 13.0, "UNAVAILABLE"), ("failed", True)),
    **dict.fromkeys((2, 3, 5, 6, 7, 9, 11, 12, 15, 16, 400, 404, "3", "INVALID_ARGUMENT", "?"), ("failed", False)),
    **dict.fromkeys((99999, -1, 2.5e300, "1" * 50), ("failed", False)),
}
"""What the code of a line comes to, and whether it is asked again."""


def picture(colour="teal", size=(1024, 1024)):
    image = Image.new("RGB", size, colour)
    image.paste("white", (0, 0, size[0] // 2, size[1] // 2))
    stream = io.BytesIO()
    image.save(stream, "JPEG")
    return stream.getvalue()


RED, BLUE = picture("red"), picture("blue")


def image_part(data, **more):
    return {"inlineData": {"mimeType": "image/jpeg", "data": base64.b64encode(data).decode()}, **more}


THOUGHT = {"text": "hm", "thought": True}
SNAKE = {"inline_data": {"mime_type": "image/png", "data": base64.b64encode(RED).decode()}}


def read(reply):
    return answer(json.dumps({"key": "a", **reply}).encode())[1]


def candidate(*parts, **more):
    return {"response": {"candidates": [{"content": {"role": "model", "parts": list(parts)}, **more}]}}


# ----------------------------------------------------------------------------------------- words and codes


@pytest.mark.parametrize(("word", "status"), FINISHED.items())
def test_each_way_to_finish_without_an_image_has_its_status_and_keeps_its_words(word, status):
    for content in ({}, {"parts": None}, {"parts": []}, {"role": "model"}, None):
        told = {"content": content, "finishReason": word, "finishMessage": "Because of it."}
        found = read({"response": {"candidates": [told]}}).refusal
        assert (found.status, found.transient) == (status, False)
        assert found.reason.startswith(f"{word}: Because of it.")
        del told["finishMessage"]
        assert read({"response": {"candidates": [told]}}).refusal.reason.startswith(word)


@pytest.mark.parametrize("word", PROMPT_BLOCKS)
def test_a_refused_prompt_is_blocked_and_keeps_its_words(word):
    feedback = {"blockReason": word, "blockReasonMessage": "Not this."}
    for beside in ({}, {"candidates": []}, {"candidates": [{"finishReason": "STOP"}]}):
        found = read({"response": {"promptFeedback": feedback, **beside}}).refusal
        assert (found.status, found.reason) == ("blocked", f"{word}: Not this.")


def test_the_categories_that_refused_are_named_as_a_job_writes_them():
    ratings = [
        {"category": "HARM_CATEGORY_DANGEROUS_CONTENT", "probability": "HIGH", "blocked": True},
        {"category": "HARM_CATEGORY_HARASSMENT", "probability": "LOW"},
    ]
    found = read({"response": {"promptFeedback": {"blockReason": "SAFETY", "safetyRatings": ratings}}}).refusal
    assert found.reason == "SAFETY (dangerous_content)"
    found = read(candidate(finishReason="SAFETY", safetyRatings=ratings, finishMessage="No.")).refusal
    assert found.reason == "SAFETY (dangerous_content): No."


@pytest.mark.parametrize(("code", "fate"), CODES.items(), ids=repr)
@pytest.mark.parametrize("place", ["error", "status"])
def test_each_code_of_a_line_has_its_status(code, fate, place):
    found = read({place: {"code": code, "message": "So it is."}}).refusal
    assert (found.status, found.transient) == fate
    assert found.reason == f"code {code}: So it is."
    assert read({place: {"code": code}}).refusal.status == fate[0]


@pytest.mark.parametrize(
    ("trouble", "status", "reason", "transient"),
    [
        pytest.param({"status": "UNAVAILABLE", "message": "m"}, "failed", "code UNAVAILABLE: m", True, id="name alone"),
        pytest.param({"message": "m"}, "failed", "an error without a code: m", False, id="message alone"),
        pytest.param("Quota exceeded", "failed", "Quota exceeded", False, id="text"),
        pytest.param(["?"], "failed", "['?']", False, id="list"),
        pytest.param({"code": True, "message": "m"}, "failed", "code True: m", False, id="true"),
        pytest.param({}, "failed", "the service sent neither a response nor an error", True, id="empty"),
        pytest.param({"code": 0}, "failed", "the service sent neither a response nor an error", True, id="all is well"),
        pytest.param(
            {"code": 7, "message": "no permission to access the File x or it may not exist"},
            *("failed", "code 7: no permission to access the File x or it may not exist", True),
            id="file gone",
        ),
    ],
)
def test_an_odd_error_is_failed_with_its_words(trouble, status, reason, transient):
    for place in ("error", "status"):
        found = read({place: trouble}).refusal
        assert (found.status, found.reason, found.transient) == (status, reason, transient)


def test_a_status_that_says_that_all_is_well_is_no_error():
    for well in ("", "OK", "ok", {"code": 0}, {"code": "OK", "message": ""}, None):
        found = read({"status": well, **candidate(finishReason="NO_IMAGE")}).refusal
        assert (found.status, found.reason) == ("no_image", "NO_IMAGE")


@pytest.mark.parametrize("word", [*FINISHED, None])
def test_an_image_counts_whatever_stands_beside_it(word):
    for reply in (
        candidate(image_part(RED), finishReason=word),
        {**candidate(image_part(RED), finishReason=word), "error": {"code": 13, "message": "late"}},
        {"response": {**candidate(image_part(RED))["response"], "promptFeedback": {"blockReason": "OTHER"}}},
    ):
        found = read(reply)
        assert found.images == [RED]
        assert found.refusal is None


@pytest.mark.parametrize(
    ("parts", "images"),
    [
        pytest.param([{"text": base64.b64encode(RED).decode()}], [], id="a text that looks like base64"),
        pytest.param([image_part(RED, thought=True)], [], id="a thought alone"),
        pytest.param([{"thoughtSignature": "bG9jYWw="}], [], id="a signature alone"),
        pytest.param([{"fileData": {"fileUri": "https://example.com/x.jpg"}}], [], id="an address, which is data"),
        pytest.param([THOUGHT, image_part(BLUE, thought=True), image_part(RED)], [RED], id="thoughts first"),
        pytest.param([image_part(BLUE), {"text": "and"}, image_part(RED)], [BLUE, RED], id="several"),
        pytest.param([{"inlineData": {"data": None}}, SNAKE], [RED], id="snake case"),
        pytest.param([None, 5, "x", [], image_part(RED)], [RED], id="parts that are none"),
    ],
)  # fmt: skip
def test_results_are_told_from_what_only_looks_like_them(parts, images):
    assert read(candidate(*parts, finishReason="STOP")).images == images


def test_either_alphabet_of_base64_may_have_white_space_and_no_padding():
    data = bytes(range(256)) * 3 + b"\xfb"
    for encoded in (base64.b64encode(data), base64.urlsafe_b64encode(data)):
        text = encoded.decode()
        for shape in (text, text.rstrip("="), "\r\n".join(re.findall(".{1,76}", text)), f" {text}\n"):
            assert read(candidate({"inlineData": {"data": shape}})).images == [data]


def test_of_several_candidates_the_first_with_an_image_counts():
    none = {"content": {"parts": [{"text": "no"}]}, "finishReason": "IMAGE_OTHER"}
    thought = {"content": {"parts": [image_part(BLUE, thought=True)]}, "finishReason": "OTHER"}
    some = {"content": {"parts": [image_part(RED)]}, "finishReason": "STOP"}
    for order in ([none, some], [thought, none, some, none], [None, {}, some], [some, none]):
        found = read({"response": {"candidates": order}})
        assert (found.images, found.finish_reason) == ([RED], "STOP")
    found = read({"response": {"candidates": [None, none, thought]}})
    assert (found.refusal.status, found.refusal.reason) == ("no_image", "IMAGE_OTHER")


# --------------------------------------------------------------------------------------- what people are told


def replying(replies):
    """A rule that answers each item with what is given for its place in the list, and keeps what it used."""

    def rule(call):
        if call.is_download() and call.status == 200:
            said = []
            for line in call.answer.splitlines():
                old = json.loads(line)
                new = json.loads(json.dumps(replies[int(old["key"].partition("~")[0].removeprefix("i"))]))
                if "response" in new:
                    new["response"].setdefault("usageMetadata", old["response"]["usageMetadata"])
                said.append({**new, "key": old["key"]})
            call.say(b"".join(json.dumps(reply).encode() + b"\n" for reply in said))

    return rule


UNPAID = {"promptTokenCount": 100, "thoughtsTokenCount": 200, "totalTokenCount": 300}
"""The usage of an answer without an image: what was read and thought is paid for all the same."""


def spent(project) -> float:
    """What all answers came to, in millionths of a USD."""
    return float(project("cost", "--actual", "--json").json["total"]["amount"]) * 1e6


def test_all_outcomes_of_one_batch_are_told_with_their_words_by_every_command(shop, proxy):
    replies, expected = [], []
    for word, status in FINISHED.items():
        told = candidate(finishReason=word, finishMessage=f"Words on {word}.")
        replies.append({"response": {**told["response"], "usageMetadata": UNPAID}})
        expected.append((status, f"{word}: Words on {word}."))
    for word in PROMPT_BLOCKS:
        replies.append({"response": {"promptFeedback": {"blockReason": word, "blockReasonMessage": "Not this."}}})
        expected.append(("blocked", f"{word}: Not this."))
    for code, (status, _transient) in CODES.items():
        replies.append({"error": {"code": code, "message": "So it is."}})
        expected.append((status, f"code {code}: So it is."))
    replies.append(candidate(image_part(RED), finishReason="STOP"))
    expected.append(("done", ""))
    shop.delivers()
    before = spent(shop)
    proxy.after = replying(replies)
    items = ", ".join(f"{{id: i{number}}}" for number in range(len(replies)))
    shop.write("jobs/shop.yaml", f"prompt: LOCAL:NOIMAGE of [item]\nretry: 0\nitems: [{items}]\n")
    ended = shop(*RUN, "--yes")
    assert ended.code == 3
    assert "`pipeline show KEY` what to do next" in ended.err
    records = shop.records()
    listed = {row["key"]: row for row in shop("ls", "--json").json["items"]}
    for number, (status, reason) in enumerate(expected):
        for told in (records[f"i{number}"], listed[f"i{number}"]):
            assert told["status"] == status
            assert (told["reason"] or "").startswith(reason)
    ends = sum(cost is not None and float(cost["amount"]) > 0 for cost in (told["cost"] for told in records.values()))
    assert ends == len(FINISHED) + len(PROMPT_BLOCKS) + 1, "what was read and thought is paid for"
    total = sum(round(float(told["cost"]["amount"]) * 1e6) for told in records.values() if told["cost"])
    assert spent(shop) - before == pytest.approx(total)
    assert float(shop("status", "--json").json["jobs"][0]["cost"]["amount"]) * 1e6 - before == pytest.approx(total)
    _check_shown(shop, expected)


def _check_shown(shop, expected):
    """One of each status is shown with its attempt, its cost, and what to do."""
    for status in ("blocked", "no_image", "failed", "cancelled"):
        number = next(number for number, (found, _reason) in enumerate(expected) if found == status)
        shown = shop("show", f"i{number}", "--json").json
        [attempt] = shown["attempts"]
        assert attempt["status"] == status
        assert attempt["reason"].startswith(expected[number][1])
        assert (attempt["cost"] is None) == (status == "cancelled")
        text = shop("show", f"i{number}").out
        assert expected[number][1] in text
        assert f"             next  {shown['next']}" in text
        [command] = re.findall(r"`pipeline (retry [^`]+)`", shown["next"])
        assert shlex.split(command)[:4] == ["retry", "jobs/shop.yaml", "--only", status]
    assert shop(*shlex.split(command), "--poll", "0.1s").code == 3, "what it says to type can be typed"
    assert len(shop("show", f"i{number}", "--json").json["attempts"]) == 2


def test_an_image_with_the_word_of_a_refusal_is_an_image(shop, proxy):
    shop.write("jobs/shop.yaml", "prompt: A mug\nitems: [{id: i0}]\n")
    proxy.after = replying([candidate(image_part(RED), finishReason="IMAGE_SAFETY", finishMessage="Hm.")])
    assert shop(*RUN).code == 0
    record = shop.records()["i0"]
    assert (record["status"], record["finish_reason"]) == ("done", "IMAGE_SAFETY")
    assert shop.tree()["i0.jpg"][0] == RED


@pytest.mark.parametrize(
    ("reply", "status", "reason", "advice"),
    [
        pytest.param(
            candidate({"text": "I cannot\ndraw that."}, finishReason="STOP"),
            *("no_image", "STOP; it answered in words alone: I cannot draw that.", "ask for a picture outright"),
            id="words alone",
        ),
        pytest.param(candidate(finishReason="MAX_TOKENS"), "no_image", "MAX_TOKENS", "raise max_output", id="cut"),
        pytest.param(candidate(image_part(RED[:-9])), "invalid", "the image is damaged: ", "quarantine/", id="damaged"),
        pytest.param(
            candidate(image_part(picture(size=(512, 512)))),
            *("check", "is 512x512, not 1024x1024 as asked", "look at outputs/shop/i0.jpg"),
            id="size",
        ),
        pytest.param(
            candidate(finishReason="MISSING_THOUGHT_SIGNATURE"),
            *("failed", "MISSING_THOUGHT_SIGNATURE: an earlier turn", "buy the turns before it again"),
            id="signature",
        ),
        pytest.param({"error": {"code": 8, "message": "x"}}, "failed", "code 8: x", "a limit of the", id="limit"),
        pytest.param({"error": {"code": 13, "message": "x"}}, "failed", "code 13: x", "trouble of its", id="trouble"),
        pytest.param({"error": {"code": 3, "message": "x"}}, "failed", "code 3: x", "change the job", id="ask"),
        pytest.param(
            *(candidate(finishReason="RECITATION"), "blocked", "RECITATION", "something of your own"), id="copy"
        ),
        pytest.param(
            *({"response": {"promptFeedback": {"blockReason": "OTHER"}}}, "blocked", "OTHER", "the prompt, or an"),
            id="prompt",
        ),
    ],
)  # fmt: skip
@pytest.mark.some(2)
def test_each_failure_says_what_to_do_next(shop, proxy, reply, status, reason, advice):
    shop.write("jobs/shop.yaml", "prompt: A mug\nretry: 0\nitems: [{id: i0}]\n")
    proxy.after = replying([reply])
    ended = shop(*RUN)
    assert ended.code == 3
    assert f"--status {status}" in ended.err
    record = shop.records()["i0"]
    assert record["status"] == status
    assert record["reason"].startswith(reason)
    assert advice in shop("show", "i0").out
    listed = shop("ls")
    assert listed.out == f"i0\tshop\t{status}\t{record['reason']}\n"
    assert "`pipeline show KEY`" in listed.err


def test_what_waits_says_what_to_do_next(slow_shop):
    assert "`pipeline run jobs/shop.yaml` sends it" in _next(slow_shop, "plan", "jobs/shop.yaml")
    assert "`pipeline collect jobs/shop.yaml`" in _next(slow_shop, "submit", "jobs/shop.yaml")


def _next(shop, *command):
    assert shop(*command).code == 0
    return shop("show", "mug/1:1", "--json").json["next"]


def test_what_strangers_wrote_moves_no_cursor_and_makes_no_line(shop, proxy):
    shop.write("jobs/shop.yaml", "prompt: |\n  A mug\n  in blue\nretry: 0\nitems: [{id: i0}]\n")
    proxy.after = replying([candidate(finishReason="OTHER", finishMessage="a\x1b[2J\tb\n           status  done")])
    assert shop(*RUN).code == 3
    shown = shop("show", "i0").out
    assert "OTHER: a\\x1b[2J\\tb\n                              status  done" in shown
    assert "prompt  A mug\n                   in blue" in shown
    assert "\x1b" not in shop("ls").out
    assert len(shop("ls").out.splitlines()) == 1


# ------------------------------------------------------------------------------------------- partial batches

PARTIAL = [
    "on: line, do: missing, key: 'i1~*'",
    "on: line, do: block, reason: SPII, message: Not him., key: 'i2~*'",
    "on: line, do: error, code: 3, message: No such thing., key: 'i3~*'",
    "on: line, do: block, under: prompt, reason: JAILBREAK, key: 'i4~*'",
]


@contextmanager
def rehearsed(project, monkeypatch, *rules):
    """The project before a service with these faults."""
    path = project.write("faults.yaml", "".join(f"- {{{rule}}}\n" for rule in rules))
    with local.serving(project.folder / "service", latency_s=0.0, pictures="plain", faults=path) as url:
        monkeypatch.setenv("GEMINI_API_KEY", KEY)
        monkeypatch.setenv("GOOGLE_GEMINI_BASE_URL", url)
        monkeypatch.setenv("PIPELINE_SETTLE", "0")
        monkeypatch.setenv("PIPELINE_PATIENCE", "0")
        yield project


@pytest.mark.parametrize(
    ("ending", "status", "reason"),
    [
        pytest.param("expire", "expired", "code 4: ", id="expired"),
        pytest.param("fail, code: 8, message: Out of quota.", "failed", "code 8: Out of quota.", id="failed"),
        pytest.param("cancel", "cancelled", "code 13: ", id="cancelled"),
        pytest.param("unknown_state", "missing", "the batch ended as PARTIALLY_SUCCEEDED without an", id="partially"),
        pytest.param("unknown_state, state: TIRED", "missing", "the batch ended as TIRED without an", id="unknown"),
    ],
)  # fmt: skip
@pytest.mark.some("expired")
def test_a_batch_that_ends_badly_delivers_what_it_has(project, monkeypatch, ending, status, reason):
    output = "" if ending.startswith("unknown") else ", output: true"
    with rehearsed(project, monkeypatch, f"on: batch, do: {ending}{output}", *PARTIAL) as shop:
        shop.write("jobs/shop.yaml", "prompt: A mug of [item]\nretry: 0\nitems: [i0, i1, i2, i3, i4, i5]\n")
        ended = shop(*RUN)
        assert ended.code == 3
        failed = {"failed": "2 failed"}.get(status, "1 failed")
        assert {"2 done", "2 blocked", failed} <= set(re.findall(r"\d \w+", ended.err))
        records = shop.records()
        told = {key: (record["status"], record["reason"]) for key, record in records.items()}
        assert told["i1"][0] == status
        assert told["i1"][1].startswith(reason)
        assert told["i2"] == ("blocked", "SPII: Not him.")
        assert told["i3"] == ("failed", "code 3: No such thing.")
        assert told["i4"] == ("blocked", "JAILBREAK: Rehearsed: the picture is withheld.")
        assert told["i0"] == told["i5"] == ("done", None)
        assert shop.tree().keys() == {"i0.jpg", "i5.jpg", "manifest.jsonl", "manifest.csv"}
        assert shop("verify").code == 0
        listed = {row["key"]: (row["status"], row["reason"]) for row in shop("ls", "--json").json["items"]}
        assert listed == told
        spent = [float(record["cost"]["amount"]) for record in records.values() if record["cost"]]
        assert len(spent) == 4, "what was refused is paid for, what the batch never answered is not"
        document = shop("status", "--json").json["jobs"][0]
        assert float(document["cost"]["amount"]) == pytest.approx(sum(spent))
        assert {(why["status"], why["reason"], why["requests"]) for why in document["reasons"]} == {
            (*told[key], 1) for key in ("i1", "i2", "i3", "i4")
        }
        assert "  1 blocked: SPII: Not him.\n" in shop("status").out
        assert float(shop("cost", "--actual", "--json").json["total"]["amount"]) == pytest.approx(sum(spent))
        [attempt] = shop("show", "i2", "--json").json["attempts"]
        assert (attempt["status"], attempt["reason"]) == ("blocked", "SPII: Not him.")
        assert float(attempt["cost"]) == float(records["i2"]["cost"]["amount"]) > 0
        assert "blocked: SPII: Not him.  $0.00" in shop("show", "i2").out
        assert f"--only {status} --select key:i1`" in shop("show", "i1").out


@pytest.mark.parametrize(
    ("ending", "status", "reason"),
    [
        pytest.param("expire", "expired", "code 4: ", id="expired"),
        pytest.param("fail, message: So be it.", "failed", "code 13: So be it.", id="failed"),
        pytest.param("cancel", "cancelled", "code 13: ", id="cancelled"),
    ],
)
@pytest.mark.some(1)
def test_a_batch_that_ends_with_nothing_gives_its_words_to_all_of_it(project, monkeypatch, ending, status, reason):
    with rehearsed(project, monkeypatch, f"on: batch, do: {ending}, times: 1") as shop:
        shop.write("jobs/shop.yaml", "prompt: A mug of [item]\nretry: 0\nitems: [i0, i1]\n")
        assert shop(*RUN).code == 3
        assert {record["status"] for record in shop.records().values()} == {status}
        assert all(record["reason"].startswith(reason) for record in shop.records().values())
        assert shop("status", "--json").json["jobs"][0]["cost"]["amount"] == "0"
        again = shop("retry", "jobs/shop.yaml", "--only", status, "--poll", "0.1s")
        assert again.code == 0
        attempts = shop("show", "i0", "--json").json["attempts"]
        assert [one["status"] for one in attempts] == [status, "done"]


@pytest.mark.parametrize(
    ("do", "status", "files"),
    [
        pytest.param("text, message: Rather not.", "no_image", set(), id="words alone"),
        pytest.param("signature", "no_image", set(), id="a signature alone"),
        pytest.param("thoughts", "done", {"i0.jpg"}, id="thoughts first"),
        pytest.param("several, pictures: 3", "done", {"i0.jpg", "i0.draft1.jpg", "i0.draft2.jpg"}, id="several"),
        pytest.param("urlsafe", "done", {"i0.jpg"}, id="another alphabet"),
        pytest.param("block, picture: true", "done", {"i0.jpg"}, id="a refusal with a picture"),
        pytest.param("error, code: 429, message: Slow down.", "failed", set(), id="429"),
        pytest.param("error, code: 499", "cancelled", set(), id="499"),
    ],
)
@pytest.mark.some(2)
def test_odd_answers_are_rehearsed_from_end_to_end(project, monkeypatch, do, status, files):
    with rehearsed(project, monkeypatch, f"on: line, do: {do}") as shop:
        shop.write("jobs/shop.yaml", "prompt: A mug\nretry: 0\nchecks: {not_blank: false}\nitems: [{id: i0}]\n")
        assert shop(*RUN).code == (0 if status == "done" else 3)
        assert shop.records()["i0"]["status"] == status
        assert shop.tree().keys() - {"manifest.jsonl", "manifest.csv"} == files
        if do.startswith("text"):
            assert shop.records()["i0"]["reason"] == "STOP; it answered in words alone: Rather not."


# -------------------------------------------------------------------------------------------- what was found

SEARCH = "prompt: Weather of [item]\nsearch: [web, image]\nitems: [{id: i0}]\n"


def test_what_an_answer_was_looked_up_from_is_shown(shop):
    shop.write("jobs/shop.yaml", SEARCH)
    assert shop(*RUN).code == 0
    shown = shop("show", "i0").out
    slug = "weather-of-i0"
    for line in (
        "         searched  Weather of i0",
        "  searched images  Weather of i0",
        f"           source  [1]  example.com  https://example.com/pages/{slug}",
        f"           source  [3]  example.net  https://example.net/pictures/{slug}  (picture https://example.net/pictures/{slug}.png)",
        "         rests on  [2]  example.org",
        "      suggestions  Weather of i0",
    ):  # fmt: skip
        assert f"{line}\n" in shown
    assert "grounding.suggestions of --json" in shown
    told = shop("show", "i0", "--json").json
    assert told["next"] is None
    assert told["grounding"]["suggestions"].startswith("<style>")
    assert 'class="chip"' in told["grounding"]["suggestions"]


@pytest.mark.parametrize(
    ("markup", "words"),
    [
        ("<style>.a{}</style><div><a>one</a> <b>t&lt;w&#111;</b></div>", ["one", "t<wo"]),
        ("<script>alert(1)</script>x<svg><title>mark</title></svg>", ["x"]),
        ("<style>never closed", []),
        ("</style></p>stray<", ["stray"]),
        ("<a " * 20_000, []),
        ("plain", ["plain"]),
        ("<!-- a --><?c?>", []),
        ("<i>a</i>" * 2000, ["a"] * 20),
    ],
)
def test_of_a_suggestion_only_the_words_are_told(markup, words):
    assert words_of(markup) == words


def test_hostile_findings_are_shown_as_what_they_are(shop, proxy):
    meta = {
        "webSearchQueries": ["a\x1b[31m\nb", 5, None],
        "groundingChunks": [{"web": {"uri": "javascript:x", "title": "<b>\r\x07"}}, {"maps": {}}, "chunk"],
        "groundingSupports": [{"segment": {"text": "so\n           status  done"}, "groundingChunkIndices": [0]}],
        "searchEntryPoint": {"renderedContent": "<div>\x1b]0;x\x07<script>y</script></div>"},
    }
    shop.write("jobs/shop.yaml", SEARCH)
    proxy.after = replying([candidate(image_part(RED), groundingMetadata=meta)])
    assert shop(*RUN).code == 0
    shown = shop("show", "i0").out
    assert not set(shown) - {"\n"} & set(map(chr, range(32)))
    assert "searched  a\\x1b[31m\n                   b\n" in shown
    assert "           source  [1]  <b>" in shown
    assert "javascript" not in shown
    assert "rests on  [1]  so status  done" not in shown
    assert "rests on  [1]  so status done" in shown


# ----------------------------------------------------------------------------------- thoughts, and what they cost

FLASH = models.load().find("flash")


@pytest.mark.parametrize(
    ("told", "images", "sketches", "paid"),
    [
        pytest.param((1120, 60), 1, 1, (1120, 60), id="only what was delivered is counted"),
        pytest.param((2240, 60), 1, 1, (1120, 60), id="the sketch is counted as an image"),
        pytest.param((3360, 60), 1, 2, (1120, 60), id="two sketches"),
        pytest.param((3360, 60), 2, 1, (2240, 60), id="two results and a sketch"),
        pytest.param((1120, 60), 0, 1, (0, 60), id="a sketch and no result"),
        pytest.param((2240, 60), 1, 0, (2240, 60), id="no sketch was shown: what is told holds"),
        pytest.param((1680, 60), 1, 1, (1680, 60), id="no whole image more: the table may be wrong"),
        pytest.param((0, 1180), 1, 0, (1120, 60), id="no split"),
        pytest.param((0, 1180), 1, 1, (1120, 60), id="no split, the sketch is not counted"),
        pytest.param((0, 2300), 1, 1, (1120, 60), id="no split, the sketch is counted"),
        pytest.param((0, 1180), 0, 1, (0, 60), id="no split, a sketch and no result"),
        pytest.param((0, 60), 0, 0, (0, 60), id="words"),
    ],
)
def test_an_image_that_is_a_thought_costs_nothing(told, images, sketches, paid):
    found = charged(FLASH, "1K", Usage(100, *told, 200), images=images, sketches=sketches)
    assert found == Usage(100, *paid, 200), "and thoughts in words are paid as they are told"


def test_of_a_size_nobody_knows_all_of_the_output_is_the_image():
    assert charged(FLASH, "9K", Usage(1, 0, 500, 2), images=1, sketches=1) == Usage(1, 500, 0, 2)
    assert charged(FLASH, "9K", Usage(1, 7, 500, 2), images=1, sketches=1) == Usage(1, 7, 500, 2)


@pytest.mark.some(1)
@pytest.mark.parametrize("counts_sketches", [False, True], ids=["delivered alone", "all"])
def test_a_job_that_shows_its_thoughts_pays_for_words_and_no_sketch(shop, proxy, counts_sketches):
    usage = {
        "promptTokenCount": 100,
        "candidatesTokenCount": 2240 if counts_sketches else 1120,
        "thoughtsTokenCount": 300,
        "candidatesTokensDetails": [{"modality": "IMAGE", "tokenCount": 2240 if counts_sketches else 1120}],
    }
    reply = candidate(THOUGHT, image_part(BLUE, thought=True), image_part(RED))
    proxy.after = replying([{"response": {**reply["response"], "usageMetadata": usage}}])
    shop.write("jobs/shop.yaml", "prompt: A mug\nthinking: high\nthoughts: true\nitems: [{id: i0}]\n")
    planned = shop("plan", "--json").json["jobs"][0]["cost"]
    shop.write("jobs/other.yaml", "prompt: A mug\nthinking: high\nitems: [{id: i0}]\n")
    assert shop("plan", "--json", "jobs/other.yaml").json["jobs"][0]["cost"] == planned, "sketches are free"
    assert shop(*RUN).code == 0
    record = shop.records()["i0"]
    assert float(record["cost"]["amount"]) == pytest.approx((100 * 0.75 + 300 * 3.75 + 1120 * 15) / 1e6)
    assert record["usage"]["output_image"] == usage["candidatesTokenCount"], "the usage is what the service told"
    assert [(file["path"], file["kind"]) for file in record["files"]] == [
        *[("i0.jpg", "image"), ("i0.thought1.md", "thought"), ("i0.thought2.jpg", "thought")],
    ]


@pytest.mark.parametrize(
    ("model", "level", "levels"),
    [("flash", "low", "minimal, medium and high"), ("lite", "medium", "minimal and high"), ("pro", "high", "")],
)
def test_a_level_of_thinking_the_model_lacks_is_an_error_that_names_its_own(project, model, level, levels):
    project.write("jobs/shop.yaml", f"prompt: A mug\nmodel: {model}\nthinking: {level}\n")
    ended = project("validate")
    assert ended.code == 2
    assert f"has no level of thinking '{level}'" in ended.err
    assert f"its levels: {levels}" in ended.err or (not levels and "hint: " in ended.err)


@pytest.mark.parametrize(
    ("model", "search", "offered"),
    [("pro", "[web, image]", "it can search: web"), ("lite", "[web]", "it cannot search at all")],
)
def test_a_search_the_model_lacks_is_an_error_that_names_what_it_has(project, model, search, offered):
    project.write("jobs/shop.yaml", f"prompt: A mug\nmodel: {model}\nsearch: {search}\n")
    ended = project("validate")
    assert (ended.code, offered in ended.err) == (2, True)


# ------------------------------------------------------------------------------------- words and pictures in turns

WORDS = {"text": "Some words."}
MORE = {"text": "More words."}


@pytest.mark.parametrize(
    ("parts", "status", "page", "files"),
    [
        pytest.param([image_part(RED), WORDS], "done", "1W", 2, id="image first"),
        pytest.param([WORDS, image_part(RED), MORE], "done", "W1M", 2, id="text last"),
        pytest.param([WORDS, image_part(RED), image_part(BLUE), MORE], "done", "W12M", 3, id="two in a row"),
        pytest.param([image_part(RED), WORDS, image_part(RED)], "done", "1W2", 3, id="the same twice"),
        pytest.param([image_part(RED)], "done", "", 1, id="no word"),
        pytest.param([WORDS], "no_image", None, 0, id="words alone"),
        pytest.param([THOUGHT, image_part(BLUE, thought=True), WORDS], "no_image", None, 0, id="a thought"),
        pytest.param([THOUGHT, WORDS, image_part(BLUE, thought=True), image_part(RED)], "done", "W1", 4, id="thoughts"),
    ],
)  # fmt: skip
@pytest.mark.some(2)
def test_words_and_pictures_come_home_in_the_order_they_were_told(shop, proxy, parts, status, page, files):
    shop.write(
        "jobs/shop.yaml", "prompt: A mug\nresponse: [text, image]\nthoughts: true\nretry: 0\nitems: [{id: i0}]\n"
    )
    proxy.after = replying([candidate(*parts, finishReason="STOP")])
    assert shop(*RUN).code == (0 if status == "done" else 3)
    record, tree = shop.records()["i0"], shop.tree()
    assert record["status"] == status
    assert len([path for path in tree if path.startswith("i0.")]) == files
    shapes = {"W": "Some words.", "M": "More words.", "1": "![image 1](i0.jpg)", "2": "![image 2](i0.part2.jpg)"}
    assert tree.get("i0.md", [None])[0] == (
        ("\n\n".join(shapes[mark] for mark in page) + "\n").encode() if page else None
    )
    assert shop("verify").code == 0


def test_words_alone_keep_their_thoughts_and_pay_for_no_sketch(shop, proxy):
    shop.write("jobs/shop.yaml", "prompt: A mug\nresponse: [text]\nthoughts: true\nitems: [{id: i0}]\n")
    proxy.after = replying([candidate(THOUGHT, image_part(BLUE, thought=True), WORDS, finishReason="STOP")])
    assert shop(*RUN).code == 0
    record = shop.records()["i0"]
    assert [(file["path"], file["kind"]) for file in record["files"]] == [
        *[("i0.md", "text"), ("i0.thought1.md", "thought"), ("i0.thought2.jpg", "thought")],
    ]
    assert record["text"] == "Some words."


def test_an_interleaved_answer_that_was_cut_is_kept_and_marked(shop, proxy):
    shop.write("jobs/shop.yaml", "prompt: A mug\nresponse: [text, image]\nitems: [{id: i0}]\n")
    proxy.after = replying([candidate(WORDS, image_part(RED), MORE, finishReason="MAX_TOKENS")])
    assert shop(*RUN).code == 3
    record = shop.records()["i0"]
    assert (record["status"], record["reason"]) == (
        *("check", "MAX_TOKENS: the answer ends where max_output_tokens cut it off"),
    )
    assert {"i0.jpg", "i0.md"} <= shop.tree().keys()


@pytest.mark.parametrize("status", [word for word in STATUSES if word != "done"])
def test_there_is_a_way_on_from_every_status_but_one(status):
    told = {
        "key": "a b,c/d's",
        "status": status,
        "reason": None,
        "finish_reason": None,
        "text": None,
        "files": [],
        "attempt": 0,
        "batch": None,
    }
    step = next_step(told, "jobs/my shop.yaml", "outputs/shop")
    assert "`pipeline " in step
    for command in re.findall("`pipeline ([^`]+)`", step):
        words = shlex.split(command)
        assert words[0] in {"run", "retry", "collect", "show"}
        assert words[0] == "show" or words[1] == "jobs/my shop.yaml"
        if "--select" in words:
            line = json.dumps({**told, "settings": {}})
            assert Selection.of([words[-1]]).takes(Facts(told["key"], line))
    assert next_step({**told, "status": "done"}, "j", "o") is None
