"""Size: match comes to a size that the model paints, of the image's own shape, whatever the image."""

import math
from bisect import bisect
from functools import cache
from itertools import product

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from batchgen import catalog, sizes
from batchgen.catalog import SizeRule

ROUNDING = 0.01
"""Shapes are compared in hundredths of their logarithm: each of two may be off by half of one."""
EDGE = st.integers(1, 20_000)
RULES = tuple({each.sizes for each in catalog.models().values() if isinstance(each.sizes, SizeRule)})
FREE = RULES[0]
OTHER_RULES = (
    SizeRule(multiple=8, edge_most=512, ratio_most=4, pixels_least=4_096, pixels_most=65_536),
    SizeRule(multiple=64, edge_most=1_024, ratio_most=2, pixels_least=262_144, pixels_most=1_048_576),
    SizeRule(multiple=1, edge_most=100, ratio_most=1, pixels_least=100, pixels_most=10_000),
)
"""Of models to come."""


def lists() -> list[tuple[str, ...]]:
    """Every list of sizes that `match` may choose from."""
    pairs = product(catalog.providers().values(), (*catalog.models(), "a stranger"))
    found = {sizes.fits(provider, model) for provider, model in pairs}
    return sorted(each for each in found if isinstance(each, tuple))


@cache
def legal(rule: SizeRule) -> list[tuple[int, int]]:
    edges = range(rule.multiple, rule.edge_most + 1, rule.multiple)
    return [(across, down) for across in edges for down in edges if not list(sizes.against(rule, across, down))]


@cache
def shapes(rule: SizeRule) -> list[float]:
    return sorted({math.log(across / down) for across, down in legal(rule)})


def pixels(size: str) -> tuple[int, int]:
    across, down = size.split("x")
    return int(across), int(down)


def off(size: str, width: int, height: int) -> float:
    """How far a size's shape is from an image's."""
    across, down = pixels(size)
    return abs(math.log(across / down) - math.log(width / height))


def test_the_catalog_knows_a_rule_and_two_kinds_of_lists() -> None:
    assert (catalog.models()["gpt-image-2"].sizes,) == RULES
    assert lists() == [("1024x1024", "1536x1024", "1024x1536"), ("256x256", "512x512", "1024x1024")]


@pytest.mark.parametrize("rule", [*RULES, *OTHER_RULES])
@given(width=EDGE, height=EDGE)
@example(width=1, height=1)
@example(width=1, height=20_000)
@example(width=20_000, height=1)
@example(width=14_142, height=14_142)
def test_what_a_rule_comes_to_is_legal(rule: SizeRule, width: int, height: int) -> None:
    assert not list(sizes.against(rule, *pixels(sizes.matched(width, height, rule))))


@settings(max_examples=300)
@given(size=st.deferred(lambda: st.sampled_from(legal(FREE))))
def test_a_legal_size_is_its_own_match(size: tuple[int, int]) -> None:
    assert pixels(sizes.matched(*size, FREE)) == size


@pytest.mark.parametrize("listed", lists())
@given(width=EDGE, height=EDGE)
def test_of_a_list_the_one_with_the_nearest_shape_is_taken(listed: tuple[str, ...], width: int, height: int) -> None:
    found = sizes.matched(width, height, listed)
    assert found in listed
    assert off(found, width, height) <= min(off(each, width, height) for each in listed) + ROUNDING
    assert [sizes.matched(*pixels(each), listed) for each in listed] == list(listed)


@settings(max_examples=300)
@given(width=EDGE, height=EDGE)
@example(width=65, height=61)  # of those that are off furthest
def test_no_legal_size_of_any_area_has_a_much_nearer_shape(width: int, height: int) -> None:
    """The area counts, too: only what lies around the image's own is looked at, which is two hundredths at most."""
    known, shape = shapes(FREE), math.log(width / height)
    at = bisect(known, shape)
    nearest = min(abs(each - shape) for each in known[max(0, at - 1) : at + 1])
    assert off(sizes.matched(width, height, FREE), width, height) <= nearest + 2 * ROUNDING


@settings(max_examples=300)
@given(width=EDGE, height=EDGE)
def test_a_match_is_as_large_as_the_image_where_it_may(width: int, height: int) -> None:
    across, down = pixels(sizes.matched(width, height, FREE))
    area = min(max(width * height, FREE.pixels_least), FREE.pixels_most)
    if max(width, height) <= FREE.ratio_most * min(width, height) and max(width, height) <= FREE.edge_most:
        assert abs(math.log(across * down / area)) < 0.2


@settings(max_examples=300)
@given(width=EDGE, height=EDGE)
@example(width=952, height=865)  # halves of multiples, which the last bit of a square root rounds up or down
def test_an_image_that_is_turned_has_the_match_turned(width: int, height: int) -> None:
    assert pixels(sizes.matched(width, height, FREE)) == pixels(sizes.matched(height, width, FREE))[::-1]


def test_what_nobody_knows_has_no_match() -> None:
    openai, localai = catalog.providers()["openai"], catalog.providers()["localai"]
    assert sizes.fits(openai, "a stranger") is None
    assert sizes.fits(openai, "openai/gpt-image-1") == ("1024x1024", "1536x1024", "1024x1536")
    assert sizes.fits(localai, "flux.1-fill") is None


@pytest.mark.parametrize(
    ("width", "height", "reasons"),
    [
        (1024, 1024, []),
        (1000, 1024, ["width and height must be multiples of 16"]),
        (3856, 2000, ["no side may be longer than 3840"]),
        (3072, 1008, ["no side may be more than 3 times the other"]),
        (512, 512, ["262,144 pixels are not between 655,360 and 8,294,400"]),
        (1, 5000, ["multiples", "longer", "times", "pixels"]),
    ],
)
def test_every_reason_against_a_size_is_told(width: int, height: int, reasons: list[str]) -> None:
    found = list(sizes.against(FREE, width, height))
    assert len(found) == len(reasons)
    assert all(reason in says for reason, says in zip(reasons, found, strict=True))
