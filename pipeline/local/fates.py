"""What befalls batches, their lines and files: laid down when they are made, and kept with them."""

from __future__ import annotations

import binascii
import hashlib
from typing import TYPE_CHECKING, Any

from . import damages, oddities, shapes, spellings
from .faults import restored, stored

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from .faults import Rule

    Answer = dict[str, Any]

NEVER = 1e15
_OWN = ("batch", "file")
_ENDINGS = {"expire": "EXPIRED", "fail": "FAILED", "cancel": "CANCELLED"}


# Batches


def lay_on_batch(db: sqlite3.Connection, batch_id: str, rules: list[Rule], now: float) -> None:
    """Write down what will befall a new batch."""
    if not rules:
        return
    db.execute("UPDATE batch SET faults = ? WHERE id = ?", (stored(rules), batch_id))
    for rule in rules:
        match rule.do:
            case "pending":
                db.execute("UPDATE batch SET starts_at = ?, ends_at = ? WHERE id = ?", (NEVER, NEVER, batch_id))
            case "running":
                db.execute("UPDATE batch SET ends_at = ? WHERE id = ?", (NEVER, batch_id))
            case "late_output":
                db.execute("UPDATE batch SET withheld = ? WHERE id = ?", (rule.said["downloads"], batch_id))
            case "late_listing":
                db.execute("UPDATE batch SET listed_at = ? WHERE id = ?", (now + rule.said["seconds"], batch_id))


def ending(row: sqlite3.Row) -> Rule | None:
    """The rule that makes another end of a good one."""
    return _of(row, *_ENDINGS, "unknown_state")


def ended_as(row: sqlite3.Row) -> str:
    """The state a batch is in when all its work is done."""
    rule = ending(row)
    if rule is None:
        return "SUCCEEDED"
    return _ENDINGS[rule.do] if rule.do in _ENDINGS else str(rule.said["state"])


def is_done(row: sqlite3.Row) -> bool:
    """Whether an end is told as one."""
    rule = ending(row)
    return rule is None or rule.said.get("done", True)


def cancel_s(row: sqlite3.Row) -> float:
    """How long a running batch takes to end when it is cancelled."""
    rule = _of(row, "slow_cancel")
    return float(rule.said["seconds"]) if rule else 0.0


def _of(row: sqlite3.Row, *does: str) -> Rule | None:
    if row["faults"] is None:
        return None
    return next((rule for rule in restored(row["faults"]) if rule.on in _OWN and rule.do in does), None)


def is_back(row: sqlite3.Row) -> bool:
    """Whether a batch that has been seen to end is at work again."""
    rule = _of(row, "backward")
    return rule is not None and 0 < row["looked"] <= rule.said["gets"]


def hides_output(row: sqlite3.Row) -> bool:
    """Whether the end of a batch is told without its answers."""
    rule = _of(row, "no_output")
    return rule is not None and (rule.said["gets"] is None or row["looked"] < rule.said["gets"])


def has_vanished(row: sqlite3.Row) -> bool:
    """Whether a batch that has ended is not there any more, and its answers neither."""
    rule = _of(row, "vanish")
    return rule is not None and row["rendered_at"] is not None and row["looked"] >= rule.said["gets"]


def counted(row: sqlite3.Row, good: int, bad: int) -> tuple[int, int]:
    """How many requests are said to have gone well and wrong."""
    rule = _of(row, "counts")
    if rule is None:
        return good, bad
    successful, failed = rule.said["successful"], rule.said["failed"]
    return good if successful is None else successful, bad if failed is None else failed


def told(row: sqlite3.Row, operation: dict[str, Any]) -> dict[str, Any]:
    """A batch in the shape that it is told in."""
    rule = _of(row, "shape")
    return operation if rule is None else shapes.SHAPES[rule.said["as"]](operation)


def answers(row: sqlite3.Row, path: Path) -> bytes | None:
    """The answers of a batch as they are downloaded, where a rule makes others of them than there are."""
    rules = [] if row["faults"] is None else [rule for rule in restored(row["faults"]) if rule.on == "answers"]
    if not rules:
        return None
    lines = path.read_bytes().splitlines(keepends=True)
    for rule in rules:
        lines = shapes.FILES[rule.do](lines)
    return b"".join(lines)


# Lines


def line(row: sqlite3.Row, number: int, answer: Answer) -> tuple[bytes, bool]:
    """An answer as it is written, if at all, and whether it is an error; `number` counts the requests of a batch."""
    rule = None if row["faults"] is None else _of_line(row, number, answer)
    if rule is None:
        return spellings.written(answer), "error" in answer
    if rule.do in spellings.WRITTEN:
        is_inline = not row["file"]
        return spellings.WRITTEN[rule.do](rule.said, answer, is_inline), "error" in answer
    if "response" in answer:
        answer = _CHANGES[rule.do](rule.said, answer)
    return spellings.written(answer), "response" not in answer


