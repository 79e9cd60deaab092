"""The Python API: what the commands do, as objects, in any program and any loop, and without any surprise."""

import asyncio
import json
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import chdir
from pathlib import Path
from typing import Any

import pytest
from conftest import Start
from test_offer import BAD_KEY, said
from world import HERON, KEY, KEY_ENV, OTTER, World, environment, eventually, many

import batchgen
from batchgen.errors import BatchgenError

LOW = {"size": "1024x1024", "quality": "low"}


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv(KEY_ENV, KEY)
    monkeypatch.setenv("BAD_KEY", BAD_KEY)
    with chdir(tmp_path):
        yield


def job(world: World, **changes: Any) -> dict[str, Any]:
    """A manifest as a program has it; None leaves a key out."""
    whole = {
        "name": "otters",
        "provider": world.provider(),
        "model": "gpt-image-2",
        "request": LOW,
        "limits": {"concurrency": 4},
        **changes,
    }
    return {key: value for key, value in whole.items() if value is not None}


def run(wanted: Any, **options: Any) -> batchgen.Result:
    return batchgen.run_sync(wanted, **options)


# jobs and rows


def test_a_manifest_may_be_a_file_a_path_or_a_mapping(world: World) -> None:
    file = world.write(prompts=many(2))
    for each in (str(file), file, json.loads(json.dumps(job(world, prompts=many(2))))):
        assert run(each, budget=1).exit_code == 0
    assert len(world.charges()) == 2


def test_rows_are_prompts_or_mappings_of_variables(world: World) -> None:
    source = {"file": "-", "format": "jsonl", "prompt": "A {{ animal }}", "id": "{{ sku }}", "quality": "{{ quality }}"}
    rows = [{"animal": "fox", "sku": 7, "quality": "medium"}, {"animal": "heron", "sku": "h", "quality": None}]
    made = run(job(world, prompts=[source]), rows=rows, budget=1)
    assert made.exit_code == 0
    assert {image.prompt: image.ids for image in made.images} == {"A fox": ("7",), "A heron": ("h",)}
    assert world.rows("SELECT json_extract(params, '$.quality') FROM v_tasks ORDER BY seq") == [("medium",), ("low",)]


def test_plain_rows_are_prompts_as_they_stand(world: World) -> None:
    prompts = [OTTER, "A sign: {{ no template }} # 1, {50 %}", "Zwei\nZeilen", "🦊"]
    made = run(job(world), rows=prompts, budget=1)
    assert (made.exit_code, sorted(image.prompt for image in made.images)) == (0, sorted(prompts))


def test_the_same_rows_cost_nothing_a_second_time_and_more_of_them_the_difference(world: World) -> None:
    for count in (2, 2, 3):
        assert len(run(job(world), rows=many(count), budget=1).images) == count
    assert len(world.charges()) == 3
    world.check_equal_to_the_bill()


NO_ROWS = [[], [5], [None], [["A fox"]], [{"prompt": {1}}], [{"prompt": float("nan")}], ["x\ud800"], [""], [{"a": "b"}]]


@pytest.mark.parametrize("rows", NO_ROWS)
def test_rows_that_are_none_are_refused(world: World, rows: list[Any]) -> None:
    with pytest.raises(BatchgenError):
        run(job(world), rows=rows, budget=1)
    assert (world.charges(), (world.folder / "runs").exists()) == ([], False)


def test_rows_that_nobody_reads_are_refused(world: World) -> None:
    with pytest.raises(batchgen.UsageError, match="the manifest has no source that reads them"):
        run(job(world, prompts=[OTTER]), rows=many(2), budget=1)
    assert world.charges() == []


def test_a_text_is_no_list_of_rows(world: World) -> None:
    with pytest.raises((BatchgenError, TypeError)):
        batchgen.plan(job(world), rows="Otter")


# spending


@pytest.mark.parametrize("limits", [None, {"images": 9}])
def test_without_a_budget_nothing_is_bought(world: World, limits: dict[str, int] | None) -> None:
    with pytest.raises(batchgen.UsageError, match="budget"):
        run(job(world, prompts=many(2), limits=limits))
    assert (world.charges(), list(world.folder.iterdir())) == ([], [])


@pytest.mark.parametrize("budget", [float("nan"), float("inf"), -1, "lots", True])
def test_a_budget_that_is_none_buys_nothing(world: World, budget: Any) -> None:
    with pytest.raises(batchgen.ManifestError, match="is not an amount in USD"):
        run(job(world, prompts=many(2)), budget=budget)
    assert world.charges() == []


def test_a_budget_goes_before_the_manifests_and_is_never_passed(world: World) -> None:
    made = run(job(world, prompts=many(9), limits={"budget": 50}), budget=0.02)
    assert (made.exit_code, made.reason) == (4, "stopped by budget")
    assert 0 < world.billed() <= 20_000_000
    assert run(job(world, prompts=many(9)), budget=0).exit_code == 4
    assert world.billed() <= 20_000_000


