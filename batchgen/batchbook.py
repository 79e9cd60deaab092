"""The ledger's rows of batches: which attempts were handed over together, and how far each batch is."""

import sqlite3
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace
from typing import TypeVar

from batchgen import records
from batchgen.batch import Batch, BatchState, Load, Look
from batchgen.commit import GroupCommit
from batchgen.task import Attempt, Task

T = TypeVar("T")
ENGINE = "batch"
NOTE_MOST = 2000  # characters
PAGE = 200  # attempts that are read at a time
_COLUMNS = {"created": "created_at", "drafted": "drafted_at"}
_BATCH = ", ".join(_COLUMNS.get(each.name, each.name) for each in fields(Batch))
_LOAD = "SELECT count(*), coalesce(sum(cost_high), 0), coalesce(sum(images), 0) FROM attempts WHERE "
_OPEN = "batch = ? AND state IN ('sending', 'accepted')"


@dataclass(frozen=True, slots=True)
class Draft:
    """What a batch is made of: tasks of one model and operation, the most that each may cost, the tokens that go in."""

    lane: str
    payer: str
    tasks: Sequence[Task]
    costs: Sequence[int | None]
    tokens: int


class BatchBook:
    """Each method is one transaction, on the disk when it returns. `scope` tells which tasks may be claimed."""

    def __init__(
        self, group: GroupCommit, run: int, task: Callable[[sqlite3.Connection, int], Task], scope: Callable[[], str]
    ) -> None:
        self._group = group
        self._run = run
        self._task = task
        self._scope = scope

    async def _write(self, work: Callable[[sqlite3.Connection], T]) -> T:
        return await self._group.write(work)

    async def claim(self, pool: str, most: int) -> list[Task]:
        """Take up to `most` tasks of one model and operation, those of the first that is to do."""
        todo = f"pool = ? AND state = 'todo' AND replay = 0 AND {self._scope()}"
        alike = "SELECT w.id FROM variants v JOIN variants w USING (provider, model, operation) WHERE v.id = ?"

        def work(db: sqlite3.Connection) -> list[Task]:
            first = db.execute(f"SELECT variant FROM tasks WHERE {todo} ORDER BY seq LIMIT 1", (pool,)).fetchone()
            if first is None:
                return []
            rows = db.execute(
                f"UPDATE tasks SET state = 'doing' WHERE seq IN (SELECT seq FROM tasks WHERE {todo}"
                f" AND variant IN ({alike}) ORDER BY seq LIMIT ?) RETURNING seq",
                (pool, first[0], most),
            ).fetchall()
            return [self._task(db, seq) for (seq,) in sorted(rows)]

        return await self._write(work)

    async def keyed(self, pool: str) -> list[Task]:
        """Take the tasks that may be sent again only under the key of their purchase: a batch knows none."""
        sql = f"UPDATE tasks SET state = 'doing' WHERE pool = ? AND state = 'todo' AND replay = 1 AND {self._scope()}"

        def work(db: sqlite3.Connection) -> list[Task]:
            return [self._task(db, seq) for (seq,) in db.execute(f"{sql} RETURNING seq", (pool,)).fetchall()]

        return await self._write(work)

    async def draft(self, draft: Draft) -> Batch:
        """Write down that these are handed over together. Only after this may anything be sent for them."""
        kind = draft.tasks[0].variant

        def work(db: sqlite3.Connection) -> Batch:
            now, mark = records.now(), uuid.uuid4().hex
            (seq,) = db.execute(
                "INSERT INTO batches (id, lane, payer, model, operation, tasks, tokens, drafted_at)"
                " VALUES (?, ?, ?, ?, ?, ?, ?, ?) RETURNING seq",
                (mark, draft.lane, draft.payer, kind.model, str(kind.operation), len(draft.tasks), draft.tokens, now),
            ).fetchone()
            db.executemany(
                "INSERT INTO attempts (id, task, run, purchase, lane, engine, batch, state, images, cost_low,"
                " cost_high, sent_at) VALUES (?, ?, ?, ?, ?, ?, ?, 'sending', ?, ?, ?, ?)",
                [self._row(db, draft.lane, seq, *pair, now) for pair in zip(draft.tasks, draft.costs, strict=True)],
            )
            count, state = len(draft.tasks), BatchState.DRAFTED
            who = (draft.lane, draft.payer)
            return Batch(seq, mark, *who, kind.model, kind.operation, state, count, draft.tokens, now)

        return await self._write(work)

    def _row(
        self, db: sqlite3.Connection, lane: str, batch: int, task: Task, high: int | None, now: str
    ) -> tuple[object, ...]:
        purchase, _ = records.purchase(db, task, now)
        cost = (None if high is None else 0, high)
        return uuid.uuid4().hex, task.seq, self._run, purchase, lane, ENGINE, batch, task.variant.images, *cost, now

    async def open(self) -> list[Batch]:
        """Those that are not over, the oldest first."""

        def work(db: sqlite3.Connection) -> list[Batch]:
            rows = db.execute(f"SELECT {_BATCH} FROM batches WHERE state <> 'over' ORDER BY seq").fetchall()
            return [_batch(row) for row in rows]

        return await self._write(work)

    async def attempts(self, batch: Batch, after: int = 0) -> list[tuple[int, Attempt]]:
        """A page of its open attempts, each with its row's number, behind which the next page begins."""
        sql = f"SELECT seq, {_ATTEMPT} FROM attempts WHERE {_OPEN} AND seq > ? ORDER BY seq LIMIT {PAGE}"

        def work(db: sqlite3.Connection) -> list[tuple[int, Attempt]]:
            return [(seq, self._attempt(db, *row)) for seq, *row in db.execute(sql, (batch.seq, after)).fetchall()]

        return await self._write(work)

    async def attempt(self, batch: Batch, id_: str) -> Attempt | None:
        """Its open attempt of that id."""
        sql = f"SELECT {_ATTEMPT} FROM attempts WHERE id = ? AND {_OPEN}"

        def work(db: sqlite3.Connection) -> Attempt | None:
            row = db.execute(sql, (id_, batch.seq)).fetchone()
            return self._attempt(db, *row) if row else None

        return await self._write(work)

    def _attempt(self, db: sqlite3.Connection, id_: str, task: int, *rest: object) -> Attempt:
        purchase, lane, high, handle, sent = rest
        return Attempt(id_, self._task(db, task), purchase, lane, high, handle, sent)  # type: ignore[arg-type]

    async def knows(self, batch: Batch, id_: str) -> bool:
        """Whether an attempt of that id is one of its own, in whatever state."""
        sql = "SELECT 1 FROM attempts WHERE id = ? AND batch = ?"
        return await self._write(lambda db: db.execute(sql, (id_, batch.seq)).fetchone() is not None)

    async def answers(self, batch: Batch) -> tuple[int, int]:
        """How many of its attempts brought an answer, and how many a refusal or an error of their own."""
        sql = (
            "SELECT count(*) FILTER (WHERE status BETWEEN 200 AND 299), count(*) FILTER (WHERE status >= 300)"
            " FROM attempts WHERE batch = ?"
        )
        return await self._write(lambda db: db.execute(sql, (batch.seq,)).fetchone())

    async def fruitless(self, batch: Batch) -> bool:
        """Whether all its tasks are to do again."""
        sql = "SELECT 1 FROM attempts a JOIN tasks t ON t.seq = a.task WHERE a.batch = ? AND t.state <> 'todo' LIMIT 1"
        return await self._write(lambda db: db.execute(sql, (batch.seq,)).fetchone() is None)

    async def load(self, batch: Batch) -> Load:
        """What of it is open."""
        return await self._write(lambda db: Load(*db.execute(_LOAD + _OPEN, (batch.seq,)).fetchone()))

    async def wanted(self, batch: Batch) -> bool:
        """Whether all its tasks are, still."""
        sql = (
            "SELECT 1 FROM attempts a JOIN tasks t ON t.seq = a.task"
            " WHERE a.batch = ? AND a.state = 'sending' AND t.wanted <> 'yes' LIMIT 1"
        )
        return await self._write(lambda db: db.execute(sql, (batch.seq,)).fetchone() is None)

    async def filed(self, batch: Batch, file: str) -> Batch:
        """Its lines are with the provider, in that file."""
        await self._set(batch, "input = ?", file)
        return replace(batch, input=file)

    async def creating(self, batch: Batch, perhaps: bool) -> Batch:
        """It is being created, so that perhaps it was; or surely it was not."""
        state = BatchState.CREATING if perhaps else BatchState.DRAFTED
        await self._set(batch, "state = ?", str(state))
        return replace(batch, state=state)

    async def doubted(self, batch: Batch) -> Batch:
        """It is nowhere to be seen, and may be created again."""
        await self._set(batch, "state = 'drafted', doubts = doubts + 1")
        return replace(batch, state=BatchState.DRAFTED, doubts=batch.doubts + 1)

    async def opened(self, batch: Batch, look: Look) -> Batch:
        """The provider has it, under its own name: a crash costs nothing any more."""

        def work(db: sqlite3.Connection) -> str:
            created = records.now()
            db.execute(
                "UPDATE batches SET state = 'open', handle = ?, created_at = ?, status = ?, expires_at = ?"
                " WHERE seq = ?",
                (look.handle, created, look.status, look.expires or None, batch.seq),
            )
            sql = f"UPDATE attempts SET state = 'accepted', handle = ? WHERE {_OPEN}"
            db.execute(sql, (look.handle, batch.seq))
            return created

        created = await self._write(work)
        return replace(batch, state=BatchState.OPEN, handle=look.handle, created=created)

    async def seen(self, batch: Batch, look: Look) -> Batch:
        """How far it is."""
        await self._set(
            batch,
            "status = ?, completed = ?, failed = ?, output = ?, errors = ?, expires_at = ?, looked_at = ?",
            *(look.status, look.completed, look.failed, look.output, look.errors, look.expires or None, records.now()),
        )
        return replace(batch, output=look.output, errors=look.errors)

    async def read(self, batch: Batch, output_at: int, errors_at: int) -> Batch:
        """So many bytes of its files are settled."""
        await self._set(batch, "output_at = ?, errors_at = ?", output_at, errors_at)
        return replace(batch, output_at=output_at, errors_at=errors_at)

    async def note(self, batch: Batch, what: str) -> None:
        """Something that a person should know, once."""
        sql = (
            "note = CASE WHEN instr(note, ?1) OR length(note) > ?2 THEN note WHEN note = '' THEN ?1"
            " ELSE note || '; ' || ?1 END WHERE seq = ?3"
        )
        await self._write(lambda db: db.execute(f"UPDATE batches SET {sql}", (what, NOTE_MOST, batch.seq)).rowcount)

    async def over(self, batch: Batch, others: int = 0) -> int:
        """All that came of it is in the books.

        Where there were others with the same lines, what was made of them may have been billed as often again: returns
        by how much that raises what is spent at most.
        """
        raised = (
            "UPDATE attempts SET cost_high = cost_high * ?1 WHERE batch = ?2"
            " AND state IN ('paid', 'unusable', 'unknown') RETURNING cost_high / ?1 * (?1 - 1)"
        )

        def work(db: sqlite3.Connection) -> int:
            more = db.execute(raised, (1 + others, batch.seq)).fetchall() if others else []
            db.execute("UPDATE batches SET state = 'over', ended_at = ? WHERE seq = ?", (records.now(), batch.seq))
            return sum(row[0] or 0 for row in more)

        return await self._write(work)

    async def dissolve(self, batch: Batch, state: str, code: str, why: str, most: int | None = None) -> Load:
        """Nothing of it was made, nor billed: its tasks go back to the queue, no try is used up. All or nothing.

        `most` is how many tokens its provider lets be enqueued, where this was too many. Returns what is not bought.
        """

        def work(db: sqlite3.Connection) -> Load:
            load = Load(*db.execute(_LOAD + _OPEN, (batch.seq,)).fetchone())
            db.execute(
                "UPDATE tasks SET state = 'todo' WHERE state = 'doing' AND seq IN"
                f" (SELECT task FROM attempts WHERE {_OPEN})",
                (batch.seq,),
            )
            db.execute(
                f"UPDATE attempts SET state = ?, code = ?, error = ?, cost_low = 0, cost_high = 0, ended_at = ?"
                f" WHERE {_OPEN}",
                (state, code, why, records.now(), batch.seq),
            )
            db.execute(
                "UPDATE batches SET state = 'over', ended_at = ?, tokens_most = ?, note = ? WHERE seq = ?",
                (records.now(), most, why, batch.seq),
            )
            return load

        return await self._write(work)

    async def room(self, lane: str, model: str) -> tuple[int | None, int]:
        """How many tokens may be enqueued for a model (None: that was never told), and how many are.

        A quarter more than was told last for each batch that came through since, up to the most that was ever told.
        """
        told = (
            "SELECT min(max(tokens_most) OVER (), tokens_most + tokens_most * (SELECT count(*) FROM batches c"
            " WHERE c.lane = b.lane AND c.model = b.model AND c.seq > b.seq AND c.completed > 0) / 4) FROM batches b"
            " WHERE lane = ? AND model = ? AND tokens_most IS NOT NULL ORDER BY seq DESC LIMIT 1"
        )
        used = "SELECT coalesce(sum(tokens), 0) FROM batches WHERE lane = ? AND model = ? AND state <> 'over'"

        def work(db: sqlite3.Connection) -> tuple[int | None, int]:
            row = db.execute(told, (lane, model)).fetchone()
            return (row[0] if row else None), db.execute(used, (lane, model)).fetchone()[0]

        return await self._write(work)

    # files to edit

    async def owner(self) -> str:
        """A name of this ledger that no other bears: its first batch's."""
        sql = "SELECT substr(id, 1, 16) FROM batches ORDER BY seq LIMIT 1"
        return str((await self._write(lambda db: db.execute(sql).fetchone()))[0])

    async def uploaded(self, payer: str, name: str) -> str:
        """The id of a file that the provider has; "" where it has none."""
        sql = "SELECT id FROM uploads WHERE payer = ? AND name = ?"
        row = await self._write(lambda db: db.execute(sql, (payer, name)).fetchone())
        return row[0] if row else ""

    async def upload(self, payer: str, name: str, id_: str) -> None:
        sql = "INSERT OR REPLACE INTO uploads VALUES (?, ?, ?, ?)"
        await self._write(lambda db: db.execute(sql, (payer, name, id_, records.now())).rowcount)

    async def left(self) -> bool:
        """Whether any provider has such a file."""
        sql = "SELECT EXISTS (SELECT 1 FROM uploads)"
        return bool((await self._write(lambda db: db.execute(sql).fetchone()))[0])

    async def uploads(self, payer: str) -> list[tuple[str, str]]:
        """Names and ids of all files that the provider has."""
        sql = "SELECT name, id FROM uploads WHERE payer = ?"
        return await self._write(lambda db: db.execute(sql, (payer,)).fetchall())

    async def forget(self, payer: str, name: str) -> None:
        """The provider has it no more."""
        sql = "DELETE FROM uploads WHERE payer = ? AND name = ?"
        await self._write(lambda db: db.execute(sql, (payer, name)).rowcount)

    async def _set(self, batch: Batch, what: str, *values: object) -> None:
        sql = f"UPDATE batches SET {what} WHERE seq = ?"
        await self._write(lambda db: db.execute(sql, (*values, batch.seq)).rowcount)


_ATTEMPT = "id, task, purchase, lane, cost_high, handle, sent_at"


def _batch(row: Sequence[object]) -> Batch:
    found = dict(zip((each.name for each in fields(Batch)), row, strict=True))
    state = BatchState(str(found.pop("state")))
    return Batch(state=state, **{name: "" if value is None else value for name, value in found.items()})  # type: ignore[arg-type]
