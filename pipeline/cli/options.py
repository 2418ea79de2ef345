"""What a command was told: by its flags, by the environment, or by nobody. In this order."""

from __future__ import annotations

import datetime as dt
import math
import re
from dataclasses import dataclass
from pathlib import Path
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
    is_told: bool = False
    """Where the service is was said already."""
    allows_network_fs: bool = False
    """Whether locks and journals on a disk of another machine are believed in."""

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
            allows_network_fs=bool(told("allow_network_fs")),
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
