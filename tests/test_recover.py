"""What is lost of our own memory is no reason to pay again: the service's ledger is the judge."""

from __future__ import annotations

import hashlib
import itertools
import os
import shutil
import sqlite3
import subprocess
import sys

import pytest
from conftest import ROOT, SHOP

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


# --------------------------------------------------------------------------------------------- verify


@pytest.fixture(scope="module")
def rendered(tmp_path_factory):
    """A shop that was rendered, to be copied: its folder, without the service."""
    from test_promises import start

    folder = start(tmp_path_factory.mktemp("rendered") / "project")
    done = _pipeline(folder, "--service", "local", "run", "jobs/shop.yaml", "--poll", "0.1s")
    assert done.returncode == 0, done.stderr
    return folder


def _pipeline(folder, *words):
    environment = {
        **os.environ,
        "PYTHONPATH": str(ROOT),
        "PIPELINE_LOCAL_LATENCY": "0",
        "PIPELINE_LOCAL_PICTURES": "plain",
    }
    return subprocess.run(
        [sys.executable, "-m", "pipeline", *words], cwd=folder, env=environment, capture_output=True, text=True,
        timeout=100, check=False,
    )  # fmt: skip


@pytest.fixture
def copied(rendered, project):
    """The same, to be harmed."""
    shutil.copytree(rendered, project.folder, dirs_exist_ok=True)
    with sqlite3.connect(project.outputs / ".pipeline/journal.db") as db:
        db.execute("UPDATE workspace SET folder = ?", (os.path.realpath(project.outputs),))
    return project


def cut(path):
    path.write_bytes(path.read_bytes()[:-4])


def edit(path):
    path.write_bytes(path.read_bytes() + b"\0")


def link(path):
    moved = path.rename(path.with_suffix(".elsewhere"))
    path.symlink_to(moved)


HARMS = {
    "nothing": (lambda top: None, {}),
    "missing": (lambda top: (top / "mug-1x1.jpg").unlink(), {"missing": ["mug-1x1.jpg"]}),
    "edited": (lambda top: edit(top / "mug-1x1.jpg"), {"edited": ["mug-1x1.jpg"]}),
    "cut": (lambda top: cut(top / "mug-1x1.jpg"), {"edited": ["mug-1x1.jpg"]}),
    "a link": (lambda top: link(top / "mug-1x1.jpg"), {"edited": ["mug-1x1.jpg"], "stray": ["mug-1x1.elsewhere"]}),
    "a folder": (
        lambda top: ((top / "mug-1x1.jpg").unlink(), (top / "mug-1x1.jpg").mkdir()),
        {"edited": ["mug-1x1.jpg"]},
    ),
    "stray": (lambda top: (top / "sub").mkdir() or (top / "sub/x.jpg").write_bytes(b"x"), {"stray": ["sub/x.jpg"]}),
    "a folder elsewhere": (lambda top: (top / "sub").symlink_to("/usr"), {"stray": ["sub"]}),
    "manifest": (lambda top: (top / "manifest.jsonl").unlink(), None),
    "table": (lambda top: (top / "manifest.csv").unlink(), {"missing": ["manifest.csv"]}),
}


@pytest.mark.parametrize("harm", HARMS)
def test_verify_names_what_is_not_as_recorded_and_writes_nothing(copied, harm):
    do, expected = HARMS[harm]
    top = copied.outputs / "shop"
    images = sorted(path.name for path in top.glob("*.jpg"))
    do(top)
    ended = copied("verify", "--json")
    (document,) = ended.json["jobs"]
    told = {word: paths for word, paths in document.items() if isinstance(paths, list) and paths}
    expected = {"missing": ["manifest.jsonl"], "stray": images} if expected is None else expected
    assert (ended.code, told) == (3 if expected else 0, expected)
    said = copied("verify")
    assert said.err.count("hint: ") == len(expected)


def test_verify_shows_a_name_that_is_no_text_and_turns_no_cursor(copied):
    for name in (b"\xff.jpg", b"\x1b[31m.jpg"):
        (copied.outputs / "shop" / os.fsdecode(name)).touch()
    ended = copied("verify")
    assert ended.code == 3
    assert "\x1b" not in ended.out
    assert ended.out.count("stray\t") == 2
    assert len(copied("verify", "--json").json["jobs"][0]["stray"]) == 2


def test_verify_raises_no_false_alarm_beside_a_run(copied):
    """What a run has published is known to the journal before the manifest names it."""
    manifest = copied.outputs / "shop/manifest.jsonl"
    whole = manifest.read_bytes()
    manifest.write_bytes(b"".join(whole.splitlines(keepends=True)[:2]))
    lock = copied.outputs / ".pipeline/locks/shop.lock"
    lock.write_text(f"process {os.getpid()}\n")
    ended = copied("verify", "--json")
    assert (ended.code, ended.json["jobs"][0]["ok"]) == (0, 6)
    lock.write_text("process 0\n")


def test_verify_names_a_manifest_that_a_killed_run_left_behind(copied):
    manifest = copied.outputs / "shop/manifest.jsonl"
    whole = manifest.read_bytes()
    manifest.write_bytes(whole[: whole.rindex(b'{"key"')])
    digest = hashlib.sha256(manifest.read_bytes()).hexdigest()
    with sqlite3.connect(copied.outputs / ".pipeline/journal.db") as db:
        db.execute("UPDATE job SET published = ?", (digest,))
    ended = copied("verify", "--json")
    assert (ended.code, ended.json["jobs"][0]["stale"], ended.json["jobs"][0]["stray"]) == (3, ["manifest.jsonl"], [])


def test_verify_goes_on_beside_a_damaged_journal(copied):
    for path in (copied.outputs / ".pipeline").glob("journal.db*"):
        path.write_bytes(b"no journal at all" * 1000)
    ended = copied("verify")
    assert ended.code == 0
    assert "damaged" in ended.err
