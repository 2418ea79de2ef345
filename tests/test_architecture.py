"""The shape of the code, read from its syntax: imports point down, and each effect has one home."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from functools import cached_property
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "pipeline"

# From the ground up. A part (a module, or a package with all in it) imports what lies below it; what shares a line
# knows nothing of its neighbours.
LAYERS = [
    {"errors", "jsontext"},
    {"crash"},
    {"durable", "seen"},
    {"job", "gemini"},
    {"decoder"},
    {"structure"},
    {"record", "pixels", "selection", "ping"},
    {"journal", "images"},
    {"batchfile"},
    {"outputs", "workers"},
    {"plan", "verify"},
    {"rest"},
    {"unpack"},
    {"reconcile"},
    {"leftovers"},
    {"cli"},
    {"__main__"},
]
APART = {"local"}  # the other side of the wire: a name known to both would hide a mistake in either
LEVEL = {part: level for level, parts in enumerate(LAYERS) for part in parts}

# Libraries, and the only places that know them.
HOMES = {
    "google": {"gemini/connection.py"},
    "httpx2": {"gemini/connection.py", "gemini/edge.py", "ping.py"},
    "httpcore2": {"gemini/edge.py"},
    "tenacity": {"gemini/connection.py"},
    "sqlite3": {"journal/", "local/"},
    "yaml": {"job/yaml12.py", "gemini/models.py", "local/faultsfile.py"},
    "jsonschema": {"job/schema.py"},
    "click": {"cli/"},
    "rich": {"cli/"},
    "PIL": {"images.py", "decoder.py", "local/"},
    "http.server": {"local/"},
    "http.client": {"local/"},
    "urllib.request": {"local/"},
    "socketserver": {"local/"},
    "random": {"gemini/connection.py", "reconcile/", "local/"},
}
WRITERS = ("durable/", "crash.py", "local/")


class Module:
    """A file of the package: its name, its syntax, and what it imports."""

    def __init__(self, path: Path) -> None:
        self.source = path
        self.path = path.relative_to(PACKAGE).as_posix()
        self.is_package = path.name == "__init__.py"
        parts = path.relative_to(ROOT).with_suffix("").parts
        self.name = ".".join(parts[:-1] if self.is_package else parts)
        self.part = parts[1] if self.name != "pipeline" else ""

    # Read when a test asks: every process that collects the tests, and runs some of them, makes all the modules.
    @cached_property
    def tree(self) -> ast.Module:
        return ast.parse(self.source.read_text(encoding="utf-8"))

    @cached_property
    def nodes(self) -> list[ast.AST]:
        return [*ast.walk(self.tree)]

    @cached_property
    def for_types(self) -> set[ast.AST]:
        found = (node for node in self.nodes if isinstance(node, ast.If))
        return {inner for node in found if _dotted(node.test).endswith("TYPE_CHECKING") for inner in ast.walk(node)}

    def imports(self, *, types: bool = True):
        """Every name imported anywhere in the file, as full dotted names."""
        for node in self.nodes:
            if not types and node in self.for_types:
                continue
            if isinstance(node, ast.Import):
                yield from (alias.name for alias in node.names)
            elif isinstance(node, ast.ImportFrom):
                yield from (f"{self._origin(node)}.{alias.name}" for alias in node.names)

    def imports_at_start(self):
        """Imports that run when the file is imported: outside of functions."""
        later = {
            inner
            for node in self.nodes
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
            for inner in ast.walk(node)
        }
        for node in self.nodes:
            if node in self.for_types or node in later:
                continue
            if isinstance(node, ast.ImportFrom):
                origin = self._origin(node)
                yield from (
                    f"{origin}.{alias.name}" if f"{origin}.{alias.name}" in NAMES else origin for alias in node.names
                )
            elif isinstance(node, ast.Import):
                yield from (alias.name for alias in node.names)

    def calls(self):
        yield from (node for node in self.nodes if isinstance(node, ast.Call))

    def is_in(self, homes) -> bool:
        return any(self.path == home or (home.endswith("/") and self.path.startswith(home)) for home in homes)

    def _origin(self, node: ast.ImportFrom) -> str:
        if not node.level:
            return node.module or ""
        above = self.name.split(".")[: (1 if self.is_package else 0) - node.level or None]
        return ".".join([*above, *([node.module] if node.module else [])])


def _dotted(node: ast.AST) -> str:
    """`os.open` of a name or an attribute; `.open` of an attribute of anything else."""
    if isinstance(node, ast.Name):
        return node.id
    return f"{_dotted(node.value)}.{node.attr}" if isinstance(node, ast.Attribute) else ""


def _part(name: str) -> str | None:
    """Which part of ours a dotted name belongs to; None for the libraries, and for pipeline itself."""
    parts = name.split(".")
    return parts[1] if parts[0] == "pipeline" and len(parts) > 1 and not parts[1].startswith("__version") else None


MODULES = [Module(path) for path in sorted(PACKAGE.rglob("*.py"))]
NAMES = {module.name for module in MODULES}
PARTS = {part: [module for module in MODULES if module.part == part] for part in sorted({one.part for one in MODULES})}
each_part = pytest.mark.parametrize("modules", PARTS.values(), ids=[part or "pipeline" for part in PARTS])


def test_every_part_has_its_layer():
    assert {module.part for module in MODULES} - {""} == LEVEL.keys() | APART


@each_part
def test_imports_point_down(modules):
    for module in modules:
        level = LEVEL.get(module.part, -1)  # `pipeline` itself and the local service import nothing of ours
        ours = {part for name in module.imports() if (part := _part(name)) and part != module.part}
        # The command line starts the local service; nobody else knows that it is there.
        allowed = {part for part, other in LEVEL.items() if other < level} | (APART if module.part == "cli" else set())
        assert ours - allowed == set(), module.path


def test_modules_import_each_other_in_no_circle():
    graph = {module.name: {name for name in module.imports_at_start() if name in NAMES} for module in MODULES}
    for module in MODULES:  # a package is there for each of its modules; what they import of it is not a circle
        graph[module.name] -= {
            module.name,
            *(name for name in graph[module.name] if module.name.startswith(f"{name}.")),
        }
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail(" → ".join(error.args[1]))


@each_part
def test_a_library_is_known_in_its_home_only(modules):
    strangers = {
        (module.path, name)
        for module in modules
        for name in module.imports()
        for library, homes in HOMES.items()
        if f"{name}.".startswith(f"{library}.") and not module.is_in(homes)
    }
    assert strangers == set()


TALK = {
    "cli/": {"os.environ", "sys.stdout", "sys.stderr", "sys.stdin", "print"},
    "local/": {"print"},
    "crash.py": {"os.environ"},  # read before there is a command line; only rehearsals of a crash set it
    "decoder.py": {"sys.stdin", "sys.stdout"},  # also the program of its workers, which answer there
    "__main__.py": {"sys.exit"},
}


@each_part
def test_only_the_command_line_talks_and_reads_the_environment(modules):
    watched = {"print", "input", "os.environ", "os.getenv", "sys.exit", "sys.stdin", "sys.stdout", "sys.stderr"}
    for module in modules:
        names = {_dotted(node) for node in module.nodes if isinstance(node, ast.Attribute)}
        names |= {_dotted(call.func) for call in module.calls()}
        allowed = set().union(*(words for home, words in TALK.items() if module.is_in({home})))
        assert names & watched <= allowed, module.path


@each_part
def test_only_durable_writes_files(modules):
    others = [module for module in modules if not module.is_in(WRITERS)]
    found = [(module.path, call.lineno, _writes(call)) for module in others for call in module.calls()]
    assert [(path, line, why) for path, line, why in found if why] == []


_CHANGES = {
    *("replace", "rename", "renames", "link", "symlink", "unlink", "remove", "rmdir", "mkdir", "makedirs", "truncate"),
    *("chmod", "chown", "utime", "mkfifo", "fdopen"),
}
_CHANGES_OF_A_PATH = {
    *("write_text", "write_bytes", "touch", "hardlink_to", "symlink_to", "rename", "unlink", "rmdir", "mkdir", "chmod"),
}
_STRANGERS = {"shutil", "tempfile"}
_HARMLESS = {"shutil.disk_usage", "shutil.which", "shutil.get_terminal_size"}


def _writes(call: ast.Call) -> str | None:
    """Why a call may change a file, as far as its syntax tells."""
    name = _dotted(call.func)
    first, _, last = name.rpartition(".")
    if name == "os.open" or name.endswith("os.open"):
        if call.args and _dotted(call.args[0]) == "os.devnull":
            return None  # that is no file
        flags = {_dotted(node) for node in ast.walk(call.args[1])} if len(call.args) > 1 else set()
        return (
            name
            if not flags or flags & {"os.O_WRONLY", "os.O_RDWR", "os.O_CREAT", "os.O_APPEND", "os.O_TRUNC"}
            else None
        )
    if last == "open" and first not in _OTHER_OPENS:
        return _mode(call, is_method=bool(first) and first != "io")
    if first == "os" and last in _CHANGES:
        return name if last != "fdopen" else _mode(call, is_method=False)
    if name in _HARMLESS:
        return None
    is_change = first.split(".")[0] in _STRANGERS or (first != "os" and last in _CHANGES_OF_A_PATH)
    return name if is_change else None


_OTHER_OPENS = {"Image"}


def _mode(call: ast.Call, *, is_method: bool) -> str | None:
    place = 0 if is_method else 1
    given = [word.value for word in call.keywords if word.arg == "mode"] or call.args[place : place + 1]
    if not given:
        return None
    if not is_method and call.args and _dotted(call.args[0]) == "os.devnull":
        return None  # that is no file
    mode = given[0].value if isinstance(given[0], ast.Constant) else None
    if isinstance(mode, str) and set(mode) <= set("rbtU"):
        return None
    return f"opens a file with mode {mode!r}"


def test_a_batch_is_created_in_one_place():
    """What costs money has one door, behind the journal's intent."""
    doors = [
        f"{module.path}:{call.lineno}"
        for module in MODULES
        if module.part not in APART
        for call in module.calls()
        if _dotted(call.func).endswith("batches.create")
    ]
    assert len(doors) == 1, doors
    assert doors[0].startswith("gemini/api.py:")
    callers = [
        f"{module.path}:{call.lineno}"
        for module in MODULES
        if module.part not in {*APART, "gemini"}
        for call in module.calls()
        if _dotted(call.func).endswith("api.create")
    ]
    assert len(callers) == 1, callers


