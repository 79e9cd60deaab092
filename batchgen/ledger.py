"""The ledger: tasks, attempts and images in SQLite. All SQL that writes is here and in schema.sql."""

import hashlib
import json
import os
import socket
import sqlite3
import uuid
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, closing
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import TypeVar

from batchgen import __version__, commit, disk, records
from batchgen.errors import StorageError
from batchgen.task import Attempt, AttemptState, Operation, Settlement, Task, TaskState, Variant, canonical

SCHEMA_VERSION = 1
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Change:
    """How what is wanted differs from what the ledger held before."""

    new: int
    kept: int
    dropped: int


@dataclass(frozen=True, slots=True)
class Spent:
    """What all attempts ever made may have cost at most (nano-dollars), and how many images they asked for."""

    high: int
    images: int
    allowance: int


@dataclass(frozen=True, slots=True)
class Volume:
    """How much of one variant is wanted: tasks, their prompts' bytes, and those of the longest."""

    variant: Variant
    tasks: int
    prompt_bytes: int
    longest: int


def create(path: Path, name: str, project: str, manifest: str) -> None:
    """Make an empty ledger under a temporary name, then rename it: it is whole or not there."""
    part = path.with_name(f".{path.name}.part")
    with disk.storage("the ledger"):
        for ending in ("", "-journal", "-wal", "-shm"):
            part.with_name(part.name + ending).unlink(missing_ok=True)
        os.close(os.open(part, disk.NEW, 0o600))
        try:
            _fill(part, (name, project, manifest, records.now()))
        except sqlite3.Error as error:
            raise StorageError(f"{path} cannot be made: {error}. Nothing was sent.") from error
        disk.sync_file(part)
        os.rename(part, path)
        disk.sync_folder(path.parent)


def _fill(path: Path, job: tuple[str, str, str, str]) -> None:
    with closing(sqlite3.connect(path)) as db:
        db.executescript("BEGIN; " + (files("batchgen") / "schema.sql").read_text(encoding="utf-8"))
        db.execute("INSERT INTO job VALUES (?, ?, ?, ?)", job)
        db.commit()
        # Here already: a change of mode that is cut off later would leave a journal that readers trip over.
        db.execute("PRAGMA journal_mode = WAL")


@asynccontextmanager
async def open_for_writing(path: Path) -> AsyncIterator["Ledger"]:
    """The ledger of a run; the caller holds the folder's lock."""
    _check(path)
    async with commit.writer(path) as group:
        ledger = Ledger(group)
        await ledger.start()
        yield ledger


