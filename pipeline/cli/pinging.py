"""`--ping`: telling a watchman how a call ended, once, and in silence about where he lives."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

import click

from pipeline import ping
from pipeline.cli.signals import Interrupted
from pipeline.errors import LockedError, PipelineError

if TYPE_CHECKING:
    from collections.abc import Callable

    from pipeline.cli.options import Options

_HELP = (
    "GET URL at the end: after a failure URL/EXITCODE, none when interrupted or when another run holds the job."
    " PIPELINE_PING does the same and hides the address from ps."
)


def _address(_ctx: click.Context, _param: click.Parameter, url: str | None) -> str | None:
    if url and not ping.is_address(url):
        raise click.BadParameter("it is no http or https address")  # which is a secret, and so not repeated
    return url or None


def pinging(command: click.Command) -> click.Command:
    """Give a command that ends with an exit code `--ping`."""
    command.params.append(
        click.Option(["--ping"], metavar="URL", envvar="PIPELINE_PING", callback=_address, help=_HELP)
    )
    assert command.callback is not None
    command.callback = _watched(command.callback)
    return command


def _watched(call: Callable[..., int]) -> Callable[..., int]:
    @functools.wraps(call)
    def watched(*, ping: str | None, **given: Any) -> int:
        if ping is None:
            return call(**given)
        options = click.get_current_context().obj
        try:
            code = call(**given)
        except BaseException as error:
            _send(options, ping, _code_of(error))
            raise
        _send(options, ping, code)
        return code

    return watched


def _code_of(error: BaseException) -> int | None:
    """The exit code a call ends with; None for an end that says nothing of how well things go."""
    if isinstance(error, Interrupted | KeyboardInterrupt | click.Abort | BrokenPipeError):
        return None
    if isinstance(error, PipelineError):
        return error.exit_code
    return 7 if isinstance(error, OSError) else 1


def _send(options: Options, url: str, code: int | None) -> None:
    if code is None or code == LockedError.exit_code:
        return
    trouble = ping.ping(url, code)
    if trouble and not options.quiet:
        click.echo(f"warning: the ping was not heard: {trouble}", err=True)
