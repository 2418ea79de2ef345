"""The key, where it goes, and what could carry it elsewhere: all that the environment says about reaching Gemini."""

from __future__ import annotations

import contextlib
import os
import re
import stat
import sys
from typing import TYPE_CHECKING

from pipeline.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

_LENGTHS = range(20, 201)
_STRANGE = re.compile(r"""[\s"'`\\]""")
_NAMES = ("GEMINI_API_KEY", "GOOGLE_API_KEY")
_FILE = "PIPELINE_KEY_FILE"
_URL = "GOOGLE_GEMINI_BASE_URL"
_LONGEST_FILE = 1000
_ELSEWHERE = ("GOOGLE_GENAI_USE_VERTEXAI", "GOOGLE_GENAI_USE_ENTERPRISE")
_WITHHELD = ("GEMINI_", "GOOGLE_", "SSLKEYLOGFILE")
_PR_SET_DUMPABLE = 4


def key(environment: Mapping[str, str]) -> str:
    """The API key: GEMINI_API_KEY, else GOOGLE_API_KEY, else the file that PIPELINE_KEY_FILE names.

    Raises `UsageError`, which says where it came from and what is wrong with it, and shows nothing of it.
    """
    keys = {name: environment[name] for name in _NAMES if environment.get(name)}
    if len(set(keys.values())) > 1:
        raise UsageError(f"{' and '.join(_NAMES)} are both set, and different", hint="unset the one that is not meant")
    source, value = next(iter(keys.items()), (_FILE, ""))
    if not value and environment.get(_FILE):
        from pathlib import Path

        source = f"{_FILE}: what {environment[_FILE]} holds"
        value = _of_file(Path(environment[_FILE]))
        if not value:
            raise UsageError(f"{_FILE}: {environment[_FILE]} is empty", hint="write the key into it, and nothing else")
    if not value:
        raise UsageError(
            "no API key, and no --service",
            hint="set GEMINI_API_KEY, or try it without a key: `pipeline --service local …`",
        )
    if why := _wrong_with(value):
        raise UsageError(
            f"{source} is no API key: {why}",
            hint="it is 20 to 200 characters of ASCII without spaces, quotes or line breaks, as AI Studio shows it",
        )
    return value


def _wrong_with(value: str) -> str:
    if not value.isascii():
        return "it holds a character that is not ASCII"
    if not value.isprintable():
        return "it holds a line break or another control character"
    if len(value) not in _LENGTHS:
        return f"it has {len(value):,} characters"
    return "it holds a space, a quote or a backslash" if _STRANGE.search(value) else ""


def _of_file(path: Path) -> str:
    try:
        # A pipe that nobody writes to must not hold us up; what a link leads to counts, as secrets are mounted so.
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            status = os.fstat(descriptor)
            if not stat.S_ISREG(status.st_mode):
                raise UsageError(f"{_FILE}: {path} is no regular file", hint="write the key into a file of its own")
            if stat.S_IMODE(status.st_mode) & 0o077:
                raise UsageError(f"{_FILE}: others may read {path}", hint=f"chmod 600 {path}")
            held = os.read(descriptor, _LONGEST_FILE + 1)
        finally:
            os.close(descriptor)
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or "that is no path"
        raise UsageError(f"{_FILE}: {path} cannot be read: {why}", hint="check the path and its owner") from None
    if len(held) > _LONGEST_FILE:
        raise UsageError(f"{_FILE}: {path} holds more than a key", hint="write the key into it, and nothing else")
    return held.decode("utf-8-sig", errors="replace").strip()


def base_url(environment: Mapping[str, str], default: str) -> str:
    """Where the service is; raises `UsageError` for what is no address, or holds more than one should show."""
    url = environment.get(_URL) or default
    wrong = _wrong_with_address(url)
    if wrong:
        raise UsageError(
            f"{_URL}: {wrong}",
            hint=f"it is like https://host, with a port or a path where needed; unset it for {default}",
        )
    return url


def _wrong_with_address(url: str) -> str:
    """What is wrong with an address, in words that show nothing of it: there may be a password in it."""
    if not url.isascii():
        return "it holds a character that is not ASCII (a host has a form of its own for these: xn--…)"
    if not url.isprintable() or " " in url or "\\" in url:
        return "it holds a space, a backslash or a control character"
    from urllib.parse import urlsplit

    try:
        parts = urlsplit(url)
        is_address = parts.scheme in {"http", "https"} and bool(parts.hostname) and parts.port != 0
    except ValueError:
        return "it is no address"
    if not is_address:
        return "it is no http or https address"
    if "@" in parts.netloc:
        return "it holds a user or a password, which would be shown and written down"
    return "it holds a ? or a #, which an address of a service has not" if {"?", "#"} & set(url) else ""


def told(environment: Mapping[str, str], default: str) -> Iterator[str]:
    """What a person must know before anything else: where the key goes, and what is not done with it."""
    url = base_url(environment, default)
    if url != default:
        from pipeline.gemini.connection import is_loopback

        is_open = url.startswith("http:") and not is_loopback(url)
        risk = "; without TLS: whoever carries it can read the key" if is_open else ""
        yield f"service: {url} ({_URL}{risk})"
    for name in _ELSEWHERE:
        if environment.get(name):
            yield f"warning: {name} is ignored: only the Gemini API with a key is spoken here"


@contextlib.contextmanager
def withheld() -> Iterator[Mapping[str, str]]:
    """Take what is about keys and services out of the environment for the block; yields all that was there.

    No library finds a setting there that moves the key or writes down what is sent, and no process that we start
    finds the key.
    """
    before = dict(os.environ)
    taken = [name for name in before if name.startswith(_WITHHELD)]
    for name in taken:
        del os.environ[name]
    try:
        yield before
    finally:
        os.environ.update({name: before[name] for name in taken})


def stay_out_of_dumps(*, debuggers: bool) -> None:
    """Have the system write no core of this process, which holds a key; without `debuggers` none can look into it."""
    import resource

    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_CORE, (0, resource.getrlimit(resource.RLIMIT_CORE)[1]))
    if sys.platform == "linux" and not debuggers:
        import ctypes

        with contextlib.suppress(OSError, AttributeError):
            ctypes.CDLL(None).prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)
