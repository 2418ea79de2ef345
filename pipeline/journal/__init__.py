"""The durable memory of an outputs folder: SQLite, and the only package that speaks SQL.

`Journal.batches` knows what was sent, `Journal.records` what became of every request, `Journal.uploads` which
reference images are at the service, `Journal.wanted` what the job asks for now, `Journal.others` what of that is done
and stays as it is, `Journal.outside` what a command is not about, `Journal.spending` what it all came to,
`Journal.leftovers` what is of no more use, `Journal.firsts` which models have not delivered yet, `Journal.late` what
else a request costs when its batch does not come home, `Journal.rests` which jobs have nothing to do,
`Journal.layouts` how their output manifests lie on the disk, `Journal.expected` what the answer of a batch is to bring.
They share one connection; whatever must become true together is written in one `Journal.transaction()`, which is on
disk when the block ends.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import sqlite3
import stat
import time
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline import crash
from pipeline.durable import Folder, locked, sync
from pipeline.errors import LocalError, UnfinishedError
from pipeline.journal.asks import Candidate, Classified, Comparison, Link, WantedRequest
from pipeline.journal.batches import PREFIX, Batch, Batches
from pipeline.journal.expected import Expectations, Expected
from pipeline.journal.firsts import Firsts
from pipeline.journal.late import Late
from pipeline.journal.layouts import Layouts
from pipeline.journal.leftovers import Leftovers
from pipeline.journal.others import SCHEMA as OTHERS
from pipeline.journal.others import Known, Others
from pipeline.journal.outside import SCHEMA as OUTSIDE
from pipeline.journal.outside import Outside
from pipeline.journal.records import Record, Records
from pipeline.journal.rest import Resting, Rests
from pipeline.journal.spending import Spending, Spent
from pipeline.journal.uploads import Upload, Uploads
from pipeline.journal.wanted import Wanted

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

__all__ = [
    "Batch", "Candidate", "Classified", "Comparison", "Expected", "Journal", "Known", "Link", "Record", "Resting",
    "Spent", "Upload", "WantedRequest", "copied", "looked_at", "opened", "resting",
]  # fmt: skip

_APPLICATION_ID = 0x70697062  # "pipb"
_VERSION = 5
_NAME = "journal.db"
_MAKING = "locks/.journal.lock"
_PATIENCE_S = 10.0
"""How long another process's transaction is waited for."""
_FULL = 2
_LOOKED_AT_WHOLE = 32 << 20
_SMALL = ("workspace", "job", "batch", "upload")
_looked_at: set[tuple[int, ...]] = set()
"""The journals that were found whole by this process, as they were then: device, inode, bytes, time of change."""


