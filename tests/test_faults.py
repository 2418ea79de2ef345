"""Another server's ways: other orders, spellings, shapes and states, lost answers, cut files. The ledger counts."""

from __future__ import annotations

import base64
import io
import json
import random

import pytest
from conftest import KEY, SHOP
from PIL import Image
from proxy import DropError

from pipeline.unpack import group

RUN = ("run", "jobs/shop.yaml", "--poll", "0.1s", "--wait", "40s")


def once(condition, action):
    """Do `action` the first time that a call fits."""
    done = []

    def rule(call):
        if condition(call) and not done:
            done.append(call)
            action(call)

    return rule


def pictures(project):
    return {path: entry[0] for path, entry in project.tree().items() if path.endswith(".jpg")}


@pytest.fixture
def expected(shop, service):
    """The pictures of an undisturbed run."""
    assert shop("--outputs", "undisturbed", *RUN).code == 0
    top = shop.folder / "undisturbed/shop"
    return {path.name: path.read_bytes() for path in top.glob("*.jpg")}


# ----------------------------------------------------------------------------------------- answer lines


def lines(change):
    """A rule that changes the lines of every answer file."""

    def rule(call):
        if call.is_download() and call.status == 200:
            call.say(b"".join(change([line + b"\n" for line in call.answer.splitlines()])))

    return rule


def each(change):
    return lambda found: [json.dumps(change(json.loads(line))).encode() + b"\n" for line in found]


def shuffled(found):
    random.Random(3).shuffle(found)
    return found


def with_thought(reply):
    parts = reply["response"]["candidates"][0]["content"]["parts"]
    draft = dict(next(part for part in parts if "inlineData" in part))
    parts.insert(0, {**draft, "thought": True})
    parts.insert(0, {"text": 'it says "data":"QQ==" \u2028 here', "thought": True})
    return reply


def url_safe(reply):
    for part in reply["response"]["candidates"][0]["content"]["parts"]:
        if "inlineData" in part:
            part["inlineData"]["data"] = part["inlineData"]["data"].translate(str.maketrans("+/", "-_")).rstrip("=")
    return reply


def escaped(found):
    return [line.replace(b"/9j/", b"\\/9j\\/").replace(b"=", b"\\u003d") for line in found]


def stranger(found):
    return [*found, b'{"key": "../../evil~123", "response": {"candidates": []}}\n', b"\n", b"{cut"]


def error_for(line):
    return json.dumps({"key": json.loads(line)["key"], "error": {"code": 13}}).encode() + b"\n"


def blocked(_reply):
    return {"response": {"promptFeedback": {"blockReason": "SAFETY"}}}


def refused(_reply):
    return {"response": {"candidates": [{"content": {}, "finishReason": "RECITATION", "finishMessage": "known"}]}}


def cut_short(_reply):
    return {"response": {"candidates": [{"finishReason": "MAX_TOKENS"}]}}


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(shuffled, id="shuffled"),
        pytest.param(lambda found: found[::-1], id="reversed"),
        pytest.param(each(lambda reply: dict(reversed(reply.items()))), id="key at the other end"),
        pytest.param(each(with_thought), id="thoughts first"),
        pytest.param(each(url_safe), id="url-safe base64 without padding"),
        pytest.param(escaped, id="escapes inside base64"),
        pytest.param(lambda found: [line for line in found for _ in "ab"], id="each twice"),
        pytest.param(stranger, id="a stranger, a blank line, a broken one"),
        pytest.param(lambda found: [line.replace(b"\n", b"\r\n") for line in found], id="carriage returns"),
        pytest.param(
            lambda found: [*found, *map(error_for, found)],
            id="an error after each image",
        ),
    ],
)  # fmt: skip
@pytest.mark.some("shuffled", "a stranger, a blank line, a broken one")
def test_every_picture_reaches_its_place_whatever_the_answer_looks_like(shop, proxy, expected, change):
    proxy.after = lines(change)
    assert shop(*RUN).code == 0
    assert pictures(shop) == expected
    assert len(proxy.calls) > 3


@pytest.mark.some(2)
@pytest.mark.parametrize("most", [1, 2, 5])
def test_however_few_are_published_together_each_picture_reaches_its_place_once(
    shop, proxy, expected, monkeypatch, most
):
    """What comes twice finds its first answer published, on its way to the disk, or not even that."""
    monkeypatch.setattr(group, "_MOST", most)
    proxy.after = lines(lambda found: [line for line in [*found, *found, *map(error_for, found)] for _ in "ab"])
    assert shop(*RUN).code == 0
    assert pictures(shop) == expected
    assert not (shop.outputs / ".pipeline/conflicts").exists()
    assert {record["status"] for record in shop.records().values()} == {"done"}


