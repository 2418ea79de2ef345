"""Requests of the plain kind as forms: written once, with blanks that each row fills in.

What `expand`, `request`, `ask` and `paths` say is the law. A form asks it once, with marks where rows will differ, and
cuts what it says at the marks; so nothing of it is written here a second time. What is not plain has no form, and a row
that fits none of the short ways below is left to the law, which also finds the words for what is wrong with it.
"""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import replace
from json.encoder import encode_basestring_ascii
from operator import itemgetter
from typing import TYPE_CHECKING, Any, NamedTuple

from pipeline.errors import JobError
from pipeline.job.paths import OWN, RESERVED_FILES, RESERVED_FOLDERS, path_of, reserved
from pipeline.job.placeholders import EmptySlotError, Field, Missing, Moving, fill
from pipeline.job.request import MAX_PROMPT, Name, Texts, ask_of, key_of, request_of
from pipeline.job.slugs import MAX_SEGMENT

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from decimal import Decimal

    from pipeline.job.ask import Ask, Image
    from pipeline.job.fitting import Fitting
    from pipeline.job.items import Row
    from pipeline.job.placeholders import Bound
    from pipeline.job.request import Request
    from pipeline.job.rowimages import RowImages

KEY, ITEM, ID, FINGERPRINT, PROMPT = (f"\0{name}\0" for name in ("key", "item", "id", "fingerprint", "prompt"))
"""Marks for what a row fills in; no text of a user's holds a NUL."""
VARS = {"\0vars\0": ""}
SHORT = 4
"""Characters of the longest name that Windows keeps to itself, such as `com1`."""
RESERVED = RESERVED_FOLDERS | RESERVED_FILES
_MANY = 1000


def cut(text: str, *marks: object) -> tuple[str, ...] | None:
    """What stands around these values in a JSON text, where each is there once and in this order; else None."""
    parts = []
    for mark in marks:
        written = json.dumps(mark, separators=(",", ":"))
        before, found, text = text.partition(written)
        if not found or written in before or written in text:
            return None
        parts.append(before)
    return (*parts, text)


class Filled(NamedTuple):
    """A form as one row fills it in: a request whose parts are worked out when they are asked for."""

    form: Form
    row: Row
    key: str
    path: str
    prompt: str
    written: str
    """The prompt as a JSON text of ASCII characters."""
    fingerprint: str
    slug: str
    """The id, where it is a slug as it stands; else empty."""

    @property
    def id(self) -> str:
        return self.row.id

    @property
    def ask(self) -> Ask:
        return self.form.ask(self.prompt)

    @property
    def where(self) -> str:
        return self.row.where

    @property
    def price(self) -> Decimal | None:
        return self.form.fitted.turn.price

    @property
    def keeps(self) -> bool:
        return True

    def request(self) -> Request:
        """What the law says of this row."""
        fitting, row = self.form.fitting, self.row
        name = Name(self.key, row.id + fitting.cell.suffix, row.id, self.path, fitting.told_of(row), row.where)
        return self.form.request(name, self.prompt)


