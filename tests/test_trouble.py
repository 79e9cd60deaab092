"""A provider in trouble, or one that wants a person: who waits, for how long, and what it costs."""

import base64
import json
import time
from collections.abc import Callable
from email.utils import formatdate
from pathlib import Path

import pytest
from conftest import SMALL, Start
from sandbox import child
from test_job import run
from world import KEY_ENV, Host, Respond, World, eventually, many, png

from batchgen import gate

Said = tuple[int, dict[str, str], bytes]
JSON = {"content-type": "application/json"}
USAGE = {"input_tokens": 5, "output_tokens": 196, "total_tokens": 201}


def image() -> bytes:
    data = [{"b64_json": base64.b64encode(png()).decode()}]
    return json.dumps({"data": data, "usage": USAGE}).encode()


def says(status: int, code: str, **headers: str) -> Said:
    error = {"message": f"no: {code}", "type": code, "code": code}
    return status, {**JSON, **headers}, json.dumps({"error": error}).encode()


def then_fair(*first: Said) -> Respond:
    """These answers, then images."""
    left = list(first)
    return lambda method, path: left.pop(0) if left else (200, JSON, image())


NO_KEY, NO_CREDIT = says(401, "invalid_api_key"), says(429, "insufficient_quota")


# who wants a person


@pytest.mark.parametrize("no", [NO_KEY, NO_CREDIT, says(403, "forbidden")], ids=["401", "quota", "403"])
def test_s6_s7_with_wait_one_task_at_a_time_tries_whether_it_works_again(
    world: World,
    host: Callable[[Respond], Host],
    monkeypatch: pytest.MonkeyPatch,
    no: tuple[int, dict[str, str], bytes],
) -> None:
    monkeypatch.setattr(gate, "BLOCKED_LEAST", 0.2)
    seller = host(then_fair(no, no, no))
    limits = {"concurrency": 1, "on_blocked": "wait", "budget": 5}
    begun = time.monotonic()
    assert world.run(provider=world.provider(base_url=seller.url), prompts=many(3), limits=limits).exit_code == 0
    assert time.monotonic() - begun > 0.9 * (0.2 + 0.4 + 0.8), "each wait is longer than the one before"
    assert (world.states(), sorted(world.attempts())) == ({"done": 3}, ["paid"] * 3 + ["rejected"] * 3)


def test_s6_while_it_waits_nobody_else_is_sent(
    world: World, host: Callable[[Respond], Host], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gate, "BLOCKED_LEAST", 0.3)
    seller = host(lambda method, path: NO_CREDIT)
    job = world.job(
        provider=world.provider(base_url=seller.url),
        prompts=many(40),
        limits={"concurrency": 16, "on_blocked": "wait", "budget": 5},
    )

    def drain() -> None:
        eventually(lambda: len(seller.seen) >= gate.FIRST + 2)
        job.drain()

    ended = run(job, drain)
    assert (ended.exit_code, "Add credit" in ended.reason) == (5, True)
    assert len(seller.seen) <= gate.FIRST + 4, "the first ones, then single probes"
    assert world.states() == {"todo": 40}


def test_s6_a_lane_that_is_blocked_stops_alone(world: World, host: Callable[[Respond], Host]) -> None:
    dead, fair = host(lambda method, path: NO_KEY), host(then_fair())
    targets = [
        {"as": name, "provider": world.provider(name=name, base_url=seller.url)}
        for name, seller in (("dead", dead), ("fair", fair))
    ]
    ended = world.run(provider=None, prompts=many(12), matrix={"target": targets})
    assert (ended.exit_code, KEY_ENV in ended.reason, "fair" in ended.reason) == (5, True, False)
    assert world.states() == {"done": 12, "todo": 12}
    assert len(dead.seen) <= 4


def test_s7_the_reason_says_what_to_do(bad: Start) -> None:
    world = bad("--faults", "quota=1")
    said = world.command("run", str(world.write()), "--yes")
    assert said.returncode == 5
    assert "Add credit or raise the limit there" in said.stderr


# waits


