"""MyRouter's dialect: a few of OpenAI's parameters, in OpenAI's envelope."""

import time

from batchgen.sandbox import envelope, openai, ordering, shape
from batchgen.sandbox.body import JSON
from batchgen.sandbox.dialect import Dialect, Operation, Sale, by_name, request_id, with_images
from batchgen.sandbox.key import BEARER
from batchgen.sandbox.order import Answer
from batchgen.sandbox.parameter import Choice, Table, Whole

_MODELS = {"gpt-image-1": "1", "gpt-image-1.5": "1.5"}
_GENERATE: Table = {
    "model": openai.MODEL,
    "prompt": openai.PROMPT,
    "quality": Choice(values=("auto", "high", "medium", "low"), default="auto"),
    "n": Whole(least=1, most=10, default=1),
    "size": Choice(values=("1024x1024", "1536x1024", "1024x1536", "auto"), default="auto"),
}


def _answer(sale: Sale) -> Answer:
    order = sale.order
    head = {
        "created": int(time.time()),
        "output_format": order.format,
        "quality": order.quality,
        "size": order.size,
        "usage": {name: said for name, said in sale.usage.items() if name != "output_tokens_details"},
    }
    return with_images(sale, head)


DIALECT = Dialect(
    name="myrouter",
    lock=BEARER,
    operations=(Operation("generate", "images/generations", {JSON: _GENERATE}, ordering.order),),
    models=_MODELS,
    family=by_name(_MODELS),
    words=envelope.WORDS,
    mistake=envelope.mistake,
    refusal=envelope.refusal,
    answer=_answer,
    headers=request_id,
    response=shape.fields(
        created=shape.INTEGER,
        data=shape.items(b64_json=shape.STRING, url=shape.STRING),
        output_format=shape.STRING,
        quality=shape.STRING,
        size=shape.STRING,
        usage=shape.fields(
            input_tokens=shape.INTEGER,
            input_tokens_details=shape.KINDS,
            output_tokens=shape.INTEGER,
            total_tokens=shape.INTEGER,
        ),
    ),
)
