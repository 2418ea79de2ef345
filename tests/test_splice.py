"""An output manifest of which few records have changed is copied around them, and has the bytes of one written anew."""

from __future__ import annotations

import errno
import os

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pipeline import journal as journals
from pipeline.outputs import (
    MANIFEST,
    TABLE,
    Tree,
    is_published,
    layout,
    manifest,
    read_manifest,
    splice,
    write_manifest,
)
from pipeline.record import dumps

TEXTS = ["a", 'a "quoted"\r\n"text","b"\r\n', "=1+1", "half a pair \ud800", "\u2028", "naïve, 大"]
VARS = [{"product": "mug"}, {"product": "mug", "colour": "blue"}, {"colour": "red", "product": "x"}, {}, None]
KEYS = [f"{row}/{axis}" for row in ("a", "b", "b-1", "é", "大", "z") for axis in ("1:1", "4:5")]
RECORD = st.tuples(st.sampled_from(TEXTS), st.sampled_from(VARS), st.booleans())
BEFORE = st.dictionaries(st.sampled_from(KEYS), RECORD, min_size=3, max_size=len(KEYS))
CHANGE = st.dictionaries(st.sampled_from(KEYS), st.none() | RECORD, max_size=4)


@pytest.fixture
def shop(tmp_path, monkeypatch):
    """A journal and the tree of its job; an output manifest is laid out in blocks of a record or two."""
    monkeypatch.setattr(layout, "SIZE", 900)
    with journals.opened(tmp_path / ".pipeline", outputs=tmp_path) as journal:
        with journal.transaction():
            journal.job("shop", "shop.yaml")
        yield journal, Tree(tmp_path, tmp_path / ".pipeline", "shop", journal)


def put(journal, key, what):
    text, variables, wanted = what
    told = {
        "key": key, "id": key.partition("/")[0], "item": key, "fingerprint": "f" * 64, "status": "done", "files": [],
        "settings": {"aspect": "1:1", "size": "1K"}, "prompt": text, "vars": variables, "model": "m",
    }  # fmt: skip
    journal.records.put(
        job="shop", key=key, fingerprint="f" * 64, wire_key=f"{key}~", model_id="m", path=key, status="done",
        place="tree" if wanted else "retired", wanted=int(wanted), service="local", attempts=1, answer_bytes=0,
        line=dumps(told),
    )  # fmt: skip


def take(journal, records):
    with journal.transaction():
        journal._db.execute("DELETE FROM record")
        for key, what in records.items():
            put(journal, key, what)


def change(journal, before, now):
    """Make the records what they are now, with those that differ at hand, and all others done."""
    keys = [key for key in {**before, **now} if before.get(key) != now.get(key)]
    journal.wanted.replace(())
    journal.others.leave("shop", keys, journals.Known({}))
    with journal.transaction():
        for key in keys:
            journal._db.execute("DELETE FROM record WHERE key = ?", (key,))
            if key in now:
                put(journal, key, now[key])
    assert journal.others.are_apart


def files(tree):
    return [path.read_bytes() for name in (MANIFEST, TABLE) if (path := tree.folder.path / name).exists()]


def anew(tree):
    for name in (MANIFEST, TABLE):
        (tree.folder.path / name).unlink(missing_ok=True)


@settings(suppress_health_check=list(HealthCheck), derandomize=True, deadline=None)
@given(before=BEFORE, changes=st.lists(CHANGE, min_size=1, max_size=3))
def test_whatever_changes_the_bytes_are_those_of_a_manifest_written_anew(shop, before, changes):
    journal, tree = shop
    anew(tree)
    take(journal, before)
    write_manifest(journal, tree)
    for differs in changes:
        now = {key: what for key, what in {**before, **differs}.items() if what is not None}
        change(journal, before, now)
        write_manifest(journal, tree)
        quick = files(tree)
        assert is_published(journal, tree.folder, "shop", journal.published("shop")) == bool(quick)
        assert not write_manifest(journal, tree), "it is there"
        anew(tree)
        manifest._publish(journal, tree)
        assert files(tree) == quick or not any(quick[:1]), "only what was published before is published empty"
        before = now


