"""All the service remembers: one SQLite file, the stored bytes beside it, and the ledger.

Nothing that matters lives in memory, so any number of processes may serve one folder, one after the other or side
by side, and any of them may be killed at any moment.
"""

from __future__ import annotations

import fcntl
import json
import os
import secrets
import sqlite3
import string
import threading
import time
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, BinaryIO

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

KEPT_S = 48 * 3600
"""How long a file is kept, and how long a batch may take."""

_SCHEMA = """
CREATE TABLE IF NOT EXISTS setting (
    name          TEXT PRIMARY KEY,       -- clock_offset_s, ledger_bytes
    value         REAL NOT NULL
) STRICT;
CREATE TABLE IF NOT EXISTS upload (       -- a resumable upload, from its start until its bytes are dropped
    id            TEXT PRIMARY KEY,       -- also the name of the bytes under stored/
    name          TEXT NOT NULL,          -- the file id chosen or given
    display_name  TEXT,
    mime          TEXT NOT NULL,
    size          INTEGER,                -- as announced
    received      INTEGER NOT NULL DEFAULT 0,
    finished      INTEGER NOT NULL DEFAULT 0,
    created_at    REAL NOT NULL
) STRICT;
CREATE TABLE IF NOT EXISTS file (
    seq           INTEGER PRIMARY KEY AUTOINCREMENT,
    id            TEXT NOT NULL UNIQUE,
    upload        TEXT NOT NULL,          -- whose bytes they are
    display_name  TEXT,
    mime          TEXT NOT NULL,
    size          INTEGER NOT NULL,
    sha256        TEXT NOT NULL,
    created_at    REAL NOT NULL,
    expires_at    REAL NOT NULL,
    faults        TEXT,                   -- the rule that struck it
    withheld      INTEGER NOT NULL DEFAULT 0    -- how often it is still shown as being processed
) STRICT;
CREATE TABLE IF NOT EXISTS batch (
    seq           INTEGER PRIMARY KEY AUTOINCREMENT,
    id            TEXT NOT NULL UNIQUE,   -- names batches/<id>.in and batches/<id>.out too
    model         TEXT NOT NULL,
    display_name  TEXT,
    priority      INTEGER,
    file          TEXT,                   -- the input file's name; none when the requests came inline
    pictures      TEXT NOT NULL,          -- how they are drawn
    total         INTEGER NOT NULL,
    created_at    REAL NOT NULL,
    starts_at     REAL NOT NULL,          -- PENDING until then
    ends_at       REAL NOT NULL,          -- RUNNING until then at least
    done          INTEGER NOT NULL DEFAULT 0,   -- answers written so far, good and bad
    failed        INTEGER NOT NULL DEFAULT 0,   -- the bad ones of these
    bytes         INTEGER NOT NULL DEFAULT 0,   -- how much of the .out file holds them
    rendered_at   REAL,                   -- every answer is written
    broken        TEXT,                   -- why the input cannot be worked on
    broken_at     REAL,
    cancelled_at  REAL,                   -- cancelled while PENDING
    stop_after    INTEGER,                -- cancelled while RUNNING: answers kept
    stopped       INTEGER NOT NULL DEFAULT 0,   -- the .out file holds no more than these
    faults        TEXT,                   -- the rules that struck it, and those its lines are held against
    withheld      INTEGER NOT NULL DEFAULT 0,   -- how many downloads are still refused
    listed_at     REAL,                   -- in no list until then
    looked        INTEGER NOT NULL DEFAULT 0    -- how often it was looked at since it ended
) STRICT;
CREATE TABLE IF NOT EXISTS fault (        -- how far a rehearsal has come
    rule          TEXT PRIMARY KEY,       -- its number in the file, and all it says
    seen          INTEGER NOT NULL,       -- calls, batches or files it was about
    struck        INTEGER NOT NULL
) STRICT;
"""

_ADDED = (  # to folders of before
    ("file", "faults", "TEXT"),
    ("file", "withheld", "INTEGER NOT NULL DEFAULT 0"),
    ("batch", "faults", "TEXT"),
    ("batch", "withheld", "INTEGER NOT NULL DEFAULT 0"),
    ("batch", "listed_at", "REAL"),
    ("batch", "looked", "INTEGER NOT NULL DEFAULT 0"),
)


