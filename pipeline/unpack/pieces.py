"""From an answer to the files it becomes: which image is the result, what the others are called, and what is damaged.

`[image]`: the last image is the result, the ones before it are drafts. `[text, image]`: the first is the result and the
others are parts, all of them linked from one page of text. `[text]`: the page is the result. Thoughts are kept apart,
where they were asked for.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

from pipeline.outputs import page
from pipeline.unpack.arrivals import Held

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from pipeline.gemini.answers import Answer, Part
    from pipeline.images import Picture
    from pipeline.outputs import File
    from pipeline.unpack.arrivals import Arrival, Content, Image

_MOST = 100
"""Results, drafts or thoughts of one answer that become files; more stay in the kept answer."""


class Piece(NamedTuple):
    """A file that is to be written, whole and verified."""

    path: str
    """Below the job folder."""
    kind: str
    content: Content
    sha256: str
    bytes: int
    mime: str
    width: int | None = None
    height: int | None = None

    def entry(self) -> File:
        """Its entry in `files` of a record."""
        return {
            "path": self.path, "kind": self.kind, "sha256": self.sha256, "bytes": self.bytes, "mime": self.mime,
            "width": self.width, "height": self.height,
        }  # fmt: skip


class Damaged(NamedTuple):
    """An image that is not whole: its number in the answer, from 1, and what is wrong with it."""

    number: int
    image: Image | Arrival
    why: str


@dataclass(slots=True)
class Pieces:
    """What an answer becomes."""

    files: list[Piece] = field(default_factory=list)
    """The result first."""
    damaged: list[Damaged] = field(default_factory=list)
    """Images that are not whole, drafts among them."""
    status: str = "done"
    reason: str | None = None


class _Whole(NamedTuple):
    """An image that was verified; `number` counts from 1 among those that came."""

    number: int
    image: Image | Arrival
    picture: Picture


def pieces(answer: Answer[Any], settings: Mapping[str, Any], base: str, redacted: Callable[[str], str]) -> Pieces:
    """Check what came and name it: `settings` are those of the record, `base` is its path without extension.

    Only for an answer that does not fall short of what was asked for.
    """
    response = settings.get("response") or ["image"]
    found, came = Pieces(), answer.images
    whole = list(_verified(came, found))
    if not whole and came and ("image" in response or not answer.text.strip()):
        found.status, found.reason = "invalid", f"the image is damaged: {found.damaged[-1].why}"
    elif response == ["image"]:
        _last_counts(found, whole, base, number=len(came))
    elif "image" in response:
        _all_count(found, whole, base, number=len(came))
        found.files += _page(answer.parts, found.files, whole, base, redacted)
    else:
        _words_count(found, answer, whole, base, redacted)
    if found.status == "done" and answer.finish_reason == "MAX_TOKENS" and "text" in response:
        found.status, found.reason = "check", "MAX_TOKENS: the answer ends where max_output_tokens cut it off"
    if settings.get("thoughts") and found.files:
        found.files += _thoughts(answer.parts, found, base, redacted)
    return found


def _verified(came: Sequence[Image | Arrival], found: Pieces) -> Iterator[_Whole]:
    for number, image in enumerate(came, 1):
        if image.picture is not None:
            yield _Whole(number, image, image.picture)
        else:
            found.damaged.append(Damaged(number, image, image.why))


def _last_counts(found: Pieces, whole: list[_Whole], base: str, *, number: int) -> None:
    """`[image]`: of several images the last is meant, and without it there is no result."""
    result, *drafts = reversed(whole)
    if result.number != number:
        found.status, found.reason = "invalid", f"the image is damaged: {found.damaged[-1].why}"
        return
    found.files = [_image(base, "image", result)]
    found.files += [_image(f"{base}.draft{draft.number}", "draft", draft) for draft in reversed(drafts[:_MOST])]


def _all_count(found: Pieces, whole: list[_Whole], base: str, *, number: int) -> None:
    """`[text, image]`: every image is a result; those that are whole are kept, whatever the others are."""
    found.files = [
        _image(base if place == 1 else f"{base}.part{place}", "image" if place == 1 else "part", image)
        for place, image in enumerate(whole[:_MOST], 1)
    ]
    if found.damaged:
        first = found.damaged[0]
        found.status, found.reason = "check", f"image {first.number} of {number} is damaged: {first.why}"
    elif len(whole) > _MOST:
        found.status, found.reason = "check", f"the answer has {number:,} images; the first {_MOST} are here"


def _words_count(
    found: Pieces, answer: Answer[Any], whole: list[_Whole], base: str, redacted: Callable[[str], str]
) -> None:
    """`[text]`: the page is the result; images, which nobody asked for, are paid for and kept."""
    shown = [_image(f"{base}.part{place}", "part", image) for place, image in enumerate(whole[:_MOST], 1)]
    found.files = [*_page(answer.parts, shown, whole, base, redacted), *shown]
    if not answer.text.strip():
        found.status, found.reason = "check", "an image came in place of the text that was asked for"


def _page(
    parts: Sequence[Part[Any]], shown: list[Piece], whole: list[_Whole], base: str, redacted: Callable[[str], str]
) -> list[Piece]:
    """Text and links to the images in the order they came; nothing when no text came."""
    names = {image.number: page.name(piece.path) for image, piece in zip(whole, shown, strict=False)}
    links = {number: page.link(place, name) for place, (number, name) in enumerate(names.items(), 1)}
    words, blocks, number = [""], list[str](), 0
    for part in parts:
        if part.is_thought:
            continue
        if part.image is None:
            words[-1] += part.text
            continue
        number += 1
        blocks += [redacted(words[-1]), links.get(number, "")]
        words.append("")
    blocks.append(redacted(words[-1]))
    return [_text(f"{base}.md", "text", page.composed(blocks))] if "".join(words).strip() else []


def _thoughts(parts: Sequence[Part[Any]], found: Pieces, base: str, redacted: Callable[[str], str]) -> Iterator[Piece]:
    """Thoughts in their order, text that was not interrupted as one; what is a result already is not told twice."""
    known = {piece.sha256 for piece in found.files}
    number = 0
    for one in _trains(parts, redacted):
        if number == _MOST:
            return
        thought = f"{base}.thought{number + 1}"
        if isinstance(one, str):
            piece = _text(f"{thought}.md", "thought", page.composed([one]))
        elif one.picture is not None:
            piece = _image(thought, "thought", _Whole(0, one, one.picture))
        else:
            continue  # it leads to a result, and is none
        if piece.sha256 not in known:
            known.add(piece.sha256)
            number += 1
            yield piece


def _trains(parts: Sequence[Part[Any]], redacted: Callable[[str], str]) -> Iterator[Any]:
    """The thoughts among the parts: texts that follow one another as one, and images."""
    words = ""
    for part in parts:
        if part.is_thought and part.image is None:
            words += part.text
        elif part.is_thought and part.image is not None:
            if words.strip():
                yield redacted(words)
            words = ""
            yield part.image
    if words.strip():
        yield redacted(words)


def _image(path: str, kind: str, whole: _Whole) -> Piece:
    image, picture = whole.image, whole.picture
    return Piece(
        path + picture.extension, kind, image.content, image.sha256, image.bytes, picture.mime, picture.width,
        picture.height,
    )  # fmt: skip


def _text(path: str, kind: str, data: bytes) -> Piece:
    return Piece(path, kind, Held(data), page.sha256(data), len(data), page.MIME)
