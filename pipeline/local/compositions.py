"""What a drawn picture shows behind its caption: a palette, a soft gradient, a few plain forms on it."""

from __future__ import annotations

import random
from math import cos, pi, sin
from typing import TYPE_CHECKING, TypeVar

from PIL import Image, ImageDraw

if TYPE_CHECKING:
    from collections.abc import Callable

    Colour = tuple[int, int, int]
    Palette = tuple[Colour, ...]
    Composition = Callable[[ImageDraw.ImageDraw, "Canvas"], None]

T = TypeVar("T")

_BICUBIC = Image.Resampling.BICUBIC
_BILINEAR = Image.Resampling.BILINEAR
"""To enlarge many pixels: half the time, and of plain forms hardly another picture."""
_AREA = 1_200_000
"""Forms are drawn at this many pixels at most and enlarged."""

_STICKER = 0.2
"""The part of a picture the box around a sticker takes."""

_PALETTES = (  # the ink of the caption, then from dark to light
    "1b1f3b 30507d 5d8aa8 f2b880 fbe9d0",
    "2d1e2f 7a3b69 c75146 f0a868 fbe3c0",
    "12312b 2f6f5e 7fb685 e9c46a f6efd2",
    "221d3f 5b3f8c a56cc1 f3a6b2 fdeadf",
    "0f2e3d 1f6f78 4fb3a5 f7c873 fdf2d8",
    "3a1c1c 8f3b2e d97b4a f0c27b fff1d6",
    "1d2b24 4a6b4a 93a66b d9c79a f5efe0",
    "102542 2c5f9e 79a7d3 f8d5b8 fff4e6",
    "2b2118 6b4f3a b08968 ddb892 f6ead7",
    "1a1a2e 3f3d7d 7a6fb0 e58f9a fbd6c6",
    "06282d 0f6466 5aa897 d8b08c ffe6c7",
    "31263e 59435d a7626f ee9480 fad4c0",
    "22303c 51708a 9fb8c8 e3a87c f7ece1",
    "20283e 47648c 85a5a0 e6ba6a fbf3df",
)


class Canvas:
    """Width, height, a palette and dice that fall the same way for the same digest."""

    def __init__(self, width: int, height: int, digest: bytes) -> None:
        self.width, self.height = width, height
        self.short = min(width, height)
        self._dice = random.Random(digest)  # noqa: S311 - a picture, not a secret
        colours = self.pick(_PALETTES).split()
        self.palette: Palette = tuple(_colour(colour) for colour in colours)

    def between(self, low: float, high: float) -> float:
        return low + (high - low) * self._dice.random()

    def pick(self, choices: tuple[T, ...]) -> T:
        return choices[int(self._dice.random() * len(choices))]


def composed(width: int, height: int, digest: bytes) -> tuple[Image.Image, Palette]:
    """A background of that size, with the palette it was made with."""
    scale = min(1.0, (_AREA / (width * height)) ** 0.5)
    canvas = Canvas(max(8, round(width * scale)) + 1, max(8, round(height * scale)) + 1, digest)
    image = _gradient(canvas)
    canvas.pick(_COMPOSITIONS)(ImageDraw.Draw(image, "RGBA"), canvas)
    image = _softened(image)
    return image if image.size == (width, height) else image.resize((width, height), _BILINEAR), canvas.palette


def sticker(width: int, height: int, digest: bytes) -> tuple[Image.Image, tuple[int, int], Palette]:
    """A small composition in a form of its own, to be put on a picture of that size: what, where, and its palette."""
    canvas = Canvas(width, height, digest + b"sticker")
    area = _STICKER * width * height
    tall = min(area / min(area**0.5, 0.7 * width), 0.7 * height)
    size = max(8, round(area / tall)), max(8, round(tall))
    image, palette = composed(*size, digest)
    lobes = *canvas.pick(((0, 0.0), (5, 0.1), (6, 0.08), (8, 0.07), (12, 0.04))), canvas.between(0, 2 * pi)
    mask = _rosette(size, lobes, 1.0)
    framed = Image.new("RGBA", size, palette[4])
    framed.paste(image, mask=_rosette(size, lobes, 0.93))
    framed.putalpha(mask)
    margin = round(0.04 * canvas.short)
    at = canvas.between(margin, width - size[0] - margin), canvas.between(margin, height - size[1] - margin)
    return framed, (round(at[0]), round(at[1])), palette


