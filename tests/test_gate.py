"""The gate before a lane: a storm is weathered with few requests, and what comes after it is as fast as before."""

import heapq
import itertools
import random
from collections.abc import Callable
from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from batchgen.gate import BLOCKED_MOST, CREDIT, CROWDS, FIRST, PATIENCE, Gate, Spread
from batchgen.limits import BACKOFF_MOST, HINT_MOST, backoff

Weather = Callable[[float], str]
"""What becomes of a request that is answered at that moment: ok, 429, 500 or refused."""
FAIR = "ok"


def most(gate: Gate, now: float) -> int:
    """How many requests may be open now."""
    return gate.window if now >= gate.until else 0


@dataclass
class Night:
    """A lane in pretend time: tasks that are tried until each succeeded, through a gate."""

    weather: Weather
    tasks: int = 2_000
    width: int = 32
    latency: float = 5.0
    hint: float | None = None
    seed: int = 1
    requests: list[float] = field(default_factory=list)  # when each was sent
    most_open: int = 0
    ended: float = 0.0

    def __post_init__(self) -> None:
        self.chance = random.Random(self.seed)
        self.gate = Gate(self.width, self.chance)
        self._order = itertools.count()
        self._events: list[tuple[float, int, int, int]] = []  # time, order, task, ticket; -1: it may be sent again
        self._queue = list(range(self.tasks))[::-1]
        self._pauses = [0] * self.tasks
        self._open = 0

    def pass_(self) -> "Night":
        now, done = 0.0, 0
        while done < self.tasks:
            while self._queue and self._open < most(self.gate, now):
                self._send(self._queue.pop(), now)
            wakes = [self.gate.until] if self._queue and self.gate.until > now else []
            if self._events and (not wakes or self._events[0][0] <= wakes[0]):
                now, _, task, ticket = heapq.heappop(self._events)
                done += self._hear(task, ticket, now)
            else:
                now = wakes[0]
        self.ended = now
        return self

    def _send(self, task: int, now: float) -> None:
        self.requests.append(now)
        self.gate.leave()
        self._open += 1
        self.most_open = max(self.most_open, self._open)
        took = 0.01 if self.weather(now) == "refused" else self.latency
        heapq.heappush(self._events, (now + took, next(self._order), task, self.gate.ticket))

    def _hear(self, task: int, ticket: int, now: float) -> bool:
        if ticket < 0:
            self._queue.append(task)
            return False
        self._open -= 1
        said = self.weather(now)
        if said == FAIR:
            self.gate.succeeded(ticket)
            return True
        heard = self.gate.limited if said == "429" else self.gate.troubled
        heard(ticket, now, self.hint, said)
        self._pauses[task] += 1
        again = now + backoff(self._pauses[task], self.hint, self.chance)
        heapq.heappush(self._events, (again, next(self._order), task, -1))
        return False


def storm(said: str, begin: float, end: float) -> Weather:
    return lambda now: said if begin <= now < end else FAIR


def between(night: Night, begin: float, end: float) -> int:
    return sum(begin <= sent < end for sent in night.requests)


@pytest.mark.parametrize("hint", [None, 20.0])
@pytest.mark.parametrize("begin", [0.0, 100.0])
@pytest.mark.parametrize("said", ["429", "500", "refused"])
def test_s4_n19_ten_minutes_of_trouble_cost_no_more_than_a_tenth_of_the_requests(
    said: str, begin: float, hint: float | None
) -> None:
    night = Night(storm(said, begin, begin + 600), hint=hint).pass_()
    assert len(night.requests) <= 1.1 * night.tasks
    fair = Night(lambda now: FAIR).pass_()
    assert night.ended < fair.ended + 600 + 2 * BACKOFF_MOST + 60, "and it goes on by itself, as fast as before"
    assert most(night.gate, night.ended) >= night.width / 2


def test_n20_a_network_that_is_away_for_two_hours_is_asked_for_about_once_a_minute() -> None:
    night = Night(storm("refused", 50.0, 50.0 + 7_200)).pass_()
    assert between(night, 120.0, 7_200) < 2 * 7_200 / BACKOFF_MOST + 20
    assert night.ended < 7_250 + 2_000 / 32 * 5 + 3 * BACKOFF_MOST


@settings(max_examples=30, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    share=st.floats(0, 0.3),
    said=st.sampled_from(["429", "500"]),
    width=st.integers(1, 64),
)
def test_every_task_is_made_in_the_end_and_no_more_than_the_width_is_ever_open(
    seed: int, share: float, said: str, width: int
) -> None:
    chance = random.Random(seed)
    night = Night(lambda now: said if chance.random() < share else FAIR, tasks=200, width=width, seed=seed).pass_()
    assert night.most_open <= width


