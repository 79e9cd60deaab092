"""Everything that goes wrong with batches, and what the books make of it: the bill lies within them, each time."""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import anyio
import httpx
import pytest
from batched import batched, kept, local
from conftest import Start
from test_batch import edits
from world import HERON, KEY, OTTER, Host, Respond, World, many, png

from batchgen import counter, desk, limits
from batchgen.errors import StorageError
from batchgen.job import Job

AMPLE = {"duplicate_allowance": 5}
PERHAPS_PAID = ("unknown", "unusable")
NOTHING_TWICE = {"on_unknown": "hold", "duplicate_allowance": 0}


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first wait after a failure takes no second."""
    monkeypatch.setattr(limits, "BACKOFF_LEAST", 0.02)


def attempts(world: World) -> Counter[str]:
    return Counter(world.attempts())


def notes(world: World) -> str:
    return "; ".join(note for (note,) in world.rows("SELECT note FROM batches ORDER BY seq"))


@dataclass(frozen=True, slots=True)
class Case:
    """What befalls the first batch of six; `struck` of its attempts end in `state`, and are bought again.

    With `unsure` something of the bill is only estimated. `note` is what a person is told of it.
    """

    fault: str
    sentence: str
    struck: int = 0
    state: str = ""
    tries: int = 6
    note: str = ""
    unsure: bool = False


CASES = (
    Case("missing", "lines that are in no file are perhaps paid", 2, "unknown", 8),
    Case("duplicate", "a line that comes twice counts once", note="2 lines that came twice: the first one counts"),
    Case("foreign", "a line of somebody else is not looked at", note="1 line of requests that are not ours"),
    Case("torn", "a line that is torn is paid and unusable", 1, "unusable", 7),
    Case("late-files", "files that are named late are waited for"),
    Case("empty-errors", "a file of errors without any is no trouble"),
    Case("invalid", "a batch that fails before it began has cost no try", 6, "rejected"),
    Case("dies", "what a batch made before it failed is kept, the rest has cost no try", 3, "rejected"),
    Case("dies-empty", "a batch that fails and leaves no files has perhaps made any of it", 6, "unknown", 12),
    Case("line-500", "a line that fails at the provider is tried again", 2, "rejected", 8),
    Case("line-429", "a line that came too fast has cost no try", 2, "rejected"),
    Case("no-totals", "a batch without a sum of its usage is no trouble"),
    Case("nousage", "a line without usage is paid within bounds", unsure=True),
    Case("badusage", "a line with absurd usage is paid within bounds", unsure=True),
    Case("badpng", "a picture that is cut off is paid and unusable", 2, "unusable", 8),
    Case("noiend", "a picture without an end is paid and unusable", 2, "unusable", 8),
    Case("junk64", "base64 that is none is paid and unusable", 2, "unusable", 8),
    Case("nodata", "a line without a picture is paid and unusable", 2, "unusable", 8),
    Case("wrongformat", "a picture in another format than was asked for is a picture"),
    Case("two", "one picture more than was asked for is no trouble"),
)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.sentence.replace(" ", "-"))
def test_whatever_befalls_a_batch_all_is_made_in_the_end_and_the_books_hold_the_bill(case: Case, bad: Start) -> None:
    world = bad("--batch-faults", case.fault)
    assert world.run(**batched(world, prompts=many(6), retry=AMPLE)).exit_code == 0
    assert world.states() == {"done": 6}
    assert attempts(world) == Counter({"paid": 6}) + Counter({case.state: case.struck})
    assert len(kept(world).batches) == 1 + bool(case.struck)
    assert world.rows("SELECT sum(tries) FROM tasks") == [(case.tries,)]
    assert case.note in notes(world)
    assert kept(world).left == []
    if case.unsure or case.state in PERHAPS_PAID:
        world.check_books()
    else:
        world.check_equal_to_the_bill()


@pytest.mark.parametrize(
    "case", [case for case in CASES if case.state in ("unknown", "unusable")], ids=lambda case: case.fault
)
def test_what_is_perhaps_paid_is_never_bought_twice_where_that_is_not_allowed(case: Case, bad: Start) -> None:
    world = bad("--batch-faults", case.fault)
    ended = world.run(**batched(world, prompts=many(6), retry=NOTHING_TWICE))
    assert (ended.exit_code, ended.reason) == (3, f"{case.struck} held")
    assert Counter(world.states()) == Counter({"done": 6 - case.struck}) + Counter({"held": case.struck})
    assert len(kept(world).batches) == 1
    world.check_books()


def test_nothing_is_bought_twice_beyond_the_allowance(bad: Start) -> None:
    world = bad("--batch-faults", "missing")
    ended = world.run(**batched(world, prompts=many(6), retry={"duplicate_allowance": 0.004}))
    assert (ended.exit_code, world.states(), attempts(world)["unknown"]) == (3, {"done": 5, "held": 1}, 2)
    world.check_books()


def test_a_batch_of_which_every_line_is_refused_leaves_no_output_and_that_is_all_right(bad: Start) -> None:
    world = bad()
    ended = world.run(**batched(world, prompts=[f"{prompt} [moderated]" for prompt in many(3)]))
    assert (ended.exit_code, world.states(), attempts(world)) == (3, {"refused": 3}, {"rejected": 3})
    assert [each["output_file_id"] for each in kept(world).batches] == [None]
    world.check_equal_to_the_bill()


# ended before its time


def test_what_an_expired_batch_made_is_kept_and_paid_and_the_rest_is_tried_again(bad: Start) -> None:
    world = bad("--batch-rate", "0.0001", "--batch-window", "0.4")
    assert world.run(**batched(world, prompts=many(2))).exit_code == 0
    assert [each["status"] for each in kept(world).batches] == ["expired", "completed"]
    assert world.rows("SELECT code FROM attempts WHERE state = 'rejected'") == [("batch_expired",)]
    world.check_equal_to_the_bill()


def test_what_is_never_made_in_time_fails_after_its_tries(bad: Start) -> None:
    world = bad("--batch-rate", "0.0001", "--batch-window", "0.3")
    ended = world.run(**batched(world, prompts=many(3), retry={"attempts": 1}))
    assert (ended.exit_code, world.states()) == (3, {"done": 1, "failed": 2})
    world.check_equal_to_the_bill()


def test_a_batch_that_is_cancelled_before_it_began_leaves_no_doubt(bad: Start) -> None:
    world = bad("--batch-validating", "3600")
    anyio.run(ended_at_once, world.job(**batched(world, prompts=many(2))))
    assert [(each["status"], each["request_counts"]["total"]) for each in kept(world).batches] == [("cancelled", 0)]
    assert (world.states(), attempts(world)) == ({"todo": 2}, {"rejected": 2})
    world.check_equal_to_the_bill()


async def ended_at_once(job: Job) -> None:
    """A person recalls its batches as soon as they are there."""
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(job.run)
        while not any(each.look for desk in job.progress.desks for each in desk.seen.values()):  # noqa: ASYNC110 - no event
            await anyio.sleep(0.01)
        for desk in job.progress.desks:
            desk.end()


def test_what_a_batch_made_that_somebody_cancelled_is_kept_and_the_rest_is_bought_anew(bad: Start) -> None:
    world = bad("--batch-rate", "0.0001")
    job = world.job(**batched(world, prompts=many(2)))

    async def whole() -> None:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(cancel)
            await job.run()

    async def cancel() -> None:
        while not await anyio.to_thread.run_sync(world.charges):  # noqa: ASYNC110 - it happens in another process
            await anyio.sleep(0.02)
        (batch,) = kept(world).batches
        world.sandbox.post(f"v1/batches/{batch['id']}/cancel")

    anyio.run(whole)
    assert world.states() == {"done": 2}
    assert [each["status"] for each in kept(world).batches] == ["cancelled", "completed"]
    assert world.rows("SELECT sum(tries) FROM tasks") == [(2,)]
    world.check_equal_to_the_bill()


# more than the provider takes


@pytest.mark.parametrize("when", ["validating", "create"])
def test_where_too_many_tokens_wait_smaller_batches_follow_until_all_is_made(when: str, bad: Start) -> None:
    world = bad("--batch-tokens", "40", "--batch-tokens-at", when)
    assert world.run(**batched(world, prompts=many(12))).exit_code == 0
    assert world.states() == {"done": 12}
    assert world.rows("SELECT sum(tries) FROM tasks") == [(12,)]
    refused = world.rows("SELECT tasks FROM batches WHERE tokens_most IS NOT NULL ORDER BY seq")
    assert refused == [(12,), (6,)], "it counts twice as many tokens as we do"
    assert kept(world).left == []
    world.check_equal_to_the_bill()


def test_without_credit_a_batch_waits_with_its_file_for_the_run_after_it_is_there_again(bad: Start) -> None:
    world = bad("--batch-call-faults", "create=billing")
    ended = world.run(**batched(world, prompts=many(3)))
    assert ended.exit_code == 5
    assert "Add credit" in ended.reason
    assert (kept(world).batches, len(kept(world).left)) == ([], 1)
    assert world.run(**batched(world, prompts=many(3))).exit_code == 0
    assert (len(kept(world).batches), len(kept(world).handed("batch")), kept(world).left) == (1, 1, [])
    world.check_equal_to_the_bill()


def waits(job: Job, why: str) -> bool:
    return any(each.startswith(why) for lane in job.progress.lanes for each in lane.waiting.values())


async def drained_when(job: Job, why: str) -> None:
    """Ctrl-C, once something waits for that reason."""
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(job.run)
        while not (job.ended or waits(job, why)):  # noqa: ASYNC110 - a run says by no event what it waits for
            await anyio.sleep(0.002)
        job.drain()


@pytest.mark.parametrize("fault", ["line-429", "invalid", "line-500"])
def test_a_batch_that_brought_nothing_is_not_followed_at_once_by_the_next_one(
    fault: str, bad: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "BACKOFF_LEAST", 60.0)
    world = bad("--batch-faults", fault)
    job = world.job(**batched(world))
    anyio.run(drained_when, job, "the last batch brought nothing")
    assert (job.ended and job.ended.exit_code, world.states(), len(kept(world).batches)) == (7, {"todo": 1}, 1)
    world.check_equal_to_the_bill()


# calls that go wrong

CALLS = ("upload", "create", "batch", "content", "delete", "files")
SUDDEN = ("cut", "cut-before", "500")
HINTED = ("429", "503")


@pytest.mark.parametrize("faults", [SUDDEN, HINTED], ids="-".join)
@pytest.mark.parametrize("call", CALLS)
def test_whatever_becomes_of_a_call_one_batch_is_bought_and_collected(
    call: str, faults: tuple[str, ...], bad: Start
) -> None:
    world = bad("--batch-call-faults", " ".join(f"{call}={fault}" for fault in faults))
    assert world.run(**edits(world, 2)).exit_code == 0
    assert (world.states(), len(kept(world).batches)) == ({"done": 2}, 1)
    world.check_equal_to_the_bill()


@pytest.mark.parametrize("fault", SUDDEN)
def test_a_batch_whose_creation_was_not_answered_is_found_by_its_mark(fault: str, bad: Start) -> None:
    world = bad("--batch-call-faults", f"create=cut batches={fault}")
    assert world.run(**batched(world, prompts=many(2))).exit_code == 0
    assert len(kept(world).batches) == 1
    world.check_equal_to_the_bill()


def test_a_batch_that_was_perhaps_created_is_looked_for_however_often_that_fails(
    bad: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(counter, "TRIES_MOST", 2)
    world = bad("--batch-call-faults", "create=cut" + 5 * " batches=500")
    assert world.run(**batched(world, prompts=many(2))).exit_code == 0
    assert len(kept(world).batches) == 1
    world.check_equal_to_the_bill()


def test_a_batch_that_was_perhaps_created_by_another_key_is_in_doubt_and_not_created_again(
    bad: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its owner alone is shown it: that it is not listed says nothing."""
    world = bad("--batch-call-faults", "create=cut-before" + 9 * " batches=500")
    manifest: dict[str, Any] = {"prompts": many(2), "retry": {"on_unknown": "hold"}}
    anyio.run(drained_when, world.job(**batched(world, **manifest)), "GET batches")
    monkeypatch.setattr("world.KEY", KEY.replace("a", "b"))
    assert world.run(**batched(world, **manifest)).exit_code == 3
    assert (world.states(), world.attempts()) == ({"held": 2}, ["unknown", "unknown"])
    assert "the key is another" in notes(world)
    assert kept(world).batches == []


