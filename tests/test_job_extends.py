"""Manifests that build on others: what merges, what replaces, what is taken away, and where errors point."""
# ruff: noqa: E501 - a mistake and what is said of it stand in one line

import pytest
from jobs import JPEG, complaints, expanded, loaded, write

from pipeline.job.language import Retry


def test_maps_merge_and_all_else_replaces(tmp_path):
    write(
        tmp_path,
        "_base.yaml",
        """\
        model: flash
        size: 2K
        tags: [a, b]
        vars: {light: soft, mood: calm}
        safety: {hate_speech: block_none, harassment: off}
        matrix: {aspect: [1:1, 4:5], tone: [warm]}
        checks: {decode: false, not_blank: false}
        batch: {max_requests: 7}
        output: {path: "base/[id]"}
        retry: {again: 5, on: [failed]}
        """,
    )
    job = loaded(
        tmp_path,
        """\
        extends: _base.yaml
        prompt: "[light] [mood] [tone]"
        tags: [c]
        vars: {light: hard}
        safety: {harassment: block_only_high}
        matrix: {aspect: [16:9]}
        checks: {not_blank: true}
        batch: {deadline: 2d}
        output: {sidecar: true}
        retry: 1
        """,
    )
    assert job.tags == ("c",)
    assert {name: said.value for name, said in job.vars.items()} == {"light": "hard", "mood": "calm"}
    assert {name: said.value for name, said in job.settings["safety"].value.items()} == {
        "hate_speech": "block_none",
        "harassment": "block_only_high",
    }
    assert [[value.text for value in cell.values()] for cell in job.matrix.cells] == [["16:9", "warm"]]
    assert (job.checks.decode, job.checks.not_blank) == (False, True)
    assert (job.batch.max_requests, job.batch.deadline_s) == (7, 172_800.0)
    assert job.output is None
    assert job.sidecar
    assert job.retry == Retry(again=1)


def test_the_later_of_several_bases_is_the_stronger(tmp_path):
    write(tmp_path, "_a.yaml", "size: 2K\naspect: 4:5\nprompt: a")
    write(tmp_path, "_b.yaml", "extends: _c.yaml\naspect: 16:9")
    write(tmp_path, "_c.yaml", "samples: 2\naspect: 1:1")
    requests = expanded(tmp_path, "extends: [_a.yaml, _b.yaml]")
    assert [(r.ask.size, r.ask.aspect, r.sample) for r in requests] == [("2K", "16:9", 1), ("2K", "16:9", 2)]


def test_null_takes_away_what_is_inherited(tmp_path):
    write(tmp_path, "_a.yaml", "size: 2K\nvars: {light: soft, mood: calm}\nmatrix: {aspect: [1:1, 4:5], tone: [x]}")
    [request] = expanded(
        tmp_path,
        'extends: _a.yaml\nprompt: "[light|dark] [mood]"\nsize: null\nvars: {light: null}\nmatrix: {aspect: ~, tone: [y]}',
    )
    assert (request.ask.prompt, request.ask.size, request.key) == ("dark calm", "1K", "job/y")
    assert "size" not in request.ask.written


@pytest.mark.parametrize("null", ["size: null", "vars: {mood: null}"])
def test_an_empty_matrix_is_refused_beside_a_null_too(tmp_path, null):
    write(tmp_path, "_a.yaml", "prompt: x\nsize: 2K\nvars: {mood: calm}")
    alone = complaints(tmp_path, "extends: _a.yaml\nmatrix: {}")
    assert "'matrix'" in alone[0]
    assert complaints(tmp_path, f"extends: _a.yaml\nmatrix: {{}}\n{null}") == alone


def test_null_without_a_base_is_an_empty_value(tmp_path):
    assert complaints(tmp_path, "prompt: x\nsize: null") == ["2:7: 'size' is 512, 1K, 2K or 4K, not empty"]


def test_name_description_and_version_are_not_inherited(tmp_path):
    write(tmp_path, "_a.yaml", "job: base\ndescription: of the base\nprompt: x\nx-notes: {y: z}")
    job = loaded(tmp_path, "extends: _a.yaml", name="own.yaml")
    assert (job.name, job.description) == ("own", None)


@pytest.mark.parametrize("own", ["template: t", "turns: [a, b]", "matrix: {template: [t]}"])
def test_naming_one_of_prompt_template_and_turns_removes_the_others(tmp_path, own):
    write(tmp_path, "templates/t.md", "from a template")
    write(tmp_path, "_a.yaml", "prompt: inherited")
    assert all(request.ask.prompt != "inherited" for request in expanded(tmp_path, f"extends: _a.yaml\n{own}"))


def test_a_prompt_beside_an_inherited_axis_of_templates_is_refused(tmp_path):
    write(tmp_path, "_a.yaml", "matrix: {template: [t]}")
    found = complaints(tmp_path, "extends: _a.yaml\nprompt: x")
    assert "a job has one of prompt, template and turns, and here are prompt and template" in found[0]


