"""`python -m tests.torture`: the campaigns, a line a run, and a table of what they found."""

import argparse
import itertools
import shutil
import signal
import sys
import tempfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from random import SystemRandom

from . import clusters as remote
from . import disks, points, power, tracer
from .batches import batches
from .campaign import Result, at_points, kills, scene, spread
from .scenes import SCENES
from .setup import POLICIES, of_points
from .summary import table
from .tracer import Point

SMOKE = {"kills": 9, "points": 6, "scenes": len(SCENES), "power": 2, "disks": 2, "batches": 12, "clusters": 0}
WHOLE = {
    "kills": 60,
    "points": 20,
    "scenes": len(SCENES) * len(POLICIES),
    "power": 20,
    "disks": 20,
    "batches": 200,
    "clusters": 14,
}
Work = Callable[[Path, int, str], Result]  # by folder, seed and policy


def campaigns(options: argparse.Namespace, folder: Path) -> Iterator[Result]:
    for name in [options.only] if options.only else RUNS:
        print(f"# {name}: seeds from {options.first}", flush=True)
        yield from RUNS[name](options, folder)


def seeds(options: argparse.Namespace) -> Iterator[int]:
    """From the first on; just the one that is to be run again."""
    return iter([options.seed]) if options.seed is not None else itertools.count(options.first)


def by_seed(options: argparse.Namespace, folder: Path, work: Work, most: int) -> Iterator[Result]:
    chosen = itertools.islice(seeds(options), most)
    yield from spread(options.jobs, (partial(work, folder, seed, options.policy) for seed in chosen))


def until_killed(options: argparse.Namespace, folder: Path, work: Work, kills: int) -> Iterator[Result]:
    """Until there were as many kills as wanted, and a run of each policy; one that ends too early counts few."""
    least = min(kills, len(POLICIES))
    for n, result in enumerate(by_seed(options, folder, work, max(kills, least)), 1):
        yield result
        kills -= result.kills
        if kills <= 0 and n >= least:
            return


def kill_runs(options: argparse.Namespace, folder: Path) -> Iterator[Result]:
    yield from until_killed(options, folder, kills, options.kills)


def power_runs(options: argparse.Namespace, folder: Path) -> Iterator[Result]:
    if not power.missing():
        yield from until_killed(options, folder, power.cut, options.power)


def disk_runs(options: argparse.Namespace, folder: Path) -> Iterator[Result]:
    if not tracer.missing():
        yield from by_seed(options, folder, disks.campaign, options.disks)


def batch_runs(options: argparse.Namespace, folder: Path) -> Iterator[Result]:
    yield from until_killed(options, folder, partial(batches, at=options.at), options.batches)


def cluster_runs(options: argparse.Namespace, folder: Path) -> Iterator[Result]:
    if not remote.missing():
        work = partial(remote.clusters, tasks=options.tasks, what=options.what)
        yield from by_seed(options, folder, work, options.clusters)


def point_runs(options: argparse.Namespace, folder: Path) -> Iterator[Result]:
    if tracer.missing():
        return
    if options.points == "all":
        yield from spread(options.jobs, every_point(options, folder))
        return
    yield from by_seed(options, folder, partial(at_points, at=options.at), options.points)


def every_point(options: argparse.Namespace, folder: Path) -> Iterator[Callable[[], Result]]:
    """A run for each call of a run of three tasks, and one for each call of what comes after a kill."""
    policy = options.policy or "retry"
    setup = of_points()[0].on(policy)
    seed = POLICIES.index(policy)  # which is a world like that one
    for resumed, before in ((False, []), (True, [points.SPOOLED])):
        for point in points.every(setup, folder, resumed):
            yield partial(at_points, folder, seed, policy, [*before, point])


def scene_runs(options: argparse.Namespace, folder: Path) -> Iterator[Result]:
    chosen = list(itertools.islice(seeds(options), options.scenes))
    playable = [seed for seed in chosen if not list(SCENES.values())[seed % len(SCENES)].missing()]
    yield from spread(options.jobs, (partial(scene, folder, seed, options.policy) for seed in playable))


RUNS = {
    "kills": kill_runs,
    "points": point_runs,
    "scenes": scene_runs,
    "power": power_runs,
    "disks": disk_runs,
    "batches": batch_runs,
    "clusters": cluster_runs,
}


def unplayable() -> list[str]:
    """What this machine lacks."""
    needs = (tracer.missing(), power.missing(), *(each.missing() for each in SCENES.values()))
    return sorted({need for need in needs if need})


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser("python -m tests.torture", description=__doc__)
    parser.add_argument("--only", choices=RUNS, help="one campaign")
    parser.add_argument("--policy", choices=POLICIES, default="", help="one policy (default: each in turn)")
    parser.add_argument("--smoke", action="store_true", help="a few of everything, in a minute and a half")
    parser.add_argument("--seed", type=int, help="one run of each campaign, as it was")
    parser.add_argument("--jobs", type=int, default=2, help="runs at a time (default: 2)")
    parser.add_argument("--kills", type=int, help="at random moments, until there were so many")
    parser.add_argument("--points", type=number, help="runs with kills at an exact system call, or all")
    parser.add_argument("--scenes", type=int, help="runs with signals, restarts, clock jumps and the like")
    parser.add_argument("--power", type=int, help="power cuts, until there were so many")
    parser.add_argument("--disks", type=int, help="runs on disks that fail or are full")
    parser.add_argument("--batches", type=int, help="of runs that buy by the batch, until there were so many")
    parser.add_argument("--clusters", type=int, help="runs by the nodes of a Ray cluster")
    parser.add_argument("--tasks", type=int, default=300, help="of each of these (default: 300)")
    parser.add_argument("--what", choices=remote.DEED, default="", help="what befalls them (default: each in turn)")
    parser.add_argument(
        "--at", type=listed, default=[], metavar="POINT,…", help="a replay's: start/fsync/3,work/rename/1"
    )
    options = parser.parse_args()
    options.first = SystemRandom().randrange(10**6) if options.seed is None else options.seed
    for name, count in (SMOKE if options.smoke else WHOLE).items():
        setattr(options, name, count if getattr(options, name) is None else getattr(options, name))
    return options


def number(text: str) -> int | str:
    return text if text == "all" else int(text)


def listed(text: str) -> list[Point]:
    return [Point.parse(each) for each in text.split(",")]


def main() -> int:
    options, folder, results = parse(), Path(tempfile.mkdtemp(prefix="torture-")), []
    signal.signal(signal.SIGINT, signal.default_int_handler)  # one that ignores it hands that on to its children
    for result in campaigns(options, folder):
        results.append(result)
        print(result, flush=True)
        for violation in result.violations:
            print(f"    {violation.kind}: {violation.says}")
        if result.violations:
            print(f"    again: {result.replay}", flush=True)
    print(f"\n{table(results)}")
    bad = any(result.violations for result in results)
    print(f"\nkept: {folder}") if bad else shutil.rmtree(folder)
    lacking = unplayable()
    for lack in lacking:
        print(f"not tried here, for want of {lack}", file=sys.stderr)
    return 1 if bad else 2 if lacking else 0


if __name__ == "__main__":
    sys.exit(main())
