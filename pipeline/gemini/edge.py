"""The HTTP client below the SDK: where it will not go, what it will not read, and how long it waits at most.

Every call goes to one origin, whatever an answer says. Its time is limited as a whole and not only from byte to byte,
and so is the size of its answer: a server that drips, or never ends, holds nobody up and fills no memory.
"""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Any, cast

import httpcore2
import httpx2

from pipeline.errors import ServiceError

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable, Iterable

    from pipeline.gemini.secret import Mask

_CONNECT_S = 30.0
_SOME_AIR_S = 10.0
_SLOWEST_UPLOAD = 16_000  # bytes a second
_LONGEST_STREAM_S = 6 * 3600.0
_LONGEST_ANSWER, _LONGEST_DRAWING = 32 << 20, 128 << 20
_PIECE = 1 << 16
_AT_ONCE = 1 << 18
_CODINGS = frozenset({"", "identity", "gzip", "deflate"})


class UnreadableError(httpx2.TransportError):
    """An answer that is not read to its end; the message says why."""


class Client(httpx2.Client):
    """An HTTP client for one origin. `heard` is called with each answer: whole, or only begun if it is a stream."""

    def __init__(
        self, base_url: str, mask: Mask, *, context: ssl.SSLContext, timeout_s: float, trust_env: bool,
        heard: Callable[[httpx2.Response], None],
    ) -> None:  # fmt: skip
        self._origin, self._mask, self._heard = _origin(httpx2.URL(base_url)), mask, heard
        super().__init__(
            verify=context,
            follow_redirects=False,
            trust_env=trust_env,
            timeout=httpx2.Timeout(timeout_s, connect=_CONNECT_S),
            headers={"accept-encoding": "identity"},
        )
        for transport in (self._transport, *self._mounts.values()):
            _limit(transport)

    def send(self, request: httpx2.Request, *, stream: bool = False, **more: Any) -> httpx2.Response:
        """Send a request; raises `ServiceError` when an answer has named another server for it."""
        if _origin(request.url) != self._origin or request.url.userinfo:
            raise ServiceError(
                f"the service names another server, {request.url.host}, to send to, which is not followed",
                hint="check GOOGLE_GEMINI_BASE_URL and the proxy between; nothing is lost",
            )
        limits = dict(request.extensions.get("timeout") or self.timeout.as_dict())
        limits["connect"] = min(limits["connect"] or _CONNECT_S, _CONNECT_S)  # the SDK has one time for everything
        request.extensions = {**request.extensions, "timeout": limits}
        length = int(request.headers.get("content-length") or 0)
        _clock.end = time.monotonic() + _CONNECT_S + (limits["read"] or 0.0) + _SOME_AIR_S + length / _SLOWEST_UPLOAD
        try:
            response = _readable(super().send(request, stream=True, **{**more, "follow_redirects": False}))
            if stream and response.is_success:
                _clock.end = time.monotonic() + _LONGEST_STREAM_S
            else:
                response = self._whole(request, response)
        except BaseException:
            _clock.end = None
            raise
        self._heard(response)
        return response

    def _whole(self, request: httpx2.Request, response: httpx2.Response) -> httpx2.Response:
        """The answer with its body read, the key taken out of it."""
        most = _LONGEST_DRAWING if request.url.path.endswith(":generateContent") else _LONGEST_ANSWER
        pieces, size = [], 0
        try:
            for piece in response.iter_bytes():
                pieces.append(piece)
                size += len(piece)
                if size > most:
                    raise UnreadableError(f"an answer of more than {most >> 20} MiB", request=request)
        finally:
            response.close()
            _clock.end = None
        told = [
            (name, value)
            for name, value in response.headers.multi_items()
            if name not in {"content-encoding", "content-length", "transfer-encoding"}
        ]
        body = self._mask.body(b"".join(pieces))
        return httpx2.Response(response.status_code, headers=told, content=body, request=request)


def _readable(response: httpx2.Response) -> httpx2.Response:
    """An answer in a coding that is safe to undo: of several, one in the other, a few bytes can become terabytes."""
    if response.headers.get("content-encoding", "").strip().lower() in _CODINGS:
        return response
    response.close()
    raise UnreadableError("an answer in a coding that was not asked for", request=response.request)


def _origin(url: httpx2.URL) -> tuple[str, str, int | None]:
    return url.scheme, url.host, url.port or {"http": 80, "https": 443}.get(url.scheme)


# --------------------------------------------------------------------------------------------- time


class _Clock(threading.local):
    """When the call of this thread must be over; by the monotonic clock."""

    end: float | None = None


_clock = _Clock()


def _left(timeout: float | None, error: type[Exception]) -> float | None:
    """How long one step of a call may take, in seconds."""
    if _clock.end is None:
        return timeout
    left = _clock.end - time.monotonic()
    if left <= 0:
        raise error("the call as a whole took too long")
    return left if timeout is None else min(left, timeout)


class _Stream(httpcore2.NetworkStream):
    """A connection whose every step ends with the time of the call."""

    def __init__(self, below: httpcore2.NetworkStream) -> None:
        self._below = below

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        """More than was asked for, if it is here: each step takes its time, and an answer file has many."""
        return self._below.read(max(max_bytes, _AT_ONCE), _left(timeout, httpcore2.ReadTimeout))

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        for start in range(0, len(buffer), _PIECE):
            self._below.write(buffer[start : start + _PIECE], _left(timeout, httpcore2.WriteTimeout))

    def close(self) -> None:
        self._below.close()

    def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore2.NetworkStream:
        left = _left(timeout, httpcore2.ConnectTimeout)
        return _Stream(self._below.start_tls(ssl_context, server_hostname, left))

    def get_extra_info(self, info: str) -> Any:
        return self._below.get_extra_info(info)


class _Backend(httpcore2.NetworkBackend):
    """Makes such connections."""

    def __init__(self) -> None:
        self._below = httpcore2.SyncBackend()

    def connect_tcp(
        self, host: str, port: int, timeout: float | None = None, local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore2.NetworkStream:  # fmt: skip
        left = _left(timeout, httpcore2.ConnectTimeout)
        return _Stream(self._below.connect_tcp(host, port, left, local_address, socket_options))

    def sleep(self, seconds: float) -> None:
        self._below.sleep(seconds)


def _limit(transport: object) -> None:
    """Have the connections of a transport, or of a proxy, made by our backend: the library has no door for it."""
    pool = getattr(transport, "_pool", None)
    if hasattr(pool, "_network_backend"):
        cast("Any", pool)._network_backend = _Backend()  # noqa: SLF001 - as said
