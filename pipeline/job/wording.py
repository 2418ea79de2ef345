"""What the schema has against a value, in words: what is wrong, what was meant, what to type."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

from pipeline.job.problems import listed, meant, quoted

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pipeline.job.problems import Place

KINDS = {
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
_AMOUNT = re.compile(r"[$€]?\s*0*([0-9]+(?:[.,][0-9]+)?)\s*(?:USD|\$|€)?", re.IGNORECASE)
_RATIO = re.compile(r"\s*([0-9]+)\s*[x\u00d7/:-]\s*([0-9]+)\s*", re.IGNORECASE)
_LONGEST = 120
"""Characters of a value, or of a hint, that is worth repeating."""
_TRUTH = {"yes": "true", "on": "true", "no": "false", "off": "false"}


def is_kind(value: Any, kind: str) -> bool:
    """Whether a value is of a type, by the schema's word for it."""
    if isinstance(value, bool):
        return kind == "boolean"
    return isinstance(value, _PYTHON[kind])  # type: ignore[arg-type]


def name_of(path: Sequence[Any]) -> str:
    """A value by its way from the top: `'images[2].role'`."""
    name = ""
    for part in path:
        name += f"[{part + 1}]" if isinstance(part, int) else f".{part}" if name else part
    return f"'{name}'" if name else "the job"


def in_words(error: Any, path: Sequence[Any], at: Place | None) -> tuple[str, str]:
    """A violation in words: message and hint. `at` is where the value stands; None for a cell of a catalog."""
    name, value, wanted = name_of(path), error.instance, error.validator_value
    match error.validator:
        case "type":
            kinds = [wanted] if isinstance(wanted, str) else wanted
            return of_type(name, value, [kind for kind in kinds if kind != "null"], at)
        case "enum":
            return _enum(name, value, wanted, at)
        case "pattern":
            form = error.schema.get("patternErrorMessage", "has another form")
            return f"{name} {form}, not {quoted(value)}", _other_text(path, str(value))
        case "minLength" if "propertyNames" in error.absolute_schema_path:
            return f"a name in {name} is empty", ""
        case _:
            return f"{name} {_bounds(error.validator, value, wanted)}", ""


def _short(hint: str) -> str:
    """A hint that repeats a value, unless that is longer than anybody types."""
    return hint if len(hint) <= _LONGEST else ""


def of_type(name: str, value: Any, kinds: Sequence[str], at: Place | None) -> tuple[str, str]:
    """A value that is none of these types: message and hint."""
    found = "empty" if value is None else next(words for kind, words in KINDS.items() if is_kind(value, kind))
    said = f": {quoted(value)}" if isinstance(value, str) and value else ""
    return f"{name} is {listed(KINDS[kind] for kind in kinds)}, not {found}{said}", _short(
        _other_form(value, kinds, at)
    )


def _other_form(value: Any, kinds: Sequence[str], at: Place | None) -> str:
    """How to write a value of the wrong type."""
    if isinstance(value, str) and len(value) > _LONGEST:
        return ""
    if isinstance(value, list):
        return _out_of_a_list(value, kinds, at)
    if isinstance(value, str):
        return _out_of_a_text(value, kinds, at)
    if "array" in kinds and isinstance(value, int | float) and not isinstance(value, bool):
        return f"write a list: [{value}]"
    return ""


def _out_of_a_list(value: list[Any], kinds: Sequence[str], at: Place | None) -> str:
    """`[title]` is a list in YAML: how to write the text, or the one value, that was meant."""
    if not value or not all(isinstance(one, str | int | float) for one in value):
        return ""
    if "string" not in kinds:
        single = value[0] if len(value) == 1 else None
        is_meant = single is not None and any(is_kind(single, kind) for kind in kinds)
        return f"write {json.dumps(single)}" if is_meant else ""
    lines = at.source.lines if at is not None else ()
    written = lines[at.line - 1][at.column - 1 :].strip() if at is not None and 0 < at.line <= len(lines) else ""
    return f'quote it: "{written[: written.find("]") + 1]}"' if written.startswith("[") else ""


def _out_of_a_text(value: str, kinds: Sequence[str], at: Place | None) -> str:
    if "array" in kinds:
        return "write true" if value.lower() in {"yes", "on"} else f"write a list: [{value}]"
    if "boolean" in kinds and value.lower() in _TRUTH:
        return f"write {_TRUTH[value.lower()]}"
    if {"integer", "number"} & set(kinds) and (amount := _AMOUNT.fullmatch(value)):
        number = amount[1].replace(",", ".")
        return "take the quotes away" if number == value and _is_quoted(at) else f"write {number}"
    return ""


def _is_quoted(at: Place | None) -> bool:
    if at is None or not 0 < at.line <= len(at.source.lines):
        return False
    return at.source.lines[at.line - 1][at.column - 1 : at.column] in {'"', "'"}


def _other_text(path: Sequence[Any], value: str) -> str:
    """How to write a text that has another form."""
    if len(value) > _LONGEST:
        return ""
    word = next((part for part in reversed(path) if isinstance(part, str)), "")
    if word == "aspect" and (ratio := _RATIO.fullmatch(value)):
        return f"write {int(ratio[1])}:{int(ratio[2])}"
    if word in {"max_age", "deadline"} and value.isdecimal():
        return f"write {value}h for hours, {value}d for days"
    return ""


def _enum(name: str, value: Any, words: list[Any], at: Place | None) -> tuple[str, str]:
    texts = list(dict.fromkeys(map(str, words)))
    if not isinstance(value, str | int | float):
        return f"{name} is {listed(texts)}, not {of_type('', value, ['string'], at)[0].rpartition('not ')[2]}", (
            f"write {value[0]}" if isinstance(value, list) and len(value) == 1 and str(value[0]) in texts else ""
        )
    if isinstance(value, str) and value in texts:
        return f"{name} is {listed(texts)}, not the text {quoted(value)}", "take the quotes away"
    near = meant(value, texts) if isinstance(value, str) else ""
    return f"{name} is {listed(texts)}, not {quoted(value)}{near}", ""


def _bounds(validator: str, value: Any, wanted: Any) -> str:
    words: Mapping[str, str] = {
        "required": f"needs the key {quoted(next((key for key in _listed(wanted) if key not in _listed(value)), ''))}",
        "uniqueItems": "names something twice",
        "minimum": f"is at least {wanted}, not {quoted(value)}",
        "maximum": f"is at most {wanted}, not {quoted(value)}",
        "minLength": "is empty",
        "maxLength": f"has at most {wanted} characters: {quoted(value)}",
        "minItems": "is an empty list" if value == [] else f"has at least {wanted} entries",
        "minProperties": "is an empty map",
    }
    return words.get(validator, f"does not fit: {quoted(value)}")


def _listed(value: Any) -> Sequence[Any]:
    return list(value) if isinstance(value, list | dict) else ()
