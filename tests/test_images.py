"""Image bytes: whole or broken, never changed, and a file that is there or not."""

import base64
import errno
import hashlib
import io
import os
import struct
import zlib
from pathlib import Path

import PIL.Image
import pytest
from hypothesis import given
from hypothesis import strategies as st

from batchgen import images
from batchgen.disk import Unsynced
from batchgen.errors import StorageError
from batchgen.images import Broken, inspect
from batchgen.store import Directory
from batchgen.task import Image, ImageState
from batchgen.wire import Blob, Fetched, Inline, Reply

SIZE = (40, 24)


def picture(format: str, **options: object) -> bytes:
    noise = PIL.Image.effect_noise(SIZE, 80).convert("RGB")
    frames = [noise.rotate(90 * turn) for turn in range(3)]
    if options.pop("animated", False):
        options |= {"save_all": True, "append_images": frames}
    file = io.BytesIO()
    noise.save(file, format, **options)
    return file.getvalue()


def png(*chunks: tuple[bytes, bytes]) -> bytes:
    """A PNG of these chunks, each with its right checksum."""
    packed = (
        struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data)) for name, data in chunks
    )
    return b"\x89PNG\r\n\x1a\n" + b"".join(packed)


def header(width: int, height: int) -> tuple[bytes, bytes]:
    return b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)


PNG = picture("PNG")
WHOLE = {
    "png": PNG,
    "jpeg": picture("JPEG"),
    "jpeg, progressive": picture("JPEG", progressive=True, quality=95),
    "jpeg with restart markers": picture("JPEG", restart_marker_blocks=1),
    "jpeg with a comment": picture("JPEG", comment=b"\xff\xd9"),
    "webp": picture("WEBP"),
    "webp, lossless": picture("WEBP", lossless=True),
    "webp, animated": picture("WEBP", animated=True),
    "gif": picture("GIF"),
    "gif, animated": picture("GIF", animated=True),
}
WALKED = {name: data for name, data in WHOLE.items() if not name.startswith("gif")}
GIF_END = "only the last byte of a GIF is looked at, and 0x3B is found everywhere: its blocks must be walked"


def is_whole(data: bytes) -> bool:
    try:
        inspect(data)
    except Broken:
        return False
    return True


@pytest.mark.parametrize("name", WHOLE)
def test_a_whole_image_is_what_its_bytes_say(name: str) -> None:
    """S17: whatever was asked for."""
    assert inspect(WHOLE[name]) == images.Kind(name.split(",")[0].split()[0], *SIZE)


@pytest.mark.parametrize("name", WALKED)
def test_x1_x2_x9_an_image_that_is_cut_anywhere_is_broken(name: str) -> None:
    data = WALKED[name]
    assert not [end for end in range(len(data)) if is_whole(data[:end])]


def test_x9_a_gif_that_is_cut_anywhere_is_broken() -> None:
    data = WHOLE["gif, animated"]
    assert not [end for end in range(len(data)) if is_whole(data[:end])]


@pytest.mark.parametrize("name", WHOLE)
@pytest.mark.parametrize("more", [b"\0\0", b"<script>alert(1)</script>", b"\n"], ids=["zeros", "script", "newline"])
def test_x3_anything_behind_the_end_breaks_an_image(name: str, more: bytes) -> None:
    assert not is_whole(WHOLE[name] + more)


def test_x3_anything_behind_the_end_breaks_a_gif_even_with_a_semicolon() -> None:
    assert not is_whole(WHOLE["gif"] + b"<script>alert(1);")


