"""The request lines of a large catalog, printed by several processes: each takes every so many parts of the file.

What they bring is as if one process had gone through the whole: the lines come in the catalog's order, and what must
differ from row to row is compared among all of them. Whatever there is to tell of a row, a worker stops instead, and
the whole is left to one process, which finds the words for it.
"""

from __future__ import annotations

import contextlib
import fcntl
import marshal
import os
import signal
import sys
from array import array
from typing import TYPE_CHECKING, Any, NoReturn, Self

from pipeline.batchfile import Asked, Data, Lines, Printer
from pipeline.job import sources
from pipeline.job.expand import OddError, Parts, can_be_parted, tell
from pipeline.job.problems import Problems
from pipeline.job.sheets import Sheet
from pipeline.job.twins import Twins

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from datetime import date
    from io import FileIO
    from types import TracebackType

    from pipeline.errors import Problem
    from pipeline.gemini.models import Models
    from pipeline.job.language import Job

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_PART = 1 << 18
"""Bytes of a catalog that a worker takes at a time."""
_LARGE = 1 << 20
"""Bytes of lines in one message."""
_MOST = 8
_WORD = 8
"""Bytes that say how long a message is."""


class Workers:
    """Processes at work on a catalog, for the block; they are gone when it ends, however it ends."""

    def __init__(self, job: Job, models: Models, today: date, spans: Sequence[tuple[int, int]], count: int) -> None:
        self._job, self._models, self._today, self._spans = job, models, today, spans
        self._before = self._stamp()
        self._processes: list[int] = []
        self._pipes: list[FileIO] = []
        _keep_memory()
        try:
            for number in range(count):
                self._start(spans[number::count])
        except BaseException:
            self.stop()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, tb: TracebackType | None) -> None:
        self.stop()

    def lines(self, warn: Callable[[Problem], None]) -> Iterator[Lines]:
        """The lines of the job, in its order; raises `OddError` where only one process can tell.

        The data of some lines are good until the next are asked for.
        """
        job, is_empty = self._job, True
        with Twins(job) as twins:
            for number in range(len(self._spans)):
                is_last = False
                while not is_last:
                    pipe = self._pipes[number % len(self._pipes)]
                    table, asked, sizes, noted, is_last = _received(pipe)
                    twins.take(noted)
                    kinds, lengths = [Asked(*kind) for kind in table], array("I", sizes)
                    is_empty = is_empty and not lengths
                    yield Lines([kinds[at] for at in array("I", asked)], lengths, _data(pipe, sum(lengths)))
            for pipe in self._pipes:
                [noted] = _received(pipe)
                twins.take(noted)
            if is_empty or self._stamp() != self._before or twins.are_wrong():
                raise OddError
            problems = Problems()
            tell(job, self._models, self._today, twins, problems, warn)
        if problems:
            raise OddError

    def stop(self) -> None:
        """End the processes; what they have not brought yet is lost."""
        for pipe in self._pipes:
            pipe.close()
        for process in self._processes:
            os.kill(process, signal.SIGKILL)  # it is there until it is waited for
        while self._processes:
            os.waitpid(self._processes[-1], 0)
            self._processes.pop()

    def _stamp(self) -> tuple[int, int]:
        status = self._job.items.file(self._job.folder).stat()
        return status.st_size, status.st_mtime_ns

    def _start(self, spans: Sequence[tuple[int, int]]) -> None:
        here, there = os.pipe()
        with contextlib.suppress(OSError):  # who has many of them may have no more room
            fcntl.fcntl(there, fcntl.F_SETPIPE_SZ, _LARGE)
        with _undisturbed():
            process = os.fork()
            if not process:
                self._pipes.append(os.fdopen(here, "rb", buffering=0))
                self._work(spans, there)
            self._processes.append(process)
        os.close(there)
        self._pipes.append(os.fdopen(here, "rb", buffering=0))

    def _work(self, spans: Sequence[tuple[int, int]], there: int) -> NoReturn:
        """What a worker does; does not come back."""
        try:
            _calm()
            for pipe in self._pipes:  # or who writes would wait for ever, once the one that reads is gone
                pipe.close()
            job, models, today = self._job, self._models, self._today
            parts, printer, twins = Parts(job, models, today), Printer(job, models), Twins(job)
            for span in spans:
                for message, data in _printed(parts, printer, span, twins):
                    _send(there, message, data)
            parts.finish()
            _send(there, (twins.dump(is_last=True),), ())
        except BaseException:  # noqa: BLE001 - whatever it is, the one that reads finds it again
            os._exit(1)
        os._exit(0)


