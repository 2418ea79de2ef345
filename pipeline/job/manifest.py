"""A manifest as it stands, with what it extends merged in: one map whose parts know the file they come from."""

from __future__ import annotations

import stat
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from pipeline.errors import JobError
from pipeline.job import schema, yaml12
from pipeline.job.dependencies import Dependencies
from pipeline.job.globs import near
from pipeline.job.problems import Place, Problems, Source, listed, shown
from pipeline.job.yaml12 import List, Map

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from pipeline.errors import Problem

ONE_OF = ("prompt", "template", "turns")
"""What says what to draw: a job has one of them."""
_MERGED = frozenset({"vars", "batch", "checks", "matrix", "safety"})
_OWN = frozenset({"job", "description", "version", "extends"})
"""What a base keeps for itself."""
_MOST_BASES = 50


@dataclass(slots=True)
class Manifest:
    """What was read: everything that fits the schema, and what does not."""

    map: Map
    problems: Problems
    gaps: set[str] = field(default_factory=set)
    """Top-level keys that lost something for not fitting; `?` for a key nobody knows."""


def read(path: Path, dependencies: Dependencies | None = None) -> Manifest:
    """Read a manifest and all it extends; raises `JobError` where nothing can be made of it at all.

    Each file it is made from goes to the dependencies.
    """
    found = Manifest(Map(Place(Source(shown(path), (), path.parent))), Problems())
    found.map = _Reader(found, dependencies or Dependencies()).whole(path)
    return found


class _Reader:
    """Reads manifests, each with its bases first."""

    def __init__(self, found: Manifest, dependencies: Dependencies) -> None:
        self._found = found
        self._dependencies = dependencies
        self._count = 0

    def whole(self, path: Path, chain: tuple[Path, ...] = ()) -> Map:
        self._count += 1
        self._dependencies.add(path)
        own = _parsed(path)
        schema.read_by_type(own)
        deleted = _nulls(own) if own.get("extends") else frozenset()
        _refuse_turns_in_matrix(own, self._found.problems)
        violations = list(schema.violations(own))
        first = {one.path: one.problem for one in reversed(violations)}  # one for each value
        self._found.problems.extend(sorted(first.values()))
        self._found.gaps |= schema.pruned(own, violations)
        merged = Map(own.place)
        for text, place in _bases(own):
            if base := self._base(path.parent / text, place, (*chain, path)):
                _make_room(base, merged)
                _merge(base, merged, deleted=frozenset())
        if "extends" in own:
            _make_room(own, merged)
        _merge(own, merged, deleted=deleted, is_base=False)
        return merged

    def _base(self, path: Path, place: Place, chain: tuple[Path, ...]) -> Map | None:
        known = [one.resolve() for one in chain]
        if path.resolve() in known:
            circle = " → ".join(shown(one) for one in [*chain[known.index(path.resolve()) :], path])
            self._found.problems.add(place.problem(f"extends goes round in a circle: {circle}"))
        elif self._count > _MOST_BASES:
            self._found.problems.add(place.problem(f"more than {_MOST_BASES} manifests in one"))
        else:
            try:
                return self.whole(path, chain)
            except JobError as error:
                self._found.problems.extend(_at_its_place(error, path, place))
                self._found.gaps.add("extends")
        return None


def _at_its_place(error: JobError, path: Path, place: Place) -> Iterable[Problem]:
    """A base that cannot be read at all is a problem of the line that names it."""
    for problem in error.problems:
        if problem.line:
            yield problem
        else:
            near_name = near(path) if not path.exists() else ""
            yield place.problem(f"{shown(path)} {problem.message}{near_name}", problem.hint)


def _parsed(path: Path) -> Map:
    file = shown(path)
    whole = Place(Source(file))
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):
            raise JobError([whole.problem("is no file", "name a manifest, such as jobs/spring.yaml")])
        with path.open("rb") as stream:
            data = stream.read(yaml12.MAX_BYTES + 1)
    except (OSError, ValueError) as error:
        why = error.strerror if isinstance(error, OSError) else str(error)
        raise JobError([whole.problem(f"cannot be read: {why}")]) from None
    root = yaml12.parse(yaml12.decoded(data, file), file, path.parent)
    hint = "one line is a job: prompt: A red fox in fresh snow"
    if root.value is None:
        raise JobError([whole.problem("is empty", hint)])
    if not isinstance(root.value, Map):
        kind = "a list" if isinstance(root.value, List) else "a text"
        raise JobError([root.place.problem(f"a manifest is a map, not {kind}", hint)])
    return root.value


