"""Other settings for one call, as `retry --set size=1K` says them, laid over asks that stay what they are.

A request that is asked so keeps its key, its path and the fingerprint of the manifest's ask, and settles that one.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from pipeline.errors import JobError, UsageError
from pipeline.job import schema, settings
from pipeline.job.limits import check_model, check_offer, check_references
from pipeline.job.placeholders import BracketError, split
from pipeline.job.problems import Place, Problems, Source, meant, quoted
from pipeline.job.settings import OF_THE_ASK, Said
from pipeline.job.vocabulary import CALLED
from pipeline.job.yaml12 import refuse_keys

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from datetime import date

    from pipeline.errors import Problem
    from pipeline.job.ask import Ask
    from pipeline.job.expand import Request
    from pipeline.job.limits import Model, Models
    from pipeline.job.settings import Layer

_WHAT = "change it in the manifest: `pipeline run` then renders what that changes"
_INSTEAD: Mapping[str, str] = {
    **dict.fromkeys(("prompt", "template", "turns", "images", "vars"), _WHAT),
    "samples": "change it in the manifest: `pipeline run` then renders the images that are new",
    "max_age": "write it into the manifest: it says when an image is old, not how it is asked for",
    "skip": "to leave images out say --exclude 'key:…'",
}
"""Words of the language that are not how an image is asked for, and what to do with them."""
_MOST_SEED = 2**31 - 1
_OFFERED = ("aspect", "size", "thinking", "search")


@dataclass(frozen=True, slots=True)
class Change:
    """The settings of one call."""

    layer: Layer

    @classmethod
    def of(cls, texts: Sequence[str]) -> Change:
        """Read `WORD=VALUE` texts, each value by the rules of its word; raises `UsageError`."""
        layer: Layer = {}
        for text in texts:
            word, name, value = _read(text)
            said = Said({name: Said(value, _place(text))} if name else value, _place(text))
            if word in layer and not (name and name not in layer[word].value):
                raise UsageError(f"--set: {quoted(text.partition('=')[0])} is there twice", hint="one value for each")
            layer = settings.over(layer, {word: said})
        return cls(layer)

    def told(self) -> dict[str, Any]:
        """The values by their words, as plain data."""
        return {word: _plain(said.value) for word, said in self.layer.items()}


class Changing:
    """Makes the asks of a call with its settings, and looks whether the models can do that."""

    def __init__(self, change: Change, models: Models, today: date, warn: Callable[[Problem], None]) -> None:
        self._layer, self._models, self._today, self._warn = change.layer, models, today, warn
        self._values = change.told()
        self._problems = Problems()
        self._known: dict[str, Model | None] = {}
        self.is_used = False
        """Whether any request was changed."""

    def changed(self, request: Request) -> Request:
        """A request with the settings of the call in place of its own; `check` raises what is wrong with it."""
        self.is_used = True
        ask, values = request.ask, dict(self._values)
        if "safety" in values:
            values["safety"] = dict(sorted({**ask.written.get("safety", {}), **values["safety"]}.items()))
        written = {**ask.written, **values}
        own = {word: values[word] for word in ("model", "aspect", "size") if word in values}
        changed = replace(ask, **own, written={word: written[word] for word in OF_THE_ASK if word in written})
        found = Problems()
        self._look_at(ask, changed, found)
        for problem in found.found():
            told = problem._replace(message=f"{problem.message}, and {quoted(request.key)} is to be asked so")
            self._problems.add(told, once=problem)
        return replace(request, ask=changed)

    def check(self) -> None:
        """Raise one `JobError` that names everything that was wrong, each once, with the first key it is about."""
        self._problems.check()

    def _look_at(self, before: Ask, ask: Ask, problems: Problems) -> None:
        if ask.turn and ask.model != before.model:
            message = "a conversation keeps its model: the thoughts that go back with each turn are signed for it"
            problems.add(self._layer["model"].place.problem(message, f"leave {quoted('model')} out, or --exclude it"))
            return
        told = ask.settings()
        if told.get("seed", 0) > _MOST_SEED:
            message = f"seed {told['seed']} is too large: the samples count up from it"
            problems.add(self._layer["seed"].place.problem(message, f"the last sample has at most {_MOST_SEED}"))
        model = self._model(ask.model)
        if model is None:
            return
        of_model = self._layer.get("model")
        said = {
            word: Said(told[word], (self._layer.get(word) or of_model or self._layer[word]).place)
            for word in _OFFERED
            if word in told and (word in self._layer or (of_model and word in ask.written))
        }
        check_offer(model, said, problems)
        wrong = check_references(model, [(image, "") for image in ask.images]) if of_model else None
        if wrong is not None and of_model and not wrong[2]:
            problems.add(of_model.place.problem(wrong[0], wrong[1]))

    def _model(self, word: str) -> Model | None:
        """A model; one of the call's own that is not known, or gone, is told of once."""
        if "model" not in self._layer:
            return self._models.find(word)
        if word not in self._known:
            self._known[word] = check_model(self._layer["model"], self._models, self._today, self._problems, self._warn)
        return self._known[word]