def test_c7_a_lane_begins_with_few_requests_and_doubles_with_what_succeeds() -> None:
    night = Night(lambda now: FAIR, tasks=200)
    night.pass_()
    sent = [between(night, 5.0 * n, 5.0 * (n + 1)) for n in range(5)]
    assert sent == [FIRST, 2 * FIRST, 4 * FIRST, 32, 32]


def test_s1_a_rate_limit_halves_the_lane_once_for_all_that_ran_into_it() -> None:
    gate = Gate(32)
    for _ in range(32):
        gate.succeeded(gate.ticket)
    assert most(gate, 0.0) == 32
    old = gate.ticket
    for _ in range(32):
        gate.limited(old, 10.0, 2.0, "429")
    assert most(gate, 10.0) == 0, "nobody is let through before the time that the provider named"
    assert most(gate, 20.0) == 16
    gate.limited(gate.ticket, 20.0, None, "429")
    assert most(gate, 100.0) == 1, "half was too much as well"


def test_a_single_rate_limit_is_its_own_requests_alone() -> None:
    gate = Gate(4)
    for _ in range(100):
        gate.leave()
        gate.limited(gate.ticket, 0.0, 5.0, "429")
        for _ in range(5):
            gate.leave()
            gate.succeeded(gate.ticket)
    assert most(gate, 0.0) == 4


@given(st.permutations(range(1, 41)), st.sets(st.integers(1, 40), max_size=15), st.integers(0, 20))
def test_rate_limits_are_many_by_the_order_in_which_their_requests_left(
    heard: list[int], limited: set[int], successes: int
) -> None:
    """Not by that of their answers: of what left together a no comes sooner than an image."""
    gate = Gate(64)
    gate.resize(64)
    for _ in range(successes + 1):
        gate.succeeded(0)
    wide = gate.window
    for _ in range(40):
        gate.leave()
    for ticket in [each for each in heard if each in limited]:
        gate.limited(ticket, 0.0, 1.0, "429")
    order = sorted(limited)
    crowded = any(
        last - first < among for many, among in CROWDS for first, last in zip(order, order[many - 1 :], strict=False)
    )
    assert (gate.window < wide) is crowded


def test_troubles_keep_a_lane_from_doubling_and_never_narrow_it() -> None:
    gate = Gate(32)
    for _ in range(4):
        gate.troubled(gate.ticket, 0.0, None, "500")
    for _ in range(4):
        gate.succeeded(gate.ticket)
    assert most(gate, 0.0) == FIRST, "one success each"
    for _ in range(4):
        gate.succeeded(gate.ticket)
    assert most(gate, 0.0) == 2 * FIRST


def test_a_window_that_is_not_used_up_does_not_grow() -> None:
    gate = Gate(32)
    for _ in range(50):
        gate.succeeded(gate.ticket, used=False)
    assert most(gate, 0.0) == FIRST


def test_where_a_slower_pace_takes_care_of_rate_limits_nothing_is_narrowed() -> None:
    told: list[str] = []
    gate = Gate(8, note=told.append)
    ticket = gate.ticket
    for _ in range(5):
        gate.limited(ticket, 0.0, 9.0, "429", lambda: True)
    assert (most(gate, 0.0), gate.ticket > ticket, told) == (FIRST, True, [])
    for _ in range(9):
        gate.limited(gate.ticket, 0.0, 9.0, "429", lambda: False)
    assert (most(gate, 20.0), told) == (1, ["2 at a time instead of 4: 429", "1 at a time instead of 2: 429"])


@given(st.floats(0.01, 100), st.integers(1, 32), st.integers(2, 60))
def test_where_no_limit_is_known_requests_are_spread_over_most_of_what_an_answer_takes(
    latency: float, window: int, requests: int
) -> None:
    spread, now = Spread(), 0.0
    for _ in range(100):
        assert spread.wait(now, window) == 0, "nothing is known yet"
    spread.answered(latency)
    for _ in range(requests):
        now += spread.wait(now, window) * 1.000001
        spread.draw()
    rate, burst = window / latency, max(1.0, window / 4)
    assert requests - burst - 1 <= now * rate / 0.75 + 1
    assert now <= 0.75 * requests / rate + 1e-6 * requests * latency, "and faster than they can be answered"


