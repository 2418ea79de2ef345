"""The model registry: what each image model can do, what it costs, and until when; read from `models.yaml`.

Everything here is data with dates. A user's file (`--models`, `PIPELINE_MODELS`) has the same shape: a row with a
new id is added to the defaults, a row with a known id overrides single keys, `null` takes a key back to its default.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace
from datetime import date, datetime
from decimal import Decimal
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from pipeline.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping, Sequence

T = TypeVar("T")

_SHIPPED = Path(__file__).with_name("models.yaml")
_LARGEST_FILE = 1_000_000
_TOP_LEVEL = frozenset({"as_of", "prices_as_of", "sources", "defaults", "tables", "models"})
_RATIO = re.compile(r"[1-9][0-9]{0,3}:[1-9][0-9]{0,3}")
_SIZE = re.compile(r"[1-9][0-9]{0,3}K?")
_PIXELS = re.compile(r"([1-9][0-9]{0,5})x([1-9][0-9]{0,5})")
_MONEY = re.compile(r"[0-9]{1,9}(\.[0-9]{1,9})?")
_MIME = re.compile(r"image/[a-z0-9.+-]+")
_LEVEL = re.compile(r"minimal|low|medium|high")
_SEARCH = re.compile(r"web|image")
_ANY = re.compile(r"[^\x00-\x1f\x7f]*")
_KINDS: Mapping[type, str] = {
    str: "text in quotes",
    int: "a whole number",
    bool: "true or false",
    date: "a date like 2026-10-09",
    list: "a list",
    dict: "a map",
}


@dataclass(frozen=True, slots=True)
class Price:
    """USD for a million tokens, from a day on."""

    since: date
    input: Decimal
    text: Decimal
    """Text out; thoughts cost the same."""
    image: Decimal
    batch_input: Decimal
    batch_text: Decimal
    batch_image: Decimal
    inferred: bool
    """Some of these figures follow from others and were not read on a price page."""


@dataclass(frozen=True, eq=False)
class Model:
    """One model as the registry knows it."""

    id: str
    name: str
    aliases: tuple[str, ...]
    good_for: str
    aspects: tuple[str, ...]
    sizes: tuple[str, ...]
    formats: frozenset[str]
    """MIME types of reference images it takes."""
    max_references: int
    advised_references: int | None
    references_by_role: Mapping[str, int]
    """A role that is not named has no limit of its own."""
    reference_tokens: int
    """What one reference image counts as, at the input price."""
    thinking: tuple[str, ...]
    """The levels one may ask for; empty where there is no choice."""
    thinking_default: str | None
    thinking_typical: int
    """Tokens at the text price beside an image: thoughts, and words that come with it."""
    thinking_upper: int
    search: tuple[str, ...]
    search_price: Decimal | None
    """USD for one search query; whether a batch pays the same is not known."""
    batch: bool
    best_languages: tuple[str, ...]
    image_mime: str
    prices: tuple[Price, ...]
    shutdown: date | None
    successor: str | None
    source: str
    as_of: date | None
    inferred: frozenset[str]
    """The keys of this row that follow from something read, but were not read themselves."""
    pixel_table: Mapping[str, Mapping[str, tuple[int, int]]] = field(repr=False)
    token_table: Mapping[str, int] = field(repr=False)
    bytes_table: Mapping[str, int] = field(repr=False)

    def pixels(self, aspect: str, size: str) -> tuple[int, int] | None:
        """Width and height of an image, or None where nobody published them."""
        return self.pixel_table.get(size, {}).get(aspect)

    def tokens(self, size: str) -> int:
        """Output tokens of one image of `size`, whatever its ratio; KeyError for a size that is not in `sizes`."""
        return self.token_table[size]

    def answer_bytes(self, size: str) -> int:
        """Expected bytes of one image file, an estimate; as base64 in an answer it is a third more."""
        return self.bytes_table[size]

    def image_price(self, size: str, day: date) -> Decimal | None:
        """USD for one image of a size in a batch, without what is sent along; None where that is not known."""
        price = self.price(day)
        return price.batch_image * self.tokens(size) / 1_000_000 if price and size in self.sizes else None

    def price(self, day: date) -> Price | None:
        """The newest price that holds on `day`, or None where none is known."""
        return max((price for price in self.prices if price.since <= day), key=lambda price: price.since, default=None)

    def is_shut_down(self, day: date) -> bool:
        return self.shutdown is not None and day >= self.shutdown


class Models:
    """All models, in the order of the file, the user's own last."""

    def __init__(self, models: Sequence[Model], *, as_of: date, prices_as_of: date) -> None:
        self.as_of = as_of
        self.prices_as_of = prices_as_of
        self._models = tuple(models)
        self._by_word = {alias: model for model in models for alias in model.aliases}
        self._by_word |= {model.id: model for model in models}

    def find(self, word: str) -> Model | None:
        """The model with this id or alias."""
        return self._by_word.get(word)

    def words(self) -> Sequence[str]:
        """Every word that names a model: aliases first, then ids."""
        return tuple(self._by_word)

    def __iter__(self) -> Iterator[Model]:
        return iter(self._models)


