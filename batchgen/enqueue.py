"""Write down what is wanted, where a survey found that the ledger lacks any of it."""

import logging
from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from itertools import islice
from typing import TypeVar

import anyio
import anyio.to_thread

from batchgen.compare import Survey, marks
from batchgen.errors import UsageError, alone
from batchgen.expand import Expansion
from batchgen.inputs import Gallery
from batchgen.ledger import Ledger
from batchgen.manifest import Manifest
from batchgen.supply import Supply
from batchgen.task import Task, TaskState
from batchgen.wanted import Wanted

BLOCK, AHEAD = 500, 3  # tasks that are written at a time, and how often: a settlement waits no longer than for those
T = TypeVar("T")
log = logging.getLogger("batchgen")


async def enqueue(
    books: Ledger, manifest: Manifest, survey: Survey, reopen: Sequence[TaskState], supply: Supply
) -> None:
    """Queue what is to do; UsageError where the rows are others by now than those that were surveyed.

    Where the ledger holds nothing yet, every task is new, and buying need not wait for the last of them: they are
    expected of the supply then.
    """
    wanted, supply.begun = books.wanted(), True
    await wanted.keep(manifest.text, manifest.overrides, manifest.rehearsed)
    if survey.chosen is not None:
        await wanted.sample(survey.chosen, survey.names, None if survey.redo else survey.fingerprint)
        await books.choose(survey.chosen)
    elif not survey.settled and await wanted.begin() and marks(manifest) == survey.marks:
        supply.expect(partial(_pass, wanted, manifest, survey, supply))
    elif not survey.settled:
        await _pass(wanted, manifest, survey, supply)
    if reopen:  # now that it is known which of them are wanted
        await books.reopen(reopen)


async def _pass(wanted: Wanted, manifest: Manifest, survey: Survey, supply: Supply) -> None:
    """Hold every task of the manifest against what the ledger has."""
    expansion = Expansion(manifest, survey.gallery or Gallery(manifest.folder))
    stream, room = blocks(_named(expansion)), anyio.Semaphore(AHEAD)
    with alone():
        async with anyio.create_task_group() as writing:  # the next ones are made while these are written
            while not supply.cut and (block := await anyio.to_thread.run_sync(next, stream, None)):
                await room.acquire()
                writing.start_soon(_add, wanted, block, supply, room)
    if supply.cut:
        supply.short = True
        return
    if expansion.digest != survey.read:
        sent = "What was bought is kept" if supply.open else "Nothing was sent"
        raise UsageError(f"the rows have changed since the plan was drawn. {sent}: run it again.")
    change = supply.change = await wanted.end(survey.fingerprint)
    log.info("%d new, %d kept, %d dropped", change.new, change.kept, change.dropped)


async def _add(wanted: Wanted, block: Sequence[tuple[Task, str, bool]], supply: Supply, room: anyio.Semaphore) -> None:
    tasks = [task for task, _, first in block if first]
    await wanted.add(tasks, [(task.mark, name) for task, name, _ in block if name])
    room.release()
    supply.came()


def _named(expansion: Expansion) -> Iterator[tuple[Task, str, bool]]:
    """Each task, what the user calls its row, and whether it is the first of its kind."""
    for row, first in expansion.distinct():
        if first or row.id:
            yield from ((task, row.id, first) for task in expansion.tasks(row))


def blocks(things: Iterable[T]) -> Iterator[list[T]]:
    stream = iter(things)
    while block := list(islice(stream, BLOCK)):
        yield block
