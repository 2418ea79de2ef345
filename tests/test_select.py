"""`--select` and `--exclude`: what they match, and that nothing outside is bought, moved, counted or forgotten."""

from __future__ import annotations

import json
import re

import pytest
from conftest import PRODUCTS, SHOP
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from proxy import proxying

from pipeline.errors import UsageError
from pipeline.selection import EVERYTHING, FACTS, Facts, Selection

RUN = ("run", "jobs/shop.yaml", "--poll", "0.1s")


# What it matches

LINE = {"id": "mug-01", "template": "packshot", "model": "pro", "model_id": "gemini-3-pro-image"}
ITEM = Facts(
    "mug-01/16:9", json.dumps({**LINE, "settings": {"aspect": "16:9"}}), ("spring", "Web"), "changed", "no_image"
)
BARE = Facts("0001/a b,c[1]", json.dumps({**LINE, "template": None, "settings": {"aspect": "auto"}}))


@pytest.mark.parametrize(
    ("text", "holds"),
    [
        ("key:mug-01/16:9", True),
        ("key:mug-01", False),
        ("key:mug-01/*", True),
        ("key:mug-01/**", True),
        ("key:*16:9", True),
        ("key:Mug-01/*", False),
        ("key:mug-??/*", True),
        ("key:mug-?/*", False),
        ("id:mug-01", True),
        ("id:MUG-01", False),
        ("tag:spring", True),
        ("tag:web", True),
        ("tag:autumn", False),
        ("template:pack*", True),
        ("template:*", True),
        ("model:pro", True),
        ("model:gemini-3-*", True),
        ("model:flash", False),
        ("aspect:16:9", True),
        ("aspect:16", False),
        ("state:changed", True),
        ("state:new", False),
        ("status:no_image", True),
        ("status:*", True),
        ("model:pro,aspect:16:9", True),
        ("model:pro,aspect:1:1", False),
        ("model:pro,aspect:1:1 id:mug-01", True),
        ("id:other\tid:mug-01\n", True),
    ],
)
def test_a_text_holds_or_not(text, holds):
    assert Selection.of([text]).takes(ITEM) is holds
    assert Selection.of([], [text]).takes(ITEM) is not holds


@pytest.mark.parametrize(
    ("text", "holds"),
    [
        pytest.param("key:0001/a?b?c[1]", True, id="a bracket is a bracket"),
        pytest.param("key:0001/a?b?c[1-9]", False, id="and no range"),
        pytest.param("template:*", False, id="no template, no match"),
        pytest.param("state:* status:* tag:*", False, id="what is not known matches nothing"),
        pytest.param("aspect:auto", True, id="auto"),
    ],
)
def test_what_is_not_there_and_what_is_no_magic(text, holds):
    assert Selection.of([text]).takes(BARE) is holds


def test_flags_add_up_and_exclude_takes_away():
    selection = Selection.of(["id:a", "id:mug-01"], ["aspect:1:1", "state:done"])
    assert selection.takes(ITEM)
    assert not Selection.of(["id:a", "id:mug-01"], ["aspect:1:1 state:changed"]).takes(ITEM)
    assert EVERYTHING.takes(BARE)
    assert not EVERYTHING


def test_a_key_is_found_however_its_accents_were_typed():
    assert Selection.of(["key:cafe\u0301"]).takes(Facts("caf\u00e9", "{}"))


@given(st.text(alphabet="ab*?[]!.", min_size=1), st.text(alphabet="ab[]!.*?"))
def test_a_pattern_is_for_the_whole_text_and_only_star_and_question_mark_are_special(pattern, text):
    meant = "".join({"*": ".*", "?": "."}.get(char, re.escape(char)) for char in re.sub(r"\*+", "*", pattern))
    assert Selection.of([f"key:{pattern}"]).takes(Facts(text, "{}")) is bool(re.fullmatch(meant, text, re.DOTALL))


def test_many_stars_cost_no_time():
    """A backtracking match of this would not end."""
    assert not Selection.of(["key:" + "*a" * 60 + "*b"]).takes(Facts("a" * 20_000, "{}"))


