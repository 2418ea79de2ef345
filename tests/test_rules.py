"""docs/rules.md does what it says: its examples are valid, and its tables tell what they ask for."""

from __future__ import annotations

import re
from dataclasses import dataclass

import pytest
from conftest import ROOT
from jobs import PNG, TODAY

from pipeline.gemini import models
from pipeline.job import manifest
from pipeline.job.expand import expand
from pipeline.job.language import load
from pipeline.job.slugs import slug

PAGES = {name: (ROOT / "docs" / name).read_text(encoding="utf-8") for name in ("rules.md", "language.md")}
RULES = PAGES["rules.md"]
_BLOCK = re.compile(
    r"(?:^<!-- (?P<mark>file|with): (?P<note>.*?) -->\n)?^```(?P<language>\w*)\n(?P<text>.*?)^```$",
    re.MULTILINE | re.DOTALL,
)


@dataclass(frozen=True)
class Block:
    """A fenced block: the file it is (or would be), its text, and what a fragment needs to be a job."""

    path: str
    text: str
    line: int


def _blocks():
    """The blocks of the page: files, named by their first line or the mark above, and fragments, completed there."""
    for found in _BLOCK.finditer(RULES):
        line = RULES.count("\n", 0, found.start("text"))
        named = re.match(r"# (jobs/\S+)\n", found["text"])
        if found["mark"] == "with":
            yield Block(f"jobs/line-{line}.yaml", f"{found['text']}{found['note']}\n", line)
        else:
            path = found["note"] or (named and named[1])
            assert path, f"line {line} says neither which file it is nor what it needs"
            yield Block(path, found["text"], line)


BLOCKS = list(_blocks())
JOBS = [block for block in BLOCKS if re.fullmatch(r"jobs/[^_/]+\.yaml", block.path)]
# What the examples speak of and the page does not show.
BESIDE = {
    "jobs/_shop.yaml": "batch: {max_requests: 100}\n",
    "jobs/data/export.csv": (
        "Handle,Title,Body (HTML),Option1 Value,Status\n"
        "tote,Tote,<p>Waxed <b>canvas</b></p>,red,active\ntote,,,green,\ncap,Cap,<p>Wool</p>,grey,draft\n"
    ),
    "jobs/data/products.csv": (
        "id,product,type,stock,status\n"
        "mug-01,mug,mug,3,active\ncup-02,cup,cup,4,active\ncup-03,cup,cup,0,active\ncup-09,cup,cup,1,active\n"
    ),
    "jobs/refs/attic.png": PNG,
    "jobs/swatches/wool/a.png": PNG,
    "jobs/swatches/wool/b.png": PNG,
}


@pytest.fixture
def rules(project):
    """A project with every file of the page."""
    for path, content in {**BESIDE, **{block.path: block.text for block in BLOCKS}}.items():
        project.write(path, content)
    return project


@pytest.fixture
def asked(rules):
    """The requests of the job that holds a text."""

    def ask(text):
        [block] = [block for block in JOBS if text in block.text]
        job = load(rules.folder / block.path, root=rules.folder)
        return list(expand(job, models=models.load(), today=TODAY, warn=lambda problem: None))

    return ask


def _table(heading):
    """The rows of the first table below a heading, without its head."""
    section = RULES.partition(f"\n{heading}\n")[2]
    rows = re.findall(r"^\| (.*) \|$", section.partition("\n## ")[0], re.MULTILINE)
    return [[cell.strip() for cell in re.split(r"(?<!\\)\|", row)] for row in rows[1:]]


def test_there_is_something_to_check():
    assert len(JOBS) >= 10
    assert {block.path for block in BLOCKS} >= {"jobs/_house.yaml", "jobs/templates/portrait.md", "jobs/data/copy.csv"}


@pytest.mark.parametrize("block", JOBS, ids=lambda block: f"line {block.line}")
def test_every_example_is_valid(rules, block):
    done = rules("validate", "--strict", block.path)
    assert (done.code, done.out) == (0, ""), done.err


def test_each_setting_is_won_by_whom_the_table_says(asked):
    requests = asked("extends: _house.yaml")
    assert {request.id for request in requests} == {"mug", "vase"}
    rows = [row for row in _table("## Which setting wins") if row[0].startswith("`")]
    assert len(rows) == 7
    for setting, *told, _ in rows:
        for id_, value in zip(("mug", "vase"), told, strict=True):
            assert _found(setting.strip("`"), [one for one in requests if one.id == id_]) == value, (setting, id_)


