"""Killed anywhere, and run again: nothing is paid for twice, nothing that was paid for is lost, and it comes to rest.

A clean run tells the points; then a run is killed at each, the same command goes on, and the service's ledger, the tree
and the journal are held against each other. `make torture` tries each pair of steps once in each story; with
TORTURE=all in the environment it tries every single step, which takes half an hour.
"""

from __future__ import annotations

import os
import shutil
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pytest
from conftest import PRODUCTS
from crashing import KILLED, Case, serving, steps, telling
from pictures import encoded, noise

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

ALL = os.environ.get("TORTURE") == "all"
DAY = 86_400.0
JOB = "jobs/shop.yaml"
RUN = ("run", JOB, "--poll", "0.1s", "--wait", "30s")
COLLECT = ("collect", JOB, "--wait", "30s", "--poll", "0.1s")

# Decoding writes nothing down where all is well, and takes long.
PLAIN = "checks: {decode: false}\n"
SHOP = f"""\
{PLAIN}prompt: Studio photo of a [product] on white marble.
items: products.csv
matrix:
  aspect: [1:1, 4:5]
batch: {{max_requests: 4}}
"""
REFERENCES = f"""\
{PLAIN}prompt: Put the [product] beside what you see.
images: [photo.png, other.png]
items: products.csv
"""
TURNS = f"""\
{PLAIN}items: [fox, owl]
turns:
  - A [item] in the snow
  - {{prompt: Make it night, name: night, keep: true}}
  - Add a lamp
"""
# Every kind of file, and a record beside each result.
RICH = f"""\
{PLAIN}prompt: A [product] in two steps
items: [{{id: mug, product: blue mug}}, {{id: bowl, product: sand bowl}}]
response: [text, image]
thoughts: true
output: {{sidecar: true}}
"""
SINGLY = SHOP.replace("batch: {max_requests: 4}", "batch: {on_stuck: interactive}")


def nothing(_case: Case) -> None:
    pass


@dataclass(frozen=True)
class Story:
    """What a person does: files, what happened before, the command that is killed, and the one that goes on."""

    job: str
    command: tuple[str, ...] = RUN
    before: Callable[[Case], object] = nothing
    then: tuple[str, ...] = ()
    """Goes on where the same command would not."""
    last: tuple[str, ...] = ()
    """What is done in the end, and must come to rest."""
    code: int = 0
    is_sure: bool = True
    """Whether it ends the same, whenever it was killed. What is asked one by one may be lost on its way."""
    calls: int | None = None
    files: dict[str, bytes] = field(default_factory=dict)
    served: dict[str, Any] = field(default_factory=dict)

    @contextmanager
    def staged(self, top: Path) -> Iterator[Case]:
        with serving(top, **self.served) as case:
            case.write(JOB, self.job)
            case.write("jobs/products.csv", PRODUCTS)
            for name, data in self.files.items():
                case.write(name, data)
            self.before(case)
            yield case

    def ends(self, case: Case) -> None:
        """Go on until it is over, and judge."""
        going_on = self.then or self.command
        code = case.again(*going_on)
        if self.last:
            assert code in {0, 3}, case.err
            code = case.again(*self.last)
        assert code == self.code or (not self.is_sure and code in {0, 3, 6}), (code, case.err)
        case.judge(calls=self.calls)
        case.rests(*(self.last or going_on), code=code)


def changed(case: Case) -> None:
    """Rendered; then one product is another, one has another id, and one is gone."""
    assert case.run(*RUN) == 0
    products = "id,product\nmug,red mug\ndish,sand bowl\n"
    case.write("jobs/products.csv", products)


def renamed(case: Case) -> None:
    """Rendered with all kinds of files, and the journal lost; then a name is another and an ask anew."""
    assert case.run(*RUN) == 0
    shutil.rmtree(case.outputs / ".pipeline")
    case.write(JOB, RICH.replace("id: mug", "id: cup").replace("sand bowl", "moss bowl"))


def came_back(case: Case) -> None:
    """Rendered, asked otherwise and rendered, and then the first ask again."""
    assert case.run(*RUN) == 0
    case.write("jobs/products.csv", PRODUCTS.replace("blue", "red"))
    assert case.run(*RUN) == 0
    case.write("jobs/products.csv", PRODUCTS)


def failed(case: Case) -> None:
    assert case.run(*RUN) == 3


def lost(case: Case) -> None:
    """Killed when the service had just made the batch; then the journal is gone."""
    assert case.run(*RUN, at="create:after:1") == KILLED
    shutil.rmtree(case.outputs / ".pipeline")


