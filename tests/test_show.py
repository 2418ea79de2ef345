"""`show`, `ls templates`, `validate`: what is told before and after a run, and where each setting was written."""

import json

import pytest


class Brand:
    """A project with a base, a template and a catalog; a call fails unless it ends with `code`."""

    def __init__(self, project) -> None:
        self.write = project.write
        self._project = project
        self.write("jobs/_brand.yaml", "size: 2K\nvars: {light: soft}\n")
        self.write("jobs/c.csv", "id,set.aspect\na,16:9\nb,16:9\nc,\n")
        self.write("templates/t.md", "---\ndescription: of the house\nthinking: high\n---\n[id] in [light] light\n")
        self.write("jobs/shop.yaml", "extends: _brand.yaml\ntemplate: t\nitems: c.csv\n")

    def __call__(self, *args, code=0):
        ended = self._project(*args)
        assert ended.code == code, ended.err
        return ended


@pytest.fixture
def brand(shop):
    return Brand(shop)


def test_each_setting_has_its_file_and_line_before_any_run(brand):
    shown = brand("show", "b", "--json").json
    assert shown["provenance"] == {
        "size": "jobs/_brand.yaml:1",
        "vars.light": "jobs/_brand.yaml:2",
        "template": "jobs/shop.yaml:2",
        "prompt": "templates/t.md:5",
        "thinking": "templates/t.md:3",
        "aspect": "jobs/c.csv:3",
    }
    assert (shown["row"], shown["status"], shown["settings"]["aspect"]) == ("jobs/c.csv:3", "pending", "16:9")
    assert len(shown["template_version"]) == 64
    text = brand("show", "c").out
    assert "aspect  1:1   (default)" in text
    assert "size  2K   ← jobs/_brand.yaml:1" in text


def test_after_a_run_it_is_the_record_with_its_origins(brand):
    brand("run", "jobs/shop.yaml", "--poll", "0.1s")
    shown = brand("show", "a", "--json").json
    assert (shown["status"], shown["provenance"]["aspect"]) == ("done", "jobs/c.csv:2")
    brand.write("jobs/_brand.yaml", "size: 1K\nvars: {light: hard}\n")
    shown = brand("show", "a", "--json").json
    assert (shown["provenance"], shown["row"]) == ({}, None)  # the job asks for something else by now


def test_a_key_nobody_knows_is_told_with_a_near_one(brand):
    brand("run", "jobs/shop.yaml", "--poll", "0.1s")
    ended = brand("show", "aa", code=2)
    assert "nothing is known of 'aa'; did you mean 'a'?" in ended.err


def test_templates_are_listed_and_shown_the_own_before_those_that_come_along(brand):
    brand.write("templates/sticker.md", "mine [x]\n")
    rows = {row["name"]: row for row in brand("ls", "templates", "--json").json["items"]}
    assert len(rows) == 15
    assert rows["t"] == {"name": "t", "description": "of the house", "needs": "-", "path": "templates/t.md"}
    assert rows["sticker"]["path"] == "templates/sticker.md"
    assert rows["compose"]["path"] == "comes along"
    assert brand("show", "template:sticker").out == "mine [x]\n"
    told = json.loads(brand("show", "template:inpaint", "--json").out)
    assert (told["name"], told["shipped"], told["variables"]["part"]) == ("inpaint", True, None)
    assert "did you mean 'inpaint'?" in brand("show", "template:inpant", code=2).err


def test_a_base_that_two_jobs_share_is_told_of_once(brand):
    brand.write("jobs/other.yaml", "extends: _brand.yaml\nprompt: x\n")
    brand.write("jobs/_brand.yaml", "sise: 2K\n")
    document = brand("validate", "jobs", "--format", "json", code=2).json
    assert [(one["file"], one["line"]) for one in document["errors"] if "sise" in one["message"]] == [
        ("jobs/_brand.yaml", 1)
    ]


def test_words_that_name_nothing_and_names_that_are_there_twice_are_problems_too(brand):
    [error] = brand("validate", "nope.yaml", "--format", "json", code=2).json["errors"]
    assert (error["file"], error["message"]) == ("nope.yaml", "there is no manifest 'nope.yaml'")
    brand.write("jobs/again.yaml", "prompt: x\njob: shop\n")
    errors = brand("validate", "jobs", "--format", "json", code=2).json["errors"]
    assert [(one["file"], one["line"], one["column"]) for one in errors] == [("jobs/shop.yaml", 1, 1)]
    assert "is jobs/again.yaml already" in errors[0]["message"]


def test_plan_tells_all_that_is_wrong_at_once(brand):
    brand.write("jobs/shop.yaml", "extends: _brand.yaml\nprompt: a [nope]\nretry: -1\nimages: [gone.png]\n")
    told = brand("plan", "jobs/shop.yaml", code=2).err
    assert [line.partition(": error")[0] for line in told.splitlines() if ": error:" in line] == [
        "jobs/shop.yaml:2:11",
        "jobs/shop.yaml:3:8",
        "jobs/shop.yaml:4:10",
    ]


def test_an_annotation_is_one_line_whatever_a_folder_is_called(brand):
    brand.write("jobs/a\nb,c/j.yaml", "promt: x\n")
    ended = brand("validate", "jobs/a\nb,c/j.yaml", "--format", "github", code=2)
    [line] = ended.out.splitlines()
    assert line.startswith("::error file=jobs/a%0Ab%2Cc/j.yaml,line=1,col=1::unknown key 'promt'")


def test_strict_says_what_it_lets_not_pass(brand):
    brand.write("jobs/w.yaml", "prompt: x\nvars: {aspect: 4:5}\n")
    assert brand("validate", "jobs/w.yaml").err.splitlines()[-1] == "1 job, 1 image: valid"
    ended = brand("validate", "jobs/w.yaml", "--strict", code=2)
    assert ended.err.splitlines()[-1] == "1 job, 1 image: 1 warning, which --strict lets none pass"
