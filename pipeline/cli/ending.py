"""How a call ended: its exit code, the run's result, and what is said about each job."""

from __future__ import annotations

import json
import os
import shlex
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import click

from pipeline.cli.screen import Screen, age, plural, usd
from pipeline.cli.tables import amount

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from pipeline.cli.money import Call
    from pipeline.cli.options import Options
    from pipeline.journal import Batch
    from pipeline.reconcile import Progress, Work
    from pipeline.rest import Rest

FAILURES = ("failed", "blocked", "no_image", "expired", "cancelled", "check", "invalid", "missing")


@dataclass(slots=True)
class Ended:
    """How a call ended."""

    options: Options
    started: float
    force: bool
    code: int = 1
    of_jobs: dict[str, int] = field(default_factory=dict)
    """The exit code of each job; none where an error or a signal ended the call, which has its own words."""


_ORDER = (1, 7, 6, 5, 75, 4, 3, 0)


def first_code(codes: Iterable[int]) -> int:
    """Of the exit codes of several jobs, the one that counts."""
    return min(codes, key=_ORDER.index, default=0)


class AtRest(NamedTuple):
    """Where a job stands of which nothing is open: a `Progress` that takes no look at the journal."""

    counts: dict[str, int]
    to_send: int = 0
    live: int = 0
    held: int = 0
    at_service: int = 0
    is_finished: bool = True


@dataclass(frozen=True, slots=True)
class End:
    """Where a job stands at the end of a call."""

    job: str
    service: str
    step: Progress | AtRest
    spent: int
    """Millionths of a USD."""
    manifest: Path
    folder: Path
    skipped: int = 0
    next_wave: str = ""
    """What to type for turns that can be sent now."""


def end_of(work: Work, step: Progress) -> End:
    spent = work.journal.batches.spent(work.job.name, work.service)
    return End(
        work.job.name, work.service, step, spent, work.job.path, work.tree.folder.path, work.skipped,
        _next_wave(work, step),
    )  # fmt: skip


def of_rest(rest: Rest, options: Options) -> End:
    step = AtRest(dict(rest.statuses))
    folder = Path(os.path.realpath(options.outputs)) / rest.job
    return End(rest.job, str(options.service), step, rest.spent, Path(rest.manifest), folder)


def code(end: End, call: Call) -> int:
    """The exit code of a job in a call that was not cut short: the first that holds of 6, 5, 4, 3, 0."""
    step = end.step
    if step.held or step.counts.get("held"):
        return 6
    if end.skipped or step.counts.get("skipped"):
        return 5
    waits_for_nothing_new = call.waits and not call.sends
    is_unfinished = bool(step.live) if waits_for_nothing_new else not step.is_finished
    if is_unfinished:
        return 4 if call.waits or call.fail_if_pending else 0
    return 3 if any(step.counts.get(word) for word in FAILURES) else 0


def conclude(work: Work, screen: Screen, ended: Ended, clock: Callable[[], float]) -> None:
    """Publish the output manifest, write the run's result, and say how it ended."""
    from pipeline import reconcile

    reconcile.finish(work)
    end, now = end_of(work, reconcile.progress(work)), clock()
    leave(end, ended, now)
    for batch in reconcile.vanishing(work, now):
        screen.complain(_vanishing(work, batch, now))
    tell(end, screen, ended)


def leave(end: End, ended: Ended, now: float) -> None:
    """Write the run's result."""
    from pipeline.durable import Folder
    from pipeline.record import timestamp

    job, step = end.job, end.step
    result = {
        "schema_version": 1,
        "job": job,
        "service": end.service,
        "started": timestamp(ended.started),
        "ended": timestamp(now),
        "exit_code": ended.code,
        "counts": step.counts,
        "open": step.to_send,
        "batches": step.live,
        "cost": {"amount": amount(end.spent), "currency": "USD"},
    }
    folder = Folder(ended.options.state)
    text = json.dumps(result, indent=1).encode() + b"\n"
    stamp = timestamp(now).replace(":", "")
    for name in (f"runs/{job}/{stamp}.json", f"runs/{job}/last.json"):
        with folder.replacing(name) as stream:
            stream.write(text)


def _vanishing(work: Work, batch: Batch, now: float) -> str:
    """What is paid for and about to be lost, and what to type."""
    left_s = (batch.vanishes_at or now) - now
    when = f"may be gone at the service in {age(left_s)}" if left_s > 0 else "may be gone at the service by now"
    typed = f"`pipeline collect {shlex.quote(shown_path(work.job.path))}`"
    return f"warning: the answer of {batch.remote} is not here, and {when}: {typed} fetches it"


def tell(end: End, screen: Screen, ended: Ended) -> None:
    job, step = end.job, end.step
    words = ", ".join(f"{count:,} {word}" for word, count in sorted(step.counts.items(), key=_order)) or "nothing to do"
    money = f"would cost {usd(end.spent)}" if end.service == "local" else f"{usd(end.spent)} so far"
    hint = end.next_wave or _hint(end, force=ended.force)
    if not ended.options.quiet:
        screen.say(f"{job}: {words} · {money} · {shown_path(end.folder)}")
        if hint:
            screen.say(f"hint: {hint}")
    elif ended.of_jobs.get(job):  # what went well has nothing to say, and an error speaks for itself
        click.echo(f"{job}: {words}{f'; {hint}' if hint else ''}", err=True)


def _order(entry: tuple[str, int]) -> tuple[bool, str]:
    return (entry[0] != "done", entry[0])


def _next_wave(work: Work, step: Progress) -> str:
    """What to type for turns of conversations whose answers from before are here."""
    if work.sends or not step.to_send or step.counts.get("held"):
        return ""
    turns = work.journal.records.next_turns(work.job.name)
    ready = " and ".join(f"turn {turn} of {plural(count, 'conversation')}" for turn, count in turns)
    path = shlex.quote(shown_path(work.job.path))
    return ready and f"{ready} can be sent: `pipeline submit {path}` or `pipeline run {path}` sends it"


def _hint(end: End, *, force: bool) -> str:
    job, step, path = end.job, end.step, shlex.quote(shown_path(end.manifest))
    if step.counts.get("held"):
        listed = f"`pipeline ls items --job {job} --status held`"
        return f"a person must decide about money: {listed} says why, `pipeline retry {path} --only held` buys again"
    if step.at_service:
        again = "this without --force" if force else "the same command again"
        return f"batches are at work: `pipeline collect {path}` or {again} fetches what is ready"
    if step.to_send or step.live:
        return f"some wait to be sent: `pipeline submit {path}` or `pipeline run {path}` sends them"
    if step.counts.get("skipped"):
        return "some did not fit the budget: raise it and run again"
    failed = [word for word in FAILURES if step.counts.get(word)]
    if failed:
        listed = f"`pipeline ls items --job {job} --status {','.join(failed)}`"
        return f"{listed} says why, `pipeline show KEY` what to do next; `pipeline retry {path}` asks again"
    return ""


def shown_path(path: Path) -> str:
    return os.path.relpath(path)
