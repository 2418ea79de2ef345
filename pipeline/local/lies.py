"""Replies that say what is not so: other JSON, other names, pages that repeat, a clock that is off, other bytes."""

from __future__ import annotations

import gzip
import zlib
from dataclasses import replace
from email.utils import formatdate
from typing import TYPE_CHECKING, Any

from .calls import Reply, page_token
from .state import fresh_id

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from .calls import Call, Service

    Said = Mapping[str, Any]

_DEEP = 100_000
_SHAPES = {
    "object": b"{}",
    "list": b"[]",
    "nothing": b"null",
    "number": b"42",
    "words": b'"Rehearsed trouble."',
    "deep": b"[" * _DEEP + b"]" * _DEEP,
    "nan": b'{"name": NaN, "done": Infinity}',
}
_LISTED = ("operations", "files", "models")
_PIECE = 1 << 20


def _other_json(said: Said, _service: Service, _call: Call, reply: Reply) -> Reply:
    return replace(reply, body=_SHAPES[said["as"]], path=None)


def _mislabelled(said: Said, _service: Service, _call: Call, reply: Reply) -> Reply:
    """The reply under another name, wherever it says one."""
    word = {"name": "name", "display_name": "displayName"}[said["field"]]

    def changed(told: Any) -> Any:
        if not isinstance(told, dict):
            return told
        inner = {key: changed(value) if key in {"metadata", "file"} else value for key, value in told.items()}
        if word not in told:
            return inner
        if said["as"] == "missing":
            inner.pop(word)
            return inner
        folder = str(told[word]).rpartition("/")[0]
        others = {"other": f"{folder}/another" if folder else "another", "number": 7, "path": "../../../etc/passwd"}
        return {**inner, word: others[said["as"]]}

    return replace(reply, body=changed(reply.body))


def _dated(said: Said, service: Service, _call: Call, reply: Reply) -> Reply:
    dates = {"date": formatdate(service.state.now() + said["ahead"], usegmt=True), "words": "the day after tomorrow"}
    return replace(reply, date=dates.get(said["as"], ""))


def _sent_elsewhere(said: Said, _service: Service, _call: Call, reply: Reply) -> Reply:
    return replace(reply, headers={**reply.headers, "X-Goog-Upload-URL": said["to"]})


# Lists


def _with_empty_page(_said: Said, _service: Service, _call: Call, reply: Reply) -> Reply:
    if reply.body and "nextPageToken" not in reply.body:
        far = 1 << 60 if "models" in reply.body else 0  # models are counted up, all else is counted down
        return replace(reply, body={**reply.body, "nextPageToken": page_token(far)})
    return reply


def _with_the_same_page(_said: Said, _service: Service, call: Call, reply: Reply) -> Reply:
    again = call.query.get("pageToken") or page_token(0 if "models" in reply.body else 1 << 60)
    return replace(reply, body={**reply.body, "nextPageToken": again})


def _stopped_early(said: Said, _service: Service, _call: Call, reply: Reply) -> Reply:
    """So many of a page, and then no page more: what is left out is as if it were not there."""
    kept = {word: told[: said["items"]] for word, told in reply.body.items() if word in _LISTED}
    return replace(reply, body={word: told for word, told in kept.items() if told})


def _with_a_stranger(said: Said, _service: Service, _call: Call, reply: Reply) -> Reply:
    """One batch more than there are: like the newest, and not to be found under its name."""
    told = reply.body.get("operations")
    if not told:
        return reply
    name = f"batches/{fresh_id(36)}"
    shown = told[0]["metadata"].get("displayName", "")
    metadata = {**told[0]["metadata"], "name": name}
    if not said["same_name"]:
        metadata = {**metadata, "displayName": f"{shown}-of-another"}
        metadata.pop("inputConfig", None)
    stranger = {"name": name, "metadata": {key: value for key, value in metadata.items() if key != "output"}}
    return replace(reply, body={**reply.body, "operations": [stranger, *told]})


# Bytes


def _flipped(said: Said, _service: Service, _call: Call, reply: Reply) -> Reply:
    content, mime = _content(reply)
    at = min(int(len(content) * said["at"]), len(content) - 1)
    changed = content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :] if content else content
    return replace(reply, body=changed, mime=mime, path=None)


def _compressed(_said: Said, _service: Service, _call: Call, reply: Reply) -> Reply:
    content, mime = _content(reply)
    headers = {**reply.headers, "Content-Encoding": "gzip"}
    return replace(reply, body=gzip.compress(content), mime=mime, path=None, headers=headers)


def _bomb(said: Said, _service: Service, _call: Call, reply: Reply) -> Reply:
    """The reply with much white space behind it, which changes nothing of what it says."""
    content, mime = _content(reply)
    if not said["compressed"]:
        return replace(reply, body=content + b"\n" * said["bytes"], mime=mime, path=None)
    packer = zlib.compressobj(wbits=31)
    pieces = [packer.compress(content)]
    pieces += [packer.compress(b"\n" * min(_PIECE, said["bytes"] - at)) for at in range(0, said["bytes"], _PIECE)]
    headers = {**reply.headers, "Content-Encoding": "gzip"}
    return replace(reply, body=b"".join([*pieces, packer.flush()]), mime=mime, path=None, headers=headers)


def _partial(said: Said, _service: Service, _call: Call, reply: Reply) -> Reply:
    """A range that nobody asked for."""
    content, mime = _content(reply)
    kept = content[: int(len(content) * said["part"])]
    headers = {**reply.headers, "Content-Range": f"bytes 0-{len(kept) - 1}/{len(content)}"}
    return replace(reply, body=kept, mime=mime, path=None, code=206, headers=headers)


def _of_another(_said: Said, service: Service, _call: Call, reply: Reply) -> Reply:
    """The answer of another batch, the newest that there is; without one the reply stays as it is."""
    if reply.path is None:
        return reply
    rows = service.state.rows("SELECT id, bytes FROM batch WHERE rendered_at IS NOT NULL ORDER BY seq DESC")
    others = [row for row in rows if row["id"] != reply.path.stem]
    if not others:
        return reply
    content = (service.state.batches / f"{others[0]['id']}.out").read_bytes()[: others[0]["bytes"]]
    return replace(reply, body=content, mime=_content(reply)[1], path=None)


def _content(reply: Reply) -> tuple[bytes, str]:
    """What a reply would send, and its MIME type."""
    mime, _length, stream = reply.opened()
    with stream:
        return stream.read(), mime


LIES: Mapping[str, Callable[[Said, Service, Call, Reply], Reply]] = {
    "json": _other_json,
    "mislabel": _mislabelled,
    "date": _dated,
    "elsewhere": _sent_elsewhere,
    "empty_page": _with_empty_page,
    "repeat_page": _with_the_same_page,
    "stop_early": _stopped_early,
    "stranger": _with_a_stranger,
    "flip": _flipped,
    "gzip": _compressed,
    "bomb": _bomb,
    "partial": _partial,
    "other_answer": _of_another,
}
"""What a rule makes of a good reply, by its word."""
