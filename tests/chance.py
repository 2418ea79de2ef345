"""Weeks of chance: steps of `week.Week` by weights, and the shortest program that still goes wrong.

Hypothesis varies what it has; chance tries what it has not. Both play the same machine.
"""

from __future__ import annotations

import random

from week import COMMANDS, FAULTS, IDS, SETTINGS, TEXTS, Week

NAMES = ("run", *("submit",) * 3, "collect", "retry", "retry held", "proof", "proof kept")
KILLED = (*("run", "submit") * 2, "collect", "retry", "proof", "proof kept", "cancel", "clean")
WORDS = TEXTS[:4] + TEXTS
STEPS = {
    "call": (14, lambda by: {"name": by.choice(NAMES)}),
    "cancel": (1, lambda _by: {}),
    "clean": (1, lambda by: {"name": by.choice(["clean", "clean all"])}),
    "force": (1, lambda by: {"id_": by.choice(IDS)}),
    "look": (0.3, lambda _by: {}),
    "second": (0.3, lambda by: {"name": by.choice([*COMMANDS])}),
    "killed": (5, lambda by: {"name": by.choice(KILLED), "nth": by.choice([by.randint(1, 12), by.randint(1, 40)])}),
    "put_row": (4, lambda by: {"id_": by.choice(IDS), "text": by.choice(WORDS)}),
    "remove_row": (2, lambda by: {"number": by.randrange(5)}),
    "rename_row": (3, lambda by: {"number": by.randrange(5), "id_": by.choice(IDS)}),
    "swap_rows": (1, lambda _by: {}),
    "change_setting": (4, lambda by: {"setting": by.choice(SETTINGS)}),
    "revert": (4, lambda by: {"back": by.randint(1, 3)}),
    "pass_time": (6, lambda by: {"hours": by.choice([1, 1, 1, 25, 49])}),
    "trouble": (5, lambda by: {"name": by.choice([*FAULTS])}),
    "no_trouble": (4, lambda _by: {}),
    "cancelled_elsewhere": (1, lambda by: {"number": by.randrange(4)}),
    "delete_image": (2, lambda by: {"number": by.randrange(10)}),
    "delete_images": (0.6, lambda _by: {}),
    "edit": (1.5, lambda by: {"number": by.randrange(10)}),
    "delete_part": (1.2, lambda by: {"part": by.choice(["answers", "turns", "retired", "requests"])}),
    "delete_manifest": (1, lambda _by: {}),
    "delete_journal": (1, lambda by: {"everything": by.random() < 0.5}),
    "clone": (0.7, lambda _by: {}),
}
"""Each step of a week: how often it is taken, and with what."""
CAN = {
    "remove_row": lambda week: len(week.rows) > 1,
    "revert": lambda week: bool(week.history),
    "trouble": lambda week: week.fault is None,
    "no_trouble": lambda week: week.fault is not None,
    **dict.fromkeys(("delete_image", "delete_images", "edit"), lambda week: bool(week.images())),
}


def program(by, steps):
    """A week: how the shop begins, and what is done then."""
    begin = {
        "rows": [by.choice(WORDS) for _ in range(by.randint(1, 3))],
        "most": by.choice([2000, 2000, 2]),
        "again": by.choice([2, 1, 0]),
        "stuck": by.choice(["wait", "cancel", "interactive"]),
    }
    names = by.choices([*STEPS], [weight for weight, _with in STEPS.values()], k=steps)
    return [("open", begin), *((name, STEPS[name][1](by)) for name in names)]


def play(steps):
    """Play a week to its end; returns what went wrong, or `None`."""
    week = Week()
    try:
        for name, given in steps:
            if CAN.get(name, lambda _week: True)(week):
                getattr(week, name)(**given)
                week.holds()
        week.come_to_rest()
    except AssertionError as error:
        return error
    finally:
        week.opened.close()
    return None


def shortest(steps, error, patience=200):
    """The program with all left out that matters nothing; plays it so many times at most."""
    size = len(steps) // 2
    while size:
        at = 1
        while at < len(steps) and patience:
            patience -= 1
            fewer = steps[:at] + steps[at + size :]
            found = play(fewer)
            if found is not None and _kind(found) == _kind(error):
                steps, error = fewer, found
            else:
                at += size
        size //= 2
    return steps, error


def _kind(error):
    return str(error).split(":")[:2] if str(error)[:1] == "G" else str(error)[:20]


def weeks(seed, count, steps):
    """Play so many weeks of so many steps; raises `AssertionError` with the program of the first that goes wrong."""
    for number in range(count):
        by = random.Random(f"{seed}/{number}")
        week = program(by, steps)
        if (error := play(week)) is not None:
            week, error = shortest(week, error)
            told = "\n".join(f"    {step}" for step in week)
            raise AssertionError(f"week {number} of seed {seed}: {error}\n{told}")
