"""The jobs we show: each is valid, cheap, well-formed on the wire, renders what it says, and shows what it is for."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
from datetime import date
from typing import TYPE_CHECKING

import pytest
from api_names import problems
from conftest import ROOT, Project
from jsonschema import Draft202012Validator
from PIL import Image

from pipeline.gemini import models
from pipeline.job import expand, language
from pipeline.job.yaml12 import parse

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

FILES = sorted((ROOT / "jobs").glob("*.yaml"))
EXAMPLES = [path for path in FILES if not path.name.startswith("_")]
MODELINE = "# yaml-language-server: $schema=../schemas/job.schema.json"
LANGUAGE = json.loads((ROOT / "schemas" / "job.schema.json").read_text(encoding="utf-8"))
PAGE = ROOT / "docs" / "writing-prompts.md"
IMAGES = {
    "one-line": 1,
    "catalog": 9,
    "shopify": 10,
    "photos": 3,
    "edits": 3,
    "compose": 2,
    "posters": 6,
    "samples": 6,
    "sprites": 12,
    "banners": 3,
    "compare-models": 6,
    "forecast": 2,
    "refine": 6,
    "infographic": 3,
    "character": 4,
    "slogan": 4,
    "field-guide": 2,
    "recipe": 2,
    "sofas": 2,
    "thinking": 2,
    "strategies": 9,
}
"""How many requests each sends, an image for each or more: counted by hand."""
LATER = {"refine": 4, "infographic": 2, "character": 3, "slogan": 2}
"""How many of them are later turns of conversations, which are made of answers."""
each_example = pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.stem)


@pytest.fixture
def examples(tmp_path, capsys, monkeypatch):
    """A copy of the jobs and their templates."""
    for folder in ("jobs", "templates"):
        shutil.copytree(ROOT / folder, tmp_path / folder)
    return Project(tmp_path, capsys, monkeypatch)


@pytest.fixture
def asked(examples):
    """What a job asks for, as it is sent: each request by the item's part of its key."""

    def compiled(name: str) -> dict[str, dict]:
        done = examples("compile", f"jobs/{name}.yaml", "-o", f"compiled/{name}")
        assert done.code == 0, done.err
        lines = [
            json.loads(line)
            for file in sorted((examples.folder / "compiled" / name).glob("requests-*.jsonl"))
            for line in file.read_bytes().splitlines()
        ]
        assert [problem for line in lines for problem in problems(line)] == []
        requests = {line["key"].rpartition("~")[0]: line["request"] for line in lines}
        assert len(requests) == len(lines) == IMAGES[name] - LATER.get(name, 0)
        return requests

    return compiled


def text_of(request: dict) -> str:
    return request["contents"][0]["parts"][0]["text"]


def pictures_of(request: dict) -> int:
    return len(request["contents"][0]["parts"]) - 1


def test_there_is_one_for_each_thing():
    assert {path.stem for path in EXAMPLES} == IMAGES.keys()


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_an_editor_knows_its_language(path):
    first, second = path.read_text(encoding="utf-8").splitlines()[:2]
    assert first == MODELINE
    assert second.startswith("# "), "the second line says what it shows"


@each_example
def test_is_valid_without_a_warning(examples, example):
    done = examples("validate", "--strict", f"jobs/{example.name}")
    assert (done.code, done.out) == (0, ""), done.err
    assert done.err.endswith(": valid\n")


@pytest.mark.some(7)
@each_example
def test_costs_less_than_a_dollar(examples, example):
    done = examples("--service", "gemini", "plan", "--json", f"jobs/{example.name}")
    assert done.code == 0, done.err
    [plan] = done.json["jobs"]
    assert plan["counts"]["new"] == plan["requests"] == len(plan["items"]) == IMAGES[example.stem]
    assert 0 < float(plan["cost"]["amount"]) < float(plan["cost"]["upper_bound"]) < 1


@pytest.mark.some(7)
@each_example
def test_what_it_asks_is_what_the_api_knows(asked, example):
    assert asked(example.stem)


