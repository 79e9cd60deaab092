"""OpenAI's dialect of November 2026: what it takes, and how it answers."""

import time

from batchgen.sandbox import envelope, ordering, rate, shape
from batchgen.sandbox.body import FORM, JSON, Given
from batchgen.sandbox.dialect import ANY, Dialect, Operation, Sale, by_name, with_images
from batchgen.sandbox.inputs import File, Files, MaskFile, Reference, References
from batchgen.sandbox.key import BEARER, Lock
from batchgen.sandbox.mistake import invalid
from batchgen.sandbox.order import Answer, Asked, Order, Problem, Refused
from batchgen.sandbox.parameter import Choice, Flag, Parameter, Size, Table, Text, Whole

MODELS = {
    "gpt-image-1-mini": "1-mini",
    "gpt-image-1.5": "1.5",
    "gpt-image-1.5-2025-12-16": "1.5",
    "chatgpt-image-latest": "1.5",
    "gpt-image-2": "2",
    "gpt-image-2-2026-04-21": "2",
    "gpt-image-2.5-sunburst": "2.5",
    "gpt-image-2.5-sunburst-2026-09-08": "2.5",
    "gpt-image-2.5-flare": "2.5",
    "gpt-image-2.5-flare-2026-09-08": "2.5",
    "gpt-image-2.6-sunburst": "2.6",
    "gpt-image-2.6-flare": "2.6",
}
_FIXED_SIZES = ("1", "1-mini", "1.5")
_FINE_QUALITIES = ("2.5", "2.6", ANY)
_FIDELITIES = {"1": ("low", "high"), "1-mini": ("low",), "1.5": ("low", "high"), ANY: ("low", "high")}
_LONGEST_REQUEST_ID = 512

PROMPT = Text(longest=32_000, least=1, required=True)
MODEL = Text(longest=200, required=True)
GENERATE: Table = {
    "prompt": PROMPT,
    "model": MODEL,
    "n": Whole(least=1, most=10, default=1),
    "size": Size(default="auto"),
    "quality": Choice(values=("low", "medium", "high", "xhigh", "max", "auto"), default="auto"),
    "complexity": Choice(values=("low", "medium", "high")),
    "background": Choice(values=("transparent", "opaque", "auto"), default="auto"),
    "moderation": Choice(values=("low", "auto"), default="auto"),
    "output_format": Choice(values=("png", "jpeg", "webp", "gif", "svg"), default="png"),
    "output_compression": Whole(least=0, most=100, default=100),
    "stream": Flag(default=False),
    "partial_images": Whole(least=0, most=3),
    "frame_count": Whole(least=2, most=16),
    "frame_duration_ms": Whole(least=20, most=60_000),
    "svg": Parameter(),
    "safety_identifier": Text(longest=128),
    "user": Text(longest=10_000),
}
_EDIT = {**GENERATE, "input_fidelity": Choice(values=("low", "high"))}
EDIT_FORM: Table = {**_EDIT, "image": Files(required=True), "mask": MaskFile()}
_EDIT_JSON: Table = {**_EDIT, "images": References(required=True), "mask": Reference()}
_VARY: Table = {
    "image": File(required=True),
    "prompt": Text(longest=4_000),
    **{name: GENERATE[name] for name in ("model", "size", "quality", "output_format", "moderation", "user")},
}


def order(given: Given, operation: str, model: str, family: str) -> Order:
    """Checks what no table can say, since it depends on the model or on another parameter."""
    _check_offered(given, family)
    _check_fidelity(given, family)
    _check_quality(given, family)
    _check_size(given.text("size"), family)
    ordering.opaque_jpeg(given)
    if given.has("output_compression") and given.text("output_format") == "png":
        invalid("output_compression", "Compression is not supported for the output format 'png'.")
    return ordering.order(given, operation, model, family)


def _check_offered(given: Given, family: str) -> None:
    file_format = given.text("output_format")
    if file_format in ("gif", "svg"):
        invalid(
            "output_format", f"Invalid value: '{file_format}' is in preview, and your organization has no access to it."
        )
    for name, needed in {
        "partial_images": "" if given.flag("stream") else "stream",
        "frame_count": "output_format=gif",
        "frame_duration_ms": "output_format=gif",
        "svg": "output_format=svg",
    }.items():
        if given.has(name) and needed:
            invalid(name, f"Invalid value: '{name}' is only supported with {needed}.")
    if given.has("complexity") and family != "2.6":
        invalid("complexity", "Invalid value: 'complexity' is not supported by this model.")


