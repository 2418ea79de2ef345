"""A request: one image to ask for, and what it will be called."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from pipeline.job.ask import Ask

if TYPE_CHECKING:
    from collections.abc import Mapping
    from decimal import Decimal

    from pipeline.job.ask import Image
    from pipeline.job.cells import Cell, Turn
    from pipeline.job.problems import Place

MAX_PROMPT = 1_000_000
"""Characters of one prompt."""


@dataclass(frozen=True, slots=True)
class Request:
    """One image to ask for, and what it will be called."""

    key: str
    item: str
    id: str
    sample: int
    turn: int
    path: str
    """Below the job's folder, with `/`, slugged, without an extension."""
    ask: Ask
    fingerprint: str
    template: str | None
    template_sha256: str
    """The version of the template: the sha256 of its file; empty without one."""
    vars: dict[str, str]
    where: str
    """The row it came from: `catalog.csv:12`."""
    price: Decimal | None = None
    """USD for the image alone, in a batch; None where it is not known."""
    keeps: bool = True
    """Whether its image is a result: false for a turn of a conversation that only leads to the next."""
    follows: str = ""
    """The key of the turn it goes on from; empty for what is no later turn of a conversation."""
    max_age_s: float | None = None
    """An image that is older counts as changed."""
    provenance: Mapping[str, Place] = field(default_factory=dict)
    """Where each setting was written, by its word; what nobody wrote is not there."""


class Name(NamedTuple):
    """What a request is called, and what it was made from."""

    key: str
    item: str
    id: str
    path: str
    vars: dict[str, str]
    where: str
    follows: str = ""


class Texts(NamedTuple):
    """What the row, or the turns before, bring to an ask."""

    prompt: str
    system: str | None = None
    images: tuple[Image, ...] = ()
    earlier: tuple[Ask, ...] = ()


def key_of(item: str, cell: Cell, sample: int) -> str:
    """The key of a sample of an item, before any turn."""
    return f"{item}/s{sample}" if cell.samples > 1 else item


def ask_of(cell: Cell, turn: Turn, texts: Texts, *, sample: int, edits_image: bool) -> Ask:
    """The ask of a turn in a cell."""
    return Ask(
        prompt=texts.prompt,
        model=cell.model,
        aspect=turn.aspect,
        size=turn.size,
        images=texts.images,
        sample=sample,
        written=turn.written if texts.system is None else {**turn.written, "system": texts.system},
        edits_image=edits_image,
        turn=turn.number,
        earlier=texts.earlier,
    )


def request_of(name: Name, turn: Turn, ask: Ask) -> Request:
    """The request for an ask under a name."""
    return Request(
        key=name.key,
        item=name.item,
        id=name.id,
        sample=ask.sample,
        turn=turn.number or 1,
        follows=name.follows,
        path=name.path,
        ask=ask,
        fingerprint=ask.fingerprint(),
        template=turn.prompt.name,
        template_sha256=turn.prompt.sha256,
        vars=name.vars,
        where=name.where,
        price=turn.price,
        keeps=turn.keeps,
        max_age_s=turn.max_age_s,
        provenance=turn.provenance,
    )
