"""The ask: what an image request wants, apart from how it is sent; and its fingerprint.

The fingerprint decides whether money is spent. It is the sha256 of canonical JSON of the ask and of
nothing else: not the wire request, not a path, not a price, not what an alias means today. Some thirty
of them are pinned in `tests/data/fingerprints.json`; a change of this module that moves one of them
would make every user pay again for every image.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

VERSION = 1

# What counted as unwritten when version 1 was fixed. Never edited: where the product's own default moves
# on, an unwritten setting must keep its fingerprint, and so must one that is written as it was then.
_UNWRITTEN: Mapping[str, object] = {
    "model": "flash",
    "aspect": "1:1",
    "size": "1K",
    "response": ["image"],
    "search": [],
    "thoughts": False,
}
_UNWRITTEN_WITH_SEARCH: Mapping[str, object] = {**_UNWRITTEN, "response": ["text", "image"]}
_SILENT: Mapping[str, object] = {"response": ["image"], "search": [], "thoughts": False}


@dataclass(frozen=True, slots=True)
class Image:
    """A reference image as it was when the ask was made."""

    path: Path
    """Where it can be read."""
    shown: str
    """The path for people and records: relative to the manifest's folder, with `/`."""
    sha256: str
    mime: str
    bytes: int
    is_pointer: bool = False
    """A Git LFS pointer lies there: hash and size are those of the image it stands for, which cannot be sent."""


@dataclass(frozen=True, slots=True)
class Ask:
    """What one image request wants."""

    prompt: str
    model: str = "flash"
    """As written in the job: an alias stays an alias."""
    aspect: str = "1:1"
    size: str = "1K"
    images: tuple[Image, ...] = ()
    sample: int = 1
    written: Mapping[str, Any] = field(default_factory=dict)
    """The settings somebody wrote, by the words of the language and in their one form (`settings.py`); what has a
    field of its own here other than `model`, `aspect` and `size` is not among them."""
    edits_image: bool = False
    """The item is an image itself, so that an unwritten aspect means `auto`; this is for ever, too."""
    turn: int = 0
    """The number of a turn of a conversation; 0 for a request that is none."""
    earlier: tuple[Ask, ...] = ()
    """The asks of the turns before this one."""

    def settings(self) -> dict[str, Any]:
        """What is asked of the model beside prompt and images: `aspect` and `size`, then what was written.

        `seed` is the one of this sample; `response` is named wherever it is not the image alone.
        """
        told: dict[str, Any] = {"aspect": self.aspect, "size": self.size}
        told |= {word: value for word, value in self.written.items() if word not in {"model", *told}}
        if told.get("search"):
            told.setdefault("response", ["text", "image"])
        if "seed" in told:
            told["seed"] += self.sample - 1
        return {word: value for word, value in told.items() if value != _SILENT.get(word)}

    def canonical(self) -> bytes:
        """The bytes the fingerprint is made of: JSON, sorted, ASCII, without white space."""
        ask = {"turns": [one.identity() for one in (*self.earlier, self)]} if self.turn else self.identity()
        return json.dumps({**ask, "v": VERSION}, sort_keys=True, separators=(",", ":")).encode()

    def identity(self) -> dict[str, Any]:
        """What tells this ask from others, apart from the turns before it."""
        said = {"aspect": "auto", **self.written} if self.edits_image else self.written
        unwritten = _UNWRITTEN_WITH_SEARCH if said.get("search") else _UNWRITTEN
        return {
            **{name: value for name, value in said.items() if value != unwritten.get(name)},
            "model": self.model,
            "prompt": self.prompt,
            "images": [image.sha256 for image in self.images],
            "sample": self.sample,
        }

    def fingerprint(self) -> str:
        """64 lower-case hex digits that stay the same as long as the ask does."""
        return hashlib.sha256(self.canonical()).hexdigest()