@pytest.mark.parametrize(
    ("change", "status", "reason"),
    [
        pytest.param(lambda _r: {"error": {"code": 3, "message": "no"}}, "failed", "code 3: no", id="error"),
        pytest.param(lambda _r: {"status": {"code": 3, "message": "no"}}, "failed", "code 3: no", id="status"),
        pytest.param(lambda _r: {"error": {"code": 1}}, "cancelled", "code 1", id="cancelled"),
        pytest.param(lambda _r: {"error": {"code": [3], "message": "no"}}, "failed", "code [3]: no", id="odd code"),
        pytest.param(blocked, "blocked", "SAFETY", id="block"),
        pytest.param(refused, "blocked", "RECITATION: known", id="refusal"),
        pytest.param(cut_short, "no_image", "MAX_TOKENS", id="no image"),
        pytest.param(lambda _r: {"response": {"candidates": "?"}}, "no_image", None, id="nonsense"),
    ],
)  # fmt: skip
@pytest.mark.some("error", "block", "nonsense")
def test_each_outcome_has_its_status_and_the_services_own_words(shop, proxy, change, status, reason):
    shop.write("jobs/shop.yaml", SHOP + "retry: 0\n")
    proxy.after = lines(each(lambda reply: {"key": reply["key"], **change(reply)}))
    assert shop(*RUN).code == 3
    records = shop.records()
    assert {record["status"] for record in records.values()} == {status}
    assert reason is None or {record["reason"] for record in records.values()} == {reason}
    assert pictures(shop) == {}


def cut_image(reply):
    for part in reply["response"]["candidates"][0]["content"]["parts"]:
        if "inlineData" in part:
            part["inlineData"]["data"] = part["inlineData"]["data"][:-8]
    return reply


def test_a_damaged_image_never_reaches_the_tree_and_is_kept_apart(shop, proxy):
    shop.write("jobs/shop.yaml", SHOP + "retry: 0\n")
    proxy.after = lines(each(cut_image))
    assert shop(*RUN).code == 3
    assert {record["status"] for record in shop.records().values()} == {"invalid"}
    assert pictures(shop) == {}
    assert len([*(shop.outputs / ".pipeline/quarantine/shop").iterdir()]) == 6


def test_an_image_of_another_size_is_kept_and_marked_with_both_numbers(shop, proxy):
    proxy.before = lambda call: setattr(call, "path", call.path)
    shop.write("jobs/shop.yaml", SHOP)

    def swap(found):
        """Give each request the answer of the other shape."""
        replies = [json.loads(line) for line in found]
        keys = {reply["key"]: reply for reply in replies}
        names = sorted(keys)
        for first, second in zip(names[::2], names[1::2], strict=True):
            keys[first]["key"], keys[second]["key"] = second, first
        return [json.dumps(reply).encode() + b"\n" for reply in replies]

    proxy.after = lines(swap)
    shop(*RUN)
    checked = [record for record in shop.records().values() if record["status"] == "check"]
    assert checked
    assert all("1024" in record["reason"] and "928" in record["reason"] for record in checked)
    assert len(pictures(shop)) == 6


def test_a_line_that_is_missing_is_fetched_again_before_it_is_called_missing(shop, proxy, service, expected):
    proxy.after = once(
        lambda call: call.is_download(), lambda call: call.say(b"\n".join(call.answer.splitlines()[:3]) + b"\n")
    )
    assert shop(*RUN).code == 0
    assert pictures(shop) == expected
    assert [entry["requests"] for entry in service.ledger()] == [6, 6], "the undisturbed run, and this one"


def with_draft(reply):
    """Put another image, of another size, before the one that counts."""
    parts = reply["response"]["candidates"][0]["content"]["parts"]
    buffer = io.BytesIO()
    Image.new("RGB", (64, 48), "teal").save(buffer, "PNG")
    parts.insert(0, {"inlineData": {"mimeType": "image/png", "data": base64.b64encode(buffer.getvalue()).decode()}})
    return reply


def test_the_last_image_is_the_result_and_earlier_ones_are_drafts(shop, proxy, expected):
    proxy.after = lines(each(with_draft))
    assert shop(*RUN).code == 0
    assert pictures(shop) == expected
    files = shop.records()["mug/1:1"]["files"]
    assert [(file["path"], file["kind"], file["width"]) for file in files] == [
        ("mug-1x1.jpg", "image", 1024),
        ("mug-1x1.draft1.png", "draft", 64),
    ]
    assert shop("verify").code == 0


def a_page(call):
    call.headers["Content-Type"] = "text/html"
    call.say(b"<html>\nPlease sign in.\n</html>\n", 200)


def of_others(call):
    call.say(b"".join(each(lambda reply: {**reply, "key": "other~0123456789ab"})(call.answer.splitlines())))


def without_the_last(call):
    call.say(b"".join(call.answer.splitlines(keepends=True)[:-1]))


