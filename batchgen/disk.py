"""Files that are whole or not there: write beside the target, fsync, rename, fsync the folder."""

import errno
import importlib
import os
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from batchgen.errors import StorageError

OWN_FILES = 40
NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


@contextmanager
def storage(what: str) -> Iterator[None]:
    """Turn the operating system's errors about `what` into a StorageError that says what to do."""
    try:
        yield
    except OSError as error:
        many = error.errno in (errno.EMFILE, errno.ENFILE)
        mend = "raise ulimit -n or lower limits.concurrency" if many else "free the space or mend the folder"
        raise StorageError(
            f"{what}: {error.strerror or error} ({error.filename or 'no file name'}). "
            f"Nothing that was paid for is lost: {mend}, then run the same command again."
        ) from error


def check_room(folder: Path, least: int) -> None:
    """StorageError where fewer than `least` bytes are free: what would be paid for next must find a place."""
    with storage("the run folder"):
        found = os.statvfs(folder)
    if found.f_bavail * found.f_frsize < least:
        free, needed = found.f_bavail * found.f_frsize >> 20, least >> 20
        raise StorageError(
            f"only {free} MiB are free at {folder}, and what is on its way may take {needed}: nothing more is sent. "
            "Free some space, then run the same command again."
        )


def open_files(wanted: int) -> int:
    """How many of the files that are wanted may be open at once, beside our own; the limit is raised for them."""
    with suppress(ImportError, ValueError, OSError):
        resource = importlib.import_module("resource")
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        most = wanted + OWN_FILES if hard == resource.RLIM_INFINITY else min(hard, wanted + OWN_FILES)
        if soft != resource.RLIM_INFINITY and soft < most:
            resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
            soft = most
        return wanted if soft == resource.RLIM_INFINITY else max(3, min(wanted, soft - OWN_FILES))
    return wanted


_durable: set[str] = set()  # folders that this process knows to be on the disk


class Unsynced:
    """What was written whole, in folders of which the names are not on the disk yet: one fsync for many."""

    def __init__(self) -> None:
        self._folders: dict[str, None] = {}
        self._made: list[str] = []

    def make_folder(self, folder: str, root: str = "") -> None:
        """Make a folder and its parents; a `root` that is gone is not made again."""
        there, parent = os.path.isdir(folder), os.path.dirname(folder) or "."
        if folder == root or (there and folder in _durable):
            return
        if parent != root and (parent not in _durable if root else not os.path.isdir(parent)):
            self.make_folder(parent, root)
        if not there:
            Path(folder).mkdir(exist_ok=True)
        self._folders[parent] = None  # though it is there: another thread may have made it just now
        self._made.append(folder)

    def put(
        self, target: str, data: bytes, part: str, mode: int = 0o600, move: Callable[[str, str], None] = os.rename
    ) -> None:
        """Put `data` at `target`; `part` is the name beside it that it bears until it is whole and `move` is called."""
        try:
            write_synced(part, data, mode)
        except FileExistsError:  # left by a crash of the same attempt
            os.unlink(part)
            write_synced(part, data, mode)
        move(part, target)
        self.named(target)

    def linked(self, durable: str, target: str) -> bool:
        """Give a file that is durable a second name, which nothing has yet; False where that cannot be."""
        try:
            if os.stat(os.path.dirname(target)).st_mode & stat.S_ISGID:
                return False  # whoever shares the folder with a group shares what is made in it
            os.link(durable, target)
        except OSError:  # another file system, or one without links, or there is something: a copy can tell
            return False
        self.named(target)
        return True

    def named(self, path: str) -> None:
        """A file bears a new name."""
        self._folders[os.path.dirname(path) or "."] = None

    def sync(self) -> None:
        """Make it durable."""
        for folder in self._folders:
            sync_folder(folder)
        _durable.update(self._made)


def make_folder(folder: Path) -> None:
    """Make a folder and its parents, durably."""
    unsynced = Unsynced()
    unsynced.make_folder(str(folder))
    unsynced.sync()


def write_whole(target: Path, data: bytes, part: Path, mode: int = 0o600) -> None:
    """Put `data` at `target`, durably; `part` is the name beside it that it bears until it is whole."""
    unsynced = Unsynced()
    unsynced.put(str(target), data, str(part), mode)
    unsynced.sync()


def write_new(path: str | Path, data: bytes, mode: int = 0o600) -> None:
    """Make a new file with `data`, which is not on the disk yet."""
    _write(path, data, NEW, mode, sync=False)


def write_synced(path: str | Path, data: bytes, mode: int = 0o600) -> None:
    """Make a new file with `data`, fsynced; its folder is not."""
    _write(path, data, NEW, mode)


def overwrite_synced(path: str, data: bytes) -> None:
    """Put `data` in place of what a file holds, fsynced; after a crash it may be a mixture of both."""
    _write(path, data, os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC)


def append_synced(path: Path, data: bytes) -> None:
    """Add to the end of a file, and fsync all of it."""
    _write(path, data, os.O_WRONLY | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC)


def _write(path: str | Path, data: bytes, flags: int, mode: int = 0, sync: bool = True) -> None:
    handle = os.open(path, flags, mode)
    try:
        write_all(handle, data)
        if not flags & (os.O_CREAT | os.O_APPEND):
            os.ftruncate(handle, len(data))
        if sync:
            os.fsync(handle)
    finally:
        os.close(handle)


def write_all(handle: int, data: bytes) -> None:
    """Write it all, however little the system takes at a time."""
    view = memoryview(data)
    while view:
        view = view[os.write(handle, view) :]


@contextmanager
def opened(folder: Path, name: str) -> Iterator[BinaryIO]:
    """A file below a folder; OSError where it is no plain one, and where a link leads to it (ELOOP)."""
    parts = Path(name).parts
    if os.path.isabs(name) or ".." in parts:
        raise OSError(errno.EINVAL, "leads out of the folder")
    if any((folder / Path(*parts[:depth])).is_symlink() for depth in range(1, len(parts))):
        raise OSError(errno.ELOOP, os.strerror(errno.ELOOP))
    handle = os.open(folder / name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    with open(handle, "rb") as file:
        if not stat.S_ISREG(os.fstat(handle).st_mode):
            raise OSError(errno.EINVAL, "no plain file")
        yield file


def files(folder: Path) -> Iterator[str]:
    """Everything below a folder that is no folder, by its name from there; links are not followed."""

    def unreadable(error: OSError) -> None:
        raise StorageError(f"{error.filename} cannot be looked into: {error.strerror}")

    if not folder.is_dir():
        return
    for place, folders, names in os.walk(folder, onerror=unreadable):
        linked = [name for name in folders if os.path.islink(os.path.join(place, name))]
        yield from (os.path.relpath(os.path.join(place, name), folder) for name in (*names, *linked))


def sync_file(path: Path) -> None:
    _sync(path, os.O_RDONLY)


def sync_folder(folder: str | Path) -> None:
    """Make the names in a folder durable."""
    _sync(folder, os.O_RDONLY | os.O_DIRECTORY)


def _sync(path: str | Path, flags: int) -> None:
    handle = os.open(path, flags | os.O_CLOEXEC)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
