"""Speed and memory against the usual way of doing this: `make bench`, or `make bench-quick` for a first look.

Each stage is run as a user runs it, by the command line in a project folder, beside the shortest code that a competent
user would write (usual.py) and what the machine alone can do with the same bytes (limits.py). Quote the ratios, not the
seconds: the machine and what else it does are in both.

It fails when a contender does not do its work, and when a baseline is slower than it has to be (references.json).
"""

from __future__ import annotations

import argparse
import datetime as dt
import json
import os
import platform
import statistics
import sys
import tempfile
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

from measure import ROOT, Contender, FailedError, Less, ratio, spread
from stages import Amounts, Bench, Stage

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

FULL = Amounts(runs=5, small=500, large=60, tiny=5_000, rows=100_000, done=20_000)
QUICK = Amounts(runs=2, small=30, large=2, tiny=0, rows=3_000, done=500)
REFERENCES = Path(__file__).with_name("references.json")
_NAME = 61
_LIBRARIES = ("click", "google-genai", "httpx2", "jsonschema", "orjson", "pillow", "pybase64", "pyyaml")


def main() -> int:
    """Run the stages, print their tables, write them down; 1 when a baseline is too slow, or somebody failed."""
    told = _words().parse_args()
    amounts = _amounts(told)
    if not amounts.runs:
        return 2
    document: dict[str, Any] = {"schema_version": 1, **_machine(), "amounts": vars(amounts) | {}, "stages": []}
    slow: list[str] = []
    references = json.loads(told.references.read_text())
    told.folder.mkdir(parents=True, exist_ok=True)
    try:
        with tempfile.TemporaryDirectory(prefix="bench-", dir=told.folder) as folder:
            bench = Bench(Path(folder).resolve(), amounts)
            for key, stages in bench.stages().items():
                if told.only and key not in told.only.split(","):
                    continue
                for stage in stages():
                    print("\n".join(_table(stage)), flush=True)
                    document["stages"].append(_document(stage))
                    slow += judged(stage, references)
    except FailedError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    document["slow_baselines"] = slow
    if told.json:
        told.json.parent.mkdir(parents=True, exist_ok=True)
        told.json.write_text(json.dumps(document, indent=1) + "\n")
        print(f"\nwritten to {told.json}")
    for words in slow:
        print(f"error: {words}", file=sys.stderr)
    return 1 if slow else 0


def _words() -> argparse.ArgumentParser:
    words = argparse.ArgumentParser(description="Compare speed and memory with the usual way.")
    words.add_argument("--quick", action="store_true", help="less work and fewer runs: under two minutes")
    words.add_argument("--million", action="store_true", help="compile a catalog of a million rows as well")
    words.add_argument(
        "--rows", type=int, help=f"rows of the catalogs ({FULL.rows:,}, and {FULL.done:,} of the job that is done)"
    )
    words.add_argument("--images", type=int, help=f"images to unpack of each kind ({FULL.small}, {FULL.large}, …)")
    words.add_argument("--runs", type=int, help=f"runs of each contender ({FULL.runs})")
    words.add_argument("--only", metavar="STAGE,…", help="only these stages")
    words.add_argument("--json", type=Path, metavar="FILE", help="write all of it down")
    words.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir()), help="where to work; all goes again")
    words.add_argument("--references", type=Path, default=REFERENCES, help="how fast the baselines have to be")
    return words


def _amounts(told: argparse.Namespace) -> Amounts:
    usual = QUICK if told.quick else FULL
    few = {"small": told.images, "large": told.images, "tiny": told.images} if told.images else {}
    rows = {"rows": told.rows, "done": told.rows} if told.rows else {}
    runs = {"runs": told.runs} if told.runs else {}
    return Amounts(**{**vars(usual), **few, **rows, **runs, "million": told.million})


def judged(stage: Stage, references: dict[str, Any]) -> Iterator[str]:
    """Which baselines are slower than they have to be, in words; runs too short to tell are not judged."""
    known = {one.name: one for one in stage.contenders}
    for one in references["parts"]:
        if one["stage"] != stage.key or one["usual"] not in known:
            continue
        usual, limit = known[one["usual"]], known[one["limit"]]
        if statistics.median(usual.seconds) < references["judged_from_s"]:
            continue
        reached = ratio(limit, usual)["median"]
        if reached < one["part"] * references["least"]:
            yield (
                f"{stage.key}: the baseline '{usual.name}' reaches {reached:.3f} of '{limit.name}', and should reach"
                f" {one['part']:.3f} ({one['from']}): what is held against it proves nothing"
            )


