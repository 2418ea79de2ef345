"""The command line: help, streams, JSON documents, exit codes, and words for what is not there yet."""

from __future__ import annotations

import contextlib
import json
import os
import pty
import signal
import subprocess
import sys

import pytest
from conftest import KEY, PRODUCTS, ROOT, SHOP


def test_help_shows_the_everyday_verbs_first(project):
    out = project("--help").out
    first, _, more = out.partition("More:")
    for verb in ("init", "validate", "plan", "run", "status", "show"):
        assert f"\n  {verb} " in first
    for verb in ("submit", "collect", "cancel", "ls", "retry", "verify", "schema", "serve", "compile"):
        assert f"\n  {verb} " in more


VERBS = ("init", "validate", "plan", "compile", "run", "submit", "collect", "status")
MORE = ("cancel", "show", "ls", "retry", "verify", "schema", "serve")


@pytest.mark.parametrize("verb", [*VERBS, *MORE])
def test_each_verb_explains_itself(project, verb):
    ended = project(verb, "--help")
    assert ended.code == 0
    assert ended.out.startswith(f"Usage: pipeline {verb}")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        pytest.param(("gallery", "x"), "not there yet", id="verb to come"),
        pytest.param(("run", "jobs", "--recover"), "`pipeline collect --recover` does it", id="flag of another verb"),
        pytest.param(("rnu", "jobs"), "did you mean 'run'", id="typo"),
        pytest.param(("run",), "Missing argument", id="a verb that spends needs a job"),
        pytest.param(("plan", "nowhere/*.yaml"), "nowhere", id="glob without a match"),
        pytest.param(("-C", "nowhere", "plan"), "nowhere", id="folder"),
        pytest.param(("run", "jobs", "--wait", "soon"), "24h", id="duration"),
        pytest.param(("run", "jobs", "--max-cost", "lots"), "amount", id="money"),
    ],
)
def test_what_cannot_be_done_is_2_and_says_why(project, words, said):
    project.write("jobs/shop.yaml", "prompt: a barn\n")
    ended = project(*words)
    assert ended.code == 2
    assert said in ended.err
    assert "Traceback" not in ended.err


def test_global_options_may_stand_behind_the_verb(project):
    project.write("jobs/shop.yaml", "prompt: a barn\n")
    ended = project("--service", "local", "run", "jobs/shop.yaml", "-q", "--outputs", "elsewhere")
    assert (ended.code, ended.out, ended.err) == (0, "", "")
    assert (project.folder / "elsewhere/shop/shop.jpg").exists()


def test_quiet_says_one_line_on_failure_that_names_what_to_type(project):
    project.write("jobs/shop.yaml", "prompt: LOCAL:BLOCK please\n")
    ended = project("--service", "local", "run", "jobs/shop.yaml", "-q")
    assert ended.code == 3
    assert ended.err.count("\n") == 1
    assert "pipeline ls" in ended.err


def test_the_json_documents_have_their_promised_keys(shop):
    assert shop("plan", "--json").json["schema_version"] == 1
    plan = shop("plan", "--json").json["jobs"][0]
    assert set(plan) >= {"job", "counts", "requests", "batches", "waves", "input_bytes", "cost", "items"}
    assert set(plan["counts"]) >= {"new", "changed", "done", "gone", "edited", "frozen", "moved"}
    assert set(plan["cost"]) == {"amount", "upper_bound", "currency", "prices"}
    assert set(plan["items"][0]) == {"key", "state", "why", "path", "model", "cost"}
    shop("run", "jobs/shop.yaml", "--poll", "0.1s")
    status = shop("status", "--json").json
    assert set(status) >= {"schema_version", "jobs", "remote_bytes"}
    assert set(status["jobs"][0]) >= {"job", "counts", "open", "batches", "cost"}
    shown = shop("show", "mug/1:1", "--json").json
    assert shown["key"] == "mug/1:1"
    assert {"attempts", "provenance"} <= set(shown)
    assert shop("show", "outputs/shop/mug-1x1.jpg", "--json").json["key"] == "mug/1:1"
    assert json.loads(shop("show", "mug/1:1", "--request").out)["request"]["contents"]
    assert len(shop("ls", "--json").json["items"]) == 6
    assert shop("ls", "images", "-0").out.count("\0") == 6
    verified = shop("verify", "--json").json["jobs"][0]
    assert {word: verified[word] for word in ("ok", "missing", "edited", "stray")} == {
        "ok": 6, "missing": [], "edited": [], "stray": [],
    }  # fmt: skip
    wrong = shop("validate", "--format", "json", "jobs/products.csv")
    assert wrong.code == 2
    assert set(wrong.json["errors"][0]) == {"file", "line", "column", "message", "hint"}


