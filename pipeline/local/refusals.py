"""What the service says when it says no, in the one form all its errors have."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence

_CODES = {  # the name: what HTTP calls it, what google.rpc calls it
    "CANCELLED": (499, 1),
    "INVALID_ARGUMENT": (400, 3),
    "DEADLINE_EXCEEDED": (504, 4),
    "NOT_FOUND": (404, 5),
    "ALREADY_EXISTS": (409, 6),
    "PERMISSION_DENIED": (403, 7),
    "RESOURCE_EXHAUSTED": (429, 8),
    "FAILED_PRECONDITION": (400, 9),
    "INTERNAL": (500, 13),
    "UNAUTHENTICATED": (401, 16),
}


class RefusalError(Exception):
    """A request the service will not do; in a batch, a line that gets an error for an answer."""

    def __init__(self, status: str, message: str, *, details: Sequence[dict[str, Any]] = ()) -> None:
        super().__init__(message)
        self.status = status
        self.http_code, self.rpc_code = _CODES[status]
        self.message = message
        self.details = list(details)

    def as_reply(self) -> dict[str, Any]:
        """The body of an HTTP reply."""
        error: dict[str, Any] = {"code": self.http_code, "message": self.message, "status": self.status}
        return {"error": {**error, "details": self.details} if self.details else error}

    def as_item(self) -> dict[str, Any]:
        """The error of one answer in a batch: a google.rpc number and words, never details."""
        return {"code": self.rpc_code, "message": self.message}


def error_info(reason: str) -> dict[str, Any]:
    """The detail of an error that names its reason for programs."""
    return {
        "@type": "type.googleapis.com/google.rpc.ErrorInfo",
        "reason": reason,
        "domain": "googleapis.com",
        "metadata": {"service": "generativelanguage.googleapis.com"},
    }


def invalid(message: str) -> RefusalError:
    """The refusal for a request that is wrong in itself."""
    return RefusalError("INVALID_ARGUMENT", message)


def no_such_file(file_id: str) -> RefusalError:
    """The refusal for a file that is not there, which the service does not tell from one of somebody else."""
    return RefusalError(
        "PERMISSION_DENIED", f"You do not have permission to access the File {file_id} or it may not exist."
    )