def _check_fidelity(given: Given, family: str) -> None:
    if given.has("input_fidelity") and given.text("input_fidelity") not in _FIDELITIES.get(family, ()):
        message = "The value of 'input_fidelity' is not supported by this model."
        kind, code = "image_generation_user_error", "invalid_input_fidelity_model"
        raise Refused(Problem(400, message, kind, param="input_fidelity", code=code))


def _check_quality(given: Given, family: str) -> None:
    quality = given.text("quality")
    if quality in ("xhigh", "max") and family not in _FINE_QUALITIES:
        invalid("quality", f"Invalid value: '{quality}'. Supported values are: 'low', 'medium', 'high', and 'auto'.")


def _check_size(size: str, family: str) -> None:
    if size == "auto" or family == ANY:
        return
    if family in _FIXED_SIZES and size not in ("1024x1024", "1024x1536", "1536x1024"):
        known = "'1024x1024', '1024x1536', '1536x1024', and 'auto'"
        invalid("size", f"Invalid value: '{size}'. Supported values are: {known}.")
    width, height = map(int, size.split("x"))
    longer, shorter = max(width, height), min(width, height)
    if width % 16 or height % 16:
        invalid("size", f"Invalid size '{size}'. Width and height must both be divisible by 16.")
    if longer > 3840:
        invalid("size", f"Invalid size '{size}'. The longest edge must be at most 3840 pixels.")
    if longer > 3 * shorter:
        invalid("size", f"Invalid size '{size}'. The aspect ratio must be between 1:3 and 3:1.")
    if not 655_360 <= width * height <= 8_294_400:
        invalid("size", f"Invalid size '{size}'. It must have from 655,360 to 8,294,400 pixels.")


def answer(sale: Sale) -> Answer:
    order = sale.order
    head = {
        "created": int(time.time()),
        "background": order.background,
        "output_format": order.format,
        "quality": order.quality,
        "size": order.size,
        "usage": sale.usage,
    }
    return with_images(sale, head)


def headers(asked: Asked, bucket: rate.Bucket | None, took: float) -> dict[str, str]:
    """What every answer of OpenAI's own carries; `took` in seconds."""
    common = {
        "x-request-id": asked.request_id,
        "openai-organization": envelope.ORGANIZATION,
        "openai-processing-ms": str(round(took * 1000)),
        "openai-version": "2020-10-01",
    }
    if bucket is None:
        return common
    return common | {
        "x-ratelimit-limit-requests": f"{bucket.per_minute:g}",
        "x-ratelimit-remaining-requests": str(int(bucket.level())),
        "x-ratelimit-reset-requests": rate.duration(bucket.until_full()),
    }


def _admit(asked: Asked) -> None:
    """Checks the key and the caller's own id."""
    BEARER.admit(asked)
    request_id = asked.headers.get("x-client-request-id", "")
    if not request_id.isascii() or len(request_id) > _LONGEST_REQUEST_ID:
        message = "The X-Client-Request-Id header must be ASCII of at most 512 characters."
        raise Refused(Problem(400, message, param="X-Client-Request-Id", code="invalid_value"))


GENERATIONS = Operation("generate", "images/generations", {JSON: GENERATE}, order)
EDITS = Operation("edit", "images/edits", {FORM: EDIT_FORM, JSON: _EDIT_JSON}, order)
_VARIATIONS = Operation("vary", "images/variations", {FORM: _VARY}, order)
RESPONSE = shape.fields(
    created=shape.INTEGER,
    background=shape.STRING,
    output_format=shape.STRING,
    quality=shape.STRING,
    size=shape.STRING,
    data=shape.items(b64_json=shape.STRING, url=shape.STRING),
    usage=shape.USAGE,
)
DIALECT = Dialect(
    name="openai",
    lock=Lock(_admit, BEARER.scheme),
    operations=(GENERATIONS, EDITS, _VARIATIONS),
    models=MODELS,
    family=by_name(MODELS),
    words=envelope.WORDS,
    mistake=envelope.mistake,
    refusal=envelope.refusal,
    answer=answer,
    headers=headers,
    response=RESPONSE,
    batches=True,
)
