"""A line of a batch's output: what came for a request, part by part, or why nothing did.

The images are read first: nothing that is odd elsewhere in a line makes a paid image go away.
"""

from __future__ import annotations

import base64
import json
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, NamedTuple, TypeVar

from pipeline import jsontext
from pipeline.gemini.lenient import as_list, as_map, count, field, whole, word, words
from pipeline.gemini.prices import Usage
from pipeline.gemini.refusals import Refusal, refusal

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

Image = TypeVar("Image")
"""What stands for an image: its bytes, or whatever is made of them while an answer is read."""


class Part(NamedTuple, Generic[Image]):
    """A piece of an answer, in the order it came: an image, or text; what was asked for, or a thought on the way."""

    image: Image | None = None
    """It has no bytes where they cannot be read; `None` for a text."""
    text: str = ""
    is_thought: bool = False


@dataclass(frozen=True, slots=True)
class Answer(Generic[Image]):
    """What the service had to say to one request."""

    parts: tuple[Part[Image], ...] = ()
    refusal: Refusal | None = None
    """Why there is no image; `None` where there is one that is no thought."""
    finish_reason: str | None = None
    usage: Usage | None = None
    grounding: dict[str, Any] | None = None
    """What was searched for and found: the shape of `grounding` in the record language."""
    model: str | None = None
    """Which model it says it is from."""

    @property
    def images(self) -> list[Image]:
        """The images that are no thoughts, in their order."""
        return [part.image for part in self.parts if part.image is not None and not part.is_thought]

    @property
    def sketches(self) -> int:
        """How many images are thoughts."""
        return sum(part.image is not None and part.is_thought for part in self.parts)

    @property
    def text(self) -> str:
        """All text that is no thought, as one."""
        return "".join(part.text for part in self.parts if not part.is_thought)

    def shortfall(self, response: Sequence[str]) -> Refusal | None:
        """Why this is not what was asked for, or `None` when it is: an image, or text where only text was asked for.

        An image is always something: it is paid for, whatever was asked.
        """
        if self.refusal is None or self.refusal.status != "no_image":
            return self.refusal
        said, reason = " ".join(self.text.split()), self.refusal.reason
        if "image" in response:
            return Refusal("no_image", f"{reason}; it answered in words alone: {said}") if said else self.refusal
        return None if said else Refusal("no_image", f"{reason}: the answer has no text")


class UnreadableLineError(ValueError):
    """A line of an answer file that is no answer; its text says why."""


def answer(line: bytes) -> tuple[str, Answer[bytes]]:
    """Read one line of a batch's output: the wire key, and what the service had to say.

    Raises `UnreadableLineError` for what cannot be joined to a request, and nothing else.
    """
    return reading(line, decoded)


def reading(line: bytes, image: Callable[[str], Image]) -> tuple[str, Answer[Image]]:
    """The same, with what `image` makes of the text of each image, in base64."""
    try:
        reply = jsontext.loads(line)
    except (ValueError, RecursionError) as error:
        raise UnreadableLineError(f"no JSON: {type(error).__name__}") from None
    if not isinstance(reply, dict) or not isinstance(reply.get("key"), str):
        raise UnreadableLineError("no object with a key")
    response = as_map(reply.get("response"))
    candidate = _candidate(response)
    own = _parts(as_list(field(as_map(candidate.get("content")), "parts")), image)
    parts = (*_aside(response, candidate, image), *own)
    has_image = any(part.image is not None and not part.is_thought for part in parts)
    return reply["key"], Answer(
        parts=parts,
        refusal=None if has_image else refusal(reply, candidate),
        finish_reason=word(field(candidate, "finishReason")),
        usage=_usage(field(response, "usageMetadata")),
        grounding=_grounding(as_map(field(candidate, "groundingMetadata"))),
        model=words(response.get("modelVersion")) or None,
    )


def content(line: bytes, wire_key: str | None = None) -> dict[str, Any] | None:
    """The model's turn in a line of a batch's output, as it came; `None` where it said nothing.

    Whoever goes on with the conversation sends it back like this: every part in its place, with its signature. With a
    `wire_key` only the answer to that request counts.
    """
    try:
        reply = as_map(json.loads(line, parse_float=_number, parse_constant=_number))
    except (ValueError, RecursionError):
        return None
    if wire_key is not None and reply.get("key") != wire_key:
        return None
    said = as_map(_candidate(as_map(reply.get("response"))).get("content"))
    parts = [part for part in as_list(said.get("parts")) if isinstance(part, dict)]
    return {**said, "role": "model", "parts": parts} if parts else None


def _number(text: str) -> float | None:
    """A number as JSON can say it: Python would read more than that, and write it again."""
    number = float(text)
    return number if math.isfinite(number) else None


# -------------------------------------------------------------------------------------------------- parts


