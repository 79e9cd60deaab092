"""Thumbnails: made once, whole or not there, of whatever lies where an image should, and never from elsewhere."""

import hashlib
import io
import os
import struct
import zlib
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image

from batchgen import thumbs
from batchgen.album import Picture
from batchgen.folder import Folder
from batchgen.store import Directory
from batchgen.task import ImageState


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    made = Folder(tmp_path / "run")
    made.images.mkdir(parents=True)
    return made


def drawn(mode: str = "RGB", size: tuple[int, int] = (640, 320), format: str = "PNG") -> bytes:
    out = io.BytesIO()
    Image.new(mode, size).save(out, format)
    return out.getvalue()


def picture(folder: Folder, data: bytes, path: str = "otter/1.png") -> Picture:
    """An image of the run, as the ledger would tell of it."""
    file = folder.images / path
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(data)
    digest = hashlib.sha256(data).hexdigest()
    return Picture(1, 1, 0, ImageState.SAVED, path, digest, len(data), "png", 640, 320, "", "")


def small_of(folder: Folder, found: Picture) -> bytes:
    return thumbs.thumbnail(folder, Directory(str(folder.images)), found)


def shape(data: bytes) -> tuple[str, tuple[int, int]]:
    with Image.open(io.BytesIO(data)) as image:
        return image.format or "", image.size


@pytest.mark.parametrize("format", ["PNG", "JPEG", "WEBP", "GIF"])
def test_each_format_becomes_a_small_webp(folder: Folder, format: str) -> None:
    small = small_of(folder, picture(folder, drawn(format=format)))
    assert shape(small) == ("WEBP", (256, 128))


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGBA", "I;16"])
def test_so_does_each_kind_of_png_and_what_is_small_stays_so(folder: Folder, mode: str) -> None:
    assert shape(small_of(folder, picture(folder, drawn(mode, (20, 10))))) == (
        "WEBP",
        (20, 10),
    )


def test_it_is_made_once_and_kept(folder: Folder) -> None:
    otter = picture(folder, drawn())
    small = small_of(folder, otter)
    kept = folder.path / thumbs.path(otter)
    assert kept.read_bytes() == small
    (folder.images / otter.path).unlink()
    assert small_of(folder, otter) == small
    assert [path.name for path in kept.parent.iterdir()] == [kept.name]


def test_one_that_is_not_whole_is_made_again(folder: Folder) -> None:
    otter = picture(folder, drawn())
    small = small_of(folder, otter)
    for left in (b"", small[:-1], small + b"x", b"\0" * len(small)):
        (folder.path / thumbs.path(otter)).write_bytes(left)
        assert small_of(folder, otter) == small
        assert (folder.path / thumbs.path(otter)).read_bytes() == small


def test_of_a_file_that_was_changed_none_is_shown_or_kept(folder: Folder) -> None:
    otter = picture(folder, drawn())
    (folder.images / otter.path).write_bytes(drawn(size=(256, 64)))
    assert small_of(folder, otter) == b""
    assert not (folder.path / thumbs.NAME).exists()


def bomb(width: int, height: int) -> bytes:
    """A small PNG, whole by its checksums, that says it is that large."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0")) + chunk(b"IEND", b"")


@pytest.mark.parametrize(
    "data",
    [b"", b"no image", drawn()[:-20], drawn()[:60], bomb(1 << 15, 1 << 15), bomb(6000, 6000), bomb(64, 64), b"<svg/>"],
)
def test_what_is_no_whole_picture_or_too_large_a_one_has_none(folder: Folder, data: bytes) -> None:
    assert small_of(folder, picture(folder, data)) == b""
    assert not (folder.path / thumbs.NAME).exists()


def test_a_picture_that_is_gone_or_strangely_called_has_none(folder: Folder) -> None:
    otter = picture(folder, drawn())
    (folder.images / otter.path).unlink()
    assert small_of(folder, otter) == b""
    assert small_of(folder, replace(otter, sha256="../../../etc/passwd")) == b""


def test_no_link_leads_out_of_the_run(folder: Folder, tmp_path: Path) -> None:
    secret = tmp_path / "secret.png"
    secret.write_bytes(drawn())
    otter = picture(folder, drawn())
    (folder.images / otter.path).unlink()
    os.symlink(secret, folder.images / otter.path)
    assert small_of(folder, otter) == b""
    assert small_of(folder, replace(otter, path="../../secret.png")) == b""
    assert small_of(folder, replace(otter, path=str(secret))) == b""


def test_nothing_is_written_where_a_link_leads(folder: Folder, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    os.symlink(elsewhere, folder.path / thumbs.NAME)
    assert small_of(folder, picture(folder, drawn()))
    assert list(elsewhere.iterdir()) == []


def test_many_are_made_in_their_order(folder: Folder) -> None:
    pictures = [picture(folder, drawn(size=(300 + at, 100)), f"{at}.png") for at in range(6)]
    pictures.insert(3, picture(folder, b"junk", "junk.png"))
    assert list(thumbs.of_all(folder, Directory(str(folder.images)), pictures, thumbs.kept)) == [
        True,
        True,
        True,
        False,
        True,
        True,
        True,
    ]
