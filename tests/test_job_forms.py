"""What a form says is what the law says: keys, paths, fingerprints, records, lines, prices, problems and warnings."""

from __future__ import annotations

import csv
import io
import json
import tempfile
from itertools import chain
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from jobs import PNG, TODAY, write

from pipeline import batchfile, plan
from pipeline.durable import Folder
from pipeline.errors import JobError
from pipeline.gemini import models
from pipeline.job import expand, forms
from pipeline.job.language import load

MODELS = models.load()
ODD = st.text(st.sampled_from("aB9é\"\\'/-:_ \t\n\r\x7f\x85\u2028ß🦉%[]{}éअ~"), max_size=8)
CELLS = st.one_of(
    ODD, st.text(max_size=6), st.sampled_from(["", " ", "con", "gallery", "a\r\nb", "AIzaSyA" + "x" * 32])
)
IDS = st.one_of(st.from_regex("[a-z0-9]{1,6}(-[a-z0-9]{1,6}){0,2}", fullmatch=True), CELLS)
PIECES = [
    "a cup ",
    "[a]",
    "[b]",
    "[a|none]",
    "[b|]",
    "[id]",
    "[item]",
    "[sample]",
    "[tone]",
    "[@ref]",
    '100 % \\ "é"',
    "[none]",
    "{a}",
]
PATHS = [
    None,
    "[id]",
    "[id]-[aspect]",
    "x/[id]-[tone]",
    "[a]/[id]",
    "[id]/[aspect]-[tone]",
    "[aspect]-[tone]-[id]ux",
    "[tone]",
]


@st.composite
def jobs(draw):
    """A manifest and its catalog."""
    job = {"prompt": "".join(draw(st.lists(st.sampled_from(PIECES), min_size=1, max_size=5))), "items": "rows.csv"}
    for word, values in (
        ("samples", [1, 2, 3]),
        ("system", ["be “brief”", "of [a]", "be\tglad", "be\r\nbrief"]),
        ("seed", [7]),
        ("response", [["text", "image"]]),
        ("search", [True]),
        ("model", ["flash", "pro"]),
        ("images", ["ref.png", [{"file": "ref.png", "as": "ref"}]]),
        ("vars", [{"tone": "wärm/cold"}, {"tone": 'a"b\\'}]),
        ("max_age", ["20h"]),
    ):
        if draw(st.integers(0, 3)) == 0:
            job[word] = draw(st.sampled_from(values))
    if isinstance(job.get("images"), str):
        job["images"] = [job["images"]]
    if draw(st.booleans()):
        job["matrix"] = draw(
            st.sampled_from(
                [{"aspect": ["1:1", "4:5"]}, {"aspect": ["1:1", "16:9"], "tone": ["a/b", "ü"]}, {"samples": [1, 2]}]
            )
        )
        job = {word: value for word, value in job.items() if word not in job["matrix"]}
    if path := draw(st.sampled_from(PATHS)):
        job["output"] = {"path": path}
    if draw(st.integers(0, 4)) == 0:
        job["overrides"] = [{"when": {"a": "é*"}, "set": {"size": "2K"}}]
    text = io.StringIO()
    rows = draw(st.lists(st.tuples(IDS, CELLS, CELLS), min_size=1, max_size=5))
    csv.writer(text, lineterminator="\n").writerows(
        [("id", "a", draw(st.sampled_from(["b", "set.size", "B b"]))), *rows]
    )
    return json.dumps(job), text.getvalue().replace("\0", "")


def plain(prompt: str, rows: str, *, path: str | None = None, **more: object) -> tuple[str, str]:
    output = {"output": {"path": path}} if path else {}
    return json.dumps({"prompt": prompt, "items": "rows.csv", **output, **more}), f"id,a\n{rows}"


