"""The machine: what is installed, what the environment says, the key, the disk."""

from __future__ import annotations

import os
import platform
import re
import shutil
import sys
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from pipeline import __version__
from pipeline.cli.doctor.check import Check, of_error, ok, problem, warning
from pipeline.errors import LocalError, UsageError
from pipeline.job.problems import meant

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from pipeline.cli.options import Options

_NEEDED = ("google-genai", "pillow")
KNOWN = frozenset(
    f"PIPELINE_{word}"
    for word in (
        "SERVICE", "OUTPUTS", "STATE", "MODELS", "LOG_FORMAT", "COLOR", "KEY_FILE", "CONCURRENT", "SETTLE",
        "PATIENCE", "KEEP_REMOTE", "PING", "ALLOW_NETWORK_FS", "LOCAL_LATENCY", "LOCAL_PICTURES", "LOCAL_FAULTS",
        "CRASH_AT", "CRASH_LOG",
    )
)  # fmt: skip
"""Every variable that is ours."""
_IGNORED = ("GOOGLE_GENAI_USE_VERTEXAI", "GOOGLE_GENAI_USE_ENTERPRISE", "GOOGLE_GENAI_API_VERSION")
_LOW_BYTES, _NO_BYTES = 2_000_000_000, 100_000_000
_ANSWER_ROOM = 2.4  # an answer, its images, and some air, as a run reckons
_SHARED = re.compile(r"nfs|cifs|smb|fuse|9p|afs|ceph|glusterfs|lustre|vboxsf|drvfs")
_REMOTE = re.compile(r"(nfs|cifs|smb|afs|ncp).*")
_MOUNTS = Path("/proc/self/mountinfo")


def versions() -> Check:
    """What is installed."""
    found = []
    for name in _NEEDED:
        try:
            found.append(f"{name} {metadata.version(name)}")
        except metadata.PackageNotFoundError:
            hint = f"install it into this Python: {sys.executable} -m pip install {name}"
            return problem("versions", f"{name} is not installed", hint, 7)
    said = ", ".join([f"pipeline {__version__}", f"Python {platform.python_version()}", *found])
    return ok("versions", f"{said} on {platform.system()}")


# -------------------------------------------------------------------------------------- environment


def environment(options: Options) -> Check:
    """Variables that change what a run does, and those that were meant to."""
    try:
        options.count("PIPELINE_CONCURRENT", 50)
        for name, default in (("PIPELINE_SETTLE", "15m"), ("PIPELINE_PATIENCE", "1h"), ("PIPELINE_KEEP_REMOTE", "24h")):
            options.seconds(name, default)
    except UsageError as error:
        return of_error("environment", error)
    surprises = [*_surprises(options)]
    if surprises:
        return warning("environment", "; ".join(surprises), "unset what is not meant; nothing else is needed")
    proxies = ", ".join(f"{name}: {_host(value)}" for name, value in _proxies(options.environment))
    return ok("environment", f"calls go through a proxy ({proxies})" if proxies else "nothing out of the ordinary")


def _surprises(options: Options) -> Iterator[str]:
    variables = options.environment
    yield from (f"{name} is ignored: only the Gemini API is spoken here" for name in _IGNORED if variables.get(name))
    if (url := variables.get("GOOGLE_GEMINI_BASE_URL")) and options.expected_service() == "gemini":
        yield f"GOOGLE_GEMINI_BASE_URL sends everything, the key too, to {_host(url)}"
    for name in sorted(variables):
        if name.startswith("PIPELINE_") and name not in KNOWN:
            yield f"{name} is not read{meant(name, KNOWN)}"


