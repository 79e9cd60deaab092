"""Runs by the provider's Batch API: at half price, to the nano-dollar; nothing twice, and nothing left lying there."""

import io
import signal
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import anyio
import PIL.Image
import pytest
from batched import batched, kept, local, requests
from conftest import Start
from world import HERON, OTTER, World, eventually, many

from batchgen import costs
from batchgen.job import Job

MIXED: dict[str, Any] = {
    "prompts": ["An otter [moderated]", *many(3)],
    "matrix": {"quality": ["low", "medium"], "n": [1, 2]},
}
SLOW = ("--batch-rate", "0.0001")
"""So slow that a batch makes its first line at once, and no other."""
WITH_THE_PROVIDER = (
    "1 batch of 3 tasks goes on at the provider: run again to collect, batchgen set RUN cancelled=true ends them"
)


def fates(world: World) -> dict[tuple[str, str], int]:
    """How many attempts there are of each engine and state."""
    rows = world.rows("SELECT engine, state, count(*) FROM attempts GROUP BY engine, state")
    return {(engine, state): count for engine, state, count in rows}


def decoded(world: World) -> int:
    """How many pictures there are, each of them whole."""
    for path in world.files():
        with PIL.Image.open(io.BytesIO(path.read_bytes())) as image:
            image.load()
    return len(world.files())


# what is bought


def test_a_run_by_batches_makes_every_picture_at_half_price_to_the_last_nano_dollar(world: World) -> None:
    ended = world.run(**batched(world, **MIXED))
    assert (ended.exit_code, ended.reason) == (3, "4 refused")
    assert world.states() == {"done": 12, "refused": 4}
    assert fates(world) == {("batch", "paid"): 12, ("batch", "rejected"): 4}
    assert decoded(world) == 3 * 2 * (1 + 2)
    world.check_equal_to_the_bill()
    (batch,) = kept(world).batches
    assert {charge["batch"] for charge in world.charges()} == {batch["id"]}
    assert kept(world).left == []


def test_a_picture_of_a_batch_costs_half_of_what_it_costs_by_itself(world: World) -> None:
    world.run(**batched(world))
    world.run(**local(world, samples=2))
    (half, whole) = [cost for (cost,) in world.rows("SELECT cost_high FROM attempts ORDER BY seq")]
    assert 2 * half == whole
    world.check_equal_to_the_bill()


def test_a_second_run_asks_the_provider_for_nothing_by_whatever_engine(world: World) -> None:
    world.run(**batched(world, prompts=many(3)))
    before = requests(world)
    for again in (batched, local):
        assert world.run(**again(world, prompts=many(3))).exit_code == 0
    assert requests(world) == before
    assert fates(world) == {("batch", "paid"): 3}


@pytest.mark.parametrize(("first", "then"), [(batched, local), (local, batched)])
def test_what_one_engine_began_the_other_goes_on_with(first: Any, then: Any, world: World) -> None:
    assert world.run(**first(world, prompts=many(2))).exit_code == 0
    assert world.run(**then(world, prompts=many(5))).exit_code == 0
    assert sorted(fates(world).values()) == [2, 3]
    world.check_equal_to_the_bill()


def test_two_models_and_two_operations_are_batches_of_their_own(world: World) -> None:
    world.folder.joinpath("photo.png").write_bytes(picture())
    sources = [OTTER, {"prompt": HERON, "operation": "edit", "images": ["photo.png"]}]
    models = {"model": ["gpt-image-2", "gpt-image-1.5"]}
    assert world.run(**batched(world, prompts=sources, matrix=models, model=None)).exit_code == 0
    found = sorted((each["model"], each["endpoint"]) for each in kept(world).batches)
    endpoints = ("/v1/images/edits", "/v1/images/generations")
    assert found == [(model, endpoint) for model in ("gpt-image-1.5", "gpt-image-2") for endpoint in endpoints]
    world.check_books()


def test_more_tasks_than_fit_are_several_batches(world: World) -> None:
    assert world.run(**batched(world, 3, prompts=many(7))).exit_code == 0
    assert sorted(each["request_counts"]["total"] for each in kept(world).batches) == [1, 3, 3]
    assert kept(world).left == []
    world.check_equal_to_the_bill()


def test_as_many_go_as_the_budget_has_room_for_and_the_others_when_it_is_raised(world: World) -> None:
    most = high(world)
    ended = world.run(**batched(world, prompts=many(5), limits={"budget": 3.5 * most / 1e9}))
    assert (ended.exit_code, ended.reason) == (4, "stopped by budget")
    assert (world.states(), len(kept(world).batches)) == ({"done": 3, "todo": 2}, 1)
    assert world.run(**batched(world, prompts=many(5), limits={"budget": 10})).exit_code == 0
    assert len(kept(world).batches) == 2
    world.check_equal_to_the_bill()