class Form:
    """A sample in a cell, for rows with the same columns."""

    __slots__ = (
        "_images", "_system", "facts", "fitted", "fitting", "key_tail", "sample", "text",
    )  # fmt: skip

    def __init__(
        self, fitting: Fitting, sample: int, text: _Text, seen: tuple[tuple[Image, ...], dict[str, str]]
    ) -> None:
        self.fitting, self.fitted, self.sample, self.text = fitting, fitting.turns[0], sample, text
        self._images, labels = seen
        self._system = fill(self.fitted.system, (), {}) if self.fitted.system is not None else None
        self.key_tail = key_of(fitting.cell.suffix, fitting.cell, sample)
        self.facts = {**labels, "sample": str(sample), f"{OWN}sample": str(sample)}

    @property
    def has_images(self) -> bool:
        return bool(self._images)

    def ask(self, prompt: str) -> Ask:
        texts = Texts(prompt, self._system, self._images)
        return ask_of(self.fitting.cell, self.fitted.turn, texts, sample=self.sample, edits_image=False)

    def request(self, name: Name, prompt: str) -> Request:
        return request_of(name, self.fitted.turn, self.ask(prompt))

    def blank(self) -> Request:
        """The request with marks in place of what rows fill in."""
        return replace(self.request(Name(KEY, ITEM, ID, "", VARS, ""), PROMPT), fingerprint=FINGERPRINT)

    def quick(self) -> Quick:
        """What is needed of it for each row, at hand."""
        around = cut(self.ask(PROMPT).canonical().decode(), PROMPT)
        assert around is not None  # there is one prompt in what is canonical, and no other text with a NUL
        before, after = around
        tail = _path_tail(self.fitted.path, self.facts)
        return Quick(self, self.text, self.key_tail, tail, hashlib.sha256(before.encode()).copy, after.encode())

    def facts_of(self, row: Row) -> dict[str, str]:
        """What the built-ins of a request are."""
        item = row.id + self.fitting.cell.suffix
        return {"id": row.id, f"{OWN}id": row.id, "item": item, **row.line.facts, **self.facts}


class Quick(NamedTuple):
    """A form, and what is needed of it for each row, at hand."""

    form: Form
    text: _Text
    key_tail: str
    path_tail: str | None
    """What follows an id that is a slug, in the path; None where that is not all there is to it."""
    digest: Callable[[], Any]
    """The digest of what stands before the prompt in a canonical ask."""
    after: bytes
    """What stands behind it."""


class Forms:
    """The forms of a job, made as rows come by."""

    def __init__(self, images: RowImages) -> None:
        self._images = images
        self._known: dict[tuple[Fitting, ...], tuple[Quick, ...] | None] = {}
        self._texts: dict[Bound, _Text] = {}
        self._last: Sequence[Fitting] | None = None
        self._quick: tuple[Quick, ...] | None = None
        self.have_images = False
        """Whether any of them shows some."""

    def filled(self, row: Row, fittings: Sequence[Fitting]) -> list[Filled] | None:
        """The requests of a row in these cells; None where only the law can tell."""
        quick = self.quick(row, fittings)
        if quick is None:
            return None
        id_ = row.id
        slug, found = id_ if _is_slug(id_) else "", list[Filled]()
        for form, text, key_tail, tail, copy, after in quick:
            said = text.said if text.row is row else text.of(row, form)
            path = slug + tail if slug and tail is not None else ""
            if not SHORT < len(path) <= MAX_SEGMENT or path in RESERVED:
                path = _path(form, row)
            if said is None or not path:
                return None
            prompt, written, data = said
            digest = copy()
            digest.update(data + after)
            found.append(_new(Filled, (form, row, id_ + key_tail, path, prompt, written, digest.hexdigest(), slug)))
        return found

    def quick(self, row: Row, fittings: Sequence[Fitting]) -> tuple[Quick, ...] | None:
        """The forms of these cells, for rows with the columns of this one; None where there are none."""
        if fittings is not self._last:
            self._last, self._quick = fittings, self._of(row, tuple(fittings))
        return self._quick

    def _of(self, row: Row, fittings: tuple[Fitting, ...]) -> tuple[Quick, ...] | None:
        if fittings not in self._known:
            if len(self._known) >= _MANY:  # rows that all bring their own must not pile up
                self._known.clear()
                self._texts.clear()
            made = tuple(form.quick() for fitting in fittings for form in self._forms(row, fitting))
            self._known[fittings] = made if len(made) == sum(fitting.cell.samples for fitting in fittings) else None
        return self._known[fittings]

    def _forms(self, row: Row, fitting: Fitting) -> Iterator[Form]:
        """The forms of a cell, one for each sample; none where it is not plain."""
        if not _is_plain(fitting):
            return
        fitted, labels = fitting.turns[0], dict[str, str]()
        try:
            images = self._images.of(fitted, row, labels, fitting.cell.known_model)
        except JobError:  # the law finds it again, and tells of it
            return
        self.have_images = self.have_images or bool(images)
        for sample in range(1, fitting.cell.samples + 1):
            text = self._texts.setdefault(fitted.text, _Text(fitted.text))
            yield Form(fitting, sample, text if text.is_of_row else _Text(fitted.text), (images, labels))


