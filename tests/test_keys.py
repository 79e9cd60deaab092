"""Several keys or regions of one provider: one queue, a lane for each, each at its own pace."""

import base64
import json
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import anyio
import pytest
from conftest import Start
from hypothesis import given
from hypothesis import strategies as st
from test_lane import PROVIDER, lane, task
from world import KEY_ENV, Host, Respond, World, environment, eventually, many, png

from batchgen import ledger, manifest
from batchgen.catalog import Key, Provider
from batchgen.client import Access
from batchgen.endpoint import _labels
from batchgen.engines.queue import Queue
from batchgen.errors import ManifestError
from batchgen.lane import Lane
from batchgen.manifest import Setup
from batchgen.task import AttemptState, Identity, Settlement, TaskState
from batchgen.terms import rate
from batchgen.turn import Stopped

A, B = "sk-first-8HlrwYMfvea9lkx", "sk-second-5hpA6eEfujfoRnx"
BOTH = {"POOL_KEY_A": A, "POOL_KEY_B": B}
LANES = ["pretend/POOL_KEY_A", "pretend/POOL_KEY_B"]


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


def pool(world: World, *keys: object, **more: object) -> dict[str, Any]:
    """The part of a manifest that names several keys."""
    provider = world.provider(keys=[*(keys or BOTH)], **more)
    del provider["api_key_env"]
    return {"provider": provider}


def pooled(world: World, tasks: int, *keys: object, idempotency: str = "", **changes: Any) -> None:
    more = {"idempotency": idempotency} if idempotency else {}
    world.write(**pool(world, *keys, **more), prompts=many(tasks), **changes)


def read(provider: str, trusted: frozenset[str] = frozenset()) -> Provider:
    """The only provider of a manifest."""
    text = f"name: animals\nprovider: {provider}\nmodel: gpt-image-2\nprompts: [A fox]\n"
    (one,) = manifest.loads(text, Path("jobs/x.yaml"), Setup({}, trust_hosts=trusted)).providers.values()
    return one


def lanes(world: World, state: str = "paid") -> dict[str, int]:
    """How many attempts of that state each lane made."""
    return dict(world.rows("SELECT lane, count(*) FROM attempts WHERE state = ? GROUP BY lane", state))


def test_two_keys_buy_what_one_key_would_and_each_keeps_its_lane(world: World) -> None:
    pooled(world, 12)
    ended = world.command("run", "otters.yaml", **BOTH)
    assert ended.returncode == 0, ended.stderr
    assert world.states() == {"done": 12}
    assert sorted(lanes(world)) == LANES
    world.check_equal_to_the_bill()
    assert world.rows("SELECT DISTINCT pool FROM tasks") == [("pretend",)]
    again = world.command("plan", "otters.yaml", "--json", **BOTH)
    world.write(prompts=many(12))
    one = world.command("plan", "otters.yaml", "--json")
    assert [json.loads(each.stdout)["change"]["new"] for each in (again, one)] == [0, 0]


def test_one_key_dies_and_the_other_goes_on_to_the_end(bad: Start) -> None:
    world = bad("--key-ends", f"{B}=5:401", "--latency", "0.05")
    pooled(world, 40)
    ended = world.command("run", "otters.yaml", **BOTH)
    assert ended.returncode == 0, ended.stderr
    assert world.states() == {"done": 40}
    assert lanes(world)[LANES[1]] == 5
    world.check_equal_to_the_bill()
    (reason,) = world.rows("SELECT reason FROM runs")[0]
    assert reason == "all done; blocked: pretend/POOL_KEY_B"
    report = world.command("report", "otters")
    for said in (ended.stderr, report.stdout, world.command("status", "otters").stdout):
        assert "Blocked       pretend/POOL_KEY_B: Incorrect API key provided" in said
        assert "Put a key that it takes into POOL_KEY_B" in said
    assert "by lane" in report.stdout
    (first, second) = json.loads(world.command("report", "otters", "--json").stdout)["lanes"]
    assert (first["lane"], first["answers"], first["blocked"]) == (LANES[0], 35, "")
    assert (second["lane"], second["answers"]) == (LANES[1], 5)
    assert first["low"] + second["low"] == pytest.approx(world.billed() / 1e9)