def test_of_few_changes_little_is_written_anew(shop, monkeypatch):
    journal, tree = shop
    before = {f"k-{number:03}": ("a", {"product": "mug"}, True) for number in range(200)}
    take(journal, before)
    write_manifest(journal, tree)
    monkeypatch.setattr(manifest, "_publish", lambda *_: pytest.fail("it was written anew"))
    taken = []
    real = layout.Laying.take
    monkeypatch.setattr(layout.Laying, "take", lambda self, line: (taken.append(line), real(self, line)))
    now = {**before, "k-100": ("b", {"product": "mug"}, True), "k-0005": ("c", {"product": "cup"}, True)}
    del now["k-150"]
    change(journal, before, now)
    assert write_manifest(journal, tree)
    assert len(taken) < 12
    assert files(tree)[0].count(b"\n") == 200
    assert not read_manifest(journal, tree, published=journal.published("shop"))
    change(journal, now, now)
    assert not write_manifest(journal, tree)


def edit(path):
    data = path.read_bytes()
    path.write_bytes(data[:-3] + b"xyz")


SPOILED = {
    "edited manifest": lambda tree: edit(tree.folder.path / MANIFEST),
    "edited table": lambda tree: edit(tree.folder.path / TABLE),
    "touched manifest": lambda tree: (tree.folder.path / MANIFEST).touch(),
    "another file": lambda tree: (tree.folder.path / MANIFEST).write_bytes(b""),
    "no table": lambda tree: (tree.folder.path / TABLE).unlink(),
    "no manifest": lambda tree: (tree.folder.path / MANIFEST).unlink(),
    "a link": lambda tree: (
        (tree.folder.path / TABLE).rename(tree.folder.path / "x"), (tree.folder.path / TABLE).symlink_to("x")
    ),
}  # fmt: skip


@pytest.mark.parametrize("spoil", SPOILED.values(), ids=SPOILED)
def test_a_file_that_is_not_what_was_written_last_is_written_anew(shop, spoil):
    journal, tree = shop
    before = {f"k-{number:03}": ("a", {"product": "mug"}, True) for number in range(40)}
    take(journal, before)
    write_manifest(journal, tree)
    now = {**before, "k-020": ("b", {"product": "mug"}, True)}
    spoil(tree)
    change(journal, before, now)
    assert write_manifest(journal, tree)
    quick = files(tree)
    anew(tree)
    write_manifest(journal, tree)
    assert files(tree) == quick


def test_a_layout_that_cannot_be_read_is_none(shop):
    journal, tree = shop
    before = {"a": ("a", {}, True), "b": ("b", {}, True)}
    take(journal, before)
    write_manifest(journal, tree)
    for told in ("", "[]", "{}", "[1,2,3,4]", '[[], 1, [], [["a", 1, 1, "", 0]]]'):
        with journal.transaction():
            journal.layouts.put("shop", told)
        now = {**before, "b": (told or "x", {}, True)}
        change(journal, before, now)
        assert write_manifest(journal, tree)
        before = now


def test_where_bytes_cannot_be_copied_within_the_kernel_they_are_read_and_written(shop, monkeypatch):
    def refused(*_args, **_given):
        raise OSError(errno.EXDEV, "another file system")

    journal, tree = shop
    before = {f"k-{number:03}": ("a", {"product": "mug"}, True) for number in range(40)}
    take(journal, before)
    write_manifest(journal, tree)
    now = {**before, "k-020": ("b", {"product": "mug"}, True)}
    change(journal, before, now)
    monkeypatch.setattr(os, "copy_file_range", refused)
    monkeypatch.setattr(splice.ranges, "PIECE", 100)
    assert write_manifest(journal, tree)
    quick = files(tree)
    anew(tree)
    write_manifest(journal, tree)
    assert files(tree) == quick
