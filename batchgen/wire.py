"""What is said and heard: Request and Reply on the wire, the Answer read from them, the Outcome of an attempt."""

import json
import re
import zlib
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import chain, islice, pairwise, zip_longest
from pathlib import Path
from typing import cast

import pybase64
import pydantic_core

from batchgen.task import Image, Input, Params, Usage

DIGITS_MOST = 1000
REQUEST_IDS = ("x-request-id", "apim-request-id", "x-litellm-call-id")
VALUES_MOST = 250_000  # of one answer; base64 is a single one, however long
SIGNS = (b",", b":", b"[", b"{")  # every value of JSON but the first has one before it
OPENED = (b"{", b"[")
IMAGES = ("b64_json", "url")  # where they stand in an answer, but for mere lists of them
PIECE, POURED = 1 << 14, 1 << 20  # bytes that are inflated at a time, and what may come of them
_BLOCK = re.compile(rb"\r?\n\r?\n")
INFLATED_MOST = 48 * 2**20  # nothing compressed was asked for
WBITS = zlib.MAX_WBITS | 32  # gzip or zlib, by the header


@dataclass(frozen=True, slots=True)
class Upload:
    """A file that goes along, read and hashed as it is sent; other bytes than were planned never leave whole.

    A mask is turned into the words of the provider on its way: `area` is what it must tell the place to change by.
    `name` is what it is called where somebody cares.
    """

    input: Input
    area: str = ""
    name: str = ""


@dataclass(frozen=True, slots=True)
class Form:
    """A multipart/form-data body: fields as text, then files by their field's name."""

    fields: tuple[tuple[str, str], ...]
    files: tuple[tuple[str, Upload], ...]


@dataclass(frozen=True, slots=True)
class Request:
    """One HTTP request. With `auth` the key goes along, and `url` is a path below the base URL; without, an address.

    An Upload inside of `json` goes as a data URL. A request that names a `handle` asks for what is bought under that
    name: it is sent after `wait` seconds, as often as the dialect likes, and its replies are not kept. With `steady` it
    may take as long as bytes keep coming.
    """

    method: str
    url: str
    json: Mapping[str, object] | None = None
    form: Form | None = None
    auth: bool = True
    body_most: int = 64 * 2**20  # bytes of a reply that are taken in
    handle: str = ""
    wait: float = 0.0
    steady: bool = False


@dataclass(frozen=True, slots=True)
class Blob:
    """A file with what a run of base64 in a body spells; `at` is where its text is left out of that."""

    at: int
    size: int
    sha256: str
    path: str

    def read(self) -> bytes:
        """All of it."""
        return Path(self.path).read_bytes()


@dataclass(frozen=True, slots=True)
class Reply:
    """One whole HTTP reply: status, headers (lower-case names), and the body as it came, in memory or in a file.

    Of a file the first `size` bytes are the body; -1: all of it. What was decoded is left out of it, in `blobs`.
    """

    status: int
    headers: Mapping[str, str]
    body: bytes | Path
    size: int = -1
    blobs: tuple[Blob, ...] = ()

    @property
    def length(self) -> int:
        """Of the body, in bytes."""
        if self.size >= 0:
            return self.size
        return len(self.body) if isinstance(self.body, bytes) else self.body.stat().st_size

    @property
    def weight(self) -> int:
        """Of all that it holds, in bytes."""
        return self.length + sum(blob.size for blob in self.blobs)

    @property
    def request_id(self) -> str:
        """The provider's own name for the request, which its support wants to hear; "" where it gives none."""
        return next((self.headers[name] for name in REQUEST_IDS if self.headers.get(name)), "")

    def read(self) -> bytes:
        """The body, inflated where the server compressed it unasked; ValueError where that is damaged or a bomb."""
        return self._text([pybase64.b64encode(blob.read()) for blob in self.blobs])

    def _text(self, told: Sequence[bytes]) -> bytes:
        """With what is told in place of each blob."""
        raw = self._raw()
        if self._coding:
            return _inflate(raw, self._coding)
        cuts = [0, *(blob.at for blob in self.blobs), len(raw)]
        pieces = (raw[start:end] for start, end in pairwise(cuts))
        return b"".join(chain.from_iterable(zip_longest(pieces, told, fillvalue=b""))) if told else raw

    def _told(self) -> list[bytes]:
        """A word for each blob as JSON spells it, which stands nowhere else: it names what is in the first."""
        return [rf"\u0000{self.blobs[0].sha256}.{nth}".encode() for nth in range(len(self.blobs))]

    @property
    def _coding(self) -> str:
        coding = self.headers.get("content-encoding", "").lower()
        return "" if coding == "identity" else coding

    def _raw(self) -> bytes:
        if isinstance(self.body, bytes):
            return self.body
        with self.body.open("rb") as file:
            return file.read(self.size)

    def json(self) -> object:
        """The body as JSON, with Blobs for what was decoded; ValueError where it is none or is nested absurdly."""
        if not self.begins(OPENED):
            raise ValueError("no JSON object")
        body = _bounded(self._text(self._told()))
        try:
            return self._filled(pydantic_core.from_json(body))
        except ValueError:  # it may only be odd: half a surrogate pair, a number of 5,000 digits
            try:
                return self._filled(json.loads(body, parse_int=_number))
            except RecursionError:
                raise ValueError("nested too deeply") from None

    def _filled(self, body: object) -> object:
        """The words for the blobs turned into these, where an image may be; elsewhere into their text."""
        open_ = [body] if self.blobs else []
        while open_:
            outer = open_.pop()
            for key, inner in list(
                outer.items() if isinstance(outer, dict) else enumerate(cast("list[object]", outer))
            ):
                if isinstance(inner, str):
                    cast("dict[object, object]", outer)[key] = self._meant(inner, key in IMAGES or isinstance(key, int))
                elif isinstance(inner, dict | list):
                    open_.append(inner)
        return body

    def _meant(self, text: str, image: bool) -> object:
        before, _, told = text.rpartition(f"\0{self.blobs[0].sha256}.")
        if not told.isdecimal() or int(told) >= len(self.blobs) or len(before) + len(told) >= len(text):
            return text
        blob = self.blobs[int(told)]
        whole = image and (not before or before.startswith("data:"))
        return blob if whole else before + pybase64.b64encode(blob.read()).decode()

    def begins(self, ways: tuple[bytes, ...]) -> bool:
        """Whether the body begins in one of these ways, behind white space; one that cannot be read does not."""
        with suppress(ValueError):
            return self.start(64).lstrip(b"\xef\xbb\xbf \t\r\n").startswith(ways)
        return False

    def start(self, length: int) -> bytes:
        """The first bytes of the body; ValueError as in `read`."""
        if self._coding:
            return self.read()[:length]
        if isinstance(self.body, bytes):
            return self.body[:length]
        with self.body.open("rb") as file:
            return file.read(length if self.size < 0 else min(length, self.size))

    def events(self) -> Iterator[Mapping[str, object]]:
        """The JSON objects of a text/event-stream, without what is none; ValueError as in `read`."""
        for block in _BLOCK.split(_bounded(self._text(self._told()), (*SIGNS, b"\r", b"\n"))):
            lines = [line.partition(b":") for line in block.splitlines()]
            named = b"".join(value.strip() for name, _, value in lines if name == b"event").decode("utf-8", "replace")
            event: object = None
            with suppress(ValueError):
                event = pydantic_core.from_json(
                    b"\n".join(value.lstrip() for name, _, value in lines if name == b"data")
                )
            if isinstance(event, dict):
                self._filled(event)
                yield {"type": named, **event}


