"""The command line: the only package that prints, reads the environment and decides exit codes.

Commands are imported when they are called, so that `--help` and the offline verbs start at once.
"""

from __future__ import annotations

import importlib
import io
import os
import sys
from typing import TYPE_CHECKING, Any

import click

from pipeline import __version__
from pipeline.cli import credentials
from pipeline.cli.options import Options
from pipeline.cli.signals import Interrupted, heed, leaving, listening
from pipeline.errors import JobError, PipelineError, UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_EVERYDAY = {
    "init": ("starting", "Start a project: a job that works, and where things go."),
    "validate": ("looking", "Check jobs: language, files, model limits. Nothing is sent or written."),
    "plan": ("looking", "What a run would render, why, and what it costs."),
    "run": ("spending", "Render what is missing, and wait for it."),
    "status": ("recorded", "Batches, counts, age and cost so far."),
    "show": ("showing", "All that is known of an image, by key or file."),
}
_MORE = {
    "submit": ("spending", "One pass: collect what is ready, send what is open, return."),
    "collect": ("spending", "One pass that sends nothing new."),
    "retry": ("spending", "Open failed images again, then run."),
    "cancel": ("spending", "Cancel batches, and collect what they still deliver."),
    "proof": ("proofing", "Render a few now, to look at before the rest is bought."),
    "cost": ("accounts", "What a run would spend, or what was spent."),
    "compile": ("looking", "Write the Batch API JSONL of everything a job asks for."),
    "ls": ("recorded", "List items, images, batches, models or templates."),
    "verify": ("looking", "Compare every file with its record."),
    "clean": ("clearing", "Retire what nobody asks for, delete what is old or left at the service."),
    "doctor": ("doctor", "Check key, service, billing, clock, disk, journal, models and prices."),
    "schema": ("starting", "Print the JSON Schema of jobs or records."),
    "serve": ("starting", "Serve the local Gemini-compatible service."),
}
_SELECTING = ("plan", "run", "submit", "retry", "status", "ls", "compile", "proof")
_LATER = ("gallery", "accept", "reject", "export", "fetch")


class _Commands(click.Group):
    """The six everyday verbs first, the rest under "More"; each is imported when it is called."""

    def list_commands(self, _ctx: click.Context) -> list[str]:
        return [*_EVERYDAY, *_MORE]

    def get_command(self, _ctx: click.Context, name: str) -> click.Command | None:
        found = _EVERYDAY.get(name) or _MORE.get(name)
        if found:
            command: click.Command = getattr(importlib.import_module(f"pipeline.cli.{found[0]}"), f"{name}_command")
            return command
        if name in _LATER:
            raise UsageError(f"`pipeline {name}` is not there yet in version {__version__}")
        return None

    def resolve_command(self, ctx: click.Context, args: list[str]) -> Any:
        if args and not args[0].startswith("-") and self.get_command(ctx, args[0]) is None:
            from pipeline.job.problems import meant

            close = meant(args[0], [*_EVERYDAY, *_MORE])
            raise UsageError(f"there is no verb '{args[0]}'{close}", hint="`pipeline --help` lists them")
        return super().resolve_command(ctx, args)

    def format_commands(self, _ctx: click.Context, formatter: click.HelpFormatter) -> None:
        for title, verbs in (("Every day", _EVERYDAY), ("More", _MORE)):
            with formatter.section(title):
                formatter.write_dl([(verb, text) for verb, (_module, text) in verbs.items()])


