"""The ledger against a model of plain dicts: whatever happens in whatever order, nothing is claimed or bought twice."""

import json
import shutil
import sqlite3
import stat
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from anyio.from_thread import start_blocking_portal
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from batchgen import books, decide, ledger, shelf, sums, troubles
from batchgen.errors import StorageError
from batchgen.ledger import Ledger, Spent
from batchgen.task import (
    Attempt,
    AttemptState,
    Identity,
    Image,
    ImageState,
    Operation,
    Settlement,
    Task,
    TaskState,
    Usage,
    Variant,
    canonical,
    prompt_digest,
)
from batchgen.wanted import UNFINISHED, Change

LANE = "openai"
ONE = Variant("openai", "gpt-image-2", Operation.GENERATE, (("quality", "low"),), (("quality", "low"),))
TWO = Variant("openai", "gpt-image-2", Operation.GENERATE, (("n", 2), ("svg", {"model": "m"})), ())
FAST = Path("/dev/shm")
A, T = AttemptState, TaskState
PRICES = st.sampled_from([None, 0, 5_000_000, 7_000_001])


def task(prompt: str, variant: Variant = ONE, sample: int = 1) -> Task:
    key = Identity(variant).key(canonical(prompt), sample, 1)
    return Task(key, variant, prompt, sample, 1, f"{prompt}-{key}")


async def ask(books: Ledger, *tasks: Task) -> Change:
    """A whole pass of a manifest that asks for these and nothing else."""
    one = books.wanted()
    await one.begin()
    await one.add(tasks)
    return await one.end("mark")


POOL = [task(f"otter {number}", variant) for number in range(2) for variant in (ONE, TWO)]
ENDS = [  # how an attempt may end, and what that may make of its task
    *((A.PAID, T.DONE) for _ in range(2)),
    *((A.UNUSABLE, state) for state in (T.DOING, T.HELD)),
    *((A.REJECTED, state) for state in (T.DOING, T.FAILED, T.REFUSED, T.TODO)),
    (A.UNSENT, T.DOING),
    *((A.UNKNOWN, state) for state in (T.DOING, T.HELD, T.TODO, T.REFUSED)),
]


@dataclass
class Wanted:
    """What the model knows of a task."""

    task: Task
    state: TaskState = T.TODO
    wanted: str = "yes"
    tries: int = 0


@dataclass
class Sent:
    """What the model knows of an attempt."""

    key: str
    purchase: str
    images: int
    high: int | None
    low: int | None = 0
    state: AttemptState = A.SENDING
    allowance: int = 0


@dataclass
class Model:
    tasks: dict[str, Wanted] = field(default_factory=dict)
    sent: dict[str, Sent] = field(default_factory=dict)
    run: int = 1
    names: set[tuple[str, str]] = field(default_factory=set)
    enqueued: str = ""
    chosen: set[str] | None = None

    def scope(self) -> list[str]:
        """What is wanted of what the run is about."""
        wanted = (key for key, each in self.tasks.items() if each.wanted == "yes")
        return [key for key in wanted if self.chosen is None or key in self.chosen]

    def queue(self) -> list[str]:
        return [key for key in self.scope() if self.tasks[key].state is T.TODO]

    def states(self, *wanted: str) -> dict[TaskState, int]:
        counted = Counter(each.state for each in self.tasks.values() if each.wanted in wanted)
        return {state: counted[state] for state in TaskState}

    def purchase(self, key: str) -> str:
        """The purchase that the next attempt must belong to; empty where it must be a new one."""
        fates = [
            each for each in self.sent.values() if each.key == key and each.state in (A.UNKNOWN, A.PAID, A.UNUSABLE)
        ]
        return fates[-1].purchase if fates and fates[-1].state is A.UNKNOWN else ""

    def spent(self) -> Spent:
        bought = (each.images for each in self.sent.values() if each.state not in (A.REJECTED, A.UNSENT))
        high = sum(each.high or 0 for each in self.sent.values())
        return Spent(high, sum(bought), sum(each.allowance for each in self.sent.values()))


