"""What is lost of our own memory is no reason to pay again: the service's ledger is the judge."""

from __future__ import annotations

import itertools
import shutil

import pytest
from conftest import SHOP

RUN = ("run", "jobs/shop.yaml", "--poll", "0.1s")
RECOVER = ("collect", "--recover", "jobs/shop.yaml")
TWO = SHOP + "batch: {max_requests: 4}\nchecks: {decode: false}\n"


def bought(service):
    """How many images were paid for."""
    return sum(entry["requests"] for op in ("batches.create", "generateContent") for entry in service.ledger(op))


def state(shop):
    return shop.outputs / ".pipeline"


# ------------------------------------------------------------------------- what can be lost, and when

DAY_S = 86_400.0


def nights(shop, service):
    """Run it night after night until it has come to rest; the last exit code."""
    for _night in range(4):
        code = shop(*RUN, "--wait", "0").code
        if code != 4:
            break
        service.advance(21 * 3600)
    return code


def pending(shop, service):
    assert shop("submit", "jobs/shop.yaml").code == 0


def ended(shop, service):
    pending(shop, service)
    service.advance(21 * 3600)


def aged(shop, service):
    """Ended, and lain there for four days: older than any batch that is waited for."""
    ended(shop, service)
    service.advance(4 * DAY_S)


def collected(shop, service):
    assert nights(shop, service) == 0


def deleted(shop, service):
    """Collected, and deleted at the service."""
    collected(shop, service)
    for entry in service.ledger():
        service.delete(entry["name"])


STAGES = {stage.__name__: stage for stage in (pending, ended, aged, collected, deleted)}


def lose_journal(shop):
    for path in state(shop).glob("journal.db*"):
        path.unlink()


def lose_manifest(shop):
    for name in ("manifest.jsonl", "manifest.csv"):
        (shop.outputs / "shop" / name).unlink(missing_ok=True)


def lose_images(shop):
    for path in (shop.outputs / "shop").glob("*.jpg"):
        path.unlink()


def lose_answers(shop):
    for name in ("answers", "requests"):
        shutil.rmtree(state(shop) / name, ignore_errors=True)


LOSSES = {
    "journal": lose_journal,
    "manifest": lose_manifest,
    "images": lose_images,
    "answers": lose_answers,
}
EVERY_LOSS = [lost for number in range(1, len(LOSSES) + 1) for lost in itertools.combinations(LOSSES, number)]


def is_lost_for_good(stage, lost):
    """Nobody has the answers any more."""
    return stage == "deleted" and {"images", "answers"} <= {*lost}


def are_strangers_images(stage, lost):
    """The images lie there, and nothing tells what they are."""
    return stage == "deleted" and {"journal", "manifest", "answers"} <= {*lost} and "images" not in lost


def check(shop, service, stage, lost, *, recovers):
    shop.write("jobs/shop.yaml", TWO)
    STAGES[stage](shop, service)
    paid = bought(service)
    for name in lost:
        LOSSES[name](shop)
    if recovers:
        assert shop(*RECOVER).code in {0, 6}
        assert bought(service) == paid, "it sends nothing"
    code = nights(shop, service)
    if is_lost_for_good(stage, lost):
        assert (code, bought(service)) == (0, 12)
    elif are_strangers_images(stage, lost):
        assert (code, bought(service)) == (6, 6)
    else:
        assert (code, bought(service)) == (0, 6)
        assert {record["status"] for record in shop.records().values()} == {"done"}
        assert shop("verify").code == 0
    spent = bought(service)
    before = shop.tree()
    assert shop(*RUN, "--wait", "0").code == code
    assert (bought(service), shop.tree()) == (spent, before), "it has come to rest"
    assert not [*(state(shop) / "conflicts").rglob("*.bin")], "nothing came that was not asked for"


@pytest.mark.torture
@pytest.mark.parametrize("stage", STAGES)
@pytest.mark.parametrize("recovers", [False, True], ids=["run", "recover"])
@pytest.mark.parametrize("lost", EVERY_LOSS, ids="+".join)
def test_whatever_is_lost_no_image_is_paid_for_twice(slow_shop, slow_service, stage, lost, recovers):
    check(slow_shop, slow_service, stage, lost, recovers=recovers)
