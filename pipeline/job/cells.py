"""Cells of the matrix with everything decided that does not depend on the row."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from pipeline.errors import JobError
from pipeline.job import paths, templates
from pipeline.job.limits import Said, check_model, check_offer
from pipeline.job.matrix import SETTINGS
from pipeline.job.placeholders import BracketError, Slot, Template, fold, split
from pipeline.job.references import ImageError, reference

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from datetime import date

    from pipeline.errors import Problem
    from pipeline.job.ask import Image
    from pipeline.job.language import Job
    from pipeline.job.limits import Model, Models
    from pipeline.job.matrix import Combination
    from pipeline.job.problems import Place, Problems
    from pipeline.job.templates import Prompt

_DEFAULTS = {"model": "flash", "aspect": "1:1", "size": "1K"}
_ITSELF = Template((Slot("file", "file", None),))


@dataclass(frozen=True, slots=True)
class Reference:
    """An entry of `images` whose path depends on the row."""

    template: Template
    place: Place
    is_item: bool = False
    """The image that is the item itself."""


@dataclass(frozen=True, slots=True, eq=False)
class Cell:
    """One cell of the matrix: how every row is asked for in it."""

    suffix: str
    axes: Mapping[str, str]
    model: str
    known_model: Model | None
    aspect: str
    size: str
    samples: int
    written: Mapping[str, str]
    prompt: Prompt | None
    """None when the template's name depends on the row, or something is wrong with it."""
    template: Template | None
    """The name of the template, where that depends on the row."""
    template_place: Place
    images: tuple[Image | Reference, ...]
    path: Template
    fixed: Mapping[str, str | None]
    """What placeholders can be besides fields, by folded name; the strongest won."""

    @property
    def placeholders(self) -> dict[str, str]:
        """The axes that are no settings, by name as written."""
        return {axis: value for axis, value in self.axes.items() if axis not in SETTINGS}


class Judge:
    """Decides the cells of a job against what the models can do."""

    def __init__(
        self, job: Job, models: Models, today: date, problems: Problems, warn: Callable[[Problem], None]
    ) -> None:
        self._job = job
        self._models = models
        self._today = today
        self._problems = problems
        self._warn = warn
        self._known: dict[str, Model | None] = {}
        self._prompts: dict[str, Prompt | None] = {}

    def cells(self) -> list[Cell]:
        """Every cell of the matrix in order; what is wrong goes to the problems."""
        images = self._images()
        return [self._cell(combination, images) for combination in self._job.matrix.cells]

    def _cell(self, combination: Combination, images: tuple[Image | Reference, ...]) -> Cell:
        job = self._job
        said = {**job.settings, **{axis: Said(value.text, value.place) for axis, value in combination.items()}}
        defaults = {**_DEFAULTS, "aspect": "auto"} if job.items.is_images else _DEFAULTS
        model, aspect, size = (said[word].text if word in said else default for word, default in defaults.items())
        samples = combination["samples"].value if "samples" in combination else job.samples
        known = self._model(model, said.get("model"))
        self._check_offer(known, said)
        prompt, template = self._prompt(said)
        axes = {axis: value.text for axis, value in combination.items()}
        return Cell(
            suffix="".join(f"/{value}" for value in axes.values()),
            axes=axes,
            model=model,
            known_model=known,
            aspect=aspect,
            size=size,
            samples=samples,
            written={word: said[word].text for word in _DEFAULTS if word in said},
            prompt=prompt,
            template=template,
            template_place=said["template"].place if "template" in said else job.place,
            images=images,
            path=paths.completed(job.output[0] if job.output else None, job.matrix.varying(), samples),
            fixed=self._fixed(axes, {"model": model, "aspect": aspect, "size": size}, prompt),
        )

    def _fixed(
        self, axes: Mapping[str, str], settings: Mapping[str, str], prompt: Prompt | None
    ) -> dict[str, str | None]:
        job = self._job
        built_in: dict[str, str | None] = {"job": job.name, "turn": "1", **settings}
        if prompt is not None and prompt.name is not None:
            built_in["template"] = prompt.name
        own = {fold(name): value for name, value in job.vars.items()}
        return {**built_in, **own, **{fold(axis): value for axis, value in axes.items()}}

    def _model(self, model: str, said: Said | None) -> Model | None:
        if model not in self._known:
            at = said or Said(model, self._job.place)
            self._known[model] = check_model(at, self._models, self._today, self._problems, self._warn)
        return self._known[model]

    def _check_offer(self, known: Model | None, said: Mapping[str, Said]) -> None:
        for word in ("aspect", "size"):
            if known is not None and word in said:
                check_offer(known, word, said[word], self._problems)

    def _prompt(self, said: Mapping[str, Said]) -> tuple[Prompt | None, Template | None]:
        """The prompt of a cell, or the template of its template's name."""
        if "prompt" in said:
            return self._tried(f"prompt {said['prompt'].text}", lambda: templates.prompt(*said["prompt"])), None
        if "template" not in said:
            return self._job.prompt, None
        text, place = said["template"]
        try:
            name = split(text)
        except BracketError as error:
            self._problems.add(place.problem(f"template: {error}", error.hint))
            return None, None
        if name.literal is None:
            return None, name
        return self._tried(f"template {text}", lambda: self._template(name.literal or "", place)), None

    def _template(self, name: str, place: Place) -> Prompt:
        path = templates.find(name, folder=self._job.folder, root=self._job.root, place=place)
        return templates.load(path, name, place)

    def _tried(self, key: str, reading: Callable[[], Prompt]) -> Prompt | None:
        if key not in self._prompts:
            try:
                self._prompts[key] = reading()
            except JobError as error:
                self._problems.extend(error.problems)
                self._prompts[key] = None
        return self._prompts[key]

    def _images(self) -> tuple[Image | Reference, ...]:
        job = self._job
        if job.images is None:
            return (Reference(_ITSELF, job.items.place, is_item=True),) if job.items.is_images else ()
        images: list[Image | Reference] = []
        for text, place in job.images:
            try:
                template = split(text)
                images.append(
                    Reference(template, place) if template.literal is None else reference(template.literal, job.folder)
                )
            except (BracketError, ImageError) as error:
                self._problems.add(place.problem(f"images: {error}", error.hint))
        return tuple(images)
