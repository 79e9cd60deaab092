"""What is sold at: one set of books, limits and faults for every dialect, and the life of a request for images."""

import itertools
import math
import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from random import Random
from uuid import uuid4

import anyio
from starlette.datastructures import Headers, QueryParams
from starlette.types import Receive, Scope, Send

from batchgen.sandbox import body, stream, tokens
from batchgen.sandbox.accounts import Accounts
from batchgen.sandbox.bill import Bill, Charge
from batchgen.sandbox.delivery import Wire
from batchgen.sandbox.dialect import Dialect, Operation, Sale, respond
from batchgen.sandbox.faults import FAULTS, Fault, Plan
from batchgen.sandbox.files import Files
from batchgen.sandbox.idempotency import Keys
from batchgen.sandbox.mistake import Mistaken
from batchgen.sandbox.order import Answer, Asked, Order, Refused, Usage
from batchgen.sandbox.paint import Painter
from batchgen.sandbox.rate import Bucket
from batchgen.sandbox.tasks import Task, Tasks
from batchgen.sandbox.uploads import Uploads


@dataclass(frozen=True, slots=True)
class Latency:
    """Seconds that an image takes, and how many more it may take at random."""

    least: float = 0.0
    jitter: float = 0.0
    seed: int = 0

    def __call__(self, ordinal: int) -> float:
        return self.least + (self.jitter * Random(f"{self.seed} latency {ordinal}").random() if self.jitter else 0.0)


@dataclass(frozen=True, slots=True)
class Studio:
    """What all dialects share."""

    bill: Bill
    plan: Plan
    painter: Painter
    files: Files
    latency: Latency
    bucket: Bucket | None = None
    accounts: Accounts = field(default_factory=Accounts)
    retry_after_header: bool = False
    tells: str = "headers"  # where its limit is told: in headers too, in the words of a 429 alone, or nowhere
    any_model: bool = False
    links: bool = False  # images are delivered as links where a dialect leaves it open
    flat: int | None = None  # nano-dollars an image, whatever its tokens
    keys: Keys = field(default_factory=Keys)
    tasks: Tasks = field(default_factory=Tasks)
    uploads: Uploads = field(default_factory=Uploads)
    arrivals: Iterator[int] = field(default_factory=lambda: itertools.count(1))

    def price(self, order: Order, used: Usage) -> int:
        return tokens.cost(used, order.family) if self.flat is None else order.n * self.flat


