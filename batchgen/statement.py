"""A provider's own account of what it billed, as people can export it, read into lines.

Such files differ in form (CSV, JSON, JSON lines), in their columns and in what a line stands for: a day, a request, a
kind of token. So columns are known by their names, wherever they stand, and others are passed over; but nothing is
guessed about money: what cannot be read exactly, or is not in dollars, is an error.
"""

import csv
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import ROUND_HALF_EVEN, Context, Decimal
from pathlib import Path
from typing import TextIO

from batchgen.errors import UsageError

NANO = 10**9
FILE_MOST = 512 * 2**20  # bytes, where lines are read one by one
DOCUMENT_MOST = 64 * 2**20  # of JSON that must be read as a whole
LINES_MOST = 1_000_000

# What is looked for, and the columns that it may stand in, the most telling first.
_NANO = ("nano_usd", "total_nano_usd")  # the sandbox's
_USD = ("amount_value", "cost_usd", "usd", "amount_usd", "total_cost", "cost", "spend", "amount")
_CURRENCY = ("amount_currency", "cost_currency", "currency")
_IMAGES = ("images", "num_images", "image_count")
_REQUESTS = ("num_model_requests", "num_requests", "requests", "request_count")
_MODEL = ("model", "model_name", "line_item")
_IDS = ("client_request_id", "x_client_request_id", "request_id", "x_request_id", "litellm_call_id")
_BEGIN = (
    *("start_time", "start_time_iso", "start", "start_date", "period_start"),
    *("timestamp", "created_at", "time", "at", "date", "day"),
)
_END = ("end_time", "end_time_iso", "end", "end_date", "period_end")

_RELIED_ON = {*_NANO, *_USD, *_CURRENCY, *_IMAGES, *_REQUESTS, *_MODEL, *_IDS, *_BEGIN, *_END}

_NESTED = ("data", "results", "result", "charges")
_AMOUNT = re.compile(r"(-?)\$?((?:[0-9]{1,12}(?:\.[0-9]{0,60})?|\.[0-9]{1,60})(?:[eE][+-]?[0-9]{1,2})?)")
_COUNT = re.compile(r"([0-9]{1,12})(?:\.0+)?")
_SECONDS = re.compile(r"[0-9]{9,13}(?:\.[0-9]+)?")
_DAY = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
_EXACT = Context(prec=120)
_Record = Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Line:
    """What was billed from `begin` to `end`, UTC, the end itself not counted; None where the line does not tell.

    `amount` is in nano-dollars, `model` as the provider writes it; `ids` name the request, where the line is about one.
    """

    begin: datetime | None = None
    end: datetime | None = None
    amount: int | None = None
    images: int | None = None
    requests: int | None = None
    model: str = ""
    ids: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Statement:
    """The lines of a file. `pretend`: the sandbox wrote it. `measure`: what it counts in, money if there is any."""

    name: str
    lines: tuple[Line, ...]
    measure: str
    pretend: bool = False

    @property
    def span(self) -> tuple[datetime, datetime] | None:
        """The time that it covers; None where it tells no times, or holds all that ever was, as the sandbox's does."""
        begins = [line.begin for line in self.lines if line.begin]
        ends = [line.end for line in self.lines if line.end]
        return (min(begins), max(ends)) if begins and ends and not self.pretend else None


