"""The pace of a lane: how many images, requests and tokens a minute may be sent, and who says so. Pure.

The clock is passed in; times are seconds of one monotonic clock. A limit is a bucket that fills steadily and holds
little, so that what is sent is spread over the minute. Every sending draws, also one that will be refused: providers
count those, too. What the manifest says goes before what was learned, and a learned limit that is lower still holds.

Limits are learned from headers at once, and from the words of 429s once there are several, unless more was accepted:
a single one may be noise, but for one that names about the rate that was accepted lately. A few requests more try if
they are right. Where several 429s together name no figure, nearly that rate is the pace. Headers are believed as long
as they are repeated; the other two grow again, a little with each request that is accepted while they hold others
back, once nothing was refused for a while.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from batchgen.bucket import LATELY, MINUTE, Bucket, Tally
from batchgen.quota import KINDS, Quota

SEVERAL, GOOD = 3, 0.25  # 429s that are believed, and how many of them an accepted request makes good
TRIAL, TRIAL_PAUSE = 5, 10.0  # requests that pass a limit by which may not be there; seconds until the next ones do
TRIAL_PAUSE_MOST, SOON = 600.0, 0.001  # seconds
FRESH = 120.0  # seconds after which headers that say a limit no more are believed no more
TWICE = 2.0  # limits that a minute may hold where a whole minute's worth may come at once
GUESS, FLOOR = 0.95, 0.8  # of the accepted rate; of a guess, below which single 429s do not lower it
GROWTH, GROWTH_MOST = 0.01, 0.03  # of the limit: for each request, and for each second
STEADY = 10.0  # seconds of accepted requests that say more than a guess which grew meanwhile
HEADERS, WORDS, RATE = "headers", "words", "rate"
QUIET = {WORDS: 30.0, RATE: 5.0}  # seconds without a refusal after which a limit grows
SOURCES = {"": "the manifest", HEADERS: "its headers", WORDS: "its 429s", RATE: "what it accepted lately"}


@dataclass(frozen=True, slots=True)
class Draw:
    """What one request takes of each limit; `tokens` by the estimate."""

    images: int = 1
    tokens: float = 0.0

    def of(self, kind: str) -> float:
        return {"images": self.images, "tokens": self.tokens}.get(kind, 1)


@dataclass(frozen=True, slots=True)
class Learned:
    """A limit that no manifest named: so many a minute, by the provider's headers, its words, or the accepted rate."""

    kind: str
    per_minute: float
    source: str


@dataclass(slots=True)
class Trial:
    """A limit that 429s name and that nothing else speaks for: a few requests pass it by, to see if it is there."""

    begun: float
    limit: float
    left: int = TRIAL
    accepted: float = 0.0
    pause: float = TRIAL_PAUSE

    def on(self, now: float) -> bool:
        """Whether the next request passes it by; ever more rarely there is another trial."""
        if not self.left and now - self.begun > self.pause:
            self.begun, self.accepted, self.left, self.pause = now, 0.0, TRIAL, min(TRIAL_PAUSE_MOST, 2 * self.pause)
        return self.left > 0

    def soon(self, now: float, seconds: float) -> float:
        """Seconds until the next trial, where that comes sooner."""
        return min(seconds, max(SOON, self.begun + self.pause - now))

    def disproved(self, now: float, count: float, sent: float) -> bool:
        """Whether more was accepted by now than it would have let through."""
        self.accepted += count if sent >= self.begun else 0
        return self.accepted >= TRIAL // 2 + max(1.0, count) * (now - self.begun) * self.limit / MINUTE


def _unheard(what: str) -> None:
    pass