def test_all_of_them_render_what_was_asked(examples, monkeypatch):
    monkeypatch.setenv("PIPELINE_LOCAL_PICTURES", "plain")
    monkeypatch.setenv("PIPELINE_LOCAL_LATENCY", "0s")
    done = examples("--service", "local", "run", "--poll", "0.05s", "jobs")
    assert done.code == 0, done.err
    registry = models.load()
    for example in EXAMPLES:
        records = examples.records(example.stem)
        assert len(records) == IMAGES[example.stem]
        for record in records.values():
            if record["files"] and not record["files"][0]["path"].endswith(".md"):
                _check(record, examples.outputs / example.stem, registry)
            else:  # a turn whose image is not kept, or a text
                assert (record["status"], example.stem in LATER) == ("done", True)
        named = {file["path"] for record in records.values() for file in record["files"]}
        assert named | {"manifest.jsonl", "manifest.csv"} == examples.tree(example.stem).keys()
    assert {path.name for path in examples.outputs.iterdir() if path.name[0] != "."} == IMAGES.keys(), "no base is run"
    for page, pictures in (("recipe/apple-pancake", 4), ("recipe/green-pesto", 3), ("sofas/family", 3)):
        _check_page(examples.outputs / f"{page}.md", pictures)
    assert {path.name for path in (examples.outputs / "thinking").glob("fountain-pen.*")} == {
        *("fountain-pen.jpg", "fountain-pen.thought1.md", "fountain-pen.thought2.jpg"),
    }
    found = examples.records("field-guide")["hoopoe"]["grounding"]
    assert (found["queries"], found["image_queries"]) != ([], [])
    assert [bool(source["image"]) for source in found["sources"]] == [False, False, True]


def _check_page(page: Path, pictures: int) -> None:
    """Words before each picture, and every picture there."""
    blocks = page.read_text(encoding="utf-8").strip().split("\n\n")
    assert [block.startswith("![image ") for block in blocks] == [False, True] * pictures
    names = [f"{page.stem}.jpg", *(f"{page.stem}.part{number}.jpg" for number in range(2, pictures + 1))]
    assert blocks[1::2] == [f"![image {number}]({name})" for number, name in enumerate(names, 1)]
    assert all((page.parent / name).is_file() for name in names)


def _check(record: dict, folder: Path, registry: models.Models) -> None:
    assert (record["status"], record["service"]) == ("done", "local")
    file = record["files"][0]
    content = (folder / file["path"]).read_bytes()
    assert file["kind"] == "image"
    assert (file["bytes"], file["sha256"]) == (len(content), hashlib.sha256(content).hexdigest())
    with Image.open(folder / file["path"]) as image:
        assert (file["width"], file["height"]) == image.size
        assert file["mime"] == image.get_format_mimetype()
    settings = record["settings"]
    if settings["aspect"] != "auto":
        offered = registry.find(record["model"]).pixels(settings["aspect"], settings["size"])
        assert offered == (file["width"], file["height"])


# ------------------------------------------------------------------------------------- what each is there to show


def test_catalog_lights_glass_in_another_way(asked):
    texts = {key: text_of(request) for key, request in asked("catalog").items()}
    on_slate = {key for key, text in texts.items() if "black slate" in text and "from behind" in text}
    on_marble = {key for key, text in texts.items() if "white marble" in text and "soft window light" in text}
    assert (len(on_slate), len(on_marble)) == (1, 2)
    assert all(key.startswith("vase-03-packshot") for key in on_slate)


def test_shopify_makes_each_colour_of_each_product(asked):
    texts = [text_of(request) for request in asked("shopify").values()]
    for product, colours in (
        ("Harbour Tote", ("rust red", "moss green", "black")),
        ("Field Notebook", ("ochre",)),
        ("Fisherman's Wool Beanie", ("oatmeal, flecked",)),
    ):
        found = [text for text in texts if f" {product}, in " in text]
        assert {colour for text in found for colour in colours if f", in {colour}," in text} == set(colours)
        assert len(found) == 2 * len(colours), "in two shapes"
    assert sum("two long straps, a pocket for keys." in text for text in texts) == 6, "each variant has the description"
    assert sum("stitched & numbered, 96 pages." in text for text in texts) == 2
    assert not [text for text in texts if re.search(r"[<>]|&\w+;", text)], "no HTML is left"


def test_photos_and_edits_send_the_picture_and_keep_its_shape(asked):
    for name in ("photos", "edits"):
        for request in asked(name).values():
            assert pictures_of(request) == 1
            assert "aspectRatio" not in request["generationConfig"].get("imageConfig", {})
    assert all("risograph" in text_of(request) for request in asked("photos").values())
    assert "replace the green pear on the left with a ripe quince." in text_of(asked("edits")["quince"])


def test_compose_counts_its_labels(asked):
    requests = asked("compose")
    for fabric in ("linen", "velvet"):
        [request] = [request for key, request in requests.items() if fabric in key]
        assert pictures_of(request) == 5
        assert "empty room from image 1:" in text_of(request)
        assert f"{fabric} of images 2-4:" in text_of(request)
        assert "reader from image 5 " in text_of(request)
    drawn = [path for path in (ROOT / "jobs" / "refs").rglob("*") if path.is_file()]
    assert all(path.stat().st_size < 60_000 for path in drawn)


