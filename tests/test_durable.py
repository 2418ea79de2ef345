"""Files are whole or absent, and nothing is written, moved or removed outside the folder they belong to."""

from __future__ import annotations

import multiprocessing
import os
import threading
import tracemalloc

import pytest

from pipeline.durable import Folder, locked
from pipeline.durable import staging as staging_of_files
from pipeline.errors import LocalError, LockedError


@pytest.fixture
def folder(tmp_path):
    return Folder(tmp_path / "ours")


def everything(path):
    return sorted(entry.name for entry in path.rglob("*"))


def test_a_file_appears_whole_or_not_at_all(folder):
    with pytest.raises(RuntimeError), folder.replacing("a/b.txt") as stream:
        stream.write(b"half")
        raise RuntimeError
    assert everything(folder.path) == ["a"]
    with folder.replacing("a/b.txt") as stream:
        stream.write(b"whole")
        assert not (folder.path / "a/b.txt").exists()
    assert (folder.path / "a/b.txt").read_bytes() == b"whole"
    with pytest.raises(RuntimeError), folder.replacing("a/b.txt") as stream:
        stream.write(b"other")
        raise RuntimeError
    assert (folder.path / "a/b.txt").read_bytes() == b"whole"


def test_a_group_becomes_visible_together(folder):
    with folder.staging() as staging:
        for name in ("one.jpg", "deep/two.jpg"):
            staging.write(name, name.encode())
        staging.sync()
        assert not (folder.path / "one.jpg").exists()
        staging.publish()
    assert (folder.path / "one.jpg").read_bytes() == b"one.jpg"
    assert (folder.path / "deep/two.jpg").read_bytes() == b"deep/two.jpg"


def test_a_group_that_is_given_up_leaves_nothing(folder):
    with pytest.raises(RuntimeError), folder.staging() as staging:
        staging.write("one.jpg", b"1")
        raise RuntimeError
    assert everything(folder.path) == []


def test_a_file_has_the_permissions_that_the_umask_leaves(folder):
    before = os.umask(0o027)
    try:
        with folder.replacing("a") as stream:
            stream.write(b"x")
    finally:
        os.umask(before)
    assert (folder.path / "a").stat().st_mode & 0o777 == 0o640


@pytest.mark.parametrize("path", ["../evil", "/etc/evil", "a/../../evil", "a//b", "", ".", "a/./b", "nul\0"])
def test_no_name_leads_out(folder, path):
    with pytest.raises(LocalError), folder.replacing(path) as stream:
        stream.write(b"x")
    assert everything(folder.path.parent) in ([], ["ours"])


@pytest.mark.parametrize("kind", ["folder", "file"])
def test_a_planted_link_is_not_followed(folder, tmp_path, kind):
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "sentinel").write_text("untouched")
    folder.make()
    if kind == "folder":
        (folder.path / "sub").symlink_to(outside)
        with pytest.raises(LocalError, match="cannot write"), folder.replacing("sub/x") as stream:
            stream.write(b"x")
        with pytest.raises(LocalError):
            folder.remove("sub/sentinel")
    else:
        (folder.path / "x").symlink_to(outside / "sentinel")
        with folder.replacing("x") as stream:
            stream.write(b"ours")
        assert not (folder.path / "x").is_symlink()
    assert everything(outside) == ["sentinel"]
    assert (outside / "sentinel").read_text() == "untouched"


def test_the_folder_itself_may_be_a_link(tmp_path):
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    with Folder(tmp_path / "link").replacing("a") as stream:
        stream.write(b"x")
    assert (tmp_path / "real/a").read_bytes() == b"x"


