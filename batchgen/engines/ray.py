"""The Ray engine's cluster: a detached actor on every node, which carries out each order once. ray's only door."""

import asyncio
import importlib
import logging
import os
import shutil
import signal
import sys
import tempfile
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import asynccontextmanager, chdir, contextmanager, suppress
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

import anyio

from batchgen.crew import Lost
from batchgen.errors import UsageError
from batchgen.hand import ORDERS_MOST, Greeting, Hand
from batchgen.receipt import Order, Terms, Told
from batchgen.text import clean

NAMESPACE = "batchgen"
IDLE = 900.0  # seconds after which an actor that nobody asks ends itself
CLIENT, ALIVE = "ray://", 0
REACHED = 5.0  # seconds for a first connection, and for a last word
LOOK = 0.2  # seconds between two looks at whether it is time to end
QUESTIONS = 100  # that are answered beside all orders
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
AWAY = (
    "this machine is no node of the Ray cluster at {0}: start the run on one that is, or let this one join, without "
    "work: ray start --address={0} --num-cpus=0. Nothing was sent."
)
log = logging.getLogger("batchgen")
stuck = threading.Event()  # where the head of a cluster does not answer, Ray would hold a normal exit for ever


class Actor:
    """A Hand in a process of its own, which ends itself when nobody has asked for it for `idle` seconds."""

    def __init__(self, idle: float = IDLE) -> None:
        self._folder = tempfile.mkdtemp(prefix="batchgen-")
        self._hand = Hand(Path(self._folder), os.environ)
        self._idle, self._asked = idle, time.monotonic()
        self._orders: set[asyncio.Task[Told]] = set()
        self._leaving = False
        self._end: asyncio.Task[None] | None = None

    async def greet(self, terms: Sequence[Terms]) -> Greeting:
        self._asked = time.monotonic()
        self._end = self._end or asyncio.create_task(self._end_idle())
        if self._leaving:  # the next one comes when this one has ended
            raise RuntimeError("it is about to end")
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
        self._leaving = True

    async def _end_idle(self) -> None:
        import ray

        while True:
            await anyio.sleep(LOOK)
            if not self._orders and (self._leaving or time.monotonic() - self._asked > self._idle):
                break
        await self._hand.close()
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
        found: Greeting = await self._answer(self._ask("greet", terms))
        return found

    async def carry_out(self, order: Order) -> Told:
        asked = self._orders[order.attempt.id] = self._ask("carry_out", order)
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
        found: frozenset[str] = await self._answer(self._ask("held"))
        return found

    async def dismiss(self) -> None:
        """It goes when it is through with all; one that does not hear it ends for want of questions. Never killed: what
        it has bought is to be stored."""
        self.dismissed = True
        with suppress(Lost):
            await self._answer(self._ask("leave"))

    def _ask(self, method: str, *given: object) -> Any:
        try:
            return getattr(self._actor, method).remote(*given)
        except Exception as error:
            raise self._lost(error) from None

    def _lost(self, error: Exception) -> Lost:
        """Where there is no such actor any more, the node is asked for a new one."""
        gone = self._ray.exceptions.RayActorError, self._ray.exceptions.ActorUnschedulableError
        self.dismissed = self.dismissed or isinstance(error, gone)
        return Lost(f"{type(error).__name__}: {clean((str(error).strip().splitlines() or [''])[-1])}")

    async def _answer(self, asked: Any) -> Any:
        """Not by awaiting it: with a Ray client, to be cancelled at that breaks the connection."""
        loop = asyncio.get_running_loop()
        done: asyncio.Future[Any] = loop.create_future()
        asked.future().add_done_callback(partial(_told, loop, done))
        try:
            return await done
        except Exception as error:
            raise self._lost(error) from None


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
        found: list[Node] = await _apart(self._look)
        return found

    def _look(self) -> list[Node]:
        try:
            leaving = _leaving(self._ray)
            there = [each for each in self._ray.nodes() if each["Alive"] and each["Resources"].get("CPU")]
            return [self._node(each) for each in there if each["NodeID"] not in leaving]
        except Exception as error:
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
    """Nodes that were told to end, and may finish what they are at; a Ray client is not told of any."""
    try:
        return set(ray._private.state.state.get_draining_nodes())
    except (AttributeError, ray.exceptions.RaySystemError):  # nobody promised that it stays
        return set()


@asynccontextmanager
async def joined(address: str, run: str) -> AsyncIterator[Nodes]:
    """The cluster at an address; UsageError where there is none that can be used."""
    ray = _loaded()
    try:
        found = address if address.startswith(CLIENT) else _resolved(address)
        await _reached(found)
        if not address.startswith(CLIENT):
            await _apart(partial(_check_here, found))
        with _untouched():
            ray.init(address=found, namespace=NAMESPACE, log_to_driver=False, logging_level="ERROR")
    except (OSError, TimeoutError, ValueError, OverflowError, RuntimeError, ray.exceptions.RayError) as error:
        says = str(error).strip().partition("\n")[0].partition(". ")[0] or f"no connection within {REACHED:g} s"
        raise UsageError(ABSENT.format(address, says.rstrip("."))) from None
    with suppress(AttributeError):  # it would print to our stdout when a worker dies
        ray._private.worker._worker_logs_enabled = False
    try:
        yield Nodes(ray, run)
    finally:
        with anyio.move_on_after(REACHED, shield=True) as parting:
            await _apart(ray.shutdown)
        if parting.cancelled_caught:
            stuck.set()


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
    """An error where nobody listens there: Ray itself would try for many minutes."""
    host, _, port = address.removeprefix(CLIENT).rpartition(":")
    with anyio.fail_after(REACHED):
        stream = await anyio.connect_tcp(host.strip("[]"), int(port))
        await stream.aclose()


def _resolved(address: str) -> str:
    """What "auto" stands for on this machine."""
    from ray._private import services
    from ray._private.authentication import authentication_token_setup as tokens

    tokens.ensure_token_if_auth_enabled(create_token_if_missing=False)  # else who asks ends our process
    found: str = services.canonicalize_bootstrap_address_or_die(address)
    return found


def _check_here(address: str) -> None:
    """UsageError where this machine is no node of the cluster: Ray would end our process, with a trace. Blocks."""
    client = importlib.import_module("ray._raylet").GcsClient
    nodes = client(address=address).get_all_node_info(timeout=REACHED)
    if not any(each.state == ALIVE and os.path.exists(each.raylet_socket_name) for each in nodes.values()):
        raise UsageError(AWAY.format(address))


async def _apart(work: Callable[[], Any]) -> Any:
    """In a thread that nobody waits for at the end: while the head of a cluster does not answer, it blocks."""
    loop = asyncio.get_running_loop()
    done: asyncio.Future[Any] = loop.create_future()
    came: Future[Any] = Future()
    came.add_done_callback(partial(_told, loop, done))

    def there() -> None:
        try:
            came.set_result(work())
        except BaseException as error:
            came.set_exception(error)

    threading.Thread(target=there, daemon=True).start()
    return await done


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
