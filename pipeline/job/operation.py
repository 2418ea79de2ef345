"""How a job is carried out: retries, batches, checks; read from a manifest that fits the schema."""

from __future__ import annotations

import re
from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from pipeline.job import settings
from pipeline.job.yaml12 import Map

if TYPE_CHECKING:
    from collections.abc import Mapping

_RETRIED = frozenset({"failed", "no_image", "expired", "missing", "invalid"})
_DECIMAL = re.compile(r"[+-]?[0-9]+(\.[0-9]*)?([eE][+-]?[0-9]+)?")
_SIZES = {"MB": 1_000_000, "GB": 1_000_000_000}


@dataclass(frozen=True, slots=True)
class Retry:
    """How often an image that did not come is asked for again, and after which outcomes."""

    again: int = 2
    on: frozenset[str] = _RETRIED


@dataclass(frozen=True, slots=True)
class Batch:
    """How large a batch may be, and how old."""

    max_requests: int = 2000
    max_answer_bytes: int = 1_000_000_000
    max_input_bytes: int = 1_900_000_000
    deadline_s: float = 86_400.0
    on_stuck: str = "wait"

    @property
    def asks_singly(self) -> bool:
        """Whether what a batch does not bring in time is asked for one by one."""
        return self.on_stuck == "interactive"


@dataclass(frozen=True, slots=True)
class Checks:
    """How closely an image is looked at."""

    decode: bool = True
    aspect_tolerance: float = 0.03
    not_blank: bool = True


def retry(written: Any) -> Retry:
    if isinstance(written, int):
        return Retry(again=written)
    if written is None:
        return Retry()
    return Retry(written.get("again", 2), frozenset(written.get("on", _RETRIED)))


def budget(manifest: Map, word: str) -> Decimal | None:
    node = manifest.nodes.get("budget")
    if node is not None and isinstance(node.value, Map):
        node = node.value.nodes.get(word)
    elif word != "max":
        node = None
    if node is None:
        return None
    # As written, so that 0.1 is a tenth; 0x10 and 0o17 are numbers of YAML, too.
    text = node.text or ""
    return Decimal(text if _DECIMAL.fullmatch(text) else str(node.value))


def batch(written: Mapping[str, Any]) -> Batch:
    batch = Batch()
    most = written.get("max_bytes", batch.max_answer_bytes)
    if isinstance(most, str):
        most = int(Decimal(most[:-2]) * _SIZES[most[-2:]])
    deadline = written.get("deadline", "24h")
    return Batch(
        max_requests=written.get("max_requests", batch.max_requests),
        max_answer_bytes=most,
        max_input_bytes=min(most, batch.max_input_bytes) if "max_bytes" in written else batch.max_input_bytes,
        deadline_s=settings.seconds(deadline),
        on_stuck=written.get("on_stuck", batch.on_stuck),
    )


def checks(written: Mapping[str, Any]) -> Checks:
    tolerance = written.get("aspect_tolerance", 0.03)
    share = float(Decimal(tolerance.rstrip("% ")) / 100) if isinstance(tolerance, str) else float(tolerance)
    return Checks(written.get("decode", True), share, written.get("not_blank", True))
