"""What people see while something runs: one calm line in a terminal, a line for each change elsewhere."""

from __future__ import annotations

import contextlib
import json
import sys
import time
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import click

from pipeline.cli.signals import heed
from pipeline.job.problems import escaped

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rich.live import Live

    from pipeline.cli.options import Options
    from pipeline.unpack import Tally

MICRO = 1_000_000
_HEARTBEAT_S = 3600.0


def usd(micro: int | None) -> str:
    """Millionths of a USD for people: $0.0168, $12.34, and `?` for an unknown price."""
    if micro is None:
        return "?"
    amount = Decimal(micro) / MICRO
    return f"${amount:.2f}" if amount >= 1 or not micro else f"${amount:.4f}"


def age(seconds: float) -> str:
    """A duration in its two largest units: 4m 10s, 3h 05m, 2d 4h."""
    seconds = max(0, int(seconds))
    days, hours, minutes = seconds // 86_400, seconds // 3600 % 24, seconds // 60 % 60
    if days:
        return f"{days}d {hours}h"
    if hours:
        return f"{hours}h {minutes:02}m"
    return f"{minutes}m {seconds % 60:02}s" if minutes else f"{seconds}s"


def megabytes(size: int) -> str:
    """Bytes for people: 0.4 MB, 12.5 MB, 1,900 MB."""
    return f"{size / MICRO:,.{0 if size >= 100 * MICRO else 1}f} MB"


def plural(number: int, word: str) -> str:
    return f"{number:,} {word if number == 1 else f'{word}es' if word.endswith('tch') else f'{word}s'}"


_SENTENCES = {
    "adopted": "found {remote} at the service, which this journal did not know as created",
    "elsewhere": "{count} of this job's name at the service ({remote}, …) came from another folder or machine: if they"
    " are yours, `pipeline collect --recover {path}` takes in what they hold before it is bought again",
    "kept": "{name}: a kept answer that this journal did not know; it is taken in",
    "again": "{remote}: fetched once more, for {count} whose files are missing here",
    "unclear": "{name}: a kept answer of which nothing tells which service it came from; it is left alone",
    "uncertain": "a create has an unknown fate: it is not at the service yet, and believed lost after {wait_s:.0f} s",
    "lost": "a create never reached the service; its images are sent again",
    "doubled": "one create made a second batch, {remote}: it was asked to cancel it",
    "sent": "sent {remote}: {requests} images, {model}",
    "uploading": "uploading {images}, {bytes}",
    "uploaded": "uploaded {images}, {bytes}",
    "full": "the service has room for {left} more of {limit}, and the next batch takes {needed}: it waits for space;"
    " PIPELINE_KEEP_REMOTE=0 gives back at once what is unpacked",
    "no_room": "{why}; what is on its way is waited for",
    "uploads": "another run uploads images here: waiting for it, they may be the same",
    "untidy": "what is of no more use at the service could not be deleted ({why}); the next run tries again",
    "ended": "{remote} {state} after {age}",
    "stuck": "{remote} is {state} for {age}: longer than `batch.deadline`; {what}",
    "singly": "asking for {count} one by one, at the standard price: their batch did not come home in time",
    "asked_singly": "asked for one by one: {outcome}",
    "ahead": "{model} has not delivered here yet: its other images wait for its first batch, {remote}{whose}",
    "held_back": "the first images for {model} brought none: {count} more are held, and not sent",
    "fetched": "{remote}: its answer is here",
    "lacking": "{remote}: its answer lacks {count} that the service counts; it is fetched again for a while",
    "late": "{remote}: its answer is not there yet ({why})",
    "held": "{remote}: {why}; a person must look at it, nothing is sent again",
    "unpacked": "{remote}: {outcome}",
    "rate": "the service wants fewer batches ({why}); waiting",
    "unknown": "a create got no clear answer ({why}); its fate is found out before anything is sent again",
    "slower": "the service wants fewer calls ({why}); going on in {wait_s:.0f} s",
    "drawing": "waiting for {count} that are being drawn, because they are paid for; interrupt again to leave at once",
    "rendered": "{where}  {outcome}",
    "stopped": "{why}; this job waits for a person, the others go on",
    "trouble": "{why}; trying again",
}
_DETAIL = frozenset({"fetched"})
_SIZES = ("bytes", "left", "limit", "needed")
_IN_THE_LINE = frozenset({"sent", "ended", "fetched", "unpacked", "uploading", "uploaded"})
"""What the one line of a terminal sums up; elsewhere each is a line."""


