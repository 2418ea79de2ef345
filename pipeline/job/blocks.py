"""A catalog in blocks of rows, so that what changed in it is found without reading the rest as rows.

A CSV file is cut where its reader is between two rows. From such a place on the same bytes are the same rows, whatever
came before: so a block that has kept its digest is passed over, and only what lies between such blocks is parsed, from
a place that is known to be the start of a row to the next one that is known.
"""

from __future__ import annotations

import csv
import hashlib
import json
import struct
import zlib
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, BinaryIO, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

SIZE = 64
"""Rows of a block."""
_MOST_BYTES = 32 << 20
_MOST_TRIES = 1000
_DIGEST = 16
_BLOCK = struct.Struct(f"<QQ{_DIGEST}s{_DIGEST}sI")
_HEAD = struct.Struct(f"<QQ{_DIGEST}s?")


class Block(NamedTuple):
    """Some rows that follow each other."""

    size: int
    """In bytes."""
    line: int
    """The number of its first line in the file; from 1."""
    digest: bytes
    first: bytes
    """The digest of its first row."""
    ids: bytes = b""
    """The ids of its rows that are wanted; packed."""


@dataclass(frozen=True, slots=True)
class Catalog:
    """A CSV file, by its header and its blocks."""

    header_bytes: int
    header: bytes
    blocks: Sequence[Block]
    is_ended: bool
    """Whether its last row ends with a line break, so that more rows may follow it."""

    def dumps(self) -> bytes:
        head = _HEAD.pack(len(self.blocks), self.header_bytes, self.header, self.is_ended)
        rows = (_BLOCK.pack(*block[:4], len(block.ids)) + block.ids for block in self.blocks)
        return b"".join([head, *rows])

    @classmethod
    def loads(cls, data: bytes) -> Catalog:
        """Raises `struct.error` for what is none."""
        count, header_bytes, header, is_ended = _HEAD.unpack_from(data)
        at, blocks = _HEAD.size, list[Block]()
        for _ in range(count):
            length, line, digest, first, packed = _BLOCK.unpack_from(data, at)
            at += _BLOCK.size
            blocks.append(Block(length, line, digest, first, data[at : at + packed]))
            at += packed
        return cls(header_bytes, header, blocks, is_ended)


class Change(NamedTuple):
    """What differs between a catalog as it was and as it is; unchanged rows may be among them, on both sides."""

    rows: bytes
    """The rows that are there now, below the header; empty where rows were only taken away."""
    number: int
    ids: list[str]
    """The ids of the rows that were there instead."""
    parts: Sequence[Part]
    """The catalog as it is."""

    def now(self, before: Catalog, rows: Iterable[tuple[int, str]], *, rows_of_block: int = SIZE) -> Catalog:
        """The catalog as it is, in blocks. `rows` are those of `self.rows` that are wanted, as for `cut`.

        Raises `OddError` where it is to be cut anew.
        """
        return _joined(self, before, list(rows), rows_of_block)


class Part(NamedTuple):
    """Some rows of a catalog that follow each other: a block as it was, or others."""

    block: int = -1
    """The number of the block of before; -1 for others."""
    lines: int = 0
    """Line breaks in the block."""
    sizes: Sequence[int] = ()
    """The bytes of each of the other rows."""


class OddError(ValueError):
    """The file is not read by lines as the reader of catalogs does."""


def cut(stream: BinaryIO, delimiter: str, rows: Iterable[tuple[int, str]], *, rows_of_block: int = SIZE) -> Catalog:
    """A catalog in blocks. `rows` are those that are wanted, in their order: the number of the first line, and the id.

    Raises `OddError`, `csv.Error` or `UnicodeError` for a file that cannot be cut.
    """
    reader = _rows(stream, delimiter, is_start=True)
    header = next(reader, b"")
    blocks, line, last = list[Block](), 1 + header.count(b"\n"), header
    while page := list(islice(reader, rows_of_block)):
        data = b"".join(page)
        blocks.append(Block(len(data), line, _digest(data), _digest(page[0])))
        line, last = line + data.count(b"\n"), page[-1]
    named = _named(blocks, iter(rows))
    return Catalog(len(header), _digest(header), list(named), is_ended=last.endswith(b"\n"))


def _named(blocks: Sequence[Block], rows: Iterator[tuple[int, str]]) -> Iterator[Block]:
    """The blocks with the ids of their rows."""
    row = next(rows, None)
    ends = [*(later.line for later in blocks[1:]), float("inf")]
    for block, end in zip(blocks, ends, strict=False):
        ids: list[str] = []
        while row is not None and row[0] < end:
            ids.append(row[1])
            row = next(rows, None)
        yield block._replace(ids=_packed(ids))


def _packed(ids: Sequence[str]) -> bytes:
    return zlib.compress(json.dumps(ids).encode(), 1)


