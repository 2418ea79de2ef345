"""What the service's answers mean: the four ends of a create, and the classes of its errors."""

from __future__ import annotations

import re
from dataclasses import dataclass
from http import HTTPStatus
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pipeline.gemini import wire

UNDECIDED = frozenset({408, 499})
"""Timed out, or closed by somebody between: it may have been done."""
_KEY_REASONS = ("API_KEY", "CONSUMER", "SERVICE_DISABLED", "BILLING", "ACCESS_TOKEN")


@dataclass(frozen=True, slots=True)
class Accepted:
    """The service has the batch."""

    batch: wire.Operation


@dataclass(frozen=True, slots=True)
class NotSent:
    """The create never left this machine."""

    reason: str


@dataclass(frozen=True, slots=True)
class Rejected:
    """The service definitely did not take it: `kind` is `rate`, `key`, `file` (input gone) or `bad`."""

    kind: str
    reason: str
    retry_after_s: float | None = None


@dataclass(frozen=True, slots=True)
class Unknown:
    """It may or may not have been created."""

    reason: str


Verdict = Accepted | NotSent | Rejected | Unknown


@dataclass(frozen=True, slots=True)
class Answered:
    """The service has answered one request at once; `body` is its JSON, as it came."""

    body: bytes


@dataclass(frozen=True, slots=True)
class Failed:
    """The service says that it could not answer a request: its HTTP code and its words."""

    code: int
    reason: str


Reply = Answered | Failed | NotSent | Rejected | Unknown
"""What becomes of a request that is asked at once; it is `Rejected` for `rate` and `key` alone."""


def kind(fault: wire.ServiceFault) -> str:
    """The class of an error answer: rate, passing, billing, key, gone, taken or bad. By reason first: codes mislead.

    A missing or foreign file is 403 like a missing permission, and a wrong key is 400 like a wrong field.
    """
    if fault.code == HTTPStatus.TOO_MANY_REQUESTS:
        return "billing" if names_billing(fault) else "rate"
    if fault.code >= HTTPStatus.INTERNAL_SERVER_ERROR or fault.code in UNDECIDED:
        return "passing"
    if names_billing(fault):
        return "billing"
    if names_the_key(fault):
        return "key"
    if fault.code == HTTPStatus.FORBIDDEN:
        return "gone" if "access the File" in fault.message else "key"
    return _BY_CODE.get(fault.code, "bad")


_BY_CODE: dict[int, str] = {HTTPStatus.NOT_FOUND: "gone", HTTPStatus.CONFLICT: "taken"}


NO_PAID_TIER = "the project of the key has no paid tier"
"""What is added to the service's own words, so that they can be told later from a limit that passes."""
_UNPAID = re.compile(r"free[_ -]?tier", re.IGNORECASE)
_NOTHING = re.compile(r"\blimit: 0\b(?![.,]?\d)")


def names_billing(fault: wire.ServiceFault) -> bool:
    """Whether an error answer says that the project has no paid tier.

    There is no free tier for image models: a quota of the free tier, of which there is nothing, never comes back.
    """
    if fault.code == HTTPStatus.TOO_MANY_REQUESTS:
        return bool(_UNPAID.search(f"{fault.message} {fault.quota}") and _NOTHING.search(fault.message))
    is_precondition = fault.status == "FAILED_PRECONDITION" and "billing" in fault.message.lower()
    return is_precondition or fault.reason.startswith("BILLING")


def names_the_key(fault: wire.ServiceFault) -> bool:
    """Whether an error answer says that the key, its project or its billing is the trouble."""
    named = fault.reason.startswith(_KEY_REASONS) or "API key" in fault.message
    return named or fault.code == HTTPStatus.UNAUTHORIZED
