"""Batches: made, looked at, listed, cancelled and deleted. What state one is in follows from its row and the clock."""

from __future__ import annotations

import json
import os
import shutil
from typing import TYPE_CHECKING, Any

from . import catalog, fates, files
from .calls import Reply, page_token
from .refusals import RefusalError, invalid, no_such_file
from .state import KEPT_S, fresh_id, instant
from .validation import checked

if TYPE_CHECKING:
    import sqlite3
    from pathlib import Path

    from .calls import Call, Service
    from .state import State

_TYPES = "type.googleapis.com/google.ai.generativelanguage.v1main."
_MIMES = ("application/jsonl", "application/json", "text/plain", "jsonl")
_LIVE_MOST = 100
_PENDING_PART = 0.25
_LIVE = (
    f"cancelled_at IS NULL AND broken IS NULL AND created_at + {KEPT_S} > ?1 "
    "AND NOT (rendered_at IS NOT NULL AND ends_at <= ?1)"
)
_PIECE = 1 << 20
_UNDONE = ("PENDING", "RUNNING")
_BAD = ("CANCELLED", "FAILED", "EXPIRED")
_COLUMNS = {
    "displayName": "display_name",
    "display_name": "display_name",
    "priority": "priority",
}


def create(service: Service, call: Call, model: str) -> Reply:
    """Take a new batch; asked twice, there are two."""
    state = service.state
    catalog.found(model, state.now(), method="batchGenerateContent")
    batch = checked("BatchGenerateContentRequest", call.json()).get("batch", {})
    config = batch.get("inputConfig", {})
    if ("fileName" in config) == ("requests" in config):
        raise invalid("Exactly one of input_config.file_name and input_config.requests must be set.")
    batch_id = fresh_id(36)
    path = state.batches / f"{batch_id}.in"
    file = _input_file(state, config["fileName"]) if "fileName" in config else None
    inlined = None if file else _inlined(config["requests"])
    total = _lines(state.stored / file["upload"]) if file else len(inlined or ())
    now = state.now()
    with state.writing() as db:
        (live,) = db.execute(f"SELECT count(*) FROM batch WHERE {_LIVE}", (now,)).fetchone()
        if live >= _LIVE_MOST:
            raise RefusalError("RESOURCE_EXHAUSTED", f"Too many batch jobs at once: the limit is {_LIVE_MOST}.")
        _keep_input(path, state.stored / file["upload"] if file else None, inlined)
        db.execute(
            "INSERT INTO batch (id, model, display_name, priority, file, pictures, total, created_at, starts_at, "
            "ends_at) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (
                *(batch_id, model, batch.get("displayName"), batch.get("priority"), file and f"files/{file['id']}"),
                *(service.pictures, total),
                *(now, now + service.latency_s * _PENDING_PART, now + service.latency_s),
            ),
        )
        fates.lay_on_batch(db, batch_id, service.rehearsal.of_batch(db, batch.get("displayName", "")), now)
        told = {"displayName": batch.get("displayName"), "fileName": file and f"files/{file['id']}", "model": model}
        state.record(db, "batches.create", name=f"batches/{batch_id}", **told, requests=total)
    service.wake()
    return Reply(_operation(state, _found(state, batch_id), "PENDING"))


def get(service: Service, _call: Call, batch_id: str) -> Reply:
    state = service.state
    row = _found(state, batch_id)
    stage = _stage(row, state.now())
    if stage not in _UNDONE or row["looked"]:
        with state.writing() as db:
            db.execute("UPDATE batch SET looked = looked + 1 WHERE id = ?", (batch_id,))
    return Reply(fates.told(row, _operation(state, row, stage, with_inlined=True)))


def at_work(state: State) -> int:
    """How many batches have not ended."""
    [row] = state.rows(f"SELECT count(*) AS live FROM batch WHERE {_LIVE}", state.now())
    return int(row["live"])


def listed(service: Service, call: Call) -> Reply:
    """Newest first; the answers of inline batches are only in `get`."""
    size, below = call.page()
    state, now = service.state, service.state.now()
    rows = state.rows(
        "SELECT * FROM batch WHERE (listed_at IS NULL OR listed_at <= ?) AND (? IS NULL OR seq < ?) "
        "ORDER BY seq DESC LIMIT ?",
        *(now, below, below, size + 1),
    )
    seen = [row for row in rows[:size] if not fates.has_vanished(row)]
    shown = [fates.told(row, _operation(state, row, _stage(row, now))) for row in seen]
    body: dict[str, Any] = {"operations": shown} if shown else {}
    if len(rows) > size:
        body["nextPageToken"] = page_token(rows[size - 1]["seq"])
    return Reply(body)


