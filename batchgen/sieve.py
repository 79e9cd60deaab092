"""Base64 taken out of a body as it comes, and decoded: what it spells is written once, as the image that it is.

Nothing is lost by it: only what encodes to the very same text again is taken out, anything else stays in the body.
"""

import re
from collections.abc import Callable
from typing import Generic, Protocol, TypeVar

import pybase64

MARK = re.compile(rb'"b64_json"\s{0,8}:\s{0,8}"|;base64,')
MARK_MOST = 32  # bytes
RUNS_MOST = 64  # of one body: ten images with three pictures on the way each
RUN_LEAST = 1024  # bytes: what spells fewer is no image, and a key that is echoed must not be hidden


class Vessel(Protocol):
    """Where the bytes of one run go."""

    @property
    def size(self) -> int: ...

    def take(self, data: bytes) -> None: ...

    def close(self) -> None:
        """They are all here."""

    def give(self) -> bytes:
        """All of them back; they have no place any more."""


V = TypeVar("V", bound=Vessel)


class Sieve(Generic[V]):
    """Takes the runs of base64 out of one body. `blobs` says of each where in the text it is left out."""

    def __init__(self, vessel: Callable[[], V]) -> None:
        self._vessel = vessel
        self.blobs: list[tuple[int, V]] = []
        self._size = 0  # of the text so far
        self._seen = b""  # its end, in which a mark may have begun
        self._runs = 0
        self._run: V | None = None
        self._rest = b""  # up to four characters of the run: the last ones are judged together with its end

    def feed(self, chunk: bytes) -> bytes:
        """The text in a chunk, to be put behind what was returned before."""
        text, at = [], 0
        while at < len(chunk):
            piece, at = self._outside(chunk, at) if self._run is None else self._inside(chunk, at)
            self._size += len(piece)
            text.append(piece)
        return b"".join(text)

    def end(self) -> bytes:
        """What is still to be put there when nothing more comes."""
        return self._back() if self._run else b""

    def _outside(self, chunk: bytes, at: int) -> tuple[bytes, int]:
        window = self._seen + chunk[at:]
        found = MARK.search(window) if self._runs < RUNS_MOST else None
        if found is None:
            self._seen = window[-MARK_MOST:]
            return chunk[at:], len(chunk)
        self._seen, self._run = b"", self._vessel()
        self._runs += 1
        end = found.end() - (len(window) - len(chunk))
        return chunk[at:end], end

    def _inside(self, chunk: bytes, at: int) -> tuple[bytes, int]:
        assert self._run
        quote = chunk.find(b'"', at)
        over, end = quote >= 0, quote if quote >= 0 else len(chunk)
        run = self._rest + chunk[at:end]
        ripe = len(run) if over else max(0, len(run) - 1) // 4 * 4
        try:
            data = _decoded(memoryview(run)[:ripe], over)
        except ValueError:
            return self._back(), at
        self._run.take(data)
        self._rest = run[ripe:]
        if not over:
            return b"", end
        if self._run.size < RUN_LEAST:
            return self._back(), end
        self._run.close()  # a body of many images is no reason to keep as many files open
        self.blobs.append((self._size, self._run))
        self._run = None
        return b"", end

    def _back(self) -> bytes:
        """A run that is none after all, as it came."""
        assert self._run
        text = pybase64.b64encode(self._run.give()) + self._rest
        self._run, self._rest = None, b""
        return text


def _decoded(run: memoryview, over: bool) -> bytes:
    """ValueError where the bytes would not be spelled like this; one that goes on has no padding yet."""
    data = pybase64.b64decode(run, validate=True)
    if len(data) % 3 and (not over or pybase64.b64encode(data[-(len(data) % 3) :]) != run[-4:]):
        raise ValueError("bits behind the end")
    return data
