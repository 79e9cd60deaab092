"""Batches as tests make them, with the official package."""

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import openai
from openai.types import Batch

from .child import KEY, Child

MODEL = "gpt-image-2"
ENDED = ("completed", "failed", "expired", "cancelled")
SMALL = ("--paint", "cached", "--paint-bytes", "1000", "--batch-rate", "10000")


@contextmanager
def client_of(sandbox: Child) -> Iterator[openai.OpenAI]:
    plain = openai.DefaultHttpxClient(verify=False)  # its certificates take longer to load than a batch
    with openai.OpenAI(base_url=sandbox.url, api_key=KEY, max_retries=0, http_client=plain) as client:
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