def _outcome(tally: Tally) -> str:
    """All that came out of an answer, what is out of the ordinary included."""
    aside = {
        "no longer wanted (kept in retired/)": tally.superseded,
        "nobody asked for (kept in conflicts/)": tally.extra,
        "foreign (asked for by somebody else; left alone)": tally.foreign,
        "second answers (kept in conflicts/)": tally.conflicts,
        "unreadable lines (kept in quarantine/)": tally.unreadable,
    }
    counts = [*sorted(tally.counts.items()), *((word, count) for word, count in aside.items() if count)]
    return ", ".join(f"{count} {word}" for word, count in counts) or "empty"


class Screen:
    """Tells what happens; on stderr, so that stdout is the answer."""

    def __init__(self, options: Options, *, several: bool = False) -> None:
        self._options, self._several = options, several
        self._is_terminal = sys.stderr.isatty()
        self._live: Live | None = None
        self._started = self._beat = time.monotonic()
        self._line = ""

    def say(self, text: str) -> None:
        """A line of conversation."""
        if self._options.quiet:
            return
        if self._options.json_log:
            self._write_json("note", {"text": text})
        else:
            self._write(escaped(text))

    def complain(self, text: str) -> None:
        """A line about what kept a job from its work: said in any case."""
        if self._options.json_log:
            self._write_json("complaint", {"text": text})
        else:
            self._write(escaped(text))

    def tell(self, kind: str, **details: Any) -> None:
        """Something happened; the reconciler's words."""
        hidden = _DETAIL if self._live is None else _IN_THE_LINE
        if kind == "uploading" and details["count"]:
            self.show(f"uploading reference images: {details['count']:,} of {details['of']:,} · {{age}}")
            return
        if self._options.quiet or (kind in hidden and not self._options.verbose and not self._options.json_log):
            return
        if "tally" in details:
            tally = details.pop("tally")
            details["counts"] = tally.counts
            details["outcome"] = _outcome(tally)
        if self._options.json_log:
            self._write_json(kind, details)
            return
        details["age"] = age(details.get("age_s", 0))
        details["images"] = plural(details.get("of", 0), "reference image")
        details |= {name: megabytes(details[name]) for name in _SIZES if name in details}
        where = f"{details.get('job')}: " if self._several and details.get("job") else ""
        self._write(escaped(where + _SENTENCES[kind].format(**details)))

    def _write_json(self, kind: str, details: dict[str, Any]) -> None:
        at = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        self._write(json.dumps({"at": at, "event": kind, **details}, default=str))

    def _write(self, text: str) -> None:
        self._beat = time.monotonic()
        if self._live is not None:
            self._live.console.print(text, markup=False, highlight=False, soft_wrap=True)
        else:
            click.echo(text, err=True)

    @contextlib.contextmanager
    def progress(self) -> Iterator[None]:
        """Keep one line at the bottom of a terminal for the block."""
        if not self._is_terminal or self._options.quiet or self._options.json_log:
            yield
            return
        from rich.console import Console
        from rich.live import Live
        from rich.text import Text

        console = Console(stderr=True, no_color=self._options.color == "never" or None)

        def line() -> Text:
            return Text(
                self._line.replace("{age}", age(time.monotonic() - self._started)), no_wrap=True, overflow="ellipsis"
            )

        with Live(get_renderable=line, console=console, refresh_per_second=2, transient=True) as live:
            self._live = live
            try:
                yield
            finally:
                self._live = None

    def show(self, line: str) -> None:
        """Change the one line, in which `{age}` is how long it has been there; elsewhere, say it once an hour."""
        heed()
        self._line = line
        if self._live is None and time.monotonic() - self._beat > _HEARTBEAT_S:
            self.say(line.replace("{age}", age(time.monotonic() - self._started)))
