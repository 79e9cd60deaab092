"""AI/ML API's dialect: prices in the answer, errors without an envelope, links unless told otherwise."""

import time
from dataclasses import replace
from datetime import UTC, datetime

from batchgen.sandbox import envelope, openai, ordering, shape
from batchgen.sandbox.body import FORM, JSON, Given
from batchgen.sandbox.dialect import Dialect, Operation, Sale, by_name, request_id, respond, with_images
from batchgen.sandbox.inputs import Files, MaskFile
from batchgen.sandbox.key import BEARER
from batchgen.sandbox.mistake import Mistake
from batchgen.sandbox.order import Answer, Asked, Order, Problem
from batchgen.sandbox.parameter import Choice, Table, Whole

_MODELS = {
    "openai/gpt-image-1": "1",
    "openai/gpt-image-1-mini": "1-mini",
    "openai/gpt-image-1-5": "1.5",
    "openai/gpt-image-2": "2",
}
_NANO_USD_A_CREDIT = 500
_COMMON: Table = {
    "prompt": openai.PROMPT,
    "model": openai.MODEL,
    "size": Choice(values=("1024x1024", "1024x1536", "1536x1024"), default="1024x1024"),
    "quality": Choice(values=("low", "medium", "high"), default="medium"),
    "output_format": Choice(values=("png", "jpeg", "webp"), default="png"),
    "background": Choice(values=("transparent", "opaque", "auto"), default="auto"),
    "output_compression": Whole(least=0, most=100, default=100),
    "response_format": Choice(values=("url", "b64_json"), default="url"),
}
_GENERATE: Table = {
    **_COMMON,
    "moderation": Choice(values=("low", "auto"), default="auto"),
    "n": Whole(least=1, most=1, default=1),
}
_EDIT: Table = {
    **_COMMON,
    "image": Files(required=True, plain=True),
    "mask": MaskFile(),
    "n": Whole(least=1, most=10, default=1),
}
_NO_CREDIT = Problem(403, "You've run out of credits. Please top up your balance or update your payment method.")
_WORDS = {**envelope.WORDS, "quota": _NO_CREDIT, "billing": _NO_CREDIT}


def _order(given: Given, operation: str, model: str, family: str) -> Order:
    ordering.opaque_jpeg(given)
    return ordering.order(given, operation, model, family)


def _mistake(wrong: Mistake) -> Problem:
    problem = envelope.mistake(wrong)
    return replace(problem, message=f"Body validation error: {wrong.name}: {problem.message}")


def _refusal(problem: Problem, asked: Asked) -> Answer:
    error = {
        "message": problem.message,
        "path": asked.path,
        "requestId": asked.request_id,
        "statusCode": problem.status,
        "timestamp": datetime.now(UTC).isoformat(),
    }
    return respond(error, problem.status, problem.headers)


def _answer(sale: Sale) -> Answer:
    order = sale.order
    spent = {"credits_used": round(sale.nano_usd / _NANO_USD_A_CREDIT), "usd_spent": sale.nano_usd / 1e9}
    head = {
        "created": int(time.time()),
        "background": order.background,
        "output_format": order.format,
        "quality": order.quality,
        "size": order.size,
        "usage": sale.usage,
        "meta": {"usage": spent},
    }
    return with_images(sale, head)


DIALECT = Dialect(
    name="aimlapi",
    lock=BEARER,
    operations=(
        Operation("generate", "images/generations", {JSON: _GENERATE}, _order),
        Operation("edit", "images/edits", {FORM: _EDIT}, _order),
    ),
    models=_MODELS,
    family=by_name(_MODELS),
    words=_WORDS,
    mistake=_mistake,
    refusal=_refusal,
    answer=_answer,
    headers=request_id,
    response=shape.fields(
        created=shape.INTEGER,
        background=shape.STRING,
        output_format=shape.STRING,
        quality=shape.STRING,
        size=shape.STRING,
        data=shape.items(url=shape.STRING, b64_json=shape.STRING),
        usage=shape.USAGE,
        meta=shape.fields(usage=shape.fields(credits_used=shape.INTEGER, usd_spent=shape.NUMBER)),
    ),
)
