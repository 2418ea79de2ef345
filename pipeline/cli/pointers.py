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

    def noting(self, requests: Iterable[Filled | Request]) -> Iterator[Filled | Request]:
        """The requests as they are; those that need an image that is not here are noted on their way."""
        for request in requests:
            if isinstance(request, Filled) and not request.form.has_images:
                yield request
                continue
            ask = request.ask
            if ask.images or ask.earlier:
                turns = (*ask.earlier, ask)
                paths = tuple(image.shown for turn in turns for image in turn.images if image.is_pointer)
                if paths:
                    self._needed[request.key] = request.where, paths
            yield request

    def refuse(self, keys: Iterable[str]) -> None:
        """Raise one `JobError` that names every image that must be here before these requests can be sent."""
        if self._needed:
            problems = Problems()
            for key in keys:
                problems.extend(self._of(key))
            problems.check()

    def refused(self, requests: Iterable[Filled | Request]) -> Iterator[Filled | Request]:
        """The requests up to the first that cannot be sent; raises the `JobError` for it and all that follow."""
        problems = Problems()
        for request in requests:
            if request.key in self._needed:
                problems.extend(self._of(request.key))
            if not problems:
                yield request
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
