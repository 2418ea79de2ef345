"""The commands that tell what is recorded: status and ls. They read the journal, and little else."""

from __future__ import annotations

import json
import sys
import time
from typing import TYPE_CHECKING, Any

import click

from pipeline.cli import opening, selected
from pipeline.cli.screen import age, plural
from pipeline.cli.tables import STAY, amount, columns, print_json
from pipeline.errors import JobError, UsageError
from pipeline.job.problems import escaped
from pipeline.record import timestamp

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from pipeline.cli.options import Options
    from pipeline.journal import Batch, Journal

_MOST_REASONS = 5
_json = click.option("--json", "as_json", is_flag=True, help="One JSON document on stdout.")
_jobs = click.argument("jobs", nargs=-1, metavar="[JOB…]")


# --------------------------------------------------------------------------------------------- status


@click.command("status")
@_jobs
@_json
@click.option("--watch", is_flag=True, help="Again every few seconds, until nothing is at work.")
@click.pass_obj
def status_command(options: Options, jobs: Sequence[str], as_json: bool, watch: bool) -> int:
    """Batches, counts, age and cost so far, from the journal alone."""
    while True:
        documents, remote = _statuses(options, jobs)
        if as_json:
            print_json({"jobs": documents, "remote_bytes": remote})
        else:
            click.echo(_status_text(documents, remote, options))
        if not watch or not any(document["batches"] for document in documents):
            return 0
        time.sleep(5)


def _statuses(options: Options, words: Sequence[str]) -> tuple[list[dict[str, Any]], int]:
    from pipeline import journal as journals

    if not journals.is_there(options.state):
        return [_no_status(name) for name in opening.names(words, [])], 0
    with journals.opened(options.state, outputs=options.outputs) as journal:
        known = journal.jobs()
        named = opening.names(words, known)
        documents = [_no_status(name) for name in named if name not in known]
        for name, its in selected.jobs_in(options, journal, [name for name in named if name in known]):
            documents.append(_status(its, name, options))
        return documents, _remote_bytes(journal)


def _remote_bytes(journal: Journal) -> int:
    """What all jobs hold at the service: request files, answers and reference images that were not deleted."""
    now = time.time()
    uploads = sum(one.bytes for one in journal.uploads.alive("gemini", now))
    return journal.batches.held_bytes("gemini", now) + uploads


def _no_status(name: str) -> dict[str, Any]:
    return {
        "job": name,
        "counts": {},
        "open": 0,
        "later_turns": 0,
        "batches": [],
        "cost": {"amount": "0", "currency": "USD"},
        "service": None,
        "reasons": [],
        "timed_out": {"batches": 0, "enqueued_tokens": 0},
    }


_LINGERS_S = 2 * 86_400.0
"""How long a batch that was cancelled by itself is told of: after so long its tokens were still counted for some."""


def _status(journal: Journal, name: str, options: Options) -> dict[str, Any]:
    from pipeline.journal.batches import OPEN

    batches, service = [], "gemini"
    deadline_s, now = _deadline_s(journal, name), time.time()
    let_go = {"batches": 0, "enqueued_tokens": 0}
    for batch in journal.batches.all_of(name):
        if batch.remote or batch.lane == "interactive":
            service = batch.service
        if batch.lane == "batch" and batch.state in OPEN and journal.batches.is_inside(batch):
            age_s = max(0.0, now - (batch.created_at or batch.planned_at))
            state = batch.remote_state if batch.state == "live" and batch.remote_state else batch.state
            batches.append(
                {
                    "name": batch.remote or batch.name,
                    "state": state,
                    "requests": batch.requests,
                    "age_s": int(age_s),
                    "deadline_s": int(deadline_s),
                    "stuck": age_s > deadline_s or batch.stuck_at is not None,
                    "cancelled": journal.batches.was_let_go(batch),
                    "enqueued_tokens": _enqueued_tokens(journal, batch, options),
                    "fetch_by": None if batch.vanishes_at is None else timestamp(batch.vanishes_at),
                }
            )
        elif (batch.ended_at or now) > now - _LINGERS_S and journal.batches.was_let_go(batch):
            let_go["batches"] += 1
            let_go["enqueued_tokens"] += _enqueued_tokens(journal, batch, options)
    return {
        "job": name,
        "counts": journal.records.counts(name),
        "open": journal.records.waiting(name),
        "later_turns": journal.records.waiting_for_turns(name),
        "batches": batches,
        "cost": {"amount": amount(journal.batches.spent(name, service)), "currency": "USD"},
        "service": service,
        "reasons": [
            {"status": status, "reason": reason, "requests": number}
            for status, reason, number in journal.records.reasons(name, _MOST_REASONS)
        ],
        "timed_out": let_go,
    }