def _found(setting, requests):
    """What became of a setting, as the table writes it."""
    asks = [request.ask for request in requests]
    match setting:
        case "samples":
            return str(max(ask.sample for ask in asks))
        case "model":
            return ", ".join(sorted({ask.model for ask in asks}))
        case "ground":
            [ground] = {re.search(r" on (.*?),", ask.prompt)[1] for ask in asks}
            return ground
        case _:
            [value] = {str(ask.settings()[setting]) for ask in asks}
            return value


def test_extending_takes_and_leaves_what_it_says(asked):
    [request] = asked("extends: [_house.yaml, _shop.yaml]")
    assert request.ask.settings() == {"aspect": "4:5", "size": "2K"}
    assert request.vars == {"ground": "grey linen", "light": "soft"}
    section = RULES.partition("\n* Merged")[2]
    assert set(re.findall(r"`(\w+)`", section.partition(". ")[0])) == manifest._MERGED
    not_inherited = section.partition("\n* Not inherited")[2].partition(", and")[0]
    assert set(re.findall(r"`(\w+)`", not_inherited)) == manifest._OWN - {"extends"}


def test_ids_items_and_keys_are_as_told(asked):
    last = asked("seen from the [side]")[1]
    told = {word: value.strip("`") for word, value, _ in _table("## Ids, items, keys")[:3]}
    assert {"id": last.id, "item": last.item, "key": last.key} == told


def test_a_catalog_is_read_in_the_order_told(asked):
    assert [(one.key, one.ask.prompt) for one in asked("rename: {Title: product")] == [
        ("tote-red", "Tote in red. Waxed canvas"),
        ("tote-green", "Tote in green. Waxed canvas"),
    ]


def test_the_matrix_has_the_cells_told(asked):
    assert "Here that leaves four." in RULES
    keys = [one.key.partition("/")[2] for one in asked("pose: [standing, running]")]
    assert keys == ["standing/1:1", "running/1:1", "running/16:9", "sleeping/16:9"]


def test_a_table_is_looked_up_by_all_of_its_columns(asked):
    assert [one.ask.prompt for one in asked("on: [sku, lang]")] == [
        'Poster of an enamel mug with the headline "Good morning"',
        'Poster of an enamel mug with the headline "Guten Morgen"',
    ]


def test_where_and_when_choose_what_they_say(asked):
    found = {one.key: one.ask.settings().get("temperature") for one in asked("stock: {not: [0")}
    assert found == {"mug-01/1:1": None, "mug-01/16:9": None, "cup-02/1:1": 0.5, "cup-02/16:9": None}


def test_labels_count_what_is_sent(asked):
    [request] = asked("curtains of the fabric")
    assert request.ask.prompt == "Furnish image 1 with curtains of the fabric in images 2-3."
    assert [image.shown for image in request.ask.images] == [
        "refs/attic.png", "swatches/wool/a.png", "swatches/wool/b.png"
    ]  # fmt: skip


def test_a_conversation_keeps_what_it_says(asked):
    first, second, third = asked("edge of a wood")
    assert (first.keeps, second.keeps, third.keeps) == (False, True, True)
    assert third.ask.prompt == "The same scene by night, in 16:9"
    assert [one.key for one in (first, second, third)] == ["story/t1", "story/t2", "story/t3"]
    assert (second.path, third.path) == ("story-snow", "story-3")


def test_segments_are_as_told():
    rows = _table("## Where a result goes")
    assert len(rows) == 4
    for value, segment in rows:
        assert slug(value.strip("`")) == segment.strip("`")


def test_yaml_keeps_the_texts_it_says(asked):
    [request] = asked("size_name: 16:9")
    assert request.ask.prompt == "16:9 no 007 1.50 12_000"


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)]+)\)", PAGES[page]):
        name, _, anchor = target.partition("#")
        assert not name or (ROOT / "docs" / name).exists(), target
        headings = re.findall(r"^#+ (.*)$", PAGES.get(name or page, ""), re.MULTILINE)
        anchors = {re.sub(r"[^a-z0-9 -]", "", heading.lower()).replace(" ", "-") for heading in headings}
        assert not anchor or anchor in anchors, target