def read(path: Path) -> Statement:
    """What a provider exported; UsageError where money or counts in it cannot be told for certain."""
    try:
        return _statement(path)
    except OSError as error:
        raise UsageError(f"{path}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise UsageError(f"{path}: is not text in UTF-8") from None
    except csv.Error as error:
        raise UsageError(f"{path}: is no proper CSV: {error}") from None
    except RecursionError:
        raise UsageError(f"{path}: is nested too deeply") from None


def _statement(path: Path) -> Statement:
    if path.stat().st_size > FILE_MOST:
        raise UsageError(f"{path}: is larger than {FILE_MOST >> 20} MiB: export a shorter time")
    lines: list[Line] = []
    seen: dict[str, None] = {}
    timeless = ""
    for where, record in _records(path):
        seen.update(dict.fromkeys(record))
        lines.append(_line(where, record))
        timeless = timeless or ("" if lines[-1].begin else where)
        if len(lines) > LINES_MOST:
            raise UsageError(f"{path}: has more than {LINES_MOST:,} lines: export a shorter time")
    if not lines:
        raise UsageError(f"{path}: holds no lines")
    measure = _measure(path, seen)
    if timeless and any(line.begin for line in lines):
        raise UsageError(f"{timeless}: tells no time, and others do. If it is a sum of them, take it out")
    return Statement(path.name, tuple(lines), measure, any(name in seen for name in _NANO))


def _measure(path: Path, seen: Iterable[str]) -> str:
    """Columns decide, not values: a time in which nothing was billed is an answer, too."""
    for measure, names in {"money": (*_NANO, *_USD), "images": _IMAGES, "requests": _REQUESTS}.items():
        if any(name in seen for name in names):
            return measure
    raise UsageError(
        f"{path}: holds no amount and no count. Its columns: {', '.join(seen) or 'none'}."
        f" Needed is one of {', '.join((*_USD, *_IMAGES, *_REQUESTS))}"
    )


def _records(path: Path) -> Iterator[tuple[str, _Record]]:
    """Every line with its place, flat, under the names of its columns in one spelling."""
    with path.open(encoding="utf-8-sig", newline="") as file:
        start = file.read(256).lstrip()
        file.seek(0)
        if not start:
            raise UsageError(f"{path}: is empty")
        if not start.startswith(("{", "[")):
            yield from _table(path, file)
            return
        for n, document in enumerate(_documents(path, file), 1):
            yield from ((f"{path}: line {n}", record) for record in _flat(document, {}))


def _table(path: Path, file: TextIO) -> Iterator[tuple[str, _Record]]:
    head = file.readline()
    file.seek(0)
    reader = csv.reader(file, delimiter=max(",;\t", key=head.count), strict=True)
    columns = [_spelled(name) for name in next(reader)]
    _measure(path, columns)
    twice = [name for name in columns if name in _RELIED_ON and columns.count(name) > 1]
    if twice:
        raise UsageError(f"{path}: has two columns {twice[0]}")
    for cells in reader:
        if len(cells) > len(columns):
            raise UsageError(f"{path}:{reader.line_num}: has {len(cells)} cells under {len(columns)} columns")
        if any(cells):
            filled = [*cells, *[""] * (len(columns) - len(cells))]
            yield f"{path}:{reader.line_num}", dict(zip(columns, map(str.strip, filled), strict=True))


def _documents(path: Path, file: TextIO) -> Iterator[object]:
    """One JSON value a line, or one in all; the pages of a long answer must all be there."""
    more = False
    try:
        for document in _parsed(path, file):
            if not isinstance(document, dict):
                raise ValueError("it must hold objects")
            more = document.get("has_more") is True
            yield document
    except ValueError as error:
        raise UsageError(f"{path}: is no proper JSON: {error}") from None
    if more:
        raise UsageError(
            f"{path}: is not all, it says has_more. Ask for the other pages too (limit=180, page=…), and put them into"
            " one file, a line each"
        )


def _parsed(path: Path, file: TextIO) -> Iterator[object]:
    try:
        first = _loads(file.readline(DOCUMENT_MOST))
    except ValueError:
        file.seek(0)
        whole = file.read(DOCUMENT_MOST + 1)
        if len(whole) > DOCUMENT_MOST:
            raise UsageError(f"{path}: is larger than {DOCUMENT_MOST >> 20} MiB: export a shorter time") from None
        first = _loads(whole)
    yield from first if isinstance(first, list) else [first]
    yield from (_loads(line) for line in iter(lambda: file.readline(DOCUMENT_MOST), "") if line.strip())


def _loads(text: str) -> object:
    """Numbers stay as they are written: no amount goes through a float."""
    return json.loads(text, parse_float=str, parse_int=str, parse_constant=str)


def _flat(value: object, above: _Record) -> Iterator[_Record]:
    """The innermost objects of lists in lists; each is given the times of what holds it."""
    if isinstance(value, list):
        for each in value:
            yield from _flat(each, above)
    elif isinstance(value, dict):
        own = {**above, **dict(_scalars(value))}
        inner = [value[name] for name in _NESTED if isinstance(value.get(name), list)]
        if not any(inner):
            yield own
        for each in inner:
            yield from _flat(each, {name: own[name] for name in (*_BEGIN, *_END) if name in own})


def _scalars(value: Mapping[str, object], prefix: str = "") -> Iterator[tuple[str, str]]:
    for name, each in value.items():
        if isinstance(each, dict) and not prefix:
            yield from _scalars(each, f"{name}_")
        elif isinstance(each, str) or each is None:
            yield _spelled(f"{prefix}{name}"), (each or "").strip()


def _spelled(name: str) -> str:
    """`startTime` and `Start Time` are `start_time`."""
    parted = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name.strip())
    return re.sub(r"[^a-z0-9]+", "_", parted.lower()).strip("_")


