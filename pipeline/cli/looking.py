"""The commands that look at jobs and files, and send nothing: validate, plan, compile, verify."""

from __future__ import annotations

import contextlib
import itertools
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from pipeline.cli import opening, resting
from pipeline.cli.screen import MICRO, plural
from pipeline.cli.tables import amount, longest_s, plan_table, print_json, rest_table
from pipeline.errors import JobError, PipelineError, Problem, UsageError
from pipeline.selection import Facts

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from pipeline.batchfile import BatchFile
    from pipeline.cli.opening import OpenJob
    from pipeline.cli.options import Options
    from pipeline.durable import Folder
    from pipeline.gemini.models import Models
    from pipeline.job.expand import Filled, Request
    from pipeline.job.language import Job
    from pipeline.journal import Journal
    from pipeline.plan import Plan
    from pipeline.plan.changed import Row

_json = click.option("--json", "as_json", is_flag=True, help="One JSON document on stdout.")
_jobs = click.argument("jobs", nargs=-1, metavar="[JOB…]")


# ------------------------------------------------------------------------------------------- validate


@click.command("validate")
@_jobs
@click.option("--format", "form", type=click.Choice(["text", "json", "github"]), default="text", help="How (text).")
@click.option("--strict", is_flag=True, help="Warnings fail, too.")
@click.pass_obj
def validate_command(options: Options, jobs: Sequence[str], form: str, strict: bool) -> int:
    """Check jobs: language, placeholders, files, model limits, paths. No key, no network, nothing is written."""
    from pipeline.job import expand
    from pipeline.job.problems import Problems

    models = options.models()
    paths, errors = _manifests(jobs)
    warned: list[Problem] = []
    loaded, requests = [], 0
    for path in paths:
        warnings = Problems()
        try:
            job, count = expand.examine(path, root=Path.cwd(), models=models, today=options.today, warn=warnings.add)
            loaded.append(job)
            requests += count
        except JobError as error:
            errors += error.problems
        warned += warnings.found()
    errors = list(dict.fromkeys([*errors, *opening.same_names(loaded)]))  # a base of several jobs is told of once
    warned = list(dict.fromkeys(warned))
    _show_validation(errors, warned, form)
    if form == "text" and not errors and not options.quiet:
        verdict = f"{plural(len(warned), 'warning')}, which --strict lets none pass" if strict and warned else "valid"
        click.echo(f"{plural(len(loaded), 'job')}, {plural(requests, 'image')}: {verdict}", err=True)
    return 2 if errors or (strict and warned) else 0


def _manifests(words: Sequence[str]) -> tuple[list[Path], list[Problem]]:
    """The manifests that words name, each once; and the words that name none."""
    from pipeline.job import named

    found: dict[Path, None] = {}
    problems = []
    for word in words or [opening.DEFAULT_JOBS]:
        try:
            found.update(dict.fromkeys(named.manifests([word], cwd=Path.cwd())))
        except UsageError as error:
            problems.append(Problem(word, 0, 0, str(error), error.hint))
    return list(found), problems


def _show_validation(errors: Sequence[Problem], warnings: Sequence[Problem], form: str) -> None:
    from pipeline.job.problems import escaped, excerpt

    if form == "json":
        print_json(
            {"errors": [_problem(entry) for entry in errors], "warnings": [_problem(entry) for entry in warnings]}
        )
        return
    for kind, problems in (("error", errors), ("warning", warnings)):
        for problem in problems:
            if form == "github":
                click.echo(escaped(_github(problem, kind)))
            else:
                click.echo(excerpt(problem, kind=kind), err=True)


def _github(problem: Problem, kind: str) -> str:
    """A problem as an annotation of a workflow run: https://docs.github.com/actions, workflow commands."""
    hint = f" ({problem.hint})" if problem.hint else ""
    text = f"{problem.message}{hint}".replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")
    file = problem.file.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")
    file = file.replace(":", "%3A").replace(",", "%2C")
    return f"::{kind} file={file},line={max(problem.line, 1)},col={max(problem.column, 1)}::{text}"


def _problem(problem: Problem) -> dict[str, Any]:
    return {
        "file": problem.file,
        "line": problem.line,
        "column": problem.column,
        "message": problem.message,
        "hint": problem.hint,
    }


# ----------------------------------------------------------------------------------------------- plan


