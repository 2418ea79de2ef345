"""Hold a compiled batch line against the names of the API: our own table of them, and the SDK's types.

The table (`data/api_names.json`) is cut from the discovery document and shares nothing with the code that writes the
lines, nor with the local service, so a name that is wrong in both still shows here.
"""

import base64
import binascii
import json
import math
import warnings
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

TABLE = json.loads(Path(__file__).with_name("data").joinpath("api_names.json").read_text(encoding="utf-8"))
MESSAGES, ENUMS = TABLE["messages"], TABLE["enums"]
JSON_TYPES: dict[str, Any] = {
    "object": dict,
    "array": list,
    "string": str,
    "boolean": bool,
    "integer": int,
    "number": (int, float),
}
CONTENTS_OF_A_PART = {"text", "inlineData", "fileData"}
URL_SAFE = str.maketrans("-_", "+/")


def problems(line: dict[str, Any]) -> list[str]:
    """Everything wrong with one `{"key", "request"}` line, each with its place; an empty list is a good line."""
    found = [f"{name}: unknown" for name in line if name not in ("key", "request")]
    found += [f"{name}: missing" for name in ("key", "request") if name not in line]
    key = line.get("key", "-")
    if not isinstance(key, str) or not key or not key.isascii() or not key.isprintable():
        found.append(f"key: must be printable ASCII text, not {key!r}")
    if "request" in line:
        found += _value("request", {"type": "object", "of": "GenerateContentRequest"}, line["request"])
        if isinstance(line["request"], dict):
            found += _refused_by_the_sdk(line["request"])
    return found


def _value(place: str, rule: dict[str, Any], value: Any) -> Iterator[str]:
    kind = rule["type"]
    if not isinstance(value, JSON_TYPES[kind]) or (isinstance(value, bool) and kind != "boolean"):
        yield f"{place}: must be {kind}, not {type(value).__name__}"
    elif kind == "object":
        yield from _message(place, rule["of"], value)
    elif kind == "array":
        for number, item in enumerate(value):
            yield from _value(f"{place}[{number}]", _rule_of(rule["of"]), item)
    else:
        yield from _scalar(place, rule, value)


def _rule_of(name: str) -> dict[str, Any]:
    """What an array holds: a message, a word of an enum, or a plain type."""
    if name in MESSAGES:
        return {"type": "object", "of": name}
    return {"type": "string", "enum": name} if name in ENUMS else {"type": name}


def _message(place: str, name: str, value: dict[str, Any]) -> Iterator[str]:
    known = MESSAGES[name]
    for key, inner in value.items():
        if key in known:
            yield from _value(f"{place}.{key}", known[key], inner)
        else:
            yield f"{place}.{key}: unknown in {name}"
    yield from (f"{place}.{key}: missing" for key, rule in known.items() if rule.get("required") and key not in value)
    if name == "Part":
        held = sorted(CONTENTS_OF_A_PART & value.keys())
        if len(held) != 1 and not (not held and "thoughtSignature" in value):
            yield f"{place}: a part holds one of {', '.join(sorted(CONTENTS_OF_A_PART))}, not {held}"


def _scalar(place: str, rule: dict[str, Any], value: Any) -> Iterator[str]:
    if "enum" in rule and value not in ENUMS[rule["enum"]]:
        yield f"{place}: {value!r} is none of {' '.join(ENUMS[rule['enum']])}"
    elif rule.get("format") == "int32" and not -(2**31) <= value < 2**31:
        yield f"{place}: {value} does not fit into 32 bits"
    elif rule["type"] == "number" and not math.isfinite(value):
        yield f"{place}: {value} is no JSON number"
    elif rule.get("format") == "byte" and not _is_base64(value):
        yield f"{place}: is not base64"


def _is_base64(text: str) -> bool:
    """Padded, of either alphabet, which the service takes both."""
    try:
        return bool(base64.b64decode(text.translate(URL_SAFE), validate=True))
    except (binascii.Error, ValueError):
        return False


@cache
def _sdk() -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what the import says is no matter of ours
        from google.genai import types
    return types


def _refused_by_the_sdk(request: dict[str, Any]) -> Iterator[str]:
    """Build what the SDK would send; its types forbid every name they do not know."""
    types = _sdk()
    contents = request.get("contents")
    pairs = [
        (f"contents[{n}]", types.Content, one) for n, one in enumerate(contents if isinstance(contents, list) else [])
    ]
    generation = request.get("generationConfig")
    config = dict(generation) if isinstance(generation, dict) else {}
    config |= {key: value for key, value in request.items() if key not in ("contents", "generationConfig")}
    if isinstance(config.get("imageConfig"), dict):
        pairs.append(("imageConfig", types.ImageConfig, config["imageConfig"]))
    pairs.append(("config", types.GenerateContentConfig, config))
    for place, model, value in pairs:
        yield from _validated(place, model, value)


def _validated(place: str, model: Any, value: Any) -> Iterator[str]:
    from pydantic import ValidationError

    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        try:
            # As JSON: only there does it read bytes as base64. An unknown enum word is no error to it, but a warning.
            model.model_validate_json(json.dumps(value))
        except ValidationError as error:
            for one in error.errors(include_input=False, include_url=False):
                yield f"the SDK: {place}.{'.'.join(map(str, one['loc']))}: {one['msg']}"
    yield from (f"the SDK: {place}: {warning.message}" for warning in said)
