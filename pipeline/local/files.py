"""The File API: resumable uploads and file records. The results of batches are files too, but theirs."""

from __future__ import annotations

import base64
import hashlib
import os
import re
from typing import TYPE_CHECKING, Any

from . import fates
from .calls import Reply, page_token
from .refusals import RefusalError, error_info, invalid, no_such_file
from .state import KEPT_S, fresh_id, instant
from .validation import checked

if TYPE_CHECKING:
    import sqlite3

    from .calls import Call, Service
    from .state import State

_URI = "https://generativelanguage.googleapis.com/v1beta/files/"
_FILE_BYTES = 2 * 1024**3
_PROJECT_BYTES = 20 * 1024**3
# The results of batches count as well, until their batch is deleted.
_HELD = (
    "SELECT (SELECT coalesce(sum(size), 0) FROM file WHERE expires_at > ?)"
    " + (SELECT coalesce(sum(bytes), 0) FROM batch WHERE file IS NOT NULL)"
)
_GCS = re.compile(r"gs://[^/]+/.+")
_LONGEST_ID = 40
_ID = re.compile(r"[a-z0-9]([a-z0-9-]*[a-z0-9])?")


def start(service: Service, call: Call) -> Reply:
    """Begin a resumable upload."""
    if call.headers.get("x-goog-upload-protocol") != "resumable" or (
        call.headers.get("x-goog-upload-command", "").strip() != "start"
    ):
        raise invalid("Only resumable uploads are served: X-Goog-Upload-Protocol: resumable, command start.")
    file = checked("CreateFileRequest", call.json()).get("file", {})
    mime = call.headers.get("x-goog-upload-header-content-type") or file.get("mimeType")
    if not mime:
        raise invalid("The MIME type of the file is missing.")
    size = _announced(call.headers.get("x-goog-upload-header-content-length"), file)
    name = file.get("name", "").removeprefix("files/")
    _check_id(name)
    state = service.state
    sweep(state)
    upload = fresh_id(40)
    with state.writing() as db:
        _check_room(state, db, name, size or 0)
        db.execute(
            "INSERT INTO upload (id, name, display_name, mime, size, created_at) VALUES (?, ?, ?, ?, ?, ?)",
            (upload, name or fresh_id(12), file.get("displayName"), mime, size, state.now()),
        )
    url = f"http://{call.host}/upload/{call.version}/files?upload_id={upload}&upload_protocol=resumable"
    return Reply({}, headers={"X-Goog-Upload-URL": url, "X-Goog-Upload-Status": "active"})


def transfer(service: Service, call: Call) -> Reply:
    """Take one chunk of an upload, and make it a file with the last one."""
    try:
        return _transfer(service, call)
    except RefusalError as refusal:
        # "final" because a client takes the lack of a status for a lost reply, and sends again.
        return Reply(refusal.as_reply(), refusal.http_code, {"X-Goog-Upload-Status": "final"})


def get(service: Service, _call: Call, file_id: str) -> Reply:
    state = service.state
    row = _found(state, file_id)
    if row["withheld"]:
        with state.writing() as db:
            db.execute("UPDATE file SET withheld = withheld - 1 WHERE seq = ? AND withheld", (row["seq"],))
    return Reply(_shown(row))


def listed(service: Service, call: Call) -> Reply:
    size, below = call.page()
    rows = service.state.rows(
        "SELECT * FROM file WHERE expires_at > ? AND (? IS NULL OR seq < ?) ORDER BY seq DESC LIMIT ?",
        *(service.state.now(), below, below, size + 1),
    )
    body: dict[str, Any] = {"files": [_shown(row) for row in rows[:size]]} if rows else {}
    if len(rows) > size:
        body["nextPageToken"] = page_token(rows[size - 1]["seq"])
    return Reply(body)


def register(_service: Service, call: Call) -> Reply:
    """Refuse objects of Google Cloud Storage: without OAuth as the service does, with it because none is in reach."""
    uris = checked("RegisterFilesRequest", call.json()).get("uris", [])
    if not uris or not all(map(_GCS.fullmatch, uris)):
        raise invalid(f"Invalid or unsupported file uri: {next((uri for uri in uris if not _GCS.fullmatch(uri)), '')}")
    if not call.headers.get("authorization", "").startswith("Bearer "):
        raise RefusalError(
            "UNAUTHENTICATED",
            "API keys are not supported by this API. Expected OAuth2 access token or other authentication "
            "credentials that assert a principal.",
            details=[error_info("CREDENTIALS_MISSING")],
        )
    raise RefusalError("PERMISSION_DENIED", f"The local service reaches no bucket, and so has no access to {uris[0]}.")


