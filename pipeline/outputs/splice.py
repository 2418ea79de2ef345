"""Writing an output manifest of which few records have changed: the rest is copied from the one that is there.

The bytes are those that all of it written anew would have. Whatever is not certain is written anew.
"""

from __future__ import annotations

import hashlib
import os
from bisect import bisect_right
from typing import IO, TYPE_CHECKING

from pipeline import jsontext
from pipeline.durable import ranges
from pipeline.outputs.layout import Block, Laying, Layout, columns, seen

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from pipeline.journal import Journal

MOST = 50_000
"""Keys at hand from which on all is written anew."""

Change = dict[int, list[bytes]]
"""The lines of the blocks that have others, by the number of the block."""


class OtherColumnsError(Exception):
    """The table has other columns by now than the one that is there: no row of it can stay."""


def changes(layout: Layout, lines: IO[bytes], journal: Journal, job: str) -> Change | None:
    """The blocks of a manifest that what is at hand has changed; `None` where all of it must be written anew."""
    keys = journal.others.keys()
    if not layout.blocks or len(keys) > MOST:
        return None
    now = {jsontext.loads(line)["key"]: line.encode() + b"\n" for line in journal.records.published_at_hand(job)}
    firsts, found = [block.first for block in layout.blocks], Change()
    starts = _starts(layout.blocks)
    for number, some in _by_block(firsts, keys).items():
        lines.seek(starts[number][0])
        data = lines.read(layout.blocks[number].lines_bytes)
        if hashlib.sha256(data).hexdigest() != layout.blocks[number].sha256:
            return None
        there = _merged(data, some, now)
        if b"".join(there) != data:
            found[number] = there
    return found


def _by_block(firsts: Sequence[str], keys: Iterable[str]) -> dict[int, list[str]]:
    """The keys by the block that they are in, or would be."""
    found: dict[int, list[str]] = {}
    for key in keys:
        found.setdefault(max(bisect_right(firsts, key) - 1, 0), []).append(key)
    return found


def _merged(data: bytes, keys: Sequence[str], now: Mapping[str, bytes]) -> list[bytes]:
    """The lines of a block, those of some keys as they are now."""
    there = {jsontext.loads(line)["key"]: line + b"\n" for line in data.split(b"\n")[:-1]}
    for key in keys:
        there.pop(key, None)
    there |= {key: now[key] for key in keys if key in now}
    return [there[key] for key in sorted(there)]  # by code points, as by bytes of UTF-8


def _starts(blocks: Iterable[Block]) -> list[tuple[int, int]]:
    """Where each block begins: in the lines, and in the rows behind the header; and where the last one ends."""
    found = [(0, 0)]
    for block in blocks:
        lines, rows = found[-1]
        found.append((lines + block.lines_bytes, rows + block.rows_bytes))
    return found


def write(
    layout: Layout, change: Change, before: tuple[IO[bytes], IO[bytes]], lines: IO[bytes], rows: IO[bytes]
) -> Layout:
    """Write both files, and return how they lie. Raises `OtherColumnsError`, and `OSError` where one cannot be read."""
    laying, starts, blocks = Laying(lines, rows, layout.variables), _starts(layout.blocks), list[Block]()
    number = 0
    while number < len(layout.blocks):
        if number in change:
            done = len(laying.blocks)
            for line in change[number]:
                laying.take(line)
            laying.close()
            blocks += laying.blocks[done:]
            number += 1
            continue
        end = next((at for at in sorted(change) if at > number), len(layout.blocks))
        for source, target, side, header in ((before[0], lines, 0, 0), (before[1], rows, 1, layout.header_bytes)):
            ranges.copy(source, target, header + starts[number][side], starts[end][side] - starts[number][side])
        blocks += layout.blocks[number:end]
        number = end
    if not laying.has_all or columns(blocks) != layout.variables or not blocks:
        raise OtherColumnsError
    return Layout((), laying.header_bytes, tuple(blocks))


def is_as_it_was(layout: Layout, files: Iterable[IO[bytes]]) -> bool:
    """Whether these are the very files that were written then: the manifest and its table."""
    return layout.files == tuple(seen(os.fstat(file.fileno())) for file in files)
