"""HTML of shops as plain text: what people read stays, everything else goes, and nothing takes forever."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.job.plain import plain
from pipeline.job.problems import is_control


@pytest.mark.parametrize(
    ("html", "text"),
    [
        ("<p>Soft &amp; <b>blue</b></p><p>Cotton</p>", "Soft & blue\nCotton"),
        ("Washes at 30&nbsp;&deg;C&#8230;", "Washes at 30 °C…"),
        ("<ul><li>one<li>two</ul>three<br>four<br/>five", "one\ntwo\nthree\nfour\nfive"),
        ("<UL><LI>one</LI>\n  <LI>two</LI></UL>", "one\ntwo"),
        ("<table><tr><th>Size</th><td>M</td></tr><tr><td>Cut</td><td>slim</td></tr></table>", "Size M\nCut slim"),
        ("a\n  b\t c\r\nd", "a b c d"),
        ("light<b>house</b> and <i>a</i><i>b</i>", "lighthouse and ab"),
        ("<script>if (a < b) { x() }</script>seen<style>p { color: red }</style>", "seen"),
        ("<SCRIPT src='x>y'>hidden</SCRIPT >seen", "seen"),
        ("seen<script>never closed", "seen"),
        ("<scripture>seen</scripture>", "seen"),
        ("one<!-- <p>hidden</p> -->two<!---->three<!-->four", "onetwothreefour"),
        ("<!--[if gte mso 9]><xml>x</xml><![endif]-->seen<!-- never closed", "seen"),
        ("<!DOCTYPE html><?xml version='1.0'?>seen", "seen"),
        ("<a title=\"a > b\" href='x'>link</a>", "link"),
        ("<p data-x=5>it's</p> <p>don't</p>", "it's\ndon't"),
        ("<p class=x'y>it's</p>", "it's"),
        ("<div\nclass='a'\n>b</div>", "b"),
        ("<o:p></o:p><my-tag>c</my-tag>", "c"),
        ("&lt;p&gt;", "<p>"),
        ("&am<b></b>p; &lt<i></i>x", "&amp; <x"),
        ("&#0; &#x1F600; &#xD800; &#99999999999; &unknown; &copy 2020", "\ufffd 😀 \ufffd \ufffd &unknown; © 2020"),
        ("5 < 6, a<b, I <3 you, x<y and no end", "5 < 6, a<b, I <3 you, x<y and no end"),
        ("a <b c <i>d</i>", "a <b c d"),
        ("Baum\u00adwolle\u200b &shy;\u202eB\ufeff \x1b[0m\x00", "Baumwolle\u200b B [0m"),
        ("a &#x202e;b &#8232; c", "a b c"),
        ("family 👨\u200d👩\u200d👧", "family 👨\u200d👩\u200d👧"),
        (f"a&#{'9' * 5000};b", "a\ufffdb"),
        ("", ""),
        (" \n ", ""),
        ("Plain text, 100 % cotton; [x] {y} *z* é", "Plain text, 100 % cotton; [x] {y} *z* é"),
    ],
)
def test_what_people_read_stays(html, text):
    assert plain(html) == text


_PARTS = st.sampled_from(
    [
        *(
            "<",
            ">",
            "<p>",
            "</p>",
            "<a ",
            "href=",
            '"',
            "'",
            "<!--",
            "-->",
            "<script>",
            "</script>",
            "<br",
            "/",
            "<![",
            "<?",
        ),
        *("&", "&lt;", "&#", "9" * 9, ";", "x", " ", "\n", "\0", "\u202e", "=", "]]>", "é", "&amp"),
    ]
)


@given(st.one_of(st.text(), st.lists(_PARTS).map("".join)))
def test_no_text_fails_and_what_comes_out_can_be_read(html):
    text = plain(html)
    assert not any(is_control(char) for char in text.replace("\n", ""))
    assert not any(line != " ".join(line.split()) or not line for line in text.split("\n") if text)


_NAMES = st.from_regex("/?[a-zA-Z][a-z0-9:-]{0,8}", fullmatch=True)
_VALUES = st.one_of(st.just(""), st.text("ab<>' ").map('"{}"'.format), st.text('ab<>" ').map("'{}'".format))
_TAGS = st.builds("<{} class={} x>".format, _NAMES, _VALUES)


@given(st.lists(st.one_of(_TAGS, st.text("ab >&'\"=/"))).map("".join))
def test_no_tag_is_left(html):
    assert "<" not in plain(html)


@given(st.text(st.characters(exclude_characters="<&", exclude_categories=["C", "Z"])))
def test_text_without_tags_and_entities_stays(text):
    assert plain(text) == text


@given(st.lists(st.text("ab é.", min_size=1)))
def test_paragraphs_become_lines(paragraphs):
    html = "".join(f"<p class='x'>{text}</p>" for text in paragraphs)
    assert plain(html) == "\n".join(filter(None, (" ".join(text.split()) for text in paragraphs)))


@pytest.mark.timeout(60)
@pytest.mark.parametrize(
    "unit",
    ["<", "<a ", '<a ="', '<a " ="', '<a =">"', "</", "<!--", "<![", "<?", "<script>", "</script", "<p>", "&#9"],
)
@pytest.mark.parametrize("end", ["", ">", "<>"])
@pytest.mark.some('-<a ="', "-<!--", "-&#9")
def test_a_cell_of_megabytes_takes_a_moment(unit, end):
    """What looks ahead in vain at each of a million tags would take days."""
    plain(unit * (1_000_000 // len(unit)) + end)
