"""`python -m tests.torture`: the campaigns, a line a run, and a table of what they found."""

import argparse
import itertools
import shutil
import signal
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from random import Random, SystemRandom

from . import nemesis, tracer
from .checker import Checker, Violation
from .tracer import Point
from .world import Setup, World

LARGE = ("--paint-bytes", "300000")  # their answers are streamed to the disk
CUT, LINKS = ("--faults", "cut=0.1"), ("--delivery", "url")
KILLS = (  # by seed
    Setup(),
    Setup(flags=CUT),
    Setup(flags=LINKS),
    Setup(hold=True),
    Setup(images=2, flags=LARGE),
    Setup(hold=True, flags=(*CUT, *LINKS)),
    Setup(flags=(*CUT, *LINKS, *LARGE)),
    Setup(lanes=2, flags=(*CUT, *LINKS)),
)
POINTS = tuple(
    Setup(tasks=3, workers=2, hold=hold, flags=flags) for flags in ((), LINKS, LARGE) for hold in (False, True)
)
SIGNALS = Setup(tasks=32, workers=4, latency=0.4)


@dataclass(slots=True)
class Result:
    """One run: what was done to it and what came of it."""

    name: str
    seed: int
    kills: int = 0
    points: list[Point] = field(default_factory=list)  # that were to be reached
    reached: list[Point] = field(default_factory=list)
    in_run: int = 0  # of them, in the run itself and not in a recovery
    charges: int = 0
    unknown: int = 0
    twice: int = 0
    worst: int = 0
    violations: list[Violation] = field(default_factory=list)

    def __str__(self) -> str:
        at = f" at {' '.join(map(str, self.reached))}" if self.points else ""
        verdict = f"{len(self.violations)} VIOLATIONS" if self.violations else "ok"
        return (
            f"{self.name:8} seed {self.seed}: {self.kills} kills, {self.charges} charges, {self.unknown} unknown, "
            f"{self.twice} bought twice: {verdict}{at}"
        )

    @property
    def replay(self) -> str:
        at = f" --at {','.join(map(str, self.points))}" if self.points else ""
        return f"python -m tests.torture --seed {self.seed} --only {self.name}{at}"


Deed = Callable[[World, Checker, Result], None]


def run(folder: Path, setup: Setup, result: Result, deed: Deed) -> Result:
    """One run: the deed, then recovery to the end, then once more for nothing; all of it checked."""
    place = folder / f"{result.name}-{result.seed}"
    checker = Checker(place / "runs" / "tortured", place / "bill.jsonl", setup.workers, setup.hold)
    with World(place, setup) as world:
        deed(world, checker, result)
        code = world.finish()
        world.quiet()
        books = checker.at_end()
        checker.converged(code)
        again, after = world.finish(), checker.at_end()
        if again != code or len(after.charges) != len(books.charges):
            checker.fail("again", f"a finished run went on: exit code {again}, {len(after.charges)} charges")
    result.charges, result.unknown, result.twice = len(after.charges), after.count("unknown"), after.twice()
    result.violations, result.worst = checker.violations, checker.worst
    if not result.violations:
        shutil.rmtree(place)
    return result


def kills(folder: Path, seed: int) -> Result:
    chance = Random(seed)

    def deed(world: World, checker: Checker, result: Result) -> None:
        result.kills = nemesis.random_kills(world, checker, chance, chance.randint(3, 8))

    return run(folder, KILLS[seed % len(KILLS)], Result("kills", seed), deed)


def points(folder: Path, seed: int, at: list[Point]) -> Result:
    setup = POINTS[seed % len(POINTS)]
    chosen = at or choose(Random(seed), setup, folder)

    def deed(world: World, checker: Checker, result: Result) -> None:
        result.reached = nemesis.kill_points(world, checker, chosen)
        result.in_run = int(chosen[0] in result.reached)
        result.kills = len(result.reached)

    return run(folder, setup, Result("points", seed, points=chosen), deed)


def signals(folder: Path, seed: int) -> Result:
    scene = nemesis.SCENES[seed % len(nemesis.SCENES)]
    return run(folder, SIGNALS, Result("signals", seed), lambda world, checker, _: scene(world, checker))


def choose(chance: Random, setup: Setup, folder: Path) -> list[Point]:
    """A point of the run, one of its recovery, one of the recovery's recovery: every call as likely as any other."""
    return [pick(chance, counts(setup, folder, resumed)) for resumed in (False, True, True)]