CLIENT = ("google", "httpx2", "httpcore2", "pydantic")
HEAVY = (
    *CLIENT, "PIL", "rich", "sqlite3", "jsonschema", "referencing", "asyncio", "concurrent.futures", "difflib", "email",
    "fractions", "html", "http", "importlib.resources", "logging", "multiprocessing", "shutil", "ssl", "tempfile",
)  # fmt: skip
"""What takes long to load, and what a command that starts at once does without."""
NOT_FOR_HELP = ("yaml", "json", "decimal", "dataclasses", "hashlib", "pathlib", "unicodedata", "urllib.parse")
VALIDATE = ["validate", "jobs/one-line.yaml"]


def in_a_process(script, *words):
    """The last line that a process says which runs this, and nothing of the tests."""
    done = subprocess.run(
        [sys.executable, "-c", f"import sys; from pipeline.cli import run; {script}", *words],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stderr.splitlines()[-1]


def loaded(watched):
    return f"print(*(name for name in {watched!r} if name in sys.modules), file=sys.stderr)"


@pytest.mark.parametrize(
    ("words", "watched"),
    [
        pytest.param(["--help"], (*HEAVY, *NOT_FOR_HELP), id="--help"),
        pytest.param(["--version"], (*HEAVY, *NOT_FOR_HELP), id="--version"),
        pytest.param(VALIDATE, HEAVY, id="validate"),
    ],
)
def test_what_is_asked_for_all_day_starts_without_what_is_heavy(words, watched, tmp_path):
    script = f"code = run(sys.argv[1:]); {loaded(watched)}; sys.exit(code)"
    assert in_a_process(script, "--outputs", str(tmp_path), *words) == ""


OFFLINE = {
    "validate": (["validate", "jobs/catalog.yaml"], 0),
    "plan": (["plan", "jobs/one-line.yaml"], 0),
    "compile": (["compile", "jobs/one-line.yaml"], 0),
    "status": (["status", "jobs/one-line.yaml"], 0),
    "show": (["show", "one-line"], 0),
    "show a template": (["show", "template:product-mockup"], 0),
    "ls": (["ls", "items"], 2),  # there is nothing yet
    "ls models": (["ls", "models"], 0),
    "ls templates": (["ls", "templates"], 0),
    "cost": (["cost", "jobs/one-line.yaml"], 0),
    "verify": (["verify", "jobs/one-line.yaml"], 0),
    "schema": (["schema"], 0),
    "init": (["init", "new"], 0),
}


@pytest.fixture(scope="module")
def offline(tmp_path_factory):
    """What became of each of these commands, one after the other in one process: its exit code, and what is loaded."""
    top = tmp_path_factory.mktemp("offline")
    asked = [
        (name, ["--outputs", str(top / name), *(word if word != "new" else str(top / "new") for word in words)])
        for name, (words, _code) in OFFLINE.items()
    ]
    look = f"[name for name in {CLIENT!r} if name in sys.modules]"
    found = in_a_process(f"print({{name: (run(words), {look}) for name, words in {asked!r}}}, file=sys.stderr)")
    return ast.literal_eval(found)


@pytest.mark.parametrize("name", OFFLINE)
def test_what_sends_nothing_never_loads_the_client(offline, name):
    assert offline[name] == (OFFLINE[name][1], [])


def test_every_verb_is_known_to_send_something_or_to_send_nothing():
    """A new verb gets its line above, unless it asks the service."""
    from pipeline import cli

    asking = {"run", "submit", "collect", "retry", "cancel", "proof", "clean", "doctor", "serve"}
    assert {words[0] for words, _code in OFFLINE.values()} == {*cli._EVERYDAY, *cli._MORE} - asking


LAWS = [
    pytest.param("open('a', 'w')", True, id="open to write"),
    pytest.param("open('a')", False, id="open to read"),
    pytest.param("path.open('xb')", True, id="a path opened to create"),
    pytest.param("path.open('rb')", False, id="a path opened to read"),
    pytest.param("path.open(mode=how)", True, id="a mode that is not known"),
    pytest.param("os.open(p, os.O_RDONLY | os.O_CLOEXEC)", False, id="os.open to read"),
    pytest.param("os.open(p, os.O_RDWR)", True, id="os.open to write"),
    pytest.param("os.open(p, FLAGS)", False, id="os.open with flags of another module"),
    pytest.param("os.replace(a, b)", True, id="os.replace"),
    pytest.param("text.replace('a', 'b')", False, id="replace in a text"),
    pytest.param("path.write_text('a')", True, id="write_text"),
    pytest.param("shutil.copy(a, b)", True, id="shutil"),
    pytest.param("open(os.devnull, 'w')", False, id="the null device"),
    pytest.param("os.open(os.devnull, os.O_RDWR)", False, id="os.open of the null device"),
]


@pytest.mark.parametrize(("text", "expected"), LAWS)
def test_knows_a_call_that_writes(text, expected):
    call = ast.parse(text, mode="eval").body
    assert bool(_writes(call)) is expected
