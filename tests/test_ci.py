"""The gate that lets no test be skipped in silence."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
from conftest import ROOT

TESTS = """
import pytest

def test_done():
    pass

def test_left_out():
    pytest.skip("no such device")

class TestGroup:
    @pytest.mark.parametrize("case", ["a", "b.c/d"])
    def test_in_it(self, case):
        if case != "a":
            pytest.skip("no such case")
"""
WHOLE = "import pytest\npytest.skip('not on this system', allow_module_level=True)\n"


@pytest.fixture
def gate(tmp_path):
    """Run some tests, then the gate, with these lines below may-skip."""

    def run(tests: str, excuses: str = "") -> tuple[int, list[str]]:
        (tmp_path / "tests").mkdir()
        (tmp_path / "tests" / "test_it.py").write_text(tests)
        (tmp_path / "pyproject.toml").write_text(f"[tool.pytest.ini_options]\n[tool.pipeline.may-skip]\n{excuses}\n")
        words = ["-q", "-p", "no:cacheprovider", "--junitxml=report.xml", "-o", "junit_family=xunit1", "tests"]
        environment = {**os.environ, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", "PYTEST_ADDOPTS": ""}
        tests_done = [sys.executable, "-m", "pytest", *words]
        subprocess.run(tests_done, cwd=tmp_path, env=environment, capture_output=True, check=False, timeout=60)
        command = [sys.executable, ROOT / ".ci" / "skipped.py", "report.xml", "pyproject.toml"]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=60)
        return done.returncode, done.stderr.splitlines()

    return run


def test_names_every_test_that_was_skipped(gate):
    assert gate(TESTS) == (
        1,
        [
            "tests/test_it.py::test_left_out was skipped: no such device",
            "tests/test_it.py::TestGroup::test_in_it[b.c/d] was skipped: no such case",
        ],
    )


def test_an_excuse_is_an_id_and_a_reason(gate):
    excuses = """
    "tests/test_it.py::test_left_out" = "the device is in the other room"
    "tests/test_it.py::TestGroup::test_in_it[b.c/d]" = " "
    """
    assert gate(TESTS, excuses) == (
        1,
        ["may-skip names tests/test_it.py::TestGroup::test_in_it[b.c/d] without a reason"],
    )


def test_is_silent_when_all_is_well(gate):
    assert gate("def test_done(): pass") == (0, [])


def test_sees_a_file_that_was_skipped_as_a_whole(gate):
    code, [said] = gate(WHOLE)
    assert code == 1
    assert said.startswith("tests/test_it.py was skipped: ")


def test_no_tests_are_no_success(gate):
    assert gate("") == (1, ["no test was run"])
