"""An answer that drips, swells or comes compressed is given up in time, and what it was about is asked for again."""

from __future__ import annotations

import time

import pytest
from troubles import opened

from pipeline.gemini import api, bounds


@pytest.fixture
def night(project, tmp_path_factory, monkeypatch):
    return opened(project, tmp_path_factory.mktemp("service"), monkeypatch)


def given_up(night, rule):
    """A run that meets this rule once gives the answer up before it is through, and brings everything home."""
    began = time.monotonic()
    with night.serving(rule):
        assert night.run().code == 0
        assert time.monotonic() - began < 60
        assert set(night.bought().values()) == {1}
        assert not night.images_there() - night.images_here()


def test_an_answer_that_drips_holds_nothing_up(night, monkeypatch):
    monkeypatch.setattr(bounds, "_LONGEST_S", 0.5)
    given_up(night, "on: batches.get, do: slow, rate: 10, times: 1")  # a minute and more


def test_a_download_that_drips_holds_nothing_up(night, monkeypatch):
    monkeypatch.setattr(api, "_STRETCH_S", 0.5)
    given_up(night, "on: files.download, do: slow, rate: 100, times: 1")  # some minutes


def test_a_download_is_slow_only_where_little_came_in_a_stretch(night, monkeypatch):
    monkeypatch.setattr(api, "_STRETCH_S", 0.0)
    monkeypatch.setattr(api, "_LEAST_BYTES", 1)
    with night.serving("on: files.download, do: refuse, code: 503, after: 1"):
        assert night.run().code == 0, "with the first download"


@pytest.mark.parametrize("how", ["bytes: 2000000, compressed: false", "bytes: 2000000"])
def test_an_answer_that_swells_is_given_up(night, monkeypatch, how):
    monkeypatch.setattr(bounds, "_LONGEST", 1_000_000)
    with night.serving(f"on: batches.list, do: bomb, {how}"):
        ended = night.run()
        assert ended.code == 4
        assert "DecodingError" in ended.err
        assert night.bought() == {}
    with night.serving(f"on: batches.create, do: bomb, {how}"):
        assert night.run().code == 0, "made, and found by its name"
        assert set(night.bought().values()) == {1}


def test_a_download_that_comes_compressed_is_fetched_again(night):
    with night.serving("on: files.download, do: bomb, bytes: 2000000, times: 1"):
        ended = night.run()
        assert ended.code == 0
        assert "nobody asked for that" in ended.err