def test_a_full_disk_is_said_in_words(folder, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(LocalError, match="No space left") as caught, folder.replacing("a") as stream:
        stream.write(b"x")
    assert "make room" in caught.value.hint


def test_what_a_killed_writer_left_is_swept(folder):
    folder.make()
    (folder.path / "deep").mkdir()
    (folder.path / "deep/.x.jpg.0123456789abcdef.part").write_text("half")
    (folder.path / "deep/x.jpg").write_text("whole")
    (folder.path / "deep/.mine.part").write_text("of somebody else")
    folder.sweep()
    assert everything(folder.path) == [".mine.part", "deep", "x.jpg"]


def test_to_clear_away_follows_no_link_and_takes_the_deepest_first(folder, tmp_path):
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / ".x.jpg.0123456789abcdef.part").write_text("not ours")
    (folder.make().path / "a/b/c").mkdir(parents=True)
    (folder.path / "a/link").symlink_to(outside)
    (folder.path / "d/e").mkdir(parents=True)
    folder.sweep()
    folder.prune()
    assert everything(folder.path) == ["a", "link"]
    assert everything(outside) == [".x.jpg.0123456789abcdef.part"]


def test_to_clear_away_takes_no_memory_for_the_names_that_stay(folder):
    folder.make()
    for number in range(2_000):
        (folder.path / f"{number:0200}").touch()
    folder.sweep()
    tracemalloc.start()
    try:
        folder.sweep()
        folder.prune()
        assert tracemalloc.get_traced_memory()[1] < 100_000
    finally:
        tracemalloc.stop()


def test_where_no_lock_guards_it_what_a_living_writer_has_is_not_swept(folder):
    folder.make()
    (folder.path / ".x.0123456789abcdef.part").write_text("half")
    with folder.replacing("y") as stream:
        folder.sweep_beside("x")
        [part] = everything(folder.path)
        assert part.startswith(".y.")
        stream.write(b"whole")
    assert everything(folder.path) == ["y"]


def test_a_group_of_files_appears_together_or_not_at_all(folder):
    (folder.make().path / "1").write_text("old")
    with pytest.raises(RuntimeError), folder.replacing_together() as group:
        for name in ("1", "2"):
            stream = group.create(name)
            stream.write(b"new")
            group.finish(name, stream)
        group.create("3").write(b"half")
        raise RuntimeError
    assert everything(folder.path) == ["1"]
    with folder.replacing_together() as group:
        for name in ("1", "2"):
            stream = group.create(name)
            stream.write(b"new")
            group.finish(name, stream)
        assert (folder.path / "1").read_text() == "old"
        assert not (folder.path / "2").exists()
    assert [(folder.path / name).read_text() for name in everything(folder.path)] == ["new", "new"]


def test_who_sweeps_leaves_a_group_alone_whose_writer_is_alive(folder):
    dead = folder.make().path / ".together.0123456789abcdef.part"
    dead.mkdir()
    (dead / "1").write_text("half")
    with folder.replacing_together() as group:
        stream = group.create("2")
        group.finish("2", stream)
        folder.sweep_beside("2")
        assert not dead.exists()
    assert everything(folder.path) == ["2"]


def test_a_long_name_of_any_letters_can_be_written(folder):
    name = "\U0001f989" * 63
    with folder.replacing(name) as stream:
        stream.write(b"owls")
    assert everything(folder.path) == [name]


def _hold(path, ready, go):
    with locked(Folder(path), "locks/a.lock", what="the job 'a'"):
        ready.set()
        go.wait(20)


def test_a_lock_is_held_by_one_and_freed_by_death(tmp_path):
    context = multiprocessing.get_context("spawn")
    ready, go = context.Event(), context.Event()
    process = context.Process(target=_hold, args=(tmp_path, ready, go))
    process.start()
    assert ready.wait(20)
    with pytest.raises(LockedError, match="the job 'a'"), locked(Folder(tmp_path), "locks/a.lock", what="the job 'a'"):
        pass
    process.kill()
    process.join()
    with locked(Folder(tmp_path), "locks/a.lock", what="the job 'a'"):
        pass


MANY = [f"{number % 12}/{number}.jpg" for number in range(24)]


def staged(folder, staging):
    for number, name in enumerate(MANY):
        file = staging.create()
        file.write(b"%d" % number)
        file.close()
        staging.name(file, name)


