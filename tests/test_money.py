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
