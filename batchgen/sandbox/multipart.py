"""Forms: multipart/form-data as clients send it, exact to the byte, and refused where it is not well formed."""

import re
from dataclasses import dataclass

_BOUNDARY = re.compile(
    r'multipart/form-data\s*;(?:.*;)?\s*boundary=(?:"([^"]{1,70})"|([^\s";,]{1,70}))\s*(?:;.*)?', re.I
)
_DISPOSITION = re.compile(r'form-data\s*;\s*name="((?:[^"\\]|\\.)*)"\s*(.*)', re.I)
_FILENAME = re.compile(r""";\s*filename(?:="((?:[^"\\]|\\.)*)"|\*=[\w-]*'[\w-]*'(\S+))""", re.I)


@dataclass(frozen=True, slots=True)
class Part:
    """One field; a file has a name and a media type, and where the client said none these are empty."""

    name: str
    filename: str
    kind: str
    data: bytes


def parts(body: bytes, content_type: str) -> list[Part]:
    """In their order; ValueError where the body is no form."""
    mark = boundary(content_type)
    if not body.startswith(mark):
        raise ValueError("the body does not begin with the boundary")
    found, at = [], len(mark)
    while body[at : at + 2] != b"--":
        end = body.find(b"\r\n" + mark, at)
        if body[at : at + 2] != b"\r\n" or end < 0:
            raise ValueError("the body ends before its last boundary")
        found.append(_part(body, at + 2, end))
        at = end + 2 + len(mark)
    return found


def boundary(content_type: str) -> bytes:
    """What every part begins behind; ValueError where none is named."""
    found = _BOUNDARY.fullmatch(content_type)
    if found is None:
        raise ValueError("the content type names no boundary")
    return b"--" + (found[1] or found[2]).encode()


def _part(body: bytes, start: int, end: int) -> Part:
    blank = body.find(b"\r\n\r\n", start, end)
    if blank < 0:
        raise ValueError("a part has no blank line behind its headers")
    return part(body[start:blank], body[blank + 4 : end])


def part(head: bytes, data: bytes) -> Part:
    """Of its headers' lines and what stands behind them; ValueError where it has no name."""
    lines = (line.partition(":") for line in head.decode(errors="replace").split("\r\n"))
    headers = {name.strip().lower(): value.strip() for name, _, value in lines}
    disposition = _DISPOSITION.fullmatch(headers.get("content-disposition", ""))
    if disposition is None:
        raise ValueError("a part has no name")
    filename = _FILENAME.search(disposition[2])
    return Part(
        name=disposition[1],
        filename=(filename[1] or filename[2] or "") if filename else "",
        kind=headers.get("content-type", "").lower(),
        data=data,
    )
