"""Mistakes that strangers made, and what they are told: one line each, at the right place, with what to type."""
# ruff: noqa: E501 - a mistake and what is said of it stand in one line

import pytest
from jobs import PNG, TODAY, FakeModels, complaints, expanded, write

from pipeline.job.expand import examine

ITEMS = "items: [{id: a, kind: glass}, {id: b, kind: wood}]\n"


@pytest.fixture
def shop(tmp_path):
    write(tmp_path, "t.csv", "id,x\na,1\n")
    write(tmp_path, "refs/a.png", PNG)
    write(tmp_path, "templates/t.md", "a template")
    return tmp_path


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        # What loses a key it needs goes as a whole.
        ("prompt: {file: }", "1:16: 'prompt.file' is a text, not empty"),
        ("prompt: {file: ''}", "1:16: 'prompt.file' is empty"),
        ("prompt: {file: [x]}", "1:16: 'prompt.file' is a text, not a list (quote it: \"[x]\")"),
        ("prompt: x\ntables: {t: {file: }}", "2:20: 'tables.t.file' is a text, not empty"),
        ("prompt: x\ntables: {t: {file: t.csv, on: [[id]]}}", "2:32: 'tables.t.on[1]' is a text, not a list"),
        (f"prompt: x [id]\n{ITEMS}overrides: [{{when: {{kind: {{not: []}}}}, set: {{size: 2K}}}}]", "3:33: 'overrides[1].when.kind.not' is an empty list"),
        (f"prompt: x [id]\n{ITEMS}overrides: [{{when: {{kind: glass}}, set: {{prompt: {{file: }}}}}}]", "3:56: 'overrides[1].set.prompt.file' is a text, not empty"),
        ("prompt: x\nitems: [{}]", "2:9: 'items[1]' is an empty map"),
        ("prompt: x\nitems: [null]", "2:9: 'items[1]' is a text or a map, not empty"),
        ("prompt: x\nitems: {csv: ''}", "2:14: 'items.csv' is empty"),
        ("prompt: x\njob: ''", "2:6: 'job' is empty"),
        ("prompt: x\nsearch: [google]", "2:10: 'search[1]' is web or image, not 'google'"),
        ("prompt: x\nvars: {'': 1}", "2:7: a name in 'vars' is empty"),
        # Values, and how they are written.
        ("prompt: x\nsamples: [2]", "2:10: 'samples' is a whole number, not a list (write 2)"),
        ("prompt: x\ntemperature: [1]", "2:14: 'temperature' is a number, not a list (write 1)"),
        ("prompt: x\nthoughts: [true]", "2:11: 'thoughts' is true or false, not a list (write true)"),
        ("prompt: x\nsamples: 010", "2:10: 'samples' is a whole number, not a text: '010' (write 10)"),
        ("prompt: x\nbudget: $5", "2:9: 'budget' is a number or a map, not a text: '$5' (write 5)"),
        ("prompt: x\ntemperature: 1,5", "2:14: 'temperature' is a number, not a text: '1,5' (write 1.5)"),
        ("prompt: x\nversion: '1'", "2:10: 'version' is 1, not the text '1' (take the quotes away)"),
        ("prompt: x\nsearch: web", "2:9: 'search' is true or false or a list, not a text: 'web' (write a list: [web])"),
        ("prompt: x\nsearch: yes", "2:9: 'search' is true or false or a list, not a text: 'yes' (write true)"),
        ("prompt: x\naspect: 16x9", "2:9: 'aspect' is W:H such as 4:5, or auto, not '16x9' (write 16:9)"),
        ("prompt: x\naspect: 8:10", "2:9: picture-2 has no aspect '8:10'; write '4:5', which is the same"),
        ("prompt: x\nmax_age: 20", "2:10: 'max_age' is a duration such as 90m, 20h or 7d, not '20' (write 20h for hours"),
        # Words in the wrong place, and words of other tools.
        ("prompt: x\nratio: 4:5", "2:1: unknown key 'ratio' in a job; here it is called 'aspect'"),
        ("prompt: x\nfilter: {a: b}", "2:1: unknown key 'filter' in a job; here it is called 'where', a key of 'items'"),
        ("prompt: x\nsidecar: true", "2:1: unknown key 'sidecar' in a job; it is a key of 'output'"),
        ("prompt: x\nexclude: []", "2:1: unknown key 'exclude' in a job; it is a key of 'matrix'"),
        ("prompt: x\nnegative_prompt: y", "2:1: unknown key 'negative_prompt' in a job (these models have none"),
        ("prompt: x\nsafety: {HARM_CATEGORY_HATE_SPEECH: off}", "2:10: unknown key 'HARM_CATEGORY_HATE_SPEECH' in 'safety'; here it is called 'hate_speech'"),
        ("prompt: x\nitems: {id: a, thing: b}", "2:16: unknown key 'thing' in 'items' (for items of your own write a list"),
        ("prompt: x\nmatrix: {a: [1], exclude: [{b: 1}]}", "2:29: 'b' is no axis of the matrix (axes: a)"),
        ("prompt: x\nsize:2K", "2:1: is not YAML"),
        ("prompt: 'x\nsize: 2K", "1:9: is not YAML"),
        ("prompt: x\noutput: {path: '[id].tiff'}", "2:16: output.path: no extension here"),
        ("prompt: x\noutput: {path: '[id]/[@room]'}", "2:22: output.path: [@room] names images, not a place"),
        ("turns: [{prompt: a, name: x}, {prompt: b, name: x}]", "1:49: two turns have the name 'x'"),
        ("prompt: x\nimages: [refs/a.png, {file: refs/a.png, as: r}, {file: refs/a.png, as: R}]", "2:72: images: the label 'R' is there twice"),
        ("prompt: my key is AIzaSyA-1234567890abcdefghijklmnopqrstu", "1:19: holds an API key"),
        ("prompt: a [nam]\nsiz: 2K", "1:11: unknown placeholder [nam]"),
    ],
)  # fmt: skip
def test_one_mistake_is_one_line_in_its_place(shop, text, complaint):
    found = complaints(shop, text)
    assert any(line.startswith(complaint) for line in found), found
    if "siz: 2K" not in text and "AIza" not in text:
        assert len(found) == 1, found