def _proxies(variables: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    for name, value in sorted(variables.items()):
        if value and name.upper() in {"HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"}:
            yield name, value


def _host(url: str) -> str:
    """Where a URL leads, without the password that may be in it."""
    try:
        parts = urlsplit(url if "//" in url else f"//{url}")
        port = f":{parts.port}" if parts.port else ""
    except ValueError:
        return "?"
    return f"{parts.hostname or '?'}{port}"


# ---------------------------------------------------------------------------------------------- key


def key(options: Options) -> Check:
    """Whether there is a key a run would take; it is never shown."""
    if options.expected_service() == "local":
        return ok("key", "none is needed: the local service is what is asked here")
    try:
        options.key()
    except UsageError as error:
        return of_error("key", error)
    names = [name for name in ("GEMINI_API_KEY", "GOOGLE_API_KEY") if options.environment.get(name)]
    file = options.environment.get("PIPELINE_KEY_FILE")
    if not names:
        return ok("key", f"from {file} (PIPELINE_KEY_FILE), which nobody else can read")
    unread = "; PIPELINE_KEY_FILE is not read beside it" if file else ""
    return ok("key", f"from {' and '.join(names)}{', which are the same' if len(names) > 1 else ''}{unread}")


# --------------------------------------------------------------------------------------------- disk


def disk(options: Options, *, awaited_bytes: int) -> Check:
    """Room, permission and kind of the disks that images and journal go to."""
    places = {path: _existing(path) for path in (options.outputs, options.state)}
    for path, there in places.items():
        if not os.access(there, os.W_OK | os.X_OK):
            return problem("disk", f"{there} cannot be written to", f"check the owner and permissions for {path}", 7)
    free = min(shutil.disk_usage(there).free for there in places.values())
    said = f"{free / 1e9:,.1f} GB free for {options.outputs}"
    if free < _NO_BYTES:
        return problem("disk", said, "make room: a run stops before its images do not fit", 7)
    if free < max(_LOW_BYTES, int(awaited_bytes * _ANSWER_ROOM)):
        awaited = f", and answers on their way need about {awaited_bytes * _ANSWER_ROOM / 1e9:,.1f} GB"
        return warning("disk", f"{said}{awaited if awaited_bytes else ''}", "make room before the next run")
    kind = _kind(places[options.state])
    if kind and _SHARED.search(kind):
        hint = "put the journal on a local disk: --state DIR or PIPELINE_STATE"
        return warning("disk", f"{said}; the journal lies on {kind}, which may lose what was written", hint)
    return ok("disk", f"{said}{f', on {kind}' if kind else ''}")


def refuse_network(options: Options) -> None:
    """Raise `LocalError` where the state lies on a file system of another machine, unless somebody takes the blame.

    There a lock may be held by two, and what was written may not be there after a crash: both would pay twice.
    """
    kind = "" if options.allows_network_fs else _kind(_existing(options.state))
    if _REMOTE.fullmatch(kind):
        raise LocalError(
            f"the state {options.state} lies on {kind}, where neither locks nor what was written can be relied on",
            hint="put it on a local disk with `--state DIR`; or say --allow-network-fs, and run on one machine only",
        )


def _existing(path: Path) -> Path:
    """A path, or the nearest folder above it that is there."""
    path = path.resolve()
    while not path.exists():
        path = path.parent
    return path


def _kind(path: Path) -> str:
    """The file system below a path, by Linux's word; empty where nobody tells."""
    try:
        return file_system(path, _MOUNTS.read_text(encoding="utf-8", errors="replace"))
    except OSError:
        return ""


def file_system(path: Path, mounts: str) -> str:
    """The kind of file system a path is on, from the lines of `mountinfo` (proc(5)): the longest mount point wins."""
    best, kind = -1, ""
    for line in mounts.splitlines():
        before, _, after = line.partition(" - ")
        fields = before.split()
        if len(fields) < 5 or not after:  # noqa: PLR2004 - the fifth is the mount point
            continue
        point = Path(re.sub(r"\\([0-7]{3})", lambda found: chr(int(found[1], 8)), fields[4]))
        if path.is_relative_to(point) and len(point.parts) >= best:
            best, kind = len(point.parts), after.split()[0]
    return kind
