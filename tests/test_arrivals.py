"""An image that arrives in pieces is hashed and written by another thread, and is had once that is through."""

from __future__ import annotations

import errno
import threading

import pytest
from pictures import PNG

from pipeline.durable import Folder
from pipeline.errors import LocalError
from pipeline.unpack import arrivals
from pipeline.unpack.arrivals import Arrivals, Excerpt, held

PIECES = [PNG, *(bytes([number]) * 200_000 for number in range(8))]
DATA = b"".join(PIECES)


@pytest.fixture
def staging(tmp_path):
    with Folder(tmp_path / "ours").staging() as staging:
        yield staging


def came(arrivals, pieces=PIECES):
    image = arrivals()
    for piece in pieces:
        image.write(piece)
    return image.end()


def left(tmp_path):
    return [path.name for path in tmp_path.rglob("*") if path.is_file()]


def test_is_what_it_would_be_in_memory(staging):
    with Arrivals(staging) as arrive:
        for pieces in (PIECES, [PNG], [DATA], []):
            image, same = came(arrive, pieces), held(b"".join(pieces))
            facts = (image.sha256, image.bytes, image.picture, image.why, image.content.read())
            assert facts == (same.sha256, same.bytes, same.picture, same.why, b"".join(pieces))


def test_nothing_of_it_is_had_before_the_other_thread_is_through(staging, monkeypatch):
    gate, take = threading.Event(), arrivals.Arrival.take

    def taken(image, piece):
        assert threading.current_thread() is threading.main_thread() or gate.wait(20)
        take(image, piece)

    monkeypatch.setattr(arrivals.Arrival, "take", taken)
    with Arrivals(staging) as arrive:
        image = came(arrive, [DATA[:400_000], DATA[400_000:600_000]])
        through = image._through
        assert not through.is_set(), "whoever reads goes on reading"
        waited, through.wait = through.wait, lambda: gate.set() or waited()
        assert b"".join(image.content.pieces()) == DATA[:600_000]


@pytest.mark.parametrize("pieces", [PIECES, [PNG]])
def test_what_goes_wrong_is_raised_where_the_image_is_asked_for(staging, monkeypatch, pieces):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    with Arrivals(staging) as arrive:
        image = arrive()
        monkeypatch.setattr("os.write", full)
        for piece in pieces:
            image.write(piece)
        image.end()
        for fact in ("sha256", "content"):
            with pytest.raises(LocalError, match="No space left"):
                getattr(image, fact)
        monkeypatch.undo()
        image.drop()


def test_one_that_is_dropped_leaves_nothing(staging, tmp_path):
    with Arrivals(staging) as arrive:
        for pieces in (PIECES, [PNG], []):
            came(arrive, pieces).drop()
        half = arrive()
        half.write(DATA[:400_000])
        half.drop()
        assert left(tmp_path) == []


def test_when_the_block_ends_early_nothing_is_left_and_no_thread(staging, tmp_path):
    with pytest.raises(RuntimeError), staging, Arrivals(staging) as arrive:
        came(arrive)
        arrive().write(DATA)
        raise RuntimeError
    assert left(tmp_path) == []
    assert "images" not in {thread.name for thread in threading.enumerate()}


def test_an_excerpt_leaves_the_stream_where_it_was(tmp_path):
    (tmp_path / "a").write_bytes(b"0123456789")
    with (tmp_path / "a").open("rb") as stream:
        assert stream.read(7) == b"0123456"
        assert Excerpt(stream, 2, 4).read() == b"2345"
        assert stream.read() == b"789"
