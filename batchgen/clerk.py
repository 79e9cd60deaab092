"""What a batch needs at its provider before it is created: the files to edit, each once, and the file of its lines."""

import hashlib
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import anyio

from batchgen import batch as api
from batchgen import disk
from batchgen.batch import Batch
from batchgen.batchbook import BatchBook
from batchgen.body import LINES
from batchgen.counter import Counter
from batchgen.errors import ProviderError, Rejected
from batchgen.lane import Lane
from batchgen.task import Attempt, Input, Kind, Task
from batchgen.wire import Upload

Fail = Callable[[Attempt, ProviderError], Awaitable[None]]


@dataclass(slots=True)
class Clerk:
    """`folder` is where the lines are written."""

    lane: Lane
    book: BatchBook
    counter: Counter
    folder: Path
    _turn: anyio.Lock = field(default_factory=anyio.Lock)
    _listed: bool = False

    async def hand_over(self, batch: Batch, fail: Fail) -> Batch:
        """Upload its lines, and what they refer to; without a name of that where no task of it can be sent.

        `fail` is told of tasks whose files are not as they were planned.
        """
        path = self.folder / f"{batch.id}.{LINES}"
        with disk.storage("the lines of a batch"):
            try:
                file = await self._write(batch, path, fail)
                if not file.bytes:
                    return batch
                uploaded = await self.counter.upload(Upload(file, name=f"{api.MARK}-{batch.id}.{LINES}"), "batch")
            finally:
                path.unlink(missing_ok=True)
        return await self.book.filed(batch, uploaded)

    async def _write(self, batch: Batch, path: Path, fail: Fail) -> Input:
        """A line an attempt, in their order."""
        digest, size, after = hashlib.sha256(), 0, 0
        with path.open("wb") as out:
            while page := await self.book.attempts(batch, after):
                after = page[-1][0]
                for _, attempt in page:
                    try:
                        line = await self._line(attempt)
                    except Rejected as error:
                        await fail(attempt, error)
                        continue
                    out.write(line)
                    digest.update(line)
                    size += len(line)
        return Input(Kind.FILE, str(path), digest.hexdigest(), size, LINES)

    async def _line(self, attempt: Attempt) -> bytes:
        task = api.referring(attempt.task, await self._ids(attempt.task))
        return api.line(attempt, next(self.lane.bench.dialect.talk(task, self.lane.provider)))

    def _area(self, task: Task) -> str:
        """How the provider wants to be told by a mask what to change."""
        intake = self.lane.provider.intake(task.variant.operation)
        return intake.mask if intake else ""

    async def _ids(self, task: Task) -> dict[Input, str]:
        """What the provider calls the task's files, each of them uploaded once."""
        files = [each for each in task.inputs if each.kind is Kind.FILE]
        if not files:
            return {}
        async with self._turn:
            owner, area = await self._owner(), self._area(task)
            return {each: await self._id(each, area if each.area else "", owner) for each in files}

    async def _id(self, file: Input, area: str, owner: str) -> str:
        name = api.name(file, area, owner)
        found = await self.book.uploaded(self.counter.payer, name)
        if not found:
            found = await self.counter.upload(Upload(file, area, name), "vision")
            await self.book.upload(self.counter.payer, name, found)
        return found

    async def _owner(self) -> str:
        """Whose files they are. What was uploaded before a crash, and not written down, is found by its name."""
        owner = await self.book.owner()
        if not self._listed:
            self._listed = True
            for name, id_ in await self._there(owner):
                await self.book.upload(self.counter.payer, name, id_)
        return owner

    async def _there(self, owner: str) -> Sequence[tuple[str, str]]:
        return await self.counter.files(f"{api.MARK}-{owner}-")

    async def take_back(self) -> None:
        """Delete the files to edit there, in all their copies."""
        if not (noted := await self.book.uploads(self.counter.payer)):
            return
        there = {id_: name for name, id_ in [*noted, *await self._there(await self.book.owner())]}
        kept = {name for id_, name in there.items() if not await self.counter.delete(id_)}
        for name in {name for name, _ in noted} - kept:
            await self.book.forget(self.counter.payer, name)
