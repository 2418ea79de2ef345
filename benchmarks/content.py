"""What contenders work on, made at random: catalogs, pictures, answers, and projects as a user has them.

Answers are put where the service of `pipeline serve` keeps them, as if it had drawn them: what is measured is the
client, and the bytes are the same for all.
"""

from __future__ import annotations

import base64
import contextlib
import io
import json
import os
import random
import shutil
import sqlite3
import stat
import struct
import subprocess
import sys
import time
import zlib
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from measure import FailedError, environment
from PIL import Image

from pipeline import journal as journals
from pipeline.cli import run

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

PIPELINE = (sys.executable, "-m", "pipeline")
KEY = "no-key-is-needed-for-this-service"
AHEAD = 20
"""Requests that go ahead alone, for a model that has delivered nothing here yet."""
COLUMNS = ("id", "product", "colour", "ground", "description")
_TEXT = """
mug plate bowl jug tray oak ash linen slate chalk amber moss clay salt smoke river stone hand glaze kiln bench light
soft plain round deep wide thin pale dark warm cold wild quiet daily small large heavy fine rough smooth matt
"""
_WORDS = _TEXT.split()
_LONGEST_SEGMENT = 65_533


@dataclass(frozen=True)
class Kind:
    """Pictures of one kind: the job's words for them, and how they are made, which decides how many bytes they have."""

    name: str
    settings: str
    side: int
    """Pixels."""
    grain: float
    """Pixels from one speck of noise to the next; 0 for a plain one, which is as little to write as there can be."""
    quality: int
    subsampling: int = 0
    metadata: int = 0
    """Bytes beside the picture itself. With them, a picture is as much for Pillow as those were that the figures of
    `references.json` are from: in one that is all noise, Pillow's work alone would decide every comparison."""


SMALL = Kind("small", "size: 1K", 1024, 8, 90, metadata=970_000)  # 1.5 MB
LARGE = Kind("large", "size: 4K", 4096, 8, 93, metadata=8_200_000)  # 18 MB
TINY = Kind("tiny", "size: 1K", 1024, 256, 24, 2)  # 20 KB
PLAIN = Kind("plain", "size: 1K", 1024, 0, 0)  # 250 bytes


# ------------------------------------------------------------------------------------------- catalogs


def write_catalog(path: Path, rows: int, *, changed: bool = False) -> None:
    """A catalog of random products, some 600 bytes a row and the same each time; `changed` makes one row another."""
    chance = random.Random(rows)
    with path.open("w", encoding="utf-8") as out:
        out.write(",".join(COLUMNS) + "\n")
        for number in range(rows):
            words = " ".join(chance.choices(_WORDS, k=100))
            product = "another thing" if changed and number == rows // 2 else f"{chance.choice(_WORDS)} {number}"
            colour, ground = chance.choice(_WORDS), chance.choice(_WORDS)
            out.write(f'p-{number:07},{product},{colour},{ground},"{words}, no. {number}"\n')


def write_job(top: Path, rows: int, *, aspects: str = "[1:1]", more: str = "") -> None:
    """A project of one job, `jobs/bench.yaml`, and its catalog."""
    jobs = top / "jobs"
    jobs.mkdir(parents=True)
    (jobs / "bench.yaml").write_text(
        "prompt: Studio photo of a [product] in [colour] on [ground], soft window light, no text. [description]\n"
        f"items: catalog.csv\nmatrix: {{aspect: {aspects}}}\n{more}\n"
    )
    write_catalog(jobs / "catalog.csv", rows)


# ------------------------------------------------------------------------------------------- pictures


def pictures(kind: Kind) -> Callable[[int, str], bytes]:
    """Gives the n-th picture of a kind and an aspect; no two are alike, and their lengths differ."""
    chance = random.Random(kind.name)
    plain = {"1:1": _png((kind.side, kind.side)), "4:5": _png((928, 1152))}
    whole = _jpeg(kind, chance) if kind.grain else b""

    def numbered(number: int, aspect: str) -> bytes:
        if not kind.grain:
            text = b"tEXtTitle\0%d" % number
            chunk = struct.pack(">I", len(text) - 4) + text + struct.pack(">I", zlib.crc32(text))
            return b"".join((plain[aspect][:33], chunk, plain[aspect][33:]))
        return b"".join((whole[:2], *_comments(chance, kind.metadata + chance.randrange(16, 2000)), whole[2:]))

    return numbered


