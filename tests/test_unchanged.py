"""Nothing to do is nearly free, and the quick answer is the slow one: whatever could make another one defeats it."""

from __future__ import annotations

import contextlib
import datetime as dt
import os
import shutil
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import PRODUCTS, SHOP
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from jobs import JPEG, PNG

from pipeline import journal as journals
from pipeline import seen
from pipeline.cli import opening, resting, spending
from pipeline.cli.options import Options
from pipeline.errors import RefusedError
from pipeline.job import blocks, expand
from pipeline.rest import Rest

JOB = """\
extends: _base.yaml
template: packshot
items: products.csv
images: [{file: "../refs/[product].png", optional: true}, "../refs/light.png"]
tables: {care: {file: care.csv, on: [id]}}
matrix: {aspect: [1:1, 4:5]}
output: {path: "[id]/[aspect]"}
"""
RUN = ("run", "jobs/shop.yaml", "--poll", "0.05s")
PLAN = ("plan", "jobs/shop.yaml", "--detailed-exitcode")


@pytest.fixture
def compared(monkeypatch):
    """The calls that compared a job with its records."""
    calls = []
    real = opening.opened

    def noted(*args, **given):
        calls.append(args[0])
        return real(*args, **given)

    monkeypatch.setattr(opening, "opened", noted)
    return calls


@pytest.fixture
def rested(shop, compared):
    """A shop with all kinds of files behind it, rendered, and known to be at rest."""
    shop.write("jobs/_base.yaml", "vars: {light: soft}\n")
    shop.write("jobs/shop.yaml", JOB)
    shop.write("jobs/care.csv", "id,text\nmug,by hand\nbowl,\nvase,never\n")
    shop.write("templates/packshot.md", "Photo of a [product] in [light] light. [care.text|]\n")
    shop.write("refs/light.png", PNG)
    assert shop(*RUN).code == 0
    rest(shop)
    return shop


def rest(project, *words):
    """Have the project looked at once more: what was changed a moment ago is not sure to be what was read."""
    for _ in range(3):
        if told(project) and not words:
            break
        words = ()
        project("submit", "jobs/shop.yaml")
    assert told(project), "it is not at rest"


def told(project, job="shop"):
    path = project.outputs / ".pipeline/journal.db"
    with sqlite3.connect(f"file:{path}?mode=ro", uri=True) as db:
        return db.execute("SELECT told FROM rest WHERE job = ?", (job,)).fetchone()


def slowly(project, monkeypatch, *words):
    """What a command says that compares everything."""
    with monkeypatch.context() as patch:
        patch.setattr(resting, "found", lambda *_: None)
        return project(*words)


def is_quick(project, compared, *words):
    compared.clear()
    ended = project(*words)
    return ended, not compared


# ------------------------------------------------------------------------------------------- the same answer


def test_the_quick_answer_is_the_slow_one(rested, compared, monkeypatch):
    calls = (PLAN, (*PLAN, "--json"), ("plan",), ("-q", *RUN), RUN, ("submit", "jobs/shop.yaml"), ("collect",))
    for words in calls:
        quick, was_quick = is_quick(rested, compared, *words)
        assert was_quick, words
        assert quick == slowly(rested, monkeypatch, *words)
        rest(rested)


def test_a_quick_run_changes_nothing_below_the_job_asks_no_service_and_leaves_its_result(rested, compared, monkeypatch):
    before, runs = rested.tree(), rested.outputs / ".pipeline/runs/shop"
    (runs / ".last.json.0123456789abcdef.part").write_bytes(b"of a killed run")
    (runs / "last.json").unlink()
    monkeypatch.setattr(opening, "service", lambda *_: pytest.fail("the service was asked"))
    assert is_quick(rested, compared, *RUN)[1]
    assert rested.tree() == before
    assert '"exit_code": 0' in (runs / "last.json").read_text()
    assert not list(runs.glob(".*.part"))


