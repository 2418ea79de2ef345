"""When the power fails: what was not synced is lost, and what was believed is not. In order, and then for real."""

from __future__ import annotations

import shutil

import pytest
import tracing
from crashing import KILLED, spread
from test_crash import RUN, STORIES, Told

pytestmark = [
    pytest.mark.torture,
    pytest.mark.timeout(600),
    pytest.mark.skipif(shutil.which("strace") is None, reason="strace is not here"),
]
STORY = STORIES["run"]
WAL = "/.pipeline/journal.db-wal"


def test_what_is_believed_is_on_the_disk_first(tmp_path):
    with STORY.staged(tmp_path / "case") as case:
        case.environment["PIPELINE_KEEP_REMOTE"] = "0"
        assert case.run(*RUN, strace=(*tracing.WORDS, "-o", str(tmp_path / "log"))) == 0, case.err
        ops = tracing.Trace.of(tmp_path / "log", case.folder).ops
    sends = [number for number, op in enumerate(ops) if op.kind == "send"]
    posts = [number for number in sends if ":batchGenerateContent" in ops[number].path]
    deletes = [number for number in sends if ops[number].path.startswith("DELETE")]
    renames = [number for number, op in enumerate(ops) if op.leaves]
    assert (len(posts), len(deletes)) == (2, 4)
    assert len(renames) > 10
    for number in (*posts, *deletes):
        assert not unsynced(ops[:number]), "what is sent follows from what is on the disk"
    for number in renames:
        new = ops[number]
        before = [op for op in ops[:number] if op.inode == new.inode and op.kind == "data"]
        assert before, new.path
        last = max(n for n, op in enumerate(ops[:number]) if op in before)
        names = {op.path for op in before}
        assert any(op.kind == "sync" and op.path in names for op in ops[last:number]), f"{new.path}: named, not synced"
        follows = ops[number + 1 :]
        synced = next(n for n, op in enumerate(follows) if op.kind == "sync" and op.path == new.of)
        row = next((n for n, op in enumerate(follows) if op.kind == "sync" and op.path.endswith(WAL)), len(follows))
        assert synced < row, f"{new.path}: a row is on the disk before the name is"


def unsynced(ops):
    """Effects that no later sync of their file or folder covers, but for what the next run makes again anyway."""
    left = []
    for number, op in enumerate(ops):
        if op.kind in {"sync", "send"} or op.path.endswith((".lock", "-shm")):
            continue
        of = {op.of, *(one.path for one in ops[number:] if one.inode == op.inode and one.kind == "name" and op.inode)}
        if not any(one.kind == "sync" and one.path in of for one in ops[number:]):
            left.append(op)
    return left


LOSSES = {
    "all": lambda _op: False,
    "data": lambda op: op.kind not in {"data", "cut"},
    "names": lambda op: op.kind in {"data", "cut"},
    "leaving": lambda op: op.kind != "gone",
    "coming": lambda op: op.kind == "gone",
}


@pytest.fixture(scope="module")
def told(tmp_path_factory):
    return Told(STORY, tmp_path_factory.mktemp("told"))


POINTS = [
    "replace:after:1", "schema:after:1", "commit:before:3", "commit:after:8", "create:before:1", "create:after:1",
    "replace:after:3", "rename:after:2", "publish:after:1", "commit:after:13", "move:after:2", "create:after:2",
    "replace:after:6", "delete:before:1",
]  # fmt: skip


@pytest.mark.parametrize("loss", LOSSES)
def test_after_a_power_cut_it_goes_on_and_pays_for_nothing_twice(told, tmp_path, loss):
    wrong = []
    for number, point in enumerate(spread(POINTS, 5)):
        try:
            cut(told, tmp_path / str(number), point, LOSSES[loss])
        except AssertionError as error:
            wrong.append(f"{point}: {error}")
        shutil.rmtree(tmp_path / str(number))
    assert not wrong, "\n".join(wrong)


def cut(told, top, point, survives):
    """Kill at a point, take away what no sync has covered, and go on before the same service."""
    with STORY.staged(top) as case:
        log = top / "strace.log"
        assert case.run(*RUN, at=point, strace=(*tracing.WORDS, "-o", str(log))) == KILLED, case.err
        trace = tracing.Trace.of(log, case.folder)
        whole = tracing.remains(trace, lambda _op: True)
        there = {str(path): path.read_bytes() for path in case.outputs.rglob("*") if path.is_file()}
        seen = {path: data for path, data in whole.items() if data is not None and not path.endswith(("-shm", ".lock"))}
        assert seen == {path: data for path, data in there.items() if path in seen}, "the trace tells all"
        left = tracing.remains(trace, survives)
        shutil.rmtree(case.outputs)
        for path, data in sorted(left.items()):
            if path.endswith("-shm"):  # memory that processes share
                continue
            case.write(path, data) if data is not None else case.folder.joinpath(path).mkdir(
                parents=True, exist_ok=True
            )
        STORY.ends(case)
        assert case.outcome() == told.outcome
