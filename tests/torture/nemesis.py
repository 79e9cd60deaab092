"""What kills a run: at random, and at an exact system call."""

import signal
import time
from random import Random

from .checker import Checker
from .tracer import Point, kill_at
from .world import Process, World, ended, until

KILLED = -signal.SIGKILL


def random_kills(world: World, checker: Checker, chance: Random, most: int) -> int:
    """Kill it at random moments, up to `most` times, as long as it does not end by itself; how often that was."""
    for done in range(most):
        process = world.start()
        await_moment(world, process, chance)
        if not kill(process):
            return done
        checker.after_kill()
    return most


def kill(process: Process) -> bool:
    """False where it had ended by itself."""
    process.kill()
    return process.wait() == KILLED


def await_moment(world: World, process: Process, chance: Random) -> None:
    """Mostly while it buys, sometimes while it starts or recovers."""
    if chance.random() < 0.3:
        until(lambda: ended(process), chance.uniform(0.2, 0.8))
        return
    charges = world.charges() + chance.randint(1, world.setup.tasks // 6)
    until(lambda: world.charges() >= charges or ended(process))
    time.sleep(chance.uniform(0, world.setup.latency))


def kill_points(world: World, checker: Checker, points: list[Point]) -> list[Point]:
    """Kill a run at the first point, its recovery at the second, and so on; those that were reached."""
    reached = []
    for point in points:
        if kill_at(world, point) == KILLED:
            reached.append(point)
            checker.after_kill()
    return reached
