"""What nobody said clearly about a batch: it is never bought again unseen, and never blocks what comes after."""

import json
from collections.abc import Callable
from typing import Any

import anyio
import httpx
import pytest
from batched import batched, kept, local
from conftest import Start
from test_batch import clock, drained
from test_batch_gotchas import Change, behind, impatient, notes
from world import World, environment, many

from batchgen import clerk, counter, limits, offer
from batchgen.batchbook import BatchBook
from batchgen.ending import Ended
from batchgen.errors import ManifestError, UsageError
from batchgen.job import Job
from batchgen.manifest import Setup

__all__ = ["behind", "impatient"]  # fixtures
Said = tuple[int, dict[str, str], bytes]
JSON = {"content-type": "application/json"}


def no(status: int, code: str, message: str = "no") -> Said:
    return (
        status,
        JSON,
        json.dumps({"error": {"message": message, "type": "invalid_request_error", "code": code}}).encode(),
    )


def first(call: str, said: Said) -> Change:
    """The first of these calls is answered so, whatever came of it."""
    left = [said]
    return lambda method, path, answer: left.pop() if left and f"{method} {path}".startswith(call) else None


def listed_late(then: Change = lambda *_: None) -> Change:
    """The first creation is not answered, and shows up in the list only when it was created again."""
    lost = {"POST /v1/batches": 1, "GET /v1/batches?limit=100": len(counter.LOOKS)}

    def late(method: str, path: str, answer: httpx.Response) -> Said | None:
        call = f"{method} {path}"
        lost[call] = lost.get(call, 0) - 1
        return (200, {}, b'{"data": []}') if lost[call] >= 0 else then(method, path, answer)

    return late


def bounds(world: World) -> tuple[int, int]:
    ((low, high),) = world.rows("SELECT sum(cost_low), sum(cost_high) FROM attempts")
    return low, high


def agreed(world: World, **changes: Any) -> Ended:
    """A run as the command makes it: what was agreed to by the plan holds."""
    with offer.offered(offer.wish(str(world.write(**changes)), None, Setup(environment()))) as offered:
        return anyio.run(offered.accept)


async def left_at_work(job: Job) -> None:
    """Until its batch was seen; then it is told to end."""
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(job.run)
        while not any(seen.look for desk in job.progress.desks for seen in desk.seen.values()):  # noqa: ASYNC110
            await anyio.sleep(0.002)
        job.drain()


@pytest.mark.parametrize(
    "said", [no(500, "server_error"), (502, {}, b"<html>bad gateway</html>"), no(503, "")], ids=["500", "502", "503"]
)
def test_a_creation_that_failed_in_whatever_words_is_looked_for_before_it_is_repeated(
    said: Said, behind: Callable[[Change], World]
) -> None:
    world = behind(first("POST /v1/batches", said))
    assert world.run(**batched(world, prompts=many(2))).exit_code == 0
    assert len(kept(world).batches) == 1
    world.check_equal_to_the_bill()


def test_where_the_list_is_refused_a_batch_in_doubt_stays_so(behind: Callable[[Change], World]) -> None:
    unlisted = [True]
    created = first("POST /v1/batches", (502, {}, b"<html>bad gateway</html>"))

    def change(method: str, path: str, answer: httpx.Response) -> Said | None:
        hidden = unlisted[0] and method == "GET" and path.startswith("/v1/batches?")
        return no(404, "") if hidden else created(method, path, answer)

    world = behind(change)
    assert world.run(**batched(world, prompts=many(2))).exit_code == 5
    assert (world.attempts(), world.rows("SELECT state FROM batches")) == (["sending"] * 2, [("creating",)])
    unlisted.clear()
    unlisted.append(False)
    assert world.run(**batched(world, prompts=many(2))).exit_code == 0
    assert len(kept(world).batches) == 1
    world.check_equal_to_the_bill()


def test_what_was_created_late_is_followed_where_its_second_creation_is_refused(
    behind: Callable[[Change], World],
) -> None:
    """It fills the very queue for which the second one is too much."""
    refusal = no(400, "token_limit_exceeded", "Limit: 1,000,000 enqueued tokens.")
    world = behind(listed_late(first("POST /v1/batches", refusal)))
    assert world.run(**batched(world, prompts=many(2))).exit_code == 0
    assert world.attempts() == ["paid", "paid"]
    assert world.rows("SELECT count(*) FROM batches") == [(1,)]
    low, high = bounds(world)
    assert low <= world.billed() <= high  # the host between us created what it refused


