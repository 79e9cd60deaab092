"""Usage × prices → money, as an interval; and what a request will cost before it is sent. Nano-dollars throughout."""

import math
import re
from collections.abc import Iterable
from dataclasses import dataclass, replace

from batchgen import catalog
from batchgen.catalog import Model, Provider, SizeRule, Tariff
from batchgen.task import Input, Usage, Variant

NANO_PER_TOKEN = 1000  # 1 USD per million tokens is 1,000 nano-dollars a token
NANO = 1_000_000_000
UNBOUNDED = ("gif",)  # many frames
INPUTS_SPREAD = 2  # how many times the expected tokens images that go in may take: a mask may count, too
PATCH, PATCHES_MOST, TILE = 16, 1536, 512  # pixels, tokens, pixels
UNSEEN = (2048, 512)  # pixels of an image that only the provider can see: no other takes more tiles
SIZE = re.compile(r"([1-9][0-9]*)x([1-9][0-9]*)")
PARTIAL = 100  # tokens of a picture that a stream shows on the way
TEXT_OVERHEAD = 64  # tokens that a provider adds around a prompt, at most


@dataclass(frozen=True, slots=True)
class Money:
    """An interval around what is expected; nano-dollars."""

    low: int
    expected: int
    high: int

    def __add__(self, other: "Money") -> "Money":
        return Money(self.low + other.low, self.expected + other.expected, self.high + other.high)

    def __mul__(self, times: int) -> "Money":
        return Money(self.low * times, self.expected * times, self.high * times)

    def at(self, share: float) -> "Money":
        """That share of it; the bounds hold."""
        low, high = math.floor(self.low * share), math.ceil(self.high * share)
        return Money(low, round(self.expected * share), high) if share != 1.0 else self


@dataclass(frozen=True, slots=True)
class Quote:
    """What one variant costs: a fixed part for the images, and parts for each byte of the prompt and each image in."""

    images: Money
    text_rate: float  # nano-dollars a text token
    image_rate: float = 0.0  # nano-dollars a token of an image that goes in

    def of(self, prompt_bytes: int, requests: int = 1, input_tokens: int = 0) -> Money:
        """For that many bytes of prompts and expected tokens of images, sent in that many requests."""
        text = Money(
            low=0,
            expected=round(self.text_rate * text_tokens(prompt_bytes)),
            high=round(self.text_rate * (prompt_bytes + TEXT_OVERHEAD * requests)),  # a token is a byte or more
        )
        into = round(self.image_rate * input_tokens)
        return self.images * requests + text + Money(0, into, INPUTS_SPREAD * into)


def quote(tariff: Tariff | None, model: Model | None, variant: Variant) -> Quote | None:
    """What a variant will cost; None where no price, or no way to bound the tokens, is known."""
    if tariff is None:
        return None
    if tariff.price.image is not None:
        flat = round(tariff.price.image * NANO) * variant.images
        return Quote(Money(flat, flat, flat), 0.0)
    if model is None or variant.param("output_format") in UNBOUNDED:
        return None
    rate = tariff.price.image_out * NANO_PER_TOKEN * variant.images
    low, expected, high = _image_tokens(model, variant)
    spread = 1 + model.tokens.spread
    partials = variant.param("partial_images", 0)
    shown = PARTIAL * partials if isinstance(partials, int) else 0  # a stream may show fewer
    images = Money(round(rate * low / spread), round(rate * (expected + shown)), round(rate * (high * spread + shown)))
    return Quote(images, tariff.price.text_in * NANO_PER_TOKEN, tariff.price.image_in * NANO_PER_TOKEN)


def text_tokens(prompt_bytes: int) -> float:
    """How many tokens a prompt is expected to take."""
    return prompt_bytes / 3


def tokens(variant: Variant, provider: Provider) -> float:
    """How many tokens the images of a request are expected to take; 0 where the catalog does not know the model."""
    model, asked = catalog.model(variant.model, provider), _spelled_out(variant, provider)
    countable = model is not None and asked.param("output_format") not in UNBOUNDED
    return _image_tokens(model, asked)[1] * variant.images if model and countable else 0.0


def input_tokens(model: Model | None, variant: Variant, inputs: Iterable[Input]) -> int:
    """What the images of an edit are expected to take; a mask is expected to be free."""
    if model is None:
        return 0
    fine = variant.param("input_fidelity") == "high"
    return sum(_tokens_in(model, each.width, each.height, fine) for each in inputs if not each.area)


