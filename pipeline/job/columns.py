"""The columns of some rows, looked at once: which of them name the item, are settings, or are asked for by name."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple

from pipeline.job.placeholders import OF_IMAGES, Bound, Scope, Slot, Template, bind, fold, folded
from pipeline.job.problems import MOST, listed, meant, quoted

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from pipeline.errors import Problem
    from pipeline.job.conditions import Condition
    from pipeline.job.items import Items
    from pipeline.job.lines import Header
    from pipeline.job.problems import Place, Problems

_ID_COLUMNS = ("id", "sku", "handle")
_MANY = 1000
"""Sets of columns, and names, that are remembered: rows that all differ must not pile up."""
_FIXED = frozenset({"csv", "tsv", "glob"})
"""Kinds of items whose rows all have the same columns."""
_NO_SUCH = {"jsonl": "no row has a field", "glob": "an image has no"}


@dataclass(frozen=True, slots=True, eq=False)
class Columns:
    """What there is to know of rows with these columns."""

    names: tuple[str, ...]
    """As written, after `rename`."""
    folded: tuple[str, ...]
    """As placeholders find them; nothing for a setting."""
    id_at: int | None
    id_bound: Bound | None
    tests: tuple[tuple[int | str, Condition], ...]
    """What `where` asks of which cell, or of which built-in of an image."""
    told: tuple[int, ...]
    """Those a record tells of: all but the id's own, and settings."""
    sets: tuple[tuple[str, int], ...] = ()
    """Settings of the item: the word (`aspect`, or `vars.light`), and which cell."""
    fills: tuple[tuple[str, int | None], ...] = ()
    """Those of `fill`, by name as it is compared; None for one these rows lack."""
    texts: tuple[int, ...] = ()
    """Those that are HTML."""


class Wrong(NamedTuple):
    """Why rows with these columns give no items; `at` is the column that is wrong."""

    message: str
    hint: str = ""
    at: int | None = None
    waits_for: str = ""
    """The name that is missing here: told only if some other row has it."""


class Known:
    """The sets of columns met so far, and the names of the manifest that none of them has."""

    def __init__(self, items: Items) -> None:
        self._items = items
        self._of: dict[tuple[str, ...], Columns | list[Wrong]] = {}
        self._id_template = items.id_template
        if items.is_images and items.id is not None:
            self._id_template = Template((Slot(fold(items.id), items.id, None),))
        self._rename = {key_of(old): new for old, new in items.rename.items()}
        self._missing = list(_asked(items))
        self._met: dict[str, None] = {}
        self._met_before: dict[str, None] = {}
        self._waiting: list[tuple[str, Problem]] = []

    @property
    def misses_some(self) -> bool:
        """Whether the manifest names columns that no row has had so far."""
        return bool(self._missing)

    def of(self, names: tuple[str, ...]) -> Columns | list[Wrong]:
        """What there is to know of rows with these columns, by their names in the file; or what is wrong with them."""
        known = self._of.get(names)
        if known is None:
            if len(self._of) >= _MANY:
                self._of.clear()
            known = self._of[names] = self._look(names)
        return known

    def of_header(self, header: Header) -> list[Problem]:
        """What is wrong with the columns of a whole file; if anything is, nothing is to be told of its rows."""
        columns = self.of(header.names)
        problems = self.unmet()
        self._missing.clear()  # told
        if isinstance(columns, Columns):
            problems += self._fills_first(columns)
            if not problems and columns.id_at is None and not columns.id_bound:
                problems.append(header.name_place(0).problem("no column names the items", "add a column: id"))
        else:
            told = [wrong for wrong in columns[:MOST] if not wrong.waits_for]
            problems += [header.name_place(wrong.at or 0).problem(wrong.message, wrong.hint) for wrong in told]
        if problems:
            self._of[header.names] = list[Wrong]()
        return problems

    def _fills_first(self, columns: Columns) -> Iterator[Problem]:
        for word in self._items.fill:
            if key_of(word) == key_of(columns.names[0]):
                message = f"fill: {quoted(word)} is the first column, which says what rows belong together"
                yield _place(self._items, "fill", word).problem(message, "fill other columns from the row above")

    def see(self, names: Iterable[str]) -> None:
        """Note that some rows have columns of these names."""
        before = list(names)
        after = self._renamed(before)
        for met, some in ((self._met_before, before), (self._met, after)):
            if len(met) < _MANY:
                met.update(dict.fromkeys(some))
        old, new = set(map(key_of, before)), set(map(key_of, after))
        self._missing = [name for name in self._missing if name.key not in (old if name.option == "rename" else new)]

    def tell(self, problem: Problem, waits_for: str, problems: Problems) -> None:
        """Note the problem of a row; if it is for want of a name, wait whether any row has it."""
        if any(name.key == waits_for for name in self._missing):
            self._waiting += [(waits_for, problem)] if len(self._waiting) < MOST else []
        else:
            problems.add(problem)

    def unmet(self) -> list[Problem]:
        """The problems of names in the manifest that no row has; called once all rows were seen."""
        if not self._met and self._items.kind not in _FIXED:
            return []
        missing = {name.key for name in self._missing}
        lost = {key_of(self._items.rename[name.word]) for name in self._missing if name.option == "rename"}
        told = [name for name in self._missing if name.option == "rename" or name.key not in lost]
        wrong = [self._unmet(name, is_shown=number < MOST) for number, name in enumerate(told)]
        return wrong + [problem for key, problem in self._waiting if key not in missing]

    def _unmet(self, name: _Name, *, is_shown: bool) -> Problem:
        known = list(self._met_before if name.option == "rename" else self._met) if is_shown else []
        if name.is_slot:
            message = f"id: [{name.word}] is unknown{meant(fold(name.word), folded(known))}"
        else:
            no_such = _NO_SUCH.get(self._items.kind, "there is no column")
            message = f"{name.option}: {no_such} {quoted(name.word)}{meant(name.word, known)}"
        what = "fields" if self._items.kind == "jsonl" else "columns"
        return name.place.problem(message, f"{what}: {_some(known)}")

    def _renamed(self, names: Sequence[str]) -> tuple[str, ...]:
        return tuple(self._rename.get(key_of(name), name) for name in names)

    def _look(self, before: tuple[str, ...]) -> Columns | list[Wrong]:
        self.see(OF_IMAGES if self._items.is_images else before)
        names, items = self._renamed(before), self._items
        keys, fills = tuple(map(key_of, names)), dict.fromkeys(map(key_of, items.fill))
        if wrong := list(_wrong_names(names, keys)):
            return wrong
        sets = tuple((word, at) for at, name in enumerate(names) if (word := setting_of(name)))
        fields = [at for at, name in enumerate(names) if not setting_of(name)]
        folded_names = tuple("" if setting_of(name) else key for name, key in zip(names, keys, strict=True))
        id_at = self._id_at(keys, fields)
        if isinstance(id_at, Wrong):
            return [id_at]
        return Columns(
            names=names,
            folded=folded_names,
            id_at=id_at,
            id_bound=self._id_bound(folded_names),
            tests=tuple((keys.index(key) if (key := key_of(one.word)) in keys else key, one) for one in items.where),
            told=tuple(at for at in fields if at != id_at),
            sets=sets,
            fills=tuple((key, keys.index(key) if key in keys else None) for key in fills),
            texts=tuple(keys.index(key) for key in map(key_of, items.text) if key in keys),
        )

    def _id_bound(self, columns: tuple[str, ...]) -> Bound | None:
        if self._id_template is None:
            return None
        return bind(self._id_template, columns, Scope({}, frozenset(OF_IMAGES if self._items.is_images else ())))

    def _id_at(self, keys: tuple[str, ...], fields: Sequence[int]) -> int | Wrong | None:
        items = self._items
        if self._id_template or not keys:
            return None
        if items.id is not None:
            key = key_of(items.id)
            return keys.index(key) if key in keys else Wrong(f"id: there is no {quoted(items.id)} here", waits_for=key)
        likely = ("id",) if items.kind == "list" else _ID_COLUMNS
        return next((keys.index(name) for name in likely if name in keys), fields[0] if fields else None)