def _rosette(size: tuple[int, int], lobes: tuple[int, float, float], scale: float) -> Image.Image:
    """The mask of a round form with lobes: how many, how deep, and turned how far; with none, an ellipse."""
    (width, height), (count, depth, turn) = size, lobes
    mask = Image.new("L", (2 * width, 2 * height), 0)
    line = []
    for step in range(240):
        angle = 2 * pi * step / 240
        reach = scale * (1 - depth + depth * cos(count * angle + turn))
        line.append((width * (1 + reach * cos(angle)), height * (1 + reach * sin(angle))))
    ImageDraw.Draw(mask).polygon(line, fill=255)
    return mask.reduce(2)


def _colour(text: str) -> Colour:
    red, green, blue = bytes.fromhex(text)
    return red, green, blue


def _gradient(canvas: Canvas) -> Image.Image:
    """A few cells of colour, blown up until they flow into one another."""
    columns, rows = 3, 3
    small = Image.new("RGB", (columns, rows))
    top, bottom = canvas.pick(((4, 3), (3, 2), (2, 4), (1, 3), (4, 2)))
    for row in range(rows):
        for column in range(columns):
            share = min(1.0, max(0.0, row / (rows - 1) + canvas.between(-0.3, 0.3)))
            blended = [
                round(one + (other - one) * share)
                for one, other in zip(canvas.palette[top], canvas.palette[bottom], strict=True)
            ]
            small.putpixel((column, row), (blended[0], blended[1], blended[2]))
    return small.resize((canvas.width, canvas.height), _BICUBIC)


def _softened(image: Image.Image) -> Image.Image:
    """Every four neighbours made one pixel: edges drawn in whole pixels lose their steps, and a row and a column go."""
    width, height = image.width - 1, image.height - 1
    image = Image.blend(image.crop((0, 0, width, height + 1)), image.crop((1, 0, width + 1, height + 1)), 0.5)
    return Image.blend(image.crop((0, 0, width, height)), image.crop((0, 1, width, height + 1)), 0.5)


def _clear(colour: Colour, opacity: float) -> tuple[int, int, int, int]:
    return (*colour, round(255 * opacity))


def _disc(draw: ImageDraw.ImageDraw, x: float, y: float, radius: float, fill: tuple[int, int, int, int]) -> None:
    draw.ellipse((x - radius, y - radius, x + radius, y + radius), fill=fill)


