"""Files at the service: uploaded once under a name of our choice, and believed only when size and hash are right."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from pipeline.errors import LocalError, ServiceError, UnfinishedError
from pipeline.gemini.api import TakenError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from pipeline.gemini.api import Api
    from pipeline.gemini.wire import RemoteFile
    from pipeline.reconcile.run import Clock

_LONGEST_PROCESSING_S = 600.0
_LOOK_AGAIN_S = 5.0
_DAMAGED_MOST = 2


@dataclass(frozen=True, slots=True)
class Wish:
    """A file that should be at the service."""

    path: Path
    shown: str
    """The path for people."""
    mime: str
    bytes: int
    sha256: str
    names: tuple[str, ...]
    """What it may be called there, `files/` left out: the next where the one before is taken or about to expire."""
    life_s: float = 0.0
    """How long it must live, by the service's clock."""


def published(api: Api, wish: Wish, clock: Clock) -> RemoteFile:
    """See to it that a file is at the service, complete; what is there already under its name is taken.

    So a call that was cut can be repeated. Raises `UnfinishedError` when it is still being processed after ten minutes
    or was changed meanwhile, `ServiceError` when what arrives there is damaged twice.
    """
    damaged = 0
    for name in _names(wish):
        there = _found_or_made(api, wish, name, clock)
        if there is None or _lives(api, there) < wish.life_s:
            continue
        if there.state != "FAILED" and there.bytes in {None, wish.bytes} and there.sha256 in {None, wish.sha256}:
            return there
        api.delete_file(there.name)
        _refuse_changed(wish)
        damaged += 1
        if damaged == _DAMAGED_MOST:
            break
    raise _unkept(wish, is_damaged=bool(damaged))


def _found_or_made(api: Api, wish: Wish, name: str, clock: Clock) -> RemoteFile | None:
    """What is at the service under a name, uploaded if nothing was; `None` where the name is somebody else's."""
    if there := api.file(f"files/{name}"):
        return _processed(api, there, clock)
    try:
        made = _processed(api, api.upload(wish.path, name, wish.mime), clock)
    except TakenError:  # somebody else's, who does not show it to us, or of another run of ours
        there = api.file(f"files/{name}")
        return there and _processed(api, there, clock)
    return made and _by_its_own_life(api, made)


def _unkept(wish: Wish, *, is_damaged: bool) -> ServiceError:
    if is_damaged:
        hint = "look at it, then run again; nothing is lost"
        return ServiceError(f"{wish.shown}: the service does not keep it as it was sent", hint=hint)
    return ServiceError(
        f"{wish.shown}: by its own clock, the service does not keep it for {wish.life_s / 3600:g} hours",
        hint="`pipeline doctor` compares the clocks; nothing was sent for it, and nothing is lost",
    )


def _names(wish: Wish) -> Iterator[str]:
    """Each name, and the last once more, for a file that was damaged under it."""
    yield from wish.names
    yield wish.names[-1]


def _processed(api: Api, there: RemoteFile, clock: Clock) -> RemoteFile | None:
    """What it is once the service has looked at it; `None` when it went away meanwhile."""
    until = clock.time() + _LONGEST_PROCESSING_S
    found: RemoteFile | None = there
    while found is not None and found.state == "PROCESSING":
        if clock.time() >= until:
            raise UnfinishedError(
                f"the service has been processing {found.name} for ten minutes",
                hint="run the same command again later; nothing is lost",
            )
        clock.sleep(_LOOK_AGAIN_S)
        found = api.file(found.name)
    return found


def _by_its_own_life(api: Api, there: RemoteFile) -> RemoteFile:
    """A file that was made just now lives as long as its own times say, whatever the clock of an answer claims."""
    if there.expires_at is None or there.created_at is None:
        return there
    return replace(there, expires_at=api.now() + there.expires_at - there.created_at)


def _lives(api: Api, there: RemoteFile) -> float:
    """How long a file will still be there, in seconds; where the service does not say, as long as it keeps any."""
    return float("inf") if there.expires_at is None else there.expires_at - api.now()


def _refuse_changed(wish: Wish) -> None:
    try:
        with wish.path.open("rb") as stream:
            is_same = hashlib.file_digest(stream, "sha256").hexdigest() == wish.sha256
    except OSError as error:
        raise LocalError(
            f"{wish.shown} cannot be read any more: {error.strerror}", hint="put it back, run again"
        ) from None
    if not is_same:
        raise UnfinishedError(
            f"{wish.shown} was changed while the job ran", hint="run the same command again: it is planned anew"
        )
