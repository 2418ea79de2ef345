"""The doctor: each thing a run depends on is looked at, what is wrong is named, and nothing is spent or shown."""

from __future__ import annotations

import datetime as dt
import json
import re
import shutil
import time
from pathlib import Path

import pytest
from conftest import KEY, ROOT
from proxy import proxying

from pipeline import journal
from pipeline.cli.doctor import machine
from pipeline.gemini import verdicts, wire

RUN = ("run", "jobs/shop.yaml", "--poll", "0.1s")
MODEL = "gemini-nano-banana-2.1"
NOTHING_FREE = {
    "error": {
        "code": 429,
        "status": "RESOURCE_EXHAUSTED",
        "message": "You exceeded your current quota. Quota exceeded for metric: generativelanguage.googleapis.com/"
        f"generate_content_free_tier_requests, limit: 0, model: {MODEL}",
    }
}
NO_METRIC = {
    "error": {
        "code": 429,
        "status": "RESOURCE_EXHAUSTED",
        "message": "You exceeded your current quota, limit: 0",
        "details": [
            {
                "@type": "type.googleapis.com/google.rpc.QuotaFailure",
                "violations": [{"quotaId": "BatchEnqueuedTokensPerProject-FreeTier"}],
            }
        ],
    }
}
NO_ACCOUNT = {
    "error": {
        "code": 403,
        "status": "PERMISSION_DENIED",
        "message": "This API method requires billing to be enabled.",
        "details": [{"@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": "BILLING_DISABLED"}],
    }
}
NO_PLAN = {
    "error": {
        "code": 400,
        "status": "FAILED_PRECONDITION",
        "message": "The free tier is not available here. Please enable billing on your project in AI Studio.",
    }
}


def looked(project, *words):
    """The exit code, and the checks by name."""
    ended = project(*words, "doctor", "--json")
    checks = {check["name"]: check for check in ended.json["checks"]}
    assert len(checks) == len(ended.json["checks"]), "a name is one check"
    assert all(check["hint"] or check["status"] == "ok" for check in checks.values()), "what is wrong has a way out"
    return ended.code, checks


@pytest.fixture
def proxied(shop, service, monkeypatch):
    """The shop behind a proxy."""
    with proxying(service.url) as (url, proxy):
        monkeypatch.setenv("GOOGLE_GEMINI_BASE_URL", url)
        yield shop, proxy


def test_all_that_a_run_depends_on_is_looked_at_and_nothing_is_spent(shop, service):
    assert shop(*RUN).code == 0
    before, spent = shop.tree(), len(service.ledger())
    code, checks = looked(shop)
    assert code == 0
    assert set(checks) == {
        "versions", "environment", "key", "journal", "disk", "batches", "jobs", "models", "prices", "registry",
        "service", "clock", "billing", "storage", "strangers",
    }  # fmt: skip
    assert [name for name, check in checks.items() if check["status"] != "ok"] == ["environment"], "the base URL"
    assert (shop.tree(), len(service.ledger()), service.ledger("generateContent")) == (before, spent, [])


def test_in_words_each_check_is_a_line_and_the_key_is_in_none(shop):
    ended = shop("doctor")
    assert ended.code == 0
    assert KEY not in ended.out + ended.err
    assert re.search(r"^ok +key +from GEMINI_API_KEY$", ended.out, re.MULTILINE)
    assert not re.search(r"^ok ", shop("doctor", "-q").out, re.MULTILINE)


@pytest.mark.parametrize("answer", [NOTHING_FREE, NO_METRIC, NO_ACCOUNT, NO_PLAN])
def test_a_project_without_a_paid_tier_is_named_where_a_listing_tells(proxied, answer):
    shop, proxy = proxied
    proxy.before = lambda call: call.say(answer, answer["error"]["code"]) if call.is_list() else None
    code, checks = looked(shop)
    assert (code, checks["billing"]["status"]) == (6, "problem")
    assert "enable billing" in checks["billing"]["hint"]