def _orbits(draw: ImageDraw.ImageDraw, canvas: Canvas) -> None:
    """Large discs that overlap, and rings around one of them."""
    x, y = canvas.between(0.25, 0.75) * canvas.width, canvas.between(0.3, 0.65) * canvas.height
    radius = canvas.between(0.24, 0.36) * canvas.short
    for ring in range(6, 0, -1):
        reach = radius * (1 + 0.34 * ring)
        box = (x - reach, y - reach, x + reach, y + reach)
        draw.ellipse(box, outline=_clear(canvas.palette[4], 0.45), width=max(1, canvas.short // 260))
    _disc(draw, x, y, radius, _clear(canvas.palette[3], 0.95))
    for colour in (1, 2, 1):
        angle, reach = canvas.between(0, 2 * pi), radius * canvas.between(0.8, 1.9)
        size = radius * canvas.between(0.3, 0.8)
        _disc(draw, x + reach * cos(angle), y + reach * sin(angle), size, _clear(canvas.palette[colour], 0.72))


def _ridges(draw: ImageDraw.ImageDraw, canvas: Canvas) -> None:
    """A sun over hills, the nearer the darker."""
    x, y = canvas.between(0.2, 0.8) * canvas.width, canvas.between(0.16, 0.34) * canvas.height
    radius = canvas.between(0.1, 0.17) * canvas.short
    for halo in (2.3, 1.6, 1.0):
        _disc(draw, x, y, radius * halo, _clear(canvas.palette[4], 0.18 if halo > 1 else 0.95))
    layers = 5
    for layer in range(layers):
        share = layer / (layers - 1)
        base = canvas.height * (0.4 + 0.46 * share)
        waves = [
            (canvas.between(0.02, 0.075) / k, canvas.between(1.1, 2.0) * k, canvas.between(0, 2 * pi))
            for k in (1, 2.3, 4.1)
        ]
        step = max(2, canvas.width // 120)
        line = [
            (at, base - canvas.height * sum(h * sin(f * pi * at / canvas.width + p) for h, f, p in waves))
            for at in range(-step, canvas.width + 2 * step, step)
        ]
        colour = canvas.palette[3 - min(3, round(share * 3))]
        edge = [(canvas.width + step, canvas.height), (-step, canvas.height)]
        draw.polygon([*line, *edge], fill=_clear(colour, 0.8 + 0.18 * share))


def _arches(draw: ImageDraw.ImageDraw, canvas: Canvas) -> None:
    """Arches within arches, side by side."""
    count = max(1, round(canvas.width / canvas.height * 2.4))
    pitch = canvas.width / count
    for arch in range(count):
        middle, order = pitch * (arch + 0.5), canvas.pick(((1, 3, 4, 2), (2, 4, 3, 1), (3, 1, 4, 2), (4, 2, 1, 3)))
        top = canvas.height * canvas.between(0.08, 0.36)
        for ring, colour in enumerate(order):
            half = pitch * 0.44 * (1 - ring * 0.235)
            crown = top + pitch * 0.44 * ring * 0.235
            fill = _clear(canvas.palette[colour], 0.92)
            draw.pieslice((middle - half, crown, middle + half, crown + 2 * half), 180, 360, fill=fill)
            draw.rectangle((middle - half, crown + half, middle + half, canvas.height), fill=fill)


def _tiles(draw: ImageDraw.ImageDraw, canvas: Canvas) -> None:
    """A grid of squares with quarter and half circles in them."""
    across = 4 if canvas.short == canvas.width else max(4, round(4 * canvas.width / canvas.height))
    side = canvas.width / across
    for row in range(int(canvas.height / side) + 1):
        for column in range(across):
            ground, figure = canvas.pick(((4, 1), (4, 2), (3, 1), (2, 4), (1, 3), (3, 4), (2, 3), (1, 4)))
            x, y = column * side, row * side
            draw.rectangle((x, y, x + side, y + side), fill=_clear(canvas.palette[ground], 0.86))
            fill = _clear(canvas.palette[figure], 0.95)
            match canvas.pick((0, 0, 0, 1, 2, 3)):
                case 0:
                    corner_x, corner_y = x + canvas.pick((0.0, side)), y + canvas.pick((0.0, side))
                    start = 0 if corner_x == x else 90
                    start = start if corner_y == y else 270 - start
                    box = (corner_x - side, corner_y - side, corner_x + side, corner_y + side)
                    draw.pieslice(box, start, start + 90, fill=fill)
                case 1:
                    _disc(draw, x + side / 2, y + side / 2, side * 0.36, fill)
                case 2:
                    start = canvas.pick((0, 90, 180, 270))
                    draw.pieslice((x, y, x + side, y + side), start, start + 180, fill=fill)


def _ribbons(draw: ImageDraw.ImageDraw, canvas: Canvas) -> None:
    """Bands that swing across the picture."""
    count, phase = 7, canvas.between(0, 2 * pi)
    swing, turns = canvas.height * canvas.between(0.08, 0.2), canvas.between(0.8, 1.7)
    lean = canvas.between(-0.35, 0.35) * canvas.height
    step = max(2, canvas.width // 120)
    for band in range(count):
        top = canvas.height * (0.12 + 0.13 * band)
        line = [
            (at, top + lean * (at / canvas.width - 0.5) + swing * sin(turns * 2 * pi * at / canvas.width + phase))
            for at in range(-step, canvas.width + 2 * step, step)
        ]
        phase += canvas.between(0.15, 0.4)
        edge = [(canvas.width + step, canvas.height * 1.5), (-step, canvas.height * 1.5)]
        draw.polygon([*line, *edge], fill=_clear(canvas.palette[(4, 3, 2, 1, 2, 3, 1)[band]], 0.78))


def _petals(draw: ImageDraw.ImageDraw, canvas: Canvas) -> None:
    """A flower of translucent leaves."""
    x, y = canvas.between(0.36, 0.64) * canvas.width, canvas.between(0.44, 0.56) * canvas.height
    for colour, reach, count in ((1, 0.56, 12), (2, 0.44, 10), (4, 0.3, 8)):
        length, turn = canvas.short * reach * canvas.between(0.85, 1.1), canvas.between(0, pi)
        for petal in range(count):
            angle = turn + 2 * pi * petal / count
            leaf = []
            for at in range(25):
                way = at / 12 if at <= 12 else (24 - at) / 12  # noqa: PLR2004 - out to the tip and back
                side = sin(way * pi) * length * 0.17 * (1 if at <= 12 else -1)  # noqa: PLR2004
                along = way * length
                leaf.append((x + along * cos(angle) - side * sin(angle), y + along * sin(angle) + side * cos(angle)))
            draw.polygon(leaf, fill=_clear(canvas.palette[colour], 0.6))
    _disc(draw, x, y, canvas.short * 0.055, _clear(canvas.palette[3], 1))


_COMPOSITIONS: tuple[Composition, ...] = (_orbits, _ridges, _arches, _tiles, _ribbons, _petals)
