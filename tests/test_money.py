"""Money: taken out of the budget before anything is sent, and what was spent is what the service delivered."""

from __future__ import annotations

import json
import random
import shutil
from collections import namedtuple
from decimal import Decimal

import pytest
from conftest import PRODUCTS, SHOP
from proxy import DropError

from pipeline import batchfile, journal
from pipeline.durable import Folder
from pipeline.gemini import models
from pipeline.reconcile import room

RUN = ("run", "jobs/shop.yaml", "--poll", "0.1s")
MODEL = "gemini-nano-banana-2.1"


# --------------------------------------------------------------------------------- creates of unknown fate


def test_a_create_that_was_believed_lost_and_turns_up_is_taken_back_before_anything_is_sent_again(shop, service, proxy):
    shop.delivers()
    creates = []

    def before(call):
        if call.is_create():
            creates.append(call)
            if len(creates) > 1:
                call.say({"error": {"code": 429, "message": "slow down", "status": "RESOURCE_EXHAUSTED"}}, 429)

    def after(call):
        if call.is_create():
            raise DropError
        if call.is_list():
            call.say({})

    proxy.before, proxy.after = before, after
    assert shop(*RUN, "--wait", "2s").code == 4
    assert len(creates) > 1, "the first was believed lost"
    looks = []

    def at_work(call):
        if call.is_get() and len(looks) < 2:
            looks.append(call)
            call.say({"name": call.json["name"], "metadata": {**call.json["metadata"], "state": "BATCH_STATE_RUNNING"}})

    proxy.before, proxy.after = lambda call: None, at_work
    assert shop(*RUN).code == 0
    assert [entry["requests"] for entry in service.ledger()] == [6]
    assert {record["status"] for record in shop.records().values()} == {"done"}


# --------------------------------------------------------------------------------------- room on our disk

Usage = namedtuple("Usage", "total used free")


class Disk:
    """A disk with so much free, whichever folder one asks about; or, by folder, several."""

    def __init__(self, monkeypatch) -> None:
        self.free = 10**12
        self.of_state: int | None = None
        self.looks: int | None = None
        """After so many looks nothing is free."""
        monkeypatch.setattr(room.shutil, "disk_usage", self.usage)

    def usage(self, path):
        if self.looks is not None:
            self.looks -= 1
            return Usage(10**12, 0, 10**12 if self.looks >= 0 else 0)
        in_state = self.of_state is not None and ".pipeline" in str(path)
        return Usage(10**12, 0, self.of_state if in_state else self.free)


@pytest.fixture
def disk(monkeypatch):
    return Disk(monkeypatch)


def answer_bytes(project, job="shop"):
    with journal.opened(project.outputs / ".pipeline", outputs=project.outputs) as opened:
        return sum(batch.answer_bytes for batch in opened.batches.all_of(job))


def test_without_room_for_the_answers_and_their_images_nothing_is_sent_and_it_says_what_to_do(shop, service, disk):
    disk.free = 5_000_000
    ended = shop(*RUN)
    assert ended.code == 7
    assert "has 5.0 MB free, and the next answers with their images need about " in ended.err
    assert "nothing was sent for them" in ended.err
    assert "hint: make room" in ended.err
    assert (service.ledger(), service.ledger("files.upload")) == ([], [])
    assert not list((shop.outputs / ".pipeline/requests").rglob("*.jsonl")), "it takes of what there is too little of"
    disk.free = 10**12
    assert shop(*RUN).code == 0
    assert len(service.ledger()) == 1


def test_answers_on_their_way_to_any_job_have_their_room_first(slow_shop, slow_service, disk):
    shop = slow_shop
    shop.delivers()
    shop.write("jobs/other.yaml", SHOP.replace("white", "black"))
    assert shop("submit", "jobs/shop.yaml").code == 0
    each = answer_bytes(shop)
    disk.free = int(each * 2.4 * 1.5)  # room for one of them, and not for both
    ended = shop("submit", "jobs/other.yaml")
    assert ended.code == 7
    assert "for what is on its way already" in ended.err
    assert len(slow_service.ledger()) == 1
    slow_service.advance(21 * 3600)
    assert shop("collect", "jobs/shop.yaml").code == 0
    assert shop("submit", "jobs/other.yaml").code == 0
    assert len(slow_service.ledger()) == 2


