"""Money from usage, and bounds around it before anything is sent."""

from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batchgen import catalog, costs
from batchgen.catalog import Model, Price, SizeRule, Tariff
from batchgen.costs import NANO, Money, output_tokens
from batchgen.task import Input, Kind, Operation, Usage, Variant

MODELS = catalog.models()
SIZES = ("1024x1024", "1536x1024", "1024x1536", "2048x2048", "2048x1152", "2560x1440", "3840x2160")
OPENAI = catalog.provider("openai", {})


def model(name: str) -> Model:
    known = catalog.model(name)
    assert known
    return known


def tariff(name: str) -> Tariff:
    known = catalog.tariff(OPENAI, name)
    assert known
    return known


def variant(name: str, **params: object) -> Variant:
    return Variant("openai", name, Operation.GENERATE, tuple(sorted(params.items())), ())


def quoted(name: str, prompt_bytes: int = 0, **params: object) -> Money:
    quote = costs.quote(tariff(name), catalog.model(name), variant(name, **params))
    assert quote
    return quote.of(prompt_bytes)


def edges(size: str) -> tuple[int, int]:
    width, height = size.split("x")
    return int(width), int(height)


FORMULA = {  # the tokens of 1024², 1536×1024, 2048², 2048×1152, 2560×1440, 3840×2160
    ("gpt-image-2", "low"): (196, 158, 397, 157, 205, 371),
    ("gpt-image-2.5-flare", "low"): (196, 158, 397, 157, 205, 371),
    ("gpt-image-2.5-sunburst", "medium"): (439, 343, 892, 367, 478, 865),
    ("gpt-image-2", "medium"): (1756, 1372, 3568, 1413, 1843, 3336),
    ("gpt-image-2.5", "high"): (1756, 1372, 3568, 1413, 1843, 3336),
    ("gpt-image-2.5", "xhigh"): (3122, 2459, 6343, 2511, 3276, 5930),
    ("gpt-image-2", "high"): (7024, 5488, 14272, 5650, 7370, 13342),
    ("gpt-image-2.5-flare-2026-09-08", "max"): (7024, 5488, 14272, 5650, 7370, 13342),
}
COLUMNS = ("1024x1024", "1536x1024", "2048x2048", "2048x1152", "2560x1440", "3840x2160")


@pytest.mark.parametrize(
    ("name", "quality", "size", "tokens"),
    [(*row, size, n) for row, cells in FORMULA.items() for size, n in zip(COLUMNS, cells, strict=True)],
)
def test_the_formula_gives_the_published_tokens_however_the_image_is_turned(
    name: str, quality: str, size: str, tokens: int
) -> None:
    width, height = edges(size)
    assert output_tokens(model(name), quality, width, height) == tokens
    assert output_tokens(model(name), quality, height, width) == tokens


@pytest.mark.parametrize(
    ("quality", "width", "height", "tokens"),
    [("high", 1792, 1024, 5063), ("high", 3584, 2048, 12329), ("low", 576, 1152, 86)],
)
def test_the_formula_gives_what_others_have_measured(quality: str, width: int, height: int, tokens: int) -> None:
    assert output_tokens(model("gpt-image-2"), quality, width, height) == tokens


def test_the_formula_rounds_a_half_up() -> None:
    """16 × 672 / 1024 is 10.5; Python's own rounding would make 10 of it."""
    assert output_tokens(model("gpt-image-2"), "low", 672, 1024) == 119


@pytest.mark.parametrize("name", ["gpt-image-1", "gpt-image-1-mini", "openai/gpt-image-1.5", "chatgpt-image-latest"])
@pytest.mark.parametrize(
    ("quality", "tokens"), [("low", (272, 408, 400)), ("medium", (1056, 1584, 1568)), ("high", (4160, 6240, 6208))]
)
def test_the_older_models_have_a_table(name: str, quality: str, tokens: tuple[int, int, int]) -> None:
    found = [output_tokens(model(name), quality, *size) for size in ((1024, 1024), (1024, 1536), (1536, 1024))]
    assert tuple(found) == tokens