def load(extra: Path | None = None) -> Models:
    """Read the registry and add the rows of `extra`; a malformed file is a UsageError that names it and the place."""
    if extra is None:
        return _shipped()
    base = _shipped_data()
    try:
        added = _parsed(extra)
        _refuse_unknown("", added, _TOP_LEVEL - {"defaults"}, extensions=True)
        return _built(base, added)
    except _MalformedError as error:
        raise UsageError(f"{extra}: {error}", hint="the shipped models.yaml shows every key") from None


class _MalformedError(Exception):
    """Where, and what is wrong there."""


@cache
def _shipped_data() -> Mapping[str, Any]:
    return _parsed(_SHIPPED)


@cache
def _shipped() -> Models:
    return _built(_shipped_data(), {})


def _parsed(path: Path) -> Mapping[str, Any]:
    import yaml  # noqa: PLC0415 - most commands need no registry

    base: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    try:
        loader = base(_content(path))
        try:
            node = loader.get_single_node()
            _refuse_duplicates(node)
            data = loader.construct_document(node) if node else None
        finally:
            loader.dispose()
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        raise _MalformedError(f"line {mark.line + 1 if mark else '?'}: {error.problem}") from None
    except (yaml.YAMLError, ValueError, OverflowError, RecursionError) as error:
        raise _MalformedError(f"is not YAML: {' '.join(str(error).split())}") from None
    if not isinstance(data, dict):
        raise _MalformedError("must be a map with `models` in it")
    return data


def _content(path: Path) -> bytes:
    try:
        if not path.is_file():
            raise _MalformedError("is not a file" if path.exists() else "no such file")
        with path.open("rb") as stream:
            content = stream.read(_LARGEST_FILE + 1)
    except (OSError, ValueError) as error:
        raise _MalformedError(f"cannot be read: {getattr(error, 'strerror', None) or error}") from None
    if len(content) > _LARGEST_FILE:
        raise _MalformedError(f"is larger than {_LARGEST_FILE:,} bytes")
    return content


def _refuse_duplicates(root: Any) -> None:
    """YAML's reader would let the second of two equal keys win without a word."""
    seen: set[int] = set()
    waiting = [root] if root else []
    while waiting:
        node = waiting.pop()
        if id(node) in seen or isinstance(node.value, str):
            continue
        seen.add(id(node))
        pairs = [part for part in node.value if isinstance(part, tuple)]
        keys = [key.value for key, _ in pairs if isinstance(key.value, str)]
        if len(set(keys)) < len(keys):
            twice = next(key for key in keys if keys.count(key) > 1)
            raise _MalformedError(f"line {node.start_mark.line + 1}: {_shown(twice)} stands here twice")
        waiting += [part for pair in pairs for part in pair] or node.value


