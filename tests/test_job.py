"""A run from open to close: its counts, its draining, and what it does when the disk does not do its part."""

import os
import resource
import shutil
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import anyio
import pytest
from conftest import Start
from sandbox import nursery
from world import World, environment, eventually, many

from batchgen import attempt
from batchgen.ending import Ended, conclude
from batchgen.errors import BatchgenError, LockedError, StorageError
from batchgen.hold import locked
from batchgen.job import Job
from batchgen.task import TaskState

LATER = {"concurrency": 2, "budget": 10}


def counts(job: Job) -> dict[str, int]:
    """What the progress shows, without what never occurred."""
    return {str(state): count for state, count in job.progress.states.items() if count}


def run(job: Job, meanwhile: Callable[[], Any]) -> Ended:
    """The whole run, with something that a thread does beside it once it has started."""

    async def main() -> Ended:
        ended: list[Ended] = []
        async with anyio.create_task_group() as tasks:

            async def work() -> None:
                ended.append(await job.run())

            tasks.start_soon(work)
            await job.started.wait()
            await anyio.to_thread.run_sync(meanwhile)
        return ended[0]

    return anyio.run(main)


def failing(job: Job, meanwhile: Callable[[], Any]) -> BatchgenError:
    """The one error that a run ended with."""
    with pytest.raises(ExceptionGroup) as group:
        run(job, meanwhile)
    (error,) = group.value.exceptions
    assert isinstance(error, BatchgenError)
    return error


def ends(world: World) -> list[tuple[int | None, str]]:
    """How each run of the folder ended, as the ledger has it."""
    return [(code, reason.partition(":")[0]) for code, reason in world.rows("SELECT exit_code, reason FROM runs")]


# counts


def test_progress_agrees_with_the_ledger_in_the_end(bad: Start) -> None:
    world = bad("--script", "400 cut 429")
    job = world.job(prompts=[*many(6), "A carp [moderated]"], retry={"on_unknown": "hold"})
    assert anyio.run(job.run).exit_code == 3
    assert counts(job) == world.states()
    assert job.progress.images == len(world.files())
    assert job.progress.spent == world.rows("SELECT sum(cost_high) FROM attempts")[0][0]
    assert (job.progress.waits(), job.progress.over, job.progress.total) == ([], 7, 7)


def test_progress_never_runs_ahead_of_the_ledger(bad: Start) -> None:
    world = bad("--latency", "0.05")
    job = world.job(prompts=many(12))
    seen: list[int] = []

    def look() -> None:
        while job.progress.over < 12:
            over = job.progress.over
            assert world.states().get("done", 0) >= over
            assert job.progress.total == 12
            seen.append(over)

    assert run(job, look).exit_code == 0
    assert seen == sorted(seen)


def test_progress_of_a_later_run_begins_where_the_last_one_ended(world: World) -> None:
    world.run(prompts=many(5), limits={"images": 2})
    job = world.job(prompts=many(5))
    first: list[tuple[int, int]] = []
    run(job, lambda: first.append((job.progress.over, job.progress.total)))
    assert first[0][0] >= 2
    assert (first[0][1], counts(job), job.progress.images) == (5, {"done": 5}, 3)


def test_what_changed_is_counted(world: World) -> None:
    world.run(prompts=many(4))
    job = world.job(prompts=many(6)[1:])
    anyio.run(job.run)
    assert job.change
    assert (job.change.new, job.change.kept, job.change.dropped) == (2, 3, 1)


# draining


def test_a_job_that_was_told_to_drain_before_it_began_sends_nothing(world: World) -> None:
    job = world.job(prompts=many(3))
    job.drain()
    assert anyio.run(job.run) == Ended(7, "interrupted")
    assert (world.states(), world.charges(), world.attempts()) == ({"todo": 3}, [], [])
    assert (world.run(prompts=many(3)).exit_code, len(world.charges())) == (0, 3)


def test_a_job_that_drains_finishes_what_is_paid_for_and_sends_nothing_new(bad: Start) -> None:
    world = bad("--latency", "0.3")
    job = world.job(prompts=many(12), limits={"concurrency": 3, "budget": 10})

    def drain() -> None:
        eventually(lambda: world.sandbox.stats()["open"] == 3)
        job.drain()

    assert run(job, drain) == Ended(7, "interrupted")
    assert (len(world.charges()), world.states(), world.attempts()) == (3, {"done": 3, "todo": 9}, ["paid"] * 3)
    assert (counts(job), job.progress.draining) == (world.states(), True)
    world.check_equal_to_the_bill()


