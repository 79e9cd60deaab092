"""A server that misbehaves: raw bytes on a socket, in a thread of its own, one behaviour a request."""

import asyncio
import base64
import json
import socket
import ssl
import struct
import threading
from collections.abc import Awaitable, Callable, Iterable
from contextlib import suppress
from types import TracebackType
from typing import Self

from world import png

HEAD = b"HTTP/1.1 %d %b\r\n"
OK = HEAD % (200, b"OK")
CHUNKED, STREAM = b"Transfer-Encoding: chunked\r\n", b"Content-Type: text/event-stream\r\n"
GZIP = b"Content-Encoding: gzip\r\n"
USAGE = {"input_tokens": 5, "output_tokens": 196, "total_tokens": 201}
PIECE = 1 << 16


class Over(Exception):
    """The server hangs up."""


class Exchange:
    """One request that has arrived, and what is done to it."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, head: bytes) -> None:
        self.reader, self.writer, self.head = reader, writer, head

    async def asked(self) -> bytes:
        """The request's body."""
        lines = self.head.lower().split(b"\r\n")
        length = next((line.partition(b":")[2] for line in lines if line.startswith(b"content-length:")), b"0")
        return await self.reader.readexactly(int(length))

    async def say(self, *parts: bytes, pause: float = 0.0) -> None:
        for part in parts:
            self.writer.write(part)
            await self.writer.drain()
            await asyncio.sleep(pause)

    async def hang(self) -> None:
        """Until the client has left."""
        while await self.reader.read(PIECE):
            pass
        raise Over

    def reset(self) -> None:
        """RST: what is still on its way is lost."""
        linger = struct.pack("ii", 1, 0)
        self.writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        self.writer.transport.abort()
        raise Over


Behaviour = Callable[[Exchange], Awaitable[None]]


class Wild:
    """The i-th request meets the i-th behaviour, and those after the last get an image.

    `heard` are the heads of the requests, `prompts` their prompts, in their order.
    """

    def __init__(self, *behaviours: Behaviour, tls: ssl.SSLContext | None = None, host: str = "127.0.0.1") -> None:
        self.heard: list[bytes] = []
        self._behaviours, self._tls, self._host = behaviours, tls, host
        self._ready = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._serve()))

    def __enter__(self) -> Self:
        self._thread.start()
        assert self._ready.wait(20)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._loop.call_soon_threadsafe(self._over.set)
        self._thread.join(20)

    async def _serve(self) -> None:
        self._loop, self._over, self._tasks = asyncio.get_running_loop(), asyncio.Event(), set[asyncio.Task[None]]()
        self._loop.set_exception_handler(lambda *_: None)  # of connections that a client cut off
        listener = await asyncio.start_server(self._connected, self._host, 0, ssl=self._tls)
        self.port = int(listener.sockets[0].getsockname()[1])
        self.url = f"{'https' if self._tls else 'http'}://{self._host}:{self.port}"
        self._ready.set()
        await self._over.wait()
        listener.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task
        self._tasks.add(task)
        with suppress(Over, OSError, EOFError, asyncio.CancelledError):
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                self.heard.append(head)
                n = len(self.heard)
                await (self._behaviours[n - 1] if n <= len(self._behaviours) else good)(Exchange(reader, writer, head))
        self._tasks.discard(task)
        writer.close()


async def good(exchange: Exchange) -> None:
    await exchange.asked()
    await exchange.say(answer())


def image(data: bytes = b"") -> bytes:
    """The JSON of an answer with one picture."""
    text = base64.b64encode(data or png()).decode()
    return json.dumps({"created": 1, "data": [{"b64_json": text}], "usage": USAGE}).encode()


def answer(body: bytes | None = None, status: int = 200, headers: bytes = b"", length: int | None = None) -> bytes:
    """A whole answer; `length` is what it claims of itself where that is not the truth."""
    body = image() if body is None else body
    size = len(body) if length is None else length
    return HEAD % (status, b"Said") + headers + b"Content-Length: %d\r\n\r\n" % size + body


def says(*parts: bytes, pause: float = 0.0, then: str = "") -> Behaviour:
    """Takes the request in, says these parts with a pause behind each; then goes on, or `fin`, `rst` or `hang`."""

    async def behave(exchange: Exchange) -> None:
        await exchange.asked()
        await exchange.say(*parts, pause=pause)
        if then == "hang":
            await exchange.hang()
        if then == "rst":
            exchange.reset()
        if then:
            raise Over

    return behave


def pours(head: bytes, parts: Callable[[], Iterable[bytes]], pause: float = 0.0) -> Behaviour:
    """A head, and a body that is too large to be made at once, at the pace of who listens; then hangs up."""

    async def behave(exchange: Exchange) -> None:
        await exchange.asked()
        await exchange.say(head)
        for part in parts():
            await exchange.say(part, pause=pause)
        raise Over

    return behave
