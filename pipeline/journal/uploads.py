"""Which reference images are at the service, and until when."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterable


@dataclass(frozen=True, slots=True)
class Upload:
    """One row of the journal's `upload` table; see journal.sql for each field."""

    service: str
    sha256: str
    name: str
    uri: str
    mime: str
    bytes: int
    expires_at: float


class Uploads:
    """The `upload` table. Writes belong into a transaction of the journal."""

    def __init__(self, db: sqlite3.Connection) -> None:
        self._db = db

    def get(self, service: str, sha256: str) -> Upload | None:
        row = self._db.execute("SELECT * FROM upload WHERE service = ? AND sha256 = ?", (service, sha256)).fetchone()
        return Upload(**row) if row else None

    def put(self, uploads: Iterable[Upload]) -> None:
        """Write down where images are; what was known of them before is forgotten."""
        self._db.executemany(
            "INSERT OR REPLACE INTO upload VALUES (?, ?, ?, ?, ?, ?, ?)",
            ((one.service, one.sha256, one.name, one.uri, one.mime, one.bytes, one.expires_at) for one in uploads),
        )

    def alive(self, service: str, now: float) -> list[Upload]:
        """Those that are still there, by the service's clock."""
        rows = self._db.execute(
            "SELECT * FROM upload WHERE service = ? AND expires_at > ? ORDER BY name", (service, now)
        )
        return [Upload(**row) for row in rows]

    def forget(self, upload: Upload) -> None:
        """It is not there any more."""
        self._db.execute(
            "DELETE FROM upload WHERE service = ? AND sha256 = ? AND name = ?",
            (upload.service, upload.sha256, upload.name),
        )
