"""HTTP: the routes, the key, and bodies that go to and from disk in pieces."""

from __future__ import annotations

import re
import selectors
import socket
import threading
import time
from contextlib import suppress
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from math import isfinite
from select import select
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, urlsplit

from . import batches, catalog, files
from .answers import answered, details
from .asks import counted, understood
from .calls import Call, Reply, Service, page_token
from .mishaps import befallen
from .refusals import RefusalError, error_info, invalid
from .validation import checked

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator

    Route = Callable[..., Reply]

_PIECE = 1 << 18
_PARTING_S = 0.5
_DRAINED = 64 << 20
_KEY = re.compile(r"[A-Za-z0-9_-]{20,}")


def models_listed(service: Service, call: Call) -> Reply:
    size, start = call.page(usual=50, most=1000)
    start = max(start or 0, 0)
    shown = catalog.available(service.state.now())[start:]
    body: dict[str, Any] = {"models": [model.described() for model in shown[:size]]} if shown else {}
    if len(shown) > size:
        body["nextPageToken"] = page_token(start + size)
    return Reply(body)


def model_shown(service: Service, _call: Call, model: str) -> Reply:
    return Reply(catalog.found(model, service.state.now()).described())


def generate(service: Service, call: Call, model: str) -> Reply:
    """Answer one request at once."""
    state = service.state
    ask = understood(call.json(), catalog.found(model, state.now()), lambda uri: files.content(state, uri))
    answer = answered(ask, salt="", mode=service.pictures)
    with state.writing() as db:
        state.record(db, "generateContent", model=model, requests=1)
    return Reply(answer)


def count(service: Service, call: Call, model: str) -> Reply:
    """Tell how many tokens go in, and do nothing."""
    state = service.state
    offered = catalog.found(model, state.now(), method="countTokens")
    asked = checked("CountTokensRequest", call.json())
    if len(asked) != 1:
        raise invalid("Exactly one of contents and generate_content_request must be set.")
    request = asked.get("generateContentRequest", asked)
    text, images = counted(request, offered, lambda uri: files.content(state, uri))
    return Reply({"totalTokens": text + images, "promptTokensDetails": details(text, images)})


def clock_advanced(service: Service, call: Call) -> Reply:
    """Put the service's clock forward."""
    body = call.json()
    seconds = body.get("advance_s") if isinstance(body, dict) else None
    if isinstance(seconds, bool) or not isinstance(seconds, int | float) or not isfinite(seconds):
        raise RefusalError("INVALID_ARGUMENT", 'Say how far: {"advance_s": 3600}.')
    service.state.advance(seconds)
    service.wake()
    return Reply({"now": service.state.now()})


def faults_shown(service: Service, _call: Call) -> Reply:
    return Reply(service.rehearsal.shown(service.state))


def ledger_shown(service: Service, _call: Call) -> Reply:
    return Reply(service.state.ledger())


