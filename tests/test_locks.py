"""Many runs at one moment: one works on a job, the others leave; different jobs share what there is, and all end."""

from __future__ import annotations

import os
import resource
import signal
import sqlite3
import subprocess
import sys
import time

import pytest
from conftest import KEY, ROOT
from crowd import crowd, together
from jobs import PNG

from pipeline import journal
from pipeline.cli import opening
from pipeline.cli.doctor import machine
from pipeline.cli.options import Options
from pipeline.durable import Folder, locked
from pipeline.errors import LockedError
from pipeline.gemini import models

RUN = ("run", "jobs/shop.yaml", "--poll", "0.1s", "--wait", "60s")
MANY = pytest.param(24, marks=[pytest.mark.torture, pytest.mark.timeout(600)], id="24")


def batches(project):
    """Every batch of all jobs, as the journal has it."""
    with journal.opened(project.outputs / ".pipeline", outputs=project.outputs) as opened:
        return [batch for job in opened.jobs() for batch in opened.batches.all_of(job)]


# ---------------------------------------------------------------------------------------------- one job


@pytest.mark.parametrize("count", [4, MANY])
def test_of_many_runs_of_one_job_one_works_and_the_others_leave_at_once(shop, service, tmp_path, count):
    ended = crowd(shop, [RUN] * count, tmp_path / "said")
    assert sorted(one.code for one in ended) == [0] + [75] * (count - 1)
    assert [entry["requests"] for entry in service.ledger()] == [6]
    assert len(service.ledger("files.upload")) == 1
    for one in ended:
        if one.code:
            *_where, complaint, hint = one.err.splitlines()
            assert complaint.startswith("error: another run works on the job 'shop' (process ")
            assert hint.startswith("hint: wait for it to end")
            assert one.out == ""


VERBS = (
    ("run", "jobs/shop.yaml"), ("submit", "jobs/shop.yaml"), ("collect", "jobs/shop.yaml"), ("retry", "jobs/shop.yaml"),
    ("cancel", "jobs/shop.yaml", "--yes"), ("proof", "jobs/shop.yaml", "-n", "1"), ("clean", "jobs/shop.yaml", "--yes"),
)  # fmt: skip
READERS = (
    ("plan",), ("status", "--json"), ("ls",), ("ls", "batches"), ("cost",), ("cost", "--actual"), ("verify",),
    ("show", "mug/1:1"), ("clean",), ("validate",),
)  # fmt: skip


def _state(project):
    """The bytes of everything that is ours, but for SQLite's shared memory."""
    return {
        path: path.read_bytes()
        for path in project.outputs.rglob("*")
        if path.is_file() and not path.name.endswith("-shm")
    }


def test_while_a_job_is_locked_every_verb_that_changes_leaves_with_75_and_changes_nothing(shop, service):
    assert shop(*RUN).code == 0
    with locked(Folder(shop.outputs / ".pipeline"), "locks/shop.lock", what="the job"):
        before = _state(shop)
        assert {words[0]: shop(*words).code for words in VERBS} == dict.fromkeys((words[0] for words in VERBS), 75)
    assert _state(shop) == before
    assert len(service.ledger()) == 1


def test_while_a_job_is_locked_every_verb_that_looks_works(shop):
    assert shop(*RUN).code == 0
    shop.write("models.yaml", "models: {}\n")
    with locked(Folder(shop.outputs / ".pipeline"), "locks/shop.lock", what="the job"):
        before = shop.tree()
        assert {words: shop(*words).code for words in READERS} == dict.fromkeys(READERS, 0)
    assert shop.tree() == before


def test_what_only_reads_the_journal_waits_for_no_transaction_and_writes_nothing(shop):
    assert shop(*RUN).code == 0
    readers = (("status",), ("ls",), ("ls", "batches"), ("cost", "--actual"), ("show", "mug/1:1"))
    with journal.opened(shop.outputs / ".pipeline", outputs=shop.outputs) as writer, writer.transaction():
        writer.note("shop", "x")
        before, started = _state(shop), time.monotonic()
        assert {words: shop(*words).code for words in readers} == dict.fromkeys(readers, 0)
        assert time.monotonic() - started < journal._PATIENCE_S
        assert _state(shop) == before


def test_a_look_keeps_no_run_from_starting(shop, monkeypatch):
    monkeypatch.chdir(shop.folder)
    options = Options.of({}, os.environ)
    with opening.opened(["jobs/shop.yaml"], options, models.load(), "gemini", must_lock=False) as looked:
        assert looked.jobs[0].plan.requests == 6
        assert shop(*RUN).code == 0


