"""How long an answer may take, and how long it may be: one that drips or swells is given up, and holds up nothing."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import httpx2

if TYPE_CHECKING:
    from collections.abc import Iterator

_LONGEST_S = 300.0
_LONGEST = 256 << 20
"""Bytes; an answer to a single request with many large pictures has a good part of that."""


class Bounded(httpx2.SyncByteStream):
    """The body of an answer, as far as it may come."""

    def __init__(self, stream: httpx2.SyncByteStream) -> None:
        self._stream = stream

    def __iter__(self) -> Iterator[bytes]:
        until, size = time.monotonic() + _LONGEST_S, 0
        for piece in self._stream:
            size += len(piece)
            if size > _LONGEST:
                raise httpx2.DecodingError(f"an answer of more than {_LONGEST:,} bytes")
            if time.monotonic() > until:
                raise httpx2.ReadTimeout(f"an answer that takes more than {_LONGEST_S:g} seconds")
            yield piece

    def close(self) -> None:
        self._stream.close()


def bounded(response: httpx2.Response) -> httpx2.Response:
    """The response, whose body is given up when it takes too long or becomes too large.

    Raises `DecodingError` for one that is compressed: nobody has asked for that, and what it becomes has no bounds.
    """
    if is_compressed(response):
        raise httpx2.DecodingError("an answer that is compressed, though nobody asked for it")
    assert isinstance(response.stream, httpx2.SyncByteStream), "the client is none of the other kind"
    response.stream = Bounded(response.stream)
    return response


def is_compressed(response: httpx2.Response) -> bool:
    """Whether the body is another than what was sent."""
    return bool(response.headers.get("content-encoding", "identity") != "identity")
