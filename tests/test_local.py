"""The embedded service over HTTP: by the unmodified SDK, and by hand where the exact shape matters."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import pytest
from google.genai import errors, types
from local_wire import HOUR, MODEL, Wire, ask, lines, picture_of, sdk

from pipeline.local import serving

ROOT = Path(__file__).parent.parent
ADDED = [(table, column) for table in ("batch", "file") for column in ("faults", "withheld")] + [("batch", "listed_at")]


# Whole journeys


def test_the_sdk_takes_a_batch_all_the_way(tmp_path):
    source = tmp_path / "in.jsonl"
    source.write_bytes(lines({f"owl-{n}": ask(f"owl {n}") for n in range(12)}))
    with serving(tmp_path / "state", latency_s=0, pictures="plain") as url, sdk(url) as client:
        settings = types.UploadFileConfig(mime_type="application/jsonl", display_name="owls", name="owls-1")
        file = client.files.upload(file=source, config=settings)
        assert (file.name, file.size_bytes, file.state) == ("files/owls-1", source.stat().st_size, "ACTIVE")
        job = client.batches.create(model=MODEL, src=file.name, config={"display_name": "owls"})
        Wire(url).ended(job.name)
        job = client.batches.get(name=job.name)
        assert (job.state, job.display_name, job.model) == ("JOB_STATE_SUCCEEDED", "owls", f"models/{MODEL}")
        assert [each.name for each in client.batches.list()] == [job.name]
        answers = [json.loads(line) for line in client.files.download(file=job.dest.file_name).splitlines()]
        assert {answer["key"] for answer in answers} == {f"owl-{n}" for n in range(12)}
        assert picture_of(answers[0]["response"])[0].size == (1024, 1024)
        assert [each.name for each in client.files.list()] == [file.name]
        client.batches.delete(name=job.name)
        client.files.delete(name=file.name)
        assert list(client.batches.list()) == list(client.files.list()) == []
        with pytest.raises(errors.ClientError) as gone:
            client.batches.get(name=job.name)
        assert (gone.value.code, gone.value.status) == (404, "NOT_FOUND")


# The life of a batch


def test_a_batch_outlives_the_service(tmp_path):
    with serving(tmp_path, latency_s=5000, pictures="plain") as url:
        name = Wire(url).batch({"a": ask()})
    with serving(tmp_path, latency_s=0, pictures="plain") as url:
        wire = Wire(url)
        assert wire.ok("GET", f"/v1beta/{name}")["metadata"]["state"] == "BATCH_STATE_PENDING"
        wire.advance(70 * HOUR)
    with serving(tmp_path, latency_s=0) as url:
        assert [answer["key"] for answer in Wire(url).answers(name)] == ["a"]


def test_a_folder_of_an_earlier_version_is_served(tmp_path):
    with serving(tmp_path, latency_s=5000, pictures="plain") as url:
        name = Wire(url).batch({"a": ask()})
    with contextlib.closing(sqlite3.connect(tmp_path / "service.sqlite3")) as db:
        for table, column in ADDED:
            db.execute(f"ALTER TABLE {table} DROP COLUMN {column}")
        db.commit()
    with serving(tmp_path, latency_s=0, pictures="plain") as url:
        Wire(url).advance(6000)
        assert len(Wire(url).answers(name)) == 1
        assert len(Wire(url).ok("GET", "/v1beta/files")["files"]) == 1


def test_two_services_on_one_folder_are_one(tmp_path):
    with (
        serving(tmp_path, latency_s=0, pictures="plain") as one,
        serving(tmp_path, latency_s=0, pictures="plain") as other,
    ):
        names = [Wire(url).batch({str(n): ask(f"owl {n}") for n in range(12)}) for url in (one, other) * 3]
        for name in names:
            assert len(Wire(other).answers(name)) == 12
            assert Wire(one).ended(name) == Wire(other).ended(name)
        assert Wire(one).ok("GET", "/_local/ledger") == Wire(other).ok("GET", "/_local/ledger")
        assert len(Wire(one).ok("GET", "/_local/ledger")) == 12


def test_a_batch_somebody_else_works_on_is_left_alone(wire, tmp_path):
    name = wire.batch({str(n): ask(f"owl {n}") for n in range(150)})
    while not (found := list(tmp_path.glob("state/batches/*.out"))):
        time.sleep(0.005)
    with found[0].open("rb") as taken:
        fcntl.flock(taken, fcntl.LOCK_EX)
        size = found[0].stat().st_size
        assert len(wire.answers(wire.batch({"b": ask("barn")}))) == 1, "the others go on meanwhile"
        assert found[0].stat().st_size == size
    assert len(wire.answers(name)) == 150


def test_killed_while_it_draws_it_ends_the_same(tmp_path):
    script = (
        "import sys, pathlib, time\nfrom pipeline.local import serving\n"
        "with serving(pathlib.Path(sys.argv[1]), latency_s=0, pictures='drawn') as url:\n"
        "    print(url, flush=True)\n    time.sleep(60)\n"
    )
    command = [sys.executable, "-c", script, str(tmp_path / "killed")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT) as process:
        wire = Wire(process.stdout.readline().strip())
        name = wire.batch({f"k{n}": ask(f"owl {n}") for n in range(12)})
        while not any(path.stat().st_size > 150_000 for path in tmp_path.glob("killed/batches/*.out")):
            time.sleep(0.005)
        os.kill(process.pid, signal.SIGKILL)
    with serving(tmp_path / "killed", latency_s=0) as url:
        answers = Wire(url).answers(name)
    assert sorted(answer["key"] for answer in answers) == sorted(f"k{n}" for n in range(12))
    with serving(tmp_path / "again", latency_s=0) as url:
        again = Wire(url).answers(Wire(url).batch({f"k{n}": ask(f"owl {n}") for n in range(12)}))
    assert {answer["key"]: answer for answer in answers} == {answer["key"]: answer for answer in again}


def test_blank_lines_ask_for_nothing(wire):
    name = wire.batch(b"\n" + lines({"a": ask()}) + b"\n" + lines({"b": ask()}).rstrip())
    assert sorted(answer["key"] for answer in wire.answers(name)) == ["a", "b"]
    assert wire.ended(name)["metadata"]["batchStats"] == {"requestCount": "2", "successfulRequestCount": "2"}


def test_a_batch_needs_its_input_file_no_longer(slow, tmp_path):
    name = slow.batch({"a": ask()})
    slow.ok("DELETE", f"/v1beta/{slow.ok('GET', '/v1beta/files')['files'][0]['name']}")
    (kept,) = tmp_path.glob("state/batches/*.in")
    assert kept.read_bytes() == lines({"a": ask()})
    slow.advance(200)
    assert len(slow.answers(name)) == 1