def test_a_quick_plan_leaves_no_trace(rested, compared):
    def everything():
        return {path: (s := path.lstat()) and (s.st_ino, s.st_mtime_ns, s.st_ctime_ns) for path in top.rglob("*")}

    top = rested.outputs
    before = everything()
    assert is_quick(rested, compared, *PLAN)[1]
    assert everything() == before


def test_to_say_that_nothing_has_changed_takes_neither_the_job_language_nor_the_plan(rested):
    heavy = ("yaml", "pipeline.job.language", "pipeline.plan", "pipeline.outputs", "pipeline.reconcile")
    script = (
        "import sys; from pipeline.cli import run; code = run(sys.argv[1:]);"
        f"print(*(name for name in {heavy} if name in sys.modules), sep=chr(10)); sys.exit(code)"
    )
    for words in (PLAN, RUN):
        done = subprocess.run(
            [sys.executable, "-c", script, "-C", str(rested.folder), "-q", *words],
            env={**os.environ, "PYTHONPATH": str(Path(resting.__file__).parents[2])},
            capture_output=True, text=True, timeout=60, check=True,
        )  # fmt: skip
        assert done.stdout.splitlines()[-1:] == [""], done.stdout


def test_what_failed_and_what_was_edited_is_told_of_quickly(rested, compared, monkeypatch):
    (rested.outputs / "shop/mug/1x1.jpg").write_bytes(JPEG)
    shutil.rmtree(rested.outputs / "shop/bowl")
    rested.write("jobs/products.csv", PRODUCTS + "cup,\n")
    rested.write("jobs/products.csv", PRODUCTS.replace("bowl,sand bowl\n", ""))
    rest(rested, "again")
    for words in (PLAN, (*PLAN, "--json"), RUN):
        quick, was_quick = is_quick(rested, compared, *words)
        assert was_quick
        assert quick == slowly(rested, monkeypatch, *words)
    assert "edited" in rested(*PLAN).out


def test_warnings_are_said_every_time(rested, compared, monkeypatch):
    rested.write("jobs/shop.yaml", JOB + "vars: {size: large}\n")
    rested.write("jobs/products.csv", PRODUCTS.replace("id,product", "id,product,stem"))
    rested.write("jobs/products.csv", "id,product,model name\n" + "".join(f"{n},{n} x,y\n" for n in ("mug", "bowl")))
    assert rested(*RUN, "--yes").code == 0
    rest(rested)
    quick, was_quick = is_quick(rested, compared, *PLAN)
    assert was_quick
    assert "warning" in quick.err
    assert quick == slowly(rested, monkeypatch, *PLAN)


def test_a_run_that_does_something_leaves_the_job_at_rest(rested, compared):
    rested.write("jobs/products.csv", PRODUCTS + "cup,a cup\n")
    assert rested(*PLAN).code == 10
    catalog = seen.look(str(rested.folder / "jobs/products.csv"))
    while seen.now_ns() <= catalog.ctime_ns:  # a clock tick
        pass
    assert rested(*RUN).code == 0
    assert told(rested)
    assert is_quick(rested, compared, *PLAN)[1]


# ----------------------------------------------------------------------------------------- what defeats it


def append(path, text):
    def change(project):
        with (project.folder / path).open("a") as stream:
            stream.write(text)

    return change


def edit(path):
    """Another picture of as many bytes, as old as the one before."""

    def change(project):
        file = project.outputs / "shop" / path
        status, data = file.stat(), file.read_bytes()
        file.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
        os.utime(file, ns=(status.st_atime_ns, status.st_mtime_ns))

    return change


def sql(statement):
    def change(project):
        with sqlite3.connect(project.outputs / ".pipeline/journal.db") as db:
            db.execute(statement)

    return change


def damage(project):
    path = project.outputs / ".pipeline/journal.db"
    data = path.read_bytes()
    path.write_bytes(data[:4096] + b"\xff" * 4096 + data[8192:])


