"""The command that adds up money: what a run would spend, or what was spent. It sends nothing."""

from __future__ import annotations

import contextlib
import json
from dataclasses import dataclass, field
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import click

from pipeline.cli import opening
from pipeline.cli.screen import MICRO, plural, usd
from pipeline.cli.tables import amount, columns, print_json
from pipeline.errors import UsageError
from pipeline.record import HAS_IMAGE

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from pipeline.cli.options import Options
    from pipeline.journal import Journal


@dataclass(slots=True)
class _Sum:
    """Images, and what they come to in millionths of a USD; `unpriced` of them without a known price."""

    images: int = 0
    cost: int = 0
    unpriced: int = 0

    def add(self, other: _Sum) -> None:
        self.images += other.images
        self.cost += other.cost
        self.unpriced += other.unpriced

    @property
    def amount(self) -> int | None:
        """Unknown as soon as one price is."""
        return None if self.unpriced else self.cost


@dataclass(slots=True)
class _Account:
    """The money of one job: by whatever was asked for, and beside it what is only told of."""

    job: str
    by: dict[str, _Sum] = field(default_factory=dict)
    everything: _Sum = field(default_factory=_Sum)
    """All that the job asks for, bought from nothing; of an estimate."""
    local: _Sum = field(default_factory=_Sum)
    """What the local service made, and nobody paid for."""
    from_manifest: int = 0
    """Images whose cost is known from the output manifest alone."""

    def add(self, name: str, images: int, cost: int, unpriced: int) -> None:
        self.by.setdefault(name, _Sum()).add(_Sum(images, cost, unpriced))

    @property
    def total(self) -> _Sum:
        return _total(self.by.values())


def _total(sums: Iterable[_Sum]) -> _Sum:
    total = _Sum()
    for one in sums:
        total.add(one)
    return total


@click.command("cost")
@click.argument("jobs", nargs=-1, metavar="[JOB…]")
@click.option("--actual", is_flag=True, help="What was spent, over all attempts.")
@click.option("--by", type=click.Choice(["model", "job", "day"]), default="model", help="How it is added up (model).")
@click.option("--json", "as_json", is_flag=True, help="One JSON document on stdout.")
@click.pass_obj
def cost_command(options: Options, jobs: Sequence[str], actual: bool, by: str, as_json: bool) -> int:
    """What a run would spend now, by batch prices; with --actual, what was spent so far."""
    if by == "day" and not actual:
        raise UsageError("an estimate has no days", hint="`--by day` goes with `--actual`; so do model and job")
    accounts = list(_actual(options, jobs, by) if actual else _estimates(options, jobs, by))
    if as_json:
        print_json(_document(accounts))
    else:
        click.echo(_table(accounts, by))
    if not options.quiet:
        for line in _told_of_actual(accounts) if actual else _told_of_estimates(options, accounts):
            click.echo(line, err=True)
    return 0


# ------------------------------------------------------------------------------------------- estimate


def _estimates(options: Options, words: Sequence[str], by: str) -> Iterator[_Account]:
    models, service = options.models(), options.expected_service()
    with opening.opened(words, options, models, service, default=True, must_lock=False) as opened:
        for one in opened.jobs:
            account = _Account(one.job.name)
            for total in one.plan.totals:
                name = total.model_id if by == "model" else account.job
                account.add(name, total.requests, total.cost, total.unpriced)
            all_of_it = one.journal.spending.all_wanted()
            account.everything = _Sum(all_of_it.images, all_of_it.cost, all_of_it.unpriced)
            yield account


def _told_of_estimates(options: Options, accounts: Sequence[_Account]) -> Iterator[str]:
    everything, total = _total(one.everything for one in accounts), _total(one.total for one in accounts)
    if options.expected_service() == "local":
        yield "on the local service this costs nothing: it is what it would cost"
    yield (
        f"batch prices as of {options.models().prices_as_of}, USD, without retries; bought from nothing, all that is"
        f" asked for would cost {_usd(everything)} for {plural(everything.images, 'image')}"
    )
    if total.unpriced:
        yield f"hint: {_unpriced(total)}: `pipeline ls models` has the known ones, --models FILE adds a price"


# --------------------------------------------------------------------------------------------- actual


def _actual(options: Options, words: Sequence[str], by: str) -> Iterator[_Account]:
    from pipeline import journal as journals

    with contextlib.ExitStack() as stack:
        journal = None
        if journals.is_there(options.state):
            journal = stack.enter_context(journals.opened(options.state, outputs=options.outputs))
        known = journal.jobs() if journal else []
        recorded = _recorded_jobs(options)
        for name in opening.names(words, list(dict.fromkeys([*known, *recorded]))):
            account = _Account(name)
            if journal is not None and name in known:
                _add_answers(account, journal, by)
                _add_records(account, map(json.loads, journal.spending.told_by_manifests(name)), by)
            elif name in recorded:
                _add_records(account, _manifest(options, name), by)
            yield account


