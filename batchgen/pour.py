"""A reply's body on its way in: what is small stays in memory, what is large goes to files as it comes."""

import hashlib
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

from batchgen import disk
from batchgen.sieve import Sieve
from batchgen.wire import Blob

Sink = Callable[[int], Path]
"""Where a reply's body (0) and what is decoded of it (from 1) go, made when they are first needed."""

SPILL = os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
IN_MEMORY = 256 * 1024  # bytes of a body that are not worth a file of their own on the event loop
BLANK = (b"\n\n", b"\n\r\n")
FINISHED = re.compile(rb'^data:.*"type": ?"image_\w+\.completed".*\r?\n\r?\n', re.MULTILINE)
"""An event with a whole image in it, to its end."""


class Events:
    """A stream of events as it comes, of which each is looked at once: is it the last that is needed?"""

    def __init__(self) -> None:
        self._fresh = bytearray()
        self._seen = 0  # of it, without a blank line

    def end(self, chunk: bytes) -> bool:
        """Whether the event with the whole image ends in this chunk."""
        fresh = self._fresh
        fresh += chunk
        ends = [at + len(blank) for blank in BLANK if (at := fresh.rfind(blank, self._seen)) >= 0]
        found = bool(ends) and FINISHED.search(fresh, 0, max(ends)) is not None
        del fresh[: max(ends, default=0)]
        self._seen = max(0, len(fresh) - 3)
        return found


class Pail:
    """Bytes on their way in: up to `room` of them stay in memory, more go to a file, with all that comes after."""

    def __init__(self, place: Callable[[], Path], mode: int, room: int) -> None:
        self._place = place
        self._mode = mode
        self._room = room
        self._chunks: list[bytes] = []
        self._file: BinaryIO | None = None
        self._hash = hashlib.sha256()
        self.path: Path | None = None
        self.size = 0

    @property
    def sha256(self) -> str:
        """Of what had no room in memory at all: a body is not hashed on the event loop for nothing."""
        return self._hash.hexdigest()

    def take(self, chunk: bytes) -> None:
        self.size += len(chunk)
        self._chunks.append(chunk)
        if self.size > self._room:
            self._spill()

    def _spill(self) -> None:
        with disk.storage("the spool"):
            if self._file is None:
                self.path = self._place()
                self._file = open(os.open(self.path, SPILL, self._mode), "wb", buffering=0)  # noqa: SIM115 - see close
            for chunk in self._chunks:
                disk.write_all(self._file.fileno(), chunk)
                if not self._room:  # what goes to a file from its first byte on
                    self._hash.update(chunk)
        self._chunks.clear()

    def close(self) -> None:
        """Nothing more comes."""
        if self._file:
            with disk.storage("the spool"), self._file as file:
                file.truncate(self.size)  # it may have been written over another
            self._file = None

    def read(self) -> bytes:
        """All of it, once it is closed."""
        with disk.storage("the spool"):
            return self.path.read_bytes() if self.path else b"".join(self._chunks)

    def give(self) -> bytes:
        """All of it; nothing is in here afterwards."""
        self.close()
        data = self.read()
        self.drop()
        return data

    def drop(self) -> None:
        self.close()
        self._chunks.clear()
        self.size = 0
        if self.path:
            self.path.unlink(missing_ok=True)
            self.path = None


class Poured:
    """A body as it comes. With `sift` the images in a large one are decoded at once; `events`: it is a stream of them.

    Small ones are written by whoever makes them durable: the event loop should not.
    """

    def __init__(self, sink: Sink, *, sift: bool = False, events: bool = False) -> None:
        self._sink = sink
        self._text = Pail(lambda: sink(0), 0o600, IN_MEMORY)
        self._blobs: list[Pail] = []
        self._sift = sift
        self._sieve: Sieve[Pail] | None = None
        self._events = Events() if events else None
        self.size = 0  # as it stands on the wire
        self.finished = False  # all that was asked for is here, whatever else may come

    def take(self, chunk: bytes) -> None:
        self.size += len(chunk)
        if self._sift and not self._sieve and self.size > IN_MEMORY:
            self._sieve, chunk = Sieve(self._blob), self._text.give() + chunk
            self._events = Events() if self._events else None
        text = self._sieve.feed(chunk) if self._sieve else chunk
        self._text.take(text)
        self.finished = self._events is not None and self._events.end(text)

    def _blob(self) -> Pail:
        nth = len(self._blobs) + 1
        self._blobs.append(Pail(lambda: self._sink(nth), 0o644, 0))  # it becomes the image itself
        return self._blobs[-1]

    def close(self) -> None:
        """Nothing more comes."""
        if self._sieve:
            self._text.take(self._sieve.end())
        for pail in (self._text, *self._blobs):
            pail.close()

    def drop(self) -> None:
        """What did not come whole is no reply."""
        for pail in (self._text, *self._blobs):
            pail.drop()

    @property
    def body(self) -> bytes | Path:
        """Without what was decoded, once it is closed."""
        return self._text.path or self._text.read()

    @property
    def length(self) -> int:
        """Of that."""
        return self._text.size

    @property
    def blobs(self) -> tuple[Blob, ...]:
        found = self._sieve.blobs if self._sieve else ()
        return tuple(Blob(at, pail.size, pail.sha256, f"{pail.path}") for at, pail in found)
