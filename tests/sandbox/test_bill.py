"""The books: one line a charge, there before the answer, and after a restart."""

import json
from pathlib import Path

import httpx
import pytest

from .child import Child
from .conftest import Start


def lines(path: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_a_charge_says_everything_about_its_request(start: Start, tmp_path: Path) -> None:
    sandbox = start("--bill", str(tmp_path / "bill"), "--fsync-bill", "--paint", "cached")
    reply = sandbox.generate(headers={"X-Client-Request-Id": "mine", "Idempotency-Key": "once"}, n=2)
    (charge,) = lines(tmp_path / "bill")
    assert str(charge.pop("at")).endswith("+00:00")
    assert charge == {
        "n": 1,
        "request_id": reply.headers["x-request-id"],
        "client_request_id": "mine",
        "idempotency_key": "once",
        "path": "/v1/images/generations",
        "dialect": "openai",
        "operation": "generate",
        "inputs": [],
        "mask": "",
        "model": "gpt-image-2",
        "size": "1024x1024",
        "quality": "low",
        "images": 2,
        "usage": reply.json()["usage"],
        "nano_usd": 12 * 5_000 + 392 * 30_000,
        "usd": 0.01182,
        "fate": "delivered",
    }


def test_the_bill_goes_on_after_a_restart(start: Start, tmp_path: Path) -> None:
    for _ in range(2):
        sandbox = start("--bill", str(tmp_path / "bill"), "--paint", "cached")
        sandbox.generate()
        sandbox.end()
    sandbox = start("--bill", str(tmp_path / "bill"))
    bill = sandbox.bill()
    assert [charge["n"] for charge in bill["charges"]] == [1, 2]
    assert bill["total_nano_usd"] == sum(charge["nano_usd"] for charge in bill["charges"]) == 2 * 5_940_000
    summary = sandbox.client.get(f"{sandbox.root}/__bill?summary=1").json()
    assert summary == {"total_nano_usd": 11_880_000, "total_usd": 0.01188, "images": 2}


def test_a_client_that_left_is_billed_nonetheless(start: Start) -> None:
    sandbox = start("--latency", "0.4", "--paint", "cached")
    with pytest.raises(httpx.ReadTimeout):
        sandbox.generate(timeout=0.1)
    sandbox.generate()
    assert sandbox.fates() == ["delivered", "delivered"]


def test_what_is_refused_is_not_billed_but_a_refused_image_is(start: Start) -> None:
    sandbox = start("--paint", "cached")
    for prompt in ("[moderated]", "[moderated-output]", "x" * 32_001):
        assert sandbox.generate(prompt=prompt).status_code == 400
    assert sandbox.fates() == ["refused-output"]
    assert sandbox.bill()["total_nano_usd"] == (6 + 5) * 5_000 + 196 * 30_000


def test_the_statistics_know_how_requests_ended(start: Start) -> None:
    sandbox: Child = start("--paint", "cached", "--script", "ok cut 500")
    sandbox.generate()
    with pytest.raises(httpx.ReadError):
        sandbox.generate()
    sandbox.generate()
    assert sandbox.stats() == {"requests": {"200": 1, "none": 1, "500": 1}, "open": 0, "most_open": 1}
