"""OpenAI's edits and variations: files are looked at, in forms as in JSON."""

import base64
import hashlib
from typing import Any

import httpx
import openai
import pytest

from .child import KEY, Child
from .pictures import File, file, picture

FIELDS = {"model": "gpt-image-2", "prompt": "Add a hat", "quality": "low"}
PATH = "v1/images/edits"


def edit(sandbox: Child, *images: tuple[str, File], **fields: str) -> httpx.Response:
    """`images` are what the form calls them, and the files."""
    return sandbox.post(PATH, data={**FIELDS, **fields}, files=list(images))


def error(reply: httpx.Response) -> tuple[int, str, str | None]:
    said = reply.json()["error"]
    return reply.status_code, said["code"], said["param"]


def data_url(content: bytes, kind: str = "image/png") -> str:
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"


@pytest.mark.parametrize("file_format", ["PNG", "JPEG", "WEBP"])
def test_one_image_is_called_image(cached: Child, file_format: str) -> None:
    reply = edit(cached, ("image", file(file_format=file_format)), output_format="webp", n="2")
    assert (reply.status_code, len(reply.json()["data"]), reply.json()["output_format"]) == (200, 2, "webp")


def test_several_images_are_called_so_with_brackets(cached: Child) -> None:
    images = [("image[]", file()), ("image[]", file("L", (32, 32), "WEBP"))]
    usage = edit(cached, *images).json()["usage"]
    assert usage["input_tokens_details"] == {"text_tokens": 9, "image_tokens": 4 * 3 + 2 * 2}
    charge = cached.bill()["charges"][-1]
    assert charge["inputs"] == [hashlib.sha256(sent[1]).hexdigest() for _, sent in images]
    assert (charge["operation"], charge["mask"], charge["dialect"]) == ("edit", "", "openai")
    assert charge["nano_usd"] == 9 * 5_000 + 16 * 8_000 + 196 * 30_000


@pytest.mark.parametrize(
    ("images", "code"),
    [
        ([("image", file()), ("image", file())], "duplicate_parameter"),
        ([("image", file()), ("image[]", file())], "duplicate_parameter"),
        ([("image[]", file())] * 17, "invalid_value"),
        ([], "missing_required_parameter"),
        ([("picture", file())], "unknown_parameter"),
        ([("image", ("a.gif", b"GIF89a", "image/gif"))], "unsupported_file_mimetype"),
        ([("image", ("a.png", picture(), "application/octet-stream"))], "unsupported_file_mimetype"),
        ([("image", ("a.png", b"no image at all", "image/png"))], "invalid_image_file"),
        ([("image", ("a.png", picture()[:60], "image/png"))], "invalid_image_file"),
        ([("image", file()), ("mask", file("RGB"))], "invalid_image_file"),
        ([("image", file()), ("mask", file("RGBA", (64, 64)))], "invalid_image_file"),
        ([("image", file()), ("mask", file("RGBA", file_format="WEBP"))], "invalid_image_file"),
        ([("image", file()), ("mask", ("m.png", picture("RGBA") + bytes(2**22), "image/png"))], "invalid_image_file"),
        ([("image", ("a.png", picture() + bytes(50 * 2**20), "image/png"))], "invalid_image_file"),
    ],
)
def test_files_that_openai_does_not_take_are_refused(cached: Child, images: list[Any], code: str) -> None:
    images = images or [("user", (None, b"me"))]
    assert error(edit(cached, *images))[:2] == (400, code)


def test_a_file_without_a_name_is_refused(cached: Child) -> None:
    part = b'--x\r\nContent-Disposition: form-data; name="image"\r\nContent-Type: image/png\r\n\r\n' + picture()
    rest = b"".join(
        b'\r\n--x\r\nContent-Disposition: form-data; name="%b"\r\n\r\n%b' % (name.encode(), value.encode())
        for name, value in FIELDS.items()
    )
    headers = {"Content-Type": "multipart/form-data; boundary=x"}
    reply = cached.post(PATH, headers=headers, content=part + rest + b"\r\n--x--\r\n")
    assert error(reply) == (400, "unsupported_file_mimetype", "image")


def test_a_mask_fits_the_first_image_as_it_is_seen(cached: Child) -> None:
    upright = ("image[]", file(file_format="JPEG", turned=True))  # 64 by 48, which a camera turned
    reply = edit(cached, upright, ("image[]", file()), ("mask", file("RGBA", (48, 64))))
    assert (reply.status_code, reply.json()["usage"]["input_tokens_details"]["image_tokens"]) == (200, 24)
    assert cached.bill()["charges"][-1]["mask"] == hashlib.sha256(picture("RGBA", (48, 64))).hexdigest()
    assert edit(cached, upright, ("mask", file("RGBA", (64, 48)))).status_code == 400


