"""Runs by seed: what was done to each and what came of it."""

import itertools
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

from . import handed, money, nemesis, points, told
from .checker import Checker, Violation
from .scenes import SCENES
from .setup import POLICIES, Setup, of_kills
from .tracer import Point
from .world import World


@dataclass(slots=True)
class Result:
    """One run; `at` are the points of a kill that were to be reached, `reached` those that were."""

    name: str
    seed: int
    policy: str = ""
    what: str = ""
    kills: int = 0
    at: list[Point] = field(default_factory=list)
    reached: list[Point] = field(default_factory=list)
    in_run: int = 0  # of them, in the run itself and not in a recovery
    charges: int = 0
    unknown: int = 0
    twice: int = 0
    worst: int = 0
    lingered: float = 0.0
    in_bounds: bool = False
    equal: bool = False
    violations: list[Violation] = field(default_factory=list)

    def __str__(self) -> str:
        at = f" at {' '.join(map(str, self.reached))}" if self.at else ""
        verdict = f"{len(self.violations)} VIOLATIONS" if self.violations else "ok"
        return (
            f"{self.name:6} seed {self.seed} {self.policy:10} {self.what:8} {self.kills} kills, {self.charges} charges,"
            f" {self.unknown} unknown, {self.twice} bought twice: {verdict}{at}"
        )

    @property
    def replay(self) -> str:
        at = f" --at {','.join(map(str, self.at))}" if self.at else ""
        return f"python -m tests.torture --seed {self.seed} --only {self.name} --policy {self.policy}{at}"


Deed = Callable[[World, Checker, Result], None]
Kind = Callable[[Path, Setup], World]


def run(folder: Path, setup: Setup, result: Result, deed: Deed, tell: bool = True, kind: Kind = World) -> Result:
    """One run: the deed, then recovery to the end, then once more for nothing; all of it checked.

    With `tell` what the program says about it is, too.
    """
    place = Path(tempfile.mkdtemp(prefix=f"{result.name}-{result.policy}-{result.seed}-", dir=folder)) / "world"
    with kind(place, setup) as world:
        checker = Checker.of(world)
        deed(world, checker, result)
        code = world.finish()
        world.quiet()
        books = checker.at_end()
        checker.converged(code, world.gone)
        again, after = world.finish(), checker.at_end()
        if again != code or len(after.charges) != len(books.charges) or len(after.attempts) != len(books.attempts):
            checker.fail("again", f"a finished run went on: exit code {again}, {len(after.charges)} charges")
        if setup.lines:
            handed.check(world, checker, after)
        if tell:
            told.check(world, checker, after)
    result.charges, result.unknown = len(after.charges), after.count("unknown")
    result.twice = money.twice(after, setup.keyed).total()
    result.in_bounds, result.equal = money.in_bounds(after), money.equal(after)
    result.violations, result.worst, result.lingered = checker.violations, checker.worst, checker.lingered
    if not result.violations:
        shutil.rmtree(place.parent)
    return result


def policy_of(seed: int, policy: str) -> str:
    """The one that was asked for, or each in turn."""
    return policy or POLICIES[seed % len(POLICIES)]


def kills(folder: Path, seed: int, policy: str = "") -> Result:
    """A few kills at random moments, in one of the worlds."""
    policy, chance = policy_of(seed, policy), Random(seed)
    setups = of_kills(policy)
    setup = setups[seed // len(POLICIES) % len(setups)]

    def deed(world: World, checker: Checker, result: Result) -> None:
        result.kills = nemesis.random_kills(world, checker, chance, chance.randint(3, 8))

    return run(folder, setup, Result("kills", seed, policy, setup.ware), deed)


def at_points(folder: Path, seed: int, policy: str = "", at: Iterable[Point] = ()) -> Result:
    """A kill at a point of the run, one of its recovery, one of the recovery's recovery; or at those that are given."""
    policy = policy_of(seed, policy)
    setup = points.setup_of(seed, policy)
    chosen = list(at) or points.choose(Random(seed), setup, folder)

    def deed(world: World, checker: Checker, result: Result) -> None:
        result.reached = nemesis.kill_points(world, checker, chosen)
        result.in_run = int(chosen[0] in result.reached)
        result.kills = len(result.reached)

    return run(folder, setup, Result("points", seed, policy, setup.ware, at=chosen), deed, tell=False)


def scene(folder: Path, seed: int, policy: str = "") -> Result:
    """One scene after the other by seed, each policy in turn."""
    name, found = list(SCENES.items())[seed % len(SCENES)]
    policy = policy_of(seed % len(SCENES) + seed // len(SCENES), policy)
    result = Result("scenes", seed, policy, name)
    return run(folder, found.setup.on(policy), result, lambda world, checker, _: found.play(world, checker))


def spread(jobs: int, work: Iterable[Callable[[], Result]]) -> Iterator[Result]:
    """Results in their order, with so many under way at once."""
    ahead, pending = iter(work), list[Future[Result]]()
    with ThreadPoolExecutor(jobs) as pool:
        try:
            pending += (pool.submit(each) for each in itertools.islice(ahead, jobs))
            while pending:
                result = pending.pop(0).result()
                pending += (pool.submit(each) for each in itertools.islice(ahead, 1))
                yield result
        finally:
            for each in pending:
                each.cancel()
