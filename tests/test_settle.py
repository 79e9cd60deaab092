"""How an attempt ended: every kind of error, under every rule, and what it comes to in money."""

from dataclasses import replace
from itertools import product

import pytest

from batchgen import settle
from batchgen.catalog import Price, Tariff
from batchgen.costs import Money
from batchgen.errors import Blocked, ProviderError, Refused, Rejected, Transient, Unknown, Unsent, Unusable
from batchgen.limits import Cap
from batchgen.settle import Case, Policy
from batchgen.task import (
    MISSING,
    Attempt,
    AttemptState,
    Image,
    ImageState,
    Operation,
    Settlement,
    Task,
    TaskState,
    Usage,
    Variant,
)
from batchgen.wire import Outcome

HIGH = 6_000_000
VARIANT = Variant("openai", "gpt-image-2", Operation.GENERATE, (("n", 2),), ())
ATTEMPT = Attempt("id", Task("key", VARIANT, "an otter", 1, 1, "otter"), "purchase", "openai", HIGH)
RATES = Tariff(Price(text_in=5, image_out=30), "today")
MONEY = Money(1_000_000, 2_000_000, HIGH)
SAVED = Image(0, ImageState.SAVED, "otter.png")
BROKEN = Image(1, ImageState.BROKEN, note="PNG is cut")
OUTCOME = Outcome((SAVED, BROKEN), Usage(input_text=10, output_image=196), 200, "req_1")


def refused(billed: bool) -> Refused:
    error = Refused("no", code="moderation_blocked", status=400)
    error.billed = billed
    return error


def case(tries: int = 0, resend: bool = True, allowed: int | None = None, price: int | None = HIGH) -> Case:
    attempt = replace(ATTEMPT, cost_high=price)
    return Case(attempt, tries, Policy(attempts=3, resend_unknown=resend), Cap(allowed))


CERTAIN = {  # what no rule changes: attempt, task, perhaps billed, used up
    "blocked": (Blocked("", status=401), AttemptState.REJECTED, TaskState.TODO, False, False),
    "blocked, 429": (Blocked("", status=429), AttemptState.REJECTED, TaskState.TODO, False, False),
    "refused": (refused(False), AttemptState.REJECTED, TaskState.REFUSED, False, True),
    "refused late": (refused(True), AttemptState.UNKNOWN, TaskState.REFUSED, True, True),
    "rejected": (Rejected("", status=400), AttemptState.REJECTED, TaskState.FAILED, False, True),
    "unsent": (Unsent(""), AttemptState.UNSENT, TaskState.DOING, False, False),
    "429": (Transient("", status=429), AttemptState.REJECTED, TaskState.DOING, False, False),
}
RULES = list(product((0, 2), (True, False), (0, HIGH, None)))


@pytest.mark.parametrize("name", CERTAIN)
@pytest.mark.parametrize(("tries", "resend", "allowed"), RULES)
def test_a_clear_answer_is_judged_alike_under_every_rule(
    name: str, tries: int, resend: bool, allowed: int | None
) -> None:
    error, attempt, task, perhaps_billed, used_up = CERTAIN[name]
    settled = settle.failure(case(tries, resend, allowed), error)
    assert (settled.attempt, settled.task, settled.used_up) == (attempt, task, used_up)
    assert (settled.cost_low, settled.cost_high, settled.allowance) == (0, HIGH if perhaps_billed else 0, 0)


@pytest.mark.parametrize("status", [409, 500, 503])
@pytest.mark.parametrize(("tries", "resend", "allowed"), RULES)
def test_a_clear_no_for_now_is_tried_again_until_the_tries_are_used_up(
    status: int, tries: int, resend: bool, allowed: int | None
) -> None:
    settled = settle.failure(case(tries, resend, allowed), Transient("", status=status))
    assert settled.task is (TaskState.DOING if tries == 0 else TaskState.FAILED)
    assert (settled.attempt, settled.used_up) == (AttemptState.REJECTED, True)
    assert (settled.cost_high, settled.allowance) == (0, 0)


@pytest.mark.parametrize(
    ("kind", "tries", "resend", "allowed", "price", "again"),
    [
        *((kind, 0, True, None, HIGH, True) for kind in (Unknown, Unusable)),
        *((kind, 0, True, HIGH, HIGH, True) for kind in (Unknown, Unusable)),
        *((kind, 0, True, HIGH - 1, HIGH, False) for kind in (Unknown, Unusable)),
        *((kind, 0, True, 0, HIGH, False) for kind in (Unknown, Unusable)),
        *((kind, 2, True, None, HIGH, False) for kind in (Unknown, Unusable)),
        *((kind, 9, True, None, HIGH, False) for kind in (Unknown, Unusable)),
        *((kind, 0, True, None, None, False) for kind in (Unknown, Unusable)),
        *((kind, 0, True, 0, 0, True) for kind in (Unknown, Unusable)),
        (Unknown, 0, False, None, HIGH, False),
        (Unusable, 0, False, None, HIGH, True),
        (Unusable, 0, False, 0, HIGH, False),
    ],
)
def test_a_second_purchase_needs_a_try_a_price_the_users_word_and_room_in_the_allowance(
    kind: type[ProviderError], tries: int, resend: bool, allowed: int | None, price: int | None, again: bool
) -> None:
    settled = settle.failure(case(tries, resend, allowed, price), kind("lost"))
    assert settled.attempt is (AttemptState.UNKNOWN if kind is Unknown else AttemptState.UNUSABLE)
    assert settled.task is (TaskState.DOING if again else TaskState.HELD)
    assert settled.allowance == (price if again else 0)
    assert (settled.cost_low, settled.cost_high) == ((None, None) if price is None else (0, price))
    assert settled.used_up


