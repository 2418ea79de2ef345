"""How an answer is written as a line: not at all, twice, cut, beside what is no answer, or spelled unusually."""

from __future__ import annotations

import base64
import json
import re
from typing import TYPE_CHECKING, Any

from . import damages

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    Said = Mapping[str, Any]
    Answer = dict[str, Any]

_DEEP = 100_000
_JUNK = {
    "binary": b"\x00\xff\xfe\x1b[2J\x80",
    "word": b'"Rehearsed trouble."',
    "number": b"42",
    "nothing": b"null",
    "list": b'["key", "response"]',
    "object": b"{}",
    "deep": b'{"key": ' + b"[" * _DEEP,
    "digits": b'{"key": "a", "error": {"code": ' + b"9" * 10_000 + b"}}",
}
_DATA = re.compile(rb'(?<="data":")[A-Za-z0-9+/=]+(?=")')


def written(answer: Answer) -> bytes:
    """The line of an answer."""
    return json.dumps(answer, separators=(",", ":")).encode() + b"\n"


def _twice(said: Said, answer: Answer, _is_inline: bool) -> bytes:  # noqa: FBT001 - by its place in the table
    line = written(answer)
    match said["as"]:
        case "picture":
            other = damages.turned(answer) if "response" in answer else answer
            return line + written(other)
        case "error":
            return line + _error_for(answer)
        case "error_first":
            return _error_for(answer) + line
        case _:
            return line + line


def _error_for(answer: Answer) -> bytes:
    handle = {name: value for name, value in answer.items() if name in {"key", "metadata"}}
    return written({**handle, "error": {"code": 13, "message": "Rehearsed: an error for what has an answer."}})


def _cut(_said: Said, answer: Answer, is_inline: bool) -> bytes:  # noqa: FBT001
    # An inlined answer is a value in a larger one, and cannot be torn by itself.
    line = written(answer)
    return b"" if is_inline else line[: len(line) // 2] + b"\n"


def _junk(said: Said, answer: Answer, is_inline: bool) -> bytes:  # noqa: FBT001
    line = b"" if said["alone"] else written(answer)
    return line if is_inline else _JUNK[said["as"]] + b"\n" + line


def _keyed_otherwise(said: Said, answer: Answer, is_inline: bool) -> bytes:  # noqa: FBT001
    handle = answer["metadata"] if is_inline else answer
    key = handle.get("key", "")
    others = {
        "text": f"{key}-of-another",
        "nothing": None,
        "number": 7,
        "list": [key],
        "path": f"../../{key}",
    }
    changed = {**handle, "key": others.get(said["as"])}
    if said["as"] == "missing":
        del changed["key"]
    return written({**answer, "metadata": changed} if is_inline else changed)


def _spelled(said: Said, answer: Answer, _is_inline: bool) -> bytes:  # noqa: FBT001
    return _SPELLINGS[said["as"]](answer)


def _escaped(answer: Answer) -> bytes:
    return _DATA.sub(lambda found: found[0].replace(b"/", rb"\/").replace(b"=", rb"\u003d"), written(answer))


def _with_newlines(answer: Answer) -> bytes:
    """Pictures in lines of 76 letters, as in a mail."""

    def broken(found: re.Match[bytes]) -> bytes:
        content = base64.encodebytes(base64.b64decode(found[0]))
        return content.replace(b"\n", rb"\n")

    return _DATA.sub(broken, written(answer))


def _said_beside(text: str) -> Callable[[Answer], bytes]:
    """An answer with a thought beside the picture, spelled as it is."""

    def spelled(answer: Answer) -> bytes:
        changed = json.loads(json.dumps(answer))
        for candidate in changed.get("response", {}).get("candidates", ()):
            candidate["content"].setdefault("parts", []).insert(0, {"text": "REHEARSED", "thought": True})
        return written(changed).replace(b"REHEARSED", text.encode())

    return spelled


def _with_no_number(answer: Answer) -> bytes:
    changed = json.loads(json.dumps(answer))
    changed.get("response", changed)["avgLogprobs"] = float("nan")
    return written(changed)


_SPELLINGS: dict[str, Callable[[Answer], bytes]] = {
    "escaped": _escaped,
    "newlines": _with_newlines,
    "separators": _said_beside("one\u2028two\u2029three\u0085four"),
    "surrogate": _said_beside("half \\ud83d a character"),
    "nan": _with_no_number,
}

WRITTEN: Mapping[str, Callable[[Said, Answer, bool], bytes]] = {
    "missing": lambda _said, _answer, _is_inline: b"",
    "duplicate": _twice,
    "malformed": _cut,
    "junk": _junk,
    "other_key": _keyed_otherwise,
    "spelling": _spelled,
}
"""What is written for an answer, by the word of a rule."""