def test_posters_have_the_headline_of_their_product_and_language(asked):
    lines = (ROOT / "jobs" / "data" / "copy.csv").read_text(encoding="utf-8").splitlines()[1:]
    headlines = [line.split(",") for line in lines]
    requests = asked("posters")
    assert len(headlines) == len(requests)
    for sku, lang, headline in headlines:
        assert f'headline "{headline}",' in text_of(requests[f"{sku}-{lang}"])
    assert any(ord(letter) > 0x3000 for letter in text_of(requests["mug-01-ja"]))


def test_banners_take_settings_from_their_row_and_the_system_instruction_from_the_base(asked):
    requests = asked("banners")
    assert {request["systemInstruction"]["parts"][0]["text"][:37] for request in requests.values()} == {
        "You illustrate for North Quay, who ma"
    }
    shapes = {name: request["generationConfig"]["imageConfig"] for name, request in requests.items()}
    asked_for = {name: (shape["aspectRatio"], shape.get("imageSize", "1K")) for name, shape in shapes.items()}
    assert asked_for == {"hero": ("16:9", "2K"), "story": ("9:16", "1K"), "ribbon": ("4:1", "1K")}
    assert all("pale fog grey" in text_of(request) for request in requests.values())


def test_forecast_searches_and_grows_old(asked, examples):
    for request in asked("forecast").values():
        assert request["tools"] == [{"googleSearch": {}}]
        assert request["generationConfig"]["responseModalities"] == ["TEXT", "IMAGE"]
    job = language.load(examples.folder / "jobs" / "forecast.yaml", root=examples.folder)
    requests = expand.expand(job, models=models.load(), today=date(2026, 11, 22), warn=pytest.fail)
    assert [request.max_age_s for request in requests] == [20 * 3600] * 2


def test_conversations_keep_what_they_say(examples, monkeypatch):
    monkeypatch.setenv("PIPELINE_LOCAL_PICTURES", "plain")
    monkeypatch.setenv("PIPELINE_LOCAL_LATENCY", "0s")
    assert examples("--service", "local", "run", "--poll", "0.05s", *(f"jobs/{name}.yaml" for name in LATER)).code == 0
    made = {name: {path for path in examples.tree(name) if not path.startswith("manifest.")} for name in LATER}
    assert made["refine"] == {
        f"{item}-{turn}.jpg" for item in ("bakery", "cinema") for turn in ("evening", "3")
    }  # fmt: skip
    assert made["infographic"] == {"honey-en.jpg", "honey-es.jpg", "honey-de.jpg"}
    assert made["character"] == {f"keeper/{side}.jpg" for side in ("front", "left", "back", "right")}
    assert made["slogan"] == {
        f"{item}-{turn}" for item in ("thermos", "lantern") for turn in ("words.md", "poster.jpg")
    }  # fmt: skip


def test_a_field_guide_looks_up_pages_and_pictures(asked):
    for request in asked("field-guide").values():
        assert request["tools"] == [{"googleSearch": {"searchTypes": {"webSearch": {}, "imageSearch": {}}}}]


def test_a_recipe_and_sofas_are_words_and_pictures(asked):
    for name, images in (("recipe", 0), ("sofas", 1)):
        for request in asked(name).values():
            assert request["generationConfig"]["responseModalities"] == ["TEXT", "IMAGE"]
            assert pictures_of(request) == images
    assert "still empty: image 1." in text_of(asked("sofas")["family"])


def test_thinking_is_deep_and_shown(asked):
    for request in asked("thinking").values():
        assert request["generationConfig"]["thinkingConfig"] == {"thinkingLevel": "HIGH", "includeThoughts": True}


def test_strategies_take_a_template_and_a_picture_a_row(asked, examples):
    requests = asked("strategies")
    from_a_picture = {"one-more-pear", "same-reader", "real-lamp", "from-the-side"}
    assert {key for key, request in requests.items() if pictures_of(request)} == from_a_picture
    job = language.load(examples.folder / "jobs" / "strategies.yaml", root=examples.folder)
    rows = list(expand.expand(job, models=models.load(), today=date(2026, 11, 22), warn=pytest.fail))
    assert len({row.template for row in rows}) == len(rows), "each its own"


def test_the_demo_is_one_of_them():
    demo = parse((ROOT / "jobs" / "catalog.yaml").read_text(encoding="utf-8"), "catalog.yaml").value
    assert "job" not in demo, "make demo says outputs/rehearsal/catalog/"


# ------------------------------------------------------------------------------------------------- the reference


