"""The process that works on a run, or was the last to: what it does, and what was changed of it since it began."""

import json
import socket
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from batchgen import books, control, records, report
from batchgen.folder import Folder
from batchgen.text import count, duration
from batchgen.verify import working


@dataclass(frozen=True, slots=True)
class Worker:
    """`row` is its row in the ledger, None where the run was never begun; `batches` and `open` are as in books."""

    row: books.Row | None
    at_work: bool
    standing: control.Standing
    batches: Sequence[books.Row] = ()
    open: tuple[int, int, int] = (0, 0, 0)

    @classmethod
    def of(cls, folder: Folder) -> "Worker":
        with books.reading(folder.ledger) as db:
            row, batches, open_ = books.last_run(db), books.batches(db), books.open_batches(db)
        if row and not row["ended_at"] and working(row, folder):
            return cls(row, True, control.standing(folder, control.name(row)), batches, open_)
        return cls(row, False, control.Standing(""), batches, open_)

    @property
    def waits(self) -> list[Mapping[str, Any]]:
        """What it waits for now, as progress.Wait writes it."""
        return self._noted("waits")

    @property
    def throttle(self) -> list[Mapping[str, Any]]:
        """How wide and how fast each of its lanes goes, as progress.Throttle writes it."""
        return self._noted("throttle")

    def _noted(self, what: str) -> list[Mapping[str, Any]]:
        return json.loads(str(self.row[what])) if self.row and self.at_work else []

    @property
    def handed_over(self) -> Iterator[str]:
        """The batches that are open, how far each is by its provider's last word."""
        number, tasks, made = self.open
        if number:
            yield f"{count(number, 'batch', 'batches')} open, {made:,} of {count(tasks, 'task')} made"
        open_ = [each for each in self.batches if each["state"] != "over"]
        yield from (f"{each['handle'] or 'not created yet'}  {_far(each)}" for each in open_)

    @property
    def state(self) -> str:
        """Whether it runs, and how it ended, in words."""
        row = self.row
        if row is None:
            return "never run"
        if row["ended_at"]:
            return f"ended {report.moment(row['ended_at'])} with {row['exit_code']}: {row['reason']}"
        where = f"process {row['pid']} on {row['host']}, since {report.moment(row['started_at'])}"
        if row["host"] != socket.gethostname():
            return f"running or cut off ({where})"
        return f"running ({where})" if self.at_work else f"cut off ({where}): batchgen run goes on with it"


def _far(batch: books.Row) -> str:
    failed = f", {batch['failed']:,} failed" if batch["failed"] else ""
    told = [f"{batch['status'] or batch['state']}, {batch['completed']:,} of {batch['tasks']:,} made{failed}"]
    since = batch["created_at"] or batch["drafted_at"]
    told.append(f"begun {duration(records.age(str(since)))} ago")
    told += [f"expires {report.moment(batch['expires_at'])}"] if batch["expires_at"] else []
    told += [f"seen {report.moment(batch['looked_at'])}"] if batch["looked_at"] else []
    return " · ".join(told)
