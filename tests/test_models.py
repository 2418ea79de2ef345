"""The registry says what the published tables say, a user's file can change it, and money comes out exact."""

import contextlib
from dataclasses import replace
from datetime import date, timedelta
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.errors import UsageError
from pipeline.gemini import models
from pipeline.gemini.prices import Estimate, Order, Usage, actual, estimate, weight

DAY = date(2026, 11, 22)
TEN = ["1:1", "2:3", "3:2", "3:4", "4:3", "4:5", "5:4", "9:16", "16:9", "21:9"]
LONG = ["1:4", "4:1", "1:8", "8:1"]


def model(word):
    found = models.load().find(word)
    assert found is not None, word
    return found


@pytest.fixture
def extra(tmp_path):
    def write(text):
        path = tmp_path / "mine.yaml"
        path.write_text(text, encoding="utf-8")
        return path

    return write


# What the shipped table says


@pytest.mark.parametrize(
    ("word", "identity"),
    [
        ("flash", "gemini-nano-banana-2.1"),
        ("nano-banana", "gemini-nano-banana-2.1"),
        ("lite", "gemini-3.1-flash-lite-image"),
        ("pro", "gemini-3-pro-image"),
        ("nano-banana-pro", "gemini-3-pro-image"),
        ("gemini-3-pro-image", "gemini-3-pro-image"),
    ],
)
def test_a_word_names_a_model(word, identity):
    assert model(word).id == identity


def test_words_are_all_aliases_and_ids_and_nothing_else_is_found():
    registry = models.load()
    assert list(registry.words())[:2] == ["flash", "nano-banana"]
    assert {registry.find(word).id for word in registry.words()} == {one.id for one in registry}
    assert registry.find("Flash") is registry.find("") is None


@pytest.mark.parametrize(
    ("word", "sizes", "aspects"),
    [
        ("flash", ("1K", "2K", "4K"), TEN + LONG),
        ("gemini-3.1-flash-image", ("512", "1K", "2K", "4K"), TEN + LONG),
        ("lite", ("1K",), TEN),
        ("pro", ("1K", "2K", "4K"), TEN),
        ("gemini-2.5-flash-image", ("1K",), TEN),
    ],
)
def test_sizes_and_ratios(word, sizes, aspects):
    assert model(word).sizes == sizes
    assert sorted(model(word).aspects) == sorted(aspects)


@pytest.mark.parametrize(
    ("word", "aspect", "size", "pixels"),
    [
        ("flash", "16:9", "2K", (2752, 1536)),
        ("flash", "8:1", "4K", (12288, 1536)),
        ("pro", "21:9", "4K", (6336, 2688)),
        ("lite", "4:5", "1K", (928, 1152)),
        ("gemini-3.1-flash-image", "3:4", "512", (448, 600)),
        ("gemini-2.5-flash-image", "9:16", "1K", (768, 1344)),
        pytest.param("gemini-3.1-flash-image", "21:9", "512", None, id="misprint left out"),
        pytest.param("pro", "1:4", "1K", None, id="ratio it lacks"),
        pytest.param("lite", "1:1", "2K", None, id="size it lacks"),
        pytest.param("flash", "1:1", "512", None, id="512 on 2.1"),
    ],
)
def test_pixels(word, aspect, size, pixels):
    assert model(word).pixels(aspect, size) == pixels


def test_every_published_size_has_its_ratio_and_fits_the_image_gate():
    for one in models.load():
        for size in one.sizes:
            for aspect in one.aspects:
                width, height = one.pixels(aspect, size) or (0, 0)
                wide, high = map(int, aspect.split(":"))
                assert width == 0 or abs(width / height / (wide / high) - 1) < 0.03, (one.id, aspect, size)
                assert width * height <= 64_000_000


