"""One thing that was looked at."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from pipeline.errors import PipelineError


@dataclass(frozen=True, slots=True)
class Check:
    """What was looked at, how it is, and what to do about it."""

    name: str
    status: Literal["ok", "warning", "problem"]
    message: str
    hint: str = ""
    code: int = 0
    """The exit code of a problem: what a run would end with for its sake."""


def ok(name: str, message: str) -> Check:
    return Check(name, "ok", message)


def warning(name: str, message: str, hint: str) -> Check:
    return Check(name, "warning", message, hint)


def problem(name: str, message: str, hint: str, code: int) -> Check:
    return Check(name, "problem", message, hint, code)


def of_error(name: str, error: PipelineError) -> Check:
    """The problem that an error tells of."""
    return problem(name, str(error), error.hint or "mend that, then run doctor again", error.exit_code)
