"""Files are whole or absent, and nothing is written, moved or removed outside the folder they belong to."""

from __future__ import annotations

import multiprocessing
import os

import pytest

from pipeline.durable import Folder, locked
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
