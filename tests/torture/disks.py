"""`python -m tests.torture.disks`: disks that are full, fail, shrink to read-only, or take no more files.

Errors of single calls are injected by strace, into the k-th call of any thread, once or from then on; whole disks are
real: a tmpfs that fills up, an ext4 file system that gives up in the middle, limits of the process. Then the space is
there again, and the same command must finish: what was paid for is there, what was spooled is not bought again.

Short writes are the real ones of a disk or a limit that is reached: a return value that strace makes up would be a
write that never happened.
"""

import argparse
import itertools
import os
import re
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from random import Random, SystemRandom
from typing import Self

from . import points, power, tracer
from .campaign import Result, policy_of
from .checker import Checker
from .setup import LARGE, Setup
from .tracer import Point
from .world import Process, World, ended, until

ERRORS = {  # of each call that writes
    "write": ("ENOSPC", "EIO"),
    "pwrite64": ("ENOSPC", "EIO"),
    "fsync": ("EIO",),
    "fdatasync": ("EIO",),
    "ftruncate": ("ENOSPC",),
    "rename": ("ENOSPC", "EROFS"),
    "openat": ("ENOSPC", "EROFS"),
    "mkdir": ("EROFS",),
    "unlink": ("EIO",),
}
TOLD = (0, 3, 5)  # it went on, or ended with a message
THREE = Setup(tasks=3, workers=2)
MANY = Setup(tasks=40, workers=4)
WIDE = Setup(tasks=240, workers=200)


@dataclass(frozen=True, slots=True)
class Fault:
    """An error of the k-th call, or of all from the k-th on."""

    point: Point
    error: str
    on: bool

    @classmethod
    def parse(cls, text: str) -> Self:
        point, error, how = text.rsplit("/", 2)
        return cls(Point.parse(point), error, how == "on")

    def __str__(self) -> str:
        return f"{self.point}/{self.error}/{'on' if self.on else 'once'}"


def every(folder: Path, setup: Setup) -> Iterator[Fault]:
    """Each error of each call of a run."""
    for point in points.every(setup, folder, False):
        for error in ERRORS.get(point.call, ()):
            yield from (Fault(point, error, on) for on in (False, True))


def meet(world: World, checker: Checker, fault: Fault) -> tuple[int, list[str]]:
    """Run into a fault: the exit code, and which calls failed on the run's own files. All else is none of a disk's."""
    log, call = world.folder / "faults.txt", fault.point.call
    inject = f"inject={call}:error={fault.error}:when={fault.point.k}{'+' if fault.on else ''}"
    code = tracer.traced(world, fault.point.phase, "-y", "-o", str(log), "-e", f"trace={call}", "-e", inject)
    hit = [text for text in whole_calls(log) if "(INJECTED)" in text] if log.exists() else []
    ours = [text for text in hit if str(world.run) in text]
    if ours and len(ours) == len(hit) and code not in TOLD:
        checker.fail("told", f"{fault}: ended with {code} after {ours[0][-160:]}")
    return code, ours


def whole_calls(log: Path) -> Iterator[str]:
    """The calls of a log; what one thread's was cut into by another's is put together again."""
    begun: dict[str, str] = {}
    for line in log.read_text().splitlines():
        thread, text = line.split(maxsplit=1)
        if text.endswith("<unfinished ...>"):
            begun[thread] = text
        else:
            yield begun.pop(thread, "") + text if text.startswith("<...") else text


def single(folder: Path, fault: Fault, seed: int = 0, policy: str = "") -> Result:
    """A run of three tasks, one fault, and what comes after."""
    policy = policy_of(seed, policy)
    setup = replace(THREE, policy=policy, flags=LARGE if seed % 2 else ())
    result = Result("disks", seed, policy, str(fault))
    place = folder / f"disks-{policy}-{seed}-{str(fault).replace('/', '-')}"
    with World(place, setup) as world:
        checker = Checker.of(world)
        result.kills = int(bool(meet(world, checker, fault)[1]))
        ended_well(world, checker, result)
    return tidied(place, result)


def ended_well(world: World, checker: Checker, result: Result) -> None:
    """The space is there again: everything is made, and nothing bought twice that was spooled."""
    checker.after_kill()
    power.conclude(world, checker, result)


def tidied(place: Path, result: Result) -> Result:
    if not result.violations:
        shutil.rmtree(place)
    return result


# whole disks


