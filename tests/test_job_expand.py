"""From a job to its requests: keys, paths, settings, placeholders, limits."""

from __future__ import annotations

import json
import os

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jobs import HEIC, JPEG, PNG, TODAY, WEBP, FakeModels, complaints, expanded, requests_of, write

from pipeline.errors import JobError
from pipeline.job.expand import examine
from pipeline.job.language import load

ITEMS = "items:\n- {id: a, product: mug}\n- {id: b, product: cup}\n"


HUGE = "{" + ", ".join(f"a{axis}: [0, 1, 2, 3, 4, 5, 6, 7, 8, 9]" for axis in range(7)) + "}"


def told(requests):
    return [(request.key, request.path) for request in requests]


def test_a_job_without_items_is_one_item_named_like_the_job(tmp_path):
    [request] = expanded(tmp_path, "prompt: a fox\njob: fox")
    assert (request.key, request.item, request.id, request.path) == ("fox", "fox", "fox", "fox")
    assert (request.sample, request.turn, request.template, request.vars) == (1, 1, None, {})
    assert (request.ask.model, request.ask.aspect, request.ask.size, request.ask.written) == ("flash", "1:1", "1K", {})
    assert request.where.endswith("job.yaml:1")
    assert request.fingerprint == request.ask.fingerprint()


def test_requests_come_in_row_then_cell_then_sample_order(tmp_path):
    requests = expanded(
        tmp_path, f"prompt: '[product]'\n{ITEMS}matrix: {{aspect: [1:1, 4:5], light: [soft]}}\nsamples: 2"
    )
    assert told(requests)[:5] == [
        ("a/1:1/soft/s1", "a-1x1-1"),
        ("a/1:1/soft/s2", "a-1x1-2"),
        ("a/4:5/soft/s1", "a-4x5-1"),
        ("a/4:5/soft/s2", "a-4x5-2"),
        ("b/1:1/soft/s1", "b-1x1-1"),
    ]
    assert [request.ask.sample for request in requests[:2]] == [1, 2]
    assert requests[0].item == "a/1:1/soft"


@pytest.mark.parametrize(
    ("path", "made"),
    [
        ("[product]/[id]", "mug/a"),
        ("x/[ID]-[product]", "x/a-mug"),
        ("[size]/[model]/[job]/[turn]-[item]", "1k/flash/job/1-a"),
        ("[product|]/[none|]/z", "mug/z"),
        ("a/[[b]]", "a/b"),
    ],
)
def test_a_path_is_what_its_template_says_slugged(tmp_path, path, made):
    requests = expanded(tmp_path, f"prompt: '[product]'\noutput: {{path: '{path}'}}\nitems: [{{id: a, product: Mug}}]")
    assert [request.path for request in requests] == [made]


def test_a_sample_is_named_where_the_path_does_not(tmp_path):
    text = "prompt: x\nsamples: 2\noutput: {{path: '{path}'}}\n"
    assert [one.path for one in expanded(tmp_path, text.format(path="x"))] == ["x-1", "x-2"]
    assert [one.path for one in expanded(tmp_path, text.format(path="[sample]/x"))] == ["1/x", "2/x"]


def test_a_slash_in_a_value_makes_no_folder(tmp_path):
    requests = expanded(tmp_path, "prompt: x\nitems: ['a/b', '../../c', 'C:\\d']\nmatrix: {t: [x/y, z]}")
    assert [request.path for request in requests][::2] == ["a-b-x-y", "c-x-y", "cx-d-x-y"]


def test_texts_in_a_list_are_ids_and_item(tmp_path):
    [request] = expanded(tmp_path, "prompt: a [item] by [id]\nitems: [Red Fox]")
    assert (request.id, request.ask.prompt, request.vars) == ("Red Fox", "a Red Fox by Red Fox", {})


def test_a_map_without_id_is_named_by_its_first_field(tmp_path):
    requests = expanded(tmp_path, "prompt: a [product]\nitems:\n- {sku: 007, product: 1.50}\n- {product: x, id: y}")
    assert [(one.id, one.vars) for one in requests] == [("007", {"product": "1.50"}), ("y", {"product": "x"})]


def test_scalars_keep_their_text(tmp_path):
    requests = expanded(
        tmp_path, "prompt: '[a] [b] [c]'\nvars: {a: 1.50, b: no}\nitems: [{id: 1}]\nmatrix: {c: [010, 16:9, true, 1e3]}"
    )
    assert [one.ask.prompt for one in requests] == ["1.50 no 010", "1.50 no 16:9", "1.50 no true", "1.50 no 1e3"]
    assert requests[0].vars == {"c": "010", "a": "1.50", "b": "no"}


