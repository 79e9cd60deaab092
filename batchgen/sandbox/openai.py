"""OpenAI's dialect of November 2026: how a request is checked, and how it is answered or refused."""

import json
import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType

from batchgen.sandbox import fields, rate
from batchgen.sandbox.fields import Fields, invalid
from batchgen.sandbox.order import Answer, Asked, Order, Problem, Refused, Usage

MODELS = {  # by the family whose rules, tokens and prices they share
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
ANY = "any"  # models of others: any size, priced like the newest
_FIXED_SIZES = ("1-mini", "1.5")  # these two end on the day below
_SHUTDOWN = "2026-12-01"
_FINE_QUALITIES = ("2.5", "2.6", ANY)

_ORGANIZATION = "org-sandbox"
_LONGEST_PROMPT = 32_000
_LONGEST_REQUEST_ID = 512
_PARAMETERS = frozenset(
    {
        *("prompt", "model", "n", "size", "quality", "complexity", "background", "moderation"),
        *("output_format", "output_compression", "stream", "partial_images", "frame_count", "frame_duration_ms", "svg"),
        *("safety_identifier", "user"),
    }
)


def _rate_limited(wait: str, headers: Mapping[str, str] = MappingProxyType({})) -> Problem:
    message = (
        f"Rate limit reached for {{model}} (for limit gpt-image) in organization {_ORGANIZATION} on input-images"
        f" per min: Limit {{limit}}, Used {{used}}, Requested {{n}}. Please try again in {wait}."
    )
    return Problem(429, message, "input-images", code="rate_limit_exceeded", headers=headers)


_WORDS = {  # what OpenAI says when it declines, by the fault's name
    "429": _rate_limited("50ms"),
    "429-header": _rate_limited("1s", headers={"retry-after": "1"}),
    "quota": Problem(
        429,
        "You have no credit left. Retrying does not restore access: add credit to your account.",
        "insufficient_quota",
        code="credit_balance_exhausted",
    ),
    "billing": Problem(
        400, "Billing hard limit has been reached.", "image_generation_user_error", code="billing_hard_limit_reached"
    ),
    "401": Problem(401, "Incorrect API key provided: sk-****.", code="invalid_api_key"),
    "403": Problem(
        403,
        "Your organization must be verified to use the model `{model}`. Please go to:"
        " https://platform.openai.com/settings/organization/general and click on Verify Organization.",
    ),
    "400": Problem(400, "Invalid value: the request cannot be carried out.", param="prompt", code="invalid_value"),
    "500": Problem(500, "The server had an error while processing your request.", "server_error", code="server_error"),
    "503-retry": Problem(
        503,
        "The server is overloaded. Please try again later.",
        "server_error",
        code="server_is_overloaded",
        headers={"retry-after": "1"},
    ),
    "echo": Problem(
        400, "Invalid header: 'Authorization: {authorization}'.", param="authorization", code="invalid_value"
    ),
}


def admit(headers: Mapping[str, str]) -> None:
    """Checks the key and the caller's own id; raises Refused."""
    key = re.fullmatch(r"Bearer\s+(\S+)", headers.get("authorization", ""))
    if key is None:
        raise Refused(Problem(401, "You didn't provide an API key: expected the header 'Authorization: Bearer KEY'."))
    if key[1].startswith("bad"):
        raise Refused(Problem(401, f"Incorrect API key provided: {key[1][:3]}****.", code="invalid_api_key"))
    request_id = headers.get("x-client-request-id", "")
    if not request_id.isascii() or len(request_id) > _LONGEST_REQUEST_ID:
        invalid("X-Client-Request-Id", "The X-Client-Request-Id header must be ASCII of at most 512 characters.")


def check(asked: Asked, any_model: bool = False) -> Order:
    """The order that the body holds; raises Refused. With `any_model` a stranger's name is none of our business."""
    given = fields.parse(asked)
    given.only(_PARAMETERS)
    prompt, model = given.need("prompt", _LONGEST_PROMPT), given.need("model", 200)
    if not prompt:
        invalid("prompt", "Invalid 'prompt': empty string. Expected at least 1 character.")
    family = MODELS.get(model.rpartition("/")[2] if any_model else model, ANY if any_model else "")
    if not family:
        message = f"The model '{model}' does not exist or you do not have access to it."
        raise Refused(Problem(404, message, code="model_not_found"))
    return _order(given, prompt, model, family)


def _order(given: Fields, prompt: str, model: str, family: str) -> Order:
    _without_effect(given, family)
    width, height = _size(given, family)
    file_format = _format(given)
    return Order(
        model=model,
        family=family,
        prompt=prompt,
        width=width,
        height=height,
        quality=_quality(given, family),
        n=given.number("n", 1, 10, 1),
        format=file_format,
        background=_background(given, file_format),
        compression=_compression(given, file_format),
    )


def _without_effect(given: Fields, family: str) -> None:
    """Parameters that are checked and change nothing here, or that are not offered."""
    given.one_of("moderation", ("low", "auto"), "auto")
    given.text("user", 10_000)
    given.text("safety_identifier", 128)
    if given.flag("stream"):
        invalid("stream", "Streaming is not offered by this server.")
    for name, needed in {
        "partial_images": "stream",
        "frame_count": "output_format=gif",
        "frame_duration_ms": "output_format=gif",
        "svg": "output_format=svg",
    }.items():
        if given.given(name):
            invalid(name, f"Invalid value: '{name}' is only supported with {needed}.")
    if given.given("complexity") and family != "2.6":
        invalid("complexity", "Invalid value: 'complexity' is not supported by this model.")
    given.one_of("complexity", ("low", "medium", "high"), "high")


def _quality(given: Fields, family: str) -> str:
    fine = ("xhigh", "max") if family in _FINE_QUALITIES else ()
    quality = given.one_of("quality", ("low", "medium", "high", *fine, "auto"), "auto")
    return "medium" if quality == "auto" else quality


def _format(given: Fields) -> str:
    file_format = given.one_of("output_format", ("png", "jpeg", "webp", "gif", "svg"), "png")
    if file_format in ("gif", "svg"):
        invalid(
            "output_format", f"Invalid value: '{file_format}' is in preview, and your organization has no access to it."
        )
    return file_format


def _background(given: Fields, file_format: str) -> str:
    background = given.one_of("background", ("transparent", "opaque", "auto"), "auto")
    if background == "transparent" and file_format == "jpeg":
        invalid("background", "Transparent background is not supported for the output format 'jpeg'.")
    return "opaque" if background == "auto" else background


def _compression(given: Fields, file_format: str) -> int:
    if given.given("output_compression") and file_format == "png":
        invalid("output_compression", "Compression is not supported for the output format 'png'.")
    return given.number("output_compression", 0, 100, 100)


def _size(given: Fields, family: str) -> tuple[int, int]:
    if family in _FIXED_SIZES:
        size = given.one_of("size", ("1024x1024", "1024x1536", "1536x1024", "auto"), "auto")
    else:
        size = given.text("size", 20, "auto")
    if size == "auto":
        return 1024, 1024
    match = re.fullmatch(r"([1-9]\d{0,4})x([1-9]\d{0,4})", size)
    if match is None:
        invalid("size", f"Invalid value: '{size}'. Expected 'auto' or a size like '1536x864'.")
    width, height = int(match[1]), int(match[2])
    if family not in (*_FIXED_SIZES, ANY):
        _check_edges(size, width, height)
    if max(width, height) > 4096:
        invalid("size", f"Invalid size '{size}'. No side may be longer than 4096 pixels.")
    return width, height


def _check_edges(size: str, width: int, height: int) -> None:
    longer, shorter = max(width, height), min(width, height)
    if width % 16 or height % 16:
        invalid("size", f"Invalid size '{size}'. Width and height must both be divisible by 16.")
    if longer > 3840:
        invalid("size", f"Invalid size '{size}'. The longest edge must be at most 3840 pixels.")
    if longer > 3 * shorter:
        invalid("size", f"Invalid size '{size}'. The aspect ratio must be between 1:3 and 3:1.")
    if not 655_360 <= width * height <= 8_294_400:
        invalid("size", f"Invalid size '{size}'. It must have from 655,360 to 8,294,400 pixels.")


def declined(fault: str, asked: Asked, order: Order) -> Problem:
    """What OpenAI says when it will not do what it could, by the fault's name."""
    return _filled(
        _WORDS[fault], model=order.model, n=order.n, limit=5, used=5, authorization=asked.headers.get("authorization")
    )


def too_fast(order: Order, bucket: rate.Bucket, wait: float) -> Problem:
    used = max(0, round(bucket.burst - bucket.level()))
    problem = _rate_limited(rate.duration(wait))
    return _filled(problem, model=order.model, n=order.n, limit=f"{bucket.per_minute:g}", used=used)


def _filled(problem: Problem, **values: object) -> Problem:
    return replace(problem, message=problem.message.format(**values))


def unsafe(stage: str) -> Problem:
    """`stage` is `input` (the prompt) or `output` (the image)."""
    return Problem(
        400,
        "Your request was rejected by the safety system. If you believe this is an error, contact support.",
        "image_generation_user_error",
        code="moderation_blocked",
        details={"moderation_details": {"moderation_stage": stage, "categories": ["violence"]}},
    )


def refusal(problem: Problem) -> Answer:
    error = {"message": problem.message, "type": problem.type, "param": problem.param, "code": problem.code}
    body = json.dumps({"error": {**error, **problem.details}}).encode()
    return Answer(problem.status, body, {"content-type": "application/json", **problem.headers})


def images(order: Order, data: Sequence[bytes], used: dict[str, object]) -> Answer:
    """`data` holds ready JSON, an object an image: megabytes of base64 are copied here and never encoded again."""
    head = {
        "created": int(time.time()),
        "background": order.background,
        "output_format": order.format,
        "quality": order.quality,
        "size": order.size,
        "usage": used,
    }
    body = b'{"data": [' + b", ".join(data) + b"], " + json.dumps(head).encode()[1:]
    return Answer(200, body, {"content-type": "application/json"})


def usage(used: Usage) -> dict[str, object]:
    return {
        "input_tokens": used.text_in,
        "input_tokens_details": {"text_tokens": used.text_in, "image_tokens": 0},
        "output_tokens": used.image_out,
        "output_tokens_details": {"image_tokens": used.image_out, "text_tokens": 0},
        "total_tokens": used.text_in + used.image_out,
    }


def headers(asked: Asked, bucket: rate.Bucket | None, took: float) -> dict[str, str]:
    """What every answer of OpenAI's own carries; `took` in seconds."""
    common = {
        "x-request-id": asked.request_id,
        "openai-organization": _ORGANIZATION,
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


def catalogue() -> dict[str, object]:
    """The body of GET /v1/models."""
    return {
        "object": "list",
        "data": [
            {
                "id": name,
                "object": "model",
                "created": 1_760_000_000,
                "owned_by": "system",
                "shutdown_date": _SHUTDOWN if family in _FIXED_SIZES else None,
            }
            for name, family in MODELS.items()
        ],
    }
