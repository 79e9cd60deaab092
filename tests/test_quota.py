"""What a provider says of its limits: figures of a minute, from headers and from the words of a 429."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batchgen.quota import KINDS, Quota, said
from batchgen.wire import Reply

WORDS = (
    "Rate limit reached for gpt-image-2 (for limit gpt-image) in organization org-x on {}: Limit {}, Used 5, "
    "Requested 1. Please try again in 12s."
)


def no(message: str, status: int = 429) -> Reply:
    return Reply(status, {}, json.dumps({"error": {"message": message}}).encode())


def headers(**values: str) -> Reply:
    return Reply(200, {f"x-ratelimit-{name.replace('_', '-')}": value for name, value in values.items()}, b"")


@pytest.mark.parametrize(
    ("on", "limit", "kind", "figure"),
    [
        ("input-images per min", "5", "images", 5),
        ("images per min (IPM)", "250", "images", 250),
        ("requests per min (RPM)", "1,200", "requests", 1200),
        ("tokens per min (TPM)", "8000000", "tokens", 8_000_000),
    ],
)
def test_a_429_names_its_limit_and_what_is_counted(on: str, limit: str, kind: str, figure: float) -> None:
    assert said(no(WORDS.format(on, limit))) == ([], [Quota(kind, figure)])


@pytest.mark.parametrize(
    "reply",
    [
        no("Too many requests"),
        no(WORDS.format("requests per day (RPD)", "200")),
        no(WORDS.format("apples per min", "200")),
        no(WORDS.format("requests per min", "0")),
        no(WORDS.format("requests per min", "5"), status=500),
        Reply(429, {"content-encoding": "gzip"}, b"no gzip"),
    ],
    ids=["no figure", "by the day", "another thing", "nothing", "no 429", "no body"],
)
def test_what_names_no_limit_of_a_minute_says_nothing(reply: Reply) -> None:
    assert said(reply) == ([], [])


def test_headers_tell_the_limit_and_what_remains_of_it() -> None:
    told = headers(
        limit_requests="60", remaining_requests="59", reset_requests="1s", limit_images="5", limit_tokens="150000",
        remaining_tokens="149984", reset_tokens="6m0s",
    )  # fmt: skip
    assert said(told)[0] == [Quota("images", 5), Quota("requests", 60, 59), Quota("tokens", 150_000, 149_984)]


@given(st.sampled_from(KINDS), st.text(max_size=8), st.text(max_size=8))
def test_whatever_headers_hold_only_sensible_figures_are_read(kind: str, limit: str, remaining: str) -> None:
    found, _ = said(headers(**{f"limit_{kind}": limit, f"remaining_{kind}": remaining}))
    assert all(quota.limit >= 1 and (quota.remaining is None or quota.remaining >= 0) for quota in found)