@pytest.mark.parametrize("then", [batched, local])
def test_a_batch_that_was_perhaps_created_when_a_run_was_ended_is_looked_for_by_the_next_one(
    then: Any, bad: Start
) -> None:
    world = bad("--batch-call-faults", "create=cut" + 9 * " batches=500")
    job = world.job(**batched(world, prompts=many(2)))

    anyio.run(drained_when, job, "GET batches")
    assert (job.ended and job.ended.exit_code, world.attempts()) == (7, ["sending", "sending"])
    assert world.rows("SELECT state FROM batches") == [("creating",)]
    assert world.run(**then(world, prompts=many(2))).exit_code == 0
    assert len(kept(world).batches) == 1
    world.check_equal_to_the_bill()


@pytest.mark.parametrize("fault", [*SUDDEN, *HINTED])
def test_a_batch_is_ended_though_that_call_goes_wrong(fault: str, bad: Start) -> None:
    world = bad("--batch-rate", "0.0001", "--batch-call-faults", f"cancel={fault}")
    anyio.run(ended_at_once, world.job(**batched(world, prompts=many(2))))
    assert [each["status"] for each in kept(world).batches] == ["cancelled"]
    assert "unknown" not in world.attempts()
    world.check_equal_to_the_bill()


@pytest.mark.parametrize("fault", ["truncate", "norange", "garbage"])
def test_an_answer_that_comes_by_halves_or_whole_or_as_garbage_is_read_in_the_end(fault: str, bad: Start) -> None:
    world = bad("--batch-call-faults", f"content={fault}")
    assert world.run(**batched(world, prompts=many(3))).exit_code == 0
    assert attempts(world) == {"paid": 3}
    world.check_equal_to_the_bill()


