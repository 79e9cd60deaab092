"""The local engine: a bounded pool that keeps a lane's requests open, with back-pressure before each task."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import TypeVar

import anyio
import anyio.abc

from batchgen.generate import Buyer
from batchgen.lane import Lane
from batchgen.purse import Exhausted
from batchgen.supply import Supply
from batchgen.task import Attempt, Task
from batchgen.turn import Stopped

NAME = "local"
HEAD_START = 5.0  # seconds
T = TypeVar("T")


async def drive(buyers: Sequence[Buyer], resumed: Sequence[Attempt], supply: Supply) -> str:
    """Finish the resumed attempts and buy what is queued, until nothing is left or every lane has stopped.

    The resumed ones go first, for a while: what of them was lost goes back to the queue, and where they show that
    nothing can be fetched, nothing more is bought. Returns the cap that was reached, or "". An error of one
    task stops all lanes, lets the others finish what is paid for, and is raised then.
    """
    lanes = [buyer.lane for buyer in buyers]
    pools = {buyer.lane.name: Pool(buyer, lanes, supply) for buyer in buyers}
    async with anyio.create_task_group() as tasks:
        for attempt in resumed:
            pool = pools.get(attempt.lane) or _any(pools, attempt)
            if pool:
                pool.resumed += 1
                tasks.start_soon(pool.take_up, attempt)
        with anyio.move_on_after(HEAD_START):
            for pool in pools.values():
                await pool.alone()
        tasks.start_soon(next(iter(pools.values())).work, Supply.run, supply)
        for pool in pools.values():
            tasks.start_soon(pool.work, pool.feed, tasks)
    for pool in pools.values():
        if pool.error:
            raise pool.error
    return next((pool.cap for pool in pools.values() if pool.cap), "")


def _any(pools: Mapping[str, "Pool"], attempt: Attempt) -> "Pool | None":
    """Who finishes an attempt of a provider that the manifest no longer has: nobody, where an answer must be read."""
    pool = next(iter(pools.values()))
    return None if attempt.handle or pool.buyer.lane.bench.spool.holds(attempt.id, 1) else pool


class Pool:
    """Twice as many errands as slots, so that one that waits for its next try leaves its slot to another."""

    def __init__(self, buyer: Buyer, lanes: Sequence[Lane], supply: Supply) -> None:
        self.buyer = buyer
        self._supply = supply
        self._lanes = lanes
        self._claimed: list[Task] = []
        self._back = anyio.Event()  # when a resumed attempt is over: its task may be queued again
        self.resumed = 0
        self.cap = ""
        self.error: BaseException | None = None

    async def feed(self, tasks: anyio.abc.TaskGroup) -> None:
        lane = self.buyer.lane
        while not lane.stopped:
            place = object()
            await lane.room.acquire_on_behalf_of(place)
            more, open_ = self._supply.more, self._supply.open
            back, resumed = self._back, self.resumed
            task = None if lane.stopped else await self._next()
            if task:
                tasks.start_soon(self._bought, task, place)
                continue
            lane.room.release_on_behalf_of(place)
            if open_:
                await more.wait()
            elif resumed:
                await back.wait()
            else:
                break
        await self.buyer.ledger.release(self._claimed)

    async def alone(self) -> None:
        """Wait until no attempt of an earlier run is on its way."""
        while self.resumed:
            await self._back.wait()

    async def take_up(self, attempt: Attempt) -> None:
        """Finish an attempt of an earlier run."""
        try:
            await self.work(self.buyer.finish, attempt)
        finally:
            self.resumed -= 1
            self._back.set()
            self._back = anyio.Event()

    async def _next(self) -> Task | None:
        if not self._claimed:
            found = await self.buyer.ledger.claim(self.buyer.lane.name, self.buyer.lane.width)
            self._claimed = found[::-1]
        return self._claimed.pop() if self._claimed else None

    async def _bought(self, task: Task, place: object) -> None:
        try:
            await self.work(self.buyer.generate, task)
        finally:
            self.buyer.lane.room.release_on_behalf_of(place)

    async def work(self, errand: Callable[[T], Awaitable[None]], what: T) -> None:
        """Run one errand, or feed them; what goes wrong stops the lanes, and no other errand."""
        try:
            await errand(what)
        except Stopped:
            pass
        except Exhausted as end:
            self.cap = self.cap or str(end)
            self.buyer.lane.stop()
        except Exception as error:
            self.error = self.error or error
            for lane in self._lanes:
                lane.drain()
