"""The command that looks at all a run depends on, and says what to do about what is not right. It sends nothing."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

import click

from pipeline.cli.doctor.check import Check
from pipeline.cli.tables import print_json

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pipeline.cli.options import Options

_ORDER = (0, 3, 4, 75, 5, 6, 7, 1, 2)
"""From what counts least to what counts most, as among several jobs of one command."""


@click.command("doctor")
@click.option("--json", "as_json", is_flag=True, help="One JSON document on stdout.")
@click.pass_obj
def doctor_command(options: Options, as_json: bool) -> int:
    """Check key, service, billing, clock, disk, journal, models and prices. Spends nothing and changes nothing."""
    found = []
    for check in _checks(options):
        found.append(check)
        if not as_json:
            _show(check, options)
    if as_json:
        names = ("name", "status", "message", "hint")
        print_json({"checks": [{name: getattr(check, name) for name in names} for check in found]})
    return max((check.code for check in found), key=_ORDER.index, default=0)


def _checks(options: Options) -> Iterator[Check]:
    """What this machine knows first, then what the service says."""
    from pipeline.cli.doctor import knowledge, machine, memory, remote

    yield machine.versions()
    yield machine.environment(options)
    key = machine.key(options)
    yield key
    with contextlib.ExitStack() as stack:
        check = memory.journal(options)
        yield check
        service = options.expected_service()
        journal = stack.enter_context(memory.opened(options)) if check.status == "ok" else None
        yield machine.disk(options, awaited_bytes=memory.awaited_bytes(journal) if journal else 0)
        if journal is not None:
            yield memory.batches(journal, service)
        models = knowledge.read(options)
        if isinstance(models, Check):
            yield models
            return
        jobs = knowledge.jobs(options, models)
        yield knowledge.manifests(jobs)
        yield knowledge.lives(jobs, models, options)
        yield knowledge.prices(models, options)
        yield knowledge.registry(models, options)
        if key.status != "problem":
            yield from remote.checks(remote.Asking(options, service, models, knowledge.used(jobs, models), journal))


def _show(check: Check, options: Options) -> None:
    from pipeline.job.problems import escaped

    if options.quiet and check.status == "ok":
        return
    click.echo(f"{check.status:<8} {check.name:<12} {escaped(check.message)}")
    if check.hint:
        click.echo(f"{'':<21} → {escaped(check.hint)}")
