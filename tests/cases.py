"""Which cases of a test are run when: a few in `make test`, more in `make torture`, all with TORTURE=all."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pathlib import Path


def pytest_collection_modifyitems(config, items):
    """Leave to torture what a test does not take of `some` cases, and of a long trial take a spread."""
    for cases, mark in _of_tests(items, "some"):
        few = _spread(cases, mark.args[0]) if isinstance(mark.args[0], int) else ()
        taken = [case for case in cases if case.callspec.id in mark.args] or few or cases
        for case in cases:
            if case not in taken:
                case.add_marker(pytest.mark.torture(most=len(cases)))
    if os.environ.get("TORTURE") == "all":
        return
    left_out = set()
    for cases, mark in _of_tests(items, "torture"):
        left_out.update({*cases} - {*_spread(cases, mark.kwargs.get("most", 8))})
    if left_out:
        config.hook.pytest_deselected(items=[*left_out])
        items[:] = [item for item in items if item not in left_out]


def _of_tests(items, name):
    """The cases of each test that have such a mark, and the mark."""
    found: dict[tuple[Path, str], list[pytest.Item]] = {}
    for item in items:
        if item.get_closest_marker(name):
            found.setdefault((item.path, item.originalname), []).append(item)
    return [(cases, cases[0].get_closest_marker(name)) for cases in found.values()]


def _spread(cases, most):
    """So many of them, the first and the last among them."""
    taken = {(len(cases) - 1) * number // max(1, most - 1) for number in range(most)}
    return [case for number, case in enumerate(cases) if number in taken]
