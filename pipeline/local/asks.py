"""What a GenerateContentRequest asks for, once its shape is right: checked against what the model offers."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from .catalog import OUTPUT_TOKENS
from .references import UNREADABLE, shape
from .refusals import RefusalError, invalid
from .validation import checked

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from .catalog import Model

    Fetch = Callable[[str], tuple[str, bytes]]
    """The MIME type and the bytes behind a file's URI."""

SIGNATURE = b"local\x01"
"""What a thought signature of ours begins with; the digest of the picture follows."""

_IMAGES = ("image/png", "image/jpeg", "image/webp", "image/heic", "image/heif", "image/gif", "image/avif")
_NAMED_RATIOS = {
    "ONE": "1",
    "TWO": "2",
    "THREE": "3",
    "FOUR": "4",
    "FIVE": "5",
    "EIGHT": "8",
    "NINE": "9",
    "SIXTEEN": "16",
    "TWENTY_ONE": "21",
}
_NAMED_SIZES = {"FIVE_TWELVE": "512", "ONE_K": "1K", "TWO_K": "2K", "FOUR_K": "4K"}
_HIGHEST = {"temperature": 2.0, "topP": 1.0}
_CHOICES = {"temperature": "temperature", "topP": "top-p", "topK": "top-k", "maxOutputTokens": "at most {} tokens"}
_SERIES = re.compile(r"\b(steps|several)\b", re.IGNORECASE)
_NUMBERS = {"two": 2, "three": 3, "four": 4, "five": 5, "six": 6}
_COUNTED = re.compile(
    rf"\b({'|'.join(_NUMBERS)}|[2-6])(?:\s+[a-z-]+)?\s+(?:steps|pictures|images|photographs|illustrations)\b",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True)
class Ask:
    """One picture asked for."""

    model: Model
    prompt: str
    """The text of the last turn of the user."""
    words: str
    """All text of the request, for counting and for telling asks apart."""
    system: str
    """The system instruction."""
    images: tuple[bytes, ...]
    """All images of the request, for the same."""
    turn: int
    """Which turn of the user it is, from 1."""
    earlier: bytes | None
    """The newest picture of the model, in a later turn of a conversation."""
    references: tuple[bytes, ...]
    """The images of the user: after that picture, if there is one."""
    aspect: str
    size: str
    modalities: frozenset[str]
    """What the answer may hold: `TEXT`, `IMAGE`."""
    with_thoughts: bool
    level: str
    seed: int | None
    searches: frozenset[str] = frozenset()
    """What the model may look up: `webSearch`, `imageSearch`."""
    choices: tuple[str, ...] = ()
    """Everything else that was chosen, in words; nothing for what was left to the model."""
    most_tokens: int | None = None

    @property
    def pictures(self) -> int:
        """How many pictures are drawn: where words come with them, as many as the prompt names, up to six.

        That is a number before `steps`, `pictures` and the like; two where it wants `steps`, or `several`.
        """
        if "IMAGE" not in self.modalities:
            return 0
        if "TEXT" not in self.modalities:
            return 1
        if counted := _COUNTED.search(self.prompt):
            number = counted[1].lower()
            return _NUMBERS.get(number) or int(number)
        return 2 if _SERIES.search(self.prompt) else 1

    @property
    def prompt_tokens(self) -> tuple[int, int]:
        """Tokens of text and tokens of images that go in."""
        return _text_tokens(self.words), len(self.images) * self.model.reference_tokens

    def digest(self, salt: str = "") -> bytes:
        """The same 32 bytes for the same ask; another salt is another sample."""
        told = (self.model.id, self.aspect, self.size, self.words, str(self.seed), self.level, salt, *self.choices)
        digest = hashlib.sha256("\x00".join(told).encode())
        for image in self.images:
            digest.update(hashlib.sha256(image).digest())
        return digest.digest()


