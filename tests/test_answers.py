"""Answers of every kind: which files they become, what the record says, and what it costs when they are odd."""

from __future__ import annotations

import base64
import csv
import io
import json
import shutil

import pytest
from conforming import conform
from conftest import KEY, ROOT
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from pipeline import journal
from pipeline.gemini.answers import decoded, reading
from pipeline.unpack.arrivals import held
from pipeline.unpack.pieces import Pieces, pieces

RUN = ("run", "jobs/shop.yaml", "--poll", "0.1s", "--wait", "30s")
BOTH = "prompt: A [product] in two steps\nresponse: [text, image]\nretry: 0\n"
ITEMS = "items: [{id: mug, product: blue mug}, {id: bowl, product: sand bowl}]\n"
ONE = "items: [{id: mug, product: blue mug}]\n"


def changing(change):
    """A rule that changes the candidate of every answer."""

    def rule(call):
        if call.is_download() and call.status == 200:
            replies = [json.loads(line) for line in call.answer.splitlines()]
            for reply in replies:
                change(reply["response"]["candidates"][0])
            call.say(b"".join(json.dumps(reply).encode() + b"\n" for reply in replies))

    return rule


def job(project, text, items=ONE):
    project.write("jobs/shop.yaml", text + items)
    return project


def kinds(record):
    return [(file["path"], file["kind"]) for file in record["files"]]


def names(project):
    return {path for path in project.tree() if not path.startswith("manifest.")}


def content(project, path):
    return project.tree()[path][0]


def bought(service):
    return [entry["requests"] for entry in service.ledger()]


def cost_of(record):
    return float(record["cost"]["amount"])


def dollars(read, said, drawn):
    """What so many tokens of each kind cost in a batch of the model that jobs ask for when they name none."""
    return pytest.approx((read * 0.75 + said * 3.75 + drawn * 15) / 1_000_000, abs=1e-6)


