"""A line of the output manifest says the same to who reads a part of it only."""

from __future__ import annotations

import json

from hypothesis import example, given
from hypothesis import strategies as st

from pipeline import record

MARKS = st.sampled_from(['"', "\\", ',"files":[', '],"fingerprint":"', '\\",\\"files\\":[', "]", "\ud800", "é"])
TEXTS = st.lists(MARKS | st.text(max_size=5), max_size=4).map("".join)
FILES = st.lists(st.fixed_dictionaries({"path": TEXTS, "kind": TEXTS, "width": st.none() | st.integers()}), max_size=3)


@given(TEXTS, TEXTS, FILES, st.dictionaries(TEXTS, TEXTS | FILES, max_size=3))
@example("k", ',"files":[', [{"path": '],"fingerprint":"'}], {"files": [1], "fingerprint": "x"})
def test_the_files_of_a_line_are_those_of_its_record(key, reason, files, values):
    told = {"key": key, "reason": reason, "files": files, "fingerprint": "f", "vars": values}
    assert record.files(record.dumps(told)) == files


def test_a_line_of_somebody_else_is_read_as_a_whole():
    for told in ({"fingerprint": "f", "files": [{"path": "a"}]}, {"files": [{"path": "a"}], "fingerprint": None}):
        assert record.files(json.dumps(told)) == [{"path": "a"}]
    assert record.files("{}") == []