def test_a_sample_and_settings_do_what_they_do_on_the_command_line(world: World) -> None:
    wanted, axes = job(world, prompts=many(3)), {"matrix.quality": ["low", "medium"], "request.quality": "low"}
    assert batchgen.plan(wanted, settings=axes).survey.tasks == 6
    assert len(run(wanted, settings=axes, sample=2, budget=1).images) == 2
    assert len(run(wanted, settings=axes, budget=1).images) == 6
    assert len(world.charges()) == 6


@pytest.mark.parametrize("sample", [0, -1, 2.5])
def test_a_sample_that_is_none_is_refused(world: World, sample: Any) -> None:
    with pytest.raises(batchgen.UsageError):
        batchgen.plan(job(world, prompts=many(3)), sample=sample)


@pytest.mark.parametrize("option", ["bugdet", "sampel", "dry_run", "sandbox_"])
def test_an_option_that_is_misspelled_is_refused(world: World, option: str) -> None:
    options: dict[str, Any] = {option: 1}
    with pytest.raises(TypeError):
        batchgen.plan(job(world, prompts=many(3)), **options)


def test_a_rehearsal_costs_nothing(world: World) -> None:
    made = run(job(world, prompts=many(2)), sandbox=True)
    assert (made.exit_code, made.folder.name, world.charges()) == (0, "otters.sandbox", [])
    assert {image.provider for image in made.images} == {"sandbox:pretend"}


def test_a_program_chooses_the_engine(world: World) -> None:
    wanted = job(world, prompts=many(2), provider=world.provider(batch={"poll": 0.05}))
    assert len(run(wanted, engine="batch", budget=1).images) == 2
    assert world.rows("SELECT DISTINCT engine FROM attempts") == [("batch",)]


def test_a_host_is_trusted_when_it_is_named(world: World) -> None:
    wanted = job(world, prompts=many(1), provider=world.provider(base_url="https://far.invalid/v1"))
    with pytest.raises(batchgen.ManifestError, match="--trust-host"):
        batchgen.plan(wanted)
    assert [host.origin for host in batchgen.plan(wanted, trust_hosts=["far.invalid"]).hosts] == ["https://far.invalid"]


# results


def test_a_result_tells_what_was_made_and_where(world: World) -> None:
    made = run(job(world, prompts=[OTTER, HERON], request={**LOW, "n": 2}), budget=1)
    assert (made.exit_code, made.reason, made.folder) == (0, "all done", world.run_folder)
    assert sorted(Path(image.path) for image in made.images) == world.files()
    for image in made.images:
        assert isinstance(image.path, Path)
        assert (image.bytes, image.format, image.provider) == (image.path.stat().st_size, "png", "pretend")
        assert (image.model, image.ids, image.axes) == ("gpt-image-2", (), {})
        assert image.task in image.path.name
    report: Any = made.report
    assert round(report["cost"]["paid"] * 1e9) == world.billed()
    assert made.ledger.report() == batchgen.Ledger("otters").report()
    assert [each["state"] for each in made.ledger.attempts("paid")] == ["paid", "paid"]


def test_only_what_is_still_wanted_is_among_the_images(world: World) -> None:
    run(job(world), rows=[OTTER, HERON], budget=1)
    assert [image.prompt for image in run(job(world), rows=[HERON], budget=1).images] == [HERON]
    assert len(world.charges()) == 2


def test_a_ledger_is_read_while_its_run_works(bad: Start) -> None:
    world = bad("--latency", "0.3")
    process = world.begin("run", str(world.write(prompts=many(3), limits={"concurrency": 1, "budget": 1})))
    ledger = world.run_folder / "ledger.db"
    eventually(lambda: ledger.exists() and world.charges())
    report: Any = batchgen.Ledger(world.folder / "otters.yaml").report()
    assert (report["tasks"]["total"], report["ended_at"]) in ((3, None), (0, None))
    assert process.wait(20) == 0
    assert len(list(batchgen.Ledger(world.run_folder).images())) == 3


def test_the_images_of_a_sample_bear_the_names_of_their_rows(world: World) -> None:
    source = {"file": "-", "format": "jsonl", "id": "{{ sku }}"}
    rows = [{"prompt": prompt, "sku": f"s-{prompt[-1]}"} for prompt in many(4)]
    made = run(job(world, prompts=[source]), rows=rows, sample=2, budget=1)
    assert all(image.ids == (f"s-{image.prompt[-1]}",) for image in made.images)


# errors