CHANGES = {
    "manifest": append("jobs/shop.yaml", "size: 2K\n"),
    "base": append("jobs/_base.yaml", "temperature: 1\n"),
    "template": append("templates/packshot.md", "Matt.\n"),
    "nearer template": lambda project: project.write("jobs/templates/packshot.txt", "A [product]."),
    "table": append("jobs/care.csv", "cup,never\n"),
    "header of the catalog": lambda project: project.write("jobs/products.csv", PRODUCTS.replace("id,", "sku,")),
    "reference image": lambda project: project.write("refs/light.png", JPEG),
    "reference image that was missing": lambda project: project.write("refs/blue mug.png", PNG),
    "edited output": edit("mug/1x1.jpg"),
    "edited manifest": lambda project: (project.outputs / "shop/manifest.jsonl").write_text("{}\n"),
    "deleted output": lambda project: (project.outputs / "shop/vase/4x5.jpg").unlink(),
    "added output": lambda project: (project.outputs / "shop/bowl/new.jpg").write_bytes(JPEG),
    "part of a killed run": lambda project: (project.outputs / "shop/.x.0123456789abcdef.part").write_bytes(b""),
    "linked output": lambda project: (project.outputs / "shop/link").symlink_to("mug"),
    "moved job folder": lambda project: (project.outputs / "shop").rename(project.outputs / "other"),
    "kept answer": lambda project: (project.outputs / ".pipeline/answers/shop/a-1-gemini.jsonl").write_bytes(b""),
    "record": sql("UPDATE record SET status = 'failed' WHERE key = 'mug/1:1'"),
    "record gone": sql("DELETE FROM record WHERE key = 'mug/1:1'"),
    "file": sql("UPDATE file SET sha256 = 'x'"),
    "batch": sql("UPDATE batch SET state = 'held'"),
    "asked": sql("UPDATE asked SET cost = 1"),
    "published": sql("UPDATE job SET published = 'x'"),
    "another manifest": sql("UPDATE job SET manifest = '/elsewhere/shop.yaml'"),
    "journal of a newer version": sql("PRAGMA user_version = 99"),
    "damaged journal": damage,
    "no journal": lambda project: (project.outputs / ".pipeline/journal.db").unlink(),
}


def contents(folder):
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file() and not path.is_symlink()}


def put_back(project, before):
    """Make every file what it was; what has changed below the job's folder is looked at once more."""
    other = project.outputs / "other"
    if other.exists():
        other.rename(project.outputs / "shop")
    for path in [*(project.outputs / "shop").rglob("*"), *contents(project.folder)]:
        if path.is_symlink() or (path.is_file() and path not in before):
            path.unlink()
    for path, data in before.items():
        if not path.exists() or path.read_bytes() != data:
            path.write_bytes(data)


def test_every_change_defeats_it(rested, compared):
    before = contents(rested.folder)
    for name, change in CHANGES.items():
        assert is_quick(rested, compared, *PLAN)[1], name
        change(rested)
        assert not is_quick(rested, compared, *PLAN)[1], name
        put_back(rested, before)
        if not is_quick(rested, compared, *PLAN)[1]:
            assert "output" in name or "folder" in name or "answer" in name or "killed" in name or "edited" in name
            rest(rested, "again")
            before = contents(rested.folder)


def test_a_call_of_another_kind_compares(rested, compared):
    rested.write("models.yaml", "{}\n")
    for words in (
        (*PLAN, "--show", "mug/1:1"),
        ("--select", "id:mug", *PLAN),
        ("--models", "models.yaml", *PLAN),
        ("--service", "local", *PLAN),
        ("-C", "jobs", "plan", "shop.yaml"),
        ("--outputs", "outputs2", *PLAN),
        (*RUN, "--depfile", "x.d"),
        ("collect", "--recover", "jobs/shop.yaml"),
        ("retry", "jobs/shop.yaml", "--poll", "0.05s"),
        (*RUN, "--force", "--select", "id:mug", "--yes"),
    ):
        rest(rested)
        assert not is_quick(rested, compared, *words)[1], words


