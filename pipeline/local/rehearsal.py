"""When rules strike: what each is about is counted in the service's state, so that a killed one goes on counting."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .faults import ANY_CALL

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterable

    from .faults import Rule
    from .state import State


class Rehearsal:
    """The rules of one service; none, and nothing happens."""

    def __init__(self, rules: Iterable[Rule] = ()) -> None:
        self._rules = tuple(rules)

    def of_call(self, state: State, name: str) -> Rule | None:
        """What befalls this call: the first rule that strikes. All that are about it count it."""
        rules = [rule for rule in self._rules if rule.on in (name, ANY_CALL)]
        if not rules:
            return None
        with state.writing() as db:
            return next(iter(_struck(db, rules, most=1)), None)

    def of_file(self, db: sqlite3.Connection, *names: str) -> Rule | None:
        """What befalls this new file, told by its names."""
        rules = [rule for rule in self._rules if rule.on == "file" and rule.is_about(*names)]
        return next(iter(_struck(db, rules, most=1)), None)

    def of_batch(self, db: sqlite3.Connection, name: str) -> list[Rule]:
        """What befalls this new batch and its answers, and the rules its lines are held against."""
        own = ("batch", "answers")
        rules = [rule for rule in self._rules if rule.on == "line" or (rule.on in own and rule.is_about(name))]
        return _struck(db, rules, most=len(rules))

    def shown(self, state: State) -> list[dict[str, Any]]:
        """Each rule with how often it was asked and how often it struck."""
        counts = {row["rule"]: row for row in state.rows("SELECT * FROM fault")}
        told = ((rule, counts.get(rule.identity)) for rule in self._rules)
        return [
            {
                "rule": rule.number,
                "on": rule.on,
                "do": rule.do,
                "seen": row["seen"] if row else 0,
                "struck": row["struck"] if row else 0,
            }
            for rule, row in told
        ]


def _struck(db: sqlite3.Connection, rules: Iterable[Rule], *, most: int) -> list[Rule]:
    """The first of the rules that strike now; each of them counts."""
    found: list[Rule] = []
    for rule in rules:
        row = db.execute("SELECT seen, struck FROM fault WHERE rule = ?", (rule.identity,)).fetchone()
        seen, struck = (row["seen"] + 1, row["struck"]) if row else (1, 0)
        strikes = len(found) < most and (rule.times is None or struck < rule.times) and _is_due(rule, seen)
        if strikes:
            found.append(rule)
        db.execute("INSERT OR REPLACE INTO fault VALUES (?, ?, ?)", (rule.identity, seen, struck + strikes))
    return found


def _is_due(rule: Rule, seen: int) -> bool:
    turn = seen - rule.after
    if rule.on == "line":  # `every` and `share` choose among the lines, not among the batches
        return turn > 0
    return turn > 0 and turn % rule.every == 0 and rule.draws(seen)
