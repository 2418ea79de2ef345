"""Texts that must differ, remembered in eight bytes each: some in memory, and any number on the disk."""

from __future__ import annotations

from array import array
from collections import Counter
from typing import TYPE_CHECKING, Self

from pipeline.durable.unnamed import Unnamed

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from types import TracebackType

_PARTS = 64
_LAST = _PARTS - 1
_MOST = 1 << 17
"""Marks in memory, and of those on the disk how many are looked at together."""


class Marks:
    """The 64-bit marks of texts; says at the end which came twice. Takes 1 MB of memory for any number of them.

    A mark that came twice is a hint, not a proof: whoever asks looks at the texts themselves. Marks that equal each
    other share a part; what does not stay in memory goes to a file, part after part, again and again.
    """

    def __init__(self) -> None:
        self._count = 0
        self._parts = [array("q") for _ in range(_PARTS)]
        self._appending = [part.append for part in self._parts]
        self._file: Unnamed | None = None
        self._written: list[array[int]] = []
        """Where in the file each part starts, and the last one ends, each time that some were written."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, tb: TracebackType | None) -> None:
        if self._file is not None:
            self._file.close()

    def add(self, texts: Sequence[str]) -> None:
        """Note some texts. Raises `LocalError`."""
        appending = self._appending
        for number in map(hash, texts):
            appending[number & _LAST](number)
        self._count += len(texts)
        if self._count > _MOST:
            self._write()

    @property
    def are_many(self) -> bool:
        """Whether it is time to hand them over, where that is done."""
        return self._count > _MOST // 8

    def dump(self) -> list[bytes]:
        """Hand over all marks, for `take` in a process that this one was forked from or forks from."""
        assert self._file is None  # whoever hands them over does so before they are many
        dumped = [part.tobytes() for part in self._parts]
        self._forget()
        return dumped

    def take(self, dumped: Iterable[bytes]) -> None:
        """Add the marks of another process. Raises `LocalError`."""
        for part, data in zip(self._parts, dumped, strict=True):
            part.frombytes(data)
            self._count += len(data) // part.itemsize
        if self._count > _MOST:
            self._write()

    def twice(self) -> set[int]:
        """The marks that were added more than once. Raises `LocalError`."""
        found: set[int] = set()
        for number in range(_PARTS):
            ways = -(-self._size(number) // _MOST) if self._written else 1
            for way in range(ways):
                marks = array("q")
                for piece in self._pieces(number):
                    marks += piece if ways == 1 else array("q", [one for one in piece if one // _PARTS % ways == way])
                if len(set(marks)) < len(marks):
                    found.update(one for one, count in Counter(marks).items() if count > 1)
        return found

    def _write(self) -> None:
        """Bring what is in memory to the file."""
        self._file = self._file or Unnamed()
        starts = array("Q", [self._file.size])
        for part in self._parts:
            self._file.append(part)
            starts.append(self._file.size)
        self._written.append(starts)
        self._forget()

    def _forget(self) -> None:
        for part in self._parts:
            del part[:]
        self._count = 0

    def _size(self, number: int) -> int:
        """How many marks a part has."""
        written = sum(starts[number + 1] - starts[number] for starts in self._written)
        return written // self._parts[number].itemsize + len(self._parts[number])

    def _pieces(self, number: int) -> Iterator[array[int]]:
        """The marks of a part: those in the file, some at a time, and those in memory."""
        for starts in self._written:
            assert self._file is not None
            piece = array("q")
            piece.frombytes(self._file.read(starts[number], starts[number + 1] - starts[number]))
            yield piece
        yield self._parts[number]


def mark(text: str) -> int:
    """64 bits of a text, the same within one run: what `Marks` remembers."""
    return hash(text)
