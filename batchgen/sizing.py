"""How much of what is to do goes into one batch. Pure."""

from collections.abc import Sequence

from batchgen import costs
from batchgen.task import Task

TASKS_MOST = 1_000  # of a batch: what comes back at a time, and what is lost at a time where one expires
LINE = 2_000  # bytes of a line beside its prompt
ROOMY = 0.8  # of the tokens that may be enqueued: ours are an estimate


def fitting(tasks: Sequence[Task], most: int | None, used: int, bytes_most: int) -> int:
    """How many of the first tasks a file of that size has room for, and the provider's queue of at `most` that many
    tokens (None: nobody knows), so many of which are `used`; at least one where none is."""
    room, size, enqueued = None if most is None else int(most * ROOMY) - used, 0, 0
    for n, task in enumerate(tasks):
        size, enqueued = size + _bytes(task), enqueued + tokens(task)
        if size > bytes_most or (room is not None and enqueued > room and (n or used)):
            return n
    return len(tasks)


def tokens(task: Task) -> int:
    """That go in, about."""
    return round(costs.text_tokens(len(task.prompt.encode()))) + task.input_tokens


def _bytes(task: Task) -> int:
    """Of its line, at most: every sign of the prompt may be spelled with six."""
    return LINE + 6 * len(task.prompt) + sum(len(each.ref) for each in task.inputs)