def delete(service: Service, _call: Call, file_id: str) -> Reply:
    state = service.state
    row = _found(state, file_id)
    with state.writing() as db:
        db.execute("DELETE FROM file WHERE seq = ?", (row["seq"],))
        state.record(db, "files.delete", name=f"files/{file_id}", displayName=row["display_name"])
    (state.stored / row["upload"]).unlink(missing_ok=True)
    return Reply()


def stored(state: State, name: str, at: float | None = None) -> sqlite3.Row:
    """The file of that name or URI, if it is there and not expired, now or at another time."""
    match = re.fullmatch(r"(?:https://[^/]+/v1\w*/)?files/([^/?#]+)", name)
    if match is None:
        raise invalid(f"Invalid or unsupported file uri: {name}")
    row = _found(state, match[1], at)
    if fates.file_state(row) != "ACTIVE":
        raise RefusalError(
            "FAILED_PRECONDITION", f"The File {row['id']} is not in an ACTIVE state and usage is not allowed."
        )
    return row


def content(state: State, uri: str, at: float | None = None) -> tuple[str, bytes]:
    """The MIME type and the bytes of a file a request points to."""
    row = stored(state, uri, at)
    return row["mime"], (state.stored / row["upload"]).read_bytes()


def sweep(state: State) -> None:
    """Drop what has expired: the bytes of files and of uploads nobody finished.

    Files stay while a batch is being drawn that may show them, however late it is.
    """
    now = state.now()
    if state.row("SELECT 1 FROM batch WHERE rendered_at IS NULL AND broken IS NULL AND cancelled_at IS NULL"):
        return
    with state.writing() as db:
        db.execute("DELETE FROM file WHERE expires_at <= ?", (now,))
        db.execute("DELETE FROM upload WHERE created_at <= ?", (now - KEPT_S,))
        kept = {row[0] for row in db.execute("SELECT id FROM upload WHERE NOT finished UNION SELECT upload FROM file")}
        for path in state.stored.iterdir():
            if path.name not in kept:
                path.unlink(missing_ok=True)


def _announced(header: str | None, file: dict[str, Any]) -> int | None:
    try:
        size: int | None = int(header) if header else file.get("sizeBytes")
    except ValueError:
        raise invalid("X-Goog-Upload-Header-Content-Length is not a number.") from None
    if size is not None and not 0 <= size <= _FILE_BYTES:
        raise invalid(f"File size {size} exceeds the limit of {_FILE_BYTES} bytes per file.")
    return size


def _check_id(file_id: str) -> None:
    if len(file_id) > _LONGEST_ID:
        raise invalid(f"File ID {file_id} cannot be more than {_LONGEST_ID} characters.")
    if file_id and not _ID.fullmatch(file_id):
        raise invalid(
            f"File ID {file_id} may only hold lowercase alphanumeric characters or dashes (-), "
            "and cannot begin or end with a dash."
        )


def _check_room(state: State, db: sqlite3.Connection, file_id: str, size: int) -> None:
    now = state.now()
    if db.execute("SELECT 1 FROM file WHERE id = ? AND expires_at > ?", (file_id, now)).fetchone():
        raise RefusalError("ALREADY_EXISTS", f"File {file_id} already exists.")
    (held,) = db.execute(_HELD, (now,)).fetchone()
    if held + size > _PROJECT_BYTES:
        raise RefusalError("RESOURCE_EXHAUSTED", f"File storage is full: the limit is {_PROJECT_BYTES} bytes.")


def _transfer(service: Service, call: Call) -> Reply:
    state = service.state
    row = state.row("SELECT * FROM upload WHERE id = ?", call.query.get("upload_id", ""))
    if row is None:
        raise RefusalError("NOT_FOUND", "Upload not found.")
    commands = {word.strip() for word in call.headers.get("x-goog-upload-command", "").split(",")}
    if not commands or not commands <= {"upload", "finalize", "query"}:
        raise invalid("X-Goog-Upload-Command must be upload, or upload, finalize.")
    received = row["received"]
    if row["finished"]:
        return _finished(state, row)
    if "upload" in commands:
        received = _receive(state, call, row)
    if "finalize" in commands:
        return _finish(service, row, received)
    return Reply({}, headers={"X-Goog-Upload-Status": "active", "X-Goog-Upload-Size-Received": str(received)})


