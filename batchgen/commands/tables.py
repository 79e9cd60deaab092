"""Tables on the terminal. rich's door."""

import sys

import rich.box
import rich.console
import rich.table
from rich.text import Text

from batchgen import report
from batchgen.text import clean

MONEY = {"paid", "low", "high", "usd_low", "usd_high"}


def show(table: report.Table, title: str) -> None:
    """Print a table to stdout, numbers to the right; as wide as it needs where stdout is no terminal."""
    drawn = rich.table.Table(title=Text(clean(title)), title_justify="left", box=rich.box.SIMPLE_HEAD)
    for i, name in enumerate(table.columns):
        numbers = all(isinstance(row[i], int | float) or row[i] is None for row in table.rows)
        drawn.add_column(name.replace("_", " "), justify="right" if numbers else "left", overflow="fold")
    for row in table.rows:
        drawn.add_row(*(Text(_cell(name, value)) for name, value in zip(table.columns, row, strict=True)))
    width = None if sys.stdout.isatty() else 200
    rich.console.Console(width=width, highlight=False).print(drawn)


def _cell(name: str, value: object) -> str:
    if value is None:
        return "–"
    if name in MONEY:
        return f"${value:,.4f}"
    return f"{value:,}" if isinstance(value, int | float) and not isinstance(value, bool) else clean(value)