def changed(before: Catalog, stream: BinaryIO, delimiter: str) -> Change | None:
    """What differs in a catalog; `None` where its header does, or so much that it is as well read from the start.

    Raises as `cut` does.
    """
    walk = _Walk(before, stream, delimiter)
    if _digest(header := stream.read(before.header_bytes)) != before.header:
        return None
    while walk.goes_on():
        pass
    if walk.is_lost:
        return None
    ids = [one for block in walk.left for one in json.loads(zlib.decompress(block.ids))]
    return Change(header + bytes(walk.rows) if walk.number else b"", walk.number, ids, walk.parts)


def _joined(change: Change, before: Catalog, rows: list[tuple[int, str]], rows_of_block: int) -> Catalog:
    """A catalog of the blocks that have stayed, and of new ones for the rows between them."""
    blocks, is_ended = list[Block](), before.is_ended
    header = change.rows[: before.header_bytes]
    if change.number and not header.endswith(b"\n"):
        raise OddError("what was a header without an end goes on")
    at, line = before.header_bytes, 1 + header.count(b"\n")  # in the rows that were read
    found = _Lines(before.blocks[0].line if before.blocks else line)
    named = iter(rows)
    row = next(named, None)
    for part in change.parts:
        if part.block >= 0:
            block = before.blocks[part.block]
            blocks.append(block._replace(line=found.then(part.lines)))
            is_ended = before.is_ended or part.block < len(before.blocks) - 1
        for start in range(0, len(part.sizes), rows_of_block):
            sizes = part.sizes[start : start + rows_of_block]
            data = change.rows[at : at + sum(sizes)]
            ids, end = list[str](), line + data.count(b"\n") + (not data.endswith(b"\n"))
            while row is not None and row[0] < end:
                ids.append(row[1])
                row = next(named, None)
            blocks.append(
                Block(len(data), found.then(data.count(b"\n")), _digest(data), _digest(data[: sizes[0]]), _packed(ids))
            )
            at, line, is_ended = at + len(data), end, data.endswith(b"\n")
    return Catalog(before.header_bytes, before.header, blocks, is_ended)


class _Lines:
    """Counts lines."""

    def __init__(self, first: int) -> None:
        self._next = first

    def then(self, lines: int) -> int:
        """The number of the line that so many begin with, which follow those of before."""
        line, self._next = self._next, self._next + lines
        return line


class _Walk:
    """The way through a catalog, from one start of a row to another."""

    def __init__(self, before: Catalog, stream: BinaryIO, delimiter: str) -> None:
        self._before, self._stream, self._delimiter = before, stream, delimiter
        self._at, self._next, self._tries = before.header_bytes, 0, 0
        self._firsts = {block.first: number for number, block in reversed([*enumerate(before.blocks)])}
        self.rows, self.number = bytearray(), 0
        self.parts: list[Part] = []
        self.left: list[Block] = []
        """The blocks that are not there any more as they were."""
        self.is_lost = False

    def goes_on(self) -> bool:
        """Pass over the block that is expected here, or over all that lies here instead; false at the end."""
        if self._next < len(self._before.blocks) and self._passes(self._next):
            return True
        self._stream.seek(self._at)
        sizes: list[int] = []
        for row in _rows(self._stream, self._delimiter):
            if self._meets(row, sizes):
                return True
            self.rows += row
            self.number += 1
            sizes.append(len(row))
            self._at += len(row)
            if len(self.rows) > _MOST_BYTES or self._tries > _MOST_TRIES:
                self.is_lost = True
                return False
        self.left += self._before.blocks[self._next :]
        self.parts.append(Part(sizes=sizes))
        return False

    def _meets(self, row: bytes, sizes: list[int]) -> bool:
        """Whether a block of before begins with this row; it is passed over then."""
        number = self._firsts.get(_digest(row), -1)
        if number < self._next:
            return False
        self._tries += 1
        before, self._next = self._next, number
        self.parts.append(Part(sizes=sizes))
        if self._passes(number):
            self.left += self._before.blocks[before:number]
            return True
        self._next = before
        self.parts.pop()
        self._stream.seek(self._at + len(row))
        return False

    def _passes(self, number: int) -> bool:
        block, is_last = self._before.blocks[number], number == len(self._before.blocks) - 1
        self._stream.seek(self._at)
        if _digest(data := self._stream.read(block.size)) != block.digest:
            return False
        if is_last and not self._before.is_ended and self._stream.read(1):
            return False
        self.parts.append(Part(number, data.count(b"\n")))
        self._at += block.size
        self._next = number + 1
        return True


def _rows(stream: BinaryIO, delimiter: str, *, is_start: bool = False) -> Iterator[bytes]:
    """The bytes of each row, as the reader of catalogs finds it."""
    pieces: list[bytes] = []

    def lines() -> Iterator[str]:
        encoding = "utf-8-sig" if is_start else "utf-8"
        while line := stream.readline():
            if b"\0" in line or line.count(b"\r") != line.endswith(b"\r\n"):
                raise OddError("a line break or a NUL within a line")
            pieces.append(line)
            yield line.decode(encoding)
            encoding = "utf-8"

    for _cells in csv.reader(lines(), delimiter=delimiter, strict=True):
        yield b"".join(pieces)
        pieces.clear()


def _digest(data: bytes) -> bytes:
    return hashlib.sha256(data).digest()[:_DIGEST]