def test_both_keys_die_and_the_run_ends_blocked(bad: Start) -> None:
    world = bad("--key-ends", f"{A}=4:quota,{B}=5:401", "--latency", "0.05")
    pooled(world, 30)
    ended = world.command("run", "otters.yaml", **BOTH)
    assert ended.returncode == 5, ended.stderr
    assert world.states() == {"done": 9, "todo": 21}
    world.check_equal_to_the_bill()
    (reason,) = world.rows("SELECT reason FROM runs")[0]
    assert all(name in reason for name in LANES)


def test_each_key_goes_at_its_own_pace_and_both_until_the_end(bad: Start) -> None:
    world = bad("--key-ipm", f"{A}=1200,{B}=300", "--burst", "5", "--latency", "0.1")
    pooled(world, 120, limits={"concurrency": "auto", "budget": 10})
    ended = world.command("run", "otters.yaml", **BOTH)
    assert ended.returncode == 0, ended.stderr
    paid = lanes(world)
    assert 2.5 < paid[LANES[0]] / paid[LANES[1]] < 6
    last = dict(world.rows("SELECT lane, max(julianday(sent_at)) * 86400 FROM attempts GROUP BY lane"))
    assert abs(last[LANES[0]] - last[LANES[1]]) < 2, "neither sits on the last tasks while the other is idle"
    rates = world.rows("SELECT lane, round(per_minute) FROM quotas ORDER BY lane")
    assert rates == [(LANES[0], 1200), (LANES[1], 300)]
    world.check_equal_to_the_bill()
    world.write(**{**pool(world), "prompts": many(3120), "limits": {"concurrency": 1000}})
    plan = world.command("plan", "otters.yaml", **BOTH).stdout
    assert "by what pretend allows: 1,500 requests a minute" in plan


def test_what_waits_for_a_host_that_wants_an_hour_is_made_by_another(
    world: World, host: Callable[[Respond], Host]
) -> None:
    slow = host(lambda *_: (429, {"retry-after": "3600", "content-type": "application/json"}, b"{}"))
    good = {"base_url": world.sandbox.url, "api_key_env": KEY_ENV}
    pooled(world, 24, {"base_url": f"{slow.url}/v1"}, good)
    begun = time.monotonic()
    ended = world.command("run", "otters.yaml")
    assert ended.returncode == 0, ended.stderr
    assert time.monotonic() - begun < 30
    assert (world.states(), len(world.charges())) == ({"done": 24}, 24)
    assert 4 <= len(slow.seen) < 12, "a host that is asked no more than it must be"
    assert all("authorization" not in headers for headers, _ in slow.taken), "a key goes to its own host alone"


def test_a_key_that_is_mended_takes_up_what_only_it_can_do(bad: Start) -> None:
    """A purchase of unknown fate is asked for again by its own account, or by nobody."""
    world = bad("--idempotent", "3600", "--script", "cut cut cut cut", "--latency", "0.05", "--key-ends", f"{B}=2:401")
    pooled(world, 8, limits={"concurrency": 2, "budget": 10}, retry={"attempts": 9}, idempotency="1h")
    ended = world.command("run", "otters.yaml", **BOTH)
    purchases = world.rows("SELECT purchase, count(DISTINCT lane) FROM attempts GROUP BY purchase")
    assert {lanes for _, lanes in purchases} == {1}
    assert ended.returncode == 5, ended.stderr
    (waiting,) = world.rows("SELECT count(*) FROM tasks WHERE state = 'todo' AND replay = 1")[0]
    assert world.states() == {"done": 8 - waiting, "todo": waiting}
    assert waiting > 0
    assert world.command("run", "otters.yaml", **{**BOTH, "POOL_KEY_B": B}).returncode == 5
    world.check_books()


def test_a_killed_run_goes_on_with_both_keys_and_buys_nothing_twice(bad: Start) -> None:
    world = bad("--latency", "0.2", "--idempotent", "3600")
    pooled(world, 40, idempotency="1h")
    process = world.begin("run", "otters.yaml", **BOTH)
    eventually(lambda: len(world.charges()) >= 12)
    process.kill()
    process.wait()
    again = world.command("run", "otters.yaml", **BOTH)
    assert again.returncode == 0, again.stderr
    assert world.states() == {"done": 40}
    assert sorted(lanes(world)) == LANES
    purchases = world.rows("SELECT count(DISTINCT lane) FROM attempts GROUP BY purchase")
    assert {*purchases} == {(1,)}
    assert len(world.charges()) == 40
    world.check_books()


