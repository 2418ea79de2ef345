"""Where the items of a job come from, as its manifest says: a list, a catalog, a glob of images, or one item."""

from __future__ import annotations

import codecs
from typing import TYPE_CHECKING

from pipeline.job import conditions, settings
from pipeline.job.globs import is_glob
from pipeline.job.items import KINDS, Items
from pipeline.job.manifest import ONE_OF
from pipeline.job.placeholders import BracketError, Template, fold, split
from pipeline.job.problems import Place, Problems, listed, quoted
from pipeline.job.sources import text_of
from pipeline.job.yaml12 import List, Map

if TYPE_CHECKING:
    from pipeline.errors import Problem

MANY_ITEMS = 5_000
_DELIMITERS = {"csv": ",", "tsv": "\t"}
_NO_CHARSETS = {"idna", "punycode", "unicode-escape", "raw-unicode-escape", "utf-7", "undefined"}
"""Encodings Python knows that no catalog is written in; some give half characters."""


def read(manifest: Map, problems: Problems, warnings: list[Problem]) -> Items:
    """What a manifest that fits the schema says of its items; what is wrong goes to the problems."""
    node = manifest.nodes.get("items")
    if node is None:
        places = [manifest.keys_at[word] for word in ONE_OF if word in manifest]
        return Items("one", places[0] if places else Place(manifest.place.source, 1, 1))
    if isinstance(node.value, List):
        return _list(node.value, problems, warnings)
    if isinstance(node.value, Map):
        return _catalog(node.value, problems)
    return _path(manifest["items"], node.place, problems)


def _list(rows: List, problems: Problems, warnings: list[Problem]) -> Items:
    if not rows and rows.is_cut:
        return Items("none", rows.place)
    if not rows:
        problems.add(rows.place.problem("'items' is an empty list", "leave it out for a job of one item"))
    if len(rows) > MANY_ITEMS:
        warnings.append(
            rows.place.problem(f"{len(rows):,} items in YAML are slow to read", "put them in a CSV or JSONL file")
        )
    for row in rows:
        for field_ in row if isinstance(row, Map) else ():
            if fold(field_) == "skip":
                hint = "to leave items out write overrides: [{when: …, set: {skip: true}}], or items.where"
                warnings.append(row.keys_at[field_].problem("'skip' in an item is a placeholder", hint))
            if fold(field_) in settings.WORDS:
                hint = f"to set it for this item write set: {{{field_}: …}}; for all items, at the top"
                warnings.append(
                    row.keys_at[field_].problem(f"{quoted(field_)} in an item is a placeholder, not a setting", hint)
                )
    return Items("list", rows.place, rows=rows)


def _path(text: str, place: Place, problems: Problems) -> Items:
    ending = text.rpartition(".")[2].lower()
    if ending not in {"csv", "tsv", "jsonl"}:
        if is_glob(text):
            return Items("glob", place, text, folder=place.source.folder)
        hint = "items is a list, x.csv, x.tsv, x.jsonl, or a glob of images such as photos/*.jpg"
        problems.add(place.problem(f"{quoted(text)} is no catalog", hint))
        return Items("none", place)
    return Items(ending, place, text, delimiter=_DELIMITERS.get(ending, ","), folder=place.source.folder)


def _catalog(written: Map, problems: Problems) -> Items:
    kinds = [kind for kind in KINDS if kind in written]
    if len(kinds) != 1:
        found = f"not {listed(kinds, last='and')}" if kinds else "and here is none"
        if kinds or not written.is_cut:
            problems.add(written.place.problem(f"'items' needs one of {listed(KINDS)}, {found}"))
        return Items("none", written.place)
    kind = kinds[0]
    _check_options(kind, written, problems)
    words = _text(written, "id")
    template = None
    if words is not None and "[" in words:
        template = _id_template(words, written.at("id"), problems)
    return Items(
        kind,
        written.at(kind),
        written[kind],
        id=None if template else words,
        id_template=template,
        rename={old: text_of(node) for old, node in written["rename"].nodes.items()} if "rename" in written else {},
        fill=tuple(map(text_of, written["fill"].nodes)) if "fill" in written else (),
        text=tuple(map(text_of, written["text"].nodes)) if "text" in written else (),
        where=conditions.read(written["where"]) if "where" in written else (),
        unique="unique" in written,
        limit=written.get("limit"),
        delimiter=written.get("delimiter", _DELIMITERS.get(kind, ",")),
        encoding=encoding(written, problems),
        folder=written.at(kind).source.folder,
        said=_places(written),
    )


def _places(written: Map) -> dict[str, Place]:
    """Where each option stands, and each column it names: `fill`, `fill.Title`, `rename.Body (HTML)`."""
    places = {word: written.at(word) for word in written}
    for word in ("fill", "text"):
        if word in written:
            places |= {f"{word}.{text_of(node)}": node.place for node in written[word].nodes}
    if "rename" in written:
        places |= {f"rename.{old}": at for old, at in written["rename"].keys_at.items()}
    return places


def _check_options(kind: str, written: Map, problems: Problems) -> None:
    useless = {
        "csv": set(),
        "tsv": set(),
        "jsonl": {"delimiter"},
        "glob": {"delimiter", "encoding", "rename", "fill", "text"},
    }[kind]
    for key in useless & written.keys():
        problems.add(written.keys_at[key].problem(f"{quoted(key)} means nothing for {kind}", "delete it"))
        written.drop(key)


def _text(written: Map, key: str) -> str | None:
    return text_of(written.nodes[key]) if key in written else None


def _id_template(text: str, place: Place, problems: Problems) -> Template | None:
    try:
        return split(text)
    except BracketError as error:
        problems.add(place.problem(f"id: {error}", error.hint))
        return None


def encoding(written: Map, problems: Problems) -> str:
    """How a file is encoded, by the map that names it."""
    word = _text(written, "encoding") or "utf-8"
    try:
        "".encode(word)
        name = codecs.lookup(word).name
    except (LookupError, ValueError):
        name = ""
    if not name or name in _NO_CHARSETS:
        problems.add(
            written.at("encoding").problem(f"unknown encoding {quoted(word)}", "such as utf-8, utf-16 or cp1252")
        )
        return "utf-8"
    return name
