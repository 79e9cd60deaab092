"""What OpenAI refuses is refused in its words, and what it accepts is answered in its shape."""

import base64
import io
from typing import Any

import pytest
from PIL import Image

from .child import KEY, Child

FLARE = "gpt-image-2.5-flare"
NEWEST = "gpt-image-2.6-flare"
OLD = "gpt-image-1.5"


def image_of(item: dict[str, Any]) -> Image.Image:
    image = Image.open(io.BytesIO(base64.b64decode(item["b64_json"], validate=True)))
    image.load()
    return image


@pytest.mark.parametrize(
    ("changes", "param"),
    [
        ({"prompt": ""}, "prompt"),
        ({"prompt": 7}, "prompt"),
        ({"prompt": "x" * 32_001}, "prompt"),
        ({"model": ["gpt-image-2"]}, "model"),
        ({"n": 0}, "n"),
        ({"n": 11}, "n"),
        ({"n": "1"}, "n"),
        ({"n": True}, "n"),
        ({"n": 1.5}, "n"),
        ({"size": "1000x1000"}, "size"),
        ({"size": "512x512"}, "size"),
        ({"size": "3856x2160"}, "size"),
        ({"size": "3840x1264"}, "size"),
        ({"size": "3840x2176"}, "size"),
        ({"size": "1024 x 1024"}, "size"),
        ({"size": "1024x1024\n"}, "size"),
        ({"size": 1024}, "size"),
        ({"size": "2048x2048", "model": OLD}, "size"),
        ({"quality": "hihg"}, "quality"),
        ({"quality": "hd"}, "quality"),
        ({"quality": "xhigh"}, "quality"),
        ({"quality": ["low"]}, "quality"),
        ({"quality": "max", "model": OLD}, "quality"),
        ({"background": "green"}, "background"),
        ({"background": "transparent", "output_format": "jpeg"}, "background"),
        ({"moderation": "high"}, "moderation"),
        ({"output_format": "bmp"}, "output_format"),
        ({"output_format": "gif"}, "output_format"),
        ({"output_format": "svg", "model": NEWEST}, "output_format"),
        ({"output_compression": 80}, "output_compression"),
        ({"output_compression": 101, "output_format": "jpeg"}, "output_compression"),
        ({"stream": "no"}, "stream"),
        ({"partial_images": 1}, "partial_images"),
        ({"frame_count": 9}, "frame_count"),
        ({"complexity": "low"}, "complexity"),
        ({"complexity": "max", "model": NEWEST}, "complexity"),
        ({"safety_identifier": "x" * 129}, "safety_identifier"),
    ],
)
def test_a_value_that_openai_does_not_take_is_refused(sandbox: Child, changes: dict[str, Any], param: str) -> None:
    reply = sandbox.generate(**changes)
    error = reply.json()["error"]
    assert (reply.status_code, error["code"], error["param"]) == (400, "invalid_value", param)
    assert error["type"] == "invalid_request_error"


@pytest.mark.parametrize("name", ["response_format", "style", "seed"])
def test_a_parameter_that_openai_does_not_know_is_refused(sandbox: Child, name: str) -> None:
    reply = sandbox.generate(**dict[str, Any]({name: "b64_json"}))
    assert reply.status_code == 400
    assert reply.json()["error"] == {
        "message": f"Unknown parameter: '{name}'.",
        "type": "invalid_request_error",
        "param": name,
        "code": "unknown_parameter",
    }


@pytest.mark.parametrize("name", ["prompt", "model"])
def test_prompt_and_model_must_be_there(sandbox: Child, name: str) -> None:
    reply = sandbox.generate(**dict[str, Any]({name: None}))
    assert (reply.status_code, reply.json()["error"]["code"]) == (400, "missing_required_parameter")


@pytest.mark.parametrize("model", ["gpt-image-1", "dall-e-3", "gpt-image-9"])
def test_a_retired_model_is_not_found(sandbox: Child, model: str) -> None:
    reply = sandbox.generate(model=model)
    assert (reply.status_code, reply.json()["error"]["code"]) == (404, "model_not_found")


@pytest.mark.parametrize(
    ("header", "code"), [("", None), ("Bearer", None), ("Basic sk", None), ("Bearer bad-key", "invalid_api_key")]
)
def test_a_request_without_a_good_key_is_not_admitted(sandbox: Child, header: str, code: str | None) -> None:
    reply = sandbox.generate(headers={"Authorization": header})
    assert (reply.status_code, reply.json()["error"]["code"]) == (401, code)


@pytest.mark.parametrize("client_id", ["x" * 513, "é"])
def test_an_own_request_id_must_be_short_ascii(sandbox: Child, client_id: str) -> None:
    url, headers = f"{sandbox.url}/images/generations", {b"authorization": b"Bearer k"}
    reply = sandbox.client.post(url, headers={**headers, b"x-client-request-id": client_id.encode()}, json={})
    assert (reply.status_code, reply.json()["error"]["param"]) == (400, "X-Client-Request-Id")


