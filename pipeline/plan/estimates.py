"""What a request takes: money, bytes out and bytes back, before it is sent."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, NamedTuple

from pipeline import record
from pipeline.batchfile import answer_bytes
from pipeline.gemini import prices
from pipeline.job import expand
from pipeline.journal import WantedRequest

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from datetime import date

    from pipeline.gemini.models import Model, Models
    from pipeline.job.ask import Ask
    from pipeline.job.expand import Filled, Request

MICRO = 1_000_000
_AROUND_REQUEST = 300
"""Bytes of a line beside its texts and images."""
_IMAGE = ("image",)


def wanted(
    requests: Iterable[Filled | Request], models: Models, *, service: str, today: date, lane: prices.Lane = "batch",
    may_be_late: bool = False,
) -> Iterator[WantedRequest]:  # fmt: skip
    """Each request as the journal keeps it: wire key, price in that lane, sizes, and the draft of its record.

    One that `may_be_late` has a price besides for when its batch does not come home, and it is asked for by itself.
    """
    for request in map(expand.whole, requests):
        ask = request.ask
        model = models.find(ask.model)
        model_id = model.id if model else ask.model
        takes = _takes(ask, model)
        estimate = model and prices.estimate(model, today, takes.order, lane)
        late = model and prices.estimate(model, today, takes.order, "interactive") if may_be_late else None
        yield WantedRequest(
            key=request.key,
            turn=request.turn,
            follows=request.follows,
            fingerprint=request.fingerprint,
            wire_key=record.wire_key(request.key, request.fingerprint),
            model_id=model_id,
            aspect=ask.aspect if takes.order.size else "",
            size=takes.order.size or "",
            extras=takes.extras,
            path=request.path,
            cost=int(estimate.amount * MICRO) if estimate else None,
            upper_bound=int(estimate.upper_bound * MICRO) if estimate else None,
            answer_bytes=takes.answer_bytes,
            input_bytes=takes.input_bytes,
            images=_images(ask),
            max_age_s=request.max_age_s,
            line=record.dumps(record.draft(request, model_id=model_id, service=service)),
            late_cost=int(late.amount * MICRO) if late else None,
            late_bound=int(late.upper_bound * MICRO) if late else None,
        )


def _images(ask: Ask) -> str:
    """All reference images that go along with an ask, those of earlier turns included."""
    images = [image for turn in (*ask.earlier, ask) for image in turn.images]
    return json.dumps([(image.sha256, image.bytes) for image in images]) if images else ""


class _Takes(NamedTuple):
    """What one request takes."""

    order: prices.Order
    answer_bytes: int
    input_bytes: int
    extras: str = ""


def _takes(ask: Ask, model: Model | None) -> _Takes:
    settings = ask.settings()
    if ask.earlier or len(settings) > 2:  # noqa: PLR2004 - more than aspect and size
        return _takes_more(ask, model, settings)
    return _Takes(
        prices.Order(prices.weight(ask.prompt), len(ask.images), ask.size),
        answer_bytes(ask, model),
        len(ask.prompt) + sum(image.bytes for image in ask.images) * 4 // 3 + _AROUND_REQUEST,
    )


def _takes_more(ask: Ask, model: Model | None, settings: Mapping[str, Any]) -> _Takes:
    """The same for a request with settings of its own, or for a later turn of a conversation.

    A turn sends the turns before it again: their words, their references, and what was answered.
    """
    turns = (*ask.earlier, ask)
    response = settings.get("response", _IMAGE)
    before = [turn.settings() for turn in ask.earlier]
    answers = [told.get("response", _IMAGE) for told in before]
    texts = [*(turn.prompt for turn in turns), settings.get("system", "")]
    images = [image for turn in turns for image in turn.images]
    order = prices.Order(
        prompt_chars=sum(map(prices.weight, texts)),
        references=len(images) + sum("image" in answer for answer in answers),
        size=ask.size if "image" in response else None,
        has_text="text" in response,
        most_tokens=settings.get("max_output_tokens"),
        searches=bool(settings.get("search")),
        earlier_texts=sum("text" in answer for answer in answers),
    )
    brought_back = sum(answer_bytes(turn, model) for turn in ask.earlier)
    sent = sum(map(len, texts)) + sum(image.bytes for image in images) * 4 // 3 + brought_back + _AROUND_REQUEST
    extras = ", ".join(word for word, holds in (("text", order.has_text), ("search", order.searches)) if holds)
    return _Takes(order, answer_bytes(ask, model), sent, extras)
