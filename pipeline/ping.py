"""Telling a watchman over HTTP how a call ended, as healthchecks and its like want it. The address is a secret."""

from __future__ import annotations

from urllib.parse import urlsplit, urlunsplit

_TIMEOUT_S = 5.0
"""For each of connecting, sending and hearing an answer."""
_SCHEMES = frozenset({"http", "https"})


def is_address(url: str) -> bool:
    """Whether a text is an address that can be pinged: http or https, with a host, in printable ASCII."""
    try:
        parts = urlsplit(url)
        return parts.scheme in _SCHEMES and bool(parts.hostname) and url.isascii() and url.isprintable()
    except ValueError:
        return False


def address(url: str, exit_code: int) -> str:
    """What is asked for: the address itself after a success, else with the exit code as one more segment."""
    if not exit_code:
        return url
    parts = urlsplit(url)
    return urlunsplit(parts._replace(path=f"{parts.path.rstrip('/')}/{exit_code}"))


def ping(url: str, exit_code: int) -> str:
    """Send one GET, and follow nothing; returns what went wrong, in words that do not hold the address, or nothing."""
    import httpx2  # noqa: PLC0415 - only for those who ping

    from pipeline.gemini.connection import is_loopback  # noqa: PLC0415 - as above

    try:
        with (
            httpx2.Client(follow_redirects=False, timeout=_TIMEOUT_S, trust_env=not is_loopback(url)) as client,
            client.stream("GET", address(url, exit_code)) as answer,
        ):
            return "" if answer.is_success else f"the answer was HTTP {answer.status_code}"
    except httpx2.TimeoutException:
        return f"no answer within {_TIMEOUT_S:.0f} s"
    except (httpx2.HTTPError, httpx2.InvalidURL, OSError, ValueError) as error:
        return f"no connection ({type(error).__name__})"
