"""A provider's bill beside our books, told to people and to scripts."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import datetime
from functools import lru_cache
from pathlib import Path

from batchgen import books, catalog, reconcile, records, report
from batchgen.reconcile import AGREES, LESS, MORE, Comparison, Sent, Sums
from batchgen.statement import Statement
from batchgen.task import AttemptState, Variant
from batchgen.text import count

SHOWN = 5  # of a list
Least = Callable[[Variant], int]


def attempts(ledgers: Iterable[tuple[Path, Least]], pretend: bool) -> Iterator[Sent]:
    """All attempts that took real money, or all that took none; StorageError where a ledger cannot be read.

    With each ledger comes what a variant of it costs at least, nano-dollars.
    """
    for ledger, least in ledgers:
        with books.reading(ledger) as db:
            lowest = lru_cache(lambda *columns, least=least: least(records.variant(columns)))
            for row in books.sent(db):
                if catalog.is_pretend(str(row["provider"])) == pretend:
                    yield _sent(ledger, row, lowest)


def _sent(ledger: Path, row: books.Row, least: Callable[..., int]) -> Sent:
    columns = [str(row[name]) for name in ("provider", "model", "operation", "params", "axes")]
    return Sent(
        str(ledger.parent),
        str(row["id"]),
        str(row["purchase"]),
        str(row["request_id"]),
        str(row["state"]),
        str(row["model"]),
        int(str(row["images"])),
        _whole(row["cost_low"]),
        _whole(row["cost_high"]),
        least(*columns) if row["state"] == AttemptState.UNKNOWN else 0,
        datetime.fromisoformat(str(row["sent_at"])),
        datetime.fromisoformat(str(row["ended_at"])) if row["ended_at"] else None,
    )


def _whole(value: object) -> int | None:
    return None if value is None else int(str(value))


def told(statement: Statement, compared: Comparison) -> report.Object:
    """The comparison as one JSON object; money in USD, other measures as they are counted."""
    figure = report.usd if compared.measure == "money" else int
    least, most = compared.were_billed
    begin, end = compared.span or (None, None)
    return {
        "file": statement.name,
        "pretend": statement.pretend,
        "measure": compared.measure,
        "from": begin and begin.isoformat(),
        "to": end and end.isoformat(),
        "verdict": compared.verdict,
        "rows": [{"model": name or None, **_row(row, figure)} for name, row in compared.rows.items()],
        "total": _row(compared.total, figure),
        "other_models": {name: figure(value) for name, value in compared.others.items()},
        "outside": compared.outside,
        "unknown": {"requests": len(compared.unknown), "billed_least": least, "billed_most": most},
        "by_request": _requests(compared) if compared.by_request else None,
        "resolve": list(reconcile.commands(compared)),
    }


def _row(row: Sums, figure: Callable[[int], float]) -> report.Object:
    return {
        "requests": row.requests,
        "low": figure(row.low),
        "high": None if row.unpriced else figure(row.high),
        "billed": figure(row.billed),
        "verdict": row.verdict,
    }


def _requests(compared: Comparison) -> report.Object:
    return {
        "ours": compared.matched,
        "not_ours": [
            {"ids": list(line.ids), "at": line.begin and line.begin.isoformat(), "billed": _usd(line.amount)}
            for line in compared.strangers
        ],
        "not_billed": [each.id for each in compared.missing],
        "out_of_bounds": [
            {"id": each.id, "billed": report.usd(billed), "low": _usd(each.low), "high": _usd(each.high)}
            for each, billed in compared.off
        ],
        "unknown_billed": [each.id for each in compared.billed],
        "unknown_not_billed": [each.id for each in compared.spared],
    }


def _usd(nano: int | None) -> float | None:
    return None if nano is None else report.usd(nano)


def summary(statement: Statement, compared: Comparison) -> Iterator[str]:
    """What a person wants to know first, in a few lines, and what to type where the bill settles something."""
    yield f"Bill          {statement.name}: {_what(statement)}{_when(compared)}"
    for name, row in compared.rows.items():
        yield from _sums(compared, row, f" for {name}" if name else "")
    if compared.others:
        names = ", ".join(f"{name} {_shown(compared, value)}" for name, value in compared.others.most_common(SHOWN))
        more = f" and {len(compared.others) - SHOWN:,} more" if len(compared.others) > SHOWN else ""
        yield f"Not compared  {names}{more}: no run here asked for {'it' if len(compared.others) == 1 else 'them'}"
    if compared.outside:
        yield f"Not compared  {count(compared.outside, 'request')} of ours at other times than the bill's"
    if compared.total.unpriced:
        yield f"Unpriced      {count(compared.total.unpriced, 'request')} of ours: what they may cost is not known"
    yield from _named(compared) if compared.by_request else _unnamed(statement, compared)
    yield from _unknown(compared)


def _what(statement: Statement) -> str:
    source = "of pretend money, " if statement.pretend else ""
    return source + count(len(statement.lines), "line")


def _when(compared: Comparison) -> str:
    if compared.span:
        return f", {_moment(compared.span[0])} to {_moment(compared.span[1])} UTC"
    return "" if compared.by_request else ", without times: held against all that these runs ever sent"


def _moment(time: datetime) -> str:
    return f"{time:%Y-%m-%d %H:%M}"


def _shown(compared: Comparison, value: int) -> str:
    return _dollars(value, 4) if compared.measure == "money" else count(value, compared.measure.removesuffix("s"))


def _exactly(compared: Comparison, value: int) -> str:
    """Where a small difference is the point."""
    return _dollars(value, 9) if compared.measure == "money" else _shown(compared, value)


def _dollars(nano: int, places: int) -> str:
    whole, _, cents = f"{report.usd(nano):,.{places}f}".partition(".")
    return f"${whole}.{cents.rstrip('0'):0<4}"


def _sums(compared: Comparison, row: Sums, what: str) -> Iterator[str]:
    if not row.requests and not row.billed:
        yield "Nothing       to compare: no request of ours is of the bill's time, and nothing was billed"
        return
    high = "more than is known" if row.unpriced else _shown(compared, row.high)
    low = _shown(compared, row.low)
    yield f"Billed        {_shown(compared, row.billed)}{what}"
    yield f"Our books     {low if low == high else f'{low} to {high}'}  for {count(row.requests, 'request')}"
    over, under = _exactly(compared, row.billed - row.high), _exactly(compared, row.low - row.billed)
    agrees = "Agrees        " if compared.verdict == AGREES else "By the sum    "
    yield {
        AGREES: f"{agrees}the bill lies within what our books say",
        MORE: f"MORE          by {over} than our books explain: is the key used elsewhere, is a run not given here?",
        LESS: f"LESS          by {under} than our books are sure of: is the bill late, or another key's?",
    }[row.verdict]


def _unnamed(statement: Statement, compared: Comparison) -> Iterator[str]:
    if any(line.ids for line in statement.lines):
        yield "By request    no request that the bill names is ours: only the sums were compared"


def _named(compared: Comparison) -> Iterator[str]:
    yield f"By request    {count(compared.matched, 'request')} of ours named by the bill"
    if found := compared.strangers:
        money = _dollars(sum(line.amount or 0 for line in found), 4)
        yield f"NOT OURS      {count(len(found), 'line')} of the bill, {money}, for requests that no run here sent"
        yield from _some([next(iter(line.ids), "one without a name") for line in found])
    if compared.missing:
        yield f"NOT BILLED    {count(len(compared.missing), 'request')} that our books hold for paid"
        yield from _some([each.id for each in compared.missing])
    if compared.off:
        yield f"OUT OF BOUNDS {count(len(compared.off), 'request')} of ours billed at what our books rule out"
        yield from _some([_off(each, billed) for each, billed in compared.off])


def _off(attempt: Sent, billed: int) -> str:
    low, high = (_dollars(value or 0, 9) for value in (attempt.low, attempt.high))
    return f"{attempt.id}  {attempt.state}  {_dollars(billed, 9)}, not {low if low == high else f'{low} to {high}'}"


def _some(found: Sequence[str]) -> Iterator[str]:
    yield from (f"              {each}" for each in found[:SHOWN])
    if len(found) > SHOWN:
        yield f"              and {len(found) - SHOWN:,} more: --json lists them"


def _unknown(compared: Comparison) -> Iterator[str]:
    """Of the requests that nobody answered."""
    if not compared.unknown:
        return
    lost = count(len(compared.unknown), "unanswered request")
    if compared.by_request:
        open_ = len(compared.unknown) - len(compared.billed) - len(compared.spared)
        left = f", {open_:,} cannot be told from this bill" if open_ else ""
        yield f"Unanswered    of {lost} {len(compared.billed):,} billed, {len(compared.spared):,} not billed{left}"
    elif compared.verdict == AGREES:
        least, most = compared.were_billed
        range_ = f"{least:,}" if least == most else f"{least:,} to {most:,}"
        yield f"Unanswered    of {lost} {range_} billed, as far as the sum tells"
    commands = list(reconcile.commands(compared))
    if commands:
        yield "To write that into the books:"
        yield from (f"  {command}" for command in commands)
