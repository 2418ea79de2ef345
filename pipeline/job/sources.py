"""Where items come from, read line by line: CSV, TSV, JSONL, a list in the manifest, a glob of images.

Nothing here holds a catalog: a million rows take the memory of one.
"""

from __future__ import annotations

import csv
import io
import itertools
import json
import os
import re
import stat
from contextlib import contextmanager
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any, BinaryIO, NoReturn, TextIO

from pipeline.errors import JobError, Problem
from pipeline.job.globs import Folders, GlobError, fixed_part, is_url, matching, near, why_none
from pipeline.job.lines import Header, Line, cell_starts, member_starts, place_in
from pipeline.job.problems import Place, Source, file_name, quoted, shown
from pipeline.job.yaml12 import List, Map

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from io import TextIOWrapper
    from pathlib import Path

    from pipeline.job.yaml12 import Node

MAX_ROW = 4_000_000
"""Characters of one row of a catalog."""
MAX_COLUMNS = 10_000
_URL = re.compile(r"(?:^|/)([A-Za-z][A-Za-z0-9+.-]+:)/(?=[^/])")
"""Where a URL begins in a path, in which two slashes are one."""
_WORKBOOKS = (b"PK\x03\x04", b"\xd0\xcf\x11\xe0")
_PAGE = re.compile(rb"(?:\xef\xbb\xbf)?\s*<(?:!doctype|html)\b", re.IGNORECASE)
_DELIMITERS = {";": '";"', "\t": '"\\t"', "|": '"|"'}


@contextmanager
def opened(path: Path, encoding: str, place: Place) -> Iterator[TextIO]:
    """A catalog open for reading; refuses what is no regular file, and one that changes meanwhile."""
    try:
        before = path.stat()
        _check_kind(path, before.st_mode, place)
        with path.open(encoding="utf-8-sig" if encoding == "utf-8" else encoding, newline="") as stream:
            _refuse_stranger(stream, path)
            yield stream
            after = os.fstat(stream.fileno())
    except (FileNotFoundError, NotADirectoryError):
        raise JobError([_missing(path, place)]) from None
    except OSError as error:
        raise JobError([place.problem(f"cannot read {file_name(path)}: {error.strerror}")]) from None
    if (before.st_size, before.st_mtime_ns) != (after.st_size, after.st_mtime_ns):
        raise JobError(
            [Place(Source(shown(path))).problem("changed while it was read", "run again when it is complete")]
        )


def _missing(path: Path, place: Place) -> Problem:
    if url := _URL.search(path.as_posix()):
        text = f"{url[1]}//{path.as_posix()[url.end() :]}"
        return place.problem(f"{quoted(text)} is a URL", "download it, and name the file")
    return place.problem(f"there is no file {file_name(path)}{near(path)}")


def _refuse_stranger(stream: TextIOWrapper, path: Path) -> None:
    """Refuse what no encoding makes a catalog, by its first bytes."""
    head, whole = stream.buffer.peek(64), Place(Source(shown(path)))  # type: ignore[attr-defined]
    if head.startswith(_WORKBOOKS):
        raise JobError([whole.problem("is an Excel workbook", "save it as CSV (UTF-8), and name that file")])
    if _PAGE.match(head):
        hint = "was the download a login page? open it in a browser"
        raise JobError([whole.problem("is a web page, not a catalog", hint)])


def _check_kind(path: Path, mode: int, place: Place) -> None:
    if stat.S_ISREG(mode):
        return
    kind = "a folder" if stat.S_ISDIR(mode) else "a pipe" if stat.S_ISFIFO(mode) else "a device or socket"
    raise JobError([place.problem(f"{file_name(path)} is {kind}, not a file")])


class _Lines:
    """The lines of a stream, counted, bounded and free of NUL; keeps those of the row that is being read."""

    def __init__(self, stream: TextIO, file: str) -> None:
        self._stream = stream
        self.file = file
        self.number = 0
        self.row: list[str] = []
        """Whoever reads rows puts a new list here after each."""
        self.delimiter = ""
        """Of the cells, where a row has cells that quotes may keep open."""

    def __iter__(self) -> Iterator[str]:
        readline, size = self._stream.readline, 0
        while line := readline(MAX_ROW):
            self.number += 1
            size = size + len(line) if self.row else len(line)
            self.row.append(line)
            if "\0" in line:
                self.refuse("a NUL character", size - len(line) + line.index("\0"), "is it text? save it as UTF-8")
            if size >= MAX_ROW:
                self._refuse_row()
            yield line

    def _refuse_row(self) -> NoReturn:
        if len(self.row) == 1:
            self.refuse(f"a line of more than {MAX_ROW:,} characters")
        *_, last = cell_starts("".join(self.row), self.delimiter or "\n")
        self.refuse(f"a row of more than {MAX_ROW:,} characters; a quote opened in it may never be closed", last)

    def place(self, index: int = 0) -> Place:
        """The place of a character of the row that is being read."""
        return place_in(self.file, self.number - len(self.row) + 1, "".join(self.row), index)

    def refuse(self, message: str, index: int = 0, hint: str = "") -> NoReturn:
        raise JobError([self.place(index).problem(message, hint)])


