"""Where cells stand in the text of their row: found as the readers of CSV and JSON find them."""

import csv
import io
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.job.lines import cell_starts, member_starts, place_in

CELLS = st.lists(st.text(st.sampled_from("ab\"',;\t\n\r é")), min_size=1, max_size=6)


QUOTING = st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL])


@given(CELLS, st.sampled_from(",;\t|"), QUOTING, st.sampled_from(["\n", "\r\n", ""]))
def test_a_cell_of_csv_starts_where_the_reader_finds_it(cells, delimiter, quoting, end):
    stream = io.StringIO()
    csv.writer(stream, delimiter=delimiter, quoting=quoting).writerow(cells)
    text = stream.getvalue().removesuffix("\r\n") + end
    starts = list(cell_starts(text, delimiter))
    assert len(starts) == len(cells)
    for number, start in enumerate(starts):
        rest = f"x{delimiter}{text[start:]}".splitlines(keepends=True)
        [found] = csv.reader(rest, delimiter=delimiter, strict=True)
        assert found == ["x", *cells[number:]]


VALUES = st.one_of(st.text(), st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False, allow_infinity=False))


@given(st.dictionaries(st.text(), VALUES), st.booleans(), st.sampled_from([None, (" , ", " : "), (",", ":")]))
def test_a_member_of_json_starts_where_the_reader_finds_it(row, ensure_ascii, separators):
    text = json.dumps(row, ensure_ascii=ensure_ascii, separators=separators)
    decoder = json.JSONDecoder()
    found = [tuple(decoder.raw_decode(text, start)[0] for start in member) for member in member_starts(text)]
    assert found == list(row.items())


@pytest.mark.parametrize(
    ("text", "starts"),
    [
        ('a,"b"c,d', [0, 2]),
        ('a,"b,c', [0, 2]),
        ('"', [0]),
        ("", [0]),
        (",", [0, 1]),
        ('a"b,c', [0, 4]),
        ('"a""",b', [0, 6]),
    ],
)
def test_what_is_no_csv_ends_at_the_cell_that_is_wrong(text, starts):
    assert list(cell_starts(text, ",")) == starts


@given(st.text(st.sampled_from('{}[]":, ab1\\\n')))
def test_what_is_no_json_ends_without_an_error(text):
    assert all(0 <= name < value <= len(text) for name, value in member_starts(text))


@given(st.lists(st.text("ab,é"), min_size=1), st.sampled_from(["\n", "\r", "\r\n"]), st.data())
def test_the_place_of_a_character_is_its_line_and_column(lines, end, data):
    number = data.draw(st.integers(0, len(lines) - 1))
    column = data.draw(st.integers(0, len(lines[number])))
    index = len("".join(line + end for line in lines[:number])) + column
    place = place_in("a.csv", 7, end.join(lines), index)
    assert (place.line, place.column) == (7 + number, column + 1)
    assert place.problem("x").source == lines[number]
