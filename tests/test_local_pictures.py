"""The pictures the embedded service draws show what was asked for."""

# ruff: noqa: RUF001 - quotation marks that look like others

from __future__ import annotations

import base64
import hashlib
import json
import os
import subprocess
import sys
from io import BytesIO
from itertools import combinations
from pathlib import Path

import pytest
from local_wire import MODEL, ask, inline, photo
from PIL import Image, ImageChops, ImageFilter, ImageOps

from pipeline.local import catalog
from pipeline.local.answers import answered
from pipeline.local.asks import understood
from pipeline.local.compositions import _PALETTES, _colour, composed, sticker
from pipeline.local.letters import legible, quoted
from pipeline.local.pictures import Picture, draw
from pipeline.local.refusals import RefusalError

OFFERED = catalog._MODELS[MODEL]
SQUARE = {"imageConfig": {"aspectRatio": "1:1"}}
SEARCH = [{"googleSearch": {"searchTypes": {"webSearch": {}, "imageSearch": {}}}}]


def part(request, *, model=MODEL, salt="", mode="drawn"):
    """The part of an answer with its last picture, as it goes back in a later turn."""
    answer = answered(understood(request, catalog._MODELS[model], None), salt=salt, mode=mode)
    return answer["candidates"][0]["content"]["parts"][-1]


def opened(part):
    data = base64.b64decode(part["inlineData"]["data"])
    return Image.open(BytesIO(data)).convert("RGB")


def shown(request, **how):
    return opened(part(request, **how))


def back(part):
    """A part as it stands in a request once the wire is read: bytes, not text."""
    signature = {"thoughtSignature": part["thoughtSignature"]} if "thoughtSignature" in part else {}
    return {"inlineData": part["inlineData"], **signature}


def drawn(prompt="a shop front", aspect="1:1", **more):
    data = draw(Picture(OFFERED, aspect, "1K", prompt, bytes(32), **more), "drawn")[0]
    return Image.open(BytesIO(data)).convert("RGB")


def differs(one, other, box=(0, 0, 1, 1), *, by=40):
    """The share of pixels of which a channel differs by more, in a box given in parts of the picture."""
    width, height = one.size
    box = (int(box[0] * width), int(box[1] * height), int(box[2] * width), int(box[3] * height))
    red, green, blue = ImageChops.difference(one.crop(box), other.resize(one.size).crop(box)).split()
    most = ImageChops.lighter(ImageChops.lighter(red, green), blue).point(lambda value: 255 * (value > by))
    return most.histogram()[255] / (most.width * most.height)


def above(aspect="1:1", prompt="x", **more):
    """The box above the caption."""
    picture = Picture(OFFERED, aspect, "1K", prompt, bytes(32), **more)
    return (0, 0, 1, 1 - picture.caption.height / picture.pixels[1])


