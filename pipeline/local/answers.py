"""The answer to an ask: a picture with its usage, or one of the refusals the service knows."""

from __future__ import annotations

import base64
import hashlib
import html
import re
from typing import TYPE_CHECKING, Any

from .asks import SIGNATURE
from .pictures import Picture, draw
from .refusals import RefusalError

if TYPE_CHECKING:
    from .asks import Ask

_MAGIC = re.compile(r"\bLOCAL:(BLOCK|NOIMAGE|ERROR|PROMPTBLOCK)\b")
_THOUGHTS = {"MINIMAL": 40, "LOW": 80, "MEDIUM": 160, "HIGH": 420}
_WITHHELD = {
    "BLOCK": ("IMAGE_SAFETY", "Unable to show the generated image, which may violate a policy. Rephrase the prompt."),
    "NOIMAGE": (
        "NO_IMAGE",
        "Unable to generate an image from this prompt. Try asking for an image in plain words.",
    ),
}


def answered(ask: Ask, *, salt: str, mode: str) -> dict[str, Any]:
    """A GenerateContentResponse; the same for the same ask and salt. Raises what only an error can say."""
    magic = _MAGIC.search(ask.prompt)
    word = magic[1] if magic else ""
    digest = ask.digest(salt)
    if word == "ERROR":
        raise RefusalError("INTERNAL", "Internal error encountered.")
    if word == "PROMPTBLOCK":
        return _response(ask, digest, {"promptFeedback": {"blockReason": "PROHIBITED_CONTENT"}}, {}, 0)
    thoughts = _thoughts(ask, digest)
    if word in _WITHHELD:
        reason, message = _WITHHELD[word]
        candidate = {"content": {}, "finishReason": reason, "finishMessage": message, "index": 0}
        return _response(ask, digest, {"candidates": [candidate]}, {}, thoughts)
    parts = _parts(ask, digest, mode)
    candidate = {"content": {"parts": parts, "role": "model"}, "finishReason": "STOP", "index": 0}
    if ask.searches:
        candidate["groundingMetadata"] = _grounding(ask)
    image_tokens = ask.model.tokens[ask.size]
    text_tokens = sum(-(-len(part["text"]) // 4) for part in parts if "text" in part and "thought" not in part)
    usage = {
        "candidatesTokenCount": image_tokens + text_tokens,
        "candidatesTokensDetails": [{"modality": "IMAGE", "tokenCount": image_tokens}],
    }
    return _response(ask, digest, {"candidates": [candidate]}, usage, thoughts)


def _parts(ask: Ask, digest: bytes, mode: str) -> list[dict[str, Any]]:
    picture = Picture(ask.model, ask.aspect, ask.size, ask.prompt, digest, ask.references)
    data, mime, width, height = draw(picture, mode)
    image: dict[str, Any] = {"inlineData": {"mimeType": mime, "data": base64.b64encode(data).decode()}}
    if ask.model.thinks:
        image["thoughtSignature"] = base64.b64encode(SIGNATURE + hashlib.sha256(data).digest()).decode()
    parts: list[dict[str, Any]] = []
    if ask.with_thoughts:
        parts.append({"text": f"Composing {ask.aspect} at {width}x{height}.", "thought": True})
    if ask.with_text:
        parts.append({"text": "Here is the picture you asked for."})
    return [*parts, image]


def _grounding(ask: Ask) -> dict[str, Any]:
    """Sources as a search leaves them; nobody was asked, and they lead nowhere."""
    query = " ".join(ask.prompt.split()[:6])
    place = "https://example.com/local-service"
    found: dict[str, Any] = {"groundingChunks": []}
    if "webSearch" in ask.searches:
        found["webSearchQueries"] = [query]
        found["groundingChunks"].append({"web": {"uri": place, "title": "example.com"}})
        chip = f'<div class="container"><a class="chip" href="{place}">{html.escape(query)}</a></div>'
        found["searchEntryPoint"] = {"renderedContent": chip}
    if "imageSearch" in ask.searches:
        found["imageSearchQueries"] = [query]
        image = {"sourceUri": place, "imageUri": f"{place}.png", "title": "An example", "domain": "example.com"}
        found["groundingChunks"].append({"image": image})
    return found


def _thoughts(ask: Ask, digest: bytes) -> int:
    return _THOUGHTS[ask.level] + digest[0] % 64 if ask.model.thinks else 0


def _response(
    ask: Ask, digest: bytes, said: dict[str, Any], candidates: dict[str, Any], thoughts: int
) -> dict[str, Any]:
    text, images = ask.prompt_tokens
    details = [{"modality": "TEXT", "tokenCount": text}]
    if images:
        details.append({"modality": "IMAGE", "tokenCount": images})
    usage = {
        "promptTokenCount": text + images,
        **candidates,
        "totalTokenCount": text + images + candidates.get("candidatesTokenCount", 0) + thoughts,
        "promptTokensDetails": details,
        **({"thoughtsTokenCount": thoughts} if thoughts else {}),
    }
    response_id = base64.urlsafe_b64encode(digest[:16]).decode().rstrip("=")
    return {**said, "usageMetadata": usage, "modelVersion": ask.model.id, "responseId": response_id}