_V = r"/(?P<version>v1|v1beta|v1alpha)"
_ROUTES: list[tuple[str, re.Pattern[str], Route]] = [
    (method, re.compile(pattern), route)
    for method, pattern, route in (
        ("POST", rf"{_V}/models/(?P<model>[^/:]+):batchGenerateContent", batches.create),
        ("POST", rf"{_V}/models/(?P<model>[^/:]+):generateContent", generate),
        ("POST", rf"{_V}/models/(?P<model>[^/:]+):countTokens", count),
        ("GET", rf"{_V}/models", models_listed),
        ("GET", rf"{_V}/models/(?P<model>[^/:]+)", model_shown),
        ("GET", rf"{_V}/batches", batches.listed),
        ("GET", rf"{_V}/batches/(?P<batch_id>[^/:]+)", batches.get),
        ("PATCH", rf"{_V}/batches/(?P<batch_id>[^/:]+):updateGenerateContentBatch", batches.update),
        ("POST", rf"{_V}/batches/(?P<batch_id>[^/:]+):cancel", batches.cancel),
        ("DELETE", rf"{_V}/batches/(?P<batch_id>[^/:]+)", batches.delete),
        ("GET", rf"(?:/download)?{_V}/files/(?P<file_id>[^/:]+):download", batches.results),
        ("GET", rf"{_V}/files", files.listed),
        ("POST", rf"{_V}/files:register", files.register),
        ("GET", rf"{_V}/files/(?P<file_id>[^/:]+)", files.get),
        ("DELETE", rf"{_V}/files/(?P<file_id>[^/:]+)", files.delete),
        ("POST", rf"/upload{_V}/files", files.start),
        ("POST", r"/_local/clock", clock_advanced),
        ("GET", r"/_local/ledger", ledger_shown),
        ("GET", r"/_local/faults", faults_shown),
    )
]
_NAMES: dict[Route, str] = {  # as the rules of a rehearsal know them
    batches.create: "batches.create",
    batches.get: "batches.get",
    batches.listed: "batches.list",
    batches.update: "batches.update",
    batches.cancel: "batches.cancel",
    batches.delete: "batches.delete",
    batches.results: "files.download",
    files.start: "files.upload",
    files.transfer: "files.chunk",
    files.get: "files.get",
    files.listed: "files.list",
    files.delete: "files.delete",
    files.register: "files.register",
    generate: "generateContent",
    count: "countTokens",
    model_shown: "models.get",
    models_listed: "models.list",
}


class Server(ThreadingHTTPServer):
    """Listens on this machine only; closing it closes every connection."""

    daemon_threads = True
    timeout = 0  # a call is here when it is asked for, or has gone again
    allow_reuse_address = True
    request_queue_size = 128

    def __init__(self, port: int, service: Service, keys: Collection[str]) -> None:
        self.service = service
        self.keys = frozenset(keys)
        self._open: dict[socket.socket, threading.Thread] = {}
        super().__init__(("127.0.0.1", port), _Handler)
        self._parting, self._parted = socket.socketpair()
        self._is_over = threading.Event()

    def serve(self) -> None:
        """Answer calls until somebody says `close`, which is heard at once."""
        try:
            with selectors.DefaultSelector() as calls:
                calls.register(self, selectors.EVENT_READ)
                calls.register(self._parted, selectors.EVENT_READ)
                while all(key.fileobj is self for key, _ in calls.select()):
                    self.handle_request()
        finally:
            self._is_over.set()

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        self._open[request] = threading.current_thread()
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._open.pop(request, None)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that hangs up is none of anybody's concern."""

    def close(self) -> None:
        self._parting.send(b"\0")
        self._is_over.wait()
        self.server_close()
        self._parting.close()
        self._parted.close()
        served = list(self._open.items())
        for connection, _ in served:
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        until = time.monotonic() + _PARTING_S
        for _, thread in served:
            thread.join(max(0.0, until - time.monotonic()))


