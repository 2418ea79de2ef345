"""The answer to an ask: pictures, words or both, with their usage; or one of the refusals the service knows."""

from __future__ import annotations

import base64
import hashlib
import re
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from .asks import SIGNATURE
from .found import grounded, sources
from .pictures import Picture, draw, sketch
from .refusals import RefusalError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .asks import Ask

    Part = dict[str, Any]

_MAGIC = re.compile(r"\bLOCAL:(BLOCK|NOIMAGE|ERROR|PROMPTBLOCK)\b")
_THOUGHTS = {"MINIMAL": 40, "LOW": 80, "MEDIUM": 160, "HIGH": 420}
_WITHHELD = {
    "BLOCK": ("IMAGE_SAFETY", "Unable to show the generated image, which may violate a policy. Rephrase the prompt."),
    "NOIMAGE": (
        "NO_IMAGE",
        "Unable to generate an image from this prompt. Try asking for an image in plain words.",
    ),
}
_LETTERS = 4
"""Of a token."""


def answered(ask: Ask, *, salt: str, mode: str) -> dict[str, Any]:
    """A GenerateContentResponse; the same for the same ask and salt. Raises what only an error can say."""
    magic = _MAGIC.search(ask.prompt)
    word = magic[1] if magic else ""
    digest = ask.digest(salt)
    if word == "ERROR":
        raise RefusalError("INTERNAL", "Internal error encountered.")
    if word == "PROMPTBLOCK":
        return _response(ask, digest, {"promptFeedback": {"blockReason": "PROHIBITED_CONTENT"}}, {}, 0)
    thoughts = _THOUGHTS[ask.level] + digest[0] % 64 if ask.model.thinks else 0
    if word in _WITHHELD:
        reason, message = _WITHHELD[word]
        candidate = {"content": {}, "finishReason": reason, "finishMessage": message, "index": 0}
        return _response(ask, digest, {"candidates": [candidate]}, {}, thoughts)
    parts, usage, reason = _within(ask, _parts(ask, digest, mode))
    content = {"parts": [*_thoughts(ask, digest, mode), *parts], "role": "model"}
    candidate = {"content": content, "finishReason": reason, "index": 0}
    if ask.searches:
        candidate["groundingMetadata"] = grounded(ask, [part["text"] for part in parts if "text" in part])
    return _response(ask, digest, {"candidates": [candidate]}, usage, thoughts)


def _parts(ask: Ask, digest: bytes, mode: str) -> Iterator[Part]:
    """What was asked for: words, a picture after them, and where it is a series the same again."""
    if not ask.pictures:
        yield {"text": _in_words(ask, digest)}
    for number in range(1, ask.pictures + 1):
        if "TEXT" in ask.modalities:
            yield {"text": _beside(ask, number)}
        picture = _picture(ask, digest if number == 1 else hashlib.sha256(digest + bytes([number])).digest())
        if ask.pictures > 1:
            picture = replace(picture, notes=(f"{number} of {ask.pictures}", *picture.notes))
        data, mime, _width, _height = draw(picture, mode)
        part: Part = {"inlineData": {"mimeType": mime, "data": base64.b64encode(data).decode()}}
        if ask.model.thinks:
            part["thoughtSignature"] = base64.b64encode(SIGNATURE + hashlib.sha256(data).digest()).decode()
        yield part


def _picture(ask: Ask, digest: bytes) -> Picture:
    return Picture(
        model=ask.model,
        aspect=ask.aspect,
        size=ask.size,
        prompt=ask.prompt,
        digest=digest,
        earlier=ask.earlier,
        references=ask.references,
        notes=(*_shown(ask), *_notes(ask)),
        sources=tuple(f"{number}  {title}  {uri}" for number, (title, uri) in enumerate(sources(ask), 1)),
    )


def _shown(ask: Ask) -> Iterator[str]:
    """What the request shows, for the small line of a picture."""
    if ask.turn > 1:
        yield f"turn {ask.turn}"
    if ask.references:
        yield "1 reference" if len(ask.references) == 1 else f"{len(ask.references)} references"


