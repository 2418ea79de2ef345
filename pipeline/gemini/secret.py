"""The API key, and taking it out of whatever comes back: nothing that a service echoes may reach a file or a screen."""

from __future__ import annotations

import base64
import itertools
import re
from typing import TYPE_CHECKING, Final, NamedTuple
from urllib.parse import quote

if TYPE_CHECKING:
    from collections.abc import Iterator

_PART: Final = 16
"""Characters of a key in a row that give it away: what is left of one of 39 cannot be guessed."""
_GRAM: Final = 8
_MESSAGE: Final = 1 << 20
"""Bytes that whatever tells of an error is shorter than."""
_TEXT: Final = 4096
"""Bytes that a text in JSON is mostly shorter than, and a picture never."""
_SHOWN: Final = "***"
_OTHERS: Final = re.compile(r"AIza[0-9A-Za-z_-]{35}")
_ESCAPE: Final = re.compile(rb"\\(?:u00([2-7][0-9a-fA-F])|.)", re.DOTALL)
_MEANT: Final = frozenset(b'"\\')


class Secret:
    """An API key that shows itself to nobody but the request header."""

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        self._value = value

    def reveal(self) -> str:
        return self._value

    def __repr__(self) -> str:
        return _SHOWN

    __str__ = __repr__

    def __reduce__(self) -> str:
        raise TypeError("a key is never written down")


class _Spelling(NamedTuple):
    """One way to write a key, and how many bytes of it in a row are too many."""

    text: bytes
    least: int

    def spans(self, data: bytes) -> Iterator[tuple[int, int]]:
        """Where `data` has this, or a part of it that is too long."""
        # Whatever is long enough holds one of a few short pieces, which are quickly looked for.
        for place in range(0, len(self.text) - _GRAM + 1, self.least - _GRAM + 1):
            piece = self.text[place : place + _GRAM]
            at = data.find(piece)
            while at >= 0:
                start, end = self._grown(data, at, place)
                if end - start >= self.least:
                    yield start, end
                at = data.find(piece, end)

    def _grown(self, data: bytes, at: int, place: int) -> tuple[int, int]:
        start, end = at, at + _GRAM
        while start and place > at - start and data[start - 1] == self.text[place - (at - start) - 1]:
            start -= 1
        more = self.text[place + _GRAM :]
        for ours, theirs in zip(more, data[end : end + len(more)], strict=False):
            if ours != theirs:
                break
            end += 1
        return start, end


class Mask:
    """Takes a key out of texts and bytes, also in part, percent-encoded, in hexadecimal or in base64."""

    def __init__(self, secret: Secret) -> None:
        key = secret.reveal().encode()
        self._spellings = [*_spellings(key)]
        self._whole = [*_whole(key)]
        self._unquoted = [spelling for spelling in self._whole if b"%" not in spelling]
        self.longest = max(len(spelling.text) for spelling in self._spellings)
        self._shortest = min(spelling.least for spelling in self._spellings)

    def text(self, text: str) -> str:
        """`text` without the key, nor any other key of Google's."""
        data = text.encode(errors="surrogatepass")
        if len(data) < self._shortest:  # most that is asked about is a word, or nothing
            return text
        spans = self._spans(data)
        if spans:
            pieces, last = [], 0
            for start, end in spans:
                pieces += [data[last:start], _SHOWN.encode()]
                last = end
            text = b"".join([*pieces, data[last:]]).decode(errors="surrogatepass")
        return _OTHERS.sub(_SHOWN, text)

    def body(self, data: bytes) -> bytes:
        """JSON without the key, however it is escaped; these very bytes where it is not in there.

        What is longer than any message is looked at as an answer file is.
        """
        if len(data) > _MESSAGE:
            return self.kept_length(data)
        if spans := self._spans(data):
            return _starred(data, spans)
        if b"\\u00" in data:
            plain = _ESCAPE.sub(_unescaped, data)
            if spans := self._spans(plain):
                return _starred(plain, spans)
        return data

    def stream(self) -> MaskedStream:
        """For JSON that comes in pieces and keeps its number of bytes."""
        return MaskedStream(self)

    def kept_length(self, data: bytes) -> bytes:
        """JSON, or a piece of it, with as many stars for the key.

        In what is as long as a picture only the whole key is looked for: its parts would take longer than all else.
        """
        if b'"' not in data and len(data) > _TEXT:  # a piece of a picture, as most of an answer file is
            return self._without_whole(data)
        parts = data.split(b'"')
        if max(map(len, parts)) <= _TEXT:
            return _starred(data, spans) if (spans := self._spans(data)) else data
        masked: list[bytes] = []
        for is_long, group in itertools.groupby(parts, lambda part: len(part) > _TEXT):
            near = [*group]
            masked += map(self._without_whole, near) if is_long else [self.kept_length(b'"'.join(near))]
        return b'"'.join(masked)

    def _without_whole(self, data: bytes) -> bytes:
        for spelling in self._whole if b"%" in data else self._unquoted:
            if spelling in data:
                data = data.replace(spelling, b"*" * len(spelling))
        return data

    def _spans(self, data: bytes) -> list[tuple[int, int]]:
        found = sorted(span for spelling in self._spellings for span in spelling.spans(data))
        joined: list[tuple[int, int]] = []
        for start, end in found:
            if joined and start <= joined[-1][1]:
                joined[-1] = (joined[-1][0], max(end, joined[-1][1]))
            else:
                joined.append((start, end))
        return joined


