"""What befalls a call that a rule strikes: it is refused, dropped, done twice, or its reply is late, cut or no JSON."""

from __future__ import annotations

import time
from contextlib import suppress
from dataclasses import replace
from math import ceil
from typing import TYPE_CHECKING, Any, NoReturn

from .calls import Manner, Reply, page_token
from .faults import STATUSES
from .refusals import RefusalError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from .calls import Call
    from .faults import Rule

    Said = Mapping[str, Any]
    Do = Callable[[Call], Reply]

_PAGE = "<!DOCTYPE html><html><head><title>{0}</title></head><body><h1>Error: {0}</h1><p>Rehearsed.</p></body></html>\n"


def befallen(rule: Rule | None, call: Call, do: Do) -> Reply:
    """The reply to a call, as the rule leaves it. Raises `ConnectionResetError` where there is none."""
    return do(call) if rule is None else _MISHAPS[rule.do](rule.said, call, do)


def _refused(said: Said, call: Call, do: Do) -> Reply:
    if said["done"]:
        _done(call, do)
    code, wait = said["code"], said["retry_after"]
    error = {"code": code, "message": said["message"], "status": said["status"] or STATUSES[code]}
    if wait is None:
        return Reply({"error": error}, code)
    info = {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": f"{wait:g}s"}
    return Reply({"error": {**error, "details": [info]}}, code, {"Retry-After": str(ceil(wait))})


def _dropped_before(_said: Said, call: Call, _do: Do) -> NoReturn:
    left = call.length // 2
    for piece in call.pieces():
        left -= len(piece)
        if left <= 0:
            break
    raise ConnectionResetError


def _dropped_after(_said: Said, call: Call, do: Do) -> NoReturn:
    _done(call, do)
    raise ConnectionResetError


def _delayed(said: Said, call: Call, do: Do) -> Reply:
    time.sleep(said["seconds"])
    return do(call)


def _slow(said: Said, call: Call, do: Do) -> Reply:
    return replace(do(call), manner=Manner(rate=said["rate"]))


def _truncated(said: Said, call: Call, do: Do) -> Reply:
    part = 0.5 if said["part"] is None else said["part"]
    return replace(do(call), manner=Manner(most=said["bytes"], part=part, told=said["length"]))


def _emptied(_said: Said, call: Call, do: Do) -> Reply:
    return replace(do(call), manner=Manner(most=0, told="short"))


def _html(said: Said, call: Call, do: Do) -> Reply:
    if said["done"]:
        _done(call, do)
    return Reply(_PAGE.format(said["code"]), said["code"])


def _twice(_said: Said, call: Call, do: Do) -> Reply:
    body = call.body()
    do(replace(call, pieces=lambda: iter([body])))
    return do(replace(call, pieces=lambda: iter([body])))


def _with_empty_page(_said: Said, call: Call, do: Do) -> Reply:
    reply = do(call)
    if reply.body and "nextPageToken" not in reply.body:
        far = 1 << 60 if "models" in reply.body else 0  # models are counted up, all else is counted down
        return replace(reply, body={**reply.body, "nextPageToken": page_token(far)})
    return reply


def _done(call: Call, do: Do) -> None:
    with suppress(RefusalError):
        do(call)


_MISHAPS: dict[str, Callable[[Said, Call, Do], Reply]] = {
    "refuse": _refused,
    "drop_before": _dropped_before,
    "drop_after": _dropped_after,
    "delay": _delayed,
    "slow": _slow,
    "truncate": _truncated,
    "empty": _emptied,
    "html": _html,
    "twice": _twice,
    "empty_page": _with_empty_page,
}