def test_a_task_that_waits_for_its_next_try_does_not_hold_up_a_drain(bad: Start) -> None:
    world = bad("--script", "429")
    job = world.job(retry={"attempts": 9})

    def drain() -> None:
        eventually(job.progress.waits)
        job.drain()

    begun = time.monotonic()
    assert run(job, drain).exit_code == 7
    assert time.monotonic() - begun < 4
    assert (world.states(), world.attempts()) == ({"todo": 1}, ["rejected"])
    world.check_equal_to_the_bill()


def test_d3_nothing_is_sent_whose_answer_might_find_no_room(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attempt, "ROOM", 1 << 50)
    with pytest.raises(StorageError, match=r"MiB are free at .*nothing more is sent"):
        world.run(prompts=many(3))
    assert (world.attempts(), world.states(), world.charges()) == ([], {"todo": 3}, [])


def test_a_drain_after_the_end_changes_nothing(world: World) -> None:
    job = world.job()
    assert anyio.run(job.run).exit_code == 0
    job.drain()
    assert world.run().exit_code == 0


# how runs end


def test_the_ledger_tells_how_every_run_ended(bad: Start) -> None:
    world = bad("--script", "ok 401")
    changes: dict[str, Any] = {"prompts": many(3)}
    world.run(**changes, limits={"concurrency": 1, "images": 1})
    world.run(**changes, limits={"concurrency": 1})
    drained = world.job(**changes)
    drained.drain()
    anyio.run(drained.run)
    world.run(**changes)
    world.run(prompts=["A carp [moderated]"])
    wanted = [(4, "stopped by limits.images"), (5, "blocked"), (7, "interrupted"), (0, "all done"), (3, "1 refused")]
    assert ends(world) == wanted
    assert world.rows("SELECT count(*) FROM runs WHERE ended_at >= started_at AND pid = ?", os.getpid()) == [(5,)]


def test_a_run_that_was_killed_has_no_end(bad: Start) -> None:
    world = bad("--latency", "5")
    process = world.begin("run", str(world.write()))
    eventually(lambda: world.sandbox.stats()["open"] == 1)
    by = f"(process {process.pid} on "
    assert f", running {by}" in world.command("status", "otters.yaml").stdout
    process.kill()
    process.wait()
    assert world.rows("SELECT ended_at, exit_code, reason FROM runs") == [(None, None, "")]
    assert f", cut off {by}" in world.command("status", "otters.yaml").stdout


def test_where_several_ends_are_true_the_most_urgent_is_told() -> None:
    states = dict.fromkeys(TaskState, 0) | {TaskState.TODO: 1, TaskState.HELD: 2}
    assert conclude(states, "budget", "openai: no credit") == Ended(5, "blocked: openai: no credit")
    assert conclude(states, "budget", "") == Ended(4, "stopped by budget")
    assert conclude(states, "", "").exit_code == 7
    for cap in ("", "limits.until (07:00)"):
        assert conclude(states | {TaskState.TODO: 0}, cap, "") == Ended(3, "2 held")


def test_a_locked_folder_names_its_holder_if_a_run_it_is(world: World) -> None:
    world.run()
    second = world.job()
    with locked(second._order.folder):
        with pytest.raises(LockedError) as caught:
            anyio.run(second.run)
        assert "process" not in str(caught.value), "the last run has ended: it holds nothing"
        with sqlite3.connect(world.run_folder / "ledger.db") as db:
            db.execute("UPDATE runs SET ended_at = NULL")
        db.close()
        with pytest.raises(LockedError, match=rf"process {os.getpid()} on .+, since 2\d{{3}}-"):
            anyio.run(second.run)
    assert ends(world) == [(0, "all done")]


def test_a_folder_that_cannot_be_locked_is_told_in_one_message(world: World) -> None:
    (world.run_folder / ".lock").mkdir(parents=True)
    said = world.command("run", str(world.write()))
    assert (said.returncode, "Traceback" in said.stderr) == (5, False)


# disks


def replace_by_a_file(folder: Path) -> None:
    folder.rename(folder.with_name("was"))
    folder.write_text("in the way")


def restore(folder: Path) -> None:
    folder.unlink()
    folder.with_name("was").rename(folder)


