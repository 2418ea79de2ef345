"""What make, ninja, systemd and pre-commit get: stamps, depfiles, fragments, units; each tried with the tool itself."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml
from conftest import KEY, PRODUCTS, ROOT, Service
from PIL import Image

from pipeline import local
from pipeline.cli import making
from pipeline.cli.opening import Opened

RUN = ("run", "jobs/shop.yaml", "--poll", "0.1s")


def make(folder, *words, **environment):
    """`make WORDS`: its exit code, and all it says."""
    done = subprocess.run(
        ["make", "--no-print-directory", *words],
        cwd=folder, env={**os.environ, "LC_ALL": "C", **environment}, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        text=True, timeout=100, check=False,
    )  # fmt: skip
    return done.returncode, done.stdout


def script(folder):
    """A `pipeline` that runs this code; how often it was started is in `starts` beside it."""
    path = folder / "bin" / "pipeline"
    path.parent.mkdir()
    program = f"PYTHONPATH={shlex.quote(str(ROOT))} exec {shlex.quote(sys.executable)} -m pipeline"
    path.write_text(f'#!/bin/sh\necho "$@" >> "$(dirname "$0")/starts"\n{program} "$@"\n')
    path.chmod(0o755)
    return path


def aged(path, seconds):
    at = time.time() + seconds
    os.utime(path, (at, at))


# ------------------------------------------------------------------------------------------ stamp


def test_the_stamp_is_new_after_every_success_also_when_nothing_was_to_do(shop):
    stamp = shop.folder / "made/shop.stamp"
    for path in (shop.folder / "jobs").iterdir():
        aged(path, -60)  # what was written this very moment counts as changed meanwhile
    for _ in range(2):
        assert shop(*RUN, "--stamp", "made/shop.stamp").code == 0
        assert stamp.stat().st_mtime_ns >= (shop.outputs / "shop/manifest.jsonl").stat().st_mtime_ns
        assert abs(time.time() - stamp.stat().st_mtime) < 60
        aged(stamp, -9999)
    before = shop.tree()
    assert shop("submit", "jobs/shop.yaml", "--stamp", "made/shop.stamp").code == 0
    assert time.time() - stamp.stat().st_mtime < 60
    assert shop.tree() == before


def test_no_stamp_while_anything_is_open(slow_shop):
    assert slow_shop("submit", "jobs/shop.yaml", "--stamp", "s", "--depfile", "d").code == 0
    assert slow_shop("run", "jobs/shop.yaml", "--wait", "0", "--stamp", "s").code == 4
    assert not (slow_shop.folder / "s").exists()
    assert (slow_shop.folder / "d").exists()


def test_no_stamp_when_one_job_of_the_call_failed(shop):
    shop.write("jobs/bad.yaml", "prompt: LOCAL:BLOCK\n")
    assert shop("run", "jobs", "--poll", "0.1s", "--stamp", "s").code == 3
    assert not (shop.folder / "s").exists()


def test_what_changes_meanwhile_is_newer_than_the_stamp(project, monkeypatch):
    monkeypatch.chdir(project.folder)
    catalog, other = project.write("products.csv", PRODUCTS), project.write("other.csv", PRODUCTS)
    aged(catalog, -60)
    aged(other, -60)
    for changed in (False, True):
        marks = making.Marks("stamp", None)
        marks.dependencies.add(catalog)
        marks.dependencies.add(other)
        if changed:
            aged(other, 0)
        marks.succeed(None, Opened())
        newer = catalog.stat().st_mtime_ns, other.stat().st_mtime_ns
        assert (Path("stamp").stat().st_mtime_ns < max(newer)) is changed


@pytest.mark.parametrize(
    "words",
    [
        ("--stamp", "jobs/products.csv"),
        ("--depfile", "jobs/shop.yaml"),
        ("--depfile", "jobs"),
        ("--stamp", "/dev/null"),
        ("--stamp", "x", "--depfile", "./x"),
    ],
)
def test_a_slip_costs_no_file_of_somebody_else(shop, words):
    before = {path: path.read_bytes() for path in shop.folder.rglob("*") if path.is_file()}
    ended = shop(*RUN, *words)
    assert ended.code == 2
    assert words[0] in ended.err
    assert {path: path.read_bytes() for path in shop.folder.rglob("*") if path.is_file()} == before
    assert stat.S_ISCHR(Path("/dev/null").stat().st_mode)


# ---------------------------------------------------------------------------------------- depfile


def rules(text):
    """The rules of a depfile without escapes in its names: target → prerequisites."""
    lines = text.replace(" \\\n", " ").splitlines()
    return {target: names.split() for target, _colon, names in (line.partition(":") for line in lines)}


def test_the_depfile_names_all_that_the_job_was_made_from(shop):
    for name in ("refs/a.png", "refs/b.png", "rows/mug.png", "rows/bowl.png", "rows/vase.png"):
        path = shop.write(name, b"")
        Image.new("RGB", (64, 64), (len(name), 90, 90)).save(path)
    shop.write("jobs/_brand.yaml", "extends: ../bases/_house.yaml\ntables: {copy: {file: copy.csv, on: [id]}}\n")
    shop.write("bases/_house.yaml", "aspect: 4:5\n")
    shop.write("jobs/copy.csv", "id,words\nmug,new\n")
    shop.write("templates/packshot.md", "A [product], [copy.words|fine].\n")
    shop.write("jobs/templates/other.md", "nothing\n")
    shop.write(
        "jobs/shop.yaml",
        "extends: _brand.yaml\nitems: products.csv\ntemplate: packshot\noverrides:\n"
        "- {when: {id: mug}, set: {template: product-mockup, vars: {surface: wood}}}\n"
        "- {when: {id: bowl}, set: {prompt: {file: words.txt}}}\n"
        'images: [{glob: "../refs/*.png"}, "../rows/[id].png", {file: ../later/x.png, optional: true}]\n',
    )
    shop.write("jobs/words.txt", "A [product].\n")
    assert shop("submit", "jobs/shop.yaml", "--depfile", "made/d", "--stamp", "made/s", "--yes").code == 0
    found = rules((shop.folder / "made/d").read_text())
    own = {
        *("made/s", "outputs/shop/manifest.jsonl", "jobs/shop.yaml", "jobs/_brand.yaml", "bases/_house.yaml"),
        *("jobs/products.csv", "jobs/copy.csv", "jobs/words.txt", "templates/packshot.md"),
        *("refs", "refs/a.png", "refs/b.png", "rows/mug.png", "rows/bowl.png", "rows/vase.png"),
        *("jobs/templates", "templates", "."),  # where a nearer template, or what is optional, would lie
    }
    assert own <= found.keys()
    assert {Path(name).name for name in found.keys() - own} == {"product-mockup.md"}
    assert set(found["made/s"]) == found.keys() - {"made/s"}
    assert not any(names for target, names in found.items() if target != "made/s")
    assert all((shop.folder / name).exists() for name in found if name not in {"made/s", "outputs/shop/manifest.jsonl"})


def test_without_a_stamp_the_target_is_the_output_manifest(shop):
    shop.write("jobs/barn.yaml", "prompt: a barn\n")
    assert shop("submit", "jobs", "--depfile", "d").code == 0
    first = (shop.folder / "d").read_text().splitlines()[0]
    assert first == "outputs/barn/manifest.jsonl outputs/shop/manifest.jsonl: \\"


def test_a_manifest_that_is_wrong_leaves_the_old_depfile(shop):
    assert shop("submit", "jobs/shop.yaml", "--depfile", "d").code == 0
    before = (shop.folder / "d").read_bytes()
    shop.write("jobs/shop.yaml", "promt: x\n")
    assert shop("submit", "jobs/shop.yaml", "--depfile", "d").code == 2
    assert (shop.folder / "d").read_bytes() == before


NAMES = [
    "a b",
    "c#d",
    "e$f",
    "50%",
    "g:h",
    "k[1]",
    "l*",
    "x?y",
    "~o",
    "r's",
    "v&w",
    "é",
    "z(1).png",
    "q\\ r",
    '"s"',
    "<t>",
]


@pytest.mark.parametrize("name", [*NAMES, "i=j"])
def test_make_reads_every_name_back(tmp_path, name):
    (tmp_path / "m.yaml").touch()
    path = tmp_path / name
    path.touch()
    aged(path, -60)
    aged(tmp_path / "m.yaml", -60)
    (tmp_path / "stamp").touch()
    text = making.depfile(["stamp"], ["m.yaml", name]).decode()
    (tmp_path / "Makefile").write_text("stamp:\n\t@touch stamp\n" + text)
    assert make(tmp_path, "-q") == (0, "")
    aged(path, 0)
    aged(tmp_path / "stamp", -30)
    assert make(tmp_path, "-q") == (1, "")
    path.unlink()
    assert (make(tmp_path)[0] == 0) is ("=" not in name)


@pytest.mark.skipif(shutil.which("ninja") is None, reason="ninja is not installed")
def test_ninja_reads_names_back(tmp_path):
    names = ["m.yaml", "a b", "c#d", "e$f", "g:h", "k[1]", "é", "z(1).png"]
    for name in names:
        (tmp_path / name).touch()
        aged(tmp_path / name, -60)
    (tmp_path / "made").write_bytes(making.depfile(["stamp"], names))
    (tmp_path / "build.ninja").write_text(
        "rule run\n  command = cp made stamp.d; touch stamp\n  depfile = stamp.d\nbuild stamp: run\n"
    )

    def ninja():
        done = subprocess.run(["ninja"], cwd=tmp_path, capture_output=True, text=True, check=True, timeout=60)
        return "no work to do" not in done.stdout

    assert ninja()
    assert not ninja()
    for name in names:
        aged(tmp_path / name, 0)
        aged(tmp_path / "stamp", -30)
        assert ninja(), name
        aged(tmp_path / name, -60)
        assert not ninja()


def test_the_folder_stands_for_a_name_that_no_rule_can_hold(project, monkeypatch):
    monkeypatch.chdir(project.folder)
    dependencies = making.Dependencies(is_kept=True)
    for name in ("photos/a;b.png", "photos/c\nd.png", "swatches/e|f/g.png", "../out.png"):
        dependencies.add(project.folder / name)
    for folder in ("new (1)/a.png", "old/x)"):
        dependencies.add(project.write(folder, b""))
    dependencies.add(project.folder / "new (1)")
    outside = str(project.folder.parent / "out.png")
    # What ends in a bracket would be a member of an archive.
    assert making._seen_from_here(dependencies) == [outside, "new (1)/.", "new (1)/a.png", "old", "photos", "swatches"]


# --------------------------------------------------------------------------------------- init --make


@pytest.fixture
def built(project, monkeypatch):
    """A project with two jobs and the fragment, all rendered; `pipeline` is a script that counts."""
    for name, value in (("SERVICE", "local"), ("LOCAL_PICTURES", "plain"), ("LOCAL_LATENCY", "0s")):
        monkeypatch.setenv(f"PIPELINE_{name}", value)
    for name in ("b c.png", "50%.png"):
        Image.new("RGB", (64, 64), (len(name), 90, 90)).save(project.write(f"photos/{name}", b""))
    project.write("jobs/shop.yaml", "template: packshot\nitems: products.csv\n")
    project.write("jobs/products.csv", "id,product\nmug,blue mug\n")
    project.write("jobs/_base.yaml", "size: 1K\n")
    project.write("templates/packshot.md", "A [product].\n")
    project.write("jobs/photos.yml", "extends: _base.yaml\nitems: ../photos/*.png\nprompt: winter\n")
    assert project("init", "--make").out.split() == ["pipeline.mk", "Makefile"]
    monkeypatch.setenv("PIPELINE", str(script(project.folder)))
    assert make(project.folder, "-q", "images")[0] == 1
    assert make(project.folder, "-j2", "images") == (0, "")
    return project


def touched(path):
    os.utime(path)


CHANGES = {
    "nothing": (lambda folder: None, set()),
    "catalog": (lambda folder: touched(folder / "jobs/products.csv"), {"shop.yaml"}),
    "manifest": (lambda folder: touched(folder / "jobs/shop.yaml"), {"shop.yaml"}),
    "template": (lambda folder: touched(folder / "templates/packshot.md"), {"shop.yaml"}),
    "base": (lambda folder: touched(folder / "jobs/_base.yaml"), {"photos.yml"}),
    "photo": (lambda folder: touched(folder / "photos/b c.png"), {"photos.yml"}),
    "another photo": (lambda folder: shutil.copy(folder / "photos/b c.png", folder / "photos/d.png"), {"photos.yml"}),
    "a photo less": (lambda folder: (folder / "photos/d.png").unlink(), {"photos.yml"}),
    "a new job": (lambda folder: (folder / "jobs/new.yaml").write_text("prompt: x"), {"new.yaml"}),
    "records": (lambda folder: (folder / "outputs/shop/manifest.jsonl").unlink(), {"shop.yaml", "new.yaml"}),
}


@pytest.mark.torture
def test_make_starts_what_changed_and_nothing_else(built):
    folder, starts = built.folder, built.folder / "bin/starts"
    assert len(starts.read_text().splitlines()) == 2
    stamps = list((folder / "outputs/.pipeline/make").rglob("*.stamp"))
    for change, (cause, jobs) in CHANGES.items():
        # Everything was done a minute ago; then one thing changes.
        for path in (*folder.rglob("*"), folder):
            if path not in stamps:
                aged(path, -120)
        for path in stamps:
            aged(path, -60)
        cause(folder)
        code, said = make(folder, "-q", "images")
        assert (code, said) == (1 if jobs else 0, ""), change
        _code, would = make(folder, "-n", "images")
        assert set(re.findall(r"run jobs/(\S+)", would)) == jobs, change
    assert len(starts.read_text().splitlines()) == 2
    (folder / "jobs/new.yaml").unlink()
    assert make(folder, "images") == (0, "")
    assert make(folder, "-q", "images") == (0, "")
    assert (folder / "outputs/shop/manifest.jsonl").is_file()
    with local.serving(folder / "outputs/.local-service") as url:
        assert sorted(entry["requests"] for entry in Service(url).ledger()) == [1, 2]
    (folder / "photos/50%.png").unlink()
    assert make(folder, "-q", "images") == (1, "")


def test_a_job_that_fails_hides_no_other_and_each_has_its_line(project, monkeypatch):
    for name in ("a", "b"):
        project.write(f"jobs/{name}.yaml", "promt: x\nsise: 2\n")
    project("init", "--make")
    code, said = make(project.folder, "images", PIPELINE=str(script(project.folder)), PIPELINE_SERVICE="local")
    assert code == 2
    own = [line for line in said.splitlines() if not line.startswith("make:")]
    assert own == [
        f"error: jobs/{name}.yaml:1:1: unknown key 'promt' in a job; did you mean 'prompt'? (and 1 more); the same"
        " command without -q shows all of it"
        for name in ("a", "b")
    ]


def test_stamps_of_one_way_of_calling_say_nothing_of_another(project):
    project.write("jobs/shop.yaml", "prompt: x\n")
    project("init", "--make")
    ways = [{}, {"PIPELINE_SERVICE": "local"}, {"PIPELINE_FLAGS": "-q --select 'id:a b'"}, {"PIPELINE_FLAGS": "-v"}]
    told = [re.findall(r"--stamp (\S+)", make(project.folder, "-n", "images", **way)[1]) for way in ways]
    assert told[0] == told[3] == ["outputs/.pipeline/make/plain/shop.yaml.stamp"]
    assert len({*map(tuple, told)}) == 3


def test_a_makefile_that_is_there_stays_and_the_line_to_add_is_said(project):
    project.write("jobs/shop.yaml", "prompt: x\n")
    project.write("Makefile", "all:\n")
    ended = project("init", "--make")
    assert ended.out.split() == ["pipeline.mk"]
    assert "next: add this line to Makefile: include pipeline.mk" in ended.err
    assert (project.folder / "Makefile").read_text() == "all:\n"
    project.write("Makefile", "all: images\ninclude pipeline.mk\n")
    assert "add this line" not in project("init", "--make").err


# ----------------------------------------------------------------------------- init --systemd, --lfs


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd is not installed")
@pytest.mark.parametrize("name", ["shop", 'we%ird $x "q" é'])
def test_systemd_takes_the_units(project, name, tmp_path_factory):
    ended = project("init", name, "--systemd")
    assert ended.code == 0
    units = sorted((project.folder / name / "systemd").iterdir())
    assert [unit.suffix for unit in units] == [".service", ".timer"]
    done = subprocess.run(
        ["systemd-analyze", "--user", "verify", *units],
        env={**os.environ, "XDG_RUNTIME_DIR": str(tmp_path_factory.mktemp("run")), "HOME": str(project.folder)},
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_a_unit_calls_this_installation_for_this_project(project):
    project("init", "shop", "--systemd")
    text = (project.folder / "shop/systemd/images-shop.service").read_text()
    words = shlex.split(re.search(r"^ExecStart=(.*)$", text, re.MULTILINE)[1])
    assert Path(words[0]).is_absolute()
    assert Path(words[0]).parent == Path(sys.executable).parent
    assert words[-5:] == ["-C", str(project.folder / "shop"), "-q", "submit", "jobs"]
    for setting in ("Type=oneshot", "SuccessExitStatus=75", f"WorkingDirectory={project.folder / 'shop'}"):
        assert setting in text.splitlines()
    assert "Persistent=true" in (project.folder / "shop/systemd/images-shop.timer").read_text().splitlines()
    assert KEY not in text


def test_git_keeps_images_in_lfs_and_records_as_they_are(project):
    project.write("jobs/shop.yaml", "prompt: x\n")
    assert project("init", "--lfs").out.split() == [".gitattributes"]
    subprocess.run(["git", "init", "-q"], cwd=project.folder, check=True, timeout=60)
    paths = ["outputs/shop/a.jpg", "outputs/shop/b/c.webp", "jobs/photos/d.png", "outputs/shop/manifest.jsonl", "e.png"]
    done = subprocess.run(
        ["git", "check-attr", "filter", "text", "--", *paths],
        cwd=project.folder, capture_output=True, text=True, check=True, timeout=60,
    )  # fmt: skip
    told = dict(line.rsplit(": ", 1) for line in done.stdout.splitlines())
    assert [told[f"{path}: filter"] for path in paths] == ["lfs", "lfs", "lfs", "unspecified", "unspecified"]
    assert told["outputs/shop/manifest.jsonl: text"] == "unset"
    project.write(".gitattributes", "outputs/** -text\n")
    ended = project("init", "--lfs")
    assert "next: add to .gitattributes: outputs/**/*.jpg filter=lfs diff=lfs merge=lfs -text" in ended.err
    assert "add to .gitattributes: outputs/** -text" not in ended.err


# ----------------------------------------------------------------------------------------- pre-commit


def test_the_hook_checks_all_jobs_whatever_is_committed(shop):
    [hook] = yaml.safe_load((ROOT / ".pre-commit-hooks.yaml").read_text())
    assert hook.keys() == {"id", "name", "description", "entry", "language", "always_run", "pass_filenames"}
    assert (hook["id"], hook["language"]) == ("pipeline-validate", "python")
    assert (hook["always_run"], hook["pass_filenames"]) == (True, False)
    program, *words = hook["entry"].split()
    assert program == "pipeline"
    assert shop(*words).code == 0
    shop.write("jobs/broken.yaml", "promt: x\n")
    assert shop(*words).code == 2


# --------------------------------------------------------------------------------------- docs/nights.md

BLOCKS = re.findall(
    r"^(<!-- not run:.*?-->\n)?```sh\n(.*?)^```$",
    (ROOT / "docs/nights.md").read_text(encoding="utf-8"),
    re.MULTILINE | re.DOTALL,
)


@pytest.mark.parametrize("text", [text for reason, text in BLOCKS if not reason])
def test_the_page_on_nights_does_what_it_says(project, text):
    project.write("jobs/shop.yaml", "prompt: x\n")
    subprocess.run(["git", "init", "-q"], cwd=project.folder, check=True, timeout=60)
    path = f"{script(project.folder).parent}:{os.environ['PATH']}"
    done = subprocess.run(
        ["sh", "-euc", text], cwd=project.folder, env={**os.environ, "PATH": path},
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "lfs" in done.stdout or "--stamp" in done.stdout
