"""A run that is steered while it works: faster, slower, paused, with another budget, until a time of the day."""

import json
import os
import re
import socket
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import anyio
import pytest
from conftest import Start
from test_job import run
from test_lane import lane
from world import World, environment, eventually, many

from batchgen import control, offer
from batchgen.commands.progress import next_command, outlook
from batchgen.commands.set import HOW, command
from batchgen.control import Answer, Asked
from batchgen.deadline import Deadline, parse
from batchgen.ending import Ended
from batchgen.errors import BatchgenError
from batchgen.folder import Folder
from batchgen.job import Job
from batchgen.limits import Cap
from batchgen.manifest import Setup
from batchgen.purse import Purse
from batchgen.steer import ANSWERS_MOST, Helm

PRICE = 5_895_000  # nano-dollars of one of these images, and a little less than the most it may cost


def told(world: World, **settings: object) -> str:
    """What the run of this process answers to settings."""
    folder, mine = Folder(world.run_folder), f"{time.monotonic()}"
    texts = {key: str(value).lower() for key, value in settings.items()}
    asked = Asked(
        f"{world.rows('SELECT max(id) FROM runs')[0][0]}/{os.getpid()}/{socket.gethostname()}", (mine,), texts
    )
    control.leave(folder, asked)
    eventually(lambda: mine in control.standing(folder, asked.run).answers)
    return control.standing(folder, asked.run).answers[mine].says


def soon(seconds: float) -> str:
    """A moment as a manifest has it."""
    return f"{datetime.now() + timedelta(seconds=seconds):%Y-%m-%d %H:%M:%S}"


def slow(bad: Start, images: int = 16, **limits: object) -> tuple[World, Job]:
    """So many images of 0.3 s each, two at a time."""
    world = bad("--latency", "0.3")
    return world, world.job(prompts=many(images), limits={"concurrency": 2, "budget": 10, **limits})


def log(world: World) -> str:
    return Folder(world.run_folder).log.read_text(encoding="utf-8")


def test_a_person_changes_a_run_from_another_terminal(bad: Start) -> None:
    world = bad("--latency", "0.3")
    process = world.begin("run", str(world.write(prompts=many(40), limits={"concurrency": 1, "budget": 10})))
    eventually(world.charges)
    changes = "concurrency 1 → 6; budget $0.2693 as agreed → $40.00"
    said = world.command("set", "otters.yaml", "concurrency=6", "budget=40", "paused=true")
    assert (said.returncode, said.stdout) == (0, f"{changes}; paused no → yes\n"), said.stderr
    eventually(lambda: world.sandbox.stats()["open"] == 0)
    shown = world.command("status", "otters.yaml").stdout
    assert ", paused, running (process" in shown
    assert "Paused        0 requests still open; batchgen set RUN paused=false goes on\n" in shown
    assert f"Set           {changes}\n" in shown
    told = json.loads(world.command("status", "otters.yaml", "--json").stdout)
    assert (told["paused"], told["set"]) == (True, changes.split("; "))
    assert world.command("set", "otters.yaml", "paused=false").stdout == "paused yes → no\n"
    assert process.wait(30) == 0
    assert f"set: {changes}; paused no → yes\n" in log(world)
    world.check_equal_to_the_bill()
    late = world.command("set", "otters.yaml", "concurrency=2", "paused=true")
    assert (late.returncode, late.stdout) == (2, "")
    assert late.stderr.startswith("no run is at work in ")
    assert late.stderr.endswith("Give it to the next one: batchgen run … --set limits.concurrency=2\n")
    assert "Set  " not in world.command("status", "otters.yaml").stdout
    assert not Folder(world.run_folder).control.exists()


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ((), f"nothing to set: {HOW}"),
        (("pause",), f"pause: {HOW}"),
        (("budget=",), f"budget=: {HOW}"),
        (("budget=-1",), "batchgen set: budget: -1 is not an amount in USD, such as 12.50"),
    ],
)
def test_what_cannot_be_set_is_told_before_anything_is_asked_for(arguments: tuple[str, ...], says: str) -> None:
    with pytest.raises(BatchgenError) as caught:
        command.main(["nowhere", *arguments], standalone_mode=False)
    assert (caught.value.exit_code, str(caught.value)) == (2, says)


def test_a_paused_run_finishes_what_is_open_waits_and_goes_on(bad: Start) -> None:
    world, job = slow(bad)

    def meanwhile() -> None:
        eventually(world.charges)
        assert told(world, paused=True) == "paused no → yes"
        eventually(lambda: job.progress.open == 0)
        sent = len(world.attempts())
        time.sleep(0.5)
        assert (len(world.attempts()), world.attempts().count("sending")) == (sent, 0)
        assert job.progress.paused
        assert told(world, paused=True) == "all is so already: nothing was changed"
        assert told(world, paused=False, concurrency=16) == "paused yes → no; concurrency 2 → 16"

    assert run(job, meanwhile) == Ended(0, "all done")
    world.check_equal_to_the_bill()


