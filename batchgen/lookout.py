"""What somebody should know of a run at work: that a provider blocks, that a task is held, that nothing comes."""

from collections.abc import Iterator
from dataclasses import dataclass, field

from batchgen.errors import Blocked
from batchgen.form import Event
from batchgen.progress import Progress
from batchgen.task import TaskState

STALLED = 15 * 60.0  # seconds in which no task ended, and at least twice as long as one answer may take
AGAIN = 15 * 60.0  # seconds until a provider that works and blocks by turns is told of again


@dataclass(slots=True)
class Lookout:
    """Sees each of them once. `timeout` is how long an answer may take, `since` when a task ended last, in seconds."""

    progress: Progress
    timeout: float
    since: float
    _over: int = field(init=False)
    _held: int = field(init=False)
    _stalled: bool = False
    _blocked: dict[str, tuple[Blocked, float]] = field(default_factory=dict)  # by lane: what was told, and when

    def __post_init__(self) -> None:
        self._over, self._held = self.progress.over, self.progress.states[TaskState.HELD]

    def look(self, now: float) -> Iterator[tuple[Event, str]]:
        """What is new, in words."""
        if blocked := "; ".join(self._blocks(now)):
            yield "blocked", f"blocked: {blocked}"
        if self.progress.states[TaskState.HELD] > self._held:
            self._held = self.progress.total  # once a run: more of them are counted at its end
            yield "held", "held: no usable answer came to a request that may be paid for"
        if self._stalls(now):
            waits = "".join(f"; {wait.lane}: {wait}" for wait in self.progress.waits())
            yield "stalled", f"stalled: no task ended for {(now - self.since) // 60:.0f} min{waits}"

    def _blocks(self, now: float) -> Iterator[str]:
        for lane in self.progress.lanes:
            told, when = self._blocked.get(lane.name, (None, -AGAIN))
            if lane.blocked and lane.blocked is not told and now - when >= AGAIN:
                self._blocked[lane.name] = lane.blocked, now
                yield lane.plight

    def _stalls(self, now: float) -> bool:
        """Whether nothing comes of what is to do, though nobody wants it so; once until something does."""
        progress = self.progress
        away = progress.draining or progress.handed_over  # a batch may take a day
        idle = progress.paused or away or not progress.states[TaskState.TODO]
        if idle or progress.over != self._over or all(lane.blocked for lane in progress.lanes):
            self._over, self.since, self._stalled = progress.over, now, False
            return False
        before, self._stalled = self._stalled, now - self.since >= max(STALLED, 2 * self.timeout)
        return self._stalled and not before
