"""The calls to the service, through google-genai; what each answer means is decided here and nowhere else.

Only the download of an answer file is a request of our own, because the SDK believes a body that was cut.
"""

from __future__ import annotations

import contextlib
import json
import re
import time
import warnings
from http import HTTPStatus
from typing import TYPE_CHECKING, TypeVar

from pipeline import crash
from pipeline.errors import PipelineError, ServiceError, UnfinishedError, UsageError
from pipeline.gemini import verdicts, wire
from pipeline.gemini.connection import (
    DEFAULT_URL,
    VERSION,
    BillingError,
    Connection,
    GoneError,
    PassingError,
    TakenError,
    UnheardError,
)
from pipeline.gemini.secret import Secret

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

T = TypeVar("T")

_READ_S = 60.0
_ONCE_MORE = "run again: it is fetched once more"
_DRAWING_S = 300.0
"""A large image of a model that thinks takes its time."""
_LARGE = 1 << 18
"""Bytes of a download that are taken at once."""
_SLOWEST = 8_000
"""Bytes a second that a download must bring, over `_LOOK_S` seconds."""
_LOOK_S = 120.0
_PAGE, _PAGES, _EMPTY_PAGES = 100, 10_000, 100
"""Entries on a page of a listing; pages, and empty ones in a row, after which it is believed to have no end."""
_REFUSED = 4  # hundreds of HTTP codes
_MODEL = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")

__all__ = ["DEFAULT_URL", "Api", "BillingError", "GoneError", "Secret", "TakenError", "UnheardError"]


