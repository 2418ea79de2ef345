"""Which requests are looked at first, before the rest is bought: few of them, and as different as they come."""

from __future__ import annotations

from array import array
from bisect import bisect_left
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pipeline.journal import Candidate


@dataclass(slots=True)
class _Group:
    """Requests that differ by their rows alone."""

    template: str
    cell: str
    sample: int
    model: str
    places: array[int] = field(default_factory=lambda: array("q"))
    """In the job's order; those that were not taken yet."""
    rows: array[int] = field(default_factory=lambda: array("q"))
    """The row of each, counted from 0."""


def chosen(candidates: Iterable[Candidate], count: int, *, every_template: bool) -> list[int]:
    """The places of `count` requests, or of all that there are; always the same ones for the same job.

    Each template comes once before any comes twice, then each cell of the matrix, then each model; rows are taken
    from all over the catalog. A larger count has the requests of a smaller one, and others. With `every_template`
    there are as many as there are templates, if `count` is less. Holds two numbers for each candidate.
    """
    groups, last_row = _grouped(candidates)
    if every_template:
        count = max(count, len({group.template for group in groups}))
    seen: Counter[tuple[str, str]] = Counter()
    rows: set[int] = set()
    found: list[int] = []
    while groups and len(found) < count:
        group = min(groups, key=lambda one: _rank(one, seen))
        at = _nearest(group.rows, round(last_row * _fraction(len(found))), rows)
        rows.add(group.rows.pop(at))
        found.append(group.places.pop(at))
        seen.update({("template", group.template), ("cell", group.cell), ("model", group.model)})
        if not group.places:
            groups.remove(group)
    return found


def _grouped(candidates: Iterable[Candidate]) -> tuple[list[_Group], int]:
    """The candidates in groups, in the order in which these first occur; and the number of the last row."""
    groups: dict[tuple[str, str, int, str], _Group] = {}
    row, last_id = -1, None
    for one in candidates:
        row, last_id = row + (one.id != last_id), one.id
        what = (one.template, one.cell, one.sample, one.model)
        group = groups.setdefault(what, _Group(*what))
        group.places.append(one.n)
        group.rows.append(row)
    return list(groups.values()), row


def _rank(group: _Group, seen: Counter[tuple[str, str]]) -> tuple[int, ...]:
    """How much of a group has been seen; another sample of what was seen says less than another row."""
    return seen["template", group.template], seen["cell", group.cell], group.sample, seen["model", group.model]


def _fraction(number: int) -> float:
    """0, 1/2, 1/4, 3/4, 1/8, …: however many are taken, they lie evenly, and none moves when another comes."""
    value, step = 0.0, 0.5
    while number:
        value += step * (number & 1)
        number, step = number >> 1, step / 2
    return value


def _nearest(rows: array[int], wish: int, taken: set[int]) -> int:
    """The index of the row nearest to a wish, of those that are not taken if there is one; `rows` are sorted."""
    above = bisect_left(rows, wish)
    upwards = next((at for at in range(above, len(rows)) if rows[at] not in taken), None)
    downwards = next((at for at in range(above - 1, -1, -1) if rows[at] not in taken), None)
    near = [at for at in (upwards, downwards) if at is not None]
    return min(near, key=lambda at: abs(rows[at] - wish), default=min(above, len(rows) - 1))
