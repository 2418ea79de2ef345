"""The output manifest as a table: all columns, whichever record has them first."""

from __future__ import annotations

import csv
import io
import json

from hypothesis import given
from hypothesis import strategies as st

from pipeline.outputs import layout, table


def record(key, **variables):
    told = dict.fromkeys(("id", "item", "reason", "model", "prompt", "at", "metadata", "cost"))
    return {**told, "key": key, "status": "done", "files": [], "settings": {}, "vars": variables or None}


def test_a_column_that_a_later_record_brings_is_there_for_all():
    records = [record("a", product="mug"), record("b"), record("c", colour="blue", product="=1+1")]
    header, *rows = csv.reader(io.StringIO(written(records).decode("utf-8-sig")))
    assert header[-2:] == ["product", "colour"]
    assert [row[-2:] for row in rows] == [["mug", ""], ["", ""], ["'=1+1", "blue"]]


def written(records):
    lines, rows = [json.dumps(one) for one in records], io.BytesIO()
    laying = layout.Laying(io.BytesIO(), rows)
    for line in lines:
        laying.take(line.encode() + b"\n")
    laying.end(iter(lines))
    return rows.getvalue()


def test_rows_with_fields_of_their_own_are_one_table(shop):
    shop.write("jobs/shop.yaml", 'prompt: "a [thing] [colour|]"\nitems: rows.jsonl\nchecks: {decode: false}\n')
    shop.write("jobs/rows.jsonl", '{"id": "a", "thing": "cup"}\n{"id": "b", "thing": "jug", "colour": "blue"}\n')
    assert shop("run", "jobs/shop.yaml", "--poll", "0.1s").code == 0
    text = (shop.outputs / "shop/manifest.csv").read_text(encoding="utf-8-sig")
    found = list(csv.DictReader(io.StringIO(text)))
    assert [(row["key"], row["thing"], row["colour"]) for row in found] == [("a", "cup", ""), ("b", "jug", "blue")]


def test_a_table_of_nothing_has_a_header():
    assert written([]).decode("utf-8-sig").startswith('"key","id"')


@given(cells=st.lists(st.text(st.characters(codec=None) | st.sampled_from("\",\r\n;'")), min_size=1, max_size=5))
def test_a_row_is_what_the_library_writes(cells):
    text = io.StringIO(newline="")
    csv.writer(text, quoting=csv.QUOTE_ALL, lineterminator="\r\n").writerow(cells)
    assert table._line(cells) == text.getvalue()


@given(cell=st.none() | st.integers() | st.text(st.characters() | st.sampled_from("=+-@\t\r\n\x1b\uff1d")))
def test_no_cell_is_a_formula_or_a_command(cell):
    [told] = table._cells({**record("a"), "key": cell}, ())[:1]
    assert told == table._defused(cell)
    assert told[:1] not in {*"=+-@\t\r\n\uff0b\uff0d\uff1d\uff20"}
    assert "\x1b" not in told
