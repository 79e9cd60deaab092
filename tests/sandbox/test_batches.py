"""The Batch API, as the official package sees it."""

import io
import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import openai
import pytest
from openai.types import Batch

from .child import KEY, Child
from .conftest import Start
from .pictures import picture

MODEL = "gpt-image-2"
ENDED = ("completed", "failed", "expired", "cancelled")
SMALL = ("--paint", "cached", "--paint-bytes", "1000", "--batch-rate", "10000")


@contextmanager
def client_of(sandbox: Child) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=sandbox.url, api_key=KEY, max_retries=0) as client:
        yield client


def request(custom_id: str, prompt: str = "An otter", **more: Any) -> dict[str, Any]:
    body = {"model": MODEL, "prompt": prompt, "quality": "low", **more.pop("body", {})}
    return {"custom_id": custom_id, "method": "POST", "url": "/v1/images/generations", "body": body, **more}


def upload(client: openai.OpenAI, lines: list[dict[str, Any]] | bytes) -> str:
    content = lines if isinstance(lines, bytes) else "\n".join(map(json.dumps, lines)).encode()
    return client.files.create(purpose="batch", file=("input.jsonl", content)).id


def create(client: openai.OpenAI, lines: list[dict[str, Any]] | bytes, **more: Any) -> Batch:
    more = {"endpoint": "/v1/images/generations", "completion_window": "24h", **more}
    return client.batches.create(input_file_id=upload(client, lines), **more)


def ended(client: openai.OpenAI, batch: Batch, *statuses: str) -> Batch:
    """As it is when it has come to one of these statuses."""
    until = time.monotonic() + 15
    while batch.status not in (statuses or ENDED):
        assert time.monotonic() < until, batch
        time.sleep(0.01)
        batch = client.batches.retrieve(batch.id)
    return batch


def lines(client: openai.OpenAI, name: str | None) -> dict[str, Any]:
    """Of a result file, by custom_id."""
    text = client.files.content(name).text if name else ""
    return {line["custom_id"]: line for line in map(json.loads, text.splitlines())}


def test_a_batch_lives_and_costs_half(start: Start) -> None:
    sandbox = start(*SMALL)
    with client_of(sandbox) as client:
        batch = create(client, [request(str(n)) for n in range(5)], metadata={"run": "7"})
        done = ended(client, batch)
        output = lines(client, done.output_file_id)
        direct = client.images.generate(model=MODEL, prompt="An otter", quality="low")
    assert (done.status, done.model, done.metadata, done.error_file_id) == ("completed", MODEL, {"run": "7"}, None)
    assert done.request_counts
    assert done.request_counts.to_dict() == {"total": 5, "completed": 5, "failed": 0}
    assert set(output) == set("01234")
    assert output["0"]["response"]["body"]["usage"] == direct.to_dict()["usage"]
    *charges, whole = sandbox.bill()["charges"]
    assert {charge["nano_usd"] * 2 for charge in charges} == {whole["nano_usd"]}
    assert {(each["batch"], each["custom_id"], each["client_request_id"]) for each in charges} == {
        (batch.id, name, name) for name in output
    }
    assert done.usage
    assert done.usage.total_tokens == sum(charge["usage"]["total_tokens"] for charge in charges)


def test_some_lines_fail_alone(start: Start) -> None:
    sandbox = start(*SMALL)
    asked = [
        request("a"),
        request("b", "[moderated]"),
        request("c", "[moderated-output]"),
        request("d", body={"n": 11}),
    ]
    with client_of(sandbox) as client:
        done = ended(client, create(client, asked))
        good, bad = lines(client, done.output_file_id), lines(client, done.error_file_id)
    assert (set(good), set(bad)) == ({"a"}, {"b", "c", "d"})
    said = {
        name: (line["response"]["status_code"], line["response"]["body"]["error"]["code"]) for name, line in bad.items()
    }
    assert said == {"b": (400, "moderation_blocked"), "c": (400, "moderation_blocked"), "d": (400, "invalid_value")}
    assert sandbox.fates() == ["delivered", "refused-output"] or sandbox.fates() == ["refused-output", "delivered"]


def test_a_cancelled_batch_keeps_what_is_done(start: Start) -> None:
    sandbox = start(*SMALL, "--batch-rate", "20", "--batch-cancelling", "0.2")
    with client_of(sandbox) as client:
        batch = create(client, [request(str(n)) for n in range(50)])
        while not sandbox.fates():
            pass
        assert client.batches.cancel(batch.id).status == "cancelling"
        done = ended(client, batch)
        good, bad = lines(client, done.output_file_id), lines(client, done.error_file_id)
        with pytest.raises(openai.ConflictError):
            client.batches.cancel(batch.id)
    assert done.status == "cancelled"
    assert set(good) | set(bad) == {str(n) for n in range(50)}
    assert {line["error"]["code"] for line in bad.values()} == {"batch_cancelled"}
    assert len(good) == len(sandbox.bill()["charges"]) > 0


def test_a_batch_whose_window_is_over_expires(start: Start) -> None:
    sandbox = start(*SMALL, "--batch-window", "1", "--batch-slow", "0.5", "--batch-slow-seconds", "60")
    with client_of(sandbox) as client:
        done = ended(client, create(client, [request(str(n)) for n in range(20)]))
        good, bad = lines(client, done.output_file_id), lines(client, done.error_file_id)
    assert done.status == "expired"
    assert set(good) | set(bad) == {str(n) for n in range(20)}
    assert good
    assert {(line["response"], line["error"]["code"]) for line in bad.values()} == {(None, "batch_expired")}
    assert len(sandbox.bill()["charges"]) == len(good)


def test_a_killed_provider_goes_on_and_bills_no_line_twice(start: Start, tmp_path: Path) -> None:
    flags = (*SMALL, "--bill", str(tmp_path / "bill"))
    first = start(*flags, "--batch-rate", "50")
    with client_of(first) as client:
        batch = create(client, [request(str(n)) for n in range(40)])
        while len(first.fates()) < 5:
            pass
    first.end()
    second = start(*flags)
    with client_of(second) as client:
        done = ended(client, client.batches.retrieve(batch.id))
        good = lines(client, done.output_file_id)
    assert len(good) == 40
    assert sorted(charge["custom_id"] for charge in second.bill()["charges"]) == sorted(good)


def test_batches_are_listed_the_newest_first(start: Start) -> None:
    with client_of(start(*SMALL)) as client:
        made = [create(client, [request("1")]).id for _ in range(5)]
        assert [each.id for each in client.batches.list(limit=2)] == made[::-1]
        page = client.batches.list(limit=2, after=made[2])
        assert ([each.id for each in page.data], page.has_more) == ([made[1], made[0]], False)


def test_lines_may_edit_files(start: Start) -> None:
    sandbox = start(*SMALL)
    with client_of(sandbox) as client:
        seen = client.files.create(purpose="vision", file=("a.png", io.BytesIO(picture()), "image/png")).id
        text = client.files.create(purpose="user_data", file=("a.txt", b"words")).id
        wrong = upload(client, b"{}")
        asked = [
            request(name, url="/v1/images/edits", body={"images": [{"file_id": file_id}]})
            for name, file_id in {"good": seen, "text": text, "purpose": wrong, "none": "file-none"}.items()
        ]
        done = ended(client, create(client, asked, endpoint="/v1/images/edits"))
        good, bad = lines(client, done.output_file_id), lines(client, done.error_file_id)
    assert (set(good), set(bad)) == ({"good"}, {"text", "purpose", "none"})
    assert {line["response"]["status_code"] for line in bad.values()} == {400}
