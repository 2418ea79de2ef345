"""The band at the bottom of a picture: what was asked for, what was found, and a small line with what was chosen."""

from __future__ import annotations

from math import ceil
from typing import TYPE_CHECKING

from PIL import ImageDraw

from .letters import LEADING, SMALLEST, WIDTH, block, font, legible, wrapped

if TYPE_CHECKING:
    from PIL import Image, ImageFont

    from .compositions import Colour, Palette

_SURE = 200
"""So many characters of a prompt are shown; half as many again where that makes the letters little smaller."""
_LITTLE = 0.75
_SHOWN_SOURCE = 100
_MOST = 0.9
"""Of the height of a picture; only names of emoji can take so much."""
_USUAL = ("turn 2", "2 references", "seed 1000")
"""For so much of what may be chosen there is room in every caption."""


class Caption:
    """What is written, and how high the band is.

    All pictures of a frame have a band of the same height, unless sources or the letters of another script need more
    of it: a later turn of a conversation covers the caption of the earlier one with its own.
    """

    def __init__(
        self,
        size: tuple[int, int],
        prompt: str,
        footer: tuple[str, ...],
        chosen: tuple[str, ...],
        found: tuple[str, ...],
    ) -> None:
        width, height = size
        middle = (width * height) ** 0.5
        self.margin = max(5, min(width, height) // 27)
        inner = width - 2 * self.margin
        self.small = font(min(middle / 48, height / 17, width / 20))
        usual = len(wrapped(_listed((*footer, *_USUAL)), self.small, inner))
        self.footer = wrapped(_listed((*footer, *chosen)), self.small, inner)
        self.sources = [line for one in found for line in wrapped(legible(one, _SHOWN_SOURCE), self.small, inner)]
        body = max(SMALLEST, min(middle / 36, height / 14))
        room = max(ceil(_SURE * WIDTH * body / inner) * body * LEADING, height / 7)
        sizes = min(middle / 13, height / 8), middle / 84
        self.font, self.lines = block(legible(prompt, _SURE * 3 // 2), (inner, room), sizes)
        if self.font.size < _LITTLE * body:
            self.font, self.lines = block(legible(prompt, _SURE), (inner, room), sizes)
        small = (max(usual, len(self.footer)) + len(self.sources)) * self.small.size * LEADING
        rest = small + (2.4 if self.sources else 1.9) * self.margin
        del self.lines[int((_MOST * height - rest) / (self.font.size * LEADING)) :]
        self.room = max(room, len(self.lines) * self.font.size * LEADING)
        self.height = round(self.room + rest)

    def draw_on(self, image: Image.Image, palette: Palette) -> None:
        top = image.height - self.height
        pen = ImageDraw.Draw(image)
        pen.rectangle((0, top, image.width, image.height), fill=palette[0])
        pen.rectangle((0, top, image.width, top + max(2, self.margin // 8) - 1), fill=palette[3])
        y = top + self.margin * 0.75
        spare = self.room - len(self.lines) * self.font.size * LEADING
        self._write(pen, self.lines, self.font, y + spare / 2, palette[4])
        y += self.room
        if self.sources:
            y = self._write(pen, self.sources, self.small, y + self.margin * 0.45, palette[4])
        y = image.height - self.margin * 0.65 - len(self.footer) * self.small.size * LEADING
        self._write(pen, self.footer, self.small, y, palette[3])

    def _write(
        self, pen: ImageDraw.ImageDraw, lines: list[str], letters: ImageFont.FreeTypeFont, y: float, fill: Colour
    ) -> float:
        for line in lines:
            pen.text((self.margin, y), line, font=letters, fill=fill)
            y += letters.size * LEADING
        return y


def _listed(words: tuple[str, ...]) -> str:
    return "  ·  ".join(words)
