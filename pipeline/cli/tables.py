"""Tables for people: the plan, the status, lists. Plain text, so that a pipe reads the same as a terminal."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import click

from pipeline.cli.screen import MICRO, megabytes, plural, usd

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from datetime import date

    from pipeline.gemini.models import Models
    from pipeline.gemini.prices import Lane
    from pipeline.plan import Plan

# https://github.com/googleapis/python-genai/issues/2495: two days after a batch of four million tokens was cancelled
# and deleted, these were still shown as taken of the quota. When they are given back is written nowhere.
STAY = "may stay counted against the project's limit until the service lets go of them"
_SAID = {
    "new": "new",
    "changed": "changed",
    "done": "done",
    "pending": "on their way",
    "moved": "moved (free)",
    "edited": "edited by somebody (left alone)",
    "failed": "failed before (not asked again)",
    "gone": "no longer asked for (kept)",
}


def columns(rows: Sequence[Sequence[str]], *, right: Sequence[int] = ()) -> str:
    """Rows as aligned columns, two spaces apart; the columns in `right` end at the same place."""
    widths = [max(len(row[place]) for row in rows) for place in range(len(rows[0]))]
    lines = []
    for row in rows:
        cells = [
            cell.rjust(width) if place in right else cell.ljust(width)
            for place, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        lines.append("  ".join(cells).rstrip())
    return "\n".join(lines)


def plan_table(plan: Plan, models: Models, today: date, service: str, lane: Lane = "batch") -> str:
    """What a run, or a proof, would render, for somebody who pays for it."""
    if not plan.requests:
        return idle_table(plan, lane)
    lines = [_states(plan.job, plan.counts)]
    rows = [["", "images", "model", "aspect", "size", "with", "each", "total"]]
    for total in plan.totals:
        each = total.cost // total.requests if not total.unpriced else None
        cost = None if total.unpriced else total.cost
        what = (total.model_id, total.aspect, total.size, total.extras)
        rows.append(["", f"{total.requests:,}", *what, usd(each), usd(cost)])
    rows.append(["", f"{plan.requests:,}", "together", "", "", "", "", usd(None if plan.unpriced else plan.cost)])
    if not any(total.extras for total in plan.totals):
        rows = [[*row[:5], *row[6:]] for row in rows]
    lines.append(columns(rows, right=(1, len(rows[0]) - 2, len(rows[0]) - 1)))
    lines += _waves(plan, lane)
    lines.append(_small_print(plan, models, today, service, lane))
    return "\n".join([*lines, *_ahead(plan, lane), *_later(plan, lane)])


def idle_table(plan: Plan, lane: Lane = "batch") -> str:
    """The same for a plan of which nothing would be bought."""
    return "\n".join([rest_table(plan.job, plan.counts), *_later(plan, lane)])


def rest_table(job: str, counts: Mapping[str, int]) -> str:
    """The same for a job at rest, by how many of its requests are in which state."""
    return f"{_states(job, counts)}\n  nothing to buy"


def _states(job: str, counts: Mapping[str, int]) -> str:
    states = [f"{counts[word]:,} {said}" for word, said in _SAID.items() if counts.get(word)]
    return f"{job}: {', '.join(states) or 'nothing asked for'}"


def _ahead(plan: Plan, lane: Lane) -> Iterator[str]:
    for model_id, first in plan.alone.items() if lane == "batch" else ():
        who = f"the first {first} go" if first > 1 else "the first one goes"
        yield f"  {who} ahead alone: {model_id} has not delivered here yet"


def _later(plan: Plan, lane: Lane) -> Iterator[str]:
    if lane == "batch" and (plan.requests or plan.counts["pending"]) and (words := when_stuck(plan)):
        yield f"  {words}"
        yield f"  enqueued tokens of a cancelled batch {STAY}"


def when_stuck(plan: Plan) -> str:
    """What becomes of a batch that takes too long, and what that costs besides; empty where it is waited for."""
    from pipeline.plan import duration

    stuck = plan.stuck
    if stuck.on_stuck == "wait":
        return ""
    what = "asked for once more by batch" if stuck.asks_again else "not asked for again"
    if stuck.asks_singly:
        price = "at an unknown price" if stuck.upper_bound is None else f"up to {usd(stuck.upper_bound)}"
        what = f"asked one by one at the standard price, {price}"
    return f"batches that are not back after {duration(stuck.deadline_s)} are cancelled, and what is missing is {what}"


_WORTH_TELLING = 100_000
"""Bytes of a wave; the words of a few prompts are not."""
_WAVE_S = 86_400.0
"""What the service aims at for a batch; most are back much sooner. (https://ai.google.dev/gemini-api/docs/batch-api)"""


def _waves(plan: Plan, lane: Lane) -> Iterator[str]:
    """What is sent one after the other, for a plan with conversations; the history that goes along is in the price."""
    if plan.waves < 2:  # noqa: PLR2004 - there is nothing to wait for in between
        return
    for wave in plan.by_wave:
        turns = str(wave.first_turn) if wave.first_turn == wave.last_turn else f"{wave.first_turn}-{wave.last_turn}"
        sent = f", {megabytes(wave.input_bytes)} sent" if wave.input_bytes >= _WORTH_TELLING else ""
        cost = usd(None if plan.unpriced else wave.cost)
        yield f"  wave {wave.number}: turn {turns}, {plural(wave.requests, 'request')}{sent}, {cost}"
    if lane == "batch":
        longest = plural(round(longest_s(plan) / _WAVE_S), "day")
        yield f"  a wave is sent when the one before is back: {longest} if each takes the day it may, mostly much less"


def longest_s(plan: Plan) -> float:
    """How long a plan takes, in seconds, if each batch takes as long as the service says that it may.

    Waves come one after the other, and the first requests for a new model before all of them.
    """
    return (plan.waves + bool(plan.alone)) * _WAVE_S


def _small_print(plan: Plan, models: Models, today: date, service: str, lane: Lane) -> str:
    words = "on the local service this costs nothing; " if service == "local" else ""
    priced = [models.find(total.model_id) for total in plan.totals]
    prices = [price for model in priced if model and (price := model.price(today))]
    since = max((price.since.isoformat() for price in prices), default="unknown")
    inferred = ", partly inferred" if any(price.inferred for price in prices) else ""
    waves = f" in {plan.waves} waves, one after the other" if plan.waves > 1 else ""
    how = f"{plural(plan.batches, 'batch')}{waves}" if lane == "batch" else "one by one, now"
    return (
        f"  {how}; {words}{'batch' if lane == 'batch' else 'standard'} prices of {since}{inferred}, USD, "
        f"at most {usd(plan.upper_bound)} without retries"
    )


def amount(micro: int | None) -> str | None:
    """Millionths of a USD as the decimal text of JSON documents."""
    return None if micro is None else format((Decimal(micro) / MICRO).normalize(), "f")


def print_json(document: Any) -> None:
    document = {"schema_version": 1, **document}
    text = json.dumps(document, ensure_ascii=False, indent=1)
    try:
        text.encode()
    except UnicodeEncodeError:  # the name of a file need not be text
        text = json.dumps(document, indent=1)
    click.echo(text)
