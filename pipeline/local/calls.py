"""A call to the service and its reply, as the routes see them."""

from __future__ import annotations

import base64
import binascii
import json
import time
from dataclasses import dataclass, field
from io import BytesIO
from typing import TYPE_CHECKING, Any, BinaryIO

from .refusals import invalid
from .validation import parsed

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

    from .rehearsal import Rehearsal
    from .state import State

JSON_BYTES = 20_971_520
"""The most a JSON body may have."""
_PAGE = 10
_PAGE_MOST = 100
_PIECE = 1 << 18
_DROPS = 20
"""In a second, of a reply that drips."""


@dataclass(frozen=True, slots=True)
class Service:
    """What a route may use."""

    state: State
    latency_s: float
    pictures: str
    wake: Callable[[], None]
    """Tell the workers that there is something to draw."""
    rehearsal: Rehearsal
    """What trouble is due."""


@dataclass(slots=True)
class Call:
    """One HTTP request, its body not yet read."""

    version: str
    host: str
    query: Mapping[str, str]
    headers: Mapping[str, str]
    length: int
    pieces: Callable[[], Iterator[bytes]]
    """The body, a piece at a time."""
    is_left: Callable[[], bool] = lambda: False
    """Whether the client has hung up."""

    def body(self) -> bytes:
        """All of a small body."""
        if self.length > JSON_BYTES:
            raise invalid(f"Request payload size exceeds the limit: {JSON_BYTES} bytes.")
        return b"".join(self.pieces())

    def json(self) -> Any:
        return parsed(self.body() or b"{}")

    def page(self, usual: int = _PAGE, most: int = _PAGE_MOST) -> tuple[int, int | None]:
        """How many items are wanted, and the number that the token of the page before names."""
        size, token = self.query.get("pageSize", ""), self.query.get("pageToken", "")
        try:
            wanted = int(size or usual)
            number = int(base64.urlsafe_b64decode(token)) if token else None
        except (ValueError, binascii.Error):
            raise invalid("Invalid page size or page token.") from None
        if wanted < 0:
            raise invalid("Page size must not be negative.")
        return min(wanted or usual, most), number


@dataclass(frozen=True, slots=True)
class Manner:
    """How a reply is sent: whole and at once, unless trouble is rehearsed."""

    most: int | None = None
    """So many bytes of it."""
    part: float = 1.0
    """That part of it, where `most` does not say."""
    told: str = "full"
    """The Content-Length: of the `full` reply, of what is sent (`short`), or `none` at all; `chunked`, and no last
    chunk."""
    rate: int | None = None
    """Bytes in a second."""

    def sent(self, length: int) -> int:
        return min(length, int(length * self.part) if self.most is None else self.most)

    def length(self, length: int) -> int | None:
        return {"full": length, "short": self.sent(length)}.get(self.told)

    def pieces(self, stream: BinaryIO, length: int) -> Iterator[bytes]:
        """What is sent of a reply, in pieces; slowly if it has to be."""
        left = self.sent(length)
        most = _PIECE if self.rate is None else max(1, self.rate // _DROPS)
        while left and (piece := stream.read(min(left, most))):
            left -= len(piece)
            yield piece
            if self.rate is not None:
                time.sleep(len(piece) / self.rate)


@dataclass(frozen=True, slots=True)
class Reply:
    """What goes back: JSON, or a file as it is; text is a page in HTML, and bytes are JSON unless `mime` says else."""

    body: Any = field(default_factory=dict)
    code: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    path: Path | None = None
    """Sent in place of the body."""
    manner: Manner = Manner()
    mime: str | None = None
    date: str | None = None
    """What stands in the Date header, where that is not the time; empty for none."""

    def opened(self) -> tuple[str, int, BinaryIO]:
        """The MIME type, the length and the bytes of what is sent."""
        if self.path is not None:
            return "application/octet-stream", self.path.stat().st_size, self.path.open("rb")
        is_page = isinstance(self.body, str)
        mime = self.mime or f"{'text/html' if is_page else 'application/json'}; charset=UTF-8"
        if isinstance(self.body, bytes):
            content = self.body
        else:
            content = self.body.encode() if is_page else json.dumps(self.body).encode()
        return mime, len(content), BytesIO(content)


def page_token(number: int) -> str:
    return base64.urlsafe_b64encode(str(number).encode()).decode()
