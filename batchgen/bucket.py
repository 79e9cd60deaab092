"""How much of something may be sent by now, and how much was accepted lately. Pure.

The clock is passed in; times are seconds of one monotonic clock.
"""

from collections import deque
from dataclasses import dataclass, field

BURST = 0.75  # seconds' worth that may go at once; one request at least
CUSHION = 0.25  # of that, left to the provider's bucket when that was empty: requests arrive less evenly than they go
LATELY = (3.0, 24), (10.0, 24), (60.0, 8)  # seconds to look back, and the requests that it takes to know a rate by them
MINUTE = 60


@dataclass(slots=True)
class Bucket:
    """It fills by so many a minute up to its burst; who wants more waits for a full one, and leaves a debt."""

    per_minute: float
    level: float
    at: float

    @property
    def burst(self) -> float:
        return max(1.0, self.per_minute / MINUTE * BURST)

    def filled(self, now: float) -> float:
        """What is in it now."""
        self.level = min(self.burst, self.level + max(0.0, now - self.at) * self.per_minute / MINUTE)
        self.at = max(self.at, now)
        return self.level

    def wait(self, now: float, count: float) -> float:
        """Seconds until so many may be drawn; 0: now."""
        short = min(count, self.burst) - self.filled(now)
        return short * MINUTE / self.per_minute if short > 1e-9 else 0.0

    def draw(self, now: float, count: float) -> None:
        self.level = self.filled(now) - count

    def lower(self, now: float, most: float) -> None:
        """There is no more in it than that."""
        self.level = min(self.filled(now), most)

    def drain(self, now: float) -> None:
        """The provider's is empty, and a little is to be left in it from now on."""
        self.lower(now, -CUSHION * self.burst)


@dataclass(slots=True)
class Tally:
    """What was accepted in the last minute, by the quarter of a second."""

    _bins: deque[tuple[float, float]] = field(default_factory=deque)
    _begun: float | None = None

    def add(self, now: float, count: float) -> None:
        self._begun = now if self._begun is None else self._begun
        current = int(4 * now) / 4
        before = self._bins.pop()[1] if self._bins and self._bins[-1][0] == current else 0.0
        self._bins.append((current, before + count))
        while self._bins[0][0] <= now - MINUTE:
            self._bins.popleft()

    def total(self, now: float, seconds: float = MINUTE) -> float:
        return sum(count for begun, count in self._bins if begun > now - seconds)

    def rate(self, now: float) -> float:
        """So many a second: lately, if they were many, else in the whole minute; 0: too few to tell."""
        for seconds, least in LATELY:
            span = max(0.1, min(seconds, now - (now if self._begun is None else self._begun)))
            if (found := self.total(now, seconds)) >= least:
                return found / span
        return 0.0