def test_a_turned_ratio_has_turned_pixels():
    for one in models.load():
        for size in one.sizes:
            for aspect in one.aspects:
                turned = ":".join(reversed(aspect.split(":")))
                if turned in one.aspects and one.pixels(aspect, size):
                    assert one.pixels(turned, size) == tuple(reversed(one.pixels(aspect, size)))


@pytest.mark.parametrize(
    ("word", "tokens"),
    [
        ("flash", [1120, 1680, 3780]),
        ("gemini-3.1-flash-image", [747, 1120, 1680, 2520]),
        ("lite", [1120]),
        ("pro", [1120, 1120, 2000]),
        ("gemini-2.5-flash-image", [1290]),
    ],
)
def test_tokens(word, tokens):
    assert [model(word).tokens(size) for size in model(word).sizes] == tokens
    with pytest.raises(KeyError):
        model(word).tokens("8K")


def test_a_larger_image_is_never_expected_to_be_smaller():
    for one in models.load():
        expected = [one.answer_bytes(size) for size in one.sizes]
        assert expected == sorted(expected)
        assert all(expected)


@pytest.mark.parametrize(
    ("word", "last_day"),
    [
        ("gemini-3.1-flash-image", date(2026, 10, 28)),
        ("gemini-2.5-flash-image", date(2026, 10, 1)),
        ("gemini-3.1-flash-image-preview", date(2026, 6, 24)),
        ("gemini-3-pro-image-preview", date(2026, 6, 24)),
        ("gemini-2.5-flash-image-preview", date(2026, 1, 14)),
        ("gemini-2.0-flash-preview-image-generation", date(2025, 11, 13)),
        ("imagen-3.0-generate-002", date(2025, 11, 9)),
        ("imagen-4.0-generate-001", date(2026, 8, 16)),
        ("imagen-4.0-fast-generate-001", date(2026, 8, 16)),
        ("imagen-4.0-ultra-generate-001", date(2026, 8, 16)),
    ],
)
def test_a_retired_model_has_a_last_day_and_a_successor_that_lives(word, last_day):
    assert not model(word).is_shut_down(last_day)
    assert model(word).is_shut_down(last_day + timedelta(days=1))
    assert not model(model(word).successor).is_shut_down(DAY)


def test_what_an_alias_names_is_alive_has_a_price_and_a_batch_lane():
    for one in models.load():
        if one.aliases:
            assert not one.is_shut_down(DAY), one.id
            assert one.price(DAY)
            assert one.batch


def test_what_else_a_row_says():
    flash, pro = model("flash"), model("pro")
    assert flash.thinking == ("minimal", "medium", "high")
    assert flash.thinking_default == "medium"
    assert flash.search == ("web", "image")
    assert flash.references_by_role == {"object": 10, "person": 4}
    assert flash.formats == {f"image/{kind}" for kind in ("png", "jpeg", "webp", "heic", "heif")}
    assert flash.image_mime == "image/jpeg"
    assert "batch" in flash.inferred
    assert pro.references_by_role == {"object": 6, "person": 5, "style": 3}
    assert (pro.thinking, pro.thinking_default, pro.search) == ((), None, ("web",))
    assert (flash.reference_tokens, pro.reference_tokens) == (1120, 560)
    assert model("gemini-2.5-flash-image").advised_references == 3
    assert model("gemini-2.5-flash-image").image_mime == "image/png"
    assert (models.load().as_of, models.load().prices_as_of) == (date(2026, 11, 22), date(2026, 10, 9))


# Money


