"""A faults file: a list of rules in YAML, strictly read; what is wrong is told with its line, all of it at once."""

from __future__ import annotations

import difflib
from typing import TYPE_CHECKING, Any

import yaml

from .faults import ANY_CALL, CALLS, DOES, ONLY_ON, THINGS, WHEN, Rule, kind_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

    from .faults import Value

    Node = yaml.nodes.Node
    Said = dict[str, tuple[Any, int]]
    """The value of each word, and its line."""

_SHOWN = 60


class FaultsError(ValueError):
    """A faults file that cannot be used: a line of words for each problem, with its place."""

    def __init__(self, problems: Iterable[str]) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(self.problems))


def read(path: Path) -> tuple[Rule, ...]:
    """The rules of a file, in its order. Raises `FaultsError`."""
    try:
        text = path.read_bytes().decode()
        loader = yaml.SafeLoader(text)
        node = loader.get_single_node()
    except OSError as error:
        raise FaultsError([f"{path}: {error.strerror}"]) from None
    except UnicodeDecodeError:
        raise FaultsError([f"{path}: this is no text in UTF-8"]) from None
    except yaml.YAMLError as error:
        raise FaultsError([_no_yaml(path, error)]) from None
    if node is None:
        return ()
    reader = _Reader(path, loader)
    rules = reader.rules(node)
    if reader.problems:
        raise FaultsError(reader.problems)
    return tuple(rules)


def _no_yaml(path: Path, error: yaml.YAMLError) -> str:
    mark = getattr(error, "problem_mark", None)
    place = f"{path}:{mark.line + 1}" if mark else str(path)
    why = getattr(error, "problem", None) or "it cannot be read"
    hint = ' (a * needs quotes: on: "*")' if "alias" in str(error) else ""
    return f"{place}: this is no YAML: {why}{hint}"


class _Reader:
    """One walk through a file; collects what is wrong."""

    def __init__(self, path: Path, loader: yaml.SafeLoader) -> None:
        self.problems: list[str] = []
        self._path = path
        self._loader = loader

    def rules(self, node: Node) -> list[Rule]:
        if not isinstance(node, yaml.SequenceNode):
            self._complain(node.start_mark.line, "rules are a list: - {on: batches.create, do: drop_after, times: 1}")
            return []
        found = [self._rule(number, item) for number, item in enumerate(node.value, 1)]
        return [rule for rule in found if rule is not None]

    def _rule(self, number: int, node: Node) -> Rule | None:
        line = node.start_mark.line
        said = self._words(node)
        if said is None:
            return None
        before = len(self.problems)
        on = self._named(said, "on", (*CALLS, ANY_CALL, *THINGS), line)
        do = self._named(said, "do", DOES[kind_of(on)], line) if on else None
        if on is None or do is None:
            return None
        if on not in ONLY_ON.get(do, (on,)):
            self._complain(line, f"{do} happens to {', '.join(ONLY_ON[do])} only, not to {on}")
        when, more = WHEN[kind_of(on)], DOES[kind_of(on)][do]
        self._check(said, {**when, **more}, f"a rule on {on} that does {do}")
        if "bytes" in said and "part" in said:
            self._complain(said["part"][1], "either bytes or part says where it is cut, not both")
        if len(self.problems) > before:
            return None
        given = {word: value for word, (value, _line) in said.items()}
        times = {word: given.get(word, when[word].default) for word in ("after", "times", "every", "seed")}
        chance = given.get("share", given.get("probability"))
        filled = {word: given.get(word, value.default) for word, value in more.items()}
        return Rule(number, on, do, filled, **times, chance=chance, key=given.get("key"))

    def _words(self, node: Node) -> Said | None:
        """The words of a rule; keys are taken as they are written, as `on` is a truth value in YAML 1.1."""
        if not isinstance(node, yaml.MappingNode):
            self._complain(node.start_mark.line, "a rule is a mapping: {on: batches.create, do: drop_after}")
            return None
        said: Said = {}
        for key, value in node.value:
            line = key.start_mark.line
            if not isinstance(key, yaml.ScalarNode):
                self._complain(line, "a rule has words before its colons")
            elif key.value in said:
                self._complain(line, f"{key.value} is said twice")
            else:
                said[key.value] = (self._value(value), line)
        return said

    def _value(self, node: Node) -> Any:
        try:
            return self._loader.construct_object(node, deep=True)
        except (yaml.YAMLError, ValueError):
            return None  # fits nothing, and is told so

    def _named(self, said: Said, word: str, known: Iterable[str], line: int) -> str | None:
        if word not in said:
            self._complain(line, f"a rule needs {word}: {_listed(known)}")
            return None
        value, line = said.pop(word)
        if value in tuple(known):
            return str(value)
        close = _close(value, known)
        self._complain(line, f"{word}: {_shown(value)} is not known{close or f': it is {_listed(known)}'}")
        return None

    def _check(self, said: Said, known: Mapping[str, Value], where: str) -> None:
        for word, (value, line) in said.items():
            if word not in known:
                close = _close(word, known) or f"; {where} knows {_listed(known)}"
                self._complain(line, f"{_shown(word)} is not known here{close}")
            elif not known[word].fits(value):
                self._complain(line, f"{word}: {_shown(value)} does not fit: it is {known[word].expected}")

    def _complain(self, line: int, words: str) -> None:
        self.problems.append(f"{self._path}:{line + 1}: {words}")


def _listed(known: Iterable[str]) -> str:
    return ", ".join(known)


def _shown(value: Any) -> str:
    shown = repr(value)
    return shown if len(shown) <= _SHOWN else f"{shown[:_SHOWN]}…"


def _close(value: Any, known: Iterable[str]) -> str:
    """`; did you mean …?`, if there is something like it."""
    found = difflib.get_close_matches(str(value), list(known), 1)
    return f"; did you mean {found[0]}?" if found else ""
