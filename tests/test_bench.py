"""The benchmark runs, and all of its contenders do the same work; how fast is not a matter of tests."""

from __future__ import annotations

import os
import re
import subprocess
import sys

from conftest import ROOT


def test_prints_both_tables():
    done = subprocess.run(
        [sys.executable, ROOT / "benchmarks" / "bench.py", "--rows", "30", "--images", "4", "--runs", "1"],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    titles = [line for line in done.stdout.splitlines() if re.match(r"\w", line)]
    assert [title.partition(":")[0] for title in titles] == ["compile", "unpack"]
    rows = re.findall(r"^  (\w[^\d]*?)  +[\d.]+ +[\d,]+ +[\d.]+x +[\d.]+-[\d.]+ +(\d+)$", done.stdout, re.MULTILINE)
    assert len(rows) == 5
