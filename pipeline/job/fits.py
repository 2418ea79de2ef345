"""Whether a value plainly fits a rule of a schema: the quick yes, which spares loading what could explain a no.

Half of a short command's time went into loading `jsonschema`, and nearly every manifest is right. So `fits` answers
first. It says yes only where every keyword is one it knows and is kept; whatever else it says is no verdict: then
`jsonschema` looks, and what that says counts. A yes of `fits` is a yes of `jsonschema`, which a test holds.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    Rule = Mapping[str, Any]
    Definitions = Mapping[str, Rule]


def fits(value: Any, rule: Rule, definitions: Definitions) -> bool:
    """Whether a value keeps every keyword of a rule; not so where one of them is not known here."""
    return all(
        word in _SILENT or (word in _KEPT and _KEPT[word](value, told, rule, definitions))
        for word, told in rule.items()
    )


def matches(pattern: str, text: str) -> bool:
    """Whether a text matches a pattern of JSON Schema, which is one of JavaScript: there `$` is the very end."""
    return re.search(pattern.replace("$", r"\Z"), text) is not None


def _is_of_type(value: Any, told: Any, _rule: Rule, _definitions: Definitions) -> bool:
    return any(_is_a(value, kind) for kind in ([told] if isinstance(told, str) else told))


def _is_a(value: Any, kind: str) -> bool:
    if isinstance(value, bool):
        return kind == "boolean"
    return isinstance(value, _TYPES.get(kind, ())) or (
        kind == "integer" and isinstance(value, float) and value.is_integer()
    )


_TYPES: Mapping[str, tuple[type, ...]] = {
    "null": (type(None),),
    "string": (str,),
    "integer": (int,),
    "number": (int, float),
    "array": (list,),
    "object": (dict,),
}


def _refers(value: Any, told: str, _rule: Rule, definitions: Definitions) -> bool:
    name = told.removeprefix("#/definitions/")
    return name in definitions and fits(value, definitions[name], definitions)


def _is_any_of(value: Any, told: list[Rule], _rule: Rule, definitions: Definitions) -> bool:
    return any(fits(value, way, definitions) for way in told)


def _is_one_of(value: Any, told: list[Any], _rule: Rule, _definitions: Definitions) -> bool:
    return any(type(one) is type(value) and one == value for one in told)


def _has_properties(value: Any, told: Mapping[str, Rule], _rule: Rule, definitions: Definitions) -> bool:
    return not isinstance(value, dict) or all(
        fits(value[name], told[name], definitions) for name in value if name in told
    )


def _has_patterned(value: Any, told: Mapping[str, Rule], _rule: Rule, definitions: Definitions) -> bool:
    return not isinstance(value, dict) or all(
        fits(inner, rule, definitions)
        for name, inner in value.items()
        for pattern, rule in told.items()
        if matches(pattern, name)
    )


def _has_others(value: Any, told: Any, rule: Rule, definitions: Definitions) -> bool:
    if not isinstance(value, dict) or told is True:
        return True
    patterns = rule.get("patternProperties", ())
    others = (
        inner
        for name, inner in value.items()
        if name not in rule.get("properties", ()) and not any(matches(pattern, name) for pattern in patterns)
    )
    return all(isinstance(told, dict) and fits(inner, told, definitions) for inner in others)


def _has_names(value: Any, told: Rule, _rule: Rule, definitions: Definitions) -> bool:
    return not isinstance(value, dict) or all(fits(name, told, definitions) for name in value)


def _has_items(value: Any, told: Rule, _rule: Rule, definitions: Definitions) -> bool:
    return not isinstance(value, list) or all(fits(inner, told, definitions) for inner in value)


def _is_unique(value: Any, told: Any, _rule: Rule, _definitions: Definitions) -> bool:
    """Of texts it is plain; what else may be equal is for `jsonschema` to say."""
    if not told or not isinstance(value, list):
        return True
    return all(isinstance(one, str) for one in value) and len(set(value)) == len(value)


def _keeps(kind: type | tuple[type, ...], holds: Callable[[Any, Any], bool]) -> Callable[..., bool]:
    """A keyword that is about values of one kind, and lets all others be."""

    def kept(value: Any, told: Any, _rule: Rule, _definitions: Definitions) -> bool:
        return not isinstance(value, kind) or isinstance(value, bool) or holds(value, told)

    return kept


_SILENT = frozenset({
    "$schema", "$id", "title", "description", "definitions", "examples", "default", "patternErrorMessage",
})  # fmt: skip
_KEPT: Mapping[str, Callable[[Any, Any, Rule, Definitions], bool]] = {
    "type": _is_of_type,
    "$ref": _refers,
    "anyOf": _is_any_of,
    "enum": _is_one_of,
    "properties": _has_properties,
    "patternProperties": _has_patterned,
    "additionalProperties": _has_others,
    "propertyNames": _has_names,
    "required": _keeps(dict, lambda value, names: all(name in value for name in names)),
    "minProperties": _keeps(dict, lambda value, least: len(value) >= least),
    "items": _has_items,
    "minItems": _keeps(list, lambda value, least: len(value) >= least),
    "maxItems": _keeps(list, lambda value, most: len(value) <= most),
    "uniqueItems": _is_unique,
    "minLength": _keeps(str, lambda value, least: len(value) >= least),
    "maxLength": _keeps(str, lambda value, most: len(value) <= most),
    "pattern": _keeps(str, lambda value, pattern: matches(pattern, value)),
    "minimum": _keeps((int, float), lambda value, least: value >= least),
    "maximum": _keeps((int, float), lambda value, most: value <= most),
}
