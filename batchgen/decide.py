"""What a person decides about tasks that ended without an image, and about attempts of unknown fate."""

import sqlite3
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from batchgen import commit, records
from batchgen.errors import UsageError
from batchgen.task import AttemptState, TaskState, Variant

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Resolved:
    """Attempts whose fate was stated, and what they may have cost by that, at least and at most; nano-dollars.

    `unpriced` of them cost what nobody knows.
    """

    attempts: int
    low: int
    high: int
    unpriced: int


def reopen(db: sqlite3.Connection, states: Sequence[TaskState]) -> int:
    """Send tasks that ended without an image back to the queue, with fresh tries; also those that were waived."""
    marks = ", ".join("?" * len(states))
    sql = (
        "UPDATE tasks SET state = 'todo', tries = 0, replay = 0, wanted = 'yes'"
        f" WHERE wanted IN ('yes', 'waived') AND state IN ({marks})"
    )
    return db.execute(sql, [str(state) for state in states]).rowcount


async def waive(ledger: Path, states: Sequence[TaskState]) -> int:
    """Give up tasks of these states; the manifest may go on asking for them. The caller holds the folder."""
    marks = ", ".join("?" * len(states))
    sql = f"UPDATE tasks SET wanted = 'waived' WHERE wanted = 'yes' AND state IN ({marks})"
    return await _write(ledger, lambda db: db.execute(sql, [str(state) for state in states]).rowcount)


async def resolve(ledger: Path, billed: bool, attempts: Sequence[str], least: Callable[[Variant], int]) -> Resolved:
    """State what became of attempts of unknown fate: those named, or all. The caller holds the folder.

    One that is accepted, because the provider is said to hold its images still, may be named too: it is given up. One
    that was billed is an answer that was paid for and brought nothing: it cost `least` of its variant or more, and its
    highest price at most. One that was not billed cost nothing. UsageError where a name is no such attempt's; then
    nothing is changed.
    """

    def work(db: sqlite3.Connection) -> Resolved:
        open_ = "SELECT id FROM attempts WHERE state = 'unknown' AND images > 0"
        chosen = attempts or [row[0] for row in db.execute(open_)]
        _check_purchases(db, attempts, billed)
        found = [_state(db, each, billed, least) for each in dict.fromkeys(_bearer(db, one) for one in chosen)]
        priced = [(low, high) for low, high in found if high is not None]
        low, high = sum(low for low, _ in priced), sum(high for _, high in priced)
        return Resolved(len(found), low, high, len(found) - len(priced))

    return await _write(ledger, work)


def _bearer(db: sqlite3.Connection, attempt: str) -> str:
    """Who bears what an attempt cost: the last sending of its purchase, where the provider knew its key."""
    row = db.execute("SELECT task, purchase FROM attempts WHERE id = ? AND images = 0", (attempt,)).fetchone()
    sql = "SELECT id FROM attempts WHERE task = ? AND purchase = ? AND images > 0 AND state <> 'rejected'"
    bearer = db.execute(f"{sql} ORDER BY seq DESC LIMIT 1", row).fetchone() if row else None
    return str(bearer[0]) if bearer else attempt


def _check_purchases(db: sqlite3.Connection, attempts: Sequence[str], billed: bool) -> None:
    """UsageError where a purchase is called not billed by some of its sendings only: any of them may be."""
    sql = (
        "SELECT b.id, b.images FROM attempts a JOIN attempts b ON b.task = a.task AND b.purchase = a.purchase"
        " WHERE a.id = ? AND b.state = 'unknown' ORDER BY b.seq"
    )
    for attempt in attempts if not billed else ():
        found = db.execute(sql, (attempt,)).fetchall()
        whole = [id_ for id_, _ in found]
        if any(images == 0 for _, images in found) and not set(whole) <= set(attempts):
            says = f"{attempt} is one of {len(whole)} sendings of one purchase, which may be billed under any of them"
            raise UsageError(f"{says}: name all, {' '.join(whole)}. Nothing was changed.")


def _state(
    db: sqlite3.Connection, attempt: str, billed: bool, least: Callable[[Variant], int]
) -> tuple[int, int | None]:
    row = db.execute(
        "SELECT a.state, a.cost_high, v.provider, v.model, v.operation, v.params, v.axes FROM attempts a"
        " JOIN tasks t ON t.seq = a.task JOIN variants v ON v.id = t.variant WHERE a.id = ?",
        (attempt,),
    ).fetchone()
    open_ = "SELECT 1 FROM attempts a JOIN batches b ON b.seq = a.batch WHERE a.id = ? AND b.state <> 'over'"
    if db.execute(open_, (attempt,)).fetchone():
        says = "is in a batch that is open: batchgen run collects it, batchgen set RUN cancelled=true ends it"
        raise UsageError(f"{attempt} {says}. Nothing was changed.")
    if row is None or row[0] not in (AttemptState.UNKNOWN, AttemptState.ACCEPTED):
        known = f"is {row[0]}, not unknown" if row else "is no attempt of this run"
        raise UsageError(f"{attempt} {known}; batchgen report RUN --attempts unknown lists them. Nothing was changed.")
    if row[0] == AttemptState.ACCEPTED:  # nobody waits for it any more
        left = TaskState.HELD if billed else TaskState.TODO
        sql = "UPDATE tasks SET state = ? WHERE state = 'doing' AND seq = (SELECT task FROM attempts WHERE id = ?)"
        db.execute(sql, (str(left), attempt))
    _unbind(db, attempt, billed)
    high = row[1] if billed else 0
    low = min(high or 0, least(records.variant(row[2:]))) if billed else 0
    said = f"stated by hand at {records.now()}: {'billed' if billed else 'not billed'}; before: "
    db.execute(
        "UPDATE attempts SET state = ?, cost_low = ?, cost_high = ?, estimated = ?, allowance = allowance * ?,"
        " error = ? || error, ended_at = coalesce(ended_at, ?) WHERE id = ?",
        (_STATED[billed], None if high is None else low, high, billed, billed, said, records.now(), attempt),
    )
    return low, high


def _unbind(db: sqlite3.Connection, attempt: str, billed: bool) -> None:
    """Its fate is known: the task's next sending is a purchase of its own, and what was billed waits for a person."""
    sql = "UPDATE tasks SET replay = 0, state = ? WHERE state = 'todo' AND replay = 1 AND seq ="
    after = TaskState.HELD if billed else TaskState.TODO
    db.execute(f"{sql} (SELECT task FROM attempts WHERE id = ?)", (str(after), attempt))
    if not billed:  # nor was any other sending of the same purchase
        sql = "UPDATE attempts SET state = 'rejected' WHERE images = 0 AND state = 'unknown' AND (task, purchase) ="
        db.execute(f"{sql} (SELECT task, purchase FROM attempts WHERE id = ?)", (attempt,))


_STATED = {True: str(AttemptState.UNUSABLE), False: str(AttemptState.REJECTED)}


async def _write(ledger: Path, work: Callable[[sqlite3.Connection], T]) -> T:
    async with commit.writer(ledger) as group:
        return await group.write(work)