def test_a_field_wins_over_a_var_and_an_axis_too(tmp_path):
    [request] = expanded(
        tmp_path, "prompt: '[a] [b]'\nvars: {A: var, b: var}\nitems: [{id: 1, a: row}]\nmatrix: {B: [axis]}"
    )
    assert request.ask.prompt == "row axis"
    assert request.vars == {"a": "row", "B": "axis"}


def test_settings_of_a_cell_win_over_those_at_the_top(tmp_path):
    requests = expanded(
        tmp_path, "prompt: x [size]\nsize: 2K\naspect: 4:5\nmatrix: {size: [1K, 4K], samples: [1, 2], model: [flash]}"
    )
    assert [(one.key, one.ask.size, one.ask.prompt) for one in requests] == [
        ("job/1K/1/flash", "1K", "x 1K"),
        ("job/1K/2/flash/s1", "1K", "x 1K"),
        ("job/1K/2/flash/s2", "1K", "x 1K"),
        ("job/4K/1/flash", "4K", "x 4K"),
        ("job/4K/2/flash/s1", "4K", "x 4K"),
        ("job/4K/2/flash/s2", "4K", "x 4K"),
    ]
    assert requests[0].ask.written == {"model": "flash", "aspect": "4:5", "size": "1K"}


def test_a_prompt_can_be_an_axis(tmp_path):
    requests = expanded(tmp_path, 'matrix: {prompt: ["a [item]", "b [item]"]}\nitems: [fox]')
    assert [one.ask.prompt for one in requests] == ["a fox", "b fox"]


def test_a_prompt_can_be_a_file(tmp_path):
    write(tmp_path, "prompts/fox.txt", "\ufeffa [item]\nin snow\n\n")
    [request] = expanded(tmp_path, "prompt: {file: prompts/fox.txt}\nitems: [fox]")
    assert request.ask.prompt == "a fox\nin snow"


def test_white_space_around_a_prompt_does_not_count(tmp_path):
    [block] = expanded(tmp_path, "prompt: |\n  a fox\n")
    [plain] = expanded(tmp_path, "prompt: a fox\n")
    assert block.fingerprint == plain.fingerprint


@pytest.mark.parametrize(
    ("rest", "cells"),
    [
        ("exclude: [{a: 1, b: y}]", ["1/x", "2/x", "2/y"]),
        ("exclude: [{a: 1}]", ["2/x", "2/y"]),
        ("include: [{b: z, a: 3}]", ["1/x", "1/y", "2/x", "2/y", "3/z"]),
        ("exclude: [{b: y}], include: [{a: 1, b: y}]", ["1/x", "2/x", "1/y"]),
    ],
)
def test_a_matrix_excludes_and_includes(tmp_path, rest, cells):
    requests = expanded(tmp_path, f"prompt: x [a] [b]\nmatrix: {{a: [1, 2], b: [x, y], {rest}}}")
    assert [one.item.removeprefix("job/") for one in requests] == cells


@pytest.mark.parametrize(
    ("matrix", "complaint"),
    [
        ("{a: [x, x]}", "'x' is in axis 'a' twice"),
        ("{a: [x], A: [y]}", "axes 'a' and 'A' have one name"),
        ("{Aspect: [1:1]}", "axis 'Aspect'; did you mean 'aspect'?"),
        ("{images: [a.png]}", "'matrix.images[1]' is a list, not a text: 'a.png' (write a list: [a.png])"),
        ("{a: [x], exclude: [{b: x}]}", "'b' is no axis of the matrix"),
        ("{a: [x], exclude: [{a: x}]}", "the matrix leaves no cell"),
        ("{a: [x], b: [y], include: [{a: z}]}", "include: the cell says nothing of 'b'"),
        ("{a: [x], include: [{a: x}]}", "include: this cell is there already"),
        ("{product: [x]}", "axis 'product' is named like the field 'product' of the items"),
        (HUGE, "10,000,000 cells"),
    ],
)
def test_a_matrix_that_cannot_be_meant_is_refused(tmp_path, matrix, complaint):
    found = complaints(tmp_path, f"prompt: x\n{ITEMS}matrix: {matrix}")
    assert complaint in found[0]


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        pytest.param("model: old", "6:8: model 'old' was shut down on 2026-01-01 (use 'picture-2')", id="shut down"),
        pytest.param("aspect: 3:1", "picture-2 has no aspect '3:1'", id="aspect"),
        pytest.param("size: 512", "picture-2 has no size '512' (it offers 1K, 2K and 4K)", id="size"),
        pytest.param("matrix: {aspect: [1:1, 9:1]}", "6:24: picture-2 has no aspect '9:1'", id="axis"),
    ],
)
def test_a_model_is_asked_for_what_it_offers(tmp_path, text, complaint):
    found = complaints(tmp_path, f"prompt: x [product]\n{ITEMS}vars: {{}}\n{text}")
    assert len(found) == 1
    assert complaint in found[0]


