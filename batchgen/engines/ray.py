"""The Ray engine's cluster: a detached actor on every node, which carries out each order once. ray's only door."""

import asyncio
import logging
import os
import shutil
import signal
import sys
import tempfile
import threading
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from concurrent.futures import Future
from contextlib import asynccontextmanager, chdir, contextmanager, suppress
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

import anyio
import anyio.to_thread

from batchgen.crew import Lost
from batchgen.errors import UsageError
from batchgen.hand import ORDERS_MOST, Greeting, Hand
from batchgen.receipt import Order, Terms, Told

NAMESPACE = "batchgen"
IDLE = 900.0  # seconds after which an actor that nobody asks ends itself
REACHED = 5.0  # seconds for a first connection: Ray itself would try for many minutes
QUESTIONS = 100  # that are answered beside all orders
PARTING = 3.0  # seconds that an actor has to answer that it goes
ENVIRON = {  # read once, when Ray is loaded
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_gcs_server_port_wait_time_s": "1",  # else a wrong token is told after 20 s
    "RAY_gcs_rpc_server_reconnect_timeout_s": f"{7 * 86_400}",  # else the driver ends at once when the head is away
}
MISSING = "engine: ray needs Ray: pip install 'batchgen[ray]', here and on every node. Nothing was sent."
ABSENT = (
    "no Ray cluster can be used at {}: {}. Start one (ray start --head), give its --ray-address, and see that versions "
    "and token are the same here and there. Nothing was sent."
)
log = logging.getLogger("batchgen")


class Actor:
    """A Hand in a process of its own, which ends itself when nobody asks for it any more."""

    def __init__(self) -> None:
        self._folder = tempfile.mkdtemp(prefix="batchgen-")
        self._hand = Hand(Path(self._folder), os.environ)
        self._asked = time.monotonic()
        self._orders: set[asyncio.Task[Told]] = set()
        self._end: asyncio.Task[None] | None = None

    async def greet(self, terms: Sequence[Terms]) -> Greeting:
        self._asked = time.monotonic()
        self._end = self._end or asyncio.create_task(self._end_idle())
        return await self._hand.greet(terms)

    async def carry_out(self, order: Order) -> Told:
        """Whoever does not wait for it any more: what has begun is seen through, and leaves its receipt."""
        begun = asyncio.create_task(self._hand.carry_out(order))
        self._orders.add(begun)
        begun.add_done_callback(self._orders.discard)
        return await asyncio.shield(begun)

    async def held(self) -> frozenset[str]:
        self._asked = time.monotonic()
        return self._hand.held

    async def leave(self) -> None:
        """End, once nothing is left to do."""
        self._end = asyncio.create_task(self._exit())

    async def _end_idle(self) -> None:
        idle = 0.0
        while idle < IDLE:
            await anyio.sleep(IDLE - idle)
            idle = time.monotonic() - self._asked
        await self._exit()

    async def _exit(self) -> None:
        import ray

        while self._orders:
            await asyncio.wait(self._orders)
        shutil.rmtree(self._folder, ignore_errors=True)
        ray.actor.exit_actor()


class Node:
    """The way to the actor of one node."""

    def __init__(self, ray: Any, name: str, actor: Any) -> None:
        self._ray, self._actor = ray, actor
        self._orders: dict[str, Any] = {}  # what is asked for, by attempt
        self.name = name
        self.dismissed = False

    async def greet(self, terms: Sequence[Terms]) -> Greeting:
        found: Greeting = await self._answer(self._actor.greet.remote(terms))
        return found

    async def carry_out(self, order: Order) -> Told:
        asked = self._orders[order.attempt.id] = self._actor.carry_out.remote(order)
        try:
            told: Told = await self._answer(asked)
        finally:
            self._orders.pop(order.attempt.id, None)
        return told

    def abandon(self, attempt: str) -> None:
        """What a frozen or cut-off node has not begun, it shall not begin when it is back."""
        if asked := self._orders.get(attempt):
            with suppress(Exception):  # too late
                self._ray.cancel(asked)

    async def held(self) -> frozenset[str]:
        found: frozenset[str] = await self._answer(self._actor.held.remote())
        return found

    async def dismiss(self) -> None:
        self.dismissed = True
        with anyio.move_on_after(PARTING), suppress(Lost):
            await self._answer(self._actor.leave.remote())
            return
        with suppress(Exception):  # it may be gone already
            await anyio.to_thread.run_sync(self._ray.kill, self._actor, abandon_on_cancel=True)

    async def _answer(self, asked: Any) -> Any:
        """Not by awaiting it: with a Ray client, to be cancelled at that breaks the connection."""
        loop = asyncio.get_running_loop()
        done: asyncio.Future[Any] = loop.create_future()
        asked.future().add_done_callback(partial(_told, loop, done))
        try:
            return await done
        except self._ray.exceptions.RayError as error:
            raise Lost(f"{type(error).__name__}: {str(error).strip().splitlines()[0]}") from None


