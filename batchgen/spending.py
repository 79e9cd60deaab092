"""What was spent, over runs: by attempt, exact, pretend money apart, and never less than what is told."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from batchgen import books, catalog, report
from batchgen.errors import StorageError
from batchgen.text import count

SCHEMA_VERSION = 1
BY = ("project", "job", "provider", "model", "target")
MONEY = ("paid", "estimated", "unknown", "low", "high")
FIGURES = ("attempts", "images", *MONEY, "unpriced_attempts")
SHOWN = ("attempts", "images", "paid", "low", "high")
NONE = "–"

Label = tuple[str, ...]
Sums = Counter[str]
"""Figures by name; money in nano-dollars."""


@dataclass(slots=True)
class Spending:
    """The sums by label, the label being the values of `by`, and what is not in them."""

    by: tuple[str, ...]
    month: str = ""
    runs: int = 0
    sums: dict[Label, Sums] = field(default_factory=dict)
    pretend: Sums = field(default_factory=Counter)
    unreadable: dict[Path, str] = field(default_factory=dict)

    @property
    def rows(self) -> list[tuple[Label, Sums]]:
        """The dearest first."""
        return sorted(self.sums.items(), key=lambda row: (-row[1]["high"], row[0]))

    @property
    def total(self) -> Sums:
        return sum(self.sums.values(), Counter())


def over(ledgers: Iterable[Path], by: Sequence[str], month: str = "") -> Spending:
    """What was sent in a month (2026-11, UTC), or ever; a ledger that cannot be read is named in it."""
    spending = Spending(tuple(by), month)
    for ledger in ledgers:
        try:
            job = books.job(ledger)
            with books.reading(ledger) as db:
                found = books.bought(db, month)
        except StorageError as error:
            spending.unreadable[ledger] = str(error)
        else:
            _add(spending, job, found)
    return spending


def _add(spending: Spending, job: books.JobRow, found: Sequence[books.Bought]) -> None:
    """One run's spending, to the others'."""
    real = [each for each in found if not catalog.is_pretend(each.provider)]
    rehearsed = [each.high for each in found if catalog.is_pretend(each.provider)]
    spending.runs += bool(real)
    spending.pretend.update(runs=min(len(rehearsed), 1), high=sum(rehearsed))
    for each in real:
        label = tuple(_value(job, each, name) for name in spending.by)
        spending.sums.setdefault(label, Counter()).update(_figures(each))


def _value(job: books.JobRow, bought: books.Bought, name: str) -> str:
    known = {"project": job.project, "job": job.name, "provider": bought.provider, "model": bought.model}
    return known.get(name, str(bought.target)) or NONE


def _figures(bought: books.Bought) -> dict[str, int]:
    return {
        "attempts": bought.attempts,
        "images": bought.images,
        "paid": bought.paid,
        "estimated": bought.estimated,
        "unknown": bought.high - bought.paid - bought.estimated,
        "low": bought.low,
        "high": bought.high,
        "unpriced_attempts": bought.unpriced,
    }


def told(spending: Spending) -> report.Object:
    """The spending as one JSON object; money in USD."""
    return {
        "schema_version": SCHEMA_VERSION,
        "month": spending.month or None,
        "by": list(spending.by),
        "currency": "USD",
        "rows": [{**dict(zip(spending.by, label, strict=True)), **_shown(sums)} for label, sums in spending.rows],
        "total": _shown(spending.total),
        "pretend": {"runs": spending.pretend["runs"], "high": report.usd(spending.pretend["high"])},
        "unreadable": [str(ledger) for ledger in spending.unreadable],
    }


def _shown(sums: Mapping[str, int], names: Sequence[str] = FIGURES) -> dict[str, int | float]:
    return {name: report.usd(sums[name]) if name in MONEY else sums[name] for name in names}


def every_figure(spending: Spending) -> report.Table:
    """The rows alone, for scripts that sum."""
    rows = tuple((*label, *_shown(sums).values()) for label, sums in spending.rows)
    return report.Table((*spending.by, *FIGURES), rows)


def table(spending: Spending) -> report.Table:
    """What fits a terminal, the total below."""
    last = ("total", *[""] * (len(spending.by) - 1))
    rows = tuple((*label, *_shown(sums, SHOWN).values()) for label, sums in [*spending.rows, (last, spending.total)])
    return report.Table((*spending.by, *SHOWN), rows)


def summary(spending: Spending) -> list[str]:
    """What makes up the total beside what is paid, and what the sums do not hold."""
    total, pretend = spending.total, spending.pretend
    lines = []
    if total["estimated"]:
        lines.append(f"Estimated     ${report.usd(total['estimated']):,.4f}  at most, for answers without usage")
    if total["unknown"]:
        unknown = f"${report.usd(total['unknown']):,.4f}"
        lines.append(f"Perhaps also  {unknown}  at most, for requests without a usable answer")
    if unpriced := total["unpriced_attempts"]:
        lines.append(f"{count(unpriced, 'request')} whose price is not known: not in these sums")
    if pretend["runs"]:
        money = f"${report.usd(pretend['high']):,.2f}"
        lines.append(f"Not counted: {money} of pretend money in {count(pretend['runs'], 'rehearsal')}")
    return lines
