"""What must be true of a run folder and the bill, whatever was done to the run. Shares no code with batchgen."""

import hashlib
import json
import sqlite3
import zlib
from collections import Counter, defaultdict
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

Row = dict[str, Any]
OPEN = ("sending", "accepted")
PERHAPS_BILLED = ("unknown", "unusable", *OPEN)


@dataclass(frozen=True, slots=True)
class Violation:
    """`kind` is what the table counts: lost, changed, stranger, twice, or another word."""

    kind: str
    says: str


@dataclass(frozen=True, slots=True)
class Books:
    """Both sides at one moment: the provider's charges, and the ledger's rows."""

    charges: list[Row]
    tasks: list[Row]
    attempts: list[Row]
    images: list[Row]
    troubles: list[str]

    def by_attempt(self) -> dict[str, list[int]]:
        """What each attempt was charged, by its id; nano-dollars."""
        found: dict[str, list[int]] = defaultdict(list)
        for charge in self.charges:
            found[charge["client_request_id"]].append(charge["nano_usd"])
        return found

    def count(self, *states: str) -> int:
        return sum(attempt["state"] in states for attempt in self.attempts)

    def twice(self) -> int:
        """Charges beyond the first of a task."""
        task = {attempt["id"]: attempt["task"] for attempt in self.attempts}
        known = [task[charge["client_request_id"]] for charge in self.charges if charge["client_request_id"] in task]
        return len(known) - len(set(known))


def read(run: Path, bill: Path) -> Books:
    """The bill first: whatever it holds, the ledger knew before."""
    charges = [json.loads(line) for line in bill.read_text().splitlines()]
    ledger = run / "ledger.db"
    if not ledger.exists():
        return Books(charges, [], [], [], [])
    try:
        with closing(sqlite3.connect(f"{ledger.as_uri()}?mode=ro", uri=True)) as db:
            tasks, attempts, images = (_rows(db, name) for name in ("tasks", "attempts", "images"))
            return Books(charges, tasks, attempts, images, _troubles(db))
    except sqlite3.Error as error:
        return Books(charges, [], [], [], [str(error)])


def _rows(db: sqlite3.Connection, table: str) -> list[Row]:
    cursor = db.execute(f"SELECT * FROM {table}")
    names = [column[0] for column in cursor.description]
    return [dict(zip(names, row, strict=True)) for row in cursor]


def _troubles(db: sqlite3.Connection) -> list[str]:
    """What SQLite itself finds wrong."""
    found = [row[0] for row in db.execute("PRAGMA integrity_check") if row[0] != "ok"]
    return found + [f"a row of {row[0]} refers to nothing" for row in db.execute("PRAGMA foreign_key_check")]


