"""The ledger's rows of attempts that were made elsewhere and given up, until it is known what came of them."""

import sqlite3
from collections.abc import Callable
from dataclasses import replace
from typing import TypeVar

from batchgen import records
from batchgen.commit import GroupCommit
from batchgen.task import Attempt, AttemptState, ImageState, Settlement, Task, TaskState

HEARD = "it was heard of late"
TWICE = "bought once more: its task had its images when they were heard of, which are kept beside them"
T = TypeVar("T")


class Losses:
    """Each method is one transaction, on the disk when it returns."""

    def __init__(self, group: GroupCommit, task: Callable[[sqlite3.Connection, int], Task]) -> None:
        self._group = group
        self._task = task

    async def _write(self, work: Callable[[sqlite3.Connection], T]) -> T:
        return await self._group.write(work)

    async def any(self, engine: str) -> bool:
        """Whether anything was ever made by that engine."""
        sql = "SELECT 1 FROM attempts WHERE engine = ? LIMIT 1"
        return await self._write(lambda db: db.execute(sql, (engine,)).fetchone() is not None)

    async def given_up(self, code: str) -> list[Attempt]:
        """What was sent and given up by that code, unless a later sending of its purchase bears it."""

        def work(db: sqlite3.Connection) -> list[Attempt]:
            rows = db.execute(
                "SELECT id, task, purchase, lane, cost_high, '', sent_at, sent_at, engine FROM attempts"
                " WHERE state = 'unknown' AND code = ? AND images > 0 ORDER BY seq",
                (code,),
            ).fetchall()
            return [Attempt(row[0], self._task(db, row[1]), *row[2:]) for row in rows]

        return await self._write(work)

    async def amend(self, attempt: Attempt, settled: Settlement) -> Settlement:
        """Write down what an attempt of unknown fate came to after all, and return it.

        Its images are its task's where that has none, else they are kept beside. What was allowed for a re-send stays
        used.
        """

        def work(db: sqlite3.Connection) -> Settlement:
            task = attempt.task.seq
            sql = "UPDATE attempts SET state = 'sending' WHERE id = ? AND state = 'unknown' RETURNING allowance, error"
            allowed, error = db.execute(sql, (attempt.id,)).fetchone()
            (state,) = db.execute("SELECT state FROM tasks WHERE seq = ?", (task,)).fetchone()
            told = _surplus(settled) if state == "done" else settled
            told = replace(told, allowance=allowed, code=records.LATE, error=f"{told.error or HEARD}; before: {error}")
            row = records.settle_attempt(db, attempt, told)
            sql = "SELECT path FROM images WHERE task = ? AND state = 'saved'"
            owned = {path for (path,) in db.execute(sql, (task,))}  # the very same bytes share a name
            for image in told.images:
                if image.path not in owned or not image.path:
                    records.add_image(db, task, row, image)
            if told.task is TaskState.DONE or (state == "held" and not _doubted(db, task)):
                sql = "UPDATE tasks SET state = ?, replay = 0 WHERE seq = ? AND state <> 'done'"
                db.execute(sql, (str(told.task), task))
            return told

        return await self._write(work)


def _surplus(settled: Settlement) -> Settlement:
    """What came of an attempt whose task has its images by another one."""
    if settled.attempt is not AttemptState.PAID:
        return replace(settled, task=TaskState.DONE)
    kept = [replace(image, state=ImageState.PARTIAL) for image in settled.images if image.path]
    return replace(settled, attempt=AttemptState.UNUSABLE, images=tuple(kept), error=TWICE)


def _doubted(db: sqlite3.Connection, task: int) -> bool:
    """Whether another attempt may have brought what the task asks for."""
    sql = "SELECT 1 FROM attempts WHERE task = ? AND state = 'unknown' AND images > 0 LIMIT 1"
    return db.execute(sql, (task,)).fetchone() is not None
