"""What one scenario found: rows of figures, a figure a round, beside what they should be."""

import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass

LABEL = 24  # characters


@dataclass(frozen=True, slots=True)
class Target:
    """The bounds of a row's median in one column."""

    row: str
    column: str
    least: float | None = None
    most: float | None = None

    def met(self, found: float) -> bool:
        return (self.least is None or found >= self.least) and (self.most is None or found <= self.most)

    def __str__(self) -> str:
        return f"≥ {self.least:g}" if self.least is not None else f"≤ {self.most:g}"


@dataclass(frozen=True, slots=True)
class Section:
    """Row → column → a figure for each round; a row's name says its unit."""

    name: str
    about: str
    rows: Mapping[str, Mapping[str, Sequence[float]]]
    targets: Sequence[Target] = ()
    note: str = ""
    taken: str = ""  # of the machine, meanwhile

    def median(self, row: str, column: str) -> float:
        return statistics.median(self.rows[row][column])

    def lines(self) -> Iterator[str]:
        """A table that lines up, and below it what was wanted."""
        columns = list(dict.fromkeys(column for row in self.rows.values() for column in row))
        cells = {label: [_cell(row.get(each, ())) for each in columns] for label, row in self.rows.items()}
        widths = [max(len(row[n]) for row in [columns, *cells.values()]) + 3 for n in range(len(columns))]
        yield f"{self.name}: {self.about}{self.taken and f' ({self.taken})'}"
        for label, row in {"": columns, **cells}.items():
            padded = (f"{cell:{width}}" for cell, width in zip(row, widths, strict=True))
            yield f"  {label:{LABEL}}{''.join(padded)}".rstrip()
        for target in self.targets:
            found = self.median(target.row, target.column)
            verdict = "met" if target.met(found) else "MISSED"
            yield f"  {verdict:7}{target.row}, {target.column}: {figure(found)}, wanted {target}"
        if self.note:
            yield f"  {self.note}"

    def told(self) -> dict[str, object]:
        """The same for a program."""
        rows = {label: {column: _summary(found) for column, found in row.items()} for label, row in self.rows.items()}
        targets = [{**asdict(each), "met": each.met(self.median(each.row, each.column))} for each in self.targets]
        return {"about": self.about, "taken": self.taken, "rows": rows, "targets": targets, "note": self.note}


def figure(value: float) -> str:
    """Three digits that count."""
    digits = 0 if abs(value) >= 100 else 1 if abs(value) >= 10 else 2
    return f"{value:,.{digits}f}"


def _cell(found: Sequence[float]) -> str:
    if not found:
        return ""
    spread = f" ({figure(min(found))}–{figure(max(found))})" if len(found) > 1 else ""
    return figure(statistics.median(found)) + spread


def _summary(found: Sequence[float]) -> dict[str, object]:
    return {"median": statistics.median(found), "min": min(found), "max": max(found), "rounds": list(found)}
