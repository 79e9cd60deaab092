"""The books: what people read agrees with what was written."""

import os
import sqlite3
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest
from test_ledger import LANE, ONE, TWO, A, T, ask, saved, settlement, task

from batchgen import books, ledger, sums, troubles
from batchgen.errors import StorageError
from batchgen.ledger import Ledger
from batchgen.tallies import Money
from batchgen.task import Attempt, Image, ImageState, Settlement, Task

pytestmark = pytest.mark.anyio
BROKEN = Image(0, ImageState.BROKEN, note="PNG is cut")


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    ledger.create(tmp_path / "ledger.db", "otters", "zoo", "otters.yaml")
    return tmp_path / "ledger.db"


async def buy(one: Ledger, claimed: Task, *ends: Settlement) -> None:
    """Attempts of one task that end like this, one after the other."""
    for end in ends:
        attempt = await one.begin(claimed, LANE, "local", 6_000_000)
        await one.settle(attempt, end)


def paid(cost: int, images: int = 1) -> Settlement:
    pictures = tuple(saved(index, "otter") for index in range(images))
    usage = settlement(Attempt("", task("x"), "", LANE, 0), A.PAID, T.DONE, True, 0).usage
    return Settlement(A.PAID, T.DONE, cost_low=cost, cost_high=cost, images=pictures, usage=usage)


UNKNOWN = Settlement(A.UNKNOWN, T.DOING, cost_high=6_000_000)
REJECTED = Settlement(A.REJECTED, T.FAILED)
UNUSABLE = Settlement(A.UNUSABLE, T.DOING, cost_high=6_000_000, images=(BROKEN,))
ESTIMATED = replace(paid(0), cost_low=1_000_000, cost_high=5_000_000, estimated=True, usage=None)


async def a_night(path: Path) -> None:
    """Paid at once, paid after an unknown, estimated, paid after an unusable answer, rejected, and not begun."""
    async with ledger.open_for_writing(path) as one:
        await ask(one, *(task(f"otter {number}") for number in range(5)), task("last", TWO))
        claimed = await one.claim(LANE, 5)
        ends = [(paid(4_000_000),), (UNKNOWN, paid(4_100_000)), (ESTIMATED,), (UNUSABLE, paid(4_200_000)), (REJECTED,)]
        for each, end in zip(claimed, ends, strict=True):
            await buy(one, each, *end)
        await one.end(3, "1 failed")


async def test_the_books_of_a_night_add_up(path: Path) -> None:
    await a_night(path)
    with books.reading(path) as db:
        tallies = sums.tallies([db])
        assert tallies.task_states() == {"todo": 1, "doing": 0, "done": 4, "refused": 0, "failed": 1, "held": 0}
        states = tallies.attempt_states()
        assert states == books.attempt_states(db)
        assert {name: count for name, count in states.items() if count} == {
            "paid": 4,
            "unusable": 1,
            "rejected": 1,
            "unknown": 1,
        }
        sure = 4_000_000 + 4_100_000 + 4_200_000
        assert tallies.money() == Money(
            low=sure + 1_000_000,
            high=sure + 5_000_000 + 2 * 6_000_000,
            paid=sure,
            estimated=5_000_000,
            answers=3,
            doubted=2,
            unpriced=0,
        )
        assert tallies.usage() == {
            "input_text_tokens": 9,
            "input_image_tokens": 0,
            "output_tokens": 588,
            "total_tokens": 597,
        }
        assert troubles.troubles(db) == []
        assert books.span(db)[2] == "1 failed"


async def test_the_sums_by_variant_are_the_sums_of_all(path: Path) -> None:
    await a_night(path)
    with books.reading(path) as db:
        tallies, variants = sums.tallies([db]), books.variants(db)
    groups = tallies.by_variant()
    assert [sum(each.task_states().values()) for each in groups.values()] == [5, 1]
    assert [variant.axes for variant in variants if variant.id in groups] == [dict(ONE.axes), {}]
    for name in ("paid", "estimated", "low", "high"):
        assert sum(getattr(each.money(), name) for each in groups.values()) == getattr(tallies.money(), name)
    assert sum(each.saved() for each in groups.values()) == tallies.saved() == 4


