"""One Request out, one Reply back, its body streamed to a file. httpx's only door."""

import logging
import os
import re
import ssl
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Self
from urllib.request import getproxies

import anyio
import httpx

from batchgen import __version__, disk, links
from batchgen import body as bodies
from batchgen.catalog import loopback
from batchgen.connection import Transport
from batchgen.errors import (
    Blocked,
    ProviderError,
    Rejected,
    StorageError,
    Transient,
    Unknown,
    Unsent,
    Unusable,
    UsageError,
)
from batchgen.text import clean
from batchgen.wire import Reply, Request

Sink = Callable[[], Path]
"""Where a reply's body goes, made when it is first needed."""

TROUBLE = (TimeoutError, httpx.HTTPError, httpx.InvalidURL, ssl.SSLError, UnicodeError, OverflowError, ExceptionGroup)
URLS_MOST = 8
CONNECT = 15.0  # seconds
HEADERS = {"accept": "*/*", "accept-encoding": "identity", "user-agent": f"batchgen/{__version__}"}
SPILL = os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
IN_MEMORY = 256 * 1024  # bytes of a body that are not worth a file of their own on the event loop
STREAM, BLANK = "text/event-stream", (b"\n\n", b"\n\r\n")
FINISHED = re.compile(rb'^data:.*"type": ?"image_\w+\.completed".*\r?\n\r?\n', re.MULTILINE)
"""An event with a whole image in it, to its end."""
for name in ("httpx", "httpcore"):  # their INFO lines show signed links, their DEBUG lines cookies
    logging.getLogger(name).setLevel(logging.WARNING)


@dataclass(frozen=True, slots=True)
class Access:
    """Where requests go and with which headers; those of `auth`, and the query, go to the provider alone.

    Files that go along lie in `folder`. What the hosts of `trusted` lead to is not looked at.
    """

    base_url: str
    auth: Mapping[str, str]
    timeout: float  # seconds, for a whole exchange
    keepalive: float  # seconds that an idle connection is used again
    headers: Mapping[str, str] = field(default_factory=dict)
    query: Mapping[str, str] = field(default_factory=dict)
    folder: Path = Path()
    trusted: frozenset[str] = frozenset()

    @property
    def patience(self) -> float:
        """Seconds for a connection to be made: the sooner one tells that nothing was ever sent."""
        return min(CONNECT, self.timeout / 2)


