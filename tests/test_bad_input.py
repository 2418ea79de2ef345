"""Bad input of every kind: all of it is told with its place, exit code 2, and nothing is sent, written or executed."""

from __future__ import annotations

import contextlib
import csv
import json
import os
import shutil
import socket
import subprocess
import sys
import threading
import time
import unicodedata
import zlib
from pathlib import Path

import pytest
from bad_inputs import CASES, LINES, LITERAL, png
from conftest import KEY, PRODUCTS, ROOT
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from jobs import PNG

from pipeline.durable import Folder
from pipeline.errors import LocalError

NOWHERE = "http://127.0.0.1:1"


@pytest.fixture
def offline(project, monkeypatch):
    """A project with a key, from which no connection is made."""

    def connect(_socket, address):
        pytest.fail(f"a connection to {address}")

    monkeypatch.setattr(socket.socket, "connect", connect)
    monkeypatch.setenv("GEMINI_API_KEY", KEY)
    monkeypatch.setenv("GOOGLE_GEMINI_BASE_URL", NOWHERE)
    return project


def _filled(project, files):
    for name, data in files.items():
        project.write(name, data if isinstance(data, bytes) else data.encode("utf-8", "surrogatepass"))
    return sorted(project.folder.rglob("*"))


def _is_calm(text):
    """Whether a text does nothing to a terminal but being shown, in lines somebody may read."""
    strange = [char for char in text if _acts(char)]
    return not strange and max(map(len, text.split("\n"))) < 1200


def _acts(char):
    """Whether a character moves a cursor, ends a line or turns the writing direction, or is half a character."""
    bidi = "\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"
    return (unicodedata.category(char) in {"Cc", "Cs", "Zl", "Zp"} and char not in "\n\t") or char in bidi


WAYS = {
    "run": ("run", "job.yaml", "--yes", "--wait", "0"),
    "submit": ("submit", "job.yaml", "--yes"),
    "proof": ("proof", "job.yaml", "--yes"),
    "validate": ("validate", "job.yaml"),
    "plan": ("plan", "job.yaml", "--detailed-exitcode"),
    "compile": ("compile", "job.yaml"),
}


@pytest.mark.some(111)
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_bad_input_is_told_in_its_place_and_leaves_no_trace(offline, case):
    _refused(offline, case, "run")


@pytest.mark.torture
@pytest.mark.parametrize("way", [way for way in WAYS if way != "run"])
def test_every_command_refuses_it_alike(offline, way, tmp_path):
    for case in CASES:
        _refused(offline, case, way)
        for path in tmp_path.iterdir():
            shutil.rmtree(path) if path.is_dir() else path.unlink()


def _refused(project, case, way):
    before = _filled(project, case.files)
    ended = project(*WAYS[way])
    assert ended.code == 2, (case.name, ended)
    for part in case.said:
        assert part in ended.err, (case.name, part)
    assert sorted(project.folder.rglob("*")) == before, case.name
    assert _is_calm(ended.err), (case.name, ended.err)


@pytest.mark.parametrize("line", LINES, ids=lambda line: ascii(" ".join([*line.words, *line.environment]))[:60])
def test_a_bad_command_line_or_environment_is_told_and_leaves_no_trace(offline, monkeypatch, line):
    offline.folder.joinpath("empty").mkdir()
    job = "prompt: a [product]\nitems: products.csv\n"
    before = _filled(offline, {"jobs/shop.yaml": job, "jobs/products.csv": PRODUCTS})
    for name, value in line.environment.items():
        monkeypatch.setenv(name, value)
    ended = offline(*line.words)
    assert ended.code == line.code, ended
    for part in line.said:
        assert part in ended.err + ended.out
    assert sorted(offline.folder.rglob("*")) == before
    assert _is_calm(ended.err)


# ------------------------------------------------------------------------------------ too much of it

MEGABYTE = 1 << 20


def _sparse(path, size):
    with path.open("wb") as stream:
        stream.truncate(size)


