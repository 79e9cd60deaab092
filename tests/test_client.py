"""The client against servers that misbehave: what each fault of the network means for money."""

import asyncio
import json
import logging
import os
import socket
import ssl
import struct
import subprocess
import traceback
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import anyio
import pytest

from batchgen import client, pour
from batchgen.client import Access, Client
from batchgen.errors import Blocked, ProviderError, Rejected, StorageError, Unknown, Unsent, Unusable, UsageError
from batchgen.wire import Reply, Request

pytestmark = pytest.mark.anyio
CANARY = "sk-canary-0123456789"
Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


class Server:
    """A raw server on loopback. `heard` keeps the bytes of each request's head."""

    def __init__(self) -> None:
        self.url = ""
        self.heard: list[bytes] = []
        self.connections = 0


@asynccontextmanager
async def serving(handler: Handler, tls: ssl.SSLContext | None = None, port: int = 0) -> AsyncIterator[Server]:
    """Each request is read to its end, then handed on, until one of them ends the connection."""
    server, open_ones = Server(), set()

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        server.connections += 1
        open_ones.add(asyncio.current_task())
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                server.heard.append(head)
                size = next(
                    (line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")), b":0"
                )
                await reader.readexactly(int(size.partition(b":")[2]))
                await handler(reader, writer)
        except (OSError, EOFError, asyncio.CancelledError):
            pass
        finally:
            writer.transport.abort() if tls else writer.close()

    listener = await asyncio.start_server(connected, "127.0.0.1", port, ssl=tls)
    scheme, port = "https" if tls else "http", listener.sockets[0].getsockname()[1]
    server.url = f"{scheme}://127.0.0.1:{port}"
    try:
        yield server
    finally:
        listener.close()
        for task in open_ones:
            task.cancel() if task else None
        await asyncio.sleep(0.01)


def says(*parts: bytes, pause: float = 0.0, end: str = "") -> Handler:
    """Write these bytes, a pause behind each; then go on, `fin`, `rst` or `hang`."""

    async def handler(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for part in parts:
            writer.write(part)
            await writer.drain()
            await asyncio.sleep(pause)
        if end == "hang":
            await asyncio.sleep(60)
        if end == "rst":
            linger = struct.pack("ii", 1, 0)
            writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
            writer.transport.abort()
        if end:
            raise EOFError

    return handler


def post(url: str = "images/generations", auth: bool = True, most: int = 2**20) -> Request:
    return Request("POST", url, json={"prompt": "Otter “❄”"}, auth=auth, body_most=most)


def talker(url: str, timeout: float = 5.0, key: str = CANARY) -> Client:
    return Client(Access(url, {"authorization": f"Bearer {key}"}, timeout, keepalive=2.0))


async def fault(handler: Handler, folder: Path, patience: float = 5.0, most: int = 2**20) -> ProviderError:
    """What becomes of a request to a server with this fault. The client must work again after it."""
    faults = iter([handler])

    async def once(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await next(faults, says(OK))(reader, writer)

    async with serving(once) as server, talker(server.url, patience) as one:
        with pytest.raises(ProviderError) as error:
            await one.send(post(most=most), lambda n: folder / f"1-{n}.body", {})
        assert (await one.send(post(), lambda n: folder / f"2-{n}.body", {})).body == b"{}"
    check_secrets(error.value)
    return error.value


def check_secrets(error: BaseException) -> None:
    """Z1: whoever prints an error, with all that led to it, prints no key; and there is always something to print."""
    assert str(error).strip()
    assert CANARY not in "".join(traceback.format_exception(error))
    assert CANARY not in str(vars(error))


HEAD = b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n"
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
CUTS = {
    "N5: reset before any byte": says(end="rst"),
    "N6: closed before any byte": says(end="fin"),
    "closed inside the head": says(HEAD[:30], end="fin"),
    "N7: reset inside the body": says(HEAD + b"{" * 500, pause=0.02, end="rst"),
    "N8: closed inside the body": says(HEAD + b"{" * 500, end="fin"),
    "closed before the body": says(HEAD, end="fin"),
    "N9: chunks cut": says(CHUNKED + b"5\r\n{\r\n", end="fin"),
    "N9: no last chunk": says(CHUNKED + b"2\r\n{}\r\n", end="fin"),
    "a chunk's size is no number": says(CHUNKED + b"xyz\r\n{}\r\n", end="fin"),
    "S21: a header of 200 KB": says(b"HTTP/1.1 200 OK\r\nX-A: " + b"a" * 200_000 + b"\r\n\r\n", end="fin"),
    "no HTTP at all": says(b"220 smtp.example.org ready\r\n", end="fin"),
    "two different lengths": says(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\n{}", end="fin"),
}


@pytest.mark.parametrize("name", CUTS)
async def test_what_is_cut_after_it_left_is_unknown(name: str, tmp_path: Path) -> None:
    error = await fault(CUTS[name], tmp_path)
    assert isinstance(error, Unknown)
    assert error.code == "cut"


@pytest.mark.parametrize(
    "handler",
    [says(end="hang"), says(HEAD + b"{", end="hang"), says(HEAD, *[b"{"] * 500, pause=0.05)],
    ids=["N10: no answer", "N10: half an answer", "N11: a byte now and then"],
)
async def test_one_deadline_ends_the_whole_exchange(handler: Handler, tmp_path: Path) -> None:
    started = anyio.current_time()
    error = await fault(handler, tmp_path, patience=0.3)
    assert isinstance(error, Unknown)
    assert (error.code, str(error)) == ("timeout", "no whole answer within 0.3 s")
    assert anyio.current_time() - started < 2


async def test_n17_a_slow_answer_inside_the_deadline_is_taken(tmp_path: Path) -> None:
    reply = await exchange(says(HEAD[:-8] + b"9\r\n\r\n", *[b"a"] * 9, pause=0.03), tmp_path)
    assert reply.body == b"a" * 9


async def exchange(handler: Handler, folder: Path, most: int = 2**20) -> Reply:
    async with serving(handler) as server, talker(server.url) as one:
        reply = await one.send(post(most=most), lambda n: folder / f"1-{n}.body", {})
        assert len(server.heard) == 1
    return reply


@pytest.mark.parametrize("size", [0, 1, pour.IN_MEMORY, pour.IN_MEMORY + 1, 3 * pour.IN_MEMORY])
@pytest.mark.parametrize("chunked", [True, False])
async def test_a_body_comes_as_it_was_sent_small_in_memory_and_large_in_a_file(
    size: int, chunked: bool, tmp_path: Path
) -> None:
    body = bytes(range(256)) * (size // 256) + b"x" * (size % 256)
    framed = b"%x\r\n%b\r\n0\r\n\r\n" % (size, body) if size else b"0\r\n\r\n"
    whole = CHUNKED + framed if chunked else HEAD.replace(b"1000", b"%d" % size) + body
    reply = await exchange(says(whole), tmp_path)
    assert isinstance(reply.body, Path) is (size > pour.IN_MEMORY)
    assert reply.read() == body


@pytest.mark.parametrize("size", [2**20 + 1, 4 * 2**20])
@pytest.mark.parametrize(
    "head", [CHUNKED + b"ffffff\r\n", HEAD.replace(b"1000", b"%d" % 2**30)], ids=["chunked", "length"]
)
async def test_s20_a_body_beyond_all_bounds_is_given_up(size: int, head: bytes, tmp_path: Path) -> None:
    error = await fault(says(head + b"a" * size, end="hang"), tmp_path)
    assert isinstance(error, Unusable)
    assert error.code == "too_large"
    assert os.listdir(tmp_path) == []


async def test_s19_a_body_is_never_inflated_on_its_way(tmp_path: Path) -> None:
    reply = await exchange(
        says(b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 4\r\n\r\nzzzz"), tmp_path
    )
    assert (reply.body, reply.headers["content-encoding"]) == (b"zzzz", "gzip")


async def test_s22_a_redirect_is_an_answer_and_not_followed(tmp_path: Path) -> None:
    async with serving(says(OK)) as other:
        head = f"HTTP/1.1 307 Away\r\nLocation: {other.url}/images\r\nContent-Length: 0\r\n\r\n"
        reply = await exchange(says(head.encode()), tmp_path)
        assert (reply.status, other.heard) == (307, [])


async def test_n16_an_early_no_is_heard_though_the_body_is_still_on_its_way(tmp_path: Path) -> None:
    """The largest prompts there are; the server says no after the head, and takes the rest in only afterwards."""

    async def early(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 413 Too large\r\nContent-Length: 2\r\nConnection: close\r\n\r\nno")
        await writer.drain()
        await asyncio.sleep(0.02)
        await reader.readexactly(128_000)
        writer.close()

    listener = await asyncio.start_server(early, "127.0.0.1", 0)
    async with listener, talker(f"http://127.0.0.1:{listener.sockets[0].getsockname()[1]}") as one:
        request = Request("POST", "images/generations", json={"prompt": "\N{SNOWMAN}" * 42_666})
        reply = await one.send(request, lambda n: tmp_path / f"{n}.body", {})
        await asyncio.sleep(0.05)
    assert (reply.status, reply.body) == (413, b"no")


async def test_s24_an_error_body_in_another_encoding_is_taken_as_it_is(tmp_path: Path) -> None:
    reply = await exchange(says(b"HTTP/1.1 500 Nein\r\nX-A: \xfc\r\nContent-Length: 4\r\n\r\nf\xfcr!"), tmp_path)
    assert (reply.status, reply.body) == (500, b"f\xfcr!")


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


@pytest.mark.parametrize(
    "url", [f"http://127.0.0.1:{free_port()}", "http://nope.invalid"], ids=["N1: refused", "N2: DNS"]
)
async def test_what_finds_no_connection_was_not_sent(url: str, tmp_path: Path) -> None:
    async with talker(url) as one:
        with pytest.raises(Unsent, match="no connection") as error:
            await one.send(post(), lambda n: tmp_path / f"{n}.body", {})
    check_secrets(error.value)


async def test_n3_a_connection_that_is_never_taken_was_not_sent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client, "CONNECT", 0.2)
    with full_backlog() as url:
        async with talker(url) as one:
            with pytest.raises(Unsent):
                await one.send(post(), lambda n: tmp_path / f"{n}.body", {})


async def test_n3_a_deadline_that_ends_before_there_is_a_connection_was_not_sent(tmp_path: Path) -> None:
    with full_backlog() as url:
        async with talker(url, timeout=0.2) as one:
            with pytest.raises(Unsent):
                await one.send(post(), lambda n: tmp_path / f"{n}.body", {})


class full_backlog:
    """A listener whose queue is full: the kernel answers nobody any more."""

    def __enter__(self) -> str:
        self._sockets = [socket.socket()]
        self._sockets[0].bind(("127.0.0.1", 0))
        self._sockets[0].listen(0)
        address = self._sockets[0].getsockname()
        for _ in range(8):
            self._sockets.append(socket.socket())
            self._sockets[-1].setblocking(False)
            self._sockets[-1].connect_ex(address)
        return f"http://127.0.0.1:{address[1]}"

    def __exit__(self, *_: object) -> None:
        for each in self._sockets:
            each.close()


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A self-signed certificate of 127.0.0.1, with its key."""
    pem = tmp_path_factory.mktemp("tls") / "both.pem"
    command = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=127.0.0.1"
    extra = ["-addext", "subjectAltName=IP:127.0.0.1", "-keyout", str(pem), "-out", str(pem.with_suffix(".crt"))]
    subprocess.run([*command.split(), *extra], check=True, capture_output=True)
    pem.write_text(pem.read_text() + pem.with_suffix(".crt").read_text())
    return pem


def tls(certificate: Path) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    return context


async def test_n4_a_certificate_that_nobody_vouches_for_blocks_and_the_key_stays_here(
    certificate: Path, tmp_path: Path
) -> None:
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda *_: None)  # the server's own view of it
    async with serving(says(OK), tls(certificate)) as server, talker(server.url) as one:
        with pytest.raises(Blocked, match="certificate") as error:
            await one.send(post(), lambda n: tmp_path / f"{n}.body", {})
        assert server.heard == []
    check_secrets(error.value)


@pytest.fixture
def trusted(certificate: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ssl.SSLContext]:
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    client._tls.cache_clear()
    yield tls(certificate)
    client._tls.cache_clear()


async def test_over_tls_it_is_all_the_same(trusted: ssl.SSLContext, tmp_path: Path) -> None:
    async with serving(says(OK), trusted) as server, talker(server.url) as one:
        assert (await one.send(post(), lambda n: tmp_path / f"{n}.body", {})).body == b"{}"


async def test_a_damaged_tls_record_after_it_left_is_unknown(trusted: ssl.SSLContext, tmp_path: Path) -> None:
    async def garbage(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        descriptor = writer.get_extra_info("socket").fileno()
        with socket.socket(fileno=os.dup(descriptor)) as raw:
            raw.send(b"\x17\x03\x03\x00\x20" + b"?" * 32)
        await asyncio.sleep(0.2)

    async with serving(garbage, trusted) as server, talker(server.url) as one:
        with pytest.raises(Unknown):
            await one.send(post(), lambda n: tmp_path / f"{n}.body", {})


@pytest.mark.parametrize("url", ["ftp://127.0.0.1/x", "http://[::1/x", "http://xn--\u2603/"])
async def test_what_cannot_be_sent_at_all_is_rejected(url: str, tmp_path: Path) -> None:
    async with talker("http://127.0.0.1:1") as one:
        with pytest.raises(Rejected, match="cannot be sent"):
            await one.send(post(url, auth=False), lambda n: tmp_path / f"{n}.body", {})


async def test_a_link_to_a_port_that_cannot_be_is_an_error_of_the_provider(tmp_path: Path) -> None:
    async with talker("http://127.0.0.1:1") as one:
        with pytest.raises(ProviderError):
            await one.send(post("http://127.0.0.1:99999/a.png", auth=False), lambda n: tmp_path / f"{n}.body", {})


async def test_u8_a_prompt_that_is_no_unicode_is_rejected(tmp_path: Path) -> None:
    async with talker("http://127.0.0.1:1") as one:
        with pytest.raises(Rejected, match="surrogates"):
            await one.send(Request("POST", "x", json={"prompt": "\ud800"}), lambda n: tmp_path / f"{n}.body", {})


@pytest.mark.parametrize("key", [f"{CANARY}\n", f"{CANARY}\r\nX-A: b", f"{CANARY}\0", f"{CANARY}é"])
async def test_u12_z1_a_key_that_is_no_header_is_rejected_and_not_shown(key: str, tmp_path: Path) -> None:
    async with serving(says(OK)) as server, talker(server.url, key=key) as one:
        with pytest.raises(Rejected) as error:
            await one.send(post(), lambda n: tmp_path / f"{n}.body", {})
        assert server.heard == []
    assert CANARY not in str(error.value)


async def test_z1_not_even_the_cause_of_the_error_holds_the_key(tmp_path: Path) -> None:
    async with serving(says(OK)) as server, talker(server.url, key=f"{CANARY}\n") as one:
        with pytest.raises(Rejected) as error:
            await one.send(post(), lambda n: tmp_path / f"{n}.body", {})
    check_secrets(error.value)


async def test_a_request_says_what_it_should(tmp_path: Path) -> None:
    async with serving(says(OK)) as server, talker(f"{server.url}/v1") as one:
        await one.send(post(), lambda n: tmp_path / f"{n}.body", {"x-client-request-id": "abc"})
    head = server.heard[0].decode().lower()
    assert head.startswith("post /v1/images/generations http/1.1\r\n")
    for line in (f"authorization: bearer {CANARY}", "x-client-request-id: abc", "accept-encoding: identity"):
        assert line in head
    assert f"content-length: {len(json.dumps({'prompt': 'Otter “❄”'}, ensure_ascii=False).encode())}" in head


async def test_a_link_is_fetched_without_the_key(tmp_path: Path) -> None:
    async with serving(says(OK)) as server, talker("http://127.0.0.1:1") as one:
        await one.send(Request("GET", f"{server.url}/a.png?sig=1", auth=False), lambda n: tmp_path / f"{n}.body", {})
    assert server.heard[0].startswith(b"GET /a.png?sig=1 ")
    assert CANARY.encode() not in server.heard[0]


async def test_a_connection_is_used_again(tmp_path: Path) -> None:
    async with serving(says(OK)) as server, talker(server.url) as one:
        for _ in range(3):
            await one.send(post(), lambda n: tmp_path / f"{n}.body", {})
        assert (server.connections, len(server.heard)) == (1, 3)


async def test_n13_a_connection_that_the_server_closed_while_idle_is_not_used_again(tmp_path: Path) -> None:
    async with serving(says(OK, end="fin")) as server, talker(server.url) as one:
        for _ in range(3):
            await one.send(post(), lambda n: tmp_path / f"{n}.body", {})
            await anyio.sleep(0.02)
        assert server.connections == 3


async def test_n14_a_cancelled_request_jams_nothing(tmp_path: Path) -> None:
    async with serving(says(OK, pause=0.01)) as server, talker(server.url) as one:
        for delay in range(30):
            with anyio.move_on_after(delay / 2000):
                await one.send(post(), lambda n: tmp_path / f"{n}.body", {})
        with anyio.fail_after(2):
            assert (await one.send(post(), lambda n: tmp_path / f"{n}.body", {})).status == 200


async def test_n19_a_server_that_comes_back_is_spoken_to_again(tmp_path: Path) -> None:
    port = free_port()
    async with talker(f"http://127.0.0.1:{port}") as one:
        with pytest.raises(Unsent):
            await one.send(post(), lambda n: tmp_path / f"{n}.body", {})
        async with serving(says(OK), port=port):
            assert (await one.send(post(), lambda n: tmp_path / f"{n}.body", {})).status == 200


async def test_d3_a_spool_that_cannot_take_an_answer_is_a_storage_error(tmp_path: Path) -> None:
    body = HEAD.replace(b"1000", b"900000") + b"a" * 900_000
    async with serving(says(body)) as server, talker(server.url) as one:
        with pytest.raises(StorageError, match="the spool"):
            await one.send(post(), lambda n: tmp_path / "gone" / f"{n}.body", {})


def test_z4_no_library_logs_what_it_sends() -> None:
    assert [logging.getLogger(name).getEffectiveLevel() for name in ("httpx", "httpcore")] == [logging.WARNING] * 2


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("ALL_PROXY", "socks4://127.0.0.1:9"),
        ("HTTPS_PROXY", "ftp://127.0.0.1:9"),
        ("SSL_CERT_FILE", "/no/such/roots.pem"),
    ],
)
def test_a_proxy_or_roots_that_cannot_be_used_are_told_in_one_message(
    name: str, value: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(name, value)
    client._tls.cache_clear()
    try:
        with pytest.raises(UsageError, match="batchgen doctor names them"):
            talker("https://api.example.com/v1")
    finally:
        client._tls.cache_clear()


EVENT = b'event: x\ndata: {"type": "image_generation.%s", "b64_json": "QUFBQQ=="}\n\n'
SHOWN, WHOLE = EVENT % b"partial_image", EVENT % b"completed"
EVENTS = CHUNKED.replace(b"\r\n\r\n", b"\r\nContent-Type: text/event-stream; charset=utf-8\r\n\r\n")


def chunks(*parts: bytes) -> list[bytes]:
    return [b"%x\r\n%b\r\n" % (len(part), part) for part in parts]


@pytest.mark.parametrize("parts", [(SHOWN, WHOLE), (SHOWN + WHOLE,), (SHOWN, WHOLE[:40], WHOLE[40:]), (WHOLE,)])
@pytest.mark.parametrize("end", ["hang", "fin", "rst"])
async def test_a_stream_is_done_once_its_image_is_whole_whatever_the_server_does_then(
    parts: tuple[bytes, ...], end: str, tmp_path: Path
) -> None:
    pause = 0.02 if end == "rst" else 0.0
    async with serving(says(EVENTS, *chunks(*parts), pause=pause, end=end)) as server, talker(server.url) as one:
        reply = await one.send(post(), lambda n: tmp_path / f"{n}.body", {})
    assert reply.read() == b"".join(parts)


async def test_a_stream_is_done_also_where_its_image_is_large(tmp_path: Path) -> None:
    whole = WHOLE.replace(b"QUFBQQ==", b"QUFB" * pour.IN_MEMORY)
    parts = [whole[at : at + 100_000] for at in range(0, len(whole), 100_000)]
    async with serving(says(EVENTS, *chunks(SHOWN, *parts), end="hang")) as server, talker(server.url) as one:
        reply = await one.send(post(most=2**22), lambda n: tmp_path / f"{n}.body", {})
    assert [blob.size for blob in reply.blobs] == [3 * pour.IN_MEMORY]
    assert reply.read() == SHOWN + whole


@pytest.mark.parametrize("parts", [(SHOWN,), (SHOWN, WHOLE[:-1]), (SHOWN, WHOLE[:-20]), (b"data: [DONE]\n\n",)])
async def test_a_stream_that_is_cut_before_its_image_is_whole_is_unknown(
    parts: tuple[bytes, ...], tmp_path: Path
) -> None:
    error = await fault(says(EVENTS, *chunks(*parts), end="fin"), tmp_path)
    assert (type(error), error.code) == (Unknown, "cut")