def test_what_a_lane_left_open_is_settled_by_another_when_its_key_is_gone(bad: Start) -> None:
    world = bad("--latency", "1")
    again: dict[str, Any] = {"retry": {"duplicate_allowance": 1}}
    pooled(world, 8, **again)
    process = world.begin("run", "otters.yaml", **BOTH)
    eventually(lambda: world.run_folder.joinpath("ledger.db").exists() and "sending" in world.attempts())
    process.kill()
    process.wait()
    pooled(world, 8, "POOL_KEY_A", **again)
    ended = world.command("run", "otters.yaml", **BOTH)
    assert ended.returncode == 0, ended.stderr
    assert world.states() == {"done": 8}
    assert not {"sending", "accepted"} & {*world.attempts()}
    world.check_books()


def test_batches_are_drawn_from_the_same_queue(bad: Start) -> None:
    world = bad("--batch-rate", "1000")
    batch = {"poll": 0.05, "lines_most": 5}
    provider = {**pool(world)["provider"], "batch": batch}
    world.write(provider=provider, prompts=many(20), engine="batch")
    ended = world.command("run", "otters.yaml", **BOTH)
    assert ended.returncode == 0, ended.stderr
    assert world.states() == {"done": 20}
    assert {lane for (lane,) in world.rows("SELECT DISTINCT lane FROM batches")} <= {*LANES}
    world.check_equal_to_the_bill()


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_whatever_goes_wrong_at_random_the_books_are_the_bill(bad: Start, seed: int) -> None:
    faults = "429-header=0.1,429=0.1,500=0.1,cut=0.05,503-retry=0.05"
    world = bad("--faults", faults, "--seed", str(seed), "--idempotent", "3600", "--key-ends", f"{B}={10 * seed}:quota")
    pooled(world, 40, idempotency="1h", retry={"attempts": 9})
    ended = world.command("run", "otters.yaml", **BOTH)
    left = world.states().get("todo", 0)
    assert ended.returncode == (5 if left else 0), ended.stderr
    assert world.rows("SELECT count(*) FROM tasks WHERE state = 'todo' AND replay = 0") == [(0,)]
    assert len(world.charges()) <= 40
    world.check_books()


def test_a_key_that_waits_for_a_person_keeps_nobody_waiting(bad: Start) -> None:
    world = bad("--key-ends", f"{B}=3:billing", "--latency", "0.05")
    pooled(world, 30, limits={"concurrency": 4, "budget": 10, "on_blocked": "wait"})
    begun = time.monotonic()
    ended = world.command("run", "otters.yaml", **BOTH)
    assert (ended.returncode, world.states()) == (0, {"done": 30}), ended.stderr
    assert time.monotonic() - begun < 30
    assert "Blocked       pretend/POOL_KEY_B" in ended.stderr


def test_a_run_that_is_told_to_stop_leaves_the_rest_whoever_is_blocked(bad: Start) -> None:
    world = bad("--key-ends", f"{B}=1:401", "--latency", "0.3")
    pooled(world, 60)
    process = world.begin("run", "otters.yaml", **BOTH)
    eventually(lambda: len(world.charges()) >= 8)
    process.terminate()
    _, said = process.communicate(timeout=20)
    assert process.returncode == 7, said
    assert "interrupted; blocked: pretend/POOL_KEY_B" in said
    states = world.states()
    assert states["done"] + states["todo"] == 60
    world.check_equal_to_the_bill()


