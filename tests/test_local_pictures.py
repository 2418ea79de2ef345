"""The pictures the embedded service draws."""

from __future__ import annotations

from io import BytesIO

import pytest
from local_wire import MODEL, photo
from PIL import Image

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


def batched(data):
    return zip(data[::3], data[1::3], data[2::3], strict=True)


@pytest.mark.parametrize("prompt", ["", "x", "w" * 900, "an owl\n\n\tat dusk " * 90, "梟 на закате \x00\u202e"])
def test_any_prompt_can_be_a_caption(prompt):
    for aspect in ("1:1", "1:8", "8:1"):
        for mode in ("drawn", "plain"):
            draw(Picture(catalog._MODELS["gemini-3.1-flash-image"], aspect, "512", prompt, bytes(32)), mode)
