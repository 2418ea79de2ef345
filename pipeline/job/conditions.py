"""Conditions of `where` and `when`: a field is one of some texts, or is not; nothing else."""

from __future__ import annotations

from pipeline.job.items import Condition
from pipeline.job.placeholders import fold
from pipeline.job.sources import text_of
from pipeline.job.yaml12 import List, Map


def read(written: Map) -> tuple[Condition, ...]:
    """The conditions of a map that fits the schema, in their order."""
    return tuple(_condition(written, name) for name in written)


def holds(condition: Condition, value: str) -> bool:
    """Whether a value is what the condition asks for; white space around it does not count."""
    return (value.strip() in condition.texts) is not condition.is_not


def _condition(written: Map, name: str) -> Condition:
    node, is_not = written.nodes[name], False
    if isinstance(node.value, Map):
        node, is_not = node.value.nodes["not"], True
    nodes = node.value.nodes if isinstance(node.value, List) else [node]
    texts = frozenset(text_of(one).strip() for one in nodes)
    return Condition(fold(name), name, is_not, texts, written.keys_at[name])
