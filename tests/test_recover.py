"""What is lost of our own memory is no reason to pay again: the service's ledger is the judge."""

from __future__ import annotations

import datetime as dt
import hashlib
import itertools
import json
import multiprocessing
import os
import shutil
import sqlite3
from multiprocessing import forkserver

import pictures
import pytest
from conftest import KEY, SHOP
from crashing import nursery

from pipeline import journal

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


def nights(shop, service, clock=None):
    """Run it night after night until it has come to rest; the last exit code."""
    for _night in range(4):
        code = shop(*RUN, "--wait", "0").code
        if code != 4:
            break
        service.advance(21 * 3600)
        if clock is not None:
            clock.ahead_s += 21 * 3600
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


TELLING = [
    ("journal", "images", "collected"),
    ("journal", "manifest", "aged"),
    ("images", "answers", "collected"),
    ("journal", "manifest", "images", "deleted"),
]


@pytest.mark.parametrize("case", TELLING, ids="+".join)
@pytest.mark.some(1)
def test_what_is_lost_of_our_own_memory_is_not_paid_for_again(slow_shop, slow_service, case):
    *lost, stage = case
    check(slow_shop, slow_service, stage, lost, recovers=False)


@pytest.mark.torture
@pytest.mark.parametrize(
    ("recovers", "stage"),
    [*((False, stage) for stage in STAGES), (True, "ended"), (True, "collected"), (True, "deleted")],
    ids=lambda value: {False: "run", True: "recover"}.get(value, value),
)
@pytest.mark.parametrize("lost", EVERY_LOSS, ids="+".join)
def test_whatever_is_lost_no_image_is_paid_for_twice(slow_shop, slow_service, stage, lost, recovers):
    check(slow_shop, slow_service, stage, lost, recovers=recovers)


# --------------------------------------------------------------------------------------------- verify


@pytest.fixture(scope="module")
def rendered(tmp_path_factory):
    """A shop that was rendered, to be copied: its folder, without the service."""
    from test_promises import start

    folder = start(tmp_path_factory.mktemp("rendered") / "project")
    args = ["--service", "local", "run", "jobs/shop.yaml", "--poll", "0.1s"]
    environment = {"PIPELINE_LOCAL_LATENCY": "0", "PIPELINE_LOCAL_PICTURES": "plain"}
    said = {"out": str(folder.parent / "out.txt"), "err": str(folder.parent / "err.txt")}
    order = {"at": "", "log": "", "strace": (), "limits": {}, "ahead_s": 0.0, **said}
    code = nursery().run(folder=str(folder), args=args, environment=environment, **order)
    assert code == 0, (folder.parent / "err.txt").read_text()
    return folder


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


@pytest.mark.some(4)
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


def test_verify_takes_what_a_run_just_writes_and_what_was_only_looked_at_for_no_strays(copied):
    for name in (".mug.jpg.0123456789abcdef.part", "gallery/index.html", "proof/mug.jpg"):
        path = copied.outputs / "shop" / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"x")
    assert copied("verify").code == 0


def test_a_pointer_to_an_image_is_as_good_as_the_image(copied):
    path = copied.outputs / "shop/mug-1x1.jpg"
    data = path.read_bytes()
    oid = hashlib.sha256(data).hexdigest()
    path.write_text(f"version https://git-lfs.github.com/spec/v1\noid sha256:{oid}\nsize {len(data)}\n")
    assert copied("verify").code == 0
    path.write_text(f"version https://git-lfs.github.com/spec/v1\noid sha256:{oid[::-1]}\nsize {len(data)}\n")
    assert copied("verify", "--json").json["jobs"][0]["edited"] == ["mug-1x1.jpg"]