@pytest.mark.parametrize(
    ("text", "said", "hint"),
    [
        ("", "is empty", "key:mug/*"),
        ("  ", "is empty", ""),
        ("mug-01", "'mug-01' does not say what it is", "key:mug-01 or id:mug-01"),
        ("changed", "does not say what it is", "state:changed"),
        ("blocked", "does not say what it is", "status:blocked"),
        ("kye:x", "unknown word 'kye' in 'kye:x'; did you mean 'key'?", "key, id, tag"),
        ("key:", "nothing behind the colon", "key:*"),
        ("key:a,,id:b", "empty part", "comma means and"),
        ("key:a,", "empty part", "comma means and"),
        ("key:a,b", "'b' does not say what it is", "write ? for it"),
        ("state:chnaged", "there is no state 'chnaged'; did you mean 'changed'?", "new, changed"),
        ("status:broken", "there is no status 'broken'", "no_image"),
    ],
)
@pytest.mark.parametrize("flag", ["select", "exclude"])
def test_a_slip_is_named_and_says_what_was_meant(text, said, hint, flag):
    with pytest.raises(UsageError) as caught:
        Selection.of(*([text], []) if flag == "select" else ([], [text]))
    assert str(caught.value).startswith(f"--{flag}")
    assert said in str(caught.value)
    assert hint in caught.value.hint


# On the command line


def keys(ended):
    return {item["key"]: item["state"] for job in ended.json["jobs"] for item in job["items"]}


def bought(service):
    return [entry["requests"] for entry in service.ledger()]


@pytest.fixture
def done(shop):
    """The shop, rendered."""
    assert shop(*RUN).code == 0
    return shop


@pytest.mark.parametrize(
    ("words", "found"),
    [
        (("--select", "id:mug"), {"mug/1:1", "mug/4:5"}),
        (("--select", "id:mug,aspect:4:5 key:vase/*", "--exclude", "key:*/1:1"), {"mug/4:5", "vase/4:5"}),
        (("--select", "id:mug", "--select", "id:bowl,aspect:1:1"), {"mug/1:1", "mug/4:5", "bowl/1:1"}),
        (("--exclude", "tag:spring"), set()),
        (
            ("--select", "tag:spring", "--exclude", "model:flash,id:*u*"),
            {f"{i}/{a}" for i in ("bowl", "vase") for a in ("1:1", "4:5")},
        ),
    ],
)
def test_a_plan_holds_what_is_selected_and_no_more(shop, words, found):
    shop.write("jobs/shop.yaml", SHOP + "tags: [spring]\n")
    plan = shop("plan", "--json", *words)
    assert set(keys(plan)) == found
    job = plan.json["jobs"][0]
    assert (job["requests"], job["counts"]["new"]) == (len(found), len(found))
    assert shop(*words, "plan", "--json").json == plan.json, "before the verb it is the same"
    one = shop("plan", "--json", "--select", "id:mug,aspect:1:1").json["jobs"][0]["cost"]["amount"]
    assert float(job["cost"]["amount"]) == pytest.approx(float(one) * len(found))


def test_a_selected_run_buys_its_own_and_the_records_keep_the_rest(done, service):
    done.write("jobs/products.csv", PRODUCTS.replace("blue mug", "red mug").replace("sand bowl", "green bowl"))
    before = done.tree()
    ended = done(*RUN, "--select", "id:mug")
    assert ended.code == 0
    assert ended.err.splitlines()[-1].startswith("shop: 2 done")
    assert bought(service) == [6, 2]
    after = done.tree()
    assert {path for path in after if after[path] != before[path]} == {
        "mug-1x1.jpg", "mug-4x5.jpg", "manifest.jsonl", "manifest.csv",
    }  # fmt: skip
    records = done.records()
    assert len(records) == 6
    assert {key: record["vars"]["product"] for key, record in records.items() if key.endswith("1:1")} == {
        "mug/1:1": "red mug", "bowl/1:1": "sand bowl", "vase/1:1": "glass vase",
    }  # fmt: skip
    assert keys(done("plan", "--json")) == {"bowl/1:1": "changed", "bowl/4:5": "changed"}
    assert done("verify").code == 0


def test_what_is_new_outside_has_no_record_afterwards_and_is_bought_later(shop, service):
    assert shop(*RUN, "--select", "aspect:4:5").code == 0
    assert set(shop.records()) == {"mug/4:5", "bowl/4:5", "vase/4:5"}
    assert shop(*RUN).code == 0
    assert bought(service) == [3, 3]
    assert len(shop.records()) == 6


