"""Which points there are to kill a run at: drawn by a seed, or all of them."""

import tempfile
import threading
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from random import Random

from . import tracer
from .setup import POLICIES, Setup, of_points
from .tracer import Point
from .world import World

SPOOLED = Point("work", "fsync", 3)  # here one answer is spooled, and no image saved
_counting = threading.Lock()


def setup_of(seed: int, policy: str) -> Setup:
    setups = [setup for setup in of_points() if setup.policy == policy]
    return setups[seed // len(POLICIES) % len(setups)]


def choose(chance: Random, setup: Setup, folder: Path) -> list[Point]:
    """A point of the run, one of its recovery, one of the recovery's recovery: every call as likely as any other."""
    return [_pick(chance, setup, folder, resumed) for resumed in (False, True, True)]


def every(setup: Setup, folder: Path, resumed: bool) -> Iterator[Point]:
    """Each call of a run, or of a recovery, one after the other, the work first.

    A thread's calls of one phase are among those of the phase before it; there only what comes earlier is named.
    """
    later: dict[str, int] = {}
    for phase in reversed(tracer.PHASES):
        found = count(setup, folder, resumed, phase)
        for call, most in found.items():
            yield from (Point(phase, call, k) for k in range(1, most - later.get(call, 0) + 1))
        later = found


def _pick(chance: Random, setup: Setup, folder: Path, resumed: bool) -> Point:
    phase = chance.choice(tracer.PHASES)
    call, most = chance.choice(sorted(count(setup, folder, resumed, phase).items()))
    return Point(phase, call, chance.randint(1, most))


def count(setup: Setup, folder: Path, resumed: bool, phase: str) -> dict[str, int]:
    """How many of each call there are in a run that nobody kills, or in the one after a kill; whatever the policy."""
    with _counting:
        return _count(setup.on(POLICIES[0]), folder, resumed, phase)


@cache
def _count(setup: Setup, folder: Path, resumed: bool, phase: str) -> dict[str, int]:
    with World(Path(tempfile.mkdtemp(dir=folder)) / "counting", setup) as world:
        if resumed:
            tracer.kill_at(world, SPOOLED)
        return tracer.count(world, phase)
