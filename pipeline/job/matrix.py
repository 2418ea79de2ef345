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
from pipeline.job.yaml12 import List

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

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
    if (count := prod(map(len, axes.values()))) > MAX_CELLS:
        shown = f"{count:,}" if count < 10**15 else "far too many"
        problems.add(written.place.problem(f"the matrix makes {shown} cells of each item; at most {MAX_CELLS:,}"))
        return Matrix({})
    cells = [dict(zip(axes, values, strict=True)) for values in product(*axes.values())] if axes else []
    cells = _without(cells, [_exclude(node.value, axes, problems) for node in _listed(written, "exclude")])
    places = {axis: written.keys_at[axis] for axis in axes} or _included_axes(written)
    _include(written, places, cells, problems)
    if not cells and not written.is_cut:
        problems.add(written.place.problem("the matrix leaves no cell: everything is excluded"))
    return Matrix(places, tuple(cells)) if cells else Matrix({})


def _included_axes(written: Map) -> dict[str, Place]:
    """The axes of a matrix that is nothing but a list of cells to include: those of the first."""
    nodes = _listed(written, "include")
    return dict(nodes[0].value.keys_at) if nodes else {}


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
        elif not value.text.strip():
            if not getattr(typed, "is_cut", False):
                problems.add(node.place.problem(f"axis {quoted(axis)} has an empty value"))
            continue
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


def _exclude(written: Map, axes: Mapping[str, list[Value]], problems: Problems) -> dict[str, set[str]]:
    """An entry of `exclude`: for each axis it speaks of, the values that are meant."""
    entry: dict[str, set[str]] = {}
    for word, node in written.nodes.items():
        axis = _axis(written, word, axes, problems)
        if axis is None:
            continue
        known = {one.text for one in axes[axis]}
        several = isinstance(node.value, List) and axis not in settings.LISTS
        values = [_of_cell(axis, one, problems) for one in (node.value.nodes if several else [node])]
        entry[axis] = {value.text for value in values if value is not None}
        # Axes and exclude may come from different manifests; only what stands together must fit together.
        for value in values if axes[axis][0].place.source is node.place.source else ():
            if value is not None and value.text not in known:
                near = "" if problems.is_full else meant(value.text, known)
                problems.add(
                    value.place.problem(f"exclude: {quoted(value.text)} is no value of axis {quoted(axis)}{near}")
                )
    return entry


def _axis(written: Map, word: str, axes: Collection[str], problems: Problems) -> str | None:
    """The axis that a word names; names compare as those of placeholders do."""
    axis = word if word in axes else next((axis for axis in axes if fold(axis) == fold(word)), None)
    if axis is None:
        message = f"{quoted(word)} is no axis of the matrix{meant(word, axes)}"
        problems.add(written.keys_at[word].problem(message, f"axes: {listed(axes, last='and')}" if axes else ""))
    return axis


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


def _without(cells: list[Combination], excludes: Sequence[dict[str, set[str]]]) -> list[Combination]:
    """The cells that no entry of `exclude` fits. Entries that speak of the same axes are looked up in one go."""
    by_axes: dict[tuple[str, ...], set[tuple[str, ...]]] = {}
    for exclude in excludes:
        if exclude and all(exclude.values()):
            axes = tuple(sorted(exclude))
            by_axes.setdefault(axes, set()).update(product(*(exclude[axis] for axis in axes)))
    return [
        cell
        for cell in cells
        if not any(tuple(cell[axis].text for axis in axes) in found for axes, found in by_axes.items())
    ]


def _include(written: Map, places: Mapping[str, Place], cells: list[Combination], problems: Problems) -> None:
    seen = {tuple(value.text for value in cell.values()) for cell in cells}
    for node in _listed(written, "include"):
        cell: Combination = {}
        for word, inner in node.value.nodes.items():
            axis = _axis(node.value, word, places, problems)
            if axis is not None and (value := _of_cell(axis, inner, problems)):
                cell[axis] = value
        if missing := [axis for axis in places if axis not in cell]:
            if len(cell) == len(node.value.nodes) or not node.value.is_cut:
                names = listed(map(quoted, missing), last="and")
                problems.add(node.place.problem(f"include: the cell says nothing of {names}"))
            continue
        whole = {axis: cell[axis] for axis in places}
        mark = tuple(value.text for value in whole.values())
        if mark in seen:
            problems.add(node.place.problem("include: this cell is there already"))
            continue
        seen.add(mark)
        cells.append(whole)
