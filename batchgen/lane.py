"""A lane: one provider and key, its clients, its gate, pace and breaker, and the tasks that wait for their next try."""

import asyncio
import logging
import random
from collections import deque
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager

import anyio

from batchgen import records
from batchgen.attempt import Bench, Send, headers
from batchgen.catalog import Provider
from batchgen.client import Access, Client
from batchgen.dialects.base import NO_CREDIT
from batchgen.errors import Blocked, ProviderError, Unknown, Unusable
from batchgen.gate import LOST_MOST, PATIENCE
from batchgen.limits import Breaker
from batchgen.pace import Draw, Learned
from batchgen.pour import Sink
from batchgen.redact import redact
from batchgen.task import Attempt
from batchgen.throttle import Throttle
from batchgen.turn import Again, Stopped, Turn
from batchgen.wire import Reply, Request

FILES = 4  # that an open request needs: its connection, its answer's text and image, a share of what else is open
A_LITTLE = 0.001  # seconds: a timer may be early by less
AWAITED = {401, 402, 403, 429}  # what may change without a word from us: the key's rights, the credit
CHANGES_MOST = 20  # of window and pace that are kept to be shown
ONE = Draw()
log = logging.getLogger("batchgen")


class Lane:
    """`width` requests at most are open at once, each on a client of its own; no more are sent than `limits` a minute.

    With `patient` a provider that wants a person, for the key or the credit, is tried now and then. With `eager` all of
    the width is used as soon as one answer came, else it is found out how much of it is of use.
    """

    def __init__(
        self,
        provider: Provider,
        bench: Bench,
        access: Access,
        width: int,
        patient: bool = False,
        limits: Mapping[str, float] | None = None,
        eager: bool = False,
    ) -> None:
        self.provider = provider
        self.name = provider.identity
        self.bench = bench
        self.width = width
        self.breaker = Breaker()
        self.chance = random.Random()
        self._throttle = Throttle(width, limits or {}, self.chance, self._note, eager)
        self.gate, self.pace = self._throttle.gate, self._throttle.pace
        self.recalled: list[Learned] = []  # of its limits, as the ledger holds it
        self.changes: deque[tuple[str, str]] = deque(maxlen=CHANGES_MOST)  # when (UTC), and what of window or pace
        self.patient = patient
        self.room = anyio.CapacityLimiter(2 * width)  # for errands: one that waits leaves its slot to another
        self.paused = False
        self.blocked: Blocked | None = None
        self.open = 0
        self.waiting: dict[str, str] = {}  # task's key → why it waits
        self._access = access
        self._halt, self._left = anyio.Event(), anyio.Event()
        self._fetching: deque[Turn] = deque()  # those who wait to fetch what is bought, and those who wait to buy
        self._buying: deque[Turn] = deque()
        self._alarm = 0.0  # when gate and pace are looked at again, though nothing else happens
        self._idle: list[Client] = []  # the last one used goes first: few connections stay warm, the rest lapse
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> "Lane":
        self.pace.begin(_now())
        return self

    async def __aexit__(self, *_: object) -> None:
        with anyio.CancelScope(shield=True):
            await self._stack.aclose()

    @property
    def stopped(self) -> bool:
        return self._halt.is_set()

    def stop(self) -> None:
        """Send nothing new; what is on its way is finished."""
        self._halt.set()
        self._admit()

    def drain(self) -> None:
        """Stop, and leave what is to be fetched later to the next run."""
        self._left.set()
        self.stop()

    def hold(self, paused: bool) -> None:
        """Send nothing new for a while, or go on; what is bought is fetched all the same."""
        self.paused = paused
        self._admit()

    def recheck(self) -> None:
        """Let those who wait look again whether they may buy at all."""
        while self._buying:
            turn = self._buying.popleft()
            turn.again = True
            turn.come.set()

    def resize(self, width: int) -> None:
        """Let another number of requests be open; those that are on their way stay so."""
        self.width, self.room.total_tokens = width, 2 * width
        self.gate.resize(width)
        self._admit()

    def give(self, kind: str, per_minute: float) -> None:
        """Send no more than so many a minute from now on."""
        self.pace.give(_now(), kind, per_minute)
        self._admit()

    async def refresh(self) -> None:
        """Close the connections that lie idle: after a sleep of the machine, they may lead nowhere."""
        idle, self._idle = self._idle, []
        for client in idle:
            async with client:  # leaving closes it; a new one is made when it is needed
                pass

    def block(self, error: Blocked, ticket: int = 0) -> None:
        """Stop until a person acts; the first reason is the one that is told.

        A lane that is patient tries again now and then, where it was the provider that said so.
        """
        self.blocked = self.blocked or error
        if self.patient and error.status in AWAITED:
            self.gate.blocked(ticket, _now(), f"{error.status} {error.code}")
            self._admit()
        else:
            self.stop()

    def recall(self, learned: Iterable[Learned]) -> None:
        """Begin with what an earlier run learned of the account's limits."""
        self.recalled = [*learned]
        self.pace.begin(_now(), self.recalled)

    @property
    def scope(self) -> str:
        """Who remembers an idempotency key: that host, for that account. Nothing where none is sent."""
        return self.account if self.provider.idempotency else ""

    @property
    def account(self) -> str:
        """That host and that account, as a hash that tells neither."""
        return self._access.account

    @property
    def plight(self) -> str:
        """Why it is blocked, and what a person can do; nothing where it is not."""
        if self.blocked is None:
            return ""
        return f"{self.name}: {str(self.blocked).rstrip('.')}{_remedy(self.blocked, self.provider)}"

    def succeeded(self, ticket: int) -> None:
        """The provider answered as it should."""
        self._throttle.succeeded(ticket, self.open, self.queued)
        if self.gate.tells(ticket) and not self.stopped:
            self.blocked = None
        self._admit()

    def troubled(self, ticket: int, error: ProviderError) -> None:
        """The provider, or the way to it, failed a request; where it never does anything else, the lane stops."""
        now, why = _now(), f"{error.status or ''} {error.code}".strip()
        if error.status == 429:
            self._throttle.limited(ticket, now, error.retry_after, why)
        else:
            self.gate.troubled(ticket, now, error.retry_after, why, lost=isinstance(error, Unknown | Unusable))
        if self.gate.wasteful:
            says = f"nothing came of {LOST_MOST} requests in a row that may be billed"
            self.block(Blocked(f"{says}: {error}", code=error.code))
        elif self.gate.hopeless(now) and not self.patient:
            self.block(Blocked(f"nothing else came for {PATIENCE / 3600:g} hours: {error}", code=error.code))
        self._admit()

    @asynccontextmanager
    async def slot(self, buys: bool = True, draw: Draw = ONE) -> AsyncIterator["Slot"]:
        """An open request's place, once gate and pace let it through; Stopped where none may be sent any more.

        What is bought already waits for none of them: its links do not last.
        """
        slot = Slot(self, draw)
        if buys:
            await slot.take(buys)
        elif self._left.is_set():
            raise Stopped
        try:
            yield slot
        finally:
            slot.leave()

    async def lend(self, turn: Turn, buys: bool) -> Client:
        """A client, in turn. Those who fetch what is bought wait for a place alone, whatever gate, pace and lane do."""
        queue = self._buying if buys else self._fetching
        queue.append(turn)
        self._admit()
        try:
            await turn.come.wait()
        except BaseException:
            if turn in queue:
                queue.remove(turn)
            elif turn.admitted:
                self._leave()
            raise
        if turn.again:
            raise Again
        if not turn.admitted:
            raise Stopped
        try:
            return self._idle.pop() if self._idle else await self._stack.enter_async_context(Client(self._access))
        except BaseException:
            self._leave()
            raise

    def _admit(self) -> None:
        """Let through all for whom there is room now, in their order, and send home who waits for nothing any more."""
        while self._fetching and self.open < self.width:
            self._let(self._fetching.popleft(), True)
        while self._buying and self.stopped:
            self._let(self._buying.popleft(), False)
        if not self._buying or self.paused:
            return
        now, wait = _now(), None
        while self._buying and (wait := self._throttle.wait(now, self.open, self._buying[0].draw)) == 0:
            self._throttle.draw(now, self._buying[0].draw)
            self._let(self._buying.popleft(), True)
        if self._buying and wait and not now < self._alarm <= now + wait + A_LITTLE:  # no look comes earlier
            self._alarm = now + wait + A_LITTLE
            asyncio.get_running_loop().call_at(self._alarm, self._admit)

    def _let(self, turn: "Turn", admitted: bool) -> None:
        turn.admitted, turn.ticket, turn.probe = admitted, self.gate.ticket, self.gate.closed
        self.open += admitted
        turn.come.set()

    @property
    def queued(self) -> int:
        """How many wait for gate or pace."""
        return len(self._buying)

    @property
    def slowness(self) -> str:
        """What those wait for who wait for the pace, in words; else nothing."""
        return self.pace.why(_now()) if self._buying and not self.gate.why else ""

    def _note(self, what: str) -> None:
        """A change of window or pace, for the log and for whoever asks."""
        log.info("%s: %s", self.name, what)
        self.changes.append((records.now(), what))

    def take_back(self, client: Client) -> None:
        self._idle.append(client)
        self._leave()

    def _leave(self) -> None:
        self.open -= 1
        self._admit()

    def sender(self, slot: "Slot", attempt: Attempt) -> Send:
        """How an attempt's requests are sent."""
        named = headers(attempt, self.provider)

        async def send(request: Request, sink: Sink) -> Reply:
            sent = _now()
            reply = await slot.send(request, sink, named if request.auth else {})
            if request.auth and not request.handle:
                self.heard(reply, slot, sent)
            return reply

        return send

    def heard(self, reply: Reply, slot: "Slot", sent: float) -> None:
        """What the provider answered to a request of that slot that was sent then."""
        self._throttle.heard(_now(), reply, slot.draw, sent)

    async def pause(self, task: str, seconds: float, why: str, buys: bool = True) -> None:
        """Wait before the next try, outside of any slot; Stopped as soon as there will be none. "" is not shown."""
        end = self._halt if buys else self._left
        self.waiting |= {task: why} if why else {}
        try:
            with anyio.move_on_after(seconds):
                await end.wait()
        finally:
            self.waiting.pop(task, None)
        if end.is_set():
            raise Stopped

    def redact(self, text: str) -> str:
        """Take the key out of what a server said."""
        return redact(text, self.secrets)

    @property
    def secrets(self) -> list[str]:
        """What may stand in no file and no output."""
        return self._access.secrets


