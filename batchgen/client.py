"""One Request out, one Reply back, its body streamed to a file. httpx's door, beside connection."""

import hashlib
import logging
import ssl
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache, partial
from pathlib import Path
from types import TracebackType
from typing import Self
from urllib.request import getproxies

import anyio
import httpx

from batchgen import __version__, links
from batchgen import body as bodies
from batchgen.catalog import Provider, loopback
from batchgen.connection import Transport
from batchgen.errors import (
    Blocked,
    ProviderError,
    Rejected,
    Transient,
    Unknown,
    Unsent,
    Unusable,
    UsageError,
)
from batchgen.pour import Poured, Sink
from batchgen.redact import LEAST
from batchgen.text import clean
from batchgen.wire import Reply, Request

TROUBLE = (TimeoutError, httpx.HTTPError, httpx.InvalidURL, ssl.SSLError, UnicodeError, OverflowError, ExceptionGroup)
URLS_MOST = 8
CONNECT = 15.0  # seconds
HEADERS = {"accept": "*/*", "accept-encoding": "identity", "user-agent": f"batchgen/{__version__}"}
STREAM, JSON = "text/event-stream", "application/json"
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

    @classmethod
    def of(cls, provider: Provider, auth: Mapping[str, str], timeout: float, folder: Path) -> Self:
        """To a provider, with its key."""
        extra = provider.headers, provider.query, folder, provider.trusted
        return cls(provider.base_url, auth, timeout, provider.keepalive, *extra)

    @property
    def patience(self) -> float:
        """Seconds for a connection to be made: the sooner one tells that nothing was ever sent."""
        return min(CONNECT, self.timeout / 2)

    @property
    def account(self) -> str:
        """That host and that account, as a hash that tells neither."""
        account = "\n".join(f"{name}: {value}" for name, value in sorted(self.auth.items()))
        return hashlib.sha256(f"{self.base_url}\n{account}".encode()).hexdigest()[:16]

    @property
    def secrets(self) -> list[str]:
        """What may stand in no file and no output."""
        bare = (value.removeprefix("Bearer ") for value in self.auth.values())
        return [value for value in bare if len(value) > LEAST]


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
            with anyio.fail_after(self._access.timeout) as scope:
                return await self._exchange(request, body, sink, headers, scope)
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
        self,
        request: Request,
        body: bodies.Body | None,
        sink: Sink,
        headers: Mapping[str, str],
        scope: anyio.CancelScope,
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
            more = partial(_prolong, scope, self._access.timeout) if request.steady else _nothing
            poured = await _pour(response, sink, request, more)
        finally:
            with anyio.CancelScope(shield=True):  # a whole answer is not thrown away at the door
                await response.aclose()
        named = {k.lower(): v for k, v in response.headers.items()}
        return Reply(response.status_code, named, poured.body, poured.length, poured.blobs)

    async def _renew(self) -> None:
        """A client that was cut off in the middle is thrown away."""
        with anyio.CancelScope(shield=True):
            await self._http.aclose()
        self._http = _fresh(self._access)


def _nothing() -> None:
    pass


def _prolong(scope: anyio.CancelScope, seconds: float) -> None:
    scope.deadline = anyio.current_time() + seconds


async def _pour(response: httpx.Response, sink: Sink, request: Request, more: Callable[[], None]) -> Poured:
    """Raw bytes off the socket. The images of an answer are decoded on the way, unless it is one that is not kept.

    `more` is told whenever some came.
    """
    kind = response.headers.get("content-type", "").lower()
    plain = response.headers.get("content-encoding", "identity").lower() == "identity"
    sift = response.is_success and plain and not request.handle and kind.startswith((JSON, STREAM))
    poured, most = Poured(sink, sift=sift, events=kind.startswith(STREAM)), request.body_most
    assert isinstance(response.stream, httpx.AsyncByteStream)
    try:
        async for chunk in response.stream:
            poured.take(chunk)
            more()
            if poured.size > most:
                raise Unusable(f"the answer is larger than {most >> 20} MiB", code="too_large", status=200)
            if poured.finished:  # whether the server hangs up, cuts or waits
                break
        poured.close()
    except BaseException:
        poured.drop()
        raise
    expected = response.headers.get("content-length", "")
    if not poured.finished and expected.isdigit() and poured.size < int(expected):
        poured.drop()
        raise Unknown(f"the answer was cut at {poured.size} of {expected} bytes", code="cut")
    return poured


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