def _heavy(folder):
    """What would take all memory or all day, made on the spot: by name, the manifest and what is said of it."""
    big = folder / "big"
    big.mkdir()
    write = Path.write_text
    write(big / "deep.txt", "[" * 100_000)
    write(big / "line.csv", "id\n" + "a" * 200 * MEGABYTE)
    write(big / "quote.csv", 'id,x\na,"' + "b\n" * 60 * MEGABYTE)
    write(big / "line.jsonl", '{"id": "' + "a" * 200 * MEGABYTE)
    write(big / "deep.jsonl", '{"a": ' * 600_000 + "\n")
    write(big / "columns.jsonl", "{" + ", ".join(f'"c{n}": 1' for n in range(150_000)) + "}\n")
    write(big / "twice.csv", "id\n" + "".join(f"a{n}\n" for n in range(30_000)) + "a5\n")
    write(big / "ragged.csv", "id,x\n" + "a\n" * 300_000)
    write(big / "page.csv", "id,x\n" + "a,<b>" + "<" * 3_000_000 + "\n")
    for name, size in (("zero.csv", 1 << 30), ("zero.png", 1 << 34), ("zero.txt", 1 << 33), ("zero.yaml", 1 << 33)):
        _sparse(big / name, size)
    bomb = zlib.compress(b"\0" * 60_000_000)
    (big / "bomb.png").write_bytes(png(60_000, 60_000, bomb))
    (big / "heavy.png").write_bytes(PNG + b"\0" * 101 * 1_000_000)
    for name in ("pipe", "pipe.csv", "pipe.png", "pipe.yaml"):
        os.mkfifo(big / name)
    (big / "loop.csv").symlink_to("loop.csv")
    (big / "round").symlink_to(".")
    prompt = "prompt: a [id]\n"
    return {
        "100 MB": ("#" * 100 * MEGABYTE, "more than 10 MB is no manifest"),
        "8 GB": (None, "more than 10 MB is no manifest"),
        "100,000 deep": (f"a: {'[' * 100_000}", "nested more than 50 deep"),
        "maps 100,000 deep": ("a: " + "{a: " * 100_000, "nested more than 50 deep"),
        "blocks 100,000 deep": ("a:\n " + "- " * 100_000, "nested more than 50 deep"),
        "100,000 anchors": ("a: [" + ", ".join(f"&b{n} x" for n in range(100_001)) + "]", "more than 100,000 values"),
        "40,000 keys": ("prompt: a\n" + "".join(f"k{n}: 1\n" for n in range(40_000)), "more problems like these"),
        "90,000 placeholders": ("prompt: " + " ".join(f"a [p{n}]" for n in range(90_000)), "more than 1,000 p"),
        "a million brackets": ("prompt: a " + "[[" * 999_999 + "[", "job.yaml:1:"),
        "a million open brackets": ("prompt: a " + "[" * 999_999, "job.yaml:1:"),
        "a prompt of 9 MB": ("prompt: " + "a" * 9_000_000, "characters"),
        "zeros": ("prompt: a\nsamples: " + "0" * 5_000_000 + "x", "'samples' is a whole number"),
        "digits": ("prompt: a\naspect: " + "9" * 5_000_000 + "x1", "'aspect' is W:H"),
        "a bracket and spaces": ("prompt: [a]" + " " * 5_000_000 + "x", "is not YAML"),
        "a key of 9 MB": ("prompt: a\n? " + "k" * 9_000_000 + "\n: 1", "error"),
        "a path of 9 MB": ("prompt: a\nitems: " + "p" * 9_000_000 + ".csv", "job.yaml:2:8: error"),
        "a glob of 9 MB": ("prompt: a\nitems: '" + "*a" * 4_000_000 + ".png'", "job.yaml:2:8: error"),
        "a glob of stars": ("prompt: a\nimages: [{glob: '" + "**/" * 50_000 + "x.png'}]", "job.yaml:2:"),
        "one line of 200 MB": (f"{prompt}items: big/line.csv", "a line of more than 4,000,000 characters"),
        "one line of 1 GB of NUL": (f"{prompt}items: big/zero.csv", "a NUL character"),
        "an open quote of 120 MB": (f"{prompt}items: big/quote.csv", "a quote opened in it may never be closed"),
        "one line of JSONL of 200 MB": (f"{prompt}items: big/line.jsonl", "a line of more than 4,000,000 characters"),
        "JSONL 600,000 deep": (f"{prompt}items: big/deep.jsonl", "nested too deep"),
        "JSONL of 150,000 fields": (f"{prompt}items: big/columns.jsonl", "150,000 fields; at most 10,000"),
        "an id twice in 30,000": (f"{prompt}items: big/twice.csv", "big/twice.csv:30002:1: error: the id 'a5' is"),
        "300,000 ragged rows": (f"{prompt}items: big/ragged.csv", "299950 more problems like these"),
        "a table of 1 GB": (f"{prompt}tables: {{t: big/zero.csv}}", "more than 128 MB together"),
        "a prompt of 8 GB": ("prompt: {file: big/zero.txt}", "big/zero.txt"),
        "an image of 16 GB": ("prompt: a\nimages: [big/zero.png]", "an image has at most 100"),
        "an image of 101 MB": ("prompt: a\nimages: [big/heavy.png]", "an image has at most 100"),
        "an image of 60,000 by 60,000": ("prompt: a\nimages: [big/bomb.png]", "more than 200 megapixels"),
        "a pipe as catalog": (f"{prompt}items: big/pipe.csv", "is a pipe, not a file"),
        "a pipe as image": ("prompt: a\nimages: [big/pipe.png]", "is no regular file"),
        "a pipe as base": ("prompt: a\nextends: big/pipe.yaml", "is no file"),
        "a pipe as prompt": ("prompt: {file: big/pipe}", "is no file"),
        "a pipe as table": (f"{prompt}tables: {{t: big/pipe.csv}}", "is a pipe, not a file"),
        "a link to itself": (f"{prompt}items: big/loop.csv", "job.yaml:2:8: error: cannot read"),
        "a folder in itself": ("prompt: a\nimages: [{glob: 'big/*/*/*/*/*/*/x.png'}]", "no file matches"),
    }  # fmt: skip


