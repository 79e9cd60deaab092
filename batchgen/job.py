"""A run from open to close: recover, enqueue, drive an engine, close. What the verbs and the Python API share."""

import logging
import os
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TypeVar

import anyio
import anyio.to_thread

from batchgen import adopt, catalog, disk, hold, keys, ledger, place, pretend, progress, shelf
from batchgen.attempt import Bench
from batchgen.batch import Batch
from batchgen.batchbook import ENGINE as BATCHED
from batchgen.buyer import Buyer
from batchgen.catalog import Provider
from batchgen.client import Access
from batchgen.crew import Crew
from batchgen.deadline import Deadline
from batchgen.desk import Desk
from batchgen.dialects import DIALECTS
from batchgen.ending import Ended, Left, conclude
from batchgen.engines import remote
from batchgen.engines.batched import Batched
from batchgen.engines.local import NAME, Local
from batchgen.engines.pool import Pool, drive
from batchgen.engines.queue import Queue
from batchgen.enqueue import enqueue
from batchgen.errors import BatchgenError, StorageError, alone
from batchgen.finisher import Finisher
from batchgen.folder import Folder
from batchgen.forecast import Plan
from batchgen.lane import FILES, Lane
from batchgen.ledger import Ledger
from batchgen.limits import Cap
from batchgen.manifest import Manifest
from batchgen.notify import Herald
from batchgen.progress import Progress
from batchgen.purse import Purse
from batchgen.receipt import ENGINE as ELSEWHERE
from batchgen.redact import redact
from batchgen.settle import Policy
from batchgen.spool import Spool
from batchgen.steer import Helm
from batchgen.store import Store
from batchgen.supply import Supply
from batchgen.task import Attempt, AttemptState, TaskState
from batchgen.terms import Engine
from batchgen.wanted import Change

KEPT = (AttemptState.SENDING, AttemptState.ACCEPTED, AttemptState.UNUSABLE)  # whose replies stay in the spool
LOST = (
    "{folder} holds answers or images that its ledger knows nothing of: the ledger lacks what was written last. "
    "Put its -wal file back, or a newer backup; or let batchgen verify RUN --adopt take in the images, and move away "
    "what it names in the spool. Nothing was sent."
)
T = TypeVar("T")
log = logging.getLogger("batchgen")


@dataclass(frozen=True, slots=True)
class Order:
    """What is to be run: a manifest in a folder, by the plan that was drawn up, and the states to try again.

    `most` is what the job may have cost in the end, in nano-dollars, by the plan that was agreed to. With `recall` the
    batches that are open are ended, and nothing is bought.
    """

    manifest: Manifest
    folder: Folder
    plan: Plan
    reopen: Sequence[TaskState] = ()
    most: int | None = None
    recall: bool = False
    environ: Mapping[str, str] = field(default_factory=lambda: os.environ)


