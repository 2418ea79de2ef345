"""Settings from every place they may stand, and which of them wins."""

import pytest
from jobs import JPEG, complaints, expanded, loaded, write

ITEMS = "items: [{id: a, kind: glass}, {id: b, kind: wood}]\n"


def settings(folder, text, **more):
    return {request.key: request.ask.settings() for request in expanded(folder, text, **more)}


def test_the_strongest_place_wins(tmp_path):
    """Item over overrides over cell over job over base over template over the default of the model."""
    write(tmp_path, "templates/t.md", "---\nsize: 4K\naspect: 16:9\nthinking: high\ntemperature: 0.1\nseed: 1\n---\nx")
    write(tmp_path, "_a.yaml", "aspect: 4:5\nthinking: minimal\ntemperature: 0.2\nseed: 2")
    [told] = settings(
        tmp_path,
        """\
        extends: _a.yaml
        template: t
        thinking: high
        temperature: 0.3
        seed: 3
        matrix: {temperature: [0.4]}
        overrides:
          - {when: {id: a}, set: {seed: 4, top_p: 0.4}}
          - {when: {id: {not: b}}, set: {seed: 5}}
        items:
          - {id: a, set: {top_p: 0.6}}
        """,
    ).values()
    assert told == {
        "aspect": "4:5", "size": "4K", "thinking": "high", "temperature": 0.4, "seed": 5, "top_p": 0.6,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("search: true", {"search": ["web"], "response": ["text", "image"]}),
        ("search: [web]", {"search": ["web"], "response": ["text", "image"]}),
        ("search: true\nresponse: [image]", {"search": ["web"]}),
        ("search: false", {}),
        ("response: [image]", {}),
        ("response: [image, text]", {"response": ["text", "image"]}),
        ("response: [text]", {"response": ["text"]}),
        ("thoughts: true", {"thoughts": True}),
        ("thoughts: false", {}),
        ("temperature: 1.0", {"temperature": 1}),
        ("temperature: 0.5", {"temperature": 0.5}),
        ("top_p: 0.9\nmax_output_tokens: 2000", {"top_p": 0.9, "max_output_tokens": 2000}),
        ("system: You draw for [id].", {"system": "You draw for a."}),
        ("safety: {hate_speech: off, dangerous_content: block_none}",
         {"safety": {"dangerous_content": "block_none", "hate_speech": "off"}}),
        ("thinking: high", {"thinking": "high"}),
        ("max_age: 20h", {}),
    ],
)  # fmt: skip
def test_each_setting_has_one_form(tmp_path, line, told):
    [found] = settings(tmp_path, f"prompt: x\nitems: [{{id: a}}]\n{line}").values()
    assert found == {"aspect": "1:1", "size": "1K", **told}


def test_a_spelling_buys_nothing(tmp_path):
    """What means the same has the same fingerprint."""

    def fingerprints(text):
        return [request.fingerprint for request in expanded(tmp_path, f"prompt: x\n{text}")]

    assert fingerprints("temperature: 1") == fingerprints("temperature: 1.0")
    assert fingerprints("search: true") == fingerprints("search: [web]\nresponse: [image, text]")
    assert fingerprints("safety: {hate_speech: off, harassment: off}") == fingerprints(
        "safety: {harassment: off, hate_speech: off}"
    )
    plain = fingerprints("")
    for same in ("thoughts: false", "search: false", "response: [image]", "max_age: 1d", "size: 1K", "model: flash"):
        assert fingerprints(same) == plain
    for other in ("thoughts: true", "search: true", "response: [text]", "seed: 0", "thinking: minimal", "system: y"):
        assert fingerprints(other) != plain


def test_samples_count_up_from_the_seed(tmp_path):
    requests = expanded(tmp_path, "prompt: x\nseed: 7\nsamples: 3")
    assert [request.ask.settings()["seed"] for request in requests] == [7, 8, 9]


def test_a_seed_leaves_room_for_the_samples(tmp_path):
    [found] = complaints(tmp_path, "prompt: x\nseed: 2147483646\nsamples: 3")
    assert found.startswith("2:7: seed 2147483646 leaves no room for 3 samples")


