"""Buy one task: begin, perform, settle, in the program's only retry loop."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace

import anyio
import anyio.to_thread
import tenacity

from batchgen import links, records, settle
from batchgen.attempt import answered, check_place, perform
from batchgen.crew import LOST, Crew
from batchgen.deadline import Deadline
from batchgen.errors import (
    Blocked,
    Busy,
    Gone,
    Pending,
    ProviderError,
    Refused,
    Rejected,
    Unknown,
    Unsent,
    Unserved,
)
from batchgen.lane import Lane
from batchgen.ledger import Forgotten, Ledger
from batchgen.limits import Cap, backoff
from batchgen.purse import Exhausted, Purse
from batchgen.receipt import ENGINE, Receipt
from batchgen.settle import Case, Policy
from batchgen.slot import Slot
from batchgen.task import Attempt, AttemptState, Settlement, Task, TaskState
from batchgen.text import clean
from batchgen.turn import ONE, Again
from batchgen.wire import Outcome, Reply

ANSWERED = (AttemptState.PAID, AttemptState.UNUSABLE)  # a clear no says nothing of how long an image takes
PROBES_MOST = 30  # of one task, that use up no try: afterwards it may be the task that is to blame
STAFF = 0.2  # seconds between two looks for somebody who makes an attempt, at least
LOOKS, FINDS = 500, 100  # a second, of all who wait for a worker, and of all who look into the store for a receipt
Listener = Callable[[Task, Settlement], None]


@dataclass(frozen=True, slots=True)
class Means:
    """What buying needs, whatever the task; `settled` hears of every settlement."""

    ledger: Ledger
    lane: Lane
    purse: Purse
    policy: Policy
    settled: Listener
    engine: str
    share: float = 1.0  # of the price, that this way of buying takes
    deadline: Deadline = field(default_factory=Deadline)
    crew: Crew | None = None  # where attempts of `receipt.ENGINE` are made


class Errand:
    """One task on its way. `attempt` is the one that is open: perhaps bought, and not yet settled."""

    def __init__(self, means: Means, task: Task, attempt: Attempt | None = None, came: Reply | None = None) -> None:
        self._means = means
        self._task = task
        self._resumed = attempt is not None
        self._came = came  # what was asked for in another way than by sending it
        self._tries = task.tries
        self._pauses = 0
        self._fetches = 0
        self._probes = 0
        self._why = ""
        self.attempt = attempt

    async def run(self) -> None:
        """Try until a try says that there is no next one."""
        retrying = tenacity.AsyncRetrying(
            retry=tenacity.retry_if_not_result(lambda pause: pause is None),
            wait=lambda state: state.outcome.result() if state.outcome else 0,
            sleep=self._pause,
        )
        await retrying(self._once)

    def judge(self, found: Receipt) -> Settlement:
        """What the attempt came to by its receipt, and to no re-send that would cost anything."""
        assert self.attempt
        try:
            settled = self._heard(self.attempt, found.result(), None)[0]
            self._means.purse.allowance.settle(settled.allowance, 0)
            return replace(settled, task=TaskState.HELD, allowance=0) if settled.allowance else settled
        except ProviderError as error:
            policy = replace(self._means.policy, resend_unknown=False)
            return self._requeued(settle.failure(Case(self.attempt, self._tries, policy, Cap(0)), error))

    async def fail(self, error: ProviderError) -> None:
        """Settle the attempt: no answer of its own will come."""
        assert self.attempt
        self._redact(error)
        await self._settle(self.attempt, self._failure(self.attempt, error))

    async def _pause(self, seconds: float) -> None:
        buys, stays = self.attempt is None, self._task.replay
        await self._means.lane.pause(self._task.key, seconds, self._why, buys, stays)

    async def _once(self) -> float | None:
        """One try; returns the seconds until the next one, or None where there is none."""
        means, resumed = self._means, self.attempt is not None
        if not resumed:
            await means.purse.room(self._task)
            await self._staffed()
        try:
            draw = ONE if resumed else means.purse.draw(self._task)
            async with means.lane.slot(not resumed, draw, "" if self._task.replay else self._task.key) as slot:
                attempt, begun = self.attempt or await self._begin(), anyio.current_time()
                settled, error = await self._perform(attempt, slot, buy=not resumed)
        except Again:
            return 0.0
        except Forgotten:
            await self._hold()
            return None
        if settled is None:
            return await self._keep(error)
        await self._settle(attempt, settled)
        if not resumed and settled.attempt in ANSWERED:
            means.deadline.took(means.lane.name, anyio.current_time() - begun)
        return self._next(settled, error)

    async def _staffed(self) -> None:
        """Wait until somebody can make an attempt; Stopped where nobody will."""
        crew, lane = self._means.crew, self._means.lane
        while self._means.engine == ENGINE and crew and (why := crew.lacking):
            try:
                crew.check()
            except Blocked as error:
                lane.block(error)
            pause = max(STAFF, len(lane.waiting) / LOOKS)
            await lane.pause(self._task.key, pause, f"waiting for {why}")

    async def _begin(self) -> Attempt:
        """Its turn has come; Again where others took the room under the caps meanwhile."""
        means, lane = self._means, self._means.lane
        check_place(replace(self._task, tries=self._tries), lane.bench, lane.open)
        if means.deadline.due(lane.name, time.time()):
            raise Exhausted(means.deadline.name)
        if not means.purse.reserve(self._task):
            raise Again
        money, lifetime = means.purse.quote(self._task), lane.provider.idempotency
        high = money.high if money else None
        try:
            self.attempt = await means.ledger.begin(self._task, lane.name, means.engine, high, lifetime, lane.scope)
        except Forgotten:
            raise
        except BaseException:
            means.purse.cancel(self._task)
            raise
        return self.attempt

    async def _hold(self) -> None:
        """The provider knows the key no more under which the task could be sent again for nothing."""
        await self._means.ledger.hold(self._task)
        self._means.purse.cancel(self._task)
        self._means.settled(self._task, Settlement(AttemptState.UNKNOWN, TaskState.HELD))

    async def _perform(self, attempt: Attempt, slot: Slot, buy: bool) -> tuple[Settlement | None, ProviderError | None]:
        """What came of an attempt; no settlement where it is bought and its images are still to be had."""
        lane = self._means.lane
        came, self._came = self._came, None
        try:
            elsewhere = attempt.engine == ENGINE and not attempt.handle
            outcome = await (self._told(attempt, slot, buy) if elsewhere else self._made(attempt, slot, buy, came))
        except ProviderError as error:
            self._redact(error)
            if isinstance(error, Pending) and not (isinstance(error, Gone) and self._tired):
                return None, error
            failed = self._failure(attempt, error, slot.probe)
            if buy:
                self._tell(error, slot.ticket)
            elif came and isinstance(error, Blocked):
                lane.block(error)
            return failed, error
        except anyio.get_cancelled_exc_class():
            await self._abandon(attempt)
            raise
        return self._heard(attempt, settle.redacted(outcome, lane.redact), slot.ticket if buy else None)

    async def _made(self, attempt: Attempt, slot: Slot, buy: bool, came: Reply | None) -> Outcome:
        """Make the attempt here."""
        lane = self._means.lane
        send = lane.sender(slot, attempt)
        return await perform(
            attempt,
            lane.bench,
            answered(came, send) if came else send,
            buy=buy or came is not None,
            give_up=self._tired,
            accepted=self._accepted,
            sealed=slot.leave,
        )

    async def _told(self, attempt: Attempt, slot: Slot, buy: bool) -> Outcome:
        """Have it made elsewhere, or hear what became of it there."""
        crew, lane, sent = self._means.crew, self._means.lane, anyio.current_time()
        assert crew
        told = await crew.perform(attempt) if buy else None
        while told is None:
            told = await crew.collect(attempt)
            if told is None:
                pause = max(STAFF, len(lane.waiting) / FINDS)
                await lane.pause(self._task.key, pause, "waiting for who is at it", buys=False)
        if told.heard:
            lane.heard(told.heard, slot, sent)
        if told.receipt.handle:
            await self._accepted(told.receipt.handle)
        return told.receipt.result()

    def _heard(self, attempt: Attempt, outcome: Outcome, ticket: int | None) -> tuple[Settlement, ProviderError | None]:
        """What an answer came to; with a `ticket` it came now, and tells that the lane works."""
        purse, lane = self._means.purse, self._means.lane
        variant, share = self._task.variant, self._means.share
        settled = settle.success(attempt, outcome, purse.tariff(variant, share), purse.quote(self._task, share))
        error = settle.broken(outcome)
        if ticket is not None:
            lane.breaker.answered()
            lane.troubled(ticket, error) if error else lane.succeeded(ticket)
        if error is None:
            return replace(settled, sole=self._sole(attempt)), None
        failed = self._failure(attempt, error)
        return replace(
            failed,
            images=outcome.images,
            usage=outcome.usage,
            cost_low=settled.cost_low,
            cost_high=settled.cost_high,
            estimated=settled.estimated,
        ), error

    def _redact(self, error: ProviderError) -> None:
        """Before its words reach a ledger, a log or an eye."""
        lane = self._means.lane
        error.args = (clean(lane.redact(str(error))),)
        error.code, error.request_id = lane.redact(error.code), lane.redact(error.request_id)

    def _failure(self, attempt: Attempt, error: ProviderError, probe: bool = False) -> Settlement:
        lifetime = self._means.lane.provider.idempotency
        case = Case(
            attempt,
            self._tries,
            self._means.policy,
            self._means.purse.allowance,
            replay=attempt.remembered(lifetime, at=records.now()),
            sole=self._sole(attempt),
            probe=probe and self._probes < PROBES_MOST,
        )
        self._probes += probe
        settled = settle.failure(case, error)
        self._means.purse.allowance.reserve(settled.allowance)
        return self._requeued(settled) if self._resumed else settled

    def _sole(self, attempt: Attempt) -> bool:
        """Whether the provider knew its purchase's key when it was sent, so that it charged that no second time."""
        return attempt.remembered(self._means.lane.provider.idempotency)

    def _tell(self, error: ProviderError, ticket: int) -> None:
        """Let the lane know what its provider made of a request that let itself be sent with that ticket."""
        lane = self._means.lane
        if isinstance(error, Unserved) or error.code == LOST:  # it had no part in that
            return
        if isinstance(error, Blocked):
            lane.block(error, ticket)
        elif isinstance(error, Refused):
            lane.breaker.answered()
            lane.succeeded(ticket)
        elif isinstance(error, Rejected) and error.status:  # else it never left
            lane.succeeded(ticket)
            if lane.breaker.rejected(f"{error.status} {error.code} {error}"):
                lane.block(Blocked(f"its first answers were all the same: {error}", code=error.code))
        elif isinstance(error, Unsent):
            lane.troubled(ticket, error)
            if lane.breaker.unsent(anyio.current_time()):
                lane.block(Blocked(f"it was never reached: {error}", code=error.code))
        elif not isinstance(error, Busy | Rejected):
            lane.breaker.connected()
            lane.troubled(ticket, error)

    async def _abandon(self, attempt: Attempt) -> None:
        """Cancelled on the way: without a whole answer its fate is unknown; what is spooled, the next run finishes."""
        held = self.attempt.handle or self.attempt.engine == ENGINE if self.attempt else ""
        if not (held or self._means.lane.bench.spool.holds(attempt.id, 1)):
            unknown = Unknown("cut off: the program was told to leave at once", code="interrupted")
            await self._means.ledger.settle(attempt, self._requeued(self._failure(attempt, unknown)))

    def _requeued(self, settled: Settlement) -> Settlement:
        """What would be tried again here is left to the queue, which knows what is still wanted."""
        return replace(settled, task=TaskState.TODO) if settled.task is TaskState.DOING else settled

    @property
    def _tired(self) -> bool:
        """Asked for so often, in more than one run, that what the provider has no more is lost."""
        return self._resumed and self._fetches >= self._means.policy.attempts

    async def _accepted(self, handle: str) -> None:
        """The provider holds what was bought: from now on a crash costs nothing."""
        assert self.attempt
        self.attempt = replace(self.attempt, handle=handle)
        await self._means.ledger.accept(self.attempt)

    async def _keep(self, error: ProviderError | None) -> float | None:
        """Bought and still with the provider: ask again for a while, then leave it to the next run."""
        assert self.attempt
        await self._accepted(self.attempt.handle)
        if error and error.code == links.REFUSED:  # so are the next ones, perhaps: buy no more of them
            self._means.lane.block(Blocked(str(error), code=error.code))
            return None
        self._fetches += 1
        self._why = "fetching what is bought"
        if self._fetches > self._means.policy.attempts:
            return None
        return backoff(self._fetches, error.retry_after if error else None, self._means.lane.chance)

    async def _settle(self, attempt: Attempt, settled: Settlement) -> None:
        means, bench = self._means, self._means.lane.bench
        relieved = await means.ledger.settle(attempt, settled)
        self.attempt = None
        counted = (settled.cost_high or 0) if settled.attempt is AttemptState.UNKNOWN else self._task.counted
        self._task = replace(self._task, replay=settled.replay, counted=counted)
        means.purse.settle(attempt, settled, relieved)
        means.settled(attempt.task, settled)
        if settled.attempt is AttemptState.UNUSABLE:  # that answer is kept for a person to look at
            await anyio.to_thread.run_sync(bench.spool.censor, attempt.id, means.lane.secrets)
        else:
            bench.spool.discard(attempt.id)
        if means.crew and attempt.engine == ENGINE and settled.code != LOST:  # there may be word of that one yet
            means.crew.settled(attempt.id)

    def _next(self, settled: Settlement, error: ProviderError | None) -> float | None:
        if settled.task is not TaskState.DOING or error is None:
            return None
        self._tries += settled.used_up
        self._pauses += 1
        self._why = f"{error.status or ''} {error.code}".strip()
        return backoff(self._pauses, error.retry_after, self._means.lane.chance)
