"""Pictures for people, and pictures for load."""

import asyncio
import base64
import io

import pytest
from PIL import Image

from batchgen.sandbox import paint
from batchgen.sandbox.order import Order


def order(prompt: str = "A fox", file_format: str = "png", background: str = "opaque") -> Order:
    return Order("gpt-image-2", "2", prompt, 1024, 768, "low", format=file_format, background=background)


@pytest.mark.parametrize("prompt", ["x", "x" * 32_000, "word " * 500, "Ein Käfer – „größer“", "狐", "\n\t", "{} %s"])
def test_any_prompt_can_be_painted(prompt: str) -> None:
    picture = asyncio.run(paint.real(order(prompt), 1))
    assert Image.open(io.BytesIO(picture.raw)).size == (1024, 768)
    assert base64.b64decode(picture.base64) == picture.raw


def test_equal_orders_get_different_pictures_and_the_same_number_the_same() -> None:
    first, again, second = (asyncio.run(paint.real(order(), number)).raw for number in (1, 1, 2))
    assert first == again != second


@pytest.mark.parametrize("size", [100_000, 1_500_000])
def test_a_png_from_stock_is_about_as_long_as_asked(size: int) -> None:
    stock = paint.Stock(size)
    picture = asyncio.run(stock(order(), 1))
    assert len(picture.raw) == pytest.approx(size, rel=0.1)
    assert Image.open(io.BytesIO(picture.raw)).getpixel((1023, 767)) is not None
    assert asyncio.run(stock(order("another"), 5)) is picture


@pytest.mark.parametrize("background", ["opaque", "transparent"])
@pytest.mark.parametrize("file_format", ["png", "webp"])
def test_stock_has_the_format_and_background_asked(file_format: str, background: str) -> None:
    picture = asyncio.run(paint.Stock(1_000)(order(file_format=file_format, background=background), 1))
    image = Image.open(io.BytesIO(picture.raw))
    assert (image.format, image.has_transparency_data) == (file_format.upper(), background == "transparent")
