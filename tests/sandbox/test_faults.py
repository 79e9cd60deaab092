"""Every way to misbehave: what the client sees, and what the bill says."""

import base64
import io
import json
import zlib
from collections.abc import Iterator

import httpx
import pytest
from PIL import Image

from batchgen.sandbox import faults

from .child import KEY, ORDER, Child
from .conftest import Start

DECLINED = {
    "429": (429, "input-images", "rate_limit_exceeded"),
    "429-header": (429, "input-images", "rate_limit_exceeded"),
    "quota": (429, "insufficient_quota", "credit_balance_exhausted"),
    "billing": (400, "image_generation_user_error", "billing_hard_limit_reached"),
    "401": (401, "invalid_request_error", "invalid_api_key"),
    "403": (403, "invalid_request_error", None),
    "400": (400, "invalid_request_error", "invalid_value"),
    "500": (500, "server_error", "server_error"),
    "503-retry": (503, "server_error", "server_is_overloaded"),
    "echo": (400, "invalid_request_error", "invalid_value"),
}
LOST = {
    "cut": httpx.ReadError,
    "cut-before": httpx.ReadError,
    "truncate": httpx.RemoteProtocolError,
    "stall": httpx.ReadTimeout,
    "hang": httpx.ReadTimeout,
    "bighdr": httpx.RemoteProtocolError,
}


def scripted(start: Start, *names: str) -> tuple[Child, Iterator[httpx.Response]]:
    """The replies to one request after the other, each with its fault."""
    sandbox = start("--paint", "cached", "--paint-bytes", "4000", "--script", " ".join(names))
    return sandbox, (sandbox.generate() for _ in names)


def first_image(reply: httpx.Response) -> bytes:
    return base64.b64decode(reply.json()["data"][0]["b64_json"], validate=True)


def test_what_is_declined_is_said_in_openais_words_and_not_billed(start: Start) -> None:
    sandbox, replies = scripted(start, *DECLINED)
    by_name = dict(zip(DECLINED, replies, strict=True))
    errors = {name: reply.json()["error"] for name, reply in by_name.items()}
    seen = {name: (by_name[name].status_code, error["type"], error["code"]) for name, error in errors.items()}
    assert seen == DECLINED
    assert errors["429"]["message"].endswith("Requested 1. Please try again in 50ms.")
    assert "model `gpt-image-2`" in errors["403"]["message"]
    assert f"Bearer {KEY}" in errors["echo"]["message"]
    with_header = [name for name, reply in by_name.items() if reply.headers.get("retry-after") == "1"]
    assert (with_header, sandbox.fates()) == (["429-header", "503-retry"], [])


def test_answers_get_lost_in_many_ways(start: Start) -> None:
    sandbox = start("--paint", "cached", "--script", " ".join(LOST))
    for error in LOST.values():
        with pytest.raises(error):
            sandbox.generate(timeout=0.5 if error is httpx.ReadTimeout else 20)
    assert sandbox.fates() == ["cut", "truncated", "stalled", "hung", "bighdr"]
    assert sandbox.generate().status_code == 200, "afterwards all is well"


def test_a_truncated_answer_promised_its_whole_length(start: Start) -> None:
    sandbox = start("--paint", "cached", "--script", "truncate")
    url, headers = f"{sandbox.url}/images/generations", {"Authorization": f"Bearer {KEY}"}
    got: list[bytes] = []
    stream = sandbox.client.stream("POST", url, headers=headers, json=ORDER)
    with stream as reply, pytest.raises(httpx.RemoteProtocolError):
        got.extend(reply.iter_raw())
    assert sum(map(len, got)) == int(reply.headers["content-length"]) // 2


def test_gateways_answer_with_pages(start: Start) -> None:
    sandbox, replies = scripted(start, "500-html", "502", "503", "html")
    seen = [(reply.status_code, reply.headers["content-type"], "x-request-id" in reply.headers) for reply in replies]
    assert seen == [(status, "text/html; charset=utf-8", False) for status in (500, 502, 503, 200)]
    assert sandbox.fates() == ["500-html", "502", "html"]


