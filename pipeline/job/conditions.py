"""Conditions of `where` and `when`: a field is one of some texts, or is not; nothing else."""

from __future__ import annotations

import unicodedata
from typing import TYPE_CHECKING, NamedTuple

from pipeline.job.placeholders import fold
from pipeline.job.sources import text_of
from pipeline.job.yaml12 import List, Map

if TYPE_CHECKING:
    from pipeline.job.problems import Place


class Condition(NamedTuple):
    """The field is (or is not) one of the texts."""

    name: str
    word: str
    is_not: bool
    texts: frozenset[str]
    place: Place


def read(written: Map) -> tuple[Condition, ...]:
    """The conditions of a map that fits the schema, in their order."""
    return tuple(_condition(written, name) for name in written)


def holds(condition: Condition, value: str) -> bool:
    """Whether a value is what the condition asks for."""
    return (compared(value) in condition.texts) is not condition.is_not


def compared(text: str) -> str:
    """A text as texts are compared: without white space around it, and in one form of its accents."""
    text = text.strip()
    return text if text.isascii() else unicodedata.normalize("NFC", text)


def _condition(written: Map, name: str) -> Condition:
    node, is_not = written.nodes[name], False
    if isinstance(node.value, Map):
        node, is_not = node.value.nodes["not"], True
    nodes = node.value.nodes if isinstance(node.value, List) else [node]
    texts = frozenset(compared(text_of(one)) for one in nodes)
    return Condition(fold(name), name, is_not, texts, written.keys_at[name])