def _comments(chance: random.Random, size: int) -> Iterator[bytes]:
    """Segments of a JPEG that no decoder looks into: so many bytes."""
    for start in range(0, size, _LONGEST_SEGMENT):
        comment = chance.randbytes(min(_LONGEST_SEGMENT, size - start))
        yield b"\xff\xfe" + struct.pack(">H", len(comment) + 2) + comment


def _jpeg(kind: Kind, chance: random.Random) -> bytes:
    side, out = int(kind.side / kind.grain), io.BytesIO()
    noise = Image.frombytes("RGB", (side, side), chance.randbytes(side * side * 3))
    image = noise.resize((kind.side, kind.side), Image.Resampling.BICUBIC)
    image.save(out, "JPEG", quality=kind.quality, subsampling=kind.subsampling)
    return out.getvalue()


def _png(size: tuple[int, int]) -> bytes:
    out = io.BytesIO()
    Image.new("1", size, 1).save(out, "PNG")
    return out.getvalue()


# -------------------------------------------------------------------------------------------- service


@contextlib.contextmanager
def serving(folder: Path) -> Iterator[Mapping[str, str]]:
    """Serve the local service, in which no batch ends by itself; yields what tells a contender of it."""
    service = Path(__file__).with_name("service.py")
    command = [sys.executable, str(service), "--port", "0", "--state", str(folder), "--latency", "10w"]
    process = subprocess.Popen(
        command, cwd=folder.parent, env=environment({}), stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )
    try:
        assert process.stdout is not None
        url = process.stdout.readline().strip()
        yield {"GOOGLE_GEMINI_BASE_URL": url, "GEMINI_API_KEY": KEY}
    finally:
        process.terminate()
        process.communicate()


def told(top: Path, settings: Mapping[str, str], *words: str) -> None:
    """Run `pipeline` in a project, to make something ready: in this process, which has loaded the client by now."""
    here, before, said = Path.cwd(), dict(os.environ), io.StringIO()
    os.environ.clear()
    os.environ.update(environment(settings))
    try:
        with contextlib.redirect_stderr(said), contextlib.redirect_stdout(said):
            code = run(["-C", str(top), "-q", *words])
    finally:
        os.chdir(here)
        os.environ.clear()
        os.environ.update(before)
    if code:
        raise FailedError(f"pipeline {' '.join(words)}: exit code {code}\n{said.getvalue()}")


@dataclass
class Answered:
    """A job that was sent and answered, none of it collected but the few that go ahead."""

    images: int
    decoded: int
    """Bytes of all images."""
    files: list[str]
    """The names of the answers at the service."""
    paths: list[Path]
    """Where it keeps them."""

    @property
    def bytes(self) -> int:
        return sum(path.stat().st_size for path in self.paths)


def send_and_answer(top: Path, service: Path, told_of: Mapping[str, str], kind: Kind) -> Answered:
    """Submit a project's job until all of it is sent, and answer it.

    The first requests for a model go ahead alone; these get plain pictures and are collected, so that the rest is sent.
    """
    number, answered = 0, Answered(0, 0, [], [])
    for is_rest in (False, True):
        picture = pictures(kind if is_rest else replace(kind, grain=0))
        told(top, told_of, "submit", "jobs/bench.yaml", "--yes")
        answered = Answered(0, 0, [], [])
        with contextlib.closing(sqlite3.connect(service / "service.sqlite3", isolation_level=None)) as db:
            for (batch,) in db.execute("SELECT id FROM batch WHERE rendered_at IS NULL ORDER BY seq").fetchall():
                out = service / "batches" / f"{batch}.out"
                with (service / "batches" / f"{batch}.in").open("rb") as requests, out.open("wb") as answers:
                    for line in requests:
                        asked = json.loads(line)
                        aspect = asked["request"]["generationConfig"]["imageConfig"]["aspectRatio"]
                        data, number = picture(number, aspect), number + 1
                        answers.write(_answer(asked["key"], data))
                        answered.images, answered.decoded = answered.images + 1, answered.decoded + len(data)
                answered.files.append(f"files/batch-{batch}")
                answered.paths.append(out)
                now = time.time()
                db.execute(
                    "UPDATE batch SET done = total, bytes = ?1, starts_at = ?2, ends_at = ?2, rendered_at = ?2"
                    " WHERE id = ?3",
                    (out.stat().st_size, now, batch),
                )
        if not is_rest:
            told(top, told_of, "collect", "jobs/bench.yaml")
    return answered


