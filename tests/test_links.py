"""Z8: which links are followed. To the provider's hosts and the user's choice, never inside a network."""

import asyncio
import ipaddress
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import anyio
import anyio.abc
import pytest

from batchgen import catalog, links
from batchgen.client import Access, Client
from batchgen.errors import Blocked, ProviderError, Unsent
from batchgen.wire import Reply, Request

SELLER = replace(
    catalog.provider("aimlapi", {}),
    base_url="https://api.example.com/v1",
    links=("cdn.example.com", "*.files.example", "93.184.216.34", "127.0.0.2"),
)
ANYWHERE = replace(SELLER, links=("*",))
LOCAL = replace(SELLER, base_url="http://127.0.0.1:8080/v1", links=("cdn.example.com",))
PUBLIC, PRIVATE = "93.184.216.34", "10.1.2.3"


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    """What this machine has in its environment is no part of a test."""
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


def refusal(url: str, provider: catalog.Provider = SELLER) -> str:
    """What is said of a link; every refusal is of one kind."""
    with pytest.raises(Blocked) as caught:
        links.check(url, provider)
    assert caught.value.code == links.REFUSED
    assert str(caught.value).endswith(". Nothing is bought again: what was bought waits to be fetched")
    return str(caught.value)


@pytest.mark.parametrize(
    "url",
    [
        "https://api.example.com/a.png",
        "https://API.Example.COM:8443/a.png",
        "HTTPS://cdn.example.com/a.png",
        "https://CDN.EXAMPLE.COM/a.png",
        "https://cdn.example.com:443/a.png?sig=user@host#top",
        "https://a.files.example/a.png",
        "https://a.b.FILES.example/a.png",
        "https://93.184.216.34/a.png",
    ],
)
def test_z8_what_is_the_providers_own_or_named_by_the_user_is_fetched(url: str) -> None:
    links.check(url, SELLER)


@pytest.mark.parametrize(
    "url",
    [
        "",
        "a.png",
        "//cdn.example.com/a.png",
        "https:cdn.example.com/a.png",
        "https:///a.png",
        "http://cdn.example.com/a.png",
        "http://a.files.example/a.png",
        "file:///etc/passwd",
        "file://cdn.example.com/etc/passwd",
        "ftp://cdn.example.com/a.png",
        "javascript:alert(1)",
        "data:image/png;base64,AAAA",
    ],
)
def test_z8_z9_only_https_is_followed(url: str) -> None:
    assert "images are fetched over https only" in refusal(url)


@pytest.mark.parametrize("user", ["user", "user:secret", ":secret", "", "api.example.com", "evil.example\\"])
def test_z8_a_link_with_a_user_in_it_is_not_followed(user: str) -> None:
    assert "secret" not in refusal(f"https://{user}@cdn.example.com/a.png")


@pytest.mark.parametrize(
    "url",
    [
        "https://cdn.example.com:99999/a.png",
        "https://cdn.example.com:-1/a.png",
        "https://cdn.example.com:http/a.png",
        "https://[::1/a.png",
        "https://[cdn.example.com]/a.png",
        "https://cdn.example.com\u2100.evil/a.png",
    ],
)
def test_z8_what_is_no_address_is_refused(url: str) -> None:
    assert "an answer links to what is no address" in refusal(url)


@pytest.mark.parametrize(
    "host",
    [
        "evil.example",
        "example.com",
        "cdn.example.com.evil.example",
        "xcdn.example.com",
        "cdn.example.com.",
        "files.example",
        "evilfiles.example",
        "files.example.evil",
        "xn--cdn-exampl-e1a.com",
        "8.8.8.8",
        "127.1",
    ],
)
def test_z8_a_stranger_is_named_and_so_is_the_way_to_trust_it(host: str) -> None:
    says = refusal(f"https://{host}/a.png")
    assert f"links to {host}, which is not known as a host of aimlapi" in says
    assert f"--trust-host {host}." in says


