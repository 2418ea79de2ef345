"""What a command was told: by its flags, by the environment, or by nobody. In this order."""

from __future__ import annotations

import datetime as dt
import math
import re
from copy import copy
from typing import TYPE_CHECKING, Any

from pipeline.cli import credentials
from pipeline.errors import UsageError
from pipeline.selection import Selection

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pipeline.gemini.models import Models

_DURATION = re.compile(r"([0-9]{1,9}(?:\.[0-9]{1,9})?)\s*([smhdw])")
_LONGEST_S = 36_500 * 86_400.0
_COUNT = re.compile(r"[0-9]{1,9}")
_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}


class Options:
    """The global options, with the environment behind them.

    A class as plain as this one costs a start of the program nothing, which a dataclass does.
    """

    __slots__ = (
        "allows_network_fs", "color", "environment", "is_told", "json_log", "models_file", "outputs", "quiet",
        "selection", "service", "state", "verbose",
    )  # fmt: skip

    def __init__(self, given: Mapping[str, Any], environment: Mapping[str, str]) -> None:
        from pathlib import Path

        def told(name: str) -> str | None:
            return given.get(name) or environment.get(f"PIPELINE_{name.upper()}") or None

        state, models = told("state"), told("models")
        self.service = told("service")
        if self.service not in {None, "gemini", "local"}:
            raise UsageError(f"PIPELINE_SERVICE={self.service}: it is gemini or local")
        self.outputs = Path(told("outputs") or "outputs")
        self.state = Path(state) if state else self.outputs / ".pipeline"
        self.models_file = Path(models) if models else None
        self.quiet, self.verbose = bool(given.get("quiet")), bool(given.get("verbose"))
        self.json_log = told("log_format") == "json"
        self.color = told("color") or "auto"
        self.selection = Selection.of(given.get("select") or (), given.get("exclude") or ())
        self.environment = environment
        self.is_told = False
        """Where the service is was said already."""
        self.allows_network_fs = bool(told("allow_network_fs"))
        """Whether locks and journals on a disk of another machine are believed in."""

    @classmethod
    def of(cls, given: Mapping[str, Any], environment: Mapping[str, str]) -> Options:
        """Flags before `PIPELINE_*` before defaults; raises `UsageError` for a word that is none."""
        return cls(given, environment)

    def asking(self, service: str, *, is_told: bool | None = None) -> Options:
        """The same options, with this service."""
        other = copy(self)
        other.service = service
        other.is_told = self.is_told if is_told is None else is_told
        return other

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
        """The API key; raises `UsageError` that shows nothing of it."""
        return credentials.key(self.environment)

    def check(self) -> None:
        """Raise `UsageError` for a setting of the environment that is none, before anything is done with the others."""
        self.count("PIPELINE_CONCURRENT", 50)
        for name in ("PIPELINE_SETTLE", "PIPELINE_PATIENCE", "PIPELINE_KEEP_REMOTE", "PIPELINE_LOCAL_LATENCY"):
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