def pick(chance: Random, found: dict[tuple[str, str], int]) -> Point:
    (phase, call), most = chance.choice(sorted(found.items()))
    return Point(phase, call, chance.randint(1, most))


@cache
def counts(setup: Setup, folder: Path, resumed: bool) -> dict[tuple[str, str], int]:
    """How many of each call there are, by phase, in a run that nobody kills, or in the one after a kill."""
    found: dict[tuple[str, str], int] = {}
    for phase in tracer.PHASES:
        with World(Path(tempfile.mkdtemp(dir=folder)) / "counting", setup) as world:
            if resumed:
                tracer.kill_at(world, Point("work", "fsync", 3))  # when one answer is spooled and no image saved
            found |= {(phase, call): most for call, most in tracer.count(world, phase).items()}
    return found


def campaigns(options: argparse.Namespace, folder: Path) -> Iterator[Result]:
    first = SystemRandom().randrange(10**6) if options.seed is None else options.seed
    seeds = itertools.count(first) if options.seed is None else [first]
    wanted = [options.only] if options.only else ["kills", "points", "signals"]
    if "kills" in wanted:
        yield from enough((kills(folder, seed) for seed in seeds), options.kills, lambda result: result.kills)
    if "points" in wanted and not tracer.missing():
        found = (points(folder, seed, options.at) for seed in seeds)
        yield from enough(found, options.points, lambda result: result.in_run)
    if "signals" in wanted:
        yield from (signals(folder, seed) for seed in itertools.islice(seeds, len(nemesis.SCENES)))


def enough(results: Iterable[Result], wanted: int, counted: Callable[[Result], int]) -> Iterator[Result]:
    """Results until their counts come to what is wanted; a run that was not hit counts nothing, so there is a bound."""
    so_far = 0
    for result in itertools.islice(results, 2 * wanted):
        yield result
        so_far += counted(result)
        if so_far >= wanted:
            return


def table(results: list[Result]) -> str:
    found = Counter(violation.kind for result in results for violation in result.violations)
    in_run = sum(result.in_run for result in results)
    rows = {
        "runs": len(results),
        "kills": sum(result.kills for result in results),
        "points of a run": in_run,
        "points of a recovery": sum(len(result.reached) for result in results) - in_run,
        "charges": sum(result.charges for result in results),
        "images lost": found.pop("lost", 0),
        "images changed": found.pop("changed", 0),
        "charges unknown to us": found.pop("stranger", 0),
        "bought twice": sum(result.twice for result in results),
        "bought twice, unlisted": found.pop("twice", 0),
        "worst unknown per kill": max((result.worst for result in results), default=0),
        "other violations": sum(found.values()),
    }
    return "\n".join(f"{name:24}{value:>8,}" for name, value in rows.items())


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser("python -m tests.torture", description=__doc__)
    parser.add_argument("--only", choices=("kills", "points", "signals"), help="one campaign")
    parser.add_argument("--seed", type=int, help="one run of each campaign, as it was")
    parser.add_argument("--kills", type=int, default=40, help="at random moments (default: 40)")
    parser.add_argument("--points", type=int, default=40, help="kills at an exact system call (default: 40)")
    parser.add_argument(
        "--at", type=listed, default=[], metavar="POINT,…", help="a replay's: start/fsync/3,work/rename/1"
    )
    return parser.parse_args()


def listed(text: str) -> list[Point]:
    return [Point.parse(each) for each in text.split(",")]


def main() -> int:
    options, folder, results = parse(), Path(tempfile.mkdtemp(prefix="torture-")), []
    signal.signal(signal.SIGINT, signal.default_int_handler)  # one that ignores it hands that on to its children
    no_points = options.only in (None, "points") and tracer.missing()
    for result in campaigns(options, folder):
        results.append(result)
        print(result, flush=True)
        for violation in result.violations:
            print(f"    {violation.kind}: {violation.says}")
        if result.violations:
            print(f"    kept: {folder}/{result.name}-{result.seed}\n    again: {result.replay}", flush=True)
    print(f"\n{table(results)}")
    if no_points:
        print("the points campaign needs strace: apt-get install strace", file=sys.stderr)
    bad = any(result.violations for result in results)
    if not bad:
        shutil.rmtree(folder)
    return 1 if bad else 2 if no_points else 0


if __name__ == "__main__":
    sys.exit(main())