def _line(where: str, record: _Record) -> Line:
    begin, end = _times(where, record)
    return Line(
        begin,
        end,
        _amount(where, record),
        _count(where, record, _IMAGES),
        _count(where, record, _REQUESTS),
        _found(record, _MODEL)[1].partition(",")[0].strip(),
        tuple(dict.fromkeys(record[name] for name in _IDS if record.get(name))),
    )


def _found(record: _Record, names: Iterable[str]) -> tuple[str, str]:
    """The first of these columns that is filled, and what it holds."""
    return next(((name, record[name]) for name in names if record.get(name)), ("", ""))


def _amount(where: str, record: _Record) -> int | None:
    name, text = _found(record, (*_NANO, *_USD))
    if not name:
        return None
    _, currency = _found(record, _CURRENCY)
    if currency.lower() not in ("", "usd"):
        raise UsageError(f"{where}: is in {currency}; only USD can be compared")
    found = _AMOUNT.fullmatch(text)
    if not found:
        raise UsageError(f"{where}: {name}: {text!r} is no amount in dollars like 0.0412")
    exact = _EXACT.create_decimal("".join(found.groups()))
    nano = exact if name in _NANO else _EXACT.multiply(exact, Decimal(NANO))
    return int(nano.to_integral_value(ROUND_HALF_EVEN))


def _count(where: str, record: _Record, names: Iterable[str]) -> int | None:
    name, text = _found(record, names)
    found = _COUNT.fullmatch(text)
    if name and not found:
        raise UsageError(f"{where}: {name}: {text!r} is no count")
    return int(found[1]) if found else None


def _times(where: str, record: _Record) -> tuple[datetime | None, datetime | None]:
    """A day named alone is meant from its beginning to its end."""
    first, last = _found(record, _BEGIN), _found(record, _END)
    begin = _moment(where, *first) if first[0] else None
    end = _moment(where, *last) if last[0] and begin else begin
    if begin and end == begin and _DAY.fullmatch(first[1]):
        end = begin + timedelta(days=1)
    if begin and end and end < begin:
        raise UsageError(f"{where}: ends before it begins")
    return begin, end


def _moment(where: str, name: str, text: str) -> datetime:
    """Seconds or milliseconds since 1970, or a date; without a zone it is UTC."""
    try:
        if _SECONDS.fullmatch(text):
            number = float(text)
            return datetime.fromtimestamp(number / 1000 if number > 1e11 else number, UTC)
        found = datetime.fromisoformat(text.removesuffix("UTC").strip())
        return (found if found.tzinfo else found.replace(tzinfo=UTC)).astimezone(UTC)
    except (ValueError, OverflowError):
        raise UsageError(f"{where}: {name}: {text!r} is no time like 2026-11-20T22:00:00Z") from None
