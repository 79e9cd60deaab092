"""Group commit: what is acknowledged is there, what failed is not, and nothing is torn."""

import random
import sqlite3
import threading
import time
from collections.abc import Callable
from pathlib import Path

import anyio
import pytest

from batchgen.commit import GroupCommit, writer
from batchgen.errors import StorageError

pytestmark = pytest.mark.anyio
SCHEMA = """
CREATE TABLE notes (id INTEGER PRIMARY KEY, part INTEGER NOT NULL DEFAULT 0);
CREATE TABLE replies (id INTEGER PRIMARY KEY, note INTEGER REFERENCES notes DEFERRABLE INITIALLY DEFERRED);
"""
Work = Callable[[sqlite3.Connection], int]


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    db = sqlite3.connect(tmp_path / "notes.db")
    db.executescript(SCHEMA)
    db.close()
    return tmp_path / "notes.db"


def notes(path: Path) -> set[int]:
    """What another process reads."""
    db = sqlite3.connect(f"file:{path}?mode=ro", uri=True)
    try:
        return {row[0] for row in db.execute("SELECT id FROM notes")}
    finally:
        db.close()


def note(number: int, error: Exception | None = None) -> Work:
    """Two changes that belong together, and perhaps an error behind them."""

    def work(db: sqlite3.Connection) -> int:
        db.execute("INSERT INTO notes (id) VALUES (?)", (number,))
        db.execute("UPDATE notes SET part = part + 1 WHERE id = ?", (number,))
        if error:
            raise error
        return number

    return work


def dangling(db: sqlite3.Connection) -> int:
    """A change that only the commit finds fault with."""
    return db.execute("INSERT INTO replies (note) VALUES (999)").rowcount


def full(db: sqlite3.Connection) -> int:
    """D2: no room on the disk, as SQLite says it."""
    db.execute("PRAGMA max_page_count = 1").fetchall()
    db.execute("CREATE TABLE large AS SELECT zeroblob(100000) AS filler")
    return 0


def no_thread_left() -> bool:
    """P12: aiosqlite's thread would keep the process alive."""
    deadline = time.monotonic() + 2
    while time.monotonic() < deadline:
        if not [thread for thread in threading.enumerate() if "connection" in thread.name.lower()]:
            return True
        time.sleep(0.001)
    return False


async def attempt(group: GroupCommit, work: Work, told: dict[int, object], name: int) -> None:
    try:
        told[name] = await group.write(work)
    except Exception as error:
        told[name] = error


async def together(group: GroupCommit, works: list[Work]) -> dict[int, object]:
    """Callers that come at the same time, and what each was told."""
    told: dict[int, object] = {}
    async with anyio.create_task_group() as tasks:
        for name, work in enumerate(works):
            tasks.start_soon(attempt, group, work, told, name)
    return told


async def test_what_a_writer_returns_is_on_the_disk(path: Path) -> None:
    async with writer(path) as group:
        for number in range(5):
            assert await group.write(note(number)) == number
            assert number in notes(path)


async def test_callers_that_come_together_share_a_commit(path: Path) -> None:
    statements: list[str] = []
    async with writer(path) as group:
        await group.write(lambda db: db.set_trace_callback(statements.append))
        await together(group, [note(number) for number in range(100)])
        assert notes(path) == set(range(100))
    assert sum(line == "COMMIT" for line in statements) <= 3
    assert all(line.startswith("BEGIN IMMEDIATE") for line in statements if line.startswith("BEGIN"))


async def test_a_callers_failure_takes_back_its_own_change_and_nobody_elses(path: Path) -> None:
    works = [note(number, ValueError(f"no {number}") if number % 3 == 0 else None) for number in range(30)]
    async with writer(path) as group:
        told = await together(group, works)
        assert await group.write(note(100)) == 100
    assert notes(path) == {number for number in range(30) if number % 3} | {100}
    for number, word in told.items():
        assert str(word) == (str(number) if number % 3 else f"no {number}")


