"""Runs by the nodes of a real cluster: what befalls its machines, and its driver meanwhile."""

import importlib.util
import json
import threading
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from random import Random
from types import TracebackType
from typing import Self

import netns
from cluster import Cluster, Node
from sandbox import child

from . import halt, nemesis
from .batches import killed
from .campaign import Result, policy_of, run
from .checker import Checker
from .setup import KEY_ENV, Setup, of_clusters
from .tracer import Point
from .world import Process, World, ended, until

DAWN, DUSK = 22.0, 35.0  # seconds for which a node may be frozen: given up by us, not yet by Ray
STEPS = {  # and about how often a run of a hundred tasks takes each
    "Ledger.begin": 60,
    "Crew.perform": 60,
    "Ledger.settle": 60,
    "Ledger.accept": 1,
    "Crew.collect": 4,
    "Losses.amend": 1,
}


class Site(World):
    """A world with a cluster of its own: images and receipts go to a store that all its nodes reach."""

    def __init__(self, folder: Path, setup: Setup, isolated: bool = False) -> None:
        super().__init__(folder, setup)
        self.store = folder / "store"
        self.images = self.store / self.run.name / "images"
        self.scratch = folder / "scratch"  # the nodes' own
        self.isolated = isolated
        self.nodes: list[Node] = []
        self._timers: list[threading.Timer] = []

    def __enter__(self) -> Self:
        super().__enter__()
        self.store.mkdir()
        self.scratch.mkdir()
        try:
            ports = [int(port) for port in self._ports[1::2]]
            self.cluster = Cluster(self.isolated, ports).__enter__()
            self.environ |= self.cluster.environ
            written = json.loads(self.manifest.read_text())
            written |= {"engine": {"ray": self.cluster.address}, "output": {"store": self.store.as_uri()}}
            self.manifest.write_text(json.dumps(written, indent=1))
            self.join(2)
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for timer in self._timers:
            timer.cancel()
        if hasattr(self, "cluster"):
            self.cluster.end()
        super().__exit__(kind, error, trace)

    def join(self, count: int) -> None:
        came = [self.cluster.join({KEY_ENV: child.KEY, "TMPDIR": str(self.scratch)}) for _ in range(count)]
        for node in came:
            node.wait()
        self.nodes += came

    def later(self, seconds: float, deed: Callable[[], None]) -> None:
        """Whatever else happens meanwhile."""
        self._timers.append(threading.Timer(seconds, deed))
        self._timers[-1].start()

    def quiet(self) -> None:
        """Wait until all that was to come has come."""
        for timer in self._timers:
            timer.join()
        super().quiet()


Deed = Callable[[Site, Checker, Result, Random], None]


def clusters(folder: Path, seed: int, policy: str = "", tasks: int = 0, what: str = "") -> Result:
    """What befalls a run, by seed."""
    policy, chance = policy_of(seed, policy), Random(seed)
    playable = [name for name in DEED if name not in CUTS or not netns.missing()]
    name = what or playable[seed % len(playable)]
    setups = of_clusters(policy, tasks)
    setup = setups[chance.randrange(len(setups))]

    def deed(world: World, checker: Checker, result: Result) -> None:
        assert isinstance(world, Site)
        DEED[name](world, checker, result, chance)

    return run(folder, setup, Result("clusters", seed, policy, name), deed, kind=partial(Site, isolated=name in CUTS))


def missing() -> str:
    return "" if importlib.util.find_spec("ray") else "ray"


def await_share(site: Site, process: Process, share: float) -> None:
    """Until so much was charged."""
    until(lambda: site.charges() >= share * site.setup.tasks or ended(process), 120, pause=0.01)


def night(site: Site, checker: Checker, result: Result, chance: Random) -> None:
    """One node joins, one is killed, one freezes and thaws later, and the driver is killed in the middle."""
    process, (first, second) = site.start(), site.nodes
    await_share(site, process, 0.1)
    threading.Thread(target=site.join, args=(1,)).start()
    await_share(site, process, 0.25)
    first.kill()
    await_share(site, process, 0.4)
    second.freeze()
    site.later(chance.uniform(DAWN, DUSK), second.thaw)
    await_share(site, process, 0.55)
    killed(process, checker, result)


def drivers(site: Site, checker: Checker, result: Result, chance: Random) -> None:
    """The driver is killed, again and again."""
    for _ in range(chance.randint(4, 8)):
        process = site.start()
        nemesis.await_moment(site, process, chance)
        if not killed(process, checker, result):
            return


def frozen(site: Site, checker: Checker, result: Result, chance: Random) -> None:
    """The driver is killed while a node is frozen; that thaws sooner or later."""
    process, node = site.start(), chance.choice(site.nodes)
    await_share(site, process, chance.uniform(0.1, 0.5))
    node.freeze()
    site.later(chance.choice((5.0, DAWN, DUSK)), node.thaw)
    until(lambda: ended(process), chance.uniform(0.1, 12))
    killed(process, checker, result)


def steps(site: Site, checker: Checker, result: Result, chance: Random) -> None:
    """Killed at exact steps: between an order and its receipt, between a receipt and its row."""
    names = chance.sample(list(STEPS), 4)
    left = [Point(chance.choice(("before", "after")), name, chance.randint(1, STEPS[name])) for name in names]
    while left:
        process = site.start("tests.torture.halt", ",".join(map(str, left)))
        if site.finish(process) != nemesis.KILLED:
            return
        *_, last = site.output.read_text().rpartition(halt.KILLED)
        left.remove(Point.parse(last.split()[0]))
        result.kills += 1
        checker.after_kill()


def churn(site: Site, checker: Checker, result: Result, chance: Random) -> None:
    """Nodes are killed, leave and come; for a while there is none."""
    process = site.start()
    for part in (0.15, 0.3, 0.45):
        await_share(site, process, part)
        for node in site.nodes:
            chance.choice((node.kill, node.leave))()
        site.nodes.clear()
        site.join(chance.randint(1, 2))
    await_share(site, process, 0.7)
    killed(process, checker, result)


def cut(site: Site, checker: Checker, result: Result, chance: Random, everywhere: bool = False) -> None:
    """A node is cut off from the head while it works, and mended later; the driver is killed meanwhile, perhaps."""
    process, node = site.start(), chance.choice(site.nodes)
    await_share(site, process, 0.2)
    node.cut(everywhere)
    site.later(chance.choice((5.0, DAWN, DUSK)), node.mend)
    if chance.random() < 0.5:
        await_share(site, process, 0.5)
        killed(process, checker, result)
    else:
        site.finish(process)


DEED: Mapping[str, Deed] = {
    "night": night,
    "drivers": drivers,
    "frozen": frozen,
    "steps": steps,
    "churn": churn,
    "cut": cut,
    "cut-off": partial(cut, everywhere=True),
}
CUTS = ("cut", "cut-off")
