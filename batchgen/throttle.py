"""How many requests may be open, and when the next one may go: a lane's gate, its pace and its spread, together. Pure.

The clock is passed in; times are seconds of one monotonic clock.
"""

import random
from collections.abc import Callable, Mapping

from batchgen import quota
from batchgen.gate import Gate, Spread
from batchgen.pace import Draw, Pace
from batchgen.wire import Reply


class Throttle:
    """`width` requests at most, `limits` a minute by kind; `note` hears of each change and its reason.

    `eager`: a person said how many, and not that it should be found out.
    """

    def __init__(
        self,
        width: int,
        limits: Mapping[str, float],
        chance: random.Random,
        note: Callable[[str], None],
        eager: bool = False,
    ) -> None:
        self.gate = Gate(width, chance, note, eager)
        self.pace = Pace(limits, note)
        self.spread = Spread()
        self._works = True  # whether anything passed since a limit was last learned

    def wait(self, now: float, open_: int, draw: Draw) -> float | None:
        """Seconds until the next request may go, where so many are open; None: not before one of these is over."""
        if now < self.gate.until:
            return self.gate.until - now
        if open_ >= self.gate.window:
            return None
        return self.pace.wait(now, draw) if self.pace.known else self.spread.wait(now, self.gate.window)

    def draw(self, now: float, draw: Draw) -> None:
        """It goes."""
        self.gate.leave()
        self.pace.draw(now, draw)
        self.spread.draw()

    def heard(self, now: float, reply: Reply, draw: Draw, sent: float) -> None:
        """What an answer to a request that was sent then says of the limits."""
        sure, words = quota.said(reply)
        if reply.status != 429:
            self.spread.answered(now - sent)
            self.pace.accepted(now, draw, sent)
            self._works = True
        elif self.pace.refused(now, words) and self._works:
            self.gate.explained()
            self._works = False  # whoever names one limit after the other, and lets nothing through, explains nothing
        self.pace.heard(now, sure)

    def succeeded(self, ticket: int, open_: int, queued: int) -> None:
        """An answer came, while so many are open and so many wait: the window grows where it holds these back."""
        self.gate.succeeded(ticket, used=open_ >= self.gate.window or (queued > 0 and not self.pace.known))

    def limited(self, ticket: int, now: float, hint: float | None, why: str) -> None:
        """A 429; where there are several together, the pace takes care of them if it can, else the window."""
        self.gate.limited(ticket, now, hint, why, lambda: self.pace.slowed(now))
