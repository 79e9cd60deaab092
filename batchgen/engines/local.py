"""The local engine: a bounded pool that keeps a lane's requests open, with back-pressure before each task."""

import anyio.abc
from anyio.lowlevel import checkpoint

from batchgen.engines.pool import Pool
from batchgen.task import Task

NAME = "local"


class Local(Pool):
    """Twice as many errands as slots, so that one that waits for its next try leaves its slot to another."""

    async def feed(self, tasks: anyio.abc.TaskGroup) -> None:
        """Claim tasks and buy each by itself: ahead of time, or where others may have room sooner, just in time."""
        lane, queue = self.buyer.lane, self.queue
        while not (lane.stopped or queue.over):
            place = object()
            await lane.room.acquire_on_behalf_of(place)
            if queue.shared and not queue.over:
                await lane.ready()
            more, open_ = self.supply.more, self.supply.open
            back, away = queue.back, queue.away
            task = None if lane.stopped or queue.over else await queue.next(lane)
            if task:
                queue.leave()
                tasks.start_soon(self._bought, task, place)
                await checkpoint()  # until it stands before the lane, there seems to be room for another one
                continue
            lane.room.release_on_behalf_of(place)
            if open_:
                await more.wait()
            elif away or not queue.spent:
                await queue.wait(lane, back)
            else:
                queue.close()

    async def _bought(self, task: Task, place: object) -> None:
        try:
            await self.work(self.buyer.generate, task)
        finally:
            self.buyer.lane.room.release_on_behalf_of(place)
            self.queue.come_back()