def understood(request: Any, model: Model, fetch: Fetch) -> Ask:
    """The ask in a request as it came over the wire, or the refusal it gets."""
    fields = checked("GenerateContentRequest", request)
    if fields.get("model", "").removeprefix("models/") not in ("", model.id):
        raise invalid(f"The request names {fields['model']}, but was sent to models/{model.id}.")
    settings = fields.get("generationConfig", {})
    _check_contents(fields, model)
    _check_settings(settings, model)
    _check_tools(fields, model)
    turns = [turn for turn in fields["contents"] if turn.get("role", "user") == "user"]
    system = "\n".join(_texts(fields.get("systemInstruction", {})))
    words = "\n".join(filter(None, (system, *_texts(*fields["contents"]))))
    prompt = "\n".join(_texts(turns[-1]))
    if not "".join(_texts(*turns)).strip():
        raise invalid("The request has no text: say in words what the picture should show.")
    images = tuple(_images(fields["contents"], fetch))
    earlier, references = _newest(images)
    given = sum(bool(part.keys() & {"inlineData", "fileData"}) for turn in turns for part in turn["parts"])
    if given > model.references:
        raise invalid(f"models/{model.id} takes at most {model.references} images, the request has {given}.")
    aspect, size = _frame(settings, model, earlier or (references[0] if references else None))
    modalities = settings.get("responseModalities") or ["TEXT", "IMAGE"]
    thinking = settings.get("thinkingConfig", {})
    ask = Ask(
        model=model,
        prompt=prompt or words,
        words=words,
        system=system,
        images=tuple(image.data for image in images),
        turn=len(turns),
        earlier=earlier,
        references=references,
        aspect=aspect,
        size=size,
        modalities=frozenset(modalities),
        with_thoughts=model.thinks and thinking.get("includeThoughts", False),
        level=thinking.get("thinkingLevel") or (model.levels[0] if model.levels else "HIGH"),
        seed=settings.get("seed"),
        searches=frozenset().union(*map(_searches, fields.get("tools", ()))),
        choices=tuple(_choices(fields, settings)),
        most_tokens=settings.get("maxOutputTokens"),
    )
    if sum(ask.prompt_tokens) > model.input_tokens:
        raise invalid(
            f"The input token count ({sum(ask.prompt_tokens)}) exceeds "
            f"the maximum number of tokens allowed ({model.input_tokens})."
        )
    return ask


def counted(request: Any, model: Model, fetch: Fetch) -> tuple[int, int]:
    """Tokens of text and tokens of images in a request, whatever else is wrong with it."""
    fields = checked("GenerateContentRequest", request)
    turns = fields.get("contents")
    if not turns:
        raise invalid("* CountTokensRequest.contents: contents is not specified\n")
    for index, turn in enumerate(turns):
        for number, part in enumerate(turn.get("parts", ())):
            _check_part(part, f"CountTokensRequest.contents[{index}].parts[{number}]")
    words = "\n".join(filter(None, _texts(fields.get("systemInstruction", {}), *turns)))
    images = sum(1 for _ in _images([turn for turn in turns if turn.get("parts")], fetch))
    return _text_tokens(words), images * model.reference_tokens


