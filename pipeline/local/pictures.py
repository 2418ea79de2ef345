"""Pictures drawn for an ask: exact to the pixel, legible, and another one for each other ask."""

from __future__ import annotations

from dataclasses import dataclass
from io import BytesIO
from typing import TYPE_CHECKING, NamedTuple

from PIL import Image, ImageDraw, ImageOps

from . import references
from .captions import Caption
from .compositions import composed, sticker
from .letters import LEADING, SMALLEST, font, legible, quoted, wrapped

if TYPE_CHECKING:
    from PIL import ImageFont

    from .catalog import Model
    from .compositions import Palette

_SHOWN_PLAIN = 60
_SIGNS = 6
_SIGN = 0.45
"""The part of a picture that words in quotation marks take, at most; less of one that shows its input."""
_SIGN_ON_INPUT = 0.13
_SIGN_BELOW = 0.24
"""The part of the height kept for them below images side by side."""
_SMOOTH = Image.Resampling.BILINEAR
_QUICK = Image.Resampling.NEAREST


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
    earlier: bytes | None = None
    """The picture it starts from, in a later turn of a conversation."""

    @property
    def pixels(self) -> tuple[int, int]:
        return self.model.pixels(self.aspect, self.size)

    @property
    def base(self) -> bytes | None:
        """The image most of which is kept: the earlier picture, or the only reference."""
        return self.earlier or (self.references[0] if len(self.references) == 1 else None)

    @property
    def insets(self) -> tuple[bytes, ...]:
        """What is new beside the earlier picture."""
        return self.references if self.earlier is not None else ()

    @property
    def caption(self) -> Caption:
        width, height = self.pixels
        footer = (self.model.id, self.aspect, self.size, f"{width}x{height}")
        return Caption((width, height), self.prompt, footer, self.notes, self.sources)


def draw(picture: Picture, mode: str) -> tuple[bytes, str, int, int]:
    """The bytes of the picture, their MIME type, the width and the height."""
    image = _plain(picture) if mode == "plain" else _drawn(picture)
    return _encoded(image, picture, mode), picture.model.mime, image.width, image.height


def sketch(picture: Picture, mode: str) -> tuple[bytes, str]:
    """A picture on the way to it, in grey: its bytes and their MIME type."""
    image = _plain(picture) if mode == "plain" else _drawn(picture)
    return _encoded(ImageOps.grayscale(image).convert("RGB"), picture, mode), picture.model.mime


def _encoded(image: Image.Image, picture: Picture, mode: str) -> bytes:
    stream = BytesIO()
    if picture.model.mime == "image/png":
        image.save(stream, "PNG", compress_level=1)
    elif mode == "plain":
        image.save(stream, "JPEG", quality=75, optimize=True)
    elif picture.base:  # the pixels of its input are kept, in their colours as well
        image.save(stream, "JPEG", quality=92, subsampling=0)
    else:
        image.save(stream, "JPEG", quality=88)
    return stream.getvalue()


def _plain(picture: Picture) -> Image.Image:
    """Two colours, one form, a line of text: all that telling pictures apart takes."""
    width, height = picture.pixels
    ground, form, *more = (tuple(picture.digest[at : at + 3]) for at in (0, 3, 6))
    dark = (ground[0] // 2, ground[1] // 2, ground[2] // 2)
    light = (128 + form[0] // 2, 128 + form[1] // 2, 128 + form[2] // 2)
    letters = font(min(width, height) / 30)
    lines = wrapped(legible(picture.prompt, _SHOWN_PLAIN), letters, width * 0.9)
    top = int(height - letters.size * (LEADING * len(lines) + 1))
    image = Image.new("RGB", (width, height), dark)
    pen = ImageDraw.Draw(image)
    palette = (dark, dark, light, light, light)
    if picture.base is not None:
        image.paste(references.fitted(picture.base, image.size, palette, _QUICK))
    share = 4 if picture.base else 2
    x, y = width * more[0][0] // 512, height * more[0][1] // 512
    box = (x, y, x + width // share, y + height // share)
    (pen.ellipse if more[0][2] % 2 else pen.rectangle)(box, fill=light)
    if picture.base is not None:
        references.inset(image, picture.insets, palette, top, _QUICK)
    else:
        references.side_by_side(image, picture.references, palette, top, _QUICK)
    pen.rectangle((0, top, width, height), fill=(24, 24, 24))
    for number, line in enumerate(lines):
        at = width * 0.05, top + letters.size * (LEADING * number + 0.5)
        pen.text(at, line, font=letters, fill=(255, 255, 255))
    return image


def _drawn(picture: Picture) -> Image.Image:
    caption = picture.caption
    width, height = picture.pixels
    top = height - caption.height
    words = list(quoted(picture.prompt))[:_SIGNS]
    image = Image.new("RGB", (width, height))
    if picture.base is not None:
        change, at, palette = sticker(width, top, picture.digest)
        image.paste(references.fitted(picture.base, image.size, palette, _SMOOTH))
        image.paste(change, at, change)
        references.inset(image, picture.insets, palette, top, _SMOOTH)
        is_high = at[1] + change.height / 2 < top / 2 and not picture.insets
        room = _Room(top / 2 if is_high else 0, top if is_high else top / 2, _SIGN_ON_INPUT)
    else:
        drawn, palette = composed(width, top, picture.digest)
        image.paste(drawn)
        room = _Room(top * (1 - _SIGN_BELOW) if picture.references else 0, top, _SIGN)
        below = int(room.top) if words and picture.references else top
        references.side_by_side(image, picture.references, palette, below, _SMOOTH)
    if words:
        _show_words(image, words, palette, room)
    caption.draw_on(image, palette)
    return image


class _Room(NamedTuple):
    """Where a sign may stand: between two heights, on a part of the picture down to the lower one."""

    top: float
    bottom: float
    share: float


def _show_words(image: Image.Image, words: list[str], palette: Palette, room: _Room) -> None:
    """What stands in quotation marks, as large as the room has it, on a sign."""
    letters, lines = _large(words, image.width, room)
    wide = max(letters.getlength(line) for line in lines)
    tall = len(lines) * letters.size * LEADING
    margin = letters.size * 0.5
    left, top = (image.width - wide) / 2, (room.top + room.bottom - tall) / 2
    box = (left - margin, top - margin * 0.8, left + wide + margin, top + tall + margin * 0.6)
    pen = ImageDraw.Draw(image)
    pen.rounded_rectangle(box, margin / 2, fill=palette[4], outline=palette[0], width=max(2, int(letters.size / 24)))
    for number, line in enumerate(lines):
        at = (image.width - letters.getlength(line)) / 2, top + number * letters.size * LEADING
        pen.text(at, line, font=letters, fill=palette[0])


def _large(words: list[str], width: int, room: _Room) -> tuple[ImageFont.FreeTypeFont, list[str]]:
    """The largest letters in which the words fit, a line for each or more, and these lines."""
    most_tall, most_area = 0.76 * (room.bottom - room.top), room.share * width * room.bottom
    size = min(width, room.bottom) / 3.4
    while True:
        letters = font(size)
        lines = [line for word in words for line in wrapped(word, letters, width * 0.8)]
        wide = max(letters.getlength(line) for line in lines) + letters.size
        tall = len(lines) * letters.size * LEADING + 0.7 * letters.size
        is_whole = " ".join(lines) == " ".join(words)  # no word is broken
        if size <= SMALLEST or (is_whole and tall <= most_tall and wide * tall <= most_area):
            return letters, lines
        size *= 0.93