def _of_line(row: sqlite3.Row, number: int, answer: Answer) -> Rule | None:
    key = str(answer.get("key") or answer.get("metadata", {}).get("key", ""))
    for rule in restored(row["faults"]):
        is_meant = rule.on == "line" and number % rule.every == 0 and rule.is_about(key)
        if is_meant and rule.draws(row["seq"], number):
            return rule
    return None


def _blocked(said: Mapping[str, Any], answer: Answer) -> Answer:
    response = answer["response"]
    if said["under"] == "prompt":
        feedback = {"blockReason": said["reason"], "blockReasonMessage": said["message"]}
        read = response["usageMetadata"]["promptTokenCount"]
        usage = {"promptTokenCount": read, "totalTokenCount": read}
        rest = {name: value for name, value in response.items() if name != "candidates"}
        return {**answer, "response": {"promptFeedback": feedback, **rest, "usageMetadata": usage}}
    if said["picture"]:
        told = {"finishReason": said["reason"], "finishMessage": said["message"]}
        kept = [{**candidate, **told} for candidate in response.get("candidates", ())]
        return {**answer, "response": {**response, "candidates": kept}}
    return _without_picture(answer, said["reason"], said["message"])


def _pictureless(_said: Mapping[str, Any], answer: Answer) -> Answer:
    return _without_picture(answer, "NO_IMAGE", "Rehearsed: no picture came of it.")


def _without_picture(answer: Answer, reason: str, message: str) -> Answer:
    usage = dict(answer["response"]["usageMetadata"])
    usage.pop("candidatesTokensDetails", None)
    usage["totalTokenCount"] -= usage.pop("candidatesTokenCount", 0)
    candidate = {"content": {}, "finishReason": reason, "finishMessage": message, "index": 0}
    return {**answer, "response": {**answer["response"], "candidates": [candidate], "usageMetadata": usage}}


def _failed(said: Mapping[str, Any], answer: Answer) -> Answer:
    error: dict[str, Any] = {"code": said["code"], "message": said["message"]}
    if said["details"]:
        error["details"] = [{"@type": "type.googleapis.com/google.rpc.DebugInfo", "detail": "rehearsed"}]
    failed = {**answer, "response": error}  # in the same place, before the key or after it
    return {said["under"] if name == "response" else name: value for name, value in failed.items()}


def _both(_said: Mapping[str, Any], answer: Answer) -> Answer:
    return {**answer, "error": {"code": 13, "message": "Rehearsed: an error beside the answer."}}


def _neither(_said: Mapping[str, Any], answer: Answer) -> Answer:
    return {name: value for name, value in answer.items() if name != "response"}


_CHANGES: dict[str, Callable[[Mapping[str, Any], Answer], Answer]] = {
    "block": _blocked,
    "no_image": _pictureless,
    "error": _failed,
    "wrong_size": damages.shrunk,
    "corrupt": damages.halved,
    "damage": damages.damaged,
    "wrong_mime": damages.called_otherwise,
    "same_picture": damages.the_same,
    "both": _both,
    "neither": _neither,
    "long": oddities.long,
    "candidates": oddities.several_candidates,
    "text": oddities.words_alone,
    "signature": oddities.signature_alone,
    "thoughts": oddities.thoughts_first,
    "several": oddities.several_pictures,
    "urlsafe": oddities.other_alphabet,
}


# Files


def lay_on_file(db: sqlite3.Connection, file_id: str, rule: Rule | None) -> None:
    """Write down what will befall a new file."""
    if rule is None:
        return
    db.execute("UPDATE file SET faults = ? WHERE id = ?", (stored([rule]), file_id))
    match rule.do:
        case "processing":
            db.execute("UPDATE file SET withheld = ? WHERE id = ?", (rule.said["gets"], file_id))
        case "gone":
            db.execute("UPDATE file SET expires_at = created_at WHERE id = ?", (file_id,))
        case "expires":
            db.execute("UPDATE file SET expires_at = created_at + ? WHERE id = ?", (rule.said["seconds"], file_id))


def file_state(row: sqlite3.Row) -> str:
    """PROCESSING, FAILED or ACTIVE."""
    if row["withheld"]:
        return "PROCESSING"
    return "FAILED" if _of(row, "failed") else "ACTIVE"


def file_digest(row: sqlite3.Row) -> str:
    """The digest that is told, in hex."""
    told: str = row["sha256"]
    return hashlib.sha256(binascii.unhexlify(told)).hexdigest() if _of(row, "wrong_hash") else told


def file_bytes(row: sqlite3.Row) -> int:
    """The size that is told."""
    return int(row["size"]) + (1 if _of(row, "wrong_bytes") else 0)
