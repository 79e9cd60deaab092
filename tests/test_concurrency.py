"""Many at once: one connection that writes, locks of strangers, readers that stay, few threads and fewer slots."""

import random
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import anyio
import anyio.lowlevel
import pytest
from conftest import Start
from test_ledger import LANE, ask, task
from wild import CHUNKED, OK, STREAM, Wild, pours
from world import World, eventually, many

from batchgen import images, ledger, pour
from batchgen.ledger import Ledger
from batchgen.spool import Spool
from batchgen.task import Task
from batchgen.wire import Reply

HOLD = """
import sqlite3, sys
db = sqlite3.connect(sys.argv[1], isolation_level=None, timeout=30)
db.execute(sys.argv[2])
db.execute("SELECT count(*) FROM tasks").fetchall()
print("held", flush=True)
sys.stdin.read()
db.execute("ROLLBACK")
db.close()
"""
"""Another program, which opens a transaction and keeps it until its standard input ends."""


@contextmanager
def held(path: Path, begin: str = "BEGIN IMMEDIATE") -> Iterator[None]:
    pipe = subprocess.PIPE
    command = [sys.executable, "-c", HOLD, str(path), begin]
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True) as process:
        assert process.stdout
        assert process.stdout.readline() == "held\n"
        yield
        process.communicate(timeout=30)
    assert process.returncode == 0


@dataclass(slots=True)
class Opened:
    """Every connection that was made to a ledger: where to, and what was said on it."""

    statements: dict[int, list[str]] = field(default_factory=dict)
    places: dict[int, str] = field(default_factory=dict)

    def written(self) -> list[list[str]]:
        """What was said on connections that may write, but for a new ledger's own, under its temporary name."""
        plain = [n for n, place in self.places.items() if "mode=ro" not in place and not place.endswith(".part")]
        return [self.statements[n] for n in plain]


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> Opened:
    """Listens to every connection that this process makes from now on."""
    real, heard = sqlite3.connect, Opened()

    def connect(place: Any, *rest: Any, **named: Any) -> sqlite3.Connection:
        db: sqlite3.Connection = real(place, *rest, **named)
        n = len(heard.places)
        heard.places[n], heard.statements[n] = str(place), []
        db.set_trace_callback(heard.statements[n].append)
        return db

    monkeypatch.setattr(sqlite3, "connect", connect)
    return heard


CHANGES = ("INSERT", "UPDATE", "DELETE", "REPLACE", "CREATE", "DROP", "ALTER")


def test_c1_whatever_a_run_writes_it_writes_in_a_transaction_that_began_with_the_lock(
    bad: Start, opened: Opened
) -> None:
    """One that reads first and writes later is told that it is too late, and no waiting helps."""
    world = bad("--script", "429 cut badpng")
    world.run(prompts=many(8), retry={"duplicate_allowance": 5})
    (statements,) = opened.written()
    inside = False
    for statement in statements:
        word = statement.split()[0].upper()
        if word == "BEGIN":
            assert statement == "BEGIN IMMEDIATE"
        inside = word == "BEGIN" or (inside and word != "COMMIT")
        assert inside or word not in CHANGES, f"outside of any transaction: {statement}"
    assert statements.count("BEGIN IMMEDIATE") > 8


def test_c11_one_connection_writes_and_all_others_only_read(world: World, opened: Opened) -> None:
    """Two that write could meet the race in which SQLite lost pages of the log until 3.51.3."""
    for prompts in (4, 6):
        before = len(opened.places)
        world.run(prompts=many(prompts))
        assert len(opened.written()) == 1
        assert len(opened.places) > before + 1, "readers were among them"
        opened.places.clear()
    world.check_equal_to_the_bill()


def test_c2_nothing_is_sent_while_another_program_holds_the_ledger_and_all_is_made_afterwards(bad: Start) -> None:
    world = bad("--latency", "0.2")
    world.run(prompts=many(1))
    world.write(prompts=many(12))
    with held(world.run_folder / "ledger.db"):
        run = world.begin("run", "otters.yaml")
        with pytest.raises(subprocess.TimeoutExpired):
            run.wait(2)
        assert len(world.charges()) == 1
    _, err = run.communicate(timeout=60)
    assert (run.returncode, world.states()) == (0, {"done": 12}), err
    world.check_equal_to_the_bill()


def test_c2_a_lock_in_the_middle_of_a_run_stops_new_requests_and_loses_no_answer(bad: Start) -> None:
    world = bad("--latency", "0.1")
    world.write(prompts=many(30), limits={"concurrency": 4, "budget": 5})
    run = world.begin("run", "otters.yaml")
    eventually(lambda: len(world.charges()) > 4)
    with held(world.run_folder / "ledger.db"):
        sent = world.rows("SELECT count(*) FROM attempts")[0][0]
        with pytest.raises(subprocess.TimeoutExpired):
            run.wait(1.5)
        assert len(world.charges()) <= sent, "each request was written down before it left"
    _, err = run.communicate(timeout=60)
    assert (run.returncode, world.states()) == (0, {"done": 30}), err
    world.check_equal_to_the_bill()


