"""Server-sent events: unfinished images first, usage last, and what becomes of them when things go wrong."""

import itertools
import json
import time
from typing import Any

import httpx
import openai
import pytest

from .child import KEY, ORDER, Child
from .conftest import Start
from .pictures import file

STREAM = {**ORDER, "stream": True, "partial_images": 2}


def events(text: str) -> list[tuple[str, dict[str, Any]]]:
    lines = [block.split("\n") for block in text.split("\n\n") if block]
    return [(name.removeprefix("event: "), json.loads(data.removeprefix("data: "))) for name, data in lines]


def test_the_official_package_sees_an_image_grow(cached: Child) -> None:
    with openai.OpenAI(base_url=cached.url, api_key=KEY, max_retries=0) as client:
        made = list(client.images.generate(model="gpt-image-2", prompt="x", stream=True, partial_images=2))
        changed = list(client.images.edit(model="gpt-image-2", prompt="x", image=file(), stream=True, partial_images=1))
    kinds = ["image_generation.partial_image"] * 2 + ["image_generation.completed"]
    assert [event.type for event in made] == kinds
    assert [event.type for event in changed] == ["image_edit.partial_image", "image_edit.completed"]
    last = made[-1]
    assert isinstance(last, openai.types.ImageGenCompletedEvent)
    assert (last.usage.output_tokens, last.size, last.b64_json[:5]) == (1756 + 200, "1024x1024", "iVBOR")


def test_every_image_has_an_event_and_the_last_tells_the_usage(cached: Child) -> None:
    reply = cached.post("v1/images/generations", json={**STREAM, "n": 2})
    assert reply.headers["content-type"].startswith("text/event-stream")
    seen = events(reply.text)
    assert [name.partition(".")[2] for name, _ in seen] == ["partial_image"] * 2 + ["completed"] * 2
    assert [data.get("partial_image_index") for _, data in seen] == [0, 1, None, None]
    assert ["usage" in data for _, data in seen] == [False, False, False, True]
    assert all(name == data["type"] for name, data in seen)
    charge = cached.bill()["charges"][-1]
    assert (charge["usage"], charge["images"]) == (seen[-1][1]["usage"], 2)


def test_unfinished_images_come_while_one_waits_and_the_bill_before_the_finished_one(start: Start) -> None:
    sandbox = start("--paint", "cached", "--paint-bytes", "2000", "--latency", "0.6")
    url, headers = f"{sandbox.url}/images/generations", {"Authorization": f"Bearer {KEY}"}
    began, seen = time.monotonic(), []
    with sandbox.client.stream("POST", url, headers=headers, json=STREAM) as reply:
        for line in reply.iter_lines():
            if line.startswith("event: "):
                seen.append((time.monotonic() - began, line.partition(".")[2], len(sandbox.fates())))
    assert [(kind, charges) for _, kind, charges in seen] == [("partial_image", 0)] * 2 + [("completed", 1)]
    gaps = [later - sooner for (sooner, _, _), (later, _, _) in itertools.pairwise(seen)]
    assert min(seen[0][0], *gaps) > 0.15


def test_what_goes_wrong_in_a_stream_goes_wrong_behind_a_good_status(start: Start) -> None:
    sandbox = start("--paint", "cached", "--paint-bytes", "2000", "--script", "stream-error ok nodata badjson two 500")
    path = "v1/images/generations"
    replies = [sandbox.post(path, json={**STREAM, "prompt": prompt}) for prompt in ("x", "[moderated-output]", *"xxxx")]
    assert [reply.status_code for reply in replies] == [200] * 5 + [500]
    failed, unsafe, none, _, two = (reply.text for reply in replies[:5])
    assert [name for name, _ in events(failed)][2:] == ["error"]
    assert events(failed)[-1][1]["error"]["code"] == "server_error"
    assert events(unsafe)[-1][1]["error"]["code"] == "moderation_blocked"
    assert (len(events(none)), len(events(two))) == (2, 4)
    assert sandbox.fates() == ["stream-error", "refused-output", "nodata", "badjson", "two"]


def test_a_stream_may_be_cut_when_everything_is_paid(start: Start) -> None:
    sandbox = start("--paint", "cached", "--paint-bytes", "2000", "--script", "stream-cut stream-cut stream-error")
    with pytest.raises(httpx.TransportError):
        sandbox.post("v1/images/generations", json=STREAM)
    with pytest.raises(httpx.TransportError):
        sandbox.generate()
    assert sandbox.generate().status_code == 500
    assert sandbox.fates() == ["stream-cut", "stream-cut", "stream-error"]