def _notes(ask: Ask) -> tuple[str, ...]:
    """What else was chosen, for the small line of a picture."""
    seed = (f"seed {ask.seed}",) if ask.seed is not None else ()
    return (*seed, *ask.choices, *(("system instruction",) if ask.system else ()))


def _beside(ask: Ask, number: int) -> str:
    """The words before a picture."""
    if ask.pictures > 1:
        kind = "Step" if "step" in ask.prompt.lower() else "Picture"
        return f"{kind} {number} of {ask.pictures}.\n\n"
    found = ", ".join(title for title, _uri in sources(ask))
    return f"Here is the picture you asked for, drawn from {found}." if found else "Here is the picture you asked for."


def _in_words(ask: Ask, digest: bytes) -> str:
    """An answer without a picture."""
    lines = ["The local service answers in words of its own, and imagines nothing.", f"You asked: {ask.prompt}"]
    lines += [f"You told it before: {ask.system}"] if ask.system else []
    lines += [f"Chosen: {', '.join(notes)}."] if (notes := _notes(ask)) else []
    lines += [f"{number}. {title}, {uri}" for number, (title, uri) in enumerate(sources(ask), 1)]
    return "\n\n".join([*lines, f"This is answer {digest[:4].hex()}."])


def _thoughts(ask: Ask, digest: bytes, mode: str) -> Iterator[Part]:
    """What the model thought on the way: words, and a sketch where a picture comes of them."""
    if not ask.with_thoughts:
        return
    yield {"text": f"Composing {ask.aspect} at {ask.size}: {ask.prompt[:80]}", "thought": True}
    if ask.pictures:
        picture = replace(_picture(ask, digest), size=next(iter(ask.model.tokens)), prompt=f"Sketch: {ask.prompt}")
        data, mime = sketch(picture, mode)
        yield {"inlineData": {"mimeType": mime, "data": base64.b64encode(data).decode()}, "thought": True}


def _within(ask: Ask, parts: Iterator[Part]) -> tuple[list[Part], dict[str, Any], str]:
    """As many parts as the tokens allow, what they use, and why it ends there."""
    left = ask.most_tokens if ask.most_tokens is not None else 1 << 30
    kept: list[Part] = []
    used = {"TEXT": 0, "IMAGE": 0}
    reason = "STOP"
    for part in parts:
        kind = "TEXT" if "text" in part else "IMAGE"
        tokens = -(-len(part["text"]) // _LETTERS) if kind == "TEXT" else ask.model.tokens[ask.size]
        if tokens > left:
            reason = "MAX_TOKENS"
            if kind == "TEXT" and left:
                kept.append({"text": part["text"][: left * _LETTERS]})
                used[kind] += left
            break
        kept.append(part)
        used[kind] += tokens
        left -= tokens
    usage: dict[str, Any] = {"candidatesTokenCount": sum(used.values())}
    if used["IMAGE"]:
        usage["candidatesTokensDetails"] = [{"modality": "IMAGE", "tokenCount": used["IMAGE"]}]
    return kept, usage, reason


def details(text: int, images: int) -> list[dict[str, Any]]:
    """The tokens of what went in, by kind."""
    kinds = [{"modality": "TEXT", "tokenCount": text}]
    return [*kinds, {"modality": "IMAGE", "tokenCount": images}] if images else kinds


def _response(
    ask: Ask, digest: bytes, said: dict[str, Any], candidates: dict[str, Any], thoughts: int
) -> dict[str, Any]:
    text, images = ask.prompt_tokens
    usage = {
        "promptTokenCount": text + images,
        **candidates,
        "totalTokenCount": text + images + candidates.get("candidatesTokenCount", 0) + thoughts,
        "promptTokensDetails": details(text, images),
        **({"thoughtsTokenCount": thoughts} if thoughts else {}),
    }
    response_id = base64.urlsafe_b64encode(digest[:16]).decode().rstrip("=")
    return {**said, "usageMetadata": usage, "modelVersion": ask.model.id, "responseId": response_id}
