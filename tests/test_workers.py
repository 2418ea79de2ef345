"""What several processes print of a catalog is what one does, or they leave it to that one."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
from contextlib import contextmanager
from itertools import chain

import pytest
from conftest import ROOT
from hypothesis import given, settings
from hypothesis import strategies as st
from jobs import TODAY, write

from pipeline import batchfile, workers
from pipeline.durable import Folder
from pipeline.gemini import models
from pipeline.job import expand, sources, unique
from pipeline.job.expand import OddError
from pipeline.job.language import load

MODELS = models.load()
JOB = "prompt: 'a [a] for [id]'\nitems: rows.csv\nmatrix:\n  aspect: [1:1, 4:5]\nbatch: {max_requests: 7}\n"


def job_of(folder, rows: str, text: str = JOB):
    write(folder, "rows.csv", rows.encode())
    return load(write(folder, "job.yaml", text), root=folder)


def alone(folder, job):
    """Files as one process makes them, and what it says of them."""
    out = Folder(folder / "alone").make()
    blocks = expand.blocks(job, models=MODELS, today=TODAY, warn=lambda _problem: None)
    return batchfile.compile_all(out, job, blocks, MODELS), contents(out)


def together(folder, job, *, size: int = 300, warn=print, by_rows: bool = False):
    """The same by two processes that take parts of a few hundred bytes."""
    out = Folder(folder / "together").make()
    spans = sources.spans(folder / "rows.csv", size, by_rows=by_rows)
    with workers.Workers(job, MODELS, TODAY, spans, 2) as found:
        started = list(found._processes)
        made = batchfile.pack(out, job, found.lines(warn))
    for process in started:
        with pytest.raises(ChildProcessError):
            os.waitpid(process, os.WNOHANG)  # none of them is left
    return made, contents(out)


def contents(out):
    return {path.name: path.read_bytes() for path in out.path.iterdir()}


def rows(count: int, **others: str) -> str:
    cells = {f"mug-{number}": f"red “{number}”" for number in range(count)} | others
    return "".join(f'{key},"{cell}"\n' for key, cell in {"id": "a", **cells}.items())


@pytest.mark.some(2)
@pytest.mark.parametrize(
    "text",
    [rows(60), "\ufeff" + rows(60), rows(60).replace("\n", "\r\n"), rows(60).rstrip("\n"), rows(60) + "\n\n"],
    ids=["plain", "byte order mark", "of Windows", "without a last line end", "empty lines"],
)
def test_several_processes_print_what_one_does(tmp_path, text):
    job = job_of(tmp_path, text)
    assert expand.can_be_parted(job)
    made, files = together(tmp_path, job)
    assert (made, files) == alone(tmp_path, job)
    assert len(files) == 18


def test_parts_end_where_rows_do_whatever_line_breaks_are_in_their_cells(tmp_path):
    cells = [f"one\n{number}, “two”\n\n" + 'and ""three""\n' * (number % 5) for number in range(60)]
    job = job_of(tmp_path, "id,a\n" + "".join(f'mug-{number},"{cell}"\n' for number, cell in enumerate(cells)))
    for size in (50, 130, 300):
        assert together(tmp_path, job, size=size, by_rows=True) == alone(tmp_path, job)


def test_a_catalog_with_line_breaks_in_its_cells_is_tried_again_by_rows(tmp_path, monkeypatch):
    job = job_of(tmp_path, "id,a\n" + "".join(f'mug-{number},"x\n\n\n\n{number}"\n' for number in range(60)))
    monkeypatch.setattr(workers, "_PART", 100)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _process: {0, 1})
    with pytest.raises(OddError), workers.at_work(job, MODELS, TODAY) as found:
        batchfile.pack(Folder(tmp_path / "out").make(), job, found.lines(print))
    with workers.at_work(job, MODELS, TODAY, again=True) as found:
        assert len(batchfile.pack(Folder(tmp_path / "out").make(), job, found.lines(print))) == 18
    assert workers.at_work(job_of(tmp_path, rows(60)), MODELS, TODAY, again=True) is None


@settings(max_examples=settings.default.max_examples // 2)
@given(
    st.lists(st.text(st.sampled_from('ab "\n\r,ü\ufeff'), max_size=60), min_size=8, max_size=20), st.integers(20, 200)
)
def test_a_row_is_never_cut(tmp_path_factory, cells, size):
    folder = tmp_path_factory.mktemp("cut")
    lines = ['"{}","x{}"\n'.format(f"n{number}", cell.replace('"', '""')) for number, cell in enumerate(cells)]
    job = job_of(folder, "id,a\n" + "".join(lines))
    try:
        found = together(folder, job, size=size)
    except OddError:  # a part ended in the middle of a row, and that was seen
        assert contents(Folder(folder / "together")) == {}
    else:
        assert found == alone(folder, job)


@pytest.mark.some(2)
@pytest.mark.parametrize(
    ("text", "catalog"),
    [
        pytest.param(JOB, rows(60, **{"mug-7": " "}), id="a row that is wrong"),
        pytest.param(JOB, rows(60) + "mug-7,again\n", id="an id twice"),
        pytest.param(JOB, rows(60, MUG_7="x"), id="a path twice"),
        pytest.param(JOB.replace("rows.csv", "{csv: rows.csv, where: {a: x}}"), rows(60), id="no row at all"),
        pytest.param(JOB + "vars: {light: dim}\n", rows(60).replace("id,", "seed,", 1), id="a warning"),
        pytest.param(JOB, rows(60) + "x,y,z\n", id="a row too long"),
        pytest.param(JOB, rows(60) + 'x,"y\n', id="a quote never closed"),
    ],
)
def test_what_there_is_to_tell_is_left_to_one_process(tmp_path, text, catalog):
    job = job_of(tmp_path, catalog, text)
    with pytest.raises(OddError):
        together(tmp_path, job)
    assert contents(Folder(tmp_path / "together")) == {}


def test_asks_that_are_paid_twice_are_told_of_and_printed_all_the_same(tmp_path):
    job = job_of(tmp_path, rows(60, other="red “7”", another="red “7”"), JOB.replace(" for [id]", ""))
    said, warnings = [], []
    found = together(tmp_path, job, warn=said.append)
    blocks = expand.blocks(job, models=MODELS, today=TODAY, warn=warnings.append)
    alone_files = batchfile.compile_all(Folder(tmp_path / "alone").make(), job, blocks, MODELS)
    assert found == (alone_files, contents(Folder(tmp_path / "alone")))
    assert said == warnings
    assert [one.message.partition(",")[0] for one in said] == ["4 requests ask for what another one asks for"]


def test_several_processes_note_more_than_they_hold_in_memory(tmp_path, monkeypatch):
    monkeypatch.setattr(unique, "_MOST", 50)
    job = job_of(tmp_path, rows(60))
    assert together(tmp_path, job) == alone(tmp_path, job)
    with pytest.raises(OddError):
        together(tmp_path, job_of(tmp_path, rows(60) + "mug-7,again\n"))


def test_a_worker_that_is_killed_brings_nothing(tmp_path):
    job = job_of(tmp_path, rows(60))
    with workers.Workers(job, MODELS, TODAY, sources.spans(tmp_path / "rows.csv", 300), 2) as found:
        os.kill(found._processes[1], signal.SIGKILL)
        os.waitid(os.P_PID, found._processes[1], os.WEXITED | os.WNOWAIT)
        with pytest.raises(OddError):
            batchfile.pack(Folder(tmp_path / "out").make(), job, chain(found.lines(print), found.lines(print)))
    assert contents(Folder(tmp_path / "out")) == {}


@pytest.mark.parametrize(
    "more", ["overrides: [{when: {a: x}, set: {size: 2K}}]", "turns: [a, b]", "tables: {t: rows.csv}"]
)
def test_rows_that_hang_together_are_not_parted(tmp_path, more):
    text = JOB.replace("prompt: 'a [a] for [id]'\n", "") if more.startswith("turns") else JOB
    assert not expand.can_be_parted(job_of(tmp_path, rows(3), f"{text}{more}\n"))


@pytest.mark.parametrize("option", ["unique: first", "limit: 2", "fill: [a]", "text: [a]", "encoding: cp1252"])
def test_a_catalog_that_is_read_from_above_is_not_parted(tmp_path, option):
    text = JOB.replace("items: rows.csv", f"items: {{csv: rows.csv, {option}}}")
    assert not expand.can_be_parted(job_of(tmp_path, rows(3), text))


def test_a_small_catalog_is_left_to_one_process(tmp_path):
    assert workers.at_work(job_of(tmp_path, rows(60)), MODELS, TODAY) is None


HELD = """
import os, signal, sys
from pipeline import cli, workers
send, sent = workers._send, []

