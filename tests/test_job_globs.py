"""Globs: which files they name, how much they look at, and what is said where nothing is found."""

from fnmatch import fnmatchcase
from pathlib import PurePosixPath

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jobs import PNG, complaints, expanded, write

from pipeline.job import globs
from pipeline.job.globs import Folders, GlobError, matching, near, why_none

FILES = (
    "a.png",
    "B.png",
    "é.png",
    ".h.png",
    "x/a.png",
    "x/y/a.png",
    "x/y/b.txt",
    "x/.h/a.png",
    "[1]/a.png",
    "a/b/c/d.png",
)


@pytest.fixture
def folder(tmp_path):
    for name in FILES:
        write(tmp_path, f"p/{name}", PNG)
    (tmp_path / "p/empty.png").mkdir()
    return tmp_path / "p"


@pytest.mark.parametrize(
    ("pattern", "found"),
    [
        ("*.png", ["B.png", "a.png", "é.png"]),
        ("./*.png", ["B.png", "a.png", "é.png"]),
        ("?.png", ["B.png", "a.png", "é.png"]),
        ("[a-z].png", ["a.png"]),
        ("[!a].png", ["B.png", "é.png"]),
        ("[z-a].png", []),
        ("[.png", []),
        (".*", [".h.png"]),
        (".h*/*", []),
        ("x/.*/*", ["x/.h/a.png"]),
        ("x/.h/*", ["x/.h/a.png"]),
        ("*/a.png", ["[1]/a.png", "x/a.png"]),
        ("**/a.png", ["[1]/a.png", "a.png", "x/a.png", "x/y/a.png"]),
        ("**/**/a.png", ["[1]/a.png", "a.png", "x/a.png", "x/y/a.png"]),
        ("**/y/*", ["x/y/a.png", "x/y/b.txt"]),
        ("x/**", ["x/a.png", "x/y/a.png", "x/y/b.txt"]),
        ("**/*/*/*.png", ["a/b/c/d.png", "x/y/a.png"]),
        ("x**/a.png", ["x/a.png"]),
        ("[[]1]/*.png", ["[1]/a.png"]),
        ("../p/x/*.png", ["../p/x/a.png"]),
        ("empty*", []),
        ("none/*.png", []),
        ("a.png/*.png", []),
        ("a.png", ["a.png"]),
        ("gone.png", []),
        ("x", []),
    ],
)
def test_a_pattern_names_files_in_code_point_order(folder, pattern, found):
    assert matching(pattern, folder) == found
    assert matching(f"{folder}/{pattern}", folder.parent) == [f"{folder}/{name}" for name in found]


def test_a_link_to_a_folder_above_ends_somewhere(folder):
    for name in ("x/up", "x/up2"):
        (folder / name).symlink_to("..")
    (folder / "x/top").symlink_to(folder.parent)
    (folder / "x/circle").symlink_to("circle")
    assert matching("**/a.png", folder) == ["[1]/a.png", "a.png", "x/a.png", "x/y/a.png"]
    assert matching("x/*/B.png", folder) == ["x/up/B.png", "x/up2/B.png"]
    assert matching("x/up/*.png", folder)[:1] == ["x/up/B.png"]
    assert matching("x/top/**/d.png", folder) == ["x/top/p/a/b/c/d.png"]
    assert matching("x/c*", folder) == ["x/circle"], "whoever reads it says that it leads nowhere"
    assert len(matching("*/*/*/*/*/B.png", folder)) == 4


def test_too_much_is_not_looked_at(folder, monkeypatch):
    monkeypatch.setattr(globs, "MAX_LOOKED_AT", 15)
    assert len(matching("x/**", folder)) == 3
    folders = Folders()
    for _ in range(3):
        with pytest.raises(GlobError, match=r"'\*\*/\*.png' looks through more than 15 files") as caught:
            matching("**/*.png", folder.parent, folders=folders)
        assert caught.value.hint == "name a nearer folder"
    with pytest.raises(GlobError, match=r"'x/\*' was not looked for: others look through more than 15 files"):
        matching("x/*", folder, folders=folders)


@pytest.mark.parametrize("most", [2_000, pytest.param(globs.MAX_LOOKED_AT, marks=pytest.mark.torture)])
def test_links_that_multiply_are_bounded(folder, monkeypatch, most):
    monkeypatch.setattr(globs, "MAX_LOOKED_AT", most)
    for name in ("one", "two", "three"):
        (folder / name).symlink_to(".")
    with pytest.raises(GlobError, match=f"looks through more than {most:,} files"):
        matching("/".join(["*"] * 20), folder)


def test_a_folder_is_read_once_in_a_pass(folder):
    folders = Folders()
    assert matching("x/*.png", folder, folders=folders) == ["x/a.png"]
    write(folder, "x/new.png", PNG)
    assert matching("x/n*.png", folder, folders=folders) == []
    assert matching("x/n*.png", folder) == ["x/new.png"]


@pytest.mark.parametrize(
    ("pattern", "complaint"),
    [
        ("x" * 300 + "/*.png", "cannot be looked for: File name too long"),
        ("a\0b/*.png", "cannot be looked for: embedded null byte"),
        ("*/../*.png", "has '..' behind a wildcard"),
    ],
)
def test_a_pattern_that_cannot_be_followed_is_refused(folder, pattern, complaint):
    with pytest.raises(GlobError) as caught:
        matching(pattern, folder)
    assert complaint in str(caught.value)


