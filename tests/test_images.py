"""A whole picture is named as Pillow names it; anything else is BrokenImage, and nothing else is ever raised."""

import io
import struct

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from pictures import IDAT, JPEG, PNG, PROGRESSIVE, WEBP, WEBP_ALPHA, chunk, encoded, noise, png
from PIL import Image

from pipeline.images import BrokenImage, Picture, Walk, size_problem, structure


def segment(marker, body=b""):
    return b"\xff" + bytes([marker]) + struct.pack(">H", len(body) + 2) + body


ALL = {"png": PNG, "jpeg": JPEG, "progressive": PROGRESSIVE, "webp": WEBP, "webp alpha": WEBP_ALPHA}
EACH = pytest.mark.parametrize("data", ALL.values(), ids=ALL)

TABLES = JPEG[2 : JPEG.index(b"\xff\xda")]
SCAN = JPEG[JPEG.index(b"\xff\xda") : -2]


def problem(data):
    with pytest.raises(BrokenImage) as caught:
        structure(data)
    assert str(caught.value) == caught.value.reason
    return caught.value.reason


# What is whole


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "I;16"])
def test_png_of_every_mode(mode):
    image = noise((37, 11), "RGB").convert("P") if mode == "P" else Image.new(mode, (37, 11))
    assert structure(encoded(image, "PNG")) == Picture("image/png", ".png", 37, 11)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"progressive": True},
        {"optimize": True},
        {"progressive": True, "optimize": True, "quality": 100},
        {"quality": 1},
        {"restart_marker_blocks": 1},
        {"restart_marker_rows": 1, "progressive": True},
        {"comment": b"\xff\xd9 is no end here"},
        {"exif": b"Exif\x00\x00" + JPEG},
        {"icc_profile": bytes(range(256)) * 600},
        {"dpi": (300, 300), "subsampling": 0},
    ],
    ids=str,
)
@pytest.mark.parametrize("mode", ["L", "RGB", "CMYK"])
def test_jpeg_of_every_kind(mode, options):
    assert structure(encoded(noise((67, 45), mode), "JPEG", **options)) == Picture("image/jpeg", ".jpg", 67, 45)


@pytest.mark.parametrize(
    "options",
    [{}, {"lossless": True}, {"quality": 1}, {"exif": b"Exif\x00\x00II*\x00"}, {"icc_profile": b"x" * 9}],
    ids=str,
)
@pytest.mark.parametrize("mode", ["RGB", "RGBA"])
def test_webp_of_every_kind(mode, options):
    assert structure(encoded(noise((29, 53), mode), "WEBP", **options)) == Picture("image/webp", ".webp", 29, 53)


def test_webp_film_has_the_size_of_its_canvas():
    frames = [noise((12, 10), seed=seed) for seed in range(3)]
    assert structure(encoded(frames[0], "WEBP", save_all=True, append_images=frames[1:])).width == 12


@given(
    st.integers(1, 300),
    st.integers(1, 300),
    st.sampled_from(
        [("PNG", {}), ("JPEG", {}), ("JPEG", {"progressive": True}), ("WEBP", {}), ("WEBP", {"lossless": True})]
    ),
)
def test_it_finds_the_size_that_pillow_finds(width, height, how):
    kind, options = how
    data = encoded(Image.new("RGB", (width, height), (9, width % 256, 7)), kind, **options)
    found = structure(memoryview(data))
    with Image.open(io.BytesIO(data)) as image:
        assert (found.width, found.height) == image.size
        assert found.mime == image.get_format_mimetype()


def test_what_others_put_into_a_png_is_fine():
    extras = [chunk(b"caBX", bytes(300)), chunk(b"gAMA", bytes(4)), chunk(b"zzZz")]
    assert structure(png(*extras, IDAT, chunk(b"IDAT"), chunk(b"tEXt", b"a\0b"))).width == 4


def test_fill_bytes_and_comments_between_the_segments_of_a_jpeg_are_fine():
    data = b"\xff\xd8\xff\xff" + TABLES + b"\xff\xff" + segment(0xFE, b"hm") + SCAN + b"\xff\xff\xff\xd9"
    assert structure(data).width == 61


