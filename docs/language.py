"""Write docs/language.md from schemas/job.schema.json: `python docs/language.py`. A test holds that it is current."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    Rule = Mapping[str, Any]

ROOT = Path(__file__).parent.parent
PAGE = ROOT / "docs" / "language.md"
SCHEMA: Rule = json.loads((ROOT / "schemas" / "job.schema.json").read_text(encoding="utf-8"))
TOP: Rule = SCHEMA["properties"]
DEFINED: Rule = SCHEMA["definitions"]
SETTINGS: Rule = DEFINED["set"]["properties"]

_HEAD = """\
# The job language

Every key of a job manifest and of a template file, made from `schemas/job.schema.json`. How the keys work together
(which of two values wins, what merges, where a path starts, what buys an image again) is in [rules.md](rules.md).

An editor that speaks YAML checks a job while you type, and shows these words for the key under the cursor. The first
line of the file tells it where the schema is:

    # yaml-language-server: $schema=../schemas/job.schema.json

`pipeline schema job > job.schema.json` writes the schema into a project of your own. A key that is not here is refused,
with its line and column.
"""
_SETTINGS_HEAD = """\
What to ask the model. Exactly one of `prompt`, `template` and `turns` says what to draw; all else has a default.

"""
_PLACES = """
### Where settings may stand