def test_status_tells_what_a_run_waits_for(world: World, host: Callable[[Respond], Host]) -> None:
    seller = host(lambda method, path: says(429, "rate_limit_exceeded", **{"retry-after": "90"}))
    manifest = world.write(provider=world.provider(base_url=seller.url), prompts=many(8))
    process = world.begin("run", str(manifest), "--yes")

    def waits() -> list[dict[str, object]]:
        found: list[dict[str, object]] = json.loads(world.command("status", str(manifest), "--json").stdout)["waits"]
        return found

    eventually(lambda: (world.run_folder / "ledger.db").exists() and len(waits()) == 2)
    own, gated = waits()
    assert own["why"] == gated["why"] == "429 rate_limit_exceeded"
    assert (own["tasks"] + gated["tasks"], bool(gated["until"])) == (8, True)  # type: ignore[operator]
    assert "wait: 429 rate_limit_exceeded, until " in world.command("status", str(manifest)).stdout
    process.terminate()
    assert process.wait(10) == 7
    assert waits_after(world, manifest) == []


def waits_after(world: World, manifest: Path) -> list[object]:
    found: list[object] = json.loads(world.command("status", str(manifest), "--json").stdout)["waits"]
    return found


@pytest.mark.parametrize(
    "headers",
    [
        {"retry-after": "1"},
        {"retry-after": "nan"},
        {"retry-after": "soon"},
        {"retry-after": str(10 * 365 * 86_400)},
        {"retry-after": "Sat, 21 Nov 2026 12:00:01 GMT", "date": "Sat, 21 Nov 2026 12:00:00 GMT"},  # their clock counts
        {"retry-after": formatdate(0, usegmt=True), "date": formatdate(0, usegmt=True)},
    ],
    ids=str,
)
def test_s1_s2_s3_whatever_retry_after_says_the_run_goes_on_soon(
    world: World, host: Callable[[Respond], Host], headers: dict[str, str]
) -> None:
    seller = host(then_fair(says(429, "rate_limit_exceeded", **headers)))
    assert world.run(provider=world.provider(base_url=seller.url)).exit_code == 0
    assert world.attempts() == ["rejected", "paid"]


def test_s3_five_days_are_ten_minutes_at_most(world: World, host: Callable[[Respond], Host]) -> None:
    seller = host(lambda method, path: says(429, "rate_limit_exceeded", **{"retry-after": str(5 * 86_400)}))
    job = world.job(provider=world.provider(base_url=seller.url), prompts=many(6))
    waited: list[float] = []

    def drain() -> None:
        eventually(lambda: any(lane.gate.closed or lane.gate.until for lane in job.progress.lanes))
        waited.extend(lane.gate.until - time.monotonic() for lane in job.progress.lanes)
        job.drain()

    assert run(job, drain).exit_code == 7
    assert 500 < waited[0] < 602


# a server that goes and comes


def restarted(world: World) -> child.Child:
    """The sandbox again, on the port where it was."""
    port = world.sandbox.url.rpartition(":")[2].removesuffix("/v1")
    return child.start(*SMALL, "--port", port, "--bill", str(world.folder / "bill.jsonl"))


def test_n19_a_server_that_restarts_is_waited_for_and_uses_up_no_try(bad: Start, tmp_path: Path) -> None:
    world = bad("--latency", "0.1", "--bill", str(tmp_path / "world-0" / "bill.jsonl"))
    retry = {"attempts": 2, "duplicate_allowance": 5}
    process = world.begin("run", str(world.write(prompts=many(40), retry=retry)), "--yes")
    eventually(world.charges)
    world.sandbox.end()
    time.sleep(2.0)
    world.sandbox = restarted(world)
    assert process.wait(60) == 0
    assert world.states() == {"done": 40}
    assert "unsent" in world.attempts()
    charged = [charge["client_request_id"] for charge in world.charges()]
    assert set(charged) <= {id_ for (id_,) in world.rows("SELECT id FROM attempts WHERE state IN ('paid', 'unknown')")}


# a provider that remembers keys


HONOURED = ("--idempotent", "86400")


def test_p1_a_cut_request_is_sent_again_under_its_key_and_charged_once_beyond_any_allowance(bad: Start) -> None:
    world = bad(*HONOURED, "--script", "cut truncate")
    changes = {"provider": world.provider(idempotency="24h"), "retry": {"duplicate_allowance": 0}}
    assert world.run(prompts=many(2), **changes).exit_code == 0
    assert sorted(world.attempts()) == ["paid", "paid", "unknown", "unknown"]
    assert len(world.charges()) == 2
    world.check_equal_to_the_bill()


def test_hold_never_sends_again_by_itself_not_even_where_it_would_cost_nothing(bad: Start) -> None:
    world = bad(*HONOURED, "--script", "cut")
    retry = {"on_unknown": "hold"}
    assert world.run(provider=world.provider(idempotency="24h"), retry=retry).exit_code == 3
    assert (world.attempts(), world.states()) == (["unknown"], {"held": 1})