def test_a_redirect_leads_elsewhere_and_the_bill_shows_who_followed(start: Start) -> None:
    sandbox, replies = scripted(start, "redirect")
    (reply,) = replies
    assert (reply.status_code, sandbox.fates()) == (307, [])
    sandbox.client.post(
        f"{sandbox.root}{reply.headers['location']}", headers={"Authorization": f"Bearer {KEY}"}, json=ORDER
    )
    assert sandbox.bill()["charges"][0]["path"] == "/elsewhere/v1/images/generations"


def test_bodies_are_useless_in_many_ways(start: Start) -> None:
    sandbox, replies = scripted(start, "empty", "badjson", "nodata", "nousage", "badusage", "two")
    assert next(replies).content == b""
    half = next(replies)
    assert (half.status_code, half.headers["content-length"]) == (200, str(len(half.content)))
    with pytest.raises(json.JSONDecodeError):
        half.json()
    assert next(replies).json()["data"] == []
    assert "usage" not in next(replies).json()
    assert next(replies).json()["usage"]["output_tokens"] < 0
    assert len(next(replies).json()["data"]) == 2
    assert [charge["images"] for charge in sandbox.bill()["charges"]] == [1] * 6


def test_images_are_damaged_in_many_ways(start: Start) -> None:
    sandbox, replies = scripted(start, "badpng", "noiend", "wrongformat", "junk64", "dataurl", "ok")
    with pytest.raises(OSError, match="truncated"):
        Image.open(io.BytesIO(first_image(next(replies)))).load()
    assert b"IEND" not in first_image(next(replies))
    assert Image.open(io.BytesIO(first_image(next(replies)))).format == "JPEG"
    with pytest.raises(ValueError, match="base64"):
        first_image(next(replies))
    assert next(replies).json()["data"][0]["b64_json"].startswith("data:image/png;base64,iVBOR")
    assert first_image(next(replies)).endswith(b"IEND\xaeB`\x82")
    assert sandbox.fates() == ["badpng", "noiend", "wrongformat", "junk64", "dataurl", "delivered"]


def test_a_bomb_inflates_a_thousandfold(start: Start) -> None:
    sandbox = start("--paint", "cached", "--script", "gzbomb")
    url, headers = f"{sandbox.url}/images/generations", {"Authorization": f"Bearer {KEY}"}
    with sandbox.client.stream("POST", url, headers=headers, json=ORDER, timeout=20) as reply:
        raw = b"".join(reply.iter_raw())
    assert (reply.headers["content-encoding"], len(raw) < 1_100_000) == ("gzip", True)
    assert int.from_bytes(raw[-4:], "little") == 2**30
    assert zlib.decompressobj(wbits=31).decompress(raw, 2**21) == b" " * 2**21


def test_a_slow_answer_is_whole_in_the_end(start: Start) -> None:
    sandbox, replies = scripted(start, "slow")
    assert first_image(next(replies)).startswith(b"\x89PNG")
    assert sandbox.fates() == ["delivered"]


def test_the_same_seed_strikes_the_same_requests() -> None:
    plan, again, other = (faults.rates("cut=0.2,429=0.1", seed) for seed in (1, 1, 2))
    drawn = [plan(ordinal) for ordinal in range(1, 2001)]
    assert drawn == [again(ordinal) for ordinal in range(1, 2001)]
    assert drawn != [other(ordinal) for ordinal in range(1, 2001)]
    assert drawn.count("cut") == pytest.approx(400, rel=0.2)
    assert drawn.count("429") == pytest.approx(200, rel=0.2)
    assert set(drawn) == {"ok", "cut", "429"}


def test_rates_that_reach_one_strike_always() -> None:
    assert {faults.rates("500=1", 3)(ordinal) for ordinal in range(100)} == {"500"}
