"""The lines of a batch's files: which attempt each is about, and the Reply, or the error, that it is. In flat memory.

A line is {custom_id, response: {status_code, request_id, body}, error}. Its body is what a request of its own would
have been answered with, to the last byte; images in it are decoded on the way, as they are off a socket.
"""

import json
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from batchgen.dialects.base import CODE_MOST, TEXT_MOST, enveloped, kept
from batchgen.errors import Busy, ProviderError, Transient, Unknown
from batchgen.pour import Poured
from batchgen.wire import Blob, Reply

CHUNK = 1 << 20  # bytes
NAMED = re.compile(rb'\s*\{[^{}]{0,4000}?"custom_id"\s*:\s*"([^"\\]{1,200})"')
"""The name of a line that is damaged behind it. What lies deeper, or behind another's beginning, is not the line's."""
NEVER_MADE: Mapping[str, type[Transient]] = {"batch_expired": Transient, "batch_cancelled": Busy}
"""Codes of lines that were never begun; to be cancelled is nobody's failure."""
_BLANK = re.compile(r"[ \t\r\n]*")
_DECODER = json.JSONDecoder()


@dataclass(frozen=True, slots=True)
class Result:
    """What came of the attempt of that id ("": nobody can tell of which). `end` is where its line ends.

    `drop` throws away what was decoded of it, where nobody wants it.
    """

    id: str
    came: Reply | ProviderError
    end: int
    drop: Callable[[], None]


def read(file: Path, place: Callable[[int, int], Path], whole: bool, skip: int = 0) -> Iterator[Result]:
    """The results in a file, or in a piece of one, which may end within a line: only if it is `whole` that is one, too.

    The first `skip` bytes are passed over. `place` is where the nth blob of a line that begins at some byte may be put.
    Blocks, a line at a time.
    """
    for poured, end in _lines(file, place, whole, skip):
        poured.close()
        text = poured.body if isinstance(poured.body, bytes) else poured.body.read_bytes()
        if text.strip():
            id_, came = _result(text, poured.blobs)
            yield Result(id_, came, end, poured.drop)
        else:
            poured.drop()


def _lines(file: Path, place: Callable[[int, int], Path], whole: bool, skip: int) -> Iterator[tuple[Poured, int]]:
    """Each with where it ends, behind what is passed over."""
    at = 0
    with file.open("rb") as source:
        source.seek(skip)
        poured = _poured(place, at)
        while chunk := source.read(CHUNK):
            *ends, rest = chunk.split(b"\n")
            for part in ends:
                poured.take(part)
                at += len(part) + 1
                yield poured, at
                poured = _poured(place, at)
            poured.take(rest)
            at += len(rest)
    if whole:
        yield poured, at
    else:
        poured.drop()


def _poured(place: Callable[[int, int], Path], at: int) -> Poured:
    return Poured(lambda nth: place(at, nth), sift=True)


def _result(text: bytes, blobs: tuple[Blob, ...]) -> tuple[str, Reply | ProviderError]:
    """A line that is torn was an answer all the same: what is left of it is its body."""
    try:
        return _told(text, blobs)
    except (ValueError, RecursionError):
        found = NAMED.match(text)
        return (found[1].decode("utf-8", "replace") if found else ""), Reply(200, {}, text, blobs=blobs)


def _told(text: bytes, blobs: tuple[Blob, ...]) -> tuple[str, Reply | ProviderError]:
    plain = text.decode("latin-1")  # a character a byte: what is sought are places
    members = dict(_members(plain, 0))
    start, end = members.get("custom_id", (0, 0))
    said = json.loads(text[start:end] or b"null")
    id_ = said if isinstance(said, str) else ""
    start, end = members.get("response", (0, 0))
    if text[start:end] not in (b"", b"null"):
        return id_, _reply(text, plain, start, blobs)
    start, end = members.get("error", (0, 0))
    return id_, _error(json.loads(text[start:end] or b"null"))


def _reply(text: bytes, plain: str, at: int, blobs: tuple[Blob, ...]) -> Reply:
    inner = dict(_members(plain, at))
    if "body" not in inner:
        raise ValueError("it has no body")
    start, end = inner["body"]
    told = {key: json.loads(text[slice(*inner[key])]) for key in ("status_code", "request_id") if key in inner}
    status = told.get("status_code")
    if not isinstance(status, int) or isinstance(status, bool) or not 100 <= status < 600:
        raise ValueError("it has no status")
    request = kept(told.get("request_id"), CODE_MOST)
    headers = {"content-type": "application/json"} | ({"x-request-id": request} if request else {})
    held = tuple(replace(blob, at=blob.at - start) for blob in blobs if start <= blob.at < end)
    if len(held) != len(blobs):
        raise ValueError("there is an image where none belongs")
    return Reply(status, headers, text[start:end], blobs=held)


def _error(said: object) -> ProviderError:
    """What it means that there is no response."""
    found = enveloped(said) if isinstance(said, dict) else enveloped({})
    kind = NEVER_MADE.get(found.code, Unknown)
    message = kept(found.message, TEXT_MOST) or "the batch brought neither an answer nor an error for it"
    return kind(message, code=kept(found.code, CODE_MOST) or "no_response")


def _members(text: str, at: int) -> Iterator[tuple[str, tuple[int, int]]]:
    """The keys of the object that begins there, and where their values stand; ValueError where there is none."""
    at = _behind(text, at, "{")
    with suppress(IndexError):
        while text[at] == '"':
            key, at = _DECODER.raw_decode(text, at)
            start = _behind(text, at, ":")
            _, at = _DECODER.raw_decode(text, start)
            yield key, (start, at)
            at = _skip(text, at)
            if text[at] == "}":
                return
            at = _behind(text, at, ",")
    raise ValueError("it is no whole JSON object")


def _behind(text: str, at: int, sign: str) -> int:
    at = _skip(text, at)
    if text[at : at + 1] != sign:
        raise ValueError(f"no {sign} where one belongs")
    return _skip(text, at + 1)


def _skip(text: str, at: int) -> int:
    found = _BLANK.match(text, at)
    return found.end() if found else at
