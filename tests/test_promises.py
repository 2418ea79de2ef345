"""The promise, whole: killed after any step and run again, it ends the same, and the service's ledger shows that
nothing was paid for twice."""

from __future__ import annotations

import hashlib
import json
import shutil
from typing import TYPE_CHECKING

import pytest
from conftest import PRODUCTS, Service
from crashing import Case

from pipeline import local

if TYPE_CHECKING:
    from pathlib import Path

# Two batches, so that a kill can fall between them. Decoding writes nothing down where all is well, and takes long.
JOB = """\
checks: {decode: false}
prompt: Studio photo of a [product] on white marble.
items: products.csv
matrix:
  aspect: [1:1, 4:5]
batch: {max_requests: 4}
"""
# Every kind of file, and a record beside each result.
RICH = """\
prompt: A [product] in two steps
items: [{id: mug, product: blue mug}, {id: bowl, product: sand bowl}]
response: [text, image]
thoughts: true
output: {sidecar: true}
"""
ARGUMENTS = ("run", "jobs/shop.yaml", "--poll", "0.1s", "--wait", "30s")


def run(folder, url, at="", log=""):
    """Its exit code; -9 when it was killed."""
    return Case(folder, url, folder).run(*ARGUMENTS, at=at, log=str(log))


def start(folder: Path, job: str = JOB) -> Path:
    (folder / "jobs").mkdir(parents=True)
    (folder / "jobs/shop.yaml").write_text(job)
    (folder / "jobs/products.csv").write_text(PRODUCTS)
    return folder


def outcome(folder: Path) -> tuple[dict[str, bytes], dict[str, str]]:
    """What a run leaves behind, apart from times and names the service gave."""
    top = folder / "outputs/shop"
    pictures = {path.name: path.read_bytes() for path in top.rglob("*") if path.suffix in {".jpg", ".md"}}
    records = [json.loads(line) for line in (top / "manifest.jsonl").read_text().splitlines()]
    assert [record["key"] for record in records] == sorted({record["key"] for record in records})
    for record in records:
        for file in record["files"]:
            assert hashlib.sha256(pictures[file["path"]]).hexdigest() == file["sha256"]
    litter = [path for path in (folder / "outputs").rglob("*") if path.name.endswith(".part")]
    assert not [path for path in litter if ".pipeline" not in path.parts], "a run sweeps what a killed one left"
    return pictures, {record["key"]: record["status"] for record in records}


@pytest.fixture(scope="module")
def clean(tmp_path_factory):
    """The outcome of a run that nobody disturbs."""
    folder = start(tmp_path_factory.mktemp("clean") / "project")
    with local.serving(tmp_path_factory.mktemp("clean-service"), latency_s=0.0, pictures="plain") as url:
        assert run(folder, url) == 0
        assert len(Service(url).ledger()) == 2
    return outcome(folder)


def history(top: Path, point: str = "") -> list[tuple[dict[str, bytes], dict[str, str]]]:
    """Bought, cloned and renamed, bought anew, and the first ask again: what each leaves, killed at a point of each."""
    folder = start(top / "project", RICH)
    renamed, anew = RICH.replace("id: mug", "id: cup"), RICH.replace("in two", "in several")
    seen = []
    with local.serving(top / "service", latency_s=0.0, pictures="plain") as url:
        for job in (RICH, renamed, anew, RICH):
            (folder / "jobs/shop.yaml").write_text(job)
            if job == renamed:
                shutil.rmtree(folder / "outputs/.pipeline")
            codes = [run(folder, url, at=point)] if point else [4]
            while codes[-1] in {-9, 4} and len(codes) < 6:
                codes.append(run(folder, url))
            assert codes[-1] == 0, codes
            files = folder / "outputs/shop"
            lines = (files / "manifest.jsonl").read_text().splitlines(keepends=True)
            beside = {json.loads(line)["files"][0]["path"].replace(".jpg", ".json"): line for line in lines}
            assert {path.name: path.read_text() for path in files.glob("*.json")} == beside
            seen.append(outcome(folder))
        assert len(Service(url).ledger()) == 2
    return seen


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    return history(tmp_path_factory.mktemp("undisturbed"))


@pytest.mark.slow
@pytest.mark.parametrize(
    "point",
    [
        *("publish:renamed:4", "publish:after:1", "move:after:6", "replace:after:1"),
    ],
)
@pytest.mark.some("publish:renamed:4")
def test_killed_between_the_files_of_an_answer_and_run_again_all_of_them_are_there(undisturbed, tmp_path, point):
    assert [len(files) for files, _statuses in undisturbed] == [10, 10, 15, 10], "a name that is gone keeps its files"
    assert history(tmp_path, point) == undisturbed


@pytest.mark.some("create:after:1")
@pytest.mark.parametrize("point", ["create:after:1", "move:after:1", "publish:renamed:2", "commit:before:6"])
def test_killed_in_the_recovery_too(clean, tmp_path, point):
    """The run that makes up for a kill is killed as well, at each of its own points around a create."""
    base = start(tmp_path / "base")
    with local.serving(tmp_path / "service", latency_s=0.0, pictures="plain") as url:
        assert run(base, url, at=point) == -9
        for again in ("commit:after:1", "commit:after:3", "create:after:1", "publish:after:1", "replace:before:2"):
            run(base, url, at=again)
        codes = [run(base, url)]
        while codes[-1] == 4 and len(codes) < 5:
            codes.append(run(base, url))
        assert codes[-1] == 0
        assert outcome(base) == clean
        assert len(Service(url).ledger()) == 2


@pytest.mark.slow
def test_a_change_of_mind_between_a_kill_and_the_next_run_ends_as_it_should(tmp_path):
    """Killed when the new pictures had their names and no row knew it; then the old ones are wanted again."""
    folder = start(tmp_path / "project")
    with local.serving(tmp_path / "service", latency_s=0.0, pictures="plain") as url:
        assert run(folder, url) == 0
        before = outcome(folder)
        (folder / "jobs/products.csv").write_text(PRODUCTS.replace("blue", "red").replace("sand", "moss"))
        assert run(folder, url, at="publish:after:1") == -9
        (folder / "jobs/products.csv").write_text(PRODUCTS)
        codes = [run(folder, url) for _ in range(3)]
        assert codes[-1] == 0
        assert outcome(folder) == before
        created = len(Service(url).ledger())
        (folder / "jobs/products.csv").write_text(PRODUCTS.replace("blue", "red").replace("sand", "moss"))
        assert run(folder, url) == 0
        assert len(Service(url).ledger()) == created, "they were paid for: they come back"