def stripes(width, height, colours=("navy", "gold", "teal", "white")):
    """An image that is another one wherever it is moved to, as its bytes."""
    image = Image.new("RGB", (width, height), colours[0])
    for number, colour in enumerate(colours):
        image.paste(colour, (width * number // 4, height * number // 5, width, height))
    return encoded(image, "PNG")


def encoded(image, kind, **how):
    stream = BytesIO()
    image.save(stream, kind, **how)
    return stream.getvalue()


COLOURS = [(51 * (number % 5) + 25, 110 * (number // 5) + 15, 230 - 40 * (number % 3)) for number in range(14)]


def seen(image, colour, by=24):
    """The share of pixels that have a colour; of sixteen, one is looked at."""
    image = image.resize((image.width // 4, image.height // 4), Image.Resampling.NEAREST)
    return 1 - differs(image, Image.new("RGB", image.size, colour), by=by)


@pytest.mark.some(2)
@pytest.mark.parametrize("mode", ["drawn", "plain"])
@pytest.mark.parametrize("model", ["gemini-3.1-flash-image", "gemini-2.5-flash-image"])
def test_a_picture_is_exact_and_not_one_colour(model, mode):
    offered = catalog._MODELS[model]
    for number, aspect in enumerate(offered.ratios):
        for size in ("512", "1K") if mode == "plain" and "512" in offered.tokens else [*offered.tokens][:1]:
            data, mime, width, height = draw(Picture(offered, aspect, size, "an owl", bytes([number] * 32)), mode)
            with Image.open(BytesIO(data)) as image:
                assert image.size == (width, height) == offered.pixels(aspect, size)
                assert Image.MIME[image.format] == mime == offered.mime
                assert len(image.resize((16, 16), Image.Resampling.NEAREST).getcolors()) > 1


@pytest.mark.parametrize("aspect", ["1:1", "8:1", "1:8"])
def test_forms_fit_into_any_frame(aspect):
    width, height = (each // 8 for each in OFFERED.pixels(aspect, "1K"))
    for number in range(30):
        for tall in (height // 3, height):
            composed(width, tall, bytes([number] * 32))
            image, (x, y), _ = sticker(width, tall, bytes([number] * 32))
            assert 0 <= x <= width - image.width
            assert 0 <= y <= tall - image.height


# Another ask, another picture


OWL = ask(**SQUARE)
EDIT = ask("Make it night", inline(stripes(64, 64)), **SQUARE)
PAIR = ask("Both", inline(stripes(64, 64)), inline(photo()), **SQUARE)


@pytest.mark.parametrize("mode", ["drawn", "plain"])
@pytest.mark.parametrize(
    ("one", "other", "how"),
    [
        pytest.param(OWL, ask("a tawny owl", **SQUARE), {}, id="prompt"),
        pytest.param(OWL, ask(imageConfig={"aspectRatio": "4:5"}), {}, id="aspect"),
        pytest.param(OWL, OWL, {"salt": "2"}, id="sample"),
        pytest.param(OWL, ask(seed=7, **SQUARE), {}, id="seed"),
        pytest.param(OWL, ask("a barn owl", inline(photo()), **SQUARE), {}, id="reference"),
        pytest.param(EDIT, ask("Make it day", inline(stripes(64, 64)), **SQUARE), {}, id="prompt of an edit"),
        pytest.param(EDIT, EDIT, {"salt": "2"}, id="sample of an edit"),
        pytest.param(EDIT, ask("Make it night", inline(stripes(64, 64)), seed=7, **SQUARE), {}, id="seed of an edit"),
        pytest.param(EDIT, ask("Make it night", inline(photo()), **SQUARE), {}, id="reference of an edit"),
        pytest.param(PAIR, PAIR, {"salt": "2"}, id="sample of two references"),
    ],
)
@pytest.mark.some(8)
def test_another_ask_is_visibly_another_picture(one, other, how, mode):
    assert differs(shown(one, mode=mode), shown(other, mode=mode, **how)) > 0.05


@pytest.mark.parametrize("mode", ["drawn", "plain"])
def test_another_model_draws_visibly_another_picture(mode):
    pictures = [shown(OWL, model=model, mode=mode) for model in catalog._MODELS]
    assert min(differs(one, other) for one, other in combinations(pictures, 2)) > 0.05


def test_the_same_ask_is_the_same_bytes_in_every_process():
    script = (
        "import hashlib, json, sys; from pipeline.local import answers, asks, catalog\n"
        "for one, mode in json.load(sys.stdin):\n"
        f"    ask = asks.understood(one, catalog._MODELS[{MODEL!r}], None)\n"
        "    answer = json.dumps(answers.answered(ask, salt='', mode=mode), sort_keys=True)\n"
        "    print(hashlib.sha256(answer.encode()).hexdigest())"
    )
    asked = [(one, mode) for one in (OWL, EDIT, PAIR) for mode in ("drawn", "plain")]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parent.parent), "PYTHONHASHSEED": "77"}
    there = subprocess.run(
        [sys.executable, "-c", script],
        input=json.dumps(asked),
        env=environment,
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    here = (
        json.dumps(answered(understood(one, OFFERED, None), salt="", mode=mode), sort_keys=True) for one, mode in asked
    )
    assert there.stdout.split() == [hashlib.sha256(answer.encode()).hexdigest() for answer in here]


# The caption

LONG = "Studio photograph of a stoneware mug in cobalt blue glaze, lit from the left by a large softbox, " * 5


@pytest.mark.parametrize("aspect", OFFERED.ratios)
@pytest.mark.parametrize(
    "prompt",
    [
        pytest.param(LONG, id="Latin"),
        pytest.param("夕暮れの納屋にいるメンフクロウ、柔らかい光。" * 12, id="Japanese"),
        pytest.param("W" * 260, id="one wide word"),
        pytest.param("🦉🌆📔" * 80, id="emoji"),
    ],
)
def test_the_first_200_characters_are_written_out_legibly(aspect, prompt):
    caption = Picture(OFFERED, aspect, "1K", prompt, bytes(32), notes=("seed 7",), sources=("1  example.com",)).caption
    first = legible(prompt[:200], 200)
    assert "".join("".join(caption.lines).split()).startswith("".join(first.split()))
    assert min(caption.font.size, caption.small.size) >= 11
    width, height = OFFERED.pixels(aspect, "1K")
    written = [(caption.font, line) for line in caption.lines]
    written += [(caption.small, line) for line in (*caption.sources, *caption.footer)]
    assert max(letters.getlength(line) for letters, line in written) <= width - 1.5 * caption.margin
    assert sum(letters.size for letters, _ in written) < caption.height < 0.6 * height


@pytest.mark.parametrize("aspect", OFFERED.ratios)
@pytest.mark.some(5)
def test_a_caption_ends_before_the_edges_of_the_picture(aspect):
    caption = Picture(OFFERED, aspect, "1K", LONG, bytes(32)).caption
    image = drawn(LONG, aspect)
    band = image.crop((0, image.height - caption.height + caption.margin // 2, image.width, image.height))
    letters = ImageOps.grayscale(band).point(lambda value: 255 * (value > 110)).getbbox()
    assert letters[0] >= caption.margin // 2
    assert letters[2] <= band.width - caption.margin // 2
    assert letters[3] <= band.height - caption.margin // 4


@pytest.mark.parametrize("palette", _PALETTES)
def test_letters_stand_out_from_their_ground(palette):
    def light(colour):
        linear = [c / 12.92 if c <= 0.04 else ((c + 0.055) / 1.055) ** 2.4 for c in (each / 255 for each in colour)]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    ink, *_, small, text = (light(_colour(each)) for each in palette.split())
    assert (text + 0.05) / (ink + 0.05) > 7
    assert (small + 0.05) / (ink + 0.05) > 4.5


def test_captions_of_a_frame_are_equally_high():
    """So that a later turn covers the caption of the earlier one."""
    for aspect in OFFERED.ratios:
        short = Picture(OFFERED, aspect, "1K", "an owl", bytes(32))
        longer = Picture(OFFERED, aspect, "1K", LONG, bytes(32), notes=("turn 2", "seed 7"))
        assert short.caption.height == longer.caption.height


def test_what_was_found_and_chosen_is_named_below_the_prompt():
    plain = drawn()
    assert differs(plain, drawn(notes=("seed 7",)), (0.3, 0.9, 1, 1)) > 0.002
    listed = drawn(sources=("1  example.com  https://example.com", "2  example.org  https://example.org"))
    top = above()[3]
    assert differs(plain, listed, (0, 0.6, 1, top)) > 0.1


@pytest.mark.parametrize("aspect", ["1:1", "1:8", "8:1"])
def test_a_grounded_card_lists_all_its_sources(aspect):
    request = ask("the weather in Bergen", imageConfig={"aspectRatio": aspect})
    plain, card = shown(request), shown({**request, "tools": SEARCH})
    small = Picture(OFFERED, aspect, "1K", "x", bytes(32)).caption.small.size
    found = tuple(f"{n}  example.com  https://example.com/pages/the-weather-in-bergen" for n in range(3))
    caption = Picture(OFFERED, aspect, "1K", "x", bytes(32), sources=found).caption
    assert len(caption.sources) >= 3
    assert band(card) > band(plain) + 3 * small
    lines = card.crop((0, card.height - band(plain) - 2 * small, card.width // 2, card.height - band(plain) + small))
    assert sum(ImageOps.grayscale(lines).histogram()[128:]) > 500


def band(image):
    """How high the band of the caption is: so many pixels at the left edge have the colour of its ground."""
    ground = image.getpixel((2, image.height - 2))
    column = (image.getpixel((2, y)) for y in range(image.height - 1, -1, -1))
    return next(n for n, each in enumerate(column) if max(abs(a - b) for a, b in zip(each, ground, strict=True)) > 24)


def test_letters_the_font_lacks_are_drawn_as_their_nearest():
    assert drawn("Café Größe \u2013 5 €").tobytes() == drawn("Cafe Grosse - 5 EUR").tobytes()


@pytest.mark.some(3)
@pytest.mark.parametrize(
    "prompt", ["", "x", "w" * 900, "🫰" * 200, "an owl\n\n\tat dusk " * 90, "梟 на закате \x00\u202e"]
)
def test_any_prompt_can_be_a_caption(prompt):
    model = catalog._MODELS["gemini-3.1-flash-image"]
    found = tuple(f"{number}  {'x' * 90}" for number in range(3))
    for aspect in ("1:1", "1:8", "8:1"):
        for mode in ("drawn", "plain"):
            draw(Picture(model, aspect, "512", f'"{prompt}" {prompt}', bytes(32), sources=found), mode)


# Words in the picture


@pytest.mark.parametrize("quotes", ['""', "„“", "‘’"])
def test_words_in_quotation_marks_stand_large_in_the_picture(quotes):
    plain, sign = drawn("a shop front FRESH BREAD"), drawn(f"a shop front {quotes[0]}FRESH BREAD{quotes[1]}")
    assert differs(plain, sign, (0.25, 0.2, 0.75, 0.5)) > 0.3
    assert differs(plain, sign, (0, 0, 1, 0.05)) < 0.02
    longer = drawn(f"a shop front {quotes[0]}FRESH BREAD EVERY MORNING AND CAKE{quotes[1]}")
    assert differs(sign, longer, (0.1, 0.1, 0.9, 0.6)) > 0.02


@pytest.mark.parametrize(
    ("prompt", "words"),
    [
        (
            '"one", „zwei“, »drei«, «quatre», ‹cinq›, ‚sechs‘, “seven”, ”åtta”',
            "one zwei drei quatre cinq sechs seven atta",
        ),
        ("a mug with ‘it’s mine’ on it", "it's mine"),
        ("‘one’ of the owners’ mugs", "one"),
        ("« Pain frais »", "Pain frais"),
        ('一个写着"开门"的牌子', "KaiMen"),
        ("the dogs' bowl, rock 'n' roll, the owner’s mug, the ’90s", ""),
        ('a 12" record and a 7" single', ""),
        ('""', ""),
    ],
)
def test_quotation_marks_come_in_pairs_and_apostrophes_are_none(prompt, words):
    assert " ".join(quoted(prompt)) == words


# References


SIGN = 'a sign that says "OPEN FROM DAWN TO DUSK AND ALL NIGHT LONG"'
SHOWN = [("an owl", "drawn"), (SIGN, "drawn"), ("an owl", "plain")]


@pytest.mark.parametrize(("prompt", "mode"), SHOWN)
@pytest.mark.parametrize("aspect", ["1:1", "8:1", "1:8"])
@pytest.mark.some(4)
def test_an_edit_keeps_most_of_its_input(aspect, prompt, mode):
    frame = OFFERED.pixels(aspect, "1K")
    for width, height in (frame, (600, 400)):
        reference = stripes(width, height)
        edited = shown(ask(prompt, inline(reference), imageConfig={"aspectRatio": aspect}), mode=mode)
        how = Image.Resampling.NEAREST if mode == "plain" else Image.Resampling.BILINEAR
        kept = ImageOps.fit(Image.open(BytesIO(reference)), frame, how)
        assert differs(kept, edited, above(aspect, prompt), by=24) < 0.35


@pytest.mark.parametrize(("prompt", "mode"), SHOWN)
@pytest.mark.parametrize(("count", "aspect"), [(2, "1:1"), (2, "8:1"), (5, "1:8"), (14, "1:1"), (14, "8:1")])
@pytest.mark.some(6)
def test_every_reference_appears_in_a_composition(count, aspect, prompt, mode):
    references = [inline(photo(40, 60, colour=colour)) for colour in COLOURS[:count]]
    image = shown(ask(prompt, *references, imageConfig={"aspectRatio": aspect}), mode=mode)
    assert min(seen(image, colour) for colour in COLOURS[:count]) > 0.06 / count


@pytest.mark.parametrize("mode", ["drawn", "plain"])
def test_a_later_turn_starts_from_the_newest_picture(mode):
    turns = [{"role": "user", "parts": [{"text": "an owl"}, inline(photo(colour=COLOURS[5]))]}]
    newest = part({"contents": turns, "generationConfig": SQUARE}, mode=mode)
    for number in (2, 3, 4):
        hats = [inline(photo(colour=colour)) for colour in COLOURS[:2]] if number == 3 else []
        turns += [
            {"role": "model", "parts": [back(newest)]},
            {"role": "user", "parts": [{"text": f"turn {number}"}, *hats]},
        ]
        request = {"contents": turns, "generationConfig": SQUARE}
        later = part(request, mode=mode)
        assert len(understood(request, OFFERED, None).references) == len(hats), "those of this turn"
        changed = differs(opened(newest), opened(later), above(), by=24)
        assert 0.02 < changed < 0.4
        if hats:
            assert min(seen(opened(later), colour) for colour in COLOURS[:2]) > 0.02
        newest = later


def test_a_later_turn_covers_the_caption_of_the_earlier_one():
    turns = [{"role": "user", "parts": [{"text": LONG}]}]
    first = part({"contents": turns})
    turns += [{"role": "model", "parts": [back(first)]}, {"role": "user", "parts": [{"text": "."}]}]
    second = shown({"contents": turns})
    box = (second.width // 2, int((above()[3] + 0.02) * second.height), second.width, second.height - 64)
    earlier, later = (sum(ImageOps.grayscale(each.crop(box)).histogram()[128:]) for each in (opened(first), second))
    assert earlier > 1000
    assert later == 0


def halves(mode="RGB"):
    """Red above blue."""
    image = Image.new("RGB", (300, 200), "red")
    image.paste("blue", (0, 100, 300, 200))
    return image.convert(mode)


def lying():
    exif = Image.Exif()
    exif[0x0112] = 6
    return encoded(halves().rotate(90, expand=True), "JPEG", exif=exif)


def see_through():
    image = halves("RGBA")
    image.paste((0, 0, 0, 0), (0, 0, 300, 100))
    return image


@pytest.mark.parametrize("mode", ["drawn", "plain"])
@pytest.mark.parametrize(
    ("data", "mime", "upper"),
    [
        pytest.param(lying(), "image/jpeg", "red", id="turned by EXIF"),
        pytest.param(encoded(halves("CMYK"), "JPEG"), "image/jpeg", "red", id="CMYK"),
        pytest.param(encoded(halves("P"), "PNG"), "image/png", "red", id="palette"),
        pytest.param(encoded(halves("P"), "GIF"), "image/gif", "red", id="GIF"),
        pytest.param(encoded(halves(), "WEBP", lossless=True), "image/webp", "red", id="WEBP"),
        pytest.param(encoded(see_through(), "PNG"), "image/png", "white", id="transparent"),
        pytest.param(encoded(see_through(), "WEBP", lossless=True), "image/webp", "white", id="transparent WEBP"),
        pytest.param(encoded(Image.new("I;16", (30, 20), 77 * 257), "PNG"), "image/png", (77, 77, 77), id="16 bits"),
    ],
)
def test_an_image_of_any_kind_is_shown_as_it_is_seen(data, mime, upper, mode):
    image = shown(ask("x", inline(data, mime), **SQUARE), mode=mode)
    half = image.crop((0, 0, image.width, image.height // 2 - 8))
    assert seen(half, upper, by=60) > 0.5


@pytest.mark.parametrize("count", [1, 3])
def test_an_image_that_cannot_be_read_here_is_a_field_with_a_label(count):
    def edges(data, mime):
        image = ImageOps.grayscale(shown(ask("x", *[inline(data, mime)] * count, **SQUARE)))
        upper = image.crop((0, 0, image.width, int(above()[3] * image.height)))
        return sum(upper.filter(ImageFilter.FIND_EDGES).histogram()[60:])

    heic = b"\0\0\0\x18ftypheic" + bytes(20)
    assert edges(heic, "image/heic") > edges(photo(), "image/png") + 5000


@pytest.mark.parametrize("mode", ["drawn", "plain"])
@pytest.mark.parametrize("others", [0, 2])
def test_a_broken_image_is_refused(others, mode):
    noise = encoded(Image.effect_noise((90, 90), 80), "PNG")
    broken = inline(noise[: len(noise) // 2])
    with pytest.raises(RefusalError, match="Unable to process input image"):
        shown(ask("x", *[inline(photo())] * others, broken, **SQUARE), mode=mode)
