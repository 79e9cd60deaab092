"""What engines share: the errands of a lane, those of an earlier run among them, and what becomes of one that fails."""

from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

import anyio
import anyio.abc

from batchgen.batch import Batch
from batchgen.buyer import Buyer
from batchgen.desk import Desk
from batchgen.engines.queue import Queue
from batchgen.lane import Lane
from batchgen.purse import Exhausted
from batchgen.receipt import ENGINE
from batchgen.supply import Supply
from batchgen.task import Attempt
from batchgen.turn import Stopped

HEAD_START = 5.0  # seconds
T = TypeVar("T")


async def drive(pools: Sequence["Pool"], resumed: Sequence[Attempt], batches: Sequence[Batch], supply: Supply) -> str:
    """Finish what an earlier run began and buy what is queued, until nothing is left or every lane has stopped.

    The resumed attempts go first, for a while: what of them was lost goes back to the queue, and where they show that
    nothing can be fetched, nothing more is bought. Returns the cap that was reached, or "". An error of one
    task stops all lanes, lets the others finish what is paid for, and is raised then.
    """
    known = {pool.buyer.lane.name: pool for pool in pools}
    async with anyio.create_task_group() as tasks:
        for attempt in resumed:
            pool = known.get(attempt.lane) or _heir(pools, attempt)
            if pool:
                pool.take_up(tasks, pool.buyer.finish, attempt, fetches=True)
        for batch in batches:
            if (pool := known.get(batch.lane) or _liquidator(pools, batch)) and pool.desk:
                await pool.desk.adopt(batch)
                pool.take_up(tasks, pool.desk.follow, batch)
        with anyio.move_on_after(HEAD_START):
            for pool in pools:
                await pool.alone()
        tasks.start_soon(pools[0].work, Supply.run, supply)
        for pool in pools:
            tasks.start_soon(pool.work, pool.feed, tasks)
    for pool in pools:
        await pool.queue.release()
    for pool in pools:
        if pool.desk:  # all are through with what they share
            await pool.work(Desk.tidy, pool.desk)
    for pool in pools:
        if pool.error:
            raise pool.error
    return next((pool.cap for pool in pools if pool.cap), "")


def _heir(pools: Sequence["Pool"], attempt: Attempt) -> "Pool | None":
    """Who finishes an attempt whose account the manifest no longer has.

    Another lane of the provider, where nothing must be asked for. Where it is the provider that is gone: nobody, if an
    answer must be read.
    """
    if attempt.handle:
        return None
    kin = [pool for pool in pools if pool.queue.name == attempt.task.variant.provider]
    answered = attempt.engine == ENGINE or pools[0].buyer.lane.bench.spool.holds(attempt.id, 1)
    return next(iter(kin), None if answered else pools[0])


def _liquidator(pools: Sequence["Pool"], batch: Batch) -> "Pool | None":
    """Who gives the tasks of a batch back that was never created, and whose lane the manifest no longer has."""
    return next((each for each in pools if batch.untold and f"{batch.lane}/".startswith(f"{each.queue.name}/")), None)


class Pool:
    """The errands of a lane. `desk` has its batches, where its provider takes any."""

    def __init__(
        self, buyer: Buyer, lanes: Sequence[Lane], supply: Supply, queue: Queue, desk: Desk | None = None
    ) -> None:
        self.buyer = buyer
        self.desk = desk
        self.supply = supply
        self.queue = queue
        self.away = 0  # errands of its own that were taken up
        self._fetching = 0  # attempts of an earlier run that are on their way
        self._lanes = lanes
        self.cap = ""
        self.error: BaseException | None = None

    async def feed(self, tasks: anyio.abc.TaskGroup) -> None:
        """Buy what is queued."""
        raise NotImplementedError

    async def alone(self) -> None:
        """Wait until no attempt of an earlier run is on its way."""
        while self._fetching:
            await self.queue.back.wait()

    def take_up(
        self, tasks: anyio.abc.TaskGroup, errand: Callable[[T], Awaitable[None]], what: T, fetches: bool = False
    ) -> None:
        """Begin an errand after which tasks may be queued again."""
        self.queue.leave()
        self.away += 1
        self._fetching += fetches
        tasks.start_soon(self._taken_up, errand, what, fetches)

    async def _taken_up(self, errand: Callable[[T], Awaitable[None]], what: T, fetches: bool) -> None:
        try:
            await self.work(errand, what)
        finally:
            self.away -= 1
            self._fetching -= fetches
            self.queue.come_back()

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