def test_a_request_without_an_answer_is_asked_again(shop, proxy, service):
    downloads = []

    def rule(call):
        if call.is_get() and not downloads[2:]:
            told = call.json
            told["metadata"]["batchStats"]["successfulRequestCount"] = "4"
            call.say(told)
        if call.is_download():
            downloads.append(call)
            if len(downloads) <= 2:
                call.say(b"\n".join(call.answer.splitlines()[:4]) + b"\n")

    proxy.after = rule
    assert shop(*RUN).code == 0
    assert [entry["requests"] for entry in service.ledger()] == [6, 2]


@pytest.mark.some(1)
@pytest.mark.parametrize("minutes", [0, 2])
def test_what_an_answer_lacks_is_not_bought_again_for_a_while(shop, proxy, service, clock, minutes):
    proxy.after = lambda call: without_the_last(call) if call.is_download() and len(service.ledger()) == 1 else None
    assert shop(*RUN[:-1], "3s").code == 4
    assert len(service.ledger()) == 1
    clock.ahead_s = minutes * 60.0
    if not minutes:
        proxy.after = lambda call: None
    assert shop(*RUN).code == 0
    assert {record["status"] for record in shop.records().values()} == {"done"}
    assert [entry["requests"] for entry in service.ledger()] == ([6, 1] if minutes else [6])


def test_a_create_whose_answer_names_another_batch_is_looked_for_under_its_own_name(shop, proxy, service):
    other = []

    def rule(call):
        if call.is_create() and call.status == 200:
            made = call.json
            other.append(made["name"])
            call.say(json.loads(call.answer.replace(made["name"].encode(), b"batches/somebodyelses")))
        if call.is_get() and call.path.endswith("somebodyelses"):
            running = {"state": "BATCH_STATE_RUNNING", "displayName": "theirs", "inputConfig": {"fileName": "files/x"}}
            call.say({"name": "batches/somebodyelses", "metadata": running}, 200)

    proxy.after = rule
    assert shop(*RUN).code == 0
    assert len(service.ledger()) == 1
    assert {record["batch"] for record in shop.records().values()} == {*other}


