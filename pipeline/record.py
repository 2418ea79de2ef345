"""A record: one line of the output manifest. Pure functions from what is known to the line's keys, in their order.

The language is `schemas/record.schema.json`; absent facts are `null`, never missing.
"""

from __future__ import annotations

import datetime as dt
import hashlib
import re
import unicodedata
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from pipeline import jsontext

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from pipeline.job.expand import Request

_KEYS = (
    "key", "item", "id", "sample", "turn", "status", "reason", "service", "at", "files", "fingerprint", "model",
    "model_id", "prompt", "template", "inputs", "settings", "vars", "metadata", "lane", "batch", "attempt",
    "finish_reason", "usage", "cost", "grounding", "text",
)  # fmt: skip

HAS_IMAGE = frozenset({"done", "check"})
LONGEST_SLUG = 40
"""Characters of the readable part of a key on the wire."""


def draft(request: Request, *, model_id: str, service: str) -> dict[str, Any]:
    """The record of a request that has not been sent yet."""
    ask = request.ask
    return {
        "key": request.key,
        "item": request.item,
        "id": request.id,
        "sample": request.sample,
        "turn": request.turn,
        "status": "pending",
        "reason": None,
        "service": service,
        "at": None,
        "files": [],
        "fingerprint": request.fingerprint,
        "model": ask.model,
        "model_id": model_id,
        "prompt": ask.prompt,
        "template": request.template,
        "inputs": [{"path": image.shown, "sha256": image.sha256} for image in ask.images],
        "settings": ask.settings(),
        "vars": request.vars,
        "metadata": None,
        "lane": "batch",
        "batch": None,
        "attempt": 0,
        "finish_reason": None,
        "usage": None,
        "cost": None,
        "grounding": None,
        "text": None,
    }


def wire_key(key: str, fingerprint: str, slug: str | None = None) -> str:
    """The key of a request on the wire: readable, ASCII, unique, and enough to join an answer without a journal.

    `slug` is what `slug_of` makes of the key, where that is known.
    """
    digest = _EMPTY.copy()
    digest.update(f"{key}\n{fingerprint}".encode("utf-8", "surrogatepass"))
    return f"{slug_of(key) if slug is None else slug}~{digest.hexdigest()[:12]}"


def wire_keys(keys: Sequence[str], fingerprints: Sequence[str], slugs: Sequence[str], tail: str | None) -> list[str]:
    """The same for many; `slugs` are the ids as slugs, and `tail` is what `slug_tail` says."""
    if tail is None:
        named = [*map(slug_of, keys)]
    elif max(map(len, slugs), default=0) + len(tail) <= LONGEST_SLUG:
        named = [slug + tail for slug in slugs]
    else:
        named = [slug_with(slug, tail) or "" for slug in slugs]
    found, copy = [], _EMPTY.copy
    for key, fingerprint, slug in zip(keys, fingerprints, named, strict=True):
        digest = copy()
        digest.update(f"{key}\n{fingerprint}".encode("utf-8", "surrogatepass"))
        found.append(f"{slug}~{digest.hexdigest()[:12]}")
    return found


_EMPTY = hashlib.sha256()


def slug_of(key: str) -> str:
    """The readable part of a key on the wire."""
    plain = unicodedata.normalize("NFKD", key).encode("ascii", "ignore").decode().lower()
    return re.sub(r"[^a-z0-9]+", "-", plain)[:LONGEST_SLUG].strip("-")


def slug_tail(tail: str) -> str | None:
    """What `tail` adds to the readable part, behind an id that is a slug; None where it depends on the id."""
    tails = {slug_of(one + tail).removeprefix(one) for one in ("a", "b0", "c-d")}
    return tails.pop() if len(tails) == 1 else None


def slug_with(slug: str, tail: str | None) -> str | None:
    """The readable part of a key that is a slug with this tail; None where one of them is none."""
    return (slug + tail)[:LONGEST_SLUG].strip("-") if slug and tail is not None else None


def renamed(old: Mapping[str, Any], new: Mapping[str, Any]) -> dict[str, Any]:
    """The record `old` under the key, item and values that the same ask has now."""
    return {
        **old,
        **{name: new[name] for name in ("key", "item", "id", "sample", "turn", "template", "vars", "inputs")},
    }


