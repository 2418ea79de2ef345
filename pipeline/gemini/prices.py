"""What an image request will cost, and what one did cost; USD, as Decimal, to a millionth.

Tokens cost what the registry says for the day and the lane: input, thoughts and words out, image out.
"""

from __future__ import annotations

from dataclasses import dataclass
from decimal import ROUND_CEILING, ROUND_HALF_EVEN, Decimal
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from datetime import date

    from pipeline.gemini.models import Model, Price

Lane = Literal["batch", "interactive"]

_MILLION = Decimal(1_000_000)
_MILLIONTH = Decimal("0.000001")
_CHARS_IN_TOKEN = 4


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens of one answer, as the service counted them."""

    input: int
    output_image: int
    output_text: int
    thinking: int


@dataclass(frozen=True, slots=True)
class Estimate:
    """What a request is expected to cost, and what it should not exceed; USD.

    Not in either: search queries (`Model.search_price`), and images beyond the first, which a model may add unasked.
    """

    amount: Decimal
    upper_bound: Decimal


def weight(text: str) -> int:
    """The length of a prompt as `estimate` wants it: an ASCII character is 1, any other 4, a token of its own."""
    return len(text) if text.isascii() else sum(1 if char.isascii() else _CHARS_IN_TOKEN for char in text)


def estimate(
    model: Model, day: date, *, size: str, prompt_chars: int, references: int, lane: Lane = "batch"
) -> Estimate | None:
    """What one request for one image costs, or None where the price or the size is not known.

    `prompt_chars` is the `weight` of all texts sent. Four characters make a token, which is usual for English; the
    upper bound takes one each, since no tokenizer makes more tokens than UTF-8 bytes. Thoughts come from the registry.
    """
    price = model.price(day)
    if price is None or size not in model.sizes:
        return None
    images = references * model.reference_tokens
    typical = Usage(-(-prompt_chars // _CHARS_IN_TOKEN) + images, model.tokens(size), 0, model.thinking_typical)
    upper = Usage(prompt_chars + images, model.tokens(size), 0, model.thinking_upper)
    amount, bound = _exact(price, typical, lane), _exact(price, upper, lane)
    return Estimate(amount.quantize(_MILLIONTH, ROUND_HALF_EVEN), bound.quantize(_MILLIONTH, ROUND_CEILING))


def actual(model: Model, day: date, usage: Usage, lane: Lane) -> Decimal | None:
    """What an answer cost by the tokens the service reports, or None where the price is not known."""
    price = model.price(day)
    return None if price is None else _exact(price, usage, lane).quantize(_MILLIONTH, ROUND_HALF_EVEN)


def _exact(price: Price, usage: Usage, lane: Lane) -> Decimal:
    if lane == "batch":
        per_input, per_text, per_image = price.batch_input, price.batch_text, price.batch_image
    else:
        per_input, per_text, per_image = price.input, price.text, price.image
    spoken = usage.output_text + usage.thinking
    return (usage.input * per_input + spoken * per_text + usage.output_image * per_image) / _MILLION
