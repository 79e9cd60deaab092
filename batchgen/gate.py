"""The gate before a lane: how many requests may be open, and from when on, by what the last ones came to. Pure.

The clock and the chance are passed in; times are seconds of one monotonic clock. A lane begins narrow and doubles with
what succeeds. Rate limits, if there are several, halve it, once for all the requests that ran into the same one. More
troubles than successes close it, whoever they strike: from then on one request at a time is let through, each after a
longer wait, until one succeeds. A provider that answers nothing is thus asked no more than once in a while, and every
request that is not sent costs nothing.
"""

import random
from dataclasses import dataclass, field

from batchgen.limits import backoff

CREDIT = 10.0  # troubles beyond the successes that close the gate
SLACK, SLACK_EARNED = 3.0, 0.25  # rate limits that narrow nothing yet, and how many more each success makes good
FIRST = 4  # requests that are let through at once in the beginning
BLOCKED_LEAST, BLOCKED_MOST = 60.0, 3600.0  # seconds between two tries at a provider that wants a person
LOST_MOST, LOST_WAIT = 30, 600.0  # requests in a row that may be billed for nothing, and seconds between the later ones
PATIENCE = 6 * 3600.0  # seconds after which nothing but troubles is no trouble any more


@dataclass(slots=True)
class Gate:
    """`width` is the most that may ever be open. A ticket says which episode a request left in.

    What left before the gate was narrowed neither narrows nor opens it.
    """

    width: int
    chance: random.Random = field(default_factory=random.Random)
    until: float = 0.0  # nothing is let through before
    why: str = ""  # the last trouble; empty while all is well
    ticket: int = 0
    closed: bool = False  # one at a time, to find out whether it works again
    _window: float = field(init=False)
    _ceiling: float = field(init=False)  # the window grows slowly from here on
    _credit: float = CREDIT
    _slack: float = SLACK
    _lost: int = 0  # requests in a row that may be billed, and of which nothing came
    _streak: int = 0  # episodes without a success between them
    _since: float | None = None  # when the first of them began

    def __post_init__(self) -> None:
        self._window, self._ceiling = float(min(FIRST, self.width)), float(self.width)

    def resize(self, width: int) -> None:
        """Another `width`, by a person's word: a window that was not narrowed follows at once."""
        wide, free = not self.why and self._window >= self.width, self._ceiling >= self.width
        self.width = width
        self._ceiling = float(width) if free else min(self._ceiling, width)
        self._window = float(width) if wide else min(self._window, width)

    def most(self, now: float) -> int:
        """How many requests may be open now."""
        return 0 if now < self.until else int(self._window)

    def succeeded(self, ticket: int) -> None:
        """An answer came, be it a clear no to what was asked: the provider works."""
        self._credit, self._lost = min(CREDIT, self._credit + 1), 0
        if ticket == self.ticket:
            self._streak, self._since, self.closed, self.why = 0, None, False, ""
            self._slack = min(SLACK, self._slack + SLACK_EARNED)
            grown = self._window + (1 if self._window < self._ceiling else 1 / self._window)
            self._window = min(float(self.width), grown)

    def limited(self, ticket: int, now: float, hint: float | None, why: str) -> None:
        """Too much at once: half of it, or one at a time where nothing came of half."""
        self._slack = max(0.0, self._slack - 1)
        if self._known(ticket, now, hint) or (self._slack and not self._streak):
            return
        half = max(1.0, self._window / 2)
        self._narrow(1.0 if self._streak else half, half, now, why)
        self._wait(now, backoff(self._streak, hint, self.chance))

    def troubled(self, ticket: int, now: float, hint: float | None, why: str, lost: bool = False) -> None:
        """The provider, or the way to it, failed a request; where it fails many, the gate closes.

        `lost`: it may be billed, and nothing came of it. Such a try is worth a longer wait, and not many of them.
        """
        self._credit = max(0.0, self._credit - 1)
        if self._known(ticket, now, hint):
            return
        self._lost += lost
        if self._credit and not self.closed:
            return
        wait = backoff(self._streak + 1, hint, self.chance)
        self._shut(now, max(wait, min(LOST_WAIT, 2.0**self._streak)) if lost else wait, why)

    def blocked(self, ticket: int, now: float, why: str) -> None:
        """A person is needed; until one has acted, try now and then."""
        if ticket != self.ticket:
            return
        wait = min(BLOCKED_MOST, BLOCKED_LEAST * 2 ** min(self._streak, 10))
        self._shut(now, wait * self.chance.uniform(0.9, 1.1), why)

    def hopeless(self, now: float) -> bool:
        """Whether there was nothing but trouble for so long that waiting on is no use."""
        return self._since is not None and now - self._since > PATIENCE

    @property
    def wasteful(self) -> bool:
        """Whether nothing came of so many requests that may be billed that it costs too much to try on."""
        return self._lost >= LOST_MOST

    def _shut(self, now: float, wait: float, why: str) -> None:
        self._narrow(1.0, max(1.0, self.width / 2), now, why)
        self.closed = True
        self._wait(now, wait)

    def _known(self, ticket: int, now: float, hint: float | None) -> bool:
        """Whether the trouble was heard of; a longer wait that the provider asks for still counts."""
        if ticket != self.ticket and hint is not None and self.until > now:
            self._wait(now, backoff(0, hint, self.chance))
        return ticket != self.ticket

    def _narrow(self, window: float, ceiling: float, now: float, why: str) -> None:
        self._window, self._ceiling, self.why = window, ceiling, why
        self.ticket += 1
        self._streak += 1
        self._since = now if self._since is None else self._since

    def _wait(self, now: float, seconds: float) -> None:
        self.until = max(self.until, now + seconds)
