"""Segments of paths."""

import os
import re
import subprocess
import sys
import unicodedata
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.job.slugs import MAX_SEGMENT, slug


@pytest.mark.parametrize(
    ("text", "segment"),
    [
        ("mug-01", "mug-01"),
        ("Blue Enamel Mug", "blue-enamel-mug"),
        ("16:9", "16x9"),
        ("1.50", "1-50"),
        ("a_b", "a-b"),
        ("  .hidden ", "hidden"),
        ("../../etc/passwd", "etc-passwd"),
        ("-rf", "rf"),
        ("Crème Brûlée", "creme-brulee"),
        ("Smørrebrød", "smorrebrod"),
        ("Straße", "strasse"),
        ("ﬁne", "fine"),
        ("Łódź", "lodz"),
        ("Ærø", "aero"),
        ("Þór", "thor"),
        ("cœur", "coeur"),
        ("Đà Nẵng", "da-nang"),
        ("Ŀl", "l-l"),
        ("q\u0308", "q"),
        ("№ 5", "no-5"),
        ("½", "1-2"),
        ("20 ℃", "20-c"),
        ("€5 ©", "5"),
        ("Привет мир", "privet-mir"),
        ("Йогурт", "yogurt"),
        ("Ελλάδα", "ellada"),
        ("日本 mug", "riben-mug"),
        ("16:9 日", "16x9-ri"),
        ("赤い猫", "chiimao"),
        ("がんばれ", "ganbare"),
        ("コーヒー", "kohi"),
        ("서울", "seoul"),
        ("नमस्ते", "nmste"),
        ("ไทย", "aithy"),
        ("שלום", "slvm"),
        ("مرحبا", "mrhb"),
        ("🐱", "cat"),
        ("🐱cup", "cat-cup"),
        ("🐱🦊", "cat-fox"),
        ("❤\ufe0f", "heart"),
        ("👩\u200d🍳", "woman-cooking"),
        ("🇩🇪", "de"),
        ("<script>", "script"),
        ("=1+1", "1-1"),
    ],
)
def test_a_text_becomes_a_segment(text, segment):
    assert slug(text) == segment


@pytest.mark.parametrize("name", ["con", "CON", "prn", "aux", "nul", "com1", "LPT9"])
def test_names_reserved_on_windows_die(name):
    assert re.fullmatch(f"{name.lower()}-[0-9a-f]{{8}}", slug(name))


@pytest.mark.parametrize(
    ("one", "other"),
    [("茶", "水"), ("🦊", "🐻"), ("...", "---"), ("Ж", "Я"), ("𒀀-1", "𒀁-1")],
)
def test_texts_that_differ_stay_apart(one, other):
    assert slug(one) != slug(other)


@pytest.mark.parametrize(
    ("text", "start"), [("...", ""), ("\u0308", ""), ("\u39dd", ""), ("𒀀-1", "1-"), ("\uff43on", "con-")]
)
def test_what_has_no_spelling_keeps_digits_of_its_hash(text, start):
    assert re.fullmatch(f"{start}[0-9a-f]{{8}}", slug(text))


def test_other_scripts_are_read_only_where_they_occur():
    code = (
        "import sys; from pipeline.job.slugs import slug; slug('a:b'); slug('Crème'); print('anyascii' in sys.modules)"
    )
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parent.parent)}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment)
    assert done.stdout == "False\n"


def test_a_long_text_keeps_71_bytes_and_its_hash():
    one, other = slug("a" * 300), slug("a" * 301)
    assert re.fullmatch("a{71}-[0-9a-f]{8}", one)
    assert one != other


@given(st.text(min_size=1))
def test_a_segment_is_safe_everywhere(text):
    segment = slug(text)
    assert re.fullmatch("[a-z0-9]+(-[a-z0-9]+)*", segment)
    assert len(segment) <= MAX_SEGMENT


@given(st.text(min_size=1))
def test_unicode_forms_of_one_text_make_one_segment(text):
    assert slug(unicodedata.normalize("NFC", text)) == slug(unicodedata.normalize("NFD", text))


@given(st.from_regex("[a-z0-9]+(-[a-z0-9]+)*", fullmatch=True).filter(lambda text: len(text) <= MAX_SEGMENT))
def test_a_segment_stays_itself_unless_reserved(text):
    assert slug(text) == text or slug(text).startswith(text)