def test_an_answer_that_was_cut_is_fetched_again(shop, proxy, expected):
    def cut(call):
        call.headers["Content-Length"] = str(len(call.answer))
        call.headers["Transfer-Cut"] = "1"
        call.answer = call.answer[: len(call.answer) // 2]

    proxy.after = once(lambda call: call.is_download(), cut)
    assert shop(*RUN).code == 0
    assert pictures(shop) == expected


@pytest.mark.some(1)
@pytest.mark.parametrize("wrong", [a_page, of_others])
def test_what_is_not_the_answer_is_not_taken_for_it_for_an_hour(shop, proxy, service, clock, monkeypatch, wrong):
    monkeypatch.setenv("PIPELINE_SETTLE", "15m")
    monkeypatch.setenv("PIPELINE_PATIENCE", "1h")
    proxy.after = lambda call: wrong(call) if call.is_download() else None
    for minutes in (0, 20, 40, 55):
        clock.ahead_s = minutes * 60.0
        assert shop("collect" if minutes else "submit", "jobs/shop.yaml", "--fail-if-pending").code == 4
        assert shop("submit", "jobs/shop.yaml", "--fail-if-pending").code == 4
    proxy.after = lambda call: None
    assert shop(*RUN).code == 0
    assert {record["status"] for record in shop.records().values()} == {"done"}
    assert len(service.ledger()) == 1


@pytest.mark.some(1)
@pytest.mark.parametrize("wrong", [a_page, of_others])
def test_what_never_becomes_the_answer_is_for_a_person_to_decide(shop, proxy, service, clock, wrong):
    proxy.after = lambda call: wrong(call) if call.is_download() else None
    assert shop(*RUN).code == 6
    assert {record["status"] for record in shop.records().values()} == {"held"}
    proxy.after = lambda call: None
    assert shop(*RUN).code == 0
    assert {record["status"] for record in shop.records().values()} == {"done"}
    assert len(service.ledger()) == 1


def test_an_answer_that_is_late_is_waited_for(shop, proxy, expected, monkeypatch):
    monkeypatch.setenv("PIPELINE_SETTLE", "15m")
    monkeypatch.setenv("PIPELINE_PATIENCE", "1h")
    denial = {
        "error": {
            "code": 403,
            "status": "PERMISSION_DENIED",
            "message": "You do not have permission to access the File x or it may not exist.",
        }
    }
    proxy.after = once(lambda call: call.is_download(), lambda call: call.say(denial, 403))
    assert shop(*RUN).code == 0
    assert pictures(shop) == expected


# ----------------------------------------------------------------------------------------- operations


def rename_state(call):
    if call.is_get() or call.is_list():
        call.say(call.answer.replace(b"BATCH_STATE_", b"JOB_STATE_"))


def flatten(call):
    if call.is_get():
        told = call.json
        meta = told.pop("metadata")
        meta.pop("@type", None)
        call.say({**meta, **told})


def only_response(call):
    if call.is_get() and call.json.get("done"):
        told = call.json
        told["metadata"].pop("output", None)
        call.say(told)


def snake(call):
    if call.is_get():
        call.say(
            call.answer.replace(b"displayName", b"display_name")
            .replace(b"responsesFile", b"responses_file")
            .replace(b"inputConfig", b"input_config")
        )


def partially(call):
    if call.is_get():
        call.say(call.answer.replace(b"BATCH_STATE_SUCCEEDED", b"BATCH_STATE_PARTIALLY_SUCCEEDED"))


@pytest.mark.parametrize(
    "rule", [rename_state, flatten, only_response, snake, partially], ids=lambda rule: rule.__name__
)
@pytest.mark.some("partially")
def test_a_batch_is_understood_in_every_shape(shop, proxy, expected, rule):
    proxy.after = rule
    assert shop(*RUN).code == 0
    assert pictures(shop) == expected


def test_a_batch_that_failed_for_a_passing_reason_is_asked_again(shop, proxy, service):
    failed = []

    def rule(call):
        if call.is_get() and call.json.get("done") and len(failed) < 1:
            told = call.json
            failed.append(told)
            told.pop("response", None)
            told["metadata"].pop("output", None)
            told["metadata"]["state"] = "BATCH_STATE_FAILED"
            told["error"] = {"code": 8, "message": "quota"}
            call.say(told)

    proxy.after = rule
    assert shop(*RUN).code == 0
    assert [entry["requests"] for entry in service.ledger()] == [6, 6]


def test_a_batch_that_expires_twice_is_for_a_person_to_decide(shop, proxy, service):
    def rule(call):
        if call.is_get():
            told = call.json
            told.update(done=True, error={"code": 4, "message": "expired"})
            told.pop("response", None)
            told["metadata"].pop("output", None)
            told["metadata"]["state"] = "BATCH_STATE_EXPIRED"
            call.say(told)

    proxy.after = rule
    assert shop(*RUN).code == 6
    assert {record["status"] for record in shop.records().values()} == {"held"}
    assert [entry["requests"] for entry in service.ledger()] == [6, 6]
    proxy.after = lambda call: None
    assert shop("retry", "jobs/shop.yaml", "--only", "held", "--poll", "0.1s").code == 0
    assert len(service.ledger()) == 3


# --------------------------------------------------------------------------------------------- creates


def drop(_call):
    raise DropError


@pytest.mark.parametrize(
    "action",
    [
        pytest.param(drop, id="dropped"),
        pytest.param(
            lambda call: call.say({"error": {"code": 503, "status": "UNAVAILABLE", "message": "x"}}, 503), id="503"
        ),
        pytest.param(lambda call: call.say(b""), id="empty 200"),
        pytest.param(lambda call: call.say(call.answer[:20]), id="cut JSON"),
        pytest.param(lambda call: call.say(b"<html>bad gateway</html>", 502), id="HTML 502"),
        pytest.param(lambda call: call.say(b"<html>hello</html>", 200), id="HTML 200"),
        pytest.param(lambda call: call.say({"name": "batches/other", "metadata": {"displayName": "x"}}), id="foreign"),
        pytest.param(lambda call: call.say(b"", 408), id="408"),
    ],
)
@pytest.mark.some("dropped", "HTML 200")
def test_a_lost_answer_to_a_create_never_buys_twice(shop, proxy, service, expected, action):
    proxy.after = once(lambda call: call.is_create(), action)
    assert shop(*RUN).code == 0
    assert len(service.ledger()) == 1 + 1, "one for the undisturbed run, one for this"
    assert pictures(shop) == expected


def test_a_create_that_never_arrived_is_sent_again_after_the_settling_time(shop, proxy, service):
    proxy.before = once(lambda call: call.is_create(), drop)
    assert shop(*RUN).code == 0
    assert [entry["requests"] for entry in service.ledger()] == [6]


def test_before_the_settling_time_nothing_is_sent_again(shop, proxy, service, monkeypatch):
    monkeypatch.setenv("PIPELINE_SETTLE", "15m")
    monkeypatch.setenv("PIPELINE_PATIENCE", "1h")
    proxy.before = once(lambda call: call.is_create(), drop)
    assert shop("run", "jobs/shop.yaml", "--poll", "0.1s", "--wait", "2s").code == 4
    assert shop("submit", "jobs/shop.yaml", "--fail-if-pending").code == 4
    assert service.ledger() == []


def test_no_clock_alone_makes_a_create_believed_lost(shop, proxy, service, clock, monkeypatch):
    monkeypatch.setenv("PIPELINE_SETTLE", "15m")
    monkeypatch.setenv("PIPELINE_PATIENCE", "1h")
    proxy.before = once(lambda call: call.is_create(), drop)
    shop("submit", "jobs/shop.yaml")
    for ours, theirs in [(0.0, 0.0), (9e4, 0.0), (0.0, 9e4), (0.0, 0.0), (9e4, 0.0)]:
        clock.ahead_s, proxy.ahead_s = ours, theirs
        assert shop("submit", "jobs/shop.yaml", "--fail-if-pending").code == 4
        assert service.ledger() == [], "both clocks must have seen the settling time"
    clock.ahead_s, proxy.ahead_s = 1000.0, 1000.0
    assert shop(*RUN).code == 0
    assert len(service.ledger()) == 1


@pytest.mark.parametrize(
    "page",
    [
        pytest.param({"error": {"code": 500, "message": "no"}}, id="error"),
        pytest.param({"operations": "later"}, id="word"),
        pytest.param({"batches": [{"name": "batches/x"}]}, id="another word"),
        pytest.param({"operations": None, "unreachable": ["somewhere"]}, id="unreachable"),
        pytest.param({"operations": [{"metadata": {"displayName": "x"}}]}, id="nameless"),
    ],
)
@pytest.mark.some("nameless")
def test_a_listing_that_is_none_proves_nothing(shop, proxy, service, page):
    lost = []

    def rule(call):
        if call.is_create():
            lost.append(call)
            raise DropError
        if call.is_list() and lost:
            call.say(page)

    proxy.after = rule
    assert shop("run", "jobs/shop.yaml", "--poll", "0.1s", "--wait", "1s").code == 4
    proxy.after = lambda call: None
    assert shop(*RUN).code == 0
    assert len(service.ledger()) == 1


def test_a_listing_without_an_end_proves_nothing_and_is_given_up(shop, proxy, service):
    pages = []

    def rule(call):
        if call.is_list():
            pages.append(call)
            call.say({"nextPageToken": str(len(pages))})

    proxy.after = rule
    assert shop("submit", "jobs/shop.yaml").code == 4
    assert len(pages) <= 1000
    assert service.ledger() == []


def test_two_batches_of_one_create_are_found_once_they_are_home_and_what_both_drew_is_kept(troubled, shop):
    service = troubled("- {on: batches.create, do: twice, times: 1}\n")
    assert shop(*RUN).code == 0
    assert {record["status"] for record in shop.records().values()} == {"done"}
    assert len(service.ledger()) == 2
    kept = [path for path in (shop.outputs / ".pipeline/conflicts").rglob("*") if path.is_file()]
    assert len(kept) == 6, "what the second has drawn is paid for"
    assert shop("status", "--json").json["jobs"][0]["open"] == 0


def test_a_listing_that_cannot_be_completed_proves_nothing(shop, proxy, service):
    def rule(call):
        if call.is_list():
            call.say({"operations": [], "nextPageToken": "again"})

    shop("plan")
    proxy.after = once(lambda call: call.is_create(), drop)
    proxy_create = proxy.after
    seen = []

    def both(call):
        proxy_create(call)
        if call.is_list() and seen:
            rule(call)
        if call.is_create():
            seen.append(call)

    def guarded(call):
        try:
            both(call)
        except DropError:
            seen.append(call)
            raise

    proxy.after = guarded
    assert shop("run", "jobs/shop.yaml", "--poll", "0.1s", "--wait", "3s").code == 4
    assert len(service.ledger()) == 1
    proxy.after = lambda call: None
    assert shop(*RUN).code == 0
    assert len(service.ledger()) == 1


def test_a_rate_limit_in_the_middle_costs_time_only(shop, proxy, service, expected):
    shop.write("jobs/shop.yaml", SHOP + "batch: {max_requests: 2}\n")
    limit = {"error": {"code": 429, "status": "RESOURCE_EXHAUSTED", "message": "slow down"}}
    creates = []

    def rule(call):
        if call.is_create():
            creates.append(call)
            if len(creates) == 2:
                call.headers["Retry-After"] = "1"
                call.say(limit, 429)

    proxy.before = rule
    assert shop(*RUN).code == 0
    assert pictures(shop) == expected
    assert [entry["requests"] for entry in service.ledger()][1:] == [2, 2, 2]


@pytest.mark.some(1)
@pytest.mark.parametrize(
    "refused",
    [
        pytest.param(lambda call: call.say({"error": {"code": 401, "status": "UNAUTHENTICATED"}}, 401), id="key"),
        pytest.param(lambda call: call.say(b"", 307), id="redirect"),
    ],
)
def test_a_refused_key_says_nothing_about_a_batch(shop, proxy, service, expected, clock, refused):
    proxy.after = lambda call: refused(call) if call.is_get() else None
    assert shop(*RUN).code == 6
    clock.ahead_s = 3 * 3600.0
    assert shop(*RUN).code == 6
    counts = json.loads(shop("status", "--json").out)["jobs"][0]["counts"]
    assert counts == {"pending": 6}, "nothing is held: the batch is as it was"
    proxy.after = lambda call: None
    assert shop(*RUN).code == 0
    assert pictures(shop) == expected


def test_five_batches_that_cannot_be_asked_for_keep_no_other_from_coming_home(shop, proxy, service):
    shop.write("jobs/shop.yaml", SHOP + "batch: {max_requests: 1}\n")
    shop.delivers()
    first = set()

    def rule(call):
        if call.is_get() and (call.path in first or len(first) < 5):
            first.add(call.path)
            call.say({"error": {"code": 400, "status": "INVALID_ARGUMENT", "message": "not this one"}}, 400)

    proxy.after = rule
    assert [shop(*RUN).code for _ in range(2)] == [6, 6]
    counts = json.loads(shop("status", "--json").out)["jobs"][0]["counts"]
    assert counts["done"] == 1, "the sixth"


def test_a_redirect_is_not_followed_with_the_key(shop, proxy, service):
    def rule(call):
        if call.is_create():
            call.headers["Location"] = "http://127.0.0.1:9/elsewhere"
            call.say(b"", 307)

    proxy.before = rule
    assert shop("run", "jobs/shop.yaml", "--poll", "0.1s", "--wait", "1s").code == 4
    assert service.ledger() == []


def test_a_key_that_the_service_echoes_is_shown_to_nobody(shop, proxy):
    def rule(call):
        refusal = {"code": 400, "status": "INVALID_ARGUMENT", "message": f"API key not valid: {KEY}"}
        call.say({"error": {**refusal, "details": [{"reason": "API_KEY_INVALID"}]}}, 400)

    proxy.before = rule
    ended = shop(*RUN)
    assert ended.code == 6
    assert KEY not in ended.out + ended.err
    for path in shop.outputs.rglob("*"):
        assert path.is_dir() or KEY.encode() not in path.read_bytes(), path


def test_a_service_that_is_not_there_is_4(shop, monkeypatch):
    monkeypatch.setenv("GOOGLE_GEMINI_BASE_URL", "http://127.0.0.1:9")
    ended = shop("submit", "jobs/shop.yaml")
    assert ended.code == 4
    assert "Traceback" not in ended.err


# ---------------------------------------------------------------------------------- one odd thing in a line


def odd(change):
    """Change one part of the reply and leave its image alone."""

    def rule(reply):
        change(reply["response"], reply["response"]["candidates"][0])
        return reply

    return lines(each(rule))


def beside(part):
    return lambda _response, candidate: candidate["content"]["parts"].insert(0, part)


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(lambda r, _c: r.update(usageMetadata={"promptTokenCount": "abc"}), id="usage of letters"),
        pytest.param(lambda r, _c: r.update(usageMetadata={"promptTokenCount": 10**30}), id="usage beyond reason"),
        pytest.param(lambda r, _c: r.update(usageMetadata={"candidatesTokensDetails": [None]}), id="usage of nothing"),
        pytest.param(lambda r, _c: r.update(usageMetadata=[1]), id="usage as a list"),
        pytest.param(lambda _r, c: c.update(finishReason={"a": 1}, finishMessage="\ud83d"), id="half a character"),
        pytest.param(beside({"inlineData": {"data": 123}}), id="an image of a number"),
        pytest.param(beside({"inlineData": {"data": "ä"}}), id="an image of an umlaut"),
        pytest.param(beside({"text": "\ud800 half"}), id="half a character in a text"),
        pytest.param(beside(7), id="a part that is a number"),
    ],
)
@pytest.mark.some("usage beyond reason", "a part that is a number")
def test_nothing_odd_beside_an_image_makes_it_go_away(shop, proxy, service, expected, change):
    proxy.after = odd(change)
    assert shop(*RUN).code == 0
    assert pictures(shop) == expected
    assert len(service.ledger()) == 2


