"""Images a minute, as OpenAI counts and says them."""

import pytest

from batchgen.sandbox.rate import Bucket, duration, later

from .conftest import Start


class Clock:
    """Stands still until it is moved."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_a_bucket_fills_again_with_time() -> None:
    clock = Clock()
    bucket = Bucket(per_minute=60, burst=2, clock=clock)
    assert [bucket.take(1), bucket.take(1), bucket.take(1)] == [0, 0, 1]
    clock.now = 1.0
    assert [bucket.take(1), bucket.take(2)] == [0, 2]
    clock.now = 100.0
    assert (bucket.level(), bucket.until_full()) == (2, 0)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0ms"), (0.0001, "1ms"), (0.24, "240ms"), (7.5, "7.5s"), (12, "12s"), (60, "1m0s"), (361.25, "6m1.25s")],
)
def test_durations_are_written_as_openai_writes_them(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_over_the_limit_openai_says_when_to_try_again(start: Start) -> None:
    sandbox = start("--ipm", "5", "--paint", "cached")
    first, second = sandbox.generate(n=4), sandbox.generate(n=2)
    error = second.json()["error"]
    assert (first.status_code, second.status_code) == (200, 429)
    assert (error["code"], error["type"]) == ("rate_limit_exceeded", "input-images")
    assert "on input-images per min: Limit 5, Used 4, Requested 2. Please try again in " in error["message"]
    assert "retry-after" not in second.headers
    assert (first.headers["x-ratelimit-limit-requests"], first.headers["x-ratelimit-remaining-requests"]) == ("5", "1")
    assert first.headers["x-ratelimit-reset-requests"].endswith("s")
    assert sandbox.bill()["images"] == 4


def test_a_limit_may_be_another_one_later() -> None:
    clock = Clock()
    bucket = Bucket(60, 1, clock, later("10=600,20=60"))
    clock.now = 5.0  # the first request begins the count
    assert bucket.take(1) == 0
    assert bucket.take(1) == 1
    clock.now = 15.0
    assert bucket.take(1) == 0
    assert bucket.take(1) == pytest.approx(0.1)
    clock.now = 25.0
    assert bucket.take(1) == 0
    assert bucket.take(1) == 1


@pytest.mark.parametrize("text", ["10", "10=0", "x=1"])
def test_what_is_no_later_limit_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"later|convert"):
        later(text)


@pytest.mark.parametrize(("tells", "said"), [("words", "Limit 1, Used"), ("nothing", "slow down")])
def test_where_it_is_told_of_the_limit_may_be_chosen(start: Start, tells: str, said: str) -> None:
    sandbox = start("--ipm", "1", "--tell-limits", tells, "--paint", "cached")
    first, second = sandbox.generate(), sandbox.generate()
    assert (first.status_code, second.status_code) == (200, 429)
    assert not any("ratelimit" in name for name in [*first.headers, *second.headers])
    assert said in second.json()["error"]["message"]


def test_a_header_says_it_too_where_that_is_wanted(start: Start) -> None:
    sandbox = start("--ipm", "1", "--burst", "2", "--retry-after-header", "--paint", "cached")
    assert [sandbox.generate().status_code for _ in range(2)] == [200, 200]
    assert 1 <= int(sandbox.generate().headers["retry-after"]) <= 60