class Night(RuleBasedStateMachine):
    """One ledger through a night of runs and crashes. `mine` is claimed, with no request open for it."""

    def __init__(self) -> None:
        super().__init__()
        self.stack = ExitStack()
        self.portal = self.stack.enter_context(start_blocking_portal("asyncio"))
        self.folder = Path(self.stack.enter_context(TemporaryDirectory(dir=FAST if FAST.is_dir() else None)))
        self.path = self.folder / "0.db"
        self.model = Model()
        self.mine: dict[str, Task] = {}
        self.open: dict[str, Attempt] = {}
        ledger.create(self.path, "otters", "zoo", "otters.yaml")
        self.begin_run()

    def begin_run(self) -> None:
        self.closing = ExitStack()
        opened = self.portal.wrap_async_context_manager(ledger.open_for_writing(self.path))
        self.books: Ledger = self.closing.enter_context(opened)
        assert self.books.run == self.model.run

    def call(self, work: Callable[..., Any], *arguments: object) -> Any:
        return self.portal.call(work, *arguments)

    def teardown(self) -> None:
        self.closing.close()
        self.stack.close()

    @initialize()
    def ask_for_all(self) -> None:
        self.ask(set(range(len(POOL))), whole=True, twice=False)

    @rule(which=st.sets(st.sampled_from(range(len(POOL)))), whole=st.booleans(), twice=st.booleans())
    def ask(self, which: set[int], whole: bool, twice: bool) -> None:
        """A pass over a manifest, whole or cut off; equal rows come twice."""
        asked = [POOL[number] for number in sorted(which)]
        names = [(each.mark, f"row {number}") for each, number in zip(asked, sorted(which), strict=True) if number % 2]
        new = [each for each in asked if each.key not in self.model.tasks]
        one = self.books.wanted()
        self.call(one.begin)
        for _ in range(1 + twice):
            self.call(one.add, asked, names)
        self.model.enqueued, self.model.names = UNFINISHED, {(key, name) for (_, key), name in names}
        for each in asked:
            known = self.model.tasks.setdefault(each.key, Wanted(each))
            known.wanted = {"dropped": "yes", "forgone": "waived"}.get(known.wanted, known.wanted)
        if whole:
            unmet = [known for known in self.model.tasks.values() if known.task not in asked]
            dropped = sum(known.wanted == "yes" for known in unmet)
            kept = len(asked) * (1 + twice) - len(new)
            assert self.call(one.end, f"mark {which}") == Change(len(new), kept, dropped)
            self.model.enqueued = f"mark {which}"
            for known in unmet:
                known.wanted = {"yes": "dropped", "waived": "forgone"}.get(known.wanted, known.wanted)

    @precondition(lambda self: self.model.chosen is None)
    @rule(which=st.sets(st.sampled_from(range(len(POOL))), min_size=1))
    def choose(self, which: set[int]) -> None:
        """The rest of this run is about a sample."""
        self.call(self.books.choose, [POOL[number] for number in sorted(which)])
        self.model.chosen = {POOL[number].key for number in which if POOL[number].key in self.model.tasks}

    @rule(states=st.sets(st.sampled_from([T.FAILED, T.REFUSED, T.HELD]), min_size=1))
    def waive(self, states: set[TaskState]) -> None:
        given_up = [each for each in self.model.tasks.values() if each.state in states and each.wanted == "yes"]
        assert self.call(decide.waive, self.path, sorted(states)) == len(given_up)
        for each in given_up:
            each.wanted = "waived"

    @rule(most=st.integers(1, 4), lane=st.sampled_from([LANE, LANE, LANE, "aimlapi"]))
    def claim(self, most: int, lane: str) -> None:
        claimed: list[Task] = self.call(self.books.claim, lane, most)
        assert [each.key for each in claimed] == (self.model.queue()[:most] if lane == LANE else [])
        for each in claimed:
            known = self.model.tasks[each.key]
            assert replace(each, seq=0, tries=0) == known.task
            assert each.tries == known.tries
            assert each.key not in self.mine
            known.state = T.DOING
            self.mine[each.key] = each

    def claimed_one(self, data: st.DataObject) -> str:
        """The key of a task that this run claimed, claiming one where there is none."""
        if not self.mine:
            self.claim(1, LANE)
        return data.draw(st.sampled_from(sorted(self.mine)))

    def open_one(self, data: st.DataObject) -> Attempt:
        """An open attempt, begun where there is none."""
        if not self.open:
            self.begin(data, data.draw(PRICES))
        return self.open[data.draw(st.sampled_from(list(self.open)))]  # in their order: ids are random

    @precondition(lambda self: self.mine)
    @rule(data=st.data())
    def release(self, data: st.DataObject) -> None:
        keys = data.draw(st.sets(st.sampled_from(sorted(self.mine)), min_size=1))
        self.call(self.books.release, [self.mine.pop(key) for key in sorted(keys)])
        for key in keys:
            self.model.tasks[key].state = T.TODO

    @precondition(lambda self: self.mine or self.model.queue())
    @rule(data=st.data(), high=PRICES)
    def begin(self, data: st.DataObject, high: int | None) -> None:
        claimed = self.mine.pop(self.claimed_one(data))
        attempt: Attempt = self.call(self.books.begin, claimed, LANE, "local", high)
        earlier = {each.purchase for each in self.model.sent.values()}
        expected = self.model.purchase(claimed.key)
        assert attempt.purchase == expected if expected else attempt.purchase not in earlier
        assert attempt.id not in self.model.sent
        self.open[attempt.id] = attempt
        low = None if high is None else 0
        self.model.sent[attempt.id] = Sent(claimed.key, attempt.purchase, claimed.variant.images, high, low)

    @precondition(lambda self: self.open or self.mine or self.model.queue())
    @rule(data=st.data())
    def accept(self, data: st.DataObject) -> None:
        attempt = self.open_one(data)
        self.call(self.books.accept, attempt)
        self.model.sent[attempt.id].state = A.ACCEPTED

    @precondition(lambda self: self.open or self.mine or self.model.queue())
    @rule(data=st.data(), end=st.sampled_from(ENDS), used_up=st.booleans(), cost=st.integers(0, 10**7))
    def settle(self, data: st.DataObject, end: tuple[AttemptState, TaskState], used_up: bool, cost: int) -> None:
        attempt = self.open.pop(self.open_one(data).id)
        settled = settlement(attempt, *end, used_up, cost)
        self.call(self.books.settle, attempt, settled)
        known, sent = self.model.tasks[attempt.task.key], self.model.sent[attempt.id]
        known.state, known.tries = end[1], known.tries + used_up
        sent.state, sent.low, sent.high, sent.allowance = end[0], settled.cost_low, settled.cost_high, settled.allowance
        if end[1] is T.DOING:
            self.mine[known.task.key] = attempt.task
        with pytest.raises(ValueError, match="settled before"):
            self.call(self.books.settle, attempt, settlement(attempt, A.REJECTED, T.FAILED, True, 0))

    @rule(states=st.sets(st.sampled_from([T.FAILED, T.REFUSED, T.HELD])))
    def reopen(self, states: set[TaskState]) -> None:
        known = self.model.tasks.values()
        ended = [each for each in known if each.state in states and each.wanted in ("yes", "waived")]
        assert self.call(self.books.reopen, sorted(states)) == len(ended)
        for each in ended:
            each.state, each.tries, each.wanted = T.TODO, 0, "yes"

    @rule()
    def crash(self) -> None:
        """The process is killed: what a new one finds are the files as they lie on the disk now."""
        self.model.run += 1
        self.model.chosen = None
        found = self.folder / f"{self.model.run}.db"
        for suffix in ("", "-wal"):
            shutil.copy(f"{self.path}{suffix}", f"{found}{suffix}")
        self.closing.close()
        self.path = found
        self.begin_run()
        self.recover()

    def recover(self) -> None:
        orphans = [key for key in self.model.tasks if key in self.mine]
        assert self.call(self.books.release_orphans) == len(orphans)
        for key in orphans:
            self.model.tasks[key].state = T.TODO
        self.mine.clear()
        found: list[Attempt] = self.call(self.books.open_attempts)
        assert [plain(each) for each in found] == [plain(each) for each in self.open.values()]
        self.open = {each.id: each for each in found}

    @invariant()
    def every_task_is_in_one_state(self) -> None:
        counted = Counter(self.model.tasks[key].state for key in self.model.scope())
        assert self.call(self.books.states) == {state: counted[state] for state in TaskState}
        with shelf.opened(self.path) as there:
            volumes = there.volumes()
        assert sum(volume.tasks for volume in volumes) == sum(self.model.states("yes").values())

    @invariant()
    def the_sums_are_right(self) -> None:
        assert self.call(self.books.spent) == self.model.spent()
        known = {key: each.state for key, each in self.model.sent.items()}
        assert self.call(self.books.attempt_states, [*known, "stranger"]) == known

    @invariant()
    def what_readers_see_agrees(self) -> None:
        with books.reading(self.path) as db:
            assert troubles.troubles(db) == []
            attempts = Counter(each.state for each in self.model.sent.values())
            tallies = sums.tallies([db])
        assert tallies.attempt_states() == {str(state): attempts[state] for state in AttemptState}
        money, sent = tallies.money(), self.model.sent.values()
        assert (money.low, money.high) == (sum(s.low or 0 for s in sent), sum(s.high or 0 for s in sent))
        wanted = (s for s in sent if self.model.tasks[s.key].wanted == "yes")
        assert tallies.saved() == sum(s.images for s in wanted if s.state is A.PAID)
        assert tallies.task_states() == self.model.states("yes")

    @invariant()
    def what_a_comparison_sees_agrees(self) -> None:
        with shelf.opened(self.path) as there:
            known = there.known([each.mark for each in POOL])
            assert {key: (state, wanted) for key, (_, state, wanted, *_) in known.items()} == {
                key: (each.state, each.wanted) for key, each in self.model.tasks.items()
            }
            assert there.prompts([prompt_digest(each.prompt) for each in POOL]) == {
                prompt_digest(each.task.prompt) for each in self.model.tasks.values()
            }
            assert there.spent() == self.model.spent().high
            assert there.enqueued() == self.model.enqueued
            states, volumes = self.model.states("yes"), there.volumes()
            assert sum(each.todo for each in volumes) == states[T.TODO] + states[T.DOING]
            assert sum(each.done for each in volumes) == states[T.DONE]
            named = there.db.execute("SELECT t.key, n.id FROM names n JOIN tasks t ON t.seq = n.task")
            assert set(named) == self.model.names


