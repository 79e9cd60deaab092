"""Text from outside, made safe to show: it may not steer a terminal, nor forge a line of a log."""

import re

CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u200b\u200e\u200f\u202a-\u202e\u2066-\u2069\ufeff]")
FORMULA = re.compile(r"'*[=+\-@\t\r]")
SPACE = re.compile(r"[\t\n\r\u2028\u2029]+")


def count(number: int, noun: str, nouns: str = "") -> str:
    """`1 task`, `1,200 tasks`; `nouns` where it is more than an s."""
    return f"{number:,} {noun if number == 1 else nouns or f'{noun}s'}"


def size(count: float) -> str:
    """Bytes for people, in powers of ten."""
    for unit in ("bytes", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:,.0f} {unit}" if unit == "bytes" or count >= 100 else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:,.1f} TB"


def duration(seconds: float) -> str:
    """Time for people."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min" if hours else f"{minutes} min {rest:02d} s" if minutes else f"{rest} s"


def clean(text: object) -> str:
    """One line without control characters."""
    return CONTROL.sub("", SPACE.sub(" ", str(text)))


def shielded(text: str) -> str:
    """As a cell of CSV that no spreadsheet runs as a formula: one that would be begins with an apostrophe."""
    return f"'{text}" if FORMULA.match(text) else text


def unshielded(cell: str) -> str:
    """The text of such a cell, also where the spreadsheet took the apostrophe for its own and dropped it."""
    return cell[1:] if cell.startswith("'") and FORMULA.match(cell) else cell