def test_a_circle_is_shown(tmp_path):
    write(tmp_path, "a.yaml", "extends: b.yaml")
    write(tmp_path, "b.yaml", "extends: a.yaml")
    [found] = complaints(tmp_path, "extends: a.yaml\nprompt: x")
    assert found.startswith("b.yaml:1:10: extends goes round in a circle: ")
    assert [part.rpartition("/")[2] for part in found.split(" → ")] == ["a.yaml", "b.yaml", "a.yaml"]


def test_a_manifest_that_extends_itself_is_a_circle(tmp_path):
    assert "circle" in complaints(tmp_path, "extends: job.yaml\nprompt: x")[0]


def test_a_hundred_bases_are_too_many(tmp_path):
    for number in range(100):
        write(tmp_path, f"_{number}.yaml", f"extends: _{number + 1}.yaml")
    write(tmp_path, "_100.yaml", "size: 1K")
    assert "more than 50 manifests" in complaints(tmp_path, "extends: _0.yaml\nprompt: x")[0]


@pytest.mark.parametrize(
    ("base", "complaint"),
    [
        (None, "1:10: {base} cannot be read: No such file or directory"),
        ("", "1:10: {base} is empty"),
        ("- a", "_a.yaml:1:1: a manifest is a map, not a list"),
        ("size: 3K", "_a.yaml:1:7: 'size' is 512, 1K, 2K or 4K, not '3K'"),
        ("sise: 2K", "_a.yaml:1:1: unknown key 'sise' in a job; did you mean 'size'?"),
        ("size: 2K\nsize: 1K", "_a.yaml:2:1: key 'size' is there twice"),
    ],
)
def test_what_is_wrong_in_a_base_is_said_there(tmp_path, base, complaint):
    if base is not None:
        write(tmp_path, "_a.yaml", base)
    [found] = complaints(tmp_path, "extends: _a.yaml\nprompt: x")
    assert found.startswith(complaint.format(base=tmp_path / "_a.yaml"))


def test_a_limit_that_an_inherited_setting_breaks_points_at_the_base(tmp_path):
    write(tmp_path, "shared/_a.yaml", "prompt: x\naspect: 8:1\nimages: [{file: gone.png}]")
    found = complaints(tmp_path, "extends: shared/_a.yaml")
    assert [line.partition(": ")[0] for line in found] == ["_a.yaml:2:9", "_a.yaml:3:17"]


def test_paths_are_relative_to_the_file_that_writes_them(tmp_path):
    write(tmp_path, "brand/refs/logo.jpg", JPEG)
    write(tmp_path, "brand/items.csv", "id\none\n")
    write(tmp_path, "brand/words.md", "from the base's folder: [id] [copy.title]")
    write(tmp_path, "brand/copy.csv", "id,title\none,eins\n")
    write(
        tmp_path,
        "brand/_a.yaml",
        "prompt: {file: words.md}\nitems: items.csv\nimages: [refs/logo.jpg]\ntables: {copy: {file: copy.csv, on: [id]}}",
    )
    [request] = expanded(tmp_path, "extends: ../brand/_a.yaml", name="jobs/job.yaml")
    assert request.ask.prompt == "from the base's folder: one eins"
    assert request.ask.images[0].shown == "../brand/refs/logo.jpg"


def test_a_template_is_looked_for_beside_the_job_before_beside_the_base(tmp_path):
    write(tmp_path, "brand/templates/t.md", "beside the base")
    write(tmp_path, "brand/_a.yaml", "template: t")
    assert [r.ask.prompt for r in expanded(tmp_path, "extends: ../brand/_a.yaml", name="jobs/job.yaml")] == [
        "beside the base"
    ]
    write(tmp_path, "templates/t.md", "above the job")
    assert [r.ask.prompt for r in expanded(tmp_path, "extends: ../brand/_a.yaml", name="jobs/job.yaml")] == [
        "above the job"
    ]


def test_aliases_and_merge_keys_work_beside_extends(tmp_path):
    write(tmp_path, "_a.yaml", "x-light: &light {light: soft}\nvars: {<<: *light, mood: calm}")
    [request] = expanded(tmp_path, 'extends: _a.yaml\nprompt: "[light] [mood]"')
    assert request.ask.prompt == "soft calm"


def test_provenance_names_the_file_that_said_it(tmp_path):
    write(tmp_path, "_a.yaml", "size: 2K\nvars: {light: soft}\naspect: 4:5")
    [request] = expanded(tmp_path, "extends: _a.yaml\nprompt: x\naspect: 16:9")
    places = {word: str(place).rpartition("/")[2] for word, place in request.provenance.items()}
    assert places == {
        "size": "_a.yaml:1",
        "vars.light": "_a.yaml:2",
        "prompt": "job.yaml:2",
        "aspect": "job.yaml:3",
    }
