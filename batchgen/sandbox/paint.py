"""Pictures: painted to be looked at, or a few fixed ones that cost next to nothing to hand out."""

import base64
import io
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import anyio
from PIL import Image

from batchgen.sandbox import canvas
from batchgen.sandbox.order import Order


@dataclass(frozen=True, slots=True)
class Picture:
    """An image file, and the same as base64 text."""

    raw: bytes
    base64: bytes


Painter = Callable[[Order, int], Awaitable[Picture]]
"""Paints the image of an order; the number tells apart the images of equal orders."""

_MEDIA = {"png": "image/png", "jpeg": "image/jpeg", "webp": "image/webp"}
_VARIANTS = 4


def media_type(file_format: str) -> str:
    return _MEDIA[file_format]


async def real(order: Order, number: int) -> Picture:
    """Shows its prompt, size and quality."""
    return await anyio.to_thread.run_sync(lambda: _picture(canvas.paint(order, number), order))


class Stock:
    """A few pictures of each format and size, of about `size` bytes: made at first use, then only handed out."""

    def __init__(self, size: int) -> None:
        self._bytes = size
        self._made: dict[tuple[str, int, int, bool, int], Picture] = {}

    async def __call__(self, order: Order, number: int) -> Picture:
        alpha = order.background == "transparent"
        variant = number % _VARIANTS
        kind = (order.format, order.width, order.height, alpha, variant)
        if kind not in self._made:
            self._made[kind] = _picture(self._noisy(order, "RGBA" if alpha else "RGB", variant), order, effort=6)
        return self._made[kind]

    def _noisy(self, order: Order, mode: str, variant: int) -> Image.Image:
        """One flat colour behind a block of noise, which no format can compress, so that it sets the length."""
        chance = random.Random(variant)
        whole = order.width * order.height * len(mode)
        noise = chance.randbytes(min(self._bytes, whole))
        colour = chance.randbytes(len(mode))
        pixels = noise + (colour * (whole // len(mode)))[len(noise) :]
        return Image.frombytes(mode, (order.width, order.height), pixels)


def _picture(image: Image.Image, order: Order, effort: int = 1) -> Picture:
    out = io.BytesIO()
    if order.format == "png":
        image.save(out, "PNG", compress_level=effort)
    elif order.format == "jpeg":
        image.save(out, "JPEG", quality=min(95, max(5, order.compression)))
    else:
        image.save(out, "WEBP", quality=order.compression, method=0)
    return Picture(out.getvalue(), base64.b64encode(out.getvalue()))