def table(path: Path, place: Place, *, delimiter: str, encoding: str) -> Iterator[Header | Line | Problem]:
    """The header of a CSV or TSV file, then its rows; what is wrong with a single row comes in its place."""
    csv.field_size_limit(MAX_ROW)
    with _reading(path, encoding, place) as lines:
        lines.delimiter = delimiter
        rows = csv.reader(lines, delimiter=delimiter, strict=True)
        try:
            header = _header(next(rows, None), lines, delimiter)
            yield header
            yield from _rows(rows, header, lines)
        except csv.Error as error:
            *_, last = cell_starts("".join(lines.row), delimiter)
            lines.refuse(_csv_words(str(error)), last)


def pages(path: Path, span: tuple[int, int], *, delimiter: str, columns: int, most: int) -> Iterator[list[list[str]]]:
    """The rows in these bytes of a file in UTF-8 that `table` reads, without its header; so many at a time.

    Raises `ValueError` or `csv.Error` for whatever it takes `table` to tell; so for a row that is cut.
    """
    start, end = span
    with path.open("rb") as stream:
        stream.seek(start)
        text = stream.read(end - start).decode("utf-8" if start else "utf-8-sig")
    if len(text) >= MAX_ROW or "\0" in text:
        raise ValueError("a row too long, or no text")
    csv.field_size_limit(MAX_ROW)
    split = rows_of(text, delimiter)
    rows = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True) if split is None else iter(split)
    if not start:
        next(rows)
    while page := [*itertools.islice(rows, most)]:
        if set(map(len, page)) != {columns}:
            page = [row for row in page if row]  # a line with nothing in it is no row
            if set(map(len, page)) - {columns}:
                raise ValueError("a row of other columns")
        yield page


def rows_of(text: str, delimiter: str) -> list[list[str]] | None:
    """What `csv.reader` makes of a text without a NUL, in a fraction of the time; None where only that can tell."""
    outside, *rest = text.split('"')
    bare = "\0".join([outside, *rest[1::2]])  # each cell in quotes is a NUL
    if "\r" in bare:
        if bare.count("\r") > bare.count("\r\n"):
            return None
        bare = bare.replace("\r\n", "\n")
    rows = [line.split(delimiter) if line else [] for line in bare.removesuffix("\n").split("\n")]
    if not rest:
        return rows
    quoted = iter(rest[::2])
    for row in rows:
        for _ in range(row.count("\0")):
            row[row.index("\0")] = next(quoted)
    is_whole = len(rest) % 2 == 0 and next(quoted, None) is None  # or quotes are in the midst of cells, or in quotes
    return rows if is_whole else None


def spans(path: Path, size: int, *, by_rows: bool = False) -> list[tuple[int, int]] | None:
    """Parts of a file of some `size` bytes each that end where lines do; None where it has no lines to speak of.

    `by_rows` they end where rows do, unless quotes stand in the midst of cells; for that all of the file is read.
    """
    ends, total = [0], path.stat().st_size
    with path.open("rb") as stream:
        while ends[-1] + size < total:
            is_whole = _pass_rows(stream, size) if by_rows else _pass_lines(stream, size)
            if not is_whole or stream.tell() > ends[-1] + size + MAX_ROW:
                return None
            ends.append(stream.tell())
    if ends[-1] < total:
        ends.append(total)
    return list(itertools.pairwise(ends))


def _pass_lines(stream: BinaryIO, size: int) -> bool:
    """Go on by so many bytes, and to the end of the line there; false where there is none."""
    stream.seek(size, os.SEEK_CUR)
    return stream.readline(MAX_ROW).endswith(b"\n")


def _pass_rows(stream: BinaryIO, size: int) -> bool:
    """The same, and to the end of a line that is not in quotes."""
    quotes, line = stream.read(size).count(b'"'), b""
    while not line or quotes % 2:
        line = stream.readline(MAX_ROW)
        if not line.endswith(b"\n"):
            return False
        quotes += line.count(b'"')
    return True


