"""Texts that must differ, remembered in eight bytes each."""

from __future__ import annotations

from array import array
from collections import Counter
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

_PARTS = 64
_LAST = _PARTS - 1


class Marks:
    """The 64-bit marks of a million texts in 8 MB; says at the end which came twice.

    A mark that came twice is a hint, not a proof: whoever asks looks at the texts themselves.
    """

    def __init__(self) -> None:
        self._parts = [array("q") for _ in range(_PARTS)]
        self._appending = [part.append for part in self._parts]

    def add(self, texts: Iterable[str]) -> None:
        appending = self._appending
        for number in map(hash, texts):
            appending[number & _LAST](number)

    def dump(self) -> list[bytes]:
        """All marks, for `take` in a process that this one was forked from or forks from."""
        return [part.tobytes() for part in self._parts]

    def take(self, dumped: Iterable[bytes]) -> None:
        """Add the marks of another process."""
        for part, data in zip(self._parts, dumped, strict=True):
            part.frombytes(data)

    def twice(self) -> set[int]:
        """The marks that were added more than once."""
        found: set[int] = set()
        for part in self._parts:
            if len(set(part)) < len(part):
                found.update(number for number, count in Counter(part).items() if count > 1)
        return found


def mark(text: str) -> int:
    """64 bits of a text, the same within one run: what `Marks` remembers."""
    return hash(text)
