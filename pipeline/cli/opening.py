"""From words on the command line to jobs, journals and a service: what the commands have in common."""

from __future__ import annotations

import contextlib
import itertools
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import click

from pipeline.cli import credentials
from pipeline.errors import JobError, LocalError, LockedError, PipelineError, Problem, UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from pipeline.cli.noting import Some
    from pipeline.cli.options import Options
    from pipeline.cli.pointers import Pointers
    from pipeline.durable import Folder
    from pipeline.gemini.api import Api
    from pipeline.gemini.models import Models
    from pipeline.gemini.prices import Lane
    from pipeline.job.change import Change
    from pipeline.job.dependencies import Dependencies
    from pipeline.job.expand import Filled, Request
    from pipeline.job.language import Job
    from pipeline.journal import Journal, WantedRequest
    from pipeline.outputs import Tree
    from pipeline.plan import Look, Plan
    from pipeline.rest import Sources

LOCAL_KEY = "local-service-needs-no-key"
DEFAULT_JOBS = "jobs"
OF_A_JOB = ("requests", "answers", "turns", "retired", "quarantine", "conflicts", "runs")
"""Folders of the state that hold one for each job."""


@dataclass(slots=True)
class OpenJob:
    """A job with its lock held, its journal open and its plan made."""

    job: Job
    journal: Journal
    tree: Tree
    plan: Plan
    pointers: Pointers
    """What it cannot send: images that are not here."""
    compared: Callable[[], Plan]
    """Compares once more, when what is recorded has changed."""
    is_changed: bool = False
    """Some of what would be bought is asked with the settings of this call."""
    sources: Sources | None = None
    """What it was read from; `None` where nobody asked, or that may have been changed meanwhile."""
    said: tuple[tuple[Problem, ...], tuple[Problem, ...]] = ((), ())
    """The warnings of its manifest, and of its rows."""
    some: Some | None = None
    """What is known of its other rows; `None` where all of them were compared."""


@dataclass(slots=True)
class Opened:
    """The jobs of a command: those that are open, and what kept the others out."""

    jobs: list[OpenJob] = field(default_factory=list)
    locked: list[PipelineError] = field(default_factory=list)


def load(
    words: Sequence[str], options: Options, *, default: bool = False, dependencies: Dependencies | None = None
) -> list[Job]:
    """The jobs that words name: every manifest is read and checked; raises one `JobError` for all of them.

    A manifest that is wrong is gone through to its last row as well, so that all that is wrong with it is told at once.
    """
    from pipeline.job import language, named

    if not words and default:
        words = [DEFAULT_JOBS]
    jobs: list[Job] = []
    problems: list[Problem] = []
    for path in named.manifests(words, cwd=Path.cwd()):
        try:
            jobs.append(language.load(path, root=Path.cwd(), dependencies=_own(dependencies)))
        except JobError as error:
            problems.extend(_all_of(path, options) or error.problems)
    problems.extend(same_names(jobs))
    if problems:
        raise JobError(list(dict.fromkeys(problems)))  # a base that several jobs share is told of once
    return jobs


def _own(dependencies: Dependencies | None) -> Dependencies | None:
    """Where to collect what one job is made from: all of it, or as much as is remembered of a job at rest."""
    if dependencies is None:
        return None
    from pipeline.job.dependencies import Dependencies
    from pipeline.rest import MOST_SOURCES

    return Dependencies(is_kept=True, most=None if dependencies.is_kept else MOST_SOURCES)


def _all_of(path: Path, options: Options) -> Sequence[Problem]:
    from pipeline.job import expand

    try:
        expand.examine(path, root=Path.cwd(), models=options.models(), today=options.today, warn=lambda _problem: None)
    except JobError as error:
        return error.problems
    return ()


def names(words: Sequence[str], known: Sequence[str]) -> list[str]:
    """Jobs by name or by manifest; a manifest that is broken today still has a status."""
    from pipeline.job import language, named

    if not words:
        return list(known)
    found = []
    for word in words:
        if word in known:
            found.append(word)
            continue
        for path in named.manifests([word], cwd=Path.cwd()):
            try:
                found.append(language.load(path, root=Path.cwd()).name)
            except JobError:
                found.append(path.stem)
    return found