def _nulls(own: Map) -> frozenset[tuple[str, ...]]:
    """Take out the keys that say null, and return them: they take an inherited value away.

    A key nobody knows stays, to be told. A map of which nothing is left goes as well.
    """
    known = schema.schema("job")["properties"].keys() - {"extends"}
    found: list[tuple[str, ...]] = [(key,) for key in own if own[key] is None and key in known]
    for key in own.keys() & _MERGED:
        inner = own[key]
        names = schema.keys_of(key)
        nulls = [name for name in inner if inner[name] is None] if isinstance(inner, Map) else []
        nulls = [name for name in nulls if names is None or name in names]
        for name in nulls:
            found.append((key, name))
            inner.drop(name)
        if nulls and not inner:
            own.drop(key)
    for path in found:
        if len(path) == 1:
            own.drop(path[0])
    return frozenset(found)


def _bases(own: Map) -> list[tuple[str, Place]]:
    if "extends" not in own:
        return []
    node = own.nodes["extends"]
    if isinstance(node.value, List):
        return [(text, one.place) for text, one in zip(node.value, node.value.nodes, strict=True)]
    return [(own["extends"], node.place)]


def _make_room(own: Map, inherited: Map) -> None:
    """Naming one of prompt, template and turns takes the others away from what is inherited."""
    axes = own.get("matrix")
    if any(word in own or (isinstance(axes, Map) and word in axes) for word in ONE_OF):
        for word in ONE_OF:
            inherited.drop(word)


def _merge(stronger: Map, into: Map, *, deleted: frozenset[tuple[str, ...]], is_base: bool = True) -> None:
    for path in deleted:
        if len(path) == 1:
            into.drop(path[0])
        elif path[0] in into:
            into[path[0]].drop(path[1])
            if not into[path[0]]:
                into.drop(path[0])
    for key, node in stronger.nodes.items():
        if not is_base or (key not in _OWN and not key.startswith("x-")):
            value = stronger[key]
            if key in _MERGED and isinstance(value, Map) and isinstance(into.get(key), Map):
                value = _joined(into[key], value)
            into.put(key, stronger.keys_at[key], node._replace(value=value))


def _joined(weaker: Map, stronger: Map) -> Map:
    """Two maps in one; in both, the stronger."""
    whole = Map(stronger.place)
    for part in (weaker, stronger):
        for name, node in part.nodes.items():
            whole.put(name, part.keys_at[name], node._replace(value=part[name]))
    return whole


def _refuse_turns_in_matrix(own: Map, problems: Problems) -> None:
    axes = own.get("matrix")
    if isinstance(axes, Map) and "turns" in axes:
        problems.add(axes.keys_at["turns"].problem("'turns' stands at the top of a job, not in matrix"))
        axes.drop("turns")
        axes.is_cut = True
        if not axes:
            own.drop("matrix")


def one_prompt(found: Manifest) -> None:
    """Exactly one of prompt, template and turns must say what to draw; none is told only where no key is wrong."""
    manifest, axes = found.map, found.map.get("matrix")
    places = {word: manifest.keys_at[word] for word in ONE_OF if word in manifest}
    if isinstance(axes, Map):
        places |= {word: axes.keys_at[word] for word in ONE_OF if word in axes}
    if not places and not found.problems:
        whole = Place(manifest.place.source, 1, 1)
        hint = "add a key: prompt, template, or turns"
        found.problems.add(whole.problem("the job says nothing to draw", hint))
    if len(places) > 1:
        last = places[list(places)[-1]]
        message = f"a job has one of {listed(ONE_OF, last='and')}, and here are {listed(places, last='and')}"
        others = listed([f"{word} is in {at}" for word, at in places.items() if at != last], last="and")
        found.problems.add(last.problem(message, f"keep one of them; {others}"))
        found.gaps.add("prompt")
    _check_pairs(manifest, found.problems)


def _check_pairs(manifest: Map, problems: Problems) -> None:
    """In what is set for some items, prompt and template exclude each other, too."""
    for settings in _sets(manifest):
        if "prompt" in settings and "template" in settings:
            place = settings.keys_at["template"]
            problems.add(place.problem("either a prompt or a template, not both", "delete one of them"))


def _sets(manifest: Map) -> Iterable[Map]:
    for word in ("overrides", "items", "turns"):
        rows = manifest.get(word)
        for row in rows if isinstance(rows, List) else ():
            inner = row if word == "turns" else row.get("set") if isinstance(row, Map) else None
            if isinstance(inner, Map):
                yield inner
