"""One connection to the service: the SDK over an HTTP client of ours, each call with what its answer means.

The client follows no redirect (the SDK would send the key along), re-sends nothing, and keeps the raw answer, which the
SDK cuts (a batch's error and input file never reach its own types). Several threads may call at once.
"""

from __future__ import annotations

import contextlib
import email.utils
import ipaddress
import json
import logging
import ssl
import threading
import time
import warnings
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar
from urllib.parse import urlsplit

import tenacity

from pipeline.errors import PipelineError, ServiceError, UnfinishedError, UsageError
from pipeline.gemini import verdicts, wire
from pipeline.gemini.secret import Mask, Secret

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import httpx2

T = TypeVar("T")

DEFAULT_URL = "https://generativelanguage.googleapis.com"
VERSION = "v1beta"  # the SDK's own default, v1, is not documented for batches and files
_TIMEOUT_S = 120.0
_LONGEST_PAUSE_S = 15.0
_REDIRECTED = 3  # hundreds of HTTP codes


class GoneError(PipelineError):
    """What was asked for is not at the service, or belongs to another project."""

    exit_code = 6


class TakenError(ServiceError):
    """Something else has the name that was wished for."""


class UnheardError(ServiceError):
    """Nobody has looked at what was asked for: the key is refused, or another server answers."""


class BillingError(UnheardError):
    """The project of the key has no paid tier."""


class RateLimitError(UnfinishedError):
    """The service wants fewer calls; `retry_after_s` when it said for how long."""

    def __init__(self, message: str, retry_after_s: float | None) -> None:
        super().__init__(message, hint="run the same command again later; nothing is lost")
        self.retry_after_s = retry_after_s


class PassingError(UnfinishedError):
    """Network trouble or a failure of the service that may pass by itself; `retry_after_s` when it said when."""

    def __init__(self, message: str, *, hint: str, retry_after_s: float | None = None) -> None:
        super().__init__(message, hint=hint)
        self.retry_after_s = retry_after_s


def is_loopback(url: str) -> bool:
    """Whether a URL names this very machine."""
    host = urlsplit(url).hostname or ""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _is_worth_another(error: BaseException) -> bool:
    """Whether a call is made again at once; a service that asks for a long pause gets it between two passes."""
    return isinstance(error, RateLimitError | PassingError) and (error.retry_after_s or 0.0) <= _LONGEST_PAUSE_S


def _wait(state: tenacity.RetryCallState) -> float:
    error = state.outcome.exception() if state.outcome else None
    asked = error.retry_after_s if isinstance(error, RateLimitError | PassingError) else None
    return max(asked or 0.0, tenacity.wait_random_exponential(multiplier=0.5, max=20)(state))


class _Raw(threading.local):
    """The last answer that came to this thread: HTTP code (0 for none), body, Retry-After."""

    answer: tuple[int, bytes, str | None] = (0, b"", None)


class _Sdk(NamedTuple):
    """google-genai, loaded, with a client of it."""

    client: Any
    types: Any
    errors: Any


