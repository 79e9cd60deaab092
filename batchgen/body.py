"""A request's body in pieces: bytes, and files that are read, hashed and checked as they are sent."""

import base64
import hashlib
import json
import uuid
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

import anyio.to_thread

from batchgen import inputs
from batchgen.errors import Rejected
from batchgen.task import Input
from batchgen.wire import Form, Request, Upload

CHUNK = 3 * 2**18  # bytes; a multiple of three, so that base64 needs no rest
LINE = b"\r\n"
EXTENSIONS = {"jpeg": "jpg"}
LINES = "jsonl"  # the format of a file that is no image


@dataclass(frozen=True, slots=True)
class Stretch:
    """A file of the plan on its way, as it is or as base64."""

    path: Path
    planned: Input
    text: bool

    @property
    def length(self) -> int:
        return -(-self.planned.bytes // 3) * 4 if self.text else self.planned.bytes


@dataclass(slots=True)
class Body:
    """`left` once all of it was handed to the connection: before, nobody can have acted on it."""

    content_type: str
    pieces: tuple[bytes | Stretch, ...]
    left: bool = field(default=False)

    @property
    def whole(self) -> bytes:
        """All of it at once, where no file is in it; such a one leaves in one piece, so that nobody can say when."""
        first, *rest = self.pieces
        return first if isinstance(first, bytes) and not rest else b""

    @property
    def length(self) -> int:
        """In bytes."""
        return sum(len(each) if isinstance(each, bytes) else each.length for each in self.pieces)

    async def __aiter__(self) -> AsyncIterator[bytes]:
        """The bytes; Rejected, before the last of them, where a file is not the one that was planned."""
        for each in self.pieces[:-1]:
            if isinstance(each, bytes):
                yield each
                continue
            async for chunk in _read(each):
                yield chunk
        self.left = True
        last = self.pieces[-1]
        assert isinstance(last, bytes)  # what ends a body is no file
        yield last


async def body(request: Request, folder: Path) -> Body | None:
    """A request's body; None where it has none. Files lie in `folder`; Rejected where one is not as planned."""
    try:
        if request.form:
            return await anyio.to_thread.run_sync(_multipart, request.form, folder)
        return None if request.json is None else await _json(request.json, folder)
    except UnicodeEncodeError as error:
        raise Rejected(f"cannot be sent: {error}", code="invalid_request") from None


async def _json(value: Mapping[str, object], folder: Path) -> Body:
    uploads: list[Upload] = []
    mark = uuid.uuid4().hex

    def marked(upload: Upload) -> str:
        uploads.append(upload)
        return mark

    parts = json.dumps(value, ensure_ascii=False, default=marked).encode().split(mark.encode())
    if not uploads:
        return Body("application/json", tuple(parts), left=True)
    return await anyio.to_thread.run_sync(_with_files, parts, uploads, folder)


def _with_files(parts: list[bytes], uploads: list[Upload], folder: Path) -> Body:
    """JSON, between whose parts the files go as data URLs."""
    first, *rest = parts
    pieces: list[bytes | Stretch] = [first]
    for upload, part in zip(uploads, rest, strict=True):
        piece = _piece(upload, folder, text=True)
        pieces += [f"data:{_type(upload)};base64,".encode(), piece, part]
    return Body("application/json", tuple(pieces))


def _multipart(form: Form, folder: Path) -> Body:
    boundary = _boundary(form)
    dash = f"--{boundary}".encode()
    pieces: list[bytes | Stretch] = []
    for name, value in form.fields:
        head = f'Content-Disposition: form-data; name="{name}"'.encode()
        pieces.append(LINE.join([dash, head, b"", value.encode(), b""]))
    for n, (name, upload) in enumerate(form.files, 1):
        kind = _type(upload).partition("/")[2]
        file = upload.name or f"{n}.{EXTENSIONS.get(kind, kind)}"
        head = f'Content-Disposition: form-data; name="{name}"; filename="{file}"'.encode()
        pieces.append(LINE.join([dash, head, f"Content-Type: {_type(upload)}".encode(), b"", b""]))
        pieces += [_piece(upload, folder, text=False), LINE]
    return Body(f"multipart/form-data; boundary={boundary}", (*pieces, dash + b"--" + LINE))


def _boundary(form: Form) -> str:
    """The same for the same form: what is sent again under an idempotency key must be the same to the last byte.

    No file can hold it, as it depends on each one's hash.
    """
    files = [(name, upload.input.sha256, upload.input.area, upload.area) for name, upload in form.files]
    return hashlib.sha256(repr((form.fields, files)).encode()).hexdigest()[:32]


def _piece(upload: Upload, folder: Path, text: bool) -> bytes | Stretch:
    path, planned = folder / upload.input.ref, upload.input
    if upload.area != planned.area:
        data = inputs.worded(path, planned, upload.area)
        return base64.b64encode(data) if text else data
    try:
        size = path.stat().st_size
    except OSError as error:
        raise inputs.changed(planned, error.strerror or "it cannot be read") from None
    if size != planned.bytes:
        raise inputs.changed(planned)
    return Stretch(path, planned, text)


def _type(upload: Upload) -> str:
    if upload.input.format == LINES:
        return "application/jsonl"
    return f"image/{'png' if upload.area else upload.input.format}"


async def _read(stretch: Stretch) -> AsyncIterator[bytes]:
    """A file in chunks. The last one is held back until the whole is known to be what was planned."""
    digest, left = hashlib.sha256(), stretch.planned.bytes
    try:
        file = await anyio.to_thread.run_sync(stretch.path.open, "rb")
    except OSError as error:
        raise inputs.changed(stretch.planned, error.strerror or "it cannot be read") from None
    with file:
        while left:
            chunk = await anyio.to_thread.run_sync(_next, file, min(left, CHUNK), digest)
            left -= len(chunk)
            if not chunk or (not left and digest.hexdigest() != stretch.planned.sha256):
                raise inputs.changed(stretch.planned)
            yield base64.b64encode(chunk) if stretch.text else chunk


def _next(file: BinaryIO, most: int, digest: "hashlib._Hash") -> bytes:
    chunk = file.read(most)
    digest.update(chunk)
    return chunk