def test_d10_an_images_folder_that_is_gone_stops_the_run_and_loses_no_answer(bad: Start) -> None:
    world = bad("--latency", "0.1", "--latency-jitter", "0.2")
    changes: dict[str, Any] = {"prompts": many(12), "retry": {"on_unknown": "hold"}, "limits": LATER}
    images = world.run_folder / "images"

    def harm() -> None:
        eventually(world.files)
        replace_by_a_file(images)

    error = failing(world.job(**changes), harm)
    assert isinstance(error, StorageError)
    assert "Nothing that was paid for is lost" in str(error)
    assert len(world.charges()) < 12, "it stopped claiming"
    assert list((world.run_folder / "spool").glob("*.1")), "the answers are kept"
    restore(images)
    assert world.run(**changes).exit_code == 0
    assert (world.states(), len(world.charges()), len(world.files())) == ({"done": 12}, 12, 12)
    world.check_equal_to_the_bill()


def test_an_error_of_the_disk_stops_every_lane(bad: Start) -> None:
    world = bad("--latency", "0.1", "--latency-jitter", "0.2")
    providers = [world.provider(name=name) for name in ("one", "two")]
    changes: dict[str, Any] = {"provider": None, "matrix": {"provider": providers}, "prompts": many(12)}
    changes |= {"retry": {"on_unknown": "hold"}, "limits": LATER}

    def harm() -> None:
        eventually(world.files)
        replace_by_a_file(world.run_folder / "images")

    job = world.job(**changes)
    assert isinstance(failing(job, harm), StorageError)
    assert [lane.stopped for lane in job.progress.lanes] == [True, True]
    assert len(world.charges()) < 24, "both stopped claiming"
    restore(world.run_folder / "images")
    assert world.run(**changes).exit_code == 0
    assert (world.states(), len(world.charges()), len(world.files())) == ({"done": 24}, 24, 24)
    world.check_equal_to_the_bill()


def test_a_drain_stops_every_lane(bad: Start) -> None:
    world = bad("--latency", "0.3")
    matrix = {"provider": [world.provider(name=name) for name in ("one", "two")]}
    job = world.job(provider=None, matrix=matrix, prompts=many(12), limits={"concurrency": 2, "budget": 10})

    def drain() -> None:
        eventually(lambda: world.sandbox.stats()["open"] == 4)
        assert job.progress.open == 4
        job.drain()

    assert run(job, drain) == Ended(7, "interrupted")
    assert (len(world.charges()), world.states(), counts(job)) == (4, {"done": 4, "todo": 20}, world.states())
    world.check_equal_to_the_bill()


def test_an_error_of_the_disk_ends_a_run_whose_budget_waits(bad: Start) -> None:
    world = bad("--latency", "0.3")
    path = str(world.write(prompts=many(8), limits={"concurrency": 4, "budget": 0.0135}))
    process = world.begin("run", path)
    eventually(lambda: world.sandbox.stats()["open"] > 0)
    replace_by_a_file(world.run_folder / "images")
    assert process.wait(5) == 5


def test_d10_a_spool_that_is_gone_stops_the_run_and_its_requests_are_listed(bad: Start) -> None:
    world = bad("--latency", "0.2")
    changes: dict[str, Any] = {"prompts": many(12), "retry": {"on_unknown": "hold"}, "limits": LATER}
    spool = world.run_folder / "spool"

    def harm() -> None:
        eventually(lambda: world.sandbox.stats()["open"] == 2)
        replace_by_a_file(spool)

    assert isinstance(failing(world.job(**changes), harm), StorageError)
    assert len(world.charges()) <= 4
    restore(spool)
    assert world.run(**changes).exit_code in (0, 3)
    world.check_books()


@contextmanager
def small_disk(folder: Path, *options: str) -> Iterator[None]:
    """A file system of its own, too small."""
    if os.geteuid() or sys.platform != "linux":
        pytest.skip("only root on Linux may mount a small disk")
    folder.mkdir(parents=True, exist_ok=True)
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", ",".join(options), "tmpfs", folder], capture_output=True)
    if mounted.returncode:
        pytest.skip(f"no small disk: {mounted.stderr.decode().strip()}")
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", folder], check=True)


def grow(folder: Path, *options: str) -> None:
    subprocess.run(["mount", "-o", ",".join(("remount", *options)), folder], check=True)


def blind(world: World, path: str) -> "subprocess.CompletedProcess[str]":
    """A run that does not look for room first: what fills a disk may also be somebody else's, and come at any time."""
    (world.folder / "blind.py").write_text("from batchgen import attempt, cli\nattempt.ROOM = 0\ncli.main()\n")
    pipe = subprocess.PIPE
    process = nursery.start("blind", "run", path, env=environment(), cwd=world.folder, stdout=pipe, stderr=pipe)
    out, err = process.communicate(timeout=60)
    return subprocess.CompletedProcess(path, process.returncode, out, err)