def test_all_unknown_placeholders_of_a_text_are_told(shop):
    found = complaints(shop, "prompt: a [x1] and [y1]\nsystem: of [z1]")
    assert [line.partition("placeholder ")[2][:4] for line in found] == ["[x1]", "[y1]", "[z1]"]


@pytest.mark.parametrize("null", ["sise: null", "batch: {max_reqests: null}"])
def test_a_null_hides_no_typo(shop, null):
    write(shop, "_a.yaml", "prompt: x")
    assert "unknown key" in complaints(shop, f"extends: _a.yaml\n{null}")[0]


def test_a_null_may_take_the_only_axis_away(shop):
    write(shop, "_a.yaml", "prompt: x\nmatrix: {m: [1, 2]}")
    assert len(expanded(shop, "extends: _a.yaml\nmatrix: {m: null}")) == 1


def test_of_two_bases_the_later_says_what_to_draw(shop):
    write(shop, "_a.yaml", "prompt: x")
    write(shop, "_b.yaml", "template: t")
    assert [r.ask.prompt for r in expanded(shop, "extends: [_a.yaml, _b.yaml]")] == ["a template"]


def test_a_matrix_may_be_nothing_but_cells(shop):
    requests = expanded(shop, "prompt: '[a] [b]'\nmatrix: {include: [{a: x, b: y}, {b: w, a: v}]}")
    assert [r.key for r in requests] == ["job/x/y", "job/v/w"]


def test_exclude_takes_several_values_and_any_spelling_of_an_axis(shop):
    requests = expanded(
        shop, "prompt: '[Colour Way]'\nmatrix: {Colour Way: [a, b, c], exclude: [{colour_way: [a, c]}]}"
    )
    assert [r.key for r in requests] == ["job/b"]


@pytest.mark.parametrize(
    ("text", "warning"),
    [
        (f"prompt: x [id]\n{ITEMS}overrides: [{{when: {{kind: glas}}, set: {{size: 2K}}}}]", "this override holds for no item"),
        (f"prompt: 'x [id] {{kind}}'\n{ITEMS}", "{kind} is no placeholder"),
        ("prompt: x\nvars: {a: 'of [b]'}", "[b] in vars is no placeholder: what stands there is put in as it is"),
        ("prompt: x\nmatrix: {aspekt: [4:5]}", "no text uses the axis 'aspekt'; did you mean 'aspect'?"),
        ("prompt: x [id]\nmatrix: {id: [1]}", "axis 'id' hides the built-in [id]"),
        ("prompt: x [id]\nitems: [{id: a, skip: true}]", "'skip' in an item is a placeholder"),
        ("prompt: x\naspect: 4:5\nmatrix: {aspect: [1:1]}", "'aspect' is set here for nothing: it is an axis of the matrix, too"),
    ],
)  # fmt: skip
def test_what_is_likely_not_meant_is_a_warning(shop, text, warning):
    warnings = []
    expanded(shop, text, warnings=warnings)
    assert warning in warnings


