"""A faults file: a list of rules in YAML, strictly read; what is wrong is told with its line, all of it at once."""

from __future__ import annotations

import difflib
from typing import TYPE_CHECKING, Any, NamedTuple

import yaml

from .faults import ANY_CALL, CALLS, DOES, ONLY_ON, THINGS, WHEN, Rule, kind_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

    from .faults import Value

    Node = yaml.nodes.Node
    Said = dict[str, tuple[Any, yaml.Mark]]
    """The value of each word, and where it is said."""

_SHOWN = 60
_QUOTE = ' (a * needs quotes: on: "*")'


class Fault(NamedTuple):
    """Something wrong with a faults file, and where: the line and the column from 1, or 0 for all of it."""

    line: int
    column: int
    message: str
    source: str = ""
    """The text of that line."""


class FaultsError(ValueError):
    """A faults file that cannot be used, with everything that is wrong with it."""

    def __init__(self, path: Path, problems: Iterable[Fault]) -> None:
        self.path = path
        self.problems = tuple(problems)
        super().__init__("\n".join(f"{path}:{fault.line}: {fault.message}" for fault in self.problems))


def read(path: Path) -> tuple[Rule, ...]:
    """The rules of a file, in its order. Raises `FaultsError`."""
    try:
        text = path.read_bytes().decode()
        loader = yaml.SafeLoader(text)
        node = loader.get_single_node()
    except OSError as error:
        raise FaultsError(path, [Fault(0, 0, str(error.strerror))]) from None
    except UnicodeDecodeError:
        raise FaultsError(path, [Fault(0, 0, "this is no text in UTF-8")]) from None
    except yaml.YAMLError as error:
        raise FaultsError(path, [_no_yaml(error, text)]) from None
    if node is None:
        return ()
    reader = _Reader(text, loader)
    rules = reader.rules(node)
    if reader.problems:
        raise FaultsError(path, reader.problems)
    return tuple(rules)


def _no_yaml(error: yaml.YAMLError, text: str) -> Fault:
    mark = getattr(error, "problem_mark", None)
    why = getattr(error, "problem", None) or "it cannot be read"
    words = f"this is no YAML: {why}{_QUOTE if 'alias' in str(error) else ''}"
    return _fault(mark, words, text.splitlines()) if mark else Fault(0, 0, words)


def _fault(mark: yaml.Mark, message: str, lines: list[str]) -> Fault:
    source = lines[mark.line] if mark.line < len(lines) else ""
    return Fault(mark.line + 1, mark.column + 1, message, source)


class _Reader:
    """One walk through a file; collects what is wrong."""

    def __init__(self, text: str, loader: yaml.SafeLoader) -> None:
        self.problems: list[Fault] = []
        self._lines = text.splitlines()
        self._loader = loader

    def rules(self, node: Node) -> list[Rule]:
        if not isinstance(node, yaml.SequenceNode):
            self._complain(node.start_mark, "rules are a list: - {on: batches.create, do: drop_after, times: 1}")
            return []
        found = [self._rule(number, item) for number, item in enumerate(node.value, 1)]
        return [rule for rule in found if rule is not None]

    def _rule(self, number: int, node: Node) -> Rule | None:
        mark = node.start_mark
        said = self._words(node)
        if said is None:
            return None
        before = len(self.problems)
        on = self._named(said, "on", (*CALLS, ANY_CALL, *THINGS), mark)
        do = self._named(said, "do", DOES[kind_of(on)], mark) if on else None
        if on is None or do is None:
            return None
        if on not in ONLY_ON.get(do, (on,)):
            self._complain(mark, f"{do} happens to {', '.join(ONLY_ON[do])} only, not to {on}")
        when, more = WHEN[kind_of(on)], DOES[kind_of(on)][do]
        self._check(said, {**when, **more}, f"a rule on {on} that does {do}")
        if "bytes" in said and "part" in said:
            self._complain(said["part"][1], "either bytes or part says where it is cut, not both")
        if len(self.problems) > before:
            return None
        given = {word: value for word, (value, _mark) in said.items()}
        times = {word: given.get(word, when[word].default) for word in ("after", "times", "every", "seed")}
        chance = given.get("share", given.get("probability"))
        filled = {word: given.get(word, value.default) for word, value in more.items()}
        return Rule(number, on, do, filled, **times, chance=chance, key=given.get("key"))

    def _words(self, node: Node) -> Said | None:
        """The words of a rule; keys are taken as they are written, as `on` is a truth value in YAML 1.1."""
        if not isinstance(node, yaml.MappingNode):
            self._complain(node.start_mark, "a rule is a mapping: {on: batches.create, do: drop_after}")
            return None
        said: Said = {}
        for key, value in node.value:
            mark = key.start_mark
            if not isinstance(key, yaml.ScalarNode):
                self._complain(mark, "a rule has words before its colons")
            elif key.value in said:
                self._complain(mark, f"{key.value} is said twice")
            else:
                said[key.value] = (self._value(value), mark)
        return said

    def _value(self, node: Node) -> Any:
        try:
            return self._loader.construct_object(node, deep=True)
        except (yaml.YAMLError, ValueError):
            return None  # fits nothing, and is told so

    def _named(self, said: Said, word: str, known: Iterable[str], mark: yaml.Mark) -> str | None:
        if word not in said:
            self._complain(mark, f"a rule needs {word}: {_listed(known)}")
            return None
        value, mark = said.pop(word)
        if value in tuple(known):
            return str(value)
        close = _close(value, known)
        self._complain(mark, f"{word}: {_shown(value)} is not known{close or f': it is {_listed(known)}'}")
        return None

    def _check(self, said: Said, known: Mapping[str, Value], where: str) -> None:
        for word, (value, mark) in said.items():
            if word not in known:
                close = _close(word, known) or f"; {where} knows {_listed(known)}"
                self._complain(mark, f"{_shown(word)} is not known here{close}")
            elif not known[word].fits(value):
                self._complain(mark, f"{word}: {_shown(value)} does not fit: it is {known[word].expected}")

    def _complain(self, mark: yaml.Mark, words: str) -> None:
        self.problems.append(_fault(mark, words, self._lines))


def _listed(known: Iterable[str]) -> str:
    return ", ".join(known)


def _shown(value: Any) -> str:
    shown = repr(value)
    return shown if len(shown) <= _SHOWN else f"{shown[:_SHOWN]}…"


def _close(value: Any, known: Iterable[str]) -> str:
    """`; did you mean …?`, if there is something like it."""
    found = difflib.get_close_matches(str(value), list(known), 1)
    return f"; did you mean {found[0]}?" if found else ""