def test_verify_finds_what_is_missing_edited_and_stray(shop):
    shop("run", "jobs/shop.yaml", "--poll", "0.1s")
    top = shop.outputs / "shop"
    (top / "mug-1x1.jpg").unlink()
    (top / "bowl-1x1.jpg").write_bytes(b"not an image")
    (top / "notes.txt").write_text("mine")
    ended = shop("verify", "--json")
    assert ended.code == 3
    found = ended.json["jobs"][0]
    assert (found["missing"], found["edited"], found["stray"]) == (["mug-1x1.jpg"], ["bowl-1x1.jpg"], ["notes.txt"])


def test_init_makes_a_job_that_works_and_touches_nothing_that_is_there(project):
    project.write("jobs/products.csv", "mine")
    assert project("init").code == 0
    assert (project.folder / "jobs/products.csv").read_text() == "mine"
    (project.folder / "jobs/products.csv").unlink()
    assert project("init").code == 0
    assert project("--service", "local", "run", "jobs/first.yaml", "-q").code == 0
    assert len(project.records("first")) == 6


@pytest.mark.some("15-143")
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)])
def test_a_signal_ends_the_wait_and_the_next_run_goes_on(project, slow_service, number, code):
    project.write("jobs/shop.yaml", SHOP)
    project.write("jobs/products.csv", PRODUCTS)
    environment = {
        **os.environ,
        "PYTHONPATH": str(ROOT),
        "GEMINI_API_KEY": KEY,
        "GOOGLE_GEMINI_BASE_URL": slow_service.url,
    }
    process = subprocess.Popen(
        [sys.executable, "-m", "pipeline", "run", "jobs/shop.yaml"],
        cwd=project.folder, env=environment, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stderr is not None
    for line in process.stderr:
        if line.startswith("sent "):
            break
    process.send_signal(number)
    said = process.communicate(timeout=30)[1]
    assert process.returncode == code
    assert "run the same command again" in said
    assert "Traceback" not in said
    assert {record["status"] for record in project.records().values()} == {"pending"}
    assert len(slow_service.ledger()) == 1


def test_a_closed_pipe_is_no_error(shop):
    shop("run", "jobs/shop.yaml", "--poll", "0.1s")
    ended = subprocess.run(
        f"{sys.executable} -m pipeline ls items | head -1", shell=True, cwd=shop.folder, capture_output=True, text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)}, check=False,
    )  # fmt: skip
    assert ended.stdout.startswith("bowl/1:1")
    assert ended.stderr == ""


@pytest.mark.some("n")
@pytest.mark.parametrize(
    ("word", "code", "creates"), [pytest.param(b"n\n", 5, 0, id="n"), pytest.param(b"y\n", 0, 1, id="y")]
)
def test_in_a_terminal_the_plan_is_shown_and_a_word_is_asked_for(shop, service, word, code, creates):
    shop.write("jobs/shop.yaml", SHOP + "model: pro\n")  # whose images are the dearest
    shop.write("jobs/products.csv", "id,product\n" + "".join(f"p{n},cup {n}\n" for n in range(9)))
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "pipeline", "run", "jobs/shop.yaml", "--poll", "0.1s"], cwd=shop.folder,
        env={**os.environ, "PYTHONPATH": str(ROOT), "TERM": "xterm"}, stdin=theirs, stderr=theirs, stdout=theirs,
    )  # fmt: skip
    os.close(theirs)
    os.write(ours, word)
    said = b""
    with contextlib.suppress(OSError):  # the terminal hangs up when the process ends
        while piece := os.read(ours, 65536):
            said += piece
    os.close(ours)
    assert process.wait(60) == code
    assert b"18  together" in said
    assert b"Send this for about $1." in said
    assert len(service.ledger()) == creates