def keeper(world: World, host: Callable[[Respond], Host], bad_key: str = "") -> tuple[list[str], list[bool]]:
    """A manifest of four tasks to poll at a host that shows them to the key that bought them alone.

    Returns who bought each, and a list that makes them ready as soon as anything is in it.
    """
    owners: list[str] = []
    ready: list[bool] = []

    def respond(method: str, path: str) -> tuple[int, dict[str, str], bytes]:
        key = made.taken[-1][0]["authorization"].removeprefix("Bearer ")
        name = path.rpartition("/")[2]
        if key == bad_key:
            return 401, {}, b'{"error": {"message": "Incorrect API key provided"}}'
        if method == "POST":
            owners.append(key)
            return 200, {}, json.dumps({"data": {"task_id": f"{len(owners) - 1}", "status": "created"}}).encode()
        if owners[int(name)] != key:
            return 404, {}, b'{"error": {"message": "no such task"}}'
        picture = f"data:image/png;base64,{base64.b64encode(png()).decode()}"
        done = {"status": "completed", "outputs": [picture]} if ready else {"status": "processing"}
        return 200, {}, json.dumps({"data": {"task_id": name, **done}}).encode()

    made = host(respond)
    url = f"{made.url}/v1"
    provider = {**pool(world)["provider"], "dialect": "onerouter", "base_url": url, "price": {"image": 0.01}}
    asked = {"model": "openai/gpt-image-2/text-to-image", "request": {"quality": "low"}, "prompts": many(4)}
    limits = {"concurrency": 2, "budget": 9, "timeout": "1s"}
    world.write(provider=provider, **asked, limits=limits, retry={"attempts": 1})
    return owners, ready


def test_what_is_held_for_a_key_is_asked_for_by_that_key_under_whatever_name(
    world: World, host: Callable[[Respond], Host]
) -> None:
    owners, ready = keeper(world, host)
    process = world.begin("run", "otters.yaml", **BOTH)
    eventually(lambda: (world.run_folder / "ledger.db").exists() and world.attempts() == ["accepted"] * 4)
    process.kill()
    process.wait()
    swapped = {"POOL_KEY_A": B, "POOL_KEY_B": A}
    assert world.command("run", "otters.yaml", **swapped).returncode == 7
    ready.append(True)
    ended = world.command("run", "otters.yaml", **swapped)
    assert ended.returncode == 0, ended.stderr
    assert (world.states(), len(owners), {*owners}) == ({"done": 4}, 4, {A, B})
    assert len(world.files()) == 4


def test_who_is_blocked_is_no_reason_where_another_has_what_is_left(
    world: World, host: Callable[[Respond], Host]
) -> None:
    owners, _ = keeper(world, host, B)
    ended = world.command("run", "otters.yaml", **BOTH)
    assert ended.returncode == 7, ended.stderr
    assert "4 bought and still with the provider" in ended.stderr
    assert "blocked: pretend/POOL_KEY_B" in ended.stderr
    assert owners == [A] * 4


def test_a_batch_that_one_key_may_not_create_is_made_by_another(bad: Start) -> None:
    world = bad("--batch-rate", "1000", "--batch-call-faults", "create=billing")
    provider = {**pool(world)["provider"], "batch": {"poll": 0.05, "lines_most": 5}}
    world.write(provider=provider, prompts=many(20), engine="batch")
    ended = world.command("run", "otters.yaml", **BOTH)
    assert (ended.returncode, world.states()) == (0, {"done": 20}), ended.stderr
    assert "Blocked       pretend/POOL_KEY_" in ended.stderr
    world.check_equal_to_the_bill()


def test_a_batch_that_was_never_created_is_nobodys_when_its_key_is_gone(bad: Start) -> None:
    world = bad("--batch-rate", "1000", "--batch-call-faults", "create=billing create=billing")
    asked: dict[str, Any] = {"prompts": many(5), "engine": "batch", "limits": {"budget": 9, "on_blocked": "wait"}}
    batch = {"batch": {"poll": 0.05}}
    world.write(provider={**pool(world, "POOL_KEY_A")["provider"], **batch}, **asked)
    process = world.begin("run", "otters.yaml", **BOTH)
    eventually(lambda: world.sandbox.stats()["requests"].get("400"))
    eventually(lambda: world.rows("SELECT 1 FROM batches WHERE state = 'drafted'"))
    process.kill()
    process.wait()
    world.write(provider={**pool(world, "POOL_KEY_B")["provider"], **batch}, **asked)
    ended = world.command("run", "otters.yaml", **BOTH)
    assert (ended.returncode, world.states()) == (0, {"done": 5}), ended.stderr
    world.check_equal_to_the_bill()


