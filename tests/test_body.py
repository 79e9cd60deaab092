"""Bodies with files: what a stranger's parser reads out of them, and that no other file than the planned one leaves."""

import base64
import hashlib
import io
import json
import tracemalloc
from collections.abc import Callable, Mapping
from email.message import Message
from email.parser import BytesParser
from email.policy import HTTP
from pathlib import Path

import anyio
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from PIL import Image

from batchgen.body import CHUNK, Body, body
from batchgen.errors import Rejected
from batchgen.task import Input, Kind
from batchgen.wire import Form, Request, Upload

SIZES = (1, 2, 3, 4, CHUNK - 1, CHUNK, CHUNK + 1, 2 * CHUNK, 2 * CHUNK + 2)
"""Around where base64 needs padding, and where a file is read in one piece more."""
CURE = "run the manifest for what is there now; or put it back, and batchgen retry RUN --failed"
OTTER = "A sea otter on its back"
ODD = (
    "Äquator, “quoted”, it's 5\" and 100 %",
    'name="prompt"\r\n\r\nanother',
    "--\r\n--boundary\r\n--boundary--\r\n",
    "a\nb\rc\r\nd",
    "海獺 🦦",
    " ",
)
QUICK = settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def content(size: int, seed: int = 7) -> bytes:
    """Bytes that repeat at no chunk's length."""
    return bytes((seed + n) % 251 for n in range(251)) * (size // 251) + bytes(range(size % 251))


def planned(folder: Path, name: str, data: bytes, kind: str = "png", area: str = "") -> Input:
    """A file, as a plan has seen it."""
    (folder / name).write_bytes(data)
    return Input(Kind.FILE, name, hashlib.sha256(data).hexdigest(), len(data), kind, 8, 8, area)


def form(*files: tuple[str, Upload], **fields: str) -> Request:
    return Request("POST", "images/edits", form=Form(tuple(fields.items()), files))


def in_json(*files: Upload, prompt: str = OTTER) -> Request:
    return Request("POST", "images/edits", json={"prompt": prompt, "images": [{"image_url": each} for each in files]})


def made(request: Request, folder: Path) -> Body:
    found = anyio.run(body, request, folder)
    assert found
    return found


def pieces(of: Body, until: list[bytes]) -> None:
    """Everything that the body yields, into a list: what came is there even if it ends with an error."""

    async def take() -> None:
        async for chunk in of:
            assert len(chunk) <= CHUNK // 3 * 4
            until.append(chunk)

    anyio.run(take)


def sent(request: Request, folder: Path) -> tuple[Body, bytes]:
    """The body and all its bytes, which are as many as were announced."""
    found, chunks = made(request, folder), list[bytes]()
    assert found.left is bool(found.whole), "what is sent at once has left from the start"
    pieces(found, chunks)
    whole = b"".join(chunks)
    assert (len(whole), found.left) == (found.length, True)
    return found, whole


def parsed(request: Request, folder: Path) -> list[Message]:
    """A form's parts, as the standard library's parser for mail reads them."""
    found, whole = sent(request, folder)
    message = BytesParser(policy=HTTP).parsebytes(f"Content-Type: {found.content_type}\r\n\r\n".encode() + whole)
    assert (message.get_content_type(), message.defects, message.epilogue) == ("multipart/form-data", [], "")
    parts = message.get_payload()
    assert isinstance(parts, list)
    return [part for part in parts if isinstance(part, Message)]


def data_of(part: Message) -> bytes:
    data = part.get_payload(decode=True)
    assert isinstance(data, bytes)
    return data


def told(part: Message) -> tuple[object, object, str]:
    """What a part's head says: the field, the file's name, the type."""
    disposition = "content-disposition"
    assert part[disposition].startswith("form-data;")
    kind = part.get_content_type() if part["content-type"] else ""
    return part.get_param("name", header=disposition), part.get_param("filename", header=disposition), kind


# forms


def test_a_form_has_its_fields_and_files_in_their_order(tmp_path: Path) -> None:
    uploads = [
        ("image[]", Upload(planned(tmp_path, "otter of mine.jpg", b"one", "jpeg"))),
        ("image[]", Upload(planned(tmp_path, 'a "quoted" näme.webp', b"two", "webp"))),
        ("mask", Upload(planned(tmp_path, "mask.png", b"three", area="transparent"), "transparent")),
    ]
    parts = parsed(form(*uploads, prompt=OTTER, n="2"), tmp_path)
    assert [told(part) for part in parts] == [
        ("prompt", None, ""),
        ("n", None, ""),
        ("image[]", "1.jpg", "image/jpeg"),
        ("image[]", "2.webp", "image/webp"),
        ("mask", "3.png", "image/png"),
    ]
    assert [data_of(part) for part in parts] == [OTTER.encode(), b"2", b"one", b"two", b"three"]


@QUICK
@given(prompt=st.text(st.characters(exclude_categories=["Cs"])), data=st.binary(min_size=1, max_size=200))
@example(prompt=ODD[0], data=b"\r\n--")
@example(prompt=ODD[1], data=b"\n")
@example(prompt=ODD[2], data=b"\r\n\r\n")
@example(prompt=ODD[3], data=b"\r")
def test_no_text_and_no_file_breaks_a_form(tmp_path: Path, prompt: str, data: bytes) -> None:
    text, file = parsed(form(("image", Upload(planned(tmp_path, "a", data))), prompt=prompt), tmp_path)
    assert (data_of(text).decode(), data_of(file)) == (prompt, data)


def test_a_boundary_is_the_same_for_the_same_body_and_no_other(tmp_path: Path) -> None:
    one, other = (Upload(planned(tmp_path, f"{content}.png", content.encode())) for content in ("one", "other"))
    first, again, second = (made(form(("image", upload), prompt=OTTER), tmp_path) for upload in (one, one, other))
    assert first.content_type == again.content_type != second.content_type


@pytest.mark.parametrize("size", SIZES)
def test_a_file_of_any_length_arrives_whole_in_a_form(tmp_path: Path, size: int) -> None:
    data = content(size)
    (part,) = parsed(form(("image", Upload(planned(tmp_path, "a.png", data)))), tmp_path)
    assert data_of(part) == data


# JSON


def urls(request: Request, folder: Path) -> list[tuple[str, bytes]]:
    """The data URLs of a JSON body: type and content of each."""
    found, whole = sent(request, folder)
    assert found.content_type == "application/json"
    texts = [each["image_url"] for each in json.loads(whole)["images"]]
    heads = [text.partition(";base64,") for text in texts]
    return [(head.removeprefix("data:"), base64.b64decode(tail, validate=True)) for head, _, tail in heads]


@pytest.mark.parametrize("size", SIZES)
def test_a_file_of_any_length_arrives_whole_as_a_data_url(tmp_path: Path, size: int) -> None:
    data = content(size)
    assert urls(in_json(Upload(planned(tmp_path, "a.png", data))), tmp_path) == [("image/png", data)]


def test_several_files_go_as_data_urls_each_in_its_place(tmp_path: Path) -> None:
    one, two = planned(tmp_path, "1.jpg", b"one", "jpeg"), planned(tmp_path, "2.webp", b"two", "webp")
    found = urls(in_json(Upload(one), Upload(two), Upload(one)), tmp_path)
    assert found == [("image/jpeg", b"one"), ("image/webp", b"two"), ("image/jpeg", b"one")]


@QUICK
@given(prompt=st.text(st.characters(exclude_categories=["Cs"])))
@example(prompt=ODD[0])
@example(prompt=ODD[1])
@example(prompt=ODD[4])
def test_no_text_breaks_the_json_around_a_file(tmp_path: Path, prompt: str) -> None:
    _, whole = sent(in_json(Upload(planned(tmp_path, "a.png", b"one")), prompt=prompt), tmp_path)
    assert json.loads(whole) == {"prompt": prompt, "images": [{"image_url": "data:image/png;base64,b25l"}]}


def test_links_and_ids_stand_beside_files_as_they_are(tmp_path: Path) -> None:
    value: Mapping[str, object] = {
        "images": [{"file_id": "file-1"}, {"image_url": Upload(planned(tmp_path, "a.png", b"one"))}],
        "n": 2,
    }
    _, whole = sent(Request("POST", "x", json=value), tmp_path)
    first, second = json.loads(whole)["images"]
    assert (first, second["image_url"][-4:]) == ({"file_id": "file-1"}, "b25l")


def test_what_has_no_file_is_plain_json_and_what_has_no_body_has_none(tmp_path: Path) -> None:
    found, whole = sent(Request("POST", "x", json={"prompt": "Otter 🦦", "n": 1}), tmp_path)
    assert (found.content_type, json.loads(whole)) == ("application/json", {"prompt": "Otter 🦦", "n": 1})
    assert anyio.run(body, Request("GET", "x"), tmp_path) is None


@pytest.mark.parametrize("request_of", [lambda text: form(prompt=text), lambda text: in_json(prompt=text)])
def test_u8_half_a_character_cannot_be_sent(tmp_path: Path, request_of: Callable[[str], Request]) -> None:
    with pytest.raises(Rejected) as caught:
        made(request_of("otter \ud800"), tmp_path)
    assert caught.value.code == "invalid_request"


# a mask in the provider's words


@pytest.mark.parametrize("area", ["transparent", "white"])
def test_a_mask_in_other_words_goes_as_a_png(tmp_path: Path, area: str) -> None:
    out = io.BytesIO()
    Image.new("L", (8, 8), 255).save(out, "JPEG")
    mask = planned(tmp_path, "mask.jpg", out.getvalue(), "jpeg", area="black" if area == "white" else "white")
    (part,) = parsed(form(("mask", Upload(mask, area))), tmp_path)
    assert (told(part), data_of(part)[:8]) == (("mask", "1.png", "image/png"), b"\x89PNG\r\n\x1a\n")
    assert urls(in_json(Upload(mask, area)), tmp_path) == [("image/png", data_of(part))]


# other files than were planned


def vanish(path: Path) -> None:
    path.unlink()


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


def grow(path: Path) -> None:
    path.write_bytes(path.read_bytes() + b"x")


def replace(path: Path) -> None:
    path.write_bytes(bytes(len(path.read_bytes())))


def flip_the_last(path: Path) -> None:
    data = path.read_bytes()
    path.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))