def test_an_answer_from_before_a_limit_does_not_open_the_gate() -> None:
    gate = Gate(8)
    old = gate.ticket
    for _ in range(3):
        gate.limited(old, 0.0, None, "429")
    narrow = most(gate, 100.0)
    for _ in range(20):
        gate.succeeded(old)
    assert most(gate, 100.0) == narrow


def test_a_few_troubles_among_successes_close_nothing() -> None:
    gate = Gate(8)
    for _ in range(200):
        gate.troubled(gate.ticket, 0.0, None, "500")
        gate.succeeded(gate.ticket)
    assert (most(gate, 0.0), gate.closed) == (8, False)


def test_a_closed_gate_lets_one_through_at_a_time_after_ever_longer_waits() -> None:
    gate, now, waits = Gate(32, random.Random(3)), 0.0, []
    for _ in range(int(CREDIT)):
        gate.troubled(gate.ticket, now, None, "502")
    for _ in range(40):
        assert gate.closed
        assert most(gate, gate.until) == 1, "a single probe"
        waits.append(gate.until - now)
        now = gate.until
        gate.troubled(gate.ticket, now, None, "502")
    assert max(waits) <= BACKOFF_MOST
    assert sum(waits[20:]) > 10 * BACKOFF_MOST / 2, "they grow"
    gate.succeeded(gate.ticket)
    assert (gate.closed, most(gate, gate.until), gate.why) == (False, 2, "")


@settings(deadline=None)
@given(st.floats(min_value=0, allow_nan=False, allow_infinity=False))
def test_s3_no_hint_makes_the_gate_wait_beyond_its_bound(hint: float) -> None:
    gate = Gate(4)
    for _ in range(9):
        gate.limited(gate.ticket, 0.0, hint, "429")
    assert gate.until <= max(HINT_MOST + 1, BACKOFF_MOST)


def test_a_provider_that_wants_a_person_is_tried_now_and_then_and_ever_more_rarely() -> None:
    gate, now, waits = Gate(8, random.Random(2)), 0.0, []
    for _ in range(12):
        gate.blocked(gate.ticket, now, "401 invalid_api_key")
        gate.blocked(gate.ticket - 1, now, "401 invalid_api_key")  # another worker's, on its way before
        assert most(gate, gate.until) == 1
        waits.append(gate.until - now)
        now = gate.until
    assert 50 < waits[0] < 70
    assert all(a < b for a, b in itertools.pairwise(waits[:6]))
    assert max(waits) <= 1.1 * BLOCKED_MOST


def test_no_trouble_is_waited_for_without_end() -> None:
    gate = Gate(2)
    for _ in range(3):
        gate.limited(gate.ticket, 100.0, None, "429")
    assert not gate.hopeless(100.0 + PATIENCE)
    assert gate.hopeless(101.0 + PATIENCE)
    gate.succeeded(gate.ticket)
    assert not gate.hopeless(101.0 + PATIENCE)


def test_a_width_that_a_person_named_is_used_whole_once_an_answer_came() -> None:
    gate = Gate(128, eager=True)
    for _ in range(FIRST):
        gate.leave()
    gate.succeeded(1)
    assert most(gate, 0.0) == 128
    gate = Gate(1)
    gate.leave()
    gate.resize(32)
    assert most(gate, 0.0) == FIRST, "nothing came yet"


def test_another_width_is_taken_at_once_by_a_window_that_was_never_narrowed() -> None:
    gate = Gate(1, random.Random(1))
    gate.resize(32)
    assert most(gate, 0.0) == FIRST, "nothing came yet: nobody knows whether anything will"
    gate = Gate(FIRST, random.Random(1))
    gate.succeeded(gate.ticket)
    gate.resize(32)
    assert most(gate, 0.0) == 32
    gate.resize(2)
    assert most(gate, 0.0) == 2
    gate.succeeded(gate.ticket)
    assert most(gate, 0.0) == 2


def test_another_width_does_not_widen_a_window_that_was_narrowed() -> None:
    gate = Gate(8, random.Random(1))
    for _ in range(4):
        gate.succeeded(gate.ticket)
    for _ in range(9):
        gate.limited(gate.ticket, 0.0, None, "429")
    narrow = most(gate, BACKOFF_MOST + 1)
    gate.resize(32)
    assert most(gate, BACKOFF_MOST + 1) == narrow < 8
    gate.resize(1)
    gate.resize(32)
    assert most(gate, BACKOFF_MOST + 1) == 1, "there is trouble still"
