"""Tables: one row for each key, found by texts; what is wrong in one is told with its place, and they stay bounded."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jobs import complaints, expanded, write

from pipeline.errors import JobError
from pipeline.job import tables
from pipeline.job.problems import Place, Source

HERE = Place(Source("job.yaml", ["tables: {copy: copy.csv}"]), 1, 16)


def loaded(folder, text, *, name="copy.csv", on=("sku", "lang"), delimiter=None, encoding="utf-8"):
    return tables.load("copy", write(folder, name, text), on, HERE, delimiter=delimiter, encoding=encoding)


def wrong(folder, text, **options):
    with pytest.raises(JobError) as caught:
        loaded(folder, text, **options)
    return [
        f"{Path(one.file).name}:{one.line}:{one.column}: {one.message}{f' ({one.hint})' if one.hint else ''}"
        for one in caught.value.problems
    ]


COPY = 'sku,lang,Head Line\nmug,de,Guten Morgen\nmug,fr,"Bon, ""jour""\n "\ncup,de,\n'
COPY_LINES = """
{"sku": "mug", "lang": "de", "Head Line": "Guten Morgen"}

{"Head Line": "Bon, \\"jour\\"\\n ", "sku": "mug", "lang": "fr"}
{"sku": "cup", "lang": "de"}
"""


@pytest.mark.parametrize(
    ("name", "text", "options"),
    [
        ("copy.csv", COPY, {}),
        ("copy.CSV", COPY, {}),
        ("copy.tsv", COPY.replace(",", "\t").replace("Bon\t", "Bon,"), {}),
        ("copy.csv", COPY.replace(",", ";").replace("Bon;", "Bon,"), {"delimiter": ";"}),
        ("copy.txt", COPY, {"delimiter": ","}),
        ("copy.csv", COPY.encode("utf-16"), {"encoding": "utf-16"}),
        ("copy.jsonl", COPY_LINES, {}),
    ],
)
def test_a_value_is_found_by_its_key_in_every_kind_of_file(tmp_path, name, text, options):
    table = loaded(tmp_path, text, name=name, **options)
    assert (table.name, table.on, table.columns) == ("copy", ("sku", "lang"), ("sku", "lang", "Head Line"))
    assert [table.at(word) for word in ("sku", "head_line", "HEAD-LINE", "tail")] == [0, 2, 2, None]
    keys = [("mug", "de"), (" mug ", "fr\t"), ("cup", "de"), ("cup", "fr"), ("Mug", "de"), ("de", "mug"), ("", "")]
    assert [table.value(key, 2) for key in keys] == ["Guten Morgen", 'Bon, "jour"\n ', "", "", "", "", ""]
    assert table.value(("mug", "fr"), 1) == "fr"
    assert [table.has(key) for key in keys] == [True, True, True, False, False, False, False]


def test_a_cell_keeps_its_text_and_a_key_is_trimmed(tmp_path):
    table = loaded(tmp_path, "k,v\n a , x \n 1.50,007\n", on=("K",))
    assert [table.value((key,), table.at("v")) for key in ("a", "1.50", "1.5")] == [" x ", "007", ""]
    assert table.value(("a",), 0) == " a "


def test_rows_of_jsonl_may_differ(tmp_path):
    lines = ['{"id": 1, "a": "x"}', '{"b": true, "id": 2}', '{"c": 1.50, "a": null, "id": "3"}']
    table = loaded(tmp_path, "\n".join(lines), name="t.jsonl", on=("id",))
    assert table.columns == ("id", "a", "b", "c")
    assert [[table.value((key,), at) for at in range(4)] for key in "123"] == [
        ["1", "x", "", ""], ["2", "", "true", ""], ["3", "", "", "1.50"],
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("text", "found"),
    [
        pytest.param(
            "sku,lang,x\nmug,de,1\ncup,de,2\nmug , de,3\n",
            ["copy.csv:4:1: the row for 'mug', 'de' is there already, in line 2 (delete one of them)"],
            id="the same key",
        ),
        pytest.param(
            'x,sku,lang\n"a\nb",mug,de\n"c\nd",mug,de\n',
            ["copy.csv:5:4: the row for 'mug', 'de' is there already, in line 2 (delete one of them)"],
            id="the same key, rows of many lines",
        ),
        pytest.param(
            "sku,language,x\nmug,de,1\nmug,de\nmug,de,3\n",
            [
                "copy.csv:3:1: 2 cells, but the header names 3 columns",
                "job.yaml:1:16: table 'copy': 'COPY' has no column 'lang'; did you mean 'language'? (columns: 'sku',",
            ],
            id="a column that is missing",
        ),
        pytest.param(
            "sku,lang,x\na,de,1,2\nb\n,,x\n,de,\n , ,\na,de,\n",
            [
                "copy.csv:2:8: 4 cells, but the header names 3 columns (a cell with the delimiter in it needs",
                "copy.csv:3:1: 1 cell, but the header names 3 columns",
                "copy.csv:4:1: nothing finds this row: 'sku' and 'lang' empty (fill it in)",
            ],
            id="several rows",
        ),
        pytest.param(
            "sku,lang,SKU\na,b,c\na,b,c\n",
            ["copy.csv:1:10: columns 'sku' and 'SKU' are the same (name one of them otherwise)"],
            id="columns twice",
        ),
        pytest.param('sku,lang\na,"b', ["copy.csv:2:3: a quote is opened in this row and never closed"], id="quote"),
        pytest.param(
            'sku,x\na,"b',
            [
                "copy.csv:2:3: a quote is opened in this row and never closed",
                "job.yaml:1:16: table 'copy': 'COPY' has no column 'lang' (columns: 'sku' and 'x')",
            ],
            id="quote, and a column that is missing",
        ),
        pytest.param(b"PK\x03\x04\xe9", ["copy.csv:0:0: is an Excel workbook (save it as CSV (UTF-8)"], id="workbook"),
        pytest.param("<html>", ["copy.csv:0:0: is a web page, not a catalog (was"], id="web page"),
        pytest.param("", ["copy.csv:1:1: is empty (the first line names the columns)"], id="empty"),
        pytest.param(b"sku,lang\na,\xe9", ["copy.csv:2:3: byte 0xe9 is not UTF-8 (save"], id="latin"),
    ],
)  # fmt: skip
def test_what_is_wrong_in_a_table_is_told_with_its_place(tmp_path, text, found):
    told = [line.replace(str(tmp_path / "copy.csv"), "COPY") for line in wrong(tmp_path, text)]
    assert len(told) == len(found), told
    assert all(line.startswith(start) for line, start in zip(told, found, strict=True)), told


@pytest.mark.parametrize(
    ("lines", "found"),
    [
        (
            ['{"k": 1}', '{"x": 2}', '{"k": "1"}'],
            ["t.jsonl:2:1: this row has no 'k'", "t.jsonl:3:7: the row for '1' is"],
        ),
        (['{"x": 1}', '{"x": 2, "kk": 1}'], ["job.yaml:1:16: table 'copy': 'T' has no column 'k'; did you mean 'kk'?"]),
        (
            ['{"k": [1]}', "{", '{"k": 1, "K": 2}'],
            ["t.jsonl:1:7: ", "t.jsonl:2:2: is not JSON", "t.jsonl:3:10: columns "],
        ),
        ([], ["t.jsonl:1:1: is empty"]),
    ],
)
def test_what_is_wrong_in_a_table_of_jsonl_is_told_with_its_place(tmp_path, lines, found):
    told = wrong(tmp_path, "\n".join(lines), name="t.jsonl", on=("k",))
    told = [line.replace(str(tmp_path / "t.jsonl"), "T") for line in told]
    assert len(told) == len(found), told
    assert all(line.startswith(start) for line, start in zip(told, found, strict=True)), told


@pytest.mark.parametrize(
    ("name", "complaint"),
    [
        ("none.csv", "there is no file"),
        ("larg.csv", "larg.csv'; did you mean 'large.csv'?"),
        ("https://x.org/copy.csv", "'https://x.org/copy.csv' is a URL (download it, and name the file)"),
        ("folder.csv", "is a folder, not a file"),
        ("pipe.csv", "is a pipe, not a file"),
        ("/dev/zero", "is no table (a table is x.csv, x.tsv or x.jsonl)"),
        ("x.txt", "is no table (a table is x.csv, x.tsv or x.jsonl)"),
        ("x" * 300 + ".csv", "File name too long"),
        ("large.csv", "has 65 MB; a table has at most 64 (keep only the rows and columns that are looked up)"),
    ],
)
def test_a_file_that_can_be_no_table_is_refused_where_it_is_named(tmp_path, name, complaint):
    (tmp_path / "folder.csv").mkdir()
    os.mkfifo(tmp_path / "pipe.csv")
    with (tmp_path / "large.csv").open("wb") as stream:
        stream.truncate(65_000_000)
    with pytest.raises(JobError) as caught:
        tables.load("t", tmp_path / name, ("t",), HERE, delimiter=None, encoding="utf-8")
    [problem] = caught.value.problems
    assert (problem.file, problem.line, problem.column) == ("job.yaml", 1, 16)
    assert complaint in f"{problem.message} ({problem.hint})"


def test_problems_are_told_up_to_fifty_and_reading_ends_soon_after(tmp_path):
    found = wrong(tmp_path, "k\n" + "a\n" * 10_000, on=("k",))
    assert len(found) == 51
    assert any("950 more problems like these" in line for line in found)
    assert found[0] == "copy.csv:3:1: the row for 'a' is there already, in line 2 (delete one of them)"


def test_too_many_rows_are_refused(tmp_path, monkeypatch):
    assert tables.MAX_ROWS == 1_000_000
    monkeypatch.setattr(tables, "MAX_ROWS", 1000)
    many = "k\n" + "\n".join(map(str, range(1002)))
    assert wrong(tmp_path, many, on=("k",)) == [
        "copy.csv:1002:1: more than 1,000 rows in a table (keep only the rows and fields that are looked up)"
    ]


def test_rows_that_all_differ_are_refused(tmp_path):
    lines = "\n".join(f'{{"k": {number}, "f{number}": 1}}' for number in range(20_000))
    [found] = wrong(tmp_path, lines, name="t.jsonl", on=("k",))
    assert "too many different fields in the rows of a table" in found


MEMORY = """
import sys
from pathlib import Path
from pipeline.job import tables
from pipeline.job.problems import Place, Source
def peak_kib():  # of this program: ru_maxrss begins with what the process that started it has held
    return next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("VmHWM"))