class _Name(NamedTuple):
    """A column that the manifest asks for."""

    option: str
    word: str
    key: str
    place: Place
    is_slot: bool = False


def _asked(items: Items) -> Iterator[_Name]:
    for option, words in (("rename", items.rename), ("fill", items.fill), ("text", items.text)):
        yield from (_Name(option, word, key_of(word), _place(items, option, word)) for word in words)
    yield from (_Name("where", one.word, key_of(one.word), one.place) for one in items.where)
    if items.id is not None:
        yield _Name("id", items.id, key_of(items.id), _place(items, "id"))
    for slot in items.id_template.slots if items.id_template else ():
        if slot.fallback is None:
            yield _Name("id", slot.word, slot.name, _place(items, "id"), is_slot=True)


def _place(items: Items, option: str, word: str = "") -> Place:
    return items.said.get(f"{option}.{word}") or items.said.get(option) or items.place


@lru_cache(maxsize=16_384)
def key_of(name: str) -> str:
    """A name as columns are told apart: as placeholders are, but for settings, which are no placeholders."""
    word = setting_of(name)
    if not word:
        return fold(name)
    word, _dot, rest = word.partition(".")
    return f"set.{fold(word)}.{fold(rest)}" if rest else f"set.{fold(word)}"


@lru_cache(maxsize=16_384)
def setting_of(name: str) -> str:
    """The setting a column is for: `aspect` of `set.aspect`, `vars.light` of `set.vars.light`; nothing for a field."""
    first, dot, rest = name.partition(".")
    if not dot or first.strip().casefold() != "set":
        return ""
    word, dot, rest = rest.partition(".")
    word = word.strip().casefold()
    return f"{word}.{rest.strip()}" if word and dot else word


def _wrong_names(names: Sequence[str], keys: Sequence[str]) -> Iterator[Wrong]:
    first: dict[str, str] = {}
    for at, (name, key) in enumerate(zip(names, keys, strict=True)):
        if key in first:
            same = "" if name == first[key] else f" (names compare as {quoted(key)})"
            message = f"columns {quoted(first[key])} and {quoted(name)} are the same{same}"
            is_same = name == first[key]
            hint = "give one another name" if is_same else "rename one: items: {…, rename: {old: new}}"
            yield Wrong(message, hint, at)
        first.setdefault(key, name)
        if name == "set" or (name.casefold().startswith("set.") and not setting_of(name)):
            message = f"column {quoted(name)} names no setting"
            yield Wrong(message, "write one column for each setting: set.aspect, set.model", at)


def _some(names: Sequence[str]) -> str:
    most = 12
    return listed([*map(quoted, names[:most]), *(["…"] if len(names) > most else [])], last="and") if names else "none"