def test_a_file_that_was_only_touched_does_not(rested, compared):
    for name in ("jobs/shop.yaml", "jobs/products.csv", "refs/light.png", "templates/packshot.md"):
        path = rested.folder / name
        data = path.read_bytes()
        path.unlink()
        path.write_bytes(data)
    assert is_quick(rested, compared, *PLAN)[1]


def test_a_day_on_which_the_registry_says_something_else_defeats_it(rested, compared, monkeypatch):
    soon = dt.datetime.now(dt.UTC).date() + dt.timedelta(days=2)
    rested.write("models.yaml", f"models: {{mine: {{aliases: [own], shutdown: {soon}}}}}\n")
    always = ("--models", "models.yaml")
    rested(*always, "submit", "jobs/shop.yaml")
    rested(*always, "submit", "jobs/shop.yaml")
    assert is_quick(rested, compared, *always, *PLAN)[1]
    for days, quick in ((1, True), (2, False)):
        day = soon - dt.timedelta(days=2 - days)
        monkeypatch.setattr(Options, "today", property(lambda _self, day=day: day))
        assert is_quick(rested, compared, *always, *PLAN)[1] == quick


def test_what_is_due_to_be_deleted_at_the_service_is_deleted(rested, compared, service, monkeypatch):
    assert is_quick(rested, compared, *RUN)[1]
    monkeypatch.setenv("PIPELINE_KEEP_REMOTE", "0")
    assert not is_quick(rested, compared, *RUN)[1]
    assert service.ledger("batches.delete")
    assert is_quick(rested, compared, *RUN)[1]


def test_results_that_get_old_are_compared_every_time(rested, compared):
    rested.write("jobs/shop.yaml", JOB + "max_age: 20h\n")
    for _ in range(3):
        assert not is_quick(rested, compared, "submit", "jobs/shop.yaml")[1]


def test_a_job_that_another_run_holds_is_left_alone(rested):
    from pipeline.durable import Folder, locked

    with locked(Folder(rested.outputs / ".pipeline"), "locks/shop.lock", what="it"):
        assert rested(*RUN).code == 75


def test_images_that_were_paid_for_keep_the_local_service_out(rested):
    rested("--service", "local", "collect", "jobs/shop.yaml")
    assert rested("--service", "local", *RUN).code == 5


def test_what_was_changed_while_it_was_read_is_not_known(rested, monkeypatch):
    """A catalog that changed between being read and being looked at must not pass for what was read."""
    real = opening.check_rows

    def changing(*args):
        real(*args)
        rested.write("jobs/products.csv", PRODUCTS + "cup,a cup\n")

    rested.write("jobs/products.csv", PRODUCTS + "\n")
    with monkeypatch.context() as patch:
        patch.setattr(opening, "check_rows", changing)
        rested("collect", "jobs/shop.yaml")
    assert rested(*PLAN) == slowly(rested, monkeypatch, *PLAN)


def test_a_note_that_cannot_be_read_is_no_note(rested, compared):
    for text in ("", "{}", "[]", '{"around": 1}'):
        with sqlite3.connect(rested.outputs / ".pipeline/journal.db") as db:
            db.execute("UPDATE rest SET told = ?", (text,))
        assert not is_quick(rested, compared, *PLAN)[1]


def test_a_note_comes_back_as_it_was_written(rested):
    text = told(rested)[0]
    assert Rest.loads(text).dumps() == text


# --------------------------------------------------------------------------------------------- other rows


def many(count=16):
    return [f"p{number:02},mug number {number}\n" for number in range(count)]


@pytest.fixture
def catalog(shop, compared, monkeypatch):
    """A rendered job whose rows stand for themselves, in blocks of two."""
    monkeypatch.setattr(blocks, "SIZE", 2)
    shop.write("jobs/products.csv", "id,product\n" + "".join(many()))
    assert shop(*RUN, "--yes").code == 0
    rest(shop)
    compared.clear()
    return shop


