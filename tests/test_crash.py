"""Killed anywhere, and run again: nothing is paid for twice, nothing that was paid for is lost, and it comes to rest.

A clean run tells the points; then a run is killed at each, the same command goes on, and the service's ledger, the tree
and the journal are held against each other. `make torture` tries some of all the steps of each story; with TORTURE=all
in the environment it tries every single one, which takes hours.
"""

from __future__ import annotations

import shutil
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pytest
from conftest import PRODUCTS
from crashing import ALL, KILLED, Case, serving, spread, steps, telling
from pictures import encoded, noise

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

DAY = 86_400.0
JOB = "jobs/shop.yaml"
RUN = ("run", JOB, "--poll", "0.1s", "--wait", "30s")
COLLECT = ("collect", JOB, "--fail-if-pending")

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
    delivers: bool = True
    files: dict[str, bytes] = field(default_factory=dict)
    served: dict[str, Any] = field(default_factory=dict)

    @contextmanager
    def staged(self, top: Path) -> Iterator[Case]:
        with serving(top, **self.served) as case:
            case.write(JOB, self.job)
            case.write("jobs/products.csv", PRODUCTS)
            for name, data in self.files.items():
                case.write(name, data)
            case.delivers = self.delivers
            self.before(case)
            yield case

    def ends(self, case: Case) -> None:
        """Go on until it is over, and judge."""
        going_on = self.then or self.command
        code = case.again(*going_on)
        if self.last:
            assert code in {0, 3, 4, 6}, case.err
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
        SHOP, command=("cancel", "--yes", JOB), before=submitted, last=COLLECT, code=6, delivers=False,
        served={"latency_s": 72_000.0},
    ),
    "proof": Story(SHOP, command=("proof", JOB, "-n", "2"), last=RUN, calls=6),
    "proof kept": Story(SHOP, command=("proof", "--keep", JOB, "-n", "2"), last=RUN, calls=4, is_sure=False),
    "one by one": Story(
        SINGLY, before=stuck, calls=6, delivers=False, is_sure=False, served={"faults": "- {on: batch, do: expire}\n"}
    ),
}  # fmt: skip


class Told:
    """What a story is like when nobody is killed."""

    def __init__(self, story: Story, top: Path) -> None:
        with story.staged(top / "clean") as case:
            log = top / "points.log"
            code = case.run(*story.command, log=str(log))
            assert code in {0, 3, 4, 6}, case.err
            self.points = steps(log)
            story.ends(case)
            self.outcome = case.outcome()


def chosen(name: str, points: list[str]) -> list[str]:
    """The points to kill at. How an outputs folder is made is the same in all stories."""
    if ALL:
        return points
    begins = points.index(_MADE) + 1 if name != "run" and _MADE in points else 0
    return spread(telling(points[begins:]), 30 if name == "run" else 7)


_MADE = "workspace:before:1"


def try_point(story: Story, told: Told, top: Path, point: str) -> bool:
    """Kill at a point, go on, judge; returns whether it was killed at all: threads are never in the same order."""
    with story.staged(top) as case:
        code = case.run(*story.command, at=point)
        assert code in {KILLED, 0, 3, 4, 6}, case.err
        story.ends(case)
        if story.is_sure:
            assert case.outcome() == told.outcome
    return code == KILLED


def tried(points: list[str], top: Path, one: Callable[[Path, str], bool]) -> int:
    """Try each of these points in a folder of its own; returns at how many there was a kill."""
    wrong, hits = [], 0
    for point in points:
        try:
            hits += one(top / "case", point)
        except AssertionError as error:
            wrong.append(f"{point}: {error}")
        shutil.rmtree(top / "case")
    assert not wrong, "\n".join(wrong)
    return hits


# Where most is at stake: before there is a journal, between an intent, its create and its record, with an answer that
# nobody knows, with names and no rows, with the old image away and the new one not there, before what is deleted.
AT_STAKE = [
    "replace:before:1", "schema:before:1", "commit:before:8", "create:before:1", "create:after:1", "replace:after:3",
    "rename:after:2", "publish:after:1", "commit:after:14", "create:after:2", "replace:after:6", "delete:after:1",
]  # fmt: skip


@pytest.mark.some("1")
@pytest.mark.parametrize("first", [0, 1, 2])
def test_killed_where_most_is_at_stake_and_run_again_it_has_paid_once(tmp_path, first):
    told, points = Told(STORIES["run"], tmp_path), AT_STAKE[first::3]
    assert tried(points, tmp_path, lambda top, point: try_point(STORIES["run"], told, top, point)) == len(points)


@pytest.mark.torture
@pytest.mark.timeout(7200 if ALL else 300)
@pytest.mark.parametrize("name", STORIES)
def test_killed_at_any_point_and_run_again_it_comes_to_rest_and_paid_once(name, tmp_path):
    story = STORIES[name]
    told = Told(story, tmp_path)
    points = chosen(name, told.points)
    hits = tried(points, tmp_path, lambda top, point: try_point(story, told, top, point))
    assert hits >= len(points) * 0.7, "threads are never in the same order, but it was hardly ever killed"


@pytest.mark.torture
@pytest.mark.parametrize("point", ["cancel:before:1", "cancel:after:1", "commit:after:3"])
def test_of_two_batches_that_one_create_has_made_one_is_cancelled_whenever_it_is_killed(tmp_path, point):
    rule = "- {on: batches.create, do: twice, times: 1}\n"
    with Story(SINGLY, served={"latency_s": 3600.0, "faults": rule}).staged(tmp_path / "case") as case:
        assert case.run("submit", JOB, at="create:after:1") == KILLED
        assert case.run("submit", JOB, at=point) == KILLED, case.err
        assert case.run("submit", JOB) == 0, case.err
        made, cancelled = (
            {entry["name"] for entry in case.ledger if entry["op"] == op} for op in ("batches.create", "batches.cancel")
        )
        assert len(made) == 2
        assert len(made - cancelled) == 1, "only one of them is waited for, and paid"


# First kills whose recovery is killed as well.
RECOVERIES = [
    ("run", "create:before:1"), ("run", "create:after:1"), ("run", "replace:after:3"), ("run", "rename:after:2"),
    ("run", "publish:after:1"), ("changed", "move:after:2"), ("changed", "rename:after:1"), ("renamed", "move:after:4"),
    ("clean", "move:after:1"), ("one by one", "generate:after:2"), ("references", "upload:after:1"),
]  # fmt: skip


@pytest.mark.torture
@pytest.mark.timeout(7200 if ALL else 300)
@pytest.mark.parametrize(("name", "first"), RECOVERIES)
def test_killed_in_the_recovery_too_it_comes_to_rest_and_paid_once(name, first, tmp_path):
    story = STORIES[name]
    told = Told(story, tmp_path)
    going_on = story.then or story.command
    with story.staged(tmp_path / "recovery") as case:
        assert case.run(*story.command, at=first) == KILLED
        assert case.run(*going_on, log=str(tmp_path / "recovery.log")) in {0, 3, 4, 6}, case.err
    points = telling(steps(tmp_path / "recovery.log"))

    def again(top: Path, point: str) -> bool:
        with story.staged(top) as case:
            assert case.run(*story.command, at=first) == KILLED
            code = case.run(*going_on, at=point)
            assert code in {KILLED, 0, 3, 4, 6}, case.err
            story.ends(case)
            if story.is_sure:
                assert case.outcome() == told.outcome
        return code == KILLED

    assert tried(spread(points, 5), tmp_path, again)