# ------------------------------------------------------------------------------------------- in words


def _table(stage: Stage) -> Iterator[str]:
    yield ""
    if stage.growth:
        yield from _growth_table(stage)
        return
    letters = {id(usual): chr(ord("a") + number) for number, usual in enumerate(stage.of("usual"))}
    limit = max(stage.of("limit"), key=lambda one: statistics.median(one.seconds), default=None)
    yield f"{stage.title} (median of {len(stage.contenders[0].seconds)} whole processes)"
    yield (
        f"    {'':{_NAME}}{'seconds':>9}{'of runs':>15}{stage.unit:>12}{'peak MiB':>10}   times as fast as"
        f"{f', and part of {limit.name}' if limit else ''}"
    )
    for one in stage.contenders:
        seconds = spread(one.seconds)
        span = f"{seconds['least']:.2f}-{seconds['most']:.2f}"
        rate = f"{stage.work / seconds['median']:,.0f}" if stage.work else ""
        against = "".join(
            f"   {letters[id(other)]} {ratio(other, one)['median']:.2f}x"
            if other.kind == "usual"
            else f"   {100 * ratio(other, one)['median']:.0f} %"
            for ours, other in _pairs(stage)
            if ours is one and (other.kind == "usual" or other is limit)
        )
        name = f"{letters.get(id(one), ''):1} {one.name}"
        yield f"  {name:{_NAME + 2}}{seconds['median']:9.3f}{span:>15}{rate:>12}{max(one.peaks):10.0f}{against}"


def _pairs(stage: Stage) -> Iterator[tuple[Contender | Less, Contender | Less]]:
    """Each of ours, and what it is held against: without their starts, where that is how it is looked at."""
    for ours in stage.of("ours"):
        is_alone = isinstance(ours, Less)
        started = {one.whole.name for one in stage.of("usual") if isinstance(one, Less)}
        for usual in stage.of("usual"):
            if isinstance(usual, Less) == is_alone or (is_alone and usual.name not in started):
                yield ours, usual
        yield from ((ours, limit) for limit in stage.of("limit"))


def _growth_table(stage: Stage) -> Iterator[str]:
    yield f"{stage.title} (median of {len(stage.growth[0][1].seconds)} whole processes)"
    yield f"  {'':28}{'a tenth, s':>12}{'all of it, s':>14}{'growth':>9}{'of runs':>13}{'MiB, a tenth':>14}{'all':>7}"
    for name, few, many in stage.growth:
        found = ratio(many, few)
        span = f"{found['least']:.1f}-{found['most']:.1f}"
        seconds = (statistics.median(few.seconds), statistics.median(many.seconds))
        peaks = (max(few.peaks), max(many.peaks))
        yield (
            f"  {name:28}{seconds[0]:12.2f}{seconds[1]:14.2f}{found['median']:8.1f}x{span:>13}"
            f"{peaks[0]:14.0f}{peaks[1]:7.0f}"
        )


# --------------------------------------------------------------------------------------------- as data


def _document(stage: Stage) -> dict[str, Any]:
    return {
        "stage": stage.key,
        "title": stage.title,
        "work": stage.work,
        "unit": stage.unit,
        "contenders": [_measured(one) for one in stage.contenders],
        "ratios": [
            {"of": ours.name, "against": other.name, "kind": other.kind, **ratio(other, ours)}
            for ours, other in _pairs(stage)
        ],
        "growth": [
            {"what": name, "few": _measured(few), "many": _measured(many), "ratio": ratio(many, few)}
            for name, few, many in stage.growth
        ],
    }


def _measured(one: Contender | Less) -> dict[str, Any]:
    return {
        "name": one.name,
        "kind": one.kind,
        "seconds": spread(one.seconds),
        "runs": [round(seconds, 4) for seconds in one.seconds],
        "peak_mib": round(max(one.peaks), 1),
    }


def _machine() -> dict[str, Any]:
    return {
        "at": dt.datetime.now(dt.UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        "machine": {
            "system": platform.platform(),
            "processor": _processor(),
            "cores": os.cpu_count(),
            "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / (1 << 30), 1),
        },
        "versions": {"python": platform.python_version(), **dict(_versions(_LIBRARIES))},
    }


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "")


def _versions(names: Sequence[str]) -> Iterator[tuple[str, str]]:
    from pipeline import __version__  # noqa: PLC0415 - ours, wherever it was put

    yield "pipeline", __version__
    for name in names:
        try:
            yield name, metadata.version(name)
        except metadata.PackageNotFoundError:
            continue


if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))
    sys.exit(main())