def test_what_waits_to_be_sent_outside_goes_on_waiting(slow_shop, slow_service, monkeypatch):
    monkeypatch.setenv("PIPELINE_CONCURRENT", "1")
    slow_shop.write("jobs/shop.yaml", SHOP + "batch: {max_requests: 2}\n")
    assert slow_shop("submit", "jobs/shop.yaml").code == 0
    slow_service.advance(21 * 3600)
    # The first batch comes home though none of it is selected, and its slot is used for what is.
    assert slow_shop("submit", "jobs/shop.yaml", "--select", "id:vase").code == 0
    assert bought(slow_service) == [2, 2]
    status = {key: record["status"] for key, record in slow_shop.records().items()}
    assert status == {
        f"{i}/{a}": "done" if i == "mug" else "pending" for i in ("mug", "bowl", "vase") for a in ("1:1", "4:5")
    }
    slow_service.advance(21 * 3600)
    ended = slow_shop(*RUN, "--select", "id:vase")
    assert ended.code == 0, "what is selected is there"
    assert bought(slow_service) == [2, 2]
    assert slow_shop.records()["bowl/1:1"]["status"] == "pending"
    slow_shop("submit", "jobs/shop.yaml")
    assert bought(slow_service) == [2, 2, 2]


@pytest.fixture
def failing(shop):
    """Two items that fail, and one that does not; nothing is asked again by itself."""
    shop.write("jobs/shop.yaml", "prompt: '[what]'\nretry: 0\nitems: words.csv\n")
    shop.write("jobs/words.csv", "id,what\nbad,LOCAL:ERROR a\nworse,LOCAL:ERROR b\ngood,a barn\n")
    assert shop(*RUN).code == 3
    return shop


def test_failures_outside_are_not_asked_again_and_not_counted(failing, service):
    failing.write("jobs/shop.yaml", "prompt: '[what]'\nretry: 1\nitems: words.csv\n")
    assert failing(*RUN, "--select", "id:good").code == 0
    assert bought(service) == [3]
    assert failing(*RUN, "--select", "id:bad").code == 3
    assert bought(service) == [3, 1]
    assert failing(*RUN).code == 3
    assert bought(service) == [3, 1, 1]


def test_a_failed_row_that_left_the_catalog_is_not_asked_for_again_by_a_selected_run(failing, service):
    failing.write("jobs/shop.yaml", "prompt: '[what]'\nretry: 2\nitems: words.csv\n")
    failing.write("jobs/words.csv", "id,what\nbad,LOCAL:ERROR a\ngood,a barn\n")
    assert failing(*RUN, "--select", "id:good").code == 0
    assert bought(service) == [3]
    assert failing.records()["worse"]["status"] == "failed"


def test_retry_opens_what_is_selected(failing, service):
    assert failing("retry", "jobs/shop.yaml", "--poll", "0.1s", "--select", "id:bad").code == 3
    assert bought(service) == [3, 1]
    assert [len(failing("show", name, "--json").json["attempts"]) for name in ("bad", "worse", "good")] == [2, 1, 1]
    assert failing("retry", "jobs/shop.yaml", "--poll", "0.1s", "--select", "status:failed").code == 3
    assert failing("retry", "jobs/shop.yaml", "--poll", "0.1s", "--select", "state:failed,id:worse").code == 3
    assert bought(service) == [3, 1, 2, 1]


def test_status_of_what_is_recorded_selects_even_when_the_ask_has_changed(failing, service):
    failing.write("jobs/words.csv", "id,what\nbad,a shed\nworse,LOCAL:ERROR b\ngood,a red barn\n")
    assert set(keys(failing("plan", "--json", "--select", "status:failed,state:changed"))) == {"bad"}
    assert failing(*RUN, "--select", "status:failed,state:changed").code == 0
    assert bought(service) == [3, 1]


def test_rows_that_left_are_no_matter_of_a_selection_they_are_outside_of(done, service):
    done.write("jobs/products.csv", "id,product\nmug,red mug\n")
    before = done.tree()
    assert done(*RUN).code == 5, "without a selection it looks like a broken catalog"
    assert done(*RUN, "--select", "id:mug").code == 0
    assert bought(service) == [6, 2]
    assert {path for path in before if path not in done.tree()} == set()
    assert len(done.records()) == 6
    assert done(*RUN).code == 5, "what was not looked at is still to be asked about"


