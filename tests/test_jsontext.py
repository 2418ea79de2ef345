"""JSON that is read and written quickly is what the standard library makes of it."""

import json
import math

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from pipeline import jsontext

NUMBERS = st.integers() | st.floats(allow_nan=False, allow_infinity=False)
TEXTS = st.text(st.characters(codec=None), max_size=20)
VALUES = st.recursive(
    st.none() | st.booleans() | NUMBERS | TEXTS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXTS, inner, max_size=4),
    max_leaves=20,
)

PIECES = (b"", b"NaN", b"-Infinity", b"1e999", b",", b'"', b"\\ud800", b"\x00", b"\xed\xa0")


def read(loads, text):
    """What comes of a text, types and the order of keys included; or what is raised."""
    try:
        return repr(loads(text))
    except (ValueError, RecursionError) as error:
        return type(error)


@given(VALUES)
@example(1e-05)
@example(-0.00001)
@example([1e16, 1e-7, 0.0001, -1e22, 123456789012345680.0])
@example({"a": [1 << 63, 1 << 64, -(1 << 63) - 1], "\ud800": "\x7f\u2028é😀"})
def test_written_as_the_standard_library_writes(value):
    written = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    try:
        written.encode()
    except UnicodeEncodeError:
        written = json.dumps(value, separators=(",", ":"))
    assert jsontext.dumps(value) == written


@pytest.mark.parametrize("value", [{1: "a"}, {None: 1}, (1, 2), [1.5, (True,)]])
def test_so_is_what_is_not_quite_json(value):
    assert jsontext.dumps(value) == json.dumps(value, separators=(",", ":"))


@given(VALUES, st.sampled_from(["utf-8", "utf-16", "utf-8-sig"]), st.booleans())
def test_read_as_the_standard_library_reads(value, encoding, is_ascii):
    text = json.dumps(value, ensure_ascii=is_ascii)
    assert read(jsontext.loads, text) == read(json.loads, text)
    coded = text.encode(encoding, "surrogatepass")
    assert read(jsontext.loads, coded) == read(json.loads, coded)


@given(st.data())
def test_so_is_what_is_broken(data):
    text = json.dumps(data.draw(VALUES), ensure_ascii=False).encode("utf-8", "surrogatepass")
    at = data.draw(st.integers(0, len(text)))
    piece = data.draw(st.sampled_from(PIECES))
    broken = text[:at] + piece + text[at + data.draw(st.integers(0, 3)) :]
    assert read(jsontext.loads, broken) == read(json.loads, broken)


@pytest.mark.parametrize(
    "text",
    [
        "18446744073709551616", "-9223372036854775809", "1" * 5000, "[" * 200_000, "NaN",
        '{"a":1,"b":2,"a":3}', "-0", "1E5", "\ufeff{}", "", " 1 ",
    ],
)  # fmt: skip
def test_so_is_what_another_reader_takes_otherwise(text):
    assert read(jsontext.loads, text) == read(json.loads, text)


def test_what_is_nested_too_deeply_for_one_is_so_for_both():
    with pytest.raises(RecursionError):
        jsontext.loads("[" * 1010 + "]" * 1010)


def test_a_number_that_is_none_is_read_as_the_standard_library_reads_it():
    assert math.isnan(jsontext.loads('{"a": NaN}')["a"])
