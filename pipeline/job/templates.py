"""Prompt templates in files of their own: found by name, with front matter that names variables and settings."""

from __future__ import annotations

import hashlib
import stat
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.errors import JobError
from pipeline.job import schema, settings, yaml12
from pipeline.job.placeholders import BracketError, Template, fold, split
from pipeline.job.problems import Place, Problems, Source, file_name, located, meant, quoted, shown
from pipeline.job.sources import text_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from pipeline.job.settings import Layer

_ENDINGS = ("", ".md", ".txt")
_FENCE = "---"
_LONG = 60
_LIBRARY = Path(__file__).parent.parent / "templates"
"""The templates that come with the product."""


@dataclass(frozen=True, slots=True)
class Prompt:
    """A text with placeholders, split, and where it was written."""

    template: Template
    place: Place
    variables: Mapping[str, str | None] = field(default_factory=dict)
    """Defaults of a template file by folded name; None: must be given."""
    name: str | None = None
    """Of a template, as it was asked for."""
    layer: Layer = field(default_factory=dict)
    """Settings in its front matter."""
    sha256: str = ""
    """Of a template file: its version."""
    description: str = ""


def prompt(text: str, place: Place) -> Prompt:
    """A prompt written in the manifest or in a file of plain text."""
    return Prompt(_split(text, place), place)


def from_file(path: Path, place: Place) -> Prompt:
    """`prompt: {file: …}`: a text without front matter."""
    text = _read(path, place)
    return prompt(text, Place(Source(shown(path), text.split("\n"), path.parent), 1, 1))


# ------------------------------------------------------------------------------------------- look-up


def find(name: str, *, folders: Sequence[Path], root: Path, place: Place, suggest: bool = True) -> Path:
    """The file of a template.

    Looked for in `templates/` of each folder and of its parents up to `root`, then as a path relative to the last
    folder, then among those that come with the product; raises `JobError`.
    """
    parents = _parents(folders, root)
    for candidate in _candidates(name, parents, folders[-1]):
        if _is_file(candidate):
            return candidate
    known = sorted({path.stem for parent in [*parents, None] for path in _files(parent)}) if suggest else ()
    looked = ", ".join(shown(parent / "templates") for parent in parents)
    message = f"there is no template {quoted(name)}{meant(name, known)}"
    short = name if len(name) < _LONG else f"{name[:_LONG]}…"
    hint = f"looked for {short}.md and {short}.txt in {looked}; `pipeline ls templates` lists those that come along"
    raise JobError([place.problem(message, hint)])


def nearer(path: Path, *, folders: Sequence[Path], root: Path) -> Iterator[Path]:
    """The folders of templates that `find` looked into before it found `path`: a file put there would go before it."""
    for parent in _parents(folders, root):
        folder = parent / "templates"
        if path.is_relative_to(folder):
            return
        if folder.is_dir():
            yield folder


def before(name: str, path: Path, *, folders: Sequence[Path], root: Path) -> Iterator[Path]:
    """The files that `find` looked for before it found `path`, and that are not there."""
    for candidate in _candidates(name, _parents(folders, root), folders[-1]):
        if candidate == path:
            return
        yield candidate


def _parents(folders: Sequence[Path], root: Path) -> list[Path]:
    return list(dict.fromkeys(parent for folder in folders for parent in _upwards(folder, root)))


def _upwards(folder: Path, root: Path) -> list[Path]:
    if folder.is_relative_to(root):
        return [folder, *(parent for parent in folder.parents if parent.is_relative_to(root))]
    return [folder, root]


def _candidates(name: str, parents: Sequence[Path], folder: Path) -> Iterator[Path]:
    for parent in parents:
        for ending in _ENDINGS:
            yield parent / "templates" / f"{name}{ending}"
    for ending in _ENDINGS:
        yield folder / f"{name}{ending}"
    if "/" not in name and "\\" not in name:
        yield _LIBRARY / f"{name}.md"


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except (OSError, ValueError):  # a name too long to be one, or with a NUL
        return False


def _files(parent: Path | None) -> list[Path]:
    """The template files of a project's folder, or of the library."""
    folder = _LIBRARY if parent is None else parent / "templates"
    return sorted(path for path in folder.glob("*") if path.suffix in _ENDINGS and not path.name.startswith(("_", ".")))