PUBLISHED = {  # USD for the output of 1024², 1024×1536, 1536×1024, rounded by OpenAI
    ("gpt-image-2", "low"): (0.006, 0.005, 0.005),
    ("gpt-image-2", "medium"): (0.053, 0.041, 0.041),
    ("gpt-image-2", "high"): (0.211, 0.165, 0.165),
    ("gpt-image-1.5", "low"): (0.009, 0.013, 0.013),
    ("gpt-image-1.5", "medium"): (0.034, 0.05, 0.05),
    ("gpt-image-1.5", "high"): (0.133, 0.2, 0.2),
    ("gpt-image-1", "low"): (0.011, 0.016, 0.016),
    ("gpt-image-1", "medium"): (0.042, 0.063, 0.063),
    ("gpt-image-1", "high"): (0.167, 0.25, 0.25),
}


@pytest.mark.parametrize(("name", "quality"), PUBLISHED)
def test_an_image_is_expected_to_cost_what_openai_says(name: str, quality: str) -> None:
    for size, usd in zip(("1024x1024", "1024x1536", "1536x1024"), PUBLISHED[name, quality], strict=True):
        assert quoted(name, quality=quality, size=size).expected / NANO == pytest.approx(usd, abs=0.002)


def test_the_bounds_of_the_mini_hold_what_openai_says() -> None:
    assert quoted("gpt-image-1-mini", quality="low", size="1024x1024").high / NANO >= 0.0045


def test_the_newest_models_are_bounded_by_what_was_measured() -> None:
    for quality, size, tokens in (("low", "1536x1024", 664), ("high", "1536x1024", 1353), ("high", "3840x2160", 3337)):
        money = quoted("gpt-image-2.6-flare", quality=quality, size=size)
        assert money.low <= tokens * 30_000 <= money.high


@given(st.integers(41, 240), st.integers(41, 240), st.sampled_from(["gpt-image-2", "gpt-image-2.5"]))
def test_nothing_takes_more_tokens_than_the_largest_square(columns: int, rows: int, name: str) -> None:
    """What the bounds of `auto` rest on."""
    known, width, height = model(name), 16 * columns, 16 * rows
    assert isinstance(known.sizes, SizeRule)
    if width * height <= known.sizes.pixels_most:
        edge = int(known.sizes.pixels_most**0.5)
        for quality in known.qualities:
            assert output_tokens(known, quality, width, height) <= output_tokens(known, quality, edge, edge)


ANY = [
    (name, quality, size)
    for name, known in MODELS.items()
    for quality, size in product(("auto", *known.qualities), ("auto", *SIZES))
    if size == "auto" or isinstance(known.sizes, SizeRule) or size in known.sizes
]


@given(st.sampled_from(ANY), st.integers(1, 10), st.text(min_size=1, max_size=200), st.floats(0, 1))
def test_a_bill_lies_between_the_bounds_of_its_quote(
    asked: tuple[str, str, str], n: int, prompt: str, share: float
) -> None:
    """A token of text is at least a byte, and images take the tokens of any quality and size that was left open."""
    name, quality, size = asked
    money = quoted(name, len(prompt.encode("utf-8", "replace")), quality=quality, size=size, n=n)
    assert 0 < money.low <= money.expected <= money.high
    known = model(name)
    qualities = known.qualities if quality == "auto" else (quality,)
    least = output_tokens(known, qualities[0], *edges("1536x1024" if size == "auto" else size))
    text = round(share * len(prompt.encode("utf-8", "replace")))
    bill = costs.price(tariff(name), Usage(input_text=text, output_image=round(n * least)), n)
    assert bill is not None
    assert money.low <= bill <= money.high


def test_what_auto_leaves_open_widens_the_bounds() -> None:
    fixed, auto = quoted("gpt-image-2", quality="medium", size="1024x1024"), quoted("gpt-image-2")
    assert auto.expected == fixed.expected == 1756 * 30_000
    assert auto.low < quoted("gpt-image-2", quality="low", size="1536x1024").expected
    assert auto.high > quoted("gpt-image-2", quality="high", size="2880x2880").expected


def test_the_low_bound_of_auto_holds_for_every_size_that_a_model_paints() -> None:
    assert quoted("gpt-image-2", quality="low").low <= quoted("gpt-image-2", quality="low", size="1408x480").expected


def test_a_format_whose_price_is_unknown_has_no_quote() -> None:
    asked = variant("gpt-image-2.6", output_format="gif")
    assert costs.quote(tariff("gpt-image-2.6"), model("gpt-image-2.6"), asked) is None


RATES = Tariff(Price(text_in=5, text_cached=1.25, image_in=8, image_cached=2, image_out=30, text_out=10), "today")
PLAIN = Tariff(Price(text_in=5, image_in=8, image_out=30), "today")


