"""OpenAI's images API: JSON in, base64 or a stream out; files go as parts of a form, or by reference in JSON."""

from collections.abc import Iterator, Mapping

from batchgen.catalog import Intake, Provider
from batchgen.dialects import base
from batchgen.errors import Unusable
from batchgen.task import Input, Kind, Operation, Task, Usage, canonical
from batchgen.wire import Conversation, Form, Inline, Reply, Request, Upload

BODY_BESIDE = 2**20  # bytes of an answer beside its images
STREAMED = (b"event:", b"data:", b":", b"id:", b"retry:")
fault = base.fault


def talk(task: Task, provider: Provider, handle: str = "") -> Conversation:
    """Ask for the images; fetch those that came as links."""
    reply = yield request(task, provider)
    return (yield from base.answered(found(reply), task, provider))


def request(task: Task, provider: Provider) -> Request:
    """The request that buys."""
    asked = {"model": task.variant.model, "prompt": task.prompt, **provider.send, **dict(task.variant.params)}
    most = base.BODY_PER_IMAGE * _pictures(task) + BODY_BESIDE
    intake = provider.intake(task.variant.operation)
    if intake is None:
        return Request("POST", provider.generate, json=asked, body_most=most)
    if task.variant.operation is Operation.VARY and not task.prompt:
        del asked["prompt"]
    if intake.form == "multipart" and all(each.kind is Kind.FILE for each in task.inputs):
        return Request("POST", intake.path, form=_form(asked, task, intake), body_most=most)
    if intake.form == "image_urls":
        urls = [_url(each) for each in task.images]
        return Request("POST", intake.path, json={**asked, "image_urls": urls}, body_most=most)
    images = [_referred(each) for each in task.images]
    mask = {"mask": _referred(task.mask, intake.mask)} if task.mask else {}
    return Request("POST", intake.path, json={**asked, "images": images, **mask}, body_most=most)


def _pictures(task: Task) -> int:
    partials = task.variant.param("partial_images", 0)
    return task.variant.images * (1 + (partials if isinstance(partials, int) else 0))


def _form(asked: Mapping[str, object], task: Task, intake: Intake) -> Form:
    name = "image" if len(task.images) == 1 else "image[]"
    files = [(name, Upload(each)) for each in task.images]
    if task.mask:
        files.append((intake.mask_field, Upload(task.mask, intake.mask)))
    return Form(tuple(_fields(asked)), tuple(files))


def _fields(asked: Mapping[str, object]) -> Iterator[tuple[str, str]]:
    """Parameters as a form's text; what lies inside of one is named by it."""
    for name, value in asked.items():
        if isinstance(value, dict):
            yield from _fields({f"{name}[{inner}]": each for inner, each in value.items()})
        else:
            yield name, value if isinstance(value, str) else canonical(value)


def _referred(input: Input, area: str = "") -> dict[str, object]:
    """An image as JSON names it: by the provider's id, a link, or the file itself as a data URL."""
    return {"file_id": input.ref} if input.kind is Kind.UPLOADED else {"image_url": _url(input, area)}


def _url(input: Input, area: str = "") -> object:
    return input.ref if input.kind is Kind.LINK else Upload(input, area)


def found(reply: Reply) -> base.Found:
    """What an answer holds, whole or streamed."""
    if is_stream(reply):
        return _streamed(reply)
    body = base.body_of(reply)
    return base.Found(base.items(body, reply), base.usage_of(body), said=base.said_of(body))


def is_stream(reply: Reply) -> bool:
    """By how it begins, whatever it is called."""
    return reply.begins(STREAMED)


def _streamed(reply: Reply) -> base.Found:
    """Events with a picture each: some on the way, at last the whole one with the usage."""
    whole: list[Mapping[str, object]] = []
    partials: list[Inline] = []
    events = base.events_of(reply)
    for event in events:
        kind = str(event.get("type") or "")
        if kind.endswith(".partial_image"):
            partials.append(base.inline(event.get("b64_json")))
        elif kind.endswith(".completed"):
            whole.append({**event, "created": event.get("created_at")})
    wrong = next((event["error"] for event in events if event.get("error")), None)
    if wrong and not whole:
        raise base.inside(base.enveloped(wrong), reply)
    if not whole:
        raise base.Said("the stream ended without an image", "no_image", reply).by(Unusable)
    return base.Found(whole, _usage(whole), tuple(partials), base.said_of(whole[-1]))


def _usage(events: list[Mapping[str, object]]) -> Usage | None:
    told = [usage for each in events if (usage := base.usage_of(each))]
    return told[-1] if told else None
