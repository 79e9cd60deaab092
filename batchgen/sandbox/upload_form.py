"""Reading the form of an upload as it arrives: the file goes to disk, and the memory stays as it is."""

from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

from batchgen.sandbox import multipart

_LONGEST_FIELD = 10_000  # bytes
_LONGEST_HEAD = 16_000


@dataclass(slots=True)
class Form:
    """Fields by name, and of the file its name and length; it is empty where none came."""

    fields: dict[str, str] = field(default_factory=dict)
    filename: str = ""
    bytes: int = 0


class _Reader:
    """Cuts a stream at marks, keeping no more of it than a mark's length."""

    def __init__(self, chunks: AsyncIterator[bytes], most: int) -> None:
        self._chunks = chunks
        self._buffer = b"\r\n"  # so that the first boundary looks like all others
        self._left = most

    async def until(self, mark: bytes) -> AsyncIterator[bytes]:
        """What stands before the mark, which is skipped; ValueError where it never comes."""
        while (at := self._buffer.find(mark)) < 0:
            keep = len(mark) - 1
            if len(self._buffer) > keep:
                yield self._buffer[:-keep]
                self._buffer = self._buffer[-keep:]
            await self._more()
        yield self._buffer[:at]
        self._buffer = self._buffer[at + len(mark) :]

    async def text(self, mark: bytes, most: int) -> bytes:
        """The same whole."""
        found = b""
        async for piece in self.until(mark):
            found += piece
            if len(found) > most:
                raise ValueError("a field is too long")
        return found

    async def ends(self) -> bool:
        """Whether the boundary just read is the last."""
        while len(self._buffer) < 2:
            await self._more()
        tail, self._buffer = self._buffer[:2], self._buffer[2:]
        if tail not in (b"--", b"\r\n"):
            raise ValueError("a boundary is followed by something else")
        return tail == b"--"

    async def _more(self) -> None:
        chunk = await anext(self._chunks, b"")
        if not chunk:
            raise ValueError("the body ends before its last boundary")
        self._left -= len(chunk)
        if self._left < 0:
            raise OverflowError
        self._buffer += chunk


async def read(content_type: str, chunks: AsyncIterator[bytes], target: Path, most: int) -> Form:
    """The form, with its file in `target`. ValueError where it is none, OverflowError beyond `most` bytes."""
    mark = b"\r\n" + multipart.boundary(content_type)
    reader, form = _Reader(chunks, most), Form()
    await reader.text(mark, _LONGEST_HEAD)
    with target.open("wb") as out:
        while not await reader.ends():
            head = await reader.text(b"\r\n\r\n", _LONGEST_HEAD)
            part = multipart.part(head, b"")
            if part.filename:
                form.filename = part.filename
                form.bytes += await _copy(reader.until(mark), out)
            else:
                form.fields[part.name] = (await reader.text(mark, _LONGEST_FIELD)).decode()
    async for _ in chunks:  # an epilogue
        pass
    return form


async def _copy(pieces: AsyncIterator[bytes], out: BinaryIO) -> int:
    written = 0
    async for piece in pieces:
        written += out.write(piece)
    return written