FULL = {
    "D1 no space for an image": ("images", "size=24k", "size=4m"),
    "D21 no inode for an image": ("images", "nr_inodes=6", "nr_inodes=1000"),
    "D3 no space in the spool": ("spool", "size=8k", "size=4m"),
    "D2 no space for the ledger, nor for anything else": (".", "size=200k", "size=8m"),
}


@pytest.mark.parametrize("case", FULL)
def test_a_full_disk_ends_in_a_message_and_the_next_run_finishes(bad: Start, case: str) -> None:
    where, small, large = FULL[case]
    world = bad()
    path = str(world.write(prompts=many(24), limits=LATER, retry={"duplicate_allowance": 1}))
    folder = (world.run_folder / where).resolve()
    with small_disk(folder, small):
        said = blind(world, path)
        assert (said.returncode, "Traceback" in said.stderr) == (5, False), said.stderr
        assert len(world.charges()) < 24, "it stopped claiming"
        grow(folder, large)
        assert blind(world, path).returncode == 0
        assert (world.states(), len(world.files())) == ({"done": 24}, 24)
        world.check_books()
        lost = world.attempts().count("unknown")
        assert len(world.charges()) == 24 + lost, "only what is listed as unknown was bought again"
        assert lost <= (0 if where == "images" else 4)


@pytest.mark.parametrize("size", ["size=16k", "size=160k"])
def test_d2_a_disk_that_is_full_from_the_start_sends_nothing_and_spoils_nothing(world: World, size: str) -> None:
    path = str(world.write(prompts=many(3)))
    with small_disk(world.run_folder, size):
        said = blind(world, path)
        assert (said.returncode, "Traceback" in said.stderr) == (5, False), said.stderr
        assert world.charges() == []
        grow(world.run_folder, "size=8m")
        assert blind(world, path).returncode == 0


def test_a_run_whose_folder_was_removed_begins_anew_in_the_same_process(world: World) -> None:
    world.run()
    shutil.rmtree(world.run_folder)
    assert (world.run().exit_code, len(world.files())) == (0, 1)


def limited(world: World, path: str, most: int) -> "subprocess.Popen[str]":
    """A run none of whose files may grow beyond `most` bytes."""
    process = world.begin("run", path)
    resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (most, most))
    return process


def test_d8_a_ledger_that_may_not_grow_stops_the_run_and_loses_no_answer(bad: Start) -> None:
    world = bad("--latency", "0.05", "--latency-jitter", "0.2")
    path = str(world.write(prompts=many(30), limits={"concurrency": 4, "budget": 10}, retry={"on_unknown": "hold"}))
    process = limited(world, path, 200_000)
    _, err = process.communicate(timeout=30)
    assert (process.returncode, "Traceback" in err) == (5, False), err
    assert len(world.charges()) < 30
    assert world.command("run", path).returncode == 0
    assert (world.states(), len(world.charges())) == ({"done": 30}, 30)
    world.check_equal_to_the_bill()


def test_d8_a_ledger_that_may_not_grow_while_tasks_are_queued_is_told_in_one_message(world: World) -> None:
    """Several blocks of them wait for the same commit."""
    (world.folder / "rows.txt").write_text("".join(f"An otter, number {n}\n" for n in range(20_000)))
    path = str(world.write(prompts=[{"file": "rows.txt"}], limits={"concurrency": 1, "images": 20_000, "budget": 2000}))
    process = limited(world, path, 1_500_000)
    _, err = process.communicate(timeout=60)
    assert (process.returncode, "Traceback" in err) == (5, False), err
    assert "the ledger cannot be written" in err


def test_d8_an_answer_that_may_not_be_stored_stops_the_run_and_is_listed(bad: Start) -> None:
    world = bad("--paint-bytes", "400000")
    path = str(world.write(prompts=many(12), limits=LATER, retry={"on_unknown": "hold"}))
    process = limited(world, path, 300_000)
    _, err = process.communicate(timeout=30)
    assert (process.returncode, "Traceback" in err) == (5, False), err
    assert len(world.charges()) <= 4
    assert world.command("run", path).returncode == 3
    assert world.attempts().count("unknown") == len(world.charges()) - world.states()["done"]
    world.check_books()
