"""The ledger's rows summed by kind, each looked at once."""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from enum import StrEnum
from itertools import product, repeat
from operator import add
from typing import TypeVar

from batchgen.books import Connection
from batchgen.tallies import AttemptTally, Engine, ImageTally, LaneSum, Price, Tallies, TaskTally, Wanted
from batchgen.task import AttemptState, ImageState, TaskState

T = TypeVar("T")
PIECE = 1 << 14  # rows summed by one statement: GROUP BY sorts them, and so few are sorted within the processor's cache
FEW = 64  # variants; more make the pieces larger


@dataclass(frozen=True, slots=True)
class Digit:
    """A column of few values as a digit of a number: GROUP BY sorts numbers faster than words."""

    sql: str
    values: type[StrEnum]


@dataclass(frozen=True, slots=True)
class Sums:
    """What is summed over the rows of one table, by variant and by kind; `seq` numbers the rows."""

    table: str
    seq: str
    digits: tuple[Digit, ...]
    figures: tuple[str, ...]
    join: str = ""

    def sql(self, variant: str) -> str:
        """Of each kind in a range of rows its number and its figures."""
        kind = variant
        for digit in self.digits:
            kind = f"({kind}) * {len(digit.values)} + {digit.sql}"
        rows = f"{self.table} {self.join} WHERE {self.seq} >= ? AND {self.seq} < ?"
        return f"SELECT {kind} AS kind, {', '.join(self.figures)} FROM {rows} GROUP BY kind"

    def kinds(self) -> list[tuple[StrEnum, ...]]:
        """What the digits below the variant stand for, by their number."""
        return [*product(*(digit.values for digit in self.digits))]


def _digit(column: str, values: type[StrEnum]) -> Digit:
    cases = (f"WHEN '{value}' THEN {at}" for at, value in enumerate(values))
    return Digit(f"CASE {column} {' '.join(cases)} END", values)


def _sum(expression: str) -> str:
    return f"coalesce(sum({expression}), 0)"


GONE = "('dropped', 'waived', 'forgone')"  # any other word is the key of the task that replaced it
WANTED = Digit(f"CASE WHEN t.wanted = 'yes' THEN 0 WHEN t.wanted IN {GONE} THEN 1 ELSE 2 END", Wanted)
ENGINE = Digit("CASE WHEN a.batch IS NULL THEN 0 ELSE 1 END", Engine)
PRICE = Digit(
    "CASE WHEN a.cost_high IS NULL THEN 0 WHEN a.estimated THEN 1 WHEN a.cost_low = a.cost_high THEN 2 ELSE 3 END",
    Price,
)
TOKENS = (
    *("a.input_text_tokens", "a.input_image_tokens"),
    *("a.output_image_tokens + a.output_text_tokens", "a.total_tokens"),
)
OF_TASKS = Sums("tasks t", "t.seq", (WANTED, _digit("t.state", TaskState)), ("count(*)",))
OF_ATTEMPTS = Sums(
    "attempts a",
    "a.seq",
    (WANTED, _digit("a.state", AttemptState), ENGINE, PRICE),
    ("count(*)", *map(_sum, ("a.cost_low", "a.cost_high", *TOKENS))),
    "JOIN tasks t ON t.seq = a.task",
)
OF_IMAGES = Sums(
    "images i",
    "i.id",
    (WANTED, _digit("i.state", ImageState)),
    ("count(*)", _sum("i.bytes")),
    "JOIN tasks t ON t.seq = i.task",
)
Piece = tuple[Sums, int, int]  # rows of a table from a number on, below another
Found = dict[tuple[str, int], list[int]]  # table and kind → its figures


def tallies(dbs: Sequence[Connection], by_variant: bool = True) -> Tallies:
    """All sums over the ledger, each row looked at once; a thread for each connection takes piece after piece.

    Where nobody asks for variants, all are called 0: sorted and told apart, thousands of them take seconds.
    """
    (variants,) = dbs[0].execute("SELECT count(*) FROM variants").fetchone()
    piece = PIECE * (1 + variants // FEW if by_variant else 1)  # many kinds in each of many pieces are slow to add up
    tables = (OF_TASKS, OF_ATTEMPTS, OF_IMAGES)
    work = iter([(sums, start, start + piece) for sums in tables for start in _starts(dbs[0], sums, piece)])
    found: Found = {}
    with ThreadPoolExecutor(len(dbs)) as pool:
        for share in pool.map(_summed, dbs, repeat(work), repeat("t.variant" if by_variant else "0")):
            for key, figures in share.items():
                _enter(found, key, figures)
    return Tallies(
        _told(TaskTally, OF_TASKS, found), _told(AttemptTally, OF_ATTEMPTS, found), _told(ImageTally, OF_IMAGES, found)
    )


def lanes(db: Connection) -> list[LaneSum]:
    """What each lane of the providers that have several was paid, with one look at every attempt; else nothing."""
    several = "SELECT pool FROM lanes GROUP BY pool HAVING count(*) > 1"
    known = db.execute(f"SELECT name, pool, blocked FROM lanes WHERE pool IN ({several}) ORDER BY name").fetchall()
    sql = (
        "SELECT lane, count(*), count(*) FILTER (WHERE state = 'paid'), coalesce(sum(cost_low), 0),"
        " coalesce(sum(cost_high), 0), count(*) - count(cost_high) FROM attempts GROUP BY lane"
    )
    found = {row[0]: tuple(row)[1:] for row in db.execute(sql).fetchall()} if known else {}
    return [LaneSum(name, pool, blocked, *found.get(name, (0, 0, 0, 0, 0))) for name, pool, blocked in known]


def blocked(db: Connection) -> list[str]:
    """Why a lane buys no more, where others of its provider have gone on."""
    return [row[0] for row in db.execute("SELECT blocked FROM lanes WHERE blocked <> '' ORDER BY name").fetchall()]


def _starts(db: Connection, sums: Sums, piece: int) -> range:
    (last,) = db.execute(f"SELECT coalesce(max({sums.seq}), -1) FROM {sums.table}").fetchone()
    return range(0, last + 1, piece)


def _summed(db: Connection, work: Iterator[Piece], variant: str) -> Found:
    """A thread's share; the iterator is one of a list, from which threads may take in turn."""
    found: Found = {}
    for sums, start, end in work:
        for kind, *figures in db.execute(sums.sql(variant), (start, end)):
            _enter(found, (sums.table, kind), figures)
    return found


def _enter(found: Found, key: tuple[str, int], figures: list[int]) -> None:
    found[key] = list(map(add, found[key], figures)) if key in found else figures


def _told(tally: Callable[..., T], sums: Sums, found: Found) -> tuple[T, ...]:
    """The tallies of a table, by variant."""
    kinds = sums.kinds()
    own = sorted((number, figures) for (table, number), figures in found.items() if table == sums.table)
    return tuple(tally(number // len(kinds), *kinds[number % len(kinds)], *figures) for number, figures in own)
