"""The schemas, and what is wrong with a manifest by its schema, in words and with places.

The schema is the only source of truth for the language: which keys there are, of what type, with which
limits. What this version does not know yet is named here, so that it is refused by name.
"""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.job.problems import Place, listed, meant, quoted
from pipeline.job.yaml12 import List, Map

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from pipeline.errors import Problem

LATER_SETTINGS = frozenset(
    {
        *("system", "response", "search", "thinking", "thoughts", "temperature", "top_p", "seed"),
        *("max_output_tokens", "safety", "max_age"),
    }
)
_LATER: Mapping[tuple[str, ...], frozenset[str]] = {
    (): LATER_SETTINGS | {"extends", "overrides", "tables", "turns", "metadata", "post"},
    ("items",): frozenset({"fill", "text"}),
    ("budget",): frozenset({"per_image"}),
    ("output",): frozenset({"sidecar"}),
}
_LATER_WORDS = {("batch", "on_stuck"): {"cancel", "interactive"}}
_KINDS = {
    "string": "a text",
    "integer": "a whole number",
    "number": "a number",
    "boolean": "true or false",
    "array": "a list",
    "object": "a map",
    "null": "nothing",
}
_PYTHON = {
    "string": str,
    "integer": int,
    "number": (int, float),
    "boolean": bool,
    "array": list,
    "object": dict,
    "null": type(None),
}