def _recorded_jobs(options: Options) -> list[str]:
    """The jobs that have an output manifest, whatever the journal knows of them."""
    from pipeline.outputs import MANIFEST

    if not options.outputs.is_dir():
        return []
    return sorted(path.name for path in options.outputs.iterdir() if (path / MANIFEST).is_file())


def _manifest(options: Options, job: str) -> Iterator[Mapping[str, Any]]:
    from pipeline.durable import Folder
    from pipeline.outputs import recorded

    return (record for _number, record in recorded(Folder(options.outputs).below(job)) if record is not None)


def _add_answers(account: _Account, journal: Journal, by: str) -> None:
    for spent in journal.spending.answered(account.job, "gemini", by):
        account.add(spent.name, spent.images, spent.cost, spent.unpriced)
    for spent in journal.spending.answered(account.job, "local", "job"):
        account.local.add(_Sum(spent.images, spent.cost, spent.unpriced))


def _add_records(account: _Account, records: Iterable[Mapping[str, Any]], by: str) -> None:
    """Add what records say of themselves, each its last attempt."""
    for told in records:
        found = _of_record(told)
        if found is None:
            continue
        if told["service"] == "local":
            account.local.add(found)
            continue
        account.by.setdefault(_name(account.job, told, by), _Sum()).add(found)
        account.from_manifest += 1


def _of_record(told: Mapping[str, Any]) -> _Sum | None:
    """What a record cost; `None` where nothing was bought."""
    images = int(told["status"] in HAS_IMAGE)
    cost = _micro((told["cost"] or {}).get("amount"))
    if cost is None and not images:
        return None
    return _Sum(images, cost or 0, int(cost is None))


def _micro(text: object) -> int | None:
    """An amount of a record in millionths of a USD; `None` where it is none."""
    try:
        return int(Decimal(str(text)) * MICRO)
    except (ArithmeticError, ValueError):
        return None


def _name(job: str, told: Mapping[str, Any], by: str) -> str:
    if by == "job":
        return job
    if by == "day":
        return str(told["at"] or "?")[:10]
    lane = told.get("lane") or "batch"
    return str(told["model_id"]) if lane == "batch" else f"{told['model_id']} ({lane})"


def _told_of_actual(accounts: Sequence[_Account]) -> Iterator[str]:
    for one in accounts:
        if one.from_manifest:
            yield (
                f"{one.job}: what {plural(one.from_manifest, 'image')} cost is told by the output manifest, not by a"
                " journal: earlier attempts of those, if there were any, are not in it"
            )
        if one.local.images or one.local.cost:
            yield (
                f"{one.job}: the local service made {plural(one.local.images, 'image')}, which would cost"
                f" {_usd(one.local)}: not in it"
            )
    total = _total(one.total for one in accounts)
    if total.unpriced:
        yield f"hint: {_unpriced(total)}; the rest came to {usd(total.cost)}: the service's bill has all of it"


# ---------------------------------------------------------------------------------------------- shown


def _document(accounts: Sequence[_Account]) -> dict[str, Any]:
    return {
        "jobs": [
            {
                "job": one.job,
                "amount": amount(one.total.amount),
                "by": [
                    {"name": name, "images": its.images, "amount": amount(its.amount)}
                    for name, its in sorted(one.by.items())
                ],
            }
            for one in accounts
        ],
        "total": {"amount": amount(_total(one.total for one in accounts).amount), "currency": "USD"},
    }


def _table(accounts: Sequence[_Account], by: str) -> str:
    """A line for each name of each job, and what they come to together."""
    total = _total(one.total for one in accounts)
    if by == "job":
        rows = [["job", "images", "USD"], *([one.job, *_cells(one.total)] for one in accounts)]
        return columns([*rows, ["together", *_cells(total)]], right=(1, 2))
    rows = [["job", by, "images", "USD"]]
    for one in accounts:
        named = sorted(one.by.items()) or [("-", _Sum())]
        rows += ([one.job, name, *_cells(its)] for name, its in named)
    return columns([*rows, ["together", "", *_cells(total)]], right=(2, 3))


def _cells(its: _Sum) -> list[str]:
    return [f"{its.images:,}", usd(its.amount)]


def _usd(its: _Sum) -> str:
    return usd(its.cost) if not its.unpriced else f"at least {usd(its.cost)}"


def _unpriced(total: _Sum) -> str:
    return f"{plural(total.unpriced, 'image')} {'has' if total.unpriced == 1 else 'have'} no known price"
