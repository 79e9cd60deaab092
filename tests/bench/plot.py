"""Lines side by side in one SVG: medians over a logarithmic axis, with the least and the most behind them; or time."""

import math
import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from html import escape

COLOURS = ("#0b62c4", "#c2571a", "#2a8a57", "#8a5bb5")  # told apart by those who see few colours, too
INK, PALE, GRID = "#1c2430", "#5c6673", "#e3e7ec"
WIDTH, HEIGHT, GAP = 400, 270, 150  # of a panel's plane; the gap behind it holds the lines' names
LEFT, TOP, BOTTOM = 64, 104, 62
LINE = 15  # between names that would stand upon each other
FONT = "font-family='system-ui, -apple-system, Segoe UI, Helvetica, Arial, sans-serif'"


@dataclass(frozen=True, slots=True)
class Point:
    """What was found at `x`, a figure a round."""

    x: float
    found: Sequence[float]

    @property
    def median(self) -> float:
        return statistics.median(self.found)


@dataclass(frozen=True, slots=True)
class Panel:
    """A plane of its own, with a line for each name; the first one is the one that it is about.

    With `ticks` the axis is linear, and these are told on it; without, it is logarithmic, and each point is marked.
    """

    title: str
    axis: str
    lines: Mapping[str, Sequence[Point]]
    ticks: Sequence[float] = ()


@dataclass(frozen=True, slots=True)
class Scale:
    """Where figures lie on a panel's plane."""

    left: float
    least: float
    widest: float
    tallest: float
    linear: bool

    def x(self, value: float) -> float:
        if self.linear:
            return self.left + WIDTH * (value - self.least) / (self.widest - self.least)
        return self.left + WIDTH * math.log(value / self.least) / math.log(self.widest / self.least)

    def y(self, value: float) -> float:
        return TOP + HEIGHT * (1 - value / self.tallest)


def svg(title: str, about: str, panels: Sequence[Panel]) -> str:
    """The whole picture."""
    wide, high = LEFT + len(panels) * (WIDTH + GAP), TOP + HEIGHT + BOTTOM
    drawn = [
        f"<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 {wide} {high}' width='{wide}' height='{high}' {FONT}>",
        f"<rect width='{wide}' height='{high}' fill='#ffffff'/>",
        _text(LEFT - 40, 34, title, size=19, weight=600),
        _text(LEFT - 40, 56, about, PALE, size=12.5),
    ]
    for n, panel in enumerate(panels):
        drawn += _panel(panel, LEFT + n * (WIDTH + GAP))
    return "\n".join([*drawn, "</svg>", ""])


def _panel(panel: Panel, left: float) -> Iterator[str]:
    points = [point for line in panel.lines.values() for point in line]
    xs = sorted({point.x for point in points})
    step = _step(max(max(point.found) for point in points))
    tallest = step * math.ceil(max(max(point.found) for point in points) / step)
    scale = Scale(left, xs[0], xs[-1], tallest, linear=bool(panel.ticks))
    yield _text(left - 40, TOP - 18, panel.title, size=14, weight=600)
    yield from _grid(scale, step, [each for each in panel.ticks if xs[0] <= each <= xs[-1]] or xs)
    yield _text(left + WIDTH / 2, TOP + HEIGHT + 44, panel.axis, PALE, anchor="middle")
    for (_, line), colour in reversed(list(zip(panel.lines.items(), COLOURS, strict=False))):
        yield from _line(line, scale, colour, thick=colour == COLOURS[0])
    yield from _names(panel, scale)


def _grid(scale: Scale, step: float, xs: Sequence[float]) -> Iterator[str]:
    right = scale.left + WIDTH
    for n in range(round(scale.tallest / step) + 1):
        y = scale.y(n * step)
        yield f"<path d='M{scale.left:.1f} {y:.1f}H{right:.1f}' stroke='{GRID if n else PALE}'/>"
        yield _text(scale.left - 8, y + 4, f"{n * step:,.0f}", PALE, anchor="end")
    for x in xs:
        yield _text(scale.x(x), TOP + HEIGHT + 20, f"{x:g}", PALE, anchor="middle")


def _line(line: Sequence[Point], scale: Scale, colour: str, thick: bool) -> Iterator[str]:
    """A band from the least to the most, the medians upon it."""
    upper = [f"{scale.x(point.x):.1f} {scale.y(max(point.found)):.1f}" for point in line]
    lower = [f"{scale.x(point.x):.1f} {scale.y(min(point.found)):.1f}" for point in reversed(line)]
    yield f"<path d='M{'L'.join(upper + lower)}Z' fill='{colour}' opacity='0.12'/>"
    places = [(scale.x(point.x), scale.y(point.median)) for point in line]
    path = "L".join(f"{x:.1f} {y:.1f}" for x, y in places)
    width = 2.8 if thick else 1.8
    yield f"<path d='M{path}' fill='none' stroke='{colour}' stroke-width='{width}' stroke-linejoin='round'/>"
    for x, y in () if scale.linear else places:
        yield f"<circle cx='{x:.1f}' cy='{y:.1f}' r='{width + 0.7:.1f}' fill='{colour}' stroke='#ffffff'/>"


def _names(panel: Panel, scale: Scale) -> Iterator[str]:
    """At the lines' ends, in their order, none upon another."""
    ends = sorted(
        (scale.y(line[-1].median), name, line[-1].median, colour)
        for (name, line), colour in zip(panel.lines.items(), COLOURS, strict=False)
    )
    places: list[float] = []
    for y, *_ in ends:
        places.append(max(y, places[-1] + LINE) if places else y)
    over = max(0.0, places[-1] - (TOP + HEIGHT))
    for place, (_, name, value, colour) in zip(places, ends, strict=True):
        weight = 600 if name == next(iter(panel.lines)) else 400
        yield _text(scale.left + WIDTH + 10, place - over + 4, f"{name} {value:,.0f}", colour, weight=weight)


def _step(most: float) -> float:
    """Between two lines of the grid: 1, 2 or 5 of some power of ten, so that there are four to nine."""
    power: float = 10 ** math.floor(math.log10(most))
    return next(part * power for part in (0.1, 0.2, 0.5, 1.0, 2.0) if most / (part * power) <= 7)


def _text(
    x: float, y: float, said: str, colour: str = INK, size: float = 12, weight: int = 400, anchor: str = "start"
) -> str:
    look = f"fill='{colour}' font-size='{size}' font-weight='{weight}' text-anchor='{anchor}'"
    return f"<text x='{x:.1f}' y='{y:.1f}' {look}>{escape(said)}</text>"
