"""What changed in a catalog is found block by block, and is what reading all of it finds."""

from __future__ import annotations

import csv
import io
import json
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.job.blocks import Catalog, OddError, changed, cut

HEADER = "id,text\r\n"
TEXTS = st.text(st.sampled_from('ab,"\r\n é'), max_size=6).map(lambda text: text.replace("\r", "\r\n"))


def written(rows, *, ends=True):
    out = io.StringIO()
    csv.writer(out).writerows(rows)
    data = (HEADER + out.getvalue()).encode()
    return data if ends else data.removesuffix(b"\r\n")


def rows_of(data):
    """The rows of a file with the lines they start in, as the csv module reads all of it."""
    reader = csv.reader(io.StringIO(data.decode(), newline=""), strict=True)
    next(reader)
    found, line = [], reader.line_num + 1
    for row in reader:
        if row:
            found.append((line, row))
        line = reader.line_num + 1
    return found


def cut_up(data, size):
    blocks = cut(io.BytesIO(data), ",", [(line, row[0]) for line, row in rows_of(data)], rows_of_block=size)
    assert Catalog.loads(blocks.dumps()) == blocks
    return blocks


def merged(before, after, change):
    """The rows of before without those that were left, and with those that came, in the order of now."""
    there = [row for _line, row in rows_of(before)]
    for one in change.ids:
        there.remove(next(row for row in there if row[0] == one))
    came = [row for _line, row in rows_of(change.rows)] if change.number else []
    assert sorted(there + came) == sorted(row for _line, row in rows_of(after))
    return came


def wanted(change):
    return [(line, row[0]) for line, row in rows_of(change.rows)] if change.number else []


def holds(catalog, data):
    """Whether a catalog in blocks is that of a file: the same as one that is cut anew at the same places."""
    assert Catalog.loads(catalog.dumps()) == catalog
    known, at, line = dict(rows_of(data)), len(HEADER), 2
    for block in catalog.blocks:
        part = data[at : at + block.size]
        [again] = cut(io.BytesIO(HEADER.encode() + part), ",", [], rows_of_block=10_000).blocks
        end = line + part.count(b"\n") + (not part.endswith(b"\n"))
        ids = [row[0] for number, row in known.items() if line <= number < end]
        assert block == again._replace(line=line, ids=block.ids)
        assert json.loads(zlib.decompress(block.ids)) == ids
        at, line = at + block.size, end
    assert (at, catalog.is_ended) == (len(data), data.endswith(b"\n"))
    assert not changed(catalog, io.BytesIO(data), ",").ids


ROWS = st.lists(TEXTS, max_size=30).map(lambda texts: [(f"r{n}", text) for n, text in enumerate(texts)])
EDITS = st.lists(st.tuples(st.sampled_from("ard"), st.integers(0, 30), TEXTS), max_size=4)


@given(rows=ROWS, edits=EDITS, size=st.integers(1, 5), ends=st.booleans(), still_ends=st.booleans())
def test_what_changed_is_what_reading_all_of_it_finds(rows, edits, size, ends, still_ends):
    after = list(rows)
    for number, (kind, place, text) in enumerate(edits):
        if kind == "a":
            after.insert(place, (f"n{number}", text))
        elif place < len(after):
            after[place : place + 1] = [(after[place][0], text)] if kind == "r" else []
    before, now = written(rows, ends=ends), written(after, ends=still_ends)
    change = changed(cut_up(before, size), io.BytesIO(now), ",")
    if now.startswith(HEADER.encode()):
        merged(before, now, change)
        if rows or ends or not change.number:
            holds(change.now(cut_up(before, size), wanted(change), rows_of_block=size), now)
    if before == now:
        assert not change.number
        assert change.ids == []


def test_one_changed_row_costs_its_block():
    rows = [(f"r{n}", f"text {n}") for n in range(1000)]
    before = written(rows)
    blocks = cut_up(before, 10)
    rows[555] = ("r555", "another")
    change = changed(blocks, io.BytesIO(written(rows)), ",")
    assert change.number == 10
    assert change.ids == [f"r{n}" for n in range(550, 560)]
    rows.insert(0, ("new", "first"))
    change = changed(blocks, io.BytesIO(written(rows)), ",")
    assert change.number == 11
    assert ["new", "first"] in merged(before, written(rows), change)


def test_a_last_row_that_goes_on_is_another_row():
    before = written([("a", "x"), ("b", "y")], ends=False)
    change = changed(cut_up(before, 1), io.BytesIO(before + b"z\r\n"), ",")
    assert [row for _line, row in rows_of(change.rows)] == [["b", "yz"]]
    assert change.ids == ["b"]


def test_another_header_is_another_catalog():
    before = written([("a", "x")])
    assert changed(cut_up(before, 1), io.BytesIO(before.replace(b"text", b"word")), ",") is None


@pytest.mark.parametrize("row", [b"a,x\ry\n", b"a,x\0\n", b"a,\xff\n", b'a,"x\n', b'a,"x"y\n'])
def test_what_is_read_otherwise_is_not_cut(row):
    with pytest.raises((OddError, csv.Error, UnicodeError)):
        cut(io.BytesIO(HEADER.encode() + row), ",", [])
    before = cut_up(written([("b", "y")]), 1)
    with pytest.raises((OddError, csv.Error, UnicodeError)):
        changed(before, io.BytesIO(HEADER.encode() + row), ",")