def dumps(record: Mapping[str, Any]) -> str:
    """The record as a line without its newline: keys in the promised order, text as it is.

    But for what some readers take for the end of a line, which is escaped. A lone surrogate in an answer does not cost
    a paid image its record.
    """
    return on_one_line(jsontext.dumps({name: record.get(name) for name in _KEYS}))


_LINE_ENDS = re.compile("[\x7f-\x9f\u2028\u2029]")


def files(line: str) -> list[dict[str, Any]]:
    """The `files` of a record, by its line; what else is in it is not taken apart where that can be.

    A quote that follows a comma is the begin of a text in any JSON, as one within a text has a backslash before it; and
    before `files`, nothing in a line that `dumps` has written holds other names than those of a record.
    """
    start = line.find(_FILES)
    end = line.find(_BEHIND_FILES, start)
    if start < 0 or end < 0:
        return jsontext.loads(line).get("files") or []
    found: list[dict[str, Any]] = jsontext.loads(line[start + len(_FILES) - 1 : end + 1])
    return found


_FILES = ',"files":['
_BEHIND_FILES = '],"fingerprint":"'


def on_one_line(text: str) -> str:
    """JSON as it is, but for what some readers take for the end of a line."""
    if text.isascii() and "\x7f" not in text:
        return text
    return text if text.isprintable() else _LINE_ENDS.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


def timestamp(seconds: float) -> str:
    """Seconds since 1970 as the UTC time of records: 2026-11-22T03:14:15Z."""
    return _timestamp(int(seconds))


@lru_cache(maxsize=8)
def _timestamp(seconds: int) -> str:
    return dt.datetime.fromtimestamp(seconds, dt.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def otherwise(told: Mapping[str, Any], *, model: str, settings: Mapping[str, Any]) -> list[str]:
    """In which words a record was asked otherwise than with this model and these settings, the job's; mostly none."""
    words = [] if told["model"] == model else ["model"]
    return words + [
        word for word in {**settings, **told["settings"]} if told["settings"].get(word) != settings.get(word)
    ]


def said_otherwise(told: Mapping[str, Any], draft: Mapping[str, Any]) -> str:
    """The same for people: what the job says → what was asked; empty where these are equal."""
    return ", ".join(_changed_model_and_settings(draft, told))


_UNSAID = {"response": ["image"], "search": [], "thoughts": False}
_LONG = frozenset({"system"})
_LONGEST_SHOWN = 60


def differences(old: Mapping[str, Any], new: Mapping[str, Any]) -> str:
    """Why an ask changed, in the words of the job language; both records' settings are compared."""
    said = list(_changed_model_and_settings(old, new))
    if old["prompt"] != new["prompt"]:
        where = f" (template {new['template']})" if new["template"] else ""
        said.append(f"prompt{where}")
    before, after = ([image["sha256"] for image in side["inputs"] or []] for side in (old, new))
    if before != after:
        changed = [image["path"] for image in new["inputs"] if image["sha256"] not in before]
        said.append(f"reference image{f' {changed[0]}' if len(changed) == 1 else 's'}")
    if old["sample"] != new["sample"]:
        said.append(f"sample {old['sample']} → {new['sample']}")
    return ", ".join(said) or ("an earlier turn" if new["turn"] > 1 else "the ask")


def _changed_model_and_settings(old: Mapping[str, Any], new: Mapping[str, Any]) -> Iterator[str]:
    if old["model"] != new["model"]:
        yield f"model {old['model']} → {new['model']}"
    yield from _changed_settings(old["settings"] or {}, new["settings"] or {})


def _changed_settings(old: Mapping[str, Any], new: Mapping[str, Any]) -> Iterator[str]:
    for name in sorted({*old, *new}):
        before, after = (side.get(name, _UNSAID.get(name)) for side in (old, new))
        if before == after:
            continue
        if isinstance(before, dict) or isinstance(after, dict):  # safety: only the filters that changed
            filters = (side if isinstance(side, dict) else {} for side in (before, after))
            yield from (f"{name} {change}" for change in _changed_settings(*filters))
        elif name in _LONG:
            yield name
        else:
            yield f"{name} {_shown(before)} → {_shown(after)}"


def _shown(value: Any) -> str:
    """A value of a setting for people: what nobody wrote is the model's own."""
    if isinstance(value, list):
        return "+".join(map(_shown, value)) or "none"
    if value is None:
        return "default"
    return (str(value).lower() if isinstance(value, bool) else str(value))[:_LONGEST_SHOWN]