def changed(project, rows):
    """Give the catalog these rows, a tick of the clock of files before whatever comes next."""
    project.write("jobs/products.csv", "id,product\n" + "".join(rows))
    catalog = seen.look(str(project.folder / "jobs/products.csv"))
    while seen.now_ns() <= catalog.ctime_ns:
        pass


def the_same(project, monkeypatch):
    """Whether a plan is quick, once it was held against the slow one."""
    quick = [project(*words) for words in (PLAN, (*PLAN, "--json"))]
    assert quick == [slowly(project, monkeypatch, *words) for words in (PLAN, (*PLAN, "--json"))]


def test_of_a_changed_catalog_only_the_rows_around_are_compared(catalog, compared, monkeypatch):
    asked = []
    real = expand.blocks
    monkeypatch.setattr(expand, "blocks", lambda *args, **given: noted(real(*args, **given)))

    def noted(blocks):
        for block in blocks:
            asked.extend(expand.whole(request).id for request in block)
            yield block

    rows = many()
    rows[7] = "p07,red mug\n"
    rows[10:11] = []
    rows.append("new,blue mug\n")
    changed(catalog, rows)
    plan, was_quick = is_quick(catalog, compared, *PLAN, "--json")
    assert was_quick
    assert set(asked) == {"p06", "p07", "p11", "new"}
    assert plan.code == 10
    counts = plan.json["jobs"][0]["counts"]
    assert {word: count for word, count in counts.items() if count} == {"new": 2, "changed": 2, "done": 28, "gone": 2}
    the_same(catalog, monkeypatch)


def test_whole_catalogs_that_changed_are_told_of_as_ever(catalog, compared, monkeypatch):
    for rows in (many(7), many(25), [], list(reversed(many())), ["p1,x\n"]):
        changed(catalog, rows)
        the_same(catalog, monkeypatch)


def test_a_row_that_has_to_do_with_others_is_compared_with_all(catalog, compared, monkeypatch):
    for what, rows in {
        "an id that is there already": [*many(), "p03,again\n"],
        "a path that is there already": [*many(), "P03,other\n"],
        "an ask that is bought already": [*many(), "p99,mug number 3\n"],
        "another id for the same ask": [*many()[:-1], "p99,mug number 15\n"],
        "an empty cell": [*many(), "p99,\n"],
        "a cell too many": [*many(), "p99,x,y\n"],
        "an open quote": [*many(), 'p99,"x\n'],
    }.items():
        changed(catalog, rows)
        assert not is_quick(catalog, compared, *PLAN)[1], what
        the_same(catalog, monkeypatch)


def test_going_back_to_what_was_bought_before_is_compared_with_all(catalog, compared, monkeypatch):
    rows = many()
    rows[7] = "p07,red mug\n"
    changed(catalog, rows)
    assert catalog(*RUN, "--yes").code == 0
    rest(catalog)
    the_same(catalog, monkeypatch)
    changed(catalog, many())
    assert not is_quick(catalog, compared, *PLAN)[1]
    the_same(catalog, monkeypatch)


def test_rows_that_depend_on_each_other_are_all_compared(catalog, compared):
    for more in (
        "items: {csv: products.csv, fill: [product]}\n",
        "items: {csv: products.csv, unique: first}\n",
        "items: {csv: products.csv, limit: 14}\n",
        "overrides: [{when: {product: mug number 3}, set: {vars: {a: b}}}]\n",
        "items: {csv: products.csv, rename: {n: set.seed}}\n",
    ):
        lines = [line for line in SHOP.splitlines(keepends=True) if "over" in more or not line.startswith("items")]
        changed(catalog, many()) if "rename" not in more else catalog.write(
            "jobs/products.csv", "id,product,n\na,b,1\n"
        )
        catalog.write("jobs/shop.yaml", "".join(lines) + more)
        assert catalog(*RUN, "--yes").code == 0
        rest(catalog, "again")
        assert is_quick(catalog, compared, *PLAN)[1], more
        append("jobs/products.csv", "p99,new,2\n" if "rename" in more else "p99,new\n")(catalog)
        assert not is_quick(catalog, compared, *PLAN)[1], more


