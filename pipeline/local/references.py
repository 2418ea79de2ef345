"""Images that come with an ask: read whatever their kind, made to fit, and shown whole, side by side or as insets."""

from __future__ import annotations

from io import BytesIO
from math import log
from typing import TYPE_CHECKING

from PIL import Image, ImageDraw, ImageOps

from .letters import font
from .refusals import invalid

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .compositions import Palette

    Box = tuple[int, int, int, int]

UNREADABLE = "Unable to process input image. "
_ON_ITS_SIDE = 5
"""EXIF orientations from here on change width and height."""
_LONGEST = 1.5
"""Of two images or more, none is shown in a field that is longer than this times its width."""
_INSETS = 0.11
"""The part of a picture that insets take."""


def shape(reference: bytes) -> tuple[int, int]:
    """Width and height of an image as it is seen; of HEIC, which cannot be read here, a square's."""
    if _is_heic(reference):
        return 1, 1
    try:
        with Image.open(BytesIO(reference)) as opened:
            turned = opened.getexif().get(0x0112, 1) >= _ON_ITS_SIDE
            return opened.size[::-1] if turned else opened.size
    except Exception as error:  # noqa: BLE001 - whatever its decoder trips over, it is the image that is bad
        raise invalid(f"{UNREADABLE}{error}") from None


def fitted(reference: bytes, size: tuple[int, int], palette: Palette, how: Image.Resampling) -> Image.Image:
    """An image cropped to a size; a labelled field for HEIC."""
    if _is_heic(reference):
        return _field("HEIC", size, palette)
    try:
        with Image.open(BytesIO(reference)) as opened:
            opened.draft("RGB", size)
            upright = ImageOps.exif_transpose(opened)
            return ImageOps.fit(_coloured(upright), size, how)
    except Exception as error:  # noqa: BLE001 - as above
        raise invalid(f"{UNREADABLE}{error}") from None


def side_by_side(
    image: Image.Image, references: Sequence[bytes], palette: Palette, height: int, how: Image.Resampling
) -> None:
    """Show every image in a field of its own, from the top of the picture to `height`, with its number."""
    if not references:
        return
    width, count = image.width, len(references)
    gap = max(4, min(width, height) // 18)
    columns, rows = _grid(count, width / height)
    room = (width - gap * (columns + 1)) // columns, (height - gap * (rows + 1)) // rows
    cell = min(room[0], int(_LONGEST * room[1])), min(room[1], int(_LONGEST * room[0]))
    for number, reference in enumerate(references):
        row, column = divmod(number, columns)
        across = min(columns, count - row * columns)
        left = (width - across * (cell[0] + gap) + gap) // 2  # each row stands in the middle
        upper = (height - rows * (cell[1] + gap) + gap) // 2
        at = left + column * (cell[0] + gap), upper + row * (cell[1] + gap)
        _hang(image, fitted(reference, cell, palette, how), at, palette, str(number + 1))


def inset(
    image: Image.Image, references: Sequence[bytes], palette: Palette, height: int, how: Image.Resampling
) -> None:
    """Show every image small, in rows that end at `height` on the left."""
    if not references:
        return
    short = min(image.width, height)
    gap = max(3, short // 50)
    side = int(min(0.3 * short, (_INSETS * image.width * height / len(references)) ** 0.5 - gap))
    columns = max(1, (image.width - gap) // (side + gap))
    rows = -(-len(references) // columns)
    for number, reference in enumerate(references):
        row, column = divmod(number, columns)
        at = (gap + column * (side + gap), height - (rows - row) * (side + gap))
        _hang(image, fitted(reference, (side, side), palette, how), at, palette, str(number + 1))


def _is_heic(reference: bytes) -> bool:
    return reference[4:8] == b"ftyp" and reference[8:12] not in (b"avif", b"avis")


def _coloured(image: Image.Image) -> Image.Image:
    """Any kind of image in three channels of eight bits, what is transparent on white."""
    if image.mode.startswith("I"):  # sixteen bits a pixel, which a conversion would cut off at eight
        image = image.convert("I").point(lambda value: value * (1 / 257)).convert("L")
    if not image.has_transparency_data:
        return image.convert("RGB")
    seen = image.convert("RGBA")
    ground = Image.new("RGB", seen.size, "white")
    ground.paste(seen, mask=seen)
    return ground


def _field(label: str, size: tuple[int, int], palette: Palette) -> Image.Image:
    """The label all over a plain field, so that it can be read whatever lies on a part of it."""
    image = Image.new("RGB", size, palette[1])
    letters = font(min(size) / 9)
    columns = max(1, round(size[0] / (letters.getlength(label) * 2)))
    rows = max(1, round(size[1] / (letters.size * 2.5)))
    pen = ImageDraw.Draw(image)
    for row in range(rows):
        for column in range(columns):
            at = (column + 0.5) * size[0] / columns, (row + 0.5) * size[1] / rows
            pen.text(at, label, font=letters, fill=palette[4], anchor="mm")
    return image


def _hang(image: Image.Image, shown: Image.Image, at: tuple[int, int], palette: Palette, label: str) -> None:
    """Put a small picture with round corners on a larger one, with a light edge and its number."""
    short = min(shown.size)
    edge = max(1, short // 60)
    mask = Image.new("L", shown.size, 0)
    box = (0, 0, shown.width - 1, shown.height - 1)
    radius = max(2, short // 16)
    ImageDraw.Draw(mask).rounded_rectangle(box, radius, fill=255)
    pen = ImageDraw.Draw(shown)
    pen.rounded_rectangle(box, radius, outline=palette[4], width=edge)
    letters = font(min(max(short / 7, 12), image.height / 24))
    if letters.size * 2.5 < short:
        middle = radius / 2 + letters.size
        reach = letters.size * 0.75
        pen.ellipse((middle - reach, middle - reach, middle + reach, middle + reach), fill=palette[0])
        pen.text((middle, middle), label, font=letters, fill=palette[4], anchor="mm")
    image.paste(shown, at, mask)


def _grid(count: int, shape: float) -> tuple[int, int]:
    """Columns and rows for so many pictures: cells near to squares, few places left empty."""

    def cost(columns: int) -> float:
        rows = -(-count // columns)
        return abs(log(shape * rows / columns)) + 2 * (columns * rows - count) / (columns * rows)

    columns = min(range(1, count + 1), key=cost)
    return columns, -(-count // columns)