def plain(attempt: Attempt) -> tuple[object, ...]:
    return attempt.id, attempt.task.key, attempt.purchase, attempt.lane, attempt.cost_high


def settlement(attempt: Attempt, state: AttemptState, end: TaskState, used_up: bool, cost: int) -> Settlement:
    """One that fits its end: paid ones have images and usage, unknown ones their highest price and an allowance."""
    paid = state is A.PAID
    perhaps = state in (A.UNKNOWN, A.UNUSABLE)
    high = cost if paid else attempt.cost_high if perhaps else 0
    return Settlement(
        state,
        end,
        cost_low=cost if paid else None if high is None else 0,
        cost_high=high,
        allowance=(high or 0) if perhaps and end is T.DOING else 0,
        used_up=used_up,
        images=tuple(saved(index, attempt.id) for index in range(attempt.task.variant.images if paid else 0)),
        usage=Usage(input_text=3, output_image=196, total=199) if paid else None,
    )


def saved(index: int, name: str) -> Image:
    return Image(index, ImageState.SAVED, f"{name}-{index}.png", "0" * 64, 100, "png", 16, 16)


TestNight = Night.TestCase
TestNight.settings = settings(
    max_examples=20,
    stateful_step_count=40,
    deadline=None,
    suppress_health_check=list(HealthCheck),
    phases=[Phase.explicit, Phase.reuse, Phase.generate],  # to shrink a night takes minutes
)


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    ledger.create(tmp_path / "ledger.db", "otters", "zoo", "otters.yaml")
    return tmp_path / "ledger.db"


