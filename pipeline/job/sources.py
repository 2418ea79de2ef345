"""Where items come from, read line by line: CSV, TSV, JSONL, a list in the manifest, a glob of images.

Nothing here holds a catalog: a million rows take the memory of one.
"""

from __future__ import annotations

import csv
import json
import os
import stat
from contextlib import contextmanager
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any, NamedTuple, TextIO

from pipeline.errors import JobError, Problem
from pipeline.job.problems import Place, Source, quoted, shown
from pipeline.job.yaml12 import List, Map

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from pipeline.job.yaml12 import Node

MAX_LINE = 4_000_000
"""Characters of one line of a catalog, and of one cell."""
_MAGIC = frozenset("*?[")
_SHOWN = 200
_DELIMITERS = {";": '";"', "\t": '"\\t"', "|": '"|"'}


class Line(NamedTuple):
    """One row as it was read; `names` is the same object for rows with the same columns."""

    file: str
    number: int
    names: tuple[str, ...]
    cells: Sequence[str]
    text: str = ""
    """How the row starts, for the excerpt."""
    facts: Mapping[str, str] = {}
    """The built-ins of an image."""
    id: str = ""
    """Given by the source itself: the path of an image."""
    set: Map | None = None


@contextmanager
def opened(path: Path, encoding: str, place: Place) -> Iterator[TextIO]:
    """A catalog open for reading; refuses what is no regular file, and one that changes meanwhile."""
    try:
        before = path.stat()
        _check_kind(path, before.st_mode, place)
        with path.open(encoding="utf-8-sig" if encoding == "utf-8" else encoding, newline="") as stream:
            yield stream
            after = os.fstat(stream.fileno())
    except FileNotFoundError:
        raise JobError([place.problem(f"there is no file {quoted(shown(path))}")]) from None
    except OSError as error:
        raise JobError([place.problem(f"cannot read {quoted(shown(path))}: {error.strerror}")]) from None
    if (before.st_size, before.st_mtime_ns) != (after.st_size, after.st_mtime_ns):
        raise JobError(
            [Place(Source(shown(path))).problem("changed while it was read", "run again when it is complete")]
        )


def _check_kind(path: Path, mode: int, place: Place) -> None:
    if stat.S_ISREG(mode):
        return
    kind = "a folder" if stat.S_ISDIR(mode) else "a pipe" if stat.S_ISFIFO(mode) else "a device or socket"
    raise JobError([place.problem(f"{quoted(shown(path))} is {kind}, not a file")])


class _Lines:
    """The lines of a stream, counted, bounded and free of NUL."""

    def __init__(self, stream: TextIO, file: str) -> None:
        self._stream = stream
        self.file = file
        self.number = 0
        self.text = ""

    def __iter__(self) -> _Lines:
        return self

    def __next__(self) -> str:
        line = self._stream.readline(MAX_LINE)
        if not line:
            raise StopIteration
        self.number += 1
        self.text = line
        if "\0" in line:
            self.refuse("a NUL character", column=line.index("\0") + 1, hint="is it text? save it as UTF-8")
        if len(line) == MAX_LINE and not line.endswith(("\n", "\r")):
            self.refuse(f"a line of more than {MAX_LINE:,} characters")
        return line

    def problem(self, message: str, hint: str = "", *, number: int = 0, column: int = 1) -> Problem:
        line = "" if number and number != self.number else self.text.rstrip("\r\n")[:_SHOWN]
        return Problem(self.file, number or self.number, column, message, hint, line)

    def refuse(self, message: str, *, number: int = 0, column: int = 1, hint: str = "") -> None:
        raise JobError([self.problem(message, hint, number=number, column=column)])