class Journal:
    """An open journal. Use `opened`."""

    def __init__(self, db: sqlite3.Connection, workspace: str) -> None:
        self._db = db
        self.workspace = workspace
        self.others = Others(db)
        self.batches = Batches(db, self.others)
        self.records = Records(db, self.others)
        self.uploads = Uploads(db)
        self.wanted = Wanted(db, self.others)
        self.late = Late(db)
        self.outside = Outside(db)
        self.spending = Spending(db)
        self.leftovers = Leftovers(db)
        self.firsts = Firsts(db)
        self.layouts = Layouts(db)
        self.rests = Rests(db, self.others)
        self.expected = Expectations(db)

    @contextlib.contextmanager
    def transaction(self) -> Iterator[None]:
        """Make everything written in the block true at once, and durable; nothing of it when it fails."""
        try:
            self._db.execute("BEGIN IMMEDIATE")
        except sqlite3.Error as error:
            raise _meaning(error) from error
        try:
            yield
        except BaseException as error:
            with contextlib.suppress(sqlite3.Error):  # SQLite may have rolled it back by itself
                self._db.execute("ROLLBACK")
            if isinstance(error, sqlite3.Error):
                raise _meaning(error) from error
            raise
        try:
            with crash.around("commit"):
                self._db.execute("COMMIT")
        except sqlite3.Error as error:
            with contextlib.suppress(sqlite3.Error):
                self._db.execute("ROLLBACK")
            raise _meaning(error) from error

    @property
    def writes(self) -> int:
        """How many rows were written so far by who has this journal open, what is noted for the call included."""
        return self._db.total_changes

    def is_from_here(self, batch: Batch) -> bool:
        """Whether a batch was sent from this outputs folder; another's is read, and neither cancelled nor deleted."""
        return batch.lane == "interactive" or batch.name.startswith(f"{PREFIX}/{self.workspace}/")

    def note(self, job: str, kind: str, **detail: object) -> None:
        """Append to the history; inside a transaction."""
        self._db.execute(
            "INSERT INTO event (at, job, kind, detail) VALUES (?, ?, ?, ?)",
            (time.time(), job, kind, json.dumps(detail, sort_keys=True, default=str)),
        )

    def last_create(self, service: str) -> tuple[float, str] | None:
        """When a batch was created last, or was to be, and what the service made of that, in a verdict's words."""
        row = self._db.execute(
            "SELECT at, detail ->> '$.verdict' FROM event JOIN batch ON batch.name = detail ->> '$.batch'"
            " WHERE kind = 'create' AND service = ? ORDER BY event.id DESC LIMIT 1",
            (service,),
        ).fetchone()
        return (row[0], str(row[1])) if row else None

    def damage(self) -> list[str]:
        """What a look at every page and index finds wrong; nothing in a journal that is whole. Takes its time."""
        found = [str(row[0]) for row in self._db.execute("PRAGMA integrity_check(5)")]
        loose = self._db.execute("PRAGMA foreign_key_check").fetchall()
        return [
            *(words for words in found if words != "ok"),
            *(f"{row[0]} names a {row[2]} not there" for row in loose),
        ]

    def job(self, name: str, manifest: str) -> tuple[str | None, float | None]:
        """Make the job known; return what was published for it last (a sha256) and when its census was."""
        self._db.execute(
            "INSERT INTO job (name, manifest) VALUES (?, ?)"
            " ON CONFLICT (name) DO UPDATE SET manifest = excluded.manifest",
            (name, manifest),
        )
        row = self._db.execute("SELECT published, census_at FROM job WHERE name = ?", (name,)).fetchone()
        return row["published"], row["census_at"]

    def manifest_of(self, name: str) -> str | None:
        """The manifest that a job was run from last."""
        row = self._db.execute("SELECT manifest FROM job WHERE name = ?", (name,)).fetchone()
        return row["manifest"] if row else None

    def jobs(self) -> list[str]:
        """The names of all jobs that were ever run here."""
        return [row["name"] for row in self._db.execute("SELECT name FROM job ORDER BY name")]

    def published(self, name: str) -> str | None:
        """The sha256 of the output manifest of a job that was written or read last; `None` for none."""
        row = self._db.execute("SELECT published FROM job WHERE name = ?", (name,)).fetchone()
        return row["published"] if row else None

    def was_counted(self, name: str) -> bool:
        """Whether the service was ever asked for batches of a job that this journal does not know."""
        row = self._db.execute("SELECT census_at FROM job WHERE name = ?", (name,)).fetchone()
        return row is not None and row["census_at"] is not None

    def set_published(self, name: str, sha256: str | None) -> None:
        self._db.execute("UPDATE job SET published = ? WHERE name = ?", (sha256, name))

    def set_census(self, name: str, at: float) -> None:
        self._db.execute("UPDATE job SET census_at = ? WHERE name = ?", (at, name))


@contextlib.contextmanager
def opened(state: Path, *, outputs: Path) -> Iterator[Journal]:
    """Open the journal in the folder `state`, creating it when it is not there.

    Raises `LocalError` when it is damaged, was made by another program or a newer version, or belongs to
    another outputs folder.
    """
    folder = Folder(state).make()
    path = folder.path / _NAME
    _refuse_what_is_no_file(path)
    db = None
    try:
        # Switching a file to WAL waits for nobody, so the processes that may have to make one wait for each other.
        with contextlib.nullcontext() if _is_wal(path) else locked(folder, _MAKING, what="the journal", waits=True):
            db = sqlite3.connect(path, isolation_level=None, timeout=_PATIENCE_S)
            db.row_factory = sqlite3.Row
            workspace = _prepare(db, path, outputs)
        _look_at(db, path)
        yield Journal(db, workspace)
    except sqlite3.DatabaseError as error:
        raise _meaning(error, path) from error
    finally:
        if db is not None:
            with crash.around("close"):
                db.close()


