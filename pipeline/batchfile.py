"""Requests → Batch API JSONL within the limits of a batch, streamed: at most one line is in memory."""

from __future__ import annotations

import hashlib
import json
from bisect import bisect_right
from dataclasses import dataclass
from itertools import accumulate, chain, repeat, takewhile
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

from pipeline import record
from pipeline.errors import UnfinishedError
from pipeline.gemini import answers, wire
from pipeline.job import forms, references
from pipeline.job.forms import Filled

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
    from typing import IO

    from pipeline.durable import Folder
    from pipeline.durable.together import Together
    from pipeline.gemini.models import Model, Models
    from pipeline.job.ask import Ask
    from pipeline.job.forms import Form
    from pipeline.job.language import Batch as Limits
    from pipeline.job.language import Job
    from pipeline.job.request import Request
    from pipeline.job.sheets import Sheet
    from pipeline.journal import Record, Upload


_TYPICAL_ANSWER = 1_500_000
_TYPICAL_TEXT = 4_000
_AROUND_ANSWER = 2_000
_IMAGE = ("image",)
_PIECE = 1 << 17
"""Bytes of request lines that are written at a time."""
_MANY = 1000


@dataclass(frozen=True, slots=True)
class BatchFile:
    """A written request file."""

    name: str
    model_id: str
    requests: int
    bytes: int
    chunk: str = ""
    """The first 24 hex digits of its sha256; empty for one that is not to be sent."""


class Turn(NamedTuple):
    """An earlier turn of a conversation: the record of its request, and the line that its answer came in."""

    told: Mapping[str, Any]
    answer: bytes


def line(
    job: Job,
    told: Mapping[str, Any],
    wire_key: str,
    model: Model | None,
    uploads: Mapping[str, Upload],
    earlier: Iterable[Turn] = (),
) -> bytes:
    """The line that asks for what a record describes; reference images go along, but for those among `uploads`.

    A later turn of a conversation is sent with all `earlier` ones. Raises `UnfinishedError` when a reference image
    changed, or an answer that it goes on from cannot be read.
    """
    before = list(earlier)
    if len(before) != told["turn"] - 1:  # half a conversation would be another ask
        raise UnfinishedError(
            f"{told['key']}: turn {told['turn']} of a conversation goes on from answers that are not here yet",
            hint="run again once they are",
        )

    def said(turn: Mapping[str, Any]) -> wire.Said:
        images = (_image(job, entry, uploads.get(entry["sha256"])) for entry in turn["inputs"])
        return wire.Said(turn["prompt"], images)

    return wire.request_line(
        wire_key,
        said(told),
        earlier=((said(turn.told), _answered(turn)) for turn in before),
        settings=told["settings"],
        names_size=model is None or len(model.sizes) > 1,
    )


