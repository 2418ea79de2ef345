"""The pictures the embedded service draws."""

from __future__ import annotations

from io import BytesIO

import pytest
from local_wire import MODEL, photo
from PIL import Image, ImageChops

from pipeline.local import catalog
from pipeline.local.pictures import Picture, draw


@pytest.mark.parametrize("mode", ["drawn", "plain"])
@pytest.mark.parametrize("model", ["gemini-3.1-flash-image", "gemini-2.5-flash-image"])
def test_a_picture_is_exact_and_not_one_colour(model, mode):
    offered = catalog._MODELS[model]
    for number, aspect in enumerate(offered.ratios):
        for size in ("512", "1K") if "512" in offered.tokens else ("1K",):
            data, mime, width, height = draw(Picture(offered, aspect, size, "an owl", bytes([number] * 32)), mode)
            with Image.open(BytesIO(data)) as image:
                assert image.size == (width, height) == offered.pixels(aspect, size)
                assert Image.MIME[image.format] == mime == offered.mime
                assert len(image.resize((16, 16), Image.Resampling.NEAREST).getcolors()) > 1


def test_pictures_show_the_references_they_were_given():
    model = catalog._MODELS[MODEL]
    shown = (photo(80, 80, colour="red"), photo(80, 40, "JPEG", "red"), b"\0\0\0\x18ftypheic" + bytes(20))
    for references in (shown[:1], shown[:2], shown, shown[:1] * 14):
        data = draw(Picture(model, "1:1", "1K", "an owl", bytes(32), references), "drawn")[0]
        with Image.open(BytesIO(data)) as image:
            pixels = batched(image.resize((64, 64)).tobytes())
        assert sum(red > 150 and green < 110 and blue < 110 for red, green, blue in pixels) > 400


def test_two_samples_of_an_edit_are_two_pictures():
    reference = photo(64, 64, colour="teal")
    tops = set()
    for sample in range(4):
        picture = Picture(catalog._MODELS[MODEL], "1:1", "1K", "an owl", bytes([sample] * 32), (reference,))
        with Image.open(BytesIO(draw(picture, "drawn")[0])) as image:
            tops.add(image.crop((0, 0, 1024, 500)).tobytes())
    assert len(tops) == 4


def drawn(prompt="a shop front", aspect="1:1", **more):
    data = draw(Picture(catalog._MODELS[MODEL], aspect, "1K", prompt, bytes(32), **more), "drawn")[0]
    return Image.open(BytesIO(data)).convert("RGB")


def differs(one, other, box):
    """The share of pixels that are another colour, in a box given in parts of the picture."""
    width, height = one.size
    box = (int(box[0] * width), int(box[1] * height), int(box[2] * width), int(box[3] * height))
    pixels = ImageChops.difference(one.crop(box), other.crop(box)).convert("L").point(lambda value: 255 * (value > 40))
    return pixels.histogram()[255] / (pixels.width * pixels.height)


@pytest.mark.parametrize("quotes", ['""', "“”"])
def test_words_in_quotation_marks_stand_large_in_the_picture(quotes):
    plain, sign = drawn("a shop front FRESH BREAD"), drawn(f"a shop front {quotes[0]}FRESH BREAD{quotes[1]}")
    assert differs(plain, sign, (0.2, 0.25, 0.8, 0.5)) > 0.3
    assert differs(plain, sign, (0, 0, 1, 0.05)) < 0.02
    longer = drawn(f"a shop front {quotes[0]}FRESH BREAD EVERY MORNING AND CAKE{quotes[1]}")
    assert differs(sign, longer, (0.1, 0.1, 0.9, 0.6)) > 0.02


def test_what_was_found_and_chosen_is_named_below_the_prompt():
    plain = drawn()
    assert differs(plain, drawn(notes=("seed 7",)), (0.4, 0.8, 1, 1)) > 0.002
    listed = drawn(sources=("1  example.com  https://example.com", "2  example.org  https://example.org"))
    assert differs(plain, listed, (0, 0.6, 1, 0.83)) > 0.2


def test_letters_the_font_lacks_are_drawn_as_their_nearest():
    assert drawn("Café Größe \u2013 5 €").tobytes() == drawn("Cafe Grosse - 5 EUR").tobytes()


def batched(data):
    return zip(data[::3], data[1::3], data[2::3], strict=True)


@pytest.mark.parametrize("prompt", ["", "x", "w" * 900, "an owl\n\n\tat dusk " * 90, "梟 на закате \x00\u202e"])
def test_any_prompt_can_be_a_caption(prompt):
    model = catalog._MODELS["gemini-3.1-flash-image"]
    found = tuple(f"{number}  {'x' * 90}" for number in range(3))
    for aspect in ("1:1", "1:8", "8:1"):
        for mode in ("drawn", "plain"):
            draw(Picture(model, aspect, "512", f'"{prompt}" {prompt}', bytes(32), sources=found), mode)
