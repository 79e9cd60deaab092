"""A connection of its own for each client, under httpx: HTTP/1.1 straight on the event loop.

httpx's own transport is made to share connections; for one request at a time its locks, streams and checks cost nearly
a millisecond of CPU an image. What stands on the wire is still h11's to say and to judge.
"""

import asyncio
import select
import ssl
import threading
from collections import deque
from collections.abc import AsyncIterator, Callable

import h11
import httpx

CAUGHT_MOST = 1 << 17  # bytes that arrive at a time
HELD_MOST = 1 << 20  # bytes that have come and are not taken yet; the server waits then
SHOWN_MOST = 1 << 17  # bytes of a reply's headers
KEPT = 2  # connections that stay open: to the provider, and to where its links lead
SECOND_ADDRESS = 0.25  # seconds until a host's next address is tried beside the first
DEFAULT_PORTS = {"http": 80, "https": 443}
Origin = tuple[bytes, bytes, int | None, str]


class _Net(threading.local):
    """Where all connections' bytes arrive, one after the other: a fresh buffer each time would cost a fault a page.

    Each thread has its own: a loop lets others run while bytes are put there.
    """

    def __init__(self) -> None:
        self.caught = memoryview(bytearray(CAUGHT_MOST))


_NET = _Net()


class Wire(asyncio.BufferedProtocol):
    """Bytes in and out, for one who waits at a time."""

    def __init__(self) -> None:
        self._transport: asyncio.Transport | None = None
        self._chunks: deque[bytes] = deque()
        self._held = 0
        self._waiter: asyncio.Future[None] | None = None
        self._full = False  # too much is on its way out
        self._error: Exception | None = None
        self.ended = False  # nothing more comes

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def get_buffer(self, sizehint: int) -> memoryview:
        return _NET.caught

    def buffer_updated(self, nbytes: int) -> None:
        self._chunks.append(bytes(_NET.caught[:nbytes]))
        self._held += nbytes
        if self._held > HELD_MOST and self._transport:
            self._transport.pause_reading()
        self._wake()

    def eof_received(self) -> None:
        self.ended = True
        self._wake()

    def connection_lost(self, error: Exception | None) -> None:
        self.ended, self._error = True, error
        self._wake()

    def pause_writing(self) -> None:
        self._full = True

    def resume_writing(self) -> None:
        self._full = False
        self._wake()

    def _wake(self) -> None:
        if self._waiter and not self._waiter.done():
            self._waiter.set_result(None)

    async def _wait(self) -> None:
        self._waiter = asyncio.get_running_loop().create_future()
        try:
            await self._waiter
        finally:
            self._waiter = None

    @property
    def quiet(self) -> bool:
        """Whether it is open, and nothing came that nobody asked for."""
        return not (self.ended or self._chunks) and self._transport is not None and not self._transport.is_closing()

    @property
    def stirs(self) -> bool:
        """Whether anything came that the loop has not seen yet: a goodbye, or what nobody asked for."""
        assert self._transport
        glance = select.poll()
        glance.register(self._transport.get_extra_info("socket").fileno(), select.POLLIN)
        return bool(glance.poll(0))

    async def read(self) -> bytes:
        """What came; nothing at the end. OSError where it was cut."""
        while not self._chunks:
            if self._error:
                raise self._error
            if self.ended:
                return b""
            await self._wait()
        data = self._chunks.popleft() if len(self._chunks) == 1 else b"".join(self._chunks)
        self._chunks.clear()
        if self._held > HELD_MOST and self._transport and not self.ended:
            self._transport.resume_reading()
        self._held = 0
        return data

    async def write(self, data: bytes) -> bool:
        """Hand it to the system, as fast as that takes it; False where the other side has hung up."""
        if self._transport and not self.ended:
            self._transport.write(data)
            while self._full and not self.ended:
                await self._wait()
        return not self.ended

    def close(self) -> None:
        """At once: who is told goodbye may answer no more."""
        if self._transport:
            self._transport.abort()


class Connection:
    """An open wire, and whose turn it is to speak."""

    def __init__(self, wire: Wire) -> None:
        self.wire = wire
        self.since = 0.0  # when it fell silent
        self._talk = h11.Connection(h11.CLIENT, max_incomplete_event_size=SHOWN_MOST)

    async def ask(self, request: httpx.Request) -> h11.Response:
        """Send a request, and read the reply up to its body."""
        target, headers = request.url.raw_path, request.headers.raw
        data = self._talk.send(h11.Request(method=request.method, target=target, headers=headers)) or b""
        heard = True
        assert isinstance(request.stream, httpx.AsyncByteStream)
        async for chunk in request.stream:
            data += self._talk.send(h11.Data(data=chunk)) or b""
            heard = await self.wire.write(data)
            data = b""
            if not heard:  # it may have answered before it hung up
                break
        if heard:
            await self.wire.write(data + (self._talk.send(h11.EndOfMessage()) or b""))
        while not isinstance(event := await self._next(), h11.Response):
            if not isinstance(event, h11.InformationalResponse) or event.status_code == 101:
                raise httpx.RemoteProtocolError("the server speaks out of turn")
        if sum(len(name) + len(value) for name, value in event.headers) > SHOWN_MOST:
            raise httpx.RemoteProtocolError("the reply has too many headers")
        return event

    async def body(self) -> AsyncIterator[bytes]:
        """The reply's body, as it comes, to its end."""
        while not isinstance(event := await self._next(), h11.EndOfMessage):
            assert isinstance(event, h11.Data)
            yield bytes(event.data)

    async def _next(self) -> h11.Event:
        while (event := self._talk.next_event()) is h11.NEED_DATA:
            self._talk.receive_data(await self.wire.read())
        if isinstance(event, h11.Event):
            return event
        raise httpx.RemoteProtocolError("the server does not speak to the end")

    def rest(self, now: float) -> bool:
        """Get ready for the next request; False where this was the last, or bytes stand behind the reply.

        Those would be taken for the answer to the next one.
        """
        if self._talk.our_state is not h11.DONE or self._talk.their_state is not h11.DONE:
            return False
        if self._talk.trailing_data[0] or not self.wire.quiet:
            return False
        self._talk.start_next_cycle()
        self.since = now
        return True