@pytest.mark.parametrize("cell", ["/", "//", "../..", "/etc", "x/../../..", "out", "*/../../.."])
def test_a_pattern_made_from_data_starts_within_the_project(folder, cell):
    (folder / "out").symlink_to("/")
    with pytest.raises(GlobError) as caught:
        matching(f"{globs.escaped(cell)}/**/*.png", folder, below=[folder.resolve()])
    assert "leads out of the project" in str(caught.value) or "behind a wildcard" in str(caught.value)


@pytest.mark.parametrize(("cell", "hint"), [("/", ""), ("../../..", ""), ("p/x", None)])
def test_a_cell_of_a_job_scans_no_disk(folder, cell, hint):
    job = f"prompt: x\nitems: [{{id: a, f: '{cell}'}}]\nimages: [{{glob: '[f]/**/*.png', optional: true}}]"
    if hint is None:
        [request] = expanded(folder.parent, job)
        assert [image.shown for image in request.ask.images] == ["p/x/a.png", "p/x/y/a.png"]
        return
    [found] = complaints(folder.parent, job)
    assert found.startswith(f"2:20: '{cell}/**/*.png' leads out of the project")


NAMES = st.text(st.sampled_from("ab.*[]?!-é"), min_size=1, max_size=4).filter(lambda name: name not in {".", ".."})


@given(NAMES)
def test_an_escaped_name_means_itself(tmp_path_factory, name):
    folder = tmp_path_factory.getbasetemp() / "escaped"
    folder.mkdir(exist_ok=True)
    (folder / name).touch()
    assert matching(globs.escaped(name), folder) == [name]
    (folder / name).unlink()


@given(st.lists(st.sampled_from(["a", "b", "*", "**", "?", "[ab]", "a*"]), min_size=1, max_size=4))
def test_all_ways_through_a_pattern_are_found_once(tmp_path_factory, parts):
    """Compared with a plain reading of the pattern: each `**` is some number of folders."""
    folder = tmp_path_factory.getbasetemp() / "ways"
    names = [f"{one}{two}/{three}" for one in "ab" for two in ("", "/a", "/b", "/a/ab") for three in ("f", "g")]
    for name in names:
        if not (folder / name).exists():
            write(folder, name, "x")
    pattern = [*parts, *(["f"] if parts[-1] != "**" else [])]
    assert matching("/".join(pattern), folder) == sorted(
        name for name in names if _fits(PurePosixPath(name).parts, pattern)
    )


def _fits(names, parts):
    if not parts:
        return not names
    if parts[0] == "**":
        rest = parts[1:] or ["*"]
        return any(_fits(names[number:], rest) for number in range(len(names)))
    return bool(names) and fnmatchcase(names[0], parts[0]) and _fits(names[1:], parts[1:])


@pytest.mark.parametrize(
    ("pattern", "message", "hint"),
    [
        ("*.PNG", "no file matches '*.PNG'", "there is 'B.png': names are compared with their case"),
        ("b.p*", "no file matches 'b.p*'", "there is 'B.png': names are compared with their case"),
        ("*/A.png", "no file matches '*/A.png'", "there is '[1]/a.png': names are compared with their case"),
        ("x/*.{jpg,png}", "no file matches 'x/*.{jpg,png}'", "braces are no pattern here; list both globs, or use *"),
        ("*.jpg", "no file matches '*.jpg'", ""),
        ("X/*.png", "no file matches 'X/*.png': the folder '{folder}/X' is not there; did you mean 'x'?", ""),
        ("a.png/*", "no file matches 'a.png/*': '{folder}/a.png' is no folder", ""),
        ("A.png", "no file matches 'A.png'; did you mean 'a.png'?", ""),
        ("x", "no file matches 'x'", "it is a folder; for what it holds write x/*"),
        ("{x,y}/*.png", "no file matches '{x,y}/*.png'", "braces are no pattern here; list both globs, or use *"),
    ],
)
def test_why_nothing_is_found_is_told(folder, pattern, message, hint):
    assert why_none(pattern, folder) == (message.replace("{folder}", str(folder)), hint)


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("prodcts.csv", "; did you mean 'products.csv'?"),
        ("PRODUCTS.CSV", "; did you mean 'products.csv'?"),
        ("other.txt", ""),
        ("dat/products.csv", ": the folder '{top}/dat' is not there; did you mean 'data'?"),
        ("dat/deep/products.csv", ": the folder '{top}/dat' is not there; did you mean 'data'?"),
        ("products.csv/x", ": '{top}/products.csv' is no folder"),
        ("link.csv", ": it is a link that leads nowhere"),
        ("x" * 300, ""),
        ("a\0b", ""),
    ],
)
def test_a_name_that_is_near_is_told(tmp_path, name, told):
    write(tmp_path, "products.csv", "id\n")
    (tmp_path / "data").mkdir()
    (tmp_path / "link.csv").symlink_to("nowhere")
    assert near(tmp_path / name) == told.format(top=tmp_path)


def test_a_near_name_is_looked_for_among_some(tmp_path, monkeypatch):
    monkeypatch.setattr(globs, "_NAMES", 0)
    write(tmp_path, "products.csv", "id\n")
    assert near(tmp_path / "prodcts.csv") == ""


@pytest.mark.parametrize("text", ["https://x.org/a", "s3://b/a", "file:///a", "data:image/png;base64,AA", "gs:/x"])
def test_a_url_is_one(text):
    assert globs.is_url(text)


@pytest.mark.parametrize("text", ["a.png", "mug:01.png", "C:/photos/a.png", "16:9/a.png", "./https://x", ""])
def test_a_path_is_no_url(text):
    assert not globs.is_url(text)