class Pace:
    """`given` are the manifest's limits by kind, a minute; `note` hears of each change and its reason."""

    def __init__(self, given: Mapping[str, float] | None = None, note: Callable[[str], None] = _unheard) -> None:
        self._given = dict(given or {})
        self._note = note
        self._learned: dict[str, Learned] = {}
        self._grown: dict[str, float] = {}  # beyond what was learned, a minute
        self._buckets: dict[str, Bucket] = {}
        self._told: dict[str, float] = {}  # when headers said a limit last
        self._bound: dict[str, float] = {}  # when a limit last held somebody back
        self._accepted = {kind: Tally() for kind in KINDS}
        self._trials: dict[str, Trial] = {}
        self._wrong: list[Quota] = []  # limits that were disproved
        self._doubt = 0.0  # 429s that were not made good
        self._refused = self._grew = self._guessed = 0.0  # when
        self._floor = 1.0  # of a guess, a minute
        self._free = self._summed = 0.0  # when it was last not the pace that held requests back, and were summed up
        self._steady = float("inf")  # requests a minute that were accepted on end

    def begin(self, now: float, learned: Iterable[Learned] = ()) -> None:
        """Fill the buckets, by what the manifest says and what an earlier run learned."""
        self._learned = {each.kind: each for each in learned}
        self._refused = self._grew = self._free = now
        self._told = dict.fromkeys(self._learned, now)
        self._floor = max([1.0, *(FLOOR * each.per_minute for each in self._learned.values() if each.source == RATE)])
        for kind in KINDS:
            self._adjust(now, kind)

    def give(self, now: float, kind: str, per_minute: float) -> None:
        """Another limit, by a person's word."""
        self._given[kind] = per_minute
        self._adjust(now, kind)

    @property
    def given(self) -> Mapping[str, float]:
        """What a person said, by kind."""
        return self._given

    @property
    def known(self) -> bool:
        """Whether there is any limit to go by."""
        return bool(self._buckets)

    def wait(self, now: float, draw: Draw) -> float:
        """Seconds until that may be sent; 0: now."""
        longest = 0.0
        for kind, bucket in self._buckets.items():
            trial = self._trials.get(kind)
            if (seconds := bucket.wait(now, draw.of(kind))) and not (trial and trial.on(now)):
                self._bound[kind] = now
                longest = max(longest, trial.soon(now, seconds) if trial else seconds)
        return longest

    def draw(self, now: float, draw: Draw) -> None:
        """It is being sent."""
        for kind, bucket in self._buckets.items():
            if (trial := self._trials.get(kind)) and trial.left:
                trial.left -= 1
            else:
                bucket.draw(now, draw.of(kind))

    def heard(self, now: float, quotas: Iterable[Quota]) -> None:
        """What headers say: it holds, and no more may go now than remains."""
        for quota in quotas:
            self._told[quota.kind] = now
            self._learn(now, Learned(quota.kind, quota.limit, HEADERS))
            if quota.remaining is not None:
                self._buckets[quota.kind].lower(now, quota.remaining)

    def accepted(self, now: float, draw: Draw, sent: float = 0.0) -> None:
        """A request that was sent then passed the provider's limits, whatever became of it."""
        for kind, trial in list(self._trials.items()):
            if trial.disproved(now, draw.of(kind), sent):
                self._wrong.append(Quota(kind, trial.limit))
                self._forget(now, [kind])
        stale = [each.kind for each in self._learned.values() if each.source == HEADERS and self._stale(now, each.kind)]
        self._forget(now, stale)
        self._doubt = max(0.0, self._doubt - GOOD)
        for kind, tally in self._accepted.items():
            tally.add(now, draw.of(kind))
        for learned in self._learned.values():
            quiet = QUIET.get(learned.source)
            if quiet is not None and now - self._refused >= quiet and self._binds(now, learned.kind):
                self._grow(now, learned)
            if learned.source == RATE:
                self._sum_up(now)
        self._grew = now

    def _sum_up(self, now: float) -> None:
        """What a guess that grows comes to in the end: a burst that was saved up hides for long that it is too much."""
        if not self._binds(now, "requests"):
            self._free = now
        span = min(MINUTE, now - self._free)
        if span >= STEADY and now - self._summed >= 1:
            self._summed, self._steady = now, MINUTE * self._accepted["requests"].total(now, span) / span

    def _stale(self, now: float, kind: str) -> bool:
        return now - self._told.get(kind, now) > FRESH

    def refused(self, now: float, quotas: Iterable[Quota]) -> bool:
        """A 429 that says so; whether it taught a limit, so that those under way will say nothing new."""
        self._doubt, self._refused = self._doubt + 1, now
        taught = [self._heard(now, quota) for quota in quotas]
        guess = self._learned.get("requests")
        if guess and guess.source == RATE:
            self._lower(now, guess)
        return any(taught)

    def slowed(self, now: float) -> bool:
        """Several 429s together, which no figure explains: whether a slower pace than before takes care of them."""
        for kind, bucket in self._buckets.items():
            if self._binds(now, kind):
                bucket.drain(now)
        rate = GUESS * MINUTE * self._accepted["requests"].rate(now)
        figures = any(learned.source != RATE for learned in self._learned.values())
        if figures or not rate or rate >= self._allowed("requests"):
            return False
        self._floor = max(1.0, FLOOR * rate)
        self._guess(now, rate)
        return True

    def _guess(self, now: float, rate: float) -> None:
        self._learn(now, Learned("requests", max(1.0, rate), RATE))
        self._buckets["requests"].drain(now)
        self._guessed = now

    def _lower(self, now: float, guess: Learned) -> None:
        """Refused at a guessed pace: back to half of what grew, or to what was really accepted lately."""
        if now - self._guessed < LATELY[0][0] or not self._binds(now, guess.kind):
            return
        if grown := self._grown.get(guess.kind):
            self._guess(now, guess.per_minute + grown / 2)
            return
        rate = max(self._floor, GUESS * MINUTE * self._accepted[guess.kind].rate(now))
        if rate < guess.per_minute:
            self._guess(now, rate)

    @property
    def learned(self) -> list[Learned]:
        """What the next run should know, with what grew since, and without what is still in its first trial.

        Of a guess no more than was really accepted on end.
        """
        sure = {kind: each for kind, each in self._learned.items() if not self._doubtful(kind)}
        most = {kind: self._steady if each.source == RATE else float("inf") for kind, each in sure.items()}
        return [
            Learned(kind, round(min(most[kind], self._allowed(kind)), 1), each.source)
            for kind, each in sorted(sure.items())
        ]

    def _doubtful(self, kind: str) -> bool:
        return kind in self._trials and self._trials[kind].pause == TRIAL_PAUSE

    def limits(self) -> list[Learned]:
        """What holds now, by kind; the source is empty where the manifest says it."""
        return [Learned(kind, round(each.per_minute, 1), self._source(kind)) for kind, each in self._buckets.items()]

    def why(self, now: float) -> str:
        """`pace: 20 images a minute` while a limit holds somebody back; else nothing."""
        for kind, bucket in self._buckets.items():
            if self._binds(now, kind):
                return f"pace: {figure(bucket.per_minute, kind)}"
        return ""

    def _binds(self, now: float, kind: str) -> bool:
        bucket = self._buckets[kind]
        return now - self._bound.get(kind, -MINUTE * MINUTE) <= max(2.0, 2 * MINUTE / bucket.per_minute)

    def _heard(self, now: float, quota: Quota) -> bool:
        """A figure in a 429: one that is known already says that the bucket is empty; a new one must be believed."""
        kind, known = quota.kind, self._learned.get(quota.kind)
        if known and abs(known.per_minute - quota.limit) < 0.01 * quota.limit:
            self._grown.pop(kind, None)
            self._adjust(now, kind)
            self._buckets[kind].drain(now)
            return False
        accepted, limit = self._accepted[kind], quota.limit
        known_rate = MINUTE * accepted.rate(now)
        near = limit / TWICE <= known_rate <= limit * TWICE
        if not near and (self._doubt < SEVERAL or accepted.total(now) > TWICE * limit + 1 or quota in self._wrong):
            return False
        self._learn(now, Learned(kind, quota.limit, WORDS))
        self._buckets[kind].drain(now)
        if not near:
            self._trials[kind] = Trial(now, quota.limit)
        return True

    def _learn(self, now: float, learned: Learned) -> None:
        if self._learned.get(learned.kind) == learned:
            return
        if learned.source != RATE:  # now a figure is known
            self._forget(now, [kind for kind, each in self._learned.items() if each.source == RATE])
        self._learned[learned.kind] = learned
        self._grown.pop(learned.kind, None)
        self._trials.pop(learned.kind, None)
        self._grew = now
        self._adjust(now, learned.kind)

    def _forget(self, now: float, kinds: Iterable[str]) -> None:
        for kind in kinds:
            del self._learned[kind]
            self._trials.pop(kind, None)
            self._adjust(now, kind)

    def _grow(self, now: float, learned: Learned) -> None:
        before = self._allowed(learned.kind)
        more = learned.per_minute * min(GROWTH, GROWTH_MOST * (now - self._grew))
        self._grown[learned.kind] = self._grown.get(learned.kind, 0.0) + more
        if bucket := self._buckets.get(learned.kind):
            bucket.filled(now)
            bucket.per_minute = min(self._allowed(learned.kind), self._given.get(learned.kind, float("inf")))
        quarters = [int(4 * each / learned.per_minute) for each in (before, self._allowed(learned.kind))]
        if quarters[0] < quarters[1]:
            self._tell(learned.kind)

    def _allowed(self, kind: str) -> float:
        learned = self._learned.get(kind)
        return learned.per_minute + self._grown.get(kind, 0.0) if learned else float("inf")

    def _source(self, kind: str) -> str:
        learned = self._learned.get(kind)
        return learned.source if learned and self._allowed(kind) < self._given.get(kind, float("inf")) else ""

    def _adjust(self, now: float, kind: str) -> None:
        """Bring a bucket in line with what is known of its limit; a new one is full."""
        rate = min(self._given.get(kind, float("inf")), self._allowed(kind))
        bucket = self._buckets.get(kind)
        if rate == float("inf"):
            if not self._buckets.pop(kind, None):
                return
        elif bucket is None:
            self._buckets[kind] = Bucket(rate, 0.0, now)
            self._buckets[kind].level = self._buckets[kind].burst
        elif bucket.per_minute != rate:
            bucket.filled(now)
            bucket.per_minute = rate
        else:
            return
        self._tell(kind)

    def _tell(self, kind: str) -> None:
        bucket = self._buckets.get(kind)
        limit = (
            f"{figure(bucket.per_minute, kind)}, by {SOURCES[self._source(kind)]}" if bucket else f"no limit of {kind}"
        )
        self._note(limit)


def figure(per_minute: float, kind: str) -> str:
    """`20 images a minute`."""
    return f"{per_minute:,.0f} {kind} a minute"
