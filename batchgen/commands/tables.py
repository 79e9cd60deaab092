"""Tables on the terminal. rich's door."""

import csv
import sys
from collections.abc import Iterable

import click
import rich.box
import rich.console
import rich.table
from rich.text import Text

from batchgen import report
from batchgen.text import clean

MONEY = {"paid", "low", "expected", "high", "usd_low", "usd_high"}


def show(table: report.Table, title: str) -> None:
    """Print a table to stdout, numbers to the right; as wide as it needs where stdout is no terminal."""
    drawn = rich.table.Table(title=Text(clean(title)), title_justify="left", box=rich.box.SIMPLE_HEAD)
    for i, name in enumerate(table.columns):
        numbers = all(isinstance(row[i], int | float) or row[i] is None for row in table.rows)
        drawn.add_column(name.replace("_", " "), justify="right" if numbers else "left", overflow="fold")
    for row in table.rows:
        drawn.add_row(*(Text(_cell(name, value)) for name, value in zip(table.columns, row, strict=True)))
    console = rich.console.Console(width=None if sys.stdout.isatty() else 200, highlight=False)
    with console.capture() as captured:
        console.print(drawn)
    click.echo("\n".join(line.rstrip() for line in captured.get().splitlines()))


def _cell(name: str, value: object) -> str:
    if value is None:
        return "–"
    if name in MONEY:
        return f"${value:,.4f}"
    return f"{value:,}" if isinstance(value, int | float) and not isinstance(value, bool) else clean(value)


def write_csv(header: Iterable[str], rows: Iterable[Iterable[object]]) -> None:
    """CSV on stdout; a cell that a spreadsheet would run as a formula is quoted with an apostrophe."""
    writer = csv.writer(sys.stdout, lineterminator="\n")
    writer.writerow(header)
    for row in rows:
        writer.writerow([_safe(cell) for cell in row])


def _safe(cell: object) -> object:
    if not isinstance(cell, str):
        return cell
    text = clean(cell)
    return f"'{text}" if text.startswith(("=", "+", "-", "@")) else text