@pytest.mark.parametrize(
    ("word", "size", "batch", "interactive"),
    [
        ("flash", "1K", ".0168", ".0336"),
        ("flash", "2K", ".0252", ".0504"),
        ("flash", "4K", ".0567", ".1134"),
        ("gemini-3.1-flash-image", "512", ".02241", ".04482"),
        ("gemini-3.1-flash-image", "1K", ".0336", ".0672"),
        ("gemini-3.1-flash-image", "2K", ".0504", ".1008"),
        ("gemini-3.1-flash-image", "4K", ".0756", ".1512"),
        ("lite", "1K", ".0168", ".0336"),
        ("pro", "1K", ".0672", ".1344"),
        ("pro", "2K", ".0672", ".1344"),
        ("pro", "4K", ".12", ".24"),
        ("gemini-2.5-flash-image", "1K", ".01935", ".0387"),
    ],
)
def test_an_image_costs_what_the_price_page_says(word, size, batch, interactive):
    usage = Usage(input=0, output_image=model(word).tokens(size), output_text=0, thinking=0)
    assert actual(model(word), DAY, usage, "batch") == Decimal(batch)
    assert actual(model(word), DAY, usage, "interactive") == Decimal(interactive)


def test_a_batch_costs_half():
    for one in models.load():
        for price in one.prices:
            assert (price.batch_input, price.batch_text, price.batch_image) == (
                price.input / 2,
                price.text / 2,
                price.image / 2,
            )


def test_an_answer_costs_its_input_thoughts_words_and_image():
    usage = Usage(input=402, output_image=1120, output_text=128, thinking=153)
    # 402 x 0.75 + (128 + 153) x 3.75 + 1120 x 15, for a million
    assert actual(model("flash"), DAY, usage, "batch") == Decimal("0.018155")
    assert actual(model("imagen-4.0-generate-001"), DAY, usage, "batch") is None


def test_an_estimate_counts_prompt_references_image_and_thoughts():
    # (50 + 2 x 1120) x 0.75 + 250 x 3.75 + 1120 x 15, and with 200 tokens of text and 1000 of thoughts
    assert estimate(model("flash"), DAY, Order(prompt_chars=200, references=2)) == Estimate(
        Decimal("0.019455"), Decimal("0.022380")
    )


def test_an_upper_bound_is_rounded_up():
    # 1 x 0.125 + 1000 x 0.75 + 1120 x 15 = 17550.125, for a million
    assert estimate(model("lite"), DAY, Order(prompt_chars=1)).upper_bound == Decimal("0.017551")


def test_an_estimate_counts_words_and_searches_where_they_are_asked_for():
    # Guesses of the registry: 600 tokens of words, at most 8192; one query, at most three, of $0.014 each.
    picture = estimate(model("flash"), DAY, Order(prompt_chars=200))
    both = estimate(model("flash"), DAY, Order(prompt_chars=200, has_text=True, searches=True))
    assert both.amount - picture.amount == Decimal("0.01625")
    assert both.upper_bound - picture.upper_bound == Decimal("0.07272")
    words = estimate(model("flash"), DAY, Order(prompt_chars=200, size=None, has_text=True, most_tokens=2000))
    assert words == Estimate(Decimal("0.003225"), Decimal("0.0114"))


def test_a_turn_pays_for_the_words_that_go_back():
    alone = estimate(model("flash"), DAY, Order(prompt_chars=200, references=1))
    again = estimate(model("flash"), DAY, Order(prompt_chars=200, references=1, earlier_texts=1))
    assert again.amount - alone.amount == Decimal("0.00045")


def test_a_search_without_a_price_makes_the_estimate_unknown():
    assert estimate(model("lite"), DAY, Order(prompt_chars=1, searches=True)) is None


@pytest.mark.parametrize(
    ("word", "day", "size"),
    [
        pytest.param("imagen-4.0-generate-001", DAY, "1K", id="no price at all"),
        pytest.param("flash", date(2026, 10, 5), "1K", id="before its first price"),
        pytest.param("lite", DAY, "4K", id="a size it lacks"),
    ],
)
def test_an_unknown_cost_is_none_and_never_zero(word, day, size):
    assert estimate(model(word), day, Order(prompt_chars=1, size=size)) is None