def _told(loop: asyncio.AbstractEventLoop, done: "asyncio.Future[Any]", came: "Future[Any]") -> None:
    with suppress(RuntimeError):  # the loop is closed: nobody waits any more
        loop.call_soon_threadsafe(_pass_on, done, came)


def _pass_on(done: "asyncio.Future[Any]", came: "Future[Any]") -> None:
    if done.done():
        return
    if error := came.exception():
        done.set_exception(error)
    else:
        done.set_result(came.result())


class Nodes:
    """Those of a cluster that have a CPU to give; `run` is part of the actors' names, so that a later driver of the
    same run finds them at work."""

    def __init__(self, ray: Any, run: str) -> None:
        self._ray, self._run = ray, run
        self._known: dict[str, Node] = {}

    async def look(self) -> list[Node]:
        """In a thread: while the head of the cluster does not answer, it blocks."""
        return await anyio.to_thread.run_sync(self._look, abandon_on_cancel=True)

    def _look(self) -> list[Node]:
        try:
            leaving = _leaving(self._ray)
            there = [each for each in self._ray.nodes() if each["Alive"] and each["Resources"].get("CPU")]
            return [self._node(each) for each in there if each["NodeID"] not in leaving]
        except self._ray.exceptions.RayError as error:
            log.warning("the cluster does not say who is there: %s", error)
            return [each for each in self._known.values() if not each.dismissed]

    def _node(self, told: dict[str, Any]) -> Node:
        id_ = told["NodeID"]
        known = self._known.get(id_)
        if known is None or known.dismissed:
            name = f"{told['NodeManagerHostname']}/{id_[:8]}"
            known = self._known[id_] = Node(self._ray, name, self._actor(id_))
        return known

    def _actor(self, id_: str) -> Any:
        """The one that works there for this run, or a new one."""
        strategy = self._ray.util.scheduling_strategies.NodeAffinitySchedulingStrategy(id_, soft=False)
        options = self._ray.remote(Actor).options(
            name=f"{self._run}-{id_}",
            namespace=NAMESPACE,
            lifetime="detached",
            get_if_exists=True,
            num_cpus=0,
            max_concurrency=ORDERS_MOST + QUESTIONS,
            max_restarts=0,
            max_task_retries=0,  # who repeats a call, buys
            scheduling_strategy=strategy,
        )
        return options.remote()


def _leaving(ray: Any) -> set[str]:
    """Nodes that were told to end, and may finish what they are at."""
    try:
        return set(ray._private.state.state.get_draining_nodes())
    except AttributeError:  # nobody promised that it stays
        return set()


@asynccontextmanager
async def joined(address: str, run: str) -> AsyncIterator[Nodes]:
    """The cluster at an address; UsageError where there is none that can be used."""
    ray = _loaded()
    await _reached(address)
    try:
        with _untouched():
            ray.init(address=address, namespace=NAMESPACE, log_to_driver=False, logging_level="ERROR")
    except (ConnectionError, ValueError, RuntimeError, ray.exceptions.RayError) as error:
        raise UsageError(ABSENT.format(address, str(error).strip().splitlines()[0].rstrip("."))) from None
    with suppress(AttributeError):  # it would print to our stdout when a worker dies
        ray._private.worker._worker_logs_enabled = False
    try:
        yield Nodes(ray, run)
    finally:
        with anyio.CancelScope(shield=True):
            await anyio.to_thread.run_sync(ray.shutdown)


def _loaded() -> ModuleType | Any:
    for name, value in ENVIRON.items():
        os.environ.setdefault(name, value)
    try:
        import ray
        import ray.util.scheduling_strategies
    except ImportError:
        raise UsageError(MISSING) from None
    return ray


async def _reached(address: str) -> None:
    """UsageError where nobody listens there."""
    host, colon, port = address.removeprefix("ray://").rpartition(":")
    if not colon:
        return
    try:
        with anyio.fail_after(REACHED):
            stream = await anyio.connect_tcp(host.strip("[]"), int(port))
            await stream.aclose()
    except (OSError, TimeoutError, ValueError, OverflowError) as error:
        raise UsageError(ABSENT.format(address, error or f"no connection within {REACHED:g} s")) from None


@contextmanager
def _untouched() -> Iterator[None]:
    """Signals are handled as before; and no worker looks for modules in the folder that we happen to be in."""
    main = threading.current_thread() is threading.main_thread()
    before = {each: signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM)} if main else {}
    hook = sys.excepthook
    try:
        with chdir("/"):
            yield
    finally:
        sys.excepthook = hook
        for each, handler in before.items():
            signal.signal(each, handler)
