"""A lane: so many requests and no more, a stop that is heard everywhere, and a key that is never told."""

import asyncio
import json
import random
from dataclasses import replace
from pathlib import Path

import anyio
import pytest
from test_client import CANARY, OK, Handler, says, serving

from batchgen import catalog, ledger
from batchgen.attempt import Bench
from batchgen.buyer import Buyer
from batchgen.catalog import Price, Provider
from batchgen.client import Access
from batchgen.dialects import openai
from batchgen.engines import local, pool
from batchgen.engines.queue import Queue
from batchgen.errors import Blocked
from batchgen.finisher import Finisher
from batchgen.lane import Lane
from batchgen.limits import Cap
from batchgen.pace import HEADERS, Draw, Learned
from batchgen.purse import Purse
from batchgen.settle import Policy
from batchgen.spool import Spool
from batchgen.store import Directory
from batchgen.supply import Supply
from batchgen.task import Attempt, Identity, Operation, Task, Variant, canonical
from batchgen.turn import Stopped
from batchgen.wire import Reply, Request

pytestmark = pytest.mark.anyio
PROVIDER = replace(catalog.provider("openai", {}), price=Price(image=0.04))
VARIANT = Variant("openai", "gpt-image-2", Operation.GENERATE, (), ())


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


def lane(folder: Path, url: str = "http://127.0.0.1:1", width: int = 2, provider: Provider = PROVIDER) -> Lane:
    for name in ("spool", "images"):
        (folder / name).mkdir()
    provider = replace(provider, base_url=url)
    spool = Spool(folder / "spool")
    bench = Bench(provider, openai, spool, Directory(f"{folder}/images"), Finisher(spool, 2))
    return Lane(provider, bench, Access(url, {"authorization": f"Bearer {CANARY}"}, 5.0, 2.0), width)


def task(name: str = "an otter") -> Task:
    return Task(Identity(VARIANT).key(canonical(name), 1, 1), VARIANT, name, 1, 1, name)


async def test_no_more_slots_are_open_than_the_lane_is_wide(tmp_path: Path) -> None:
    most = 0

    async def work(one: Lane) -> None:
        nonlocal most
        async with one.slot():
            most = max(most, one.open)
            await anyio.sleep(0.001)

    async with lane(tmp_path, width=3) as one, anyio.create_task_group() as tasks:
        for _ in range(20):
            tasks.start_soon(work, one)
    assert (most, one.open) == (3, 0)


async def test_c8_who_waits_for_the_gate_is_let_through_in_turn(tmp_path: Path) -> None:
    came: list[int] = []

    async def work(one: Lane, number: int) -> None:
        async with one.slot():
            came.append(number)
            await anyio.sleep(0.001)

    async with lane(tmp_path, width=2) as one:
        for _ in range(3):
            one.gate.limited(one.gate.ticket, anyio.current_time(), 0.02, "429")
        async with anyio.create_task_group() as tasks:
            for number in range(10):
                tasks.start_soon(work, one, number)
    assert came == list(range(10)), "retries and fresh tasks alike"


async def test_who_waits_for_the_pace_is_let_through_in_turn_large_requests_too(tmp_path: Path) -> None:
    came: list[tuple[float, int]] = []

    async def work(one: Lane, images: int) -> None:
        async with one.slot(draw=Draw(images)):
            came.append((anyio.current_time(), images))

    wanted = [1] * 8 + [12] + [1] * 3
    async with lane(tmp_path, width=8) as one:
        one.recall([Learned("images", 1_200, HEADERS)])
        async with anyio.create_task_group() as tasks:
            for images in wanted:
                tasks.start_soon(work, one, images)
            await anyio.wait_all_tasks_blocked()
            assert (one.queued, one.slowness) == (4, "pace: 1,200 images a minute")
            tasks.start_soon(work, one, 20)
    assert [images for _, images in came] == [*wanted, 20], "the large one as well as those behind it"
    assert came[-1][0] - came[0][0] >= 0.9 * sum(wanted) / 20


async def test_who_was_let_through_before_the_gate_narrowed_left_before(tmp_path: Path) -> None:
    """Though it may come to send only afterwards: what becomes of it says nothing of the narrower gate."""
    tickets: list[int] = []

    async def work(one: Lane) -> None:
        async with one.slot() as slot:
            tickets.append(slot.ticket)

    async def narrow(one: Lane) -> None:
        for _ in range(3):
            one.gate.limited(one.gate.ticket, anyio.current_time(), 0.01, "429")
        assert one.open == 1
        assert tickets == []

    async with lane(tmp_path, width=8) as one, anyio.create_task_group() as tasks:
        tasks.start_soon(work, one)
        tasks.start_soon(narrow, one)
    assert [one.gate.tells(ticket) for ticket in tickets] == [False]


async def test_what_is_bought_is_fetched_whatever_gate_and_lane_say(tmp_path: Path) -> None:
    """Links do not last; only who is told to leave them to the next run does so."""
    async with lane(tmp_path, width=1) as one:
        one.gate.blocked(one.gate.ticket, anyio.current_time(), "402 no_credit")
        one.stop()
        with anyio.fail_after(1):
            async with one.slot(buys=False) as slot:
                assert (await slot.take(), one.open) == (await slot.take(), 1)
            await one.pause("key", 0.001, "fetching", buys=False)
        one.drain()
        with pytest.raises(Stopped):
            async with one.slot(buys=False):
                pass