def _bounded(body: bytes, signs: Sequence[bytes] = SIGNS) -> bytes:
    """A body that may be parsed; ValueError where that would fill the memory with small things."""
    if len(body) > VALUES_MOST:
        found = (True for sign in signs for _ in _found(body, sign))
        if next(islice(found, VALUES_MOST, None), False):
            raise ValueError(f"more than {VALUES_MOST:,} values")
    return body


def _found(body: bytes, sign: bytes) -> Iterator[int]:
    """Where a sign stands: on the way from one to the next Python is as fast as the memory, in `count` it is not."""
    at = body.find(sign)
    while at >= 0:
        yield at
        at = body.find(sign, at + 1)


def _number(digits: str) -> int | float:
    return int(digits) if len(digits) < DIGITS_MOST else float("inf")


@dataclass(frozen=True, slots=True)
class Inline:
    """An image that came as base64: as its text or decoded; `revised` is the prompt as the provider rewrote it."""

    base64: str | Blob
    revised: str = ""


@dataclass(frozen=True, slots=True)
class Fetched:
    """An image that came as the body of a reply of its own."""

    reply: Reply
    revised: str = ""


@dataclass(frozen=True, slots=True)
class Answer:
    """What a conversation yielded. None in `pictures` is one that was promised and is missing.

    `partials` are what a stream showed on the way, `said` the values that took effect, as the provider named them.
    """

    pictures: tuple[Inline | Fetched | None, ...]
    usage: Usage | None = None
    partials: tuple[Inline, ...] = ()
    said: Params = ()


Conversation = Generator[Request, Reply, Answer]


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a successful attempt brought: its images, safe on disk, and what the provider counted."""

    images: tuple[Image, ...]
    usage: Usage | None
    status: int
    request_id: str
    said: Params = ()


def _inflate(raw: bytes, coding: str) -> bytes:
    if coding not in {"gzip", "deflate"}:
        raise ValueError(f"content-encoding {coding} was not asked for")
    try:
        return zlib.decompress(raw, WBITS, bufsize=_inflated(raw) + 1)
    except zlib.error as error:
        raise ValueError(f"a {coding} body that is damaged or cut: {error}") from None


def _inflated(raw: bytes) -> int:
    """How many bytes it becomes, counted in passing and never held; ValueError where they are too many."""
    inflater, size, view = zlib.decompressobj(wbits=WBITS), 0, memoryview(raw)
    for at in range(0, len(raw), PIECE):
        piece: bytes | memoryview = view[at : at + PIECE]
        while piece and not inflater.eof:
            size += len(inflater.decompress(piece, POURED))
            piece = inflater.unconsumed_tail
            if size > INFLATED_MOST:
                raise ValueError(f"a body that inflates beyond {INFLATED_MOST >> 20} MiB")
    return size