def held(*words):
    send(*words)
    if not sent:
        sent.append(words)
        os.write(1, b"%d\\n" % os.getpid())
        signal.sigwait({signal.SIGUSR1})

signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR1})
os.sched_getaffinity = lambda _process: {0, 1}
workers._send = held
sys.exit(cli.run(sys.argv[1:]))
"""
COMPILE = ["compile", "job.yaml", "-o", "out"]


@contextmanager
def at_work(folder):
    """A compile whose workers wait after their first lines, and these workers; a signal of its own lets them go on."""
    job_of(folder, "id,a\n" + "".join(f"mug-{number},{number:0200}\n" for number in range(3000)), JOB_OF_MANY)
    process = subprocess.Popen(
        [sys.executable, "-c", HELD, *COMPILE], cwd=folder, env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True,
    )  # fmt: skip
    with process:
        yield process, [int(process.stdout.readline()) for _ in range(2)]


JOB_OF_MANY = JOB.replace("max_requests: 7", "max_requests: 1000")


@pytest.mark.some(1)
@pytest.mark.parametrize(
    ("give", "number", "word"),
    [
        pytest.param(os.killpg, signal.SIGINT, "interrupted", id="ctrl-c"),
        pytest.param(os.kill, signal.SIGINT, "interrupted", id="the one that writes alone"),
        pytest.param(os.killpg, signal.SIGTERM, "terminated", id="all are ended"),
    ],
)
def test_told_to_stop_a_compile_leaves_no_process_and_no_file_behind_and_works_again(tmp_path, give, number, word):
    with at_work(tmp_path) as (process, found):
        give(process.pid, number)
        _out, err = process.communicate(timeout=60)
    assert process.returncode == 128 + number
    assert err.splitlines()[0] == f"error: {word}"
    assert "Traceback" not in err
    for worker in found:
        with pytest.raises(ProcessLookupError):
            os.kill(worker, 0)
    assert not (tmp_path / "out").exists()
    again = subprocess.run(
        [sys.executable, "-m", "pipeline", *COMPILE], cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert again.returncode == 0, again.stderr
    assert sum(path.read_bytes().count(b"\n") for path in (tmp_path / "out").iterdir()) == 6000


def test_workers_end_by_themselves_when_the_one_that_writes_is_killed(tmp_path):
    with at_work(tmp_path) as (process, found):
        ends = [os.pidfd_open(worker) for worker in found]
        process.kill()
        process.wait()
        for worker in found:
            os.kill(worker, signal.SIGUSR1)
        for end in ends:
            assert select.select([end], [], [], 60)[0] == [end]
            os.close(end)
