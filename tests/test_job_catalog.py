"""Catalogs: rows in order, ids, filters; what is wrong is said by file, line and column, and nothing hangs."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
import unicodedata
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jobs import PNG, complaints, expanded, loaded, requests_of, write

from pipeline.errors import JobError
from pipeline.job import columns, sources
from pipeline.job.items import Items
from pipeline.job.items import rows as rows_of
from pipeline.job.problems import Place, Problems, Source
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
        pytest.param("id,,x\na,b,c", "c.csv:1:4: column 2 has no name", id="empty column name"),
        pytest.param(
            "id,a,A \n1,2,3", "c.csv:1:6: columns 'a' and 'A' are the same (names compare as 'a')", id="twice"
        ),
        pytest.param("id,a,a", "c.csv:1:6: columns 'a' and 'a' are the same (give one another", id="no row"),
        pytest.param("id,set\na,2K", "c.csv:1:4: column 'set' names no setting (write one column for each", id="set"),
        pytest.param("id,set.\na,2K", "c.csv:1:4: column 'set.' names no setting (write one column for", id="set."),
        pytest.param("id,set.size,Set.Size\na,,", "c.csv:1:13: columns 'set.size' and 'Set.Size' are the s", id="sets"),
        pytest.param("set.size\n2K", "c.csv:1:1: no column names the items (add a column: id)", id="only settings"),
        pytest.param("id;name\na;b", "one column 'id;name' (is it separated otherwise? say delimiter: \";\")", id=";"),
        pytest.param("id\tname\na\tb", 'say delimiter: "\\t")', id="tab"),
        pytest.param("id,name\na", "c.csv:2:1: 1 cell, but the header names 2 columns (is a delim", id="short row"),
        pytest.param("id,name\na,b\nc,d,e", "c.csv:3:5: 3 cells, but the header names 2 columns", id="long row"),
        pytest.param('id,name\na,b\nc,"d\n', "c.csv:3:3: a quote is opened in this row and never closed", id="quote"),
        pytest.param('id,name\na,"b"c\n', "c.csv:2:3: text after a closing quote", id="text after quote"),
        pytest.param("id\na\0b", "c.csv:2:2: a NUL character", id="NUL"),
        pytest.param(b"id\na\nb\xe9\n", "c.csv:3:2: byte 0xe9 is not UTF-8", id="latin-1"),
        pytest.param("id\na\n".encode("utf-16"), "c.csv:0:0: is UTF-16", id="utf-16"),
        pytest.param('name,id\n"a, b",', "c.csv:2:8: the id (column 'id') is empty", id="empty id behind a quote"),
        pytest.param('name,id\n"a\nb, c",', "c.csv:3:7: the id (column 'id') is empty", id="in the second line"),
        pytest.param("id,name\n,b", "c.csv:2:1: the id (column 'id') is empty", id="empty id"),
        pytest.param(
            "id,a\nx,\n,\n", "(column 'id') is empty (delete the row, or give it an id)", id="only delimiters"
        ),
        pytest.param(b"PK\x03\x04\x14\0\xe9", "c.csv:0:0: is an Excel workbook (save it as CSV (UTF-8)", id="xlsx"),
        pytest.param(b"\xd0\xcf\x11\xe0\xa1", "c.csv:0:0: is an Excel workbook", id="xls"),
        pytest.param("\ufeff\n <!DOCTYPE html>\n<p>", "c.csv:0:0: is a web page, not a catalog (was the d", id="page"),
        pytest.param("<html lang=de>", "c.csv:0:0: is a web page, not a catalog", id="page without a type"),
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
    ("line", "column", "complaint"),
    [
        pytest.param("[1]", 1, "a row is an object", id="list"),
        pytest.param("7", 1, "a row is an object", id="number"),
        pytest.param('{"id": "b"', 11, "is not JSON: Expecting ',' delimiter", id="cut"),
        pytest.param('{"id": b}', 8, "is not JSON: Expecting value", id="no quotes"),
        pytest.param('{"id": NaN}', 8, "NaN is not JSON", id="NaN"),
        pytest.param('{"id": "NaN", "x": -Infinity}', 20, "-Infinity is not JSON", id="infinity"),
        pytest.param('{"id": "b", "x": {"y": 1}}', 18, "'x' is an object; a row holds texts", id="nested"),
        pytest.param('{"id": "b", "x": [1]}', 18, "'x' is a list; a row holds texts", id="list in row"),
        pytest.param(
            '{"id": "b", "set": {"size": "2K"}}',
            20,
            '\'set\' is an object; a row holds texts (write a field for each setting: "set.size": "2K")',
            id="set as an object",
        ),
        pytest.param('{"id": "b", "set": "2K"}', 13, "column 'set' names no setting", id="set as a text"),
        pytest.param('{"id": "b", "id": "c"}', 13, "columns 'id' and 'id' are the same", id="twice"),
        pytest.param('{"id": "b\\ud800"}', 8, "half a surrogate pair", id="surrogate"),
        pytest.param('{"id": "b", "x": "\\u0000"}', 18, "a NUL character", id="NUL"),
        pytest.param('{"x": ' + "[" * 200_000, 1, "nested too deep", id="deep"),
        pytest.param("{}", 1, "the id is empty", id="nothing"),
        pytest.param('{"x": "y", "id": " "}', 18, "the id (column 'id') is empty", id="empty id"),
    ],
)
def test_what_is_wrong_in_jsonl_is_said_and_the_rest_read(tmp_path, line, column, complaint):
    found = wrong(tmp_path, "c.jsonl", f'{{"id": "a"}}\n{line}\n{{"id": "a"}}\n', name="c.jsonl")
    assert complaint in found[0]
    assert found[0].startswith(f"c.jsonl:2:{column}: ")
    assert found[1].startswith("c.jsonl:3:")
    assert "the id 'a' is there already" in found[1]


@pytest.mark.parametrize(
    ("items", "complaint"),
    [
        ("none.csv", "2:8: there is no file"),
        ("cc.csv", "cc.csv'; did you mean 'c.csv'?"),
        ("cat/c.csv", "cat' is not there"),
        ("c.csv/d.csv", "c.csv' is no folder"),
        ("https://x.org/a/c.csv", "2:8: 'https://x.org/a/c.csv' is a URL (download it, and name the file)"),
        ("{jsonl: 'http://x.org/c'}", "2:16: 'http://x.org/c' is a URL (download it, and name the file)"),
        ("https://x.org/c.csv?dl=1", "2:8: 'https://x.org/c.csv?dl=1' is a URL (download it, and name the file)"),
        ("'*.CSV/*'", "no file matches '*.CSV/*'"),
        ("'*.{jpg,png}'", "no file matches '*.{jpg,png}' (braces are no pattern here; list both globs, or use *)"),
        ("'PIPE*'", "no file matches 'PIPE*' (there is 'pipe.csv': names are compared with their case)"),
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
    assert sum("[name] is empty in the row" in line for line in found) == 50
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
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from jobs import FakeModels, TODAY
from pipeline.job.expand import expand
from pipeline.job.language import load
import jsonschema
job = load(Path(sys.argv[2]), root=Path(sys.argv[2]).parent)
def peak_kib():  # of this program: ru_maxrss begins with what the process that started it has held
    return next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("VmHWM"))
before = peak_kib()
count = sum(1 for _ in expand(job, models=FakeModels(), today=TODAY, warn=print))
print(count, peak_kib() - before)
"""


