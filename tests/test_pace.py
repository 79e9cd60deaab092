"""The pace of a lane: never more than its limit, nothing lost, and a limit that nobody named is found with few 429s."""

import heapq
import itertools
import json
import random
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from batchgen.bucket import BURST, Bucket
from batchgen.limits import backoff
from batchgen.pace import HEADERS, RATE, WORDS, Draw, Learned, Pace
from batchgen.quota import Quota
from batchgen.throttle import Throttle
from batchgen.wire import Reply

WORD = "Rate limit reached for x on input-images per min: Limit {}, Used 5, Requested 1. Please try again in 1s."
NOTHING = "slow down"


# buckets


def sent(bucket: Bucket, counts: list[int]) -> list[tuple[float, int]]:
    """When each of them goes, one behind the other, as soon as the bucket lets it."""
    now, found = 0.0, []
    for count in counts:
        now += bucket.wait(now, count)
        assert bucket.wait(now, count) == 0
        bucket.draw(now, count)
        found.append((now, count))
    return found


@given(st.floats(1, 6_000), st.lists(st.integers(1, 10), min_size=1, max_size=60))
def test_in_no_window_more_is_drawn_than_the_rate_and_a_burst(per_minute: float, counts: list[int]) -> None:
    bucket = Bucket(per_minute, 0.0, 0.0)
    burst, found = bucket.burst, sent(bucket, counts)
    for first, (begin, _) in enumerate(found):
        for last in range(first, len(found)):
            drawn = sum(count for _, count in found[first:last])  # what goes last may be larger than any burst
            assert drawn <= (found[last][0] - begin) * per_minute / 60 + burst + max(counts) - 1 + 1e-6


@given(st.floats(1, 6_000), st.integers(1, 10), st.integers(2, 40))
def test_a_request_of_n_images_counts_as_n(per_minute: float, n: int, requests: int) -> None:
    one, many = Bucket(per_minute, 0.0, 0.0), Bucket(per_minute, 0.0, 0.0)
    last = sent(many, [n] * requests)[-1][0]
    assert last == pytest.approx(sent(one, [1] * n * requests)[-n][0], abs=(n + one.burst) * 60 / per_minute)
    assert last >= (n * (requests - 1) - many.burst) * 60 / per_minute - 1e-6


@given(st.floats(1, 600), st.integers(2, 1_000))
def test_a_request_larger_than_the_bucket_goes_and_leaves_a_debt(per_minute: float, count: int) -> None:
    bucket = Bucket(per_minute, 0.0, 0.0)
    assert bucket.wait(0.0, count) <= max(BURST, 60 / per_minute) + 1e-6, (
        "it is not waited for longer than a burst takes"
    )
    (first, _), (second, _) = sent(bucket, [count, 1])
    assert second - first >= (count - bucket.burst) * 60 / per_minute - 1e-6


# what is learned


def paced(now: float = 0.0, **given: float) -> Pace:
    pace = Pace(given)
    pace.begin(now)
    return pace


def limits(pace: Pace) -> dict[str, float]:
    return {each.kind: each.per_minute for each in pace.limits()}


def test_each_limit_holds_by_itself() -> None:
    pace = paced(images=60, requests=600, tokens=60_000)
    pace.draw(0.0, Draw(images=4, tokens=100))
    assert pace.wait(0.0, Draw()) == pytest.approx(4.0)
    assert pace.wait(4.0, Draw(tokens=10_000)) == 0
    pace.draw(4.0, Draw(tokens=10_000))
    assert pace.wait(6.0, Draw()) == pytest.approx((10_000 - 750) / 1000 - 2.0)


def test_the_manifest_goes_before_what_is_learned_unless_that_is_lower() -> None:
    pace = paced(images=20)
    pace.heard(1.0, [Quota("images", 50)])
    assert limits(pace) == {"images": 20}
    pace.heard(2.0, [Quota("images", 5)])
    assert limits(pace) == {"images": 5}
    pace.heard(3.0, [Quota("images", 50)])
    assert limits(pace) == {"images": 20}, "headers raise it again"


def test_no_more_goes_than_remains() -> None:
    pace = paced()
    pace.heard(0.0, [Quota("requests", 600, 2)])
    for _ in range(2):
        assert pace.wait(0.0, Draw()) == 0
        pace.draw(0.0, Draw())
    assert pace.wait(0.0, Draw()) == pytest.approx(0.1)


def test_several_429s_are_believed_and_one_is_noise() -> None:
    pace, told = paced(), [Quota("images", 5)]
    assert [pace.refused(0.0, told) for _ in range(3)] == [False, False, True]
    assert (limits(pace), pace.learned) == ({"images": 5}, []), "to be remembered it must pass a trial"
    for _ in range(5):
        assert pace.wait(1.0, Draw()) == 0
        pace.draw(1.0, Draw())
    assert pace.wait(1.0, Draw()) == 9, "that is when the next trial is due, long before the bucket is full"
    assert pace.wait(11.0, Draw()) == 0, "another one, later"
    assert pace.learned == [Learned("images", 5, WORDS)]


