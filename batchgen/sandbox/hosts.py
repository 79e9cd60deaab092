"""Servers that speak OpenAI's dialect with an accent, each as far as it differs."""

import time
from dataclasses import dataclass, replace
from uuid import uuid4

from batchgen.sandbox import detail, envelope, openai, ordering, shape
from batchgen.sandbox.body import FORM, JSON
from batchgen.sandbox.dialect import ANY, Dialect, Operation, Sale, request_id, respond, with_images, with_more
from batchgen.sandbox.inputs import File, Files, MaskFile
from batchgen.sandbox.key import API_KEY, OPEN
from batchgen.sandbox.order import Answer, Asked, Problem
from batchgen.sandbox.parameter import Choice, Schema, Size, Table, Text, Whole, without

_MODELS = {**openai.MODELS, "gpt-image-1": "1"}  # which live on at others
_PIXELS = Size(auto=False, default="1024x1024")
_PLAIN: Table = {
    "prompt": openai.PROMPT,
    "model": Text(longest=200),
    "n": Whole(least=1, most=10, default=1),
}


def _known(model: str) -> str:
    """A name is whatever the host's owner called it."""
    return _MODELS.get(model.rpartition("/")[2], ANY)


# Azure: a deployment's name for the model, no WebP
_AZURE = {
    "quality": Choice(values=("low", "medium", "high", "xhigh", "max", "auto"), default="high"),
    "output_format": Choice(values=("png", "jpeg"), default="png"),
}
_AZURE_EDIT: Table = {**openai.EDIT_FORM, **_AZURE}
AZURE = replace(
    openai.DIALECT,
    name="azure",
    lock=API_KEY,
    operations=(
        replace(openai.GENERATIONS, tables={JSON: {**openai.GENERATE, **_AZURE}}),
        replace(openai.EDITS, tables={FORM: _AZURE_EDIT}),
    ),
    models=_MODELS,
    family=_known,
    batches=False,
)

# LiteLLM: only what its list holds, and the status where the code belongs
_LISTED = ("background", "moderation", "n", "output_compression", "output_format", "quality", "size", "user")
_UNLISTED = [name for name in openai.GENERATE if name not in ("prompt", "model", *_LISTED)]


def _litellm_refusal(problem: Problem, asked: Asked) -> Answer:
    message = f"litellm.APIError: {problem.message}" + (f" ({problem.code})" if problem.code else "")
    error = {"message": message, "type": problem.type, "param": problem.param, "code": str(problem.status)}
    return respond({"error": error}, problem.status, problem.headers)


LITELLM = replace(
    openai.DIALECT,
    name="litellm",
    lock=OPEN,
    operations=(
        replace(openai.GENERATIONS, tables={JSON: without(openai.GENERATE, _UNLISTED)}),
        replace(openai.EDITS, tables={FORM: without(openai.EDIT_FORM, [*_UNLISTED, "input_fidelity"])}),
    ),
    models=_MODELS,
    family=_known,
    refusal=_litellm_refusal,
    headers=lambda asked, bucket, took: {"x-request-id": asked.request_id, "x-litellm-call-id": asked.request_id},
    batches=False,
)


# LocalAI: inpainting in place of edits, links, and a usage that says nothing
@dataclass(frozen=True, slots=True, kw_only=True)
class _GuessedSize(Size):
    """One without an x is silently replaced."""

    def read(self, name: str, given: object) -> object:
        return Size.read(self, name, "512x512" if isinstance(given, str) and "x" not in given else given)

    def kind(self) -> Schema:
        return {"type": "string"}


_LOCALAI: Table = {
    **_PLAIN,
    "size": _GuessedSize(default="512x512"),
    "response_format": Choice(values=("url", "b64_json"), default="url"),
}
_LOCALAI_ALL: Table = {**_LOCALAI, "step": Whole(least=1, most=1_000), "mode": Whole(least=0, most=100)}
_INPAINT: Table = {**_LOCALAI, "image": File(required=True), "mask": MaskFile(alpha=False, required=True)}
_ZEROS = {
    "input_tokens": 0,
    "input_tokens_details": {"text_tokens": 0, "image_tokens": 0},
    "output_tokens": 0,
    "total_tokens": 0,
    "prompt_tokens": 0,
    "completion_tokens": 0,
}


