"""Speed and memory against the usual way of doing this: `make bench`, or `make bench BENCH=--quick` for a first look.

Every contender runs in a process of its own, in turns, so that what else the machine does hits all of them. Time is
that of the whole process, its start included; memory is its peak. Quote the ratios, not the seconds.
"""

from __future__ import annotations

import argparse
import base64
import io
import json
import os
import random
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from PIL import Image

from pipeline import journal as journals

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

HERE = Path(__file__).parent
JOB = """\
prompt: Studio photo of a [product] in [colour] on [ground], soft window light, no text. [description]
items: catalog.csv
matrix:
  aspect: [1:1, 4:5]
batch: {max_requests: 100000}
"""
PIXELS = {"1:1": (1024, 1024), "4:5": (928, 1152)}
DESCRIPTION = "Made by hand in small runs, glazed twice, and meant for daily use at a table with many people. " * 4


@dataclass
class Contender:
    """A way to do the work: its command, what makes it ready, and how often it did it how fast."""

    name: str
    command: Sequence[str | Path]
    prepare: Callable[[], object]
    made: Callable[[], int]
    """How many results it left: all contenders must do the same work."""
    seconds: list[float] = field(default_factory=list)
    peak_mib: float = 0.0

    def run(self, cwd: Path, expected: int) -> None:
        self.prepare()
        started = time.perf_counter()
        process = subprocess.Popen([sys.executable, *map(str, self.command)], cwd=cwd, stdout=subprocess.DEVNULL)
        _, status, usage = os.wait4(process.pid, 0)
        self.seconds.append(time.perf_counter() - started)
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode or self.made() != expected:
            sys.exit(f"{self.name}: exit code {process.returncode}, {self.made()} of {expected} results")
        self.peak_mib = max(self.peak_mib, usage.ru_maxrss / (1024 if sys.platform == "linux" else 1 << 20))


def main() -> int:
    """Run both comparisons and print their tables."""
    words = argparse.ArgumentParser(description="Compare with the usual way.")
    words.add_argument("--quick", action="store_true", help="less work, fewer runs")
    words.add_argument("--rows", type=int, help="rows of the catalog (20000)")
    words.add_argument("--images", type=int, help="images to unpack (100)")
    words.add_argument("--runs", type=int, help="runs of each contender (5)")
    told = words.parse_args()
    rows, images, runs = (2000, 20, 3) if told.quick else (20_000, 100, 5)
    rows, images, runs = told.rows or rows, told.images or images, told.runs or runs
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        _compile(Path(folder).resolve() / "compile", rows, runs)
        _unpack(Path(folder).resolve() / "unpack", images, runs)
    return 0


def _compile(top: Path, rows: int, runs: int) -> None:
    _project(top, rows)
    out = top / "out"
    ours = ["-m", "pipeline", "-q", "compile", "jobs/bench.yaml", "-o", out]
    usual = [HERE / "usual.py", "compile", top / "jobs" / "catalog.csv", out]
    contenders = [
        Contender(name, command, lambda: _emptied(out), lambda: _lines_in(out))
        for name, command in (("json + jsonschema per request", usual), ("pipeline compile", ours))
    ]
    _compare(contenders, top, runs, expected=2 * rows)
    _table(f"compile: {rows:,} rows in 2 aspects", contenders, 2 * rows, "requests/s")