class Client:
    """One connection's worth of HTTP. A shared pool is many times slower, and jams when a request is cancelled."""

    def __init__(self, access: Access) -> None:
        self._access = access
        self._near = {httpx.URL(access.base_url).host, *access.trusted}
        self._far = not loopback(httpx.URL(access.base_url).host)  # a proxy is no way to this machine
        self._http = _fresh(access)
        self._urls: dict[str, httpx.URL] = {}  # of the provider's few paths: to read one takes longer than to send it

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with anyio.CancelScope(shield=True):
            await self._http.aclose()

    async def send(self, request: Request, sink: Sink, headers: Mapping[str, str]) -> Reply:
        """Send a request and take in the reply's raw body; a large one is streamed to `sink`.

        Raises Unsent where it never left, Unknown where it left and no whole reply came, Blocked where the host cannot
        be trusted, Rejected where a file is not as planned, Unusable where the body is beyond all bounds, StorageError
        where the disk cannot take it.
        """
        body = await bodies.body(request, self._access.folder)
        try:
            with anyio.fail_after(self._access.timeout):
                return await self._exchange(request, body, sink, headers)
        except (anyio.get_cancelled_exc_class(), Rejected):
            await self._renew()
            raise
        except TROUBLE as error:
            trouble = self._named(error)
        await self._renew()
        if body and not body.left and isinstance(trouble, Unknown):
            trouble = Transient(f"cut off before all of the request had left: {trouble}", code="cut_in_upload")
        raise trouble  # out here, so that no chain of causes leads to a header's value

    def _url(self, text: str) -> httpx.URL:
        if text not in self._urls:
            if len(self._urls) == URLS_MOST:  # where each task is polled at one of its own
                self._urls.clear()
            self._urls[text] = httpx.URL(text)
        return self._urls[text]

    def _named(self, error: Exception) -> ProviderError:
        if isinstance(error, TimeoutError):
            return Unknown(f"no whole answer within {self._access.timeout:g} s", code="timeout")
        return _named(error)

    async def _exchange(
        self, request: Request, body: bodies.Body | None, sink: Sink, headers: Mapping[str, str]
    ) -> Reply:
        headers = {**self._access.headers, **(self._access.auth if request.auth else {}), **headers}
        url = f"{self._access.base_url}/{request.url}" if request.auth else request.url  # no key goes anywhere else
        extensions: dict[str, object] = {"timeout": {"connect": self._access.patience}}
        if body:
            headers |= {"content-type": body.content_type, "content-length": str(body.length)}
        if not request.auth and httpx.URL(url).host not in self._near:
            url, host = await links.pinned(url, proxied=self._far)
            headers = {**headers, "host": host}
            extensions |= {"sni_hostname": httpx.URL(request.url).raw_host.decode()}
        asked = httpx.Request(
            request.method,
            self._url(url) if request.auth else url,
            content=body.whole if body and body.whole else body,
            headers=HEADERS | {name.lower(): value for name, value in headers.items()},
            params=(self._access.query or None) if request.auth else None,
            extensions=extensions,
        )
        if isinstance(self._http, Transport):
            response = await self._http.handle_async_request(asked)
        else:
            response = await self._http.send(asked, stream=True)
        try:
            poured = await _pour(response, sink, request.body_most)
        finally:
            with anyio.CancelScope(shield=True):  # a whole answer is not thrown away at the door
                await response.aclose()
        return Reply(
            response.status_code, {k.lower(): v for k, v in response.headers.items()}, poured.body, poured.size
        )

    async def _renew(self) -> None:
        """A client that was cut off in the middle is thrown away."""
        with anyio.CancelScope(shield=True):
            await self._http.aclose()
        self._http = _fresh(self._access)


async def _pour(response: httpx.Response, sink: Sink, most: int) -> "Poured":
    """Raw bytes off the socket: a small body stays in memory, a large one goes to its file as it comes."""
    poured, finished = Poured(sink), False
    stream = response.headers.get("content-type", "").lower().startswith(STREAM)
    events = Events() if stream else None
    assert isinstance(response.stream, httpx.AsyncByteStream)
    try:
        async for chunk in response.stream:
            poured.take(chunk)
            if poured.size > most:
                raise Unusable(f"the answer is larger than {most >> 20} MiB", code="too_large", status=200)
            finished = events is not None and events.end(chunk)
            if finished:  # all that was asked for is here, whether the server hangs up, cuts or waits
                break
    except BaseException:
        poured.drop()
        raise
    poured.close()
    expected = response.headers.get("content-length", "")
    if not finished and expected.isdigit() and poured.size < int(expected):
        poured.drop()
        raise Unknown(f"the answer was cut at {poured.size} of {expected} bytes", code="cut")
    return poured


class Events:
    """A stream of events as it comes, of which each is looked at once: is it the last that is needed?"""

    def __init__(self) -> None:
        self._fresh = bytearray()
        self._seen = 0  # of it, without a blank line

    def end(self, chunk: bytes) -> bool:
        """Whether the event with the whole image ends in this chunk."""
        fresh = self._fresh
        fresh += chunk
        ends = [at + len(blank) for blank in BLANK if (at := fresh.rfind(blank, self._seen)) >= 0]
        found = bool(ends) and FINISHED.search(fresh, 0, max(ends)) is not None
        del fresh[: max(ends, default=0)]
        self._seen = max(0, len(fresh) - 3)
        return found