def test_rows_that_would_be_warned_of_by_themselves_are_compared_with_all(catalog, compared, monkeypatch):
    rows = [f"p{number:02},mug,{number},a\n" for number in range(8)]
    catalog.write("jobs/products.csv", "id,product,n,kind\n" + "".join(rows))
    catalog.write("jobs/shop.yaml", "prompt: A [product] [n].\nitems: {csv: products.csv, where: {kind: a}}\n")
    assert catalog(*RUN, "--yes").code == 0
    rest(catalog, "again")
    catalog.write("jobs/products.csv", "id,product,n,kind\n" + "".join(rows).replace(",1,a", ",1,b"))
    assert is_quick(catalog, compared, *PLAN)[1]
    the_same(catalog, monkeypatch)
    both = "".join(rows).replace(",1,a", ",1,b").replace(",0,a", ",0,b")
    catalog.write("jobs/products.csv", "id,product,n,kind\n" + both)
    assert not is_quick(catalog, compared, *PLAN)[1]
    the_same(catalog, monkeypatch)


def test_a_changed_catalog_and_anything_else_are_compared_with_all(catalog, compared):
    changed(catalog, [*many(), "p99,blue mug\n"])
    assert is_quick(catalog, compared, *PLAN)[1]
    edit("p03-1x1.jpg")(catalog)
    assert not is_quick(catalog, compared, *PLAN)[1]


EDITS = st.lists(
    st.tuples(st.sampled_from("ard"), st.integers(0, 15), st.sampled_from(["", "mug number 3", "red", "blue, new"])),
    min_size=1,
    max_size=4,
)


