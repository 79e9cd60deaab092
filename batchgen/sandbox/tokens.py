"""What an image takes in tokens and costs in nano-dollars, by the published formulas and prices."""

from dataclasses import dataclass

from batchgen.sandbox.order import Order, Usage

_TABLE = {  # gpt-image-1, its mini and 1.5 know three sizes, each with a fixed count
    "low": {"1024x1024": 272, "1024x1536": 408, "1536x1024": 400},
    "medium": {"1024x1024": 1056, "1024x1536": 1584, "1536x1024": 1568},
    "high": {"1024x1024": 4160, "1024x1536": 6240, "1536x1024": 6208},
}
_FACTORS_2 = {"low": 16, "medium": 48, "high": 96}
_FACTORS_25 = {"low": 16, "medium": 24, "high": 48, "xhigh": 64, "max": 96}


@dataclass(frozen=True, slots=True)
class Price:
    """Nano-dollars a token, which is dollars a million tokens times 1,000."""

    text_in: int
    image_in: int
    image_out: int


_PRICES = {
    "1": Price(text_in=5_000, image_in=10_000, image_out=40_000),
    "1-mini": Price(text_in=2_000, image_in=2_500, image_out=8_000),
    "1.5": Price(text_in=5_000, image_in=8_000, image_out=32_000),
    "2": Price(text_in=5_000, image_in=8_000, image_out=30_000),
    "2.5": Price(text_in=5_000, image_in=8_000, image_out=30_000),
    "2.6": Price(text_in=5_000, image_in=8_000, image_out=30_000),
    "any": Price(text_in=5_000, image_in=8_000, image_out=30_000),
}
_TABLED = ("1", "1-mini", "1.5")
_PARTIAL = 100


def usage(order: Order) -> Usage:
    """The prompt and the images that came along are counted once, however many were ordered; a mask costs nothing."""
    return Usage(
        text_in=text_tokens(order.prompt),
        image_out=order.n * image_tokens(order) + order.partials * _PARTIAL,
        image_in=sum(input_tokens(each.width, each.height, order.family) for each in order.inputs),
    )


def cost(used: Usage, family: str) -> int:
    """Nano-dollars."""
    price = _PRICES[family]
    return used.text_in * price.text_in + used.image_in * price.image_in + used.image_out * price.image_out


def told(used: Usage) -> dict[str, object]:
    """As OpenAI tells it, and everybody who tells it at all."""
    return {
        "input_tokens": used.text_in + used.image_in,
        "input_tokens_details": {"text_tokens": used.text_in, "image_tokens": used.image_in},
        "output_tokens": used.image_out,
        "output_tokens_details": {"image_tokens": used.image_out, "text_tokens": 0},
        "total_tokens": used.text_in + used.image_in + used.image_out,
    }


def text_tokens(prompt: str) -> int:
    """About four bytes a token and six for the frame: near the real tokenizer's count, without its tables."""
    return 6 + max(1, -(-len(prompt.encode()) // 4))


def image_tokens(order: Order) -> int:
    """Tokens of one image."""
    if order.family in _TABLED:
        return _TABLE[order.quality][order.size]
    if order.family == "2":
        return _by_area(_FACTORS_2[order.quality], order.width, order.height)
    tokens = _by_area(_FACTORS_25[order.quality], order.width, order.height)
    if order.family == "2.6" and order.quality in ("low", "medium"):
        return -(-tokens * 7 // 2)  # no formula is published: measured at three to four times the tokens of 2.5
    return tokens


def input_tokens(width: int, height: int, family: str) -> int:
    """Tokens of one image that came along: in tiles of 512 pixels once, in patches of 16 since."""
    if family not in _TABLED:
        return min(1536, -(-width // 16) * -(-height // 16))
    scale = min(1.0, 2048 / max(width, height))
    scale = min(scale, 512 / min(width, height))
    tiles = [-(-round(edge * scale) // 512) for edge in (width, height)]
    return 65 + 129 * max(1, tiles[0]) * max(1, tiles[1])


def _by_area(factor: int, width: int, height: int) -> int:
    """A grid of factor patches along the longer edge and in proportion along the other, scaled by the pixels."""
    longer, shorter = max(width, height), min(width, height)
    across = (2 * factor * shorter + longer) // (2 * longer)  # rounds half up
    return -(-factor * across * (2_000_000 + width * height) // 4_000_000)
