"""Catalogs: rows in order, ids, filters; what is wrong is said by file, line and column, and nothing hangs."""

from __future__ import annotations

import os
import subprocess
import sys
import unicodedata
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jobs import complaints, expanded, loaded, requests_of, write

from pipeline.errors import JobError
from pipeline.job.unique import Marks, mark

APPAREL = Path(__file__).parent / "data" / "apparel.csv"


def ids(folder, items, catalog="", name="c.csv", prompt="x"):
    if catalog:
        write(folder, name, catalog)
    return [request.id for request in expanded(folder, f"prompt: {prompt}\nitems: {items}\n")]


def wrong(folder, items, catalog: str | bytes, name="c.csv", prompt="x"):
    write(folder, name, catalog)
    return complaints(folder, f"prompt: {prompt}\nitems: {items}\n")


@pytest.mark.parametrize(
    ("header", "first"),
    [
        ("name,id,sku", "i"),
        ("name,SKU,handle", "i"),
        ("name,Handle,x", "i"),
        ("name,ID ,x", "i"),
        ("name,product,x", "n"),
    ],
)
def test_the_id_is_id_else_sku_else_handle_else_the_first_column(tmp_path, header, first):
    assert ids(tmp_path, "c.csv", f"{header}\nn,i,s\n") == [first]


@pytest.mark.parametrize(
    ("items", "found"),
    [
        ("{csv: c.csv}", ["a", "b", "c"]),
        ("{csv: c.csv, limit: 2}", ["a", "b"]),
        ("{csv: c.csv, where: {kind: mug}}", ["a", "c"]),
        ("{csv: c.csv, where: {Kind: [mug, cup]}}", ["a", "b", "c"]),
        ("{csv: c.csv, where: {kind: {not: mug}}}", ["b"]),
        ("{csv: c.csv, where: {kind: {not: [mug, cup]}}}", []),
        ("{csv: c.csv, where: {stock: 0}}", ["b"]),
        ("{csv: c.csv, where: {stock: 1.50, kind: mug}}", ["a"]),
        ("{csv: c.csv, where: {kind: mug}, limit: 1}", ["a"]),
        ("{csv: c.csv, rename: {kind: type}, where: {type: cup}}", ["b"]),
        ('{csv: c.csv, id: "[kind]-[sku]"}', ["mug-a", "cup -b", "mug-c"]),
        ("{csv: c.csv, rename: {stock: id}, limit: 1}", ["1.50"]),
        ("{csv: c.csv, id: kind, unique: first}", ["mug", "cup"]),
        ("{csv: c.csv, id: kind, unique: first, where: {sku: [b, c]}, limit: 1}", ["cup"]),
    ],
)
def test_rows_are_renamed_then_filtered_then_named_then_unique_then_limited(tmp_path, items, found):
    assert ids(tmp_path, items, "sku,kind,stock\na,mug,1.50\nb, cup ,0\nc,mug,2\n") == found


def test_ids_are_trimmed_and_composed(tmp_path):
    decomposed = unicodedata.normalize("NFD", "café")
    assert ids(tmp_path, "c.csv", f"id\n  {decomposed}  \n") == ["café"]


@pytest.mark.parametrize(
    ("items", "name", "catalog"),
    [
        ("c.tsv", "c.tsv", "id\tname\na\tx, y\n"),
        ("{tsv: c.tsv}", "c.tsv", "id\tname\na\tx, y\n"),
        ('{csv: c.csv, delimiter: ";"}', "c.csv", "id;name\na;x, y\n"),
        ("c.csv", "c.csv", '\ufeffid,name\r\na,"x, y"\r\n'),
        ("c.csv", "c.csv", 'id,name\na,"x, y"\n\n'),
        ("{csv: c.csv, encoding: cp1252}", "c.csv", 'id,name\na,"x, y"\n'),
        ("{csv: c.csv, encoding: utf-16}", "c.csv", 'id,name\na,"x, y"\n'.encode("utf-16")),
        ("c.jsonl", "c.jsonl", '{"id": "a", "name": "x, y"}\n\n'),
        ("c.jsonl", "c.jsonl", '\ufeff{"id": "a", "name": "x, y"}'),
    ],
)
def test_every_kind_of_catalog_gives_the_same_row(tmp_path, items, name, catalog):
    write(tmp_path, name, catalog)
    [request] = expanded(tmp_path, f'prompt: "[name]"\nitems: {items}\n')
    assert (request.id, request.ask.prompt, request.vars) == ("a", "x, y", {"name": "x, y"})
    assert request.where.endswith(f"{name}:2" if not name.endswith("jsonl") else f"{name}:1")


