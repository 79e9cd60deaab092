"""What a run made and what it cost, from the ledger: the object that scripts rely on, and its tables."""

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

from batchgen import books, catalog, sums
from batchgen.tallies import LaneSum, Money, Tallies
from batchgen.task import TaskState
from batchgen.text import count

SCHEMA_VERSION = 1
TWINS_MOST = 10  # contents of several images that are told one by one
CONTROL = re.compile(r"[\x7f-\x9f\u200b\u200e\u200f\u202a-\u202e\u2066-\u2069\ufeff]")
Object = dict[str, object]


def usd(nano: object) -> float:
    """Nano-dollars as USD; a whole number of nano-dollars survives the way through a float."""
    return round(int(str(nano)) / 1e9, 9)


def build(ledger: Path) -> Object:
    """The report as one JSON object; see the README for what each figure means."""
    with books.reading_together(ledger, 1 + books.THREADS) as (db, *dbs), ThreadPoolExecutor(1) as pool:
        twins = pool.submit(books.duplicates, db, TWINS_MOST)
        tallies = sums.tallies(dbs)
        usage, groups = tallies.usage(), _groups(tallies, books.variants(dbs[0]))
        equal = _duplicates(*twins.result())
        lanes = [_lane(each) for each in sums.lanes(dbs[0])]
        return {**_totals(dbs[0], tallies), "duplicates": equal, "usage": usage, "lanes": lanes, "groups": groups}


def totals(ledger: Path) -> Object:
    """The report without its groups and tokens."""
    with books.reading_together(ledger) as dbs:
        return _totals(dbs[0], sums.tallies(dbs, by_variant=False))


def _totals(db: books.Connection, tallies: Tallies) -> Object:
    job = books.job_row(db)
    started, ended, _ = books.span(db)
    tasks = tallies.task_states()
    return {
        "schema_version": SCHEMA_VERSION,
        "job": job.name,
        "project": job.project,
        "started_at": started,
        "ended_at": ended,
        "tasks": _with_total(tasks),
        "not_wanted": tallies.not_wanted(),
        "images": {
            "saved": tallies.saved(),
            "missing": books.missing(db) if tallies.broken() else 0,  # each of these looks for a few rows among all
            "bytes": tallies.bytes(),
        },
        "attempts": _with_total(tallies.attempt_states()),
        "blocked": sums.blocked(db),
        "cost": _cost(tallies.money(), tallies.spent_on(), books.models(db))
        | {
            "on_the_way": usd(tallies.on_the_way()[1]),
            "doubted": tallies.money().doubted - tallies.on_the_way()[0],
            "engines": {name: _engine(money) for name, money in tallies.engines().items()},
            "avoided": usd(books.avoided(db) if tasks[TaskState.HELD] else 0),
            "pretend": _pretend(books.lanes(db)) if tallies.attempts else False,
        },
    }


def _lane(each: LaneSum) -> Object:
    """What was bought by one key or region."""
    low, high = usd(each.low), None if each.unpriced else usd(each.high)
    told = {"lane": each.name, "provider": each.provider, "attempts": each.attempts, "answers": each.answers}
    return {**told, "low": low, "high": high, "blocked": each.blocked}


def _duplicates(images: int, contents: int, most: Sequence[books.Twins]) -> Object:
    return {"images": images, "contents": contents, "most": [asdict(each) for each in most]}


def _pretend(lanes: Iterable[str]) -> bool:
    """Whether all that was bought was bought from the sandbox; no further lane is looked for after a real one."""
    return all(catalog.is_pretend(lane) for lane in lanes)


def _with_total(states: Mapping[str, int]) -> dict[str, int]:
    return {"total": sum(states.values()), **states}


def _cost(money: Money, spent_on: Mapping[str, int], models: Sequence[str]) -> Object:
    return {
        "currency": "USD",
        "paid": usd(money.paid),
        "estimated": usd(money.estimated),
        "unknown": usd(money.high - money.paid - money.estimated),
        "low": usd(money.low),
        "high": None if money.unpriced else usd(money.high),
        "answers": money.answers,
        "unpriced_attempts": money.unpriced,
        "prices_as_of": _as_of(models),
        "spent_on": {name: usd(value) for name, value in spent_on.items()},
    }


