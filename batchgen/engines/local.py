"""The local engine: a bounded pool that keeps a lane's requests open, with back-pressure before each task."""

from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

import anyio
import anyio.abc

from batchgen.generate import Buyer
from batchgen.lane import Stopped
from batchgen.purse import Exhausted
from batchgen.task import Attempt, Task

NAME = "local"
T = TypeVar("T")


async def drive(buyer: Buyer, resumed: Sequence[Attempt]) -> str:
    """Finish the resumed attempts, then buy what is queued, until nothing is left or the lane stops.

    The resumed ones come first, because what of them was lost goes back to the queue. Returns the cap that was
    reached, or "". An error of one task stops the lane, lets the others finish what is paid for, and is raised then.
    """
    pool = Pool(buyer)
    async with anyio.create_task_group() as tasks:
        for attempt in resumed:
            tasks.start_soon(pool.work, buyer.finish, attempt)
    async with anyio.create_task_group() as tasks:
        await pool.work(pool.feed, tasks)
    if pool.error:
        raise pool.error
    return pool.cap


class Pool:
    """Twice as many errands as slots, so that one that waits for its next try leaves its slot to another."""

    def __init__(self, buyer: Buyer) -> None:
        self._buyer = buyer
        self._room = anyio.Semaphore(2 * buyer.lane.width)
        self._claimed: list[Task] = []
        self.cap = ""
        self.error: BaseException | None = None

    async def feed(self, tasks: anyio.abc.TaskGroup) -> None:
        lane = self._buyer.lane
        while not lane.stopped:
            await self._room.acquire()
            task = None if lane.stopped else await self._next()
            if task is None:
                break
            tasks.start_soon(self._bought, task)
        await self._buyer.ledger.release(self._claimed)

    async def _next(self) -> Task | None:
        if not self._claimed:
            found = await self._buyer.ledger.claim(self._buyer.lane.name, self._buyer.lane.width)
            self._claimed = found[::-1]
        return self._claimed.pop() if self._claimed else None

    async def _bought(self, task: Task) -> None:
        try:
            await self.work(self._buyer.generate, task)
        finally:
            self._room.release()

    async def work(self, errand: Callable[[T], Awaitable[None]], what: T) -> None:
        """Run one errand, or feed them; what goes wrong stops the lane, and no other errand."""
        try:
            await errand(what)
        except Stopped:
            pass
        except Exhausted as end:
            self.cap = self.cap or str(end)
            self._buyer.lane.stop()
        except Exception as error:
            self.error = self.error or error
            self._buyer.lane.stop()
