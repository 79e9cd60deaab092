"""Bytes into a verified image file, whole or not there. The bytes are kept exactly as they came: they may be signed."""

import hashlib
import io
import struct
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import PIL.Image
import pybase64

from batchgen import disk
from batchgen.disk import Unsynced
from batchgen.store import Store
from batchgen.task import Image, ImageState
from batchgen.wire import Blob, Fetched, Inline, Reply

EXTENSIONS = {"png": "png", "jpeg": "jpg", "webp": "webp", "gif": "gif"}
SAME = {"mpo": "jpeg"}  # a JPEG that begins a row of pictures
PIXELS_MOST = 64_000_000  # twice the largest size that any known model paints, per edge pair
PIL.Image.MAX_IMAGE_PIXELS = None  # Pillow would only warn; the limit is checked here, from the header


class Broken(ValueError):
    """These bytes are no whole image."""


@dataclass(frozen=True, slots=True)
class Kind:
    """What a file is by its own bytes, whatever was asked for."""

    format: str
    width: int
    height: int


def save(picture: Inline | Fetched, store: Store, stem: str, index: int, part: str, unsynced: Unsynced) -> Image:
    """Verify a picture and put it at stem.<ext>; Broken where it is none. Blocks: call it in a thread.

    It is durable once `unsynced` is synced. `part` names the attempt in the file's temporary name, so that a crash
    leaves nothing that cannot be told.
    """
    data, blob = read(picture), picture.base64 if isinstance(picture, Inline) else None
    kind = inspect(data)
    name = f"{stem}.{EXTENSIONS[kind.format]}"
    with disk.storage("the images folder"):
        store.put(name, data, f"{part}.{index}", unsynced, blob.path if isinstance(blob, Blob) else "")
    return Image(
        index=index,
        state=ImageState.SAVED,
        path=name,
        sha256=blob.sha256 if isinstance(blob, Blob) else hashlib.sha256(data).hexdigest(),
        bytes=len(data),
        format=kind.format,
        width=kind.width,
        height=kind.height,
    )


def standing(store: Store, stem: str, images: int) -> str:
    """The first file that stands where a task's images would go, or nothing."""
    stems = [stem, *(f"{stem}-{index}" for index in range(images))]  # more than were asked for are numbered, too
    names = (f"{each}.{extension}" for each in stems for extension in EXTENSIONS.values())
    return next((name for name in names if store.stands(name)), "")


def flaw(picture: Inline | Fetched) -> str:
    """What is wrong with a picture, or nothing. Blocks."""
    try:
        inspect(read(picture))
    except ValueError as error:
        return str(error)
    return ""


def read(picture: Inline | Fetched) -> bytes:
    """The image's bytes, from base64 (decoded, plain, url-safe or a data URL) or from a fetched body."""
    text = picture.reply if isinstance(picture, Fetched) else picture.base64
    if isinstance(text, Reply | Blob):
        with disk.storage("the spool"):
            return text.read()
    if text.startswith("data:"):
        text = text.partition(",")[2]
    text = "".join(text.split()) if text[76:77].isspace() or text[-1:].isspace() else text  # lines of MIME
    text += "=" * (-len(text) % 4)
    try:  # validate: the default drops junk silently, and with it the image
        return pybase64.b64decode(text, altchars="-_" if "-" in text or "_" in text else None, validate=True)
    except ValueError as error:
        raise Broken(f"base64: {error}") from None


def inspect(data: bytes) -> Kind:
    """What the bytes are, checked from the first to the last; Broken where anything is missing or left over."""
    kind = _header(data)
    if kind.width * kind.height > PIXELS_MOST:
        raise Broken(f"{kind.width}x{kind.height} pixels are more than any model paints")
    WALKS[kind.format](data)
    return kind


