"""Of which batches there may be news: one listing says it of many, where each would have to be asked by name.

A listing decides nothing. What it shows otherwise than it was, or does not show, is asked by name, and that answer is
what counts; a listing that fails says nothing of any. As one may be old, each batch is asked by name in about one look
of ten all the same.
"""

from __future__ import annotations

import zlib
from itertools import islice
from typing import TYPE_CHECKING

from pipeline.errors import ServiceError, UnfinishedError
from pipeline.reconcile.run import age_s

if TYPE_CHECKING:
    from pipeline.gemini.wire import Operation
    from pipeline.journal import Batch
    from pipeline.reconcile.run import Run, Work

_FEW = 4
"""So many are asked by name at once: a listing is a call as well."""
_LOOKS = 10
_OTHERS = 20
"""For each batch of ours so many of a project are looked through: to find ours must not cost more than to ask."""


def look(run: Run, work: Work) -> None:
    """Note in the run which batches of a job are at work as they were, by a listing of the service."""
    run.quiet.clear()
    waiting = {batch.remote: batch for batch in work.batches("live") if _may_be_quiet(run, work, batch)}
    if len(waiting) <= _FEW:
        return
    try:
        for op in islice(run.api.batches(), len(waiting) * _OTHERS):
            batch = waiting.pop(op.name, None)
            if batch is not None and _is_as_it_was(batch, op):
                run.quiet.add(batch.id)
            if not waiting:
                break
    except (ServiceError, UnfinishedError) as trouble:
        run.quiet.clear()
        run.heed(trouble)


def _may_be_quiet(run: Run, work: Work, batch: Batch) -> bool:
    """Whether nothing but news would be done about a batch, and whether it is not its turn to be asked by name."""
    is_its_turn = zlib.crc32(f"{batch.id} {int(run.clock.time())}".encode()) % _LOOKS == 0
    is_odd = batch.remote_state is None or batch.trouble_at is not None or batch.id in work.revived
    return not (is_its_turn or is_odd or age_s(run, batch) > work.job.batch.deadline_s)


def _is_as_it_was(batch: Batch, op: Operation) -> bool:
    return not op.ended and op.state == batch.remote_state and op.display_name in {"", batch.name}
