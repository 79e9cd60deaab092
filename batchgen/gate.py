"""The gate before a lane: how many requests may be open, and from when on, by what the last ones came to. Pure.

The clock and the chance are passed in; times are seconds of one monotonic clock. A lane begins narrow and doubles with
what succeeds, as long as all of it is used. Rate limits halve it, once for all the requests that ran into the same one,
if many met them of those that left one after the other; a few are noise. From then on it grows by one a round. Other
troubles keep it from doubling for a while and never halve it; more of them than successes close it, whoever they
strike: then one request at a time is let through, each after a longer wait, until one succeeds. A provider that answers
nothing is thus asked no more than once in a while, and every request that is not sent costs nothing.
"""

import random
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

from batchgen.limits import backoff

CREDIT = 10.0  # troubles beyond the successes that close the gate
OUTCOMES, SEVERAL = 20, 3  # the last ones; so many rate limits narrow it where nothing else came
CROWDS = ((4, 4), (7, 12), (10, 30))  # so many of those that left in a row: unlikely where it is one in ten
LIMITED_MOST = 40  # of the last that ran into a rate limit: answers come in any order
LATELY, SPREAD, SPREAD_BURST = 0.2, 0.75, 0.25  # the weight of an answer's latency; shares of that and of the window
FIRST = 4  # requests that are let through at once in the beginning
DOUBTS_MOST = 20  # troubles that keep it from doubling, each for one success
BLOCKED_LEAST, BLOCKED_MOST = 60.0, 3600.0  # seconds between two tries at a provider that wants a person
LOST_MOST, LOST_WAIT = 30, 600.0  # requests in a row that may be billed for nothing, and seconds between the later ones
PATIENCE = 6 * 3600.0  # seconds after which nothing but troubles is no trouble any more


@dataclass(slots=True)
class Spread:
    """Spreads a window's requests over three quarters of what an answer takes, where no limit is known.

    Answers come together where requests left together: a limit that nobody named is met by a few requests that are
    spread, and by a whole round of those that are not. A third more than the window can use may pass.
    """

    latency: float = 0.0  # seconds that answers take; 0: none came yet
    _level: float = 1.0
    _at: float = 0.0

    def answered(self, took: float) -> None:
        self.latency += (took - self.latency) * (LATELY if self.latency else 1.0)

    def wait(self, now: float, window: int) -> float:
        """Seconds until the next may go; 0: now."""
        if not self.latency:
            return 0.0
        rate, burst = window / (SPREAD * self.latency), max(1.0, SPREAD_BURST * window)
        self._level, self._at = min(burst, self._level + (now - self._at) * rate), now
        return (1 - self._level) / rate if self._level < 1 else 0.0

    def draw(self) -> None:
        self._level -= 1


def _unheard(what: str) -> None:
    pass


def _uneased() -> bool:
    return False