async def test_a_stopped_lane_opens_no_slot_also_for_those_who_wait_for_one(tmp_path: Path) -> None:
    refused = 0

    async def wait(one: Lane) -> None:
        nonlocal refused
        with pytest.raises(Stopped):
            async with one.slot():
                pass
        refused += 1

    async with lane(tmp_path, width=1) as one, anyio.create_task_group() as tasks, one.slot():
        for _ in range(3):
            tasks.start_soon(wait, one)
        await anyio.wait_all_tasks_blocked()
        one.stop()
    assert (refused, one.stopped) == (3, True)


async def test_a_cancelled_slot_is_free_again(tmp_path: Path) -> None:
    async with lane(tmp_path, width=1) as one:
        for _ in range(3):
            with anyio.move_on_after(0.001):
                async with one.slot():
                    await anyio.sleep_forever()
        with anyio.fail_after(1):
            async with one.slot():
                assert one.open == 1


async def test_a_pause_ends_in_time_or_at_once_where_the_lane_stops(tmp_path: Path) -> None:
    async with lane(tmp_path) as one:
        await one.pause("key", 0.001, "429 rate_limit_exceeded")
        assert one.waiting == {}
        with anyio.fail_after(1):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(stopped_pause, one)
                await anyio.wait_all_tasks_blocked()
                assert one.waiting == {"key": "why"}
                one.stop()
        assert one.waiting == {}


async def stopped_pause(one: Lane) -> None:
    with pytest.raises(Stopped):
        await one.pause("key", 3600, "why")


async def test_s6_the_first_reason_to_block_is_the_one_that_is_told(tmp_path: Path) -> None:
    async with lane(tmp_path) as one:
        first = Blocked("no credit")
        for error in (first, Blocked("no key")):
            one.block(error)
        assert one.blocked is first
        assert one.stopped


@pytest.mark.parametrize("honoured", [True, False])
async def test_a_request_bears_its_attempts_id_and_its_purchases_key_only_where_it_counts(
    tmp_path: Path, honoured: bool
) -> None:
    provider = replace(PROVIDER, idempotency=86_400.0 * honoured)
    async with serving(says(OK)) as server, lane(tmp_path, server.url, provider=provider) as one:
        await ask(one, Request("POST", "images/generations", json={}))
        await ask(one, Request("GET", f"{server.url}/a.png", auth=False))
    bought, fetched = (head.decode().lower() for head in server.heard)
    assert "x-client-request-id: id\r\n" in bought
    assert ("idempotency-key: purchase\r\n" in bought) is honoured
    assert not any(secret in fetched for secret in (CANARY, "x-client-request-id", "idempotency-key"))


async def ask(one: Lane, request: Request) -> Reply:
    attempt = Attempt("id", task(), "purchase", "openai", 1)
    async with one.slot() as client:
        return await one.sender(client, attempt)(request, lambda nth: one.bench.spool.sink("id", 1, nth))


def test_z3_the_key_is_taken_out_of_what_a_server_said(tmp_path: Path) -> None:
    told = lane(tmp_path).redact(f"invalid key {CANARY}, Bearer {CANARY}!")
    assert told == "invalid key [key], Bearer [key]!"


def test_z3_not_even_half_of_the_key_is_left(tmp_path: Path) -> None:
    body = b'{"error": {"message": "' + b"x" * 485 + CANARY.encode() + b'"}}'
    told = lane(tmp_path).redact(str(openai.fault(Reply(400, {}, body))))
    assert CANARY[:10] not in told


def one_link() -> Handler:
    """Answers the first request with a link to itself, and every other with 500."""
    first = iter([True])

    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        link = "http://127.0.0.1:{}/a.png".format(writer.get_extra_info("sockname")[1])
        body = json.dumps({"data": [{"url": link}]} if next(first, False) else {"error": {"message": "no"}})
        status = "200 OK" if "data" in body else "500 No"
        await says(f"HTTP/1.1 {status}\r\nContent-Length: {len(body)}\r\n\r\n{body}".encode())(reader, writer)

    return handler


async def drained(folder: Path, url: str, budget: int) -> bool:
    """Buy two images at $0.04, stop the lane soon after; whether it comes to an end."""
    ledger.create(folder / "ledger.db", "otters", "", "otters.yaml")
    async with ledger.open_for_writing(folder / "ledger.db") as books, lane(folder, url) as one:
        await books.wanted().add([task("one"), task("two")])
        one.chance = random.Random(1)
        purse = Purse({one.name: one.provider}, Cap(budget), Cap(None), Cap(None))
        buyer = Buyer(books, one, purse, Policy(4, True), lambda *_: None, local.NAME)
        with anyio.move_on_after(2) as scope:
            async with anyio.create_task_group() as tasks:
                supply = Supply()
                tasks.start_soon(
                    pool.drive, [local.Local(buyer, [one], supply, Queue(books, one.name, [one]))], [], [], supply
                )
                await anyio.sleep(0.2)
                one.drain()
    return not scope.cancelled_caught


@pytest.mark.parametrize("budget", [80_000_000, 40_000_000], ids=["room for both", "room for one"])
async def test_a_link_that_stays_away_keeps_nobody_waiting_for_ever(tmp_path: Path, budget: int) -> None:
    """An attempt that is left to the next run makes no room any more: who waits for some must hear of it."""
    async with serving(one_link()) as server:
        assert await drained(tmp_path, server.url, budget)
