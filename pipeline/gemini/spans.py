r"""The lines of an answer file, read without holding an image: its base64 is decoded as it passes, slice by slice.

A JSON parser would need the whole line, and most of the time that an answer takes. So where `"data": "` stands and
nothing but base64 follows up to the next `"`, these bytes are decoded and left out; a token that nobody can guess takes
their place, and the small rest is parsed. What proves that this was right is the parser itself: where the rest is JSON,
that quote has opened a text of the very place, since base64 holds neither a quote nor a backslash that could end or
bend it; and every token must come back as the data of an image. Whatever else happens (an escape among the base64, a
token in another place, half a line) has the line read once more, and parsed as a whole: `answers.answer` is the law.
"""

from __future__ import annotations

import base64
import re
import secrets
from typing import TYPE_CHECKING, Generic, NamedTuple, Protocol, TypeVar

import pybase64

from pipeline.gemini import answers
from pipeline.gemini.answers import STANDARD, Answer, Image, UnreadableLineError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from io import BufferedIOBase

    Buffer = bytes | bytearray | memoryview

_WINDOW = 1 << 19
_SHORTEST = 1 << 10
"""Base64 that is shorter is left to the parser."""
_OPENING = re.compile(rb'"data"[ \t\r]{0,8}:[ \t\r]{0,8}"')
_LONGEST_OPENING = 32
_PADDING = re.compile(rb"(?:=|\\u003[dD])*\Z")
_LONGEST_PADDING = 24

Made_co = TypeVar("Made_co", covariant=True)


class Incoming(Protocol[Made_co]):
    """An image on its way: its bytes come in pieces."""

    def write(self, piece: bytes, /) -> None: ...
    def end(self) -> Made_co: ...
    def drop(self) -> None: ...


class Line(NamedTuple, Generic[Image]):
    """A line of an answer file."""

    offset: int
    size: int
    """In bytes, the line end included."""
    is_whole: bool
    """It has a line end."""
    made: tuple[Image, ...] = ()
    """All images that were made of it, those included that do not count."""
    key: str = ""
    answer: Answer[Image] | None = None
    why: str = ""
    """Why it is no answer."""
    text: bytes | None = None
    """What is no answer, as it came; `None` where it is too long for that."""


def read(
    stream: BufferedIOBase, incoming: Callable[[], Incoming[Image]], *, longest: int = 128 << 20
) -> Iterator[Line[Image]]:
    r"""Every line but empty ones, split at `\n` only; one that is longer than `longest` bytes is no answer.

    The stream may be moved between two lines, if it is put back. Each image is written to an `incoming` of its own.
    """
    reader = _Reader(stream, incoming, longest)
    while reader.has_more():
        line = reader.line()
        if line is not None:
            yield line


class _Odd(Exception):  # noqa: N818 - no error: this line is for the parser alone
    """A line that the scan cannot be sure of."""


