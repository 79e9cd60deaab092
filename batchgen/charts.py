"""What is drawn of a run: spending and images over time, and what each variant came to. Read-only."""

import sqlite3
from collections.abc import Mapping
from dataclasses import dataclass, field
from operator import add

from batchgen.album import DOUBT, SECONDS

TENTHS = f"CASE WHEN a.state = 'paid' AND a.code <> 'adopted' THEN CAST(round({SECONDS} * 10) AS INTEGER) END"


@dataclass(frozen=True, slots=True)
class Spent:
    """On the wanted tasks of a variant, in nano-dollars; how many attempts have no price, and how many paid ones took
    so many tenths of a second."""

    low: int = 0
    high: int = 0
    unpriced: int = 0
    tenths: Mapping[int, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Share:
    """What the wanted tasks of one variant came to: how many are in each state, their saved images, their cost."""

    states: Mapping[str, int]
    images: int
    spent: Spent


@dataclass(frozen=True, slots=True)
class Beat:
    """What ended within one step of time, which began `at` so many seconds after 1970; nano-dollars."""

    at: int
    images: int
    low: int
    high: int


def samples(db: sqlite3.Connection) -> list[int]:
    """The numbers of the samples, each once."""
    return [row[0] for row in db.execute("SELECT DISTINCT sample FROM tasks ORDER BY 1").fetchall()]


def doubtful(db: sqlite3.Connection) -> int:
    """How many tasks, wanted or not, may have been paid for by a request without a usable answer."""
    (found,) = db.execute(f"SELECT count(DISTINCT a.task) FROM attempts a WHERE {DOUBT}").fetchone()
    return int(found)


def shares(db: sqlite3.Connection) -> dict[int, Share]:
    """By variant."""
    states: dict[int, dict[str, int]] = {}
    sql = "SELECT variant, state, count(*) FROM tasks WHERE wanted = 'yes' GROUP BY 1, 2 ORDER BY 1"
    for variant, state, tasks in db.execute(sql):
        states.setdefault(variant, {})[state] = tasks
    sql = (
        "SELECT t.variant, count(*) FROM images i JOIN tasks t ON t.seq = i.task"
        " WHERE i.state = 'saved' AND t.wanted = 'yes' GROUP BY 1"
    )
    images = dict(db.execute(sql).fetchall())
    spent = _spent(db)
    return {each: Share(found, images.get(each, 0), spent.get(each, Spent())) for each, found in states.items()}


def _spent(db: sqlite3.Connection) -> dict[int, Spent]:
    sql = (
        f"SELECT t.variant, {TENTHS}, count(*), coalesce(sum(a.cost_low), 0), coalesce(sum(a.cost_high), 0),"
        " count(*) FILTER (WHERE a.cost_high IS NULL) FROM attempts a JOIN tasks t ON t.seq = a.task"
        " WHERE t.wanted = 'yes' GROUP BY 1, 2"
    )
    money: dict[int, tuple[int, int, int]] = {}
    tenths: dict[int, dict[int, int]] = {}
    for variant, took, attempts, *more in db.execute(sql):
        money[variant] = (*map(add, money.get(variant, (0, 0, 0)), more),)
        if took is not None:
            tenths.setdefault(variant, {})[took] = attempts
    return {variant: Spent(*found, tenths.get(variant, {})) for variant, found in money.items()}


def worked(db: sqlite3.Connection) -> float:
    """For how many seconds runs were at work; of one that did not end, until the last that is known of it."""
    last = "(SELECT coalesce(ended_at, sent_at) FROM attempts ORDER BY seq DESC LIMIT 1)"
    sql = f"SELECT sum(julianday(coalesce(ended_at, {last}, started_at)) - julianday(started_at)) * 86400.0 FROM runs"
    (found,) = db.execute(sql).fetchone()
    return max(0.0, found or 0.0)


def beats(db: sqlite3.Connection, step: int) -> list[Beat]:
    """By steps of so many seconds, those in which something ended."""
    at = f"CAST(strftime('%s', coalesce(a.ended_at, a.sent_at)) AS INTEGER) / {step} * {step}"
    sql = f"SELECT {at}, count(*) FROM images i JOIN attempts a ON a.seq = i.attempt WHERE i.state = 'saved' GROUP BY 1"
    images = dict(db.execute(sql).fetchall())
    money = "coalesce(sum(a.cost_low), 0), coalesce(sum(a.cost_high), 0)"
    spent = db.execute(f"SELECT {at}, {money} FROM attempts a GROUP BY 1 ORDER BY 1")
    return [Beat(moment, images.get(moment, 0), low, high) for moment, low, high in spent]
