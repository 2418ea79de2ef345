"""The flags that commands which send have in common, and how their values are read."""

from __future__ import annotations

from decimal import Decimal, InvalidOperation
from typing import TYPE_CHECKING

import click

from pipeline.cli.options import duration
from pipeline.cli.screen import MICRO
from pipeline.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pipeline.job.change import Change

_MOST_USD = 1_000_000_000
"""No bill is larger, and an int of 1e999999999 would take all memory."""


def _money(_ctx: click.Context, _param: click.Parameter, text: str | None) -> int | None:
    if text is None:
        return None
    try:
        amount = Decimal(text.removeprefix("$"))
    except InvalidOperation:
        raise click.BadParameter(f"{text[:80]!r} is no amount in USD") from None
    if not amount.is_finite() or not 0 <= amount <= _MOST_USD:
        raise click.BadParameter(f"{text[:80]!r} is no amount in USD")
    return int(amount * MICRO)


def _seconds(_ctx: click.Context, param: click.Parameter, text: str | None) -> float | None:
    return None if text is None else duration(text, f"--{param.name}")


def _selected(ctx: click.Context, _param: click.Parameter, value: bool) -> bool:
    if value and not ctx.obj.selection.taken:
        raise UsageError(
            "--force buys again what is there; it needs --select to say which images",
            hint="such as --force --select 'key:mug-01/*', or state:edited",
        )
    return value


jobs = click.argument("jobs", nargs=-1, required=True, metavar="JOB…")
yes = click.option("--yes", is_flag=True, help="Do not ask.")
max_cost = click.option("--max-cost", callback=_money, metavar="USD", help="Most that this call may commit.")
wait = click.option("--wait", default="24h", callback=_seconds, metavar="TIME", help="How long to wait (24h).")
poll = click.option("--poll", callback=_seconds, metavar="TIME", help="First pause between two looks (60s).")
pending = click.option("--fail-if-pending", is_flag=True, help="Exit 4 while anything is pending.")
force = click.option(
    "--force", is_flag=True, callback=_selected, help="Buy all that --select names again, edited images included."
)


def _change(_ctx: click.Context, _param: click.Parameter, texts: Sequence[str]) -> Change | None:
    from pipeline.job.change import Change

    return Change.of(texts) if texts else None


other_settings = click.option(
    "--set",
    "change",
    multiple=True,
    callback=_change,
    metavar="WORD=VALUE",
    help="Ask for them with another setting, this time: size=1K.",
)


def _only_retry(ctx: click.Context, _param: click.Parameter, value: object) -> None:
    if value:
        raise UsageError(
            f"`pipeline {ctx.info_name}` takes no --set: it asks for what the manifests say",
            hint="change the manifest; `pipeline retry --only … --set …` asks again for what failed, another way",
        )


def _only_collect(ctx: click.Context, _param: click.Parameter, value: object) -> None:
    if value:
        raise UsageError(
            f"`pipeline {ctx.info_name}` takes no --recover",
            hint="`pipeline collect --recover` does it, and buys nothing",
        )


def later(command: click.Command) -> click.Command:
    """Flags that are another verb's: an error says so, and `--help` shows none."""
    if command.name != "retry":
        command.params.append(click.Option(["--set"], callback=_only_retry, expose_value=False, hidden=True))
    if command.name != "collect":
        option = click.Option(["--recover"], is_flag=True, callback=_only_collect, expose_value=False, hidden=True)
        command.params.append(option)
    return command