@pytest.mark.parametrize("answer", [NOTHING_FREE, NO_METRIC, NO_ACCOUNT, NO_PLAN])
@pytest.mark.some(1)
def test_a_batch_that_was_refused_for_want_of_a_paid_tier_is_a_persons_matter_and_remembered(proxied, answer):
    shop, proxy = proxied
    proxy.before = lambda call: call.say(answer, answer["error"]["code"]) if call.is_create() else None
    assert shop(*RUN, "--wait", "0").code == 6
    code, checks = looked(shop)
    assert (code, checks["billing"]["status"]) == (6, "problem")
    assert "no paid tier" in checks["billing"]["message"]
    proxy.before = lambda call: None
    assert shop(*RUN).code == 0
    assert looked(shop)[1]["billing"]["status"] == "ok"


@pytest.mark.parametrize(
    "message", ["free_tier_requests, limit: 15", "paid_tier_requests, limit: 0", "free_tier_requests, limit: 0.5"]
)
def test_a_rate_limit_is_no_want_of_a_paid_tier(message):
    body = json.dumps({"error": {"code": 429, "status": "RESOURCE_EXHAUSTED", "message": message}}).encode()
    assert verdicts.kind(wire.fault(429, body, None)) == "rate"


def test_what_nothing_tells_about_a_new_project_is_said_to_be_unknown(shop):
    code, checks = looked(shop)
    assert (code, checks["billing"]["status"]) == (0, "warning")
    assert "nothing that is free can" in checks["billing"]["message"]


@pytest.mark.parametrize(("ahead_s", "words"), [(7200, "2h 00m behind"), (-7200, "2h 00m ahead of")])
def test_a_wrong_clock_is_named_with_the_difference(proxied, ahead_s, words):
    shop, proxy = proxied
    proxy.ahead_s = ahead_s + (1 if ahead_s > 0 else -1) * 30
    code, checks = looked(shop)
    assert (code, checks["clock"]["status"]) == (0, "warning")
    assert words in checks["clock"]["message"]


def test_a_model_that_dies_soon_is_a_warning_with_day_and_successor(shop):
    day = dt.datetime.now(dt.UTC).date() + dt.timedelta(days=12)
    shop.write("models.yaml", f"models:\n  {MODEL}:\n    shutdown: {day}\n    successor: gemini-next\n")
    code, checks = looked(shop, "--models", "models.yaml")
    assert (code, checks["models"]["status"]) == (0, "warning")
    assert f"will be shut down on {day}: use gemini-next" in checks["models"]["message"]
    shop.write("models.yaml", f"models:\n  {MODEL}:\n    shutdown: {day + dt.timedelta(days=60)}\n")
    assert looked(shop, "--models", "models.yaml")[1]["models"]["status"] == "ok"


@pytest.mark.parametrize(
    "where",
    [
        "prompt: A fox\nmodel: gemini-3.1-flash-image\n",
        "prompt: A fox\nmatrix: {model: [flash, gemini-3.1-flash-image]}\n",
        "prompt: A fox\nitems: [{id: b}]\noverrides: [{when: {id: b}, set: {model: gemini-3.1-flash-image}}]\n",
    ],
)
def test_a_model_that_is_gone_is_a_problem_wherever_the_job_says_it(shop, where):
    shop.write("jobs/old.yaml", where)
    code, checks = looked(shop)
    assert (code, checks["models"]["status"]) == (2, "problem")
    assert "was shut down on 2026-10-29: use gemini-nano-banana-2.1" in checks["models"]["message"]
    assert "old.yaml" in checks["jobs"]["message"]


def test_a_model_of_a_row_is_found(shop):
    day = dt.datetime.now(dt.UTC).date() + dt.timedelta(days=12)
    shop.write(
        "models.yaml", f"models:\n  gemini-own:\n    sizes: [1K]\n    aspects: ['1:1', '4:5']\n    shutdown: {day}\n"
    )
    shop.write("jobs/products.csv", "id,product,set.model\nmug,mug,gemini-own\n")
    assert "gemini-own" in looked(shop, "--models", "models.yaml")[1]["models"]["message"]