def table(path: Path, place: Place, *, delimiter: str, encoding: str) -> Iterator[Line | Problem]:
    """The rows of a CSV or TSV file; what is wrong with a single row comes in its place."""
    csv.field_size_limit(MAX_LINE)
    with _reading(path, encoding, place) as lines:
        rows = csv.reader(lines, delimiter=delimiter, strict=True)
        start = 1
        try:
            names = _header(next(rows, None), lines, delimiter)
            start = lines.number + 1
            for cells in rows:
                if len(cells) == len(names):
                    yield Line(lines.file, start, names, cells, lines.text)
                elif cells:
                    yield lines.problem(_ragged(len(cells), len(names)), number=start)
                start = lines.number + 1
        except csv.Error as error:
            lines.refuse(*_csv_words(str(error)), number=start)


@contextmanager
def _reading(path: Path, encoding: str, place: Place) -> Iterator[_Lines]:
    with opened(path, encoding, place) as stream:
        lines = _Lines(stream, shown(path))
        try:
            yield lines
        except UnicodeError as error:
            raise JobError([_undecodable(path, encoding, error)]) from None


def _undecodable(path: Path, encoding: str, error: UnicodeError) -> Problem:
    """Where the bytes stop being text: looked for again, as the stream reads ahead."""
    whole = Place(Source(shown(path)))
    hint = "save it as UTF-8, or name its encoding: items: {…, encoding: cp1252}"
    with path.open("rb") as stream:
        if stream.read(2) in {b"\xff\xfe", b"\xfe\xff"}:
            return whole.problem("is UTF-16", "save it as UTF-8, or say encoding: utf-16")
        if "\n".encode(encoding) != b"\n":
            return whole.problem(f"is not {encoding.upper()}: {error}", hint)
        stream.seek(0)
        for number, line in enumerate(iter(lambda: stream.readline(MAX_LINE), b""), 1):
            try:
                line.decode(encoding)
            except UnicodeDecodeError as bad:
                column = len(line[: bad.start].decode(encoding, "replace")) + 1
                message = f"byte 0x{line[bad.start]:02x} is not {encoding.upper()}"
                return Problem(whole.source.file, number, column, message, hint)
    return whole.problem(f"is not {encoding.upper()}: {error}", hint)


def _header(cells: list[str] | None, lines: _Lines, delimiter: str) -> tuple[str, ...]:
    if not cells:
        lines.refuse(
            "is empty" if cells is None else "the first line is empty",
            number=max(lines.number, 1),
            hint="the first line names the columns",
        )
    names = tuple(name.strip() for name in cells or ())
    if len(names) == 1:
        for other, written in _DELIMITERS.items():
            if other != delimiter and other in names[0]:
                lines.refuse(
                    f"one column {quoted(names[0])}", hint=f"is it separated otherwise? say delimiter: {written}"
                )
    for number, name in enumerate(names, 1):
        if not name:
            lines.refuse(f"column {number} has no name", hint="name it, or delete the column")
    return names


def _ragged(cells: int, names: int) -> str:
    return f"{cells} cell{'s' if cells > 1 else ''}, but the header names {names} column{'s' if names > 1 else ''}"


def _csv_words(error: str) -> tuple[str]:
    if "end of data" in error:
        return ("a quote is opened in this row and never closed",)
    if "limit" in error:
        return (f"a cell of more than {MAX_LINE:,} characters; a quote opened in this row may never be closed",)
    if "expected after" in error:
        return ("text after a closing quote; a quote inside a quoted cell is written twice",)
    return (f"is not CSV: {error}",)


def json_lines(path: Path, place: Place, *, encoding: str) -> Iterator[Line | Problem]:
    """The rows of a JSONL file: one flat object a line, its values as texts."""
    known: dict[tuple[str, ...], tuple[str, ...]] = {}
    with _reading(path, encoding, place) as lines:
        for line in lines:
            if line.isspace():
                continue
            try:
                names, cells = _flat(line)
            except (ValueError, RecursionError) as error:
                yield lines.problem(_json_words(error))
                continue
            if len(known) > 1000:  # noqa: PLR2004 - rows that all differ must not pile up
                known.clear()
            yield Line(lines.file, lines.number, known.setdefault(names, names), cells, line)