def _text_tokens(words: str) -> int:
    return -(-len(words.encode()) // 4)


def _choices(fields: dict[str, Any], settings: dict[str, Any]) -> Iterator[str]:
    """What was chosen beside the frame and the words, in words."""
    for name, words in _CHOICES.items():
        if name in settings:
            value = f"{settings[name]:g}"
            yield words.format(value) if "{}" in words else f"{words} {value}"
    for setting in fields.get("safetySettings", ()):
        yield f"{setting.get('category')} {setting.get('threshold')}".removeprefix("HARM_CATEGORY_").lower()
    for name in sorted(frozenset().union(*map(_searches, fields.get("tools", ())))):
        yield f"{name.removesuffix('Search')} search"


def _texts(*turns: dict[str, Any]) -> Iterator[str]:
    return (part["text"] for turn in turns for part in turn.get("parts", ()) if "text" in part)


def _check_contents(fields: dict[str, Any], model: Model) -> None:
    contents = fields.get("contents")
    if not contents:
        raise invalid("* GenerateContentRequest.contents: contents is not specified\n")
    for index, turn in enumerate(contents):
        place = f"GenerateContentRequest.contents[{index}]"
        if turn.get("role", "user") not in ("user", "model"):
            raise invalid("Please use a valid role: user, model.")
        if not turn.get("parts"):
            raise invalid(f"* {place}.parts: contents.parts must not be empty.\n")
        for number, part in enumerate(turn["parts"]):
            _check_part(part, f"{place}.parts[{number}]")
            if turn.get("role") == "model" and model.thinks:
                _check_signature(part, index + 1, number + 1)
    if contents[-1].get("role", "user") != "user":
        raise invalid("Please ensure that the last turn is of the role user.")


def _check_part(part: dict[str, Any], place: str) -> None:
    if not part.keys() & {"text", "inlineData", "fileData", "thoughtSignature"}:
        raise invalid(f"* {place}.data: required oneof field 'data' must have one initialized field\n")
    if "inlineData" in part and not part["inlineData"].get("data"):
        raise invalid(f"* {place}.inline_data.data: the image has no bytes\n")


def _check_signature(part: dict[str, Any], turn: int, number: int) -> None:
    """Hold an image of ours that comes back as history against the signature it was given."""
    if "inlineData" not in part or part.get("thought"):
        return
    signature = part.get("thoughtSignature")
    if not signature:
        raise invalid(f"Image part is missing a thought_signature in content position {turn}, part position {number}.")
    if signature != SIGNATURE + hashlib.sha256(part["inlineData"]["data"]).digest():
        raise invalid("Corrupted thought signature.")


def _check_settings(settings: dict[str, Any], model: Model) -> None:
    modalities = settings.get("responseModalities") or ["TEXT", "IMAGE"]
    if not set(modalities) <= {"TEXT", "IMAGE"}:
        raise invalid(
            f"The requested combination of response modalities ({', '.join(modalities)}) is not supported by the "
            f"model. models/{model.id} accepts the following combination of response modalities:\n"
            "* IMAGE\n* TEXT\n* IMAGE, TEXT\n"
        )
    if settings.get("candidateCount", 1) != 1:
        raise invalid("Multiple candidates is not enabled for this model.")
    if settings.get("responseMimeType", "text/plain") != "text/plain" or (
        settings.keys() & {"responseSchema", "responseJsonSchema"}
    ):
        raise invalid("JSON mode is not enabled for this model.")
    for name, highest in _HIGHEST.items():
        if not 0 <= settings.get(name, 0) <= highest:
            raise invalid(f"{name} must be in the range [0.0, {highest}].")
    if not 1 <= settings.get("maxOutputTokens", 1) <= OUTPUT_TOKENS:
        raise invalid(f"max_output_tokens must be in the range [1, {OUTPUT_TOKENS}].")
    _check_thinking(settings.get("thinkingConfig", {}), model)


def _check_thinking(thinking: dict[str, Any], model: Model) -> None:
    level = thinking.get("thinkingLevel")
    if thinking and not model.thinks:
        raise invalid("Thinking is not enabled for this model.")
    if level and "thinkingBudget" in thinking:
        raise invalid("You can only set only one of thinking budget and thinking level.")
    if level and level not in model.levels:
        offered = f"supported levels: {', '.join(model.levels)}" if model.levels else "it has none to choose"
        raise invalid(f"Thinking level {level} is not supported for this model ({offered}).")


def _check_tools(fields: dict[str, Any], model: Model) -> None:
    for tool in fields.get("tools", ()):
        others = tool.keys() - {"googleSearch"}
        if others:
            raise invalid(f"{min(others)} is not enabled for models/{model.id}")
        wanted = _searches(tool)
        if not wanted <= model.searches:
            raise invalid(f"Search as tool is not enabled for models/{model.id}: {min(wanted - model.searches)}")
    categories = [setting.get("category") for setting in fields.get("safetySettings", ())]
    if len(categories) != len(set(categories)):
        raise invalid("Only one safety setting is allowed for each category.")
    if "cachedContent" in fields:
        raise RefusalError("PERMISSION_DENIED", "CachedContent not found (or permission denied)")


def _searches(tool: dict[str, Any]) -> frozenset[str]:
    return frozenset(tool.get("googleSearch", {}).get("searchTypes") or {"webSearch": {}})


class _Image(NamedTuple):
    """An image of a request, and who showed it."""

    role: str
    data: bytes


def _images(turns: list[dict[str, Any]], fetch: Fetch) -> Iterator[_Image]:
    for role, part in ((turn.get("role", "user"), part) for turn in turns for part in turn["parts"]):
        if "inlineData" in part:
            mime, data = part["inlineData"].get("mimeType", ""), part["inlineData"]["data"]
        elif "fileData" in part:
            mime, data = fetch(part["fileData"].get("fileUri", ""))
        else:
            continue
        mime = mime.lower().replace("image/jpg", "image/jpeg")
        if mime not in _IMAGES:
            raise invalid(f"Unsupported MIME type: {mime or 'none given'}")
        if mime not in _kinds(data):
            raise invalid(f"{UNREADABLE}It is said to be {mime}, and its bytes are something else.")
        yield _Image("thought" if part.get("thought") else role, data)


def _newest(images: tuple[_Image, ...]) -> tuple[bytes | None, tuple[bytes, ...]]:
    """The last picture of the model and what the user showed after it; without one, all the user showed."""
    last = max((number for number, image in enumerate(images) if image.role == "model"), default=None)
    later = images if last is None else images[last + 1 :]
    return None if last is None else images[last].data, tuple(image.data for image in later if image.role == "user")


def _kinds(data: bytes) -> tuple[str, ...]:
    """The MIME types the first bytes of an image allow."""
    for mime, magic in (("image/png", b"\x89PNG\r\n\x1a\n"), ("image/jpeg", b"\xff\xd8\xff"), ("image/gif", b"GIF8")):
        if data.startswith(magic):
            return (mime,)
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return ("image/webp",)
    if data[4:8] == b"ftyp":
        return ("image/avif",) if data[8:12] in (b"avif", b"avis") else ("image/heic", "image/heif")
    return ()


def _frame(settings: dict[str, Any], model: Model, reference: bytes | None) -> tuple[str, str]:
    """The aspect ratio and the size, chosen, or as the model chooses them."""
    image = settings.get("imageConfig", {})
    newer = settings.get("responseFormat", {}).get("image", {})
    if image and newer:
        raise invalid("Only one of image_config and response_format.image may be set.")
    aspect = image.get("aspectRatio") or _named_ratio(newer.get("aspectRatio", ""))
    size = image.get("imageSize") or _named_size(newer.get("imageSize", "")) or "1K"
    if aspect and aspect not in model.ratios:
        raise invalid(f"Invalid aspect ratio {aspect!r}: models/{model.id} supports {', '.join(model.ratios)}.")
    if size not in model.tokens:
        raise invalid(f"Invalid image size {size!r}: models/{model.id} supports {', '.join(model.tokens)}.")
    if not aspect:
        aspect = model.nearest_ratio(*shape(reference)) if reference else "1:1"
    return aspect, size


def _named_ratio(ratio: str) -> str:
    if not ratio.startswith("ASPECT_RATIO_"):
        return ratio
    return ":".join(_NAMED_RATIOS.get(word, "?") for word in ratio.removeprefix("ASPECT_RATIO_").split("_BY_"))


def _named_size(size: str) -> str:
    return _NAMED_SIZES.get(size.removeprefix("IMAGE_SIZE_"), size)