@contextlib.contextmanager
def copied(state: Path, *, outputs: Path) -> Iterator[Journal]:
    """A private copy of the journal in the folder `state`, for looking: what is changed in it is forgotten.

    Nothing is created or written where there is no journal, or the one there is at rest. Raises as `opened` does.
    """
    path = Path(os.path.realpath(state)) / _NAME
    _refuse_what_is_no_file(path)
    copy = sqlite3.connect("", isolation_level=None)  # in memory as long as it is small
    copy.row_factory = sqlite3.Row
    try:
        if path.exists():
            _copy(path, copy)
        version = _version(copy, path)
        yield Journal(copy, _set_up(copy, path, outputs, version))
    except sqlite3.DatabaseError as error:
        raise _meaning(error, path) from error
    finally:
        copy.close()


@contextlib.contextmanager
def looked_at(state: Path, *, outputs: Path) -> Iterator[Journal]:
    """The journal in the folder `state` itself, for looking at some of it: what is written to it fails.

    Left without a trace as `copied` leaves it. Raises `LocalError` where it is not one of this version, or was written
    to meanwhile; `sqlite3.Error` never.
    """
    path = Path(os.path.realpath(state)) / _NAME
    _refuse_what_is_no_file(path)
    before = _at_rest(path)
    uri = f"{path.as_uri()}?mode=ro{'&immutable=1' if before else ''}"
    try:
        with contextlib.closing(sqlite3.connect(uri, uri=True, isolation_level=None, timeout=_PATIENCE_S)) as db:
            db.row_factory = sqlite3.Row
            version = _version(db, path)
            if version < _VERSION:
                raise LocalError(f"{path} was written by an older version", hint="it is brought up to date by a run")
            yield Journal(db, _set_up(db, path, outputs, version, keeps="MEMORY"))
    except sqlite3.DatabaseError as error:
        raise _meaning(error, path) from error
    if before and _at_rest(path) != before:
        raise LocalError(f"{path} was written to meanwhile", hint="run again")


def resting(state: Path, manifests: Sequence[Path]) -> list[Resting] | None:
    """The jobs of these manifests, where all of them are at rest; `None` where one is not, or there is any doubt.

    The journal in the folder `state` is only read, and left without a trace as `copied` leaves it.
    """
    path = Path(os.path.realpath(state)) / _NAME
    found: list[Resting | None] = []

    def read(db: sqlite3.Connection) -> None:
        db.execute("PRAGMA trusted_schema = OFF")
        is_ours = _version(db, path) == _VERSION
        _look_at(db, path)
        found[:] = [Rests(db, Others(db)).of(str(manifest)) if is_ours else None for manifest in manifests]

    try:
        _refuse_what_is_no_file(path)
        if not path.exists():
            return None
        _read(path, read)
    except (sqlite3.Error, OSError, LocalError):
        return None
    return [one for one in found if one] if all(found) else None


def _copy(path: Path, db: sqlite3.Connection) -> None:
    """Copy a journal as it is at one moment. One that nobody is writing to is read without a trace."""
    _read(path, lambda source: source.backup(db))


def _read(path: Path, reading: Callable[[sqlite3.Connection], None]) -> None:
    """Read a journal as it is at one moment; without a trace where nobody is writing to it, if need be once more."""
    before = _at_rest(path)
    for is_at_rest in (True, False) if before else (False,):
        options = "mode=ro&immutable=1" if is_at_rest else "mode=ro"
        uri = f"{path.as_uri()}?{options}"
        with contextlib.closing(sqlite3.connect(uri, uri=True, isolation_level=None, timeout=10.0)) as source:
            reading(source)
        if not is_at_rest or _at_rest(path) == before:
            return


def _at_rest(path: Path) -> tuple[int, int] | None:
    """Size and mtime of a journal of which all is in its one file; `None` for one that has more beside it."""
    log = path.with_name(f"{path.name}-wal")
    if log.exists() and log.stat().st_size:
        return None
    status = path.stat()
    return status.st_size, status.st_mtime_ns


def is_there(state: Path) -> bool:
    """Whether the folder holds a journal."""
    return (state / _NAME).is_file()


def _refuse_what_is_no_file(path: Path) -> None:
    """A link could lead anywhere, and to what is a pipe a process would wait for ever."""
    try:
        mode = path.lstat().st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISREG(mode):
        raise LocalError(f"{path} is no file", hint="move it away; for a journal elsewhere there is `--state DIR`")