def test_rows_stream(tmp_path):
    with (tmp_path / "c.csv").open("w") as stream:
        stream.write("sku,product,text\n")
        stream.writelines(f"sku-{number:06},mug number {number},{'x' * 100}\n" for number in range(10_000))
    job = write(tmp_path, "job.yaml", "prompt: a [product], [text]\nitems: c.csv\nmatrix: {aspect: [1:1, 4:5]}\n")
    command = [sys.executable, "-c", STREAM, str(Path(__file__).parent), str(job)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    count, grown_kib = map(int, done.stdout.split())
    assert count == 20_000
    assert grown_kib < 8_000, "a list of them takes 23 MB"


def test_marks_find_what_came_twice_and_nothing_else():
    marks = Marks()
    for text in [*map(str, range(10_000)), "77", "99", "77"]:
        marks.add([text])
    assert marks.twice() == {mark("77"), mark("99")}


@given(st.lists(st.text(max_size=2)))
def test_marks_agree_with_counting(texts):
    marks = Marks()
    for text in texts:
        marks.add([text])
    assert marks.twice() == {mark(text) for text in texts if texts.count(text) > 1}


SHIRTS = """\
Handle,Title,Body (HTML),Option1 Value,Image Src
shirt,Blue shirt,"<p>Soft &amp; <b>blue</b></p><ul><li>cotton</li></ul>",S,a.jpg
shirt,,,M,
shirt , ,,L,b.jpg
cap,,<p></p>,one,
cap,Red cap,,two,
shirt,,,XL,
"""


@pytest.mark.parametrize("kind", ["csv", "tsv", "jsonl"])
def test_an_empty_cell_takes_the_value_above_in_rows_of_the_same_first_column(tmp_path, kind):
    rows = list(csv.reader(SHIRTS.splitlines()))
    if kind == "jsonl":
        lines = [json.dumps(dict(zip(rows[0], row, strict=True))) for row in rows[1:]]
    else:
        lines = ["\t".join(row) for row in rows] if kind == "tsv" else SHIRTS.splitlines()
    write(tmp_path, f"c.{kind}", "\n".join(lines))
    items = f'{{{kind}: c.{kind}, id: "[Handle]-[Option1 Value]", fill: [title, Body (HTML)], text: [Body (HTML)]}}'
    requests = expanded(tmp_path, f"prompt: '[Title|none] [Body (HTML)|-]'\nitems: {items}\n")
    assert [(request.id, request.ask.prompt) for request in requests] == [
        ("shirt-S", "Blue shirt Soft & blue\ncotton"),
        ("shirt-M", "Blue shirt Soft & blue\ncotton"),
        ("shirt -L", "Blue shirt Soft & blue\ncotton"),
        ("cap-one", "none -"),
        ("cap-two", "Red cap -"),
        ("shirt-XL", "none -"),
    ]


def test_what_is_filled_in_is_there_for_where_id_and_settings(tmp_path):
    write(tmp_path, "c.csv", "group,sort,SKU,set.size\n1,mug,a,2K\n1,,b,\n2,,c,\n2,cup,d,\n")
    items = '{csv: c.csv, rename: {sort: kind}, fill: [kind, set.size], where: {kind: mug}, id: "[kind]-[sku]"}'
    requests = expanded(tmp_path, f"prompt: x\nitems: {items}\n")
    assert [(request.id, request.ask.size) for request in requests] == [("mug-a", "2K"), ("mug-b", "2K")]
    assert requests[1].vars == {"group": "1", "kind": "mug", "SKU": "b"}


def test_rows_without_a_first_column_do_not_belong_together(tmp_path):
    write(tmp_path, "c.csv", "group,id,name\n,a,x\n ,b,\n")
    requests = expanded(tmp_path, "prompt: '[name|none]'\nitems: {csv: c.csv, fill: [name]}\n")
    assert [request.ask.prompt for request in requests] == ["x", "none"]


def test_a_row_of_jsonl_that_lacks_a_field_gets_what_is_filled_in(tmp_path):
    lines = ['{"id": "a", "name": "x"}', '{"id": "a", "n": "1"}', '{"n": "2"}', '{"id": "a", "n": "3", "name": null}']
    write(tmp_path, "c.jsonl", "\n".join(lines))
    items = '{jsonl: c.jsonl, id: "[id|b]-[n|0]", rename: {name: title}, fill: [title, Title]}'
    requests = expanded(tmp_path, f"prompt: '[title|none]'\nitems: {items}\n")
    assert [(request.id, request.ask.prompt) for request in requests] == [
        ("a-0", "x"), ("a-1", "x"), ("b-2", "none"), ("a-3", "none"),
    ]  # fmt: skip
    assert requests[1].vars == {"id": "a", "n": "1", "title": "x"}


def test_a_real_export_of_a_shop_fills_its_variants(tmp_path):
    items = f'{{csv: {APPAREL}, fill: [Title, Body (HTML)], text: [Body (HTML)], id: "[Handle]-[Option1 Value]"}}'
    requests = expanded(tmp_path, f"prompt: '[Title], [Option1 Value]'\nitems: {items}\n")
    assert [request.ask.prompt for request in requests[1:4]] == [
        "Classic Varsity Top, Small", "Classic Varsity Top, Medium", "Classic Varsity Top, Large",
    ]  # fmt: skip
    assert len({request.vars["Body (HTML)"] for request in requests[1:4]}) == 1


@pytest.mark.parametrize(
    ("items", "complaint"),
    [
        ("{csv: c.csv, fill: [Titel]}", "2:28: fill: there is no column 'Titel'; did you mean 'Title'? (columns: 'id'"),
        ("{csv: c.csv, text: [Titel]}", "2:28: text: there is no column 'Titel'; did you mean 'Title'?"),
        ("{csv: c.csv, id: Titel}", "2:25: id: there is no column 'Titel'; did you mean 'Title'?"),
        ("{csv: c.csv, where: {Titel: x}}", "2:29: where: there is no column 'Titel'; did you mean 'Title'?"),
        ("{csv: c.csv, where: {set.sise: x}}", "2:29: where: there is no column 'set.sise'; did you mean 'set.size'?"),
        ("{csv: c.csv, rename: {Titel: x}}", "rename: there is no column 'Titel'; did you mean 'Title'?"),
        ("{csv: c.csv, rename: {Titel: x}, fill: [x]}", "rename: there is no column 'Titel'; did you mean 'Title'?"),
        ("{csv: c.csv, rename: {Title: x}, fill: [Title]}", "fill: there is no column 'Title' (columns: 'id', 'x' and"),
        ("{csv: c.csv, fill: [ID]}", "fill: 'ID' is the first column, which says what rows belong together"),
        ("{jsonl: c.jsonl, fill: [Titel]}", "2:32: fill: no row has a field 'Titel'; did you mean 'Title'? (fields: '"),
        ("{jsonl: c.jsonl, text: [Titel]}", "2:32: text: no row has a field 'Titel'; did you mean 'Title'?"),
        ("{jsonl: c.jsonl, id: Titel}", "2:29: id: no row has a field 'Titel'; did you mean 'Title'?"),
        ('{jsonl: c.jsonl, id: "[Titel]"}', "2:29: id: [Titel] is unknown; did you mean 'title'?"),
        ("{jsonl: c.jsonl, where: {Titel: {not: x}}}", "2:33: where: no row has a field 'Titel'; did you mean 'Title"),
        ("{jsonl: c.jsonl, where: {Titel: {not: x}}, limit: 1}", "where: no row has a field 'Titel'; did you mean"),
        ("{jsonl: c.jsonl, rename: {Titel: x}}", "rename: no row has a field 'Titel'; did you mean 'Title'?"),
        ("{glob: 'p/*.png', where: {stam: x}}", "2:34: where: an image has no 'stam'; did you mean 'stem'? ("),
        ("{glob: 'p/*.png', id: stam}", "id: an image has no 'stam'; did you mean 'stem'?"),
        ('{glob: \'p/*.png\', id: "[stam]"}', "id: [stam] is unknown; did you mean 'stem'?"),
    ],
)  # fmt: skip
def test_a_name_that_no_row_has_is_told_once_where_it_is_written(tmp_path, items, complaint):
    write(tmp_path, "c.csv", "id,Title,set.size\na,,\nb,,\n")
    write(tmp_path, "c.jsonl", '{"id": "a"}\n{"id": "b", "Title": "x"}\n{"id": "c"}\n')
    write(tmp_path, "p/a.png", PNG)
    [found] = complaints(tmp_path, f"prompt: x\nitems: {items}\n")
    assert complaint in found


@pytest.mark.parametrize("rows", ["", "1,2\n1,3\n"])
def test_every_name_that_is_wrong_is_told_at_once(tmp_path, rows):
    items = "{csv: c.csv, rename: {a: b}, fill: [b, c], text: [zoo], where: {e: x}, id: f}"
    found = wrong(tmp_path, items, f"id,x\n{rows}1,2,3\n")
    assert sorted(line.partition(": ")[2].split(" (")[0] for line in found) == [
        "3 cells, but the header names 2 columns",
        "fill: there is no column 'c'",
        "id: there is no column 'f'",
        "rename: there is no column 'a'",
        "text: there is no column 'zoo'",
        "where: there is no column 'e'",
    ]


def test_a_row_of_jsonl_without_the_id_is_told_when_others_have_it(tmp_path):
    rows = '{"x": 1}\n{"sku": "a"}\n{"x": 2, "sku": ""}\n'
    assert wrong(tmp_path, "{jsonl: c.jsonl, id: sku}", rows, "c.jsonl") == [
        "c.jsonl:1:1: id: there is no 'sku' here",
        "c.jsonl:3:17: the id (column 'sku') is empty (delete the row, or give it an id)",
    ]
    assert wrong(tmp_path, '{jsonl: c.jsonl, id: "[sku]"}', rows, "c.jsonl") == [
        "c.jsonl:1:1: id: [sku] is unknown",
        "c.jsonl:3:17: id: [sku] is empty",
    ]


def test_what_is_wrong_behind_the_limit_does_not_matter(tmp_path):
    assert ids(tmp_path, "{csv: c.csv, limit: 2}", "id\na\nb\n \n") == ["a", "b"]
    write(tmp_path, "c.jsonl", '{"id": "a"}\n{"id": ""}\n{"id": "b", "x": "y"}\n{')
    assert ids(tmp_path, "{jsonl: c.jsonl, limit: 1, where: {x: {not: y}}}") == ["a"]


@pytest.mark.parametrize(("id_", "found"), [("stem", ["a", "b"]), ('"[folder]-[name]"', ["p-a.png", "p-b.png"])])
def test_an_image_is_named_by_what_it_has(tmp_path, id_, found):
    for name in ("a", "b"):
        write(tmp_path, f"p/{name}.png", PNG)
    assert ids(tmp_path, f"{{glob: 'p/*.png', id: {id_}}}") == found


@pytest.mark.parametrize(
    ("base", "pattern", "file"),
    [
        (".", "photos/*.png", "photos/a.png"),
        ("..", "photos/*.png", "../photos/a.png"),
        ("../shared/jobs", "../photos/*.png", "../shared/photos/a.png"),
        (".", "{top}/photos/*.png", "{top}/photos/a.png"),
        ("..", "{top}/photos/*.png", "{top}/photos/a.png"),
    ],
)
def test_the_file_of_an_image_leads_there_from_the_job(tmp_path, base, pattern, file):
    """Wherever the base manifest lies that says the glob."""
    folder, pattern, file = tmp_path / "jobs", pattern.format(top=tmp_path), file.format(top=tmp_path)
    write(tmp_path, "shared/jobs/_base.yaml", "x")
    write(folder, "job.yaml", "x")
    found = Path(file) if file.startswith("/") else folder / file
    write(found.parent, found.name, PNG)
    items = Items("glob", Place(Source("job.yaml")), pattern, folder=Path(os.path.normpath(folder / base)))
    problems = Problems()
    [row] = rows_of(items, job="job", folder=folder, problems=problems)
    assert not problems
    assert row.line.facts == {"file": file, "stem": "a", "name": "a.png", "folder": "photos"}
    assert row.id == "a"


PLACES = [
    pytest.param("c.csv", b'id,"a, b",c\nx,"1\n2",3\n', 2, (3, 4, '2",3'), (1, 11), id="csv"),
    pytest.param("c.csv", '\ufeffid,é,"c"\r\nx,"ü""",3\r\n'.encode(), 2, (2, 9, 'x,"ü""",3'), (1, 6), id="marks"),
    pytest.param("c.csv", b'id\tb\tc\nx\t"1"\t3', 1, (2, 3, 'x\t"1"\t3'), (1, 4), id="tabs"),
    pytest.param("c.jsonl", b'{"a, b": "x" ,"c":\t [}', 0, None, None, id="no row"),
    pytest.param("c.jsonl", b'\n {"a,\\"b": "x\\",", "c" : 12345 }', 1, (2, 26, None), (2, 20), id="jsonl"),
    pytest.param("c.jsonl", b'{"n": ' + b"9" * 5000 + b', "c": ""}', 1, (1, 5014, None), (1, 5009), id="a long number"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "data", "at", "cell", "header"), PLACES)
def test_a_problem_of_a_cell_stands_where_the_cell_starts(tmp_path, name, data, at, cell, header):
    write(tmp_path, name, data)
    kind, delimiter = name.rpartition(".")[2], "\t" if b"\t" in data else ","
    items = Items(kind, Place(Source("job.yaml")), name, delimiter=delimiter)
    rows = list(rows_of(items, job="job", folder=tmp_path, problems=Problems()))
    if cell is None:
        assert rows == []
        return
    problem, place = rows[0].problem("wrong", "hint", at=at), rows[0].header_place(at)
    assert (problem.line, problem.column) == cell[:2]
    assert cell[2] is None or problem.source == cell[2]
    assert (place.line, place.column) == header
    assert str(place) == f"{problem.file}:{header[0]}"


def test_a_problem_of_an_item_in_the_manifest_stands_at_its_value(tmp_path):
    job = loaded(tmp_path, "prompt: x\nitems:\n  - {id: a, set: {size: 2K}, b: c}\n  - word\n")
    first, second = rows_of(job.items, job="job", folder=tmp_path, problems=Problems())
    assert (first.line.names, first.line.cells, first.line.set) == (("id", "b"), ["a", "c"], {"size": "2K"})
    assert [first.problem("x", at=at).column for at in (0, 1, None)] == [10, 33, 5]
    assert first.problem("x", at=1).source == "  - {id: a, set: {size: 2K}, b: c}"
    assert str(first.header_place(1).problem("x")).endswith("job.yaml:3:30: x")
    assert (second.id, str(second.problem("x", at=0))[-7:]) == ("word", ":4:5: x")


def test_a_problem_of_the_only_item_stands_where_its_prompt_does(tmp_path):
    place = Place(Source("job.yaml", ["size: 2K", "prompt: a [word]"]), 2, 9)
    [row] = rows_of(Items("one", place), job="mug", folder=tmp_path, problems=Problems())
    problem = row.problem("wrong", "hint")
    assert (row.id, row.where, row.line.cells) == ("mug", "job.yaml:2", ())
    assert (problem.file, problem.line, problem.column, problem.source) == ("job.yaml", 2, 9, "prompt: a [word]")
    assert row.place() == row.header_place(0) == place


def test_near_names_are_looked_for_only_where_they_are_told(tmp_path, monkeypatch):
    looked = []
    monkeypatch.setattr(columns, "meant", lambda word, words: looked.append(word) if words else "")
    write(tmp_path, "c.csv", "id," + ",".join(f"c{number}" for number in range(300)) + "\n")
    names = ", ".join(f"d{number}" for number in range(300))
    found = complaints(tmp_path, f"prompt: x\nitems: {{csv: c.csv, fill: [{names}]}}\n")
    assert len(found) == 51
    assert any("250 more problems like these" in line for line in found)
    assert len(looked) == 50


def test_the_excerpt_of_a_very_long_row_is_short(tmp_path):
    write(tmp_path, "c.csv", f"id,a,b,c\n1,{'x' * 50_000},2,{'y' * 50_000}\n1,{'x' * 500_000},2,3\n")
    items = Items("csv", Place(Source("job.yaml")), "c.csv")
    near, far = rows_of(items, job="job", folder=tmp_path, problems=Problems())
    problem = near.problem("wrong", at=2)
    assert len(problem.source) < 51_000
    assert problem.source[problem.column - 1] == "2"
    assert (far.problem("wrong", at=2).column, far.problem("wrong", at=2).source) == (500_004, "")


@pytest.mark.parametrize("most", [40_000, pytest.param(sources.MAX_ROW, marks=pytest.mark.torture)])
def test_a_row_without_end_is_refused_before_it_fills_the_memory(tmp_path, monkeypatch, request, most):
    before = csv.field_size_limit()
    request.addfinalizer(lambda: csv.field_size_limit(before))  # reading a catalog sets it
    monkeypatch.setattr(sources, "MAX_ROW", most)
    why = f"a row of more than {most:,} characters; a quote opened in it may never be closed"
    write(tmp_path, "c.csv", "id,x\na," + '"' + '","\n' * (most * 3 // 8))
    [found] = complaints(tmp_path, "prompt: x\nitems: c.csv\n")
    assert found == f"c.csv:{most // 4 + 1}:3: {why}"
    write(tmp_path, "c.csv", 'id,x\n1,a\n2,"b, c\n' + "3 x d\n" * (most // 4))
    [found] = complaints(tmp_path, "prompt: x\nitems: c.csv\n")
    assert found == f"c.csv:3:3: {why}"


def test_columns_without_end_are_refused(tmp_path):
    write(tmp_path, "c.csv", "id," + ",".join(map(str, range(20_000))) + "\n")
    write(tmp_path, "c.jsonl", json.dumps(dict.fromkeys(map(str, range(20_000)), 1)))
    assert complaints(tmp_path, "prompt: x\nitems: c.csv\n") == ["c.csv:1:1: 20,001 columns; at most 10,000"]
    assert complaints(tmp_path, "prompt: x\nitems: c.jsonl\n") == ["c.jsonl:1:1: 20,000 fields; at most 10,000"]
