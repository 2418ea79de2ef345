"""The jobs we show: each is valid, cheap, well-formed on the wire, and renders what it says."""

from __future__ import annotations

import hashlib
import json
import shutil
from typing import TYPE_CHECKING

import pytest
from api_names import problems
from conftest import ROOT, Project
from PIL import Image

from pipeline.gemini import models
from pipeline.job.yaml12 import parse

if TYPE_CHECKING:
    from pathlib import Path

EXAMPLES = sorted((ROOT / "jobs").glob("*.yaml"))
SCHEMA = "# yaml-language-server: $schema=../schemas/job.schema.json"
each_example = pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.stem)


@pytest.fixture
def examples(tmp_path, capsys, monkeypatch):
    """A copy of the jobs and their templates."""
    for folder in ("jobs", "templates"):
        shutil.copytree(ROOT / folder, tmp_path / folder)
    return Project(tmp_path, capsys, monkeypatch)


def test_there_is_one_for_each_thing():
    assert {path.stem for path in EXAMPLES} >= {
        *("one-line", "catalog", "shopify", "photos", "compare-models", "samples", "sprites"),
    }


@each_example
def test_an_editor_knows_its_language(example):
    first, second = example.read_text(encoding="utf-8").splitlines()[:2]
    assert first == SCHEMA
    assert second.startswith("# "), "the second line says what it shows"


@each_example
def test_is_valid_without_a_warning(examples, example):
    done = examples("validate", "--strict", f"jobs/{example.name}")
    assert (done.code, done.out) == (0, ""), done.err
    assert done.err.endswith(": valid\n")


@each_example
def test_costs_less_than_a_dollar(examples, example):
    done = examples("--service", "gemini", "plan", "--json", f"jobs/{example.name}")
    assert done.code == 0, done.err
    [plan] = done.json["jobs"]
    assert plan["counts"]["new"] == plan["requests"] == len(plan["items"]) > 0
    assert 0 < float(plan["cost"]["amount"]) < float(plan["cost"]["upper_bound"]) < 1


@each_example
def test_what_it_asks_is_what_the_api_knows(examples, example):
    done = examples("compile", f"jobs/{example.name}", "-o", "compiled")
    assert done.code == 0, done.err
    files = sorted((examples.folder / "compiled").glob("requests-*.jsonl"))
    lines = [json.loads(line) for file in files for line in file.read_bytes().split(b"\n") if line]
    assert lines
    assert [problem for line in lines for problem in problems(line)] == []
    assert len({line["key"] for line in lines}) == len(lines)


def test_all_of_them_render_what_was_asked(examples, monkeypatch):
    monkeypatch.setenv("PIPELINE_LOCAL_PICTURES", "plain")
    monkeypatch.setenv("PIPELINE_LOCAL_LATENCY", "0s")
    done = examples("--service", "local", "run", "--poll", "0.05s", "jobs")
    assert done.code == 0, done.err
    registry = models.load()
    for example in EXAMPLES:
        records = examples.records(example.stem)
        assert len(records) == IMAGES[example.stem]
        for record in records.values():
            _check(record, examples.outputs / example.stem, registry)
        named = {file["path"] for record in records.values() for file in record["files"]}
        assert named | {"manifest.jsonl", "manifest.csv"} == examples.tree(example.stem).keys()


# How many images each makes: counted by hand.
IMAGES = {"one-line": 1, "catalog": 9, "shopify": 6, "photos": 3, "compare-models": 6, "samples": 6, "sprites": 12}


def _check(record: dict, folder: Path, registry: models.Models) -> None:
    [file] = record["files"]
    content = (folder / file["path"]).read_bytes()
    assert (record["status"], record["service"], file["kind"]) == ("done", "local", "image")
    assert (file["bytes"], file["sha256"]) == (len(content), hashlib.sha256(content).hexdigest())
    with Image.open(folder / file["path"]) as image:
        assert (file["width"], file["height"]) == image.size
        assert file["mime"] == image.get_format_mimetype()
    settings = record["settings"]
    if settings["aspect"] != "auto":
        offered = registry.find(record["model"]).pixels(settings["aspect"], settings["size"])
        assert offered == (file["width"], file["height"])


def test_the_demo_is_one_of_them():
    demo = parse((ROOT / "jobs" / "catalog.yaml").read_text(encoding="utf-8"), "catalog.yaml").value
    assert "job" not in demo, "make demo says outputs/rehearsal/catalog/"
