"""Jobs written by a test, and a registry of two models that stays as it is."""

from __future__ import annotations

import textwrap
import zlib
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import ClassVar

from pipeline.errors import JobError
from pipeline.job.expand import examine, expand
from pipeline.job.language import load

TODAY = date(2026, 11, 22)


def _chunk(name: bytes, body: bytes) -> bytes:
    return len(body).to_bytes(4) + name + body + zlib.crc32(name + body).to_bytes(4)


# One grey pixel each, whole by their frames; what follows the end of one makes another image of it.
PNG = (
    b"\x89PNG\r\n\x1a\n"
    + _chunk(b"IHDR", b"\0\0\0\1\0\0\0\1\x08\0\0\0\0")
    + _chunk(b"IDAT", zlib.compress(b"\0\x80"))
    + _chunk(b"IEND", b"")
)
JPEG = bytes.fromhex("ffd8ffe000104a46494600010100000100010000ffc0000b080001000101011100ffda0008010100003f0080ffd9")
WEBP = b"RIFF\x20\0\0\0WEBPVP8 \x14\0\0\0\0\0\0\x9d\x01\x2a\1\0\1\0" + b"\0" * 10
HEIC = b"\0\0\0\x18ftypheic" + b"\0" * 40


@dataclass(frozen=True)
class FakeModel:
    id: str
    aspects: tuple[str, ...] = ("1:1", "4:5", "16:9")
    sizes: tuple[str, ...] = ("1K", "2K", "4K")
    formats: frozenset[str] = frozenset({"image/png", "image/jpeg", "image/webp"})
    max_references: int = 4
    advised_references: int | None = 2
    references_by_role: ClassVar = {"object": 3, "person": 1}
    thinking: tuple[str, ...] = ("minimal", "high")
    search: tuple[str, ...] = ("web",)
    best_languages: tuple[str, ...] = ("EN", "de-DE", "ja-JP")
    shutdown: date | None = None
    successor: str | None = None

    def image_price(self, size, _day):
        return {"1K": Decimal("0.02"), "2K": Decimal("0.03")}.get(size)


class FakeModels:
    rows: ClassVar = {
        "flash": FakeModel("picture-2"),
        "picture-2": FakeModel("picture-2"),
        "old": FakeModel("picture-1", shutdown=date(2026, 1, 1), successor="picture-2"),
    }

    def find(self, word):
        return self.rows.get(word)

    def words(self):
        return list(self.rows)


def write(folder: Path, name: str, content: str | bytes) -> Path:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content if isinstance(content, bytes) else textwrap.dedent(content).encode())
    return path


def loaded(folder: Path, text: str | bytes, name: str = "job.yaml"):
    return load(write(folder, name, text), root=folder)


def requests_of(job, *, warnings: list | None = None):
    """The requests of a job, one by one; the messages of warnings are added to `warnings`."""
    said = [] if warnings is None else warnings
    return expand(job, models=FakeModels(), today=TODAY, warn=lambda problem: said.append(problem.message))


def expanded(folder: Path, text: str | bytes, *, warnings: list | None = None, name: str = "job.yaml"):
    """The requests of a manifest; the messages of its warnings are added to `warnings`."""
    said = [] if warnings is None else warnings
    job = loaded(folder, text, name)
    said.extend(problem.message for problem in job.warnings)
    return list(requests_of(job, warnings=said))


def complaints(folder: Path, text: str | bytes, name: str = "job.yaml") -> list[str]:
    """What is wrong with a manifest: each problem as `line:column: message`, with its hint."""
    path = write(folder, name, text)
    try:
        examine(path, root=folder, models=FakeModels(), today=TODAY, warn=lambda _problem: None)
    except JobError as error:
        return [_line(problem, name) for problem in error.problems]
    return []


def _line(problem, name):
    file = "" if problem.file.endswith(name) else f"{Path(problem.file).name}:"
    hint = f" ({problem.hint})" if problem.hint else ""
    return f"{file}{problem.line}:{problem.column}: {problem.message}{hint}"


def examine_quietly(path: Path, folder: Path) -> list:
    """The problems of a manifest, with the models of the tests."""
    try:
        examine(path, root=folder, models=FakeModels(), today=TODAY, warn=lambda _problem: None)
    except JobError as error:
        return list(error.problems)
    return []