def test_a_key_that_rests_after_a_batch_in_vain_is_there_for_what_another_may_not_do(bad: Start) -> None:
    calls = ("--batch-call-faults", "create=ok create=ok create=billing")
    world = bad("--batch-rate", "1000", "--batch-validating", "4", "--batch-faults", "invalid invalid", *calls)
    provider = {**pool(world)["provider"], "batch": {"poll": 0.05}}
    world.write(provider=provider, prompts=many(1), engine="batch")
    ended = world.command("run", "otters.yaml", **BOTH)
    assert (ended.returncode, world.states()) == (0, {"done": 1}), ended.stderr
    world.check_equal_to_the_bill()


def test_who_has_a_batch_is_named_where_the_manifest_names_it_no_more(bad: Start) -> None:
    world = bad("--batch-rate", "0.0001")
    asked: dict[str, Any] = {"prompts": many(4), "engine": "batch"}
    world.write(provider={**pool(world, "POOL_KEY_A")["provider"], "batch": {"poll": 0.05}}, **asked)
    process = world.begin("run", "otters.yaml", **BOTH)
    opened = "SELECT 1 FROM batches WHERE state = 'open'"
    eventually(lambda: (world.run_folder / "ledger.db").exists() and world.rows(opened))
    process.kill()
    process.wait()
    world.write(provider={**pool(world, "POOL_KEY_B")["provider"], "batch": {"poll": 0.05}}, **asked)
    ended = world.command("run", "otters.yaml", **BOTH)
    assert ended.returncode == 7
    assert "still with pretend/POOL_KEY_A: the manifest must name it to fetch them" in ended.stderr


@pytest.mark.parametrize("keys", [(KEY_ENV, "POOL_KEY_B"), ("POOL_KEY_A", KEY_ENV)])
def test_an_open_batch_is_collected_by_its_key_when_others_have_joined_it(bad: Start, keys: tuple[str, str]) -> None:
    world = bad("--batch-rate", "1")
    batch = {"batch": {"poll": 0.05}}
    asked: dict[str, Any] = {"prompts": many(3), "engine": "batch"}
    world.write(provider=world.provider(**batch), **asked)
    process = world.begin("run", "otters.yaml")
    opened = "SELECT 1 FROM batches WHERE state = 'open'"
    eventually(lambda: (world.run_folder / "ledger.db").exists() and world.rows(opened))
    process.kill()
    process.wait()
    world.write(provider={**pool(world, *keys)["provider"], **batch}, **asked)
    ended = world.command("run", "otters.yaml", **BOTH)
    assert ended.returncode == 0, ended.stderr
    assert world.rows("SELECT lane, state FROM batches") == [(f"pretend/{KEY_ENV}", "over")]
    world.check_equal_to_the_bill()


# before anything is sent


def test_a_task_is_the_same_by_one_key_and_by_several(world: World) -> None:
    def keys(**changes: object) -> list[str]:
        path = world.write(prompts=many(3), **changes)
        found = manifest.load(path, Setup(environment(**BOTH)))
        return [Identity(variant).key('"otter"', 1, 1) for variant in found.variants]

    assert keys() == keys(**pool(world))


def test_a_second_key_changes_nothing_for_the_first() -> None:
    found = read("{name: openai, keys: [OPENAI_API_KEY, OTHER_KEY]}")
    assert [lane.lane for lane in found.lanes] == ["openai", "openai/OTHER_KEY"]
    assert [lane.api_key_env for lane in found.lanes] == ["OPENAI_API_KEY", "OTHER_KEY"]
    assert {lane.base_url for lane in found.lanes} == {found.base_url}
    assert read("openai").lanes == (read("openai"),)


def test_regions_and_hosts_of_ones_own_are_called_by_what_differs() -> None:
    eu = "{api_key_env: KEY_EU, base_url: 'https://eu.example/v1'}"
    local = "{base_url: 'http://127.0.0.1:8001/v1'}, {base_url: 'http://127.0.0.1:8002/v1'}"
    found = read(f"{{name: gpu, dialect: openai, keys: [{eu}, {local}]}}", frozenset({"eu.example"}))
    assert [lane.lane for lane in found.lanes] == ["gpu/KEY_EU", "gpu/127.0.0.1:8001", "gpu/127.0.0.1:8002"]
    assert [lane.api_key_env for lane in found.lanes] == ["KEY_EU", "", ""]


