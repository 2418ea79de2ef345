"""The JSON of the Gemini API: request lines and operations, and, with `answers`, the only place that knows its words.

Facts: the Batch API guide and the v1beta discovery document of August 2026; shapes of real answers were taken from
published captures of finished batches (2026-08-20 and later). What comes is read leniently, ours is written strictly.
"""

from __future__ import annotations

import base64
import datetime as dt
import hashlib
import json
import re
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pipeline.gemini.lenient import as_list, as_map, count, field, first, words

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

JSONL = "application/jsonl"  # `.jsonl` has no MIME type in Python, and `jsonl` is refused for some users


# ------------------------------------------------------------------------------------------------ requests


@dataclass(frozen=True, slots=True)
class Inline:
    """An image that a request brings along."""

    mime: str
    data: bytes


@dataclass(frozen=True, slots=True)
class Linked:
    """An image that a request finds at the service."""

    mime: str
    uri: str


@dataclass(frozen=True, slots=True)
class Said:
    """What a turn of a conversation says: a text, and the images shown with it, which are sent after it."""

    prompt: str
    images: Iterable[Inline | Linked]


def request_line(
    wire_key: str,
    said: Said,
    *,
    earlier: Iterable[tuple[Said, Mapping[str, Any]]] = (),
    settings: Mapping[str, Any],
    names_size: bool = True,
) -> bytes:
    """One line of a batch's input, newline included.

    `earlier` are the turns before, each with the model's own turn as `answers.content` reads it: that goes back as it
    came, with its thought signatures (https://ai.google.dev/gemini-api/docs/thought-signatures). `settings` are those
    of a record, by the words of the job language; what is not among them is not sent. `names_size` is false for a model
    that has just one size.
    """
    contents = [turn for before, answered in earlier for turn in (_user_turn(before), answered)]
    request: dict[str, Any] = {"contents": [*contents, _user_turn(said)]}
    if "system" in settings:
        request["systemInstruction"] = {"parts": [{"text": settings["system"]}]}
    request["generationConfig"] = _generation(settings, names_size=names_size)
    if settings.get("safety"):
        request["safetySettings"] = [
            {"category": f"HARM_CATEGORY_{category.upper()}", "threshold": threshold.upper()}
            for category, threshold in settings["safety"].items()
        ]
    if settings.get("search"):
        request["tools"] = [{"googleSearch": _search(settings["search"])}]
    # ASCII: no reader can trip over a line separator or a lone surrogate inside a prompt.
    return json.dumps({"key": wire_key, "request": request}, separators=(",", ":")).encode("ascii") + b"\n"


_BESIDE = ("systemInstruction", "safetySettings", "tools")


def at_once(line: Mapping[str, Any]) -> tuple[list[Any], dict[str, Any]]:
    """What a line of a request file asks for, as the SDK takes it apart: contents, and all that it calls the config."""
    request = line["request"]
    return request["contents"], request["generationConfig"] | {key: request[key] for key in _BESIDE if key in request}


def answer_line(wire_key: str, body: bytes) -> bytes:
    """The answer to a request that was asked at once, as a line of an answer file."""
    return b'{"key":%b,"response":%b}\n' % (json.dumps(wire_key).encode(), body.translate(None, b"\r\n"))


def error_line(wire_key: str, code: int, message: str) -> bytes:
    """The service's word that it could not answer, as a line of an answer file."""
    return json.dumps({"key": wire_key, "error": {"code": code, "message": message}}).encode() + b"\n"


def is_object(body: bytes) -> bool:
    """Whether an answer is a whole JSON object."""
    try:
        return isinstance(json.loads(body), dict)
    except (ValueError, RecursionError):
        return False


def _user_turn(said: Said) -> dict[str, Any]:
    return {"role": "user", "parts": [{"text": said.prompt}, *map(_image_part, said.images)]}


def _image_part(image: Inline | Linked) -> dict[str, Any]:
    if isinstance(image, Linked):
        return {"fileData": {"mimeType": image.mime, "fileUri": image.uri}}
    return {"inlineData": {"mimeType": image.mime, "data": base64.b64encode(image.data).decode("ascii")}}


_NAMES = {"temperature": "temperature", "top_p": "topP", "seed": "seed", "max_output_tokens": "maxOutputTokens"}


