"""How far a run is, for whoever watches it."""

import json
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import anyio

from batchgen.crew import Crew
from batchgen.deadline import Deadline
from batchgen.desk import Desk
from batchgen.errors import StorageError
from batchgen.lane import Lane
from batchgen.ledger import Ledger
from batchgen.pace import SOURCES, Learned, figure
from batchgen.purse import Purse
from batchgen.task import ImageState, Settlement, Task, TaskState
from batchgen.text import count

NOTE_EVERY = 2.0  # seconds
OVER = frozenset({TaskState.DONE, TaskState.REFUSED, TaskState.FAILED, TaskState.HELD})


@dataclass(frozen=True, slots=True)
class Wait:
    """So many tasks of a lane wait, and why; `until` is when the next is let through, in UTC, if that is known.

    None of them: the lane itself is blocked, and why.
    """

    lane: str
    why: str
    tasks: int
    until: str = ""

    def __str__(self) -> str:
        if not self.tasks:
            return f"blocked: {self.why}"
        then = f", until {self.until[11:19]} UTC" if self.until else ""
        return f"{self.tasks} wait: {self.why}{then}"


@dataclass(frozen=True, slots=True)
class Throttle:
    """Of a lane: how many requests may be open, how many at most, the limits a minute, and the last changes (UTC)."""

    lane: str
    window: int
    width: int
    pace: tuple[Learned, ...]
    changes: tuple[tuple[str, str], ...]

    @classmethod
    def read(cls, noted: Mapping[str, Any]) -> "Throttle":
        """As it was written down."""
        pace = tuple(Learned(**limit) for limit in noted["pace"])
        return cls(
            noted["lane"], noted["window"], noted["width"], pace, tuple((at, what) for at, what in noted["changes"])
        )

    def __str__(self) -> str:
        limits = (f"{figure(each.per_minute, each.kind)} by {SOURCES[each.source]}" for each in self.pace)
        return f"{self.window} of {self.width} requests at a time" + "".join(f", {limit}" for limit in limits)


@dataclass(slots=True)
class Progress:
    """Counts over the whole job, and what this run added. Money in nano-dollars."""

    states: dict[TaskState, int] = field(default_factory=lambda: dict.fromkeys(TaskState, 0))
    images: int = 0
    expected: int = 0  # of the whole job
    started: float = field(default_factory=time.monotonic)
    lanes: Sequence[Lane] = ()
    desks: Sequence[Desk] = ()
    crew: Crew | None = None
    purse: Purse | None = None
    draining: bool = False
    deadline: Deadline | None = None

    @property
    def total(self) -> int:
        return sum(self.states.values())

    @property
    def over(self) -> int:
        """Tasks that need nothing more."""
        return sum(self.states[state] for state in OVER)

    @property
    def spent(self) -> int:
        """At most, over the job's life, without what is on its way."""
        return self.purse.budget.used - self.purse.on_the_way if self.purse else 0

    @property
    def open(self) -> int:
        """Requests on their way."""
        return sum(lane.open for lane in self.lanes)

    @property
    def paused(self) -> bool:
        return any(lane.paused for lane in self.lanes)

    @property
    def handed_over(self) -> str:
        """The batches that are open, in words; nothing where there are none."""
        seen = [each for desk in self.desks for each in desk.seen.values()]
        made = sum(each.look.completed for each in seen if each.look)
        tasks = sum(each.batch.tasks for each in seen)
        return f"{count(len(seen), 'batch', 'batches')} open, {made:,} of {tasks:,} made" if seen else ""

    def settled(self, task: Task, settled: Settlement) -> None:
        self.images += sum(image.state is ImageState.SAVED for image in settled.images)
        if settled.task in OVER:
            self.states[settled.task] += 1
            self.states[TaskState.TODO] -= 1

    def waits(self) -> list[Wait]:
        """Why tasks wait for their next try, and how many do; and those that no gate lets through."""
        return [wait for lane in self.lanes for wait in _waits(lane)]

    def throttle(self) -> list[Throttle]:
        """How wide and how fast each lane goes, and what changed that last."""
        return [
            Throttle(lane.name, lane.gate.window, lane.width, tuple(lane.pace.limits()), tuple(lane.changes))
            for lane in self.lanes
        ]


async def note(progress: Progress, books: Ledger) -> None:
    """Write down what is waited for and what is learned, as it changes, so that others can be told."""
    noted: tuple[list[Wait], list[Throttle]] = ([], [])
    with suppress(StorageError):  # it is no reason to stop
        while True:
            await anyio.sleep(NOTE_EVERY)
            found = progress.waits(), progress.throttle()
            if found != noted:
                noted = found
                await books.wait(*(json.dumps([asdict(each) for each in some]) for some in found))
                await learn(progress, books)


async def learn(progress: Progress, books: Ledger) -> None:
    """Remember what the providers' limits are, for the next run; a full disk is no reason to stop."""
    with suppress(StorageError):
        for lane in progress.lanes:
            if (learned := lane.pace.learned) != lane.recalled:
                await books.learn(lane.account, lane.name, learned)
                lane.recalled = learned


def _waits(lane: Lane) -> Iterator[Wait]:
    if lane.blocked:
        yield Wait(lane.name, lane.plight.removeprefix(f"{lane.name}: "), 0)
    yield from (Wait(lane.name, why, count) for why, count in Counter(lane.waiting.values()).items())
    if lane.queued and (why := lane.gate.why or lane.slowness):
        yield Wait(lane.name, why, lane.queued, _clock(lane.gate.until))


def _clock(until: float) -> str:
    """A moment of the event loop's clock, the monotonic one, in UTC, to the second; nothing where it has passed."""
    left = until - time.monotonic()
    return (datetime.now(UTC) + timedelta(seconds=left)).isoformat(timespec="seconds") if left > 0 else ""
