"""The turns of a conversation beside each other: which must come first, which must be bought again, which cannot come.

A turn is sent with the answers to all turns before it. Where one of these is on its way, the turn waits for it; where
one is done and its answer is not kept, the conversation starts again at that turn; where one failed, the turns after it
are not asked for.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pipeline.journal import Journal, Link
    from pipeline.outputs import Turns

_PAGE = 2000
_SETTLED = frozenset({"done", "moved", "changed"})
"""States of a turn that was answered: the answer may be bought once more."""


def connect(journal: Journal, turns: Turns) -> None:
    """Complete what was classified turn by turn: what waits for what, and what else is bought or is not."""
    if not journal.wanted.has_conversations():
        return
    page: list[Link] = []
    for chain in journal.wanted.conversations():
        page += _connected(chain, turns)
        if len(page) >= _PAGE:
            journal.wanted.connect(page)
            page = []
    journal.wanted.connect(page)


def _connected(chain: list[Link], turns: Turns) -> Iterator[Link]:
    """The turns of one conversation, as they are beside each other."""
    before: Link | None = None
    for link in _restarted(_cut_off(chain, turns), turns):
        made = replace(
            link,
            waits_for=before.key if before is not None and link.open else None,
            wave=before.wave + 1 if before is not None else 1,
        )
        if made.is_coming:
            before = made
        yield made


def _cut_off(chain: list[Link], turns: Turns) -> list[Link]:
    """Nothing is bought that goes on from a turn which has no answer and will get none."""
    for at, link in enumerate(chain):
        rest = chain[at + 1 :]
        if not any(one.open for one in rest):
            break
        if link.is_coming or link.state in _SETTLED or turns.has(link.key, link.fingerprint):
            continue
        why = f"goes on from turn {link.turn}, {_OUTSIDE if link.state == 'outside' else link.why}"
        cut = [replace(one, state="failed", why=why, open=0) if one.open else one for one in rest]
        return [*chain[: at + 1], *cut]
    return chain


_OUTSIDE = "which is not selected and has no answer here"


def _restarted(chain: list[Link], turns: Turns) -> list[Link]:
    """Where a turn is to be bought and the answer to an earlier one is not kept, it starts again at that one."""
    last = max((at for at, link in enumerate(chain) if link.open), default=0)
    for at, link in enumerate(chain[:last]):
        if not link.is_coming and not turns.has(link.key, link.fingerprint):
            why = f"turn {chain[last].turn} is asked for, and the answer to turn {link.turn} is not kept any more"
            again = [
                replace(one, state="changed", why=why, open=1, anew=1)
                if one.state in _SETTLED and not one.is_coming
                else one
                for one in chain[at:last]
            ]
            return [*chain[:at], *again, *chain[last:]]
    return chain
