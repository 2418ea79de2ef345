"""Pictures drawn for an ask: exact to the pixel, legible, and another one for each other ask."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache
from io import BytesIO
from math import log
from typing import TYPE_CHECKING

from anyascii import anyascii
from PIL import Image, ImageDraw, ImageFont, ImageOps

from .compositions import composed
from .refusals import invalid

if TYPE_CHECKING:
    from .catalog import Model
    from .compositions import Colour, Palette

_SHOWN = 360
_SHOWN_PLAIN = 60
_SHOWN_SOURCE = 100
_BAND_MOST = 0.36
_LETTER = 0.5
"""The width of a letter, roughly, in font sizes."""
_LEADING = 1.28
_SMALLEST = 9
_QUOTES = re.compile('["“„]([^"“”„]{1,200})["“”]')
_QUOTED = 60
_SIGNS = 3


@dataclass(frozen=True, slots=True)
class Picture:
    """What is to be drawn."""

    model: Model
    aspect: str
    size: str
    prompt: str
    digest: bytes
    """Other digests, other pictures."""
    references: tuple[bytes, ...] = ()
    notes: tuple[str, ...] = ()
    """What else was chosen, for the small line below the prompt."""
    sources: tuple[str, ...] = ()
    """What was found, a line each."""


def draw(picture: Picture, mode: str) -> tuple[bytes, str, int, int]:
    """The bytes of the picture, their MIME type, the width and the height."""
    width, height = picture.model.pixels(picture.aspect, picture.size)
    image = _plain(picture, width, height) if mode == "plain" else _drawn(picture, width, height)
    return _encoded(image, picture.model, mode), picture.model.mime, width, height


def sketch(picture: Picture, mode: str) -> tuple[bytes, str]:
    """A picture on the way to it, in grey: its bytes and their MIME type."""
    width, height = picture.model.pixels(picture.aspect, picture.size)
    image = _plain(picture, width, height) if mode == "plain" else _drawn(picture, width, height)
    return _encoded(ImageOps.grayscale(image).convert("RGB"), picture.model, mode), picture.model.mime


def _encoded(image: Image.Image, model: Model, mode: str) -> bytes:
    stream = BytesIO()
    if model.mime == "image/png":
        image.save(stream, "PNG", compress_level=1)
    else:
        image.save(stream, "JPEG", quality=75 if mode == "plain" else 88, optimize=mode == "plain")
    return stream.getvalue()


def _plain(picture: Picture, width: int, height: int) -> Image.Image:
    """Two colours, one form, a line of text: all that telling pictures apart takes."""
    ground, form, *more = (tuple(picture.digest[at : at + 3]) for at in (0, 3, 6))
    image = Image.new("RGB", (width, height), (ground[0] // 2, ground[1] // 2, ground[2] // 2))
    pen = ImageDraw.Draw(image)
    x, y = width * more[0][0] // 512, height * more[0][1] // 512
    box = (x, y, x + width // 2, y + height // 2)
    fill = (128 + form[0] // 2, 128 + form[1] // 2, 128 + form[2] // 2)
    (pen.ellipse if more[0][2] % 2 else pen.rectangle)(box, fill=fill)
    font = _font(max(_SMALLEST, min(width, height) // 30))
    lines = _wrapped(_legible(picture.prompt, _SHOWN_PLAIN), font, width * 0.9)
    top = height - font.size * (_LEADING * len(lines) + 1)
    pen.rectangle((0, top, width, height), fill=(24, 24, 24))
    for number, line in enumerate(lines):
        pen.text((width * 0.05, top + font.size * (_LEADING * number + 0.5)), line, font=font, fill=(255, 255, 255))
    return image


def _drawn(picture: Picture, width: int, height: int) -> Image.Image:
    caption = _Caption(picture, width, height)
    image, palette = composed(width, height, picture.digest)
    if picture.references:
        _show_references(image, picture.references, palette, height - caption.height)
    words = [_legible(found[1], _QUOTED) for found in _QUOTES.finditer(picture.prompt)]
    _show_words(image, [word for word in words if word][:_SIGNS], palette, height - caption.height)
    caption.draw_on(image, palette)
    return image


def _show_references(image: Image.Image, references: tuple[bytes, ...], palette: Palette, height: int) -> None:
    if len(references) == 1:
        # The forms shine through, so that two samples of one edit are not one picture.
        image.paste(Image.blend(image, _fitted(references[0], image.size, palette), 0.7))
        return
    width, count = image.width, len(references)
    gap = max(4, min(width, height) // 40)
    columns, rows = _grid(count, width / height)
    cell = (width - gap * (columns + 1)) // columns, (height - gap * (rows + 1)) // rows
    mask = Image.new("L", cell, 0)
    ImageDraw.Draw(mask).rounded_rectangle((0, 0, cell[0] - 1, cell[1] - 1), gap, fill=255)
    for number, reference in enumerate(references):
        row, column = divmod(number, columns)
        missing = columns - (count - row * columns) if row == rows - 1 else 0
        shift = missing * (cell[0] + gap) // 2  # the last row stands in the middle
        at = (gap + column * (cell[0] + gap) + shift, gap + row * (cell[1] + gap))
        image.paste(_fitted(reference, cell, palette), at, mask)


def _show_words(image: Image.Image, words: list[str], palette: Palette, height: int) -> None:
    """What stands in quotation marks, as large as it fits, on a sign in the middle."""
    if not words:
        return
    width = image.width
    size = min(width, height) / 4
    while True:
        font = _font(max(_SMALLEST, int(size)))
        lines = [line for word in words for line in _wrapped(word, font, width * 0.76)]
        tall = len(lines) * font.size * _LEADING
        broken = max(font.getlength(line) for line in lines) > width * 0.76 or len(lines) > 2 * len(words)
        if (tall <= height * 0.6 and not broken) or size <= _SMALLEST:
            break
        size *= 0.9
    wide = max(font.getlength(line) for line in lines)
    margin = font.size * 0.5
    top = (height - tall) / 2
    box = ((width - wide) / 2 - margin, top - margin, (width + wide) / 2 + margin, top + tall + margin * 0.8)
    pen = ImageDraw.Draw(image)
    pen.rounded_rectangle(box, margin / 2, fill=palette[4], outline=palette[0], width=max(2, int(font.size / 24)))
    for number, line in enumerate(lines):
        at = (width - font.getlength(line)) / 2, top + number * font.size * _LEADING
        pen.text(at, line, font=font, fill=palette[0])


def _grid(count: int, shape: float) -> tuple[int, int]:
    """Columns and rows for so many pictures: cells near to squares, few places left empty."""

    def cost(columns: int) -> float:
        rows = -(-count // columns)
        return abs(log(shape * rows / columns)) + 2 * (columns * rows - count) / (columns * rows)

    columns = min(range(1, count + 1), key=cost)
    return columns, -(-count // columns)


def _fitted(reference: bytes, size: tuple[int, int], palette: Palette) -> Image.Image:
    """A reference image cropped to a size; a coloured field for HEIC, which cannot be read here."""
    if reference[4:8] == b"ftyp":
        return Image.new("RGB", size, palette[2])
    try:
        with Image.open(BytesIO(reference)) as opened:
            opened.draft("RGB", size)
            upright = ImageOps.exif_transpose(opened)
            if upright.mode != "RGB":
                seen = upright.convert("RGBA")
                upright = Image.new("RGB", seen.size, palette[4])
                upright.paste(seen, mask=seen)
            return ImageOps.fit(upright, size, Image.Resampling.BICUBIC)
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise invalid(f"Unable to process input image. {error}") from None


class _Caption:
    """The band at the bottom: the prompt, and a small line that says what the picture is."""

    def __init__(self, picture: Picture, width: int, height: int) -> None:
        middle = (width * height) ** 0.5
        self.margin = max(8, min(width, height) // 24)
        self.small = _font(max(_SMALLEST, int(min(middle / 46, height / 16, width / 20))))
        footer = [picture.model.id, picture.aspect, picture.size, f"{width} x {height}", *picture.notes]
        inner = width - 2 * self.margin
        found = [_legible(source, _SHOWN_SOURCE) for source in picture.sources]
        self.sources = [line for source in found for line in _wrapped(source, self.small, inner)]
        self.footer = _wrapped("  ·  ".join(footer), self.small, inner)
        text = _legible(picture.prompt, _SHOWN)
        room = max(1.0, height * _BAND_MOST - 3 * self.margin - len(self.sources) * self.small.size)
        # So many letters fill this room at about this size; where words break badly, a little smaller.
        size = min(middle / 19, inner / 9, (inner * room / (max(1, len(text)) * _LETTER * _LEADING)) ** 0.5)
        while True:
            self.font = _font(max(_SMALLEST, int(size)))
            self.lines = _wrapped(text, self.font, inner)
            tall = len(self.lines) * self.font.size * _LEADING
            if tall <= room or size <= _SMALLEST:
                break
            size *= 0.93
        small = (len(self.footer) + len(self.sources)) * self.small.size * _LEADING
        self.height = round(tall + small + (2.7 if self.sources else 2.3) * self.margin)

    def draw_on(self, image: Image.Image, palette: Palette) -> None:
        top = image.height - self.height
        box = (0, top, image.width, image.height)
        ink = palette[0]
        image.paste(Image.blend(image.crop(box), Image.new("RGB", (image.width, self.height), ink), 0.88), box)
        pen = ImageDraw.Draw(image)
        thick = max(2, self.margin // 8)
        pen.rectangle((0, top, image.width, top + thick - 1), fill=palette[3])
        y = top + self.margin * 0.8 + thick
        y = self._write(pen, self.lines, self.font, y, palette[4])
        if self.sources:
            y = self._write(pen, self.sources, self.small, y + self.margin * 0.4, palette[4])
        self._write(pen, self.footer, self.small, y + self.margin * 0.45, palette[3])

    def _write(
        self, pen: ImageDraw.ImageDraw, lines: list[str], font: ImageFont.FreeTypeFont, y: float, fill: Colour
    ) -> float:
        for line in lines:
            pen.text((self.margin, y), line, font=font, fill=fill)
            y += font.size * _LEADING
        return y


@lru_cache(64)
def _font(size: int) -> ImageFont.FreeTypeFont:
    font = ImageFont.load_default(size)
    assert isinstance(font, ImageFont.FreeTypeFont)
    return font


def _legible(text: str, most: int) -> str:
    """The text on one line, in Latin letters, as the font has no others, and cut where it is too long to show."""
    letters = (letter if letter.isprintable() else " " for letter in anyascii(text[: 4 * most]))
    text = " ".join("".join(letters).split())
    return text if len(text) <= most else text[: most - 1].rstrip() + "…"


def _wrapped(text: str, font: ImageFont.FreeTypeFont, width: float) -> list[str]:
    """The text in lines that fit the width; a word that fits no line is broken."""
    lines = [""]
    for word in text.split(" "):
        longer = f"{lines[-1]} {word}" if lines[-1] else word
        if font.getlength(longer) <= width:
            lines[-1] = longer
            continue
        rest = word
        while font.getlength(rest) > width and len(rest) > 1:
            fits = max(1, int(len(rest) * width / font.getlength(rest)) - 1)
            lines.append(rest[:fits])
            rest = rest[fits:]
        lines.append(rest)
    return lines if lines[0] else lines[1:]