def answer_bytes(ask: Ask, model: Model | None) -> int:
    """How large an answer line is expected to be; where the model shows its thoughts, it draws one image more."""
    settings = ask.settings()
    response = settings.get("response", _IMAGE)
    images = int("image" in response) + bool(settings.get("thoughts"))
    known = model.answer_bytes(ask.size) if model and ask.size in model.sizes else _TYPICAL_ANSWER
    return images * (known * 4 // 3) + _TYPICAL_TEXT * ("text" in response) + _AROUND_ANSWER


def _answered(turn: Turn) -> Mapping[str, Any]:
    content = answers.content(turn.answer)
    if content is None:
        raise UnfinishedError(
            f"{turn.told['key']}: the kept answer to this turn cannot be read, and the next one goes on from it",
            hint=f"buy it again with `pipeline run JOB --force --select 'key:{turn.told['key']}'`",
        )
    return content


def _image(job: Job, entry: Mapping[str, str], upload: Upload | None) -> wire.Inline | wire.Linked:
    if upload is not None:
        return wire.Linked(upload.mime, upload.uri)
    path = job.folder / entry["path"]
    try:
        data = path.read_bytes()
    except OSError as error:
        raise UnfinishedError(
            f"{entry['path']}: the reference image cannot be read any more: {error.strerror}",
            hint="put it back, or run again to plan without it",
        ) from error
    if references.pointer(data):
        raise UnfinishedError(f"{entry['path']} is a Git LFS pointer, not the image", hint="run `git lfs pull`")
    if hashlib.sha256(data).hexdigest() != entry["sha256"]:
        raise UnfinishedError(
            f"{entry['path']}: the reference image was changed while the job ran",
            hint="run the same command again: it is planned anew",
        )
    return wire.Inline(references.mime_of(data[:64]) or "application/octet-stream", data)


class Filling:
    """How full a batch is, against its limits."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self.requests = self.answer_bytes = self.input_bytes = 0

    def takes(self, *, answer_bytes: int, input_bytes: int) -> bool:
        """Count another request in, unless it does not fit; an empty batch takes any."""
        if self.requests and (
            self.requests + 1 > self._limits.max_requests
            or self.answer_bytes + answer_bytes > self._limits.max_answer_bytes
            or self.input_bytes + input_bytes > self._limits.max_input_bytes
        ):
            return False
        self.requests += 1
        self.answer_bytes += answer_bytes
        self.input_bytes += input_bytes
        return True

    def run(self, lines: Lines, start: int) -> tuple[int, int]:
        """Count in as many lines of one kind as fit, from the one at `start`: how many these are, and their bytes.

        The same as `takes` one by one, until it does not.
        """
        kind, limits = lines.asked[start], self._limits
        room = limits.max_requests - self.requests
        if kind.answer_bytes:
            room = min(room, (limits.max_answer_bytes - self.answer_bytes) // kind.answer_bytes)
        elif self.answer_bytes > limits.max_answer_bytes:
            room = 0
        stop = start + max(room, 0 if self.requests else 1)
        kinds = lines.asked[start:stop]
        if kinds.count(kind) < len(kinds):
            kinds = [*takewhile(kind.__eq__, kinds)]
        ends = [*accumulate(lines.sizes[start : start + len(kinds)])]
        count = bisect_right(ends, limits.max_input_bytes - self.input_bytes)
        if not self.requests:
            count = max(count, 1)
        size = ends[count - 1] if count else 0
        self.requests += count
        self.answer_bytes += count * kind.answer_bytes
        self.input_bytes += size
        return count, size


def write(  # noqa: PLR0913 - each by its own name
    folder: Folder,
    name: str,
    job: Job,
    records: Iterable[Record],
    *,
    models: Models,
    uploads: Mapping[str, Upload],
    earlier: Callable[[Record], Iterable[Turn]],
) -> tuple[BatchFile, list[Record]]:
    """Write the first of these records, as many as fit into one batch, as a request file; return both.

    The records are of one model, `uploads` the reference images that are at the service, by sha256, and `earlier` tells
    the turns before one. The file is complete on disk when this returns.
    """
    filling, taken, digest = Filling(job.batch), [], hashlib.sha256()
    with folder.replacing(name) as stream:
        for record in records:
            told, model = json.loads(record.line), models.find(record.model_id)
            text = line(job, told, record.wire_key, model, uploads, earlier(record))
            if not filling.takes(answer_bytes=record.answer_bytes, input_bytes=len(text)):
                break
            stream.write(text)
            digest.update(text)
            taken.append(record)
    made = BatchFile(name, taken[0].model_id, len(taken), filling.input_bytes, digest.hexdigest()[:24])
    return made, taken


def compile_all(
    folder: Folder,
    job: Job,
    blocks: Iterable[Iterable[Filled | Request]],
    models: Models,
    *,
    left_out: Callable[[str], None] | None = None,
) -> list[BatchFile]:
    """Write everything a job asks for: requests-00000.jsonl, …, each for one model. Returns them in order.

    Later turns of conversations are not among them, because their lines are made of answers; `left_out` is called with
    the key of each. Nothing is there before all of it is, or if anything is raised on the way.
    """
    return pack(folder, job, Printer(job, models, left_out=left_out).lines(blocks))


def pack(folder: Folder, job: Job, printed: Iterable[Lines]) -> list[BatchFile]:
    """Write lines into files as `compile_all` does."""
    made: list[BatchFile] = []
    with folder.replacing_together() as group:
        writers: dict[str, _Writer] = {}
        for lines in printed:
            at = start = 0
            while at < len(lines.asked):
                asked = lines.asked[at]
                writer = writers.get(asked.model_id)
                count, size = writer.filling.run(lines, at) if writer else (0, 0)
                if not count:
                    if writer:
                        made[writer.number] = writer.closed()
                    writer = writers[asked.model_id] = _Writer(group, len(made), job, asked.model_id)
                    made.append(BatchFile(writer.name, asked.model_id, 0, 0))
                    count, size = writer.filling.run(lines, at)
                assert writer is not None
                writer.write(memoryview(lines.data)[start : start + size])
                at, start = at + count, start + size
        for writer in writers.values():
            made[writer.number] = writer.closed()
    return made


class Asked(NamedTuple):
    """What a batch must know of a request beside its line."""

    model_id: str
    answer_bytes: int


Data: TypeAlias = bytes | bytearray


class Lines(NamedTuple):
    """Some request lines, newlines included."""

    asked: Sequence[Asked]
    sizes: Sequence[int]
    """Bytes of each."""
    data: Data
    """All of them, one after the other."""


class _Printed(NamedTuple):
    """The line of a form, cut at its blanks."""

    asked: Asked
    before: str
    between: str
    after: str
    slug_tail: str | None
    """What follows an id that is a slug, in the readable part of its key; None where that is not all there is to it."""


class Printer:
    """Makes the lines that ask for requests: those of a form are printed once, and filled in."""

    def __init__(self, job: Job, models: Models, *, left_out: Callable[[str], None] | None = None) -> None:
        self._job, self._models, self._left_out = job, models, left_out
        self._known: dict[Form, _Printed | None] = {}

    def lines(self, blocks: Iterable[Iterable[Filled | Request]]) -> Iterator[Lines]:
        """The lines of these requests, some at a time; none for later turns of conversations, which are `left_out`."""
        found, texts, sizes, waiting = list[Asked](), list[str](), list[int](), 0
        for request in chain.from_iterable(blocks):
            asked, text = self._of(request)
            if not text:
                continue
            found.append(asked)
            texts.append(text)
            sizes.append(len(text))
            waiting += len(text)
            if waiting > _PIECE:
                yield Lines(found, sizes, "".join(texts).encode("ascii"))
                found, texts, sizes, waiting = [], [], [], 0
        yield Lines(found, sizes, "".join(texts).encode("ascii"))

    def sheet(self, sheet: Sheet, fingerprints: Sequence[Sequence[str]]) -> Lines | None:
        """The lines of the requests of a sheet, row by row; None where they are to be made one by one."""
        asked: list[Asked] = []
        sizes: list[Iterable[int]] = []
        pieces: list[Iterable[bytes]] = []
        for column, prints in zip(sheet.columns, fingerprints, strict=True):
            form, written = column.form, column.written
            printed = self._known[form] if form in self._known else self._print(form)
            if printed is None:
                return None
            keys = record.wire_keys(column.keys, prints, sheet.slugs, printed.slug_tail)
            before, between, after = (
                one.encode() for one in (f'{printed.before}"', f'"{printed.between}', printed.after)
            )
            around = len(before) + len(between) + len(after)
            asked.append(printed.asked)
            sizes.append([around + len(key) + len(text) for key, text in zip(keys, written, strict=True)])
            named = "\n".join(keys).encode("ascii").split(b"\n")
            pieces += [repeat(before), named, repeat(between), written, repeat(after)]
        data = b"".join(chain.from_iterable(zip(*pieces, strict=False)))
        return Lines(asked * len(sheet.ids), [*chain.from_iterable(zip(*sizes, strict=True))], data)

    def _of(self, request: Filled | Request) -> tuple[Asked, str]:
        if isinstance(request, Filled):
            form, _row, key, _path, _prompt, written, fingerprint, slug = request
            printed = self._known[form] if form in self._known else self._print(form)
            if printed is not None:
                asked, before, between, after, tail = printed
                key = record.wire_key(key, fingerprint, record.slug_with(slug, tail))
                return asked, f'{before}"{key}"{between}{written}{after}'
            request = request.request()
        model = self._models.find(request.ask.model)
        asked = Asked(model.id if model else request.ask.model, answer_bytes(request.ask, model))
        if request.follows:
            if self._left_out:
                self._left_out(request.key)
            return asked, ""
        told = record.draft(request, model_id=asked.model_id, service="")
        text = line(self._job, told, record.wire_key(request.key, request.fingerprint), model, {})
        return asked, text.decode("ascii")

    def _print(self, form: Form) -> _Printed | None:
        if len(self._known) >= _MANY:  # rows that all bring their own must not pile up
            self._known.clear()
        self._known[form] = printed = None if form.has_images else self._printed(form)
        return printed

    def _printed(self, form: Form) -> _Printed | None:
        blank = form.blank()
        model = self._models.find(blank.ask.model)
        asked = Asked(model.id if model else blank.ask.model, answer_bytes(blank.ask, model))
        told = record.draft(blank, model_id=asked.model_id, service="")
        parts = forms.cut(line(self._job, told, forms.KEY, model, {}).decode("ascii"), forms.KEY, forms.PROMPT)
        if parts is None:
            return None
        before, between, after = parts
        return _Printed(asked, before, between, after, record.slug_tail(form.key_tail))


class _Writer:
    """A request file that is being written."""

    def __init__(self, group: Together, number: int, job: Job, model_id: str) -> None:
        self.number, self.name, self._model_id = number, f"requests-{number:05}.jsonl", model_id
        self.filling = Filling(job.batch)
        self._group = group
        self._stream = group.create(self.name)

    def write(self, piece: memoryview) -> None:
        self._stream.write(piece)

    def closed(self) -> BatchFile:
        self._group.finish(self.name, self._stream)
        return BatchFile(self.name, self._model_id, self.filling.requests, self.filling.input_bytes)


def lines(stream: IO[bytes], *, longest: int) -> Iterator[tuple[int, bytes | None]]:
    r"""Yield offset and bytes of each line, split at `\n` only; `None` for one that is longer than `longest` bytes."""
    offset = 0
    while text := stream.readline(longest):
        start = offset
        offset += len(text)
        if text.endswith(b"\n") or len(text) < longest:
            yield start, text
            continue
        while text and not text.endswith(b"\n"):
            text = stream.readline(longest)
            offset += len(text)
        yield start, None
