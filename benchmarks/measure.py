"""Contenders, each in a process of its own and in turns, so that what else the machine does hits all of them.

Time is that of the whole process, its start included. Memory is its peak as the kernel counts it; where a contender has
processes beside it, their shares are looked at while they run as well.
"""

from __future__ import annotations

import itertools
import os
import statistics
import subprocess
import sys
import tempfile
import threading
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

ROOT = Path(__file__).resolve().parent.parent
_MIB = 1024 if sys.platform == "linux" else 1 << 20
"""How many units of ru_maxrss are a MiB."""
_LOOK_S = 0.2
_CHANCE = 0.05
_LAUNCH = (sys.executable, "-I", "-S", str(Path(__file__).with_name("launch.py")))


class FailedError(Exception):
    """A contender that did not do its work: there is nothing to compare."""


@dataclass
class Contender:
    """A way to do the work: its command, what makes it ready, and how often it did it how fast."""

    name: str
    kind: str
    """`ours`, `usual` (what ours is held against), `limit` (what the machine alone can do), or `floor` (a start)."""
    command: Sequence[str | Path]
    made: Callable[[], int] = lambda: 0
    """How many results it left: all contenders must do the same work."""
    expected: int = 0
    prepare: Callable[[], object] = lambda: None
    cwd: Path = ROOT
    environment: Mapping[str, str] = field(default_factory=dict)
    start: str = ""
    """What it has to load first, where that takes long; a `floor` of that name measures it."""
    has_family: bool = False
    """Whether its other processes count for its memory, too."""
    seconds: list[float] = field(default_factory=list)
    peaks: list[float] = field(default_factory=list)
    """MiB, of each run."""

    def forget(self) -> None:
        """Leave out the runs so far."""
        self.seconds.clear()
        self.peaks.clear()

    def run(self) -> None:
        """Do the work once more; raises `FailedError` when it was not done."""
        self.prepare()
        with tempfile.NamedTemporaryFile("r", prefix="bench-") as report:
            process = subprocess.Popen(
                [*_LAUNCH, report.name, *(str(word) for word in self.command)],
                cwd=self.cwd,
                env=environment(self.environment),
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                text=True,
            )
            with _Family(process.pid if self.has_family else None) as family:
                _, said = process.communicate()
            seconds, peak, code = (float(word) for word in report.read().split() or ("0", "0", "1"))
        if code or self.made() != self.expected:
            raise FailedError(f"{self.name}: exit code {code:.0f}, {self.made()} of {self.expected} results\n{said}")
        self.seconds.append(seconds)
        self.peaks.append(max(peak / _MIB, family.peak_mib))


@dataclass
class Less:
    """A contender without what another one takes: a run without its start, say. What is left can be compared alone."""

    name: str
    whole: Contender
    part: Contender
    kind: str

    @property
    def seconds(self) -> list[float]:
        return [max(a - b, 1e-4) for a, b in zip(self.whole.seconds, self.part.seconds, strict=True)]

    @property
    def is_known(self) -> bool:
        """Whether enough is left in every run to be told from what the machine does by chance."""
        return all(left > whole * _CHANCE for left, whole in zip(self.seconds, self.whole.seconds, strict=True))

    @property
    def peaks(self) -> list[float]:
        return [max(self.whole.peaks) - max(self.part.peaks)]


class _Family:
    """The most memory that a process and those it started held together, in MiB; looked at from time to time."""

    def __init__(self, pid: int | None) -> None:
        self.peak_mib = 0.0
        self._pid, self._over = pid, threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)

    def __enter__(self) -> Self:
        if self._pid is not None and sys.platform == "linux":
            self._thread.start()
        return self

    def __exit__(self, *_error: object) -> None:
        self._over.set()
        if self._thread.is_alive():
            self._thread.join()

    def _look(self) -> None:
        while not self._over.wait(_LOOK_S):
            self.peak_mib = max(self.peak_mib, sum(_share_mib(pid) for pid in _below(str(self._pid))))


def _below(pid: str) -> Iterator[str]:
    """The processes that one has started, and those that these have."""
    try:
        tasks = list(Path(f"/proc/{pid}/task").iterdir())
        children = [child for task in tasks for child in (task / "children").read_text().split()]
    except OSError:  # it has just ended
        return
    for child in children:
        yield child
        yield from _below(child)


def _share_mib(pid: str) -> float:
    """What a process holds, pages that it shares counted by its part of them."""
    try:
        rollup = Path(f"/proc/{pid}/smaps_rollup").read_text()
    except OSError:
        return 0.0
    return sum(int(line.split()[1]) for line in rollup.splitlines() if line.startswith("Pss:")) / 1024


def environment(more: Mapping[str, str]) -> dict[str, str]:
    """The environment of a contender: our code is this checkout, and nothing leads elsewhere."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("GEMINI_", "GOOGLE_", "PIPELINE_", "PYTHON", "COLUMNS"))
    }
    return {**kept, "PYTHONPATH": str(ROOT), "NO_PROXY": "127.0.0.1", **more}


def compare(contenders: Sequence[Contender], runs: int) -> None:
    """Let each do its work so often, in turns; another one begins each time."""
    for number in range(runs):
        turn = number % len(contenders)
        for contender in itertools.chain(contenders[turn:], contenders[:turn]):
            if runs > 1:
                os.sync()  # what another one wrote is not waited for here
            contender.run()


def spread(values: Sequence[float]) -> dict[str, float]:
    """Median and range."""
    return {
        "median": round(statistics.median(values), 4),
        "least": round(min(values), 4),
        "most": round(max(values), 4),
    }


def ratio(slow: Contender | Less, fast: Contender | Less) -> dict[str, float]:
    """How many times as long one takes as the other, run by run: what both were hit by goes out."""
    return spread([a / b for a, b in zip(slow.seconds, fast.seconds, strict=True)])