def _answer(key: str, data: bytes) -> bytes:
    """A line as the service writes it, put together around the picture, which is most of it."""
    mime = "image/png" if data.startswith(b"\x89PNG") else "image/jpeg"
    part = {"inlineData": {"mimeType": mime, "data": "<data>"}}
    usage = {"promptTokenCount": 64, "candidatesTokenCount": 1120, "totalTokenCount": 1184}
    candidate = {"content": {"parts": [part], "role": "model"}, "finishReason": "STOP", "index": 0}
    response = {"candidates": [candidate], "usageMetadata": usage, "modelVersion": "gemini-nano-banana-2.1"}
    before, _, after = json.dumps({"key": key, "response": response}).encode().partition(b"<data>")
    return b"".join((before, base64.b64encode(data), after, b"\n"))


def fetched(top: Path, answered: Answered) -> None:
    """Have a project's answers on its own disk, as after a download; nothing of them is unpacked."""
    state = top / "outputs" / ".pipeline"
    with journals.opened(state, outputs=top / "outputs") as journal:
        for batch in journal.batches.of("bench", "gemini", "live"):
            source = next(path for path in answered.paths if path.stem in str(batch.remote))
            target = state / batch.answers_name
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source, target)
            with journal.transaction():
                journal.batches.change(
                    batch,
                    state="fetched",
                    remote_state="SUCCEEDED",
                    result_file=f"files/batch-{source.stem}",
                    succeeded=batch.requests,
                    fetches=1,
                    answers_path=batch.answers_name,
                    result_bytes=target.stat().st_size,
                )


def set_aside(folder: Path) -> None:
    """Take a folder out of the way and free the room of its files, where it is; they are deleted when all is done.

    Where many files were deleted in the last minutes, some file systems take ten times as long to create the next ones.
    """
    if not folder.exists():
        return
    aside = folder.with_name(f".aside-{time.monotonic_ns()}")
    folder.rename(aside)
    for path in aside.rglob("*"):
        status = path.lstat()
        if stat.S_ISREG(status.st_mode) and status.st_nlink == 1:
            os.truncate(path, 0)


def copied(source: Path, target: Path) -> Path:
    """A project as it is, once more, in place of what lies there; what is never written to is linked."""

    def copy(path: str, other: str) -> None:
        if path.endswith((".db", ".csv", ".yaml")):
            shutil.copy2(path, other)
        else:
            os.link(path, other)

    set_aside(target)
    return Path(shutil.copytree(source, target, copy_function=copy))


class Rest:
    """What a project's journal knows of its job being at rest: taken away, all of the job is compared again."""

    def __init__(self, project: Path) -> None:
        self._path = project / "outputs" / ".pipeline" / "journal.db"
        self._rows: list[tuple[object, ...]] = []

    def forget(self) -> None:
        with contextlib.closing(sqlite3.connect(self._path)) as db, db:
            self._rows = db.execute("SELECT * FROM rest").fetchall() or self._rows
            db.execute("DELETE FROM rest")

    def remember(self) -> None:
        with contextlib.closing(sqlite3.connect(self._path)) as db, db:
            db.executemany("INSERT OR IGNORE INTO rest VALUES (?, ?, ?, ?)", self._rows)