def recorded_as(data):
    """The image with these bytes, and the output manifest of somebody who recorded it so."""

    def harm(top):
        (top / "mug-1x1.jpg").write_bytes(data)
        lines = (top / "manifest.jsonl").read_text().splitlines()
        records = [json.loads(line) for line in lines]
        for file in (file for record in records for file in record["files"] if file["path"] == "mug-1x1.jpg"):
            file |= {"sha256": hashlib.sha256(data).hexdigest(), "bytes": len(data)}
        (top / "manifest.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))

    return harm


@pytest.mark.parametrize(
    "data",
    [b"no image at all", pictures.JPEG + b"tail", pictures.png(pictures.chunk(b"IDAT", b"no pixels"))],
    ids=["no image", "with a tail", "without pixels"],
)
@pytest.mark.parametrize("manifest", ["whole", "with a line that is no record"])
def test_verify_names_an_image_that_is_recorded_and_is_none(copied, data, manifest):
    top = copied.outputs / "shop"
    recorded_as(data)(top)
    if manifest != "whole":
        edit(top / "manifest.jsonl")
    ended = copied("verify", "--json")
    (document,) = ended.json["jobs"]
    assert ended.code == 3
    assert document["broken"] == [*([] if manifest == "whole" else ["manifest.jsonl"]), "mug-1x1.jpg"]
    assert document["missing"] == document["edited"] == document["stray"] == []


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


# ------------------------------------------------------------------ other folders, machines, and people


def settle(shop):
    return {record["status"] for record in shop.records().values()}


def test_what_was_sent_from_another_folder_is_taken_in_when_a_person_says_so_and_left_there(slow_shop, slow_service):
    shop, service = slow_shop, slow_service
    assert shop("--outputs", "before", "submit", "jobs/shop.yaml").code == 0
    shutil.rmtree(shop.folder / "before")
    service.advance(21 * 3600)
    ended = shop(*RECOVER)
    assert ended.code == 0, ended.err
    assert settle(shop) == {"done"}
    assert shop("clean", "--yes").code == 0
    assert nights(shop, service) == 0
    assert bought(service) == 6
    assert service.ledger("batches.delete") == [], "whoever sent it may not have it yet"


def test_a_run_that_begins_beside_batches_of_another_folder_says_what_to_type(slow_shop, slow_service):
    assert slow_shop("--outputs", "before", "submit", "jobs/shop.yaml").code == 0
    ended = slow_shop("submit", "jobs/shop.yaml")
    assert "`pipeline collect --recover jobs/shop.yaml`" in ended.err
    assert ended.code == 0
    assert slow_shop("submit", "jobs/shop.yaml").err.count("--recover") == 0, "once, when the journal is new"


def test_somebody_elses_batch_of_the_same_name_is_counted_and_left_alone(slow_shop, slow_service):
    shop, service = slow_shop, slow_service
    shop.write("jobs/shop.yaml", "prompt: Something else of a [product]\nitems: products.csv\n")
    assert shop("--outputs", "theirs", "submit", "jobs/shop.yaml").code == 0
    shop.write("jobs/shop.yaml", SHOP)
    service.advance(21 * 3600)
    ended = shop(*RECOVER)
    assert ended.code == 0, ended.err
    assert "3 foreign" in ended.err
    assert not [*(shop.outputs / ".pipeline").glob("conflicts/shop/*")], "their images are none of ours"
    assert nights(shop, service) == 0
    assert bought(service) == 3 + 6
    assert {*map(str, [entry["op"] for entry in service._call("/_local/ledger")])}.isdisjoint(
        {"batches.delete", "batches.cancel"}
    )
    assert shop("--outputs", "theirs", "--state", "theirs/.pipeline", "collect", "jobs/shop.yaml").code == 0


def test_recover_asked_twice_does_nothing_the_second_time(slow_shop, slow_service):
    shop, service = slow_shop, slow_service
    ended_ = ended
    ended_(shop, service)
    lose_journal(shop)
    assert shop(*RECOVER).code == 0
    before, ledger = shop.tree(), service._call("/_local/ledger")
    again = shop(*RECOVER)
    assert again.code == 0
    assert (shop.tree(), service._call("/_local/ledger")) == (before, ledger)
    assert "found" not in again.err


def test_a_batch_that_is_older_than_an_answer_may_be_answers_nothing(slow_shop, slow_service):
    """A job that wants news each night takes no old ones in."""
    shop, service = slow_shop, slow_service
    shop.write("jobs/shop.yaml", "prompt: The weather\nmax_age: 20h\nchecks: {decode: false}\n")
    aged(shop, service)
    lose_journal(shop)
    lose_manifest(shop)
    assert nights(shop, service) == 0
    assert bought(service) == 2


def test_a_folder_that_was_moved_and_then_lost_its_journal_finds_its_batches(slow_shop, slow_service):
    shop, service = slow_shop, slow_service
    pending(shop, service)
    shop.outputs.rename(shop.folder / "moved")
    assert shop("--outputs", "moved", "collect", "jobs/shop.yaml").code == 0
    for path in shop.folder.glob("moved/.pipeline/journal.db*"):
        path.unlink()
    shutil.rmtree(shop.folder / "moved/shop")
    service.advance(21 * 3600)
    for _night in range(3):
        shop("--outputs", "moved", "submit", "jobs/shop.yaml")
        service.advance(21 * 3600)
    assert bought(service) == 6


def test_a_copied_state_without_its_journal_is_not_taken_for_the_other_folders(slow_shop, slow_service):
    """Whose copy this is still has its journal, and its batches."""
    pending(slow_shop, slow_service)
    (slow_shop.folder / "copy/.pipeline").mkdir(parents=True)
    here = os.path.realpath(slow_shop.outputs)
    told = {"id": hashlib.sha256(os.fsencode(here)).hexdigest()[:8], "folder": here}
    (slow_shop.folder / "copy/.pipeline/workspace.json").write_text(json.dumps(told))
    assert "found" not in slow_shop("--outputs", "copy", "collect", "jobs/shop.yaml").err
    assert slow_shop("--outputs", "copy", "status", "--json").json["jobs"][0]["batches"] == []


# --------------------------------------------------------------------- a journal that was put back


def put_back(shop, kept):
    lose_journal(shop)
    shutil.copy(kept, state(shop) / "journal.db")


def kept_journal(shop, folder):
    with sqlite3.connect(state(shop) / "journal.db") as db:
        db.execute("VACUUM INTO ?", (str(folder / "kept.db"),))
    return folder / "kept.db"


@pytest.mark.torture
@pytest.mark.parametrize("lost", [(), ("images",), ("answers",), ("images", "answers"), ("manifest",)], ids="+".join)
@pytest.mark.parametrize("is_deleted", [False, True], ids=["there", "deleted"])
@pytest.mark.parametrize("when", ["before", "sent", "ended"])
def test_a_journal_put_back_from_a_backup_pays_for_nothing_again(
    slow_shop, slow_service, clock, when, is_deleted, lost
):
    shop, service, folder = slow_shop, slow_service, slow_shop.folder
    shop.write("jobs/shop.yaml", SHOP + "checks: {decode: false}\n")
    with journal.opened(state(shop), outputs=shop.outputs):
        kept = None  # a new one, in which nothing is
    kept = kept_journal(shop, folder) if when == "before" else None
    pending(shop, service)
    kept = kept_journal(shop, folder) if when == "sent" else kept
    service.advance(21 * 3600)
    if when == "ended":
        with sqlite3.connect(state(shop) / "journal.db") as db:
            db.execute("UPDATE batch SET state = 'intent', remote = NULL")
        kept = kept_journal(shop, folder)
    assert nights(shop, service) == 0
    assert bought(service) == 6
    if is_deleted:
        service.delete(service.ledger()[0]["name"])
    put_back(shop, kept)
    for name in lost:
        LOSSES[name](shop)
    code = nights(shop, service, clock)
    everything_lost = is_deleted and {"images", "answers"} <= {*lost}
    nobody_knows = is_deleted and "manifest" in lost and when != "before"
    if not (everything_lost or nobody_knows):
        assert code == 0
        assert settle(shop) == {"done"}
    assert bought(service) == 12 if everything_lost and code == 0 else 6
    assert not [*(state(shop) / "conflicts").rglob("*.bin")]


# ---------------------------------------------------------------------- a result that is about to vanish

HOUR = 3600.0
DENIED = {"error": {"code": 403, "status": "PERMISSION_DENIED", "message": "no such file, or not yours"}}


@pytest.fixture
def withheld(shop, proxy, clock, monkeypatch):
    """A shop whose batch has ended, and whose answer the service does not give out."""
    monkeypatch.setenv("PIPELINE_SETTLE", "15m")
    monkeypatch.setenv("PIPELINE_PATIENCE", "1h")
    monkeypatch.setattr("pipeline.cli.recorded.time", clock)
    shop.write("jobs/shop.yaml", SHOP + "checks: {decode: false}\nretry: 0\n")
    shop.delivers()
    proxy.after = lambda call: call.say(DENIED, 403) if call.is_download() else None
    assert shop("submit", "jobs/shop.yaml").code == 0
    assert shop("collect", "jobs/shop.yaml").code == 0
    return shop


def status(shop):
    return shop("status", "--json").json["jobs"][0]["batches"][0]


def test_status_says_from_the_first_hour_until_when_an_answer_can_be_fetched(withheld, service):
    ended = service._call("/v1beta/batches")["operations"][0]["metadata"]["endTime"]
    by = dt.datetime.fromisoformat(ended[:19] + "+00:00") + dt.timedelta(hours=48)
    assert abs(dt.datetime.fromisoformat(status(withheld)["fetch_by"]) - by) <= dt.timedelta(seconds=2)
    assert status(withheld)["fetch_by"] in withheld("status").out
    assert "may be gone" not in withheld("collect", "jobs/shop.yaml").err, "there is time"


def test_an_answer_that_has_less_than_a_day_left_is_told_of_loudly_and_changes_no_exit_code(withheld, clock):
    clock.ahead_s += 0.4 * HOUR
    codes = withheld("collect", "jobs/shop.yaml").code, withheld("collect", "-q", "jobs/shop.yaml").code
    clock.ahead_s += 24 * HOUR
    ended = withheld("collect", "-q", "jobs/shop.yaml")
    assert "may be gone at the service in 23h" in ended.err
    assert "`pipeline collect jobs/shop.yaml` fetches it" in ended.err
    assert codes == (0, 0)
    assert ended.code == 6, "by now it is a person's"


def test_an_answer_that_is_not_given_out_is_held_while_it_should_be_there_and_comes_when_it_is(
    withheld, service, proxy, clock
):
    clock.ahead_s += 2 * HOUR
    ended = withheld("collect", "jobs/shop.yaml")
    assert ended.code == 6
    assert settle(withheld) == {"held"}
    reasons = {record["reason"] for record in withheld.records().values()}
    assert all("`pipeline retry jobs/shop.yaml --only held`" in reason for reason in reasons)
    assert withheld(*RUN).code == 6, "and stays so"
    proxy.after = lambda call: None
    assert withheld("collect", "jobs/shop.yaml").code == 0
    assert settle(withheld) == {"done"}
    assert bought(service) == 7


def test_an_answer_that_is_not_there_when_its_time_is_up_is_missing(withheld, clock):
    clock.ahead_s += 2 * HOUR
    assert withheld("collect", "jobs/shop.yaml").code == 6
    clock.ahead_s += 47 * HOUR
    assert withheld("collect", "jobs/shop.yaml").code == 3
    assert settle(withheld) == {"missing"}


def test_a_batch_is_believed_gone_after_three_answers_over_an_hour_and_no_sooner(
    slow_shop, slow_service, clock, monkeypatch
):
    slow_shop.delivers()
    pending(slow_shop, slow_service)
    slow_service.delete(slow_service.ledger()[0]["name"])
    for hours, code in ((0, 0), (0, 0), (0, 0), (0.5, 0), (0.6, 6), (0, 6)):
        clock.ahead_s += hours * HOUR
        assert slow_shop("collect", "jobs/shop.yaml").code == code, hours
    reason = {record["reason"] for record in slow_shop.records().values()}.pop()
    assert "`pipeline retry jobs/shop.yaml --only held`" in reason
    assert bought(slow_service) == 7


def test_two_answers_an_hour_apart_are_not_three(slow_shop, slow_service, clock):
    slow_shop.delivers()
    pending(slow_shop, slow_service)
    slow_service.delete(slow_service.ledger()[0]["name"])
    assert slow_shop("collect", "jobs/shop.yaml").code == 0
    clock.ahead_s += 2 * HOUR
    assert slow_shop("collect", "jobs/shop.yaml").code == 0
    assert slow_shop("collect", "jobs/shop.yaml").code == 6


# ------------------------------------------------------------------------- what a person has put there


def asked_again(shop, *words):
    return shop("retry", "jobs/shop.yaml", "--only", "done", "--poll", "0.1s", *words)


LANES = {
    "run": lambda shop: shop(*RUN),
    "retry": asked_again,
    "proof --keep": lambda shop: shop("proof", "jobs/shop.yaml", "-n", "6", "--keep", "--yes"),
    "collect": lambda shop: shop("collect", "jobs/shop.yaml"),
    "recover": lambda shop: shop(*RECOVER),
    "clean": lambda shop: shop("clean", "--yes", "--older-than", "0"),
}


@pytest.mark.some(1)
@pytest.mark.parametrize("lane", ["run", "recover"])
def test_an_edited_file_is_not_written_over_by_a_command_that_knows_nothing_of_it(shop, service, lane):
    keep_what_is_edited(shop, lane, ("journal", "manifest"))


@pytest.mark.torture
@pytest.mark.parametrize("lane", LANES)
@pytest.mark.parametrize("lost", [(), ("journal",), ("manifest",), ("journal", "manifest")], ids="+".join)
def test_no_lane_writes_over_what_a_person_edited(shop, service, lane, lost):
    keep_what_is_edited(shop, lane, lost)


def keep_what_is_edited(shop, lane, lost):
    shop.write("jobs/products.csv", "id,product\nmug,blue mug\n")
    shop.write("jobs/shop.yaml", SHOP + "checks: {decode: false}\n")
    assert shop(*RUN).code == 0
    mine = shop.outputs / "shop/mug-1x1.jpg"
    mine.write_bytes(mine.read_bytes() + b"retouched")
    theirs = mine.read_bytes()
    for name in lost:
        LOSSES[name](shop)
    for _time in range(2):
        LANES[lane](shop)
        assert mine.read_bytes() == theirs
    shop(*RUN)
    assert mine.read_bytes() == theirs


@pytest.mark.parametrize("lane", ["run", "proof --keep", "recover"])
def test_no_lane_writes_over_a_file_that_nobody_knows(shop, service, lane):
    shop.write("jobs/products.csv", "id,product\nmug,blue mug\n")
    shop.write("jobs/shop.yaml", SHOP + "checks: {decode: false}\n")
    mine = shop.write("outputs/shop/mug-1x1.jpg", b"drawn by hand")
    LANES[lane](shop)
    assert mine.read_bytes() == b"drawn by hand"


def test_only_force_with_a_selection_replaces_it_and_keeps_it(shop, service):
    shop.write("jobs/products.csv", "id,product\nmug,blue mug\n")
    assert shop(*RUN).code == 0
    mine = shop.outputs / "shop/mug-1x1.jpg"
    mine.write_bytes(mine.read_bytes() + b"retouched")
    theirs = mine.read_bytes()
    assert shop(*RUN, "--force").code == 2
    assert shop(*RUN, "--force", "--select", "state:edited").code == 0
    assert mine.read_bytes() != theirs
    assert theirs in [path.read_bytes() for path in (state(shop) / "retired").rglob("*") if path.is_file()]


# ------------------------------------------------------------------------------- killed while it recovers

KILLS = [
    *(f"commit:before:{count}" for count in (2, 4, 6, 8)),
    *("replace:before:1", "publish:renamed:1", "publish:after:1"),
]
GONE = [("journal", "manifest"), ("journal", "manifest", "images"), ("images", "answers")]


@pytest.mark.torture
@pytest.mark.parametrize("lost", GONE, ids="+".join)
@pytest.mark.parametrize("point", KILLS)
def test_a_recovery_that_is_killed_is_made_up_for_by_the_next(shop, service, lost, point):
    start_children()
    shop.write("jobs/shop.yaml", SHOP + "checks: {decode: false}\n")
    assert shop(*RUN).code == 0
    before = {path: data for path, (data, _) in shop.tree().items() if path.endswith(".jpg")}
    for name in lost:
        LOSSES[name](shop)
    assert recovering(shop.folder, service.url, point) in {-9, 0}
    assert shop(*RECOVER).code == 0
    assert shop(*RUN).code == 0
    assert {path: data for path, (data, _) in shop.tree().items() if path.endswith(".jpg")} == before
    assert bought(service) == 6
    assert shop("verify").code == 0


def _recover(folder, url, at):
    from pipeline import cli, crash

    os.chdir(folder)
    os.environ.update(GEMINI_API_KEY=KEY, GOOGLE_GEMINI_BASE_URL=url, PIPELINE_SETTLE="0", PIPELINE_PATIENCE="0")
    crash.arm(at=at, log="")
    os._exit(cli.run(RECOVER))


def start_children():
    """Start what children are forked from while we are at the top of the repository: its own modules are loaded."""
    children().set_forkserver_preload(["tests.warm"])
    forkserver.ensure_running()


def children():
    return multiprocessing.get_context("forkserver")


def recovering(folder, url, at):
    """The exit code of a recovery in a process of its own; -9 when it was killed."""
    process = children().Process(target=_recover, args=(str(folder), url, at))
    process.start()
    process.join(60)
    return process.exitcode
