"""Tasks are queued while the first of them are bought; what is queued is what was agreed to."""

from collections.abc import Callable
from pathlib import Path

import anyio
import pytest
from test_trouble import JSON, image
from world import Host, Respond, World

from batchgen.errors import UsageError
from batchgen.wanted import UNFINISHED

ROWS = 20_000
LIMITS: dict[str, object] = {"images": 3, "budget": 1000, "concurrency": 1}


def rows(world: World) -> Path:
    file = world.folder / "rows.txt"
    file.write_text("".join(f"Otter {number}\n" for number in range(ROWS)))
    return file


def seller(host: Callable[[Respond], Host], meanwhile: Callable[[], object]) -> Host:
    """One that does something while it is asked."""

    def respond(method: str, path: str) -> tuple[int, dict[str, str], bytes]:
        meanwhile()
        return 200, JSON, image()

    return host(respond)


def test_the_first_request_leaves_while_others_are_still_being_queued(
    world: World, host: Callable[[Respond], Host]
) -> None:
    queued: list[int] = []
    asked = seller(host, lambda: queued.append(world.rows("SELECT count(*) FROM tasks")[0][0]))
    rows(world)
    wanted: dict[str, object] = {
        "provider": world.provider(base_url=asked.url),
        "prompts": [{"file": "rows.txt"}],
        "limits": LIMITS,
    }
    ended = world.run(**wanted)
    assert (ended.exit_code, ended.reason) == (4, "stopped by limits.images")
    assert 0 < queued[0] < ROWS, "the last one was not there yet"
    assert world.states() == {"done": 3, "todo": ROWS - 3}, "a cap keeps nobody from writing down what is wanted"
    assert world.run(**{**wanted, "limits": {**LIMITS, "images": 5}}).exit_code == 4
    assert (world.states()["done"], len(queued)) == (5, 5), "the second run had nothing to queue"


def test_rows_that_change_while_they_are_queued_stop_the_run_and_are_compared_anew(
    world: World, host: Callable[[Respond], Host]
) -> None:
    file = rows(world)

    def grow() -> None:
        if not file.read_text().endswith("One more\n"):
            with file.open("a") as more:
                more.write("One more\n")

    asked = seller(host, grow)
    wanted: dict[str, object] = {
        "provider": world.provider(base_url=asked.url),
        "prompts": [{"file": "rows.txt"}],
        "limits": LIMITS,
    }
    with pytest.raises(UsageError, match=r"the rows have changed .* What was bought is kept: run it again"):
        world.run(**wanted)
    bought = world.states()["done"]
    assert world.rows("SELECT enqueued FROM job") == [(UNFINISHED,)]
    assert world.run(**wanted).exit_code == 4
    assert sum(world.states().values()) == ROWS + 1
    assert world.states()["done"] == max(bought, 3)


def test_rows_that_changed_since_the_question_are_not_bought_by_its_answer(
    world: World, host: Callable[[Respond], Host]
) -> None:
    file = rows(world)
    sent: list[int] = []
    asked = seller(host, lambda: sent.append(1))
    job = world.job(provider=world.provider(base_url=asked.url), prompts=[{"file": "rows.txt"}], limits=LIMITS)
    file.write_text(file.read_text().replace("Otter", "Wolf "))
    with pytest.raises(UsageError, match="Nothing was sent"):
        anyio.run(job.run)
    assert not sent


def test_who_drains_while_tasks_are_queued_need_not_wait_for_the_last(
    world: World, host: Callable[[Respond], Host]
) -> None:
    rows(world)
    asked = seller(host, lambda: None)
    limits = {"images": 4, "budget": 1000, "concurrency": 4}
    wanted: dict[str, object] = {"provider": world.provider(base_url=asked.url), "prompts": [{"file": "rows.txt"}]}
    job = world.job(**wanted, limits=limits)

    async def drained() -> None:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(job.run)
            while not job.progress.images:  # noqa: ASYNC110 - there is no event for it
                await anyio.sleep(0.005)
            job.drain()

    anyio.run(drained)
    assert (job.ended and job.ended.exit_code) in (4, 7)
    assert 0 < sum(world.states().values()) < ROWS
    assert world.rows("SELECT enqueued FROM job") == [(UNFINISHED,)]
    world.run(**wanted, limits=limits)
    assert world.states() == {"done": 4, "todo": ROWS - 4}
