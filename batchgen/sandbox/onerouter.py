"""OneRouter's dialect: `output_format` names the delivery, errors are FastAPI's, newer models answer with a task."""

import re
import time
from dataclasses import replace

from batchgen.sandbox import detail, openai, ordering, shape
from batchgen.sandbox.body import JSON, Given
from batchgen.sandbox.dialect import Dialect, Operation, Sale, request_id, with_images, with_more
from batchgen.sandbox.inputs import Links
from batchgen.sandbox.key import BARE
from batchgen.sandbox.order import Answer, Order, Problem, Refused
from batchgen.sandbox.parameter import Choice, Table, Whole

_MODELS = {
    "gpt-image-1": "1",
    "gpt-image-1-mini": "1-mini",
    "gpt-image-1.5": "1.5",
    "openai/gpt-image-2/text-to-image": "2",
    "openai/gpt-image-2/edit": "2",
}
_GENERATE: Table = {
    "model": openai.MODEL,
    "prompt": openai.PROMPT,
    "size": Choice(values=("auto", "1024x1024", "1536x1024", "1024x1536"), default="auto"),
    "quality": Choice(values=("auto", "low", "medium", "high", " high"), default="auto"),  # as its document has it
    "background": Choice(values=("auto", "transparent", "opaque"), default="auto"),
    "moderation": Choice(values=("low", "auto"), default="auto"),
    "n": Whole(least=1, most=10, default=1),
    "output_format": Choice(values=("url", "b64_json"), default="url"),
}
_EDIT: Table = {**_GENERATE, "image_urls": Links(required=True)}


def _family(model: str) -> str:
    """Ids are free, as long as they say which model they mean."""
    named = re.search(r"gpt-image-(1-mini|1\.5|1|2\.6|2\.5|2)(?![\d.])", model)
    return named[1] if named else ""


def _order(given: Given, operation: str, model: str, family: str) -> Order:
    polled = "gpt-image-2" in model
    if "[code-402]" in given.text("prompt") and not polled:
        says = "insufficient balance"
        raise Refused(Problem(200, says, details={"code": 402, "message": says}))
    order = ordering.order(given, operation, model, family)
    return replace(order, format="png", delivery=given.text("output_format"), polled=polled)


def _answer(sale: Sale) -> Answer:
    revised = {"revised_prompt": sale.order.prompt}
    data = [with_more(item, revised) for item in sale.data]
    return with_images(replace(sale, data=data), {"created": int(time.time())})


_IMAGES = shape.fields(
    created=shape.INTEGER,
    data=shape.items(url=shape.STRING, b64_json=shape.STRING, revised_prompt=shape.STRING),
)
_TASK = shape.fields(
    code=shape.INTEGER,
    message=shape.STRING,
    data=shape.fields(
        task_id=shape.STRING,
        object=shape.STRING,
        model=shape.STRING,
        status=shape.STRING,
        urls=shape.fields(query=shape.STRING),
    ),
)
DIALECT = Dialect(
    name="onerouter",
    lock=BARE,
    operations=(
        Operation("generate", "images/generations", {JSON: _GENERATE}, _order),
        Operation("edit", "images/edits", {JSON: _EDIT}, _order),
    ),
    models=_MODELS,
    family=_family,
    words=detail.WORDS,
    mistake=detail.mistake,
    refusal=detail.refusal,
    answer=_answer,
    headers=request_id,
    response={"oneOf": [_IMAGES, _TASK]},
    tasks=True,
)
