"""The request lines of a large catalog, printed by several processes: each takes every so many parts of the file.

What they bring is as if one process had gone through the whole: the lines come in the catalog's order, and what must
differ from row to row is compared among all of them. Whatever there is to tell of a row, a worker stops instead, and
the whole is left to one process, which finds the words for it.
"""

from __future__ import annotations

import contextlib
import marshal
import os
import signal
import sys
from array import array
from typing import IO, TYPE_CHECKING, Any, Self

from pipeline.batchfile import Asked, Lines, Printer
from pipeline.job import sources
from pipeline.job.expand import OddError, Parts, can_be_parted
from pipeline.job.twins import Twins

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from datetime import date
    from types import TracebackType

    from pipeline.gemini.models import Models
    from pipeline.job.language import Job

_PART = 1 << 20
"""Bytes of a catalog that a worker takes at a time."""
_LARGE = 1 << 22
"""Bytes of lines in one message."""
_MOST = 8
_WORD = 8
"""Bytes that say how long a message is."""


class Workers:
    """Processes at work on a catalog, for the block; they are gone when it ends, however it ends."""

    def __init__(self, job: Job, models: Models, today: date, spans: Sequence[tuple[int, int]], count: int) -> None:
        self._job, self._spans = job, spans
        self._processes: list[int] = []
        self._pipes: list[IO[bytes]] = []
        try:
            for number in range(count):
                self._start(models, today, spans[number::count])
        except BaseException:
            self.stop()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, tb: TracebackType | None) -> None:
        self.stop()

    def lines(self) -> Iterator[Lines]:
        """The lines of the job, in its order; raises `OddError` where only one process can tell."""
        twins = Twins(self._job)
        before = self._job.items.file(self._job.folder).stat()
        for number in range(len(self._spans)):
            noted = None
            while noted is None:
                pipe = self._pipes[number % len(self._pipes)]
                table, asked, sizes, noted = _received(pipe)
                kinds, lengths = [Asked(*kind) for kind in table], array("I", sizes)
                yield Lines([kinds[at] for at in array("I", asked)], lengths, _data(pipe, sum(lengths)))
            twins.take(noted)
        for pipe in self._pipes:
            _received(pipe)
        after = self._job.items.file(self._job.folder).stat()
        if twins.are_there() or (before.st_size, before.st_mtime_ns) != (after.st_size, after.st_mtime_ns):
            raise OddError

    def stop(self) -> None:
        """End the processes; what they have not brought yet is lost."""
        for pipe in self._pipes:
            pipe.close()
        for process in self._processes:
            with contextlib.suppress(ProcessLookupError):
                os.kill(process, signal.SIGKILL)
            os.waitpid(process, 0)
        self._processes, self._pipes = [], []

    def _start(self, models: Models, today: date, spans: Sequence[tuple[int, int]]) -> None:
        here, there = os.pipe()
        process = os.fork()
        if not process:
            _work(self._job, models, today, spans, there)
        os.close(there)
        self._processes.append(process)
        self._pipes.append(os.fdopen(here, "rb"))


def at_work(job: Job, models: Models, today: date) -> Workers | None:
    """Processes that print the lines of a job; None where one process is enough, or must do."""
    count = min(len(os.sched_getaffinity(0)), _MOST) if sys.platform == "linux" else 1
    path = job.items.file(job.folder)
    is_there = os.path.isfile(path)  # noqa: PTH113 - false for what cannot even be a name, too
    if count < 2 or not can_be_parted(job) or not is_there:  # noqa: PLR2004 - several
        return None
    spans = sources.spans(path, _PART)
    return Workers(job, models, today, spans, count) if spans and len(spans) > count else None


def _work(job: Job, models: Models, today: date, spans: Sequence[tuple[int, int]], there: int) -> None:
    """What a worker does; does not come back."""
    try:
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # who is interrupted is the one that reads
        parts, printer = Parts(job, models, today), Printer(job, models)
        for span in spans:
            for message, data in _printed(parts, printer, span, Twins(job)):
                _send(there, message, data)
        parts.finish()
        _send(there, (), ())
    except BaseException:  # noqa: BLE001 - whatever it is, the one that reads finds it again
        os._exit(1)
    os._exit(0)


def _printed(
    parts: Parts, printer: Printer, span: tuple[int, int], twins: Twins
) -> Iterator[tuple[tuple[Any, ...], list[bytes]]]:
    """The lines of a part in one message, or in several large ones; with the last, what must differ in all of it."""
    table: dict[Asked, int] = {}
    asked, sizes, data, waiting = array("I"), array("I"), list[bytes](), 0
    for lines in printer.lines(parts.blocks(span, twins)):
        asked.extend([table.setdefault(kind, len(table)) for kind in lines.asked])
        sizes.extend(lines.sizes)
        data.append(lines.data)
        waiting += len(lines.data)
        if waiting > _LARGE:
            yield ([*map(tuple, table)], asked.tobytes(), sizes.tobytes(), None), data
            table, asked, sizes, data, waiting = {}, array("I"), array("I"), [], 0
    yield ([*map(tuple, table)], asked.tobytes(), sizes.tobytes(), twins.dump()), data


def _send(pipe: int, message: tuple[Any, ...], pieces: Iterable[bytes]) -> None:
    head = marshal.dumps(message)
    for piece in (len(head).to_bytes(_WORD) + head, *pieces):
        rest = memoryview(piece)
        while rest:
            rest = rest[os.write(pipe, rest) :]


def _received(pipe: IO[bytes]) -> Any:
    """The next message of a worker, which lines may follow; raises `OddError` where it sent none."""
    size = int.from_bytes(pipe.read(_WORD))
    if not size:
        raise OddError
    return marshal.loads(_data(pipe, size))  # noqa: S302 - our own process made it


def _data(pipe: IO[bytes], size: int) -> bytes:
    data = pipe.read(size)
    if len(data) < size:
        raise OddError
    return data
