"""What is there twice is found whether it is noted in memory or on the disk."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jobs import complaints, expanded, write

from pipeline.errors import LocalError
from pipeline.job import unique
from pipeline.job.unique import Marks, mark

TEXTS = st.lists(st.lists(st.text(st.sampled_from("abcdef"), max_size=2), max_size=9), max_size=12)
ROWS = st.lists(st.tuples(st.sampled_from("abcdefghi"), st.sampled_from("xyz")), min_size=1, max_size=12)
JOB = "prompt: a [a]\nitems: rows.csv\nmatrix: {aspect: [1:1, 4:5]}\noutput: {path: '[a]-[id]'}\n"


@given(TEXTS, st.integers(1, 6), st.booleans())
def test_marks_agree_with_counting_however_few_are_held_in_memory(texts, most, is_taken):
    with pytest.MonkeyPatch.context() as patch, Marks() as marks:
        for some in texts:
            patch.setattr(unique, "_MOST", most)
            if is_taken:
                patch.setattr(unique, "_MOST", 100)
                other = Marks()
                other.add(some)
                dumped = other.dump()
                assert other.twice() == set()  # it has handed them over
                patch.setattr(unique, "_MOST", most)
                marks.take(dumped)
            else:
                marks.add(some)
            assert sum(map(len, marks._parts)) <= most
        every = [text for some in texts for text in some]
        twice = {mark(text) for text in every if every.count(text) > 1}
        assert marks.twice() == twice
        assert marks.twice() == twice  # and again


@settings(max_examples=40, deadline=None)
@given(ROWS, st.integers(1, 30))
def test_a_job_is_told_of_what_is_twice_as_if_all_were_in_memory(rows, most):
    text = "id,a\n" + "".join(f"{one},{cell}\n" for one, cell in rows)
    with tempfile.TemporaryDirectory() as name, pytest.MonkeyPatch.context() as patch:
        folder = Path(name)
        write(folder, "rows.csv", text.encode())
        told = complaints(folder, JOB)
        patch.setattr(unique, "_MOST", most)
        assert complaints(folder, JOB) == told


def test_what_is_noted_on_the_disk_has_no_name_and_is_gone(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(unique, "_MOST", 10)
    with Marks() as marks:
        marks.add([*map(str, range(100)), "7"])
        assert marks.twice() == {mark("7")}
        assert [*tmp_path.iterdir()] == []
        assert marks._file.size == 8 * 101
    with pytest.raises(ValueError, match="closed"):
        marks._file.read(0, 8)


def test_where_nothing_can_be_noted_on_the_disk_that_is_said(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "nowhere"))
    monkeypatch.setattr(unique, "_MOST", 3)
    write(tmp_path, "rows.csv", "id,a\n" + "".join(f"{number},x\n" for number in range(9)))
    with pytest.raises(LocalError, match="cannot write a temporary file: No such file or directory"):
        expanded(tmp_path, JOB)