def test_an_image_comes_home_after_an_error_for_the_same_key(shop, proxy, service, expected):
    proxy.after = lines(lambda found: [*map(error_for, found), *found])
    assert shop(*RUN).code == 0
    assert pictures(shop) == expected
    assert len(service.ledger()) == 2


def test_words_with_half_a_character_are_stored_without_it(shop, proxy):
    shop.write("jobs/shop.yaml", SHOP + "retry: 0\n")
    proxy.after = lines(each(lambda reply: {"key": reply["key"], "error": {"code": 3, "message": "no \ud83d more"}}))
    assert shop(*RUN).code == 3
    assert {record["reason"] for record in shop.records().values()} == {"code 3: no ? more"}
    assert shop(*RUN).code == 3


def test_a_key_in_the_services_own_words_reaches_no_file(shop, proxy):
    shop.write("jobs/shop.yaml", SHOP + "retry: 0\n")
    proxy.after = lines(
        each(lambda reply: {"key": reply["key"], "error": {"code": 3, "message": f"{'x' * 480} {KEY}"}})
    )
    assert shop(*RUN).code == 3
    for path in [*shop.outputs.rglob("*.jsonl"), *shop.outputs.rglob("*.csv"), *shop.outputs.rglob("journal.db*")]:
        assert "answers" in path.parts or KEY.encode()[:12] not in path.read_bytes(), path


