"""A disk that is too small, or fills up, at every step: it says what to do, and once there is room it goes on."""

from __future__ import annotations

import os
import subprocess
from contextlib import contextmanager

import pytest
from crashing import spread
from test_crash import JOB, RUN, STORIES, Story, Told

STORY: Story = STORIES["run"]


@pytest.fixture(scope="module")
def told(tmp_path_factory):
    return Told(STORY, tmp_path_factory.mktemp("told"))


def test_what_cannot_be_said_is_in_the_exit_code(tmp_path):
    """The log of a nightly run is often on the very disk that is full."""
    with STORY.staged(tmp_path / "case") as case:
        case.screen = "/dev/full"
        assert case.run(*RUN) == 0
        assert case.run("run", "jobs/missing.yaml") == 2
        assert case.run("ls", "images") == 7, "what cannot be written was the answer"
        case.screen = ""
        STORY.ends(case)


def is_told(case, code):
    """It ended with a word about what is wrong and a hint at what to do."""
    assert code == 7, (code, case.err)
    assert "Traceback" not in case.err, case.err
    error, hint = case.err.strip().splitlines()[-2:]
    assert error.startswith("error: "), case.err
    assert hint.startswith("hint: "), case.err


@pytest.mark.torture
@pytest.mark.parametrize("most", [0, 100, 2_000, 12_000, 40_000, 90_000, 150_000, 200_000])
def test_files_may_not_grow_beyond_a_limit_of_the_shell(told, tmp_path, most):
    with STORY.staged(tmp_path / "case") as case:
        code = case.run(*RUN, RLIMIT_FSIZE=most)
        if code:
            is_told(case, code) if most > 200 else None  # not even the words fit into the file that is our screen
        STORY.ends(case)
        assert case.outcome() == told.outcome


@contextmanager
def disk(case, size):
    """An outputs folder on a disk of its own; yields what makes it another size."""
    case.outputs.mkdir()

    def mount(options):
        words = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(case.outputs)]
        return subprocess.run(words, check=False, capture_output=True).returncode == 0

    if os.getuid() or not mount(f"size={size}"):
        pytest.skip("only who may mount has a small disk")
    try:
        yield lambda size: mount(f"remount,{size}")
    finally:
        subprocess.run(["umount", "-l", str(case.outputs)], check=False)


SIZES = ["8k", "40k", "100k", "160k", "240k", "400k", "1m", "4m"]
LEFT_KB = [0, 4, 8, 16, 32, 64, 128, 256]


@pytest.mark.torture
def test_on_a_disk_that_is_too_small_for_the_answers_nothing_is_bought(told, tmp_path):
    for size in spread(SIZES, 4):
        with STORY.staged(tmp_path / size) as case, disk(case, size) as resize:
            is_told(case, case.run(*RUN))
            assert not case.ledger, "an answer that does not fit is not paid for"
            assert resize("size=64m")
            STORY.ends(case)
            assert case.outcome() == told.outcome, size


@pytest.mark.torture
def test_on_a_disk_that_fills_up_what_was_bought_is_there_once_there_is_room(told, tmp_path):
    for left_kb in spread(LEFT_KB, 4):
        with STORY.staged(tmp_path / str(left_kb)) as case, disk(case, "64m"):
            assert case.run("submit", JOB) == 0, case.err
            fill(case.outputs / "filler", left_kb * 1024)
            code = case.run(*RUN)
            if code != 4:
                is_told(case, code)
            case.outputs.joinpath("filler").unlink()
            STORY.ends(case)
            assert case.outcome() == told.outcome, left_kb


def fill(path, left):
    """Leave so many bytes on the disk of a file."""
    free = os.statvfs(path.parent)
    with path.open("wb") as stream:
        stream.write(bytes(free.f_bavail * free.f_bsize - left))
