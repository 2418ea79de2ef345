"""The job language: a manifest read, checked against its schema, and made into a `Job`."""

from __future__ import annotations

import codecs
import re
import stat
from dataclasses import dataclass, field
from decimal import Decimal
from typing import TYPE_CHECKING, Any, TypeVar

from pipeline.errors import JobError, Problem
from pipeline.job import matrix, schema, templates, yaml12
from pipeline.job.items import KINDS, Condition, Items
from pipeline.job.limits import Said
from pipeline.job.placeholders import BracketError, Template, fold, split
from pipeline.job.problems import Place, Problems, Source, listed, quoted, shown
from pipeline.job.slugs import slug
from pipeline.job.sources import is_glob, text_of
from pipeline.job.yaml12 import List, Map

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from pipeline.job.matrix import Matrix
    from pipeline.job.templates import Prompt

T = TypeVar("T")

__all__ = ["Batch", "Checks", "Job", "Retry", "load"]

MANY_ITEMS = 5_000
_RETRIED = frozenset({"failed", "no_image", "expired", "missing", "invalid"})
_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}
_SIZES = {"MB": 1_000_000, "GB": 1_000_000_000}
_DELIMITERS = {"csv": ",", "tsv": "\t"}
_NO_CHARSETS = {"idna", "punycode", "unicode-escape", "raw-unicode-escape", "utf-7", "undefined"}
"""Encodings Python knows that no catalog is written in; some give half characters."""
_EXTENSION = re.compile(r"\.(jpe?g|png|webp|gif|heic)$", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Retry:
    """How often an image that did not come is asked for again, and after which outcomes."""

    again: int = 2
    on: frozenset[str] = _RETRIED


@dataclass(frozen=True, slots=True)
class Batch:
    """How large a batch may be, and how old."""

    max_requests: int = 2000
    max_answer_bytes: int = 1_000_000_000
    max_input_bytes: int = 1_900_000_000
    deadline_s: float = 86_400.0
    on_stuck: str = "wait"


@dataclass(frozen=True, slots=True)
class Checks:
    """How closely an image is looked at."""

    decode: bool = True
    aspect_tolerance: float = 0.03
    not_blank: bool = True


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
    prompt: Prompt | None = field(repr=False)
    settings: Mapping[str, Said] = field(repr=False)
    """`template`, `model`, `aspect`, `size` as written at the top."""
    samples: int
    images: tuple[Said, ...] | None = field(repr=False)
    vars: Mapping[str, str] = field(repr=False)
    items: Items = field(repr=False)
    matrix: Matrix = field(repr=False)
    output: tuple[Template, Place] | None = field(repr=False)


def load(path: Path, *, root: Path) -> Job:
    """Read and validate one manifest against the schema; raises one `JobError` that names every problem."""
    path, root = path.absolute(), root.absolute()
    manifest = _read(path)
    problems = Problems()
    schema.read_by_type(manifest)
    problems.extend(schema.violations(manifest))
    problems.extend(_one_prompt(manifest, is_whole=not problems))
    problems.check()
    job = _job(manifest, path, root, problems)
    problems.check()
    return job


def _read(path: Path) -> Map:
    file = shown(path)
    whole = Place(Source(file))
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):
            raise JobError([whole.problem("is no file", "name a manifest, such as jobs/spring.yaml")])
        with path.open("rb") as stream:
            data = stream.read(yaml12.MAX_BYTES + 1)
    except OSError as error:
        raise JobError([whole.problem(f"cannot be read: {error.strerror}")]) from None
    root = yaml12.parse(yaml12.decoded(data, file), file)
    hint = "one line is a job: prompt: A red fox in fresh snow"
    if root.value is None:
        raise JobError([whole.problem("is empty", hint)])
    if not isinstance(root.value, Map):
        kind = "a list" if isinstance(root.value, List) else "a text"
        raise JobError([root.place.problem(f"a manifest is a map, not {kind}", hint)])
    return root.value


def _one_prompt(manifest: Map, *, is_whole: bool) -> list[Problem]:
    """Exactly one of prompt and template must say what to draw; none is told only if no key is misspelt."""
    axes = manifest.get("matrix")
    places = {word: manifest.keys_at[word] for word in ("prompt", "template") if word in manifest}
    if isinstance(axes, Map):
        places |= {word: axes.keys_at[word] for word in ("prompt", "template") if word in axes}
    if not places and is_whole:
        return [Place(manifest.place.source).problem("the job says nothing to draw", "add a key: prompt, or template")]
    if len(places) > 1:
        return [places["template"].problem("a job has a prompt or a template, not both", "delete one of them")]
    return []