@dataclass(frozen=True, slots=True)
class Counter:
    """An ASGI application: where one operation of one dialect is sold."""

    studio: Studio
    dialect: Dialect
    operation: Operation

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        wire = Wire(scope, receive, send)
        content = await wire.read()
        if content is None:
            return
        asked = arrived(scope, content, next(self.studio.arrivals))
        try:
            order = await self._order(asked)
            if ended := self.studio.accounts.ended(asked):
                raise Refused(self.dialect.declined(ended, asked, order))
            replayed = self.studio.keys.claim(asked)
        except Refused as no:
            replayed = self._refusal(no, asked)
        if replayed:
            await FAULTS["ok"].deliver(wire, replayed)
            return
        fault, answer = await self._serve(wire, asked, order)
        self.studio.keys.settle(asked, wire.complete(answer))
        await fault.deliver(wire, answer)

    async def _order(self, asked: Asked) -> Order:
        """The order that passed every check; raises Refused."""
        if not asked.batch:
            self.dialect.lock.admit(asked)
        if self.operation.name == "generate":
            return self._checked(asked)
        return await anyio.to_thread.run_sync(self._checked, asked)  # looks at images

    def _checked(self, asked: Asked) -> Order:
        try:
            given = body.read(asked, self.operation.tables, open_to_more=self.operation.open_to_more)
            model = given.text("model")
            family = self.family(model)
            if not family:
                raise Refused(self.dialect.unknown_model(model))
            order = self.operation.order(given, self.operation.name, model, family)
            return self.studio.uploads.seen(order, strict=bool(asked.batch))
        except Mistaken as no:
            raise Refused(self.dialect.mistake(no.mistake)) from None

    async def _serve(self, wire: Wire, asked: Asked, order: Order) -> tuple[Fault, Answer]:
        """What to answer and how: once a stream has begun, as its last events."""
        name = self.studio.plan(asked.ordinal)
        fault = FAULTS[name]
        try:
            if not fault.billed and fault.instead:
                return fault, fault.instead(asked)
            if not fault.billed:
                raise Refused(self.dialect.declined(name, asked, order))
            self._admit(asked, order)
            answer = await self._sell(wire, asked, order, fault)
            if fault.breaks:
                raise Refused(self.dialect.declined("500", asked, order))
            answer = await anyio.to_thread.run_sync(fault.spoil, answer) if fault.spoil else answer
        except Refused as no:
            fault, answer = FAULTS["ok"], self._refusal(no, asked)
        return fault, stream.finished(order, answer) if wire.begun else answer

    def _admit(self, asked: Asked, order: Order) -> None:
        """Refuses what comes too fast and what is unsafe."""
        bucket = self.studio.accounts.bucket(asked, self.studio.bucket)
        wait = bucket.take(order.n) if bucket else 0.0
        if bucket and wait:
            problem = self.dialect.too_fast(order, bucket, wait)
            headers = {"retry-after": str(math.ceil(wait))} if self.studio.retry_after_header else {}
            message = "Too many requests: please slow down." if self.studio.tells == "nothing" else problem.message
            raise Refused(replace(problem, message=message, headers=headers))
        self._check_safe(order)

    def _check_safe(self, order: Order) -> None:
        if "[moderated]" in order.prompt:
            raise Refused(self.dialect.unsafe("input"))

    async def _sell(self, wire: Wire, asked: Asked, order: Order, fault: Fault) -> Answer:
        """Makes the images, then bills them: also when the client has left by then, as providers do."""
        seconds = self.studio.latency(asked.ordinal)
        if order.polled:
            return self._promise(asked, order, seconds, fault)
        if order.stream:
            await wire.begin(200, {**stream.HEADERS, **self._signature(asked)})
            await stream.partials(wire, order, self.studio.painter, 10 * asked.ordinal, seconds)
        else:
            await anyio.sleep(seconds)
        return await self._made(asked, order, fault)

    def family(self, model: str) -> str:
        return self.dialect.family_of(model, any_model=self.studio.any_model)

    async def line(self, asked: Asked, fault: Fault, declined: str = "") -> Answer:
        """What the line of a batch comes to; `declined` names the problem that the provider has with it."""
        try:
            order = await self._order(asked)
            if declined:
                raise Refused(self.dialect.declined(declined, asked, order))
            self._check_safe(order)
            answer = await self._made(asked, order, fault)
        except Refused as no:
            return self.dialect.refusal(no.problem, asked)
        return fault.spoil(answer) if fault.spoil else answer

    async def _made(self, asked: Asked, order: Order, fault: Fault) -> Answer:
        if "[moderated-output]" in order.prompt:
            self._charge(asked, order, "refused-output")
            raise Refused(self.dialect.unsafe("output"))
        data = [await self._item(asked, order, nth) for nth in range(order.n)]
        usage, nano_usd = self._charge(asked, order, fault.fate)
        sale = Sale(asked, order, data, usage, nano_usd, time.perf_counter() - asked.at)
        return self._signed(self.dialect.answer(sale), asked)

    def _promise(self, asked: Asked, order: Order, seconds: float, fault: Fault) -> Answer:
        """A task, which is paid for at once."""
        links = [self.studio.files.link(order, 10 * asked.ordinal + nth) for nth in range(order.n)]
        task = Task(order, links, seconds)
        self.studio.tasks.add(task)
        self._charge(asked, order, task.fate or fault.fate)
        query = f"http://{asked.headers['host']}/{self.dialect.name}/v1/images/tasks/{task.id}"
        about = {"task_id": task.id, "object": "image", "model": order.model, "status": "created"}
        answer = respond({"code": 200, "message": "success", "data": {**about, "urls": {"query": query}}})
        return self._signed(answer, asked)

    def _charge(self, asked: Asked, order: Order, fate: str) -> tuple[dict[str, object], int]:
        used = tokens.usage(order)
        usage, nano_usd = tokens.told(used), self.studio.price(order, used) // (2 if asked.batch else 1)
        self.studio.bill.add(Charge(self.dialect.name, asked, order, usage, nano_usd, fate))
        return usage, nano_usd

    async def _item(self, asked: Asked, order: Order, nth: int) -> bytes:
        number = 10 * asked.ordinal + nth
        if (order.delivery or ("url" if self.studio.links else self.dialect.delivery)) == "url":
            return b'{"url": "%b"}' % self.studio.files.link(order, number).encode()
        return b'{"b64_json": "%b"}' % (await self.studio.painter(order, number)).base64

    def _refusal(self, no: Refused, asked: Asked) -> Answer:
        return self._signed(self.dialect.refusal(no.problem, asked), asked)

    def _signed(self, answer: Answer, asked: Asked) -> Answer:
        return replace(answer, headers={**answer.headers, **self._signature(asked)})

    def _signature(self, asked: Asked) -> dict[str, str]:
        known = self.studio.accounts.bucket(asked, self.studio.bucket)
        bucket = known if self.studio.tells == "headers" else None
        return self.dialect.headers(asked, bucket, time.perf_counter() - asked.at)


def arrived(scope: Scope, content: bytes = b"", ordinal: int = 0) -> Asked:
    return Asked(
        ordinal=ordinal,
        at=time.perf_counter(),
        request_id=f"req_{uuid4().hex}",
        path=scope["path"],
        headers=Headers(scope=scope),
        body=content,
        query=QueryParams(scope["query_string"]),
    )