class MaskedStream:
    """Bytes on their way through, the key replaced by as many stars."""

    def __init__(self, mask: Mask) -> None:
        self._mask, self._kept, self._tail = mask, mask.longest - 1, b""

    def through(self, piece: bytes) -> bytes:
        """What may be passed on; what may be the begin of a key waits, as it came, for the next piece."""
        data = self._tail + piece
        masked = self._mask.kept_length(data)
        cut = max(0, len(data) - self._kept)
        for _step in range(min(cut, self._kept)):  # not within one
            if masked[cut - 1] == data[cut - 1]:
                break
            cut -= 1
        self._tail = data[cut:]
        return masked[:cut]

    def rest(self) -> bytes:
        """What has waited until now."""
        rest, self._tail = self._mask.kept_length(self._tail), b""
        return rest


def _spellings(key: bytes) -> Iterator[_Spelling]:
    least = min(_PART, len(key) * 2 // 3)
    yield _Spelling(key, least)
    percent, in_hex = _percent(key), key.hex().encode()
    for text in {percent, percent.lower(), quote(key, safe="").encode()} - {key}:
        yield _Spelling(text, least * len(text) // len(key))
    for text in {in_hex, in_hex.upper()}:
        yield _Spelling(text, least * 2)
    for text in _base64(key):
        yield _Spelling(text, least * 4 // 3 + 1)


def _whole(key: bytes) -> Iterator[bytes]:
    percent = _percent(key)
    yield from dict.fromkeys((key, percent, percent.lower(), *_base64(key)))


def _percent(key: bytes) -> bytes:
    return b"".join(b"%%%02X" % byte for byte in key)


def _base64(key: bytes) -> set[bytes]:
    """The key in either alphabet of base64, wherever it stands in what was encoded; without the edges it shares."""
    found = set()
    for before in range(3):
        coded = base64.b64encode(bytes(before) + key)
        first = (0, 2, 3)[before]
        last = (len(key) + before) * 8 // 6
        found |= {coded[first:last], coded[first:last].translate(bytes.maketrans(b"+/", b"-_"))}
    return found


def _unescaped(found: re.Match[bytes]) -> bytes:
    """A printable character that JSON did not need to escape; whatever else was escaped stays as it is."""
    meant = bytes.fromhex(found[1].decode()) if found[1] else b""
    return meant if meant and meant[0] not in _MEANT else found[0]


def _starred(data: bytes, spans: list[tuple[int, int]]) -> bytes:
    masked = bytearray(data)
    for start, end in spans:
        masked[start:end] = b"*" * (end - start)
    return bytes(masked)
