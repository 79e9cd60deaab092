"""A hand on another machine, without a cluster between: what it makes, what it does not begin, who is given up."""

from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import anyio
import pytest
from world import KEY, KEY_ENV, World

from batchgen import catalog, crew, ledger, receipt
from batchgen.attempt import Bench
from batchgen.buyer import Buyer
from batchgen.client import Access
from batchgen.crew import LOST, Crew
from batchgen.dialects import openai
from batchgen.errors import Unknown, Unsent
from batchgen.finisher import Finisher
from batchgen.generate import Errand
from batchgen.hand import Greeting, Hand, clock
from batchgen.lane import Lane
from batchgen.limits import Cap
from batchgen.purse import Purse
from batchgen.receipt import Order, Receipt, Terms, Told
from batchgen.settle import Policy
from batchgen.spool import Spool
from batchgen.store import claim, opened
from batchgen.task import Attempt, AttemptState, Image, ImageState, Operation, Task, TaskState, Variant
from batchgen.wire import Outcome

pytestmark = pytest.mark.anyio
VARIANT = Variant("pretend", "gpt-image-2", Operation.GENERATE, (("quality", "low"), ("size", "1024x1024")), ())


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


def attempt(number: int = 1) -> Attempt:
    task = Task(f"key-{number}", VARIANT, f"an otter, {number}", 1, 1, f"otter/{number}")
    return Attempt(f"attempt-{number}", task, "purchase", "pretend", 1)


@pytest.fixture
async def near(world: World) -> AsyncIterator["Near"]:
    made = Near(world)
    yield made
    await made.hand.close()


class Near:
    """The way to a hand in this process; while it is asleep, it neither hears nor says anything."""

    name = "near"

    def __init__(self, world: World) -> None:
        for room in ("hand", "store", "store/receipts", "store/images"):
            (world.folder / room).mkdir()
        self.store = opened((world.folder / "store").as_uri())
        provider = replace(catalog.provider("openai", {}), base_url=world.sandbox.url, api_key_env=KEY_ENV)
        self.terms = Terms("pretend", provider, 20.0, False, (world.folder / "store").as_uri(), "ours")
        claim(self.store, b"ours")
        self.hand = Hand(world.folder / "hand", {KEY_ENV: KEY})
        self.awake = anyio.Event()
        self.awake.set()
        self.given: list[Order] = []

    @property
    def receipts(self) -> list[str]:
        return receipt.attempts(self.store.below(receipt.RECEIPTS))

    async def look(self) -> Iterable["Near"]:
        return [self]

    async def greet(self, terms: Sequence[Terms]) -> Greeting:
        await self.awake.wait()
        return await self.hand.greet(terms)

    async def carry_out(self, order: Order) -> Told:
        self.given.append(order)
        await self.awake.wait()
        return await self.hand.carry_out(order)

    async def held(self) -> frozenset[str]:
        await self.awake.wait()
        return self.hand.held

    async def dismiss(self) -> None:
        pass

    def abandon(self, attempt: str) -> None:
        pass

    async def crew(self) -> Crew:
        accounts = (await self.hand.greet([self.terms])).accounts
        return Crew(self.store, [self.terms], accounts, Path(), self)


async def staffed(team: Crew) -> None:
    with anyio.fail_after(10):
        while True:
            await anyio.sleep(0.01)
            if not team.lacking:
                return


async def test_what_is_made_lies_in_the_store_and_nothing_of_it_stays_behind(world: World, near: Near) -> None:
    for number in range(3):
        told = await near.hand.carry_out(Order(attempt(number), near.terms, clock() + 5))
        (image,) = told.receipt.result().images
        assert (world.folder / "store" / "images" / image.path).is_file()
    assert near.receipts == ["attempt-0", "attempt-1", "attempt-2"]
    assert len(list((world.folder / "hand" / "spool").iterdir())) <= 2, "a spare or two"


async def test_an_order_that_comes_too_late_is_not_begun_and_its_receipt_says_so(world: World, near: Near) -> None:
    told = await near.hand.carry_out(Order(attempt(), near.terms, clock() - 1))
    assert (told.receipt.trouble and told.receipt.trouble.code) == "overdue"
    assert isinstance(told.receipt.trouble.error(), Unsent) if told.receipt.trouble else False
    assert (near.receipts, world.charges()) == (["attempt-1"], [])


@pytest.mark.parametrize("there", ["nothing", "another"])
async def test_who_does_not_see_the_store_of_the_run_says_so_and_buys_nothing(
    there: str, world: World, near: Near
) -> None:
    if there == "another":
        (world.folder / there / "receipts").mkdir(parents=True)
        claim(opened((world.folder / there).as_uri()), b"theirs")
    terms = replace(near.terms, store=(world.folder / there).as_uri())
    says = {"nothing": "No such file", "another": "is another place there than here"}[there]
    assert says in (await near.hand.greet([terms])).trouble