def test_d19_a_new_ledger_is_whole_private_and_alone(path: Path) -> None:
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [each.name for each in path.parent.iterdir()] == ["ledger.db"]
    assert books.job(path).project == "zoo"


def test_what_a_crash_left_of_a_new_ledger_is_replaced(tmp_path: Path) -> None:
    (tmp_path / ".ledger.db.part").write_bytes(b"half of")
    ledger.create(tmp_path / "ledger.db", "otters", "", "otters.yaml")
    assert [each.name for each in tmp_path.iterdir()] == ["ledger.db"]


@pytest.mark.anyio
async def test_p16_a_newer_ledger_is_refused(path: Path) -> None:
    with sqlite3.connect(path) as db:
        db.execute("PRAGMA user_version = 4")
    db.close()
    with pytest.raises(StorageError, match="schema 4, this one reads 3"):
        async with ledger.open_for_writing(path):
            pass


@pytest.fixture
def ruined(path: Path) -> Path:
    path.write_bytes(b"no database at all" * 100)
    return path


@pytest.mark.anyio
async def test_d13_what_is_no_database_is_a_storage_error(ruined: Path) -> None:
    with pytest.raises(StorageError, match="no readable ledger"):
        async with ledger.open_for_writing(ruined):
            pass


@pytest.fixture
def rotten(path: Path) -> Path:
    pages = bytearray(path.read_bytes())
    pages[2 * 4096 : 2 * 4096 + 64] = b"?" * 64
    path.write_bytes(pages)
    return path


