"""A call to the service and its reply, as the routes see them."""

from __future__ import annotations

import base64
import binascii
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from .refusals import invalid
from .validation import parsed

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

    from .state import State

JSON_BYTES = 20_971_520
"""The most a JSON body may have."""
_PAGE = 10
_PAGE_MOST = 100


@dataclass(frozen=True, slots=True)
class Service:
    """What a route may use."""

    state: State
    latency_s: float
    pictures: str
    wake: Callable[[], None]
    """Tell the workers that there is something to draw."""


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
class Reply:
    """What goes back: JSON, or a file as it is."""

    body: Any = field(default_factory=dict)
    code: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    path: Path | None = None
    """Sent in place of the body."""


def page_token(number: int) -> str:
    return base64.urlsafe_b64encode(str(number).encode()).decode()
