"""A lane's batches: drafted, handed over, watched, collected, each from whatever state a crash left it in."""

import logging
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

import anyio

from batchgen import batch as api
from batchgen import records, sizing
from batchgen.attempt import check_place
from batchgen.batch import Batch, BatchState, Look
from batchgen.batchbook import BatchBook, Draft
from batchgen.buyer import Buyer
from batchgen.clerk import Clerk
from batchgen.collect import Collection
from batchgen.counter import Counter
from batchgen.dialects.base import NO_CREDIT, Spoken
from batchgen.errors import Blocked, ProviderError, Rejected, Transient, Unknown
from batchgen.limits import SAME_REJECTIONS, backoff
from batchgen.task import AttemptState, Settlement, Task, TaskState
from batchgen.text import clean
from batchgen.turn import Stopped

TOO_MANY, GONE = "token_limit_exceeded", 404
LIMIT = re.compile(r"Limit: ([0-9][0-9,]{0,20})")
PASSING = frozenset({"", "server_error"})  # codes of what goes by itself
CANCELLING = "cancelling"
TWICE = "{} has the same lines, was created late, and is cancelled: what it made until then was bought twice"
AGE, POLL_MOST = 0.05, 60.0  # of a batch's, between two looks; seconds at most
SLICE = 1.0  # of them, between two looks at whether it is to end
LATE, WORDS_MOST = 10, 500  # looks that files may be late; letters
log = logging.getLogger("batchgen")


@dataclass(frozen=True, slots=True)
class Seen:
    """A batch that is open, and how it was seen last."""

    batch: Batch
    look: Look | None = None