def listed(folders: Sequence[Path]) -> Iterator[tuple[Path, bool]]:
    """Every template by file, the project's before those that come along; whether it is of the library."""
    seen = set()
    for parent in [*folders, None]:
        for path in _files(parent):
            if path.is_file() and path.stem not in seen:
                seen.add(path.stem)
                yield path, parent is None


def is_shipped(path: Path) -> bool:
    """Whether a template is one that comes with the product."""
    return path.parent == _LIBRARY


# -------------------------------------------------------------------------------------------- reading


def load(path: Path, name: str, place: Place) -> Prompt:
    """Read a template file: front matter between `---` lines, if any, then the prompt; raises `JobError`."""
    text = _read(path, place)
    if is_shipped(path):
        return _shipped(text, path, name)
    return _parsed(text, path, name)


@cache
def _shipped(text: str, path: Path, name: str) -> Prompt:
    return _parsed(text, path, name)


def _parsed(text: str, path: Path, name: str) -> Prompt:
    lines = text.split("\n")
    source = Source(f"template:{path.stem}" if is_shipped(path) else shown(path), lines, path.parent)
    sha256 = hashlib.sha256(text.encode()).hexdigest()
    if not lines or lines[0].rstrip() != _FENCE:
        return Prompt(_split(text, Place(source, 1, 1)), Place(source, 1, 1), name=name, sha256=sha256)
    end = next((number for number, line in enumerate(lines) if number and line.rstrip() == _FENCE), None)
    if end is None:
        raise JobError([Place(source, 1, 1).problem("front matter without an end", "close it with a line ---")])
    front = _front_matter("\n".join(["", *lines[1:end]]), source)
    body = Place(source, end + 2, 1)
    problems = Problems()
    layer = settings.read(front, problems)
    problems.check()
    return Prompt(
        template=_split("\n".join(lines[end + 1 :]), body),
        place=body,
        variables=_variables(front),
        name=name,
        layer=layer,
        sha256=sha256,
        description=front.get("description", ""),
    )


def _front_matter(text: str, source: Source) -> yaml12.Map:
    """What stands between the fences, checked against the schema; its places are those of the whole file."""
    front = yaml12.parse(text, source.file, source.folder).value
    if front is None:
        return yaml12.Map(Place(source, 1, 1))
    if not isinstance(front, yaml12.Map):
        raise JobError([Place(source, 2, 1).problem("front matter is a map of description, variables and settings")])
    schema.read_by_type(front, schema.definition("front_matter"))
    problems = Problems()
    problems.extend(one.problem for one in schema.violations(front, "front_matter"))
    problems.check()
    return front


def _variables(front: yaml12.Map) -> dict[str, str | None]:
    variables = front.get("variables")
    if variables is None:
        return {}
    return {fold(name): None if node.value is None else text_of(node) for name, node in variables.nodes.items()}


def _read(path: Path, place: Place) -> str:
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):
            raise JobError([place.problem(f"{file_name(path)} is no file")])
        if status.st_size > yaml12.MAX_BYTES:
            raise JobError([place.problem(f"{file_name(path)} is too large for a text")])
        text = yaml12.decoded(path.read_bytes(), shown(path))
    except OSError as error:
        raise JobError([place.problem(f"cannot read {file_name(path)}: {error.strerror}")]) from None
    except ValueError as error:
        raise JobError([place.problem(f"{quoted(str(path))} cannot be a path: {error}")]) from None
    if "\0" in text:
        raise JobError([place.problem(f"{file_name(path)} is no text: it holds a NUL character")])
    yaml12.refuse_keys(text, shown(path))
    return text.replace("\r\n", "\n")  # what git does to line ends buys nothing


def _split(text: str, place: Place) -> Template:
    """Split a prompt, without the white space around it, which YAML's block styles leave or not."""
    if not text.strip():
        raise JobError([place.problem("the prompt is empty")])
    try:
        return split(text.strip())
    except BracketError as error:
        raise JobError([_within(text, place, error.index).problem(str(error), error.hint)]) from None


def _within(text: str, place: Place, index: int) -> Place:
    """Where a character of a file's text stands; texts inside a manifest keep the place of their start."""
    lines = place.source.lines
    inside = text[: len(text) - len(text.lstrip()) + index]
    if text.split("\n") != list(lines[place.line - 1 :]):
        return located(place, text[index:].partition("\n")[0][:20]) if index < len(text) else place
    last = inside.rpartition("\n")[2]
    return Place(place.source, place.line + inside.count("\n"), len(last) + 1)
