"""The crew: hands on other machines as a run sees them: who takes the next attempt, and what became of those taken."""

import logging
import time
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Protocol

import anyio
import anyio.to_thread

from batchgen import __version__, inputs, receipt
from batchgen.errors import Blocked, StorageError, Unknown, Unsent, Unserved
from batchgen.hand import KEEPS, Greeting, clock
from batchgen.receipt import SOON, Order, Receipt, Terms, Told
from batchgen.store import Store
from batchgen.task import Attempt, Input, Kind
from batchgen.text import count

LOST = "lost"  # the code of an attempt of which nobody knows what became
LOOK, BEAT = 1.0, 2.0  # seconds between two looks at who is there, and between two questions to one of them
QUIET = 6.0  # seconds without an answer after which a worker gets no more
SILENCE = 30.0  # and after which it is given up: whatever it was given is too old by then to be begun
ABSENT = 600.0  # seconds for which somebody is waited for
PARTING = 3.0  # seconds in which workers are told that they may go
GREETED_MOST = 5  # times that somebody dies of being greeted
RESTS = 5.0, 60.0  # seconds, at first and at most, for which a worker gets nothing that could not send what it had
LOST_MOST = 6  # workers in a row that were lost with all that they were at
log = logging.getLogger("batchgen")


class Lost(Exception):
    """Nobody answers; whether the order was carried out is not known. The text says what happened."""


class Caller(Protocol):
    """The way to one worker. Each call raises Lost where no answer can come any more."""

    name: str

    async def greet(self, terms: Sequence[Terms]) -> Greeting: ...
    async def carry_out(self, order: Order) -> Told: ...
    async def held(self) -> frozenset[str]: ...
    async def dismiss(self) -> None: ...
    def abandon(self, attempt: str) -> None:
        """What it has not begun, it need not begin."""


class Cluster(Protocol):
    """Machines that come and go."""

    async def look(self) -> Iterable[Caller]:
        """The ways to those that are there now."""
        ...


@dataclass(slots=True, eq=False)
class Worker:
    """`away` are the orders that it was given, `held` those that it said it was at; who is `leaving` gets no more.

    `ahead` is how much its clock shows more than ours, at least. `heard` is when it answered last.
    """

    caller: Caller
    room: int
    ahead: float
    leaving: bool = False
    away: dict[str, "Away"] = field(default_factory=dict)
    held: frozenset[str] = frozenset()
    heard: float = field(default_factory=time.monotonic)
    _rests: float = 0.0  # seconds
    _until: float = 0.0

    def free(self, room: int) -> bool:
        """Whether it can be given one more, where it may have so many at most."""
        now = time.monotonic()
        alert = now - self.heard < QUIET and now >= self._until
        return alert and not self.leaving and len(self.away) < min(room, self.room)

    def told(self, found: Receipt) -> None:
        """It rests where it could not send what it was given, or others would never get anything."""
        least, most = RESTS
        unsent = found.trouble and isinstance(found.trouble.error(), Unsent)
        self._rests = min(most, 2 * self._rests or least) if unsent else 0.0
        self._until = time.monotonic() + self._rests

    def check(self, held: frozenset[str], asked: float) -> None:
        """Give up what it was given long before it was asked, and is not at."""
        self.held, self.heard = held, time.monotonic()
        for attempt in self.away.keys() - held:
            if asked - self.away[attempt].since > SILENCE:
                self._abandon(attempt)

    def give_up(self) -> None:
        for attempt in self.away:
            self._abandon(attempt)

    def _abandon(self, attempt: str) -> None:
        self.caller.abandon(attempt)
        self.away[attempt].scope.cancel()


@dataclass(frozen=True, slots=True)
class Away:
    since: float
    scope: anyio.CancelScope


