"""A job at rest of which some rows are under way: its others are left alone, and all ends as if they were not."""

from __future__ import annotations

import json
import sqlite3

import pytest
import test_unchanged
from hypothesis import HealthCheck, given, settings
from jobs import JPEG
from test_unchanged import EDITS, PLAN, RUN, changed, edit, edited, is_quick, many, rest, slowly, sql, the_same, told

from pipeline.cli import noting, resting
from pipeline.job import blocks
from pipeline.rest import Rest

catalog, compared = test_unchanged.catalog, test_unchanged.compared


def under_way(project):
    [text] = told(project) or ["{}"]
    return json.loads(text).get("under_way")


def test_what_is_under_way_is_collected_without_a_look_at_all_other_rows(catalog, compared, service, monkeypatch):
    rows = [*many(), "new,blue mug\n"]
    rows[7] = "p07,red mug\n"
    del rows[2]
    changed(catalog, rows)
    assert is_quick(catalog, compared, "submit", "jobs/shop.yaml")[1]
    assert {"p07", "new", "p02"} <= set(under_way(catalog))
    the_same(catalog, monkeypatch)
    for words in (("collect", "jobs/shop.yaml"), ("submit", "jobs/shop.yaml"), RUN):
        ended, was_quick = is_quick(catalog, compared, *words)
        assert was_quick, words
        assert ended.code == 0
    assert under_way(catalog) == []
    assert "32 done" in ended.err
    quick, was_quick = is_quick(catalog, compared, *PLAN, "--json")
    assert was_quick
    assert quick.json["jobs"][0]["counts"]["gone"] == 2
    the_same(catalog, monkeypatch)
    changed(catalog, many())
    the_same(catalog, monkeypatch)


def test_rows_that_change_while_others_are_under_way_are_compared_with_these_alone(catalog, compared, monkeypatch):
    rows = many()
    rows[7] = "p07,red mug\n"
    for change in ("p03,green mug\n", "p07,yellow mug\n"):
        changed(catalog, rows)
        assert is_quick(catalog, compared, "submit", "jobs/shop.yaml")[1]
        rows[int(change[1:3])] = change
        changed(catalog, rows)
        assert is_quick(catalog, compared, *PLAN)[1]
        the_same(catalog, monkeypatch)
    assert is_quick(catalog, compared, *RUN, "--yes")[1]
    the_same(catalog, monkeypatch)
    records = catalog.records()
    assert (records["p07/1:1"]["vars"]["product"], records["p03/1:1"]["status"]) == ("yellow mug", "done")


def test_rows_that_are_under_way_and_not_there_any_more_are_compared_with_all(catalog, compared, monkeypatch):
    rows = [*many(), "new,blue mug\n"]
    rows[7] = "p07,red mug\n"
    for back in (many(), many()[:-1]):
        changed(catalog, rows)
        assert catalog("submit", "jobs/shop.yaml").code == 0
        changed(catalog, back)
        the_same(catalog, monkeypatch)
        assert catalog(*RUN, "--yes").code == 0
        rest(catalog)


def test_what_was_copied_around_changed_records_is_verified_as_ever(catalog, compared):
    submitted(catalog)
    assert catalog("verify").code == 0
    assert is_quick(catalog, compared, *RUN)[1]
    assert catalog("verify").code == 0
    path = catalog.outputs / "shop/manifest.jsonl"
    lines = path.read_text().splitlines(keepends=True)
    path.write_text("".join(lines[:-1]))
    assert catalog("collect", "jobs/shop.yaml").code == 0
    assert path.read_text() == "".join(lines)
    sql("UPDATE record SET line = replace(line, 'mug', 'cup') WHERE key = 'p03/1:1'")(catalog)
    assert "stale" in catalog("verify", "--json").out


