"""The schemas, and what is wrong with a manifest by its schema, in words and with places.

The schema is the only source of truth for the language: which keys there are, of what type, with which
limits. What this version does not know yet is named here, so that it is refused by name.
"""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from pipeline.job.fits import fits, matches
from pipeline.job.problems import Place, listed, meant, quoted
from pipeline.job.vocabulary import CALLED, INSTEAD
from pipeline.job.wording import KINDS, in_words, is_kind, name_of, of_type
from pipeline.job.yaml12 import List, Map, scalar

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from pipeline.errors import Problem

Path_ = tuple[Any, ...]
"""Keys and numbers from the top of a manifest to a value."""

_LATER: Mapping[Path_, frozenset[str]] = {(): frozenset({"metadata", "post"})}


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


def keys_of(word: str) -> frozenset[str] | None:
    """The keys that the map of a top-level key may have; None where they are free."""
    rule = _resolved(schema("job")["properties"][word])
    return None if rule.get("additionalProperties") is not False else frozenset(rule["properties"])


@cache
def _validator(name: str = "") -> Any:
    """For whole manifests, or for one definition of the schema."""
    from jsonschema import Draft202012Validator, ValidationError, validators  # noqa: PLC0415 - 0.1 s

    def pattern(_validator: Any, form: str, value: Any, _rule: Any) -> Iterator[ValidationError]:
        if isinstance(value, str) and not matches(form, value):
            yield ValidationError(f"{value!r} does not match {form!r}")

    extend: Any = validators.extend
    return extend(Draft202012Validator, {"pattern": pattern})(_rule(name))


def _errors(value: Any, name: str = "") -> Iterator[Any]:
    """What `jsonschema` has against a value; it is not even loaded for one that plainly fits."""
    rule = _rule(name)
    return iter(()) if fits(value, rule, rule["definitions"]) else _validator(name).iter_errors(value)


@cache
def _rule(name: str) -> Mapping[str, Any]:
    whole = schema("job")
    return {**definition(name), "definitions": whole["definitions"]} if name else whole


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
    return text.strip() if wants_text and not _is_wanted_number(value, rule) else _counted(value, rule)


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
    return _counted(node.value, rule)


def _counted(value: Any, rule: Mapping[str, Any]) -> Any:
    """A whole number as one, also where it was written `2.0`."""
    is_count = "integer" in _types(rule) and "number" not in _types(rule)
    return int(value) if is_count and type(value) is float and value.is_integer() else value


def _is_wanted_number(value: Any, rule: Mapping[str, Any]) -> bool:
    """Whether one of several types a key may have is the number (or truth) that was written."""
    types = _types(rule) if "anyOf" in rule else set()
    return type(value) is not str and any(is_kind(value, kind) for kind in types - {"string"})


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
    return next((way for way in ways if any(is_kind(value, kind) for kind in _types(way))), rule)


def _types(rule: Mapping[str, Any]) -> set[str]:
    rule = _resolved(rule)
    kinds = rule.get("type", [])
    own = {kinds} if isinstance(kinds, str) else set(kinds)
    return own.union(*(_types(way) for way in rule.get("anyOf", ())))


# ---------------------------------------------------------------------------------------- violations


def violations(manifest: Map, name: str = "") -> Iterator[Violation]:
    """What the schema, or the definition `name` of it, has against a map that was read by type."""
    for error in _errors(manifest, name):
        yield from _explained(error, manifest, name)


def pruned(manifest: Map, found: Sequence[Violation], name: str = "") -> frozenset[str]:
    """Take what violates the schema out of a manifest, in place, so that the rest can be looked at.

    What is left fits: a map that lost a key it needs goes as well. Returns the top-level keys that lost something; a
    key nobody knows counts as what it is near to, else as `?`.
    """
    gaps: set[str] = set()
    while found:
        for path in sorted({one.path for one in found}, key=_from_the_end, reverse=True):
            inside: Any = manifest
            for part in path[:-1]:
                inside = inside.nodes[part].value
            if path and _holds(inside, path[-1]):
                inside.drop(path[-1])
                inside.is_cut = True
            gaps.add(_gap(path))
        found = list(violations(manifest, name)) if any(one.path for one in found) else []
    return frozenset(gaps)


