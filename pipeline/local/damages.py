"""Pictures that are none, not whole, not what they are called, or not those that were asked for."""

from __future__ import annotations

import base64
import hashlib
import json
import zlib
from io import BytesIO
from typing import TYPE_CHECKING, Any

from PIL import Image

from .asks import SIGNATURE

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    Said = Mapping[str, Any]
    Answer = dict[str, Any]

_HEADER = 16
"""Where a PNG says how wide it is: four bytes, and four for the height."""
_BOMB = 60_000
"""Rows and columns that the bomb says it has."""
_ROWS = 64
"""So many of them the bomb has."""


def shrunk(_said: Said, answer: Answer) -> Answer:
    """A picture half as wide and half as high."""
    return _redrawn(answer, _half_as_large)


def halved(_said: Said, answer: Answer) -> Answer:
    """A picture of which half is missing."""
    return _redrawn(answer, lambda data: data[: len(data) // 2])


def turned(answer: Answer) -> Answer:
    """Another picture of the same size."""
    return _redrawn(answer, _upside_down)


def the_same(_said: Said, answer: Answer) -> Answer:
    """A picture that shows nothing of what was asked for: the same for all of a size."""
    return _redrawn(answer, lambda data: _png(data, plain=True))


def damaged(said: Said, answer: Answer) -> Answer:
    """What stands in place of a picture is none, or not a whole one."""
    kind = said["as"]
    if kind == "letters":
        return _with_data(answer, "!" * 400)
    if kind == "nothing":
        return _with_data(answer, "")
    return _redrawn(answer, lambda data: _DAMAGES[kind](_png(data)))


def called_otherwise(said: Said, answer: Answer) -> Answer:
    """A picture with a MIME type that is not its own."""
    changed = json.loads(json.dumps(answer))
    for part in _pictures(changed):
        part["inlineData"]["mimeType"] = said["mime"]
    return dict(changed)


def _pictures(answer: Answer) -> list[dict[str, Any]]:
    """The parts of an answer that hold pictures."""
    candidates = answer["response"].get("candidates", ())
    return [part for one in candidates for part in one["content"].get("parts", ()) if "inlineData" in part]


def _with_data(answer: Answer, data: str) -> Answer:
    changed = json.loads(json.dumps(answer))
    for part in _pictures(changed):
        part["inlineData"]["data"] = data
    return dict(changed)


def _redrawn(answer: Answer, change: Callable[[bytes], bytes]) -> Answer:
    """The same answer with other pictures, and signatures that fit them."""
    changed = json.loads(json.dumps(answer))
    for part in _pictures(changed):
        data = change(base64.b64decode(part["inlineData"]["data"]))
        part["inlineData"]["data"] = base64.b64encode(data).decode()
        if "thoughtSignature" in part:
            part["thoughtSignature"] = base64.b64encode(SIGNATURE + hashlib.sha256(data).digest()).decode()
    return dict(changed)


def _half_as_large(data: bytes) -> bytes:
    stream = BytesIO()
    with Image.open(BytesIO(data)) as image:
        image.reduce(2).save(stream, image.format)
    return stream.getvalue()


def _upside_down(data: bytes) -> bytes:
    stream = BytesIO()
    with Image.open(BytesIO(data)) as image:
        image.transpose(Image.Transpose.ROTATE_180).save(stream, image.format)
    return stream.getvalue()


def _png(data: bytes, *, plain: bool = False) -> bytes:
    """The picture as a PNG; a plain one shows nothing, in its size."""
    stream = BytesIO()
    with Image.open(BytesIO(data)) as image:
        shown = Image.new("RGB", image.size, "teal") if plain else image
        shown.save(stream, "PNG", compress_level=1)
    return stream.getvalue()


# What is done to a PNG


def _chunk(name: bytes, body: bytes) -> bytes:
    return len(body).to_bytes(4) + name + body + zlib.crc32(name + body).to_bytes(4)


def _with_wrong_checksum(data: bytes) -> bytes:
    at = data.index(b"IDAT") + 10
    return data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]


def _with_size(data: bytes, width: int, height: int) -> bytes:
    header = width.to_bytes(4) + height.to_bytes(4) + data[_HEADER + 8 : _HEADER + 13]
    return data[: _HEADER - 8] + _chunk(b"IHDR", header) + data[_HEADER + 17 :]


def _twice_as_wide(data: bytes) -> bytes:
    width = int.from_bytes(data[_HEADER : _HEADER + 4])
    return _with_size(data, 2 * width, int.from_bytes(data[_HEADER + 4 : _HEADER + 8]))


def _without_pixels(data: bytes) -> bytes:
    """A whole file by its frame, with pixels that no decoder can unpack."""
    return data[: data.index(b"IDAT") - 4] + _chunk(b"IDAT", b"rehearsed") + _chunk(b"IEND", b"")


def _bomb(data: bytes) -> bytes:
    """A few kilobytes that say they are 3600 million pixels."""
    row = bytes(1 + _BOMB // 8)
    body = zlib.compress(row * _ROWS, 9)
    header = _BOMB.to_bytes(4) * 2 + bytes([1, 0, 0, 0, 0])
    return data[:8] + _chunk(b"IHDR", header) + _chunk(b"IDAT", body) + _chunk(b"IEND", b"")


_DAMAGES: Mapping[str, Callable[[bytes], bytes]] = {
    "html": lambda _data: b"<!DOCTYPE html><html><body><script>alert(1)</script></body></html>",
    "svg": lambda _data: b'<svg xmlns="http://www.w3.org/2000/svg"><script>alert(1)</script></svg>',
    "zip": lambda _data: b"PK\x03\x04" + bytes(60),
    "gif": lambda _data: b"GIF89a\x01\x00\x01\x00\x00\x00\x00;",
    "cut": lambda data: data[:-4],
    "checksum": _with_wrong_checksum,
    "no_end": lambda data: data[:-12],
    "size": _twice_as_wide,
    "tail": lambda data: data + b"<script>alert(1)</script>",
    "bomb": _bomb,
    "no_pixels": _without_pixels,
}
