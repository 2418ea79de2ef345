"""Looking for a key in whatever was written or said: whole, in part, or in another spelling."""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

PART = 16


def spellings(key: str) -> list[bytes]:
    """Ways to write a key that a service might echo; in base64 as the whole of a text."""
    plain = key.encode()
    return [
        plain,
        b"".join(b"%%%02X" % byte for byte in plain),
        plain.hex().encode(),
        base64.b64encode(plain),
        base64.b64encode(b"x" + plain),
        base64.b64encode(b"xy" + plain),
        plain[: len(plain) // 2 + 3],
        plain[len(plain) // 2 - 3 :],
    ]


def has_key(data: bytes, key: str) -> bool:
    """Whether `data` has a key, or 16 characters of it in a row, as it is or in base64."""
    for before in range(3):
        coded = base64.b64encode(bytes(before) + key.encode())[4:-4]
        if any(coded[at : at + PART + 8] in data for at in range(len(coded) - PART - 7)):
            return True
    texts = (data, data.replace(b"%", b"").replace(b"\\u00", b""))
    parts = [key.encode()[at : at + PART] for at in range(len(key) - PART + 1)]
    return any(part in text or part.hex().encode() in text.lower() for text in texts for part in parts)


def leaks(folder: Path, key: str) -> list[str]:
    """The files below a folder that have the key whole; quickly, for use after every test."""
    plain = key.encode()
    found = (path for path in folder.rglob("*") if path.is_file() and not path.is_symlink())
    return [path.relative_to(folder).as_posix() for path in found if plain in _bytes(path) or key in path.name]


def _bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:
        return b""  # a test has taken the permission away, or the file
