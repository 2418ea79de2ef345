"""The calls to the service, through google-genai; what each answer means is decided here and nowhere else.

The SDK gets an HTTP client of ours: it follows no redirect (the SDK would send the key along), re-sends nothing, and
keeps the raw answer, which the SDK cuts (a batch's error and input file never reach its own types). Only the download
of an answer file is a request of our own, because the SDK believes a body that was cut.
"""

from __future__ import annotations

import base64
import hashlib
import ipaddress
import json
import logging
import re
import warnings
from dataclasses import dataclass
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import urlsplit

import tenacity

from pipeline import crash
from pipeline.errors import PipelineError, ServiceError, UnfinishedError
from pipeline.gemini import verdicts, wire

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    import httpx2

T = TypeVar("T")

DEFAULT_URL = "https://generativelanguage.googleapis.com"
_VERSION = "v1beta"  # the SDK's own default, v1, is not documented for batches and files
_TIMEOUT_S = 120.0
_READ_S = 60.0
_PAGE = 100
_LONGEST_PAUSE_S = 15.0
_REDIRECTED, _REFUSED = 3, 4  # hundreds of HTTP codes
_MODEL = re.compile(r"[a-z0-9][a-z0-9._-]{0,100}")


class Secret:
    """An API key that shows itself to nobody but the request header."""

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        self._value = value

    def reveal(self) -> str:
        return self._value

    def __repr__(self) -> str:
        return "***"

    __str__ = __repr__

    def __reduce__(self) -> str:
        raise TypeError("a key is never written down")


@dataclass(frozen=True, slots=True)
class RemoteFile:
    """A file at the service, as far as it tells."""

    name: str
    bytes: int | None
    sha256: str | None
    state: str


class GoneError(PipelineError):
    """What was asked for is not at the service, or belongs to another project."""

    exit_code = 6


class RateLimitError(UnfinishedError):
    """The service wants fewer calls; `retry_after_s` when it said for how long."""

    def __init__(self, message: str, retry_after_s: float | None) -> None:
        super().__init__(message, hint="run the same command again later; nothing is lost")
        self.retry_after_s = retry_after_s


class _PassingError(UnfinishedError):
    """Network trouble or a failure of the service that may pass by itself."""


def is_loopback(url: str) -> bool:
    """Whether a URL names this very machine."""
    host = urlsplit(url).hostname or ""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _is_worth_another(error: BaseException) -> bool:
    """Whether a call is made again at once; a service that asks for a long pause gets it between two passes."""
    if isinstance(error, RateLimitError):
        return (error.retry_after_s or 0.0) <= _LONGEST_PAUSE_S
    return isinstance(error, _PassingError)


def _wait(state: tenacity.RetryCallState) -> float:
    error = state.outcome.exception() if state.outcome else None
    asked = error.retry_after_s if isinstance(error, RateLimitError) else None
    return max(asked or 0.0, tenacity.wait_random_exponential(multiplier=0.5, max=20)(state))


