"""The stages: what is done in each, by whom, and what it is done on."""

from __future__ import annotations

import contextlib
import sys
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import content
from measure import Contender, Less, compare

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from content import Kind

HERE = Path(__file__).resolve().parent
PYTHON = sys.executable
USUAL, LIMITS = (PYTHON, HERE / "usual.py"), (PYTHON, HERE / "limits.py")
_FULL = 5
ANEW = "manifest, written anew"
ALONE = ", its work alone"
BOTH = '["1:1", "4:5"]'
WIDE = "batch: {max_requests: 100000}"
SMALL_ANSWERS = 'models: {gemini-nano-banana-2.1: {answer_bytes: {"512": 400, 1K: 400, 2K: 400, 4K: 400}}}\n'
"""So large the plain pictures are: with the usual estimate, no disk has room for a hundred thousand answers at once."""
UNREAD = "checks: {decode: false}"
SKIPPED = "pipeline collect, checks: {decode: false}"


@dataclass(frozen=True)
class Amounts:
    """How much work there is, and how often it is done."""

    runs: int
    small: int
    large: int
    tiny: int
    """Images of each kind; of the tiny ones there may be none."""
    rows: int
    """Of catalogs that are compiled."""
    done: int
    """Rows of the job that is done already."""
    million: bool = False


@dataclass
class Stage:
    """A stage that was run: its contenders with their times."""

    key: str
    title: str
    contenders: list[Contender | Less]
    work: float = 0.0
    """How much was done, in units; 0 where only the time counts."""
    unit: str = ""
    growth: list[tuple[str, Contender, Contender]] = field(default_factory=list)
    """Pairs of the same at once and ten times the work, each with its name."""

    def of(self, kind: str) -> list[Contender | Less]:
        return [one for one in self.contenders if one.kind == kind]