def test_an_answer_that_is_torn_every_time_is_never_taken_for_whole(shop, proxy, service, expected, monkeypatch):
    def torn(call):
        if call.is_download():
            call.say(call.answer[: len(call.answer) * 2 // 3])

    proxy.after = torn
    monkeypatch.setenv("PIPELINE_SETTLE", "15m")
    monkeypatch.setenv("PIPELINE_PATIENCE", "1h")
    assert shop("run", "jobs/shop.yaml", "--poll", "0.1s", "--wait", "2s").code == 4
    proxy.after = lambda call: None
    assert shop(*RUN).code == 0
    assert pictures(shop) == expected
    assert len(service.ledger()) == 2, "nothing was bought for what was only not fetched whole"


@pytest.mark.parametrize("answer", [[], "x", 5, {"state": 5}, {"operations": 7}, None], ids=repr)
@pytest.mark.parametrize("where", ["is_get", "is_list"])
@pytest.mark.some(2)
def test_an_answer_of_another_kind_costs_time_only(shop, proxy, service, answer, where):
    proxy.after = once(lambda call: getattr(call, where)(), lambda call: call.say(answer))
    assert shop(*RUN).code == 0
    assert len(service.ledger()) == 1


def test_one_batch_in_trouble_keeps_no_other_from_coming_home(shop, proxy):
    shop.write("jobs/shop.yaml", SHOP + "batch: {max_requests: 2}\n")
    shop.delivers()
    broken = []

    def rule(call):
        if call.is_get():
            broken.append(call.path)
            if call.path == broken[0]:
                call.say({"error": {"code": 403, "status": "PERMISSION_DENIED", "message": "no"}}, 403)

    proxy.after = rule
    assert shop("run", "jobs/shop.yaml", "--poll", "0.1s", "--wait", "2s").code in {4, 6}
    assert len(pictures(shop)) == 4 + 1, "one is the proof"


def test_the_same_job_in_another_folder_is_never_touched(shop, proxy, service):
    """Two outputs folders with one key ask for the very same: a lost answer adopts one's own batch, not the other's."""
    assert shop("--outputs", "other", *RUN).code == 0
    first = service.ledger()[0]["name"]
    proxy.after = once(lambda call: call.is_create(), drop)
    assert shop(*RUN).code == 0
    mine = {record["batch"] for record in shop.records().values()}
    assert first not in mine
    assert service.ledger("batches.cancel") == []
    assert len(service.ledger()) == 2


def test_a_batch_that_only_the_output_manifest_names_is_waited_for(slow_shop, slow_service):
    slow_shop.write("jobs/products.csv", "id,product\nmug,blue mug\n")
    assert slow_shop("submit", "jobs/shop.yaml").code == 0
    (slow_shop.folder / "clone").mkdir()
    (slow_shop.outputs / "shop").rename(slow_shop.folder / "clone/shop")
    assert slow_shop("--outputs", "clone", "plan", "--json").json["jobs"][0]["counts"]["pending"] == 2
    slow_service.advance(21 * 3600)
    assert slow_shop("--outputs", "clone", *RUN).code == 0
    assert len([*(slow_shop.folder / "clone/shop").glob("*.jpg")]) == 2
    assert [entry["requests"] for entry in slow_service.ledger()] == [2]


def test_a_batch_found_at_the_service_without_an_answer_stops_what_might_buy_it_again(shop, proxy, service):
    def without_output(call):
        if call.is_get() and call.json.get("done"):
            told = call.json
            told.pop("response", None)
            told["metadata"].pop("output", None)
            call.say(told)

    proxy.after = without_output
    assert shop("submit", "jobs/shop.yaml").code == 0
    for path in (shop.outputs / ".pipeline").glob("journal.db*"):
        path.unlink()
    assert shop("run", "jobs/shop.yaml", "--poll", "0.1s", "--wait", "3s").code == 6
    assert len(service.ledger()) == 1
    proxy.after = lambda call: None
    assert shop("retry", "jobs/shop.yaml", "--only", "held", "--poll", "0.1s").code == 0
    assert len(service.ledger()) == 2


# --------------------------------------------------------------------------- what a second look found


@pytest.mark.parametrize("state", ["BATCH_STATE_COMPLETED", "BATCH_STATE_PARTIALLY_SUCCEEDED"])
def test_an_end_without_an_answer_in_a_strange_state_is_never_bought_again(shop, proxy, service, state):
    def rule(call):
        if call.is_get():
            told = call.json
            told["done"] = True
            told.pop("response", None)
            told["metadata"].pop("output", None)
            told["metadata"]["state"] = state
            call.say(told)

    proxy.after = rule
    assert shop(*RUN).code == 6
    assert {record["status"] for record in shop.records().values()} == {"held"}
    assert len(service.ledger()) == 1


def test_a_held_batch_that_comes_to_its_senses_is_collected_and_not_bought_again(shop, proxy, service, expected):
    def gone(call):
        if call.is_get():
            call.say({"error": {"code": 404, "status": "NOT_FOUND", "message": "no such batch"}}, 404)
        if call.is_list():
            call.say({})

    proxy.after = gone
    assert shop(*RUN).code == 6
    proxy.after = lambda call: None
    assert shop("collect", "jobs/shop.yaml").code == 0
    assert pictures(shop) == expected
    assert len(service.ledger()) == 2


def test_a_job_in_trouble_keeps_no_other_job_from_coming_home(shop, proxy):
    shop.write("jobs/other.yaml", "prompt: a barn owl\n")

    def rule(call):
        if call.is_create() and json.loads(call.body)["batch"]["displayName"].split("/")[2] == "other":
            call.say({"error": {"code": 400, "status": "INVALID_ARGUMENT", "message": "not this one"}}, 400)

    proxy.before = rule
    ended = shop("run", "jobs/other.yaml", "jobs/shop.yaml", "--poll", "0.1s", "--wait", "20s")
    assert ended.code == 6
    assert "not this one" in ended.err
    assert len(pictures(shop)) == 6


def test_an_unsent_change_under_an_edited_image_is_not_bought(shop, proxy, service):
    assert shop(*RUN).code == 0
    shop.write("jobs/products.csv", "id,product\nmug,red mug\nbowl,sand bowl\nvase,glass vase\n")
    limit = {"error": {"code": 429, "status": "RESOURCE_EXHAUSTED", "message": "slow down"}}

    def limited(call):
        if call.is_create():
            call.say(limit, 429)

    proxy.before = limited
    assert shop("submit", "jobs/shop.yaml").code == 0
    proxy.before = lambda call: None
    Image.new("RGB", (1024, 1024), "red").save(shop.outputs / "shop/mug-1x1.jpg")
    assert shop(*RUN).code == 0
    assert [entry["requests"] for entry in service.ledger()] == [6, 1]
    lines_there = (shop.outputs / "shop/manifest.jsonl").read_text().splitlines()
    assert len(lines_there) == len({json.loads(line)["key"] for line in lines_there}) == 6


def test_retry_leaves_an_edited_image_alone(shop, proxy, service):
    proxy.after = lines(each(lambda reply: reply))
    shop.write("jobs/shop.yaml", "prompt: a barn\nchecks: {not_blank: true}\n")

    def blank(reply):
        buffer = io.BytesIO()
        Image.new("RGB", (1024, 1024), "white").save(buffer, "JPEG")
        for part in reply["response"]["candidates"][0]["content"]["parts"]:
            if "inlineData" in part:
                part["inlineData"]["data"] = base64.b64encode(buffer.getvalue()).decode()
        return reply

    proxy.after = lines(each(blank))
    assert shop(*RUN).code == 3
    assert shop.records()["shop"]["status"] == "check"
    path = shop.outputs / "shop/shop.jpg"
    Image.new("RGB", (1024, 1024), "red").save(path)
    mine = path.read_bytes()
    shop("retry", "jobs/shop.yaml", "--poll", "0.1s")
    assert path.read_bytes() == mine
    assert len(service.ledger()) == 1


def test_a_long_retry_after_is_not_waited_for_under_the_lock(shop, proxy):
    assert shop("submit", "jobs/shop.yaml").code == 0
    limit = {"error": {"code": 429, "status": "RESOURCE_EXHAUSTED", "message": "slow down"}}

    def rule(call):
        call.headers["Retry-After"] = "86400"
        call.say(limit, 429)

    proxy.before = rule
    assert shop("collect", "jobs/shop.yaml").code == 4


@pytest.mark.some(1)
@pytest.mark.parametrize("kind", ["link", "folder"])
def test_a_link_or_a_folder_in_place_of_an_image_is_an_edit(shop, proxy, service, kind):
    assert shop(*RUN).code == 0
    path = shop.outputs / "shop/mug-1x1.jpg"
    path.unlink()
    path.symlink_to("elsewhere") if kind == "link" else path.mkdir()
    assert shop("plan", "--json").json["jobs"][0]["counts"]["edited"] == 1
    assert shop(*RUN).code == 0
    assert shop("verify").code == 3
    assert len(service.ledger()) == 1
