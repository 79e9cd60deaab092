"""The torture harness in short: a few kills, each followed by recovery to the end, held against the provider's bill."""

import signal
import time
from collections.abc import Iterator
from pathlib import Path
from random import Random

import pytest
from torture import nemesis, tracer
from torture.checker import Checker
from torture.tracer import Point
from torture.world import Setup, World, until

SMALL = Setup(tasks=24, workers=4, latency=0.05)


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    with World(tmp_path / "world", SMALL) as world:
        yield world


@pytest.fixture
def checker(world: World) -> Checker:
    return Checker(world.run, world.bill, SMALL.workers, SMALL.hold)


def converge(world: World, checker: Checker) -> None:
    """Run to the end, check everything, and run once more: that must cost nothing."""
    code = world.finish()
    world.quiet()
    charges = len(checker.at_end().charges)
    checker.converged(code)
    assert world.finish() == code
    assert len(checker.at_end().charges) == charges
    assert checker.violations == []


def test_random_kills_lose_nothing_and_buy_nothing_twice_unlisted(world: World, checker: Checker) -> None:
    assert nemesis.random_kills(world, checker, Random(3), 2) == 2
    converge(world, checker)


@pytest.mark.skipif(tracer.missing(), reason="needs strace: apt-get install strace")
def test_a_kill_between_a_spooled_answer_and_its_image_loses_neither(world: World, checker: Checker) -> None:
    assert tracer.kill_at(world, Point("work", "rename", 1)) == -signal.SIGKILL
    checker.after_kill()
    converge(world, checker)


def test_a_second_run_on_the_same_folder_refuses_and_names_the_first(world: World) -> None:
    first = world.start()
    assert until(lambda: world.charges() > 0 or first.poll() is not None)
    first.send_signal(signal.SIGSTOP)  # it holds the folder as long as we look
    began = time.monotonic()
    assert world.finish() == 6
    assert time.monotonic() - began < 2
    assert f"process {first.pid} " in (world.folder / "output.txt").read_text()
    first.send_signal(signal.SIGCONT)
    assert world.finish(first) == 0
