"""The JSON of the Gemini API: request lines, answer lines and operations. The only module that knows its words.

Facts: the Batch API guide and the v1beta discovery document of August 2026; shapes of real answers were taken from
published captures of finished batches (2026-08-20 and later). Both are read leniently, ours are written strictly.
"""

from __future__ import annotations

import base64
import email.utils
import json
import re
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pipeline.gemini.prices import Usage

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

JSONL = "application/jsonl"  # `.jsonl` has no MIME type in Python, and `jsonl` is refused for some users

_TRANSIENT = frozenset({4, 8, 10, 13, 14, 408, 429}) | frozenset(range(500, 600))
_CANCELLED = frozenset({1, 499})
_REFUSALS = frozenset(
    {
        "SAFETY", "IMAGE_SAFETY", "PROHIBITED_CONTENT", "IMAGE_PROHIBITED_CONTENT", "BLOCKLIST", "RECITATION",
        "IMAGE_RECITATION", "SPII", "MODEL_ARMOR",
    }
)  # fmt: skip


# ------------------------------------------------------------------------------------------------ requests


def request_line(
    wire_key: str, prompt: str, *, images: Iterable[tuple[str, bytes]], aspect: str | None, size: str | None
) -> bytes:
    """One line of a batch's input, newline included.

    `images` are MIME type and bytes, sent after the text in this order; no `aspect` leaves the choice to the
    model, no `size` is for models that have just one.
    """
    parts: list[dict[str, Any]] = [{"text": prompt}]
    for mime, data in images:
        parts.append({"inlineData": {"mimeType": mime, "data": base64.b64encode(data).decode("ascii")}})
    config: dict[str, Any] = {"responseModalities": ["IMAGE"]}
    image = {name: value for name, value in (("aspectRatio", aspect), ("imageSize", size)) if value}
    if image:
        config["imageConfig"] = image
    request = {"contents": [{"role": "user", "parts": parts}], "generationConfig": config}
    # ASCII: no reader can trip over a line separator or a lone surrogate inside a prompt.
    return json.dumps({"key": wire_key, "request": request}, separators=(",", ":")).encode("ascii") + b"\n"


# ------------------------------------------------------------------------------------------------ answers


@dataclass(frozen=True, slots=True)
class Delivered:
    """An answer with at least one image that is no thought: their bytes in order."""

    images: tuple[bytes, ...]
    text: str
    finish_reason: str | None
    usage: Usage | None


@dataclass(frozen=True, slots=True)
class Refused:
    """No image came: `status` is a word of the record language, `reason` the service's own."""

    status: str
    reason: str
    transient: bool = False
    finish_reason: str | None = None
    text: str = ""
    usage: Usage | None = None


Answer = Delivered | Refused


class UnreadableLineError(ValueError):
    """A line of an answer file that is no answer; its text says why."""


def answer(line: bytes) -> tuple[str, Answer]:
    """Read one line of a batch's output: the wire key, and what the service had to say.

    Raises `UnreadableLineError` for what cannot be joined to a request, and nothing else.
    """
    try:
        reply = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise UnreadableLineError(f"no JSON: {type(error).__name__}") from None
    if not isinstance(reply, dict) or not isinstance(reply.get("key"), str):
        raise UnreadableLineError("no object with a key")
    response = reply.get("response")
    candidate = _first(_told(_map(response), "candidates"))
    parts = _list(_told(_map(candidate.get("content")), "parts"))
    usage = _usage(_told(_map(response), "usageMetadata"))
    # The images first: nothing that is odd elsewhere in a line makes a paid image go away.
    images = tuple(image for part in parts if (image := _image(_map(part))) is not None)
    text = "".join(words(part.get("text"), None) for part in map(_map, parts) if not part.get("thought"))
    if images:
        return reply["key"], Delivered(images, text, _word(_told(candidate, "finishReason")), usage)
    trouble = reply.get("error") or reply.get("status")
    if trouble:
        return reply["key"], _failed(trouble, usage)
    if not isinstance(response, dict):
        return reply["key"], Refused("failed", "the service sent neither a response nor an error", transient=True)
    return reply["key"], _without_image(response, candidate, text, usage)


