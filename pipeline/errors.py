"""Every way a run can stop, each with the exit code a script can test for.

    PipelineError        1   (base: never raised itself)
    ├── UsageError       2   the command, the environment or a configuration file is wrong; nothing was sent
    ├── JobError         2   the job, its catalog or a template is wrong; nothing was sent
    ├── UnfinishedError  4   the wait is over, network, rate limit; nothing is lost, run again
    ├── RefusedError     5   over budget, or a confirmation is missing; nothing was sent
    ├── ServiceError     6   a person must act: key, permission, billing, model gone, money to decide on
    ├── LocalError       7   disk full, permissions, a damaged or foreign journal
    └── LockedError     75   another run works on this job

0 is success; 3 means "finished, but some images failed"; 10 is `plan --detailed-exitcode`.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, ClassVar, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Sequence


class PipelineError(Exception):
    """Something the user can act on: a message, and a hint that says what to type next."""

    exit_code: ClassVar[int] = 1

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.hint = hint


class UsageError(PipelineError):
    """The command line, the environment or a configuration file is wrong; nothing was sent."""

    exit_code = 2


class UnfinishedError(PipelineError):
    """Not finished, and running again helps; nothing is lost."""

    exit_code = 4


class RefusedError(PipelineError):
    """Over budget, or a confirmation is missing; nothing was sent."""

    exit_code = 5


class ServiceError(PipelineError):
    """A person must act: key, permission, billing, a model that is gone, money to decide on."""

    exit_code = 6


class LocalError(PipelineError):
    """Trouble on this machine: disk full, permissions, a damaged or foreign journal."""

    exit_code = 7


class LockedError(PipelineError):
    """Another run works on this job."""

    exit_code = 75


class Problem(NamedTuple):
    """One thing wrong in a file a person wrote, at the place where it is wrong."""

    file: str
    """As the user would type it, relative to the current folder where it lies below."""
    line: int
    """From 1; 0 when the whole file is meant."""
    column: int
    """From 1, in characters."""
    message: str
    hint: str = ""
    source: str = ""
    """The text of that line, for the excerpt."""

    def __str__(self) -> str:
        place = ":".join([self.file, *(str(number) for number in (self.line, self.column) if number)])
        return f"{place}: {self.message}"


class JobError(PipelineError):
    """A job, its catalog or a template is wrong: every problem found, sorted; nothing was sent."""

    exit_code = 2

    def __init__(self, problems: Sequence[Problem]) -> None:
        # What is said of a whole file comes after what is said of its lines.
        self.problems = tuple(sorted(problems, key=lambda one: (one.file, one.line or sys.maxsize, one)))
        super().__init__("\n".join(map(str, self.problems)))