@pytest.mark.anyio
async def test_d13_a_page_that_rotted_is_noticed_before_anything_is_sent(rotten: Path) -> None:
    with pytest.raises(StorageError, match=r"damaged|malformed"):
        async with ledger.open_for_writing(rotten):
            pass


@pytest.mark.anyio
async def test_a_ledger_that_is_gone_is_a_storage_error(tmp_path: Path) -> None:
    with pytest.raises(StorageError):
        async with ledger.open_for_writing(tmp_path / "ledger.db"):
            pass


@pytest.mark.anyio
async def test_wal_and_full_sync_hold_what_was_acknowledged(path: Path) -> None:
    """D7: NORMAL lost something in every simulated power cut."""
    async with ledger.open_for_writing(path) as one:
        pragmas = ("journal_mode", "synchronous", "foreign_keys")
        found = await one._write(lambda db: [db.execute(f"PRAGMA {name}").fetchone()[0] for name in pragmas])
    assert found == ["wal", 2, 1]


@pytest.mark.anyio
async def test_a_settlement_is_written_whole_or_not_at_all(path: Path) -> None:
    async with ledger.open_for_writing(path) as one:
        await ask(one, task("otter"))
        (claimed,) = await one.claim(LANE, 1)
        attempt = await one.begin(claimed, LANE, "local", 5)
        twice = replace(settlement(attempt, A.PAID, T.DONE, True, 4), images=(saved(0, "a"), saved(0, "b")))
        with pytest.raises(sqlite3.IntegrityError):
            await one.settle(attempt, twice)
        assert [plain(each) for each in await one.open_attempts()] == [plain(attempt)]
        assert (await one.states())[T.DOING] == 1
        assert await one.spent() == Spent(5, 1, 0)
    with books.reading(path) as db:
        assert sums.tallies([db]).saved() == 0


FATES = [  # how attempts of one task ended in turn, and whether the next one belongs to the last one's purchase
    ([], False),
    ([A.UNKNOWN], True),
    ([A.UNKNOWN, A.UNKNOWN], True),
    ([A.UNKNOWN, A.REJECTED], True),
    ([A.UNKNOWN, A.UNSENT, A.REJECTED], True),
    ([A.UNKNOWN, A.UNUSABLE], False),
    ([A.UNKNOWN, A.UNUSABLE, A.REJECTED], False),
    ([A.UNKNOWN, A.UNUSABLE, A.UNKNOWN], True),
    ([A.UNUSABLE], False),
    ([A.REJECTED], False),
    ([A.UNSENT], False),
]


@pytest.mark.parametrize(("fates", "kept"), FATES)
@pytest.mark.anyio
async def test_a_purchase_is_kept_exactly_while_its_fate_is_unknown(
    path: Path, fates: list[AttemptState], kept: bool
) -> None:
    async with ledger.open_for_writing(path) as one:
        await ask(one, task("otter"))
        (claimed,) = await one.claim(LANE, 1)
        purchases = [""]
        for fate in fates:
            attempt = await one.begin(claimed, LANE, "local", 5)
            await one.settle(attempt, settlement(attempt, fate, T.DOING, True, 0))
            purchases.append(attempt.purchase)
        last = (await one.begin(claimed, LANE, "local", 5)).purchase
        unknown = [purchase for purchase, fate in zip(purchases[1:], fates, strict=True) if fate is A.UNKNOWN]
    assert (last == unknown[-1] if kept else last not in purchases) is True


@pytest.mark.anyio
async def test_every_manifest_that_was_used_is_kept_once(path: Path) -> None:
    async with ledger.open_for_writing(path) as one:
        for text in ("a: 1", "a: 2", "a: 1"):
            await one.wanted().keep(text, {}, False)
        await one.wanted().keep("a: 1", {"b.c": 2}, False)
        await one.end(3, "1 failed")
    with books.reading(path) as db:
        assert db.execute("SELECT count(*) FROM manifests").fetchone()[0] == 3
        assert tuple(db.execute("SELECT exit_code, reason FROM runs").fetchone()) == (3, "1 failed")