class Crew:
    """Gives attempts to workers; without a cluster it only looks for what an earlier run's workers left in the store.

    `terms` are those of each lane, by its name, `accounts` hashes of host and key: workers must have the same ones.
    `folder` is where files to edit lie.
    """

    def __init__(
        self,
        store: Store,
        terms: Sequence[Terms],
        accounts: Mapping[str, str],
        folder: Path,
        cluster: Cluster | None = None,
    ) -> None:
        self._receipts, self._inputs = store.below(receipt.RECEIPTS), store.below(receipt.INPUTS)
        self._terms, self._accounts = {each.lane: each for each in terms}, accounts
        self._folder = folder
        self._cluster = cluster
        self._workers: dict[str, Worker] = {}
        self._there: set[str] | None = None  # who was there when we looked last
        self._attended: set[str] = set()
        self._refused: dict[str, str] = {}  # who cannot work for us, and why
        self._dying: dict[str, int] = {}  # how often in a row somebody died of being greeted
        self._absent: float | None = None  # since when nobody is there
        self._lost = 0  # workers that were lost since anything came
        self._handed: set[str] = set()  # inputs that are in the store
        self._handing: dict[str, anyio.Lock] = {}  # and those on their way there
        self._done: list[str] = []  # attempts whose receipts are needed no more

    # who is there

    @asynccontextmanager
    async def at_work(self) -> AsyncIterator[None]:
        """Attend to whoever comes."""
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._watch)
            try:
                yield
            finally:
                idle = [worker.caller for worker in self._workers.values() if not worker.away]
                tasks.cancel_scope.cancel()
        with anyio.move_on_after(PARTING, shield=True):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(self._tidy)
                for caller in idle:
                    tasks.start_soon(caller.dismiss)

    async def _watch(self) -> None:
        async with anyio.create_task_group() as tasks:
            while True:
                await self._tidy()
                found = list(await self._cluster.look()) if self._cluster else []
                self._there = {caller.name for caller in found}
                for caller in found:
                    if caller.name not in self._attended | self._refused.keys():
                        self._attended.add(caller.name)
                        tasks.start_soon(self._attend, caller)
                for name, worker in self._workers.items():
                    worker.leaving = name not in self._there
                await anyio.sleep(LOOK)

    async def _attend(self, caller: Caller) -> None:
        """Greet a worker and ask it again and again, until it does not answer; it may be greeted again then."""
        try:
            worker = await self._greeted(caller)
            while worker and (worker.away or not worker.leaving):
                await anyio.sleep(BEAT)
                await self._ask(worker)
            log.info("%s is let go", caller.name)
            with anyio.move_on_after(PARTING):
                await caller.dismiss()
        except (Lost, TimeoutError) as error:
            log.warning("%s is given up: %s", caller.name, str(error) or f"silent for {SILENCE:g} s")
        finally:
            self._attended.discard(caller.name)
            if worker := self._workers.pop(caller.name, None):
                self._lost += bool(worker.away)
                worker.give_up()

    async def _greeted(self, caller: Caller) -> Worker | None:
        """At work for us from now on; None where it cannot, once it is through with what others gave it."""
        try:
            with anyio.fail_after(SILENCE):
                greeting = await caller.greet(list(self._terms.values()))
        except Lost as error:
            self._dying[caller.name] = died = self._dying.get(caller.name, 0) + 1
            if died >= GREETED_MOST:
                self._refused[caller.name] = f"{caller.name}: nothing starts there: {error}"
            raise
        self._dying.pop(caller.name, None)
        worker = Worker(caller, greeting.room, greeting.clock - clock())
        await self._ask(worker)
        if trouble := self._trouble(greeting):
            log.warning("%s is not used: %s", caller.name, trouble)
            while worker.held:
                await anyio.sleep(BEAT)
                await self._ask(worker)
            self._refused[caller.name] = f"{greeting.host}: {trouble}"
            return None
        log.info("%s works for us now, with room for %d", caller.name, worker.room)
        self._workers[caller.name], self._absent = worker, None
        return worker

    async def _ask(self, worker: Worker) -> None:
        asked = time.monotonic()
        with anyio.fail_after(SILENCE):
            worker.check(await worker.caller.held(), asked)

    def _trouble(self, greeting: Greeting) -> str:
        """Why somebody cannot work for us, or nothing."""
        if greeting.version != __version__:
            return f"it has batchgen {greeting.version}, and not {__version__}"
        if greeting.trouble:
            return greeting.trouble
        other = [lane for lane, account in self._accounts.items() if greeting.accounts.get(lane) != account]
        if other:
            variable = self._terms[other[0]].provider.api_key_env or "the address"
            return f"{variable} is another one there than here"
        return ""

    @property
    def lacking(self) -> str:
        """What is waited for before anything can be given to anybody; nothing where somebody has room."""
        if self._freest():
            return ""
        return "workers at full" if self._workers else "a worker"

    def check(self) -> None:
        """Blocked where nobody is there, and nobody came for long, or can be used, or survives what he is given."""
        if self._lost >= LOST_MOST:
            raise Blocked(
                f"{self._lost} workers were lost one after the other, with what they were at: look at the nodes' logs",
                code="workers",
            )
        if self._workers or self._there is None:
            return
        self._absent = self._absent or time.monotonic()
        if refused := self._refused.keys() & self._there:
            if refused == self._there:
                raise Blocked("; ".join(sorted({self._refused[each] for each in refused})), code="workers")
        elif time.monotonic() - self._absent > ABSENT:
            raise Blocked(
                f"no worker was there for {ABSENT / 60:.0f} minutes: join nodes to the cluster", code="workers"
            )

    def _freest(self) -> Worker | None:
        """Where some were lost one after the other, one at a time until something comes: it may be what kills them."""
        free = [each for each in self._workers.values() if each.free(each.room if self._lost < 2 else 1)]
        return min(free, key=lambda each: len(each.away), default=None)

    def __str__(self) -> str:
        return count(len(self._workers), "worker")

    # what they do

    async def perform(self, attempt: Attempt) -> Told:
        """Let a worker make an attempt, once. Unknown where it was lost with it and left no receipt."""
        try:
            await self._hand_in(attempt.task.inputs)
        except StorageError as error:
            raise Unserved(f"its files to edit cannot be handed over: {error}", code="storage") from None
        worker = self._freest()
        if worker is None:
            raise Unserved("the last worker has gone", code="no_worker")
        told, why = None, f"silent for {SILENCE:g} s, or not at it any more"
        with anyio.CancelScope() as scope:
            worker.away[attempt.id] = Away(time.monotonic(), scope)
            try:
                told = await worker.caller.carry_out(
                    Order(attempt, self._terms[attempt.lane], clock() + worker.ahead + SOON)
                )
            except Lost as error:
                why = str(error)
        del worker.away[attempt.id]  # not where we are told to leave: then it goes on with it
        if told:
            self._lost = 0
            worker.told(told.receipt)
            return told
        found = await self.found(attempt.id)
        if found is None:
            raise Unknown(f"lost with {worker.caller.name}: {why}", code=LOST)
        return Told(found)

    async def collect(self, attempt: Attempt) -> Told | None:
        """What became of an attempt of an earlier run; None as long as somebody may be at it, else Unknown."""
        perhaps = self._perhaps_at_it(attempt)
        if found := await self.found(attempt.id):
            return Told(found)
        if not perhaps:
            raise Unknown("nobody is at it, and nobody left a receipt", code=LOST)
        return None

    def _perhaps_at_it(self, attempt: Attempt) -> bool:
        terms = self._terms.get(attempt.lane)
        most = 2 * terms.timeout + KEEPS if terms else 0.0
        if time.time() - datetime.fromisoformat(attempt.sent).timestamp() > most:
            return False
        if self._cluster is None or self._there is None or self._there - self._workers.keys() - self._refused.keys():
            return True
        return any(attempt.id in worker.held for worker in self._workers.values())

    async def found(self, attempt: str) -> Receipt | None:
        """What it left in the store."""
        return await anyio.to_thread.run_sync(receipt.find, self._receipts, attempt)

    async def _hand_in(self, files: Sequence[Input]) -> None:
        """Put what is to be edited where the workers find it, each content once."""
        for each in files:
            if each.kind is Kind.FILE and each.sha256 not in self._handed:
                async with self._handing.setdefault(each.sha256, anyio.Lock()):
                    if each.sha256 not in self._handed:
                        await anyio.to_thread.run_sync(self._put_input, each)
                        self._handed.add(each.sha256)

    def _put_input(self, each: Input) -> None:
        """Rejected where it is not as the plan found it. Blocks."""
        receipt.keep(self._inputs, each.sha256, inputs.read(self._folder / each.ref, each))

    # what is left

    async def receipts(self) -> list[str]:
        """The attempts that left any."""
        return await anyio.to_thread.run_sync(receipt.attempts, self._receipts)

    def settled(self, attempt: str) -> None:
        """The ledger knows all of it: its receipt is needed no more."""
        self._done.append(attempt)

    async def _tidy(self) -> None:
        """Where the store cannot be reached, the next run does it."""
        done, self._done = self._done, []
        with suppress(StorageError):
            if done:
                await anyio.to_thread.run_sync(receipt.forget, self._receipts, done)
