"""The benchmark runs, all of its contenders do the same work, and no bad baseline passes; how fast is not for tests."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest
from conftest import ROOT

STAGES = {
    "start-help", "start-validate", "unpack-small", "download", "compile", "unchanged", "one-row", "growth",
}  # fmt: skip


def bench(folder, *words):
    return subprocess.run(
        [sys.executable, ROOT / "benchmarks" / "bench.py", "--folder", folder, "--runs", "1", *words],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=400,
        check=False,
    )


REFERENCES = {
    "judged_from_s": 0.0,
    "least": 0.8,
    "parts": [
        {"stage": "compile", "usual": "jsonschema and json.dumps", "limit": "json.dumps alone", "part": 0, "from": "?"}
    ],
}  # fmt: skip


def judged(folder, part):
    """A bench of what takes least, whose baseline has to reach such a part of what the machine can do."""
    references = folder / "references.json"
    references.write_text(json.dumps({**REFERENCES, "parts": [{**REFERENCES["parts"][0], "part": part}]}))
    words = ("--only", "compile", "--rows", "20", "--references", references, "--json", folder / "told" / "bench.json")
    return bench(folder / "work", *words)


def holds(folder, stages):
    """What was written down, and that nothing else was left."""
    told = json.loads((folder / "told" / "bench.json").read_text())
    assert {stage["stage"] for stage in told["stages"]} == stages
    assert {"machine", "versions", "at", "amounts"} <= told.keys()
    for stage in told["stages"]:
        for one in [*stage["contenders"], *(one[size] for one in stage["growth"] for size in ("few", "many"))]:
            assert one["seconds"]["median"] > 0, one
        assert stage["growth"] or {"ours", "usual"} <= {one["kind"] for one in stage["contenders"]}
        assert stage["growth"] or stage["ratios"]
    assert list((folder / "work").iterdir()) == []


def test_a_stage_is_run_and_written_down_and_nothing_is_left(tmp_path):
    done = judged(tmp_path, 0.001)
    assert (done.returncode, "reaches" in done.stderr) == (0, False), done.stderr
    holds(tmp_path, {"compile"})


def test_a_baseline_that_is_too_slow_fails_it(tmp_path):
    """With what it has to reach put so high that it must be too slow."""
    done = judged(tmp_path, 50)
    assert done.returncode == 1, done.stderr
    assert "the baseline 'jsonschema and json.dumps' reaches" in done.stderr


@pytest.mark.torture
@pytest.mark.timeout(420)
def test_every_stage_is_run_and_written_down_and_nothing_is_left(tmp_path):
    # Large and tiny images are unpacked as small ones are, and each run of the client takes a second to start.
    stages = "start,unpack-small,download,compile,done,growth"
    told = tmp_path / "told" / "bench.json"
    done = bench(tmp_path / "work", "--rows", "20", "--images", "1", "--only", stages, "--json", told)
    assert done.returncode == 0, done.stderr
    holds(tmp_path, STAGES)


def test_every_reference_names_contenders_there_are():
    names = (ROOT / "benchmarks" / "stages.py").read_text(encoding="utf-8")
    for one in json.loads((ROOT / "benchmarks" / "references.json").read_text(encoding="utf-8"))["parts"]:
        assert f'"{one["usual"]}"' in names
        assert f'"{one["limit"]}"' in names