@given(
    st.sampled_from([one for one in models.load() if one.prices]),
    st.builds(
        Order,
        prompt_chars=st.integers(0, 10**6),
        references=st.integers(0, 14),
        has_text=st.booleans(),
        most_tokens=st.none() | st.integers(1, 10**6),
        earlier_texts=st.integers(0, 3),
    ),
    st.sampled_from(["batch", "interactive"]),
)
def test_an_estimate_stays_below_its_bound_and_is_exact_to_a_millionth(one, order, lane):
    for size in (*one.sizes, None):
        found = estimate(one, DAY, replace(order, size=size), lane)
        assert 0 < found.amount <= found.upper_bound
        assert found.amount.as_tuple().exponent == found.upper_bound.as_tuple().exponent == -6


@given(st.text())
def test_the_weight_of_a_prompt_is_never_below_its_bytes(text):
    assert weight(text) >= len(text.encode(errors="surrogatepass"))
    assert weight("a" * 8) == 8


# A user's own file


def test_a_new_row_needs_little(extra):
    registry = models.load(
        extra('models: {acme-1: {aliases: [acme], aspects: ["1:1"], sizes: [1K]}, acme-2: {batch: false}}')
    )
    acme = registry.find("acme")
    assert (acme.id, acme.name, acme.tokens("1K"), acme.price(DAY)) == ("acme-1", "acme-1", 1120, None)
    assert [one.id for one in registry][-2:] == ["acme-1", "acme-2"]
    assert registry.find("acme-2").batch is False


def test_single_keys_of_a_row_are_overridden_and_null_takes_them_back(extra):
    path = extra("""
prices_as_of: 2027-01-03
x-note: anything
models:
  gemini-nano-banana-2.1:
    good_for: owls
    search_price: null
    prices:
      - {from: 2027-01-01, input: "1", text: "2", image: "3", batch: {input: "0.5", text: "1", image: "1.5"}}
      - {from: 2026-01-01, input: "9", text: "9", image: "9", batch: {input: "9", text: "9", image: "9"}}
""")
    registry = models.load(path)
    flash = registry.find("flash")
    assert (flash.good_for, flash.search_price, flash.sizes) == ("owls", None, ("1K", "2K", "4K"))
    assert registry.prices_as_of == date(2027, 1, 3)
    assert flash.price(date(2025, 12, 31)) is None
    assert flash.price(date(2026, 12, 31)).input == 9
    assert flash.price(date(2027, 1, 1)).batch_image == Decimal("1.5")
    assert model("flash").good_for != "owls", "the shipped registry stays what it is"


def test_an_alias_of_the_user_wins(extra):
    registry = models.load(extra("models: {gemini-3-pro-image: {aliases: [flash]}}"))
    assert registry.find("flash").id == "gemini-3-pro-image"
    assert registry.find("gemini-nano-banana-2.1").aliases == ("nano-banana",)
    assert registry.find("pro") is None


