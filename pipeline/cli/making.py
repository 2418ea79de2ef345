"""What a call leaves for make and ninja: `--stamp`, newer than all it was made from; `--depfile`, which names that."""

from __future__ import annotations

import os
import stat
import time
from pathlib import Path
from typing import TYPE_CHECKING

import click

from pipeline.errors import UsageError
from pipeline.job.dependencies import Dependencies
from pipeline.job.problems import is_control

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from pipeline.cli.opening import Opened
    from pipeline.cli.options import Options

_STAMP = b"Nothing was open and nothing had failed when this was written, for:\n"
_COARSE_NS = 10_000_000
"""File systems keep the time of the last tick of a clock, which may lie a few milliseconds back."""
_UNWRITABLE = frozenset(";|")
"""With them a rule would end, or go on as something else; so would it with a tab or a line break."""
_QUOTED = {"$": "$$", ":": "\\:", "*": "\\*", "?": "\\?"}
_META = "pipeline.cli.making"


class Marks:
    """The stamp and the depfile of a call, by the names they were given; `dependencies` is what is collected for them.

    Raises `UsageError` where one of them would replace something else, before anything is done.
    """

    def __init__(self, stamp: str | None = None, depfile: str | None = None) -> None:
        self._stamp, self._depfile = stamp, depfile
        self._started_ns = time.time_ns() - _COARSE_NS
        self.are_asked = bool(stamp or depfile)
        self.dependencies = Dependencies(is_kept=self.are_asked)
        if stamp and depfile and Path(stamp).absolute() == Path(depfile).absolute():
            raise UsageError("--stamp and --depfile name the same file", hint="give each its own")
        for option, name in (("--stamp", stamp), ("--depfile", depfile)):
            if name is not None:
                _refuse_stranger(option, name)

    def note(self, options: Options, opened: Opened) -> None:
        """Write the depfile: all jobs were read and nothing was refused, so what follows changes nothing in it.

        A job that another run holds was not read: what it is made from is not known, and nothing is written.
        """
        if options.models_file is not None:
            self.dependencies.add(options.models_file)
        if self._depfile is None or opened.locked:
            return
        results = [_manifest(options, one.job.name) for one in opened.jobs]
        targets, more = ([self._stamp], results) if self._stamp else (results, [])
        _write(self._depfile, depfile(targets, [*more, *_seen_from_here(self.dependencies)]), None)

    def succeed(self, options: Options, opened: Opened) -> None:
        """Write the stamp: nothing is open and nothing failed. It is always new.

        Where something it is made from was changed while the jobs were worked on, it is as old as the start of the
        call instead, so that make has another look.
        """
        if self._stamp is None:
            return
        lines = "".join(f"{_manifest(options, one.job.name)}\n" for one in opened.jobs)
        since = self._started_ns if any(map(self._is_newer, self.dependencies)) else None
        _write(self._stamp, _STAMP + lines.encode(errors="surrogateescape"), since)

    def _is_newer(self, path: str) -> bool:
        try:
            return os.stat(path).st_mtime_ns >= self._started_ns  # noqa: PTH116 - a text for each of many files
        except OSError:
            return True


def leaving(command: click.Command) -> click.Command:
    """Give a command `--stamp` and `--depfile`; `asked` has them then."""
    for name, words in (
        ("--stamp", "Touch F when nothing is open and nothing failed."),
        ("--depfile", "Write to F what the jobs are made from, for make or ninja."),
    ):
        command.params.append(click.Option([name], metavar="F", callback=_keep, expose_value=False, help=words))
    return command


def _keep(ctx: click.Context, param: click.Parameter, value: str | None) -> None:
    ctx.meta.setdefault(_META, {})[param.name] = value


def asked() -> Marks:
    """The marks that the command at hand was asked for; raises `UsageError`."""
    given = click.get_current_context().meta.get(_META, {})
    return Marks(given.get("stamp"), given.get("depfile"))