def _flat(line: str) -> tuple[tuple[str, ...], list[str]]:
    row = _DECODER.decode(line)
    if type(row) is not tuple:
        raise ValueError("a row is an object: {...}")
    names, cells = [], []
    for name, value in row:
        if type(value) is not str:
            value = _text(name, value)  # noqa: PLW2901 - the fast path is a text already
        names.append(name)
        cells.append(value)
    if "\\u" in line:
        _check_text(names + cells)
    return tuple(names), cells


def _text(name: str, value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    kind = "a list" if isinstance(value, list) else "an object"
    raise ValueError(f"{quoted(name)} is {kind}; a row holds texts, numbers, true and false")


def _check_text(texts: list[str]) -> None:
    for text in texts:
        if "\0" in text:
            raise ValueError("a NUL character")
        try:
            text.encode()
        except UnicodeEncodeError:
            raise ValueError("half a surrogate pair (\\ud800 to \\udfff alone) is no character") from None


def _refuse_constant(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")


_DECODER = json.JSONDecoder(object_pairs_hook=tuple, parse_int=str, parse_float=str, parse_constant=_refuse_constant)


def _json_words(error: Exception) -> str:
    if isinstance(error, RecursionError):
        return "nested too deep; a row holds texts, numbers, true and false"
    if isinstance(error, json.JSONDecodeError):
        return f"is not JSON: {error.msg} (character {error.colno})"
    return str(error)


def written_rows(rows: List) -> Iterator[Line | Problem]:
    """The rows of a list in the manifest: texts, or maps of texts."""
    known: dict[tuple[str, ...], tuple[str, ...]] = {}
    for node in rows.nodes:
        where = node.place
        if isinstance(node.value, Map):
            names = tuple(node.value)
            cells = [text_of(node.value.nodes[name]) for name in names]
        else:
            names, cells = ("item",), [text_of(node)]
        lines = where.source.lines
        yield Line(where.source.file, where.line, known.setdefault(names, names), cells, lines[where.line - 1])


def text_of(node: Node) -> str:
    """The text of a scalar as written; nothing for null."""
    return "" if node.value is None else node.text or ""


def images(folder: Path, pattern: str, place: Place) -> Iterator[Line | Problem]:
    """The files a glob names, by relative path in code-point order."""
    top, rest = fixed_part(pattern)
    base = folder / top
    if not rest:
        raise JobError([place.problem(f"{quoted(pattern)} names one file, not a glob", "such as photos/*.jpg")])
    try:
        found = sorted(path.relative_to(base).as_posix() for path in base.glob(rest) if _is_wanted(path, base, rest))
    except (OSError, ValueError) as error:
        raise JobError([place.problem(f"{quoted(pattern)} is no glob: {error}")]) from None
    if not found:
        raise JobError([place.problem(f"no file matches {quoted(pattern)}")])
    for below in found:
        file = top / below
        try:
            below.encode()
        except UnicodeEncodeError:
            yield place.problem(f"the file name {quoted(below)} is not UTF-8", "rename it")
            continue
        parent = file.parent.name or folder.name
        facts = {"file": str(file), "stem": file.stem, "name": file.name, "folder": parent}
        yield Line(shown(folder / file), 0, (), (), facts=facts, id=str(PurePosixPath(below).with_suffix("")))


def fixed_part(pattern: str) -> tuple[PurePosixPath, str]:
    """A glob's folders before the first wildcard, and the pattern that is left below them."""
    parts = PurePosixPath(pattern).parts
    first = next((number for number, part in enumerate(parts) if _MAGIC & set(part)), len(parts))
    return PurePosixPath(*parts[:first]), "/".join(parts[first:])


def is_glob(text: str) -> bool:
    return bool(_MAGIC & set(text))


def _is_wanted(path: Path, base: Path, pattern: str) -> bool:
    hidden = any(part.startswith(".") for part in path.relative_to(base).parts)
    return (not hidden or "/." in f"/{pattern}") and not path.is_dir()