class Desk:
    """All batches of a lane. `seen` are open, by our ids; `ending`: no new one; `shared`: other lanes do as well."""

    def __init__(self, buyer: Buyer, folder: Path) -> None:
        self.buyer = buyer
        self.seen: dict[str, Seen] = {}
        self.ending = self.shared = False
        self._lane = buyer.lane
        self._book: BatchBook = buyer.ledger.batches
        self._counter = Counter(buyer.lane, folder)
        self._clerk = Clerk(buyer.lane, self._book, self._counter, folder)
        self._folder = folder
        self._adopted: set[str] = set()  # those of earlier runs
        self.vain = 0  # batches in a row of which nothing came

    async def draft(self) -> Batch | None:
        """Write down the next batch; None where nothing is to do, or must wait until another is over.

        Exhausted where a cap is reached and none is open that could make room.
        """
        tasks = await self._book.claim(self._lane.pool, min(sizing.TASKS_MOST, self._counter.rules.lines_most))
        bought = 0
        try:
            for task in tasks:
                check_place(task, self._lane.bench)
            bought = await self._fit(tasks)
        finally:
            await self.buyer.ledger.release(tasks[bought:])
        if not bought:
            return None
        kept = tasks[:bought]
        quotes = [self.buyer.purse.quote(task, self.buyer.share) for task in kept]
        highs = [each.high if each else None for each in quotes]
        tokens = sum(map(sizing.tokens, kept))
        batch = await self._book.draft(Draft(self._lane.name, self._counter.payer, kept, highs, tokens))
        self.seen[batch.id] = Seen(batch)
        return batch

    async def hold_keyed(self) -> None:
        """Hold what may be sent again only under its key; each task to do is looked at for that."""
        for task in await self._book.keyed(self._lane.pool):
            await self.buyer.ledger.hold(task)
            self.buyer.settled(task, Settlement(AttemptState.UNKNOWN, TaskState.HELD))

    async def _fit(self, tasks: Sequence[Task]) -> int:
        """How many of them one batch, the provider's queue and the user's money have room for; that is set aside."""
        if not tasks:
            return 0
        most, used = await self._book.room(self._lane.name, tasks[0].variant.model)
        count = sizing.fitting(tasks, most, used, self._counter.rules.bytes_most)
        if not count:
            return 0
        if not self.seen:
            await self.buyer.purse.room(tasks[0], self.buyer.share)
        return self.buyer.purse.commit(tasks[:count], self.buyer.share)

    async def adopt(self, batch: Batch) -> None:
        """Take up a batch of an earlier run."""
        self.buyer.purse.join(await self._book.load(batch))
        self.seen[batch.id] = Seen(batch)
        self._adopted.add(batch.id)

    def end(self) -> None:
        """Create no more, and let the provider end what it has; what is made by then is kept and paid for."""
        self.ending = True

    async def tidy(self) -> None:
        """Take back the files to edit, as far as no open batch may need them; else the next run does."""
        if not await self._book.open():
            try:
                await self._clerk.take_back()
            except ProviderError as error:
                log.warning("files to edit are still with %s: %s", self._lane.provider.identity, error)

    async def follow(self, batch: Batch) -> None:
        """See a batch through, from whatever state it is in, until all that came of it is in the books."""
        try:
            await self._through(batch)
        except ProviderError as error:
            blocked = Blocked(f"its Batch API: {error}", code=error.code, status=error.status)
            self._lane.block(error if isinstance(error, Blocked) else blocked)
        finally:
            if self.seen.pop(batch.id, None):
                with anyio.CancelScope(shield=True):
                    self.buyer.purse.part(await self._book.load(batch))

    async def _through(self, batch: Batch) -> None:
        going = await self._handed_over(batch)
        while going:
            going = await self._seen_through(going)

    async def _seen_through(self, batch: Batch) -> Batch | None:
        """To its end; where nothing came of it, but of another one with the same lines, that one."""
        for other in await self._others(batch):
            await self._counter.cancel(other.handle)
        look = await self._ended(batch)
        if look is None:
            return None
        batch = await self._book.seen(batch, look)
        if look.status == "failed" and not (look.completed or look.output or look.errors):
            return await self._refused(batch, look)
        await self._collection(batch, look).collect()
        others = [each for each in await self._others(batch) if not each.idle]
        for other in others:
            log.warning("batch %s: %s", batch.handle, TWICE.format(other.handle))
            await self._book.note(batch, TWICE.format(other.handle))
        self.buyer.purse.budget.settle(0, await self._book.over(batch, len(others)))
        self.vain = self.vain + 1 if await self._book.fruitless(batch) else 0
        await self._counter.delete(batch.input)
        return None

    async def _others(self, batch: Batch) -> list[Look]:
        """Those that bear its id, where it was created again because it was nowhere to be seen."""
        return await self._counter.others(batch) if batch.doubts else []

    def _collection(self, batch: Batch, look: Look) -> Collection:
        return Collection(self.buyer, self._book, self._counter, self._folder, batch, look)

    async def _handed_over(self, batch: Batch) -> Batch | None:
        """Its lines uploaded, itself created; None where nothing came of that, and its tasks are queued again."""
        tries = 0
        try:
            while batch.state is not BatchState.OPEN:
                try:
                    if batch.state is BatchState.CREATING:
                        found = await self._found(batch)
                        if found is None:
                            return None
                        batch = found
                        continue
                    if why := await self._unwanted(batch):
                        return await self._withdraw(batch, "unsent", "withdrawn", why)
                    batch = await self._filed(batch)
                    if not batch.input:
                        return await self._withdraw(batch, "unsent", "empty", "none of its tasks can be sent")
                    batch = await self._created(batch)
                except (Transient, Blocked) as error:
                    if isinstance(error, Blocked) and not self._lane.patient:
                        if self.shared and batch.untold:
                            await self._withdraw(batch, "unsent", error.code, str(error))
                        raise
                    tries += 1
                    wait = backoff(tries, error.retry_after, self._lane.chance)
                    await self._counter.rest(batch, wait, f"POST batches: {error.code}")
        except Stopped:
            if batch.doubts:  # perhaps it is bought: the next run looks for it
                await self._book.creating(batch, perhaps=True)
            elif batch.state is BatchState.DRAFTED:
                await self._dissolve(batch, "unsent", "withdrawn", "the run was told to end before it was created")
            raise
        except Rejected as error:
            if batch.state is BatchState.CREATING:  # it is the list that is refused
                raise
            return await self._declined(batch, error)
        return batch

    async def _unwanted(self, batch: Batch) -> str:
        """Why a batch that an earlier run drafted is not to be created; nothing where it is."""
        if batch.id not in self._adopted:
            return ""
        if batch.payer != self._counter.payer:
            return "the key is another now"
        purse = self.buyer.purse
        if not (purse.budget.fits(0) and purse.images.fits(0)):
            return "the limits have no room for it any more"
        return "" if await self._book.wanted(batch) else "what is wanted has changed since"

    async def _filed(self, batch: Batch) -> Batch:
        """Its lines handed over, where they are not yet; Stopped where nothing more is to be bought."""
        if self._lane.stopped or self.ending:
            raise Stopped
        return batch if batch.input else await self._clerk.hand_over(batch, self.buyer.collect)

    async def _created(self, batch: Batch) -> Batch:
        """As the provider has it, or perhaps has it. That it is asked for is written down before."""
        provider = self._lane.provider
        intake = provider.intake(batch.operation)
        perhaps = await self._book.creating(batch, perhaps=True)
        try:
            look = await self._counter.create(batch, api.endpoint(intake.path if intake else provider.generate))
        except Unknown as error:
            log.info("batch %s: %s", batch.id, error)
            return perhaps
        except (ProviderError, Stopped):
            await self._book.creating(batch, perhaps=False)
            raise
        return await self._book.opened(perhaps, look)

    async def _found(self, batch: Batch) -> Batch | None:
        """As the provider has it; to be created again where it is nowhere to be seen.

        None where another key was to pay for it than the one by which it was looked for: whether it was bought nobody
        can know.
        """
        if look := await self._counter.find(batch):
            return await self._book.opened(batch, look)
        if batch.payer != self._counter.payer:
            says = "nobody answered when its batch was created, and now the key is another"
            await self._lost(batch, Unknown(says, code="other_key"))
            return None
        return await self._book.doubted(batch)

    async def _declined(self, batch: Batch, error: Rejected) -> Batch | None:
        """Nothing was created, and would not be if it was asked for again."""
        if error.code == TOO_MANY:
            return await self._too_many(batch, "unsent", str(error))
        if going := await self._withdraw(batch, "unsent", error.code, str(error)):
            return going
        raise error

    async def _ended(self, batch: Batch) -> Look | None:
        """How it was when it ended, with the names of its files: they may be late. None where it is shown no more."""
        late = 0
        while True:
            ending = self.ending
            try:
                look = await self._counter.see(batch)
            except Rejected as error:
                if error.status != GONE or batch.payer != self._counter.payer:
                    raise
                await self._lost(batch, Unknown(f"the provider shows its batch no more: {error}", code="batch_gone"))
                return None
            self.seen[batch.id] = Seen(batch, look)
            await self._book.seen(batch, look)
            lacks = (look.completed and not look.output) or (look.failed and not look.errors)
            if look.ended and not (lacks and late < LATE):
                return look
            late += look.ended
            if ending and not look.ended and look.status != CANCELLING:
                await self._counter.cancel(batch.handle)
            await self._rest(batch, ending)

    async def _lost(self, batch: Batch, error: Unknown) -> None:
        """Nobody can know what came of it."""
        await self._collection(batch, Look("", "lost")).lose(error)
        await self._book.note(batch, str(error))
        await self._book.over(batch)

    async def _rest(self, batch: Batch, ending: bool) -> None:
        """Until the next look; the sooner where it is to end from now on."""
        left = max(self._counter.rules.poll, min(POLL_MOST, AGE * records.age(batch.created)))
        while left > 0 and ending == self.ending:
            await self._counter.rest(batch, min(left, SLICE))
            left -= SLICE

    async def _refused(self, batch: Batch, look: Look) -> Batch | None:
        """It was not even begun: nothing is billed. What is not a task's own fault uses up no try of it."""
        codes = {said.code for _, said in look.problems}
        words = "; ".join(dict.fromkeys(said.message for _, said in look.problems)) or "it failed, without a reason"
        if TOO_MANY in codes:
            return await self._too_many(batch, "rejected", words)
        self.vain += 1
        bad = {line: said for line, said in look.problems if line}
        all_ = len(bad) >= max(SAME_REJECTIONS, min(batch.tasks, api.PROBLEMS_MOST))
        code = next(iter(codes), "failed")
        if going := await self._withdraw(batch, "rejected", code, words, bad={} if all_ else bad):
            return going
        if codes & NO_CREDIT:
            raise Blocked(f"it wants a person: {words}", code=code, status=402)
        if all_ or (not bad and codes - PASSING):
            raise Blocked(f"it takes no such batch: {words[:WORDS_MOST]}", code=code)
        return None

    async def _too_many(self, batch: Batch, state: str, words: str) -> Batch | None:
        """More than the provider lets wait at a time: smaller batches, when others are over.

        Where it should have had room it counts otherwise than we do, or others use its queue: half as much is tried.
        """
        found = LIMIT.search(words)
        said = int(found[1].replace(",", "")) if found else 0
        waiting = sum(each.batch.tokens for each in self.seen.values() if each.batch.model == batch.model)
        most = said if waiting > said * sizing.ROOMY > 0 else int(batch.tokens / 2 / sizing.ROOMY)
        self.vain += 1
        return await self._withdraw(batch, state, TOO_MANY, words, most)

    async def _withdraw(
        self,
        batch: Batch,
        state: str,
        code: str,
        why: str,
        most: int | None = None,
        bad: Mapping[int, Spoken] = MappingProxyType({}),
    ) -> Batch | None:
        """Queue its tasks again, but for those of `bad` lines; unless it was created after all: then that one."""
        if others := await self._others(batch):
            return await self._book.opened(batch, others[0])
        if bad:
            await self._collection(batch, Look("", "failed")).reject(bad)
        await self._dissolve(batch, state, code, why, most)
        if batch.input:
            await self._counter.delete(batch.input)
        return None

    async def _dissolve(self, batch: Batch, state: str, code: str, why: str, most: int | None = None) -> None:
        """Its tasks go back to the queue; a file of it there is nobody's use."""
        why = clean(self._lane.redact(why))
        log.info("batch %s: %s", batch.id, why)
        with anyio.CancelScope(shield=True):
            self.buyer.purse.undo(await self._book.dissolve(batch, state, code, why, most))
        del self.seen[batch.id]