def same_names(jobs: Sequence[Job]) -> Iterator[Problem]:
    """Jobs that have the name of another one: in one outputs folder they would take each other's images for theirs."""
    seen: dict[str, Job] = {}
    for job in jobs:
        if job.name in seen:
            message = f"the job '{job.name}' is {_shown(seen[job.name])} already, in one outputs folder"
            yield job.name_place.problem(message, "give one of them another name with `job:`")
        seen.setdefault(job.name, job)


def _shown(job: Job) -> str:
    from pipeline.job.problems import shown

    return shown(job.path)


def warner(options: Options) -> _Warner:
    return _Warner(options)


class _Warner:
    """Shows each warning of a job once."""

    def __init__(self, options: Options) -> None:
        self._quiet = options.quiet
        self.said: list[Problem] = []

    def __call__(self, problem: Problem) -> None:
        from pipeline.job.problems import excerpt

        if problem in self.said:
            return
        self.said.append(problem)
        if not self._quiet:
            click.echo(excerpt(problem, kind="warning"), err=True)


@contextlib.contextmanager
def opened(
    words: Sequence[str],
    options: Options,
    models: Models,
    service: str,
    *,
    default: bool = False,
    reopened: frozenset[str] = frozenset(),
    force: bool = False,
    must_lock: bool = True,
    dependencies: Dependencies | None = None,
    lane: Lane = "batch",
    change: Change | None = None,
    since_ns: int = 0,
) -> Iterator[Opened]:
    """Open jobs for the block: lock, journal and plan of each. All of them are checked before any is yielded.

    A job that another run holds is left out and named in `locked`; without `must_lock` jobs are only looked at, and
    nothing is written. What is wrong with any of them, to its last row, is found before anything is.
    What the jobs are made from goes to `dependencies`; what of it was not changed after `since_ns`, before anything was
    read, is known as that. What is `reopened` is asked with the settings of `change`.
    """
    from pipeline.plan import Look

    jobs = load(words, options, default=default, dependencies=dependencies)
    look = Look(service, time.time(), options.selection, reopened, force, lane)
    warn = warner(options)
    for problem in [problem for job in jobs for problem in job.warnings]:
        warn(problem)
    if must_lock:  # who only looks finds the same on his own copy of the journal
        check_rows(jobs, options, models, warn)
    with contextlib.ExitStack() as stack:
        found = Opened()
        problems: list[Problem] = []
        for job in jobs:
            try:
                found.jobs.append(_open(stack, job, options, models, look, warn, change, must_lock=must_lock))
            except LockedError as error:
                found.locked.append(error)
            except JobError as error:
                problems.extend(error.problems)
        if problems:
            raise JobError(problems)
        _warn_of_slips(options, found.jobs, change)
        if dependencies is not None:
            _remember(found.jobs, options, dependencies, warn, since_ns)
        yield found


def _remember(
    jobs: Sequence[OpenJob], options: Options, dependencies: Dependencies, warn: _Warner, since_ns: int
) -> None:
    """Keep in mind what jobs were read from, and what was said of them, for when they are at rest."""
    from pipeline.rest import Sources

    of_manifests = {problem for one in jobs for problem in one.job.warnings}
    of_rows = tuple(problem for problem in warn.said if problem not in of_manifests)
    for one in jobs:
        dependencies.take(one.job.dependencies)
        if options.models_file is not None:
            one.job.dependencies.add(options.models_file)
        if not (of_rows and len(jobs) > 1) and not one.plan.problems:
            one.sources = Sources.of(one.job.dependencies, since_ns)
            one.said = tuple(dict.fromkeys(one.job.warnings)), of_rows


def check_rows(jobs: Sequence[Job], options: Options, models: Models, warn: _Warner) -> None:
    """Go through jobs to their last rows, before anything is written for them; raises one `JobError` for them all."""
    from pipeline.job import expand

    problems: list[Problem] = []
    for job in jobs:
        try:
            expand.check(job, models=models, today=options.today, warn=warn)
        except JobError as error:
            problems.extend(error.problems)
    if problems:
        raise JobError(list(dict.fromkeys(problems)))