def _header(data: bytes) -> Kind:
    if not data:
        raise Broken("no bytes at all")
    try:
        with PIL.Image.open(io.BytesIO(data), formats=[name.upper() for name in EXTENSIONS]) as image:
            name = (image.format or "").lower()
            return Kind(SAME.get(name, name), *image.size)
    except (OSError, SyntaxError, ValueError, struct.error, EOFError) as error:
        raise Broken(f"not a PNG, JPEG, WebP or GIF file ({type(error).__name__})") from None


def _walk_png(data: bytes) -> None:
    """Every chunk's length and checksum; IEND must be the last thing there is."""
    at, name, view, pixels = 8, b"", memoryview(data), False
    while at + 12 <= len(data) and name != b"IEND":
        size, name = int.from_bytes(view[at : at + 4]), bytes(view[at + 4 : at + 8])
        end = at + 12 + size
        if end > len(data):
            raise Broken(f"PNG is cut in its {name!r} chunk")
        if zlib.crc32(view[at + 4 : end - 4]) != int.from_bytes(view[end - 4 : end]):
            raise Broken(f"PNG is damaged: wrong checksum in its {name!r} chunk")
        at, pixels = end, pixels or name == b"IDAT"
    if not pixels:
        raise Broken("PNG holds no pixels")
    _ends("PNG", name == b"IEND", len(data) - at)


def _walk_jpeg(data: bytes) -> None:
    """Every segment's length up to the scan, then on to the end marker."""
    at = 2
    while at + 4 <= len(data) and data[at] == 0xFF:
        marker = data[at + 1]
        if marker == 0xD9:
            return _ends("JPEG", True, len(data) - at - 2)
        if marker == 0xFF:  # a fill byte
            at += 1
            continue
        at += 2 if 0xD0 <= marker <= 0xD7 else 2 + int.from_bytes(data[at + 2 : at + 4])
        if marker == 0xDA:
            at = _after_scan(data, at)
    return _ends("JPEG", data[at : at + 2] == b"\xff\xd9", len(data) - at - 2)


def _after_scan(data: bytes, at: int) -> int:
    """Where the next marker stands behind entropy-coded data (FF00 is data, FFD0 to FFD7 restart it)."""
    while True:
        at = data.find(b"\xff", at)
        if at < 0 or at + 1 >= len(data):
            raise Broken("JPEG is cut: no end marker")
        if data[at + 1] != 0 and not 0xD0 <= data[at + 1] <= 0xD7:
            return at
        at += 2


def _walk_webp(data: bytes) -> None:
    size = int.from_bytes(data[4:8], "little") + 8
    _ends("WebP", size <= len(data), len(data) - size - size % 2 if size < len(data) else 0)


def _walk_gif(data: bytes) -> None:
    """Over every block and its sub-blocks to the trailer."""
    at = 13 + _gif_colours(data, 10)
    while (kind := data[at : at + 1]) in (b"\x21", b"\x2c"):
        at = at + 2 if kind == b"\x21" else at + 11 + _gif_colours(data, at + 9)
        while size := _byte(data, at):
            at += 1 + size
        at += 1
    _ends("GIF", kind == b"\x3b", len(data) - at - 1)


def _gif_colours(data: bytes, at: int) -> int:
    """Bytes of the colour table that the flags at `at` announce."""
    flags = _byte(data, at)
    return 3 << (flags & 7) + 1 if flags & 0x80 else 0


def _byte(data: bytes, at: int) -> int:
    if at >= len(data):
        raise Broken("GIF is cut: its end is missing")
    return data[at]


def _ends(name: str, whole: bool, left_over: int) -> None:
    if not whole:
        raise Broken(f"{name} is cut: its end is missing")
    if left_over > 0:
        raise Broken(f"{name} has {left_over} bytes behind its end")


WALKS: Mapping[str, Callable[[bytes], None]] = {
    "png": _walk_png,
    "jpeg": _walk_jpeg,
    "webp": _walk_webp,
    "gif": _walk_gif,
}