def test_a_limit_that_is_not_there_is_forgotten() -> None:
    pace = paced()
    for _ in range(3):
        pace.refused(0.0, [Quota("images", 5)])
    for n in range(3):
        assert limits(pace) == {"images": 5}
        pace.accepted(1.0 + n / 100, Draw(), sent=0.5)
    assert limits(pace) == {}
    for _ in range(9):
        assert not pace.refused(2.0, [Quota("images", 5)]), "and not believed again"


def test_what_names_less_than_was_accepted_is_noise_however_often_it_is_said() -> None:
    pace = paced()
    for n in range(40):
        pace.accepted(n / 100, Draw())
    assert not any(pace.refused(1.0, [Quota("images", 5)]) for _ in range(9))


def test_one_that_names_about_what_was_accepted_is_believed() -> None:
    pace = paced()
    for n in range(40):
        pace.accepted(n / 20, Draw())
    assert pace.refused(2.0, [Quota("images", 1_000)])


def test_what_was_read_in_a_429_grows_again_only_after_a_quiet_while_and_while_it_holds_somebody_back() -> None:
    pace, now = paced(), 0.0
    pace.begin(0.0, [Learned("images", 60, WORDS)])
    for _ in range(200):
        now += 1
        pace.wait(now, Draw())
        pace.draw(now, Draw())
        pace.wait(now, Draw())
        pace.accepted(now, Draw())
        assert now > 29 or limits(pace) == {"images": 60}
    assert 80 < limits(pace)["images"] < 240
    pace.refused(now, [Quota("images", 60)])
    assert limits(pace) == {"images": 60}, "it was right"


def test_without_a_figure_nearly_what_was_accepted_is_the_pace() -> None:
    pace = paced()
    for n in range(100):
        pace.accepted(n / 10, Draw())
    assert pace.slowed(10.0)
    assert [(each.kind, each.source) for each in pace.learned] == [("requests", RATE)]
    assert pace.learned[0].per_minute == pytest.approx(0.95 * 600, rel=0.1)
    assert not pace.slowed(10.1), "there is nothing slower to be learned from the same answers"
    pace.heard(11.0, [Quota("images", 900)])
    assert pace.learned == [Learned("images", 900, HEADERS)], "a figure goes before a guess"


def test_every_change_is_told_with_its_reason() -> None:
    told: list[str] = []
    pace = Pace({"images": 20}, told.append)
    pace.begin(0.0, [Learned("requests", 30, HEADERS)])
    pace.heard(1.0, [Quota("images", 5)])
    assert told == [
        "20 images a minute, by the manifest",
        "30 requests a minute, by its headers",
        "5 images a minute, by its headers",
    ]
    pace.draw(1.0, Draw())
    pace.wait(1.0, Draw())
    assert pace.why(1.0) == "pace: 5 images a minute"


# a lane in pretend time, before a provider's bucket


@dataclass
class Shop:
    """Requests through a throttle to a provider with a bucket, on a clock of its own; nothing sleeps."""

    tasks: int = 400
    images: int = 1
    rate: Callable[[float], float] = lambda now: 20.0
    burst: float = 20.0
    tells: str = "headers"
    limits: dict[str, float] = field(default_factory=dict)
    noise: float = 0.0
    width: int = 32
    latency: float = 0.5
    seed: int = 1
    recalled: Sequence[Learned] = ()
    learned: Sequence[Learned] = ()
    sent: list[tuple[float, bool]] = field(default_factory=list)

    def run(self) -> "Shop":
        chance, order = random.Random(self.seed), itertools.count()
        throttle, ready = Throttle(self.width, self.limits, chance, lambda _: None), deque(range(self.tasks))
        throttle.pace.begin(0.0, self.recalled)
        events: list[tuple[float, int, str, int, int, Reply | None, float]] = []
        now = level_at = 0.0
        level, open_, done, draw = self.burst, 0, 0, Draw(self.images)
        while done < self.tasks:
            wait: float | None = None
            while ready and (wait := throttle.wait(now, open_, draw)) == 0:
                throttle.draw(now, draw)
                rate = self.rate(now)
                level, level_at = min(self.burst, level + (now - level_at) * rate), now
                accepted = (level >= self.images or not rate) and chance.random() >= self.noise
                level -= self.images * accepted
                self.sent.append((now, not accepted))
                open_ += 1
                took = (self.latency if accepted else 0.01) + chance.uniform(0, 0.01)
                what = ready.popleft(), throttle.gate.ticket, self._reply(accepted, rate, level), now
                heapq.heappush(events, (now + took, next(order), "answer", *what))
            if ready and wait and (not events or now + wait < events[0][0]):
                now += wait + 1e-6
                continue
            now, _, what_, task, ticket, reply, begun = heapq.heappop(events)
            if what_ == "again":
                ready.append(task)
                continue
            assert reply
            open_ -= 1
            throttle.heard(now, reply, draw, begun)
            if reply.status == 200:
                throttle.succeeded(ticket, open_ + bool(ready), len(ready))
                done += 1
            else:
                throttle.limited(ticket, now, 1.0, "429")
                heapq.heappush(events, (now + backoff(1, 1.0, chance), next(order), "again", task, 0, None, 0.0))
        self.ended, self.learned = now, throttle.pace.learned
        return self

    def _reply(self, accepted: bool, rate: float, level: float) -> Reply:
        headers, text = {}, WORD.format(round(60 * rate)) if rate and self.tells != "nothing" else NOTHING
        if self.noise and not rate:
            text = WORD.format(5)
        if rate and self.tells == "headers":
            told = {"limit": f"{60 * rate:g}", "remaining": f"{int(level)}"}
            headers = {f"x-ratelimit-{name}-images": value for name, value in told.items()}
        return Reply(200 if accepted else 429, headers, json.dumps({"error": {"message": text}}).encode())

    @property
    def refused(self) -> int:
        return sum(refused for _, refused in self.sent)

    def accepted(self, begin: float, end: float) -> float:
        """A second."""
        return sum(not refused for at, refused in self.sent if begin <= at < end) / (end - begin)


