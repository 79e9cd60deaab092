"""The local engine: a bounded pool that keeps a lane's requests open, with back-pressure before each task."""

from typing import Any

import anyio.abc

from batchgen.engines.pool import Pool
from batchgen.task import Task

NAME = "local"


class Local(Pool):
    """Twice as many errands as slots, so that one that waits for its next try leaves its slot to another."""

    def __init__(self, *given: Any) -> None:
        super().__init__(*given)
        self._claimed: list[Task] = []

    async def feed(self, tasks: anyio.abc.TaskGroup) -> None:
        """Claim tasks and buy each by itself."""
        lane = self.buyer.lane
        while not lane.stopped:
            place = object()
            await lane.room.acquire_on_behalf_of(place)
            more, open_ = self.supply.more, self.supply.open
            back, away = self.back, self.away
            task = None if lane.stopped else await self._next()
            if task:
                tasks.start_soon(self._bought, task, place)
                continue
            lane.room.release_on_behalf_of(place)
            if open_:
                await more.wait()
            elif away:
                await back.wait()
            else:
                break
        await self.buyer.ledger.release(self._claimed)

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
