"""Small pictures of a run's images, as WebP: made once, and kept in its folder under the image's sha256."""

import hashlib
import io
import os
import re
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import TypeVar

import PIL.Image

from batchgen import disk, images
from batchgen.album import Picture
from batchgen.folder import Folder
from batchgen.store import Store

T = TypeVar("T")
NAME = "thumbs"
EDGE = 256  # pixels at most
QUALITY = 72
BYTES_MOST = 1 << 26  # of an image file that is looked at
PIXELS_MOST = 1 << 25
THREADS, FAR = 2, 4  # each may hold a whole picture in memory
SHA256 = re.compile("[0-9a-f]{64}")


def path(picture: Picture) -> str:
    """Where its thumbnail lies, from the run's folder."""
    return f"{NAME}/{picture.sha256[:2]}/{picture.sha256}.webp"


def thumbnail(folder: Folder, store: Store, picture: Picture) -> bytes:
    """The thumbnail, made now if it is not there; nothing where the image is gone, or is none. Blocks."""
    if not SHA256.fullmatch(picture.sha256):
        return b""
    with suppress(OSError), disk.opened(folder.path, path(picture)) as file:
        if _is_whole(data := file.read(BYTES_MOST)):
            return data
    with suppress(OSError, images.Broken):
        data = store.read(picture.path, BYTES_MOST + 1)
        if hashlib.sha256(data).hexdigest() != picture.sha256:  # it is of what somebody has put there
            return b""
        made = _drawn(data)
        with suppress(OSError):  # it can be made again
            _keep(folder.path, path(picture), made)
        return made
    return b""


def kept(folder: Folder, store: Store, picture: Picture) -> bool:
    """Whether its thumbnail lies in the folder, made now if need be. Blocks."""
    return bool(thumbnail(folder, store, picture)) and os.path.isfile(folder.path / path(picture))


def of_all(
    folder: Folder, store: Store, pictures: Iterable[Picture], of_one: Callable[[Folder, Store, Picture], T]
) -> Iterator[T]:
    """The same of many, in their order; a few are made at a time, and a few more where each is waited for."""
    with ThreadPoolExecutor(max(THREADS, min(FAR, store.wide))) as pool:
        yield from pool.map(lambda each: of_one(folder, store, each), pictures)


def _is_whole(data: bytes) -> bool:
    """A WebP file says how long it is: a power cut may have left less of one that was not synced."""
    return data[:4] == b"RIFF" and data[8:12] == b"WEBP" and len(data) == int.from_bytes(data[4:8], "little") + 8


def _drawn(data: bytes) -> bytes:
    """images.Broken where the bytes are no picture, or too large a one."""
    if len(data) > BYTES_MOST:
        raise images.Broken("more bytes than a picture has")
    kind = images.inspect(data)
    if kind.width * kind.height > PIXELS_MOST:
        raise images.Broken("more pixels than are looked at")
    out = io.BytesIO()
    try:
        with PIL.Image.open(io.BytesIO(data), formats=[kind.format.upper()]) as image:
            image.draft("RGB", (EDGE * 2, EDGE * 2))  # a JPEG is read at a fraction of its size
            alpha = image.mode in ("LA", "PA", "RGBA") or "transparency" in image.info
            small = image.convert("RGBA" if alpha else "RGB")
            small.thumbnail((EDGE, EDGE))
            small.save(out, "WEBP", quality=QUALITY, method=4)
    except Exception as error:  # decoders raise what they like; all that comes of it is a picture less
        raise images.Broken(f"cannot be drawn ({type(error).__name__})") from None
    return out.getvalue()


def _keep(folder: Path, name: str, data: bytes) -> None:
    """Put it there whole; OSError where a link leads elsewhere."""
    target = folder / name
    for place in (folder / NAME, target.parent):
        place.mkdir(exist_ok=True)
        if place.is_symlink():
            raise OSError(f"{place} is a link")
    part = target.with_name(f".{os.getpid()}.{threading.get_ident()}.part")
    handle = os.open(part, disk.NEW, 0o644)
    try:
        disk.write_all(handle, data)
        os.rename(part, target)
    finally:
        os.close(handle)
