"""Many commands at one moment, each in a process of its own, as a crontab full of them starts."""

from __future__ import annotations

import multiprocessing
import os
from pathlib import Path

from conftest import ROOT, Ended
from crashing import nursery

_SECONDS = 300.0

_children = multiprocessing.get_context("forkserver")
_children.set_forkserver_preload(["tests.warm"])  # seen from the top of the repository


def crowd(project, commands, said: Path, *, most_bytes: int | None = None) -> list[Ended]:
    """Run `pipeline ARGS` for all `commands` at once; what each of them ended with, in the same order.

    The processes are forked from one that has loaded everything already, and holds nothing: twenty of them start in
    the time of one. No file may become larger than `most_bytes`, as on a disk that is full.
    """
    said.mkdir(exist_ok=True)
    limits = {} if most_bytes is None else {"RLIMIT_FSIZE": most_bytes}
    same = {"folder": str(project.folder), "environment": {**os.environ, "PYTHONPATH": str(ROOT)}, "limits": limits}
    same |= {"at": "", "log": "", "strace": (), "ahead_s": 0.0, "is_hurried": False, "longest_s": int(_SECONDS)}
    orders = [
        {**same, "args": args, "out": str(said / f"{number}.out"), "err": str(said / f"{number}.err")}
        for number, args in enumerate(commands)
    ]
    codes = nursery().runs(orders)
    texts = [[Path(order[name]).read_text() for name in ("out", "err")] for order in orders]
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
