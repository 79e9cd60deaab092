"""Image files to send along."""

import io
from functools import cache

from PIL import Image

File = tuple[str, bytes, str]
"""As httpx and the official package take it: a name, the bytes and the media type."""


@cache
def picture(
    mode: str = "RGB", size: tuple[int, int] = (64, 48), file_format: str = "PNG", turned: bool = False
) -> bytes:
    """`turned` is what a camera held upright says of its picture."""
    out = io.BytesIO()
    exif = Image.Exif()
    exif[0x0112] = 6 if turned else 1
    Image.new(mode, size).save(out, file_format, exif=exif)
    return out.getvalue()


def file(mode: str = "RGB", size: tuple[int, int] = (64, 48), file_format: str = "PNG", turned: bool = False) -> File:
    content = picture(mode, size, file_format, turned)
    return f"picture.{file_format.lower()}", content, f"image/{file_format.lower()}"
