"""The matrix of a job: every combination of its axes, less the excluded ones, and the ones included."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product
from math import prod
from typing import TYPE_CHECKING, Any, NamedTuple

from pipeline.errors import JobError
from pipeline.job import schema, settings
from pipeline.job.placeholders import fold
from pipeline.job.problems import Place, Problems, listed, meant, quoted
from pipeline.job.sources import text_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pipeline.job.yaml12 import Map

MAX_CELLS = 10_000


class Value(NamedTuple):
    """A value of an axis: in its one form, as text, and where it stands."""

    value: Any
    text: str
    place: Place


Combination = dict[str, Value]
"""One combination, by axis, in the order of the axes."""


@dataclass(frozen=True, slots=True)
class Matrix:
    """The axes of a job and the cells they make."""

    axes: Mapping[str, Place]
    cells: tuple[Combination, ...] = ({},)

    def varying(self) -> list[str]:
        """The axes with more than one value."""
        return [axis for axis in self.axes if len({cell[axis].text for cell in self.cells}) > 1]


def read(written: Map | None, problems: Problems) -> Matrix:
    """The matrix of a manifest that fits the schema."""
    if written is None:
        return Matrix({})
    axes = {axis: _values(written, axis, problems) for axis in written if axis not in {"exclude", "include"}}
    axes = {axis: values for axis, values in axes.items() if values}
    _check_axes(written, axes, problems)
    places = {axis: written.keys_at[axis] for axis in axes}
    if (count := prod(map(len, axes.values()))) > MAX_CELLS:
        message = f"the matrix makes {count:,} cells of each item; at most {MAX_CELLS:,}"
        problems.add(written.place.problem(message))
        return Matrix({})
    if not axes:
        return Matrix({})
    cells = [dict(zip(axes, values, strict=True)) for values in product(*axes.values())]
    excludes = [_cell(node.value, axes, problems, is_exclude=True) for node in _listed(written, "exclude")]
    cells = [cell for cell in cells if not any(_matches(exclude, cell) for exclude in excludes)]
    for node in _listed(written, "include"):
        _include(_cell(node.value, axes, problems), axes, node.place, cells, problems)
    if not cells:
        problems.add(written.place.problem("the matrix leaves no cell: everything is excluded"))
        return Matrix({})
    return Matrix(places, tuple(cells))


def _listed(written: Map, key: str) -> Sequence[Any]:
    return written[key].nodes if key in written else ()


def _values(written: Map, axis: str, problems: Problems) -> list[Value]:
    values: dict[str, Value] = {}
    for typed, node in zip(written[axis], written[axis].nodes, strict=True):
        value = _value(axis, typed, node, problems)
        if value is None:
            continue
        if value.text in values:
            problems.add(node.place.problem(f"{quoted(value.text)} is in axis {quoted(axis)} twice"))
        elif not value.text.strip() and not getattr(typed, "is_cut", False):
            problems.add(node.place.problem(f"axis {quoted(axis)} has an empty value"))
        values[value.text] = value
    return list(values.values())


def _value(axis: str, typed: Any, node: Any, problems: Problems) -> Value | None:
    if axis not in settings.WORDS:
        return Value(node.value, text_of(node) if node.text is not None else str(node.value), node.place)
    try:
        value = settings.value_of(axis, typed, node)
    except JobError as error:
        problems.extend(error.problems)
        return None
    is_plain = node.text is not None and axis != "search"
    return Value(value, text_of(node) if is_plain else settings.shown(axis, value), node.place)


def _check_axes(written: Map, axes: Mapping[str, list[Value]], problems: Problems) -> None:
    first: dict[str, str] = {}
    for axis in axes:
        place = written.keys_at[axis]
        if fold(axis) in first:
            problems.add(place.problem(f"axes {quoted(first[fold(axis)])} and {quoted(axis)} have one name"))
        elif axis not in settings.WORDS and fold(axis) in settings.WORDS:
            problems.add(place.problem(f"axis {quoted(axis)}{meant(fold(axis), settings.WORDS)}"))
        first.setdefault(fold(axis), axis)


def _cell(
    written: Map, axes: Mapping[str, list[Value]], problems: Problems, *, is_exclude: bool = False
) -> Combination:
    """An entry of `exclude` or `include`."""
    cell: Combination = {}
    for word, node in written.nodes.items():
        if word not in axes:
            message = f"{quoted(word)} is no axis of the matrix{meant(word, axes)}"
            problems.add(written.keys_at[word].problem(message, f"axes: {listed(axes, last='and')}" if axes else ""))
        elif value := _of_cell(word, node, problems):
            cell[word] = value
            known = [one.text for one in axes[word]]
            # Axes and exclude may come from different manifests; only what stands together must fit together.
            if is_exclude and value.text not in known and axes[word][0].place.source is value.place.source:
                message = f"exclude: {quoted(value.text)} is no value of axis {quoted(word)}{meant(value.text, known)}"
                problems.add(node.place.problem(message))
    return cell


def _of_cell(word: str, node: Any, problems: Problems) -> Value | None:
    """A value in `exclude` or `include`, read and checked as the axis it belongs to is."""
    if word not in settings.WORDS:
        if node.text is None:
            problems.add(node.place.problem(f"{quoted(word)} is one text here"))
            return None
        return _value(word, node.value, node, problems)
    typed = schema.typed(word, node)
    if wrong := schema.wrong_value(word, typed, word):
        problems.add(node.place.problem(*wrong))
        return None
    return _value(word, typed, node, problems)


def _matches(exclude: Combination, cell: Combination) -> bool:
    return bool(exclude) and all(cell[axis].text == value.text for axis, value in exclude.items())


def _include(
    cell: Combination, axes: Mapping[str, list[Value]], place: Place, cells: list[Combination], problems: Problems
) -> None:
    if missing := [axis for axis in axes if axis not in cell]:
        problems.add(place.problem(f"include: the cell says nothing of {listed(map(quoted, missing), last='and')}"))
        return
    whole = {axis: cell[axis] for axis in axes}
    if any(_matches(whole, other) for other in cells):
        problems.add(place.problem("include: this cell is there already"))
        return
    cells.append(whole)