def test_a_provider_that_gives_files_whole_or_not_at_all_is_read_as_well(bad: Start) -> None:
    world = bad("--no-ranges")
    assert world.run(**batched(world, prompts=many(3))).exit_code == 0
    world.check_equal_to_the_bill()


# a host between us and the provider

PASSED = ("content-type", "content-range", "retry-after")
Change = Callable[[str, str, httpx.Response], tuple[int, dict[str, str], bytes] | None]


@pytest.fixture
def behind(bad: Start, host: Callable[[Respond], Host]) -> Callable[[Change], World]:
    """A world whose provider is heard through a host that gives another answer where it likes."""

    def begin(change: Change) -> World:
        world = bad()
        root = world.sandbox.root

        def respond(method: str, path: str) -> tuple[int, dict[str, str], bytes]:
            headers, body = relay.taken[-1]
            kept = {name: value for name, value in headers.items() if name not in ("host", "content-length")}
            url = f"{root}{path}"
            answer = world.sandbox.client.request(method, url, headers=kept, content=body, timeout=20)
            told = {name: value for name, value in answer.headers.items() if name in PASSED}
            return change(method, path, answer) or (answer.status_code, told, answer.content)

        relay = host(respond)
        world.sandbox = replace(world.sandbox, url=f"{relay.url}/v1")
        return world

    return begin


