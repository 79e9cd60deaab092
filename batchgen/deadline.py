"""When a run is to stop: a time of the local clock, and what still fits before it. Pure: the clock is passed in.

Moments are seconds since 1970; a zone of None is the machine's own.
"""

import re
from bisect import bisect_left
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from datetime import date, datetime, time, timedelta, tzinfo

JUMP = 5.0  # seconds that the wall clock may run ahead of the steady one between two looks
RECENT = 100  # answers that tell how long the next one will take
SURE = 0.9  # of them are over in the time that is reckoned with
DAY = 86_400.0  # seconds

_UNTIL = re.compile(r"(?:([0-9]{4}-[0-9]{2}-[0-9]{2})[ T])?([0-9]{1,2}):([0-9]{2})(?::([0-9]{2}))?")
_CENTURIES = range(2000, 3000)  # years that a clock may show


@dataclass(frozen=True, slots=True)
class Until:
    """A time of day, the next such one, or with a `day` a moment of its own; `text` is how the user wrote it."""

    text: str
    time: time
    day: date | None = None

    def moment(self, now: float, zone: tzinfo | None = None) -> float:
        """The first moment (without a `day`: after `now`) at which the wall clock shows it, or jumps over it."""
        if self.day:
            return next(_shown(datetime.combine(self.day, self.time), zone))
        today = _wall(now, zone).date()
        walls = (datetime.combine(today + timedelta(days), self.time) for days in range(3))
        return next(moment for wall in walls for moment in _shown(wall, zone) if moment > now)


def parse(text: str) -> Until:
    """07:00 or 2026-11-22 07:00; ValueError where it is neither."""
    found = _UNTIL.fullmatch(text.strip())
    if not found:
        raise ValueError(text)
    day = date.fromisoformat(found[1]) if found[1] else None
    if day and day.year not in _CENTURIES:
        raise ValueError(text)
    return Until(text.strip(), time(int(found[2]), int(found[3]), int(found[4] or 0)), day)


def _wall(moment: float, zone: tzinfo | None) -> datetime:
    return datetime.fromtimestamp(moment, zone).replace(tzinfo=None, fold=0)


def _shown(wall: datetime, zone: tzinfo | None) -> Iterator[float]:
    """When the wall clock shows that: once; twice where an hour is repeated; where one is left out, as it jumps."""
    first, last = sorted(wall.replace(tzinfo=zone, fold=fold).timestamp() for fold in (0, 1))
    if _wall(first, zone) == wall:
        yield from sorted({first, last})
        return
    between = range(int(first), int(last) + 1)
    yield float(between[bisect_left(between, wall, key=lambda moment: _wall(moment, zone))])


def clock(moment: float, now: float, zone: tzinfo | None = None) -> str:
    """A moment for people: 05:41, and with its date where it is more than a day away."""
    form = "%H:%M" if abs(moment - now) < DAY else "%Y-%m-%d %H:%M"
    return _wall(moment, zone).strftime(form)


@dataclass(frozen=True, slots=True)
class Span:
    """How many seconds it takes from when it was `drawn`, and what keeps it from taking fewer; None: not known.

    `until` ends it at `stops` (both moments in seconds since 1970), and leaves about so many tasks undone.
    """

    drawn: float
    seconds: float | None
    limited_by: str
    until: Until | None = None
    stops: float | None = None
    left: int = 0


def cut(whole: Span, until: Until | None, todo: int) -> Span:
    """As much of it as there is before the end."""
    if until is None:
        return whole
    stops = until.moment(whole.drawn)
    given = stops - whole.drawn
    if left := _left(todo, whole.seconds, given):
        return Span(whole.drawn, max(0.0, given), "limits.until", until, stops, left)
    return replace(whole, until=until, stops=stops)


def _left(todo: int, needed: float | None, given: float) -> int:
    """About how many tasks are not done, of those that need so many seconds, where fewer are given."""
    if given <= 0:
        return todo
    return todo - int(todo * given / needed) if needed and needed > given else 0


@dataclass(slots=True)
class Deadline:
    """When to stop, if ever, and how long the answers of each lane take lately."""

    until: Until | None = None
    moment: float | None = None
    _took: dict[str, deque[float]] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """How the limit is told: limits.until (07:00)."""
        return f"limits.until ({self.until.text})" if self.until else ""

    def move(self, until: Until, now: float, zone: tzinfo | None = None) -> None:
        """Set it anew."""
        self.until, self.moment = until, until.moment(now, zone)

    def took(self, lane: str, seconds: float) -> None:
        """An answer came, after so long."""
        self._took.setdefault(lane, deque(maxlen=RECENT)).append(seconds)

    def usual(self, lane: str) -> float:
        """Seconds within which nine of ten requests are over; nothing before the first one."""
        recent = sorted(self._took.get(lane, ()))
        return recent[int(SURE * (len(recent) - 1) + 0.5)] if recent else 0.0

    def due(self, lane: str, now: float) -> bool:
        """Whether a request that is begun now would probably not be over in time."""
        return self.moment is not None and now + self.usual(lane) >= self.moment


@dataclass(slots=True)
class Clocks:
    """The wall clock and the steady one, as they were at the last look."""

    wall: float
    steady: float

    def jumped(self, wall: float, steady: float) -> float:
        """Seconds that the wall clock ran ahead since then, as where the machine slept; 0 where it is a trifle."""
        ahead = (wall - self.wall) - (steady - self.steady)
        self.wall, self.steady = wall, steady
        return ahead if ahead > JUMP else 0.0