def _now() -> float:
    return asyncio.get_running_loop().time()  # also where no task runs, but a callback


def _remedy(error: Blocked, provider: Provider) -> str:
    if error.status == 401 and provider.api_key_env:
        return f". Put a key that it takes into {provider.api_key_env}"
    if error.status == 402 or error.code in NO_CREDIT:
        return ". Add credit or raise the limit there; limits.on_blocked: wait tries again by itself"
    return ". See there what this key and account may do" if error.status == 403 else ""


class Slot:
    """One request's place and client, free again as soon as the answer is on the disk: reading it needs neither."""

    def __init__(self, lane: Lane, draw: Draw = ONE) -> None:
        self._lane = lane
        self.draw = draw
        self._client: Client | None = None
        self.ticket, self.probe = 0, False  # as in its turn

    async def take(self, buys: bool = False) -> Client:
        if self._client is None:
            turn = Turn(self.draw)
            self._client = await self._lane.lend(turn, buys)
            if buys:
                self.ticket, self.probe = turn.ticket, turn.probe
        return self._client

    async def send(self, request: Request, sink: Sink, headers: Mapping[str, str]) -> Reply:
        """Send a request, in a place taken anew where this one was left: what is bought is fetched, whoever drains."""
        client = await self.take()
        return await client.send(request, sink, headers)

    def leave(self) -> None:
        if self._client:
            self._lane.take_back(self._client)
            self._client = None