_CHILD = """
import contextlib, io, json, os, resource, sys, time
from pipeline import cli
resource.setrlimit(resource.RLIMIT_AS, (1 << 30, 1 << 30))
for name in sys.argv[1:]:
    said, started = io.StringIO(), time.monotonic()
    with contextlib.redirect_stderr(said), contextlib.redirect_stdout(said):
        try:
            code = cli.run(["validate", name])
        except BaseException as error:
            code = repr(error)[:300]
    [peak] = [int(line.split()[1]) >> 10 for line in open("/proc/self/status") if line.startswith("VmHWM")]
    print(json.dumps([name, code, said.getvalue()[:20_000], time.process_time(), peak]), flush=True)
"""


@pytest.mark.torture
@pytest.mark.timeout(600)
def test_what_is_far_too_much_is_refused_within_bounds_of_memory_and_time(tmp_path):
    cases = _heavy(tmp_path)
    words = {}
    for number, (name, (text, _said)) in enumerate(cases.items()):
        folder = tmp_path / f"{number}"
        folder.mkdir()
        folder.joinpath("big").symlink_to(tmp_path / "big")
        job = folder / "job.yaml"
        job.symlink_to(tmp_path / "big/zero.yaml") if text is None else job.write_text(text)
        words[f"{number}/job.yaml"] = name
    words["big/pipe.yaml"] = "a pipe as job"
    cases["a pipe as job"] = ("", "is no file")
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    child = [sys.executable, "-c", _CHILD, *words]
    done = subprocess.run(
        child, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=580, check=False
    )
    told = [json.loads(line) for line in done.stdout.splitlines()]
    assert [words[name] for name, *_ in told] == [*words.values()], done.stderr[-500:]
    before_s = 0.0
    for file, code, said, at_s, peak in told:
        name = words[file]
        assert code == 2, (name, code, said[:500])
        assert cases[name][1] in said, (name, said[:500])
        assert _is_calm(said), (name, said[:500])
        assert at_s - before_s < 20, (name, at_s - before_s)
        assert peak < 512, (name, peak)
        before_s = at_s