def test_two_manifests_of_one_name_take_the_same_lock_and_the_second_is_refused(shop, service):
    shop.write("jobs/other.yaml", "job: shop\nprompt: a barn\n")
    with locked(Folder(shop.outputs / ".pipeline"), "locks/shop.lock", what="the job"):
        assert shop("run", "jobs/other.yaml").code == 75
    assert shop(*RUN).code == 0
    for verb in ("run", "proof", "submit"):
        ended = shop(verb, "jobs/other.yaml")
        assert ended.code == 2, verb
        assert "is the job 'shop', and so is " in ended.err
    assert len(service.ledger()) == 1
    assert not service.ledger("generateContent")


@pytest.mark.torture
@pytest.mark.timeout(600)
def test_verbs_of_every_kind_at_one_moment_buy_nothing_twice_and_end_as_they_say(shop, service, tmp_path):
    commands = [*VERBS, *READERS, RUN, RUN]
    ended = crowd(shop, commands, tmp_path / "said")
    told = [(words, one.code, one.err) for words, one in zip(commands, ended, strict=True)]
    # A reader of a journal that is not there yet says so, and one of a key that is not there.
    assert [one for one in told if one[1] not in {0, 2, 3, 4, 75} or "Traceback" in one[2]] == []
    assert shop(*RUN).code in {0, 3}
    assert shop("retry", *RUN[1:]).code == 0
    assert shop(*RUN).code == 0
    bought = sum(entry["requests"] for entry in service.ledger()) + len(service.ledger("generateContent"))
    with journal.opened(shop.outputs / ".pipeline", outputs=shop.outputs) as opened:
        known = sum(one.requests for one in opened.batches.all_of("shop") if one.state not in {"lost", "rejected"})
    assert bought == known, "what was bought is known"
    assert {record["status"] for record in shop.records().values()} == {"done"}


# -------------------------------------------------------------------------------------- different jobs


@pytest.mark.parametrize("count", [4, MANY])
def test_many_jobs_at_once_in_a_new_folder_share_slots_and_uploads_and_all_end(
    shop, service, tmp_path, monkeypatch, count
):
    monkeypatch.setenv("PIPELINE_CONCURRENT", "2")
    shop.write("jobs/photo.png", PNG)
    for number in range(count):
        text = f"prompt: a [p] in room {number}\nitems: [{{id: a, p: mug}}, {{id: b, p: bowl}}]\nimages: [photo.png]\n"
        shop.write(f"jobs/job{number}.yaml", text + "batch: {max_requests: 1}\n")
    shop.delivers()
    shop.write("jobs/other.png", PNG)
    (shop.outputs / ".pipeline").rename(shop.folder / "away")  # no journal is there when they start
    commands = [("run", f"jobs/job{number}.yaml", "--poll", "0.1s", "--wait", "300s") for number in range(count)]
    ended = crowd(shop, commands, tmp_path / "said")
    assert [(one.code, one.err if one.code else "") for one in ended] == [(0, "")] * count
    assert sum(entry["requests"] for entry in service.ledger()) == 2 * count
    names = [entry["name"] for entry in service.ledger("files.upload")]
    assert len([name for name in names if name.startswith("files/ref-")]) == 1, "they show the same image"
    # The journal has when each took its slot, and when it gave it back.
    changes = sorted(change for batch in batches(shop) for change in ((batch.planned_at, 1), (batch.ended_at, -1)))
    taken = [sum(change for _at, change in changes[: n + 1]) for n in range(len(changes))]
    assert max(taken) <= 2


def _open(state, rounds, start, found):
    """Open journals that are not there yet, at the same moments as others do."""
    for number in range(rounds):
        start.wait(60)
        time.sleep(os.getpid() % 7 * 0.0003)
        folder = Folder(state).path / str(number)
        try:
            with journal.opened(folder / ".pipeline", outputs=folder) as opened:
                found.put(opened._db.execute("SELECT count(*) FROM workspace").fetchone()[0])
        except Exception as error:  # noqa: BLE001 - told to the test
            found.put(repr(error))


def test_a_journal_is_made_once_whoever_comes_at_the_same_moment(tmp_path):
    assert together(_open, 3, str(tmp_path), 20) == [1] * 60


# --------------------------------------------------------------------------------------- the lock itself