@cache
def schema(name: str) -> Mapping[str, Any]:
    """The schema `job` or `record`: from the installed package, else from the source tree."""
    package = Path(__file__).parent.parent
    installed = package / "schemas" / f"{name}.schema.json"
    path = installed if installed.is_file() else package.parent / "schemas" / f"{name}.schema.json"
    loaded: Mapping[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return loaded


@cache
def _validator() -> Any:
    from jsonschema import Draft202012Validator  # noqa: PLC0415 - 0.1 s that --help need not pay

    return Draft202012Validator(schema("job"))


def read_by_type(value: Any, rule: Mapping[str, Any] | None = None) -> None:
    """Give every scalar the type its key has: where a text is expected, `1.50` stays `1.50`. Changes in place."""
    rule = _resolved(rule if rule is not None else schema("job"))
    if isinstance(value, Map):
        rule = _branch(value, rule)
        for key, node in list(value.nodes.items()):
            value[key] = _typed(node, _rule_of(key, rule))
    elif isinstance(value, List):
        rule = _branch(value, rule)
        for number, node in enumerate(value.nodes):
            value[number] = _typed(node, rule.get("items"))


def _typed(node: Any, rule: Mapping[str, Any] | None) -> Any:
    if rule is None:
        return node.value
    if node.text is None:
        read_by_type(node.value, rule)
        return node.value
    rule = _resolved(rule)
    wants_text = "string" in _types(rule) or any(isinstance(word, str) for word in rule.get("enum", ()))
    if wants_text and node.value is not None and not _is_wanted_number(node.value, rule):
        return node.text
    return node.value


def _is_wanted_number(value: Any, rule: Mapping[str, Any]) -> bool:
    """Whether one of several types a key may have is the number (or truth) that was written."""
    types = _types(rule) if "anyOf" in rule else set()
    return type(value) is not str and any(_is(value, kind) for kind in types - {"string"})


def _rule_of(key: str, rule: Mapping[str, Any]) -> Mapping[str, Any] | None:
    if key.startswith("x-") and "patternProperties" in rule:
        return None
    known = rule.get("properties", {}).get(key, rule.get("additionalProperties"))
    return known if isinstance(known, dict) else None


def _resolved(rule: Mapping[str, Any]) -> Mapping[str, Any]:
    if "$ref" in rule:
        target: Mapping[str, Any] = schema("job")["definitions"][rule["$ref"].rpartition("/")[2]]
        return target
    return rule


def _branch(value: Any, rule: Mapping[str, Any]) -> Mapping[str, Any]:
    """Of several rules, the one for values of this kind."""
    return next((way for way in rule.get("anyOf", ()) if any(_is(value, kind) for kind in _types(way))), rule)


def _types(rule: Mapping[str, Any]) -> set[str]:
    kinds = rule.get("type", [])
    own = {kinds} if isinstance(kinds, str) else set(kinds)
    return own.union(*(_types(way) for way in rule.get("anyOf", ())))


def _is(value: Any, kind: str) -> bool:
    if isinstance(value, bool):
        return kind == "boolean"
    return isinstance(value, _PYTHON[kind])  # type: ignore[arg-type]


def violations(manifest: Map) -> Iterator[Problem]:
    """What the schema has against a manifest."""
    for error in _validator().iter_errors(manifest):
        yield from _explained(error, manifest)
    axes = manifest.get("matrix")
    if isinstance(axes, Map):
        for axis in axes.keys() & (LATER_SETTINGS | {"turns"}):
            yield axes.keys_at[axis].problem(f"{quoted(axis)} is not supported yet by this version")


def _explained(error: Any, manifest: Map) -> Iterator[Problem]:
    if error.validator == "anyOf":
        yield from _nearest(error, manifest)
        return
    path = tuple(error.absolute_path)
    if error.validator == "additionalProperties":
        yield from _unknown_keys(error, path)
        return
    at = _place(manifest, path)
    if later := _later_form(error, path):
        yield at.problem(f"{later} is not supported yet by this version")
        return
    message, hint = _words(error, path, at)
    yield at.problem(message, hint)


def _later_form(error: Any, path: tuple[Any, ...]) -> str:
    """What a value is that has a form of a later version."""
    if error.validator != "type":
        return ""
    if path[0] == "items" and path[-1] == "set":
        return "'set'"
    return "an image as a map" if path[0] == "images" and isinstance(error.instance, Map) else ""


def _nearest(error: Any, manifest: Map) -> Iterator[Problem]:
    """Of the ways a key may be written, the one that was tried; else what they all are."""
    ways = error.validator_value
    for number, way in enumerate(ways):
        if any(_is(error.instance, kind) for kind in _types(way)):
            for inner in error.context:
                if inner.relative_schema_path[0] == number:
                    yield from _explained(inner, manifest)
            return
    path = tuple(error.absolute_path)
    at = _place(manifest, path)
    kinds = listed(dict.fromkeys(_KINDS[kind] for way in ways for kind in _in_order(way)))
    yield at.problem(f"{_name(path)} is {kinds}, not {_kind(error.instance)}", _quote_it(error.instance, at))


def _in_order(way: Mapping[str, Any]) -> Iterable[str]:
    kinds = way.get("type", [])
    return [kinds] if isinstance(kinds, str) else [kind for kind in kinds if kind != "null"]


def _unknown_keys(error: Any, path: tuple[Any, ...]) -> Iterator[Problem]:
    known = error.schema.get("properties", {})
    for key in error.instance:
        if key in known or (not path and key.startswith("x-")):
            continue
        at = error.instance.keys_at[key]
        if key in _LATER.get(path, ()):
            yield at.problem(f"{quoted(key)} is not supported yet by this version")
        else:
            yield at.problem(f"unknown key {quoted(key)} in {_container(path)}{_suggestion(key, known, path)}")


def _suggestion(key: str, known: Iterable[str], path: tuple[Any, ...]) -> str:
    near = meant(key, known) or meant(key, _LATER.get(path, ()))
    homes = [] if near else [home for home in _homes(key) if home != path]
    return f"; it is a key of {listed(map(_container, homes))}" if homes else near


def _homes(key: str) -> list[tuple[str, ...]]:
    top = schema("job")["properties"]
    homes: list[tuple[str, ...]] = [()] if key in {*top, *_LATER[()]} else []
    for word, rule in top.items():
        inner = set(_LATER.get((word,), ())).union(
            *(way.get("properties", {}) for way in [rule, *rule.get("anyOf", ())])
        )
        if key in inner and key not in top:
            homes.append((word,))
    return homes


def _container(path: tuple[Any, ...]) -> str:
    if not path:
        return "a job"
    word = ".".join(part for part in path if isinstance(part, str))
    return f"'{word}'"


def _place(manifest: Map, path: tuple[Any, ...]) -> Place:
    place = manifest.place
    inside: Any = manifest
    for part in path:
        node = inside.nodes[part]
        place, inside = node.place, node.value
    return place


def _name(path: tuple[Any, ...]) -> str:
    name = ""
    for part in path:
        name += f"[{part + 1}]" if isinstance(part, int) else f".{part}" if name else part
    return f"'{name}'" if name else "the job"


def _kind(value: Any) -> str:
    if value is None:
        return "empty"
    return next(words for kind, words in _KINDS.items() if _is(value, kind))


def _quote_it(value: Any, at: Place) -> str:
    """`[title]` and `{title}` are YAML lists and maps: say how to write the text."""
    if not isinstance(value, list) or not value or not all(isinstance(one, str | int | float) for one in value):
        return ""
    lines = at.source.lines
    written = lines[at.line - 1][at.column - 1 :].strip() if 0 < at.line <= len(lines) else ""
    if not written.startswith("["):
        return ""
    return f'quote it: "{written[: written.find("]") + 1]}"'


def _words(error: Any, path: tuple[Any, ...], at: Place) -> tuple[str, str]:
    """A violation in words: message and hint."""
    name, value, wanted = _name(path), error.instance, error.validator_value
    match error.validator:
        case "type":
            kinds = listed(_KINDS[kind] for kind in ([wanted] if isinstance(wanted, str) else wanted) if kind != "null")
            return f"{name} is {kinds}, not {_kind(value)}", _quote_it(value, at) or _unquote(value, wanted)
        case "enum":
            return _enum(name, value, wanted, path)
        case "pattern":
            return f"{name} {error.schema.get('patternErrorMessage', 'has another form')}, not {quoted(value)}", ""
        case "required":
            missing = next(key for key in wanted if key not in value)
            return f"{name} needs the key {quoted(missing)}", ""
        case "uniqueItems":
            return f"{name} names something twice", ""
        case _:
            return f"{name} {_bounds(error.validator, value, wanted)}", ""


def _unquote(value: Any, wanted: Any) -> str:
    return "take the quotes away" if isinstance(value, str) and value.isdecimal() and wanted == "integer" else ""


def _enum(name: str, value: Any, words: list[Any], path: tuple[Any, ...]) -> tuple[str, str]:
    if isinstance(value, str) and value in _LATER_WORDS.get(path[:2], ()):
        return f"{name}: {quoted(value)} is not supported yet by this version", ""
    texts = list(dict.fromkeys(map(str, words)))
    kind = quoted(value) if isinstance(value, str | int | float) else _kind(value)
    near = meant(value, texts) if isinstance(value, str) else ""
    return f"{name} is {listed(texts)}, not {kind}{near}", ""


def _bounds(validator: str, value: Any, wanted: Any) -> str:
    words = {
        "minimum": f"is at least {wanted}, not {quoted(value)}",
        "maximum": f"is at most {wanted}, not {quoted(value)}",
        "minLength": "is empty",
        "maxLength": f"has at most {wanted} characters: {quoted(value)}",
        "minItems": "is an empty list",
        "minProperties": "is an empty map",
    }
    return words.get(validator, f"does not fit: {quoted(value)}")
