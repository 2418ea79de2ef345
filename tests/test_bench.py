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


@pytest.mark.slow
@pytest.mark.timeout(420)
def test_every_stage_is_run_and_written_down_and_nothing_is_left(tmp_path):
    work, result = tmp_path / "work", tmp_path / "results" / "bench.json"
    # Large and tiny images are unpacked as small ones are, and each run of the client takes a second to start.
    stages = "start,unpack-small,download,compile,done,growth"
    done = bench(work, "--rows", "20", "--images", "1", "--only", stages, "--json", str(result))
    assert done.returncode == 0, done.stderr
    told = json.loads(result.read_text())
    assert {stage["stage"] for stage in told["stages"]} == STAGES
    assert {"machine", "versions", "at", "amounts"} <= told.keys()
    for stage in told["stages"]:
        for one in [*stage["contenders"], *(one[size] for one in stage["growth"] for size in ("few", "many"))]:
            assert one["seconds"]["median"] > 0, one
        assert stage["growth"] or {"ours", "usual"} <= {one["kind"] for one in stage["contenders"]}
        assert stage["growth"] or stage["ratios"]
    assert list(work.iterdir()) == []


REFERENCES = {
    "judged_from_s": 0.0,
    "least": 0.8,
    "parts": [
        {"stage": "compile", "usual": "jsonschema and json.dumps", "limit": "json.dumps alone", "part": 0, "from": "?"}
    ],
}  # fmt: skip


@pytest.mark.parametrize(
    ("part", "code"), [pytest.param(0.001, 0, id="fast enough"), pytest.param(50, 1, id="too slow")]
)
def test_a_baseline_that_is_too_slow_fails_it(tmp_path, part, code):
    """With what it has to reach put so high that it must be too slow."""
    references = tmp_path / "references.json"
    references.write_text(json.dumps({**REFERENCES, "parts": [{**REFERENCES["parts"][0], "part": part}]}))
    done = bench(tmp_path, "--only", "compile", "--rows", "20", "--references", references)
    assert done.returncode == code, done.stderr
    assert ("the baseline 'jsonschema and json.dumps' reaches" in done.stderr) is bool(code)


def test_every_reference_names_contenders_there_are():
    names = (ROOT / "benchmarks" / "stages.py").read_text(encoding="utf-8")
    for one in json.loads((ROOT / "benchmarks" / "references.json").read_text(encoding="utf-8"))["parts"]:
        assert f'"{one["usual"]}"' in names
        assert f'"{one["limit"]}"' in names