def test_gone_images_are_selected_by_their_state(done):
    done.write("jobs/products.csv", PRODUCTS.replace("bowl,sand bowl\n", ""))
    plan = done("plan", "--json", "--select", "state:gone")
    assert keys(plan) == {"bowl/1:1": "gone", "bowl/4:5": "gone"}
    assert plan.json["jobs"][0]["counts"]["gone"] == 2
    assert done("plan", "--json", "--exclude", "state:gone").json["jobs"][0]["counts"]["gone"] == 0
    assert "gone  bowl/1:1" in done("plan", "--select", "state:gone").out
    listed = done("ls", "images", "-0", "--select", "state:gone").out
    assert listed == "outputs/shop/bowl-1x1.jpg\0outputs/shop/bowl-4x5.jpg\0"


def test_a_renamed_item_outside_is_not_moved_and_one_inside_is(done, service):
    done.write("jobs/products.csv", PRODUCTS.replace("bowl,", "dish,").replace("vase,", "urn,"))
    assert done(*RUN, "--select", "id:dish").code == 0
    assert {path for path in done.tree() if path.endswith("1x1.jpg")} == {"mug-1x1.jpg", "dish-1x1.jpg", "vase-1x1.jpg"}
    assert "urn/1:1" not in done.records()
    assert done(*RUN).code == 0
    assert {path for path in done.tree() if path.endswith("1x1.jpg")} == {"mug-1x1.jpg", "dish-1x1.jpg", "urn-1x1.jpg"}
    assert bought(service) == [6]


def test_an_item_outside_keeps_its_image_though_another_one_could_use_it(done, service):
    """Mug and bowl swap their words; with the mug alone selected the bowl must not lose its image to it."""
    before = done.tree()
    done.write("jobs/products.csv", "id,product\nmug,sand bowl\nbowl,blue mug\nvase,glass vase\n")
    plan = done("plan", "--json", "--select", "id:mug").json["jobs"][0]
    assert {item["why"] for item in plan["items"]} == {
        "its image lies at bowl/1:1, which is not selected", "its image lies at bowl/4:5, which is not selected",
    }  # fmt: skip
    assert done(*RUN, "--select", "id:mug").code == 0
    assert done.tree() == before
    assert done(*RUN).code == 0
    assert done.tree()["mug-1x1.jpg"][0] == before["bowl-1x1.jpg"][0]
    assert bought(service) == [6]


def test_a_chain_of_images_that_wait_for_each_other_stays_as_it_is(done, service):
    """The mug wants the bowl's image, and the bowl the vase's, which is not selected: so neither moves."""
    before = done.tree()
    done.write("jobs/products.csv", "id,product\nmug,sand bowl\nbowl,glass vase\nvase,blue mug\n")
    assert done(*RUN, "--exclude", "id:vase").code == 0
    assert done.tree() == before
    assert done(*RUN).code == 0
    assert done.tree()["bowl-1x1.jpg"][0] == before["vase-1x1.jpg"][0]
    assert bought(service) == [6]


def test_status_and_ls_tell_of_what_is_selected(failing):
    failing.write("jobs/other.yaml", "prompt: a mill\ntags: [spring]\n")
    assert failing("run", "jobs/other.yaml", "--poll", "0.1s").code == 0
    status = {job["job"]: job for job in failing("status", "--json", "--select", "status:failed").json["jobs"]}
    assert (status["shop"]["counts"], status["other"]["counts"]) == ({"failed": 2}, {})
    assert status["other"]["cost"]["amount"] == "0"
    assert [item["key"] for item in failing("ls", "--json", "--select", "id:*d").json["items"]] == ["bad", "good"]
    assert failing("ls", "images", "-0", "--select", "tag:spring").out == "outputs/other/other.jpg\0"
    assert [item["key"] for item in failing("ls", "--json", "--select", "state:failed").json["items"]] == [
        "bad",
        "worse",
    ]
    assert failing("ls", "--select", "id:nobody").err == "warning: nothing matches --select 'id:nobody'\n"


