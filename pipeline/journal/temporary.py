"""What a command notes for itself in temporary tables of its connection: nobody else sees it, and it ends with it."""

from __future__ import annotations

import contextlib
import sqlite3
from typing import TYPE_CHECKING

from pipeline import crash

if TYPE_CHECKING:
    from collections.abc import Iterator


@contextlib.contextmanager
def filling(db: sqlite3.Connection) -> Iterator[None]:
    """Write to temporary tables, all of it or nothing; what is durable is written in `Journal.transaction()`."""
    db.execute("BEGIN")
    try:
        yield
    except BaseException:
        with contextlib.suppress(sqlite3.Error):  # SQLite may have rolled it back by itself
            db.execute("ROLLBACK")
        raise
    with crash.around("fill"):
        db.execute("COMMIT")