def test_prices_that_are_older_than_90_days_are_a_warning(shop):
    day = dt.datetime.now(dt.UTC).date() - dt.timedelta(days=91)
    shop.write("models.yaml", f"prices_as_of: {day}\n")
    code, checks = looked(shop, "--models", "models.yaml")
    assert (code, checks["prices"]["status"]) == (0, "warning")
    assert "91 days ago" in checks["prices"]["message"]
    shop.write("models.yaml", f"prices_as_of: {day + dt.timedelta(days=2)}\n")
    assert looked(shop, "--models", "models.yaml")[1]["prices"]["status"] == "ok"


def test_without_a_network_all_else_is_looked_at(shop, monkeypatch):
    monkeypatch.setenv("GOOGLE_GEMINI_BASE_URL", "http://127.0.0.1:1")
    code, checks = looked(shop)
    assert (code, checks["service"]["status"]) == (4, "problem")
    assert {"journal", "disk", "models", "prices"} <= checks.keys()
    assert not {"clock", "storage", "billing"} & checks.keys()


def test_a_key_that_the_service_refuses_is_6_and_not_shown(shop, monkeypatch):
    monkeypatch.setenv("GEMINI_API_KEY", "with.dots.that.the.service.knows.no.key.of")
    ended = shop("doctor", "--json")
    assert ended.code == 6
    assert "with.dots" not in ended.out + ended.err


def test_a_key_that_is_none_is_2_with_a_way_out(shop, monkeypatch, tmp_path):
    file = tmp_path / "key"
    file.write_text(KEY)
    file.chmod(0o644)
    for variables, words in (
        ({}, "no API key"),
        ({"GEMINI_API_KEY": KEY, "GOOGLE_API_KEY": f"{KEY}-other"}, "different"),
        ({"GEMINI_API_KEY": "two words that are no key"}, "is no API key"),
        ({"PIPELINE_KEY_FILE": str(file)}, "others may read"),
    ):
        with monkeypatch.context() as patch:
            patch.delenv("GEMINI_API_KEY")
            for name, value in variables.items():
                patch.setenv(name, value)
            ended = shop("doctor", "--json")
        found = next(check for check in ended.json["checks"] if check["name"] == "key")
        assert (ended.code, found["status"]) == (2, "problem")
        assert words in found["message"]
        assert KEY not in ended.out


def test_a_journal_that_is_damaged_is_7_and_the_rest_is_looked_at(shop):
    shop("submit", "jobs/shop.yaml")
    path = shop.outputs / ".pipeline/journal.db"
    data = bytearray(path.read_bytes())
    data[4096:8192] = b"\xff" * 4096
    path.write_bytes(data)
    code, checks = looked(shop)
    assert (code, checks["journal"]["status"]) == (7, "problem")
    assert checks["service"]["status"] == "ok"


def test_an_index_that_lies_is_found(shop):
    """What `quick_check` does not look at."""
    shop(*RUN)
    with journal.opened(shop.outputs / ".pipeline", outputs=shop.outputs) as opened:
        db = opened._db
        db.execute("PRAGMA writable_schema = ON")
        db.execute(
            "UPDATE sqlite_schema SET sql = replace(sql, '(job, path)', '(job, wire_key)') WHERE name = 'record_path'"
        )
    code, checks = looked(shop)
    assert (code, checks["journal"]["status"]) == (7, "problem")


def test_a_model_that_the_service_has_not_is_6(proxied):
    shop, proxy = proxied
    gone = {"error": {"code": 404, "status": "NOT_FOUND", "message": f"models/{MODEL} is not found"}}
    proxy.before = lambda call: call.say(gone, 404) if f"/models/{MODEL}" in call.path else None
    code, checks = looked(shop)
    assert (code, checks["service"]["status"]) == (6, "problem")
    assert MODEL in checks["service"]["message"]
    assert checks["storage"]["status"] == "ok", "the rest is asked all the same"