def test_a_file_without_a_name_gets_one_with_its_group_or_goes(folder):
    with folder.staging() as staging:
        staged(folder, staging)
        [other, _spare] = [staging.create(), staging.create()]
        other.write(b"not wanted")
        other.close()
        assert other.read() == b"not wanted"
        staging.sync()
        assert not list(folder.path.rglob("*.jpg"))
        published = staging.publish()
        assert [file.size for file in published] == [len(str(number)) for number in range(24)]
        assert len(list(folder.path.glob(".*.part"))) == 2, "those without a name wait for the next group"
        staging.drop(other)
    assert {str(path.relative_to(folder.path)) for path in folder.path.rglob("*") if path.is_file()} == set(MANY)
    assert (folder.path / "3/15.jpg").read_bytes() == b"15"
    assert (folder.path / "3/15.jpg").stat().st_mtime_ns == published[15].mtime_ns


class Libc:
    """A C library whose disk is broken, or that only counts."""

    def __init__(self, code=0):
        self.code, self.calls = code, 0

    def syncfs(self, _descriptor):
        self.calls += 1
        return self.code

    def sync_file_range(self, *_):
        return 0


def test_many_files_are_brought_to_the_disk_by_one_call_and_few_one_by_one(folder, monkeypatch):
    libc, synced = Libc(), []
    monkeypatch.setattr(staging_of_files, "_libc", lambda: libc)
    monkeypatch.setattr(staging_of_files, "_syncfs", lambda: True)
    with folder.staging() as staging:
        staged(folder, staging)
        staging.sync()
        assert libc.calls == 1
        staging.publish()
        assert libc.calls == 2, "the names are in many folders"
    with folder.staging() as staging:
        staging.write("a", b"a")
        monkeypatch.setattr(os, "fsync", synced.append)
        staging.sync()
        staging.publish()
    assert (libc.calls, len(synced)) == (2, 2)


@pytest.mark.parametrize("has_syncfs", [True, False])
def test_an_error_of_the_disk_is_final_for_the_whole_group(folder, monkeypatch, has_syncfs):
    def broken(_descriptor):
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(staging_of_files, "_syncfs", lambda: has_syncfs)
    monkeypatch.setattr(staging_of_files, "_libc", lambda: Libc(-1))
    monkeypatch.setattr(staging_of_files, "_errno", lambda: 5)
    with pytest.raises(LocalError, match="Input/output error"), folder.staging() as staging:
        staged(folder, staging)
        monkeypatch.setattr(os, "fsync", broken)
        staging.sync()
    assert not [path for path in folder.path.rglob("*") if path.is_file()]


@pytest.mark.parametrize("number", [1, 30], ids=["a few, one by one", "many at once"])
def test_a_group_is_written_on_while_what_has_a_name_is_on_its_way_to_the_disk(folder, monkeypatch, number):
    gate = threading.Event()
    monkeypatch.setattr(staging_of_files, "_fsync", lambda _descriptor: gate.wait(20))
    monkeypatch.setattr(staging_of_files.Staging, "_sync_file_system", lambda _self: gate.wait(20))
    monkeypatch.setattr(staging_of_files, "_syncfs", lambda: True)
    with folder.staging() as staging:
        for place in range(number):
            staging.write(f"{place}.jpg", b"first")
        synced = staging.syncing()
        later = staging.create()
        later.write(b"later")
        later.close()
        assert not (folder.path / "0.jpg").exists()
        gate.set()
        synced()
        assert len(staging.publish()) == number
        staging.name(later, "later.jpg")
        staging.sync()
        staging.publish()
    assert everything(folder.path) == sorted([*(f"{place}.jpg" for place in range(number)), "later.jpg"])


def test_of_many_files_in_folders_each_is_looked_at_where_it_is(tmp_path):
    sizes = {"one": 1, "a/one": 2, "a/b/one": 3, "b/one": 4}
    for path, size in sizes.items():
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_bytes(bytes(size))
    (tmp_path / "link").symlink_to("a")
    with Folder(tmp_path).looking() as looking:
        found = {path: looking.status(path) for path in [*sizes, "b/two", "c/one", "link/one", "one/one", *sizes]}
        assert {path: status.st_size for path, status in found.items() if status} == sizes
        for path in ("a/../one", "..", "/one", "a//one", "a/."):
            with pytest.raises(LocalError):
                looking.status(path)
