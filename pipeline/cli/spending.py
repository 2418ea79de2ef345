"""The commands that send: run, submit, collect, retry, cancel. All of them are the same pass, with other limits."""

from __future__ import annotations

import contextlib
import shlex
import time
from dataclasses import replace
from typing import TYPE_CHECKING

import click

from pipeline.cli import changed, ending, flags, making, noting, opening, resting
from pipeline.cli.ending import FAILURES
from pipeline.cli.money import Call, confirm, gate
from pipeline.cli.pinging import pinging
from pipeline.cli.screen import MICRO, Screen, plural, usd
from pipeline.cli.signals import Interrupted, shielded
from pipeline.errors import PipelineError
from pipeline.seen import now_ns

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from pipeline.cli.opening import OpenJob
    from pipeline.cli.options import Options
    from pipeline.gemini.api import Api
    from pipeline.gemini.models import Models
    from pipeline.job.change import Change
    from pipeline.pixels import PixelChecks
    from pipeline.reconcile import Progress, Run, Work


_RETRIED = (*FAILURES, "skipped")
_SKIPPABLE = (*_RETRIED, "held", "done")
_CANCEL_WAIT_S = 120.0
_SHORTEST_S = 0.02
"""Between two looks: --poll 0 must not keep a processor busy."""


@pinging
@making.leaving
@flags.later
@click.command("run")
@flags.jobs
@flags.wait
@flags.poll
@flags.max_cost
@flags.yes
@flags.force
@click.pass_obj
def run_command(
    options: Options, jobs: Sequence[str], wait: float, poll: float | None, max_cost: int | None, yes: bool, force: bool
) -> int:
    """Render what is missing, and wait for it. Interrupted or killed, the same command goes on."""
    return _work(options, jobs, Call(sends=True, wait_s=wait, poll_s=poll, max_cost=max_cost, yes=yes, force=force))


@pinging
@making.leaving
@flags.later
@click.command("submit")
@flags.jobs
@flags.max_cost
@flags.yes
@flags.pending
@flags.force
@click.pass_obj
def submit_command(
    options: Options, jobs: Sequence[str], max_cost: int | None, yes: bool, fail_if_pending: bool, force: bool
) -> int:
    """One pass: collect what is ready, send what is open, return at once."""
    call = Call(sends=True, wait_s=0, poll_s=None, max_cost=max_cost, yes=yes, waits=False, force=force)
    return _work(options, jobs, replace(call, fail_if_pending=fail_if_pending))


@pinging
@flags.later
@click.command("collect")
@click.argument("jobs", nargs=-1, metavar="[JOB…]")
@flags.pending
@click.option(
    "--recover",
    "recovers",
    is_flag=True,
    help="Look for all that was bought before this journal began: at the service, from other folders too, and here.",
)
@click.pass_obj
def collect_command(options: Options, jobs: Sequence[str], fail_if_pending: bool, recovers: bool) -> int:
    """One pass that sends nothing new.

    With --recover it makes up for a journal that was lost, put back from a backup, or left on another machine. It buys
    nothing, and may be repeated.
    """
    call = Call(sends=False, wait_s=0, poll_s=None, fail_if_pending=fail_if_pending, waits=False, recovers=recovers)
    return _work(options, jobs or [opening.DEFAULT_JOBS], call)


def _statuses(_ctx: click.Context, _param: click.Parameter, text: str) -> frozenset[str]:
    words = frozenset(word.strip() for word in text.split(",") if word.strip())
    if unknown := words - set(_SKIPPABLE):
        raise click.BadParameter(f"{', '.join(sorted(unknown))}: it is a list of {', '.join(_SKIPPABLE)}")
    return words


@pinging
@making.leaving
@flags.later
@click.command("retry")
@flags.jobs
@click.option(
    "--only",
    default=",".join((*FAILURES, "skipped")),
    callback=_statuses,
    metavar="STATUS,…",
    help="Only these (all but held and done).",
)
@flags.other_settings
@flags.wait
@flags.poll
@flags.max_cost
@flags.yes
@click.pass_obj
def retry_command(
    options: Options,
    jobs: Sequence[str],
    only: frozenset[str],
    change: Change | None,
    wait: float,
    poll: float | None,
    max_cost: int | None,
    yes: bool,
) -> int:
    """Open failed images again, whatever their attempts, then go on as `run`."""
    call = Call(sends=True, wait_s=wait, poll_s=poll, max_cost=max_cost, yes=yes, reopened=only, change=change)
    return _work(options, jobs, call)