def _generation(settings: Mapping[str, Any], *, names_size: bool) -> dict[str, Any]:
    response = settings.get("response") or ["image"]
    config: dict[str, Any] = {
        "responseModalities": [word.upper() for word in ("text", "image") if word in response],
        **{name: settings[word] for word, name in _NAMES.items() if word in settings},
    }
    frame = {}
    if settings["aspect"] != "auto":
        frame["aspectRatio"] = settings["aspect"]
    if names_size:
        frame["imageSize"] = settings["size"]
    if frame and "image" in response:
        config["imageConfig"] = frame
    thinking: dict[str, Any] = {}
    if "thinking" in settings:
        thinking["thinkingLevel"] = settings["thinking"].upper()
    if settings.get("thoughts"):
        thinking["includeThoughts"] = True
    if thinking:
        config["thinkingConfig"] = thinking
    return config


def _search(places: Iterable[str]) -> dict[str, Any]:
    """The web alone is what a search is without further words."""
    types: dict[str, dict[str, Any]] = {f"{place}Search": {} for place in places}
    return {} if [*types] == ["webSearch"] else {"searchTypes": types}


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
    ended_at: str


def operation(reply: Any) -> Operation | None:
    """Read an operation in either shape, fields at the top or in `metadata`; `None` when it is none."""
    if not isinstance(reply, dict):
        return None
    meta = as_map(reply.get("metadata"))
    name = reply.get("name") or meta.get("name")
    if not isinstance(name, str) or not _BATCH_NAME.fullmatch(name):
        return None
    told = {**reply, **{word: value for word, value in meta.items() if value is not None}}
    state = words(told.get("state")).removeprefix("BATCH_STATE_").removeprefix("JOB_STATE_").upper()
    error = as_map(reply.get("error"))
    code = error.get("code")
    ended = state in _ENDED or reply.get("done") is True
    if not state and ended:
        state = "FAILED" if error else "SUCCEEDED"
    return Operation(
        name=name,
        display_name=words(field(told, "displayName")),
        state=state,
        ended=ended,
        input_file=file_name(field(as_map(field(told, "inputConfig")), "fileName")),
        result_file=_result(reply, told),
        succeeded=count(field(as_map(field(told, "batchStats")), "successfulRequestCount")),
        error_code=code if isinstance(code, int) else None,
        error=words(error.get("message"), 5000),
        created_at=words(field(told, "createTime")),
        ended_at=words(field(told, "endTime")),
    )


def _result(reply: Mapping[str, Any], told: Mapping[str, Any]) -> str | None:
    for place in (told.get("output"), reply.get("response"), told.get("dest")):
        if found := file_name(field(as_map(place), "responsesFile") or field(as_map(place), "fileName")):
            return found
    return None


@dataclass(frozen=True, slots=True)
class RemoteFile:
    """A file at the service, as far as it tells."""

    name: str
    uri: str
    bytes: int | None
    sha256: str | None
    """In hex."""
    state: str
    """PROCESSING, ACTIVE or FAILED."""
    expires_at: float | None
    """By the service's clock; seconds since 1970."""
    created_at: float | None = None
    """By the same clock."""


def remote_file(reply: Any) -> RemoteFile | None:
    """Read what the service says of a file; `None` when it is none."""
    told = as_map(reply)
    name = file_name(told.get("name"))
    if name is None:
        return None
    size = str(field(told, "sizeBytes") or "")
    return RemoteFile(
        name=name,
        uri=words(told.get("uri"), 500) or f"{_FILES}{name}",
        bytes=int(size) if size.isdecimal() else None,
        sha256=_hash(field(told, "sha256Hash")),
        state=words(told.get("state")) or "ACTIVE",
        expires_at=instant(words(field(told, "expirationTime"))),
        created_at=instant(words(field(told, "createTime"))),
    )


def remote_files(reply: Any) -> tuple[list[RemoteFile], str]:
    """Read a page of a listing of files, and the token of the next page, empty on the last.

    Raises `TypeError` for what is no listing.
    """
    found = map(remote_file, _entries(reply, "files"))
    return [entry for entry in found if entry], words(field(reply, "nextPageToken"), 5000)


