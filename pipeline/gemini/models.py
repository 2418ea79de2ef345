"""The model registry: what each image model can do, what it costs, and until when; read from `models.yaml`.

Everything here is data with dates. A user's file (`--models`, `PIPELINE_MODELS`) has the same shape: a row with a
new id is added to the defaults, a row with a known id overrides single keys, `null` takes a key back to its default.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace
from datetime import date
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.errors import UsageError
from pipeline.gemini.rows import ANY, MalformedError, Row, refuse_unknown, shown

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from decimal import Decimal

_SHIPPED = Path(__file__).with_name("models.yaml")
_LARGEST_FILE = 1_000_000
_TOP_LEVEL = frozenset({"as_of", "prices_as_of", "sources", "limits", "defaults", "tables", "models"})
_LIMITS = frozenset({"storage_bytes"})
_RATIO = re.compile(r"[1-9][0-9]{0,3}:[1-9][0-9]{0,3}")
_SIZE = re.compile(r"[1-9][0-9]{0,3}K?")
_PIXELS = re.compile(r"([1-9][0-9]{0,5})x([1-9][0-9]{0,5})")
_MIME = re.compile(r"image/[a-z0-9.+-]+")
_LEVEL = re.compile(r"minimal|low|medium|high")
_SEARCH = re.compile(r"web|image")


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


@dataclass(frozen=True, slots=True)
class Spent:
    """What one answer takes beside its image: the usual, or the most that is expected."""

    thinking: int
    """Tokens at the text price: thoughts, and words that come with an image unasked."""
    text: int
    """Tokens of words that were asked for."""
    queries: int
    """Searches, where the model may search."""


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
    typical: Spent
    upper: Spent
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

    def __init__(self, models: Sequence[Model], *, as_of: date, prices_as_of: date, storage_bytes: int) -> None:
        self.as_of = as_of
        self.prices_as_of = prices_as_of
        self.storage_bytes = storage_bytes
        """What the files of a project may take up at the service."""
        self._models = tuple(models)
        self._by_word = {alias: model for model in models for alias in model.aliases}
        self._by_word |= {model.id: model for model in models}

    def find(self, word: str) -> Model | None:
        """The model with this id or alias, also with `models/` before it."""
        return self._by_word.get(word.removeprefix("models/"))

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
        refuse_unknown("", added, _TOP_LEVEL - {"defaults"}, extensions=True)
        return _built(base, added)
    except MalformedError as error:
        raise UsageError(f"{extra}: {error}", hint="the shipped models.yaml shows every key") from None


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
        raise MalformedError(f"line {mark.line + 1 if mark else '?'}: {error.problem}") from None
    except (yaml.YAMLError, ValueError, OverflowError, RecursionError) as error:
        raise MalformedError(f"is not YAML: {' '.join(str(error).split())}") from None
    if not isinstance(data, dict):
        raise MalformedError("must be a map with `models` in it")
    return data


def _content(path: Path) -> bytes:
    try:
        if not path.is_file():
            raise MalformedError("is not a file" if path.exists() else "no such file")
        with path.open("rb") as stream:
            content = stream.read(_LARGEST_FILE + 1)
    except (OSError, ValueError) as error:
        raise MalformedError(f"cannot be read: {getattr(error, 'strerror', None) or error}") from None
    if len(content) > _LARGEST_FILE:
        raise MalformedError(f"is larger than {_LARGEST_FILE:,} bytes")
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
            raise MalformedError(f"line {node.start_mark.line + 1}: {shown(twice)} stands here twice")
        waiting += [part for pair in pairs for part in pair] or node.value


def _built(base: Mapping[str, Any], added: Mapping[str, Any]) -> Models:
    defaults = base["defaults"]
    rows = {identity: {**defaults, **row} for identity, row in base["models"].items()}
    own = Row("", added).map("models") if "models" in added else {}
    for identity, row in own.items():
        if not isinstance(identity, str) or not ANY.fullmatch(identity) or not identity.strip():
            raise MalformedError(f"models: {shown(identity)} is no model id")
        where = f"models: {identity}"
        if not isinstance(row, dict):
            raise MalformedError(f"{where}: must be a map, not {shown(row)}")
        refuse_unknown(where, row, defaults)
        said = {key: defaults[key] if value is None else value for key, value in row.items()}
        rows[identity] = {**rows.get(identity, defaults), **said}
    models = [_model(identity, Row(f"models: {identity}", row)) for identity, row in rows.items()]
    dates = Row("", {**base, **added})
    told = Row("", added).map("limits") if "limits" in added else {}
    refuse_unknown("limits", told, _LIMITS)
    limits = Row("limits", {**base["limits"], **told})
    return Models(
        _without_taken_aliases(models, own),
        as_of=dates.get("as_of", date),
        prices_as_of=dates.get("prices_as_of", date),
        storage_bytes=limits.number("storage_bytes", 10**15),
    )


def _without_taken_aliases(models: Sequence[Model], own: Mapping[str, Any]) -> Sequence[Model]:
    """Let an alias in the user's file win over the same one in ours; two of one kind are an error."""
    ids = {model.id for model in models}
    owners: dict[str, str] = {}
    for model in sorted(models, key=lambda model: model.id not in own):
        for alias in model.aliases:
            other = owners.setdefault(alias, model.id)
            if alias in ids or (other != model.id and (other in own) == (model.id in own)):
                raise MalformedError(f"models: {model.id}: aliases: {alias!r} names another model too")
    return [
        replace(model, aliases=tuple(alias for alias in model.aliases if owners[alias] == model.id)) for model in models
    ]


def _model(identity: str, row: Row) -> Model:
    sizes = row.texts("sizes", _SIZE)
    references, thinking = row.row("references"), row.row("thinking")
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
        typical=_spent(row, "typical"),
        upper=_spent(row, "upper"),
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


def _spent(row: Row, word: str) -> Spent:
    return Spent(*(row.row(key).number(word) for key in ("thinking_tokens", "text_tokens", "search_queries")))


def _default_level(thinking: Row) -> str | None:
    level = thinking.maybe("default", str)
    if level is not None and level not in thinking.texts("levels"):
        raise thinking.error("default", f"{shown(level)} is none of the levels")
    return level


def _pixel_table(row: Row, sizes: Sequence[str]) -> Mapping[str, Mapping[str, tuple[int, int]]]:
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


def _prices(row: Row) -> tuple[Price, ...]:
    prices = []
    for number, values in enumerate(row.get("prices", list)):
        if not isinstance(values, dict):
            raise row.error(f"prices: {number}", f"must be a map, not {shown(values)}")
        one = Row(f"{row.where}: prices: {number}", values)
        refuse_unknown(one.where, values, frozenset({"from", "input", "text", "image", "batch", "inferred"}))
        standard, half = one.moneys("input", "text", "image"), one.row("batch").moneys("input", "text", "image")
        prices.append(Price(one.get("from", date), *standard, *half, bool(one.texts("inferred"))))
    if len({price.since for price in prices}) != len(prices):
        raise row.error("prices", "two of them hold from the same day")
    return tuple(sorted(prices, key=lambda price: price.since))
