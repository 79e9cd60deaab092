"""The sums of a ledger, taken piece by piece in threads, are those of its rows; and all are of one moment."""

import sqlite3
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from batchgen import books, ledger, report, sums
from batchgen.task import AttemptState, ImageState, TaskState

APART = sums.PIECE // 4  # so that a few rows take several pieces, and some lie where one begins
VARIANTS = 3
GONE = ("dropped", "waived", "forgone")


@dataclass(frozen=True, slots=True)
class TaskRow:
    variant: int
    state: TaskState
    wanted: str


@dataclass(frozen=True, slots=True)
class AttemptRow:
    task: int
    state: AttemptState
    cost: tuple[int, int] | None
    estimated: bool
    tokens: tuple[int, int, int, int, int] | None  # input: text, images; output: images, text; all

    @property
    def low(self) -> int:
        return self.cost[0] if self.cost else 0

    @property
    def high(self) -> int:
        return self.cost[1] if self.cost else 0

    @property
    def is_paid(self) -> bool:
        exact = self.cost is not None and self.low == self.high and not self.estimated
        return exact and self.state in ("paid", "unusable")


@dataclass(frozen=True, slots=True)
class ImageRow:
    task: int
    index: int
    state: ImageState
    bytes: int


@dataclass(frozen=True, slots=True)
class Night:
    tasks: list[TaskRow]
    attempts: list[AttemptRow]
    images: list[ImageRow]


COST = st.none() | st.tuples(st.integers(0, 10**12), st.integers(0, 10**12)).map(lambda two: (min(two), max(two)))
PRICE = COST | st.integers(0, 10**12).map(lambda cost: (cost, cost))
COUNT = st.integers(0, 10**6)


@st.composite
def nights(draw: st.DrawFn) -> Night:
    wanted = st.sampled_from(["yes", "yes", *GONE, "6bz4xq7cl5mdwyta"])
    rows = st.builds(TaskRow, st.integers(1, VARIANTS), st.sampled_from(TaskState), wanted)
    tasks = draw(st.lists(rows, max_size=8))
    if not tasks:
        return Night([], [], [])
    task, states = st.integers(0, len(tasks) - 1), st.sampled_from(AttemptState)
    tokens = st.none() | st.tuples(COUNT, COUNT, COUNT, COUNT, COUNT)
    attempts = draw(st.lists(st.builds(AttemptRow, task, states, PRICE, st.booleans(), tokens), max_size=12))
    pictures = st.builds(ImageRow, task, st.integers(0, 2), st.sampled_from(ImageState), COUNT)
    saved_once = draw(
        st.lists(
            pictures,
            max_size=12,
            unique_by=lambda one: (one.task, one.index, one.state, one.bytes * (one.state != "saved")),
        )
    )
    return Night(tasks, attempts, saved_once)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    ledger.create(tmp_path / "ledger.db", "otters", "zoo", "otters.yaml")
    return tmp_path / "ledger.db"


def write(path: Path, night: Night) -> None:
    """The rows as they are, in place of all that were there."""
    with closing(sqlite3.connect(path)) as db, db:
        for table in ("images", "attempts", "tasks", "variants"):
            db.execute(f"DELETE FROM {table}")
        for number in range(1, VARIANTS + 1):
            values = (number, "openai", "gpt-image-2", "generate", "{}", f'{{"size": {number}}}')
            db.execute("INSERT INTO variants VALUES (?, ?, ?, ?, ?, ?)", values)
        for at, task in enumerate(night.tasks):
            db.execute(
                "INSERT INTO tasks (seq, key, pool, variant, prompt, sample, take, path, state, wanted)"
                " VALUES (?, ?, 'openai', ?, 1, 1, 1, '', ?, ?)",
                (at * APART, f"{at}", task.variant, task.state, task.wanted),
            )
        for at, sent in enumerate(night.attempts):
            db.execute(
                "INSERT INTO attempts (seq, id, task, run, purchase, lane, engine, state, images, cost_low, cost_high,"
                " estimated, sent_at, input_text_tokens, input_image_tokens, output_image_tokens, output_text_tokens,"
                " total_tokens) VALUES (?, ?, ?, 1, '', 'openai', 'local', ?, 1, ?, ?, ?, '', ?, ?, ?, ?, ?)",
                (at * APART, f"{at}", sent.task * APART, sent.state, *(sent.cost or (None, None)), sent.estimated)
                + (sent.tokens or (None,) * 5),
            )
        for at, image in enumerate(night.images):
            db.execute(
                "INSERT INTO images VALUES (?, ?, 1, ?, ?, '', '', ?, 'png', 1, 1, '', '')",
                (at * APART, image.task * APART, image.index, image.state, image.bytes),
            )


def tokens(rows: Iterable[AttemptRow], *columns: int) -> int:
    return sum(row.tokens[column] for row in rows if row.tokens for column in columns)


def usd(rows: Iterable[AttemptRow], which: Callable[[AttemptRow], bool] = lambda row: True) -> float:
    return report.usd(sum(row.high for row in rows if which(row)))