async def test_a_change_that_breaks_a_rule_of_the_schema_is_its_callers_alone(path: Path) -> None:
    async with writer(path) as group:
        told = await together(group, [note(1), note(1), note(2)])
    assert isinstance(told[1], sqlite3.IntegrityError)
    assert notes(path) == {1, 2}


@pytest.mark.parametrize("fatal", [dangling, full])
async def test_d2_a_commit_that_fails_fails_every_waiter_and_every_later_writer(path: Path, fatal: Work) -> None:
    async with writer(path) as group:
        await group.write(note(100))
        told = await together(group, [note(1), fatal, note(2)])
        later = await together(group, [note(3)])
        with pytest.raises(StorageError, match="Nothing that was paid for is lost"):
            await group.write(note(4))
    assert notes(path) == {100}
    assert {type(word) for word in (*told.values(), *later.values())} == {StorageError}


async def test_a_closed_ledger_takes_nothing(path: Path) -> None:
    async with writer(path) as group:
        pass
    with pytest.raises(StorageError, match="closed"):
        await group.write(note(1))
    assert notes(path) == set()


async def test_what_waits_when_the_block_ends_is_still_written(path: Path) -> None:
    told: dict[int, object] = {}
    async with anyio.create_task_group() as tasks, writer(path) as group:
        for name in range(20):
            tasks.start_soon(attempt, group, note(name), told, name)
        await anyio.lowlevel.checkpoint()
    assert notes(path) == {name for name, word in told.items() if word == name}
    assert len(told) == 20


async def acknowledged(path: Path, first: int, chance: random.Random) -> set[int]:
    """Some callers, cancelled somewhere on their way; those who were told that it is written."""
    told: dict[int, object] = {}
    with anyio.CancelScope() as scope:
        async with writer(path) as group, anyio.create_task_group() as tasks:
            for name in range(first, first + 8):
                tasks.start_soon(late, group, name, told, chance.randrange(4))
            for _ in range(chance.randrange(12)):
                await anyio.sleep(0 if chance.random() < 0.7 else 0.0005)
            scope.cancel()
    return {name for name, word in told.items() if word == name}


async def late(group: GroupCommit, name: int, told: dict[int, object], ticks: int) -> None:
    for _ in range(ticks):
        await anyio.lowlevel.checkpoint()
    await attempt(group, note(name), told, name)


async def test_c3_whoever_is_cancelled_whenever_what_is_acknowledged_is_there_and_nothing_else(path: Path) -> None:
    chance, expected, before = random.Random(20261120), set[int](), notes(path)
    for turn in range(150):
        expected |= await acknowledged(path, 8 * turn, chance)
        assert notes(path) == expected | before
    assert 150 < len(expected) < 150 * 8
    with sqlite3.connect(path) as db:
        assert db.execute("SELECT DISTINCT part FROM notes").fetchall() == [(1,)]
    db.close()
    assert no_thread_left()


@pytest.mark.parametrize("ticks", range(12))
async def test_p12_wherever_it_is_cancelled_the_connection_is_closed(path: Path, ticks: int) -> None:
    async def open_and_wait() -> None:
        async with writer(path):
            await anyio.sleep_forever()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(open_and_wait)
        for _ in range(ticks):
            await anyio.sleep(0.0002)
        tasks.cancel_scope.cancel()
    assert no_thread_left()
    assert not path.with_name("notes.db-wal").exists()


async def noted_and_raised(path: Path, error: BaseException) -> None:
    async with writer(path) as group:
        await group.write(note(1))
        raise error


@pytest.mark.parametrize("kind", [ValueError, StorageError, KeyboardInterrupt])
async def test_an_exception_comes_out_alone_and_leaves_no_thread(path: Path, kind: type[BaseException]) -> None:
    with pytest.raises(kind) as error:
        await noted_and_raised(path, kind("mine"))
    assert not isinstance(error.value, BaseExceptionGroup)
    assert notes(path) == {1}
    assert no_thread_left()


async def test_what_cannot_be_opened_leaves_no_thread(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="unable to open"):
        async with writer(tmp_path):
            pass
    assert no_thread_left()
