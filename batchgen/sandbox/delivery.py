"""How an answer leaves: whole, or in one of the ways in which answers get lost."""

import asyncio
import socket
import struct
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import replace

import anyio
from starlette.types import Receive, Scope, Send

from batchgen.sandbox.order import Answer

SILENCE = 3600.0  # seconds after which a stalled connection is cut although the client still waits
DRIP = 1.0  # seconds that a slow body takes


class Wire:
    """One request's end of its connection."""

    def __init__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self._transport: asyncio.Transport = scope["state"]["transport"]
        self._receive = receive
        self._send = send
        self._more = True  # of the request's body
        self.begun = False
        self._said = Answer(200, b"")  # of a stream: its headers, and what it has shown so far

    async def read(self) -> bytes | None:
        """The request's body; None when the client left before it was whole."""
        body = bytearray()
        while self._more:
            message = await self._receive()
            if message["type"] == "http.disconnect":
                return None
            body += message.get("body", b"")
            self._more = message.get("more_body", False)
        return bytes(body)

    async def arriving(self) -> AsyncIterator[bytes]:
        """The request's body piece by piece; it just ends where the client left."""
        while self._more:
            message = await self._receive()
            self._more = message.get("more_body", False)
            if message.get("body"):
                yield message["body"]

    async def start(self, answer: Answer) -> None:
        """Status and headers, unless a stream has begun, which has only its body left to say."""
        if not self.begun:
            await self.begin(answer.status, {**answer.headers, "content-length": str(len(answer.body))})

    async def begin(self, status: int, headers: Mapping[str, str]) -> None:
        self.begun = True
        self._said = Answer(status, b"", headers)
        raw = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in headers.items()]
        await self._send({"type": "http.response.start", "status": status, "headers": raw})

    async def write(self, data: bytes, *, last: bool = False) -> None:
        await self._send({"type": "http.response.body", "body": data, "more_body": not last})

    async def show(self, data: bytes) -> None:
        """A part of the answer on the way."""
        self._said = replace(self._said, body=self._said.body + data)
        await self.write(data)

    def complete(self, answer: Answer) -> Answer:
        """The answer from its first byte on, where a stream has said a part of it already."""
        return replace(self._said, body=self._said.body + answer.body) if self.begun else answer

    async def gone(self) -> None:
        """Waits in silence until the client has left."""
        with anyio.move_on_after(SILENCE):
            while (await self._receive())["type"] != "http.disconnect":
                pass

    def close(self) -> None:
        """Says goodbye after what was written so far."""
        self._transport.close()

    def reset(self) -> None:
        """RST: what was not yet sent is lost, and the other side learns no reason."""
        if self._transport.is_closing():  # the client was quicker
            return
        sock: socket.socket = self._transport.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._transport.abort()


Delivery = Callable[[Wire, Answer], Awaitable[None]]


async def whole(wire: Wire, answer: Answer) -> None:
    await wire.start(answer)
    await wire.write(answer.body, last=True)


async def cut(wire: Wire, answer: Answer) -> None:
    wire.reset()
    await wire.gone()  # returning earlier would look like a bug of ours to the server, which then answers 500


async def truncate(wire: Wire, answer: Answer) -> None:
    await wire.start(answer)
    await wire.write(answer.body[: len(answer.body) // 2])
    wire.close()
    await wire.gone()


async def stall(wire: Wire, answer: Answer) -> None:
    await wire.start(answer)
    await wire.write(answer.body[:100])
    await hang(wire, answer)


async def hang(wire: Wire, answer: Answer) -> None:
    await wire.gone()
    await cut(wire, answer)


async def slow(wire: Wire, answer: Answer) -> None:
    pieces = 20
    step = -(-len(answer.body) // pieces)
    await wire.start(answer)
    for start in range(0, len(answer.body), step):
        await anyio.sleep(DRIP / pieces)
        await wire.write(answer.body[start : start + step])
    await wire.write(b"", last=True)
