"""Many commands at one moment, each in a process of its own, as a crontab full of them starts."""

from __future__ import annotations

import multiprocessing
import os
import resource
import time
from pathlib import Path
from typing import NamedTuple

from conftest import ROOT, Ended

_SECONDS = 300.0

_children = multiprocessing.get_context("forkserver")
_children.set_forkserver_preload(["tests.warm"])  # seen from the top of the repository


class _Ask(NamedTuple):
    """A command of the crowd."""

    args: tuple[str, ...]
    folder: str
    environment: dict[str, str]
    said: str
    """Where its words go: with `.out` and `.err` behind."""
    most_bytes: int | None
    """No file may become larger than this, as on a disk that is full."""


def _one(ask: _Ask, start) -> None:
    """The life of one process: wait for the others, run one command, and leave with its exit code."""
    from pipeline import cli

    os.chdir(ask.folder)
    os.environ.clear()
    os.environ.update(ask.environment)
    for number, suffix in ((1, "out"), (2, "err")):
        opened = os.open(f"{ask.said}.{suffix}", os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        os.dup2(opened, number)
    start.wait(_SECONDS)
    if ask.most_bytes is not None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (ask.most_bytes, resource.getrlimit(resource.RLIMIT_FSIZE)[1]))
    os._exit(cli.run(list(ask.args)))


def crowd(project, commands, said: Path, *, most_bytes: int | None = None) -> list[Ended]:
    """Run `pipeline ARGS` for all `commands` at once; what each of them ended with, in the same order.

    The processes are forked from one that has loaded everything already, and holds nothing: twenty of them start in
    the time of one.
    """
    said.mkdir(exist_ok=True)
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    asks = [
        _Ask(tuple(args), str(project.folder), environment, str(said / str(n)), most_bytes)
        for n, args in enumerate(commands)
    ]
    start = _children.Barrier(len(asks))
    processes = [_children.Process(target=_one, args=(ask, start), daemon=True) for ask in asks]
    for process in processes:
        process.start()
    until = time.monotonic() + _SECONDS
    for process in processes:
        process.join(max(0.0, until - time.monotonic()))
    codes = [process.exitcode for process in processes]
    for process in processes:
        process.kill()
    texts = [[Path(f"{ask.said}.{suffix}").read_text() for suffix in ("out", "err")] for ask in asks]
    return [Ended(code, *words) for code, words in zip(codes, texts, strict=True)]


def together(call, count: int, *given) -> list:
    """Call `call(*given, start, found)` in so many processes; what they put into `found`."""
    start, found = _children.Barrier(count), _children.Queue()
    processes = [_children.Process(target=_apart, args=(call, *given, start, found), daemon=True) for _ in range(count)]
    for process in processes:
        process.start()
    told = [found.get(timeout=_SECONDS) for _ in range(count * given[-1])]
    for process in processes:
        process.join(_SECONDS)
    return told


def _apart(call, *given) -> None:
    call(*given)
