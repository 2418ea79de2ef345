"""The schemas, and what is wrong with a manifest by its schema, in words and with places.

The schema is the only source of truth for the language: which keys there are, of what type, with which
limits. What this version does not know yet is named here, so that it is refused by name.
"""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from pipeline.job.problems import Place, listed, meant, quoted
from pipeline.job.vocabulary import CALLED, INSTEAD
from pipeline.job.yaml12 import List, Map, scalar

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from pipeline.errors import Problem

Path_ = tuple[Any, ...]
"""Keys and numbers from the top of a manifest to a value."""

_LATER: Mapping[Path_, frozenset[str]] = {(): frozenset({"metadata", "post"})}
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


class Violation(NamedTuple):
    """What the schema has against a value, and which value that is."""

    path: Path_
    problem: Problem


@cache
def schema(name: str) -> Mapping[str, Any]:
    """The schema `job` or `record`: from the installed package, else from the source tree."""
    package = Path(__file__).parent.parent
    installed = package / "schemas" / f"{name}.schema.json"
    path = installed if installed.is_file() else package.parent / "schemas" / f"{name}.schema.json"
    loaded: Mapping[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return loaded


def definition(name: str) -> Mapping[str, Any]:
    """A part of the job schema by its name."""
    found: Mapping[str, Any] = schema("job")["definitions"][name]
    return found


@cache
def _validator(name: str = "") -> Any:
    """For whole manifests, or for one definition of the schema."""
    from jsonschema import Draft202012Validator  # noqa: PLC0415 - 0.1 s that --help need not pay

    whole = schema("job")
    return Draft202012Validator(whole if not name else {**definition(name), "definitions": whole["definitions"]})


# --------------------------------------------------------------------------------------------- types


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


def read_text(word: str, text: str) -> Any:
    """The value of a setting that was written as text, such as a cell of a catalog; lists are split at commas."""
    rule = definition(word)
    if "array" in _types(rule) and text.strip().lower() not in {"true", "false"}:
        return [part.strip() for part in text.replace(";", ",").replace("+", ",").split(",") if part.strip()]
    value = scalar(text.strip())
    wants_text = "string" in _types(rule) or any(isinstance(one, str) for one in rule.get("enum", ()))
    return text.strip() if wants_text and not _is_wanted_number(value, rule) else value


def typed(word: str, node: Any) -> Any:
    """The value of one setting, by its type."""
    return _typed(node, definition(word))


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
    is_count = "integer" in _types(rule) and "number" not in _types(rule)
    return int(node.value) if is_count and type(node.value) is float and node.value.is_integer() else node.value


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
    return definition(rule["$ref"].rpartition("/")[2]) if "$ref" in rule else rule


def _branch(value: Any, rule: Mapping[str, Any]) -> Mapping[str, Any]:
    """Of several rules, the one for values of this kind."""
    ways = map(_resolved, rule.get("anyOf", ()))
    return next((way for way in ways if any(_is(value, kind) for kind in _types(way))), rule)


def _types(rule: Mapping[str, Any]) -> set[str]:
    rule = _resolved(rule)
    kinds = rule.get("type", [])
    own = {kinds} if isinstance(kinds, str) else set(kinds)
    return own.union(*(_types(way) for way in rule.get("anyOf", ())))


def _is(value: Any, kind: str) -> bool:
    if isinstance(value, bool):
        return kind == "boolean"
    return isinstance(value, _PYTHON[kind])  # type: ignore[arg-type]


# ---------------------------------------------------------------------------------------- violations


def violations(manifest: Map, name: str = "") -> Iterator[Violation]:
    """What the schema, or the definition `name` of it, has against a map that was read by type."""
    for error in _validator(name).iter_errors(manifest):
        yield from _explained(error, manifest, name)


def pruned(manifest: Map, found: Iterable[Violation]) -> frozenset[str]:
    """Take what violates the schema out of a manifest, in place, so that the rest can be looked at.

    Returns the top-level keys that lost something; a key nobody knows counts as `?`.
    """
    top = schema("job")["properties"]
    gaps = set()
    for path in sorted({one.path for one in found}, key=_from_the_end, reverse=True):
        inside: Any = manifest
        for part in path[:-1]:
            inside = inside.nodes[part].value
        if path and _holds(inside, path[-1]):
            inside.drop(path[-1])
            inside.is_cut = True
        gaps.add(path[0] if path and path[0] in top else "?")
    return frozenset(gaps)


def _from_the_end(path: Path_) -> tuple[Any, ...]:
    """Later entries of a list first, so that the numbers of the earlier ones stay right."""
    return tuple((isinstance(part, str), part if isinstance(part, int) else 0, str(part)) for part in path)


def _holds(inside: Any, part: Any) -> bool:
    return part in inside.nodes if isinstance(inside, Map) else isinstance(part, int) and part < len(inside)


def wrong_value(word: str, value: Any, name: str) -> tuple[str, str] | None:
    """What is wrong with the value of one setting that stands outside of a manifest: message and hint."""
    for error in _validator(word).iter_errors(value):
        first = error
        while first.validator == "anyOf":
            first = next((inner for inner in first.context if inner.validator != "type"), first.context[0])
        message, hint = _words(first, (word, *first.absolute_path), None)
        return message.replace(f"'{word}", f"'{name}", 1), hint
    return None


def _explained(error: Any, manifest: Map, name: str) -> Iterator[Violation]:
    if error.validator == "anyOf":
        yield from _nearest(error, manifest, name)
        return
    path = tuple(error.absolute_path)
    if error.validator == "additionalProperties":
        yield from _unknown_keys(error, path, name)
        return
    at = _place(manifest, path)
    message, hint = _words(error, path, at)
    yield Violation(path, at.problem(message, hint))


def _nearest(error: Any, manifest: Map, name: str) -> Iterator[Violation]:
    """Of the ways a key may be written, the one that was tried; else what they all are."""
    ways = [_resolved(way) for way in error.validator_value]
    for number, way in enumerate(ways):
        if any(_is(error.instance, kind) for kind in _types(way)):
            for inner in error.context:
                if inner.relative_schema_path[0] == number:
                    yield from _explained(inner, manifest, name)
            return
    path = tuple(error.absolute_path)
    at = _place(manifest, path)
    known = {kind for way in ways for kind in _types(way)} - {"null"}
    kinds = listed(words for kind, words in _KINDS.items() if kind in known)
    hint = _quote_it(error.instance, at)
    yield Violation(path, at.problem(f"{_name(path)} is {kinds}, not {_kind(error.instance)}", hint))


def _unknown_keys(error: Any, path: Path_, name: str) -> Iterator[Violation]:
    known = error.schema.get("properties", {})
    for key in error.instance:
        if key in known or (not path and not name and key.startswith("x-")):
            continue
        at = error.instance.keys_at[key]
        if not name and key in _LATER.get(path, ()):
            problem = at.problem(f"{quoted(key)} is not supported yet by this version")
        else:
            message = f"unknown key {quoted(key)} in {_container(path, name)}"
            problem = at.problem(f"{message}{_suggestion(key, known, path)}", INSTEAD.get(key.casefold(), ""))
        yield Violation((*path, key), problem)


def _suggestion(key: str, known: Iterable[str], path: Path_) -> str:
    here = tuple(part for part in path if isinstance(part, str))
    called = CALLED.get(key.casefold().replace("-", "_"), "")
    if called in known:
        return f"; here it is called {quoted(called)}"
    near = meant(key, known) or (meant(key, _LATER[()]) if not path else "")
    for word in (key, called) if not near else ():
        if homes := [home for home in _homes().get(word, ()) if home != here]:
            what = "it is" if word == key else f"here it is called {quoted(word)},"
            return f"; {what} a key of {listed([_container(home) for home in homes[:3]])}"
    return near or _elsewhere(key)


def _elsewhere(key: str) -> str:
    """A word that is near one of the top level, where nothing near is known in its own place."""
    near = meant(key, schema("job")["properties"])
    return near.replace("did you mean", "at the top there is").rstrip("?") if near else ""


@cache
def _homes() -> Mapping[str, list[tuple[str, ...]]]:
    """Where each key of the language is valid; the top level alone where it is."""
    homes: dict[str, list[tuple[str, ...]]] = {}
    for home, keys in _containers(schema("job"), ()):
        for key in keys:
            known = homes.setdefault(key, [])
            if known != [()]:
                known.append(home)
    return homes


def _containers(rule: Mapping[str, Any], path: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], Iterable[str]]]:
    rule = _resolved(rule)
    inner = rule.get("properties", {})
    if inner and path[:1] != ("matrix",):
        yield path, inner
    for way in rule.get("anyOf", ()):
        yield from _containers(way, path)
    if isinstance(rule.get("items"), dict):
        yield from _containers(rule["items"], path)
    for key, told in inner.items():
        yield from _containers(told, (*path, key))


