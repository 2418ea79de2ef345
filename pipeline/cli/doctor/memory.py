"""What the journal says, and whether it can be believed."""

from __future__ import annotations

import contextlib
import time
from typing import TYPE_CHECKING

from pipeline import journal as journals
from pipeline.cli.doctor.check import Check, of_error, ok, problem, warning
from pipeline.cli.screen import age, plural
from pipeline.errors import PipelineError
from pipeline.journal.batches import UNFINISHED

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pipeline.cli.options import Options
    from pipeline.journal import Batch, Journal

_LATE_S = 24 * 3600.0
"""Answers are kept for two days at least; after one of them it is time to fetch them."""


def journal(options: Options) -> Check:
    """Whether the journal is whole, of this version, and belongs here."""
    path = options.state / "journal.db"
    if not journals.is_there(options.state):
        return ok("journal", f"none in {options.state} yet")
    try:
        with journals.opened(options.state, outputs=options.outputs) as found:
            damage = found.damage()
            count = len(found.jobs())
    except PipelineError as error:
        return of_error("journal", error)
    if damage:
        hint = "move it away and run again: it is rebuilt from the output manifests and from what the service holds"
        return problem("journal", f"{path} is damaged: {damage[0]}", hint, 7)
    return ok("journal", f"{path} is whole, and knows {plural(count, 'job')}")


@contextlib.contextmanager
def opened(options: Options) -> Iterator[Journal | None]:
    """The journal that `journal` found whole; `None` where there is none yet."""
    if journals.is_there(options.state):
        with journals.opened(options.state, outputs=options.outputs) as found:
            yield found
    else:
        yield None


def batches(found: Journal, service: str) -> Check:
    """What is on its way, and what must be fetched before it vanishes."""
    now = time.time()
    open_ones = [*found.leftovers.unsettled(service)]
    late = [one for one in open_ones if one.state == "ended" and one.ended_at and now - one.ended_at > _LATE_S]
    if late:
        return warning("batches", "; ".join(_late(late, now)), "`pipeline collect` now: the service may delete them")
    held = sum(one.state == "held" for one in open_ones)
    if held:
        hint = "`pipeline ls items --status held` says why, `pipeline retry --only held` buys again"
        return warning("batches", f"{plural(held, 'batch')} held: a person must decide", hint)
    at_work = sum(one.state in UNFINISHED for one in open_ones)
    return ok("batches", f"{plural(at_work, 'batch')} at work or to be fetched" if at_work else "none at work")


def _late(batches: list[Batch], now: float) -> Iterator[str]:
    for one in batches:
        yield f"{one.remote or one.name} ended {age(now - (one.ended_at or now))} ago, and its answer is not here"


def awaited_bytes(found: Journal) -> int:
    """How large the answers will be that are still to come, in bytes."""
    return found.batches.expected_bytes("gemini") + found.batches.expected_bytes("local")


def held_bytes(found: Journal, service: str) -> tuple[int, int]:
    """What the service keeps of ours by the journal, in bytes: answers and request files, and reference images."""
    now = time.time()
    return found.batches.held_bytes(service, now), sum(one.bytes for one in found.uploads.alive(service, now))
