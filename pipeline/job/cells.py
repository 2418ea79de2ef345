"""Cells of the matrix with all that does not depend on the row decided: the settings that won, and their limits."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pipeline.errors import JobError
from pipeline.job import paths, settings, tables, templates
from pipeline.job.limits import check_languages, check_model, check_offer
from pipeline.job.placeholders import BracketError, Template, fold, split
from pipeline.job.problems import quoted
from pipeline.job.settings import OF_THE_ASK, Said, over

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from datetime import date
    from decimal import Decimal
    from pathlib import Path

    from pipeline.errors import Problem
    from pipeline.job.language import Job
    from pipeline.job.limits import Model, Models
    from pipeline.job.matrix import Combination
    from pipeline.job.problems import Place, Problems
    from pipeline.job.settings import Layer, Reference
    from pipeline.job.tables import Table
    from pipeline.job.templates import Prompt

MAX_TABLE_BYTES = 128_000_000
_ITSELF = Template((settings.ITSELF,))
_MOST_SEED = 2**31 - 1


@dataclass(frozen=True, slots=True, eq=False)
class Turn:
    """One turn of a conversation in a cell, or the one request of a job without turns."""

    number: int
    """0 where there is no conversation."""
    name: str
    keeps: bool
    prompt: Prompt
    system: Prompt | None
    aspect: str
    size: str
    written: Mapping[str, Any]
    """Settings of the ask that somebody wrote."""
    images: tuple[Reference, ...]
    max_age_s: float | None
    price: Decimal | None
    """USD for one image of it in a batch, without what is sent along."""
    fixed: Mapping[str, str | None]
    """What placeholders can be besides fields, by folded name; the strongest won."""
    provenance: Mapping[str, Place]


@dataclass(frozen=True, slots=True, eq=False)
class Cell:
    """One cell of the matrix under some overrides: how every row is asked for in it."""

    suffix: str
    axes: Mapping[str, str]
    model: str
    known_model: Model | None
    samples: int
    turns: tuple[Turn, ...]
    path: Template
    strong: frozenset[str]
    """Axes and vars: the placeholders that come before tables."""
    constants: Mapping[str, str]
    """Axes and vars a record tells of."""


class Judge:
    """Decides the cells of a job against what the models can do."""

    def __init__(
        self, job: Job, models: Models, today: date, problems: Problems, warn: Callable[[Problem], None]
    ) -> None:
        self.job = job
        self._models = models
        self._today = today
        self._problems = problems
        self._warn = warn
        self._known: dict[str, Model | None] = {}
        self._prompts: dict[tuple[str, Place | None], Prompt | None] = {}
        self._told: set[tuple[str, ...]] = set()
        self._varying = job.matrix.varying()
        self.tables = self._tables()

    def layer(self, combination: Combination, *stronger: Layer) -> Layer:
        """The settings of a cell: the job's, then the cell's own, then overrides and what the item sets."""
        own = {axis: Said(value.value, value.place) for axis, value in combination.items() if axis in settings.WORDS}
        return over(self.job.settings, own, *stronger)

    def moving_templates(self, layer: Layer) -> dict[int, tuple[Layer, Template]]:
        """The names of templates that depend on the row, each with the settings around it: by turn, 0 for the job."""
        layers = {0: layer}
        if self._is_conversation(layer):
            layers |= {said.number: over(layer, said.layer) for said in self.job.turns}
        found = {}
        for number, own in layers.items():
            name = self._split("template", own["template"]) if "template" in own else None
            if name is not None and name.literal is None:
                found[number] = own, name
        return found

    def _is_conversation(self, layer: Layer) -> bool:
        """Whether the turns of the job hold: unless something stronger says otherwise."""
        return bool(self.job.turns) and "prompt" not in layer and "template" not in layer

    def cell(self, combination: Combination, layer: Layer, names: Mapping[int, str]) -> Cell | None:
        """A cell with all that is decided; None when nothing can be asked. `names` are templates that the row names.

        What is wrong goes to the problems, at the place where it was written.
        """
        prompt = self._prompt(layer, names.get(0))
        whole = over(prompt.layer, layer) if prompt is not None else layer
        axes = {axis: value.text for axis, value in combination.items()}
        said = whole.get("model")
        model = said.value if said else self.job.defaults["model"]
        known = self._model(model, said)
        samples = whole["samples"].value if "samples" in whole else 1
        self._check_languages(known, combination)
        self._check_seed(whole, samples)
        turns = self._turns(axes, (model, known, samples), whole, prompt, names)
        if not turns:
            if known is not None:
                check_offer(known, whole, self._problems)
            return None
        variables = {name: said.value for name, said in whole["vars"].value.items()} if "vars" in whole else {}
        return Cell(
            suffix="".join(f"/{value}" for value in axes.values()),
            axes=axes,
            model=model,
            known_model=known,
            samples=samples,
            turns=tuple(turns),
            path=self._path(samples, turns),
            strong=frozenset(map(fold, [*axes, *variables])),
            constants=_constants(axes, variables),
        )

    def _path(self, samples: int, turns: list[Turn]) -> Template:
        job = self.job
        kept = sum(turn.keeps for turn in turns)
        written = job.output[0] if job.output else None
        return paths.completed(written, self._varying, samples, turns=kept)

    def _turns(
        self, axes: Mapping[str, str], around: tuple[str, Model | None, int], whole: Layer, prompt: Prompt | None,
        names: Mapping[int, str],
    ) -> list[Turn]:  # fmt: skip
        """The turns of a cell; a conversation only where nothing stronger says otherwise."""
        model, known, samples = around
        if not self._is_conversation(whole):
            made = prompt and self._turn((0, "1", True), axes, model, known, whole, prompt)
            return [made] if made else []
        turns = []
        for said in self.job.turns:
            layer = over(whole, said.layer)
            self._check_seed(layer, samples)
            prompt = self._prompt(layer, names.get(said.number))
            if prompt is not None:
                layer = over({word: v for word, v in prompt.layer.items() if word not in {"model", "samples"}}, layer)
                place = (said.number, said.name, said.keeps)
                turns.append(self._turn(place, axes, model, known, layer, prompt))
        return turns

    def _turn(
        self, place: tuple[int, str, bool], axes: Mapping[str, str], model: str, known: Model | None, layer: Layer,
        prompt: Prompt,
    ) -> Turn:  # fmt: skip
        number, name, keeps = place
        if known is not None:
            check_offer(known, layer, self._problems)
        aspect, size = (layer[w].value if w in layer else self.job.defaults[w] for w in ("aspect", "size"))
        return Turn(
            number=number,
            name=name,
            keeps=keeps,
            prompt=prompt,
            system=self._tried("system", layer["system"], templates.prompt) if "system" in layer else None,
            aspect=aspect,
            size=size,
            written={
                word: _asked(word, layer[word].value) for word in OF_THE_ASK if word in layer and word != "system"
            },
            images=self._images(layer, is_first=number <= 1),
            max_age_s=settings.seconds(layer["max_age"].value) if "max_age" in layer else None,
            price=known.image_price(size, self._today) if known is not None else None,
            fixed=self._fixed(axes, {"model": model, "aspect": aspect, "size": size, "turn": name}, layer, prompt),
            provenance=_provenance(layer, prompt),
        )

    def _images(self, layer: Layer, *, is_first: bool) -> tuple[Reference, ...]:
        if "images" in layer:
            written: tuple[Reference, ...] = layer["images"].value
            return written
        if self.job.items.is_images and is_first:
            return (settings.Reference(_ITSELF, self.job.items.place, "[file]", is_item=True),)
        return ()

    def _fixed(
        self, axes: Mapping[str, str], own: Mapping[str, str], layer: Layer, prompt: Prompt
    ) -> dict[str, str | None]:
        built_in: dict[str, str | None] = {"job": self.job.name, **own}
        built_in["template"] = prompt.name
        variables = layer["vars"].value if "vars" in layer else {}
        constants = {fold(name): said.value for name, said in variables.items()}
        return {
            **{name: value for name, value in built_in.items() if value is not None},
            **{name: value for name, value in prompt.variables.items() if value is not None},
            **constants,
            **{fold(axis): value for axis, value in axes.items()},
        }

    def _model(self, model: str, said: Said | None) -> Model | None:
        if model not in self._known:
            at = said or Said(model, self.job.place)
            self._known[model] = check_model(at, self._models, self._today, self._problems, self._warn)
        return self._known[model]

    def _check_languages(self, known: Model | None, combination: Combination) -> None:
        """Once for each model and cell, whatever rows set besides."""
        mark = (known.id if known is not None else "", *(value.text for value in combination.values()))
        if known is not None and mark not in self._told:
            self._told.add(mark)
            check_languages(known, {axis: Said(v.text, v.place) for axis, v in combination.items()}, self._warn)

    def _check_seed(self, layer: Layer, samples: int) -> None:
        seed = layer.get("seed")
        if seed is not None and seed.value + samples - 1 > _MOST_SEED:
            message = f"seed {seed.value} leaves no room for {samples} samples, which count up from it"
            self._problems.add(seed.place.problem(message, f"at most {_MOST_SEED - samples + 1}"))

    # ------------------------------------------------------------------------------------- texts

    def _prompt(self, layer: Layer, name: str | None) -> Prompt | None:
        """The prompt of a cell: from a template, from a file, or as written."""
        if "template" in layer:
            return self._template(name or layer["template"].value, layer["template"].place, is_data=name is not None)
        if "prompt" in layer:
            return self._tried("prompt", layer["prompt"], self._written)
        return None

    def _written(self, text: Any, place: Place) -> Prompt:
        if isinstance(text, str):
            return templates.prompt(text, place)
        path = self._folder(place) / text["file"]
        self.job.dependencies.add(path)
        return templates.from_file(path, text.at("file"))

    def _template(self, name: str, place: Place, *, is_data: bool) -> Prompt | None:
        return self._tried("template", Said(name, place), lambda text, at: self._found(text, at, is_data=is_data))

    def _found(self, name: str, place: Place, *, is_data: bool) -> Prompt:
        job = self.job
        is_data = is_data or place.source.folder is None  # a cell of a catalog
        if not is_data and (template := self._split("template", Said(name, place))) is not None:
            name = template.literal or ""
        folders = list(dict.fromkeys([job.folder, self._folder(place)]))
        suggest = not self._problems.is_full
        path = templates.find(name, folders=folders, root=job.root, place=place, suggest=suggest)
        if is_data and not templates.is_shipped(path) and not path.resolve().is_relative_to(job.root.resolve()):
            raise JobError([place.problem(f"template {quoted(name)} leads out of the project")])
        for one in (path, *templates.nearer(path, folders=folders, root=job.root)):
            job.dependencies.add(one)
        for one in templates.before(name, path, folders=folders, root=job.root) if job.dependencies.is_kept else ():
            job.dependencies.add_absent(one)
        return templates.load(path, name, place)

    def _tried(self, word: str, said: Said, reading: Callable[[Any, Place], Prompt]) -> Prompt | None:
        # Rows that name the same share it: the place of a cell is no part of what it says.
        key = f"{word} {said.value}", said.place if said.place.source.folder else None
        if key not in self._prompts:
            if len(self._prompts) > _MANY:  # rows that all bring their own must not pile up
                self._prompts.clear()
            try:
                self._prompts[key] = reading(said.value, said.place)
            except JobError as error:
                self._problems.extend(error.problems)
                self._prompts[key] = None
        return self._prompts[key]

    def _split(self, word: str, said: Said) -> Template | None:
        try:
            return split(said.value)
        except BracketError as error:
            self._problems.add(said.place.problem(f"{word}: {error}", error.hint))
            return None

    def _folder(self, place: Place) -> Path:
        return settings.folder_of(place, self.job.folder)

    def _tables(self) -> dict[str, Table]:
        found: dict[str, Table] = {}
        room = MAX_TABLE_BYTES
        for said in self.job.tables:
            room -= said.path.stat().st_size if said.path.is_file() else 0
            if room < 0:
                message = f"the tables of this job have more than {MAX_TABLE_BYTES // 1_000_000} MB together"
                self._problems.add(said.place.problem(message, "make columns of theirs fields of the items"))
                break
            self.job.dependencies.add(said.path)
            try:
                found[fold(said.name)] = tables.load(
                    said.name, said.path, tuple(map(fold, said.on)), said.place,
                    delimiter=said.delimiter, encoding=said.encoding,
                )  # fmt: skip
            except JobError as error:
                self._problems.extend(error.problems)
        return found


_MANY = 10_000


def _asked(word: str, value: Any) -> Any:
    return {name: said.value for name, said in value.items()} if word == "safety" else value


def _constants(axes: Mapping[str, str], variables: Mapping[str, str]) -> dict[str, str]:
    """What a record tells of a cell: its axes that are no settings, and the vars they do not hide."""
    own = {axis: value for axis, value in axes.items() if axis not in settings.WORDS}
    hidden = set(map(fold, axes))
    return {**own, **{name: value for name, value in variables.items() if value and fold(name) not in hidden}}


def _provenance(layer: Layer, prompt: Prompt) -> dict[str, Place]:
    places = {word: said.place for word, said in layer.items() if word not in {"vars", "safety"}}
    for word in ("vars", "safety"):
        inner = layer[word].value if word in layer else {}
        places |= {f"{word}.{name}": said.place for name, said in inner.items()}
    if prompt.name is not None:
        places["prompt"] = prompt.place
    return places