def test_numbers_in_jsonl_keep_their_text(tmp_path):
    write(tmp_path, "c.jsonl", '{"id": 7, "price": 1.50, "big": 12345678901234567890123, "on": true, "none": null}\n')
    [request] = expanded(tmp_path, "prompt: '[price] [big] [on] [none|-]'\nitems: c.jsonl\n")
    assert (request.id, request.ask.prompt) == ("7", "1.50 12345678901234567890123 true -")


def test_a_row_of_many_lines_is_named_by_its_first(tmp_path):
    write(tmp_path, "c.csv", 'id,text\na,"one\ntwo"\nb,x\n')
    requests = expanded(tmp_path, "prompt: '[text]'\nitems: c.csv\n")
    assert [(request.ask.prompt, request.where.rpartition(":")[2]) for request in requests] == [
        ("one\ntwo", "2"),
        ("x", "4"),
    ]


@pytest.mark.parametrize("text", ["=1+1", "<script>", "[x]", "[[x]]", "%s", "{x}", "a\u202eb", "\u0007"])
def test_data_stays_literal(tmp_path, text):
    write(tmp_path, "c.csv", f"id,text\na,{text}\n")
    [request] = expanded(tmp_path, "prompt: '<[text]>'\nitems: c.csv\n")
    assert request.ask.prompt == f"<{text}>"


@pytest.mark.parametrize(
    ("catalog", "complaint"),
    [
        pytest.param("", "c.csv:1:1: is empty", id="empty"),
        pytest.param("\n\nid\na", "c.csv:1:1: the first line is empty", id="no header"),
        pytest.param("id,,x\na,b,c", "c.csv:1:1: column 2 has no name", id="empty column name"),
        pytest.param(
            "id,a,A \n1,2,3", "c.csv:2:1: columns 'a' and 'A' are the same (names compare as 'a')", id="twice"
        ),
        pytest.param("id,set.size\na,2K", "column 'set.size' is not supported yet by this version", id="set"),
        pytest.param("id;name\na;b", "one column 'id;name' (is it separated otherwise? say delimiter: \";\")", id=";"),
        pytest.param("id\tname\na\tb", 'say delimiter: "\\t")', id="tab"),
        pytest.param("id,name\na", "c.csv:2:1: 1 cell, but the header names 2 columns", id="short row"),
        pytest.param("id,name\na,b\nc,d,e", "c.csv:3:1: 3 cells, but the header names 2 columns", id="long row"),
        pytest.param('id,name\na,b\nc,"d\n', "c.csv:3:1: a quote is opened in this row and never closed", id="quote"),
        pytest.param('id,name\na,"b"c\n', "c.csv:2:1: text after a closing quote", id="text after quote"),
        pytest.param("id\na\0b", "c.csv:2:2: a NUL character", id="NUL"),
        pytest.param(b"id\na\nb\xe9\n", "c.csv:3:2: byte 0xe9 is not UTF-8", id="latin-1"),
        pytest.param("id\na\n".encode("utf-16"), "c.csv:0:0: is UTF-16", id="utf-16"),
        pytest.param("id,name\n,b", "c.csv:2:1: the id (column 'id') is empty", id="empty id"),
        pytest.param("id,name\n  ,b", "c.csv:2:1: the id (column 'id') is empty", id="blank id"),
        pytest.param("id\na\x1b[31m", "c.csv:2:1: the id 'a\\x1b[31m' holds a control character", id="ESC in id"),
        pytest.param("id\na\u202eb", "c.csv:2:1: the id 'a\\u202eb' holds a control character", id="bidi in id"),
        pytest.param("id\na\nb\na", "c.csv:4:1: the id 'a' is there already, in ", id="duplicate id"),
        pytest.param("id\né\ne\u0301", "c.csv:3:1: the id 'é' is there already, in ", id="duplicate by form"),
        pytest.param("id\na\nA", "have the same path 'a'", id="same path by case"),
        pytest.param("id\na b\na-b", "have the same path 'a-b'", id="same path"),
        pytest.param("id\ngallery", "the path 'gallery' of 'gallery' is reserved", id="gallery"),
        pytest.param("id\nProof", "the path 'proof' of 'Proof' is reserved", id="proof"),
        pytest.param("id\nmanifest", "is reserved: manifest.jsonl is the product's own file", id="manifest"),
    ],
)
def test_what_is_wrong_in_a_csv_is_said_with_its_place(tmp_path, catalog, complaint):
    found = wrong(tmp_path, "c.csv", catalog)
    assert len(found) == 1, found
    assert complaint in found[0]


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        pytest.param("[1]", "a row is an object", id="list"),
        pytest.param("7", "a row is an object", id="number"),
        pytest.param('{"id": "b"', "is not JSON: Expecting ',' delimiter", id="cut"),
        pytest.param('{"id": NaN}', "NaN is not JSON", id="NaN"),
        pytest.param('{"id": -Infinity}', "-Infinity is not JSON", id="infinity"),
        pytest.param('{"id": "b", "x": {"y": 1}}', "'x' is an object; a row holds texts", id="nested"),
        pytest.param('{"id": "b", "x": [1]}', "'x' is a list; a row holds texts", id="list in row"),
        pytest.param('{"id": "b", "id": "c"}', "columns 'id' and 'id' are the same", id="twice"),
        pytest.param('{"id": "b\\ud800"}', "half a surrogate pair", id="surrogate"),
        pytest.param('{"id": "b\\u0000"}', "a NUL character", id="NUL"),
        pytest.param('{"x": ' + "[" * 200_000, "nested too deep", id="deep"),
        pytest.param("{}", "the id is empty", id="nothing"),
    ],
)
def test_what_is_wrong_in_jsonl_is_said_and_the_rest_read(tmp_path, line, complaint):
    found = wrong(tmp_path, "c.jsonl", f'{{"id": "a"}}\n{line}\n{{"id": "a"}}\n', name="c.jsonl")
    assert complaint in found[0]
    assert found[0].startswith("c.jsonl:2:1: ")
    assert found[1].startswith("c.jsonl:3:1: the id 'a' is there already")