class Transport(httpx.AsyncBaseTransport):
    """One request at a time. `patience`: seconds for a connection to be made; `keepalive`: for it to stay, unused.

    `tls` is called when a connection needs it first.
    """

    def __init__(self, tls: Callable[[], ssl.SSLContext], patience: float, keepalive: float) -> None:
        self._tls = tls
        self._patience = patience
        self._keepalive = keepalive
        self._idle: dict[Origin, Connection] = {}

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """httpx's errors: ConnectError and ConnectTimeout where nothing left."""
        url, sni = request.url, str(request.extensions.get("sni_hostname") or request.url.host)
        if url.scheme not in DEFAULT_PORTS or (url.port or 0) >= 1 << 16:
            raise httpx.UnsupportedProtocol("there is no such protocol, or no such port")
        origin = url.raw_scheme, url.raw_host, url.port, sni
        connection = self._kept(origin) or await self._connected(url, sni)
        try:
            reply = await connection.ask(request)
        except (h11.ProtocolError, OSError) as error:
            connection.wire.close()
            raise _named(error) from error
        except BaseException:
            connection.wire.close()
            raise
        headers = [(bytes(name), bytes(value)) for name, value in reply.headers.raw_items()]
        return httpx.Response(reply.status_code, headers=headers, stream=Body(self, origin, connection))

    def _kept(self, origin: Origin) -> Connection | None:
        found = self._idle.pop(origin, None)
        if found and found.wire.quiet and _now() - found.since < self._keepalive and not found.wire.stirs:
            return found
        if found:
            found.wire.close()
        return None

    async def _connected(self, url: httpx.URL, sni: str) -> Connection:
        """A new one. Who is cancelled leaves it to be made and closed: else its socket might be lost on the way."""
        made = asyncio.create_task(self._made(url, sni))
        try:
            return await asyncio.shield(made)
        except asyncio.CancelledError:
            made.add_done_callback(_unwanted)
            raise
        except TimeoutError:
            raise httpx.ConnectTimeout(f"not reached within {self._patience:g} s") from None
        except OSError as error:
            raise httpx.ConnectError(str(error)) from error

    async def _made(self, url: httpx.URL, sni: str) -> Connection:
        safe = url.scheme == "https"
        async with asyncio.timeout(self._patience):
            _, wire = await asyncio.get_running_loop().create_connection(
                Wire,
                url.host,
                url.port or DEFAULT_PORTS[url.scheme],
                ssl=self._tls() if safe else None,
                server_hostname=sni if safe else None,
                happy_eyeballs_delay=SECOND_ADDRESS,
            )
        return Connection(wire)

    def give_back(self, origin: Origin, connection: Connection) -> None:
        """A reply was read, or is not read on."""
        if not connection.rest(_now()):
            connection.wire.close()
            return
        self._idle[origin] = connection
        while len(self._idle) > KEPT:
            self._idle.pop(next(iter(self._idle))).wire.close()

    async def aclose(self) -> None:
        for each in self._idle.values():
            each.wire.close()
        self._idle.clear()


class Body(httpx.AsyncByteStream):
    """A reply's body on its way; the connection serves the next request once it is read, or is closed."""

    def __init__(self, transport: Transport, origin: Origin, connection: Connection) -> None:
        self._transport = transport
        self._origin = origin
        self._connection: Connection | None = connection

    async def __aiter__(self) -> AsyncIterator[bytes]:
        assert self._connection
        try:
            async for chunk in self._connection.body():
                yield chunk
        except (h11.ProtocolError, OSError) as error:
            raise _named(error) from error

    async def aclose(self) -> None:
        if self._connection:
            self._transport.give_back(self._origin, self._connection)
            self._connection = None


def _unwanted(made: asyncio.Task[Connection]) -> None:
    if not made.cancelled() and made.exception() is None:
        made.result().wire.close()


def _named(error: h11.ProtocolError | OSError) -> httpx.TransportError:
    """The same in httpx's words."""
    if isinstance(error, h11.LocalProtocolError):
        return httpx.LocalProtocolError(str(error))
    if isinstance(error, h11.ProtocolError):
        return httpx.RemoteProtocolError(str(error))
    return httpx.ReadError(str(error) or type(error).__name__)


def _now() -> float:
    return asyncio.get_running_loop().time()
