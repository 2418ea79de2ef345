"""Reference images that are not whole are refused before anything is sent; what cameras add is no matter."""

import struct
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jobs import HEIC, complaints, expanded, write
from pictures import IDAT, JPEG, PNG, PROGRESSIVE, WEBP, WEBP_ALPHA, chunk, encoded, noise, png

from pipeline.job import references
from pipeline.job.frames import FrameError, check
from pipeline.job.references import mime_of

EXIF = b"\xff\xe1" + struct.pack(">H", len(JPEG) + 2) + JPEG
"""A thumbnail with an end mark of its own."""
WHOLE = {
    "png": PNG,
    "png with a tail": PNG + b"tail",
    "png with many chunks": png(chunk(b"tEXt", b"x"), *[IDAT] * 3, chunk(b"eXIf", b"y")),
    "jpeg": JPEG,
    "jpeg with a tail": JPEG + b"\0" * 100,
    "jpeg with a thumbnail": JPEG[:2] + EXIF + JPEG[2:],
    "jpeg with garbage between": JPEG[:2] + b"\0\xff\xff\xff" + JPEG[2:],
    "progressive": PROGRESSIVE,
    "webp": WEBP,
    "webp with alpha": WEBP_ALPHA,
    "webp without loss": encoded(noise((9, 7)), "WEBP", lossless=True),
    "webp with a tail": WEBP + b"tail",
    "heic": HEIC,
}


@pytest.mark.parametrize("name", WHOLE)
def test_a_whole_image_passes(name):
    check(WHOLE[name], mime_of(WHOLE[name][:32]))


def _jpeg_of(width, height):
    at = JPEG.index(b"\xff\xc0") + 5
    return JPEG[:at] + struct.pack(">HH", height, width) + JPEG[at + 4 :]


@pytest.mark.parametrize(
    ("data", "complaint"),
    [
        pytest.param(PNG[:-4], "is cut off", id="png"),
        pytest.param(PNG[:-12], "is cut off", id="png without an end"),
        pytest.param(PNG[:20], "is cut off", id="png of a header"),
        pytest.param(PNG[:60] + b"?" + PNG[61:], "is damaged", id="png with a wrong byte"),
        pytest.param(PNG[:8] + chunk(b"IDAT", b"x") + PNG[8:], "is damaged", id="png without a header first"),
        pytest.param(png(), "holds no picture", id="png without data"),
        pytest.param(png(chunk(b"IDAT")), "holds no picture", id="png with empty data"),
        pytest.param(png(IDAT, header=(0, 2, 8, 2, 0, 0, 0)), "says it is 0x2 pixels", id="png without a side"),
        pytest.param(
            png(IDAT, header=(60_000, 60_000, 8, 2, 0, 0, 0)),
            "has 60000x60000 pixels, more than 200 megapixels (scale it down)",
            id="bomb",
        ),
        pytest.param(JPEG[:-2], "is cut off", id="jpeg"),
        pytest.param(JPEG[:2] + EXIF + JPEG[2:-40], "is cut off", id="jpeg with a thumbnail"),
        pytest.param(PROGRESSIVE[:-2], "is cut off", id="progressive"),
        pytest.param(JPEG[:40], "is cut off", id="jpeg of a header"),
        pytest.param(b"\xff\xd8\xff\xd9", "holds no picture", id="jpeg of nothing"),
        pytest.param(JPEG[:2] + JPEG[JPEG.index(b"\xff\xda") :], "is damaged", id="jpeg without a frame"),
        pytest.param(_jpeg_of(0, 43), "says it is 0x43 pixels", id="jpeg without a side"),
        pytest.param(_jpeg_of(20_000, 10_001), "has 20000x10001 pixels", id="large jpeg"),
        pytest.param(b"\xff\xd8\xff" + b"\xff" * 1_000_000, "is cut off", id="jpeg of fill bytes"),
        pytest.param(b"\xff\xd8\xff" + b"\xd0\xff" * 1_000_000, "is damaged", id="jpeg of markers"),
        pytest.param(WEBP[:-2], "is cut off", id="webp"),
        pytest.param(WEBP[:12], "is cut off", id="webp of a header"),
        pytest.param(
            b"RIFF\x16\0\0\0WEBPVP8X\x0a\0\0\0\0\0\0\0" + b"\xff" * 6, "has 16777216x16777216 pixels", id="large webp"
        ),
    ],
)
def test_an_image_that_is_not_whole_is_refused(tmp_path, data, complaint):
    write(tmp_path, "a.png", data)
    [found] = complaints(tmp_path, "prompt: x\nimages: [a.png]\n")
    assert found.startswith(f"2:10: images: 'a.png' {complaint}")
    assert found.endswith(")"), "it says what to do"


@given(st.sampled_from([PNG, JPEG, PROGRESSIVE, WEBP, WEBP_ALPHA]), st.data())
def test_wherever_an_image_is_cut_it_is_not_whole(whole, data):
    cut = data.draw(st.integers(12, len(whole) - 1))
    with pytest.raises(FrameError):
        check(whole[:cut], mime_of(whole))


@given(st.sampled_from([PNG[:40], JPEG[:200], WEBP[:40], b"\xff\xd8\xff"]), st.binary(max_size=200))
def test_no_bytes_are_a_bug(start, rest):
    with suppress(FrameError):
        check(start + rest, mime_of(start))


def test_an_image_is_not_larger_than_it_may_be(tmp_path):
    with write(tmp_path, "a.png", PNG).open("ab") as stream:
        stream.truncate(references.MAX_BYTES)
    assert len(expanded(tmp_path, "prompt: x\nimages: [a.png]\n")) == 1
    with (tmp_path / "a.png").open("ab") as stream:
        stream.truncate(120_000_000)
    [found] = complaints(tmp_path, "prompt: x\nimages: [a.png]\n")
    assert found == "2:10: images: 'a.png' has 120 MB; an image has at most 100 (scale it down)"
