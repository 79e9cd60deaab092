"""What came of a batch, into the books: its files piece by piece, line by line, and what is in neither of them."""

import logging
from collections import Counter as Counts
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import anyio

from batchgen import disk, results
from batchgen.batch import Batch, Look
from batchgen.batchbook import BatchBook
from batchgen.buyer import Buyer
from batchgen.counter import Counter
from batchgen.dialects.base import Spoken
from batchgen.errors import BatchgenError, Busy, ProviderError, Rejected, Transient, Unknown
from batchgen.results import Result
from batchgen.task import Attempt
from batchgen.text import count
from batchgen.turn import Stopped
from batchgen.wire import Reply

PIECE = 32 * 2**20  # bytes that are fetched at a time
PIECE_MOST = 1 << 40  # of a host that gives all or nothing
AT_ONCE = 16  # lines that are settled at a time
GONE = 404  # a status: somebody deleted it there, or it was too old
PASSES = 2  # over files in which something cannot be read
OUTPUT, ERRORS = "output", "errors"
UNREAD = "that nobody can read"
log = logging.getLogger("batchgen")


@dataclass(slots=True)
class Collection:
    """One batch that has ended. `odd` counts what no line should be."""

    buyer: Buyer
    book: BatchBook
    counter: Counter
    folder: Path
    batch: Batch
    look: Look
    odd: Counts[str] = field(default_factory=Counts)
    _ids: set[str] = field(default_factory=set)
    _trouble: BaseException | None = None

    async def collect(self) -> None:
        """Settle all its attempts. Stopped, or an error, in the middle: what is settled stays so."""
        for again in range(PASSES):
            await self._read(OUTPUT, self.batch.output, self.batch.output_at)
            await self._read(ERRORS, self.batch.errors, self.batch.errors_at)
            if not self.odd[UNREAD] or not (await self.book.load(self.batch)).attempts:
                break
            if not again:  # it may have been the way here
                self.batch = await self.book.read(self.batch, 0, 0)
                self.odd.clear()
                self._ids.clear()
        await self.lose()
        for what, number in sorted(self.odd.items()):
            told = f"{count(number, 'line')} {what}"
            log.warning("%s: %s", self.batch.handle, told)
            await self.book.note(self.batch, told)

    async def _read(self, which: str, file: str, at: int) -> None:
        size, whole = PIECE, not file
        while not whole:
            disk.check_room(self.folder, 2 * size)
            try:
                reply = await self.counter.fetch(file, at, size, PIECE_MOST)
            except Rejected as error:
                if error.status != GONE:
                    raise
                await self.book.note(self.batch, f"its file {file} is gone at the provider")
                return
            if reply.status == 416 or not reply.length:
                break
            start = at if reply.status == 206 else 0
            whole = reply.status != 206 or _last(reply, at, size)
            read = await self._piece(reply, at - start, whole)
            size = size if read else 2 * size  # a line that is longer than that
            at += read
            await self._settled(which, at)

    async def _settled(self, which: str, at: int) -> None:
        batch = self.batch
        output_at, errors_at = (at, batch.errors_at) if which == OUTPUT else (batch.output_at, at)
        self.batch = await self.book.read(batch, output_at, errors_at)

    async def _piece(self, reply: Reply, skip: int, whole: bool) -> int:
        """Settle the lines of a piece, behind what is settled already; how many bytes they were."""
        path = reply.body if isinstance(reply.body, Path) else self.folder / f"{self.batch.id}.piece.part"
        with disk.storage("what came of a batch"):
            if isinstance(reply.body, bytes):
                path.write_bytes(reply.body)
            try:
                return await self._lines(path, skip, whole)
            finally:
                path.unlink(missing_ok=True)

    async def _lines(self, path: Path, skip: int, whole: bool) -> int:
        read, room = 0, anyio.CapacityLimiter(AT_ONCE)
        async with anyio.create_task_group() as tasks:
            for result in results.read(path, self._place, whole, skip):
                place = object()
                await room.acquire_on_behalf_of(place)
                if self._trouble:
                    result.drop()
                    break
                tasks.start_soon(self._one, result, partial(room.release_on_behalf_of, place))
                read = result.end
        if self._trouble:
            raise self._trouble
        return read

    def _place(self, at: int, nth: int) -> Path:
        return self.folder / f"{self.batch.id}.{at}.{nth}.part"

    async def _one(self, result: Result, over: Callable[[], None]) -> None:
        try:
            attempt = await self._wanted(result)
            if attempt is None:
                result.drop()
            else:
                await self.buyer.collect(attempt, result.came)
        except (Stopped, BatchgenError, OSError) as error:
            self._trouble = self._trouble or error
        finally:
            over()

    async def _wanted(self, result: Result) -> Attempt | None:
        """Whose result it is; None where that is in the books already, or is nobody's."""
        if not result.id:
            self.odd[UNREAD] += 1
            return None
        if result.id in self._ids:
            self.odd["that came twice: the first one counts"] += 1
            return None
        self._ids.add(result.id)
        attempt = await self.book.attempt(self.batch, result.id)
        if attempt is None and not await self.book.knows(self.batch, result.id):
            self.odd["of requests that are not ours"] += 1
        return attempt

    async def reject(self, bad: Mapping[int, Spoken]) -> None:
        """The tasks of these lines, counted from 1, will never work."""
        line, after = 0, 0
        while page := await self.book.attempts(self.batch, after):
            after = page[-1][0]
            for _, attempt in page:
                line += 1
                if said := bad.get(line):
                    await self.buyer.collect(attempt, Rejected(said.message, code=said.code))

    async def lose(self, error: ProviderError | None = None) -> None:
        """Settle what no line was about: it was never begun where the provider's counts say so, else nobody knows."""
        after = 0
        while page := await self.book.attempts(self.batch, after):
            after, error = page[-1][0], error or await self._fate()
            async with anyio.create_task_group() as tasks:
                for _, attempt in page:
                    if not self.buyer.lane.bench.spool.holds(attempt.id, 1):  # else its images are still to be fetched
                        tasks.start_soon(self._lost, attempt, error)
            if self._trouble:
                raise self._trouble

    async def _lost(self, attempt: Attempt, error: ProviderError) -> None:
        try:
            await self.buyer.collect(attempt, type(error)(str(error), code=error.code))
        except (Stopped, BatchgenError, OSError) as trouble:
            self._trouble = self._trouble or trouble

    async def _fate(self) -> ProviderError:
        look = self.look
        answered, failed = await self.book.answers(self.batch)
        counted = look.total or not (look.output or look.errors or look.status == "completed")
        if counted and look.completed <= answered and look.failed <= failed:
            kind = Transient if look.status == "expired" else Busy
            return kind(f"the batch was over ({look.status}) before it was begun", code=f"batch_{look.status}")
        return Unknown("it is in neither of the files that the batch left", code="missing_line")


def _last(reply: Reply, at: int, size: int) -> bool:
    """Whether a part of `size` bytes is the last one: its header says so, or it is shorter."""
    _, _, total = reply.headers.get("content-range", "").partition("/")
    return at + reply.length >= int(total) if total.isdecimal() and len(total) < 20 else reply.length < size
