"""How an output manifest lies on the disk: its two files in blocks of records, so that few of them need be written.

A block is some records that follow each other: lines of `manifest.jsonl`, and the rows of `manifest.csv` for them.
"""

from __future__ import annotations

import hashlib
import json
import os
from typing import IO, TYPE_CHECKING, NamedTuple

from pipeline import jsontext
from pipeline.outputs import table as tables

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

SIZE = 1 << 20
"""Bytes of lines from which on a block is full."""
_PIECES = "pieces "
"""How a digest begins that is made of those of blocks."""


class Block(NamedTuple):
    """Some records that follow each other."""

    first: str
    """The key of the first of them."""
    lines_bytes: int
    rows_bytes: int
    sha256: str
    """Of the lines."""
    variables: tuple[str, ...]
    """Of its records, in the order in which they occur."""


class Layout(NamedTuple):
    """The two files, from their first bytes to their last."""

    files: tuple[tuple[int, ...], ...]
    """Inode, size and times of change of the manifest and its table: it says nothing of any other files."""
    header_bytes: int
    """Of the table."""
    blocks: tuple[Block, ...]

    @property
    def variables(self) -> tuple[str, ...]:
        """The variables that the table has columns for."""
        return columns(self.blocks)

    @property
    def digest(self) -> str:
        """What stands for the manifest: it is found out from the file, and from a changed one by what has changed."""
        return _PIECES + hashlib.sha256("".join(block.sha256 for block in self.blocks).encode()).hexdigest()

    def of(self, lines: IO[bytes], rows: IO[bytes]) -> Layout:
        """The same of these two files, as they are once all of them is written."""
        lines.flush()
        rows.flush()
        return self._replace(files=(seen(os.fstat(lines.fileno())), seen(os.fstat(rows.fileno()))))

    def dumps(self) -> str:
        known: dict[tuple[str, ...], int] = {}
        blocks = [(*block[:4], known.setdefault(block.variables, len(known))) for block in self.blocks]
        return json.dumps([self.files, self.header_bytes, [*known], blocks], separators=(",", ":"))

    @classmethod
    def loads(cls, text: str) -> Layout:
        """Raises `ValueError`, `LookupError` or `TypeError` for what is none."""
        files, header_bytes, known, blocks = json.loads(text)
        variables = [tuple(names) for names in known]
        return cls(
            tuple(map(tuple, files)),
            int(header_bytes),
            tuple(
                Block(first, lines_bytes, rows_bytes, sha256, variables[number])
                for first, lines_bytes, rows_bytes, sha256, number in blocks
            ),
        )

    def is_of(self, stream: IO[bytes]) -> bool:
        """Whether the lines of a file are those of all blocks, and no others; reads all of it."""
        digests = (hashlib.sha256(stream.read(block.lines_bytes)).hexdigest() for block in self.blocks)
        return all(map(str.__eq__, digests, (block.sha256 for block in self.blocks))) and not stream.read(1)


def columns(blocks: Iterable[Block]) -> tuple[str, ...]:
    """The variables of all records in blocks, in the order in which they occur."""
    found: dict[str, None] = {}
    for names in dict.fromkeys(block.variables for block in blocks):
        found.update(dict.fromkeys(names))
    return tuple(found)


def is_of_pieces(digest: str | None) -> bool:
    """Whether a digest is one that only a layout can find out."""
    return digest is not None and digest.startswith(_PIECES)


def seen(status: os.stat_result | None) -> tuple[int, ...]:
    """What tells a file from every other, and from itself once it was written to."""
    return () if status is None else (status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)


class Laying:
    """Writes records to the two files, and notes how they lie there."""

    def __init__(self, lines: IO[bytes], rows: IO[bytes], variables: Iterable[str] | None = None) -> None:
        self._lines, self._rows = lines, rows
        self.blocks: list[Block] = []
        self.sizes: list[int] = []
        """How many records each of these blocks has."""
        self.header_bytes = 0
        self.has_all = True
        """Whether the table has a column for every variable: its rows are of no use else."""
        self._names: dict[str, None] = {}
        if variables is not None:
            self._begin(variables)
        self._open()

    def _begin(self, variables: Iterable[str]) -> None:
        self._names = dict.fromkeys(variables)
        self.header_bytes = self._rows.write(tables.header(self._names))

    def _open(self) -> None:
        self._first, self._size, self._rows_bytes, self._count = "", 0, 0, 0
        self._digest, self._variables = hashlib.sha256(), dict[str, None]()

    def take(self, line: bytes) -> None:
        """Write a record, with its line break."""
        record = jsontext.loads(line)
        names = tables.variables(record).keys()
        if not self.header_bytes:
            self._begin(names)
        if not self._count:
            self._first = record["key"]
        if not self._variables.keys() >= names:
            self._variables.update(dict.fromkeys(names))
            self.has_all = self.has_all and self._names.keys() >= names
        self._digest.update(line)
        self._size += self._lines.write(line)
        if self.has_all:
            self._rows_bytes += self._rows.write(tables.row(record, self._names))
        self._count += 1
        if self._size >= SIZE:
            self.close()

    def close(self) -> None:
        """End a block here."""
        if self._count:
            self.sizes.append(self._count)
            self.blocks.append(
                Block(self._first, self._size, self._rows_bytes, self._digest.hexdigest(), tuple(self._variables))
            )
            self._open()

    def end(self, lines: Iterator[str]) -> None:
        """End the files; where the table lacks a column, it is written anew, from the same lines."""
        self.close()
        if not self.header_bytes:
            self._begin(())
        if self.has_all:
            return
        self._rows.seek(0)
        self._rows.truncate()
        self._begin(columns(self.blocks))
        for number, (block, count) in enumerate(zip(self.blocks, self.sizes, strict=True)):
            records = (jsontext.loads(next(lines)) for _ in range(count))
            size = sum(self._rows.write(tables.row(record, self._names)) for record in records)
            self.blocks[number] = block._replace(rows_bytes=size)