def test_an_answer_that_nobody_fetched_for_a_day_is_named(slow_shop, slow_service):
    assert slow_shop("submit", "jobs/shop.yaml").code == 0
    slow_service.advance(21 * 3600)
    assert "answers" not in looked(slow_shop)[1]
    slow_service.advance(25 * 3600)
    code, checks = looked(slow_shop)
    assert (code, checks["answers"]["status"]) == (0, "warning")
    with journal.opened(slow_shop.outputs / ".pipeline", outputs=slow_shop.outputs) as opened, opened.transaction():
        (batch,) = opened.batches.all_of("shop")
        opened.batches.change(batch, state="ended", ended_at=time.time() - 25 * 3600)
    code, checks = looked(slow_shop)
    assert (code, checks["batches"]["status"]) == (0, "warning")
    assert "1d 1h ago" in checks["batches"]["message"]


def test_a_batch_of_this_folder_that_no_journal_knows_is_named(slow_shop):
    assert slow_shop("submit", "jobs/shop.yaml").code == 0
    assert slow_shop("--outputs", "other", "submit", "jobs/shop.yaml").code == 0
    checks = looked(slow_shop)[1]
    assert checks["strangers"]["status"] == "ok"
    assert "1 batch of other outputs folders" in checks["strangers"]["message"]
    shutil.rmtree(slow_shop.outputs / ".pipeline")
    with journal.opened(slow_shop.outputs / ".pipeline", outputs=slow_shop.outputs):
        pass
    checks = looked(slow_shop)[1]
    assert checks["strangers"]["status"] == "warning"
    assert "1 batch made for this folder" in checks["strangers"]["message"]


def test_files_are_listed_to_the_end_over_pages_that_are_empty(proxied):
    shop, proxy = proxied

    def page(call):
        if call.path.split("?")[0].endswith("/files"):
            last = "pageToken=c" in call.path
            call.say({"files": [{"name": "files/a", "sizeBytes": "5000000"}]} if last else {}, 200)
            if not last:
                call.say({"nextPageToken": "c" if "pageToken=b" in call.path else "b"})

    proxy.before = page
    code, checks = looked(shop)
    assert (code, checks["storage"]["message"][:28]) == (0, "1 file of 5.0 MB listed, and")


def test_a_listing_that_repeats_a_page_is_no_listing(proxied):
    shop, proxy = proxied
    proxy.before = lambda call: (
        call.say({"nextPageToken": "a"}, 200) if call.path.split("?")[0].endswith("/files") else None
    )
    code, _checks = looked(shop)
    assert code == 4


def test_what_the_environment_has_that_a_run_would_not_expect_is_named(shop, monkeypatch):
    monkeypatch.setenv("GOOGLE_GENAI_USE_VERTEXAI", "true")
    monkeypatch.setenv("PIPELINE_SETLE", "1m")
    monkeypatch.setenv("HTTPS_PROXY", "http://me:secret@proxy.example:3128")
    code, checks = looked(shop)
    assert (code, checks["environment"]["status"]) == (0, "warning")
    for words in ("USE_VERTEXAI is ignored", "did you mean 'PIPELINE_SETTLE'", "GOOGLE_GEMINI_BASE_URL sends"):
        assert words in checks["environment"]["message"]
    assert "secret" not in shop("doctor").out
    monkeypatch.setenv("PIPELINE_CONCURRENT", "many")
    assert looked(shop)[0] == 2


def test_every_variable_of_ours_is_known_to_it():
    sources = (ROOT / "pipeline").rglob("*.py")
    named = {name for path in sources for name in re.findall(r"PIPELINE_[A-Z]+(?:_[A-Z]+)*", path.read_text())}
    assert named <= machine.KNOWN


def test_the_local_service_needs_no_key(project):
    code, checks = looked(project, "--service", "local")
    assert (code, {check["status"] for check in checks.values()}) == (0, {"ok"})


MOUNTS = r"""
22 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw
30 22 0:30 / /mnt/team\040files rw - nfs4 server:/export rw
31 22 0:31 / /mnt/team\040files/local rw shared:2 master:3 - xfs /dev/sdb rw
torn
"""


@pytest.mark.parametrize(
    ("path", "kind"),
    [("/home/me", "ext4"), ("/mnt/team files/jobs", "nfs4"), ("/mnt/team files/local/x", "xfs"), ("/mnt/team", "ext4")],
)
def test_knows_the_file_system_of_a_path(path, kind):
    assert machine.file_system(Path(path), MOUNTS) == kind
