"""A lane: one provider and key, with its clients, its breaker, and the tasks that wait for their next try."""

import asyncio
import random
import threading
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager

import anyio
import anyio.to_thread

from batchgen.attempt import Bench, Send
from batchgen.catalog import Provider
from batchgen.client import Access, Client, Sink
from batchgen.errors import Blocked
from batchgen.limits import Breaker
from batchgen.task import Attempt
from batchgen.wire import Reply, Request

HALF = 6  # letters of a key that are too many


class Stopped(Exception):
    """The lane takes no new request: somebody asked it to drain, or it is blocked."""


class Lane:
    """`width` requests at most are open at once, each on a client of its own."""

    def __init__(self, provider: Provider, bench: Bench, access: Access, width: int) -> None:
        self.provider = provider
        self.name = provider.identity
        self.bench = bench
        self.width = width
        self.breaker = Breaker()
        self.chance = random.Random()
        self.blocked: Blocked | None = None
        self.open = 0
        self.waiting: dict[str, str] = {}  # task's key → why it waits
        self._access = access
        self._halt = anyio.Event()
        self._slots = anyio.Semaphore(width)
        self._idle: list[Client] = []  # the last one used goes first: few connections stay warm, the rest lapse
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> "Lane":
        return self

    async def __aexit__(self, *_: object) -> None:
        with anyio.CancelScope(shield=True):
            await self._stack.aclose()
            await anyio.to_thread.run_sync(self.bench.spool.sweep, limiter=self.bench.threads)

    @property
    def stopped(self) -> bool:
        return self._halt.is_set()

    def stop(self) -> None:
        """Send nothing new; what is on its way is finished."""
        self._halt.set()

    def block(self, error: Blocked) -> None:
        """Stop until a person acts; the first reason is the one that is told."""
        self.blocked = self.blocked or error
        self.stop()

    @asynccontextmanager
    async def slot(self) -> AsyncIterator["Slot"]:
        """An open request's place, once fewer than `width` are open; Stopped where none may be sent any more."""
        slot = Slot(self)
        await slot.take()
        try:
            if self.stopped:
                raise Stopped
            yield slot
        finally:
            slot.leave()

    async def lend(self) -> Client:
        await self._slots.acquire()
        self.open += 1
        try:
            return self._idle.pop() if self._idle else await self._stack.enter_async_context(Client(self._access))
        except BaseException:
            self.open -= 1
            self._slots.release()
            raise

    def take_back(self, client: Client) -> None:
        self.open -= 1
        self._idle.append(client)
        self._slots.release()

    def sender(self, slot: "Slot", attempt: Attempt) -> Send:
        """How an attempt's requests are sent: with its id, and its purchase's key where the provider honours one."""
        headers: dict[str, str] = {"x-client-request-id": attempt.id}
        if self.provider.idempotency:
            headers["idempotency-key"] = attempt.purchase

        async def send(request: Request, sink: Sink) -> Reply:
            return await slot.send(request, sink, headers if request.auth else {})

        return send

    async def pause(self, task: str, seconds: float, why: str) -> None:
        """Wait before the next try, outside of any slot; Stopped as soon as there will be none."""
        self.waiting[task] = why
        try:
            with anyio.move_on_after(seconds):
                await self._halt.wait()
        finally:
            del self.waiting[task]
        if self.stopped:
            raise Stopped

    def redact(self, text: str) -> str:
        """Take the key out of what a server said."""
        for secret in self.secrets:
            text = text.replace(secret, "[key]")
            if half := next((n for n in range(len(secret) - 1, HALF - 1, -1) if text.endswith(secret[:n])), 0):
                text = text[:-half] + "[key]"  # the words were cut inside of it
        return text

    @property
    def secrets(self) -> list[str]:
        """What may stand in no file and no output."""
        return [value.removeprefix("Bearer ") for value in self._access.auth.values() if len(value) > 8]


class Slot:
    """One request's place and client, free again as soon as the answer is on the disk: reading it needs neither."""

    def __init__(self, lane: Lane) -> None:
        self._lane = lane
        self._loop = asyncio.get_running_loop()
        self._thread = threading.get_ident()
        self._client: Client | None = None

    async def take(self) -> Client:
        self._client = self._client or await self._lane.lend()
        return self._client

    async def send(self, request: Request, sink: Sink, headers: Mapping[str, str]) -> Reply:
        """Send a request, in a place taken anew where this one was left: what is bought is fetched, whoever drains."""
        client = await self.take()
        return await client.send(request, sink, headers)

    def leave(self) -> None:
        if self._client:
            self._lane.take_back(self._client)
            self._client = None

    def sealed(self) -> None:
        """No connection is needed for a while; called from the loop, or from the thread that made an answer durable."""
        if threading.get_ident() == self._thread:
            self.leave()
        else:
            self._loop.call_soon_threadsafe(self.leave)