def _engine(money: Money) -> Object:
    """What was bought in one way."""
    high = None if money.unpriced else usd(money.high)
    return {"answers": money.answers, "paid": usd(money.paid), "low": usd(money.low), "high": high}


def _as_of(models: Sequence[str]) -> str | None:
    """The date of the oldest price list behind the figures."""
    known = {prices.as_of for prices in catalog.price_lists().values() for name in models if catalog.model(name)}
    return min(known, default=None)


def _groups(tallies: Tallies, variants: Sequence[books.VariantRow]) -> list[Object]:
    wanted = tallies.by_variant()
    return [_group(variant, wanted[variant.id]) for variant in variants if variant.id in wanted]


def _group(variant: books.VariantRow, own: Tallies) -> Object:
    usage, money = own.usage(), own.money()
    unpriced = money.unpriced and not money.high
    return {
        "axes": variant.axes,
        "provider": variant.provider,
        "model": variant.model,
        "operation": variant.operation,
        "tasks": sum(own.task_states().values()),
        "images": own.saved(),
        "input_tokens": usage["input_text_tokens"] + usage["input_image_tokens"],
        "output_tokens": usage["output_tokens"],
        "paid": None if unpriced else usd(money.paid),
        "low": None if unpriced else usd(money.low),
        "high": None if unpriced else usd(money.high),
    }


def summary(told: Object) -> list[str]:
    """What a person wants to know first, in a few lines."""
    tasks, images, cost = (_map(told[name]) for name in ("tasks", "images", "cost"))
    ends = [f"{tasks[name]:,} {words}" for name, words in ENDS.items() if tasks[name]]
    missing = [f"{images['missing']:,} missing from their answers"] if images["missing"] else []
    lines = ["Images        " + ", ".join([f"{images['saved']:,} saved", *ends, *missing]), *_equal(told)]
    if cost["answers"] or not (cost["unpriced_attempts"] or cost["high"]):
        source = "of pretend money, from" if cost["pretend"] else "from"
        lines.append(f"Paid          ${cost['paid']:,.4f}  {source} the usage of {count(cost['answers'], 'answer')}")
    batch = cost["engines"].get("batch", {})
    if batch.get("answers"):
        lines.append(f"By batch      ${batch['paid']:,.4f}  of it, for {count(batch['answers'], 'answer')}")
    if cost["unpriced_attempts"]:
        lines.append(
            f"Unpriced      {cost['unpriced_attempts']:,} requests whose price is not known: no figure here counts them"
        )
    if cost["estimated"]:
        lines.append(f"Estimated     ${cost['estimated']:,.4f}  at most, for answers without usage")
    attempts = _map(told["attempts"])
    away = attempts["sending"] + attempts["accepted"]
    if away:
        lines.append(f"On the way    ${cost['on_the_way']:,.4f}  at most, for {count(away, 'request')}")
    if lost := round(cost["unknown"] - cost["on_the_way"], 9):
        requests = count(cost["doubted"], "request")
        lines.append(f"Perhaps also  ${lost:,.4f}  at most, for {requests} without a usable answer")
    if cost["avoided"]:
        lines.append(f"Avoided       ${cost['avoided']:,.4f}  at most, by not sending again what is held")
    gone = sum(_map(told["not_wanted"]).values())
    if gone:
        spent = cost["spent_on"]["dropped"] + cost["spent_on"]["replaced"]
    if gone and spent:
        lines.append(f"Not wanted    ${spent:,.4f}  of it went for {count(gone, 'task')} not wanted any more")
    blocked = told["blocked"]
    assert isinstance(blocked, list)
    return [*lines, *(f"Blocked       {each}" for each in blocked)]


def _equal(told: Object) -> list[str]:
    """That images are equal, where the report has looked for that and there are any."""
    equal = _map(told.get("duplicates", {}))
    if not equal.get("images"):
        return []
    contents = count(equal["contents"], "different file")
    return [f"Duplicates    {equal['images']:,} of them are only {contents}, byte for byte; --json names some"]