def _entries(reply: Any, name: str) -> list[Any]:
    """The entries of a page of a listing, which may have none; `TypeError` for what is no page, or not a whole one."""
    entries = reply.get(name) if isinstance(reply, dict) else reply
    known = {name, "nextPageToken", "next_page_token"}
    is_whole = isinstance(reply, dict) and not any(told for word, told in reply.items() if word not in known)
    if not is_whole or not isinstance(entries, list | None):
        raise TypeError("no listing")
    return entries or []


_FILES = "https://generativelanguage.googleapis.com/v1beta/"


def _hash(told: Any) -> str | None:
    """A file's sha256 in hex: the service sends base64 of the hex text, and may send base64 of the bytes."""
    try:
        raw = base64.b64decode(str(told), validate=True)
    except ValueError:
        return None
    if len(raw) == hashlib.sha256().digest_size:
        return raw.hex()
    text = raw.decode("ascii", errors="replace")
    return text if re.fullmatch(r"[0-9a-f]{64}", text) else None


def instant(text: str) -> float | None:
    """A time of the API (UTC, with up to nanoseconds) as seconds since 1970; `None` for what is none."""
    try:
        return dt.datetime.fromisoformat(text[:19]).replace(tzinfo=dt.UTC).timestamp()
    except ValueError:
        return None


def file_name(name: Any) -> str | None:
    """`name`, if it is one of a file at the service."""
    return name if isinstance(name, str) and _FILE_NAME.fullmatch(name) else None


def operations(reply: Any) -> tuple[list[Operation], str]:
    """Read a page of a listing: the batches on it, and the token of the next page, empty on the last.

    Raises `TypeError` for what is no listing, and for one with a batch that may be ours and cannot be told apart.
    """
    found = []
    for entry in _entries(reply, "operations"):
        told = operation(entry)
        if told is not None:
            found.append(told)
        elif not words(as_map(entry).get("name")):
            raise TypeError("a batch without a name")
    return found, words(field(reply, "nextPageToken"), 5000)


@dataclass(frozen=True, slots=True)
class ServiceFault:
    """What an error answer says: HTTP code, the API's status word, the reason in its details, its message."""

    code: int
    status: str
    reason: str
    message: str
    retry_after_s: float | None
    quota: str
    """The quotas that are used up, by the names the service has for them."""


def fault(code: int, body: bytes, retry_after: str | None) -> ServiceFault | None:
    """Read an error answer; `None` when it is not the JSON the API sends, but somebody else's."""
    try:
        reply = json.loads(body)
    except (ValueError, RecursionError):
        return None
    error = as_map(as_map(first(reply) if isinstance(reply, list) else reply).get("error"))
    if not error:
        return None
    details = [as_map(entry) for entry in as_list(error.get("details"))]
    delays = [*(words(entry["retryDelay"]) for entry in details if entry.get("retryDelay")), retry_after or ""]
    told = error.get("code")
    return ServiceFault(
        code=told if isinstance(told, int) else code,
        status=words(error.get("status")),
        reason=next((words(entry["reason"]) for entry in details if entry.get("reason")), ""),
        message=words(error.get("message"), 5000),
        retry_after_s=max((asked for delay in delays if (asked := _seconds(delay)) is not None), default=None),
        quota=" ".join(_quotas(details)),
    )


def _quotas(details: Iterable[Mapping[str, Any]]) -> Iterator[str]:
    for entry in details:
        for violation in map(as_map, as_list(entry.get("violations"))):
            yield from (words(violation.get(name), 500) for name in ("quotaMetric", "quotaId"))


_LONGEST_DELAY_S = 3600.0


def _seconds(delay: str) -> float | None:
    """`12`, `1.5s`, or a date of HTTP as seconds from now; an hour at most, whatever is asked for."""
    if found := re.fullmatch(r"(\d+(?:\.\d+)?)s?", delay[:100]):
        return min(float(found[1]), _LONGEST_DELAY_S)
    import email.utils  # noqa: PLC0415 - few services name a date

    try:
        asked = email.utils.parsedate_to_datetime(delay).timestamp() - time.time()
    except (TypeError, ValueError, OverflowError):
        return None
    return min(max(0.0, asked), _LONGEST_DELAY_S)