At the top, a setting holds for the whole job. The same words may stand closer to what they are for, and mean the same
there; [rules.md](rules.md#which-setting-wins) says which one wins.

| place | settings | other keys there |
|---|---|---|
"""
_LISTED = "all, each with a list of values"
# Which part of the page tells of which key at the top.
_JOB = ("version", "job", "description", "tags", "extends")
_MAKE = ("items", "matrix", "tables", "overrides", "turns")
_RESULTS = ("output", "checks")
_OPERATION = ("retry", "budget", "batch")
_KINDS = {
    "string": "text",
    "integer": "whole number",
    "number": "number",
    "boolean": "true or false",
    "array": "list",
    "object": "map",
    "anything": "anything",
}


def page() -> str:
    """The whole page."""
    untold = TOP.keys() - {*_JOB, *SETTINGS, *_MAKE, *_RESULTS, *_OPERATION}
    assert not untold, f"no part of the page tells of {untold}"
    front = DEFINED["front_matter"]
    parts = [
        _HEAD,
        "\n## The job itself\n\n",
        _table("key", {**_of(_JOB), "x-…": SCHEMA["patternProperties"]["^x-"]}),
        "\n## Settings\n\n" + _SETTINGS_HEAD,
        _table("setting", SETTINGS),
        *(_tables(key, rule) for key, rule in SETTINGS.items()),
        _PLACES,
        *_places(),
        *_chapter("What to make", _MAKE),
        *_chapter("Results", _RESULTS),
        *_chapter("Operation", _OPERATION),
        f"\n## Template files\n\n{_text(front)}{_too(front)}\n\n",
        _table("key", _own(front)),
    ]
    return "".join(parts)


def _chapter(title: str, keys: Iterable[str]) -> Iterator[str]:
    yield f"\n## {title}\n"
    for key, rule in _of(keys).items():
        takes = _takes(rule)
        yield f"\n### `{key}`\n\n{_text(rule)}\n" + ("" if takes == "map" else f"\nTakes: {takes}.\n")
        yield _tables(key, rule)


def _tables(key: str, rule: Rule) -> str:
    """A table for each kind of map a key may hold, unless its only key stands in the table above."""
    return "".join(_keys_of(place, form) for place, form in _forms(key, rule) if len(_own(form)) > 1 or place != key)


def _keys_of(place: str, form: Rule) -> str:
    own = _own(form)
    head = f"in an entry of `{place[:-2]}`" if place.endswith("[]") else f"in `{place}`"
    rules = {told.get("$ref", key) for key, told in own.items()}
    if len(own) > 1 and len(rules) == 1:
        told = next(iter(own.values()))
        return f"\n{_capital(head)}: {_words(own)}. {_text(told)} Each takes {_takes(told)}.\n"
    return f"\n{_table(head, own)}" + (f"\n{_too(form).strip()}\n" if _too(form) else "")


def _too(form: Rule) -> str:
    """That a map holds settings, if it does."""
    missing = [key for key in SETTINGS if key not in form["properties"]]
    if len(missing) == len(SETTINGS):
        return ""
    return f" Every setting{' but ' + _words(missing) if missing else ''} may stand there, too."


def _forms(key: str, rule: Rule) -> Iterator[tuple[str, Rule]]:
    """Each kind of map that a key, or an entry of its list or map, may be."""
    for way in _ways(rule):
        if "properties" in way:
            yield key, way
        for inside in (way.get("items"), way.get("additionalProperties")):
            if isinstance(inside, dict):
                yield from ((f"{key}[]", form) for form in _ways(inside) if "properties" in form)


def _places() -> Iterator[str]:
    """Where settings may stand, which of them, and the other keys of that place."""
    places = {
        "an item's `set`": DEFINED["set"],
        "`overrides[].set`": DEFINED["set_or_skip"],
        "`turns[]`": DEFINED["turn"],
        "front matter of a template": DEFINED["front_matter"],
    }
    yield _row("`matrix`", _LISTED, f"{_words(_own(TOP['matrix']))}, and any name of a placeholder")
    yield _row("a column `set.aspect` of a catalog", "all; `set.vars.NAME` and `set.safety.NAME` for one name each", "")
    for place, rule in places.items():
        missing = [key for key in SETTINGS if key not in rule["properties"]]
        yield _row(place, f"all but {_words(missing)}" if missing else "all", _words(_own(rule)))


def _table(head: str, rules: Rule) -> str:
    return "".join([_row(head, "takes", "meaning"), "|---|---|---|\n", *_rows(rules)])


def _rows(rules: Rule, above: str = "") -> Iterator[str]:
    for key, told in rules.items():
        yield _row(f"`{above}{key}`", _takes(told), _text(told))
        for name, form in _forms(key, told):
            if name == key and len(_own(form)) == 1:
                yield from _rows(_own(form), f"{above}{key}.")


def _row(*cells: str) -> str:
    escaped = [cell.replace("|", r"\|") for cell in cells]
    return f"| {' | '.join(escaped)} |\n"


def _takes(rule: Rule) -> str:
    """What may stand behind a key, in words."""
    rule = _resolved(rule)
    if "anyOf" in rule:
        return "; ".join(dict.fromkeys(map(_takes, _ways(rule))))
    if "enum" in rule:
        return _words(dict.fromkeys(map(str, rule["enum"])), "or")
    if "patternErrorMessage" in rule:
        return str(rule["patternErrorMessage"]).removeprefix("is ") + _limits(rule)
    if rule.get("type") == "array":
        return _list(rule)
    kinds = rule.get("type") or ["anything"]
    return _listed([_KINDS[kind] for kind in ([kinds] if isinstance(kinds, str) else kinds)]) + _limits(rule)


def _list(rule: Rule) -> str:
    few = f" of at least {rule['minItems']}" if rule.get("minItems", 1) > 1 else ""
    entry = _takes(rule.get("items", {})).replace("; ", " or ")
    return f"list{few}, each {entry}" if few or "pattern" in rule.get("items", {}) else f"list of {entry}"


def _limits(rule: Rule) -> str:
    if "maxLength" in rule:
        return f", at most {rule['maxLength']}"
    if "minimum" not in rule:
        return ""
    return f", {rule['minimum']:,} to {rule['maximum']:,}" if "maximum" in rule else f", from {rule['minimum']:,}"


def _of(keys: Iterable[str]) -> dict[str, Rule]:
    return {key: TOP[key] for key in keys}


def _own(rule: Rule) -> dict[str, Rule]:
    """The keys of a map that are no settings."""
    return {key: told for key, told in rule["properties"].items() if key not in SETTINGS}


def _ways(rule: Rule) -> list[Rule]:
    """The forms of a value, the simple ones first."""
    rule = _resolved(rule)
    ways = [_resolved(way) for way in rule.get("anyOf", [rule])]
    return sorted(ways, key=lambda way: way.get("type") == "object")


def _resolved(rule: Rule) -> Rule:
    told: Rule = DEFINED[rule["$ref"].rpartition("/")[2]] if "$ref" in rule else rule
    return told


def _text(rule: Rule) -> str:
    """The description of a key, with what Markdown would take for its own."""
    text = rule.get("description") or _resolved(rule).get("description", "")
    return re.sub(r"[<*]", r"\\\g<0>", text)


def _words(keys: Iterable[str], last: str = "and") -> str:
    return _listed([f"`{key}`" for key in keys], last)


def _listed(words: Iterable[str], last: str = "or") -> str:
    *first, end = list(words) or [""]
    return f"{', '.join(first)} {last} {end}" if first else end


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