# -------------------------------------------------------------------------------------------- overrides


@pytest.mark.parametrize(("name", "aspect"), [("exclude", "4:5"), ("include", "16:9")])
def test_what_a_matrix_leaves_out_or_adds_is_no_axis(tmp_path, name, aspect):
    matrix = f"matrix: {{aspect: [1:1, 4:5], {name}: [{{aspect: {aspect}}}]}}"
    override = f"overrides: [{{when: {{aspect: 1:1}}, set: {{vars: {{{name}: grey}}}}}}]"
    assert complaints(tmp_path, f"prompt: a [{name}] fox\nvars: {{{name}: red}}\n{matrix}\n{override}") == []
    turns = f"turns: [a fox, {{prompt: 'a [{name}] one', vars: {{{name}: grey}}}}]"
    assert complaints(tmp_path, f"{matrix}\n{turns}") == []


def test_overrides_hold_for_the_items_and_cells_they_name(tmp_path):
    requests = expanded(
        tmp_path,
        f"""\
        prompt: "[light]"
        vars: {{light: soft}}
        {ITEMS}
        matrix: {{aspect: [1:1, 4:5], tone: [cold, warm]}}
        overrides:
          - {{when: {{kind: glass}}, set: {{vars: {{light: backlit}}}}}}
          - {{when: {{kind: glass, aspect: 4:5, tone: [warm, hot]}}, set: {{size: 2K, samples: 2}}}}
          - {{when: {{tone: {{not: warm}}, id: b}}, set: {{skip: true}}}}
          - {{when: {{item: b/4:5/cold}}, set: {{skip: false}}}}
        """,
    )
    assert {request.key: (request.ask.prompt, request.ask.size) for request in requests} == {
        "a/1:1/cold": ("backlit", "1K"),
        "a/1:1/warm": ("backlit", "1K"),
        "a/4:5/cold": ("backlit", "1K"),
        "a/4:5/warm/s1": ("backlit", "2K"),
        "a/4:5/warm/s2": ("backlit", "2K"),
        "b/1:1/warm": ("soft", "1K"),
        "b/4:5/cold": ("soft", "1K"),
        "b/4:5/warm": ("soft", "1K"),
    }


def test_a_condition_may_speak_of_settings_and_vars(tmp_path):
    told = settings(
        tmp_path,
        f"""\
        prompt: x
        vars: {{season: winter}}
        {ITEMS}
        overrides:
          - {{when: {{model: flash, season: winter}}, set: {{size: 2K}}}}
          - {{when: {{size: 4K}}, set: {{size: 1K}}}}
        """,
    )
    assert [one["size"] for one in told.values()] == ["2K", "2K"]


def test_an_override_may_bring_another_prompt(tmp_path):
    write(tmp_path, "templates/glass.md", "---\naspect: 16:9\n---\nglass [id]")
    requests = expanded(
        tmp_path, f"prompt: all\n{ITEMS}overrides: [{{when: {{kind: glass}}, set: {{template: glass}}}}]"
    )
    assert [(r.ask.prompt, r.ask.aspect, r.template) for r in requests] == [
        ("glass a", "16:9", "glass"),
        ("all", "1:1", None),
    ]