@pytest.mark.parametrize(("tells", "most"), [("headers", 2), ("words", 10), ("nothing", 20)])
def test_a_limit_that_is_not_known_is_found_with_few_429s(tells: str, most: int) -> None:
    shop = Shop(tells=tells).run()
    assert shop.refused <= most
    assert shop.ended < 22


def test_a_limit_of_the_manifest_is_used_up_and_never_met() -> None:
    shop = Shop(limits={"images": 1200}).run()
    assert (shop.refused, shop.ended < 20.5) == (0, True)


@pytest.mark.parametrize("seed", range(6))
def test_noise_cuts_nothing(seed: int) -> None:
    shop = Shop(tasks=500, rate=lambda now: 0.0, noise=0.1, latency=0.05, seed=seed).run()
    assert shop.ended < 5


@pytest.mark.parametrize("tells", ["headers", "words", "nothing"])
def test_a_limit_that_halves_and_comes_back_is_followed(tells: str) -> None:
    shop = Shop(2400, rate=lambda now: 10.0 if 20 <= now < 50 else 20.0, tells=tells).run()
    assert shop.accepted(30, 50) == pytest.approx(10, rel=0.15)
    assert shop.accepted(100, 110) > 18, "back within a minute"
    assert shop.refused < 0.05 * len(shop.sent)


@settings(max_examples=25, deadline=None)
@given(
    rate=st.floats(0.2, 30), burst=st.floats(1, 40), tells=st.sampled_from(["headers", "words", "nothing"]),
    images=st.integers(1, 4), noise=st.floats(0, 0.2), width=st.integers(1, 32),
)  # fmt: skip
def test_every_task_is_made_whatever_the_limit(
    rate: float, burst: float, tells: str, images: int, noise: float, width: int
) -> None:
    ideal = max(0.0, 60 * images - burst) / rate
    shop = Shop(60, images, lambda now: rate, max(burst, images), tells, {}, noise, width).run()
    assert shop.ended < 10 * ideal + 120, "and never much slower than the provider"


def test_headers_that_say_a_limit_no_more_are_believed_no_more() -> None:
    pace = paced()
    pace.heard(0.0, [Quota("requests", 1)])
    for second in range(0, 110, 10):
        pace.accepted(float(second), Draw())
    assert limits(pace) == {"requests": 1}
    pace.accepted(130.0, Draw())
    assert limits(pace) == {}


@pytest.mark.parametrize("seed", range(9))
def test_a_second_run_begins_with_what_the_first_one_really_got(seed: int) -> None:
    """A burst that the provider saved up lets a guess grow beyond its limit for long."""
    first = Shop(400, tells="nothing", seed=seed).run()
    assert first.refused <= 10
    assert [each.per_minute for each in first.learned] == [pytest.approx(1200, rel=0.05)]
    second = Shop(400, tells="nothing", seed=seed, recalled=first.learned).run()
    assert second.refused <= 2
    assert second.ended < 21


def test_of_limits_that_are_named_one_after_the_other_without_a_success_between_only_the_first_explains() -> None:
    """Else whoever changes the figure with each refusal is asked for ever at full width."""
    throttle = Throttle(64, {}, random.Random(1), lambda what: None)
    sent = 0
    for turn in range(400):
        now = turn / 10
        if throttle.wait(now, 0, Draw()) == 0:
            throttle.draw(now, Draw())
            sent += 1
            body = f"Rate limit reached on requests per min: Limit {10**6 * (1 + turn % 2)}, Used 5, Requested 1."
            said = {"error": {"message": body, "type": "requests", "code": "rate_limit_exceeded"}}
            ticket = throttle.gate.ticket
            throttle.heard(now, Reply(429, {}, json.dumps(said).encode()), Draw(), now)
            throttle.limited(ticket, now, None, "429")
    assert sent < 40
