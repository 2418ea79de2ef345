"""Whether there is room for the next answers: on our disks, and in the storage of the service.

Both are asked in the transaction that takes the requests, so that several runs in one outputs folder do not count on
the same room.
"""

from __future__ import annotations

import os
import shutil
from typing import TYPE_CHECKING

from pipeline.errors import LocalError

if TYPE_CHECKING:
    from pathlib import Path

    from pipeline.reconcile.run import Run, Work

_ANSWER = 1.4
_IMAGES = 1.0
"""An answer goes to the state, its images to the outputs: what each needs, with some air, in multiples of the answer.

In base64 an image takes a third more than by itself; what it replaces is kept as well.
"""

_GB = 1e9


class NoRoomError(LocalError):
    """The disk has no room for more answers; those that are on their way may still come home."""


def check_disk(run: Run, work: Work, answer_bytes: int) -> None:
    """Raise `NoRoomError` when answers of this size, their images, and all that is on its way do not fit on the disk.

    On its way is what any job of the outputs folder waits for: it comes home onto the same disk. Where the state and
    the outputs are on disks of their own, each has room for its part.
    """
    answers, unpacked = work.journal.batches.to_come()
    needs: dict[int, tuple[Path, float, float]] = {}
    for folder, share, under_way in (
        (run.state, _ANSWER, answers * _ANSWER),
        (work.tree.folder.path, _IMAGES, (answers + unpacked) * _IMAGES),
    ):
        place = _existing(folder)
        known = needs.get(disk := _disk(place), (place, 0.0, 0.0))
        needs[disk] = (known[0], known[1] + answer_bytes * share, known[2] + under_way)
    for place, needed, under_way in needs.values():
        free = shutil.disk_usage(place).free
        if free < needed + under_way:
            awaited = f" beside {_shown(under_way)} for what is on its way already" if under_way else ""
            raise NoRoomError(
                f"the disk of {os.path.relpath(place)} has {_shown(free)} free, and the next answers with their images"
                f" need about {_shown(needed)}{awaited}: nothing was sent for them",
                hint="make room (`pipeline clean` lists what can go), or move the state to another disk with"
                " `--state DIR`; then run again",
            )


def space_left(run: Run, work: Work) -> int:
    """How many bytes more the service keeps for us, beside what is there and the answers that are on their way."""
    journal, service = work.journal, run.service
    taken = journal.batches.held_bytes(service, run.clock.time()) + journal.batches.expected_bytes(service)
    taken += sum(one.bytes for one in journal.uploads.alive(service, run.api.now()))
    return run.models.storage_bytes - taken


def is_full(run: Run, work: Work, needed: int, space: int) -> bool:
    """Whether that is too little; then nothing is created until something was deleted there or has expired."""
    waited, work.waits_for_space = work.waits_for_space, needed > space
    if needed <= space:
        return False
    run.creates_stopped, run.is_full = "the storage at the service is full", True
    if not waited:
        run.tell("full", job=work.job.name, left=max(0, space), needed=needed, limit=run.models.storage_bytes)
    return True


def _existing(path: Path) -> Path:
    """A folder, or the nearest one above it that is there."""
    while not path.exists() and path != path.parent:
        path = path.parent
    return path


def _disk(place: Path) -> int:
    return place.stat().st_dev


def _shown(size: float) -> str:
    return f"{size / 1e6:,.1f} MB" if size < _GB else f"{size / _GB:,.2f} GB"
