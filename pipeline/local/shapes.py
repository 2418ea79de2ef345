"""Other shapes of what is right: of a batch as it is told, and of a file of answers."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    Operation = dict[str, Any]
    Lines = list[bytes]

_BOM = b"\xef\xbb\xbf"
_STRANGERS = (
    b'{"key": "../../../etc/passwd", "response": {"candidates": []}}\n',
    b'{"key": null, "response": {"candidates": []}}\n',
    b'{"key": ["a", "b"], "error": {"code": 13}}\n',
    b'{"key": "nobody~0000000000000000", "error": {"code": 13, "message": "Rehearsed trouble."}}\n',
    b"\n",
)


def _of_jobs(operation: Operation) -> Operation:
    """With the prefix of states that the client has for them."""
    metadata = operation["metadata"]
    state = metadata["state"].replace("BATCH_STATE_", "JOB_STATE_")
    return {**operation, "metadata": {**metadata, "state": state}}


def _at_the_top(operation: Operation) -> Operation:
    metadata = {word: value for word, value in operation["metadata"].items() if word != "@type"}
    return {**metadata, **{word: value for word, value in operation.items() if word != "metadata"}}


def _in_snake_case(operation: Operation) -> Operation:
    def renamed(told: Any) -> Any:
        if isinstance(told, dict):
            return {_snake(word): renamed(value) for word, value in told.items()}
        return told

    return {word: renamed(value) for word, value in operation.items()}


def _snake(word: str) -> str:
    return re.sub(r"([A-Z])", lambda found: f"_{found[1].lower()}", word)


def _in_the_response(operation: Operation) -> Operation:
    """The answers are named where an operation has its result, and nowhere else."""
    return _without(operation, "output") if "response" in operation else operation


def _stateless(operation: Operation) -> Operation:
    return _without(operation, "state")


def _without(operation: Operation, word: str) -> Operation:
    metadata = {name: value for name, value in operation["metadata"].items() if name != word}
    return {**operation, "metadata": metadata}


SHAPES: Mapping[str, Callable[[Operation], Operation]] = {
    "job_state": _of_jobs,
    "top_level": _at_the_top,
    "snake_case": _in_snake_case,
    "response_only": _in_the_response,
    "stateless": _stateless,
}
"""A batch as it may be told, by the word of a rule."""


def _key(line: bytes) -> str:
    try:
        told = json.loads(line)
    except (ValueError, RecursionError):
        return ""
    return str(told.get("key", "")) if isinstance(told, dict) else ""


FILES: Mapping[str, Callable[[Lines], Lines]] = {
    "in_order": lambda lines: sorted(lines, key=_key),
    "backwards": lambda lines: sorted(lines, key=_key, reverse=True),
    "repeated": lambda lines: [*lines, *lines],
    "extra": lambda lines: [*_STRANGERS, *lines],
    "unended": lambda lines: [*lines[:-1], lines[-1].rstrip(b"\n")] if lines else lines,
    "crlf": lambda lines: [line.removesuffix(b"\n") + b"\r\n" for line in lines],
    "bom": lambda lines: [_BOM, *lines],
    "array": lambda lines: [b"[", b",".join(line.strip() for line in lines), b"]\n"],
    "none": lambda _lines: [],
}
"""A file of answers as it may come, by the word of a rule."""