def test_a_file_of_which_nobody_tells_the_length_is_read_to_its_end(behind: Callable[[Change], World]) -> None:
    def unmeasured(method: str, path: str, answer: httpx.Response) -> tuple[int, dict[str, str], bytes] | None:
        said = {"content-range": f"bytes 0-{len(answer.content) - 1}/*"}
        return (206, said, answer.content.rstrip(b"\n")) if path.endswith("/content") else None

    world = behind(unmeasured)
    assert world.run(**batched(world, prompts=many(3))).exit_code == 0
    world.check_equal_to_the_bill()


def test_a_batch_that_shows_up_after_it_was_created_again_is_ended_and_told_of(
    behind: Callable[[Change], World],
) -> None:
    lost = {"POST /v1/batches": 1, "GET /v1/batches?limit=100": len(counter.LOOKS)}

    def late(method: str, path: str, answer: httpx.Response) -> tuple[int, dict[str, str], bytes] | None:
        call = f"{method} {path}"
        lost[call] = lost.get(call, 0) - 1
        return (200, {}, b'{"data": []}') if lost[call] >= 0 else None

    world = behind(late)
    assert world.run(**batched(world, prompts=many(2))).exit_code == 0
    first, second = kept(world).batches
    assert notes(world) == desk.TWICE.format(first["id"])
    assert world.rows("SELECT handle FROM batches") == [(second["id"],)]
    assert (attempts(world), len(world.charges())) == ({"paid": 2}, 4)
    ((low, high),) = world.rows("SELECT sum(cost_low), sum(cost_high) FROM attempts")
    assert low == world.billed() / 2
    assert high == world.billed()


