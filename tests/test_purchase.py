"""A purchase that is sent more than once: what it costs, who bears it, and what a person may say of it."""

import sqlite3
import subprocess
import sys
from collections.abc import Callable

import pytest
from conftest import Start
from sandbox import nursery
from test_job import run
from test_trouble import HONOURED, JSON, NO_CREDIT, image, says
from world import CARP, Host, Respond, World, environment, eventually, many

from batchgen import gate, generate, limits
from batchgen.errors import StorageError
from batchgen.ledger import Ledger

Changes = dict[str, object]


def keyed(world: World, **more: object) -> Changes:
    return {"provider": world.provider(idempotency="24h", **more), "retry": {"duplicate_allowance": 0}}


def within(world: World) -> bool:
    ((low, high),) = world.rows("SELECT sum(cost_low), sum(cost_high) FROM attempts")
    return bool(low <= world.billed() <= high)


def test_a_refusal_that_was_billed_is_an_answer_and_the_next_try_a_purchase_of_its_own(bad: Start) -> None:
    world = bad(*HONOURED)
    world.run(prompts=[f"{CARP} [moderated-output]"], **keyed(world))
    assert world.command("retry", str(world.run_folder), "--refused", "--yes").returncode == 3
    assert len(world.charges()) == 2
    assert len(set(world.rows("SELECT purchase FROM attempts"))) == 2
    assert within(world)


@pytest.mark.parametrize("prices", [(0.04, 0.03), (0.03, 0.04)], ids=["falls", "rises"])
def test_where_the_price_changes_before_it_is_answered_it_may_be_either(
    bad: Start, prices: tuple[float, float]
) -> None:
    before, now = prices
    world = bad(*HONOURED, "--script", "cut", "--flat", str(before))
    held = {"on_unknown": "hold"}
    world.run(**{**keyed(world, price={"image": before}), "retry": held})
    world.write(**{**keyed(world, price={"image": now}), "retry": held})
    assert world.command("retry", "otters.yaml", "--held", "--yes").returncode == 0
    assert (world.attempts(), len(world.charges())) == (["unknown", "paid"], 1)
    assert within(world)
    assert world.rows("SELECT estimated FROM attempts WHERE state = 'paid'") == [(1,)]


def test_what_a_person_says_of_any_sending_is_said_of_the_purchase(bad: Start) -> None:
    world = bad(*HONOURED, "--script", "500-html")
    world.run(**{**keyed(world), "retry": {"attempts": 2}})
    first, last = (id_ for (id_,) in world.rows("SELECT id FROM attempts ORDER BY seq"))
    alone = world.command("resolve", "otters.yaml", "--not-billed", last)
    assert (alone.returncode, f"name all, {first} {last}" in alone.stderr) == (2, True)
    said = world.command("resolve", "otters.yaml", "--billed", first)
    assert (said.returncode, "1 request billed: between" in said.stdout) == (0, True)
    assert within(world)
    assert world.rows("SELECT state FROM attempts WHERE id = ?", last) == [("unusable",)]


def test_a_replay_needs_no_room_under_any_cap(bad: Start) -> None:
    world = bad(*HONOURED, "--script", "cut")
    ended = world.run(prompts=many(2), limits={"concurrency": 1, "images": 2, "budget": 5}, **keyed(world))
    assert (ended.exit_code, len(world.files()), len(world.charges())) == (0, 2, 2)
    assert world.rows("SELECT sum(images) FROM attempts") == [(2,)]


def test_a_fresh_purchase_is_none_that_was_sent_before(world: World) -> None:
    world.run(prompts=many(40), limits={"concurrency": 16, "budget": 5})
    first = "SELECT min(sent_at) FROM attempts b WHERE b.purchase = a.purchase"
    assert world.rows(f"SELECT count(*) FROM attempts a WHERE sent_at <> ({first})") == [(0,)]


def test_an_image_that_stands_under_another_number_is_not_bought_again(bad: Start) -> None:
    world = bad("--script", "two")
    world.run()
    assert {path.stem[-2:] for path in world.files()} == {"-0", "-1"}

    with sqlite3.connect(world.run_folder / "ledger.db") as db:
        db.execute("DELETE FROM images")
        db.execute("UPDATE tasks SET state = 'todo'")
    with pytest.raises(StorageError, match="is there already"):
        world.run()
    assert len(world.charges()) == 1


def test_a_ledger_that_is_gone_is_missed_by_every_later_run_too(world: World) -> None:
    world.run(prompts=many(2))
    for path in world.run_folder.glob("ledger.db*"):
        path.unlink()
    codes = [world.command("run", str(world.write(prompts=many(3))), "--yes").returncode for _ in range(2)]
    assert (codes, len(world.charges())) == ([5, 5], 2)


# waits


def test_a_task_that_waits_for_credit_is_not_given_up_at_the_end_of_the_queue(
    world: World, host: Callable[[Respond], Host], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gate, "BLOCKED_LEAST", 0.2)
    answers = [NO_CREDIT]
    seller = host(lambda method, path: answers.pop() if answers else (200, JSON, image()))
    limits_ = {"concurrency": 4, "on_blocked": "wait", "budget": 5}
    ended = world.run(provider=world.provider(base_url=seller.url), prompts=many(3), limits=limits_)
    assert (ended.exit_code, world.states()) == (0, {"done": 3})


