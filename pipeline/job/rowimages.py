"""The reference images of a row: found, counted against the limits of the model, and named by their labels."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pipeline.errors import JobError
from pipeline.job import globs, references, settings
from pipeline.job.globs import fixed_part
from pipeline.job.limits import check_references
from pipeline.job.placeholders import EmptySlotError, Field, Moving, value_of
from pipeline.job.problems import quoted
from pipeline.job.references import ImageError, MissingImageError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from pipeline.errors import Problem
    from pipeline.job.ask import Image
    from pipeline.job.fitting import TurnFitting
    from pipeline.job.items import Row
    from pipeline.job.language import Job
    from pipeline.job.limits import Model
    from pipeline.job.placeholders import Bound
    from pipeline.job.problems import Place, Problems
    from pipeline.job.settings import Layer, Reference

_MANY = 1000
_PULL = "run git lfs pull before it is to be sent"


class RowImages:
    """Finds images; what does not depend on the row is looked at once."""

    def __init__(self, job: Job, problems: Problems, warn: Callable[[Problem], None]) -> None:
        self._job = job
        self._problems = problems
        self._warn = warn
        self._warned: set[str] = set()
        self._root = job.root.resolve()
        self._same: dict[Reference, tuple[Image, ...] | None] = {}
        self._folders = globs.Folders(job.dependencies)
        self._globs: dict[tuple[str, Path], list[str]] = {}
        self._pointers: dict[str, Problem | None] = {}
        """Git LFS pointers by path; the first with the place to tell of them."""

    def check(self, layer: Layer) -> None:
        """Look at the images of a layer that are the same for all rows, whether rows need them or not."""
        for reference in layer["images"].value if "images" in layer else ():
            if reference.template.literal is not None:
                self._found((), reference, None, {})

    def of(self, fitted: TurnFitting, row: Row, moving: dict[str, str], model: Model | None) -> tuple[Image, ...]:
        """The images of one turn in the order they are sent; writes the words for their labels into `moving`.

        Raises `JobError` for one that cannot be sent, or where they are more than the model takes.
        """
        if not fitted.images:
            return ()
        found: list[tuple[Image, str]] = []
        for bound, reference in fitted.images:
            images = self._found(bound, reference, row, moving)
            if reference.label is not None:
                moving[f"@{reference.label}"] = _numbers(len(found) + 1, len(images))
            found += [(image, reference.role) for image in images]
        wrong = check_references(model, found) if model is not None else None
        if wrong is not None:
            message, hint, is_advice = wrong
            if not is_advice:
                raise JobError([self._problem(fitted, row, message, hint)])
            if message not in self._warned:
                self._warned.add(message)
                self._warn(self._problem(fitted, row, message, hint))
        self._note_pointers([image for image, _role in found if image.is_pointer], fitted, row)
        return tuple(image for image, _role in found)

    def _note_pointers(self, images: list[Image], fitted: TurnFitting, row: Row) -> None:
        for image in images:
            if image.shown not in self._pointers:
                told = self._problem(fitted, row, f"{quoted(image.shown)} is a Git LFS pointer, not the image", _PULL)
                self._pointers[image.shown] = None if self._pointers else told

    def finish(self) -> None:
        """Tell, once, of images that are not here themselves: until one must be sent, nothing is wrong with that."""
        first = next(iter(self._pointers.values()), None)
        if first is not None:
            others = len(self._pointers) - 1
            more = f", and so {'is another one' if others == 1 else f'are {others:,} others'}" if others else ""
            self._warn(first._replace(message=f"{first.message}{more}"))

    def _problem(self, fitted: TurnFitting, row: Row, message: str, hint: str) -> Problem:
        """At the entry of `images` when they are the same for all rows, else at the row."""
        first = fitted.images[0][1]
        if all(reference in self._same for _bound, reference in fitted.images):
            return first.place.problem(message, hint)
        return row.problem(message, hint)

    def _found(
        self, bound: Bound, reference: Reference, row: Row | None, moving: Mapping[str, str]
    ) -> tuple[Image, ...]:
        if reference.template.literal is None:
            assert row is not None
            return self._of_row(bound, reference, row, moving)
        if reference not in self._same:
            if len(self._same) > _MANY:  # rows that bring their own must not pile up
                self._same.clear()
            try:
                self._same[reference] = self._images(reference.template.literal, reference)
            except ImageError as error:
                self._problems.add(self._told(error, reference.place))
                self._same[reference] = None
        return self._same[reference] or ()

    def _of_row(self, bound: Bound, reference: Reference, row: Row, moving: Mapping[str, str]) -> tuple[Image, ...]:
        try:
            parts = [value_of(part, row.line.cells, moving) for part in bound]
        except EmptySlotError as error:
            if reference.is_optional and error.near is None:
                return ()
            raise
        if reference.is_glob:
            parts = [
                part if isinstance(at, str) else globs.escaped(part) for part, at in zip(parts, bound, strict=True)
            ]
        try:
            return self._images("".join(parts), reference)
        except ImageError as error:
            at = next((part.at for part in bound if isinstance(part, Field)), None)
            if at is None and any(isinstance(part, Moving) and part.slot.name == "id" for part in bound):
                at = row.columns.id_at
            if self._job.items.kind == "one":
                raise JobError([self._told(error, reference.place)]) from None
            # Looking around for what was meant takes time: only for what will be shown.
            message, hint = (str(error), error.hint) if self._problems.is_full else error.told()
            raise JobError([row.problem(message, hint, at=at)]) from None

    def _told(self, error: ImageError, place: Place) -> Problem:
        message, hint = error.told()
        return place.problem(f"images: {message}", hint)

    def _images(self, text: str, reference: Reference) -> tuple[Image, ...]:
        folder = self._folder(reference)
        below = self._below(reference)
        if not reference.is_glob:
            try:
                return (self._image(text, folder, below),)
            except MissingImageError:
                if reference.is_optional:
                    self._job.dependencies.add_missing(folder / text)
                    return ()
                raise
        if (text, folder) not in self._globs:
            if len(self._globs) > _MANY:
                self._globs.clear()
            self._globs[text, folder] = references.matching(text, folder, below=below, folders=self._folders)
        names = self._globs[text, folder]
        if not names and not reference.is_optional:
            raise references.none_matches(text, folder)
        return tuple(self._image(name, folder, below) for name in names[: reference.most])

    def _image(self, text: str, folder: Path, below: list[Path]) -> Image:
        image = references.reference(text, folder, home=self._job.folder, below=below)
        self._job.dependencies.add(image.path)
        return image

    def _folder(self, reference: Reference) -> Path:
        """Where a path starts: at the file that writes it; one that a cell begins, at the manifest."""
        first = next(iter(reference.template.parts), "")
        if reference.is_data or not isinstance(first, str):
            return self._job.folder
        return settings.folder_of(reference.place, self._job.folder)

    def _below(self, reference: Reference) -> list[Path]:
        """The folders an image must lie in: none for a path that was written out by a person."""
        if reference.template.literal is not None and not reference.is_data:
            return []
        items = self._job.items
        if reference.is_item or (items.is_images and reference.template.parts == (settings.ITSELF,)):
            top = (items.folder or self._job.folder) / fixed_part(items.path)[0]
            return [self._root, top.resolve()]
        return [self._root]


def _numbers(first: int, count: int) -> str:
    """What a label says of its images: `image 3`, `images 3-12`, or nothing."""
    if not count:
        return ""
    return f"image {first}" if count == 1 else f"images {first}-{first + count - 1}"
