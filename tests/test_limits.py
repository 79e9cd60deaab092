"""Caps, the breaker and the backoff: pure, with the clock and the chance passed in."""

import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batchgen.limits import BACKOFF_MOST, HINT_MOST, SAME_REJECTIONS, UNREACHED_MOST, Breaker, Cap, backoff


@given(st.integers(0, 100), st.lists(st.tuples(st.integers(0, 30), st.floats(0, 1))))
def test_what_is_spent_and_reserved_never_passes_a_cap(limit: int, asks: list[tuple[int, float]]) -> None:
    cap, spent = Cap(limit), 0
    for high, share in asks:
        if cap.fits(high):
            cap.reserve(high)
            assert cap.used <= limit
            cap.settle(high, round(share * high))
            spent += round(share * high)
        assert cap.used == spent


def test_without_a_limit_everything_fits() -> None:
    assert Cap(None, 10**18).fits(10**18)


def test_a_limit_of_nothing_lets_only_nothing_through() -> None:
    assert Cap(0).fits(0)
    assert not Cap(0).fits(1)


def rejected(breaker: Breaker, reasons: list[str]) -> list[bool]:
    return [breaker.rejected(reason) for reason in reasons]


def test_the_tenth_same_rejection_opens_the_breaker_and_no_other() -> None:
    assert rejected(Breaker(), ["404"] * 12) == [False] * (SAME_REJECTIONS - 1) + [True, False, False]


def test_rejections_of_several_kinds_are_the_tasks_own() -> None:
    assert not any(rejected(Breaker(), ["404"] * 9 + ["400"] + ["404"] * 10))


def test_a_lane_that_ever_made_an_image_is_never_blocked_by_rejections() -> None:
    breaker = Breaker()
    breaker.answered()
    assert not any(rejected(breaker, ["404"] * 20))


def test_a_host_that_was_never_reached_is_given_up_after_a_while() -> None:
    breaker = Breaker()
    assert not breaker.unsent(100.0)
    assert not breaker.unsent(100.0 + UNREACHED_MOST - 1)
    assert breaker.unsent(100.0 + UNREACHED_MOST)


@pytest.mark.parametrize("sign", [Breaker.answered, Breaker.connected, lambda breaker: breaker.rejected("404")])
def test_n19_n20_a_host_that_was_ever_reached_is_waited_for_all_night(sign: object) -> None:
    breaker = Breaker()
    assert callable(sign)
    sign(breaker)
    assert not any(breaker.unsent(now) for now in range(0, 8 * 3600, 60))


@given(st.integers(0, 1000), st.integers())
def test_without_a_hint_the_wait_grows_and_is_bounded(tries: int, seed: int) -> None:
    assert 0 <= backoff(tries, None, random.Random(seed)) <= min(BACKOFF_MOST, 2.0**tries)


def test_waits_are_spread_over_their_whole_range() -> None:
    chance = random.Random(7)
    waits = [backoff(10, None, chance) for _ in range(1000)]
    assert min(waits) < 1
    assert max(waits) > BACKOFF_MOST - 1


def test_n20_a_night_of_pauses_does_not_overflow() -> None:
    assert backoff(1024, None, random.Random(1)) <= BACKOFF_MOST


@given(st.floats(0, 10**6), st.integers())
def test_s1_s3_a_hint_is_waited_out_and_a_little_more_but_no_longer_than_ten_minutes(hint: float, seed: int) -> None:
    wait = backoff(1, hint, random.Random(seed))
    assert min(hint, HINT_MOST) <= wait <= min(hint, HINT_MOST) + 1
    assert math.isfinite(wait)


@pytest.mark.parametrize("hint", [math.inf, 3.2e8])
def test_s3_an_absurd_hint_is_capped(hint: float) -> None:
    assert backoff(1, hint, random.Random(1)) <= HINT_MOST + 1