def test_an_unknown_model_is_passed_on_with_a_warning(tmp_path):
    warnings: list[str] = []
    [request] = expanded(tmp_path, "prompt: x\nmodel: flesh\naspect: 9:1", warnings=warnings)
    assert request.ask.model == "flesh"
    assert warnings == ["unknown model 'flesh'; did you mean 'flash'?"]


def test_an_unknown_placeholder_is_told_once_where_it_was_written(tmp_path):
    write(tmp_path, "c.csv", "id,product\na,x\nb,y\n")
    found = complaints(tmp_path, "prompt: |\n  a photo\n  of a [prodct]\nitems: c.csv\n")
    assert len(found) == 1
    assert found[0].startswith("3:8: unknown placeholder [prodct]; did you mean 'product'? (for ")
    assert found[0].endswith("c.csv:2)")


def test_an_unknown_placeholder_is_told_for_each_row_that_lacks_it(tmp_path):
    found = complaints(tmp_path, "prompt: a [product]\nitems:\n- {id: a, product: x}\n- {id: b}\n- {id: c}\n")
    assert [line.partition(":")[0] for line in found] == ["4", "5"]
    assert all(line.endswith("unknown placeholder [product]: this row has no such field") for line in found)


def test_an_empty_field_is_told_with_its_row(tmp_path):
    found = complaints(tmp_path, "prompt: a [product]\nitems:\n- {id: a, product: ''}\n- {id: b, product: }\n")
    assert [line.partition(" (")[0] for line in found] == [
        "3:20: [product] is empty in the row 'a'",
        "4:20: [product] is empty in the row 'b'",
    ]


def test_an_unknown_placeholder_in_a_path_is_told_at_the_path(tmp_path):
    [found] = complaints(tmp_path, "prompt: x\noutput: {path: 'a/[nme]'}\njob: x\n")
    assert found.startswith("2:19: unknown placeholder [nme]")


def test_a_column_that_hides_a_built_in_is_used_with_a_note(tmp_path):
    warnings: list[str] = []
    requests = expanded(tmp_path, "prompt: '[size]'\nitems: [{id: a, Size: XL}, {id: b, Size: S}]", warnings=warnings)
    assert [one.ask.prompt for one in requests] == ["XL", "S"]
    assert "[size] is the field of that name here, not the built-in value" in warnings


def test_the_default_path_is_made_of_the_id_whatever_a_column_named_id_holds(tmp_path):
    write(tmp_path, "c.csv", "id,sku\nx,a\nx,b\n")
    assert [one.path for one in expanded(tmp_path, "prompt: '[id]'\nitems: {csv: c.csv, id: sku}")] == ["a", "b"]


def test_nothing_is_given_after_the_first_problem(tmp_path):
    requests = requests_of(
        load(write(tmp_path, "j.yaml", "prompt: '[x]'\nitems: [{id: a, x: 1}, {id: b}, {id: c, x: 3}]"), root=tmp_path)
    )
    assert next(requests).id == "a"
    with pytest.raises(JobError, match="unknown placeholder"):
        next(requests)


def test_two_requests_with_one_ask_are_counted(tmp_path):
    warnings: list[str] = []
    expanded(tmp_path, "prompt: x\nitems: [a, b, c]", warnings=warnings)
    [warning] = warnings
    assert warning.startswith("2 requests ask for what another one asks for, such as 'b' (")


def test_samples_are_no_duplicates(tmp_path):
    warnings: list[str] = []
    expanded(tmp_path, "prompt: x\nsamples: 3", warnings=warnings)
    assert warnings == []


def test_ids_that_make_one_key_are_told(tmp_path):
    found = complaints(
        tmp_path, "prompt: '[item] [t]'\nitems: [a, a/b]\nmatrix: {t: [b/c, c]}\noutput: {path: '[item]-[t]'}"
    )
    assert any("have the same key 'a/b/c'" in line for line in found)