async def test_money_for_what_is_no_longer_wanted_is_still_counted(path: Path) -> None:
    await a_night(path)
    async with ledger.open_for_writing(path) as one:
        assert (await ask(one, task("otter 0"))).dropped == 5
    with books.reading(path) as db:
        tallies = sums.tallies([db])
    spent = {"kept": 4_000_000, "dropped": 13_300_000, "replaced": 0, "unusable": 6_000_000}
    assert tallies.spent_on() == spent
    assert tallies.not_wanted() == {"dropped": 5, "replaced": 0}
    assert sum(tallies.task_states().values()) == 1


async def test_an_image_that_one_of_several_lacks_is_missing(path: Path) -> None:
    async with ledger.open_for_writing(path) as one:
        await ask(one, task("otter", TWO))
        (claimed,) = await one.claim(LANE, 1)
        await buy(one, claimed, replace(paid(5), images=(BROKEN, saved(1, "otter"))))
    with books.reading(path) as db:
        tallies = sums.tallies([db])
        assert (tallies.saved(), tallies.broken(), tallies.bytes(), books.missing(db)) == (1, 1, 100, 1)


async def test_an_attempt_without_a_price_is_counted_as_one(path: Path) -> None:
    async with ledger.open_for_writing(path) as one:
        await ask(one, task("otter"))
        (claimed,) = await one.claim(LANE, 1)
        await one.begin(claimed, LANE, "local", None)
    with books.reading(path) as db:
        nothing = Money(low=0, high=0, paid=0, estimated=0, answers=0, doubted=0, unpriced=1)
        assert sums.tallies([db]).money() == nothing


async def test_an_image_that_came_whole_the_second_time_is_not_missing(path: Path) -> None:
    await a_night(path)
    with books.reading(path) as db:
        assert (sums.tallies([db]).broken(), books.missing(db)) == (1, 0)


async def test_attempts_are_listed_in_their_order_by_state_and_by_task(path: Path) -> None:
    await a_night(path)
    with books.reading(path) as db:
        key = task("otter 1").key
        assert [row["state"] for row in books.attempts(db, task=key)] == ["unknown", "paid"]
        assert [row["task"] for row in books.attempts(db, state="unknown")] == [key]
        assert len(list(books.attempts(db))) == 7
        purchases = {row["purchase"] for row in books.attempts(db, task=key)}
        assert len(purchases) == 1
        found = books.task(db, key)
        assert found
        assert (found["prompt"], found["state"]) == ("otter 1", "done")
        assert books.task(db, "stranger") is None


TROUBLES = {
    "UPDATE tasks SET state = 'done' WHERE prompt = (SELECT id FROM prompts WHERE text = 'otter 4')": [
        "no saved image",
        "no paid attempt",
    ],
    "UPDATE tasks SET state = 'todo' WHERE state = 'done' AND seq = 1": ["has images and is not done"],
    "UPDATE attempts SET state = 'paid' WHERE state = 'unknown'": ["was paid for twice"],
    "DELETE FROM images WHERE task = 1": ["no saved image"],
    "PRAGMA foreign_keys = OFF; DELETE FROM prompts WHERE text = 'last'": ["a row of tasks refers to nothing"],
}


@pytest.mark.parametrize("harm", TROUBLES)
async def test_what_contradicts_itself_is_told(path: Path, harm: str) -> None:
    await a_night(path)
    with closing(sqlite3.connect(path)) as db:
        db.executescript(harm)
    with books.reading(path) as db:
        told = "\n".join(troubles.troubles(db))
    assert all(part in told for part in TROUBLES[harm])
    assert told.count("\n") == len(TROUBLES[harm]) - 1


def test_whoever_holds_the_folder_is_named_if_it_is_known(path: Path, tmp_path: Path) -> None:
    assert books.holder(path) == ""
    assert books.holder(tmp_path / "gone.db") == ""


async def test_p13_the_process_that_holds_the_folder_is_named(path: Path) -> None:
    async with ledger.open_for_writing(path):
        assert f"process {os.getpid()} on " in books.holder(path)


def test_a_reader_cannot_write(path: Path) -> None:
    """C11."""
    with pytest.raises(StorageError, match="readonly"), books.reading(path) as db:
        db.execute("DELETE FROM job")


def test_a_ledger_that_cannot_be_read_is_a_storage_error(tmp_path: Path) -> None:
    (tmp_path / "ledger.db").write_bytes(b"no database" * 100)
    for name in ("gone.db", "ledger.db"):
        with pytest.raises(StorageError, match="cannot be read"), books.reading(tmp_path / name) as db:
            books.models(db)