class Poured:
    """A body on its way in. Small ones are written by whoever makes them durable: the event loop should not."""

    def __init__(self, sink: Sink) -> None:
        self._sink = sink
        self._chunks: list[bytes] = []
        self._file: BinaryIO | None = None
        self._path: Path | None = None
        self.size = 0

    def take(self, chunk: bytes) -> None:
        self.size += len(chunk)
        self._chunks.append(chunk)
        if self.size > IN_MEMORY:
            self._spill()

    def _spill(self) -> None:
        try:
            if self._file is None:
                self._path = self._sink()
                self._file = open(os.open(self._path, SPILL, 0o600), "wb", buffering=0)  # noqa: SIM115 - see close
            for chunk in self._chunks:
                disk.write_all(self._file.fileno(), chunk)
        except OSError as error:
            raise StorageError(
                f"the spool cannot be written: {error.strerror}. Free the space, then run again."
            ) from error
        self._chunks.clear()

    def close(self) -> None:
        if self._file:
            with disk.storage("the spool"), self._file as file:
                file.truncate(self.size)  # it may have been written over another
            self._file = None

    def drop(self) -> None:
        """What did not come whole is no reply."""
        self.close()
        if self._path:
            self._path.unlink(missing_ok=True)

    @property
    def body(self) -> bytes | Path:
        return self._path or b"".join(self._chunks)


def _named(error: Exception) -> ProviderError:
    """The libraries' many errors, by what they mean for money. Their texts are often empty: ours never is."""
    said = str(error) or type(error).__name__
    if isinstance(error, httpx.ConnectError | httpx.ConnectTimeout | httpx.PoolTimeout | httpx.ProxyError):
        if _certificate(error):
            return Blocked(f"the server's certificate is not to be trusted: {said}", code="certificate")
        if isinstance(error, httpx.ProxyError) and said.startswith("407"):
            return Blocked(f"the proxy lets nobody through without a name: {said}", code="proxy")
        return Unsent(f"no connection: {said}", code="unreachable")
    if isinstance(error, httpx.UnsupportedProtocol | httpx.LocalProtocolError):
        return Rejected(f"cannot be sent: {type(error).__name__}", code="invalid_request")  # the text may hold the key
    if isinstance(error, httpx.HTTPError | ssl.SSLError):
        return Unknown(
            f"the connection was cut before a whole answer came ({type(error).__name__}: {said})", code="cut"
        )
    return Rejected(f"cannot be sent: {said}", code="invalid_request")


def _certificate(error: BaseException) -> bool:
    seen: BaseException | None = error
    while seen is not None:
        if isinstance(seen, ssl.SSLCertVerificationError) or "CERTIFICATE_VERIFY_FAILED" in str(seen):
            return True
        seen = seen.__cause__ or seen.__context__
    return False


def _fresh(access: Access) -> Transport | httpx.AsyncClient:
    """A connection of our own; where the environment names proxies httpx finds its way, one connection a request.

    UsageError where it names a proxy, or certificates, that cannot be used.
    """
    try:
        proxied = getproxies().keys() & {"http", "https", "all"}
        if not proxied or loopback(httpx.URL(access.base_url).host):  # a proxy is no way to this machine
            if access.base_url.startswith("https"):
                _tls()  # what is wrong with it is told before anything is sent
            return Transport(_tls, access.patience, access.keepalive)
        once = httpx.Limits(max_keepalive_connections=0)  # nobody would see what stands behind an answer
        return httpx.AsyncClient(verify=_tls(), limits=once)
    except (ImportError, ValueError, OSError, httpx.InvalidURL) as error:
        says = "the environment's proxy or certificates cannot be used"
        raise UsageError(f"{says}: {clean(error)}. Nothing was sent; batchgen doctor names them.") from None


@cache
def _tls() -> ssl.SSLContext:
    """One for all clients: making one reads every root certificate."""
    return httpx.create_ssl_context()