def test_columns_with_a_slip_are_a_warning(shop):
    write(shop, "c.csv", "sku,set aspect\na,4:5\n")
    warnings = []
    expanded(shop, "prompt: x\nitems: c.csv", warnings=warnings)
    assert "the column 'set aspect' is a placeholder, not a setting" in warnings


@pytest.mark.parametrize("cell", ["2.0", "2", "2e0"])
def test_a_spreadsheet_may_write_whole_numbers_with_a_point(shop, cell):
    write(shop, "c.csv", f"sku,set.samples,set.seed\na,{cell},{cell}\n")
    requests = expanded(shop, "prompt: x\nitems: c.csv")
    assert [r.ask.settings()["seed"] for r in requests] == [2, 3]


def test_the_id_in_a_text_is_the_one_in_the_key(shop):
    write(shop, "c.csv", "id,x\n  Cafe\u0301 A ,1\n")
    [request] = expanded(shop, "prompt: '[id]'\nitems: c.csv")
    assert request.ask.prompt == request.id == "Caf\u00e9 A"


def test_line_ends_buy_nothing(shop):
    write(shop, "p.md", "one\ntwo")
    [unix] = expanded(shop, "prompt: {file: p.md}")
    write(shop, "p.md", "one\r\ntwo")
    [windows] = expanded(shop, "prompt: {file: p.md}")
    assert unix.fingerprint == windows.fingerprint
    write(shop, "c.csv", 'id,x\na,"one\ntwo"\n')
    [unix] = expanded(shop, "prompt: '[x]'\nitems: c.csv")
    write(shop, "c.csv", 'id,x\r\na,"one\r\ntwo"\r\n')
    [windows] = expanded(shop, "prompt: '[x]'\nitems: c.csv")
    assert unix.fingerprint == windows.fingerprint


def test_a_line_of_a_template_is_counted_as_editors_do(shop):
    write(shop, "templates/f.md", "one\x0c\u2028two\nthree [nope]")
    assert complaints(shop, "template: f")[0].startswith("f.md:2:7: unknown placeholder [nope]")


@pytest.mark.torture
def test_many_excludes_and_includes_take_no_time(shop):
    values = ", ".join(map(str, range(3000)))
    excludes = ", ".join(f"{{a: {number}}}" for number in range(2900))
    includes = ", ".join(f"{{a: x{number}}}" for number in range(3000))
    text = f"prompt: '[a]'\nmatrix: {{a: [{values}], exclude: [{excludes}], include: [{includes}]}}"
    assert len(expanded(shop, text)) == 3100


def test_a_thousand_templates_that_are_not_there_are_counted(shop):
    write(shop, "c.csv", "id,set.template\n" + "".join(f"{number},nope-{number}\n" for number in range(1000)))
    found = complaints(shop, "prompt: x\nitems: c.csv")
    assert len(found) == 51
    assert "950 more problems" in found[-1]


def test_warnings_of_a_job_come_at_their_place(shop):
    problems = []
    path = write(shop, "j.yaml", "prompt: x\nmatrix:\n  aspekt: [4:5]\n")
    examine(path, root=shop, models=FakeModels(), today=TODAY, warn=problems.append)
    assert [(problem.line, problem.column) for problem in problems] == [(3, 3)]


def test_a_path_that_forgets_an_axis_is_told_once_where_it_is_written(shop):
    write(shop, "c.csv", "id\na\nb\nc\n")
    text = 'prompt: "[id] [light]"\nitems: c.csv\nmatrix: {light: [soft, hard], aspect: [1:1, 4:5]}\noutput: {path: "[id]"}'
    [found] = complaints(shop, text)
    assert found == (
        "4:16: output.path: 'a/soft/1:1' and 'a/soft/4:5' would both go to 'a' (add [light] and [aspect] to the path)"
    )