ERRORS: tuple[tuple[dict[str, Any], str], ...] = (
    ({"prompts": None}, "ManifestError"),
    ({"prompts": many(1), "modell": "x"}, "ManifestError"),
    ({"prompts": many(1), "request": {"qualty": "low"}}, "ManifestError"),
    ({"prompts": [Path("x")]}, "ManifestError"),
    ({"prompts": many(1), "name": "../x"}, "ManifestError"),
    ({"prompts": [{"file": "nowhere.csv"}]}, "ManifestError"),
    ({"prompts": many(1), "model": "dall-e-9", "request": None}, "UsageError"),
)


@pytest.mark.parametrize(("changes", "error"), ERRORS)
def test_what_is_wrong_is_an_error_of_ours_that_a_program_can_import(
    world: World, changes: dict[str, Any], error: str
) -> None:
    with pytest.raises(getattr(batchgen, error)) as caught:
        run(job(world, **changes), budget=1)
    assert isinstance(caught.value, batchgen.BatchgenError)
    assert (caught.value.exit_code, list(world.folder.iterdir())) == (2, [])


def test_every_name_that_is_promised_is_there_and_every_error_is_ours() -> None:
    for name in batchgen.__all__:
        found = getattr(batchgen, name)
        assert not (isinstance(found, type) and issubclass(found, Exception)) or issubclass(found, BatchgenError)
    with pytest.raises(AttributeError):
        batchgen.nonsense  # noqa: B018


def test_every_error_that_can_come_can_be_imported() -> None:
    assert issubclass(batchgen.LockedError, batchgen.BatchgenError)


def test_a_run_that_is_not_there_is_an_error_of_ours() -> None:
    with pytest.raises(batchgen.UsageError, match="there is no run in"):
        batchgen.Ledger("nowhere")
    with pytest.raises(batchgen.ManifestError):
        run("nowhere.yaml", budget=1)


def test_a_key_that_is_missing_is_told_and_makes_no_folder(world: World) -> None:
    with pytest.raises(batchgen.UsageError, match="NO_SUCH_KEY is not set"):
        run(job(world, prompts=many(1), provider=world.provider(api_key_env="NO_SUCH_KEY")), budget=1)
    assert list(world.folder.iterdir()) == []


def test_a_provider_that_wants_a_person_is_told_in_the_result(world: World) -> None:
    made = run(job(world, prompts=many(3), provider=world.provider(api_key_env="BAD_KEY")), budget=1)
    assert (made.exit_code, made.reason.startswith("blocked: "), made.images) == (5, True, [])
    assert BAD_KEY not in json.dumps(dict(made.report)) + made.reason


def test_the_docstring_says_what_a_blocked_run_does() -> None:
    assert "Blocked and StorageError where a person must act" not in str(batchgen.run.__doc__)


@pytest.mark.parametrize("options", [{"settings": {"request.n": {1, 2}}}, {"settings": {"prompts": [Path("x")]}}])
def test_a_setting_that_yaml_cannot_say_is_an_error_of_ours(world: World, options: dict[str, Any]) -> None:
    with pytest.raises(BatchgenError):
        batchgen.plan(job(world, prompts=many(1)), **options)


# loops, signals, cancelling


def test_it_works_within_a_running_loop(world: World) -> None:
    """As in a notebook, where the cell runs inside of one; and awaited, as in a program of one's own."""

    async def cell() -> tuple[int, int]:
        first = run(job(world, prompts=many(2)), budget=1)
        second = await batchgen.run(job(world, prompts=many(3)), budget=1)
        return first.exit_code, second.exit_code

    assert asyncio.run(cell()) == (0, 0)
    assert len(world.charges()) == 3


def test_the_loop_goes_on_while_a_run_works(bad: Start) -> None:
    world = bad("--latency", "0.3")

    async def program() -> int:
        ticks, task = 0, asyncio.create_task(batchgen.run(job(world, prompts=many(2)), runs="runs", budget=1))
        while not task.done():
            await asyncio.sleep(0.01)
            ticks += 1
        assert task.result().exit_code == 0
        return ticks

    assert asyncio.run(program()) > 10


SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def test_no_signal_handler_is_touched(bad: Start) -> None:
    """Neither before nor after nor while it works: those of the program stay where they are."""
    world = bad("--latency", "0.2")
    before = [signal.getsignal(each) for each in SIGNALS]

    async def program() -> None:
        inside = [signal.getsignal(each) for each in SIGNALS]
        task = asyncio.create_task(batchgen.run(job(world, prompts=many(2)), runs="runs", budget=1))
        await asyncio.to_thread(eventually, lambda: world.sandbox.stats()["open"])
        assert [signal.getsignal(each) for each in SIGNALS] == inside
        assert (await task).exit_code == 0

    asyncio.run(program())
    assert [signal.getsignal(each) for each in SIGNALS] == before