def test_a_held_request_outside_waits_for_its_batch(slow_shop, slow_service, monkeypatch):
    """`retry --only held` for one of a batch buys that one; the others are not given up."""
    monkeypatch.setenv("PIPELINE_SETTLE", "0")
    monkeypatch.setenv("PIPELINE_PATIENCE", "0")
    with proxying(slow_service.url) as (url, proxy):
        monkeypatch.setenv("GOOGLE_GEMINI_BASE_URL", url)
        assert slow_shop("submit", "jobs/shop.yaml").code == 0

        def gone(call):
            if call.is_get():
                call.say({"error": {"code": 404, "message": "no"}}, 404)
            if call.is_list():
                call.say({}, 200)

        proxy.before = gone
        for _pass in range(3):
            slow_shop("collect", "jobs/shop.yaml")
        assert {record["status"] for record in slow_shop.records().values()} == {"held"}
        slow_shop("retry", "jobs/shop.yaml", "--only", "held", "--select", "key:mug/1:1", "--wait", "0")
        assert bought(slow_service) == [6, 1]
        status = {key: record["status"] for key, record in slow_shop.records().items()}
        assert status == {key: "pending" if key == "mug/1:1" else "held" for key in status}
        proxy.before = lambda _call: None
        slow_service.advance(21 * 3600)
        assert slow_shop(*RUN).code == 0
    assert {record["status"] for record in slow_shop.records().values()} == {"done"}
    assert bought(slow_service) == [6, 1], "the batch came to its senses, and the others were waiting for it"


def test_the_status_of_a_selection_names_the_batches_that_hold_some_of_it(slow_shop):
    slow_shop.write("jobs/shop.yaml", SHOP + "batch: {max_requests: 4}\n")
    slow_shop.delivers()
    slow_shop("submit", "jobs/shop.yaml")
    batches = {batch["requests"] for batch in slow_shop("status", "--json").json["jobs"][0]["batches"]}
    assert batches == {4, 2}
    job = slow_shop("status", "--json", "--select", "id:vase").json["jobs"][0]
    assert ([batch["requests"] for batch in job["batches"]], job["counts"]) == ([2], {"pending": 2})


def test_tags_and_states_of_a_job_whose_manifest_is_not_there_are_not_guessed(done):
    (done.folder / "jobs/shop.yaml").unlink()
    assert done("ls", "--select", "tag:x").err.startswith("warning: the manifest of the job 'shop' cannot be read")
    ended = done("ls", "--select", "state:done")
    assert (ended.code, ended.out) == (0, "")
    assert "manifest of the job 'shop' is not there" in ended.err


def test_a_selection_that_matches_nothing_is_said_and_sends_nothing(done, service):
    for words in (
        ("plan",),
        RUN,
        ("submit", "jobs/shop.yaml"),
        ("retry", "jobs/shop.yaml"),
        ("compile", "jobs/shop.yaml"),
    ):
        ended = done(*words, "--select", "id:nobody")
        assert ended.code == 0
        assert "warning: nothing matches --select 'id:nobody'" in ended.err
    assert "warning" not in done("plan", "-q", "--select", "id:nobody").err
    assert bought(service) == [6]


def test_compile_writes_what_is_selected_and_reads_nothing_recorded(shop):
    ended = shop("compile", "jobs/shop.yaml", "-o", "out", "--select", "id:mug", "--exclude", "aspect:1:1")
    assert ended.code == 0
    assert [
        json.loads(line)["key"][:7] for line in (shop.folder / "out/requests-00000.jsonl").read_text().splitlines()
    ] == ["mug-4-5"]
    for text in ("state:new", "status:done"):
        refused = shop("compile", "jobs/shop.yaml", "--select", text)
        assert refused.code == 2
        assert "reads the job alone" in refused.err


@pytest.mark.some(3)
@pytest.mark.parametrize(
    "words",
    [
        ("validate",),
        ("collect",),
        ("verify",),
        ("cancel", "jobs/shop.yaml", "--yes"),
        ("show", "mug/1:1"),
        ("schema",),
        ("init", "x"),
        ("ls", "models"),
        ("ls", "templates"),
        ("ls", "batches"),
    ],
    ids=" ".join,
)
def test_verbs_that_it_means_nothing_to_refuse_it(done, words):
    ended = done(*words, "--select", "id:mug")
    assert ended.code == 2
    assert f"`pipeline {' '.join(words[:2] if words[0] == 'ls' else words[:1])}` takes no --select" in ended.err
    assert "hint" in ended.err


def test_every_fact_is_named_in_the_help_of_nothing_else():
    assert {"key", "id", "tag", "template", "model", "aspect", "state", "status"} == set(FACTS)


