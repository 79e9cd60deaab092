"""What a manifest asks for, written into the ledger: tasks that are new, wanted again, or wanted no more."""

import hashlib
import json
import sqlite3
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain, pairwise
from typing import TypeVar

from batchgen import records
from batchgen.commit import GroupCommit
from batchgen.task import Mark, Task, Variant, canonical

UNFINISHED = "unfinished"
"""In place of a fingerprint: a pass was begun, and what it does not meet is not dropped yet."""

ROWS = 500  # that are inserted at once
T = TypeVar("T")
Name = tuple[Mark, str]
"""A task, and what the user calls its row."""


@dataclass(frozen=True, slots=True)
class Change:
    """How what is wanted differs from what the ledger held before."""

    new: int
    kept: int
    dropped: int


def successions(replaced: Sequence[Mark], last: str, known: Collection[str]) -> Iterator[tuple[str, str]]:
    """Each of the tasks that are known, and whose place it left; `last` takes that of the last one."""
    there = [key for _, key in replaced if key in known]
    return pairwise((*there, last))


class Wanted:
    """One pass over a manifest's tasks. Only a whole one, from `begin` to `end`, drops what it did not meet."""

    def __init__(self, group: GroupCommit) -> None:
        self._group = group
        self._asked = bytearray()  # by seq
        self._variant_ids: dict[int, tuple[Variant, int]] = {}  # by id(): hashing one costs more than all the rest
        self._made_ids: dict[tuple[int, int], tuple[Variant, int]] = {}
        self._fresh = False  # nothing was there when the pass began: what is there now is of this pass
        self._new = self._kept = 0

    async def _write(self, work: Callable[[sqlite3.Connection], T]) -> T:
        return await self._group.write(work)

    async def keep(self, text: str, overrides: Mapping[str, object], rehearsed: bool) -> None:
        """Keep every manifest that was used, with what was set beside it."""
        beside = json.dumps(dict(overrides), ensure_ascii=False)
        digest = hashlib.sha256(f"{text}\0{beside}".encode("utf-8", "surrogatepass")).hexdigest()
        row = (digest, text, beside, rehearsed, records.now())
        await self._write(
            lambda db: db.execute("INSERT OR REPLACE INTO manifests VALUES (?, ?, ?, ?, ?)", row).rowcount
        )

    async def begin(self) -> bool:
        """Until the end, nobody may take what is queued for what is wanted. What rows were called is said again.

        Returns whether there is no task yet: each is new then.
        """

        def work(db: sqlite3.Connection) -> bool:
            db.execute("UPDATE job SET enqueued = ?", (UNFINISHED,))
            db.execute("DELETE FROM names")
            return records.last_task(db) == 0

        self._fresh = await self._write(work)
        return self._fresh

    async def add(self, tasks: Sequence[Task], names: Sequence[Name] = ()) -> None:
        """Add the tasks that are not there yet. Twice is as good as once."""

        def work(db: sqlite3.Connection) -> int:
            try:
                return self._put(db, tasks, names)
            except BaseException:
                self._variant_ids.clear()  # their rows are taken back
                self._made_ids.clear()
                raise

        new = await self._write(work)
        self._new, self._kept = self._new + new, self._kept + len(tasks) - new

    async def sample(self, tasks: Sequence[Task], names: Sequence[Name], fingerprint: str | None) -> None:
        """Add some of a manifest's tasks. Of another one than was enqueued last, nobody knows what it drops.

        Without a fingerprint it is known: they only take the place of others.
        """

        def work(db: sqlite3.Connection) -> None:
            known = records.known_tasks(db, [task.mark for task in tasks])
            db.executemany("DELETE FROM names WHERE task = ?", [(seq,) for seq, *_ in known.values()])
            self._put(db, tasks, names)
            if fingerprint is not None:
                db.execute("UPDATE job SET enqueued = ? WHERE enqueued NOT IN ('', ?)", (UNFINISHED, fingerprint))

        await self._write(work)

    async def end(self, fingerprint: str) -> Change:
        """Drop what was not met: kept and counted, but not bought any more."""

        def work(db: sqlite3.Connection) -> int:
            most = 0 if self._all_asked(records.last_task(db)) else -1  # to look at each holds up settlements
            rows = db.execute("SELECT wanted, seq FROM tasks WHERE wanted IN ('yes', 'waived') LIMIT ?", (most,))
            gone = [(_LEFT[wanted], seq) for wanted, seq in rows if not self._is_asked(seq)]
            db.executemany("UPDATE tasks SET wanted = ? WHERE seq = ?", gone)
            db.execute("UPDATE job SET enqueued = ?", (fingerprint,))
            return sum(left == "dropped" for left, _ in gone)

        return Change(self._new, self._kept, await self._write(work))

    def _put(self, db: sqlite3.Connection, tasks: Sequence[Task], names: Sequence[Name]) -> int:
        """How many of the tasks were new."""
        known = {} if self._fresh else records.known_tasks(db, [task.mark for task in tasks])
        for task in tasks if known else ():
            if task.key in known:
                self._keep(db, task, known[task.key])
        new = self._add(db, [task for task in tasks if task.key not in known] if known else tasks)
        self._replace(db, [task for task in tasks if task.replaces])
        if names:
            there = records.known_tasks(db, [mark for mark, _ in names])
            rows = [(there[mark[1]][0], name) for mark, name in names if mark[1] in there]
            db.executemany("INSERT OR IGNORE INTO names VALUES (?, ?)", rows)
        return new

    def _keep(self, db: sqlite3.Connection, task: Task, found: records.Known) -> None:
        seq, state, wanted, before, path = found
        variant = self._variant_id(db, task.variant)
        self._ask(seq, seq)
        if wanted not in _LEFT:
            db.execute("UPDATE tasks SET wanted = ? WHERE seq = ?", (_BACK.get(wanted, "yes"), seq))
        if task.inputs:  # the same bytes may lie elsewhere by now
            records.add_inputs(db, seq, task.inputs)
        if (before, path) != (variant, task.path):
            made = state in ("doing", "done")  # what is there keeps its name, and what was asked for it
            path, variant = (path, self._made(db, before, task.variant)) if made else (task.path, variant)
            db.execute("UPDATE tasks SET variant = ?, path = ? WHERE seq = ?", (variant, path, seq))

    def _replace(self, db: sqlite3.Connection, tasks: Sequence[Task]) -> None:
        """Let those whose place these take say so; the bill for them stays where it is."""
        marks = [mark for task in tasks for mark in task.replaces]
        known = records.known_tasks(db, marks)
        for task in tasks:
            for key, by in successions(task.replaces, task.key, known):
                seq = known[key][0]
                self._ask(seq, seq)
                db.execute("UPDATE tasks SET wanted = ? WHERE seq = ?", (by, seq))

    def _add(self, db: sqlite3.Connection, tasks: Sequence[Task]) -> int:
        """Add them, all at once; how many there were: one may be among them twice."""
        prompts = records.prompt_ids(db, list({task.prompt: None for task in tasks}))
        rows = [
            (task.key, task.variant.provider, self._variant_id(db, task.variant), prompts[task.prompt])
            + (task.sample, task.take, task.path, task.input_tokens)
            for task in tasks
        ]
        new = 0
        for at in range(0, len(rows), ROWS):  # many at a time: between two of them other threads would have their turn
            some = rows[at : at + ROWS]
            done = db.execute(
                "INSERT OR IGNORE INTO tasks (key, pool, variant, prompt, sample, take, path, input_tokens)"
                f" VALUES {', '.join(['(?, ?, ?, ?, ?, ?, ?, ?)'] * len(some))}",
                [*chain.from_iterable(some)],
            )
            if done.rowcount:
                assert done.lastrowid
                self._ask(done.lastrowid - done.rowcount + 1, done.lastrowid)
                new += done.rowcount
        if edits := [task for task in tasks if task.inputs]:
            added = records.known_tasks(db, [task.mark for task in edits])
            for task in edits:
                records.add_inputs(db, added[task.key][0], task.inputs)
        return new

    def _ask(self, first: int, last: int) -> None:
        if last >= len(self._asked):
            self._asked.extend(bytes(max(last + 1, 2 * len(self._asked)) - len(self._asked)))
        self._asked[first : last + 1] = b"\1" * (last + 1 - first)

    def _is_asked(self, seq: int) -> bool:
        return seq < len(self._asked) and bool(self._asked[seq])

    def _all_asked(self, last: int) -> bool:
        return self._asked.count(1, 1, last + 1) == last

    def _made(self, db: sqlite3.Connection, before: int, now: Variant) -> int:
        """What was asked for then, under the axes of now."""
        if (before, id(now)) not in self._made_ids:
            (params,) = db.execute("SELECT params FROM variants WHERE id = ?", (before,)).fetchone()
            then = replace(now, params=tuple(sorted(json.loads(params).items())))
            self._made_ids[before, id(now)] = (then, self._variant_id(db, then))
        return self._made_ids[before, id(now)][1]

    def _variant_id(self, db: sqlite3.Connection, variant: Variant) -> int:
        if id(variant) not in self._variant_ids:
            columns = (variant.provider, variant.model, str(variant.operation))
            values = (*columns, canonical(dict(variant.params)), json.dumps(dict(variant.axes), ensure_ascii=False))
            db.execute(
                "INSERT OR IGNORE INTO variants (provider, model, operation, params, axes) VALUES (?, ?, ?, ?, ?)",
                values,
            )
            select = "SELECT id FROM variants WHERE (provider, model, operation, params, axes) = (?, ?, ?, ?, ?)"
            (found,) = db.execute(select, values).fetchone()
            self._variant_ids[id(variant)] = (variant, found)
        return self._variant_ids[id(variant)][1]


_LEFT = {"yes": "dropped", "waived": "forgone"}
"""What a task becomes that the manifest asks for no more: who gave it up by hand is still heard when it does again."""
_BACK = {left: wanted for wanted, left in _LEFT.items()}