def test_a_rehearsal_has_a_lane_for_each_key(world: World) -> None:
    world.write(**pool(world))
    assert world.command("run", "otters.yaml", "--sandbox").returncode == 0
    world.write(**pool(world), prompts=many(9))
    assert world.command("run", "otters.yaml", "--sandbox").returncode == 0
    ledger = world.run_folder.with_name("otters.sandbox") / "ledger.db"
    told = json.loads(world.command("report", str(ledger.parent), "--json").stdout)
    assert [each["lane"] for each in told["lanes"]] == [f"sandbox:{name}" for name in LANES]
    assert told["cost"]["pretend"]


def test_the_sandbox_has_as_many_keys_as_one_likes_and_takes_no_money_of_any(world: World) -> None:
    world.write(provider={"name": "sandbox", "keys": ["ONE", "OTHER"]}, prompts=many(6))
    assert world.command("run", "otters.yaml").returncode == 0
    told = json.loads(world.command("report", "otters", "--json").stdout)
    assert [each["lane"] for each in told["lanes"]] == ["sandbox/ONE", "sandbox/OTHER"]
    assert told["cost"]["pretend"]


WRONG = [
    ("{name: openai, keys: [A_KEY, A_KEY]}", "keys.1: is the same key for the same host as number 1: leave it out"),
    ("{name: openai, keys: [{}]}", "keys.0: says nothing"),
    ("{name: openai, keys: []}", "keys: is empty"),
    ("{name: openai, keys: A_KEY}", "keys: must be a list: [OPENAI_KEY_A, OPENAI_KEY_B]"),
    ("{name: openai, keys: ['sk-proj-0123456789abc']}", "never the key itself"),
    ("{name: openai, keys: [{key_env: A}]}", "unknown key (did you mean api_key_env?)"),
    ("{name: openai, keys: [AIML_API_KEY]}", "keys.0: is the key of aimlapi: openai must not see it"),
    ("{name: openai, keys: [{api_key_env: A, base_url: 'https://evil.example'}]}", "would go to evil.example"),
    ("{name: openai, keys: [{base_url: 'http://api.openai.com/v1'}]}", "must be https"),
    ("{dialect: openai, keys: [{base_url: 'http://127.0.0.1:8001'}]}", "needs a name, or a base_url of its own"),
    ("{name: gpu, dialect: openai, keys: [A_KEY]}", "base_url: is missing"),
    (
        "{name: gpu, dialect: openai, base_url: 'http://127.0.0.1:1', api_key_env: C, keys: [A, B]}",
        "api_key_env: is none of keys",
    ),
]


@pytest.mark.parametrize(("said", "says"), WRONG, ids=[says for _, says in WRONG])
def test_what_is_wrong_with_keys_is_told_with_its_line(said: str, says: str) -> None:
    with pytest.raises(ManifestError) as caught:
        read(said)
    (problem,) = caught.value.problems
    assert problem.startswith("jobs/x.yaml:2:")
    assert says in problem
    assert "sk-proj" not in problem


def test_a_key_that_is_missing_or_there_twice_is_told_before_anything_is_sent(world: World) -> None:
    pooled(world, 2)
    for environ, says in (
        ({"POOL_KEY_A": A}, "POOL_KEY_B is not set: export it with your key for pretend"),
        ({"POOL_KEY_A": A, "POOL_KEY_B": A}, "POOL_KEY_A and POOL_KEY_B hold the same key for 127.0.0.1"),
    ):
        ended = world.command("run", "otters.yaml", **environ)
        assert (ended.returncode, says in ended.stderr, A in ended.stderr) == (2, True, False), ended.stderr
    assert (world.run_folder.exists(), world.charges()) == (False, [])
    plan = world.command("plan", "otters.yaml", POOL_KEY_A=A).stdout
    assert "with the key in POOL_KEY_A" in plan
    assert "with the key in POOL_KEY_B (not set: export it)" in plan


def test_a_limit_is_a_lanes_or_its_providers_or_everybodys() -> None:
    found = read("{name: openai, keys: [OPENAI_API_KEY, OTHER_KEY]}")
    first, second = found.lanes
    rates = {"openai/OTHER_KEY": 60, "openai": 240, "": 9}
    assert (rate(rates, first), rate(rates, second)) == (240, 60)
    assert (rate({"": 9}, second), rate({}, second)) == (9, 0)