def test_sidecars_of_what_was_under_way_are_known_to_be_there(catalog, compared, monkeypatch):
    catalog.write("jobs/shop.yaml", (catalog.folder / "jobs/shop.yaml").read_text() + "output: {sidecar: true}\n")
    assert catalog(*RUN, "--yes").code == 0
    rest(catalog, "again")
    submitted(catalog)
    for words in (("collect", "jobs/shop.yaml"), PLAN, RUN):
        assert is_quick(catalog, compared, *words)[1], words
    assert json.loads((catalog.outputs / "shop/p07-1x1.json").read_text())["vars"]["product"] == "red mug"
    the_same(catalog, monkeypatch)


# ------------------------------------------------------------------------------------- as if all had been compared


def note(project):
    """What is written down of the job, and the bytes of its catalog in blocks."""
    path = project.outputs / ".pipeline/journal.db"
    with sqlite3.connect(f"file:{path}?mode=ro", uri=True) as db:
        told, rows = db.execute("SELECT told, rows FROM rest").fetchone()
    return json.loads(told), sum(block.size for block in blocks.Catalog.loads(rows).blocks) if rows else None


def slow_note(project, monkeypatch):
    """The same once all of the job has been compared."""
    sql("DELETE FROM rest")(project)
    assert slowly(project, monkeypatch, "submit", "jobs/shop.yaml").code == 0
    return note(project)


def in_essence(told):
    """A note but for what may differ: how a manifest was written, and when a file was touched that is what it was."""
    assert all(len(seen) == 6 for seen in told["sources"]["files"].values())
    files = {path: (kind, size, digest) for path, (kind, size, _, _, _, digest) in told["sources"]["files"].items()}
    return {**told, "published": None, "sources": {**told["sources"], "files": files}}


def files(project):
    return [(project.outputs / "shop" / name).read_bytes() for name in ("manifest.jsonl", "manifest.csv")]