def _is_plain(fitting: Fitting) -> bool:
    """Whether one turn makes the request, and the row brings nothing to it but texts."""
    [fitted, *others] = fitting.turns
    if others or fitted.turn.number or any(part.__class__ is Missing for part in (*fitted.text, *fitted.path)):
        return False
    if any(one.template.literal is None for _bound, one in fitted.images):
        return False
    if fitted.system is None:
        return True
    return all(isinstance(part, str) for part in fitted.system) and _is_sendable(fill(fitted.system, (), {}))


def _is_sendable(text: str) -> bool:
    """Whether a text is sent as it stands, beyond doubt."""
    return not ("\r" in text or "AIza" in text or len(text) > MAX_PROMPT or not text or text.isspace())


class _Text:
    """A prompt, bound to columns."""

    __slots__ = ("_cells", "_format", "bound", "is_of_row", "row", "said")

    def __init__(self, bound: Bound) -> None:
        self.bound = bound
        self.is_of_row = all(isinstance(part, str | Field) for part in bound)
        """Whether it is the same in all cells and samples."""
        fields = [part for part in bound if isinstance(part, Field)]
        is_quick = self.is_of_row and len(fields) > 1 and all(field.slot.fallback is None for field in fields)
        self._cells = itemgetter(*(field.at for field in fields)) if is_quick else None
        self._format = "".join(part.replace("%", "%%") if isinstance(part, str) else "%s" for part in bound)
        self.row: Row | None = None
        """The row that `said` is of."""
        self.said: tuple[str, str, bytes] | None = None
        """The text, and twice the same as JSON; None where only the law can tell."""

    def of(self, row: Row, form: Form) -> tuple[str, str, bytes] | None:
        self.said = said = self._said(row, form)
        self.row = row if self.is_of_row else None
        return said

    def _said(self, row: Row, form: Form) -> tuple[str, str, bytes] | None:
        cells = row.line.cells
        if self._cells is not None:
            values = self._cells(cells)
            if not all(values) or True in map(str.isspace, values):
                return None
            text = self._format % values
        else:
            try:
                text = fill(self.bound, cells, {} if self.is_of_row else form.facts_of(row))
            except EmptySlotError:
                return None
        return (text, *_written(text)) if _is_sendable(text) else None


def _written(text: str) -> tuple[str, bytes]:
    """A text as JSON of ASCII characters, as `json.dumps` has it."""
    written = encode_basestring_ascii(text)
    return written, written.encode()


_is_slug = re.compile("[a-z0-9]+(?:-[a-z0-9]+)*").fullmatch
_new: Callable[[type[Filled], tuple[object, ...]], Filled] = tuple.__new__


def _path_tail(bound: Bound, facts: Mapping[str, str]) -> str | None:
    """What follows an id that is a slug, in the path; None where that is not all there is to it."""
    first, *rest = bound
    if not isinstance(first, Moving) or first.slot.name not in _IDS:
        return None
    if not all(isinstance(part, str) or (isinstance(part, Moving) and part.slot.name in facts) for part in rest):
        return None
    tails = {
        path_of(bound, (), {**facts, **dict.fromkeys(_IDS, one)}, is_image=False).removeprefix(one) for one in _PROBES
    }
    tail = tails.pop()
    return None if tails or "/" in tail else tail


_IDS = ("id", f"{OWN}id")
_PROBES = ("a", "b0", "c-d")


def _path(form: Form, row: Row) -> str:
    """The path of a request; empty where only the law can tell."""
    try:
        path = path_of(form.fitted.path, row.line.cells, form.facts_of(row), is_image=False)
    except EmptySlotError:
        return ""
    return "" if reserved(path) else path