@click.command(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.option("-C", "folder", type=click.Path(file_okay=False), metavar="DIR", help="Work in DIR.")
@click.option("--outputs", metavar="DIR", help="Where images go (outputs).")
@click.option("--state", metavar="DIR", help="Where the journal lives (<outputs>/.pipeline).")
@click.option("--service", type=click.Choice(["gemini", "local"]), help="Whom to ask (gemini when a key is set).")
@click.option("--models", metavar="FILE", help="Models that add to or override the shipped registry.")
@click.option(
    "--select",
    multiple=True,
    metavar="TERMS",
    help="Only these: id:mug,aspect:4:5 state:new. A space is or, a comma and; key: id: tag: template: model: aspect:"
    " state: status: with * and ?",
)
@click.option("--exclude", multiple=True, metavar="TERMS", help="Not these.")
@click.option("-q", "--quiet", is_flag=True, help="Say nothing on success.")
@click.option("-v", "--verbose", is_flag=True, help="Say more.")
@click.option("--log-format", type=click.Choice(["text", "json"]), help="How progress is written (text).")
@click.option("--allow-network-fs", is_flag=True, help="Run with the state on NFS or the like, from one machine only.")
@click.option("--color", type=click.Choice(["auto", "always", "never"]), help="Colour (auto).")
@click.version_option(__version__, prog_name="pipeline")
@click.pass_context
def group(ctx: click.Context, /, **given: Any) -> None:
    """Render images in bulk overnight with Gemini's image models.

    A job manifest says which images should exist; `run` renders the ones that are missing. Start with
    `pipeline init`, or try everything without a key: `pipeline --service local run JOB`.
    """
    ctx.obj = Options.of(given, ctx.obj)
    if ctx.obj.selection and ctx.invoked_subcommand not in _SELECTING:
        raise UsageError(
            f"`pipeline {ctx.invoked_subcommand}` takes no --select or --exclude: it is about all that it is given",
            hint=f"these take one: {', '.join(_SELECTING)}",
        )
    if given["folder"]:
        try:
            os.chdir(given["folder"])
        except OSError as error:
            raise UsageError(f"-C {given['folder']}: {error.strerror}") from None


def run(args: Sequence[str] | None = None) -> int:
    """Run one command; return its exit code. A bug keeps its traceback, nothing else shows one."""
    words = _hoisted(sys.argv[1:] if args is None else args)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # what the locale cannot show is no reason to stop
            stream.reconfigure(errors="backslashreplace")
    try:
        with listening(), credentials.withheld() as environment:
            return _until_told(words, environment)
    except BrokenPipeError:
        # The reader has left: what was decided stands, nobody is there to be told.
        sys.stdout = io.StringIO()  # keeps the interpreter quiet at its exit
        return 0
    except OSError as error:
        sys.stdout = io.StringIO()  # as above
        why = f"cannot go on: {error.strerror or error}"
        _complain(why, "is the disk full, or a folder not readable?", quiet=_is_quiet(words))
        return 7


def _until_told(words: list[str], environment: Mapping[str, str]) -> int:
    """Run a command to its end, or to a signal."""
    try:
        return _run(words, environment)
    except Interrupted as interrupted:
        leaving()
        # What asks for images again would ask once more.
        again = "`pipeline run` goes on" if {"--force", "retry"} & set(words) else "run the same command again to go on"
        _complain(str(interrupted), f"remote batches keep running: {again}", quiet=_is_quiet(words))
        return 128 + interrupted.number


def _run(words: list[str], environment: Mapping[str, str]) -> int:
    try:
        try:
            code = group.main(
                args=words, prog_name="pipeline", standalone_mode=False, obj=environment,
                terminal_width=_width(environment),
            )  # fmt: skip
        except Exception:
            heed()  # told to stop, and failed at leaving: what it was told is what there is to say
            raise
        sys.stdout.flush()
        return code if isinstance(code, int) else 0
    except click.exceptions.Exit as ended:
        return ended.exit_code
    except click.Abort:
        _complain("stopped; nothing was sent", "")
        return 130
    except click.ClickException as error:
        _show_usage(error, quiet=_is_quiet(words))
        return 2
    except JobError as error:
        _show_problems(error, quiet=_is_quiet(words))
        return error.exit_code
    except PipelineError as error:
        _complain(str(error), error.hint, quiet=_is_quiet(words))
        return error.exit_code


_NARROW, _WIDE = 50, 80


def _width(environment: Mapping[str, str]) -> int:
    """How wide a help is, in characters: as click has it, which loads all that packs and copies files to find out."""
    columns = environment.get("COLUMNS", "")
    width = int(columns) if columns.isdecimal() else 0
    if not width:
        try:
            width = os.get_terminal_size(sys.__stdout__.fileno() if sys.__stdout__ else 1).columns
        except (OSError, ValueError):
            width = _WIDE
    return max(min(width or _WIDE, _WIDE) - 2, _NARROW)


def _is_quiet(words: Sequence[str]) -> bool:
    """Whether a failure is to be told in one line; known before the words were understood."""
    return bool({"-q", "--quiet"} & set(words))


def _hoisted(args: Sequence[str]) -> list[str]:
    """The arguments with the global options in front, wherever they were written: `run JOB -q` is `-q run JOB`."""
    takes_value = {option: not getattr(param, "is_flag", False) for param in group.params for option in _options(param)}
    front: list[str] = []
    rest: list[str] = []
    words = iter(args)
    for word in words:
        name, is_joined, _value = word.partition("=")
        own = name in takes_value and not (rest[:1] == ["serve"] and name == "--state")
        if word == "--":
            rest += [word, *words]
        elif not own or (rest and name in {"-h", "--help"}):
            rest.append(word)
        else:
            front.append(word)
            if takes_value[name] and not is_joined:
                front += [value for value in [next(words, None)] if value is not None]
    return [*front, *rest]


def _options(param: click.Parameter) -> list[str]:
    return [*param.opts, *param.secondary_opts]


def _show_usage(error: click.ClickException, *, quiet: bool) -> None:
    from pipeline.job.problems import shortened

    ctx, message = getattr(error, "ctx", None), error.format_message()
    if not quiet:
        click.UsageError("\n".join(map(shortened, message.splitlines())), ctx).show()
        return
    message = " ".join(message.split())
    _complain(message, f"see `{ctx.command_path if ctx else 'pipeline'} --help`", quiet=True)


def _show_problems(error: JobError, *, quiet: bool) -> None:
    from pipeline.job.problems import excerpt

    if quiet:
        first, *others = error.problems
        more = f" (and {len(others)} more)" if others else ""
        hint = f"{first.hint}; " if first.hint else ""
        _complain(f"{first}{more}", f"{hint}the same command without -q shows all of it", quiet=True)
        return
    for problem in error.problems:
        click.echo(excerpt(problem), err=True)


def _complain(message: str, hint: str, *, quiet: bool = False) -> None:
    """Say what went wrong and what to type next: in two lines, or, with `quiet`, in one."""
    from pipeline.job.problems import shortened

    colour = sys.stderr.isatty() and "NO_COLOR" not in os.environ
    if quiet and hint:
        message, hint = f"{message.removesuffix('.')}; {hint}", ""
    click.echo(f"{click.style('error:', fg='red') if colour else 'error:'} {shortened(message)}", err=True)
    if hint:
        click.echo(f"hint: {shortened(hint)}", err=True)