@pytest.mark.parametrize(
    ("rest", "complaint"),
    [
        ("matrix: {aspect: [1:1]}\noverrides: [{when: {id: a}, set: {aspect: 4:5}}]",
         "4:43: 'aspect' cannot be set here: 'aspect' is an axis of the matrix"),
        ("matrix: {light: [soft]}\noverrides: [{when: {id: a}, set: {vars: {light: hard}}}]",
         "4:42: 'light' cannot be set here: 'light' is an axis"),
        ("matrix: {template: [t]}\noverrides: [{when: {id: a}, set: {prompt: y}}]",
         "4:43: 'prompt' cannot be set here: 'template' is an axis"),
        ("overrides: [{when: {knd: glass}, set: {size: 2K}}]",
         "3:21: when: no field, axis or setting is called 'knd'; did you mean 'kind'?"),
        ("overrides: [{when: {kind: glass}, set: {sise: 2K}}]",
         "3:41: unknown key 'sise' in 'overrides.set'; did you mean 'size'?"),
        ("overrides: [{when: {kind: glass}}]", "3:13: 'overrides[1]' needs the key 'set'"),
        ("overrides: [{set: {size: 2K}}]", "3:13: 'overrides[1]' needs the key 'when'"),
        ("overrides: [{when: {kind: glass}, set: {retry: 1}}]",
         "3:41: unknown key 'retry' in 'overrides.set'; it is a key of a job"),
        ("overrides: [{when: {kind: glass}, size: 2K}]",
         "3:35: unknown key 'size' in 'overrides'; it is a key of a job"),
        ("overrides: [{when: {kind: glass}, set: {aspect: 9:9}}]", "3:49: picture-2 has no aspect '9:9'"),
        ("overrides: [{when: {kind: glass}, set: {prompt: y, template: t}}]",
         "3:52: either a prompt or a template, not both"),
        ("overrides: [{when: {kind: glass}, set: {images: [gone.png]}}]", "3:50: images: there is no image 'gone.png'"),
    ],
)  # fmt: skip
def test_an_override_that_cannot_be_meant_is_refused(tmp_path, rest, complaint):
    write(tmp_path, "templates/t.md", "x")
    prompt = "" if "template: [t]" in rest else "prompt: x"
    found = complaints(tmp_path, f"{prompt}\n{ITEMS}{rest}")
    assert any(line.startswith(complaint) for line in found), found


# ---------------------------------------------------------------------------------------- what items set


def test_an_item_sets_for_itself(tmp_path):
    requests = expanded(
        tmp_path,
        """\
        prompt: "[product]"
        size: 2K
        items:
          - {id: a, product: mug}
          - {id: b, product: cup, set: {size: 4K, samples: 2, vars: {x: y}, model: flash}}
          - {id: c, product: can, set: {prompt: "only [product]", aspect: 16:9}}
        """,
    )
    assert [(r.key, r.ask.prompt, r.ask.size, r.ask.aspect, r.vars) for r in requests] == [
        ("a", "mug", "2K", "1:1", {"product": "mug"}),
        ("b/s1", "cup", "4K", "1:1", {"product": "cup", "x": "y"}),
        ("b/s2", "cup", "4K", "1:1", {"product": "cup", "x": "y"}),
        ("c", "only can", "2K", "16:9", {"product": "can"}),
    ]


def test_columns_of_a_catalog_set_for_their_row(tmp_path):
    write(
        tmp_path,
        "a.csv",
        "sku,set.aspect,Set.Size,set.samples,set.search,set.vars.light,set.safety.harassment,set.prompt\n"
        'a,,,,,,,\nb,16:9,2K,2,"web",soft,off,own [sku] [light]\nc,4:5,,,false,,,\n',
    )
    requests = expanded(tmp_path, "prompt: x [light|]\nitems: a.csv")
    assert [(r.key, r.ask.prompt, r.ask.settings()) for r in requests] == [
        ("a", "x ", {"aspect": "1:1", "size": "1K"}),
        ("b/s1", "own b soft", {"aspect": "16:9", "size": "2K", "search": ["web"], "response": ["text", "image"],
                                "safety": {"harassment": "off"}}),
        ("b/s2", "own b soft", {"aspect": "16:9", "size": "2K", "search": ["web"], "response": ["text", "image"],
                                "safety": {"harassment": "off"}}),
        ("c", "x ", {"aspect": "4:5", "size": "1K"}),
    ]  # fmt: skip
    assert requests[1].vars == {"light": "soft"}
    assert str(requests[1].provenance["aspect"]).endswith("a.csv:3")


def test_settings_in_jsonl_are_keys_with_a_dot(tmp_path):
    write(tmp_path, "a.jsonl", '{"id": "a", "set.samples": 2, "set.thoughts": true}\n{"id": "b"}\n')
    requests = expanded(tmp_path, "prompt: x\nitems: a.jsonl")
    assert [(r.key, r.ask.settings().get("thoughts")) for r in requests] == [
        ("a/s1", True),
        ("a/s2", True),
        ("b", None),
    ]


