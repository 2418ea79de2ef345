"""Prompt templates in files of their own: found by name, with front matter that names their variables."""

from __future__ import annotations

import stat
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from pipeline.errors import JobError
from pipeline.job import yaml12
from pipeline.job.matrix import SETTINGS
from pipeline.job.placeholders import BracketError, Template, fold, split
from pipeline.job.problems import Place, Source, meant, quoted, shown
from pipeline.job.sources import text_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

_KEYS = ("description", "variables")
_ENDINGS = ("", ".md", ".txt")
_FENCE = "---"


@dataclass(frozen=True, slots=True)
class Prompt:
    """A prompt, split at its placeholders, and where it was written."""

    template: Template
    place: Place
    variables: Mapping[str, str | None] = field(default_factory=dict)
    """Defaults of a template file by folded name; None: must be given."""
    name: str | None = None


def prompt(text: str, place: Place) -> Prompt:
    """A prompt written in the manifest or in a file of plain text."""
    return Prompt(_split(text, place), place)


def from_file(path: Path, place: Place) -> Prompt:
    """`prompt: {file: …}`: a text without front matter."""
    text = _read(path, place)
    return prompt(text, Place(Source(shown(path), text.splitlines()), 1, 1))


def find(name: str, *, folder: Path, root: Path, place: Place) -> Path:
    """The file of a template: in `templates/` beside the manifest, then in each parent up to `root`; else a path."""
    folders = [folder]
    if folder.is_relative_to(root):
        folders += [parent for parent in folder.parents if parent.is_relative_to(root)]
    else:
        folders.append(root)
    for candidate in _candidates(name, folders):
        if _is_file(candidate):
            return candidate
    known = sorted({path.stem for parent in folders for path in (parent / "templates").glob("*.*")})
    looked = ", ".join(shown(parent / "templates") for parent in folders)
    message = f"there is no template {quoted(name)}{meant(name, known)}"
    raise JobError([place.problem(message, f"looked for {name}.md and {name}.txt in {looked}")])


def _candidates(name: str, folders: list[Path]) -> Iterator[Path]:
    for parent in folders:
        for ending in _ENDINGS:
            yield parent / "templates" / f"{name}{ending}"
    for ending in _ENDINGS:
        yield folders[0] / f"{name}{ending}"


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except (OSError, ValueError):  # a name too long to be one, or with a NUL
        return False


def load(path: Path, name: str, place: Place) -> Prompt:
    """Read a template file: front matter between `---` lines, if any, then the prompt."""
    text = _read(path, place)
    lines = text.splitlines()
    source = Source(shown(path), lines)
    if not lines or lines[0].rstrip() != _FENCE:
        return Prompt(_split(text, Place(source, 1, 1)), Place(source, 1, 1), name=name)
    end = next((number for number, line in enumerate(lines) if number and line.rstrip() == _FENCE), None)
    if end is None:
        raise JobError([Place(source, 1, 1).problem("front matter without an end", "close it with a line ---")])
    front = yaml12.parse("\n".join(["", *lines[1:end]]), source.file).value
    body = Place(source, end + 2, 1)
    return Prompt(_split("\n".join(lines[end + 1 :]), body), body, _variables(front, source), name)


def _variables(front: object, source: Source) -> dict[str, str | None]:
    if front is None:
        return {}
    if not isinstance(front, yaml12.Map):
        raise JobError([Place(source, 2, 1).problem("front matter is a map of description and variables")])
    for key in front:
        if key in SETTINGS:
            raise JobError(
                [front.keys_at[key].problem(f"{quoted(key)} in front matter is not supported yet by this version")]
            )
        if key not in _KEYS:
            raise JobError(
                [front.keys_at[key].problem(f"unknown key {quoted(key)} in front matter{meant(key, _KEYS)}")]
            )
    variables = front.get("variables")
    if variables is None:
        return {}
    if not isinstance(variables, yaml12.Map):
        raise JobError(
            [front.at("variables").problem("'variables' is a map: name: default, or name: for one that must be given")]
        )
    return {fold(name): _default(node) for name, node in variables.nodes.items()}


def _default(node: yaml12.Node) -> str | None:
    if node.text is None:
        raise JobError([node.place.problem("the default of a variable is a text", 'quote it: "[…]"')])
    return None if node.value is None else text_of(node)


def _read(path: Path, place: Place) -> str:
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):
            raise JobError([place.problem(f"{quoted(shown(path))} is no file")])
        if status.st_size > yaml12.MAX_BYTES:
            raise JobError([place.problem(f"{quoted(shown(path))} is too large for a text")])
        text = yaml12.decoded(path.read_bytes(), shown(path))
    except OSError as error:
        raise JobError([place.problem(f"cannot read {quoted(shown(path))}: {error.strerror}")]) from None
    if "\0" in text:
        raise JobError([place.problem(f"{quoted(shown(path))} is no text: it holds a NUL character")])
    return text


def _split(text: str, place: Place) -> Template:
    """Split a prompt, without the white space around it, which YAML's block styles leave or not."""
    if not text.strip():
        raise JobError([place.problem("the prompt is empty")])
    try:
        return split(text.strip())
    except BracketError as error:
        raise JobError([place.problem(str(error), error.hint)]) from None