def _tokens_in(model: Model, width: int, height: int, fine: bool) -> int:
    width, height = (width, height) if width else UNSEEN
    if model.image_tokens == "patches":
        return min(PATCHES_MOST, -(-width // PATCH) * -(-height // PATCH))
    shrunk = min(1.0, 2048 / max(width, height))
    shrunk *= min(1.0, TILE / (shrunk * min(width, height)))
    tiles = math.ceil(round(width * shrunk, 6) / TILE) * math.ceil(round(height * shrunk, 6) / TILE)
    return 65 + 129 * tiles + fine * (4160 if width == height else 6240)


def least(variant: Variant, provider: Provider | None) -> int:
    """What a request costs at least, if it is billed at all, in nano-dollars; 0 where nobody knows."""
    quote = quoted(variant, provider)
    return quote.images.low if quote else 0


def quoted(variant: Variant, provider: Provider | None) -> Quote | None:
    """What a variant will cost at its provider, by the catalog; None where that is not known."""
    if provider is None:
        return None
    asked = _spelled_out(variant, provider)
    return quote(catalog.tariff(provider, variant.model), catalog.model(variant.model, provider), asked)


def _spelled_out(variant: Variant, provider: Provider) -> Variant:
    """With what the provider takes where nothing is set, as far as that decides about money."""
    set_ = dict(variant.params)
    left = {name: value for name in ("quality", "size") if name not in set_ and (value := provider.default(name))}
    return replace(variant, params=tuple(sorted({**left, **set_}.items())))


def price(tariff: Tariff | None, usage: Usage | None, images: int) -> int | None:
    """What an answer cost, from its usage; None where no usage came, or no price is known."""
    if usage and usage.charged is not None:
        return usage.charged
    if tariff is None:
        return None
    if tariff.price.image is not None:
        return round(tariff.price.image * NANO) * images
    if usage is None:
        return None
    rates = tariff.price
    fresh_text, fresh_image = usage.input_text - usage.cached_text, usage.input_image - usage.cached_image
    usd_per_million = (
        fresh_text * rates.text_in
        + usage.cached_text * _or(rates.text_cached, rates.text_in)
        + fresh_image * rates.image_in
        + usage.cached_image * _or(rates.image_cached, rates.image_in)
        + usage.output_image * rates.image_out
        + usage.output_text * _or(rates.text_out, rates.image_out)
    )
    return round(usd_per_million * NANO_PER_TOKEN)


def output_tokens(model: Model, quality: str, width: int, height: int) -> float:
    """Output tokens of one image, by the catalog's table or formula."""
    tokens = model.tokens
    if tokens.table:
        return tokens.table[quality][f"{width}x{height}"]
    factor, long, short = tokens.factor[quality], max(width, height), min(width, height)
    across = (2 * factor * short + long) // (2 * long)  # factor × short / long, rounded half up
    exact = -(-factor * across * (2_000_000 + width * height) // 4_000_000)
    return exact * tokens.scale.get(quality, 1.0)


def _or(rate: float | None, default: float) -> float:
    return default if rate is None else rate


def _image_tokens(model: Model, variant: Variant) -> tuple[float, float, float]:
    """The least, the likely and the most output tokens, over all that `auto`, or a word of another's, leaves open."""
    quality, size = str(variant.param("quality", "auto")), str(variant.param("size", "auto"))
    qualities = (quality,) if quality in model.qualities else model.qualities
    likely = quality if quality in model.qualities else "medium"
    if model.tokens.table and SIZE.fullmatch(size) and size not in model.tokens.table[likely]:  # like its own, at most
        most = max(tokens for each in qualities for tokens in model.tokens.table[each].values())
        return 0, most, most
    found = [output_tokens(model, each, *edges) for each in qualities for edges in _sizes(model, size)]
    return min(found), output_tokens(model, likely, *next(iter(_sizes(model, size)))), max(found)


def _sizes(model: Model, size: str) -> Iterable[tuple[int, int]]:
    if SIZE.fullmatch(size):
        return [edges(size)]
    if isinstance(model.sizes, SizeRule):
        # Nothing takes more tokens than the largest square, nothing fewer than the smallest strip.
        largest = int(model.sizes.pixels_most**0.5)
        short = int((model.sizes.pixels_least / model.sizes.ratio_most) ** 0.5)
        return [(1024, 1024), (largest, largest), (short * model.sizes.ratio_most, short)]
    return [edges(each) for each in model.sizes]


def edges(size: str) -> tuple[int, int]:
    """Width and height in pixels; of `auto`, and of what is no such thing, the usual ones."""
    found = SIZE.fullmatch(size)
    return (int(found[1]), int(found[2])) if found else (1024, 1024)


def flat(tariff: Tariff | None) -> bool:
    """Whether money is counted by the image, not by the token."""
    return tariff is not None and tariff.price.image is not None
