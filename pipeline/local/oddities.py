"""Answers that are odd and no errors: words alone, thoughts first, several pictures, another alphabet of base64."""

from __future__ import annotations

import base64
import hashlib
import json
from io import BytesIO
from typing import TYPE_CHECKING, Any

from PIL import Image

from .asks import SIGNATURE

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    Answer = dict[str, Any]
    Part = dict[str, Any]

_TURNS = (Image.Transpose.FLIP_LEFT_RIGHT, Image.Transpose.ROTATE_180, Image.Transpose.FLIP_TOP_BOTTOM)
"""Ways to make another picture of one: a draft for each, beside it."""


def words_alone(said: Mapping[str, Any], answer: Answer) -> Answer:
    """Words in place of a picture."""
    return _with_parts(answer, lambda _parts: [{"text": said["message"]}], pictures=0)


def signature_alone(_said: Mapping[str, Any], answer: Answer) -> Answer:
    """One part, and nothing in it but a signature."""
    alone = base64.b64encode(SIGNATURE + hashlib.sha256(b"").digest()).decode()
    return _with_parts(answer, lambda _parts: [{"thoughtSignature": alone}], pictures=0)


def thoughts_first(_said: Mapping[str, Any], answer: Answer) -> Answer:
    """What the model thought before the answer, in words and as a sketch, though nobody asked to see it."""

    def parts(old: list[Part]) -> Iterator[Part]:
        yield {"text": "Rehearsed: thinking of a picture.", "thought": True}
        for part in old:
            if "inlineData" in part and not part.get("thought"):
                yield {"inlineData": _turned(part["inlineData"], _TURNS[0]), "thought": True}
                break
        yield from old

    return _with_parts(answer, parts)


def several_pictures(said: Mapping[str, Any], answer: Answer) -> Answer:
    """Drafts of the picture before it: `pictures` in all."""
    number = said["pictures"]

    def parts(old: list[Part]) -> Iterator[Part]:
        for part in old:
            if "inlineData" in part and not part.get("thought"):
                for turn in _TURNS[: number - 1]:
                    yield _signed({**part, "inlineData": _turned(part["inlineData"], turn)})
            yield part

    return _with_parts(answer, parts, pictures=number)


def several_candidates(said: Mapping[str, Any], answer: Answer) -> Answer:
    """Candidates without a picture before the one that has it: `number` in all."""
    empty = {"content": {}, "finishReason": "OTHER", "finishMessage": "Rehearsed: nothing came of it."}
    told = answer["response"].get("candidates", ())
    first = [{**empty, "index": index} for index in range(said["number"] - len(told))]
    moved = [{**one, "index": len(first) + index} for index, one in enumerate(told)]
    return {**answer, "response": {**answer["response"], "candidates": [*first, *moved]}}


def long(said: Mapping[str, Any], answer: Answer) -> Answer:
    """A thought of so many bytes before the answer."""

    def parts(old: list[Part]) -> list[Part]:
        return [{"text": "Rehearsed. " * -(-said["bytes"] // 11), "thought": True}, *old]

    return _with_parts(answer, parts)


def other_alphabet(_said: Mapping[str, Any], answer: Answer) -> Answer:
    """Pictures and signatures in the alphabet of base64 that is made for URLs, without padding."""

    def parts(old: list[Part]) -> Iterator[Part]:
        for part in old:
            changed = dict(part)
            if "inlineData" in part:
                changed["inlineData"] = {**part["inlineData"], "data": _for_urls(part["inlineData"]["data"])}
            if "thoughtSignature" in part:
                changed["thoughtSignature"] = _for_urls(part["thoughtSignature"])
            yield changed

    return _with_parts(answer, parts)


def _counted(usage: Mapping[str, Any], pictures: int) -> dict[str, Any]:
    """The usage of an answer with so many pictures for each that it had."""
    drawn = sum(one["tokenCount"] for one in usage.get("candidatesTokensDetails", ()))
    more = (pictures - 1) * drawn
    changed = {**usage, "totalTokenCount": usage["totalTokenCount"] + more}
    if "candidatesTokenCount" in usage:
        changed["candidatesTokenCount"] += more
    if drawn + more:
        changed["candidatesTokensDetails"] = [{"modality": "IMAGE", "tokenCount": drawn + more}]
    else:
        changed.pop("candidatesTokensDetails", None)
    return changed


def _with_parts(
    answer: Answer, change: Callable[[list[Part]], Iterator[Part] | list[Part]], *, pictures: int = 1
) -> Answer:
    response = json.loads(json.dumps(answer["response"]))
    for candidate in response.get("candidates", ()):
        candidate["content"]["parts"] = list(change(candidate["content"].get("parts", [])))
    return {**answer, "response": {**response, "usageMetadata": _counted(response["usageMetadata"], pictures)}}


def _turned(image: dict[str, Any], turn: Image.Transpose) -> dict[str, Any]:
    """Another picture of the same size: the same, turned."""
    stream = BytesIO()
    with Image.open(BytesIO(base64.b64decode(image["data"]))) as old:
        old.transpose(turn).save(stream, old.format)
    return {**image, "data": base64.b64encode(stream.getvalue()).decode()}


def _signed(part: Part) -> Part:
    """The part with the signature of its picture, where such parts have one."""
    if "thoughtSignature" not in part:
        return part
    digest = hashlib.sha256(base64.b64decode(part["inlineData"]["data"])).digest()
    return {**part, "thoughtSignature": base64.b64encode(SIGNATURE + digest).decode()}


def _for_urls(text: str) -> str:
    return base64.urlsafe_b64encode(base64.b64decode(text)).decode().rstrip("=")
