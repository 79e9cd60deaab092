"""What a run made and what it cost, from the ledger: the object that scripts rely on, and its tables."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from batchgen import books, catalog

SCHEMA_VERSION = 1
Object = dict[str, object]


def usd(nano: object) -> float:
    """Nano-dollars as USD; a whole number of nano-dollars survives the way through a float."""
    return round(int(str(nano)) / 1e9, 9)


def build(ledger: Path) -> Object:
    """The report as one JSON object; see the README for what each figure means."""
    job = books.job(ledger)
    with books.reading(ledger) as db:
        db.execute("BEGIN")  # one moment for all figures, whatever a run writes meanwhile
        started, ended, _ = books.span(db)
        attempts = books.attempt_states(db)
        return {
            "schema_version": SCHEMA_VERSION,
            "job": job.name,
            "project": job.project,
            "started_at": started,
            "ended_at": ended,
            "tasks": _with_total(books.task_states(db)),
            "not_wanted": books.not_wanted(db),
            "images": books.images(db),
            "attempts": _with_total(attempts),
            "usage": dict(books.usage(db)),
            "cost": _cost(books.money(db), books.spent_on(db), books.models(db)),
            "groups": [_group(row) for row in books.groups(db)],
        }


def _with_total(states: Mapping[str, int]) -> dict[str, int]:
    return {"total": sum(states.values()), **states}


def _cost(money: books.Row, spent_on: books.Row, models: Sequence[str]) -> Object:
    unknown = int(str(money["high"])) - int(str(money["paid"])) - int(str(money["estimated"]))
    return {
        "currency": "USD",
        "paid": usd(money["paid"]),
        "estimated": usd(money["estimated"]),
        "unknown": usd(unknown),
        "low": usd(money["low"]),
        "high": usd(money["high"]),
        "prices_as_of": _as_of(models),
        "spent_on": {name: usd(value) for name, value in spent_on.items()},
    }


def _as_of(models: Sequence[str]) -> str | None:
    """The date of the oldest price list behind the figures."""
    known = {prices.as_of for prices in catalog.price_lists().values() for name in models if catalog.model(name)}
    return min(known, default=None)


def _group(row: books.Row) -> Object:
    names = ("provider", "model", "operation", "tasks", "images", "input_tokens", "output_tokens")
    money = {name: usd(row[name]) for name in ("paid", "low", "high")}
    return {"axes": row["axes"], **{name: row[name] for name in names}, **money}


def summary(told: Object) -> list[str]:
    """What a person wants to know first, in a few lines."""
    tasks, images, attempts, cost = (_map(told[name]) for name in ("tasks", "images", "attempts", "cost"))
    ends = [f"{tasks[name]:,} {words}" for name, words in ENDS.items() if tasks[name]]
    missing = [f"{images['missing']:,} missing from their answers"] if images["missing"] else []
    lines = ["Images        " + ", ".join([f"{images['saved']:,} saved", *ends, *missing])]
    lines.append(f"Paid          ${cost['paid']:,.4f}  from the usage of {attempts['paid']:,} answers")
    if cost["estimated"]:
        lines.append(f"Estimated     ${cost['estimated']:,.4f}  at most, for answers without usage")
    if cost["unknown"]:
        lost = attempts["unknown"] + attempts["unusable"] + attempts["sending"] + attempts["accepted"]
        lines.append(f"Perhaps also  ${cost['unknown']:,.4f}  at most, for {lost:,} requests without a usable answer")
    return lines


ENDS = {
    "todo": "to do",
    "doing": "on the way",
    "refused": "refused by the provider",
    "failed": "failed",
    "held": "held: perhaps paid, no answer came",
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
    sums: dict[tuple[object, ...], list[float]] = {}
    for group in groups:
        label = tuple(_axes(group).get(name, group.get(name, "")) for name in names)
        row = sums.setdefault(label, [0] * len(SUMS))
        for i, column in enumerate(SUMS):
            row[i] += float(str(group[column])) if i > 3 else int(str(group[column]))
    return Table((*names, *SUMS), tuple((*label, *_rounded(row)) for label, row in sums.items()))


def _rounded(row: Sequence[float]) -> list[float]:
    return [round(value, 9) if isinstance(value, float) else value for value in row]


def _axes(group: Mapping[str, object]) -> Mapping[str, Any]:
    return _map(group["axes"])


def known_columns(groups: Sequence[Mapping[str, object]]) -> list[str]:
    """What a report can be grouped by."""
    return ["provider", "model", "operation", *dict.fromkeys(name for group in groups for name in _axes(group))]


def dumps(value: object) -> str:
    return json.dumps(value, indent=1, ensure_ascii=False)
