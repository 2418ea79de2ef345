"""YAML by the 1.2 core rules: bounded, with the place of every key and value, and never an object but data.

PyYAML follows 1.1, where `16:9` is 969, `no` is false and `010` is eight. Here it only parses: this module
makes the values from its events, so that size, depth and aliases are held within bounds before anything
is built, and so that each scalar keeps the text it was written as.
"""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING, Any, NamedTuple, NoReturn

import yaml

from pipeline.errors import JobError
from pipeline.job.problems import Place, Source, quoted

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

MAX_BYTES = 10_000_000
MAX_NODES = 100_000
MAX_DEPTH = 50
_LONGEST_LINE = 2_000
"""Characters of a line in which it is looked for what was meant; that takes the square of its length."""

_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_BREAK = re.compile("\r\n|[\r\n\x85\u2028\u2029]")
_UNPRINTABLE = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\x80-\x84\x86-\x9f\ud800-\udfff\ufffe\uffff]")
_KEY = re.compile(r"AIza[0-9A-Za-z_-]{35}")
_NULL = re.compile(r"~|null|Null|NULL|")
_BOOL = {"true": True, "True": True, "TRUE": True, "false": False, "False": False, "FALSE": False}
_WHOLE = re.compile(r"[-+]?(0|[1-9][0-9]{0,99})|0o[0-7]{1,99}|0x[0-9a-fA-F]{1,99}")
_NUMBER = re.compile(r"[-+]?(\.[0-9]+|(0|[1-9][0-9]*)(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_BRACKET = re.compile(r"""^\s*(?:-\s+)?(?:[^\s'"#\[{][^'"#\[{]*:\s+)?(\[[^\[\]]*\].*?)\s*$""")


class Node(NamedTuple):
    """A value as it stands in a file; `text` is what was written, for a scalar."""

    value: Any
    place: Place
    text: str | None = None


class Map(dict[str, Any]):
    """A map that knows where each key and value was written, and the text of each scalar."""

    def __init__(self, place: Place) -> None:
        super().__init__()
        self.place = place
        self.is_cut = False
        """Whether something was taken out that did not fit."""
        self.keys_at: dict[str, Place] = {}
        self.nodes: dict[str, Node] = {}

    def put(self, key: str, key_at: Place, node: Node) -> None:
        self[key] = node.value
        self.keys_at[key] = key_at
        self.nodes[key] = node

    def drop(self, key: str) -> None:
        """Take a key away."""
        for part in (self, self.keys_at, self.nodes):
            part.pop(key, None)

    def at(self, key: str) -> Place:
        """Where the value of a key starts."""
        return self.nodes[key].place


class List(list[Any]):
    """A list that knows where each value was written, and the text of each scalar."""

    def __init__(self, place: Place) -> None:
        super().__init__()
        self.place = place
        self.is_cut = False
        self.nodes: list[Node] = []

    def put(self, node: Node) -> None:
        self.append(node.value)
        self.nodes.append(node)

    def drop(self, number: int) -> None:
        """Take an entry away."""
        del self[number], self.nodes[number]


def decoded(data: bytes, file: str) -> str:
    """The text of a file people write: UTF-8, with or without a byte order mark."""
    whole = Place(Source(file))
    if len(data) > MAX_BYTES:
        raise JobError(
            [whole.problem(f"more than {MAX_BYTES // 1_000_000} MB is no manifest", "put the rows in a CSV")]
        )
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise JobError([whole.problem("is UTF-16", "save it as UTF-8")])
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        before = data[: error.start].decode("utf-8-sig")
        lines = _BREAK.split(before)
        place = Place(Source(file), len(lines), len(lines[-1]) + 1)
        raise JobError([place.problem(f"byte 0x{data[error.start]:02x} is not UTF-8", "save it as UTF-8")]) from None
    return text


def parse(text: str, file: str, folder: Path | None = None) -> Node:
    """The one document of a text; raises `JobError` for what is no YAML, or more than we allow."""
    source = Source(file, _BREAK.split(text), folder)
    _check_characters(text, source)
    reader = _Reader(source)
    try:
        return reader.document(yaml.parse(text, Loader=_LOADER))
    except yaml.MarkedYAMLError as error:
        raise JobError([_explained(error, source)]) from None
    except yaml.YAMLError as error:
        raise JobError([Place(source).problem(f"is not YAML: {quoted(error)}")]) from None


def refuse_keys(text: str, file: str) -> None:
    """Raise `JobError` where a text holds an API key, which would be sent along and recorded."""
    if key := _KEY.search(text):
        place = _place_of(key.start(), text, Source(file))  # no source: the excerpt must not show it
        raise JobError([place.problem("holds an API key", "revoke it, and set GEMINI_API_KEY instead")])


def _check_characters(text: str, source: Source) -> None:
    refuse_keys(text, source.file)
    if bad := _UNPRINTABLE.search(text):
        place = _place_of(bad.start(), text, source)
        raise JobError([place.problem(f"control character {quoted(bad.group())} in the file", "delete it")])


def _place_of(index: int, text: str, source: Source) -> Place:
    lines = _BREAK.split(text[:index])
    return Place(source, len(lines), len(lines[-1]) + 1)


class _Reader:
    """Builds values from parse events. Recursion is safe: the depth is bounded first."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self._nodes = 0
        self._anchors: dict[str, tuple[Node, int] | None] = {}

    def document(self, events: Iterator[Any]) -> Node:
        root = Node(None, Place(self._source, 1, 1))
        for event in events:
            if isinstance(event, yaml.DocumentStartEvent):
                root = self._node(next(events), events, 1)
                break
        next(events, None)  # the end of the document
        after = next(events, None)
        if isinstance(after, yaml.DocumentStartEvent):
            self._refuse(self._place(after), "a second document in one manifest", "one file holds one job")
        return root

    def _node(self, event: Any, events: Iterator[Any], depth: int) -> Node:
        place = self._place(event)
        if isinstance(event, yaml.AliasEvent):
            return self._alias(str(event.anchor), place)
        self._count(1, place)
        if depth > MAX_DEPTH:
            self._refuse(place, f"nested more than {MAX_DEPTH} deep")
        if event.tag is not None:
            self._refuse(place, f"tag {quoted(event.tag)} is not allowed", "a manifest holds plain text and numbers")
        before = self._nodes
        if event.anchor:
            self._anchors[event.anchor] = None  # being read: an alias inside would be endless
        node = self._value(event, place, events, depth)
        if event.anchor:
            self._anchors[event.anchor] = node, self._nodes - before + 1
        return node

    def _alias(self, name: str, place: Place) -> Node:
        if name not in self._anchors:
            self._refuse(place, f"unknown anchor {quoted(name)}", f'if this is text, quote it: "*{name}"')
        known = self._anchors[name]
        if known is None:
            self._refuse(place, f"anchor {quoted(name)} contains itself")
        node, size = known
        self._count(size, place)
        return node

    def _count(self, size: int, place: Place) -> None:
        self._nodes += size
        if self._nodes > MAX_NODES:
            self._refuse(
                place, f"more than {MAX_NODES:,} values, aliases counted", "put the rows in a CSV or JSONL file"
            )

    def _value(self, event: Any, place: Place, events: Iterator[Any], depth: int) -> Node:
        if isinstance(event, yaml.ScalarEvent):
            if lone := _UNPRINTABLE.search(event.value):
                self._refuse(place, f"control character {quoted(lone.group())} in a text")
            return Node(scalar(event.value) if event.implicit[0] else event.value, place, event.value)
        if isinstance(event, yaml.SequenceStartEvent):
            return Node(self._list(place, events, depth), place)
        return Node(self._map(place, events, depth), place)

    def _list(self, place: Place, events: Iterator[Any], depth: int) -> List:
        values = List(place)
        for event in events:
            if isinstance(event, yaml.SequenceEndEvent):
                break
            values.put(self._node(event, events, depth + 1))
        return values

    def _map(self, place: Place, events: Iterator[Any], depth: int) -> Map:
        values = Map(place)
        merged: list[Node] = []
        for event in events:
            if isinstance(event, yaml.MappingEndEvent):
                break
            key = self._node(event, events, depth + 1)
            if key.text is None:
                self._refuse(key.place, "a key must be a text", 'quote it: "[…]"')
            if key.text in values or (merged and key.text == "<<"):
                self._refuse(key.place, f"key {quoted(key.text)} is there twice")
            value = self._node(next(events), events, depth + 1)
            if key.text == "<<":
                merged.append(value)
            else:
                values.put(key.text, key.place, value)
        for value in merged:
            self._merge(value, values)
        return values

    def _merge(self, node: Node, into: Map) -> None:
        for base in node.value if isinstance(node.value, List) else [node.value]:
            if not isinstance(base, Map):
                self._refuse(node.place, "'<<' takes a map, or a list of maps")
            for key in base:
                if key not in into:
                    into.put(key, base.keys_at[key], base.nodes[key])

    def _place(self, event: Any) -> Place:
        return Place(self._source, event.start_mark.line + 1, event.start_mark.column + 1)

    def _refuse(self, place: Place, message: str, hint: str = "") -> NoReturn:
        raise JobError([place.problem(message, hint)])


def scalar(text: str) -> Any:
    """The value of a plain scalar by the core schema; a number with a leading zero stays text."""
    if _NULL.fullmatch(text):
        return None
    if text in _BOOL:
        return _BOOL[text]
    if _WHOLE.fullmatch(text):
        return int(text, 0)
    if _NUMBER.fullmatch(text) and math.isfinite(number := float(text)):
        return number
    return text


def _explained(error: yaml.MarkedYAMLError, source: Source) -> Any:
    """A syntax error in words, with what people mostly meant."""
    mark = error.problem_mark or error.context_mark
    if error.context_mark and any(words in str(error.problem) for words in _AFTER):
        mark = error.context_mark  # the end of the file, or the next line, is where it was noticed
    place = Place(source, mark.line + 1, mark.column + 1) if mark else Place(source)
    line = source.lines[place.line - 1] if 0 < place.line <= len(source.lines) else ""
    bracket = _BRACKET.match(line) if len(line) <= _LONGEST_LINE else None
    if bracket and not bracket.group(1).endswith("]"):
        where = Place(source, place.line, bracket.start(1) + 1)
        return where.problem("a text that starts with [ needs quotes", f'quote it: "{bracket.group(1)}"')
    if "nesting depth" in str(error.problem):
        return place.problem(f"nested more than {MAX_DEPTH} deep")
    return place.problem(
        f"is not YAML: {error.problem or error.context}", _advice(str(error.problem), line, place.column)
    )


_ADVICE = {
    "mapping values": "a text with ': ' in it needs quotes, or a block: key: |",
    "expected ':'": "a key and its value are written key: value, with a space after the colon",
    "end of stream": "a quote or bracket is not closed",
    "block mapping": "are the keys below one another indented alike?",
}
_AFTER = ("unexpected end of stream", "could not find expected ':'")


def _advice(problem: str, line: str, column: int) -> str:
    char = line[column - 1 : column]
    if char == "\t" or "\t" in line[: len(line) - len(line.lstrip())]:
        return "indent with spaces, not with tabs"
    if char in {"@", "`", "%", "*", "&"}:
        return "a text that starts so needs quotes"
    if "alphabetic" in problem:
        return f'if this is text, quote it: "{line[column - 2 :].strip()[:80]}"'
    return next((advice for words, advice in _ADVICE.items() if words in problem), "")
