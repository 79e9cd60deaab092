"""What each dialect takes and what it refuses: asked of the sandbox, and of the document that describes it."""

from dataclasses import dataclass, field
from typing import Any

Body = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Dialect:
    """`least` is the shortest body that is taken; the others hold what is changed about it, None for left out."""

    least: Body
    taken: tuple[Body, ...]
    refused: tuple[Body, ...]
    query: str = ""
    headers: dict[str, str] = field(default_factory=dict)


def each(name: str, *values: object) -> tuple[Body, ...]:
    return tuple({name: value} for value in values)


_TEXTS = each("prompt", None, "", 7, "x" * 32_001)
_NUMBERS = each("n", 0, 11, "1", 1.5, True)
_THREE = ("1024x1024", "1536x1024", "1024x1536")

DIALECTS = {
    "openai": Dialect(
        {"model": "gpt-image-2.6-flare", "prompt": "x"},
        (
            *each("size", "auto", "1536x864", "3840x2160"),
            *each("quality", "auto", "low", "medium", "high", "xhigh", "max"),
            *each("background", "auto", "opaque", "transparent"),
            *each("output_format", "png", "jpeg", "webp"),
            *each("moderation", "auto", "low"),
            *each("complexity", "low", "medium", "high"),
            {"output_format": "jpeg", "output_compression": 0},
            {"n": 10, "user": "me", "safety_identifier": "x" * 128, "stream": False, "prompt": "x" * 32_000},
        ),
        (
            *_TEXTS,
            *_NUMBERS,
            *each("model", None),
            *each("size", "big", "1024"),
            *each("quality", "standard"),
            *each("response_format", "url", "b64_json"),
            *each("partial_images", 4),
            *each("style", "vivid"),
        ),
    ),
    "aimlapi": Dialect(
        {"model": "openai/gpt-image-1", "prompt": "x"},
        (
            *each("model", "openai/gpt-image-1-mini", "openai/gpt-image-1-5", "openai/gpt-image-2"),
            *each("size", *_THREE),
            *each("quality", "low", "medium", "high"),
            *each("output_format", "png", "jpeg", "webp"),
            *each("background", "auto", "transparent", "opaque"),
            *each("moderation", "auto", "low"),
            *each("output_compression", 0, 100),
            *each("response_format", "url", "b64_json"),
            *each("n", 1),
        ),
        (
            *_TEXTS,
            *each("n", 0, 2),
            *each("model", None),
            *each("size", "auto", "512x512"),
            *each("quality", "auto", "xhigh"),
            *each("output_format", "gif", "url"),
            *each("background", "green"),
            *each("moderation", "high"),
            *each("output_compression", -1, 101),
            *each("response_format", "png"),
            *each("user", "me"),
        ),
    ),
    "onerouter": Dialect(
        {"model": "gpt-image-1", "prompt": "x"},
        (
            *each("model", "openai/gpt-image-2/text-to-image", "openai/gpt-image-1-mini"),
            *each("size", "auto", *_THREE),
            *each("quality", "auto", "low", "medium", "high", " high"),
            *each("background", "auto", "transparent", "opaque"),
            *each("moderation", "low", "auto"),
            *each("n", 1, 10),
            *each("output_format", "url", "b64_json"),
        ),
        (
            *_TEXTS,
            *_NUMBERS,
            *each("model", None),
            *each("size", "2048x2048", "16:9"),
            *each("quality", "max"),
            *each("output_format", "png"),
            *each("response_format", "url"),
            *each("output_compression", 50),
        ),
    ),
    "myrouter": Dialect(
        {"model": "gpt-image-1", "prompt": "x"},
        (
            *each("model", "gpt-image-1.5"),
            *each("quality", "auto", "high", "medium", "low"),
            *each("n", 1, 10),
            *each("size", "auto", *_THREE),
            *each("prompt", "x" * 32_000),
        ),
        (
            *_TEXTS,
            *_NUMBERS,
            *each("model", None),
            *each("size", "512x512"),
            *each("quality", "hd"),
            *each("output_format", "png"),
            *each("background", "auto"),
        ),
    ),
    "classic": Dialect(
        {"prompt": "x"},
        (
            *each("prompt", "x" * 1_000),
            *each("n", 1, 10),
            *each("size", "256x256", "512x512", "1024x1024"),
            *each("response_format", "url", "b64_json"),
            *each("user", "me"),
            *each("model", "gpt-image-1", "whatever"),
        ),
        (
            *each("prompt", None, "", 7, "x" * 1_001),
            *_NUMBERS,
            *each("size", "auto", "1536x1024"),
            *each("response_format", "png"),
            *each("quality", "low"),
        ),
    ),
    "azure": Dialect(
        {"model": "my-deployment", "prompt": "x"},
        (*each("size", "auto", "1536x1024"), *each("output_format", "png", "jpeg"), *each("quality", "high", "auto")),
        (*_NUMBERS, *each("output_format", "webp"), *each("response_format", "b64_json"), *each("model", None)),
        query="?api-version=preview",
        headers={"api-key": "k"},
    ),
    "litellm": Dialect(
        {"model": "azure/gpt-image-1", "prompt": "x"},
        (*each("user", "me"), *each("size", *_THREE), {"output_format": "webp", "output_compression": 9}),
        (
            *_TEXTS,
            *each("response_format", "url"),
            *each("complexity", "low"),
            *each("safety_identifier", "me"),
            *each("stream", True),
        ),
    ),
    "localai": Dialect(
        {"prompt": "x"},
        (
            *each("model", "stable-diffusion"),
            *each("size", "auto", "256x256"),
            *each("response_format", "url", "b64_json"),
            *each("step", 15),
            *each("anything", "goes"),
        ),
        (*_NUMBERS, *each("prompt", None, 7), *each("response_format", "png")),
    ),
    "vllm": Dialect(
        {"prompt": "x"},
        (*each("size", "640x480"), *each("n", 1, 10), *each("response_format", "b64_json"), *each("model", "qwen")),
        (
            *_NUMBERS,
            *each("size", "auto", "0x0"),
            *each("response_format", "url"),
            *each("quality", "low"),
            *each("prompt", None),
        ),
    ),
    "sglang": Dialect(
        {"prompt": "x"},
        (
            *each("size", "640x480"),
            *each("response_format", "url", "b64_json"),
            *each("seed", 7),
            *each("num_inference_steps", 20),
        ),
        (*_NUMBERS, *each("size", "auto", "1024"), *each("response_format", "png"), *each("prompt", None)),
    ),
}


def changed(least: Body, changes: Body) -> Body:
    return {name: value for name, value in {**least, **changes}.items() if value is not None}