@flags.later
@click.command("cancel")
@flags.jobs
@flags.yes
@click.pass_obj
def cancel_command(options: Options, jobs: Sequence[str], yes: bool) -> int:
    """Cancel batches, and collect what they still deliver. A running batch may end SUCCEEDED, and billed."""
    call = Call(sends=False, wait_s=_CANCEL_WAIT_S, poll_s=1.0, yes=yes)

    def cancel(run: Run, works: list[Work]) -> None:
        live = [(w, batch) for w in works for batch in w.batches("live") if w.journal.is_from_here(batch)]
        if not live:
            return
        confirm(f"Cancel {plural(len(live), 'batch')}? What they have rendered is billed and collected.", yes=yes)
        for work, batch in live:
            if batch.remote:
                run.api.cancel(batch.remote)
                with work.journal.transaction():
                    work.journal.note(batch.job, "cancel", batch=batch.name)

    return _work(options, jobs, call, before=cancel)


# ------------------------------------------------------------------------------------------- one call


def _tidy(run: Run, works: list[Work]) -> None:
    """Publish what there is, and only then let go of it at the service."""
    from pipeline import reconcile

    for work in works:
        reconcile.finish(work)
        reconcile.tidy(run, work)


def _work(
    options: Options, words: Sequence[str], call: Call, before: Callable[[Run, list[Work]], None] | None = None
) -> int:
    options = opening.decided(options)
    since_ns, marks = now_ns(), making.asked()
    code = _at_rest(options, words, call) if before is None and not marks.are_asked else None
    return _reconciled(options, words, call, before, marks, since_ns) if code is None else code


def _reconciled(
    options: Options, words: Sequence[str], call: Call, before: Callable[[Run, list[Work]], None] | None,
    marks: making.Marks, since_ns: int,
) -> int:  # fmt: skip
    service, started = str(options.service), time.time()
    screen = Screen(options, several=len(words) > 1)
    models = options.models()
    is_plain = before is None and not marks.are_asked
    with _opened(words, options, models, call, marks, since_ns, is_plain=is_plain) as opened:
        _pass_the_gate(options, opened, call, service, models)
        marks.note(options, opened)
        for error in opened.locked:
            screen.complain(f"{error}; {error.hint}")
        works = [_as_work(job, options, call, service) for job in opened.jobs]
        ended = ending.Ended(options, started, call.force)
        try:
            with opening.service(options, screen.say) as api, pixel_checks() as pixels:
                run = run_with(options, api, models, service, screen, pixels, call)
                if before:
                    before(run, works)
                steps = _passes(run, works, call, screen)
                _tidy(run, works)
                for job in opened.jobs if call.recovers else ():
                    _tell_recovered(job, screen)
                codes = [ending.code(ending.end_of(work, step), call) for work, step in zip(works, steps, strict=True)]
                ended.of_jobs = {work.job.name: code for work, code in zip(works, codes, strict=True)}
                ended.code = ending.first_code([*codes, *(error.exit_code for error in opened.locked)])
        except PipelineError as error:
            ended.code = error.exit_code
            raise
        except Interrupted as error:
            ended.code = 128 + error.number
            raise
        finally:
            for work in works:
                ending.conclude(work, screen, ended, time.time)
        if not ended.code and all(step.is_finished for step in steps):
            marks.succeed(options, opened)
        noting.note(options, models, opened.jobs, works)
    return ended.code


@contextlib.contextmanager
def _opened(
    words: Sequence[str], options: Options, models: Models, call: Call, marks: making.Marks, since_ns: int, *,
    is_plain: bool,
) -> Iterator[opening.Opened]:  # fmt: skip
    """Open jobs for a call: with some rows compared where that is enough, else with all of them."""
    is_plain = is_plain and not (call.reopened or call.force or call.recovers)
    with contextlib.ExitStack() as stack:
        opened = stack.enter_context(changed.opened(words, options, since_ns)) if is_plain else None
        yield opened or stack.enter_context(
            opening.opened(
                words, options, models, str(options.service),
                reopened=call.reopened, force=call.force, dependencies=marks.dependencies, change=call.change,
                since_ns=since_ns,
            )
        )  # fmt: skip


def _at_rest(options: Options, words: Sequence[str], call: Call) -> int | None:
    """The exit code of a call that has nothing to do, as everything is as it was; `None` where that is not certain.

    The service is not asked: nothing is open there, and nothing of ours is due to be deleted.
    """
    from pipeline.durable import Folder

    if call.reopened or call.force or call.recovers:
        return None
    started, rests = time.time(), resting.found(words, options, str(options.service))
    if rests is None or not all(resting.is_tidy(rest, options) for rest in rests):
        return None
    with resting.locked(rests, options) as are_unchanged:
        if not are_unchanged:
            return None
        resting.warn(rests, options)
        ends = [ending.of_rest(rest, options) for rest in rests]
        ended = ending.Ended(options, started, call.force, of_jobs={end.job: ending.code(end, call) for end in ends})
        ended.code = ending.first_code(ended.of_jobs.values())
        for end in ends:
            Folder(options.state).below(f"runs/{end.job}").sweep()
            ending.leave(end, ended, time.time())
            ending.tell(end, Screen(options, several=len(words) > 1), ended)
    return ended.code