# ------------------------------------------------------------------- links, and what else lies around


@pytest.fixture
def outside(project):
    """A folder beside the outputs that nobody may touch, with a file in it."""
    folder = project.folder / "outside"
    folder.mkdir()
    (folder / "sentinel").write_text("mine")
    (folder / ".left.part").write_text("mine, too")
    (folder / "empty").mkdir()
    yield folder
    assert sorted(path.name for path in folder.rglob("*")) == [".left.part", "empty", "sentinel"]
    assert (folder / "sentinel").read_text() == "mine"


PLANTED = [
    "outputs/shop", "outputs/.pipeline", "outputs/.pipeline/requests", "outputs/.pipeline/requests/shop",
    "outputs/.pipeline/locks", "outputs/.pipeline/answers", "outputs/.pipeline/runs",
]  # fmt: skip


@pytest.mark.parametrize("place", PLANTED)
def test_no_link_below_the_outputs_folder_is_followed(shop, outside, place):
    link = shop.folder / place
    link.parent.mkdir(parents=True)
    link.symlink_to(outside)
    ended = shop("run", "jobs/shop.yaml", "--yes", "--poll", "0.1s")
    assert ended.code == 7, ended.err
    assert "hint:" in ended.err


@pytest.mark.parametrize("name", ["journal.db", "locks/shop.lock", "requests/shop"])
def test_no_link_in_place_of_a_file_of_the_state_is_followed(shop, outside, name):
    link = shop.outputs / ".pipeline" / name
    link.parent.mkdir(parents=True)
    link.symlink_to(outside / "sentinel")
    assert shop("run", "jobs/shop.yaml", "--yes", "--poll", "0.1s").code == 7


def test_the_outputs_folder_itself_may_be_a_link(shop):
    (shop.folder / "disk").mkdir()
    shop.outputs.symlink_to("disk")
    assert shop("run", "jobs/shop.yaml", "--yes", "--poll", "0.1s").code == 0
    assert len([*(shop.folder / "disk/shop").glob("*.jpg")]) == 6


def test_a_swapped_folder_never_leads_a_writer_outside(tmp_path):
    _swapped(tmp_path, seconds=0.5)


@pytest.mark.torture
def test_a_swapped_folder_never_leads_a_writer_outside_at_length(tmp_path):
    _swapped(tmp_path, seconds=20)


def _swapped(tmp_path, seconds):
    """Do all that may change a file below a folder while another thread makes that a link, and a folder, and a link."""
    outputs, outside = tmp_path / "outputs", tmp_path / "outside"
    for folder in (outputs, outside, outside / "empty", tmp_path / "aside"):
        folder.mkdir(parents=True)
    for name in ("sentinel", ".sentinel.part", "a.jpg"):
        (outside / name).write_text("mine")
    over, place = threading.Event(), outputs / "x"

    def swap():
        number = 0
        while not over.is_set():
            number += 1
            for change in (
                lambda: place.symlink_to(outside),
                place.unlink,
                lambda: place.rename(tmp_path / f"aside/{number}"),  # noqa: B023 - called at once
            ):
                with contextlib.suppress(OSError):
                    change()

    swapping = threading.Thread(target=swap)
    swapping.start()
    done = _busy(Folder(outputs), time.monotonic() + seconds)
    over.set()
    swapping.join()
    assert done
    left = sorted(path.name for path in outside.rglob("*"))
    assert left == [".sentinel.part", "a.jpg", "empty", "sentinel"]
    assert {path.read_text() for path in outside.iterdir() if path.is_file()} == {"mine"}