before = peak_kib()
table = tables.load("t", Path(sys.argv[1]), ("k",), Place(Source("x")), delimiter=None, encoding="utf-8")
print(len(table), peak_kib() - before)
"""


def test_a_table_takes_little_more_than_its_file(tmp_path):
    with (tmp_path / "t.csv").open("w") as stream:
        stream.write("k,a,b,c\n")
        stream.writelines(f"{number},😀,{'x' * 80},y\n" for number in range(80_000))
    command = [sys.executable, "-c", MEMORY, str(tmp_path / "t.csv")]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parent.parent)}
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    rows, grown_kib = map(int, done.stdout.split())
    assert rows == 80_000
    assert grown_kib * 1024 < 3 * (tmp_path / "t.csv").stat().st_size


TEXTS = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=5)


@given(st.dictionaries(st.tuples(TEXTS, TEXTS).map(lambda key: tuple(map(str.strip, key))), st.tuples(TEXTS, TEXTS)))
def test_every_row_is_found_and_its_cells_are_as_written(tmp_path_factory, rows):
    rows.pop(("", ""), None)
    lines = [{"a": a, "v": v, "b": b, "w": w} for (a, b), (v, w) in rows.items()]
    path = tmp_path_factory.getbasetemp() / "found.jsonl"
    path.write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    if not lines:
        return
    table = tables.load("t", path, ("a", "b"), HERE, delimiter=None, encoding="utf-8")
    assert {key: (table.value(key, 1), table.value(key, 3)) for key in rows} == rows


def test_text_of_each_product_in_each_language_comes_from_one_table(tmp_path):
    write(tmp_path, "data/copy.csv", "sku,lang,headline\nmug,de,Guten Morgen\nmug,ja,おはよう\ncup,de,Prost\n")
    requests = expanded(
        tmp_path,
        """
        prompt: "A poster that says “[copy.headline|nothing]”"
        items: [{sku: mug}, {sku: cup}]
        matrix: {lang: [de, ja]}
        tables: {copy: {file: data/copy.csv, on: [sku, lang]}}
        """,
    )
    assert [(request.key, request.ask.prompt[20:-1]) for request in requests] == [
        ("mug/de", "Guten Morgen"), ("mug/ja", "おはよう"), ("cup/de", "Prost"), ("cup/ja", "nothing"),
    ]  # fmt: skip


def test_two_rows_of_one_key_are_told_with_the_other_problems_of_the_job(tmp_path):
    write(tmp_path, "copy.csv", "sku,headline\nmug,a\nmug,b\n")
    job = "prompt: '[copy.headline]'\nitems: [{sku: mug}]\nsamples: 0\ntables: {copy: {file: copy.csv, on: [sku]}}\n"
    found = [line.partition(" (")[0] for line in complaints(tmp_path, job)]
    assert "copy.csv:3:1: the row for 'mug' is there already, in line 2" in found
    assert "3:10: 'samples' is at least 1, not '0'" in found
