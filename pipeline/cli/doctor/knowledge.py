"""What we know about models: which the jobs use, how long those live, and how old the prices are."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.cli import opening
from pipeline.cli.doctor.check import Check, of_error, ok, problem, warning
from pipeline.cli.screen import plural
from pipeline.errors import JobError, UsageError
from pipeline.job import expand, language, named
from pipeline.job.problems import shown

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pipeline.cli.options import Options
    from pipeline.gemini.models import Model, Models
    from pipeline.job.language import Job

_SOON_DAYS = 30
_OLD_DAYS = 90
_ROWS = 2000
"""How many requests of a job are looked at for the models of its rows."""


@dataclass(slots=True)
class Jobs:
    """What the jobs of the project say: the words for models, each with a job that has it; what cannot be read."""

    count: int = 0
    words: dict[str, str] = field(default_factory=dict)
    broken: list[str] = field(default_factory=list)


def jobs(options: Options, models: Models) -> Jobs:
    """Read the manifests in `jobs/`, and from a long one its first rows."""
    found = Jobs()
    try:
        paths = named.manifests([opening.DEFAULT_JOBS], cwd=Path.cwd())
    except UsageError:  # there is none yet
        return found
    for path in paths:
        found.count += 1
        try:
            job = language.load(path, root=Path.cwd())
            for word in itertools.chain(_written(job), _of_rows(job, options, models)):
                found.words.setdefault(word, job.name)
        except JobError:
            found.broken.append(shown(path))
    return found


def _written(job: Job) -> Iterator[str]:
    """The models that stand in the manifest itself, where rows that are wrong hide nothing."""
    layers = [job.settings, *(override.layer for override in job.overrides)]
    yield from (str(layer["model"].value) for layer in layers if "model" in layer)
    yield from {cell["model"].text for cell in job.matrix.cells if "model" in cell}


def _of_rows(job: Job, options: Options, models: Models) -> Iterator[str]:
    requests = expand.expand(job, models=models, today=options.today, warn=lambda _problem: None)
    yield from dict.fromkeys(request.ask.model for request in itertools.islice(requests, _ROWS))


def manifests(found: Jobs) -> Check:
    """Whether the jobs can be read."""
    if found.broken:
        message = f"{', '.join(found.broken)} cannot be run as {'it is' if len(found.broken) == 1 else 'they are'}"
        return problem("jobs", message, "`pipeline validate` says what is wrong", 2)
    return ok("jobs", plural(found.count, "job") if found.count else "none yet; `pipeline init` makes a first one")


def lives(found: Jobs, models: Models, options: Options) -> Check:
    """Whether the models of the jobs, and those of the aliases, live on."""
    gone: list[str] = []
    dying: list[str] = []
    unknown: list[str] = []
    words = {**{alias: "" for model in models for alias in model.aliases}, **found.words}
    for word, job in words.items():
        model = models.find(word)
        if model is None:
            unknown.append(f"{word} (in the job '{job}') is not in the registry, and has no known price")
        elif model.is_shut_down(options.today):
            (gone if job else dying).append(_end(word, job, model, "was"))
        elif model.shutdown is not None and (model.shutdown - options.today).days <= _SOON_DAYS:
            dying.append(_end(word, job, model, "will be"))
    if gone:
        return problem("models", "; ".join([*gone, *dying, *unknown]), "write the successor into the job", 2)
    if dying:
        return warning("models", "; ".join([*dying, *unknown]), "write the successor into the job before that day")
    if unknown:
        return warning("models", "; ".join(unknown), "`pipeline ls models` has the known ones; --models FILE adds one")
    return ok("models", f"{', '.join(used(found, models))}: none is shut down within {_SOON_DAYS} days")


def _end(word: str, job: str, model: Model, verb: str) -> str:
    alias = "" if word == model.id else f" ({model.id})"
    where = f" in the job '{job}'" if job else ""
    use = f": use {model.successor}" if model.successor else ""
    return f"{word}{alias}{where} {verb} shut down on {model.shutdown}{use}"


def used(found: Jobs, models: Models) -> list[str]:
    """The ids of the models that the jobs use, or, where there is none, of those with an alias."""
    ids = [model.id if (model := models.find(word)) else word for word in found.words]
    return list(dict.fromkeys(ids or (model.id for model in models if model.aliases)))


def prices(models: Models, options: Options) -> Check:
    """Whether the prices are such as one may still believe."""
    days = (options.today - models.prices_as_of).days
    said = f"as of {models.prices_as_of}, {plural(days, 'day')} ago"
    if days > _OLD_DAYS:
        hint = "update the pipeline, or give today's prices with --models FILE (`prices_as_of` and rows)"
        return warning("prices", f"{said}: estimates and budgets may be off", hint)
    return ok("prices", said)


def registry(models: Models, options: Options) -> Check:
    """Whether the registry of models is of these days."""
    days = (options.today - models.as_of).days
    said = f"of {models.as_of}, {plural(days, 'day')} ago"
    if days > _OLD_DAYS:
        return warning("registry", f"{said}: newer models and dates may be missing", "update the pipeline")
    return ok("registry", f"{said}{f', with {options.models_file}' if options.models_file else ''}")


def read(options: Options) -> Models | Check:
    """The registry, or what is wrong with it."""
    try:
        return options.models()
    except UsageError as error:
        return of_error("registry", error)