def test_what_is_on_its_way_comes_home_before_a_run_ends_for_want_of_room(shop, service, disk):
    shop.delivers()
    shop.write("jobs/shop.yaml", SHOP + "batch: {max_requests: 1}\n")
    disk.looks = 2  # two batches find room; then the disk is as good as full
    ended = shop(*RUN)
    assert ended.code == 7
    assert "what is on its way is waited for" in ended.err
    assert len(service.ledger()) == 2
    statuses = sorted(record["status"] for record in shop.records().values())
    assert statuses == ["done"] * 2 + ["pending"] * 4


@pytest.mark.parametrize(
    ("of_state", "of_images", "code"),
    [
        pytest.param(1.5, 1.1, 0, id="both have room for their part"),
        pytest.param(1.3, 9.0, 7, id="the state has not"),
        pytest.param(9.0, 0.9, 7, id="the images have not"),
    ],
)
def test_on_two_disks_each_needs_room_for_its_part(shop, service, disk, monkeypatch, of_state, of_images, code):
    monkeypatch.setattr(room, "_disk", lambda place: int(".pipeline" in str(place)))
    flash = models.load().find("flash")
    answers = 6 * (flash.answer_bytes("1K") * 4 // 3 + 2_000)
    disk.free, disk.of_state = int(of_images * answers), int(of_state * answers)
    ended = shop(*RUN)
    assert ended.code == code, ended.err
    assert bool(service.ledger()) is (code == 0)


def test_a_proof_needs_room_as_well(shop, service, disk):
    disk.free = 1_000_000
    assert shop("proof", "jobs/shop.yaml").code == 7
    assert service.ledger("generateContent") == []


def test_another_run_that_was_faster_has_taken_the_room(shop, service, disk, monkeypatch):
    """Between the look at a job and the row of its batch another process has sent a batch of its own."""
    shop.delivers()
    another_sends(shop, monkeypatch, answer_bytes=10**9)
    disk.free = 10**9
    ended = shop(*RUN)
    assert ended.code == 7
    assert "for what is on its way already" in ended.err
    assert service.ledger() == []


# ---------------------------------------------------------------------------------- room at the service


def another_sends(project, monkeypatch, **values):
    """Have a batch of another job in the journal as soon as the next request file is written."""
    write = batchfile.write

    def late(*args, **given):
        made = write(*args, **given)
        with journal.opened(project.outputs / ".pipeline", outputs=project.outputs) as other, other.transaction():
            row = {"job": "other", "service": "gemini", "model_id": "m", "name": "n", "chunk": "c", "attempt": 1}
            row |= {"requests": 1, "cost": 0, "state": "live", "planned_at": 0.0, "answer_bytes": 0, **values}
            other.batches.add(**row)
        monkeypatch.setattr(batchfile, "write", write)
        return made

    monkeypatch.setattr(batchfile, "write", late)


def test_another_run_that_was_faster_has_taken_the_space_at_the_service(shop, service, monkeypatch):
    shop.delivers()
    another_sends(shop, monkeypatch, answer_bytes=20 * 10**9)
    ended = shop(*RUN, "--wait", "0")
    assert ended.code == 4
    assert "it waits for space" in ended.err
    assert service.ledger() == []


def test_an_answer_that_is_not_fetched_yet_takes_its_space(slow_shop, slow_service, monkeypatch):
    shop = slow_shop
    shop.delivers()
    assert shop("submit", "jobs/shop.yaml").code == 0
    with journal.opened(shop.outputs / ".pipeline", outputs=shop.outputs) as opened:
        (batch,) = opened.batches.of("shop", "gemini", "live")
        for state in ("live", "ended", "held"):
            with opened.transaction():
                opened.batches.change(batch, state=state, result_file="files/x", ended_at=1.0)
            assert opened.batches.expected_bytes("gemini") == batch.answer_bytes, state
        with opened.transaction():
            opened.batches.change(batch, state="ended", result_file=None)
        assert opened.batches.expected_bytes("gemini") == 0, "it has none"
