"""Rows of the plain kind by the hundred: what forms make of them, column by column.

A sheet says of each of its rows what `Forms.filled` says, in a fraction of the time. Where it takes a look at a row by
itself to tell, there is no sheet, and rows go by forms one after the other.
"""

from __future__ import annotations

import re
from itertools import repeat
from json.encoder import encode_basestring_ascii
from typing import TYPE_CHECKING, Any, NamedTuple

from pipeline.job.forms import RESERVED, SHORT
from pipeline.job.paths import OWN
from pipeline.job.placeholders import Field, Moving
from pipeline.job.request import MAX_PROMPT
from pipeline.job.slugs import MAX_SEGMENT

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from pipeline.job.forms import Form, Quick
    from pipeline.job.placeholders import Part

Cells = list[str]
"""Of a row."""


class Column(NamedTuple):
    """What a form makes of the rows of a sheet; a text for each of them."""

    form: Form
    keys: list[str]
    paths: list[str]
    written: list[str]
    """The prompts, as JSON texts of ASCII characters."""
    digest: Callable[[], Any]
    """The digest of what stands before the prompt in a canonical ask."""
    after: str
    """What stands behind it."""


class Sheet(NamedTuple):
    """Some rows with the same columns, and what each form makes of them."""

    ids: list[str]
    slugs: list[str]
    """The ids as they stand in a path."""
    columns: list[Column]

    def fingerprints(self) -> list[list[str]]:
        """For each form and row, the fingerprint of the ask."""
        known: dict[tuple[int, str], list[bytes]] = {}
        found = []
        for column in self.columns:
            ends = known.get((id(column.written), column.after))
            if ends is None:
                ends = [f"{text}{column.after}".encode() for text in column.written]
                known[id(column.written), column.after] = ends
            prints = []
            for end in ends:
                digest = column.digest()
                digest.update(end)
                prints.append(digest.hexdigest())
            found.append(prints)
        return found


def sheet_of(quick: Sequence[Quick], rows: Sequence[Cells], ids: list[str]) -> Sheet | None:
    """What forms make of rows with these ids; None where that is to be told row by row."""
    slugs = _slugs(ids)
    if slugs is None:
        return None
    texts: dict[object, list[str] | None] = {}
    columns = []
    for form, text, key_tail, tail, digest, after in quick:
        if tail is None:
            return None
        if text not in texts:
            texts[text] = _written(_filled([_column(part, form, rows, ids) for part in text.bound], len(rows)))
        written, paths = texts[text], [slug + tail for slug in slugs]
        if written is None or not _are_free(paths):
            return None
        columns.append(Column(form, [one + key_tail for one in ids], paths, written, digest, after.decode()))
    return Sheet(ids, slugs, columns)


_BETWEEN = re.compile("[^a-z0-9\n]+")
_are_slugs = re.compile("(?:[a-z0-9]+(?:-[a-z0-9]+)*\n)*").fullmatch


def _slugs(ids: Sequence[str]) -> list[str] | None:
    """Ids of printable ASCII as they stand in a path and in a key on the wire; None where these may differ."""
    lines = "\n".join(ids).lower() + "\n"
    if not _are_slugs(lines):
        lines = _BETWEEN.sub("-", lines)
        if any(":" in one for one in ids) or not _are_slugs(lines):
            return None
    return lines.split("\n")[:-1]


def _are_free(paths: Sequence[str]) -> bool:
    """Whether paths made of slugs are none that are shortened, or belong to Windows or to the product."""
    lengths = [*map(len, paths)]
    return min(lengths) > SHORT and max(lengths) <= MAX_SEGMENT and RESERVED.isdisjoint(paths)


def _column(part: Part, form: Form, rows: Sequence[Cells], ids: Sequence[str]) -> list[str] | str | None:
    """What a part of a prompt is in each of these rows, or in all of them; None where there is something to tell."""
    if isinstance(part, str):
        return part
    if isinstance(part, Field):
        values = [cells[part.at] for cells in rows]
    elif isinstance(part, Moving):
        values = _moving(part.slot.name, form, ids)
    else:
        return None
    if all(values) and True not in map(str.isspace, values):
        return values
    other = part.slot.fallback
    return None if other is None else [value if value and not value.isspace() else other for value in values]


def _moving(name: str, form: Form, ids: Sequence[str]) -> list[str]:
    if name in {"id", f"{OWN}id"}:
        return [*ids]
    if name == "item":
        return [one + form.fitting.cell.suffix for one in ids]
    return [form.facts.get(name, "")] * len(ids)


def _filled(columns: Iterable[list[str] | str | None], count: int) -> list[str] | None:
    """Texts of so many rows, made of what stands in each of their parts."""
    form, moving = "", []
    for column in columns:
        if column is None:
            return None
        form += column.replace("%", "%%") if isinstance(column, str) else "%s"
        if not isinstance(column, str):
            moving.append(column)
    return [form % values for values in (zip(*moving, strict=True) if moving else repeat((), count))]


def _written(texts: list[str] | None) -> list[str] | None:
    """Texts as JSON of ASCII characters, as `json.dumps` has them; None where one is not sent as it stands."""
    if texts is None or not all(texts) or True in map(str.isspace, texts) or max(map(len, texts)) > MAX_PROMPT:
        return None
    joined = "".join(texts)
    if "\r" in joined or "AIza" in joined:
        return None
    if joined.isascii() and joined.isprintable() and '"' not in joined and "\\" not in joined:
        return [f'"{text}"' for text in texts]
    return [*map(encode_basestring_ascii, texts)]