def _reference() -> tuple[str, dict]:
    text = (ROOT / "jobs" / "_reference.yaml").read_text(encoding="utf-8")
    return text, _plain(parse(text, "_reference.yaml").value)


def _plain(value):
    if isinstance(value, dict):
        return {name: _plain(inner) for name, inner in value.items()}
    return [_plain(inner) for inner in value] if isinstance(value, list) else value


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_fits_the_schema(path):
    written = _plain(parse(path.read_text(encoding="utf-8"), path.name).value)
    assert [error.message for error in Draft202012Validator(LANGUAGE).iter_errors(written)] == []
    as_items = {"properties": {"x-items": LANGUAGE["properties"]["items"]}, "definitions": LANGUAGE["definitions"]}
    assert [error.message for error in Draft202012Validator(as_items).iter_errors(written)] == []


def _promised(rule: dict, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """Every path of keys the schema knows; "*" is any name, "[]" an entry of a list.

    A setting that is the same at several places counts once, at the top.
    """
    if "$ref" in rule:
        rule = LANGUAGE["definitions"][rule["$ref"].rpartition("/")[2]]
    for name, inner in rule.get("properties", {}).items():
        is_setting = path and "$ref" in (of := inner.get("items", inner)) and LANGUAGE["properties"].get(name) == of
        if not is_setting:
            yield (*path, name)
            yield from _promised(inner, (*path, name))
    for choice in rule.get("anyOf", ()):
        yield from _promised(choice, path)
    if "items" in rule:
        yield from _promised(rule["items"], (*path, "[]"))
    if isinstance(rule.get("additionalProperties"), dict):
        yield from _promised(rule["additionalProperties"], (*path, "*"))


def _written(value, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    yield path
    if isinstance(value, list):
        value = dict(enumerate(value))
    for name, inner in value.items() if isinstance(value, dict) else ():
        yield from _written(inner, (*path, "[]" if isinstance(name, int) else name))


def test_the_reference_has_every_key():
    _text, value = _reference()
    there = set(_written(value))
    there |= {("items", *path[1:]) for path in there if path[:1] == ("x-items",)}
    promised = set(_promised(LANGUAGE))
    assert len(promised) > 80
    assert {path for path in promised if not any(_is_at(path, one) for one in there)} == set()


def _is_at(promised: tuple[str, ...], written: tuple[str, ...]) -> bool:
    return len(promised) == len(written) and all(a in (b, "*") for a, b in zip(promised, written, strict=True))


def test_the_reference_is_in_the_order_of_the_schema_and_explains_each_key():
    text, value = _reference()
    assert [name for name in value if name != "x-items"] == list(LANGUAGE["properties"])
    top = [line for line in text.splitlines() if re.match(r"[a-z-]+:", line)]
    assert [line for line in top if " # " not in line] == []
    assert max(len(line) for line in text.splitlines()) <= 120


# ------------------------------------------------------------------------------------------- the page on prompts


SNIPPETS = re.findall(r"^```yaml\n(.*?)^```$", PAGE.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("number", range(len(SNIPPETS)))
def test_a_job_of_the_page_on_prompts_is_valid(examples, number):
    examples.write("jobs/snippet.yaml", SNIPPETS[number])
    done = examples("validate", "--strict", "jobs/snippet.yaml")
    assert done.code == 0, done.err


def test_the_page_on_prompts_has_jobs_to_show():
    assert len(SNIPPETS) >= 6
    assert len(PAGE.read_text(encoding="utf-8").splitlines()) <= 180, "one page"


def test_each_strategy_and_feature_of_the_guide_has_an_example():
    page = PAGE.read_text(encoding="utf-8")
    rows = [[cell.strip() for cell in row.split("|")[1:-1]] for row in page.splitlines() if row.startswith("| ")]
    listed = [
        (re.findall(r"`([a-z-]+)`", template), re.findall(r"`([a-z-]+)\.yaml`", jobs)) for _, template, jobs in rows[1:]
    ]
    assert all(jobs and set(jobs) <= IMAGES.keys() for _templates, jobs in listed)
    assert {job for _templates, jobs in listed for job in jobs} >= {"recipe", "sofas", "thinking"}
    shipped = {path.stem for path in (ROOT / "pipeline" / "templates").glob("*.md")}
    named = {template for templates, _jobs in listed for template in templates}
    assert shipped <= named
    for templates, jobs in listed:
        texts = [(ROOT / "jobs" / f"{job}.yaml").read_text(encoding="utf-8") for job in jobs]
        shown = {template for template in templates if any(template in text for text in texts)}
        assert set(templates) - shown <= {"compose"}
