"""Requests → Batch API JSONL within the limits of a batch, streamed: at most one line is in memory."""

from __future__ import annotations

import contextlib
import hashlib
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from pipeline.errors import UnfinishedError
from pipeline.gemini import answers, wire
from pipeline.job import references

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping
    from typing import IO

    from pipeline.durable import Folder
    from pipeline.gemini.models import Model, Models
    from pipeline.job.language import Batch as Limits
    from pipeline.job.language import Job
    from pipeline.journal import Record, Upload, WantedRequest


@dataclass(frozen=True, slots=True)
class BatchFile:
    """A written request file."""

    name: str
    model_id: str
    requests: int
    bytes: int
    chunk: str
    """The first 24 hex digits of its sha256."""


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
    requests: Iterable[WantedRequest],
    models: Models,
    *,
    left_out: Callable[[str], None] | None = None,
) -> list[BatchFile]:
    """Write everything a job asks for: requests-00000.jsonl, …, each for one model. Returns them in order.

    Later turns of conversations are not among them, because their lines are made of answers; `left_out` is called with
    the key of each.
    """
    made: list[BatchFile] = []
    with contextlib.ExitStack() as open_files:
        writers: dict[str, _Writer] = {}
        for request in requests:
            model_id, told = request.model_id, json.loads(request.line)
            if request.follows:
                if left_out:
                    left_out(request.key)
                continue
            text = line(job, told, request.wire_key, models.find(model_id), {})
            writer = writers.get(model_id)
            if writer is None or not writer.filling.takes(answer_bytes=request.answer_bytes, input_bytes=len(text)):
                if writer:
                    made[writer.number] = writer.closed()
                writer = _Writer(folder, len(made), job, model_id)
                writer.filling.takes(answer_bytes=request.answer_bytes, input_bytes=len(text))
                writers[model_id] = writer
                made.append(BatchFile(writer.name, model_id, 0, 0, ""))
                open_files.push(writer.context)
            writer.write(text)
        for writer in writers.values():
            made[writer.number] = writer.closed()
        open_files.pop_all()
    return made


class _Writer:
    """A request file that is being written."""

    def __init__(self, folder: Folder, number: int, job: Job, model_id: str) -> None:
        self.number, self.name, self._model_id = number, f"requests-{number:05}.jsonl", model_id
        self.filling = Filling(job.batch)
        self.context = folder.replacing(self.name)
        self._stream: IO[bytes] = self.context.__enter__()
        self._digest = hashlib.sha256()

    def write(self, text: bytes) -> None:
        self._stream.write(text)
        self._digest.update(text)

    def closed(self) -> BatchFile:
        self.context.__exit__(None, None, None)
        filling = self.filling
        return BatchFile(
            self.name, self._model_id, filling.requests, filling.input_bytes, self._digest.hexdigest()[:24]
        )


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