class Bench:
    """The stages in order; each makes what it works on below a folder, and clears it away."""

    def __init__(self, folder: Path, amounts: Amounts) -> None:
        self._top, self._amounts = folder, amounts
        self._count = 0

    def stages(self) -> Mapping[str, Callable[[], Iterator[Stage]]]:
        found: dict[str, Callable[[], Iterator[Stage]]] = {
            "start": self.start,
            "unpack-small": partial(self.unpack, content.SMALL, self._amounts.small),
            "unpack-large": partial(self.unpack, content.LARGE, self._amounts.large),
            "unpack-tiny": partial(self.unpack, content.TINY, self._amounts.tiny),
            "download": partial(self.download, content.SMALL, self._amounts.small),
            "compile": partial(self.compile, self._amounts.rows, "compile"),
            "done": self.done,
            "growth": self.growth,
        }
        if not self._amounts.tiny:
            del found["unpack-tiny"]
        if self._amounts.million:
            found["compile-million"] = partial(self.compile, 1_000_000, "compile-million")
        return found

    @contextlib.contextmanager
    def _folder(self, name: str) -> Iterator[Path]:
        self._count += 1
        top = self._top / f"{name}-{self._count}"
        top.mkdir()
        try:
            yield top
        finally:
            content.set_aside(top)

    # ------------------------------------------------------------------------------------------ start

    def start(self) -> Iterator[Stage]:
        """How long it takes until something is there to be read."""
        with self._folder("start") as top:
            content.write_job(top, 10)
            script = Path(PYTHON).with_name("pipeline")
            ways: Sequence[tuple[str, Sequence[str | Path]]] = (
                *([("pipeline", [PYTHON, script])] if script.is_file() else []),
                ("python -m pipeline", content.PIPELINE),
            )
            python = Contender("python alone", "limit", [PYTHON, "-c", "pass"])
            for key, usual, words in (
                ("help", "import click", ["--help"]),
                ("validate", "import yaml, jsonschema", ["validate", "jobs/bench.yaml"]),
            ):
                contenders = [
                    Contender(f'python -c "{usual}"', "usual", [PYTHON, "-c", usual]),
                    *(Contender(f"{way} {words[0]}", "ours", [*command, *words], cwd=top) for way, command in ways),
                    python,
                ]
                compare(contenders, 1)  # once to have everything compiled and in memory
                for one in contenders:
                    one.forget()
                compare(contenders, self._amounts.runs * 3)
                yield Stage(f"start-{key}", f"start: pipeline {' '.join(words)}", [*contenders])
                python = Contender("python alone", "limit", [PYTHON, "-c", "pass"])

    # ----------------------------------------------------------------------------------------- unpack

    def unpack(self, kind: Kind, images: int) -> Iterator[Stage]:
        """From an answer on the disk to files and records."""
        with self._folder(kind.name) as top, content.serving(top / "service") as told:
            project, answered = self._answered(top, told, kind, images)
            content.fetched(project, answered)
            out = _Out(top / "usual", "*.jpg")
            answers, count = answered.paths, answered.images
            contenders = [
                out.contender(
                    "notebook: all in memory, Pillow", "usual", [*USUAL, "notebook", out.path, *answers], count
                ),
                out.contender("line by line, json.loads", "usual", [*USUAL, "lines", out.path, *answers], count),
                *_collecting(project, told, images),
                out.contender("write alone", "limit", [*LIMITS, "write", out.path, count, answered.decoded], count),
                Contender("sha256 alone", "limit", [*LIMITS, "sha256", str(answered.decoded)]),
            ]
            compare(contenders, self._amounts.runs)
            title = f"unpack: {answered.images:,} images, {answered.decoded / 1e6:,.0f} MB"
            yield Stage(f"unpack-{kind.name}", title, _less(contenders), answered.decoded / 1e6, "MB/s")

    def download(self, kind: Kind, images: int) -> Iterator[Stage]:
        """From an answer at the service to files and records."""
        with self._folder("download") as top, content.serving(top / "service") as told:
            project, answered = self._answered(top, told, kind, images)
            url, files = told["GOOGLE_GEMINI_BASE_URL"], answered.files
            raw, out = _Out(top / "raw", "*.jsonl"), _Out(top / "usual", "*.jpg")
            contenders = [
                raw.contender(
                    "the SDK, into memory", "usual", [*USUAL, "download", raw.path, url, *files], len(files),
                    start="SDK",
                ),
                out.contender(
                    "the SDK, then line by line", "usual",
                    [*USUAL, "download-lines", out.path, url, *files], answered.images, start="SDK",
                ),
                Contender("import google.genai", "floor", [PYTHON, "-c", "import google.genai"], start="SDK"),
                *_collecting(project, told, images)[1:],
                Contender("read alone", "limit", [*LIMITS, "read", url, *files]),
            ]  # fmt: skip
            compare(contenders, self._amounts.runs)
            title = f"download and unpack: {answered.images:,} images, {answered.bytes / 1e6:,.0f} MB of answers"
            yield Stage("download", title, _less(contenders), answered.bytes / 1e6, "MB/s")

    def _answered(self, top: Path, told: Mapping[str, str], kind: Kind, images: int) -> tuple[Path, content.Answered]:
        """A project whose answers are at the service: all but the few that went ahead, which are at home."""
        project = top / "project"
        content.write_job(project, images + content.AHEAD, more=f"{kind.settings}\n{UNREAD}")
        return project, content.send_and_answer(project, top / "service", told, kind)

    # ---------------------------------------------------------------------------------------- compile

    def compile(self, rows: int, key: str) -> Iterator[Stage]:
        """From a catalog to request files."""
        with self._folder("compile") as top:
            content.write_job(top, rows, aspects=BOTH)
            catalog = top / "jobs" / "catalog.csv"
            out = _Out(top / "out", "*.jsonl", counts_lines=True)
            words = [*content.PIPELINE, "-q", "compile", "jobs/bench.yaml", "-o", out.path]
            contenders = [
                out.contender("jsonschema and json.dumps", "usual", [*USUAL, "compile", catalog, out.path], 2 * rows),
                out.contender("pipeline compile", "ours", words, 2 * rows, top),
                out.contender("json.dumps alone", "limit", [*LIMITS, "dumps", catalog, out.path], 2 * rows),
            ]
            compare(contenders, self._amounts.runs)
            yield Stage(key, f"compile: {rows:,} rows in 2 aspects", [*contenders], 2 * rows, "requests/s")

    # ------------------------------------------------------------------------------------------- done

    def done(self) -> Iterator[Stage]:
        """A job of which everything is there: nothing to do, one row to do, everything to do."""
        rows = self._amounts.done
        with self._folder("done") as top, self._serving(top) as told:
            project = self._finished(top, told, rows)
            catalog, hashes = project / "jobs" / "catalog.csv", top / "hashes"
            hashes.mkdir()
            compiled = _Out(top / "compiled", "*.jsonl", counts_lines=True)
            job, rest = "jobs/bench.yaml", content.Rest(project)
            changed = partial(content.write_catalog, catalog, rows, changed=True)
            plan, run = [*content.PIPELINE, "-q", "plan", job], [*content.PIPELINE, "-q", "run", job, "--yes"]
            contenders = [
                Contender("pipeline plan, all of it compared", "usual", plan, prepare=rest.forget, cwd=project),
                Contender("read, render, hash, dict", "usual", [*USUAL, "compare", catalog, hashes]),
                Contender("pipeline plan, nothing changed", "ours", plan, prepare=rest.remember, cwd=project),
                Contender("pipeline run, nothing changed", "ours", run, prepare=rest.remember, cwd=project),
            ]
            for one in contenders:
                one.environment = told
            contenders[-1].run()  # which leaves the note that the others find
            contenders[-1].forget()
            compare(contenders, self._amounts.runs)
            title = f"unchanged: {rows:,} rows in 2 aspects, all of them done"
            yield Stage("unchanged", title, [*contenders], 2 * rows, "requests/s")
            again = [
                compiled.contender(
                    "pipeline compile, all of it", "usual",
                    [*content.PIPELINE, "-q", "compile", job, "-o", compiled.path], 2 * rows, project,
                ),
                Contender(
                    "pipeline plan, one row changed", "ours", plan, prepare=changed, cwd=project, environment=told
                ),
            ]  # fmt: skip
            rest.remember()
            compare(again, self._amounts.runs)
            yield Stage("one-row", f"one row changed of {rows:,}, in 2 aspects", [*again], 2 * rows, "requests/s")

    def _finished(self, top: Path, told: Mapping[str, str], rows: int) -> Path:
        """A project of which every image is there, made as a user makes it: sent, answered, collected."""
        project = top / f"finished-{rows}"
        content.write_job(project, rows, aspects=BOTH, more=f"{content.PLAIN.settings}\n{WIDE}\n{UNREAD}")
        tidy = {**told, "PIPELINE_KEEP_REMOTE": "0s"}  # results that stay at the service leave no room for the next
        while content.send_and_answer(project, top / "service", tidy, content.PLAIN).images:
            content.told(project, tidy, "collect", "jobs/bench.yaml")
        content.told(project, told, "run", "jobs/bench.yaml", "--yes")  # as every night
        return project

    @contextlib.contextmanager
    def _serving(self, top: Path) -> Iterator[Mapping[str, str]]:
        """The local service for jobs of very many, very small pictures; yields what tells a contender of it."""
        models = top / "models.yaml"
        models.write_text(SMALL_ANSWERS)
        with content.serving(top / "service") as told:
            yield {**told, "PIPELINE_MODELS": str(models)}

    # ----------------------------------------------------------------------------------------- growth

    def growth(self) -> Iterator[Stage]:
        """Each at a tenth of the work, and at all of it."""
        amounts = self._amounts
        with self._folder("growth") as top, self._serving(top) as told:
            pairs: list[tuple[str, Contender, Contender]] = []
            sizes = (max(amounts.done // 10, 1), amounts.done)
            pairs.append(("unpack", *(self._unpacking(top, told, count) for count in sizes)))
            new = [self._new(top, rows) for rows in (max(amounts.rows // 10, 1), amounts.rows)]
            for name, words in (("compile", ["compile", "jobs/bench.yaml"]), ("plan", ["plan", "jobs/bench.yaml"])):
                pairs.append((name, *(_verb(name, folder, words, told) for folder in new)))
            finished = [self._finished(top, told, rows) for rows in sizes]
            for name, words in (
                ("status", ["status", "jobs/bench.yaml"]),
                ("ls", ["ls", "images"]),
                ("show", ["show", "p-0000001/1:1"]),
                ("verify", ["verify", "jobs/bench.yaml"]),
                (ANEW, ["collect", "jobs/bench.yaml"]),
            ):
                pairs.append((name, *(_verb(name, folder, words, told) for folder in finished)))
            compare([one for _name, *both in pairs for one in both], 1 if amounts.runs < _FULL else 3)
            yield Stage("growth", "ten times the work", [], growth=pairs)

    def _unpacking(self, top: Path, told: Mapping[str, str], images: int) -> Contender:
        place = top / f"tiny-{images}"
        project = place / "project"
        content.write_job(project, images + content.AHEAD, more=f"{content.TINY.settings}\n{UNREAD}")
        content.fetched(project, content.send_and_answer(project, top / "service", told, content.TINY))
        return _collecting(project, told, images)[1]

    def _new(self, top: Path, rows: int) -> Path:
        place = top / f"new-{rows}"
        content.write_job(place, rows, aspects=BOTH)
        return place


def _collecting(project: Path, told: Mapping[str, str], images: int) -> list[Contender]:
    """`pipeline collect` as it is, without a look at each pixel, and with nothing to do: all in one place, in turns."""
    collect = [*content.PIPELINE, "-q", "collect", "jobs/bench.yaml"]
    kept = content.copied(project, project.with_name("kept"))
    content.told(project, told, "collect", "jobs/bench.yaml")
    idle = content.copied(project, project.with_name("idle"))

    def collecting(name: str, kind: str, source: Path, checks: str) -> Contender:
        made = partial(_count, project / "outputs" / "bench", "*.jpg")
        ready = partial(_restored, source, project, checks)
        return Contender(
            name, kind, collect, made, images, ready, project, told, start="pipeline", has_family=not checks
        )

    return [
        collecting("pipeline collect", "ours", kept, ""),
        collecting(SKIPPED, "ours", kept, UNREAD),
        collecting("pipeline collect, nothing to do", "floor", idle, UNREAD),
    ]


def _verb(name: str, folder: Path, words: Sequence[str], told: Mapping[str, str]) -> Contender:
    ready = partial(_without_manifest, folder) if name == ANEW else lambda: None
    return Contender(name, "ours", [*content.PIPELINE, "-q", *words], cwd=folder, environment=told, prepare=ready)


def _without_manifest(project: Path) -> None:
    for name in ("manifest.jsonl", "manifest.csv"):
        (project / "outputs" / "bench" / name).unlink(missing_ok=True)


def _restored(source: Path, target: Path, checks: str) -> None:
    job = content.copied(source, target) / "jobs" / "bench.yaml"
    job.write_text(job.read_text().replace(UNREAD, checks))


def _less(contenders: Sequence[Contender]) -> list[Contender | Less]:
    """The contenders, and those that start slowly once more, without that start, where that can be told."""
    floors = {one.start: one for one in contenders if one.kind == "floor"}
    rest = [
        Less(f"{one.name}{ALONE}", one, floors[one.start], one.kind)
        for one in contenders
        if one.start in floors and one.kind != "floor"
    ]
    return [*contenders, *(one for one in rest if one.is_known)]


class _Out:
    """A folder that is empty before each run, and what lies there after it."""

    def __init__(self, path: Path, pattern: str, *, counts_lines: bool = False) -> None:
        self.path, self._pattern, self._counts_lines = path, pattern, counts_lines

    def contender(
        self, name: str, kind: str, command: Sequence[object], expected: int, cwd: Path | None = None, start: str = ""
    ) -> Contender:
        words = [str(word) for word in command]
        return Contender(name, kind, words, self._made, expected, self._emptied, cwd or self.path.parent, start=start)

    def _emptied(self) -> None:
        content.set_aside(self.path)
        self.path.mkdir()

    def _made(self) -> int:
        if not self._counts_lines:
            return _count(self.path, self._pattern)
        return sum(_lines(path) for path in self.path.glob(self._pattern))


def _lines(path: Path) -> int:
    with path.open("rb") as stream:
        return sum(piece.count(b"\n") for piece in iter(partial(stream.read, 1 << 20), b""))


def _count(folder: Path, pattern: str) -> int:
    return sum(1 for _ in folder.rglob(pattern))