def picture(colour="teal", size=(1024, 1024), kind="JPEG"):
    """Bytes of a picture that is not of one colour."""
    image = Image.new("RGB", size, colour)
    image.paste("white", (0, 0, size[0] // 2, size[1] // 2))
    stream = io.BytesIO()
    image.save(stream, kind)
    return stream.getvalue()


def image_part(data, **more):
    return {"inlineData": {"mimeType": "image/jpeg", "data": base64.b64encode(data).decode()}, **more}


def answering(*parts, **more):
    """A rule that puts other parts into every answer; the rest of it stays as the service sent it."""

    def change(candidate):
        candidate["content"]["parts"] = list(parts)
        candidate.update(more)

    return changing(change)


# ------------------------------------------------------------------------------------- text and images


def test_text_and_images_come_home_in_their_order_on_one_page(shop, service):
    assert job(shop, BOTH, ITEMS)(*RUN).code == 0
    record = shop.records()["mug"]
    assert kinds(record) == [("mug.jpg", "image"), ("mug.part2.jpg", "part"), ("mug.md", "text")]
    assert content(shop, "mug.md") == (
        b"Step 1 of 2.\n\n![image 1](mug.jpg)\n\nStep 2 of 2.\n\n![image 2](mug.part2.jpg)\n"
    )
    assert [(file["width"], file["height"], file["mime"]) for file in record["files"]] == [
        (1024, 1024, "image/jpeg"),
        (1024, 1024, "image/jpeg"),
        (None, None, "text/markdown"),
    ]
    assert record["text"] == "Step 1 of 2.\n\nStep 2 of 2.\n\n"
    assert record["settings"]["response"] == ["text", "image"]
    assert shop("verify").code == 0
    assert bought(service) == [2]


def test_two_images_cost_two_images_even_where_the_service_does_not_say_which_tokens_are_what(shop, proxy):
    def silent(call):
        if call.is_download():
            call.say(call.answer.replace(b'"candidatesTokensDetails"', b'"x"'))

    proxy.after = silent
    assert job(shop, BOTH)(*RUN).code == 0
    record = shop.records()["mug"]
    usage = record["usage"]
    said = usage["output_text"] - 2 * 1120 + usage["thinking"]
    assert cost_of(record) == dollars(usage["input"], said, 2 * 1120)


def test_every_record_keeps_to_the_schema_and_a_second_run_changes_nothing(shop, service):
    job(shop, BOTH + "search: [web, image]\nthoughts: true\n", ITEMS)
    assert shop(*RUN).code == 0
    schema = shop("schema", "record").json
    for record in shop.records().values():
        conform(record, schema)
    before = shop.tree()
    assert shop(*RUN).code == 0
    assert shop.tree() == before
    assert bought(service) == [2]


def test_images_without_a_word_have_no_page(shop, proxy):
    proxy.after = answering(image_part(picture("teal")), image_part(picture("navy")))
    assert job(shop, BOTH)(*RUN).code == 0
    assert kinds(shop.records()["mug"]) == [("mug.jpg", "image"), ("mug.part2.jpg", "part")]


def test_words_without_an_image_are_no_image_and_stay_in_the_record(shop, proxy, service):
    proxy.after = answering({"text": "I would rather "}, {"text": "not."})
    assert job(shop, BOTH)(*RUN).code == 3
    record = shop.records()["mug"]
    assert (record["status"], record["text"], record["files"]) == ("no_image", "I would rather not.", [])
    assert names(shop) == set()


def test_the_page_is_the_services_words_as_they_are(shop, proxy):
    words = "# Owls <b>&amp;</b>\r\n* one \u2028 \ud800\n\n"
    proxy.after = answering({"text": words}, {"text": "and on"}, image_part(picture()), {"text": "\n  end  "})
    assert job(shop, BOTH)(*RUN).code == 0
    assert content(shop, "mug.md").decode() == (
        "# Owls <b>&amp;</b>\r\n* one \u2028 ?\n\nand on\n\n![image 1](mug.jpg)\n\n  end  \n"
    )


THREE = ["mug.jpg", "mug.part2.jpg", "mug.md"]


@pytest.mark.some(2)
@pytest.mark.parametrize(
    ("harm", "status", "left", "reason"),
    [
        pytest.param({0}, "check", THREE, "image 1 of 3 is damaged: is cut", id="first"),
        pytest.param({2}, "check", THREE, "image 3 of 3 is damaged: is cut", id="last"),
        pytest.param({0, 1, 2}, "invalid", [], "the image is damaged: is cut", id="all"),
    ],
)
def test_damaged_images_cost_no_whole_one(shop, proxy, harm, status, left, reason):
    images = [
        picture(colour)[: -9 if number in harm else None] for number, colour in enumerate(("red", "lime", "blue"))
    ]
    proxy.after = answering({"text": "three"}, *map(image_part, images))
    assert job(shop, BOTH)(*RUN).code == 3
    record = shop.records()["mug"]
    assert (record["status"], [path for path, _kind in kinds(record)]) == (status, left)
    assert record["reason"].startswith(reason)
    whole = [data for number, data in enumerate(images) if number not in harm]
    assert [content(shop, path) for path in left if path.endswith("jpg")] == whole
    kept = [path.read_bytes() for path in (shop.outputs / ".pipeline/quarantine/shop").iterdir()]
    assert sorted(kept) == sorted(images[number] for number in harm)
    assert shop("verify").code == 0


@pytest.mark.parametrize(
    ("second", "reason"),
    [
        pytest.param(picture("teal", (1024, 900)), "mug.part2.jpg is 1024x900, not 1024x1024 as asked", id="size"),
        pytest.param(None, "mug.part2.jpg is one single colour", id="blank"),
    ],
)
def test_every_image_that_was_asked_for_is_looked_at(shop, proxy, second, reason):
    if second is None:
        stream = io.BytesIO()
        Image.new("RGB", (1024, 1024), "red").save(stream, "JPEG")
        second = stream.getvalue()
    proxy.after = answering({"text": "two"}, image_part(picture()), image_part(second))
    assert job(shop, BOTH)(*RUN).code == 3
    record = shop.records()["mug"]
    assert (record["status"], record["reason"]) == ("check", reason)
    assert len(record["files"]) == 3


def test_more_images_than_anybody_asked_for_are_bounded_and_said(shop, proxy):
    stream = io.BytesIO()
    Image.new("RGB", (1, 1)).save(stream, "PNG")
    proxy.after = answering({"text": "many"}, *[image_part(stream.getvalue())] * 300)
    job(shop, BOTH + "checks: {not_blank: false}\n")
    assert shop(*RUN).code == 3
    record = shop.records()["mug"]
    assert (record["status"], record["reason"]) == ("check", "the answer has 300 images; the first 100 are here")
    assert len(record["files"]) == 101


# --------------------------------------------------------------------------------------------- text alone


TEXT = "prompt: Describe a [product]\nresponse: [text]\n"


def test_text_alone_is_done_with_a_page_and_asked_for_once(shop, service):
    assert job(shop, TEXT, ITEMS)(*RUN).code == 0
    record = shop.records()["mug"]
    assert (record["status"], kinds(record)) == ("done", [("mug.md", "text")])
    assert content(shop, "mug.md").decode() == record["text"] + "\n"
    assert "You asked: Describe a blue mug" in record["text"]
    usage = record["usage"]
    assert usage["output_image"] == 0
    assert cost_of(record) == dollars(usage["input"], usage["output_text"] + usage["thinking"], 0)
    assert shop("verify").code == 0
    assert shop(*RUN).code == 0
    assert bought(service) == [2]
    header, first, _second = csv.reader(io.StringIO(content(shop, "manifest.csv").decode("utf-8-sig")))
    row = dict(zip(header, first, strict=True))
    assert (row["path"], row["width"], row["height"]) == ("bowl.md", "", "")
    assert row["sha256"] == shop.records()["bowl"]["files"][0]["sha256"]


@pytest.mark.some(2)
@pytest.mark.parametrize(
    "parts", [[], [{"text": " \n"}], [{"text": "hm", "thought": True}]], ids=["none", "blank", "thought"]
)
def test_an_answer_without_the_text_is_no_image_and_asked_again(shop, proxy, service, parts):
    proxy.after = answering(*parts)
    assert job(shop, TEXT + "retry: 1\n")(*RUN).code == 3
    record = shop.records()["mug"]
    assert (record["status"], record["reason"]) == ("no_image", "STOP: the answer has no text")
    assert bought(service) == [1, 1]


def test_text_that_was_cut_off_is_kept_and_marked_and_not_asked_again(shop, service):
    assert job(shop, TEXT + "max_output_tokens: 10\n")(*RUN).code == 3
    record = shop.records()["mug"]
    assert (record["status"], record["finish_reason"], len(record["text"])) == ("check", "MAX_TOKENS", 40)
    assert names(shop) == {"mug.md"}
    assert bought(service) == [1]


def test_text_that_was_withheld_is_blocked(shop, proxy, service):
    proxy.after = answering({"text": "I started"}, finishReason="SAFETY")
    assert job(shop, TEXT)(*RUN).code == 3
    assert shop.records()["mug"]["status"] == "blocked"
    assert bought(service) == [1]


def test_an_image_that_nobody_asked_for_is_paid_for_and_kept(shop, proxy, service):
    proxy.after = answering({"text": "See:"}, image_part(picture("teal", (640, 480))))
    assert job(shop, TEXT)(*RUN).code == 0
    assert kinds(shop.records()["mug"]) == [("mug.md", "text"), ("mug.part1.jpg", "part")]
    assert content(shop, "mug.md") == b"See:\n\n![image 1](mug.part1.jpg)\n"
    assert shop("verify").code == 0


def test_an_image_in_place_of_the_text_is_kept_and_marked(shop, proxy, service):
    proxy.after = answering(image_part(picture()))
    assert job(shop, TEXT)(*RUN).code == 3
    record = shop.records()["mug"]
    assert (record["status"], kinds(record)) == ("check", [("mug.part1.jpg", "part")])
    assert bought(service) == [1]


def test_a_second_answer_with_the_same_text_is_nothing_new_and_with_another_is_kept_apart(shop, proxy):
    def twice(call):
        if call.is_download():
            call.say(call.answer * 2)

    proxy.after = twice
    assert job(shop, TEXT)(*RUN).code == 0
    assert not (shop.outputs / ".pipeline/conflicts/shop").exists()

    def another(call):
        if call.is_download():
            call.say(call.answer + call.answer.replace(b"imagines", b"dreams"))

    proxy.after = another
    assert job(shop, TEXT.replace("Describe", "Tell of"))(*RUN).code == 0
    (kept,) = (shop.outputs / ".pipeline/conflicts/shop").iterdir()
    assert b"dreams" in kept.read_bytes()
    assert b"imagines" in content(shop, "mug.md")


def test_a_file_of_somebody_else_where_the_text_goes_is_never_overwritten(shop):
    mine = shop.write("outputs/shop/mug.md", b"my notes")
    assert job(shop, TEXT)(*RUN).code == 6
    assert mine.read_bytes() == b"my notes"
    assert shop.records()["mug"]["status"] == "held"
    mine.unlink()
    assert shop(*RUN).code == 0
    assert shop.records()["mug"]["status"] == "done"


# ----------------------------------------------------------------------------------------------- thoughts


def test_thoughts_are_kept_apart_where_they_are_asked_for(shop):
    job(shop, "prompt: A [product]\nthoughts: true\n")
    assert shop(*RUN).code == 0
    record = shop.records()["mug"]
    assert kinds(record) == [("mug.jpg", "image"), ("mug.thought1.md", "thought"), ("mug.thought2.jpg", "thought")]
    assert content(shop, "mug.thought1.md") == b"Composing 1:1 at 1K: A blue mug\n"
    assert record["text"] is None
    assert shop("verify").code == 0


def test_thoughts_nobody_asked_for_are_let_go(shop, proxy):
    sketch = picture("grey")
    proxy.after = answering({"text": "hm", "thought": True}, image_part(sketch, thought=True), image_part(picture()))
    assert job(shop, "prompt: A [product]\n")(*RUN).code == 0
    assert names(shop) == {"mug.jpg"}


def test_thoughts_come_in_their_order_and_none_of_them_twice(shop, proxy):
    result, sketch = picture("teal"), picture("grey", (640, 640), "PNG")
    proxy.after = answering(
        {"text": "First ", "thought": True},
        {"text": "this.", "thought": True},
        image_part(sketch, thought=True),
        image_part(sketch, thought=True),
        image_part(b"no image at all", thought=True),
        {"text": "Then that.", "thought": True},
        image_part(result, thought=True),
        image_part(result),
    )
    assert job(shop, "prompt: A [product]\nthoughts: true\n")(*RUN).code == 0
    assert kinds(shop.records()["mug"]) == [
        ("mug.jpg", "image"),
        ("mug.thought1.md", "thought"),
        ("mug.thought2.png", "thought"),
        ("mug.thought3.md", "thought"),
    ]
    assert content(shop, "mug.jpg") == result
    assert content(shop, "mug.thought1.md") == b"First this.\n"
    assert content(shop, "mug.thought3.md") == b"Then that.\n"


def test_drafts_and_thoughts_stand_beside_one_another(shop, proxy):
    proxy.after = answering(
        image_part(picture("red"), thought=True), image_part(picture("lime")), image_part(picture("blue"))
    )
    assert job(shop, "prompt: A [product]\nthoughts: true\n")(*RUN).code == 0
    assert kinds(shop.records()["mug"]) == [
        ("mug.jpg", "image"),
        ("mug.draft1.jpg", "draft"),
        ("mug.thought1.jpg", "thought"),
    ]


# ---------------------------------------------------------------------------------------------- grounding


SEARCH = "prompt: Weather for [product]\nsearch: [web, image]\n"


def test_what_was_searched_for_and_found_is_in_the_record_and_in_the_cost(shop, proxy):
    job(shop, SEARCH)
    assert shop(*RUN).code == 0
    record = shop.records()["mug"]
    found = record["grounding"]
    assert found["queries"] == found["image_queries"] == ["Weather for blue mug"]
    assert [source["title"] for source in found["sources"]] == ["example.com", "example.org", "example.net"]
    assert [bool(source["image"]) for source in found["sources"]] == [False, False, True]
    assert [quote["sources"] for quote in found["quotes"]] == [[1], [2], [3]]
    assert "Weather for blue mug" in found["suggestions"]
    assert [kind for _path, kind in kinds(record)] == ["image", "text"]
    searched = cost_of(record)
    proxy.after = changing(lambda candidate: candidate.pop("groundingMetadata"))
    job(shop, SEARCH.replace("Weather", "Climate"))
    assert shop(*RUN).code == 0
    record = shop.records()["mug"]
    assert record["grounding"] is None
    assert searched - cost_of(record) == pytest.approx(2 * 0.014, abs=0.001)


HOSTILE = {
    "webSearchQueries": ["a" * 9000, 5, None, {"a": 1}, "\ud83d half"] * 50,
    "groundingChunks": [
        {"web": {"uri": "javascript:alert(1)", "title": "<script>\n"}},
        {"web": {"uri": "https://example.com/" + "x" * 5000, "title": 7}},
        {"image": {"source_uri": "http://example.com/a", "image_uri": "file:///etc/passwd"}},
        {"maps": 3, "web": None},
        "chunk",
    ]
    * 500,
    "groundingSupports": [
        {"segment": {"text": "x" * 9000}, "groundingChunkIndices": [0, -1, 10**9, "2", None]},
        {"segment": 5, "groundingChunkIndices": 5},
    ]
    * 500,
    "searchEntryPoint": {"renderedContent": "<p>" * 90_000},
}


@pytest.mark.parametrize(
    "meta",
    [
        pytest.param(HOSTILE, id="hostile"),
        pytest.param([], id="a list"),
        pytest.param("found", id="a text"),
        pytest.param({"webSearchQueries": "x", "groundingChunks": {}, "searchEntryPoint": []}, id="other kinds"),
        pytest.param({"ground": {"a": [[[[]]]]}}, id="unknown"),
        pytest.param(None, id="null"),
    ],
)
@pytest.mark.some("hostile", "other kinds")
def test_no_grounding_makes_an_image_go_away_or_a_record_large(shop, proxy, meta):
    proxy.after = changing(lambda candidate: candidate.update(groundingMetadata=meta))
    assert job(shop, SEARCH)(*RUN).code == 0
    record = shop.records()["mug"]
    conform(record, shop("schema", "record").json)
    assert len(json.dumps(record)) < 300_000
    assert "javascript" not in json.dumps(record)
    assert "file:" not in json.dumps(record)


def test_a_key_that_the_service_repeats_reaches_no_file(shop, proxy):
    def change(candidate):
        candidate["content"]["parts"] = [
            {"text": f"thinking of {KEY}", "thought": True},
            {"text": f"your key is {KEY[:9]}"},
            {"text": KEY[9:]},
            image_part(picture()),
            {"text": f"so long, {KEY}"},
            {"text": f"and still of {KEY}", "thought": True},
        ]
        candidate["groundingMetadata"] = {
            "webSearchQueries": [KEY],
            "groundingChunks": [{"web": {"uri": f"https://example.com/?key={KEY}", "title": KEY}}],
            "searchEntryPoint": {"renderedContent": f"<a>{KEY}</a>"},
        }

    proxy.after = changing(change)
    assert job(shop, BOTH + "thoughts: true\nsearch: true\n")(*RUN).code == 0
    for path in shop.outputs.rglob("*"):
        assert path.is_dir() or "answers" in path.parts or KEY.encode() not in path.read_bytes(), path
    first, second = KEY[:9] + "*" * len(KEY[9:]), "*" * len(KEY)  # what is left is of no use to anybody
    said = f"your key is {first}\n\n![image 1](mug.jpg)\n\nso long, {second}\n"
    assert content(shop, "mug.md") == said.encode()
    (shop.outputs / "shop/mug.md").unlink()
    (shop.outputs / "shop/mug.thought1.md").unlink()
    assert shop(*RUN).code == 0
    assert content(shop, "mug.md") == said.encode(), "it is written again from the kept answer"
    assert shop("verify").code == 0


# ------------------------------------------------------------------------- files that move, leave and return


EVERYTHING = BOTH + "thoughts: true\n"
FILES = ("{}.jpg", "{}.part2.jpg", "{}.md", "{}.thought1.md", "{}.thought2.jpg")


def files_of(name):
    return {path.format(name) for path in FILES}


@pytest.fixture
def rich(shop):
    """A shop with every kind of file."""
    assert job(shop, EVERYTHING, ITEMS)(*RUN).code == 0
    assert names(shop) == files_of("mug") | files_of("bowl")
    return shop


def test_a_renamed_item_takes_all_its_files_along_and_its_page_shows_them(rich, service):
    before = rich.tree()
    job(rich, EVERYTHING, ITEMS.replace("id: mug", "id: cup"))
    assert rich(*RUN).code == 0
    assert names(rich) == files_of("cup") | files_of("bowl")
    assert content(rich, "cup.md") == before["mug.md"][0].replace(b"mug.", b"cup.")
    assert content(rich, "cup.part2.jpg") == before["mug.part2.jpg"][0]
    assert rich("verify").code == 0
    job(rich, EVERYTHING, ITEMS)
    assert rich(*RUN).code == 0
    assert {path: entry[0] for path, entry in rich.tree().items() if path[:3] == "mug"} == {
        path: entry[0] for path, entry in before.items() if path[:3] == "mug"
    }
    assert bought(service) == [2]


def test_another_folder_keeps_the_links_between_the_files(rich, service):
    before = rich.tree()
    job(rich, EVERYTHING + 'output: {path: "all/[id]"}\n', ITEMS)
    assert rich(*RUN).code == 0
    assert names(rich) == {f"all/{path}" for path in files_of("mug") | files_of("bowl")}
    assert content(rich, "all/mug.md") == before["mug.md"][0]
    assert rich("verify").code == 0
    assert bought(service) == [2]


def test_two_items_that_swap_their_names_swap_their_pages(rich, service):
    before = rich.tree()
    job(rich, EVERYTHING, "items: [{id: mug, product: sand bowl}, {id: bowl, product: blue mug}]\n")
    assert rich(*RUN).code == 0
    for path in FILES:
        expected = before[path.format("bowl")][0]
        assert content(rich, path.format("mug")) == (
            expected if path != "{}.md" else expected.replace(b"bowl.", b"mug.")
        )
    assert rich("verify").code == 0
    assert bought(service) == [2]


def test_a_changed_ask_retires_all_files_and_going_back_brings_all_of_them(rich, service):
    before = {path: entry[0] for path, entry in rich.tree().items() if not path.startswith("manifest.")}
    job(rich, "prompt: A [product]\n", ITEMS)
    assert rich("plan", "--json").json["jobs"][0]["items"][0]["why"] == (
        "response text+image → image, thoughts true → false, prompt"
    )
    assert rich(*RUN).code == 0
    assert names(rich) == {"mug.jpg", "bowl.jpg"}
    assert rich("verify").code == 0
    job(rich, EVERYTHING, ITEMS)
    assert rich(*RUN).code == 0
    assert {path: entry[0] for path, entry in rich.tree().items() if not path.startswith("manifest.")} == before
    assert bought(service) == [2, 2]


@pytest.mark.parametrize("path", FILES)
@pytest.mark.some(2)
def test_whatever_is_missing_is_written_again_from_the_kept_answer(rich, service, path):
    before = rich.tree()
    (rich.outputs / "shop" / path.format("mug")).unlink()
    assert rich("verify").code == 3
    assert rich(*RUN).code == 0
    assert {name: entry[0] for name, entry in rich.tree().items()} == {name: entry[0] for name, entry in before.items()}
    assert bought(service) == [2]


def test_a_fresh_clone_renders_nothing_and_changes_nothing(rich, service):
    before = rich.tree()
    shutil.rmtree(rich.outputs / ".pipeline")
    assert rich("plan", "--json").json["jobs"][0]["counts"]["done"] == 2
    assert rich(*RUN).code == 0
    assert rich.tree() == before
    job(rich, EVERYTHING, ITEMS.replace("id: mug", "id: cup"))
    assert rich(*RUN).code == 0
    assert names(rich) == files_of("cup") | files_of("bowl")
    assert rich("verify").code == 0
    assert bought(service) == [2]


@pytest.mark.some(1)
@pytest.mark.parametrize("path", ["mug.md", "mug.thought1.md", "mug.thought2.jpg"])
def test_nothing_beside_a_result_is_worth_buying_it_again(rich, service, path):
    before = content(rich, path)
    shutil.rmtree(rich.outputs / ".pipeline")
    (rich.outputs / "shop" / path).unlink()
    assert rich("plan", "--json").json["jobs"][0]["requests"] == 0
    assert rich(*RUN).code == 0
    assert rich("verify").code == 0
    assert (path in rich.tree()) is (path == "mug.md"), "a thought is gone, the words are in the record"
    assert path != "mug.md" or sorted(content(rich, path).split(b"\n\n")) == sorted(before.split(b"\n\n"))
    job(rich, EVERYTHING, ITEMS.replace("id: mug", "id: cup"))
    assert rich(*RUN).code == 0
    assert rich("verify").code == 0
    assert bought(service) == [2]


def test_text_alone_is_never_bought_again_while_its_record_is_there(shop, service):
    assert job(shop, TEXT)(*RUN).code == 0
    before = content(shop, "mug.md")
    shutil.rmtree(shop.outputs / ".pipeline")
    (shop.outputs / "shop/mug.md").unlink()
    assert shop(*RUN).code == 0
    assert content(shop, "mug.md") == before
    assert bought(service) == [1]


def test_a_part_that_is_nowhere_is_bought_again(rich, service):
    shutil.rmtree(rich.outputs / ".pipeline")
    (rich.outputs / "shop/mug.part2.jpg").unlink()
    service.delete(rich.records()["mug"]["batch"])
    assert rich(*RUN).code == 0
    assert names(rich) == files_of("mug") | files_of("bowl")
    assert bought(service) == [2, 1]


def test_an_edited_page_is_an_edit(rich, service):
    path = rich.outputs / "shop/mug.md"
    path.write_text("mine")
    assert rich("verify", "--json").json["jobs"][0]["edited"] == ["mug.md"]
    job(rich, EVERYTHING + "seed: 4\n", ITEMS)
    assert rich(*RUN).code == 0
    assert path.read_text() == "mine"
    assert bought(service) == [2, 1]


@pytest.mark.parametrize(
    "harm",
    [
        pytest.param({"width": 3, "height": 3}, id="a text with sides"),
        pytest.param({"mime": "image/jpeg"}, id="an image without sides"),
        pytest.param({"path": "mug"}, id="no extension"),
        pytest.param({"path": ".md"}, id="no name"),
    ],
)
@pytest.mark.some(1)
def test_a_text_of_a_damaged_output_manifest_gives_no_traceback(rich, harm):
    manifest = rich.outputs / "shop/manifest.jsonl"
    records = [json.loads(line) for line in manifest.read_text().splitlines()]
    for record in records:
        record["files"][2] |= harm
    manifest.write_text("".join(json.dumps(record) + "\n" for record in records))
    shutil.rmtree(rich.outputs / ".pipeline")
    for words in (("plan", "--json"), ("verify",), RUN):
        assert rich(*words).code in {0, 3, 6}


@pytest.mark.parametrize(
    "settings",
    [{}, {"aspect": 5, "size": "1K"}, {"aspect": "1:1", "size": "1K", "response": "text"}, {"response": []}, "x"],
    ids=repr,
)
@pytest.mark.some(1)
def test_settings_of_a_damaged_output_manifest_give_no_traceback(rich, settings):
    manifest = rich.outputs / "shop/manifest.jsonl"
    first, second = manifest.read_text().splitlines()
    manifest.write_text(json.dumps({**json.loads(first), "settings": settings}) + "\n" + second + "\n")
    shutil.rmtree(rich.outputs / ".pipeline")
    ended = rich("plan", "jobs/shop.yaml")
    assert ended.code == 0
    assert "manifest.jsonl:1: no record" in ended.err
    assert rich("verify", "--json").json["jobs"][0]["broken"] == ["manifest.jsonl"]


# --------------------------------------------------------------------------- the same ask, bought once more


def opened_again(project):
    """What is done is asked for once more by the next run, as when it is too old."""
    with journal.opened(project.outputs / ".pipeline", outputs=project.outputs) as book, book.transaction():
        (record,) = [known for known in book.records.of_key("shop", "mug") if known.wanted]
        book.records.change(record, status="pending", batch=None, reopened=record.attempts)
    return project


def retired(project):
    top = project.outputs / ".pipeline/retired/shop"
    return sorted(path.read_bytes() for path in top.rglob("*") if path.is_file()) if top.exists() else []


def test_the_same_ask_bought_again_replaces_its_image_and_retires_the_old_one(shop, proxy, service):
    job(shop, "prompt: A [product]\n")
    proxy.after = answering(image_part(picture("red")), image_part(picture("lime")))
    assert shop(*RUN).code == 0
    before = {path: entry[0] for path, entry in shop.tree().items() if path.endswith("jpg")}
    assert set(before) == {"mug.jpg", "mug.draft1.jpg"}
    proxy.after = answering(image_part(picture("blue")))
    assert opened_again(shop)(*RUN).code == 0
    assert names(shop) == {"mug.jpg"}
    assert content(shop, "mug.jpg") == picture("blue")
    assert retired(shop) == sorted(before.values())
    assert shop.records()["mug"]["attempt"] == 2
    assert shop("verify").code == 0
    assert bought(service) == [1, 1]


def test_the_same_ask_bought_again_may_bring_the_same_bytes(shop, service):
    job(shop, EVERYTHING)
    assert shop(*RUN).code == 0
    before = {path: entry[0] for path, entry in shop.tree().items() if not path.startswith("manifest")}
    assert opened_again(shop)(*RUN).code == 0
    assert {path: entry[0] for path, entry in shop.tree().items() if not path.startswith("manifest")} == before
    assert retired(shop) == sorted(before.values())
    assert shop("verify").code == 0
    again = shop.tree()
    assert shop(*RUN).code == 0
    assert shop.tree() == again
    assert bought(service) == [1, 1]


@pytest.mark.some(1)
@pytest.mark.parametrize(
    ("parts", "status"),
    [
        pytest.param([], "no_image", id="no image"),
        pytest.param([image_part(picture("blue")[:-9])], "invalid", id="damaged"),
    ],
)
def test_the_old_image_stays_and_is_named_until_a_new_one_is_verified(shop, proxy, service, parts, status):
    job(shop, "prompt: A [product]\nretry: 0\n")
    proxy.after = answering(image_part(picture("red")), image_part(picture("lime")))
    assert shop(*RUN).code == 0
    before = names(shop)
    proxy.after = answering(*parts)
    assert opened_again(shop)(*RUN).code == 3
    record = shop.records()["mug"]
    assert (record["status"], names(shop), content(shop, "mug.jpg")) == (status, before, picture("lime"))
    assert shop("verify").code == 0, "what lies there is named by its record"
    proxy.after = answering(image_part(picture("blue")))
    assert shop("retry", "jobs/shop.yaml", "--only", status, "--poll", "0.1s").code == 0
    assert names(shop) == {"mug.jpg"}
    assert len(retired(shop)) == 2
    assert bought(service) == [1, 1, 1]


def test_the_old_image_lies_there_while_the_new_one_is_on_its_way(slow_shop, slow_service):
    job(slow_shop, "prompt: A [product]\n")
    assert slow_shop("submit", "jobs/shop.yaml").code == 0
    slow_service.advance(21 * 3600)
    assert slow_shop(*RUN).code == 0
    before = slow_shop.tree()["mug.jpg"]
    assert opened_again(slow_shop)(*RUN[:2], "--wait", "0").code == 4
    assert slow_shop.tree()["mug.jpg"] == before
    assert slow_shop("verify").code == 0
    job(slow_shop, "prompt: Another [product]\n")
    slow_service.advance(21 * 3600)
    assert slow_shop("collect", "jobs/shop.yaml").code == 0
    assert slow_shop.tree()["mug.jpg"] == before, "what came for the old ask replaces nothing"
    assert slow_shop("verify").code == 0


def test_an_image_edited_while_it_was_bought_again_is_not_overwritten(slow_shop, slow_service):
    job(slow_shop, "prompt: A [product]\n")
    assert slow_shop("submit", "jobs/shop.yaml").code == 0
    slow_service.advance(21 * 3600)
    assert slow_shop(*RUN).code == 0
    assert opened_again(slow_shop)(*RUN[:2], "--wait", "0").code == 4
    path = slow_shop.outputs / "shop/mug.jpg"
    path.write_bytes(picture("red"))
    slow_service.advance(21 * 3600)
    slow_shop(*RUN)
    assert path.read_bytes() == picture("red")
    assert len(retired(slow_shop)) == 1


# ------------------------------------------------------------------------------------- whatever may come


ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters(), max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=6,
)
PIXEL = io.BytesIO()
Image.new("RGB", (2, 2)).save(PIXEL, "PNG")
DATA = st.sampled_from([base64.b64encode(PIXEL.getvalue()).decode(), "QQ==", "*"]) | ANYTHING
PART = ANYTHING | st.fixed_dictionaries(
    {},
    optional={
        "text": st.sampled_from(["Some words.", "\ud83d", " "]) | ANYTHING,
        "inlineData": ANYTHING | st.fixed_dictionaries({"data": DATA}),
        "thought": st.just(value=True) | ANYTHING,
        "thoughtSignature": ANYTHING,
    },
)
NAMED = ANYTHING | st.fixed_dictionaries({"text": ANYTHING, "uri": ANYTHING, "title": ANYTHING, "imageUri": ANYTHING})
SUPPORT = ANYTHING | st.fixed_dictionaries({"segment": NAMED, "groundingChunkIndices": ANYTHING | st.just([0, 1])})
GROUNDING = st.fixed_dictionaries(
    {},
    optional={
        "webSearchQueries": ANYTHING | st.lists(ANYTHING),
        "groundingChunks": ANYTHING | st.lists(ANYTHING | st.fixed_dictionaries({"web": NAMED})),
        "groundingSupports": ANYTHING | st.lists(SUPPORT),
        "searchEntryPoint": ANYTHING | st.fixed_dictionaries({"renderedContent": ANYTHING}),
    },
)
CANDIDATE = st.fixed_dictionaries(
    {"content": st.fixed_dictionaries({"parts": st.lists(PART, max_size=5) | ANYTHING}) | ANYTHING},
    optional={"finishReason": ANYTHING, "finishMessage": ANYTHING, "groundingMetadata": GROUNDING | ANYTHING},
)
REPLY = st.fixed_dictionaries(
    {"key": st.just("a")},
    optional={
        "response": ANYTHING
        | st.fixed_dictionaries(
            {"candidates": st.lists(CANDIDATE, max_size=1) | ANYTHING},
            optional={"usageMetadata": ANYTHING, "promptFeedback": ANYTHING},
        ),
        "error": ANYTHING | st.fixed_dictionaries({"code": ANYTHING, "message": ANYTHING}),
        "status": ANYTHING,
    },
)
RECORD = json.loads((ROOT / "schemas/record.schema.json").read_text(encoding="utf-8"))["properties"]
RESPONSES = st.sampled_from([None, ["image"], ["text", "image"], ["text"]])


@given(reply=REPLY, response=RESPONSES, thoughts=st.booleans())
def test_any_answer_becomes_files_that_are_whole_or_a_reason_that_can_be_stored(reply, response, thoughts):
    _key, came = reading(json.dumps(reply).encode(), lambda text: held(decoded(text)))
    shortfall = came.shortfall(response or ["image"])
    told = {"thoughts": thoughts, **({"response": response} if response else {})}
    found = Pieces(status=shortfall.status, reason=shortfall.reason) if shortfall else pieces(came, told, "mug", str)
    assert bool(found.files) == (found.status in {"done", "check"})
    assert len({piece.path for piece in found.files}) == len(found.files)
    assert {piece.path.partition(".")[0] for piece in found.files} <= {"mug"}
    entries = [piece.entry() for piece in found.files]
    json.dumps([entries, found.reason, came.grounding, came.text], ensure_ascii=False).encode()
    conform(entries, RECORD["files"])
    conform(came.grounding, RECORD["grounding"])
