"""Limits as pure objects: the clock is passed in, nothing sleeps. Money in nano-dollars."""

import random
from dataclasses import dataclass, field

HINT_MOST = 600.0  # seconds that a provider's Retry-After is believed
BACKOFF_LEAST, BACKOFF_MOST = 1.0, 60.0
SAME_REJECTIONS = 10
UNREACHED_MOST = 30.0  # seconds that a host may stay out of reach before it ever answered


@dataclass(slots=True)
class Cap:
    """A limit over the life of a job, which what is spent and what is set aside never pass together."""

    limit: int | None
    used: int = 0

    def fits(self, amount: int) -> bool:
        return self.limit is None or self.used + amount <= self.limit

    def reserve(self, amount: int) -> None:
        self.used += amount

    def settle(self, reserved: int, actual: int) -> None:
        self.used += actual - reserved


@dataclass(slots=True)
class Breaker:
    """Says when a lane is of no use: its first answers all the same rejection, or no connection ever made."""

    reached: bool = False
    understood: bool = False
    rejections: list[str] = field(default_factory=list)
    since: float | None = None

    def answered(self) -> None:
        """The provider made an image, or refused one for what it shows: the lane works."""
        self.reached = self.understood = True

    def connected(self) -> None:
        self.reached = True

    def rejected(self, reason: str) -> bool:
        """True where the first ten answers were all this rejection."""
        self.reached = True
        self.rejections.append(reason)
        if self.understood or len(self.rejections) > SAME_REJECTIONS:
            return False
        return len(self.rejections) == SAME_REJECTIONS and len(set(self.rejections)) == 1

    def unsent(self, now: float) -> bool:
        """True where the host was never reached. Once it was, the network may come back: waiting costs nothing."""
        self.since = now if self.since is None else self.since
        return not self.reached and now - self.since >= UNREACHED_MOST


def backoff(tries: int, hint: float | None, chance: random.Random) -> float:
    """Seconds to wait before the next try: the server's hint and a little more, or full jitter under 2^tries."""
    if hint is not None:
        return min(hint, HINT_MOST) + chance.uniform(0, min(1.0, 0.1 + hint / 10))
    return chance.uniform(0, min(BACKOFF_MOST, BACKOFF_LEAST * 2 ** min(tries, 10)))
