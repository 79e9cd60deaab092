"""What else may happen to a run than to be killed: each scene takes a world and a checker, and fails the checker."""

import re
import shutil
import signal
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from . import clock, nemesis
from .checker import SLACK, Checker
from .setup import CUT, Setup
from .world import Process, World, ended, until

BUSY = Setup(tasks=32, workers=4, latency=0.4)
REFUSAL = 2.0  # seconds of a processor that a second run may take to find out that it is one
QUICK = Setup(tasks=48, workers=4, latency=0.05)


@dataclass(frozen=True, slots=True)
class Scene:
    """`missing` says in a word what this machine lacks for it."""

    play: Callable[[World, Checker], None]
    setup: Setup = BUSY
    missing: Callable[[], str] = str


def drain(world: World, checker: Checker, number: signal.Signals) -> None:
    """One polite signal: what is on its way is finished, nothing new is sent, nothing is left unknown."""
    process = world.start()
    before = busy(world)
    process.send_signal(number)
    code, books = world.finish(process), checker.at_end()
    left = sum(task["state"] == "todo" for task in books.tasks)
    if code != (7 if left else 0):
        checker.fail("signal", f"exit code {code} after {number.name}, with {left} tasks left")
    if books.count("unknown"):
        checker.fail("signal", f"{books.count('unknown')} requests unknown after a drain")
    if len(books.charges) > before + 2 * world.setup.workers:
        checker.fail("signal", f"{len(books.charges) - before} requests after the drain began")


def term(world: World, checker: Checker) -> None:
    drain(world, checker, signal.SIGTERM)


def hup(world: World, checker: Checker) -> None:
    drain(world, checker, signal.SIGHUP)


def leave(world: World, checker: Checker) -> None:
    """Ctrl-C twice: it leaves at once, and says what it left behind."""
    process = world.start()
    busy(world)
    time.sleep(world.setup.latency / 2)  # the next requests are open, and their answers not yet due
    process.send_signal(signal.SIGINT)
    time.sleep(world.setup.latency / 8)
    process.send_signal(signal.SIGINT)
    began = time.monotonic()
    code, took = world.finish(process), time.monotonic() - began
    world.quiet()
    books = checker.after_kill()  # the next run tidies up: this one had no time to
    if code != 7 or took > SLACK:
        checker.fail("signal", f"left with {code} after {took:.1f} s")
    if books.count("unknown") > world.setup.workers:
        checker.fail("signal", f"{books.count('unknown')} unknown, with {world.setup.workers} requests open")


def sleep(world: World, checker: Checker) -> None:
    """A laptop that is closed and opened again: nothing is lost, nothing comes in a burst."""
    process = world.start()
    busy(world)
    process.send_signal(signal.SIGSTOP)
    time.sleep(1.5)
    process.send_signal(signal.SIGCONT)
    code, books = world.finish(process), checker.at_end()
    most = world.server.stats()["most_open"]
    if code or books.count("unknown") or most > world.setup.workers:
        checker.fail("signal", f"exit code {code}, {books.count('unknown')} unknown, {most} requests open at once")


def restart(world: World, checker: Checker) -> None:
    """The server is killed under the run, twice, and comes back with the same books: the run goes on by itself."""
    process = world.start()
    for _ in range(2):
        busy(world, world.charges())
        time.sleep(world.setup.latency / 2)  # what is open then was not yet billed: its key is forgotten with it
        world.server.end()
        time.sleep(0.3)
        world.serve()
    code = world.finish(process)
    world.quiet()
    books = checker.at_end()
    if code not in ((0, 3) if world.setup.hold else (0,)):
        checker.fail("restart", f"ended with {code} when its server came back")
    if books.count("unknown") > 2 * world.setup.workers:
        checker.fail("restart", f"{books.count('unknown')} unknown, with {world.setup.workers} requests open")


def second(world: World, checker: Checker) -> None:
    """Another run of the same folder, while the first one works: it says so, and changes nothing."""
    first = world.start()
    busy(world)
    runs = world.runs()
    says = refused(world, checker)
    if not re.search(rf"\b{first.pid}\b", says):
        checker.fail("lock", f"did not name process {first.pid}: {says}")
    if world.runs() != runs:
        checker.fail("lock", "the ledger notes a run that was refused")
    if code := world.finish(first):
        checker.fail("lock", f"the first run ended with {code}")


def refused(world: World, checker: Checker) -> str:
    """What it says; its own work is counted, not the time that others have the processor."""
    code, says = world.ask("run", str(world.manifest))
    if code != 6 or world.worked > REFUSAL:
        checker.fail("lock", f"the second run ended with {code} after {world.worked:.1f} s of work: {says[-300:]}")
    return says


def recovery(world: World, checker: Checker) -> None:
    """Killed again and again as soon as it has begun to recover: each time as if it were the first."""
    process = world.start()
    busy(world)
    nemesis.kill(process)
    checker.after_kill()
    for nth in range(6):
        process = recovering(world)
        time.sleep(0.004 * nth)
        nemesis.kill(process)
        checker.after_kill()


def recovering(world: World) -> Process:
    """A run that has just written down that it began."""
    runs, process = world.runs(), world.start()
    until(lambda: world.runs() > runs or ended(process))
    return process


def jump(world: World, checker: Checker, *offsets: str) -> None:
    """The wall clock jumps while it buys: nothing waits, nothing is sent again, nothing is in doubt."""
    faked = clock.Clock(world.folder)
    world.environ = faked.environ
    process = world.start()
    for offset in offsets:
        busy(world, world.charges())
        faked.jump(offset)
    code, books = world.finish(process), checker.at_end()
    world.environ = {}
    times = sorted(datetime.fromisoformat(attempt["sent_at"]) for attempt in books.attempts)
    if not times or times[-1] - times[0] < timedelta(hours=1):
        raise RuntimeError("the clock did not jump: is libfaketime at work?")
    if code or len(books.attempts) != len(books.tasks):
        checker.fail("clock", f"ended with {code}, with {len(books.attempts)} attempts for {len(books.tasks)} tasks")


def back(world: World, checker: Checker) -> None:
    jump(world, checker, "-2h")


def ahead(world: World, checker: Checker) -> None:
    jump(world, checker, "+10y", "+0")


def edits(world: World, checker: Checker) -> None:
    """The user deletes an image and empties the spool between kills: that is told, and nothing is bought again."""
    checker.emptied = True
    for _ in range(3):
        process = world.start()
        busy(world, world.charges())
        nemesis.kill(process)
        books = checker.after_kill()
        shutil.rmtree(world.run / "spool")
        saved = [row["path"] for row in books.images if row["state"] == "saved" and row["path"] not in checker.missing]
        for path in saved[:1]:
            (world.run / "images" / path).unlink()
            checker.missing.add(path)


SCENES: Mapping[str, Scene] = {
    "term": Scene(term),
    "hup": Scene(hup),
    "leave": Scene(leave),
    "sleep": Scene(sleep),
    "second": Scene(second),
    "restart": Scene(restart),
    "recovery": Scene(recovery, replace(QUICK, flags=CUT)),
    "edits": Scene(edits, QUICK),
    "back": Scene(back, QUICK, clock.missing),
    "ahead": Scene(ahead, QUICK, clock.missing),
}


def busy(world: World, already: int = 0) -> int:
    """Wait until it buys, or there is nothing left to buy; the charges so far."""
    enough = min(already + 2 * world.setup.workers, world.setup.tasks)
    until(lambda: world.charges() >= enough)
    return world.charges()
