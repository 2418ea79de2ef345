"""The wheel, away from the repository: what a user gets who installs it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import zipfile

import pytest
from conftest import ROOT, Ended

from pipeline import __version__


@pytest.fixture(scope="session")
def wheel(tmp_path_factory):
    """The wheel, built without a network."""
    folder = tmp_path_factory.mktemp("wheel")
    words = ["wheel", "-q", "--no-deps", "--no-build-isolation", "--disable-pip-version-check", "-w", folder, ROOT]
    subprocess.run([sys.executable, "-m", "pip", *words], check=True, timeout=100)
    [built] = folder.glob("*.whl")
    return built


@pytest.fixture
def installed(wheel, tmp_path):
    """The command line of the unpacked wheel, in a folder that has nothing to do with the repository."""
    site, work = tmp_path / "site", tmp_path / "work"
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(site)
    work.mkdir()

    def pipeline(*words: str) -> Ended:
        script = (
            f"import sys; sys.path.insert(0, {str(site)!r}); import pipeline; "
            f"assert pipeline.__file__.startswith({str(site)!r}); from pipeline.__main__ import main; main()"
        )
        # -P: nothing is imported from the current folder; an editable install of the repository comes after the wheel.
        done = subprocess.run(
            [sys.executable, "-P", "-c", script, *words],
            cwd=work,
            env={
                **os.environ,
                "PIPELINE_LOCAL_LATENCY": "0s",
                "PIPELINE_LOCAL_PICTURES": "plain",
                "PYTHONPATH": str(site),
            },
            capture_output=True,
            text=True,
            timeout=100,
            check=False,
        )
        return Ended(done.returncode, done.stdout, done.stderr)

    pipeline.folder = work
    return pipeline


def test_holds_everything_that_is_read_at_run_time(wheel):
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    source = {
        path.relative_to(ROOT).as_posix()
        for path in (ROOT / "pipeline").rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    schemas = {f"pipeline/schemas/{path.name}" for path in (ROOT / "schemas").iterdir()}
    assert {f"pipeline/schemas/{name}.schema.json" for name in ("job", "record")} <= schemas
    assert {"pipeline/gemini/models.yaml", "pipeline/cli/scaffold/first.yaml", "pipeline/journal/journal.sql"} <= source
    info = f"image_batch_pipeline-{__version__}.dist-info"
    assert source | schemas == {name for name in names if not name.startswith(f"{info}/")}, (
        "all of ours, and nothing else"
    )
    assert {f"{info}/entry_points.txt", f"{info}/licenses/LICENSE"} <= names


def test_knows_its_version_and_its_languages(installed):
    assert installed("--version").out == f"pipeline, version {__version__}\n"
    for name in ("job", "record"):
        assert installed("schema", name).json == json.loads((ROOT / "schemas" / f"{name}.schema.json").read_bytes())


@pytest.mark.torture
def test_starts_a_project_and_renders_it(installed):
    assert installed("init").code == 0
    done = installed("--service", "local", "run", "--poll", "0.05s", "jobs/first.yaml")
    assert done.code == 0, done.err
    records = (installed.folder / "outputs/first/manifest.jsonl").read_text().splitlines()
    assert {json.loads(record)["status"] for record in records} == {"done"}
    assert len(records) == 6


def test_brings_its_templates_along(installed):
    listed = installed("ls", "templates", "--json")
    assert listed.code == 0, listed.err
    assert len(json.loads(listed.out)["items"]) == 14
