"""What is said to a Batch API and what it says, whatever that is; and what half of a price is."""

import json
import math
from contextlib import suppress
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batchgen import batch as api
from batchgen import catalog
from batchgen.batch import Look
from batchgen.costs import Money
from batchgen.wire import Reply

KEYS = st.sampled_from(
    ["id", "status", "metadata", "batchgen", "request_counts", "total", "completed", "failed", "output_file_id", "data"]
    + ["error_file_id", "created_at", "expires_at", "errors", "line", "code", "message", "has_more", "filename"]
)


def objects(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    return st.dictionaries(KEYS, inner, max_size=8)


LEAVES = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20) | st.just("completed")
VALUES: st.SearchStrategy[Any] = st.recursive(
    LEAVES, lambda inner: st.lists(inner, max_size=3) | objects(inner), max_leaves=12
)


def reply(said: object) -> Reply:
    return Reply(200, {}, json.dumps(said).encode("utf-8", "surrogatepass"))


def sane(look: Look) -> bool:
    texts = (look.handle, look.status, look.mark, look.output, look.errors, *(said.code for _, said in look.problems))
    counts = (look.total, look.completed, look.failed, *(line for line, _ in look.problems))
    return all(len(each) <= api.ID_MOST for each in texts) and all(type(each) is int and each >= 0 for each in counts)


@given(objects(VALUES) | VALUES)
def test_whatever_is_said_of_a_batch_is_a_look_at_it_or_a_value_error(said: object) -> None:
    try:
        look = api.look(reply(said))
    except ValueError:
        return
    assert look.handle
    assert look.status
    assert sane(look)


@given(objects(VALUES))
def test_whatever_a_list_holds_is_read_or_a_value_error(said: dict[str, Any]) -> None:
    for read in (api.looks, api.files, api.file_id):
        with suppress(ValueError):
            read(reply(said))


def test_a_look_tells_what_the_provider_told() -> None:
    said = {
        "id": "batch_1",
        "status": "failed",
        "metadata": {"batchgen": "mark"},
        "request_counts": {"total": 6, "completed": 2, "failed": 1},
        "output_file_id": "file-1",
        "error_file_id": None,
        "created_at": 0,
        "expires_at": 1_795_395_545,
        "errors": {"data": [{"line": 3, "code": "invalid_url", "message": "No."}, {"line": None, "code": "x"}]},
    }
    look = api.look(reply(said))
    assert (look.handle, look.status, look.mark, look.ended) == ("batch_1", "failed", "mark", True)
    assert (look.total, look.completed, look.failed, look.output, look.errors) == (6, 2, 1, "file-1", "")
    assert (look.created, look.expires) == ("", "2026-11-23T00:59:05Z")
    assert [(line, said.code, said.message) for line, said in look.problems] == [
        (3, "invalid_url", "No."),
        (0, "x", ""),
    ]


@pytest.mark.parametrize("moment", [-1, 0, True, "1795395545", 1.5, 10**30, 1 << 38, None])
def test_a_moment_that_is_none_is_left_out(moment: object) -> None:
    assert api.look(reply({"id": "a", "status": "b", "created_at": moment, "expires_at": moment})).expires == ""


# half of a price

AMOUNTS = st.integers(0, 10**15)


@given(AMOUNTS, AMOUNTS, AMOUNTS, st.sampled_from([0.5, 0.25, 0.75, 1.0]))
def test_the_bounds_hold_whatever_share_of_a_price_is_taken(a: int, b: int, c: int, share: float) -> None:
    low, expected, high = sorted((a, b, c))
    part = Money(low, expected, high).at(share)
    assert part.low <= part.expected <= part.high
    assert part.low <= Fraction(low) * Fraction(share) <= Fraction(high) * Fraction(share) <= part.high
    assert part.low == math.floor(Fraction(low) * Fraction(share))
    assert part.high == math.ceil(Fraction(high) * Fraction(share))


def tariffs() -> list[tuple[str, catalog.Tariff]]:
    """Every price of the catalog."""
    lists = catalog.price_lists().items()
    return [
        (f"{name} {model}", catalog.Tariff(price, each.as_of))
        for name, each in lists
        for model, price in each.models.items()
    ]


RATES = ("image", "text_in", "text_cached", "image_in", "image_cached", "image_out", "text_out")


@pytest.mark.parametrize(("model", "tariff"), tariffs(), ids=lambda each: each if isinstance(each, str) else "")
def test_half_of_every_tariff_is_exact(model: str, tariff: catalog.Tariff) -> None:
    half = catalog.at(tariff, 0.5)
    assert half
    for name in RATES:
        whole, part = getattr(tariff.price, name), getattr(half.price, name)
        assert (whole is None) == (part is None)
        if whole is not None:
            assert 2 * Fraction(part) == Fraction(whole), f"{model}: {name}"
    assert catalog.at(tariff, 1.0) == tariff
    assert catalog.at(None, 0.5) is None