def _built(base: Mapping[str, Any], added: Mapping[str, Any]) -> Models:
    defaults = base["defaults"]
    rows = {identity: {**defaults, **row} for identity, row in base["models"].items()}
    own = _Row("", added).map("models") if "models" in added else {}
    for identity, row in own.items():
        if not isinstance(identity, str) or not _ANY.fullmatch(identity) or not identity.strip():
            raise _MalformedError(f"models: {_shown(identity)} is no model id")
        where = f"models: {identity}"
        if not isinstance(row, dict):
            raise _MalformedError(f"{where}: must be a map, not {_shown(row)}")
        _refuse_unknown(where, row, defaults)
        said = {key: defaults[key] if value is None else value for key, value in row.items()}
        rows[identity] = {**rows.get(identity, defaults), **said}
    models = [_model(identity, _Row(f"models: {identity}", row)) for identity, row in rows.items()]
    dates = _Row("", {**base, **added})
    return Models(
        _without_taken_aliases(models, own),
        as_of=dates.get("as_of", date),
        prices_as_of=dates.get("prices_as_of", date),
    )


def _without_taken_aliases(models: Sequence[Model], own: Mapping[str, Any]) -> Sequence[Model]:
    """Let an alias in the user's file win over the same one in ours; two of one kind are an error."""
    ids = {model.id for model in models}
    owners: dict[str, str] = {}
    for model in sorted(models, key=lambda model: model.id not in own):
        for alias in model.aliases:
            other = owners.setdefault(alias, model.id)
            if alias in ids or (other != model.id and (other in own) == (model.id in own)):
                raise _MalformedError(f"models: {model.id}: aliases: {alias!r} names another model too")
    return [
        replace(model, aliases=tuple(alias for alias in model.aliases if owners[alias] == model.id)) for model in models
    ]


@dataclass(frozen=True, slots=True)
class _Row:
    """A map of a file, and the words that lead to it; every reading of it checks the kind."""

    where: str
    values: Mapping[str, Any]

    def error(self, key: str, what: str) -> _MalformedError:
        return _MalformedError(f"{self.where}: {key}: {what}" if self.where else f"{key}: {what}")

    def get(self, key: str, kind: type[T]) -> T:
        value = self.values.get(key)
        # A bool is an int to Python, and a moment a date.
        if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool) or isinstance(value, datetime):
            raise self.error(key, f"must be {_KINDS[kind]}, not {_shown(value)}")
        return value

    def maybe(self, key: str, kind: type[T]) -> T | None:
        return None if self.values.get(key) is None else self.get(key, kind)

    def text(self, key: str, pattern: re.Pattern[str] = _ANY) -> str:
        value = self.get(key, str)
        if not pattern.fullmatch(value):
            raise self.error(key, f"{_shown(value)} is not allowed here")
        return value

    def texts(self, key: str, pattern: re.Pattern[str] = _ANY) -> tuple[str, ...]:
        values = self.get(key, list) if self.values.get(key) is not None else []
        below = _Row(f"{self.where}: {key}" if self.where else key, {str(n): value for n, value in enumerate(values)})
        return tuple(below.text(number, pattern) for number in below.values)

    def map(self, key: str) -> Mapping[Any, Any]:
        return self.get(key, dict)

    def row(self, key: str) -> _Row:
        return _Row(f"{self.where}: {key}", self.map(key))

    def number(self, key: str) -> int:
        value = self.get(key, int)
        if not 0 <= value <= 10**9:  # more is surely a slip
            raise self.error(key, f"{_shown(value)} is out of range")
        return value

    def numbers(self) -> Mapping[str, int]:
        return {key: self.number(key) for key in self.values}

    def money(self, key: str) -> Decimal:
        return Decimal(self.text(key, _MONEY))

    def moneys(self, first: str, second: str, third: str) -> tuple[Decimal, Decimal, Decimal]:
        return self.money(first), self.money(second), self.money(third)


