"""A hand on another machine: it makes the attempts that it is ordered to, with keys of its own, and keeps receipts."""

import logging
import platform
import random
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

import anyio
import anyio.to_thread

from batchgen import __version__, disk, receipt, settle
from batchgen.attempt import Bench, Send, check_room, headers, perform
from batchgen.client import Access, Client
from batchgen.dialects import DIALECTS
from batchgen.errors import Pending, ProviderError, StorageError, Unknown, Unsent, Unserved, UsageError
from batchgen.finisher import Finisher
from batchgen.keys import authorization
from batchgen.limits import backoff
from batchgen.pour import Sink
from batchgen.receipt import Order, Receipt, Terms, Told, Trouble
from batchgen.redact import redact
from batchgen.spool import Spool
from batchgen.store import MARK, Store, opened
from batchgen.task import Attempt, Input, Kind
from batchgen.text import clean
from batchgen.wire import Outcome, Reply, Request

FILES = 4  # that an open request needs
ORDERS_MOST = 1000  # at a time
FETCHES = 4  # times that the images of a link are asked for
PATIENCE = 30.0  # seconds for which a bucket is asked again
KEEPS = 900.0  # seconds for which what is paid for is tried to be stored
log = logging.getLogger("batchgen")


def clock() -> float:
    """Seconds of a clock that nobody sets, and that goes on while the machine sleeps."""
    return time.clock_gettime(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))


@dataclass(frozen=True, slots=True)
class Greeting:
    """Who is there: what must be the same as with the driver, how many orders it takes at a time, and why it can take
    none, where it cannot."""

    version: str
    host: str
    clock: float  # as `clock` tells it there
    room: int
    accounts: Mapping[str, str] = field(default_factory=dict)  # by lane: a hash of host and key
    trouble: str = ""


@dataclass(slots=True)
class Place:
    """What the attempts of one lane are made with."""

    terms: Terms
    bench: Bench
    access: Access
    store: Store
    receipts: Store
    idle: list[Client] = field(default_factory=list)

    @asynccontextmanager
    async def client(self) -> AsyncIterator[Client]:
        """One that nobody else uses meanwhile."""
        client = self.idle.pop() if self.idle else Client(self.access)
        try:
            yield client
        finally:
            self.idle.append(client)


class Hearing:
    """How requests of an attempt are sent, and what is said to the one that buys."""

    def __init__(self, attempt: Attempt, place: Place) -> None:
        self._named = headers(attempt, place.terms.provider)
        self.reply: Reply | None = None

    def through(self, client: Client) -> Send:
        async def send(request: Request, sink: Sink) -> Reply:
            reply = await client.send(request, sink, self._named if request.auth else {})
            if request.auth and not request.handle:
                self.reply = receipt.telling(reply)
            return reply

        return send


