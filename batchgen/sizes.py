"""Sizes in pixels: which a model paints, and which of them is nearest to an image's."""

import math
from collections.abc import Iterator

from batchgen import catalog
from batchgen.catalog import Provider, SizeRule

MATCH = "match"
"""As a request's size: the one that is nearest to its first image's."""


def fits(provider: Provider, model: str) -> tuple[str, ...] | SizeRule | None:
    """The sizes that `match` chooses from; None where nobody knows them."""
    own = provider.parameters["size"].values if "size" in provider.parameters else ()
    if listed := tuple(size for size in own if size != "auto"):
        return listed
    known = catalog.model(model, provider)
    return known.sizes if known else None


def matched(width: int, height: int, sizes: tuple[str, ...] | SizeRule) -> str:
    """The size nearest to an image's: its shape first, then its area; under a rule, as large as it is where it may."""
    if isinstance(sizes, SizeRule) and width < height:
        longer, shorter = matched(height, width, sizes).split("x")  # what is turned comes out turned
        return f"{shorter}x{longer}"
    if not isinstance(sizes, SizeRule):
        return min(sizes, key=lambda size: _distance(width, height, *map(int, size.split("x"))))
    ratio = min(max(width / height, 1 / sizes.ratio_most), sizes.ratio_most)
    area = min(max(width * height, sizes.pixels_least), sizes.pixels_most)
    ideal = min((area * ratio) ** 0.5, sizes.edge_most, sizes.edge_most * ratio)
    found = [
        (across, down)
        for across in _multiples(ideal, sizes.multiple)
        for down in _multiples(ideal / ratio, sizes.multiple)
        if not list(against(sizes, across, down))
    ]
    across, down = min(found, key=lambda each: _distance(width, height, *each))
    return f"{across}x{down}"


def _distance(width: int, height: int, across: int, down: int) -> tuple[float, float]:
    shape = abs(math.log(across / down) - math.log(width / height))
    return round(shape, 2), abs(math.log(across * down) - math.log(width * height))


def _multiples(edge: float, step: int) -> list[int]:
    """The multiples around an edge's length."""
    near = round(edge / step)
    return [step * each for each in range(max(1, near - 2), near + 3)]


def against(rule: SizeRule, width: int, height: int) -> Iterator[str]:
    """Why a model of that rule does not paint a size, reason by reason."""
    pixels = width * height
    if width % rule.multiple or height % rule.multiple:
        yield f"width and height must be multiples of {rule.multiple}"
    if max(width, height) > rule.edge_most:
        yield f"no side may be longer than {rule.edge_most}"
    if max(width, height) > rule.ratio_most * min(width, height):
        yield f"no side may be more than {rule.ratio_most} times the other"
    if not rule.pixels_least <= pixels <= rule.pixels_most:
        yield f"{pixels:,} pixels are not between {rule.pixels_least:,} and {rule.pixels_most:,}"