@given(st.integers(0, 8 * len(PNG) - 1))
def test_x4_one_flipped_bit_anywhere_breaks_a_png(bit: int) -> None:
    data = bytearray(PNG)
    data[bit // 8] ^= 1 << bit % 8
    assert not is_whole(bytes(data))


@pytest.mark.filterwarnings("ignore")  # Pillow's, of damaged EXIF
@given(st.sampled_from(sorted(WHOLE)), st.lists(st.tuples(st.integers(0, 400), st.integers(0, 255)), max_size=6))
def test_whatever_comes_is_whole_or_broken_and_nothing_else(name: str, changes: list[tuple[int, int]]) -> None:
    data = bytearray(WHOLE[name])
    for at, value in changes:
        data[at % len(data)] = value
    is_whole(bytes(data))


@given(st.binary(max_size=200))
def test_noise_is_broken(data: bytes) -> None:
    assert not is_whole(data)


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"", "no bytes"),
        (b"<html>Bad gateway</html>", "not a PNG"),
        (picture("BMP"), "not a PNG"),
        (PNG[: len(PNG) // 2], "cut in its b'IDAT'"),
        (PNG[:-12], "its end is missing"),
        (PNG[:-20] + bytes(1) + PNG[-19:], "wrong checksum in its b'IDAT'"),
        (PNG + b"<script>", "8 bytes behind its end"),
        (png(header(60_000, 60_000), (b"IDAT", b"x"), (b"IEND", b"")), "60000x60000 pixels"),
        (png(header(0, 0), (b"IDAT", b"x"), (b"IEND", b"")), "not a PNG"),
        (picture("JPEG")[:-2], "JPEG is cut"),
    ],
)
def test_x5_what_is_wrong_with_an_image_is_said(data: bytes, says: str) -> None:
    with pytest.raises(Broken, match=says):
        inspect(data)


def test_a_jpeg_of_several_pictures_is_whole_or_broken() -> None:
    is_whole(picture("MPO", animated=True))


def test_a_png_without_pixels_is_broken() -> None:
    assert not is_whole(png(header(*SIZE), (b"IEND", b"")))


TEXT = base64.b64encode(PNG).decode()
SAFE = base64.urlsafe_b64encode(PNG).decode()


@pytest.mark.parametrize("text", [TEXT, SAFE, f"data:image/png;base64,{TEXT}", f"data:image/png;base64,{SAFE}"])
def test_x8_plain_and_url_safe_base64_and_data_urls_are_read(text: str) -> None:
    assert images.read(Inline(text)) == PNG


@pytest.mark.parametrize("text", [TEXT[:100] + "!!!!" + TEXT[100:], TEXT[:101], "é" + TEXT, "data:image/png;base64,!"])
def test_x6_junk_in_base64_is_broken_and_not_dropped(text: str) -> None:
    with pytest.raises(Broken, match="base64"):
        images.read(Inline(text))


def put(picture: Inline | Fetched, folder: Path, stem: str, index: int) -> Image:
    unsynced = Unsynced()
    found = images.save(picture, Directory(str(folder)), stem, index, "id", unsynced)
    unsynced.sync()
    return found


