"""Problems as people see them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.errors import JobError, Problem
from pipeline.job.problems import MOST, Place, Problems, Source, escaped, excerpt, listed, meant, quoted


def test_a_problem_is_shown_as_a_compiler_does():
    problem = Problem(
        "jobs/spring.yaml",
        2,
        1,
        "unknown key 'promt' in a job; did you mean 'prompt'?",
        source="promt: Studio photo of a [product]",
    )
    assert excerpt(problem) == (
        "jobs/spring.yaml:2:1: error: unknown key 'promt' in a job; did you mean 'prompt'?\n"
        "     2 | promt: Studio photo of a [product]\n"
        "       | ^"
    )


def test_a_hint_comes_last_and_a_warning_is_called_one():
    problem = Problem("a.yaml", 1, 3, "odd", "write it so", "x: y")
    assert excerpt(problem, kind="warning").splitlines() == [
        "a.yaml:1:3: warning: odd",
        "     1 | x: y",
        "       |   ^",
        "  hint: write it so",
    ]


def test_a_problem_of_a_whole_file_has_no_excerpt():
    assert excerpt(Problem("a.yaml", 0, 0, "is empty")) == "a.yaml: error: is empty"


def test_control_characters_are_escaped_and_the_caret_still_points():
    shown = excerpt(Problem("a.yaml", 1, 3, "bad \x1b[31m", source="\x1bxY")).splitlines()
    assert shown[0].endswith("bad \\x1b[31m")
    assert shown[1].index("Y") == shown[2].index("^")


def test_a_long_line_is_cut_around_the_column():
    shown = excerpt(Problem("a.yaml", 1, 5001, "here", source="x" * 5000 + "Y" + "z" * 5000)).splitlines()
    assert len(shown[1]) < 200
    assert shown[1].index("Y") == shown[2].index("^")


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ("a", "'a'"),
        ("a\nb", "'a\\nb'"),
        ("\u202e", "'\\u202e'"),
        ("x" * 100, f"'{'x' * 80}…'"),
        (3, "'3'"),
        ("\ud800", "'\\ud800'"),
    ],
)
def test_a_value_in_a_message_is_escaped_and_cut(value, shown):
    assert quoted(value) == shown


@given(st.text())
def test_escaped_text_can_be_printed(text):
    safe = escaped(text)
    assert not any(ord(char) < 32 or 0x7F <= ord(char) < 0xA0 for char in safe)
    safe.encode()


def test_at_most_fifty_problems_are_told_and_the_rest_counted():
    problems = Problems()
    place = Place(Source("a.yaml", ["x"] * 100), 1, 1)
    for line in range(1, 81):
        problems.add(place._replace(line=line).problem("bad"))
    with pytest.raises(JobError) as caught:
        problems.check()
    told = caught.value.problems
    assert len(told) == MOST + 1
    assert sum(str(problem) == "a.yaml: 30 more problems like these; these are the first 50" for problem in told) == 1


def test_the_same_problem_is_told_once():
    problems = Problems()
    for _ in range(3):
        problems.add(Problem("a.yaml", 1, 1, "bad"))
        problems.add(Problem("a.yaml", 2, 2, "worse"), once="worse")
    problems.add(Problem("a.yaml", 3, 3, "worse"), once="worse")
    with pytest.raises(JobError) as caught:
        problems.check()
    assert len(caught.value.problems) == 2


def test_near_words_are_meant_and_far_ones_not():
    assert meant("Aspct", ["aspect", "size"]) == "; did you mean 'aspect'?"
    assert meant("4k", ["1K", "4K"]) == "; did you mean '4K'?"
    assert meant("zebra", ["aspect", "size"]) == ""
    assert listed("abc") == "a, b or c"