def _receive(state: State, call: Call, row: sqlite3.Row) -> int:
    """Write a chunk where it belongs; one sent before is read and let go."""
    try:
        offset = int(call.headers.get("x-goog-upload-offset", ""))
    except ValueError:
        raise invalid("X-Goog-Upload-Offset is not a number.") from None
    received: int = row["received"]
    end = offset + call.length
    if 0 <= offset < received and end <= received:
        return received
    if offset != received:
        raise invalid(f"Upload offset {offset} does not match the {received} bytes received.")
    if end > (_FILE_BYTES if row["size"] is None else row["size"]):
        raise invalid(f"The upload holds more than the {row['size']} bytes announced.")
    with os.fdopen(os.open(state.stored / row["id"], os.O_WRONLY | os.O_CREAT, 0o666), "wb") as stream:
        stream.truncate(offset)  # a chunk cut short may have left more
        stream.seek(offset)
        for piece in call.pieces():
            stream.write(piece)
        stream.flush()
        os.fsync(stream.fileno())
    with state.writing() as db:
        db.execute("UPDATE upload SET received = ? WHERE id = ?", (end, row["id"]))
    return end


def _finish(service: Service, row: sqlite3.Row, received: int) -> Reply:
    state = service.state
    if row["size"] is not None and received != row["size"]:
        raise invalid(f"The upload was announced with {row['size']} bytes and has {received}.")
    path = state.stored / row["id"]
    path.touch()  # an empty file has no chunk
    with path.open("rb") as stream:
        sha256 = hashlib.file_digest(stream, "sha256").hexdigest()
    now = state.now()
    file = (row["name"], row["id"], row["display_name"], row["mime"], received, sha256, now, now + KEPT_S)
    with state.writing() as db:
        _check_room(state, db, row["name"], received)
        db.execute("DELETE FROM file WHERE id = ?", (row["name"],))  # one that has expired
        db.execute(
            "INSERT INTO file (id, upload, display_name, mime, size, sha256, created_at, expires_at) "
            "VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            file,
        )
        fates.lay_on_file(db, row["name"], service.rehearsal.of_file(db, row["name"], row["display_name"] or ""))
        db.execute("UPDATE upload SET finished = 1 WHERE id = ?", (row["id"],))
        state.record(db, "files.upload", name=f"files/{row['name']}", displayName=row["display_name"])
    return _finished(state, row)


def _finished(state: State, upload: sqlite3.Row) -> Reply:
    row = state.row("SELECT * FROM file WHERE upload = ?", upload["id"])
    if row is None:
        raise no_such_file(upload["name"])
    return Reply({"file": _shown(row)}, headers={"X-Goog-Upload-Status": "final"})


def _found(state: State, file_id: str, at: float | None = None) -> sqlite3.Row:
    if len(file_id) > _LONGEST_ID:
        raise invalid(f"File ID {file_id} cannot be more than {_LONGEST_ID} characters.")
    row = state.row("SELECT * FROM file WHERE id = ? AND expires_at > ?", file_id, state.now() if at is None else at)
    if row is None:
        raise no_such_file(file_id)
    return row


def _shown(row: sqlite3.Row) -> dict[str, Any]:
    shown = {
        "name": f"files/{row['id']}",
        "displayName": row["display_name"],
        "mimeType": row["mime"],
        "sizeBytes": str(fates.file_bytes(row)),
        "createTime": instant(row["created_at"]),
        "updateTime": instant(row["created_at"]),
        "expirationTime": instant(row["expires_at"]),
        # The service encodes the text of the digest, not the digest.
        "sha256Hash": base64.b64encode(fates.file_digest(row).encode()).decode(),
        "uri": _URI + row["id"],
        "state": fates.file_state(row),
        "error": {"code": 13, "message": "Rehearsed trouble."} if fates.file_state(row) == "FAILED" else None,
        "source": "UPLOADED",
    }
    return {key: value for key, value in shown.items() if value is not None}
