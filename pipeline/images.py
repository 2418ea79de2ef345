"""Whether bytes are a picture, whole, and the one that was asked for.

`structure` walks the frame around the pixels at the speed of memory and decodes none of them: it holds for every image
before it gets its final name. What only a decoder can see is the business of `PixelChecks`, in processes beside.
"""

from __future__ import annotations

import re
import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from pipeline.decoder import MOST_PIXELS, pixels_problem
from pipeline.pixels import PixelChecks

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["MOST_PIXELS", "BrokenImage", "Picture", "PixelChecks", "pixels_problem", "size_problem", "structure"]

_MOST_PARTS: Final = 250_000  # chunks or segments; an encoder that makes more is no encoder
_PNG_START: Final = b"\x89PNG\r\n\x1a\n"
_PNG_DEPTHS: Final = {0: (1, 2, 4, 8, 16), 2: (8, 16), 3: (1, 2, 4, 8), 4: (8, 16), 6: (8, 16)}
_NAME = re.compile(rb"[A-Za-z]{4}")
_JPEG_MARKER = re.compile(rb"\xff+([^\x00\xff])")
_JPEG_SCAN_END = re.compile(rb"\xff[^\x00\xff\xd0-\xd7]")  # neither a stuffed zero, nor fill, nor a restart
_JPEG_FRAMES: Final = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_ROUNDING: Final = 1e-9  # of the division, so that 1030x1000 is within 3 % of 1:1
_STRANGERS: Final = (
    (rb"\s*(<\?xml[^>]*>\s*)?(<!--.*?-->\s*)*<svg", "is an SVG"),
    (rb"\s*(<!--.*?-->\s*)*(<!doctype html|<html|<head|<body)", "is an HTML page"),
    (rb"gif8", "is a GIF"),
    (rb"pk\x03\x04", "is a ZIP archive"),
    (rb"%pdf", "is a PDF"),
    (rb"....ftyp", "is HEIC, AVIF or a film"),
    (rb"\s*[{[]", "is JSON"),
)


