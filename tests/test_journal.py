"""A journal that is not ours, not whole or not of here is refused with words; nothing of it is guessed at."""

from __future__ import annotations

import os
import shutil
import sqlite3
import tempfile
from pathlib import Path

import pytest

from pipeline import journal
from pipeline.errors import LocalError


@pytest.fixture
def made(tmp_path):
    """A journal that was used once."""
    with journal.opened(tmp_path / "outputs/.pipeline", outputs=tmp_path / "outputs") as one, one.transaction():
        one.job("shop", "jobs/shop.yaml")
    return tmp_path / "outputs/.pipeline/journal.db"


def test_what_a_transaction_wrote_is_there_again(made, tmp_path):
    with journal.opened(tmp_path / "outputs/.pipeline", outputs=tmp_path / "outputs") as one:
        assert one.jobs() == ["shop"]


def test_a_transaction_that_fails_wrote_nothing(made, tmp_path):
    with journal.opened(tmp_path / "outputs/.pipeline", outputs=tmp_path / "outputs") as one:
        with pytest.raises(RuntimeError), one.transaction():
            one.job("other", "x")
            raise RuntimeError
        assert one.jobs() == ["shop"]


def _newer(path):
    with sqlite3.connect(path) as db:
        db.execute("PRAGMA user_version = 99")
    db.close()


def _foreign(path):
    path.unlink()
    with sqlite3.connect(path) as db:
        db.execute("CREATE TABLE x (y)")
        db.execute("PRAGMA application_id = 7")
    db.close()


def _a_strangers(path):
    """SQLite puts no name on a database by itself."""
    path.unlink()
    with sqlite3.connect(path) as db:
        db.execute("CREATE TABLE x (y)")
    db.close()


def _nameless(path):
    with sqlite3.connect(path) as db:
        db.execute("PRAGMA application_id = 0")
    db.close()


def _truncated(path):
    path.write_bytes(path.read_bytes()[:20_000])


def _damaged(path):
    for name in ("-wal", "-shm"):
        path.with_name(path.name + name).unlink(missing_ok=True)
    data = bytearray(path.read_bytes())
    data[100:3000] = b"\xff" * 2900
    path.write_bytes(data)


@pytest.mark.parametrize(
    ("harm", "words"),
    [
        (_newer, "newer version"), (_foreign, "no journal of ours"), (_a_strangers, "no journal of ours"),
        (_nameless, "no journal of ours"), (_damaged, "damaged"), (_truncated, "damaged"),
    ],
)  # fmt: skip
def test_a_journal_that_cannot_be_trusted_is_refused(made, tmp_path, harm, words):
    harm(made)
    before = made.read_bytes()
    with (
        pytest.raises(LocalError, match=words) as caught,
        journal.opened(tmp_path / "outputs/.pipeline", outputs=tmp_path / "outputs"),
    ):
        pass
    assert caught.value.hint
    assert made.read_bytes() == before


def _linked(path):
    path.rename(path.with_name("elsewhere.db"))
    path.symlink_to(path.with_name("elsewhere.db"))


def _a_pipe(path):
    path.unlink()
    os.mkfifo(path)


@pytest.mark.parametrize("harm", [_linked, _a_pipe])
def test_what_is_no_file_of_its_own_is_no_journal(made, tmp_path, harm):
    harm(made)
    with (
        pytest.raises(LocalError, match="is no file") as caught,
        journal.opened(tmp_path / "outputs/.pipeline", outputs=tmp_path / "outputs"),
    ):
        pass
    assert "--state DIR" in caught.value.hint


def test_a_journal_that_cannot_be_written_is_refused_and_says_so(tmp_path_factory):
    with tempfile.TemporaryDirectory() as name:  # root's own temporary folders are nobody else's to look into
        top, state = Path(name), Path(name) / ".pipeline"
        top.chmod(0o755)
        with journal.opened(state, outputs=top):
            pass
        state.joinpath("journal.db").chmod(0o444)
        state.chmod(0o555)
        is_root = os.geteuid() == 0
        if is_root:
            os.seteuid(65534)  # root may write anything
        try:
            with pytest.raises(LocalError) as caught, journal.opened(state, outputs=top):
                pass
        finally:
            if is_root:
                os.seteuid(0)
            state.chmod(0o755)
    assert "journal.db cannot be used" in str(caught.value)
    assert "read-only" in caught.value.hint


