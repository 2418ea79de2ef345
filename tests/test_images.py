"""A whole picture is named as Pillow names it; anything else is BrokenImage, and nothing else is ever raised."""

import io
import os
import random
import select
import signal
import struct
import subprocess
import sys
import zlib
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from PIL import Image

from pipeline.errors import LocalError
from pipeline.images import BrokenImage, Picture, PixelChecks, pixels_problem, size_problem, structure


def noise(size, mode="RGB", seed=1):
    """Pixels without any pattern: the longest entropy-coded data, with many FF bytes in them."""
    bands = Image.new(mode, (1, 1)).getbands()
    pixels = random.Random(seed).randbytes(size[0] * size[1] * len(bands))
    return Image.frombytes(mode, size, pixels)


def encoded(image, kind, **options):
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


def chunk(name, body=b""):
    return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))


def png(*chunks, header=(4, 2, 8, 2, 0, 0, 0)):
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", *header)) + b"".join(chunks) + chunk(b"IEND")


def segment(marker, body=b""):
    return b"\xff" + bytes([marker]) + struct.pack(">H", len(body) + 2) + body


PNG = encoded(noise((23, 17)), "PNG")
JPEG = encoded(noise((61, 43)), "JPEG", quality=90)
PROGRESSIVE = encoded(noise((61, 43)), "JPEG", progressive=True, optimize=True)
WEBP = encoded(noise((31, 19)), "WEBP")
WEBP_ALPHA = encoded(noise((31, 19), "RGBA"), "WEBP")
IDAT = chunk(b"IDAT", zlib.compress(bytes(26)))
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


# Its pixels


@pytest.fixture
def file(tmp_path):
    def write(content, name="a.png"):
        path = tmp_path / name
        path.write_bytes(content if isinstance(content, bytes) else encoded(content, "PNG"))
        return path

    return write


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        pytest.param(PNG, None, id="png"),
        pytest.param(PROGRESSIVE, None, id="jpeg"),
        pytest.param(WEBP_ALPHA, None, id="webp"),
        pytest.param(png(IDAT), None, id="black, but nobody asked"),
        pytest.param(png(chunk(b"IDAT", zlib.compress(bytes(5)))), "could not be decoded: ", id="too few pixels"),
        pytest.param(png(chunk(b"IDAT", b"hello")), "could not be decoded: ", id="no zlib"),
        pytest.param(png(IDAT, header=(9000, 9000, 8, 2, 0, 0, 0)), "has 9000x9000 pixels", id="bomb"),
        pytest.param(
            png(IDAT, header=(60000, 60000, 8, 2, 0, 0, 0)), "could not be decoded: Image size", id="big bomb"
        ),
        pytest.param(encoded(noise((9, 9)), "GIF"), "could not be decoded: cannot identify", id="gif"),
        pytest.param(PNG[: len(PNG) // 2], "could not be decoded: ", id="cut"),
        pytest.param(PNG[:60] + b"?" + PNG[61:], "could not be decoded: ", id="bad CRC"),
        pytest.param(b"", "could not be decoded: cannot identify", id="empty"),
    ],
)
def test_pixels_problem(file, content, complaint):
    found = pixels_problem(file(content), blank=False)
    assert found == complaint if complaint is None else found.startswith(complaint)


def test_a_file_that_is_not_there(tmp_path):
    os.mkfifo(tmp_path / "fifo")
    for path in (tmp_path / "no.png", tmp_path, tmp_path / "fifo"):
        assert pixels_problem(path, blank=True) == "is not there"


TRANSPARENT = noise((9, 9), "RGBA")
TRANSPARENT.putalpha(0)
DOTTED = Image.new("RGB", (64, 64), "white")
DOTTED.putpixel((63, 63), (254, 255, 255))
SAME = Image.new("P", (2, 1))
SAME.putpalette([1, 2, 3] * 256)
SAME.putpixel((0, 0), 200)


@pytest.mark.parametrize(
    ("image", "blank"),
    [
        pytest.param(Image.new("RGB", (64, 64), "white"), True, id="white"),
        pytest.param(Image.new("L", (64, 64), 7), True, id="grey"),
        pytest.param(Image.new("1", (64, 64), 1), True, id="one bit"),
        pytest.param(Image.new("I;16", (64, 64)), True, id="16 bit"),
        pytest.param(TRANSPARENT, True, id="nothing to be seen"),
        pytest.param(SAME, True, id="two entries of one colour"),
        pytest.param(DOTTED, False, id="one dot"),
        pytest.param(noise((9, 9), "L").convert("P"), False, id="palette"),
        pytest.param(noise((9, 9), "RGBA"), False, id="alpha"),
    ],
)
def test_blank_is_one_single_colour(file, image, blank):
    assert pixels_problem(file(image), blank=True) == ("is one single colour" if blank else None)
    assert pixels_problem(file(image), blank=False) is None