def test_tasks_that_always_fail_end_though_the_gate_is_closed(
    world: World, host: Callable[[Respond], Host], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "BACKOFF_LEAST", 0.001)
    monkeypatch.setattr(limits, "BACKOFF_MOST", 0.002)
    monkeypatch.setattr(generate, "PROBES_MOST", 3)
    seller = host(lambda method, path: says(500, "server_error"))
    ended = world.run(provider=world.provider(base_url=seller.url), prompts=many(12), retry={"attempts": 4})
    assert (ended.exit_code, world.states()) == (3, {"failed": 12})
    assert len(world.attempts()) <= 12 * (4 + 3)


def test_a_ledger_that_takes_no_notes_stops_no_run(bad: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    async def full(self: object, *noted: object) -> None:
        raise StorageError("no room for a note")

    monkeypatch.setattr("batchgen.progress.NOTE_EVERY", 0.05)
    monkeypatch.setattr(Ledger, "wait", full)
    monkeypatch.setattr(Ledger, "learn", full)
    world = bad("--script", "429", "--latency", "0.3")
    assert world.run(prompts=many(4)).exit_code == 0


def test_status_believes_the_lock_and_not_a_number(world: World) -> None:

    world.run()
    with sqlite3.connect(world.run_folder / "ledger.db") as db:
        db.execute("UPDATE runs SET ended_at = NULL, pid = 1")
    assert "cut off" in world.command("status", str(world.run_folder)).stdout


def test_output_that_finds_no_room_is_no_bug(world: World) -> None:

    world.run()
    with open("/dev/full", "w") as full:
        for verb in ("report", "status", "verify"):
            process = nursery.start(
                "batchgen",
                verb,
                "otters.yaml",
                env=environment(),
                cwd=world.folder,
                stdout=full,
                stderr=subprocess.PIPE,
            )
            _, said = process.communicate(timeout=60)
            assert (process.returncode, said.count("\n")) == (5, 1), said


# who remembers what


def test_a_key_that_was_never_told_protects_nothing(bad: Start) -> None:
    """Idempotency that is declared between the two sendings."""
    world = bad("--idempotent", "3600", "--script", "cut")
    held: Changes = {"retry": {"on_unknown": "hold"}}
    world.run(provider=world.provider(), **held)
    world.write(provider=world.provider(idempotency="1h"), **held)
    assert world.command("retry", "otters.yaml", "--held", "--yes").returncode == 0
    assert len(world.charges()) == 2
    world.check_books()


def test_another_host_of_the_same_name_knows_no_key_of_the_first(bad: Start) -> None:
    first, second = bad(*HONOURED, "--script", "cut", "--latency", "0.5"), bad(*HONOURED)
    job = first.job(**keyed(first))

    def drain() -> None:
        eventually(lambda: first.sandbox.stats()["open"])
        job.drain()

    assert run(job, drain).exit_code == 7
    elsewhere: Changes = {"provider": first.provider(idempotency="24h", base_url=second.sandbox.url)}
    assert first.run(**elsewhere, retry={"duplicate_allowance": 0}).exit_code == 3
    assert (first.states(), second.charges()) == ({"held": 1}, [])
    first.check_books()


@pytest.mark.parametrize("billed", ["--billed", "--not-billed"])
def test_a_fate_that_is_stated_takes_the_key_from_the_queue(bad: Start, billed: str) -> None:
    world = bad(*HONOURED, "--script", "cut", "--latency", "0.5")
    job = world.job(**keyed(world))

    def drain() -> None:
        eventually(lambda: world.sandbox.stats()["open"])
        job.drain()

    assert run(job, drain).exit_code == 7
    assert world.command("resolve", "otters.yaml", billed).returncode == 0
    ended = world.run(**keyed(world), limits={"budget": 0.001, "images": 1})
    assert (ended.exit_code, len(world.charges())) == (3 if billed == "--billed" else 4, 1)


def test_a_replay_that_would_cost_more_than_the_budget_has_is_not_sent(bad: Start) -> None:
    world = bad(*HONOURED, "--script", "cut", "--latency", "0.5", "--flat", "0.04")
    limits_: Changes = {"limits": {"budget": 0.05, "concurrency": 1}}
    job = world.job(**keyed(world, price={"image": 0.04}), **limits_)

    def drain() -> None:
        eventually(lambda: world.sandbox.stats()["open"])
        job.drain()

    assert run(job, drain).exit_code == 7
    assert world.run(**keyed(world, price={"image": 0.4}), **limits_).exit_code == 4
    assert world.rows("SELECT sum(cost_high) <= 50000000 FROM attempts") == [(1,)]


def test_a_run_whose_lock_was_removed_is_alone_all_the_same(bad: Start) -> None:
    world = bad("--latency", "1")
    process = world.begin("run", str(world.write(prompts=many(8))), "--yes")
    eventually(lambda: world.sandbox.stats()["open"])
    (world.run_folder / ".lock").unlink()
    assert world.command("run", "otters.yaml", "--yes").returncode == 6
    assert process.wait(30) == 0


def test_no_standard_input_is_no_bug(world: World) -> None:
    command = f"{sys.executable} -m batchgen run otters.yaml --yes <&-"
    world.write()
    assert subprocess.run(command, shell=True, cwd=world.folder, env=environment(), check=False).returncode == 0
