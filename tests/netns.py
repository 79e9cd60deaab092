"""Networks that can be cut: namespaces with an address of their own, on a bridge of this machine (Linux, as root)."""

import ctypes
import random
import shutil
import socket
import subprocess
import threading
from collections.abc import Sequence
from contextlib import closing, suppress
from dataclasses import dataclass, field
from pathlib import Path

SUBNETS = 512
"""So many networks of 254 hosts does 198.18.0.0/15 hold, which is kept for tests and led nowhere."""
NEW_NETWORK = 0x40000000  # CLONE_NEWNET


def missing() -> str:
    """Why this machine allows no networks of one's own, if it does not."""
    if not shutil.which("ip"):
        return "needs ip: apt-get install iproute2"
    try:
        with closing(Bridge()) as bridge, closing(bridge.join(2)):
            return ""
    except OSError as trouble:
        return f"this machine allows no network namespaces: {trouble}"


class Bridge:
    """A switch with this machine at its `host(1)`."""

    def __init__(self) -> None:
        self.number = _made(random.sample(range(SUBNETS), 8))
        try:
            _ip(f"addr add {self.host(1)}/24 dev {self.name}")
            _ip(f"link set {self.name} up")
        except OSError:
            self.close()
            raise

    @property
    def name(self) -> str:
        return _name(self.number)

    def host(self, number: int) -> str:
        return f"198.{18 + self.number // 256}.{self.number % 256}.{number}"

    def join(self, number: int, ports: Sequence[int] = ()) -> "Network":
        return Network(f"{self.name}n{number}", self.name, self.host(number), ports)

    def close(self) -> None:
        _ip(f"link del {self.name}")


class Network:
    """One host's, with a cable to the bridge; its own loopback has what this machine's serves on `ports`."""

    def __init__(self, name: str, bridge: str, address: str, ports: Sequence[int]) -> None:
        self.name, self.bridge, self._relays = name, bridge, list[Relay]()
        _ip(f"netns add {name}")
        try:
            _ip(f"link add {name} type veth peer name eth0 netns {name}")
            _ip(f"link set {name} up")
            _ip(f"addr add {address}/24 dev eth0", within=name)
            _ip("link set lo up", within=name)
            _ip("link set eth0 up", within=name)
            self._relays += [Relay(_listening(name, port), port) for port in ports]
            self.mend()
        except OSError:
            self.close()
            raise

    def cut(self, everywhere: bool) -> None:
        """The cable carries nothing more, either way, and nobody is told; `everywhere`: nor do the ports."""
        _ip(f"link set {self.name} nomaster")
        for relay in self._relays if everywhere else []:
            relay.open.clear()

    def mend(self) -> None:
        _ip(f"link set {self.name} master {self.bridge}")
        for relay in self._relays:
            relay.open.set()

    def close(self) -> None:
        for relay in self._relays:
            relay.close()
        with suppress(OSError):
            _ip(f"link del {self.name}")  # the cable; a socket that takes its time to end would keep it
        _ip(f"netns del {self.name}")


@dataclass(slots=True)
class Relay:
    """Carries what comes to a listening socket to a port of this machine's loopback, while it is open."""

    door: socket.socket
    port: int
    open: threading.Event = field(default_factory=threading.Event)
    _ends: list[socket.socket] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.open.set()
        threading.Thread(target=self._receive, daemon=True).start()

    def _receive(self) -> None:
        with suppress(OSError):
            while True:
                near, _ = self.door.accept()
                self._ends.append(near)
                threading.Thread(target=self._connect, args=(near,), daemon=True).start()

    def _connect(self, near: socket.socket) -> None:
        self.open.wait()
        try:
            far = socket.create_connection(("127.0.0.1", self.port))
        except OSError:
            near.close()
            return
        self._ends.append(far)
        threading.Thread(target=self._carry, args=(far, near), daemon=True).start()
        self._carry(near, far)

    def _carry(self, source: socket.socket, target: socket.socket) -> None:
        with suppress(OSError):
            while some := source.recv(1 << 16):
                self.open.wait()
                target.sendall(some)
            self.open.wait()
            target.shutdown(socket.SHUT_WR)

    def close(self) -> None:
        """Ends its connections, and with them its threads."""
        for end in (self.door, *self._ends):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()
        self.open.set()


def _listening(network: str, port: int) -> socket.socket:
    """A socket of this process on another network's loopback: a thread goes there, the socket stays there."""
    made: list[socket.socket | OSError] = []

    def there() -> None:
        try:
            with Path("/run/netns", network).open() as place:
                if ctypes.CDLL(None, use_errno=True).setns(place.fileno(), NEW_NETWORK):
                    raise OSError(ctypes.get_errno(), "setns")
            made.append(socket.create_server(("127.0.0.1", port)))
        except OSError as trouble:
            made.append(trouble)

    thread = threading.Thread(target=there)
    thread.start()
    thread.join()
    if isinstance(made[0], OSError):
        raise made[0]
    return made[0]


def _made(numbers: Sequence[int]) -> int:
    """The first of these networks that nobody else has on this machine; its bridge's name takes it."""
    for number in numbers[:-1]:
        with suppress(OSError):
            _ip(f"link add {_name(number)} type bridge")
            return number
    _ip(f"link add {_name(numbers[-1])} type bridge")
    return numbers[-1]


def _name(number: int) -> str:
    return f"bgen{number}"


def _ip(words: str, within: str = "") -> None:
    command = ["ip", *(["-n", within] if within else []), *words.split()]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise OSError(f"{' '.join(command)}: {done.stderr.strip()}")
