"""Runs that buy by the batch: where they are killed, and what else befalls them and their provider."""

import json
import time
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from pathlib import Path
from random import Random

from . import halt, nemesis
from .campaign import Result, policy_of, run
from .checker import Checker
from .setup import POLICIES, of_batches
from .tracer import Point
from .world import Process, World, ended, until

STEPS = {  # and about how often a run takes each
    "BatchBook.draft": 3,
    "Counter.upload": 3,
    "BatchBook.upload": 2,
    "BatchBook.filed": 3,
    "BatchBook.creating": 3,
    "Counter.create": 3,
    "Counter.find": 1,
    "BatchBook.opened": 3,
    "BatchBook.dissolve": 1,
    "BatchBook.seen": 9,
    "Counter.cancel": 1,
    "Counter.fetch": 4,
    "Ledger.settle": 24,
    "BatchBook.read": 4,
    "BatchBook.over": 3,
    "Counter.delete": 4,
    "BatchBook.forget": 2,
}
Deed = Callable[[World, Checker, Result, Random], None]


def batches(folder: Path, seed: int, policy: str = "", at: Iterable[Point] = ()) -> Result:
    """One of the worlds, and what befalls it, by seed; or kills at the steps that are given."""
    policy, chance = policy_of(seed, policy), Random(seed)
    setups = of_batches(policy)
    setup = setups[seed // len(POLICIES) % len(setups)]
    name = chance.choice(DEEDS)
    chosen = list(at) or (steps(chance) if name == "steps" else [])
    result = Result("batches", seed, policy, name, at=chosen)

    def deed(world: World, checker: Checker, result: Result) -> None:
        DEED[name](world, checker, result, chance)

    return run(folder, setup, result, deed)


def steps(chance: Random) -> list[Point]:
    """Each at another step."""
    names = chance.sample(list(STEPS), chance.randint(4, 9))
    return [Point(chance.choice(("before", "after")), name, chance.randint(1, STEPS[name])) for name in names]


def at_steps(world: World, checker: Checker, result: Result, chance: Random) -> None:
    """Killed at whichever comes first, again and again, until none of the others comes."""
    left = list(result.at)
    while left:
        process = world.start("tests.torture.halt", ",".join(map(str, left)))
        harass(world, process, chance)
        if world.finish(process) != nemesis.KILLED:
            break
        *_, last = world.output.read_text().rpartition(halt.KILLED)
        result.reached.append(Point.parse(last.split()[0]))
        left.remove(result.reached[-1])
        checker.after_kill()
    result.in_run = min(1, len(result.reached))
    result.kills += len(result.reached)


def at_moments(world: World, checker: Checker, result: Result, chance: Random) -> None:
    for _ in range(chance.randint(4, 8)):
        process = world.start()
        harass(world, process, chance)
        await_moment(world, process, chance)
        if not killed(process, checker, result):
            return


def cancelled(world: World, checker: Checker, result: Result, chance: Random) -> None:
    """The user ends the batches; it is killed on the way, perhaps."""
    process = world.start()
    until(lambda: world.rows("batches WHERE state = 'open'") or ended(process), pause=0.01)
    time.sleep(chance.uniform(0, 0.3))
    world.ask("set", str(world.manifest), "cancelled=true")
    if chance.random() < 0.7:
        until(lambda: ended(process), chance.uniform(0, 0.5))
        killed(process, checker, result)
    elif (code := world.finish(process)) not in (0, 3, 4, 7):
        checker.fail("state", f"ended with {code} when its batches were cancelled")
    at_moments(world, checker, result, chance)


def switched(world: World, checker: Checker, result: Result, chance: Random) -> None:
    """The manifest has another engine after each kill: what is open is seen through by any."""
    for engine in ("local", "batch", "local"):
        process = world.start()
        await_moment(world, process, chance)
        if not killed(process, checker, result):
            return
        world.manifest.write_text(json.dumps({**json.loads(world.manifest.read_text()), "engine": engine}))


DEED: Mapping[str, Deed] = {"steps": at_steps, "moments": at_moments, "cancel": cancelled, "switch": switched}
DEEDS = ("steps",) * 5 + ("moments",) * 4 + ("cancel", "switch")


def killed(process: Process, checker: Checker, result: Result) -> bool:
    """False where it had ended by itself."""
    if not nemesis.kill(process):
        return False
    result.kills += 1
    checker.after_kill()
    return True


def harass(world: World, process: Process, chance: Random) -> None:
    """Sometimes the provider is killed under it, and is back a moment later."""
    if chance.random() < 0.3:
        await_moment(world, process, chance)
        world.server.end()
        time.sleep(chance.uniform(0, 0.3))
        world.serve()


def await_moment(world: World, process: Process, chance: Random) -> None:
    """Some time, something made, or something collected."""
    kind, more = chance.choice(("time", "made", "collected")), chance.randint(1, world.setup.tasks // 3)
    if kind == "time":
        until(lambda: ended(process), chance.uniform(0.4, 1.6))
        return
    count = world.charges if kind == "made" else partial(world.rows, "attempts WHERE ended_at IS NOT NULL")
    enough = count() + more
    until(lambda: count() >= enough or ended(process), 3, pause=0.01)
    time.sleep(chance.uniform(0, 0.05))
