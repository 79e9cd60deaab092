"""OneRouter: output_format is the delivery, images to edit go as URLs, and some models answer with a task to poll."""

from collections.abc import Mapping
from dataclasses import replace
from itertools import chain, repeat
from urllib.parse import quote

from batchgen.catalog import Provider
from batchgen.dialects import base, openai
from batchgen.errors import Failed, ProviderError, Refused, Unusable
from batchgen.task import Task
from batchgen.wire import Conversation, Reply, Request

WAITS = (0.5, 1.0, 2.0, 3.0, 5.0)  # seconds before each poll
WAIT = 10.0  # seconds before every later one
OVER = {"failed", "cancelled", "canceled", "expired", "error"}  # only the first is documented
fault = base.fault


def talk(task: Task, provider: Provider, handle: str = "") -> Conversation:
    """Ask for the images, poll where they are made later, and fetch those that came as links."""
    if not handle:
        reply = yield openai.request(task, provider)
        body = _body(reply)
        if not isinstance(body.get("data"), dict):
            found = base.Found(base.items(body, reply), said=base.said_of(body))
            return (yield from base.answered(found, task, provider))
        handle = _handle(body["data"], reply)
    for wait in chain(WAITS, repeat(WAIT)):
        reply = yield Request("GET", f"images/tasks/{quote(handle, safe='')}", handle=handle, wait=wait)
        made = _made(_body(reply), reply)
        if made is not None:
            return (yield from base.answered(base.Found(made), task, provider))
    raise AssertionError("it is polled for ever")


def _body(reply: Reply) -> Mapping[str, object]:
    """The JSON object of a 2xx, which may say {"code": 402, "message": …} all the same."""
    body = base.body_of(reply)
    code = str(body.get("code"))
    if code.isdecimal() and len(code) == 3 and 400 <= int(code) < 600:
        raise fault(replace(reply, status=int(code)))
    return body


def _handle(data: object, reply: Reply) -> str:
    handle = data.get("task_id") if isinstance(data, dict) else None
    handle = str(handle) if isinstance(handle, int) and not isinstance(handle, bool) else handle
    if not isinstance(handle, str) or not base.HANDLE.fullmatch(handle):
        raise base.Said("the answer holds neither an image nor a task to poll", "no_image", reply).by(Unusable)
    return handle


def _made(body: Mapping[str, object], reply: Reply) -> list[Mapping[str, object]] | None:
    """The links to a task's images; None where it is not done yet."""
    data = body.get("data")
    data = data if isinstance(data, dict) else {}
    if str(data.get("status")).lower() in OVER:
        raise _failed(str(data.get("fail_reason") or "no reason was given"), reply)
    if data.get("status") != "completed":
        return None
    outputs = data.get("outputs")
    if not isinstance(outputs, list) or not outputs:
        return None  # they may come yet
    return [link if isinstance(link, dict) else {"url": link} for link in outputs]


def _failed(reason: str, reply: Reply) -> ProviderError:
    """Nobody says whether a task that failed is billed: it may be."""
    said = base.Said(f"the task failed: {reason}", "task_failed", reply)
    if "moderat" not in reason.lower() and "safety" not in reason.lower():
        return said.by(Failed)
    refused = Refused(said.text, code="moderated", status=reply.status)
    refused.billed = True
    return refused