class Hand:
    """Carries out orders, each once, in a folder of its own; `environ` has the keys."""

    def __init__(self, folder: Path, environ: Mapping[str, str]) -> None:
        self._folder, self._environ = folder, environ
        self._places: list[Place] = []
        self._stack = AsyncExitStack()
        self._held: set[str] = set()
        self._finisher: Finisher | None = None
        self._spool = Spool(folder / "spool")
        self._chance = random.Random()
        self._room = disk.open_files(FILES * ORDERS_MOST) // FILES

    @property
    def held(self) -> frozenset[str]:
        """The attempts that it is at."""
        return frozenset(self._held)

    async def close(self) -> None:
        """Leave nothing open; it is at nothing any more."""
        for client in [client for place in self._places for client in place.idle]:
            async with client:
                pass
        await self._stack.aclose()

    async def greet(self, terms: Sequence[Terms]) -> Greeting:
        """Get ready for these; the greeting says why not, where that cannot be."""
        found = Greeting(__version__, platform.node(), clock(), self._room)
        try:
            places = [await self._place(each) for each in terms]
            for place in places:
                await anyio.to_thread.run_sync(_recognize, place)
        except (UsageError, StorageError) as error:
            return replace(found, trouble=str(error))
        return replace(found, accounts={place.terms.lane: place.access.account for place in places})

    async def carry_out(self, order: Order) -> Told:
        """Make the attempt; what came of it is kept before it is told."""
        attempt = order.attempt
        self._held.add(attempt.id)
        try:
            place = await self._place(order.terms)
            hearing = Hearing(attempt, place)
            made = await self._made(order, place, hearing)
            await self._keep(made, place)
            self._spool.discard(attempt.id)
            return Told(made, hearing.reply)
        finally:
            self._held.discard(attempt.id)

    async def _keep(self, made: Receipt, place: Place) -> None:
        """What never left is told without a receipt where that cannot be kept: it may be why."""
        unsent = made.trouble and isinstance(made.trouble.error(), Unsent)
        try:
            await persist(partial(receipt.put, place.receipts, made), 0.0 if unsent else KEEPS)
        except StorageError:
            if not unsent:
                raise

    async def _place(self, terms: Terms) -> Place:
        known = next((each for each in self._places if each.terms == terms), None)
        if known:
            return known
        auth = authorization(terms.provider, self._environ)
        store = opened(terms.store, PATIENCE)
        if self._finisher is None:
            for each in ("spool", receipt.INPUTS):
                disk.make_folder(self._folder / each)
            self._finisher = await self._stack.enter_async_context(Finisher(self._spool, store.wide))
        dialect, images = DIALECTS[terms.provider.dialect], store.below(receipt.IMAGES)
        with_ = self._spool, images, self._finisher, terms.timeout, terms.partials
        bench = Bench(terms.provider, dialect, *with_, apart=True)
        access = Access.of(terms.provider, auth, terms.timeout, self._folder / receipt.INPUTS)
        self._places.append(place := Place(terms, bench, access, store, store.below(receipt.RECEIPTS)))
        return place

    async def _made(self, order: Order, place: Place, hearing: Hearing) -> Receipt:
        """What the attempt came to, without any secret."""
        attempt, handle = order.attempt, ""

        async def accepted(said: str) -> None:
            nonlocal handle
            handle = said
            await persist(partial(receipt.put, place.receipts, Receipt(attempt.id, handle=said)))

        def told(text: str) -> str:
            return clean(redact(text, place.access.secrets))

        try:
            attempt = await anyio.to_thread.run_sync(_at_hand, attempt, place, len(self._held))
            if (late := clock() - order.until) > 0:  # whoever ordered it does not count on it any more
                says = f"{platform.node()} came to it {late:.0f} s too late, and did not begin"
                raise Unserved(says, code="overdue")
            outcome = await self._performed(attempt, place, hearing, accepted)
            return Receipt(attempt.id, settle.redacted(outcome, told), handle=handle)
        except ProviderError as error:
            error.args = (told(str(error)),)
            error.code, error.request_id = told(error.code), told(error.request_id)
            return Receipt(attempt.id, trouble=Trouble.of(error), handle=handle)

    async def _performed(
        self, attempt: Attempt, place: Place, hearing: Hearing, accepted: Callable[[str], Awaitable[None]]
    ) -> Outcome:
        """Buy, and see what is bought through to the store: nobody else has the answer."""
        buy, tries, until = True, 0, anyio.current_time() + KEEPS
        while True:
            try:
                async with place.client() as client:
                    send, tired = hearing.through(client), tries >= FETCHES
                    return await perform(attempt, place.bench, send, buy=buy, give_up=tired, accepted=accepted)
            except StorageError as error:
                if not self._spool.holds(attempt.id, 1) or anyio.current_time() > until:
                    says = f"answered, and what came cannot be kept by {platform.node()}: {error}"
                    raise Unknown(says, code="unkept") from None
                log.warning("%s: %s", attempt.id, error)
            except Pending:
                if tries >= FETCHES or not self._spool.holds(attempt.id, 1):
                    raise
            buy, tries = False, tries + 1
            await anyio.sleep(backoff(tries, None, self._chance))


def _recognize(place: Place) -> None:
    """A folder that is not mounted here, or another one of that name, would swallow what is paid for. Blocks."""
    with disk.storage("output.store there"):
        if place.store.read(MARK) != place.terms.mark.encode():
            raise UsageError(f"{place.terms.store} is another place there than here")


def _at_hand(attempt: Attempt, place: Place, open_: int) -> Attempt:
    """With its files to edit, out of the store, by the hash of what is in them. Unserved where that or room for what
    so many attempts may bring cannot be had. Blocks."""
    try:
        check_room(attempt.task, place.bench, open_)
        inputs = tuple(_fetched(each, place) if each.kind is Kind.FILE else each for each in attempt.task.inputs)
    except StorageError as error:
        raise Unserved(f"{platform.node()} cannot do it: {error}", code="storage") from None
    return replace(attempt, task=replace(attempt.task, inputs=inputs))


def _fetched(each: Input, place: Place) -> Input:
    path = place.access.folder / each.sha256
    if not path.exists():
        with disk.storage("its file to edit"):
            data = place.store.below(receipt.INPUTS).read(each.sha256)
            disk.write_whole(path, data, path.with_name(f"{uuid.uuid4().hex}.part"))
    return replace(each, ref=each.sha256)


async def persist(step: Callable[[], None], patience: float = KEEPS) -> None:
    """Try to store something, for a quarter of an hour."""
    until, tries = anyio.current_time() + patience, 0
    while True:
        try:
            return await anyio.to_thread.run_sync(step)
        except StorageError as error:
            if anyio.current_time() > until:
                raise
            log.warning("%s", error)
        tries += 1
        await anyio.sleep(backoff(tries, None, random.Random()))