INSIDE = (
    "127.0.0.1",
    "127.8.8.8",
    "0.0.0.0",
    "10.0.0.1",
    "100.64.0.1",
    "169.254.169.254",
    "172.16.0.1",
    "192.168.1.1",
    "255.255.255.255",
    "[::]",
    "[::1]",
    "[0:0:0:0:0:0:0:1]",
    "[fd00::1]",
    "[fe80::1]",
    "[fe80::1%25eth0]",
    "[::ffff:127.0.0.1]",
    "[::ffff:a9fe:a9fe]",
    "localhost",
    "LocalHost",
    "intranet",
    "2130706433",
    "0x7f000001",
)


@pytest.mark.parametrize("host", INSIDE)
def test_z8_an_address_inside_of_a_network_is_no_public_one(host: str) -> None:
    assert "an address inside of a network" in refusal(f"https://{host}/a.png", ANYWHERE)
    assert "an address inside of a network" in refusal(f"https://{host}:8443/a.png", SELLER)


@pytest.mark.parametrize(
    "host", ["evil.example", "xn--bcher-kva.example", "8.8.8.8", "[2606:4700:4700::1111]", "[::ffff:8.8.8.8]"]
)
def test_a_star_means_any_public_host(host: str) -> None:
    links.check(f"https://{host}/a.png", ANYWHERE)
    assert "over https only" in refusal(f"http://{host}/a.png", ANYWHERE)


def test_z8_a_server_on_this_machine_links_to_itself_and_to_none_of_its_neighbours() -> None:
    links.check("http://127.0.0.1:8080/generated-images/a.png", LOCAL)
    for url in ("http://127.0.0.1:22/", "http://127.0.0.1/", "http://localhost:8080/a.png"):
        assert "over https only" in refusal(url, LOCAL)
    assert "an address inside" in refusal("https://127.0.0.1:8443/", LOCAL)


def test_a_server_in_the_users_network_links_to_itself() -> None:
    lan = replace(LOCAL, base_url="http://192.168.1.5:8080/v1")
    links.check("http://192.168.1.5:8080/a.png", lan)
    assert "an address inside" in refusal("https://192.168.1.6:8080/a.png", lan)


def test_z9_a_link_to_the_providers_own_host_does_not_fall_back_to_http() -> None:
    for url in ("http://api.example.com/a.png", "http://api.example.com:443/a.png", "http://cdn.example.com/a.png"):
        assert "over https only" in refusal(url)
    plain = replace(LOCAL, base_url="http://api.example.com:8080/v1")
    links.check("http://api.example.com:8080/a.png", plain)
    assert "over https only" in refusal("http://api.example.com/a.png", plain), "at the very origin of the API alone"


@pytest.mark.parametrize("url", ["https://127.0.0.2/a.png", "http://127.0.0.2:9000/a.png"])
def test_z8_a_link_into_this_machine_is_followed_beside_a_provider_that_runs_here_alone(url: str) -> None:
    links.check(url, replace(LOCAL, links=("127.0.0.2",)))
    for says in (refusal(url, SELLER), refusal(url, LOCAL), refusal(url, replace(LOCAL, links=("*", "*.0.0.2")))):
        assert "--trust-host 127.0.0.2." in says


@pytest.mark.parametrize("provider", [SELLER, LOCAL])
@pytest.mark.parametrize(
    "url",
    [
        "https://evil.example/a.png",
        "http://evil.example/a.png",
        "http://EVIL.example:8080/a.png",
        "http://10.1.2.3:9000/a.png",
        "https://127.0.0.1/a.png",
        "http://localhost:22/a.png",
        "http://[::1]/a.png",
    ],
)
def test_z8_a_host_that_the_user_vouches_for_is_believed_wherever_it_lies(url: str, provider: catalog.Provider) -> None:
    host = urlsplit(url).hostname or ""
    assert f"--trust-host {host}." in refusal(url, provider)
    links.check(url, replace(provider, trusted=frozenset({host})))
    refusal(url, replace(provider, trusted=frozenset({f"x{host}", f"{host}.example"})))