@pytest.mark.parametrize(("name", "data"), [("a.png", PNG), ("a.jpg", JPEG), ("a.webp", WEBP), ("odd.bin", PNG)])
def test_reference_images_are_recognised_by_their_bytes(tmp_path, name, data):
    write(tmp_path, name, data)
    [request] = expanded(tmp_path, f"prompt: x\nimages: [{name}]")
    [image] = request.ask.images
    assert (image.path, image.shown, image.bytes) == (tmp_path / name, name, len(data))
    assert image.mime in {"image/png", "image/jpeg", "image/webp"}
    assert request.ask.aspect == "1:1"


@pytest.mark.parametrize(
    ("entry", "complaint"),
    [
        ("none.png", "there is no image 'none.png'"),
        ("empty.png", "'empty.png' is empty"),
        ("folder", "'folder' is a folder"),
        ("pipe", "'pipe' is no regular file"),
        ("text.png", "'text.png' is no png, jpeg, webp, heic or heif (convert it to one of them)"),
        ("lfs.png", "'lfs.png' is a damaged Git LFS pointer (run git lfs pull)"),
        ("https://example.org/a.png", "is a URL (download the image, and name the file)"),
        ("http://169.254.169.254/", "is a URL"),
        ("a.heic", "picture-2 does not take heic: 'a.heic' (convert it to jpeg, png or webp)"),
        ('"[where]"', "'../out.png' leads out of the project"),
        ('"link-[item].png"', "'link-fox.png' leads out of the project"),
        ('"/etc/[item]"', "'/etc/fox' leads out of the project"),
        ("'a\\0b'", "there is no image"),
    ],
)
def test_a_reference_that_cannot_be_sent_is_refused(tmp_path, entry, complaint):
    root = tmp_path / "root"
    write(tmp_path, "out.png", PNG)
    write(root, "empty.png", b"")
    write(root, "text.png", "hello")
    write(root, "lfs.png", "version https://git-lfs.github.com/spec/v1\noid sha256:1\n")
    write(root, "a.heic", HEIC)
    (root / "folder").mkdir()
    os.mkfifo(root / "pipe")
    (root / "link-fox.png").symlink_to(tmp_path / "out.png")
    [found] = complaints(root, f"prompt: x\nimages: [{entry}]\nitems: [fox]\nvars: {{where: ../out.png}}")
    assert complaint in found


def test_a_literal_reference_may_be_anywhere_readable(tmp_path):
    write(tmp_path, "out.png", PNG)
    [request] = expanded(tmp_path / "root", "prompt: x\nimages: [../out.png]")
    assert request.ask.images[0].shown == "../out.png"


def test_a_reference_by_placeholder_differs_from_row_to_row(tmp_path):
    write(tmp_path, "refs/a.png", PNG)
    write(tmp_path, "refs/b.png", PNG + b"b")
    requests = expanded(tmp_path, 'prompt: x\nimages: ["refs/[item].png"]\nitems: [a, b]')
    assert [one.ask.images[0].shown for one in requests] == ["refs/a.png", "refs/b.png"]
    assert requests[0].fingerprint != requests[1].fingerprint


def test_too_many_references_are_refused_and_many_advised_against(tmp_path):
    for number in range(5):
        write(tmp_path, f"{number}.png", PNG)
    warnings: list[str] = []
    expanded(tmp_path, "prompt: x\nimages: [0.png, 1.png, 2.png]", warnings=warnings)
    assert warnings == ["3 reference images; picture-2 works best with at most 2"]
    [found] = complaints(tmp_path, "prompt: x\nimages: [0.png, 1.png, 2.png, 3.png, 4.png]")
    assert "5 reference images; picture-2 takes at most 4" in found


def test_a_changed_reference_is_hashed_again(tmp_path):
    write(tmp_path, "a.png", PNG)
    [before] = expanded(tmp_path, "prompt: x\nimages: [a.png]")
    write(tmp_path, "a.png", PNG + b"more")
    [after] = expanded(tmp_path, "prompt: x\nimages: [a.png]")
    assert before.ask.images[0].sha256 != after.ask.images[0].sha256