@pytest.mark.anyio
async def test_the_manifest_that_was_used_last_is_known_with_what_was_set_beside_it(path: Path) -> None:
    used: list[tuple[str, dict[str, object], bool]] = [
        ("a: 1", {}, False),
        ("a: 1", {"b.c": 2, "d": "Füße"}, True),
        ("a: 2", {}, False),
        ("a: 1", {}, True),
    ]
    async with ledger.open_for_writing(path) as one:
        for text, overrides, rehearsed in used:
            await one.wanted().keep(text, overrides, rehearsed)
            with shelf.opened(path) as there:
                assert there.used() == (text, overrides, rehearsed)


@pytest.mark.anyio
async def test_u8_a_prompt_is_stored_as_it_is(path: Path) -> None:
    prompts = ["", " ", "Ein „Otter“ ❄", "a\nb\r\n", "'; DROP TABLE tasks; --", "x" * 10**6]
    async with ledger.open_for_writing(path) as one:
        await ask(one, *(task(prompt) for prompt in prompts))
        assert [each.prompt for each in await one.claim(LANE, 10)] == prompts
    with shelf.opened(path) as there:
        volumes = there.volumes()
    assert sum(volume.of_todo[0] for volume in volumes) == sum(len(prompt.encode()) for prompt in prompts)


@pytest.mark.anyio
async def test_a_block_of_tasks_that_was_taken_back_leaves_no_trace(path: Path) -> None:
    bad = replace(task("bad", TWO), prompt="\ud800")
    async with ledger.open_for_writing(path) as one:
        wanted = one.wanted()
        with pytest.raises(UnicodeEncodeError):
            await wanted.add([task("otter", TWO), bad])
        await wanted.add([task("otter", ONE), task("heron", TWO)])
        assert [each.variant for each in await one.claim(LANE, 2)] == [ONE, TWO]


@pytest.mark.anyio
async def test_what_is_not_bought_yet_goes_where_the_last_pass_says_and_what_is_bought_stays(path: Path) -> None:
    there = Variant("openai", "gpt-image-2", Operation.GENERATE, ONE.params, ())
    async with ledger.open_for_writing(path) as one:
        await ask(one, task("otter"), task("heron"))
        (claimed,) = await one.claim(LANE, 1)
        attempt = await one.begin(claimed, LANE, "local", 5)
        await one.settle(attempt, settlement(attempt, A.PAID, T.DONE, True, 4))
        moved = [replace(task(prompt), variant=there, path=f"elsewhere/{prompt}") for prompt in ("otter", "heron")]
        assert await ask(one, *moved) == Change(0, 2, 0)
        (claimed,) = await one.claim(LANE, 2)
        assert (claimed.path, claimed.variant) == ("elsewhere/heron", there)
    with books.reading(path) as db:
        assert [row[0] for row in db.execute("SELECT path FROM tasks")] == [task("otter").path, "elsewhere/heron"]


@pytest.mark.anyio
async def test_what_is_made_keeps_what_was_asked_for_it_under_the_axes_of_now(path: Path) -> None:
    """A transport parameter makes no other task, but what is there came without it."""
    streamed = (("quality", "low"), ("stream", True))
    now = Variant("openai", "gpt-image-2", Operation.GENERATE, streamed, streamed)
    async with ledger.open_for_writing(path) as one:
        await ask(one, task("otter"), task("heron"))
        (claimed,) = await one.claim(LANE, 1)
        attempt = await one.begin(claimed, LANE, "local", 5)
        await one.settle(attempt, settlement(attempt, A.PAID, T.DONE, True, 4))
        for _ in range(2):
            assert await ask(one, *(replace(task(prompt), variant=now) for prompt in ("otter", "heron"))) == Change(
                0, 2, 0
            )
    with books.reading(path) as db:
        sql = "SELECT v.params, v.axes FROM tasks t JOIN variants v ON v.id = t.variant ORDER BY t.seq"
        found = [(json.loads(params), json.loads(axes)) for params, axes in db.execute(sql)]
    assert found == [(dict(ONE.params), dict(streamed)), (dict(streamed), dict(streamed))]


@pytest.mark.anyio
async def test_of_a_sample_only_what_was_chosen_is_claimed(path: Path) -> None:
    tasks = [task(f"otter {number}") for number in range(4)]
    async with ledger.open_for_writing(path) as one:
        await ask(one, *tasks)
        await one.choose([tasks[3], tasks[1], task("stranger")])
        assert (await one.states())[T.TODO] == 2
        assert [each.prompt for each in await one.claim(LANE, 9)] == ["otter 1", "otter 3"]
        with shelf.opened(path) as there:
            assert [volume.tasks for volume in there.volumes()] == [4], "the estimate is the whole job's"