def _container(path: Path_, name: str = "") -> str:
    if not path:
        return name.replace("_", " ") if name else "a job"
    word = ".".join(part for part in path if isinstance(part, str))
    return f"'{word}'"


def _place(manifest: Map, path: Path_) -> Place:
    place = manifest.place
    inside: Any = manifest
    for part in path:
        node = inside.nodes[part]
        place, inside = node.place, node.value
    return place


def _name(path: Path_) -> str:
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


def _words(error: Any, path: Path_, at: Place | None) -> tuple[str, str]:
    """A violation in words: message and hint."""
    name, value, wanted = _name(path), error.instance, error.validator_value
    match error.validator:
        case "type":
            kinds = listed(_KINDS[kind] for kind in ([wanted] if isinstance(wanted, str) else wanted) if kind != "null")
            return f"{name} is {kinds}, not {_kind(value)}", _other_form(value, wanted, at)
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


def _other_form(value: Any, wanted: Any, at: Place | None) -> str:
    """How to write a value of the wrong type."""
    if hint := (at is not None and _quote_it(value, at)):
        return hint
    if wanted == "array" and isinstance(value, str | int | float) and not isinstance(value, bool):
        return f"write a list: [{value}]"
    if wanted in ("integer", "number") and isinstance(value, str) and value.replace(".", "", 1).isdecimal():
        return "take the quotes away"
    if wanted == "boolean" and isinstance(value, str) and value.lower() in {"yes", "on", "no", "off"}:
        return f"write {'true' if value.lower() in {'yes', 'on'} else 'false'}"
    return ""


def _enum(name: str, value: Any, words: list[Any], path: Path_) -> tuple[str, str]:
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
        "minItems": "is an empty list" if value == [] else f"has at least {wanted} entries",
        "minProperties": "is an empty map",
    }
    return words.get(validator, f"does not fit: {quoted(value)}")
