"""Work that is ordered now and asked after later."""

import time
from dataclasses import asdict, dataclass, field
from uuid import uuid4

from batchgen.sandbox.journal import Journal
from batchgen.sandbox.order import Order, ordered

_MODERATED = "The request was rejected by content moderation."
_FAILURES = {  # by the mark in the prompt: what the bill says of it, and what the provider says
    "[task-failed]": ("task-failed", "The upstream provider failed to generate the image."),
    "[task-moderated]": ("refused-output", _MODERATED),
    "[moderated-output]": ("refused-output", _MODERATED),
}


@dataclass(slots=True)
class Task:
    """Work that takes `seconds`; `outputs` are links. It changes when it is looked at."""

    order: Order
    outputs: list[str]
    seconds: float
    id: str = field(default_factory=lambda: f"task_{uuid4().hex}")
    since: float = field(default_factory=time.time)  # by the wall clock, which goes on while the server does not
    _polled: bool = False

    @property
    def fate(self) -> str:
        """Empty where it will succeed."""
        return self._end[0]

    @property
    def _end(self) -> tuple[str, str]:
        return next((end for mark, end in _FAILURES.items() if mark in self.order.prompt), ("", ""))

    def poll(self) -> dict[str, object]:
        """What the provider says of it now; the first time it is always just created."""
        status = self._status() if self._polled else "created"
        self._polled = True
        return {
            "task_id": self.id,
            "status": status,
            "outputs": self.outputs if status == "completed" else [],
            "fail_reason": self._end[1] if status == "failed" else "",
        }

    def _status(self) -> str:
        if time.time() - self.since < self.seconds:
            return "in_progress"
        return "failed" if self.fate else "completed"


class Tasks:
    """All that were ever sold, by id."""

    def __init__(self, journal: Journal | None = None) -> None:
        self._journal = journal or Journal()
        kept = [Task(**{**record, "order": ordered(record["order"])}) for record in self._journal.records()]
        self._sold = {task.id: task for task in kept}

    def add(self, task: Task) -> None:
        self._sold[task.id] = task
        facts = {"outputs": task.outputs, "seconds": task.seconds, "id": task.id, "since": task.since}
        self._journal.add({"order": asdict(task.order), **facts})

    def get(self, name: str) -> Task | None:
        return self._sold.get(name)
