"""A notice: what is said of a run to somebody who is not there, in one line or as one JSON object."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from batchgen import records
from batchgen.consent import usd
from batchgen.costs import NANO
from batchgen.form import Event
from batchgen.tallies import Money, Tallies
from batchgen.task import TaskState
from batchgen.text import clean

SCHEMA_VERSION = 1
WHOLE = 100 * NANO  # nano-dollars from which cents are left out
ENDS = {
    TaskState.REFUSED: "refused",
    TaskState.FAILED: "failed",
    TaskState.HELD: "perhaps paid",
    TaskState.TODO: "to do",
    TaskState.DOING: "on the way",
}


@dataclass(frozen=True, slots=True)
class Notice:
    """What happened, and why in words; `exit_code` is None while the run works.

    `tallies` is what the ledger holds, None where it cannot be read; `pretend`: of pretend money.
    """

    job: str
    events: tuple[Event, ...]
    reason: str
    exit_code: int | None
    tallies: Tallies | None
    pretend: bool

    @property
    def line(self) -> str:
        """`animals 11,960/12,000 · $1,142 · 31 refused · 9 perhaps paid`; first what is not as it should be."""
        counts = list(counted(self.tallies, self.pretend)) if self.tallies else []
        if self.exit_code is None:
            head = f"{self.job} {self.reason}"
        elif self.exit_code in (0, 3) and counts:
            head = f"{self.job} {counts.pop(0)}"
        else:
            head = f"{self.job} ended with {self.exit_code}: {self.reason}"
        return clean(" · ".join([head, *counts]))

    def body(self, form: str) -> bytes:
        """As it is sent: the line, or an object that holds it under `text`, where chats look for it."""
        return f"{self.line if form == 'text' else json.dumps(self.told(), ensure_ascii=False)}\n".encode()

    def told(self) -> Mapping[str, object]:
        """All of it; `tasks` are the wanted ones by state, money is in USD."""
        tasks = self.tallies.task_states() if self.tallies else None
        return {
            "schema_version": SCHEMA_VERSION,
            "job": self.job,
            "text": self.line,
            "events": list(self.events),
            "reason": clean(self.reason),
            "exit_code": self.exit_code,
            "tasks": {"total": sum(tasks.values()), **tasks} if tasks else None,
            "cost": _cost(self.tallies.money(), self.pretend) if self.tallies else None,
            "at": records.now(),
        }


def counted(tallies: Tallies, pretend: bool) -> Iterator[str]:
    """How many of the wanted tasks are done, what all cost, and what became of the rest."""
    states, money = tallies.task_states(), tallies.money()
    yield f"{states[TaskState.DONE]:,}/{sum(states.values()):,}"
    low, high = _usd(money.low), _usd(money.high)
    if money.high:
        yield (low if low == high else f"{low} to {high}") + (" of pretend money" if pretend else "")
    if money.unpriced:
        yield f"{money.unpriced:,} at no known price"
    yield from (f"{states[state]:,} {words}" for state, words in ENDS.items() if states[state])


def _usd(nano: int) -> str:
    return f"${nano / NANO:,.0f}" if nano >= WHOLE else usd(nano)


def _cost(money: Money, pretend: bool) -> Mapping[str, object]:
    paid, low, high = (round(nano / NANO, 9) for nano in (money.paid, money.low, money.high))
    return {"currency": "USD", "paid": paid, "low": low, "high": None if money.unpriced else high, "pretend": pretend}