class _Reader(Generic[Image]):
    """What `read` is at: a window of the stream, and the line that is being read."""

    def __init__(self, stream: BufferedIOBase, incoming: Callable[[], Incoming[Image]], longest: int) -> None:
        self._stream, self._incoming, self._longest = stream, incoming, longest
        self._first = stream.tell()
        self._buffer = bytearray(_WINDOW)
        self._view = memoryview(self._buffer)
        self._base = self._at = self._end = 0
        """Where the window begins in the stream; in it, what is read already, and what is here."""
        self._secret, self._number = secrets.token_hex(16), 0
        self._start = 0
        self._rest = bytearray()
        self._tokens: dict[str, Image] = {}
        self._made: list[Image] = []
        self._open: Incoming[Image] | None = None

    def has_more(self) -> bool:
        return self._at < self._end or self._more()

    def line(self) -> Line[Image] | None:
        """Read a line; `None` for an empty one."""
        self._start = self._base + self._at
        self._begin()
        try:
            is_whole = self._pass_by()
            return self._told(is_whole)
        except _Odd:
            self._drop()
            self._begin()
            return self._parsed()

    def _begin(self) -> None:
        self._rest, self._tokens, self._made, self._open = bytearray(), {}, [], None

    def _drop(self) -> None:
        for image in self._made:
            image.drop()  # type: ignore[attr-defined]
        if self._open is not None:
            self._open.drop()

    def _more(self) -> bool:
        """Read on, behind what is here and not used yet; False at the end of the stream."""
        left = self._end - self._at
        self._view[:left] = self._view[self._at : self._end]
        self._base, self._at, self._end = self._base + self._at, 0, left
        self._end += self._stream.readinto(self._view[left:])
        return self._end > left

    # -------------------------------------------------------------------------------------------- scanning

    def _pass_by(self) -> bool:
        """Go to the end of the line, and keep of it what is no image; returns whether it has a line end."""
        while True:
            newline = self._buffer.find(b"\n", self._at, self._end)
            end = newline + 1 if newline >= 0 else self._end
            opening = _OPENING.search(self._buffer, self._at, end)
            if opening is not None:
                self._keep(opening.end())
                self._span()
            elif newline >= 0:
                self._keep(end)
                return True
            else:
                self._keep(max(self._at, end - _LONGEST_OPENING))
                if not self._more():
                    self._keep(self._end)
                    return False

    def _keep(self, end: int) -> None:
        """Take what is here up to `end` for what is no image."""
        self._rest += self._view[self._at : end]
        self._at = end
        if self._base + end - self._start > self._longest:
            raise _Odd

    def _span(self) -> None:
        """Decode the base64 that begins here, and put a token in its place; what is short stays where it is."""
        while (close := self._buffer.find(b'"', self._at, self._end)) < 0:
            # The padding, however it is written, is looked at together with the quote behind it.
            self._decode((self._end - self._at - _LONGEST_PADDING) // 4 * 4)
            if self._base + self._at - self._start > self._longest or not self._more():
                raise _Odd
        if self._open is None and close - self._at < _SHORTEST:
            return
        padding = _PADDING.search(self._buffer, max(self._at, close - _LONGEST_PADDING), close)
        length = (padding.start() if padding else close) - self._at
        self._decode(length // 4 * 4)
        self._decode_last(bytes(self._view[self._at : self._at + length % 4]))
        if self._open is None:
            raise _Odd
        self._at = close
        token = f"{self._secret}-{self._number}"
        self._number += 1
        self._rest += token.encode()
        self._tokens[token] = self._end_of(self._open)

    def _decode(self, length: int) -> None:
        """Decode so many characters, which are whole groups of four without padding."""
        if length <= 0:
            return
        found = _decoded(self._view[self._at : self._at + length])
        if len(found) != length // 4 * 3:
            raise _Odd
        self._open = self._open or self._incoming()
        self._open.write(found)
        self._at += length

    def _decode_last(self, text: bytes) -> None:
        if not text:
            return
        try:
            found = base64.b64decode(text.translate(STANDARD) + b"=" * (4 - len(text)), validate=True)
        except ValueError:
            raise _Odd from None
        self._open = self._open or self._incoming()
        self._open.write(found)

    def _end_of(self, incoming: Incoming[Image]) -> Image:
        self._open = None
        image = incoming.end()
        self._made.append(image)
        return image

    # --------------------------------------------------------------------------------------------- parsing

    def _told(self, is_whole: bool) -> Line[Image] | None:  # noqa: FBT001 - what the line is, for the line
        """What a line says of which only the rest is here."""
        size = self._base + self._at - self._start
        if size > self._longest or (size == self._longest and not is_whole):
            raise _Odd
        line = self._line(bytes(self._rest), size, is_whole=is_whole)
        if self._tokens:
            raise _Odd
        return line

    def _parsed(self) -> Line[Image] | None:
        """The line once more, whole."""
        self._stream.seek(self._first + self._start)
        text = last = self._stream.readline(self._longest)
        size = len(text)
        is_too_long = not text.endswith(b"\n") and size >= self._longest
        while is_too_long and last and not last.endswith(b"\n"):
            text, last = b"", self._stream.readline(_WINDOW)
            size += len(last)
        self._base, self._at, self._end = self._start + size, 0, 0
        if is_too_long:
            why = f"longer than {self._longest >> 20} MiB"
            return Line(self._start, size, is_whole=last.endswith(b"\n"), why=why)
        return self._line(text, size, is_whole=text.endswith(b"\n"))

    def _line(self, text: bytes, size: int, *, is_whole: bool) -> Line[Image] | None:
        if not text.strip():
            return None
        try:
            key, answer = answers.reading(text, self._image)
        except UnreadableLineError as error:
            return Line(self._start, size, is_whole, tuple(self._made), why=str(error), text=text)
        return Line(self._start, size, is_whole, tuple(self._made), key, answer)

    def _image(self, text: str) -> Image:
        """The image of which this is the text, or a token."""
        if text in self._tokens:
            return self._tokens.pop(text)
        incoming = self._incoming()
        if data := answers.decoded(text):
            incoming.write(data)
        return self._end_of(incoming)


def _decoded(text: memoryview) -> bytes:
    """What base64 of either alphabet stands for, without padding; raises `_Odd`."""
    try:
        return pybase64.b64decode(text, validate=True)
    except ValueError:
        pass
    try:
        return pybase64.b64decode(bytes(text).translate(STANDARD), validate=True)
    except ValueError:
        raise _Odd from None
