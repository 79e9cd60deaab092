"""Networks that can be cut: what passes, what does not, and that what did not passes later."""

import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import closing

import netns
import pytest

ECHO = """
import socket, sys
line = socket.create_connection((sys.argv[1], int(sys.argv[2])))
for word in sys.stdin:
    line.sendall(word.encode())
    print(line.recv(99).decode(), end="", flush=True)
"""


@pytest.fixture
def bridge() -> Iterator[netns.Bridge]:
    if missing := netns.missing():
        pytest.skip(missing)
    with closing(netns.Bridge()) as made:
        yield made


def echo(host: str) -> socket.socket:
    """A server that says everything again, to any number of callers."""
    server = socket.create_server((host, 0))

    def serve(line: socket.socket) -> None:
        while word := line.recv(99):
            line.sendall(word)

    def receive() -> None:
        while True:
            try:
                line, _ = server.accept()
            except OSError:
                return
            threading.Thread(target=serve, args=(line,), daemon=True).start()

    threading.Thread(target=receive, daemon=True).start()
    return server


@pytest.mark.parametrize("where", ["over the bridge", "on its loopback"])
def test_what_is_said_while_a_network_is_cut_arrives_when_it_is_mended(bridge: netns.Bridge, where: str) -> None:
    near = where == "on its loopback"
    host = "127.0.0.1" if near else bridge.host(1)
    with closing(echo(host)) as server:
        port = server.getsockname()[1]
        with closing(bridge.join(2, [port] if near else [])) as network:
            inside = ["ip", "netns", "exec", network.name, sys.executable, "-c", ECHO, host, str(port)]
            with subprocess.Popen(inside, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as caller:
                assert caller.stdin
                assert caller.stdout
                answers: list[str] = []
                reader = threading.Thread(target=answers.extend, args=(caller.stdout,))
                reader.start()
                print("one", file=caller.stdin, flush=True)
                while answers != ["one\n"]:
                    reader.join(0.01)
                network.cut(everywhere=True)
                print("two", file=caller.stdin, flush=True)
                reader.join(0.5)
                assert answers == ["one\n"], "it was not cut"
                network.mend()
                caller.stdin.close()
                reader.join(20)
                assert answers == ["one\n", "two\n"]