@pytest.mark.parametrize("url", ["file://evil.example/a", "ftp://evil.example/a", "https://me:pw@evil.example/a"])
def test_z8_not_even_a_trusted_host_is_asked_in_another_way(url: str) -> None:
    refusal(url, replace(SELLER, trusted=frozenset({"evil.example"})))


# where a name leads to


class Resolver:
    """The operating system's answers, and what was asked of it."""

    def __init__(self, *addresses: str) -> None:
        self.addresses = addresses
        self.asked: list[tuple[str, int]] = []

    def __call__(self, host: str | bytes, port: int, *_: object, **__: object) -> list[Any]:
        self.asked.append((host if isinstance(host, str) else host.decode(), port))
        if not self.addresses:
            raise socket.gaierror(-2, "Name or service not known")
        families = {4: socket.AF_INET, 6: socket.AF_INET6}
        found = [(families[ipaddress.ip_address(each).version], each) for each in self.addresses]
        return [(family, socket.SOCK_STREAM, 6, "", (each, port)) for family, each in found]


@pytest.fixture
def resolver(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Resolver]:
    def answering(*addresses: str) -> Resolver:
        made = Resolver(*addresses)
        monkeypatch.setattr(socket, "getaddrinfo", made)
        return made

    return answering


Answering = Callable[..., Resolver]


@pytest.mark.parametrize(
    ("url", "address", "pinned", "port"),
    [
        ("https://cdn.example/a.png?sig=1", PUBLIC, f"https://{PUBLIC}/a.png?sig=1", 443),
        ("https://CDN.example:8443/a", PUBLIC, f"https://{PUBLIC}:8443/a", 8443),
        ("https://cdn.example/a", "2606:4700::1111", "https://[2606:4700::1111]/a", 443),
        ("https://cdn.example:444/a", "2606:4700::1111", "https://[2606:4700::1111]:444/a", 444),
    ],
)
def test_z8_a_name_is_looked_up_once_and_keeps_its_place_in_the_host_header(
    resolver: Answering, url: str, address: str, pinned: str, port: int
) -> None:
    asked = resolver(address)
    found, host = anyio.run(links.pinned, url, True)
    assert (found, host) == (pinned, url.split("/")[2].lower())
    assert asked.asked == [("cdn.example", port)]


@pytest.mark.parametrize("inside", ["127.0.0.1", PRIVATE, "169.254.169.254", "::1", "fd00::1", "::ffff:10.0.0.1"])
def test_z8_a_name_that_leads_inside_of_a_network_is_refused(resolver: Answering, inside: str) -> None:
    for addresses in ((inside,), (PUBLIC, inside), (inside, PUBLIC)):  # one bad address of several is enough
        resolver(*addresses)
        with pytest.raises(Blocked, match=r"links to cdn\.example, which leads to .*, inside of a network") as caught:
            anyio.run(links.pinned, "https://cdn.example/a.png", True)
        assert caught.value.code == links.REFUSED


def test_a_refusal_names_the_address_that_lies_inside(resolver: Answering) -> None:
    resolver(PUBLIC, PRIVATE)
    with pytest.raises(Blocked, match=f"leads to {PRIVATE}"):
        anyio.run(links.pinned, "https://cdn.example/a.png", True)


@pytest.mark.parametrize("host", ["127.1", "0177.0.0.1", "0x7f.0.0.1", "10.1"])
def test_z8_an_address_in_an_odd_spelling_is_found_out_by_looking_it_up(host: str) -> None:
    links.check(f"https://{host}/a.png", ANYWHERE)
    with pytest.raises(Blocked, match="inside of a network"):
        anyio.run(links.pinned, f"https://{host}/a.png", True)