@click.command("plan")
@_jobs
@_json
@click.option("--detailed-exitcode", is_flag=True, help="Exit 10 when there is work.")
@click.option("--show", "key", metavar="KEY", help="Say why for one key.")
@click.pass_obj
def plan_command(options: Options, jobs: Sequence[str], as_json: bool, detailed_exitcode: bool, key: str | None) -> int:
    """What a run would render, why, and what it costs. Nothing is sent."""
    service = options.expected_service()
    work = None if key is not None else _at_rest(jobs, options, service, as_json=as_json)
    if work is not None:
        return 10 if detailed_exitcode and work else 0
    models = options.models()
    documents, work = [], 0
    with opening.opened(jobs, options, models, service, default=True, must_lock=False) as opened:
        for one in opened.jobs:
            work += one.plan.requests + one.plan.counts["moved"]
            if as_json:
                documents.append(_compared_document(one, models, options, everything=key is not None))
            else:
                click.echo(plan_table(one.plan, models, options.today, service))
                if key is None:
                    gone = _gone(one.plan, one.journal) if options.selection else ()
                    _explain(itertools.chain(one.journal.wanted.not_done(), gone))
                else:
                    _explain_one(one.plan, one.journal, key)
                _tell_budget(one.plan, one.job, service)
    if as_json:
        print_json({"jobs": documents})
    return 10 if detailed_exitcode and work else 0


def _at_rest(words: Sequence[str], options: Options, service: str, *, as_json: bool) -> int | None:
    """Tell of jobs that were at rest and have hardly changed; how much work that is, `None` where they are compared."""
    rests = resting.found(words or [opening.DEFAULT_JOBS], options, service)
    answers = resting.answers(rests, options, service) if rests else None
    if not rests or not answers:
        return None
    resting.warn(rests, options)
    documents = []
    for rest, answer in zip(rests, answers, strict=True):
        if as_json:
            prices = _prices_of(answer.plan, options.models(), options) if answer.job else rest.prices_as_of
            documents.append(_plan_document(answer.plan, prices, answer.rows))
            continue
        if answer.other is None:
            click.echo(rest_table(rest.job, rest.counts))
            _explain(rest.not_done)
        else:
            click.echo(plan_table(answer.plan, options.models(), options.today, service))
            _explain(answer.other.not_done)
        if answer.job is not None:
            _tell_budget(answer.plan, answer.job, service)
    if as_json:
        print_json({"jobs": documents})
    return sum(answer.plan.requests + answer.plan.counts["moved"] for answer in answers if answer.other is not None)


def _tell_budget(plan: Plan, job: Job, service: str) -> None:
    """What a run would refuse, said before it does."""
    budget = job.budget
    if service == "gemini" and budget is not None and plan.requests:
        if plan.unpriced:
            click.echo("  a price is unknown, and the job has a budget: a run would be refused")
        elif plan.cost > budget * MICRO:
            click.echo(f"  more than the job's budget of ${budget}: a run would be refused")


_MANY = 20


def _explain_one(plan: Plan, journal: Journal, key: str) -> None:
    """Why one image is what it is."""
    from pipeline.job.problems import escaped, quoted

    if not journal.wanted.is_wanted(key):
        click.echo(f"  the job asks for nothing with the key {quoted(key)}; `pipeline plan --json` has them all")
    rows = itertools.chain(journal.wanted.not_done(everything=True), _gone(plan, journal))
    for name, state, said, path, _model, _cost in rows:
        if name == key:
            why = said or _otherwise(plan, journal).get(key, "")
            click.echo(escaped(f"  {state}  {name} → {path}{f': {why}' if why else ''}"))


def _explain(rows: Iterable[Row]) -> None:
    """Why things change, for as many as one can read; a first run needs no reasons."""
    from pipeline.job.problems import escaped

    shown = hidden = 0
    for name, state, why, _path, _model, _cost in rows:
        if why:
            shown += 1
            if shown <= _MANY:
                click.echo(escaped(f"  {state}  {name}: {why}"))
            else:
                hidden += 1
    if hidden:
        click.echo(f"  … and {hidden:,} more; `pipeline plan --json` has them all")


def _compared_document(one: OpenJob, models: Models, options: Options, *, everything: bool) -> dict[str, Any]:
    plan, journal = one.plan, one.journal
    others = _otherwise(plan, journal) if everything else {}
    rows = (
        (key, state, why or others.get(key, ""), path, model, cost)
        for key, state, why, path, model, cost in itertools.chain(
            journal.wanted.not_done(everything=everything), _gone(plan, journal)
        )
    )
    return _plan_document(plan, _prices_of(plan, models, options), rows)


