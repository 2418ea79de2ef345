"""What a command was told: by its flags, by the environment, or by nobody. In this order."""

from __future__ import annotations

import datetime as dt
import math
import re
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from pipeline.errors import UsageError
from pipeline.selection import Selection

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pipeline.gemini.models import Models

_DURATION = re.compile(r"([0-9]{1,9}(?:\.[0-9]{1,9})?)\s*([smhdw])")
_LONGEST_S = 3650 * 86_400.0
_COUNT = re.compile(r"[0-9]{1,9}")
_BLANK = re.compile(r"[\s\x00-\x20\x7f]")
_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}
_KEY = re.compile(r"[\x21-\x7e]{20,200}")


@dataclass(frozen=True, slots=True)
class Options:
    """The global options, with the environment behind them."""

    outputs: Path
    state: Path
    service: str | None
    models_file: Path | None
    quiet: bool
    verbose: bool
    json_log: bool
    color: str
    selection: Selection
    environment: Mapping[str, str]

    @classmethod
    def of(cls, given: Mapping[str, Any], environment: Mapping[str, str]) -> Options:
        """Flags before `PIPELINE_*` before defaults; raises `UsageError` for a word that is none."""

        def told(name: str) -> str | None:
            return given.get(name) or environment.get(f"PIPELINE_{name.upper()}") or None

        service = told("service")
        if service not in {None, "gemini", "local"}:
            raise UsageError(f"PIPELINE_SERVICE={service}: it is gemini or local")
        outputs = Path(told("outputs") or "outputs")
        state = told("state")
        models = told("models")
        return cls(
            outputs=outputs,
            state=Path(state) if state else outputs / ".pipeline",
            service=service,
            models_file=Path(models) if models else None,
            quiet=bool(given.get("quiet")),
            verbose=bool(given.get("verbose")),
            json_log=told("log_format") == "json",
            color=told("color") or "auto",
            selection=Selection.of(given.get("select") or (), given.get("exclude") or ()),
            environment=environment,
        )

    @property
    def today(self) -> dt.date:
        return dt.datetime.now(dt.UTC).date()

    def models(self) -> Models:
        from pipeline.gemini import models

        return models.load(self.models_file)

    def expected_service(self) -> str:
        """Which service a run would use, for commands that only compare."""
        if self.service:
            return self.service
        return "gemini" if self.has_key else self._recorded_service()

    @property
    def has_key(self) -> bool:
        """Whether the environment names a key, right or wrong."""
        return any(self.environment.get(name) for name in ("GEMINI_API_KEY", "GOOGLE_API_KEY", "PIPELINE_KEY_FILE"))

    def _recorded_service(self) -> str:
        return "local" if (self.outputs / ".local-service").is_dir() else "gemini"

    def key(self) -> str:
        """The API key: GEMINI_API_KEY, else GOOGLE_API_KEY, else the file that PIPELINE_KEY_FILE names."""
        keys = {
            name: self.environment[name] for name in ("GEMINI_API_KEY", "GOOGLE_API_KEY") if self.environment.get(name)
        }
        if len(set(keys.values())) > 1:
            raise UsageError(
                "GEMINI_API_KEY and GOOGLE_API_KEY are both set, and different", hint="unset the one that is not meant"
            )
        source, value = next(iter(keys.items()), ("PIPELINE_KEY_FILE", ""))
        if not value and self.environment.get("PIPELINE_KEY_FILE"):
            value = _key_file(Path(self.environment["PIPELINE_KEY_FILE"]))
        if not value:
            raise UsageError(
                "no API key, and no --service",
                hint="set GEMINI_API_KEY, or try it without a key: `pipeline --service local …`",
            )
        if not _KEY.fullmatch(value):
            raise UsageError(f"{source} is no API key: 20 to 200 characters without spaces, quotes or line breaks")
        return value

    def base_url(self, default: str) -> str:
        """Where the service is, by GOOGLE_GEMINI_BASE_URL; raises `UsageError` for what is no address of one."""
        url = self.environment.get("GOOGLE_GEMINI_BASE_URL") or default
        try:
            parts = urlsplit(url)
            is_one = parts.scheme in {"http", "https"} and bool(parts.hostname) and parts.port != 0
        except ValueError:  # brackets that are not closed, a port that is none
            is_one = False
        if not is_one or "@" in parts.netloc or parts.query or parts.fragment or _BLANK.search(url):
            raise UsageError(
                "GOOGLE_GEMINI_BASE_URL is no address of a service",
                hint="such as https://host or http://127.0.0.1:8765",
            )
        return url

    def check(self) -> None:
        """Raise `UsageError` for a setting of the environment that is none, before anything is done with the others."""
        self.count("PIPELINE_CONCURRENT", 50)
        for name in ("PIPELINE_SETTLE", "PIPELINE_KEEP_REMOTE", "PIPELINE_LOCAL_LATENCY"):
            self.seconds(name, "0")

    def seconds(self, name: str, default: str) -> float:
        """A duration from the environment variable `name`."""
        return duration(self.environment.get(name) or default, name)

    def count(self, name: str, default: int) -> int:
        """A whole number of at least 1 from the environment variable `name`."""
        text = self.environment.get(name) or str(default)
        if not _COUNT.fullmatch(text) or not int(text):
            raise UsageError(f"{name}={text[:80]}: it is a whole number of at least 1")
        return int(text)


def duration(text: str, what: str) -> float:
    """`90s`, `15m`, `24h`, `2d`, `1w` in seconds; also `0`."""
    if text.strip() == "0":
        return 0.0
    found = _DURATION.fullmatch(text.strip())
    seconds = float(found[1]) * _UNITS[found[2]] if found else math.inf
    if seconds > _LONGEST_S:
        raise UsageError(f"{what}: {text[:80]!r} is no duration", hint="write it like 90s, 15m, 24h, 2d or 1w")
    return seconds


def _key_file(path: Path) -> str:
    try:
        mode = path.stat().st_mode
        if stat.S_IMODE(mode) & 0o077:
            raise UsageError(f"PIPELINE_KEY_FILE: others may read {path}", hint=f"chmod 600 {path}")
        return path.read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"PIPELINE_KEY_FILE: {path} cannot be read: {type(error).__name__}") from None