def test_what_was_perhaps_bought_twice_is_counted_twice_however_often_a_run_is_killed_there(
    behind: Callable[[Change], World], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def killed(*_: object) -> int:
        raise RuntimeError("killed")

    world = behind(listed_late())
    for _ in range(2):
        with monkeypatch.context() as patched:
            patched.setattr(BatchBook, "over", killed)
            with pytest.raises(RuntimeError):
                world.run(**batched(world, prompts=many(2)))
    assert world.run(**batched(world, prompts=many(2))).exit_code == 0
    assert bounds(world) == (world.billed() // 2, world.billed())


def test_a_batch_that_was_only_drafted_goes_on_within_what_was_agreed_to(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def killed(*_: object) -> None:
        raise RuntimeError("killed")

    with monkeypatch.context() as patched:
        patched.setattr(clerk.Clerk, "hand_over", killed)
        with pytest.raises(RuntimeError):
            world.run(**batched(world, prompts=many(3)))
    assert agreed(world, **batched(world, prompts=many(3))).exit_code == 0
    assert (world.states(), world.rows("SELECT count(*) FROM batches")) == ({"done": 3}, [(1,)])


def test_what_comes_too_late_is_bought_by_itself_though_it_was_handed_over_by_an_earlier_run(bad: Start) -> None:
    world = bad("--batch-rate", "0.0001")
    assert anyio.run(drained, world.job(**batched(world, prompts=many(4)))).exit_code == 7
    engine = {"batch": True, "until": clock(2)}
    assert agreed(world, **batched(world, prompts=many(4), engine=engine)).exit_code == 0
    assert world.states() == {"done": 4}
    world.check_equal_to_the_bill()


def test_a_request_whose_key_is_remembered_goes_into_no_batch(bad: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    """A batch knows no key: it would buy again what is perhaps bought."""
    world = bad("--script", "cut cut cut")
    provider = world.provider(batch={"poll": 0.05}, idempotency="24h")
    manifest = {"prompts": many(1), "provider": provider, "retry": {"attempts": 4, "duplicate_allowance": 0}}

    async def left_waiting(job: Job) -> None:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(job.run)
            while not any(lane.waiting for lane in job.progress.lanes):  # noqa: ASYNC110
                await anyio.sleep(0.01)
            job.drain()

    with monkeypatch.context() as patched:
        patched.setattr(limits, "BACKOFF_LEAST", 60.0)
        anyio.run(left_waiting, world.job(**manifest))
    assert world.rows("SELECT state, replay FROM tasks") == [("todo", 1)]
    assert world.run(**{**manifest, "engine": "batch"}).exit_code == 3
    assert (world.states(), len(world.charges()), kept(world).batches) == ({"held": 1}, 1, [])


def test_a_batch_that_is_shown_no_more_is_in_doubt_and_keeps_nobody(behind: Callable[[Change], World]) -> None:
    gone: list[bool] = []
    world = behind(
        lambda method, path, _: no(404, "") if gone and method == "GET" and path.startswith("/v1/batches/") else None
    )
    anyio.run(left_at_work, world.job(**batched(world, prompts=many(2))))
    gone.append(True)
    hold = {"on_unknown": "hold"}
    assert world.run(**local(world, prompts=many(5), retry=hold)).exit_code == 3
    assert world.states() == {"done": 3, "held": 2}
    assert "shows its batch no more" in notes(world)


def test_a_run_that_ends_at_a_time_leaves_its_batches_then_by_whatever_engine(bad: Start) -> None:
    world = bad("--batch-rate", "0.0001")
    anyio.run(left_at_work, world.job(**batched(world, prompts=many(3))))

    async def run(job: Job) -> Ended:
        with anyio.fail_after(20):
            return await job.run()

    ended = anyio.run(run, world.job(**local(world, prompts=many(3), limits={"until": clock(2)})))
    assert (ended.exit_code, world.rows("SELECT state FROM batches")) == (4, [("open",)])
    assert "1 batch of 3 tasks goes on at the provider" in ended.reason


def test_a_single_task_that_no_batch_takes_fails_by_itself(behind: Callable[[Change], World]) -> None:
    def refused(method: str, path: str, answer: httpx.Response) -> Said | None:
        if not (method == "GET" and path.startswith("/v1/batches/")):
            return None
        problem = {"code": "invalid_value", "line": 1, "message": "prompt too long", "param": "prompt"}
        none = {"total": 0, "completed": 0, "failed": 0}
        told = {"status": "failed", "output_file_id": None, "error_file_id": None, "request_counts": none}
        whole = {**answer.json(), **told, "errors": {"object": "list", "data": [problem]}}
        return 200, JSON, json.dumps(whole).encode()

    world = behind(refused)
    ended = world.run(**batched(world, prompts=many(1)))
    assert (ended.exit_code, world.states()) == (3, {"failed": 1})


def test_a_name_that_leads_elsewhere_is_none(behind: Callable[[Change], World]) -> None:
    def odd(method: str, path: str, answer: httpx.Response) -> Said | None:
        if not (method == "GET" and path.startswith("/v1/batches/")):
            return None
        told = answer.json()
        if told["output_file_id"]:
            told["output_file_id"] = f"../../{told['output_file_id']}"
        return 200, JSON, json.dumps(told).encode()

    world = behind(odd)
    assert world.run(**batched(world, prompts=many(2), retry={"on_unknown": "hold"})).exit_code == 3
    assert world.attempts() == ["unknown", "unknown"]
    assert not [call for call in world.sandbox.stats()["requests"] if ".." in call]


def test_nothing_is_handed_over_once_the_time_is_over(world: World) -> None:
    ended = world.run(**batched(world, prompts=many(2), limits={"until": "2026-01-01 10:00", "budget": 5}))
    assert (ended.exit_code, ended.reason) == (4, "stopped by limits.until (2026-01-01 10:00)")
    assert (world.states(), kept(world).batches) == ({"todo": 2}, [])


@pytest.mark.parametrize("flag", ["--billed", "--not-billed"])
def test_nobody_settles_by_hand_what_an_open_batch_will_bring(flag: str, bad: Start) -> None:
    world = bad("--batch-rate", "0.0001")
    anyio.run(left_at_work, world.job(**batched(world, prompts=many(2))))
    ((first_one,), _) = world.rows("SELECT id FROM attempts")
    said = world.command("resolve", str(world.run_folder), flag, first_one)
    assert said.returncode == 2
    assert "is in a batch that is open: batchgen run collects it" in said.stderr
    assert world.attempts() == ["accepted", "accepted"]


def test_a_provider_with_open_batches_must_not_lose_its_word_for_them(bad: Start) -> None:
    world = bad("--batch-rate", "0.0001")
    anyio.run(left_at_work, world.job(**batched(world, prompts=many(2))))
    with pytest.raises(UsageError, match="back into its provider"):
        world.job(prompts=many(2))


@pytest.mark.parametrize(
    ("rules", "says"),
    [
        ({"share": 0}, "0 is not more than 0"),
        ({"share": 2}, "2 is more than 1"),
        ({"lines_most": 0}, "0 is less than 1"),
        ({"poll": 0}, "0 is less than 0.01"),
        ({"wait": 2}, "unknown key"),
        (True, "must be a mapping"),
    ],
)
def test_what_is_said_of_a_batch_api_is_held_against_what_it_can_be(rules: object, says: str, world: World) -> None:
    with pytest.raises(ManifestError, match=says):
        world.job(provider=world.provider(batch=rules), engine="batch")


@pytest.mark.parametrize(
    ("engine", "says"),
    [
        ("rays", "'rays' is not one of local, batch"),
        ({"ray": "auto", "batch": True}, "two ways to buy"),
        ({"ray": "over there"}, "the address of a Ray cluster"),
        ({"bach": True}, "unknown key"),
        ({"batch": False, "until": "07:00"}, "it needs batch: true"),
    ],
)
def test_what_is_said_of_an_engine_is_held_against_what_there_is(engine: object, says: str, world: World) -> None:
    with pytest.raises(ManifestError, match=says):
        world.job(**{**batched(world), "engine": engine})
