"""A proxy before the local service that answers as the real one may on a bad day: late, cut, twice, in other shapes."""

from __future__ import annotations

import contextlib
import http.client
import json
import threading
import time
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit


@dataclass
class Call:
    """A call on its way: what was asked, and what the service said to it."""

    method: str
    path: str
    body: bytes
    status: int = 0
    headers: dict[str, str] = field(default_factory=dict)
    answer: bytes = b""

    def is_create(self) -> bool:
        return self.path.split("?")[0].endswith(":batchGenerateContent")

    def is_list(self) -> bool:
        return self.method == "GET" and self.path.split("?")[0].endswith("/batches")

    def is_get(self) -> bool:
        return self.method == "GET" and "/batches/" in self.path

    def is_download(self) -> bool:
        return ":download" in self.path

    @property
    def json(self):
        return json.loads(self.answer)

    def say(self, document, status=None):
        self.answer = document if isinstance(document, bytes) else json.dumps(document).encode()
        self.status = status or self.status


class DropError(Exception):
    """Close the connection without a word."""


class Proxy:
    """`before` and `after` are called with each call; either may change it, answer it, or drop it."""

    def __init__(self, upstream: str) -> None:
        self.upstream = urlsplit(upstream)
        self.calls: list[Call] = []
        self.before = lambda call: None
        self.after = lambda call: None
        self.ahead_s = 0.0
        """How far its clock is ahead, by the Date of its answers."""

    def forward(self, call: Call, headers) -> None:
        connection = http.client.HTTPConnection(self.upstream.hostname, self.upstream.port, timeout=30)
        try:
            kept = {name: value for name, value in headers.items() if name.lower() not in {"host", "connection"}}
            connection.request(call.method, call.path, call.body, {**kept, "Host": headers["Host"]})
            answer = connection.getresponse()
            call.status, call.answer = answer.status, answer.read()
            call.headers = {
                name: value
                for name, value in answer.getheaders()
                if name.lower() not in {"content-length", "connection", "transfer-encoding", "date", "server"}
            }
        finally:
            connection.close()


@contextlib.contextmanager
def proxying(upstream: str):
    """Serve a `Proxy`; yields its URL and itself."""
    proxy = Proxy(upstream)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def handle_one_call(self):
            body = self.rfile.read(int(self.headers.get("content-length") or 0))
            call = Call(self.command, self.path, body)
            proxy.calls.append(call)
            try:
                proxy.before(call)
                if not call.status:
                    proxy.forward(call, self.headers)
                    proxy.after(call)
            except DropError:
                self.close_connection = True
                self.connection.close()
                return
            self.send_response(call.status)
            for name, value in call.headers.items():
                self.send_header(name, value)
            if "Transfer-Cut" not in call.headers:
                self.send_header("Content-Length", str(len(call.answer)))
            else:
                self.close_connection = True
            self.end_headers()
            self.wfile.write(call.answer)

        do_GET = do_POST = do_DELETE = handle_one_call  # noqa: N815 - the names http.server calls

        def date_time_string(self, timestamp=None):
            return super().date_time_string((timestamp or time.time()) + proxy.ahead_s)

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", proxy
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