def depfile(targets: Sequence[str], dependencies: Iterable[str]) -> bytes:
    """A rule of make without a recipe, as compilers write it; a file that is deleted later breaks nothing.

    Names that no rule can hold must not be among them.
    """
    named = list(dict.fromkeys(dependencies))
    # With an `=` in it, a name may not come first behind the colon, where it would set a variable, nor be a target.
    plain = [name for name in named if "=" not in name]
    ordered = [*plain, *(name for name in named if "=" in name)]
    rule = f"{' '.join(map(_target, targets))}:" + "".join(f" \\\n  {_escaped(name)}" for name in ordered) + "\n"
    gone = "".join(f"{_target(name)}:\n" for name in plain)
    return (rule + gone).encode(errors="surrogateescape")


def _target(name: str) -> str:
    """A name in front of the colon, where a `%` would make the rule a pattern. What ninja takes has none."""
    return _escaped(name).replace("%", "\\%")


def _escaped(name: str) -> str:
    """A name as make reads it back; backslashes count only before what they quote."""
    shown = f"./{name}" if name.startswith("~") else name
    text = ""
    for char in shown:
        if char in " #":
            text += "\\" * (len(text) - len(text.rstrip("\\"))) + f"\\{char}"
        else:
            text += _QUOTED.get(char, char)
    return text


def _seen_from_here(paths: Iterable[str]) -> list[str]:
    """Paths as make knows them: relative to the current folder where they lie below it.

    The folder of a file stands in for a name that no rule can hold.
    """
    here = os.path.realpath(".")
    names = (_relative(_held(path), here) for path in paths)
    # What ends in a bracket would be a member of an archive.
    return sorted({f"{name}/." if name.endswith(")") else name for name in names})


def _held(path: str) -> str:
    while any(char in _UNWRITABLE or is_control(char) for char in path) or _is_like_a_member(path):
        path = os.path.dirname(path)  # noqa: PTH120 - as above
    return path


def _is_like_a_member(path: str) -> bool:
    return path.endswith(")") and not os.path.isdir(path)  # noqa: PTH112 - as above


def _relative(path: str, here: str) -> str:
    plain = os.path.normpath(path)
    if ".." in path.split("/") and not (os.path.exists(plain) and os.path.samefile(plain, path)):  # noqa: PTH110, PTH121
        plain = os.path.realpath(path)  # behind a link, `..` is another folder
    whole = os.path.join(here, plain)  # noqa: PTH118
    return os.path.relpath(whole, here) if whole.startswith(f"{here}{os.sep}") or whole == here else whole


def _manifest(options: Options, job: str) -> str:
    return (options.outputs / job / "manifest.jsonl").as_posix()


def _refuse_stranger(option: str, name: str) -> None:
    """Refuse a place where something lies that is none of ours: a slip must not cost a manifest or a device."""
    path = Path(name)
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):
            raise UsageError(f"{option} {name}: that is no file", hint="name a file that may be replaced")
        with path.open("rb") as stream:
            head = stream.read(len(_STAMP))
    except (FileNotFoundError, NotADirectoryError):
        return
    except (OSError, ValueError) as error:
        why = error.strerror if isinstance(error, OSError) else error
        raise UsageError(f"{option} {name}: {why}", hint="name a file that may be replaced") from None
    is_ours = head == _STAMP if option == "--stamp" else path.suffix not in _SOURCES
    if head and not is_ours:
        hint = "remove it first if that is meant, or name another file"
        raise UsageError(f"{option} {name}: something else lies there already", hint=hint)


_SOURCES = frozenset({".yaml", ".yml", ".csv", ".tsv", ".jsonl", ".md", ".txt", ".png", ".jpg", ".jpeg", ".webp"})


def _write(name: str, data: bytes, mtime_ns: int | None) -> None:
    from pipeline.durable import Folder

    path = Path(name)
    folder = Folder(path.parent).make()
    folder.sweep_beside(path.name)
    with folder.replacing(path.name, mtime_ns=mtime_ns) as stream:
        stream.write(data)
