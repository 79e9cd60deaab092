"""Tables on the terminal. rich's door."""

import csv
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager

import click
import rich.box
import rich.console
import rich.live
import rich.table
from rich.cells import cell_len
from rich.text import Text

from batchgen import report
from batchgen.text import clean, shielded

PROSE = {"error", "prompt"}  # columns that may have several lines, before anything else does
PROSE_LEAST = 16  # letters
BAR_LEAST, BAR_MOST = 8, 24  # letters
BESIDE_BAR = 8  # letters of its percents, and between it and the table
EIGHTHS = ("", *"▏▎▍▌▋▊▉")
MONEY = {"paid", "low", "expected", "high", "usd_low", "usd_high"}


def show(table: report.Table, title: str, shares: Sequence[float | None] = (), spare: Sequence[str] = ()) -> None:
    """Print a table to stdout, numbers to the right; as wide as it needs where stdout is no terminal.

    On a terminal the rows' shares of a whole, 0 to 1, are drawn as bars behind them. Where that is narrow the `spare`
    columns make room, one by one.
    """
    live = sys.stdout.isatty()
    console = rich.console.Console(width=None if live else 200, highlight=False)
    barred = any(shares) and live and not console.options.ascii_only
    widths = {name: _width(table, n) for n, name in enumerate(table.columns)}
    for name in spare:
        if live and _whole(widths) + barred * (BESIDE_BAR + BAR_LEAST) > console.width:
            table, _ = report.without(table, name), widths.pop(name, None)
    room = console.width - _whole(widths)
    bars = _bars(shares, min(room - BESIDE_BAR, BAR_MOST)) if barred and room >= BESIDE_BAR + BAR_LEAST else ()
    drawn = _drawn(table, bars, fold=room < 0)
    drawn.title, drawn.title_justify = Text(clean(title)), "left"
    with console.capture() as captured:
        console.print(drawn)
    click.echo("\n".join(line.rstrip() for line in captured.get().splitlines()))


def _width(table: report.Table, n: int) -> int:
    """Of a column, in letters; prose takes several lines where it must."""
    name = table.columns[n]
    most = max(cell_len(text) for text in (name, *(_cell(name, row[n]) for row in table.rows)))
    return min(most, PROSE_LEAST) if name in PROSE else most


def _whole(widths: Mapping[str, int]) -> int:
    return sum(widths.values()) + 3 * len(widths) + 1


def _drawn(table: report.Table, bars: Sequence[str], fold: bool) -> rich.table.Table:
    """Where it must, prose takes several lines; with `fold` anything does."""
    drawn = rich.table.Table(box=rich.box.SIMPLE_HEAD)
    for i, name in enumerate(table.columns):
        numbers = all(isinstance(row[i], int | float) or row[i] is None for row in table.rows)
        justify: rich.console.JustifyMethod = "right" if numbers else "left"
        wraps = fold or name in PROSE
        drawn.add_column(Text(clean(name).replace("_", " ")), justify=justify, overflow="fold", no_wrap=not wraps)
    if bars:
        drawn.add_column("share", no_wrap=True)
    for row, bar in zip(table.rows, bars or [""] * len(table.rows), strict=True):
        cells = (Text(_cell(name, value)) for name, value in zip(table.columns, row, strict=True))
        drawn.add_row(*cells, *([Text(bar)] if bars else []))
    return drawn


def _bars(shares: Sequence[float | None], width: int) -> list[str]:
    """` 52% ████▌`: the largest as wide as there is room; what is not nothing is seen."""
    most = max(share for share in shares if share)
    return ["   –" if share is None else f"{_percent(share)} {_bar(share / most, width)}" for share in shares]


def _percent(share: float) -> str:
    return " <1%" if 0 < share < 0.005 else f"{share:4.0%}"


def _bar(part: float, width: int) -> str:
    full, rest = divmod(max(round(8 * width * part), int(part > 0)), 8)
    return f"{'█' * full}{EIGHTHS[rest]}"


def _cell(name: str, value: object) -> str:
    if value is None:
        return "–"
    if isinstance(value, bool) or not isinstance(value, int | float):
        return clean(value)
    return f"${value:,.4f}" if name in MONEY else f"{value:,}"


def lively() -> bool:
    """Whether what stdout shows can be drawn anew."""
    return sys.stdout.isatty() and not rich.console.Console().is_dumb_terminal


@contextmanager
def redrawn() -> Iterator[Callable[[str], None]]:
    """Draws a text in the place of the one before."""
    with rich.live.Live(console=rich.console.Console(highlight=False), auto_refresh=False) as live:
        yield lambda text: live.update(Text(text, overflow="fold"), refresh=True)


@contextmanager
def repeated() -> Iterator[Callable[[str], None]]:
    """Prints a text, unless it is the same as the one before."""
    last = ""

    def tell(text: str) -> None:
        nonlocal last
        if text != last:
            click.echo(text)
        last = text

    yield tell


def write_csv(header: Sequence[str], rows: Iterable[Iterable[object]], exact: str = "") -> None:
    """CSV on stdout; a cell that a spreadsheet would run as a formula is quoted with an apostrophe.

    The column that is `exact` can be read again as it was, with its line ends, unless a terminal shows it.
    """
    kept = header.index(exact) if exact and not sys.stdout.isatty() else None
    writer = csv.writer(sys.stdout, lineterminator="\n", quoting=csv.QUOTE_ALL if exact else csv.QUOTE_MINIMAL)
    writer.writerow([_safe(name, False) for name in header])
    for row in rows:
        writer.writerow([_safe(cell, n == kept) for n, cell in enumerate(row)])


def _safe(cell: object, exact: bool) -> object:
    return shielded(cell if exact else clean(cell)) if isinstance(cell, str) else cell