def test_a_lane_that_grows_shrinks_without_cutting_anything(bad: Start) -> None:
    world, job = slow(bad, images=60)
    open_: list[int] = []

    def meanwhile() -> None:
        assert told(world, concurrency=8) == "concurrency 2 → 8"
        eventually(lambda: world.sandbox.stats()["open"] == 8)
        assert told(world, concurrency=1) == "concurrency 8 → 1"
        eventually(lambda: job.progress.open <= 1)  # those that were on their way end by themselves
        for _ in range(40):
            open_.append(job.progress.open)
            time.sleep(0.02)
        assert told(world, concurrency=24) == "concurrency 1 → 24"

    assert (run(job, meanwhile).exit_code, max(open_, default=1)) == (0, 1)
    assert world.attempts() == ["paid"] * 60
    world.check_equal_to_the_bill()


def test_a_budget_below_what_is_spent_stops_new_purchases_and_nothing_else(bad: Start) -> None:
    world, job = slow(bad)

    def meanwhile() -> None:
        eventually(lambda: len(world.charges()) >= 2)
        assert told(world, budget=0.001) == "budget $10.00 → $0.0010"
        sent.append(len(world.attempts()))

    sent: list[int] = []
    assert run(job, meanwhile) == Ended(4, "stopped by budget")
    assert len(world.attempts()) <= sent[0] + 2, "what was set aside before, and not sent, is not sent either"
    assert set(world.attempts()) == {"paid"}
    world.check_equal_to_the_bill()


def test_a_lower_budget_is_used_up_and_never_passed(bad: Start) -> None:
    world, job = slow(bad)

    def meanwhile() -> None:
        told(world, budget=9 * PRICE / 1e9 + 0.001)

    assert run(job, meanwhile) == Ended(4, "stopped by budget")
    assert len(world.charges()) in (8, 9)
    assert world.billed() <= 9 * PRICE + 1_000_000
    world.check_equal_to_the_bill()


def test_a_higher_budget_goes_before_what_was_agreed_to(bad: Start) -> None:
    world, job = slow(bad)
    job._order = replace(job._order, most=5 * PRICE)

    def meanwhile() -> None:
        assert told(world, budget=0.09, images=12) == "budget $0.0295 as agreed → $0.0900; images none → 12"

    assert run(job, meanwhile) == Ended(4, "stopped by limits.images")
    assert len(world.charges()) == 12
    world.check_equal_to_the_bill()


def test_a_run_stops_in_time_for_what_is_in_flight(bad: Start) -> None:
    world = bad("--latency", "0.3")
    until = soon(3)
    end = datetime.fromisoformat(until).timestamp()
    ended = world.run(prompts=many(40), limits={"concurrency": 2, "budget": 10, "until": until})
    assert ended == Ended(4, f"stopped by limits.until ({until})")
    assert end - 1.2 < time.time() < end + 0.1
    assert 2 < len(world.charges()) == world.states()["done"] < 40
    assert set(world.attempts()) == {"paid"}
    world.check_equal_to_the_bill()
    assert world.run(prompts=many(40), limits={"budget": 10, "until": until}) == ended, "it is over"
    assert set(world.states()) == {"done", "todo"}


def test_a_limit_that_ended_nothing_is_not_told(world: World) -> None:
    assert world.run(limits={"budget": 1, "until": "2020-01-01 07:00"}).exit_code == 4
    assert (world.charges(), world.run(limits={"budget": 1}).exit_code) == ([], 0)
    assert world.run(limits={"budget": 1, "until": "2020-01-01 07:00"}) == Ended(0, "all done")


def test_a_paused_run_ends_when_its_time_is_over(bad: Start) -> None:
    world, job = slow(bad)

    def meanwhile() -> None:
        eventually(world.charges)
        assert re.fullmatch("paused no → yes; until none → .+", told(world, paused=True, until=soon(2)))

    ended = run(job, meanwhile)
    assert (ended.exit_code, ended.reason.partition("(")[0]) == (4, "stopped by limits.until ")
    assert set(world.attempts()) == {"paid"}
    world.check_equal_to_the_bill()


def test_what_the_command_tells_of_a_time_that_is_over(world: World) -> None:
    path = str(world.write(prompts=many(3), limits={"budget": 1, "until": "2020-01-01 07:00"}))
    drawn = world.command("plan", path).stdout
    assert "Time     none: 2020-01-01 07:00 (limits.until) is over" in drawn
    assert "warning: limits.until (2020-01-01 07:00) is over: nothing will be sent" in drawn
    ran = world.command("run", path)
    assert (ran.returncode, world.charges()) == (4, [])
    assert ran.stderr.endswith(f"Next: raise the limit (limits.until (2020-01-01 07:00)), then batchgen run {path}\n")


