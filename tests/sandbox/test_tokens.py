"""The counts and prices that are published, to the last token."""

import pytest

from batchgen.sandbox import tokens
from batchgen.sandbox.order import Order, Usage


def order(family: str, quality: str, width: int, height: int) -> Order:
    return Order("gpt-image", family, "A fox", width, height, quality)


@pytest.mark.parametrize(
    ("family", "quality", "width", "height", "expected"),
    [
        ("2", "low", 1024, 1024, 196),
        ("2", "low", 576, 1152, 86),
        ("2", "medium", 1536, 1024, 1372),
        ("2", "high", 1024, 1536, 5488),
        ("2", "high", 1792, 1024, 5063),
        ("2", "high", 3584, 2048, 12329),
        ("2.5", "low", 3840, 2160, 371),
        ("2.5", "medium", 2048, 2048, 892),
        ("2.5", "high", 1024, 1024, 1756),
        ("2.5", "xhigh", 2048, 1152, 2511),
        ("2.5", "max", 2560, 1440, 7370),
        ("2.6", "low", 1024, 1024, 686),
        ("2.6", "medium", 1024, 1024, 1537),
        ("2.6", "high", 1024, 1024, 1756),
        ("1-mini", "low", 1024, 1024, 272),
        ("1.5", "high", 1536, 1024, 6208),
        ("1", "medium", 1024, 1536, 1584),
    ],
)
def test_an_image_takes_its_published_tokens(family: str, quality: str, width: int, height: int, expected: int) -> None:
    assert tokens.image_tokens(order(family, quality, width, height)) == expected


@pytest.mark.parametrize(("prompt", "expected"), [("", 7), ("x", 7), ("x" * 400, 106), ("é" * 200, 106)])
def test_a_prompt_takes_about_a_token_for_four_bytes(prompt: str, expected: int) -> None:
    assert tokens.text_tokens(prompt) == expected


@pytest.mark.parametrize(
    ("family", "nano_usd"),
    [
        ("1", 10 * 5_000 + 7 * 10_000 + 272 * 40_000),
        ("1-mini", 10 * 2_000 + 7 * 2_500 + 272 * 8_000),
        ("1.5", 10 * 5_000 + 7 * 8_000 + 272 * 32_000),
        ("2", 10 * 5_000 + 7 * 8_000 + 272 * 30_000),
    ],
)
def test_a_cost_is_whole_nano_dollars(family: str, nano_usd: int) -> None:
    assert tokens.cost(Usage(text_in=10, image_out=272, image_in=7), family) == nano_usd


@pytest.mark.parametrize(
    ("family", "width", "height", "expected"),
    [
        ("2", 512, 512, 1024),
        ("2", 100, 17, 14),
        ("any", 4096, 4096, 1536),
        ("1", 1024, 1024, 65 + 129),
        ("1.5", 1024, 1536, 65 + 2 * 129),
        ("1-mini", 4096, 1024, 65 + 4 * 129),
        ("1", 10, 10, 65 + 129),
    ],
)
def test_an_image_that_comes_along_takes_tokens_too(family: str, width: int, height: int, expected: int) -> None:
    assert tokens.input_tokens(width, height, family) == expected
