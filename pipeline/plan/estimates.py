"""What a request takes: money, bytes out and bytes back, before it is sent."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, NamedTuple

import orjson

from pipeline import record
from pipeline.batchfile import answer_bytes
from pipeline.gemini import prices
from pipeline.job import forms
from pipeline.job.forms import Filled
from pipeline.journal import WantedRequest

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from datetime import date

    from pipeline.gemini.models import Model, Models
    from pipeline.job.ask import Ask
    from pipeline.job.forms import Form
    from pipeline.job.request import Request

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
    pricing = _Pricing(models, service, today, lane, may_be_late)
    drafts: dict[Form, _Draft | None] = {}
    for request in requests:
        if isinstance(request, Filled):
            form = request.form
            if form not in drafts:
                if len(drafts) >= _MANY:  # rows that all bring their own must not pile up
                    drafts.clear()
                drafts[form] = _Draft.of(form, pricing)
            draft = drafts[form]
            yield (draft and draft.filled(request)) or pricing.wanted(request.request())
        else:
            yield pricing.wanted(request)


_MANY = 1000


class _Cost(NamedTuple):
    """What a request costs and what at most, in its lane, and asked for one by one; millionths of a USD."""

    amount: int | None
    upper_bound: int | None
    late_amount: int | None
    late_bound: int | None


@dataclass(frozen=True, slots=True)
class _Pricing:
    """What requests are priced by."""

    models: Models
    service: str
    today: date
    lane: prices.Lane
    may_be_late: bool

    def wanted(self, request: Request) -> WantedRequest:
        """A request as the journal keeps it: the law, which forms go by."""
        ask = request.ask
        model = self.models.find(ask.model)
        model_id = model.id if model else ask.model
        takes = _takes(ask, model)
        cost = self.cost(model, takes.order)
        return WantedRequest(
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
            cost=cost.amount,
            upper_bound=cost.upper_bound,
            answer_bytes=takes.answer_bytes,
            input_bytes=takes.input_bytes,
            images=_images(ask),
            max_age_s=request.max_age_s,
            line=record.dumps(record.draft(request, model_id=model_id, service=self.service)),
            late_cost=cost.late_amount,
            late_bound=cost.late_bound,
        )

    def cost(self, model: Model | None, order: prices.Order) -> _Cost:
        now = model and prices.estimate(model, self.today, order, self.lane)
        late = model and prices.estimate(model, self.today, order, "interactive") if self.may_be_late else None
        return _Cost(
            int(now.amount * MICRO) if now else None,
            int(now.upper_bound * MICRO) if now else None,
            int(late.amount * MICRO) if late else None,
            int(late.upper_bound * MICRO) if late else None,
        )


class _Draft:
    """A form as the journal keeps it, for rows to fill in."""

    def __init__(self, form: Form, pricing: _Pricing, blank: WantedRequest, parts: Sequence[bytes]) -> None:
        self._fitting, self._pricing, self._blank, self._parts = form.fitting, pricing, blank, parts
        self._slug_tail = record.slug_tail(form.key_tail)
        ask = form.ask("")
        self._model = pricing.models.find(ask.model)
        self._around = _takes(ask, self._model)
        self._costs: dict[int, _Cost] = {}
        """By the weight of the prompt."""

    @classmethod
    def of(cls, form: Form, pricing: _Pricing) -> _Draft | None:
        """The draft of a form; None where its blanks cannot be found again."""
        blank = pricing.wanted(form.blank())
        parts = forms.cut(blank.line, forms.KEY, forms.ITEM, forms.ID, forms.FINGERPRINT, forms.PROMPT, forms.VARS)
        return None if parts is None else cls(form, pricing, blank, [part.encode() for part in parts])

    def filled(self, request: Filled) -> WantedRequest | None:
        """The request of a row; None where only the law can tell."""
        line = self._line(request)
        if line is None:
            return None
        prompt, blank, around = request.prompt, self._blank, self._around
        cost = self._cost(prices.weight(prompt))
        slug = record.slug_with(request.slug, self._slug_tail)
        return WantedRequest(
            request.key,
            blank.turn,
            blank.follows,
            request.fingerprint,
            record.wire_key(request.key, request.fingerprint, slug),
            blank.model_id,
            blank.aspect,
            blank.size,
            blank.extras,
            request.path,
            cost.amount,
            cost.upper_bound,
            blank.answer_bytes,
            around.input_bytes + len(prompt),
            blank.images,
            blank.max_age_s,
            line,
            cost.late_amount,
            cost.late_bound,
        )

    def _cost(self, weight: int) -> _Cost:
        cost = self._costs.get(weight)
        if cost is None:
            if len(self._costs) >= _MANY:
                self._costs.clear()
            order = replace(self._around.order, prompt_chars=self._around.order.prompt_chars + weight)
            cost = self._costs[weight] = self._pricing.cost(self._model, order)
        return cost

    def _line(self, request: Filled) -> str | None:
        key, item, id_, fingerprint, prompt, told, rest = self._parts
        row, quoted = request.row, orjson.dumps
        try:
            line = (
                b'%b%b%b%b%b%b%b"%b"%b%b%b%b%b'
                % (
                    key,
                    quoted(request.key),
                    item,
                    quoted(row.id + self._fitting.cell.suffix),
                    id_,
                    quoted(row.id),
                    fingerprint,
                    request.fingerprint.encode(),
                    prompt,
                    quoted(request.prompt),
                    told,
                    quoted(self._fitting.told_of(row)),
                    rest,
                )
            ).decode()
        except TypeError:  # half a surrogate pair is no character to it
            return None
        return record.on_one_line(line)


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
