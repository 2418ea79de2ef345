"""The job language: a manifest read, with what it extends, checked against its schema, and made into a `Job`."""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from pipeline.job import catalog, manifest, matrix, operation, overrides, settings
from pipeline.job.dependencies import Dependencies
from pipeline.job.operation import Batch, Checks, Retry
from pipeline.job.placeholders import BUILT_INS, OF_IMAGES, BracketError, Template, fold, split
from pipeline.job.problems import Place, Problems, file_name, located, quoted
from pipeline.job.settings import WORDS, Layer, Said
from pipeline.job.slugs import slug
from pipeline.job.yaml12 import Map

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping
    from decimal import Decimal
    from pathlib import Path

    from pipeline.errors import Problem
    from pipeline.job.items import Items
    from pipeline.job.matrix import Matrix
    from pipeline.job.overrides import Override

__all__ = ["Batch", "Checks", "Job", "Reading", "Retry", "load", "read"]

_SLOT = re.compile(r"(?<!\[)\[[A-Za-z][\w .-]*\](?!\])")
_EXTENSION = re.compile(r"\.(jpe?g|png|webp|gif|hei[cf]|tiff?|bmp|avif|svg|pdf)$", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class TableFile:
    """Where a table is, and how its rows are found."""

    name: str
    path: Path
    on: tuple[str, ...]
    place: Place
    delimiter: str | None
    encoding: str


@dataclass(frozen=True, slots=True)
class TurnSaid:
    """A turn of a conversation, as the job has it."""

    number: int
    name: str
    keeps: bool
    layer: Layer
    place: Place


@dataclass(frozen=True, slots=True)
class Job:
    """A manifest that fits the language. What it asks for, request by request, is `expand.expand`'s to say."""

    name: str
    path: Path
    folder: Path
    root: Path
    description: str | None
    tags: tuple[str, ...]
    retry: Retry
    budget: Decimal | None
    """USD one call may spend."""
    per_image: Decimal | None
    """USD one image may cost, by the estimate."""
    sidecar: bool
    """Whether each image has its record beside it, as `<path>.json`."""
    batch: Batch
    checks: Checks
    warnings: tuple[Problem, ...] = field(repr=False)
    place: Place = field(repr=False)
    name_place: Place = field(repr=False)
    """Where its name is written; the start of the manifest when it is named after the file."""
    settings: Layer = field(repr=False)
    """What the top of the manifest says, with what it extends."""
    turns: tuple[TurnSaid, ...] = field(repr=False)
    items: Items = field(repr=False)
    matrix: Matrix = field(repr=False)
    tables: tuple[TableFile, ...] = field(repr=False)
    overrides: tuple[Override, ...] = field(repr=False)
    output: tuple[Template, Place] | None = field(repr=False)
    gaps: frozenset[str] = field(default=frozenset(), repr=False)
    """Keys that lost something for not fitting the language; empty in a job that may be run."""
    dependencies: Dependencies = field(default_factory=Dependencies, repr=False, compare=False)
    """What it is made from; complete once it was gone through."""

    @property
    def vars(self) -> Mapping[str, Said]:
        found: Mapping[str, Said] = self.settings["vars"].value if "vars" in self.settings else {}
        return found

    @property
    def defaults(self) -> Mapping[str, str]:
        """What `model`, `aspect` and `size` are where nobody says: an item that is an image keeps its shape."""
        return {**settings.DEFAULTS, "aspect": "auto"} if self.items.is_images else settings.DEFAULTS

    @property
    def has_turns(self) -> bool:
        """Whether it is a conversation, which goes in waves."""
        return bool(self.turns)


@dataclass(frozen=True, slots=True)
class Reading:
    """What could be made of a manifest, and what is wrong with it; the job is not to be run unless that is nothing."""

    job: Job
    problems: Problems


def load(path: Path, *, root: Path, dependencies: Dependencies | None = None) -> Job:
    """Read and validate one manifest against the language; raises one `JobError` that names every problem."""
    reading = read(path, root=root, dependencies=dependencies)
    reading.problems.check()
    return reading.job


def read(path: Path, *, root: Path, dependencies: Dependencies | None = None) -> Reading:
    """Read one manifest as far as it can be read; raises `JobError` where it is no YAML map at all.

    `root` is the project's folder: templates are looked for up to there, and paths from data stay below it.
    What the job is made from goes to `dependencies`, now and whenever it is gone through.
    """
    path, root = path.absolute(), root.absolute()
    dependencies = dependencies or Dependencies()
    found = manifest.read(path, dependencies)
    manifest.one_prompt(found)
    return Reading(replace(_job(found, path, root), dependencies=dependencies), found.problems)


def _job(found: manifest.Manifest, path: Path, root: Path) -> Job:
    written, problems = found.map, found.problems
    warnings: list[Problem] = []
    layer = settings.read(written, problems)
    found.gaps |= {word for word in WORDS if word in written and word not in layer}
    _note_settings(written.get("vars"), warnings)
    _note_axes(written, warnings)
    cells = matrix.read(written.get("matrix"), problems)
    return Job(
        name=written.get("job") or slug(path.stem)[:64].rstrip("-"),
        path=path,
        folder=path.parent,
        root=root,
        description=written.get("description"),
        tags=tuple(written.get("tags", ())),
        retry=operation.retry(written.get("retry")),
        budget=operation.budget(written, "max"),
        per_image=operation.budget(written, "per_image"),
        sidecar=written.get("output", {}).get("sidecar", False),
        batch=operation.batch(written.get("batch", {})),
        checks=operation.checks(written.get("checks", {})),
        place=Place(written.place.source, 1, 1),
        name_place=written.at("job") if "job" in written else Place(written.place.source, 1, 1),
        settings=layer,
        turns=_turns(written, cells.axes, problems),
        items=catalog.read(written, problems, warnings),
        matrix=cells,
        tables=_tables(written, path.parent, problems),
        overrides=_overrides(written, cells.axes, problems),
        output=_output(written, problems),
        gaps=frozenset(found.gaps),
        warnings=tuple(warnings),
    )


def _note_settings(written: Map | None, warnings: list[Problem]) -> None:
    """Vars that are called like a setting, and placeholders in them, which are not filled in."""
    for name in written or ():
        if written is not None and (found := _SLOT.search(written.nodes[name].text or "")):
            message = f"{found[0]} in vars is no placeholder: what stands there is put in as it is"
            warnings.append(written.at(name).problem(message))
        if written is not None and fold(name) in WORDS:
            hint = "to set it, write it at the top of the job"
            warnings.append(
                written.keys_at[name].problem(f"{quoted(name)} in vars is a placeholder, not a setting", hint)
            )


def _note_axes(written: Map, warnings: list[Problem]) -> None:
    """A setting at the top that the matrix of the same file gives to every cell; axes that hide a built-in."""
    axes = written.get("matrix", Map(written.place))
    for word in WORDS:
        if word in written and word in axes and written.keys_at[word].source is axes.keys_at[word].source:
            message = f"{quoted(word)} is set here for nothing: it is an axis of the matrix, too"
            warnings.append(written.keys_at[word].problem(message, "delete the one or the other"))
    for axis in axes:
        if axis not in WORDS and fold(axis) in {*BUILT_INS, *OF_IMAGES}:
            message = f"axis {quoted(axis)} hides the built-in [{fold(axis)}]"
            warnings.append(axes.keys_at[axis].problem(message, "give it another name if the built-in is meant"))


def _turns(written: Map, axes: Collection[str], problems: Problems) -> tuple[TurnSaid, ...]:
    if "turns" not in written:
        return ()
    nodes, turns = written["turns"].nodes, list[TurnSaid]()
    for number, node in enumerate(nodes, 1):
        if not isinstance(node.value, Map):
            turn = TurnSaid(
                number, str(number), number == len(nodes), {"prompt": Said(node.text, node.place)}, node.place
            )
        else:
            keeps = node.value.get("keep", False) or number == len(nodes)
            name = node.value.get("name", str(number))
            turn = TurnSaid(number, name, keeps, settings.read(node.value, problems), node.place)
        is_cut = isinstance(node.value, Map) and node.value.is_cut
        if not {"prompt", "template"} & turn.layer.keys() and not is_cut:
            problems.add(node.place.problem("this turn says nothing to draw", "add a key: prompt, or template"))
        own = {word: said for word, said in turn.layer.items() if word not in manifest.ONE_OF}
        settings.refuse_axes(own, axes, problems)
        if any(turn.name == other.name for other in turns):
            at = node.value.at("name") if isinstance(node.value, Map) and "name" in node.value else node.place
            problems.add(at.problem(f"two turns have the name {quoted(turn.name)}"))
            turn = replace(turn, name=f"{turn.name}-{number}")
        turns.append(turn)
    return tuple(turns)


def _overrides(written: Map, axes: Collection[str], problems: Problems) -> tuple[Override, ...]:
    found = overrides.read(written, problems)
    for override in found:
        settings.refuse_axes(override.layer, axes, problems)
    return found


def _tables(written: Map, folder: Path, problems: Problems) -> tuple[TableFile, ...]:
    tables = []
    for name, node in written["tables"].nodes.items() if "tables" in written else ():
        told = node.value if isinstance(node.value, Map) else None
        if told is not None and told.is_cut:
            continue
        at = told.at("file") if told else node.place
        text = told["file"] if told else node.text
        path = settings.folder_of(at, folder) / text
        if path.suffix.lower() not in {".csv", ".tsv", ".jsonl"}:
            problems.add(at.problem(f"{file_name(path)} is no table", "a table is x.csv, x.tsv or x.jsonl"))
            continue
        tables.append(
            TableFile(
                name,
                path,
                on=tuple(told["on"]) if told and "on" in told else (name,),
                place=at,
                delimiter=told.get("delimiter") if told else None,
                encoding=catalog.encoding(told, problems) if told else "utf-8",
            )
        )
    return tuple(tables)


def _output(written: Map, problems: Problems) -> tuple[Template, Place] | None:
    output = written.get("output", {})
    if "path" not in output:
        return None
    path, place = output["path"], output.at("path")
    try:
        template = split(path)
    except BracketError as error:
        problems.add(place.problem(f"output.path: {error}", error.hint))
        return None
    parts = "".join(part if isinstance(part, str) else "[]" for part in template.parts).split("/")
    if label := next((slot for slot in template.slots if slot.name.startswith("@")), None):
        at = located(place, f"[{label.word}")
        problems.add(at.problem(f"output.path: [{label.word}] names images, not a place", "labels stand in prompts"))
        return None
    if wrong := _wrong_path(parts):
        problems.add(place.problem(f"output.path: {wrong[0]}", wrong[1]))
    return template, place


def _wrong_path(parts: list[str]) -> tuple[str, str] | None:
    if parts[0] in {"", "~"}:
        return "a path below the job's folder starts with a name", 'such as "[collection]/[id]"'
    if any(part in {".", "..", ""} for part in parts):
        return "no segment may be empty, '.' or '..'", ""
    if any("\\" in part for part in parts):
        return "a backslash", "write / between folders"
    if parts[0].startswith("."):
        return "the first segment starts with a dot; such names are reserved", ""
    if _EXTENSION.search(parts[-1]):
        return "no extension here: each file gets the one its bytes have", "leave it out"
    return None
