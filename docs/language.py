"""Write docs/language.md from schemas/job.schema.json: `python docs/language.py`. A test holds that it is current."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

ROOT = Path(__file__).parent.parent
PAGE = ROOT / "docs" / "language.md"

_HEAD = """\
# The job language

Every key this version knows, from `schemas/job.schema.json` (`pipeline schema` prints it). An editor that speaks YAML
shows the same words while you type, given this first line:

    # yaml-language-server: $schema=../schemas/job.schema.json

A key that is not here is refused, with its line and column; so is one that only a later version will know.

| key | takes | meaning |
|---|---|---|
"""
_KINDS = {
    "string": "text",
    "integer": "whole number",
    "number": "number",
    "boolean": "true, false",
    "array": "list",
    "object": "map",
    "null": "nothing",
}
# Words for patterns; a pattern without words here shows as it is.
_PATTERNS = {
    "aspect": "W:H, `auto`",
    "deadline": "duration (90m, 24h, 2d)",
    "max_bytes": "number, size (500 MB, 1 GB)",
    "aspect_tolerance": "number, share (3%)",
}


def page() -> str:
    """The whole page."""
    schema = json.loads((ROOT / "schemas" / "job.schema.json").read_text(encoding="utf-8"))
    rows = list(_rows(schema, schema, ""))
    rows.append(("x-…", "anything", schema["patternProperties"]["^x-"]["description"]))
    return _HEAD + "".join(f"| `{key}` | {takes} | {_cell(meaning)} |\n" for key, takes, meaning in rows)


def _rows(schema: Mapping[str, Any], rule: Mapping[str, Any], above: str) -> Iterator[tuple[str, str, str]]:
    for name, told in rule.get("properties", {}).items():
        inner = _resolved(schema, told)
        yield f"{above}{name}", _takes(schema, name, inner), told.get("description") or inner.get("description", "")
        for branch in [inner, *inner.get("anyOf", [])]:
            yield from _rows(schema, branch, f"{above}{name}.")


def _takes(schema: Mapping[str, Any], name: str, rule: Mapping[str, Any]) -> str:
    if name in _PATTERNS and rule.get("type") != "array":
        return _PATTERNS[name]
    if "anyOf" in rule:
        branches = (_takes(schema, "", _resolved(schema, branch)) for branch in rule["anyOf"])
        return "; ".join(dict.fromkeys(branches))
    if "enum" in rule:
        return ", ".join(f"`{word}`" for word in dict.fromkeys(map(str, rule["enum"])))
    kinds = rule["type"] if isinstance(rule.get("type"), list) else [rule.get("type")]
    words = " or ".join(_KINDS[kind] for kind in kinds if kind in _KINDS)
    if rule.get("type") == "array":
        item = _takes(schema, _named(rule["items"]), _resolved(schema, rule["items"]))
        return f"list of {item.replace('; ', ' or ')}" if item else "list"
    if "minimum" in rule and "maximum" in rule:
        return f"{words}, {rule['minimum']:,} to {rule['maximum']:,}"
    return f"{words}, from {rule['minimum']:,}" if "minimum" in rule else words


def _resolved(schema: Mapping[str, Any], rule: Mapping[str, Any]) -> Mapping[str, Any]:
    name = _named(rule)
    return schema["definitions"][name] if name else rule


def _named(rule: Mapping[str, Any]) -> str:
    """The definition a rule refers to, if any."""
    return str(rule.get("$ref", "")).rpartition("/")[2]


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