@pytest.mark.parametrize("name", ["rejected", "refused", "429", "unsent", "blocked"])
def test_what_was_surely_not_billed_costs_nothing_even_where_no_price_is_known(name: str) -> None:
    settled = settle.failure(case(price=None), CERTAIN[name][0])
    assert (settled.cost_low, settled.cost_high) == (0, 0)


def test_what_was_said_is_kept() -> None:
    error = Rejected("unknown model", code="model_not_found", status=404, request_id="req_9")
    settled = settle.failure(case(), error)
    assert (settled.error, settled.code, settled.status) == ("unknown model", "model_not_found", 404)
    assert settled.request_id == "req_9"


def test_success_is_paid_at_the_price_of_its_usage() -> None:
    settled = settle.success(ATTEMPT, OUTCOME, RATES, MONEY)
    cost = 10 * 5_000 + 196 * 30_000
    assert settled == Settlement(
        AttemptState.PAID,
        TaskState.DONE,
        cost_low=cost,
        cost_high=cost,
        images=OUTCOME.images,
        usage=OUTCOME.usage,
        status=200,
        request_id="req_1",
    )


@pytest.mark.parametrize(
    ("tariff", "usage", "money", "price", "bounds", "estimated"),
    [
        (RATES, None, MONEY, HIGH, (1_000_000, HIGH), True),
        (None, None, None, None, (None, None), True),
        (None, OUTCOME.usage, None, None, (None, None), True),
        (Tariff(Price(image=0.04), ""), None, MONEY, 80_000_000, (80_000_000, 80_000_000), False),
        (Tariff(Price(image=0.01), ""), None, MONEY, 80_000_000, (20_000_000, 80_000_000), True),
        (RATES, Usage(output_image=10**6), MONEY, HIGH, (3 * 10**10, 3 * 10**10), False),
    ],
)
def test_s14_success_without_usage_is_an_estimate_and_marked_as_one(
    tariff: Tariff | None,
    usage: Usage | None,
    money: Money | None,
    price: int | None,
    bounds: tuple[int | None, int | None],
    estimated: bool,
) -> None:
    settled = settle.success(replace(ATTEMPT, cost_high=price), replace(OUTCOME, usage=usage), tariff, money)
    assert ((settled.cost_low, settled.cost_high), settled.estimated) == (bounds, estimated)


@pytest.mark.parametrize("price", [500_000, None])
def test_an_estimate_has_its_bounds_in_order_whatever_was_known_when_it_was_sent(price: int | None) -> None:
    settled = settle.success(replace(ATTEMPT, cost_high=price), replace(OUTCOME, usage=None), RATES, MONEY)
    assert settled.cost_low is not None
    assert settled.cost_high is not None
    assert settled.cost_low <= settled.cost_high


def test_an_answer_is_broken_only_where_no_image_is_whole() -> None:
    other = replace(BROKEN, index=0, note="missing from the answer")
    assert settle.broken(OUTCOME) is None
    error = settle.broken(replace(OUTCOME, images=(other, BROKEN, BROKEN)))
    assert isinstance(error, Unusable)
    assert (str(error), error.status, error.request_id) == ("PNG is cut; missing from the answer", 200, "req_1")


FLAT = Tariff(Price(image=0.04), "")


@pytest.mark.parametrize(("came", "low", "high"), [(0, 0, 2), (1, 1, 2), (2, 2, 2), (3, 2, 3)])
def test_of_a_flat_price_nobody_knows_whether_it_is_for_what_came_or_for_what_was_asked(
    came: int, low: int, high: int
) -> None:
    """Pictures that a stream shows on the way are none."""
    images = [replace(SAVED, index=n) for n in range(came)]
    images += [Image(n, ImageState.BROKEN, note=MISSING) for n in range(came, 2)]
    partial = Image(0, ImageState.PARTIAL, "otter.partial-0.png")
    sent = replace(ATTEMPT, cost_high=80_000_000)
    settled = settle.success(sent, replace(OUTCOME, images=(*images, partial)), FLAT, MONEY)
    assert (settled.cost_low, settled.cost_high) == (low * 40_000_000, high * 40_000_000)
    assert settled.estimated is (came != 2)


def test_a_price_that_the_answer_names_is_beyond_doubt_however_many_came() -> None:
    told = replace(OUTCOME, images=(SAVED,), usage=Usage(charged=7))
    settled = settle.success(ATTEMPT, told, FLAT, MONEY)
    assert (settled.cost_low, settled.cost_high, settled.estimated) == (7, 7, False)