def plain(night: Night) -> dict[str, object]:
    """The report's figures as loops over the rows."""
    wanted = [task.wanted == "yes" for task in night.tasks]
    states = Counter(task.state for task in night.tasks if task.wanted == "yes")
    sent = Counter(attempt.state for attempt in night.attempts)
    gone = sum(task.wanted in GONE for task in night.tasks)
    pictures = [image for image in night.images if wanted[image.task]]
    places = {state: {(one.task, one.index) for one in pictures if one.state == state} for state in ImageState}
    missing = [
        place for place in places[ImageState.BROKEN] - places[ImageState.SAVED] if night.tasks[place[0]].state == "done"
    ]
    return {
        "tasks": {"total": sum(wanted), **{str(state): states[state] for state in TaskState}},
        "not_wanted": {"dropped": gone, "replaced": len(wanted) - sum(wanted) - gone},
        "images": {
            "saved": len(places[ImageState.SAVED]),
            "missing": len(missing),
            "bytes": sum(image.bytes for image in pictures),
        },
        "attempts": {"total": len(night.attempts), **{str(state): sent[state] for state in AttemptState}},
        "usage": {
            "input_text_tokens": tokens(night.attempts, 0),
            "input_image_tokens": tokens(night.attempts, 1),
            "output_tokens": tokens(night.attempts, 2, 3),
            "total_tokens": tokens(night.attempts, 4),
        },
    }


OPEN = ("sending", "accepted")


def plain_cost(night: Night) -> dict[str, object]:
    rows, tasks = night.attempts, night.tasks
    paid = [row for row in rows if row.state == "paid"]
    told = [row for row in rows if row.is_paid]
    estimated = [row for row in rows if row.estimated]
    held = [at for at, task in enumerate(tasks) if (task.state, task.wanted) == ("held", "yes")]
    unknown = sum(row.high for row in rows) - sum(row.high for row in told) - sum(row.high for row in estimated)
    unpriced = sum(row.cost is None for row in rows)
    return {
        "paid": usd(told),
        "estimated": usd(estimated),
        "unknown": report.usd(unknown),
        "low": report.usd(sum(row.low for row in rows)),
        "high": None if unpriced else usd(rows),
        "answers": len(told),
        "on_the_way": usd(rows, lambda row: row.state in OPEN),
        "doubted": sum(row.low < row.high and not row.estimated and row.state not in OPEN for row in rows),
        "unpriced_attempts": unpriced,
        "avoided": report.usd(sum(max((row.high for row in rows if row.task == at), default=0) for at in held)),
        "spent_on": {
            "kept": usd(paid, lambda row: tasks[row.task].wanted == "yes"),
            "replaced": usd(paid, lambda row: tasks[row.task].wanted not in ("yes", *GONE)),
            "dropped": usd(paid, lambda row: tasks[row.task].wanted in GONE),
            "unusable": usd(row for row in rows if row.state == "unusable"),
        },
    }


def plain_groups(night: Night) -> Iterator[dict[str, object]]:
    for variant in range(1, VARIANTS + 1):
        own = {at for at, task in enumerate(night.tasks) if (task.variant, task.wanted) == (variant, "yes")}
        rows = [row for row in night.attempts if row.task in own]
        known = not any(row.cost is None for row in rows) or sum(row.high for row in rows) > 0
        if own:
            yield {
                "axes": {"size": variant},
                "tasks": len(own),
                "images": sum(image.state == "saved" and image.task in own for image in night.images),
                "input_tokens": tokens(rows, 0, 1),
                "output_tokens": tokens(rows, 2, 3),
                "paid": usd(rows, lambda row: row.is_paid) if known else None,
                "low": report.usd(sum(row.low for row in rows)) if known else None,
                "high": usd(rows) if known else None,
            }


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(night=nights())
def test_every_figure_of_the_report_is_a_plain_sum_over_the_rows(path: Path, night: Night) -> None:
    write(path, night)
    told = report.build(path)
    assert {name: told[name] for name in plain(night)} == plain(night)
    cost, groups, expected = told["cost"], told["groups"], plain_cost(night)
    assert isinstance(cost, dict)
    assert {name: cost[name] for name in expected} == expected
    assert isinstance(groups, list)
    alike = dict.fromkeys(("provider", "model", "operation"))
    assert [{name: group[name] for name in group if name not in alike} for group in groups] == [*plain_groups(night)]
    totals = report.totals(path)
    assert totals == {name: told[name] for name in totals}
    check_by_variant(path, night)


def check_by_variant(path: Path, night: Night) -> None:
    """What `costs` sums for itself is the same money."""
    with books.reading(path) as db:
        bought, money = books.bought(db), sums.tallies([db]).money()
    for name in ("low", "high", "paid", "estimated", "unpriced"):
        assert sum(getattr(row, name) for row in bought) == getattr(money, name)
    assert sum(row.attempts for row in bought) == len(night.attempts)


def test_who_begins_while_something_is_written_is_told(path: Path) -> None:
    with (
        closing(sqlite3.connect(path)) as watch,
        closing(sqlite3.connect(path)) as one,
        closing(sqlite3.connect(path)) as two,
        closing(sqlite3.connect(path)) as writer,
    ):

        def disturbed() -> Iterator[books.Connection]:
            yield one
            with writer:
                writer.execute("UPDATE job SET enqueued = 'more'")
            yield two

        assert not books.begin_together(watch, disturbed())
        for db in (one, two):
            db.rollback()
        assert books.begin_together(watch, [one, two])


def test_all_threads_see_the_same_moment_while_a_run_writes(path: Path) -> None:
    done = threading.Event()

    def work() -> None:
        with closing(sqlite3.connect(path, isolation_level=None)) as db:
            db.execute("PRAGMA synchronous = OFF")
            while not done.is_set():
                db.execute("UPDATE job SET enqueued = CAST(enqueued + 1 AS TEXT)")

    thread = threading.Thread(target=work)
    thread.start()
    try:
        seen = set()
        for _ in range(50):
            with books.reading_together(path) as dbs:
                moments = {db.execute("SELECT enqueued FROM job").fetchone()[0] for db in dbs}
            assert len(moments) == 1
            seen |= moments
    finally:
        done.set()
        thread.join()
    assert len(seen) > 1