@pytest.mark.parametrize(
    ("header", "row", "complaint"),
    [
        ("id,set.aspect", "a,4x5", "a.csv:2:3: 'set.aspect' is W:H such as 4:5, or auto, not '4x5'"),
        ("id,set.aspect", "a,9:9", "a.csv:2:3: picture-2 has no aspect '9:9'"),
        ("id,set.size", 'a,"4k"', "a.csv:2:3: 'set.size' is 512, 1K, 2K or 4K, not '4k'; did you mean '4K'?"),
        ("id,set.samples", "a,two", "a.csv:2:3: 'set.samples' is a whole number, not a text"),
        ("id,set.samples", "a,0", "a.csv:2:3: 'set.samples' is at least 1, not '0'"),
        ("id,set.model", "a,old", "a.csv:2:3: model 'old' was shut down on 2026-01-01 (use 'picture-2')"),
        ("id,set.colour", "a,red", "a.csv:1:4: column 'set.colour': there is no setting 'colour'"),
        ("id,set.retry", "a,1", "a.csv:1:4: column 'set.retry': there is no setting 'retry'"),
        ("id,set.vars", "a,1", "a.csv:1:4: column 'set.vars' names no setting"),
        ("id,set.size.x", "a,1K", "a.csv:1:4: column 'set.size.x' names no setting"),
        ("id,set.safety.rude", "a,off", "a.csv:2:3: 'set.safety.rude' is no filter of the service"),
        ("id,set.safety.harassment", "a,never", "a.csv:2:3: 'set.safety.harassment' is block_low_and_above"),
        ("id,set.search", "a,image", "a.csv:2:3: 'search' is true, false, [web] or [web, image]"),
        ("id,set.template", "a,nope", "a.csv:2:3: there is no template 'nope'"),
        ("id,set.template", "a,../../t", "a.csv:2:3: t"),
        ("id,set.images", "a,gone.png", "a.csv:2:3: images: there is no image 'gone.png'"),
        ("id,set.images", "a,../../x.png", "a.csv:2:3: images: '../../x.png' leads out of the project"),
        ("id,set.prompt", "a,[nope]", "a.csv:2:3: unknown placeholder [nope]"),
    ],
)
def test_what_a_column_sets_wrongly_is_told_at_the_cell(tmp_path, header, row, complaint):
    write(tmp_path.parent, "t.md", "outside")
    write(tmp_path, "a.csv", f"{header}\n{row}\n")
    found = complaints(tmp_path, "prompt: x\nitems: a.csv")
    assert any(line.startswith(complaint) for line in found), found


def test_a_column_that_sets_an_axis_is_refused(tmp_path):
    write(tmp_path, "a.csv", "id,set.aspect\na,4:5\n")
    found = complaints(tmp_path, "prompt: x\nitems: a.csv\nmatrix: {aspect: [1:1]}")
    assert found[0].startswith("a.csv:1:4: 'aspect' cannot be set here: 'aspect' is an axis of the matrix")


def test_a_column_named_like_a_setting_is_told(tmp_path):
    write(tmp_path, "a.csv", "id,aspect\na,4:5\n")
    warnings = []
    expanded(tmp_path, "prompt: x\nitems: a.csv", warnings=warnings)
    assert warnings == ["the column 'aspect' is a placeholder that nothing uses, not a setting"]


# ------------------------------------------------------------------------------------------- the matrix