def _busy(top, until):
    """Change files until then; how many changes went well. What did not has the exit code 7, or finds nothing."""
    done = 0
    while time.monotonic() < until:
        for act in (_write, _stage, _retire, _remove, _sweep):
            with contextlib.suppress(LocalError, FileNotFoundError):
                act(top)
                done += 1
    return done


def _write(top):
    with top.replacing("x/a.jpg") as stream:
        stream.write(b"ours")


def _stage(top):
    with top.staging() as staging:
        staging.write("x/b.jpg", b"ours")
        staging.sync()
        staging.publish()


def _retire(top):
    top.move("x/b.jpg", top.below("retired"), "x/b.jpg")
    top.below("retired/x").move("b.jpg", top, "x/c.jpg")


def _remove(top):
    top.remove("x/a.jpg")
    top.remove("x/sentinel")


def _sweep(top):
    for folder in (top, top.below("x")):
        folder.sweep()
        folder.prune()


def _journal_of(shop):
    assert shop("run", "jobs/shop.yaml", "--yes", "--poll", "0.1s").code == 0
    return shop.outputs / ".pipeline/journal.db"


@pytest.mark.parametrize("way", [("run", "--yes", "--wait", "0"), ("plan",)], ids=lambda way: way[0])
def test_a_journal_that_is_none_of_ours_is_refused_and_stays_as_it_is(shop, way):
    journal = _journal_of(shop)
    whole = journal.read_bytes()
    newer = whole[:60] + (99).to_bytes(4, "big") + whole[64:]
    foreign = whole[:68] + b"\1\2\3\4" + whole[72:]
    for name, data in {
        "no database": b"not a database at all, but a text" * 100,
        "zeros": b"\0" * 8192,
        "cut": whole[: len(whole) // 2],
        "newer": newer,
        "foreign": foreign,
        "damaged": whole[:4096] + b"\xff" * 4096 + whole[8192:],
    }.items():
        journal.write_bytes(data)
        ended = shop(way[0], "jobs/shop.yaml", *way[1:])
        assert ended.code == 7, (name, ended)
        assert "hint:" in ended.err, name
        assert journal.read_bytes() == data, name


@pytest.mark.parametrize("place", ["outputs", "outputs/.pipeline", "outputs/shop", "outputs/.pipeline/locks"])
def test_a_file_where_a_folder_is_needed_is_trouble_on_this_machine(shop, place):
    shop.write(place, "mine")
    ended = shop("run", "jobs/shop.yaml", "--yes", "--poll", "0.1s")
    assert ended.code == 7, ended
    assert (shop.folder / place).read_text() == "mine"


ENVIRONMENTS = {
    "no locale": {"LC_ALL": "C", "LANG": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"},
    "ASCII": {"PYTHONIOENCODING": "ascii"},
    "no HOME": {"HOME": "", "TERM": "", "TMPDIR": "/gone"},
    "optimised": {"PYTHONOPTIMIZE": "2"},
}


@pytest.mark.parametrize("name", [pytest.param(name, marks=pytest.mark.torture) for name in ENVIRONMENTS])
def test_it_works_in_a_strange_environment(project, name):
    project.write("jobs/shop.yaml", "prompt: ein Fuchs und un été\nitems: c.csv\n")
    project.write("jobs/c.csv", "id\nmüh\n狐\n")
    environment = {**ENVIRONMENTS[name], "PIPELINE_LOCAL_LATENCY": "0s", "PIPELINE_LOCAL_PICTURES": "plain"}
    done = project.process("--service", "local", "run", "jobs/shop.yaml", **environment)
    assert done.returncode == 0, done.stderr
    project.write("jobs/shop.yaml", "prompt: ein Fuchs und un été\nsize: größe\n")
    done = project.process("validate", "jobs/shop.yaml", **environment)
    assert done.returncode == 2, done.stderr
    assert "Traceback" not in done.stderr


LIMITED = """
import os, resource, signal, sys
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[1]), int(sys.argv[1])))
os.umask(int(sys.argv[2], 8))
if sys.argv[3] == "gone":
    os.mkdir("gone"); os.chdir("gone"); os.rmdir("../gone")
from pipeline.cli import run
sys.exit(run(sys.argv[4:]))
"""


@pytest.mark.torture
@pytest.mark.parametrize(("size", "umask", "where", "code"), [
    (1, "022", "here", 7), (5_000, "022", "here", 7), (120_000, "022", "here", 7), (1 << 30, "000", "here", 0),
    (1 << 30, "077", "here", 0), (1 << 30, "022", "gone", 7),
])  # fmt: skip
def test_limits_of_a_shell_are_trouble_on_this_machine(project, size, umask, where, code):
    project.write("jobs/shop.yaml", "prompt: a fox\n")
    words = [str(size), umask, where, "--service", "local", "run", "jobs/shop.yaml", "--yes"]
    environment = {
        **os.environ,
        "PYTHONPATH": str(ROOT),
        "PIPELINE_LOCAL_LATENCY": "0s",
        "PYTHONDONTWRITEBYTECODE": "1",
    }
    done = subprocess.run(
        [sys.executable, "-c", LIMITED, *words],
        cwd=project.folder, env=environment, capture_output=True, text=True, timeout=100, check=False,
    )  # fmt: skip
    assert done.returncode == code, done.stderr
    assert "Traceback" not in done.stderr


# ------------------------------------------------------------------------------------ data is no code


def test_data_is_no_code_wherever_it_goes(shop):
    """Each text stands in the request as it was written, and in the table as a text no spreadsheet computes."""
    shop.write("jobs/shop.yaml", "prompt: 'x [text] y'\nitems: c.jsonl\noutput: {sidecar: true}\n")
    rows = [{"id": f"row-{n}", "text": text} for n, text in enumerate(LITERAL.values())]
    shop.write("jobs/c.jsonl", "".join(json.dumps(row) + "\n" for row in rows))
    assert shop("run", "jobs/shop.yaml", "--yes", "--poll", "0.1s").code == 0
    prompts = {record["id"]: record["prompt"] for record in shop.records().values()}
    assert prompts == {row["id"]: f"x {row['text']} y" for row in rows}
    table = shop.outputs.joinpath("shop/manifest.csv").read_text(encoding="utf-8-sig")
    cells = [cell for row in csv.reader(table.splitlines()) for cell in row]
    assert not [cell for cell in cells if cell[:1] in tuple("=+-@\t\r\n\uff1d\uff0b\uff0d\uff20") and cell]
    for row in rows:
        said = shop("show", row["id"])
        assert said.code == 0
        assert _is_calm(said.out + said.err)


def test_names_of_strangers_do_nothing_to_the_terminal(shop):
    assert shop("run", "jobs/shop.yaml", "--yes", "--poll", "0.1s").code == 0
    for name in ("a\x1b[2Jb.jpg", "a\u202eb.jpg", "a\nb.jpg"):
        shop.write(f"outputs/shop/{name}", "x")
    (shop.outputs / "shop" / os.fsdecode(b"\xff.jpg")).write_text("x")
    for words in (("verify",), ("plan", "jobs", "--show", "a\x1b[2J"), ("clean", "jobs"), ("status",), ("ls",)):
        ended = shop(*words)
        assert ended.code in {0, 3}, ended
        assert _is_calm(ended.out + ended.err), ended


# ----------------------------------------------------------------------------------------- no trace


@pytest.mark.torture
@pytest.mark.skipif(not shutil.which("strace"), reason="strace is not installed")
@pytest.mark.parametrize("words", [("validate",), ("plan", "--detailed-exitcode")], ids=lambda words: words[0])
@pytest.mark.parametrize("there", [False, True], ids=["new", "run before"])
def test_what_only_looks_makes_no_connection_and_writes_nothing(shop, words, there):
    """As the kernel saw it: no connection, no file opened to be written, none made, none taken away."""
    if there:
        assert shop("run", "jobs/shop.yaml", "--yes", "--poll", "0.1s").code == 0
        shop.write("jobs/products.csv", PRODUCTS + "cup,a cup\n")
    traced = (
        "connect,sendto,sendmsg,open,openat,creat,mkdir,mkdirat,rename,renameat,renameat2,unlink,unlinkat,rmdir,"
        "ftruncate,link,symlink,symlinkat,chmod,utimensat"
    )
    trace = shop.folder / "trace.txt"
    command = ["strace", "-f", "-y", "-e", f"trace={traced}", "-o", str(trace), sys.executable, "-m", "pipeline"]
    done = subprocess.run(
        [*command, words[0], "jobs/shop.yaml", *words[1:]],
        cwd=shop.folder, env={**os.environ, "PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True, text=True, timeout=100, check=False,
    )  # fmt: skip
    assert done.returncode == (0 if words == ("validate",) else 10), done.stderr
    calls = trace.read_text().splitlines()
    assert any("products.csv" in call for call in calls), "the trace saw it read"
    harmless = ("O_RDONLY", '"/dev/null"', "= -1 ", "--- SIG", "+++ exited")
    opened = [call for call in calls if "open" in call.split("(")[0] and not any(word in call for word in harmless)]
    others = [call for call in calls if "open" not in call.split("(")[0] and "+++" not in call and "---" not in call]
    assert opened == []
    assert others == []


# --------------------------------------------------------------------------------------------- fuzz

GOOD = """\
prompt: Studio photo of a [product], [note|plain]
aspect: 4:5
matrix: {light: [dawn, dusk]}
items: c.csv
overrides: [{when: {product: mug}, set: {size: 2K, samples: 2}}]
budget: 25
"""
_STRANGE = st.text(
    st.characters() | st.sampled_from("\x00\x1b\u202e\ud800\u2028\x85[]{}&*!|>'\"%@`,:#-\t\n"), max_size=12
)
_BITES = st.tuples(st.integers(0, 400), st.integers(0, 12), _STRANGE)


def _bitten(text, bites):
    for at, length, new in bites:
        text = text[: at % (len(text) + 1)] + new + text[at % (len(text) + 1) + length :]
    return text.encode("utf-8", "surrogatepass")


def _fuzz(examples):
    return settings(
        max_examples=examples, deadline=None, database=None,
        suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
    )  # fmt: skip


def _looks_at(project, job, catalog):
    project.write("job.yaml", job)
    project.write("c.csv", catalog)
    before = sorted(project.folder.rglob("*"))
    ended = project("plan", "job.yaml")
    assert ended.code in {0, 2}, ended
    assert sorted(project.folder.rglob("*")) == before
    assert not [char for char in ended.err if _acts(char)], ended.err
    assert ended.code == 0 or ended.err


@given(bites=st.lists(_BITES, min_size=1, max_size=4))
@_fuzz(15)
def test_no_manifest_is_more_than_an_error(offline, bites):
    _looks_at(offline, _bitten(GOOD, bites), PRODUCTS.encode())


@given(bites=st.lists(_BITES, min_size=1, max_size=4))
@_fuzz(15)
def test_no_catalog_is_more_than_an_error(offline, bites):
    _looks_at(offline, GOOD.encode(), _bitten(PRODUCTS, bites))


@pytest.mark.torture
@given(job=st.lists(_BITES, max_size=4), catalog=st.lists(_BITES, max_size=4), raw=st.binary(max_size=20))
@_fuzz(600)
def test_no_input_is_more_than_an_error(offline, job, catalog, raw):
    _looks_at(offline, _bitten(GOOD, job), _bitten(PRODUCTS, catalog) + raw)
