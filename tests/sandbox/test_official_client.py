"""The official package takes the sandbox for the real thing."""

import base64
import io
from collections.abc import Iterator

import openai
import pytest
from PIL import Image

from .child import KEY, Child
from .conftest import Start

MODEL = "gpt-image-2"


@pytest.fixture
def client(sandbox: Child) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=sandbox.url, api_key=KEY, max_retries=0) as client:
        yield client


def test_it_gets_an_image_with_its_usage(client: openai.OpenAI) -> None:
    reply = client.images.generate(model=MODEL, prompt="A heron", size="1536x1024", quality="low", output_format="webp")
    assert reply.data
    assert reply.data[0].b64_json
    image = Image.open(io.BytesIO(base64.b64decode(reply.data[0].b64_json)))
    assert (image.format, image.size) == ("WEBP", (1536, 1024))
    assert reply.usage
    assert (reply.usage.output_tokens, reply.size, reply.quality) == (158, "1536x1024", "low")


def test_it_lists_the_models(client: openai.OpenAI) -> None:
    assert MODEL in [model.id for model in client.models.list()]


def test_it_raises_what_it_raises_for_openai(client: openai.OpenAI) -> None:
    with pytest.raises(openai.BadRequestError) as blocked:
        client.images.generate(model=MODEL, prompt="[moderated]")
    assert blocked.value.code == "moderation_blocked"
    with pytest.raises(openai.BadRequestError) as unknown:
        client.images.generate(model=MODEL, prompt="x", response_format="b64_json")
    assert (unknown.value.code, unknown.value.param) == ("unknown_parameter", "response_format")
    with pytest.raises(openai.NotFoundError):
        client.images.generate(model="gpt-image-1", prompt="x")
    with pytest.raises(openai.AuthenticationError) as key:
        client.with_options(api_key="bad").images.generate(model=MODEL, prompt="x")
    assert key.value.code == "invalid_api_key"


def test_it_meets_limits_and_faults(start: Start) -> None:
    sandbox = start("--paint", "cached", "--script", "429 quota 500 403 cut")
    with openai.OpenAI(base_url=sandbox.url, api_key=KEY, max_retries=0) as client:
        errors: list[openai.OpenAIError] = []
        for _ in range(5):
            with pytest.raises(openai.OpenAIError) as raised:
                client.images.generate(model=MODEL, prompt="x")
            errors.append(raised.value)
    kinds = ["RateLimitError", "RateLimitError", "InternalServerError", "PermissionDeniedError", "APIConnectionError"]
    assert [type(error).__name__ for error in errors] == kinds
    assert [getattr(error, "code", None) for error in errors[:2]] == ["rate_limit_exceeded", "credit_balance_exhausted"]


def test_it_retries_until_it_succeeds(start: Start) -> None:
    sandbox = start("--paint", "cached", "--script", "503-retry")
    with openai.OpenAI(base_url=sandbox.url, api_key=KEY, max_retries=1) as client:
        assert client.images.generate(model=MODEL, prompt="x").data
