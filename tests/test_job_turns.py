"""Conversations: one request a turn, each with the asks of the turns before it in its fingerprint."""

import pytest
from jobs import JPEG, complaints, expanded, loaded, write

TURNS = """\
turns:
  - A poster for [item].
  - {prompt: Make it night., aspect: 4:5, name: night, keep: true}
  - {template: last, size: 2K, thoughts: true}
"""


def test_turns_make_one_request_each(tmp_path):
    write(tmp_path, "templates/last.md", "---\naspect: 16:9\nvariables: {who: nobody}\n---\nAdd [who], turn [turn].")
    requests = expanded(tmp_path, f"items: [fox]\nsamples: 2\nseed: 1\n{TURNS}")
    assert [(r.key, r.turn, r.sample, r.keeps, r.path) for r in requests] == [
        ("fox/s1/t1", 1, 1, False, ""),
        ("fox/s1/t2", 2, 1, True, "fox-1-night"),
        ("fox/s1/t3", 3, 1, True, "fox-1-3"),
        ("fox/s2/t1", 1, 2, False, ""),
        ("fox/s2/t2", 2, 2, True, "fox-2-night"),
        ("fox/s2/t3", 3, 2, True, "fox-2-3"),
    ]
    assert [(r.ask.prompt, r.ask.settings()) for r in requests[:3]] == [
        ("A poster for fox.", {"aspect": "1:1", "size": "1K", "seed": 1}),
        ("Make it night.", {"aspect": "4:5", "size": "1K", "seed": 1}),
        ("Add nobody, turn 3.", {"aspect": "16:9", "size": "2K", "seed": 1, "thoughts": True}),
    ]
    assert [len(r.ask.earlier) for r in requests[:3]] == [0, 1, 2]
    assert requests[3].ask.settings()["seed"] == 2


def test_one_kept_turn_needs_no_number_in_its_path(tmp_path):
    requests = expanded(tmp_path, "items: [fox]\nturns: [a, b]")
    assert [(r.keeps, r.path) for r in requests] == [(False, ""), (True, "fox")]


def test_a_path_may_name_the_turn(tmp_path):
    requests = expanded(
        tmp_path, 'items: [fox]\nturns: [{prompt: a, keep: true, name: sketch}, b]\noutput: {path: "[turn]/[id]"}'
    )
    assert [r.path for r in requests] == ["sketch/fox", "2/fox"]


def test_a_later_turn_changes_nothing_of_the_earlier(tmp_path):
    def fingerprints(last):
        return [r.fingerprint for r in expanded(tmp_path, f"turns: [a, b, {last}]")]

    first, second = fingerprints("c"), fingerprints("d")
    assert first[:2] == second[:2]
    assert first[2] != second[2]


def test_an_earlier_turn_changes_all_that_follow(tmp_path):
    def fingerprints(first):
        return [r.fingerprint for r in expanded(tmp_path, f"turns: [{first}, b, c]")]

    assert not set(fingerprints("a")) & set(fingerprints("z"))


def test_names_and_keeping_are_no_part_of_the_ask(tmp_path):
    plain = [r.fingerprint for r in expanded(tmp_path, "turns: [a, b]")]
    named = [r.fingerprint for r in expanded(tmp_path, "turns: [{prompt: a, name: x, keep: true}, b]")]
    assert plain == named


def test_the_first_turn_of_a_conversation_is_no_plain_request(tmp_path):
    """Its answer must be kept whole, signatures included, and an image made alone has none."""
    [alone] = expanded(tmp_path, "prompt: a")
    assert alone.fingerprint != expanded(tmp_path, "turns: [a, b]")[0].fingerprint


def test_a_turn_takes_the_images_of_the_job_or_its_own(tmp_path):
    write(tmp_path, "a.jpg", JPEG)
    write(tmp_path, "b.jpg", JPEG + b"b")
    requests = expanded(
        tmp_path, "images: [a.jpg]\nturns: [a, b, {prompt: c, images: [b.jpg]}, {prompt: d, images: []}]"
    )
    assert [[image.shown for image in r.ask.images] for r in requests] == [["a.jpg"], ["a.jpg"], ["b.jpg"], []]


def test_photos_start_a_conversation(tmp_path):
    write(tmp_path, "in/x.jpg", JPEG)
    requests = expanded(tmp_path, "items: in/*\nturns: [a, b]")
    assert [([image.shown for image in r.ask.images], r.ask.aspect) for r in requests] == [
        (["in/x.jpg"], "auto"),
        ([], "auto"),
    ]


def test_an_item_may_do_without_the_conversation(tmp_path):
    requests = expanded(tmp_path, "turns: [a, b]\nitems: [{id: x}, {id: y, set: {prompt: alone}}]")
    assert [r.key for r in requests] == ["x/t1", "x/t2", "y"]


def test_a_job_says_whether_it_is_a_conversation(tmp_path):
    assert loaded(tmp_path, "turns: [a, b]").has_turns
    assert not loaded(tmp_path, "prompt: a").has_turns


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("turns: [a]", "1:8: 'turns' has at least 2 entries"),
        ("turns: a", "1:8: 'turns' is a list, not a text: 'a' (write a list: [a])"),
        ("turns: [a, {size: 2K}]", "1:12: this turn says nothing to draw (add a key: prompt, or template)"),
        ("turns: [a, {prompt: b, model: pro}]", "1:24: unknown key 'model' in 'turns'; it is a key of a job"),
        ("turns: [a, {prompt: b, samples: 2}]", "1:24: unknown key 'samples' in 'turns'; it is a key of a job"),
        ("turns: [a, {prompt: b, name: x y}]", "1:30: 'turns[2].name' is letters, digits, - and _, not 'x y'"),
        ("turns: [{prompt: a, name: '2'}, b]", "1:33: two turns have the name '2'"),
        ("turns: [a, {prompt: b, template: t}]", "1:24: either a prompt or a template, not both"),
        ("turns: [a, '[nope]']", "1:13: unknown placeholder [nope]"),
        ("turns: [a, {prompt: b, aspect: 9:9}]", "1:32: picture-2 has no aspect '9:9'"),
        ("turns: [a, {prompt: b, aspect: 4:5}]\nmatrix: {aspect: [1:1]}", "1:32: 'aspect' cannot be set here"),
        ("matrix: {turns: [[a, b]]}\nprompt: x", "1:10: 'turns' stands at the top of a job, not in matrix"),
    ],
)
def test_a_turn_that_cannot_be_meant_is_refused(tmp_path, text, complaint):
    found = complaints(tmp_path, text)
    assert any(line.startswith(complaint) for line in found), found