def _is_wal(path: Path) -> bool:
    """Whether a file is an SQLite database that was switched to WAL, by its header."""
    try:
        with path.open("rb") as stream:
            return stream.read(20)[18:] == b"\2\2"
    except FileNotFoundError:
        return False
    except OSError:  # SQLite has the words for it
        return True


def _prepare(db: sqlite3.Connection, path: Path, outputs: Path) -> str:
    """Make sure that this is our journal, that it keeps what it is given, and is of this version; whose it is."""
    version = _version(db, path)
    # The answer is fetched: an error while switching is reported there and nowhere else.
    with crash.around("wal"):
        mode = db.execute("PRAGMA journal_mode = WAL").fetchone()[0]
    if mode != "wal":
        raise LocalError(
            f"{path} is on a file system that SQLite cannot share memory on",
            hint="put the state on a local disk with `--state DIR`",
        )
    db.execute("PRAGMA synchronous = FULL")  # a batch costs money; a lost row pays for it twice
    if db.execute("PRAGMA synchronous").fetchone()[0] != _FULL:
        raise LocalError(f"SQLite does not write {path} through to the disk", hint="use another build of Python")
    workspace = _set_up(db, path, outputs, version)
    if version < _VERSION:
        sync(path.parent)
    here = os.path.realpath(outputs)
    if workspace != _identity_of(here):  # the folder was moved: a lost journal could not tell any more
        _keep_identity(path.parent, workspace, here)
    return workspace


def _set_up(db: sqlite3.Connection, path: Path, outputs: Path, version: int, *, keeps: str = "FILE") -> str:
    """Settings of a connection, and the tables as this version has them; returns whose journal it is."""
    db.execute("PRAGMA foreign_keys = ON")
    db.execute("PRAGMA trusted_schema = OFF")
    db.execute(f"PRAGMA temp_store = {keeps}")  # what a job wants may be larger than memory
    for statement in (OUTSIDE, *_statements(OTHERS)):
        db.execute(statement)
    if version < _VERSION:
        _bring_up(db)
    return _workspace(db, outputs, path)


def _version(db: sqlite3.Connection, path: Path) -> int:
    """The version of a journal of ours; 0 for one that is yet to be made."""
    db.execute("BEGIN")  # all of it as it is at one moment: another process may just be making it
    application, version = (db.execute(f"PRAGMA {name}").fetchone()[0] for name in ("application_id", "user_version"))
    tables = db.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
    db.execute("ROLLBACK")
    if (application, version, tables) == (0, 0, 0):
        return 0
    if application != _APPLICATION_ID or version < 1:
        raise LocalError(f"{path} is no journal of ours", hint="move that file away, then run again")
    if version > _VERSION:
        raise LocalError(f"{path} was written by a newer version", hint="update the pipeline; nothing was changed")
    return int(version)


def _look_at(db: sqlite3.Connection, path: Path) -> None:
    """Raise `LocalError` where a journal is damaged, as far as a moment's look tells; `Journal.damage` takes its time.

    All of a small one is looked at. Of a large one it is what decides about money, which is small in any: the rest is
    read page by page, and told of when its turn comes.
    """
    status = path.stat()
    seen = (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns)
    if seen in _looked_at:  # each job has a connection of its own
        return
    whole = status.st_size <= _LOOKED_AT_WHOLE
    for check in ("quick_check(1)",) if whole else (f"quick_check({table})" for table in _SMALL):
        if db.execute(f"PRAGMA {check}").fetchone()[0] != "ok":
            raise _damage(f"the journal {path}", None)
    _looked_at.add(seen)


def _bring_up(db: sqlite3.Connection) -> None:
    """Make the tables of a new journal, or bring those of an older version up to date: all of it, or nothing."""
    db.execute("BEGIN IMMEDIATE")
    try:
        version = db.execute("PRAGMA user_version").fetchone()[0]  # another process may have been faster
        scripts = ["journal.sql"] if not version else [f"journal-{n}.sql" for n in range(version + 1, _VERSION + 1)]
        for script in scripts:
            for statement in _statements(
                resources.files("pipeline.journal").joinpath(script).read_text(encoding="utf-8")
            ):
                db.execute(statement)
        db.execute(f"PRAGMA application_id = {_APPLICATION_ID}")
        db.execute(f"PRAGMA user_version = {_VERSION}")
        with crash.around("schema"):
            db.execute("COMMIT")
    except BaseException:
        with contextlib.suppress(sqlite3.Error):
            db.execute("ROLLBACK")
        raise