def test_what_was_meant_for_another_run_or_is_corrupt_changes_nothing(bad: Start) -> None:
    world, job = slow(bad)
    folder, mine = Folder(world.run_folder), f"1/{os.getpid()}/{socket.gethostname()}"
    wrong = {"run": mine, "ids": [], "texts": {"budget": "x"}}
    other = {"run": "1/1/x", "ids": ["a"], "texts": {"paused": "true"}}

    def meanwhile() -> None:
        for raw in (b"{", json.dumps(other).encode(), b"[]", json.dumps(wrong).encode()):
            folder.control.write_bytes(raw)
            eventually(lambda: not folder.control.exists())

    assert run(job, meanwhile).exit_code == 0
    assert log(world).count("control.json is ignored: ") == 4, log(world)
    assert (job.progress.paused, job.progress.total) == (False, 16)


def helm(folder: Path, one: Any) -> Helm:
    purse = Purse({one.name: one.provider}, Cap(None), Cap(None), Cap(None))
    return Helm("1/1/x", Folder(folder), [one], purse, Deadline())


def within(folder: Path, body: Callable[[Helm, Any], Any]) -> None:
    async def main() -> None:
        async with lane(folder) as one:
            await body(helm(folder, one), one)

    anyio.run(main)


def test_after_a_sleep_no_idle_connection_is_trusted_and_the_time_is_looked_at_again(tmp_path: Path) -> None:
    async def body(one: Helm, its: Any) -> None:
        async with its.slot() as slot:
            before = await slot.take()
        now, steady = time.time(), time.monotonic()
        one.deadline.move(parse(f"{datetime.fromtimestamp(now + 3600):%Y-%m-%d %H:%M:%S}"), now)
        await one.look(now + 1, steady + 1)
        assert (its._idle, its.stopped, one.cap) == ([before], False, "")
        await one.look(now + 7201, steady + 2)
        assert (its._idle, its.stopped, one.cap) == ([], True, one.deadline.name)
        assert one._turned({"concurrency": 9}) == Answer(False, "the run is ending: nothing was changed")

    within(tmp_path, body)


def test_answers_are_kept_for_a_while(tmp_path: Path) -> None:
    async def body(one: Helm, its: Any) -> None:
        for number in range(3 * ANSWERS_MOST):
            one._answer(Asked(one.name, (str(number),), {"concurrency": str(number % 2 + 1)}))
        kept = [str(number) for number in range(2 * ANSWERS_MOST, 3 * ANSWERS_MOST)]
        assert [*one._standing().answers] == kept
        assert (one._standing().changes, its.width, its.room.total_tokens) == ((), 2, 4)

    within(tmp_path, body)


@pytest.mark.parametrize(
    ("stops", "says"),
    [
        (None, "1 min 40 s left, ends about 22:01"),
        (1000, "1 min 40 s left, ends about 22:01"),
        (40, "stops at 07:00, about 30 tasks short"),
        (-1, "stops at 07:00, about 50 tasks short"),
    ],
)
def test_the_bar_tells_when_it_ends_and_what_will_be_left(stops: float | None, says: str) -> None:
    now = datetime(2026, 11, 21, 22).timestamp()
    end = None if stops is None else Deadline(parse("07:00"), now + stops)
    assert outlook(end, 50, 0.5, now) == says


def test_the_next_command_goes_on_until_the_next_such_time(world: World) -> None:
    path = world.write(limits={"until": "07:00"})
    asked = offer.wish(str(path), None, Setup(environment()))
    assert next_command(Ended(4, "stopped by limits.until (07:00)"), asked) == f"{asked.again} goes on, until 07:00"
    for reason in ("budget", "limits.until (06:00)"):
        assert (
            next_command(Ended(4, f"stopped by {reason}"), asked) == f"raise the limit ({reason}), then {asked.again}"
        )


def test_a_budget_below_what_is_spent_ends_a_run_that_waits_for_its_pace(bad: Start) -> None:
    """Its tasks wait in a row for a turn a minute: none of them needs one to learn that it may not be bought."""
    world, job = slow(bad, concurrency=8, images_per_minute=1, budget=5)
    begun = time.monotonic()

    def lower() -> None:
        eventually(lambda: job.progress.images)
        told(world, budget="0.001")

    assert run(job, lower) == Ended(4, "stopped by budget")
    assert time.monotonic() - begun < 20
    assert (world.states()["done"], len(world.charges())) == (1, 1)