class Api:
    """The Gemini API for one key. Its methods raise the errors of `pipeline.errors` and no others."""

    def __init__(self, key: Secret, base_url: str = DEFAULT_URL) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            import httpx2  # noqa: PLC0415 - half a second, and only for those who send
            from google import genai  # noqa: PLC0415
            from google.genai import errors, types  # noqa: PLC0415

        logging.getLogger("google_genai").setLevel(logging.CRITICAL)  # it knows less than we say ourselves
        self._errors, self._types, self._httpx = errors, types, httpx2
        self.base_url = base_url.rstrip("/")
        self._key = key
        self._raw: tuple[int, bytes, str | None] = (0, b"", None)
        self._http = httpx2.Client(
            follow_redirects=False,
            trust_env=not is_loopback(base_url),
            timeout=httpx2.Timeout(_TIMEOUT_S, connect=30.0),
            event_hooks={"response": [self._keep]},
        )
        self._client = genai.Client(
            api_key=key.reveal(), vertexai=False, http_options=self._options(httpx_client=self._http)
        )

    def _options(self, **more: Any) -> Any:
        return self._types.HttpOptions(
            base_url=self.base_url, api_version=_VERSION, timeout=int(_TIMEOUT_S * 1000), **more
        )

    def _keep(self, response: httpx2.Response) -> None:
        """Keep the raw answer of a call; bodies of downloads pass by."""
        if response.request.url.path.endswith(":download"):
            return
        response.read()
        self._raw = (response.status_code, response.content, response.headers.get("retry-after"))

    def close(self) -> None:
        self._http.close()

    # ---------------------------------------------------------------------------------------- errors

    def _call(self, what: str, call: Callable[[], T], *, attempts: int = 4) -> T:
        """Make a call that may be repeated, with back-off; raise what it means in the end."""
        retrying = tenacity.Retrying(
            retry=tenacity.retry_if_exception(_is_worth_another),
            wait=_wait,
            stop=tenacity.stop_after_attempt(attempts) | tenacity.stop_after_delay(180),
            reraise=True,
        )
        return retrying(lambda: self._once(what, call))

    def _once(self, what: str, call: Callable[[], T]) -> T:
        self._raw = (0, b"", None)
        try:
            with warnings.catch_warnings():  # a state that the SDK does not know is no news to us
                warnings.simplefilter("ignore")
                return call()
        except PipelineError:
            raise
        except self._errors.APIError:
            raise self._meaning(what) from None
        except Exception as error:  # noqa: BLE001 - whatever the SDK makes of an answer, ours are the words
            # No exception of the SDK is shown or chained: its request carries the key.
            code, body, _ = self._raw
            if code and code != HTTPStatus.OK:
                raise self._meaning(what) from None
            said = f"an answer that is no JSON ({len(body)} bytes)" if code else type(error).__name__
            raise _PassingError(
                f"{what}: {said}", hint="check the network, then run the same command again; nothing is lost"
            ) from None

    def _meaning(self, what: str) -> PipelineError:
        code, body, retry_after = self._raw
        fault = wire.fault(code, body, retry_after)
        if fault is None:
            if code // 100 == _REDIRECTED:
                return ServiceError(
                    f"{what}: the server wants to send us elsewhere (HTTP {code}), which is not followed",
                    hint=f"check GOOGLE_GEMINI_BASE_URL ({self.base_url})",
                )
            return _PassingError(
                f"{what}: HTTP {code} without the API's own words", hint="run the same command again; nothing is lost"
            )
        words = f"{what}: {self.redacted(fault.message or fault.status)[:500]} (HTTP {fault.code})"
        hints = {
            "passing": "run the same command again; nothing is lost",
            "key": "check the API key, its project and billing; then run again: nothing is lost",
        }
        kind = verdicts.kind(fault)
        if kind == "rate":
            return RateLimitError(words, fault.retry_after_s)
        classes = {"passing": _PassingError, "gone": GoneError}
        return classes.get(kind, ServiceError)(words, hint=hints.get(kind, ""))

    def redacted(self, text: str) -> str:
        """`text` without the key, should the service have echoed it."""
        return re.sub(r"AIza[0-9A-Za-z_-]{35}", "***", text.replace(self._key.reveal(), "***"))

    # ----------------------------------------------------------------------------------------- files

    def upload(self, path: Path, name: str) -> str:
        """Upload a request file as `files/NAME`, or find that it is there already, complete; return its name there.

        Raises `ServiceError` when another file has that name.
        """
        size = path.stat().st_size
        with path.open("rb") as stream:
            sha256 = hashlib.file_digest(stream, "sha256").hexdigest()
        if self._is_there(name, size, sha256):
            return f"files/{name}"
        config = self._types.UploadFileConfig(
            name=name, mime_type=wire.JSONL, display_name=name, http_options=self._options()
        )
        crash.point("upload:before")
        try:
            made = self._call(
                f"uploading {path.name}", lambda: self._client.files.upload(file=str(path), config=config)
            )
        except (ServiceError, UnfinishedError):
            if not self._is_there(name, size, sha256):  # a lost answer, or one of two uploads at a time
                raise
            return f"files/{name}"
        finally:
            crash.point("upload:after")
        return wire.file_name(made.name) or f"files/{name}"

    def _is_there(self, name: str, size: int, sha256: str) -> bool:
        there = self.file(f"files/{name}")
        if there is None or there.state == "PROCESSING":
            return False
        if there.state == "FAILED" or there.bytes not in {None, size} or there.sha256 not in {None, sha256}:
            self.delete_file(there.name)
            return False
        return True

    def file(self, name: str) -> RemoteFile | None:
        """What the service knows of a file; `None` when it is not there (or not ours)."""
        try:
            self._call(f"looking for {name}", lambda: self._client.files.get(name=name))
        except GoneError:
            return None
        told = self._document(f"looking for {name}")
        size = str(told.get("sizeBytes") or "")
        return RemoteFile(
            name=name,
            bytes=int(size) if size.isdigit() else None,
            sha256=_hash(told.get("sha256Hash")),
            state=str(told.get("state") or "ACTIVE"),
        )

    def delete_file(self, name: str) -> None:
        """Delete a file; one that is not there is deleted already."""
        try:
            self._call(f"deleting {name}", lambda: self._client.files.delete(name=name))
        except GoneError:
            return

    def download(self, name: str, write: Callable[[bytes], object]) -> int | None:
        """Stream a result file into `write`; return the length that was announced, in bytes.

        Raises `GoneError` when it is not there, `UnfinishedError` when it broke off; the caller checks what came.
        """
        what = f"downloading {name}"
        try:
            with self._http.stream(
                "GET",
                f"{self.base_url}/{_VERSION}/{name}:download",
                params={"alt": "media"},
                headers={"x-goog-api-key": self._key.reveal(), "accept-encoding": "identity"},
                timeout=self._httpx.Timeout(_READ_S, connect=30.0),
            ) as response:
                if response.status_code != HTTPStatus.OK:
                    response.read()
                    self._raw = (response.status_code, response.content, response.headers.get("retry-after"))
                    raise self._meaning_of_download(what)
                for piece in response.iter_bytes(1 << 20):
                    write(piece)
                if response.headers.get("content-encoding", "identity") != "identity":
                    return None
                length = response.headers.get("content-length", "")
                return int(length) if length.isdigit() else None
        except self._httpx.HTTPError as error:
            raise _PassingError(f"{what}: {type(error).__name__}", hint="run again: it is fetched once more") from None

    def _meaning_of_download(self, what: str) -> PipelineError:
        """A result that is not there (yet) is 403 as often as 404, in any words, unless the key is named."""
        meaning = self._meaning(what)
        code, body, _ = self._raw
        fault = wire.fault(code, body, None)
        absent = code in {HTTPStatus.FORBIDDEN, HTTPStatus.NOT_FOUND}
        if absent and not (fault and verdicts.names_the_key(fault)):
            return GoneError(str(meaning))
        return meaning

    # --------------------------------------------------------------------------------------- batches

    def create(self, model_id: str, input_file: str, display_name: str) -> verdicts.Verdict:
        """Create a batch: one POST, never repeated, by anyone. The answer is a verdict, not an exception."""
        assert _MODEL.fullmatch(model_id), "checked when the job was compiled"
        self._raw = (0, b"", None)
        crash.point("create:before")
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                self._client.batches.create(
                    model=model_id,
                    src=input_file,
                    config=self._types.CreateBatchJobConfig(display_name=display_name),
                )
        except (self._httpx.ConnectError, self._httpx.ConnectTimeout) as error:
            return verdicts.NotSent(f"no connection ({type(error).__name__})")
        except Exception as error:  # noqa: BLE001 - whatever it is, it must not be sent again before its fate is known
            if not self._raw[0]:
                return verdicts.Unknown(f"no answer ({type(error).__name__})")
        finally:
            crash.point("create:after")
        return self._verdict(display_name)

    def _verdict(self, display_name: str) -> verdicts.Verdict:
        code, body, retry_after = self._raw
        if code == HTTPStatus.OK:
            try:
                made = wire.operation(json.loads(body))
            except (ValueError, RecursionError):
                made = None
            if made and made.display_name in {"", display_name}:
                return verdicts.Accepted(made)
            return verdicts.Unknown("an answer that names no batch of ours")
        fault = wire.fault(code, body, retry_after)
        if fault is None or code // 100 != _REFUSED or code in verdicts.UNDECIDED:
            return verdicts.Unknown(f"HTTP {code}")
        kind = verdicts.kind(fault)
        words = self.redacted(fault.message or fault.status)[:500]
        kinds = {"rate": "rate", "key": "key", "gone": "file" if "File" in fault.message else "bad"}
        return verdicts.Rejected(kinds.get(kind, "bad"), f"{words} (HTTP {code})", fault.retry_after_s)

    def batch(self, name: str) -> wire.Operation | None:
        """Ask for a batch by name; `None` when the service says that it does not have it."""
        try:
            self._call(f"asking for {name}", lambda: self._client.batches.get(name=name))
        except GoneError:
            return None
        except _PassingError:
            # The SDK may stumble over a shape that we can read: the raw answer decides.
            if self._raw[0] != HTTPStatus.OK:
                raise
        return self._read(name)

    def _read(self, name: str) -> wire.Operation:
        told = wire.operation(self._document(f"asking for {name}"))
        if told is None or told.name != name:
            raise _PassingError(f"asking for {name}: an answer that is no batch", hint="run again later")
        return told

    def _document(self, what: str) -> dict[str, Any]:
        """The raw answer as JSON."""
        try:
            told = json.loads(self._raw[1])
        except (ValueError, RecursionError):
            told = None
        if not isinstance(told, dict):
            raise _PassingError(f"{what}: an answer that is no JSON object", hint="run again later")
        return told

    def batches(self) -> Iterator[wire.Operation]:
        """Every batch of the project, newest first as far as the service keeps order.

        Raises `UnfinishedError` when the listing cannot be completed: half a listing proves nothing.
        """
        token, seen = "", set()
        while True:
            found, token = self._page(token)
            yield from found
            if not token:
                return
            if token in seen:
                raise _PassingError("listing batches: the service repeats a page", hint="run again later")
            seen.add(token)

    def _page(self, token: str) -> tuple[list[wire.Operation], str]:
        config = self._types.ListBatchJobsConfig(page_size=_PAGE, page_token=token or None)

        def page() -> tuple[list[wire.Operation], str]:
            try:
                self._client.batches.list(config=config)
            except Exception:  # the SDK's own reading of a listing does not matter
                if self._raw[0] != HTTPStatus.OK:
                    raise
            return wire.operations(json.loads(self._raw[1]))

        return self._call("listing batches", page)

    def cancel(self, name: str) -> None:
        """Ask the service to cancel a batch; one that has ended or is not there stays as it is."""
        crash.point("cancel:before")
        try:
            self._call(f"cancelling {name}", lambda: self._client.batches.cancel(name=name))
        except GoneError:
            return
        crash.point("cancel:after")


def _hash(told: Any) -> str | None:
    """A file's sha256 in hex: the service sends base64 of the hex text, and may send base64 of the bytes."""
    try:
        raw = base64.b64decode(str(told), validate=True)
    except ValueError:
        return None
    if len(raw) == hashlib.sha256().digest_size:
        return raw.hex()
    text = raw.decode("ascii", errors="replace")
    return text if re.fullmatch(r"[0-9a-f]{64}", text) else None
