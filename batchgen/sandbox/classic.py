"""The dialect of DALL·E's days: a short prompt, three squares, links; neither a date nor usage in the answer."""

from dataclasses import replace

from batchgen.sandbox import envelope, ordering, shape
from batchgen.sandbox.body import JSON
from batchgen.sandbox.dialect import ANY, Dialect, Operation, Sale, request_id, with_images
from batchgen.sandbox.key import BEARER
from batchgen.sandbox.order import Answer, Asked, Problem
from batchgen.sandbox.parameter import Choice, Table, Text, Whole

_GENERATE: Table = {
    "prompt": Text(longest=1_000, least=1, required=True),
    "n": Whole(least=1, most=10, default=1),
    "size": Choice(values=("256x256", "512x512", "1024x1024"), default="1024x1024"),
    "response_format": Choice(values=("url", "b64_json"), default="url"),
    "user": Text(longest=10_000),
    "model": Text(longest=200),  # not in its document, and sent by every client all the same
}


def _refusal(problem: Problem, asked: Asked) -> Answer:
    return envelope.refusal(replace(problem, code=None), asked)


def _answer(sale: Sale) -> Answer:
    return with_images(sale, {})


DIALECT = Dialect(
    name="classic",
    lock=BEARER,
    operations=(Operation("generate", "images/generations", {JSON: _GENERATE}, ordering.order),),
    models={"gpt-image-1": ANY},
    family=lambda model: ANY,
    words=envelope.WORDS,
    mistake=envelope.mistake,
    refusal=_refusal,
    answer=_answer,
    headers=request_id,
    response=shape.fields(data=shape.items(url=shape.STRING, b64_json=shape.STRING)),
)
