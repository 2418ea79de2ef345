"""The process that decodes images beside a run: it starts for every run, so it loads as little as it can.

A decoder is the last thing that should run on bytes from outside next to a key and a journal; see `pixels`.
"""

from __future__ import annotations

import json
import os
import resource
import signal
import sys
import time
import warnings
from contextlib import suppress
from typing import TYPE_CHECKING, cast

if TYPE_CHECKING:
    from PIL import Image

MOST_PIXELS = 64_000_000
_REDUCED = 8
_NEARLY = 2
"""So much may what is decoded in full differ from what is reduced, in steps of a colour; by rounding."""
BEGUN = b"begun"
_COURTESY = 5
"""Unpacking goes first: what is decoded can wait, and what comes from the service cannot be done without."""


def pixels_problem(path: str | os.PathLike[str], *, blank: bool) -> str | None:
    """Decode every pixel and say what is wrong, or None; with `blank`, one single colour is wrong as well.

    Slow, and as safe as the decoder is: see `PixelChecks`.
    """
    from PIL import Image  # noqa: PLC0415 - 30 ms that only decoding needs

    if not os.path.isfile(path):  # noqa: PTH113 - pathlib takes a while to load
        return "is not there"
    formats = ("PNG", "JPEG", "WEBP")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            # Each sees what the other does not: `load` lets a bad CRC pass, `verify` a header that lies about the size.
            with Image.open(path, formats=formats) as image:
                image.verify()
            with Image.open(path, formats=formats) as image:
                if image.width * image.height > MOST_PIXELS:
                    return f"has {image.width}x{image.height} pixels, more than {MOST_PIXELS:,}"
                # A JPEG that is decoded at an eighth is read to its last bit all the same, in a fraction of the time.
                is_reduced = image.draft(None, _reduced(image.size)) is not None
                image.load()
                if is_reduced and blank and _is_single_colour(image, _NEARLY):
                    with Image.open(path, formats=formats) as whole:
                        whole.load()
                        return "is one single colour" if _is_single_colour(whole) else None
                return "is one single colour" if blank and not is_reduced and _is_single_colour(image) else None
    except MemoryError:
        return "could not be decoded: it needs too much memory"
    except Exception as error:  # noqa: BLE001 - a decoder raises anything over hostile bytes
        return f"could not be decoded: {' '.join(str(error).split()) or type(error).__name__}"


def _reduced(size: tuple[int, int]) -> tuple[int, int]:
    return max(1, size[0] // _REDUCED), max(1, size[1] // _REDUCED)


def _is_single_colour(image: Image.Image, within: int = 0) -> bool:
    if image.mode in ("P", "PA", "LA", "RGBA") or "transparency" in image.info:
        image = image.convert("RGBA")
        if image.getchannel("A").getextrema() == (0, 0):
            return True  # nothing to be seen, whatever colours lie below
    ranges = (cast("tuple[float, float]", band.getextrema()) for band in image.split())
    return all(high - low <= within for low, high in ranges)


def work(seconds: float, memory_bytes: int) -> None:
    """The life of a worker: ends with its standard input."""
    # A signal that is meant for the run, and sent to all that belongs to it, must not cost a good picture its name: the
    # end of the run ends us.
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    _limit(resource.RLIMIT_AS, memory_bytes)
    with suppress(OSError):
        os.nice(_COURTESY)
    for line in sys.stdin.buffer:
        path, blank = json.loads(line)
        _say(BEGUN)
        # Either ends the process: the alarm when it waits for ever, the other when it computes for ever.
        signal.setitimer(signal.ITIMER_REAL, seconds)
        _limit(resource.RLIMIT_CPU, int(time.process_time() + seconds) + 1)
        problem = pixels_problem(path, blank=blank)
        signal.setitimer(signal.ITIMER_REAL, 0)
        _say(json.dumps(problem and problem[:500]).encode())


def _limit(kind: int, most: int) -> None:
    """Lower the soft limit, where the system has it (macOS does not hold RLIMIT_AS)."""
    with suppress(ValueError, OSError):
        resource.setrlimit(kind, (most, resource.getrlimit(kind)[1]))


def _say(line: bytes) -> None:
    with suppress(BrokenPipeError):  # nobody is there to hear it; the next read ends it
        sys.stdout.buffer.write(line + b"\n")
        sys.stdout.buffer.flush()