def fold(path: Path) -> None:
    path.unlink()
    path.mkdir()


Change = Callable[[Path], None]
Wrap = Callable[[Upload], Request]
WRAPS = (lambda upload: form(("image", upload), prompt=OTTER), in_json)


@pytest.mark.parametrize("wrap", WRAPS, ids=["form", "json"])
@pytest.mark.parametrize("change", [vanish, cut, grow, fold])
def test_a_file_of_another_length_is_refused_before_anything_leaves(tmp_path: Path, change: Change, wrap: Wrap) -> None:
    request = wrap(Upload(planned(tmp_path, "a.png", content(100))))
    change(tmp_path / "a.png")
    with pytest.raises(Rejected, match=rf"^a\.png: .*Nothing was sent: {CURE}$") as caught:
        made(request, tmp_path)
    assert caught.value.code == "input_changed"


@pytest.mark.parametrize("wrap", WRAPS, ids=["form", "json"])
@pytest.mark.parametrize("change", [vanish, cut, replace, flip_the_last, fold])
@pytest.mark.parametrize("size", [100, CHUNK, 2 * CHUNK + 100])
def test_a_file_that_changes_on_its_way_never_leaves_whole(
    tmp_path: Path, change: Change, wrap: Wrap, size: int
) -> None:
    request = wrap(Upload(planned(tmp_path, "a.png", content(size))))
    found, chunks = made(request, tmp_path), list[bytes]()
    change(tmp_path / "a.png")
    with pytest.raises(Rejected) as caught:
        pieces(found, chunks)
    assert (caught.value.code, found.left) == ("input_changed", False)
    short = found.length - sum(map(len, chunks))
    tail = found.pieces[-1]
    assert isinstance(tail, bytes)
    assert short >= len(tail), "what ends the body never leaves, so nobody can act on it"