def _model(identity: str, row: _Row) -> Model:
    sizes = row.texts("sizes", _SIZE)
    references, thinking, spent = row.row("references"), row.row("thinking"), row.row("thinking_tokens")
    return Model(
        id=identity,
        name=row.text("name") or identity,
        aliases=row.texts("aliases"),
        good_for=row.text("good_for"),
        aspects=row.texts("aspects", _RATIO),
        sizes=sizes,
        formats=frozenset(row.texts("input_formats", _MIME)),
        max_references=references.number("max"),
        advised_references=references.maybe("advised", int),
        references_by_role=references.row("by_role").numbers() if "by_role" in references.values else {},
        reference_tokens=row.number("reference_tokens"),
        thinking=thinking.texts("levels", _LEVEL),
        thinking_default=_default_level(thinking),
        thinking_typical=spent.number("typical"),
        thinking_upper=spent.number("upper"),
        search=row.texts("search", _SEARCH),
        search_price=row.money("search_price") if row.values.get("search_price") is not None else None,
        batch=row.get("batch", bool),
        best_languages=row.texts("best_languages"),
        image_mime=row.text("image_format", _MIME),
        prices=_prices(row),
        shutdown=row.maybe("shutdown", date),
        successor=row.maybe("successor", str),
        source=row.text("source"),
        as_of=row.maybe("as_of", date),
        inferred=frozenset(row.texts("inferred")),
        pixel_table=_pixel_table(row, sizes),
        token_table={size: row.row("tokens").number(size) for size in sizes},
        bytes_table={size: row.row("answer_bytes").number(size) for size in sizes},
    )


def _default_level(thinking: _Row) -> str | None:
    level = thinking.maybe("default", str)
    if level is not None and level not in thinking.texts("levels"):
        raise thinking.error("default", f"{_shown(level)} is none of the levels")
    return level


def _pixel_table(row: _Row, sizes: Sequence[str]) -> Mapping[str, Mapping[str, tuple[int, int]]]:
    """The published pixels, cut to the sizes and ratios the model has."""
    table: dict[str, dict[str, tuple[int, int]]] = {}
    published = row.row("pixels")
    aspects = row.texts("aspects")
    for size in sizes:
        if size in published.values:
            column = published.row(size)
            table[size] = {aspect: _pair(column.text(aspect, _PIXELS)) for aspect in aspects if aspect in column.values}
    return table


def _pair(text: str) -> tuple[int, int]:
    width, height = text.split("x")
    return int(width), int(height)


def _prices(row: _Row) -> tuple[Price, ...]:
    prices = []
    for number, values in enumerate(row.get("prices", list)):
        if not isinstance(values, dict):
            raise row.error(f"prices: {number}", f"must be a map, not {_shown(values)}")
        one = _Row(f"{row.where}: prices: {number}", values)
        _refuse_unknown(one.where, values, frozenset({"from", "input", "text", "image", "batch", "inferred"}))
        standard, half = one.moneys("input", "text", "image"), one.row("batch").moneys("input", "text", "image")
        prices.append(Price(one.get("from", date), *standard, *half, bool(one.texts("inferred"))))
    if len({price.since for price in prices}) != len(prices):
        raise row.error("prices", "two of them hold from the same day")
    return tuple(sorted(prices, key=lambda price: price.since))


def _refuse_unknown(where: str, values: Mapping[Any, Any], known: Collection[str], *, extensions: bool = False) -> None:
    for key in values:
        if key not in known and not (extensions and str(key).startswith("x-")):
            from difflib import get_close_matches  # noqa: PLC0415 - only for a slip

            near = get_close_matches(str(key), sorted(known), 1)
            guess = f"; did you mean {near[0]!r}?" if near else ""
            raise _MalformedError(f"{where + ': ' if where else ''}unknown key {_shown(key)}{guess}")


def _shown(value: object) -> str:
    if isinstance(value, dict | list):
        return "a map" if isinstance(value, dict) else "a list"
    text = "nothing" if value is None else repr(value)
    return text if len(text) <= 80 else f"{text[:79]}…"  # noqa: PLR2004 - a line of a terminal
