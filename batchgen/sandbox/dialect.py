"""What a dialect is: the tables and functions in which one provider differs from another."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType

from batchgen.sandbox import rate
from batchgen.sandbox.body import Given
from batchgen.sandbox.key import Lock
from batchgen.sandbox.mistake import Mistake
from batchgen.sandbox.order import Answer, Asked, Order, Problem
from batchgen.sandbox.parameter import Schema, Table

ANY = "any"  # the family of models that nobody has heard of: any size, priced like the newest


@dataclass(frozen=True, slots=True)
class Sale:
    """What was sold: `data` holds ready JSON, an object an image; `took` is in seconds."""

    asked: Asked
    order: Order
    data: Sequence[bytes]
    usage: Mapping[str, object]
    nano_usd: int
    took: float


Ordering = Callable[[Given, str, str, str], Order]
"""Makes the order of parameters, the operation's name, the model and its family; raises Refused or Mistaken."""


@dataclass(frozen=True, slots=True)
class Operation:
    """What is sold under one path below /v1; `tables` are its parameters by content type."""

    name: str
    path: str
    tables: Mapping[str, Table]
    order: Ordering
    open_to_more: bool = False  # parameters that the table does not hold are ignored


@dataclass(frozen=True, slots=True)
class Dialect:
    """One provider's way to be asked, to answer and to refuse."""

    name: str
    lock: Lock
    operations: tuple[Operation, ...]
    models: Mapping[str, str]  # those that are listed, with the family whose rules, tokens and prices they share
    family: Callable[[str], str]  # of any name; empty where there is no such model
    words: Mapping[str, Problem]  # what is said when it declines, by the fault's name
    mistake: Callable[[Mistake], Problem]
    refusal: Callable[[Problem, Asked], Answer]
    answer: Callable[[Sale], Answer]
    headers: Callable[[Asked, rate.Bucket | None, float], dict[str, str]]
    response: Schema
    delivery: str = "b64_json"  # of images, where the request does not say
    tasks: bool = False  # may answer with a task that is asked after
    batches: bool = False  # takes requests by the file, at half price for those who wait

    def family_of(self, model: str, *, any_model: bool) -> str:
        """With `any_model` a stranger's name is none of our business."""
        return self.family(model) or ((self.family(model.rpartition("/")[2]) or ANY) if any_model else "")

    def declined(self, fault: str, asked: Asked, order: Order) -> Problem:
        wait = "1s" if fault == "429-header" else "50ms"
        authorization = asked.headers.get("authorization") or asked.headers.get("api-key")
        limits = {"limit": 5, "used": 5, "wait": wait}
        return self._said(fault, model=order.model, n=order.n, authorization=authorization, **limits)

    def too_fast(self, order: Order, bucket: rate.Bucket, wait: float) -> Problem:
        used = max(0, round(bucket.burst - bucket.level()))
        limits = {"limit": f"{bucket.per_minute:g}", "used": used, "wait": rate.duration(wait)}
        return self._said("429", model=order.model, n=order.n, **limits)

    def unknown_model(self, model: str) -> Problem:
        return self._said("model", model=model)

    def unsafe(self, stage: str) -> Problem:
        """`stage` is `input` (the prompt) or `output` (the image)."""
        details = {"moderation_details": {"moderation_stage": stage, "categories": ["violence"]}}
        return replace(self.words["unsafe"], details=details)

    def catalogue(self) -> dict[str, object]:
        """The body of GET /v1/models."""
        return {"object": "list", "data": [_entry(name, family) for name, family in self.models.items()]}

    def _said(self, fault: str, **values: object) -> Problem:
        problem = self.words[fault]
        return replace(problem, message=problem.message.format(**values))


def by_name(models: Mapping[str, str]) -> Callable[[str], str]:
    return lambda model: models.get(model, "")


def request_id(asked: Asked, bucket: rate.Bucket | None, took: float) -> dict[str, str]:
    """The least that an answer carries."""
    return {"x-request-id": asked.request_id}


def respond(
    fields: Mapping[str, object], status: int = 200, headers: Mapping[str, str] = MappingProxyType({})
) -> Answer:
    return Answer(status, json.dumps(fields).encode(), {"content-type": "application/json", **headers})


def with_images(sale: Sale, fields: Mapping[str, object]) -> Answer:
    """Megabytes of base64 are copied here and never encoded again."""
    data = b'{"data": [' + b", ".join(sale.data) + b"]"
    body = data + (b", " + json.dumps(fields).encode()[1:] if fields else b"}")
    return Answer(200, body, {"content-type": "application/json"})


def with_more(item: bytes, fields: Mapping[str, object]) -> bytes:
    """An image's ready JSON with further fields behind."""
    return item[:-1] + b", " + json.dumps(fields).encode()[1:]


def _entry(name: str, family: str) -> dict[str, object]:
    ends = "2026-12-01" if family in ("1-mini", "1.5") else None
    return {"id": name, "object": "model", "created": 1_760_000_000, "owned_by": "system", "shutdown_date": ends}
