"""Text that came with images, as one Markdown file: their words as they are, and a line with a link for each image."""

from __future__ import annotations

import hashlib
import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

MIME = "text/markdown"
_LINK = re.compile(rb"(!\[image \d+\]\()(.+)\)")


def composed(blocks: Iterable[str]) -> bytes:
    """The blocks with an empty line between them, and a line end after the last; of blank ones nothing is left."""
    return "\n\n".join(block.strip("\r\n") for block in blocks if block.strip()).encode() + b"\n"


def link(number: int, file: str) -> str:
    """The block that shows an image, by the name of a file in the same folder."""
    return f"![image {number}]({file})"


def renamed(page: bytes, names: Mapping[str, str]) -> bytes:
    """The page with its links to images under the new names: old name, new name."""
    lines = page.split(b"\n")
    for number, line in enumerate(lines):
        found = _LINK.fullmatch(line)
        new = names.get(found[2].decode("utf-8", "replace")) if found else None
        if found and new:
            lines[number] = found[1] + new.encode() + b")"
    return b"\n".join(lines)


def name(path: str) -> str:
    """The last segment of a path."""
    return path.rpartition("/")[2]


def sha256(data: bytes) -> str:
    """Of a file's bytes, in hex, as records have it."""
    return hashlib.sha256(data).hexdigest()
