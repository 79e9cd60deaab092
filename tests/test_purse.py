"""The purse: nothing leaves that does not fit, and room is waited for while there is hope of it."""

from dataclasses import replace

import anyio
import pytest

from batchgen import catalog
from batchgen.catalog import Price
from batchgen.costs import Money
from batchgen.limits import Cap
from batchgen.purse import Exhausted, Purse
from batchgen.task import Attempt, AttemptState, Operation, Settlement, Task, TaskState, Variant

pytestmark = pytest.mark.anyio
FLAT = replace(catalog.provider("openai", {}), price=Price(image=0.04))
COST = 2 * 40_000_000
VARIANT = Variant("openai", "gpt-image-2", Operation.GENERATE, (("n", 2),), ())
TASK = Task("key", VARIANT, "an otter", 1, 1, "otter")
ATTEMPT = Attempt("id", TASK, "purchase", "openai", COST)
PAID = Settlement(AttemptState.PAID, TaskState.DONE, cost_low=COST, cost_high=COST)
REJECTED = Settlement(AttemptState.REJECTED, TaskState.FAILED)
UNKNOWN = Settlement(AttemptState.UNKNOWN, TaskState.HELD, cost_high=COST)


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


def purse(budget: int | None = None, images: int | None = None) -> Purse:
    return Purse({"openai": FLAT}, Cap(budget), Cap(images), Cap(None))


async def reserve(one: Purse, task: Task) -> None:
    """As an errand does: it waits for room, and takes it."""
    await one.room(task)
    assert one.reserve(task)


async def refused(one: Purse) -> str:
    with pytest.raises(Exhausted) as error:
        await reserve(one, TASK)
    return str(error.value)


async def waits(one: Purse) -> bool:
    """Whether a reservation finds no room now, and does not give up either."""
    with anyio.move_on_after(0.02) as scope:
        await reserve(one, TASK)
    return scope.cancelled_caught


async def test_a_quote_is_the_tasks_own() -> None:
    tokens = replace(purse(), providers={"openai": catalog.provider("openai", {}), "flat": FLAT})
    short, long = (tokens.quote(replace(TASK, prompt=prompt)) for prompt in ("an otter", "an otter" * 100))
    assert short
    assert long
    assert long.high - short.high == 8 * 99 * 5_000
    assert tokens.quote(replace(TASK, variant=replace(VARIANT, model="stranger"))) is None
    assert tokens.quote(replace(TASK, variant=replace(VARIANT, provider="flat"))) == Money(COST, COST, COST)


@pytest.mark.parametrize(
    ("budget", "images", "cap"),
    [(COST - 1, None, "budget"), (None, 1, "limits.images"), (0, 0, "budget"), (COST, 1, "limits.images")],
)
async def test_u16_the_cap_that_is_reached_is_named(budget: int | None, images: int | None, cap: str) -> None:
    assert await refused(purse(budget, images)) == cap


async def test_u16_what_fits_exactly_is_bought_and_nothing_after_it() -> None:
    one = purse(2 * COST, 4)
    for _ in range(2):
        await reserve(one, TASK)
    assert one.on_the_way == 2 * COST
    assert await waits(one)
    for _ in range(2):
        one.settle(ATTEMPT, PAID)
    assert (one.on_the_way, one.budget.used, one.images.used) == (0, 2 * COST, 4)
    assert await refused(one) == "budget"


@pytest.mark.parametrize(
    ("settled", "used", "images"),
    [(PAID, COST, 2), (UNKNOWN, COST, 2), (REJECTED, 0, 0)],
    ids=["paid", "unknown", "no"],
)
async def test_a_settlement_replaces_what_was_set_aside(settled: Settlement, used: int, images: int) -> None:
    one = purse()
    await reserve(one, TASK)
    assert (one.budget.used, one.images.used) == (COST, 2)
    one.settle(ATTEMPT, settled)
    assert (one.budget.used, one.images.used, one.on_the_way) == (used, images, 0)


async def test_what_was_never_sent_is_put_back() -> None:
    one = purse()
    await reserve(one, TASK)
    one.cancel(TASK)
    assert (one.budget.used, one.images.used, one.on_the_way) == (0, 0, 0)


