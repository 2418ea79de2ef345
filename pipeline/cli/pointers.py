"""Requests that send an image of which only the Git LFS pointer is here: good for comparing, not for sending."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pipeline.errors import Problem
from pipeline.job.forms import Filled
from pipeline.job.problems import Problems, quoted

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from pipeline.job.expand import Request


class Pointers:
    """The requests of a job that need such images, by key: where each was written, and the images."""

    def __init__(self) -> None:
        self._needed: dict[str, tuple[str, tuple[str, ...]]] = {}

    def noting(self, blocks: Iterable[list[Filled | Request]]) -> Iterator[list[Filled | Request]]:
        """The requests as they are; those that need an image that is not here are noted on their way."""
        for block in blocks:
            for request in block:
                if not (isinstance(request, Filled) and not request.form.has_images):
                    self._note(request)
            yield block

    def _note(self, request: Filled | Request) -> None:
        ask = request.ask
        paths = tuple(image.shown for turn in (*ask.earlier, ask) for image in turn.images if image.is_pointer)
        if paths:
            self._needed[request.key] = request.where, paths

    def refuse(self, keys: Iterable[str]) -> None:
        """Raise one `JobError` that names every image that must be here before these requests can be sent."""
        if self._needed:
            problems = Problems()
            for key in keys:
                problems.extend(self._of(key))
            problems.check()

    def refused(self, blocks: Iterable[list[Filled | Request]]) -> Iterator[list[Filled | Request]]:
        """The requests, unless one of them cannot be sent; raises the `JobError` for all that cannot, after the last.

        What was given before must not be sent then.
        """
        problems = Problems()
        for block in blocks:
            for request in block if self._needed else ():
                problems.extend(self._of(request.key))
            if not problems:
                yield block
        problems.check()

    def _of(self, key: str) -> Iterator[Problem]:
        where, paths = self._needed.get(key, ("", ()))
        file, _colon, line = where.rpartition(":")
        for path in dict.fromkeys(paths):
            message = f"{quoted(path)} is a Git LFS pointer, not the image, and {quoted(key)} is to be sent with it"
            hint = "run git lfs pull, then the same command again"
            yield (
                Problem(file, int(line), 0, message, hint)
                if line.isascii() and line.isdigit()
                else Problem(where, 0, 0, message, hint)
            )