@dataclass(slots=True)
class Checker:
    """Follows one run folder through all that happens to it, and remembers what was ever reported as saved."""

    run: Path
    bill: Path
    workers: int
    hold: bool
    violations: list[Violation] = field(default_factory=list)
    worst: int = 0  # requests of unknown fate after one kill
    _saved: dict[str, tuple[str, int]] = field(default_factory=dict)
    _cut_off: set[str] = field(default_factory=set)  # attempts that were open at a kill

    def after_kill(self) -> Books:
        """Nothing that was reported may be wrong, even before the next run mends what it finds."""
        books = self._look()
        self._cut_off |= {attempt["id"] for attempt in books.attempts if attempt["state"] in OPEN}
        return books

    def at_end(self) -> Books:
        """After a run that ended by itself, or drained: everything must be in order."""
        books = self._look()
        for check in (self._at_rest, self._finished, self._strangers, self._unknown):
            self.violations += check(books)
        return books

    def converged(self, code: int) -> None:
        """After the last run: all that was wanted is there, or held where the user asked for that."""
        allowed = {"done", "held"} if self.hold else {"done"}
        states = Counter(task["state"] for task in read(self.run, self.bill).tasks)
        expected = 3 if states["held"] else 0
        if set(states) != allowed & set(states) or not states or code != expected:
            self.fail("state", f"did not converge: exit code {code}, {dict(states)}")

    def fail(self, kind: str, says: str) -> None:
        self.violations.append(Violation(kind, says))

    def _look(self) -> Books:
        books = read(self.run, self.bill)
        for check in (self._ledger, self._money, self._bounds, self._duplicates, self._kept, self._files):
            self.violations += check(books)
        return books

    def _ledger(self, books: Books) -> Iterator[Violation]:
        yield from (Violation("ledger", f"SQLite: {trouble}") for trouble in books.troubles)

    def _money(self, books: Books) -> Iterator[Violation]:
        """Each attempt against what was charged under its id."""
        charged = books.by_attempt()
        for attempt in books.attempts:
            found, state = charged.pop(attempt["id"], []), attempt["state"]
            if state == "paid" and not found == [attempt["cost_low"]] == [attempt["cost_high"]]:
                yield Violation("money", f"{attempt['id']} was paid {attempt['cost_high']}, charged {found}")
            if len(found) > (state == "paid" or state in PERHAPS_BILLED):
                yield Violation("money", f"{attempt['id']} is {state} and was charged {found}")
        yield from (
            Violation("stranger", f"charge {found} for {unknown!r}, which no row knows")
            for unknown, found in charged.items()
        )

    def _bounds(self, books: Books) -> Iterator[Violation]:
        """The sum of lows ≤ the bill ≤ the sum of highs; equal where no fate is unknown."""
        low, high = (sum(attempt[name] or 0 for attempt in books.attempts) for name in ("cost_low", "cost_high"))
        bill = sum(charge["nano_usd"] for charge in books.charges)
        if not low <= bill <= high or (low < high and not books.count(*PERHAPS_BILLED)):
            yield Violation("money", f"the bill is {bill}, the ledger says {low} to {high}")

    def _duplicates(self, books: Books) -> Iterator[Violation]:
        """Bought twice only what is listed as perhaps billed; with `hold` nothing at all."""
        charged, charges, excuses = books.by_attempt(), Counter[int](), Counter[int]()
        for attempt in books.attempts:
            charges[attempt["task"]] += len(charged[attempt["id"]])
            excuses[attempt["task"]] += attempt["state"] in PERHAPS_BILLED
        for task, count in charges.items():
            if count > 1 + (0 if self.hold else excuses[task]):
                yield Violation("twice", f"task {task} was bought {count} times, {excuses[task]} perhaps billed")

    def _kept(self, books: Books) -> Iterator[Violation]:
        """What was once reported as saved is in the ledger for good."""
        now = {row["path"]: (row["sha256"], row["bytes"]) for row in books.images if row["state"] == "saved"}
        for path, was in self._saved.items():
            if path not in now:
                yield Violation("lost", f"{path} is no longer in the ledger")
            elif now[path] != was:
                yield Violation("changed", f"{path} was {was}, is {now[path]} in the ledger")
        self._saved |= now

    def _files(self, _: Books) -> Iterator[Violation]:
        for path, (sha256, size) in self._saved.items():
            file = self.run / "images" / path
            data = file.read_bytes() if file.is_file() else None
            if data is None:
                yield Violation("lost", f"{path} is not on the disk")
            elif len(data) != size or hashlib.sha256(data).hexdigest() != sha256:
                yield Violation("changed", f"{path} is not what was saved: {len(data)} of {size} bytes")
            elif not whole_png(data):
                yield Violation("changed", f"{path} is no whole PNG")

    def _at_rest(self, books: Books) -> Iterator[Violation]:
        doing = sum(task["state"] == "doing" for task in books.tasks)
        sending = books.count("sending")
        if doing or sending:
            yield Violation("state", f"nobody works here, yet {doing} tasks are doing and {sending} attempts sending")

    def _finished(self, books: Books) -> Iterator[Violation]:
        """Done means: one paid attempt, and one saved image for each that it was asked for."""
        paid, saved = defaultdict(list), defaultdict(list)
        for attempt in books.attempts:
            if attempt["state"] == "paid":
                paid[attempt["task"]].append(attempt)
        for row in books.images:
            saved[row["task"]].append((row["attempt"], row["idx"], row["state"]))
        for task in books.tasks:
            done, bought, got = task["state"] == "done", paid[task["seq"]], sorted(saved[task["seq"]])
            expected = [(each["seq"], index, "saved") for each in bought for index in range(each["images"])]
            if got != expected or len(bought) != done:
                yield Violation(
                    "state", f"task {task['seq']} is {task['state']}, paid {len(bought)} times, images {got}"
                )

    def _strangers(self, books: Books) -> Iterator[Violation]:
        """Files that no row owns."""
        known = {self.run / "images" / row["path"] for row in books.images}
        unusable = {row["id"] for row in books.attempts if row["state"] == "unusable"}
        kept = {row["id"] for row in books.attempts if row["state"] == "accepted"}
        for path in (self.run / "images").rglob("*"):
            if path.is_file() and path not in known:
                yield Violation("orphan", f"no row owns {path}")
        for path in (self.run / "spool").glob("*"):
            if path.name.partition(".")[0] not in unusable | kept:
                yield Violation("orphan", f"left in the spool: {path}")
        yield from (Violation("orphan", f"left over: {path}") for path in self.run.rglob("*.part"))

    def _unknown(self, books: Books) -> Iterator[Violation]:
        """One kill makes no more requests unknown than were open."""
        rows = (row for row in books.attempts if row["id"] in self._cut_off and row["state"] == "unknown")
        per_run = Counter(row["run"] for row in rows)
        self.worst = max(self.worst, *per_run.values(), 0)
        if self.worst > self.workers:
            yield Violation("unknown", f"{self.worst} unknown after one kill, with {self.workers} workers")


def whole_png(data: bytes) -> bool:
    """Every chunk with its length and checksum, IHDR first, IEND last, nothing behind it."""
    at, names = 8, []
    while at + 12 <= len(data):
        end = at + 12 + int.from_bytes(data[at : at + 4])
        if zlib.crc32(data[at + 4 : end - 4]) != int.from_bytes(data[end - 4 : end]):
            return False
        names.append(data[at + 4 : at + 8])
        at = end
    return data[:8] == b"\x89PNG\r\n\x1a\n" and at == len(data) and names[:1] + names[-1:] == [b"IHDR", b"IEND"]
