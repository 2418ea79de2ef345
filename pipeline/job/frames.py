"""Whether a reference image is whole: the frame around its pixels is walked, and nothing decoded.

Milder than what is asked of results: an image that a camera or an editor wrote may hold what decoders pass over, and
bytes behind its end. What is refused here would be refused by the service as well, an upload and a wait later.
"""

from __future__ import annotations

import re
import zlib
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

MOST_MEGAPIXELS: Final = 200
_CUT: Final = ("is cut off", "copy it again")
_DAMAGED: Final = ("is damaged", "copy it again, or save it anew")
_MOST_PARTS: Final = 250_000
"""Chunks or segments; what makes more of them is no encoder."""
_MARKER = re.compile(rb"\xff([\x01-\xfe])")
_FRAMES: Final = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_ALONE: Final = frozenset({0x01, *range(0xD0, 0xD9)})
"""Markers that nothing follows."""
_SCAN: Final = 0xDA
_END_MARK: Final = b"\xff\xd9"


class FrameError(ValueError):
    """An image that is not whole: what is wrong, to be read after its name, and what to do about it."""

    def __init__(self, message: str, hint: str) -> None:
        super().__init__(message)
        self.hint = hint


def check(data: bytes, mime: str) -> None:
    """Raise `FrameError` for a PNG, JPEG or WebP that is broken or too large; others pass as they are.

    PNG: every chunk and its checksum, up to the end mark. JPEG: a frame with its size, and an end mark behind the
    picture data. WebP: as long as it says.
    """
    walk = {"image/png": _png, "image/jpeg": _jpeg, "image/webp": _webp}.get(mime)
    size = walk(data) if walk else None
    if size is None:
        return
    width, height = size
    if not width or not height:
        raise FrameError(f"says it is {width}x{height} pixels", "save it anew")
    if width * height > MOST_MEGAPIXELS * 1_000_000:
        message = f"has {width}x{height} pixels, more than {MOST_MEGAPIXELS} megapixels"
        raise FrameError(message, "scale it down")


def _png(data: bytes) -> tuple[int, int]:
    view, at, has_pixels = memoryview(data), 8, False
    for number in range(_MOST_PARTS):
        name = data[at + 4 : at + 8]
        end = at + 12 + _number(data, at, 4)
        if end > len(data):
            raise FrameError(*_CUT)
        if zlib.crc32(view[at + 4 : end - 4]) != _number(data, end - 4, 4) or (number == 0) != (name == b"IHDR"):
            raise FrameError(*_DAMAGED)
        if name == b"IEND":
            break
        has_pixels = has_pixels or (name == b"IDAT" and end > at + 12)
        at = end
    else:
        raise FrameError(*_DAMAGED)
    if not has_pixels:
        raise FrameError("holds no picture", "save it anew")
    return _number(data, 16, 4), _number(data, 20, 4)


def _jpeg(data: bytes) -> tuple[int, int]:
    size = None
    for marker, at, end in _jpeg_segments(data):
        if marker in _FRAMES:
            size = _number(data, at + 5, 2), _number(data, at + 3, 2)
        if marker == _SCAN:
            if size is None:
                raise FrameError(*_DAMAGED)
            if data.rfind(_END_MARK, end) >= 0:
                return size
            break
    raise FrameError(*_CUT)


def _jpeg_segments(data: bytes) -> Iterator[tuple[int, int, int]]:
    """The marker of each segment, and where its body begins and ends; what lies between two is passed over."""
    at = 2
    for _ in range(_MOST_PARTS):
        found = _MARKER.search(data, at)
        if found is None:
            return
        marker, at = found[1][0], found.end()
        if marker in _ALONE:
            continue
        if marker == _END_MARK[1]:
            raise FrameError("holds no picture", "save it anew")
        end = at + max(_number(data, at, 2), 2)
        if end > len(data):
            return
        yield marker, at, end
        at = end
    raise FrameError(*_DAMAGED)


def _webp(data: bytes) -> tuple[int, int] | None:
    if int.from_bytes(data[4:8], "little") + 8 > len(data):
        raise FrameError(*_CUT)
    kind, body = data[12:16], data[20:30]
    if kind == b"VP8X":
        return int.from_bytes(body[4:7], "little") + 1, int.from_bytes(body[7:10], "little") + 1
    if kind == b"VP8L":
        bits = int.from_bytes(body[1:5], "little")
        return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    if kind == b"VP8 " and body[3:6] == b"\x9d\x01\x2a":
        return int.from_bytes(body[6:8], "little") & 0x3FFF, int.from_bytes(body[8:10], "little") & 0x3FFF
    return None


def _number(data: bytes, at: int, length: int) -> int:
    return int.from_bytes(data[at : at + length])