def high(world: World) -> int:
    """The most that one task of `many` may cost in a batch, in nano-dollars."""
    job = world.job(**batched(world, prompts=many(1)))
    ((variant, provider),) = [
        (part.variant, job._order.manifest.providers[part.variant.provider]) for part in job._order.plan.survey.parts
    ]
    quote = costs.quoted(variant, provider)
    assert quote
    assert provider.batch
    return quote.of(len(many(1)[0].encode())).at(provider.batch.share).high


def test_no_more_images_go_than_are_allowed(world: World) -> None:
    ended = world.run(**batched(world, prompts=many(5), limits={"images": 2, "budget": 10}))
    assert (ended.exit_code, ended.reason) == (4, "stopped by limits.images")
    assert (world.states(), len(world.charges())) == ({"done": 2, "todo": 3}, 2)


# files to edit


def picture(size: tuple[int, int] = (64, 64), shade: int = 90) -> bytes:
    out = io.BytesIO()
    PIL.Image.new("RGB", size, (shade, 120, 60)).save(out, "PNG")
    return out.getvalue()


def hole() -> bytes:
    """Black, and its left half is transparent."""
    out, image = io.BytesIO(), PIL.Image.new("RGBA", (64, 64), (0, 0, 0, 255))
    image.paste((0, 0, 0, 0), (0, 0, 32, 64))
    image.save(out, "PNG")
    return out.getvalue()


def edits(world: World, count: int = 3, **changes: Any) -> dict[str, Any]:
    """A manifest of so many edits; the first two photos are the same."""
    for n in range(count):
        (world.folder / f"{n}.png").write_bytes(picture(shade=max(n, 1)))
    (world.folder / "hole.png").write_bytes(hole())
    source = {"operation": "edit", "prompt": "Otter {{ n }}", "images": ["{{ n }}.png"], "mask": "hole.png"}
    return batched(world, prompts=[{**source, "vars": {"n": list(range(count))}}], **changes)


def test_each_distinct_file_goes_to_the_provider_once_and_is_taken_back_at_the_end(world: World) -> None:
    assert world.run(**edits(world, 4, samples=2)).exit_code == 0
    assert (len(kept(world).handed("vision")), kept(world).left) == (4, []), "three photos, and a mask"
    sent = [charge["inputs"] for charge in world.charges()]
    assert (len(sent), len({tuple(each) for each in sent})) == (8, 3)
    world.check_equal_to_the_bill()


def test_links_and_the_providers_own_ids_are_handed_on_as_they_are(world: World) -> None:
    answer = world.sandbox.post("v1/files", files={"file": ("a.png", picture())}, data={"purpose": "vision"})
    source = {"operation": "edit", "prompt": OTTER, "images": ["https://photos.example/otter.png", answer.json()["id"]]}
    assert world.run(**batched(world, prompts=[source])).exit_code == 0
    assert kept(world).handed("vision") == []
    world.check_books()


def test_a_photo_that_changed_since_the_plan_fails_its_own_task(world: World) -> None:
    job = world.job(**edits(world, 4))
    (world.folder / "2.png").write_bytes(picture((64, 64), shade=200))
    ended = anyio.run(job.run)
    assert (ended.exit_code, ended.reason, world.states()) == (3, "1 failed", {"done": 3, "failed": 1})
    assert world.rows("SELECT code FROM attempts WHERE state = 'rejected'") == [("input_changed",)]
    assert kept(world).left == []
    world.check_equal_to_the_bill()


def test_a_batch_of_which_no_photo_is_as_it_was_is_never_created(world: World) -> None:
    job = world.job(**edits(world, 2))
    for n in range(2):
        (world.folder / f"{n}.png").write_bytes(picture(shade=200))
    assert anyio.run(job.run).exit_code == 3
    assert (world.states(), kept(world).batches, kept(world).left) == ({"failed": 2}, [], [])


def test_two_runs_that_edit_the_same_photo_leave_each_other_their_files(bad: Start) -> None:
    first = bad(*SLOW)
    folder = first.folder / "other"
    folder.mkdir()
    second = World(folder, first.sandbox)
    anyio.run(drained, first.job(**edits(first)))
    anyio.run(drained, second.job(**edits(second)))
    ids = {each["id"] for world in (first, second) for each in kept(world).handed("vision")}
    assert len(ids) == 2 * 3
    assert recalled(second, edits(second)).exit_code == 7
    assert not [name for name in kept(second).left if name.endswith(".png")]
    assert len([name for name in kept(first).left if name.endswith(".png")]) == 3


# ended by hand, by time, and by another


