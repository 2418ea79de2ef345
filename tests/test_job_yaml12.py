"""YAML by the 1.2 core rules, bounded."""

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from pipeline.errors import JobError
from pipeline.job import yaml12


def value(text):
    return yaml12.parse(text, "x.yaml").value


def complaint(text):
    with pytest.raises(JobError) as caught:
        yaml12.parse(text, "x.yaml")
    assert len(caught.value.problems) == 1
    return caught.value.problems[0]


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("16:9", "16:9"),
        ("1:30:00", "1:30:00"),
        ("no", "no"),
        ("Yes", "Yes"),
        ("off", "off"),
        ("12_000", "12_000"),
        ("010", "010"),
        ("-010", "-010"),
        ("00.5", "00.5"),
        ("2026-11-22", "2026-11-22"),
        ("0b11", "0b11"),
        (".inf", ".inf"),
        (".nan", ".nan"),
        ("1e400", "1e400"),
        ("9" * 5000, "9" * 5000),
        ("=", "="),
        ("true", True),
        ("False", False),
        ("null", None),
        ("~", None),
        ("", None),
        ("0", 0),
        ("-7", -7),
        ("0o17", 15),
        ("0x1F", 31),
        ("1.50", 1.5),
        ("1e3", 1000.0),
        (".5", 0.5),
        ("'7'", "7"),
        ('"true"', "true"),
        ('"a\\u263a"', "a☺"),
    ],
)
def test_a_scalar_is_read_by_the_core_rules_of_yaml_1_2(written, meant):
    read = value(f"key: {written}")["key"]
    assert (type(read), read) == (type(meant), meant)


def test_a_scalar_keeps_the_text_it_was_written_as():
    assert value("price: 1.50").nodes["price"].text == "1.50"


def test_every_key_and_value_has_its_place():
    read = value("a: 1\nb:\n  - x\n  -   {c: y}\n")
    assert (read.keys_at["b"].line, read.keys_at["b"].column) == (2, 1)
    place = read["b"].nodes[1].value.at("c")
    assert (place.line, place.column) == (4, 11)
    assert str(place) == "x.yaml:4"


def test_anchors_aliases_and_merges_work_and_own_keys_win():
    read = value("base: &b {a: 1, b: 2}\nnext: {<<: *b, b: 3}\nboth: {<<: [{x: 1}, {x: 2, y: 3}]}\n")
    assert read["next"] == {"a": 1, "b": 3}
    assert read["both"] == {"x": 1, "y": 3}


LAUGHS = "a0: &a0 [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, 40)
)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        pytest.param(LAUGHS, "more than 100,000 values", id="billion laughs"),
        pytest.param("a: &a [*a]", "anchor 'a' contains itself", id="endless anchor"),
        pytest.param("a: *b", "unknown anchor 'b'", id="no such anchor"),
        pytest.param("a: " + "[" * 100_000, "nested more than 50 deep", id="deep lists"),
        pytest.param("a: " + "{a: " * 60 + "1" + "}" * 60, "nested more than 50 deep", id="deep maps"),
        pytest.param("a: 1\nb: 2\na: 3", "key 'a' is there twice", id="duplicate key"),
        pytest.param("a: !!python/object/apply:os.system [id]", "tag", id="python tag"),
        pytest.param("a: !!str 1", "tag", id="harmless tag"),
        pytest.param("a: 1\n---\nb: 2", "a second document", id="two documents"),
        pytest.param("a: \x00", "control character '\\x00'", id="NUL"),
        pytest.param("a: \x1b[31m", "control character '\\x1b'", id="ESC"),
        pytest.param('a: "\\0"', "control character '\\x00'", id="escaped NUL"),
        pytest.param("[a]: 1", "a key must be a text", id="list as key"),
        pytest.param("a: {<<: 3}", "'<<' takes a map", id="merge of a number"),
        pytest.param("a: [title] on a table", "a text that starts with [ needs quotes", id="bracket"),
        pytest.param("a: Photo: a fox", "is not YAML", id="colon"),
        pytest.param("a:\n\tb: 1", "is not YAML", id="tab"),
        pytest.param('a: "x', "is not YAML", id="open quote"),
        pytest.param("a: @b", "is not YAML", id="reserved"),
        pytest.param("key: AIza" + "x" * 35, "holds an API key", id="api key"),
    ],
)
def test_refuses_with_a_place(text, message):
    problem = complaint(text)
    assert message in problem.message
    assert problem.line >= 1
    assert problem.column >= 1


