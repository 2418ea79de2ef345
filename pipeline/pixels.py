"""Full decoding of images, in processes beside.

A decoder is the last thing that should run on bytes from outside next to a key and a journal. It takes 20 to 30 ms for
a 1K image and half a second for a 4K one, so it also must not hold up what unpacks the next answer.
"""

from __future__ import annotations

import json
import os
import selectors
import subprocess
import sys
from collections import deque
from contextlib import suppress
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING, Final, Self, cast

from pipeline.decoder import BEGUN
from pipeline.errors import LocalError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


_QUEUE: Final = 8  # pictures a worker has before it: few enough that what it says always fits into its pipe
_MOST_WAITING: Final = 20_000
_FALSE_STARTS: Final = 3


class PixelChecks:
    """`pixels_problem` in processes of their own, which a hostile picture can slow down or kill, and nothing else.

    Nothing starts before the first `submit`. A worker has `seconds` and `memory_bytes` for each picture; when it dies,
    that picture gets a problem and the next one a new worker. Workers end when the block is left, which drops whatever
    was not drained, and, since they read from us, soon after we are killed. For use by one thread.

    What is submitted waits until a worker is free. Whoever submits it does not, unless very much waits already.
    """

    def __init__(self, workers: int = 2, *, seconds: float = 60, memory_bytes: int = 2 << 30) -> None:
        self._most = workers
        self._limits = (seconds, memory_bytes)
        self._workers: list[_Worker] = []
        self._selector = selectors.DefaultSelector()
        self._waiting: deque[_Task] = deque()
        self._settled: deque[tuple[str, str | None]] = deque()
        self._false_starts = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        for worker in self._workers:
            worker.kill()
        self._workers.clear()
        self._selector.close()

    def submit(self, token: str, path: Path, *, blank: bool) -> None:
        """Queue a picture; `token` comes back with its outcome."""
        self._waiting.append(_Task(token, str(path), blank))
        self._pump(0)
        while len(self._waiting) > _MOST_WAITING:
            self._pump(None)

    @property
    def are_waiting(self) -> bool:
        """Whether pictures are being looked at, or wait for that."""
        return bool(self._waiting) or any(worker.asked for worker in self._workers)

    def go_on(self) -> None:
        """Give workers that are free what waits for one; to be called from time to time."""
        if self._waiting:
            self._pump(0)

    def finished(self) -> list[tuple[str, str | None]]:
        """What was settled since the last call, without waiting: the token, and a problem or None."""
        self._pump(0)
        settled = list(self._settled)
        self._settled.clear()
        return settled

    def drain(self) -> Iterator[tuple[str, str | None]]:
        """Everything that was submitted and not handed out yet, as it is settled."""
        while self._settled or self.are_waiting:
            if not self._settled:
                self._pump(None)
            yield from self.finished()

    def _feed(self) -> None:
        """Hand out what waits, as far as the queues of the workers take it."""
        while self._waiting:
            if self._wants_another():
                worker = _Worker(*self._limits)
                self._workers.append(worker)
                self._selector.register(worker.answers, selectors.EVENT_READ, worker)
            else:
                worker = min(self._workers, key=lambda worker: len(worker.asked))
                if len(worker.asked) >= _QUEUE:
                    return
            worker.ask(self._waiting.popleft())

    def _wants_another(self) -> bool:
        """A process takes as long to start as it takes for a few pictures: where there are no more, one is enough."""
        fewest = min((len(worker.asked) for worker in self._workers), default=_QUEUE)
        return len(self._workers) < self._most and fewest >= _QUEUE // 2

    def _pump(self, timeout: float | None) -> None:
        """Take what the workers have said; with None, wait until one of them says something."""
        self._feed()
        longest = self._limits[0] * (_QUEUE + 1) + 60
        ready = self._selector.select(longest if timeout is None else timeout)
        if timeout is None and not ready:  # stopped from outside: their own alarm would have rung long ago
            for worker in self._workers:
                worker.process.kill()
        for key, _ in ready:
            worker = cast("_Worker", key.data)
            alive = worker.listen(self._settled)
            if not alive:
                self._bury(worker)
        self._feed()

    def _bury(self, worker: _Worker) -> None:
        self._selector.unregister(worker.answers)
        self._workers.remove(worker)
        worker.kill()
        self._false_starts = 0 if worker.spoke else self._false_starts + 1
        if self._false_starts == _FALSE_STARTS:
            raise LocalError(
                "the process that decodes pictures does not start", hint="try `python -c 'import PIL.Image'`"
            )
        if worker.begun:
            self._settled.append((worker.asked.popleft().token, "could not be decoded: the decoder was stopped"))
        self._waiting.extendleft(reversed(worker.asked))


@dataclass(frozen=True, slots=True)
class _Task:
    token: str
    path: str
    blank: bool


class _Worker:
    """One process: tasks go in as lines of JSON; `begun` and the problem come out for each, in the same order."""

    def __init__(self, seconds: float, memory_bytes: int) -> None:
        code = (
            f"import sys; sys.path[:] = {sys.path!r}; "
            f"from pipeline.decoder import work; work({seconds!r}, {memory_bytes!r})"
        )
        # Started afresh, never forked; in a group of its own, where no Ctrl-C of the terminal reaches it.
        self.process = subprocess.Popen(  # noqa: S603 - our own interpreter and code
            [sys.executable, "-S", "-c", code],  # where packages are is told, and need not be found out
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            process_group=0,
        )
        self.asked: deque[_Task] = deque()
        self.begun = False
        self.spoke = False
        self.answers = cast("IO[bytes]", self.process.stdout)
        self._tasks = cast("IO[bytes]", self.process.stdin)
        self._heard = b""

    def ask(self, task: _Task) -> None:
        self.asked.append(task)
        with suppress(BrokenPipeError):  # it is dead: its end of the other pipe says so
            self._tasks.write(json.dumps([task.path, task.blank]).encode() + b"\n")
            self._tasks.flush()

    def listen(self, settled: deque[tuple[str, str | None]]) -> bool:
        """Move what it has said to `settled`; False when it is dead and has no more to say."""
        said = os.read(self.answers.fileno(), 1 << 16)
        *lines, self._heard = (self._heard + said).split(b"\n")
        for line in lines:
            self.spoke = True
            self.begun = line == BEGUN
            if not self.begun:
                settled.append((self.asked.popleft().token, json.loads(line)))
        return bool(said)

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()
        with suppress(BrokenPipeError):
            self._tasks.close()
        self.answers.close()