async def drained(job: Job) -> Any:
    """Ctrl-C, once a batch is at work."""
    async with anyio.create_task_group() as tasks:

        async def drain() -> None:
            await job.started.wait()
            while not all_at_work(job):  # noqa: ASYNC110 - a run says by no event how far a batch is
                await anyio.sleep(0.01)
            job.drain()

        tasks.start_soon(drain)
        return await job.run()


def all_at_work(job: Job) -> bool:
    seen = [each for desk in job.progress.desks for each in desk.seen.values()]
    return bool(seen) and all(each.look and each.look.completed for each in seen)


def recalled(world: World, manifest: dict[str, Any]) -> Any:
    """The run that ends what the provider has, and buys nothing."""
    return anyio.run(Job(replace(world.job(**manifest)._order, recall=True)).run)


@pytest.mark.parametrize("then", [batched, local])
def test_ctrl_c_leaves_a_batch_to_the_provider_and_the_next_run_collects_it_and_buys_nothing(
    then: Any, bad: Start
) -> None:
    world = bad("--batch-rate", "1")
    ended = anyio.run(drained, world.job(**batched(world, prompts=many(3))))
    assert (ended.exit_code, ended.reason) == (7, WITH_THE_PROVIDER)
    assert [each["status"] for each in kept(world).batches] == ["in_progress"]
    assert (world.states(), world.attempts()) == ({"doing": 3}, ["accepted"] * 3)
    assert world.run(**then(world, prompts=many(3))).exit_code == 0
    assert (fates(world), len(kept(world).batches)) == ({("batch", "paid"): 3}, 1)
    assert kept(world).left == []
    world.check_equal_to_the_bill()


@pytest.mark.parametrize("then", [batched, local])
def test_photos_that_a_batch_left_behind_needed_are_taken_back_by_the_run_that_collects_it(
    then: Any, bad: Start
) -> None:
    world = bad("--batch-rate", "1")
    assert anyio.run(drained, world.job(**edits(world))).exit_code == 7
    assert len(kept(world).left) == 4, "two photos, a mask, and the lines"
    manifest = edits(world)
    assert world.run(**{**manifest, **then(world)}).exit_code == 0
    assert kept(world).left == []
    world.check_equal_to_the_bill()


def test_a_signal_leaves_a_batch_to_the_provider_as_well(bad: Start) -> None:
    world = bad(*SLOW)
    process = world.begin("run", str(world.write(**batched(world, prompts=many(3)))))
    eventually(
        lambda: any(each["request_counts"]["completed"] for each in world.sandbox.get("__batches").json()["batches"])
    )
    process.send_signal(signal.SIGTERM)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 7
    assert "batchgen set RUN cancelled=true" in said
    assert [each["status"] for each in kept(world).batches] == ["in_progress"]


def test_a_batch_that_is_recalled_gives_what_it_made_and_the_rest_is_bought_another_time(bad: Start) -> None:
    world = bad(*SLOW)
    manifest = batched(world, prompts=many(3))
    assert anyio.run(drained, world.job(**manifest)).exit_code == 7
    assert recalled(world, manifest).exit_code == 7
    assert fates(world) == {("batch", "paid"): 1, ("batch", "rejected"): 2}
    assert world.states() == {"done": 1, "todo": 2}
    assert [each["status"] for each in kept(world).batches] == ["cancelled"]
    assert world.rows("SELECT sum(tries) FROM tasks") == [(1,)], "to be cancelled is nobody's failure"
    assert world.run(**local(world, prompts=many(3))).exit_code == 0
    world.check_equal_to_the_bill()


# by batches until some time, then one by one


def clock(seconds: float) -> str:
    """What the clock shows after so many seconds."""
    return f"{datetime.now() + timedelta(seconds=seconds):%Y-%m-%d %H:%M:%S}"


def test_what_has_not_come_back_by_then_is_bought_one_by_one_and_nothing_is_bought_both_ways(bad: Start) -> None:
    world = bad("--batch-slow", "0.34", "--batch-slow-seconds", "3600")
    engine = {"batch": True, "until": clock(2.5)}
    ended = world.run(**batched(world, prompts=many(30), engine=engine))
    assert (ended.exit_code, world.states()) == (0, {"done": 30})
    found = fates(world)
    late = found["local", "paid"]
    assert 0 < late < 30
    assert found == {("batch", "paid"): 30 - late, ("batch", "rejected"): late, ("local", "paid"): late}
    assert len(world.charges()) == 30
    world.check_equal_to_the_bill()


def test_when_it_is_too_late_for_batches_all_is_bought_one_by_one(world: World) -> None:
    engine = {"batch": True, "until": "2001-01-01 00:00"}
    assert world.run(**batched(world, prompts=many(3), engine=engine)).exit_code == 0
    assert fates(world) == {("local", "paid"): 3}
    world.check_equal_to_the_bill()