class Ledger:
    """What a run writes. Each method is one transaction, on the disk when it returns."""

    def __init__(self, group: commit.GroupCommit) -> None:
        self._group = group
        self._variants: dict[int, Variant] = {}
        self._variant_ids: dict[int, tuple[Variant, int]] = {}  # by id(): hashing one costs more than all the rest
        self.run = 0

    async def _write(self, work: Callable[[sqlite3.Connection], T]) -> T:
        return await self._group.write(work)

    async def start(self) -> None:
        """Note that this process works here from now on."""

        def work(db: sqlite3.Connection) -> int:
            cursor = db.execute(
                "INSERT INTO runs (started_at, version, pid, host) VALUES (?, ?, ?, ?)",
                (records.now(), __version__, os.getpid(), socket.gethostname()),
            )
            return cursor.lastrowid or 0

        self.run = await self._write(work)

    async def end(self, exit_code: int, reason: str) -> None:
        await self._write(
            lambda db: (
                db.execute(
                    "UPDATE runs SET ended_at = ?, exit_code = ?, reason = ? WHERE id = ?",
                    (records.now(), exit_code, reason, self.run),
                ).rowcount
            )
        )

    # what is wanted

    async def enqueue(self, tasks: Sequence[Task], lane: str) -> tuple[int, int]:
        """Add the tasks that are not there yet; returns how many were (new, kept). Twice is as good as once."""

        def work(db: sqlite3.Connection) -> tuple[int, int]:
            new = sum(self._add(db, task, lane) for task in tasks)
            return new, len(tasks) - new

        try:
            return await self._write(work)
        except BaseException:
            self._variant_ids.clear()  # their rows may have been taken back
            raise

    def _add(self, db: sqlite3.Connection, task: Task, lane: str) -> int:
        wanted = "UPDATE tasks SET wanted = 'yes', seen = ? WHERE key = ?"
        if db.execute(wanted, (self.run, task.key)).rowcount:
            return 0
        db.execute(
            "INSERT INTO tasks (key, lane, variant, prompt, sample, take, path, seen) VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            (task.key, lane, self._variant_id(db, task.variant), records.prompt_id(db, task.prompt))
            + (task.sample, task.take, task.path, self.run),
        )
        return 1

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

    async def drop_unseen(self) -> int:
        """Mark what this run's manifest no longer asks for; kept and counted, but not bought any more."""
        sql = "UPDATE tasks SET wanted = 'dropped' WHERE wanted = 'yes' AND seen <> ?"
        return await self._write(lambda db: db.execute(sql, (self.run,)).rowcount)

    async def keep_manifest(self, text: str) -> None:
        """Keep every manifest that was used."""
        row = (hashlib.sha256(text.encode()).hexdigest(), text, records.now())
        await self._write(lambda db: db.execute("INSERT OR REPLACE INTO manifests VALUES (?, ?, ?)", row).rowcount)

    # buying

    async def claim(self, lane: str, most: int) -> list[Task]:
        """Take up to `most` tasks, in the manifest's order; they are `doing` from now on."""

        def work(db: sqlite3.Connection) -> list[Task]:
            rows = db.execute(
                "UPDATE tasks SET state = 'doing' WHERE seq IN (SELECT seq FROM tasks WHERE lane = ? AND state = 'todo'"
                " AND wanted = 'yes' ORDER BY seq LIMIT ?) RETURNING seq",
                (lane, most),
            ).fetchall()
            return [self._task(db, seq) for (seq,) in sorted(rows)]

        return await self._write(work)

    def _task(self, db: sqlite3.Connection, seq: int) -> Task:
        key, variant, prompt, sample, take, path, tries = db.execute(
            "SELECT t.key, t.variant, p.text, t.sample, t.take, t.path, t.tries"
            " FROM tasks t JOIN prompts p ON p.id = t.prompt WHERE t.seq = ?",
            (seq,),
        ).fetchone()
        return Task(key, self._variant(db, variant), prompt, sample, take, path, seq, tries)

    def _variant(self, db: sqlite3.Connection, found: int) -> Variant:
        if found not in self._variants:
            select = "SELECT provider, model, operation, params, axes FROM variants WHERE id = ?"
            provider, model, operation, params, axes = db.execute(select, (found,)).fetchone()
            self._variants[found] = Variant(
                provider, model, Operation(operation), records.pairs(params, sort=True), records.pairs(axes, sort=False)
            )
        return self._variants[found]

    async def release(self, tasks: Sequence[Task]) -> None:
        """Put claimed tasks back, unbought."""
        rows = [(task.seq,) for task in tasks]
        sql = "UPDATE tasks SET state = 'todo' WHERE seq = ? AND state = 'doing'"
        await self._write(lambda db: db.executemany(sql, rows).rowcount)

    async def begin(self, task: Task, lane: str, engine: str, cost_high: int | None) -> Attempt:
        """Write down that a task is being sent, at its highest price. Only after this may the socket be opened."""

        def work(db: sqlite3.Connection) -> Attempt:
            attempt = Attempt(uuid.uuid4().hex, task, records.purchase(db, task), lane, cost_high)
            db.execute(
                "INSERT INTO attempts"
                " (id, task, run, purchase, lane, engine, state, images, cost_low, cost_high, sent_at)"
                " VALUES (?, ?, ?, ?, ?, ?, 'sending', ?, ?, ?, ?)",
                (attempt.id, task.seq, self.run, attempt.purchase, lane, engine, task.variant.images)
                + (None if cost_high is None else 0, cost_high, records.now()),
            )
            return attempt

        return await self._write(work)

    async def settle(self, attempt: Attempt, settled: Settlement) -> None:
        """Write down how an attempt ended, its usage, cost and images, and what becomes of its task: all or nothing."""

        def work(db: sqlite3.Connection) -> None:
            row = records.settle_attempt(db, attempt, settled)
            for image in settled.images:
                records.add_image(db, attempt.task.seq, row, image)
            db.execute(
                "UPDATE tasks SET state = ?, tries = tries + ? WHERE seq = ?",
                (str(settled.task), settled.used_up, attempt.task.seq),
            )

        await self._write(work)

    async def accept(self, attempt: Attempt) -> None:
        """The provider holds what was bought: asking again is free, buying again is not."""
        sql = "UPDATE attempts SET state = 'accepted' WHERE id = ? AND state IN ('sending', 'accepted')"
        await self._write(lambda db: db.execute(sql, (attempt.id,)).rowcount)

    # on start

    async def open_attempts(self) -> list[Attempt]:
        """What an earlier run sent and did not settle."""

        def work(db: sqlite3.Connection) -> list[Attempt]:
            rows = db.execute(
                "SELECT id, task, purchase, lane, cost_high FROM attempts"
                " WHERE state IN ('sending', 'accepted') ORDER BY seq"
            ).fetchall()
            return [Attempt(row[0], self._task(db, row[1]), *row[2:]) for row in rows]

        return await self._write(work)

    async def release_orphans(self) -> int:
        """Put back what was claimed and never sent."""
        sql = (
            "UPDATE tasks SET state = 'todo' WHERE state = 'doing' AND seq NOT IN"
            " (SELECT task FROM attempts WHERE state IN ('sending', 'accepted'))"
        )
        return await self._write(lambda db: db.execute(sql).rowcount)

    async def attempt_states(self, ids: Sequence[str]) -> dict[str, AttemptState]:
        """The states of those of the attempts that there are."""
        sql = "SELECT state FROM attempts WHERE id = ?"

        def work(db: sqlite3.Connection) -> dict[str, AttemptState]:
            rows = {each: db.execute(sql, (each,)).fetchone() for each in ids}
            return {each: AttemptState(row[0]) for each, row in rows.items() if row}

        return await self._write(work)

    async def spent(self) -> Spent:
        """What was spent at most, over the life of the job."""
        sql = (
            "SELECT coalesce(sum(cost_high), 0),"
            " coalesce(sum(images) FILTER (WHERE state NOT IN ('rejected', 'unsent')), 0),"
            " coalesce(sum(allowance), 0) FROM attempts"
        )
        return await self._write(lambda db: Spent(*db.execute(sql).fetchone()))

    async def states(self) -> dict[TaskState, int]:
        """How many wanted tasks are in each state."""
        sql = "SELECT state, count(*) FROM tasks WHERE wanted = 'yes' GROUP BY state"
        rows = await self._write(lambda db: db.execute(sql).fetchall())
        found = {TaskState(state): count for state, count in rows}
        return {state: found.get(state, 0) for state in TaskState}

    async def volumes(self) -> list[Volume]:
        """What is wanted, by variant."""
        sql = (
            "SELECT t.variant, count(*), sum(length(CAST(p.text AS BLOB))), max(length(CAST(p.text AS BLOB)))"
            " FROM tasks t JOIN prompts p ON p.id = t.prompt WHERE t.wanted = 'yes' GROUP BY t.variant"
        )

        def work(db: sqlite3.Connection) -> list[Volume]:
            return [Volume(self._variant(db, row[0]), *row[1:]) for row in db.execute(sql).fetchall()]

        return await self._write(work)

    async def reopen(self, states: Sequence[TaskState]) -> int:
        """Send tasks that ended without an image back to the queue, with fresh tries."""
        marks = ", ".join("?" * len(states))
        sql = f"UPDATE tasks SET state = 'todo', tries = 0 WHERE wanted = 'yes' AND state IN ({marks})"
        return await self._write(lambda db: db.execute(sql, [str(state) for state in states]).rowcount)


def _check(path: Path) -> None:
    try:
        db = sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)
    except sqlite3.Error as error:
        raise StorageError(f"{path} cannot be opened: {error}") from None
    try:
        (version,) = db.execute("PRAGMA user_version").fetchone()
        (damage,) = db.execute("PRAGMA quick_check(1)").fetchone()
    except (sqlite3.DatabaseError, UnicodeDecodeError) as error:
        raise StorageError(f"{path} is no readable ledger: {error}") from None
    finally:
        db.close()
    if version != SCHEMA_VERSION:
        raise StorageError(
            f"{path} was written by another batchgen (schema {version}, this one reads {SCHEMA_VERSION})"
        )
    if damage != "ok":
        raise StorageError(f"{path} is damaged ({damage}): nothing was sent. Put a backup of it in its place.")
