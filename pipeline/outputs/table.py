"""`manifest.csv`: the records of an output manifest for spreadsheets, a row for each."""

from __future__ import annotations

import codecs
import re
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

_COLUMNS = (
    "key", "id", "item", "status", "reason", "path", "width", "height", "bytes", "sha256", "model", "aspect", "size",
    "prompt", "alt", "cost", "at",
)  # fmt: skip
_FORMULA = frozenset("=+-@\t\r\n\uff1d\uff0b\uff0d\uff20")


def variables(record: Mapping[str, Any]) -> Mapping[str, Any]:
    """The variables of a record: each has a column of its own."""
    return record["vars"] or _NOTHING


def header(names: Iterable[str]) -> bytes:
    """What a table begins with that has these variables."""
    return codecs.BOM_UTF8 + _encoded(_line([*_COLUMNS, *map(_defused, names)]))


def row(record: Mapping[str, Any], names: Iterable[str]) -> bytes:
    """The row of a record in a table that has these variables."""
    return _encoded(_line(_cells(record, names)))


def _cells(record: Mapping[str, Any], names: Iterable[str]) -> list[str]:
    result: Mapping[str, Any] = next(iter(record["files"]), _NOTHING)
    settings = record["settings"] or _NOTHING
    told, of = record.get, result.get
    cells = (
        told("key"), told("id"), told("item"), told("status"), told("reason"),
        of("path"), of("width"), of("height"), of("bytes"), of("sha256"),
        told("model"), settings.get("aspect"), settings.get("size"), told("prompt"),
        (record["metadata"] or _NOTHING).get("alt"), (record["cost"] or _NOTHING).get("amount"), told("at"),
    )  # fmt: skip
    return [
        cell if isinstance(cell, str) and cell.isprintable() and cell[:1] not in _FORMULA else _defused(cell)
        for cell in (*cells, *map(variables(record).get, names))
    ]


def _line(cells: Iterable[str]) -> str:
    """A row with every cell in quotes: the library's writer goes through a text letter by letter."""
    quoted = '","'.join([cell.replace('"', '""') if '"' in cell else cell for cell in cells])
    return f'"{quoted}"\r\n'


def _encoded(text: str) -> bytes:
    return text.encode(errors="backslashreplace")


_NOTHING: Mapping[str, Any] = {}
_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f]")
"""What moves a cursor or sets a title where a table is looked at in a terminal; tabs and line breaks may stay."""


def _defused(cell: object) -> str:
    """A cell that no spreadsheet takes for a formula, and no terminal for a command."""
    if cell is None:
        return ""
    text = cell if isinstance(cell, str) else str(cell)
    if not text.isprintable():
        text = _CONTROL.sub(lambda found: f"\\x{ord(found[0]):02x}", text)
    return f"'{text}" if text[:1] in _FORMULA else text
