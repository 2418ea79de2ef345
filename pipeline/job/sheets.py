"""Rows of the plain kind by the hundred: what forms make of them, column by column.

A sheet says of each of its rows what `Forms.filled` says, in a fraction of the time. Where it takes a look at a row by
itself to tell, there is no sheet, and rows go by forms one after the other.
"""

from __future__ import annotations

import re
from itertools import repeat
from json.encoder import encode_basestring_ascii
from typing import TYPE_CHECKING, Any, NamedTuple

import orjson

from pipeline.job.forms import RESERVED, SHORT
from pipeline.job.paths import OWN
from pipeline.job.placeholders import Field, Moving
from pipeline.job.request import MAX_PROMPT
from pipeline.job.slugs import MAX_SEGMENT

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from pipeline.job.forms import Form, Quick
    from pipeline.job.placeholders import Part

Cells = list[str]
"""Of a row."""


class Column(NamedTuple):
    """What a form makes of the rows of a sheet; a text for each of them."""

    form: Form
    keys: list[str]
    paths: list[str]
    written: list[bytes]
    """The prompts, as JSON texts of ASCII characters."""
    digest: Callable[[], Any]
    """The digest of what stands before the prompt in a canonical ask."""
    after: bytes
    """What stands behind it."""


class Sheet(NamedTuple):
    """Some rows with the same columns, and what each form makes of them."""

    ids: list[str]
    slugs: list[str]
    """The ids as they stand in a path."""
    columns: list[Column]

    def fingerprints(self) -> list[list[str]]:
        """For each form and row, the fingerprint of the ask."""
        found = []
        for column in self.columns:
            prints, after = [], column.after
            for text in column.written:
                digest = column.digest()
                digest.update(text)
                digest.update(after)
                prints.append(digest.hexdigest())
            found.append(prints)
        return found


def sheet_of(quick: Sequence[Quick], rows: Sequence[Cells], ids: list[str]) -> Sheet | None:
    """What forms make of rows with these ids; None where that is to be told row by row."""
    slugs = _slugs(ids)
    if slugs is None:
        return None
    texts: dict[object, list[bytes] | None] = {}
    columns = []
    for form, text, key_tail, tail, digest, after in quick:
        if tail is None:
            return None
        if text not in texts:
            texts[text] = _written(_quoted([_column(part, form, rows, ids) for part in text.bound], len(rows)))
        written, paths = texts[text], [slug + tail for slug in slugs]
        if written is None or not _are_free(paths):
            return None
        columns.append(Column(form, [one + key_tail for one in ids], paths, written, digest, after))
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


def _quoted(columns: Sequence[list[str] | str | None], count: int) -> list[str] | None:
    """So many texts in quotes, made of what stands in each of their parts; None where one may be empty."""
    form, moving, is_said = "", list[list[str]](), False
    for column in columns:
        if column is None:
            return None
        if isinstance(column, str):
            form += column.replace("%", "%%")
            is_said = is_said or bool(column.strip())
        else:
            form += "%s"
            moving.append(column)
    form = f'"{form}"'
    texts = [form % values for values in (zip(*moving, strict=True) if moving else repeat((), count))]
    return texts if is_said or all(text[1:-1].strip() for text in texts) else None


def _written(quoted: list[str] | None) -> list[bytes] | None:
    """Texts in quotes as JSON of ASCII characters, as `json.dumps` has it; None where one is not sent as it stands."""
    if quoted is None or max(map(len, quoted)) > MAX_PROMPT + 2:
        return None
    joined = "".join(quoted)
    if "\r" in joined or "AIza" in joined:
        return None
    if joined.isascii() and "\x7f" not in joined and len(orjson.dumps(joined)) == len(joined) + 2 + 2 * len(quoted):
        return [*map(str.encode, quoted)]  # nothing is written otherwise in JSON but for the quotes around them
    return [encode_basestring_ascii(text[1:-1]).encode() for text in quoted]