class Api:
    """The Gemini API for one key. Its methods raise the errors of `pipeline.errors` and no others.

    What is about files may be called by several threads at once, and so may `generate`.
    """

    def __init__(self, key: Secret, base_url: str = DEFAULT_URL) -> None:
        self._line = Connection(key, base_url)
        self.base_url = self._line.base_url
        self.redacted = self._line.redacted
        self.now = self._line.now

    def close(self) -> None:
        self._line.close()

    def prepare(self) -> None:
        """Get ready, beside, for the calls to come: for who waits for something else meanwhile."""
        self._line.prepare()

    @property
    def ahead_s(self) -> float | None:
        """How far the service's clock is ahead of ours, in seconds; None before it has answered."""
        return self._line.ahead_s

    def model(self, model_id: str) -> bool:
        """Whether the service has a model. Asked a single time: what is in the way is raised at once."""
        _refuse_strange(model_id)
        what = f"asking for {model_id}"
        try:
            self._line.once(what, lambda: self._line.client.models.get(model=model_id))
        except GoneError:
            return False
        except PassingError:  # the SDK may stumble over a shape that matters to nobody here
            if self._line.raw[0] != HTTPStatus.OK:
                raise
        return "name" in self._line.document(what)

    # ----------------------------------------------------------------------------------------- files

    def upload(self, path: Path, name: str, mime: str) -> wire.RemoteFile:
        """Upload a file as `files/NAME`; return what the service made of it, or what it has under that name.

        The second after a lost answer, or where two upload the same at a time: the caller holds it against what it
        wanted. Raises `TakenError` when the name belongs to a file that is not shown to us.
        """
        line = self._line
        config = line.types.UploadFileConfig(name=name, mime_type=mime, display_name=name, http_options=line.options())
        what = f"uploading {path.name}"
        try:
            with crash.around("upload"):
                line.call(what, lambda: line.client.files.upload(file=str(path), config=config))
        except (ServiceError, UnfinishedError):
            there = self.file(f"files/{name}")
            if there is None:
                raise
            return there
        told = wire.remote_file(line.document(what).get("file"))
        is_told = told is not None and told.name == f"files/{name}" and None not in {told.bytes, told.sha256}
        there = told if is_told else self.file(f"files/{name}")
        if there is None:
            raise PassingError(f"{what}: an answer that does not name it", hint="run again later; nothing is lost")
        return there

    def file(self, name: str) -> wire.RemoteFile | None:
        """What the service knows of a file; `None` when it is not there (or not ours)."""
        line, what = self._line, f"looking for {name}"
        try:
            line.call(what, lambda: line.client.files.get(name=name))
        except GoneError:
            return None
        told = wire.remote_file(line.document(what))
        if told is None or told.name != name:
            raise PassingError(f"{what}: an answer that is no file", hint="run again later")
        return told

    def files(self) -> Iterator[wire.RemoteFile]:
        """Every file of the project that the service lists; results of batches are not among them.

        Raises `UnfinishedError` when the listing cannot be completed.
        """
        yield from self._listing("files", self._page_of_files)

    def _page_of_files(self, token: str) -> tuple[list[wire.RemoteFile], str]:
        config = self._line.types.ListFilesConfig(page_size=_PAGE, page_token=token or None)

        def page() -> tuple[list[wire.RemoteFile], str]:
            try:
                self._line.client.files.list(config=config)
            except Exception:  # as with batches
                if self._line.raw[0] != HTTPStatus.OK:
                    raise
            return wire.remote_files(json.loads(self._line.raw[1]))

        return self._line.call("listing files", page)

    def delete_file(self, name: str) -> None:
        """Delete a file; one that is not there is deleted already."""
        with contextlib.suppress(GoneError), crash.around("delete"):
            self._line.call(f"deleting {name}", lambda: self._line.client.files.delete(name=name))

    def download(self, name: str, write: Callable[[bytes], object]) -> int | None:
        """Stream a result file into `write`; return the length that was announced, in bytes.

        Raises `GoneError` when it is not there, `UnfinishedError` when it broke off; the caller checks what came.
        """
        what, masked = f"downloading {name}", self._line.masked()
        try:
            with self._line.http.stream(
                "GET",
                f"{self.base_url}/{VERSION}/{name}:download",
                params={"alt": "media"},
                headers=self._line.headers(),
                timeout=self._line.httpx.Timeout(_READ_S, connect=30.0),
            ) as response:
                if response.status_code != HTTPStatus.OK:
                    raise self._meaning_of_download(what)
                if response.headers.get("content-encoding", "identity") != "identity":
                    raise PassingError(f"{what}: it comes compressed, and nobody asked for that", hint=_ONCE_MORE)
                for piece in _gathered(_timely(response.iter_bytes(), what)):
                    write(masked.through(piece))
                write(masked.rest())
                length = response.headers.get("content-length", "")
                return int(length) if re.fullmatch("[0-9]{1,18}", length) else None
        except self._line.httpx.HTTPError as error:
            said = str(error) if isinstance(error, self._line.unreadable) else type(error).__name__
            raise PassingError(f"{what}: {said}", hint=_ONCE_MORE) from None

    def _meaning_of_download(self, what: str) -> PipelineError:
        """A result that is not there (yet) is 403 as often as 404, in any words, unless the key is named."""
        meaning = self._line.meaning(what)
        code, body, _ = self._line.raw
        fault = wire.fault(code, body, None)
        absent = code in {HTTPStatus.FORBIDDEN, HTTPStatus.NOT_FOUND}
        if absent and not (fault and verdicts.names_the_key(fault)):
            return GoneError(str(meaning))
        return meaning

    # --------------------------------------------------------------------------------------- at once

    def generate(self, model_id: str, line: bytes) -> verdicts.Reply:
        """Ask for what a line of a request file asks for, now: one POST, never repeated, by anyone."""
        _refuse_strange(model_id)
        client, types = self._line.client, self._line.types
        contents, config = wire.at_once(json.loads(line))
        settings = types.GenerateContentConfig(
            **config,
            # The history goes past the SDK, which refuses words of an answer that it does not know.
            http_options=types.HttpOptions(timeout=int(_DRAWING_S * 1000), extra_body={"contents": contents}),
            automatic_continuation=False,
            automatic_function_calling=types.AutomaticFunctionCallingConfig(disable=True),
        )
        self._line.forget()
        try:
            with crash.around("generate"), warnings.catch_warnings():
                warnings.simplefilter("ignore")
                client.models.generate_content(model=model_id, contents=contents[-1], config=settings)
        except (self._line.httpx.ConnectError, self._line.httpx.ConnectTimeout) as error:
            return verdicts.NotSent(f"no connection ({type(error).__name__})")
        except Exception as error:  # noqa: BLE001 - it may have been drawn, and is not asked for again before that is told
            if not self._line.raw[0]:
                return verdicts.Unknown(f"no answer ({type(error).__name__})")
        return self._reply()

    def _reply(self) -> verdicts.Reply:
        """What the raw answer to a request means; the SDK's own reading of it leaves out too much."""
        code, body, retry_after = self._line.raw
        fault = wire.fault(code, body, retry_after)
        if fault is None:
            if code == HTTPStatus.OK and wire.is_object(body):
                return verdicts.Answered(body)
            return verdicts.Unknown(f"HTTP {code} without the API's own words")
        words = self.redacted(fault.message or fault.status)[:500]
        if fault.code in {HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.SERVICE_UNAVAILABLE}:
            return verdicts.Rejected("rate", f"{words} (HTTP {fault.code})", fault.retry_after_s)
        if verdicts.kind(fault) == "key":
            return verdicts.Rejected("key", f"{words} (HTTP {fault.code})")
        return verdicts.Failed(fault.code, words)

    # --------------------------------------------------------------------------------------- batches

    def create(self, model_id: str, input_file: str, display_name: str) -> verdicts.Verdict:
        """Create a batch: one POST, never repeated, by anyone. The answer is a verdict, not an exception."""
        _refuse_strange(model_id)
        client, config = self._line.client, self._line.types.CreateBatchJobConfig(display_name=display_name)
        self._line.forget()
        try:
            with crash.around("create"), warnings.catch_warnings():
                warnings.simplefilter("ignore")
                client.batches.create(model=model_id, src=input_file, config=config)
        except (self._line.httpx.ConnectError, self._line.httpx.ConnectTimeout) as error:
            return verdicts.NotSent(f"no connection ({type(error).__name__})")
        except Exception as error:  # noqa: BLE001 - whatever it is, it must not be sent again before its fate is known
            if not self._line.raw[0]:
                return verdicts.Unknown(f"no answer ({type(error).__name__})")
        return self._verdict(display_name)

    def _verdict(self, display_name: str) -> verdicts.Verdict:
        code, body, retry_after = self._line.raw
        if code == HTTPStatus.OK:
            try:
                made = wire.operation(json.loads(body))
            except (ValueError, RecursionError):
                made = None
            if made and made.display_name == display_name:
                return verdicts.Accepted(made)
            return verdicts.Unknown("an answer that names no batch of ours")
        fault = wire.fault(code, body, retry_after)
        if fault is None or code // 100 != _REFUSED or code in verdicts.UNDECIDED:
            return verdicts.Unknown(f"HTTP {code}")
        kind = verdicts.kind(fault)
        words = self.redacted(fault.message or fault.status)[:500]
        if kind == "billing":
            words = f"{verdicts.NO_PAID_TIER}: {words}"
        kinds = {"rate": "rate", "key": "key", "billing": "key", "gone": "file" if "File" in fault.message else "bad"}
        return verdicts.Rejected(kinds.get(kind, "bad"), f"{words} (HTTP {code})", fault.retry_after_s)

    def batch(self, name: str) -> wire.Operation | None:
        """Ask for a batch by name; `None` when the service says that it does not have it."""
        try:
            self._line.call(f"asking for {name}", lambda: self._line.client.batches.get(name=name))
        except GoneError:
            return None
        except PassingError:
            # The SDK may stumble over a shape that we can read: the raw answer decides.
            if self._line.raw[0] != HTTPStatus.OK:
                raise
        return self._read(name)

    def _read(self, name: str) -> wire.Operation:
        told = wire.operation(self._line.document(f"asking for {name}"))
        if told is None or told.name != name:
            raise PassingError(f"asking for {name}: an answer that is no batch", hint="run again later")
        return told

    def batches(self) -> Iterator[wire.Operation]:
        """Every batch of the project, newest first as far as the service keeps order.

        Raises `UnfinishedError` when the listing cannot be completed: half a listing proves nothing.
        """
        yield from self._listing("batches", self._page_of_batches)

    def _listing(self, what: str, page: Callable[[str], tuple[list[T], str]]) -> Iterator[T]:
        """All pages of a listing, the empty ones among them, up to the last."""
        token, empty = "", 0
        seen: set[str] = set()
        while True:
            found, token = page(token)
            yield from found
            if not token:
                return
            empty = 0 if found else empty + 1
            if token in seen or empty == _EMPTY_PAGES or len(seen) == _PAGES:
                why = "repeats a page" if token in seen else "lists on and on"
                raise PassingError(f"listing {what}: the service {why}", hint="run again later; nothing is lost")
            seen.add(token)

    def _page_of_batches(self, token: str) -> tuple[list[wire.Operation], str]:
        config = self._line.types.ListBatchJobsConfig(page_size=_PAGE, page_token=token or None)

        def page() -> tuple[list[wire.Operation], str]:
            try:
                self._line.client.batches.list(config=config)
            except Exception:  # the SDK's own reading of a listing does not matter
                if self._line.raw[0] != HTTPStatus.OK:
                    raise
            return wire.operations(json.loads(self._line.raw[1]))

        return self._line.call("listing batches", page)

    def cancel(self, name: str) -> None:
        """Ask the service to cancel a batch; one that has ended or is not there stays as it is."""
        with contextlib.suppress(GoneError), crash.around("cancel"):
            self._line.call(f"cancelling {name}", lambda: self._line.client.batches.cancel(name=name))

    def delete_batch(self, name: str) -> None:
        """Delete a batch and, with it, its result file; one that is not there is deleted already."""
        with contextlib.suppress(GoneError), crash.around("delete"):
            self._line.call(f"deleting {name}", lambda: self._line.client.batches.delete(name=name))


def _timely(pieces: Iterator[bytes], what: str) -> Iterator[bytes]:
    """Pieces of an answer, as long as they come fast enough to be worth waiting for."""
    since, came = time.monotonic(), 0
    for piece in pieces:
        yield piece
        came += len(piece)
        passed_s = time.monotonic() - since
        if passed_s >= _LOOK_S:
            if came < _SLOWEST * passed_s:
                raise PassingError(f"{what}: {came:,} bytes in {passed_s:.0f} s", hint=_ONCE_MORE)
            since, came = time.monotonic(), 0


def _gathered(pieces: Iterator[bytes]) -> Iterator[bytes]:
    """The same bytes in large pieces: over TLS they come in small ones, and each is looked at, hashed and written."""
    waiting, size = [], 0
    for piece in pieces:
        waiting.append(piece)
        size += len(piece)
        if size >= _LARGE:
            yield b"".join(waiting)
            waiting, size = [], 0
    yield b"".join(waiting)


def _refuse_strange(model_id: str) -> None:
    """Refuse what is no id of a model: it becomes a part of the URL."""
    if not _MODEL.fullmatch(model_id):
        raise UsageError(f"{model_id!r} is no id of a model", hint="letters, digits, dots and dashes")
