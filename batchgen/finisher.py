"""Finishing in groups: answers made durable, read, and their images saved, off the event loop.

A disk is slow at making names durable, and a thread at being woken; both are done once for all the answers that wait.
"""

import asyncio
import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from queue import SimpleQueue
from threading import Thread
from typing import Any, Self

import anyio
import anyio.to_thread

from batchgen import disk
from batchgen.disk import Unsynced
from batchgen.spool import Spool
from batchgen.wire import Reply

SPARES = 64  # files that are written over, not removed and made
BACKLOG = 16  # answers that may wait to be saved while others are asked for in their place
GROUP_MOST = 2 * 2**20  # bytes of answers that are worked on together; what waits beyond it wakes another thread
GRACE = 2.0  # seconds for what is being written
FEW = 4  # threads that save: with more, each answer has one to itself
Step = Callable[[Sequence["Work"]], None]
Read = Callable[[Reply | None, Unsynced], Any]
"""What is made of a reply that is durable; None where the one of before a crash was damaged."""


@dataclass(slots=True, eq=False)
class Work:
    """The k-th reply of an attempt, fresh, or as the spool holds it; the 0th is not kept.

    `sealed` is called once it is durable, where it is no refusal.
    """

    attempt: str
    k: int
    reply: Reply | None
    read: Read
    sealed: Callable[[], None]
    kept: asyncio.Event
    done: "asyncio.Future[Any]"
    size: int
    result: Any = None
    error: BaseException | None = None

    def attempted(self, step: Callable[[], None]) -> None:
        """Do it, unless something went wrong before; who waits for it is told, and nobody else."""
        if self.error is None:
            try:
                step()
            except BaseException as error:
                self.error = error

    def seal(self, unsynced: Unsynced, spool: Spool) -> None:
        if not self.k:
            return
        if self.reply:
            self.reply = spool.seal(self.attempt, self.k, self.reply, unsynced)
        else:
            self.reply = spool.load(self.attempt, self.k)

    def finish(self, unsynced: Unsynced) -> None:
        self.result = self.read(self.reply, unsynced)

    @property
    def free(self) -> bool:
        """Whether its connection is needed no more; a no may have something to say first to those that wait for it."""
        return self.error is None and self.reply is not None and 200 <= self.reply.status < 300


class Line:
    """What waits for one kind of work, and how many threads are at it."""

    def __init__(self, most: int, bytes: int = GROUP_MOST) -> None:
        self.most = most
        self.bytes = bytes
        self.busy = 0
        self.waiting: deque[Work] = deque()

    def taken(self) -> list[Work]:
        """What is worked on next: all that waits, up to a bound."""
        group: list[Work] = []
        with suppress(IndexError):  # nothing is left
            while sum(work.size for work in group) < self.bytes:
                group.append(self.waiting.popleft())
        return group


class Finisher:
    """Callers `await finish(…)`; it is done in threads, whoever is told to leave meanwhile.

    One makes replies durable, so that connections are free again soon; others read what is, and save the images.
    """

    def __init__(self, spool: Spool, wide: int) -> None:
        """`wide` is how many threads save: some stores are fast with a few, for others each has to wait."""
        self._spool = spool
        self._sealing, self._saving = Line(1), Line(wide, GROUP_MOST if wide <= FEW else 1)
        self._tasks: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        self._threads = [Thread(target=self._serve, name="finisher", daemon=True) for _ in range(1 + wide)]
        for thread in self._threads:  # now, as there may be no memory for them when the first answer is here
            thread.start()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        """Nobody waits any more; one who was told to leave at once leaves behind what a bucket has not answered yet."""
        with anyio.CancelScope(shield=True):
            await anyio.to_thread.run_sync(self._close)

    def _close(self) -> None:
        for _ in self._threads:
            self._tasks.put(None)
        until = time.monotonic() + GRACE
        for thread in self._threads:
            thread.join(max(0.0, until - time.monotonic()))
        self._spool.sweep()

    def _serve(self) -> None:
        while task := self._tasks.get():
            task()

    async def finish(self, attempt: str, k: int, reply: Reply | None, read: Read, sealed: Callable[[], None]) -> Any:
        """What `read` returned, once all that it wrote is on the disk; what it raised is raised here."""
        done, kept = asyncio.get_running_loop().create_future(), asyncio.Event()
        size = max(1, reply.weight) if reply else 1
        work = Work(attempt, k, reply, read, sealed, kept, done, size)
        self._begin(self._sealing, [work], self._seal)
        with anyio.CancelScope(shield=True):
            await kept.wait()
        return await done  # who is told to leave need not wait for a bucket: what is kept, the next run finishes

    def _begin(self, line: Line, group: Sequence[Work], step: Callable[[Sequence[Work]], Step]) -> None:
        """Put a group in line, and wake a thread for it, another one only where much waits."""
        line.waiting.extend(group)
        groups = 1 + sum(work.size for work in tuple(line.waiting)) // line.bytes  # a thread may take some meanwhile
        while line.waiting and line.busy < min(line.most, groups):
            line.busy += 1
            self._tasks.put(partial(self._work_off, line, step, asyncio.get_running_loop()))

    def _work_off(self, line: Line, step: Callable[[Sequence[Work]], Step], loop: asyncio.AbstractEventLoop) -> None:
        with suppress(RuntimeError):  # the loop is closed: nobody waits any more
            while group := line.taken():
                loop.call_soon_threadsafe(_stepped(step, group), group)
            loop.call_soon_threadsafe(self._rest, line, step)

    def _rest(self, line: Line, step: Callable[[Sequence[Work]], Step]) -> None:
        line.busy -= 1
        self._begin(line, (), step)

    def _seal(self, group: Sequence[Work]) -> Step:
        _in_step(group, partial(Work.seal, spool=self._spool))
        return self._sealed

    def _sealed(self, group: Sequence[Work]) -> None:
        """Free their connections, but for those of which too many wait to be saved: else more and more would."""
        room = BACKLOG - len(self._saving.waiting)
        for work in group:
            work.kept.set()
        self._begin(self._saving, group, self._save)
        for work in [work for work in group if work.free][: max(0, room)]:
            work.sealed()

    def _save(self, group: Sequence[Work]) -> Step:
        _in_step(group, Work.finish)
        self._spool.sweep(SPARES)
        return _over


def _stepped(step: Callable[[Sequence[Work]], Step], group: Sequence[Work]) -> Step:
    """What comes next; where a step fails as a whole, everybody is told."""
    try:
        return step(group)
    except BaseException as error:
        for work in group:
            work.error = work.error or error
        return _over


def _over(group: Sequence[Work]) -> None:
    for work in group:
        work.kept.set()
        if work.done.done():  # nobody listens
            continue
        if work.error:
            work.done.set_exception(work.error)
        else:
            work.done.set_result(work.result)


def _in_step(group: Sequence[Work], step: Callable[[Work, Unsynced], None]) -> None:
    """One step of each; then the names that they changed are made durable, each folder once."""
    unsynced = Unsynced()
    for work in group:
        work.attempted(partial(step, work, unsynced))
    try:
        with disk.storage("the run folder"):
            unsynced.sync()
    except BaseException as error:
        for work in group:
            work.error = work.error or error
