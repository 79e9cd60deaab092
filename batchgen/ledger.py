"""The ledger: tasks, attempts and images in SQLite. All SQL that writes is here and in schema.sql."""

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

from batchgen import __version__, books, commit, decide, disk, records
from batchgen.batchbook import BatchBook
from batchgen.errors import StorageError
from batchgen.losses import Losses
from batchgen.pace import Learned
from batchgen.task import Attempt, AttemptState, Operation, Settlement, Task, TaskState, Variant
from batchgen.wanted import Wanted

T = TypeVar("T")


class Forgotten(Exception):
    """The provider knows no more of a purchase that was to be asked for again."""


@dataclass(frozen=True, slots=True)
class Spent:
    """What all attempts ever made may have cost at most (nano-dollars), and how many images they asked for."""

    high: int
    images: int
    allowance: int


def create(path: Path, name: str, project: str, manifest: str) -> None:
    """Make an empty ledger under a temporary name, then rename it: it is whole or not there."""
    part = path.with_name(f".{path.name}.part")
    with disk.storage("the ledger"):
        for ending in ("", "-journal", "-wal", "-shm"):
            part.with_name(part.name + ending).unlink(missing_ok=True)
        os.close(os.open(part, disk.NEW, 0o600))
        try:
            _fill(part, (name, project, manifest, records.now(), uuid.uuid4().hex))
        except sqlite3.Error as error:
            raise StorageError(f"{path} cannot be made: {error}. Nothing was sent.") from error
        disk.sync_file(part)
        os.rename(part, path)
        disk.sync_folder(path.parent)


def _fill(path: Path, job: tuple[str, ...]) -> None:
    with closing(sqlite3.connect(path)) as db:
        db.executescript("BEGIN; " + (files("batchgen") / "schema.sql").read_text(encoding="utf-8"))
        db.execute("INSERT INTO job (name, project, manifest, created_at, mark) VALUES (?, ?, ?, ?, ?)", job)
        db.commit()
        # Here already: a change of mode that is cut off later would leave a journal that readers trip over.
        db.execute("PRAGMA journal_mode = WAL")


def move(path: Path, store: str) -> None:
    """Write down where images will lie. The caller holds the folder, and nothing was sent yet."""
    try:
        with closing(sqlite3.connect(path)) as db, db:
            db.execute("UPDATE job SET store = ?", (store,))
    except sqlite3.Error as error:
        raise StorageError(f"{path} cannot be written: {error}. Nothing was sent.") from error


@asynccontextmanager
async def open_for_writing(path: Path, whole: bool = True) -> AsyncIterator["Ledger"]:
    """The ledger of a run; the caller holds the folder's lock.

    With `whole` every page is looked at first, which takes seconds in a ledger of a million tasks: nothing may be sent
    without.
    """
    _check(path, whole)
    async with commit.writer(path) as group:
        ledger = Ledger(group)
        await ledger.start()
        yield ledger