class Said:
    """All that is said of a job one way."""

    def __init__(self, folder: Path) -> None:
        self.warnings: list = []
        self.requests: list = []
        self.problems: list = []
        self.files: dict = {}
        self.wanted: list = []
        try:
            job = load(folder / "job.yaml", root=folder)
        except JobError as error:
            self.problems = error.problems
            return
        blocks = []
        try:
            blocks.extend(expand.blocks(job, models=MODELS, today=TODAY, warn=self.warnings.append))
        except JobError as error:
            self.problems = error.problems
        asked = [*chain.from_iterable(blocks)]
        self.filled = sum(isinstance(request, forms.Filled) for request in asked)
        self.wanted = [
            *plan.wanted(asked, MODELS, service="local", today=TODAY, may_be_late=True),
        ]
        self.requests = [told(expand.whole(request)) for request in asked]
        if not self.problems:
            out = Folder(folder / "out").make()
            self.made = batchfile.compile_all(out, job, blocks, MODELS)
            self.files = {path.name: path.read_bytes() for path in sorted(out.path.iterdir())}


def told(request):
    """A request with the places of its settings in words: two readings of a file are two files."""
    places = {word: str(place) for word, place in request.provenance.items()}
    return {**{name: getattr(request, name) for name in request.__slots__}, "provenance": places}


def both(manifest: str, rows: str) -> tuple[Said, Said]:
    """What is said by forms, and by the law alone."""
    with tempfile.TemporaryDirectory() as name, pytest.MonkeyPatch.context() as patch:
        folder = Path(name)
        for file, content in (("job.yaml", manifest), ("rows.csv", rows), ("ref.png", PNG)):
            write(folder, file, content.encode() if isinstance(content, str) else content)
        patch.setattr(expand, "_BLOCK", 1)  # so that what comes before a problem is seen
        by_forms = Said(folder)
        patch.setattr(forms.Forms, "filled", lambda *_: None)
        return by_forms, Said(folder)


@settings(max_examples=2 * settings.default.max_examples, suppress_health_check=[HealthCheck.too_slow])
@given(jobs())
@example(plain("[a]", "com1,x\naux,y\nabcde,v\n"))
@example(plain("[a]", "abc,y\nmanifest,x\n"))
@example(plain("[a]", "b,y\na,x\n", path="[id]ux"))
@example(plain("[a]", "b,y\ncon,x\n", path="[id]/small"))
@example(plain("[a]", f"{'a-' * 45}a,x\n{'b' * 39},y\n{'c' * 40}-d,y\n"))
@example(plain("[a]", "a/s1,x\na,x\na/s1/s1,y\n", samples=2))
@example(plain("[a] [id]", 'mug,"a\r\nb"\n'))
@example(plain("[a] and [a]", 'mug,"a\r\nb"\nbowl, \n'))
@example(plain("[a]", "mug,x\n", system="be\r\nbrief"))
def test_forms_say_what_the_law_says(made):
    by_forms, by_law = both(*made)
    assert by_forms.problems == by_law.problems
    assert by_forms.warnings == by_law.warnings
    assert by_forms.requests == by_law.requests
    assert by_forms.wanted == by_law.wanted
    assert by_forms.files == by_law.files


PLAIN = {
    "prompt": "a [a] and [b|none] for [id]",
    "items": "rows.csv",
    "matrix": {"aspect": ["1:1", "4:5"]},
    "samples": 2,
    "system": "brief",
    "output": {"path": "[id]-[aspect]"},
}


def test_a_plain_job_is_made_of_forms_alone():
    by_forms, by_law = both(json.dumps(PLAIN), "id,a,b\nmug-1,red,x\nmug-2,“grün”,\n")
    assert (by_forms.filled, by_law.filled) == (8, 0)
    assert by_forms.wanted == by_law.wanted
    assert by_forms.files == by_law.files != {}


def test_a_mark_is_cut_out_only_where_it_stands_once():
    assert forms.cut('{"a":"\\u0000key\\u0000","b":1}', forms.KEY) == ('{"a":', ',"b":1}')
    assert forms.cut('["\\u0000key\\u0000","\\u0000key\\u0000"]', forms.KEY) is None
    assert forms.cut("[]", forms.KEY) is None