keys = st.builds(
    Key,
    api_key_env=st.sampled_from(["", "A", "B", "C"]),
    base_url=st.sampled_from(["https://eu.example", "https://us.example/v1", "https://eu.example:8443", "http://a/1"]),
)


@given(st.lists(keys, min_size=1, max_size=12, unique=True))
def test_no_two_keys_have_one_name(found: list[Key]) -> None:
    labels = _labels(found)
    assert len(set(labels)) == len(found)
    assert all(labels)
    assert _labels(found[::-1]) == labels[::-1], "whatever their order"


# a lane and the queue


@pytest.mark.anyio
async def test_who_asks_for_room_is_told_as_soon_as_there_is_some(tmp_path: Path) -> None:
    async with lane(tmp_path, width=1) as one, anyio.create_task_group() as tasks:
        with anyio.fail_after(1):
            await one.ready()
        async with one.slot():
            tasks.start_soon(one.ready)
            await anyio.wait_all_tasks_blocked()
            assert one.queued == 1, "the window is full, and somebody would use more of it"
        await anyio.wait_all_tasks_blocked()
        assert one.queued == 0
        one.gate.limited(one.gate.ticket, anyio.current_time(), 60.0, "429")
        one.stop()
        with anyio.fail_after(1):
            await one.ready()


@pytest.mark.anyio
async def test_the_last_of_those_who_wait_is_dismissed_but_none_that_must_stay(tmp_path: Path) -> None:
    stopped: list[str] = []

    async def buy(one: Lane, name: str) -> None:
        try:
            async with one.slot(task=name):
                raise AssertionError
        except Stopped:
            stopped.append(name)

    async def rest(one: Lane, name: str, stays: bool) -> None:
        try:
            await one.pause(name, 60.0, "500", stays=stays)
        except Stopped:
            stopped.append(name)

    async with lane(tmp_path, width=1) as one, anyio.create_task_group() as tasks, one.slot():
        for name in ("first", "", "second"):
            tasks.start_soon(buy, one, name)
        tasks.start_soon(rest, one, "third", False)
        tasks.start_soon(rest, one, "fourth", True)
        await anyio.wait_all_tasks_blocked()
        told = [one.dismiss(lambda name: name != "second"), one.dismiss(bool), one.dismiss(bool), one.dismiss(bool)]
        await anyio.wait_all_tasks_blocked()
        assert told == ["first", "second", "third", ""]
        assert sorted(stopped) == ["first", "second", "third"]
        one.stop()
    assert sorted(stopped) == ["", "first", "fourth", "second", "third"]


@pytest.mark.anyio
async def test_a_purchase_of_unknown_fate_is_its_own_accounts_alone(tmp_path: Path) -> None:
    provider = replace(PROVIDER, idempotency=3600.0)
    for name in ["one", "two", "three"]:
        (tmp_path / name).mkdir()
    made = [keyed_lane(tmp_path / name, provider, name) for name in ("one", "two", "three")]
    ledger.create(tmp_path / "ledger.db", "otters", "", "otters.yaml")
    async with ledger.open_for_writing(tmp_path / "ledger.db") as books:
        await books.wanted().add([task("held"), task("free")])
        claimed, _ = await books.claim("openai", 2)
        attempt = await books.begin(claimed, made[0].name, "local", 5, 3600.0, made[0].scope)
        unknown = Settlement(AttemptState.UNKNOWN, TaskState.TODO, cost_high=5, replay=True)
        await books.settle(attempt, unknown)
        await books.release_orphans()
        queue = Queue(books, "openai", made[:2])
        assert (first := await queue.next(made[1]))
        assert first.prompt == "free"
        assert await queue.next(made[1]) is None
        made[1].stop()
        assert not queue.spent, "its own lane is there"
        made[0].stop()
        assert queue.spent
        await queue.release()
        (other,) = [await Queue(books, "openai", made[1:]).next(made[2])]
        assert other
        assert (other.prompt, other.replay) == ("held", True), "where nobody has that account, anybody may take it"


def keyed_lane(folder: Path, provider: Provider, key: str) -> Lane:
    made = lane(folder, provider=replace(provider, label=key))
    return Lane(made.provider, made.bench, Access("http://127.0.0.1:1", {"authorization": key}, 5.0, 2.0), 2)
