"""Whether bytes are a picture, whole: a walk along the frame around the pixels, at the speed of memory.

None of the pixels is decoded. The bytes may pass in pieces, as they arrive, and are not kept.
"""

from __future__ import annotations

import re
import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from pipeline.decoder import MOST_PIXELS

if TYPE_CHECKING:
    from collections.abc import Generator

    Steps = Generator[None, None, tuple[int, int]]
    """A walk: it stops wherever it has come to the end of what is here, and returns width and height."""

_HEAD: Final = 512  # what tells one kind of file from another
_MOST_PARTS: Final = 250_000  # chunks or segments; an encoder that makes more is no encoder
_PNG_START: Final = b"\x89PNG\r\n\x1a\n"
_PNG_DEPTHS: Final = {0: (1, 2, 4, 8, 16), 2: (8, 16), 3: (1, 2, 4, 8), 4: (8, 16), 6: (8, 16)}
_PNG_HEADER: Final = 13
_NAME = re.compile(rb"[A-Za-z]{4}")
_JPEG_MARKER = re.compile(rb"\xff[^\x00\xff]")
_JPEG_SCAN_END = re.compile(rb"\xff[^\x00\xff\xd0-\xd7]")  # neither a stuffed zero, nor fill, nor a restart
_JPEG_IN_SCAN: Final = frozenset({0x00, 0xFF, *range(0xD0, 0xD8)})
_JPEG_FRAMES: Final = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_JPEG_BY_THE_WAY: Final = frozenset({0xC4, 0xDB, 0xDD, *range(0xE0, 0xF0), 0xFE})
_JPEG_FRAME: Final = 6  # precision, height, width, components
_WEBP_HEADER: Final = 10
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
    """Name a whole PNG, JPEG or WebP from its first byte to its last, or raise BrokenImage; see `Walk`."""
    walk = Walk()
    walk.feed(data)
    return walk.end()


class Walk:
    """Walks along the bytes that are fed to it, in order; `end` names the picture they were, or raises BrokenImage.

    PNG: every CRC, a sane header, picture data, and nothing behind IEND. JPEG: every marker from SOI to EOI, and
    nothing behind. WebP: every chunk, and exactly the length it names. No side of 0, at most 64 megapixels.
    """

    def __init__(self) -> None:
        self._head = b""
        self._flow = _Flow()
        self._kind: tuple[str, str] | None = None
        self._steps: Steps | None = None
        self._verdict: tuple[int, int] | BrokenImage | None = None

    def feed(self, data: bytes | memoryview) -> None:
        """Take the next bytes; they are not needed any more when this returns."""
        view = memoryview(data).cast("B")
        if self._steps is None:
            missing = _HEAD - len(self._head)
            self._head += view[:missing].tobytes()
            if len(self._head) < _HEAD:
                return
            self._begin()
            if missing == _HEAD:
                self._go(view)
                return
            self._go(memoryview(self._head))
            view = view[missing:]
        if len(view):
            self._go(view)

    def end(self) -> Picture:
        """What these bytes are, now that all have passed."""
        if self._steps is None:
            self._begin()
            self._go(memoryview(self._head))
        self._flow.has_ended = True
        self._go(memoryview(b""))
        if isinstance(self._verdict, BrokenImage):
            raise self._verdict
        assert self._verdict is not None, "a walk ends where the bytes do"
        assert self._kind is not None, "and is one along something"
        return _sane(*self._kind, self._verdict)

    def _begin(self) -> None:
        head = self._head
        if head.startswith(_PNG_START):
            self._kind, self._steps = ("image/png", ".png"), _png(self._flow)
        elif head.startswith(b"\xff\xd8\xff"):
            self._kind, self._steps = ("image/jpeg", ".jpg"), _jpeg(self._flow)
        elif head[:4] == b"RIFF" and head[8:12] == b"WEBP":
            self._kind, self._steps = ("image/webp", ".webp"), _webp(self._flow)
        else:
            self._steps = _strange(head)

    def _go(self, view: memoryview) -> None:
        """Walk on to the end of what is here; whatever is wrong is said once all has passed."""
        if self._verdict is not None:
            return
        assert self._steps is not None, "it has begun"
        self._flow.come(view)
        try:
            next(self._steps)
        except StopIteration as stopped:
            self._verdict = stopped.value
        except _Short:
            self._verdict = BrokenImage("is cut off")
        except BrokenImage as error:
            self._verdict = error