def _candidate(response: Mapping[str, Any]) -> Mapping[str, Any]:
    """The first candidate with an image that is no thought; where none has one, the first."""
    told = [as_map(one) for one in as_list(field(response, "candidates"))]
    for one in told:
        for part in map(as_map, as_list(field(as_map(one.get("content")), "parts"))):
            if not part.get("thought") and as_map(field(part, "inlineData")).get("data"):
                return one
    return next(filter(None, told), {})


def _aside(
    response: Mapping[str, Any], chosen: Mapping[str, Any], image: Callable[[str], Image]
) -> Iterator[Part[Image]]:
    """The images of other candidates than the one that counts: they are paid for, and come before its own."""
    for one in map(as_map, as_list(field(response, "candidates"))):
        if one is not chosen:
            for part in _parts(as_list(field(as_map(one.get("content")), "parts")), image):
                if part.image is not None and not part.is_thought:
                    yield part


def _parts(told_parts: list[Any], image: Callable[[str], Image]) -> Iterator[Part[Image]]:
    for part in map(as_map, told_parts):
        is_thought = bool(part.get("thought"))
        if text := whole(part.get("text")):
            yield Part(text=text, is_thought=is_thought)
        data = as_map(field(part, "inlineData")).get("data")
        if data:
            yield Part(image=image(data if isinstance(data, str) else _UNREADABLE), is_thought=is_thought)


_UNREADABLE = "?"
STANDARD = bytes.maketrans(b"-_", b"+/")
"""From the base64 alphabet for URLs, which replies may use, to the other one."""


def decoded(text: str) -> bytes:
    """The bytes of an image, of which there are none where they cannot be decoded: whoever verifies it will say so.

    Replies may use either base64 alphabet, or both, with or without padding.
    """
    plain = "".join(text.split()).translate(_STANDARD).rstrip("=")
    try:
        return base64.b64decode(plain + "=" * (-len(plain) % 4), validate=True)
    except ValueError:
        return b""


_STANDARD = str.maketrans("-_", "+/")


# ------------------------------------------------------------------------------------------------- usage


def _usage(usage: Any) -> Usage | None:
    if not isinstance(usage, dict):
        return None
    image = sum(
        count(field(detail, "tokenCount"))
        for detail in map(as_map, as_list(field(usage, "candidatesTokensDetails")))
        if detail.get("modality") == "IMAGE"
    )
    output = count(field(usage, "candidatesTokenCount"))
    return Usage(
        input=count(field(usage, "promptTokenCount")) + count(field(usage, "toolUsePromptTokenCount")),
        output_image=image,
        output_text=max(0, output - image),
        thinking=count(field(usage, "thoughtsTokenCount")),
    )


# ---------------------------------------------------------------------------------------------- grounding

_MOST_QUERIES = 20
_MOST_SOURCES = 50
_MOST_QUOTES = 100
_LONGEST_URI = 2000
_LONGEST_HTML = 50_000


def _grounding(meta: Mapping[str, Any]) -> dict[str, Any] | None:
    """What was searched for and found, in one flat shape and of a bounded size; `None` when that is nothing.

    All of it is data from strangers: text without lone surrogates, addresses of the web and no others, and HTML that
    is complete or not there.
    """
    if not meta:
        return None
    sources = [_source(as_map(chunk)) for chunk in as_list(field(meta, "groundingChunks"))[:_MOST_SOURCES]]
    html = whole(field(as_map(field(meta, "searchEntryPoint")), "renderedContent"))
    found = {
        "queries": _queries(field(meta, "webSearchQueries")),
        "image_queries": _queries(field(meta, "imageSearchQueries")),
        "sources": sources,
        "quotes": list(_quotes(as_list(field(meta, "groundingSupports")), len(sources))),
        "suggestions": html if 0 < len(html) <= _LONGEST_HTML else None,
    }
    return found if any(found.values()) else None


def _queries(value: Any) -> list[str]:
    return [text for query in as_list(value)[:_MOST_QUERIES] if (text := words(query))]


def _source(chunk: Mapping[str, Any]) -> dict[str, Any]:
    """A page (`web`), a picture (`image`: where it stands, and itself), or whatever else has a title and an address."""
    place = next((as_map(value) for value in chunk.values() if isinstance(value, dict)), {})
    return {
        "title": word(place.get("title")),
        "uri": _address(field(place, "uri") or field(place, "sourceUri")),
        "image": _address(field(place, "imageUri")),
    }


def _address(value: Any) -> str | None:
    text = whole(value)
    is_web = text.startswith(("https://", "http://")) and text.isprintable() and len(text) <= _LONGEST_URI
    return text if is_web else None


def _quotes(supports: list[Any], sources: int) -> Iterator[dict[str, Any]]:
    """Which words of the answer rest on which sources, counted from 1."""
    for support in map(as_map, supports[:_MOST_QUOTES]):
        text = words(as_map(support.get("segment")).get("text"))
        numbers = [
            number + 1
            for number in as_list(field(support, "groundingChunkIndices"))[:_MOST_SOURCES]
            if isinstance(number, int) and 0 <= number < sources
        ]
        if text and numbers:
            yield {"text": text, "sources": numbers}