def _deadline_s(journal: Journal, name: str) -> float:
    """The age at which a batch of a job is stuck, as its manifest says now; the usual one where that cannot be read."""
    from pathlib import Path

    from pipeline.job import language

    manifest = Path(journal.manifest_of(name) or "")
    try:
        return language.load(manifest, root=Path.cwd()).batch.deadline_s if manifest.is_file() else _USUAL_S
    except JobError:
        return _USUAL_S


_USUAL_S = 86_400.0
_CHARS_IN_TOKEN = 4


def _enqueued_tokens(journal: Journal, batch: Batch, options: Options) -> int:
    """About how many input tokens a batch takes of what a project may have waiting, by its words and its images."""
    chars, images = journal.batches.weight(batch)
    model = options.models().find(batch.model_id)
    return -(-chars // _CHARS_IN_TOKEN) + images * (model.reference_tokens if model else 0)


def _status_text(documents: Sequence[dict[str, Any]], remote: int, options: Options) -> str:
    if not documents:
        return "nothing was run here yet; `pipeline plan` shows what there is to do"
    lines = []
    for one in documents:
        words = ", ".join(f"{count:,} {word}" for word, count in one["counts"].items()) or "nothing recorded"
        money = f"{'would cost ' if one['service'] == 'local' else ''}${one['cost']['amount']}"
        later = f" · {plural(one['later_turns'], 'later turn')} to follow" if one["later_turns"] else ""
        lines.append(f"{one['job']}: {words} · {one['open']:,} to send{later} · {money}")
        rows = [
            ("", batch["name"], batch["state"], f"{batch['requests']:,}", age(batch["age_s"]))
            for batch in one["batches"]
        ]
        if rows:
            lines.append(columns(rows, right=(3, 4)))
        lines += [
            f"  {batch['name']} has ended, and its answer is not here: `pipeline collect` fetches it; count on it until"
            f" {batch['fetch_by']}"
            for batch in one["batches"]
            if batch["fetch_by"]
        ]
        lines += _stuck_text(one)
        lines += [f"  {why['requests']:,} {why['status']}: {escaped(why['reason'])}" for why in one["reasons"]]
        if one["reasons"]:
            lines.append(
                f"  `pipeline ls items --job {one['job']}` names them, `pipeline show KEY` says what to do next"
            )
    if remote:
        limit = options.models().storage_bytes
        lines.append(f"held at the service: about {remote / 1e9:.2f} GB of {limit / 1e9:.0f} GB")
    return "\n".join(lines)


def _stuck_text(document: dict[str, Any]) -> Iterator[str]:
    """What there is to know of batches that took, or take, too long."""
    for batch in document["batches"]:
        tokens = f"about {batch['enqueued_tokens']:,} enqueued tokens"
        if batch["cancelled"]:
            yield f"  {batch['name']} was cancelled, because it took too long; {tokens} {STAY}"
        elif batch["stuck"]:
            yield f"  {batch['name']} takes longer than `batch.deadline`; it has {tokens}"
    gone = document["timed_out"]
    if gone["batches"]:
        yield (
            f"  {plural(gone['batches'], 'batch')} cancelled, because of taking too long:"
            f" about {gone['enqueued_tokens']:,} enqueued tokens {STAY}"
        )


def _journal(options: Options) -> Any:
    from pipeline import journal as journals

    if not journals.is_there(options.state):
        raise UsageError(
            f"there is no journal in {options.state} yet", hint="`pipeline plan` makes one from the output manifests"
        )
    return journals.opened(options.state, outputs=options.outputs)


# ------------------------------------------------------------------------------------------------- ls


@click.command("ls")
@click.argument("what", type=click.Choice(["items", "images", "batches", "models", "templates"]), default="items")
@click.option("--job", "only_job", metavar="NAME", help="Only of this job.")
@click.option("--status", "statuses", metavar="STATUS,…", help="Only these.")
@_json
@click.option("-0", "zero", is_flag=True, help="End each name with NUL, and print nothing else.")
@click.pass_obj
def ls_command(
    options: Options, what: str, only_job: str | None, statuses: str | None, as_json: bool, zero: bool
) -> int:
    """List items, images, batches, models or templates."""
    words = frozenset(statuses.split(",")) if statuses else None
    if what in {"models", "templates"} and options.selection:
        raise UsageError(f"`pipeline ls {what}` takes no --select or --exclude", hint="`ls items` and `ls images` do")
    rows = {"models": _models, "templates": _templates}.get(what, _recorded)(options, what, only_job, words)
    if as_json:
        click.echo('{"schema_version": 1, "items": [')
        separator = ""
        for row in rows:
            click.echo(f"{separator}{json.dumps(row, ensure_ascii=False)}", nl=False)
            separator = ",\n"
        click.echo("\n]}")
        return 0
    statuses_seen = set()
    for row in rows:
        values = [str(value) for value in row.values() if value is not None]
        sys.stdout.write(f"{values[0]}\0" if zero else "\t".join(map(escaped, values)) + "\n")
        statuses_seen.add(row.get("status"))
    if what == "items" and statuses_seen - {"done"} and not options.quiet:
        click.echo("hint: `pipeline show KEY` says what to do next about one that is not done", err=True)
    return 0


def _recorded(
    options: Options, what: str, only_job: str | None, statuses: frozenset[str] | None
) -> Iterator[dict[str, Any]]:
    if what == "batches" and options.selection:
        raise UsageError("`pipeline ls batches` takes no --select or --exclude", hint="`pipeline status` does")
    with _journal(options) as journal:
        jobs = [job for job in journal.jobs() if only_job in {None, job}]
        for job, its in selected.jobs_in(options, journal, jobs):
            yield from _of_job(its, options, what, job, statuses)


def _of_job(
    journal: Journal, options: Options, what: str, job: str, statuses: frozenset[str] | None
) -> Iterator[dict[str, Any]]:
    if what == "batches":
        for batch in journal.batches.all_of(job):
            if batch.lane == "batch" and (statuses is None or batch.state in statuses):
                yield {"name": batch.remote or batch.name, "job": job, "state": batch.state, "requests": batch.requests}
        return
    top, is_selected = str(options.outputs / job), bool(options.selection)
    for line in journal.records.published(job):
        told = json.loads(line)
        if (statuses is not None and told["status"] not in statuses) or (
            is_selected and journal.outside.has(told["key"])
        ):
            continue
        if what == "items":
            yield {"key": told["key"], "job": job, "status": told["status"], "reason": told["reason"]}
        else:
            for file in told["files"]:
                yield {"path": f"{top}/{file['path']}", "key": told["key"], "sha256": file["sha256"]}


def _models(
    options: Options, _what: str, _job: str | None, _statuses: frozenset[str] | None
) -> Iterator[dict[str, Any]]:
    today = options.today
    for model in options.models():
        price = model.price(today)
        gone = model.shutdown is not None and model.shutdown <= today
        yield {
            "id": model.id,
            "aliases": " ".join(model.aliases) or "-",
            "sizes": " ".join(model.sizes) or "-",
            "aspects": len(model.aspects),
            "batch_1K": str(price.batch_image * model.tokens("1K") / 1_000_000)
            if price and "1K" in model.sizes
            else "?",
            "state": f"shut down {model.shutdown}, use {model.successor}" if gone else model.good_for,
        }


def _templates(
    _options: Options, _what: str, _job: str | None, _statuses: frozenset[str] | None
) -> Iterator[dict[str, Any]]:
    from pipeline.cli.showing import templates_here

    yield from templates_here()
