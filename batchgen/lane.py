"""A lane: one provider and key, its clients, its gate, pace and breaker, and the tasks that wait for their next try."""

import asyncio
import logging
import random
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager

import anyio

from batchgen import records
from batchgen.attempt import Bench, Send, headers
from batchgen.catalog import Provider
from batchgen.client import Access, Client
from batchgen.errors import Blocked, ProviderError, Unknown, Unusable
from batchgen.gate import LOST_MOST, PATIENCE
from batchgen.limits import Breaker
from batchgen.pace import Draw, Learned
from batchgen.pour import Sink
from batchgen.redact import redact
from batchgen.remedy import remedy
from batchgen.slot import Slot
from batchgen.task import Attempt
from batchgen.throttle import Throttle
from batchgen.turn import ONE, Again, Stopped, Turn
from batchgen.wire import Reply, Request

FILES = 4  # that an open request needs: its connection, its answer's text and image, a share of what else is open
A_LITTLE = 0.001  # seconds: a timer may be early by less
AWAITED = {401, 402, 403, 429}  # what may change without a word from us: the key's rights, the credit
CHANGES_MOST = 20  # of window and pace that are kept to be shown
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
        self.name, self.pool = provider.lane, provider.identity
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
        self._resting: dict[str, Turn] = {}  # those who wait for their next try, by their names
        self._asking: anyio.Event | None = None  # set when the next one would be let through at once
        self._usual = ONE  # what was drawn last
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
        for turn in self._resting.values():
            turn.come.set()
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
        if self.blocked is None:
            self.blocked = error
            self._note(f"blocked: {error}")
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
        return f"{self.name}: {str(self.blocked).rstrip('.')}{remedy(self.blocked, self.provider)}"

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
    async def slot(self, buys: bool = True, draw: Draw = ONE, task: str = "") -> AsyncIterator[Slot]:
        """An open request's place, once gate and pace let it through; Stopped where none may be sent any more.

        What is bought already waits for none of them: its links do not last. `task` is the key of one that may be
        dismissed as long as it waits.
        """
        slot = Slot(self, draw, task)
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
        if self.stopped:
            self.answer()
        if not self.queued or self.paused:
            return
        now, wait = _now(), None
        while self._buying and (wait := self._throttle.wait(now, self.open, self._buying[0].draw)) == 0:
            self._usual = self._buying[0].draw
            self._throttle.draw(now, self._usual)
            self._let(self._buying.popleft(), True)
        if not self._buying and self._asking and (wait := self._throttle.wait(now, self.open, self._usual)) == 0:
            self.answer()
        if wait and not now < self._alarm <= now + wait + A_LITTLE:  # no look comes earlier
            self._alarm = now + wait + A_LITTLE
            asyncio.get_running_loop().call_at(self._alarm, self._admit)

    def _let(self, turn: "Turn", admitted: bool) -> None:
        turn.admitted, turn.ticket, turn.probe = admitted, self.gate.ticket, self.gate.closed
        self.open += admitted
        turn.come.set()

    async def ready(self) -> None:
        """Wait until gate and pace would let the next one through at once, or it is of no use to wait."""
        self._asking = asked = anyio.Event()
        self._admit()
        await asked.wait()

    def answer(self) -> None:
        """Keep nobody waiting who asked whether there is room."""
        if self._asking:
            self._asking.set()
            self._asking = None

    def dismiss(self, may: Callable[[str], bool]) -> str:
        """Send home the last of those who wait and whose task `may` be served elsewhere; its key, or ""."""
        for turn in reversed([*self._resting.values(), *self._buying]):
            if turn.task and not turn.come.is_set() and may(turn.task):
                if turn in self._buying:
                    self._buying.remove(turn)
                turn.come.set()
                return turn.task
        return ""

    @property
    def queued(self) -> int:
        """How many wait for gate or pace; one of them stands for those who come only when there is room."""
        return len(self._buying) + bool(self._asking)

    @property
    def slowness(self) -> str:
        """What those wait for who wait for the pace, in words; else nothing."""
        return self.pace.why(_now()) if self.queued and not self.gate.why else ""

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

    def heard(self, reply: Reply, slot: Slot, sent: float) -> None:
        """What the provider answered to a request of that slot that was sent then."""
        self._throttle.heard(_now(), reply, slot.draw, sent)

    async def pause(self, task: str, seconds: float, why: str, buys: bool = True, stays: bool = True) -> None:
        """Wait before the next try, outside of any slot; Stopped as soon as there will be none here. "" is not shown.

        Who does not stay may be dismissed.
        """
        turn = Turn(ONE, "" if stays else task)
        end = turn.come if buys else self._left
        self._resting |= {task: turn} if buys else {}
        self.waiting |= {task: why} if why else {}
        try:
            with anyio.move_on_after(0 if buys and self.stopped else seconds):
                await end.wait()
        finally:
            self.waiting.pop(task, None)
            self._resting.pop(task, None)
        if end.is_set() or (buys and self.stopped):
            raise Stopped

    def redact(self, text: str) -> str:
        """Take the key out of what a server said."""
        return redact(text, self.secrets)

    @property
    def secrets(self) -> list[str]:
        """What may stand in no file and no output."""
        return [] if self.provider.pretend else self._access.secrets


def _now() -> float:
    return asyncio.get_running_loop().time()  # also where no task runs, but a callback
