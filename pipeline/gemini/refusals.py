"""Why an answer is not what was asked for: every word and code the service has for it, and the status it becomes.

    error (or status) of a line   its code: cancelled, or failed, which is asked again only where that may help
    promptFeedback.blockReason    blocked: the prompt, or an image that was sent along
    finishReason                  blocked for what sounds like a refusal, known or not; failed for a conversation that
                                  went back without its signatures; no_image for everything else
    none of them                  failed: the service sent neither a response nor an error

An image that came all the same counts, whatever the words beside it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pipeline.gemini.lenient import as_list, as_map, field, word, words

if TYPE_CHECKING:
    from collections.abc import Mapping

_TRANSIENT = frozenset({4, 8, 10, 13, 14, 408, 429}) | frozenset(range(500, 600))
_CANCELLED = frozenset({1, 499})
_FORBIDDEN = frozenset({7, 403})
_CODES = (
    "OK", "CANCELLED", "UNKNOWN", "INVALID_ARGUMENT", "DEADLINE_EXCEEDED", "NOT_FOUND", "ALREADY_EXISTS",
    "PERMISSION_DENIED", "RESOURCE_EXHAUSTED", "FAILED_PRECONDITION", "ABORTED", "OUT_OF_RANGE", "UNIMPLEMENTED",
    "INTERNAL", "UNAVAILABLE", "DATA_LOSS", "UNAUTHENTICATED",
)  # fmt: skip
"""The names of google.rpc, each at the place that is its code."""
_SOUNDS_LIKE_A_REFUSAL = re.compile(
    r"(?:^|_)(?:SAFETY|UNSAFE|PROHIBITED|BLOCKLIST|BLOCKED|RECITATION|SPII|ARMOR|JAILBREAK|POLICY|ESCALATION|PUP)(?:_|$)"
)
"""A refusal is never asked again by itself; so a word nobody knows yet is one, where it is made like the known ones."""
_WITHOUT_SIGNATURE = "MISSING_THOUGHT_SIGNATURE"
_SIGNATURE_HINT = "an earlier turn went back without its signature; buy that turn again: --force --select key:…"


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why an answer is not what was asked for: `status` is a word of the record language, `reason` the service's."""

    status: str
    reason: str
    transient: bool = False


def refusal(reply: Mapping[str, Any], candidate: Mapping[str, Any]) -> Refusal:
    """Why there is no image in a reply, of which this is the candidate that counts."""
    trouble = _trouble(reply)
    if trouble is not None:
        return _failed(trouble)
    response = reply.get("response")
    if not isinstance(response, dict):
        return Refusal("failed", "the service sent neither a response nor an error", transient=True)
    feedback = as_map(field(response, "promptFeedback"))
    blocked = word(field(feedback, "blockReason"))
    if blocked:
        return Refusal("blocked", _said(blocked, feedback, "blockReasonMessage"))
    finish = word(field(candidate, "finishReason"))
    reason = _said(finish or "the answer has no candidate", candidate, "finishMessage")
    if finish == _WITHOUT_SIGNATURE:
        return Refusal("failed", f"{reason}: {_SIGNATURE_HINT}")
    return Refusal("blocked" if _is_refusal(finish) else "no_image", reason)


def _is_refusal(finish: str | None) -> bool:
    """Whether a finishReason says that something was withheld, rather than that nothing came of it."""
    return bool(finish and _SOUNDS_LIKE_A_REFUSAL.search(finish))


def _said(told: str, place: Mapping[str, Any], message: str) -> str:
    """The service's word, the categories it names as the cause, and its sentence."""
    ratings = map(as_map, as_list(field(place, "safetyRatings")))
    causes = [words(rating.get("category")) for rating in ratings if rating.get("blocked") is True]
    named = f" ({', '.join(cause.removeprefix('HARM_CATEGORY_').lower() for cause in causes)})" if causes else ""
    sentence = words(field(place, message))
    return f"{told}{named}: {sentence}" if sentence else f"{told}{named}"


def _trouble(reply: Mapping[str, Any]) -> Any:
    """What stands in place of a response: `error`, or `status`, unless that says that all is well."""
    for name in ("error", "status"):
        told = reply.get(name)
        is_well = _code(told) == 0 if isinstance(told, dict) else words(told).upper() == _CODES[0]
        if told and not is_well:
            return told
    return None


def _failed(trouble: Any) -> Refusal:
    if not isinstance(trouble, dict):
        return Refusal("failed", words(trouble))
    code, said = _code(trouble), words(trouble.get("message"))
    told = word(trouble.get("code")) or word(trouble.get("status"))
    named = f"code {told}" if told else "an error without a code"
    reason = words(f"{named}: {said}" if said else named)
    if code is None:
        return Refusal("failed", reason)
    # A file that went away meanwhile is no fault of the request: it is uploaded again.
    transient = code in _TRANSIENT or (code in _FORBIDDEN and "access the File" in said)
    return Refusal("cancelled", reason) if code in _CANCELLED else Refusal("failed", reason, transient)


def _code(trouble: Mapping[str, Any]) -> int | None:
    """The code of an error, of google.rpc or of HTTP: a number, its text, or its name."""
    for told in (trouble.get("code"), trouble.get("status")):
        if isinstance(told, int | float) and not isinstance(told, bool):
            return int(told) if abs(told) < 1000 else None  # noqa: PLR2004 - no code is larger
        text = words(told).upper()
        if re.fullmatch(r"[0-9]{1,3}", text):
            return int(text)
        if text in _CODES:
            return _CODES.index(text)
    return None
