"""Whether bytes are a picture, whole, and the one that was asked for.

`structure` walks the frame around the pixels at the speed of memory and decodes none of them: it holds for every image
before it gets its final name. What only a decoder can see is the business of `PixelChecks`, in processes beside.
"""

from __future__ import annotations

import re
from typing import Final

from pipeline.decoder import MOST_PIXELS, pixels_problem
from pipeline.pixels import PixelChecks
from pipeline.structure import BrokenImage, Picture, Walk, structure

__all__ = [
    "MOST_PIXELS", "BrokenImage", "Picture", "PixelChecks", "Walk", "pixels_problem", "size_problem", "structure",
]  # fmt: skip

_ROUNDING: Final = 1e-9  # of the division, so that 1030x1000 is within 3 % of 1:1


def size_problem(picture: Picture, pixels: tuple[int, int] | None, aspect: str | None, tolerance: float) -> str | None:
    """What is wrong with its size, or None: `pixels` exactly; where they are not known, `aspect` within `tolerance`.

    `tolerance` is a fraction (0.03 is 3 %). An aspect that is no `W:H` (`auto`) asks for nothing.
    """
    found = f"is {picture.width}x{picture.height}"
    if pixels is not None:
        width, height = pixels
        return None if (picture.width, picture.height) == pixels else f"{found}, not {width}x{height} as asked"
    asked = re.fullmatch(r"([1-9][0-9]{0,5}):([1-9][0-9]{0,5})", aspect or "")
    if asked is None:
        return None
    ratio = picture.width / picture.height / (int(asked[1]) / int(asked[2]))
    if max(ratio, 1 / ratio) <= 1 + tolerance + _ROUNDING:
        return None
    return f"{found}, which is not {aspect} within {tolerance * 100:g} %"