def test_a_blank_jpeg(file):
    assert (
        pixels_problem(file(encoded(Image.new("RGB", (64, 64), "white"), "JPEG")), blank=True) == "is one single colour"
    )


# The pool


def test_a_pool_settles_every_picture_once(file, tmp_path):
    good, bad, odd = file(PNG), file(b"no", "bad.png"), file(PNG, os.fsdecode(b"na\xefve \n.png"))
    with PixelChecks() as checks:
        for number in range(40):
            checks.submit(f"good/{number}", good, blank=True)
            checks.submit(f"bad/{number}", bad, blank=True)
        checks.submit("odd", odd, blank=False)
        settled = checks.finished()
        settled += checks.drain()
        assert checks.finished() == []
        assert list(checks.drain()) == []
    assert len(settled) == 81
    problems = dict(settled)
    assert len(problems) == 81
    assert {token for token, found in problems.items() if found} == {f"bad/{number}" for number in range(40)}


def test_nothing_starts_before_the_first_picture():
    with PixelChecks() as checks:
        assert checks.finished() == list(checks.drain()) == []
        assert checks._workers == []


def test_the_queue_is_bounded(file):
    path = file(PNG)
    with PixelChecks(1) as checks:
        for number in range(100):
            checks.submit(str(number), path, blank=False)
            assert len(checks._workers[0].asked) <= 9
        assert [token for token, _ in checks.drain()] == [str(number) for number in range(100)]


def test_a_killed_decoder_costs_one_picture_and_the_rest_go_on(file):
    large, small = file(Image.new("RGB", (7000, 7000)), "large.png"), file(PNG, "small.png")
    with PixelChecks(1) as checks:
        checks.submit("large", large, blank=False)
        for number in range(5):
            checks.submit(str(number), small, blank=False)
        worker = checks._workers[0]
        while not worker.begun:
            checks._pump(None)
        os.kill(worker.process.pid, signal.SIGKILL)
        assert dict(checks.drain()) == {
            "large": "could not be decoded: the decoder was stopped",
            **{str(number): None for number in range(5)},
        }


def test_an_idle_decoder_that_is_killed_costs_nothing(file):
    path = file(PNG)
    with PixelChecks(1) as checks:
        for token in "abcde":
            checks.submit(token, path, blank=False)
            assert list(checks.drain()) == [(token, None)]
            checks._workers[0].process.kill()


def test_a_picture_that_takes_too_long_is_a_problem(file):
    path = file(Image.new("RGB", (5000, 5000)))
    with PixelChecks(2, seconds=0.001) as checks:
        checks.submit("slow", path, blank=False)
        checks.submit("slow too", path, blank=False)
        assert set(dict(checks.drain()).values()) == {"could not be decoded: the decoder was stopped"}


@pytest.mark.skipif(sys.platform == "darwin", reason="macOS does not hold a process to an amount of memory")
def test_a_picture_that_takes_too_much_memory_is_a_problem(file):
    path = file(Image.new("RGB", (8000, 8000)))
    with PixelChecks(1, memory_bytes=200 << 20) as checks:
        checks.submit("fat", path, blank=False)
        assert list(checks.drain()) == [("fat", "could not be decoded: it needs too much memory")]


def test_a_decoder_that_cannot_start_is_local_trouble_and_no_fault_of_the_pictures(file, monkeypatch):
    monkeypatch.setattr(sys, "executable", "/bin/false")
    path = file(PNG)
    with PixelChecks(2) as checks, pytest.raises(LocalError, match="does not start"):  # noqa: PT012
        checks.submit("a", path, blank=False)
        list(checks.drain())


def test_leaving_the_block_ends_the_workers(file):
    path = file(Image.new("RGB", (7000, 7000)))
    with PixelChecks(2) as checks:
        checks.submit("a", path, blank=False)
        checks.submit("b", path, blank=False)
        workers = list(checks._workers)
    assert [worker.process.returncode for worker in workers] == [-signal.SIGKILL] * 2


PARENT = """
import sys
from pathlib import Path
from pipeline.images import PixelChecks
checks = PixelChecks(1)
checks.submit("a", Path(sys.argv[1]), blank=False)
list(checks.drain())
checks.submit("b", Path(sys.argv[1]), blank=False)
print(checks._workers[0].process.pid, flush=True)
sys.stdin.read()
"""


@pytest.mark.skipif(not hasattr(os, "pidfd_open"), reason="the way to wait for a process that is not our child")
def test_killing_us_ends_the_workers(file):
    parent = subprocess.Popen(
        [sys.executable, "-c", PARENT, str(file(PNG))], stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=Path.cwd()
    )
    try:
        worker = int(parent.stdout.readline())
        watch = os.pidfd_open(worker)
    finally:
        parent.kill()
        parent.communicate()
    ended, _, _ = select.select([watch], [], [], 20)
    os.close(watch)
    assert ended, f"process {worker} is still there"