class Connection:
    """The service for one key. `client` is the SDK's, `http` our own below it; call through `call` or `once`.

    The SDK takes most of a second to load: that is done by the first call, or, beside, by who says `prepare`.
    """

    def __init__(self, key: Secret, base_url: str = DEFAULT_URL) -> None:
        import httpx2  # noqa: PLC0415 - a tenth of a second, and only for those who send

        from pipeline.gemini import edge  # noqa: PLC0415 - as above

        self.httpx, self.unreadable = httpx2, edge.UnreadableError
        self._sdk: _Sdk | None = None
        self._loading = threading.Lock()
        self._preparing: threading.Thread | None = None
        self.base_url = base_url.rstrip("/")
        self._key, self._mask = key, Mask(key)
        self.redacted, self.masked = self._mask.text, self._mask.stream
        self._raw = _Raw()
        self._closing = threading.Event()
        self._ahead_s: float | None = None
        with self._set_up():
            # Once, for us and for the two clients that the SDK makes and never uses: reading authorities takes time.
            self._context = httpx2.create_ssl_context() if self.base_url.startswith("https:") else _bare_context()
            self.http = edge.Client(
                self.base_url, self._mask, context=self._context, timeout_s=_TIMEOUT_S,
                trust_env=not is_loopback(self.base_url), heard=self._hear,
            )  # fmt: skip

    @contextlib.contextmanager
    def _set_up(self) -> Iterator[None]:
        """What may be wrong with this machine, in words; a block around what looks at it."""
        try:
            yield
        except OSError as error:
            why = error.strerror or type(error).__name__
            raise UsageError(
                f"the certificates of this machine cannot be read: {why}", hint="check SSL_CERT_FILE and SSL_CERT_DIR"
            ) from None
        except (ValueError, TypeError, ImportError, self.httpx.InvalidURL) as error:
            raise UsageError(
                f"no connection can be set up with what the environment says ({type(error).__name__})",
                hint="check HTTP_PROXY, HTTPS_PROXY and ALL_PROXY: each is like http://host:port",
            ) from None

    def _loaded(self) -> _Sdk:
        with self._loading:
            if self._sdk is None:
                self._sdk = self._load()
            return self._sdk

    def _load(self) -> _Sdk:
        with self._set_up():
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                from google import genai  # noqa: PLC0415 - most of a second
                from google.genai import errors, types  # noqa: PLC0415

            logging.getLogger("google_genai").setLevel(logging.CRITICAL)  # it knows less than we say ourselves
            client = genai.Client(
                api_key=self._key.reveal(),
                vertexai=False,
                http_options=types.HttpOptions(
                    **self._options(),
                    httpx_client=self.http,
                    client_args={"verify": self._context, "trust_env": False},
                    async_client_args={"verify": self._context, "ssl": self._context, "trust_env": False},
                ),
            )
        return _Sdk(client, types, errors)

    def prepare(self) -> None:
        """Have the SDK loaded beside, by who waits for something else until it is needed."""
        if self._preparing is None and self._sdk is None:
            self._preparing = threading.Thread(target=self._prepare, name="sdk")
            self._preparing.start()

    def _prepare(self) -> None:
        with contextlib.suppress(PipelineError):  # who needs it is told
            self._loaded()

    @property
    def client(self) -> Any:
        return self._loaded().client

    @property
    def types(self) -> Any:
        return self._loaded().types

    def options(self) -> Any:
        """What every call of the SDK is told."""
        return self.types.HttpOptions(**self._options())

    def _options(self) -> dict[str, Any]:
        return {"base_url": self.base_url, "api_version": VERSION, "timeout": int(_TIMEOUT_S * 1000)}

    def _hear(self, response: httpx2.Response) -> None:
        """Keep the raw answer of a call; what is streamed passes by."""
        self._ahead_s = _ahead_s(response.headers.get("date", ""), self._ahead_s)
        if response.is_closed:
            self._raw.answer = (response.status_code, response.content, response.headers.get("retry-after"))

    def forget(self) -> None:
        """Take it that no answer has come."""
        self._raw.answer = (0, b"", None)

    @property
    def raw(self) -> tuple[int, bytes, str | None]:
        """The last answer to this thread: HTTP code, 0 where none came, body, Retry-After."""
        return self._raw.answer

    def now(self) -> float:
        """The service's own time in seconds since 1970, as its last answer told it; ours before the first."""
        return time.time() + (self._ahead_s or 0.0)

    @property
    def ahead_s(self) -> float | None:
        """How far the service's clock is ahead of ours, in seconds; None before it has told."""
        return self._ahead_s

    def headers(self) -> dict[str, str]:
        """What a request of our own sends along."""
        return {"x-goog-api-key": self._key.reveal()}

    def close(self) -> None:
        """End it; what other threads are still waiting for fails at once."""
        self._closing.set()
        self.http.close()
        if self._preparing is not None:  # no process may end while its libraries are being loaded
            self._preparing.join()

    def document(self, what: str) -> dict[str, Any]:
        """The last answer as a JSON object."""
        try:
            told = json.loads(self.raw[1])
        except (ValueError, RecursionError):
            told = None
        if not isinstance(told, dict):
            raise PassingError(f"{what}: an answer that is no JSON object", hint="run again later")
        return told

    # ---------------------------------------------------------------------------------------- errors

    def call(self, what: str, call: Callable[[], T], *, attempts: int = 4) -> T:
        """Make a call that may be repeated, with back-off; raise what it means in the end."""
        retrying = tenacity.Retrying(
            retry=tenacity.retry_if_exception(lambda error: _is_worth_another(error) and not self._closing.is_set()),
            wait=_wait,
            sleep=tenacity.sleep_using_event(self._closing),
            stop=tenacity.stop_after_attempt(attempts) | tenacity.stop_after_delay(180),
            reraise=True,
        )
        return retrying(lambda: self.once(what, call))

    def once(self, what: str, call: Callable[[], T]) -> T:
        """Make a call a single time; raise what its answer means."""
        self.forget()
        try:
            with warnings.catch_warnings():  # a state that the SDK does not know is no news to us
                warnings.simplefilter("ignore")
                return call()
        except PipelineError:
            raise
        except self._loaded().errors.APIError:
            raise self.meaning(what) from None
        except Exception as error:  # noqa: BLE001 - whatever the SDK makes of an answer, ours are the words
            # No exception of the SDK is shown or chained: its request carries the key.
            code, body, _ = self.raw
            if code and code != HTTPStatus.OK:
                raise self.meaning(what) from None
            said = str(error) if isinstance(error, self.unreadable) else type(error).__name__
            said = f"an answer that is no JSON ({len(body)} bytes)" if code else said
            raise PassingError(
                f"{what}: {said}", hint="check the network, then run the same command again; nothing is lost"
            ) from None

    def meaning(self, what: str) -> PipelineError:
        """What the last answer, which is no good one, means."""
        code, body, retry_after = self.raw
        fault = wire.fault(code, body, retry_after)
        if fault is None:
            if code // 100 == _REDIRECTED:
                return UnheardError(
                    f"{what}: the server wants to send us elsewhere (HTTP {code}), which is not followed",
                    hint=f"check GOOGLE_GEMINI_BASE_URL ({self.base_url})",
                )
            return PassingError(
                f"{what}: HTTP {code} without the API's own words", hint="run the same command again; nothing is lost"
            )
        words = f"{what}: {self.redacted(fault.message or fault.status)[:500]} (HTTP {fault.code})"
        hints = {
            **dict.fromkeys(
                ("bad", "gone", "taken"), "run the same command again; `pipeline doctor` looks at the service"
            ),
            "passing": "run the same command again; nothing is lost",
            "key": "check the API key, its project and billing; then run again: nothing is lost",
            "billing": "image models have no free tier: enable billing for the project of the key; nothing is lost",
        }
        kind = verdicts.kind(fault)
        if kind == "rate":
            return RateLimitError(words, fault.retry_after_s)
        if kind == "passing":
            return PassingError(words, hint=hints[kind], retry_after_s=fault.retry_after_s)
        classes = {"gone": GoneError, "taken": TakenError, "key": UnheardError, "billing": BillingError}
        return classes.get(kind, ServiceError)(words, hint=hints[kind])


def _bare_context() -> ssl.SSLContext:
    """For a server without TLS; whoever should speak it all the same is believed nothing."""
    return ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)


def _ahead_s(date: str, before: float | None) -> float | None:
    try:
        return email.utils.parsedate_to_datetime(date).timestamp() - time.time()
    except (TypeError, ValueError, OverflowError):
        return before