@dataclass(slots=True)
class Gate:
    """`width` is the most that may ever be open. Each request's ticket is its number, in the order in which they left.

    What left before the gate was narrowed neither narrows nor opens it. `note` hears of each change and its reason.
    `eager`: a person knows that so many do no harm; as soon as one answer shows that all is well, all may go.
    """

    width: int
    chance: random.Random = field(default_factory=random.Random)
    note: Callable[[str], None] = _unheard
    eager: bool = False
    until: float = 0.0  # nothing is let through before
    why: str = ""  # the last trouble; empty while all is well
    ticket: int = 0  # of the one that left last
    closed: bool = False  # one at a time, to find out whether it works again
    _window: float = field(init=False)
    _ceiling: float = field(init=False)  # the window grows slowly from here on
    _credit: float = CREDIT
    _since_ticket: int = 0  # the first of the requests that tell anything
    _recent: deque[bool] = field(default_factory=lambda: deque(maxlen=OUTCOMES))  # whether each was a rate limit
    _limited: list[int] = field(default_factory=list)  # the last tickets that ran into one
    _doubts: int = 0  # troubles that keep it from doubling
    _told: int = 0  # the window that was noted last
    _lost: int = 0  # requests in a row that may be billed, and of which nothing came
    _streak: int = 0  # episodes without a success between them
    _since: float | None = None  # when the first of them began

    def __post_init__(self) -> None:
        self._window, self._ceiling = float(min(FIRST, self.width)), float(self.width)
        self._told = self.window

    @property
    def window(self) -> int:
        """How many requests may be open, once none has to wait."""
        return int(self._window)

    def leave(self) -> None:
        """A request goes; `ticket` is its own."""
        self.ticket += 1

    def tells(self, ticket: int) -> bool:
        """Whether it left after the last thing that was learned."""
        return ticket >= self._since_ticket

    def resize(self, width: int) -> None:
        """Another `width`, by a person's word: a window that was not narrowed follows at once."""
        wide, free = not self.why and self._window >= self.width, self._ceiling >= self.width
        fresh = not (self._recent or self._since_ticket)  # nothing is known of this provider yet
        self.width = width
        self._ceiling = float(width) if free else min(self._ceiling, width)
        self._window = float(width) if wide and not fresh else min(max(self._window, FIRST * fresh), width)

    def succeeded(self, ticket: int, used: bool = True) -> None:
        """An answer came, be it a clear no to what was asked: the provider works. `used`: all of the window was."""
        self._credit, self._lost = min(CREDIT, self._credit + 1), 0
        if not self.tells(ticket):
            return
        self._streak, self._since, self.closed, self.why = 0, None, False, ""
        self._recent.append(False)
        if used:
            doubles = self._window < self._ceiling and not self._doubts
            more = self.width if doubles and self.eager and not self._since_ticket else 1
            self._window = min(float(self.width), self._window + (more if doubles else 1 / self._window))
            self._tell_growth()
        self._doubts = max(0, self._doubts - 1)

    def limited(
        self,
        ticket: int,
        now: float,
        hint: float | None,
        why: str,
        eased: Callable[[], bool] = _uneased,
    ) -> None:
        """Too much at once: half of it, or one at a time where nothing came of half.

        `eased` is asked before half is taken away: True where a slower pace takes care of it. A no comes sooner than an
        image: how many of those that left together are refused shows in their order, not in that of the answers.
        """
        if self._known(ticket, now, hint):
            return
        self._recent.append(True)
        self._limited = sorted([*self._limited, ticket])[-LIMITED_MOST:]
        if not (self._streak or self._crowded() or SEVERAL <= sum(self._recent) == len(self._recent)):
            return
        if not self._streak and eased():
            self.explained()
            return
        half = max(1.0, self._window / 2)
        self._narrow(1.0 if self._streak else half, half, now, why)
        self._wait(now, backoff(self._streak, hint, self.chance))

    def _crowded(self) -> bool:
        limited = self._limited
        return any(
            last - first < among
            for many, among in CROWDS
            for first, last in zip(limited, limited[many - 1 :], strict=False)
        )

    def explained(self) -> None:
        """It is known what the rate limits of those under way are about: they say nothing more of the window."""
        self._forget()

    def _forget(self) -> None:
        """Of the outcomes so far, and of the requests under way, none tells anything of those to come."""
        self.ticket += 1
        self._since_ticket = self.ticket
        self._limited.clear()
        self._recent.extend([False] * OUTCOMES)

    def troubled(self, ticket: int, now: float, hint: float | None, why: str, lost: bool = False) -> None:
        """The provider, or the way to it, failed a request; where it fails many, the gate closes.

        `lost`: it may be billed, and nothing came of it. Such a try is worth a longer wait, and not many of them.
        """
        self._credit = max(0.0, self._credit - 1)
        self._doubts = min(DOUBTS_MOST, self._doubts + 1)
        if self._known(ticket, now, hint):
            return
        self._lost += lost
        if self._credit and not self.closed:
            return
        wait = backoff(self._streak + 1, hint, self.chance)
        self._shut(now, max(wait, min(LOST_WAIT, 2.0**self._streak)) if lost else wait, why)

    def blocked(self, ticket: int, now: float, why: str) -> None:
        """A person is needed; until one has acted, try now and then."""
        if not self.tells(ticket):
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
        known = not self.tells(ticket)
        if known and hint is not None and self.until > now:
            self._wait(now, backoff(0, hint, self.chance))
        return known

    def _narrow(self, window: float, ceiling: float, now: float, why: str) -> None:
        self._window, self._ceiling, self.why = window, ceiling, why
        self._streak += 1
        self._since = now if self._since is None else self._since
        self._forget()
        if self.window != self._told:
            self._tell(why)

    def _tell_growth(self) -> None:
        """Not of every single step."""
        if self.window >= 2 * self._told or (self.window == self.width != self._told):
            self._tell("answers came" if self.window < self.width else "the most that limits.concurrency allows")

    def _tell(self, why: str) -> None:
        self.note(f"{self.window} at a time instead of {self._told}: {why}")
        self._told = self.window

    def _wait(self, now: float, seconds: float) -> None:
        self.until = max(self.until, now + seconds)
