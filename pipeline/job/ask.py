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
_UNWRITTEN: Mapping[str, object] = {"model": "flash", "aspect": "1:1", "size": "1K"}


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
    """The settings somebody wrote, by the words of the language; `prompt`, `images`, `samples` excepted."""
    edits_image: bool = False
    """The item is an image itself, so that an unwritten aspect means `auto`; this is for ever, too."""

    def canonical(self) -> bytes:
        """The bytes the fingerprint is made of: JSON, sorted, ASCII, without white space."""
        said = {"aspect": "auto", **self.written} if self.edits_image else self.written
        differing = {name: value for name, value in said.items() if value != _UNWRITTEN.get(name)}
        ask = {
            **differing,
            "v": VERSION,
            "model": self.model,
            "prompt": self.prompt,
            "images": [image.sha256 for image in self.images],
            "sample": self.sample,
        }
        return json.dumps(ask, sort_keys=True, separators=(",", ":")).encode()

    def fingerprint(self) -> str:
        """64 lower-case hex digits that stay the same as long as the ask does."""
        return hashlib.sha256(self.canonical()).hexdigest()