QUOTED = '"2"'
PRICE = '{from: 2027-01-01, input: "1", text: "2", image: "3", batch: {input: "0", text: "1", image: "1"}}'


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        pytest.param("", "must be a map with `models` in it", id="empty"),
        pytest.param("- 1", "must be a map with `models` in it", id="a list"),
        pytest.param("models: [a]", "models: must be a map, not a list", id="models as a list"),
        pytest.param("models: {a: 3}", "models: a: must be a map, not 3", id="row as a number"),
        pytest.param("models: {3: {}}", "models: 3 is no model id", id="id as a number"),
        pytest.param("model: {}", "unknown key 'model'; did you mean 'models'?", id="typo at the top"),
        pytest.param("defaults: {}", "unknown key 'defaults'", id="defaults are ours"),
        pytest.param("models: {a: {size: [1K]}}", "models: a: unknown key 'size'; did you mean 'sizes'?", id="typo"),
        pytest.param("models: {a: {sizes: [512]}}", "a: sizes: 0: must be text in quotes, not 512", id="512 unquoted"),
        pytest.param("models: {a: {sizes: [1k]}}", "a: sizes: 0: '1k' is not allowed here", id="small k"),
        pytest.param("models: {a: {aspects: [16:9]}}", "a: aspects: 0: must be text in quotes, not 969", id="ratio"),
        pytest.param(
            "models: {a: {sizes: [8K]}}", "models: a: tokens: 8K: must be a whole number, not nothing", id="8K"
        ),
        pytest.param("models: {a: {tokens: {1K: -1}, sizes: [1K]}}", "tokens: 1K: -1 is out of range", id="negative"),
        pytest.param("models: {a: {batch: 1}}", "models: a: batch: must be true or false, not 1", id="batch"),
        pytest.param("models: {a: {references: {max: true}}}", "max: must be a whole number, not True", id="bool"),
        pytest.param(
            "models: {a: {shutdown: soon}}", "shutdown: must be a date like 2026-10-09, not 'soon'", id="date"
        ),
        pytest.param("models: {a: {shutdown: 2026-13-45}}", "is not YAML: month must be in 1..12", id="no such day"),
        pytest.param(
            "models: {a: {thinking: {levels: [high], default: low}}}", "'low' is none of the levels", id="level"
        ),
        pytest.param(
            "models: {a: {search_price: 0.014}}", "search_price: must be text in quotes, not 0.014", id="float"
        ),
        pytest.param(
            f"models: {{a: {{prices: [{PRICE.replace(QUOTED, '2')}]}}}}", "prices: 0: text: must be text", id="money"
        ),
        pytest.param(
            f"models: {{a: {{prices: [{PRICE.replace('image', 'picture')}]}}}}",
            "prices: 0: unknown key 'picture'",
            id="price key",
        ),
        pytest.param(
            f"models: {{a: {{prices: [{PRICE}, {PRICE}]}}}}", "two of them hold from the same day", id="same day"
        ),
        pytest.param(
            "models: {a: {aliases: [x]}, b: {aliases: [x]}}", "b: aliases: 'x' names another model too", id="alias"
        ),
        pytest.param(
            "models: {a: {aliases: [a]}}", "a: aliases: 'a' names another model too", id="alias that is an id"
        ),
        pytest.param(
            "models: {a: {aspects: ['1:1'], sizes: [1K], pixels: {1K: {'1:1': 10}}}}",
            "pixels: 1K: 1:1: must be text",
            id="pixels",
        ),
        pytest.param("models:\n  a: {}\n  a: {}", "line 2: 'a' stands here twice", id="twice"),
        pytest.param("models:\n\ta: {}", "line 2: found character that cannot start any token", id="tab"),
        pytest.param(
            "models: !!python/object/apply:os.system [x]", "line 1: could not determine a constructor", id="tag"
        ),
        pytest.param("models: &m {a: *m}", "models: a: unknown key 'a'", id="goes round"),
        pytest.param("[" * 50_000, "", id="deep"),
        pytest.param("a: \x00", "is not YAML", id="control"),
        pytest.param("#" * 1_000_001, "is larger than 1,000,000 bytes", id="too large"),
    ],
)
def test_a_malformed_file_is_named_with_what_is_wrong_in_it(extra, text, complaint):
    path = extra(text)
    with pytest.raises(UsageError) as caught:
        models.load(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert complaint in str(caught.value)
    assert len(str(caught.value)) < 300


def test_a_file_that_cannot_be_read(tmp_path):
    for path, complaint in [(tmp_path / "no.yaml", "no such file"), (tmp_path, "is not a file")]:
        with pytest.raises(UsageError, match=complaint):
            models.load(path)
    (tmp_path / "latin.yaml").write_bytes("a: é".encode("latin-1"))
    with pytest.raises(UsageError, match="is not YAML"):
        models.load(tmp_path / "latin.yaml")


@given(st.binary(max_size=200))
def test_no_bytes_break_it(tmp_path_factory, content):
    path = tmp_path_factory.getbasetemp() / "any.yaml"
    path.write_bytes(content)
    with contextlib.suppress(UsageError):  # the one error it may be; an empty map is no error at all
        models.load(path)
