"""The template library: each file explains itself, and its prompt reads well with every optional word and with none."""

from __future__ import annotations

import json
import re
from functools import cache

import pytest
from conftest import ROOT, Project
from jsonschema import Draft202012Validator
from pictures import JPEG, PNG

from pipeline.gemini import models
from pipeline.job import yaml12
from pipeline.job.placeholders import BUILT_INS, OF_IMAGES, fold, split

LIBRARY = ROOT / "pipeline" / "templates"
GENERATION = {
    *("photorealistic-scene", "sticker", "text-in-image", "product-mockup", "negative-space", "comic-panel"),
    "grounded-card",
}
EDITING = {
    *("add-remove", "inpaint", "style-transfer", "compose", "keep-details", "sketch-to-life", "turnaround"),
}
LABELS = {"compose": ["scene", "subject"]}
"""The labels a template asks its job for."""
PICTURES = {"scene": "scene.png", "subject": "subject.jpg"}
SHIPPED = sorted(LIBRARY.glob("*"))
OURS = [*sorted((ROOT / "templates").glob("*.md")), ROOT / "pipeline" / "cli" / "scaffold" / "packshot.md"]
each_shipped = pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
each_template = pytest.mark.parametrize("path", [*SHIPPED, *OURS], ids=lambda path: "-".join(path.parts[-2:]))


@cache
def parts(path):
    """The front matter of a template file as plain values, and its prompt."""
    before, front, prompt = path.read_text(encoding="utf-8").split("---\n", 2)
    assert before == ""
    return plain(yaml12.parse(f"\n{front}", path.name).value), prompt


def plain(value):
    if isinstance(value, dict):
        return {name: plain(inner) for name, inner in value.items()}
    return [plain(inner) for inner in value] if isinstance(value, list) else value


def test_there_is_one_for_each_strategy():
    assert {path.name for path in SHIPPED} == {f"{name}.md" for name in GENERATION | EDITING}


@each_template
def test_its_front_matter_fits_the_schema(path):
    language = json.loads((ROOT / "schemas" / "job.schema.json").read_text(encoding="utf-8"))
    rule = {"$ref": "#/definitions/front_matter", "definitions": language["definitions"]}
    front, _prompt = parts(path)
    assert [error.message for error in Draft202012Validator(rule).iter_errors(front)] == []
    assert front["description"].endswith(".")
    assert len(front["description"]) <= 110, "one line of `pipeline ls templates`"


@each_template
def test_every_word_is_declared_and_used(path):
    front, prompt = parts(path)
    asked = {name for name in split(prompt).names if not name.startswith("@")}
    declared = {fold(name) for name in front["variables"]}
    assert asked - declared <= {*BUILT_INS}
    assert declared - asked == set()
    assert declared & {*BUILT_INS, *OF_IMAGES} == set(), "a variable must not hide what the language gives"


@each_template
def test_its_example_gives_all_that_must_be_given(path):
    front, _prompt = parts(path)
    assert {name for name, default in front["variables"].items() if default is None} <= front["example"].keys()
    assert front["example"].keys() <= front["variables"].keys()


@each_shipped
def test_what_may_be_left_out_has_words_in_its_place(path):
    """An empty cell of a catalog must not leave a hole, so what is said instead stands in the prompt itself."""
    front, prompt = parts(path)
    optional = {fold(name) for name, default in front["variables"].items() if default is not None}
    assert {front["variables"][name] for name in optional} == {""}
    assert {slot.name for slot in split(prompt).slots if not slot.fallback and slot.name in optional} == set()
    assert {slot.name for slot in split(prompt).slots if slot.fallback} == optional


@each_shipped
def test_asks_what_the_picture_is_for(path):
    front, prompt = parts(path)
    assert front["variables"]["purpose"] == ""
    assert re.search(r"^Purpose: \[purpose\|[^]]+\]\.$", prompt, re.MULTILINE)


@each_shipped
def test_asks_for_the_labels_it_says(path):
    front, prompt = parts(path)
    labels = sorted(name[1:] for name in split(prompt).names if name.startswith("@"))
    assert labels == LABELS.get(path.stem, [])
    assert all(f"`as: {label}`" in front["description"] for label in labels)


# ------------------------------------------------------------------------------------------ through the product


def job_of(paths) -> str:
    """A job with two items for each template: one with the whole example, one with what must be given."""
    items = []
    for path in paths:
        front, _prompt = parts(path)
        labels = LABELS.get(path.stem, [])
        images = [{"file": PICTURES[label], "as": label} for label in labels] or [PICTURES["scene"]]
        own = {"template": path.stem, **({"images": images} if path.stem in EDITING else {})}
        for word, given in (("all", lambda _: True), ("bare", lambda default: default is None)):
            values = {name: front["example"][name] for name in front["example"] if given(front["variables"][name])}
            items.append({"id": f"{path.stem}-{word}", **values, "set": own})
    return json.dumps({"template": "sticker", "items": items}, indent=1)  # JSON is YAML


