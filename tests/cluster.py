"""A real Ray cluster on this machine: a head, and nodes to be killed, frozen, cut off and mended."""

import importlib.util
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, closing, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from netns import Bridge, Network

PATIENCE = 60.0  # seconds; a busy machine is slow, and not wrong
STARTED = "Ray runtime started"
START = (sys.executable, "-m", "ray.scripts.scripts", "start", "--block", "--disable-usage-stats")
SPARE = ("--object-store-memory=80000000", "--min-worker-port=0", "--max-worker-port=0")
"""Nearly the least memory that Ray takes, since what goes through it is small; and any ports that are free."""
SERVES = bool(importlib.util.find_spec("grpc"))  # else Ray refuses to hear of clients
IDLE = ("--num-cpus=0", "--no-monitor", "--include-dashboard=false", "--include-log-monitor=false")
MORTAL = (
    ("setpriv", "--pdeathsig", "TERM") if shutil.which("setpriv") else ()
)  # tests that are killed leave no cluster behind
LIGHT = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_enable_worker_prestart": "0",  # processes that wait for work which nobody sends
    "RAY_prestart_worker_first_driver": "0",
}


@dataclass(frozen=True, slots=True)
class Node:
    """`ray start` and all that it starts: they are one session, as the system calls it, whatever their groups."""

    address: str
    process: "subprocess.Popen[bytes]"
    said: Path
    network: Network | None = None

    def members(self) -> list[int]:
        pids = [int(each.name) for each in Path("/proc").iterdir() if each.name.isdigit()]
        return [pid for pid in pids if self._holds(pid)]

    def kill(self) -> None:
        """All of it at once, as a machine that loses its power."""

        def dead() -> bool:
            self._tell(signal.SIGKILL)
            return not self.members()  # some may just have been started

        _until(dead, f"{self.address} does not die")
        self.process.wait()

    def freeze(self) -> None:
        self._tell(signal.SIGSTOP)

    def thaw(self) -> None:
        self._tell(signal.SIGCONT)

    def leave(self) -> None:
        """Ask it to go. It drains first, as long as its environment says; nobody waits for that here."""
        self.process.terminate()

    def cut(self, everywhere: bool = True) -> None:
        """Off from the head; `everywhere`: from the ports of this machine too. Nobody is told, packets just vanish."""
        assert self.network, "only an isolated node can be cut off"
        self.network.cut(everywhere)

    def mend(self) -> None:
        assert self.network, "only an isolated node can be cut off"
        self.network.mend()

    def wait(self) -> None:
        """Until it has joined."""

        def ready() -> bool:
            assert self.process.poll() is None, self.said.read_text()
            return STARTED in self.said.read_text()

        _until(ready, f"{self.address} does not start")

    def _holds(self, pid: int) -> bool:
        try:
            state = Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2][0]
            return os.getsid(pid) == self.process.pid and state != "Z"
        except OSError:  # it has just ended
            return False

    def _tell(self, sign: signal.Signals) -> None:
        for pid in self.members():
            with suppress(ProcessLookupError):
                os.kill(pid, sign)


class Cluster:
    """A head that takes no work, and the nodes that join; as a context, it has started and ends with the block.

    `isolated`: each node has a network of its own; on its loopback it finds these `ports` of this machine's.
    """

    def __init__(self, isolated: bool = False, ports: Sequence[int] = ()) -> None:
        self.nodes: list[Node] = []
        self._ends = ExitStack()
        self._ports = ports
        self._bridge = self._ends.enter_context(closing(Bridge())) if isolated else None
        self.home = Path(tempfile.mkdtemp(prefix="ray"))  # not the test's folder: a socket's path has 107 bytes at most
        self._ends.callback(shutil.rmtree, self.home, ignore_errors=True)
        (self.home / "token").write_text(secrets.token_hex(32))
        self.address = f"{self._host()}:{_free_port()}"
        self.client = f"{self._host()}:{_free_port()}"  # for those who belong to no node

    @property
    def environ(self) -> dict[str, str]:
        """What a driver needs in its environment; "auto" is this cluster there."""
        return {**self._common(), "RAY_ADDRESS": self.address}

    def __enter__(self) -> Self:
        try:
            clients = [f"--ray-client-server-port={self.client.rpartition(':')[2]}"] if SERVES else []
            self._start(("--head", f"--port={self.address.rpartition(':')[2]}", *clients, *IDLE), {}).wait()
        except BaseException:
            self.end()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.end()

    def join(self, env: Mapping[str, str] | None = None) -> Node:
        """One more node, with this in its environment; those that start together are ready sooner: `wait` for each."""
        network = None
        if self._bridge:
            network = self._ends.enter_context(closing(self._bridge.join(len(self.nodes) + 1, self._ports)))
        return self._start((f"--address={self.address}", "--num-cpus=1"), env or {}, network)

    def end(self) -> None:
        """Ends whatever it has started, be it frozen or cut off, and leaves nothing."""
        self._ends.close()

    def _start(self, options: Sequence[str], env: Mapping[str, str], network: Network | None = None) -> Node:
        host, own = self._host(), self.home / f"{len(self.nodes)}"
        place = (f"--node-ip-address={host}", f"--temp-dir={own}")  # in a common one, two might take the same sockets
        inside = ("ip", "netns", "exec", network.name) if network else ()
        own.mkdir()
        with (own / "said").open("wb") as said:
            process = subprocess.Popen(
                [*MORTAL, *inside, *START, *SPARE, *place, *options],
                env={**os.environ, **self._common(), **env},
                stdin=subprocess.DEVNULL,
                stdout=said,
                stderr=said,
                start_new_session=True,
            )
        node = Node(host, process, own / "said", network)
        self._ends.callback(node.kill)
        self.nodes.append(node)
        return node

    def _host(self) -> str:
        """The next node's address, the head's first; Ray takes 127.0.0.1 for "find me an address"."""
        number = len(self.nodes) + 1
        return self._bridge.host(number) if self._bridge else f"127.0.0.{number + 1}"

    def _common(self) -> dict[str, str]:
        token = str(self.home / "token")
        return {**LIGHT, "RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": token, "RAY_TMPDIR": str(self.home)}


def _until(true: Callable[[], bool], otherwise: str) -> None:
    end = time.monotonic() + PATIENCE
    while not true():
        if time.monotonic() > end:
            raise TimeoutError(otherwise)
        time.sleep(0.02)


def _free_port() -> int:
    with socket.create_server(("", 0)) as held:
        port: int = held.getsockname()[1]
        return port
