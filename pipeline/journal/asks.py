"""Requests of a job as they are wanted, compared with their records, classified, and added up."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple


class WantedRequest(NamedTuple):
    """A request of the job as it is now."""

    key: str
    turn: int
    follows: str
    """The key of the turn it goes on from; empty where there is none."""
    fingerprint: str
    wire_key: str
    model_id: str
    aspect: str
    """This and the next are empty where words alone are asked for."""
    size: str
    extras: str
    """What else the price depends on, for people: `text`, `search`."""
    path: str
    """Empty where the image is not kept."""
    cost: int | None
    upper_bound: int | None
    answer_bytes: int
    input_bytes: int
    images: str
    """The sha256 and the bytes of each reference image it shows, as JSON; empty where there is none."""
    max_age_s: float | None
    line: str
    late_cost: int | None = None
    """What it costs if its batch never comes home and it is asked for one by one; `None` where that is not done."""
    late_bound: int | None = None


class Comparison(NamedTuple):
    """A wanted request beside the record of the same key and fingerprint, where there is one."""

    n: int
    key: str
    fingerprint: str
    path: str
    max_age_s: float | None
    line: str
    status: str | None
    place: str | None
    record_path: str | None
    record_line: str | None
    service: str | None
    batch: int | None
    attempts: int | None
    reopened: int | None
    transient: int | None
    expiries: int | None
    claim: str | None


class Classified(NamedTuple):
    """What a wanted request is, why, and whether it would be bought."""

    n: int
    state: str
    why: str
    open: bool = False
    moved_from: str | None = None
    """The key whose record it takes over, its own where only the path differs; before it is bought, if it is."""
    anew: bool = False
    """Its retries are counted from here on: it was delivered before, or a person asks."""


@dataclass(frozen=True, slots=True)
class Link:
    """A turn of a conversation, as it was classified."""

    n: int
    key: str
    follows: str
    turn: int
    fingerprint: str
    state: str
    why: str
    open: int
    anew: int
    waits_for: str | None = None
    wave: int = 1

    @property
    def is_coming(self) -> bool:
        """Whether there will be an answer: it would be bought, or is on its way."""
        return bool(self.open) or self.state == "pending"


@dataclass(frozen=True, slots=True)
class Total:
    """Some requests added up; money in millionths of a USD, `unpriced` of them without a known price."""

    model_id: str
    aspect: str
    size: str
    extras: str
    requests: int
    cost: int
    upper_bound: int
    unpriced: int
    input_bytes: int
    answer_bytes: int


@dataclass(frozen=True, slots=True)
class Load:
    """What would be bought of one model in one wave; money in millionths of a USD."""

    model_id: str
    wave: int
    singly: int
    """1 for what is asked for one by one, and is in no batch."""
    requests: int
    cost: int
    upper_bound: int
    answer_bytes: int
    input_bytes: int
    first_turn: int
    last_turn: int


@dataclass(frozen=True, slots=True)
class Candidate:
    """A request that would be bought, as far as it matters for which of them are looked at first."""

    n: int
    id: str
    template: str
    cell: str
    """The values of the axes of its matrix."""
    sample: int
    model: str
    """With aspect and size."""