ENDS = {
    "todo": "to do",
    "doing": "on the way",
    "refused": "refused by the provider",
    "failed": "failed",
    "held": "held: no usable answer came",
}


def _map(value: object) -> Mapping[str, Any]:
    assert isinstance(value, Mapping)
    return value


@dataclass(frozen=True, slots=True)
class Table:
    """Rows of plain values under column names."""

    columns: tuple[str, ...]
    rows: tuple[tuple[object, ...], ...]


SUMS = ("tasks", "images", "input_tokens", "output_tokens", "paid", "low", "high")


def table(groups: Sequence[Mapping[str, object]], by: Sequence[str] = ()) -> Table:
    """The groups as a table, a row for each value of `by` (axes, provider, model, operation); all axes where empty."""
    axes = list(dict.fromkeys(name for group in groups for name in _axes(group)))
    models = {group["model"] for group in groups}
    names = tuple(by) or (*(["model"] if len(models) > 1 and "model" not in axes else []), *axes)
    sums: dict[tuple[object, ...], list[Decimal | None]] = {}
    for group in groups:
        label = tuple(_axes(group).get(name, group.get(name, "")) for name in names)
        row = sums.setdefault(label, [Decimal(0)] * len(SUMS))
        for i, column in enumerate(SUMS):
            row[i] = _plus(row[i], group[column])
    return Table((*names, *SUMS), tuple((*label, *map(_number, row)) for label, row in sums.items()))


LANES = ("lane", "attempts", "answers", "low", "high")


def lanes(told: Object) -> Table:
    """What each of several keys or regions bought; no rows where there is but one."""
    found = told["lanes"]
    assert isinstance(found, list)
    return Table(LANES, tuple(tuple(each[name] for name in LANES) for each in found))


def narrow(table: Table) -> Table:
    """Without the bounds of the bill where each is what was paid: for people."""
    at = {name: n for n, name in enumerate(table.columns)}
    if not {"paid", "low", "high"} <= at.keys():
        return table
    if any(not row[at["paid"]] == row[at["low"]] == row[at["high"]] for row in table.rows):
        return table
    return without(table, "low", "high")


def without(table: Table, *names: str) -> Table:
    """The table without some columns."""
    kept = [n for n, name in enumerate(table.columns) if name not in names]
    return Table(tuple(table.columns[n] for n in kept), tuple(tuple(row[n] for n in kept) for row in table.rows))


def shares(table: Table) -> list[float | None]:
    """Each row's of the highest bill, 0 to 1; None where no price is known. None at all of one row, or of no bill."""
    costs = [row[table.columns.index("high")] for row in table.rows]
    whole = sum(float(str(cost)) for cost in costs if cost)
    return [None if cost is None else float(str(cost)) / whole for cost in costs] if whole and len(costs) > 1 else []


def moment(time: object) -> str:
    """A time of the ledger's for people: 2026-11-21 06:38 UTC."""
    return f"{str(time)[:16].replace('T', ' ')} UTC" if time else "now"


def _plus(total: Decimal | None, value: object) -> Decimal | None:
    """Their sum; None, an unknown price, makes it unknown."""
    return None if total is None or value is None else total + Decimal(str(value))


def _number(value: Decimal | None) -> float | None:
    if value is None:
        return None
    return int(value) if value == value.to_integral() else float(value)


def _axes(group: Mapping[str, object]) -> Mapping[str, Any]:
    return _map(group["axes"])


def known_columns(groups: Sequence[Mapping[str, object]]) -> list[str]:
    """What a report can be grouped by."""
    return ["provider", "model", "operation", *dict.fromkeys(name for group in groups for name in _axes(group))]


def dumps(value: object) -> str:
    """JSON for people's eyes too: readable letters, but no control character as it is."""
    return CONTROL.sub(lambda found: f"\\u{ord(found[0]):04x}", json.dumps(value, indent=1, ensure_ascii=False))