class _Short(Exception):  # noqa: N818 - it is no error before somebody says of what
    """There are fewer bytes than are needed."""


class _Flow:
    """Bytes that pass: the piece that is here, and how many went before.

    What is small and here already is had at once from `ready` and `passed`; what has to be waited for, by steps.
    """

    __slots__ = ("_before", "has_ended", "here", "size", "view")

    def __init__(self) -> None:
        self._before = self.here = self.size = 0
        self.view = memoryview(b"")
        self.has_ended = False

    @property
    def at(self) -> int:
        """How many bytes have passed."""
        return self._before + self.here

    def come(self, view: memoryview) -> None:
        """Take the next piece, in place of one that has passed."""
        self._before += self.here
        self.view, self.here, self.size = view, 0, len(view)

    def ready(self, length: int) -> bytes | None:
        """The next bytes, if they are here."""
        start, end = self.here, self.here + length
        if end > self.size:
            return None
        self.here = end
        return self.view[start:end].tobytes()

    def passed(self, length: int) -> bool:
        """Let the next bytes pass, if they are here; returns whether they have."""
        is_here = self.here + length <= self.size
        if is_here:
            self.here += length
        return is_here

    def some(self, most: int) -> Generator[None, None, memoryview]:
        """Up to so many of the next bytes: as many as are here, one at least, none at the end."""
        while self.here == self.size and not self.has_ended:
            yield
        found = self.view[self.here : self.here + most]
        self.here += len(found)
        return found

    def take(self, length: int) -> Generator[None, None, bytes]:
        """Exactly the next bytes; raises `_Short`."""
        found = b""
        while len(found) < length:
            piece = yield from self.some(length - len(found))
            if not piece:
                raise _Short
            found += piece
        return found

    def leave(self, length: int, crc: int = 0, *, counts: bool = False) -> Generator[None, None, int]:
        """Let so many bytes pass; returns their CRC, going on from `crc`, where it `counts`. Raises `_Short`."""
        while length:
            piece = yield from self.some(length)
            if not piece:
                raise _Short
            length -= len(piece)
            crc = zlib.crc32(piece, crc) if counts else 0
        return crc

    def rest(self) -> Generator[None, None, int]:
        """Let all pass that is left; returns how many bytes that were."""
        start = self.at
        while (yield from self.some(1 << 62)):
            pass
        return self.at - start


def _sane(mime: str, extension: str, size: tuple[int, int]) -> Picture:
    width, height = size
    if width == 0 or height == 0:
        raise BrokenImage(f"says it is {width}x{height} pixels")
    if width * height > MOST_PIXELS:
        raise BrokenImage(f"has {width}x{height} pixels, more than {MOST_PIXELS:,}")
    return Picture(mime, extension, width, height)


def _strange(head: bytes) -> Steps:
    """No steps at all, for what begins like no picture that we know."""
    yield from ()
    if not head:
        raise BrokenImage("is empty")
    known = (text for pattern, text in _STRANGERS if re.match(pattern, head, re.IGNORECASE | re.DOTALL))
    raise BrokenImage(next(known, "is no PNG, JPEG or WebP"))


def _number(text: bytes) -> int:
    return int.from_bytes(text)


def _refuse_tail(length: int) -> None:
    if length:
        raise BrokenImage(f"has {length} bytes behind its end")


# --------------------------------------------------------------------------------------------------- PNG


