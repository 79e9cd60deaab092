"""`python -m tests.torture.power`: the power is cut while batchgen works, and what the disk kept is held to the bill.

The runs folder is an ext4 file system in an image file. A cut stops the process (SIGSTOP), copies the image, kills the
process and mounts the copy in the same place, which replays the journal as a machine does that is switched on again.

What a copy holds is what the file system had handed to its device: an fsync that returned is in it, whatever lay only
in the kernel's cache is not. The mount's options make that cache as forgetful as it can be: the journal is not
committed by a timer (commit=300), a rename does not bring the file's content along (noauto_da_alloc), and, for every
second seed, the journal may name a file before its content is there (data=writeback). What a copy does not show is a
device that lies about its own cache, one that writes sectors by half or in another order between two flushes, and
controllers that die for good.
"""

import argparse
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from random import Random, SystemRandom
from typing import Self

from . import money, nemesis, told, tracer
from .campaign import Result, policy_of
from .checker import Checker
from .setup import POLICIES, Setup, of_kills
from .summary import table
from .world import World, until

MOST = 5  # cuts of one run
MIB = 320  # of the image file; it is sparse
MOUNT = "loop,commit=300,noauto_da_alloc,noatime"
FAST = Path("/dev/shm")
SLOW = Setup(workers=4, latency=0.05)


class Disk:
    """An ext4 file system in an image file, mounted at a folder. A context: it is unmounted with it, and gone."""

    def __init__(self, folder: Path, *options: str) -> None:
        self.folder = folder
        self._images = Path(tempfile.mkdtemp(prefix="power-", dir=FAST if FAST.is_dir() else None))
        self._image = self._images / "0.ext4"
        self._options = ",".join((MOUNT, *options))

    def __enter__(self) -> Self:
        self.folder.mkdir(parents=True)
        with self._image.open("wb") as file:
            file.truncate(MIB << 20)
        _call("mkfs.ext4", "-q", "-F", "-m", "0", "-E", "lazy_itable_init=1", str(self._image))
        _call("mount", "-o", self._options, str(self._image), str(self.folder))
        return self

    def __exit__(self, *_: object) -> None:
        with suppress(subprocess.CalledProcessError):  # it is not mounted where a cut failed half-way
            _call("umount", "--lazy", str(self.folder))
        shutil.rmtree(self._images)

    def snapshot(self) -> Path:
        """A copy of what has reached the device up to now."""
        copy = self._images / f"{int(self._image.stem) + 1}.ext4"
        _call("cp", "--sparse=always", str(self._image), str(copy))
        return copy

    def become(self, copy: Path) -> None:
        """Forget all that came after the copy; nobody may be at work here."""
        self.unmount()
        self._image.unlink()
        self._image = copy
        _call("mount", "-o", self._options, str(copy), str(self.folder))

    def remount(self, *options: str) -> None:
        _call("mount", "-o", ",".join(("remount", *options)), str(self.folder))

    def repair(self) -> None:
        """Switch it off and on after its file system has failed."""
        self.unmount()
        subprocess.run(["fsck.ext4", "-p", str(self._image)], capture_output=True, check=False)
        _call("mount", "-o", self._options, str(self._image), str(self.folder))

    def unmount(self) -> None:
        """Who was killed a moment ago may hold it for another one."""
        command = ["umount", str(self.folder)]
        if not until(lambda: subprocess.run(command, capture_output=True, check=False).returncode == 0, 10):
            raise RuntimeError(f"{self.folder} is still in use")


def _call(*command: str) -> None:
    subprocess.run(command, check=True, capture_output=True)


def missing() -> str:
    """Why no disk can be made here, or nothing."""
    if sys.platform != "linux" or os.geteuid():
        return "power cuts need root on Linux, to mount a disk of their own"
    if not shutil.which("mkfs.ext4"):
        return "power cuts need mkfs.ext4: apt-get install e2fsprogs"
    try:
        with tempfile.TemporaryDirectory() as folder, Disk(Path(folder) / "mounted"):
            return ""
    except (OSError, subprocess.CalledProcessError) as error:
        return f"power cuts cannot mount a disk here: {error}"


@contextmanager
def plugged_in(place: Path, terms: Setup, *options: str) -> Iterator[tuple[World, Disk]]:
    """A world whose runs lie on a disk of their own, its bill elsewhere."""
    with World(place, terms) as world, Disk(place / "runs", *options) as disk:
        yield world, disk


