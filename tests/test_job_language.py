"""Manifests: what is read, what is refused, and how it is said."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from decimal import Decimal

import jsonschema
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from jobs import JPEG, PNG, complaints, expanded, loaded, write

from pipeline.errors import JobError
from pipeline.job.language import Batch, Checks, Retry, load
from pipeline.job.schema import schema


def test_one_line_is_a_job(tmp_path):
    job = loaded(tmp_path, "prompt: A red fox in fresh snow", name="Red Fox.yaml")
    assert job.name == "red-fox"
    assert (job.path, job.folder, job.root) == (tmp_path / "Red Fox.yaml", tmp_path, tmp_path)
    assert (job.retry, job.batch, job.checks, job.budget) == (Retry(), Batch(), Checks(), None)
    assert (job.description, job.tags, job.warnings) == (None, (), ())


def test_job_keys_are_read_by_their_own_type(tmp_path):
    job = loaded(
        tmp_path,
        """
        version: 1
        job: 2024
        description: 1.50
        tags: [spring, 007]
        prompt: 42
        retry: {again: 3, on: [failed, blocked]}
        budget: 25.50
        batch: {max_requests: 10, max_bytes: 500 MB, deadline: 90m, on_stuck: wait}
        checks: {decode: false, aspect_tolerance: 5%, not_blank: no-thanks}
        """.replace("no-thanks", "true"),
    )
    assert (job.name, job.description, job.tags) == ("2024", "1.50", ("spring", "007"))
    assert job.retry == Retry(3, frozenset({"failed", "blocked"}))
    assert job.budget == Decimal("25.50")
    assert job.batch == Batch(10, 500_000_000, 500_000_000, 5400.0, "wait")
    assert job.checks == Checks(decode=False, aspect_tolerance=0.05, not_blank=True)


@pytest.mark.parametrize(
    ("line", "field", "value"),
    [
        ("retry: 0", "retry", Retry(0)),
        ("budget: {max: 3}", "budget", Decimal(3)),
        ("budget: 0", "budget", Decimal(0)),
        ("checks: {aspect_tolerance: 0.1}", "checks", Checks(aspect_tolerance=0.1)),
        ("batch: {max_bytes: 5000000}", "batch", Batch(max_answer_bytes=5_000_000, max_input_bytes=5_000_000)),
        ("batch: {deadline: 2d}", "batch", Batch(deadline_s=172_800.0)),
        ("batch: {on_stuck: cancel}", "batch", Batch(on_stuck="cancel")),
        ("batch: {on_stuck: interactive}", "batch", Batch(on_stuck="interactive")),
    ],
)
def test_short_and_long_forms_mean_the_same(tmp_path, line, field, value):
    assert getattr(loaded(tmp_path, f"prompt: x\n{line}\n"), field) == value


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        pytest.param("", "0:0: is empty", id="empty"),
        pytest.param("# nothing\n", "0:0: is empty", id="comment"),
        pytest.param("- a", "1:1: a manifest is a map, not a list", id="list"),
        pytest.param("a red fox", "1:1: a manifest is a map, not a text", id="text"),
        pytest.param("job: x", "1:1: the job says nothing to draw", id="no prompt"),
        pytest.param("promt: x", "1:1: unknown key 'promt' in a job; did you mean 'prompt'?", id="typo"),
        pytest.param("aspect_ratio: 1:1\nprompt: x", "1:1: unknown key 'aspect_ratio' in a job", id="other name"),
        pytest.param("prompt: x\ncsv: a", "2:1: unknown key 'csv' in a job; it is a key of 'items'", id="misplaced"),
        pytest.param(
            "prompt: x\nitems: {csv: a, size: 1K}", "2:17: unknown key 'size' in 'items'", id="misplaced down"
        ),
        pytest.param("prompt: x\nturns: [y, z]", "2:1: a job has one of prompt, template and turns", id="both"),
        pytest.param(
            "matrix: {prompt: [y]}\nturns: [y, z]", "1:10: a job has one of prompt, template", id="both, axis"
        ),
        pytest.param("prompt: ''", "1:9: 'prompt' is empty", id="empty prompt"),
        pytest.param("prompt: ' '", "1:9: the prompt is empty", id="blank prompt"),
        pytest.param("prompt:", "1:8: 'prompt' is a text or a map, not empty", id="no value"),
        pytest.param(
            "prompt: [title]", "1:9: 'prompt' is a text or a map, not a list (quote it: \"[title]\")", id="[]"
        ),
        pytest.param("prompt: x\nversion: 2", "2:10: 'version' is 1, not '2'", id="version"),
        pytest.param("prompt: x\njob: ../x", "2:6: 'job' is lower-case letters, digits, - and _", id="job name"),
        pytest.param("prompt: x\naspect: 4x5", "2:9: 'aspect' is W:H such as 4:5, or auto, not '4x5'", id="aspect"),
        pytest.param("prompt: x\nsize: 4k", "2:7: 'size' is 512, 1K, 2K or 4K, not '4k'; did you mean '4K'?", id="4k"),
        pytest.param("prompt: x\nsamples: 0", "2:10: 'samples' is at least 1, not '0'", id="zero"),
        pytest.param("prompt: x\nsamples: 1.5", "2:10: 'samples' is a whole number, not a number", id="fraction"),
        pytest.param("prompt: x\nsamples: '3'", "not a text: '3' (take the quotes away)", id="quoted number"),
        pytest.param(f"prompt: x\nsamples: {2**200}", "2:10: 'samples' is at most 100", id="huge number"),
        pytest.param(f"prompt: x\nsamples: {'9' * 5000}", "2:10: 'samples' is a whole number, not a text", id="digits"),
        pytest.param("prompt: x\nbudget: .inf", "2:9: 'budget' is a number or a map, not a text", id="infinity"),
        pytest.param("prompt: x\nbudget: -1", "2:9: 'budget' is at least 0, not '-1'", id="negative"),
        pytest.param("prompt: x\nmodel: a?key=b", "2:8: 'model' is a model's alias or id", id="model"),
        pytest.param("prompt: x\nmodel: ../x", "2:8: 'model' is a model's alias or id", id="model path"),
        pytest.param("prompt: x\nretry: {on: [done]}", "2:14: 'retry.on[1]' is failed, no_image", id="outcome"),
        pytest.param("prompt: x\nbatch: {deadline: 24}", "'batch.deadline' is a duration such as 90m", id="duration"),
        pytest.param("prompt: x\nimages: a.png", "2:9: 'images' is a list, not a text", id="one image"),
        pytest.param("prompt: x\nmatrix: {aspect: []}", "2:18: 'matrix.aspect' is an empty list", id="empty axis"),
        pytest.param("prompt: x\nmatrix: {aspect: 1:1}", "2:18: 'matrix.aspect' is a list, not a text", id="axis"),
        pytest.param("prompt: x\nitems: []", "2:8: 'items' is an empty list", id="no items"),
        pytest.param("prompt: x\nitems: [{a: [b]}]", "2:13: 'items[1].a' is a text, a number", id="nested"),
        pytest.param("prompt: x\nitems: a.xlsx", "2:8: 'a.xlsx' is no catalog", id="excel"),
        pytest.param("prompt: x\nitems: {id: a}", "2:8: 'items' needs one of csv, tsv, jsonl or glob", id="no source"),
        pytest.param("prompt: x\nitems: {csv: a, tsv: b}", "'items' needs one of csv", id="two sources"),
        pytest.param("prompt: x\nitems: {csv: a, encoding: klingon}", "unknown encoding 'klingon'", id="encoding"),
        pytest.param("prompt: x\nitems: {csv: a, encoding: unicode_escape}", "unknown encoding", id="escapes"),
        pytest.param(f"template: {'x' * 300}", "there is no template", id="long name"),
        pytest.param(f"prompt: {{file: {'x' * 300}}}", "cannot read", id="long file name"),
        pytest.param(f"prompt: x\nimages: [{'x' * 300}]", "cannot read", id="long image name"),
        pytest.param(f"prompt: x\nitems: {'x' * 300}.csv", "cannot read", id="long catalog name"),
        pytest.param("prompt: x\nitems: 'a**b/*'", "no file matches 'a**b/*'", id="no such file"),
        pytest.param("prompt: x\nitems: {csv: a, encoding: base64}", "unknown encoding 'base64'", id="no text"),
        pytest.param("prompt: x\nitems: {csv: a, delimiter: ab}", "'items.delimiter' is one character", id="delimiter"),
        pytest.param("prompt: x\nitems: {glob: b/*, rename: {a: b}}", "'rename' means nothing for glob", id="useless"),
        pytest.param("prompt: x\noutput: {path: ../x}", "2:16: output.path: no segment may be", id="traversal"),
        pytest.param("prompt: x\noutput: {path: /x}", "output.path: a path below the job's folder", id="absolute"),
        pytest.param("prompt: x\noutput: {path: ~/x}", "output.path: a path below the job's folder", id="home"),
        pytest.param("prompt: x\noutput: {path: .x/y}", "output.path: the first segment starts with a dot", id="dot"),
        pytest.param("prompt: x\noutput: {path: 'a\\b'}", "output.path: a backslash", id="backslash"),
        pytest.param('prompt: x\noutput: {path: "[id].jpg"}', "output.path: no extension here", id="extension"),
        pytest.param("prompt: x\nvars: {a b: 1, a-b: 2}", "vars 'a b' and 'a-b' have one name", id="vars"),
        pytest.param(
            "prompt: x\nmatrix: {a: [1, 2], exclude: [{a: 9}]}",
            "2:35: exclude: '9' is no value of axis 'a'",
            id="exclude",
        ),
        pytest.param("prompt: a [b", "1:11: a '[' that is never closed", id="bracket"),
        pytest.param("prompt: a [@b]", "1:11: unknown placeholder [@b]; an image gets a label", id="label"),
    ],
)
def test_says_what_is_wrong_and_where(tmp_path, text, complaint):
    write(tmp_path, "a", "id\nx\n")
    write(tmp_path, "b/x.jpg", JPEG)
    found = complaints(tmp_path, text)
    assert len(found) == 1, found
    assert complaint in found[0]


@pytest.mark.parametrize("key", ["metadata", "post"])
def test_what_comes_later_is_refused_by_name(tmp_path, key):
    assert complaints(tmp_path, f"prompt: x\n{key}: [a]") == [f"2:1: '{key}' is not supported yet by this version"]


def test_every_problem_is_told_at_once_in_order(tmp_path):
    found = complaints(tmp_path, "promt: x\nsize: 3K\nturns: []\nsamples: none\nbatch: {deadline: soon, x: 1}\n")
    assert [line.split(":")[0] for line in found] == ["1", "2", "3", "4", "5", "5"]


def test_keys_that_start_with_x_are_room_for_anchors(tmp_path):
    requests = expanded(
        tmp_path, "x-any: &any {a: [1, {b: c}]}\nx-vars: &vars {light: soft}\nvars: *vars\nprompt: '[light]'"
    )
    assert requests[0].ask.prompt == "soft"


@pytest.mark.parametrize(
    ("data", "complaint"),
    [
        (b"prompt: caf\xe9", "1:12: byte 0xe9 is not UTF-8"),
        ("prompt: x".encode("utf-16"), "0:0: is UTF-16"),
        (b"#" * 10_000_001, "0:0: more than 10 MB is no manifest"),
        (b"prompt: a\x00b", "1:10: control character '\\x00' in the file"),
    ],
)
def test_a_manifest_is_text(tmp_path, data, complaint):
    assert complaints(tmp_path, data)[0].startswith(complaint)


def test_a_byte_order_mark_and_windows_line_ends_are_fine(tmp_path):
    assert expanded(tmp_path, b"\xef\xbb\xbfprompt: a fox\r\nsize: 2K\r\n")[0].ask.size == "2K"


def test_a_manifest_is_a_regular_file(tmp_path):
    os.mkfifo(tmp_path / "pipe.yaml")
    for path, message in [("pipe.yaml", "is no file"), (".", "is no file"), ("none.yaml", "cannot be read")]:
        with pytest.raises(JobError, match=message):
            load(tmp_path / path, root=tmp_path)


def test_many_items_in_yaml_are_advised_against(tmp_path):
    warnings: list[str] = []
    lines = "\n".join(f"- i{number}" for number in range(5001))
    expanded(tmp_path, f"prompt: x [item]\nitems:\n{lines}\n", warnings=warnings)
    assert warnings == ["5,001 items in YAML are slow to read"]


def test_a_settings_word_in_an_item_is_noted(tmp_path):
    warnings: list[str] = []
    expanded(tmp_path, "prompt: x\nitems: [{id: a, aspect: 4:5}]", warnings=warnings)
    assert warnings == ["'aspect' in an item is a placeholder, not a setting"]


@pytest.mark.parametrize("name", ["job", "record"])
def test_a_schema_is_valid_and_explains_every_key(name):
    found = schema(name)
    jsonschema.Draft202012Validator.check_schema(found)
    assert "$defs" not in found
    for key, rule in _properties(found):
        assert "$ref" in rule or rule.get("description"), key


def _properties(rule):
    if isinstance(rule, dict):
        yield from rule.get("properties", {}).items()
        for inner in rule.values():
            yield from _properties(inner)
    elif isinstance(rule, list):
        for inner in rule:
            yield from _properties(inner)


def test_a_schema_uses_only_words_that_older_editors_understand():
    new = {
        "prefixItems",
        "unevaluatedProperties",
        "unevaluatedItems",
        "dependentSchemas",
        "dependentRequired",
        "$anchor",
    }
    assert not new & set(_words(schema("job")) | set(_words(schema("record"))))


def _words(rule):
    if isinstance(rule, dict):
        return set(rule).union(*map(_words, rule.values()))
    return set().union(*map(_words, rule)) if isinstance(rule, list) else set()


def test_jsonschema_is_imported_only_when_a_manifest_is_read(tmp_path):
    code = "import sys, pipeline.job.language, pipeline.job.expand; print({'jsonschema', 'click'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


def test_a_rich_job_reads_as_the_manual_says(tmp_path):
    write(
        tmp_path,
        "templates/packshot.md",
        "---\ndescription: A packshot.\nvariables: {light: soft}\n---\n[product], [light]\n",
    )
    write(tmp_path, "templates/scene.txt", "[product] on a table, [light|bright]")
    write(tmp_path, "data/products.csv", "sku,product,collection,status\nm1,Mug,Spring,active\nm2,Cup,Spring,old\n")
    requests = expanded(
        tmp_path,
        """
        items: {csv: ../data/products.csv, where: {status: active}}
        matrix:
          template: [packshot, scene]
          aspect: [1:1, 4:5, 16:9]
          exclude: [{template: packshot, aspect: 16:9}]
        size: 2K
        output: {path: "[collection]/[id]/[template]-[aspect]"}
        budget: 25
        """,
        name="jobs/spring.yaml",
    )
    assert [(request.path, request.ask.prompt) for request in requests] == [
        ("spring/m1/packshot-1x1", "Mug, soft"),
        ("spring/m1/packshot-4x5", "Mug, soft"),
        ("spring/m1/scene-1x1", "Mug on a table, bright"),
        ("spring/m1/scene-4x5", "Mug on a table, bright"),
        ("spring/m1/scene-16x9", "Mug on a table, bright"),
    ]
    assert requests[0].ask.written == {"aspect": "1:1", "size": "2K"}


SCALARS = st.one_of(
    st.sampled_from(
        ["", "x", "[x]", "[id]", "[", "1:1", "auto", "2K", "c.csv", "*.png", "flash", "first", "../x", "/"]
    ),
    st.text(max_size=6),
    st.integers(-1, 3),
    st.floats(),
    st.booleans(),
    st.none(),
)
WORDS = st.sampled_from(
    [
        *(
            "version",
            "job",
            "tags",
            "prompt",
            "template",
            "model",
            "aspect",
            "size",
            "samples",
            "images",
            "vars",
            "items",
        ),
        *("matrix", "output", "checks", "retry", "budget", "batch", "csv", "jsonl", "glob", "id", "where", "unique"),
        *("limit", "rename", "exclude", "include", "path", "not", "file", "max", "on", "again", "x-y", "set", "light"),
    ]
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(WORDS, inner, max_size=3)),
    max_leaves=8,
)


@settings(max_examples=2 * settings.default.max_examples, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(manifest=st.dictionaries(WORDS, VALUES, max_size=5), prompt=SCALARS)
def test_whatever_a_manifest_holds_it_makes_requests_or_is_refused_in_words(tmp_path, manifest, prompt):
    write(tmp_path, "c.csv", "id,light\na,soft\n")
    write(tmp_path, "a.png", PNG)
    text = json.dumps({"prompt": prompt, **manifest})
    for problem in complaints(tmp_path, text.encode()):
        assert problem.partition(": ")[2]
