"""The Files API, as the official package sees it."""

import io
from pathlib import Path

import httpx
import openai
import pytest

from .batching import SMALL, client_of, create, ended, request
from .child import KEY, Child
from .conftest import Start
from .pictures import picture

MONTH = 30 * 86_400


def test_a_file_comes_back_as_it_went(cached: Child) -> None:
    content = b'{"a": "\r\n--boundary"}\r\n' * 30_000
    with client_of(cached) as client:
        made = client.files.create(purpose="batch", file=("an otter.jsonl", content))
        again = client.files.retrieve(made.id)
        with client.files.with_streaming_response.content(made.id) as answer:
            assert b"".join(answer.iter_bytes()) == content
    assert made == again
    assert (made.bytes, made.filename, made.purpose, made.object) == (len(content), "an otter.jsonl", "batch", "file")
    assert (made.status, made.expires_at) == ("processed", made.created_at + MONTH)


def test_a_part_of_a_file_can_be_asked_for(cached: Child, start: Start) -> None:
    for sandbox, status in ((cached, 206), (start("--no-ranges"), 200)):
        with client_of(sandbox) as client:
            name = client.files.create(purpose="batch", file=("a.jsonl", b"0123456789")).id
            found = client.files.with_raw_response.content(name, extra_headers={"Range": "bytes=4-"})
        assert found.status_code == status
        assert found.content == (b"456789" if status == 206 else b"0123456789")
        assert found.headers.get("content-range") == ("bytes 4-9/10" if status == 206 else None)
    too_far = cached.client.get(
        f"{cached.url}/files/{_made(cached)}/content", headers={"Authorization": f"Bearer {KEY}", "Range": "bytes=10-"}
    )
    assert (too_far.status_code, too_far.headers["content-range"]) == (416, "bytes */10")


def _made(sandbox: Child) -> str:
    with client_of(sandbox) as client:
        return client.files.create(purpose="batch", file=("a.jsonl", b"0123456789")).id


def test_files_are_listed_and_deleted(start: Start) -> None:
    with client_of(start(*SMALL)) as client:
        made = [client.files.create(purpose="batch", file=(f"{n}.jsonl", b"{}")).id for n in range(4)]
        other = client.files.create(purpose="vision", file=("a.png", picture())).id
        assert [each.id for each in client.files.list(limit=2)] == [other, *made[::-1]]
        assert [each.id for each in client.files.list(purpose="batch", order="asc", limit=3)] == made
        assert client.files.delete(made[0]).deleted
        assert made[0] not in [each.id for each in client.files.list()]
        for call in (client.files.retrieve, client.files.delete, client.files.content):
            with pytest.raises(openai.NotFoundError, match="No such File object"):
                call(made[0])


@pytest.mark.parametrize(
    ("fields", "file", "param"),
    [
        ({}, ("a.jsonl", b"{}"), "purpose"),
        ({"purpose": "fun"}, ("a.jsonl", b"{}"), "purpose"),
        ({"purpose": "batch"}, None, "file"),
        ({"purpose": "batch"}, ("a.txt", b"{}"), "file"),
        ({"purpose": "vision", "expires_after[anchor]": "created_at"}, ("a.png", b"x"), "expires_after.seconds"),
    ],
)
def test_an_upload_that_is_not_right_is_refused(
    cached: Child, fields: dict[str, str], file: tuple[str, bytes] | None, param: str
) -> None:
    files = {"file": file} if file else {"other": (None, b"x")}
    said = cached.post("v1/files", data=fields, files=files)
    assert (said.status_code, said.json()["error"]["param"]) == (400, param)


@pytest.mark.parametrize(
    "body", [b"", b"--b\r\n", b"--b\r\nContent-Disposition: x\r\n\r\n\r\n--b--", b"--b-", b"words"]
)
def test_a_form_that_is_none_is_refused(cached: Child, body: bytes) -> None:
    said = cached.post("v1/files", content=body, headers={"Content-Type": "multipart/form-data; boundary=b"})
    assert (said.status_code, said.json()["error"]["type"]) == (400, "invalid_request_error")


def test_a_file_says_when_it_expires(cached: Child) -> None:
    with client_of(cached) as client:
        made = client.files.create(
            purpose="user_data", file=("a", b"x"), expires_after={"anchor": "created_at", "seconds": 3600}
        )
        assert made.expires_at == made.created_at + 3600
        assert client.files.create(purpose="user_data", file=("a", b"x")).expires_at is None


def test_a_large_upload_leaves_the_memory_as_it_is(start: Start) -> None:
    sandbox = start()
    status = Path(f"/proc/{sandbox.process.pid}/status")

    def peak() -> int:
        return next(int(line.split()[1]) for line in status.read_text().splitlines() if line.startswith("VmHWM"))

    with client_of(sandbox) as client:
        _made(sandbox)
        before = peak()
        client.files.create(purpose="user_data", file=("a", io.BytesIO(bytes(60 * 2**20))))
    assert peak() - before < 20_000  # KiB


def test_an_edit_looks_at_files_that_it_knows(cached: Child) -> None:
    with client_of(cached) as client:
        seen = client.files.create(purpose="vision", file=("a.png", picture())).id
        text = client.files.create(purpose="vision", file=("a.png", b"words")).id
        purpose = client.files.create(purpose="batch", file=("a.jsonl", picture())).id
    said = {name: _edited(cached, name) for name in (seen, text, purpose, "file-unknown")}
    assert [answer.status_code for answer in said.values()] == [200, 400, 400, 200]
    assert said[text].json()["error"]["code"] == "invalid_image_file"
    assert len(cached.bill()["charges"][-2]["inputs"][0]) == 64


def _edited(sandbox: Child, name: str) -> httpx.Response:
    body = {"model": "gpt-image-2", "prompt": "x", "images": [{"file_id": name}]}
    return sandbox.post("v1/images/edits", json=body)


def test_files_outlive_a_restart(start: Start, tmp_path: Path) -> None:
    flags = (*SMALL, "--bill", str(tmp_path / "bill"))
    first = start(*flags)
    with client_of(first) as client:
        kept, gone = _made(first), _made(first)
        client.files.delete(gone)
        output = ended(client, create(client, [request("a")])).output_file_id
        assert output
        content = client.files.content(output).content
    first.end()
    second = start(*flags)
    with client_of(second) as client:
        assert client.files.content(kept).content == b"0123456789"
        assert client.files.content(output).content == content
        with pytest.raises(openai.NotFoundError):
            client.files.retrieve(gone)
        assert [each["deleted"] for each in second.get("__batches").json()["files"]] == [False, True, False, False]


def test_both_paths_lead_to_one_store_and_need_a_key(cached: Child) -> None:
    name = _made(cached)
    assert cached.get(f"openai/v1/files/{name}").json()["id"] == name
    assert cached.client.get(f"{cached.url}/files/{name}").status_code == 401