def test_items_that_are_images_are_edited(tmp_path):
    for name in ("b.png", "a.png", "sub/c.png", ".hidden.png"):
        write(tmp_path, f"photos/{name}", PNG + name.encode())
    requests = expanded(tmp_path, "prompt: Clean [name] ([stem], [file], [folder])\nitems: photos/**/*.png")
    assert [(one.id, one.path, one.ask.prompt) for one in requests] == [
        ("a", "a", "Clean a.png (a, photos/a.png, photos)"),
        ("b", "b", "Clean b.png (b, photos/b.png, photos)"),
        ("sub/c", "sub/c", "Clean c.png (c, photos/sub/c.png, sub)"),
    ]
    assert [one.ask.images[0].shown for one in requests] == ["photos/a.png", "photos/b.png", "photos/sub/c.png"]
    assert requests[0].ask.aspect == "auto"
    assert requests[0].ask.edits_image
    assert requests[0].ask.written == {}


def test_images_beside_the_item_are_named_with_it(tmp_path):
    write(tmp_path, "photos/a.png", PNG)
    write(tmp_path, "logo.png", PNG + b"logo")
    [request] = expanded(tmp_path, 'prompt: x\nimages: [logo.png, "[file]"]\nitems: {glob: "photos/*", id: "x-[stem]"}')
    assert [image.shown for image in request.ask.images] == ["logo.png", "photos/a.png"]
    assert request.id == "x-a"


def test_a_glob_may_reach_out_of_the_project_but_a_link_in_it_may_not(tmp_path):
    root = tmp_path / "root"
    write(tmp_path, "photos/a.png", PNG)
    assert [one.path for one in expanded(root, "prompt: x\nitems: ../photos/*.png")] == ["a"]
    write(tmp_path, "secret.png", PNG)
    (tmp_path / "photos/b.png").symlink_to(tmp_path / "secret.png")
    [found] = complaints(root, "prompt: x\nitems: ../photos/*.png")
    assert "'../photos/b.png' leads out of the project" in found


def test_images_of_one_name_are_told_by_their_files(tmp_path):
    write(tmp_path, "photos/a.png", PNG)
    write(tmp_path, "photos/a.jpg", JPEG)
    [found] = complaints(tmp_path, "prompt: x\nitems: photos/*")
    assert found.startswith("a.png:0:0: the id 'a' is there already, in ")
    assert "photos/a.jpg (" in found


def test_a_glob_must_name_images(tmp_path):
    write(tmp_path, "photos/a.txt", "hello")
    [found] = complaints(tmp_path, "prompt: x\nitems: photos/*")
    assert "'photos/a.txt' is no png" in found


@pytest.mark.parametrize(
    ("where", "found"),
    [
        ("templates/t.md", "here"),
        ("jobs/templates/t.txt", "here"),
        ("jobs/deep/templates/t", "here"),
        ("jobs/deep/t.md", "here"),
    ],
)
def test_a_template_is_looked_up_beside_the_manifest_and_above(tmp_path, where, found):
    write(tmp_path, where, found)

    job = load(write(tmp_path, "jobs/deep/j.yaml", "template: t"), root=tmp_path)
    [request] = requests_of(job)
    assert (request.ask.prompt, request.template) == ("here", "t")


def test_the_nearest_template_wins(tmp_path):
    write(tmp_path, "templates/t.md", "far")
    write(tmp_path, "jobs/templates/t.md", "near")

    job = load(write(tmp_path, "jobs/j.yaml", "template: t"), root=tmp_path)
    assert [one.ask.prompt for one in requests_of(job)] == ["near"]


def test_the_name_of_a_template_may_come_from_the_row(tmp_path):
    write(tmp_path, "templates/mug.md", "a mug, [item]")
    write(tmp_path, "templates/cup.md", "a cup, [template]")
    requests = expanded(tmp_path, 'template: "[kind]"\nitems: [{id: a, kind: mug, item: x}, {id: b, kind: cup}]')
    assert [(one.template, one.ask.prompt) for one in requests] == [("mug", "a mug, x"), ("cup", "a cup, cup")]


