"""The tasks of one provider, which its lanes share: each takes the next one when it has room, in the manifest's order.

What waits in a lane, for its gate or for a task's next try, goes to another that has room and finds nothing else to do:
thus none sits on the last tasks while others are idle, and the tasks of one that is blocked are made by the others.
"""

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import anyio

from batchgen.lane import Lane
from batchgen.ledger import Ledger
from batchgen.task import Task

AGAIN = 60.0  # seconds until what went from one lane to another may go on: else a failing task is never let rest
LOOK = 0.5  # seconds between two looks at what waits elsewhere


class Queue:
    """`lanes` are all that buy for the provider `name`; `away` is how many errands may yet bring tasks back."""

    def __init__(self, ledger: Ledger, name: str, lanes: Sequence[Lane]) -> None:
        self.name = name
        self.over = False  # nothing is left, and nothing can come back
        self.away = 0
        self.back = anyio.Event()  # when an errand is over: its tasks may be queued again
        self._ledger = ledger
        self._lanes = lanes
        self._claimed: list[Task] = []
        self._turn = anyio.Lock()
        self._moved: dict[str, tuple[Lane, float]] = {}  # by a task's key: the lane that it left last, and when

    @property
    def shared(self) -> bool:
        return len(self._lanes) > 1

    def leave(self) -> None:
        """An errand begins."""
        self.away += 1

    def come_back(self) -> None:
        """It is over."""
        self.away -= 1
        self._stir()

    def _stir(self) -> None:
        self.back.set()
        self.back = anyio.Event()

    @contextmanager
    def looking(self) -> Iterator[None]:
        """As long as tasks are taken of which some go back: no lane thinks meanwhile that nothing is left."""
        self.away += 1
        try:
            yield
        finally:
            self.away -= 1
            if not self.away:
                self._stir()

    async def next(self, lane: Lane) -> Task | None:
        """The next task for a lane, `doing` from now on; None where none is to do that it may take."""
        async with self._turn:  # what one has claimed is seen by the next, who might think that nothing is left
            while (task := self._pick(lane)) is None:
                found = await self._ledger.claim(self.name, lane.width)
                if not found:
                    return None
                self._claimed += found
            return task

    async def wait(self, lane: Lane, back: anyio.Event) -> None:
        """Until there may be something to do for a lane that is idle: what waits in another, above all."""
        if not self.shared:
            await back.wait()
            return
        self._lure(lane)
        with anyio.move_on_after(LOOK):
            await back.wait()

    @property
    def spent(self) -> bool:
        """Whether all errands are over, and what was claimed is for lanes that have stopped."""
        alive = [lane for lane in self._lanes if not lane.stopped]
        return not self.away and not any(self._may(lane, task) for task in self._claimed for lane in alive)

    def close(self) -> None:
        """Let no lane wait for room any more: there is nothing to do."""
        self.over = True
        for lane in self._lanes:
            lane.answer()

    async def release(self) -> None:
        """Put back what was claimed and not begun."""
        claimed, self._claimed = self._claimed, []
        await self._ledger.release(claimed)

    def _pick(self, lane: Lane) -> Task | None:
        for nth, task in enumerate(self._claimed):
            if self._may(lane, task):
                return self._claimed.pop(nth)
        return None

    def _may(self, lane: Lane, task: Task) -> bool:
        """Whether a lane may buy it: not what another's purchase is of, nor what it gave to another just now."""
        others = [each for each in self._lanes if each is not lane]
        if task.replay and task.scope and any(each.scope == task.scope for each in others):
            return False
        left, when = self._moved.get(task.key, (None, 0.0))
        return left is not lane or self._rested(when) or all(each.stopped for each in others)

    def _rested(self, when: float) -> bool:
        return time.monotonic() - when >= AGAIN

    def _lure(self, lane: Lane) -> None:
        """Take over what waits in another lane; where the most do."""
        for other in sorted(self._lanes, key=lambda each: each.queued, reverse=True):
            if other is not lane and (key := other.dismiss(self._rests)):
                self._moved[key] = other, time.monotonic()
                return

    def _rests(self, key: str) -> bool:
        return key not in self._moved or self._rested(self._moved[key][1])
