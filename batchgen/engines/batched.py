"""The batch engine: what is queued goes to the provider's Batch API; from some time on, perhaps, each by itself."""

import time
from typing import Any

import anyio
import anyio.abc

from batchgen.batch import Batch
from batchgen.desk import Desk
from batchgen.engines.local import Local
from batchgen.limits import backoff
from batchgen.purse import Exhausted

EVERY = 1.0  # seconds between two looks at the clock, and at the lane
AGAIN = 30.0  # seconds until it is tried again to draft a batch, though no other is over


class Batched(Local):
    """Batches until `ends` (seconds since 1970; None: until nothing is left); afterwards each task by itself."""

    def __init__(self, ends: float | None, *given: Any) -> None:
        super().__init__(*given)
        self._ends = ends

    async def feed(self, tasks: anyio.abc.TaskGroup) -> None:
        """Draft batches as long as there is anything to hand over; those that are open are seen through whatever is."""
        assert self.desk
        lane, keyed = self.buyer.lane, True
        while not (lane.stopped or self.desk.ending or self._late()):
            if self.buyer.deadline.due(lane.name, time.time()):
                lane.drain()  # the provider goes on, and the next run collects
                raise Exhausted(self.buyer.deadline.name)
            if vain := self.desk.vain:
                await lane.pause("batches", backoff(vain, None, lane.chance), "the last batch brought nothing")
            # From here to the claim nothing is awaited: who finds nothing to do, and nobody away, is the last one.
            back, more, away = self.queue.back, self.supply.more, self.queue.away
            if self.supply.open:
                await more.wait()
            elif keyed:  # once: no batch leaves any
                await self.desk.hold_keyed()
                keyed = False
            elif not lane.paused and (batch := await self._draft(self.desk)):
                self.take_up(tasks, self.desk.follow, batch)
            elif away or lane.paused:
                await self._wait(back)
            else:
                break
        if self._late() and not lane.stopped:
            self.desk.end()
            await self._left()  # nothing is bought both ways
            await super().feed(tasks)
        await self._left()

    async def _draft(self, desk: Desk) -> Batch | None:
        with self.queue.looking():
            return await desk.draft()

    async def _wait(self, back: anyio.Event) -> None:
        """Until a batch is over, or it is time to look again."""
        lane, until = self.buyer.lane, anyio.current_time() + AGAIN
        paused, ending = lane.paused, self.desk and self.desk.ending
        while anyio.current_time() < until and (paused, ending) == (lane.paused, self.desk and self.desk.ending):
            if back.is_set() or lane.stopped or self._late():
                break
            with anyio.move_on_after(EVERY):
                await back.wait()

    def _late(self) -> bool:
        return self._ends is not None and time.time() >= self._ends

    async def _left(self) -> None:
        while self.away:
            await self.queue.back.wait()
