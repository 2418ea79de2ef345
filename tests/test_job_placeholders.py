"""Placeholders: one pass, names folded, values never read again."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.job.placeholders import BracketError, EmptySlotError, Scope, bind, fill, fold, split


def filled(text, row=None, fixed=None, moving=None):
    row = row or {}
    scope = Scope(fixed or {}, frozenset(moving or ()))
    bound = bind(split(text), tuple(map(fold, row)), scope)
    return fill(bound, list(row.values()), moving or {})


@pytest.mark.parametrize(
    ("name", "other"),
    [
        ("Product Name", "product_name"),
        ("PRODUCT-NAME", "product name"),
        ("product\n   name", "Product Name"),
        ("bottom-right/top-left/etc.", "bottom right top left etc"),
        (" title ", "Title"),
        ("Straße", "STRASSE"),
        ("aspect_ratio", "aspect"),
        ("Aspect Ratio", "aspect"),
        ("e\u0301tat", "état"),
    ],
)
def test_names_compare_folded(name, other):
    assert fold(name) == fold(other)


@pytest.mark.parametrize(("name", "other"), [("a", "b"), ("%", "#"), ("कि", "का"), ("a1", "a 1")])
def test_names_that_differ_stay_apart(name, other):
    assert fold(name) != fold(other)


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("a [Product Name]!", "a mug!"),
        ("a [product_name|thing]", "a mug"),
        ("[colour|]x", "x"),
        ("[colour|red]", "red"),
        ("[nothing|red]", "red"),
        ("[[product name]]", "[product name]"),
        ("[[]]", "[]"),
        ("a ] b", "a ] b"),
        ("100 %s {x} %(y)s", "100 %s {x} %(y)s"),
    ],
)
def test_a_placeholder_takes_the_value_of_the_row(text, meant):
    assert filled(text, {"product name": "mug", "Colour": " "}) == meant


@pytest.mark.parametrize("text", ["a [", "a [b", "[]", "[ |x]", "[@]", "[a [b]"])
def test_a_bracket_that_makes_no_placeholder_is_refused(text):
    with pytest.raises(BracketError):
        split(text)


def test_the_row_wins_over_fixed_values_and_those_over_built_ins():
    assert filled("[a] [b] [c]", {"a": "row"}, {"a": "axis", "b": "var"}, {"b": "moving", "c": "built-in"}) == (
        "row var built-in"
    )


def test_an_empty_field_does_not_fall_through_to_a_var():
    with pytest.raises(EmptySlotError) as caught:
        filled("[a]", {"a": ""}, {"a": "var"})
    assert caught.value.near is None


def test_an_unknown_name_says_what_may_be_meant():
    with pytest.raises(EmptySlotError) as caught:
        filled("[prodct]", {"Product": "mug"})
    assert caught.value.near == "; did you mean 'product'?"


@given(st.text(), st.text(min_size=1).filter(str.strip))
def test_a_value_is_never_read_again(before, value):
    escaped = before.replace("[", "").replace("]", "")
    assert filled(f"{escaped}[x]", {"x": value}) == f"{escaped}{value}"


@given(st.text().filter(lambda text: not set("[]") & set(text)))
def test_a_text_without_brackets_is_itself(text):
    assert filled(text) == text


@given(st.text())
def test_folding_twice_changes_nothing(name):
    assert fold(fold(name)) == fold(name)
