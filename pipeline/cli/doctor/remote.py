"""The service: whether it can be reached, takes the key, has the models, has a paid tier, and what it holds."""

from __future__ import annotations

import contextlib
import datetime as dt
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pipeline.cli import opening
from pipeline.cli.doctor import memory
from pipeline.cli.doctor.check import Check, of_error, ok, problem, warning
from pipeline.cli.screen import megabytes, plural
from pipeline.errors import PipelineError
from pipeline.gemini.wire import instant

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from pipeline.cli.options import Options
    from pipeline.gemini.api import Api
    from pipeline.gemini.models import Models
    from pipeline.gemini.wire import Operation
    from pipeline.journal import Journal
    from pipeline.leftovers import Holdings

_FULL = 0.8
_LATE_S = 24 * 3600.0
_UNPAID = "image models have no free tier: enable billing for the project of the key, in AI Studio or the Cloud console"


@dataclass(frozen=True, slots=True)
class Asking:
    """What the service is asked about."""

    options: Options
    service: str
    models: Models
    ids: Sequence[str]
    """The models in use."""
    journal: Journal | None


def checks(asking: Asking) -> Iterator[Check]:
    """Ask the service; where it cannot be reached, that is the one thing to say."""
    said: list[str] = []
    with contextlib.ExitStack() as stack:
        try:
            options = asking.options.asking(asking.service)
            api = stack.enter_context(opening.service(options, said.append))
        except PipelineError as error:
            yield of_error("service", error)
            return
        try:
            absent = [model_id for model_id in asking.ids if not api.model(model_id)]
        except PipelineError as error:
            yield _unreached(error)
        else:
            yield _reached(api, asking, absent)
            yield from _of_holdings(api, asking)
        if api.ahead_s is not None:
            yield clock(api.ahead_s)


def _reached(api: Api, asking: Asking, absent: Sequence[str]) -> Check:
    if not absent:
        return ok("service", f"{api.base_url} answers, takes the key, and has {', '.join(asking.ids)}")
    successors = [found.successor for name in absent if (found := asking.models.find(name)) and found.successor]
    hint = f"name another model{f', such as {successors[0]}' if successors else ''}: `pipeline ls models` has them"
    return problem("service", f"{api.base_url} answers, and has no {' or '.join(absent)}", hint, 6)


def _unreached(error: PipelineError) -> Check:
    from pipeline.gemini.api import BillingError

    hint = _UNPAID if isinstance(error, BillingError) else error.hint
    later = "what only the service can tell was not looked at"
    name = "billing" if isinstance(error, BillingError) else "service"
    return problem(name, str(error), "; ".join(filter(None, [hint, later])), error.exit_code)


def clock(ahead_s: float) -> Check:
    """Whether our clock is the service's: ages, expiries and prices go by it."""
    if abs(ahead_s) <= opening.MOST_SKEW_S:
        return ok("clock", f"{abs(ahead_s):.0f} s from the service's")
    return warning(
        "clock", opening.skew(ahead_s), "set it, by NTP (timedatectl set-ntp true): ages and deadlines go by it"
    )


# ------------------------------------------------------------------------------------- what it holds


def _of_holdings(api: Api, asking: Asking) -> Iterator[Check]:
    from pipeline import leftovers
    from pipeline.gemini.api import BillingError

    try:
        held = leftovers.holdings(api, asking.journal)
    except BillingError as error:
        yield problem("billing", str(error), _UNPAID, error.exit_code)
        return
    except PipelineError as error:
        yield of_error("listing", error)
        return
    yield billing(asking, held.batches)
    yield storage(asking, held)
    yield _strangers(held)
    yield from _vanishing(api, asking, held.batches)


def billing(asking: Asking, batches: Sequence[Operation]) -> Check:
    """Whether the project has a paid tier, as far as that can be told without sending anything.

    No call that is free tells. What does: an error that says so, the fate of the last batch that was sent, and batches
    of the project that were worked on.
    """
    from pipeline.gemini.verdicts import NO_PAID_TIER

    if asking.service == "local":
        return ok("billing", "nothing is paid for at the local service")
    last = asking.journal.last_create(asking.service) if asking.journal else None
    day = dt.datetime.fromtimestamp(last[0], dt.UTC).date() if last else None
    if last is not None and NO_PAID_TIER in last[1]:
        return problem("billing", f"the project has no paid tier: on {day} a batch was refused for it", _UNPAID, 6)
    worked_on = [one for one in batches if one.state in {"RUNNING", "SUCCEEDED", "PARTIALLY_SUCCEEDED"}]
    if worked_on:
        newest = max(one.created_at for one in worked_on)[:10]
        return ok("billing", f"the project's batches are worked on, the newest of {newest or 'an unknown day'}")
    if last is not None and last[1].startswith("Accepted"):
        return ok("billing", f"a batch was taken on {day}, which a project without a paid tier is refused")
    message = "no batch of this project tells whether it has a paid tier, and nothing that is free can"
    return warning("billing", message, f"{_UNPAID}; the first run would be refused, and buy nothing")


def storage(asking: Asking, held: Holdings) -> Check:
    """How full the service's storage is."""
    of_batches, of_uploads = memory.held_bytes(asking.journal, asking.service) if asking.journal else (0, 0)
    used, limit = max(held.bytes, of_uploads) + of_batches, asking.models.storage_bytes
    message = (
        f"{plural(len(held.files), 'file')} of {megabytes(held.bytes)} listed, and by the journal"
        f" {megabytes(of_batches)} of answers and request files: of {limit / 1e9:,.0f} GB"
    )
    if used > limit * _FULL:
        return warning("storage", message, "`pipeline clean --yes` deletes what we left there and nobody needs")
    return ok("storage", message)


def _strangers(held: Holdings) -> Check:
    here = [one.operation for one in held.strangers if one.is_of_here]
    others = len(held.strangers) - len(here)
    beside = f"{plural(others, 'batch')} of other outputs folders or machines" if others else ""
    if here:
        names = ", ".join(f"{one.name} ({one.display_name})" for one in here[:3])
        message = f"{plural(len(here), 'batch')} made for this folder, which the journal does not know: {names}"
        return warning("strangers", message, "`pipeline collect --recover` takes them in")
    return ok("strangers", beside or "no batch of ours that the journal does not know")


def _vanishing(api: Api, asking: Asking, batches: Sequence[Operation]) -> Iterator[Check]:
    """Batches of ours that ended at the service a while ago, by its own word, and were not fetched."""
    if asking.journal is None:
        return
    known = {one.remote for one in asking.journal.leftovers.unsettled(asking.service) if one.state in {"live", "ended"}}
    late = [one.name for one in batches if one.ended and one.name in known and _ended_s(api, one) > _LATE_S]
    if late:
        message = f"{', '.join(late)} ended more than a day ago, and the answer is not here"
        yield warning("answers", message, "`pipeline collect` now: the service may delete it two days after its end")


def _ended_s(api: Api, one: Operation) -> float:
    """How long ago a batch ended, in seconds, by the service's clock; since it was made where the end is not told."""
    at = instant(one.ended_at or one.created_at)
    return 0.0 if at is None else api.now() - at