def _prices_of(plan: Plan, models: Models, options: Options) -> str:
    """The day since when the newest of the prices of a plan holds."""
    priced = [models.find(total.model_id) for total in plan.totals]
    since = [price.since.isoformat() for model in priced if model and (price := model.price(options.today))]
    return max(since, default=models.prices_as_of.isoformat())


def _plan_document(plan: Plan, prices_of: str, rows: Iterable[Row]) -> dict[str, Any]:
    return {
        "job": plan.job,
        "counts": plan.counts,
        "requests": plan.requests,
        "batches": plan.batches,
        "waves": plan.waves,
        "by_wave": [
            {
                "wave": wave.number,
                "turns": [wave.first_turn, wave.last_turn],
                "requests": wave.requests,
                "input_bytes": wave.input_bytes,
                "cost": None if plan.unpriced else amount(wave.cost),
                "upper_bound": None if plan.unpriced else amount(wave.upper_bound),
            }
            for wave in plan.by_wave
        ],
        "longest_s": longest_s(plan),
        "input_bytes": plan.input_bytes,
        "cost": {
            "amount": None if plan.unpriced else amount(plan.cost),
            "upper_bound": None if plan.unpriced else amount(plan.upper_bound),
            "currency": "USD",
            "prices": prices_of,
        },
        "stuck": {
            "deadline_s": int(plan.stuck.deadline_s),
            "on_stuck": plan.stuck.on_stuck,
            "amount": amount(plan.stuck.cost),
            "upper_bound": amount(plan.stuck.upper_bound),
        },
        "items": [_item(*row) for row in rows],
    }


def _otherwise(plan: Plan, journal: Journal) -> dict[str, str]:
    """What is done and was not asked as the job asks for it: by key, in which settings."""
    from pipeline.record import said_otherwise

    found = {}
    for key, line, draft in journal.wanted.asked_otherwise(plan.job):
        if said := said_otherwise(json.loads(line), json.loads(draft)):
            found[key] = f"asked by retry --set: {said}"
    return found


def _gone(plan: Plan, journal: Journal) -> Iterator[Row]:
    for key, path, model, _was_wanted, _cost in journal.wanted.gone(plan.job):
        yield key, "gone", "no longer asked for", path, model, 0


def _item(key: str, state: str, why: str, path: str, model: str, cost: int | None) -> dict[str, Any]:
    return {
        "key": key,
        "state": state,
        "why": why or None,
        "path": path or None,
        "model": model,
        "cost": amount(cost),
    }


# -------------------------------------------------------------------------------------------- compile


@click.command("compile")
@click.argument("job", metavar="JOB")
@click.option("-o", "folder", metavar="DIR", help="Where to (<state>/compiled/<job>).")
@click.pass_obj
def compile_command(options: Options, job: str, folder: str | None) -> int:
    """Write the Batch API JSONL files for everything a job asks for, and stop."""
    from pipeline import batchfile
    from pipeline.cli.pointers import Pointers
    from pipeline.durable import Folder
    from pipeline.job import expand

    if options.selection.asks_for("state", "status"):
        raise UsageError(
            "`pipeline compile` reads the job alone, and state: and status: ask for what is recorded",
            hint="it takes key: id: tag: template: model: aspect:",
        )
    models, warn = options.models(), opening.warner(options)
    jobs = opening.load([job], options)
    if len(jobs) > 1:  # one that is wrong keeps all of them back
        opening.check_rows(jobs, options, models, warn)
    for one in jobs:
        target = Folder(Path(folder)) if folder else Folder(options.state).below(f"compiled/{one.name}")
        later: list[str] = []
        with target.made():
            target.sweep_beside("requests-00000.jsonl")
            made = None if options.selection else _compiled_at_once(target, one, models, options, warn)
            if made is None:
                pointers = Pointers()
                blocks = pointers.noting(expand.blocks(one, models=models, today=options.today, warn=warn))
                selected = pointers.refused(_selected(options, one, blocks, models))
                made = batchfile.compile_all(target, one, selected, models, left_out=later.append)
        for file in made:
            click.echo(f"{target.path / file.name}\t{file.model_id}\t{file.requests}\t{file.bytes}")
        if not options.quiet:
            _tell_compiled(made, len(later))
    return 0


