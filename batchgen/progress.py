"""How far a run is, for whoever watches it."""

import time
from collections.abc import Sequence
from dataclasses import dataclass, field

from batchgen.lane import Lane
from batchgen.purse import Purse
from batchgen.task import ImageState, Settlement, Task, TaskState

OVER = frozenset({TaskState.DONE, TaskState.REFUSED, TaskState.FAILED, TaskState.HELD})


@dataclass(slots=True)
class Progress:
    """Counts over the whole job, and what this run added. Money in nano-dollars."""

    states: dict[TaskState, int] = field(default_factory=lambda: dict.fromkeys(TaskState, 0))
    images: int = 0
    expected: int = 0  # of the whole job
    started: float = field(default_factory=time.monotonic)
    lanes: Sequence[Lane] = ()
    purse: Purse | None = None
    draining: bool = False

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

    def settled(self, task: Task, settled: Settlement) -> None:
        self.images += sum(image.state is ImageState.SAVED for image in settled.images)
        if settled.task in OVER:
            self.states[settled.task] += 1
            self.states[TaskState.TODO] -= 1

    def waiting(self) -> dict[str, int]:
        """Why tasks wait for their next try, and how many do."""
        reasons: dict[str, int] = {}
        for why in (why for lane in self.lanes for why in lane.waiting.values()):
            reasons[why] = reasons.get(why, 0) + 1
        return reasons
