"""The ledger as a comparison sees it: what is there already of what is wanted, in blocks. Read-only."""

import json
import sqlite3
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from batchgen import books, records
from batchgen.pace import Learned
from batchgen.task import Mark, TaskState, Variant

_IN_BATCHES = "batch IS NOT NULL AND state IN ('sending', 'accepted')"
_AWAY = f"SELECT task FROM attempts WHERE {_IN_BATCHES}"
_BATCHED = (
    "SELECT t.pool FROM batches b JOIN tasks t ON t.seq = (SELECT task FROM attempts WHERE batch = b.seq LIMIT 1)"
)
"""The providers of batches; all tasks of one are the same's."""


@dataclass(frozen=True, slots=True)
class Volume:
    """How much of one variant is wanted: tasks in all, done, in batches that are open, and to do.

    `of_todo` are, of the latter, the bytes of all prompts and of the longest, the tokens of all input images and the
    most of one task.
    """

    variant: Variant
    tasks: int
    done: int
    away: int
    todo: int
    of_todo: tuple[int, int, int, int]


@dataclass(frozen=True, slots=True)
class Experience:
    """What a variant's answered requests came to: their sums in nano-dollars, seconds and bytes of saved images."""

    variant: Variant
    requests: int
    prompt_bytes: int
    input_tokens: int
    cost: int
    seconds: float
    images: int
    bytes: int