HOLDER = """\
import os, signal, sys, time
from pathlib import Path
from pipeline.durable import Folder, locked
from pipeline.pixels import PixelChecks
with locked(Folder(Path(sys.argv[1])), "locks/shop.lock", what="the job"), PixelChecks() as pixels:
    pixels.submit("x", Path("nothing"), blank=False)
    child = pixels._workers[0].process.pid
    os.kill(child, signal.SIGSTOP)
    print(child, flush=True)
    time.sleep(60)
"""


def test_a_killed_run_lets_go_of_its_lock_at_once_whatever_its_children_do(tmp_path):
    command = [sys.executable, "-c", HOLDER, str(tmp_path)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as holder:
        child = int(holder.stdout.readline())
        with (
            pytest.raises(LockedError, match=f"process {holder.pid}"),
            locked(Folder(tmp_path), "locks/shop.lock", what=""),
        ):
            pass
        holder.send_signal(signal.SIGKILL)
        holder.wait()
    try:
        os.kill(child, 0)  # it is there still
        with locked(Folder(tmp_path), "locks/shop.lock", what="the job"):
            pass
    finally:
        os.kill(child, signal.SIGKILL)


def test_a_link_in_the_place_of_a_lock_is_refused_and_what_it_leads_to_stays(shop, service):
    target = shop.write("precious.txt", "mine")
    (shop.outputs / ".pipeline/locks").mkdir(parents=True)
    (shop.outputs / ".pipeline/locks/shop.lock").symlink_to(target)
    ended = shop(*RUN)
    assert ended.code == 7
    assert "symbolic link" in ended.err
    assert target.read_text() == "mine"
    assert service.ledger() == []


def test_a_lock_needs_no_room_on_the_disk(tmp_path):
    (tmp_path / "locks").mkdir()
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, hard))
    try:
        with locked(Folder(tmp_path), "locks/shop.lock", what="the job"):
            pass
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.some(2)
@pytest.mark.parametrize("kind", ["nfs", "nfs4", "cifs", "smb3"])
def test_on_a_disk_of_another_machine_nothing_is_sent_unless_somebody_says_so(shop, service, monkeypatch, kind):
    mounts = shop.write("mounts", f"36 35 98:0 / {shop.folder} rw - {kind} server:/export rw\n")
    monkeypatch.setattr(machine, "_MOUNTS", mounts)
    ended = shop(*RUN)
    assert ended.code == 7
    assert f"lies on {kind}" in ended.err
    assert "--state DIR" in ended.err
    assert service.ledger() == []
    assert shop("plan").code == 0
    if kind == "nfs":
        assert shop("--allow-network-fs", *RUN).code == 0


def test_a_journal_that_is_busy_for_long_ends_a_run_with_4_and_nothing_is_sent(shop, service, monkeypatch):
    assert shop("plan").code == 0
    monkeypatch.setattr(journal, "_PATIENCE_S", 0.1)
    with journal.opened(shop.outputs / ".pipeline", outputs=shop.outputs) as other, other.transaction():
        ended = shop(*RUN)
    assert ended.code == 4
    assert "is busy" in ended.err
    assert "another run is writing to it" in ended.err
    assert service.ledger() == []


# ---------------------------------------------------------------------------------------- a full disk


@pytest.mark.torture
@pytest.mark.parametrize("most_bytes", [4096, 50_000, 120_000, 200_000, 300_000, 400_000])
def test_where_files_cannot_grow_nothing_is_bought_that_is_not_known(shop, service, tmp_path, most_bytes):
    (ended,) = crowd(shop, [RUN], tmp_path / "said", most_bytes=most_bytes)
    assert ended.code in {0, 7}, ended.err
    assert "Traceback" not in ended.err
    if ended.code:
        assert "hint: " in ended.err
    before = len(service.ledger())
    assert shop(*RUN).code == 0
    assert len(service.ledger()) == 1, f"{before} were sent before"
    assert {record["status"] for record in shop.records().values()} == {"done"}


def test_a_key_is_in_no_lock(shop):
    assert shop(*RUN).code == 0
    for path in (shop.outputs / ".pipeline/locks").iterdir():
        assert KEY not in path.read_text()


def test_the_journal_of_many_is_one_database(shop):
    assert shop(*RUN).code == 0
    with sqlite3.connect(shop.outputs / ".pipeline/journal.db") as db:
        assert db.execute("SELECT count(*) FROM workspace").fetchone() == (1,)
    db.close()
