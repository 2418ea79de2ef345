"""The image models this service plays: what each offers, how large its pictures are, what they cost in tokens."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime
from math import log
from typing import TYPE_CHECKING, Any

from .refusals import RefusalError

if TYPE_CHECKING:
    from collections.abc import Mapping

OUTPUT_TOKENS = 32_768
"""The most tokens an answer of any of these models may have."""

_COMMON = ("1:1", "2:3", "3:2", "3:4", "4:3", "4:5", "5:4", "9:16", "16:9", "21:9")
_EXTREME = ("1:4", "4:1", "1:8", "8:1")

_AT_1K = {
    "1:1": (1024, 1024),
    "1:4": (512, 2048),
    "1:8": (384, 3072),
    "2:3": (848, 1264),
    "3:2": (1264, 848),
    "3:4": (896, 1200),
    "4:1": (2048, 512),
    "4:3": (1200, 896),
    "4:5": (928, 1152),
    "5:4": (1152, 928),
    "8:1": (3072, 384),
    "9:16": (768, 1376),
    "16:9": (1376, 768),
    "21:9": (1584, 672),
}
_AT_512 = {  # not half of 1K everywhere
    "1:1": (512, 512),
    "1:4": (256, 1024),
    "1:8": (192, 1536),
    "2:3": (424, 632),
    "3:2": (632, 424),
    "3:4": (448, 600),
    "4:1": (1024, 256),
    "4:3": (600, 448),
    "4:5": (464, 576),
    "5:4": (576, 464),
    "8:1": (1536, 192),
    "9:16": (384, 688),
    "16:9": (688, 384),
    "21:9": (792, 336),
}
_OF_2_5 = {
    "1:1": (1024, 1024),
    "2:3": (832, 1248),
    "3:2": (1248, 832),
    "3:4": (864, 1184),
    "4:3": (1184, 864),
    "4:5": (896, 1152),
    "5:4": (1152, 896),
    "9:16": (768, 1344),
    "16:9": (1344, 768),
    "21:9": (1536, 672),
}


@dataclass(frozen=True, slots=True)
class Model:
    """One image model as the service offers it."""

    id: str
    title: str
    tokens: Mapping[str, int]
    """The sizes offered, each with the output tokens of one picture."""
    ratios: tuple[str, ...]
    levels: tuple[str, ...] = ()
    """The thinking levels a request may choose, the default first."""
    thinks: bool = True
    searches: frozenset[str] = frozenset()
    mime: str = "image/jpeg"
    shut_down_at: float | None = None
    input_tokens: int = 131_072
    reference_tokens: int = 1120
    references: int = 14
    own_pixels: Mapping[str, tuple[int, int]] = field(default_factory=dict)

    def pixels(self, aspect: str, size: str) -> tuple[int, int]:
        """Width and height of a picture, to the pixel."""
        if self.own_pixels:
            return self.own_pixels[aspect]
        if size == "512":
            return _AT_512[aspect]
        scale = {"1K": 1, "2K": 2, "4K": 4}[size]
        width, height = _AT_1K[aspect]
        return width * scale, height * scale

    def nearest_ratio(self, width: int, height: int) -> str:
        """The ratio offered that fits a picture of this shape best."""

        def distance(aspect: str) -> float:
            offered_width, offered_height = self.pixels(aspect, "1K")
            return abs(log(width / height) - log(offered_width / offered_height))

        return min(self.ratios, key=distance)

    def described(self) -> dict[str, Any]:
        """The model as `models.get` shows it."""
        return {
            "name": f"models/{self.id}",
            "version": "001",
            "displayName": self.title,
            "description": f"{self.title}, played by the local service: it draws, it does not imagine.",
            "inputTokenLimit": self.input_tokens,
            "outputTokenLimit": OUTPUT_TOKENS,
            "supportedGenerationMethods": ["generateContent", "countTokens", "batchGenerateContent"],
            "temperature": 1,
            "topP": 0.95,
            "topK": 64,
            "maxTemperature": 2,
            **({"thinking": True} if self.thinks else {}),
        }


def found(name: str, now: float, *, method: str = "generateContent") -> Model:
    """The model of that id, unless it is unknown or shut down by the service's clock."""
    model = _MODELS.get(name)
    if model is None:
        raise RefusalError(
            "NOT_FOUND",
            f"models/{name} is not found for API version v1beta, or is not supported for {method}. "
            "Call ListModels to see the list of available models and their supported methods.",
        )
    if model.shut_down_at is not None and now >= model.shut_down_at:
        raise RefusalError(
            "NOT_FOUND",
            f"This model models/{name} is no longer available. "
            "Please update your code to use a newer model for the latest features and improvements.",
        )
    return model


def available(now: float) -> list[Model]:
    """The models not shut down, in the order of the catalog."""
    return [model for model in _MODELS.values() if model.shut_down_at is None or now < model.shut_down_at]


def _day(year: int, month: int, day: int) -> float:
    return datetime(year, month, day, tzinfo=UTC).timestamp()


_FLASH_3_1 = {"512": 747, "1K": 1120, "2K": 1680, "4K": 2520}
_PRO_3 = {"1K": 1120, "2K": 1120, "4K": 2000}
_WEB = frozenset({"webSearch"})
_WEB_AND_IMAGES = frozenset({"webSearch", "imageSearch"})

_MODELS = {
    model.id: model
    for model in (
        Model(
            "gemini-nano-banana-2.1",
            "Nano Banana 2.1",
            {"1K": 1120, "2K": 1680, "4K": 3780},
            _COMMON + _EXTREME,
            levels=("MEDIUM", "MINIMAL", "HIGH"),
            searches=_WEB_AND_IMAGES,
        ),
        Model(
            "gemini-3.1-flash-image",
            "Nano Banana 2",
            _FLASH_3_1,
            _COMMON + _EXTREME,
            levels=("MINIMAL", "HIGH"),
            searches=_WEB_AND_IMAGES,
            shut_down_at=_day(2026, 10, 29),
        ),
        Model(
            "gemini-3.1-flash-lite-image",
            "Nano Banana 2 Lite",
            {"1K": 1120},
            _COMMON + _EXTREME,
            levels=("MINIMAL", "HIGH"),
        ),
        Model("gemini-3-pro-image", "Nano Banana Pro", _PRO_3, _COMMON, searches=_WEB, input_tokens=65_536),
        Model(
            "gemini-2.5-flash-image",
            "Nano Banana",
            {"1K": 1290},
            _COMMON,
            thinks=False,
            mime="image/png",
            shut_down_at=_day(2026, 10, 2),
            input_tokens=32_768,
            reference_tokens=258,
            own_pixels=_OF_2_5,
        ),
        Model(
            "gemini-3.1-flash-image-preview",
            "Nano Banana 2 Preview",
            _FLASH_3_1,
            _COMMON + _EXTREME,
            levels=("MINIMAL", "HIGH"),
            searches=_WEB_AND_IMAGES,
            shut_down_at=_day(2026, 6, 25),
        ),
        Model(
            "gemini-3-pro-image-preview",
            "Nano Banana Pro Preview",
            _PRO_3,
            _COMMON,
            searches=_WEB,
            input_tokens=65_536,
            shut_down_at=_day(2026, 6, 25),
        ),
    )
}