@pytest.mark.parametrize(
    ("prices", "usage", "nano"),
    [
        (RATES, Usage(), 0),
        (RATES, Usage(input_text=50, output_image=196), 50 * 5_000 + 196 * 30_000),
        (RATES, Usage(input_text=50, cached_text=40), 10 * 5_000 + 40 * 1_250),
        (RATES, Usage(input_image=100, cached_image=60), 40 * 8_000 + 60 * 2_000),
        (RATES, Usage(output_image=4160, output_text=326), 4160 * 30_000 + 326 * 10_000),
        (PLAIN, Usage(input_text=50, cached_text=40, input_image=9, cached_image=9), 50 * 5_000 + 9 * 8_000),
        (PLAIN, Usage(output_image=1, output_text=1), 2 * 30_000),
        (RATES, None, None),
        (None, Usage(input_text=50), None),
        (None, None, None),
        (Tariff(Price(image=0.04), "today"), None, 3 * 40_000_000),
        (Tariff(Price(image=0.04), "today"), Usage(input_text=50, output_image=196), 3 * 40_000_000),
        (Tariff(Price(image=0.0), "today"), None, 0),
    ],
)
def test_a_price_is_usage_times_rates_or_flat(prices: Tariff | None, usage: Usage | None, nano: int | None) -> None:
    """S14: without usage there is no price, unless it is flat; without a price there is none at all, never $0."""
    assert costs.price(prices, usage, images=3) == nano


@pytest.mark.parametrize(("name", "prices"), [("gpt-image-2", None), ("stranger", RATES)])
def test_without_a_price_or_a_bound_there_is_no_quote(name: str, prices: Tariff | None) -> None:
    """U15."""
    assert costs.quote(prices, catalog.model(name), variant(name)) is None


def test_a_flat_price_is_its_own_bound_even_for_a_stranger() -> None:
    quote = costs.quote(Tariff(Price(image=0.04), "today"), None, variant("stranger", n=3))
    assert quote
    assert quote.of(10_000, requests=2) == Money(240_000_000, 240_000_000, 240_000_000)


@given(st.integers(0, 10**6), st.integers(1, 1000))
def test_a_quote_for_many_is_the_sum_of_the_quotes_for_each(prompt_bytes: int, requests: int) -> None:
    quote = costs.quote(tariff("gpt-image-2"), model("gpt-image-2"), variant("gpt-image-2", size="1024x1024"))
    assert quote
    one, all_ = quote.of(prompt_bytes), quote.of(prompt_bytes * requests, requests)
    assert all_.high == one.high * requests
    assert all_.low == one.low * requests
    assert abs(all_.expected - one.expected * requests) <= requests


def test_money_adds_up() -> None:
    assert Money(1, 2, 3) + Money(10, 20, 30) * 2 == Money(21, 42, 63)


@pytest.mark.parametrize(("prices", "is_flat"), [(None, False), (RATES, False), (Tariff(Price(image=0.0), ""), True)])
def test_a_flat_tariff_is_told_from_one_of_tokens(prices: Tariff | None, is_flat: bool) -> None:
    assert costs.flat(prices) is is_flat


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize(
    "asked", [{"quality": "hd"}, {"size": "square"}, {"quality": "best", "size": "1K"}, {"size": "0x9"}]
)
def test_a_word_of_anothers_is_bounded_over_all_that_it_may_mean(name: str, asked: dict[str, str]) -> None:
    """A provider of the user's own may take other words than the model's."""
    money, auto = quoted(name, 0, **asked), quoted(name, 0, **dict.fromkeys(asked, "auto"))
    assert (money.low, money.high) == (auto.low, auto.high)
    assert money.low <= money.expected <= money.high


@pytest.mark.parametrize("name", ["gpt-image-1", "gpt-image-2"])
def test_an_image_that_nobody_here_has_seen_takes_no_more_than_it_is_counted_for(name: str) -> None:
    edit = Variant("openai", name, Operation.EDIT, (("size", "1024x1024"),), ())
    unseen = costs.input_tokens(model(name), edit, [Input(Kind.LINK, "https://a.example/a.png")])
    for width, height in product((256, 512, 768, 1024, 2048, 4096), repeat=2):
        seen = Input(Kind.FILE, "a.png", "0" * 64, 9, "png", width, height)
        assert costs.input_tokens(model(name), edit, [seen]) <= unseen
