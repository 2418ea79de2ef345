"""Fingerprints, pinned for ever: whoever moves one makes every user pay again.

`tests/data/fingerprints.json` is never edited: entries are added, with their day. Where an entry has a
manifest, the way from there to the ask is pinned as well; its files are texts, or the images `png` and `jpeg`.
"""

from __future__ import annotations

import json
from datetime import date
from pathlib import Path

import pytest
from jobs import expanded, write

from pipeline.job.ask import Ask, Image

PINNED = json.loads((Path(__file__).parent / "data" / "fingerprints.json").read_text(encoding="utf-8"))
# The first bytes of images, and no more of them: pinned before reference images had to be whole.
IMAGES = {"png": b"\x89PNG\r\n\x1a\n" + b"\0" * 40, "jpeg": b"\xff\xd8\xff\xe0" + b"\0" * 40}


def ask_of(written):
    images = tuple(Image(Path("any"), "any", sha256, "image/png", 1) for sha256 in written.get("images", ()))
    earlier = tuple(map(ask_of, written.get("earlier", ())))
    return Ask(**{**written, "images": images, "earlier": earlier})


def test_there_are_some_thirty_of_them_all_dated():
    assert len(PINNED) >= 30
    assert all(date.fromisoformat(entry["since"]) for entry in PINNED)


@pytest.mark.parametrize("entry", PINNED, ids=lambda entry: entry["what"])
def test_an_ask_keeps_its_fingerprint_for_ever(entry):
    assert ask_of(entry["ask"]).fingerprint() == entry["fingerprint"]


@pytest.mark.parametrize("entry", [one for one in PINNED if "manifest" in one], ids=lambda entry: entry["what"])
def test_a_manifest_keeps_its_fingerprints_for_ever(tmp_path, monkeypatch, entry):
    monkeypatch.setattr("pipeline.job.frames.check", lambda _data, _mime: None)
    for name, content in entry.get("files", {}).items():
        write(tmp_path, name, IMAGES.get(content, content))
    requests = {request.key: request for request in expanded(tmp_path, entry["manifest"].encode())}
    assert requests[entry["key"]].fingerprint == entry["fingerprint"]


def test_asks_that_differ_have_different_fingerprints():
    same = {"settings written as they are by default", "the first of two samples", "a prompt in a file"}
    same |= {"a column that sets what an item sets", "a value of a table"}
    same |= {"a value that looks like a placeholder", "an item that is an image, with the aspect auto written"}
    fingerprints = [entry["fingerprint"] for entry in PINNED if entry["what"] not in same]
    assert len(set(fingerprints)) == len(fingerprints)
