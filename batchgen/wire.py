"""What is said and heard: Request and Reply on the wire, the Answer read from them, the Outcome of an attempt."""

import json
import re
import zlib
from collections.abc import Generator, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import pydantic_core

from batchgen.task import Image, Input, Params, Usage

DIGITS_MOST = 1000
REQUEST_IDS = ("x-request-id", "apim-request-id", "x-litellm-call-id")
_BLOCK = re.compile(rb"\r?\n\r?\n")
INFLATED_MOST = 48 * 2**20  # nothing compressed was asked for


@dataclass(frozen=True, slots=True)
class Upload:
    """A file that goes along, read and hashed as it is sent; other bytes than were planned never leave whole.

    A mask is turned into the words of the provider on its way: `area` is what it must tell the place to change by.
    """

    input: Input
    area: str = ""


@dataclass(frozen=True, slots=True)
class Form:
    """A multipart/form-data body: fields as text, then files by their field's name."""

    fields: tuple[tuple[str, str], ...]
    files: tuple[tuple[str, Upload], ...]


@dataclass(frozen=True, slots=True)
class Request:
    """One HTTP request. With `auth` the key goes along, and `url` is a path below the base URL; without, an address.

    An Upload inside of `json` goes as a data URL. A request that names a `handle` asks for what is bought under that
    name: it is sent after `wait` seconds, as often as the dialect likes, and its replies are not kept.
    """

    method: str
    url: str
    json: Mapping[str, object] | None = None
    form: Form | None = None
    auth: bool = True
    body_most: int = 64 * 2**20  # bytes of a reply that are taken in
    handle: str = ""
    wait: float = 0.0


@dataclass(frozen=True, slots=True)
class Reply:
    """One whole HTTP reply: status, headers (lower-case names), and the raw body, in memory or in a file.

    Of a file the first `size` bytes are the body; -1: all of it.
    """

    status: int
    headers: Mapping[str, str]
    body: bytes | Path
    size: int = -1

    @property
    def request_id(self) -> str:
        """The provider's own name for the request, which its support wants to hear; "" where it gives none."""
        return next((self.headers[name] for name in REQUEST_IDS if self.headers.get(name)), "")

    def read(self) -> bytes:
        """The body, inflated where the server compressed it unasked; ValueError where that is damaged or a bomb."""
        raw = self._raw()
        coding = self.headers.get("content-encoding", "identity").lower()
        return raw if coding in {"identity", ""} else _inflate(raw, coding)

    def _raw(self) -> bytes:
        if isinstance(self.body, bytes):
            return self.body
        with self.body.open("rb") as file:
            return file.read(self.size)

    def json(self) -> object:
        """The body as JSON; ValueError where it is none or is nested absurdly."""
        body = self.read()
        try:
            return pydantic_core.from_json(body)
        except ValueError:  # it may only be odd: half a surrogate pair, a number of 5,000 digits
            try:
                return json.loads(body, parse_int=_bounded)
            except RecursionError:
                raise ValueError("nested too deeply") from None

    def begins(self, ways: tuple[bytes, ...]) -> bool:
        """Whether the body begins in one of these ways."""
        if isinstance(self.body, bytes):
            return self.body[:64].lstrip().startswith(ways)
        with self.body.open("rb") as file:
            return file.read(64).lstrip().startswith(ways)

    def events(self) -> Iterator[Mapping[str, object]]:
        """The JSON objects of a text/event-stream, without what is none; ValueError as in `read`."""
        for block in _BLOCK.split(self.read()):
            lines = [line.partition(b":") for line in block.splitlines()]
            named = b"".join(value.strip() for name, _, value in lines if name == b"event").decode("utf-8", "replace")
            event: object = None
            with suppress(ValueError):
                event = pydantic_core.from_json(
                    b"\n".join(value.lstrip() for name, _, value in lines if name == b"data")
                )
            if isinstance(event, dict):
                yield {"type": named, **event}


def _bounded(digits: str) -> int | float:
    return int(digits) if len(digits) < DIGITS_MOST else float("inf")


@dataclass(frozen=True, slots=True)
class Inline:
    """An image that came as base64 text; `revised` is the prompt as the provider rewrote it."""

    base64: str
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
    inflater = zlib.decompressobj(wbits=zlib.MAX_WBITS | 32)  # 32: gzip or zlib, by the header
    try:
        body = inflater.decompress(raw, INFLATED_MOST)
    except zlib.error as error:
        raise ValueError(f"damaged {coding} body: {error}") from None
    if not inflater.eof:
        raise ValueError(f"a {coding} body that is cut, or inflates beyond {INFLATED_MOST >> 20} MiB")
    return body