def test_c6_a_reader_that_stays_for_the_whole_run_holds_up_nothing_and_its_log_is_gone_afterwards(
    world: World,
) -> None:
    world.run(prompts=many(1))
    log = world.run_folder / "ledger.db-wal"
    with held(world.run_folder / "ledger.db", "BEGIN"):
        assert world.run(prompts=many(30)).exit_code == 0
        assert log.stat().st_size > 0
    world.check_equal_to_the_bill()
    assert world.command("status", "otters").returncode == 0
    assert world.run(prompts=many(31)).exit_code == 0
    assert not log.exists() or log.stat().st_size == 0


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


async def claim_some(books: Ledger, chance: random.Random, hands: dict[int, str], worker: str) -> None:
    """Claim, keep for a while, put back or keep for good: no task may be in two hands."""
    for _ in range(15):
        mine: list[Task] = await books.claim(LANE, chance.randint(1, 4))
        for each in mine:
            assert hands.setdefault(each.seq, worker) == worker, "claimed twice"
        await anyio.lowlevel.checkpoint()
        back = [each for each in mine if chance.random() < 0.6]
        for each in back:
            del hands[each.seq]
        await books.release(back)


@pytest.mark.anyio
@pytest.mark.parametrize("seed", range(5))
async def test_c4_no_task_is_ever_in_two_hands_not_even_of_two_connections(tmp_path: Path, seed: int) -> None:
    """The folder's lock keeps a second run out; were it not there, claiming would still be one statement."""
    path, chance, hands = tmp_path / "ledger.db", random.Random(seed), dict[int, str]()
    ledger.create(path, "otters", "", "")
    async with ledger.open_for_writing(path) as one, ledger.open_for_writing(path) as two:
        await ask(one, *(task(prompt) for prompt in many(40)))
        async with anyio.create_task_group() as tasks:
            for n in range(8):
                tasks.start_soon(claim_some, (one, two)[n % 2], chance, hands, f"worker {n}")
    with closing(sqlite3.connect(path)) as db:
        doing = {seq for (seq,) in db.execute("SELECT seq FROM tasks WHERE state = 'doing'")}
    assert doing == set(hands)


@pytest.mark.anyio
async def test_c4_a_claim_is_one_statement(tmp_path: Path, opened: Opened) -> None:
    path = tmp_path / "ledger.db"
    ledger.create(path, "otters", "", "")
    async with ledger.open_for_writing(path) as books:
        await ask(books, *(task(prompt) for prompt in many(3)))
        opened.written()[-1].clear()
        assert len(await books.claim(LANE, 2)) == 2
        changed = [each for each in opened.written()[-1] if each.startswith(CHANGES)]
    assert len(changed) == 1
    assert "RETURNING" in changed[0]


@pytest.mark.parametrize(("width", "model"), [(3, "openai/gpt-image-2/text-to-image")])
def test_c9_slots_threads_and_shared_commits_never_wait_for_each_other_in_a_circle(
    bad: Start, width: int, model: str
) -> None:
    """Every purchase needs its slot more than once: for the answer, for polls, for the link."""
    world = bad("--faults", "429=0.2,cut=0.1,badpng=0.05", "--seed", "3", "--file-faults", "cut 500 ok truncate cut")
    url = world.sandbox.url.replace("/v1", "/onerouter/v1")
    provider = world.provider(dialect="onerouter", base_url=url, price={"image": 0.01}, links=["127.0.0.1"])

    async def bounded() -> None:
        with anyio.fail_after(120):
            await job.run()

    job = world.job(
        provider=provider,
        model=model,
        request={"quality": "low"},
        prompts=many(14),
        limits={"concurrency": width, "budget": 5},
        retry={"attempts": 6, "duplicate_allowance": 4},
    )
    anyio.run(bounded)
    states = world.states()
    assert set(states) <= {"done", "held"}
    assert states["done"] > 7


def test_c10_whatever_takes_long_is_done_beside_the_loop(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Parsing, decoding, checking, hashing and syncing: none of it on the thread that sends and hears."""
    here, seen = threading.get_ident(), dict[str, set[int]]()

    def noted(owner: Any, name: str) -> None:
        real: Callable[..., Any] = getattr(owner, name)

        def work(*given: Any, **named: Any) -> Any:
            seen.setdefault(name, set()).add(threading.get_ident())
            return real(*given, **named)

        monkeypatch.setattr(owner, name, work)

    for owner, name in ((Reply, "json"), (images, "save"), (images, "inspect"), (Spool, "seal")):
        noted(owner, name)
    assert world.run(prompts=many(6)).exit_code == 0
    assert set(seen) == {"json", "save", "inspect", "seal"}
    assert all(here not in threads for threads in seen.values())


def test_c10_a_stream_is_not_read_from_its_beginning_behind_every_event(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, read = pour.Events.end, list[int]()

    def counted(events: pour.Events, chunk: bytes) -> bool:
        read.append(len(events._fresh) + len(chunk))
        return real(events, chunk)

    monkeypatch.setattr(pour.Events, "end", counted)
    event = b'event: x\ndata: {"type": "x", "b64_json": "%b"}\n\n' % (b"QUFB" * 10_000)
    parts = [b"%x\r\n%b\r\n" % (len(event), event)] * 60
    with Wild(pours(OK + CHUNKED + STREAM + b"\r\n", lambda: parts, pause=0.01)) as wild:
        once = {"attempts": 1, "on_unknown": "hold", "duplicate_allowance": 0}
        world.run(provider=world.provider(base_url=wild.url), retry=once)
    assert world.attempts() == ["unknown"]
    assert sum(read) <= 3 * 60 * len(event)
