"""README.md does what it says: every command is run, every manifest is checked, every list is compared."""

from __future__ import annotations

import os
import re
import runpy
import shutil
import subprocess
import sys
from dataclasses import dataclass

import pytest
from conftest import KEY, ROOT

from pipeline import cli, errors
from pipeline.job import schema

README = (ROOT / "README.md").read_text(encoding="utf-8")
_BLOCK = re.compile(
    r"(?:<!-- not run:(?P<reason>.*?)-->\n)?^```(?P<language>\w*)\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL
)


@dataclass(frozen=True)
class Block:
    """A fenced block: its language, its text, and why it is not run, if it says so."""

    language: str
    text: str
    reason: str | None
    line: int


BLOCKS = [
    Block(found["language"], found["text"], found["reason"], README.count("\n", 0, found.start("text")))
    for found in _BLOCK.finditer(README)
]


def blocks(*languages: str, run: bool = True):
    return [
        pytest.param(block, id=f"line {block.line}")
        for block in BLOCKS
        if block.language in languages and (block.reason is None) is run
    ]


@pytest.fixture
def copy(tmp_path):
    """A copy of the project, with an environment in .venv that runs the copy."""
    folder = tmp_path / "project"
    folder.mkdir()
    for name in ("jobs", "templates", "outputs", "pipeline", "schemas"):
        # What is compiled comes along: a user starts the product more often than once.
        skipped = shutil.ignore_patterns("rehearsal", ".pipeline", ".local-service")
        shutil.copytree(ROOT / name, folder / name, ignore=skipped)
    programs = folder / ".venv" / "bin"
    programs.mkdir(parents=True)
    (programs / "pipeline").write_text(f'#!/bin/sh\nexec "{sys.executable}" -m pipeline "$@"\n')
    (programs / "pipeline").chmod(0o755)
    (programs / "activate").write_text('PATH="$PWD/.venv/bin:$PATH"\n')
    return folder


@pytest.fixture
def shell(copy, service):
    """Run a script in the copy, as a user would; what it calls Gemini is the local service."""

    def run(script: str, **environment: str) -> subprocess.CompletedProcess[str]:
        told = {
            **os.environ,
            "PATH": f"{copy}/.venv/bin:{os.environ['PATH']}",
            "PYTHONPATH": str(copy),
            "COLUMNS": "80",
            "GOOGLE_GEMINI_BASE_URL": service.url,
            "PIPELINE_LOCAL_LATENCY": "0s",
            "PIPELINE_LOCAL_PICTURES": "plain",
            **environment,
        }
        return subprocess.run(
            ["bash", "-euo", "pipefail", "-c", script],
            cwd=copy,
            env=told,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=100,
            check=False,
        )

    return run


def test_there_is_something_to_run():
    assert len(blocks("sh")) >= 3
    assert len(blocks("yaml")) >= 4
    assert {block.language for block in BLOCKS} <= {"sh", "console", "yaml", "crontab", "make", ""}


@pytest.mark.some(blocks("sh")[0].id)  # what a newcomer types
@pytest.mark.parametrize("block", blocks("sh"))
def test_commands(shell, block):
    # A real batch takes minutes and is looked at once a minute; this one is done at once.
    done = shell(block.text.replace("pipeline run --wait 30m", "pipeline run --poll 0.1s"))
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("block", blocks("sh", "console", "yaml", "crontab", "make", run=False))
def test_what_is_not_run_here_says_who_runs_it(block):
    assert len(block.reason.split()) >= 3, "a reason is a sentence"
    assert block.reason.strip().startswith(".ci/run does")
    gate = (ROOT / ".ci" / "run").read_text(encoding="utf-8")
    for line in block.text.splitlines():
        assert re.search(rf"^.*\b{re.escape(line.partition('#')[0].strip())}\b", gate, re.MULTILINE), line


@pytest.mark.parametrize("block", blocks("console"))
def test_what_commands_answer(shell, block):
    for part in re.split(r"^\$ ", block.text, flags=re.MULTILINE)[1:]:
        command, _, expected = part.partition("\n")
        done = shell(command)
        assert (done.returncode, done.stdout) == (0, expected), f"{command}: {done.stderr}"


def test_manifests(shell, copy):
    texts = [block.text for block in BLOCKS if block.language == "yaml"]
    names = [re.match(r"# (jobs/[a-z]+\.yaml)\n", text)[1] for text in texts]
    for name, text in zip(names, texts, strict=True):
        (copy / name).write_text(text)
    done = shell(f"pipeline validate --strict {' '.join(names)}")
    assert done.returncode == 0, done.stderr


