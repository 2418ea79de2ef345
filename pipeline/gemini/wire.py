"""The JSON of the Gemini API: request lines, answer lines and operations. The only module that knows its words.

Facts: the Batch API guide and the v1beta discovery document of August 2026; shapes of real answers were taken from
published captures of finished batches (2026-08-20 and later). Both are read leniently, ours are written strictly.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
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
    try:
        return reply["key"], _outcome(reply)
    except (AttributeError, LookupError, TypeError, ValueError) as error:
        return reply["key"], Refused("invalid", f"the answer has an unknown shape ({type(error).__name__})")


def _outcome(reply: Mapping[str, Any]) -> Answer:
    response = reply.get("response")
    trouble = reply.get("error") or reply.get("status")
    candidate: Mapping[str, Any] = {}
    parts: list[Any] = []
    if isinstance(response, dict):
        candidate = (response.get("candidates") or [{}])[0] or {}
        parts = (candidate.get("content") or {}).get("parts") or []
    images = [_decoded(part) for part in parts if _inline(part) and not part.get("thought")]
    text = "".join(str(part.get("text") or "") for part in parts if isinstance(part, dict) and not part.get("thought"))
    usage = _usage((response or {}).get("usageMetadata")) if isinstance(response, dict) else None
    if images:  # an error beside an image does not make a paid image go away
        return Delivered(tuple(images), text, candidate.get("finishReason"), usage)
    if trouble:
        return _failed(trouble, usage)
    if not isinstance(response, dict):
        return Refused("failed", "the service sent neither a response nor an error", transient=True)
    return _without_image(response, candidate, text, usage)


def _inline(part: Any) -> Mapping[str, Any] | None:
    if not isinstance(part, dict):
        return None
    data = part.get("inlineData") or part.get("inline_data")
    return data if isinstance(data, dict) and data.get("data") else None


def _decoded(part: Any) -> bytes:
    """The bytes of an inline part; replies may use either alphabet, with or without padding."""
    text = (_inline(part) or {})["data"].translate(_STANDARD).rstrip("=")
    try:
        return base64.b64decode(text + "=" * (-len(text) % 4), validate=True)
    except binascii.Error:
        return b""  # no image has no bytes: whoever verifies it will say so


_STANDARD = str.maketrans("-_", "+/", "\r\n ")


def _failed(trouble: Any, usage: Usage | None) -> Refused:
    if not isinstance(trouble, dict):
        return Refused("failed", str(trouble)[:500], transient=False, usage=usage)
    code = trouble.get("code")
    words = str(trouble.get("message") or "").strip()[:500]
    reason = f"code {code}: {words}" if words else f"code {code}"
    if code in _CANCELLED:
        return Refused("cancelled", reason, usage=usage)
    return Refused("failed", reason, transient=code in _TRANSIENT, usage=usage)


def _without_image(
    response: Mapping[str, Any], candidate: Mapping[str, Any], text: str, usage: Usage | None
) -> Refused:
    blocked = (response.get("promptFeedback") or {}).get("blockReason")
    if blocked:
        words = (response.get("promptFeedback") or {}).get("blockReasonMessage")
        return Refused("blocked", f"{blocked}: {words}" if words else str(blocked), usage=usage)
    finish = candidate.get("finishReason")
    words = candidate.get("finishMessage")
    reason = f"{finish}: {words}" if words else str(finish or "no candidate")
    status = "blocked" if finish in _REFUSALS else "no_image"
    return Refused(status, reason, finish_reason=finish, text=text, usage=usage)


def _usage(meta: Any) -> Usage | None:
    if not isinstance(meta, dict):
        return None
    details = meta.get("candidatesTokensDetails") or []
    image = sum(int(d.get("tokenCount") or 0) for d in details if d.get("modality") == "IMAGE")
    output = int(meta.get("candidatesTokenCount") or 0)
    return Usage(
        input=int(meta.get("promptTokenCount") or 0) + int(meta.get("toolUsePromptTokenCount") or 0),
        output_image=image,
        output_text=max(0, output - image),
        thinking=int(meta.get("thoughtsTokenCount") or 0),
    )


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
    state = str(told.get("state") or "").removeprefix("BATCH_STATE_").removeprefix("JOB_STATE_").upper()
    error = _map(reply.get("error"))
    config = _map(told.get("inputConfig") or told.get("input_config"))
    code = error.get("code")
    ended = state in _ENDED or bool(reply.get("done"))
    if not state and ended:
        state = "FAILED" if error else "SUCCEEDED"
    return Operation(
        name=name,
        display_name=str(told.get("displayName") or told.get("display_name") or ""),
        state=state,
        ended=ended,
        input_file=_file(config.get("fileName") or config.get("file_name")),
        result_file=_result(reply, told),
        error_code=code if isinstance(code, int) else None,
        error=str(error.get("message") or "")[:500],
        created_at=str(told.get("createTime") or ""),
    )


def _map(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def _result(reply: Mapping[str, Any], told: Mapping[str, Any]) -> str | None:
    for place in (told.get("output"), reply.get("response"), told.get("dest")):
        if isinstance(place, dict):
            name = place.get("responsesFile") or place.get("responses_file") or place.get("fileName")
            if found := _file(name):
                return found
    return None


def _file(name: Any) -> str | None:
    return name if isinstance(name, str) and _FILE_NAME.fullmatch(name) else None


def operations(reply: Any) -> tuple[list[Operation], str]:
    """Read a page of a listing: the batches on it, and the token of the next page, empty on the last."""
    if not isinstance(reply, dict):
        raise TypeError("no listing")
    found = [operation(entry) for entry in reply.get("operations") or []]
    return [entry for entry in found if entry], str(reply.get("nextPageToken") or "")


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
        if isinstance(reply, list):
            reply = reply[0]
        error = reply["error"]
        details = [entry for entry in error.get("details") or [] if isinstance(entry, dict)]
        reason = next((str(entry["reason"]) for entry in details if entry.get("reason")), "")
        delay = next((str(entry["retryDelay"]) for entry in details if entry.get("retryDelay")), retry_after)
        seconds = re.fullmatch(r"(\d+(?:\.\d+)?)s?", delay or "")
        return ServiceFault(
            code=int(error.get("code") or code),
            status=str(error.get("status") or ""),
            reason=reason,
            message=str(error.get("message") or "")[:500],
            retry_after_s=float(seconds[1]) if seconds else None,
        )
    except (AttributeError, LookupError, TypeError, ValueError, RecursionError):
        return None
