"""What an image request will cost, and what one did cost; USD, as Decimal, to a millionth.

Tokens cost what the registry says for the day and the lane: input, thoughts and words out, image out. A search query
costs the same in both lanes, as far as anybody knows.
"""

from __future__ import annotations

from dataclasses import dataclass
from decimal import ROUND_CEILING, ROUND_HALF_EVEN, Decimal
from typing import TYPE_CHECKING, Literal, NamedTuple

if TYPE_CHECKING:
    from datetime import date

    from pipeline.gemini.models import Model, Price, Spent

Lane = Literal["batch", "interactive"]

_MILLION = Decimal(1_000_000)
_MILLIONTH = Decimal("0.000001")
_CHARS_IN_TOKEN = 4


class Usage(NamedTuple):
    """Tokens of one answer, as the service counted them."""

    input: int
    output_image: int
    output_text: int
    thinking: int


@dataclass(frozen=True, slots=True)
class Estimate:
    """What a request is expected to cost, and what it should not exceed; USD.

    Not in either: images beyond the first, which a model may add unasked.
    """

    amount: Decimal
    upper_bound: Decimal


def weight(text: str) -> int:
    """The length of a prompt as `estimate` wants it: an ASCII character is 1, any other 4, a token of its own."""
    return len(text) if text.isascii() else sum(1 if char.isascii() else _CHARS_IN_TOKEN for char in text)


@dataclass(frozen=True, slots=True)
class Order:
    """What one request sends, and what it asks for, as far as that has a price."""

    prompt_chars: int
    """The `weight` of all texts sent, those of earlier turns included."""
    references: int = 0
    """Images sent: reference images, and what the model drew in earlier turns."""
    size: str | None = "1K"
    """Of the image it asks for; None where it asks for words alone."""
    has_text: bool = False
    """It asks for words."""
    most_tokens: int | None = None
    """The length its words are cut at, where somebody wrote one."""
    searches: bool = False
    earlier_texts: int = 0
    """How many answers of earlier turns go back with their words."""


def estimate(model: Model, day: date, order: Order, lane: Lane = "batch") -> Estimate | None:
    """What one request costs, or None where a price it needs, or the size, is not known.

    Four characters of a prompt make a token, which is usual for English; the upper bound takes one each, since no
    tokenizer makes more tokens than UTF-8 bytes. How much is thought, said and searched comes from the registry.
    """
    price = model.price(day)
    if price is None or (order.size is not None and order.size not in model.sizes):
        return None
    if order.searches and model.search_price is None:
        return None
    chars = order.prompt_chars
    amount = _exact(price, _usage(model, order, -(-chars // _CHARS_IN_TOKEN), model.typical), lane)
    bound = _exact(price, _usage(model, order, chars, model.upper), lane)
    if order.searches and model.search_price is not None:
        amount += model.typical.queries * model.search_price
        bound += model.upper.queries * model.search_price
    return Estimate(amount.quantize(_MILLIONTH, ROUND_HALF_EVEN), bound.quantize(_MILLIONTH, ROUND_CEILING))


def _usage(model: Model, order: Order, prompt_tokens: int, spent: Spent) -> Usage:
    text = spent.text if order.most_tokens is None else order.most_tokens
    if spent is model.typical:
        text = min(text, spent.text)
    return Usage(
        input=prompt_tokens + order.references * model.reference_tokens + order.earlier_texts * spent.text,
        output_image=0 if order.size is None else model.tokens(order.size),
        output_text=text if order.has_text else 0,
        thinking=spent.thinking,
    )


def charged(model: Model, size: str, usage: Usage, *, images: int, sketches: int) -> Usage:
    """The tokens of an answer that have a price: `images` came, of this size, and `sketches` among the thoughts.

    Some answers come without the split by kind; there, as many tokens as the images take are theirs, and the rest is
    text. A sketch costs nothing: where the tokens hold more images than came as results, those are not counted.
    """
    drawn, said = usage.output_image, usage.output_text
    if size not in model.sizes:
        return usage if drawn or not images else Usage(usage.input, said, 0, usage.thinking)
    each = model.tokens(size)
    if images and not drawn:
        drawn = min(said, images * each)
        said -= drawn
    free = min(sketches, max(0, drawn - images * each) // each)
    if not usage.output_image:
        said -= each * min(sketches, said // each)
    return Usage(usage.input, drawn - free * each, said, usage.thinking)


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
