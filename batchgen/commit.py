"""Group commit: many callers' changes in one transaction, on the one connection that writes.

The connection belongs to one task, the owner. It takes all that waits, runs each call inside a savepoint of its own,
and commits once; only then does any caller go on. A call that fails takes back its own changes and nobody else's; a
commit that fails fails every caller, and the connection writes no more: what reached the disk is then unknown.
"""

import sqlite3
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import aiosqlite
import anyio

from batchgen.errors import StorageError, alone

T = TypeVar("T")
ROOM = ("cache_size = -8192", "wal_autocheckpoint = 4000")  # KiB and pages
CALLERS_OWN = (sqlite3.IntegrityError, sqlite3.ProgrammingError, sqlite3.DataError)
Work = Callable[[sqlite3.Connection], Any]


@dataclass(slots=True)
class Call:
    """One caller's change: plain blocking code, so that nothing can cut it in the middle."""

    work: Work
    done: anyio.Event = field(default_factory=anyio.Event)
    result: Any = None
    error: BaseException | None = None

    def run(self, db: sqlite3.Connection) -> None:
        db.execute("SAVEPOINT caller")
        try:
            self.result = self.work(db)
        except Exception as error:
            if isinstance(error, sqlite3.DatabaseError) and not isinstance(error, CALLERS_OWN):
                raise  # the disk is full or failing: nobody's call can stand
            self._undo(db, error)
        else:
            db.execute("RELEASE caller")

    def _undo(self, db: sqlite3.Connection, error: BaseException) -> None:
        self.error = error
        db.execute("ROLLBACK TO caller")
        db.execute("RELEASE caller")


class GroupCommit:
    """Callers `await write(work)`; it returns what `work` returned, once that is on the disk."""

    def __init__(self, connection: aiosqlite.Connection) -> None:
        self._connection = connection
        self._waiting: list[Call] = []
        self._wake = anyio.Event()
        self._closing = False
        self._broken: StorageError | None = None

    async def write(self, work: Callable[[sqlite3.Connection], T]) -> T:
        if self._broken or self._closing:
            raise self._broken or StorageError("the ledger is closed")
        call = Call(work)
        self._waiting.append(call)
        self._wake.set()
        with anyio.CancelScope(shield=True):  # it will be committed; its caller must know
            await call.done.wait()
        if call.error:
            raise call.error
        return call.result  # type: ignore[no-any-return]  # a Call holds work of any kind

    async def own(self) -> None:
        """Serve until closed. Shielded: a cancelled run still settles what it bought."""
        with anyio.CancelScope(shield=True):
            try:
                while not (self._closing and not self._waiting):
                    await self._wake.wait()
                    self._wake = anyio.Event()
                    await self._commit_waiting()
            finally:
                self._fail(self._waiting, StorageError("the ledger's owner ended"))

    def close(self) -> None:
        self._closing = True
        self._wake.set()

    async def _commit_waiting(self) -> None:
        calls, self._waiting = self._waiting, []
        if not calls:
            return
        try:
            if self._broken:
                raise self._broken
            # The whole group is one hop to the connection's thread; aiosqlite has no public door for that.
            await self._connection._execute(_transact, self._connection._conn, calls)  # type: ignore[no-untyped-call]
        except Exception as error:
            self._broken = error if isinstance(error, StorageError) else _unwritable(error)
            self._fail(calls, self._broken)
        except BaseException:
            self._fail(calls, StorageError("the ledger's owner ended"))
            raise
        for call in calls:
            call.done.set()

    def _fail(self, calls: list[Call], error: StorageError) -> None:
        for call in calls:
            call.error = error
            call.done.set()


def _transact(db: sqlite3.Connection, calls: list[Call]) -> None:
    db.execute("BEGIN IMMEDIATE")
    try:
        for call in calls:
            call.run(db)
        db.execute("COMMIT")
    except BaseException:
        if db.in_transaction:
            db.execute("ROLLBACK")
        raise


def _unwritable(error: Exception) -> StorageError:
    return StorageError(
        f"the ledger cannot be written: {error}. Nothing that was paid for is lost: "
        "free the space or mend the disk, then run the same command again."
    )


@asynccontextmanager
async def writer(path: Path) -> AsyncIterator[GroupCommit]:
    """Open the one connection that writes, and its owner; both end with the block, whatever ends it."""
    try:
        connection = await aiosqlite.connect(path, isolation_level=None)
    except sqlite3.Error as error:
        raise _unwritable(error) from error
    try:
        for pragma in ("journal_mode = WAL", "synchronous = FULL", "foreign_keys = ON", "busy_timeout = 60000", *ROOM):
            await connection.execute_fetchall(f"PRAGMA {pragma}")
        group = GroupCommit(connection)
        with alone():
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(group.own)
                try:
                    yield group
                finally:
                    group.close()
    finally:
        with anyio.CancelScope(shield=True):
            await connection.close()
