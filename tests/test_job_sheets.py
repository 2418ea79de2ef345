"""What a sheet says of its rows is what forms say of each: keys, paths, prompts, fingerprints and lines."""

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
from test_job_forms import PLAIN, jobs, plain

from pipeline import batchfile, record
from pipeline.errors import JobError
from pipeline.gemini import models
from pipeline.job import expand, forms, sources
from pipeline.job.expand import OddError, Parts
from pipeline.job.language import Batch, load
from pipeline.job.sheets import Sheet

MODELS = models.load()
IDS = st.one_of(
    st.from_regex("[a-z0-9]{1,6}(-[a-z0-9]{1,6}){0,2}", fullmatch=True),
    st.from_regex("[A-Za-z0-9]([A-Za-z0-9_. /+-]{0,6}[A-Za-z0-9])?", fullmatch=True),
    st.text(st.sampled_from("aB9:_/ -.~é"), min_size=1, max_size=6),
    st.sampled_from(["com1", "con", "gallery", "PICKS", "a" * 60, "b" * 85, "c-" * 19 + "d"]),
)
TWICE = ("asks for what", "ask for what", "is there already", "have the same", "would both go to")
KNOWN = st.lists(st.tuples(IDS, st.text(max_size=5), st.sampled_from(["", "b", "é", "b\n"])), min_size=2, max_size=9)


class Told:
    """All that is said of a job, and whether there is more to say of its rows than what they ask for.

    What is there twice is not said by parts.
    """

    def __init__(self, folder: Path, *, by_sheets: bool) -> None:
        self.is_odd = self.is_wrong = False
        self.requests, self.lines, self.sheets, self.rows = [], b"", 0, 0
        try:
            self.job = load(folder / "job.yaml", root=folder)
        except JobError:
            self.job = None
            return
        printer = batchfile.Printer(self.job, MODELS)
        if by_sheets:
            try:
                self._by_sheets(printer)
            except OddError:
                self.is_odd = True
        else:
            self._by_forms(printer)

    def _by_forms(self, printer) -> None:
        said, asked = [], []
        try:
            for block in expand.blocks(self.job, models=MODELS, today=TODAY, warn=said.append):
                asked += block
        except JobError as error:
            self.is_wrong = True
            said += error.problems
        self.is_odd = any(not any(words in one.message for words in TWICE) for one in said)
        self._note(printer, asked)

    def _by_sheets(self, printer) -> None:
        parts = Parts(self.job, MODELS, TODAY)
        for found in parts.sheets((0, self.job.items.file(self.job.folder).stat().st_size)):
            if isinstance(found, Sheet):
                self._note_sheet(printer, found)
            else:
                self.rows += 1
                self._note(printer, found[1])
        parts.finish()

    def _note(self, printer, asked) -> None:
        self.requests += [
            (one.key, one.path, one.written, one.fingerprint) for one in asked if isinstance(one, forms.Filled)
        ]
        self.is_odd = self.is_odd or not all(isinstance(one, forms.Filled) and not one.form.has_images for one in asked)
        self.lines += b"".join(bytes(one.data) for one in printer.lines([asked]))

    def _note_sheet(self, printer, sheet) -> None:
        self.sheets += 1
        prints = sheet.fingerprints()
        columns = [
            zip(column.keys, column.paths, map(bytes.decode, column.written), texts, strict=True)
            for column, texts in zip(sheet.columns, prints, strict=True)
        ]
        self.requests += chain.from_iterable(zip(*columns, strict=True))
        lines = printer.sheet(sheet, prints)
        assert sum(lines.sizes) == len(lines.data)
        assert len(lines.sizes) == len(lines.asked) == len(sheet.ids) * len(sheet.columns)
        self.lines += lines.data