# Bought again by force


def test_force_needs_a_selection(done, service):
    for words in ((), ("--exclude", "id:mug")):
        ended = done(*RUN, "--force", *words)
        assert ended.code == 2
        assert "--select" in ended.err
    assert bought(service) == [6]


def test_force_buys_what_is_selected_again_and_keeps_what_was_there(done, service):
    before = done.tree()
    assert done(*RUN, "--force", "--select", "id:mug").code == 0
    assert bought(service) == [6, 2]
    attempts = done("show", "mug/1:1", "--json").json["attempts"]
    assert [attempt["status"] for attempt in attempts] == ["done", "done"]
    assert len(done.records()) == 6
    assert done.records()["mug/1:1"]["attempt"] == 2
    assert done.tree()["vase-1x1.jpg"] == before["vase-1x1.jpg"]
    assert done("verify").code == 0
    assert done(*RUN).code == 0
    assert bought(service) == [6, 2], "once for each time it was said"


def test_what_is_on_its_way_is_not_bought_by_force(slow_shop, slow_service):
    slow_shop("submit", "jobs/shop.yaml")
    assert slow_shop("submit", "jobs/shop.yaml", "--force", "--select", "key:*").code == 0
    assert bought(slow_service) == [6]


def test_an_edited_image_makes_room_by_force_once_the_new_one_is_there(slow_shop, slow_service):
    slow_shop("submit", "jobs/shop.yaml")
    slow_service.advance(21 * 3600)
    assert slow_shop(*RUN).code == 0
    path = slow_shop.outputs / "shop/mug-1x1.jpg"
    original = path.read_bytes()
    Image.new("RGB", (1024, 1024), "red").save(path)
    retouched = path.read_bytes()
    assert slow_shop("submit", "jobs/shop.yaml", "--force", "--select", "state:edited").code == 0
    assert bought(slow_service) == [6, 1]
    assert path.read_bytes() == retouched, "it stays until the new one is verified"
    slow_service.advance(21 * 3600)
    assert slow_shop(*RUN).code == 0
    assert path.read_bytes() == original, "the same ask gives the same picture here"
    retired = [one.read_bytes() for one in (slow_shop.outputs / ".pipeline/retired/shop").rglob("*.jpg")]
    assert retired == [retouched]
    assert slow_shop("verify").code == 0


def test_an_edited_image_of_an_earlier_ask_makes_room_by_force(done, service):
    path = done.outputs / "shop/mug-1x1.jpg"
    Image.new("RGB", (1024, 1024), "red").save(path)
    retouched = path.read_bytes()
    done.write("jobs/products.csv", PRODUCTS.replace("blue mug", "red mug"))
    assert done(*RUN, "--force", "--select", "key:mug/1:1").code == 0
    assert path.read_bytes() != retouched
    assert retouched in [one.read_bytes() for one in (done.outputs / ".pipeline/retired/shop").rglob("*.jpg")]
    assert bought(service) == [6, 1]
    assert done("verify").code == 0


def test_an_edited_image_stays_when_what_was_bought_by_force_fails(shop, service):
    shop.write("jobs/shop.yaml", "prompt: '[what]'\nretry: 1\nitems: words.csv\n")
    shop.write("jobs/words.csv", "id,what\nmug,a barn\n")
    assert shop(*RUN).code == 0
    path = shop.outputs / "shop/mug.jpg"
    Image.new("RGB", (1024, 1024), "red").save(path)
    retouched = path.read_bytes()
    shop.write("jobs/words.csv", "id,what\nmug,LOCAL:ERROR now\n")
    assert set(keys(shop("plan", "--json", "--select", "state:edited"))) == {"mug"}
    assert shop(*RUN, "--force", "--select", "state:edited").code == 3
    assert path.read_bytes() == retouched
    assert bought(service) == [1, 1, 1]
    assert shop(*RUN).code in {0, 3}
    assert bought(service) == [1, 1, 1]
    assert path.read_bytes() == retouched


def test_a_file_of_a_stranger_is_not_taken_by_force(shop, service):
    mine = shop.write("outputs/shop/mug-1x1.jpg", b"drawn by hand")
    assert shop(*RUN).code == 6
    assert shop(*RUN, "--force", "--select", "key:mug/1:1").code == 6
    assert mine.read_bytes() == b"drawn by hand"
    assert bought(service) == [5]
