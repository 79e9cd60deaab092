"""Images a minute: a bucket that fills steadily and is drawn from by each request."""

import time
from collections.abc import Callable, Iterable

Later = Iterable[tuple[float, float]]


def later(text: str) -> Later:
    """`20=600,40=1200`: seconds and images a minute; ValueError where it is none."""
    pairs = (pair.partition("=") for pair in text.split(",") if pair)
    found = [(float(seconds), float(limit)) for seconds, _, limit in pairs]
    if any(limit <= 0 for _, limit in found):
        raise ValueError("--ipm-later: a limit is more than nothing")
    return found


class Bucket:
    """`per_minute` images a minute; at most `burst` at once after a pause.

    `later` are the limits that hold from so many seconds after the first request on.
    """

    def __init__(
        self, per_minute: float, burst: float, clock: Callable[[], float] = time.monotonic, later: Later = ()
    ) -> None:
        self.per_minute = per_minute
        self.burst = burst
        self._clock = clock
        self._later = sorted(later)
        self._begun: float | None = None
        self._level = burst
        self._at = clock()

    def take(self, images: int) -> float:
        """Zero when they were drawn; else the seconds until they can be, and nothing is drawn."""
        self._begun = self._clock() if self._begun is None else self._begun
        level = self.level()
        if level < images:
            return (images - level) * 60 / self.per_minute
        self._level = level - images
        return 0.0

    def level(self) -> float:
        """Images that could be drawn now."""
        now = self._clock()
        self._level = min(self.burst, self._level + (now - self._at) * self.per_minute / 60)
        self._at = now
        while self._begun is not None and self._later and now - self._begun >= self._later[0][0]:
            self.per_minute = self._later.pop(0)[1]
        return self._level

    def until_full(self) -> float:
        """Seconds."""
        return (self.burst - self.level()) * 60 / self.per_minute


def duration(seconds: float) -> str:
    """As Go prints it, which is how OpenAI does: 240ms, 7.5s, 6m0s."""
    if seconds < 1:
        return f"{max(1, round(seconds * 1000)) if seconds else 0}ms"
    minutes, rest = divmod(round(seconds, 3), 60)
    return f"{minutes:.0f}m{rest:g}s" if minutes else f"{rest:g}s"
