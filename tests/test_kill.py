"""The torture harness in short: each run is killed or troubled, recovers to its end, and is held against the bill."""

import shutil
import signal
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from random import Random

import pytest
from torture import batches, campaign, handed, money, nemesis, scenes, tracer
from torture.campaign import Result
from torture.checker import Checker
from torture.planted import PLANTED
from torture.setup import Setup
from torture.tracer import Point
from torture.world import World, until

SMALL = Setup(tasks=18, workers=4, latency=0.05)
TINY = Setup(tasks=3, workers=2)
traced = pytest.mark.skipif(bool(tracer.missing()), reason=f"needs {tracer.missing()}")


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    with World(tmp_path / "world", SMALL) as world:
        yield world


def tortured(folder: Path, setup: Setup, deed: campaign.Deed) -> Result:
    """The run, without any violation."""
    result = campaign.run(folder, setup, Result("test", 0, setup.policy), deed)
    assert result.violations == []
    assert result.in_bounds
    return result


def played(folder: Path, name: str, policy: str) -> Result:
    scene = scenes.SCENES[name]
    if scene.missing():
        pytest.skip(f"needs {scene.missing()}")
    return tortured(folder, scene.setup.on(policy), lambda world, checker, _: scene.play(world, checker))


@pytest.mark.parametrize("policy", ["idempotent", "retry"])
def test_p1_random_kills_lose_nothing_and_buy_nothing_twice_unlisted(tmp_path: Path, policy: str) -> None:
    def deed(world: World, checker: Checker, result: Result) -> None:
        result.kills = nemesis.random_kills(world, checker, Random(3), 2)

    result = tortured(tmp_path, SMALL.on(policy), deed)
    assert result.kills == 2
    assert result.twice <= (result.unknown if policy == "retry" else 0)
    assert result.equal or policy != "idempotent", "what is replayed costs once, and leaves no doubt"


def test_p1_an_edit_whose_answer_was_cut_is_sent_again_with_the_same_key_and_costs_once(tmp_path: Path) -> None:
    setup = Setup(tasks=2, workers=1, policy="idempotent", ware="edit", flags=("--script", "cut"))
    result = tortured(tmp_path, setup, lambda world, checker, result: None)
    assert (result.charges, result.unknown, result.equal) == (2, 1, True)


@traced
@pytest.mark.parametrize("at", ["work/sendto/2"])
def test_p2_a_kill_at_a_system_call_loses_nothing_that_was_bought(tmp_path: Path, at: str) -> None:
    def deed(world: World, checker: Checker, result: Result) -> None:
        result.reached = nemesis.kill_points(world, checker, [Point.parse(at)])

    assert tortured(tmp_path, TINY, deed).reached == [Point.parse(at)]


def test_p2_a_batch_that_is_killed_at_each_step_is_bought_once_and_leaves_nothing_at_its_provider(
    tmp_path: Path,
) -> None:
    setup = replace(SMALL, tasks=4, lines=4, ware="edit", flags=("--batch-call-faults", "create=cut upload=cut"))
    steps = ("after/Counter.create/1", "after/Ledger.settle/1", "after/Counter.delete/2")

    result = Result("test", 0, at=[Point.parse(each) for each in steps])
    with World(tmp_path / "world", setup) as world:
        checker = Checker.of(world)
        batches.at_steps(world, checker, result, Random(1))
        code, books = world.finish(), checker.at_end()
        checker.converged(code)
        handed.check(world, checker, books)
    assert checker.violations == []
    assert [*map(str, result.reached)] == [*steps]
    assert (len(books.charges), money.equal(books)) == (4, True)


@traced
def test_p18_a_spooled_answer_whose_attempt_is_settled_is_removed_by_the_next_run(tmp_path: Path) -> None:
    def deed(world: World, checker: Checker, _: Result) -> None:
        assert tracer.kill_at(world, Point("work", "unlink", 1)) == nemesis.KILLED
        books = checker.after_kill()
        paid = {attempt["id"] for attempt in books.attempts if attempt["state"] == "paid"}
        assert paid & {path.name.partition(".")[0] for path in (world.run / "spool").iterdir()}, "it was left over"

    tortured(tmp_path, TINY, deed)


def test_p13_a_run_that_was_stopped_still_holds_its_folder(world: World) -> None:
    first = world.start()
    assert until(lambda: world.charges() > 0)
    first.send_signal(signal.SIGSTOP)
    code, says = world.ask("run", str(world.manifest))
    assert (code, f"process {first.pid} " in says) == (6, True)
    first.send_signal(signal.SIGCONT)
    assert world.finish(first) == 0


def test_p14_the_lock_of_a_run_that_was_killed_is_free_at_once(world: World) -> None:
    first = world.start()
    assert until(lambda: world.charges() > 0)
    assert nemesis.kill(first)
    assert world.finish() == 0, "nobody waits for a time to pass"


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a world whose run met a cut and is over."""
    setup = replace(TINY, workers=1, flags=("--script", "cut"))
    folder = tmp_path_factory.mktemp("finished") / "world"
    with World(folder, setup) as world:
        assert world.finish() == 0
    return folder


@pytest.mark.holds_key("run.log")
@pytest.mark.parametrize("planted", PLANTED)
def test_the_checker_finds(finished: Path, tmp_path: Path, planted: str) -> None:
    folder = shutil.copytree(finished, tmp_path / "world")
    checker = Checker(folder / "runs" / "tortured", folder / "bill.jsonl", TINY)
    checker.at_end()
    checker.converged(0)
    assert checker.violations == []
    kind, plant = PLANTED[planted]
    plant(folder)
    checker.at_end()
    assert kind in {violation.kind for violation in checker.violations}