@pytest.mark.parametrize(
    ("items", "complaint"),
    [
        ("none.csv", "2:8: there is no file"),
        ("dir.csv", "is a folder, not a file"),
        ("pipe.csv", "is a pipe, not a file"),
        ("{csv: /dev/zero}", "is a device or socket, not a file"),
        ("{jsonl: pipe.csv}", "is a pipe, not a file"),
        ("'none/*.jpg'", "no file matches"),
        ("{csv: c.csv, id: skuu}", "id: there is no column 'skuu'; did you mean 'sku'?"),
        ("{csv: c.csv, where: {knd: x}}", "where: there is no column 'knd'; did you mean 'kind'?"),
        ("{csv: c.csv, rename: {knd: x}}", "rename: there is no column 'knd'; did you mean 'kind'?"),
        ("{csv: c.csv, rename: {kind: sku}}", "columns 'sku' and 'sku' are the same"),
        ('{csv: c.csv, id: "[sk]"}', "id: [sk] is unknown; did you mean 'sku'?"),
    ],
)
def test_a_source_that_cannot_be_read_is_refused_where_it_is_named(tmp_path, items, complaint):
    (tmp_path / "dir.csv").mkdir()
    os.mkfifo(tmp_path / "pipe.csv")
    found = wrong(tmp_path, items, "sku,kind\na,mug\n")
    assert len(found) == 1
    assert complaint in found[0]


def test_a_file_that_is_all_one_line_is_refused_without_reading_it_whole(tmp_path):
    with (tmp_path / "c.csv").open("wb") as stream:
        stream.truncate(10_000_000_000)
    assert "c.csv:1:1: a NUL character" in complaints(tmp_path, "prompt: x\nitems: c.csv\n")[0]
    write(tmp_path, "d.csv", "id\n" + "x" * 5_000_000)
    assert "d.csv:2:1: a line of more than 4,000,000" in complaints(tmp_path, "prompt: x\nitems: d.csv\n")[0]


