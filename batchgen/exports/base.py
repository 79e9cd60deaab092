"""What all formats share: what is exported, images read and checked ahead of who writes them, rows as JSON."""

import hashlib
import io
import json
import re
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, TypeVar

from batchgen import provenance
from batchgen.columns import Cell, Column, Type
from batchgen.dataset import Dataset, Sample
from batchgen.errors import StorageError
from batchgen.images import EXTENSIONS
from batchgen.store import Store
from batchgen.target import Target

C2PA = Column("has_c2pa", Type.FLAG, "whether the file bears a signed account of how it was made; it is not checked")
THREADS, AHEAD = 4, 2  # groups of images that are read at once, and so many times as many before they are written
MANY, TOGETHER = 64, 1 << 20  # images, and bytes, of a group
BREAKS = re.compile("[\x7f-\x9f\u2028\u2029]")
"""What some readers take for the end of a line."""
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Work:
    """One export of what lies in `images`. `tick` is called with the number of images that are done. `inputs`: also the
    files that were edited, which are named from the folder `originals` on; `link`: files get a second name instead of
    a copy."""

    images: Store
    originals: Path
    data: Dataset
    target: Target
    tick: Callable[[int], object]
    link: bool
    inputs: bool


@dataclass(frozen=True, slots=True)
class Feature:
    """A column as a loader gives it: `kind` is a type, `image`, or a struct of others; `many`: a list of them."""

    name: str
    kind: str
    inner: "tuple[Feature, ...]" = ()
    many: bool = False


@dataclass(frozen=True, slots=True)
class Config:
    """What one call of load_dataset loads: the files of each split, as patterns, and the features."""

    name: str
    files: tuple[tuple[str, str], ...]
    features: tuple[Feature, ...]


class Format(Protocol):
    """A module that writes one format."""

    def check(self) -> None:
        """UsageError where what it needs is not installed."""

    def write(self, work: Work) -> None:
        """Stage all files of the dataset itself that do not stand already."""

    def configs(self, data: Dataset, inputs: bool) -> tuple[Config, ...]:
        """How it is loaded."""


def nothing_needed() -> None:
    """The check of a format that the standard library writes."""


@dataclass(frozen=True, slots=True)
class Picture:
    """A sample with its bytes, which are those that the ledger knows."""

    sample: Sample
    data: bytes
    has_c2pa: bool


def features(data: Dataset) -> tuple[Feature, ...]:
    """The columns but for the image itself."""
    return tuple(Feature(each.name, str(each.type)) for each in (*data.columns, C2PA))


def extension(format: str) -> str:
    return EXTENSIONS[format]


def picture(store: Store, sample: Sample) -> Picture:
    """Read an image of the run; StorageError where it is not what was saved. Blocks."""
    data = read(store, sample)
    return Picture(sample, data, provenance.has_c2pa(io.BytesIO(data)))


def read(store: Store, sample: Sample) -> bytes:
    try:
        data = store.read(sample.path, sample.bytes + 1)
    except OSError as error:
        raise _harmed(store.where(sample.path), f"cannot be read: {error.strerror}") from None
    if hashlib.sha256(data).hexdigest() != sample.sha256:
        raise _harmed(store.where(sample.path), "is not what was saved: its sha256 is another")
    return data


def _harmed(path: str, what: str) -> StorageError:
    return StorageError(
        f"{path} {what}. Nothing was exported that is not whole: batchgen verify RUN tells all such files; put copies"
        " in their place, then run the same command again."
    )


def ahead(function: Callable[[Sample], T], samples: Iterable[Sample], wide: int) -> Iterator[T]:
    """function(sample) for each in its order, some worked on before they are asked for; more so in a `wide` store."""
    threads = max(THREADS, wide)
    with ThreadPoolExecutor(threads) as pool:
        waiting: deque[Future[list[T]]] = deque()
        try:
            for group in _groups(samples):
                waiting.append(pool.submit(lambda some: [function(each) for each in some], group))
                if len(waiting) == AHEAD * threads:
                    yield from waiting.popleft().result()
            while waiting:
                yield from waiting.popleft().result()
        finally:
            for each in waiting:
                each.cancel()


def _groups(samples: Iterable[Sample]) -> Iterator[list[Sample]]:
    """Small images together: to hand one over to a thread takes longer than to read it."""
    held, size = list[Sample](), 0
    for sample in samples:
        held.append(sample)
        size += sample.bytes
        if size > TOGETHER or len(held) == MANY:
            yield held
            held, size = [], 0
    yield held


def row(data: Dataset, sample: Sample, has_c2pa: bool) -> dict[str, Cell]:
    """Everything that is told of an image."""
    return {each.name: cell for each, cell in zip(data.columns, sample.cells, strict=True)} | {C2PA.name: has_c2pa}


def line(value: object) -> bytes:
    """JSON on one line, whoever cuts the lines; letters stay readable."""
    text = json.dumps(value, ensure_ascii=False, allow_nan=False)
    return BREAKS.sub(lambda found: f"\\u{ord(found[0]):04x}", text).encode() + b"\n"


class Rows:
    """A hash of what samples say: the same samples make the same files."""

    def __init__(self) -> None:
        self._hash = hashlib.sha256()

    def add(self, sample: Sample) -> None:
        self._hash.update(line(sample.cells))

    @property
    def digest(self) -> str:
        return self._hash.hexdigest()