def _warn_of_slips(options: Options, jobs: Sequence[OpenJob], change: Change | None) -> None:
    """Warn of a selection that nothing fits, and of settings that nothing is asked with."""
    if jobs and all(one.plan.is_empty for one in jobs):
        say_nothing_matches(options)
    elif jobs and change and not options.quiet and not any(one.is_changed for one in jobs):
        click.echo("warning: --set changes nothing: no image is opened again", err=True)


def say_nothing_matches(options: Options) -> None:
    """Warn of a selection that nothing fits, if there is one: it may be a slip."""
    if options.selection and not options.quiet:
        from pipeline.job.problems import escaped

        click.echo(f"warning: nothing matches {escaped(options.selection.written)}", err=True)


def _open(
    stack: contextlib.ExitStack, job: Job, options: Options, models: Models, look: Look, warn: _Warner,
    change: Change | None, *, must_lock: bool,
) -> OpenJob:  # fmt: skip
    from pipeline import journal as journals
    from pipeline import plan
    from pipeline.cli.pointers import Pointers
    from pipeline.durable import Folder, is_held, locked
    from pipeline.job import expand
    from pipeline.job.change import Changing
    from pipeline.outputs import Tree
    from pipeline.plan import firsts

    if must_lock:
        check_state(options)
        state = Folder(options.state).make()
        stack.enter_context(locked(state, f"locks/{job.name}.lock", what=f"the job '{job.name}'"))
        _ignore(state)
        journal = stack.enter_context(journals.opened(state.path, outputs=options.outputs))
        is_ours = True
    else:
        state = Folder(options.state)
        is_ours = not is_held(state, f"locks/{job.name}.lock")
        journal = stack.enter_context(journals.copied(state.path, outputs=options.outputs))
    _check_owner(job, journal)
    tree = Tree(options.outputs, state.path, job.name, journal)
    if must_lock:
        _sweep(job, state, tree, journal)
    if is_ours and "held" not in look.reopened:
        firsts.hold_back(journal, job, look.service, look.now)  # a killed run may not have come to it
    pointers = Pointers()

    def expanded() -> Iterator[list[Filled | Request]]:
        return expand.blocks(job, models=models, today=options.today, warn=warn)

    def priced(requests: Iterable[Filled | Request]) -> Iterator[WantedRequest]:
        return plan.wanted(
            requests, models, service=look.service, today=options.today, lane=look.lane,
            may_be_late=job.batch.asks_singly and look.lane == "batch",
        )  # fmt: skip

    changing = Changing(change, models, options.today, warn) if change else None
    again = plan.Again(lambda: expand.expand(job, models=models, today=options.today, warn=warn), priced, changing)

    def compared() -> Plan:
        return plan.compare(
            journal, tree, job, priced(itertools.chain.from_iterable(pointers.noting(expanded()))), look, again
        )

    found = compared()
    for problem in found.problems:
        warn(Problem(problem, 0, 0, "ignored"))
    return OpenJob(job, journal, tree, found, pointers, compared, is_changed=bool(changing and changing.is_used))


def check_state(options: Options) -> None:
    """Raise `LocalError` where the state lies where it cannot be relied on.

    Below the outputs folder no link is followed, and the state lies there unless it was told otherwise.
    """
    from pipeline.cli.doctor.machine import refuse_network

    refuse_network(options)
    if options.state == options.outputs / ".pipeline" and options.state.is_symlink():
        raise LocalError(
            f"{options.state} is a symbolic link: it is not followed",
            hint="remove it, or say where the state is meant to be with --state DIR",
        )


def _check_owner(job: Job, journal: Journal) -> None:
    """One outputs folder has one manifest for a job: another of that name would take its images for its own."""
    from pipeline.job import language

    before = journal.manifest_of(job.name)
    if before is None or Path(before) == job.path or not Path(before).is_file():
        return
    try:
        is_alive = language.load(Path(before), root=Path.cwd()).name == job.name
    except JobError:
        is_alive = Path(before).stem == job.name
    if is_alive:
        raise UsageError(
            f"{_shown(job)} is the job '{job.name}', and so is {before}, which was run into the same outputs folder",
            hint="give one of them another name with `job:`, or another --outputs folder",
        )


