"""What must be true of a run folder and the bill, whatever was done to the run. Shares no code with batchgen."""

import hashlib
import stat
import zlib
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Self

import canary

from . import money
from .books import LATE, OPEN, Books, Row, read
from .setup import Setup
from .world import World

SLACK = 5.0  # seconds that a busy machine may need for what ought to take no two
NO_TRY = (401, 402, 403, 409, 429)  # statuses of answers that use up no attempt


@dataclass(frozen=True, slots=True)
class Violation:
    """`kind` is what the table counts: lost, changed, stranger, twice, or another word."""

    kind: str
    says: str


@dataclass(slots=True)
class Checker:
    """Follows one run folder through all that happens to it, and remembers what was ever reported as saved.

    `said` is the file with what the program printed, `store` where images lie, if not in the run folder.
    """

    run: Path
    bill: Path
    setup: Setup
    said: Path | None = None
    store: Path | None = None
    violations: list[Violation] = field(default_factory=list)
    worst: int = 0  # requests of unknown fate after one kill
    lingered: float = 0.0  # seconds that a process lived on after it had ended its run
    missing: set[str] = field(default_factory=set)  # images that the user took away
    emptied: bool = False  # whether the user took away the spool, too: what was in it is unknown from then on
    leftover: set[str] = field(default_factory=set)  # files that nobody can own any more after that
    _saved: dict[str, tuple[str, int]] = field(default_factory=dict)
    _cut_off: set[str] = field(default_factory=set)  # attempts that were open at a kill

    @classmethod
    def of(cls, world: World) -> Self:
        return cls(world.run, world.bill, world.setup, world.output, world.images.parent)

    @property
    def images(self) -> Path:
        return (self.store or self.run) / "images"

    def after_kill(self) -> Books:
        """Nothing that was reported may be wrong, even before the next run mends what it finds."""
        books = self._look()
        self._cut_off |= {attempt["id"] for attempt in books.attempts if attempt["state"] in OPEN}
        return books

    def at_end(self) -> Books:
        """After a run that ended by itself, or drained: everything must be in order."""
        books = self._look()
        for check in (self._at_rest, self._finished, self._strangers, self._unknown, self._private):
            self.violations += check(books)
        return books

    def converged(self, code: int, gone: float = 0.0) -> None:
        """After the last run: all that was wanted is there, or held where the user asked for that.

        `gone` is when its process had ended, in seconds since 1970.
        """
        books = read(self.run, self.bill)
        states = Counter(task["state"] for task in books.tasks)
        allowed = {"done", *self.setup.ends, *(("held",) if self.setup.hold else ())}
        expected = 4 if states["todo"] else 3 if set(states) - {"done"} else 0
        if not set(states) <= allowed or not states or code != expected:
            self.fail("state", f"did not converge: exit code {code}, {dict(states)}")
        dearest = max((attempt["cost_high"] for attempt in books.attempts), default=0)
        if states["todo"] and books.high + 2 * dearest <= round(self.setup.budget * 1e9):
            self.fail("budget", f"stopped at {books.high} of {self.setup.budget} USD, and could have gone on")
        self._recorded(books.runs, code, gone)

    def fail(self, kind: str, says: str) -> None:
        self.violations.append(Violation(kind, says))

    def _recorded(self, runs: list[Row], code: int, gone: float) -> None:
        """The last run ended with its process, and says how."""
        last = runs[-1] if runs else {"ended_at": None, "exit_code": None}
        if last["ended_at"] is None or last["exit_code"] != code:
            self.fail("state", f"ended with {code}, and the ledger says {last['exit_code']} at {last['ended_at']}")
        elif gone:
            late = gone - datetime.fromisoformat(last["ended_at"]).timestamp()
            self.lingered = max(self.lingered, late)
            if late > SLACK:
                self.fail("slow", f"the process was there for {late:.1f} s after its run had ended")

    def _look(self) -> Books:
        books = read(self.run, self.bill)
        for check in (self._ledger, self._money, self._histories, self._kept, self._files):
            self.violations += check(books)
        return books

    def _ledger(self, books: Books) -> Iterator[Violation]:
        yield from (Violation("ledger", f"SQLite: {trouble}") for trouble in books.troubles)

    def _money(self, books: Books) -> Iterator[Violation]:
        yield from (Violation(kind, says) for kind, says in money.problems(books, self.setup))

    def _histories(self, books: Books) -> Iterator[Violation]:
        """Nothing is sent after what was paid for, nothing too often, and a purchase lasts until its fate is known."""
        for task, attempts in books.histories():
            states = [attempt["state"] for attempt in attempts if attempt["code"] != LATE]
            if "paid" in states[:-1]:
                yield Violation("state", f"task {task['seq']} was sent again after it was paid: {states}")
            used = sum(each["state"] != "unsent" and each["status"] not in NO_TRY for each in attempts)
            if max(used, task["tries"]) > self.setup.attempts:
                yield Violation("tries", f"task {task['seq']} was tried {used} times, of {self.setup.attempts}")
            yield from (Violation("purchase", f"task {task['seq']}: {says}") for says in purchases(attempts))

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
            file = self.images / path
            data = file.read_bytes() if file.is_file() else None
            if data is None and path not in self.missing:
                yield Violation("lost", f"{path} is not on the disk")
            elif data is not None and (len(data) != size or hashlib.sha256(data).hexdigest() != sha256):
                yield Violation("changed", f"{path} is not what was saved: {len(data)} of {size} bytes")
            elif data is not None and not whole_png(data):
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
            if row["state"] == "saved":
                saved[row["task"]].append((row["attempt"], row["idx"]))
        for task in books.tasks:
            done, bought, got = task["state"] == "done", paid[task["seq"]], sorted(saved[task["seq"]])
            expected = [(each["seq"], index) for each in bought for index in range(each["images"])]
            if got != expected or len(bought) != done:
                says = f"task {task['seq']} is {task['state']}, paid {len(bought)} times, images {got}"
                yield Violation("state", says)

    def _strangers(self, books: Books) -> Iterator[Violation]:
        """Files that no row owns."""
        known = {self.images / row["path"] for row in books.images if row["path"]}
        kept = {row["id"] for row in books.attempts if row["state"] in ("unusable", "accepted")}
        orphans = {path for path in (self.images).rglob("*") if path.is_file() and path not in known}
        if self.emptied:
            self.leftover = {path.name for path in orphans}
            orphans = set()
        self.leftover |= {path.name for path in orphans if self._lost(path, books)}
        yield from (Violation("orphan", f"no row owns {path}") for path in orphans if path.name not in self.leftover)
        for path in (self.run / "spool").glob("*"):
            if path.name.partition(".")[0] not in kept:
                yield Violation("orphan", f"left in the spool: {path}")
        for path in (*self.run.glob("*.part"), *self.run.glob("batches/*"), *self._receipts(books)):
            yield Violation("orphan", f"left over: {path}")

    def _lost(self, path: Path, books: Books) -> bool:
        """Whether it may be of an attempt that was lost with a machine before that could say so."""
        lost = {row["task"]: row["id"] for row in books.attempts if (row["state"], row["code"]) == ("unknown", "lost")}
        stems = [task["path"].rpartition("/")[2] for task in books.tasks if task["seq"] in lost]
        return path.name.split(".")[1:2] in [[id_] for id_ in lost.values()] or path.name.startswith(tuple(stems))

    def _receipts(self, books: Books) -> list[Path]:
        """Receipts that nobody needs any more."""
        open_ = {row["id"] for row in books.attempts if row["state"] in ("accepted", "unknown")}
        return [path for path in self.images.parent.glob("receipts/*.json") if path.name.partition(".")[0] not in open_]

    def _unknown(self, books: Books) -> Iterator[Violation]:
        """One kill makes no more requests unknown than were open; a batch can be asked for what it came to."""
        requests = (row for row in books.attempts if not row["batch"])
        rows = (row for row in requests if row["id"] in self._cut_off and row["state"] == "unknown")
        self.worst = max(self.worst, *Counter(row["run"] for row in rows).values(), 0)
        if not self.emptied and self.worst > self.setup.workers:
            yield Violation("unknown", f"{self.worst} unknown after one kill, with {self.setup.workers} workers")

    def _private(self, _: Books) -> Iterator[Violation]:
        """Nothing holds the key, and nobody else on the machine may read anything but images."""
        printed = self.said.read_bytes() if self.said else b""
        kept = (leak for place in {self.run, self.images.parent} for leak in canary.leaks(place))
        for leak in (*kept, *(f"the output: {form}" for form in canary.forms_in(printed))):
            yield Violation("key", leak)
        for path in self.run.rglob("*"):
            if path.is_file() and self.images not in path.parents and open_to_others(path):
                yield Violation("open", f"others may read {path}")


def open_to_others(path: Path) -> bool:
    """An empty file, such as a lock, tells them nothing."""
    found = path.stat()
    return found.st_size > 0 and bool(stat.S_IMODE(found.st_mode) & 0o077)


def purchases(attempts: list[Row]) -> Iterator[str]:
    """What is wrong with the purchases of one task's attempts, which are in the order in which they were sent.

    What was heard of late was unknown when the next ones were sent. Who asks elsewhere, or by a batch where a request
    of its own bears a key, makes a new one.
    """
    open_: Row | None = None  # the last one whose fate is not known
    ended: set[str] = set()  # purchases that brought something: their keys would bring it again
    for attempt in attempts:
        if open_ and attempt["purchase"] != open_["purchase"] and attempt["scope"] == open_["scope"]:
            yield f"{attempt['id']} is a new purchase, while the fate of {open_['id']} is not known"
        if attempt["code"] == LATE:
            open_ = None
            continue
        if attempt["purchase"] in ended:
            yield f"{attempt['id']} was sent for a purchase that had brought its answer"
        if attempt["state"] in ("paid", "unusable"):
            ended.add(attempt["purchase"])
            open_ = None
        elif attempt["state"] == "unknown":
            open_ = attempt


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