@settings(max_examples=settings.default.max_examples // 3, suppress_health_check=list(HealthCheck), derandomize=True)
@given(edits=EDITS)
def test_whatever_becomes_of_rows_the_quick_answer_is_the_slow_one(catalog, monkeypatch, edits):
    changed(catalog, edited(edits))
    the_same(catalog, monkeypatch)


def edited(edits):
    rows = many()
    for number, (kind, place, text) in enumerate(edits):
        if kind == "a":
            rows.insert(place, f'n{number},"{text} {number}"\n')
        elif place < len(rows):
            rows[place : place + 1] = [f'{rows[place][:3]},"{text}"\n'] if kind == "r" else []
    return rows


# ---------------------------------------------------------------------------------------- buying other rows


class _EnoughError(Exception):
    """What was to be known is known; nothing is written."""


def decided(project, monkeypatch, *, slowly=False):
    """What a run takes for open and for wanted, before it asks whether that may be bought; it goes no further."""
    found = []

    def noted(_options, opened, *_others):
        [one] = opened.jobs
        db = one.journal._db
        wanted = db.execute(
            "SELECT key, fingerprint, wire_key, path, state, open, why, model_id, iif(open, line, ''),"
            " iif(open, cost, 0), iif(open, upper_bound, 0), answer_bytes, iif(open, input_bytes, 0), max_age_s,"
            " moved_from, turn, follows, wave FROM wanted ORDER BY key"
        )
        opens = [row[0] for row in db.execute("SELECT key FROM wanted WHERE open ORDER BY n")]
        found.append((one.plan, [tuple(row) for row in wanted], opens, one.said))
        with contextlib.suppress(_EnoughError), one.journal.transaction():
            one.journal.records.want(one.job.name, "gemini")
            columns = [row[1] for row in db.execute("PRAGMA table_info(record)") if row[1] != "n"]
            found.append([tuple(row) for row in db.execute(f"SELECT {', '.join(columns)} FROM record ORDER BY key")])
            raise _EnoughError
        raise RefusedError("no further")

    with monkeypatch.context() as patch:
        patch.setattr(spending, "_pass_the_gate", noted)
        if slowly:
            patch.setattr(resting, "found", lambda *_: None)
        ended = project("submit", "jobs/shop.yaml")
    return found or ended


def test_a_run_buys_the_rows_that_changed_and_compares_no_others(catalog, compared, service):
    rows = many()
    rows[7] = "p07,red mug\n"
    rows.append("new,blue mug\n")
    changed(catalog, rows)
    before = len(service.ledger("batches.create"))
    kept = {path: path.stat().st_mtime_ns for path in (catalog.outputs / "shop").glob("p0[1-6]*")}
    for words in (("submit", "jobs/shop.yaml"), RUN):
        ended = catalog(*words)
        assert ended.code == 0, ended
    assert len(service.ledger("batches.create")) == before + 1
    assert service.ledger("batches.create")[-1]["requests"] == 4
    assert {path: path.stat().st_mtime_ns for path in kept} == kept
    records = catalog.records()
    assert {one["status"] for one in records.values()} == {"done"}
    assert (len(records), records["p07/1:1"]["vars"]["product"]) == (34, "red mug")


@pytest.mark.parametrize(
    "at", ["commit:after:1", "upload:after:1", "create:before:1", "create:after:1", "replace:after:1"]
)
def test_a_run_of_other_rows_that_is_killed_has_bought_them_once_in_the_end(catalog, service, monkeypatch, at):
    monkeypatch.setenv("PIPELINE_SETTLE", "0")
    changed(catalog, [*many(), "new,blue mug\n"])
    before = sum(entry["requests"] for entry in service.ledger("batches.create"))
    assert catalog.forked("submit", "jobs/shop.yaml", at=at) == -9
    for _ in range(3):
        ended = catalog(*RUN)
    assert ended.code == 0, ended
    assert sum(entry["requests"] for entry in service.ledger("batches.create")) == before + 2
    assert {record["status"] for record in catalog.records().values()} == {"done"}


@pytest.mark.parametrize("verb", ["run", "submit"])
def test_what_a_run_of_other_rows_says_and_leaves_is_what_comparing_all_of_it_does(catalog, compared, verb):
    rows = [*many(), "new,blue mug\n"]
    changed(catalog, rows)
    ended, was_quick = is_quick(catalog, compared, verb, "jobs/shop.yaml", *(RUN[2:] if verb == "run" else ()))
    assert was_quick
    assert ended.code == 0
    assert ("34 done" if verb == "run" else "32 done, 2 pending") in ended.err
    assert catalog(*RUN).code == 0
    rest(catalog)
    assert not is_quick(catalog, compared, *PLAN)[0].code
    changed(catalog, [*rows, "newer,green mug\n"])
    assert is_quick(catalog, compared, "submit", "jobs/shop.yaml")[1]


def test_rows_that_are_no_more_are_refused_as_ever(catalog, compared, monkeypatch):
    changed(catalog, many(5))
    quick, was_quick = is_quick(catalog, compared, *RUN)
    assert was_quick
    assert quick.code == 5
    assert quick == slowly(catalog, monkeypatch, *RUN)


def test_more_than_may_be_spent_is_refused_as_ever(catalog, compared, monkeypatch):
    changed(catalog, [*many(), "new,blue mug\n"])
    words = (*RUN, "--max-cost", "0.01")
    quick, was_quick = is_quick(catalog, compared, *words)
    assert was_quick
    assert quick.code == 5
    assert quick == slowly(catalog, monkeypatch, *words)


def test_calls_that_ask_for_more_compare_all_of_it(catalog, compared):
    changed(catalog, [*many(), "new,blue mug\n"])
    for words in (
        ("collect", "jobs/shop.yaml", "--recover"),
        ("--select", "id:new", "submit", "jobs/shop.yaml", "--max-cost", "0.01", "--force"),
        ("submit", "jobs/shop.yaml", "--max-cost", "0.01", "--depfile", "x.d"),
        ("--select", "id:new", "submit", "jobs/shop.yaml", "--max-cost", "0.01"),
    ):
        assert not is_quick(catalog, compared, *words)[1], words


def test_a_changed_catalog_and_an_edited_output_are_compared_with_all_by_a_run(catalog, compared):
    changed(catalog, [*many(), "new,blue mug\n"])
    edit("p03-1x1.jpg")(catalog)
    assert not is_quick(catalog, compared, "submit", "jobs/shop.yaml")[1]


@settings(max_examples=settings.default.max_examples // 2, suppress_health_check=list(HealthCheck), derandomize=True)
@given(edits=EDITS)
def test_whatever_becomes_of_rows_a_run_takes_for_open_what_comparing_all_of_it_does(catalog, monkeypatch, edits):
    changed(catalog, edited(edits))
    assert decided(catalog, monkeypatch) == decided(catalog, monkeypatch, slowly=True)


# ------------------------------------------------------------------------------------------------- chance

OPS = {
    **{name: CHANGES[name] for name in ("base", "template", "table", "deleted output", "added output")},
    "edit": edit("mug/4x5.jpg"),
    "another row": append("jobs/products.csv", "cup,a cup\n"),
    "row": lambda project: project.write("jobs/products.csv", PRODUCTS.replace("sand", "green")),
    "no row": lambda project: project.write("jobs/products.csv", PRODUCTS.replace("mug,blue mug\n", "")),
    "order": lambda project: project.write("jobs/products.csv", "id,product\nvase,glass vase\nmug,blue mug\n"),
    "back": lambda project: project.write("jobs/products.csv", PRODUCTS),
    "touch": lambda project: (project.folder / "jobs/products.csv").touch(),
    "collect": lambda project: project("collect"),
    "run": lambda project: project(*RUN, "--yes"),
    "again": lambda project: project(*RUN, "--yes"),
}


@settings(max_examples=settings.default.max_examples // 5, suppress_health_check=list(HealthCheck), derandomize=True)
@given(ops=st.lists(st.sampled_from(sorted(OPS)), min_size=1, max_size=3))
def test_whatever_happens_the_quick_answer_is_the_slow_one(rested, monkeypatch, ops):
    for op in ops:
        if (rested.outputs / "shop/mug/4x5.jpg").is_file() or op != "edit":
            OPS[op](rested) if op != "deleted output" else shutil.rmtree(rested.outputs / "shop/vase", True)
        for words in (PLAN, (*PLAN, "--json")):
            assert rested(*words) == slowly(rested, monkeypatch, *words)
    rested(*RUN, "--yes")


def test_a_tree_is_another_one_after_any_change(tmp_path):
    for number in range(30):
        (tmp_path / f"{number % 3}/deep").mkdir(parents=True, exist_ok=True)
        (tmp_path / f"{number % 3}/deep/{number}").write_bytes(b"x")
    whole = seen.extent(str(tmp_path))
    assert whole == seen.extent(str(tmp_path), is_large=True)
    while seen.now_ns() <= whole.newest_ns:  # a clock tick
        pass
    for change in (
        lambda path: path.write_bytes(b"y"),
        lambda path: os.utime(path, ns=(1, 1)),
        lambda path: path.rename(path.with_name("other")),
        lambda path: path.with_name("other").unlink(),
    ):
        before = seen.extent(str(tmp_path))
        change(tmp_path / "1/deep/1")
        after = seen.extent(str(tmp_path), is_large=True)
        assert after == seen.extent(str(tmp_path)) != before
        while seen.now_ns() <= after.newest_ns:
            pass
    assert seen.extent(str(tmp_path / "none")) is None


def test_a_journal_of_an_older_version_is_not_at_rest(tmp_path):
    (tmp_path / "jobs").mkdir()
    assert journals.resting(tmp_path, [tmp_path / "jobs/shop.yaml"]) is None
