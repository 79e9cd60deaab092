"""Server-sent events: unfinished images while the client waits, then the finished ones."""

import json
import time
from collections.abc import Mapping
from dataclasses import replace

import anyio

from batchgen.sandbox.delivery import Wire
from batchgen.sandbox.order import Answer, Order
from batchgen.sandbox.paint import Painter

HEADERS = {"content-type": "text/event-stream; charset=utf-8", "cache-control": "no-cache"}


async def partials(wire: Wire, order: Order, painter: Painter, number: int, seconds: float) -> None:
    """Shows what there is so far, at even distances over the time that the work takes."""
    pause = seconds / (order.partials + 1)
    for index in range(order.partials):
        await anyio.sleep(pause)
        image = (await painter(order, number)).base64.decode()
        facts = {"b64_json": image, "partial_image_index": index, "created_at": int(time.time())}
        await wire.show(_event(f"{_prefix(order)}.partial_image", {**facts, **_about(order)}))
    await anyio.sleep(pause)


def finished(order: Order, answer: Answer) -> Answer:
    """The same answer as the last events; what is no JSON stands in the stream as it is."""
    try:
        fields = json.loads(answer.body)
    except ValueError:
        return answer
    if "error" in fields:
        return replace(answer, body=_event("error", fields))
    about = {"created_at": fields["created"], **_about(order)}
    events = [{**item, **about} for item in fields["data"]]
    if events and "usage" in fields:
        events[-1]["usage"] = fields["usage"]
    return replace(answer, body=b"".join(_event(f"{_prefix(order)}.completed", event) for event in events))


def _prefix(order: Order) -> str:
    return "image_edit" if order.operation == "edit" else "image_generation"


def _about(order: Order) -> dict[str, object]:
    return {
        "size": order.size,
        "quality": order.quality,
        "background": order.background,
        "output_format": order.format,
    }


def _event(name: str, fields: Mapping[str, object]) -> bytes:
    return f"event: {name}\ndata: {json.dumps({'type': name, **fields})}\n\n".encode()