def test_a_long_cell_is_a_cell(tmp_path):
    write(tmp_path, "c.csv", f"id,text\na,{'x' * 200_000}\n")
    assert len(expanded(tmp_path, "prompt: '[text]'\nitems: c.csv\n")[0].ask.prompt) == 200_000


def test_a_catalog_that_changes_while_it_is_read_is_refused(tmp_path):
    catalog = write(tmp_path, "c.csv", "id\n" + "\n".join(map(str, range(1000))))
    requests = requests_of(loaded(tmp_path, "prompt: x\nitems: c.csv\n"))
    next(requests)
    with catalog.open("a") as stream:
        stream.write("\nlast\n")
    with pytest.raises(JobError, match="changed while it was read"):
        list(requests)


def test_a_header_without_rows_is_noted(tmp_path):
    warnings: list[str] = []
    write(tmp_path, "c.csv", "id,name\n")
    assert expanded(tmp_path, "prompt: x\nitems: c.csv\n", warnings=warnings) == []
    assert warnings == ["no row is left: the job asks for nothing"]


def test_problems_are_found_in_all_rows_and_told_up_to_fifty(tmp_path):
    rows = "\n".join(f"{number}," for number in range(120))
    found = wrong(tmp_path, "c.csv", f"id,name\n{rows}\n", prompt="'[name]'")
    assert len(found) == 51
    assert sum("[name] is empty in this row" in line for line in found) == 50
    assert sum("70 more problems like these" in line for line in found) == 1


def test_a_real_export_of_a_shop_is_read(tmp_path):
    requests = expanded(
        tmp_path,
        f"""
        prompt: Studio photo of the [Title] on white
        items: {{csv: {APPAREL}, unique: first}}
        matrix: {{aspect: [1:1, 4:5]}}
        """,
    )
    assert len(requests) == 2 * 20
    assert requests[0].key == "ocean-blue-shirt/1:1"
    assert requests[1].path == "ocean-blue-shirt-4x5"
    assert requests[0].ask.prompt == "Studio photo of the Ocean Blue Shirt on white"
    assert (
        requests[0].where == f"{APPAREL.relative_to(Path.cwd()) if APPAREL.is_relative_to(Path.cwd()) else APPAREL}:2"
    )
    assert requests[0].vars["Option1 Value"] == "Default Title"
    assert "Handle" not in requests[0].vars
    assert "Option2 Name" not in requests[0].vars


def test_without_unique_the_variants_of_a_product_are_duplicates(tmp_path):
    found = complaints(tmp_path, f"prompt: x\nitems: {APPAREL}\n")
    assert any("the id 'classic-varsity-top' is there already" in line for line in found)
    assert any("to keep the first row of each id say unique: first" in line for line in found)


STREAM = """
import resource, sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from jobs import FakeModels, TODAY
from pipeline.job.expand import expand
from pipeline.job.language import load
import jsonschema
job = load(Path(sys.argv[2]), root=Path(sys.argv[2]).parent)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
count = sum(1 for _ in expand(job, models=FakeModels(), today=TODAY, warn=print))
print(count, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


def test_a_hundred_thousand_rows_stream(tmp_path):
    with (tmp_path / "c.csv").open("w") as stream:
        stream.write("sku,product,text\n")
        stream.writelines(f"sku-{number:06},mug number {number},{'x' * 100}\n" for number in range(100_000))
    job = write(tmp_path, "job.yaml", "prompt: a [product], [text]\nitems: c.csv\nmatrix: {aspect: [1:1, 4:5]}\n")
    command = [sys.executable, "-c", STREAM, str(Path(__file__).parent), str(job)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    count, grown_kib = map(int, done.stdout.split())
    assert count == 200_000
    assert grown_kib < 40_000


def test_marks_find_what_came_twice_and_nothing_else():
    marks = Marks()
    for text in [*map(str, range(10_000)), "77", "99", "77"]:
        marks.add(text)
    assert marks.twice() == {mark("77"), mark("99")}


@given(st.lists(st.text(max_size=2)))
def test_marks_agree_with_counting(texts):
    marks = Marks()
    for text in texts:
        marks.add(text)
    assert marks.twice() == {mark(text) for text in texts if texts.count(text) > 1}