def _sweep(job: Job, state: Folder, tree: Tree, journal: Journal) -> None:
    """Clear away what a killed run of this job left half done; called under its lock."""
    tree.folder.sweep()
    sweep_state(job, state, journal)


def sweep_state(job: Job, state: Folder, journal: Journal) -> None:
    """The same for what it left below the state folder alone."""
    for name in OF_A_JOB:
        state.below(f"{name}/{job.name}").sweep()
    with journal.transaction():
        journal.batches.release_unsent(job.name)
    needed = journal.batches.request_paths(job.name)
    requests = state.path / "requests" / job.name
    for path in sorted(requests.glob("*.jsonl")) if requests.is_dir() else []:
        if (name := f"requests/{job.name}/{path.name}") not in needed:
            state.remove(name)


def _ignore(state: Folder) -> None:
    """The state never belongs into git, whoever made the folder."""
    if state.status(".gitignore") is None:
        state.sweep_beside(".gitignore")
        with state.replacing(".gitignore") as stream:
            stream.write(b"*\n")


@contextlib.contextmanager
def service(options: Options, say: object) -> Iterator[Api]:
    """Connect to the service that was chosen, starting the local one where that is it."""
    from pipeline.gemini.api import DEFAULT_URL, Api, Secret
    from pipeline.gemini.connection import is_loopback

    assert callable(say)
    with contextlib.ExitStack() as stack:
        if options.service == "local":
            latency = options.seconds("PIPELINE_LOCAL_LATENCY", "2s")
            pictures = options.environment.get("PIPELINE_LOCAL_PICTURES") or "drawn"
            faults = options.environment.get("PIPELINE_LOCAL_FAULTS")
            folder = options.outputs / ".local-service"
            url = stack.enter_context(serving(folder, latency_s=latency, pictures=pictures, faults=faults))
            api = Api(Secret(LOCAL_KEY), url)
        else:
            for line in () if options.is_told else credentials.told(options.environment, DEFAULT_URL):
                say(line)
            url = credentials.base_url(options.environment, DEFAULT_URL)
            credentials.stay_out_of_dumps(debuggers=is_loopback(url))
            api = Api(Secret(options.key()), url)
        stack.callback(api.close)
        stack.callback(_warn_of_skew, api, say)
        yield api


def _warn_of_skew(api: Api, say: Callable[[str], object]) -> None:
    if abs(api.ahead_s or 0.0) > MOST_SKEW_S:
        say(f"warning: {skew(api.ahead_s or 0.0)}: set it by a time server, as ages and deadlines go by it")


@contextlib.contextmanager
def serving(state: Path, *, port: int = 0, latency_s: float, pictures: str, faults: str | None = None) -> Iterator[str]:
    """Serve the local service, with the trouble of a faults file; raises one `JobError` if it is not one."""
    from pipeline import local
    from pipeline.job.problems import shown

    with contextlib.ExitStack() as stack:
        try:
            path = Path(faults) if faults else None
            served = local.serving(state, port=port, latency_s=latency_s, pictures=pictures, faults=path)
            url = stack.enter_context(served)
        except local.FaultsError as error:
            file = shown(error.path)
            wrong = [Problem(file, one.line, one.column, one.message, source=one.source) for one in error.problems]
            raise JobError(wrong) from None
        yield url


def decided(options: Options) -> Options:
    """The options with their service, `gemini` or `local`: as told, else gemini when there is a key.

    Says where that is, before anything else is said. Raises `UsageError` naming both ways out.
    """
    from pipeline.cli.screen import Screen
    from pipeline.gemini.api import DEFAULT_URL

    options.check()
    if options.service != "local":
        options.key()
        for line in credentials.told(options.environment, DEFAULT_URL):
            Screen(options).say(line)
    return options.asking(options.service or "gemini", is_told=True)


MOST_SKEW_S = 300.0


def skew(ahead_s: float) -> str:
    """In words, how far this machine's clock is from the service's, which is ahead by so many seconds."""
    from pipeline.cli.screen import age

    return f"this machine's clock is {age(abs(ahead_s))} {'behind' if ahead_s > 0 else 'ahead of'} the service's"
