"""Where a run's images lie: a folder on a disk, or a bucket. What is put there is whole or not there, and stays."""

import errno
import os
from collections.abc import Iterator, Set
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol
from urllib.parse import unquote, urlsplit

from batchgen import disk, objects
from batchgen.disk import Unsynced
from batchgen.errors import StorageError

MARK = "run.json"  # tells whose the place is, so that two runs of one name do not share it
OTHERS = (
    "{}: another run has it. It is taken for that of the ledger that began there: put that back if it was lost; else "
    "give this run another name: or output.store. Nothing was sent."
)
GONE = (
    "{}: {} is not there, though this run has sent requests: see that the disk is mounted, or that endpoint and "
    "credentials lead to the same bucket as before. Where only that file was removed, make it again: it holds {}, "
    "without a line end. Nothing was sent."
)
CARELESS = (
    "{}: this store puts new bytes over what is there, though it is told not to, so that an image could be lost: take "
    "one that honours `If-None-Match: *`. Nothing was sent."
)


class Store(Protocol):
    """Names are relative, with / between. Everything blocks: call it in a thread.

    `url` tells where it is, `wide` how many may put at a time. StorageError, which says what to do, where it fails.
    """

    @property
    def url(self) -> str: ...

    @property
    def wide(self) -> int: ...

    def below(self, name: str) -> "Store":
        """The same from there on."""

    def where(self, name: str) -> str:
        """The name as a path, or a URL."""

    def put(self, name: str, data: bytes, part: str, unsynced: Unsynced, twin: str = "") -> None:
        """Put it there unless it is; FileExistsError where other bytes are. It is durable once `unsynced` is synced.

        `part` tells whose it is while it is not whole, `twin` is a durable file that holds the same.
        """

    def keeps(self, name: str, data: bytes) -> bool:
        """Whether what is there would be kept, were anything else put there."""

    def read(self, name: str, most: int | None = None) -> bytes:
        """All of it, or its first `most` bytes; OSError where it is no plain file, or none (FileNotFoundError)."""

    def size(self, name: str) -> int | None: ...

    def made_at(self, name: str) -> float:
        """When it was put there, in seconds since 1970."""

    def names(self, prefix: str = "") -> Iterator[str]:
        """Everything below that folder, whatever it is."""

    def remove(self, name: str) -> None: ...

    def stands(self, name: str) -> bool:
        """Whether anything lies there; of a bucket, anything that nobody had a use for when the run began."""

    def check_room(self, least: int) -> None:
        """StorageError where so many bytes would find no place."""

    def secure(self, names: Set[str]) -> None:
        """Make durable what somebody else has put there."""


@dataclass(frozen=True, slots=True)
class Directory:
    """A folder on a disk. Links that lead out of it are not followed."""

    path: str
    wide: int = 2  # more would wait for each other and for the same disk
    shared: bool = False  # others may put something there meanwhile, from other machines

    @property
    def url(self) -> str:
        return self.path

    def below(self, name: str) -> "Directory":
        return Directory(f"{self.path}/{name}", shared=self.shared)

    def where(self, name: str) -> str:
        return f"{self.path}/{name}"

    def put(self, name: str, data: bytes, part: str, unsynced: Unsynced, twin: str = "") -> None:
        target = self.where(name)
        place = os.path.dirname(target)
        unsynced.make_folder(place, self.path)
        _never_replace(target, data)
        if not (twin and unsynced.linked(twin, target)):
            unsynced.put(target, data, f"{place}/.{part}.part", mode=0o644, move=_move if self.shared else os.rename)

    def keeps(self, name: str, data: bytes) -> bool:
        return True

    def read(self, name: str, most: int | None = None) -> bytes:
        with disk.opened(Path(self.path), name) as file:
            return file.read(-1 if most is None else most)

    def size(self, name: str) -> int | None:
        try:
            return os.lstat(self.where(name)).st_size
        except FileNotFoundError:
            return None

    def made_at(self, name: str) -> float:
        return os.stat(self.where(name)).st_mtime

    def names(self, prefix: str = "") -> Iterator[str]:
        for name in disk.files(Path(self.path, prefix)):
            yield os.path.join(prefix, name)

    def remove(self, name: str) -> None:
        Path(self.where(name)).unlink(missing_ok=True)

    def stands(self, name: str) -> bool:
        return os.path.lexists(self.where(name))

    def check_room(self, least: int) -> None:
        disk.check_room(Path(self.path), least)

    def secure(self, names: Set[str]) -> None:
        for name in names:
            disk.sync_file(Path(self.where(name)))
        for place in {os.path.dirname(self.where(name)) for name in names}:
            disk.sync_folder(place)


def _never_replace(target: str, data: bytes) -> None:
    """A crash may have left the very same bytes; other bytes are somebody's image, and stay."""
    if os.path.exists(target) and not os.path.islink(target) and Path(target).read_bytes() != data:
        raise FileExistsError(errno.EEXIST, "another image stands there, which the ledger does not know", target)


def _move(part: str, target: str) -> None:
    """Let it bear its name, unless somebody was quicker meanwhile: a rename would replace what is there."""
    try:
        os.link(part, target)
    except FileExistsError:
        if os.path.islink(target):
            raise
        _never_replace(target, Path(part).read_bytes())
    except OSError:  # a file system without links
        os.rename(part, target)
    finally:
        Path(part).unlink(missing_ok=True)


def opened(url: str, patience: float = 0.0) -> Store:
    """What lies at a path, or at a URL as output.store gives it. Nothing is asked yet.

    A bucket that is not reached is asked again for `patience` seconds.
    """
    if "://" not in url:
        return Directory(url)
    if url.startswith("file://"):
        return Directory(unquote(urlsplit(url).path), shared=True)
    return objects.opened(url, patience)


def check_marked(store: Store, owner: str) -> None:
    """StorageError where no mark is: an empty disk below what should be mounted, or another server's bucket."""
    with disk.storage("the store of the images"):
        if store.size(MARK) is None:
            raise StorageError(GONE.format(store.url, MARK, owner))


def claim(store: Store, owner: bytes) -> None:
    """Mark the place as this run's. StorageError where that cannot be, or what is put there would not be safe.

    It writes, reads, and tries to write once more: whatever a run needs of it is tried before anything is bought.
    """
    unsynced = Unsynced()
    try:
        with disk.storage("the store of the images"):
            store.put(MARK, owner, "batchgen", unsynced)
            unsynced.sync()
            kept = store.read(MARK) == owner and store.keeps(MARK, owner)
    except StorageError as error:
        if isinstance(error.__cause__, FileExistsError):
            raise StorageError(OTHERS.format(store.url)) from None
        raise
    if not kept:
        raise StorageError(CARELESS.format(store.url))