class State:
    """The folder of one service, open in this process."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.stored = folder / "stored"
        self.batches = folder / "batches"
        self.ledger_path = folder / "ledger.jsonl"
        for place in (self.stored, self.batches):
            place.mkdir(parents=True, exist_ok=True)
        self._lock = threading.RLock()
        with (folder / "lock").open("ab") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)  # switching to WAL does not wait for others, so they wait for us
            self._db = sqlite3.connect(
                folder / "service.sqlite3", timeout=60, isolation_level=None, check_same_thread=False
            )
            self._db.row_factory = sqlite3.Row
            self._db.execute("PRAGMA journal_mode = WAL")
            self._db.execute("PRAGMA synchronous = NORMAL")  # a killed process loses nothing, a power cut may
            self._db.executescript(_SCHEMA)
            for table, column, kind in _ADDED:
                if column not in {row["name"] for row in self._db.execute(f"PRAGMA table_info({table})")}:
                    self._db.execute(f"ALTER TABLE {table} ADD COLUMN {column} {kind}")
        with self.writing() as db, _shared(self.ledger_path) as stream:
            stream.truncate(min(int(_setting(db, "ledger_bytes")), stream.seek(0, os.SEEK_END)))

    def close(self) -> None:
        with self._lock:
            self._db.close()

    @contextmanager
    def writing(self) -> Iterator[sqlite3.Connection]:
        """One transaction: all of it or nothing, and no other writer in between, in no other process either."""
        with self._lock:
            self._db.execute("BEGIN IMMEDIATE")
            try:
                yield self._db
            except BaseException:
                self._db.execute("ROLLBACK")
                raise
            self._db.execute("COMMIT")

    def rows(self, sql: str, *values: Any) -> list[sqlite3.Row]:
        with self._lock:
            return self._db.execute(sql, values).fetchall()

    def row(self, sql: str, *values: Any) -> sqlite3.Row | None:
        return next(iter(self.rows(sql, *values)), None)

    def now(self) -> float:
        """The service's clock: the machine's, and what it was put forward by."""
        with self._lock:
            return time.time() + _setting(self._db, "clock_offset_s")

    def advance(self, seconds: float) -> None:
        with self.writing() as db:
            _set(db, "clock_offset_s", _setting(db, "clock_offset_s") + seconds)

    def record(self, db: sqlite3.Connection, op: str, **told: Any) -> None:
        """Add an accepted call to the ledger, inside the transaction that does it.

        How much of the file counts is committed with the transaction, so a line whose transaction was lost to a
        kill is cut off by the next one.
        """
        now = time.time() + _setting(db, "clock_offset_s")
        entry = {"at": instant(now), "op": op, **{key: value for key, value in told.items() if value is not None}}
        with _shared(self.ledger_path) as stream:
            end = min(int(_setting(db, "ledger_bytes")), stream.seek(0, os.SEEK_END))
            stream.truncate(end)
            stream.seek(end)
            stream.write(json.dumps(entry, ensure_ascii=False).encode() + b"\n")
            stream.flush()
            os.fsync(stream.fileno())
            _set(db, "ledger_bytes", stream.tell())

    def ledger(self) -> list[dict[str, Any]]:
        """Every accepted call that changed something, in order."""
        with self._lock:
            counted = int(_setting(self._db, "ledger_bytes"))
        with _shared(self.ledger_path) as stream:
            return [json.loads(line) for line in stream.read(counted).splitlines()]


def instant(at: float) -> str:
    """A time as the service writes it, with nanoseconds."""
    nanoseconds = int(at * 1e6) * 1000 + int(at * 1e9) % 1000
    seconds, rest = divmod(nanoseconds, 1_000_000_000)
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%S}.{rest:09d}Z"


def fresh_id(length: int) -> str:
    """An id nobody has guessed: lower-case letters and digits."""
    return "".join(secrets.choice(string.ascii_lowercase + string.digits) for _ in range(length))


def _shared(path: Path) -> BinaryIO:
    """A file open for reading and writing wherever, made if it is not there."""
    return os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT, 0o666), "r+b")


def _setting(db: sqlite3.Connection, name: str) -> float:
    row = db.execute("SELECT value FROM setting WHERE name = ?", (name,)).fetchone()
    return float(row["value"]) if row else 0.0


def _set(db: sqlite3.Connection, name: str, value: float) -> None:
    db.execute(
        "INSERT INTO setting VALUES (?, ?) ON CONFLICT (name) DO UPDATE SET value = excluded.value", (name, value)
    )