def _tell_recovered(opened: OpenJob, screen: Screen) -> None:
    """What nothing was found for, and what to type about it."""
    plan, name = opened.compared(), opened.job.name
    path = shlex.quote(ending.shown_path(opened.job.path))
    for key, state, why, *_rest in opened.journal.wanted.not_done():
        if state == "edited":
            screen.say(f"{name}: {key}: {why}")
    if plan.counts["pending"]:
        pending = plural(plan.counts["pending"], "image")
        screen.say(f"{name}: {pending} on the way: `pipeline collect {path}` fetches what is ready")
    free = plan.counts["moved"]
    if free:
        screen.say(f"{name}: {plural(free, 'image')} can be written from what is here: `pipeline run {path}` does it")
    if plan.requests:
        price = f"at least {usd(plan.cost)}" if plan.unpriced else f"about {usd(plan.cost)}"
        lost = plural(plan.requests, "image")
        screen.say(f"{name}: {lost} found nowhere: `pipeline run {path}` buys what is missing for {price}")
    elif not plan.counts["pending"]:
        screen.say(f"{name}: nothing is left to be bought")


def _pass_the_gate(options: Options, opened: opening.Opened, call: Call, service: str, models: Models) -> None:
    if not opened.jobs:
        raise opened.locked[0]
    if call.sends:
        gate(options, opened.jobs, call, service, models)


def pixel_checks() -> PixelChecks:
    from pipeline.pixels import PixelChecks

    return PixelChecks()


def _as_work(job: OpenJob, options: Options, call: Call, service: str) -> Work:
    from pipeline.plan import give_way
    from pipeline.reconcile import Work, apply

    budget = each = None
    if service == "gemini":  # what the local service does costs nothing
        budget, each = (None if usd_ is None else int(usd_ * MICRO) for usd_ in (job.job.budget, job.job.per_image))
    work = Work(
        job.job, job.journal, job.tree, options.state.resolve(), service, budget,
        each=each, sends=call.sends, insists="held" in call.reopened, recovers=call.recovers,
        shown=shlex.quote(ending.shown_path(job.job.path)),
    )  # fmt: skip
    if call.sends:
        with work.journal.transaction():
            if "held" in call.reopened:
                work.journal.batches.give_up_held(work.job.name)
            if call.force:
                give_way(work.journal, work.tree)
            if call.reopened:
                told = call.change.told() if call.change else {}
                work.journal.note(work.job.name, "retry", only=sorted(call.reopened), set=told)
        apply(work, service)
    return work


def run_with(
    options: Options, api: Api, models: Models, service: str, screen: Screen, pixels: PixelChecks, call: Call
) -> Run:
    from pipeline.reconcile import Run

    return Run(
        api=api,
        models=models,
        service=service,
        state=options.state.resolve(),
        clock=time,
        today=options.today,
        concurrent=options.count("PIPELINE_CONCURRENT", 50),
        settle_s=options.seconds("PIPELINE_SETTLE", "15m"),
        patience_s=options.seconds("PIPELINE_PATIENCE", "1h"),
        keep_remote_s=options.seconds("PIPELINE_KEEP_REMOTE", "24h"),
        tell=screen.tell,
        shielded=shielded,
        pixels=pixels,
        max_cost=call.max_cost if service == "gemini" else None,
    )


def _passes(run: Run, works: list[Work], call: Call, screen: Screen) -> list[Progress]:
    from pipeline.reconcile import passes

    poll = max(_SHORTEST_S, call.poll_s) if call.poll_s is not None else (60.0 if run.service == "gemini" else 0.5)
    last: list[Progress] = []
    with screen.progress():
        screen.show("looking at the service …")
        for last in passes(run, works, wait_s=call.wait_s, poll_s=poll):
            screen.show(_line(works, last, run.service))
    return last


def _line(works: list[Work], steps: Sequence[Progress], service: str) -> str:
    counts: dict[str, int] = {}
    for step in steps:
        for word, count in step.counts.items():
            counts[word] = counts.get(word, 0) + count
    spent = sum(work.journal.batches.spent(work.job.name, service) for work in works)
    parts = [
        f"{counts.get('done', 0):,} of {plural(sum(counts.values()), 'image')}",
        plural(sum(counts.get(word, 0) for word in FAILURES), "problem"),
        f"{plural(sum(step.live for step in steps), 'batch')} at work",
        "{age}",
        f"{'would cost ' if service == 'local' else ''}{usd(spent)}",
    ]
    return " · ".join(parts)
