"""Several keys or regions of one provider: one queue, a lane for each, each at its own pace."""

import json

import pytest
from conftest import Start
from world import World, many

A, B = "sk-first-8HlrwYMfvea9lkx", "sk-second-5hpA6eEfujfoRnx"
BOTH = {"POOL_KEY_A": A, "POOL_KEY_B": B}
LANES = ["pretend/POOL_KEY_A", "pretend/POOL_KEY_B"]


def pooled(world: World, tasks: int, *keys: object, **changes: object) -> None:
    provider = world.provider(api_key_env=None, keys=[*(keys or BOTH)])
    world.write(provider={k: v for k, v in provider.items() if v}, prompts=many(tasks), **changes)


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