def cut(
    folder: Path, seed: int, policy: str = "", *, most: int = MOST, environ: Mapping[str, str] | None = None
) -> Result:
    """One run, cut again and again, then finished; `environ` is seen by batchgen alone."""
    policy, chance = policy_of(seed, policy), Random(seed)
    terms = of(seed // len(POLICIES), policy)
    writeback = ("data=writeback",) if seed % 2 else ()
    result, place = Result("power", seed, policy, terms.ware), folder / f"power-{policy}-{seed}"
    with plugged_in(place, terms, *writeback) as (world, disk):
        world.environ |= environ or {}
        checker = Checker.of(world)
        result.kills = cuts(world, disk, checker, chance, most)
        if not checker.violations:
            conclude(world, checker, result)
        result.violations = checker.violations
        if result.violations:
            shutil.copytree(world.run, place / "kept", symlinks=True)
    if not result.violations:
        shutil.rmtree(place)
    return result


def of(number: int, policy: str) -> Setup:
    """The worlds of the random kills, and one more, by number."""
    setups = (replace(SLOW, policy=policy), *of_kills(policy))
    return setups[number % len(setups)]


def cuts(world: World, disk: Disk, checker: Checker, chance: Random, most: int) -> int:
    """Cut the power at random moments as long as there is work; how often that was."""
    for done in range(most):
        process = world.start()
        nemesis.await_moment(world, process, chance)
        os.kill(process.pid, signal.SIGSTOP)  # it is not waited for yet: the number is its own, dead or alive
        if not tracer.stops(process):
            return done
        checker.after_kill()  # what any reader may see now was acknowledged: it must be there for good
        copy = disk.snapshot()
        process.kill()
        process.wait()
        disk.become(copy)
        checker.after_kill()
        if checker.violations:  # what follows from them says nothing new
            return done + 1
    return most


def conclude(world: World, checker: Checker, result: Result) -> None:
    """Recovery to the end, then once more for nothing; all of it checked, and written down in the result."""
    code = world.finish()
    world.quiet()
    books = checker.at_end()
    checker.converged(code, world.gone)
    again, after = world.finish(), checker.at_end()
    if again != code or len(after.attempts) != len(books.attempts):
        checker.fail("again", f"a finished run went on: exit code {again}, {len(after.charges)} charges")
    told.check(world, checker, after)
    if b"Traceback" in world.output.read_bytes():
        checker.fail("bug", f"a traceback in {world.output}")
    result.charges, result.unknown = len(after.charges), after.count("unknown")
    result.twice = money.twice(after, world.setup.keyed).total()
    result.in_bounds, result.equal = money.in_bounds(after), money.equal(after)
    result.worst, result.lingered, result.violations = checker.worst, checker.lingered, checker.violations


def enough(results: Iterable[Result], wanted: int) -> Iterator[Result]:
    """Results until they came to so many cuts."""
    so_far = 0
    for result in results:
        yield result
        so_far += result.kills
        if so_far >= wanted:
            return


def show(results: Iterable[Result], module: str) -> int:
    """A line each, and the table; the exit code."""
    found = []
    for result in results:
        found.append(result)
        print(result, flush=True)
        for violation in result.violations:
            print(f"    {violation.kind}: {violation.says}")
        if result.violations:
            print(f"    again: python -m tests.torture.{module} --seed {result.seed}", flush=True)
    print(f"\n{table(found)}")
    return 1 if any(result.violations for result in found) else 0


def main() -> int:
    parser = argparse.ArgumentParser("python -m tests.torture.power", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--cuts", type=int, default=100, help="how many in all (default: 100)")
    parser.add_argument("--seed", type=int, help="one run, as it was")
    options, folder = parser.parse_args(), Path(tempfile.mkdtemp(prefix="torture-"))
    if says := missing():
        print(says, file=sys.stderr)
        return 2
    first = SystemRandom().randrange(10**6) if options.seed is None else options.seed
    seeds = range(first, first + (options.cuts if options.seed is None else 1))
    print(f"# seeds from {first}, below {folder}", flush=True)
    return show(enough((cut(folder, seed) for seed in seeds), options.cuts), "power")


if __name__ == "__main__":
    sys.exit(main())