def test_an_api_key_is_not_shown():
    problem = complaint("key: AIza" + "x" * 35)
    assert "AIza" not in problem.message + problem.source + problem.hint


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("prompt: [title] on a table", 'quote it: "[title] on a table"'),
        ("a: Photo: a fox", "a text with ': ' in it needs quotes, or a block: key: |"),
        ("a:\n\tb: 1", "indent with spaces, not with tabs"),
        ("a: *.png", 'if this is text, quote it: "*.png"'),
    ],
)
def test_says_how_to_mend_what_people_write(text, hint):
    assert complaint(text).hint == hint


@pytest.mark.parametrize(
    ("data", "place", "message"),
    [
        pytest.param(b"a: caf\xe9", (1, 7), "byte 0xe9 is not UTF-8", id="latin-1"),
        pytest.param("a: é\nb: ü".encode() + b"\xff", (2, 5), "byte 0xff is not UTF-8", id="second line"),
        pytest.param("a: 1".encode("utf-16"), (0, 0), "is UTF-16", id="utf-16"),
        pytest.param(b"#" * 10_000_001, (0, 0), "more than 10 MB", id="large"),
    ],
)
def test_text_is_utf8(data, place, message):
    with pytest.raises(JobError) as caught:
        yaml12.decoded(data, "x.yaml")
    problem = caught.value.problems[0]
    assert (problem.line, problem.column) == place
    assert message in problem.message


def test_a_byte_order_mark_is_no_part_of_the_text():
    assert yaml12.decoded(b"\xef\xbb\xbfa: 1", "x.yaml") == "a: 1"


@given(st.text(max_size=200))
def test_any_text_is_read_or_refused_in_words(text):
    try:
        yaml12.parse(text, "x.yaml")
    except JobError as error:
        assert error.problems  # noqa: PT017


DATA = st.recursive(
    st.one_of(
        st.text(st.characters(codec="ascii", min_codepoint=32, max_codepoint=126), max_size=8),
        st.integers(),
        st.booleans(),
    ),
    lambda inner: st.one_of(
        st.lists(inner, max_size=4), st.dictionaries(st.text("abc", min_size=1, max_size=3), inner, max_size=4)
    ),
    max_leaves=12,
)


@given(DATA)
def test_what_pyyaml_writes_with_quotes_is_read_back(data):
    written = yaml.safe_dump({"data": data}, default_style='"').replace("!!int ", "").replace("!!bool ", "")
    assert _texts(value(written)["data"]) == _texts(data)


def _texts(data):
    if isinstance(data, dict):
        return {key: _texts(inner) for key, inner in data.items()}
    if isinstance(data, list):
        return [_texts(inner) for inner in data]
    return {True: "true", False: "false"}[data] if isinstance(data, bool) else str(data)


def test_both_parsers_of_pyyaml_read_the_same(monkeypatch):
    text = 'a: 1.50\nb: [16:9, no, {c: "x"}]\nd: &d {e: 010}\nf: {<<: *d, g: ~}\nh: |\n  two\n  lines\n'
    fast = value(text)
    monkeypatch.setattr(yaml12, "_LOADER", yaml.SafeLoader)
    assert value(text) == fast
    assert complaint("prompt: [title] on a table").hint == 'quote it: "[title] on a table"'
