"""The ledger's rows of attempts that were made elsewhere and given up, until it is known what came of them."""

import sqlite3
from collections.abc import Callable
from dataclasses import replace
from typing import TypeVar

from batchgen import records
from batchgen.commit import GroupCommit
from batchgen.task import Attempt, Settlement, Task, TaskState

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
                "SELECT id, task, purchase, lane, cost_high, '', sent_at, sent_at, '', engine FROM attempts"
                " WHERE state = 'unknown' AND code = ? AND images > 0 ORDER BY seq",
                (code,),
            ).fetchall()
            return [Attempt(row[0], self._task(db, row[1]), *row[2:]) for row in rows]

        return await self._write(work)

    async def amend(self, attempt: Attempt, settled: Settlement) -> None:
        """Write down what an attempt of unknown fate came to after all. Its images are its task's where that has none.

        Whatever was allowed for a re-send stays used.
        """

        def work(db: sqlite3.Connection) -> None:
            sql = "UPDATE attempts SET state = 'sending' WHERE id = ? AND state = 'unknown' RETURNING allowance"
            (allowed,) = db.execute(sql, (attempt.id,)).fetchone()
            row = records.settle_attempt(db, attempt, replace(settled, allowance=allowed))
            sql = "UPDATE tasks SET state = 'done', replay = 0 WHERE seq = ? AND state <> 'done' RETURNING seq"
            if settled.task is TaskState.DONE and db.execute(sql, (attempt.task.seq,)).fetchall():
                for image in settled.images:
                    records.add_image(db, attempt.task.seq, row, image)

        await self._write(work)