@pytest.mark.parametrize(
    ("model", "fidelity", "status"),
    [
        ("gpt-image-1.5", "high", 200),
        ("gpt-image-1-mini", "low", 200),
        ("gpt-image-1-mini", "high", 400),
        ("gpt-image-2", "low", 400),
        ("gpt-image-2.6-flare", "high", 400),
    ],
)
def test_fidelity_is_for_those_models_that_have_it(cached: Child, model: str, fidelity: str, status: int) -> None:
    reply = edit(cached, ("image", file()), model=model, input_fidelity=fidelity)
    assert reply.status_code == status
    assert status == 200 or reply.json()["error"]["code"] == "invalid_input_fidelity_model"


@pytest.mark.parametrize(("field", "text"), [("n", "two"), ("n", "0"), ("stream", "yes"), ("quality", "best")])
def test_a_field_of_a_form_is_read_as_strictly_as_json(cached: Child, field: str, text: str) -> None:
    assert error(edit(cached, ("image", file()), **{field: text})) == (400, "invalid_value", field)


def test_json_names_images_by_link_by_content_or_by_id(cached: Child) -> None:
    images = [{"image_url": "https://example.com/a.png"}, {"image_url": data_url(picture())}, {"file_id": "file-7"}]
    body = {**FIELDS, "images": images, "mask": {"file_id": "file-8"}}
    reply = cached.post(PATH, json=body)
    assert reply.json()["usage"]["input_tokens_details"]["image_tokens"] == 1536 + 12 + 1536
    charge = cached.bill()["charges"][-1]
    seen = hashlib.sha256(picture()).hexdigest()
    assert (charge["inputs"], charge["mask"]) == (["link:https://example.com/a.png", seen, "id:file-7"], "id:file-8")


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"images": []}, "invalid_value"),
        ({"images": [{"file_id": "x"}] * 17}, "invalid_value"),
        ({"images": None}, "missing_required_parameter"),
        ({"images": "https://example.com/a.png"}, "invalid_value"),
        ({"images": ["https://example.com/a.png"]}, "invalid_value"),
        ({"images": [{"image_url": "https://example.com", "file_id": "x"}]}, "invalid_value"),
        ({"images": [{"image_url": "ftp://example.com/a.png"}]}, "invalid_value"),
        ({"images": [{"image_url": 7}]}, "invalid_value"),
        ({"images": [{"image_url": f"https://example.com/{'x' * 20_971_520}"}]}, "invalid_value"),
        ({"images": [{"image_url": "data:image/png;base64,???"}]}, "invalid_value"),
        ({"images": [{"image_url": data_url(b"none")}]}, "invalid_image_file"),
        ({"images": [{"image_url": data_url(b"none", "image/gif")}]}, "unsupported_file_mimetype"),
        ({"image": "x"}, "unknown_parameter"),
        ({"mask": {"image_url": data_url(picture("RGB"))}}, "invalid_image_file"),
    ],
)
def test_references_that_openai_does_not_take_are_refused(cached: Child, changes: dict[str, Any], code: str) -> None:
    images = [{"image_url": data_url(picture())}]
    assert error(cached.post(PATH, json={**FIELDS, "images": images, **changes}))[:2] == (400, code)


@pytest.mark.parametrize("body", [b"", b"--x", b"--x\r\nA: b\r\n\r\n--x--", b"--x\r\n\r\nno name\r\n--x--\r\n"])
def test_a_form_that_is_none_is_refused(cached: Child, body: bytes) -> None:
    reply = cached.post(PATH, headers={"Content-Type": "multipart/form-data; boundary=x"}, content=body)
    assert (reply.status_code, reply.json()["error"]["type"]) == (400, "invalid_request_error")


@pytest.fixture
def client(cached: Child) -> openai.OpenAI:
    return openai.OpenAI(base_url=cached.url, api_key=KEY, max_retries=0)


def test_the_official_package_edits(client: openai.OpenAI) -> None:
    with client:
        one = client.images.edit(**FIELDS, image=file(), mask=file("RGBA"), size="1536x1024")  # type: ignore[call-overload]
        two = client.images.edit(**FIELDS, image=[file(), file(file_format="JPEG")])  # type: ignore[call-overload]
    assert (one.size, one.usage.input_tokens_details.image_tokens) == ("1536x1024", 12)
    assert (two.data[0].b64_json[:5], two.usage.input_tokens_details.image_tokens) == ("iVBOR", 24)


def test_the_official_package_varies(client: openai.OpenAI, cached: Child) -> None:
    with client, pytest.warns(DeprecationWarning, match="deprecated"):
        reply = client.images.create_variation(model="gpt-image-2", image=file(), size="1024x1024", user="me")
    assert reply.data
    assert cached.bill()["charges"][-1]["operation"] == "vary"
    named = cached.post("v1/images/variations", data={**FIELDS, "moderation": "low"}, files={"image": file()})
    assert named.json()["quality"] == "low"
    counted = cached.post("v1/images/variations", data={**FIELDS, "n": "1"}, files={"image": file()})
    assert error(counted) == (400, "unknown_parameter", "n")
