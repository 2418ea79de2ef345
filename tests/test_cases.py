"""`make test` and `make torture` together run every case of every test, and none of them twice."""

from __future__ import annotations

import os
import re
import subprocess
import sys

import pytest
from conftest import ROOT

TESTS = """
import pytest

@pytest.mark.some(2)
@pytest.mark.parametrize("case", "abcde")
def test_of_which_some_are_taken(case): pass

@pytest.mark.some("d", "b")
@pytest.mark.parametrize("case", "abcde")
def test_whose_cases_are_named(case): pass

@pytest.mark.some("no such case")
@pytest.mark.parametrize("case", "ab")
def test_of_which_a_name_is_wrong(case): pass

@pytest.mark.torture(most=3)
@pytest.mark.parametrize("case", "abcdefg")
def test_that_takes_long(case): pass

def test_of_one_case(): pass
"""
QUICK = {
    *("taken[a]", "taken[e]", "named[b]", "named[d]", "wrong[a]", "wrong[b]", "case"),
}
LONG = {"taken[b]", "taken[c]", "taken[d]", "named[a]", "named[c]", "named[e]", "long[a]", "long[d]", "long[g]"}


@pytest.fixture
def run(tmp_path):
    """Which tests are run with this choice of marks: the last word of each."""

    def run(marks: str, **environment: str) -> list[str]:
        (tmp_path / "conftest.py").write_text("from cases import pytest_collection_modifyitems\n")
        (tmp_path / "test_it.py").write_text(TESTS)
        (tmp_path / "pytest.ini").write_text("[pytest]\nmarkers =\n some\n torture\n")
        told = {**os.environ, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", "PYTEST_ADDOPTS": "", **environment}
        told["PYTHONPATH"] = str(ROOT / "tests")
        words = [sys.executable, "-m", "pytest", "-v", "-p", "no:cacheprovider", "-m", marks]
        done = subprocess.run(words, cwd=tmp_path, env=told, capture_output=True, text=True, check=False, timeout=60)
        return re.findall(r"_([a-z]+(?:\[.*\])?) PASSED", done.stdout)

    return run


def test_a_case_is_run_by_one_of_the_two(run):
    assert sorted(run("not torture")) == sorted(QUICK)
    assert sorted(run("torture")) == sorted(LONG)


def test_of_a_long_trial_all_cases_are_run_when_all_are_asked_for(run):
    assert sorted(run("torture", TORTURE="all")) == sorted(LONG | {f"long[{case}]" for case in "bcef"})
