"""Weeks of a shop, played against a model by hypothesis, and by chance: whatever is done in whatever order, nothing is
bought twice by itself, no image that was paid for is lost, no file of a person is touched, and in the end all of it is
settled.

A few weeks are part of the suite, more of them of `make torture`, always the same ones. To look for new trouble, with
seeds of your own, as many and as long as you like:

    MODEL_SEEDS=100:200 MODEL_WEEKS=50 MODEL_STEPS=30 python -m pytest tests/test_model.py -m torture -rP

A failure is told as a program, the steps of a week, as short as it can be made; the same seed finds it again.
What it was about becomes a test in `test_weeks.py`. -rP tells how often each step was taken, and how it ended.
"""

from __future__ import annotations

import os

import pytest
from chance import weeks
from conftest import KEY, Decoder
from hypothesis import HealthCheck, Phase, seed, settings
from hypothesis.stateful import run_state_machine_as_test
from week import CLOCK, HAPPENED, Week, breed, put_on

from pipeline import pixels


@pytest.fixture
def shopping(monkeypatch):
    """A key, a clock that is put forward; afterwards it is told how often each step was taken, and how it ended."""
    breed()
    put_on(CLOCK, monkeypatch.setattr)
    monkeypatch.setattr(pixels, "_Worker", Decoder.one)
    monkeypatch.setenv("GEMINI_API_KEY", KEY)
    monkeypatch.setenv("GOOGLE_GEMINI_BASE_URL", "")
    HAPPENED.clear()
    yield
    for what, times in sorted(HAPPENED.items()):
        print(f"{times:6} {what}")  # noqa: T201 - pytest shows it


@pytest.fixture
def played(shopping):
    """Play weeks as hypothesis makes them up: so many, of so many steps at most."""

    def play(number, examples, steps):
        class TestWeek(Week):
            pass

        chosen = settings(
            max_examples=examples,
            stateful_step_count=steps,
            phases=(Phase.generate, Phase.shrink),
            deadline=None,
            suppress_health_check=list(HealthCheck),
            database=None,
            print_blob=False,
        )
        seed(number)(TestWeek)
        run_state_machine_as_test(TestWeek, settings=chosen)

    return play


@pytest.mark.timeout(600)
def test_whatever_is_done_in_a_week_nothing_is_bought_twice_and_nothing_is_lost(played):
    played(1, 4, 8)


@pytest.mark.timeout(600)
def test_weeks_of_chance(shopping):
    weeks(1, 2, 16)


SEEDS = range(*map(int, os.environ.get("MODEL_SEEDS", "2:4").split(":")))
WEEKS = int(os.environ.get("MODEL_WEEKS", "20"))
STEPS = int(os.environ.get("MODEL_STEPS", "22"))


@pytest.mark.torture
@pytest.mark.timeout(7200)
@pytest.mark.parametrize("number", SEEDS)
def test_any_week(played, number):
    played(number, WEEKS // 2, STEPS)


@pytest.mark.torture
@pytest.mark.timeout(7200)
@pytest.mark.parametrize("number", SEEDS)
def test_any_weeks_of_chance(shopping, number):
    weeks(number, WEEKS, STEPS)