@settings(max_examples=settings.default.max_examples // 10, suppress_health_check=list(HealthCheck), derandomize=True)
@given(edits=EDITS)
def test_whatever_becomes_of_rows_all_that_is_left_is_what_comparing_all_of_it_leaves(catalog, monkeypatch, edits):
    rest(catalog)
    changed(catalog, edited(edits))
    assert catalog("submit", "jobs/shop.yaml", "--max-cost", "5").code in {0, 2, 5}
    the_same(catalog, monkeypatch)
    ended = catalog(*RUN, "--yes")
    if ended.code:  # no catalog, or nothing that can be asked for
        return
    if told(catalog) and not under_way(catalog):
        quick, size = note(catalog)
        assert size in {None, (catalog.folder / "jobs/products.csv").stat().st_size - len("id,product\n")}
        slow, _size = slow_note(catalog, monkeypatch)
        assert in_essence(quick) == in_essence(slow)
    there = files(catalog)
    for name in ("manifest.jsonl", "manifest.csv"):
        (catalog.outputs / "shop" / name).unlink()
    assert slowly(catalog, monkeypatch, "submit", "jobs/shop.yaml").code == 0
    assert files(catalog) == there


# --------------------------------------------------------------------------------------------- what defeats it


def submitted(project, product="red mug"):
    rows = [*many(), "new,blue mug\n"]
    rows[7] = f"p07,{product}\n"
    changed(project, rows)
    assert project("submit", "jobs/shop.yaml").code == 0
    assert under_way(project)


MEDDLING = {
    "edited output": edit("p03-1x1.jpg"),
    "edited output of a row under way": edit("p07-1x1.jpg"),
    "deleted output": lambda project: (project.outputs / "shop/p03-4x5.jpg").unlink(),
    "added output": lambda project: (project.outputs / "shop/other.jpg").write_bytes(JPEG),
    "edited manifest": lambda project: (project.outputs / "shop/manifest.jsonl").write_text("{}\n"),
    "edited table": lambda project: (project.outputs / "shop/manifest.csv").write_text("\n"),
    "template": lambda project: project.write(
        "jobs/shop.yaml", (project.folder / "jobs/shop.yaml").read_text() + " \n"
    ),
    "record": sql("UPDATE record SET status = 'failed' WHERE key = 'p03/1:1'"),
    "file": sql("UPDATE file SET sha256 = 'x' WHERE path = 'p03-1x1.jpg'"),
    "published": sql("UPDATE job SET published = 'x'"),
    "kept answer": lambda project: (project.outputs / ".pipeline/answers/shop/a-1-gemini.jsonl").write_bytes(b""),
}


@pytest.mark.some(5)
@pytest.mark.parametrize("name", MEDDLING)
def test_every_change_has_all_of_a_job_compared_that_is_under_way(catalog, compared, monkeypatch, name):
    submitted(catalog)
    MEDDLING[name](catalog)
    quick, was_quick = is_quick(catalog, compared, *PLAN)
    assert not was_quick
    assert quick == slowly(catalog, monkeypatch, *PLAN)
    assert not is_quick(catalog, compared, "collect", "jobs/shop.yaml")[1]


@pytest.mark.some(4)
@pytest.mark.parametrize("verb", ["collect", "run"])
@pytest.mark.parametrize(
    "name", [name for name in MEDDLING if "output" in name or "manifest" in name or "table" in name]
)
def test_what_is_changed_while_a_call_is_at_work_is_seen_by_the_next(catalog, compared, monkeypatch, name, verb):
    submitted(catalog)
    real = noting.note

    def meddled(*args):
        MEDDLING[name](catalog)
        real(*args)

    with monkeypatch.context() as patch:
        patch.setattr(noting, "note", meddled)
        was_quick = is_quick(catalog, compared, verb, "jobs/shop.yaml", *(RUN[2:] if verb == "run" else ()))[1]
    assert was_quick
    quick, was_quick = is_quick(catalog, compared, *PLAN)
    assert was_quick == ("under way" in name), "by size and time it is what was published: all compared say so, too"
    assert quick == slowly(catalog, monkeypatch, *PLAN)


def test_calls_of_another_kind_compare_all_of_what_is_under_way(catalog, compared):
    for words in (
        ("cancel", "jobs/shop.yaml", "--yes"),
        ("collect", "jobs/shop.yaml", "--recover"),
        ("--select", "id:new", "submit", "jobs/shop.yaml", "--max-cost", "1"),
        ("--select", "id:new", "submit", "jobs/shop.yaml", "--force", "--max-cost", "1"),
        ("retry", "jobs/shop.yaml", "--poll", "0.05s"),
    ):
        submitted(catalog, f"mug of {words}".replace(",", "").replace('"', ""))
        ended, was_quick = is_quick(catalog, compared, *words)
        assert not was_quick, (words, ended)
        assert catalog(*RUN).code == 0
        rest(catalog)


@pytest.mark.some(3)
@pytest.mark.parametrize(
    "at", ["commit:after:1", "commit:after:3", "replace:before:2", "replace:after:2", "commit:after:6", "fill:after:2"]
)
def test_a_collect_of_what_is_under_way_that_is_killed_has_all_of_it_in_the_end(catalog, service, monkeypatch, at):
    submitted(catalog)
    bought = sum(entry["requests"] for entry in service.ledger("batches.create"))
    catalog.forked("collect", "jobs/shop.yaml", at=at)
    the_same(catalog, monkeypatch)
    ended = catalog(*RUN)
    assert ended.code == 0, ended
    assert sum(entry["requests"] for entry in service.ledger("batches.create")) == bought
    assert {record["status"] for record in catalog.records().values()} == {"done"}
    rest(catalog)
    the_same(catalog, monkeypatch)


def test_a_note_of_what_is_under_way_comes_back_as_it_was_written(catalog):
    submitted(catalog)
    [text] = told(catalog)
    assert Rest.loads(text).dumps() == text
    assert not resting.are_unchanged([Rest.loads(text)], None)
