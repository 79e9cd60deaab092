"""Whether a file bears a C2PA manifest, the signed account of how it was made. It is not checked, only looked for."""

import os
from typing import BinaryIO

APP11, SCAN = 0xEB, 0xDA  # JPEG markers


def has_c2pa(file: BinaryIO) -> bool:
    """Looks at the parts of a PNG, JPEG or WebP file that a manifest stands in, and skips all others."""
    file.seek(0)
    start = file.read(12)
    if start.startswith(b"\x89PNG"):
        return _in_png(file)
    if start.startswith(b"RIFF"):
        return _in_webp(file)
    return start.startswith(b"\xff\xd8") and _in_jpeg(file)


def _in_png(file: BinaryIO) -> bool:
    file.seek(8)
    while len(head := file.read(8)) == 8:
        if head[4:] == b"caBX":
            return True
        file.seek(int.from_bytes(head[:4]) + 4, os.SEEK_CUR)
    return False


def _in_webp(file: BinaryIO) -> bool:
    while len(head := file.read(8)) == 8:
        if head[:4] == b"C2PA":
            return True
        size = int.from_bytes(head[4:], "little")
        file.seek(size + size % 2, os.SEEK_CUR)
    return False


def _in_jpeg(file: BinaryIO) -> bool:
    """In a JUMBF box of an APP11 segment; such boxes hold other things, too."""
    file.seek(2)
    while (mark := file.read(2))[:1] == b"\xff" and mark[1:] not in (b"", bytes([SCAN])):
        if mark == b"\xff\xff":  # a fill byte
            file.seek(-1, os.SEEK_CUR)
            continue
        size = int.from_bytes(file.read(2)) - 2
        if size < 0:
            return False
        if mark[1] == APP11 and b"c2pa" in file.read(size):
            return True
        if mark[1] != APP11:
            file.seek(size, os.SEEK_CUR)
    return False