def at_work(job: Job, models: Models, today: date, *, again: bool = False) -> Workers | None:
    """Processes that print the lines of a job; None where one process is enough, or must do.

    To be tried `again` when a row may have been cut because a line break was in it.
    """
    count = min(len(os.sched_getaffinity(0)), _MOST) if sys.platform == "linux" else 1
    path = job.items.file(job.folder)
    is_there = os.path.isfile(path)  # noqa: PTH113 - false for what cannot even be a name, too
    if count < 2 or not can_be_parted(job) or not is_there:  # noqa: PLR2004 - several
        return None
    try:
        spans = sources.spans(path, _PART)
        if again and spans is not None:
            before, spans = spans, sources.spans(path, _PART, by_rows=True)
            spans = None if spans == before else spans
        return Workers(job, models, today, spans, count) if spans and len(spans) > count else None
    except OSError:  # it cannot be read, or no process may be made
        return None


def _printed(
    parts: Parts, printer: Printer, span: tuple[int, int], twins: Twins
) -> Iterator[tuple[tuple[Any, ...], list[Data]]]:
    """The lines of a part in one message, or in several large ones; from time to time, what must differ."""
    table: dict[Asked, int] = {}
    asked, sizes, data, waiting = array("I"), array("I"), list[Data](), 0

    def message(*, is_last: bool) -> tuple[tuple[Any, ...], list[Data]]:
        return ([*map(tuple, table)], asked.tobytes(), sizes.tobytes(), twins.dump(is_last=False), is_last), data

    for lines in _lines(parts, printer, span, twins):
        asked.extend([table.setdefault(kind, len(table)) for kind in lines.asked])
        sizes.extend(lines.sizes)
        data.append(lines.data)
        waiting += len(lines.data)
        if waiting > _LARGE:
            yield message(is_last=False)
            table, asked, sizes, data, waiting = {}, array("I"), array("I"), [], 0
    yield message(is_last=True)


def _lines(parts: Parts, printer: Printer, span: tuple[int, int], twins: Twins) -> Iterator[Lines]:
    """The lines of a part, noted in `twins`."""
    for found in parts.sheets(span):
        if isinstance(found, Sheet):
            fingerprints = found.fingerprints()
            lines = printer.sheet(found, fingerprints)
            if lines is None:
                raise OddError
            twins.note_sheet(found, fingerprints)
            yield lines
        else:
            twins.note(*found)
            yield from printer.lines([found[1]])


def _send(pipe: int, message: tuple[Any, ...], pieces: Iterable[Data]) -> None:
    head = marshal.dumps(message)
    for piece in (len(head).to_bytes(_WORD) + head, *pieces):
        rest = memoryview(piece)
        while rest:
            rest = rest[os.write(pipe, rest) :]


def _received(pipe: FileIO) -> Any:
    """The next message of a worker, which lines may follow; raises `OddError` where it sent none."""
    size = int.from_bytes(_data(pipe, _WORD))
    return marshal.loads(_data(pipe, size))  # noqa: S302 - our own process made it


def _data(pipe: FileIO, size: int) -> bytearray:
    data = bytearray(size)
    rest = memoryview(data)
    while rest:
        count = pipe.readinto(rest)
        if not count:
            raise OddError
        rest = rest[count:]
    return data


def _keep_memory() -> None:
    """Have memory that is given back at once, and asked for again, stay with the process, as glibc does.

    Once it has given back a large piece to the system, it keeps what is smaller. Each page of it is a fault otherwise.
    """
    bytes(31 << 20)  # nothing is written to it, so it takes none


def _calm() -> None:
    """Leave signals to the one that reads, and end by those that end anybody."""
    for number in _SIGNALS:
        if signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _SIGNALS)


@contextlib.contextmanager
def _undisturbed() -> Iterator[None]:
    """Hold signals back for the block; one that comes while a process is made would be heard by both."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
