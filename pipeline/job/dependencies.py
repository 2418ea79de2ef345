"""What a job is made from: every file that was read for it, and every folder that was looked through.

Collected while the job is read and gone through, where each path is known anyway. It is a text for every file, images
of rows included, so it is kept only for those who ask: `Dependencies(is_kept=True)`, or up to so many: `most=10_000`.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator


class Dependencies:
    """Paths of files and folders; one that keeps nothing can be told as much, at no cost."""

    def __init__(self, *, is_kept: bool = False, most: int | None = None) -> None:
        self.is_kept = is_kept
        self._most = most
        self._paths: set[str] = set()
        self._absent: set[str] = set()

    def add(self, path: str | os.PathLike[str]) -> None:
        """Note a file that was read, or a folder that was looked through."""
        if self.is_kept:
            self._paths.add(os.fspath(path))
            self._bound()

    def add_missing(self, path: str | os.PathLike[str]) -> None:
        """Note what may be missing and is: the nearest folder above it that is there changes when it comes."""
        if not self.is_kept:
            return
        here = os.path.abspath(path)  # noqa: PTH100 - a Path would be made only to be taken apart
        while not os.path.isdir(here) and here != os.path.dirname(here):  # noqa: PTH112, PTH120
            here = os.path.dirname(here)  # noqa: PTH120
        self._paths.add(here)
        self._bound()

    def add_absent(self, path: str | os.PathLike[str]) -> None:
        """Note a file that would have been read in place of another one, had it been there."""
        if self.is_kept:
            self._absent.add(os.fspath(path))
            self._bound()

    def take(self, other: Dependencies) -> None:
        """Note all that another one has noted."""
        if self.is_kept:
            self._paths |= other._paths
            self._absent |= other._absent

    @property
    def absent(self) -> list[str]:
        """Files that are not there, and would be read if they came."""
        return sorted(self._absent)

    def _bound(self) -> None:
        if self._most is not None and len(self._paths) + len(self._absent) > self._most:
            self._paths.clear()
            self._absent.clear()
            self.is_kept = False

    def __iter__(self) -> Iterator[str]:
        return iter(sorted(self._paths))