def words(value: Any, longest: int | None = 500) -> str:
    """Text of the service as it can be stored and shown: no lone surrogates, cut where it is too long."""
    text = value if isinstance(value, str) else "" if value is None else str(value)
    return text[:longest].encode("utf-8", "replace").decode().strip() if longest else _storable(text)


def _storable(text: str) -> str:
    return text.encode("utf-8", "replace").decode()


def _word(value: Any) -> str | None:
    return words(value) or None


def _told(mapping: Mapping[str, Any], name: str) -> Any:
    """A field in either spelling, `finishReason` or `finish_reason`."""
    snake = re.sub(r"([A-Z])", lambda found: f"_{found[1].lower()}", name)
    return mapping.get(name, mapping.get(snake))


def _map(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _first(value: Any) -> Mapping[str, Any]:
    return _map(next(iter(_list(value)), None))


def _image(part: Mapping[str, Any]) -> bytes | None:
    """The bytes of an image part that is no thought; `None` for any other part.

    Replies may use either base64 alphabet, with or without padding. What cannot be decoded is an image of no
    bytes: whoever verifies it will say so.
    """
    data = _map(_told(part, "inlineData")).get("data")
    if not data or part.get("thought"):
        return None
    if not isinstance(data, str):
        return b""
    text = "".join(data.split()).translate(_STANDARD).rstrip("=")
    try:
        return base64.b64decode(text + "=" * (-len(text) % 4), validate=True)
    except ValueError:
        return b""


_STANDARD = str.maketrans("-_", "+/")


def _failed(trouble: Any, usage: Usage | None) -> Refused:
    if not isinstance(trouble, dict):
        return Refused("failed", words(trouble), transient=False, usage=usage)
    code = trouble.get("code")
    said = words(trouble.get("message"))
    reason = words(f"code {code}: {said}" if said else f"code {code}")
    if code in _CANCELLED:
        return Refused("cancelled", reason, usage=usage)
    return Refused("failed", reason, transient=isinstance(code, int) and code in _TRANSIENT, usage=usage)


def _without_image(
    response: Mapping[str, Any], candidate: Mapping[str, Any], text: str, usage: Usage | None
) -> Refused:
    feedback = _map(_told(response, "promptFeedback"))
    blocked = _word(_told(feedback, "blockReason"))
    if blocked:
        said = words(_told(feedback, "blockReasonMessage"))
        return Refused("blocked", f"{blocked}: {said}" if said else blocked, usage=usage)
    finish = _word(_told(candidate, "finishReason"))
    said = words(_told(candidate, "finishMessage"))
    reason = f"{finish}: {said}" if said else finish or "the answer has no candidate"
    status = "blocked" if finish in _REFUSALS else "no_image"
    return Refused(status, reason, finish_reason=finish, text=text, usage=usage)


def _usage(told: Any) -> Usage | None:
    if not isinstance(told, dict):
        return None
    image = sum(
        _tokens(_told(detail, "tokenCount"))
        for detail in map(_map, _list(_told(told, "candidatesTokensDetails")))
        if detail.get("modality") == "IMAGE"
    )
    output = _tokens(_told(told, "candidatesTokenCount"))
    return Usage(
        input=_tokens(_told(told, "promptTokenCount")) + _tokens(_told(told, "toolUsePromptTokenCount")),
        output_image=image,
        output_text=max(0, output - image),
        thinking=_tokens(_told(told, "thoughtsTokenCount")),
    )


_MOST_TOKENS = 100_000_000


def _tokens(value: Any) -> int:
    """A count as number or text; what cannot be one counts nothing, because a count is no reason to lose an image."""
    try:
        return min(max(int(value), 0), _MOST_TOKENS)
    except (TypeError, ValueError, OverflowError):
        return 0


# --------------------------------------------------------------------------------------------- operations

_BATCH_NAME = re.compile(r"batches/[a-z0-9][a-z0-9-]{0,100}")
_FILE_NAME = re.compile(r"files/[a-z0-9][a-z0-9-]{0,100}")
_ENDED = frozenset({"SUCCEEDED", "FAILED", "CANCELLED", "EXPIRED", "PARTIALLY_SUCCEEDED"})


@dataclass(frozen=True, slots=True)
class Operation:
    """A batch as the service tells of it."""

    name: str
    display_name: str
    state: str
    """Without the BATCH_STATE_ or JOB_STATE_ prefix; empty when the service named none."""
    ended: bool
    input_file: str | None
    result_file: str | None
    succeeded: int
    """How many requests the service counts as answered; 0 when it does not say."""
    error_code: int | None
    error: str
    created_at: str


def operation(reply: Any) -> Operation | None:
    """Read an operation in either shape, fields at the top or in `metadata`; `None` when it is none."""
    if not isinstance(reply, dict):
        return None
    meta = _map(reply.get("metadata"))
    name = reply.get("name") or meta.get("name")
    if not isinstance(name, str) or not _BATCH_NAME.fullmatch(name):
        return None
    told = {**reply, **{word: value for word, value in meta.items() if value is not None}}
    state = words(told.get("state")).removeprefix("BATCH_STATE_").removeprefix("JOB_STATE_").upper()
    error = _map(reply.get("error"))
    code = error.get("code")
    ended = state in _ENDED or reply.get("done") is True
    if not state and ended:
        state = "FAILED" if error else "SUCCEEDED"
    return Operation(
        name=name,
        display_name=words(_told(told, "displayName")),
        state=state,
        ended=ended,
        input_file=file_name(_told(_map(_told(told, "inputConfig")), "fileName")),
        result_file=_result(reply, told),
        succeeded=_tokens(_told(_map(_told(told, "batchStats")), "successfulRequestCount")),
        error_code=code if isinstance(code, int) else None,
        error=words(error.get("message"), 5000),
        created_at=words(_told(told, "createTime")),
    )


def _result(reply: Mapping[str, Any], told: Mapping[str, Any]) -> str | None:
    for place in (told.get("output"), reply.get("response"), told.get("dest")):
        if found := file_name(_told(_map(place), "responsesFile") or _told(_map(place), "fileName")):
            return found
    return None


def file_name(name: Any) -> str | None:
    """`name`, if it is one of a file at the service."""
    return name if isinstance(name, str) and _FILE_NAME.fullmatch(name) else None


def operations(reply: Any) -> tuple[list[Operation], str]:
    """Read a page of a listing: the batches on it, and the token of the next page, empty on the last.

    Raises `TypeError` for what is no listing.
    """
    if not isinstance(reply, dict):
        raise TypeError("no listing")
    found = [operation(entry) for entry in _list(reply.get("operations"))]
    return [entry for entry in found if entry], words(_told(reply, "nextPageToken"), 5000)


@dataclass(frozen=True, slots=True)
class ServiceFault:
    """What an error answer says: HTTP code, the API's status word, the reason in its details, its message."""

    code: int
    status: str
    reason: str
    message: str
    retry_after_s: float | None


def fault(code: int, body: bytes, retry_after: str | None) -> ServiceFault | None:
    """Read an error answer; `None` when it is not the JSON the API sends, but somebody else's."""
    try:
        reply = json.loads(body)
    except (ValueError, RecursionError):
        return None
    error = _map(_map(_first(reply) if isinstance(reply, list) else reply).get("error"))
    if not error:
        return None
    details = [_map(entry) for entry in _list(error.get("details"))]
    delay = next((words(entry["retryDelay"]) for entry in details if entry.get("retryDelay")), retry_after or "")
    told = error.get("code")
    return ServiceFault(
        code=told if isinstance(told, int) else code,
        status=words(error.get("status")),
        reason=next((words(entry["reason"]) for entry in details if entry.get("reason")), ""),
        message=words(error.get("message"), 5000),
        retry_after_s=_seconds(delay),
    )


def _seconds(delay: str) -> float | None:
    """`12`, `1.5s`, or a date of HTTP as seconds from now."""
    if found := re.fullmatch(r"(\d{1,9}(?:\.\d{1,9})?)s?", delay):
        return float(found[1])
    try:
        return max(0.0, email.utils.parsedate_to_datetime(delay).timestamp() - time.time())
    except (TypeError, ValueError):
        return None