@pytest.mark.parametrize("host", ["127.0.0.1.", "localhost.", "rebinding.example"])
def test_z8_a_name_is_judged_by_where_it_leads(resolver: Answering, host: str) -> None:
    resolver("127.0.0.1")
    with pytest.raises(Blocked, match="inside of a network"):
        anyio.run(links.pinned, f"https://{host}/a.png", True)


def test_n2_a_name_that_nobody_knows_was_asked_nothing(resolver: Answering) -> None:
    resolver()
    with pytest.raises(Unsent, match=r"no address is known of nope\.invalid") as caught:
        anyio.run(links.pinned, "https://nope.invalid/a.png", True)
    assert caught.value.code == "unreachable"


@pytest.mark.parametrize(
    "url", ["https://127.0.0.1:9/a", "http://localhost:9/a", f"https://{PUBLIC}/a", "https://[::1]/a"]
)
def test_an_address_is_looked_up_nowhere(resolver: Answering, url: str) -> None:
    asked = resolver(PUBLIC)
    assert anyio.run(links.pinned, url, True) == (url, url.split("/")[2])
    assert not asked.asked


def test_a_proxy_looks_names_up_itself(resolver: Answering, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = resolver(PRIVATE)
    monkeypatch.setenv("HTTPS_PROXY", "http://proxy.example:3128")
    url = "https://cdn.example/a.png"
    assert anyio.run(links.pinned, url, True) == (url, "cdn.example")
    assert not asked.asked
    monkeypatch.setenv("NO_PROXY", "cdn.example")
    with pytest.raises(Blocked):
        anyio.run(links.pinned, url, True)


def test_a_proxy_for_everything_looks_names_up_itself(resolver: Answering, monkeypatch: pytest.MonkeyPatch) -> None:
    resolver()
    monkeypatch.setenv("ALL_PROXY", "http://proxy.example:3128")
    assert anyio.run(links.pinned, "https://cdn.example/a.png", True)[1] == "cdn.example"


# on the wire

PLAIN = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok"


@dataclass(slots=True)
class Wire:
    """Every connection that is opened leads here, whatever address it was meant for; what comes is kept."""

    reply: bytes
    port: int = 0
    meant: list[tuple[str, int]] = field(default_factory=list)
    heard: bytes = b""

    async def connect(
        self, loop: asyncio.BaseEventLoop, factory: Callable[[], asyncio.Protocol], host: str, port: int, **more: Any
    ) -> object:
        self.meant.append((host, port))
        return await CONNECT(loop, factory, "127.0.0.1", self.port, **more)

    async def hear(self, stream: anyio.abc.SocketStream) -> None:
        async with stream:
            self.heard += await stream.receive()
            if self.reply:
                await stream.send(self.reply)


CONNECT = asyncio.BaseEventLoop.create_connection


@asynccontextmanager
async def wired(monkeypatch: pytest.MonkeyPatch, address: str, reply: bytes = PLAIN) -> AsyncIterator[Wire]:
    """A network in which every name leads to that address, and every address to the Wire."""
    wire = Wire(reply)
    async with await anyio.create_tcp_listener(local_host="127.0.0.1") as listener, anyio.create_task_group() as group:
        wire.port = listener.extra(anyio.abc.SocketAttribute.local_port)
        group.start_soon(listener.serve, wire.hear)
        monkeypatch.setattr(
            asyncio.BaseEventLoop, "create_connection", lambda *args, **more: wire.connect(*args, **more)
        )
        monkeypatch.setattr(socket, "getaddrinfo", Resolver(address))
        yield wire
        group.cancel_scope.cancel()


async def fetched(url: str, base_url: str = "https://api.example.com/v1") -> Reply:
    async with Client(Access(base_url, {"authorization": "Bearer sk-secret"}, 5, 2)) as client:
        return await client.send(Request("GET", url, auth=False), lambda n: Path(f"{n}"), {})


@pytest.mark.anyio
async def test_z8_the_address_that_was_judged_is_the_one_that_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    async with wired(monkeypatch, PUBLIC) as wire:
        reply = await fetched("http://cdn.example:8080/a.png?sig=1")
    assert (reply.read(), wire.meant) == (b"ok", [(PUBLIC, 8080)])
    head, *lines = wire.heard.decode().split("\r\n")
    assert head == "GET /a.png?sig=1 HTTP/1.1"
    assert [line for line in lines if line.lower().startswith("host:")] == ["host: cdn.example:8080"]
    assert "secret" not in wire.heard.decode()


@pytest.mark.anyio
async def test_z8_tls_asks_for_the_name_and_not_for_the_address(monkeypatch: pytest.MonkeyPatch) -> None:
    async with wired(monkeypatch, PUBLIC, reply=b"") as wire:
        with pytest.raises(ProviderError):
            await fetched("https://cdn.example/a.png")
    assert wire.meant == [(PUBLIC, 443)]
    assert b"cdn.example" in wire.heard, "the server's name stands in the first message of TLS"


@pytest.mark.anyio
async def test_z8_nobody_is_asked_where_a_name_leads_inside(monkeypatch: pytest.MonkeyPatch) -> None:
    async with wired(monkeypatch, PRIVATE) as wire:
        with pytest.raises(Blocked, match=f"leads to {PRIVATE}"):
            await fetched("https://rebinding.example/a.png")
    assert wire.meant == []


@pytest.mark.anyio
async def test_z8_with_a_proxy_around_a_local_provider_a_name_is_judged_all_the_same(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "http://proxy.example:3128")
    async with wired(monkeypatch, PRIVATE) as wire:
        with pytest.raises(ProviderError) as caught:
            await fetched("https://rebinding.example/a.png", base_url="http://127.0.0.1:4000/v1")
    assert (caught.type, wire.meant) == (Blocked, [])


@pytest.mark.anyio
@pytest.mark.parametrize("name", ["bücher.example", "xn--bcher-kva.example"])
async def test_a_name_with_letters_beyond_ascii_goes_out_as_punycode(
    monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    async with wired(monkeypatch, PUBLIC) as wire:
        await fetched(f"http://{name}/a.png")
    assert b"host: xn--bcher-kva.example\r\n" in wire.heard


@pytest.mark.anyio
async def test_z8_where_a_trusted_host_leads_is_the_users_matter(monkeypatch: pytest.MonkeyPatch) -> None:
    access = Access("https://api.example.com/v1", {}, 5, 2, trusted=frozenset({"nas.example"}))
    async with wired(monkeypatch, PRIVATE) as wire, Client(access) as client:
        request = Request("GET", "http://nas.example:8080/a.png", auth=False)
        assert (await client.send(request, lambda n: Path(f"{n}"), {})).read() == b"ok"
        with pytest.raises(Blocked, match=r"--trust-host elsewhere\.example\."):
            await client.send(replace(request, url="http://elsewhere.example/a.png"), lambda n: Path(f"{n}"), {})
    assert wire.meant == [("nas.example", 8080)]


@pytest.mark.anyio
@pytest.mark.parametrize("url", ["https://evil.example/take", "http://evil.example/take", "//evil.example/take"])
async def test_z8_what_brings_the_key_goes_below_the_base_url_and_nowhere_else(
    monkeypatch: pytest.MonkeyPatch, url: str
) -> None:
    access = Access("http://api.example.com/v1", {"authorization": "Bearer sk-secret"}, 5, 2)
    async with wired(monkeypatch, PUBLIC) as wire, Client(access) as client:
        await client.send(Request("POST", url, json={}), lambda n: Path(f"{n}"), {})
    assert {host for host, _ in wire.meant} == {"api.example.com"}
    assert wire.heard.startswith(b"POST /v1/")


@pytest.mark.parametrize("host", ["10.0。0。1", "127.0。0。1", "169.254。169。254"])
def test_z8_an_address_with_the_dots_of_another_script_is_one(host: str) -> None:
    with pytest.raises(Blocked, match="inside of a network"):
        links.check(f"https://{host}:8443/a.png", ANYWHERE)
