"""The life of a request for images: admitted, checked, metered, painted, billed, handed over."""

import itertools
import math
import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from random import Random
from uuid import uuid4

import anyio
from starlette.datastructures import Headers
from starlette.types import Receive, Scope, Send

from batchgen.sandbox import openai, tokens
from batchgen.sandbox.bill import Bill, Charge
from batchgen.sandbox.delivery import Wire
from batchgen.sandbox.faults import FAULTS, Fault, Plan
from batchgen.sandbox.order import Answer, Asked, Order, Refused
from batchgen.sandbox.paint import Painter
from batchgen.sandbox.rate import Bucket


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
    """An ASGI application that sells images; every path that it serves shares its books, its limit and its faults."""

    bill: Bill
    plan: Plan
    painter: Painter
    latency: Latency
    bucket: Bucket | None = None
    retry_after_header: bool = False
    any_model: bool = False
    links: bool = False  # answers hold links to the images instead of their bytes
    files: dict[str, tuple[Order, int]] = field(default_factory=dict)  # by name; painted whenever the link is fetched
    _arrivals: Iterator[int] = field(default_factory=lambda: itertools.count(1))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        wire = Wire(scope, receive, send)
        body = await wire.read()
        if body is None:
            return
        asked = self._asked(scope, body)
        try:
            fault, answer = await self._serve(asked)
        except Refused as no:
            fault, answer = FAULTS["ok"], self._signed(openai.refusal(no.problem), asked)
        await fault.deliver(wire, answer)

    def _asked(self, scope: Scope, body: bytes) -> Asked:
        return Asked(
            ordinal=next(self._arrivals),
            at=time.perf_counter(),
            request_id=f"req_{uuid4().hex}",
            path=scope["path"],
            headers=Headers(scope=scope),
            body=body,
        )

    async def _serve(self, asked: Asked) -> tuple[Fault, Answer]:
        """What to answer and how; nothing is billed when this raises Refused, save for an image that was refused."""
        openai.admit(asked.headers)
        order = openai.check(asked, self.any_model)
        name = self.plan(asked.ordinal)
        fault = FAULTS[name]
        if not fault.billed:
            return fault, fault.instead or self._signed(openai.refusal(openai.declined(name, asked, order)), asked)
        self._meter(order)
        answer = await self._sell(asked, order, fault)
        return fault, await anyio.to_thread.run_sync(fault.spoil, answer) if fault.spoil else answer

    def _meter(self, order: Order) -> None:
        wait = self.bucket.take(order.n) if self.bucket else 0.0
        if self.bucket and wait:
            problem = openai.too_fast(order, self.bucket, wait)
            headers = {"retry-after": str(math.ceil(wait))} if self.retry_after_header else {}
            raise Refused(replace(problem, headers=headers))

    async def _sell(self, asked: Asked, order: Order, fault: Fault) -> Answer:
        """Makes the images, then bills them: also when the client has left by then, as providers do."""
        if "[moderated]" in order.prompt:
            raise Refused(openai.unsafe("input"))
        await anyio.sleep(self.latency(asked.ordinal))
        used = tokens.usage(order)
        usage, nano_usd = openai.usage(used), tokens.cost(used, order.family)
        if "[moderated-output]" in order.prompt:
            self.bill.add(Charge(asked, order, usage, nano_usd, fate="refused-output"))
            raise Refused(openai.unsafe("output"))
        data = [await self._item(asked, order, nth) for nth in range(order.n)]
        self.bill.add(Charge(asked, order, usage, nano_usd, fault.fate))
        return self._signed(openai.images(order, data, usage), asked)

    async def _item(self, asked: Asked, order: Order, nth: int) -> bytes:
        number = 10 * asked.ordinal + nth
        if not self.links:
            picture = await self.painter(order, number)
            return b'{"b64_json": "%b"}' % picture.base64
        name = f"{uuid4().hex}.{order.format}"
        self.files[name] = order, number
        return b'{"url": "http://%b/files/%b"}' % (asked.headers["host"].encode(), name.encode())

    def _signed(self, answer: Answer, asked: Asked) -> Answer:
        took = time.perf_counter() - asked.at
        return replace(answer, headers={**answer.headers, **openai.headers(asked, self.bucket, took)})
