"""The connection under httpx: whose bytes they are, and whether the other side is still there."""

import asyncio
import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import anyio
import pytest

from batchgen.client import Access, Client
from batchgen.wire import Reply, Request

Talk = Callable[[socket.socket, bytes, int], bool]
"""Answers a request by its body and its number; False: hang up."""


def framed(body: bytes) -> bytes:
    return b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%b" % (len(body), body)


@contextmanager
def server(talk: Talk) -> Iterator[int]:
    """On a thread of its own, as it must go on where a client's loop stands still; yields its port."""
    count = iter(range(10**9))

    def heard(line: socket.socket) -> None:
        with suppress(ConnectionError), line, line.makefile("rb") as file:
            while head := file.readline():
                length = 0
                while (head := file.readline()) not in (b"\r\n", b""):
                    name, _, value = head.partition(b":")
                    length = int(value) if name.lower() == b"content-length" else length
                if not talk(line, file.read(length), next(count)):
                    return

    def serve() -> None:
        while True:
            try:
                line, _ = listener.accept()
            except OSError:
                return
            threading.Thread(target=heard, args=(line,), daemon=True).start()

    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=serve, daemon=True).start()
        yield listener.getsockname()[1]
        listener.shutdown(socket.SHUT_RDWR)


def access(port: int, **headers: str) -> Access:
    return Access(f"http://127.0.0.1:{port}", {}, 20, 2.0, headers=headers)


async def ask(client: Client, what: object, folder: Path) -> Reply:
    return await client.send(Request("POST", "x", json={"n": what}), lambda n: folder / f"sink-{n}", {})


def test_two_loops_in_one_process_never_hear_each_others_answers(tmp_path: Path) -> None:
    wrong: list[object] = []

    async def talked(port: int, name: str) -> None:
        async def one(number: int) -> None:
            async with Client(access(port)) as client:
                for turn in range(40):
                    what = f"{name} {number} {turn}"
                    body = (await ask(client, what, tmp_path)).read()
                    wrong.extend([what] if body != json.dumps({"n": what}).encode() * 2000 else [])

        await asyncio.gather(*(one(number) for number in range(8)))

    def echo(line: socket.socket, body: bytes, number: int) -> bool:
        line.sendall(framed(body * 2000))
        return True

    with server(echo) as port:
        threads = [threading.Thread(target=asyncio.run, args=(talked(port, name),)) for name in "AB"]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert not wrong


@pytest.mark.parametrize("stray", [b"", framed(b"stray")], ids=["a goodbye", "an answer nobody asked for"])
def test_n9_what_came_while_the_loop_stood_still_is_seen_before_the_next_request(tmp_path: Path, stray: bytes) -> None:
    """Else a purchase would go where nobody hears it, or be answered with what another one got."""

    def talk(line: socket.socket, body: bytes, number: int) -> bool:
        line.sendall(framed(body))
        time.sleep(0.02)
        if number == 0 and stray:
            line.sendall(stray)
        return bool(stray)

    async def asked(port: int) -> list[bytes]:
        said = []
        async with Client(access(port)) as client:
            for number in range(3):
                said.append((await ask(client, number, tmp_path)).read())
                time.sleep(0.06)  # noqa: ASYNC251 - the loop stands still, as in a long callback
        return said

    with server(talk) as port:
        assert anyio.run(asked, port) == [b'{"n": 0}', b'{"n": 1}', b'{"n": 2}']


def test_a_header_of_the_catalog_takes_the_place_of_ours_however_it_is_spelled(tmp_path: Path) -> None:
    seen: list[bytes] = []
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def hear() -> None:
            line, _ = listener.accept()
            with line:
                seen.append(line.recv(65536))
                line.sendall(framed(b"{}"))

        threading.Thread(target=hear, daemon=True).start()

        async def asked() -> None:
            async with Client(access(listener.getsockname()[1], **{"User-Agent": "curl/8.5.0"})) as client:
                await ask(client, 1, tmp_path)

        anyio.run(asked)
    lines = [line for line in seen[0].split(b"\r\n") if line.lower().startswith(b"user-agent")]
    assert [line.partition(b": ")[2] for line in lines] == [b"curl/8.5.0"]