def test_the_complaint(shell, copy):
    [shown] = [block.text for block in BLOCKS if "error: unknown key" in block.text]
    (copy / "jobs" / "spring.yaml").write_text("aspect: 4:5\npromt: Studio photo of a [product]\n")
    done = shell("pipeline validate jobs/spring.yaml")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith(shown)


@pytest.mark.torture
@pytest.mark.parametrize("block", blocks("crontab"))
def test_lines_of_cron(shell, copy, tmp_path, block):
    key = tmp_path / "key"
    key.write_text(KEY)
    key.chmod(0o600)
    settings = [line for line in block.text.splitlines() if re.match(r"[A-Z_]+=", line)]
    assert [setting.partition("=")[0] for setting in settings] == ["PIPELINE_KEY_FILE"]
    commands = [line.split(maxsplit=5)[5] for line in block.text.splitlines() if line not in settings]
    assert len(commands) == 2
    for command in commands:
        here = command.replace("/srv/shop/.venv/bin/", "").replace("/srv/shop", str(copy))
        done = shell(here, PIPELINE_KEY_FILE=str(key))
        assert done.returncode == 0, done.stderr
        assert done.stdout == ""
    assert len(list((copy / "outputs" / "catalog").rglob("*.jpg"))) == 9


def test_names_what_is_not_there_yet():
    _, _, rest = README.partition("## Not there yet\n")
    section = rest.partition("\n## ")[0]
    verbs, keys = re.split(r"^\* \w+", section, flags=re.MULTILINE)[1:]
    assert set(re.findall(r"`([\w.]+)`", verbs)) == set(cli._LATER)
    later = {".".join([*above, name]) for above, names in schema._LATER.items() for name in names}
    assert set(re.findall(r"`([\w.]+)`", keys)) == later


def test_names_every_exit_code():
    _, _, rest = README.partition("## Exit codes\n")
    codes = {
        int(code) for code in re.findall(r"\b\d+\b", " ".join(re.findall(r"^\| ([\d, ]+) \|", rest, re.MULTILINE)))
    }
    raised = {
        error.exit_code for error in vars(errors).values() if isinstance(error, type) and hasattr(error, "exit_code")
    }
    assert codes >= raised | {0, 3, 10, 129, 130, 143}
    assert README.count("\n| 75 |") == 1


def test_names_every_variable():
    """What the code reads is in the table, but for what only tests of a crash set."""
    read = {
        name
        for path in (ROOT / "pipeline").rglob("*.py")
        for name in re.findall(
            r"\b(?:PIPELINE_[A-Z_]+[A-Z]|G[A-Z]+_[A-Z_]*(?:KEY|BASE_URL))\b", path.read_text("utf-8")
        )
    }
    read |= {
        "PIPELINE_ALLOW_NETWORK_FS",
        "PIPELINE_OUTPUTS",
        "PIPELINE_STATE",
        "PIPELINE_MODELS",
        "PIPELINE_SERVICE",
        "NO_COLOR",
    }
    _, _, rest = README.partition("## Environment\n")
    table = set(
        re.findall(r"`([A-Z_]+)`", " ".join(re.findall(r"^\| (`.*?) \|", rest.partition("\n## ")[0], re.MULTILINE)))
    )
    assert table == {name for name in read if not name.startswith("PIPELINE_CRASH")}


@pytest.mark.parametrize("page", ["README.md", "CONTRIBUTING.md", "CHANGELOG.md"])
def test_links_lead_somewhere(page):
    text = (ROOT / page).read_text(encoding="utf-8")
    targets = [target for target in re.findall(r"\]\(([^)]+)\)", text) if not target.startswith("https://")]
    assert [target for target in targets if not (ROOT / target).exists()] == []


def test_the_page_of_the_language_is_current():
    """Written by `python docs/language.py`."""
    script = runpy.run_path(str(ROOT / "docs" / "language.py"))
    assert (ROOT / "docs" / "language.md").read_text(encoding="utf-8") == script["page"]()


def test_help_knows_every_verb_of_the_readme():
    verbs = set(cli._EVERYDAY) | set(cli._MORE)
    told = set(re.findall(r"^\s*(?:\$ )?pipeline (?:--service \w+ )?([a-z]+)\b", README, re.MULTILINE))
    assert len(told) >= 8
    assert told - verbs == set()
