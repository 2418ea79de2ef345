"""Where results go below a job's folder: the path template, its defaults, and what is reserved."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pipeline.job.placeholders import Slot, Template, fold, value_of
from pipeline.job.slugs import slug

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pipeline.job.placeholders import Bound

RESERVED_FOLDERS = frozenset({"gallery", "proof"})
RESERVED_FILES = frozenset({"manifest", "picks"})
OWN = "="
"""Before a name: the built-in itself, whatever a column of that name holds. No name of a user's folds to it."""
_TREES = frozenset({f"{OWN}id", "id", "item"})


def completed(written: Template | None, varying: Sequence[str], samples: int, *, turns: int = 1) -> Template:
    """The path template of a job: with its default, and with `-[sample]` and `-[turn]` where they must be told apart.

    `turns` is how many turns of a conversation are kept.
    """
    if written is None:
        slots = [Slot(f"{OWN}id", "id", None)]
        slots += [Slot(f"{OWN}{fold(axis)}", axis, None) for axis in varying]
        parts: list[str | Slot] = [part for slot in slots for part in ("-", slot)][1:]
    else:
        parts = list(written.parts)
    names = Template(tuple(parts)).names
    for word, count in (("sample", samples), ("turn", turns)):
        if count > 1 and word not in names:
            parts += ["-", Slot(f"{OWN}{word}", word, None)]
    return Template(tuple(parts))


def fixed_values(fixed: Mapping[str, str | None], axes: Mapping[str, str]) -> dict[str, str | None]:
    """Values that are the same for all rows, for use in a path: a slash in a value makes no folder."""
    own = {f"{OWN}{fold(axis)}": value for axis, value in axes.items()}
    return {name: value and value.replace("/", "-") for name, value in {**fixed, **own}.items()}


def path_of(bound: Bound, cells: Sequence[str], moving: Mapping[str, str], *, is_image: bool) -> str:
    """The slugged path of one result. The id of an image is a path itself, and keeps its folders."""
    text = ""
    for part in bound:
        if isinstance(part, str):
            text += part
            continue
        value = value_of(part, cells, moving)
        text += value if is_image and part.slot.name in _TREES else value.replace("/", "-")
    if "/" not in text:
        return slug(text)
    return "/".join(slug(segment) for segment in text.split("/") if segment)


def reserved(path: str) -> str:
    """Why a path cannot be used; nothing when it can."""
    first = path.partition("/")[0]
    if first in RESERVED_FOLDERS:
        return f"{first}/ is for the product's own files"
    return f"{path}.jsonl is the product's own file" if path in RESERVED_FILES else ""