class Job:
    """One run of one folder. `drain` may be called at any time; `progress` may be read at any time."""

    def __init__(self, order: Order) -> None:
        self._order = order
        self.progress = Progress()
        self._supply = Supply()
        self._herald = Herald(order.manifest, order.folder.ledger, order.plan.pretend, order.environ, self.progress)
        self.ended: Ended | None = None
        self.started = anyio.Event()

    @property
    def change(self) -> Change | None:
        """How what is wanted differs from what the ledger held; None as long as that is not known."""
        return self._supply.change

    def drain(self) -> None:
        """Send nothing new, finish what is paid for."""
        self.progress.draining = True
        self._supply.stop()
        for lane in self.progress.lanes:
            lane.drain()

    def authorizations(self) -> dict[str, dict[str, str]]:
        """The headers for each lane of a provider that is asked for anything; UsageError where a key is missing."""
        asked = {part.variant.provider for part in self._order.plan.survey.parts if part.todo}
        if self._order.folder.ledger.exists():
            with shelf.opened(self._order.folder.ledger) as there:
                asked |= there.open_pools()  # tasks that are wanted no more among them
        known = [each for name, each in self._order.manifest.providers.items() if name in asked]
        return keys.authorizations([lane for each in known for lane in each.lanes], self._order.environ)

    async def run(self) -> Ended:
        """Hold the folder and work."""
        with hold.held(self._order.folder):
            return await self.work()

    async def work(self) -> Ended:
        """Work until nothing is left, a cap is reached, or a person is needed. Raises BatchgenError where it cannot.

        The caller holds the folder.
        """
        manifest, folder = self._order.manifest, self._order.folder
        auths = self.authorizations()
        hold.open_folder(folder, manifest)
        idle = self._order.plan.survey.settled and not auths
        async with AsyncExitStack() as stack:
            providers = await stack.enter_async_context(self._providers())
            books = await stack.enter_async_context(ledger.open_for_writing(folder.ledger, whole=not idle))
            images = place.images(folder) if idle else await anyio.to_thread.run_sync(self._images)
            spool = Spool(folder.spool)
            finisher = await stack.enter_async_context(Finisher(spool, images.wide))
            bench = partial(Bench, spool=spool, images=images, finisher=finisher)
            asked = [lane for each in providers.values() for lane in each.lanes]
            width = self._width(len(asked))
            made = [self._lane(each, auths.get(each.lane, {}), bench, width) for each in asked]
            lanes = [await stack.enter_async_context(lane) for lane in made]
            return await self._noted(books, lanes, spool, images)

    def _images(self) -> Store:
        """Where they go, tried before anything is bought."""
        folder = self._order.folder
        return adopt.informed(place.claimed(folder, self._order.manifest.limits.timeout), folder)

    @asynccontextmanager
    async def _providers(self) -> AsyncIterator[Mapping[str, Provider]]:
        """The manifest's providers, with the sandbox running where it plays any of them."""
        known = self._order.manifest.providers
        if not any(provider.played for provider in known.values()):
            yield known
            return
        flags = self._order.environ.get("BATCHGEN_SANDBOX", "")
        async with pretend.sandbox(self._order.folder.bill, flags) as url:
            yield {
                name: replace(each, base_url=url + each.base_url.removeprefix(catalog.SANDBOX)) if each.played else each
                for name, each in known.items()
            }

    def _width(self, lanes: int) -> int:
        """How many requests each lane may have open, as far as files may be."""
        wanted = self._order.manifest.limits.concurrency
        width = max(1, disk.open_files(FILES * wanted * lanes) // (FILES * lanes))
        if width < wanted:
            log.warning("only %d requests at a time%s: raise ulimit -n", width, " in each lane" if lanes > 1 else "")
        return width

    def _lane(self, provider: Provider, auth: Mapping[str, str], on: "partial[Bench]", width: int) -> Lane:
        limits = self._order.manifest.limits
        manifest, dialect = self._order.manifest, DIALECTS[provider.dialect]
        apart = bool(manifest.engine.ray)  # others put images there, too
        bench = on(provider, dialect, patience=limits.timeout, partials=manifest.partials, apart=apart)
        access = Access.of(provider, auth, limits.timeout, manifest.folder)
        return Lane(provider, bench, access, width, limits.on_blocked == "wait", limits.pace(provider), not limits.auto)

    async def _noted(self, books: Ledger, lanes: Sequence[Lane], spool: Spool, images: Store) -> Ended:
        """Drive, and write down how it ended, however it ended."""
        ended = Ended(7, "told to leave at once")
        try:
            cap = await self._drive(books, lanes, spool, images)
            open_ = await books.batches.open()
            lacking = {each.lane for each in await books.open_attempts()} | {each.lane for each in open_}
            owed = lacking - {lane.name for lane in lanes}
            left = Left(sorted(owed), self._supply.short, len(open_), sum(each.tasks for each in open_))
            states = await books.states()
            lost = lacking & {lane.name for lane in lanes if lane.blocked}  # the others' can be fetched
            free = bool(cap) or self.progress.draining or not (states[TaskState.TODO] or lost)
            aside = self._aside(lanes, free)
            await self._keep(books, lanes, aside)
            blocked = [lane.plight for lane in lanes if lane.blocked and not aside]
            self.ended = ended = conclude(states, cap, "; ".join(blocked), left, [lane.name for lane in aside])
        except BatchgenError as error:
            ended = Ended(error.exit_code, str(error))
            raise
        except Exception as error:
            ended = Ended(
                1, redact(f"{type(error).__name__}: {error}", [key for lane in lanes for key in lane.secrets])
            )
            raise
        finally:
            log.info("ended with %d: %s", ended.exit_code, ended.reason)
            with suppress(StorageError):  # it may be what ended us
                await books.release_orphans()
                await books.end(ended.exit_code, ended.reason)
            await self._herald.end(ended.exit_code, ended.reason)
        return ended

    def _aside(self, lanes: Sequence[Lane], free: bool) -> list[Lane]:
        """Those that are blocked and need not end the run: others of their providers went on, and all is done.

        `free`: or what is left has another cause.
        """
        blocked, alive = [each for each in lanes if each.blocked], {each.pool for each in lanes if not each.blocked}
        return blocked if free and all(each.pool in alive for each in blocked) else []

    async def _keep(self, books: Ledger, lanes: Sequence[Lane], aside: Sequence[Lane] = ()) -> None:
        """Write down who is asked, and who buys no more."""
        await books.keep_lanes([(each.name, each.pool, each.account, each.plight * (each in aside)) for each in lanes])

    async def _drive(self, books: Ledger, lanes: Sequence[Lane], spool: Spool, images: Store) -> str:
        """Recover, enqueue, buy; returns the cap that was reached, or ""."""
        await self._keep(books, lanes)  # first: what is open is the lane's that has its account now
        resumed = await self._recover(books, spool, images)
        order = self._order
        await enqueue(books, order.manifest, order.plan.survey, order.reopen, self._supply)
        self.progress.states = await self._states(books)
        batches, left = await books.batches.open(), await books.batches.left()
        busy = resumed or batches or left or self.progress.states[TaskState.TODO]
        if not (busy or await remote.doubts(books)):
            self.started.set()
            return ""
        address = order.manifest.engine.ray if busy and not order.recall else ""
        async with remote.manned(order.folder, order.manifest, books, lanes, address) as crew:
            return await self._bought(books, lanes, resumed, batches, bool(left), crew)

    async def _bought(
        self,
        books: Ledger,
        lanes: Sequence[Lane],
        resumed: Sequence[Attempt],
        batches: Sequence[Batch],
        left: bool,
        crew: Crew | None,
    ) -> str:
        """Finish what was begun, buy what is queued; returns the cap that was reached, or ""."""
        purse = await self._purse(books, {lane.pool: lane.provider for lane in lanes})
        self.progress.lanes, self.progress.purse = lanes, purse
        await self._remind(books, lanes)
        deadline = self.progress.deadline = self._deadline()
        engine = ELSEWHERE if self._order.manifest.engine.ray else NAME
        means = purse, self._policy(), self.progress.settled, engine
        buyers = [Buyer(books, lane, *means, deadline=deadline, crew=crew) for lane in lanes]
        if crew:
            self.progress.crew = crew
            await remote.amend(crew, books, buyers)
            self.progress.states = await self._states(books)
        queues = self._queues(books, lanes)
        pools = [self._pool(each, lanes, queues[each.lane.pool], bool(batches) or left) for each in buyers]
        self.progress.desks = [pool.desk for pool in pools if pool.desk]
        helm = Helm(books.name, self._order.folder, lanes, purse, deadline, self.progress.desks)
        self.started.set()
        with alone():
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(progress.note, self.progress, books)
                tasks.start_soon(helm.steer)
                tasks.start_soon(self._herald.watch)
                cap = await drive(pools, resumed, batches, self._supply)
                tasks.cancel_scope.cancel()
        if crew:
            await remote.amend(crew, books, buyers)
            await remote.sweep(lanes[0].bench.images, books)
        await progress.learn(self.progress, books)
        return cap or helm.cap

    async def _remind(self, books: Ledger, lanes: Sequence[Lane]) -> None:
        """Of what was learned of their limits, and of what they were told meanwhile."""
        for lane in lanes:
            lane.recall(await books.quotas(lane.account))
            if self.progress.draining:
                lane.drain()
            elif self._order.recall:
                lane.stop()

    def _policy(self) -> Policy:
        retry, patient = self._order.manifest.retry, self._order.manifest.limits.on_blocked == "wait"
        return Policy(retry.attempts, retry.on_unknown == "retry", patient)

    def _deadline(self) -> Deadline:
        """None for who only ends what is open."""
        order = self._order
        return Deadline() if order.recall else Deadline(order.manifest.limits.until, order.plan.span.stops)

    def _queues(self, books: Ledger, lanes: Sequence[Lane]) -> Mapping[str, Queue]:
        """One a provider, for all its lanes."""
        names = dict.fromkeys(lane.pool for lane in lanes)
        return {name: Queue(books, name, [each for each in lanes if each.pool == name]) for name in names}

    def _pool(self, buyer: Buyer, lanes: Sequence[Lane], queue: Queue, batches: bool) -> Pool:
        """The engine of a lane. Open batches are seen through by any, and what they left is taken away."""
        order, rules = self._order, buyer.lane.provider.batch
        engine = Engine(batch=True) if order.recall else order.manifest.engine
        if rules is None or not (batches or engine.batch):
            return Local(buyer, lanes, self._supply, queue)
        in_batches = replace(buyer, engine=BATCHED, share=rules.share)
        desk = Desk(in_batches, hold.workshop(order.folder))
        desk.ending, desk.shared = order.recall, queue.shared
        if not engine.batch:
            return Local(buyer, lanes, self._supply, queue, desk)
        ends = engine.until.moment(time.time()) if engine.until else None
        return Batched(ends, buyer, lanes, self._supply, queue, desk)

    async def _recover(self, books: Ledger, spool: Spool, images: Store) -> list[Attempt]:
        """Put back what was never sent, tidy the spool, and return the attempts that an earlier run left open."""
        spooled = list(spool.attempts())
        states = await books.attempt_states(spooled)
        new = await books.untouched()
        if len(states) < len(spooled) or (new and (spooled or next(images.names(), ""))):
            raise StorageError(LOST.format(folder=self._order.folder.path))
        await books.release_orphans()
        found = await books.open_attempts()
        spool.purge({each for each in spooled if states[each] in KEPT})
        if found:
            log.info("%d attempts of an earlier run are open", len(found))
        return found

    async def _states(self, books: Ledger) -> dict[TaskState, int]:
        """How many tasks are in each state, those on their way among those to do."""
        states = await books.states()
        if self._supply.open:
            states[TaskState.TODO] = self._order.plan.survey.tasks
        return {**states, TaskState.TODO: states[TaskState.TODO] + states[TaskState.DOING], TaskState.DOING: 0}

    async def _purse(self, books: Ledger, providers: Mapping[str, Provider]) -> Purse:
        """The job's money as it stands, and the progress that is shown of it."""
        limits = self._order.manifest.limits
        spent = await books.spent()
        self.progress.expected = self._order.plan.whole
        caps = [each for each in (limits.budget, self._order.most) if each is not None]
        agreed = self._order.most is not None and min(caps) != limits.budget
        return Purse(
            providers,
            budget=Cap(min(caps, default=None), spent.high),
            agreed=agreed,
            images=Cap(limits.images, spent.images),
            allowance=Cap(self._order.plan.again, spent.allowance),
        )
