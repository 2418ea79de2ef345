"""Every pixel is looked at, and no picture can do more harm than to the process that looks at it."""

import os
import random
import select
import signal
import subprocess
import sys
import warnings
import zlib
from pathlib import Path

import pytest
from pictures import IDAT, PNG, PROGRESSIVE, WEBP_ALPHA, chunk, encoded, noise, png
from PIL import Image

from pipeline import pixels
from pipeline.errors import LocalError
from pipeline.images import PixelChecks, pixels_problem


@pytest.fixture
def file(tmp_path):
    def write(content, name="a.png"):
        path = tmp_path / name
        path.write_bytes(content if isinstance(content, bytes) else encoded(content, "PNG"))
        return path

    return write


@pytest.fixture(scope="session")
def large(tmp_path_factory):
    """A picture that takes a while to decode."""
    path = tmp_path_factory.mktemp("large") / "large.png"
    path.write_bytes(encoded(Image.new("RGB", (7000, 7000)), "PNG"))
    return path


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
        pytest.param(PNG[:60] + b"?" + PNG[61:], "could not be decoded: ", id="bad data"),
        pytest.param(PNG[:-16] + bytes(4) + PNG[-12:], "could not be decoded: ", id="bad CRC, which `load` lets pass"),
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


def looked_at_in_full(path):
    """What a decoder says that reduces nothing."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            with Image.open(path) as image:
                image.load()
    except Exception as error:  # noqa: BLE001 - whatever it is
        return f"could not be decoded: {' '.join(str(error).split())}"
    return None


def test_a_jpeg_at_an_eighth_shows_the_same_damage_as_in_full(file):
    chance = random.Random(7)
    smooth = Image.frombytes("RGB", (9, 7), chance.randbytes(189)).resize((97, 61), Image.Resampling.BICUBIC)
    whole = [encoded(smooth, "JPEG", **more) for more in ({}, {"progressive": True}, {"restart_marker_blocks": 2})]
    found = set()
    for _ in range(300):
        data = bytearray(chance.choice(whole))
        at = chance.randrange(2, len(data))
        match chance.randrange(3):
            case 0:
                data[at] ^= 1 << chance.randrange(8)
            case 1:
                del data[at : at + chance.randrange(1, 60)]
            case _:
                data[at:] = data[-2:]
        path = file(bytes(data), "a.jpg")
        expected = looked_at_in_full(path)
        assert pixels_problem(path, blank=False) == expected
        found.add((expected or "")[:40])
    assert len(found) > 3, "damage of several kinds, and none"


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


def test_a_jpeg_that_is_one_colour_only_from_afar_is_not_blank(file):
    chequered = Image.new("L", (64, 64))
    chequered.putdata([(column + row) % 2 * 255 for row in range(64) for column in range(64)])
    path = file(encoded(chequered, "JPEG", quality=95), "a.jpg")
    with Image.open(path) as image:
        image.draft(None, (8, 8))
        assert image.getextrema()[0] + 2 >= image.getextrema()[1], "at an eighth it is grey all over"
    assert pixels_problem(path, blank=True) is None


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


def test_whoever_submits_a_picture_waits_only_where_very_many_wait(large, monkeypatch):
    monkeypatch.setattr(pixels, "_MOST_WAITING", 3)
    with PixelChecks(1) as checks:
        for number in range(11):
            checks.submit(str(number), large, blank=False)
        assert len(checks._waiting) == 3
        checks.submit("11", large, blank=False)
        assert len(checks._waiting) == 3
        assert len(checks.finished()) == 1, "that one was waited for"


def test_a_killed_decoder_costs_one_picture_and_the_rest_go_on(file, large):
    small = file(PNG, "small.png")
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
    with PixelChecks(2) as checks, pytest.raises(LocalError, match="does not start"):
        checks.submit("a", path, blank=False)
        list(checks.drain())


def test_a_second_process_starts_only_where_there_is_work_for_two(large):
    with PixelChecks(2) as checks:
        for number in range(4):
            checks.submit(str(number), large, blank=False)
        assert len(checks._workers) == 1
        checks.submit("4", large, blank=False)
        assert len(checks._workers) == 2


def test_leaving_the_block_ends_the_workers(large):
    with PixelChecks(2) as checks:
        for number in range(5):
            checks.submit(str(number), large, blank=False)
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