def _damage_page_of(made, table):
    """Make nonsense of the first page of a table."""
    with sqlite3.connect(made) as db:
        db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        size = db.execute("PRAGMA page_size").fetchone()[0]
        page = db.execute("SELECT rootpage FROM sqlite_master WHERE name = ?", (table,)).fetchone()[0]
    db.close()
    data = bytearray(made.read_bytes())
    data[(page - 1) * size : page * size] = b"\xff" * size
    made.write_bytes(data)


def test_of_a_large_journal_what_decides_about_money_is_looked_at_each_time(made, tmp_path, monkeypatch):
    state, outputs = tmp_path / "outputs/.pipeline", tmp_path / "outputs"
    whole = made.read_bytes()
    _damage_page_of(made, "record")
    with pytest.raises(LocalError, match="damaged"), journal.opened(state, outputs=outputs):
        pass
    monkeypatch.setattr(journal, "_LOOKED_AT_WHOLE", 0)
    with journal.opened(state, outputs=outputs) as one:
        assert one.jobs() == ["shop"], "that takes as long as ever"
    with pytest.raises(LocalError, match="damaged"), journal.opened(state, outputs=outputs) as one:
        one.damage()  # what `doctor` asks
    made.write_bytes(whole)
    _damage_page_of(made, "batch")
    with pytest.raises(LocalError, match="damaged"), journal.opened(state, outputs=outputs):
        pass


def test_two_outputs_folders_cannot_share_one_state(made, tmp_path):
    state = made.parent.rename(tmp_path / "state")
    first, second = tmp_path / "outputs", tmp_path / "second"
    with journal.opened(state, outputs=first):
        pass
    (first / "shop").mkdir()
    (first / "shop/manifest.jsonl").write_text("")
    with (
        pytest.raises(LocalError, match="belongs to another outputs folder") as caught,
        journal.opened(state, outputs=second),
    ):
        pass
    assert "--state DIR" in caught.value.hint
    first.rename(second)
    with journal.opened(state, outputs=second) as moved:
        assert moved.jobs() == ["shop"]


def test_an_error_of_the_disk_in_a_transaction_is_told_as_that(made, tmp_path):
    with journal.opened(tmp_path / "outputs/.pipeline", outputs=tmp_path / "outputs") as one:
        one._db.execute("PRAGMA max_page_count = 1")  # SQLite's own way of a full disk
        with pytest.raises(LocalError, match="cannot be used") as caught, one.transaction():
            for number in range(2000):
                one.note("shop", "x", text="x" * 200, number=number)
        assert "disk full" in caught.value.hint
        with one.transaction():
            assert one._db.execute("SELECT count(*) FROM event").fetchone()[0] == 0


def test_a_copied_journal_is_refused_where_the_original_lives_on(made, tmp_path):
    shutil.copytree(tmp_path / "outputs", tmp_path / "copy")
    with (
        pytest.raises(LocalError, match="is a copy"),
        journal.opened(tmp_path / "copy/.pipeline", outputs=tmp_path / "copy"),
    ):
        pass
    shutil.rmtree(tmp_path / "outputs")
    with journal.opened(tmp_path / "copy/.pipeline", outputs=tmp_path / "copy") as moved:
        assert moved.jobs() == ["shop"], "a folder that was moved takes its journal along"


def test_commits_are_on_disk_before_they_are_believed(made, tmp_path):
    with journal.opened(tmp_path / "outputs/.pipeline", outputs=tmp_path / "outputs") as one:
        pragmas = {name: one._db.execute(f"PRAGMA {name}").fetchone()[0] for name in ("journal_mode", "synchronous")}
    assert pragmas == {"journal_mode": "wal", "synchronous": 2}


OLD = Path(__file__).with_name("data").joinpath("journal-1.sql")