@pytest.fixture(scope="module")
def library(tmp_path_factory):
    folder = tmp_path_factory.mktemp("library")
    (folder / "library.yaml").write_text(job_of(SHIPPED))
    (folder / "scene.png").write_bytes(PNG)
    (folder / "subject.jpg").write_bytes(JPEG)
    return folder


@pytest.fixture
def project(library, capsys, monkeypatch):
    return Project(library, capsys, monkeypatch)


@pytest.fixture
def asked(project):
    """The request of each item, as it would be sent."""
    assert project("validate", "--strict", "library.yaml").code == 0
    done = project("compile", "library.yaml", "-o", "compiled")
    assert done.code == 0, done.err
    lines = [
        json.loads(line)
        for file in sorted((project.folder / "compiled").glob("*.jsonl"))
        for line in file.read_bytes().splitlines()
    ]
    requests = {line["key"].rpartition("~")[0]: line["request"] for line in lines}
    assert len(requests) == 2 * len(SHIPPED)
    return requests


def text_of(request) -> str:
    return request["contents"][0]["parts"][0]["text"]


BAD = {
    "a bracket": r"[\[\]|]",
    "a hole": r"[^\S\n]{2}|\n\n|[^\S\n]\n|^\s|\s$",
    "a lost stop": r"\s[,.;:]|[,;:.][,;.]|[,;:]$|(^|\n)[,.;:]",
    "an empty sentence": r"[.!?:]\s*[.!?]",
}


def test_every_prompt_reads_well_with_all_words_and_with_none(asked):
    texts = {name: text_of(request) for name, request in asked.items()}
    found = {(name, what) for name, text in texts.items() for what, rule in BAD.items() if re.search(rule, text)}
    assert found == set()


def test_every_word_of_the_example_is_in_the_prompt(asked):
    for path in SHIPPED:
        front, _prompt = parts(path)
        whole, bare = (text_of(asked[f"{path.stem}-{word}"]) for word in ("all", "bare"))
        for name, value in front["example"].items():
            assert value in whole, name
            assert (value in bare) is (front["variables"][name] is None), name


def test_those_for_editing_send_their_pictures_and_keep_their_shape(asked):
    for name in EDITING:
        parts_sent = asked[f"{name}-all"]["contents"][0]["parts"]
        assert len(parts_sent) == 1 + max(1, len(LABELS.get(name, []))), name
    for name in ("add-remove", "inpaint", "style-transfer", "sketch-to-life"):
        assert "aspectRatio" not in asked[f"{name}-all"]["generationConfig"].get("imageConfig", {}), name
    assert "image 1:" in text_of(asked["compose-all"])
    assert "from image 2" in text_of(asked["compose-all"])


def test_the_card_searches_and_the_others_do_not(asked):
    searching = {name for name, request in asked.items() if "tools" in request}
    assert searching == {"grounded-card-all", "grounded-card-bare"}


def test_all_of_them_render(project, monkeypatch):
    monkeypatch.setenv("PIPELINE_LOCAL_PICTURES", "plain")
    monkeypatch.setenv("PIPELINE_LOCAL_LATENCY", "0s")
    done = project("--service", "local", "run", "--poll", "0.05s", "library.yaml")
    assert done.code == 0, done.err
    records = project.records("library")
    assert len(records) == 2 * len(SHIPPED)
    assert {record["status"] for record in records.values()} == {"done"}
    assert {record["template"] for record in records.values()} == {path.stem for path in SHIPPED}


def test_a_user_finds_them(project):
    listed = project("ls", "templates").out
    for path in SHIPPED:
        front, prompt = parts(path)
        assert f"{path.stem}\t{front['description']}" in listed
        assert prompt in project("show", f"template:{path.stem}").out


def test_a_picture_without_its_label_is_an_error_that_names_the_label(tmp_path, capsys, monkeypatch):
    project = Project(tmp_path, capsys, monkeypatch)
    project.write("scene.png", PNG)
    images = "images: [{file: scene.png, as: scene}]"
    project.write("job.yaml", f"template: compose\nvars: {{placement: on the table}}\n{images}\n")
    done = project("validate", "job.yaml")
    assert done.code == 2
    assert "[@subject]" in done.err


def test_what_is_missing_is_named(tmp_path, capsys, monkeypatch):
    project = Project(tmp_path, capsys, monkeypatch)
    project.write("job.yaml", "template: product-mockup\n")
    done = project("validate", "job.yaml")
    assert done.code == 2
    assert "[product]" in done.err


def test_the_guide_names_the_best_languages_of_the_models_it_names():
    guide = (ROOT / "docs" / "writing-prompts.md").read_text(encoding="utf-8")
    sentence = re.search(r"((?:`[a-z]+`,? (?:and )?)+)are at their best in ([^.]+)\.", guide)
    listed = re.findall(r"\b(?:[a-z]{2}-[A-Z]{2}|EN)\b", sentence[2])
    registry = models.load()
    for alias in re.findall(r"`([a-z]+)`", sentence[1]):
        assert sorted(registry.find(alias).best_languages) == sorted(listed), alias