class _Handler(BaseHTTPRequestHandler):
    server: Server
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = -1  # head and body leave together

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base class names it so
        """Say nothing: requests carry keys."""

    def date_time_string(self, timestamp: float | None = None) -> str:
        """The time of the Date header: by the service's own clock."""
        return super().date_time_string(self.server.service.state.now() if timestamp is None else timestamp)

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
        """Refuse what is no proper HTTP."""
        self.close_connection = True
        status = "INVALID_ARGUMENT" if code < HTTPStatus.INTERNAL_SERVER_ERROR else "UNIMPLEMENTED"
        words = explain or message or HTTPStatus(code).phrase
        self._send(Reply({"error": {"code": code, "message": words, "status": status}}, code))

    def _serve(self) -> None:
        self._left = 0
        try:
            reply = self._reply()
        except RefusalError as error:
            reply = Reply(error.as_reply(), error.http_code)
        except ConnectionError:
            self.close_connection = True
            return
        except Exception:  # noqa: BLE001 - a fault of ours is an answer too
            refusal = RefusalError("INTERNAL", "Internal error encountered.")
            reply = Reply(refusal.as_reply(), refusal.http_code)
        self._drain()
        with suppress(ConnectionError):
            self._send(reply)
            self.wfile.flush()

    do_GET = do_POST = do_DELETE = do_PATCH = do_PUT = _serve  # noqa: N815 - the base class looks for these

    def _reply(self) -> Reply:
        length = self.headers.get("content-length", "0")
        if "transfer-encoding" in self.headers or not length.isdecimal():
            self.close_connection = True
            raise RefusalError("INVALID_ARGUMENT", "A body must come with its Content-Length.")
        self._left = int(length)
        url = urlsplit(self.path)
        query = dict(parse_qsl(url.query))
        match, route = self._route(url.path, query)
        if not url.path.startswith("/_local/") and route is not files.transfer:
            self._check_key(query.get("key"))
        if match is None:
            raise RefusalError("NOT_FOUND", f"There is no {self.command} {url.path}.")
        named = match.groupdict()
        call = Call(
            named.pop("version", ""),
            self.headers.get("host", "{}:{}".format(*self.server.server_address)),
            query,
            {name.lower(): value for name, value in self.headers.items()},
            self._left,
            self._pieces,
            self._is_left,
        )
        service = self.server.service
        rule = service.rehearsal.of_call(service.state, _NAMES[route]) if route in _NAMES else None
        return befallen(rule, service, call, lambda call: route(service, call, **named))

    def _route(self, path: str, query: dict[str, str]) -> tuple[re.Match[str] | None, Route]:
        for method, pattern, route in _ROUTES:
            if method == self.command and (match := pattern.fullmatch(path)):
                if route is files.start and "upload_id" in query:
                    return match, files.transfer
                return match, route
        return None, models_listed

    def _check_key(self, in_query: str | None) -> None:
        key = self.headers.get("x-goog-api-key") or in_query
        if not key:
            raise RefusalError(
                "PERMISSION_DENIED",
                "Method doesn't allow unregistered callers (callers without established identity). "
                "Please use API Key or other form of API consumer identity to call this API.",
            )
        if key not in self.server.keys if self.server.keys else not _KEY.fullmatch(key):
            raise RefusalError(
                "INVALID_ARGUMENT",
                "API key not valid. Please pass a valid API key.",
                details=[error_info("API_KEY_INVALID")],
            )

    def _pieces(self) -> Iterator[bytes]:
        while self._left:
            piece = self.rfile.read(min(self._left, _PIECE))
            if not piece:
                raise ConnectionResetError
            self._left -= len(piece)
            yield piece

    def _is_left(self) -> bool:
        """Whether the client has hung up: what is to be read then is nothing."""
        try:
            return bool(select([self.connection], [], [], 0)[0]) and not self.connection.recv(1, socket.MSG_PEEK)
        except (OSError, ValueError):
            return True

    def _drain(self) -> None:
        """Read what is left of the body, or the next request would begin in it."""
        if self._left > _DRAINED:
            self.close_connection = True
            return
        with suppress(ConnectionError):
            for _ in self._pieces():
                pass

    def _send(self, reply: Reply) -> None:
        mime, length, stream = reply.opened()
        with stream:
            told = reply.manner.length(length)
            self.close_connection |= told != reply.manner.sent(length)  # nothing else tells where it ends
            self.send_response_only(reply.code)
            self.send_header("Server", self.version_string())
            if reply.date != "":
                self.send_header("Date", reply.date or self.date_time_string())
            for name, value in reply.headers.items():
                self.send_header(name, value)
            if self.close_connection:
                self.send_header("Connection", "close")
            self.send_header("Content-Type", mime)
            is_chunked = reply.manner.told == "chunked"
            if is_chunked:
                self.send_header("Transfer-Encoding", "chunked")
            if told is not None:
                self.send_header("Content-Length", str(told))
            self.end_headers()
            for piece in reply.manner.pieces(stream, length):
                self.wfile.write(b"%x\r\n%b\r\n" % (len(piece), piece) if is_chunked else piece)
                if reply.manner.rate is not None:
                    self.wfile.flush()
