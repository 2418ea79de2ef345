"""What befalls a call that a rule strikes: it is refused, dropped, sent elsewhere, or its reply is late or cut.

What a reply says that is not so is the business of `lies`.
"""

from __future__ import annotations

import time
from contextlib import suppress
from dataclasses import replace
from email.utils import formatdate
from math import ceil
from typing import TYPE_CHECKING, Any, NoReturn

from . import batches, lies
from .calls import Manner, Reply
from .faults import STATUSES
from .refusals import RefusalError, error_info

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from .calls import Call, Service
    from .faults import Rule

    Said = Mapping[str, Any]
    Do = Callable[[Call], Reply]

_PAGE = "<!DOCTYPE html><html><head><title>{0}</title></head><body><h1>Error: {0}</h1><p>Rehearsed.</p></body></html>\n"
_LOOK_S = 0.02
_LINE = 60_000
"""Bytes in one header: more than that is a line no client reads."""


def befallen(rule: Rule | None, service: Service, call: Call, do: Do) -> Reply:
    """The reply to a call, as the rule leaves it. Raises `ConnectionResetError` where there is none."""
    if rule is None:
        return do(call)
    if rule.do in lies.LIES:
        return lies.LIES[rule.do](rule.said, service, call, do(call))
    if rule.do == "limit":
        return _limited(rule.said, service, call, do)
    return _MISHAPS[rule.do](rule.said, call, do)


def _refused(said: Said, call: Call, do: Do) -> Reply:
    if said["done"]:
        _done(call, do)
    code, wait = said["code"], said["retry_after"]
    error = {"code": code, "message": said["message"], "status": said["status"] or STATUSES[code]}
    details = [error_info(said["reason"])] if said["reason"] else []
    headers = {}
    if wait is not None:
        info = {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": f"{wait:g}s"}
        details += [info] if said["retry_in"] in {"both", "details"} else []
        headers = {
            "both": {"Retry-After": str(ceil(wait))},
            "header": {"Retry-After": str(ceil(wait))},
            "date": {"Retry-After": formatdate(time.time() + wait, usegmt=True)},
        }.get(said["retry_in"], {})
    return Reply({"error": {**error, "details": details} if details else error}, code, headers)


def _limited(said: Said, service: Service, call: Call, do: Do) -> Reply:
    if batches.at_work(service.state) >= said["running"]:
        raise RefusalError("RESOURCE_EXHAUSTED", f"Rehearsed: only {said['running']} batches may be at work.")
    return do(call)


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


def _hung(said: Said, call: Call, do: Do) -> NoReturn:
    """Take the request and say nothing, until the client has gone or the time is over."""
    until = time.monotonic() + said["seconds"]
    if said["done"]:
        _done(call, do)
    for _ in call.pieces():
        pass  # or it would seem that there is more to come
    while time.monotonic() < until and not call.is_left():
        time.sleep(_LOOK_S)
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


def _redirected(said: Said, call: Call, do: Do) -> Reply:
    if said["done"]:
        _done(call, do)
    return Reply(_PAGE.format(said["code"]), said["code"], {"Location": said["to"]})


def _with_headers(said: Said, call: Call, do: Do) -> Reply:
    reply = do(call)
    lines = range(0, said["bytes"], _LINE)
    more = {f"X-Rehearsed-{number}": "x" * min(_LINE, said["bytes"] - at) for number, at in enumerate(lines)}
    return replace(reply, headers={**reply.headers, **more})


def _twice(_said: Said, call: Call, do: Do) -> Reply:
    body = call.body()
    do(replace(call, pieces=lambda: iter([body])))
    return do(replace(call, pieces=lambda: iter([body])))


def _done(call: Call, do: Do) -> None:
    with suppress(RefusalError):
        do(call)


_MISHAPS: dict[str, Callable[[Said, Call, Do], Reply]] = {
    "refuse": _refused,
    "drop_before": _dropped_before,
    "drop_after": _dropped_after,
    "hang": _hung,
    "delay": _delayed,
    "slow": _slow,
    "truncate": _truncated,
    "empty": _emptied,
    "html": _html,
    "redirect": _redirected,
    "header": _with_headers,
    "twice": _twice,
}