def _unpack(top: Path, images: int, runs: int) -> None:
    answers = top / "answers.jsonl"
    _project(top, (images + 1) // 2)
    decoded, total = _answered(top, answers)
    prepared = top.with_name("prepared")
    shutil.copytree(top / "outputs", prepared)
    out, pictures = top / "out", top / "outputs" / "bench"

    def restored() -> None:
        shutil.rmtree(top / "outputs")
        shutil.copytree(prepared, top / "outputs")

    contenders = [
        Contender(name, [HERE / "usual.py", word, answers, out], lambda: _emptied(out), lambda: _jpegs_in(out))
        for name, word in (("notebook: whole file, Pillow", "notebook"), ("line by line, json.loads", "lines"))
    ]
    ours = [HERE / "ours.py", top, answers]
    contenders.append(Contender("pipeline, checked and recorded", ours, restored, lambda: _jpegs_in(pictures)))
    _compare(contenders, top, runs, expected=total)
    _table(f"unpack: {total} images, {decoded / 1e6:,.0f} MB", contenders, decoded / 1e6, "MB/s")


def _compare(contenders: Sequence[Contender], cwd: Path, runs: int, *, expected: int) -> None:
    for _ in range(runs):
        for contender in contenders:
            contender.run(cwd, expected)


def _table(title: str, contenders: Sequence[Contender], work: float, unit: str) -> None:
    """The first contender is what the others are held against."""
    runs = len(contenders[0].seconds)
    print(f"\n{title} (median of {runs}, whole processes)")
    print(f"  {'':32}{'seconds':>9}{unit:>13}{'ratio':>8}{'of runs':>13}{'peak MiB':>10}")
    first = contenders[0].seconds
    for one in contenders:
        median = statistics.median(one.seconds)
        ratios = [base / mine for base, mine in zip(first, one.seconds, strict=True)]
        spread = f"{min(ratios):.2f}-{max(ratios):.2f}"
        ratio = f"{statistics.median(ratios):.2f}x"
        print(f"  {one.name:32}{median:9.2f}{work / median:13,.0f}{ratio:>8}{spread:>13}{one.peak_mib:10.0f}")


# ------------------------------------------------------------------------------------------- what they work on


def _project(top: Path, rows: int) -> None:
    jobs = top / "jobs"
    jobs.mkdir(parents=True)
    (jobs / "bench.yaml").write_text(JOB)
    with (jobs / "catalog.csv").open("w") as out:
        out.write("id,product,colour,ground,description\n")
        for number in range(rows):
            out.write(
                f'p-{number:07},mug number {number},blue {number % 97},slate {number % 7},"{DESCRIPTION}{number}"\n'
            )


def _answered(top: Path, answers: Path) -> tuple[int, int]:
    """Send the job to the local service, and write the answers ourselves; returns bytes of images, and how many."""
    words = [sys.executable, "-m", "pipeline", "-q", "--service", "local", "submit", "jobs/bench.yaml"]
    subprocess.run(words, cwd=top, env={**os.environ, "PIPELINE_LOCAL_LATENCY": "10w"}, check=True)
    state, decoded, total = top / "outputs" / ".pipeline", 0, 0
    pictures = {aspect: _picture(size) for aspect, size in PIXELS.items()}
    with journals.opened(state, outputs=top / "outputs") as journal, answers.open("w") as out:
        [batch] = journal.batches.of("bench", "local", "live")
        with (state / str(batch.requests_path)).open() as requests:
            for number, line in enumerate(requests):
                asked = json.loads(line)
                aspect = asked["request"]["generationConfig"]["imageConfig"]["aspectRatio"]
                data = _numbered(pictures[aspect], number)
                out.write(json.dumps({"key": asked["key"], "response": _response(data)}) + "\n")
                decoded, total = decoded + len(data), total + 1
        with journal.transaction():
            journal.batches.change(batch, state="fetched", remote_state="SUCCEEDED")
    return decoded, total


def _picture(size: tuple[int, int]) -> bytes:
    """A JPEG of about the bytes that a model makes of so many pixels: 1.4 MB."""
    noise = random.Random(1).randbytes(256 * 256 * 3)
    image = Image.frombytes("RGB", (256, 256), noise).resize(size, Image.Resampling.BICUBIC)
    out = io.BytesIO()
    image.save(out, "JPEG", quality=97, subsampling=0)
    return out.getvalue()


def _numbered(picture: bytes, number: int) -> bytes:
    """The same picture with a comment of its own, so that no two are equal."""
    return b"".join((picture[:2], b"\xff\xfe\x00\x0a", f"{number:08}".encode(), picture[2:]))


def _response(data: bytes) -> dict[str, object]:
    part = {"inlineData": {"mimeType": "image/jpeg", "data": base64.b64encode(data).decode()}}
    usage = {"promptTokenCount": 64, "candidatesTokenCount": 1120, "totalTokenCount": 1184}
    candidate = {"content": {"parts": [part], "role": "model"}, "finishReason": "STOP", "index": 0}
    return {"candidates": [candidate], "usageMetadata": usage, "modelVersion": "gemini-nano-banana-2.1"}


def _emptied(folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()


def _lines_in(folder: Path) -> int:
    return sum(path.read_bytes().count(b"\n") for path in folder.glob("*.jsonl"))


def _jpegs_in(folder: Path) -> int:
    return sum(1 for _ in folder.rglob("*.jpg"))


if __name__ == "__main__":
    sys.exit(main())
