"""docs/faults.md: every word of the language is in it, and every recipe ends as it says."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

import pytest
from conftest import PRODUCTS, ROOT, SHOP

from pipeline.local.faults import ANY_CALL, CALLS, DOES, THINGS, WHEN
from pipeline.reconcile import send

TEXT = (ROOT / "docs" / "faults.md").read_text(encoding="utf-8")
_RECIPE = re.compile(
    r"^### (?P<title>.+?)\n.*?^<!-- file: (?P<file>\S+) -->\n```yaml\n(?P<rules>.*?)^```\n"
    r"\n<!-- ends with: (?P<code>\d) -->\n```text\n(?P<last>.*?)\n```$",
    re.MULTILINE | re.DOTALL,
)


@dataclass(frozen=True)
class Recipe:
    title: str
    file: str
    rules: str
    code: str
    last: str


RECIPES = [Recipe(**found.groupdict()) for found in _RECIPE.finditer(TEXT)]


def test_every_word_has_its_line():
    told = re.findall(r"^\| `([^`]+)` \|", TEXT, re.MULTILINE)
    known = [*CALLS, ANY_CALL, *THINGS, *dict.fromkeys(word for words in WHEN.values() for word in words)]
    known += [word for words in DOES.values() for word in words]
    assert sorted(told) == sorted(known)
    rows = dict(re.findall(r"^\| `([^`]+)` \| (.*) \|$", TEXT, re.MULTILINE))
    for does in DOES.values():
        for word, more in does.items():
            shared = {"output"} if "as above" in rows[word] else set()
            assert more.keys() <= set(re.findall(r"`(\w+)", rows[word])) | shared, word


@pytest.fixture
def rehearse(project, monkeypatch):
    """Run the shop on the local service with a faults file."""
    project.write("jobs/shop.yaml", SHOP)
    project.write("jobs/products.csv", PRODUCTS)
    monkeypatch.setattr(send, "_RATE_PAUSE_S", 0.1)
    monkeypatch.setenv("PIPELINE_SETTLE", "0")
    monkeypatch.setenv("PIPELINE_PATIENCE", "0")
    monkeypatch.setenv("PIPELINE_LOCAL_LATENCY", "0s")
    monkeypatch.setenv("PIPELINE_LOCAL_PICTURES", "plain")

    def run(recipe):
        project.write(recipe.file, recipe.rules)
        monkeypatch.setenv("PIPELINE_LOCAL_FAULTS", recipe.file)
        return project("--service", "local", "run", "jobs/shop.yaml", "--yes", "--poll", "0.1s", "--wait", "60s")

    return run


def test_there_are_five_recipes():
    names = ["lost.yaml", "night.yaml", "limits.yaml", "gateway.yaml", "chance.yaml"]
    assert [recipe.file for recipe in RECIPES] == names


@pytest.mark.some(2)
@pytest.mark.parametrize("recipe", RECIPES, ids=lambda recipe: recipe.file)
def test_a_recipe_ends_as_it_says(rehearse, project, recipe):
    ended = rehearse(recipe)
    assert ended.code == int(recipe.code), ended.err
    [last] = [line for line in (ended.out + ended.err).splitlines() if line.startswith("shop: ")]
    assert last.split(" · ")[0] == recipe.last
    ledger = (project.outputs / ".local-service" / "ledger.jsonl").read_text()
    created = ledger.count('"op": "batches.create"')
    assert created == 1 or recipe.file == "night.yaml"
    if ended.code == 6:
        recipe = replace(recipe, rules="")  # what a person was to look at is over
    assert ended.code == 3 or rehearse(recipe).code == 0, "run again, there is nothing to do"