def test_any_setting_can_be_an_axis(tmp_path):
    requests = expanded(
        tmp_path,
        """\
        prompt: "[search] [response] [thoughts] [light]"
        matrix:
          search: [false, true]
          response: [[image], [image, text]]
          thoughts: [true]
          vars: [{light: soft, mood: calm}]
          exclude: [{search: true, response: [image]}]
          include: [{search: [web], response: [text], thoughts: false, vars: {light: hard}}]
        """,
    )
    assert [(r.key.removeprefix("job/"), r.ask.prompt) for r in requests] == [
        ("false/image/true/soft+calm", "false image true soft"),
        ("false/text+image/true/soft+calm", "false text+image true soft"),
        ("web/text+image/true/soft+calm", "web text+image true soft"),
        ("web/text/false/hard", "web text false hard"),
    ]
    assert requests[-1].ask.settings()["response"] == ["text"]


# --------------------------------------------------------------------------------- limits of the models


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        ("thinking: low", "2:11: picture-2 has no level of thinking 'low' (its levels: minimal and high)"),
        ("search: [web, image]", "2:9: picture-2 cannot search for images (it can search: web)"),
        ("search: [image]", "2:9: 'search' is true, false, [web] or [web, image] (write [web, image])"),
        ("temperature: 3", "2:14: 'temperature' is at most 2, not '3'"),
        ("top_p: -0.1", "2:8: 'top_p' is at least 0, not '-0.1'"),
        ("response: [audio]", "2:12: 'response[1]' is text or image, not 'audio'"),
        ("response: text", "2:11: 'response' is a list, not a text: 'text' (write a list: [text])"),
        ("response: [text, text]", "2:11: 'response' names something twice"),
        ("thoughts: yes", "2:11: 'thoughts' is true or false, not a text: 'yes' (write true)"),
        ("seed: 1.5", "2:7: 'seed' is a whole number, not a number"),
        ("safety: {rude: off}", "2:10: unknown key 'rude' in 'safety'"),
        ("safety: {hate_speech: never}", "2:23: 'safety.hate_speech' is block_low_and_above"),
        ("max_age: 20", "2:10: 'max_age' is a duration such as 90m, 20h or 7d, not '20'"),
        ("system: [a]", "2:9: 'system' is a text, not a list (quote it: \"[a]\")"),
        ("system: a [nope]", "2:11: unknown placeholder [nope]"),
    ],
)
def test_a_setting_that_cannot_be_is_refused(tmp_path, line, complaint):
    [found] = complaints(tmp_path, f"prompt: x\n{line}")
    assert found.startswith(complaint)


def test_a_language_the_model_is_not_good_at_is_told(tmp_path):
    warnings = []
    expanded(tmp_path, "prompt: x [lang]\nmatrix: {lang: [de, en-GB, ja, pl_PL]}", warnings=warnings)
    assert warnings == ["'pl_PL' is not among the languages picture-2 is best at"]


def test_front_matter_speaks_for_its_own_template_only(tmp_path):
    write(tmp_path, "templates/a.md", "---\nsize: 2K\nsearch: true\nvariables: {x: y}\n---\na [x]")
    write(tmp_path, "templates/b.md", "b")
    told = settings(tmp_path, "matrix: {template: [a, b]}")
    assert told == {
        "job/a": {"aspect": "1:1", "size": "2K", "search": ["web"], "response": ["text", "image"]},
        "job/b": {"aspect": "1:1", "size": "1K"},
    }


def test_a_template_named_by_a_row_brings_its_settings(tmp_path):
    write(tmp_path, "templates/a.md", "---\nsize: 2K\n---\na")
    write(tmp_path, "templates/b.md", "b")
    told = settings(tmp_path, 'template: "[kind]"\nitems: [{id: 1, kind: a}, {id: 2, kind: b}]')
    assert [one["size"] for one in told.values()] == ["2K", "1K"]


def test_what_front_matter_asks_of_the_model_is_checked_there(tmp_path):
    write(tmp_path, "templates/a.md", "---\ndescription: x\naspect: 8:1\n---\na")
    [found] = complaints(tmp_path, "template: a")
    assert found.startswith("a.md:3:9: picture-2 has no aspect '8:1'")


# ---------------------------------------------------------------------- what a second reader found