def _job(manifest: Map, path: Path, root: Path, problems: Problems) -> Job:
    folder, warnings = path.parent, list[Problem]()
    name = manifest.get("job")
    return Job(
        name=name or slug(path.stem)[:64].rstrip("-"),
        path=path,
        folder=folder,
        root=root,
        description=manifest.get("description"),
        tags=tuple(manifest.get("tags", ())),
        retry=_retry(manifest.get("retry")),
        budget=_budget(manifest, "max"),
        per_image=_budget(manifest, "per_image"),
        sidecar=manifest.get("output", {}).get("sidecar", False),
        batch=_batch(manifest.get("batch", {})),
        checks=_checks(manifest.get("checks", {})),
        place=Place(manifest.place.source, 1, 1),
        prompt=_tried(problems, lambda: _prompt(manifest, folder)),
        settings=_said(manifest),
        samples=manifest.get("samples", 1),
        images=_images(manifest),
        vars=_vars(manifest, problems),
        items=_items(manifest, problems, warnings),
        matrix=_matrix(manifest, problems),
        output=_tried(problems, lambda: _output(manifest)),
        warnings=tuple(warnings),
    )


def _tried(problems: Problems, reading: Callable[[], T]) -> T | None:
    try:
        return reading()
    except JobError as error:
        problems.extend(error.problems)
        return None


def _prompt(manifest: Map, folder: Path) -> Prompt | None:
    if "prompt" not in manifest:
        return None
    node = manifest.nodes["prompt"]
    if isinstance(node.value, Map):
        return templates.from_file(folder / node.value["file"], node.value.at("file"))
    return templates.prompt(manifest["prompt"], node.place)


def _said(manifest: Map) -> dict[str, Said]:
    return {
        word: Said(manifest[word], manifest.at(word))
        for word in ("template", "model", "aspect", "size")
        if word in manifest
    }


def _images(manifest: Map) -> tuple[Said, ...] | None:
    if "images" not in manifest:
        return None
    return tuple(Said(text_of(node), node.place) for node in manifest["images"].nodes)


def _vars(manifest: Map, problems: Problems) -> dict[str, str]:
    written = manifest.get("vars")
    if written is None:
        return {}
    first: dict[str, str] = {}
    for name in written:
        if fold(name) in first:
            problems.add(
                written.keys_at[name].problem(f"vars {quoted(first[fold(name)])} and {quoted(name)} have one name")
            )
        first.setdefault(fold(name), name)
    return {name: text_of(node) for name, node in written.nodes.items()}


def _matrix(manifest: Map, problems: Problems) -> Matrix:
    return matrix.read(manifest.get("matrix"), problems)


def _retry(written: Any) -> Retry:
    if isinstance(written, int):
        return Retry(again=written)
    if written is None:
        return Retry()
    return Retry(written.get("again", 2), frozenset(written.get("on", _RETRIED)))


def _budget(manifest: Map, word: str) -> Decimal | None:
    node = manifest.nodes.get("budget")
    if node is not None and isinstance(node.value, Map):
        node = node.value.nodes.get(word)
    elif word != "max":
        node = None
    return None if node is None else Decimal(node.text or "0")


def _batch(written: Mapping[str, Any]) -> Batch:
    batch = Batch()
    most = written.get("max_bytes", batch.max_answer_bytes)
    if isinstance(most, str):
        most = int(Decimal(most[:-2]) * _SIZES[most[-2:]])
    deadline = written.get("deadline", "24h")
    return Batch(
        max_requests=written.get("max_requests", batch.max_requests),
        max_answer_bytes=most,
        max_input_bytes=min(most, batch.max_input_bytes) if "max_bytes" in written else batch.max_input_bytes,
        deadline_s=float(deadline[:-1]) * _UNITS[deadline[-1]],
        on_stuck=written.get("on_stuck", batch.on_stuck),
    )


def _checks(written: Mapping[str, Any]) -> Checks:
    tolerance = written.get("aspect_tolerance", 0.03)
    share = float(Decimal(tolerance.rstrip("% ")) / 100) if isinstance(tolerance, str) else float(tolerance)
    return Checks(written.get("decode", True), share, written.get("not_blank", True))


def _output(manifest: Map) -> tuple[Template, Place] | None:
    written = manifest.get("output", {})
    if "path" not in written:
        return None
    path, place = written["path"], written.at("path")
    try:
        template = split(path)
    except BracketError as error:
        raise JobError([place.problem(f"output.path: {error}", error.hint)]) from None
    parts = "".join(part if isinstance(part, str) else "[]" for part in template.parts).split("/")
    if wrong := _wrong_path(parts):
        raise JobError([place.problem(f"output.path: {wrong[0]}", wrong[1])])
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