def test_what_was_paid_at_last_makes_room_in_the_budget(bad: Start) -> None:
    world = bad(*HONOURED, "--script", "cut " * 3)
    provider, limits = world.provider(idempotency="24h"), {"concurrency": 1, "budget": 0.04}
    assert world.run(prompts=many(4), provider=provider, limits=limits).exit_code == 0
    assert world.billed() <= 40_000_000


def test_s29_a_stored_failure_is_not_asked_for_without_end(bad: Start) -> None:
    world = bad(*HONOURED, "--script", "500-html")
    ended = world.run(provider=world.provider(idempotency="24h"), retry={"attempts": 3})
    assert (ended.exit_code, world.states(), world.attempts()) == (3, {"held": 1}, ["unknown"] * 3)
    assert len({key for (key,) in world.rows("SELECT purchase FROM attempts")}) == 1
    world.check_books()


def test_s30_a_key_that_the_provider_knows_for_another_body_holds_its_task_and_no_other(bad: Start) -> None:
    world = bad(*HONOURED, "--script", "cut", "--latency", "1")
    changes: dict[str, object] = {"provider": world.provider(idempotency="24h"), "limits": {"concurrency": 1}}
    job = world.job(prompts=many(3), **changes)

    def drain() -> None:
        eventually(lambda: world.sandbox.stats()["open"])
        job.drain()

    assert run(job, drain).exit_code == 7
    request = {"size": "1024x1024", "quality": "low", "user": "somebody"}  # no part of a task, but of its body
    assert world.run(prompts=many(3), request=request, **changes).exit_code == 3
    assert (world.states(), sorted(world.attempts())) == (
        {"done": 2, "held": 1},
        ["paid", "paid", "rejected", "unknown"],
    )
    assert len({charge["client_request_id"] for charge in world.charges()}) == 3
    world.check_books()


def test_the_same_purchase_on_its_way_is_waited_for_and_uses_up_no_try(bad: Start) -> None:
    world = bad(*HONOURED, "--latency", "2")
    changes = {"provider": world.provider(idempotency="24h"), "retry": {"attempts": 2}}
    process = world.begin("run", str(world.write(**changes)), "--yes")
    eventually(lambda: world.sandbox.stats()["open"])
    process.kill()
    process.wait()
    assert world.run(**changes).exit_code == 0
    assert world.attempts()[0] == "unknown"
    assert set(world.attempts()[1:-1]) <= {"rejected"}
    assert (world.attempts()[-1], len(world.charges())) == ("paid", 1)
    world.check_equal_to_the_bill()


def test_a_key_that_is_forgotten_by_now_protects_nobody_and_the_task_is_held(bad: Start) -> None:
    world = bad("--idempotent", "1", "--latency", "1")
    changes = {"provider": world.provider(idempotency="1s"), "retry": {"duplicate_allowance": 0}}
    process = world.begin("run", str(world.write(**changes)), "--yes")
    eventually(lambda: world.sandbox.stats()["open"])
    process.kill()
    process.wait()
    eventually(world.charges)
    time.sleep(1)
    assert world.run(**changes).exit_code == 3
    assert (world.states(), world.attempts(), len(world.charges())) == ({"held": 1}, ["unknown"], 1)
    world.check_books()


def test_a_task_that_waits_in_the_queue_until_its_key_is_forgotten_is_held_when_its_turn_comes(bad: Start) -> None:
    world = bad("--idempotent", "2", "--script", "cut", "--latency", "1")
    changes = {"provider": world.provider(idempotency="2s"), "retry": {"duplicate_allowance": 0}}
    job = world.job(**changes)

    def drain() -> None:
        eventually(lambda: world.sandbox.stats()["open"])
        job.drain()

    assert run(job, drain).exit_code == 7
    assert world.rows("SELECT state, replay FROM tasks") == [("todo", 1)]
    time.sleep(2)
    assert world.run(**changes).exit_code == 3
    assert (world.states(), world.attempts(), len(world.charges())) == ({"held": 1}, ["unknown"], 1)
    world.write(**changes)
    assert world.command("retry", str(world.run_folder), "--held", "--yes").returncode == 0, "a person may"
    assert (world.attempts(), len(world.charges())) == (["unknown", "paid"], 2)
    world.check_books()
