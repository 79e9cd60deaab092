"""OpenAI's images API: JSON in, base64 out; compatible servers may send links instead."""

from collections.abc import Mapping

from batchgen.catalog import Provider
from batchgen.dialects import base
from batchgen.errors import Unusable
from batchgen.task import Task
from batchgen.wire import Answer, Conversation, Fetched, Inline, Reply, Request

BODY_PER_IMAGE = 64 * 2**20  # bytes
fault = base.openai_fault


def talk(task: Task, provider: Provider) -> Conversation:
    """Ask for the images; fetch those that came as links, without the key."""
    reply = yield generation(task)
    body = base.body_of(reply)
    pictures: list[Inline | Fetched | None] = []
    for item in items(body, reply):
        if text := item.get("b64_json"):
            pictures.append(Inline(str(text)))
        elif link := item.get("url"):
            pictures.append(Fetched((yield Request("GET", str(link), auth=False, body_most=BODY_PER_IMAGE))))
        else:
            pictures.append(None)
    missing = task.variant.images - len(pictures)
    return Answer(tuple(pictures) + (None,) * missing, base.usage_of(body))


def generation(task: Task) -> Request:
    body = {"model": task.variant.model, "prompt": task.prompt, **dict(task.variant.params)}
    return Request("POST", "images/generations", json=body, body_most=BODY_PER_IMAGE * task.variant.images + 2**20)


def items(body: Mapping[str, object], reply: Reply) -> list[Mapping[str, object]]:
    """The answer's pictures; Unusable where there is none."""
    data = body.get("data")
    if not isinstance(data, list) or not data:
        raise base.Said("the answer holds no image", "no_image", reply).by(Unusable)
    return [item if isinstance(item, dict) else {} for item in data]