# What is not


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        pytest.param(b"", "is empty", id="empty"),
        pytest.param(b"\n<!DOCTYPE html><p>", "is an HTML page", id="html"),
        pytest.param(b"<html lang=en>", "is an HTML page", id="html bare"),
        pytest.param(b"<?xml version='1.0'?>\n<!-- x -->\n<svg xmlns=", "is an SVG", id="svg"),
        pytest.param(b"<svg/>", "is an SVG", id="svg bare"),
        pytest.param(b"GIF89a" + bytes(20), "is a GIF", id="gif"),
        pytest.param(b"PK\x03\x04" + bytes(20), "is a ZIP archive", id="zip"),
        pytest.param(b"%PDF-1.7", "is a PDF", id="pdf"),
        pytest.param(bytes(3) + b"\x1cftypavif", "is HEIC, AVIF or a film", id="avif"),
        pytest.param(b'{"error": 1}', "is JSON", id="json"),
        pytest.param(b"RIFF\x04\0\0\0WAVE", "is no PNG, JPEG or WebP", id="wav"),
        pytest.param(b"\x89PNG\r\n", "is no PNG, JPEG or WebP", id="half a signature"),
        pytest.param(png(), "has no picture data", id="png without IDAT"),
        pytest.param(png(chunk(b"IDAT")), "has no picture data", id="png with an empty IDAT"),
        pytest.param(png(IDAT, header=(0, 2, 8, 2, 0, 0, 0)), "says it is 0x2 pixels", id="png of no width"),
        pytest.param(
            png(IDAT, header=(8001, 8000, 8, 2, 0, 0, 0)), "has 8001x8000 pixels, more than 64,000,000", id="bomb"
        ),
        pytest.param(
            png(IDAT, header=(4, 2, 16, 3, 0, 0, 0)), "has a PNG header that is not allowed", id="16-bit palette"
        ),
        pytest.param(png(IDAT, header=(4, 2, 8, 2, 1, 0, 0)), "has a PNG header that is not allowed", id="compression"),
        pytest.param(png(IDAT, header=(4, 2, 8, 2, 0, 0, 2)), "has a PNG header that is not allowed", id="interlace"),
        pytest.param(PNG[:8] + IDAT + PNG[33:], "does not have its header in the first place, once", id="no IHDR"),
        pytest.param(png(PNG[8:33], IDAT), "does not have its header in the first place, once", id="two IHDR"),
        pytest.param(
            PNG[:8] + chunk(b"IHDR", bytes(12)) + IDAT, "has a PNG header that is not allowed", id="short IHDR"
        ),
        pytest.param(png(IDAT, chunk(b"ABCD")), "has a chunk b'ABCD' that no decoder knows", id="critical chunk"),
        pytest.param(png(IDAT, chunk(b"a\xffcd")), "has a chunk b'a\\xffcd' that no decoder knows", id="odd name"),
        pytest.param(PNG[:-12] + chunk(b"IEND", b"x"), "has data in its end mark", id="IEND with data"),
        pytest.param(PNG[:-12], "is cut off", id="png without IEND"),
        pytest.param(PNG + JPEG, f"has {len(JPEG)} bytes behind its end", id="polyglot"),
        pytest.param(b"\xff\xd8\xff\xd9", "has no picture data", id="jpeg of nothing"),
        pytest.param(b"\xff\xd8" + TABLES + b"\xff\xd9", "has no picture data", id="jpeg without a scan"),
        pytest.param(b"\xff\xd8" + SCAN + b"\xff\xd9", "has no picture data", id="jpeg without a frame"),
        pytest.param(JPEG[:-2] + b"\xff\xd8" + JPEG[2:], "is damaged: marker D8", id="a second SOI"),
        pytest.param(b"\xff\xd8" + TABLES + TABLES + SCAN + b"\xff\xd9", "holds a second picture", id="two frames"),
        pytest.param(b"\xff\xd8\xff\xd0" + TABLES, "is damaged: marker D0", id="a restart in the header"),
        pytest.param(b"\xff\xd8\xff\xe0\0\1" + TABLES, "is damaged: a segment of 1 bytes", id="impossible length"),
        pytest.param(
            b"\xff\xd8" + segment(0xC0, bytes(3)) + SCAN, "has a JPEG header that is not allowed", id="short SOF"
        ),
        pytest.param(b"\xff\xd8" + segment(0xFE) + b"xx" + TABLES, "is damaged: no marker at byte 6", id="garbage"),
        pytest.param(
            b"\xff\xd8" + TABLES + segment(0xDA, bytes(10)) + b"\xff\xd9", "has no picture data", id="empty scan"
        ),
        pytest.param(JPEG + b"\n", "has 1 bytes behind its end", id="a line feed behind"),
        pytest.param(WEBP[:12] + chunk(b"VP8 "), "is cut off", id="webp cut"),
        pytest.param(b"RIFF\x04\0\0\0WEBP", "has no picture data", id="webp of nothing"),
        pytest.param(
            b"RIFF\x0c\0\0\0WEBPVP8 \x63\0\0\0", "is damaged: a chunk is longer than the file", id="webp chunk"
        ),
        pytest.param(b"RIFF\x0c\0\0\0WEBPVP8X\0\0\0\0", "has a WebP header that is not allowed", id="empty VP8X"),
    ],
)
def test_says_what_is_wrong(data, reason):
    assert problem(data).startswith(reason)


