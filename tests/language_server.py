"""The YAML language server behind many editors, asked what an editor asks: JSON-RPC over its standard input and output.

It is a program for Node: `npm install --prefix FOLDER yaml-language-server@1`. It is looked for in the folder that
LANGUAGE_SERVER_FOLDER names, in .venv/npm of the repository, and on PATH. Nothing here reaches a network.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import queue
import shutil
import subprocess
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

ROOT = Path(__file__).resolve().parent.parent
_NAME = "yaml-language-server"
# The first line of a manifest names its schema; without these the server would also fetch lists of others.
_SETTINGS = {"yaml": {"schemaStore": {"enable": False}, "kubernetesCRDStore": {"enable": False}}}
_PATIENCE_S = 60


@dataclass(frozen=True, order=True)
class Underlined:
    """Where an editor underlines something, counted from 1, and what it says about it."""

    line: int
    column: int
    message: str


def program() -> str | None:
    """The path of the server, if it is installed."""
    folders = [os.environ.get("LANGUAGE_SERVER_FOLDER") or ROOT / ".venv" / "npm", ROOT / ".venv" / "npm"]
    places = [*(str(Path(folder) / "node_modules" / ".bin") for folder in folders), os.environ.get("PATH", "")]
    return shutil.which("node") and shutil.which(_NAME, path=os.pathsep.join(places))


@contextlib.contextmanager
def running(path: str) -> Iterator[Editor]:
    """An editor with a server of its own, which ends with the block."""
    with subprocess.Popen([path, "--stdio"], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        editor = Editor(process)
        try:
            editor.greet()
            yield editor
        finally:
            process.kill()
            editor.listener.join()


class Editor:
    """Texts, open as files of the folder jobs/ that were never saved."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self._process = process
        self._said: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._numbers = itertools.count(1)
        self.listener = threading.Thread(target=self._listen, daemon=True)
        self.listener.start()

    def greet(self) -> None:
        """Say what this editor can do, and that there are settings to ask for."""
        able = {"workspace": {"configuration": True}, "textDocument": {"hover": {"contentFormat": ["plaintext"]}}}
        self._ask("initialize", {"processId": os.getpid(), "rootUri": ROOT.as_uri(), "capabilities": able})
        self._tell("initialized", {})
        self._tell("workspace/didChangeConfiguration", {"settings": _SETTINGS})

    def underlined(self, texts: Iterable[str]) -> dict[str, list[Underlined]]:
        """What is wrong with each of some texts, from top to bottom. Together, as the server lets a text rest first."""
        opened = {self._open(text): text for text in texts}
        found: dict[str, list[Underlined]] = {}
        while len(found) < len(opened):
            told = self._wait(lambda said: said.get("params", {}).get("uri") in opened)["params"]
            places = [(problem["range"]["start"], problem["message"]) for problem in told["diagnostics"]]
            found[opened[told["uri"]]] = sorted(
                Underlined(at["line"] + 1, at["character"] + 1, message) for at, message in places
            )
        return found

    def hover(self, text: str, line: int, column: int) -> str:
        """What is shown about the word at a place."""
        shown = self._asked_at("textDocument/hover", text, line, column)
        return str(shown["contents"]["value"]) if shown else ""

    def offered(self, text: str, line: int, column: int) -> list[str]:
        """The words an editor offers at a place, in the order the server gives them."""
        return [entry["label"] for entry in self._asked_at("textDocument/completion", text, line, column)["items"]]

    def _asked_at(self, method: str, text: str, line: int, column: int) -> Any:
        at = {"line": line - 1, "character": column - 1}
        return self._ask(method, {"textDocument": {"uri": self._open(text)}, "position": at})

    def _open(self, text: str) -> str:
        """Open a text; the name the server knows it by."""
        uri = (ROOT / "jobs" / f"unsaved-{next(self._numbers)}.yaml").as_uri()
        document = {"uri": uri, "languageId": "yaml", "version": 1, "text": text}
        self._tell("textDocument/didOpen", {"textDocument": document})
        return uri

    def _ask(self, method: str, params: Any) -> Any:
        number = next(self._numbers)
        self._send({"id": number, "method": method, "params": params})
        answer = self._wait(lambda said: said.get("id") == number)
        assert "error" not in answer, answer
        return answer["result"]

    def _tell(self, method: str, params: Any) -> None:
        self._send({"method": method, "params": params})

    def _send(self, message: dict[str, Any]) -> None:
        body = json.dumps({"jsonrpc": "2.0", **message}).encode()
        stream = self._process.stdin
        assert stream is not None
        stream.write(b"Content-Length: %d\r\n\r\n%b" % (len(body), body))
        stream.flush()

    def _wait(self, wanted: Callable[[Any], bool]) -> Any:
        """The first message that is wanted; what the server asks meanwhile is answered."""
        while True:
            said = self._said.get(timeout=_PATIENCE_S)
            assert said is not None, "the language server has ended"
            if "method" in said and "id" in said:
                sections = said["params"].get("items", [])
                self._send({"id": said["id"], "result": [_SETTINGS.get(item["section"]) for item in sections]})
            elif wanted(said):
                return said

    def _listen(self) -> None:
        """Take down every message until the server ends, then None."""
        stream = self._process.stdout
        assert stream is not None
        while length := _length(stream):
            self._said.put(json.loads(stream.read(length)))
        self._said.put(None)


def _length(stream: IO[bytes]) -> int:
    """The length of the message whose head comes next; 0 at the end."""
    length = 0
    for line in iter(stream.readline, b"\r\n"):
        if not line:
            return 0
        name, _, value = line.partition(b":")
        if name.lower() == b"content-length":
            length = int(value)
    return length
