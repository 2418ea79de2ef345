"""What a model can do, against what a job asks of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from pipeline.job.placeholders import fold
from pipeline.job.problems import listed, meant, quoted

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from datetime import date
    from decimal import Decimal

    from pipeline.errors import Problem
    from pipeline.job.ask import Image
    from pipeline.job.problems import Problems
    from pipeline.job.settings import Layer, Said


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
    def references_by_role(self) -> Mapping[str, int]: ...
    @property
    def thinking(self) -> tuple[str, ...]:
        """Levels, none where it cannot be chosen."""

    @property
    def search(self) -> tuple[str, ...]:
        """What it can search: `web`, `image`."""

    @property
    def best_languages(self) -> tuple[str, ...]: ...
    def image_price(self, size: str, day: date) -> Decimal | None:
        """USD for one image in a batch; None where that is not known."""

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


def check_model(
    said: Said, models: Models, today: date, problems: Problems, warn: Callable[[Problem], None]
) -> Model | None:
    """The model a job names; None when the registry does not know it."""
    model = models.find(said.value)
    if model is None:
        alive = [word for word in models.words() if not _is_gone(models.find(word), today)]
        near = meant(said.value, alive)
        warn(
            said.place.problem(
                f"unknown model {quoted(said.value)}{near}",
                "it is passed on as it is; its price and limits are unknown",
            )
        )
        return None
    if _is_gone(model, today):
        successor = f"use {quoted(model.successor)}" if model.successor else ""
        problems.add(said.place.problem(f"model {quoted(said.value)} was shut down on {model.shutdown}", successor))
        return None
    return model


def _is_gone(model: Model | None, today: date) -> bool:
    return model is not None and model.shutdown is not None and model.shutdown <= today


def check_offer(model: Model, said: Layer, problems: Problems) -> None:
    """Refuse an aspect, a size, a level of thinking or a search that the model does not offer."""
    for word, offered in (("aspect", model.aspects), ("size", model.sizes)):
        value = said[word].value if word in said else None
        if value is not None and offered and value not in {*offered, "auto"}:
            message = f"{model.id} has no {word} {quoted(value)}{_same_ratio(value, offered) or meant(value, offered)}"
            problems.add(said[word].place.problem(message, f"it offers {listed(offered, last='and')}"))
    if "thinking" in said and said["thinking"].value not in model.thinking:
        message = f"{model.id} has no level of thinking {quoted(said['thinking'].value)}"
        hint = (
            f"its levels: {listed(model.thinking, last='and')}"
            if model.thinking
            else "it lets nobody choose: delete it"
        )
        problems.add(said["thinking"].place.problem(message, hint))
    for kind in said["search"].value if "search" in said else ():
        if kind not in model.search:
            what = "search the web" if kind == "web" else "search for images"
            hint = f"it can search: {listed(model.search, last='and')}" if model.search else "it cannot search at all"
            problems.add(said["search"].place.problem(f"{model.id} cannot {what}", hint))


def _same_ratio(value: str, offered: Sequence[str]) -> str:
    """An aspect that is offered in its shortest form: 4:6 is 2:3."""
    width, colon, height = value.partition(":")
    if not colon:
        return ""
    from fractions import Fraction  # noqa: PLC0415 - only for what is not offered

    ratio = Fraction(int(width), int(height))
    same = f"{ratio.numerator}:{ratio.denominator}"
    return f"; write {quoted(same)}, which is the same" if same in offered else ""


_LANGUAGES = frozenset({"locale", "lang", "language"})


def check_languages(model: Model, axes: Mapping[str, Said], warn: Callable[[Problem], None]) -> None:
    """Warn of an axis of languages with one that the model is not at its best in."""
    best = {language.partition("-")[0].lower() for language in model.best_languages}
    for axis, said in axes.items():
        text = str(said.value).strip()
        if fold(axis) in _LANGUAGES and best and text.replace("_", "-").partition("-")[0].lower() not in best:
            hint = f"look at the text in these pictures closely; its best: {listed(model.best_languages, last='and')}"
            warn(said.place.problem(f"{quoted(text)} is not among the languages {model.id} is best at", hint))


def check_references(model: Model, images: Sequence[tuple[Image, str]]) -> tuple[str, str, bool] | None:
    """What is wrong with the images of one request and their roles: message, hint, and whether it is only advice."""
    for image, _role in images:
        if image.mime not in model.formats:
            kinds = listed(sorted(mime.removeprefix("image/") for mime in model.formats))
            return (
                f"{model.id} does not take {image.mime.removeprefix('image/')}: {quoted(image.shown)}",
                f"convert it to {kinds}",
                False,
            )
    if len(images) > model.max_references:
        return f"{len(images)} reference images; {model.id} takes at most {model.max_references}", _FEWER, False
    for role, most in model.references_by_role.items():
        count = sum(1 for _image, its_role in images if its_role == role)
        if count > most:
            message = f"{count} reference images with the role {role!r}; {model.id} takes at most {most}"
            return message, f"{_FEWER}, or give some another role: {listed(model.references_by_role)}", False
    advised = model.advised_references
    if advised is not None and len(images) > advised:
        return f"{len(images)} reference images; {model.id} works best with at most {advised}", "", True
    return None


_FEWER = "send fewer: max: n takes the first n of a glob"