@contextmanager
def tmpfs(folder: Path, *options: str) -> Iterator[None]:
    folder.mkdir(parents=True, exist_ok=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", ",".join(options), "tmpfs", str(folder)], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


def grow(folder: Path, *options: str) -> None:
    subprocess.run(["mount", "-o", ",".join(("remount", *options)), str(folder)], check=True)


def told(world: World, checker: Checker, what: str, process: Process | None = None) -> None:
    """It ended with a message, or had all it needed."""
    code = world.finish(process)
    if code not in TOLD:
        checker.fail("told", f"{what}: ended with {code}")


def full(place: Path, setup: Setup, result: Result, chance: Random, kind: str = "size") -> None:
    """A disk, or its table of files, that is too small; then a larger one, that may be too small again."""
    steps = {"size": [f"{chance.randint(64, 1024)}k", f"{chance.randint(1, 2)}m"], "nr_inodes": ["20", "60"]}[kind]
    with World(place, setup) as world:
        checker, runs = Checker.of(world), world.run.parent
        with tmpfs(runs, f"{kind}={steps[0]}"):
            for step in (*steps[1:], "80m" if kind == "size" else "9000"):
                told(world, checker, f"{kind} before {step}", world.start("tests.torture.blind"))
                checker.after_kill()
                grow(runs, f"{kind}={step}")
            ended_well(world, checker, result)


def no_inodes(place: Path, setup: Setup, result: Result, chance: Random) -> None:
    full(place, setup, result, chance, "nr_inodes")


def aborted(place: Path, setup: Setup, result: Result, chance: Random) -> None:
    """The file system finds itself damaged, as it does when its device fails, and takes no more writes.

    It happens while the process stands still: an fsync that is under way in that very moment returns with success, at
    least on Linux 6.18, though nothing of it reached the disk. No program can know.
    """
    with power.plugged_in(place, setup) as (world, disk):
        checker, process, wanted = Checker.of(world), world.start(), chance.randint(1, setup.tasks)
        until(lambda: world.charges() >= wanted or ended(process))
        os.kill(process.pid, signal.SIGSTOP)
        tracer.stops(process)
        disk.remount("abort")
        os.kill(process.pid, signal.SIGCONT)
        told(world, checker, "aborted", process)
        disk.repair()
        ended_well(world, checker, result)


def no_growth(place: Path, setup: Setup, result: Result, chance: Random) -> None:
    """No file may grow beyond so many bytes: the ledger's log is the first to meet that, or an answer."""
    limited(place, setup, result, resource.RLIMIT_FSIZE, chance.randint(50_000, 400_000))


def few_files(place: Path, setup: Setup, result: Result, chance: Random) -> None:
    """64 open files, and 200 requests to be open at once."""
    limited(place, WIDE.on(setup.policy), result, resource.RLIMIT_NOFILE, 64)


def limited(place: Path, setup: Setup, result: Result, which: int, most: int) -> None:
    with World(place, setup) as world:
        checker, process = Checker.of(world), world.start()
        resource.prlimit(process.pid, which, (most, most))
        told(world, checker, f"limit {most}", process)
        ended_well(world, checker, result)


SCENES: dict[str, Callable[[Path, Setup, Result, Random], None]] = {
    "full": full,
    "inodes": no_inodes,
    "aborted": aborted,
    "growth": no_growth,
    "files": few_files,
}


def scene(folder: Path, seed: int, policy: str = "") -> Result:
    """One whole disk after the other, by seed."""
    name, play = list(SCENES.items())[seed % len(SCENES)]
    policy, chance = policy_of(seed, policy), Random(seed)
    setup = replace(MANY, policy=policy, flags=LARGE if chance.random() < 0.4 else ())
    result, place = Result("disks", seed, policy, name, kills=1), folder / f"disks-{policy}-{seed}"
    play(place, setup, result, chance)
    return tidied(place, result)


def campaign(folder: Path, seed: int, policy: str = "") -> Result:
    """A whole disk, or a fault drawn from all of them, by turns."""
    if seed % 2:
        return scene(folder, seed // 2, policy)
    setup = replace(THREE, policy=policy_of(seed, policy), flags=LARGE if seed % 2 else ())
    return single(folder, Random(seed).choice(list(every(folder, setup))), seed, policy)


def results(options: argparse.Namespace, folder: Path) -> Iterator[Result]:
    if options.at:
        yield single(folder, Fault.parse(options.at), options.seed or 0)
    elif options.seed is not None:
        yield campaign(folder, options.seed)
    elif options.all:
        faults = [fault for fault in every(folder, THREE) if re.match(options.only, str(fault))]
        yield from (single(folder, fault, policy="retry") for fault in faults)
    else:
        first = SystemRandom().randrange(10**6)
        print(f"# seeds from {first}, below {folder}", flush=True)
        yield from (campaign(folder, seed) for seed in itertools.islice(itertools.count(first), options.runs))


def main() -> int:
    parser = argparse.ArgumentParser("python -m tests.torture.disks", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--runs", type=int, default=30, help="how many, drawn by seeds (default: 30)")
    parser.add_argument("--seed", type=int, help="one run, as it was")
    parser.add_argument("--all", action="store_true", help="every error of every call of a run of three tasks")
    parser.add_argument("--only", default=".*", help="of all, those that begin so: work/(fsync|write)/")
    parser.add_argument("--at", help="one fault: work/fsync/3/EIO/once")
    options, folder = parser.parse_args(), Path(tempfile.mkdtemp(prefix="torture-"))
    if lack := tracer.missing() or power.missing():
        print(lack, file=sys.stderr)
        return 2
    return power.show(results(options, folder), "disks")


if __name__ == "__main__":
    sys.exit(main())