def _items(manifest: Map, problems: Problems, warnings: list[Problem]) -> Items:
    node = manifest.nodes.get("items")
    if node is None:
        return Items("one", Place(manifest.place.source, 1, 1))
    if isinstance(node.value, List):
        return _list(node.value, problems, warnings)
    if isinstance(node.value, Map):
        return _catalog(node.value, problems)
    return _path(manifest["items"], node.place, problems)


def _list(rows: List, problems: Problems, warnings: list[Problem]) -> Items:
    if not rows:
        problems.add(rows.place.problem("'items' is an empty list", "leave it out for a job of one item"))
    if len(rows) > MANY_ITEMS:
        warnings.append(
            rows.place.problem(f"{len(rows):,} items in YAML are slow to read", "put them in a CSV or JSONL file")
        )
    for row in rows:
        for field_ in row if isinstance(row, Map) else ():
            if fold(field_) in matrix.SETTINGS:
                hint = "to set it for all items write it at the top; for several values, in matrix"
                warnings.append(
                    row.keys_at[field_].problem(f"{quoted(field_)} in an item is a placeholder, not a setting", hint)
                )
    return Items("list", rows.place, rows=rows)


def _path(text: str, place: Place, problems: Problems) -> Items:
    ending = text.rpartition(".")[2].lower()
    if ending not in {"csv", "tsv", "jsonl"}:
        if is_glob(text):
            return Items("glob", place, text)
        hint = "items is a list, x.csv, x.tsv, x.jsonl, or a glob of images such as photos/*.jpg"
        problems.add(place.problem(f"{quoted(text)} is no catalog", hint))
    return Items(ending, place, text, delimiter=_DELIMITERS.get(ending, ","))


def _catalog(written: Map, problems: Problems) -> Items:
    kinds = [kind for kind in KINDS if kind in written]
    if len(kinds) != 1:
        found = f"not {listed(kinds, last='and')}" if kinds else "and here is none"
        problems.add(written.place.problem(f"'items' needs one of {listed(KINDS)}, {found}"))
        return Items("one", written.place)
    kind = kinds[0]
    _check_options(kind, written, problems)
    words = _text(written, "id")
    template = None
    if words is not None and "[" in words:
        template = _tried(problems, lambda: _id_template(words, written.at("id")))
    return Items(
        kind,
        written.at(kind),
        written[kind],
        id=None if template else words,
        id_template=template,
        rename={old: text_of(node) for old, node in written["rename"].nodes.items()} if "rename" in written else {},
        where=tuple(_condition(written["where"], name) for name in written.get("where", ())),
        unique="unique" in written,
        limit=written.get("limit"),
        delimiter=written.get("delimiter", _DELIMITERS.get(kind, ",")),
        encoding=_encoding(written, problems),
    )


def _check_options(kind: str, written: Map, problems: Problems) -> None:
    useless = {"csv": set(), "tsv": set(), "jsonl": {"delimiter"}, "glob": {"delimiter", "encoding", "rename"}}[kind]
    for key in written:
        if key in useless:
            problems.add(written.keys_at[key].problem(f"{quoted(key)} means nothing for {kind}", "delete it"))


def _text(written: Map, key: str) -> str | None:
    return text_of(written.nodes[key]) if key in written else None


def _id_template(text: str, place: Place) -> Template:
    try:
        return split(text)
    except BracketError as error:
        raise JobError([place.problem(f"id: {error}", error.hint)]) from None


def _condition(where: Map, name: str) -> Condition:
    node, is_not = where.nodes[name], False
    if isinstance(node.value, Map):
        node, is_not = node.value.nodes["not"], True
    nodes = node.value.nodes if isinstance(node.value, List) else [node]
    return Condition(fold(name), name, is_not, frozenset(text_of(one).strip() for one in nodes), where.keys_at[name])


def _encoding(written: Map, problems: Problems) -> str:
    encoding = _text(written, "encoding") or "utf-8"
    try:
        "".encode(encoding)
        name = codecs.lookup(encoding).name
    except (LookupError, ValueError):
        name = ""
    if not name or name in _NO_CHARSETS:
        problems.add(
            written.at("encoding").problem(f"unknown encoding {quoted(encoding)}", "such as utf-8, utf-16 or cp1252")
        )
        return "utf-8"
    return name