def update(service: Service, call: Call, batch_id: str) -> Reply:
    """Change the name a batch is shown by, or its priority."""
    state = service.state
    said = checked("GenerateContentBatch", call.json())
    mask = call.query.get("updateMask") or ",".join(said)
    names = [name.strip() for name in mask.split(",") if name.strip()]
    if not _COLUMNS.keys() >= set(names):
        raise invalid("Only display_name and priority of a batch can be changed: name them in updateMask.")
    values = {"display_name": said.get("displayName"), "priority": said.get("priority")}
    with state.writing() as db:
        _found(state, batch_id)
        for column in {_COLUMNS[name] for name in names}:
            db.execute(f"UPDATE batch SET {column} = ? WHERE id = ?", (values[column], batch_id))
        state.record(db, "batches.update", name=f"batches/{batch_id}", displayName=said.get("displayName"))
        row = _found(state, batch_id)
    metadata = dict(_operation(state, row, _stage(row, state.now()))["metadata"])
    metadata.pop("@type")
    return Reply(metadata)


def cancel(service: Service, _call: Call, batch_id: str) -> Reply:
    """End a batch: as if it had never been if it is PENDING, with the answers it has if it is RUNNING."""
    state = service.state
    with state.writing() as db:
        row, now = _found(state, batch_id), state.now()
        match _stage(row, now):
            case "PENDING":
                db.execute("UPDATE batch SET cancelled_at = ? WHERE id = ?", (now, batch_id))
            case "RUNNING" if row["stop_after"] is None:
                elapsed = _elapsed(row, now)
                kept = int(row["total"] * elapsed) if elapsed < 1 else row["done"]
                db.execute(
                    "UPDATE batch SET stop_after = ?, stopped = 0, rendered_at = NULL, ends_at = min(ends_at, ?) "
                    "WHERE id = ?",
                    (kept, now + fates.cancel_s(row), batch_id),
                )
        state.record(db, "batches.cancel", name=f"batches/{batch_id}", displayName=row["display_name"])
    service.wake()
    return Reply()


def delete(service: Service, _call: Call, batch_id: str) -> Reply:
    """Forget a batch and its result file; the work on it stops."""
    state = service.state
    with state.writing() as db:
        row = _found(state, batch_id)
        db.execute("DELETE FROM batch WHERE id = ?", (batch_id,))
        state.record(db, "batches.delete", name=f"batches/{batch_id}", displayName=row["display_name"])
    for suffix in ("in", "out"):
        (state.batches / f"{batch_id}.{suffix}").unlink(missing_ok=True)
    return Reply()


def results(service: Service, _call: Call, file_id: str) -> Reply:
    """The answers of a batch that has succeeded, for download."""
    state = service.state
    row = state.row("SELECT * FROM batch WHERE 'batch-' || id = ? AND file IS NOT NULL", file_id)
    if row is not None and not fates.has_vanished(row) and _has_output(row, _stage(row, state.now())):
        if row["withheld"]:
            with state.writing() as db:
                db.execute("UPDATE batch SET withheld = withheld - 1 WHERE id = ? AND withheld", (row["id"],))
            raise no_such_file(file_id)
        path = state.batches / f"{row['id']}.out"
        changed = fates.answers(row, path)
        return Reply(path=path) if changed is None else Reply(changed, mime="application/octet-stream")
    if state.row("SELECT 1 FROM file WHERE id = ? AND expires_at > ?", file_id, state.now()):
        raise invalid(f"File {file_id} was uploaded, and only generated files can be downloaded.")
    raise no_such_file(file_id)


def sweep(state: State) -> None:
    """Drop the files of batches that are gone, or never came to be."""
    with state.writing() as db:
        kept = {row["id"] for row in db.execute("SELECT id FROM batch")}
        for path in state.batches.iterdir():
            if path.stem not in kept:
                path.unlink(missing_ok=True)


def _inlined(requests: dict[str, Any]) -> list[dict[str, Any]]:
    items: list[dict[str, Any]] = requests.get("requests", [])
    for index, item in enumerate(items):
        place = f"batch.input_config.requests.requests[{index}].request"
        checked("GenerateContentRequest", item.get("request"), place)
    return items


def _input_file(state: State, name: str) -> sqlite3.Row:
    file = files.stored(state, name)
    if file["mime"] not in _MIMES:
        raise invalid(f"Unsupported MIME type of the input file: {file['mime']}. Use application/jsonl.")
    return file


def _lines(path: Path) -> int:
    """How many requests a file holds, told by its line ends, so that a large one is counted quickly."""
    count, last = 0, b"\n"
    with path.open("rb") as stream:
        while piece := stream.read(_PIECE):
            count += piece.count(b"\n")
            last = piece[-1:]
    return count + (last != b"\n")


def _keep_input(path: Path, file: Path | None, inlined: list[dict[str, Any]] | None) -> None:
    """Put the requests where the batch finds them, whatever becomes of the uploaded file."""
    if file is not None:
        try:
            os.link(file, path)
        except OSError:
            shutil.copyfile(file, path)
    else:
        with path.open("w", encoding="utf-8") as stream:
            stream.writelines(json.dumps(item) + "\n" for item in inlined or ())