def both(manifest: str, rows: str) -> tuple[Told, Told]:
    """What is told by sheets, and by forms."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for file, content in (("job.yaml", manifest), ("rows.csv", rows), ("ref.png", PNG)):
            write(folder, file, content.encode() if isinstance(content, str) else content)
        return Told(folder, by_sheets=True), Told(folder, by_sheets=False)


def agree(by_sheets: Told, by_forms: Told) -> None:
    assert by_sheets.is_odd == by_forms.is_odd or (by_sheets.is_odd and by_forms.is_wrong)  # which hides warnings
    if not by_sheets.is_odd:
        assert by_sheets.requests == by_forms.requests
        assert by_sheets.lines == by_forms.lines


@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(jobs())
def test_sheets_say_what_forms_say(made):
    by_sheets, by_forms = both(*made)
    if by_forms.job and expand.can_be_parted(by_forms.job):
        agree(by_sheets, by_forms)


@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    KNOWN, st.sampled_from(["[a|none] of [id]", "50 % [a|x]", "as it is", "[item] [sample] [a|y]", "{[b|none]}"]),
    st.sampled_from([None, "[id]", "[id]-größe-[sample]", "x-[id]", "[id]/[sample]"]), st.integers(1, 2),
)  # fmt: skip
@example([("com1", "x", ""), ("mug", "y", "")], "[a|x]", "[id]", 1)
@example([("gallery", "x", ""), ("mug", "y", "")], "[a|x]", "[id]", 1)
@example([("PICKS", "x", ""), ("mug", "y", "")], "[a|x]", "[id]", 1)
def test_ids_that_differ_in_what_they_are_made_of_say_it_too(rows, prompt, path, samples):
    quoted = [[cell.replace("\0", "").replace('"', '""') for cell in row] for row in rows]
    text = "".join('"{}","{}","{}"\n'.format(*row) for row in quoted)
    agree(*both(plain(prompt, "", path=path, samples=samples)[0], f"id,a,b\n{text}"))


def test_a_plain_job_is_made_of_sheets_alone():
    rows = "".join(f"Mug_{number},red “{number}”,{number % 3 or ''}\n" for number in range(700))
    by_sheets, by_forms = both(json.dumps(PLAIN), "id,a,b\n" + rows)
    assert (by_sheets.rows, by_sheets.is_odd) == (0, False)
    assert by_sheets.sheets > 1
    assert by_sheets.requests == by_forms.requests
    assert len(by_sheets.requests) == 2800
    assert by_sheets.lines == by_forms.lines != b""


@pytest.mark.parametrize("odd", ["é,x,y\n", "a~,x,y\n", "a:b,x,y\n", f"{'a' * 90},x,y\n"])
def test_a_row_that_is_not_plain_takes_its_neighbours_along_and_no_others(odd):
    rows = [f"mug-{number},red {number},{number}\n" for number in range(700)]
    by_sheets, by_forms = both(json.dumps(PLAIN), "id,a,b\n" + "".join([*rows[:300], odd, *rows[300:]]))
    assert by_sheets.rows == 1
    assert by_sheets.sheets > 1
    agree(by_sheets, by_forms)


@pytest.mark.parametrize("odd", ['"', "\\", "\n", "\t", "\x01", "\x7f", "é"])
def test_one_character_is_written_otherwise_wherever_it_stands(odd):
    cell = odd.replace('"', '""')
    agree(*both(plain("[a] of [id]", "")[0], f'id,a\nmug,x\nbowl,"y{cell}z"\ncup,w\n'))


@pytest.mark.parametrize("odd", ["x,,y\n", " ,x,y\n", "x,y\n", "x,y,z,\n", 'x,"y,z\n', "x,AIza,y\n"])
def test_a_row_that_is_wrong_is_left_to_the_whole(odd):
    rows = [f"mug-{number},red {number},{number}\n" for number in range(300)]
    by_sheets, by_forms = both(json.dumps(PLAIN), "id,a,b\n" + "".join([*rows, odd]))
    assert by_sheets.is_odd
    assert by_forms.is_odd


@given(
    st.lists(st.tuples(st.sampled_from([("a", 3), ("a", 0), ("b", 5)]), st.integers(0, 9)), min_size=1, max_size=30),
    st.tuples(st.integers(1, 6), st.integers(1, 20), st.integers(1, 40)),
)
def test_lines_are_counted_in_as_if_they_came_one_by_one(asked, limits):
    most = Batch(max_requests=limits[0], max_answer_bytes=limits[1], max_input_bytes=limits[2])
    kinds, sizes = [batchfile.Asked(*kind) for kind, _size in asked], [size for _kind, size in asked]
    together, single, at = batchfile.Filling(most), batchfile.Filling(most), 0
    while at < len(kinds):
        count, size = together.run(batchfile.Lines(kinds, sizes, b""), at)
        taken = 0
        while at + taken < len(kinds) and kinds[at + taken] == kinds[at]:
            if not single.takes(answer_bytes=kinds[at].answer_bytes, input_bytes=sizes[at + taken]):
                break
            taken += 1
        assert (count, size) == (taken, sum(sizes[at : at + taken]))
        assert vars(together) == vars(single)
        at += count
        if not count:
            together, single = batchfile.Filling(most), batchfile.Filling(most)


@given(
    st.lists(st.tuples(IDS, st.text(max_size=4)), min_size=1, max_size=5),
    st.sampled_from(["-4-5", "", None, "-" + "x" * 38]),
)
def test_keys_on_the_wire_are_the_same_for_many(pairs, tail):
    keys, slugs = [one + more for one, more in pairs], [record.slug_of(one) or "x" for one, _more in pairs]
    found = record.wire_keys(keys, [key[::-1] for key in keys], slugs, tail)
    assert found == [
        record.wire_key(key, key[::-1], record.slug_with(slug, tail)) for key, slug in zip(keys, slugs, strict=True)
    ]


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.one_of(jobs(), KNOWN.map(lambda rows: plain("[a|none] of [id]", "".join(map(written, rows))))))
@example(plain("[a]", "mug,x\nbowl,y\nmug,z\n"))
@example(plain("[a]", "mug,x\nMUG,y\n"))
@example(plain("[a]", "mug,x\nbowl, \n"))
@example(plain("[a]", "mug,x\nbowl,y,z\n"))
@example(plain("[a] [b]", "mug,x\n"))
@example(plain("[a]", ""))
def test_a_check_finds_all_that_is_wrong(made):
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for file, content in (("job.yaml", made[0].encode()), ("rows.csv", made[1].encode()), ("ref.png", PNG)):
            write(folder, file, content)
        try:
            job = load(folder / "job.yaml", root=folder)
        except JobError:
            return
        assert said(lambda **words: expand.check(job, **words)) == said(lambda **words: [*expand.blocks(job, **words)])


def said(go) -> tuple[list, list]:
    """The problems and the warnings of a job, but for those of asks that are paid twice."""
    problems, warnings = [], []
    try:
        go(models=MODELS, today=TODAY, warn=warnings.append)
    except JobError as error:
        problems = error.problems
    return problems, [one for one in warnings if not any(words in one.message for words in TWICE)]


def written(row) -> str:
    """A row of two columns, as CSV."""
    return '"{}","{}"\n'.format(*(cell.replace("\0", "").replace('"', '""') for cell in row[:2]))


def test_what_is_sound_is_checked_without_printing_a_request(tmp_path, monkeypatch):
    write(tmp_path, "rows.csv", ("id,a\n" + "".join(f"mug-{number},red {number}\n" for number in range(2000))).encode())
    job = load(write(tmp_path, "job.yaml", plain("[a] of [id]", "")[0].encode()), root=tmp_path)
    monkeypatch.setattr(expand, "blocks", lambda *_, **__: pytest.fail("gone through by the law"))
    monkeypatch.setattr(Sheet, "fingerprints", lambda _: pytest.fail("an ask was made"))
    expand.check(job, models=MODELS, today=TODAY, warn=pytest.fail)


@settings(max_examples=500)
@given(st.text(st.sampled_from('ab ",;\r\n\x0b\u2028ü'), max_size=24), st.sampled_from(",; "))
@example('"a""b",c\n', ",")
@example('a"b,"c"\n', ",")
@example('"a"b,c\n', ",")
@example('a,"b\r\n\nc"\r\n\r\n"",x', ",")
@example("a\n\n", ",")
def test_rows_are_split_as_the_reader_of_catalogs_does(text, delimiter):
    found = sources.rows_of(text, delimiter)
    try:
        rows = [*csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)]
    except csv.Error:
        assert found is None
    else:
        assert found in (None, rows) or (not text and found == [[]])


@pytest.mark.parametrize("text", ['a,"b, c",d\n"",x,"y\n"\n', "a,b\r\n\r\nc,d", '"a\r\nb",c\r\n'])
def test_rows_that_are_usual_are_split_without_it(text):
    assert sources.rows_of(text, ",") == [*csv.reader(io.StringIO(text, newline=""), strict=True)]