class Ledger:
    """What a run writes. Each method is one transaction, on the disk when it returns."""

    def __init__(self, group: commit.GroupCommit) -> None:
        self._group = group
        self._variants: dict[int, Variant] = {}
        self._scope = "wanted = 'yes'"
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

    @property
    def name(self) -> str:
        """The run that this process is, as control.name tells it by its row."""
        return f"{self.run}/{os.getpid()}/{socket.gethostname()}"

    async def wait(self, waits: str, throttle: str) -> None:
        """Note what is waited for, and how fast the lanes go, as JSON, for those who look at the ledger."""
        sql = "UPDATE runs SET waits = ?, throttle = ? WHERE id = ?"
        await self._write(lambda db: db.execute(sql, (waits, throttle, self.run)).rowcount)

    async def quotas(self, scope: str) -> list[Learned]:
        """What earlier runs learned of an account's limits."""
        sql = "SELECT kind, per_minute, source FROM quotas WHERE scope = ?"
        return await self._write(lambda db: [Learned(*row) for row in db.execute(sql, (scope,)).fetchall()])

    async def keep_lanes(self, lanes: Sequence[tuple[str, str, str, str]]) -> None:
        """Remember by which lanes providers are asked: name, provider, account, and why it is blocked.

        What is open goes to the lane that has its account now: by another key, nobody there knows of it.
        """
        await self._write(lambda db: records.keep_lanes(db, lanes))

    async def learn(self, scope: str, lane: str, learned: Sequence[Learned]) -> None:
        """Remember all that is known of an account's limits now."""

        def work(db: sqlite3.Connection) -> None:
            db.execute("DELETE FROM quotas WHERE scope = ?", (scope,))
            rows = [(scope, each.kind, lane, each.per_minute, each.source, records.now()) for each in learned]
            db.executemany("INSERT INTO quotas VALUES (?, ?, ?, ?, ?, ?)", rows)

        await self._write(work)

    async def end(self, exit_code: int, reason: str) -> None:
        await self._write(
            lambda db: (
                db.execute(
                    "UPDATE runs SET ended_at = ?, exit_code = ?, reason = ?, waits = '[]' WHERE id = ?",
                    (records.now(), exit_code, reason, self.run),
                ).rowcount
            )
        )

    # what is wanted

    def wanted(self) -> Wanted:
        """A pass over what a manifest asks for."""
        return Wanted(self._group)

    @property
    def batches(self) -> BatchBook:
        """What is handed over together."""
        return BatchBook(self._group, self.run, self._task, lambda: self._scope)

    @property
    def losses(self) -> Losses:
        """What was made elsewhere, and given up."""
        return Losses(self._group, self._task)

    async def choose(self, tasks: Sequence[Task]) -> None:
        """From now on only these are claimed and counted."""

        def work(db: sqlite3.Connection) -> None:
            db.execute("CREATE TEMP TABLE chosen (seq INTEGER PRIMARY KEY)")
            rows = [known[:1] for known in records.known_tasks(db, [task.mark for task in tasks]).values()]
            db.executemany("INSERT INTO chosen VALUES (?)", rows)

        await self._write(work)
        self._scope = "wanted = 'yes' AND seq IN (SELECT seq FROM chosen)"

    async def reopen(self, states: Sequence[TaskState]) -> int:
        """Send tasks that ended without an image back to the queue, with fresh tries."""
        return await self._write(lambda db: decide.reopen(db, states))

    # buying

    async def claim(self, pool: str, most: int) -> list[Task]:
        """Take up to `most` tasks, in the manifest's order; they are `doing` from now on."""

        def work(db: sqlite3.Connection) -> list[Task]:
            rows = db.execute(
                "UPDATE tasks SET state = 'doing' WHERE seq IN (SELECT seq FROM tasks WHERE pool = ? AND state = 'todo'"
                f" AND {self._scope} ORDER BY seq LIMIT ?) RETURNING seq",
                (pool, most),
            ).fetchall()
            return [self._task(db, seq) for (seq,) in sorted(rows)]

        return await self._write(work)

    def _task(self, db: sqlite3.Connection, seq: int) -> Task:
        key, variant, prompt, sample, take, path, tokens, tries, replay = db.execute(
            "SELECT t.key, t.variant, p.text, t.sample, t.take, t.path, t.input_tokens, t.tries, t.replay"
            " FROM tasks t JOIN prompts p ON p.id = t.prompt WHERE t.seq = ?",
            (seq,),
        ).fetchone()
        known = self._variant(db, variant)
        counted, scope = records.counted(db, seq) if replay else (0, "")
        inputs = () if known.operation is Operation.GENERATE else records.inputs(db, seq)
        return Task(key, known, prompt, sample, take, path, inputs, tokens, seq, tries, bool(replay), counted, scope)

    def _variant(self, db: sqlite3.Connection, found: int) -> Variant:
        if found not in self._variants:
            select = "SELECT provider, model, operation, params, axes FROM variants WHERE id = ?"
            self._variants[found] = records.variant(db.execute(select, (found,)).fetchone())
        return self._variants[found]

    async def release(self, tasks: Sequence[Task]) -> None:
        """Put claimed tasks back, unbought."""
        rows = [(task.seq,) for task in tasks]
        sql = "UPDATE tasks SET state = 'todo' WHERE seq = ? AND state = 'doing'"
        await self._write(lambda db: db.executemany(sql, rows).rowcount)

    async def begin(
        self, task: Task, lane: str, engine: str, cost_high: int | None, lifetime: float = 0.0, scope: str = ""
    ) -> Attempt:
        """Write down that a task is being sent, at its highest price. Only after this may the socket be opened.

        Forgotten where it may be sent again only under a key that the provider, who remembers keys for `lifetime`
        seconds, has forgotten by now, or never knew: `scope` is whom the key is told, and as whom.
        """

        def work(db: sqlite3.Connection) -> Attempt:
            sent = records.now()
            purchase, since = records.purchase(db, task, sent, scope)
            attempt = Attempt(uuid.uuid4().hex, task, purchase, lane, cost_high, "", sent, since, engine=engine)
            if task.replay and (since == sent or not attempt.remembered(lifetime)):
                raise Forgotten
            db.execute(
                "INSERT INTO attempts"
                " (id, task, run, purchase, scope, lane, engine, state, images, cost_low, cost_high, sent_at)"
                " VALUES (?, ?, ?, ?, ?, ?, ?, 'sending', ?, ?, ?, ?)",
                (attempt.id, task.seq, self.run, attempt.purchase, scope, lane, engine, task.variant.images)
                + (None if cost_high is None else 0, cost_high, attempt.sent),
            )
            return attempt

        return await self._write(work)

    async def hold(self, task: Task) -> None:
        """It may have been paid, and must not be sent again by itself."""
        sql = "UPDATE tasks SET state = 'held', replay = 0 WHERE seq = ?"
        await self._write(lambda db: db.execute(sql, (task.seq,)).rowcount)

    async def settle(self, attempt: Attempt, settled: Settlement) -> records.Relief:
        """Write down how an attempt ended, its usage, cost and images, and what becomes of its task: all or nothing.

        Returns what earlier sendings of its purchase counted for and now do not.
        """

        def work(db: sqlite3.Connection) -> records.Relief:
            row = records.settle_attempt(db, attempt, settled)
            for image in settled.images:
                records.add_image(db, attempt.task.seq, row, image)
            db.execute(
                "UPDATE tasks SET state = ?, tries = tries + ?, replay = ? WHERE seq = ?",
                (str(settled.task), settled.used_up, settled.replay, attempt.task.seq),
            )
            return records.relieve(db, attempt, settled) if settled.sole else records.NO_RELIEF

        return await self._write(work)

    async def accept(self, attempt: Attempt) -> None:
        """The provider holds what was bought, under its handle: asking again is free, buying again is not."""
        sql = "UPDATE attempts SET state = 'accepted', handle = ? WHERE id = ? AND state IN ('sending', 'accepted')"
        await self._write(lambda db: db.execute(sql, (attempt.handle, attempt.id)).rowcount)

    # on start

    async def open_attempts(self) -> list[Attempt]:
        """What an earlier run sent by itself and did not settle, or left over of a batch that is over."""

        def work(db: sqlite3.Connection) -> list[Attempt]:
            rows = db.execute(
                "SELECT a.id, a.task, a.purchase, a.lane, a.cost_high, a.handle, a.sent_at, iif(a.batch, '',"
                " (SELECT min(b.sent_at) FROM attempts b WHERE b.task = a.task AND b.purchase = a.purchase)), a.engine"
                " FROM attempts a LEFT JOIN batches c ON c.seq = a.batch WHERE a.state IN ('sending', 'accepted')"
                " AND (c.state IS NULL OR c.state = 'over') ORDER BY a.seq"
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

    async def untouched(self) -> bool:
        """Whether nothing was ever sent, as far as the ledger knows."""
        return await self._write(lambda db: db.execute("SELECT 1 FROM attempts LIMIT 1").fetchone() is None)

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
        """How many of the tasks that this run is about are in each state."""
        sql = f"SELECT state, count(*) FROM tasks WHERE {self._scope} GROUP BY state"
        rows = await self._write(lambda db: db.execute(sql).fetchall())
        found = {TaskState(state): count for state, count in rows}
        return {state: found.get(state, 0) for state in TaskState}


def _check(path: Path, whole: bool) -> None:
    try:
        db = sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)
    except sqlite3.Error as error:
        raise StorageError(f"{path} cannot be opened: {error}") from None
    try:
        books.check_version(db, path)
        (damage,) = db.execute("PRAGMA quick_check(1)").fetchone() if whole else ("ok",)
    except (sqlite3.DatabaseError, UnicodeDecodeError) as error:
        raise StorageError(f"{path} is no readable ledger: {error}") from None
    finally:
        db.close()
    if damage != "ok":
        raise StorageError(f"{path} is damaged ({damage}): nothing was sent. Put a backup of it in its place.")