def _shape(path):
    """Every table with its columns, and every index."""
    with sqlite3.connect(path) as db:
        names = [row[0] for row in db.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        tables = {name: sorted(row[1:4] for row in db.execute(f"PRAGMA table_info({name})")) for name in names}
        indexes = {row[0] for row in db.execute("SELECT sql FROM sqlite_master WHERE type = 'index' AND sql > ''")}
    db.close()
    return tables, indexes


def test_a_journal_of_the_first_version_is_brought_up_to_date_and_keeps_what_it_knows(made, tmp_path):
    expected = _shape(made)
    outputs = tmp_path / "old"
    path = outputs / ".pipeline/journal.db"
    path.parent.mkdir(parents=True)
    with sqlite3.connect(path) as db:
        db.executescript(OLD.read_text() + "PRAGMA application_id = 0x70697062; PRAGMA user_version = 1;")
        db.execute("INSERT INTO job (name, manifest) VALUES ('shop', 'jobs/shop.yaml')")
        db.execute(
            "INSERT INTO batch (job, service, model_id, name, chunk, attempt, requests, answer_bytes, cost, state,"
            " planned_at, ended_at) VALUES ('shop', 'gemini', 'm', 'n', 'c', 1, 2, 3, 4, 'unpacked', 5.0, 6.0)"
        )
    db.close()
    for _again in range(2):
        with journal.opened(path.parent, outputs=outputs) as one:
            assert one.jobs() == ["shop"]
            (batch,) = one.batches.all_of("shop")
            assert (batch.requests, batch.lane, batch.whole, batch.unpacked_at) == (2, "batch", 0, 6.0)
    assert _shape(path) == expected


def test_what_is_expected_of_a_batch_is_told_request_by_request(made, tmp_path):
    keys = [f"k{number:04}" for number in range(2500)]
    with journal.opened(tmp_path / "outputs/.pipeline", outputs=tmp_path / "outputs") as one:
        one.wanted.replace(())
        with one.transaction():
            batch = one.batches.add(
                job="shop", service="local", model_id="m", name="b", chunk="c", attempt=1, requests=1, answer_bytes=1,
                cost=1, state="live", planned_at=1.0,
            )  # fmt: skip
            one.batches.ask(batch, [(f"{key}~", key, f"f-{key}", 1) for key in keys])
            one.batches.settle_extra(batch, "nobody~", status="done", cost=None)
            one.batches.settle(batch, "k0000~", status="unsent")
            one.batches.settle(batch, "k0001~", status="done", reason=None)
        expected = one.expected
        assert expected.of(batch, "nobody~") is expected.of(batch, "other~") is None
        assert expected.of(batch, "k0000~") == journal.Expected("k0000", "f-k0000", None, None, None)
        assert expected.of(batch, "k0001~") == journal.Expected("k0001", "f-k0001", "done", None, None)
        assert expected.unanswered(batch) == 2499
        assert not expected.has_invalid(batch)
        with one.transaction():
            told = []
            for wire_key, key, fingerprint in expected.each_unanswered(batch):
                one.batches.settle(batch, wire_key, status="invalid", reason="")
                told.append((wire_key, key, fingerprint))
        assert told == [(f"{key}~", key, f"f-{key}") for key in keys if key != "k0001"]
        assert (expected.unanswered(batch), expected.has_invalid(batch)) == (0, True)


def test_what_is_classified_at_once_is_what_was_named_and_no_more(made, tmp_path):
    def wanted(key):
        return journal.WantedRequest(
            key=key, turn=1, follows="", fingerprint=f"f-{key}", wire_key=f"{key}~", model_id="m", aspect="1:1",
            size="1K", extras="", path=key, cost=1, upper_bound=1, answer_bytes=1, input_bytes=1, images="",
            max_age_s=None, line="{}",
        )  # fmt: skip

    with journal.opened(tmp_path / "outputs/.pipeline", outputs=tmp_path / "outputs") as one:
        one.wanted.replace(map(wanted, "abcdefg"))
        done = [journal.Classified(n, "done", "") for n in (1, 2, 4, 6)]
        one.wanted.classify([*done[:3], journal.Classified(5, "changed", "prompt", open=True), done[3]])
        assert one.wanted.counts() == {"done": 4, "changed": 1, "new": 2}
