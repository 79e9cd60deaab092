"""How a run ended: an exit code, and why in words."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from batchgen.task import TaskState
from batchgen.text import count


@dataclass(frozen=True, slots=True)
class Ended:
    """How a run ended, in an exit code and in words."""

    exit_code: int
    reason: str

    @property
    def cause(self) -> str:
        """The reason alone, without what else should be known."""
        return self.reason.partition("; ")[0]


@dataclass(frozen=True, slots=True)
class Left:
    """What is not over: `owed` by providers that the manifest has no more, not queued yet (`short`), or in batches."""

    owed: Sequence[str] = ()
    short: bool = False
    batches: int = 0
    batched: int = 0  # tasks of theirs

    @property
    def words(self) -> str:
        """That its batches are not over, and what can be done."""
        batches, tasks = count(self.batches, "batch", "batches"), count(self.batched, "task")
        says = f"{batches} of {tasks} {'go' if self.batches > 1 else 'goes'} on at the provider"
        return f"{says}: run again to collect, batchgen set RUN cancelled=true ends them"


def conclude(
    states: Mapping[TaskState, int], cap: str, blocked: str, left: Left = Left(), aside: Sequence[str] = ()
) -> Ended:
    """The exit code and its reason; where several are true, the most urgent.

    `aside` are lanes that are blocked, though others have done their work: a person should know.
    """
    ended = _concluded(states, cap, blocked, left)
    return Ended(ended.exit_code, f"{ended.reason}; blocked: {', '.join(aside)}") if aside else ended


def _concluded(states: Mapping[TaskState, int], cap: str, blocked: str, left: Left) -> Ended:
    bad = {name: states[name] for name in (TaskState.FAILED, TaskState.REFUSED, TaskState.HELD) if states[name]}
    if blocked:
        return Ended(5, f"blocked: {blocked}")
    if cap and (states[TaskState.TODO] or left.batches):  # a limit that ended nothing is none
        return Ended(4, f"stopped by {cap}" + (f"; {left.words}" if left.batches else ""))
    if left.batches and not left.owed:
        return Ended(7, left.words)
    if states[TaskState.TODO] or left.short:
        return Ended(7, "interrupted")
    if left.owed:
        says = f"images that were bought are still with {', '.join(left.owed)}"
        return Ended(7, f"{says}: the manifest must name it to fetch them")
    if states[TaskState.DOING]:
        return Ended(
            7,
            f"{states[TaskState.DOING]} bought and still with the provider: run again to fetch them "
            "(batchgen report RUN --attempts accepted lists them, resolve RUN --billed ATTEMPT gives one up)",
        )
    if bad:
        return Ended(3, ", ".join(f"{count} {name}" for name, count in bad.items()))
    return Ended(0, "all done")