def test_it_works_in_a_thread_of_its_own(world: World) -> None:
    made: list[batchgen.Result] = []
    thread = threading.Thread(target=lambda: made.append(run(job(world, prompts=many(2)), budget=1)))
    thread.start()
    thread.join(20)
    assert [each.exit_code for each in made] == [0]


@pytest.mark.parametrize("times", [1, 2])
def test_whoever_cancels_waits_for_what_is_paid_for(bad: Start, times: int) -> None:
    world = bad("--latency", "0.4")
    wanted = job(world, prompts=many(6), limits={"concurrency": 3})

    async def program() -> None:
        task = asyncio.create_task(batchgen.run(wanted, runs=world.folder / "runs", budget=1))
        await asyncio.to_thread(eventually, lambda: world.sandbox.stats()["open"] == 3)
        for _ in range(times):
            task.cancel()
            await asyncio.sleep(0.05)
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(program())
    assert (world.attempts(), world.states()) == (["paid"] * 3, {"done": 3, "todo": 3})
    world.check_equal_to_the_bill()
    assert run(wanted, runs=world.folder / "runs", budget=1).exit_code == 0
    assert len(world.charges()) == 6


def test_a_deadline_of_the_programs_drains_too(bad: Start) -> None:
    world = bad("--latency", "0.4")

    async def program() -> None:
        async with asyncio.timeout(0.3):
            await batchgen.run(job(world, prompts=many(9)), runs=world.folder / "runs", budget=1)

    with pytest.raises(TimeoutError):
        asyncio.run(program())
    assert set(world.attempts()) == {"paid"}
    world.check_equal_to_the_bill()


PROGRAM = """
import asyncio, json, sys, batchgen
def cell():
    return batchgen.run_sync(json.loads(sys.argv[1]), budget=1)
async def notebook():
    cell()
asyncio.run(notebook()) if sys.argv[2] == "notebook" else cell()
"""


def interrupted(world: World, where: str, times: int) -> "subprocess.Popen[str]":
    """A program in which Ctrl-C is pressed while three of twelve requests are on their way."""
    text = json.dumps(job(world, prompts=many(12), limits={"concurrency": 3}))
    pipe = subprocess.PIPE
    command = [sys.executable, "-c", PROGRAM, text, where]
    process = subprocess.Popen(command, cwd=world.folder, env=environment(), stdout=pipe, stderr=pipe, text=True)
    world.started.append(process)
    eventually(lambda: world.sandbox.stats()["open"] == 3)
    for _ in range(times):
        process.send_signal(signal.SIGINT)
        time.sleep(0.2)
    return process


def test_a_program_that_is_interrupted_keeps_what_is_paid_for(bad: Start) -> None:
    world = bad("--latency", "0.5")
    assert interrupted(world, "program", 1).wait(10) == -signal.SIGINT
    assert (world.attempts(), world.states()) == (["paid"] * 3, {"done": 3, "todo": 9})
    world.check_equal_to_the_bill()


def test_a_program_that_is_interrupted_twice_ends(bad: Start) -> None:
    world = bad("--latency", "8")
    process = interrupted(world, "program", 2)
    eventually(lambda: process.poll() is not None, within=6)
    assert "sending" not in world.attempts()


def test_a_cell_that_is_interrupted_sends_nothing_new(bad: Start) -> None:
    world = bad("--latency", "0.3")
    interrupted(world, "notebook", 1).wait(10)
    assert len(world.charges()) < 12


def test_jobs_may_run_side_by_side_and_one_folder_has_one_run(world: World) -> None:
    async def program() -> list[Any]:
        names = ["one", "two", "two"]
        runs = [batchgen.run(job(world, name=name, prompts=many(3)), budget=1) for name in names]
        return await asyncio.gather(*runs, return_exceptions=True)

    one, two, refused = asyncio.run(program())
    assert (one.exit_code, two.exit_code) == (0, 0)
    assert (isinstance(refused, BatchgenError), refused.exit_code) == (True, 6)
    assert len(world.charges()) == 6


def test_importing_it_is_light() -> None:
    script = "import sys, batchgen; print(*{'anyio', 'httpx', 'pydantic', 'sqlite3', 'yaml'} & set(sys.modules))"
    assert subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout == "\n"


def test_a_plan_writes_nothing(world: World) -> None:
    plan = batchgen.plan(job(world), rows=many(3), sample=2)
    assert (plan.survey.todo, plan.cost.low > 0, list(world.folder.iterdir())) == (2, True, [])


def test_what_the_api_made_the_command_goes_on_with(world: World) -> None:
    """A mapping stands for the manifest of its name in the current folder."""
    run(job(world, prompts=many(4)), settings={"limits.images": 1}, budget=1)
    assert said(world, "run", "runs/otters", "--set", "limits.images=9").returncode == 0
    assert len(world.charges()) == 4