def test_a_file_that_grew_meanwhile_goes_as_it_was_planned(tmp_path: Path) -> None:
    found = made(form(("image", Upload(planned(tmp_path, "a.png", content(CHUNK))))), tmp_path)
    grow(tmp_path / "a.png")
    chunks: list[bytes] = []
    pieces(found, chunks)
    assert sum(map(len, chunks)) == found.length
    assert content(CHUNK) in b"".join(chunks)


def test_the_first_of_two_files_may_leave_and_the_body_does_not(tmp_path: Path) -> None:
    one, two = planned(tmp_path, "1.png", content(50)), planned(tmp_path, "2.png", content(60, 8))
    found, chunks = made(form(("image[]", Upload(one)), ("image[]", Upload(two))), tmp_path), list[bytes]()
    replace(tmp_path / "2.png")
    with pytest.raises(Rejected, match=r"^2\.png: it has changed since the plan"):
        pieces(found, chunks)
    assert content(50) in chunks
    assert (content(60, 8) in chunks, bytes(60) in chunks, found.left) == (False, False, False)


@pytest.mark.parametrize("change", [vanish, cut, grow, replace, fold])
def test_a_mask_that_changed_is_not_translated(tmp_path: Path, change: Change) -> None:
    out = io.BytesIO()
    Image.new("L", (8, 8), 255).save(out, "PNG")
    mask = planned(tmp_path, "mask.png", out.getvalue(), area="white")
    change(tmp_path / "mask.png")
    with pytest.raises(Rejected) as caught:
        made(form(("mask", Upload(mask, "transparent"))), tmp_path)
    assert caught.value.code == "input_changed"


def test_a_body_has_left_only_with_its_last_bytes(tmp_path: Path) -> None:
    """Whoever is cut off before then was charged by nobody."""
    found = made(form(("image", Upload(planned(tmp_path, "a.png", content(10))))), tmp_path)

    async def watch() -> list[bool]:
        return [found.left async for _ in found]

    *before, last = anyio.run(watch)
    assert (before, last) == ([False] * len(before), True)
    assert len(before) > 1


@pytest.mark.parametrize("wrap", WRAPS, ids=["form", "json"])
def test_a_large_file_is_never_held_whole(tmp_path: Path, wrap: Wrap) -> None:
    size = 40 * 2**20
    path, digest = tmp_path / "a.png", hashlib.sha256()
    with path.open("wb") as file:
        file.truncate(size)
    for _ in range(40):
        digest.update(bytes(2**20))
    request = wrap(Upload(Input(Kind.FILE, "a.png", digest.hexdigest(), size, "png", 8, 8)))

    async def weigh() -> tuple[int, int]:
        tracemalloc.start()
        found = await body(request, tmp_path)
        assert found
        total = sum([len(chunk) async for chunk in found])
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return total - found.length, peak

    difference, peak = anyio.run(weigh)
    assert difference == 0
    assert peak < 8 * 2**20