def test_a_webp_whose_canvas_is_not_its_frame():
    at = WEBP_ALPHA.index(b"VP8X") + 12
    assert problem(WEBP_ALPHA[:at] + b"\x01" + WEBP_ALPHA[at + 1 :]) == "says two different sizes"


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        pytest.param(png(chunk(b"noTe") * 260_000, IDAT), "has more than 250,000 chunks", id="png"),
        pytest.param(b"\xff\xd8" + segment(0xFE) * 260_000, "has more than 250,000 segments", id="jpeg"),
    ],
)
def test_what_is_made_to_take_long_is_given_up(data, reason):
    assert problem(data) == reason


@pytest.mark.parametrize("filler", [b"\xff", b"\xff\x00", b"\xff\xd0", b"\xff\xff\x00", b"\x00"], ids=bytes.hex)
def test_no_filler_makes_a_jpeg_take_long_or_changes_what_it_is(filler):
    data = JPEG[:-2] + filler * (4_000_000 // len(filler)) + b"\xff\xd9"
    assert structure(data).width == 61


@pytest.mark.some(2)
@EACH
def test_every_cut_is_seen(data):
    for length in range(len(data)):
        problem(data[:length])


@EACH
@given(tail=st.binary(min_size=1, max_size=40))
@example(tail=b"\0")
@example(tail=JPEG)
def test_every_tail_is_seen(data, tail):
    assert "behind its end" in problem(data + tail)


def test_every_changed_byte_of_a_png_is_seen():
    for at in range(len(PNG)):
        for bits in (1, 0x20, 0x80, 0xFF):
            problem(PNG[:at] + bytes([PNG[at] ^ bits]) + PNG[at + 1 :])


@EACH
@given(at=st.floats(0, 1, exclude_max=True), middle=st.binary(max_size=12), gap=st.integers(0, 12))
def test_no_change_raises_anything_else(data, at, middle, gap):
    cut = int(at * len(data))
    try:
        found = structure(data[:cut] + middle + data[cut + gap :])
    except BrokenImage:
        return
    assert 0 < found.width * found.height <= 64_000_000


@given(
    st.sampled_from([b"", b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"RIFF\x20\0\0\0WEBP", PNG[:33]]),
    st.binary(max_size=200),
)
def test_no_bytes_raise_anything_else(start, rest):
    with pytest.raises(BrokenImage):
        structure(start + rest)


def verdict(pieces):
    walk = Walk()
    for piece in pieces:
        walk.feed(piece)
    try:
        return walk.end()
    except BrokenImage as error:
        return error.reason


RESTARTS = encoded(noise((64, 48)), "JPEG", restart_marker_blocks=2)
WHOLE = [*ALL.values(), RESTARTS, png(IDAT), b"<svg", b""]


@given(
    data=st.sampled_from(WHOLE),
    at=st.floats(0, 1, exclude_max=True),
    middle=st.sampled_from(
        [b"", b"\xff", b"\xff\xd9", b"\xff\xff\xff", b"\xff\xda", b"\xff\x00", b"\0", b"\xff\xc0\0\x0b"]
    ),
    gap=st.integers(0, 12),
    cuts=st.lists(st.floats(0, 1), max_size=12),
)
def test_in_pieces_as_they_arrive_it_is_the_same_picture_or_broken_in_the_same_way(data, at, middle, gap, cuts):
    cut = int(at * len(data))
    data = data[:cut] + middle + data[cut + gap :]
    ends = [*sorted(int(one * len(data)) for one in cuts), len(data)]
    expected = verdict([data])
    assert verdict(data[start:end] for start, end in zip([0, *ends], ends, strict=False)) == expected


@pytest.mark.parametrize("data", WHOLE)
def test_byte_by_byte_it_is_the_same_picture(data):
    assert verdict(data[at : at + 1] for at in range(len(data))) == verdict([data])


# Its size


@pytest.mark.parametrize(
    ("size", "pixels", "aspect", "complaint"),
    [
        pytest.param((928, 1152), (928, 1152), "4:5", None, id="exact"),
        pytest.param((928, 1151), (928, 1152), "4:5", "is 928x1151, not 928x1152 as asked", id="one pixel less"),
        pytest.param((928, 1152), None, "4:5", None, id="ratio"),
        pytest.param((1030, 1000), None, "1:1", None, id="just within"),
        pytest.param((1000, 1030), None, "1:1", None, id="just within, tall"),
        pytest.param((1031, 1000), None, "1:1", "is 1031x1000, which is not 1:1 within 3 %", id="beyond"),
        pytest.param((1000, 1031), None, "1:1", "is 1000x1031, which is not 1:1 within 3 %", id="beyond, tall"),
        pytest.param((1, 9), None, "auto", None, id="auto"),
        pytest.param((1, 9), None, None, None, id="unknown"),
        pytest.param((1, 9), None, "0:0", None, id="no ratio"),
    ],
)
def test_size_problem(size, pixels, aspect, complaint):
    assert size_problem(Picture("image/png", ".png", *size), pixels, aspect, 0.03) == complaint
