"""Whatever outlives the process has a crash point before and after it: the source is read, that none is forgotten."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
import timeit

import pytest
from conftest import ROOT

from pipeline import crash

MODULES = [path for path in sorted(ROOT.glob("pipeline/**/*.py")) if not {"local", "crash.py"} & {*path.parts}]

# What it is called that changes names or bytes of the file system, in `os`, `shutil` or a `Path`.
OF_OS = {
    "fsync", "fdatasync", "ftruncate", "link", "makedirs", "mkdir", "mkfifo", "mknod", "pwrite", "pwritev", "remove",
    "removedirs", "rename", "renames", "replace", "rmdir", "sendfile", "symlink", "truncate", "unlink",
}  # fmt: skip
OF_PATHS = {
    "hardlink_to", "mkdir", "rename", "rmdir", "symlink_to", "touch", "unlink", "write_bytes", "write_text",
}  # fmt: skip
OF_SHUTIL = {"copy", "copy2", "copyfile", "copyfileobj", "copytree", "move", "rmtree"}
# What changes something at the service: the SDK's words, and those of HTTP.
OF_SERVICE = {
    ("batches", "create"), ("batches", "create_embeddings"), ("batches", "cancel"), ("batches", "delete"),
    ("files", "upload"), ("files", "delete"), ("models", "generate_content"), ("models", "generate_images"),
    ("http", "post"), ("http", "put"), ("http", "patch"), ("http", "delete"), ("httpx2", "post"), ("client", "post"),
}  # fmt: skip
# A row of `workspace` is written without a transaction around it.
OF_SQL = ("COMMIT", "END", "VACUUM", "PRAGMA JOURNAL_MODE", "PRAGMA WAL_CHECKPOINT", "INSERT INTO WORKSPACE")
OUR_OWN = {"outside", "wanted", "self"}  # whose `replace` fills a table
CREATES = {"O_CREAT", "_CREATE"}


def effect(call: ast.Call) -> str:
    """What a call changes that outlives the process; empty when it is none that we know to."""
    if isinstance(call.func, ast.Name):
        return "open" if call.func.id == "open" and is_writing(call) else ""
    if not isinstance(call.func, ast.Attribute):
        return ""
    whose, name = ast.unparse(call.func.value).rpartition(".")[2], call.func.attr
    return next((what for kind in (of_os, of_service, of_sql, of_path) if (what := kind(call, whose, name))), "")


def of_os(call: ast.Call, whose: str, name: str) -> str:
    if name == "syncfs":  # of the C library
        return name
    if (whose, name) == ("os", "open"):
        flags = {getattr(node, "attr", getattr(node, "id", "")) for node in ast.walk(call)}
        return "os.open" if flags & CREATES else ""
    return f"{whose}.{name}" if name in {"os": OF_OS, "shutil": OF_SHUTIL}.get(whose, ()) else ""


def of_service(call: ast.Call, whose: str, name: str) -> str:
    if name in {"stream", "request", "build_request"} and call.args and isinstance(call.args[0], ast.Constant):
        return "" if call.args[0].value in {"GET", "HEAD"} else "an HTTP request"
    return f"{whose}.{name}" if (whose, name) in OF_SERVICE else ""


def of_sql(call: ast.Call, whose: str, name: str) -> str:
    if (whose, name) == ("db", "close"):
        return "the last close of the journal"
    if name not in {"execute", "executescript"}:
        return ""
    statement = call.args[0].values[0] if isinstance(call.args[0], ast.JoinedStr) else call.args[0]
    text = str(statement.value).upper() if isinstance(statement, ast.Constant) else ""
    return next((word for word in OF_SQL if text.startswith(word)), "")


def of_path(call: ast.Call, whose: str, name: str) -> str:
    if name == "replace":
        is_path = len(call.args) == 1 and not call.keywords  # that of a str takes two
        return "Path.replace" if is_path and whose not in OUR_OWN else ""
    return f"Path.{name}" if name in OF_PATHS or (name == "open" and is_writing(call)) else ""


def is_writing(call: ast.Call) -> bool:
    """Whether a file is opened for more than reading."""
    if "devnull" in ast.unparse(call):
        return False
    modes = [*call.args[:2], *(one.value for one in call.keywords if one.arg == "mode")]
    texts = [one.value for one in modes if isinstance(one, ast.Constant) and isinstance(one.value, str)]
    return any(set(text) <= set("rwaxbt+") and set(text) & set("wax+") for text in texts)


LATER = (ast.FunctionDef, ast.For, ast.While)  # not run by the block they are in, or more than once


class Look:
    """A look at a source for effects that have no point before and after them; `found` names them by line."""

    def __init__(self, source: str) -> None:
        self.found: list[str] = []
        self._at(ast.parse(source), None)

    def _at(self, node: ast.AST, block: list[str] | None) -> None:
        """`block` is what the innermost guarded block has done so far; `None` outside of any."""
        block = None if isinstance(node, LATER) else block
        guards = [number for number, item in enumerate(getattr(node, "items", ())) if is_guard(item)]
        if guards:
            self._guarded(node, guards[0], block)
            return
        if isinstance(node, ast.Call) and (what := effect(node)):
            self._met(f"{node.lineno}: {what}", block)
        for below in ast.iter_child_nodes(node):
            self._at(below, block)

    def _guarded(self, node: ast.With, at: int, outer: list[str] | None) -> None:
        for item in node.items[:at]:
            self._at(item, outer)
        block: list[str] = []
        for below in (*node.items[at + 1 :], *node.body):
            self._at(below, block)
        if not block:
            self.found.append(f"{node.lineno}: nothing that we know of is done between these two points")

    def _met(self, what: str, block: list[str] | None) -> None:
        if block is None:
            self.found.append(f"{what} has no crash.around() of its own")
        elif block:
            self.found.append(f"{what} shares its crash.around() with {block[0]}")
        else:
            block.append(what)


def is_guard(item: ast.AST) -> bool:
    return isinstance(item, ast.withitem) and ast.unparse(item.context_expr).startswith("crash.around(")


def bare(source: str) -> list[str]:
    return Look(source).found


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.relative_to(ROOT / "pipeline").as_posix())
def test_all_that_outlives_the_process_has_a_point_before_and_after_it(path):
    assert bare(path.read_text()) == []


@pytest.mark.parametrize(
    "line",
    [
        "os.replace(part, name)", "os.rename(a, b)", "os.link(a, b)", "os.unlink(name, dir_fd=parent)",
        "Path(folder).rmdir()", "part.replace(path)", "path.write_text('x')", "os.fsync(descriptor)",
        "libc().syncfs(descriptor)",
        "os.open(name, os.O_RDWR | os.O_CREAT)", "os.open(name, _CREATE, 0o666, dir_fd=parent)", "path.open('xb')",
        "open(path, 'w')", "db.execute('COMMIT')", "db.execute('PRAGMA journal_mode = WAL')", "db.execute('VACUUM')",
        "self._line.call('x', lambda: self._line.client.batches.create(model=m))", "client.files.upload(file=f)",
        "client.models.generate_content(model=m)", "self._line.http.stream('POST', url)", "http.delete(url)",
        "shutil.move(a, b)", "os.ftruncate(descriptor, 0)", "folder.mkdir(exist_ok=True)",
    ],
)  # fmt: skip
def test_the_look_at_the_source_sees(line):
    name = line.partition("(")[0]
    assert bare(line), f"{name} is not seen"
    assert bare(f"with crash.around('x'):\n    {line}") == []
    assert bare(f"with suppress(OSError), crash.around('x'), other():\n    {line}") == []
    assert bare(f"with crash.around('x'):\n    {line}\n    {line}"), "two steps, and none can be told from the other"
    assert bare(f"with crash.around('x'):\n    for each in all:\n        {line}"), "as many steps as there are"
    assert bare(f"with crash.around('x'):\n    def later():\n        {line}"), "who knows when that is called"
    assert bare(f"with crash.around('x') as one:\n    pass\n{line}")


def test_the_look_at_the_source_lets_reading_be():
    quiet = ["text.replace('a', 'b')", "replace(piece, path='x')", "path.open('rb')", "open(os.devnull, 'w')"]
    quiet += [
        "client.batches.get(name=n)",
        "http.stream('GET', url)",
        "db.execute('SELECT 1')",
        "os.open(a, os.O_RDONLY)",
    ]
    assert [line for line in quiet if bare(line)] == []


def test_a_point_that_nobody_asked_for_costs_next_to_nothing():
    def passing():
        with crash.around("x"):
            pass

    assert min(timeit.repeat(passing, number=1000, repeat=5)) < 0.005, "microseconds, where a rename takes tens"


def test_a_process_dies_at_its_point_and_not_before(tmp_path):
    log = tmp_path / "log"
    code = "from pipeline import crash\nfor _ in range(3):\n with crash.around('step'): pass"
    environment = {**os.environ, "PIPELINE_CRASH_AT": "step:after:2", "PIPELINE_CRASH_LOG": str(log)}
    died = subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=environment, check=False)
    assert died.returncode == -9
    assert log.read_text().split() == ["step:before:1", "step:after:1", "step:before:2", "step:after:2"]
