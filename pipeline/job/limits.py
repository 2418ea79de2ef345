"""What a model can do, against what a job asks of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, Protocol

from pipeline.job.problems import listed, meant, quoted

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from datetime import date

    from pipeline.errors import Problem
    from pipeline.job.ask import Image
    from pipeline.job.problems import Place, Problems


class Model(Protocol):
    """What a job must know of an image model."""

    @property
    def id(self) -> str: ...
    @property
    def aspects(self) -> tuple[str, ...]: ...
    @property
    def sizes(self) -> tuple[str, ...]: ...
    @property
    def formats(self) -> frozenset[str]:
        """MIME types taken as input."""

    @property
    def max_references(self) -> int: ...
    @property
    def advised_references(self) -> int | None: ...
    @property
    def shutdown(self) -> date | None: ...
    @property
    def successor(self) -> str | None: ...


class Models(Protocol):
    """The registry of models."""

    def find(self, word: str) -> Model | None:
        """A model by alias or id."""

    def words(self) -> Sequence[str]:
        """All aliases and ids."""


class Said(NamedTuple):
    """A setting as somebody wrote it, and where."""

    text: str
    place: Place


def check_model(
    said: Said, models: Models, today: date, problems: Problems, warn: Callable[[Problem], None]
) -> Model | None:
    """The model a job names; None when the registry does not know it."""
    model = models.find(said.text)
    if model is None:
        near = meant(said.text, models.words())
        warn(
            said.place.problem(
                f"unknown model {quoted(said.text)}{near}", "it is passed on as it is; its price and limits are unknown"
            )
        )
        return None
    if model.shutdown is not None and model.shutdown <= today:
        successor = f"use {quoted(model.successor)}" if model.successor else ""
        problems.add(said.place.problem(f"model {quoted(said.text)} was shut down on {model.shutdown}", successor))
        return None
    return model


def check_offer(model: Model, word: str, said: Said, problems: Problems) -> None:
    """Refuse an aspect or size the model does not offer."""
    offered = model.aspects if word == "aspect" else model.sizes
    if said.text in offered or said.text == "auto" or not offered:
        return
    message = f"{model.id} has no {word} {quoted(said.text)}{meant(said.text, offered)}"
    problems.add(said.place.problem(message, f"it offers {listed(offered, last='and')}"))


def check_references(model: Model, images: Sequence[Image]) -> tuple[str, str, bool] | None:
    """What is wrong with the images of one request: message, hint, and whether it is only advice."""
    for image in images:
        if image.mime not in model.formats:
            kinds = listed(sorted(mime.removeprefix("image/") for mime in model.formats))
            return (
                f"{model.id} does not take {image.mime.removeprefix('image/')}: {quoted(image.shown)}",
                f"convert it to {kinds}",
                False,
            )
    if len(images) > model.max_references:
        return f"{len(images)} reference images; {model.id} takes at most {model.max_references}", "", False
    advised = model.advised_references
    if advised is not None and len(images) > advised:
        return f"{len(images)} reference images; {model.id} works best with at most {advised}", "", True
    return None