@dataclass(frozen=True, slots=True)
class Shelf:
    """One moment of one ledger."""

    db: sqlite3.Connection

    def known(self, wanted: Sequence[Mark]) -> dict[str, records.Known]:
        """Those of the tasks that are there, by key."""
        return records.known_tasks(self.db, wanted)

    def prompts(self, digests: Sequence[bytes]) -> set[bytes]:
        """Those of the prompts that are there."""
        sql = f"SELECT digest FROM prompts WHERE digest IN ({_marks(digests)})"
        return {row[0] for row in self.db.execute(sql, digests)}

    def last(self) -> int:
        """The highest seq of a task."""
        (found,) = self.db.execute("SELECT coalesce(max(seq), 0) FROM tasks").fetchone()
        return int(found)

    def away(self) -> frozenset[int]:
        """The seqs of tasks that are in open batches."""
        return frozenset(row[0] for row in self.db.execute(_AWAY))

    def batch_pools(self) -> set[str]:
        """The providers that have batches which are not over."""
        return {row[0] for row in self.db.execute(f"{_BATCHED} WHERE b.state <> 'over'")}

    def handed_over(self) -> int:
        """What open batches may cost at most; nano-dollars."""
        (found,) = self.db.execute(f"SELECT coalesce(sum(cost_high), 0) FROM attempts WHERE {_IN_BATCHES}").fetchone()
        return int(found)

    def wanted(self) -> Iterator[tuple[int, int]]:
        """The seq and the variant's id of every task that is wanted."""
        return ((row[0], row[1]) for row in self.db.execute("SELECT seq, variant FROM tasks WHERE wanted = 'yes'"))

    def variants(self) -> dict[int, Variant]:
        """Every variant that ever was, by its id."""
        rows = self.db.execute(
            "SELECT id, provider, model, operation, params, axes FROM variants ORDER BY id"
        ).fetchall()
        return {row[0]: records.variant(tuple(row[1:])) for row in rows}

    def samples(self) -> int:
        """The highest sample number."""
        (found,) = self.db.execute("SELECT coalesce(max(sample), 0) FROM tasks WHERE wanted = 'yes'").fetchone()
        return int(found)

    def volumes(self, reopen: Collection[TaskState] = ()) -> list[Volume]:
        """What is wanted, by variant; tasks of the states `reopen` count as to do, though they were waived."""
        again = "t.state IN (" + ", ".join(f"'{state}'" for state in reopen) + ")"
        away = f"t.seq IN ({_AWAY})"
        open_ = f"(t.state IN ('todo', 'doing') OR {again}) AND NOT {away}"
        size = "length(CAST(p.text AS BLOB))"
        sql = (
            f"SELECT t.variant, count(*), count(*) FILTER (WHERE t.state = 'done'),"
            f" count(*) FILTER (WHERE {away}), count(*) FILTER (WHERE {open_}),"
            f" coalesce(sum({size}) FILTER (WHERE {open_}), 0), coalesce(max({size}) FILTER (WHERE {open_}), 0),"
            f" coalesce(sum(t.input_tokens) FILTER (WHERE {open_}), 0),"
            f" coalesce(max(t.input_tokens) FILTER (WHERE {open_}), 0)"
            " FROM tasks t JOIN prompts p ON p.id = t.prompt"
            f" WHERE t.wanted = 'yes' OR (t.wanted = 'waived' AND {again}) GROUP BY t.variant ORDER BY min(t.seq)"
        )
        variants = self.variants()
        return [
            Volume(variants[row[0]], row[1], row[2], row[3], row[4], row[5:]) for row in self.db.execute(sql).fetchall()
        ]

    def experience(self) -> list[Experience]:
        """What was paid for so far, by variant: only what the provider's own count is behind, and no batch."""
        sql = (
            "SELECT t.variant, count(*), sum(length(CAST(p.text AS BLOB))), sum(t.input_tokens), sum(a.cost_high),"
            " sum((julianday(a.ended_at) - julianday(a.sent_at)) * 86400.0), sum(i.images), sum(i.bytes)"
            " FROM attempts a JOIN tasks t ON t.seq = a.task JOIN prompts p ON p.id = t.prompt"
            " JOIN (SELECT attempt, count(*) AS images, sum(bytes) AS bytes FROM images WHERE state = 'saved'"
            " GROUP BY attempt) i ON i.attempt = a.seq"
            " WHERE a.state = 'paid' AND a.cost_low = a.cost_high AND a.code <> 'adopted' AND a.batch IS NULL"
            " GROUP BY t.variant"
        )
        variants = self.variants()
        return [Experience(variants[row[0]], *row[1:]) for row in self.db.execute(sql).fetchall()]

    def open_pools(self) -> set[str]:
        """The providers that are still owed an answer, or hold one, or a batch or a file of ours."""
        sql = (
            "SELECT t.pool FROM attempts a JOIN tasks t ON t.seq = a.task WHERE a.state IN ('sending', 'accepted')"
            f" UNION {_BATCHED} WHERE b.state <> 'over' OR EXISTS (SELECT 1 FROM uploads)"
        )
        return {row[0] for row in self.db.execute(sql)}

    def quotas(self) -> dict[str, list[Learned]]:
        """What was learned last of each lane's limits."""
        sql = "SELECT lane, kind, per_minute, source FROM quotas ORDER BY learned_at"
        found: dict[str, dict[str, Learned]] = {}
        for lane, *learned in self.db.execute(sql).fetchall():
            found.setdefault(lane, {})[learned[0]] = Learned(*learned)
        return {lane: [*each.values()] for lane, each in found.items()}

    def spent(self) -> int:
        """What all attempts ever made may have cost at most; nano-dollars."""
        (found,) = self.db.execute("SELECT coalesce(sum(cost_high), 0) FROM attempts").fetchone()
        return int(found)

    def used(self) -> tuple[str, Mapping[str, object], bool] | None:
        """The manifest that was used last, what was set beside it, and whether it was rehearsed."""
        sql = "SELECT text, overrides, rehearsed FROM manifests ORDER BY used_at DESC, rowid DESC"
        row = self.db.execute(sql).fetchone()
        return (row[0], json.loads(row[1]), bool(row[2])) if row else None

    def enqueued(self) -> str:
        """The fingerprint of what was enqueued last, whole."""
        (found,) = self.db.execute("SELECT enqueued FROM job").fetchone()
        return str(found)


@contextmanager
def opened(ledger: Path) -> Iterator[Shelf]:
    """A ledger to compare with; StorageError where it cannot be read."""
    with books.reading(ledger) as db:
        db.row_factory = None  # plain tuples: there may be a million
        db.execute("PRAGMA cache_size = -65536")
        yield Shelf(db)


def _marks(values: Sequence[object]) -> str:
    return ", ".join("?" * len(values))