def as_recorded(request: Request, told: Mapping[str, Any]) -> Request:
    """A request as its record says it is asked: the record's model and settings in place of the manifest's.

    A record that no setting can be read from changes nothing: it may come from a file that anybody can edit.
    """
    values = {**told["settings"], "model": told["model"]}
    if any(word not in OF_THE_ASK or _is_wrong(word, value) for word, value in values.items()):
        return request
    values.setdefault("response", ["image"])
    if "seed" in values:
        values["seed"] -= request.sample - 1
    own = {word: values[word] for word in ("model", "aspect", "size")}
    written = {word: values[word] for word in OF_THE_ASK if word in values}
    return replace(request, ask=replace(request.ask, **own, written=written))


def _is_wrong(word: str, value: Any) -> bool:
    return schema.wrong_value(word, value, word) is not None


def _plain(value: Any) -> Any:
    return {name: said.value for name, said in value.items()} if isinstance(value, dict) else value


def _place(text: str) -> Place:
    return Place(Source(f"--set {text}"))


def _read(text: str) -> tuple[str, str, Any]:
    """The word, the filter of `safety` if it is one, and the value."""
    try:
        text.encode()
    except UnicodeEncodeError:
        raise UsageError(f"--set {text!r} is no text", hint="write it in UTF-8") from None
    name, equals, value = text.partition("=")
    word, _dot, inner = name.strip().partition(".")
    _refuse_word(word, inner, text)
    if not equals:
        raise UsageError(f"--set {text!r} says no value", hint=f"such as --set {word}={_example(word)}")
    if not value.strip():
        raise UsageError(f"--set {name}: the value is empty", hint=f"such as --set {word}={_example(word)}")
    try:
        return word, inner, _value(word, inner, value)
    except ValueError as error:
        message, hint = (*error.args, "")[:2]
        if "," in value and "=" in value:
            hint = "say --set once for each setting"
        said = message.replace("'set.", "'", 1)
        raise UsageError(f"--set {name}: {said}", hint=hint.replace("set.", "--set ")) from None


def _refuse_word(word: str, inner: str, text: str) -> None:
    if word in _INSTEAD:
        raise UsageError(f"--set {text}: {quoted(word)} is not how an image is asked for", hint=_INSTEAD[word])
    if word not in OF_THE_ASK:
        called = CALLED.get(word.casefold().replace("-", "_"), "")
        near = f"; here it is called {quoted(called)}" if called in OF_THE_ASK else meant(word, OF_THE_ASK)
        words = f"{', '.join(OF_THE_ASK[:-1])} or {OF_THE_ASK[-1]}"
        raise UsageError(f"--set {text}: {quoted(word)} is no setting{near}", hint=f"one of {words}")
    if bool(inner) != (word == "safety"):
        hint = "name one filter: --set safety.dangerous_content=block_only_high" if not inner else f"write {word}="
        raise UsageError(f"--set {text}: {quoted(word)} has {'one value' if inner else 'several filters'}", hint=hint)


def _example(word: str) -> str:
    examples = {"size": "1K", "aspect": "4:5", "model": "pro", "thinking": "high", "response": "text,image"}
    return examples.get(word, "…")


def _value(word: str, inner: str, text: str) -> Any:
    """The one form of a value; `ValueError`: message and hint."""
    if word != "system":
        bare = text.strip()
        is_list = word in settings.LISTS and bare.startswith("[") and bare.endswith("]")
        return settings.of_cell(word, bare[1:-1] if is_list else bare, _place(text), inner)
    try:
        refuse_keys(text, "--set system")
        literal = split(text).literal
    except JobError as error:
        raise ValueError(error.problems[0].message, error.problems[0].hint) from None
    except BracketError as error:
        raise ValueError(str(error), error.hint) from None
    if literal is None:
        raise ValueError("'system' is one text for all, without placeholders", "write [[word]] for the brackets")
    return literal