@pytest.mark.parametrize(
    "body", [b"", b"{", b"[]", b"\xff", b'{"n": NaN}', rb'{"model": "gpt-image-2", "prompt": "\ud800"}', b"[" * 100_000]
)
def test_a_body_that_is_no_json_object_is_refused(sandbox: Child, body: bytes) -> None:
    headers = {"Authorization": f"Bearer {KEY}", "Content-Type": "application/json"}
    reply = sandbox.client.post(f"{sandbox.url}/images/generations", headers=headers, content=body)
    assert (reply.status_code, reply.json()["error"]["type"]) == (400, "invalid_request_error")


def test_a_form_is_refused(sandbox: Child) -> None:
    headers = {"Authorization": f"Bearer {KEY}"}
    reply = sandbox.client.post(f"{sandbox.url}/images/generations", headers=headers, data={"prompt": "x"})
    assert reply.json()["error"]["code"] == "unsupported_content_type"


def test_a_url_that_does_not_exist_is_said_so_in_the_same_shape(sandbox: Child) -> None:
    for reply in (
        sandbox.client.get(f"{sandbox.url}/images/generations"),
        sandbox.client.post(f"{sandbox.url}/nothing"),
    ):
        assert reply.status_code in (404, 405)
        assert reply.json()["error"]["message"].startswith("Invalid URL")


@pytest.mark.parametrize("file_format", ["png", "jpeg", "webp"])
@pytest.mark.parametrize("size", ["1024x1024", "1536x864", "640x1920"])
def test_an_image_has_the_format_and_size_that_were_asked(sandbox: Child, file_format: str, size: str) -> None:
    reply = sandbox.generate(output_format=file_format, size=size).json()
    image = image_of(reply["data"][0])
    assert (image.format, f"{image.width}x{image.height}") == (file_format.upper(), size)
    assert (reply["output_format"], reply["size"], reply["quality"]) == (file_format, size, "low")


def test_auto_is_answered_with_what_it_became(sandbox: Child) -> None:
    reply = sandbox.generate(size="auto", quality="auto", background="auto").json()
    assert (reply["size"], reply["quality"], reply["background"]) == ("1024x1024", "medium", "opaque")


@pytest.mark.parametrize("file_format", ["png", "webp"])
def test_a_transparent_background_can_be_seen_through(sandbox: Child, file_format: str) -> None:
    reply = sandbox.generate(background="transparent", output_format=file_format).json()
    alpha = image_of(reply["data"][0]).getchannel("A")
    assert (reply["background"], alpha.getextrema()) == ("transparent", (0, 255))


def test_several_images_differ_and_count_their_tokens_each(sandbox: Child) -> None:
    reply = sandbox.generate(n=3).json()
    assert len({item["b64_json"] for item in reply["data"]}) == 3
    assert reply["usage"] == {
        "input_tokens": 12,
        "input_tokens_details": {"text_tokens": 12, "image_tokens": 0},
        "output_tokens": 588,
        "output_tokens_details": {"image_tokens": 588, "text_tokens": 0},
        "total_tokens": 600,
    }


def test_parameters_of_newer_models_are_taken_by_them(sandbox: Child) -> None:
    assert sandbox.generate(model=FLARE, quality="max").json()["quality"] == "max"
    assert sandbox.generate(model=NEWEST, complexity="low", user="me", stream=False, n=None).status_code == 200


def test_every_answer_carries_openais_headers(sandbox: Child) -> None:
    for reply in (sandbox.generate(), sandbox.generate(n=0)):
        assert reply.headers["x-request-id"].startswith("req_")
        assert reply.headers["openai-organization"] == "org-sandbox"
        assert reply.headers["openai-version"] == "2020-10-01"
        assert reply.headers["openai-processing-ms"].isdecimal()


@pytest.mark.parametrize(("mark", "stage"), [("[moderated]", "input"), ("[moderated-output]", "output")])
def test_moderation_says_at_which_stage(sandbox: Child, mark: str, stage: str) -> None:
    reply = sandbox.generate(prompt=f"A fox {mark}")
    error = reply.json()["error"]
    assert (reply.status_code, error["code"]) == (400, "moderation_blocked")
    assert error["type"] == "image_generation_user_error"
    assert error["moderation_details"]["moderation_stage"] == stage


def test_the_models_that_end_soon_are_listed_with_the_day(sandbox: Child) -> None:
    reply = sandbox.client.get(f"{sandbox.url}/models", headers={"Authorization": f"Bearer {KEY}"}).json()
    ends = {model["id"]: model["shutdown_date"] for model in reply["data"]}
    assert (ends[OLD], ends["gpt-image-2"]) == ("2026-12-01", None)
    assert sandbox.client.get(f"{sandbox.url}/models").status_code == 401


def test_the_same_is_served_under_the_providers_name(sandbox: Child) -> None:
    url = f"{sandbox.root}/openai/v1/images/generations"
    reply = sandbox.client.post(url, headers={"Authorization": f"Bearer {KEY}"}, json={"model": FLARE, "prompt": "x"})
    assert reply.status_code == 200
