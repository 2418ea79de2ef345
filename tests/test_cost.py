"""Money added up: what a run would spend, and what was spent, over all attempts, by whatever one asks for."""

from __future__ import annotations

import shutil
import time
from decimal import Decimal

import pytest

from pipeline import journal

RUN = ("run", "jobs/shop.yaml", "--poll", "0.1s")
MODEL = "gemini-nano-banana-2.1"


def the_job(ended):
    (job,) = ended.json["jobs"]
    return job


def test_the_estimate_is_what_the_plan_says_and_nothing_else_is_in_the_document(shop):
    ended = shop("cost", "--json")
    assert ended.code == 0, ended.err
    amount = shop("plan", "--json").json["jobs"][0]["cost"]["amount"]
    assert ended.json == {
        "schema_version": 1,
        "jobs": [{"job": "shop", "amount": amount, "by": [{"name": MODEL, "images": 6, "amount": amount}]}],
        "total": {"amount": amount, "currency": "USD"},
    }


def test_what_is_done_is_in_no_estimate_and_buying_it_all_is_told_beside(shop):
    before = shop("cost").out.splitlines()[-1]
    shop(*RUN)
    ended = shop("cost", "--by", "job")
    assert ended.out.splitlines() == ["job       images    USD", "shop           0  $0.00", "together       0  $0.00"]
    assert f"would cost {before.split()[-1]} for 6 images" in ended.err


def test_an_estimate_by_day_is_refused(shop):
    ended = shop("cost", "--by", "day")
    assert ended.code == 2
    assert "--actual" in ended.err


def test_what_was_spent_is_what_the_answers_came_to_over_all_attempts(shop):
    shop(*RUN)
    records = shop.records()
    once = sum(Decimal(record["cost"]["amount"]) for record in records.values())
    again = Decimal(records["mug/1:1"]["cost"]["amount"])
    assert Decimal(the_job(shop("cost", "--actual", "--json"))["amount"]) == once
    assert shop(*RUN, "--force", "--select", "key:mug/1:1").code == 0
    found = the_job(shop("cost", "--actual", "--json", "jobs/shop.yaml"))
    assert (Decimal(found["amount"]), found["by"][0]["images"]) == (once + again, 7)


@pytest.mark.some(2)
@pytest.mark.parametrize(("by", "name"), [("model", MODEL), ("job", "shop"), ("day", time.strftime("%Y-%m-%d"))])
def test_what_was_spent_is_added_up_by_what_one_asks_for(shop, by, name):
    shop(*RUN)
    found = the_job(shop("cost", "--actual", "--by", by, "--json"))
    names = {entry["name"] for entry in found["by"]}
    assert names <= {name, time.strftime("%Y-%m-%d", time.gmtime())}, "midnight may have passed"
    assert sum(Decimal(entry["amount"]) for entry in found["by"]) == Decimal(found["amount"])


def test_a_job_that_is_broken_today_has_cost_what_it_has(shop):
    shop(*RUN)
    spent = the_job(shop("cost", "--actual", "--json"))["amount"]
    shop.write("jobs/shop.yaml", "prompt: [")
    assert shop("cost").code == 2
    assert the_job(shop("cost", "--actual", "--json", "jobs/shop.yaml"))["amount"] == spent


def test_without_a_journal_the_output_manifest_tells_and_that_is_said(shop):
    shop(*RUN)
    spent = shop("cost", "--actual", "--json").json
    shutil.rmtree(shop.outputs / ".pipeline")
    ended = shop("cost", "--actual", "--json")
    assert ended.json == spent
    assert "told by the output manifest" in ended.err
    assert shop(*RUN).code == 0
    ended = shop("cost", "--actual", "--json")
    assert ended.json == spent, "a journal made anew has no answers, and its records know"
    assert "6 images" in ended.err


def test_what_the_local_service_made_is_spent_by_nobody(project, monkeypatch):
    monkeypatch.setenv("PIPELINE_LOCAL_LATENCY", "0s")
    monkeypatch.setenv("PIPELINE_LOCAL_PICTURES", "plain")
    project.write("jobs/one.yaml", "prompt: A red fox in fresh snow\n")
    assert project("--service", "local", "run", "jobs/one.yaml", "--poll", "0.1s").code == 0
    ended = project("cost", "--actual", "--json")
    assert ended.json["total"]["amount"] == the_job(ended)["amount"] == "0"
    assert "1 image, which would cost $0.01" in ended.err


def test_an_unknown_price_is_a_question_mark_and_null_never_nothing(shop):
    shop.write("models.yaml", f"models:\n  {MODEL}:\n    prices: []\n")
    ended = shop("--models", "models.yaml", "cost", "--json")
    assert (the_job(ended)["amount"], the_job(ended)["by"][0]["amount"], ended.json["total"]["amount"]) == (None,) * 3
    assert "6 images have no known price" in ended.err
    assert shop("--models", "models.yaml", "cost").out.splitlines()[-1].split() == ["together", "6", "?"]
    assert shop("--models", "models.yaml", *RUN, "--yes").code == 0
    ended = shop("cost", "--actual", "--json")
    assert (the_job(ended)["amount"], ended.json["total"]["amount"]) == (None, None)


def test_what_was_asked_one_by_one_counts_and_is_told_apart(shop):
    with journal.opened(shop.outputs / ".pipeline", outputs=shop.outputs) as opened, opened.transaction():
        opened.job("shop", str(shop.folder / "jobs/shop.yaml"))
        batch = opened.batches.add(
            job="shop", service="gemini", model_id=MODEL, name="by hand", chunk="c", attempt=1, requests=1,
            answer_bytes=0, cost=0, state="unpacked", planned_at=0.0, lane="interactive",
        )  # fmt: skip
        opened.batches.ask(batch, [("w", "mug/1:1", "f" * 64, 1)])
        opened.batches.settle(batch, "w", status="done", cost=33_600)
    found = the_job(shop("cost", "--actual", "--json"))
    assert found["by"] == [{"name": f"{MODEL} (interactive)", "images": 1, "amount": "0.0336"}]
