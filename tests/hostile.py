"""A server that speaks HTTP by hand, and says whatever a test wants: never an answer that a library has mended."""

from __future__ import annotations

import contextlib
import socket
import threading
from dataclasses import dataclass
from http import HTTPStatus


@dataclass
class Asked:
    """A request that came in."""

    method: str
    target: str
    headers: dict[str, str]
    body: bytes


class Hostile:
    """`says` yields the bytes of the answer to each request; the connection ends after them."""

    def __init__(self) -> None:
        self.asked: list[Asked] = []
        self.says = lambda _asked: [answer(b"{}")]
        self.over = threading.Event()
        """Set when the test is over: a server that keeps somebody waiting waits for it."""
        self.sent = 0
        self.hears = True
        """Whether it reads what comes in, or only takes the connection."""
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=64)
        self.url = "http://127.0.0.1:{1}".format(*self._listener.getsockname())

    def serve(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = self._listener.accept()
                threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def close(self) -> None:
        self.over.set()
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _serve(self, connection: socket.socket) -> None:
        with connection, contextlib.suppress(OSError):
            if not self.hears:
                self.over.wait()
            with connection.makefile("rb") as stream:
                asked = self._read(stream)
            if asked is None:
                return
            self.asked.append(asked)
            for piece in self.says(asked):
                connection.sendall(piece)
                self.sent += len(piece)
            connection.shutdown(socket.SHUT_WR)
            while connection.recv(65536):
                pass

    def _read(self, stream) -> Asked | None:
        words = stream.readline().decode("latin-1").split()
        if len(words) != 3:
            return None
        headers = {}
        while line := stream.readline().decode("latin-1").strip():
            name, _, value = line.partition(":")
            headers[name.lower()] = value.strip()
        return Asked(words[0], words[1], headers, stream.read(int(headers.get("content-length", 0))))

    def dripping(self, piece: bytes, every_s: float):
        """This piece again and again, for as long as somebody listens."""
        while not self.over.wait(every_s):
            yield piece


def answer(body: bytes = b"", code: int = 200, reason: str = "", length: int | None = None, **headers: str) -> bytes:
    """A whole answer; `length` is what it says of its body's, and the names of headers have _ for -."""
    told = {"connection": "close", "content-length": str(len(body) if length is None else length)}
    told |= {name.replace("_", "-"): value for name, value in headers.items()}
    if told["content-length"] == "-1":
        del told["content-length"]
    head = "".join(f"{name}: {value}\r\n" for name, value in told.items())
    return f"HTTP/1.1 {code} {reason or HTTPStatus(code).phrase}\r\n{head}\r\n".encode("latin-1") + body


@contextlib.contextmanager
def hostile():
    server = Hostile()
    thread = threading.Thread(target=server.serve, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.close()
        thread.join()