def _found(state: State, batch_id: str) -> sqlite3.Row:
    row = state.row("SELECT * FROM batch WHERE id = ?", batch_id)
    if row is None or fates.has_vanished(row):
        raise RefusalError("NOT_FOUND", "Requested entity was not found.")
    return row


def _stage(row: sqlite3.Row, now: float) -> str:
    """The state of a batch, without its prefix."""
    if fates.is_back(row):
        return "RUNNING"
    expires_at = row["created_at"] + KEPT_S
    if row["cancelled_at"] is not None:
        return "CANCELLED"
    if now < row["starts_at"] and now < expires_at:
        return "PENDING"
    if row["broken"] is not None:
        return "FAILED"
    if row["ends_at"] > expires_at:
        return "EXPIRED" if now >= expires_at else "RUNNING"
    return fates.ended_as(row) if row["rendered_at"] is not None and now >= row["ends_at"] else "RUNNING"


def _has_output(row: sqlite3.Row, stage: str) -> bool:
    if stage == "SUCCEEDED":
        return True
    rule = fates.ending(row)
    return rule is not None and rule.said["output"] and stage == fates.ended_as(row)


def _elapsed(row: sqlite3.Row, now: float) -> float:
    span = row["ends_at"] - row["starts_at"]
    return min(1.0, max(0.0, (now - row["starts_at"]) / span)) if span > 0 else 1.0


def _operation(state: State, row: sqlite3.Row, stage: str, *, with_inlined: bool = False) -> dict[str, Any]:
    name = f"batches/{row['id']}"
    ended_at = _ended_at(row, stage)
    updated_at = ended_at or (row["created_at"] if stage == "PENDING" else row["starts_at"])
    metadata: dict[str, Any] = {
        "@type": f"{_TYPES}GenerateContentBatch",
        "model": f"models/{row['model']}",
        **({"displayName": row["display_name"]} if row["display_name"] is not None else {}),
        **({"inputConfig": {"fileName": row["file"]}} if row["file"] else {}),
        **({"priority": str(row["priority"])} if row["priority"] is not None else {}),
        "createTime": instant(row["created_at"]),
        **({"endTime": instant(ended_at)} if ended_at else {}),
        "updateTime": instant(updated_at),
        "batchStats": _counts(row, stage, state.now()),
        "state": f"BATCH_STATE_{stage}",
        "name": name,
    }
    operation = {"name": name, "metadata": metadata}
    has_output = _has_output(row, stage) and not fates.hides_output(row)
    output = _output(state, row, with_inlined=with_inlined) if has_output else {}
    if output:
        metadata["output"] = output
    if stage in _UNDONE or not fates.is_done(row):
        return operation
    if stage in _BAD:
        return {**operation, "done": True, "error": _error(row, stage)}
    return {**operation, "done": True, "response": {"@type": f"{_TYPES}GenerateContentBatchOutput", **output}}


def _ended_at(row: sqlite3.Row, stage: str) -> float | None:
    if stage in _UNDONE:
        return None
    if row["cancelled_at"] is not None:
        return float(row["cancelled_at"])
    if row["broken"] is not None:
        return float(max(row["starts_at"], row["broken_at"]))
    if row["rendered_at"] is None or row["ends_at"] > row["created_at"] + KEPT_S:
        return float(row["created_at"] + KEPT_S)
    return float(max(row["ends_at"], row["rendered_at"]))


def _error(row: sqlite3.Row, stage: str) -> dict[str, Any]:
    rule = fates.ending(row)
    if stage == "CANCELLED":
        return {"code": 13, "message": f"Batch {row['id']} failed without error."}
    if stage == "FAILED":
        broken = {"code": 3, "message": row["broken"]}
        return broken if rule is None else {"code": rule.said["code"], "message": rule.said["message"]}
    return {"code": 4, "message": f"Batch {row['id']} was not finished within 48 hours and has expired."}


def _counts(row: sqlite3.Row, stage: str, now: float) -> dict[str, str]:
    """The statistics as text, and none that is zero."""
    good, bad = row["done"] - row["failed"], row["failed"]
    if not _has_output(row, stage):
        part = _elapsed(row, now) if stage == "RUNNING" else 0
        good, bad = int(good * part), int(bad * part)
    good, bad = fates.counted(row, good, bad)
    counts = {
        "requestCount": row["total"],
        "successfulRequestCount": good,
        "failedRequestCount": bad,
        "pendingRequestCount": row["total"] - good - bad if stage in _UNDONE else 0,
    }
    return {name: str(count) for name, count in counts.items() if count}


def _output(state: State, row: sqlite3.Row, *, with_inlined: bool) -> dict[str, Any]:
    if row["file"]:
        return {"responsesFile": f"files/batch-{row['id']}"}
    if not with_inlined:
        return {}
    with (state.batches / f"{row['id']}.out").open("rb") as stream:
        return {"inlinedResponses": {"inlinedResponses": [json.loads(line) for line in stream]}}
