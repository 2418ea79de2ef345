"""What to do next about one image: a sentence for each status that is no end, with the command to type."""

from __future__ import annotations

import re
import shlex
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping


def next_step(told: Mapping[str, Any], job: str, outputs: str) -> str | None:
    """What to do about a record, or None where there is nothing to do: `job` is what commands name its job by.

    `outputs` is the folder of the job's files, as somebody would type it.
    """
    way = _WAYS.get(told["status"])
    return way(told, _Commands(told, job, outputs)) if way else None


class _Commands:
    """The commands that are about one record, ready to be typed."""

    def __init__(self, told: Mapping[str, Any], job: str, outputs: str) -> None:
        self._status, self._job, self.outputs = told["status"], shlex.quote(job), outputs
        # A space and a comma mean something in a selection; `?` stands for either.
        self._select = shlex.quote(f"key:{re.sub('[ ,]', '?', told['key'])}")
        self.request = f"`pipeline show {shlex.quote(told['key'])} --request`"
        self.run = f"`pipeline run {self._job}`"
        self.collect = f"`pipeline collect {self._job}`"

    @property
    def retry(self) -> str:
        return f"`pipeline retry {self._job} --only {self._status} --select {self._select}`"


def _is_later(told: Mapping[str, Any]) -> bool:
    """Whether it goes on from another turn."""
    return (told.get("turn") or 1) > 1


def _pending(told: Mapping[str, Any], commands: _Commands) -> str:
    if told["attempt"] or told["batch"]:
        return f"it is on its way: {commands.collect} fetches what is ready"
    if _is_later(told):
        return f"it is sent when the turn before has its answer: {commands.run}"
    return f"{commands.run} sends it"


def _failed(told: Mapping[str, Any], commands: _Commands) -> str:
    reason = told["reason"] or ""
    if reason.startswith("MISSING_THOUGHT_SIGNATURE"):
        return f"buy the turns before it again with --force --select, and then this one: {commands.retry}"
    if re.match(r"code (8|429)\b", reason):
        return f"a limit of the service: wait, or send fewer at once, then {commands.retry}"
    if re.match(r"code (4|10|13|14|408|5\d\d)\b", reason):
        return f"the service had trouble of its own: {commands.retry} asks again"
    return f"{commands.request} is what was sent: change the job and run it again, or as it is {commands.retry}"


def _blocked(told: Mapping[str, Any], commands: _Commands) -> str:
    what = "what was drawn" if told["finish_reason"] else "the prompt, or an image sent along,"
    again = f"say it in other words and run again; as it is: {commands.retry}"
    if re.search("RECITATION", told["reason"] or ""):
        return f"what was drawn is too close to a work that exists: ask for something of your own; {again}"
    return f"{what} was refused: {again}"


def _no_image(told: Mapping[str, Any], commands: _Commands) -> str:
    if told["finish_reason"] == "MAX_TOKENS":
        return f"the tokens ran out: raise max_output_tokens in the job, or leave it out; as it is: {commands.retry}"
    if told["text"]:
        return f"it answered in words (`text` in --json): ask for a picture outright; as it is: {commands.retry}"
    return f"{commands.retry} asks again; if it stays so, say what the picture shows in plain words"


def _check(told: Mapping[str, Any], commands: _Commands) -> str:
    paths = [file["path"] for file in told["files"] if file["kind"] in {"image", "part", "text"}]
    shown = shlex.quote(f"{commands.outputs}/{paths[0]}") if paths else "it"
    return f"look at {shown}: keep it as it is, or buy another: {commands.retry}"


def _invalid(_told: Mapping[str, Any], commands: _Commands) -> str:
    return f"what came is in quarantine/ beside the journal, and is no image: {commands.retry} asks again"


def _missing(told: Mapping[str, Any], commands: _Commands) -> str:
    if _is_later(told) and not told["attempt"]:
        before = f"{told['key'].rpartition('/')[0]}/t{told['turn'] - 1}"
        return f"it follows the turn before, once that has its answer: see `pipeline show {shlex.quote(before)}`"
    return f"the service never answered it: {commands.retry} asks again"


def _expired(_told: Mapping[str, Any], commands: _Commands) -> str:
    return f"{commands.retry} asks again; smaller batches may fare better: batch.max_requests in the job"


def _cancelled(_told: Mapping[str, Any], commands: _Commands) -> str:
    return f"{commands.retry} asks again"


def _skipped(_told: Mapping[str, Any], commands: _Commands) -> str:
    return f"raise the budget of the job, or --max-cost, then {commands.run}"


def _held(_told: Mapping[str, Any], commands: _Commands) -> str:
    return f"it may be paid for already, so nothing is sent by itself: once you have looked, {commands.retry}"


_WAYS: dict[str, Callable[[Mapping[str, Any], _Commands], str]] = {
    "pending": _pending,
    "failed": _failed,
    "blocked": _blocked,
    "no_image": _no_image,
    "check": _check,
    "invalid": _invalid,
    "missing": _missing,
    "expired": _expired,
    "cancelled": _cancelled,
    "skipped": _skipped,
    "held": _held,
}