async def test_an_order_for_which_the_store_has_gone_is_not_begun_and_told_at_once(world: World, near: Near) -> None:
    await near.hand.greet([near.terms])
    (world.folder / "store").rename(world.folder / "away")
    with anyio.fail_after(5):
        told = await near.hand.carry_out(Order(attempt(), near.terms, clock() + 5))
    assert (told.receipt.trouble and told.receipt.trouble.code, world.charges()) == ("storage", [])


@asynccontextmanager
async def buying(near: Near, team: Crew, folder: Path, count: int) -> AsyncIterator[tuple[Buyer, list[Task]]]:
    """A buyer by that crew, and so many tasks."""
    one, spool = near.terms.provider, Spool(folder)
    bench = Bench(one, openai, spool, near.store.below(receipt.IMAGES), Finisher(spool, 2))
    ledger.create(folder / "ledger.db", "otters", "", "otters.yaml")
    async with (
        ledger.open_for_writing(folder / "ledger.db") as books,
        Lane(one, bench, Access.of(one, {}, 20.0, folder), 1) as lane,
    ):
        purse = Purse({"pretend": one}, Cap(None), Cap(None), Cap(None))
        await books.wanted().add([attempt(number).task for number in range(count)])
        tasks = await books.claim("pretend", count)
        yield Buyer(books, lane, purse, Policy(1, False), lambda *_: None, receipt.ENGINE, crew=team), tasks


class Asked(Crew):
    """Counts how often it is asked whether anybody is there."""

    times = 0

    @property
    def lacking(self) -> str:
        self.times += 1
        return super().lacking


async def test_a_thousand_who_wait_for_a_worker_do_not_keep_the_machine_busy(world: World, near: Near) -> None:
    team = Asked(near.store, [near.terms], {}, Path())
    async with buying(near, team, world.folder, 1000) as (buyer, tasks), anyio.create_task_group() as group:
        for task in tasks:
            group.start_soon(buyer.generate, task)
        await anyio.sleep(3)
        group.cancel_scope.cancel()
    assert 1000 <= team.times < 6000


async def test_a_receipt_that_comes_soon_after_its_attempt_was_given_up_is_kept(
    world: World, near: Near, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, seconds in {"BEAT": 0.05, "LOOK": 0.3, "SILENCE": 1.0}.items():
        monkeypatch.setattr(crew, name, seconds)
    near.terms = replace(near.terms, lane="openai")
    team = await near.crew()
    async with buying(near, team, world.folder, 1) as (buyer, (task,)), team.at_work():
        await staffed(team)
        near.awake = anyio.Event()
        await buyer.generate(task)
        assert (await buyer.ledger.losses.given_up(LOST))[0].id == near.given[0].attempt.id
        await near.hand.carry_out(near.given[0])
        await anyio.sleep(3 * crew.LOOK)
        assert near.receipts == [near.given[0].attempt.id]


async def test_what_came_late_and_broken_is_bought_again_by_nobody_but_a_person(world: World, near: Near) -> None:
    broken = Image(0, ImageState.BROKEN, note="half of it")
    async with buying(near, Asked(near.store, [near.terms], {}, Path()), world.folder, 1) as (buyer, (task,)):
        late = Receipt("late", Outcome((broken,), None, 200, "req-1"))
        buyer = replace(buyer, policy=Policy(4, True))
        settled = Errand(buyer, task, Attempt("late", task, "purchase", "pretend", 1)).judge(late)
    assert (settled.attempt, settled.task) == (AttemptState.UNUSABLE, TaskState.HELD)
    assert (settled.allowance, buyer.purse.allowance.used) == (0, 0)


async def test_who_falls_silent_gets_no_more_and_begins_nothing_when_it_is_back(
    world: World, near: Near, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, seconds in {"BEAT": 0.05, "LOOK": 0.05, "QUIET": 0.3, "SILENCE": 1.2, "SOON": 0.5}.items():
        monkeypatch.setattr(crew, name, seconds)
    team = await near.crew()
    async with team.at_work():
        await staffed(team)
        near.awake = anyio.Event()
        with pytest.raises(Unknown) as lost:
            await team.perform(attempt())
        assert (lost.value.code, team.lacking) == (LOST, "a worker")
        with pytest.raises(Unsent):
            await team.perform(attempt(2))
        near.awake.set()
        await staffed(team)
        await near.hand.carry_out(near.given[0])  # as a call that waited on the wire
        assert (await team.perform(attempt(3))).receipt.outcome
    assert [charge["client_request_id"] for charge in world.charges()] == ["attempt-3"]