def test_a_system_instruction_is_held_to_what_a_prompt_is(tmp_path):
    write(tmp_path, "c.csv", 'id,x\na,"one\ntwo"\n')
    [unix] = expanded(tmp_path, 'prompt: y\nsystem: "[x]"\nitems: c.csv')
    write(tmp_path, "c.csv", 'id,x\r\na,"one\r\ntwo"\r\n')
    [windows] = expanded(tmp_path, 'prompt: y\nsystem: "[x]"\nitems: c.csv')
    assert unix.fingerprint == windows.fingerprint
    write(tmp_path, "c.csv", "id,x\na,AIzaSyA-1234567890abcdefghijklmnopqrstu\n")
    assert "holds an API key" in complaints(tmp_path, 'prompt: y\nsystem: "[x]"\nitems: c.csv')[0]


def test_an_age_and_a_seed_of_a_turn_are_its_own(tmp_path):
    requests = expanded(tmp_path, "max_age: 1d\nturns: [a, {prompt: b, max_age: 1h}]")
    assert [request.max_age_s for request in requests] == [86_400, 3_600]
    [found] = complaints(tmp_path, "samples: 2\nturns: [a, {prompt: b, seed: 2147483647}]")
    assert found.startswith("2:30: seed 2147483647 leaves no room for 2 samples")


def test_a_template_may_be_named_by_settings_and_in_turns(tmp_path):
    write(tmp_path, "templates/flash-x.md", "for flash")
    write(tmp_path, "templates/glass.md", "of glass")
    assert [r.ask.prompt for r in expanded(tmp_path, 'template: "[model]-x"')] == ["for flash"]
    requests = expanded(
        tmp_path, f'{ITEMS}turns: [a, {{template: "[kind]"}}]\noverrides: [{{when: {{id: b}}, set: {{skip: true}}}}]'
    )
    assert [r.ask.prompt for r in requests] == ["a", "of glass"]


def test_a_name_that_only_skipped_rows_have_is_known(tmp_path):
    text = """\
        prompt: "x [id]"
        overrides:
          - {when: {id: q}, set: {skip: true}}
          - {when: {size: 4K, hue: red}, set: {samples: 2}}
        items: [{id: q, hue: red}, {id: r}]
        """
    assert [request.id for request in expanded(tmp_path, text)] == ["r"]


def test_an_item_that_is_an_image_has_the_aspect_auto_for_conditions_too(tmp_path):
    write(tmp_path, "p/a.jpg", JPEG)
    text = "prompt: x\nitems: p/*\noverrides: [{when: {aspect: %s}, set: {size: 2K}}]"
    assert [r.ask.size for r in expanded(tmp_path, text % "1:1")] == ["1K"]
    assert [r.ask.size for r in expanded(tmp_path, text % "auto")] == ["2K"]


def test_accents_compare_in_either_form(tmp_path):
    write(tmp_path, "c.csv", "id,x\ncafe\u0301,1\n")
    write(tmp_path, "t.csv", "x,y\n1,one\n")
    write(tmp_path, "k.csv", "id,y\ncaf\u00e9,two\n")
    [request] = expanded(
        tmp_path,
        """\
        prompt: "[t.y] [k.y]"
        items: {csv: c.csv, where: {id: caf\u00e9}}
        tables: {t: {file: t.csv, on: [x]}, k: {file: k.csv, on: [id]}}
        overrides: [{when: {id: caf\u00e9}, set: {size: 2K}}]
        """,
    )
    assert (request.ask.prompt, request.ask.size) == ("one two", "2K")


def test_numbers_of_yaml_in_other_bases_are_amounts(tmp_path):
    assert loaded(tmp_path, "prompt: x\nbudget: 0x10").budget == 16
    assert str(loaded(tmp_path, "prompt: x\nbudget: 0.10").budget) == "0.10"


def test_a_language_is_told_once_whatever_rows_set(tmp_path):
    write(tmp_path, "c.csv", "id,set.seed\n" + "".join(f"{number},{number}\n" for number in range(50)))
    warnings = []
    expanded(tmp_path, "prompt: x [id] [lang]\nitems: c.csv\nmatrix: {lang: [sw]}", warnings=warnings)
    assert warnings == ["'sw' is not among the languages picture-2 is best at"]
