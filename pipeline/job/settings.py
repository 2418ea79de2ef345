"""Settings: what to ask the model, as somebody wrote it in one of several places, each value in its one form.

A layer is what one place says: the top of a job, a cell of its matrix, an override, the `set` of an item, a turn,
the front matter of a template. Stronger layers are laid over weaker ones.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from pipeline.errors import JobError
from pipeline.job import schema
from pipeline.job.placeholders import BracketError, Slot, Template, fold, split
from pipeline.job.problems import Place, quoted
from pipeline.job.sources import text_of
from pipeline.job.yaml12 import List, Map

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping
    from pathlib import Path

    from pipeline.job.problems import Problems
    from pipeline.job.yaml12 import Node

WORDS = (
    "prompt", "template", "system", "model", "aspect", "size", "samples", "images", "response", "search", "thinking",
    "thoughts", "temperature", "top_p", "seed", "max_output_tokens", "safety", "max_age", "vars",
)  # fmt: skip
OF_THE_ASK = (
    "system", "model", "aspect", "size", "response", "search", "thinking", "thoughts", "temperature", "top_p", "seed",
    "max_output_tokens", "safety",
)  # fmt: skip
"""Those that are part of what is asked; `prompt` and `images` are so in their own way."""
ITSELF = Slot("file", "file", None)
"""The image that an item is."""
LISTS = frozenset({"response", "search", "images"})
"""Settings whose value is a list."""
DEFAULTS: Mapping[str, str] = {"model": "flash", "aspect": "1:1", "size": "1K"}
_WHAT_TO_DRAW = frozenset({"prompt", "template", "turns"})
_MERGED = frozenset({"vars", "safety"})
_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}


class Said(NamedTuple):
    """A value as somebody wrote it, and where."""

    value: Any
    place: Place


Layer = dict[str, Said]
"""What one place says, by the words of the language."""


@dataclass(frozen=True, slots=True)
class Reference:
    """An entry of `images`: a file or a glob, with placeholders or without."""

    template: Template
    place: Place
    text: str
    """As written."""
    is_glob: bool = False
    label: str | None = None
    """For `[@label]`, folded."""
    role: str = "object"
    most: int | None = None
    is_optional: bool = False
    is_data: bool = False
    """It comes from a cell of a catalog, and must stay below the project."""
    is_item: bool = False
    """The image that is the item itself."""


def read(written: Map, problems: Problems) -> Layer:
    """The settings in a map that fits the schema; what is wrong with a value goes to the problems."""
    layer: Layer = {}
    for word in WORDS:
        if word in written:
            try:
                layer[word] = Said(value_of(word, written[word], written.nodes[word]), written.at(word))
            except JobError as error:
                problems.extend(error.problems)
    return layer


def value_of(word: str, value: Any, node: Node) -> Any:
    """The one form of a value, whatever way it was written; raises `JobError`."""
    match word:
        case "images":
            return tuple(_references(value))
        case "vars":
            return _vars(value)
        case "safety":
            return {name: Said(value[name], value.at(name)) for name in sorted(value)}
        case "prompt" if isinstance(value, Map):
            return value
        case _:
            return _plain(word, value, node.place)


def of_cell(word: str, text: str, place: Place, name: str = "") -> Any:
    """The value of a setting that is a cell of a catalog, or of `name` in a map; `ValueError`: message and hint."""
    if name:
        value = schema.read_text("threshold", text)
        if name not in schema.definition("safety")["properties"]:
            raise ValueError(f"'set.safety.{name}' is no filter of the service", "such as set.safety.dangerous_content")
        if wrong := schema.wrong_value("threshold", value, f"set.{word}.{name}"):
            raise ValueError(*wrong)
        return value
    if word == "images":
        parts = [part.strip() for part in text.replace("|", ";").split(";") if part.strip()]
        return tuple(_split_reference(part, place, is_data=True) for part in parts)
    value = schema.read_text(word, text)
    if wrong := schema.wrong_value(word, value, f"set.{word}"):
        raise ValueError(*wrong)
    try:
        return _plain(word, value, place)
    except JobError as error:
        raise ValueError(error.problems[0].message, error.problems[0].hint) from None


def _plain(word: str, value: Any, place: Place) -> Any:
    match word:
        case "search":
            return _search(value, place)
        case "response":
            return [kind for kind in ("text", "image") if kind in value]
        case "temperature" | "top_p":
            return int(value) if value == int(value) else value
        case _:
            return value


def _search(value: Any, place: Place) -> list[str]:
    if isinstance(value, bool):
        return ["web"] if value else []
    if "web" not in value:
        raise JobError([place.problem("'search' is true, false, [web] or [web, image]", "write [web, image]")])
    return [kind for kind in ("web", "image") if kind in value]


def _vars(written: Map) -> dict[str, Said]:
    first: dict[str, str] = {}
    for name in written:
        if fold(name) in first:
            raise JobError(
                [written.keys_at[name].problem(f"vars {quoted(first[fold(name)])} and {quoted(name)} have one name")]
            )
        first[fold(name)] = name
    return {name: Said(text_of(node), written.keys_at[name]) for name, node in written.nodes.items()}


def _references(written: List) -> Iterable[Reference]:
    labels: dict[str, str] = {}
    for value, node in zip(written, written.nodes, strict=True):
        if isinstance(value, Map) and value.is_cut and not {"file", "glob"} & value.keys():
            continue
        reference = _reference(value, node) if isinstance(value, Map) else _split_reference(value, node.place)
        if reference.label is not None and reference.label in labels:
            raise JobError([value.at("as").problem(f"images: the label {quoted(value['as'])} is there twice")])
        if reference.label is not None:
            labels[reference.label] = value["as"]
        yield reference


def _reference(written: Map, node: Node) -> Reference:
    kinds = [kind for kind in ("file", "glob") if kind in written]
    if len(kinds) != 1:
        found = "both are here" if kinds else "neither is here"
        raise JobError([node.place.problem(f"images: an entry has a file or a glob, and {found}")])
    kind = kinds[0]
    if kind == "file" and "max" in written:
        hint = "for several images say glob: instead of file:"
        raise JobError([written.keys_at["max"].problem("images: 'max' means nothing for one file", hint)])
    found_ = _split_reference(written[kind], written.at(kind))
    return Reference(
        found_.template,
        found_.place,
        found_.text,
        is_glob=kind == "glob",
        label=fold(written["as"]) if "as" in written else None,
        role=written.get("role", "object"),
        most=written.get("max"),
        is_optional=written.get("optional", False),
    )


def _split_reference(text: str, place: Place, *, is_data: bool = False) -> Reference:
    try:
        return Reference(split(text), place, text, is_data=is_data)
    except BracketError as error:
        raise JobError([place.problem(f"images: {error}", error.hint)]) from None


def over(*layers: Layer) -> Layer:
    """Layers laid over each other, the strongest last. Maps merge; of prompt, template and turns one is left."""
    whole: Layer = {}
    for layer in layers:
        if _WHAT_TO_DRAW & layer.keys():
            for word in _WHAT_TO_DRAW:
                whole.pop(word, None)
        for word, said in layer.items():
            if word in _MERGED and word in whole:
                whole[word] = Said({**whole[word].value, **said.value}, said.place)
            else:
                whole[word] = said
    return whole


def refuse_axes(layer: Layer, axes: Collection[str], problems: Problems) -> None:
    """A setting for some items that is an axis of the matrix would make cells equal."""
    named = {word: said.place for word, said in layer.items() if word != "vars"}
    named |= {name: said.place for name, said in (layer["vars"].value if "vars" in layer else {}).items()}
    folded = {fold(axis): axis for axis in axes}
    for word, place in named.items():
        axis = folded.get(fold(word))
        if axis is None and word in _WHAT_TO_DRAW:
            axis = next((other for other in axes if other in _WHAT_TO_DRAW), None)
        if axis is not None:
            message = f"{quoted(word)} cannot be set here: {quoted(axis)} is an axis of the matrix"
            problems.add(place.problem(message, "its cells would become equal: leave one out with exclude instead"))


def shown(word: str, value: Any) -> str:
    """A value as one text: for the names of cells, for placeholders, and for conditions."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, Map):  # prompt: {file: …}
        return str(value["file"])
    if isinstance(value, dict):
        return "+".join(str(said.value) for said in value.values())
    if isinstance(value, tuple):
        return "+".join(one.label or one.text.rpartition("/")[2].rpartition(".")[0] or one.text for one in value)
    if isinstance(value, list):
        return "+".join(value) or {"search": "false"}.get(word, "")
    return str(value)


def seconds(duration: str) -> float:
    """`90m`, `20h`, `2d` in seconds."""
    return float(duration[:-1]) * _UNITS[duration[-1]]


def folder_of(place: Place, otherwise: Path) -> Path:
    """The folder that paths written at a place are relative to."""
    return place.source.folder or otherwise