def _png(flow: _Flow) -> Steps:
    """Walk the chunks. C2PA (`caBX`) and every other chunk that may be skipped is fine."""
    yield from flow.take(len(_PNG_START))
    data_bytes, header = 0, b""
    for number in range(_MOST_PARTS):
        start = flow.ready(8) or (yield from flow.take(8))
        length, name = _number(start[:4]), start[4:]
        body = yield from flow.take(min(length, _PNG_HEADER))
        crc = zlib.crc32(body, zlib.crc32(name))
        crc = yield from flow.leave(length - len(body), crc, counts=True)
        told = yield from flow.take(4)
        if crc != _number(told):
            raise BrokenImage(f"is damaged: the checksum of chunk {number} is wrong")
        _refuse_chunk(number, name, length, body)
        header = header or body
        data_bytes += length if name == b"IDAT" else 0
        if name == b"IEND":
            break
    else:
        raise BrokenImage(f"has more than {_MOST_PARTS:,} chunks")
    if not data_bytes:
        raise BrokenImage("has no picture data")
    _refuse_tail((yield from flow.rest()))
    return _number(header[:4]), _number(header[4:8])


def _refuse_chunk(number: int, name: bytes, length: int, body: bytes) -> None:
    if (number == 0) != (name == b"IHDR"):
        raise BrokenImage("does not have its header in the first place, once")
    if name == b"IHDR" and not (
        length == _PNG_HEADER  # the PNG specification, 11.2.2
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


# -------------------------------------------------------------------------------------------------- JPEG


def _jpeg(flow: _Flow) -> Steps:
    """Walk the segments. Thumbnails lie inside segments and are stepped over with them."""
    yield from flow.take(2)
    size, scans, parts, after_scan = None, 0, 0, None
    while True:
        parts += 1 if after_scan is not None else 1 + _pass_segments(flow, _MOST_PARTS - parts)
        if parts > _MOST_PARTS:
            raise BrokenImage(f"has more than {_MOST_PARTS:,} segments")
        marker = after_scan if after_scan is not None else (yield from _marker(flow))
        after_scan = None
        if marker == 0xD9:  # noqa: PLR2004 - EOI
            break
        head = yield from _segment(flow, marker)
        if marker in _JPEG_FRAMES:
            if size is not None:
                raise BrokenImage("holds a second picture")
            size = _frame(*head)
        elif marker == 0xDA:  # noqa: PLR2004 - SOS: the picture data follow it without a length of their own
            scans += 1
            after_scan = yield from _scan(flow)
    if size is None or not scans:
        raise BrokenImage("has no picture data")
    _refuse_tail((yield from flow.rest()))
    return size


def _pass_segments(flow: _Flow, most: int) -> int:
    """Let tables, comments and data of applications pass that are here to their ends; returns how many these were."""
    view, here, size, passed = flow.view, flow.here, flow.size, 0
    while passed < most and here + 4 <= size and view[here] == 0xFF and view[here + 1] in _JPEG_BY_THE_WAY:  # noqa: PLR2004
        length = view[here + 2] << 8 | view[here + 3]
        if length < 2 or here + 2 + length > size:  # noqa: PLR2004 - it counts itself
            break
        here += 2 + length
        passed += 1
    flow.here = here
    return passed


def _marker(flow: _Flow) -> Generator[None, None, int]:
    """The next marker, which must be here; it may be filled up in front."""
    at = flow.at
    if found := _JPEG_MARKER.match(flow.view, flow.here):
        flow.here += 2
        return found[0][1]
    first = byte = yield from flow.some(1)
    while byte and byte[0] == 0xFF:  # noqa: PLR2004 - what a marker begins with
        byte = yield from flow.some(1)
    if first and first[0] == 0xFF and byte and byte[0]:  # noqa: PLR2004 - as above
        return byte[0]
    yield from flow.rest()
    raise BrokenImage("is cut off" if at >= flow.at - 1 else f"is damaged: no marker at byte {at}")


def _segment(flow: _Flow, marker: int) -> Generator[None, None, tuple[int, bytes]]:
    """The length of a segment, which counts itself, and how it begins."""
    at = flow.at
    if marker < 0xC0 or 0xD0 <= marker <= 0xD8:  # noqa: PLR2004 - reserved, restarts out of place, a second SOI
        raise BrokenImage(f"is damaged: marker {marker:02X} at byte {at - 1}")
    length = _number(flow.ready(2) or (yield from flow.take(2)))
    if length < 2:  # noqa: PLR2004 - it counts itself
        raise BrokenImage(f"is damaged: a segment of {length} bytes at byte {at}")
    size = min(length - 2, _JPEG_FRAME)
    head = flow.ready(size) or (yield from flow.take(size))
    if not flow.passed(length - 2 - size):
        yield from flow.leave(length - 2 - size)
    return length, head


def _frame(length: int, head: bytes) -> tuple[int, int]:
    components = head[5] if len(head) == _JPEG_FRAME else 0
    if not components or length != 8 + 3 * components:
        raise BrokenImage("has a JPEG header that is not allowed")
    return _number(head[3:5]), _number(head[1:3])


def _scan(flow: _Flow) -> Generator[None, None, int]:
    """Let the picture data pass; returns the marker that ends them."""
    start, is_split = flow.at, False
    while True:
        if flow.here == flow.size:
            if flow.has_ended:
                raise _Short
            yield
            continue
        if is_split and flow.view[flow.here] not in _JPEG_IN_SCAN:
            found_at = flow.here - 1
        else:
            found = _JPEG_SCAN_END.search(flow.view, flow.here)
            found_at = found.start() if found else flow.size
        is_split = flow.view[-1] == 0xFF  # noqa: PLR2004 - its other half is in the next piece
        flow.here = min(found_at + 2, flow.size)
        if found_at < flow.size:
            break
    if flow.at - 2 == start:
        raise BrokenImage("has no picture data")
    return flow.view[found_at + 1]


# -------------------------------------------------------------------------------------------------- WebP


def _webp(flow: _Flow) -> Steps:
    """Walk the one RIFF that is the whole file: that it is not is said before anything else."""
    head = yield from flow.take(12)
    length = int.from_bytes(head[4:8], "little") + 8
    size, wrong = (0, 0), None
    try:
        size = yield from _webp_chunks(flow, length)
    except _Short:
        wrong = BrokenImage("is damaged: a chunk is longer than the file")
    except BrokenImage as error:
        wrong = error
    yield from flow.rest()
    if length > flow.at:
        raise _Short
    _refuse_tail(flow.at - length)
    if wrong:
        raise wrong
    return size


def _webp_chunks(flow: _Flow, length: int) -> Steps:
    """The chunks up to this length; theirs are little-endian, and padded to even."""
    canvas, frame, films = None, None, 0
    for number in range(_MOST_PARTS):
        if flow.at == length:
            break
        start = yield from flow.take(8)
        name, size = start[:4], int.from_bytes(start[4:], "little")
        if flow.at + size + size % 2 > length:
            raise BrokenImage("is damaged: a chunk is longer than the file")
        body = yield from flow.take(min(size, _WEBP_HEADER + 1))
        yield from flow.leave(size + size % 2 - len(body))
        if name == b"VP8X" and number == 0:
            canvas = _webp_size(name, body)
        elif name in (b"VP8 ", b"VP8L") and frame is None:
            frame = _webp_size(name, body)
        films += name == b"ANMF"
    else:
        raise BrokenImage(f"has more than {_MOST_PARTS:,} chunks")
    found = canvas or frame
    if found is None or not (frame or films):
        raise BrokenImage("has no picture data")
    if frame and frame != found:
        raise BrokenImage("says two different sizes")
    return found


def _webp_size(name: bytes, body: bytes) -> tuple[int, int]:
    """The size in the head of a chunk; `body` is that head, and one byte more if there is one."""
    head = body[:_WEBP_HEADER]
    if name == b"VP8X" and len(head) == _WEBP_HEADER:  # flags, width - 1 and height - 1 in 24 bits
        return int.from_bytes(head[4:7], "little") + 1, int.from_bytes(head[7:10], "little") + 1
    if name == b"VP8L" and head[:1] == b"\x2f" and len(body) > 5:  # noqa: PLR2004 - 14 bits each, and data
        bits = int.from_bytes(head[1:5], "little")
        return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    if name == b"VP8 " and head[3:6] == b"\x9d\x01\x2a" and not head[0] & 1 and len(body) > _WEBP_HEADER:
        return int.from_bytes(head[6:8], "little") & 0x3FFF, int.from_bytes(head[8:10], "little") & 0x3FFF
    raise BrokenImage("has a WebP header that is not allowed")