def _gap(path: Path_) -> str:
    top = schema("job")["properties"]
    if not path or path[0] in top:
        return str(path[0]) if path else "?"
    from difflib import get_close_matches  # noqa: PLC0415 - only for a slip

    called = CALLED.get(path[0].casefold())
    return called or next(iter(get_close_matches(path[0], top, n=1)), "?")


def _from_the_end(path: Path_) -> tuple[Any, ...]:
    """Later entries of a list first, so that the numbers of the earlier ones stay right."""
    return tuple((isinstance(part, str), part if isinstance(part, int) else 0, str(part)) for part in path)


def _holds(inside: Any, part: Any) -> bool:
    return part in inside.nodes if isinstance(inside, Map) else isinstance(part, int) and part < len(inside)


def wrong_value(word: str, value: Any, name: str) -> tuple[str, str] | None:
    """What is wrong with the value of one setting that stands outside of a manifest: message and hint."""
    for error in _errors(value, word):
        first = error
        while first.validator == "anyOf":
            first = next((inner for inner in first.context if inner.validator != "type"), first.context[0])
        message, hint = in_words(first, (word, *first.absolute_path), None)
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
    message, hint = in_words(error, path, at)
    yield Violation(path, at.problem(message, hint))


def _nearest(error: Any, manifest: Map, name: str) -> Iterator[Violation]:
    """Of the ways a key may be written, the one that was tried; else what they all are."""
    ways = [_resolved(way) for way in error.validator_value]
    for number, way in enumerate(ways):
        if any(is_kind(error.instance, kind) for kind in _types(way)):
            for inner in error.context:
                if inner.relative_schema_path[0] == number:
                    yield from _explained(inner, manifest, name)
            return
    path = tuple(error.absolute_path)
    at = _place(manifest, path)
    known = {kind for way in ways for kind in _types(way)} - {"null"}
    message, hint = of_type(name_of(path), error.instance, [kind for kind in KINDS if kind in known], at)
    yield Violation(path, at.problem(message, hint))


def _unknown_keys(error: Any, path: Path_, name: str) -> Iterator[Violation]:
    known = error.schema.get("properties", {})
    for number, key in enumerate(error.instance):
        if key in known or (not path and not name and key.startswith("x-")):
            continue
        at = error.instance.keys_at[key]
        if not name and key in _LATER.get(path, ()):
            problem = at.problem(f"{quoted(key)} is not supported yet by this version")
        else:
            message = f"unknown key {quoted(key)} in {_container(path, name)}"
            # Nobody reads the suggestions of a thousand keys, and they take their time.
            near, hint = _suggestion(key, known, path, name) if number < _MANY else ("", "")
            problem = at.problem(f"{message}{near}", hint)
        yield Violation((*path, key), problem)


def _suggestion(key: str, known: Iterable[str], path: Path_, name: str) -> tuple[str, str]:
    """What was meant by a key that is not known here: the end of the message, and the hint."""
    here = tuple(part for part in path if isinstance(part, str))
    plain = key.casefold().replace("-", "_").removeprefix("harm_category_")
    called = CALLED.get(plain, plain)
    hint = INSTEAD.get(plain, "") or (_BELOW if name == "front_matter" and plain in {"prompt", "promt", "text"} else "")
    if hint:
        return "", hint
    if called in known:
        return f"; here it is called {quoted(called)}", ""
    for word in (key, called):
        if homes := [home for home in _homes().get(word, ()) if home != here]:
            what = "it is" if word == key else f"here it is called {quoted(word)},"
            return f"; {what} a key of {listed([_container(home) for home in homes[:3]])}", ""
    return meant(key, known) or (meant(key, _LATER[()]) if not path else ""), _AN_ITEM if here == ("items",) else ""


_MANY = 200
_BELOW = "the prompt is the text below the front matter"
_AN_ITEM = "for items of your own write a list: items: [{id: …}]"


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
    if inner:
        yield path, inner if path[:1] != ("matrix",) else {"exclude": {}, "include": {}}
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
