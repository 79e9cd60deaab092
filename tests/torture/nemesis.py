"""What is done to a run: each campaign takes a world, a checker and a seed's chance, and says what it did."""

import signal
import time
from collections.abc import Callable
from random import Random

from .checker import Checker
from .tracer import Point, kill_at
from .world import Process, World, until

KILLED = -signal.SIGKILL


def random_kills(world: World, checker: Checker, chance: Random, most: int) -> int:
    """Kill it at random moments, up to `most` times, as long as it does not end by itself; how often that was."""
    for done in range(most):
        process = world.start()
        await_moment(world, process, chance)
        process.kill()
        if process.wait() != KILLED:
            return done
        checker.after_kill()
    return most


def await_moment(world: World, process: Process, chance: Random) -> None:
    """Mostly while it buys, sometimes while it starts or recovers."""
    if chance.random() < 0.3:
        until(lambda: process.poll() is not None, chance.uniform(0.2, 0.8))
        return
    charges = world.charges() + chance.randint(1, world.setup.tasks // 6)
    until(lambda: world.charges() >= charges or process.poll() is not None)
    time.sleep(chance.uniform(0, world.setup.latency))


def kill_points(world: World, checker: Checker, points: list[Point]) -> list[Point]:
    """Kill a run at the first point, its recovery at the second, and so on; those that were reached."""
    reached = []
    for point in points:
        if kill_at(world, point) == KILLED:
            reached.append(point)
            checker.after_kill()
    return reached


def drain(world: World, checker: Checker, number: signal.Signals) -> None:
    """One polite signal: what is on its way is finished, nothing new is sent, nothing is left unknown."""
    process = world.start()
    before = _busy(world)
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
    _busy(world)
    time.sleep(world.setup.latency / 2)  # the next requests are open, and their answers not yet due
    process.send_signal(signal.SIGINT)
    time.sleep(world.setup.latency / 8)
    process.send_signal(signal.SIGINT)
    began = time.monotonic()
    code, took = world.finish(process), time.monotonic() - began
    world.quiet()
    books = checker.after_kill()  # the next run tidies up: this one had no time to
    if code != 7 or took > 2:
        checker.fail("signal", f"left with {code} after {took:.1f} s")
    if not 0 < books.count("unknown") <= world.setup.workers:
        checker.fail("signal", f"{books.count('unknown')} unknown, with {world.setup.workers} requests open")


def sleep(world: World, checker: Checker) -> None:
    """A laptop that is closed and opened again: nothing is lost, nothing comes in a burst."""
    process = world.start()
    _busy(world)
    process.send_signal(signal.SIGSTOP)
    time.sleep(1.5)
    process.send_signal(signal.SIGCONT)
    code, books = world.finish(process), checker.at_end()
    most = world.server.stats()["most_open"]
    if code or books.count("unknown") or most > world.setup.workers:
        checker.fail("signal", f"exit code {code}, {books.count('unknown')} unknown, {most} requests open at once")


SCENES: tuple[Callable[[World, Checker], None], ...] = (term, leave, hup, sleep)


def _busy(world: World) -> int:
    """Wait until it buys; the charges so far."""
    until(lambda: world.charges() >= 2 * world.setup.workers)
    return world.charges()