def test_a_file_that_cannot_be_deleted_keeps_nobody_waiting(behind: Callable[[Change], World]) -> None:
    def undeletable(method: str, path: str, answer: httpx.Response) -> tuple[int, dict[str, str], bytes] | None:
        return (500, {}, b"") if method == "DELETE" else None

    world = behind(undeletable)
    assert world.run(**batched(world, prompts=many(2))).exit_code == 0
    world.check_equal_to_the_bill()


def test_a_result_file_that_is_gone_leaves_what_was_in_it_in_doubt_and_keeps_no_run(
    behind: Callable[[Change], World],
) -> None:
    def gone(method: str, path: str, answer: httpx.Response) -> tuple[int, dict[str, str], bytes] | None:
        return (404, {}, b'{"error": {"message": "No such File object"}}') if path.endswith("/content") else None

    world = behind(gone)
    assert world.run(**batched(world, prompts=many(2), retry={"on_unknown": "hold"})).exit_code == 3
    assert (world.states(), world.attempts()) == ({"held": 2}, ["unknown", "unknown"])
    assert "is gone at the provider" in notes(world)
    world.check_books()


def test_a_line_that_the_account_refused_stops_the_lane_and_not_the_batch(behind: Callable[[Change], World]) -> None:
    """Else its task would go from batch to batch for ever: it did nothing wrong, so that no try of it is used up."""

    def broke(method: str, path: str, answer: httpx.Response) -> tuple[int, dict[str, str], bytes] | None:
        said = answer.content.replace(b"moderation_blocked", b"insufficient_quota")
        return (answer.status_code, {}, said) if path.endswith("/content") else None

    world = behind(broke)
    ended = world.run(**batched(world, prompts=["An otter [moderated]", *many(2)]))
    assert (ended.exit_code, world.states()) == (5, {"done": 2, "todo": 1})
    assert len(kept(world).batches) == 1


def test_nothing_is_handed_over_whose_image_stands_there_already(world: World) -> None:
    """A ledger that lost its last rows would buy it again."""
    assert world.run(**batched(world)).exit_code == 0
    both: dict[str, Any] = {"prompts": [OTTER, HERON]}
    assert world.run(**batched(world, **both, limits={"concurrency": 4, "budget": 0.0001})).exit_code == 4
    ((path,),) = world.rows("SELECT path FROM tasks WHERE state = 'todo'")
    place = world.run_folder / "images" / f"{path}.png"
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_bytes(png())
    with pytest.raises(StorageError, match="is there already"):
        world.run(**batched(world, **both))
    assert (len(world.charges()), world.states()) == (1, {"done": 1, "todo": 1})