class BrokenImage(ValueError):  # noqa: N818 - it says what the bytes are
    """These bytes are no whole picture; the text says why and reads on after "the image"."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Picture:
    """What the bytes are, whatever anybody called them."""

    mime: str
    extension: str
    """`.jpg`, `.png` or `.webp`."""
    width: int
    height: int


def structure(data: bytes | memoryview) -> Picture:
    """Name a whole PNG, JPEG or WebP from its first byte to its last, or raise BrokenImage.

    PNG: every CRC, a sane header, picture data, and nothing behind IEND. JPEG: every marker from SOI to EOI, and
    nothing behind. WebP: every chunk, and exactly the length it names. No side of 0, at most 64 megapixels.
    """
    view = memoryview(data).cast("B")
    head = bytes(view[:512])
    if head.startswith(_PNG_START):
        return _sane("image/png", ".png", _png(view))
    if head.startswith(b"\xff\xd8\xff"):
        return _sane("image/jpeg", ".jpg", _jpeg(view))
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return _sane("image/webp", ".webp", _webp(view))
    if not head:
        raise BrokenImage("is empty")
    known = (text for pattern, text in _STRANGERS if re.match(pattern, head, re.IGNORECASE | re.DOTALL))
    raise BrokenImage(next(known, "is no PNG, JPEG or WebP"))


def size_problem(picture: Picture, pixels: tuple[int, int] | None, aspect: str | None, tolerance: float) -> str | None:
    """What is wrong with its size, or None: `pixels` exactly; where they are not known, `aspect` within `tolerance`.

    `tolerance` is a fraction (0.03 is 3 %). An aspect that is no `W:H` (`auto`) asks for nothing.
    """
    found = f"is {picture.width}x{picture.height}"
    if pixels is not None:
        width, height = pixels
        return None if (picture.width, picture.height) == pixels else f"{found}, not {width}x{height} as asked"
    asked = re.fullmatch(r"([1-9][0-9]{0,5}):([1-9][0-9]{0,5})", aspect or "")
    if asked is None:
        return None
    ratio = picture.width / picture.height / (int(asked[1]) / int(asked[2]))
    if max(ratio, 1 / ratio) <= 1 + tolerance + _ROUNDING:
        return None
    return f"{found}, which is not {aspect} within {tolerance * 100:g} %"


def _sane(mime: str, extension: str, size: tuple[int, int]) -> Picture:
    width, height = size
    if width == 0 or height == 0:
        raise BrokenImage(f"says it is {width}x{height} pixels")
    if width * height > MOST_PIXELS:
        raise BrokenImage(f"has {width}x{height} pixels, more than {MOST_PIXELS:,}")
    return Picture(mime, extension, width, height)


def _number(view: memoryview, at: int, length: int) -> int:
    return int.from_bytes(view[at : at + length])


def _refuse_tail(view: memoryview, at: int) -> None:
    if at != len(view):
        raise BrokenImage(f"has {len(view) - at} bytes behind its end")


def _png(view: memoryview) -> tuple[int, int]:
    """Walk the chunks. C2PA (`caBX`) and every other chunk that may be skipped is fine."""
    at, data_bytes = len(_PNG_START), 0
    for number in range(_MOST_PARTS):
        name = bytes(view[at + 4 : at + 8])
        length = _number(view, at, 4)
        end = at + 12 + length
        if end > len(view):
            raise BrokenImage("is cut off")
        if zlib.crc32(view[at + 4 : end - 4]) != _number(view, end - 4, 4):
            raise BrokenImage(f"is damaged: the checksum of chunk {number} is wrong")
        _refuse_chunk(number, name, length, view[at + 8 : end - 4])
        data_bytes += length if name == b"IDAT" else 0
        at = end
        if name == b"IEND":
            break
    else:
        raise BrokenImage(f"has more than {_MOST_PARTS:,} chunks")
    if not data_bytes:
        raise BrokenImage("has no picture data")
    _refuse_tail(view, at)
    return _number(view, 16, 4), _number(view, 20, 4)


def _refuse_chunk(number: int, name: bytes, length: int, body: memoryview) -> None:
    if (number == 0) != (name == b"IHDR"):
        raise BrokenImage("does not have its header in the first place, once")
    if name == b"IHDR" and not (
        length == 13  # noqa: PLR2004 - the PNG specification, 11.2.2
        and body[8] in _PNG_DEPTHS.get(body[9], ())
        and (body[10], body[11]) == (0, 0)
        and body[12] in (0, 1)
    ):
        raise BrokenImage("has a PNG header that is not allowed")
    if name == b"IEND" and length:
        raise BrokenImage("has data in its end mark")
    # A capital first letter: whoever does not know the chunk cannot show the picture.
    if not _NAME.fullmatch(name) or (name[:1].isupper() and name not in (b"IHDR", b"PLTE", b"IDAT", b"IEND")):
        raise BrokenImage(f"has a chunk {name!r} that no decoder knows")


def _jpeg(view: memoryview) -> tuple[int, int]:
    """Walk the segments. Thumbnails lie inside segments and are stepped over with them."""
    at, size, scans = 2, None, 0
    for _ in range(_MOST_PARTS):
        found = _JPEG_MARKER.match(view, at)
        if found is None:
            raise BrokenImage("is cut off" if at >= len(view) - 1 else f"is damaged: no marker at byte {at}")
        marker, at = found[1][0], found.end()
        if marker == 0xD9:  # noqa: PLR2004 - EOI
            break
        end = _segment_end(view, marker, at)
        if marker in _JPEG_FRAMES:
            if size is not None:
                raise BrokenImage("holds a second picture")
            size = _frame(view, at, end)
        elif marker == 0xDA:  # noqa: PLR2004 - SOS: the picture data follow it without a length of their own
            scans += 1
            end = _scan_end(view, end)
        at = end
    else:
        raise BrokenImage(f"has more than {_MOST_PARTS:,} segments")
    if size is None or not scans:
        raise BrokenImage("has no picture data")
    _refuse_tail(view, at)
    return size


def _segment_end(view: memoryview, marker: int, at: int) -> int:
    if marker < 0xC0 or 0xD0 <= marker <= 0xD8:  # noqa: PLR2004 - reserved, restarts out of place, a second SOI
        raise BrokenImage(f"is damaged: marker {marker:02X} at byte {at - 1}")
    length = _number(view, at, 2)
    if at + max(length, 2) > len(view):
        raise BrokenImage("is cut off")
    if length < 2:  # noqa: PLR2004 - it counts itself
        raise BrokenImage(f"is damaged: a segment of {length} bytes at byte {at}")
    return at + length


def _frame(view: memoryview, at: int, end: int) -> tuple[int, int]:
    components = view[at + 7] if end > at + 7 else 0
    if not components or end - at != 8 + 3 * components:
        raise BrokenImage("has a JPEG header that is not allowed")
    return _number(view, at + 5, 2), _number(view, at + 3, 2)


def _scan_end(view: memoryview, at: int) -> int:
    found = _JPEG_SCAN_END.search(view, at)
    if found is None:
        raise BrokenImage("is cut off")
    if found.start() == at:
        raise BrokenImage("has no picture data")
    return found.start()


def _webp(view: memoryview) -> tuple[int, int]:
    canvas, frame, films = None, None, 0
    for number, (name, body) in enumerate(_webp_chunks(view)):
        if name == b"VP8X" and number == 0:
            canvas = _webp_size(name, body)
        elif name in (b"VP8 ", b"VP8L") and frame is None:
            frame = _webp_size(name, body)
        films += name == b"ANMF"
    size = canvas or frame
    if size is None or not (frame or films):
        raise BrokenImage("has no picture data")
    if frame and frame != size:
        raise BrokenImage("says two different sizes")
    return size


def _webp_chunks(view: memoryview) -> Iterator[tuple[bytes, memoryview]]:
    """Walk the chunks of the one RIFF that is the whole file; lengths are little-endian, and padded to even."""
    length = int.from_bytes(view[4:8], "little") + 8
    if length > len(view):
        raise BrokenImage("is cut off")
    _refuse_tail(view, length)
    at = 12
    for _ in range(_MOST_PARTS):
        if at == length:
            return
        end = at + 8 + int.from_bytes(view[at + 4 : at + 8], "little")
        if end + end % 2 > length:
            raise BrokenImage("is damaged: a chunk is longer than the file")
        yield bytes(view[at : at + 4]), view[at + 8 : end]
        at = end + end % 2
    raise BrokenImage(f"has more than {_MOST_PARTS:,} chunks")


def _webp_size(name: bytes, body: memoryview) -> tuple[int, int]:
    head = bytes(body[:10])
    if name == b"VP8X" and len(head) == 10:  # noqa: PLR2004 - flags, width - 1 and height - 1 in 24 bits
        return int.from_bytes(head[4:7], "little") + 1, int.from_bytes(head[7:10], "little") + 1
    if name == b"VP8L" and head[:1] == b"\x2f" and len(body) > 5:  # noqa: PLR2004 - 14 bits each, and data
        bits = int.from_bytes(head[1:5], "little")
        return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    if name == b"VP8 " and head[3:6] == b"\x9d\x01\x2a" and not head[0] & 1 and len(body) > 10:  # noqa: PLR2004
        return int.from_bytes(head[6:8], "little") & 0x3FFF, int.from_bytes(head[8:10], "little") & 0x3FFF
    raise BrokenImage("has a WebP header that is not allowed")
