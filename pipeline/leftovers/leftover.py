"""One thing that is of no more use."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class Leftover:
    """What would be done, with what, and how many bytes that is."""

    verb: Literal["retire", "delete", "leave"]
    name: str
    """A path below the job folder (`retire`, `leave`) or the state folder, or a name at the service."""
    bytes: int
    why: str = ""
    """Of one that is left where it is."""