_NO_FACTS: Mapping[str, str] = {}


def _rows(rows: Iterator[list[str]], header: Header, lines: _Lines) -> Iterator[Line | Problem]:
    names, count, file = header.names, len(header.names), lines.file
    lines.row = []
    for cells in rows:
        row, lines.row = lines.row, []
        number = lines.number - len(row) + 1
        text = row[0] if len(row) == 1 else "".join(row)
        line = Line._make((file, number, names, cells, text, header, None, _NO_FACTS, ""))
        if len(cells) == count:
            yield line
        elif cells:
            yield _ragged(line)


def _ragged(line: Line) -> Problem:
    cells, names = len(line.cells), len(line.names)
    message = f"{cells} cell{'s' if cells > 1 else ''}, but the header names {names} column{'s' if names > 1 else ''}"
    if cells < names:
        return line.problem(message, "is a delimiter missing? a cell with a line break in it needs quotes")
    return line.problem(message, 'a cell with the delimiter in it needs quotes: "a, b"', at=names)


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
    hint = "save it as UTF-8, or name its encoding: {…, encoding: cp1252}"
    with path.open("rb") as stream:
        if stream.read(2) in {b"\xff\xfe", b"\xfe\xff"}:
            return whole.problem("is UTF-16", "save it as UTF-8, or say encoding: utf-16")
        if "\n".encode(encoding) != b"\n":
            return whole.problem(f"is not {encoding.upper()}: {error}", hint)
        stream.seek(0)
        for number, line in enumerate(iter(lambda: stream.readline(MAX_ROW), b""), 1):
            try:
                line.decode(encoding)
            except UnicodeDecodeError as bad:
                before = line[: bad.start].decode(encoding, "replace")
                text = before + line[bad.start : bad.start + 200].decode(encoding, "replace")
                message = f"byte 0x{line[bad.start]:02x} is not {encoding.upper()}"
                return place_in(whole.source.file, number, text, len(before)).problem(message, hint)
    return whole.problem(f"is not {encoding.upper()}: {error}", hint)


def _header(cells: list[str] | None, lines: _Lines, delimiter: str) -> Header:
    if not cells:
        place = Place(Source(lines.file), 1, 1)
        message = "is empty" if cells is None else "the first line is empty"
        raise JobError([place.problem(message, "the first line names the columns")])
    names = tuple(name.strip() for name in cells)
    header = Header(lines.file, names, "".join(lines.row), delimiter)
    if len(names) > MAX_COLUMNS:
        lines.refuse(f"{len(names):,} columns; at most {MAX_COLUMNS:,}")
    for other, written in _DELIMITERS.items():
        if len(names) == 1 and other != delimiter and other in names[0]:
            lines.refuse(f"one column {quoted(names[0])}", hint=f"is it separated otherwise? say delimiter: {written}")
    if unnamed := [at for at, name in enumerate(names) if not name]:
        hint = "name it, or delete the column"
        raise JobError([header.name_place(at).problem(f"column {at + 1} has no name", hint) for at in unnamed[:50]])
    return header


def _csv_words(error: str) -> str:
    if "end of data" in error:
        return "a quote is opened in this row and never closed"
    if "expected after" in error:
        return "text after a closing quote; a quote inside a quoted cell is written twice"
    return f"is not CSV: {error}"


def json_lines(path: Path, place: Place, *, encoding: str) -> Iterator[Line | Problem]:
    """The rows of a JSONL file: one flat object a line, its values as texts."""
    known: dict[tuple[str, ...], tuple[str, ...]] = {}
    is_empty = True
    with _reading(path, encoding, place) as lines:
        for line in lines:
            lines.row = []
            if line.isspace():
                continue
            is_empty = False
            try:
                names, cells = _flat(line)
            except (ValueError, RecursionError) as error:
                yield _json_problem(error, lines, line)
                continue
            if len(known) > 1000:  # noqa: PLR2004 - rows that all differ must not pile up
                known.clear()
            yield Line(lines.file, lines.number, known.setdefault(names, names), cells, line)
    if is_empty:
        raise JobError([Place(Source(shown(path)), 1, 1).problem("is empty", "each line is a row: {...}")])


class _CellError(ValueError):
    """One member of a row cannot be a cell."""

    def __init__(self, message: str, at: int, hint: str = "") -> None:
        super().__init__(message)
        self.at = at
        self.hint = hint