async def test_room_is_waited_for_while_a_request_on_its_way_may_make_some() -> None:
    one = purse(COST)
    await reserve(one, TASK)
    with anyio.fail_after(5):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(reserve, one, TASK)
            await anyio.wait_all_tasks_blocked()
            one.settle(ATTEMPT, REJECTED)
    assert one.budget.used == COST


async def test_who_waits_for_room_is_told_when_there_will_be_none() -> None:
    one = purse(COST)
    await reserve(one, TASK)
    told: list[str] = []

    async def wait() -> None:
        told.append(await refused(one))

    with anyio.fail_after(5):
        async with anyio.create_task_group() as tasks:
            for _ in range(3):
                tasks.start_soon(wait)
            await anyio.wait_all_tasks_blocked()
            one.settle(ATTEMPT, PAID)
    assert told == ["budget"] * 3


async def test_who_waits_is_told_when_an_attempt_is_left_to_the_next_run() -> None:
    one = purse(COST)
    await reserve(one, TASK)
    with anyio.fail_after(5):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(refused, one)
            await anyio.wait_all_tasks_blocked()
            one.leave(ATTEMPT)
    assert (one.budget.used, one.images.used, one.on_the_way) == (COST, 2, 0)


async def test_a_cancelled_wait_sets_nothing_aside() -> None:
    one = purse(COST)
    await reserve(one, TASK)
    assert await waits(one)
    one.settle(ATTEMPT, REJECTED)
    assert one.budget.used == 0


async def test_an_attempt_of_an_earlier_run_is_among_what_was_spent() -> None:
    """Its price is counted once, whatever becomes of it."""
    one = Purse({"openai": FLAT}, Cap(2 * COST, used=COST), Cap(None, used=2), Cap(None))
    one.adopt(ATTEMPT)
    assert (one.budget.used, one.on_the_way) == (COST, COST)
    one.settle(ATTEMPT, PAID)
    assert (one.budget.used, one.images.used, one.on_the_way) == (COST, 2, 0)


async def test_without_a_price_only_images_are_counted() -> None:
    stranger = replace(TASK, variant=replace(VARIANT, model="stranger"))
    one = Purse({"openai": catalog.provider("openai", {})}, Cap(0), Cap(2), Cap(None))
    await reserve(one, stranger)
    assert (one.budget.used, one.images.used) == (0, 2)
    unpriced = replace(ATTEMPT, task=stranger, cost_high=None)
    one.settle(unpriced, replace(PAID, cost_low=None, cost_high=None))
    assert (one.budget.used, one.images.used) == (0, 2)


async def test_a_charge_beyond_its_quote_makes_the_next_of_its_kind_as_dear_and_no_other() -> None:
    one, other = purse(budget=20 * COST), replace(TASK, key="other", variant=replace(VARIANT, params=(("n", 1),)))
    before = one.quote(other)
    await reserve(one, TASK)
    one.settle(ATTEMPT, replace(PAID, cost_low=3 * COST, cost_high=3 * COST))
    assert (one.budget.used, one.quote(TASK)) == (3 * COST, Money(COST, COST, 3 * COST))
    assert one.quote(other) == before
    for n in range(3):
        task = replace(TASK, key=f"task {n}")
        await reserve(one, task)
        one.settle(replace(ATTEMPT, task=task, cost_high=3 * COST), PAID)
    await reserve(one, TASK)
    one.cancel(TASK)
    assert one.budget.used == 6 * COST, "what is set aside is put back as it was"


async def test_another_cap_is_a_persons_newer_word() -> None:
    one = replace(purse(COST), agreed=True)
    await reserve(one, TASK)
    with anyio.fail_after(5):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(reserve, one, TASK)
            await anyio.wait_all_tasks_blocked()
            one.recap(budget=2 * COST)
    assert (one.budget.used, one.agreed) == (2 * COST, False)
    one.recap(budget=COST)
    assert not one.reserve(TASK), "what is on its way takes more than all of it"
    for _ in range(2):
        one.settle(ATTEMPT, PAID)
    assert await refused(one) == "budget"
