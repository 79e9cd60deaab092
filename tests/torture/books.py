"""Both sides at one moment: the provider's bill and the ledger, read by hand. Shares no code with batchgen."""

import json
import sqlite3
from collections import defaultdict
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

Row = dict[str, Any]
TABLES = ("tasks", "attempts", "images", "runs", "batches")
OPEN = ("sending", "accepted")
LATE = "late"  # the code of what was given up, and heard of after all
PERHAPS_BILLED = ("unknown", "unusable", *OPEN)
NEVER_BILLED = ("rejected", "unsent")


@dataclass(frozen=True)
class Books:
    """The provider's charges, and the ledger's rows."""

    charges: list[Row]
    tasks: list[Row]
    attempts: list[Row]
    images: list[Row]
    runs: list[Row]
    batches: list[Row]
    troubles: list[str]

    @cached_property
    def by_id(self) -> dict[str, Row]:
        """Attempts by their id, which is the one that a charge names."""
        return {attempt["id"]: attempt for attempt in self.attempts}

    @cached_property
    def by_attempt(self) -> dict[str, list[Row]]:
        """The charges of each attempt, by its id."""
        found: dict[str, list[Row]] = defaultdict(list)
        for charge in self.charges:
            found[charge["client_request_id"]].append(charge)
        return found

    @property
    def strangers(self) -> list[Row]:
        """Charges that no attempt knows."""
        return [charge for charge in self.charges if charge["client_request_id"] not in self.by_id]

    @property
    def bill(self) -> int:
        """Nano-dollars, as everything here."""
        return sum(charge["nano_usd"] for charge in self.charges)

    @property
    def low(self) -> int:
        return sum(attempt["cost_low"] for attempt in self.attempts)

    @property
    def high(self) -> int:
        return sum(attempt["cost_high"] for attempt in self.attempts)

    def count(self, *states: str) -> int:
        return sum(attempt["state"] in states for attempt in self.attempts)

    def histories(self) -> Iterator[tuple[Row, list[Row]]]:
        """Each task with its attempts, in the order in which they were sent."""
        sent = defaultdict(list)
        for attempt in sorted(self.attempts, key=lambda attempt: int(attempt["seq"])):
            sent[attempt["task"]].append(attempt)
        return ((task, sent[task["seq"]]) for task in self.tasks)


def read(run: Path, bill: Path) -> Books:
    """The bill first: whatever it holds, the ledger knew before."""
    charges = [json.loads(line) for line in bill.read_text().splitlines()]
    ledger = run / "ledger.db"
    if not ledger.exists():
        return Books(charges, [], [], [], [], [], [])
    try:
        with closing(sqlite3.connect(f"{ledger.as_uri()}?mode=ro", uri=True)) as db:
            tables = {name: _rows(db, name) for name in TABLES}
            return Books(charges, troubles=_troubles(db), **tables)
    except sqlite3.Error as error:
        return Books(charges, [], [], [], [], [], [str(error)])


def _rows(db: sqlite3.Connection, table: str) -> list[Row]:
    cursor = db.execute(f"SELECT * FROM {table}")
    names = [column[0] for column in cursor.description]
    return [dict(zip(names, row, strict=True)) for row in cursor]


def _troubles(db: sqlite3.Connection) -> list[str]:
    """What SQLite itself finds wrong."""
    found = [row[0] for row in db.execute("PRAGMA integrity_check") if row[0] != "ok"]
    return found + [f"a row of {row[0]} refers to nothing" for row in db.execute("PRAGMA foreign_key_check")]