def _compiled_at_once(
    target: Folder, job: Job, models: Models, options: Options, warn: Callable[[Problem], None]
) -> list[BatchFile] | None:
    """What several processes made of a large catalog; None where one process must."""
    from pipeline import batchfile, workers
    from pipeline.job.expand import OddError

    for again in (False, True):
        with (
            workers.at_work(job, models, options.today, again=again) or contextlib.nullcontext() as found,
            contextlib.suppress(OddError),
        ):
            if found is not None:
                return batchfile.pack(target, job, found.lines(warn))
    return None


def _tell_compiled(made: Sequence[BatchFile], left_out: int) -> None:
    total = sum(file.requests for file in made)
    click.echo(f"{plural(total, 'request')} in {plural(len(made), 'file')}; nothing was sent", err=True)
    if left_out:
        turns = plural(left_out, "later turn")
        click.echo(f"{turns} of conversations left out: what is sent for them is made of answers", err=True)


def _selected(
    options: Options, job: Job, blocks: Iterable[list[Filled | Request]], models: Models
) -> Iterator[list[Filled | Request]]:
    """Those of the requests that are selected; says so when there are none."""
    from pipeline import record
    from pipeline.job import expand

    if not options.selection:
        yield from blocks
        return

    def is_selected(request: Filled | Request) -> bool:
        model = models.find(request.ask.model)
        told = record.draft(expand.whole(request), model_id=model.id if model else request.ask.model, service="")
        return options.selection.takes(Facts(request.key, record.dumps(told), job.tags))

    is_matched = False
    for block in blocks:
        if selected := [request for request in block if is_selected(request)]:
            is_matched = True
            yield selected
    if not is_matched:
        opening.say_nothing_matches(options)


# --------------------------------------------------------------------------------------------- verify


@click.command("verify")
@_jobs
@_json
@click.pass_obj
def verify_command(options: Options, jobs: Sequence[str], as_json: bool) -> int:
    """Hash and decode every file against its record; name what is missing, edited or stray."""
    from pipeline.verify import WORDS, verify

    documents = []
    with _journal_if_whole(options) as journal:
        known = sorted({*_recorded_jobs(options), *(journal.jobs() if journal else ())})
        for name in opening.names(jobs, known):
            found = verify(options.outputs, name, state=options.state, journal=journal)
            documents.append(found)
            if not as_json:
                _tell_found(options, found)
    if as_json:
        print_json({"jobs": documents})
    return 3 if any(one[word] for one in documents for word in WORDS) else 0


@contextlib.contextmanager
def _journal_if_whole(options: Options) -> Iterator[Journal | None]:
    """The journal, where there is one; a damaged one is told of, and what lies in the tree is verified all the same."""
    from pipeline import journal as journals

    with contextlib.ExitStack() as stack:
        journal = None
        try:
            if journals.is_there(options.state):
                journal = stack.enter_context(journals.opened(options.state, outputs=options.outputs))
        except PipelineError as error:
            click.echo(f"warning: {error}; {error.hint}", err=True)
        yield journal


_NEXT = {
    "missing": "`pipeline run JOB` writes what is missing from its kept answer; what has none is bought again",
    "edited": "an edited file is never overwritten; `pipeline run JOB --force --select state:edited` buys it anew",
    "broken": "what is broken cannot be shown: delete the file, then `pipeline run JOB` brings it back",
    "stray": "no record knows what is stray: move it out of the job's folder",
    "stale": "the journal is ahead of the output manifest: `pipeline collect JOB` writes it again",
}


def _tell_found(options: Options, found: dict[str, Any]) -> None:
    from pipeline.job.problems import escaped

    for word in _NEXT:
        for path in found[word]:
            click.echo(f"{word}\t{escaped(str(options.outputs / found['job'] / path))}")
    if not options.quiet:
        click.echo(f"{found['job']}: {plural(found['ok'], 'file')} as recorded", err=True)
        for word, what in _NEXT.items():
            if found[word]:
                click.echo(f"hint: {what}", err=True)


def _recorded_jobs(options: Options) -> list[str]:
    from pipeline.outputs import MANIFEST

    if not options.outputs.is_dir():
        return []
    return sorted(path.name for path in options.outputs.iterdir() if (path / MANIFEST).is_file())
