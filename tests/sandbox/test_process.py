"""The sandbox as a child process: where it listens, and that it ends."""

import socket
import subprocess
from collections.abc import Iterator
from urllib.parse import urlsplit

import pytest

from . import child, nursery
from .child import ROOT, Child
from .conftest import Start


@pytest.fixture
def start() -> Iterator[Start]:
    """Starts one as a command line does: elsewhere they are forked."""
    started: list[Child] = []

    def begin(*flags: str) -> Child:
        started.append(child.start(*flags))
        return started[-1]

    yield begin
    for each in started:
        each.end()


def run(*flags: str) -> "subprocess.CompletedProcess[str]":
    pipe = subprocess.PIPE
    process = nursery.start("batchgen.sandbox", *flags, env=nursery.ENVIRON, cwd=ROOT, stdout=pipe, stderr=pipe)
    out, err = process.communicate(timeout=20)
    return subprocess.CompletedProcess(flags, process.returncode, out, err)


def test_it_says_where_it_listens_and_really_does(start: Start) -> None:
    where = urlsplit(start("--port", "0").url)
    assert (where.scheme, where.hostname, where.path) == ("http", "127.0.0.1", "/v1")
    socket.create_connection(("127.0.0.1", where.port or 0)).close()


@pytest.mark.parametrize(
    ("flags", "complaint"),
    [
        (("--host", "0.0.0.0"), "loopback addresses only"),
        (("--host", "example.com"), "example.com"),
        (("--faults", "cutt=0.1"), "'cutt' is not one of ok, cut"),
        (("--faults", "cut"), "cut needs a rate"),
        (("--faults", "cut=0.7,429=0.4"), "not be more than 1"),
        (("--script", "ok boom"), "'boom' is not one of"),
        (("--script", "ok", "--faults", "cut=1"), "not allowed with"),
        (("--file-faults", "404 boom"), "'boom' is not one of ok, 404"),
        (("--batch-faults", "boom"), "'boom' is not one of ok, missing"),
        (("--batch-call-faults", "create"), "'' is not one of ok, cut"),
        (("--batch-call-faults", "make=cut"), "'make' is not one of upload"),
        (("--batch-rate", "0"), "--batch-rate: more than nothing"),
    ],
)
def test_flags_that_make_no_sense_are_refused(flags: tuple[str, ...], complaint: str) -> None:
    ended = run(*flags)
    assert ended.returncode == 2
    assert complaint in ended.stderr
    assert not ended.stdout


def test_a_port_that_is_taken_is_said_plainly(start: Start) -> None:
    port = urlsplit(start().url).port
    ended = run("--port", str(port))
    assert (ended.returncode, "Address already in use" in ended.stderr) == (2, True)


def test_it_ends_with_its_parent(start: Start) -> None:
    sandbox = start()
    assert sandbox.process.stdin
    sandbox.process.stdin.close()
    assert sandbox.wait() == 0


@pytest.mark.parametrize("how", ["terminate", "kill"])
def test_it_does_not_wait_for_connections_that_hang(start: Start, how: str) -> None:
    sandbox = start("--script", "hang")
    where = urlsplit(sandbox.url)
    with socket.create_connection((where.hostname, where.port)) as waiting:
        body = b'{"model": "gpt-image-2", "prompt": "x"}'
        head = "POST /v1/images/generations HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer k\r\n"
        waiting.sendall(f"{head}Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body)
        while not sandbox.fates():
            pass
        getattr(sandbox.process, how)()
        assert sandbox.wait() != 0
        assert waiting.recv(1) == b""