@pytest.mark.parametrize("end", range(4, len(TEXT), 400))
def test_x7_base64_that_is_cut_between_groups_makes_a_broken_image(tmp_path: Path, end: int) -> None:
    with pytest.raises(Broken):
        put(Inline(TEXT[: end // 4 * 4]), tmp_path, "a", 0)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "text", [base64.urlsafe_b64encode(PNG[:100]).decode().rstrip("="), base64.encodebytes(PNG).decode()]
)
def test_x8_base64_without_padding_or_in_lines_is_read(text: str) -> None:
    assert PNG.startswith(images.read(Inline(text)))


@pytest.mark.parametrize("name", WHOLE)
def test_a_saved_image_has_the_bytes_that_came_and_says_so(tmp_path: Path, name: str) -> None:
    data = WHOLE[name]
    saved = put(Fetched(Reply(200, {}, data)), tmp_path, "otter/low-1", 2)
    assert (tmp_path / saved.path).read_bytes() == data
    assert saved.path == f"otter/low-1.{images.EXTENSIONS[saved.format]}"
    assert (saved.index, saved.state, saved.bytes) == (2, ImageState.SAVED, len(data))
    assert saved.sha256 == hashlib.sha256(data).hexdigest()
    assert (saved.width, saved.height) == SIZE
    assert len(list((tmp_path / "otter").iterdir())) == 1


@pytest.mark.parametrize("planted", [".id.0.part", "a.png"])
def test_d18_a_planted_link_is_never_written_through(tmp_path: Path, planted: str) -> None:
    (tmp_path / "precious").write_bytes(b"theirs")
    (tmp_path / planted).symlink_to(tmp_path / "precious")
    saved = put(Inline(TEXT), tmp_path, "a", 0)
    assert (tmp_path / "precious").read_bytes() == b"theirs"
    assert not (tmp_path / saved.path).is_symlink()


def test_d22_what_an_earlier_crash_left_is_replaced(tmp_path: Path) -> None:
    (tmp_path / ".id.0.part").write_bytes(PNG[:50])
    (tmp_path / "a.png").write_bytes(PNG)
    put(Inline(TEXT), tmp_path, "a", 0)
    assert [(path.name, path.read_bytes()) for path in tmp_path.iterdir()] == [("a.png", PNG)]


def test_another_image_in_the_same_place_is_never_replaced(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(PNG[:50])
    with pytest.raises(StorageError, match="another image stands there"):
        put(Inline(TEXT), tmp_path, "a", 0)
    assert (tmp_path / "a.png").read_bytes() == PNG[:50]


def test_a_broken_image_leaves_no_trace(tmp_path: Path) -> None:
    with pytest.raises(Broken):
        put(Inline(TEXT[:400]), tmp_path, "otter/a", 0)
    assert not list(tmp_path.iterdir())


def test_d10_a_folder_that_cannot_be_made_is_a_storage_error(tmp_path: Path) -> None:
    (tmp_path / "otter").write_bytes(b"a file")
    with pytest.raises(StorageError, match="the images folder"):
        put(Inline(TEXT), tmp_path, "otter/a", 0)


def decoded(folder: Path, data: bytes) -> Inline:
    """An image that came as base64 and was decoded on the way."""
    (folder / "id.1.1").write_bytes(data)
    return Inline(Blob(0, len(data), hashlib.sha256(data).hexdigest(), f"{folder}/id.1.1"))


def test_an_image_that_was_decoded_on_the_way_gets_a_second_name(tmp_path: Path) -> None:
    data = picture("PNG")
    saved = put(decoded(tmp_path, data), tmp_path, "otter/low-1", 0)
    found = tmp_path / saved.path
    assert (found.read_bytes(), saved.sha256) == (data, hashlib.sha256(data).hexdigest())
    assert found.samefile(tmp_path / "id.1.1")


def test_it_is_copied_where_there_are_no_second_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(source: str, target: str) -> None:
        raise OSError(errno.EXDEV, "Invalid cross-device link", source, None, target)

    monkeypatch.setattr(os, "link", refused)
    data = picture("PNG")
    saved = put(decoded(tmp_path, data), tmp_path, "otter/low-1", 0)
    assert (tmp_path / saved.path).read_bytes() == data
    assert not (tmp_path / saved.path).samefile(tmp_path / "id.1.1")


def test_one_that_was_saved_before_a_crash_is_saved_once_more_and_another_never_replaced(tmp_path: Path) -> None:
    data = picture("PNG")
    for _ in range(2):
        saved = put(decoded(tmp_path, data), tmp_path, "otter/low-1", 0)
    assert (tmp_path / saved.path).read_bytes() == data
    (tmp_path / saved.path).unlink()
    (tmp_path / saved.path).write_bytes(b"somebody's")
    with pytest.raises(StorageError, match="another image stands there"):
        put(decoded(tmp_path, data), tmp_path, "otter/low-1", 0)


def test_one_that_is_broken_gets_no_second_name(tmp_path: Path) -> None:
    with pytest.raises(Broken):
        put(decoded(tmp_path, picture("PNG")[:-5]), tmp_path, "otter/low-1", 0)
    assert [path.name for path in tmp_path.iterdir()] == ["id.1.1"]


def test_one_that_cannot_be_read_back_is_the_disks_fault(tmp_path: Path) -> None:
    whole = decoded(tmp_path, picture("PNG"))
    (tmp_path / "id.1.1").unlink()
    with pytest.raises(StorageError, match="the spool"):
        put(whole, tmp_path, "otter/low-1", 0)


def test_in_a_folder_that_is_shared_with_a_group_it_is_made_there(tmp_path: Path) -> None:
    """A second name would leave it to the group of the spool."""
    (tmp_path / "otter").mkdir()
    (tmp_path / "otter").chmod(0o2755)
    saved = put(decoded(tmp_path, picture("PNG")), tmp_path, "otter/low-1", 0)
    assert not (tmp_path / saved.path).samefile(tmp_path / "id.1.1")