def _localai_answer(sale: Sale) -> Answer:
    return with_images(sale, {"created": int(time.time()), "id": str(uuid4()), "usage": _ZEROS})


LOCALAI = Dialect(
    name="localai",
    lock=OPEN,
    operations=(
        Operation("generate", "images/generations", {JSON: _LOCALAI_ALL}, ordering.order, open_to_more=True),
        Operation("edit", "images/inpainting", {FORM: _INPAINT}, ordering.order, open_to_more=True),
    ),
    models=_MODELS,
    family=lambda model: ANY,
    words=envelope.WORDS,
    mistake=envelope.mistake,
    refusal=envelope.refusal,
    answer=_localai_answer,
    headers=request_id,
    response=shape.fields(
        created=shape.INTEGER,
        id=shape.STRING,
        data=shape.items(url=shape.STRING, b64_json=shape.STRING),
        usage={"type": "object"},
    ),
)

# vLLM-Omni: images come as base64 and in no other way
_VLLM: Table = {**_PLAIN, "size": _PIXELS, "response_format": Choice(values=("b64_json",), default="b64_json")}
_VLLM_EDIT: Table = {
    **_VLLM,
    "image": Files(required=True, plain=True),
    "mask_image": MaskFile(alpha=False),
}


def _vllm_answer(sale: Sale) -> Answer:
    return with_images(sale, {"created": int(time.time())})


VLLM = Dialect(
    name="vllm",
    lock=OPEN,
    operations=(
        Operation("generate", "images/generations", {JSON: _VLLM}, ordering.order),
        Operation("edit", "images/edits", {FORM: _VLLM_EDIT}, ordering.order),
    ),
    models=_MODELS,
    family=lambda model: ANY,
    words=detail.WORDS,
    mistake=detail.mistake,
    refusal=detail.refusal,
    answer=_vllm_answer,
    headers=request_id,
    response=shape.fields(created=shape.INTEGER, data=shape.items(b64_json=shape.STRING)),
)

# SGLang: links for what is new, bytes for what is edited, and how long it took
_SGLANG: Table = {
    **_PLAIN,
    "size": _PIXELS,
    "response_format": Choice(values=("url", "b64_json"), default="url"),
    "user": Text(longest=10_000),
}
_SGLANG_EDIT: Table = {
    **_SGLANG,
    "response_format": Choice(values=("url", "b64_json"), default="b64_json"),
    "image": Files(required=True, plain=True),
    "mask": MaskFile(alpha=False),
}


def _sglang_answer(sale: Sale) -> Answer:
    head = {
        "id": uuid4().hex,
        "created": int(time.time()),
        "peak_memory_mb": 24_576.0,
        "inference_time_s": sale.took,
    }
    return with_images(replace(sale, data=[_sglang_item(item) for item in sale.data]), head)


def _sglang_item(item: bytes) -> bytes:
    """With a null for that delivery which was not asked for."""
    other = "url" if item.startswith(b'{"b64_json"') else "b64_json"
    return with_more(item, {other: None, "revised_prompt": None, "file_path": None})


SGLANG = replace(
    VLLM,
    name="sglang",
    operations=(
        Operation("generate", "images/generations", {JSON: _SGLANG}, ordering.order, open_to_more=True),
        Operation("edit", "images/edits", {FORM: _SGLANG_EDIT}, ordering.order, open_to_more=True),
    ),
    answer=_sglang_answer,
    response=shape.fields(
        id=shape.STRING,
        created=shape.INTEGER,
        data=shape.items(b64_json=shape.MAYBE, url=shape.MAYBE, revised_prompt=shape.MAYBE, file_path=shape.MAYBE),
        peak_memory_mb=shape.NUMBER,
        inference_time_s=shape.NUMBER,
    ),
)

ALL = (AZURE, LITELLM, LOCALAI, VLLM, SGLANG)