def _statements(script: str) -> Iterator[str]:
    """The statements of a script; `executescript` would commit what is open before it begins."""
    statement = ""
    for line in script.splitlines(keepends=True):
        statement += line
        if sqlite3.complete_statement(statement):
            yield statement
            statement = ""


def _workspace(db: sqlite3.Connection, outputs: Path, path: Path) -> str:
    """The identity of the outputs folder that a journal was made for; raises `LocalError` where that is another one."""
    here = os.path.realpath(outputs)
    if (row := db.execute("SELECT id, folder FROM workspace").fetchone()) is None:
        identity = _kept_identity(path.parent, here) or _identity_of(here)
        with crash.around("workspace"):
            db.execute(
                "INSERT INTO workspace (id, folder, made_at) SELECT ?, ?, ? WHERE NOT EXISTS (SELECT 1 FROM workspace)",
                (identity, here, time.time()),
            )
        row = db.execute("SELECT id, folder FROM workspace").fetchone()
    if row["folder"] != here:
        _refuse_anothers(db, row["folder"], path)
    return str(row["id"])


def _refuse_anothers(db: sqlite3.Connection, folder: str, path: Path) -> None:
    """Raise where the outputs folder that a journal was made for lives on; one that was moved takes it along."""
    if _has_journal(folder):
        raise LocalError(
            f"{path} is a copy: it belongs to {folder}, which still has its own",
            hint="delete the copied .pipeline folder here; the output manifests are enough to go on",
        )
    jobs = [row["name"] for row in db.execute("SELECT name FROM job")]
    if any(Path(folder).joinpath(job, "manifest.jsonl").exists() for job in jobs):
        raise LocalError(
            f"{path} belongs to another outputs folder, {folder}, and the images of its jobs are there",
            hint="give each outputs folder a `--state DIR` of its own",
        )


def _identity_of(here: str) -> str:
    """Made from the place, not by chance: a journal that was lost finds its own batches again."""
    return hashlib.sha256(os.fsencode(here)).hexdigest()[:8]


def _has_journal(outputs: str) -> bool:
    return Path(outputs).joinpath(".pipeline", _NAME).exists()


_IDENTITY = "workspace.json"
"""Beside the journal: by its name the service's batches are found again when that one is lost, and was moved before."""


def _kept_identity(state: Path, here: str) -> str | None:
    """The identity that a lost journal had; `None` where none was kept, or it is that of another folder."""
    try:
        with Folder(state).opened(_IDENTITY) as stream:
            told = json.loads(stream.read(10_000))
        identity, folder = str(told["id"]), str(told["folder"])
    except (OSError, ValueError, LookupError, TypeError):
        return None
    is_ours = folder == here or not _has_journal(folder)
    return identity if is_ours and re.fullmatch(r"[0-9a-f]{8}", identity) else None


def _keep_identity(state: Path, identity: str, here: str) -> None:
    text = json.dumps({"id": identity, "folder": here}).encode() + b"\n"
    folder = Folder(state)
    if folder.sha256(_IDENTITY) != hashlib.sha256(text).hexdigest():
        with folder.replacing(_IDENTITY) as stream:
            stream.write(text)


_OF_THE_DISK = frozenset(
    {sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_PERM}
)


def _meaning(error: sqlite3.Error, path: Path | None = None) -> Exception:
    """What SQLite's trouble is for the user; a statement of ours that is wrong stays the bug it is."""
    where = f"the journal {path}" if path else "the journal"
    code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR) & 0xFF
    if code in {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB}:
        return _damage(where, error)
    if code in _OF_THE_DISK:
        return LocalError(
            f"{where} cannot be used: {error}",
            hint="is the disk full, or the folder read-only? it is whole as it was: mend that, then run again",
        )
    if code in {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_PROTOCOL}:
        return UnfinishedError(f"{where} is busy", hint="another run is writing to it; try again in a moment")
    return error


def _damage(where: object, error: sqlite3.Error | None) -> LocalError:
    reason = f": {error}" if error is not None else ""
    return LocalError(
        f"{where} is damaged{reason}",
        hint="move it away and run again: it is rebuilt from the output manifests and from what the service holds",
    )