def _flat(line: str) -> tuple[tuple[str, ...], list[str]]:
    row = _DECODER.decode(line)
    if type(row) is not tuple:
        raise ValueError("a row is an object: {...}")
    names: list[str] = []
    cells: list[str] = []
    for name, value in row:
        if type(value) is not str:
            value = _text(name, value, len(cells))  # noqa: PLW2901 - the fast path is a text already
        names.append(name)
        cells.append(value)
    if len(names) > MAX_COLUMNS:
        raise ValueError(f"{len(names):,} fields; at most {MAX_COLUMNS:,}")
    if "\\u" in line:
        _check_texts(names)
        _check_texts(cells)
    return tuple(names), cells


def _text(name: str, value: Any, at: int) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    message = f"{quoted(name)} is {'a list' if isinstance(value, list) else 'an object'}; a row holds "
    if name != "set" or isinstance(value, list):
        raise _CellError(f"{message}texts, numbers, true and false", at)
    word, setting = next(((word, one) for word, one in value if type(one) is str), ("aspect", "16:9"))
    hint = f'write a field for each setting: "set.{word[:40]}": {json.dumps(setting[:40], ensure_ascii=False)}'
    raise _CellError(f"{message}texts", at, hint)


def _check_texts(texts: list[str]) -> None:
    for at, text in enumerate(texts):
        if "\0" in text:
            raise _CellError("a NUL character", at)
        try:
            text.encode()
        except UnicodeEncodeError:
            raise _CellError("half a surrogate pair (\\ud800 to \\udfff alone) is no character", at) from None


def _refuse_constant(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")


_DECODER = json.JSONDecoder(object_pairs_hook=tuple, parse_int=str, parse_float=str, parse_constant=_refuse_constant)


def _json_problem(error: Exception, lines: _Lines, line: str) -> Problem:
    """What is wrong with a line of JSONL, where it is wrong."""
    message, hint, index = str(error), "", 0
    if isinstance(error, RecursionError):
        message = "nested too deep; a row holds texts, numbers, true and false"
    elif isinstance(error, json.JSONDecodeError):
        message, index = f"is not JSON: {error.msg}", min(error.pos, len(line.rstrip("\r\n")))
    elif isinstance(error, _CellError):
        hint = error.hint
        index = next((value for at, (_name, value) in enumerate(member_starts(line)) if at == error.at), 0)
    elif word := re.match(r"NaN|-?Infinity", message):
        index = next((value for _name, value in member_starts(line) if line.startswith(word.group(), value)), 0)
    return place_in(lines.file, lines.number, line, index).problem(message, hint)


def written_rows(rows: List) -> Iterator[Line | Problem]:
    """The rows of a list in the manifest: texts, or maps of texts with the settings of the item as `set`."""
    known: dict[tuple[str, ...], tuple[str, ...]] = {}
    for node in rows.nodes:
        names: tuple[str, ...] = ("item",)
        nodes, settings = [node], None
        if isinstance(node.value, Map):
            names = tuple(name for name in node.value if name != "set")
            nodes, settings = [node.value.nodes[name] for name in names], node.value.get("set")
        cells, where = list(map(text_of, nodes)), node.place
        yield Line(where.source.file, where.line, known.setdefault(names, names), cells, "", node, settings)


def text_of(node: Node) -> str:
    """The text of a scalar as written; nothing for null."""
    return "" if node.value is None else node.text or ""


def images(
    folder: Path, pattern: str, place: Place, *, above: Path, folders: Folders | None = None
) -> Iterator[Line | Problem]:
    """The files a glob names, by relative path in code-point order; `file` is what leads to one from `above`."""
    if is_url(pattern):
        raise JobError([place.problem(f"{quoted(pattern)} is a URL", "download it, and name the file")])
    top, rest = fixed_part(pattern)
    base = folder / top
    if not rest:
        raise JobError([place.problem(f"{quoted(pattern)} names one file, not a glob", "such as photos/*.jpg")])
    try:
        found = [PurePosixPath(name).relative_to(top).as_posix() for name in matching(pattern, folder, folders=folders)]
    except GlobError as error:
        raise JobError([place.problem(str(error), error.hint)]) from None
    if not found:
        raise JobError([place.problem(*why_none(pattern, folder))])
    if folder != above and not top.is_absolute():
        top = PurePosixPath(os.path.relpath(base, above))
    for below in found:
        file = top / below
        try:
            below.encode()
        except UnicodeEncodeError:
            yield place.problem(f"the file name {quoted(below)} is not UTF-8", "rename it")
            continue
        parent = (base / below).parent.name
        facts = {"file": str(file), "stem": file.stem, "name": file.name, "folder": parent}
        yield Line(shown(base / below), 0, (), (), facts=facts, id=str(PurePosixPath(below).with_suffix("")))