@pytest.mark.parametrize(
    ("template", "complaint"),
    [
        pytest.param("---\nvariables: {x: }\n---\n[x]", "template 't' needs [x]: no field, axis or var", id="required"),
        pytest.param(
            "---\nsiz: 2K\n---\nx", "t.md:2:1: unknown key 'siz' in front matter; did you mean 'size'?", id="setting"
        ),
        pytest.param("---\nvars: {}\n---\nx", "t.md:2:1: unknown key 'vars' in front matter", id="unknown key"),
        pytest.param("---\ndescription: x\nx", "t.md:1:1: front matter without an end", id="no end"),
        pytest.param("---\nvariables: [x]\n---\nx", "t.md:2:12: 'variables' is a map", id="list"),
        pytest.param(
            "---\nvariables: {x: [y]}\n---\nx",
            "t.md:2:16: 'variables.x' is a text, a number or true or false, not a list (quote it: \"[y]\")",
            id="list default",
        ),
        pytest.param("---\n- a\n---\nx", "front matter is a map", id="no map"),
        pytest.param("---\na: [b\n---\nx", "t.md:3", id="no yaml"),
        pytest.param("", "t.md:1:1: the prompt is empty", id="empty"),
        pytest.param("---\ndescription: x\n---\n", "t.md:4:1: the prompt is empty", id="empty body"),
        pytest.param("a [", "t.md:1:3: a '[' that is never closed", id="bracket"),
        pytest.param("a [nme]", "t.md:1:3: unknown placeholder [nme]", id="unknown"),
        pytest.param("a\0b", "is no text: it holds a NUL", id="NUL"),
    ],
)
def test_what_is_wrong_in_a_template_is_said_there(tmp_path, template, complaint):
    write(tmp_path, "templates/t.md", template)
    [found] = complaints(tmp_path, "template: t")
    assert complaint in found


def test_a_template_that_is_not_there_is_told_with_near_names(tmp_path):
    write(tmp_path, "templates/packshot.md", "x")
    [found] = complaints(tmp_path, "template: pakshot")
    assert "1:11: there is no template 'pakshot'; did you mean 'packshot'?" in found


def test_a_template_named_by_data_stays_below_the_root(tmp_path):
    write(tmp_path, "secret.txt", "secret")
    write(tmp_path / "root", "templates/t.md", "x")
    [found] = complaints(tmp_path / "root", 'template: "[t]"\nitems: [{id: a, t: ../../secret}]')
    assert "template '../../secret' leads out of the project" in found


def test_variables_of_a_template_have_defaults_that_rows_override(tmp_path):
    write(tmp_path, "templates/t.md", "---\nvariables: {light: soft, x: }\n---\n[light] [x]")
    requests = expanded(tmp_path, "template: t\nvars: {x: 1}\nitems: [{id: a}, {id: b, Light: hard}]")
    assert [one.ask.prompt for one in requests] == ["soft 1", "hard 1"]


def test_a_prompt_is_not_endless(tmp_path):
    write(tmp_path, "c.csv", f"id,t\na,{'x' * 600_000}\n")
    [found] = complaints(tmp_path, "prompt: '[t][t]'\nitems: c.csv")
    assert "the prompt of this row has 1,200,000 characters; at most 1,000,000" in found


TEXTS = st.text(st.characters(codec="utf-8", exclude_categories=["Cc"]), min_size=1, max_size=20)


@given(values=st.lists(TEXTS.filter(str.strip), min_size=1, max_size=5, unique=True))
def test_whatever_rows_hold_prompts_hold_it_and_paths_are_safe(tmp_path_factory, values):
    folder = tmp_path_factory.mktemp("job")
    rows = "".join(json.dumps({"id": f"r{number}", "text": value}) + "\n" for number, value in enumerate(values))
    write(folder, "c.jsonl", rows)
    requests = expanded(folder, "prompt: <[text]>\nitems: c.jsonl\noutput: {path: '[id]/[text]'}")
    assert [one.ask.prompt for one in requests] == [f"<{value}>" for value in values]
    for one in requests:
        assert all(part.replace("-", "a").isalnum() and part.isascii() for part in one.path.split("/"))
        assert one.path.count("/") == 1


def test_ids_twice_in_one_line_are_told_too(tmp_path):
    [found] = complaints(tmp_path, "prompt: x [id]\nitems: [{id: a}, {id: b}, {id: a}]")
    assert found.startswith("2:32: the id 'a' is there already, in ")


def test_asks_that_are_bought_twice_are_told_with_their_price(tmp_path):
    write(tmp_path, "a.csv", "id\n" + "".join(f"{number}\n" for number in range(30)))
    problems = []
    examine(
        write(tmp_path, "j.yaml", "prompt: x\nsize: 2K\nitems: a.csv"),
        root=tmp_path, models=FakeModels(), today=TODAY, warn=problems.append,
    )  # fmt: skip
    [problem] = problems
    assert problem.message.startswith("29 requests ask for what another one asks for, such as '1' (")
    assert problem.hint.startswith("buying again costs about $0.8700")
