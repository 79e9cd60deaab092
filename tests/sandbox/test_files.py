"""The origin that links lead to: a port of its own, where no key belongs, and ways in which links fail."""

import io
from urllib.parse import urlsplit

import httpx
import pytest
from PIL import Image

from .child import KEY, Child
from .conftest import Start

SMALL = ("--paint", "cached", "--paint-bytes", "2000")


def link(sandbox: Child) -> str:
    reply = sandbox.post("classic/v1/images/generations", json={"prompt": "x"}).json()
    url: str = reply["data"][0]["url"]
    return url


def test_links_lead_to_the_image_and_take_no_key(start: Start) -> None:
    sandbox = start("--delivery", "url", *SMALL)
    links = [item["url"] for item in sandbox.generate(output_format="webp", n=2).json()["data"]]
    replies = [sandbox.client.get(link) for link in links]
    assert [reply.headers["content-type"] for reply in replies] == ["image/webp"] * 2
    assert Image.open(io.BytesIO(replies[0].content)).size == (1024, 1024)
    for header in ("Authorization", "api-key"):
        assert sandbox.client.get(links[0], headers={header: KEY}).status_code == 400
    assert [(seen["path"], seen["status"]) for seen in sandbox.fetches()] == [
        *((urlsplit(link).path, 200) for link in links),
        *[(urlsplit(links[0]).path, 400)] * 2,
    ]
    assert [KEY in str(seen["headers"]) for seen in sandbox.fetches()] == [False, False, True, True]


def test_files_have_an_origin_of_their_own_which_is_told_second(start: Start) -> None:
    sandbox = start(*SMALL)
    assert sandbox.process.stdout
    origin = sandbox.process.stdout.readline().removeprefix("sandbox files on ").strip()
    url = link(sandbox)
    assert (url.startswith(f"{origin}/files/"), origin != sandbox.root) == (True, True)
    assert sandbox.client.get(url.replace(origin, sandbox.root)).status_code == 404
    for path in ("/files/none.png", "/__bill", "/v1/models", "/"):
        assert sandbox.client.get(f"{origin}{path}").status_code == 404


def test_links_fail_as_they_are_told_to(start: Start) -> None:
    sandbox = start(*SMALL, "--file-faults", "404 403 500 cut html truncate redirect ok redirect-away ok")
    url = link(sandbox)
    assert [sandbox.client.get(url).status_code for _ in range(3)] == [404, 403, 500]
    with pytest.raises(httpx.ReadError):
        sandbox.client.get(url)
    assert sandbox.client.get(url).headers["content-type"].startswith("text/html")
    with pytest.raises(httpx.RemoteProtocolError):
        sandbox.client.get(url)
    moved = sandbox.client.get(url, follow_redirects=True)
    assert (moved.content[:4], str(moved.url) != url) == (b"\x89PNG", True)
    away = sandbox.client.get(url, follow_redirects=True)
    assert (away.content[:4], away.url.host) == (b"\x89PNG", "127.0.0.2")
    seen = sandbox.fetches()
    assert [each["status"] for each in seen] == [404, 403, 500, None, 200, 200, 302, 200, 302, 200]
    assert seen[-1]["headers"]["host"].startswith("127.0.0.2:")
    assert sandbox.client.get(url).status_code == 200