def submitted(case: Case) -> None:
    assert case.run("submit", JOB) in {0, 4}


def fewer(case: Case) -> None:
    """Rendered, and one product less."""
    assert case.run(*RUN) == 0
    case.write("jobs/products.csv", "id,product\nmug,blue mug\nbowl,sand bowl\n")


def longer(case: Case) -> None:
    """A finished conversation, that goes on."""
    assert case.run(*RUN) == 0
    case.write(JOB, TURNS + "  - Make it rain\n")


def stuck(case: Case) -> None:
    """A batch that has been at work for too long, by the clock of the pipeline."""
    submitted(case)
    case.ahead_s = 1.1 * DAY


PHOTOS = {f"jobs/{name}.png": encoded(noise((24, 24), seed=seed), "PNG") for name, seed in (("photo", 1), ("other", 2))}
STORIES = {
    "run": Story(SHOP),
    "references": Story(REFERENCES, files=PHOTOS),
    "turns": Story(TURNS),
    "a turn more": Story(TURNS, before=longer),
    "rich": Story(RICH),
    "changed": Story(SHOP, before=changed),
    "renamed": Story(RICH, before=renamed),
    "came back": Story(SHOP, before=came_back),
    "failed": Story(SHOP + "retry: 1\n", code=3, served={"faults": "- {on: line, do: block, key: 'mug*'}\n"}),
    "retry": Story(
        SHOP, command=("retry", *RUN[1:]), before=failed, then=RUN,
        served={"faults": "- {on: line, do: block, key: 'mug*', times: 2}\n"}, code=3, is_sure=False,
    ),
    "journal lost": Story(SHOP, before=lost),
    "submit": Story(SHOP, command=("submit", JOB), last=RUN),
    "collect": Story(SHOP, command=COLLECT, before=submitted, last=RUN),
    "tidy": Story(SHOP, served={"PIPELINE_KEEP_REMOTE": "0"}),
    "clean": Story(SHOP, command=("clean", "--yes", "--older-than", "0", JOB), before=fewer, last=RUN),
    "cancel": Story(
        SHOP, command=("cancel", JOB), before=submitted, last=COLLECT, served={"latency_s": 20 * 3600.0}, code=3
    ),
    "proof": Story(SHOP, command=("proof", JOB, "-n", "2"), last=RUN, calls=6),
    "proof kept": Story(SHOP, command=("proof", "--keep", JOB, "-n", "2"), last=RUN, calls=4, is_sure=False),
    "one by one": Story(
        SINGLY, before=stuck, calls=6, is_sure=False, served={"faults": "- {on: batch, do: expire}\n"}
    ),
}  # fmt: skip


class Told:
    """What a story is like when nobody is killed."""

    def __init__(self, story: Story, top: Path) -> None:
        with story.staged(top / "clean") as case:
            log = top / "points.log"
            code = case.run(*story.command, log=str(log))
            assert code in {0, 3, 4}, case.err
            self.points = steps(log)
            story.ends(case)
            self.outcome = case.outcome()


def chosen(name: str, points: list[str]) -> list[str]:
    """The points to kill at. How an outputs folder is made is the same in all stories."""
    if ALL:
        return points
    begins = points.index(_MADE) + 1 if name != "run" and _MADE in points else 0
    return telling(points[begins:])


_MADE = "workspace:before:1"


def try_point(story: Story, told: Told, top: Path, point: str) -> bool:
    """Kill at a point, go on, judge; returns whether it was killed at all: threads are never in the same order."""
    with story.staged(top) as case:
        code = case.run(*story.command, at=point)
        assert code in {KILLED, 0, 3, 4}, case.err
        story.ends(case)
        if story.is_sure:
            assert case.outcome() == told.outcome
    return code == KILLED


@pytest.mark.torture
@pytest.mark.timeout(3600 if ALL else 300)
@pytest.mark.parametrize("name", STORIES)
def test_killed_at_any_point_and_run_again_it_comes_to_rest_and_paid_once(name, tmp_path):
    story, wrong, hits = STORIES[name], [], 0
    told = Told(story, tmp_path)
    points = chosen(name, told.points)
    for number, point in enumerate(points):
        try:
            hits += try_point(story, told, tmp_path / str(number), point)
        except AssertionError as error:
            wrong.append(f"{point}: {error}")
        shutil.rmtree(tmp_path / str(number))
    assert not wrong, "\n".join(wrong)
    assert hits >= len(points) * 0.8
