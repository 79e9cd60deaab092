"""From parameters to an order, as most dialects mean them."""

from batchgen.sandbox.body import Given
from batchgen.sandbox.inputs import check_pair
from batchgen.sandbox.mistake import invalid
from batchgen.sandbox.order import Order


def order(given: Given, operation: str, model: str, family: str) -> Order:
    """What `auto` becomes is decided here."""
    inputs, mask = given.images("image", "images", "image_urls"), given.mask("mask", "mask_image")
    check_pair(mask, inputs)
    width, height = _pixels(given.text("size", "auto"))
    quality, background = given.text("quality", "auto").strip(), given.text("background", "auto")
    return Order(
        model=model,
        family=family,
        prompt=given.text("prompt"),
        width=width,
        height=height,
        quality="medium" if quality == "auto" else quality,
        n=given.whole("n", 1),
        format=given.text("output_format", "png"),
        background="opaque" if background == "auto" else background,
        compression=given.whole("output_compression", 100),
        operation=operation,
        inputs=inputs,
        mask=mask,
        delivery=given.text("response_format"),
        stream=given.flag("stream"),
        partials=given.whole("partial_images", 0),
    )


def opaque_jpeg(given: Given) -> None:
    """Refuses a JPEG that one could see through."""
    if given.text("background") == "transparent" and given.text("output_format") == "jpeg":
        invalid("background", "Transparent background is not supported for the output format 'jpeg'.")


def _pixels(size: str) -> tuple[int, int]:
    if size == "auto":
        return 1024, 1024
    width, _, height = size.partition("x")
    return int(width), int(height)
