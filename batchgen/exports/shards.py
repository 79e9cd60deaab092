"""Files that hold many images each: cut by size, made once, and found again by what they hold."""

import hashlib
import io
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, BinaryIO

from batchgen import disk
from batchgen.dataset import Sample
from batchgen.exports.base import Picture, Rows, Work, ahead, picture
from batchgen.target import Entry

BYTES, IMAGES = 500_000_000, 10_000  # in one file
Fill = Callable[[BinaryIO, Iterator[Picture]], object]
"""Writes a file's content: `fill(file, pictures)`."""


@dataclass(frozen=True, slots=True)
class Shard:
    """The samples of one file."""

    samples: Sequence[Sample]
    rows: str


def write(work: Work, split: str, format: str, name: str, fill: Fill) -> None:
    """Make every shard of a split that does not stand already; `name` says where its number goes."""
    for number, shard in enumerate(cut(work.data.samples(split, format))):
        target = name.format(f"{number:05}")
        if not work.target.stands(target, shard.rows):
            _make(work, target, shard, fill)
        else:
            work.tick(len(shard.samples))


def cut(samples: Iterator[Sample]) -> Iterator[Shard]:
    """As many as fit, and at least one."""
    held, weight, rows = list[Sample](), 0, Rows()
    for sample in samples:
        if held and (weight + _weight(sample) > BYTES or len(held) == IMAGES):
            yield Shard(held, rows.digest)
            held, weight, rows = [], 0, Rows()
        held.append(sample)
        weight += _weight(sample)
        rows.add(sample)
    if held:
        yield Shard(held, rows.digest)


def _weight(sample: Sample) -> int:
    return sample.bytes + len(sample.prompt) * 2 + 2000


def _make(work: Work, name: str, shard: Shard, fill: Fill) -> None:
    def pictures() -> Iterator[Picture]:
        for each in ahead(lambda sample: picture(work.images, sample), shard.samples, work.images.wide):
            yield each
            work.tick(1)

    with made(work, name) as file:
        fill(file.buffer, pictures())
    work.target.note(name, Entry(file.size, file.sha256, len(shard.samples), shard.rows))


class Made(io.RawIOBase):
    """A new file that counts and hashes what is written to it, through its buffer."""

    def __init__(self, handle: int) -> None:
        self._handle = handle
        self._hash = hashlib.sha256()
        self.size = 0
        self.buffer = io.BufferedWriter(self, 1 << 20)

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:  # what a buffer hands over
        disk.write_all(self._handle, data)
        self._hash.update(data)
        self.size += len(data)
        return len(data)

    def tell(self) -> int:
        return self.size

    @property
    def sha256(self) -> str:
        return self._hash.hexdigest()


@contextmanager
def made(work: Work, name: str) -> Iterator[Made]:
    """A staged file, on the disk in the end."""
    handle = os.open(work.target.stage(name), disk.NEW, 0o644)
    try:
        yield (file := Made(handle))
        file.buffer.flush()
        os.fsync(handle)
    finally:
        os.close(handle)
