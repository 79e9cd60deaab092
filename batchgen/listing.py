"""The wanted tasks of one state, and what became of each: for a person, a script, a spreadsheet that comes back."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from batchgen import books
from batchgen.task import TaskState

PAGE = 1000  # tasks that are read in one look, so that no long one keeps a run from tidying its ledger
FIRST = ("task", "prompt")
BESIDE = ("ids", "state", "provider", "model", "operation", "inputs", "axes", "sample", "attempts", "code", "error")
"""Columns of the CSV; between them stand the request parameters. Whoever reads it again passes over those BESIDE."""


@dataclass(frozen=True, slots=True)
class Listed:
    """A task; `attempts` is how often it was sent, `code` and `error` what came of the last time."""

    task: str
    prompt: str
    ids: Sequence[str]
    state: str
    provider: str
    model: str
    operation: str
    params: Mapping[str, object]
    axes: Mapping[str, object]
    inputs: Sequence[str]
    sample: int
    attempts: int
    code: str
    error: str

    @property
    def labels(self) -> str:
        """What the matrix varied of it."""
        return " ".join(map(str, self.axes.values()))

    def cells(self, columns: Sequence[str]) -> list[object]:
        """As a line of a table: nothing where it has no such parameter, and of the axes those that are none."""
        own = {
            **{name: getattr(self, name) for name in (*FIRST, *BESIDE)},
            "ids": ", ".join(self.ids),
            "inputs": ", ".join(self.inputs),
            "axes": ", ".join(f"{name}={value}" for name, value in self.axes.items() if name not in self.params),
        }
        return [_cell(own[name] if name in own else self.params.get(name)) for name in columns]


def listed(ledger: Path, state: TaskState) -> Iterator[Listed]:
    """All of them, in the order in which they were queued."""
    last = -1
    while True:
        with books.reading(ledger) as db:
            page = books.tasks(db, state, last, PAGE)
        yield from (_listed(row) for row in page)
        if len(page) < PAGE:
            return
        last = page[-1]["seq"]


def columns(ledger: Path, state: TaskState) -> tuple[str, ...]:
    """What a table of them has, with every parameter that one of them sets."""
    with books.reading(ledger) as db:
        names = books.parameters(db, state)
    return (*FIRST, *(name for name in names if name not in (*FIRST, *BESIDE)), *BESIDE)


def _listed(row: Mapping[str, Any]) -> Listed:
    read = {name: json.loads(row[name]) for name in ("ids", "params", "axes", "inputs")}
    return Listed(**{name: value for name, value in row.items() if name != "seq"} | read)


def _cell(value: object) -> object:
    """Text as it is, nothing as nothing, all else as JSON has it."""
    return value if isinstance(value, str) else "" if value is None else json.dumps(value, ensure_ascii=False)
