"""The command that takes away what is of no more use: it lists, and with --yes it does."""

from __future__ import annotations

import contextlib
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import click

from pipeline.cli import opening
from pipeline.cli.options import duration
from pipeline.cli.screen import megabytes
from pipeline.errors import LockedError, PipelineError, UnfinishedError
from pipeline.job.problems import escaped, shortened

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from pipeline.cli.opening import OpenJob
    from pipeline.cli.options import Options
    from pipeline.leftovers import Holdings, Leftover, Service
    from pipeline.reconcile import Work


def _age(_ctx: click.Context, _param: click.Parameter, text: str) -> float:
    return duration(text, "--older-than")


@click.command("clean")
@click.argument("jobs", nargs=-1, metavar="[JOB…]")
@click.option("--yes", is_flag=True, help="Do it; without this, it is only listed.")
@click.option(
    "--older-than",
    "age_s",
    default="30d",
    callback=_age,
    metavar="TIME",
    help="How long a file of the state must have lain there to be deleted (30d).",
)
@click.pass_obj
def clean_command(options: Options, jobs: Sequence[str], yes: bool, age_s: float) -> int:
    """Retire images nobody asks for, delete old files of the state, and what we left at the service.

    What is retired comes back for nothing as long as it is there, and what a wanted image may have to be written from
    stays. Without --yes it is only listed.
    """
    said = _Said(options)
    service = options.expected_service()
    with opening.opened(jobs, options, options.models(), service, default=True, must_lock=yes) as opened:
        if not opened.jobs:
            raise opened.locked[0]
        for error in opened.locked:
            said.note(error)
        before = time.time() - age_s
        for one in opened.jobs:
            said.files(one, before)
        with _at_service(options, opened.jobs, said, locks=yes) as remote:
            if remote is not None:
                said.remote(remote)
            if yes:
                for one in opened.jobs:
                    _clear(options, one, before)
                if remote is not None:
                    _clear_remote(remote, said)
    said.conclude(done=yes)
    return said.code


def _clear(options: Options, one: OpenJob, before: float) -> None:
    """What is old goes first, so that nothing is retired and deleted by one command."""
    from pipeline import leftovers, reconcile

    leftovers.forget(one.journal, options.state.resolve(), one.job.name, before=before)
    leftovers.retire(one.journal, one.tree)
    reconcile.finish(_as_work(options, one, options.expected_service()))


def _as_work(options: Options, one: OpenJob, service: str) -> Work:
    from pipeline.reconcile import Work

    return Work(one.job, one.journal, one.tree, options.state.resolve(), service, None, sends=False)


# --------------------------------------------------------------------------------------- the service


@dataclass(frozen=True, slots=True)
class _Remote:
    """The service, what it holds, and for which jobs it is cleared."""

    service: Service
    works: list[Work]
    held: Holdings


@contextlib.contextmanager
def _at_service(options: Options, jobs: Sequence[OpenJob], said: _Said, *, locks: bool) -> Iterator[_Remote | None]:
    """Ask the service what it holds; `None`, and a word about it, where that cannot be asked."""
    from pipeline import leftovers

    name = options.expected_service()
    if name == "gemini" and options.service is None and not options.has_key:
        said.say("the service was not asked, there is no key: what we left there is not in this list")
        yield None
        return
    with contextlib.ExitStack() as stack:
        api = stack.enter_context(opening.service(options.asking(name), said.say))
        others_run = locks and not _lock_others(stack, options, jobs)
        found = leftovers.Service(api, name, options.models(), options.state.resolve(), options.today, others_run)
        works = [_as_work(options, one, name) for one in jobs]
        remote = None
        try:
            remote = _Remote(found, works, leftovers.holdings(api, jobs[0].journal))
        except PipelineError as error:
            said.note(error)
        yield remote


def _lock_others(stack: contextlib.ExitStack, options: Options, jobs: Sequence[OpenJob]) -> bool:
    """Keep the other jobs of the outputs folder from starting meanwhile; whether none of them is at work."""
    from pipeline.durable import Folder, locked

    ours = {one.job.name for one in jobs}
    try:
        for job in jobs[0].journal.jobs():
            if job not in ours:
                stack.enter_context(locked(Folder(options.state), f"locks/{job}.lock", what=f"the job '{job}'"))
    except LockedError:
        return False
    return True


def _clear_remote(remote: _Remote, said: _Said) -> None:
    from pipeline import leftovers

    try:
        trouble = leftovers.clear(remote.service, remote.works, remote.held)
        if trouble:
            said.note(UnfinishedError(trouble, hint="run the same command again"))
    except PipelineError as error:
        said.note(error)


# ---------------------------------------------------------------------------------------------- shown


@dataclass(slots=True)
class _Said:
    """What was listed, and what went wrong."""

    options: Options
    code: int = 0
    counts: dict[str, tuple[int, int]] = field(default_factory=dict)
    """How many there are and how many bytes that is, by what becomes of them."""

    def files(self, one: OpenJob, before: float) -> None:
        from pipeline import leftovers

        job, state = one.job.name, self.options.state
        self._list("retire", leftovers.gone(one.journal, one.tree), f"{self.options.outputs / job}/")
        self._list("delete here", leftovers.old(one.journal, state.resolve(), job, before=before), f"{state}/")

    def remote(self, remote: _Remote) -> None:
        from pipeline import leftovers

        self._list("delete at the service", leftovers.left(remote.service, remote.works, remote.held), "")

    def _list(self, what: str, found: Iterable[Leftover], below: str) -> None:
        for one in found:
            kind = "leave" if one.verb == "leave" else what
            count, size = self.counts.get(kind, (0, 0))
            self.counts[kind] = (count + 1, size + one.bytes)
            why = f"\t{one.why}" if one.why else ""
            click.echo(f"{one.verb}\t{escaped(f'{below}{one.name}')}\t{one.bytes}{why}")

    def note(self, error: PipelineError) -> None:
        """Something that kept the command from a part of what it is about; the first one decides the exit code."""
        self.code = self.code or error.exit_code
        click.echo(shortened(f"error: {error}{f'; {error.hint}' if error.hint else ''}"), err=True)

    def say(self, text: str) -> None:
        if not self.options.quiet:
            click.echo(text, err=True)

    def conclude(self, *, done: bool) -> None:
        parts = [f"{kind}: {count:,} ({megabytes(size)})" for kind, (count, size) in self.counts.items()]
        if not set(self.counts) - {"leave"}:
            self.say(" · ".join(["nothing to clean", *parts]))
        elif done:
            self.say(f"{' · '.join(parts)}: done" if not self.code else f"{' · '.join(parts)}: not all of it was done")
        else:
            self.say(f"{' · '.join(parts)}; nothing was changed: the same with --yes does it")
